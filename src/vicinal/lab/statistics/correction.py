"""Corrections for several comparisons, and the area under the ROC curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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


def auroc(positive: Sequence[float] | NDArray[np.float64], negative: Sequence[float] | NDArray[np.float64]) -> float:
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
