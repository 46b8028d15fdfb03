"""Plans that are read back from what `to_dict` wrote: nothing is made before everything in it is checked."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from vicinal import _stored
from vicinal._checks import shown
from vicinal._stored import Fields

P = TypeVar("P")

FORMAT = 2  # at first there was none
NEWER = (
    3  # of plans with a mask, and of those that make more rows than they are given; of others a reader of 2 knows all
)
_WHAT = "this is not what to_dict of a plan gave"
_REMEDY = "draw the plan again by its key, or take an undamaged copy"
_DEPTH = 32  # of chains in chains; a composition nests at most ten
_PARTS = 4096  # plans of one chain, chains in chains included
_PLAN = ("partner", "weight", "target_weight", "box", "grid", "channels_last", "vectors", "noise", "smoothing", "key")
_CHAIN = ("plans", "key")
_FLOATS = (torch.float32, torch.float64)
_SUM = 1e-4  # how far from 1 the shares of a row may sum: many of float32, made by hand


def read(
    values: Any,
    make_plan: Callable[[dict[str, Any]], P],
    make_chain: Callable[[tuple[P, ...], Any], P],
    make_beside: Callable[[P, Any], P],
) -> P:
    """Return the plan of a dict.

    Args:
        values: what `to_dict` returned, of this version or of one before it.
        make_plan: makes a plan of its arguments; "noise" is None or (sigma, key).
        make_chain: makes a chain of its plans and its key.
        make_beside: makes of a plan, and its key, the one that also keeps the rows as they are.

    Raises:
        TypeError: values is not a dict.
        ValueError: a field is not as it was written; the sentence names it.

    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{_WHAT}, which is a dict, but {shown(values)}: {_REMEDY}")
    return _Reading(make_plan, make_chain, make_beside).read(values, "", 0)[0]


class _Reading:
    """One dict that is read: a part that stands in it many times is checked, and made, once."""

    def __init__(self, *make: Callable[..., Any]) -> None:
        self._make_plan, self._make_chain, self._make_beside = make
        self._done: dict[int, tuple[Any, int, int]] = {}

    def read(self, values: Any, place: str, depth: int) -> tuple[Any, int, int]:
        """Return a plan, its number of rows, and of how many plans it consists."""
        if id(values) in self._done:
            return self._done[id(values)]
        of = Fields(values, _WHAT, _REMEDY, place)
        if not isinstance(values, Mapping):
            Fields({}, _WHAT, _REMEDY).refuse(f"{place.removesuffix('.')} must be a dict, got {shown(values)}")
        if "plans" in values:
            made = self._read_chain(of, depth)
        else:
            made = self._read_beside(of, depth) if "beside" in values else self._read_plan(of)
        self._done[id(values)] = made
        return made

    def _read_chain(self, of: Fields, depth: int) -> tuple[Any, int, int]:
        if depth == _DEPTH:
            of.refuse(f"plans are nested more than {_DEPTH} levels deep")
        is_sealed = of.check_names(NEWER, ("plans",), ("key",))
        held = of.sequence("plans", 1, _PARTS, f"a list of 1 to {_PARTS} plans")
        key = of.key("key") if "key" in of.values else None
        parts = []
        count = 0
        for i, values in enumerate(held):
            part, rows, of_plans = self.read(values, f"{of.place}plans[{i}].", depth + 1)
            count += of_plans
            if count > _PARTS:
                of.refuse(f"plans are more than {_PARTS}, those of chains in chains included")
            if parts and rows != parts[0][1]:
                of.refuse(f"plans[{i}] is for {rows} rows, and plans[0] for {parts[0][1]}")
            parts.append((part, rows))
        for i, (part, rows) in enumerate(parts[:-1]):
            if part.rows_out != rows:
                of.refuse(f"plans[{i}] makes {part.rows_out} rows of {rows}, which only the last of a chain may")
        if is_sealed:
            of.check_sum()
        return self._make_chain(tuple(part for part, _ in parts), key), parts[0][1], count

    def _read_beside(self, of: Fields, depth: int) -> tuple[Any, int, int]:
        if depth == _DEPTH:
            of.refuse(f"plans are nested more than {_DEPTH} levels deep")
        if not of.check_names(NEWER, ("beside", "key")) or of.values[_stored.FORMAT] != NEWER:
            of.refuse(f"it holds 'beside', which none before format {NEWER} has")
        key = of.key("key")
        part, rows, count = self.read(of.values["beside"], f"{of.place}beside.", depth + 1)
        if part.rows_out != rows:
            of.refuse(f"beside makes {part.rows_out} rows of {rows}, and stands beside as many plain ones")
        of.check_sum()
        return self._make_beside(part, key), rows, count + 1

    def _read_plan(self, of: Fields) -> tuple[Any, int, int]:
        form = of.values.get(_stored.FORMAT)
        has_mask = isinstance(form, numbers.Integral) and int(form) == NEWER
        is_sealed = of.check_names(NEWER, (*_PLAN, "mask") if has_mask else _PLAN)
        partner = of.tensor("partner", (torch.int64,))
        if partner.ndim not in (1, 2):
            of.refuse(f"partner must be [n] or [n, m], got {list(partner.shape)}")
        n = partner.shape[0]
        shape = [n] if partner.ndim == 1 else [n, partner.shape[1] + 1]
        weights = {name: _shares(of, name, shape) for name in ("weight", "target_weight")}
        _check_range(of, "partner", partner, 0, n - 1)
        grid = tuple(
            of.as_integer(f"grid[{i}]", size, 1, 1 << 31)
            for i, size in enumerate(of.sequence("grid", 0, 3, "a list of 0 to 3 sizes"))
        )
        arguments = {
            "partner": partner,
            **weights,
            "box": _box(of, partner, grid),
            "grid": grid,
            "channels_last": of.flag("channels_last"),
            "vectors": of.flag("vectors"),
            "noise": _noise(of),
            "smoothing": of.number("smoothing", 0, 1),
            "key": of.key("key"),
            "mask": _mask(of, partner, grid) if has_mask else None,
        }
        if is_sealed:
            of.check_sum()
        return self._make_plan(arguments), n, 1


