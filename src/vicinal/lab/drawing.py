"""Figures as SVG that takes its colors from the page it stands in: the palette, the style, and matplotlib's output.

A figure is drawn with the colors below, which no one sees: `to_svg` writes them as the page's variables, so that one
image follows light and dark modes.
"""

from __future__ import annotations

import base64
import html
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from vicinal.lab import terminal
from vicinal.lab.format import MINUS

WIDTH = 420.0  # pages scale figures to their column; at this width text stays legible on a phone

NAMES = ("ink", "muted", "rule", "paper", "faint", "erm", "mix", "other")  # of the page's color variables
INK, MUTED, RULE, PAPER, FAINT, ERM, MIX, OTHER = (f"#0a0b0{i}" for i in range(len(NAMES)))

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a method's name may hold a dollar sign
    "font.size": 12.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "ytick.major.pad": 5.0,
    "path.simplify": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Set the style of all figures, from matplotlib's own defaults: no one's matplotlibrc changes a report."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def canvas(height: float) -> Figure:
    """Return an empty figure, `WIDTH` wide."""
    return Figure(figsize=(WIDTH / 72.0, height / 72.0))


def add_axes(figure: Figure, height: float, box: tuple[float, float, float, float]) -> Axes:
    """Add axes in a box of left, top, width and height, counted in image units from the top left corner."""
    left, top, width, tall = box
    return figure.add_axes((left / WIDTH, 1.0 - (top + tall) / height, width / WIDTH, tall / height))


def add_text(figure: Figure, height: float, x: float, y: float, text: str, **style: Any) -> None:
    """Write text whose baseline begins at a point counted in image units from the top left corner."""
    figure.text(x / WIDTH, 1.0 - y / height, text, **{"va": "baseline", "color": INK, **style})


def printable(text: str, longest: int = 34) -> str:
    """Return a name that fits an image: without control characters, and shortened to its place."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return clean if len(clean) <= longest else clean[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def add_grid(axes: Axes, factor: float, count: int = 5) -> None:
    """Draw a few horizontal grid lines, labeled with their values times `factor`."""
    axes.yaxis.set_major_locator(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(tick_format(factor)))
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)


def tick_format(factor: float, sign: bool = False) -> Callable[[float, int | None], str]:
    """Return a function that writes a tick's value times `factor`, with a true minus sign."""

    def write(value: float, _position: int | None = None) -> str:
        scaled = round(value * factor, 10)
        return f"{scaled:{'+' if sign and scaled else ''}g}".replace("-", MINUS)

    return write


def to_svg(figure: Figure, key: str, label: str) -> str:
    """Return a figure as an inline ``<svg>``; `label` says what it shows to those who cannot see it."""
    buffer = io.StringIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": key}):
        warnings.simplefilter("ignore", UserWarning)  # glyphs missing here are drawn by the reader's own fonts
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return inline(buffer.getvalue(), key, label)


def inline(svg: str, key: str, label: str = "") -> str:
    """Return the text of an SVG file as part of a page: nothing in it restyles the page, and no id meets another's.

    An image with fixed colors gets the class `plain`, for which the page keeps a white ground.
    """
    _, head, body = re.split(r"<svg([^>]*)>", svg, maxsplit=1)
    attributes = dict(re.findall(r'([\w:-]+)="([^"]*)"', head))
    size = (re.sub(r"[^\d.]", "", attributes.get(side, "")) or "420" for side in ("width", "height"))
    box = attributes.get("viewBox") or f"0 0 {' '.join(size)}"
    said = html.escape(terminal.printable(label)) or attributes.get("aria-label", key)
    body = re.sub(r"<(metadata|style)\b.*?</\1>|\s+(?=<)", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^>]*>", lambda tag: _tidy(tag[0]), body)
    body = _with_own_ids(_ALIKE.sub(_grouped, body), key)
    plain = "" if "var(--" in body else ' class="plain"'
    return f'<svg viewBox="{box}" role="img" aria-label="{said}" stroke-linejoin="round"{plain}>{body}'


_ALIKE = re.compile(r'<use [^>]*?( style="[^"]*")/>(?:<use [^>]*?\1/>)+')  # marks in a row of one style


def _grouped(marks: re.Match[str]) -> str:
    """Return marks of one style with the style once, on a group around them."""
    style = marks[1]
    return f"<g{style}>{marks[0].replace(style, '')}</g>"


def _with_own_ids(body: str, key: str) -> str:
    """Return a figure with short ids that begin with its key, so that none meets another's."""
    names = {name: f"{key}-{i}" for i, name in enumerate(dict.fromkeys(re.findall(r' id="([^"]*)"', body)))}
    return re.sub(
        r'( id="|href="#|url\(#)([^")]+)', lambda found: found[1] + names.get(found[2], f"{key}-{found[2]}"), body
    )


def _tidy(tag: str) -> str:
    """Write a tag in the page's terms, its colors and typeface; round coordinates, and write images with few colors."""
    tag = " ".join(tag.replace("base64,\n", "base64,").split())
    tag = re.sub(r' id="[^"]*_\d+"|font-family: [^;"]*;? ?|(?<=[:;]) | transform="rotate\(-0 [^"]*"', "", tag)
    tag = re.sub(
        r"(?<=data:image/png;base64,)[^\"]+", lambda png: _with_few_colors(png[0]), tag.replace("xlink:href", "href")
    )
    tag = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", tag)
    return re.sub(r"#0a0b0(\d)", lambda marker: f"var(--{NAMES[int(marker[1])]})", tag)


def _with_few_colors(png: str) -> str:
    """Return a PNG image in base64 with a palette of 8 colors, which takes a fraction of its bytes."""
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    if image.mode == "P":
        return png
    buffer = io.BytesIO()
    image.quantize(8, method=Image.Quantize.FASTOCTREE).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
