"""What is printed of a comparison: whole numbers at any width, nothing lost, nothing interpreted."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from report_example import build, typed

from vicinal.lab.compare.console import ComparisonProgress, print_results
from vicinal.lab.compare.results import RunRecord

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run(method: str, seed: int, error: float) -> RunRecord:
    return RunRecord(method, seed, 1.0, 1, {}, {}, {"error": error}, None, {})


def numbers_of(results: dict[str, Any]) -> list[str]:
    """The numbers that must be readable, whatever the width."""
    wanted = []
    for of in results["summary"].values():
        wanted += [f"{100 * of['test']['error'][end]:.2f}" for end in ("mean", "high")]
    for c in results["comparisons"]:
        wanted += [f"{100 * c[end]:+.2f}" for end in ("difference", "low", "high")]
    return wanted


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 140, 300])
def test_no_number_is_cut_at_any_width(screen: Callable[[int], Any], columns: int) -> None:
    results = build(seeds=6, methods=6)
    shown = screen(columns)
    print_results(typed(results))
    text = ESCAPE.sub("", shown.text())
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    for number in numbers_of(results):
        assert number.replace("-0.00", "0.00").replace("+0.00", "0.00") in text
    assert "".join(results["verdict"]["sentence"].split()) in "".join(text.split())
    assert ("s/run" in text) == (columns >= 140)
    for name in results["summary"]:
        assert all(word[:8] in text for word in name.split())


def test_elsewhere_a_sentence_is_a_line_and_nothing_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    results = build(seeds=6, methods=12, perturb=0.5)
    print_results(typed(results))
    lines = capsys.readouterr().out.splitlines()
    assert not any("\x1b" in line for line in lines)
    assert lines[-2:] == [results["verdict"]["sentence"], results["verdict"]["advice"]]
    assert lines[0].startswith(
        "iris: 150 rows, 4 inputs, 3 classes; 6 seeds, 200 epochs. ERM is training without mixing"
    )
    assert lines[1].split("  ")[0] == "method"
    for title in ("test error %", "minus ERM", "p (Holm)", "perturbed error %", "NLL", "Brier", "ECE", "s/run"):
        assert title in lines[1]
    rows = {line.split("  ")[0]: line for line in lines[2:]}
    for name, of in results["summary"].items():
        line = rows[name]
        assert f"{100 * of['perturbed']['error']['mean']:.2f}" in line


def test_regression_is_in_its_own_unit(capsys: pytest.CaptureFixture[str]) -> None:
    results = build(task="regression", seeds=5, level=50.0, effect=-2.0)
    results["data"]["classes"] = []
    print_results(typed(results))
    out = capsys.readouterr().out
    assert "regression of progression" in out
    assert "test RMSE" in out
    assert "%" not in out.splitlines()[2]
    assert f"{results['summary']['ERM']['test']['rmse']['mean']:.4g}" in out


def test_an_interval_of_errors_stays_within_what_errors_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    results = build(seeds=2)
    results["summary"]["ERM"]["test"]["error"] = {"mean": 0.5, "low": -3.0, "high": 4.0}
    results["comparisons"][0] |= {"difference": -1e-9, "low": -4e-9, "high": 2.0, "p_holm": 3e-9}
    print_results(typed(results))
    out = capsys.readouterr().out
    assert "50.00 [0.00, 100.00]" in out
    assert "0.00 [0.00, +200.00]" in out
    assert "< 0.0001" in out


def test_names_are_text_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    results = build(seeds=3, data="[red]a[/b] :smile: \u202etxt")
    results["verdict"]["advice"] = "Choice([ERM()], p=[0.5, 0.5]) [link=x]"
    print_results(typed(results))
    out = capsys.readouterr().out
    assert "[red]a[/b] :smile:" in out
    assert "Choice([ERM()], p=[0.5, 0.5]) [link=x]" in out
    with ComparisonProgress("[/red] :smile:", ["[b]"], "error") as display:
        display(0, 10, [])
    assert "[/red] :smile:" in capsys.readouterr().err


def test_progress_names_the_last_work(capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]) -> None:
    with ComparisonProgress("compare iris", ["ERM"], "error") as progress:
        progress(0, 100, [])
        clock(11)
        progress(100, 100, [])
    assert capsys.readouterr().err.splitlines() == [
        "compare iris:   0 %",
        "compare iris: 100 %, keeping the best model",
    ]
    with ComparisonProgress("compare iris", ["ERM"], "error") as progress:
        progress(100, 100, [])  # nothing was left to do
    assert capsys.readouterr().err.splitlines() == ["compare iris: 100 %"]


@pytest.mark.parametrize("columns", [60, 120])
def test_progress_on_a_terminal_is_a_live_table(screen: Callable[[int], Any], columns: int) -> None:
    shown = screen(columns)
    with ComparisonProgress("compare iris", ["ERM", "mixup 0.4"], "error") as display:
        display(0, 100, [])
        display(50, 100, [run("ERM", 0, 0.05), run("ERM", 1, 0.1), run("mixup 0.4", 0, 0.025)])
    text = shown.text()
    assert "\x1b[?25l" in text  # the cursor is hidden
    assert text.rstrip("\n").count("\x1b[?25h") == 1  # and comes back
    plain = ESCAPE.sub("", text)
    assert re.search(r"ERM +2 +7\.50 %", plain)
    assert re.search(r"mixup 0\.4 +1 +2\.50 %", plain)
    assert "compare iris" in plain
    assert "50%" in plain
    assert max(map(len, plain.splitlines())) <= columns


def test_no_color_has_no_color(screen: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = screen(100)
    print_results(typed(build(seeds=3)))
    with ComparisonProgress("x", ["ERM"], "error") as display:
        display(1, 2, [])
    assert not re.search(r"\x1b\[[0-9;]*(3[0-9]|4[0-9])m", shown.text())


def test_a_dumb_terminal_gets_lines(screen: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    shown = screen(80)
    with ComparisonProgress("compare iris", ["ERM"], "error") as display:
        display(1, 2, [])
    assert shown.text() == "compare iris:  50 %\n"


def test_a_terminal_without_the_letters_gets_escapes_instead_of_a_traceback() -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    narrow.reconfigure(errors="backslashreplace")  # as the command does
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", narrow)
        print_results(typed(build(seeds=3, data="Übung \udcff")))
    narrow.flush()
    assert b"\\xdcbung" in narrow.buffer.getvalue()  # type: ignore[attr-defined]
