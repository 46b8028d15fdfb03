"""The links of the built site: each leads to a page, an anchor or a file of it; those to elsewhere are listed, not fetched.

python docs/_ext/links.py build/docs            # what leads nowhere; the exit status is 1 if anything does
python docs/_ext/links.py build/docs --list     # the addresses elsewhere, one a line
"""

from __future__ import annotations

import html
import posixpath
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_GOES = {("a", "href"), ("area", "href")}  # followed by a reader; everything else is fetched by the page itself
_FETCHED = {
    ("link", "href"),
    ("img", "src"),
    ("script", "src"),
    ("source", "src"),
    ("iframe", "src"),
    ("object", "data"),
}
_IN_CSS = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")
_SCRIPT = re.compile(r"(<(script|style)\b[^>]*>).*?</\2>", re.DOTALL)
_TAG = re.compile(r"<([a-zA-Z][a-zA-Z0-9]*)((?:\s+[^<>]*)?)>")
_ATTRIBUTE = re.compile(r"""\s(id|name|href|src|srcset|data|style)=("[^"]*"|'[^']*')""")
_HOST = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}")


class Page:
    """What a page offers to links and what it asks for.

    Pages are written by Sphinx and by us, with attributes in quotes: an expression finds what the standard library's parser
    needs eight times as long for (tests/docs/test_links.py compares the two).
    """

    def __init__(self, text: str) -> None:
        self.anchors: set[str] = set()
        self.twice: set[str] = set()
        self.goes: list[str] = []
        self.fetches: list[str] = []
        for tag in _TAG.finditer(_SCRIPT.sub(r"\1</\2>", text)):
            for name, quoted in _ATTRIBUTE.findall(tag[2]):
                self._take(tag[1], name, html.unescape(quoted[1:-1]))

    def _take(self, tag: str, name: str, value: str) -> None:
        """Record an element's anchor or its link."""
        if name == "id" or (name == "name" and tag == "a"):
            (self.twice if value in self.anchors and name == "id" else self.anchors).add(value)
        elif (tag, name) in _GOES:
            self.goes.append(value)
        elif (tag, name) in _FETCHED:
            self.fetches.append(value)
        elif name == "srcset":
            self.fetches += [each.split()[0] for each in value.split(",") if each.strip()]
        elif name == "style":
            self.fetches += [first or second for first, second in _IN_CSS.findall(value)]


class Found(NamedTuple):
    """What was found in a site."""

    pages: int
    internal: int
    faults: list[str]
    elsewhere: dict[str, set[str]]  # an address, and the pages that link to it


def check(site: Path) -> Found:
    """Return what leads nowhere in a built site, and what leads elsewhere."""
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    pages: dict[str, Page] = {}
    for name in sorted(files):
        if name.endswith(".html"):
            pages[name] = Page((site / name).read_text())
    faults: list[str] = []
    elsewhere: dict[str, set[str]] = defaultdict(set)
    internal = 0
    for name, page in pages.items():
        faults += [f"{name}: two elements have the id {each!r}" for each in sorted(page.twice)]
        for target in page.goes:
            if urlsplit(target).scheme in ("mailto", "javascript", "data"):
                faults += [f"{name}: {target}: not a link that we make"] if target.startswith("java") else []
            elif urlsplit(target).scheme or target.startswith("//"):
                elsewhere[target].add(name)
                if wrong := _shape(target):
                    faults.append(f"{name}: {target}: {wrong}")
            else:
                internal += 1
                if wrong := _leads(name, target, files, pages):
                    faults.append(f"{name}: {target}: {wrong}")
        for target in page.fetches:
            if target.startswith("data:") or target.startswith("#"):
                continue
            if urlsplit(target).scheme or target.startswith("//"):
                faults.append(f"{name}: {target}: the page asks another server for it")
            else:
                internal += 1
                if wrong := _leads(name, target, files, pages):
                    faults.append(f"{name}: {target}: {wrong}")
    for name in sorted(files):
        if name.endswith(".css"):
            for first, second in _IN_CSS.findall((site / name).read_text()):
                target = first or second
                if target.startswith("data:"):
                    continue
                wrong = (
                    "the page asks another server for it"
                    if urlsplit(target).scheme or target.startswith("//")
                    else None
                )
                if wrong := wrong or _leads(name, target, files, pages):
                    faults.append(f"{name}: {target}: {wrong}")
    return Found(len(pages), internal, faults, dict(elsewhere))


def _leads(page: str, target: str, files: set[str], pages: dict[str, Page]) -> str | None:
    """Return what is wrong with a link within the site."""
    parts = urlsplit(target)
    path = unquote(parts.path)
    to = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
    if path.startswith("/") or to.startswith(".."):
        return "it leads out of the site"
    if to not in files:
        return "there is no such file"
    anchor = unquote(parts.fragment)
    if anchor and to in pages and anchor not in pages[to].anchors:
        if to.startswith("playground/"):
            return None  # its settings stand in its address
        return f"{to} has no such anchor"
    return None


def _shape(target: str) -> str | None:
    """Return what is wrong with the shape of a link to elsewhere."""
    parts = urlsplit(target)
    if parts.scheme != "https":
        return "not https"
    if not _HOST.fullmatch(parts.netloc):
        return "not the name of a public server"
    if re.search(r"[\s<>\"{}|\\^`]", target):
        return "characters that no address has"
    return None


def main() -> None:
    """Check a site."""
    found = check(Path(sys.argv[1]))
    if "--list" in sys.argv[2:]:
        print("\n".join(sorted(found.elsewhere)))
        return
    for fault in found.faults:
        print(fault, file=sys.stderr)
    print(f"{found.internal} links within {found.pages} pages, {len(found.elsewhere)} addresses elsewhere: ", end="")
    print(f"{len(found.faults)} faults")
    sys.exit(bool(found.faults))


if __name__ == "__main__":
    main()
