"""Seeds (or folds) as the units: what one score per seed tells of a difference, where the seeds share one set of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import fdtrc, stdtr, stdtrit  # F and Student's t; scipy.stats takes a second to import

from vicinal.lab.statistics.effect import Effect, Interval, Paired, Posterior, binary_size


def resampled(differences: Sequence[float], test_share: float) -> Effect:
    """Return the mean of paired differences with the standard error of the corrected resampled t-test.

    Seeds draw new splits of one table, so their test sets overlap and their training sets overlap more: a plain
    t-test takes them for independent and finds differences in sampling noise. Nadeau and Bengio (2003) correct
    the variance of the mean from s**2 / J to s**2 * (1 / J + n_test / n_train). For k-fold cross-validation, repeated or
    not, n_test / n_train is 1 / (k - 1) (Bouckaert and Frank 2004).

    Where all seeds show one and the same difference, as they can with few seeds and few test rows, s is 0 and the test
    would be certain. There the p-value is the sign test's, 2**(1 - J), and the error is the one that agrees with it.

    Args:
        differences: one per seed, J >= 2.
        test_share: n_test / n_train; 0 for independent data.

    Returns:
        If a difference is not finite, an effect of which nothing is known.

    Raises:
        ValueError: fewer than 2 seeds, or a negative share.

    Example:
        >>> effect = resampled([-0.02, -0.01, -0.03, 0.0], test_share=1 / 3)
        >>> round(effect.difference, 4), round(effect.error, 4), effect.degrees
        (-0.015, 0.0099, 3)

    """
    if not test_share >= 0:
        raise ValueError(f"test_share is n_test / n_train, 0 or more, got {test_share!r}")
    values = np.asarray(differences, dtype=float)
    seeds = len(values)
    mean, error = _resampled(values, test_share)
    if error == 0 and mean != 0:
        p = max(2.0 ** (1 - seeds), 1e-300)  # of more seeds, t would be infinite and the error 0
        error = abs(mean) / -float(stdtrit(seeds - 1, p / 2))
    return Effect(mean, error, seeds - 1)


def paired(differences: Sequence[float], test_share: float, level: float = 0.95) -> Paired:
    """Return the mean of paired differences, its interval and its p-value by the corrected resampled t-test.

    Args:
        differences: one per seed, J >= 2.
        test_share: n_test / n_train.
        level: of the interval.

    Returns:
        What `resampled` estimates. If a difference is not finite, nan with a p-value of 1.

    """
    effect = resampled(differences, test_share)
    found = effect.paired(level)
    constant = effect.known and effect.difference != 0 and _resampled(np.asarray(differences, dtype=float), 0.0)[1] == 0
    return found._replace(p=2.0 ** (1 - len(differences))) if constant else found  # to the last bit


def posterior(differences: Sequence[float], test_share: float, rope: float) -> Posterior:
    """Return the probabilities of the Bayesian correlated t-test (Corani and Benavoli 2015).

    Args:
        differences: method minus baseline, one per seed; lower scores are better.
        test_share: n_test / n_train.
        rope: half-width of the region of practical equivalence, in the unit of the scores.

    Example:
        >>> better, same, worse = posterior([-0.02, -0.01, -0.03, 0.0], test_share=1 / 3, rope=0.01)
        >>> round(better, 3), round(same, 3), round(worse, 3)
        (0.676, 0.281, 0.043)

    """
    return resampled(differences, test_share).posterior(rope)


def interval(values: Sequence[float], test_share: float, level: float = 0.95) -> Interval:
    """Return the mean over seeds and its interval by the corrected resampled t-test (see `resampled`).

    Example:
        >>> mean, low, high = interval([0.1, 0.2, 0.3], test_share=1 / 3)
        >>> round(mean, 3), round(low, 3), round(high, 3)
        (0.2, -0.151, 0.551)

    """
    mean, error = _resampled(np.asarray(values, dtype=float), test_share)
    half = error * float(stdtrit(len(values) - 1, (1 + level) / 2))
    return Interval(mean, mean - half, mean + half)


def _resampled(values: np.ndarray, test_share: float) -> tuple[float, float]:
    """Return the mean and its corrected standard error; 0 where the values differ by rounding alone."""
    seeds = len(values)
    if seeds < 2:
        raise ValueError(f"an interval needs 2 seeds or more, got {seeds}")
    if not np.isfinite(values).all():
        return math.nan, math.nan
    unit = binary_size(values)
    sized = values / unit
    if float(np.ptp(sized)) <= 1e-12 * float(np.abs(sized).max()):
        return float(values[0]), 0.0
    return float(sized.mean()) * unit, math.sqrt(sized.var(ddof=1) * (1 / seeds + test_share)) * unit


def five_by_two(differences: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return Alpaydin's F (1999) of five repetitions of 2-fold cross-validation, and its p-value (10 and 5 degrees).

    Args:
        differences: [5, 2], method minus baseline on the two folds of each repetition.

    Returns:
        F and p; with no spread within any repetition, nan and 1.

    Raises:
        ValueError: for another shape.

    """
    values, variance = _two_folds(differences)
    if not variance > 0:
        return math.nan, 1.0
    f = float((values**2).sum() / (2 * variance))
    return f, float(fdtrc(10, 5, f))


def five_by_two_t(differences: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return Dietterich's 5x2cv t (1998), which looks at the first of the ten differences alone, and its p-value.

    Args:
        differences: [5, 2], method minus baseline on the two folds of each repetition.

    Returns:
        t with 5 degrees and p; with no spread within any repetition, nan and 1.

    Raises:
        ValueError: for another shape.

    """
    values, variance = _two_folds(differences)
    if not variance > 0:
        return math.nan, 1.0
    t = float(values[0, 0] / math.sqrt(variance / 5))
    return t, float(2 * stdtr(5, -abs(t)))


def _two_folds(differences: Sequence[Sequence[float]]) -> tuple[np.ndarray, float]:
    """Return the differences, divided by one number, and the sum over repetitions of their variance within."""
    values = np.asarray(differences, dtype=float)
    if values.shape != (5, 2):
        raise ValueError(f"five repetitions of two folds are differences of shape [5, 2], got {list(values.shape)}")
    values = values / binary_size(values)
    return values, float(((values - values.mean(1, keepdims=True)) ** 2).sum())
