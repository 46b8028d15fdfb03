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


SIZES = {"m": 2, "l": 2, "h": 1, "v": 1, "q": 4, "c": 6, "z": 0}


def absolute(path: str) -> Places:
    """Return the points of a path, absolute or relative, as a reader of SVG follows it."""
    places: Places = []
    x = y = 0.0
    start = (x, y)
    for letter, text in re.findall(r"([a-zA-Z])([^a-zA-Z]*)", path):
        numbers = [float(number) for number in re.findall(r"-?\d*\.?\d+", text)]
        command, size = letter.lower(), SIZES[letter.lower()]
        for i in range(0, len(numbers) or 1, size or 1):  # a command that is repeated need not be written again
            base = (x, y) if letter.islower() else (0.0, 0.0)
            values = numbers[i : i + size]
            assert len(values) == size
            if command == "z":
                points = [start]
            elif command == "h":
                points = [(base[0] + values[0], y)]
            elif command == "v":
                points = [(x, base[1] + values[0])]
            else:  # all steps of one curve begin where it does
                points = [(base[0] + a, base[1] + b) for a, b in zip(values[::2], values[1::2], strict=True)]
            places += [("l" if command in "hv" else command, *point) for point in points]
            x, y = points[-1]
            start = (x, y) if command == "m" else start
            command = "l" if command == "m" else command
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
        if element.tag in ("path", "use", "text", "tspan") or (element.tag == "g" and element.attrib)
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
    assert 'd="m1 2h0m0 0 2 2h0z"' in compact(svg, "k")


def test_a_path_is_written_as_short_as_svg_allows() -> None:
    path = "M 1 1 L 1.5 0.5 L 2 0 L 4 0 L 5 0 L 5 3 C 5 3 5 4 6 4 C 6 4 7 4 7 5 L 6 4 L 5 3"
    svg = f'<svg viewBox="0 0 9 9"><path d="{path}"/></svg>'
    assert 'd="m1 1 .5-.5 .5-.5h2 1v3c0 0 0 1 1 1 0 0 1 0 1 1l-1-1-1-1"' in compact(svg, "k")


def test_groups_without_attributes_go_and_the_others_stay() -> None:
    svg = '<svg viewBox="0 0 9 9"><g><g clip-path="url(#k-1)"><g><path d="M 1 1"/></g></g><g id="k-2"/><g/></g></svg>'
    assert compact(svg, "k").endswith('<g clip-path="url(#k-1)"><path d="m1 1"/></g><g id="k-2"/><g/></svg>')
