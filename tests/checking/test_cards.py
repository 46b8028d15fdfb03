"""Each code has a card whose examples are what it says, and a line in docs/check/codes.md.

`python tests/checking/test_cards.py` writes that page; those of the cards are written by `docs/_ext/cards.py`.
"""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vicinal.checking.codes import CODES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/check/codes.md"
PARTS = ("*Intent.*", "*When it applies.*", "*Do not flag.*", "*Seen in.*", "*Fails:*", "*Passes:*", "*Fix.*")
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GROUPS = {"0": "Shares", "1": "Labels", "2": "Draws", "3": "Data", "4": "Place", "5": "Loss", "6": "Cost"}

HEADER = """\
# Codes: what `vicinal check` finds

Each code has a [card](../cards/checks/index.md), which `vicinal explain VIC001` prints, too: why it matters, when it
applies, what is left alone, a pipeline that fails, the same mended. A code never changes its meaning. This page is written
from the codes by `python tests/checking/test_cards.py`.

An **error** means that the model is trained on something other than its labels say, or that the program fails; a
**warning** that something is probably not what was meant; a **note** is worth knowing and never fails a check. How the check
works: [Check a pipeline](index.md).
"""


def written() -> str:
    """Return the page of all codes: one heading each, which links from elsewhere lead to."""
    table = ["| code | | about | what is wrong |", "|---|---|---|---|"]
    parts = []
    for code in CODES.values():
        anchor = code.code.lower()
        table.append(f"| [{code.code}](#{anchor}) | {code.severity} | {GROUPS[code.code[4]]} | {code.title} |")
        title = code.title[0].upper() + code.title[1:]
        card = f"[The card](../cards/checks/{anchor}.md)"
        parts += [f"## {code.code}", f"**{title}** ({code.severity}). {code.means}", f"{code.fix} {card}."]
    return "\n".join([HEADER, *table]) + "\n\n" + "\n\n".join(parts) + "\n"


def load(source: str, folder: Path) -> ModuleType:
    """Import an example from a file, as `vicinal check FILE.py` does."""
    file = folder / "pipeline.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location("pipeline", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pipeline"] = module  # workers look for its functions there
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["pipeline"]
    return module


def test_the_page_is_that_of_the_cards():
    assert PAGE.read_text() == written(), "docs/check/codes.md is out of date: python tests/checking/test_cards.py"


def test_no_card_is_without_a_code():
    folder = ROOT / "src/vicinal/checking/cards"
    assert {card.stem for card in folder.iterdir()} == set(CODES)


@pytest.mark.parametrize("name", CODES)
def test_a_card_has_all_parts(name: str):
    code = CODES[name]
    card = code.card()
    title = code.title[0].upper() + code.title[1:]
    assert card.startswith(f"## {name}\n\n**{title}** ({code.severity})\n\n")
    places = [card.find(f"\n{part}") for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)
    assert max(map(len, card.splitlines())) <= 125
    examples = FENCE.findall(card)
    assert len(examples) == 2
    for example in examples:
        assert re.match(r"report = vicinal\.check\(.+\)$", example.splitlines()[-1])


@pytest.mark.parametrize("name", CODES)
def test_the_first_example_has_the_fault(name: str, tmp_path: Path):
    report = load(FENCE.findall(CODES[name].card())[0], tmp_path).report
    assert name in report.codes, str(report)


@pytest.mark.parametrize("name", CODES)
def test_the_second_example_passes(name: str, tmp_path: Path):
    report = load(FENCE.findall(CODES[name].card())[1], tmp_path).report
    assert report.passed, str(report)
    assert name not in report.codes, str(report)


if __name__ == "__main__":
    PAGE.write_text(written())
