"""What is printed: whole numbers at any width, nothing lost, nothing interpreted."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any

import pytest
from report_example import build

from vicinal.lab import console
from vicinal.lab.console import Clock, Display, Training, print_results

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A terminal of so many columns, and what was written to it."""

    def __init__(self, columns: int) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.file = os.fdopen(slave, "w", encoding="utf-8")

    def text(self) -> str:
        self.file.flush()
        os.set_blocking(self._master, False)
        parts = []
        while True:
            try:
                parts.append(os.read(self._master, 65536))
            except BlockingIOError:
                return b"".join(parts).decode().replace("\r\n", "\n")

    def close(self) -> None:
        self.file.close()
        os.close(self._master)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`screen(60)` stands for stdout and stderr."""
    opened: list[Screen] = []
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def show(columns: int) -> Screen:
        opened.append(Screen(columns))
        # rich sizes itself by the three standard descriptors, which are pytest's
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "stdout", opened[-1].file)
        monkeypatch.setattr(sys, "stderr", opened[-1].file)
        return opened[-1]

    yield show
    for each in opened:
        each.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`clock(3)` lets three seconds pass."""
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def run(method: str, seed: int, error: float) -> dict[str, Any]:
    return {"method": method, "seed": seed, "test": {"error": error}}


def numbers_of(results: dict[str, Any]) -> list[str]:
    """The numbers that must be readable, whatever the width."""
    wanted = []
    for of in results["summary"].values():
        wanted += [f"{100 * of['test']['error'][end]:.2f}" for end in ("mean", "high")]
    for c in results["comparisons"]:
        wanted += [f"{100 * c[end]:+.2f}" for end in ("difference", "low", "high")]
    return wanted


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 140, 300])
def test_no_number_is_cut_at_any_width(screen: Callable[[int], Screen], columns: int) -> None:
    results = build(seeds=6, methods=6)
    shown = screen(columns)
    print_results(results)
    text = ESCAPE.sub("", shown.text())
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    for number in numbers_of(results):
        assert number.replace("-0.00", "+0.00") in text
    assert "".join(results["verdict"]["sentence"].split()) in "".join(text.split())
    assert ("s/run" in text) == (columns >= 140)
    for name in results["summary"]:
        assert all(word[:8] in text for word in name.split())


def test_elsewhere_a_sentence_is_a_line_and_nothing_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    results = build(seeds=6, methods=12, perturb=0.5)
    print_results(results)
    lines = capsys.readouterr().out.splitlines()
    assert not any("\x1b" in line for line in lines)
    assert lines[-2:] == [results["verdict"]["sentence"], results["verdict"]["advice"]]
    assert lines[0].startswith(
        "iris: 150 rows, 4 inputs, 3 classes; 6 seeds, 200 epochs. ERM is training without mixing"
    )
    assert lines[1].split("  ")[0] == "method"
    for title in ("test error %", "minus ERM", "p (Holm)", "perturbed error %", "NLL", "Brier", "ECE", "s/run"):
        assert title in lines[1]
    for line, (name, of) in zip(lines[2:], results["summary"].items(), strict=False):
        assert line.startswith(name)
        assert f"{100 * of['perturbed']['error']['mean']:.2f}" in line


def test_regression_is_in_its_own_unit(capsys: pytest.CaptureFixture[str]) -> None:
    results = build(task="regression", seeds=5, level=50.0, effect=-2.0)
    results["data"]["classes"] = []
    print_results(results)
    out = capsys.readouterr().out
    assert "regression of progression" in out
    assert "test RMSE" in out
    assert "%" not in out.splitlines()[2]
    assert f"{results['summary']['ERM']['test']['rmse']['mean']:.4g}" in out


def test_an_interval_of_errors_stays_within_what_errors_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    results = build(seeds=2)
    results["summary"]["ERM"]["test"]["error"] = {"mean": 0.5, "low": -3.0, "high": 4.0}
    results["comparisons"][0] |= {"difference": -1e-9, "low": -4e-9, "high": 2.0, "p_holm": 3e-9}
    print_results(results)
    out = capsys.readouterr().out
    assert "50.00 [0.00, 100.00]" in out
    assert "+0.00 [+0.00, +200.00]" in out
    assert "<0.0001" in out


def test_names_are_text_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    results = build(seeds=3, data="[red]a[/b] :smile: \u202etxt")
    results["verdict"]["advice"] = "Choice([ERM()], p=[0.5, 0.5]) [link=x]"
    print_results(results)
    out = capsys.readouterr().out
    assert "[red]a[/b] :smile:" in out
    assert "Choice([ERM()], p=[0.5, 0.5]) [link=x]" in out
    with Display("[/red] :smile:", ["[b]"], "error") as display:
        display(0, 10, [])
    assert "[/red] :smile:" in capsys.readouterr().err


