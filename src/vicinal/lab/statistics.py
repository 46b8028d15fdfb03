"""Is a difference more than sampling noise? Paired seeds, intervals, and a correction for the number of methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import nctdtrinc, stdtr, stdtrit  # Student's t; scipy.stats takes a second to import


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


class Paired(NamedTuple):
    """A mean paired difference with its 95 % interval and the p-value of "no difference"."""

    difference: float
    low: float
    high: float
    p: float


def interval(values: Sequence[float], test_share: float, level: float = 0.95) -> Interval:
    """Return the mean over seeds and its interval by the corrected resampled t-test (see `paired`).

    Example:
        >>> mean, low, high = interval([0.1, 0.2, 0.3], test_share=1 / 3)
        >>> round(mean, 3), round(low, 3), round(high, 3)
        (0.2, -0.151, 0.551)

    """
    mean, error = _resampled(np.asarray(values, dtype=float), test_share)
    half = error * _t(level, len(values))
    return Interval(mean, mean - half, mean + half)


def paired(differences: Sequence[float], test_share: float, level: float = 0.95) -> Paired:
    """Return the mean of paired differences, its interval and its p-value by the corrected resampled t-test.

    Seeds draw new splits of one table, so their test sets overlap and their training sets overlap more: a plain
    t-test takes them for independent and finds differences in sampling noise. Nadeau and Bengio (2003) correct
    the variance of the mean from s**2 / J to s**2 * (1 / J + n_test / n_train).

    Where all seeds show one and the same difference, as they can with few seeds and few test rows, s is 0 and the test
    would be certain. There the p-value is the sign test's, 2**(1 - J), and the interval is the one that agrees with it.

    Args:
        differences: one per seed, J >= 2.
        test_share: n_test / n_train.
        level: of the interval.

    Returns:
        If a difference is not finite, nan with a p-value of 1.

    """
    values = np.asarray(differences, dtype=float)
    seeds = len(values)
    mean, error = _resampled(values, test_share)
    if not math.isfinite(mean):
        return Paired(math.nan, math.nan, math.nan, 1.0)
    if mean == 0:
        p = 1.0
    elif error > 0:
        p = float(2 * stdtr(seeds - 1, -abs(mean) / error))
    else:
        p = 2.0 ** (1 - seeds)
        error = abs(mean) / -float(stdtrit(seeds - 1, p / 2))
    half = error * _t(level, seeds)
    return Paired(mean, mean - half, mean + half, p)


def detectable(deviation: float, n: int, power: float = 0.8, level: float = 0.05) -> float:
    """Return the smallest mean difference that the t-test of `n` independent differences finds with this power.

    Args:
        deviation: standard deviation of the differences.
        n: number of differences, 2 or more.
        power: probability to find it.
        level: of the two-sided test.

    Example:
        >>> round(detectable(1.0, 20), 2)
        0.66

    """
    needed = nctdtrinc(n - 1, 1 - power, -stdtrit(n - 1, level / 2))  # noncentrality
    return float(needed) * deviation / math.sqrt(n)


def _resampled(values: np.ndarray, test_share: float) -> tuple[float, float]:
    """Return the mean and its corrected standard error; 0 where the values differ by rounding alone."""
    seeds = len(values)
    if seeds < 2:
        raise ValueError(f"an interval needs 2 seeds or more, got {seeds}")
    if not np.isfinite(values).all():
        return math.nan, math.nan
    size = float(np.abs(values).max())
    if float(np.ptp(values)) <= 1e-12 * size:
        return float(values[0]), 0.0
    return float(values.mean()), math.sqrt(values.var(ddof=1) * (1 / seeds + test_share))


def _t(level: float, seeds: int) -> float:
    """Return how many standard errors an interval reaches to either side."""
    return float(stdtrit(seeds - 1, (1 + level) / 2))


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's (1979) adjusted p-values: below 0.05 means found, whatever the number of methods tried.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    scaled = np.minimum(1.0, np.arange(len(p), 0, -1) * np.asarray(p)[order])
    adjusted[order] = np.maximum.accumulate(scaled)
    return adjusted.tolist()


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return the area under the ROC curve: how often a positive score is above a negative one, ties counting one half.

    nan without scores of both kinds.

    Example:
        >>> auroc([0.9, 0.4], [0.1, 0.4])
        0.875

    """
    if not len(positive) or not len(negative):
        return math.nan
    gaps = np.asarray(positive, dtype=float)[:, None] - np.asarray(negative, dtype=float)
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())
