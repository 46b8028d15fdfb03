"""Pieces of Markdown that all cards are made of."""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
CARDS = ROOT / "docs" / "cards"
COMMAND = "python docs/_ext/cards.py --write"

_REPORT = re.compile(r"(?<![\w/\[`])([\w.-]+/[\w.-]+) #(\d+)")


def load(name: str) -> dict[str, Any]:
    """Return a data file of the cards; an empty dict if there is none of that name."""
    path = CARDS / f"{name}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def page(title: str, parts: Iterable[str], source: str) -> str:
    """Return a page with its title, its parts, and what it was written from."""
    written = f"Written from {source} by `{COMMAND}`."
    return "\n\n".join(part for part in (f"# {title}", *parts, "---", wrap(written)) if part) + "\n"


def section(heading: str, body: str) -> str:
    """Return a section; nothing for an empty one."""
    return f"## {heading}\n\n{body}" if body else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; bars within cells are escaped."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(items: Iterable[str]) -> str:
    """Return a list, its lines wrapped."""
    return "\n".join(textwrap.indent(wrap(item, 118), "  ").replace("  ", "- ", 1) for item in items)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a list of facts, each with its name in bold."""
    return bullets(f"**{name}**: {text}" for name, text in pairs)


def code(source: str, language: str = "python") -> str:
    """Return a fenced block."""
    return f"```{language}\n{source.strip()}\n```"


def wrap(text: str, width: int = 120) -> str:
    """Return text in lines of at most that width."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def with_reports(text: str) -> str:
    """Turn every `owner/repository #12` into a link to that report."""
    return _REPORT.sub(r"[\1 #\2](https://github.com/\1/issues/\2)", text)


def sentence(text: str) -> str:
    """Return text with a capital letter in front."""
    return text[:1].upper() + text[1:]
