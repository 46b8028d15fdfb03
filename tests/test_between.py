"""Partners from another batch, and rows that take no part."""

from collections import UserDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vicinal as v
from vicinities import CLASSES, content, flat_plans, ids, images, noise

N, M = 6, 9
FIRST, SECOND = torch.arange(N).double(), 100 + torch.arange(M).double()
Y, Z = torch.arange(N) % CLASSES, (torch.arange(M) + 1) % CLASSES


def whose(mixed, weight):
    """Return which row of the second batch each row was mixed with."""
    return ((mixed - weight * FIRST) / (1 - weight)).round().long() - 100


@pytest.mark.parametrize("per", ["batch", "example"])
@pytest.mark.parametrize("m", [1, 3, 6, 9])
def test_each_row_keeps_its_share_and_takes_the_rest_of_another_batch(per, m):
    mixup = v.Mixup(v.Beta(4.0, per=per), seed=1)
    for step in range(10):
        x, y = mixup.between((FIRST, Y), (SECOND[:m], Z[:m]))
        weight = y.weight[0].double()
        partner = whose(x, weight)
        assert ((partner >= 0) & (partner < m)).all()
        torch.testing.assert_close(x, weight * FIRST + (1 - weight) * SECOND[partner], rtol=1e-6, atol=1e-5)
        assert torch.equal(y.ids, torch.stack([Y, Z[partner]]))
        assert len(partner.unique()) == min(N, m)  # nobody twice while somebody is left
        assert mixup.state_dict()["steps"] == [step + 1]
        again = mixup.between((FIRST, Y), (SECOND[:m], Z[:m]), step=step)
        assert content(again) == content((x, y))


def test_all_pairs_of_two_batches_are_equally_likely():
    mixup, count = v.Mixup(4.0, seed=3), np.zeros((N, M))
    for step in range(1200):
        x, y = mixup.between((FIRST, Y), (SECOND, Z), step=step)
        count[np.arange(N), whose(x, y.weight[0].double()).numpy()] += 1
    expected = 1200 / M
    chi = ((count - expected) ** 2 / expected).sum(1)
    assert chi.max() < 30  # of 8 degrees of freedom: p = 0.0002, for 6 rows


def test_draws_between_are_of_the_state_of_the_vicinity():
    mixup = v.Mixup(1.0)
    mixup.between((FIRST, Y), (SECOND, Z))
    mixup(FIRST, Y)
    assert mixup.state_dict()["steps"] == [2]
    mixup.off()
    x, y = mixup.between((FIRST, Y), (SECOND, Z))
    assert torch.equal(x, FIRST)
    assert content(y) == content(v.ERM().plan(N, step=0).target(Y))


@pytest.mark.parametrize(
    ("pairing", "fits"),
    [
        (v.SameClass(), lambda i, j: Y[i] == Z[j]),
        (v.OtherClass(), lambda i, j: Y[i] != Z[j]),
        (v.Nearest(k=1), lambda i, j: j == 0),
        (v.Nearest(k=1, same_class=True), lambda i, j: j == next(j for j in range(M) if Z[j] == Y[i])),
        (v.Roll(), lambda i, j: True),
        (v.RandomPairs(self_pairs=False), lambda i, j: True),
    ],
    ids=["same", "other", "nearest", "nearest of the class", "roll", "random"],
)
def test_pairings_choose_in_the_other_batch(pairing, fits):
    mixup, seen = v.Mixup(4.0, pairing, seed=1), set()
    for step in range(30):
        x, y = mixup.between((FIRST, Y), (SECOND, Z), step=step)
        partner = whose(x, y.weight[0].double()).tolist()
        assert all(fits(i, j) for i, j in enumerate(partner))
        seen.add(tuple(partner))
    assert (len(seen) > 1) == (not isinstance(pairing, v.Nearest))


def test_who_has_nobody_in_the_other_batch_stays_as_it_is():
    mixup = v.Mixup(4.0, v.SameClass(), seed=1)
    only_2 = torch.full((M,), 2)
    x, y = mixup.between((FIRST, Y), (SECOND, only_2))
    assert torch.equal(x[Y != 2], FIRST[Y != 2])
    assert (x[Y == 2] != FIRST[Y == 2]).all()
    assert torch.equal(y.ids[1][Y != 2], Y[Y != 2])


