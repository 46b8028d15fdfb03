"""Drawing of rows of a batch by matplotlib, without pyplot, which would keep every figure and open windows."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from vicinal._panel import Kind, Panel

_FONT = 9  # points
_LINE = 0.17  # inches of a line of a title
_LETTERS = 12  # of a title, per inch
_FEATURES = 8  # columns of a table
_BOX = "#ff2d78"  # on photographs as well as on gray values
_RULE = "#b0b0b0"  # of a table, on light and on dark paper
_IGNORED = (0.85, 0.85, 0.85)  # in maps: negative class indices


class _Style(NamedTuple):
    """How panels of a kind are drawn; in inches."""

    width: float
    height: float
    gap: float  # below a panel
    across: int  # panels side by side, of a batch without a plan
    labels: tuple[str, str] = ("", "")  # of the axes


_STYLES = {
    "image": _Style(1.75, 1.75, 0.15, 4),
    "spectrogram": _Style(2.6, 1.5, 0.2, 3, ("time frame", "frequency bin")),
    "signal": _Style(2.6, 1.3, 0.2, 3, ("time step", "value")),
}


class Drawing(Figure):
    """A figure that notebooks show though pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def figure(kind: Kind, groups: Sequence[Sequence[Panel]]) -> Figure:
    """Draw panels: those of a group side by side, the last of them a mix if the others have shares in it."""
    if kind == "table":
        return _table(groups)
    panels = [panel for group in groups for panel in group]
    scales = [scale for group in groups for scale in [_scale(kind, group)] * len(group)]
    places = _places(kind, groups)
    titles = [_wrapped(panel.title, round(_STYLES[kind].width * _LETTERS)) for panel in panels]
    drawing, grid = _paper(kind, panels, titles, places)
    height = 1 if panels[0].mask is None else 2
    strong = any(panel.share is not None for panel in panels)
    for panel, title, scale, (line, column) in zip(panels, titles, scales, places, strict=True):
        axes = drawing.add_subplot(grid[line * height, column])
        weight = "bold" if strong and panel.mix else "normal"
        axes.set_title(title, fontsize=_FONT, fontweight=weight, parse_math=False)
        _draw(axes, kind, panel, scale)
        _ticks(axes, kind, below=(line + 1, column) not in places, beside=column == 0)
        if panel.mask is not None:
            below = drawing.add_subplot(grid[line * height + 1, column])
            below.imshow(colored(*panel.mask), interpolation="nearest")
            _ticks(below, kind, below=False, beside=False)
    return drawing


def _paper(
    kind: Kind, panels: Sequence[Panel], titles: Sequence[str], places: Sequence[tuple[int, int]]
) -> tuple[Figure, GridSpec]:
    """Return an empty figure that panels and titles fit into, and its cells; maps have a line of their own."""
    lines, columns = (1 + max(numbers) for numbers in zip(*places, strict=True))
    width, height, gap, *_ = _STYLES[kind]
    if kind == "image":
        tall, wide = panels[0].values.shape[:2]
        height = width * min(max(tall / wide, 0.3), 3.0)
    parts = 1 if panels[0].mask is None else 2
    words = [0] * lines  # lines of text above each line of panels
    for title, (line, _) in zip(titles, places, strict=True):
        words[line] = max(words[line], title.count("\n") + 1)
    used = {column for _, column in places}
    ratios = [1.0 if column in used else 0.15 for column in range(columns)]
    size = sum(ratios) * (width + 0.1) + 0.3, lines * (height * parts + gap) + _LINE * sum(words) + 0.2
    drawing = Drawing(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.04, compress=kind == "image"))
    return drawing, GridSpec(lines * parts, columns, figure=drawing, width_ratios=ratios)


def _places(kind: Kind, groups: Sequence[Sequence[Panel]]) -> list[tuple[int, int]]:
    """Return line and column of each panel."""
    if len(groups) == 1 and not any(panel.share is not None for panel in groups[0]):
        return [divmod(i, _STYLES[kind].across) for i in range(len(groups[0]))]
    widest = max(map(len, groups))
    across = 2 if kind == "image" and widest <= 3 and len(groups) > 1 else 1
    places = []
    for i, group in enumerate(groups):
        line, place = divmod(i, across)
        columns = [*range(len(group) - 1), widest - 1]  # mixes stand in one column
        places += [(line, place * (widest + 1) + column) for column in columns]
    return places


