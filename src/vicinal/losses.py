"""The rules of a MixedTarget's losses: what F.cross_entropy, F.nll_loss and their modules give for it.

Entry i has the loss sum_k w_ik * c[y_ik] * nll(i, y_ik) over its ids that are not ignored; w are the shares, c the class
weights. "mean" divides the sum over entries by sum_ik w_ik * c[y_ik], which for w = 1 is what PyTorch divides by. No
dense one-hot is built.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.target import MixedTarget, beside, both

_REDUCTIONS = ("none", "mean", "sum")
_MANY_CLASSES = 8192  # from here on one buffer that serves twice beats PyTorch's own operations (docs/performance.md)


def _cross_entropy(
    input: Tensor,
    target: MixedTarget,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Give sum_k w_k * cross_entropy(input, ids_k): the paper's loss, linear in the label (section 2)."""
    simple = reduction == "mean" and weight is None and size_average is None and reduce is None and ignore_index < 0
    if simple and not label_smoothing and (slopes := _slopes(input, target)) is not None:
        try:
            return torch.dot(input.log_softmax(1).gather(1, target.ids.T).view(-1), slopes)
        except (IndexError, RuntimeError):  # an id that is ignored, or lies outside: what follows tells them apart
            pass
    _check(input, target, weight, size_average, reduce, reduction, "logits")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing}")
    smoothing = both(target.smoothing, label_smoothing)
    all_count = _all_count(target, ignore_index)
    if not all_count and _is_plain(target):
        ids = target.ids[0]
        return F.cross_entropy(input, ids, weight, None, ignore_index, None, reduction, smoothing)
    logits = _as_autocast(input)
    if _is_large(logits):
        return _reduce(_OneBuffer, logits, target, weight, ignore_index, reduction, smoothing, all_count)
    return _reduce(None, F.log_softmax(logits, 1), target, weight, ignore_index, reduction, smoothing, all_count)


