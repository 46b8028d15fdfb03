"""What a user of a table should know before believing a test error: rows that repeat, and columns that name rows."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from vicinal.lab.format import counted

_IDENTIFIERS = {"id", "ids", "pid", "uid", "uuid", "guid", "key", "index", "idx", "order", "no", "nr", "row"}
_GROUPS = _IDENTIFIERS | {
    *("patient", "subject", "person", "participant", "user", "customer", "client", "group", "session", "household"),
    *("family", "student", "player", "speaker", "animal", "batch"),
}


def duplicates(numeric: NDArray[np.float64], codes: NDArray[np.int64], target: NDArray[np.generic]) -> list[str]:
    """Return a note about rows that equal an earlier one in every input and the target, if there are any."""
    rows = np.concatenate([np.nan_to_num(numeric, nan=1e300), codes, target[:, None]], axis=1, dtype=np.float64)
    rows = np.ascontiguousarray(rows + 0.0)  # -0 equals 0
    repeated = len(rows) - len(np.unique(rows.view(np.dtype((np.void, rows.strides[0])))))
    if not repeated:
        return []
    verb = "equals" if repeated == 1 else "equal"
    return [
        f"{counted(repeated, 'row')} {verb} an earlier row in every input and the target"
        ": copies of training rows may be tested"
    ]


def numbered(name: str, values: NDArray[np.float64]) -> list[str]:
    """Return a note if a column of numbers seems to name rows, or the persons or groups that rows belong to.

    Args:
        name: of the column.
        values: its numbers [n], nan where missing; or positions of categories, -1 where missing.

    """
    present = values[np.isfinite(values)]
    if not len(present) or (present != np.floor(present)).any():
        return []
    levels, sizes = np.unique(present, return_counts=True)
    words = set(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name))
    words = {word.lower() for word in words} | {name.lower()}
    if len(levels) == len(values):
        in_a_row = levels[-1] - levels[0] == len(levels) - 1
        if in_a_row or words & _IDENTIFIERS:
            return [
                f"column {name!r} has another whole number in every row, as an identifier has: --drop {name!r} drops it"
            ]
        return []
    if words & _GROUPS and 5 <= len(levels) <= len(values) / 2 and np.median(sizes) >= 2:
        return [
            f"column {name!r} has {len(levels)} values in {counted(len(values), 'row')}, and may name persons or groups"
            f": then rows of one are in training and test; --group {name!r} keeps them together"
        ]
    return []
