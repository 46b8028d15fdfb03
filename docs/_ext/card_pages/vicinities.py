"""One card for each vicinity, pairing and weighting: data files, docstrings and results put together."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import vicinal
from card_pages import checks, effects
from card_pages import markdown as md
from card_pages.traps import Trap

FILES = ("vicinities", "methods")  # of data, in docs/cards
_KINDS = ("vicinity", "composition", "pairing", "weighting")
_HEADING = re.compile(r"^(Args|Convention|Raises|Warns|Returns|Examples|Attributes):$", re.MULTILINE)
_NOT_MEASURED = "not measured by us"
_REFERENCE = {  # the page of a module
    "vicinal.vicinities": "vicinities",
    "vicinal.compose": "vicinities",
    "vicinal.latent": "latent",
    "vicinal.pairing": "pairings",
    "vicinal.weighting": "weightings",
}


@dataclass(frozen=True)
class Card:
    """What a data file says of one class.

    Args:
        name: of the class; in a data file, with its module where that is not `vicinal`.
        title: its name in the field.
        what: more than its docstring says, in a sentence or two.
        when: where it is of use.
        when_not: where it is not.
        alpha: how to choose its strength.
        cost: what is known of its cost without a measurement.
        papers: where it is from: sentences, or authors, year, title, venue and url.
        kind: "vicinity", "composition", "pairing" or "weighting".
        compose: a program that uses it with others.
        measured: study and row of what was trained with it.
        compared: folders of `vicinal compare`, in results.
        trained: folders of single runs of `vicinal train`, in results: ERM's and its own.
        atlas: it is what the atlas trained.
        effect: what there is to say of its effect beside these.
        traps: numbers.
        checks: codes.
        see: links.

    """

    name: str
    title: str
    what: str = ""
    when: Sequence[str] = ()
    when_not: Sequence[str] = ()
    alpha: str = ""
    cost: str = ""
    papers: Sequence[str | Mapping[str, Any]] = ()
    kind: str = "vicinity"
    compose: str = ""
    measured: Sequence[Sequence[str]] = ()
    compared: Sequence[str] = ()
    trained: Sequence[Sequence[str]] = ()
    atlas: bool = False
    effect: str = ""
    traps: Sequence[int] = ()
    checks: Sequence[str] = ()
    see: Sequence[str] = ()
    source: str = field(default="", compare=False)
    home: str = "vicinal"

    @property
    def stem(self) -> str:
        """Name of its page."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", self.name).lower()

    @property
    def of(self) -> Any:
        """The class."""
        return getattr(importlib.import_module(self.home), self.name)


def read() -> list[Card]:
    """Return the cards of all data files, in their order."""
    return [_card_of(entry, file) for file in FILES for entry in _entries(md.load(file))]


