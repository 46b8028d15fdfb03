"""The verdict's interval keeps its promise on simulated tables, and the program that shows it on networks runs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from bench.calibration import intervals, networks, ridge, summary
from bench.calibration.__main__ import measure
from bench.calibration.cells import Cell, cells
from bench.calibration.score import Trial, count

from vicinal.keyed import Key
from vicinal.lab.statistics import paired, rows_paired

TRIALS, FIRST = 400, 10_000  # other tables than those that the interval was chosen on


def band(share: float, trials: int) -> tuple[float, float]:
    """Return the shares in which a count of this probability lies, but for one time in a thousand on either side."""
    reach = 3.1 * math.sqrt(share * (1 - share) / trials)
    return share - reach, share + reach


@pytest.mark.torture
@pytest.mark.parametrize("kind", ["random", "two"])
@pytest.mark.parametrize("seeds", [5, 20])
def test_without_a_difference_it_finds_two_to_seven_in_a_hundred(kind: str, seeds: int) -> None:
    """400 tables of 300 rows and two measures; the promise of [2, 7] % is widened by the luck of that number alone."""
    trials = [ridge.trial(kind, 300, seeds, 1.0, FIRST + i) for i in range(TRIALS)]
    for name in trials[0].differences:
        found = np.mean([rows_paired(one.rows, one.differences[name]).p < 0.05 for one in trials])
        assert band(0.02, TRIALS)[0] <= found <= band(0.07, TRIALS)[1], name


@pytest.mark.parametrize("kind", ["random", "two"])
def test_nor_where_all_seeds_share_one_test_set(kind: str) -> None:
    trials = [ridge.trial(kind, 300, 5, 1.0, FIRST + i, one_test_set=True) for i in range(TRIALS)]
    assert all((one.rows == one.rows[0]).all() for one in trials)
    for name in trials[0].differences:
        found = np.mean([rows_paired(one.rows, one.differences[name]).p < 0.05 for one in trials])
        assert band(0.02, TRIALS)[0] <= found <= band(0.07, TRIALS)[1], name


def test_what_it_replaced_would_not() -> None:
    """A plain t-test over seeds finds two learners to differ; rows alone find two runs of one learner to."""
    two = [ridge.trial("two", 300, 20, 1.0, FIRST + i) for i in range(100)]
    plain = np.mean([paired(one.differences["error"].mean(1).tolist(), 0.0).p < 0.05 for one in two])
    assert plain > 0.2
    one = [ridge.trial("random", 1800, 5, 1.0, FIRST + i) for i in range(60)]
    rows = [
        intervals.candidates(of.rows, of.differences["squared error"], 1 / 3, 0.6)["rows x 1.1"].p < 0.05 for of in one
    ]
    assert np.mean(rows) > 0.12


def test_rows_alone_are_what_was_replaced() -> None:
    one = ridge.trial("two", 60, 6, 1.0, FIRST)
    differences = one.differences["squared error"]
    mine = [(differences[one.rows == i], (one.rows == i).sum()) for i in np.unique(one.rows)]
    total = sum(weight for _, weight in mine)
    mean = sum(weight * of.mean() for of, weight in mine) / total
    variance = sum((weight * (of.mean() - mean) / total) ** 2 / (1 - weight / total) for of, weight in mine)
    found = intervals.rows_alone(one.rows, differences)
    assert found.difference == pytest.approx(mean)
    assert found.error == pytest.approx(math.sqrt(variance))


def test_a_difference_is_found_more_often_than_by_the_corrected_test() -> None:
    trials = [ridge.trial("two", 600, 20, 0.75, FIRST + i) for i in range(100)]
    mine = np.mean([rows_paired(one.rows, one.differences["error"]).p < 0.05 for one in trials])
    corrected = np.mean([paired(one.differences["error"].mean(1).tolist(), 1 / 3).p < 0.05 for one in trials])
    assert mine > corrected + 0.08


@pytest.mark.parametrize("seed", range(5))
def test_the_candidate_that_was_chosen_is_the_function_that_is_used(seed: int) -> None:
    one = ridge.trial("two", 150, 8, 0.9, seed)
    for differences in one.differences.values():
        candidate = intervals.candidates(one.rows, differences, 1 / 3, 0.6)["rows and seeds x 1"]
        used = rows_paired(one.rows, differences)
        # units of unequal sizes are scaled one by one in the one, and by k / (k - 1) in the other
        assert (used.difference, used.error) == pytest.approx((candidate.difference, candidate.error), rel=0.005)
        assert used.degrees == pytest.approx(candidate.degrees, rel=0.02)


def test_shares_are_counted_over_tables() -> None:
    draws = Key(0, 0, 0, 0).generator().standard_normal((50, 4, 10))
    rows = np.arange(40).reshape(4, 10)
    trials = [Trial(i // 2, rows, {"loss": of + 0.5}) for i, of in enumerate(draws)]
    counted = {one.interval: one for one in count(trials, (4,), (1 / 3, 0.6), 0.5)}
    expected = [paired(of.mean(1).tolist(), 0.0) for of in draws + 0.5]
    plain = counted[intervals.PLAIN]
    assert plain.trials == 50
    assert plain.found == np.mean([one.p < 0.05 for one in expected])
    assert plain.covered == np.mean([one.low <= 0.5 <= one.high for one in expected])


def test_the_results_that_are_kept_say_what_the_docstring_says() -> None:
    rows = summary.read(Path(summary.__file__).parents[2] / "results" / "verdict")
    best, power = summary.winner(rows)
    assert best == "rows and seeds x 1"
    false = [summary.pooled(rows, pick, "found")[0][best] for pick in summary.null_pools().values()]
    covered = [
        summary.pooled(rows, pick, "covered")[0][best]
        for name, pick in summary.coverage_pools().items()
        if name.startswith("mixup")
    ]
    shown = [f"{100 * share:.1f}" for share in (min(false), max(false), *covered, power[best])]
    docstring = (rows_paired.__globals__["__doc__"] or "").split()
    start = docstring.index("one", docstring.index("settings"))
    assert [word for word in docstring[start + 1 : start + 8] if word != "-"] == shown


def test_a_cell_is_written_with_its_command(tmp_path: Path) -> None:
    cell = Cell("small", "ridge, two", "ridge", 60, 3, "two", is_null=True)
    measure(cell, tmp_path / "small.json", "python -m bench.calibration")
    record = json.loads((tmp_path / "small.json").read_text())
    assert record["command"] == "python -m bench.calibration"
    assert {one["interval"] for one in record["counts"]["two"]} == set(intervals.NAMES)


@pytest.mark.torture
def test_a_cell_that_is_kept_can_be_made_again() -> None:
    kept = json.loads((Path(summary.__file__).parents[2] / "results" / "verdict" / "ridge-two-150.json").read_text())
    again = Cell(**kept["cell"]).run()["two"]
    for mine, theirs in zip(again, kept["counts"]["two"], strict=True):
        for name, value in summary.rounded(asdict(mine)).items():
            assert value == (pytest.approx(theirs[name], rel=1e-4) if isinstance(value, float) else theirs[name])


def test_cells_have_names_of_their_own() -> None:
    names = [cell.name for cell in cells()]
    assert len(set(names)) == len(names)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["random", "4x5", "5x2"])
def test_networks_are_compared_on_the_same_rows(design: str) -> None:
    from vicinal.lab.data import tables

    table = tables.load("iris")
    (part,) = networks.disjoint(table, 100, 0)
    one = networks.disjoint_trial(part, 0, design, 3, 1, 0.3)
    repeats, folds = (3, 5) if design == "random" else map(int, design.split("x"))
    runs = 3 if design == "random" else repeats * folds
    assert one.rows.shape == one.differences["nll"].shape == (runs, 100 // folds)
    assert set(np.unique(one.differences["error"])) <= {-1.0, 0.0, 1.0}
    if design != "random":
        assert (np.bincount(one.rows.ravel()) == repeats).all()
