"""Files of tables as columns: delimited text, ARFF, Parquet, Arrow, JSON and Excel, packed or not, whole or in parts.

The content decides where it can (the first bytes of Parquet, Arrow, Excel and of all that is packed), else the name, and
for standard input the first characters.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from vicinal.lab import limits, memory
from vicinal.lab.data import apart, spreadsheets, unpacking
from vicinal.lab.data.arff import read_arff
from vicinal.lab.data.columns import infer
from vicinal.lab.data.delimited import find_separator, first_row, framed, read_delimited
from vicinal.lab.data.folder_layout import AUDIO, IMAGES, is_training, passed_over
from vicinal.lab.data.json_records import read_json
from vicinal.lab.data.read_options import AS_IT_IS, Decimal, ReadOptions
from vicinal.lab.errors import UserError, of_all
from vicinal.lab.format import counted, quoted

STDIN = Path("-")
_CHUNK = 1 << 20  # bytes of standard input at a time
_CELL = 64  # bytes of memory that a cell of a text takes while it is read
_TEXTS = (".csv", ".tsv", ".txt", ".data")
_ARROW_STREAM = b"\xff\xff\xff\xff"


def _read_parquet(raw: bytes) -> pl.DataFrame:
    return apart.read(raw, "parquet")[1]


def _read_arrow(raw: bytes) -> pl.DataFrame:
    return apart.read(raw, "arrow" if raw.startswith(b"ARROW1") else "arrow stream")[1]


_FRAMES: Mapping[str, tuple[str, Callable[[bytes], pl.DataFrame]]] = {
    ".parquet": ("Parquet", _read_parquet),
    ".feather": ("Feather (version 2)", _read_arrow),
    ".arrow": ("Arrow", _read_arrow),
    ".ipc": ("Arrow", _read_arrow),
    ".jsonl": ("JSON-lines", read_json),
    ".ndjson": ("JSON-lines", read_json),
    ".json": ("JSON (a list of records)", read_json),
}
_KINDS = (*_TEXTS, *_FRAMES, ".arff", *unpacking.WORKBOOKS)
SUFFIXES = (*(kind + packed for packed in ("", *unpacking.ENDINGS) for kind in _KINDS), ".zip")
ENDINGS = f"{', '.join(_KINDS[:-1])} (each also with {', '.join(unpacking.ENDINGS)}), or .zip"
# what damaged bytes make readers raise: they can reach code that panics
_DAMAGE = (
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException, apart.ReadingFailed),
    *(OSError, ValueError, RecursionError, MemoryError),
)
_REASON = 300  # characters of what a reader says
_PARTS = (".csv", ".tsv", ".parquet", ".feather", ".arrow", ".ipc", ".jsonl", ".ndjson")  # of which a folder is a table
_HIVE = re.compile(r"([^=]+)=(.*)")  # a folder that holds the rows with one value of a column
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def is_table(name: str) -> bool:
    """Return whether a name ends as those of tables do."""
    return name.lower().endswith(SUFFIXES)


def read(
    path: Path, options: ReadOptions = AS_IT_IS, problems: list[str] | None = None
) -> tuple[pl.DataFrame, Decimal | None]:
    """Read a file whose name ends in one of `SUFFIXES`, a folder of parts, or standard input, whose path is ``-``.

    Args:
        path: of the file.
        options: what is said about it.
        problems: where some broken lines of a text are described, as `read_delimited` does.

    Returns:
        The columns, and the decimal mark of the numbers that its texts may spell; None where text is text.

    Raises:
        UserError: for a file that cannot be read, is damaged or is not of the kind that its name says.

    """
    if path != STDIN and path.is_dir():
        return _read_parts(path, options)
    return _read(path, "standard input" if path == STDIN else path.name, options, problems)


def _read(
    path: Path, label: str, options: ReadOptions, problems: list[str] | None = None
) -> tuple[pl.DataFrame, Decimal | None]:
    try:
        return _read_content(_read_bytes(path), label, options, problems)
    except MemoryError as e:
        raise UserError(
            f"{label!r} takes more memory than there is ({memory.figures(e)}): give fewer rows or columns"
        ) from e


def _read_content(
    raw: bytes, label: str, options: ReadOptions, problems: list[str] | None
) -> tuple[pl.DataFrame, Decimal | None]:
    raw, inner = unpacking.unpack(raw, label, is_table)
    kind = _kind(raw, inner)
    if kind in unpacking.WORKBOOKS:
        return _read_excel(raw, label, options), options.decimal or "."
    if options.sheet is not None:
        raise UserError(f"--sheet is for Excel workbooks, and {label!r} is none: leave it out")
    if kind in _FRAMES:
        return _read_frame(raw, label, *_FRAMES[kind]), None
    text = _decoded(raw, label, options.encoding)
    if kind == ".arff":
        return read_arff(text, label), None
    return read_delimited_text(text, label, options, "\t" if kind == ".tsv" else None, problems)


def read_delimited_text(
    text: str,
    label: str,
    options: ReadOptions = AS_IT_IS,
    usual: str | None = None,
    problems: list[str] | None = None,
) -> tuple[pl.DataFrame, Decimal]:
    """Read delimited text whose separator is given, declared in a first line `sep=;`, usual for its kind, or found.

    Returns:
        The columns, and the decimal mark of the numbers that they may spell.

    Raises:
        UserError: as of `read_delimited`.

    """
    text, declared = _declared_separator(text)
    separator = options.separator or declared or usual or find_separator(text)
    cells = text.count(separator) + text.count("\n") + text.count("\r")
    limits.check(
        _CELL * cells + 2 * len(text), label, f"has about {cells:,} cells, which take", "give fewer rows or columns"
    )
    names = None if options.header else _numbered(len(first_row(text, separator)))
    decimal = options.decimal or ("," if separator == ";" else ".")
    return read_delimited(text, label, separator, names, problems), decimal


def _kind(raw: bytes, name: str) -> str:
    """Return the ending that the content is of, which is that of the name where the content does not show it."""
    if raw.startswith(b"PAR1"):
        return ".parquet"
    if raw.startswith((b"ARROW1", _ARROW_STREAM)):
        return ".arrow"
    if unpacking.is_workbook(raw):
        return ".xlsx"
    if ending := next((kind for kind in sorted(_KINDS, key=len, reverse=True) if name.lower().endswith(kind)), None):
        return ending
    begin = re.match(rb"(?:\xef\xbb\xbf)?(?:\s+|%[^\n]*\n)*(@relation\b|\[\s*\{|\{\s*\"|)", raw, re.IGNORECASE)
    found = begin[1][:1] if begin else b""
    return {b"@": ".arff", b"[": ".json", b"{": ".jsonl"}.get(found, ".csv")


def _declared_separator(text: str) -> tuple[str, str | None]:
    """Cut off a first line `sep=;`, which spreadsheets write and read, and return what it says."""
    found = re.match(r'"?sep=([^\r\n"])"?(\r\n|\r|\n)', text)
    return (text[found.end() :], found[1]) if found else (text, None)


def _numbered(width: int) -> list[str]:
    """Return names for the columns of a file without a header line."""
    return [f"column {i}" for i in range(1, width + 1)]


def _read_excel(raw: bytes, label: str, options: ReadOptions) -> pl.DataFrame:
    rows = spreadsheets.read_sheet(raw, label, options.sheet)
    return framed(rows, label, None if options.header or not rows else _numbered(len(rows[0])))


def _read_frame(raw: bytes, label: str, kind: str, reader: Callable[[bytes], pl.DataFrame]) -> pl.DataFrame:
    try:
        return reader(raw)
    except _DAMAGE as e:
        reason = " ".join(str(e).split())[:_REASON] or "it asks for too much memory"
        raise UserError(f"{label!r} is not a readable {kind} file ({reason}): write it again") from e


# ---- text


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read UTF-8, UTF-16 with a byte-order mark or the encoding given; decompressed where it is compressed."""
    raw, _ = unpacking.unpack(_read_bytes(path), path.name, is_table)
    return _decoded(raw, path.name, encoding)


