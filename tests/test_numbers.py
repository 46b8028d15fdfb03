"""Numbers at the edges: alpha from 1e-300 to 1e300, the largest and smallest of each dtype, inf and nan, odd labels."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import vicinal as v
from vicinal import _mixing, formula

INF, NAN = math.inf, math.nan
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


# -- inputs ------------------------------------------------------------------------------------------------------------


def in_double_precision(x: Tensor, partner: Tensor, shares: Tensor) -> Tensor:
    """Return the mix, row by row."""
    rows = x.double()
    parts = [
        [(float(s), rows[j]) for s, j in zip(shares[i], [i, *of], strict=True)] for i, of in enumerate(partner.tolist())
    ]
    return torch.stack([sum(s * row for s, row in of) for of in parts])


def small(x, partner, own):
    return _mixing.mix_pairs(x, partner, own)


def by_plan(x, partner, own):
    return v.MixPlan(partner, own)(x)


def buffered(x, partner, own):
    return _mixing.mix_pairs(x, partner, own, torch.empty_like(x))


def in_place(x, partner, own):
    x = x.clone()
    return _mixing.mix_pairs(x, partner, own, x)


def strided(x, partner, own):
    wide = torch.stack([x, x], -1).flatten(1)[:, ::2]
    return _mixing.mix_pairs(wide, partner, own)


def with_gradient(x, partner, own):
    return _mixing.mix_pairs(x.clone().requires_grad_(), partner, own).detach()


def of_three(x, partner, own):
    others = torch.stack([partner, partner], 1)
    return _mixing.mix(x, others, torch.stack([own, (1 - own) / 2, (1 - own) / 2], 1))


def defined(x, partner, own):
    return formula.mix(x, partner[:, None], torch.stack([own, 1 - own], 1))


def fused(x, partner, own):
    return _mixing._fusible(x, partner[:, None], torch.stack([own, 1 - own], 1))  # what `compiled` compiles


PATHS = [small, by_plan, buffered, in_place, strided, with_gradient, of_three, defined, fused]


def edges(dtype):
    """Return pairs of numbers that rows hold, by name: up to half of the largest, so that no difference overflows."""
    half, least = torch.finfo(dtype).max / 2, torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    return {
        "opposite": (half, -half), "alike": (half, half), "beside": (-half, half / 2), "subnormal": (least, 3 * least),
        "zero and half": (0.0, half), "one and half": (1.0, half),
    }  # fmt: skip


@pytest.mark.parametrize("rows", ["small", "large", "row by row"])
@pytest.mark.parametrize("pairing", [[1, 0, 3, 2], [1, 2, 3, 0], [0, 0, 0, 1]], ids=["pairs", "roll", "any"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_mix_of_numbers_up_to_half_of_the_largest_is_finite_and_right(rows, pairing, dtype, monkeypatch):
    if rows == "row by row":
        monkeypatch.setattr(_mixing, "_LARGE_ROW", 0)
        monkeypatch.setattr(_mixing, "_LARGE_BATCH", 0)
    if rows == "large":
        monkeypatch.setattr(_mixing, "_SMALL", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    partner = torch.tensor(pairing)
    for name, (a, b) in edges(dtype).items():
        x = torch.tensor([[a], [b], [a], [1.0]], dtype=dtype).expand(4, 6).clone()
        x[:, 3] = torch.tensor([0.5, -2.0, 4.0, 1.0])
        for own in (0.0, 1.0, 0.5, 0.25, 1 - 2**-24, None):
            weight = torch.tensor([0.0, 1.0, 0.5, 0.75]) if own is None else torch.full((4,), own)
            exact = in_double_precision(x, partner[:, None], torch.stack([weight.double(), 1 - weight.double()], 1))
            for path in PATHS:
                got = path(x, partner, weight)
                where = f"{path.__name__}, {name}, {own}"
                assert got.dtype == dtype
                assert got.isfinite().all(), where
                near = torch.finfo(dtype).eps * x.double().abs().amax(0).expand(4, 6)
                off = (got.double() - exact).abs()
                # one step of the smallest number there is, of numbers that small
                assert bool((off <= near + torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps).all()), where


def test_half_precision_is_mixed_up_to_its_largest_number():
    x = torch.tensor([[65504.0], [-65504.0]], dtype=torch.float16)
    for path in PATHS:
        got = path(x, torch.tensor([1, 0]), torch.tensor([0.75, 0.75]))
        assert got.tolist() == [[32752.0], [-32752.0]], path


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_numbers(dtype):
    half = torch.finfo(dtype).max / 2
    x = torch.tensor([[complex(half, -half)], [complex(-half, 1)]], dtype=dtype)
    for path in (small, buffered, in_place, defined):
        got = path(x, torch.tensor([1, 0]), torch.tensor([0.5, 0.5]))
        assert torch.view_as_real(got).isfinite().all(), path
        assert got[0, 0].real == 0


def test_a_damaged_row_reaches_those_that_are_mixed_with_it_and_no_others():
    x = torch.ones(6, 3)
    x[2] = NAN
    plan = v.MixPlan(torch.tensor([1, 2, 3, 4, 5, 0]), torch.full((6,), 0.5))
    assert plan(x).isnan().any(1).tolist() == [False, True, True, False, False, False]


def test_in_place_of_large_numbers_is_in_place():
    half = torch.finfo(torch.float32).max / 2
    x = torch.tensor([[half], [-half]])
    plan = v.MixPlan(torch.tensor([1, 0]), torch.tensor([0.5, 0.5]))
    assert plan(x, out=x) is x
    assert x.tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_noise_beyond_the_dtype_is_refused(dtype):
    x = torch.zeros(3, 4, dtype=dtype)
    assert torch.equal(v.GaussianNoise(0.0, seed=0)(x, None)[0], x)
    assert v.GaussianNoise(1e-300, seed=0)(x, None)[0].isfinite().all()
    if dtype == torch.float64:
        assert v.GaussianNoise(1e300, seed=0)(x, None)[0].isfinite().all()
    else:
        with pytest.raises(ValueError, match=rf"noise of sigma=1e\+300 is beyond {dtype}, whose largest number is"):
            v.GaussianNoise(1e300, seed=0)(x, None)


# -- weights -----------------------------------------------------------------------------------------------------------

ALPHAS = [1e-300, 1e-30, 1e-6, 1e-3, 0.1, 1.0, 1e3, 1e6, 1e30, 1e300]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_weights_of_any_alpha(alpha):
    n = 4000
    for law in (v.Beta(alpha, per="example"), v.Dirichlet(alpha, k=2, per="example")):
        shares = law.draw(v.Key(1, 0, 0, 0).generator(), n)
        assert ((shares >= 0) & (shares <= 1)).all()
        assert np.abs(shares.sum(1) - 1).max() < 1e-12
        variance = 1 / (4 * (2 * alpha + 1))  # of Beta(alpha, alpha); standard errors of the mean, and of the variance
        assert abs(shares[:, 0].mean() - 0.5) < 5 * math.sqrt(variance / n) + 1e-12
        spread = max(math.sqrt((shares[:, 0] - 0.5).var() / n), math.sqrt(2 / n) * variance)
        assert abs(((shares[:, 0] - 0.5) ** 2).mean() - variance) < 5 * spread + 1e-12
    own = v.Beta(alpha, per="example", folded=True).draw(v.Key(1, 0, 0, 0).generator(), n)
    assert (own[:, 0] >= own[:, 1]).all()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("k", [3, 100, 3000])
def test_dirichlet_shares_of_any_alpha(alpha, k):
    law = v.Dirichlet(alpha, k=k, per="example")
    shares = law.draw(v.Key(1, 0, 0, 0).generator(), 50)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert np.abs(shares.sum(1) - 1).max() < 1e-9
    plan = v.Mixup(law, seed=0).plan(3, step=0)
    assert bool((plan.shares >= 0).all())
    assert torch.equal(plan.shares.double().sum(1), torch.ones(3, dtype=torch.float64))
    if alpha <= 1e-3 / k:
        assert float((plan.shares.max(1).values > 0.99).double().mean()) == 1


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (6, 5)])
def test_boxes_of_any_alpha(alpha, grid):
    for step in range(10):
        plan = v.CutMix(alpha, per="example", dims=2, seed=0).plan(5, x=torch.zeros(5, 3, *grid), step=step)
        cut = (plan.box[..., 1] - plan.box[..., 0]).prod(1) / math.prod(grid)
        assert torch.allclose(plan.weight.double(), 1 - cut.double(), atol=2**-24)
        assert bool((plan.box >= 0).all())
        assert bool((plan.box[..., 1] <= torch.tensor(grid)).all())


@pytest.mark.parametrize("alpha", [0, -1.0, NAN, INF, 10**400, 1e301, 5e-324])
def test_no_other_alpha(alpha):
    for make in (v.Mixup, v.InputMixup, v.CutMix, v.Beta, v.Dirichlet):
        with pytest.raises(ValueError, match=r"alpha must (be a finite number|lie in)"):
            make(alpha)


class Drawn(v.Weighting):
    def __init__(self, shares):
        self.__dict__["shares"] = shares

    def draw(self, generator, n):
        return self.shares


class Chosen(v.Pairing):
    def __init__(self, partner):
        self.__dict__["partner"] = partner

    def draw(self, generator, n, y, x):
        return self.partner


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        ([[0.5, 0.5], [NAN, 0.5]], r"Drawn must draw shares >= 0 that sum to 1, got \[nan, 0.5\] in row 1"),
        ([[0.5, 0.5], [1.5, -0.5]], r"Drawn must draw shares >= 0 that sum to 1, got \[1.5, -0.5\] in row 1"),
        ([[0.5, 0.5], [0.5, 0.6]], r"Drawn must draw shares >= 0 that sum to 1, got \[0.5, 0.6\] in row 1, of sum 1.1"),
        ([0.5, 0.5], r"Drawn must draw shares \[2, k\], numbers for k >= 2 examples, got float64 \[2\]"),
        ([[0.5, 0.5]], r"Drawn must draw shares \[2, k\], numbers for k >= 2 examples, got float64 \[1, 2\]"),
    ],
)
def test_a_weighting_of_ones_own_is_checked(shares, sentence):
    for vicinity in (v.Mixup(Drawn(np.array(shares)), seed=0), v.InputMixup(Drawn(np.array(shares)), seed=0)):
        with pytest.raises(ValueError, match=sentence):
            vicinity.plan(2, step=0)


@pytest.mark.parametrize(
    ("partner", "sentence"),
    [
        ([0, 2], r"Chosen must draw partners in \[0, 2\), got 2 in row 1"),
        ([-1, 0], r"Chosen must draw partners in \[0, 2\), got -1 in row 0"),
        ([0.0, 1.0], r"Chosen must draw partners int64 \[2\], got float64 \[2\]"),
        ([0], r"Chosen must draw partners int64 \[2\], got int64 \[1\]"),
    ],
)
def test_a_pairing_of_ones_own_is_checked(partner, sentence):
    images = torch.zeros(2, 3, 6, 5)
    for make in (v.Mixup, v.InputMixup, v.CutMix):
        with pytest.raises(ValueError, match=sentence):
            make(1.0, pairing=Chosen(np.array(partner)), seed=0).plan(2, x=images, step=0)
    with pytest.raises(ValueError, match=sentence):
        v.Mixup(v.Dirichlet(k=3), pairing=Chosen(np.array(partner)), seed=0).plan(2, step=0)


# -- pairings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e150, 1e300])
def test_label_distances_of_any_size(scale):
    y = torch.tensor([0.0, 1.0, 0.01, -1.0, 1.01], dtype=torch.float64) * scale
    pairing = v.LabelDistance(0.001 * scale)
    assert pairing.draw(v.Key(0, 0, 0, 0).generator(), 5, y, None).tolist() == [2, 4, 0, 0, 1]


def test_labels_too_far_apart_for_a_number_meet_their_nearest():
    y = torch.tensor([-1e300, 1e300, 0.0, 0.9e300], dtype=torch.float64)
    got = v.LabelDistance(0.5).draw(v.Key(0, 0, 0, 0).generator(), 4, y, None)
    assert got.tolist() == [2, 3, 3, 1]


def test_labels_of_one_value_meet_anybody_and_nan_nobody():
    same = v.LabelDistance(0.5).draw(v.Key(0, 0, 0, 0).generator(), 200, torch.full((200,), 3.0), None)
    assert (same != np.arange(200)).all()
    assert len(set(same.tolist())) > 100
    y = torch.tensor([NAN, 1.0, 1.0, INF, -INF])
    assert v.LabelDistance(0.5).draw(v.Key(0, 0, 0, 0).generator(), 5, y, None).tolist() == [0, 2, 1, 3, 4]


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e150, 1e300])
def test_nearest_of_any_size(scale):
    x = torch.tensor([[0.0], [5.0], [0.1], [5.1], [0.0]], dtype=torch.float64) * scale
    got = v.Nearest(1).draw(v.Key(0, 0, 0, 0).generator(), 5, None, x)
    assert got.tolist() == [4, 3, 0, 1, 0] or got.tolist() == [4, 3, 4, 1, 0]


def test_nearest_among_equal_rows_and_beside_inf_and_nan():
    equal = v.Nearest(3).draw(v.Key(0, 0, 0, 0).generator(), 50, None, torch.ones(50, 2))
    assert (equal != np.arange(50)).all()
    x = torch.tensor([[0.0], [INF], [0.1], [NAN], [-INF]])
    assert v.Nearest(2).draw(v.Key(0, 0, 0, 0).generator(), 5, None, x).tolist() == [2, 1, 0, 3, 4]


# -- labels and losses -------------------------------------------------------------------------------------------------

MIN, MAX = torch.iinfo(torch.int64).min, torch.iinfo(torch.int64).max
PLAN = v.MixPlan(torch.tensor([1, 0, 2]), torch.full((3,), 0.7))


@pytest.mark.parametrize("edge", [MIN, MAX, -1, -5, 4])
def test_class_indices_beyond_the_classes(edge):
    y = PLAN.target(torch.tensor([0, edge, 1]))
    assert y.ids.tolist() == [[0, edge, 1], [edge, 0, 1]]
    assert (y == torch.tensor([0, edge, 1])).tolist() == pytest.approx([0.7, 0.7, 1.0])
    logits = torch.zeros(3, 4)
    sentence = (
        f"class index {edge} is out of bounds: the prediction has 4 classes, 0 to 3, and entries that do not count have"
    )
    for options in ({}, {"reduction": "none"}, {"label_smoothing": 0.1}, {"weight": torch.ones(4)}):
        with pytest.raises(IndexError, match=sentence):
            F.cross_entropy(logits, y, **options)
    with pytest.raises(IndexError, match=sentence):
        F.nll_loss(logits, y)
    with pytest.raises(IndexError, match=sentence):
        F.cross_entropy(
            torch.zeros(3, 4, 2, requires_grad=True), PLAN.target(torch.tensor([[0, 1], [2, edge], [3, 3]]))
        )
    plain = F.cross_entropy(logits, torch.tensor([0, edge, 1]), ignore_index=edge)
    assert F.cross_entropy(logits, y, ignore_index=edge) == pytest.approx(float(plain))
    for num_classes in (4, 2**62):
        if not 0 <= edge < num_classes:
            with pytest.raises(ValueError, match=r"ids lie in \[.*\], but dense labels of"):
                y.dense(num_classes)


@pytest.mark.parametrize("num_classes", [2**45, 2**62, 2**63, 10**30])
def test_dense_labels_that_no_memory_holds(num_classes):
    y = PLAN.target(torch.tensor([0, 1, 2]))
    for make in (y.dense, lambda count: F.one_hot(y, count)):
        with pytest.raises(
            ValueError, match=f"dense labels of {num_classes} classes for 3 entries need more memory than"
        ):
            make(num_classes)


@pytest.mark.parametrize("num_classes", [True, 2.5, "3", None])
def test_classes_are_counted_by_integers(num_classes):
    with pytest.raises(TypeError, match="num_classes must be an integer, got"):
        PLAN.target(torch.tensor([0, 1, 2])).dense(num_classes)


@pytest.mark.parametrize(
    "dtype",
    [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64],
    ids=str,
)
def test_labels_of_any_integer_dtype(dtype):
    most = torch.iinfo(dtype).max
    if dtype == torch.uint64:
        with pytest.raises(ValueError, match="class indices of uint64 beyond int64 would become negative ones"):
            PLAN.target(torch.tensor([0, 1, most], dtype=dtype))
        most = MAX
    assert PLAN.target(torch.tensor([0, 1, most], dtype=dtype)).ids.tolist() == [[0, 1, most], [1, 0, most]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [1e4, 65504.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("classes", [4, 9000])
def test_losses_of_half_precision_are_the_exact_ones_rounded(dtype, size, smoothing, classes):
    signs = v.Key(0, 0, 0, 0).generator().choice([-1.0, 1.0, 0.0, 0.5], (3, classes))
    y = PLAN.target(torch.tensor([0, 1, 2]))
    for reduction in ("mean", "sum", "none"):
        for shape in ((3, classes), (3, classes, 1)):
            logits = (torch.from_numpy(signs) * size).to(dtype).view(shape).requires_grad_()
            target = y if len(shape) == 2 else PLAN.target(torch.tensor([[0], [1], [2]]))
            loss = F.cross_entropy(logits, target, reduction=reduction, label_smoothing=smoothing)
            log_p = logits.detach().double().log_softmax(1).view(3, classes)
            soft = y.dense(classes, torch.float64) * (1 - smoothing) + smoothing / classes
            rows = -(soft * log_p).sum(1)
            exact = {"mean": rows.mean(), "sum": rows.sum(), "none": rows}[reduction].to(dtype)
            assert loss.dtype == dtype
            torch.testing.assert_close(loss.view(exact.shape), exact, rtol=torch.finfo(dtype).eps, atol=0)
            loss.sum().backward()
            assert logits.grad.isfinite().all()
