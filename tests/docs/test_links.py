"""The checker of the site's links finds what leads nowhere; the copy of the pages leads where the site has things."""

import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

import links  # noqa: E402
import llms  # noqa: E402
import stage  # noqa: E402

pytestmark = pytest.mark.docs


def made(folder: Path, **pages: str) -> Path:
    """Return a site of pages, by their names."""
    folder.joinpath("under").mkdir(parents=True)
    for name, body in pages.items():
        folder.joinpath(name.replace("__", "/") + ".html").write_text(f"<html><body>{body}</body></html>")
    return folder


def faults(site: Path) -> list[str]:
    return [fault.partition(": ")[2] for fault in links.check(site).faults]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="under/b.html">b</a>', None),
        ('<a href="under/b.html#here">b</a>', None),
        ('<a href="#top" id="top">b</a>', None),
        ("<a href='under/b.html#here'>b</a>", None),
        ('<a href="https://example.org/a?b=c#d">b</a>', None),
        ('<a href="mailto:a@example.org">b</a>', None),
        ('<img src="data:image/png;base64,AAAA">', None),
        ("<script>'<a href=\"nowhere.html\">'</script>", None),
        ('<a href="nowhere.html">b</a>', "nowhere.html: there is no such file"),
        ('<a href="under/b.html#there">b</a>', "under/b.html#there: under/b.html has no such anchor"),
        ('<a href="#there">b</a>', "#there: a.html has no such anchor"),
        ('<a href="../b.html">b</a>', "../b.html: it leads out of the site"),
        ('<a href="/b.html">b</a>', "/b.html: it leads out of the site"),
        ('<a href="http://example.org">b</a>', "http://example.org: not https"),
        ('<a href="https://localhost/b">b</a>', "https://localhost/b: not the name of a public server"),
        ('<img src="https://example.org/a.png">', "https://example.org/a.png: the page asks another server for it"),
        ('<img src="no.png">', "no.png: there is no such file"),
        (
            '<p style="background: url(https://example.org/a.png)">',
            "https://example.org/a.png: the page asks another server for it",
        ),
        ('<p id="a"></p><p id="a"></p>', "two elements have the id 'a'"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, body: str, fault: str | None):
    site = made(tmp_path / "site", a=body, under__b='<p id="here">b</p>')
    assert faults(site) == ([] if fault is None else [fault])


def test_a_style_sheet_asks_nobody(tmp_path: Path):
    site = made(tmp_path / "site", a="")
    site.joinpath("a.css").write_text("@import 'https://example.org/font.css'; p { background: url(no.png) }")
    assert faults(site) == [
        "https://example.org/font.css: the page asks another server for it",
        "no.png: there is no such file",
    ]


class Parser(HTMLParser):
    """The links and anchors of a page as the standard library's parser finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str | None] = set()
        self.goes: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an anchor and a link."""
        given = dict(attrs)
        self.anchors |= {given["id"]} if "id" in given else set()
        self.anchors |= {given["name"]} if tag == "a" and "name" in given else set()
        self.goes += [given["href"]] if tag == "a" and "href" in given else []


def test_expressions_read_pages_as_a_parser_does():
    pages = sorted((ROOT / "build" / "docs").glob("*/*.html"))
    if not pages:
        pytest.skip("the site has not been built: make docs")
    for path in pages:
        text = path.read_text()
        page, parser = links.Page(text), Parser()
        parser.feed(text)
        assert (page.goes, page.anchors) == (parser.goes, parser.anchors), path


