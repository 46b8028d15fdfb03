"""What is counted over the tables of a cell: how often each interval excludes 0, and how often it covers the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.calibration.intervals import F_TEST, Losses, Rows, candidates, f_test_p


@dataclass(frozen=True)
class Trial:
    """One comparison: test rows and differences in loss [seeds, m], by measure, on one table."""

    table: int  # comparisons with one number are of one table
    rows: Rows
    differences: dict[str, Losses]


@dataclass(frozen=True)
class Count:
    """How one interval did over the comparisons of a cell."""

    measure: str
    seeds: int
    interval: str
    trials: int
    found: float  # share of intervals that exclude 0
    covered: float  # share of intervals that cover the truth
    truth: float
    table_sd: float  # of the mean difference over tables: what a standard error should be
    error: float  # root mean square of the standard errors
    sd_found: (
        float  # over tables, of the share found in a table: for the error of `found`; nan with one trial per table
    )


def count(
    trials: Sequence[Trial], seeds: Sequence[int], shares: tuple[float, float], truth: float | None, folds: str = ""
) -> list[Count]:
    """Score every candidate.

    Args:
        trials: comparisons.
        seeds: numbers of seeds to look at: of each comparison, the first ones.
        shares: n_test / n_train, and the share of rows that trains.
        truth: the true difference; None: the mean over the trials, each of which is a table of its own. A trial is part of
            that mean, which brings it nearer by sqrt((T - 1) / T); distances are scaled up by the inverse.
        folds: "5x2" where the seeds are five times two folds.

    """
    counts = []
    for measure in trials[0].differences:
        for j in seeds:
            cut = [(trial.rows[:j], trial.differences[measure][:j]) for trial in trials]
            means = np.array([of.mean() for _, of in cut])
            center = float(means.mean()) if truth is None else truth
            stretch = np.sqrt(len(means) / (len(means) - 1)) if truth is None else 1.0
            effects = [candidates(rows, of, *shares) for rows, of in cut]
            tables = [trial.table for trial in trials]
            for name in effects[0]:
                found = np.array([effect[name].p < 0.05 for effect in effects])
                halves = np.array([(lambda p: (p.high - p.low) / 2)(effect[name].paired()) for effect in effects])
                covered = np.abs(means - center) * stretch <= halves
                errors = np.array([effect[name].error for effect in effects])
                counts.append(_count(measure, j, name, found, covered, center, means, errors, tables))
            if folds == "5x2":
                found = np.array([f_test_p(of) < 0.05 for _, of in cut])
                covered = np.array([f_test_p(of - center) >= 0.05 for _, of in cut])
                nothing = np.full(len(cut), np.nan)
                counts.append(_count(measure, j, F_TEST, found, covered, center, means, nothing, tables))
    return counts


def _count(
    measure: str,
    seeds: int,
    name: str,
    found: np.ndarray,
    covered: np.ndarray,
    truth: float,
    means: np.ndarray,
    errors: np.ndarray,
    tables: Sequence[int],
) -> Count:
    _, table = np.unique(tables, return_inverse=True)
    by_table = np.bincount(table, found) / np.bincount(table)
    several = len(by_table) < len(found)
    return Count(
        measure,
        seeds,
        name,
        len(found),
        float(found.mean()),
        float(covered.mean()),
        truth,
        float(means.std(ddof=1)),
        float(np.sqrt((errors**2).mean())),
        float(by_table.std(ddof=1)) if several else float("nan"),
    )
