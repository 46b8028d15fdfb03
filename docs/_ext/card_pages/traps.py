"""One card for each silent trap, from docs/explanation/traps.md, tests/test_traps.py and docs/cards/traps.toml."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from card_pages import checks
from card_pages import markdown as md
from vicinal.checking.codes import CODES

_TESTS = md.ROOT / "tests"


@dataclass(frozen=True)
class Trap:
    """A trap, with what is said of it in the three places."""

    number: int
    subject: str
    title: str
    wrong: str
    here: str
    seen: tuple[str, ...]
    codes: tuple[str, ...]
    test: str  # file::function

    @property
    def stem(self) -> str:
        """Name of its page."""
        return f"trap-{self.number:02d}"

    @property
    def link(self) -> str:
        """A link to its card from those of other kinds."""
        return f"Trap {self.number}: [{self.title}](../traps/{self.stem}.md)"


def read() -> list[Trap]:
    """Return all traps by number.

    Raises:
        ValueError: the page, the data file and the tests do not name the same traps, or a code is unknown.

    """
    more, tests = md.load("traps"), _named_tests()
    found = sorted(_rows(more, tests), key=lambda trap: trap.number)
    numbers = {trap.number for trap in found}
    if not numbers == {int(number) for number in more} == set(tests):
        raise ValueError("traps.md, traps.toml and test_traps.py do not have the same numbers")
    if unknown := {code for trap in found for code in trap.codes} - set(CODES):
        raise ValueError(f"docs/cards/traps.toml names {', '.join(sorted(unknown))}, which are no codes")
    return found


def by_code(traps: list[Trap]) -> dict[str, list[str]]:
    """Return links to the traps that each code finds."""
    return {code: [trap.link for trap in traps if code in trap.codes] for code in CODES}


def pages(traps: list[Trap], linked: Mapping[int, Sequence[str]]) -> dict[str, str]:
    """Return the card of each trap and their index, by place; `linked` has links to cards that name a trap, by number."""
    made = {f"traps/{trap.stem}.md": _card(trap, linked.get(trap.number, ())) for trap in traps}
    return made | {"traps/index.md": _index(traps)}


def _rows(more: Mapping[str, Mapping[str, list[str]]], tests: Mapping[int, str]) -> Iterator[Trap]:
    """Read the tables of traps.md: number, trap, here."""
    subject = ""
    for line in (md.ROOT / "docs/explanation/traps.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            subject = line[3:]
        elif row := re.fullmatch(r"\| (\d+) \| (.+) \| (.+) \|", line):
            number, wrong, here = int(row[1]), row[2], row[3]
            of = more[row[1]]
            yield Trap(
                number, subject, str(of["title"]), wrong, here, tuple(of["seen"]), tuple(of["codes"]), tests[number]
            )


def _named_tests() -> dict[int, str]:
    """Return the test of each trap, as file::function, from the code of tests/test_traps.py."""
    tree = ast.parse((_TESTS / "test_traps.py").read_text(encoding="utf-8"))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and (match := re.match(r"test_trap_(\d\d)_", node.name)):
            found[int(match[1])] = f"tests/test_traps.py::{node.name}"
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ELSEWHERE":
            for number, where in ast.literal_eval(node.value).items():
                module, _, function = where.partition(".")
                found[number] = f"{_file_with(module, function)}::{function}"
    return found


def _file_with(module: str, function: str) -> str:
    """Return the test file of that name that has the function."""
    for path in sorted(_TESTS.rglob(f"{module}.py")):
        if f"\ndef {function}(" in path.read_text(encoding="utf-8"):
            return path.relative_to(md.ROOT).as_posix()
    raise ValueError(f"no {module}.py under tests has {function}")


def _card(trap: Trap, linked: Sequence[str]) -> str:
    here = trap.here.replace("](losses.md", "](../../explanation/losses.md")
    if same := re.match(r"As for (\d+)\.", here):
        here = f"As for [trap {same[1]}](trap-{int(same[1]):02d}.md)."
    file, _, function = trap.test.partition("::")
    found = [checks.link(code) for code in trap.codes]
    finds = md.bullets(found) or "No code of [`vicinal check`](../../check/index.md) looks for it."
    return md.page(
        f"Trap {trap.number}: {trap.title}",
        [
            md.section("What goes wrong, without an error", trap.wrong),
            md.section("Who had it", md.bullets(md.with_reports(each) for each in trap.seen)),
            md.section("How it is avoided here", here),
            md.section("Its test", f"[`{file}::{function}`](../../../{file})"),
            md.section("What finds it in other code", finds),
            md.section(
                "See also",
                md.bullets([*linked, "[All traps, by subject](../../explanation/traps.md)", "[all cards](index.md)"]),
            ),
        ],
        "`docs/explanation/traps.md`, `docs/cards/traps.toml` and `tests/test_traps.py`",
    )


def _index(traps: list[Trap]) -> str:
    rows = [
        (
            str(trap.number),
            f"[{trap.title}]({trap.stem}.md)",
            trap.subject.lower(),
            ", ".join(f"[{code}](../checks/{code.lower()}.md)" for code in trap.codes) or "none",
        )
        for trap in traps
    ]
    intro = (
        f"{len(traps)} mistakes in mixing that raise no error, each found in code that people use or reported by people who "
        "fell into it; with the test that it does not happen here, and the code of `vicinal check` that finds it elsewhere. "
        "[By subject, in one page](../../explanation/traps.md)."
    )
    return md.page(
        "Traps",
        [md.wrap(intro), md.table(("trap", "", "about", "found by"), rows)],
        "`docs/explanation/traps.md`",
    )
