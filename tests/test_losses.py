"""The losses of a MixedTarget: PyTorch's own bits where nothing is mixed, a plain float64 loop elsewhere."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vicinal import Chain, InputMixup, LabelSmoothing, MixedTarget, Mixup, _cross_entropy

CLASSES = 4
SHAPES = [(6,), (4, 3), (2, 3, 2)]  # n, then the trailing dimensions of a map of classes
REDUCTIONS = ["none", "mean", "sum"]
NOTHING = -1  # the ignore_index of batches in which nothing is ignored
IGNORE = [-100, 1, NOTHING]
SMOOTHING = [0.0, 0.1]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 3e-2, torch.float16: 4e-3}


@pytest.fixture(params=["by id", "one buffer"])
def path(request, monkeypatch):
    """Both ways in which the formula is computed; the second is for many classes, and here for few."""
    if request.param == "one buffer":
        monkeypatch.setattr(_cross_entropy, "MANY_CLASSES", 1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(seed: int, shape: tuple[int, ...], k: int, ignore_index: int = -100, dtype=torch.float64):
    """Logits [n, C, ...] of that dtype, ids [k, n, ...] of which a fifth is ignored, weight float64 [k, n]."""
    g = generator(seed)
    logits = (2 * torch.randn(shape[0], CLASSES, *shape[1:], generator=g, dtype=torch.float64)).to(dtype)
    ids = torch.randint(0, CLASSES, (k, *shape), generator=g)
    if ignore_index != NOTHING:
        ids[torch.rand(ids.shape, generator=g) < 0.2] = ignore_index
    weight = torch.rand(k, shape[0], generator=g, dtype=torch.float64)
    return logits.requires_grad_(), ids, weight / weight.sum(0)


def class_weights(dtype: torch.dtype) -> Tensor:
    return torch.tensor([0.5, 2.0, 1.25, 0.75], dtype=dtype)


def by_hand(
    log_p: Tensor,
    ids: Tensor,
    share: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """The definition, entry by entry and id by id, in float64: a class of share 0 is no part of the label."""
    log_p, classes = log_p.double(), log_p.shape[1]
    c = [1.0] * classes if weight is None else weight.double().tolist()
    entries, norm = [], 0.0
    for at in itertools.product(*map(range, ids.shape[1:])):
        row, place = at[0], at[1:]
        nll = [-log_p[(row, j, *place)] for j in range(classes)]
        entry = torch.zeros((), dtype=torch.float64)
        for k in range(len(ids)):
            of, s = int(ids[(k, *at)]), float(share[k, row])
            if of == ignore_index or s == 0:
                continue
            entry = entry + s * (1 - label_smoothing) * c[of] * nll[of]
            for j in range(classes):
                if label_smoothing:
                    entry = entry + s * label_smoothing / classes * c[j] * nll[j]
            norm += s * c[of]
        entries.append(entry)
    rows = torch.stack(entries).reshape(ids.shape[1:]) if entries else torch.zeros(ids.shape[1:], dtype=torch.float64)
    if reduction == "none":
        return rows
    return rows.sum() if reduction == "sum" else rows.sum() / (norm if norm else math.nan)


def log_softmax_by_hand(logits: Tensor) -> Tensor:
    logits = logits.double()
    return logits - logits.exp().sum(1, keepdim=True).log()


def gradient(loss: Tensor, logits: Tensor, seed: int = 5) -> Tensor:
    """Gradient of the loss, of a fixed random combination of the losses if there are several."""
    cotangent = torch.randn(loss.shape, generator=generator(seed), dtype=torch.float64).to(loss.dtype)
    return torch.autograd.grad(loss, logits, cotangent, retain_graph=True)[0]


def assert_close(got: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(got.double(), expected.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


def assert_same_bits(got: Tensor, expected: Tensor) -> None:
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert torch.equal(got.isnan(), expected.isnan())
    assert torch.equal(got.nan_to_num(7.0), expected.nan_to_num(7.0))


def unmixed(ids: Tensor) -> dict[str, MixedTarget]:
    """The forms in which a target whose every row is wholly its own occurs."""
    n, other = ids.shape[0], ids.roll(1, 0)
    return {
        "one id": MixedTarget(ids[None], torch.ones(1, n)),
        "two ids": MixedTarget(torch.stack([ids, other]), torch.stack([torch.ones(n), torch.zeros(n)])),
        "three ids": MixedTarget(torch.stack([ids, other, ids]), torch.tensor([1.0, 0.0, 0.0])[:, None].expand(3, n)),
    }


# -- lambda = 1: PyTorch's very bits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_unmixed_cross_entropy_has_the_bits_of_pytorch(shape, dtype, autocast):
    for ignore_index, smoothing, reduction, weighted in itertools.product(IGNORE, SMOOTHING, REDUCTIONS, [False, True]):
        logits, ids, _ = draw(0, shape, 1, ignore_index, dtype)
        criterion = nn.CrossEntropyLoss(
            weight=class_weights(dtype) if weighted else None,
            ignore_index=ignore_index,
            label_smoothing=smoothing,
            reduction=reduction,
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            expected = criterion(logits, ids[0])
        for y in unmixed(ids[0]).values():
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                got = criterion(logits, y)
                functional = F.cross_entropy(
                    logits, y, criterion.weight, None, ignore_index, None, reduction, label_smoothing=smoothing
                )
            assert_same_bits(got, expected)
            assert_same_bits(functional, expected)
            assert_same_bits(gradient(got, logits), gradient(expected, logits))


@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_unmixed_nll_has_the_bits_of_pytorch(shape, dtype, autocast):
    for ignore_index, reduction, weighted in itertools.product(IGNORE, REDUCTIONS, [False, True]):
        logits, ids, _ = draw(1, shape, 1, ignore_index, dtype)
        weight = class_weights(dtype) if weighted else None
        criterion = nn.NLLLoss(weight=weight, ignore_index=ignore_index, reduction=reduction)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            expected = criterion(logits.log_softmax(1), ids[0])
        for y in unmixed(ids[0]).values():
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                got = criterion(logits.log_softmax(1), y)
                functional = F.nll_loss(logits.log_softmax(1), y, weight, None, ignore_index, None, reduction)
            assert_same_bits(got, expected)
            assert_same_bits(functional, expected)
            assert_same_bits(gradient(got, logits), gradient(expected, logits))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", SMOOTHING)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_nothing_left_to_learn_from_gives_what_pytorch_gives(k, smoothing, reduction):
    """Every entry ignored, and no entry at all: nan for the mean, zeros for the sum and for each entry."""
    for n in (0, 5):
        logits = torch.randn(n, CLASSES, generator=generator(2), requires_grad=True)
        ids = torch.full((n,), -100)
        expected = F.cross_entropy(logits, ids, reduction=reduction, label_smoothing=smoothing)
        assert reduction != "mean" or expected.isnan()
        y = MixedTarget(ids.expand(k, n), torch.full((k, n), 1 / k))
        got = F.cross_entropy(logits, y, reduction=reduction, label_smoothing=smoothing)
        assert_same_bits(got, expected)
        assert_same_bits(gradient(got, logits), gradient(expected, logits))


def test_the_smoothing_of_the_target_is_the_smoothing_of_the_loss():
    logits, ids, _ = draw(3, (6,), 1)
    y = MixedTarget(ids, torch.ones(1, 6), smoothing=0.1)
    expected = F.cross_entropy(logits, ids[0], label_smoothing=0.1)
    assert_same_bits(F.cross_entropy(logits, y), expected)
    assert_close(F.nll_loss(logits.log_softmax(1), y), expected, 1e-12)
    both = F.cross_entropy(logits, ids[0], label_smoothing=1 - 0.9 * 0.8)
    assert_close(F.cross_entropy(logits, y, label_smoothing=0.2), both, 1e-12)
    assert_close(F.cross_entropy(logits, y.smoothed(0.2)), both, 1e-12)


# -- elsewhere: the plain loop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "class weights"])
@pytest.mark.parametrize("smoothing", SMOOTHING)
def test_the_plain_loop_is_pytorch_s_loss(smoothing, weighted, reduction):
    """The oracle itself, against PyTorch on labels that are not mixed."""
    for shape, ignore_index in itertools.product(SHAPES, IGNORE):
        logits, ids, _ = draw(4, shape, 1, ignore_index)
        settings = {
            "weight": class_weights(torch.float64) if weighted else None,
            "ignore_index": ignore_index,
            "label_smoothing": smoothing,
            "reduction": reduction,
        }
        expected = F.cross_entropy(logits, ids[0], **settings)
        assert_close(by_hand(log_softmax_by_hand(logits), ids, torch.ones(1, shape[0]), **settings), expected, 1e-12)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mixed_cross_entropy_is_the_plain_loop(shape, k, dtype):
    for ignore_index, smoothing, reduction, weighted in itertools.product(IGNORE, SMOOTHING, REDUCTIONS, [False, True]):
        logits, ids, share = draw(5, shape, k, ignore_index, dtype)
        settings = {
            "weight": class_weights(dtype) if weighted else None,
            "ignore_index": ignore_index,
            "label_smoothing": smoothing,
            "reduction": reduction,
        }
        share = share if dtype == torch.float64 else share.float()
        got = nn.CrossEntropyLoss(**settings)(logits, MixedTarget(ids, share))
        expected = by_hand(log_softmax_by_hand(logits), ids, share, **settings)
        assert got.dtype == dtype
        assert got.shape == expected.shape
        assert_close(got, expected, TOLERANCE[dtype])
        assert_close(gradient(got, logits), gradient(expected, logits), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mixed_nll_is_the_plain_loop(shape, k, dtype):
    for ignore_index, reduction, weighted in itertools.product(IGNORE, REDUCTIONS, [False, True]):
        logits, ids, share = draw(6, shape, k, ignore_index, dtype)
        weight = class_weights(dtype) if weighted else None
        share = share if dtype == torch.float64 else share.float()
        log_p = logits.log_softmax(1)
        criterion = nn.NLLLoss(weight=weight, ignore_index=ignore_index, reduction=reduction)
        got = criterion(log_p, MixedTarget(ids, share))
        expected = by_hand(log_p, ids, share, weight, ignore_index, reduction=reduction)
        assert got.dtype == dtype
        assert_close(got, expected, TOLERANCE[dtype])
        assert_close(gradient(got, log_p), gradient(expected, log_p), TOLERANCE[dtype])


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("smoothing", SMOOTHING)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_autocast_computes_the_loss_in_float32(dtype, smoothing, k):
    """As PyTorch does for plain labels, whatever the logits come in, class weights of either dtype included."""
    for loss, weights, ignore_index in itertools.product(
        ["cross_entropy", "nll_loss"], [None, torch.float32, dtype], [-100, NOTHING]
    ):
        logits, ids, share = draw(7, (6,), k, ignore_index, dtype)
        y = MixedTarget(ids, share.float())
        weight = None if weights is None else class_weights(weights)
        extra = {"label_smoothing": smoothing} if loss == "cross_entropy" else {}
        input = logits if loss == "cross_entropy" else logits.log_softmax(1)
        with torch.autocast("cpu", torch.bfloat16):
            plain = getattr(F, loss)(input, ids[0], weight, **extra)
            got = getattr(F, loss)(input, y, weight, **extra)
        assert got.dtype == plain.dtype == torch.float32
        log_p = log_softmax_by_hand(logits) if loss == "cross_entropy" else input
        expected = by_hand(log_p, ids, share, weight, **extra)
        assert_close(got, expected, 2e-6)
        assert_close(gradient(got, input), gradient(expected, input), TOLERANCE[dtype])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 4),
    st.lists(st.integers(1, 3), max_size=2),
    st.integers(1, 4),
    st.sampled_from(REDUCTIONS),
    st.sampled_from([-100, 0, 2, NOTHING]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.0, 0.25]),
    st.booleans(),
    st.sampled_from([1, 8192]),
    st.integers(0, 2**32),
    st.data(),
)
def test_any_mix_is_the_plain_loop(
    n, trailing, k, reduction, ignore_index, label_smoothing, own_smoothing, weighted, many, seed, data
):
    logits, ids, _ = draw(seed, (n, *trailing), k, ignore_index)
    # whole numbers of shares, so that zeros and ones occur
    counts = data.draw(
        st.lists(st.lists(st.integers(0, 3), min_size=k, max_size=k).filter(any), min_size=n, max_size=n)
    )
    share = torch.tensor(counts, dtype=torch.float64).reshape(n, k).T
    share = share / share.sum(0)
    weight = class_weights(torch.float64) if weighted else None
    y = MixedTarget(ids, share, own_smoothing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cross_entropy, "MANY_CLASSES", many)
        got = F.cross_entropy(
            logits, y, weight, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
        )
    smoothing = 1 - (1 - label_smoothing) * (1 - own_smoothing)
    expected = by_hand(log_softmax_by_hand(logits), ids, share, weight, ignore_index, smoothing, reduction)
    assert got.shape == expected.shape
    assert_close(got, expected, 1e-12)
    if expected.requires_grad:
        assert_close(gradient(got, logits), gradient(expected, logits), 1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignore_index", [-100, NOTHING])
@pytest.mark.parametrize("shape", [(3,), (2, 2)], ids=str)
def test_gradients_of_first_and_second_order(shape, ignore_index, reduction):
    logits, ids, share = draw(8, shape, 3, ignore_index)
    y = MixedTarget(ids, share, 0.05)
    weight = class_weights(torch.float64)

    def cross_entropy(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, weight, reduction=reduction, label_smoothing=0.1)

    def nll(log_p: Tensor) -> Tensor:
        return F.nll_loss(log_p, y, weight, reduction=reduction)

    assert torch.autograd.gradcheck(cross_entropy, (logits,))
    assert torch.autograd.gradgradcheck(cross_entropy, (logits,))
    assert torch.autograd.gradcheck(nll, (logits.detach().log_softmax(1).requires_grad_(),))


def test_class_weights_normalise_by_the_labels_shares():
    """0.75 of class 0 and 0.25 of class 1 count 0.75 * c[0] + 0.25 * c[1]; an ignored label counts nothing."""
    log_p = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]], dtype=torch.float64))
    c = torch.tensor([2.0, 4.0, 8.0], dtype=torch.float64)
    y = MixedTarget(torch.tensor([[0, 2], [1, -100]]), torch.tensor([[0.75, 0.5], [0.25, 0.5]], dtype=torch.float64))
    first = 0.75 * 2 * math.log(2) + 0.25 * 4 * math.log(4)
    second = 0.5 * 8 * -math.log(0.6)
    norm = 0.75 * 2 + 0.25 * 4 + 0.5 * 8
    assert F.nll_loss(log_p, y, c, reduction="none").tolist() == pytest.approx([first, second], rel=1e-14)
    assert F.nll_loss(log_p, y, c, reduction="sum").item() == pytest.approx(first + second, rel=1e-14)
    assert F.nll_loss(log_p, y, c).item() == pytest.approx((first + second) / norm, rel=1e-14)
    assert F.nll_loss(log_p, y).item() == pytest.approx(
        (0.75 * math.log(2) + 0.25 * math.log(4) - 0.5 * math.log(0.6)) / 1.5, rel=1e-14
    )


def test_the_mean_is_the_lambda_weighted_sum_of_two_losses():
    """The paper's formula, for one lambda and no class weights or ignored labels."""
    logits, _, _ = draw(9, (6,), 1)
    a, b = torch.randint(0, CLASSES, (2, 6), generator=generator(9))
    y = MixedTarget(torch.stack([a, b]), torch.tensor([[0.3], [0.7]], dtype=torch.float64).expand(2, 6))
    assert_close(F.cross_entropy(logits, y), 0.3 * F.cross_entropy(logits, a) + 0.7 * F.cross_entropy(logits, b), 1e-14)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