def _entries(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tables of a data file: those of an array, and those that have the class's name as their own."""
    for name, value in data.items():
        if isinstance(value, list):
            yield from value
        else:
            yield {"name": name} | value


def _card_of(entry: Mapping[str, Any], source: str) -> Card:
    lists = {"when", "when_not", "papers", "see"}
    values: dict[str, Any] = {
        key: [value] if key in lists and isinstance(value, str) else value for key, value in entry.items()
    }
    home, _, name = values.pop("name").rpartition(".")
    card = Card(name, **values, source=source, home=home or "vicinal")
    if card.of.__module__ == "vicinal.compose":
        return replace(card, kind="composition")
    kinds = {vicinal.Pairing: "pairing", vicinal.Weighting: "weighting"}
    return replace(card, kind=next((kind for base, kind in kinds.items() if issubclass(card.of, base)), "vicinity"))


def _paper(paper: str | Mapping[str, Any]) -> str:
    if isinstance(paper, str):
        return md.with_reports(paper)
    year = "" if str(paper["year"]) in paper["venue"] else f" {paper['year']}"
    return f"{paper['authors']}, [*{paper['title']}*]({paper['url']}), {paper['venue']}{year}"


def pages(cards: Sequence[Card], traps: Sequence[Trap]) -> dict[str, str]:
    """Return the pages of all cards and their index, by place."""
    titles = {trap.number: trap for trap in traps}
    made = {f"vicinities/{card.stem}.md": _page(card, titles) for card in cards}
    return made | {"vicinities/index.md": _index(cards)}


def by_trap(cards: Sequence[Card]) -> dict[int, list[str]]:
    """Return links to the cards that name each trap."""
    numbers = sorted({number for card in cards for number in card.traps})
    return {number: [_link(card) for card in cards if number in card.traps] for number in numbers}


def by_code(cards: Sequence[Card]) -> dict[str, list[str]]:
    """Return links to the cards that name each code of the check."""
    codes = sorted({code for card in cards for code in card.checks})
    return {code: [_link(card) for card in cards if code in card.checks] for code in codes}


def _link(card: Card) -> str:
    return f"[{md.sentence(card.title)}: `{card.name}`](../vicinities/{card.stem}.md)"


def _page(card: Card, traps: Mapping[int, Trap]) -> str:
    doc = inspect.getdoc(card.of) or ""
    head = _HEADING.split(doc)[0].strip()
    named = "methods" if card.source == "methods" else _REFERENCE[card.of.__module__]
    place = f"../../reference/{named}.md#{card.name.lower()}"
    links = [*card.see, f"[Reference]({place}): arguments, errors"]
    if card.source == "methods":
        links.append("[Methods of the family](../../how-to/methods.md)")
    links += [traps[number].link for number in card.traps]
    links += [checks.link(code) for code in card.checks]
    title = card.title if card.title.lower() == card.name.lower() else f"{card.title}: `{card.name}`"
    return md.page(
        md.sentence(title) if title != card.title else card.name,
        [
            *(text if text.startswith("    ") else md.wrap(" ".join(text.split())) for text in head.split("\n\n")),
            md.wrap(card.what),
            md.section("When", md.bullets(card.when)),
            md.section("When not", md.bullets(card.when_not)),
            md.section("How strong", card.alpha.strip() if "|" in card.alpha else md.wrap(card.alpha)),
            md.section("Example", _example(card)),
            md.section("Together with others", md.code(card.compose) if card.compose else ""),
            md.section("Convention", _convention(doc)),
            md.section("Cost", "\n\n".join(part for part in (effects.cost(card.name), card.cost) if part) or _NOT),
            md.section("Measured effect", _measured(card)),
            md.section("Papers", md.bullets(map(_paper, card.papers))),
            md.section("See also", md.bullets([*links, "[all cards](index.md)"])),
        ],
        f"its docstring, `docs/cards/{card.source}.toml`, `results/reproduce` and `results/bench`",
    )


_NOT = f"{md.sentence(_NOT_MEASURED)}."


def _measured(card: Card) -> str:
    parts = [
        effects.of_atlas() if card.atlas else "",
        effects.of_studies(card.measured),
        *(effects.of_comparison(folder) for folder in card.compared),
        *(effects.of_pair(erm, other) for erm, other in card.trained),
        md.wrap(card.effect),
    ]
    return "\n\n".join(part for part in parts if part) or _NOT


def _is_measured(card: Card) -> bool:
    return card.atlas or bool(effects.of_studies(card.measured))


def _convention(doc: str) -> str:
    """Return the block of that name of a docstring, as a table."""
    parts = dict(zip(_HEADING.findall(doc), _HEADING.split(doc)[2::2], strict=True))
    lines = inspect.cleandoc(parts.get("Convention", "")).replace("\n    ", " ").splitlines()
    rows = [(key, text.strip()) for key, _, text in (line.partition(":") for line in lines if line)]
    return md.facts(rows)


def _example(card: Card) -> str:
    """Return the docstring's example as a program, and what it prints."""
    lines, printed = [], ""
    for example in doctest.DocTestParser().get_examples(inspect.getdoc(card.of) or ""):
        source = example.source.rstrip()
        is_value = example.want and "\n" not in source and not source.startswith("print(")
        lines.append(f"print({source})" if is_value else source)
        printed += example.want
    if not lines:
        return ""
    body = [line for line in lines if not line.startswith(("import ", "from "))]
    return md.code("\n".join([*_imports(card, lines), "", *body])) + (
        f"\n\n{md.code(printed, 'text')}" if printed else ""
    )


def _imports(card: Card, lines: Sequence[str]) -> list[str]:
    """Return the imports of an example's lines and of what they use of the module that they stand in."""
    plain = {name for line in lines if line.startswith("import ") for name in line[7:].split(", ")}
    names: dict[str, set[str]] = {card.home: {card.name}}
    for line in lines:
        if found := re.match(r"from (\S+) import (.+)", line):
            names.setdefault(found[1], set()).update(found[2].split(", "))
    if any("nn." in line for line in lines):
        names.setdefault("torch", set()).add("nn")
    return [f"import {name}" for name in sorted(plain)] + [
        f"from {module} import {', '.join(sorted(of))}" for module, of in sorted(names.items())
    ]


def _index(cards: Sequence[Card]) -> str:
    rows = [
        (
            f"[`{card.name}`]({card.stem}.md)",
            card.title,
            card.kind,
            " ".join(_HEADING.split(inspect.getdoc(card.of) or "")[0].split("\n\n")[0].split()),
            "yes" if _is_measured(card) else "see its card" if card.effect else _NOT_MEASURED,
        )
        for kind in _KINDS
        for card in cards
        if card.kind == kind
    ]
    intro = (
        "A vicinity says what is drawn around the training data. It is made of a *pairing* (who is mixed with whom) and a "
        "*weighting* (how much each keeps). Each card: what it is, when and when not, how strong, what it costs, and what "
        "effect we measured."
    )
    return md.page(
        "Vicinities, pairings and weightings",
        [md.wrap(intro), md.table(("", "in the field", "kind", "what", "effect measured"), rows)],
        "`docs/cards/*.toml` and docstrings",
    )
