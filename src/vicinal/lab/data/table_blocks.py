"""Tables a block of rows at a time: of a large file of delimited text or Parquet memory holds one block."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from vicinal.lab import limits
from vicinal.lab.data import apart, table_files
from vicinal.lab.data.delimited import find_separator
from vicinal.lab.data.read_options import Decimal, ReadOptions
from vicinal.lab.errors import UserError

LARGE = 1 << 26  # bytes of a file, from which on it is read in blocks
ROWS = 4096  # blocks are of a multiple of these
_CELLS, _CHARACTERS = 1 << 20, 1 << 23  # from which on a block ends
_HEAD = 1 << 20  # bytes that show what a file is
_TEXTS = (".csv", ".tsv", ".txt", ".data")
_SEPARATOR = re.compile(r'"?sep=([^\r\n"])"?\r?\n?')


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of a table.

    Args:
        start: number of the rows before it.
        frame: its columns.
        decimal: mark in numbers that its texts may spell; None where text is text.

    """

    start: int
    frame: pl.DataFrame
    decimal: Decimal | None


def blocks(path: Path, options: ReadOptions) -> Iterator[Block]:
    """Yield a table in blocks, in the order of its rows; one that is small, packed or of another kind as one block.

    Raises:
        UserError: as of `table_files.read`; broken lines are told of the first block that has some.

    """
    kind = _kind(path)
    if kind == ".parquet":
        yield from _of_parquet(path)
    elif kind:
        yield from _of_text(path, options, "\t" if kind == ".tsv" else None)
    else:
        yield Block(0, *table_files.read(path, options))


def _kind(path: Path) -> str:
    """Return the ending of a large file that can be read in blocks; empty for any other."""
    try:
        if path == table_files.STDIN or limits.check_file(path).st_size < LARGE:
            return ""
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:  # which the reader describes
        return ""
    if head.startswith(b"PAR1"):
        return ".parquet"
    name = path.name.lower()
    is_text = b"\0" not in head or head.startswith((b"\xff\xfe", b"\xfe\xff"))
    return next((ending for ending in _TEXTS if name.endswith(ending) and is_text), "")


def _of_parquet(path: Path) -> Iterator[Block]:
    with apart.kept():
        start, total, rows = 0, 1, ROWS
        while start < total:
            try:
                names, frame = apart.read(b"", "parquet rows", path=str(path.resolve()), start=start, count=rows)
            except apart.ReadingFailed as error:
                raise UserError(f"{path.name!r} is not a readable Parquet file ({error}): write it again") from error
            total = int(names[0])
            yield Block(start, frame, None)
            start += rows
            rows = _rows_of(frame.width)


def _rows_of(columns: int) -> int:
    """Return the number of rows of a block."""
    return ROWS * max(1, _CELLS // (ROWS * max(1, columns)))


def _of_text(path: Path, options: ReadOptions, usual: str | None) -> Iterator[Block]:
    with _decoded(path, options.encoding) as lines:
        first, head = next(lines, ""), []
        declared = _SEPARATOR.fullmatch(first)
        if not declared:
            head.append(first)
        while sum(map(len, head)) < _HEAD and (line := next(lines, "")):
            head.append(line)
        separator = options.separator or (declared[1] if declared else None) or usual or find_separator("".join(head))
        options = replace(options, separator=separator)
        records = _records(_chained(head, lines), separator, 2 if declared else 1)
        _, names = ("", "") if not options.header else next(records, ("", ""))
        held: list[str] = []
        start, since, size = 0, "", 0
        for number, text in records:
            since = since or number
            held.append(text)
            size += len(text)
            if len(held) % ROWS == 0 and (size >= _CHARACTERS or len(held) >= _rows_of(text.count(separator) + 1)):
                yield _block(path, options, start, since, names, held)
                start += len(held)
                held, since, size = [], "", 0
        if held or not start:
            yield _block(path, options, start, since, names, held)


def _block(path: Path, options: ReadOptions, start: int, since: str, names: str, held: list[str]) -> Block:
    label = path.name if not start else f"{path.name}, names and what begins in line {since}"
    return Block(start, *table_files.read_delimited_text(names + "".join(held), label, options))


def _chained(head: list[str], lines: Iterator[str]) -> Iterator[str]:
    while head:
        yield head.pop(0)
    yield from lines


def _records(lines: Iterable[str], separator: str, first: int) -> Iterator[tuple[str, str]]:
    """Yield for each record that is not blank the line where it begins, counted from 1, and its text as it is."""
    taken: list[str] = []

    def taking() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(taking(), delimiter=separator, strict=True, skipinitialspace=separator == " ")
    line = first
    while True:
        try:
            row: list[str] | None = next(reader)
        except StopIteration:
            return
        except csv.Error:  # which the reader of the block describes
            row = None
        text = "".join(taken)
        if row is None or len(row) > 1 or "".join(row).strip():
            yield str(line), text if text.endswith(("\n", "\r")) else f"{text}\n"
        line += len(taken)
        taken.clear()


@contextmanager
def _decoded(path: Path, encoding: str | None) -> Iterator[Iterator[str]]:
    """Yield the lines of a text file, with their ends."""
    with path.open("rb") as file:
        marks = file.read(2)
        file.seek(0)
        utf16 = encoding is None and marks in (b"\xff\xfe", b"\xfe\xff")
        name = "utf-16" if utf16 else encoding or "utf-8-sig"
        try:
            text = io.TextIOWrapper(file, name, newline="")
        except LookupError as error:
            raise UserError(
                f"the encoding {encoding!r} is unknown: give one such as cp1252, latin-1 or utf-16"
            ) from error
        yield _lines(text, path, encoding)


def _lines(text: io.TextIOWrapper, path: Path, encoding: str | None) -> Iterator[str]:
    number = 0
    try:
        for line in text:
            number += 1
            if "\0" in line:
                raise UserError(
                    f"line {number} of {path.name!r} holds a NUL byte, which no text has: give the right file"
                )
            yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeError as error:
        raise UserError(
            f"{path.name!r} is not {(encoding or 'UTF-8').upper()} text (after line {number}): give its --encoding, such as "
            "cp1252 (Windows, western Europe)"
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{path.name!r} cannot be read ({reason}): check the file") from error
