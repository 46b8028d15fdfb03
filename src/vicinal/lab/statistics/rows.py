"""Rows (or persons) as the units: what the losses of single test rows tell of a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from vicinal.lab.statistics.effect import Effect

FACTOR = 1.1  # of the standard error: pays for training sets that overlap


def rows_paired(units: Sequence[ArrayLike], differences: Sequence[ArrayLike], *, factor: float = FACTOR) -> Effect:
    """Return the mean difference in loss with a standard error that takes rows, not seeds, for the units.

    Args:
        units: for each seed (or fold) the test rows, int64 [m]; an array [seeds, m] where all test sets have one size.
            Where several rows belong to one person, patient or recording, give its number in the place of the row's:
            persons are then the units. Any values that NumPy can sort name a unit.
        differences: loss of the method minus loss of the baseline, of the same shape: error (0 or 1), negative
            log-likelihood, Brier score or squared error of the row; for other measures the differences of their
            values by row (`influence`).
        factor: of the standard error.

    Returns:
        If a difference is not finite, an effect of which nothing is known.

    Raises:
        ValueError: the shapes differ, or there are fewer than 2 units.

    Example:
        >>> rows = [[0, 1, 2], [2, 3, 4]]
        >>> effect = rows_paired(rows, [[0, -1, 0], [-1, 0, 0]], factor=1.0)
        >>> round(effect.difference, 4), round(effect.error, 4), effect.degrees
        (-0.3333, 0.1748, 4)

    """
    cells = _cells(units, differences)
    if not np.isfinite(cells.values).all():
        return Effect(math.nan, math.nan, cells.units - 1)
    weight = np.bincount(cells.unit, minlength=cells.units)
    share = weight / weight.sum()
    mean = float(cells.values.mean())
    apart = np.bincount(cells.unit, cells.values - mean, minlength=cells.units) / weight
    size = float(np.abs(cells.values).max())
    if float(np.ptp(cells.values)) <= 1e-12 * size:  # one and the same difference: as the sign test has it
        p = max(2.0 ** (1 - min(cells.units, 1000)), 1e-300)
        error = abs(mean) / -float(stdtrit(cells.units - 1, p / 2)) if mean else 0.0
        return Effect(mean, error, cells.units - 1)
    variance = float((share**2 * apart**2 / (1 - share)).sum())
    return Effect(mean, factor * math.sqrt(variance), cells.units - 1)


class _Cells(NamedTuple):
    """All differences in one row, with the number of the unit and of the seed of each."""

    unit: NDArray[np.intp]
    seed: NDArray[np.intp]
    values: NDArray[np.float64]
    units: int


def _cells(units: Sequence[ArrayLike], differences: Sequence[ArrayLike]) -> _Cells:
    names, values = [np.asarray(of) for of in units], [np.asarray(of) for of in differences]
    shapes = [of.shape for of in names]
    if shapes != [of.shape for of in values] or any(len(shape) != 1 for shape in shapes):
        raise ValueError(
            "units and differences are one list of test rows per seed, of the same lengths, got "
            f"{_shown(names)} and {_shown(values)}"
        )
    known, unit = np.unique(np.concatenate(names), return_inverse=True) if names else (np.empty(0), np.empty(0, int))
    if len(known) < 2:
        raise ValueError(f"an interval needs 2 units or more, got {len(known)}")
    seed = np.repeat(np.arange(len(values)), [len(of) for of in values])
    return _Cells(unit, seed, np.concatenate(values).astype(np.float64), len(known))


def _shown(arrays: Sequence[NDArray[Any]]) -> str:
    return f"{len(arrays)} of shapes {', '.join(str(list(shape)) for shape in dict.fromkeys(a.shape for a in arrays))}"