def test_a_class_of_share_zero_may_be_impossible(loss, reduction):
    """A partner of weight 0 whose class the model excludes (log-probability -inf) adds 0, not 0 * inf = nan."""
    logits = torch.tensor([[1.0, 2.0, -math.inf], [0.5, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([[0, 1], [2, 0]])
    share = torch.tensor([[1.0, 0.5], [0.0, 0.5]], dtype=torch.float64)  # not all own, so that the formula is used
    input = logits if loss == "cross_entropy" else logits.log_softmax(1)
    got = getattr(F, loss)(input, MixedTarget(ids, share), reduction=reduction)
    expected = by_hand(logits.log_softmax(1), ids, share, reduction=reduction)
    assert got.isfinite().all()
    assert_close(got, expected, 1e-13)
    assert_close(gradient(got, logits), gradient(expected, logits), 1e-13)


@pytest.mark.usefixtures("path")
def test_an_impossible_class_of_any_share_makes_the_loss_infinite():
    logits = torch.tensor([[1.0, -math.inf]], requires_grad=True)
    y = MixedTarget(torch.tensor([[0], [1]]), torch.tensor([[0.75], [0.25]]))
    assert F.cross_entropy(logits, y).item() == math.inf


@pytest.mark.usefixtures("path")
def test_an_ignored_row_hides_whatever_was_predicted_there():
    logits, ids, share = draw(10, (3,), 2)
    ids[:, 1] = -100
    broken = logits.detach().clone()
    broken[1] = math.nan
    broken.requires_grad_()
    y = MixedTarget(ids, share)
    for reduction in REDUCTIONS:
        assert_close(
            F.cross_entropy(broken, y, reduction=reduction), F.cross_entropy(logits, y, reduction=reduction), 0
        )


def test_half_precision_logits_are_weighted_in_float32():
    """512 rows of loss about 3 sum far beyond the 8 bits of a bfloat16; rounded once at the end, as PyTorch's."""
    logits = torch.randn(512, 16, generator=generator(11)).bfloat16()
    ids = torch.randint(0, 16, (2, 512), generator=generator(12))
    y = MixedTarget(ids, torch.tensor([[0.3], [0.7]]).expand(2, 512))
    log_p = logits.log_softmax(1)
    expected = by_hand(log_p, ids, y.weight, reduction="sum")
    assert F.nll_loss(log_p, y, reduction="sum").item() == pytest.approx(expected.item(), rel=2**-8)
    assert F.cross_entropy(logits, y, reduction="sum").dtype == torch.bfloat16


# -- many classes ------------------------------------------------------------------------------------------------------


def many_classes(classes: int) -> tuple[Tensor, MixedTarget]:
    logits = 3 * torch.randn(4, classes, generator=generator(21))
    ids = torch.randint(0, classes, (2, 4), generator=generator(22))
    return logits.requires_grad_(), MixedTarget(ids, torch.tensor([[0.3], [0.7]]).expand(2, 4), smoothing=0.1)


@pytest.mark.parametrize("classes", [8191, 8192, 20_000])
def test_many_classes_give_the_loss_and_gradient_of_soft_labels(classes):
    logits, y = many_classes(classes)
    got = F.cross_entropy(logits, y)
    exact = logits.detach().double().requires_grad_()
    expected = F.cross_entropy(exact, y.dense(classes, torch.float64))
    assert_close(got, expected, 1e-6)
    assert_close(gradient(got, logits), gradient(expected, exact), 1e-6)


def test_many_classes_keep_one_tensor_of_their_size_for_the_backward_pass():
    for classes in (8191, 8192):
        logits, y = many_classes(classes)
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.numel()), lambda _: None):
            loss = F.cross_entropy(logits, y)
        if classes == 8192:
            assert [size for size in kept if size >= classes] == [4 * classes]
        nodes, names = [loss.grad_fn], []
        while nodes:
            node = nodes.pop()
            names.append(node.name())
            nodes += [following for following, _ in node.next_functions if following is not None]
        assert ("FusedBackward" in names) is (classes == 8192)


def test_many_classes_have_a_second_backward_and_a_second_derivative(monkeypatch):
    logits, y = many_classes(8)
    expected = torch.autograd.grad(F.cross_entropy(logits, y), logits)[0]
    monkeypatch.setattr(_cross_entropy, "MANY_CLASSES", 1)
    loss = F.cross_entropy(logits, y)
    for _ in range(3):
        assert_close(torch.autograd.grad(loss, logits, retain_graph=True)[0], expected, 1e-6)
    assert_close(torch.autograd.grad(loss, logits)[0], expected, 1e-6)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()
    exact = logits.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: F.cross_entropy(z, y, reduction="none"), (exact,))
    assert torch.autograd.gradgradcheck(lambda z: F.cross_entropy(z, y, reduction="none"), (exact,))
    batched = torch.autograd.functional.jacobian(
        lambda z: F.cross_entropy(z, y, reduction="none"), exact, vectorize=True
    )
    assert_close(
        batched, torch.autograd.functional.jacobian(lambda z: F.cross_entropy(z, y, reduction="none"), exact), 1e-12
    )


