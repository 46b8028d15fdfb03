"""Rows (or persons) and seeds as the units: what the losses of single test rows tell of a difference.

Two things vary when a comparison is made anew: which rows there are, and how training went (first weights, order of the
data, which rows trained). `rows_paired` estimates both from the losses of single test rows, as variance of the mean
difference by rows, plus that by seeds, less that of single losses, which both contain (two-way clustering; Cameron,
Gelbach and Miller 2011), and never less than by rows; the degrees of freedom are Satterthwaite's.

How it was chosen (bench/calibration, all figures in results/verdict/README.md): 95 % intervals, 5 to 20 seeds of 60/20/20 %
splits, on 3,600 simulated tables without a difference, on 43 real tables with two runs of ERM against each other, and on
disjoint parts of three large real tables, where the truth about mixup is known. Pools of cells, in %:

                              false verdicts   coverage, mixup        differences found,
                              least to most    error  NLL   Brier     mean of 20 settings
    this one                   3.5 -  5.1       94.2  93.3  96.2       43.5
    the same x 1.1             2.0 -  3.3       95.5  95.2  97.9       38.8
    rows alone                 5.9 - 15.4       92.5  89.6  93.1       47.1
    rows alone x 1.1           3.8 - 12.1       94.3  92.2  95.2       41.8
    corrected resampled t      0.2 -  3.0       96.3  98.1  99.5       13.5
    plain t over seeds         4.3 - 25.9       90.9  87.4  90.0       62.8

It is the most powerful of those that find 2 to 7 % where there is nothing and cover 93 to 97 %. Its worst single cells:
8.0 % false verdicts (two learners, 150 rows, 20 seeds); coverage of 85 to 90 % for the NLL where few rows have most of
the loss (htru2, 9 % positives, 150 and 300 rows); and of 65 to 84 % for its error by 5 and 10 seeds, where up to a third
of the comparisons showed no difference on any row and the interval had no width. That last fault is mended here since:
with losses of 0 and 1 no interval is narrower than one row that differs makes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from vicinal.lab.statistics.effect import Effect, binary_size

FACTOR = 1.0  # of the standard error: none was needed


def rows_paired(units: Sequence[ArrayLike], differences: Sequence[ArrayLike], *, factor: float = FACTOR) -> Effect:
    """Return the mean difference in loss with a standard error from both rows and seeds.

    Args:
        units: for each seed (or fold) the test rows, int64 [m]; an array [seeds, m] where all test sets have one size.
            Where several rows belong to one person, patient or recording, give its number in the place of the row's:
            persons are then the units. Any values that NumPy can sort name a unit.
        differences: loss of the method minus loss of the baseline, of the same shape: error (0 or 1), negative
            log-likelihood, Brier score or squared error of the row; for other measures the differences of their
            values by row (`influence`).
        factor: of the standard error.

    Returns:
        The effect. Of a single seed, it speaks for the two models that were trained, not for the methods, since what
        training contributes cannot be seen. If a difference is not finite, an effect of which nothing is known.

    Raises:
        ValueError: the shapes differ, or there are fewer than 2 units.

    Example:
        >>> rows = [[0, 1, 2], [2, 3, 4]]
        >>> effect = rows_paired(rows, [[0, -1, 0], [-1, 0, 0]])
        >>> round(effect.difference, 4), round(effect.error, 4), round(effect.degrees, 2)
        (-0.3333, 0.2, 4.0)

    """
    cells = _cells(units, differences)
    if not np.isfinite(cells.values).all():
        return Effect(math.nan, math.nan, cells.units - 1)
    size = 1.0 if _are_hits(cells.values) else binary_size(cells.values)
    values = cells.values / size
    if float(np.ptp(values)) <= 1e-12 * float(np.abs(values).max()):
        return _constant(float(cells.values[0]), cells.units, factor)
    mean = float(values.mean())
    apart = (values - mean) / len(values)
    by_row = _by(cells.unit, apart)
    variance, degrees = by_row, float(cells.units - 1)
    if cells.seeds > 1:
        by_seed = _by(cells.seed, apart)
        single = float((np.bincount(cells.unit * cells.seeds + cells.seed, apart) ** 2).sum())
        if by_seed > single:
            variance = by_row + by_seed - single
            degrees = variance**2 / (by_row**2 / (cells.units - 1) + by_seed**2 / (cells.seeds - 1))
    if _are_hits(cells.values):  # no less than one row that differs would give
        variance = max(variance, 1 / cells.units**2)
    return Effect(mean * size, factor * math.sqrt(variance) * size, degrees)


def _by(unit: NDArray[np.intp], apart: NDArray[np.float64]) -> float:
    """Return the variance of the mean by independent units; apart are the deviations over their number.

    With units of one size it is s**2 / n of their means; where sizes differ, each is scaled by its share (CR2; Bell and
    McCaffrey 2002).
    """
    share = np.bincount(unit) / len(unit)
    return float((np.bincount(unit, apart) ** 2 / (1 - share)).sum())


def _constant(difference: float, units: int, factor: float) -> Effect:
    """Return the effect where all losses differ alike: by the sign test, or for hits by a row that might differ."""
    if difference == 0:
        return Effect(0.0, factor / units, units - 1)
    p = max(2.0 ** (1 - min(units, 1000)), 1e-300)
    return Effect(difference, factor * abs(difference) / -float(stdtrit(units - 1, p / 2)), units - 1)


def _are_hits(values: NDArray[np.float64]) -> bool:
    return bool(np.isin(values, (-1.0, 0.0, 1.0)).all())


class _Cells(NamedTuple):
    """All differences in one row, with the number of the unit and of the seed of each."""

    unit: NDArray[np.intp]
    seed: NDArray[np.intp]
    values: NDArray[np.float64]
    units: int
    seeds: int


def _cells(units: Sequence[ArrayLike], differences: Sequence[ArrayLike]) -> _Cells:
    names, values = [np.asarray(of) for of in units], [np.asarray(of) for of in differences]
    shapes = [of.shape for of in names]
    if shapes != [of.shape for of in values] or any(len(shape) != 1 or not shape[0] for shape in shapes):
        raise ValueError(
            "units and differences are one list of test rows per seed, of the same lengths, got "
            f"{_shown(names)} and {_shown(values)}"
        )
    known, unit = np.unique(np.concatenate(names), return_inverse=True) if names else (np.empty(0), np.empty(0, int))
    if len(known) < 2:
        raise ValueError(f"an interval needs 2 units or more, got {len(known)}")
    seed = np.repeat(np.arange(len(values)), [len(of) for of in values])
    return _Cells(unit, seed, np.concatenate(values).astype(np.float64), len(known), len(values))


def _shown(arrays: Sequence[NDArray[Any]]) -> str:
    return f"{len(arrays)} of shapes {', '.join(str(list(shape)) for shape in dict.fromkeys(a.shape for a in arrays))}"
