"""The report's images.

Each function takes the results of a comparison and returns one inline ``<svg>``, or an empty string when the results
hold nothing to draw. Colors are CSS variables of the page, so the images follow its light and dark modes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

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
from vicinal.lab.format import MINUS, NumberFormat, is_finite, significant


def main_scale(results: dict[str, Any]) -> NumberFormat:
    """Return the scale of the measure that methods are compared by."""
    if results["protocol"]["measure"] == "error":
        return NumberFormat(100.0, 2, MINUS)
    return significant((entry["test"]["rmse"]["mean"] for entry in results["summary"].values()), 4, minus=MINUS)


def main_title(results: dict[str, Any], split: str) -> str:
    """Return the name of that measure on one part of the data, with its unit."""
    return f"{split} error,\N{NO-BREAK SPACE}%" if results["protocol"]["measure"] == "error" else f"{split} RMSE"


# which methods there are


def erm_name(results: dict[str, Any]) -> str | None:
    """Return the name of the method without any mixing."""
    return next((method["name"] for method in results["methods"] if method["family"] == "erm"), None)


def shown_name(results: dict[str, Any]) -> str | None:
    """Return the method set beside ERM in images: the recommended one, else the first that is not ERM."""
    names = [method["name"] for method in results["methods"] if method["family"] != "erm"]
    recommended = (results.get("choice") or {}).get("recommended")
    if recommended in names:
        return recommended
    return names[0] if names else None


def ordered_comparisons(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the comparisons with ERM, the primary one first."""
    return sorted(results["comparisons"], key=lambda comparison: not comparison["primary"])


def _family(results: dict[str, Any], name: str) -> str:
    families = {method["name"]: method["family"] for method in results["methods"]}
    return families.get(name, (results.get("choice") or {}).get("family") or "mixup")


def _color(results: dict[str, Any], name: str) -> str:
    return {"erm": ERM, "named": OTHER}.get(_family(results, name), MIX)


# the images


def differences(results: dict[str, Any]) -> str:
    """Draw paired differences to ERM: one dot per seed, with each method's mean and interval."""
    rows = ordered_comparisons(results)
    if not rows:
        return ""
    scale = main_scale(results)
    row_height, top, bottom = 58.0, 2.0, 46.0
    height = top + row_height * len(rows) + bottom
    values = [[value for value in row["per_seed"] if is_finite(value)] for row in rows]
    everything = [value for own in values for value in own] + [
        row[end] for row in rows for end in ("low", "high") if is_finite(row[end])
    ]
    low, high = _limits([0.0, *everything], 0.03)
    with style():
        figure = canvas(height)
        axes = add_axes(figure, height, (4.0, top, WIDTH - 8.0, row_height * len(rows)))
        axes.set_xlim(low, high)
        axes.set_ylim(row_height * len(rows), 0.0)
        for number, (row, own) in enumerate(zip(rows, values, strict=True)):
            _strip(axes, number * row_height + 18.0, row, own, _color(results, row["method"]))
            line = top + number * row_height + 12.0
            weight = "bold" if row["primary"] else "normal"
            add_text(figure, height, 0.0, line, printable(row["method"]), color=INK, fontweight=weight)
            numbers = f"{scale.text(row['difference'], sign=True)} {scale.interval(row['low'], row['high'], sign=True)}"
            add_text(figure, height, WIDTH, line, numbers, ha="right", color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(tick_format(scale.factor, sign=True)))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        add_text(figure, height, 0.0, height - 8.0, "\N{LEFTWARDS ARROW} better than ERM", color=MUTED)
        worse = "worse than ERM \N{RIGHTWARDS ARROW}"
        add_text(figure, height, WIDTH, height - 8.0, worse, ha="right", color=MUTED)
        sentence = "; ".join(
            f"{row['method']} {scale.text(row['difference'], sign=True)} "
            f"{scale.interval(row['low'], row['high'], sign=True)}"
            for row in rows
        )
        measure = "test error in percentage points" if scale.factor != 1.0 else "test RMSE"
        return to_svg(figure, "differences", f"Difference to ERM in {measure}, one dot per seed: {sentence}.")


