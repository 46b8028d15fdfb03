"""Label noise, as in the paper's section 3.4."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicinal.lab.data.splits import Labeled, keyed
from vicinal.lab.errors import UserError
from vicinal.lab.streams import Stream


def corrupt_labels(
    table: Labeled, rows: NDArray[np.int64], fraction: float, seed: int
) -> NDArray[np.int64] | NDArray[np.float64]:
    """Replace the targets of some rows by random ones.

    Each of `rows` is chosen with probability `fraction`. A chosen row gets a class drawn evenly from all classes, the
    true one included (the protocol of the paper, after pluskid/fitting-random-labels), so that about
    fraction * (C - 1) / C of the labels become wrong; in regression it gets the target of a random row of `rows`.
    With the same seed, the rows chosen at a smaller fraction are also chosen at a larger one.

    Args:
        table: its target is left as it is.
        rows: int64, the rows that may change, usually the training rows; their order is of no account.
        fraction: 0 <= fraction <= 1.
        seed: 0 <= seed < 2**64.

    Returns:
        A new target array, like ``table.target``.

    Raises:
        UserError: if `fraction` is not between 0 and 1.
        IndexError: if `rows` are not rows of the table.
        ValueError: if the seed is out of range.

    """
    if not 0 <= fraction <= 1:
        raise UserError(f"a label noise of {fraction:g} is no share of the rows: give a number from 0 to 1")
    n = len(table)
    rows = np.unique(np.asarray(rows, dtype=np.int64))
    if len(rows) and not (rows[0] >= 0 and rows[-1] < n):
        raise IndexError(f"rows must lie in [0, {n}), got {rows[0]} to {rows[-1]}")
    rng = keyed(seed, Stream.LABEL_NOISE)
    # Drawn for all rows, so that a row's fate does not hang on which others are given.
    chosen = rows[rng.random(n)[rows] < fraction]
    target = table.target.copy()
    if table.classes:
        target[chosen] = rng.integers(len(table.classes), size=n)[chosen]
    elif len(rows):
        target[chosen] = table.target[rows[rng.integers(len(rows), size=n)[chosen]]]
    return target
