"""`losses.mixed(criterion)`: any loss on class indices against a plain loop over rows and class indices."""

import functools
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal import Dirichlet, LabelSmoothing, MixedTarget, Mixup
from vicinal.losses import mixed

CLASSES = 4
N = 6


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(seed: int, shape: tuple[int, ...] = (N,), k: int = 2, per_entry: bool = False) -> tuple[Tensor, MixedTarget]:
    g = generator(seed)
    logits = torch.randn(shape[0], CLASSES, *shape[1:], generator=g, dtype=torch.float64).requires_grad_()
    weight = torch.rand(k, *(shape if per_entry else shape[:1]), generator=g, dtype=torch.float64)
    return logits, MixedTarget(torch.randint(0, CLASSES, (k, *shape), generator=g), weight / weight.sum(0))


def one_lambda(seed: int, share: float = 0.3) -> tuple[Tensor, MixedTarget]:
    logits, y = draw(seed)
    return logits, MixedTarget(y.ids, torch.tensor([[share], [1 - share]], dtype=torch.float64).expand(2, N))


def focal_rows(logits: Tensor, ids: Tensor, gamma: float = 2.0) -> Tensor:
    ce = F.cross_entropy(logits, ids, reduction="none")
    return (1 - torch.exp(-ce)) ** gamma * ce


def focal(logits: Tensor, ids: Tensor, gamma: float = 2.0, reduction: str = "mean") -> Tensor:
    rows = focal_rows(logits, ids, gamma)
    return rows if reduction == "none" else rows.mean() if reduction == "mean" else rows.sum()