def test_label_distance_between_batches_follows_its_law():
    y, z = torch.zeros(1), torch.tensor([0.1, 1.0, 2.0])
    pairing = v.LabelDistance(bandwidth=1.0)
    mixup = v.Mixup(4.0, pairing, seed=1)
    drawn = []
    for step in range(3000):
        plan_x, _ = mixup.between((torch.zeros(1), y), (torch.tensor([1.0, 10.0, 100.0]), z), step=step)
        drawn.append(int(np.log10(float(plan_x) / 0.5) + 0.5))
    p = np.exp(-0.5 * z.double().numpy() ** 2)
    share = np.bincount(np.clip(drawn, 0, 2), minlength=3) / len(drawn)
    assert np.abs(share - p / p.sum()).max() < 4 * 0.5 / 3000**0.5


def test_labeled_with_unlabeled_joins_indices_and_soft_labels():
    guessed = noise(M, CLASSES, seed=2).softmax(1)
    x, soft = v.Mixup(v.Beta(0.75, folded=True), seed=2).between((FIRST, Y), (SECOND, guessed))
    plan = v.Mixup(v.Beta(0.75, folded=True), seed=2).plan(N + M, step=0)
    weight = plan.weight[0].double()
    assert weight >= 0.5
    partner = whose(x, weight)
    expected = weight * F.one_hot(Y, CLASSES).double() + (1 - weight) * guessed[partner]
    torch.testing.assert_close(soft, expected, rtol=0, atol=1e-6)
    _, other = v.Mixup(1.0, seed=2).between((SECOND, guessed), (FIRST, Y))
    torch.testing.assert_close(other.sum(1), torch.ones(M).double())


def test_batches_of_any_container():
    class Batch(UserDict):
        pass

    def batch(n, offset):
        return Batch(pixels=images(n) + offset, ages=[noise(n)]), {"class": torch.arange(n) % CLASSES, "none": None}

    x, y = v.Mixup(4.0, seed=1).between(batch(N, 0), batch(M, 100))
    plain, _ = v.Mixup(4.0, seed=1).between((images(N), None), (images(M) + 100, None))
    assert isinstance(x, Batch)
    assert torch.equal(x["pixels"], plain)
    assert x["ages"][0].shape == (N,)
    assert (len(y["class"]), y["none"]) == (N, None)
    with pytest.raises(TypeError, match=r"stack a list of examples, torch.stack\(x\)"):
        v.Mixup(1.0).between((list(images(N)), Y), (list(images(M)), Z))


def test_nests_boxes_and_compositions():
    first = {"image": images(N), "age": noise(N)}
    second = {"image": images(M) + 100, "age": noise(M, seed=3) + 100}
    for vicinity in (
        v.CutMix(1.0, seed=4),
        v.Choice([v.CutMix(1.0), v.Mixup(1.0)], seed=4),
        v.Scheduled(v.Mixup(1.0), seed=4),
        v.Chain([v.Mixup(4.0), v.LabelSmoothing(0.1)], seed=4),
    ):
        x, y = vicinity.between((first, Y), (second, Z), epoch=0)
        assert x["image"].shape == first["image"].shape
        assert x["age"].shape == (N,)
        assert len(y) == N
        assert (x["image"] > 10).any()
    assert v.ERM().between((first, None), (second, None))[0]["age"].tolist() == first["age"].tolist()


@pytest.mark.parametrize(
    "vicinity",
    [
        v.Scheduled(v.Mixup(4.0), values={"pairing": {0: v.RandomPairs(), 5: v.OtherClass()}}, seed=1),
        v.Scheduled(v.Mixup(4.0), values={"pairing": lambda epoch: v.OtherClass()}, seed=1),
        v.Scheduled(v.Choice([v.ERM()]), values={"parts": {0: [v.Mixup(4.0), v.InputMixup(4.0)]}}, seed=1),
        v.Scheduled(v.Mixup(4.0), values={"alpha": lambda epoch: v.Beta(4.0, folded=True)}, seed=1),
        v.Choice([v.Chain([v.Mixup(4.0)]), v.Scheduled(v.Mixup(4.0, v.SameClass()))], seed=1),
    ],
    ids=["mapping", "function", "parts", "other value", "nested"],
)
def test_however_deep_a_pairing_lies_it_chooses_in_the_other_batch(vicinity):
    for epoch in (0, 7):
        for step in range(6):
            x, _ = vicinity.between((torch.zeros(N, 2), Y), (torch.ones(M, 2), Z), step=step, epoch=epoch)
            assert (x > 0).all()


