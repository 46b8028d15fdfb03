"""The report's figures.

Each function returns one inline ``<svg>``, or an empty string when the results hold nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from vicinal.lab.compare.baselines import BASELINE, CONSTANT
from vicinal.lab.compare.results import ERM as ERM_NAME
from vicinal.lab.compare.results import Difference
from vicinal.lab.compare.view import View
from vicinal.lab.drawing import (
    ERM,
    FAINT,
    INK,
    MIX,
    MUTED,
    OTHER,
    PAPER,
    RULE,
    WIDTH,
    add_axes,
    add_grid,
    add_text,
    canvas,
    printable,
    style,
    tick_format,
    to_svg,
)
from vicinal.lab.format import is_finite
from vicinal.lab.statistics import Interval

_COLORS = {"erm": ERM, "mix": MIX, "other": OTHER}
_STEPS = [1, 2, 2.5, 5, 10]  # between ticks
_LEFT = 50.0  # of axes, for their numbers
_LINE = 54  # characters of a name and the numbers behind it
_DASHES = (5.0, 3.0)
_FEW = 20  # predictions, fewer of which leave a bin hollow


@style()
def differences(view: View) -> str:
    """Draw paired differences to ERM: one dot per seed, with each method's mean and interval."""
    rows = view.differences
    if not rows:
        return ""
    row_height, top, bottom = 58.0, 2.0, 46.0
    height = top + row_height * len(rows) + bottom
    ends = [end for row in rows for end in (row.low, row.high, *row.per_seed)]
    figure = canvas(height)
    axes = add_axes(figure, height, (4.0, top, WIDTH - 8.0, row_height * len(rows)))
    axes.set_xlim(*_limits([0.0, *filter(is_finite, ends)], 0.03))
    axes.set_ylim(row_height * len(rows), 0.0)
    for number, row in enumerate(rows):
        _strip(axes, number * row_height + 18.0, row, _COLORS[view.tone(row.method)])
        line = top + number * row_height + 12.0
        weight = "bold" if row.primary else "normal"
        change = _change(view, row)
        add_text(figure, height, 0.0, line, printable(row.method, _LINE - len(change)), fontweight=weight)
        add_text(figure, height, WIDTH, line, change, ha="right")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(tick_format(view.main.factor, sign=True)))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    low, high = ("worse", "better") if view.measure.higher else ("better", "worse")
    add_text(figure, height, 0.0, height - 8.0, f"\N{LEFTWARDS ARROW} {low} than ERM", color=MUTED)
    worse = f"{high} than ERM \N{RIGHTWARDS ARROW}"
    add_text(figure, height, WIDTH, height - 8.0, worse, ha="right", color=MUTED)
    sentence = "; ".join(f"{row.method} {_change(view, row)}" for row in rows)
    measure = f"{view.measure.title}{' in percentage points' if view.measure.percent else ''}"
    return to_svg(figure, "differences", f"Difference to ERM in {measure}, one dot per seed: {sentence}.")


