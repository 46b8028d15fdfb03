"""How a table's file is read, where its content alone does not say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Decimal = Literal[".", ","]  # mark in numbers that are spelled as text
DateOrder = Literal["dmy", "mdy"]


@dataclass(frozen=True)
class ReadOptions:
    """What a user says about a file; a plain value, which `vicinal.lab.records` writes as JSON and reads again.

    Args:
        missing: words that stand for a missing cell, besides `vicinal.lab.data.columns.MISSING`.
        categorical: columns whose cells are categories, whatever they spell; only empty cells and `missing` are missing.
        numeric: columns whose cells are numbers, in files whose texts are text too (Parquet, ARFF).
        parse: columns of percents, money, thousands, units or dates, read as numbers (`vicinal.lab.data.spellings`).
        dates: order of day and month in dates such as 03/04/2020.
        decimal: mark in numbers; by default a point, and in a file separated by semicolons either.
        separator: one character between the cells of a text file; by default found in its first line.
        header: whether the first line of a text file holds names; without, columns are `column 1`, `column 2`, ...
        encoding: of a text file, by Python's name; by default UTF-8, and UTF-16 with a byte-order mark.
        sheet: of an Excel workbook; by default its only sheet that holds anything.

    """

    missing: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    parse: tuple[str, ...] = ()
    dates: DateOrder | None = None
    decimal: Decimal | None = None
    separator: str | None = None
    header: bool = True
    encoding: str | None = None
    sheet: str | None = None


AS_IT_IS = ReadOptions()
