"""The rules of a MixedTarget's losses: what F.cross_entropy, F.nll_loss and their modules return for it.

Entry i has the loss sum_k w_ik * c[y_ik] * nll(i, y_ik) over its ids that are not ignored; w are the shares, c the class
weights. "mean" divides the sum over entries by sum_ik w_ik * c[y_ik], which for w = 1 is what PyTorch divides by. No
dense one-hot is built.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from vicinal._mixed_target import MixedTarget, compose_smoothing
from vicinal._shapes import spread, unsqueeze_like
from vicinal.formula import HALF

_REDUCTIONS = ("none", "mean", "sum")
MANY_CLASSES = 8192  # from here on the fused function beats PyTorch's own operations (results/bench/README.md)


def _sum_over_ids(log_p: Tensor, ids: Tensor, share: Tensor, smooth: Tensor | None, weight: Tensor | None) -> Tensor:
    """Return sum_k share_k * nll(ids_k) + smooth * sum_c c[class] * nll(class) of each entry."""
    picked = log_p.gather(1, ids.movedim(0, 1)).to(share.dtype)
    rows = mul_or_zero(share.movedim(0, 1), -picked).sum(1)
    return rows if smooth is None else rows + mul_or_zero(smooth, -_over_classes(log_p, weight, smooth.dtype))


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
    """Return sum_k w_k * cross_entropy(input, ids_k): the paper's loss, linear in the label (section 2)."""
    usual = weight is None and size_average is None and reduce is None and reduction == "mean"
    if usual and ignore_index < 0 and not label_smoothing and _is_dot(input, target):
        return _dot(input, target)
    if _is_one_entry(input, target):
        losses = _cross_entropy(
            input[None], target[None], weight, size_average, ignore_index, reduce, reduction, label_smoothing
        )
        return losses.squeeze(0) if reduction == "none" else losses
    _check(input, target, weight, size_average, reduce, reduction, "logits")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing}")
    smoothing = compose_smoothing(target.smoothing, label_smoothing)
    all_count = _no_ignored(target, ignore_index)
    if not all_count and _is_plain(target):
        ids = target.ids[0]
        return F.cross_entropy(input, ids, weight, None, ignore_index, None, reduction, smoothing)
    logits = _as_autocast(input)
    fused = _is_fused(logits)
    scores = logits if fused else _log_softmax(logits)
    return _reduce(fused, scores, logits.dtype, target, weight, ignore_index, reduction, smoothing, all_count)


