"""Files of tables as columns: delimited text, ARFF and Parquet."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vicinal.lab.data.columns import MISSING
from vicinal.lab.data.read_options import AS_IT_IS, Decimal, ReadOptions
from vicinal.lab.data.table import MIN_ROWS
from vicinal.lab.errors import UserError
from vicinal.lab.format import counted, quoted

_TEXTS = (".csv", ".tsv", ".txt", ".data")
_PACKED = ("", ".gz", ".bz2", ".xz")
_FRAMES: Mapping[str, tuple[str, Callable[[io.BytesIO], pl.DataFrame]]] = {
    ".parquet": ("Parquet", pl.read_parquet),
    ".feather": ("Feather (version 2)", pl.read_ipc),
    ".arrow": ("Arrow", pl.read_ipc),
    ".ipc": ("Arrow", pl.read_ipc),
    ".jsonl": ("JSON-lines", pl.read_ndjson),
    ".ndjson": ("JSON-lines", pl.read_ndjson),
    ".json": ("JSON (a list of records)", pl.read_json),
}
_MAGIC: Mapping[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": ("gzip", gzip.decompress),
    b"BZh": ("bzip2", bz2.decompress),
    b"\xfd7zXZ\x00": ("xz", lzma.decompress),
}
SUFFIXES = (*(text + packed for packed in _PACKED for text in _TEXTS), *_FRAMES, ".arff")

_CSV_QUOTED = re.compile(r'"[^"]*"')
_ARFF_DATA = re.compile(r"^([ \t]*@data\b[^\n]*\n?)", re.IGNORECASE | re.MULTILINE)
_ARFF_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")
_SAVE_AS_CSV = "save the table as CSV instead"


def read(path: Path, options: ReadOptions = AS_IT_IS) -> tuple[pl.DataFrame, Decimal | None]:
    """Read a file whose name ends in one of `SUFFIXES`.

    Returns:
        The columns, and the decimal mark of the numbers that its texts may spell; None where text is text.

    Raises:
        UserError: for a file that cannot be read, is damaged or is not of the kind that its name says.

    """
    name = path.name.lower()
    for suffix, (kind, reader) in _FRAMES.items():
        if name.endswith(suffix):
            return _read_frame(path, kind, reader), None
    if name.endswith(".arff"):
        return read_arff(path), None
    text, declared = _declared_separator(read_text(path, options.encoding))
    separator = options.separator or declared or ("\t" if ".tsv" in Path(name).suffixes else _separator(text))
    decimal = options.decimal or ("," if separator == ";" else ".")
    names = None if options.header else _numbered(text, separator)
    return read_delimited(text, path.name, separator, names), decimal


def _declared_separator(text: str) -> tuple[str, str | None]:
    """Cut off a first line `sep=;`, which spreadsheets write and read, and return what it says."""
    found = re.match(r'"?sep=([^\r\n"])"?(\r\n|\r|\n)', text)
    return (text[found.end() :], found[1]) if found else (text, None)


def _numbered(text: str, separator: str) -> list[str]:
    """Return names for the columns of a text without a header line: as many as its first row has values."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    first = next((row for row in rows if len(row) > 1 or "".join(row).strip()), [])
    return [f"column {i}" for i in range(1, len(first) + 1)]


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read UTF-8, UTF-16 with a byte-order mark or the encoding given; decompressed where the name ends in .gz."""
    raw = _unpacked(_read_bytes(path), path.name)
    if encoding is None and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    try:
        return raw.decode(encoding or "utf-8").removeprefix("\ufeff")
    except LookupError as e:
        raise UserError(f"the encoding {encoding!r} is unknown: give one such as cp1252, latin-1 or utf-16") from e
    except UnicodeError as e:
        where = f" (byte {raw[e.start]:#04x} at position {e.start})" if isinstance(e, UnicodeDecodeError) else ""
        raise UserError(
            f"{path.name!r} is not {(encoding or 'UTF-8').upper()} text{where}"
            f": give its --encoding, such as cp1252 (Windows, western Europe)"
        ) from e


def _read_bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as e:
        raise UserError(f"{path.name!r} cannot be read ({(e.strerror or str(e)).lower()}): check the file") from e


def _unpacked(raw: bytes, label: str) -> bytes:
    """Decompress what its first bytes, or else the name, call compressed."""
    ending = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}.get(Path(label).suffix.lower())
    for magic, (kind, unpack) in _MAGIC.items():
        if raw.startswith(magic) or kind == ending:
            try:
                return unpack(raw)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as e:
                raise UserError(f"{label!r} is not a whole {kind} file ({e}): compress or copy it again") from e
    return raw


def _read_frame(path: Path, kind: str, reader: Callable[[io.BytesIO], pl.DataFrame]) -> pl.DataFrame:
    try:
        return reader(io.BytesIO(_read_bytes(path)))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:  # damage can reach code that panics
        reason = " ".join(str(e).split())
        raise UserError(f"{path.name!r} is not a readable {kind} file ({reason}): write it again") from e


# ---- delimited text


def read_delimited(text: str, label: str, separator: str, names: Sequence[str] | None = None) -> pl.DataFrame:
    """Read delimited text into a frame of strings.

    Args:
        text: quoted by RFC 4180; lines may end in LF, CRLF or CR; blank lines are skipped.
        label: what to call the file in errors.
        separator: one character.
        names: the columns' names, if the text has no header line.

    Raises:
        UserError: for a line with too many or too few values, a broken quotation, or a bad header.

    """
    # polars' own reader fills short lines up without a word, and refuses a bare quotation mark, as in 5" pipe
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header, rows = names, list[list[str]]()
    try:
        for record in reader:
            if len(record) <= 1 and not "".join(record).strip():
                continue
            if header is None:
                header = [name.strip() for name in record]
                _check_header(header, label)
            elif len(header) == 1 < len(record) and names is None and not rows:
                raise UserError(
                    f"the first line of {label!r} is {header[0]!r}, one value, and line {reader.line_num} has {len(record)}"
                    f": remove a title or comment above the names, or give the --separator"
                )
            elif len(record) != len(header):
                raise UserError(
                    f"line {reader.line_num} of {label!r} has {counted(len(record), 'value')}"
                    f", but there are {counted(len(header), 'column')}: correct that line"
                )
            else:
                rows.append(record)
    except csv.Error as e:
        raise UserError(f"line {reader.line_num} of {label!r} is not valid CSV ({e}): correct that line") from e
    if header is None:
        raise UserError(f"{label!r} is empty: give a table with a header line and at least {MIN_ROWS} rows")
    if len(header) == 1 and rows and re.search(r"\S[ :]+\S", header[0]) and all(" " in row[0].strip() for row in rows):
        raise UserError(
            f"{label!r} has one column, {header[0]!r}, by its separator {separator!r}: give the right one, as"
            f" --separator space"
        )
    return pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row")


def _separator(text: str) -> str:
    """Find the separator: a comma, unless the header then is one column with semicolons, tabs or bars in it."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    if "," in _CSV_QUOTED.sub("", header):
        return ","
    return next((c for c in (";", "\t", "|") if c in header), ",")


