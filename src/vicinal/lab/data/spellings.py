"""Numbers and dates that texts spell in other ways: percents, money, thousands, units, dates with slashes.

None of them is read unless that is asked for: each is named, so that it is not taken for a category or an identifier.
A cell's value depends on its text and on the order of day and month alone, never on other cells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from vicinal.lab.data.read_options import DateOrder, Decimal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = {
    ".": r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?",
    ",": r"[+-]?(?:\d{1,3}(?:[. ]\d{3})+|\d+)(?:,\d+)?",
}
_MONEY = r"(?:[$€£¥₹]|USD|EUR|GBP|CHF|JPY|Rs\.?)"
_CLOCK = r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)?"
_UNIT = r"(?: +[^\W\d_][\w/%°.²³]*|kg|g|mg|lbs?|cm|mm|km|km/h|mph|kmpl|CC|cc|bhp|hp|ml|l|ms|GB|MB|TB|°C|°F)"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_EITHER = re.compile(rf"(\d{{1,2}})([/.-])(\d{{1,2}})\2(\d{{4}}|\d{{2}})({_CLOCK})")
_FIRST: Mapping[DateOrder, str] = {"dmy": "dates with the day first", "mdy": "dates with the month first"}


@dataclass(frozen=True)
class Spelling:
    """A way to spell numbers.

    Args:
        name: what the cells hold, as a sentence names it.
        matches: whether a text is spelled so.
        value: of a text that matches: a number, or days since 1970-01-01; None for a date that does not exist.

    """

    name: str
    matches: Callable[[str], object]
    value: Callable[[str], float | None]


def find(texts: Sequence[str], decimal: Decimal, order: DateOrder | None) -> Spelling | None:
    """Return the spelling of more than half of some different texts, or None.

    Args:
        texts: the different values of a column, none of them missing.
        decimal: mark in numbers.
        order: of day and month; None: as the texts show it, where they do.

    """
    for spelling in (*_numbers(decimal, _unit(texts, decimal)), *_dates(order or _order(texts))):
        matching = [text for text in texts if spelling.matches(text)]
        if 2 * len(matching) > len(texts) and not all(_is_plain(text) for text in matching):
            return spelling
    return None


def named(name: str, decimal: Decimal) -> Spelling | None:
    """Return the spelling that `find` found under a name; None if there is none with this mark in numbers."""
    unit = re.fullmatch(r"numbers with the unit '(.+)'", name)
    order: DateOrder = "mdy" if name == _FIRST["mdy"] else "dmy"
    known = (*_numbers(decimal, unit[1] if unit else ""), *_dates(order))
    return next((spelling for spelling in known if spelling.name == name), None)


def _is_plain(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(decimal: Decimal, unit: str) -> list[Spelling]:
    number, other = _NUMBER[decimal], _NUMBER["." if decimal == "," else ","]
    found = [
        Spelling("percents", re.compile(rf"{number} ?%").fullmatch, lambda text: _value(text, decimal) / 100),
        Spelling(
            "amounts of money",
            re.compile(rf"[+-]?\(?{_MONEY} ?{number}\)?|[+-]?{number} ?{_MONEY}").fullmatch,
            lambda text: _value(text, decimal) * (-1 if text.startswith("(") else 1),
        ),
        Spelling("numbers with thousands separators", re.compile(number).fullmatch, lambda text: _value(text, decimal)),
    ]
    mark = "," if decimal == "." else "."
    foreign: Decimal = "," if decimal == "." else "."
    found.append(
        Spelling(
            f"numbers with {mark!r} before the decimals",
            re.compile(rf"{other}|[+-]?{other} ?{_MONEY}|{_MONEY} ?{other}").fullmatch,
            lambda text: _value(text, foreign),
        )
    )
    if unit:
        one = re.compile(rf"{number} *{re.escape(unit)}")
        cut = len(unit)
        found.append(
            Spelling(f"numbers with the unit {unit!r}", one.fullmatch, lambda text: _value(text[:-cut], decimal))
        )
    return found


def _unit(texts: Sequence[str], decimal: Decimal) -> str:
    """Return the most frequent unit of more than two texts; empty where there is none."""
    with_unit = re.compile(rf"({_NUMBER[decimal]})({_UNIT})")
    units = [match[2].strip() for text in texts if (match := with_unit.fullmatch(text))]
    return max(sorted(set(units)), key=units.count, default="") if len(set(texts)) > 2 else ""


def _value(text: str, decimal: Decimal) -> float:
    kept = re.sub(r"[^\d.,+-]", "", text).strip(".,")
    return float(kept.replace(",", "") if decimal == "." else kept.replace(".", "").replace(",", "."))


def _order(texts: Sequence[str]) -> DateOrder | None:
    """Return the order of day and month that dates show, if they do."""
    pairs = [(int(m[1]), int(m[3])) for text in texts if (m := _EITHER.fullmatch(text))]
    first, second = any(a > 12 for a, _ in pairs), any(b > 12 for _, b in pairs)
    return None if first == second else "dmy" if first else "mdy"


def _dates(order: DateOrder | None) -> list[Spelling]:
    day, month = (3, 1) if order == "mdy" else (1, 3)
    iso = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?[+-]\d{2}(:?\d{2})?")
    year_first = re.compile(rf"(\d{{4}})([/.])(\d{{1,2}})\2(\d{{1,2}})({_CLOCK})")
    year_month = re.compile(r"(\d{4})-(\d{1,2})")
    words = re.compile(r"(?:(\d{1,2})[ -])?([A-Za-z]{3})[a-z]*\.?[ -](?:(\d{1,2}),? )?(\d{4})")
    clock = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")

    def by_groups(pattern: re.Pattern[str], y: int, m: int, d: int, clock: int) -> Callable[[str], float | None]:
        def value(text: str) -> float | None:
            found = pattern.fullmatch(text)
            return _days(found[y], found[m], found[d], found[clock]) if found else None

        return value

    def in_words(text: str) -> float | None:
        found = words.fullmatch(text)
        if not found or found[2].lower() not in _MONTHS or (found[1] and found[3]):
            return None
        return _days(found[4], str(_MONTHS.index(found[2].lower()) + 1), found[1] or found[3] or "1", "")

    def of_day(text: str) -> float | None:
        found = clock.fullmatch(text)
        return None if found is None else (int(found[1]) + int(found[2]) / 60 + int(found[3] or 0) / 3600) / 24

    return [
        Spelling("times with an offset from UTC", iso.fullmatch, _with_offset),
        Spelling("dates with slashes or points", year_first.fullmatch, by_groups(year_first, 1, 3, 4, 5)),
        Spelling(
            "years and months",
            year_month.fullmatch,
            lambda text: None if not (m := year_month.fullmatch(text)) else _days(m[1], m[2], "1", ""),
        ),
        Spelling("dates with the month in words", lambda text: in_words(text) is not None, in_words),
        Spelling("times of the day", clock.fullmatch, of_day),
        Spelling(
            _FIRST[order] if order else AMBIGUOUS,
            _EITHER.fullmatch,
            by_groups(_EITHER, 4, month, day, 5) if order else _unknown,
        ),
    ]


AMBIGUOUS = "dates that do not show whether the day or the month is first"


def _unknown(text: str) -> None:
    return None


def _days(year: str, month: str, day: str, clock: str) -> float | None:
    number = int(year)
    if len(year) == 2:  # as POSIX reads them
        number += 2000 if number < 69 else 1900
    parts = [float(part) for part in clock[1:].split(":")] if clock else []
    try:
        date = datetime(number, int(month), int(day), tzinfo=UTC)
    except ValueError:
        return None
    return (date - _EPOCH).days + sum(part / unit for part, unit in zip(parts, (24, 1440, 86400), strict=False))


def _with_offset(text: str) -> float | None:
    if re.search(r"[+-]\d{2}$", text):
        text += ":00"
    try:
        return (datetime.fromisoformat(text) - _EPOCH).total_seconds() / 86400
    except ValueError:
        return None