def _nll_loss(
    input: Tensor,
    target: MixedTarget,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    if _is_one_entry(input, target):
        losses = _nll_loss(input[None], target[None], weight, size_average, ignore_index, reduce, reduction)
        return losses.squeeze(0) if reduction == "none" else losses
    _check(input, target, weight, size_average, reduce, reduction, "log-probabilities")
    all_count = _no_ignored(target, ignore_index)
    if not all_count and _is_plain(target) and target.smoothing == 0:
        return F.nll_loss(input, target.ids[0], weight, None, ignore_index, None, reduction)
    scores = _as_autocast(input)
    return _reduce(False, scores, scores.dtype, target, weight, ignore_index, reduction, target.smoothing, all_count)


def _log_softmax(logits: Tensor) -> Tensor:
    """Return log-probabilities; those of half precisions in float32: their range ends where differences of logits do not."""
    return logits.log_softmax(1, dtype=torch.float32) if logits.dtype in HALF else logits.log_softmax(1)


def _reduce(
    fused: bool,
    scores: Tensor,
    dtype: torch.dtype,
    target: MixedTarget,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    smoothing: float,
    all_count: bool,
) -> Tensor:
    """Reduce the losses of all entries to `dtype`; `scores` are log-probabilities, or for the fused function logits."""
    exact = torch.float64 if scores.dtype == torch.float64 else torch.float32  # half precisions are weighted in float32
    ids, kept = target.ids, unsqueeze_like(target.weight.to(exact), target.ids)
    if not all_count:
        keep = ids != ignore_index
        ids, kept = ids * keep, kept * keep  # an ignored id may lie anywhere
    share = kept if weight is None else kept * weight.to(exact)[ids]
    if not fused and all_count and smoothing == 0 and reduction != "none" and scores.ndim == 2:
        # nothing but a weighted sum of log-probabilities: one product
        picked = scores.gather(1, ids.T).to(exact)
        total = torch.dot(picked.flatten(), share.T.flatten() / (-1 if reduction == "sum" else -share.sum()))
        return total.to(dtype)
    smooth = kept.sum(0) * (smoothing / scores.shape[1]) if smoothing else None
    of_ids = share * (1 - smoothing) if smoothing else share
    if fused:
        rows, _ = Fused.apply(scores, ids, of_ids, smooth, weight, torch.mul if all_count else mul_or_zero)
    else:
        rows = _sum_over_ids(scores, ids, of_ids, smooth, weight)
    if reduction == "none":
        return rows.to(dtype)
    return (rows.sum() if reduction == "sum" else rows.sum() / spread(share, ids).sum()).to(dtype)


def _no_ignored(target: MixedTarget, ignore_index: int) -> bool:
    """Return whether ids are several and all have a share and are not ignored; False where it would cost a wait to know."""
    if len(target.ids) == 1 or not _may_look(target) or target.numel() == 0:
        return False
    counts = int(target.ids.min()) >= 0 if ignore_index < 0 else bool((target.ids != ignore_index).all())
    return counts and float(target.weight.detach().min()) > 0


def _is_one_entry(input: Any, target: Any) -> bool:
    """Return whether scores [num_classes] meet a target of shape []."""
    return isinstance(target, MixedTarget) and isinstance(input, Tensor) and target.ndim == 0 and input.ndim == 1


def _may_look(target: MixedTarget) -> bool:
    """Return whether values can be read at once: not of an accelerator, in a compiled graph, or under torch.func."""
    return (
        not torch.compiler.is_compiling()
        and target.weight.device.type == "cpu"
        and not torch._C._are_functorch_transforms_active()
    )


def _as_autocast(input: Tensor) -> Tensor:
    """Return float32 where autocast is on, as it does before a loss (but not before log_softmax on a CPU)."""
    half = input.dtype in (torch.float16, torch.bfloat16)
    return input.float() if half and torch.is_autocast_enabled(input.device.type) else input


def _is_plain(target: MixedTarget) -> bool:
    """Return whether every row is wholly its own, so that PyTorch's own loss applies and gives its very bits.

    A plan with one class index per row says so; otherwise the shares do, read only where that costs no wait for an
    accelerator. The formula agrees to rounding where they are not read.
    """
    weight = target.weight
    if weight.requires_grad and torch.is_grad_enabled():
        return False
    if len(target.ids) == 1 and not torch.compiler.is_compiling() and target.is_unchanged:
        return True
    return _may_look(target) and bool((weight[0] == 1).all()) and not (len(weight) > 1 and bool(weight[1:].any()))


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
        raise TypeError("the prediction, the first argument of a loss, cannot be a MixedTarget: loss(logits, y)")
    if input.ndim < 2 or (input.shape[0], *input.shape[2:]) != tuple(target.shape):
        raise ValueError(
            f"{what} {list(input.shape)} do not fit class indices {list(target.shape)}: [n, num_classes, d1, ...] goes "
            "with [n, d1, ...]. One-hot and multi-label targets are numbers: make them floating point before mixing"
        )
    if weight is not None and tuple(weight.shape) != (input.shape[1],):
        raise ValueError(f"weight {list(weight.shape)} must hold one number for each of the {input.shape[1]} classes")


# -- fast paths, tested to agree with the above: a dot product for a plan's own target, one pass for maps -----------------


def _is_dot(input: Any, target: Any) -> bool:
    """Check that the mean loss is `_dot`: float32 logits of few classes, a plan's own shares, no ignored id."""
    if not isinstance(target, MixedTarget) or torch.compiler.is_compiling():
        return False
    if target.smoothing or not isinstance(input, Tensor) or input.dtype != torch.float32 or not input.is_cpu:
        return False
    shape, ids = input.shape, target.ids.shape
    # of one class index per row PyTorch's own loss is computed, to the last bit
    fits = len(shape) == 2 == len(ids) and shape[0] == ids[1] and shape[1] < MANY_CLASSES and ids[0] > 1
    return fits and target.slopes is not None and int(target.ids.min()) >= 0


def _dot(logits: Tensor, target: MixedTarget) -> Tensor:
    """Return the mean over rows of sum_k w_k * CE(logits, ids_k), as one product."""
    slopes = target.slopes
    assert slopes is not None  # as `_is_dot` found
    return torch.dot(logits.log_softmax(1).gather(1, target.ids.T).view(-1), slopes)


def _is_fused(logits: Tensor) -> bool:
    """Return whether the gradient is worth a function of its own: for maps and for many classes."""
    return (
        (logits.ndim > 2 or logits.shape[1] >= MANY_CLASSES)
        and logits.requires_grad
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()  # torch.func differentiates the plain operations
        and forward_ad._current_level < 0  # and so do forward-mode derivatives
    )


class Fused(torch.autograd.Function):
    """Losses of each entry, as `_sum_over_ids` computes them, from logits [n, C, ...]; and log-probabilities.

    It takes fewer passes: the gradient is computed in the memory of the log-probabilities, unless they are needed again
    (retain_graph=True). They are an output so that the gradient, which is a function of them, has a gradient itself.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, ids: Tensor, share: Tensor, smooth: Tensor | None, weight: Tensor | None, product: Any
    ) -> tuple[Tensor, Tensor]:
        log_p = _log_softmax(logits)
        rows, *others = (product(w, picked) for w, picked in zip(share, _picked(log_p, ids, share.dtype), strict=True))
        for other in others:
            rows = rows.add_(other)
        if smooth is not None:
            rows = rows.add_(product(smooth, _over_classes(log_p, weight, smooth.dtype)))
        ctx.product = product
        ctx.save_for_backward(log_p, ids, share, smooth, weight)
        ctx.set_materialize_grads(False)
        return rows.neg_(), log_p

    @staticmethod
    def backward(ctx: Any, slope: Tensor | None, of_log_p: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        log_p, ids, share, smooth, weight = ctx.saved_tensors
        grad = of_share = of_smooth = None
        if of_log_p is not None:
            grad = of_log_p - log_p.exp() * of_log_p.sum(1, keepdim=True)
        if slope is not None:
            if ctx.needs_input_grad[2]:
                picked = torch.stack(list(_picked(log_p, ids, share.dtype)))
                of_share = _slope_of(share, picked, slope)
            if smooth is not None and ctx.needs_input_grad[3]:
                of_smooth = _slope_of(smooth, _over_classes(log_p, weight, smooth.dtype), slope)
            again = torch.is_grad_enabled() or _is_vectorized(slope)
            keep = again or torch._C._autograd._get_current_graph_task_keep_graph()  # pyright: ignore[reportAttributeAccessIssue]
            p = log_p.exp() if keep else log_p.detach().exp_()
            own = _slope_of_logits(p, ids, share, smooth, weight, slope, ctx.product, again).to(log_p.dtype)
            grad = own if grad is None else grad + own
        return grad, None, of_share, of_smooth, None, None


def _is_vectorized(slope: Tensor) -> bool:
    """Return whether many gradients are computed at once, by `torch.func` or is_grads_batched, which write in no tensor."""
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    return torch._C._are_functorch_transforms_active() or functorch.is_legacy_batchedtensor(slope)


def _picked(log_p: Tensor, ids: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """Yield log_p of each of the k class indices [k, n, ...]."""
    return (log_p.gather(1, of[:, None]).squeeze(1).to(dtype) for of in ids)


def _slope_of(w: Tensor, log_p: Tensor, slope: Tensor) -> Tensor:
    """Return the gradient with respect to w of -w * log_p; 0 where w is 0 and log_p infinite, which `mul_or_zero` hides."""
    hidden = (w == 0) & ~log_p.isfinite()
    return (-slope * log_p.masked_fill(hidden, 0)).sum_to_size(w.shape)


def _slope_of_logits(
    p: Tensor,
    ids: Tensor,
    share: Tensor,
    smooth: Tensor | None,
    weight: Tensor | None,
    slope: Tensor,
    product: Any,
    again: bool,
) -> Tensor:
    """Return p * total - share at the ids - smooth at all: in the memory of the probabilities p, but to derive it again."""
    if not again:  # of a sum or mean all slopes are one number
        slope = slope[tuple(slice(1) if stride == 0 else slice(None) for stride in slope.stride())]
    total = share.sum(0)
    if smooth is not None:
        total = total + smooth * (p.shape[1] if weight is None else weight.sum())
    # an entry that counts nothing has no gradient, even where all are ignored and the slope of their mean is nan
    by_class = product(total, slope)[:, None]
    grad = p * by_class if again else p.mul_(by_class)
    for of, w in zip(ids, share, strict=True):
        back = product(w, -slope).to(grad.dtype).expand(of.shape)[:, None]
        grad = grad.scatter_add(1, of[:, None], back) if again else grad.scatter_add_(1, of[:, None], back)
    if smooth is None:
        return grad
    back = product(smooth, slope)[:, None].to(grad.dtype)
    if weight is None:
        return grad - back if again else grad.sub_(back)
    c = weight.to(grad.dtype).view(-1, *(1,) * (grad.ndim - 2))
    return grad - back * c if again else grad.addcmul_(back, c, value=-1)


def _over_classes(log_p: Tensor, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the sum over classes of c[class] * log_p, for each entry."""
    if weight is None:
        return log_p.sum(1, dtype=dtype)
    if log_p.ndim > 2:
        return (log_p * weight.view(-1, *(1,) * (log_p.ndim - 2))).sum(1, dtype=dtype)
    with torch.autocast(log_p.device.type, enabled=False):  # it would take the product in half precision
        return (log_p @ weight.to(log_p.dtype)).to(dtype)


def mul_or_zero(w: Tensor, loss: Tensor) -> Tensor:
    """Return w * loss, and 0 where w is 0 even if the loss is infinite (a class the model excludes, with no share)."""
    hidden = w == 0
    if w.requires_grad:  # the slope of a share of 0 is the loss, where there is one
        hidden = hidden & ~loss.isfinite()
    return w * loss.masked_fill(hidden, 0)


def _within_classes(rule: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a rule that tells of class indices beyond the classes as PyTorch's own losses do, by an IndexError."""

    @functools.wraps(rule)
    def loss(input: Any, target: Any, *args: Any, **kwargs: Any) -> Tensor:
        try:
            return rule(input, target, *args, **kwargs)
        except (RuntimeError, IndexError) as error:
            if not isinstance(target, MixedTarget) or not isinstance(input, Tensor) or not _may_look(target):
                raise
            num_classes = input.shape[min(1, input.ndim - 1)]
            names = ("weight", "size_average", "ignore_index")
            ignored = {**dict(zip(names, args, strict=False)), **kwargs}.get("ignore_index", -100)
            beyond = target.ids[((target.ids < 0) | (target.ids >= num_classes)) & (target.ids != ignored)]
            if not beyond.numel():
                raise
            raise IndexError(
                f"class index {int(beyond[0])} is out of bounds: the prediction has {num_classes} classes, 0 to "
                f"{num_classes - 1}, and entries that do not count have ignore_index={ignored}"
            ) from error

    return loss


MixedTarget.rules |= {F.cross_entropy: _within_classes(_cross_entropy), F.nll_loss: _within_classes(_nll_loss)}
