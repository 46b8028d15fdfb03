"""The paper's equations as code: start here. Everything else in the library draws, applies or speeds up these lines.

    x = lam x_i + (1 - lam) x_j    `mix`: rows become convex combinations of rows (section 2)
    y = lam y_i + (1 - lam) y_j    `cross_entropy`: a loss that is linear in the label mixes as the labels do
    lam ~ Beta(alpha, alpha)       `weighting.Beta` draws lam, `pairing.RandomPairs` draws j

`cut` is the counterpart of `mix` for boxes (CutMix), `take` for masks of any form. The fast paths (`_mixing.py`,
`_cross_entropy.py`) are tested against this module: they agree to the bit, or to one rounding of the result.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
_MIXABLE = frozenset((*HALF, torch.float32, torch.float64, torch.complex64, torch.complex128, torch.uint8))


def mix(x: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Return rows `sum_j weight[i, j] * x[j-th of (i, *partner[i])]` (Zhang et al. 2018, section 2; m = 1 for pairs).

    Args:
        x: [n, ...], a dtype of `check_mixable`. Half precisions and uint8 are mixed in float32 and rounded once.
        partner: int64 [n, m], the other rows in the mix of each row.
        weight: [n, m + 1], rows sum to 1, the row's own share first.

    Returns:
        A new tensor of x's shape and dtype.

    Raises:
        TypeError: the values of x are not quantities, see `check_mixable`.

    Examples:
        >>> import torch
        >>> mix(torch.eye(2), partner=torch.tensor([[1], [0]]), weight=torch.tensor([[0.7, 0.3], [0.7, 0.3]]))
        tensor([[0.7000, 0.3000],
                [0.3000, 0.7000]])

    """
    check_mixable(x)
    exact = wide(x)
    lam = weight.to(x.device, exact.dtype).reshape(*weight.shape, *(1,) * (x.ndim - 1))
    others = [exact[partner[:, j].to(x.device)] for j in range(partner.shape[1])]
    if len(others) == 1:
        return narrow(torch.lerp(others[0], exact, lam[:, 0]), x)  # lam x_i + (1 - lam) x_j, rounded once
    return narrow(sum((lam[:, j + 1] * other for j, other in enumerate(others)), lam[:, 0] * exact), x)


def cross_entropy(logits: Tensor, ids: Tensor, weight: Tensor) -> Tensor:
    """Return sum_k w_k CE(logits, ids_k), which equals the cross-entropy with the mixed one-hot labels (section 2).

    Args:
        logits: [n, num_classes].
        ids: int64 [k, n], the class indices of the row and of its partners.
        weight: [k, n], their shares; columns sum to 1.

    Returns:
        Losses [n]. `vicinal.losses` adds reductions, class weights, ignored entries and label smoothing.

    Examples:
        >>> import torch
        >>> cross_entropy(torch.zeros(1, 4), ids=torch.tensor([[0], [2]]), weight=torch.tensor([[0.7], [0.3]]))
        tensor([1.3863])

    """
    terms = [w * F.cross_entropy(logits, of, reduction="none") for of, w in zip(ids, weight, strict=True)]
    return torch.stack(terms).sum(0)


def cut(x: Tensor, partner: Tensor, box: Tensor) -> Tensor:
    """Return x with a box of each row replaced by the partner's (CutMix, Yun et al. 2019, equation 1).

    Args:
        x: `[n, ..., *grid]`, any dtype.
        partner: int64 [n].
        box: int64 [n, d, 2], start (included) and stop (excluded) along each of the last d dimensions.

    Returns:
        A new tensor of x's shape, dtype, device and memory format.

    Examples:
        >>> import torch
        >>> x = torch.arange(2).expand(4, 2).T.contiguous()  # two rows of length 4: of zeros, of ones
        >>> cut(x, partner=torch.tensor([1, 0]), box=torch.tensor([[[1, 3]], [[1, 3]]]))
        tensor([[0, 1, 1, 0],
                [1, 0, 0, 1]])

    """
    check_kind(x)
    d = box.shape[1]
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for i, size in enumerate(x.shape[x.ndim - d :]):
        at = torch.arange(size, device=x.device)
        edges = box[:, i].to(x.device)
        along = (at >= edges[:, :1]) & (at < edges[:, 1:])  # [n, size]
        inside = inside & along.reshape(len(along), *(1,) * (x.ndim - d - 1 + i), size, *(1,) * (d - 1 - i))
    return take(x, partner, inside)


