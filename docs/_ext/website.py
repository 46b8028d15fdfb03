"""What the site has beside its pages: source files in color, folders, the gallery's look and where it uses a name."""

from __future__ import annotations

import html
import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound
from sphinx.application import Sphinx
from stage import Stage, copied_to, files_of, site_path

STAGE: Stage | None = None  # of build.py, which runs Sphinx in its own process


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Return a page for each source file and each folder that a page links to."""
    assert STAGE is not None
    for path in sorted(STAGE.shown):
        text = (STAGE.root / path).read_text()
        try:
            lexer = get_lexer_for_filename(path)
        except ClassNotFound:
            lexer = TextLexer()
        body = highlight(text, lexer, HtmlFormatter())
        yield site_path(path), _context(path, f'<div class="highlight-python">{body}</div>'), "page.html"
    for path in sorted(STAGE.folders):
        items = []
        for each in files_of(STAGE.root / path):
            name = each.relative_to(STAGE.root / path).as_posix()
            items.append(f'<li><a href="{html.escape(name)}">{html.escape(name)}</a></li>')
        yield f"{site_path(path)}/index", _context(f"{path}/", f"<ul>{''.join(items)}</ul>"), "page.html"


def _context(title: str, body: str) -> dict[str, Any]:
    return {"title": title, "body": f"<h1><code>{html.escape(title)}</code></h1>{body}"}


def short_navigation(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Leave in a page's navigation the sections, and the pages of its own: all pages in each page took most of the time."""
    if whole := context.get("toctree"):
        context["toctree"] = lambda **options: whole(**{**options, "collapse": True})


def copy_files(app: Sphinx, exception: Exception | None) -> None:
    """Copy what is shown as it is: figures as JSON, the paper's report, the playground with its links."""
    if exception is not None or app.builder.format != "html":
        return
    assert STAGE is not None
    for path in sorted(STAGE.copied):
        there = Path(app.outdir, copied_to(STAGE.root, path))
        there.parent.mkdir(parents=True, exist_ok=True)
        if path.startswith("docs/") and path.endswith(".html"):
            there.write_text(links_of_the_site((STAGE.root / path).read_text(), path))
        else:
            shutil.copyfile(STAGE.root / path, there)


def links_of_the_site(text: str, path: str) -> str:
    """Return a page of HTML whose links to Markdown pages lead to the site's pages."""
    start = posixpath.dirname(path)

    def lead(link: re.Match[str]) -> str:
        to = posixpath.normpath(posixpath.join(start, link[1]))
        assert STAGE is not None
        if to not in STAGE.pages:
            raise FileNotFoundError(f"{path}: {link[1]} leads to no page of the site")
        name = posixpath.relpath(site_path(to)[:-3] + ".html", posixpath.dirname(site_path(path)))
        return f'href="{name}{link[2] or ""}"'

    return re.sub(r'href="(?![a-z]+:)([^"#]+\.md)(#[^"]*)?"', lead, text)


# -- the gallery ---------------------------------------------------------------------------------------------------------


class Order:
    """Sort the gallery's scripts as the front page lists them, and the others behind these, by name."""

    def __init__(self, folder: str = "") -> None:
        assert STAGE is not None
        front = (STAGE.root / "docs" / "index.md").read_text()
        self.first = re.findall(r"\(gallery/(plot_\w+\.py)\)", front)

    def __call__(self, path: str | Path) -> tuple[int, str]:
        """Return a script's place."""
        name = Path(path).name
        return (self.first.index(name) if name in self.first else len(self.first)), name

    def __repr__(self) -> str:
        return "<Order>"  # Sphinx compares it with that of the last build


def look(gallery: dict[str, Any], name: str) -> None:
    """Apply the gallery's look (docs/gallery/matplotlibrc) before each script, whatever the one before it set."""
    assert STAGE is not None
    matplotlib.rcdefaults()
    matplotlib.rc_file(STAGE.root / "docs" / "gallery" / "matplotlibrc")


def used_in_the_gallery(app: Sphinx, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    """Add to a documented name the pages of the gallery that use it."""
    record = Path(app.srcdir, "gallery", "backreferences", f"{name}.examples")
    if what not in ("class", "function") or not record.exists():
        return
    app.env.note_dependency(str(record))
    scripts = dict.fromkeys(re.findall(r"sphx_glr_gallery_(plot_\w+)\.py", record.read_text()))
    if scripts:
        links = ", ".join(f":doc:`/gallery/{script}`" for script in scripts)
        lines += ["", f"In the gallery: {links}.", ""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Add what the site has beside its pages."""
    app.connect("html-collect-pages", source_pages)
    app.connect("html-page-context", short_navigation, priority=400)  # before the theme asks for it
    app.connect("build-finished", copy_files)
    app.connect("autodoc-process-docstring", used_in_the_gallery)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
