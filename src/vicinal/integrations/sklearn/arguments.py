"""What all estimators check: which vicinity, which seed, sample weights, and columns that must not be mixed."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils import check_array, check_random_state

from vicinal._checks import Per, check_number
from vicinal._state import fresh_seed
from vicinal.vicinities import ERM, Mixup
from vicinal.vicinity import Vicinity
from vicinal.weighting import Beta

ALPHA = 0.2  # the default of all estimators
TABLE: dict[str, Any] = {"dtype": np.float64, "order": "C"}  # sums over another layout would be rounded otherwise

# how pandas and polars call columns whose values are no quantities
_CATEGORIES = re.compile(r"(category|categorical|enum|object|str|string|large_string|dictionary)\b", re.IGNORECASE)


def seed_of(random_state: Any) -> int:
    """Return a seed in [0, 2**64).

    Args:
        random_state: an integer, or an instance of RandomState, from which one number is drawn. None takes a seed as
            vicinities do: it follows `torch.initial_seed()`, and no global generator is moved.

    Raises:
        ValueError: random_state is none of these.

    """
    return fresh_seed() if random_state is None else int(check_random_state(random_state).randint(2**31 - 1))


def vicinity_of(alpha: float, vicinity: Vicinity | None, seed: int, per: Per) -> Vicinity:
    """Return what an estimator's arguments say: `vicinity`, else Mixup, and ERM for alpha = 0 or after `off()`.

    Args:
        alpha: of Mixup, >= 0.
        vicinity: in place of Mixup; its own seed counts, where it was given one.
        seed: of the draws.
        per: whether Mixup has one lambda per batch or per example.

    Raises:
        TypeError: alpha is not a number, or vicinity not a vicinity.
        ValueError: alpha is negative or not finite, or was given beside vicinity.

    """
    check_number("alpha", alpha)
    if not (alpha >= 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha must be a finite number >= 0, where 0 means no mixing, got {alpha!r}")
    if vicinity is None:
        return Mixup(Beta(alpha, per), seed=seed) if alpha > 0 else ERM(seed=seed)
    if not isinstance(vicinity, Vicinity):
        raise TypeError(f"vicinity must be a vicinity such as Mixup(0.2), or None for Mixup(alpha), got {vicinity!r}")
    if alpha != ALPHA:
        raise ValueError(f"alpha={alpha!r} is of Mixup, in whose place there is vicinity={vicinity!r}: set one of them")
    if not vicinity.state.on:
        return ERM(seed=seed)
    return replace(
        vicinity, seed=seed if vicinity.seed is None else vicinity.seed
    )  # a copy: nothing of the user's moves


def weights_of(sample_weight: Any, n: int) -> np.ndarray:
    """Return the weights of n rows, float64 [n], all 1 for None.

    Raises:
        ValueError: they are not n finite numbers >= 0 of which one at least is positive.

    """
    if sample_weight is None:
        return np.ones(n)
    weight = np.asarray(check_array(sample_weight, ensure_2d=False, dtype="float64", input_name="sample_weight"))
    if weight.shape != (n,):
        raise ValueError(f"sample_weight must hold one number per row, of shape ({n},), got shape {weight.shape}")
    if weight.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {weight.min():g}")
    if not weight.any():
        raise ValueError("sample_weight is zero for every row: there is nothing to learn from")
    return weight


def refuse_categories(X: Any) -> None:
    """Refuse tables with columns of categories or text: half of category 2 and half of category 4 is not category 3.

    Args:
        X: a table as users give it: a data frame of pandas or polars, an array, a sparse matrix or nested lists.

    Raises:
        ValueError: a column of a data frame is of categories, text or objects, or one of an array holds text.

    """
    columns, dtypes = getattr(X, "columns", None), getattr(X, "dtypes", None)
    if columns is not None and dtypes is not None:
        found = [name for name, dtype in zip(columns, dtypes, strict=True) if _CATEGORIES.match(str(dtype))]
    else:
        found = _text_columns(X)
    if found:
        raise ValueError(
            f"columns {found} hold categories or text, and a mix of two codes means nothing: one-hot encode them before, "
            f"make_pipeline(make_column_transformer((OneHotEncoder(sparse_output=False), {found}), "
            "remainder='passthrough'), ...); a column of numbers needs .astype(float)"
        )


def _text_columns(X: Any) -> list[int]:
    if not isinstance(X, np.ndarray) or X.ndim != 2 or X.dtype.kind not in "OUS":
        return []
    return [i for i, column in enumerate(X.T) if any(isinstance(value, (str, bytes)) for value in column)]
