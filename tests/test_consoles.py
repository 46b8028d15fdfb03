"""What README.md and docs/start show of a terminal is what the commands print, but for times and what `[...]` leaves out."""

import re
import shlex
from pathlib import Path

import pytest

from test_readme import ROOT, blocks
from vicinal.lab.cli import main

PAGES = [ROOT / "README.md", ROOT / "docs" / "start" / "comparison.md"]
SECONDS = re.compile(r" +\d+\.\d+$")  # the last column: seconds per run


def missing(shown: str, printed: str) -> list[str]:
    """Return the lines of a page that the command did not print, each looked for after the one before it."""
    left, absent = [SECONDS.sub("", line).rstrip() for line in printed.splitlines()], []
    for line in (SECONDS.sub("", line).rstrip() for line in shown.splitlines()):
        if line == "[...]":
            continue
        pattern = (
            ".*".join(re.escape(part) for part in line.split("[...]")) if "are 95 %" not in line else re.escape(line)
        )
        at = next((i for i, candidate in enumerate(left) if re.fullmatch(pattern, candidate)), None)
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
    printed = "method  error  s/run\nERM  6.00  0.31\nmixup  5.33  0.31\n"
    assert missing("method  error  s/run\n[...]\nmixup  5.33  0.74\n", printed) == []
    assert missing("mixup  5.33  0.74\nERM  6.00  0.31\n", printed) == ["ERM  6.00"]  # in another order
    assert missing("mixup  5.34  0.31\n", printed) == ["mixup  5.34"]