def _decoded(raw: bytes, label: str, encoding: str | None) -> str:
    if encoding is None and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    wide = " (or it is UTF-16: --encoding utf-16-le or utf-16-be)" if 4 * raw.count(0) > len(raw) else ""
    try:
        text = raw.decode(encoding or "utf-8").removeprefix("\ufeff")
    except LookupError as e:
        raise UserError(f"the encoding {encoding!r} is unknown: give one such as cp1252, latin-1 or utf-16") from e
    except UnicodeError as e:
        where = f" (byte {raw[e.start]:#04x} at position {e.start})" if isinstance(e, UnicodeDecodeError) else ""
        raise UserError(
            f"{label!r} is not {(encoding or 'UTF-8').upper()} text{where}"
            f": give its --encoding, such as cp1252 (Windows, western Europe){wide}"
        ) from e
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"line {line} of {label!r} holds a NUL byte, which no text has{wide}: give the right file")
    return text


def _read_bytes(path: Path) -> bytes:
    if path == STDIN:
        if sys.stdin is None:
            raise UserError(
                "standard input is closed: give a file, or what writes to it, as in cat t.csv | vicinal ..."
            )
        chunks = iter(lambda: sys.stdin.buffer.read(_CHUNK), b"")
        return limits.joined(chunks, "standard input", "gives", "give a smaller table")
    try:
        return limits.read_bytes(path)
    except OSError as e:
        reason = e.strerror or str(e)
        raise UserError(f"{path.name!r} cannot be read ({reason[:1].lower()}{reason[1:]}): check the file") from e


