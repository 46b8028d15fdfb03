"""What is printed of a comparison: whole numbers at any width, nothing lost, nothing interpreted."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from made_runs import answers, numbers, results_of, study_of

from vicinal.lab.compare.console import ComparisonProgress, print_results
from vicinal.lab.compare.results import Results, RunRecord
from vicinal.lab.compare.table_comparison import TableComparison
from vicinal.lab.statistics import Interval

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run(method: str, seed: int, error: float) -> RunRecord:
    return RunRecord(method, seed, 1.0, 1, {}, {}, {"error": error}, None, {})


def found(data: str = "made", **settings: Any) -> Results:
    """Results of a comparison in which mixup has fewer rows wrong than ERM."""
    study = study_of(rows=200, **({"alphas": (0.1, 0.4, 1.0), "named": ("InputMixup(alpha=2.0)",)} | settings))
    study = TableComparison(replace(study.data, name=data), study.settings)
    wrong = {
        "ERM": lambda rows: rows % 4 == 0,
        "mixup 0.1": lambda rows: rows % 9 == 0,
        "mixup 1": lambda rows: rows % 2 == 0,
        "linear model": lambda rows: rows % 7 == 0,
    }
    return results_of(study, answers(study, wrong))


def numbers_of(results: Results) -> list[str]:
    """The numbers that must be readable, whatever the width: of all methods but ERM's single weight decays."""
    decays = [m.name for m in results.methods if m.family == "erm" and m.name != "ERM"]
    wanted = []
    for name, of in results.summary.items():
        if name not in decays:
            error = of.test["error"]
            wanted += [f"{100 * min(1.0, value):.2f}" for value in (error.mean, error.high)]
    for c in results.comparisons:
        if c.method not in decays:
            wanted += [f"{100 * value:+.2f}" for value in (c.difference, c.low, c.high)]
    return wanted


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 160, 300])
def test_no_number_is_cut_at_any_width(screen: Callable[[int], Any], columns: int) -> None:
    results = found()
    shown = screen(columns)
    print_results(results)
    text = ESCAPE.sub("", shown.text())
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    for number in numbers_of(results):
        assert number.replace("-0.00", "0.00").replace("+0.00", "0.00") in text
    assert "".join(results.verdict.sentence.split()) in "".join(text.split())
    assert ("s/run" in text) == (columns >= 160)
    for name in results.summary:
        if not name.startswith("ERM, decay"):
            assert all(word[:8] in text for word in name.split())


def test_elsewhere_a_sentence_is_a_line_and_every_column_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    results = found()
    print_results(results)
    lines = capsys.readouterr().out.splitlines()
    assert not any("\x1b" in line for line in lines)
    assert lines[-2:] == [results.verdict.sentence, results.verdict.advice]
    assert lines[0].startswith("made: 200 rows, 2 inputs, 2 classes; 5 seeds, 1 epoch. ERM is training without mixing")
    assert lines[1].split("  ")[0] == "method"
    for title in ("test error %", "minus ERM", "p (Holm)", "NLL", "Brier", "ECE", "train error %", "s/run"):
        assert title in lines[1]
    rows = {line.split("  ")[0]: line for line in lines[2:]}
    for name, of in results.summary.items():
        if not name.startswith("ERM, decay"):
            assert f"{100 * of.test['error'].mean:.2f}" in rows[name]


def test_erm_is_one_row_and_its_weight_decays_are_left_to_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    results = found()
    assert [m.name for m in results.methods if m.family == "erm"] == ["ERM, decay 0", "ERM, decay 0.1", "ERM, decay 1"]
    print_results(results)
    names = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert names[0] == "ERM"
    assert not any(name.startswith("ERM, decay") for name in names)
    baselines = ["constant answer", "linear model", "gradient-boosted trees"]
    assert names[: names.index("")][-3:] == baselines
    assert {"mixup, alpha chosen on validation", "mixup or ERM, chosen on validation", "mixup 0.4"} < set(names)


def test_regression_is_in_its_own_unit(capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(regression=True, alphas=(0.4,), rows=100)
    results = results_of(
        study, numbers(study, {"ERM": lambda rows: 3.0 + rows % 5, "mixup 0.4": lambda rows: 2.0 + rows % 5})
    )
    print_results(results)
    out = capsys.readouterr().out
    assert "regression of y" in out
    assert "test RMSE" in out
    assert "%" not in out.splitlines()[2]
    level = results.summary["ERM"].test["rmse"].mean
    row = next(line for line in out.splitlines() if line.startswith("ERM "))
    assert f" {level:.3f} [" in row or f" {level:.2f} [" in row


@pytest.mark.parametrize(("metric", "title"), [("auroc", "test AUROC"), ("balanced_error", "test balanced error %")])
def test_another_metric_heads_the_table(capsys: pytest.CaptureFixture[str], metric: str, title: str) -> None:
    results = found(metric=metric)
    print_results(results)
    out = capsys.readouterr().out
    assert title in out
    assert results.verdict.sentence in out


def test_an_interval_of_errors_stays_within_what_errors_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    results = found()
    erm = results.summary["ERM"]
    results.summary["ERM"] = replace(erm, test=erm.test | {"error": Interval(0.5, -3.0, 4.0)})
    results.comparisons[0] = replace(results.comparisons[0], difference=-1e-9, low=-4e-9, high=2.0, p_holm=3e-9)
    print_results(results)
    out = capsys.readouterr().out
    assert "50.00 [0.00, 100.00]" in out
    assert "0.00 [0.00, +200.00]" in out
    assert "< 0.0001" in out


def test_names_are_text_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    results = found("[red]a[/b] :smile: \u202etxt")
    advice = "Choice([ERM()], p=[0.5, 0.5]) [link=x]"
    print_results(replace(results, verdict=replace(results.verdict, advice=advice)))
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


def test_progress_counts_runs_whose_metric_comes_at_the_end(screen: Callable[[int], Any]) -> None:
    shown = screen(100)
    with ComparisonProgress("compare made", ["ERM", "mixup 0.4"], "auroc") as display:
        display(50, 100, [run("ERM", 0, 0.05), run("ERM", 1, 0.1), run("mixup 0.4", 0, 0.025)])
    plain = ESCAPE.sub("", shown.text())
    assert re.search(r"ERM +2\b", plain)
    assert re.search(r"mixup 0\.4 +1\b", plain)


def test_no_color_has_no_color(screen: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = screen(100)
    print_results(found())
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
        print_results(found("Übung \udcff"))
    narrow.flush()
    assert b"\\xdcbung" in narrow.buffer.getvalue()  # type: ignore[attr-defined]