def take(x: Tensor, partner: Tensor, mask: Tensor) -> Tensor:
    """Return x with the cells of each row that a mask marks replaced by the partner's.

    Args:
        x: [n, ...], any dtype.
        partner: int64 [n].
        mask: bool, of as many dimensions as x and broadcast to it: True where the partner's value is taken.

    Returns:
        A new tensor of x's shape, dtype, device and memory format.

    Examples:
        >>> import torch
        >>> take(torch.eye(2), partner=torch.tensor([1, 0]), mask=torch.tensor([[False, True], [False, True]]))
        tensor([[1., 1.],
                [0., 0.]])

    """
    check_kind(x)
    flat, order = as_rows(x)
    other = from_rows(flat.index_select(0, partner.to(x.device)), x, order)
    return torch.where(mask.to(x.device).contiguous(), other, x)  # of other strides it would change those of the result


def as_rows(x: Tensor) -> tuple[Tensor, list[int] | None]:
    """Return x as [n, everything else] in its own memory order, so that gathering rows keeps channels_last and speed."""
    if x.is_contiguous():
        return x.view(x.shape[0], math.prod(x.shape[1:])), None
    order = [0, *sorted(range(1, x.ndim), key=lambda d: (-x.stride(d), d))]
    return x.permute(order).reshape(x.shape[0], math.prod(x.shape[1:])), order


def from_rows(flat: Tensor, x: Tensor, order: list[int] | None) -> Tensor:
    """Return rows of `as_rows` in the shape and memory format of x."""
    if order is None:
        return flat.view(x.shape)
    back = sorted(range(x.ndim), key=order.__getitem__)
    return flat.reshape([x.shape[d] for d in order]).permute(back)


def wide(x: Tensor) -> Tensor:
    """Return x in the dtype that it is mixed in: float32 for half precisions and bytes."""
    return x.to(torch.float32) if is_narrow(x) else x


def narrow(mixed: Tensor, x: Tensor) -> Tensor:
    """Return what was mixed in the dtype of x, rounded once (bytes to the nearest level, half to even: no bias)."""
    return (mixed.round_() if x.dtype == torch.uint8 else mixed).to(x.dtype)


def is_narrow(x: Tensor) -> bool:
    """Return whether x is mixed in float32 and rounded at the end."""
    return x.dtype in HALF or x.dtype == torch.uint8


def check_mixable(x: Tensor) -> None:
    """Refuse a tensor whose values are not quantities, with the way out in the message."""
    if x.dtype in _MIXABLE and x.layout is torch.strided and not x.is_nested:
        return
    check_kind(x)
    raise TypeError(
        f"a {x.dtype} input cannot be mixed: integers are names here (token ids, class indices, masks), and the average "
        "of two names is a third name. Convert quantities with .float(); give labels and masks as the target y; mix tokens "
        "after their embedding with vicinal.LatentMixing; plan.union(mask) says what mixed rows hold, if they are padded"
    )


def check_kind(x: Tensor) -> None:
    """Refuse a tensor, input or target, whose rows cannot be taken and averaged, whatever its values mean."""
    if x.is_nested:
        found = "nested tensor"
        way = "pad it, torch.nested.to_padded_tensor(x, 0.0), and keep lengths with plan.longest(lengths)"
    elif x.layout is not torch.strided:
        found, way = f"{x.layout} tensor", "convert it with .to_dense()"
    elif x.is_quantized:
        found, way = f"quantized tensor ({x.dtype})", "convert it with .dequantize()"
    elif x.is_complex() and x.dtype not in _MIXABLE:
        found, way = f"{x.dtype} tensor", "convert it with .to(torch.complex64)"
    elif x.is_floating_point() and x.dtype not in _MIXABLE:
        found, way = f"{x.dtype} tensor", "convert it with .to(torch.bfloat16)"
    else:
        return
    raise TypeError(f"a {found} cannot be mixed: {way}")