def test_progress_elsewhere_is_a_line_at_once_and_then_now_and_then(
    capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]
) -> None:
    with Display("compare iris", ["ERM"], "error") as display:
        for done in range(0, 101, 2):
            display(done, 100, [])
            clock(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "compare iris:   0 %",
        "compare iris:  20 %, 40 s left",
        "compare iris:  40 %, 30 s left",
        "compare iris:  60 %, 20 s left",
        "compare iris:  80 %, 10 s left",
        "compare iris: 100 %, keeping the best model",
    ]


@pytest.mark.parametrize("columns", [60, 120])
def test_progress_on_a_terminal_is_a_live_table(screen: Callable[[int], Screen], columns: int) -> None:
    shown = screen(columns)
    with Display("compare iris", ["ERM", "mixup 0.4"], "error") as display:
        display(0, 100, [])
        display(50, 100, [run("ERM", 0, 0.05), run("ERM", 1, 0.1), run("mixup 0.4", 0, 0.025)])
    text = shown.text()
    assert "\x1b[?25l" in text  # the cursor is hidden
    assert text.rstrip("\n").count("\x1b[?25h") == 1  # and comes back
    plain = ESCAPE.sub("", text)
    assert re.search(r"ERM +2 +7\.50 %", plain)
    assert re.search(r"mixup 0\.4 +1 +2\.50 %", plain)
    assert "compare iris:  50 %" in plain
    assert max(map(len, plain.splitlines())) <= columns


def test_no_color_has_no_color(screen: Callable[[int], Screen], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = screen(100)
    print_results(build(seeds=3))
    with Display("x", ["ERM"], "error") as display:
        display(1, 2, [])
    assert not re.search(r"\x1b\[[0-9;]*(3[0-9]|4[0-9])m", shown.text())


def test_a_dumb_terminal_gets_lines(screen: Callable[[int], Screen], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    shown = screen(80)
    with Display("compare iris", ["ERM"], "error") as display:
        display(1, 2, [])
    assert shown.text() == "compare iris:  50 %\n"


def test_a_terminal_without_the_letters_gets_escapes_instead_of_a_traceback() -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    narrow.reconfigure(errors="backslashreplace")  # as the command does
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", narrow)
        print_results(build(seeds=3, data="Übung \udcff"))
    narrow.flush()
    assert b"\\xdcbung" in narrow.buffer.getvalue()  # type: ignore[attr-defined]


def test_time_left_does_not_count_what_was_found_done_nor_starting_up(clock: Callable[[float], None]) -> None:
    left = Clock()
    assert left.left(500, 1000) is None  # found done by the run before
    clock(30)  # importing PyTorch
    assert left.left(500, 1000) is None
    assert left.left(510, 1000) is None  # the speed starts here
    clock(0.5)
    assert left.left(520, 1000) is None  # too early to say
    clock(1.5)
    assert left.left(550, 1000) == pytest.approx((1000 - 550) * 2 / 40)
    clock(8)
    assert left.left(1000, 1000) == 0


def test_time_left_of_a_finished_comparison(clock: Callable[[float], None]) -> None:
    left = Clock()
    assert left.left(10, 10) is None
    clock(5)
    assert left.left(10, 10) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (89.4, "89 s"), (90, "2 min"), (600, "10 min"), (5390, "90 min"), (5400, "1.5 h"), (1e6, "277.8 h")],
)
def test_durations(seconds: float, said: str) -> None:
    assert console.duration(seconds) == said


def test_a_training_moves_one_line_and_keeps_one_for_each_epoch(
    screen: Callable[[int], Screen], clock: Callable[[float], None]
) -> None:
    shown = screen(100)
    line = {"epoch": 1, "train_mixed_loss": 1.25, "test_error": 0.125, "examples_per_second": 1234.4}
    with Training("run", epochs=2, epoch_steps=10, steps=20) as training:
        training.step(1, 1, 1, 500.0)
        training.step(1, 2, 2, 600.0)  # too soon to be shown
        clock(2.0)
        training.step(1, 3, 3, 1500.0)
        clock(2.0)
        training.step(1, 5, 5, 1500.0)
        training.epoch(line)
    text = ESCAPE.sub("", shown.text())
    assert "run: epoch 1 of 2, step 1 of 10, 500 examples/s" in text
    assert "step 2 of" not in text
    # two steps in two seconds since the first step after the start that was shown
    assert "run: epoch 1 of 2, step 5 of 10, 1,500 examples/s, 15 s left" in text
    assert "epoch   1  mixed loss 1.2500  test error 12.50 %  1234 examples/s\n" in text


def test_a_training_elsewhere_prints_a_line_for_each_epoch_alone(capsys: pytest.CaptureFixture[str]) -> None:
    line = {"epoch": 12, "train_mixed_loss": 1.0, "test_error": 0.5, "examples_per_second": None}
    with Training("run", epochs=20, epoch_steps=10, steps=200) as training:
        training.step(12, 10, 120, 500.0)
        training.epoch(line)
    said = capsys.readouterr()
    assert said.err == "epoch  12  mixed loss 1.0000  test error 50.00 %  0 examples/s\n"
    assert said.out == ""