# ---- parts


def parts_of(folder: Path) -> list[Path]:
    """Return the files of a folder that is one table in parts, in the order of their names; none if it is no such folder.

    It is one if it holds no folders, or only such as `column=value`, and in these tables and no images or audio.
    Hidden files, and those that begin with an underscore, are marks of the programs that wrote it.
    """
    try:
        files = _files(folder)
    except OSError:
        return []
    tables = [path for path in files if _part_kind(path)]
    return files if tables and not any(path.name.lower().endswith(IMAGES + AUDIO) for path in files) else []


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    inside = sorted(path for path in folder.iterdir() if not passed_over(path.name) and not path.name.startswith("_"))
    folders = [path for path in inside if path.is_dir()]
    if not folders:
        return inside
    if len(folders) < len(inside) or not all(_HIVE.fullmatch(path.name) for path in folders):
        return []
    return [file for path in folders for file in _files(path)]


def _part_kind(path: Path) -> str | None:
    """Return the ending of a part, without that of how it is packed."""
    name = path.name.lower()
    packed = next((end for end in unpacking.ENDINGS if name.endswith(end)), "")
    return next((kind for kind in _PARTS if name.removesuffix(packed).endswith(kind)), None)


def _read_parts(folder: Path, options: ReadOptions) -> tuple[pl.DataFrame, Decimal | None]:
    """Read the parts of a table below one another.

    Raises:
        UserError: naming the parts that cannot be read or have other columns than the first.

    """
    with apart.kept():
        return _read_all_parts(folder, options)


def _read_all_parts(folder: Path, options: ReadOptions) -> tuple[pl.DataFrame, Decimal | None]:
    paths, shown = parts_of(folder), _folder_name(folder)
    kinds = {_part_kind(path) or path.name for path in paths}
    if len(kinds) != 1:
        which = f"files of several kinds ({quoted(sorted(kinds))})" if kinds else "no tables"
        raise UserError(f"{shown!r} holds {which}, and parts of one table are all of one: give one file")
    training = [path for path in paths if is_training(path.stem)]
    if training and len(training) < len(paths):
        other = next(path for path in paths if path not in training)
        raise UserError(
            f"{shown!r} holds {training[0].name!r} beside {other.name!r}, and parts of one table are all for training or"
            f" none: give one file, and another with --test"
        )
    problems: list[str] = []
    parts: list[tuple[str, pl.DataFrame, Decimal | None]] = []
    for path in paths:
        label = path.relative_to(folder).as_posix()
        try:
            frame, decimal = _read(path, label, options)
            parts.append((label, _with_places(frame, label), decimal))
        except UserError as error:
            problems.append(str(error))
    problems += [problem for part in parts[1:] if (problem := _differs(parts[0], part))]
    if not problems:
        problems = other_types([(label, frame) for label, frame, _ in parts])
    if problems:
        raise of_all(shown, problems if len(problems) < 7 else [*problems[:6], f"and {len(problems) - 6} more"])
    label, _, decimal = parts[0]
    whole = below([frame for _, frame, _ in parts])
    if decimal is None:  # what names of folders spell has no type of its own
        whole = whole.with_columns(infer(whole[name]) for name, _ in _places(label))
    return whole, decimal


