from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from vicinal.lab.data.label_noise import chosen_rows, corrupt_labels
from vicinal.lab.data.table import Table, make_table
from vicinal.lab.errors import UserError

N, CLASSES = 20_000, 10


@pytest.fixture(scope="module")
def classes() -> Table:
    labels: list[str | None] = [str(i % CLASSES) for i in range(N)]
    return make_table({"x": np.arange(float(N)), "y": labels}, "y", name="t", source="t")


@pytest.fixture(scope="module")
def values() -> Table:
    return make_table({"x": np.arange(float(N)), "y": np.arange(float(N)) + 0.5}, "y", name="t", source="t")


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.8])
def test_as_many_labels_change_as_the_paper_says(classes: Table, fraction: float) -> None:
    new = corrupt_labels(classes.target, len(classes.classes), fraction, 1)
    expected = fraction * (CLASSES - 1) / CLASSES
    changed = int((new != classes.target).sum())
    assert stats.binomtest(changed, N, expected).pvalue > 1e-3
    assert new.dtype == np.int64


def test_new_labels_are_even_and_know_nothing_of_the_old(classes: Table) -> None:
    new = corrupt_labels(classes.target, len(classes.classes), 1.0, 2)
    table = np.zeros((CLASSES, CLASSES))
    for old, label in zip(classes.target.tolist(), new.tolist(), strict=True):
        table[old, label] += 1
    assert stats.chisquare(table.ravel()).pvalue > 1e-3
    found: Any = stats.chi2_contingency(table)
    assert found.pvalue > 1e-3
    assert np.diag(table).sum() > 0  # the true class is among those drawn


def test_regression_targets_come_from_the_given_rows(values: Table) -> None:
    rows = np.arange(0, N, 4)
    new = corrupt_labels(values.target, len(values.classes), 0.5, 3, rows=rows)
    chosen = np.flatnonzero(new != values.target)
    assert set(chosen) <= set(rows)
    assert stats.binomtest(len(chosen), len(rows), 0.5).pvalue > 1e-3
    assert np.isin(new[chosen], values.target[rows]).all()
    assert stats.kstest(new[chosen] / N, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(values.target[chosen], new[chosen])[0, 1]) < 0.08
    assert new.dtype == np.float64


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_only_the_rows_given_change_and_the_input_stays(kind: str, request: pytest.FixtureRequest) -> None:
    table = request.getfixturevalue(kind)
    before = table.target.copy()
    rows = np.array([5, 3, 100])
    new = corrupt_labels(table.target, len(table.classes), 1.0, 0, rows=rows)
    np.testing.assert_array_equal(table.target, before)
    assert new is not table.target
    rest = np.setdiff1d(np.arange(N), rows)
    np.testing.assert_array_equal(new[rest], before[rest])


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_nothing_or_no_rows(kind: str, request: pytest.FixtureRequest) -> None:
    table = request.getfixturevalue(kind)
    np.testing.assert_array_equal(corrupt_labels(table.target, len(table.classes), 0.0, 0), table.target)
    np.testing.assert_array_equal(
        corrupt_labels(table.target, len(table.classes), 1.0, 0, rows=np.array([], dtype=np.int64)), table.target
    )


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_pure_function_of_the_seed(kind: str, request: pytest.FixtureRequest) -> None:
    table = request.getfixturevalue(kind)
    rows = np.arange(0, N, 3)
    first = corrupt_labels(table.target, len(table.classes), 0.4, 5, rows=rows)
    np.testing.assert_array_equal(corrupt_labels(table.target, len(table.classes), 0.4, 5, rows=rows[::-1]), first)
    assert (corrupt_labels(table.target, len(table.classes), 0.4, 6, rows=rows) != first).any()
    more = corrupt_labels(table.target, len(table.classes), 0.6, 5, rows=rows)
    changed = first != table.target
    np.testing.assert_array_equal(more[changed], first[changed])


def test_what_a_row_gets_does_not_hang_on_the_other_rows(classes: Table) -> None:
    whole = corrupt_labels(classes.target, len(classes.classes), 0.5, 8)
    part = corrupt_labels(classes.target, len(classes.classes), 0.5, 8, rows=np.arange(100))
    np.testing.assert_array_equal(part[:100], whole[:100])


def test_which_labels_are_replaced_is_known(classes: Table) -> None:
    new = corrupt_labels(classes.target, CLASSES, 0.5, 3)
    replaced = chosen_rows(N, 0.5, 3)
    np.testing.assert_array_equal(new[~replaced], classes.target[~replaced])
    assert stats.binomtest(int(replaced.sum()), N, 0.5).pvalue > 1e-3
    share = int((new != classes.target)[replaced].sum())  # nine of ten of those replaced are another label now
    assert stats.binomtest(share, int(replaced.sum()), 0.9).pvalue > 1e-3


def test_bad_arguments(classes: Table) -> None:
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match=r"is not a share of the rows: give a number from 0 to 1"):
            corrupt_labels(classes.target, len(classes.classes), fraction, 0, rows=np.arange(3))
    for rows in ([-1, 2], [0, N]):
        with pytest.raises(IndexError, match=r"rows must lie in \[0, 20000\)"):
            corrupt_labels(classes.target, len(classes.classes), 0.5, 0, rows=np.array(rows))
    with pytest.raises(ValueError, match="seed must be an integer in"):
        corrupt_labels(classes.target, len(classes.classes), 0.5, -1, rows=np.arange(3))