@style()
def rivals(view: View, names: Sequence[str]) -> str:
    """Draw the mean and interval of each method on one axis; one that is far off is an arrow at the edge."""
    levels = {name: view.level(name) for name in names}
    levels = {name: of for name, of in levels.items() if is_finite(of.mean)}
    near = [of for name, of in levels.items() if name != CONSTANT] or list(levels.values())
    if not near:
        return ""
    low, high = _limits([end for of in near for end in of if is_finite(end)], 0.06)
    if CONSTANT in levels and low - (high - low) <= levels[CONSTANT].mean <= high + (high - low):
        low, high = _limits([low, high, levels[CONSTANT].mean], 0.04)
    row, left, right, bottom = 27.0, 158.0, 66.0, 42.0
    height = row * len(levels) + bottom
    figure = canvas(height)
    axes = add_axes(figure, height, (left, 0.0, WIDTH - left - right, row * len(levels)))
    axes.set_xlim(low, high)
    axes.set_ylim(row * len(levels), 0.0)
    for number, (name, of) in enumerate(levels.items()):
        middle = (number + 0.5) * row
        color = MUTED if view.families.get(name) == BASELINE else _COLORS[view.tone(name)]
        _level(axes, middle, of, color)
        add_text(figure, height, 0.0, middle + 4.5, printable(view.name(name), 22))
        add_text(figure, height, WIDTH, middle + 4.5, view.main.text(of.mean), ha="right")
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(tick_format(view.main.factor)))
    axes.grid(axis="x", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    better = "more" if view.measure.higher else "less"
    add_text(figure, height, left, height - 6.0, f"{view.title('Test')}, {better} is better", color=MUTED)
    said = "; ".join(f"{name} {view.main.text(of.mean)}" for name, of in levels.items())
    return to_svg(figure, "rivals", f"Mean {view.measure.title} of each method with its interval: {said}.")


def _level(axes: Axes, middle: float, of: Interval, color: str) -> None:
    """Draw a mean with its interval, or an arrow at the edge beyond which it is."""
    low, high = axes.get_xlim()
    if not low <= of.mean <= high:
        end, marker = (high, ">") if of.mean > high else (low, "<")
        axes.plot([end], [middle], marker=marker, color=color, markersize=8.0, markeredgewidth=0.0, clip_on=False)
        return
    if is_finite(of.low) and is_finite(of.high):
        ends = [max(low, of.low), min(high, of.high)]
        axes.plot(ends, [middle, middle], color=color, linewidth=2.0, solid_capstyle="butt")
    axes.plot([of.mean], [middle], "o", color=color, markersize=7.0, markeredgecolor=PAPER, markeredgewidth=1.2)


def _change(view: View, row: Difference) -> str:
    return f"{view.main.text(row.difference, sign=True)} {view.main.interval(row.low, row.high, sign=True)}"


def _strip(axes: Axes, top: float, row: Difference, color: str) -> None:
    """Draw the dots of one method in a lane of 24 units below top, and its mean and interval in a lane beneath."""
    values = [value for value in row.per_seed if is_finite(value)]
    size = 4.6 if len(values) <= 50 else 3.6 if len(values) <= 100 else 3.0
    xs, ys = _dots(axes, values, size + 0.4)
    axes.plot([0.0, 0.0], [top - 1.0, top + 36.0], color=MUTED, linewidth=1.0)
    marks: dict[str, Any] = {"linestyle": "none", "clip_on": False}
    dots = [top + y for y in ys]
    axes.plot(xs, dots, marker="o", markersize=size, color=color, alpha=0.65, markeredgewidth=0.0, **marks)
    lane = top + 30.0
    if is_finite(row.low) and is_finite(row.high):
        axes.plot([row.low, row.high], [lane, lane], color=INK, linewidth=2.2, solid_capstyle="butt")
    if is_finite(row.difference):
        diamond = {"marker": "D", "markersize": 6.5, "markeredgecolor": PAPER, "markeredgewidth": 1.2}
        axes.plot([row.difference], [lane], color=INK, **diamond, **marks)


def _dots(axes: Axes, values: Sequence[float], step: float) -> tuple[list[float], list[float]]:
    """Place dots side by side in a lane of 24 units: equal differences fill columns about their value."""
    low, high = axes.get_xlim()
    unit = (high - low) / WIDTH
    bins: dict[int, list[float]] = {}
    for value in sorted(values):
        bins.setdefault(round((value - low) / unit / step), []).append(value)
    xs: list[float] = []
    ys: list[float] = []
    for own in bins.values():
        columns = math.ceil(len(own) / int(24.0 / step))
        for place, value in enumerate(own):
            level, column = divmod(place, columns)
            xs.append(value + (column - (columns - 1) / 2.0) * step * unit)
            ys.append(24.0 - step * (level + 0.5))
    return xs, ys


def _limits(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    return low - margin * span, high + margin * span


@style()
def by_alpha(view: View) -> str:
    """Draw test error by alpha on a logarithmic axis, with ERM as a band."""
    points = {
        m.alpha: view.level(m.name) for m in view.results.methods if m.family == view.family and m.alpha is not None
    }
    points = {alpha: own for alpha, own in sorted(points.items()) if is_finite(own.mean)}
    if not points:
        return ""
    height = 344.0
    alphas, means = list(points), [own.mean for own in points.values()]
    band = view.level(ERM_NAME)
    edges = [end for own in [*points.values(), band] for end in own]
    figure = canvas(height)
    add_text(figure, height, 0.0, 16.0, view.title("Test"), color=MUTED)
    axes = add_axes(figure, height, (_LEFT, 30.0, WIDTH - _LEFT - 12.0, 232.0))
    axes.set_xscale("log")
    reach = max(1.25, (alphas[-1] / alphas[0]) ** 0.06)
    axes.set_xlim(alphas[0] / reach, alphas[-1] * reach)
    axes.set_ylim(*_limits(list(filter(is_finite, edges)), 0.12))
    add_grid(axes, view.main.factor)
    if is_finite(band.mean):
        if is_finite(band.low) and is_finite(band.high):
            axes.axhspan(band.low, band.high, color=ERM, alpha=0.14, linewidth=0.0)
        axes.axhline(band.mean, color=ERM, linewidth=1.4, dashes=_DASHES)
    axes.plot(alphas, means, color=MIX, linewidth=1.0, alpha=0.6)
    for alpha, own in points.items():
        if is_finite(own.low) and is_finite(own.high):
            axes.plot([alpha, alpha], [own.low, own.high], color=MIX, linewidth=2.0, solid_capstyle="butt")
    axes.plot(alphas, means, "o", color=MIX, markersize=7.0, markeredgecolor=PAPER, markeredgewidth=1.2)
    choice = view.results.choice
    counts = {float(alpha): count for alpha, count in choice.counts.items()} if choice else {}
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(*_alpha_labels(axes, alphas, counts))
    add_text(figure, height, _LEFT, height - 24.0, "alpha, logarithmic scale", color=MUTED)
    if counts:
        below = f"beneath: in how many of {view.results.protocol.seeds} seeds validation chose it"
        add_text(figure, height, _LEFT, height - 6.0, below, color=MUTED)
    said = "; ".join(f"alpha {alpha:g}: {view.main.text(own.mean)}" for alpha, own in points.items())
    unit = ", in percent" if view.measure.percent else ""
    against = f"; ERM: {view.main.text(band.mean)}" if is_finite(band.mean) else ""
    return to_svg(figure, "alpha", f"Mean {view.measure.title} by alpha{unit}: {said}{against}.")


def _alpha_labels(axes: Axes, alphas: Sequence[float], counts: dict[float, int]) -> tuple[list[float], list[str]]:
    """Label as many alphas as have room, the ends and the most often chosen first."""
    low, high = (math.log(limit) for limit in axes.get_xlim())
    pixels = {alpha: (math.log(alpha) - low) / (high - low) * (WIDTH - 62.0) for alpha in alphas}
    placed: list[float] = []
    for alpha in sorted(alphas, key=lambda alpha: (alpha not in (alphas[0], alphas[-1]), -counts.get(alpha, 0), alpha)):
        if all(abs(pixels[alpha] - pixels[other]) >= 30.0 for other in placed):
            placed.append(alpha)
    placed.sort()
    return placed, [f"{alpha:g}\n{counts.get(alpha, 0)}" if counts else f"{alpha:g}" for alpha in placed]


def pooled(view: View, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return count, confidence and accuracy by bin of a method's predictions, all seeds pooled; None without any."""
    tables = [run.reliability for run in view.runs(method) if run.reliability is not None]
    counts = np.array([table.count for table in tables], dtype=float)
    total = counts.sum(axis=0)
    if not total.sum():
        return None

    bins = np.array([[table.confidence, table.accuracy] for table in tables], dtype=float)  # None is nan
    means = (counts[:, None] * np.nan_to_num(bins)).sum(axis=0) / np.maximum(total, 1)
    return total, means[0], means[1]


@style()
def reliability(view: View, method: str) -> str:
    """Draw how often a method is right by how sure it is, above a histogram of how sure it is."""
    table = pooled(view, method)
    if table is None:
        return ""
    count, confidence, accuracy = table
    share = count / count.sum()
    height, side, color = 420.0, 280.0, _COLORS[view.tone(method)]
    percent, quarters = ["0", "25", "50", "75", "100"], [0.0, 0.25, 0.5, 0.75, 1.0]
    figure = canvas(height)
    add_text(figure, height, 0.0, 16.0, printable(method, 42), fontweight="bold")
    add_text(figure, height, 0.0, 34.0, "Accuracy, %", color=MUTED)
    axes = add_axes(figure, height, (_LEFT, 46.0, WIDTH - _LEFT - 16.0, side - 30.0))
    axes.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0))
    axes.set_yticks(quarters, percent)
    axes.set_xticks(quarters, [""] * 5)
    axes.tick_params(axis="x", length=0.0)
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.plot([0.0, 1.0], [0.0, 1.0], color=MUTED, linewidth=1.0, dashes=_DASHES)
    _calibration(axes, count, confidence, accuracy, color)
    bars = add_axes(figure, height, (_LEFT, side + 36.0, WIDTH - _LEFT - 16.0, 54.0))
    edges = np.linspace(0.0, 1.0, len(share) + 1)
    bars.bar(edges[:-1], share, width=np.diff(edges) * 0.86, align="edge", color=color, linewidth=0.0)
    bars.set(xlim=(0.0, 1.0), ylim=(0.0, max(share) * 1.02), yticks=[])
    bars.set_xticks(quarters, percent)
    bars.spines["left"].set_visible(False)
    add_text(figure, height, _LEFT, height - 10.0, "Confidence, %", color=MUTED)
    add_text(figure, height, _LEFT, side + 32.0, "Share of predictions", color=MUTED)
    busiest = int(np.argmax(share))
    sentence = (
        f"Reliability of {method}: accuracy by confidence over {int(count.sum())} test predictions; the fullest bin "
        f"holds {share[busiest]:.0%}, with confidence {confidence[busiest]:.1%} and accuracy {accuracy[busiest]:.1%}."
    )
    return to_svg(figure, f"reliability-{'erm' if method == ERM_NAME else 'mix'}", sentence)


def _calibration(axes: Axes, count: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray, color: str) -> None:
    """Draw accuracy by confidence, each bin with its distance to the diagonal; bins of few predictions are hollow."""
    used, few = np.flatnonzero(count), count < _FEW
    for place in used:
        x = confidence[place]
        axes.plot([x, x], [x, accuracy[place]], color=color, linewidth=2.0, alpha=0.45)
    marks: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 7.0, "clip_on": False}
    for rows, fill, edge in ((used[~few[used]], color, PAPER), (used[few[used]], PAPER, color)):
        axes.plot(confidence[rows], accuracy[rows], color=fill, markeredgecolor=edge, **marks)


