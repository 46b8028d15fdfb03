"""How candidates are timed, and the page that is written of it."""

from argparse import Namespace
from pathlib import Path

import pytest

from bench import page, timing


def test_candidates_take_turns_and_ratios_are_taken_within_a_round() -> None:
    seconds = {"copy": iter([1.0, 2.0, 4.0]), "mix": iter([3.0, 4.0, 4.0])}
    order: list[str] = []

    def timer(name: str) -> float:
        order.append(name)
        return next(seconds[name])

    table = timing.in_turns("", {name: lambda name=name: timer(name) for name in seconds}, 3)
    assert [sorted(order[i : i + 2]) for i in (0, 2, 4)] == [["copy", "mix"]] * 3
    assert table["copy"] == {"ms": [1500, 2000, 3000], "ratio": [1, 1, 1]}
    assert table["mix"]["ratio"] == [1.5, 2, 2.5]


def test_candidates_run_as_often_as_fills_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def read(candidate: object, n: int) -> float:
        calls.append(n)
        return 0.01

    monkeypatch.setattr(timing, "clock", lambda device: read)
    args = Namespace(device="cpu", quick=False, rounds=2)
    assert timing.measure("", {"a": lambda: None}, args, seconds=0.05)["a"]["ms"] == [10, 10, 10]
    assert calls == [1, 1, 5, 5]


def test_the_clock_counts_seconds_per_call() -> None:
    calls: list[None] = []
    assert timing.clock("cpu")(lambda: calls.append(None), 7) >= 0
    assert len(calls) == 7


def test_quick_results_do_not_overwrite_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "RESULTS", tmp_path)
    timing.save("mixing", Namespace(quick=True, out=None), {})
    assert not any(tmp_path.iterdir())


def test_the_page_is_that_of_the_measurements() -> None:
    assert page.PAGE.read_text() == page.text(), "run python -m bench.page"


def test_every_figure_of_the_page_is_there() -> None:
    figures = {path.with_suffix(".svg") for path in timing.RESULTS.glob("*.json")}
    assert {path for path in figures if f"({path.name})" in page.text()} <= set(timing.RESULTS.glob("*.svg"))
