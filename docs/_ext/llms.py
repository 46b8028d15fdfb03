"""What language models read: llms.txt, which lists the pages; llms-full.txt, which has them whole; each page as Markdown.

The form is that of llmstxt.org: a title, a summary in a quotation, and sections of links, each with a sentence. The pages
are in the order of the site's navigation, and each must be in it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock

LARGEST = {"llms.txt": 60_000, "llms-full.txt": 2_000_000}  # bytes: what a model reads at once, and as a file
_DIRECTIVE = re.compile(r"^```\{(\S+)\}(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OBJECT = re.compile(
    r"^\.\. auto(class|function|module|data|method|exception|attribute|property):: (\S+)", re.MULTILINE
)
# pages of the site that are for looking, not for reading
_NOT_WHOLE = ("project/results/", "reference/licenses", "paper/report")


def write(app: Sphinx, site: Path) -> tuple[dict[str, int], list[str]]:
    """Write the files into a built site; return their sizes, and what is wrong with them."""
    summary, sections = listed(app)
    titles = {name: app.env.titles[name].astext() for name in app.env.titles}
    with mock(app.config.autodoc_mock_imports):
        source = {name: page_text(app, name) for name in app.env.found_docs}
    index = [f"# {titles['index']}", "", f"> {summary}", ""]
    whole = [f"# {titles['index']}", "", f"> {summary}", ""]
    seen: set[str] = {"index"}
    for caption, names in sections:
        index += [f"## {caption}", ""]
        for name in names:
            if name in seen:
                continue
            seen.add(name)
            sentence = first_sentence(source[name])
            index.append(f"- [{titles[name]}]({name}.md)" + (f": {sentence}" if sentence else ""))
            if not name.startswith(_NOT_WHOLE):
                whole += [f"<!-- {name}.html -->", "", source[name].strip(), "", ""]
        index.append("")
    faults = [f"llms.txt lacks {name}: no table of contents has it" for name in sorted(set(app.env.found_docs) - seen)]
    for name, text in source.items():
        there = site / f"{name}.md"
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text)
    sizes = {}
    for name, lines in (("llms.txt", index), ("llms-full.txt", whole)):
        text = "\n".join(lines).rstrip() + "\n"
        sizes[name] = len(text.encode())
        if sizes[name] > LARGEST[name]:
            faults.append(f"{name} has {sizes[name]} bytes, more than the {LARGEST[name]} that are sane")
        (site / name).write_text(text)
    return sizes, faults


def listed(app: Sphinx) -> tuple[str, list[tuple[str, list[str]]]]:
    """Return the summary and, by the sections of the navigation, the names of all pages in its order."""
    tree = app.env.get_doctree("index")
    summary = first_sentence(page_text(app, "index"))
    sections = []
    for toctree in tree.findall(addnodes.toctree):
        for name in toctree["includefiles"]:
            sections.append((app.env.titles[name].astext(), list(below(app, name))))
    return summary, sections


def below(app: Sphinx, name: str) -> Iterator[str]:
    """Return a page and those below it in the navigation."""
    yield name
    for each in app.env.toctree_includes.get(name, ()):
        yield from below(app, each)


def page_text(app: Sphinx, name: str) -> str:
    """Return a page as Markdown: with docstrings where the site has them, without what only Sphinx reads."""
    path = Path(app.env.doc2path(name))
    text = path.read_text()
    if path.suffix == ".rst":
        return _of_the_gallery(app, name, text)
    return _DIRECTIVE.sub(_read, text).replace("(site:", "(")


def _read(directive: re.Match[str]) -> str:
    if directive[1] == "toctree":
        return ""
    if directive[1] != "eval-rst":
        return directive[0]
    return "\n\n".join(docstring(match[2]) for match in _OBJECT.finditer(directive[3]))


def docstring(dotted: str) -> str:
    """Return what is said of a name of ours: its signature and its docstring, and those of its public methods."""
    of = resolve(dotted)
    parts = [described(dotted, of)]
    if inspect.isclass(of):
        for name, member in vars(of).items():
            function = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
            if not name.startswith("_") and inspect.isfunction(function) and function.__doc__:
                parts.append(described(f"{dotted}.{name}", function))
    return "\n\n".join(parts)


def described(dotted: str, of: object) -> str:
    """Return a signature and a docstring."""
    try:
        signature = str(inspect.signature(of)) if callable(of) else ""
    except ValueError:  # a class of Python's own, which tells nobody its signature
        signature = ""
    return f"```text\n{dotted}{signature}\n\n{inspect.getdoc(of) or ''}\n```"


def resolve(dotted: str) -> object:
    """Return what a dotted name stands for."""
    import importlib

    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            of: object = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            of = getattr(of, part, None)  # Sphinx has warned of a name that is not there
        return of
    return None


def _of_the_gallery(app: Sphinx, name: str, text: str) -> str:
    script = Path(app.srcdir, f"{name}.py")
    if script.exists():
        title, _, rest = script.read_text().partition('"""')[2].partition("\n====")
        about, _, code = rest.partition('"""')
        about = about.lstrip("=").strip()
        return f"# {title.strip()}\n\n{about}\n\n```python\n{code.strip()}\n```\n"
    return re.sub(r"^\.\. .*?(?=^\S|\Z)", "", text, flags=re.MULTILINE | re.DOTALL)


def first_sentence(markdown: str) -> str:
    """Return the first sentence of a page's first paragraph, as plain text."""
    body = re.sub(r"<!--.*?-->", "", markdown, flags=re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", body):
        paragraph = paragraph.strip()
        if paragraph and not re.match(r"#|```|:::|\||!\[|- |    |=|\.\. |\[!\[", paragraph):
            plain = re.sub(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\([^)]*\)", r"\1", " ".join(paragraph.split())).replace(
                "**", ""
            )
            found = re.match(r"(.{20,}?[.!?:])(\s|$)", plain)
            return (found[1] if found else plain).rstrip(":")
    return ""
