"""Tables: one value holding the columns and the target, and the readers that make it.

What a reader does with a column:

- Numbers and booleans (0, 1) are numbers; so are dates and times, as days since 1970-01-01 (in text
  files: ISO 8601 without an offset, or in UTC).
- Text is a category, stripped of surrounding spaces; its levels are the values that occur, sorted.
- An empty cell, ``NA``, ``NaN``, ``nan``, ``?``, ``null`` and ``None`` are missing.
- In a file separated by semicolons, ``1,5`` is a number with a decimal comma.

Nothing is ever dropped, guessed or repaired: what cannot be learned from is refused by a `UserError`.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vicinal.lab.errors import UserError

MISSING = ("", "NA", "NaN", "nan", "?", "null", "None")

MIN_ROWS = 10
MAX_LEVELS = 1000  # more values than this in a text column are identifiers or prose, not categories
FEW_VALUES = 20  # an integer target with at most this many values is a class
LARGEST = 1e30  # float32 ends at 3e38, and a model's inputs are float32

TASKS = ("classification", "regression")

Numbers = NDArray[np.float64]
Texts = Sequence[str | None]

_DATES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f")
_CSV_QUOTED = re.compile(r'"[^"]*"')
_ARFF_DATA = re.compile(r"^([ \t]*@data\b[^\n]*\n?)", re.IGNORECASE | re.MULTILINE)
_ARFF_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")


@dataclass(frozen=True, eq=False)
class Table:
    """A table whose columns and target have been read and checked; compare contents by `fingerprint`.

    Args:
        name: short name, for titles.
        source: where it came from: a loader, or the file's name without its folder.
        numbers: float64 [n, p], nan where missing.
        number_names: the p names.
        codes: int64 [n, q], the position in `levels` of each category, -1 where missing.
        category_names: the q names.
        levels: for each category the values it takes, sorted.
        target: int64 [n] positions in `classes`, or float64 [n] for regression.
        target_name: its name.
        classes: names of the classes, sorted (as numbers where all are numbers); empty for regression.

    """

    name: str
    source: str
    numbers: Numbers
    number_names: tuple[str, ...]
    codes: NDArray[np.int64]
    category_names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    target: NDArray[np.int64] | Numbers
    target_name: str
    classes: tuple[str, ...]

    @property
    def task(self) -> str:
        """Either "classification" or "regression"."""
        return "classification" if self.classes else "regression"

    def __len__(self) -> int:
        return len(self.target)

    @property
    def missing_cells(self) -> int:
        """How many cells of the inputs are missing."""
        return int(np.isnan(self.numbers).sum() + (self.codes < 0).sum())

    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of names, levels, classes and cells; `name` and `source` play no part."""
        words = [self.number_names, self.category_names, self.levels, self.target_name, self.classes, len(self)]
        digest = hashlib.sha256(json.dumps(words).encode())
        # one nan only: a nan has many bit patterns
        for array in (np.where(np.isnan(self.numbers), np.nan, self.numbers), self.codes, self.target):
            digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def check(table: Table, *, allow_small_classes: bool = False) -> Table:
    """Refuse a table that cannot be learned from.

    Args:
        table: as a reader built it; a missing class is -1 and a missing regression target is nan.
        allow_small_classes: let classes with a single example pass, for published sets that have them.

    Returns:
        The same table.

    Raises:
        UserError: naming the first problem found.

    """
    n = len(table)
    if n == 0:
        raise UserError(f"{table.name!r} has column names but no rows: give a table with at least {MIN_ROWS} rows")
    if n < MIN_ROWS:
        raise UserError(f"{table.name!r} has only {_count(n, 'row')}: at least {MIN_ROWS} are needed")
    if not table.number_names and not table.category_names:
        raise UserError(f"{table.name!r} has no column besides the target {table.target_name!r}: add input columns")
    _check_inputs(table)
    if table.classes or table.target.dtype == np.int64:
        _check_classes(table, allow_small_classes)
    else:
        _check_regression(table)
    return table


