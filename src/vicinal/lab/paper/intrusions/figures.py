"""Figures of the study of manifold intrusion: where a family of toy tables turns from help to harm, and all sets.

They are whole SVG files with the colors of the report's light page, on its paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from vicinal.lab import drawing
from vicinal.lab.data.synthetic import Family
from vicinal.lab.drawing import FAINT, INK, MIX, MUTED, OTHER, PAPER, RULE, WIDTH

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b1c1e",
    "muted": "#5a5f66",
    "rule": "#dcdee1",
    "faint": "#b4b8be",
    "erm": "#55585d",
    "mix": "#0b62a8",
    "other": "#a34700",
}

_LEFT = 46.0  # of the panels, for their numbers
_SHOWN = 150  # rows in a thumbnail
_CLASSES = (MIX, OTHER, FAINT)
_MARKERS = ("o", "s", "^", "D", "v", "P")  # one per family


def standalone(image: str) -> str:
    """Return a file of an inline figure: its namespaces, its typeface, and colors in place of the page's variables."""
    for name, color in LIGHT.items():
        image = image.replace(f"var(--{name})", color)
    head = 'xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" style="background:'
    return image.replace("<svg ", f'<svg {head}{LIGHT["paper"]}" ', 1) + "\n"


def family_figure(family: Family, sets: Sequence[Mapping[str, Any]]) -> str:
    """Draw one family from harmless to wrong: its tables, the effect of mixup with intervals, and the indicator.

    `sets` are as `intrusion.summarize` returns them, in the order of the family's values.
    """
    height = 440.0
    wide = WIDTH - _LEFT - 8.0
    places = np.arange(len(sets), dtype=float)
    with drawing.style():
        figure = drawing.canvas(height)
        title = drawing.printable(family.title[0].upper() + family.title[1:], 70)
        drawing.add_text(figure, height, 0.0, 15.0, title, fontweight="bold")
        _thumbnails(figure, height, family, [one["value"] for one in sets], (_LEFT, 26.0, wide))
        drawing.add_text(figure, height, 0.0, 104.0, "Test error, mixup minus ERM, points", color=MUTED)
        upper = drawing.add_axes(figure, height, (_LEFT, 114.0, wide, 140.0))
        upper.axhline(0.0, color=INK, linewidth=0.9)
        for key, color, shift in (("effect", OTHER, -0.09), ("chosen", MIX, 0.09)):
            mean, low, high = (np.array([one[key][i] for one in sets]) * 100 for i in range(3))
            upper.errorbar(places + shift, mean, (mean - low, high - mean), color=color, linewidth=1.6, marker="o")
        _panel(upper, len(sets))
        _key(figure, height, 272.0, ((OTHER, "alpha 1"), (MIX, "alpha chosen on validation")))
        drawing.add_text(figure, height, 0.0, 300.0, "Before training, at alpha 1", color=MUTED)
        lower = drawing.add_axes(figure, height, (_LEFT, 310.0, wide, 66.0))
        lower.axhline(0.0, color=INK, linewidth=0.9)
        lower.plot(places, [one["conflict"] for one in sets], color=INK, linewidth=1.8, marker="o", clip_on=False)
        dashed = {"color": MUTED, "linewidth": 1.2, "dashes": (4.0, 2.5), "marker": "o", "markersize": 4.0}
        lower.plot(places, [one["third"] for one in sets], clip_on=False, **dashed)
        _panel(lower, len(sets))
        lower.set_xticks(places, [f"{one['value']:g}" for one in sets])
        parameter = drawing.printable(family.parameter, 60)
        drawing.add_text(figure, height, WIDTH - 8.0, height - 30.0, parameter, ha="right", color=MUTED)
        _key(figure, height, height - 8.0, ((INK, "conflict"), (MUTED, "share nearest to neither class")))
        said = "; ".join(
            f"{one['value']:g}: effect {100 * one['effect'][0]:+.1f} points, conflict {one['conflict']:+.3f}"
            for one in sets
        )
        label = f"{family.title}, by {family.parameter}. {said}."
        return standalone(drawing.to_svg(figure, f"intrusion-{family.name}", label))


