"""An estimated difference with its standard error: interval, p-value, posterior, power and equivalence follow from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
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


class Posterior(NamedTuple):
    """Probabilities that a method is better, practically the same, and worse; they sum to 1. Lower scores are better."""

    better: float
    same: float
    worse: float


@dataclass(frozen=True)
class Effect:
    """A mean difference (method minus baseline, so that below 0 is better), whose error follows Student's t.

    Args:
        difference: the mean difference, in the unit of the scores.
        error: its standard error, above 0; 0 stands for certainty, and nan for nothing known.
        degrees: degrees of freedom.

    Example:
        >>> effect = Effect(-0.02, 0.01, 19)
        >>> [round(number, 4) for number in effect.paired()]
        [-0.02, -0.0409, 0.0009, 0.06]
        >>> [round(share, 3) for share in effect.posterior(rope=0.01)]
        [0.835, 0.161, 0.004]

    """

    difference: float
    error: float
    degrees: float

    @property
    def known(self) -> bool:
        """True unless a score was not finite."""
        return math.isfinite(self.difference) and math.isfinite(self.error)

    @property
    def p(self) -> float:
        """Two-sided p-value of "no difference"; 1 where nothing is known."""
        if not self.known or self.difference == 0:
            return 1.0
        return 2 * self._below(-abs(self.difference))

    def paired(self, level: float = 0.95) -> Paired:
        """Return difference, interval and p-value."""
        half = self.error * float(stdtrit(self.degrees, (1 + level) / 2)) if self.known else math.nan
        mean = self.difference if self.known else math.nan
        return Paired(mean, mean - half, mean + half, self.p)

    def posterior(self, rope: float) -> Posterior:
        """Return how probable it is that the method is better, practically the same, and worse.

        The posterior of the difference under a prior that is flat is Student's t around the estimate. With the error
        of the corrected resampled t-test this is the Bayesian correlated t-test (Corani and Benavoli 2015; Benavoli et
        al. 2017; the package baycomp).

        Args:
            rope: half-width of the region of practical equivalence, in the unit of the scores, 0 or more: differences
                in [-rope, rope] count as the same.

        Returns:
            nan where nothing is known.

        Raises:
            ValueError: the rope is negative or not finite.

        """
        _check_margin("rope", rope)
        if not self.known:
            return Posterior(math.nan, math.nan, math.nan)
        if self.error == 0:
            better, worse = float(self.difference < -rope), float(self.difference > rope)
        else:
            better, worse = self._below(-rope - self.difference), self._below(self.difference - rope)
        return Posterior(better, max(0.0, 1 - better - worse), worse)

    def equivalence(self, margin: float) -> float:
        """Return the p-value of two one-sided t-tests: below 0.05, the difference is shown to lie within the margin.

        That is so exactly where the 90 % interval lies within [-margin, margin] (Schuirmann 1987).

        Args:
            margin: in the unit of the scores, above 0.

        Returns:
            1 where nothing is known.

        Raises:
            ValueError: the margin is negative or not finite.

        """
        _check_margin("margin", margin)
        if not self.known:
            return 1.0
        if self.error == 0:
            return 0.0 if abs(self.difference) < margin else 1.0
        return self._below(abs(self.difference) - margin)

    def detectable(self, power: float = 0.8, level: float = 0.05) -> float:
        """Return the smallest true difference that a comparison with this error finds with this power.

        Args:
            power: probability to find it.
            level: of the two-sided test.

        """
        return self.error * _noncentrality(self.degrees, power, level) if self.known else math.nan

    def _below(self, distance: float) -> float:
        """Return the probability that an estimate errs by less than a signed distance."""
        if self.error == 0:
            return float(distance > 0)
        return float(stdtr(self.degrees, distance / self.error))


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
    return Effect(0.0, deviation / math.sqrt(n), n - 1).detectable(power, level)


def binary_size(values: NDArray[np.float64]) -> float:
    """Return the power of two at or below the largest absolute value: dividing by it rounds nothing.

    Squares of numbers below 1e-154 vanish and of those above 1e154 overflow, so spreads are computed of values so divided.
    1 where there is nothing but zeros, or a value is not finite.

    Example:
        >>> binary_size(np.array([3.0, -5.0])), binary_size(np.array([0.0]))
        (4.0, 1.0)

    """
    largest = float(np.abs(values).max())
    return math.ldexp(1.0, math.frexp(largest)[1] - 1) if largest and math.isfinite(largest) else 1.0


def _noncentrality(degrees: float, power: float, level: float) -> float:
    """Return how many standard errors a difference must have to be found."""
    return float(nctdtrinc(degrees, 1 - power, -stdtrit(degrees, level / 2)))


def _check_margin(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is half the width of a region around 0, so 0 or more, got {value!r}")
