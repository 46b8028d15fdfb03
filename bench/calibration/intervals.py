"""The candidates: intervals for the mean difference of two methods over splits of one table."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.lab.statistics import Effect, five_by_two, resampled

Rows = NDArray[np.int64]
Losses = NDArray[np.float64]

PLAIN, CORRECTED = "seeds, plain t", "seeds, corrected t"  # the Bayesian correlated t is the corrected one
ROWS, TWO_WAY, TRAINING = "rows", "rows and seeds", "rows and training sets"
FACTORS = (1.0, 1.1, 1.2)
NAMES = (PLAIN, CORRECTED, *(f"{kind} x {f:g}" for kind in (ROWS, TWO_WAY) for f in FACTORS), TRAINING)
F_TEST = "5x2cv F"


class Sums(NamedTuple):
    """Variances of the mean by three ways to see the same differences: units are rows, seeds, or single losses."""

    mean: float
    rows: float
    seeds: float
    single: float
    units: int


def sums(rows: Rows, differences: Losses) -> Sums:
    """Return the three variances for test rows and differences [seeds, m]."""
    seeds, m = rows.shape
    mean = float(differences.mean())
    apart = differences - mean
    total = seeds * m
    known, of = np.unique(rows, return_inverse=True)
    by_row = np.bincount(of.ravel(), apart.ravel())
    return Sums(
        mean,
        float((by_row**2).sum()) / total**2 * len(known) / (len(known) - 1),
        float((apart.sum(1) ** 2).sum()) / total**2 * seeds / (seeds - 1),
        float((apart**2).sum()) / total**2,
        len(known),
    )


def rows_alone(rows: Rows, differences: Losses) -> Effect:
    """Take rows for the units: d_i is the mean over the seeds that tested row i, weighted by their number (CR2)."""
    known, of = np.unique(rows, return_inverse=True)
    weight = np.bincount(of.ravel())
    share = weight / weight.sum()
    mean = float(differences.mean())
    apart = np.bincount(of.ravel(), (differences - mean).ravel()) / weight
    return Effect(mean, math.sqrt((share**2 * apart**2 / (1 - share)).sum()), len(known) - 1)


def two_way(rows: Rows, differences: Losses) -> Effect:
    """Take both rows and seeds for units (Cameron, Gelbach and Miller 2011), but never less than rows alone."""
    of = sums(rows, differences)
    both = of.rows + of.seeds - of.single
    if not both > of.rows:
        return Effect(of.mean, math.sqrt(of.rows), of.units - 1)
    degrees = both**2 / (of.rows**2 / (of.units - 1) + of.seeds**2 / (len(rows) - 1))
    return Effect(of.mean, math.sqrt(both), degrees)


def with_training_sets(rows: Rows, differences: Losses, train_share: float) -> Effect:
    """Add to the rows what training sets contribute, which overlap by the share of the rows that trains."""
    of, seeds = sums(rows, differences), len(rows)
    shared = max(0.0, of.seeds - of.single) * seeds  # variance of a seed's mean beyond that of its test rows
    training = shared * (1 / seeds + train_share)
    error = math.sqrt(of.rows + training)
    degrees = error**4 / (of.rows**2 / (of.units - 1) + training**2 / (seeds - 1)) if error else 1.0
    return Effect(of.mean, error, degrees)


def candidates(rows: Rows, differences: Losses, test_share: float, train_share: float) -> dict[str, Effect]:
    """Return the effect by each candidate, for test rows and differences in loss [seeds, m]."""
    by_seed = differences.mean(1).tolist()
    found = {PLAIN: resampled(by_seed, 0.0), CORRECTED: resampled(by_seed, test_share)}
    one_way, both = rows_alone(rows, differences), two_way(rows, differences)
    for factor in FACTORS:
        for kind, of in ((ROWS, one_way), (TWO_WAY, both)):
            found[f"{kind} x {factor:g}"] = Effect(of.difference, factor * of.error, of.degrees)
    return found | {TRAINING: with_training_sets(rows, differences, train_share)}


def f_test_p(differences: Losses) -> float:
    """Return Alpaydin's p for the differences [10, m] of five times two folds, in this order."""
    return five_by_two(differences.mean(1).reshape(5, 2).tolist())[1]
