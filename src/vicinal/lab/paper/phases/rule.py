"""A rule for the sign of mixup's effect: a threshold on one figure of ERM, fitted on some conditions, tested on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from scipy.special import betaincinv

from vicinal.lab.statistics import Interval


@dataclass(frozen=True)
class RuleCase:
    """A condition as the rule sees it.

    Args:
        setting: conditions of one setting share their examples, and lie on one side of the split.
        score: the figure of ERM; the rule says that mixup helps where it is at most the threshold.
        effect: mixup minus ERM, mean over the seeds; mixup helps where it is below 0.
        noisy: some of the training labels are random.

    """

    setting: str
    score: float
    effect: float
    noisy: bool = False

    @property
    def helps(self) -> bool:
        """True if mixup is to help."""
        return self.effect < 0


@dataclass(frozen=True)
class RuleTest:
    """How a rule does on the conditions it was not fitted on.

    Args:
        threshold: fitted.
        fitted: number of conditions it was fitted on.
        right: number of held-out conditions whose sign the rule says.
        trivial: number of those that have the sign that is commoner among the fitted ones.
        total: number of held-out conditions.
        better: number of held-out settings in which the rule is right more often than the commoner sign.
        worse: and less often.
        clean: right, trivial and total of those with clean labels alone.

    """

    threshold: float
    fitted: int
    right: int
    trivial: int
    total: int
    better: int
    worse: int
    clean: tuple[int, int, int]


def fit_threshold(cases: Sequence[RuleCase]) -> float:
    """Return the threshold that gets most signs right, of equals the smallest.

    Tried are the middles between neighboring scores, and one below and one above all of them.

    Example:
        >>> fit_threshold([RuleCase("a", 0.0, -1.0), RuleCase("a", 2.0, -0.5), RuleCase("b", 4.0, 1.0)])
        3.0

    """
    scores = np.array([case.score for case in cases])
    helps = np.array([case.helps for case in cases])
    known = np.unique(scores)
    tried = np.concatenate([known[:1] - 1, (known[1:] + known[:-1]) / 2, known[-1:] + 1])
    right = [int(((scores <= threshold) == helps).sum()) for threshold in tried]
    return float(tried[int(np.argmax(right))])


def assess(fitted: Sequence[RuleCase], held_out: Sequence[RuleCase]) -> RuleTest:
    """Fit the rule on some conditions and count its successes on others, beside those of the commoner sign."""
    threshold = fit_threshold(fitted)
    common = 2 * sum(case.helps for case in fitted) > len(fitted)
    rule = [(case.score <= threshold) == case.helps for case in held_out]
    sign = [common == case.helps for case in held_out]
    clean = [not case.noisy for case in held_out]
    leads: dict[str, int] = {}
    for case, by_rule, by_sign in zip(held_out, rule, sign, strict=True):
        leads[case.setting] = leads.get(case.setting, 0) + by_rule - by_sign
    return RuleTest(
        threshold,
        len(fitted),
        sum(rule),
        sum(sign),
        len(held_out),
        sum(lead > 0 for lead in leads.values()),
        sum(lead < 0 for lead in leads.values()),
        (sum(compress(rule, clean)), sum(compress(sign, clean)), sum(clean)),
    )


def binomial_interval(successes: int, n: int) -> Interval:
    """Return the share of successes with its exact 95 % interval (Clopper and Pearson, 1934).

    Example:
        >>> [round(value, 3) for value in binomial_interval(8, 10)]
        [0.8, 0.444, 0.975]

    """
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, 0.025))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 0.975))
    return Interval(successes / n, low, high)
