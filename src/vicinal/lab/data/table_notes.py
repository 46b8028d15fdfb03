"""What a user of a table should know before believing a test error: rows that repeat, columns that name rows, words that are
almost the same, and words that were looked for in vain.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from vicinal.lab.format import counted, quoted

_IDENTIFIERS = {"id", "ids", "pid", "uid", "uuid", "guid", "key", "index", "idx", "order", "no", "nr", "row"}
_GROUPS = _IDENTIFIERS | {
    *("patient", "subject", "person", "participant", "user", "customer", "client", "group", "session", "household"),
    *("family", "student", "player", "speaker", "animal", "batch"),
}
_SHOWN = 3  # groups of words


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
        if levels[0] in (0, 1) and (np.diff(values) == 1).all():
            return [
                f"column {name!r} counts the rows from {levels[0]:.0f} to {levels[-1]:.0f}, as a saved row index does"
                f": --drop {name!r} leaves it out"
            ]
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


def alike(what: str, words: Sequence[str]) -> list[str]:
    """Return a note about words that differ in case, spaces or the encoding of accents alone, if there are any.

    Args:
        what: whose they are, as "classes of 'y'".
        words: different ones.

    """
    groups: dict[str, list[str]] = {}
    for word in words:
        groups.setdefault("".join(unicodedata.normalize("NFKC", word).casefold().split()), []).append(word)
    found = [group for group in groups.values() if len(group) > 1]
    if not found:
        return []
    shown = "; ".join(quoted(group) for group in found[:_SHOWN])
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return [
        f"{what} differ only in case, spaces or encoding ({shown}{more}) and count as different"
        ": spell them alike if they are one"
    ]


def unused(missing: Sequence[str], spelled: Collection[str]) -> list[str]:
    """Return a note about words given as missing that no cell holds.

    Args:
        missing: the words.
        spelled: those that cells hold.

    """
    vain = [word for word in dict.fromkeys(missing) if word not in spelled]
    if not vain:
        return []
    return [f"--missing {quoted(vain, 10)}: no cell holds {'it' if len(vain) == 1 else 'them'}"]
