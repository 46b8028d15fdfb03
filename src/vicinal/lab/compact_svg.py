"""A figure in fewer bytes, for a page that holds many: the same marks, with each style and each number written short.

Coordinates are rounded to a tenth of an image unit, which is far less than a pixel of a page.
"""

from __future__ import annotations

import re

_FALLBACK = re.compile(r"var\((--\w+), #\w+\)")  # for those who see the image alone; a page has the variables
_STYLE = re.compile(r' style="([^"]*)"')
_PATH = re.compile(r'(?<= d=")[^"]*')
_STEP = re.compile(r"([MLQCZz])([^MLQCZz]*)")
_PLACE = re.compile(r' (x|y)="(-?[\d.]+)"')
_GROUP = re.compile(r"<g(?: [^>]*)?>|</g>")
_CLASSES = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def compact(svg: str, key: str) -> str:
    """Return an inline figure in fewer bytes.

    Args:
        svg: as `drawing.inline` returns it.
        key: its id in the page, to which its classes are scoped.

    """
    svg = _FALLBACK.sub(r"var(\1)", svg)
    svg = _PATH.sub(lambda path: _short_path(path[0]), svg)
    svg = _PLACE.sub(lambda place: f' {place[1]}="{_write(_tenths(place[2]))}"', svg)
    return _with_classes(_without_bare_groups(svg), key)


def _tenths(number: str) -> int:
    return round(10 * float(number))


def _write(tenths: int) -> str:
    return f"{tenths / 10:g}".replace("0.", ".", 1) if abs(tenths) < 10 and tenths else f"{tenths / 10:g}"


def _short_path(path: str) -> str:
    """Return a path with steps relative to the point before, in tenths: no rounding adds up."""
    short, repeated, last, start = "", "", (0, 0), (0, 0)  # repeated: the command that need not be written again
    for command, numbers in _STEP.findall(path):
        if command in "Zz":
            short, repeated, last = short + "z", "", start
            continue
        values = [_tenths(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", numbers)]
        points = list(zip(values[::2], values[1::2], strict=True))
        steps = [value - base for point in points for value, base in zip(point, last, strict=True)]
        name = command.lower()
        if name == "l" and not steps[1]:  # a step of no length stays, too: a dot
            name, steps = "h", steps[:1]
        elif name == "l" and not steps[0]:
            name, steps = "v", steps[1:]
        short += (" " if name == repeated else name) + " ".join(map(_write, steps))
        repeated = "l" if name == "m" else name  # what follows a move by itself is a line
        last = points[-1]
        start = last if command == "M" else start
    return short.replace(" -", "-")


def _without_bare_groups(svg: str) -> str:
    """Return a figure without the groups that have no attributes."""
    kept: list[bool] = []

    def tag(found: re.Match[str]) -> str:
        if found[0].endswith("/>"):
            return found[0]
        if found[0] != "</g>":
            kept.append(found[0] != "<g>")
        return found[0] if (kept.pop() if found[0] == "</g>" else kept[-1]) else ""

    return _GROUP.sub(tag, svg)


def _with_classes(svg: str, key: str) -> str:
    """Return a figure whose styles that occur often are classes, known inside of it alone."""
    found = _STYLE.findall(svg)
    often = sorted({style for style in found if found.count(style) > 1}, key=lambda s: -found.count(s) * len(s))
    names = dict(zip(often, _CLASSES, strict=False))
    rules = "".join(f"#{key} .{name}{{{style}}}" for style, name in names.items())
    svg = _STYLE.sub(lambda style: f' class="{names[style[1]]}"' if style[1] in names else style[0], svg)
    head, body = svg.split(">", 1)
    return f'{head} id="{key}"><style>{rules}</style>{body}'