def assemble(
    columns: Mapping[str, Numbers | Texts],
    target: str,
    *,
    name: str,
    source: str,
    task: str | None = None,
    drop: Sequence[str] = (),
    allow_small_classes: bool = False,
) -> Table:
    """Build and check a table from columns that are numbers (float64 [n], nan = missing) or texts (None = missing).

    The arguments are those of `load` and `check`; `target` and `drop` name columns.
    """
    _require(target, columns, "target")
    for column in drop:
        _require(column, columns, "drop")
    if target in drop:
        raise UserError(f"{target!r} is the target and cannot be dropped: name another --target, or keep it")
    kept = {key: values for key, values in columns.items() if key != target and key not in drop}
    numbers = {key: values for key, values in kept.items() if isinstance(values, np.ndarray)}
    texts = {key: values for key, values in kept.items() if not isinstance(values, np.ndarray)}
    goal, classes = _target(target, columns[target], task)
    n = len(goal)
    coded = {key: _codes(values) for key, values in texts.items()}
    table = Table(
        name=name,
        source=source,
        numbers=np.stack(list(numbers.values()), axis=1) if numbers else np.empty((n, 0)),
        number_names=tuple(numbers),
        codes=np.stack([c for c, _ in coded.values()], axis=1) if coded else np.empty((n, 0), dtype=np.int64),
        category_names=tuple(coded),
        levels=tuple(levels for _, levels in coded.values()),
        target=goal,
        target_name=target,
        classes=classes,
    )
    return check(table, allow_small_classes=allow_small_classes)


# ---- the rules of a column


def as_numbers(column: pl.Series, *, decimal_comma: bool = False) -> Numbers | None:
    """Read a column as float64 [n], nan where missing; None if it holds anything that is not a number.

    Numbers, booleans, dates and durations (in days) are numbers, and so are texts that all spell one of these.
    A column with nothing in it is all nan.
    """
    dtype = column.dtype
    if dtype == pl.Null:
        return np.full(len(column), np.nan)
    if dtype.is_numeric() or dtype == pl.Boolean:
        return _float64(column)
    if dtype.is_temporal():
        return _days(column)
    texts = _clean(column)
    present = texts.drop_nulls()
    floats = texts.cast(pl.Float64, strict=False)
    if floats.count() == len(present):
        return _float64(floats)
    if is_boolean(texts):
        return _float64(texts.str.to_lowercase() == "true")
    if decimal_comma:
        floats = texts.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
        if floats.count() == len(present):
            return _float64(floats)
    dates = _dates(texts)
    return None if dates is None else _days(dates)


def as_texts(column: pl.Series) -> list[str | None]:
    """Read a column as texts, None where missing: whole numbers without a point, booleans as true and false."""
    if column.dtype.is_integer():
        return [None if v is None else str(v) for v in column.to_list()]
    if column.dtype.is_numeric():
        return [None if np.isnan(v) else _spell(v) for v in _float64(column).tolist()]
    if column.dtype == pl.Boolean:
        return [None if v is None else str(v).lower() for v in column.to_list()]
    return _clean(column).to_list()


def is_boolean(column: pl.Series) -> bool:
    """Return whether the column holds booleans, or texts that all say true or false."""
    if not _is_text(column.dtype):
        return column.dtype == pl.Boolean
    present = _clean(column).drop_nulls().str.to_lowercase()
    return len(present) > 0 and bool(present.is_in(["true", "false"]).all())


def is_date(column: pl.Series, *, spelled: bool) -> bool:
    """Return whether the column holds dates or times or, with `spelled`, texts that all are ISO 8601 dates."""
    if not _is_text(column.dtype):
        return column.dtype.is_temporal()
    texts = _clean(column)
    return spelled and texts.count() > 0 and _dates(texts) is not None


def check_size(name: str, values: Numbers) -> None:
    """Refuse infinite values and those beyond 1e30 in size, which float32 arithmetic would make infinite."""
    sizes = np.abs(values[~np.isnan(values)])
    if np.isinf(sizes).any():
        found = f"has {_count(int(np.isinf(sizes).sum()), 'infinite value')}"
        raise UserError(f"column {name!r} {found}: remove those rows, or leave the cells empty")
    if (sizes > LARGEST).any():
        raise UserError(f"column {name!r} has values beyond {LARGEST:g}: rescale it (or take its logarithm)")


def closest(word: str, names: Sequence[str]) -> str:
    """Return "; did you mean 'x'?" for the name most like `word`, or nothing."""
    folded = {name.lower(): name for name in names}
    found = difflib.get_close_matches(word.lower(), list(folded), n=1)
    return f"; did you mean {folded[found[0]]!r}?" if found else ""


