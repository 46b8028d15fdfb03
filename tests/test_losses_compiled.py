"""The losses of a MixedTarget under torch.compile: whole graphs, the values of eager mode, and few compilations."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

import installed
from vicinal import ERM, Chain, Dirichlet, LabelSmoothing, MixedTarget, Mixup
from vicinal.metrics import mixed_accuracy

CLASSES = 4
INDUCTOR_WARNS = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.* is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(seed: int, shape: tuple[int, ...], k: int, dtype=torch.float32) -> tuple[Tensor, MixedTarget]:
    g = generator(seed)
    logits = torch.randn(shape[0], CLASSES, *shape[1:], generator=g).to(dtype).requires_grad_()
    ids = torch.randint(0, CLASSES, (k, *shape), generator=g)
    ids[torch.rand(ids.shape, generator=g) < 0.2] = -100
    weight = torch.rand(k, shape[0], generator=g)
    return logits, MixedTarget(ids, weight / weight.sum(0))


def assert_same_loss_and_gradient(compiled, eager, logits: Tensor, y, tolerance: float = 1e-6) -> None:
    got, expected = compiled(logits, y), eager(logits, y)
    assert got.dtype == expected.dtype
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
    got, expected = (torch.autograd.grad(loss.double().sum(), logits)[0] for loss in (got, expected))
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@installed.traces_targets
@pytest.mark.parametrize(
    ("k", "shape", "reduction"),
    [(1, (6,), "mean"), (2, (6,), "none"), (2, (2, 3, 2), "mean"), (3, (6,), "mean"), (3, (2, 3, 2), "sum")],
    ids=str,
)
def test_every_setting_compiles_whole_and_gives_the_eager_loss(k, shape, reduction):
    weight = torch.tensor([0.5, 2.0, 1.25, 0.75])
    logits, y = draw(k, shape, k)
    for smoothing, ignore_index in itertools.product([0.0, 0.1], [-100, 1]):
        y.ids[y.ids == (-100 if ignore_index == 1 else 1)] = ignore_index
        for criterion in (
            nn.CrossEntropyLoss(weight, ignore_index=ignore_index, label_smoothing=smoothing, reduction=reduction),
            nn.NLLLoss(weight, ignore_index=ignore_index, reduction=reduction),
        ):
            compiled = torch.compile(criterion, backend="eager", fullgraph=True)
            assert_same_loss_and_gradient(compiled, criterion, logits, y)


@installed.traces_targets
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
def test_every_precision_compiles_with_its_backward(dtype, autocast):
    """aot_eager traces the backward pass too."""
    logits, y = draw(4, (6,), 2, dtype)

    def loss(logits: Tensor, y: MixedTarget) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return F.cross_entropy(logits, y, label_smoothing=0.1)

    tolerance = 1e-6 if autocast or dtype != torch.bfloat16 else 1e-2
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert_same_loss_and_gradient(compiled, loss, logits, y, tolerance)
    if autocast and dtype == torch.bfloat16:
        assert compiled(logits, y).dtype == torch.float32


@installed.traces_targets
@pytest.mark.parametrize("k", [1, 2])
def test_a_lambda_of_one_agrees_with_pytorch_to_rounding(k):
    """A compiled graph cannot look at lambda, so it computes the mix."""
    logits, y = draw(6, (6,), k)
    y = MixedTarget(y.ids, torch.eye(k)[0][:, None].expand(k, 6))
    compiled = torch.compile(F.cross_entropy, backend="aot_eager", fullgraph=True)
    assert_same_loss_and_gradient(compiled, lambda logits, y: F.cross_entropy(logits, y.ids[0]), logits, y)


@installed.traces_targets
def test_changed_shares_of_a_single_id_are_seen_by_a_compiled_graph():
    logits, y = draw(5, (6,), 1)
    compiled = torch.compile(F.cross_entropy, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        assert_same_loss_and_gradient(compiled, F.cross_entropy, logits, y)
        y.weight.mul_(torch.linspace(0.5, 2, 6))


@installed.traces_targets
def test_a_target_may_be_built_and_reshaped_inside_the_graph():
    logits, y = draw(7, (4, 3), 2)

    def loss(logits: Tensor, ids: Tensor, weight: Tensor) -> Tensor:
        y = MixedTarget(ids, weight, smoothing=0.1).to(logits.device).long()
        flat = F.cross_entropy(logits.movedim(1, -1).reshape(-1, CLASSES), y.view(-1))
        flat = (
            flat + F.cross_entropy(logits[..., 1:], y[:, 1:]) + F.cross_entropy(logits[..., 0], y.unsqueeze(1)[:, 0, 0])
        )
        flat = flat + (y != -100).sum() + torch.cat([y, y]).largest().float().mean()
        return flat + F.cross_entropy(logits[1:3], y[1:3]) + len(y) + y.size(0)

    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, y.ids, y.weight), loss(logits, y.ids, y.weight))


@installed.traces_targets
def test_accuracy_compiles_whole():
    logits, y = draw(8, (6,), 2)

    def accuracy(logits: Tensor, y: MixedTarget) -> tuple[Tensor, ...]:
        best = logits.argmax(1)
        return (
            best == y,
            y == best,
            best != y,
            torch.eq(best, y),
            best.eq(y.view_as(best)),
            mixed_accuracy(logits, y, 2),
        )

    for got, expected in zip(
        torch.compile(accuracy, backend="eager", fullgraph=True)(logits, y), accuracy(logits, y), strict=True
    ):
        assert torch.equal(got, expected)


# -- compilations ------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def batch(n: int, seed: int) -> tuple[Tensor, Tensor]:
    g = generator(seed)
    return torch.randn(n, 5, generator=g), torch.randint(0, CLASSES, (n,), generator=g)


@installed.traces_targets
def test_another_lambda_is_no_reason_to_compile_again():
    net, counter = Net(), CompileCounter()
    step = torch.compile(lambda x, y: F.cross_entropy(net(x), y), backend=counter, fullgraph=True)
    mixup = Mixup(0.4)
    losses = []
    for i in range(6):
        x, y = mixup(*batch(16, i))
        losses.append(step(x, y).item())
        assert losses[-1] == pytest.approx(F.cross_entropy(net(x), y).item(), rel=1e-6)
    assert len(set(losses)) == 6
    assert counter.frame_count == 1


@installed.traces_targets
@pytest.mark.parametrize(
    "vicinity",
    [ERM(), Mixup(1.0), Mixup(Dirichlet(1.0, k=3)), Chain([Mixup(1.0), LabelSmoothing(0.1)])],
    ids=["one id", "two ids", "three ids", "smoothed"],
)
def test_a_last_batch_of_its_own_size_compiles_once_more_at_most(vicinity):
    net, counter = Net(), CompileCounter()
    step = torch.compile(lambda x, y: F.cross_entropy(net(x), y), backend=counter, fullgraph=True)
    for i, n in enumerate([16, 16, 7, 16, 11, 9, 16, 13]):
        x, y = vicinity(*batch(n, i))
        assert step(x, y).item() == pytest.approx(F.cross_entropy(net(x), y).item(), rel=1e-5)
    assert counter.frame_count <= 2


@installed.traces_targets
def test_plan_forward_and_loss_make_one_graph():
    net, counter = Net(), CompileCounter()
    mixup = Mixup(1.0)

    def step(x: Tensor, y: Tensor, plan) -> Tensor:
        return F.cross_entropy(net(plan(x)), plan.target(y))

    compiled = torch.compile(step, backend=counter, fullgraph=True)
    for i, n in enumerate([16, 16, 7, 11, 16, 9]):
        x, y = batch(n, i)
        plan = mixup.plan(n, y, step=i)
        assert compiled(x, y, plan).item() == pytest.approx(step(x, y, plan).item(), rel=1e-5)
    assert counter.frame_count <= 2


@installed.traces_targets
@pytest.mark.slow
@INDUCTOR_WARNS
def test_the_default_backend_gives_the_eager_loss_and_gradient():
    weight = torch.tensor([0.5, 2.0, 1.25, 0.75])
    for shape, k in [((16,), 2), ((3, 4, 2), 3)]:
        logits, y = draw(9, shape, k)
        for reduction in ("none", "mean"):
            criterion = nn.CrossEntropyLoss(weight, label_smoothing=0.1, reduction=reduction)
            assert_same_loss_and_gradient(torch.compile(criterion, fullgraph=True), criterion, logits, y, 1e-5)


@installed.traces_targets
@pytest.mark.slow
@INDUCTOR_WARNS
def test_the_default_backend_adds_nothing_for_an_impossible_class_of_share_zero():
    logits = torch.tensor([[1.0, 2.0, -torch.inf], [0.5, 0.0, 1.0]], requires_grad=True)
    y = MixedTarget(torch.tensor([[0, 1], [2, 0]]), torch.tensor([[1.0, 0.5], [0.0, 0.5]]))
    assert F.cross_entropy(logits, y).isfinite()
    assert_same_loss_and_gradient(torch.compile(F.cross_entropy, fullgraph=True), F.cross_entropy, logits, y, 1e-5)