def _strip(axes: Axes, top: float, row: dict[str, Any], values: Sequence[float], color: str) -> None:
    """Draw the dots of one method in a lane of 24 units below top, and its mean and interval in a lane beneath."""
    size = 4.6 if len(values) <= 50 else 3.6 if len(values) <= 100 else 3.0
    step = size + 0.4
    low, high = axes.get_xlim()
    unit = (high - low) / WIDTH
    bins: dict[int, list[float]] = {}
    for value in sorted(values):
        bins.setdefault(round((value - low) / unit / step), []).append(value)
    xs: list[float] = []
    ys: list[float] = []
    tall = int(24.0 / step)
    for own in bins.values():
        # equal differences are common with a small test set: they fill columns side by side about their value
        columns = math.ceil(len(own) / tall)
        for place, value in enumerate(own):
            column, level = place % columns, place // columns
            xs.append(value + (column - (columns - 1) / 2.0) * step * unit)
            ys.append(top + 24.0 - step * (level + 0.5))
    axes.plot([0.0, 0.0], [top - 1.0, top + 36.0], color=MUTED, linewidth=1.0)
    marks: dict[str, Any] = {"linestyle": "none", "clip_on": False}
    axes.plot(xs, ys, marker="o", markersize=size, color=color, alpha=0.65, markeredgewidth=0.0, **marks)
    lane = top + 30.0
    if is_finite(row["low"]) and is_finite(row["high"]):
        axes.plot([row["low"], row["high"]], [lane, lane], color=INK, linewidth=2.2, solid_capstyle="butt")
    if is_finite(row["difference"]):
        diamond = {"marker": "D", "markersize": 6.5, "markeredgecolor": PAPER, "markeredgewidth": 1.2}
        axes.plot([row["difference"]], [lane], color=INK, **diamond, **marks)