def _nll_loss(
    input: Tensor,
    target: MixedTarget,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    _check(input, target, weight, size_average, reduce, reduction, "log-probabilities")
    all_count = _all_count(target, ignore_index)
    if not all_count and _is_plain(target) and target.smoothing == 0:
        return F.nll_loss(input, target.ids[0], weight, None, ignore_index, None, reduction)
    return _reduce(None, _as_autocast(input), target, weight, ignore_index, reduction, target.smoothing, all_count)


def _reduce(
    function: Any,
    scores: Tensor,
    target: MixedTarget,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    smoothing: float,
    all_count: bool,
) -> Tensor:
    """Reduce the losses of all entries; `scores` are log-probabilities, or for `_OneBuffer` logits."""
    exact = torch.float64 if scores.dtype == torch.float64 else torch.float32  # half precisions are weighted in float32
    ids, kept = target.ids, beside(target.weight.to(exact), target.ids)
    if not all_count:
        keep = ids != ignore_index
        ids, kept = ids * keep, kept * keep  # an ignored id may lie anywhere
    share = kept if weight is None else kept * weight.to(exact)[ids]
    if function is None and all_count and smoothing == 0 and reduction != "none" and scores.ndim == 2:
        # nothing but a weighted sum of log-probabilities: one product
        picked = scores.gather(1, ids.T).to(exact)
        total = torch.dot(picked.flatten(), share.T.flatten() / (-1 if reduction == "sum" else -share.sum()))
        return total.to(scores.dtype)
    spread = kept.expand_as(ids).sum(0) * (smoothing / scores.shape[1]) if smoothing else None
    share = share.expand_as(ids)
    of_ids = share if spread is None else share * (1 - smoothing)
    rows = (_by_id if function is None else function.apply)(scores, ids, of_ids, spread, weight)
    if reduction == "none":
        return rows.to(scores.dtype)
    return (rows.sum() if reduction == "sum" else rows.sum() / share.sum()).to(scores.dtype)


def _all_count(target: MixedTarget, ignore_index: int) -> bool:
    """Whether ids are several and every one has a share and is not ignored; False where it would cost a wait to know."""
    if (
        len(target.ids) == 1
        or torch.compiler.is_compiling()
        or target.device.type != "cpu"
        or target.numel() == 0
        or ignore_index >= 0
    ):
        return False
    return int(target.ids.min()) >= 0 and float(target.weight.min()) > 0


def _by_id(log_p: Tensor, ids: Tensor, share: Tensor, spread: Tensor | None, weight: Tensor | None) -> Tensor:
    """Give sum_k share_k * nll(ids_k) + spread * sum_c c[class] * nll(class) of each entry."""
    picked = log_p.gather(1, ids.movedim(0, 1)).to(share.dtype)
    rows = _times(share.movedim(0, 1), -picked).sum(1)
    if spread is not None:
        by_class = log_p if weight is None else log_p * weight.view(-1, *(1,) * (log_p.ndim - 2))
        rows = rows + _times(spread, -by_class.sum(1, dtype=spread.dtype))
    return rows


class _OneBuffer(torch.autograd.Function):
    """The same from logits [n, C], in one buffer of their size: its log-probabilities become the gradient in place."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, ids: Tensor, share: Tensor, spread: Tensor | None, weight: Tensor | None
    ) -> Tensor:
        log_p = logits.log_softmax(1)
        rows = _times(share.T, -log_p.gather(1, ids.T).to(share.dtype)).sum(1)
        if spread is not None:
            with torch.autocast(log_p.device.type, enabled=False):  # it would take the product in half precision
                by_class = log_p.sum(1, dtype=spread.dtype) if weight is None else log_p @ weight.to(log_p.dtype)
            rows = rows + _times(spread, -by_class.to(spread.dtype))
        ctx.log_p = log_p  # not among the saved tensors, which must not be written to
        ctx.save_for_backward(ids, share, spread, weight)
        return rows

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                "the mixed loss over many classes has no second derivative: its gradient lies in the memory of its forward "
                "pass. Take the loss of y.dense(num_classes) where gradients of gradients are needed"
            )
        if ctx.log_p is None:
            raise RuntimeError(
                "the mixed loss over many classes gives its gradient once, in the memory of its forward pass: for a second "
                "backward compute the loss again"
            )
        grad, ctx.log_p = ctx.log_p, None
        ids, share, spread, weight = ctx.saved_tensors
        total = share.sum(0)
        if spread is not None:
            total = total + spread * (grad.shape[1] if weight is None else weight.sum())
        # an entry that counts nothing has no gradient, even where all are ignored and the slope of their mean is nan
        grad.exp_().mul_(_times(total, slope)[:, None])
        grad.scatter_add_(1, ids.T, -_times(share, slope).T.to(grad.dtype))
        if spread is not None:
            back = _times(spread, slope).to(grad.dtype)
            if weight is None:
                grad.sub_(back[:, None])
            else:
                grad.addr_(back, weight.to(grad.dtype), alpha=-1)
        return grad, None, None, None, None


def _slopes(input: Any, target: Any) -> Tensor | None:
    """Give what log-probabilities of few classes are multiplied by, if the target knows that this is all of the loss."""
    slopes = target.slopes if isinstance(target, MixedTarget) else None
    if slopes is None or target.smoothing or not isinstance(input, Tensor) or input.dtype != torch.float32:
        return None
    shape, ids = input.shape, target.ids.shape
    fits = len(shape) == 2 and len(ids) == 2 and shape[0] == ids[1] and shape[1] < _MANY_CLASSES
    return slopes if fits and input.is_cpu else None


def _is_large(logits: Tensor) -> bool:
    return (
        logits.ndim == 2
        and logits.shape[1] >= _MANY_CLASSES
        and logits.requires_grad
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()  # torch.func differentiates the plain operations
    )


def _as_autocast(input: Tensor) -> Tensor:
    """Give float32 where autocast is on, as it does before a loss (but not before log_softmax on a CPU)."""
    half = input.dtype in (torch.float16, torch.bfloat16)
    return input.float() if half and torch.is_autocast_enabled(input.device.type) else input


def _is_plain(target: MixedTarget) -> bool:
    """Whether every row is wholly its own, so that PyTorch's own loss applies and gives its very bits.

    One id a row is always that. Of several, the shares say, read only where that costs no wait for an accelerator; the
    formula below agrees to rounding there.
    """
    if len(target.ids) == 1:
        return True
    if torch.compiler.is_compiling() or target.weight.device.type != "cpu":
        return False
    return bool((target.weight[0] == 1).all())


def _times(w: Tensor, loss: Tensor) -> Tensor:
    """Give w * loss, and 0 where w is 0 even if the loss is infinite (a class the model excludes, with no share)."""
    return torch.where(w == 0, torch.zeros_like(loss), w * loss)


def _check(
    input: Tensor,
    target: MixedTarget,
    weight: Tensor | None,
    size_average: bool | None,
    reduce: bool | None,
    reduction: str,
    what: str,
) -> None:
    if size_average is not None or reduce is not None:
        raise ValueError("size_average and reduce are deprecated in PyTorch and not taken here: use reduction=")
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be one of {_REDUCTIONS}, got {reduction!r}")
    if isinstance(input, MixedTarget) or not isinstance(target, MixedTarget):
        MixedTarget.refuse("a loss whose first argument, the prediction, is one,")
    if input.ndim < 2 or (input.shape[0], *input.shape[2:]) != tuple(target.shape):
        raise ValueError(
            f"{what} {list(input.shape)} do not fit class ids {list(target.shape)}: [n, num_classes, d1, ...] goes "
            "with [n, d1, ...]. One-hot and multi-label targets are numbers: make them floating point before mixing"
        )
    if weight is not None and tuple(weight.shape) != (input.shape[1],):
        raise ValueError(f"weight {list(weight.shape)} must hold one number for each of the {input.shape[1]} classes")


def _one_hot(target: MixedTarget, num_classes: int = -1) -> Tensor:
    if num_classes < 1:
        raise ValueError("F.one_hot of a MixedTarget needs num_classes: a batch need not hold every class")
    return target.dense(num_classes).movedim(1, -1)


def _eq(input: Any, other: Any) -> Tensor:
    return other.hits(input) if isinstance(other, MixedTarget) else input.hits(other)


def _ne(input: Any, other: Any) -> Tensor:
    return 1 - _eq(input, other)


MixedTarget.rules |= {
    F.cross_entropy: _cross_entropy,
    F.nll_loss: _nll_loss,
    F.one_hot: _one_hot,
    torch.eq: _eq,
    Tensor.eq: _eq,
    Tensor.__eq__: _eq,
    torch.ne: _ne,
    Tensor.ne: _ne,
    Tensor.__ne__: _ne,
}
