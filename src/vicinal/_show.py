"""Which rows of a batch a figure shows, next to whom, under which titles. How they are drawn is in `_draw.py`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from vicinal import _tree
from vicinal._mixed_target import check_target
from vicinal._panel import Kind, Layout, Panel, layout_of
from vicinal._shapes import spread
from vicinal.target import MixedTarget

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ClassNames = Sequence[Any] | Mapping[int, Any]

_PARTNERS = 4  # drawn for a row, at most
_TERMS = 4  # written in a title, at most
_LETTERS = 16  # of the name of a class
_ROWS, _GRID = 4, 12  # drawn, if nobody says how many


@runtime_checkable
class PlanLike(Protocol):
    """What `show` calls of a plan."""

    def __len__(self) -> int: ...
    def __call__(self, x: Any) -> Any: ...
    def target(self, y: Any, *, missing: float | None = None) -> Any: ...


def show(
    x: Any,
    y: Any = None,
    plan: PlanLike | None = None,
    *,
    rows: int | Iterable[int] | None = None,
    kind: Kind | None = None,
    class_names: ClassNames | None = None,
    channels_last: bool | None = None,
    missing: float | None = None,
) -> Figure:
    """Draw rows of a batch: next to their partners and the mix if a plan is given, else as they are.

    The figure belongs to the caller: it is not a part of pyplot, opens no window, and shows itself as the last line of a
    notebook cell. `figure.savefig("mix.png")` writes it.

    Args:
        x: inputs, a tensor [n, ...]; of a pytree, its tensor with the most dimensions.
        y: targets of x, mixed or not: class indices, soft labels, numbers, or a MixedTarget. Maps of class indices
            [n, h, w] are drawn below images.
        plan: what mixes x and y. Without one they are drawn as they are, mixed already or not.
        rows: how many rows from the first on, or their numbers (default: 4 with a plan, 12 without).
        kind: None decides by shape and dtype. "image": [n, c, h, w] of 1, 3 or 4 channels, and square or uint8 [n, h, w].
            "signal": [n, t] with t > 64, and other [n, c, t] of at most 16 channels. "spectrogram": other [n, f, t], and
            [n, 1, f, t] and square [n, f, t] of values that span more than 10 and are in part negative, as decibels.
            "table": [n] and other [n, features].
        class_names: for class indices, a sequence or a dict; else they are shown as numbers.
        channels_last: whether images are [n, h, w, c] and signals [n, t, c]; None: if only the last dimension can be that
            of channels (1, 3 or 4 of images; of signals at most 4, behind more than 4 steps).
        missing: as of `Plan.target`.

    Returns:
        A `matplotlib.figure.Figure`. Values of an image that are not uint8 or in [0, 1] are scaled to [0, 1], by one scale
        for a row, its partners and their mix; without a plan, by one scale for all.

    Raises:
        ImportError: matplotlib is not installed.
        IndexError: rows are not in the batch.
        TypeError: x or y is of a type or dtype that cannot be drawn, or there is no name for a class.
        ValueError: x has a shape that cannot be drawn (as that kind), or y another number of rows.

    Examples:
        >>> import torch, vicinal
        >>> x, y = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 1])
        >>> mixup = vicinal.Mixup(alpha=1.0, seed=0)
        >>> figure = vicinal.show(*mixup(x, y))  # a mixed batch with its labels
        >>> figure = mixup.plan(4, step=0).show(x, y, rows=2)  # each row, its partner and the mix
        >>> figure.axes[0].get_title()
        'row 0: class 0'

    """
    draw = _drawing()
    if isinstance(y, PlanLike) or not isinstance(plan, (PlanLike, type(None))):
        wrong = type(y if isinstance(y, PlanLike) else plan).__name__
        raise TypeError(f"show takes inputs, targets and a plan in this order, show(x, y, plan), got {wrong}")
    n = _tree.rows(x, y) if plan is None else len(plan)
    layout = layout_of(_one_tensor(x, n), kind, channels_last)
    chosen = _rows(rows, n, _GRID if plan is None else _ROWS)
    if plan is None:
        groups = [_Shown(x, y, n, layout, class_names).panels(chosen)]
    else:
        with torch.no_grad():
            mixed, target = plan(x), None if y is None else plan.target(y, missing=missing)
        before, after = _Shown(x, y, n, layout, class_names), _Shown(mixed, target, n, layout, class_names)
        groups = [_mix(plan, row, before, after) for row in chosen]
    return draw.figure(layout.kind, groups)


def _drawing() -> Any:
    try:
        from vicinal import _draw
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ImportError("show draws with matplotlib, which is not installed: pip install matplotlib") from error
    return _draw


def _one_tensor(x: Any, n: int) -> Tensor:
    """Return the tensor of a pytree that is drawn, as a plain one."""
    tensor = x if isinstance(x, Tensor) else _tree.widest(x, n)
    if tensor is None:
        _tree.flatten(x, "input", n)  # says what to write instead of arrays and the like
        raise TypeError(f"there is no tensor to show in this input: {x!r}")
    if tensor.is_nested or tensor.layout != torch.strided or tensor.is_meta:
        what = "nested" if tensor.is_nested else "meta" if tensor.is_meta else str(tensor.layout).removeprefix("torch.")
        raise TypeError(f"show draws a dense tensor that holds values, got a {what} tensor")
    if tensor.is_complex():
        raise TypeError(f"show draws real numbers, got {tensor.dtype}: give x.abs(), or torch.view_as_real(x)")
    if tensor.ndim == 0 or len(tensor) != n:
        raise ValueError(f"the input has shape {list(tensor.shape)}, but there are {n} rows to show")
    return tensor.as_subclass(Tensor)


# -- which rows --------------------------------------------------------------------------------------------------------


def _rows(rows: int | Iterable[int] | None, n: int, usual: int) -> list[int]:
    rows = usual if rows is None else rows
    if isinstance(rows, int):
        if rows < 1 or isinstance(rows, bool):
            raise ValueError(f"rows must be a number of rows, 1 or more, or row numbers, got {rows}")
        return list(range(min(rows, n)))
    numbered: list[Any] = rows.tolist() if isinstance(rows, (Tensor, np.ndarray)) else list(rows)
    if not numbered or not all(type(row) is int and 0 <= row < n for row in numbered):
        raise IndexError(f"rows must be row numbers, integers in [0, {n}), got {numbered}")
    return numbered


def _mix(plan: PlanLike, row: int, before: _Shown, after: _Shown) -> list[Panel]:
    """Return a row, its partners, and their mix."""
    shares, of_target = _shares(plan, row, "shares"), _shares(plan, row, "target_shares")
    most = sorted((j for j in shares if j != row), key=lambda j: -shares[j])[:_PARTNERS]
    drawn = [j for j in shares if j == row or j in most]
    parts = [replace(panel, share=shares[j], mix=False) for j, panel in zip(drawn, before.panels(drawn), strict=True)]
    (mix,) = after.panels([row])
    of_rows = _sum_of([(share, f"row {j}") for j, share in shares.items()])
    label = mix.label
    if label and before.is_numbers and len(of_target) > 1:
        label += f" = {_sum_of([(share, f'× {before.text(j)}') for j, share in of_target.items()])}"
    told = " + " in label or len(shares) == 1
    note = f"inputs: {of_rows}" if label and (not told or _differ(shares, of_target)) else ""
    box, taken = _box(plan, row, after), _taken(plan, row, after)
    return [*parts, replace(mix, name="mix", label=label or of_rows, mix=True, note=note, box=box, taken=taken)]


def _shares(plan: Any, row: int, which: Literal["shares", "target_shares"]) -> dict[int, float]:
    """Return what a mixed row has of each row of the batch: itself first, then its partners, without shares of 0."""
    if hasattr(plan, "plans"):
        shares = {row: 1.0}
        for part in reversed(plan.plans):
            shares = _total(
                (i, outer * own) for j, outer in shares.items() for i, own in _shares(part, j, which).items()
            )
    elif hasattr(plan, "partners"):
        shares = _total(zip([row, *plan.partners[row].tolist()], getattr(plan, which)[row].tolist(), strict=True))
    else:
        raise TypeError(f"show knows the partners of a MixPlan or a PlanChain, not of a {type(plan).__name__}")
    return {j: share for j, share in shares.items() if share > 0 or j == row}


def _total(terms: Iterable[tuple[int, float]]) -> dict[int, float]:
    total: dict[int, float] = defaultdict(float)
    for j, share in terms:
        total[j] += share
    return total


def _differ(first: dict[int, float], second: dict[int, float]) -> bool:
    return any(abs(first.get(j, 0.0) - second.get(j, 0.0)) > 0.005 for j in {*first, *second})


def _box(plan: Any, row: int, mixed: _Shown) -> tuple[tuple[int, int], ...] | None:
    """Return the box that was cut last, if it lies on what is drawn."""
    for part in reversed(getattr(plan, "plans", (plan,))):
        if getattr(part, "box", None) is not None and len(part.grid) == mixed.layout.grid_dims:
            box = tuple((start, stop) for start, stop in part.box[row].tolist())
            if part._has_grid(mixed.x, "an input") and all(start < stop for start, stop in box):
                return box
    return None


def _taken(plan: Any, row: int, mixed: _Shown) -> np.ndarray | None:
    """Return the mask by which cells were taken last, if it lies on what is drawn and parts it."""
    for part in reversed(getattr(plan, "plans", (plan,))):
        if getattr(part, "mask", None) is not None and len(part.grid) == mixed.layout.grid_dims:
            mask = part.mask[row].cpu().numpy()
            if part.grid and part._has_grid(mixed.x, "an input") and mask.any() and not mask.all():
                return mask
    return None


# -- rows and their labels in words ------------------------------------------------------------------------------------


class _Shown:
    """Inputs, and their targets in words."""

    def __init__(self, x: Any, y: Any, n: int, layout: Layout, class_names: ClassNames | None) -> None:
        if y is not None and not isinstance(y, (Tensor, MixedTarget)):
            raise TypeError(
                f"show takes one target, a tensor or a MixedTarget, got a {type(y).__name__}: choose one of it"
            )
        if y is not None and (y.ndim == 0 or len(y) != n):
            raise ValueError(f"the target has shape {list(y.shape)}, but there are {n} rows to show")
        if isinstance(class_names, str) or not isinstance(class_names, (Sequence, Mapping, type(None))):
            raise TypeError(f"class_names must be a list or a dict of names, got {class_names!r}")
        self.x = _one_tensor(x, n)
        self.layout = layout
        self._y = y if y is None else check_target(y.detach())
        self._names = class_names
        self._is_soft = self._y is not None and _is_soft(self._y)

    @property
    def is_numbers(self) -> bool:
        """True if each row has one number."""
        return isinstance(self._y, Tensor) and self._y.is_floating_point() and self._y[0].numel() == 1

    def panels(self, rows: list[int]) -> list[Panel]:
        """Return rows as they are drawn."""
        each = zip(rows, self.layout.values(self.x, rows), self._masks(rows), strict=True)
        mix = isinstance(self._y, MixedTarget)
        return [Panel(f"row {row}", self.text(row), values, mix=mix, mask=mask) for row, values, mask in each]

    def text(self, row: int) -> str:
        """Return the target of a row in words; "" if there is none, or it is a map."""
        if self._y is None or self._y.ndim > 2:
            return ""
        y = self._y[row : row + 1].cpu()
        if isinstance(y, MixedTarget):
            return self._mixed(y)
        values = y.reshape(-1).tolist()
        if not y.is_floating_point():
            return _several(map(self._name, values))
        if self._is_soft:
            return _sum_of([(share, self._name(i)) for i, share in enumerate(values)], most_first=True)
        named = self._names and len(values) > 1
        return _several(f"{self._name(i)} {value:.3g}" if named else f"{value:.3g}" for i, value in enumerate(values))

    def _masks(self, rows: list[int]) -> list[tuple[np.ndarray, np.ndarray] | None]:
        """Return maps of class indices below images, and their shares, in the shapes of `Panel.mask`."""
        y = self._y
        if y is None or self.layout.kind != "image" or y.ndim != 3 or y.dtype.is_floating_point:
            return [None] * len(rows)
        y = y[torch.tensor(rows, device=y.device)].cpu()
        ids, weight = (y.ids, y.weight) if isinstance(y, MixedTarget) else (y.long()[None], torch.ones(1, len(rows)))
        pairs = zip(ids.unbind(1), spread(weight, ids).unbind(1), strict=True)
        return [(classes.numpy(), shares.float().numpy()) for classes, shares in pairs]

    def _mixed(self, y: MixedTarget) -> str:
        entries = zip(*(t.flatten(1).T.tolist() for t in (y.ids, spread(y.weight, y.ids))), strict=True)
        sums = [_sum_of(list(zip(shares, map(self._name, ids), strict=True))) for ids, shares in entries]
        return _several(sums) + (f", smoothing {y.smoothing:.3g}" if y.smoothing else "")

    def _name(self, i: int) -> str:
        if self._names is None:
            return f"class {i}"
        if i < 0:
            return f"ignored ({i})"
        if i not in self._names if isinstance(self._names, Mapping) else i >= len(self._names):
            raise TypeError(f"class_names holds {len(self._names)} names, but there is a class {i}")
        name = " ".join(str(self._names[i]).split())
        return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _is_soft(y: Tensor | MixedTarget) -> bool:
    """Return True if numbers are soft labels [n, num_classes]."""
    if isinstance(y, MixedTarget) or not y.is_floating_point() or y.ndim != 2 or y.shape[1] < 2:
        return False
    return bool((y >= 0).all()) and bool(((y.sum(1) - 1).abs() < 1e-2).all())


def _share(share: float) -> str:
    return f"{share:.2f}" if share >= 0.005 else "<0.01"


def _sum_of(terms: list[tuple[float, str]], most_first: bool = False) -> str:
    """Write "0.71 cat + 0.29 dog", without shares of 0; a class that has all is written alone."""
    terms = [(share, name) for share, name in terms if share > 0]
    terms = sorted(terms, key=lambda term: -term[0]) if most_first else terms
    if len(terms) == 1 and abs(terms[0][0] - 1) < 1e-6:
        return terms[0][1]
    written = [f"{_share(share)} {name}" for share, name in terms[:_TERMS]]
    rest = sum(share for share, _ in terms[_TERMS:])
    return " + ".join([*written, f"{_share(rest)} others"] if rest > 0 else written)


def _several(words: Iterable[str]) -> str:
    words = list(words)
    return ", ".join(words if len(words) <= _TERMS else [*words[:_TERMS], "…"])
