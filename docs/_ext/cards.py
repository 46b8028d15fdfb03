"""Write docs/cards: one page for each vicinity, trap, code of the check, and table of the paper.

    python docs/_ext/cards.py --write   write all pages
    python docs/_ext/cards.py --check   say which pages are out of date, and end with 1 if any is

Pages are made of code, docstrings, results and the data files in docs/cards; nothing is written into them by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from card_pages import checks, paper, traps, vicinities
from card_pages import markdown as md

KINDS = {
    "vicinities": "vicinities, pairings and weightings: what, when, when not, how strong, cost, measured effect",
    "traps": "silent mistakes in mixing: who had each, how it is avoided, its test, what finds it",
    "checks": "codes of `vicinal check`: intent, applies when, do not flag, fails, passes, fix",
    "paper": "tables and figures of the paper: what it reports, our number beside it",
}


def pages(kinds: Collection[str] = KINDS) -> dict[str, str]:
    """Return the pages of some kinds of cards by their place in docs/cards; of all kinds, the first page too."""
    every_trap, every_vicinity = traps.read(), vicinities.read()
    makers: dict[str, Callable[[], dict[str, str]]] = {
        "vicinities": lambda: vicinities.pages(every_vicinity, every_trap),
        "traps": lambda: traps.pages(every_trap, vicinities.by_trap(every_vicinity)),
        "checks": lambda: checks.pages(_joined(traps.by_code(every_trap), vicinities.by_code(every_vicinity))),
        "paper": paper.pages,
    }
    made = {place: text for kind in KINDS if kind in kinds for place, text in makers[kind]().items()}
    return made | {"index.md": _index(made)} if set(kinds) == set(KINDS) else made


def stale(made: dict[str, str], folder: Path = md.CARDS) -> list[str]:
    """Return the places of pages that are not there, not as they should be, or there and no longer made.

    Of kinds of which nothing was made nothing is said.
    """
    kinds = {place.partition("/")[0] for place in made}
    paths = [path for path in folder.rglob("*.md") if path.relative_to(folder).parts[0] in kinds]
    there = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    return sorted(place for place in there | made if there.get(place) != made.get(place))


def write(made: dict[str, str], folder: Path = md.CARDS) -> list[str]:
    """Bring the pages up to date, and return the places of those that changed."""
    changed = stale(made, folder)
    for place in changed:
        path = folder / place
        if place in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[place], encoding="utf-8")
        else:
            path.unlink()
    return changed


def _joined(*links: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    keys = dict.fromkeys(key for each in links for key in each)
    return {key: [link for each in links for link in each.get(key, ())] for key in keys}


def _index(made: dict[str, str]) -> str:
    rows = [
        (f"[{kind}]({kind}/index.md)", str(sum(place.startswith(f"{kind}/") for place in made) - 1), text)
        for kind, text in KINDS.items()
    ]
    intro = "One page for each thing that can be looked up, written from code and results."
    return md.page(
        "Cards",
        [intro, md.table(("", "cards", ""), rows)],
        "code, results and `docs/cards/*.toml`",
    )


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="write all pages")
    what.add_argument("--check", action="store_true", help="say which pages are out of date")
    args = parser.parse_args()
    made = pages()
    changed = write(made) if args.write else stale(made)
    for place in changed:
        print(f"{'written' if args.write else 'out of date'}: docs/cards/{place}")
    print(f"{len(made)} pages, {len(changed)} {'written' if args.write else 'out of date'}")
    return 1 if args.check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