def test_many_classes_without_a_gradient_and_under_torch_func(monkeypatch):
    logits, y = many_classes(8)
    expected = F.cross_entropy(logits, y)
    slope = torch.autograd.grad(expected, logits)[0]
    monkeypatch.setattr(_cross_entropy, "MANY_CLASSES", 1)
    with torch.no_grad():
        assert_same_bits(F.cross_entropy(logits, y), expected)
    assert_close(F.cross_entropy(logits.detach(), y), expected, 0)
    plain = logits.detach()
    assert_close(torch.func.grad(lambda z: F.cross_entropy(z, y))(plain), slope, 1e-6)
    curvature = torch.func.jacrev(torch.func.grad(lambda z: F.cross_entropy(z, y)))(plain)
    expected = torch.zeros(4, 8, 4, 8)
    for i, p in enumerate(plain.softmax(1)):
        expected[i, :, i, :] = (p.diag() - p.outer(p)) / 4  # of log-sum-exp, whatever the labels
    assert_close(curvature, expected, 1e-6)


# -- from the plan to the loss -----------------------------------------------------------------------------------------


def matrix(plan) -> Tensor:
    """The plan as a float64 matrix [n, n] that mixes rows."""
    rows = torch.zeros(len(plan), len(plan), dtype=torch.float64)
    for i in range(len(plan)):
        rows[i, i] += plan.target_shares[i, 0].double()
        for j, partner in enumerate(plan.partners[i]):
            rows[i, partner] += plan.target_shares[i, j + 1].double()
    return rows