class Focal(nn.Module):
    """As it is copied about: the cross-entropy of each entry, weighted, and the mean of all."""

    def __init__(self, gamma: float = 2.0, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.gamma, self.weight, self.reduction = gamma, weight, reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        ce = F.cross_entropy(logits, target, weight=self.weight, reduction="none")
        rows = (1 - torch.exp(-ce)) ** self.gamma * ce
        return rows if self.reduction == "none" else getattr(rows, self.reduction)()


def poly1(logits: Tensor, ids: Tensor) -> Tensor:
    ce = F.cross_entropy(logits, ids, reduction="none")
    return ce + 1 - torch.exp(-ce)


class ArcFace(nn.Module):
    """A head that moves the angle to the row's own class, and its loss."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, CLASSES, generator=generator(7), dtype=torch.float64))
        self.reduction = reduction

    def forward(self, embedding: Tensor, ids: Tensor) -> Tensor:
        cosine = F.normalize(embedding) @ F.normalize(self.weight).T
        own = torch.zeros_like(cosine).scatter_(1, ids.view(-1, 1), 1)
        logits = 8 * torch.where(own == 1, torch.cos(torch.acos(cosine.clamp(-0.999, 0.999)) + 0.5), cosine)
        return F.cross_entropy(logits, ids, reduction=self.reduction)


def dice(logits: Tensor, ids: Tensor) -> Tensor:
    p, g = logits.softmax(1), F.one_hot(ids, CLASSES).movedim(-1, 1).to(logits.dtype)
    dims = (0, *range(2, logits.ndim))
    return 1 - (2 * (p * g).sum(dims) / (p + g).sum(dims)).mean()


def triplet(embedding: Tensor, ids: Tensor) -> Tensor:
    distance, same = torch.cdist(embedding, embedding), ids[:, None] == ids[None]
    farthest = distance.masked_fill(~same, -1).amax(1)
    nearest = distance.masked_fill(same, math.inf).amin(1)
    return F.relu(farthest - nearest.clamp(max=9) + 0.3).mean()


def by_rows(criterion, logits: Tensor, y: MixedTarget) -> Tensor:
    """sum_k share_k * criterion(row, ids_k), row by row."""
    rows = []
    for i in range(len(y)):
        row = sum(y.weight[j, i] * criterion(logits[i : i + 1], y.ids[j, i : i + 1]) for j in range(len(y.ids)))
        rows.append(row)
    return torch.cat([row.flatten() for row in rows])


def assert_same_with_gradient(got: Tensor, expected: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)
    slope = torch.rand(got.shape, generator=generator(1), dtype=got.dtype)
    grads = [torch.autograd.grad(loss, inputs, slope, retain_graph=True) for loss in (got, expected)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


# -- losses per row ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("loss", [focal_rows, poly1, functools.partial(focal_rows, gamma=1.0), ArcFace("none")])
def test_one_loss_per_row_is_mixed_row_by_row(loss, k):
    logits, y = draw(2, k=k)
    inputs = (logits, *(loss.parameters() if isinstance(loss, nn.Module) else ()))
    assert_same_with_gradient(mixed(loss)(logits, y), by_rows(loss, logits, y), *inputs)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("k", [2, 3])
def test_a_reduction_is_that_of_the_criterion(k, reduction):
    logits, y = draw(3, k=k)
    rows = by_rows(focal_rows, logits, y)
    expected = {"none": rows, "mean": rows.mean(), "sum": rows.sum()}[reduction]
    for call in (
        lambda: mixed(Focal(reduction=reduction))(logits, y),
        lambda: mixed(Focal(reduction=reduction))(logits, target=y),
        lambda: mixed(functools.partial(focal, reduction=reduction))(logits, y),
        lambda: mixed(focal)(logits, y, reduction=reduction),
        lambda: mixed(focal)(logits, y, 2.0, reduction),
    ):
        assert_same_with_gradient(call(), expected, logits)
    head = ArcFace(reduction)
    rows = by_rows(ArcFace("none"), logits, y)
    expected = {"none": rows, "mean": rows.mean(), "sum": rows.sum()}[reduction]
    torch.testing.assert_close(mixed(head)(logits, y), expected)


def test_torch_s_own_losses_on_class_indices():
    logits, y = draw(4, k=3)
    weight = torch.tensor([0.5, 2.0, 1.25, 0.75], dtype=torch.float64)
    for settings in ({}, {"weight": weight}, {"margin": 0.5}):
        rows = by_rows(functools.partial(F.multi_margin_loss, reduction="none", **settings), logits, y)
        assert_same_with_gradient(mixed(nn.MultiMarginLoss(**settings))(logits, y), rows.mean(), logits)
        assert_same_with_gradient(mixed(F.multi_margin_loss)(logits, y, **settings), rows.mean(), logits)
    log_p = logits.log_softmax(1)[:, None].expand(N, 5, CLASSES).movedim(1, 0)
    lengths = torch.full((N,), 5), torch.full((N,), 2)
    heads = MixedTarget(
        torch.randint(1, CLASSES, (2, N, 2), generator=generator(5)), y.weight[:2] / y.weight[:2].sum(0)
    )
    got = mixed(nn.CTCLoss(reduction="none"))(log_p, heads, *lengths)
    expected = sum(heads.weight[j] * F.ctc_loss(log_p, heads.ids[j], *lengths, reduction="none") for j in (0, 1))
    assert_same_with_gradient(got, expected, logits)


@pytest.mark.parametrize("per_entry", [False, True])
def test_maps_are_mixed_entry_by_entry(per_entry):
    logits, y = draw(6, (3, 2, 2), 2, per_entry)
    weight = y.weight if per_entry else y.weight[:, :, None, None]
    expected = sum(weight[j] * focal_rows(logits, y.ids[j]) for j in (0, 1))
    assert_same_with_gradient(mixed(focal_rows)(logits, y), expected, logits)
    assert_same_with_gradient(mixed(Focal())(logits, y), expected.mean(), logits)


def test_one_loss_per_row_of_a_map_takes_the_shares_of_the_row():
    logits, y = draw(8, (3, 2, 2))

    def dice_rows(z: Tensor, ids: Tensor) -> Tensor:
        return torch.stack([dice(z[i : i + 1], ids[i : i + 1]) for i in range(len(z))])

    expected = sum(y.weight[j] * dice_rows(logits, y.ids[j]) for j in (0, 1))
    assert_same_with_gradient(mixed(dice_rows)(logits, y), expected, logits)
    per_entry = draw(8, (3, 2, 2), per_entry=True)[1]
    with pytest.raises(ValueError, match=r"returns losses \[3\] of targets \[3, 2, 2\]: it must return one per entry"):
        mixed(dice_rows)(logits, per_entry)


# -- one number for the batch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [dice, triplet, ArcFace("mean").forward, lambda z, y: focal_rows(z, y).mean()])
def test_one_number_for_the_batch_is_mixed_where_all_rows_have_the_same_shares(loss):
    logits, y = one_lambda(9)
    expected = 0.3 * loss(logits, y.ids[0]) + 0.7 * loss(logits, y.ids[1])
    assert_same_with_gradient(mixed(loss)(logits, y), expected, logits)
    with pytest.raises(
        ValueError, match=r"one number for the batch.*same shares: draw one lambda per batch, or let it"
    ):
        mixed(loss)(*draw(9))
    with pytest.raises(ValueError, match="one number for the batch"):
        mixed(loss)(logits, MixedTarget(y.ids, 2 * y.weight))


def test_dice_of_maps_of_a_plan():
    ids = torch.randint(0, CLASSES, (3, 4, 4), generator=generator(10))
    logits = torch.randn(3, CLASSES, 4, 4, generator=generator(11), dtype=torch.float64).requires_grad_()
    plan = Mixup(Dirichlet(1.0, k=3), seed=3).plan(3, step=0)
    expected = sum(
        share * dice(logits, of)
        for share, of in zip(plan.shares[0].double(), (ids, *(ids[p] for p in plan.partners.T)), strict=True)
    )
    assert_same_with_gradient(mixed(dice)(logits, plan.target(ids)), expected, logits)


# -- means -------------------------------------------------------------------------------------------------------------


class Own(nn.CrossEntropyLoss):
    """Not known to be cross-entropy, so that the rule must be found out."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        assert type(target) is Tensor
        return super().forward(input, target)


@pytest.mark.parametrize("shape", [(N,), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_cross_entropy_has_the_same_rule_known_or_found_out(k, shape):
    options = itertools.product(["none", "mean", "sum"], [False, True], [-100, 1], [0.0, 0.1])
    for reduction, weighted, ignore_index, smoothing in options:
        logits, y = draw(12, shape, k)
        if k == 1:
            y = MixedTarget(y.ids, torch.ones_like(y.weight))
        y.ids[torch.rand(y.ids.shape, generator=generator(13)) < 0.2] = ignore_index
        settings = {
            "weight": torch.tensor([0.5, 2.0, 1.25, 0.75], dtype=torch.float64) if weighted else None,
            "ignore_index": ignore_index,
            "label_smoothing": smoothing,
            "reduction": reduction,
        }
        expected = F.cross_entropy(logits, y, **settings)
        assert torch.equal(mixed(nn.CrossEntropyLoss(**settings))(logits, y), expected)
        assert torch.equal(mixed(F.cross_entropy)(logits, y, **settings), expected)
        assert_same_with_gradient(mixed(Own(**settings))(logits, y), expected, logits)


def test_weights_of_examples_weigh_the_mean():
    logits, y = draw(14)
    w = torch.rand(N, generator=generator(15), dtype=torch.float64) + 0.1
    y = MixedTarget(y.ids, y.weight, rows=torch.stack([torch.arange(N), torch.arange(N).roll(1)]))
    share = y.weight * torch.stack([w, w.roll(1)])
    total = sum((share[j] * focal_rows(logits, y.ids[j])).sum() for j in (0, 1))
    assert_same_with_gradient(mixed(Focal())(logits, y.weighted(w)), total / share.sum(), logits)
    assert_same_with_gradient(mixed(Focal(reduction="sum"))(logits, y.weighted(w)), total, logits)
    single = MixedTarget(y.ids[:1], torch.ones(1, N).double(), rows=torch.arange(N)[None])
    expected = (w * focal_rows(logits, y.ids[0])).sum() / w.sum()
    assert_same_with_gradient(mixed(Focal())(logits, single.weighted(w)), expected, logits)


class Ignoring(nn.Module):
    """Focal loss whose mean divides by the entries that count, by all, by their class weights, or by something odd."""

    def __init__(self, divide: str, weight: Tensor | None = None) -> None:
        super().__init__()
        self.divide, self.weight, self.reduction, self.ignore_index = divide, weight, "mean", -100

    def forward(self, logits: Tensor, ids: Tensor) -> Tensor:
        ce = F.cross_entropy(logits, ids, self.weight, ignore_index=-100, reduction="none")
        rows = (1 - torch.exp(-ce)) ** 2 * ce
        if self.reduction == "none":
            return rows
        counted = ids != -100
        weights = torch.ones(CLASSES).double() if self.weight is None else self.weight
        by = {"counted": counted.sum(), "all": len(ids), "weights": weights[ids[counted]].sum(), "odd": 3.5}
        return rows.sum() / by[self.divide]


@pytest.mark.parametrize("late", [False, True], ids=["at once", "in a later batch"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("divide", ["counted", "all", "weights"])
def test_what_a_mean_divides_by_is_found_out(divide, weighted, late):
    weight = torch.tensor([0.5, 2.0, 1.25, 0.75], dtype=torch.float64) if weighted else None
    criterion = Ignoring(divide, weight)
    loss = mixed(criterion)
    logits, y = draw(16)
    if late:  # a first batch in which nothing is ignored
        loss(logits, y)
    y.ids[0, 1] = y.ids[1, 4] = -100
    c = torch.ones(CLASSES).double() if weight is None else weight
    counts = (y.ids != -100) * y.weight
    by = {"counted": counts.sum(), "all": y.weight.sum(), "weights": (counts * c[y.ids.clamp(min=0)]).sum()}[divide]
    criterion.reduction = "none"
    total = sum((y.weight[j] * criterion(logits, y.ids[j])).sum() for j in (0, 1))
    criterion.reduction = "mean"
    assert_same_with_gradient(loss(logits, y), total / by, logits)


def test_a_mean_that_cannot_be_explained_is_refused():
    with pytest.raises(
        ValueError, match=r"the mean of this criterion on plain class indices is .*, but its losses come to"
    ):
        mixed(Ignoring("odd"))(*draw(17))


def test_a_second_look_is_taken_only_once():
    calls = []

    class Counted(Focal):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            calls.append(self.reduction)
            return super().forward(logits, target)

    loss = mixed(Counted())
    loss(*draw(18))
    assert calls == ["none", "none", "mean", "mean"]
    loss(*draw(19))
    assert calls[4:] == ["none", "none"]


# -- what is left alone, and what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss", [Focal(), focal_rows, dice, triplet, ArcFace(), nn.CrossEntropyLoss(), nn.MultiMarginLoss()]
)
def test_plain_class_indices_and_lambda_one_are_the_criterion_s_own(loss):
    logits, y = draw(21)
    ids = y.ids[0]
    expected = loss(logits, ids)
    assert torch.equal(mixed(loss)(logits, ids), expected)
    for unmixed in (
        MixedTarget(ids[None], torch.ones(1, N)),
        MixedTarget(y.ids, torch.tensor([[1.0], [0.0]]).expand(2, N)),
        MixedTarget(ids[None], torch.ones(1, 1)),
    ):
        assert torch.equal(mixed(loss)(logits, unmixed), expected)


def test_a_module_keeps_its_parameters_and_mode():
    head = ArcFace()
    loss = mixed(head)
    assert [p is head.weight for p in loss.parameters()] == [True]
    assert loss.eval().criterion is head
    assert not head.training


def test_infinite_losses_of_no_share_add_nothing():
    logits = torch.tensor([[0.0, -math.inf], [1.0, 2.0]])
    y = MixedTarget(torch.tensor([[0, 0], [1, 1]]), torch.tensor([[1.0, 0.5], [0.0, 0.5]]))

    def rows(z: Tensor, ids: Tensor) -> Tensor:
        return F.cross_entropy(z, ids, reduction="none")

    torch.testing.assert_close(mixed(rows)(logits, y), F.cross_entropy(logits, y, reduction="none"))


@pytest.mark.parametrize(
    ("call", "kind", "sentence"),
    [
        (lambda z, y: mixed(3), TypeError, "a criterion is a module or a function, got int"),
        (lambda z, y: mixed(focal)(y, y), TypeError, "takes one MixedTarget, got 2"),
        (lambda z, y: mixed(lambda z, y: (z, y))(z, y), TypeError, "returns a tensor of losses, got tuple"),
        (lambda z, y: mixed(lambda z, y: z)(z, y), ValueError, r"returns losses \[6, 4\] of targets \[6\]"),
        (lambda z, y: mixed(Focal(reduction="batchmean"))(z, y), ValueError, "got 'batchmean'"),
        (
            lambda z, y: mixed(focal)(z, y.smoothed(0.1)),
            ValueError,
            r"is smoothed by 0\.1, and only cross-entropy knows",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused(call, kind, sentence):
    with pytest.raises(kind, match=sentence):
        call(*draw(22))


class Flat:
    """As fastai's losses: an object that claims the signature of its inner module's constructor, and sets its reduction."""

    def __init__(self, reduction: str) -> None:
        self.inner = Focal(reduction=reduction)
        functools.update_wrapper(self, Focal, updated=())

    @property
    def reduction(self) -> str:
        return self.inner.reduction

    @reduction.setter
    def reduction(self, value: str) -> None:
        self.inner.reduction = value

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.inner(logits.view(-1, CLASSES), target.view(-1))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_criterion_that_wraps_another_is_called_as_it_is_and_keeps_its_reduction(reduction):
    logits, y = draw(3)
    criterion = Flat(reduction)
    rows = sum(share * focal_rows(logits, ids) for share, ids in zip(y.weight, y.ids, strict=True))
    for _ in range(2):
        torch.testing.assert_close(mixed(criterion)(logits, y), getattr(rows, reduction)())
        assert criterion.reduction == reduction
    assert criterion(logits, y.ids[0]) == focal(logits, y.ids[0], reduction=reduction)


def test_a_smoothed_target_goes_to_cross_entropy():
    logits = torch.randn(N, CLASSES, generator=generator(23))
    y = LabelSmoothing(0.1).plan(N, step=0).target(torch.randint(0, CLASSES, (N,), generator=generator(24)))
    assert torch.equal(mixed(nn.CrossEntropyLoss())(logits, y), F.cross_entropy(logits, y))


def test_the_numbers_of_the_page_on_losses():
    """A network that predicts the label 0.7/0.3 exactly, and soft Dice on a pixel of that label."""
    logits = torch.tensor([[0.7, 0.3]]).log()
    y = MixedTarget(torch.tensor([[0], [1]]), torch.tensor([[0.7], [0.3]]))
    assert focal(logits, y).item() == pytest.approx(0.1276, abs=5e-5)
    assert mixed(focal)(logits, y).item() == pytest.approx(0.1995, abs=5e-5)
    assert mixed(Focal())(logits, y).item() == pytest.approx(0.7 * 0.09 * -math.log(0.7) + 0.3 * 0.49 * -math.log(0.3))

    def dice_of(p: float, g: float) -> float:
        return 1 - (2 * p * g / (p + g) + 2 * (1 - p) * (1 - g) / (2 - p - g)) / 2

    grid = [i / 1000 for i in range(1, 1000)]
    assert min(grid, key=lambda p: dice_of(p, 0.7)) == pytest.approx(0.70, abs=5e-3)
    assert min(grid, key=lambda p: 0.7 * dice_of(p, 1.0) + 0.3 * dice_of(p, 0.0)) == pytest.approx(0.81, abs=5e-3)
