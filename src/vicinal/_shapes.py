"""Shape operations on a MixedTarget: each is applied alike to every class index of an entry and to its shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal import _refusals
from vicinal._tensor_like import TensorLike

# methods of Tensor that put entries elsewhere and look at none of them
_MOVES = (
    "squeeze unsqueeze view reshape flatten ravel unflatten expand broadcast_to permute transpose swapaxes swapdims "
    "movedim moveaxis t index_select gather take take_along_dim masked_select narrow "
    "select flip fliplr flipud roll rot90 repeat tile repeat_interleave "
    "split split_with_sizes chunk tensor_split hsplit vsplit dsplit unbind"
)
_FUNCTIONS_ONLY = "atleast_1d atleast_2d atleast_3d squeeze_copy unsafe_chunk unsafe_split"


def unsqueeze_like(weight: Tensor, ids: Tensor) -> Tensor:
    """Return weight [k, n], or [k, ...] of as many dimensions as ids, with as many dimensions as ids."""
    return weight.reshape(*weight.shape, *(1,) * (ids.ndim - weight.ndim))


def spread(weight: Tensor, ids: Tensor) -> Tensor:
    """Return weight with the shape of ids."""
    return unsqueeze_like(weight, ids).expand_as(ids)


def apply(y: Any, move: Callable[[Tensor], Any]) -> Any:
    """Apply a shape operation, which takes a tensor like the plain target; return a target, or a tuple of them."""
    ids = [move(part) for part in y.ids.unbind()]
    weight = [move(part) for part in spread(y.weight, y.ids).unbind()]
    rows = None
    if y.rows is not None:
        rows = [move(part) for part in spread(y.rows.to(y.device), y.ids).unbind()]
    if isinstance(ids[0], Tensor):
        return _target(y, ids, weight, rows)
    parts = zip(zip(*ids, strict=True), zip(*weight, strict=True), zip(*(rows or [ids[0]]), strict=True), strict=True)
    return tuple(_target(y, i, w, None if rows is None else r) for i, w, r in parts)


def _target(y: Any, ids: Sequence[Tensor], weight: Sequence[Tensor], rows: Sequence[Tensor] | None) -> Any:
    return y._with(torch.stack(list(ids)), compact(weight), None if rows is None else compact(rows))


def compact(values: Sequence[Tensor]) -> Tensor:
    """Stack k tensors that were expanded, without the copies: as [k, n] if they differ by rows only."""
    first = values[0]
    if first.ndim > 1:
        once = tuple(
            slice(1) if stride == 0 and size > 1 else slice(None)
            for stride, size in zip(first.stride(), first.shape, strict=True)
        )
        values = [value[once] for value in values]
        if first.shape[0] == values[0].shape[0] and all(size == 1 for size in values[0].shape[1:]):
            values = [value.flatten() for value in values]
    return torch.stack(list(values))


def join(function: Callable[..., Tensor], targets: Sequence[Any], args: Any, kwargs: Any) -> Any:
    """Join targets by torch.cat, torch.stack or the like; those with fewer class indices get some of share 0."""
    kind = next(type(y) for y in targets if isinstance(y, TensorLike))
    joined = [_as_target(y, kind) for y in targets]
    smoothing = {y.smoothing for y in joined}
    if len(smoothing) > 1:
        raise ValueError(
            f"targets of different smoothing {sorted(smoothing)} cannot be joined: smooth in the loss instead"
        )
    k = max(len(y.ids) for y in joined)
    ids = [[_padded(y.ids, k)[j] for y in joined] for j in range(k)]
    weight = [[_padded(spread(y.weight, y.ids), k, 0)[j] for y in joined] for j in range(k)]
    by_rows = [_padded(y.weight, k, 0) for y in joined if y.weight.ndim == 2 < y.ids.ndim]
    together = torch.stack([function(parts, *args, **kwargs) for parts in ids])
    if (
        len(by_rows) == len(joined)
        and together.shape[1] == sum(map(len, joined))
        and together.ndim == joined[0].ids.ndim
    ):
        return joined[0]._with(together, torch.cat(by_rows, 1), None)
    return joined[0]._with(together, torch.stack([function(parts, *args, **kwargs) for parts in weight]), None)


def pad(y: Any, pads: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """Pad the class indices as `F.pad` does; what is added is wholly `value`, an ignored index as a rule."""
    if mode != "constant":
        _refusals.refuse(f"F.pad in mode {mode!r}")
    ids = F.pad(y.ids, pads, value=value)
    if ids.shape[:2] == y.ids.shape[:2] and y.weight.ndim == 2 < y.ids.ndim:
        return y._with(ids, y.weight, y.rows)
    weight = [F.pad(part, pads, value=float(j == 0)) for j, part in enumerate(spread(y.weight, y.ids).unbind())]
    return y._with(ids, torch.stack(weight), None)


def _as_target(y: Any, kind: Any) -> Any:
    """Take plain class indices for a target of which every entry is wholly its own."""
    if isinstance(y, TensorLike):
        return y
    if not isinstance(y, Tensor) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        found = y.dtype if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"a MixedTarget joins others and integer class indices, not {found}")
    return kind(y.long()[None], torch.ones(1, *y.shape, device=y.device))


def _padded(values: Tensor, k: int, fill: int | None = None) -> Tensor:
    """Return values [j, ...] as [k, ...]: of the first once more, or of a number."""
    more = values[:1].expand(k - len(values), *values.shape[1:])
    return torch.cat([values, more if fill is None else torch.full_like(more, fill)])


def _method(name: str) -> Callable[..., Any]:
    def move(self: Any, *args: Any, **kwargs: Any) -> Any:
        _refusals.refuse_metrics(name)
        if any(isinstance(arg, torch.dtype) for arg in (*args, *kwargs.values())):
            _refusals.refuse(f"conversion by {name}")
        return apply(self, lambda part: getattr(part, name)(*args, **kwargs))

    move.__name__ = name
    move.__doc__ = f"Apply `Tensor.{name}` to the class indices and their shares."
    return move


def _function(function: Callable[..., Any]) -> Callable[..., Any]:
    name = getattr(function, "__name__", str(function))

    def move(*args: Any, **kwargs: Any) -> Any:
        _refusals.refuse_metrics(name)
        if not args and "input" in kwargs:
            args = (kwargs.pop("input"),)
        if not isinstance(args[0], TensorLike) or any(isinstance(a, TensorLike) for a in (*args[1:], *kwargs.values())):
            _refusals.refuse(name)
        return apply(args[0], lambda part: function(part, *args[1:], **kwargs))

    return move


def _transposed(name: str) -> property:
    return property(lambda self: apply(self, lambda part: getattr(part, name)), doc=f"Transpose as `Tensor.{name}`.")


def install(cls: Any) -> None:
    """Add the shape methods to the class, and those of PyTorch's functions to its rules."""
    for name in ("T", "mT"):
        setattr(cls, name, _transposed(name))
    for name in _MOVES.split():
        if name not in vars(cls) and hasattr(Tensor, name):
            setattr(cls, name, _method(name))
    for name in (*_MOVES.split(), *_FUNCTIONS_ONLY.split()):
        for owner in (torch, Tensor):
            if hasattr(owner, name):
                cls.rules[getattr(owner, name)] = _function(getattr(owner, name))