def _shares(of: Fields, name: str, shape: list[int]) -> Tensor | None:
    """Return shares [n] or [n, m + 1], each in [0, 1], those of a row with sum 1."""
    if name == "target_weight" and of.values[name] is None:
        return None
    weight = of.tensor(name, _FLOATS)
    if list(weight.shape) != shape:
        of.refuse(f"{name} must be {shape} beside partner, got {list(weight.shape)}")
    _check_range(of, name, weight, 0, 1)
    if weight.ndim == 2 and weight.numel():
        off = (weight.detach().cpu().double().sum(1) - 1).abs()
        if float(off.max()) > _SUM:
            row = int(off.argmax())
            of.refuse(f"{name} must hold shares that sum to 1, and those of row {row} sum to {1 + float(off[row]):.6g}")
    return weight


def _check_range(of: Fields, name: str, t: Tensor, low: int, high: int) -> None:
    """Refuse elements outside of [low, high], and nan."""
    if not t.numel():
        return
    values = t.detach().cpu()
    least, most = values.aminmax()
    if low <= least.item() and most.item() <= high:
        return
    row, *_ = (~((values >= low) & (values <= high))).nonzero()[0].tolist()
    bad = values[row] if values.ndim == 1 else values[row][~((values[row] >= low) & (values[row] <= high))][0]
    of.refuse(f"{name} must lie in [{low}, {high}], got {shown(bad.item())} in row {row}")


def _box(of: Fields, partner: Tensor, grid: tuple[int, ...]) -> Tensor | None:
    """Return boxes [n, d, 2] that lie on the grid."""
    if of.values["box"] is None:
        return None
    box = of.tensor("box", (torch.int64,))
    expected = [len(partner), len(grid), 2]
    if partner.ndim != 1 or not grid or list(box.shape) != expected:
        of.refuse(
            f"box must be [n, d, 2] beside partner [n] and a grid of d sizes, got {list(box.shape)} beside partner "
            f"{list(partner.shape)} and grid {list(grid)}"
        )
    start, stop = box.detach().cpu().unbind(2)
    inside = ((start >= 0) & (start <= stop) & (stop <= torch.tensor(grid, device="cpu"))).all(1)
    if not bool(inside.all()):
        row = int(inside.long().argmin())
        of.refuse(f"box must lie on the grid {list(grid)}, got {box[row].tolist()} in row {row}")
    return box


def _mask(of: Fields, partner: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Return a mask [n, *grid], or of columns, [n, columns]."""
    mask = of.tensor("mask", (torch.bool,))
    fits = list(mask.shape) == [len(partner), *grid] if grid else mask.ndim == 2 and len(mask) == len(partner)
    if partner.ndim != 1 or of.values["box"] is not None or not fits:
        of.refuse(
            f"mask must be [n, *grid], or [n, columns] without a grid, beside partner [n] and no box, got "
            f"{list(mask.shape)} beside partner {list(partner.shape)} and grid {list(grid)}"
        )
    return mask


def _noise(of: Fields) -> tuple[float, Any] | None:
    held = of.values["noise"]
    if held is None:
        return None
    if not isinstance(held, Mapping) or set(map(shown, held)) != {"'key'", "'sigma'"}:
        of.refuse(f"noise must be None, or a dict of sigma and key, got {shown(held)}")
    inner = Fields(held, of.what, of.remedy, f"{of.place}noise.")
    key = inner.key("key")
    if key is None:
        inner.refuse("key must be the five integers of a Key, got None")
    return inner.number("sigma", 0, math.inf), key