def quoted(names: Sequence[str], limit: int = 5) -> str:
    """Quote up to `limit` names and count the rest."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def is_plain(column: pl.Series) -> bool:
    """Return whether each cell is one number, date, boolean or text."""
    return not column.dtype.is_nested() and column.dtype not in (pl.Binary, pl.Object)


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def _clean(column: pl.Series) -> pl.Series:
    texts = column.cast(pl.String).str.strip_chars()
    return texts.set(texts.is_in(list(MISSING)), None)


def _float64(column: pl.Series) -> Numbers:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy(writable=True)


def _dates(texts: pl.Series) -> pl.Series | None:
    count = texts.count()
    texts = texts.str.replace(" ", "T", literal=True).str.strip_suffix("Z")
    for pattern in _DATES:
        dates = texts.str.to_datetime(pattern, strict=False, time_unit="us")
        if dates.count() == count:
            return dates
    return None


def _days(column: pl.Series) -> Numbers:
    if column.dtype == pl.Date:
        return _float64(column.to_physical())
    if column.dtype == pl.Time:
        return _float64(column.to_physical()) / 86_400e9
    unit = cast("pl.Datetime | pl.Duration", column.dtype).time_unit
    return _float64(column.to_physical()) / (86_400 * {"ms": 1e3, "us": 1e6, "ns": 1e9}[unit])


def _spell(value: float) -> str:
    whole = np.isfinite(value) and value == int(value)
    return str(int(value)) if whole else repr(float(value))


def _order(levels: set[str]) -> tuple[str, ...]:
    """Sort as numbers if all are numbers, so that class 10 comes after class 9."""
    try:
        return tuple(sorted(levels, key=lambda level: (float(level), level)))
    except ValueError:
        return tuple(sorted(levels))


def _codes(texts: Texts) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    levels = _order({text for text in texts if text is not None})
    place: dict[str | None, int] = {level: i for i, level in enumerate(levels)}
    place[None] = -1
    return np.array([place[text] for text in texts], dtype=np.int64), levels


def _target(
    name: str, values: Numbers | Texts, task: str | None
) -> tuple[NDArray[np.int64] | Numbers, tuple[str, ...]]:
    if not isinstance(values, np.ndarray):
        if task != "regression":
            return _codes(values)
        numbers = as_numbers(pl.Series(name, values, dtype=pl.String))
        if numbers is None:
            example = next(text for text in values if text is not None)
            raise UserError(f"the target {name!r} holds text such as {example!r}: regression needs numbers")
        return numbers, ()
    present = values[~np.isnan(values)]
    whole = bool(np.isfinite(present).all() and (present == np.floor(present)).all())
    few = len(np.unique(present)) <= FEW_VALUES
    if task == "classification" or (task is None and whole and few):
        return _codes([None if np.isnan(v) else _spell(v) for v in values.tolist()])
    return values, ()


# ---- the rules of a table


def _check_inputs(table: Table) -> None:
    empty = [name for name, x in zip(table.number_names, table.numbers.T, strict=True) if np.isnan(x).all()]
    empty += [name for name, levels in zip(table.category_names, table.levels, strict=True) if not levels]
    if empty:
        found = f"column {empty[0]!r} holds" if len(empty) == 1 else f"columns {quoted(empty)} hold"
        raise UserError(f"{found} no values: drop {'it' if len(empty) == 1 else 'them'} with --drop")
    for name, x in zip(table.number_names, table.numbers.T, strict=True):
        check_size(name, x)
    for name, levels, codes in zip(table.category_names, table.levels, table.codes.T, strict=True):
        present = int((codes >= 0).sum())
        distinct = len(levels) == present and present > 1
        if not distinct and len(levels) <= min(MAX_LEVELS, len(table) / 2):
            continue
        spoiled = [level for level in levels if as_numbers(pl.Series([level])) is None]
        if len(spoiled) < len(levels) / 2:
            raise UserError(
                f"column {name!r} is numbers but for {quoted(spoiled)}"
                f": correct or empty those cells, or drop the column with --drop {name!r}"
            )
        raise UserError(
            f"column {name!r} is text with {len(levels)} different values in {_count(len(table), 'row')}"
            f" and looks like an identifier: drop it with --drop {name!r}"
        )


def _check_classes(table: Table, allow_small_classes: bool) -> None:
    _check_target_present(table, table.target < 0)
    name, count = table.target_name, len(table.classes)
    if count == 1:
        only = table.classes[0]
        raise UserError(f"the target {name!r} has the one class {only!r}: a target needs at least two classes")
    if count > min(MAX_LEVELS, len(table) / 2):
        number = as_numbers(pl.Series(table.classes)) is not None
        advice = "predict it as a number with --task regression" if number else "choose another --target"
        looks = "" if number else " and looks like an identifier"
        raise UserError(
            f"the target {name!r} has {count} different values in {_count(len(table), 'row')}{looks}: {advice}"
        )
    sizes = np.bincount(table.target, minlength=count)
    single = [c for c, size in zip(table.classes, sizes, strict=True) if size == 1]
    if single and not allow_small_classes:
        word = "class" if len(single) == 1 else "classes"
        raise UserError(
            f"the target {name!r} has a single example of {word} {quoted(single)}"
            f": merge or remove such classes, since each needs two examples"
        )


def _check_regression(table: Table) -> None:
    _check_target_present(table, np.isnan(table.target))
    check_size(table.target_name, table.target.astype(np.float64))
    if (table.target == table.target[0]).all():
        raise UserError(
            f"the target {table.target_name!r} is {table.target[0]:g} in every row: choose a target that varies"
        )


def _check_target_present(table: Table, missing: NDArray[np.bool_]) -> None:
    count = int(missing.sum())
    if count:
        verb, them = ("has", "it") if count == 1 else ("have", "them")
        raise UserError(
            f"{_count(count, 'row')} {verb} no value in {table.target_name!r}: remove {them} or fill {them} in"
        )


def _require(name: str, columns: Mapping[str, object], option: str) -> None:
    if name not in columns:
        hint = closest(name, list(columns)) or f"; the columns are {quoted(list(columns), 20)}"
        raise UserError(f"there is no column {name!r} for --{option}{hint}")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def any_of(words: Sequence[str]) -> str:
    """Return words as "a, b or c"."""
    return f"{', '.join(words[:-1])} or {words[-1]}"


# ---- the readers


def values_of(column: pl.Series, *, spelled: bool, decimal_comma: bool = False) -> Numbers | Texts:
    """Read a column by the rules of this module.

    Args:
        column: as a file's reader gives it.
        spelled: the file has only text (CSV), which may spell numbers; else a column of text is text.
        decimal_comma: text may spell numbers with a comma.

    Raises:
        UserError: for a type that is neither number nor text, such as a list.

    """
    if not is_plain(column):
        raise UserError(
            f"column {column.name!r} holds {column.dtype}, not numbers or text: drop it with --drop {column.name!r}"
        )
    numbers = as_numbers(column, decimal_comma=decimal_comma) if spelled or not _is_text(column.dtype) else None
    return as_texts(column) if numbers is None else numbers


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a whole file; raises UserError if it cannot be opened."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
        raise UserError(f"{os.path.basename(path)!r} cannot be read ({reason}): check the file") from e


def decode(raw: bytes, label: str) -> str:
    """Decode UTF-8 (a byte-order mark is skipped); raises UserError with the position of the first other byte."""
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as e:
        raise UserError(
            f"{label!r} is not UTF-8 text (byte {raw[e.start]:#04x} at position {e.start})"
            f": convert it, for example with iconv -f LATIN1 -t UTF-8"
        ) from e


def read_delimited(text: str, label: str, *, separator: str, names: Sequence[str] | None = None) -> pl.DataFrame:
    """Read delimited text into a frame of strings.

    Args:
        text: quoted by RFC 4180; lines may end in LF, CRLF or CR; blank lines are skipped.
        label: what to call the file in errors.
        separator: one character.
        names: the columns' names, if the text has no header line.

    Raises:
        UserError: for a line with too many or too few values, a broken quotation, or a bad header.

    """
    # The csv module settles what the cells are and counts lines; polars, given the canonical form, reads them. Polars
    # alone fills short lines up without a word, and refuses a bare quotation mark, as in 5" pipe.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    canonical = io.StringIO(newline="")
    writer = csv.writer(canonical, lineterminator="\n")
    header = names
    try:
        for record in reader:
            if len(record) <= 1 and not "".join(record).strip():
                continue
            if header is None:
                header = [name.strip() for name in record]
                _check_header(header, label)
            elif len(record) != len(header):
                raise UserError(
                    f"line {reader.line_num} of {label!r} has {_count(len(record), 'value')}"
                    f", but there are {_count(len(header), 'column')}: correct that line"
                )
            else:
                writer.writerow(record)
    except csv.Error as e:
        raise UserError(f"line {reader.line_num} of {label!r} is not valid CSV ({e}): correct that line") from e
    if header is None:
        raise UserError(f"{label!r} is empty: give a table with a header line and at least {MIN_ROWS} rows")
    schema = {f"column_{i}": pl.String for i in range(len(header))}
    frame = pl.DataFrame(schema=schema)
    if canonical.tell():
        source = io.BytesIO(canonical.getvalue().encode())
        frame = pl.read_csv(source, has_header=False, schema=schema, infer_schema=False, empty_string_is_null=False)
    frame.columns = list(header)
    return frame


def read_arff(raw: bytes, label: str) -> pl.DataFrame:
    """Read an ARFF file by SciPy; a nominal attribute becomes an Enum of its declared levels.

    Raises:
        UserError: for a malformed file, and for what SciPy does not read: text and relational attributes, sparse
            data, and nominal levels that are not ASCII.

    """
    from scipy.io import arff

    text = decode(raw, label).replace("\r\n", "\n").replace("\r", "\n")
    advice = "save the table as CSV instead"
    _check_arff(text, label, advice)
    try:
        data, meta = arff.loadarff(io.StringIO(text))
    except UnicodeEncodeError as e:
        reason = "which SciPy's ARFF reader cannot read"
        raise UserError(f"{label!r} has nominal values that are not ASCII, {reason}: {advice}") from e
    except (NotImplementedError, ValueError, IndexError, re.error, arff.ArffError) as e:
        reason = " ".join(str(e).split())
        raise UserError(f"{label!r} cannot be read by SciPy's ARFF reader ({reason}): {advice}") from e
    columns: list[pl.Series] = []
    for name, kind in zip(meta.names(), meta.types(), strict=True):
        values = cast("NDArray[Any]", data[name])
        if kind == "nominal":
            words = np.char.decode(values, "ascii").tolist()
            levels = dict.fromkeys(level for level in meta[name][1] if level not in MISSING)
            present = [word if word in levels else None for word in words]
            columns.append(pl.Series(name, present, dtype=pl.Enum(list(levels))))
        elif kind == "date":
            columns.append(pl.Series(name, values.astype("datetime64[us]")))
        else:
            columns.append(pl.Series(name, values.astype(np.float64)))
    return pl.DataFrame(columns)


def _check_arff(text: str, label: str, advice: str) -> None:
    """Refuse what SciPy would misread in silence (long lines) or fail at without a reason."""
    head, mark, body = _ARFF_DATA.split(text, maxsplit=1) if _ARFF_DATA.search(text) else (text, "", "")
    if not mark:
        raise UserError(f"{label!r} is not an ARFF file (it has no @data line): {advice}")
    attributes = [line for line in head.splitlines() if line.lstrip().lower().startswith("@attribute")]
    if any(line.rstrip().lower().endswith(" relational") for line in attributes):
        raise UserError(f"{label!r} has a relational attribute, which SciPy's ARFF reader cannot flatten: {advice}")
    first = head.count("\n") + mark.count("\n") + 1
    for number, line in enumerate(body.split("\n"), start=first):
        bare = _ARFF_QUOTED.sub("x", line.strip())
        if not bare or bare.startswith("%"):
            continue
        if bare.startswith("{"):
            raise UserError(f"{label!r} is in the sparse ARFF format, which SciPy's ARFF reader cannot read: {advice}")
        count = len(bare.split("," if "," in bare else None))
        if count != len(attributes):
            raise UserError(
                f"line {number} of {label!r} has {_count(count, 'value')}"
                f", but there are {_count(len(attributes), 'attribute')}: correct that line"
            )


def read_parquet(raw: bytes, label: str) -> pl.DataFrame:
    """Read a parquet file."""
    try:
        return pl.read_parquet(io.BytesIO(raw))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as e:  # damage can reach code that panics
        reason = " ".join(str(e).split())
        raise UserError(f"{label!r} is not a readable Parquet file ({reason}): write it again") from e


def gunzip(raw: bytes, label: str) -> bytes:
    """Decompress a .gz file."""
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as e:
        raise UserError(f"{label!r} is not a whole gzip file ({e}): compress or copy it again") from e


def separator_of(text: str) -> str:
    """Find the separator: a comma, unless the header then is one column with semicolons or tabs in it."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    if "," in _CSV_QUOTED.sub("", header):
        return ","
    return next((c for c in (";", "\t") if c in header), ",")


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
