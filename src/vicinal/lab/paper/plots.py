"""Figures of the studies: SVG that takes its colors from the page it stands in, and has its own where it stands alone.

Every figure has a key for the ids inside, unique in a page, and a label that says what it shows to those who cannot see it.
"""

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
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
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
_LINE = 19.0  # height of a row of a dot plot
_LONGEST = 52  # letters of a name


@dataclass(frozen=True)
class Curve:
    """One curve: kind is `erm`, `mix`, `other` or `faint`; dashed ones are the paper's, with diamonds as in `dot_plot`."""

    name: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


def lines(key: str, label: str, curves: Sequence[Curve], x: str, y: str) -> str:
    """Draw curves over one axis, named x and y, with their own names and strokes above it.

    The first curve is the widest, so that it shows on both sides of one that coincides with it. Names of more than 52
    letters are cut.
    """
    names = [drawing.printable(curve.name, _LONGEST) for curve in curves]
    places = _key_places(names)
    above = _KEY * (1 + max(line for _, line in places)) + 6.0
    height = 250.0 + above
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
        axes.set_ylim(bottom=0.0)
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
        key: of the figure.
        label: of the figure.
        panels: a title and probabilities [k, k] of class 1 each, rows from bottom to top.
        points: [n, 2].
        classes: [n]: class 1 and the others.
        window: left, right, bottom, top.

    """
    side = (WIDTH - 16.0) / 2
    rows = (len(panels) + 1) // 2
    height = rows * (side + 30.0)
    levels = np.linspace(0.0, 0.9, 10)
    clear = 1.0 - (0.04 + 0.62 * (levels + 0.05))  # what shows through above each level
    layers = 1.0 - clear / np.append(1.0, clear[:-1])  # one upon the other: each contour is written once
    x, y = (np.linspace(*ends, len(panels[0][1])) for ends in (window[:2], window[2:]))
    with drawing.style():
        figure = drawing.canvas(height)
        for i, (title, p) in enumerate(panels):
            left, above = (i % 2) * (side + 16.0), (i // 2) * (side + 30.0)
            axes = drawing.add_axes(figure, height, (left, above + 24.0, side, side))
            for level, opacity in zip(levels, layers, strict=True):
                axes.contourf(x, y, np.clip(p, 1e-9, 1 - 1e-9), levels=[level, 1.0], colors=[MIX], alpha=opacity)
            for c, color in ((1, OTHER), (0, ERM)):
                mine = points[classes == c] if c else points[classes != 1]
                for width, ink in ((3.4, PAPER), (2.6, color)):
                    axes.add_patch(PathPatch(_dots(mine), edgecolor=ink, fill=False, linewidth=width, capstyle="round"))
            axes.set(xlim=window[:2], ylim=window[2:])
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, color=RULE)
            drawing.add_text(figure, height, left, above + 16.0, title, color=INK)
        return standalone(drawing.to_svg(figure, key, label))


def color_of(name: str) -> str:
    """Return the kind of a row of a study that has no other methods than ERM and mixup."""
    return "mix" if "mixup" in name else "erm"


def write_dot_plot(
    path: Path, label: str, table: Sequence[Row], x: str, ending: str = "", kind: Callable[[str], str] = color_of
) -> tuple[Path, ...]:
    """Draw results (dot and 95 % interval) next to published numbers (hollow diamond), one line each.

    Args:
        path: of the SVG file; its name without the suffix is the key.
        label: of the figure.
        table: of which those rows are drawn that were run and have the ending.
        x: what the horizontal axis measures.
        ending: of the rows' names, left out.
        kind: returns, from its name, if a row is of ERM ("erm"), of mixup ("mix") or of neither ("other").

    Returns:
        The path, or nothing where no row was run.

    """
    rows = [row for row in table if row.values and row.name.endswith(ending)]
    if not rows:
        return ()
    names, bottom = 212.0, _LINE * len(rows)
    height = bottom + 40.0
    with drawing.style():
        figure = drawing.canvas(height)
        axes = drawing.add_axes(figure, height, (names, 0.0, WIDTH - names - 8.0, bottom))
        for i, row in enumerate(rows):
            middle = _LINE * (i + 0.5)
            _add_dot(axes, middle, row, _COLORS[kind(row.name)])
            name = drawing.printable(row.name.removesuffix(ending), 34)
            drawing.add_text(figure, height, 0.0, middle + 4.5, name, fontsize=11.5)
        axes.set_ylim(bottom, 0.0)
        axes.yaxis.set_major_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(drawing.tick_format(1.0)))
        axes.spines["left"].set_visible(False)
        drawing.add_text(figure, height, 0.0, height - 6.0, "dots ours, diamonds published", color=MUTED)
        drawing.add_text(figure, height, WIDTH - 8.0, height - 6.0, x, ha="right", color=MUTED)
        atomic.write(path, standalone(drawing.to_svg(figure, path.stem, label)))
    return (path,)


def _dots(points: np.ndarray) -> Outline:
    """Return lines of no length at some points, whose round ends are dots: a fifth of the bytes of markers."""
    return Outline(np.repeat(points, 2, axis=0), [Outline.MOVETO, Outline.LINETO] * len(points))


def _add_dot(axes: Axes, middle: float, row: Row, color: str) -> None:
    axes.axhline(middle, color=RULE, linewidth=0.5, zorder=0)
    if row.interval is not None:
        ends = row.interval.low, row.interval.high
        axes.plot(ends, [middle, middle], color=color, linewidth=3.0, solid_capstyle="butt")
    axes.plot([statistics.fmean(row.values)], [middle], "o", color=color, markersize=5.0)
    if row.published is not None:
        axes.plot([row.published.value], [middle], "D", color=INK, markerfacecolor="none", markersize=5.5)


def standalone(svg: str) -> str:
    """Add what a figure needs in a file of its own."""
    svg = svg.replace("<svg ", f'<svg xmlns="{_XML}" font-family="system-ui, sans-serif" ', 1)
    return re.sub(r"var\(--(\w+)\)", lambda match: f"var(--{match[1]}, {_ALONE[match[1]]})", svg)
