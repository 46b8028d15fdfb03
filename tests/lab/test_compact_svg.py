"""Figures in fewer bytes: the same marks at the same places, in the same styles."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from vicinal.keyed import Key
from vicinal.lab import drawing
from vicinal.lab.compact_svg import compact
from vicinal.lab.paper import plots

Places = list[tuple[str, float, float]]


def absolute(path: str) -> Places:
    """Return the points of a path, absolute or relative, as a reader of SVG follows it."""
    places: Places = []
    x = y = 0.0
    start = (x, y)
    for command, text in re.findall(r"([a-zA-Z])([^a-zA-Z]*)", path):
        numbers = [float(number) for number in re.findall(r"-?\d*\.?\d+", text)]
        if command in "zZ":
            x, y = start
            places.append(("z", x, y))
        elif command == "h":
            assert numbers == [0.0]
            places.append(("l", x, y))
        else:
            base = (x, y) if command.islower() else (0.0, 0.0)
            points = [
                (base[0] + a, base[1] + b) for a, b in zip(numbers[::2], numbers[1::2], strict=True)
            ]  # all steps of one curve begin where it does
            assert len(points) == (3 if command in "cC" else 2 if command in "qQ" else 1)
            places += [(command.lower(), *point) for point in points]
            x, y = points[-1]
            start = (x, y) if command in "mM" else start
    return places


def drawn(svg: str) -> list[tuple[str, Places, tuple[float, float]]]:
    """Return the style, the path and the place of every mark."""
    root = ElementTree.fromstring(svg)
    rules = dict(re.findall(r"\.(\w+)\{([^}]*)\}", "".join(s.text or "" for s in root.iter("style"))))
    return [
        (
            element.get("style") or rules.get(element.get("class", ""), ""),
            absolute(element.get("d", "")),
            (float(element.get("x", 0)), float(element.get("y", 0))),
        )
        for element in root.iter()
        if element.tag in ("path", "use", "g", "text", "tspan")
    ]


def test_marks_stay_where_they_were_in_their_styles() -> None:
    rng = Key(0, 0, 0, 0).generator()
    figure, buffer = Figure(figsize=(4, 3)), io.StringIO()
    axes = figure.add_subplot()
    axes.plot(rng.normal(size=400).cumsum(), "-")  # long enough for errors to add up, if they did
    axes.plot(rng.normal(size=30), "o", mfc="none")
    axes.scatter(rng.normal(size=40), rng.normal(size=40), c="red", alpha=0.3)
    axes.contourf(np.add.outer(np.arange(9) ** 2, np.arange(9)))
    axes.set_title("a title")
    figure.savefig(buffer, format="svg")
    svg = drawing.inline(buffer.getvalue(), "k")
    short = compact(svg, "k")
    before, after = drawn(svg), drawn(short)
    assert [style for style, _, _ in after] == [style for style, _, _ in before]
    for (_, path, place), (_, short_path, short_place) in zip(before, after, strict=True):
        assert [command for command, *_ in short_path] == [command for command, *_ in path]
        # half of a tenth, and what `inline` had rounded to hundredths
        assert np.allclose([p[1:] for p in short_path], [p[1:] for p in path], atol=0.0501)
        assert short_place == pytest.approx(place, abs=0.0501)
    assert len(short) < 0.8 * len(svg)


def test_classes_are_known_inside_of_the_figure_alone() -> None:
    curves = [plots.Curve(name, "mix", (0, 1), (2, 3)) for name in ("one", "two", "three")]
    svg = compact(drawing.inline(plots.lines("key", "label", curves, "x", "y"), "page0"), "page0")
    root = ElementTree.fromstring(svg)
    assert root.get("id") == "page0"
    (style,) = root.iter("style")
    assert style.text is not None
    assert all(rule.startswith("#page0 .") for rule in style.text.split("}") if rule)
    assert "var(--mix)" in svg  # a page has the color; the fallback is for those who see the image alone
    assert not re.search(r"var\(--\w+,", svg)


def test_a_line_of_no_length_stays_a_dot() -> None:
    svg = '<svg viewBox="0 0 9 9"><path d="M 1.04 2 L 1.04 2 M 1.04 2 L 3 4 L 3.04 4.01 z "/></svg>'
    assert 'd="m1 2h0m0 0l2 2h0z"' in compact(svg, "k")
