"""Losses by every path: of shares that are learned or changed, of targets in which nothing is mixed, and of maps."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

import vicinities
from vicinal import ERM, Chain, LabelSmoothing, MixedTarget, MixPlan, Mixup, _cross_entropy

CLASSES = 4
REDUCTIONS = ["none", "mean", "sum"]
OPTIONS = list(itertools.product(REDUCTIONS, [False, True], [-100, 1, -7], [0.0, 0.1]))  # -7: nothing is ignored


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def class_weights() -> Tensor:
    return torch.tensor([0.5, 2.0, 1.25, 0.75], dtype=torch.float64)


def settings(reduction: str, weighted: bool, ignore_index: int, smoothing: float) -> dict:
    weight = class_weights() if weighted else None
    return {"reduction": reduction, "weight": weight, "ignore_index": ignore_index, "label_smoothing": smoothing}


def draw(seed: int, shape: tuple[int, ...], k: int = 2, per_entry: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [n, C, ...], ids [k, n, ...] and shares, float64."""
    g = generator(seed)
    logits = 2 * torch.randn(shape[0], CLASSES, *shape[1:], generator=g, dtype=torch.float64)
    weight = torch.rand(k, *(shape if per_entry else shape[:1]), generator=g, dtype=torch.float64)
    return logits, torch.randint(0, CLASSES, (k, *shape), generator=g), weight / weight.sum(0)