def _limits(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    return low - margin * span, high + margin * span


def swept(results: dict[str, Any]) -> list[tuple[float, str]]:
    """Return the alphas, in order, and the methods of the family whose alpha is swept."""
    family = (results.get("choice") or {}).get("family") or "mixup"
    methods = [method for method in results["methods"] if method["family"] == family]
    return sorted((m["alpha"], m["name"]) for m in methods if is_finite(m["alpha"]) and m["alpha"] > 0.0)


def by_alpha(results: dict[str, Any]) -> str:
    """Draw test error by alpha on a logarithmic axis, with ERM as a band."""
    points = [
        (alpha, results["summary"][name]["test"][results["protocol"]["measure"]])
        for alpha, name in swept(results)
        if is_finite(results["summary"][name]["test"][results["protocol"]["measure"]]["mean"])
    ]
    if not points:
        return ""
    measure = results["protocol"]["measure"]
    scale = main_scale(results)
    height, plot = 344.0, 232.0
    alphas = [alpha for alpha, _ in points]
    erm = erm_name(results)
    band = results["summary"][erm]["test"][measure] if erm else {}
    edges = [estimate.get(end) for estimate in [*(own for _, own in points), band] for end in ("mean", "low", "high")]
    with style():
        figure = canvas(height)
        add_text(figure, height, 0.0, 16.0, main_title(results, "Test"), color=MUTED)
        left = 50.0
        axes = add_axes(figure, height, (left, 30.0, WIDTH - left - 12.0, plot))
        axes.set_xscale("log")
        reach = max(1.25, (alphas[-1] / alphas[0]) ** 0.06)
        axes.set_xlim(alphas[0] / reach, alphas[-1] * reach)
        axes.set_ylim(*_limits([edge for edge in edges if is_finite(edge)], 0.12))
        add_grid(axes, scale.factor)
        if is_finite(band.get("mean")):
            if is_finite(band["low"]) and is_finite(band["high"]):
                axes.axhspan(band["low"], band["high"], color=ERM, alpha=0.14, linewidth=0.0)
            axes.axhline(band["mean"], color=ERM, linewidth=1.4, dashes=(5.0, 3.0))
        means = [own["mean"] for _, own in points]
        axes.plot(alphas, means, color=MIX, linewidth=1.0, alpha=0.6)
        for alpha, own in points:
            if is_finite(own["low"]) and is_finite(own["high"]):
                axes.plot([alpha, alpha], [own["low"], own["high"]], color=MIX, linewidth=2.0, solid_capstyle="butt")
        axes.plot(alphas, means, "o", color=MIX, markersize=7.0, markeredgecolor=PAPER, markeredgewidth=1.2)
        counts = {float(alpha): count for alpha, count in ((results.get("choice") or {}).get("counts") or {}).items()}
        positions, labels = _alpha_labels(axes, alphas, counts)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(positions, labels)
        add_text(figure, height, left, height - 24.0, "alpha, logarithmic scale", color=MUTED)
        if counts:
            below = f"beneath: in how many of {results['protocol']['seeds']} seeds validation chose it"
            add_text(figure, height, left, height - 6.0, below, color=MUTED)
        said = "; ".join(f"alpha {alpha:g}: {scale.text(own['mean'])}" for alpha, own in points)
        unit = "percent" if measure == "error" else "RMSE"
        against = f"; ERM: {scale.text(band['mean'])}" if is_finite(band.get("mean")) else ""
        return to_svg(figure, "alpha", f"Mean test error by alpha, in {unit}: {said}{against}.")


def _alpha_labels(axes: Axes, alphas: Sequence[float], counts: dict[float, int]) -> tuple[list[float], list[str]]:
    """Label as many alphas as have room, the ends and the most often chosen first."""
    low, high = (math.log(limit) for limit in axes.get_xlim())
    pixels = {alpha: (math.log(alpha) - low) / (high - low) * (WIDTH - 62.0) for alpha in alphas}
    wanted = sorted(alphas, key=lambda alpha: (alpha not in (alphas[0], alphas[-1]), -counts.get(alpha, 0), alpha))
    placed: list[float] = []
    for alpha in wanted:
        if all(abs(pixels[alpha] - pixels[other]) >= 30.0 for other in placed):
            placed.append(alpha)
    placed.sort()
    return placed, [f"{alpha:g}\n{counts.get(alpha, 0)}" if counts else f"{alpha:g}" for alpha in placed]


@dataclass(frozen=True)
class Reliability:
    """One method's predictions by confidence, all seeds pooled."""

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def pooled(results: dict[str, Any], method: str) -> Reliability | None:
    """Add up a method's reliability bins over all seeds; None where there are none."""
    tables = [run["test"].get("reliability") for run in results["runs"] if run["method"] == method]
    tables = [table for table in tables if table]
    if not tables:
        return None
    counts = np.array([table["count"] for table in tables], dtype=float)
    total = counts.sum(axis=0)

    def mean(key: str) -> np.ndarray:
        values = np.array([[value if is_finite(value) else 0.0 for value in table[key]] for table in tables])
        return np.divide((counts * values).sum(axis=0), total, out=np.zeros_like(total), where=total > 0)

    return Reliability(total, mean("confidence"), mean("accuracy"))


def reliability(results: dict[str, Any], method: str) -> str:
    """Draw how often a method is right by how sure it is, above a histogram of how sure it is."""
    table = pooled(results, method)
    if table is None or not table.count.sum():
        return ""
    height, side = 420.0, 280.0
    color = _color(results, method)
    percent = ["0", "25", "50", "75", "100"]
    quarters = [0.0, 0.25, 0.5, 0.75, 1.0]
    share = table.count / table.count.sum()
    with style():
        figure = canvas(height)
        add_text(figure, height, 0.0, 16.0, printable(method, 42), fontweight="bold")
        add_text(figure, height, 0.0, 34.0, "Accuracy, %", color=MUTED)
        left = 50.0
        axes = add_axes(figure, height, (left, 46.0, WIDTH - left - 16.0, side - 30.0))
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.0, 1.0)
        axes.yaxis.set_major_locator(FixedLocator(quarters))
        axes.set_yticks(quarters, percent)
        axes.set_xticks(quarters, [""] * 5)
        axes.tick_params(axis="x", length=0.0)
        axes.grid(axis="y", color=RULE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.plot([0.0, 1.0], [0.0, 1.0], color=MUTED, linewidth=1.0, dashes=(5.0, 3.0))
        used = np.flatnonzero(table.count)
        for place in used:
            x = table.confidence[place]
            axes.plot([x, x], [x, table.accuracy[place]], color=color, linewidth=2.0, alpha=0.45)
        marks: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 7.0, "clip_on": False}
        few = table.count < 20
        for rows, fill, edge in ((used[~few[used]], color, PAPER), (used[few[used]], PAPER, color)):
            axes.plot(table.confidence[rows], table.accuracy[rows], color=fill, markeredgecolor=edge, **marks)
        bars = add_axes(figure, height, (left, side + 36.0, WIDTH - left - 16.0, 54.0))
        edges = np.linspace(0.0, 1.0, len(share) + 1)
        bars.bar(edges[:-1], share, width=np.diff(edges) * 0.86, align="edge", color=color, linewidth=0.0)
        bars.set_xlim(0.0, 1.0)
        bars.set_ylim(0.0, max(share) * 1.02)
        bars.set_xticks(quarters, percent)
        bars.set_yticks([])
        bars.spines["left"].set_visible(False)
        add_text(figure, height, left, height - 10.0, "Confidence, %", color=MUTED)
        add_text(figure, height, left, side + 32.0, "Share of predictions", color=MUTED)
        busiest = int(np.argmax(share))
        sentence = (
            f"Reliability of {method}: accuracy by confidence over {int(table.count.sum())} test predictions; "
            f"the fullest bin holds {share[busiest]:.0%}, with confidence {table.confidence[busiest]:.1%} "
            f"and accuracy {table.accuracy[busiest]:.1%}."
        )
        return to_svg(figure, "reliability-" + ("erm" if color == ERM else "mix"), sentence)


