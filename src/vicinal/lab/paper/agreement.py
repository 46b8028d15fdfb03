"""How the rows of a table compare with the published numbers: differences first, then levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from vicinal.lab.paper.study import AtScale, Row, Scale, Study
from vicinal.lab.statistics import Interval, holm, paired

Difference = Literal["as published", "opposite", "unclear", "equal in print", "", "not run"]
Level = Literal["agrees", "differs", "unclear", "scaled down", "", "not run"]

SIGNIFICANT = 0.05  # of all differences of a table together (Holm, 1979)
TOLERANCE = 0.1  # a level agrees if its whole interval lies within this share of the published number
SEED_SD = 0.2  # points: assumed spread of an error over seeds, where there is one run


class Agreement(NamedTuple):
    """How a row compares with the published number.

    difference: to the row that the paper compares it with, taken within seeds. "as published": it has the published sign,
    and its p-value is below 0.05 after Holm's correction for all differences of the table; "opposite": likewise, with the
    other sign; "unclear": else; "equal in print": the paper's numbers are equal; empty: the paper compares it with no
    other row, or gives no number.

    level: "agrees": the whole 95 % interval lies within a tenth of the published number; "differs": the whole interval
    lies beyond; "unclear": else; "scaled down": so is the study, and levels do not compare; empty: the paper gives no
    number.
    """

    difference: Difference
    level: Level


def agreements(rows: Sequence[Row], at: AtScale) -> list[Agreement]:
    """Return how each row of a table compares with the published numbers.

    Of a single run the interval and the test are those of a binomial error over the test examples, `at.test_examples`,
    with an assumed spread of 0.2 points over seeds.

    Example:
        >>> from vicinal.lab.paper.study import Published
        >>> erm = Row("ERM", "error, %", Published(21.0), (19.8, 20.1, 20.2))
        >>> mixup = Row("mixup", "error, %", Published(18.0), (15.1, 14.9, 15.3), against="ERM")
        >>> for each in agreements([erm, mixup], AtScale("none", 1.0, full=True)):
        ...     print(each.difference or "-", each.level, sep=", ")
        -, agrees
        as published, differs

    """
    by_name = {row.name: row for row in rows}
    found = {row.name: _p(row, by_name[row.against], at) for row in rows if row.against in by_name}
    tested = {name: p for name, p in found.items() if p is not None}
    p = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [Agreement(_difference(row, by_name, p), _level(row, at)) for row in rows]


def format_agreements(study: Study, scale: Scale, rows: Sequence[Row]) -> list[Agreement]:
    """Return how the rows compare; nothing for the quick run, whose figures mean nothing."""
    return [Agreement("", "")] * len(rows) if scale == "smoke" else agreements(rows, study.scales[scale])


def _difference(row: Row, by_name: dict[str, Row], p: dict[str, float]) -> Difference:
    other = by_name.get(row.against or "")
    if other is None:
        return ""
    if not (row.values and other.values):
        return "not run"
    if row.published is None or other.published is None:
        return ""
    if row.published.value == other.published.value:
        return "equal in print"
    if p.get(row.name, 1.0) >= SIGNIFICANT:
        return "unclear"
    ours = sum(a - b for a, b in zip(row.values, other.values, strict=False))
    return "as published" if (ours > 0) == (row.published.value > other.published.value) else "opposite"


def _p(row: Row, other: Row, at: AtScale) -> float | None:
    """Return the p-value of no difference, not corrected; None where nothing can be tested or the paper shows none."""
    differences = [a - b for a, b in zip(row.values, other.values, strict=False)]
    if not differences or row.published is None or other.published is None or row.published == other.published:
        return None
    if len(differences) > 1:
        return paired(differences, row.test_share).p
    if not at.test_examples or "%" not in row.measure:
        return None
    (ours, *_), (theirs, *_) = row.values, other.values
    error = math.hypot(_spread(ours, at.test_examples), _spread(theirs, at.test_examples))
    return math.erfc(abs(differences[0]) / error / math.sqrt(2))


def _spread(error: float, examples: int) -> float:
    """Return the standard error of one run's error in %: of the test examples drawn, and of the seed."""
    share = error / 100
    return math.hypot(100 * math.sqrt(share * (1 - share) / examples), SEED_SD)


def _level(row: Row, at: AtScale) -> Level:
    if not row.values:
        return "not run"
    if row.published is None:
        return ""
    if not at.full:
        return "scaled down"
    own, tolerance = _interval(row, at), TOLERANCE * abs(row.published.value)
    if own is None:
        return "unclear"
    low, high = row.published.value - tolerance, row.published.value + tolerance
    if low <= own.low and own.high <= high:
        return "agrees"
    return "differs" if own.high < low or high < own.low else "unclear"


def _interval(row: Row, at: AtScale) -> Interval | None:
    if len(row.values) != 1:
        return row.interval
    if not at.test_examples or "%" not in row.measure:
        return None
    value = row.values[0]
    half = 1.96 * _spread(value, at.test_examples)
    return Interval(value, value - half, value + half)