def dense_loss(
    logits: Tensor,
    ids: Tensor,
    share: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """The definition by one-hot labels in float64, differentiable in the shares."""
    nll = -logits.double().log_softmax(1).movedim(1, -1)
    c = torch.ones(nll.shape[-1], dtype=torch.float64) if weight is None else weight.double()
    share = share.double().reshape(*share.shape, *(1,) * (ids.ndim - share.ndim)).expand(ids.shape)
    rows, norm = torch.zeros(ids.shape[1:], dtype=torch.float64), 0.0
    for own, w in zip(ids, share, strict=True):
        w = torch.where(own == ignore_index, 0.0, w)
        one_hot = F.one_hot(own.where(own != ignore_index, 0), nll.shape[-1]).double()
        label = one_hot * (1 - label_smoothing) + label_smoothing / nll.shape[-1]
        rows = rows + w * (label * c * nll).sum(-1)
        norm = norm + (w * (one_hot * c).sum(-1)).sum()
    return rows if reduction == "none" else rows.sum() if reduction == "sum" else rows.sum() / norm


def gradients(loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    cotangent = torch.rand(loss.shape, generator=generator(99), dtype=torch.float64).to(loss.dtype)
    return torch.autograd.grad(loss, inputs, cotangent, retain_graph=False)


def assert_close(got: Tensor, expected: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(got.double(), expected.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


# -- learned shares ----------------------------------------------------------------------------------------------------

EDGES = [None, [1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("many", [1, 8192], ids=["one buffer", "few classes"])
@pytest.mark.parametrize("edge", EDGES, ids=["within", "wholly its own", "wholly its partner's"])
@pytest.mark.parametrize(("shape", "per_entry"), [((5,), False), ((3, 2, 2), False), ((3, 2, 2), True)])
def test_learned_shares_have_the_gradient_of_the_definition(shape, per_entry, edge, many, monkeypatch):
    monkeypatch.setattr(_cross_entropy, "MANY_CLASSES", many)
    for case, grad_of_logits in itertools.product(OPTIONS, [True, False]):
        options = settings(*case)
        logits, ids, share = draw(1, shape, 2, per_entry)
        if case[2] != -7:
            ids[:, -1:] = case[2]
        if edge:
            share[...] = torch.tensor(edge, dtype=torch.float64).view(2, *(1,) * (share.ndim - 1))
        share.requires_grad_()
        inputs = (share, logits.requires_grad_()) if grad_of_logits else (share,)
        got, expected = (
            F.cross_entropy(logits, MixedTarget(ids, share), **options),
            dense_loss(logits, ids, share, **options),
        )
        assert_close(got, expected)
        for a, b in zip(gradients(got, *inputs), gradients(expected, *inputs), strict=True):
            assert_close(a, b)
        del options["label_smoothing"]
        log_p = logits.log_softmax(1)
        nll = F.nll_loss(log_p, MixedTarget(ids, share), **options)
        assert_close(gradients(nll, share)[0], gradients(dense_loss(logits, ids, share, **options), share)[0])


@pytest.mark.parametrize(("shape", "per_entry"), [((4,), False), ((2, 2), False), ((2, 2), True)])
def test_gradcheck_of_shares_and_logits(shape, per_entry):
    for reduction, smoothing in itertools.product(REDUCTIONS, [0.0, 0.1]):
        logits, ids, share = draw(2, shape, 3, per_entry)

        def loss(logits: Tensor, share: Tensor, ids=ids, reduction=reduction, smoothing=smoothing) -> Tensor:
            y = MixedTarget(ids, share)
            return F.cross_entropy(logits, y, class_weights(), reduction=reduction, label_smoothing=smoothing)

        inputs = logits.requires_grad_(), share.requires_grad_()
        assert torch.autograd.gradcheck(loss, inputs)
        assert torch.autograd.gradgradcheck(loss, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(6,), (6, 3, 2)], ids=str)
def test_a_learned_lambda_of_a_plan(shape, dtype):
    """From the weight of a plan to the loss; twice, since a loop may take two losses of one target."""
    logits, ids, _ = draw(3, shape)
    partner = torch.tensor([3, 2, 0, 1, 5, 4])
    theta = torch.linspace(-2, 2, 6).requires_grad_()
    plan = MixPlan(partner, theta.sigmoid().detach().requires_grad_())
    y = plan.target(ids[0])
    z = logits.to(dtype)
    for _ in range(2):
        plan.weight.grad = None
        F.cross_entropy(z, y).backward()
        own = plan.weight.detach().double().requires_grad_()
        both = torch.stack([ids[0], ids[0][partner]])
        (expected,) = torch.autograd.grad(dense_loss(z, both, torch.stack([own, 1 - own])), own)
        assert_close(plan.weight.grad, expected, 1e-6 if dtype != torch.bfloat16 else 2e-2)


def test_an_impossible_class_of_a_learned_share_of_zero_has_no_gradient():
    logits = torch.tensor([[1.0, 2.0, -math.inf], [0.5, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([[0, 1], [2, 0]])
    share = torch.tensor([[1.0, 0.5], [0.0, 0.5]], dtype=torch.float64, requires_grad=True)
    for z, y in (
        (logits, MixedTarget(ids, share)),
        (logits[:, :, None], MixedTarget(ids[..., None], share)),
    ):
        loss = F.cross_entropy(z, y)
        slopes = torch.autograd.grad(loss, (logits, share))
        assert loss.isfinite()
        assert all(slope.isfinite().all() for slope in slopes)
        nll = -logits.detach().log_softmax(1)
        assert_close(slopes[1][0], (nll[[0, 1], ids[0]] - loss.detach()) / 2)  # the mean divides by the shares


# -- shares that are changed -------------------------------------------------------------------------------------------


def halve(y: MixedTarget) -> None:
    y.weight[0] *= 0.5


def replace(y: MixedTarget) -> None:
    y.weight = y.weight * torch.linspace(0.5, 2, len(y))


def own_only(y: MixedTarget) -> None:
    y.weight[1:].zero_()


def stretch(y: MixedTarget) -> None:
    y.weight.mul_(torch.linspace(0.5, 2, len(y)))


def other_ids(y: MixedTarget) -> None:
    y.ids[0] = (y.ids[0] + 1) % CLASSES


@pytest.mark.parametrize("inference", [False, True], ids=["", "inference mode"])
@pytest.mark.parametrize("change", [halve, replace, own_only, stretch, other_ids])
@pytest.mark.parametrize("vicinity", [Mixup(0.7, seed=3), ERM()], ids=["mixed", "not mixed"])
def test_all_paths_see_shares_and_class_indices_that_are_changed(vicinity, change, inference):
    n = 6
    logits = torch.randn(n, CLASSES, generator=generator(4))
    with torch.inference_mode(inference):
        ids = torch.randint(0, CLASSES, (n,), generator=generator(5))
        y = vicinity.plan(n, ids, step=0).target(ids)
        F.cross_entropy(logits, y)  # whatever it remembers
        change(y)
        for reduction, smoothing in itertools.product(REDUCTIONS, [0.0, 0.1]):
            expected = dense_loss(logits, y.ids, y.weight, reduction=reduction, label_smoothing=smoothing)
            for seen in (y, y.to("cpu"), y[:], MixedTarget(y.ids, y.weight)):
                got = F.cross_entropy(logits, seen, reduction=reduction, label_smoothing=smoothing)
                assert_close(got, expected, 1e-6)
            if not smoothing:
                assert_close(F.nll_loss(logits.log_softmax(1), y, reduction=reduction), expected, 1e-6)


def test_what_a_plan_knows_is_used_until_it_is_changed():
    ids = torch.arange(6) % CLASSES
    y = Mixup(0.7, seed=3).plan(6, ids, step=0).target(ids)
    assert y.slopes is not None
    assert y.to("cpu").slopes is y.slopes
    assert y.clone().slopes is None
    y.weight.mul_(1)
    assert y.slopes is None
    single = ERM().plan(6, ids, step=0).target(ids)
    assert single.is_unchanged
    single.weight = single.weight.clone()
    assert not single.is_unchanged


# -- nothing mixed, nothing changed ------------------------------------------------------------------------------------

IDLE = [case for case in vicinities.CASES if case.name in ("erm", "noise", "smoothing", "scheduled-off")]
OFF = [case for case in vicinities.CASES if case.name in ("mixup", "cutmix", "mixup-of-3", "choice")]


def assert_bits(z: Tensor, y: MixedTarget, ids: Tensor, smoothing: float) -> None:
    z = z.requires_grad_()
    classes = z.shape[1]
    for weighted, reduction in itertools.product([False, True], REDUCTIONS):
        weight = torch.linspace(0.5, 2, classes) if weighted else None
        got = F.cross_entropy(z, y, weight, reduction=reduction)
        expected = F.cross_entropy(z, ids, weight, reduction=reduction, label_smoothing=smoothing)
        assert torch.equal(got, expected)
        assert torch.equal(gradients(got, z)[0], gradients(expected, z)[0])
    if not smoothing:
        assert torch.equal(F.nll_loss(z.log_softmax(1), y), F.nll_loss(z.log_softmax(1), ids))


def test_the_cases_that_mix_nothing_are_there():
    assert (len(IDLE), len(OFF)) == (4, 4)


@pytest.mark.parametrize("case", IDLE, ids=str)
@pytest.mark.parametrize(("n", "classes"), [(1, 2), (8, 3), (32, 5), (32, 10), (128, 10), (64, 1000)])
def test_nothing_mixed_nothing_changed_to_the_last_bit(case, n, classes):
    smoothing = getattr(case.vicinity, "eps", 0.0)
    for seed in range(20 if classes < 100 else 3):
        z = torch.randn(n, classes, generator=generator(seed)) * 3
        ids = torch.randint(0, classes, (n,), generator=generator(seed + 1))
        plan = case.vicinity.plan(n, ids, z, step=seed, epoch=case.epoch)
        assert_bits(z, plan.target(ids), ids, smoothing)


@pytest.mark.parametrize("case", OFF, ids=str)
def test_switched_off_nothing_changes_to_the_last_bit(case):
    mixup = case.fresh()
    mixup.off()
    for seed in range(20):
        z, x = torch.randn(32, 10, generator=generator(seed)) * 3, torch.zeros(32, 3, 4, 4)
        ids = torch.randint(0, 10, (32,), generator=generator(seed + 1))
        assert_bits(z, mixup(x, ids)[1], ids, 0.0)
        assert_bits(z, mixup(x, ids)[1].to("cpu", non_blocking=True).view(-1), ids, 0.0)


def test_a_share_of_one_with_partners_has_the_bits_too():
    for n, k in ((8, 2), (32, 3)):
        z = torch.randn(n, 5, generator=generator(n)) * 3
        ids = torch.randint(0, 5, (n,), generator=generator(n + 1))
        weight = torch.zeros(n, k)
        weight[:, 0] = 1
        plan = MixPlan(torch.randint(0, n, (n, k - 1), generator=generator(6)), weight)
        assert_bits(z, plan.target(ids), ids, 0.0)


def test_class_indices_of_a_single_kind_are_weighted_where_their_shares_are_not_one():
    logits, ids, _ = draw(7, (5,), 1)
    share = torch.linspace(0.5, 2, 5, dtype=torch.float64)[None]
    for reduction in REDUCTIONS:
        got = F.cross_entropy(logits, MixedTarget(ids, share), reduction=reduction)
        assert_close(got, dense_loss(logits, ids, share, reduction=reduction))
    whole = MixedTarget(ids.expand(2, 5), torch.ones(2, 5))  # weighted examples that have shares of 1 and 1
    assert_close(F.cross_entropy(logits, whole, reduction="sum"), 2 * F.cross_entropy(logits, ids[0], reduction="sum"))


# -- maps --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_entry", [False, True], ids=["shares per row", "shares per entry"])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 2), (2, 2, 2, 3)], ids=str)
def test_maps_are_the_definition_with_every_option(shape, k, per_entry):
    for case in OPTIONS:
        options = settings(*case)
        logits, ids, share = draw(8, shape, k, per_entry)
        if case[2] != -7:
            ids[torch.rand(ids.shape, generator=generator(9)) < 0.3] = case[2]
        if k == 1:
            share = share * 0.5  # or PyTorch's own loss is computed
        logits.requires_grad_()
        got, expected = (
            F.cross_entropy(logits, MixedTarget(ids, share), **options),
            dense_loss(logits, ids, share, **options),
        )
        assert "FusedBackward" in graph(got)
        assert_close(got, expected)
        assert_close(gradients(got, logits)[0], gradients(expected, logits)[0])


def graph(loss: Tensor) -> set[str]:
    names, nodes = set(), [loss.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None and node.name() not in names:
            names.add(node.name())
            nodes += [following for following, _ in node.next_functions]
    return names


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_maps_in_other_precisions_and_under_autocast(dtype, weighted, smoothing):
    logits, ids, share = draw(10, (2, 3, 2), 2)
    tolerance = {torch.float32: 2e-6, torch.bfloat16: 3e-2, torch.float16: 4e-3}[dtype]
    weight = class_weights().to(dtype) if weighted else None
    y = MixedTarget(ids, share.float())
    for autocast in (False, True):
        z = logits.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            got = F.cross_entropy(z, y, weight, label_smoothing=smoothing)
            plain = F.cross_entropy(z, ids[0], weight, label_smoothing=smoothing)
        expected = dense_loss(z, ids, share, weight, label_smoothing=smoothing)
        assert got.dtype == plain.dtype
        assert_close(got, expected, 2e-6 if autocast else tolerance)
        slopes = gradients(got, z)[0], gradients(expected, z)[0]
        assert slopes[0].dtype == dtype
        assert_close(*slopes, tolerance)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is (deprecated|not supported)")  # PyTorch's own, forward mode
def test_maps_have_a_second_backward_and_all_derivatives():
    logits, ids, share = draw(11, (2, 3, 2), 2)
    y = MixedTarget(ids, share)
    z = logits.clone().requires_grad_()
    loss = F.cross_entropy(z, y)
    first, second = (torch.autograd.grad(loss, z, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.autograd.gradgradcheck(lambda z: F.cross_entropy(z, y, class_weights(), label_smoothing=0.1), (z,))
    again = torch.autograd.grad(loss, z, create_graph=True)[0]
    assert_close(again, first)
    plain = logits.clone().requires_grad_()
    slope = torch.autograd.grad(dense_loss(plain, ids, share), plain, create_graph=True)[0]
    expected = torch.autograd.grad(slope.square().sum(), plain)[0]
    assert_close(torch.autograd.grad(again.square().sum(), z)[0], expected)
    assert_close(torch.func.grad(lambda z: F.cross_entropy(z, y))(logits), first)
    tangent = torch.randn(logits.shape, generator=generator(12), dtype=torch.float64)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(logits.clone().requires_grad_(), tangent)
        moved = forward_ad.unpack_dual(F.cross_entropy(dual, y)).tangent
    assert_close(moved, (first * tangent).sum())
    with torch.no_grad():
        assert_close(F.cross_entropy(z, y), loss)


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "expanded"])
def test_maps_of_any_memory_layout(layout):
    logits, ids, share = draw(13, (2, 3, 2), 2)
    z = {
        "channels_last": logits.contiguous(memory_format=torch.channels_last),
        "transposed": logits.mT.contiguous().mT,
        "expanded": logits[:1].expand(2, -1, -1, -1),
    }[layout].requires_grad_()
    for case in OPTIONS:
        options = settings(*case)
        got, expected = F.cross_entropy(z, MixedTarget(ids, share), **options), dense_loss(z, ids, share, **options)
        assert_close(got, expected)
        assert_close(gradients(got, z)[0], gradients(expected, z)[0])


def test_maps_with_excluded_classes_and_nothing_that_counts():
    logits, ids, share = draw(14, (2, 3), 2)
    logits[:, 2] = -math.inf
    share[:] = torch.tensor([[1.0, 0.5], [0.0, 0.5]])
    ids[0] = ids[1, 1] = 1
    ids[1, 0] = 2
    z = logits.requires_grad_()
    loss = F.cross_entropy(z, MixedTarget(ids, share), reduction="none")
    assert loss.isfinite().all()
    assert gradients(loss, z)[0].isfinite().all()
    ignored = torch.full((2, 3), -100)
    z = torch.randn(2, CLASSES, 3, generator=generator(15), requires_grad=True)
    for reduction, smoothing in itertools.product(REDUCTIONS, [0.0, 0.1]):
        options = {"reduction": reduction, "label_smoothing": smoothing}
        got = F.cross_entropy(z, MixedTarget(ignored.expand(2, 2, 3), torch.full((2, 2), 0.5)), **options)
        expected = F.cross_entropy(z, ignored, **options)
        assert_close(got, expected)
        assert_close(gradients(got, z)[0], gradients(expected, z)[0])
    for wrong in (CLASSES, -1):
        ids[0, 0, 0] = wrong
        with pytest.raises((IndexError, RuntimeError), match=f"{wrong} is out of bounds"):
            F.cross_entropy(z, MixedTarget(ids, share.float()), ignore_index=255)


def test_maps_keep_one_tensor_of_their_size_for_the_backward_pass():
    z = torch.randn(2, 16, 8, 8, generator=generator(16), requires_grad=True)
    y = MixedTarget(
        torch.randint(0, 16, (2, 2, 8, 8), generator=generator(17)), torch.tensor([[0.3], [0.7]]).expand(2, 2)
    )
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()), lambda _: None):
        F.cross_entropy(z, y)
    assert [size for size in kept if size >= z.numel()] == [z.numel()]


def test_one_entry_goes_with_its_logits_as_in_pytorch():
    logits, ids, share = draw(18, (3,), 2)
    y = MixedTarget(ids, share)
    for i, case in itertools.product(range(3), OPTIONS):
        options = settings(*case)
        expected = F.cross_entropy(logits[i : i + 1], y[i : i + 1], **options)
        got = F.cross_entropy(logits[i], y[i], **options)
        assert got.shape == F.cross_entropy(logits[i], ids[0, i], **options).shape == ()
        assert_close(got, expected.squeeze())
    smoothed = Chain([Mixup(1.0), LabelSmoothing(0.1)], seed=1).plan(3, step=0).target(ids[0])
    assert_close(F.cross_entropy(logits[1], smoothed[1]), F.cross_entropy(logits, smoothed, reduction="none")[1])
    assert_close(F.nll_loss(logits[1].log_softmax(0), y[1]), F.cross_entropy(logits[1], y[1]))
    with pytest.raises(ValueError, match=r"logits \[3, 4\] do not fit class indices \[\]"):
        F.cross_entropy(logits, y[0])
