"""Numbers and names as tables, pages, figures and sentences write them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MINUS = "\N{MINUS SIGN}"
ABSENT = "\N{EN DASH}"
_MOST_DECIMALS = 7
_LARGE = 1e7


def is_finite(value: Any) -> bool:
    """Return True for a number that can be shown: a run that diverged leaves None or nan.

    Example:
        >>> is_finite(0.5), is_finite(None), is_finite(float("nan"))
        (True, False, False)

    """
    return isinstance(value, int | float) and math.isfinite(value)


@dataclass(frozen=True)
class NumberFormat:
    """How the values of one measure are written.

    Args:
        factor: what they are multiplied by.
        decimals: digits behind the point.
        minus: the minus sign, `MINUS` in typeset text.

    Example:
        >>> points = NumberFormat(100.0, 2)
        >>> points.text(0.0444), points.text(0.0, sign=True)
        ('4.44', '0.00')
        >>> points.interval(-0.01, 0.02, sign=True)
        '[-1.00, +2.00]'

    """

    factor: float = 1.0
    decimals: int = 3
    minus: str = "-"

    def text(self, value: Any, *, sign: bool = False) -> str:
        """Write a number, or a dash where there is none; a rounded zero has no sign."""
        if not is_finite(value):
            return ABSENT
        scaled = value * self.factor
        exponent = self.decimals > _MOST_DECIMALS or abs(scaled) >= _LARGE
        written = f"{scaled:+.3e}" if exponent else f"{scaled:+.{self.decimals}f}"
        zero = not written.strip("+-0.")
        if zero or not (sign or written[0] == "-"):
            written = written[1:]
        return written.replace("-", self.minus)

    def interval(self, low: Any, high: Any, *, sign: bool = False) -> str:
        """Write the two ends of an interval in brackets; empty where either is missing."""
        if not (is_finite(low) and is_finite(high)):
            return ""
        return f"[{self.text(low, sign=sign)}, {self.text(high, sign=sign)}]"


def significant(values: Iterable[Any], digits: int, least: int = 0, minus: str = "-") -> NumberFormat:
    """Return the format whose decimals show `digits` significant digits of the largest value, but at least `least`.

    Example:
        >>> significant([54.321, 3.2], 4)
        NumberFormat(factor=1.0, decimals=2, minus='-')

    """
    largest = max((abs(value) for value in values if is_finite(value)), default=0.0)
    whole = math.floor(math.log10(largest)) if largest else 0
    return NumberFormat(1.0, max(least, digits - 1 - whole), minus)


def p_value(p: Any, equals: str = "") -> str:
    """Write a p-value; `equals` stands before it where it is not below the least that is written.

    No rounding makes it 0.05, from which on nothing is shown.

    Example:
        >>> p_value(0.012), f"p {p_value(0.012, '= ')}", f"p {p_value(1e-9, '= ')}"
        ('0.012', 'p = 0.012', 'p < 0.0001')
        >>> p_value(0.0499), p_value(0.05), p_value(0.05004)
        ('0.0499', '0.05', '0.05004')

    """
    if not is_finite(p):
        return ABSENT
    digits = next((n for n in range(2, 16) if float(f"{p:.{n}g}") != 0.05), 2)
    return "< 0.0001" if p < 1e-4 else f"{equals}{p:.{digits}g}"


def counted(n: int, noun: str) -> str:
    """Return "1 row" or "2 rows"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def there_are(n: int, noun: str) -> str:
    """Return "there is 1 row" or "there are 2 rows"."""
    return f"there {'is' if n == 1 else 'are'} {counted(n, noun)}"


def quoted(names: Sequence[str], limit: int = 5) -> str:
    """Quote up to `limit` names and count the rest."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def shortened(name: str, longest: int = 120) -> str:
    """Return a name that may stand in a sentence: one that is longer than any that people give is cut.

    Example:
        >>> shortened("outcome"), shortened("a" * 1000, 5)
        ('outcome', 'aaaa…')

    """
    return name if len(name) <= longest else f"{name[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"


def closest(word: str, names: Iterable[str]) -> str | None:
    """Return the name most like `word`, in upper or lower case, or None."""
    folded = {name.lower(): name for name in names}
    found = difflib.get_close_matches(word.lower(), folded, n=1)
    return folded[found[0]] if found else None


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return the end of a sentence that proposes the name most like `word`, or nothing."""
    name = closest(word, names)
    return "" if name is None else f"; did you mean {name!r}?"