def _wrapped(title: str, letters: int) -> str:
    """Break a title into lines before its terms, where that is possible."""
    lines = []
    for line in title.split("\n"):
        terms = line.replace(" + ", "\0+ ").replace(" = ", "\0= ").replace(", ", ",\0").replace(": ", ":\0")
        whole = terms.replace(" ", "\N{NO-BREAK SPACE}").replace("\0", " ")  # no line ends there
        lines += textwrap.wrap(whole, letters, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def _ticks(axes: Axes, kind: Kind, below: bool, beside: bool) -> None:
    """Set ticks on the axes, and name them at the bottom and at the left of the figure; images have none."""
    if kind == "image":
        axes.set(xticks=[], yticks=[])
        return
    axes.locator_params(nbins=4, steps=[1, 2, 5, 10])
    axes.tick_params(labelsize=_FONT - 2, labelbottom=below, labelleft=beside)
    axes.set_xlabel(_STYLES[kind].labels[0] if below else "", fontsize=_FONT - 1)
    axes.set_ylabel(_STYLES[kind].labels[1] if beside else "", fontsize=_FONT - 1)


def _scale(kind: Kind, group: Sequence[Panel]) -> tuple[float, float]:
    """Return the lowest and the highest value of a group; [0, 1] of images that lie in it."""
    values = np.concatenate([panel.values.ravel() for panel in group])
    if values.dtype == np.uint8:
        return 0.0, 255.0
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (0.0, 1.0) if kind == "image" and low >= 0 and high <= 1 else (low, high)


def _draw(axes: Axes, kind: Kind, panel: Panel, scale: tuple[float, float]) -> None:
    low, high = scale
    if kind == "signal":
        _draw_signal(axes, panel, low, high)
        return
    if kind == "image":
        values = (panel.values.astype(np.float64) - low) / ((high - low) or 1.0)
        if values.ndim == 3:
            values = np.nan_to_num(np.clip(values, 0, 1))  # a color with a hole has no meaning
        axes.imshow(values, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        options: dict[str, Any] = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
        axes.imshow(np.clip(panel.values, low, high), cmap="magma", vmin=low, vmax=high, **options)
    if panel.box is not None:
        (start, stop), (left, right) = panel.box
        corner = left - 0.5, start - 0.5  # pixels are centered at whole numbers
        axes.add_patch(Rectangle(corner, right - left, stop - start, fill=False, edgecolor=_BOX, linewidth=1.2))
    if panel.taken is not None:
        axes.contour(panel.taken, levels=[0.5], colors=_BOX, linewidths=1.2)


def _draw_signal(axes: Axes, panel: Panel, low: float, high: float) -> None:
    axes.plot(panel.values.T, linewidth=0.7)
    room = 0.05 * ((high - low) or 1.0)
    axes.set_ylim(low - room, high + room)
    axes.margins(x=0)
    if panel.box is not None:
        ((start, stop),) = panel.box
        axes.axvspan(start - 0.5, stop - 0.5, color=_BOX, alpha=0.15, linewidth=0)
    if panel.taken is not None:
        taken = np.diff(panel.taken.astype(np.int8), prepend=0, append=0)
        for start, stop in zip(np.flatnonzero(taken > 0), np.flatnonzero(taken < 0), strict=True):
            axes.axvspan(start - 0.5, stop - 0.5, color=_BOX, alpha=0.15, linewidth=0)
    axes.spines[["top", "right"]].set_visible(False)


def colored(ids: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return a map [h, w, 3] of class indices [k, h, w] in colors, mixed by their shares, which broadcast to ids."""
    palette = np.array(mpl.colormaps["tab20"].colors)  # pyright: ignore[reportAttributeAccessIssue]
    colors = np.where(ids[..., None] < 0, _IGNORED, palette[ids % len(palette)])
    return (colors * shares[..., None]).sum(0)


def _table(groups: Sequence[Sequence[Panel]]) -> Figure:
    """Draw a table of rows: their shares, labels and values; a line between groups."""
    panels = [panel for group in groups for panel in group]
    has_shares = any(panel.share is not None for panel in panels)
    cells = _cells(panels, has_shares)
    letters = [
        2 + max(len(line) for text in column for line in text.split("\n")) for column in zip(*cells, strict=True)
    ]
    heights = [0.12 + _LINE * max(1 + text.count("\n") for text in line) for line in cells]
    drawing = Drawing(figsize=(0.085 * sum(letters) + 0.2, sum(heights) + 0.2))
    axes = drawing.add_axes((0.02, 0.02, 0.96, 0.96))
    axes.axis("off")
    widths = [number / sum(letters) for number in letters]
    table = axes.table(cells, colWidths=widths, bbox=Bbox.from_bounds(0, 0, 1, 1))
    table.auto_set_font_size(False)
    strong = [0, *(i for i, panel in enumerate(panels, 1) if has_shares and panel.mix)]  # the head, and mixes
    for (line, column), cell in table.get_celld().items():
        cell.set(height=heights[line], edgecolor=_RULE)
        cell.visible_edges = "B" if line == 0 else "T" if has_shares and line - 1 in strong else ""
        align, weight = "left" if column in (0, _LABEL) else "right", "bold" if line in strong else "normal"
        cell.set_text_props(ha=align, fontsize=_FONT, fontweight=weight, parse_math=False)
    return drawing


_LABEL = 2  # the column of labels


def _cells(panels: Sequence[Panel], has_shares: bool) -> list[list[str]]:
    """Return the words of a table, its head first: name, share, label, and as many values as there is room for."""
    features = len(panels[0].values)
    shown = min(features, _FEATURES)
    has_labels = any(panel.label and not (has_shares and panel.mix) for panel in panels)
    lines = [["", "share" * has_shares, "label" * has_labels, *(f"x{i}" for i in range(shown))]]
    for panel in panels:
        share = "" if panel.share is None else f"{panel.share:.2f}"
        label = "\n".join(part for part in (panel.label, panel.note) if part)
        lines.append([panel.name, share, label, *(f"{value:.4g}" for value in panel.values[:shown].tolist())])
    if features > shown:
        lines = [[*line, "…" if i else f"… {features - shown} more"] for i, line in enumerate(lines)]
    return lines
