"""Draws docs/images/check.svg: how `vicinal check` recovers who is in a mixed row, from rows that are really mixed.

python -m bench.check_figure
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from bench.timing import ROOT
from vicinal.keyed import Key
from vicinal.lab import atomic, drawing
from vicinal.lab.drawing import INK, MUTED, RULE
from vicinal.lab.paper import plots

IMAGE = ROOT / "docs/images/check.svg"
HUES = ("#2b82c9", "#e07b1a", "#2e9e6b", "#a05bc0")  # of the marked rows: blue, orange, green, purple
GOOD, BAD = "#2e9e6b", "#d1453b"
SIDE, LAM = 10, 0.7
WIDTH, HEIGHT = 824.0, 412.0


def marked_rows() -> np.ndarray:
    """Return images [rows, side, side, 3] of noise, each in its own hue."""
    generator = Key(0, 0, 0, 0).generator()
    light = generator.uniform(0.35, 1.35, (len(HUES), SIDE, SIDE, 1))
    tint = generator.uniform(-0.1, 0.1, (len(HUES), SIDE, SIDE, 3))
    return np.clip(np.array([to_rgb(hue) for hue in HUES])[:, None, None] * light + tint, 0, 1)


def blended(rows: np.ndarray) -> np.ndarray:
    """Return 0.7 of the first row and 0.3 of the second."""
    return LAM * rows[0] + (1 - LAM) * rows[1]


def pasted(rows: np.ndarray) -> np.ndarray:
    """Return the first row with a box of 30 of 100 cells of the second."""
    mixed = rows[0].copy()
    mixed[3:8, 4:10] = rows[1, 3:8, 4:10]
    return mixed


def by_least_squares(mixed: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the weight of each row in a mixed one."""
    return np.linalg.lstsq(rows.reshape(len(rows), -1).T, mixed.ravel(), rcond=None)[0]


def owners(mixed: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return, for each cell of a mixed row, the row that it is equal to."""
    equal = (rows == mixed).all(-1)
    if not (equal.sum(0) == 1).all():
        raise ValueError("a cell is equal to no row, or to several")
    return equal.argmax(0)


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    axes = figure.add_axes((left / WIDTH, 1 - (top + height) / HEIGHT, width / WIDTH, height / HEIGHT))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return axes


def _image(figure: Figure, pixels: np.ndarray, left: float, top: float, side: float) -> None:
    """Draw an image whose cells stay sharp at any size."""
    _axes(figure, left, top, side, side).imshow(pixels, interpolation="none", aspect="auto")


def _text(figure: Figure, x: float, y: float, text: str, **style: object) -> None:
    figure.text(x / WIDTH, 1 - y / HEIGHT, text, **{"va": "center", "color": INK, **style})


def _arrow(figure: Figure, left: float, right: float, y: float) -> None:
    axes = _axes(figure, left, y - 5, right - left, 10)
    axes.set_xlim(0, 1)
    axes.set_ylim(-1, 1)
    axes.annotate("", (1, 0), (0, 0), arrowprops={"arrowstyle": "-|>", "color": MUTED, "linewidth": 1.4})


def _shares(figure: Figure, shares: np.ndarray, left: float, top: float) -> None:
    """Draw one bar of shares, with the figures above."""
    wide, at = 132.0, 0.0
    for share, hue in zip(shares, HUES, strict=True):
        if share < 0.005:
            continue
        axes = _axes(figure, left + at * wide, top, share * wide, 18)
        axes.set_facecolor(hue)
        _text(figure, left + (at + share / 2) * wide, top + 9, f"{share:.2f}", ha="center", color="#ffffff")
        at += share


def draw() -> str:
    """Return the figure, an SVG."""
    rows = marked_rows()
    labels = np.eye(len(HUES))
    mixed_label = LAM * labels[0] + (1 - LAM) * labels[1]
    cells = owners(pasted(rows), rows)
    counted = np.bincount(cells.ravel(), minlength=len(HUES)) / cells.size
    recovered = by_least_squares(blended(rows), rows)
    flat = np.array([to_rgb(hue) for hue in HUES])[cells]

    with drawing.style():
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        for x, text in (
            (46, "1. Marked rows"),
            (338, "2. A mixed row"),
            (500, "3. Whose is it?"),
            (684, "4. The label says"),
        ):
            _text(figure, x, 16, text, fontweight="bold")
        for i, row in enumerate(rows):
            _image(figure, row, 46, 40 + i * 92, 80)
            _text(figure, 38, 80 + i * 92, f"{i}", color=MUTED, ha="right")

        box = _axes(figure, 174, 130, 124, 180)
        box.set_xlim(0, 124)
        box.set_ylim(0, 180)
        frame = {"boxstyle": "round,pad=0,rounding_size=10", "facecolor": "none", "edgecolor": MUTED, "linewidth": 1.4}
        box.add_patch(FancyBboxPatch((3, 3), 118, 174, **frame))
        for y, text in ((182, "your"), (200, "pipeline")):
            _text(figure, 236, y, text, ha="center", fontsize=14)
        for y, text in ((232, "loader, collate,"), (248, "transform, step,"), (264, "module")):
            _text(figure, 236, y, text, ha="center", fontsize=11, color=MUTED)
        _arrow(figure, 134, 170, 220)
        for top, mixed, name, how in (
            (62, blended(rows), "mixup", "least squares over all rows"),
            (258, pasted(rows), "CutMix", "each cell has one owner"),
        ):
            _arrow(figure, 302, 334, top + 54)
            _image(figure, mixed, 338, top, 108)
            _text(figure, 392, top + 122, name, ha="center", color=MUTED)
            _arrow(figure, 452, 486, top + 54)
            _text(figure, 500, top - 10, how, color=MUTED, fontsize=11)
            for y, shares, verdict, color in (
                (top + 8, mixed_label, "agrees", GOOD),
                (top + 66, labels[0], "VIC002", BAD),
            ):
                _shares(figure, shares, 684, y)
                _text(figure, 684, y + 30, verdict, color=color, fontweight="bold")
        for i, share in enumerate(recovered):
            _text(figure, 500, 76 + i * 26, f"{i}", color=MUTED)
            wide = max(float(share), 0.012) * 96
            axes = _axes(figure, 516, 67 + i * 26, wide, 18)
            axes.set_facecolor(HUES[i])
            _text(figure, 522 + wide, 76 + i * 26, f"{abs(share):.2f}")
        _image(figure, flat, 500, 262, 96)
        for i in (0, 1):
            _text(figure, 606, 296 + i * 28, f"{counted[i]:.2f}", color=HUES[i], fontweight="bold")
        _axes(figure, 664, 40, 1, 356).set_facecolor(RULE)
        said = (
            f"Marked rows of noise go through a pipeline. Of a mixed row, least squares recovers the shares "
            f"{recovered[0]:.2f} and {recovered[1]:.2f}; of a row with a pasted box, the owners of the cells give "
            f"{counted[0]:.2f} and {counted[1]:.2f}. A label of {mixed_label[0]:.2f} and {mixed_label[1]:.2f} agrees; a "
            "label of 1.00 and 0.00 is VIC002."
        )
        return plots.standalone(drawing.to_svg(figure, "check", said))


if __name__ == "__main__":
    atomic.write(IMAGE, draw())
    print(IMAGE)
