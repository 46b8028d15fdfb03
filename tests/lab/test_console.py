"""Progress is a bar on a terminal and lines elsewhere; nothing is interpreted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from vicinal.lab import console
from vicinal.lab.console import LiveProgress, TrainingProgress

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (89.4, "89 s"), (90, "2 min"), (600, "10 min"), (5390, "90 min"), (5400, "1.5 h"), (1e6, "277.8 h")],
)
def test_durations(seconds: float, said: str) -> None:
    assert console.duration(seconds) == said


def test_elsewhere_progress_is_a_line_at_once_and_then_now_and_then(
    capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]
) -> None:
    with LiveProgress("[b]work[/b]") as progress:
        for done in range(0, 101, 2):
            progress.show(done, 100)
            clock(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "[b]work[/b]:   0 %",
        "[b]work[/b]:  20 %, 40 s left",
        "[b]work[/b]:  40 %, 30 s left",
        "[b]work[/b]:  60 %, 20 s left",
        "[b]work[/b]:  80 %, 10 s left",
        "[b]work[/b]: 100 %",
    ]


def test_time_left_does_not_count_what_was_found_done_nor_starting_up(
    capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]
) -> None:
    with LiveProgress("work") as progress:
        for done, wait in ((500, 30.0), (500, 1.0), (510, 10.0), (560, 10.0), (1000, 0.0)):
            progress.show(done, 1000)
            clock(wait)
    # found done and started up say nothing; from 510 on there are 5 per second
    assert capsys.readouterr().err.splitlines() == [
        "work:  50 %",
        "work:  50 %",
        "work:  56 %, 88 s left",
        "work: 100 %",
    ]


def test_a_training_moves_one_line_and_keeps_one_per_epoch(
    screen: Callable[[int], Any], clock: Callable[[float], None]
) -> None:
    shown = screen(120)
    line = {"epoch": 1, "train_mixed_loss": 1.25, "test_error": 0.125, "examples_per_second": 1234.4}
    with TrainingProgress("run", epochs=2, epoch_steps=10, steps=20) as training:
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
    # 3 steps in the 4 seconds since the first that was counted
    assert re.search(r"run: epoch 1 of 2, step 5 of 10, 1,500 examples/s .* 25% 0:00:20", text)
    assert "epoch   1  mixed loss 1.2500  test error 12.50 %  1234 examples/s\n" in text


def test_a_training_elsewhere_prints_a_line_per_epoch_alone(capsys: pytest.CaptureFixture[str]) -> None:
    line = {"epoch": 12, "train_mixed_loss": 1.0, "test_error": 0.5, "examples_per_second": None}
    with TrainingProgress("run", epochs=20, epoch_steps=10, steps=200) as training:
        training.step(12, 10, 120, 500.0)
        training.epoch(line)
    said = capsys.readouterr()
    assert said.err == "epoch  12  mixed loss 1.0000  test error 50.00 %  0 examples/s\n"
    assert said.out == ""
