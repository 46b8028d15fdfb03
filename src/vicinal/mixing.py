"""The one operation: rows of a tensor become convex combinations of its rows.

`mix` is the operation for every dtype and layout, `cut` its counterpart for boxes. Inputs are never changed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)


def mix(x: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Give row i = weight[i, 0] * x[i] + sum_j weight[i, j] * x[partner[i, j - 1]] (paper, section 2).

    Args:
        x: [n, ...], float16, bfloat16, float32, float64, complex or uint8. Half precisions and uint8 are mixed in
            float32 and rounded once at the end (uint8 to the nearest level, half to even: no bias).
        partner: int64 [n, m]; m = 0 gives x itself back.
        weight: float32 or float64 [n, m + 1], rows sum to 1.

    Returns:
        A new tensor of x's shape, dtype, device and memory format (for m = 0: x).

    Raises:
        TypeError: x has an integer or boolean dtype other than uint8.

    """
    check_mixable(x)
    if partner.shape[1] == 0:
        return x
    partner, weight = partner.to(x.device), weight.to(x.device)
    if x.dtype in _HALF or x.dtype == torch.uint8:
        mixed = _mix(x.to(torch.float32), partner, weight)
        return (mixed.round_() if x.dtype == torch.uint8 else mixed).to(x.dtype)
    return _mix(x, partner, weight)


def _mix(x: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    flat, order = _rows(x)
    weight = weight.to(x.dtype)
    if partner.shape[1] == 1:
        mixed = flat.index_select(0, partner[:, 0]).lerp_(flat, weight[:, :1])
    else:
        mixed = flat * weight[:, :1]
        for j in range(partner.shape[1]):
            mixed = mixed.addcmul_(flat.index_select(0, partner[:, j]), weight[:, j + 1, None])
    return _unrows(mixed, x, order)


def _rows(x: Tensor) -> tuple[Tensor, list[int]]:
    """View x as [n, everything else] in its own memory order, so that gathering rows keeps channels_last and speed."""
    order = [0, *sorted(range(1, x.ndim), key=lambda d: (-x.stride(d), d))]
    return x.permute(order).reshape(x.shape[0], math.prod(x.shape[1:])), order


def _unrows(flat: Tensor, x: Tensor, order: list[int]) -> Tensor:
    back = sorted(range(x.ndim), key=order.__getitem__)
    return flat.reshape([x.shape[d] for d in order]).permute(back)


def cut(x: Tensor, partner: Tensor, box: Tensor) -> Tensor:
    """Give x with a box of each row replaced by the partner's (CutMix, Yun et al. 2019).

    Args:
        x: [n, ..., *grid], any dtype.
        partner: int64 [n].
        box: int64 [n, d, 2], start (included) and stop (excluded) along each of the last d dimensions.

    Returns:
        A new tensor of x's shape, dtype, device and memory format.

    """
    d = box.shape[1]
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for i, size in enumerate(x.shape[x.ndim - d :]):
        at = torch.arange(size, device=x.device)
        edges = box[:, i].to(x.device)
        along = (at >= edges[:, :1]) & (at < edges[:, 1:])  # [n, size]
        inside = inside & along.reshape(len(along), *(1,) * (x.ndim - d - 1 + i), size, *(1,) * (d - 1 - i))
    flat, order = _rows(x)
    other = _unrows(flat.index_select(0, partner.to(x.device)), x, order)
    return torch.where(inside, other, x)


def check_mixable(x: Tensor) -> None:
    """Refuse a tensor whose values are not quantities, with the way out in the message."""
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.uint8:
        return
    raise TypeError(
        f"a {x.dtype} input cannot be mixed: integers are names here (token ids, class ids, masks), and the average of "
        "two names is a third name. Convert quantities with .float(); give labels and masks as the target y; mix "
        "tokens after their embedding with vicinal.LatentMixing"
    )