def test_a_chain_of_mixups_is_the_dense_computation():
    y = torch.randint(0, CLASSES, (7,), generator=generator(13))
    logits = torch.randn(7, CLASSES, generator=generator(14), dtype=torch.float64)
    chain = Chain([Mixup(1.0), LabelSmoothing(0.1), InputMixup(1.0), LabelSmoothing(0.2)], seed=0)
    plan = chain.plan(7, y, step=3)
    soft = F.one_hot(y, CLASSES).double()
    for part in plan.plans:
        soft = matrix(part) @ soft
        soft = soft * (1 - part.smoothing) + part.smoothing / CLASSES
    mixed = plan.target(y)
    assert mixed.ids.shape == (4, 7)
    assert mixed.smoothing == pytest.approx(1 - 0.9 * 0.8)
    assert_close(mixed.dense(CLASSES, torch.float64), soft, 1e-6)
    assert_close(F.cross_entropy(logits, mixed), -(soft * logits.log_softmax(1)).sum(1).mean(), 1e-6)
    assert_close(F.cross_entropy(logits, mixed, reduction="none"), -(soft * logits.log_softmax(1)).sum(1), 1e-6)
    assert_close(
        (logits.argmax(1) == mixed),
        (matrix(plan.plans[2]) @ matrix(plan.plans[0]) @ F.one_hot(y, CLASSES).double())[
            torch.arange(7), logits.argmax(1)
        ],
        1e-6,
    )