@pytest.mark.parametrize(
    ("batch", "others", "error", "sentence"),
    [
        (FIRST, SECOND, TypeError, r"between mixes two batches \(x, y\), got a Tensor"),
        ((FIRST, Y), (noise(M, 2), Z), ValueError, r"agree but for the number of rows, got \[6\] and \[9, 2\]"),
        ((FIRST, Y), (SECOND.float(), Z), ValueError, "dtypes torch.float64 and torch.float32: convert one"),
        ((FIRST, Y), (SECOND, None), ValueError, "one batch has targets and the other None"),
        ((FIRST, Y), ({"a": SECOND}, Z), ValueError, "must have one structure"),
        ((FIRST, Y), (SECOND, noise(M)), ValueError, r"class indices \[n\] join soft labels \[m, num_classes\]"),
        ((FIRST, v.ERM().plan(N, step=0).target(Y)), (SECOND, Z), TypeError, "mixed already"),
    ],
)
def test_what_does_not_fit_is_refused(batch, others, error, sentence):
    with pytest.raises(error, match=sentence):
        v.Mixup(1.0).between(batch, others)


def test_an_own_pairing_says_that_it_stays_in_its_batch():
    class Own(v.Pairing):
        def draw(self, generator, n, y, x):
            return np.arange(n)

    with pytest.raises(TypeError, match="Own draws partners within one batch"):
        v.Mixup(1.0, Own()).between((FIRST, Y), (SECOND, Z))


# -- rows that take part -----------------------------------------------------------------------------------------------

ROWS = torch.tensor([True, False, True, True, False, True, True])
VICINITIES = [
    v.Mixup(1.0, seed=0),
    v.Mixup(v.Dirichlet(1.0, k=3, per="example"), seed=0),
    v.Mixup(1.0, v.OtherClass(), seed=0),
    v.Mixup(1.0, v.Nearest(k=2), seed=0),
    v.InputMixup(1.0, seed=0),
    v.CutMix(1.0, per="example", seed=0),
    v.Choice([v.CutMix(1.0), v.Mixup(1.0)], seed=0),
    v.Chain([v.Mixup(0.4), v.CutMix(1.0)], seed=0),
]


@pytest.mark.parametrize("vicinity", VICINITIES, ids=str)
@pytest.mark.parametrize("rows", [ROWS, ROWS.nonzero().squeeze(1)], ids=["mask", "numbers"])
def test_rows_that_take_no_part_stay_and_are_nobodys_partner(vicinity, rows):
    x, y = images(7), ids(7)
    for step in range(5):
        got, target = vicinity(x, y, step=step, rows=rows)
        assert torch.equal(got[~ROWS], x[~ROWS])
        alone = vicinity.plan(5, y[ROWS], x[ROWS], step=step)
        torch.testing.assert_close(got[ROWS], alone(x[ROWS]), rtol=0, atol=1e-6)
        dense = target.dense(CLASSES)
        assert torch.equal(dense[~ROWS], F.one_hot(y[~ROWS], CLASSES).float())
        torch.testing.assert_close(dense[ROWS], alone.target(y[ROWS]).dense(CLASSES))
        for plan in flat_plans(vicinity.plan(7, y, x, step=step, rows=rows)):
            assert ROWS[plan.partners[ROWS]].all()


def test_rows_that_make_no_sense_are_refused():
    for rows in (torch.ones(5, dtype=torch.bool), torch.tensor([0, 9]), torch.tensor([1, 1]), torch.ones(7), [0, 1]):
        with pytest.raises(ValueError, match="rows"):
            v.Mixup(1.0)(images(7), ids(7), rows=rows)
    with pytest.raises(ValueError, match="noise and label smoothing take no rows="):
        v.GaussianNoise(0.1)(images(7), ids(7), rows=ROWS)
