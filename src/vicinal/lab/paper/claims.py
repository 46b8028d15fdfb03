"""The paper's claims: one sentence each, what was measured for it, and a verdict that follows from the figures alone.

A study states its claims (`Study.claims`); `judge` looks at all differences of one study together and corrects for
their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtr, stdtrit

from vicinal.lab.statistics import Paired, holm, paired

Expected = Literal["lower", "higher", "equal"]
Result = Literal["as claimed", "otherwise", "open", "not run"]
Verdict = Literal["shown", "shown in part", "mixed", "contradicted", "not resolved", "not run"]

LEVEL = 0.05  # of all differences of a study together (Holm, 1979)


@dataclass(frozen=True)
class Evidence:
    """A difference that bears on a claim.

    Args:
        what: is compared with what, as "CIFAR-10, ERM overfits: mixup, alpha = 1, against ERM".
        unit: of the differences, as "points of test error".
        differences: one per seed, or per example where examples are what varies; empty: not run.
        expected: what the claim says of their mean.
        tolerance: of "equal": a mean within +-tolerance counts as equal; in `unit`, stated before the runs.
        test_share: test rows over training rows where seeds split one table anew (see `statistics.paired`), else 0.
        contrast: measured where the claim is not expected to hold: shown and tested, not part of the verdict.

    """

    what: str
    unit: str
    differences: tuple[float, ...]
    expected: Expected = "lower"
    tolerance: float = 0.0
    test_share: float = 0.0
    contrast: bool = False


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, and what was measured for it.

    Args:
        text: the claim, in one sentence.
        section: of the paper.
        evidence: differences, those of the verdict first.
        limits: what the verdict does not cover, as the size of what was run.

    """

    text: str
    section: str
    evidence: tuple[Evidence, ...]
    limits: str = ""


@dataclass(frozen=True)
class Finding:
    """One difference, judged.

    Args:
        evidence: what was measured.
        mean: of the differences with its 95 % interval, not corrected; None for fewer than two differences.
        p: of "no difference", or for "equal" of "not equal", after Holm over all differences of the study.
        result: "as claimed" or "otherwise" if p is below 0.05, else "open".

    """

    evidence: Evidence
    mean: Paired | None
    p: float
    result: Result


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with its findings and the verdict on it.

    "shown": every finding that is not a contrast is as claimed. "shown in part": some are, and the others are open.
    "mixed": some are as claimed, some otherwise. "contradicted": some are otherwise, and none as claimed. "not resolved":
    all are open. "not run": no figures.
    """

    claim: Claim
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """What follows from the findings."""
        results = [finding.result for finding in self.findings if not finding.evidence.contrast]
        shown, against = results.count("as claimed"), results.count("otherwise")
        if results and shown == len(results):
            return "shown"
        if against:
            return "mixed" if shown else "contradicted"
        if shown:
            return "shown in part"
        return "not resolved" if "open" in results else "not run"


def judge(claims: Sequence[Claim]) -> list[JudgedClaim]:
    """Return the verdicts on the claims of one study; Holm's correction is over all their differences.

    Example:
        >>> gain = Evidence("mixup against ERM", "points", (-3.1, -2.9, -3.3, -3.0))
        >>> noise = Evidence("mixup against dropout", "points", (0.1, -0.2, 0.2, -0.1))
        >>> [judged.verdict for judged in judge([Claim("mixup gains", "3.2", (gain,)), Claim("more", "3.4", (noise,))])]
        ['shown', 'not resolved']

    """
    every = [evidence for claim in claims for evidence in claim.evidence]
    tested = {i: paired(of.differences, of.test_share) for i, of in enumerate(every) if len(of.differences) > 1}
    adjusted = dict(zip(tested, holm([_p(every[i], mean) for i, mean in tested.items()]), strict=True))
    findings = iter([_finding(of, tested.get(i), adjusted.get(i, 1.0)) for i, of in enumerate(every)])
    return [JudgedClaim(claim, tuple(next(findings) for _ in claim.evidence)) for claim in claims]


def _finding(evidence: Evidence, mean: Paired | None, p: float) -> Finding:
    if mean is None:
        return Finding(evidence, None, p, "open" if evidence.differences else "not run")
    if evidence.expected == "equal":
        result: Result = "as claimed" if p < LEVEL else "otherwise" if _is_beyond(mean, evidence.tolerance) else "open"
        return Finding(evidence, mean, p, result)
    if p >= LEVEL:
        return Finding(evidence, mean, p, "open")
    lower = mean.difference < 0
    return Finding(evidence, mean, p, "as claimed" if lower == (evidence.expected == "lower") else "otherwise")


def _is_beyond(mean: Paired, tolerance: float) -> bool:
    """Return whether the whole interval lies outside of the tolerance."""
    return mean.low > tolerance or mean.high < -tolerance


def _p(evidence: Evidence, mean: Paired) -> float:
    """Return the p-value of no difference; of "equal", that of the two one-sided tests of Schuirmann (1987)."""
    if evidence.expected != "equal":
        return mean.p
    half = (mean.high - mean.low) / 2
    away = evidence.tolerance - abs(mean.difference)
    if half == 0 or not math.isfinite(half):
        return 0.0 if away > 0 else 1.0
    n = len(evidence.differences)
    error = half / -float(stdtrit(n - 1, 0.025))  # that of the interval
    return float(stdtr(n - 1, -away / error))


def format_finding(finding: Finding) -> str:
    """Write a finding's difference with its interval, its unit and the number of differences.

    Example:
        >>> (judged,) = judge([Claim("mixup gains", "3.2", (Evidence("", "points", (-3.1, -2.9, -3.3, -3.0)),))])
        >>> format_finding(judged.findings[0])
        '-3.08 [-3.35, -2.8] points, n = 4, p < 0.0001'

    """
    evidence, mean = finding.evidence, finding.mean
    if mean is None:
        return f"n = {len(evidence.differences)}" if evidence.differences else "not run"
    within = f" (equal: within {evidence.tolerance:g})" if evidence.expected == "equal" else ""
    p = "p < 0.0001" if finding.p < 1e-4 else f"p = {finding.p:.2g}"
    difference = 0.0 if abs(mean.difference) < 1e-12 else mean.difference  # equal but for rounding
    interval = f"{difference:+.3g} [{mean.low:.3g}, {mean.high:.3g}]"
    return f"{interval} {evidence.unit}{within}, n = {len(evidence.differences)}, {p}"
