"""Fast paths of `_cross_entropy.py`, tested to agree with it: a dot product for a plan's own target, one pass for maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from vicinal._mixed_target import MixedTarget

MANY_CLASSES = 8192  # from here on the fused function beats PyTorch's own operations (results/bench/README.md)


def applies(input: Any, target: Any) -> bool:
    """Check that the mean loss is `mean`: float32 logits of few classes, a plan's own shares, no ignored id."""
    if not isinstance(target, MixedTarget) or torch.compiler.is_compiling():
        return False
    if target.smoothing or not isinstance(input, Tensor) or input.dtype != torch.float32 or not input.is_cpu:
        return False
    shape, ids = input.shape, target.ids.shape
    # of one class index per row PyTorch's own loss is computed, to the last bit
    fits = len(shape) == 2 == len(ids) and shape[0] == ids[1] and shape[1] < MANY_CLASSES and ids[0] > 1
    return fits and target.slopes is not None and int(target.ids.min()) >= 0


def mean(logits: Tensor, target: MixedTarget) -> Tensor:
    """Return the mean over rows of sum_k w_k * CE(logits, ids_k), as one product."""
    slopes = target.slopes
    assert slopes is not None  # as `applies` found
    return torch.dot(logits.log_softmax(1).gather(1, target.ids.T).view(-1), slopes)


def is_fused(logits: Tensor) -> bool:
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
    """Losses of each entry, as `_cross_entropy._sum_over_ids` computes them, from logits [n, C, ...]; and log-probabilities.

    It takes fewer passes: the gradient is computed in the memory of the log-probabilities, unless they are needed again
    (retain_graph=True). They are an output so that the gradient, which is a function of them, has a gradient itself.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, ids: Tensor, share: Tensor, smooth: Tensor | None, weight: Tensor | None, times: Any
    ) -> tuple[Tensor, Tensor]:
        log_p = logits.log_softmax(1)
        rows, *others = (times(w, picked) for w, picked in zip(share, _picked(log_p, ids, share.dtype), strict=True))
        for other in others:
            rows = rows.add_(other)
        if smooth is not None:
            rows = rows.add_(times(smooth, over_classes(log_p, weight, smooth.dtype)))
        ctx.times = times
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
                of_smooth = _slope_of(smooth, over_classes(log_p, weight, smooth.dtype), slope)
            again = torch.is_grad_enabled() or _is_vectorized(slope)
            keep = again or torch._C._autograd._get_current_graph_task_keep_graph()  # pyright: ignore[reportAttributeAccessIssue]
            p = log_p.exp() if keep else log_p.detach().exp_()
            own = _slope_of_logits(p, ids, share, smooth, weight, slope, ctx.times, again).to(log_p.dtype)
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
    """Return the gradient with respect to w of -w * log_p; 0 where w is 0 and log_p infinite, which `times` hides."""
    hidden = (w == 0) & ~log_p.isfinite()
    return (-slope * log_p.masked_fill(hidden, 0)).sum_to_size(w.shape)


def _slope_of_logits(
    p: Tensor,
    ids: Tensor,
    share: Tensor,
    smooth: Tensor | None,
    weight: Tensor | None,
    slope: Tensor,
    times: Any,
    again: bool,
) -> Tensor:
    """Return p * total - share at the ids - smooth at all: in the memory of the probabilities p, but to derive it again."""
    if not again:  # of a sum or mean all slopes are one number
        slope = slope[tuple(slice(1) if stride == 0 else slice(None) for stride in slope.stride())]
    total = share.sum(0)
    if smooth is not None:
        total = total + smooth * (p.shape[1] if weight is None else weight.sum())
    # an entry that counts nothing has no gradient, even where all are ignored and the slope of their mean is nan
    by_class = times(total, slope)[:, None]
    grad = p * by_class if again else p.mul_(by_class)
    for of, w in zip(ids, share, strict=True):
        back = times(w, -slope).to(grad.dtype).expand(of.shape)[:, None]
        grad = grad.scatter_add(1, of[:, None], back) if again else grad.scatter_add_(1, of[:, None], back)
    if smooth is None:
        return grad
    back = times(smooth, slope)[:, None].to(grad.dtype)
    if weight is None:
        return grad - back if again else grad.sub_(back)
    c = weight.to(grad.dtype).view(-1, *(1,) * (grad.ndim - 2))
    return grad - back * c if again else grad.addcmul_(back, c, value=-1)


def over_classes(log_p: Tensor, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the sum over classes of c[class] * log_p, for each entry."""
    if weight is None:
        return log_p.sum(1, dtype=dtype)
    if log_p.ndim > 2:
        return (log_p * weight.view(-1, *(1,) * (log_p.ndim - 2))).sum(1, dtype=dtype)
    with torch.autocast(log_p.device.type, enabled=False):  # it would take the product in half precision
        return (log_p @ weight.to(log_p.dtype)).to(dtype)


def times(w: Tensor, loss: Tensor) -> Tensor:
    """Return w * loss, and 0 where w is 0 even if the loss is infinite (a class the model excludes, with no share)."""
    hidden = w == 0
    if w.requires_grad:  # the slope of a share of 0 is the loss, where there is one
        hidden = hidden & ~loss.isfinite()
    return w * loss.masked_fill(hidden, 0)
