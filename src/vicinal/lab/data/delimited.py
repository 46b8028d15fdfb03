"""Delimited text, such as CSV, as a frame of strings; all that is wrong with its lines is told at once."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import polars as pl

from vicinal.lab.data.columns import MISSING
from vicinal.lab.errors import UserError, of_all
from vicinal.lab.format import counted, quoted, there_are

_A_LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")  # as str.splitlines parts them
_QUOTED = re.compile(r'"[^"]*"')
_LONGEST_NUMBER = 18  # digits of a whole number that may be a name
_SHOWN = 5  # bad lines, of which each is described


def read_delimited(
    text: str, label: str, separator: str, names: Sequence[str] | None = None, problems: list[str] | None = None
) -> pl.DataFrame:
    """Read delimited text into a frame of strings.

    Args:
        text: quoted by RFC 4180; lines may end in LF, CRLF or CR; blank lines are skipped.
        label: what to call the file in errors.
        separator: one character; any number of spaces where it is a space.
        names: the columns' names, if the text has no header line.
        problems: where broken lines are described, if they are a tenth at most, so that the other lines can be looked at
            too before all is refused; by default they are refused here.

    Raises:
        UserError: for lines with too many or too few values, broken quotations, and a bad header.

    """
    found = _records(text, separator)
    header = list(names) if names is not None else [name.strip() for name in found.rows.pop(0)] if found.rows else None
    if header is None:
        if found.broken:
            raise UserError(_lines(label, found.broken))
        raise UserError(f"{label!r} is empty: give a table with a header line and rows below it")
    first = 0 if names is not None else found.lines.pop(0)
    width, faults = len(header), []
    if names is None:
        width = _usual(found.rows, header)
        faults = (
            header_problems(header, label) if width == len(header) else [_title(header, first, found, width, label)]
        )
    bad = {line: f"has {counted(len(row), 'value')}" for line, row in found if len(row) != width}
    if faults and width != len(header):  # lines above the first whole one belong to the title
        whole = next(line for line, row in found if len(row) == width)
        bad = {line: what for line, what in bad.items() if line > whole}
    bad |= found.broken
    if bad:
        told = _lines(label, bad, there_are(width, "column"))
        (faults if faults or problems is None or 10 * len(bad) > len(found.rows) else problems).append(told)
    if faults:
        raise of_all(label, faults)
    rows = [row for row in found.rows if len(row) == width]
    if len(header) == 1 and rows and _has_spaces(header[0]) and all(" " in row[0].strip() for row in rows):
        raise UserError(
            f"{label!r} has one column, {header[0]!r}, by its separator {separator!r}: give the right one, as"
            f" --separator space"
        )
    return pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row")


def framed(rows: Sequence[list[str]], label: str, names: Sequence[str] | None = None) -> pl.DataFrame:
    """Return rows of texts of one length as a frame; the first holds the names, if none are given.

    Raises:
        UserError: there are no rows, or the names are no names.

    """
    if not rows:
        raise UserError(f"{label!r} is empty: give a table with a header line and rows below it")
    header = [name.strip() for name in rows[0]] if names is None else list(names)
    if names is None and (problems := header_problems(header, label)):
        raise of_all(label, problems)
    body = rows[1:] if names is None else rows
    return pl.DataFrame(body, schema=dict.fromkeys(header, pl.String), orient="row")


def first_row(text: str, separator: str) -> list[str]:
    """Return the values of the first line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator == " ")
    return next((_without_end(row, separator) for row in reader if not _is_blank(row)), [])


def find_separator(text: str) -> str:
    """Find the separator in the first line that has one: a comma, or else the first of semicolon, tab and bar."""
    for found in _A_LINE.finditer(text):
        bare = _QUOTED.sub("", found[0])
        if mark := next((mark for mark in (",", ";", "\t", "|") if mark in bare), None):
            return mark
    return ","


# ---- lines


@dataclass
class _Records:
    """Rows of values, the line of the text where each begins, and for each broken line what is wrong."""

    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    broken: dict[int, str] = field(default_factory=dict)

    def __iter__(self):
        return zip(self.lines, self.rows, strict=True)


def _records(text: str, separator: str) -> _Records:
    # polars' own reader fills short lines up without a word, and refuses a bare quotation mark, as in 5" pipe
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=separator == " "
    )
    found, line = _Records(), 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return found
        except csv.Error as e:  # the next line is read again from its beginning
            open_end = str(e) == "unexpected end of data"
            found.broken[line] = "begins a quotation that never ends" if open_end else f"is not valid CSV ({e})"
        else:
            if not _is_blank(row):
                found.rows.append(_without_end(row, separator))
                found.lines.append(line)
        line = reader.line_num + 1