def _check_header(header: Sequence[str], label: str) -> None:
    for name in header:
        try:
            float(name)
        except ValueError:
            continue
        if not name.isdecimal() and name not in MISSING:  # whole numbers may be names: years, pixels
            raise UserError(
                f"the first line of {label!r} holds values such as {name!r}: add a header line with the columns' names"
            )
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise UserError(
            f"{label!r} has more than one column named {quoted(twice)}"
            f": give each column a name of its own, in a header line"
        )


# ---- ARFF


def read_arff(path: Path) -> pl.DataFrame:
    """Read an ARFF file by SciPy; a nominal attribute becomes an Enum of its declared categories.

    Raises:
        UserError: for a malformed file, and for what SciPy does not read: text and relational attributes, sparse
            data, and nominal categories that are not ASCII.

    """
    from scipy.io import arff

    label, text = path.name, read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    text = _as_weka_splits(text)
    _check_arff(text, label)
    try:
        data, meta = arff.loadarff(io.StringIO(text))
    except UnicodeEncodeError as e:
        reason = "which SciPy's ARFF reader cannot read"
        raise UserError(f"{label!r} has nominal values that are not ASCII, {reason}: {_SAVE_AS_CSV}") from e
    except (NotImplementedError, ValueError, IndexError, re.error, arff.ArffError) as e:
        reason = " ".join(str(e).split())
        raise UserError(f"{label!r} cannot be read by SciPy's ARFF reader ({reason}): {_SAVE_AS_CSV}") from e
    return pl.DataFrame([_attribute(name, data[name], *meta[name]) for name in meta.names()])


def _as_weka_splits(text: str) -> str:
    """Return the text with one comma between values: Weka skips spaces around them, and a comma at the end."""
    head, *rest = _ARFF_DATA.split(text, maxsplit=1)
    if not rest:
        return text
    mark, body = rest
    lines = [line.strip() for line in body.split("\n")]
    plain = ["'" not in line and '"' not in line and not line.startswith(("%", "{")) for line in lines]
    split = [re.sub(r"\s*,\s*|\s+", ",", re.sub(r"\s*,$", "", line)) for line in lines]
    return head + mark + "\n".join(new if at else old for old, new, at in zip(lines, split, plain, strict=True))


def _attribute(name: str, values: NDArray[Any], kind: str, declared: Sequence[str] | None) -> pl.Series:
    if kind == "date":
        return pl.Series(name, values.astype("datetime64[us]"))
    if kind != "nominal":
        return pl.Series(name, values.astype(np.float64))
    categories = dict.fromkeys(word for word in cast("Sequence[str]", declared) if word not in MISSING)
    words = np.char.decode(values, "ascii").tolist()
    return pl.Series(name, [word if word in categories else None for word in words], dtype=pl.Enum(list(categories)))


def _check_arff(text: str, label: str) -> None:
    """Refuse what SciPy would misread in silence (long lines) or fail at without a reason."""
    head, *rest = _ARFF_DATA.split(text, maxsplit=1)
    if not rest:
        raise UserError(f"{label!r} is not an ARFF file (it has no @data line): {_SAVE_AS_CSV}")
    attributes = [line for line in head.splitlines() if line.lstrip().lower().startswith("@attribute")]
    if any(line.rstrip().lower().endswith(" relational") for line in attributes):
        raise UserError(
            f"{label!r} has a relational attribute, which SciPy's ARFF reader cannot flatten: {_SAVE_AS_CSV}"
        )
    mark, body = rest
    for number, line in enumerate(body.split("\n"), start=(head + mark).count("\n") + 1):
        bare = _ARFF_QUOTED.sub("x", line.strip())
        if not bare or bare.startswith("%"):
            continue
        if bare.startswith("{"):
            raise UserError(
                f"{label!r} is in the sparse ARFF format, which SciPy's ARFF reader cannot read: {_SAVE_AS_CSV}"
            )
        count = len(bare.split("," if "," in bare else None))
        if count != len(attributes):
            raise UserError(
                f"line {number} of {label!r} has {counted(count, 'value')}"
                f", but there are {counted(len(attributes), 'attribute')}: correct that line"
            )