def _with_places(frame: pl.DataFrame, label: str) -> pl.DataFrame:
    """Return a part with the columns that its folders `column=value` name."""
    for name, value in _places(label):
        if name in frame.columns:
            raise UserError(f"{label!r} has a column {name!r}, and so has its folder: rename one of them")
        frame = frame.with_columns(pl.lit(None if value == _HIVE_NULL else value, pl.String).alias(name))
    return frame


def _places(label: str) -> list[tuple[str, str]]:
    """Return the columns and values that the folders of a part name."""
    pairs = [folder.split("=", 1) for folder in label.split("/")[:-1]]
    return [(unquote(name), unquote(value)) for name, value in pairs]


def _differs(first: tuple[str, pl.DataFrame, Decimal | None], other: tuple[str, pl.DataFrame, Decimal | None]) -> str:
    """Describe how the columns of a part differ from those of the first; "" if they do not."""
    lacks, has = (
        [name for name in a[1].columns if name not in b[1].columns] for a, b in ((first, other), (other, first))
    )
    if lacks or has:
        which = " and ".join(
            f"{verb} {quoted(names)}" for verb, names in (("lacks", lacks), ("has also", has)) if names
        )
        return f"{other[0]!r} {which}: the parts of a table need the same columns as {first[0]!r}; else give one file"
    if first[2] != other[2]:
        return f"{other[0]!r} has another decimal mark or separator than {first[0]!r}: give --decimal and --separator"
    return ""


def other_types(parts: Sequence[tuple[str, pl.DataFrame]]) -> list[str]:
    """Return a sentence for each column that is of one sort in a file and of another in a later one.

    Put below one another, they would become text without a word.
    """
    problems = []
    for name in parts[0][1].columns:
        sorts = [(label, sort) for label, frame in parts if (sort := _sort(frame.schema[name]))]
        odd = next(((label, sort) for label, sort in sorts if sort != sorts[0][1]), None)
        if odd:
            (first, one), (label, other) = sorts[0], odd
            problems.append(f"column {name!r} is {one} in {first!r} and {other} in {label!r}: save both alike")
    return problems


def _sort(kind: pl.DataType) -> str:
    """Return what cells of a type are; "" where there are none."""
    if kind == pl.Null:
        return ""
    if kind in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    return "numbers" if kind.is_numeric() else str(kind)


def below(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the rows of frames with the same columns below one another; `other_types` finds nothing in them."""
    first, *others = frames
    frames = [first, *(frame.select(first.columns) for frame in others)]
    loose = [  # categories of several files are their words
        name
        for name, kind in first.schema.items()
        if kind in (pl.Categorical, pl.Enum) and any(frame.schema[name] != kind for frame in frames)
    ]
    return pl.concat([frame.with_columns(pl.col(loose).cast(pl.String)) for frame in frames], how="vertical_relaxed")


# ---- what there is


def described(path: Path) -> tuple[str, str]:
    """Return the short name of a table, for titles, and where it came from."""
    if path == STDIN:
        return "stdin", "standard input"
    if parts := parts_of(path):
        return _folder_name(path), f"{_folder_name(path)}, {counted(len(parts), 'part')}"
    suffix = max((s for s in SUFFIXES if path.name.lower().endswith(s)), key=len, default="")
    return path.name[: len(path.name) - len(suffix)], path.name


def _folder_name(path: Path) -> str:
    return path.name or os.path.basename(os.path.abspath(path))
