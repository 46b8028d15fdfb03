"""The choice among methods on validation data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vicinal.lab.format import is_finite


def validation_order(scores: Mapping[str, float | None]) -> tuple[float, float]:
    """Return what orders runs by their validation scores, least first.

    That is the error, and the likelihood where errors tie, as they often do with few examples; the root mean squared
    error for regression. A run that diverged, and has a score that is not a finite number, comes last.

    Example:
        >>> validation_order({"error": 0.1, "nll": 0.3}) < validation_order({"error": 0.1, "nll": None})
        True

    """
    order = (scores["error"], scores["nll"]) if "error" in scores else (scores["rmse"], 0.0)
    first, second = (value if value is not None and is_finite(value) else math.inf for value in order)
    return (first, second) if first < math.inf and second < math.inf else (math.inf, math.inf)


def best_on_validation(candidates: Sequence[Mapping[str, float | None]]) -> int:
    """Return the position of the scores that are best in `validation_order`, the first of equals."""
    return min(range(len(candidates)), key=lambda i: validation_order(candidates[i]))
