"""Images of generated points, laid out as in the paper's figure 5, and of what was measured of them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from vicinal.keyed import Key
from vicinal.lab import atomic
from vicinal.lab.paper.gans.modes import Modes
from vicinal.lab.paper.gans.training import GanRun

_REAL, _GENERATED = "#1f6fb2", "#e8730c"
_COLORS = ("#555555", "#1f6fb2", "#c0392b", "#2e8b57", "#b8860b")
_SHOWN = 1000  # real points in a panel


def points(
    path: Path,
    sets: Mapping[str, Modes],
    methods: Sequence[str],
    iterations: Sequence[int],
    panels: Mapping[tuple[str, str], Mapping[str, Sequence[Sequence[float]]]],
) -> None:
    """Draw real points with generated ones upon them, sets beneath one another, methods side by side.

    Each method has a panel for each of the iterations. `panels` holds, for (set, method), the generated points inside the
    window by iteration; one that is not there was not run.
    """
    with _style("gan-points"):
        fig = Figure(figsize=(1.1 * len(iterations) * len(methods) + 0.4, 1.1 * len(sets) + 0.45))
        blocks = fig.subfigures(1, len(methods), squeeze=False)[0]
        for block, method in zip(blocks, methods, strict=True):
            block.suptitle(method, y=0.98, va="top", fontsize=9, fontweight="bold")
            grid = block.subplots(len(sets), len(iterations), squeeze=False)
            block.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.83, wspace=0.06, hspace=0.06)
            for ax, iteration in zip(grid[0], iterations, strict=True):
                ax.set_title(f"{iteration:,}", fontsize=8, pad=3)
            for row, (name, modes) in zip(grid, sets.items(), strict=True):
                real = modes.draw(Key(0, 0, 0, 0).generator(), _SHOWN)
                snapshots = panels.get((name, method))
                for ax, iteration in zip(row, iterations, strict=True):
                    if snapshots is None:
                        ax.text(0, 0, "not run", ha="center", va="center", color="#777777")
                    else:
                        generated = np.array(snapshots[str(iteration)]).reshape(-1, 2)
                        ax.scatter(*real.T, s=3, color=_REAL, linewidths=0, rasterized=True)
                        ax.scatter(*generated.T, s=3, color=_GENERATED, alpha=0.5, linewidths=0, rasterized=True)
                    ax.set(xlim=(-modes.window, modes.window), ylim=(-modes.window, modes.window), aspect="equal")
                    ax.set(xticks=[], yticks=[])
                    ax.spines[:].set_color("#cccccc")
        listed = " and ".join(methods)
        _save(fig, path, f"Points of generators trained by {listed} beside those of the data, at several iterations")


def measures(
    path: Path,
    sets: Mapping[str, Modes],
    methods: Sequence[str],
    curves: Mapping[tuple[str, str], Sequence[GanRun]],
) -> None:
    """Draw modes covered, points near a mode and points in the window by iteration: the mean over seeds, and their range.

    Dotted is what points spread evenly over the window would have. `curves` holds the seeds of each (set, method).
    """
    columns = {
        "modes covered within 3 σ": ("modes_3", 1, None),
        "points within 3 σ of a mode, %": ("share_3", 100, 3),
        "points within 10 σ of a mode, %": ("share_10", 100, 10),
        "points in the window, %": ("inside", 100, None),
    }
    with _style("gan-measures"):
        fig = Figure(figsize=(2.5 * len(columns), 2.0 * len(sets) + 0.8), layout="constrained")
        axes = fig.subplots(len(sets), len(columns), squeeze=False, sharex=True)
        for row, (name, modes) in zip(axes, sets.items(), strict=True):
            for ax, (title, (key, factor, radius)) in zip(row, columns.items(), strict=True):
                for color, method in zip(_COLORS, methods, strict=True):
                    results = curves.get((name, method), ())
                    if results:
                        values = factor * np.array([getattr(result, key) for result in results])
                        x = results[0].iterations
                        ax.fill_between(x, values.min(axis=0), values.max(axis=0), color=color, lw=0, alpha=0.13)
                        ax.plot(x, values.mean(axis=0), color=color, lw=1.8, label=method)
                if radius is not None:
                    ax.axhline(100 * modes.uniform_baseline(radius), color="black", lw=0.8, ls=":")
                ax.set_xscale("log")
                ax.minorticks_off()
                ax.set_ylim(0, len(modes.centers) * 1.04 if key.startswith("modes") else None)
                ax.set_title(f"{name}: {title}", loc="left", fontsize=8)
                ax.spines[["top", "right"]].set_visible(False)
        for ax in axes[-1]:
            ax.set_xlabel("iteration of the generator")
        shown = {label: line for ax in axes.flat for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        fig.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, frameon=False)
        _save(fig, path, "Modes covered, points near a mode and points in the window, by iteration, for each method")


def _style(salt: str):
    """Return matplotlib's settings, with which the same figure is the same file."""
    return rc_context({"font.size": 8, "svg.fonttype": "none", "svg.hashsalt": salt})


def _save(fig: Figure, path: Path, label: str) -> None:
    """Write a figure, with what it shows in words, for those who do not see it."""
    content = io.StringIO()
    fig.savefig(content, format="svg", metadata={"Date": None}, dpi=80)
    said = f'<svg role="img" aria-label={quoteattr(label)} '
    atomic.write(path, content.getvalue().replace("<svg ", said, 1))
