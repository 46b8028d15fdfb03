"""Figures of the studies: SVG that takes its colors from the page it stands in, and has its own where it stands alone."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from vicinal.lab import atomic, drawing
from vicinal.lab.drawing import ERM, FAINT, INK, MIX, MUTED, OTHER, PAPER, RULE, WIDTH
from vicinal.lab.paper.study import Row

# of a figure that stands alone, which a dark page may hold: readable on white and on black
_ALONE = {
    "ink": "#6b7077",
    "muted": "#7d838a",
    "rule": "#9aa0a8",
    "paper": "#ffffff",
    "faint": "#a0a5ac",
    "erm": "#7b8087",
    "mix": "#2b82c9",
    "other": "#c4661a",
}
_COLORS = {"erm": ERM, "mix": MIX, "other": OTHER, "faint": FAINT}
_XML = "http://www.w3.org/2000/svg"
_KEY = 18.0  # height of a line of names
_STROKE = 24.0  # length of the stroke beside a name
_LETTER = 6.9  # width of a letter, about
_LONGEST = 52  # letters of a name


@dataclass(frozen=True)
class Curve:
    """One curve: kind is `erm`, `mix`, `other` or `faint`; dashed ones are the paper's, with diamonds as in `dot_plot`."""

    name: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


@dataclass(frozen=True)
class Dot:
    """One line of a figure of results next to published numbers."""

    name: str
    kind: str
    published: float | None
    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, row: Row, kind: str, ending: str = "") -> Dot:
        """Return the point of a row of a table, named without an ending that all rows have."""
        own = row.interval
        published = None if row.published is None else row.published.value
        value = statistics.fmean(row.values) if row.values else None
        low, high = (None, None) if own is None else (own.low, own.high)
        return cls(row.name.removesuffix(ending), kind, published, value, low, high)


def lines(
    key: str, label: str, curves: Sequence[Curve], x: str, y: str, height: float = 250.0, top: float | None = None
) -> str:
    """Draw curves over one axis, their names with their strokes above it.

    The first curve is the widest, so that it shows on both sides of one that coincides with it.

    Args:
        key: for the ids inside, unique in a page.
        label: what the figure shows, for those who cannot see it.
        curves: what is drawn; names of more than 52 letters are cut.
        x: what the horizontal axis counts.
        y: what the vertical axis measures.
        height: in the units of the page's figures, without the names.
        top: where the vertical axis ends; None: where the curves do.

    """
    names = [drawing.printable(curve.name, _LONGEST) for curve in curves]
    places = _key_places(names)
    above = _KEY * (1 + max(line for _, line in places)) + 6.0
    height += above
    with drawing.style():
        figure = drawing.canvas(height)
        axes = drawing.add_axes(figure, height, (42.0, above + 24.0, WIDTH - 50.0, height - above - 66.0))
        for i, (curve, name, (left, line)) in enumerate(zip(curves, names, places, strict=True)):
            style = _stroke(curve, 3.4 if i == 0 else 1.5)
            point: dict[str, Any] = {"marker": "o"} if len(curve.x) == 1 else {}  # one epoch makes no line
            axes.plot(curve.x, curve.y, **(style | point))
            middle = 1.0 - (_KEY * line + 9.0) / height
            ends = [(left + share * _STROKE) / WIDTH for share in (0.0, 0.5, 1.0)]
            figure.add_artist(Line2D(ends, [middle] * 3, markevery=[1], **style))
            drawing.add_text(figure, height, left + _STROKE + 6.0, _KEY * line + 13.0, name)
        drawing.add_grid(axes, 1.0)
        if all(float(value).is_integer() for curve in curves for value in curve.x):  # as epochs
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_ylim(bottom=0.0, top=top)
        axes.spines["bottom"].set_color(MUTED)
        drawing.add_text(figure, height, 4.0, above + 12.0, y, color=MUTED)
        drawing.add_text(figure, height, WIDTH - 8.0, height - 8.0, x, ha="right", color=MUTED)
        return standalone(drawing.to_svg(figure, key, label))


def _stroke(curve: Curve, width: float) -> dict[str, Any]:
    style: dict[str, Any] = {"color": _COLORS[curve.kind], "linewidth": width}
    if curve.dashed:
        style |= {"linewidth": 1.2, "linestyle": (0, (4, 2.5))}
        style |= {"marker": "D", "markersize": 4.5, "markerfacecolor": "none"}
    return style


def _key_places(names: Sequence[str]) -> list[tuple[float, int]]:
    """Return the left edge and the line of each key, side by side where they fit."""
    places: list[tuple[float, int]] = []
    left, line = 4.0, 0
    for name in names:
        wide = _STROKE + 6.0 + _LETTER * len(name)
        if places and left + wide > WIDTH:
            left, line = 4.0, line + 1
        places.append((left, line))
        left += wide + 14.0
    return places