# -- the copy that Sphinx reads --------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    files = {
        "docs/index.md": "# Front\n\n- [Moons](gallery/plot_a.py)\n\n<!-- toctree\nhow-to/index\n-->\n",
        "docs/how-to/index.md": "# How\n\n[b](b.md) then [a](a.md), [words over\nlines](../../CHANGES.md#one)\n",
        "docs/how-to/a.md": "# A\n\n[code](../../examples/x.py) [figures](../../results) [all](../../results/a.json)\n"
        "```md\n[kept](nowhere.md)\n```\n![](../images/i.svg) [![](../images/i.svg)](b.md)\n",
        "docs/how-to/b.md": "# B\n\n[gone](nowhere.md) [out](../../../x.md) [web](https://example.org) [report](../r.html)",
        "docs/how-to/c.md": "# C\n",
        "docs/r.html": "<p>",
        "docs/r.md": "# R\n",
        "docs/images/i.svg": "<svg/>",
        "docs/gallery/plot_a.py": "",
        "CHANGES.md": "# Changes\n\n## one\n\n[back](docs/how-to/c.md)\n",
        "examples/x.py": "1\n",
        "results/a.json": "{}",
    }
    for name, text in files.items():
        path = tmp_path / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "repository"


def test_links_lead_where_the_site_has_what_they_lead_to(repository: Path, tmp_path: Path):
    staged = stage.Stage(repository, tmp_path / "source")
    staged.build()
    read = {name: (tmp_path / "source" / name).read_text() for name in ("index.md", "how-to/a.md", "how-to/b.md")}
    thumbnail = "gallery/images/thumb/sphx_glr_plot_a_thumb.png"
    assert f"- [![]({thumbnail})](gallery/plot_a.rst) [Moons](gallery/plot_a.rst)" in read["index.md"]
    assert "```{toctree}\n:hidden:\nhow-to/index\n```" in read["index.md"]
    how = (tmp_path / "source" / "how-to" / "index.md").read_text()
    assert "[words over\nlines](../project/CHANGES.md#one)" in how
    assert how.endswith("```{toctree}\n:hidden:\nb\na\nc\n```\n")
    assert (
        "[code](site:../project/examples/x.py.html) [figures](site:../project/results/index.html)"
        in read["how-to/a.md"]
    )
    assert "[all](site:../project/results/a.json)" in read["how-to/a.md"]
    assert "[kept](nowhere.md)" in read["how-to/a.md"]
    assert "![](../images/i.svg) [![](../images/i.svg)](b.md)" in read["how-to/a.md"]
    assert read["how-to/b.md"].split("\n")[2] == "gone out [web](https://example.org) [report](site:../r/index.html)"
    assert sorted(staged.faults) == [
        "docs/how-to/b.md: ../../../x.md leads out of the repository",
        "docs/how-to/b.md: nowhere.md leads nowhere",
    ]
    assert "[back](../how-to/c.md)" in (tmp_path / "source" / "project" / "CHANGES.md").read_text()
    assert (tmp_path / "source" / "images" / "i.svg").exists()
    assert staged.shown == {"examples/x.py"}
    assert staged.copied == {"results/a.json", "docs/r.html"}


def test_only_what_changed_is_written_and_what_is_gone_is_removed(repository: Path, tmp_path: Path):
    source = tmp_path / "source"
    stage.Stage(repository, source).build()
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*") if path.is_file()}
    (repository / "docs" / "how-to" / "b.md").write_text("# B\n")
    (repository / "docs" / "how-to" / "c.md").unlink()
    (repository / "CHANGES.md").write_text("# Changes\n\n## one\n")
    stage.Stage(repository, source).build()
    after = {path: path.stat().st_mtime_ns for path in source.rglob("*") if path.is_file()}
    assert {path.relative_to(source).as_posix() for path in before if after.get(path) != before[path]} == {
        *("how-to/b.md", "how-to/c.md", "how-to/index.md", "project/CHANGES.md")
    }
    assert source / "how-to" / "c.md" not in after


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("# A\n\nOne sentence, of [two](b.md). Another one.\n", "One sentence, of two."),
        ("# A\n\n```python\n1\n```\n\n| a |\n|---|\n\nAfter code\nand a table.", "After code and a table."),
        ("# A\n", ""),
    ],
)
def test_a_page_is_described_by_its_first_sentence(page: str, sentence: str):
    assert llms.first_sentence(page) == sentence
