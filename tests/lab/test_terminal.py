"""Control characters are shown escaped, data stay exact, and what cannot be written is told once."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from vicinal.lab import terminal
from vicinal.lab.console import Console, LiveProgress

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\udcff\x7f\r"
SHOWN = "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202e\\udcff\\x7f\\x0d"


def test_every_control_character_is_escaped_and_text_is_not() -> None:
    assert terminal.printable(EVIL) == SHOWN
    kept = "tab\tline\ncafé 語 😀 \N{NO-BREAK SPACE}\N{ZERO WIDTH JOINER}"
    assert terminal.printable(kept) == kept
    controls = [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
    for code in controls:
        assert (terminal.printable(chr(code)) == chr(code)) == (chr(code) in "\t\n")
    assert terminal.printable(terminal.printable(EVIL)) == SHOWN


def test_json_for_a_terminal_is_the_same_json() -> None:
    value = {"name\x7f": "\x9b31m\u202e", "é": "語"}
    shown = terminal.json_printable(json.dumps(value, ensure_ascii=False))
    assert json.loads(shown) == value
    assert shown == terminal.printable(shown)
    assert "語" in shown


def test_what_is_printed_passes_through(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.streams():
        print(EVIL, file=sys.stderr)
        print(EVIL)
        sys.stdout.writelines([EVIL, "\n"])
        terminal.plain(sys.stdout).write("\x1b[1m")
    out, err = capsys.readouterr()
    assert out == f"{SHOWN}\n{SHOWN}\n\x1b[1m"
    assert err == f"{SHOWN}\n"
    assert sys.stdout.__class__ is not terminal.PrintableStream


def test_warnings_and_errors_that_nobody_catches_pass_through_too() -> None:
    code = "import warnings; from vicinal.lab import terminal; terminal.show_errors(); name = '\\x1b[2J'\n"
    code += "warnings.warn(name)\nraise ValueError(name)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert "UserWarning: \\x1b[2J\n" in said
    assert "ValueError: \\x1b[2J\n" in said
    assert "\x1b" not in said


def test_a_stream_answers_as_the_one_behind_it(tmp_path: Any) -> None:
    with open(tmp_path / "a", "w", encoding="latin-1") as file:
        shown = terminal.PrintableStream(terminal.PlainStream(file, True))
        assert (shown.isatty(), shown.encoding, shown.fileno()) == (False, "latin-1", file.fileno())
        assert shown.buffer is file.buffer
        print("x", file=shown, flush=True)
        assert shown.write("\x1b") == 1
    assert (tmp_path / "a").read_bytes() == b"x\n\\x1b"


def test_data_are_exact_in_a_pipe(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    with open(1, "w", encoding="ascii", closefd=False) as file:
        monkeypatch.setattr(sys, "stdout", file)
        with terminal.streams():
            print("caf\N{LATIN SMALL LETTER E WITH ACUTE}")
            terminal.write_data("a,\x1b[2J,\N{LATIN SMALL LETTER E WITH ACUTE},\udcff\n")
            print("after")
        monkeypatch.undo()
    assert capfdbinary.readouterr().out == b"caf\\xe9\na,\x1b[2J,\xc3\xa9,\xff\nafter\n"


def test_data_on_a_terminal_are_for_people(screen: Callable[[int], Any]) -> None:
    shown = screen(80)
    with terminal.streams():
        terminal.write_data("a,\x1b[2J\n")
        terminal.write_data('{"a": "\x9b"}\n', terminal.json_printable)
    assert shown.text() == 'a,\\x1b[2J\n{"a": "\\u009b"}\n'


def test_rich_shows_names_escaped_and_draws_its_bar(screen: Callable[[int], Any]) -> None:
    shown = screen(100)
    with terminal.streams():
        console = Console()
        table = Table(EVIL, "b", box=None)
        table.add_row(EVIL, "c")
        console.print(EVIL)
        console.print(table)
        console.print(Text(EVIL, style="bold"))
        with LiveProgress(EVIL) as progress:
            progress.show(1, 2)
            print(f"note \x1b[31m{EVIL}", file=sys.stderr)
    text = shown.text()
    assert text.count(SHOWN) == 4  # printed, twice in the table, and in the note
    assert text.count("\\x1b[2J\\x9b31m\\u202e") >= 5  # Text itself leaves some out; the bar has little room
    assert "note \\x1b[31m\\x1b]0" in text
    for forbidden in ("\x1b]", "\x07", "\x1b[2J", "\x9b", "\u202e", "\x7f"):
        assert forbidden not in text
    assert "\x1b[1m" in text  # bold is rich's
    assert "\x1b[?25l" in text
    assert "━" in text


class Full(io.StringIO):
    """A disk without room."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_results_that_cannot_be_written_are_told_once_and_notes_are_dropped() -> None:
    out, err = terminal.PlainStream(Full(), True), terminal.PlainStream(Full(), False)
    assert err.write("a note") == 6
    with pytest.raises(
        terminal.OutputLost, match=r"^the output cannot be written to stdout \(no space left on device\)$"
    ):
        out.write("results")
    assert out.write("more") == 4


def test_a_reader_that_has_seen_enough_changes_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as file:
        out = terminal.PlainStream(file, True)
        for _ in range(3):
            out.write("x" * 100_000)
            out.flush()
