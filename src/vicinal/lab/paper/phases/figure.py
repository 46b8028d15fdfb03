"""The figure of the study of when mixup helps: its effect by ERM's training error, one mark per condition."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from vicinal.lab import drawing
from vicinal.lab.drawing import INK, MIX, MUTED, OTHER, WIDTH
from vicinal.lab.paper.phases.conditions import TRAIN_ERROR, Condition, Measured, effects
from vicinal.lab.paper.plots import standalone
from vicinal.lab.paper.rows import ERM
from vicinal.lab.statistics import paired

_LEFT = 38.0
_PANELS = (("clean labels", False), ("random labels among them", True))
_COLORS = {"images": MIX, "tables": OTHER}
_MARKERS = {"images": "s", "tables": "o"}


def draw(measured: Measured, threshold: float | None) -> str:
    """Draw the effect of mixup, alpha = 1, on the test error, with its interval, and the threshold of the rule, in %."""
    found = effects(measured, 1.0, "test error")
    height, top, tall = 336.0, 62.0, 216.0
    wide = (WIDTH - _LEFT - 38.0) / 2
    with drawing.style():
        figure = drawing.canvas(height)
        drawing.add_text(figure, height, 0.0, 15.0, "Test error, mixup (alpha = 1) minus ERM, points", color=MUTED)
        _add_key(figure, height, 33.0)
        first: Axes | None = None
        for i, (title, noisy) in enumerate(_PANELS):
            left = _LEFT + i * (wide + 24.0)
            axes = drawing.add_axes(figure, height, (left, top, wide, tall))
            mine = {c: effect for c, effect in found.items() if (c.noise > 0) == noisy}
            _add_marks(axes, measured, mine)
            _finish(axes, threshold, first)
            drawing.add_text(figure, height, left, top - 8.0, title)
            first = first or axes
        drawing.add_text(
            figure, height, WIDTH - 8.0, height - 26.0, "training error of ERM, % (root scale)", ha="right", color=MUTED
        )
        below = "below 0 mixup helps; dashed: the threshold of the rule"
        drawing.add_text(figure, height, 0.0, height - 6.0, below, color=MUTED)
        return standalone(drawing.to_svg(figure, "phase", _label(measured, found)))


def _add_marks(axes: Axes, measured: Measured, found: dict[Condition, list[float]]) -> None:
    for condition, effect in found.items():
        x = 100 * statistics.fmean(TRAIN_ERROR(measured[condition][ERM]))
        mean, low, high, _ = paired(effect, 0.0)
        color = _COLORS[condition.family]
        hollow: dict[str, Any] = {} if low > 0 or high < 0 else {"markerfacecolor": "none"}
        axes.plot([x, x], [low, high], color=color, linewidth=0.8, alpha=0.35, zorder=1)
        marker = _MARKERS[condition.family]
        axes.plot(x, mean, marker, color=color, markersize=4.2, markeredgewidth=0.8, **hollow)


def _finish(axes: Axes, threshold: float | None, first: Axes | None) -> None:
    axes.axhline(0.0, color=INK, linewidth=0.9, zorder=0)
    if threshold is not None:
        axes.axvline(threshold, color=MUTED, linewidth=1.0, linestyle=(0, (4, 2.5)), zorder=0)
    axes.set_xscale("function", functions=(_root, _square))  # most conditions lie near 0
    axes.set_xlim(-0.2, 100.0)
    axes.xaxis.set_major_locator(FixedLocator([0, 1, 5, 20, 50, 100]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(drawing.tick_format(1.0)))
    drawing.add_grid(axes, 1.0, 6)
    if first is not None:
        axes.sharey(first)
        axes.autoscale(axis="y")
        axes.tick_params(labelleft=False)


def _root(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sign(x) * np.sqrt(np.abs(x))


def _square(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * np.abs(x)


def _add_key(figure: Figure, height: float, y: float) -> None:
    x = 0.0
    entries = [(MIX, "\N{BLACK SQUARE}", "images"), (OTHER, "\N{BLACK CIRCLE}", "tables")]
    entries.append((MUTED, "\N{WHITE CIRCLE}", "hollow: the interval holds 0"))
    for color, mark, text in entries:
        drawing.add_text(figure, height, x, y, mark, color=color)
        drawing.add_text(figure, height, x + 14.0, y, text, color=MUTED)
        x += 14.0 + 7.2 * len(text) + 14.0


def _label(measured: Measured, found: dict[Condition, list[float]]) -> str:
    """Return what the figure shows, in numbers."""
    helps = sum(statistics.fmean(effect) < 0 for effect in found.values())
    return (
        f"Effect of mixup on the test error by ERM's training error: {len(found)} conditions, of which the mean is below 0 "
        f"in {helps}, on the left with clean labels, on the right with random ones among them"
    )
