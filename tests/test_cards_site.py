"""docs/cards is what its generator writes; tables of the paper are looked at by `python docs/_ext/cards.py --check`."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

import cards  # noqa: E402
from card_pages import markdown, traps, vicinities  # noqa: E402

FAST = ("vicinities", "traps", "checks")


def test_pages_are_what_code_and_results_say():
    assert not cards.stale(cards.pages(FAST)), "out of date: python docs/_ext/cards.py --write"


def test_pages_that_differ_are_named_and_only_those(tmp_path: Path):
    made = {"traps/trap-01.md": "new\n", "traps/trap-02.md": "same\n"}
    for place, text in {
        "traps/trap-01.md": "old\n",
        "traps/trap-02.md": "same\n",
        "traps/trap-99.md": "gone\n",
    }.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text)
    other = tmp_path / "paper" / "toy.md"
    other.parent.mkdir()
    other.write_text("of another kind\n")
    assert cards.write(made, tmp_path) == ["traps/trap-01.md", "traps/trap-99.md"]
    assert not cards.stale(made, tmp_path)
    assert other.exists()


def test_every_trap_has_a_test_that_exists():
    for trap in traps.read():
        file, _, function = trap.test.partition("::")
        assert f"\ndef {function}(" in (ROOT / file).read_text(), trap.test


@pytest.mark.parametrize("wrong", ["", "{}"], ids=["no entry", "an entry without a title"])
def test_a_trap_without_its_data_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch):
    data = markdown.load("traps")
    monkeypatch.setattr(
        markdown, "load", lambda name: {k: v for k, v in data.items() if k != "7"} | ({"7": {}} if wrong else {})
    )
    with pytest.raises(KeyError):
        traps.read()


def test_a_page_is_named_after_its_class():
    stems = [card.stem for card in vicinities.read()]
    assert len(set(stems)) == len(stems)
    assert {"cut-mix", "erm", "label-distance"} <= set(stems)


def test_reports_become_links_and_links_stay():
    assert markdown.with_reports("kornia/kornia #12 (mended)") == (
        "[kornia/kornia #12](https://github.com/kornia/kornia/issues/12) (mended)"
    )
    linked = "[kornia/kornia #12](https://example.org)"
    assert markdown.with_reports(linked) == linked