def test_a_map_of_classes_is_mixed_row_by_row():
    masks = torch.randint(0, CLASSES, (5, 3, 2), generator=generator(15))
    masks[0, 0, 0] = 255  # the usual "void" of segmentation
    logits = torch.randn(5, CLASSES, 3, 2, generator=generator(16), dtype=torch.float64)
    plan = Mixup(1.0, seed=0).plan(5, step=0)
    y = plan.target(masks)
    share = torch.stack([plan.weight, 1 - plan.weight]).double()
    expected = by_hand(log_softmax_by_hand(logits), torch.stack([masks, masks[plan.partner]]), share, ignore_index=255)
    assert_close(F.cross_entropy(logits, y, ignore_index=255), expected, 1e-6)


def test_a_training_loop_as_people_write_it_learns_what_soft_labels_teach():
    """Accumulated metrics, an optimizer, a loss scaler: the parameters follow those of a loop over dense soft labels."""
    x = torch.randn(32, 5, generator=generator(17))
    labels = torch.randint(0, CLASSES, (32,), generator=generator(18))

    def train(criterion, to_target):
        model = nn.Linear(5, CLASSES)
        with torch.no_grad():
            model.weight.copy_(torch.randn(CLASSES, 5, generator=generator(19)))
            model.bias.zero_()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        scaler = torch.amp.GradScaler("cpu")
        total, seen, correct = 0.0, 0, 0.0
        for step in range(8):
            rows = slice(step % 4 * 8, step % 4 * 8 + 8)
            plan = Mixup(1.0, seed=0).plan(8, labels[rows], step=step)
            input, target = plan(x[rows]), plan.target(labels[rows])
            input, target = input.to("cpu", non_blocking=True), target.to("cpu", non_blocking=True).long().data
            output = model(input)
            loss = criterion(output.view(-1, CLASSES), to_target(target.view(-1)))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            total += loss.item() * target.size(0)
            seen += target.shape[0]
            correct += (output.argmax(dim=1) == target).float().sum().item()
        return model, total / seen, correct / seen

    model, loss, accuracy = train(nn.CrossEntropyLoss(label_smoothing=0.1), lambda y: y)
    dense, dense_loss, _ = train(nn.CrossEntropyLoss(label_smoothing=0.1), lambda y: y.dense(CLASSES))
    assert_close(model.weight, dense.weight, 1e-5)
    assert loss == pytest.approx(dense_loss, rel=1e-5)
    assert 0 < accuracy < 1