def _quartiles(results: dict[str, Any], method: str, key: str) -> np.ndarray:
    """Return rows of epoch, lower quartile, median and upper quartile over a method's seeds."""
    by_epoch: dict[float, list[float]] = {}
    for run in results["runs"]:
        curve = run["curve"]
        if run["method"] == method and key in curve:
            for epoch, value in zip(curve["epoch"], curve[key], strict=True):
                if is_finite(value):
                    by_epoch.setdefault(epoch, []).append(value)
    rows = [(epoch, *np.percentile(values, (25, 50, 75))) for epoch, values in sorted(by_epoch.items())]
    return np.array(rows, dtype=float).reshape(-1, 4)


def learning(results: dict[str, Any], key: str) -> str:
    """Draw one validation measure by epoch: median and quartiles over seeds, ERM and the shown method in front."""
    titles = {
        "validation_nll": ("Validation NLL", 1.0),
        "validation_error": ("Validation error, %", 100.0),
        "validation_rmse": ("Validation RMSE", 1.0),
    }
    title, factor = titles[key]
    erm, shown = erm_name(results), shown_name(results)
    curves = {method["name"]: _quartiles(results, method["name"], key) for method in results["methods"]}
    curves = {name: rows for name, rows in curves.items() if len(rows)}
    if not curves:
        return ""
    height = 300.0
    with style():
        figure = canvas(height)
        add_text(figure, height, 0.0, 16.0, title, color=MUTED)
        left = 50.0
        axes = add_axes(figure, height, (left, 30.0, WIDTH - left - 16.0, height - 30.0 - 44.0))
        front = [name for name in (erm, shown) if name is not None and name in curves]
        last = max(rows[-1, 0] for rows in curves.values())
        first = min(rows[0, 0] for rows in curves.values())
        axes.set_xlim(first, last if last > first else first + 1.0)
        axes.set_ylim(*_frame(list(curves.values()), [curves[name] for name in front], last))
        add_grid(axes, factor)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(tick_format(1.0)))
        alone: dict[str, Any] = {"marker": "o", "markersize": 6.0} if last == first else {}
        for name, rows in curves.items():
            if name not in front:
                axes.plot(rows[:, 0], rows[:, 2], color=FAINT, linewidth=1.0, **alone)
        for name in front:
            rows, color = curves[name], _color(results, name)
            axes.fill_between(rows[:, 0], rows[:, 1], rows[:, 3], color=color, alpha=0.16, linewidth=0.0)
        for name in front:
            rows, color = curves[name], _color(results, name)
            line = axes.plot(rows[:, 0], rows[:, 2], color=color, linewidth=2.0, **alone)[0]
            if name == erm:
                line.set_dashes((5.0, 2.5))
        add_text(figure, height, WIDTH - 16.0, height - 6.0, "epoch", ha="right", color=MUTED)
        ends = "; ".join(f"{name} ends at {curves[name][-1, 2] * factor:.3g}" for name in front)
        return to_svg(figure, key.replace("_", "-"), f"{title} by epoch, median over seeds: {ends}.")


def _frame(curves: Sequence[np.ndarray], front: Sequence[np.ndarray], last: float) -> tuple[float, float]:
    # the drop of the first epochs is tall and says little: where methods differ later would be flat beneath it
    tops = [rows[rows[:, 0] >= min(0.05 * last, rows[-1, 0]), 3] for rows in (front or curves)]
    bottoms = [rows[:, 1] for rows in (front or curves)] + [rows[:, 2] for rows in curves]
    high = max(float(top.max()) for top in tops)
    low = min(float(bottom.min()) for bottom in bottoms)
    span = (high - low) or abs(high) or 1.0
    return max(0.0, low - 0.06 * span) if low >= 0.0 else low - 0.06 * span, high + 0.06 * span
