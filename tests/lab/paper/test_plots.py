"""Figures of the studies."""

import io
import re
from xml.etree import ElementTree

from matplotlib.figure import Figure

from vicinal.lab import drawing
from vicinal.lab.paper import plots


def test_curves_are_named_with_their_strokes() -> None:
    curves = [
        plots.Curve("A: one", "mix", (0, 1), (2, 3)),
        plots.Curve("B: " + "long" * 20, "mix", (0, 1), (2, 3)),
        plots.Curve("paper", "mix", (0, 1), (2, 3), dashed=True),
    ]
    root = ElementTree.fromstring(plots.lines("key", "label", curves, "x", "y"))
    texts = {element.text: element for element in root.iter() if element.tag.endswith("text")}
    names = ["A: one", ("B: " + "long" * 20)[:51] + "\N{HORIZONTAL ELLIPSIS}", "paper"]
    assert [text for text in texts if text in names] == names
    heights = [
        float(texts[name].get("y") or re.findall(r"[\d.]+", texts[name].get("transform") or "")[1]) for name in names
    ]
    assert heights == sorted(heights)
    assert len(set(heights)) == 3  # the long one has a line of its own
    widths = re.findall(
        r"stroke:var\(--mix, [^)]*\);(?:stroke-\w+:[^;]*;)*stroke-width:([\d.]+)",
        plots.lines("k", "l", curves[:2], "x", "y"),
    )
    assert sorted(widths) == ["1.5", "1.5", "3.4", "3.4"]  # each curve and its key: none hides the other
    assert plots.lines("key", "label", curves, "x", "y").count("stroke-dasharray") == 2


def test_a_foreign_image_does_not_touch_the_page() -> None:
    figure, buffer = Figure(figsize=(2, 2)), io.StringIO()
    figure.add_subplot().plot([0, 1], [1, 0])
    figure.savefig(buffer, format="svg")
    inline = drawing.inline(buffer.getvalue(), "theirs")
    assert inline.startswith("<svg ")
    assert 'class="plain"' in inline
    assert "<style" not in inline
    assert "<metadata" not in inline
    assert all(name.startswith("theirs-") for name in re.findall(r'\bid="([^"]+)"', inline))