# -- refusals of the losses --------------------------------------------------------------------------------------------

Y = MixedTarget(torch.tensor([[0, 1, 2], [1, 1, 0]]), torch.tensor([[0.75, 0.5, 1.0], [0.25, 0.5, 0.0]]))
LOGITS = torch.randn(3, CLASSES, generator=generator(20))


@pytest.mark.parametrize(
    ("call", "kind", "sentence"),
    [
        (
            lambda: F.mse_loss(LOGITS, Y),
            TypeError,
            r"mse_loss takes numbers.*for regression write \.float\(\) before mixing",
        ),
        (
            lambda: nn.MSELoss()(LOGITS, Y),
            TypeError,
            r"mse_loss takes numbers.*for regression write \.float\(\) before mixing",
        ),
        (lambda: F.l1_loss(LOGITS, Y), TypeError, r"l1_loss takes numbers.*mixup\(x, y\.float\(\)\)"),
        (
            lambda: nn.BCEWithLogitsLoss()(LOGITS, Y),
            TypeError,
            r"binary_cross_entropy_with_logits .*mixup\(x, y\.float\(\)\).*y\.dense\(2\)\[:, 1\]",
        ),
        (lambda: nn.BCELoss()(LOGITS.sigmoid(), Y), TypeError, r"binary_cross_entropy takes .*y\.dense\(num_classes\)"),
        (lambda: nn.KLDivLoss()(LOGITS, Y), TypeError, r"kl_div takes soft labels: pass y\.dense\(num_classes\)"),
        (
            lambda: nn.MultiMarginLoss()(LOGITS, Y),
            TypeError,
            r"multi_margin_loss has no rule .*vicinal\.losses\.mixed\(criterion\)",
        ),
        (lambda: LOGITS.gather(1, Y), TypeError, r"gather would look up .*vicinal\.losses\.mixed\(criterion\)"),
        (lambda: F.smooth_l1_loss(LOGITS, Y), TypeError, r"smooth_l1_loss .*mixup\(x, y\.float\(\)\)"),
        (lambda: F.huber_loss(LOGITS, Y), TypeError, r"huber_loss .*mixup\(x, y\.float\(\)\)"),
        (lambda: F.poisson_nll_loss(LOGITS, Y), TypeError, r"poisson_nll_loss .*mixup\(x, y\.float\(\)\)"),
        (
            lambda: nn.GaussianNLLLoss()(LOGITS[:, 0], Y, LOGITS[:, 1].exp()),
            TypeError,
            r"gaussian_nll_loss .*\.float\(\)",
        ),
        (lambda: nn.MultiLabelSoftMarginLoss()(LOGITS, Y), TypeError, r"multilabel_soft_margin_loss .*y\.dense\("),
        (lambda: nn.CosineEmbeddingLoss()(LOGITS, LOGITS, Y), TypeError, r"cosine_embedding_loss .*losses\.mixed"),
        (lambda: F.cross_entropy(Y, LOGITS), TypeError, r"prediction, the first argument of a loss, cannot be a Mixed"),
        (lambda: F.cross_entropy(Y, Y), TypeError, r"prediction, the first argument of a loss, cannot be a Mixed"),
        (lambda: F.nll_loss(Y, LOGITS), TypeError, r"prediction, the first argument of a loss, cannot be a Mixed"),
        (lambda: F.cross_entropy(LOGITS, Y, size_average=False), ValueError, r"use reduction="),
        (lambda: F.cross_entropy(LOGITS, Y, reduce=True), ValueError, r"use reduction="),
        (lambda: F.nll_loss(LOGITS, Y, size_average=True), ValueError, r"use reduction="),
        (lambda: F.nll_loss(LOGITS, Y, reduce=False), ValueError, r"use reduction="),
        (
            lambda: F.cross_entropy(LOGITS, Y, reduction="avg"),
            ValueError,
            r"one of \('none', 'mean', 'sum'\), got 'avg'",
        ),
        (lambda: F.nll_loss(LOGITS, Y, reduction="batchmean"), ValueError, r"got 'batchmean'"),
        (lambda: F.cross_entropy(LOGITS, Y, label_smoothing=1.5), ValueError, r"in \[0, 1\], got 1\.5"),
        (lambda: F.cross_entropy(LOGITS[0], Y), ValueError, r"logits \[4\] do not fit class indices \[3\]"),
        (lambda: F.cross_entropy(LOGITS[:2], Y), ValueError, r"logits \[2, 4\] do not fit class indices \[3\]"),
        (lambda: F.cross_entropy(LOGITS[:1], Y), ValueError, r"logits \[1, 4\] do not fit class indices \[3\]"),
        (lambda: F.cross_entropy(LOGITS[:, :, None], Y), ValueError, r"\[3, 4, 1\] do not fit class indices \[3\]"),
        (lambda: F.nll_loss(LOGITS[:2], Y), ValueError, r"log-probabilities \[2, 4\] do not fit class indices \[3\]"),
    ],
)
def test_a_loss_without_meaning_is_refused_with_a_way_out(call, kind, sentence):
    with pytest.raises(kind, match=sentence):
        call()