def _is_blank(row: Sequence[str]) -> bool:
    return len(row) <= 1 and not "".join(row).strip()


def _without_end(row: list[str], separator: str) -> list[str]:
    """Return a row without the empty value that spaces at the end of a line make."""
    return row[:-1] if separator == " " and len(row) > 1 and not row[-1] else row


def _usual(rows: Sequence[Sequence[str]], header: Sequence[str]) -> int:
    """Return the number of values of most rows where the header seems to be the odd one, or else that of the header."""
    if not rows:
        return len(header)
    usual, count = Counter(map(len, rows)).most_common(1)[0]
    odd = usual > len(header) or (usual < len(header) and not header[-1])
    return usual if odd and 2 * count > len(rows) else len(header)


def _title(header: Sequence[str], first: int, found: _Records, width: int, label: str) -> str:
    """Describe a first line that has another number of values than the lines below."""
    whole = next(line for line, row in found if len(row) == width)
    above = sum(line < whole for line in found.lines)
    shown = repr(header[0] if len(header) == 1 else ", ".join(header))
    if len(shown) > 60:
        shown = f"{shown[:57]}...'"
    if len(header) > width:
        return (
            f"the first line of {label!r} has {counted(len(header), 'name')} (the last is empty), and line {whole} and most"
            f" below have {counted(width, 'value')}: correct the first line"
        )
    if len(header) > 1 and not above and width == len(header) + 1:
        reason = (
            "end in a separator: remove it"
            if all(not row[-1] for row in found.rows if len(row) == width)
            else "begin with names of rows, as those of R's write.table do: add a name for that column"
        )
        return (
            f"the first line of {label!r} has {counted(len(header), 'name')}, and the lines below have"
            f" {counted(width, 'value')}; these may {reason}, or remove the first line if it is a title"
        )
    values = "one value" if len(header) == 1 else counted(len(header), "value")
    if above:
        return (
            f"lines {first} to {whole - 1} of {label!r}, beginning with {shown}, {values}, stand above line {whole}, which"
            f" has {width} as most do: remove a title or comment above the names, or give the --separator"
        )
    return (
        f"the first line of {label!r} is {shown}, {values}, and line {whole} has {width}"
        f": remove a title or comment above the names, or give the --separator"
    )


def _lines(label: str, bad: dict[int, str], expected: str = "") -> str:
    """Describe bad lines: one of them, or how many there are and the first."""
    but = f", but {expected}" if expected else ""
    if len(bad) == 1:
        ((line, what),) = bad.items()
        but = but if what.startswith("has") else ""
        return f"line {line} of {label!r} {what}{but}: correct that line"
    shown = ", ".join(f"line {line} {bad[line]}" for line in sorted(bad)[:_SHOWN])
    more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return f"{len(bad)} lines of {label!r} are broken ({shown}{more}){but}: correct those lines"


def _has_spaces(name: str) -> bool:
    return re.search(r"\S[ :]+\S", name) is not None


# ---- names


def header_problems(header: Sequence[str], label: str) -> list[str]:
    """Return a sentence for each thing that is wrong with the columns' names."""
    if value := _value_among(header):
        return [
            f"the first line of {label!r} holds values such as {value!r}: add a header line with the columns' names, or give"
            f" --no-header"
        ]
    problems = []
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        problems.append(
            f"{label!r} has more than one column named {quoted(twice)}"
            f": give each column a name of its own, in a header line"
        )
    unnamed = [place for place, name in enumerate(header, 1) if not name]
    if len(unnamed) > 1:
        places = ", ".join(map(str, unnamed[:_SHOWN])) + (", ..." if len(unnamed) > _SHOWN else "")
        problems.append(f"columns {places} of {label!r} have no name: give each one, or remove empty columns")
    return problems


def _value_among(header: Sequence[str]) -> str | None:
    """Return a name that is a value: a number but a whole one, or whole numbers in no order all over.

    Whole numbers may be names, as years and pixels are, which then rise or fall.
    """
    whole: list[int] = []
    for name in header:
        try:
            float(name)
        except ValueError:
            continue
        if name in MISSING:
            continue
        if not name.isdecimal() or len(name) > _LONGEST_NUMBER:
            return name
        whole.append(int(name))
    if len(whole) < 2 or len(whole) < len(header) - 1:
        return None
    steps = [b - a for a, b in pairwise(whole)]
    ordered = all(step > 0 for step in steps) or all(step < 0 for step in steps)
    return None if ordered else str(whole[0])
