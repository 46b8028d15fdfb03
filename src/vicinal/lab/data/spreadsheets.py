"""Excel workbooks (.xlsx), by the package fastexcel, an extra."""

from __future__ import annotations

import functools
import importlib.util
import io
import re
import zipfile

import polars as pl

from vicinal.lab import limits
from vicinal.lab.data import apart, unpacking
from vicinal.lab.errors import UserError
from vicinal.lab.format import did_you_mean, quoted

_CELL = re.compile(rb'<c\b[^>]*?\br="([A-Z]{1,4})(\d{1,9})"')
_MOST_CELLS = 200_000_000
_CHUNK = 1 << 20  # bytes of a sheet at a time


def read_sheet(raw: bytes, label: str, sheet: str | None = None) -> list[list[str]]:
    """Read the cells of a sheet as the texts that a CSV file would hold; empty cells, and those of errors, are "".

    Numbers are spelled in full, times by ISO 8601, booleans as true and false. Rows and columns without any cell around
    the table are left out, and so are empty rows.

    Args:
        raw: the file.
        label: what to call it in errors.
        sheet: the name; by default the only sheet that holds anything.

    Raises:
        UserError: the package is absent, the file is damaged, or there are several sheets and none was chosen.

    """
    if importlib.util.find_spec("fastexcel") is None:  # an extra
        raise UserError(
            f"{label!r} is an Excel workbook, which the package fastexcel reads: pip install 'vicinal[excel]', or save"
            f" the table as CSV instead"
        )
    _check_extent(raw, label)
    try:
        names, *frames = apart.read(raw, "excel", sheet=sheet)
        sheets = {
            name: _texts(*pair) for name, pair in zip(names, zip(frames[::2], frames[1::2], strict=True), strict=True)
        }
    except (apart.ReadingFailed, pl.exceptions.PolarsError, ValueError) as e:
        raise _unreadable(label, e) from e
    if sheet is not None and sheet not in sheets:
        raise UserError(
            f"{label!r} has no sheet {sheet!r} for --sheet: it has {quoted([*sheets], 20)}{did_you_mean(sheet, sheets)}"
        )
    filled = [name for name, rows in sheets.items() if rows]
    if sheet is None and len(filled) > 1:
        raise UserError(
            f"{label!r} has {len(filled)} sheets, {quoted(filled, 20)}: choose one with --sheet {filled[0]!r}"
        )
    return sheets[filled[0]] if filled else []


def _check_extent(raw: bytes, label: str) -> None:
    """Refuse sheets whose cells span more than could be held: fastexcel makes all of them, and would end the process."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            sheets = [name for name in archive.namelist() if re.fullmatch(r"xl/worksheets/[^/]+\.xml", name)]
            for name in sheets:
                columns, rows = {""}, 0
                with archive.open(name) as file:
                    chunks = iter(functools.partial(file.read, _CHUNK), b"")
                    text = limits.joined(chunks, label, "holds a sheet of", "save the table as CSV instead")
                for cell in _CELL.finditer(text):
                    columns.add(cell[1].decode())
                    rows = max(rows, int(cell[2]))
                last = max(columns, key=lambda letters: (len(letters), letters))
                width = sum(26**i * (ord(letter) - 64) for i, letter in enumerate(reversed(last)))
                if rows * width > _MOST_CELLS:
                    raise UserError(
                        f"a sheet of {label!r} has cells in row {rows} and in column {last}, with too many between: delete"
                        f" what stands far from the table"
                    )
    except unpacking.DAMAGE as e:
        raise _unreadable(label, e) from e


def _unreadable(label: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{label!r} is not a readable Excel workbook ({reason}): save the table as CSV instead")


def _texts(texts: pl.DataFrame, numbers: pl.DataFrame) -> list[list[str]]:
    rows = zip(texts.rows(), numbers.rows(), strict=True)
    return [[_text(*pair) for pair in zip(*row, strict=True)] for row in rows if any(row[0])]


def _text(text: str | None, number: float | None) -> str:
    """Return the text of a cell; fastexcel rounds numbers in texts to nine decimals."""
    if text is None or number is None:
        return text or ""
    try:
        return text if float(text) == number else repr(number)
    except ValueError:  # a boolean, which is a number too
        return text