def test_integer_one_hot_labels_are_told_to_become_numbers():
    one_hot = F.one_hot(torch.tensor([0, 2, 1]), CLASSES)
    y = Mixup(1.0, seed=0).plan(3, step=0).target(one_hot)
    with pytest.raises(ValueError, match="make them floating point before mixing"):
        F.cross_entropy(LOGITS, y)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "class weights"])
@pytest.mark.parametrize("wrong", [CLASSES, -1, -100])
def test_an_id_that_is_no_class_and_not_ignored_is_an_error_as_in_pytorch(wrong, weighted, loss):
    weight = torch.ones(CLASSES) if weighted else None
    logits = LOGITS.clone().requires_grad_()
    with pytest.raises(IndexError):
        getattr(F, loss)(logits, torch.tensor([0, wrong, 1]), weight, ignore_index=255)
    for ids in ([[0, wrong, 1], [0, 1, 2]], [[0, 1, 2], [0, 1, wrong]]):
        y = MixedTarget(torch.tensor(ids), torch.full((2, 3), 0.5))
        with pytest.raises((IndexError, RuntimeError), match=f"{wrong} is out of bounds"):
            getattr(F, loss)(logits, y, weight, ignore_index=255)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("smoothing", SMOOTHING)
@pytest.mark.parametrize("classes", [CLASSES - 1, CLASSES + 1])
def test_class_weights_are_one_for_each_class(classes, smoothing):
    y = MixedTarget(torch.tensor([[0, 1, 1], [1, 0, 0]]), torch.full((2, 3), 0.5))
    sentence = rf"weight \[{classes}\] must hold one number for each of the 4 classes"
    with pytest.raises(ValueError, match=sentence):
        F.cross_entropy(LOGITS.clone().requires_grad_(), y, torch.ones(classes), label_smoothing=smoothing)
    with pytest.raises(ValueError, match=sentence):
        F.nll_loss(LOGITS, y, torch.ones(classes))