def scatter(sets: Sequence[Mapping[str, Any]], rank: Mapping[str, Any]) -> str:
    """Draw the effect of mixup at alpha 1 by the conflict of the data, one mark per set."""
    height = 446.0
    wide, tall = WIDTH - _LEFT - 8.0, 300.0
    names = list(dict.fromkeys(one["family"] for one in sets if one["kind"] == "toy"))
    with drawing.style():
        figure = drawing.canvas(height)
        title = f"Rank correlation {rank['rho']:.2f} [{rank['low']:.2f}, {rank['high']:.2f}], {rank['n']} sets"
        drawing.add_text(figure, height, 0.0, 15.0, title, fontweight="bold")
        drawing.add_text(figure, height, 0.0, 34.0, "Test error, mixup at alpha 1 minus ERM, points", color=MUTED)
        axes = drawing.add_axes(figure, height, (_LEFT, 44.0, wide, tall))
        axes.axhline(0.0, color=INK, linewidth=0.9)
        axes.axvline(0.0, color=RULE, linewidth=0.9)
        for one in sets:
            mean, low, high = (100 * value for value in one["effect"])
            toy = one["kind"] == "toy"
            color, size = (OTHER, 6.5) if toy else (MIX, 11.0)
            marker = _MARKERS[names.index(one["family"]) % len(_MARKERS)] if toy else "*"
            axes.plot([one["conflict"]] * 2, [low, high], color=color, linewidth=0.8, alpha=0.4)
            axes.plot(one["conflict"], mean, marker, color=color, markeredgecolor=PAPER, markersize=size)
        drawing.add_grid(axes, 1.0, 8)
        axes.xaxis.set_major_formatter(FuncFormatter(drawing.tick_format(1.0)))
        axis = "conflict at alpha 1, before training"
        drawing.add_text(figure, height, WIDTH - 8.0, height - 66.0, axis, ha="right", color=MUTED)
        _legend(figure, height, names)
        said = "; ".join(f"{one['set']} {one['conflict']:+.3f}, {100 * one['effect'][0]:+.1f}" for one in sets)
        label = f"{title}. Conflict and effect in points of each: {said}."
        return standalone(drawing.to_svg(figure, "intrusion-all", label))


def _thumbnails(
    figure: Figure, height: float, family: Family, values: Sequence[float], box: tuple[float, float, float]
) -> None:
    left, top, wide = box
    side = min(70.0, wide / len(values) - 6.0)
    for i, value in enumerate(values):
        table = family.table(value, _SHOWN, 0)
        middle = left + (i + 0.5) * wide / len(values)
        axes = drawing.add_axes(figure, height, (middle - side / 2, top, side, side))
        # the first two of the inputs: the blobs' others look the same
        for label in range(family.classes):
            mine = table.numeric[table.target == label]
            axes.plot(mine[:, 0], mine[:, 1], "o", color=_CLASSES[label], markersize=1.8, markeredgewidth=0.0)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_axis_off()


def _panel(axes: Axes, count: int) -> None:
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    drawing.add_grid(axes, 1.0, 4)


def _key(figure: Figure, height: float, y: float, entries: Sequence[tuple[str, str]]) -> None:
    x = _LEFT
    for color, text in entries:
        drawing.add_text(figure, height, x, y, "\N{BLACK CIRCLE}", color=color)
        drawing.add_text(figure, height, x + 13.0, y, text, color=MUTED)
        x += 13.0 + 7.2 * len(text) + 14.0


def _legend(figure: Figure, height: float, names: Sequence[str]) -> None:
    entries = [(_MARKERS[i % len(_MARKERS)], OTHER, name) for i, name in enumerate(names)] + [("*", MIX, "real tables")]
    axes = drawing.add_axes(figure, height, (0.0, height - 54.0, WIDTH, 46.0))
    axes.set_xlim(0.0, 4.0)
    axes.set_ylim(2.0, 0.0)
    axes.set_axis_off()
    for i, (marker, color, name) in enumerate(entries):
        column, line = i % 4, i // 4
        axes.plot(column + 0.07, line + 0.5, marker, color=color, markersize=10.0 if marker == "*" else 6.5)
        axes.text(column + 0.16, line + 0.52, name, va="center", color=MUTED)
