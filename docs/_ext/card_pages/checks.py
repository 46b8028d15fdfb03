"""One card for each code of `vicinal check`, from the cards that `vicinal explain` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from card_pages import markdown as md
from vicinal.checking.codes import CODES, Code

SUBJECTS = {"0": "shares", "1": "labels", "2": "draws", "3": "data", "4": "place", "5": "loss", "6": "cost"}
_PARTS = {  # of a source card: its heading here
    "Intent.": "Intent",
    "When it applies.": "Applies when",
    "Do not flag.": "Do not flag",
    "Fails:": "Fails",
    "Passes:": "Passes",
    "Fix.": "Fix",
    "Seen in.": "Seen in",
}
_PART = re.compile(r"^\*([A-Z][a-z ]+[.:])\*\s*(.*?)(?=^\*[A-Z][a-z ]+[.:]\*|\Z)", re.MULTILINE | re.DOTALL)


def pages(linked: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the card of each code and their index, by place; `linked` has links to cards that name a code, by code."""
    museum = _museum()
    made = {f"checks/{_stem(code)}.md": _card(code, linked.get(code.code, ()), museum) for code in CODES.values()}
    return made | {"checks/index.md": _index()}


def link(code: str, folder: str = "../checks/") -> str:
    """Return a link to a code's card, with what is wrong and what that does to the training."""
    found = CODES[code]
    return f"[{code}]({folder}{_stem(found)}.md) ({found.severity}): {found.title}. {found.means}"


def _stem(code: Code) -> str:
    return code.code.lower()


def _card(code: Code, linked: Sequence[str], museum: Mapping[str, list[str]]) -> str:
    parts = dict(_PART.findall(code.card()))
    facts: list[tuple[str, str]] = [
        ("severity", code.severity),
        ("about", SUBJECTS[code.code[4]]),
        ("what it does", code.means),
        ("what to do", code.fix),
    ]
    if "λ" in code.card():
        facts.append(("λ", "the share of a row itself in its mixture; 1 − λ is that of its partner"))
    related = [*linked]
    related += [f"Museum: {pipeline}" for pipeline in museum.get(code.code, ())]
    related += ["[Check a pipeline](../../check/index.md)", "[all codes](index.md)"]
    return md.page(
        f"{code.code}: {code.title}",
        [
            md.facts(facts),
            *(md.section(heading, _body(parts[part])) for part, heading in _PARTS.items()),
            md.section("See also", md.bullets(related)),
        ],
        f"`src/vicinal/checking/cards/{code.code}.md`, which `vicinal explain {code.code}` prints,",
    )


def _body(text: str) -> str:
    """Return a part whose links start from here, not from docs/check."""
    text = re.sub(r"\]\(#(vic\d{3})\)", r"](\1.md)", text.strip()).replace("](../", "](../../")
    return text if text.startswith("```") else md.with_reports(text)


def _museum() -> dict[str, list[str]]:
    """Return links to the pipelines of the museum in which a code must be found, by code."""
    found: dict[str, list[str]] = {}
    for one in json.loads((md.ROOT / "results" / "museum.json").read_text())["pipelines"]:
        name = one["name"].partition("/")[2]
        for code in one["expected"]:
            shown = f"[{name}](../../../museum/{one['name']}.py)"
            found.setdefault(code, []).append(f"{shown}, {md.with_reports(one['source'])}")
    return found


def _index() -> str:
    rows = [
        (f"[{code.code}]({_stem(code)}.md)", code.severity, SUBJECTS[code.code[4]], code.title)
        for code in CODES.values()
    ]
    intro = "One card for each code of [`vicinal check`](../../check/index.md). `vicinal explain VIC001` prints a card."
    return md.page(
        "Codes of the check",
        [intro, md.table(("code", "severity", "about", "what is wrong"), rows)],
        "`src/vicinal/checking`",
    )
