"""The choice among methods on validation data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vicinal.lab.format import is_finite


def validation_order(scores: Mapping[str, float | None], by: str = "error") -> tuple[float, float]:
    """Return what orders runs by their validation scores, least first.

    That is the measure `by`, and the negative log-likelihood where it ties, as errors often do with few examples, or where
    it was not measured; for regression the root mean squared error, unless it is the mean absolute error. A run that
    diverged, and has a score that is not a finite number, comes last.

    Example:
        >>> validation_order({"error": 0.1, "nll": 0.3}) < validation_order({"error": 0.1, "nll": None})
        True

    """
    if "rmse" in scores:
        order = (scores["mae" if by == "mae" else "rmse"], 0.0)
    else:
        order = (scores[by if by in scores else "nll"], scores["nll"])
    first, second = (value if value is not None and is_finite(value) else math.inf for value in order)
    return (first, second) if first < math.inf and second < math.inf else (math.inf, math.inf)


def best_on_validation(candidates: Sequence[Mapping[str, float | None]], by: str = "error") -> int:
    """Return the position of the scores that are best in `validation_order`, the first of equals."""
    return min(range(len(candidates)), key=lambda i: validation_order(candidates[i], by))
