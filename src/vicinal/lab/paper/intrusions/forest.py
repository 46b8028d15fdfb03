"""The forest plot of the atlas: what mixup at alpha 1 does to error and likelihood of each table, in both modes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from vicinal.lab import drawing
from vicinal.lab.drawing import INK, MIX, MUTED, OTHER, RULE, WIDTH
from vicinal.lab.paper.intrusions.atlas import FIXED, MODES, AtlasOutcome, Mode, PooledEffect, TableEffects
from vicinal.lab.paper.intrusions.figures import standalone

_LINE = 12.0  # height of a table
_NAMES = 132.0  # width of their names, with the conflict
_GAP = 16.0
_TOP = 74.0
_COLORS = {"end": OTHER, "early": MIX}
_SHIFTS = {"end": -0.17, "early": 0.17}
_KEY = {"end": "trained to the end", "early": "stopped early"}
# of a symmetric logarithmic axis: factor of the unit, where it begins, ticks
_AXES = {
    "error": ("error, points", 100.0, 1.0, (-10.0, -1.0, 0.0, 1.0, 10.0)),
    "nll": ("NLL, nats", 1.0, 0.1, (-1.0, -0.1, 0.0, 0.1, 1.0)),
}


def draw(tables: Sequence[TableEffects], means: dict[AtlasOutcome, PooledEffect]) -> str:
    """Draw the effects with their intervals, tables with the greatest conflict first, and the means of all below."""
    order = sorted(tables, key=lambda one: -one.conflict)
    tall = _LINE * (len(order) + 2)
    height = _TOP + tall + 44.0
    wide = (WIDTH - _NAMES - _GAP - 8.0) / 2
    with drawing.style():
        figure = drawing.canvas(height)
        title = "Mixup at alpha 1 minus ERM on the test rows"
        drawing.add_text(figure, height, 0.0, 15.0, title, fontweight="bold")
        for x, mode in ((0.0, "end"), (150.0, "early")):
            drawing.add_text(figure, height, x, 36.0, "\N{BLACK CIRCLE}", color=_COLORS[mode])
            drawing.add_text(figure, height, x + 13.0, 36.0, _KEY[mode], color=MUTED)
        drawing.add_text(figure, height, 0.0, _TOP - 8.0, "table, conflict", color=MUTED, fontsize=10.0)
        for i, measure in enumerate(_AXES):
            left = _NAMES + i * (wide + _GAP)
            axes = drawing.add_axes(figure, height, (left, _TOP, wide, tall))
            drawing.add_text(figure, height, left, _TOP - 8.0, _AXES[measure][0], color=MUTED, fontsize=10.0)
            _panel(axes, order, means, measure)
        for line, one in enumerate(order):
            y = _TOP + _LINE * (line + 0.5) + 3.2
            drawing.add_text(figure, height, 0.0, y, one.table, fontsize=9.0)
            drawing.add_text(figure, height, _NAMES - 10.0, y, _signed(one.conflict), fontsize=9.0, ha="right")
        y = _TOP + _LINE * (len(order) + 1.5) + 3.2
        drawing.add_text(figure, height, 0.0, y, "mean of all", fontsize=9.0, fontweight="bold")
        drawing.add_text(
            figure, height, WIDTH - 8.0, height - 8.0, "right of 0: mixup is worse", color=MUTED, ha="right"
        )
        return standalone(drawing.to_svg(figure, "atlas", _label(order)))


def _panel(axes: Axes, order: Sequence[TableEffects], means: dict[AtlasOutcome, PooledEffect], measure: str) -> None:
    _, factor, linear, ticks = _AXES[measure]
    axes.set_xscale("symlog", linthresh=linear, linscale=1.0)
    axes.set_ylim(len(order) + 2, 0.0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for tick in ticks:
        axes.axvline(tick, color=INK if tick == 0 else RULE, linewidth=0.9 if tick == 0 else 0.6)
    for mode in MODES:
        color = _COLORS[mode]
        outcome = AtlasOutcome(FIXED, mode, measure)
        for line, one in enumerate(order):
            mean, low, high, _ = (factor * value for value in one.effects[outcome])
            y = line + 0.5 + _SHIFTS[mode]
            axes.plot((low, high), (y, y), color=color, linewidth=0.9)
            axes.plot(mean, y, "o", color=color, markersize=3.2, markeredgewidth=0.0)
        mean, low, high = (factor * value for value in means[outcome].mean)
        y = len(order) + 1.5 + _SHIFTS[mode]
        axes.plot((low, high), (y, y), color=color, linewidth=1.6)
        axes.plot(mean, y, "D", color=color, markersize=4.5, markeredgewidth=0.0)
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(drawing.tick_format(1.0)))
    axes.tick_params(axis="x", labelsize=8.5)


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _label(order: Sequence[TableEffects]) -> str:
    def said(one: TableEffects, mode: Mode) -> str:
        error, nll = (one.effects[AtlasOutcome(FIXED, mode, measure)].difference for measure in _AXES)
        return f"{100 * error:+.1f} points and {nll:+.2f} nats"

    lines = (f"{one.table} {one.conflict:+.3f}: end {said(one, 'end')}, early {said(one, 'early')}" for one in order)
    return f"Effect of mixup at alpha 1 by table, conflict first. {'; '.join(lines)}."
