"""What README.md and docs/start show of a terminal is what the commands print here, up to what another processor rounds."""

import re
import shlex
from pathlib import Path

import pytest

from test_readme import ROOT, blocks
from vicinal.lab.cli import main

PAGES = [ROOT / "README.md", ROOT / "docs" / "start" / "comparison.md"]
LEFT_OUT = "[...]"
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
INTERVAL = re.compile(r"([-+]?\d+\.\d+) \[([-+]?\d+\.\d+), ([-+]?\d+\.\d+)\]")


def words(line: str) -> str:
    """Return a line without its numbers and the space between columns."""
    return " ".join(NUMBER.sub("#", line).replace("–", "#").replace("< #", "#").split())


def agree(shown: str, printed: str) -> bool:
    """Check that two lines have the same words, and that the shown means lie in the intervals that were printed.

    Rounding differs by processor, and training makes more of it: the last digits are those of one machine.
    """
    ours, theirs = INTERVAL.findall(shown), INTERVAL.findall(printed)
    inside = all(
        float(low) <= float(mean) <= float(high) for (mean, _, _), (_, low, high) in zip(ours, theirs, strict=False)
    )
    return words(shown) == words(printed) and len(ours) == len(theirs) and inside


def missing(shown: str, printed: str) -> list[str]:
    """Return the lines of a page that the command did not print, each looked for after the one before it."""
    left, absent = printed.splitlines(), []
    for line in shown.splitlines():
        if line == LEFT_OUT:
            continue
        at = next((i for i, candidate in enumerate(left) if agree(line, candidate)), None)
        if at is None:
            absent.append(line)
        else:
            left = left[at + 1 :]
    return absent


@pytest.mark.torture
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_terminal_on_a_page_is_what_the_command_prints(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    shown = [block.body.partition("\n") for block in blocks(page.read_text()) if block.language == "console"]
    assert shown
    for command, _, output in shown:
        assert command.startswith("$ vicinal ")
        assert main(shlex.split(command)[2:]) == 0
        assert missing(output, capsys.readouterr().out) == []


def test_what_was_not_printed_is_found():
    printed = (
        "method  error  s/run\nERM  6.00 [1.00, 9.00]  0.31\nmixup  5.33 [1.70, 8.97]  0.31\n\nNo difference found.\n"
    )
    assert (
        missing("method  error  s/run\n[...]\nmixup  5.34 [1.69, 8.99]  0.74\n\nNo difference found.\n", printed) == []
    )
    assert missing("mixup  5.33 [1.70, 8.97]  0.3\nERM  6.00 [1.00, 9.00]  0.3\n", printed) == [
        "ERM  6.00 [1.00, 9.00]  0.3"
    ]
    assert missing("mixup  9.33 [1.70, 12.97]  0.3\n", printed) == ["mixup  9.33 [1.70, 12.97]  0.3"]  # outside
    assert missing("Mixup helps.\n", printed) == ["Mixup helps."]