def surfaces(
    key: str,
    label: str,
    panels: Sequence[tuple[str, np.ndarray]],
    points: np.ndarray,
    classes: np.ndarray,
    window: tuple[float, float, float, float],
) -> str:
    """Draw decision surfaces side by side, two in a row.

    Args:
        key: for the ids inside, unique in a page.
        label: what the figure shows, for those who cannot see it.
        panels: a title and probabilities [k, k] of class 1 each, rows from bottom to top.
        points: [n, 2].
        classes: [n]: class 1 and the others.
        window: left, right, bottom, top.

    """
    side = (WIDTH - 16.0) / 2
    rows = (len(panels) + 1) // 2
    height = rows * (side + 30.0)
    levels = np.linspace(0.0, 1.0, 11)
    blue = tuple(int(MIX[i : i + 2], 16) / 255 for i in (1, 3, 5))
    fills = [(*blue, 0.04 + 0.62 * (level + 0.05)) for level in levels[:-1]]
    x = np.linspace(window[0], window[1], panels[0][1].shape[1])
    y = np.linspace(window[2], window[3], panels[0][1].shape[0])
    with drawing.style():
        figure = drawing.canvas(height)
        for i, (title, p) in enumerate(panels):
            left, above = (i % 2) * (side + 16.0), (i // 2) * (side + 30.0)
            axes = drawing.add_axes(figure, height, (left, above + 24.0, side, side))
            axes.contourf(x, y, np.clip(p, 1e-9, 1 - 1e-9), levels=levels, colors=fills)
            for c, color in ((1, OTHER), (0, ERM)):
                mine = points[classes == c] if c else points[classes != 1]
                axes.scatter(mine[:, 0], mine[:, 1], s=7, color=color, linewidths=0.4, edgecolors=PAPER)
            axes.set_xlim(window[0], window[1])
            axes.set_ylim(window[2], window[3])
            _frame(axes)
            drawing.add_text(figure, height, left, above + 16.0, title, color=INK)
        return standalone(drawing.to_svg(figure, key, label))


def dot_plot(key: str, label: str, points: Sequence[Dot], x: str) -> str:
    """Draw results (dot and 95 % interval) next to published numbers (hollow diamond), one line each."""
    each, bottom = 19.0, 40.0
    height = each * len(points) + bottom
    names = 212.0
    with drawing.style():
        figure = drawing.canvas(height)
        axes = drawing.add_axes(figure, height, (names, 0.0, WIDTH - names - 8.0, each * len(points)))
        for i, point in enumerate(points):
            middle = each * (i + 0.5)
            color = _COLORS[point.kind]
            axes.axhline(middle, color=RULE, linewidth=0.5, zorder=0)
            if point.low is not None and point.high is not None:
                axes.plot([point.low, point.high], [middle, middle], color=color, linewidth=3.0, solid_capstyle="butt")
            if point.value is not None:
                axes.plot([point.value], [middle], "o", color=color, markersize=5.0)
            if point.published is not None:
                axes.plot([point.published], [middle], "D", color=INK, markerfacecolor="none", markersize=5.5)
            drawing.add_text(figure, height, 0.0, middle + 4.5, drawing.printable(point.name, 34), fontsize=11.5)
        axes.set_ylim(each * len(points), 0.0)
        axes.yaxis.set_major_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(drawing.tick_format(1.0)))
        axes.spines["left"].set_visible(False)
        drawing.add_text(figure, height, 0.0, height - 6.0, "dots ours, diamonds published", color=MUTED)
        drawing.add_text(figure, height, WIDTH - 8.0, height - 6.0, x, ha="right", color=MUTED)
        return standalone(drawing.to_svg(figure, key, label))


def color_of(name: str) -> str:
    """Return the kind of a row of a study that has no other methods than ERM and mixup."""
    return "mix" if "mixup" in name else "erm"


def write_dot_plot(
    path: Path, label: str, rows: Sequence[Row], x: str, ending: str = "", kind: Callable[[str], str] = color_of
) -> tuple[Path, ...]:
    """Write the `dot_plot` of those rows of an ending that were run; return its path, or nothing where none was.

    Args:
        path: of the file; its name without the suffix is the key.
        label: what the figure shows, for those who cannot see it.
        rows: of a table.
        x: what the horizontal axis measures.
        ending: of the rows' names, left out.
        kind: returns, from its name, if a row is of ERM ("erm"), of mixup ("mix") or of neither ("other").

    """
    points = [Dot.of(row, kind(row.name), ending) for row in rows if row.values and row.name.endswith(ending)]
    if not points:
        return ()
    atomic.write(path, dot_plot(path.stem, label, points, x))
    return (path,)


def _frame(axes: Axes) -> None:
    axes.xaxis.set_major_locator(NullLocator())
    axes.yaxis.set_major_locator(NullLocator())
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(RULE)


def standalone(svg: str) -> str:
    """Add what a figure needs in a file of its own."""
    svg = svg.replace("<svg ", f'<svg xmlns="{_XML}" font-family="system-ui, sans-serif" ', 1)
    return re.sub(r"var\(--(\w+)\)", lambda match: f"var(--{match[1]}, {_ALONE[match[1]]})", svg)