def _quartiles(view: View, method: str, key: str) -> np.ndarray:
    """Return rows of epoch, lower quartile, median and upper quartile over a method's seeds."""
    curves = [run.curve for run in view.runs(method) if key in run.curve]
    points = sorted(
        point for curve in curves for point in zip(curve["epoch"], curve[key], strict=True) if is_finite(point[1])
    )
    by_epoch = groupby(points, key=itemgetter(0))
    rows = [(epoch, *np.percentile([value for _, value in of], (25, 50, 75))) for epoch, of in by_epoch]
    return np.array(rows, dtype=float).reshape(-1, 4)


LEARNING = {
    "validation_nll": ("Validation NLL", 1.0),
    "validation_error": ("Validation error, %", 100.0),
    "validation_rmse": ("Validation RMSE", 1.0),
}


@style()
def learning(view: View, key: str) -> str:
    """Draw one validation measure by epoch: median and quartiles over seeds, ERM and the shown method in front."""
    title, factor = LEARNING[key]
    curves = {name: _quartiles(view, name, key) for name in dict.fromkeys([*view.front, *view.networks])}
    curves = {name: rows for name, rows in curves.items() if len(rows)}
    if not curves:
        return ""
    height = 300.0
    front = [name for name in view.front if name in curves]
    first, last = min(rows[0, 0] for rows in curves.values()), max(rows[-1, 0] for rows in curves.values())
    figure = canvas(height)
    add_text(figure, height, 0.0, 16.0, title, color=MUTED)
    axes = add_axes(figure, height, (_LEFT, 30.0, WIDTH - _LEFT - 16.0, height - 30.0 - 44.0))
    axes.set_xlim(first, last if last > first else first + 1.0)
    axes.set_ylim(*_frame(list(curves.values()), [curves[name] for name in front], last))
    add_grid(axes, factor)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(tick_format(1.0)))
    alone: dict[str, Any] = {"marker": "o", "markersize": 6.0} if last == first else {}
    for name, rows in curves.items():
        if name not in front:
            axes.plot(rows[:, 0], rows[:, 2], color=FAINT, linewidth=1.0, **alone)
    colors = {name: _COLORS[view.tone(name)] for name in front}
    for name, color in colors.items():
        rows = curves[name]
        axes.fill_between(rows[:, 0], rows[:, 1], rows[:, 3], color=color, alpha=0.16, linewidth=0.0)
    for name, color in colors.items():
        rows = curves[name]
        line = axes.plot(rows[:, 0], rows[:, 2], color=color, linewidth=2.0, **alone)[0]
        if name == ERM_NAME:
            line.set_dashes((5.0, 2.5))
    add_text(figure, height, WIDTH - 16.0, height - 6.0, "epoch", ha="right", color=MUTED)
    ends = "; ".join(f"{name} ends at {curves[name][-1, 2] * factor:.3g}" for name in front)
    return to_svg(figure, key.replace("_", "-"), f"{title} by epoch, median over seeds: {ends}.")


def _frame(curves: Sequence[np.ndarray], front: Sequence[np.ndarray], last: float) -> tuple[float, float]:
    # the drop of the first epochs is tall and says little: where methods differ later would be flat beneath it
    high = max(rows[rows[:, 0] >= min(0.05 * last, rows[-1, 0]), 3].max() for rows in (front or curves))
    low = min(*(rows[:, 1].min() for rows in (front or curves)), *(rows[:, 2].min() for rows in curves))
    span = (high - low) or abs(high) or 1.0
    return max(0.0, low - 0.06 * span) if low >= 0.0 else low - 0.06 * span, high + 0.06 * span
