"""The pages as the site reads them: a copy of docs/ whose links lead where the site has what they lead to.

The pages of docs/ are the Markdown that a code host shows, and link to whatever the repository has. On the site,

    a page outside of docs/ (CHANGELOG.md)    is a page of the site, below project/
    a source file (examples/workers.py)       is shown in color, on a page that is not in the index of the search
    a folder (results/hostile)                is a list of its files, which can be fetched
    a script of docs/gallery                  is its page in the gallery
    anything else (a .json, a report.html)    is copied

Everything is found by following links from docs/, so that nothing is listed twice. A table of contents stands in a page as a
comment, `<!-- toctree ... -->`, which code hosts do not show; the index of a folder that has none gets one.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

OUTSIDE = "project"  # where the site has what is not in docs/
_FENCE = re.compile(r"^(```+|~~~+|:::+)(.*)$")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_COMMENT = re.compile(r"^<!-- toctree( .*?)?\n(.*?)^-->$", re.MULTILINE | re.DOTALL)
_IN_GALLERY = re.compile(r"^- \[([^\]]+)\]\((gallery/(plot_\w+))\.rst\)(.*)$", re.MULTILINE)  # of the front page
_SCHEME = re.compile(r"[a-z][a-z+.-]*:")
_SHOWN = {".py", ".sh", ".toml", ".yaml", ".yml", ".cfg", ".txt", ".cff", ".lock", ""}
_NOT_PAGES = ("docs/_ext/", "docs/_static/", "docs/_templates/")


@dataclass
class Stage:
    """What the site is made of, by paths within the repository."""

    root: Path
    into: Path
    pages: dict[str, str] = field(default_factory=dict)  # Markdown pages, and their text for the site
    shown: set[str] = field(default_factory=set)  # source files with a page in color
    folders: set[str] = field(default_factory=set)  # with a page that lists them
    copied: set[str] = field(default_factory=set)  # as they are, into the site
    faults: list[str] = field(default_factory=list)  # links that lead nowhere

    def build(self) -> None:
        """Read all pages, and bring the copy up to date: what did not change is not written again."""
        waiting = [
            path.relative_to(self.root).as_posix()
            for path in sorted(self.root.joinpath("docs").rglob("*.md"))
            if not path.relative_to(self.root).as_posix().startswith(_NOT_PAGES)
        ]
        while waiting:
            page = waiting.pop()
            if page not in self.pages:
                self.pages[page], found = self._page(page)
                waiting += found
        wanted: dict[str, str | Path] = {site_path(page): text for page, text in self.pages.items()}
        wanted[f"{OUTSIDE}/index.md"] = self._outside()
        images = [*self.root.joinpath("docs", "images").rglob("*"), *self._images()]
        for image in images:
            wanted[site_path(image.relative_to(self.root).as_posix())] = image
        for name, what in wanted.items():
            _write(self.into / name, what)
        for path in list(self.into.rglob("*")):
            name = path.relative_to(self.into).as_posix()
            if path.is_file() and name not in wanted and not name.startswith("gallery/"):
                path.unlink()

    def _page(self, page: str) -> tuple[str, list[str]]:
        """Return a page's text for the site, and the pages it links to."""
        found: list[str] = []
        lines, fence, words = [], "", ""  # a link's words may go over lines, but not out of their paragraph
        text = _COMMENT.sub(_toctree, self.root.joinpath(page).read_text())
        for line in [*text.split("\n"), ""]:
            mark = _FENCE.match(line)
            if not fence and not mark and line.strip():
                words = f"{words}\n{line}" if words else line
                continue
            if words:
                lines.append(_LINK.sub(lambda link: self._link(page, link, found), words))
                words = ""
            if fence:
                fence = "" if mark and mark[1].startswith(fence) and not mark[2].strip() else fence
            elif mark:
                fence = mark[1]
            lines.append(line)
        text = "\n".join(lines[:-1])
        if page == "docs/index.md":
            text = _IN_GALLERY.sub(r"- [![](gallery/images/thumb/sphx_glr_\3_thumb.png)](\2.rst) [\1](\2.rst)\4", text)
        elif page.startswith("docs/") and page.endswith("/index.md") and "{toctree}" not in text:
            text = f"{text.rstrip()}\n\n{self._contents(page, found)}\n"
        return text, found

    def _contents(self, page: str, found: list[str]) -> str:
        """Return a table of contents for the index of a folder: in the order of its links, then what it links to nowhere."""
        folder = posixpath.dirname(page)
        at = self.root / folder
        inside = [*sorted(at.glob("*.md")), *sorted(at.glob("*/index.md"))]
        names = [name for path in inside if (name := path.relative_to(self.root).as_posix()) != page]
        first = [name for name in dict.fromkeys(found) if name in names]
        entries = [posixpath.relpath(name, folder)[:-3] for name in dict.fromkeys([*first, *names])]
        return "```{toctree}\n:hidden:\n" + "".join(f"{entry}\n" for entry in entries) + "```"

    def _outside(self) -> str:
        """Return the page that lists the pages from outside of docs/."""
        names = sorted(page for page in self.pages if not page.startswith("docs/"))
        text = "# The repository\n\nPages of the repository that the documentation links to.\n\n"
        for name in names:
            title = re.search(r"^# (.+)$", self.pages[name], re.MULTILINE)
            text += f"- [{title[1] if title else name}]({name}), `{name}`\n"
        return text + "\n```{toctree}\n:hidden:\n" + "".join(f"{name[:-3]}\n" for name in names) + "```\n"

    def _link(self, page: str, link: re.Match[str], found: list[str]) -> str:
        image, words, target = link[1], link[2], link[3]
        words = _LINK.sub(lambda inner: self._link(page, inner, found), words)  # an image that is a link
        if _SCHEME.match(target) or target.startswith("#"):
            return f"{image}[{words}]({target})"
        name, sharp, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), name))
        if path.startswith(".."):
            self.faults.append(f"{page}: {target} leads out of the repository")
            return words
        at = self.root / path
        if not at.exists():
            self.faults.append(f"{page}: {target} leads nowhere")
            return words
        if at.is_dir():
            inside = next((each for each in ("index.md", "README.md") if at.joinpath(each).exists()), None)
            if inside is not None:
                path, at = f"{path}/{inside}", at / inside
        start = posixpath.dirname(site_path(page)) or "."
        if image:
            self.copied.discard(path)
            return f"![{words}]({posixpath.relpath(site_path(path), start)})"
        if path.endswith(".md"):
            found.append(path)
            return f"[{words}]({posixpath.relpath(site_path(path), start)}{sharp}{anchor})"
        if path == "docs/gallery" or path == "docs/cards":
            return f"[{words}]({posixpath.relpath(site_path(path) + '/index.rst', start)})"
        if path.startswith("docs/gallery/") and at.suffix == ".py":
            return f"[{words}]({posixpath.relpath(site_path(path)[:-3] + '.rst', start)})"
        return f"[{words}](site:{posixpath.relpath(self._other(path), start)}{sharp}{anchor})"

    def _other(self, path: str) -> str:
        """Return where the site has something that is no page."""
        at = self.root / path
        if at.is_dir():
            self.folders.add(path)
            for each in files_of(at):
                self.copied.add(each.relative_to(self.root).as_posix())
            return f"{site_path(path)}/index.html"
        if at.suffix in _SHOWN:
            self.shown.add(path)
            return f"{site_path(path)}.html"
        self.copied.add(path)
        return copied_to(self.root, path)

    def _images(self) -> list[Path]:
        """Return the images that pages show, but those of docs/images."""
        shown: set[Path] = set()
        for page in self.pages:
            for link in re.finditer(r"!\[[^\]]*\]\(([^)\s]+)\)", self.root.joinpath(page).read_text()):
                if not _SCHEME.match(link[1]):
                    shown.add(Path(os.path.normpath(self.root.joinpath(page).parent / link[1])))
        return [path for path in sorted(shown) if path.is_file()]


def site_path(path: str) -> str:
    """Return where the site has a file of the repository."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{OUTSIDE}/{path}"


def copied_to(root: Path, path: str) -> str:
    """Return where the site has a file that is copied: report.html beside report.md is in a folder, since that is a page."""
    if path.endswith(".html") and root.joinpath(f"{path[:-5]}.md").exists():
        return site_path(f"{path[:-5]}/index.html")
    return site_path(path)


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder that a reader may want, those of its folders too."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    ]


def _toctree(comment: re.Match[str]) -> str:
    caption = (comment[1] or "").strip()
    head = "```{toctree}\n:hidden:\n" + (f":caption: {caption}\n" if caption else "")
    return head + "".join(f"{line.strip()}\n" for line in comment[2].splitlines()) + "```"


def _write(path: Path, what: str | Path) -> None:
    """Write a text or copy a file, unless it is there already: Sphinx reads again what is newer."""
    if isinstance(what, Path):
        if what.is_dir():
            return
        there = (
            path.exists()
            and path.stat().st_mtime >= what.stat().st_mtime
            and path.stat().st_size == what.stat().st_size
        )
        if not there:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(what, path)
    elif not path.exists() or path.read_text() != what:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(what)
