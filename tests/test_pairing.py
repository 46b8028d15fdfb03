"""Who is mixed with whom: every pairing against its brute-force definition."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

import vicinal as v
from vicinities import noise

Y = torch.tensor([0, 1, 0, 2, 1, 0, 1])  # class 2 has one row
X = noise(7, 4, seed=6)
T = noise(7, seed=7)
PAIRINGS = [
    v.RandomPairs(),
    v.RandomPairs(self_pairs=False),
    v.SameClass(),
    v.OtherClass(),
    v.Roll(),
    v.Nearest(k=2),
    v.Nearest(k=2, same_class=True),
    v.LabelDistance(0.5),
]


def draw(pairing, n=7, y=Y, x=X, step=0):
    y = T[:n] if isinstance(pairing, v.LabelDistance) and y is Y else y
    return pairing.draw(v.Key(8, 0, 0, step).generator(), n, y, x)


def draws(pairing, steps, **given):
    return np.array([draw(pairing, step=step, **given) for step in range(steps)])


def uniform(counts, cells):
    """Return whether counts of `cells` equally likely outcomes pass a chi-square test; outcomes never seen count as 0."""
    counts = list(counts) + [0] * (cells - len(counts))
    assert len(counts) == cells
    return cells == 1 or stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("pairing", PAIRINGS, ids=repr)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_partners_are_rows_of_the_batch(pairing, n):
    for step in range(20):
        partner = draw(pairing, n, Y[:n] if not isinstance(pairing, v.LabelDistance) else T[:n], X[:n], step)
        assert partner.dtype == np.int64
        assert partner.shape == (n,)
        assert ((partner >= 0) & (partner < n)).all()


@pytest.mark.parametrize(
    "pairing", [v.RandomPairs(), v.RandomPairs(self_pairs=False), v.SameClass(), v.Roll()], ids=repr
)
def test_permutations_use_every_row_once(pairing):
    for partner in draws(pairing, 50):
        assert sorted(partner) == list(range(7))


def test_random_pairs_are_a_uniform_permutation():
    seen = Counter(map(tuple, draws(v.RandomPairs(), 6000, n=4)))
    assert uniform(seen.values(), 24)


@pytest.mark.parametrize("n", [2, 4, 32, 257])
def test_random_pairs_leave_one_row_alone_on_average(n):
    steps = 3000
    alone = (draws(v.RandomPairs(), steps, n=n) == np.arange(n)).sum(1)
    assert alone.mean() == pytest.approx(1.0, abs=4 / np.sqrt(steps))  # mean 1 and variance 1 at every n


@pytest.mark.parametrize("n", [2, 3, 4, 5, 16, 63])
def test_no_self_pairs_means_none(n):
    assert not (draws(v.RandomPairs(self_pairs=False), 300, n=n) == np.arange(n)).any()


def test_no_self_pairs_draws_every_circle_equally_often():
    seen = Counter(map(tuple, draws(v.RandomPairs(self_pairs=False), 3000, n=4)))
    assert uniform(seen.values(), 6)  # (4 - 1)! circles


def test_same_class_is_a_uniform_permutation_of_each_class():
    y = torch.tensor([0, 1, 0, 1, 1])
    seen = Counter(map(tuple, draws(v.SameClass(), 3000, n=5, y=y)))
    allowed = {
        p for p in itertools.permutations(range(5)) if all(y[i] == y[j] for i, j in enumerate(p))
    }  # 2! * 3! of the 120
    assert set(seen) <= allowed
    assert uniform(seen.values(), len(allowed))


def test_other_class_is_uniform_over_the_rows_of_other_classes():
    seen = draws(v.OtherClass(), 3000)
    for i in range(7):
        others = [j for j in range(7) if Y[j] != Y[i]]
        counts = Counter(seen[:, i].tolist())
        assert set(counts) <= set(others)
        assert uniform(counts.values(), len(others))


def test_other_class_leaves_a_batch_of_one_class_as_it_is():
    assert draw(v.OtherClass(), 5, torch.full((5,), 3)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_class_ids_of_any_integer_type(dtype):
    y = torch.tensor([100, 3, 100, 3], dtype=dtype)
    same, other = draw(v.SameClass(), 4, y), draw(v.OtherClass(), 4, y)
    assert (y[same] == y).all()
    assert (y[other] != y).all()


def _near(x, k, y=None):
    """Give, for each row, the set of its k nearest other rows (of its class)."""
    sets = []
    for i in range(len(x)):
        order = sorted((float((x[i] - x[j]).square().sum()), j) for j in range(len(x)) if j != i)
        sets.append({j for _, j in [(d, j) for d, j in order if y is None or y[j] == y[i]][:k]})
    return sets


@pytest.mark.parametrize("k", [1, 3, 200])
@pytest.mark.parametrize("same_class", [False, True])
def test_nearest_is_uniform_over_the_k_nearest(k, same_class):
    seen = draws(v.Nearest(k, same_class), 1500)
    for i, near in enumerate(_near(X, k, Y if same_class else None)):
        counts = Counter(seen[:, i].tolist())
        if not near:  # alone in its class
            assert set(counts) == {i}
        else:
            assert set(counts) == near
            assert uniform(counts.values(), len(near))


def test_nearest_sees_small_distances_far_from_the_origin():
    # a time stamp among the features: at 1.7e9 a square keeps no digit of a second
    x = torch.tensor([1.7e9 + 10.0 * i for i in range(40)], dtype=torch.float64)[:, None]
    x = torch.cat([x, noise(40, 2) * 0.1], dim=1)
    for partner in draws(v.Nearest(k=2), 20, n=40, x=x):
        assert np.abs(partner - np.arange(40)).max() <= 2  # two neighbors; at the ends, the next but one
        assert (partner != np.arange(40)).all()


def test_nearest_flattens_and_takes_any_float():
    images = noise(6, 3, 4, 4)
    for dtype in (torch.float16, torch.float32):
        x = images.to(dtype).requires_grad_()
        assert draw(v.Nearest(k=1), 6, x=x).tolist() == [min(s) for s in _near(images.to(dtype).double().flatten(1), 1)]


@pytest.mark.parametrize("missing", [torch.nan, torch.inf])
def test_nearest_keeps_away_from_rows_without_a_distance(missing):
    x = X.clone()
    x[2, 1] = missing
    seen = draws(v.Nearest(k=6), 200, x=x)
    assert (seen[:, 2] == 2).all()
    others = np.delete(seen, 2, axis=1)
    assert not (others == 2).any()
    assert not (others == np.delete(np.arange(7), 2)).any()


@pytest.mark.parametrize("bandwidth", [0.1, 0.7, 3.0])
def test_label_distance_follows_its_density(bandwidth):
    steps = 4000
    seen = draws(v.LabelDistance(bandwidth), steps)
    for i in range(7):
        density = np.array([np.exp(-((T[i] - T[j]).item() ** 2) / (2 * bandwidth**2)) * (i != j) for j in range(7)])
        p = density / density.sum()
        counts = np.bincount(seen[:, i], minlength=7)
        assert counts[i] == 0
        assert (np.abs(counts / steps - p) <= 4.5 * np.sqrt(p * (1 - p) / steps) + 1e-9 + (p < 1e-6)).all()


def test_label_distance_takes_vectors():
    y = noise(7, 2, seed=9)
    seen = draws(v.LabelDistance(0.3), 2000, y=y)
    i = 3
    p = np.array([np.exp(-(y[i] - y[j]).square().sum().item() / (2 * 0.09)) * (i != j) for j in range(7)])
    p = p / p.sum()
    assert np.abs(np.bincount(seen[:, i], minlength=7) / 2000 - p).max() < 0.05


def test_label_distance_at_its_limits():
    far = draws(v.LabelDistance(float("inf")), 3000)
    for i in range(7):
        assert uniform(Counter(far[:, i].tolist()).values(), 6)
    nearest = [min((abs(T[i] - T[j]).item(), j) for j in range(7) if j != i)[1] for i in range(7)]
    assert (draws(v.LabelDistance(1e-3), 50) == nearest).all()


def test_label_distance_far_from_the_origin():
    years = torch.arange(40, dtype=torch.float64) + 1e9
    for partner in draws(v.LabelDistance(0.2), 20, n=40, y=years):
        assert (np.abs(partner - np.arange(40)) == 1).all()


def test_label_distance_pairs_nobody_with_a_missing_label():
    y = T.clone()
    y[4] = torch.nan
    seen = draws(v.LabelDistance(), 200, y=y)
    assert (seen[:, 4] == 4).all()
    assert not (np.delete(seen, 4, axis=1) == 4).any()
    # a bandwidth towards 0: the nearest label, however small its probability is as a number
    assert draw(v.LabelDistance(1e-300), 3, y=torch.tensor([0.0, 1.0, 5.0])).tolist() == [1, 0, 1]


# -- refusals ----------------------------------------------------------------------------------------------------------

REFUSED = [
    (v.SameClass(), None, X, r"SameClass looks at the labels: give class indices y \[n\] to plan\(n, y\)"),
    (v.OtherClass(), None, X, r"OtherClass looks at the labels"),
    (
        v.SameClass(),
        Y.float(),
        X,
        r"SameClass needs integer class indices of shape \[7\], got torch.float32 of shape \[7\]",
    ),
    (v.SameClass(), Y.bool(), X, r"needs integer class indices .* got torch.bool"),
    (
        v.OtherClass(),
        Y[:, None],
        X,
        r"OtherClass needs integer class indices of shape \[7\], got torch.int64 of shape \[7, 1\]",
    ),
    (v.OtherClass(), Y[:5], X, r"of shape \[7\], got torch.int64 of shape \[5\]"),
    (v.Nearest(), Y, None, r"Nearest looks at the inputs: give them to plan\(n, y, x\)"),
    (v.Nearest(), Y, X.long(), r"needs floating-point inputs \[7, ...\], got torch.int64"),
    (v.Nearest(), Y, noise(14, 4), r"floating-point inputs \[7, ...\], got torch.float64 \[14, 4\]"),
    (v.Nearest(), Y, noise(1)[0], r"floating-point inputs \[7, ...\], got torch.float64 \[\]"),
    (v.Nearest(same_class=True), None, X, r"Nearest\(same_class=True\) looks at the labels"),
    (v.LabelDistance(), None, X, r"LabelDistance needs floating-point regression targets y \[7, ...\], got nothing"),
    (v.LabelDistance(), Y, X, r"LabelDistance needs floating-point .* got torch.int64"),
    (v.LabelDistance(), noise(14), X, r"targets y \[7, ...\], got torch.float64 \[14\]"),
]


@pytest.mark.parametrize(("pairing", "y", "x", "sentence"), REFUSED)
def test_what_a_pairing_cannot_use_is_refused(pairing, y, x, sentence):
    with pytest.raises(ValueError, match=sentence):
        v.Mixup(1.0, pairing).plan(7, y, x, step=0)


@pytest.mark.parametrize("k", [0, -1, 2.5, "a", None, True])
def test_k_of_nearest(k):
    with pytest.raises(ValueError, match="k counts the neighbors to draw from and must be an integer >= 1, got"):
        v.Nearest(k)


def test_bandwidth():
    for bandwidth in (0, 0.0, -1.0, float("nan")):
        with pytest.raises(
            ValueError, match=f"bandwidth is a distance between labels and must be > 0, got {bandwidth}"
        ):
            v.LabelDistance(bandwidth)
    for bandwidth in ("a", None, True):
        with pytest.raises(TypeError, match="bandwidth must be a number, got"):
            v.LabelDistance(bandwidth)


@pytest.mark.parametrize("make", [v.Mixup, v.InputMixup, v.CutMix])
@pytest.mark.parametrize("pairing", ["same", None, v.SameClass])
def test_what_is_no_pairing_is_refused(make, pairing):
    with pytest.raises(TypeError, match=r"pairing must be a pairing such as RandomPairs\(\) or SameClass\(\), got"):
        make(1.0, pairing=pairing)


def test_a_roll_is_one_of_its_distances_uniformly():
    seen = draws(v.Roll(), 3000)
    distance = (seen - np.arange(7)) % 7
    assert (distance == distance[:, :1]).all()
    assert 0 not in distance
    assert uniform(Counter(distance[:, 0].tolist()).values(), 6)
