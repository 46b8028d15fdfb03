"""One column of a table, read, and summed up for whoever wants to check how it was read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import polars as pl

from vicinal.lab.data import spellings
from vicinal.lab.data.columns import MISSING, infer, is_plain, is_text, to_numbers, to_strings
from vicinal.lab.data.read_options import Decimal, ReadOptions
from vicinal.lab.errors import UserError
from vicinal.lab.format import counted, quoted

FEW_VALUES = 20  # text of a typed file that spells at most this many different numbers is taken for categories
SHOWN = 3  # most frequent categories in a summary
LINES = 30  # columns that are printed

Role = Literal["input", "target", "group", "time", "none"]
ColumnKind = Literal["number", "categories", "yes/no", "date", "dropped"]


@dataclass(frozen=True)
class ColumnSummary:
    """How a column was read.

    Args:
        name: of the column.
        role: what it is used for.
        kind: what its cells are.
        missing: number of missing cells.
        spelled: for each word that was read as missing, how often; empty cells are "".
        levels: number of different values.
        low, high: least and greatest, for numbers; dates in days since 1970-01-01.
        frequent: the most frequent categories, first the most frequent.
        parsed: what was read as numbers because that was asked for, as "percents"; else empty.

    """

    name: str
    role: Role
    kind: ColumnKind
    missing: int = 0
    spelled: dict[str, int] = field(default_factory=dict)
    levels: int = 0
    low: float | None = None
    high: float | None = None
    frequent: list[str] = field(default_factory=list)
    parsed: str = ""

    def line(self) -> str:
        """Return one line about the column."""
        if self.kind == "dropped":
            return f"{self.name}: dropped"
        what = f"{self.kind}, {self.contents}" if self.low is not None and self.contents else self.contents or self.kind
        role = f" ({self.role})" if self.role != "input" else ""
        return f"{self.name}{role}: {what}{self._missing()}"

    @property
    def contents(self) -> str:
        """What its cells hold: the categories, or least and greatest; empty where the kind says all."""
        if self.kind == "categories":
            more = ", ..." if self.levels > len(self.frequent) else ""
            number = counted(self.levels, "category").replace("categorys", "categories")
            return f"{number}: {', '.join(self.frequent)}{more}"
        if self.low is None or self.kind == "yes/no":
            return ""
        low, high = (_shown(end, self.kind) for end in (self.low, self.high))
        return f"{low} to {high}{f', from {self.parsed}' if self.parsed else ''}"

    def _missing(self) -> str:
        if not self.missing:
            return ""
        words = {word: count for word, count in self.spelled.items() if word}
        told = ", ".join(f"{count} {word!r}" for word, count in words.items())
        kept = f"; --categorical {self.name!r} keeps the words" if words and self.kind == "categories" else ""
        return f"; {self.missing} missing{f' ({told}{kept})' if told else ''}"


def _shown(value: float | None, kind: ColumnKind) -> str:
    if value is None or kind != "date" or not abs(value) < 3e6:
        return f"{value:g}"
    return str(np.datetime64(round(value * 86400), "s").astype("datetime64[m]" if value % 1 else "datetime64[D]"))


def lines(columns: Sequence[ColumnSummary]) -> list[str]:
    """Return a line for each of the first `LINES` columns, and one that counts the others."""
    rest = len(columns) - LINES
    return [column.line() for column in columns[:LINES]] + ([f"and {counted(rest, 'more column')}"] if rest > 0 else [])


@dataclass(frozen=True, eq=False)
class ReadColumn:
    """A column as it was read: typed cells, how, and what is wrong with them, if anything is."""

    cells: pl.Series
    summary: ColumnSummary
    problem: str | None = None


def read_column(
    column: pl.Series,
    decimal: Decimal | None,
    options: ReadOptions,
    role: Role = "input",
) -> ReadColumn:
    """Read a column.

    Args:
        column: texts, or typed cells.
        decimal: mark in numbers that texts spell; None where text is text.
        options: what the user says about it.
        role: what it is used for.

    """
    name = column.name
    if not is_plain(column):
        shown = f"column {name!r} holds {column.dtype}, not numbers or text: drop it with --drop {name!r}"
        return ReadColumn(column, ColumnSummary(name, role, "dropped"), shown)
    asked = name in options.categorical
    declared = isinstance(column.dtype, pl.Enum)
    if is_text(column):
        cells, spelled = _without_missing(
            column, options.missing if asked or declared else (*MISSING, *options.missing)
        )
    else:
        cells, spelled = _without_numbers(column, options.missing)
    problem, parsed = None, ""
    if asked:
        cells = pl.Series(name, to_strings(cells) if not is_text(cells) else cells.to_list(), dtype=pl.String)
    elif name in options.parse:
        cells, problem, parsed = _parsed(cells, decimal or ".", options)
    elif is_text(cells) and (decimal or name in options.numeric):
        mark = "." if decimal is None else decimal
        cells = _strict_comma(cells) if options.decimal == "," else infer(cells, mark)
        cells, more = _without_numbers(cells, options.missing) if not is_text(cells) else (cells, {})
        spelled = {word: spelled.get(word, 0) + more.get(word, 0) for word in {**spelled, **more}}
    if problem is None and is_text(cells) and not asked:
        problem = _odd(cells, decimal, options, declared, role)
    return ReadColumn(cells, replace(_summary(name, cells, spelled, role), parsed=parsed), problem)


def read_again(column: pl.Series, is_number: bool, decimal: Decimal, options: ReadOptions, parsed: str) -> pl.Series:
    """Read a column of new rows as that of the training table was read.

    Args:
        column: texts, or typed cells.
        is_number: whether it is an input of numbers, and not of categories.
        decimal: mark in numbers that texts spell.
        options: what was said about the table.
        parsed: what was read as numbers: "numbers", "dates", "yes/no", or as in `ColumnSummary`; empty where that is not
            known.

    Raises:
        UserError: if cells are no such numbers, dates or answers.

    """
    if not is_plain(column):
        return column
    if not is_text(column):
        return _as_held(_without_numbers(column, options.missing)[0], parsed if is_number else "")
    # which of the usual words for missing are categories is known to the encoder
    cells, _ = _without_missing(column, (*MISSING, *options.missing) if is_number else options.missing)
    if not is_number:
        return cells
    if parsed in ("", *_FORMS):
        read = _strict_comma(cells) if options.decimal == "," else infer(cells, decimal)
        return _as_held(read if is_text(read) else _without_numbers(read, options.missing)[0], parsed, cells)
    spelling, texts = spellings.named(parsed, decimal), cells.drop_nulls().unique().sort().to_list()
    values = {text: spelling.value(text) if spelling and spelling.matches(text) else None for text in texts}
    if bad := [text for text, value in values.items() if value is None]:
        raise UserError(
            f"column {column.name!r} held {parsed} in training, and now holds {quoted(bad)}: spell them alike"
        )
    return cells.replace_strict(values, default=None, return_dtype=pl.Float64)


_FORMS = {"numbers": "as 1.5", "dates": "as 2020-01-31 or 2020-01-31 13:45", "yes/no": "as true or false"}


def _as_held(cells: pl.Series, held: str, spelled: pl.Series | None = None) -> pl.Series:
    """Return the cells of a column that held numbers, dates or answers in training; refuse those of another kind.

    Args:
        cells: as they were read.
        held: as `parsed` of `read_again`.
        spelled: the texts that they were read from, if they were texts.

    """
    temporal = cells.dtype.is_temporal()
    if not held or not cells.count():
        return cells
    if held == "dates" and is_text(cells):
        return _dates_of(cells)
    if held == "yes/no" and cells.dtype != pl.Boolean:
        numbers = to_numbers(cells)
        odd = numbers is None or not np.isin(numbers[~np.isnan(numbers)], (0, 1)).all()
    else:
        odd = temporal != held.startswith(("dates", "times", "years")) if temporal else held == "dates"
    if odd:
        raise _held_other(
            cells.name, held, list(dict.fromkeys(map(str, (spelled if spelled is not None else cells).drop_nulls())))
        )
    return cells


def _dates_of(cells: pl.Series) -> pl.Series:
    """Read texts one by one as dates, in days since 1970-01-01."""
    values: dict[str, float] = {}
    texts = cells.drop_nulls().unique().sort().to_list()
    for text in texts:
        one = infer(pl.Series([text]))
        if one.dtype.is_temporal() and (days := to_numbers(one)) is not None:
            values[text] = float(days[0])
    if bad := [text for text in texts if text not in values]:
        raise _held_other(cells.name, "dates", bad)
    return cells.replace_strict(values, default=None, return_dtype=pl.Float64)


def _held_other(name: str, held: str, found: Sequence[str]) -> UserError:
    form = f" ({_FORMS[held]})" if held in _FORMS else ""
    return UserError(
        f"column {name!r} held {held}{form} in training, and now holds {quoted(found)}: write them alike, or leave the "
        "cells empty"
    )


def _without_missing(column: pl.Series, words: Sequence[str]) -> tuple[pl.Series, dict[str, int]]:
    texts = column.cast(pl.String).str.strip_chars()
    gone = texts.is_in(["", *words]).fill_null(False)
    return texts.set(gone, None), dict(Counter(texts.filter(gone).to_list()).most_common())


def _without_numbers(column: pl.Series, words: Sequence[str]) -> tuple[pl.Series, dict[str, int]]:
    """Empty the cells that equal a number given as missing, as -999."""
    spelled: dict[str, int] = {}
    if not column.dtype.is_numeric():
        return column, spelled
    for word in words:
        try:
            same = column.cast(pl.Float64) == float(word)
        except ValueError:
            continue
        if count := int(same.fill_null(False).sum()):
            spelled[word] = count
            column = column.set(same.fill_null(False), None)
    return column, spelled


def _strict_comma(texts: pl.Series) -> pl.Series:
    """Read numbers with a decimal comma, where a point does not mark decimals; or whatever else texts spell."""
    if texts.str.contains(r"^[+-]?\d+(\.\d+)+$").any():
        return texts
    return infer(texts, ",")


def _parsed(cells: pl.Series, decimal: Decimal, options: ReadOptions) -> tuple[pl.Series, str | None, str]:
    """Return numbers, what is wrong with the cells, and what they hold."""
    name = cells.name
    if not is_text(cells) or to_numbers(cells) is not None:
        return infer(cells, decimal) if is_text(cells) else cells, None, ""
    texts = cells.drop_nulls().unique().sort().to_list()
    spelling = spellings.find(texts, decimal, options.dates)
    if spelling is None:
        return (
            cells,
            f"column {name!r} holds {quoted(texts, 3)}, which --parse cannot read: leave it out of --parse",
            "",
        )
    if spelling.name == spellings.AMBIGUOUS:
        return cells, f"column {name!r} holds {spelling.name}, as {texts[0]!r}: give --dates dmy or --dates mdy", ""
    values = {text: spelling.value(text) if spelling.matches(text) else None for text in texts}
    if bad := [text for text, value in values.items() if value is None]:
        but = f"column {name!r} holds {spelling.name}, but for {quoted(bad)}"
        return cells, f"{but}: {_missing_advice(bad)}, or correct those cells", ""
    return cells.replace_strict(values, default=None, return_dtype=pl.Float64), None, spelling.name


def _missing_advice(words: Sequence[str]) -> str:
    token = ",".join(words[:5])
    given = f"={token}" if token.startswith("-") else f" {token!r}"
    return f"--missing{given} reads {'that word' if len(words) == 1 else 'such words'} as missing"


def _odd(cells: pl.Series, decimal: Decimal | None, options: ReadOptions, declared: bool, role: Role) -> str | None:
    """Describe what makes a column of texts look like numbers or dates, if it does."""
    counts = cells.drop_nulls().value_counts()
    texts: list[str] = counts[cells.name].to_list()
    if not texts or (declared and cells.name not in options.numeric):
        return None
    called = f"the target {cells.name!r}" if role == "target" else f"column {cells.name!r}"
    keep = f"--categorical {cells.name!r} reads categories"
    numbers = pl.Series(texts).str.replace(",", ".") if decimal == "," else pl.Series(texts)
    spelled = numbers.cast(pl.Float64, strict=False).is_not_null()
    dates = pl.Series(texts).str.contains(r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?)?$")
    for what, good in (("numbers", spelled), ("dates", dates)):
        if bad := _few_others(counts, good):
            if what == "numbers" and (spelling := spellings.find(texts, decimal or ".", options.dates)):
                return _named(called, cells.name, spelling, texts, keep)
            advice = f"correct or empty those cells; {_missing_advice(bad)}; {keep}"
            return f"{called} is {what} but for {quoted(sorted(bad))}: {advice}"
        if decimal is None and good.all() and len(texts) > FEW_VALUES and not _are_codes(texts):
            return (
                f"{called} is text that spells {what}, as {texts[0]!r}: --numeric {cells.name!r} reads numbers; {keep}"
            )
    if cells.name in options.numeric:
        return f"{called} holds text such as {texts[0]!r}, and --numeric asks for numbers: leave it out of --numeric"
    spelling = spellings.find(texts, decimal or ".", options.dates)
    return None if spelling is None else _named(called, cells.name, spelling, texts, keep)


def _named(called: str, name: str, spelling: spellings.Spelling, texts: Sequence[str], keep: str) -> str:
    example = next(text for text in texts if spelling.matches(text) and not re.fullmatch(r"[\d.]+", text))
    order = " with --dates dmy or --dates mdy" if spelling.name == spellings.AMBIGUOUS else ""
    return f"{called} holds {spelling.name}, as {example!r}: --parse {name!r}{order} reads numbers; {keep}"


def _few_others(counts: pl.DataFrame, good: pl.Series) -> list[str]:
    """Return the other texts where most different texts, or nine of ten cells, are good; else nothing."""
    name, size = counts.columns
    cells = counts[size]
    most = 2 * int(good.sum()) > len(good) or 10 * int(cells.filter(good).sum()) >= 9 * int(cells.sum())
    return counts[name].filter(~good).to_list() if most and good.any() else []


def _are_codes(texts: Sequence[str]) -> bool:
    return any(len(text) > 1 and text[0] == "0" and text.isdigit() for text in texts)


def _summary(name: str, cells: pl.Series, spelled: dict[str, int], role: Role) -> ColumnSummary:
    missing = cells.null_count() + (int(cells.is_nan().sum()) if cells.dtype.is_float() else 0)
    present = cells.drop_nulls()
    if is_text(cells):
        order = Counter(present.cast(pl.String).to_list()).most_common()
        frequent = [str(word) for word, _ in sorted(order, key=lambda pair: (-pair[1], str(pair[0])))[:SHOWN]]
        return ColumnSummary(name, role, "categories", missing, spelled, len(order), frequent=frequent)
    kind: ColumnKind = "date" if cells.dtype.is_temporal() else "yes/no" if cells.dtype == pl.Boolean else "number"
    values = to_numbers(cells)
    values = values[~np.isnan(values)] if values is not None else np.empty(0)
    low, high = (float(values.min()), float(values.max())) if len(values) else (None, None)
    return ColumnSummary(name, role, kind, missing, spelled, len(np.unique(values)), low, high)
