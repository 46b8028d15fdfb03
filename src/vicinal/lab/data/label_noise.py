"""Label noise, as in the paper's section 3.4: one draw for every command."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.keyed import Key
from vicinal.lab.errors import UserError
from vicinal.lab.streams import Stream


def corrupt_labels(
    target: NDArray[Any], classes: int, fraction: float, seed: int, *, rows: NDArray[np.int64] | None = None
) -> NDArray[Any]:
    """Replace the targets of some rows by random ones.

    Each of `rows` is chosen with probability `fraction`. A chosen row gets a class drawn evenly from all classes, the
    true one included (the protocol of the paper, after pluskid/fitting-random-labels), so that about
    fraction * (C - 1) / C of the labels become wrong; in regression it gets the target of a random row of `rows`.
    With the same seed, the rows chosen at a smaller fraction are also chosen at a larger one.

    Args:
        target: [n], left as it is: class indices, or numbers.
        classes: number of classes; 0 for regression.
        fraction: 0 <= fraction <= 1.
        seed: 0 <= seed < 2**64.
        rows: int64, the rows that may change, usually the training rows, in any order; by default all.

    Returns:
        A new array, like `target`.

    Raises:
        UserError: if `fraction` is not between 0 and 1.
        IndexError: if `rows` are not rows of `target`.
        ValueError: if the seed is out of range.

    """
    if not 0 <= fraction <= 1:
        raise UserError(f"a label noise of {fraction:g} is not a share of the rows: give a number from 0 to 1")
    n = len(target)
    rows = np.arange(n) if rows is None else np.unique(np.asarray(rows, dtype=np.int64))
    if len(rows) and not (rows[0] >= 0 and rows[-1] < n):
        raise IndexError(f"rows must lie in [0, {n}), got {rows[0]} to {rows[-1]}")
    rng = Key(seed, 0, 0, 0, Stream.LABEL_NOISE).generator()
    # Drawn for all rows, so that a row's fate does not hang on which others are given.
    chosen = rows[rng.random(n)[rows] < fraction]
    target = target.copy()
    if classes:
        target[chosen] = rng.integers(classes, size=n)[chosen]
    elif len(rows):
        target[chosen] = target[rows[rng.integers(len(rows), size=n)[chosen]]]
    return target


def chosen_rows(n: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return which of n rows `corrupt_labels` replaces, those whose random label is the true one included."""
    return Key(seed, 0, 0, 0, Stream.LABEL_NOISE).generator().random(n) < fraction
