"""The rules of a MixedTarget's losses: what F.cross_entropy, F.nll_loss and their modules return for it.

Entry i has the loss sum_k w_ik * c[y_ik] * nll(i, y_ik) over its ids that are not ignored; w are the shares, c the class
weights. "mean" divides the sum over entries by sum_ik w_ik * c[y_ik], which for w = 1 is what PyTorch divides by. No
dense one-hot is built.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal import _fast_losses as fast
from vicinal._mixed_target import MixedTarget, both
from vicinal._shapes import spread, unsqueeze_like

_REDUCTIONS = ("none", "mean", "sum")


def _sum_over_ids(log_p: Tensor, ids: Tensor, share: Tensor, smooth: Tensor | None, weight: Tensor | None) -> Tensor:
    """Return sum_k share_k * nll(ids_k) + smooth * sum_c c[class] * nll(class) of each entry."""
    picked = log_p.gather(1, ids.movedim(0, 1)).to(share.dtype)
    rows = fast.times(share.movedim(0, 1), -picked).sum(1)
    return rows if smooth is None else rows + fast.times(smooth, -fast.over_classes(log_p, weight, smooth.dtype))


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
    if usual and ignore_index < 0 and not label_smoothing and fast.applies(input, target):
        return fast.mean(input, target)
    if _is_one_entry(input, target):
        losses = _cross_entropy(
            input[None], target[None], weight, size_average, ignore_index, reduce, reduction, label_smoothing
        )
        return losses.squeeze(0) if reduction == "none" else losses
    _check(input, target, weight, size_average, reduce, reduction, "logits")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing}")
    smoothing = both(target.smoothing, label_smoothing)
    all_count = _all_count(target, ignore_index)
    if not all_count and _is_plain(target):
        ids = target.ids[0]
        return F.cross_entropy(input, ids, weight, None, ignore_index, None, reduction, smoothing)
    logits = _as_autocast(input)
    fused = fast.is_fused(logits)
    scores = logits if fused else F.log_softmax(logits, 1)
    return _reduce(fused, scores, target, weight, ignore_index, reduction, smoothing, all_count)


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
    all_count = _all_count(target, ignore_index)
    if not all_count and _is_plain(target) and target.smoothing == 0:
        return F.nll_loss(input, target.ids[0], weight, None, ignore_index, None, reduction)
    return _reduce(False, _as_autocast(input), target, weight, ignore_index, reduction, target.smoothing, all_count)


def _reduce(
    fused: bool,
    scores: Tensor,
    target: MixedTarget,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    smoothing: float,
    all_count: bool,
) -> Tensor:
    """Reduce the losses of all entries; `scores` are log-probabilities, or for the fused function logits."""
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
        return total.to(scores.dtype)
    smooth = kept.sum(0) * (smoothing / scores.shape[1]) if smoothing else None
    of_ids = share * (1 - smoothing) if smoothing else share
    if fused:
        rows, _ = fast.Fused.apply(scores, ids, of_ids, smooth, weight, torch.mul if all_count else fast.times)
    else:
        rows = _sum_over_ids(scores, ids, of_ids, smooth, weight)
    if reduction == "none":
        return rows.to(scores.dtype)
    return (rows.sum() if reduction == "sum" else rows.sum() / spread(share, ids).sum()).to(scores.dtype)


def _all_count(target: MixedTarget, ignore_index: int) -> bool:
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


MixedTarget.rules |= {F.cross_entropy: _cross_entropy, F.nll_loss: _nll_loss}
