"""The loss over many classes, whose log-probabilities and gradient share one memory: equal to the other path."""

import pytest
import torch
import torch.nn.functional as F

import vicinal as v
from vicinal import _cross_entropy

N, C = 7, 11


def values(seed: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, v.MixedTarget]:
    generator = v.Key(seed, 0, 0, 0).generator()
    logits = torch.from_numpy(3 * generator.standard_normal((N, C))).to(dtype)
    ids = torch.from_numpy(generator.integers(0, C, (3, N)))
    ids[1, 2] = ids[0, 2]  # the same class twice in a row
    ids[2, 4] = -100
    return logits, v.MixedTarget(ids, torch.from_numpy(generator.dirichlet([1.0] * 3, N).T.copy()))


def loss_and_gradient(
    many: int, monkeypatch: pytest.MonkeyPatch, logits: torch.Tensor, y: v.MixedTarget, **options: object
) -> tuple[torch.Tensor, torch.Tensor]:
    monkeypatch.setattr(_cross_entropy, "MANY_CLASSES", many)
    leaf = logits.clone().requires_grad_()
    loss = F.cross_entropy(leaf, y, **options)  # type: ignore[arg-type]
    slope = torch.linspace(1, 2, loss.numel(), dtype=loss.dtype).view(loss.shape)
    (gradient,) = torch.autograd.grad((loss * slope).sum(), leaf)
    return loss.detach(), gradient


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, 3])
def test_both_paths_are_one_loss(
    reduction: str, smoothing: float, weighted: bool, ignore_index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, y = values(1)
    if ignore_index != -100:
        y.ids[2, 4] = ignore_index
    options = {
        "reduction": reduction,
        "label_smoothing": smoothing,
        "ignore_index": ignore_index,
        "weight": torch.linspace(0.5, 2, C, dtype=torch.float64) if weighted else None,
    }
    small = loss_and_gradient(10**9, monkeypatch, logits, y, **options)
    large = loss_and_gradient(1, monkeypatch, logits, y, **options)
    torch.testing.assert_close(large, small, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_precisions(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, y = values(2, dtype)
    loss, gradient = loss_and_gradient(1, monkeypatch, logits, y)
    exact_loss, exact_gradient = loss_and_gradient(10**9, monkeypatch, logits.double(), y)
    assert loss.dtype == gradient.dtype == dtype
    tolerance = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 4 * torch.finfo(dtype).eps}
    torch.testing.assert_close(loss.double(), exact_loss, **tolerance)
    torch.testing.assert_close(gradient.double(), exact_gradient, **tolerance)


def test_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, y = values(3, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        large = loss_and_gradient(1, monkeypatch, logits, y)
        small = loss_and_gradient(10**9, monkeypatch, logits, y)
    assert large[0].dtype == small[0].dtype == torch.float32
    assert large[1].dtype == torch.bfloat16
    torch.testing.assert_close(large, small, rtol=1e-6, atol=1e-2)


def test_gradients_at_large_logits_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    # where forms by logsumexp lose three digits
    logits, y = values(4)
    logits = 1e4 * logits
    exact = loss_and_gradient(10**9, monkeypatch, logits, y)
    single = loss_and_gradient(1, monkeypatch, logits.float(), y)
    torch.testing.assert_close(single[1].double(), exact[1], rtol=1e-6, atol=1e-6)


def test_it_is_the_path_for_many_classes_and_needs_one_buffer() -> None:
    rows, classes = 4, _cross_entropy.MANY_CLASSES
    y = v.MixedTarget(torch.zeros(2, rows, dtype=torch.int64), torch.full((2, rows), 0.5))
    logits = torch.zeros(rows, classes, requires_grad=True)
    for retain in (False, True):
        loss = F.cross_entropy(logits, y)
        (node,) = [node for node in _nodes(loss.grad_fn) if node.name() == "FusedBackward"]
        buffer, before = node.saved_tensors[0].data_ptr(), node.saved_tensors[0].clone()
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=retain)
        # the log-probabilities' memory, turned into the gradient, unless they are needed once more
        assert (gradient.data_ptr() == buffer) is not retain
        if retain:
            assert torch.equal(node.saved_tensors[0], before)


def _nodes(node):
    while node is not None:
        yield node
        node = node.next_functions[0][0] if node.next_functions else None


def test_torch_func_differentiates_the_plain_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, y = values(7)
    _, expected = loss_and_gradient(10**9, monkeypatch, logits, y, reduction="sum")
    monkeypatch.setattr(_cross_entropy, "MANY_CLASSES", 1)
    got = torch.func.grad(lambda z: F.cross_entropy(z, y, reduction="sum"))(logits)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)


def test_an_excluded_class_without_share_gives_no_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, _ = values(8)
    logits[:, 2] = -torch.inf
    y = v.MixedTarget(
        torch.stack([torch.zeros(N, dtype=torch.int64), torch.full((N,), 2)]),
        torch.stack([torch.ones(N), torch.zeros(N)]) * torch.tensor([[1.0], [1.0]]),
    )
    y.weight[:, 0] = torch.tensor([0.5, 0.5])  # so that the target is not plain
    y.ids[1, 0] = 1
    loss, gradient = loss_and_gradient(1, monkeypatch, logits, y, reduction="none")
    assert bool(loss.isfinite().all())
    assert bool(gradient.isfinite().all())
