"""Temperature scaling: one number, fitted on validation data, that makes a network more or less sure (Guo et al. 2017).

Mixup makes networks less sure, and so does a temperature, which costs nothing: whoever wants likelihood or calibration
should know what is left of a difference once both methods have theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from vicinal.lab import statistics
from vicinal.lab.compare import measures
from vicinal.lab.compare.measures import Measure, Tested
from vicinal.lab.compare.predictions import RunPredictions
from vicinal.lab.compare.results import ERM, LEVEL, TemperatureScaling
from vicinal.lab.format import NumberFormat, is_finite, p_value
from vicinal.lab.statistics import Interval, Paired

LOWEST, HIGHEST = 0.01, 100.0
MEASURES = ("nll", "ece")


def fitted(logits: ArrayLike, target: ArrayLike) -> float:
    """Return the temperature whose scaled logits have the best likelihood.

    The labels are smoothed by 1 / (n + 1), as if one more example had a label drawn at random: without it the best
    temperature would be 0 where all n examples are right (Platt 1999 smooths targets for the same reason).

    Args:
        logits: float [n, classes], of validation examples.
        target: their class indices, int64 [n].

    Returns:
        Between `LOWEST` and `HIGHEST`; nan where a logit is not finite.

    Example:
        >>> import numpy as np
        >>> logits = np.tile([2.0, 0.0], (9, 1))  # right in 6 of 9, which smoothing by 1/10 makes 65 %
        >>> round(fitted(logits, [0, 0, 0, 0, 0, 0, 1, 1, 1]), 3), round(2 / math.log(0.65 / 0.35), 3)
        (3.231, 3.231)

    """
    from scipy.optimize import minimize_scalar

    z, y = np.asarray(logits, dtype=np.float64), np.asarray(target)
    if not np.isfinite(z).all():
        return math.nan
    smoothing = 1 / (len(z) + 1)
    answer = z.max(1)
    wanted = (1 - smoothing) * z[np.arange(len(z)), y] + smoothing * np.mean(z, axis=1)
    below, missing = z - answer[:, None], float(np.mean(answer - wanted))

    def loss(log_t: float) -> float:
        scale = math.exp(-log_t)
        return float(np.mean(np.log(np.exp(below * scale).sum(1)))) + missing * scale

    ends = math.log(LOWEST), math.log(HIGHEST)
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-5})
    return math.exp(float(found.x))


def scaled(of: RunPredictions, target: NDArray[Any], temperature: float) -> RunPredictions:
    """Return test predictions with their logits divided by a temperature.

    Args:
        of: of one run; the logits are the logarithms of its probabilities. One that is 0 in float32 counts as the
            smallest number above 0, but for the true class, whose logarithm is kept exactly.
        target: class indices of its test rows, int64 [n].
        temperature: above 0.

    """
    assert of.nll is not None
    log_p = np.log(np.maximum(of.outputs.astype(np.float64), float(np.finfo(np.float32).smallest_subnormal)))
    each = np.arange(len(target))
    log_p[each, target] = -of.nll.astype(np.float64)
    log_p /= temperature
    log_p -= logsumexp(log_p, axis=1, keepdims=True)
    nll = -log_p[each, target]
    return RunPredictions(of.rows, np.exp(log_p).astype(np.float32), nll.astype(np.float32))


def compare(
    units: Sequence[NDArray[Any]],
    tested: Mapping[str, Sequence[Tested]],
    temperatures: Mapping[str, Sequence[float]],
    subject: str,
    raw_p: float,
) -> TemperatureScaling | None:
    """Compare a method with ERM, each with its temperatures.

    Args:
        units: what is drawn independently, for each test row of each seed.
        tested: test predictions of each seed, of ERM and of the method.
        temperatures: of each seed, of the same.
        subject: the method as a sentence calls it.
        raw_p: of the difference in likelihood before scaling, as the verdict corrected it.

    Returns:
        None where a temperature is missing: training diverged.

    """
    if not all(is_finite(t) for of in temperatures.values() for t in of):
        return None
    after = {
        name: [
            Tested(scaled(one.predictions, one.target, t), one.target, one.classes)
            for one, t in zip(runs, temperatures[name], strict=True)
        ]
        for name, runs in tested.items()
    }
    used = [measures.find(name, 2) for name in MEASURES]
    told = next(name for name in tested if name != ERM)
    raw = _paired(units, used[0], tested[told], tested[ERM])._replace(p=raw_p)
    pairs = {
        "erm_scaled": (tested[told], after[ERM]),
        "both_scaled": (after[told], after[ERM]),
        "erm_gain": (after[ERM], tested[ERM]),
        "gain": (after[told], tested[told]),
    }
    found = {"raw": raw, **_corrected({name: _paired(units, used[0], *pair) for name, pair in pairs.items()})}
    before, levels = ({name: _levels(units, used, runs) for name, runs in of.items()} for of in (tested, after))
    return TemperatureScaling(
        temperatures={name: list(of) for name, of in temperatures.items()},
        before=before,
        after=levels,
        changes=found,
        sentence=_sentence(subject, found),
    )


def _corrected(found: Mapping[str, Paired]) -> dict[str, Paired]:
    """Return differences with their p-values corrected for all of them."""
    p = statistics.holm([one.p for one in found.values()])
    return {name: one._replace(p=of) for (name, one), of in zip(found.items(), p, strict=True)}


def _paired(units: Sequence[NDArray[Any]], measure: Measure, mine: Sequence[Tested], other: Sequence[Tested]) -> Paired:
    pairs = zip(measure.values(mine), measure.values(other), strict=True)
    return statistics.rows_paired(units, [a - b for a, b in pairs]).paired()


def _levels(units: Sequence[NDArray[Any]], used: Sequence[Measure], runs: Sequence[Tested]) -> dict[str, Interval]:
    return {measure.name: measures.level(units, measure.values(runs)) for measure in used}


def _sentence(subject: str, found: Mapping[str, Paired]) -> str:
    """Describe what a temperature leaves of a difference in likelihood."""
    was, against, left, erm_gain, gain = (
        _way(found[name]) for name in ("raw", "erm_scaled", "both_scaled", "erm_gain", "gain")
    )
    alone, both = _in_numbers(found["erm_scaled"]), _in_numbers(found["both_scaled"])
    if was == left != "":
        text = (
            f"A temperature does not explain that: with both scaled the likelihood of {subject} is {was}, too {both}."
        )
    elif left:
        text = f"With a temperature for both, the likelihood of {subject} is clearly {left} than ERM's {both}."
    elif was == "better" and erm_gain == "better" and against != "better":
        text = (
            f"Temperature scaling does to likelihood what {subject} does: {subject} is clearly better than ERM, but not "
            f"than ERM with a temperature {alone}."
        )
    elif was == "worse" and gain == "better" and erm_gain != "worse":
        text = (
            f"A temperature makes up for what {subject} costs in likelihood: with both scaled no clear difference is left "
            f"{both}."
        )
    elif was:
        text = (
            f"Whether a temperature explains the difference in likelihood is open: {subject} is {was} before scaling, and "
            f"with both scaled no difference is clear {both}."
        )
    else:
        text = f"Likelihoods of {subject} and ERM differ clearly neither before scaling nor with both scaled {both}."
    harmed = [name for name, way in (("ERM", erm_gain), (subject, gain)) if way == "worse"]
    return text + (f" For {' and '.join(harmed)}, scaling makes likelihood worse." if harmed else "")


def _in_numbers(of: Paired) -> str:
    number = NumberFormat(1.0, 3)
    ends = f"{number.text(of.low, sign=True)} to {number.text(of.high, sign=True)}"
    return f"({number.text(of.difference, sign=True)}, 95 % interval {ends}, p {p_value(of.p, '= ')})"


def _way(of: Paired) -> str:
    if not (is_finite(of.difference) and of.p < LEVEL):
        return ""
    return "better" if of.difference < 0 else "worse"