def test_plain_labels_are_left_to_pytorch():
    ids = torch.tensor([0, 1, 2])
    assert_same_bits(F.cross_entropy(LOGITS, ids), -LOGITS.log_softmax(1)[torch.arange(3), ids].mean())


@pytest.mark.parametrize("ignored", [-100, -1])
def test_a_plan_s_own_weights_and_ignored_ids(ignored):
    """The loss of a fresh plan takes the shortest way; ids that are ignored, or lie outside, must not slip through it."""
    plan = Mixup(0.7, seed=0).plan(6, step=1)
    y = torch.tensor([0, 3, 1, 2, 2, 0])
    logits = draw(8, (6,), 2, dtype=torch.float32)[0]
    target = plan.target(y)
    assert target.slopes is not None
    log_p = logits.double().log_softmax(1)
    loss = F.cross_entropy(logits, target)
    assert loss.item() == pytest.approx(by_hand(log_p, target.ids, target.weight.double()).item(), abs=1e-6)
    slope = torch.autograd.grad(loss, logits)[0]
    expected = torch.autograd.grad(by_hand(log_p, target.ids, target.weight.double()), logits)[0]
    assert torch.allclose(slope, expected, atol=1e-7)

    y[2] = ignored
    target = plan.target(y)
    if ignored == -100:
        expected = by_hand(logits.double().log_softmax(1), target.ids, target.weight.double())
        assert F.cross_entropy(logits, target).item() == pytest.approx(expected.item(), abs=1e-6)
    else:
        with pytest.raises((IndexError, RuntimeError)):
            F.cross_entropy(logits, target)
        kept = F.cross_entropy(logits, target, ignore_index=-1)
        expected = by_hand(logits.double().log_softmax(1), target.ids, target.weight.double(), ignore_index=-1)
        assert kept.item() == pytest.approx(expected.item(), abs=1e-6)
    y[2] = 4
    with pytest.raises((IndexError, RuntimeError)):
        F.cross_entropy(logits, plan.target(y))
    with pytest.raises(ValueError, match="do not fit"):
        F.cross_entropy(logits[:5], plan.target(y))
