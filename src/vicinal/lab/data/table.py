"""Tables: one value holding the columns and the target.

What is in a column is read by the rules of `vicinal.lab.data.columns`. Nothing is ever dropped, guessed or repaired: what
cannot be learned from is refused by a `UserError`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vicinal.lab.data import table_notes
from vicinal.lab.data.column_reading import SHOWN, ColumnSummary, Role, read_column
from vicinal.lab.data.columns import (
    Numbers,
    categories_of,
    check_size,
    is_text,
    side_by_side,
    to_codes,
    to_numbers,
    to_strings,
)
from vicinal.lab.data.read_options import AS_IT_IS, Decimal, ReadOptions
from vicinal.lab.errors import UserError, of_all
from vicinal.lab.format import counted, did_you_mean, quoted

MIN_ROWS = 10
_ROW = "\0row"  # a column of the rows' numbers, while some are left out
MAX_CATEGORIES = 1000  # more values than this in a text column are identifiers or prose
TargetType = Literal["text", "number", "boolean"]
SMALLEST = 1e-100  # extent of a target of numbers: errors are squared, and float64 ends at 1e-308
FEW_VALUES = 20  # an integer target with at most this many values is a class


@dataclass(frozen=True, eq=False)
class Table:
    """A table whose columns and target have been read and checked; compare contents by `fingerprint`."""

    name: str  # short name, for titles
    source: str  # where it came from: a loader, or the file's name without its folder
    numeric: Numbers  # float64 [n, p], nan where missing
    numeric_columns: tuple[str, ...]  # the p names
    codes: NDArray[np.int64]  # int64 [n, q], the position in `categories` of each category, -1 where missing
    categorical_columns: tuple[str, ...]  # the q names
    categories: tuple[tuple[str, ...], ...]  # for each category the values it takes, sorted
    target: NDArray[np.int64] | Numbers  # int64 [n] positions in `classes`, or float64 [n] for regression
    target_name: str  # its name
    classes: tuple[str, ...]  # names of the classes, sorted (as numbers where all are numbers); empty for regression
    columns: tuple[ColumnSummary, ...] = ()  # how each column was read, in the order of the file
    notes: tuple[str, ...] = ()  # what a user should know: rows left out, duplicates, likely groups
    reading: ReadOptions = AS_IT_IS  # how the file was read
    groups: NDArray[np.int64] | None = None  # int64 [n], rows of one group are never split apart
    group_name: str | None = None
    times: Numbers | None = None  # float64 [n]: the latest rows are for testing
    time_name: str | None = None
    fixed_test: NDArray[np.bool_] | None = None  # bool [n]: the rows for testing
    target_type: TargetType = "text"  # what the classes are in the table

    @property
    def task(self) -> str:
        """Either "classification" or "regression"."""
        return "classification" if self.classes else "regression"

    def __len__(self) -> int:
        return len(self.target)

    @property
    def missing_cells(self) -> int:
        """How many cells of the inputs are missing."""
        return int(np.isnan(self.numeric).sum() + (self.codes < 0).sum())

    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of names, categories, classes and cells; `name` and `source` play no part."""
        words = [
            self.numeric_columns,
            self.categorical_columns,
            self.categories,
            self.target_name,
            self.classes,
            len(self),
        ]
        digest = hashlib.sha256(json.dumps(words).encode())
        # one nan only: a nan has many bit patterns
        for array in (np.where(np.isnan(self.numeric), np.nan, self.numeric), self.codes, self.target):
            digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
        for name, extra in ((self.group_name, self.groups), (self.time_name, self.times), ("test", self.fixed_test)):
            if extra is not None:
                digest.update(f"{name}".encode() + np.ascontiguousarray(extra, extra.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def make_table(
    columns: pl.DataFrame | Mapping[str, Numbers | Sequence[str | None]],
    target: str,
    *,
    name: str,
    source: str,
    task: str | None = None,
    drop: Sequence[str] = (),
    decimal: Decimal | None = None,
    allow_small_classes: bool = False,
    reading: ReadOptions = AS_IT_IS,
    drop_missing_target: bool = False,
    min_class: int = 0,
    group: str | None = None,
    time: str | None = None,
    tested_from: int | None = None,
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Table:
    """Build and check a table.

    Args:
        columns: by name; nan and None are missing.
        target: the column to predict.
        name: short name, for titles.
        source: where it came from.
        task: "classification" or "regression". By default text and booleans are classes, and so are numbers that
            are integers with at most 20 different values; other numbers, and dates, are regression.
        drop: columns to leave out; each may be a comma list.
        decimal: mark of the numbers that texts may spell, as in a text file; by default text is text.
        allow_small_classes: see `check`.
        reading: what the user says about columns and missing words.
        drop_missing_target: leave out rows without a target, with a note.
        min_class: leave out classes of fewer rows, with a note.
        group: a column whose equal values belong together; no input.
        time: a column of numbers or dates that orders the rows; no input.
        tested_from: number of the row from which on all are for testing; None where splits decide.
        problems: what is wrong already, to be told with what is found here.
        notes: what a user should know already, likewise.

    Raises:
        UserError: one sentence, or a line for each of several problems.

    """
    frame = pl.DataFrame(columns)
    drop = _listed(frame.columns, drop)
    _check_names(frame.columns, target, drop, reading, group, time)
    roles = _roles(target, group, time, drop)
    spelled = set(read_column(frame[target], decimal, reading, "target").summary.spelled)
    frame, left_out = _rows_with_target(
        frame.with_row_index(_ROW), target, decimal, reading, drop_missing_target, min_class
    )
    fixed_test = None if tested_from is None else frame[_ROW].to_numpy() >= tested_from
    frame = frame.drop(_ROW)
    read = {
        column.name: read_column(column, decimal, reading, roles.get(column.name, "input"))
        for column in frame.get_columns()
        if column.name not in drop
    }
    problems = [*problems, *(of.problem for of in read.values() if of.problem)]
    goal, classes, target_read = np.zeros(len(frame)), (), read[target].problem is None
    if target_read:
        try:
            goal, classes = _target(frame[target], read[target].cells, task)
        except UserError as error:
            problems.append(str(error))
            target_read = False
    if classes:
        read[target] = replace(read[target], summary=_as_classes(read[target].summary, goal, classes))
    kept = {key: of.cells for key, of in read.items() if of.problem is None and key not in roles}
    texts = {key: kept.pop(key).cast(pl.String).to_list() for key in [*kept] if is_text(kept[key])}
    numbers = {key: values for key, column in kept.items() if (values := to_numbers(column)) is not None}
    categories = {key: categories_of(values) for key, values in texts.items()}
    codes = [to_codes(values, categories[key]) for key, values in texts.items()]
    groups = None if group is None or read[group].problem else _groups(read[group].cells, problems)
    times = None if time is None or read[time].problem else _times(read[time].cells, problems)
    typed = read[target].cells
    table = Table(
        name=name,
        source=source,
        numeric=side_by_side(list(numbers.values()), len(goal), np.float64),
        numeric_columns=tuple(numbers),
        codes=side_by_side(codes, len(goal), np.int64),
        categorical_columns=tuple(categories),
        categories=tuple(categories.values()),
        target=goal,
        target_name=target,
        classes=classes,
        target_type="text" if is_text(typed) else "boolean" if typed.dtype == pl.Boolean else "number",
        columns=tuple(
            read[column].summary if column in read else ColumnSummary(column, "none", "dropped")
            for column in frame.columns
        ),
        notes=(*notes, *left_out),
        reading=reading,
        groups=groups,
        group_name=group,
        times=times,
        time_name=time,
        fixed_test=fixed_test,
    )
    spelled.update(*(of.summary.spelled for of in read.values()))
    problems += _problems(table, allow_small_classes, reading.categorical, bool(problems), target_read)
    if problems:
        raise of_all(name, problems)
    return replace(table, notes=(*table.notes, *table_notes.unused(reading.missing, spelled), *_found(table)))


def _found(table: Table) -> list[str]:
    notes = table_notes.alike(f"classes of the target {table.target_name!r}", table.classes)
    for name, words in zip(table.categorical_columns, table.categories, strict=True):
        notes += table_notes.alike(f"categories of column {name!r}", words)
    notes += table_notes.duplicates(table.numeric, table.codes, table.target)
    dates = {column.name for column in table.columns if column.kind == "date"}  # which may be one a day
    for name, values in zip(table.numeric_columns, table.numeric.T, strict=True):
        notes += [] if name in dates else table_notes.numbered(name, values)
    if table.groups is None:
        for name, codes in zip(table.categorical_columns, table.codes.T, strict=True):
            notes += table_notes.numbered(name, np.where(codes < 0, np.nan, codes))
    return notes


def _check_names(
    columns: Sequence[str],
    target: str,
    drop: Sequence[str],
    reading: ReadOptions,
    group: str | None,
    time: str | None,
) -> None:
    """Refuse names of columns that are not there, and a target that is to be dropped."""
    named: list[tuple[str, str]] = [(target, "target"), *((column, "drop") for column in drop)]
    named += [(column, option) for option in ("categorical", "numeric", "parse") for column in getattr(reading, option)]
    named += [(column, option) for column, option in ((group, "group"), (time, "time")) if column is not None]
    for column, option in named:
        if column not in columns:
            hint = did_you_mean(column, columns) or f"; the columns are {quoted(columns, 20)}"
            raise UserError(f"there is no column {column!r} for --{option}{hint}")
    if target in drop:
        raise UserError(f"{target!r} is the target and cannot be dropped: name another --target, or keep it")


def _roles(target: str, group: str | None, time: str | None, drop: Sequence[str]) -> dict[str, Role]:
    given: list[tuple[str | None, Role]] = [(target, "target"), (group, "group"), (time, "time")]
    roles: dict[str, Role] = {}
    for column, role in given:
        if column is None:
            continue
        if column in roles or column in drop:
            raise UserError(f"{column!r} is given for --{role} and for another option: give each its own column")
        roles[column] = role
    return roles


def _listed(columns: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return the columns of names and comma lists of names; a column that has a comma in its name is that column."""
    return [
        name
        for word in given
        for name in ([word] if word in columns or "," not in word else map(str.strip, word.split(",")))
    ]


def _groups(cells: pl.Series, problems: list[str]) -> NDArray[np.int64]:
    """Return the group of each row by its number; cells that are empty are added to the problems."""
    texts = to_strings(cells)
    groups = to_codes(texts, categories_of(texts))
    if count := int((groups < 0).sum()):
        verb = "has" if count == 1 else "have"
        problems.append(f"{counted(count, 'row')} {verb} no value in the --group column {cells.name!r}: fill it in")
    return groups


def _times(cells: pl.Series, problems: list[str]) -> Numbers | None:
    """Return the time of each row; cells that hold none are added to the problems."""
    times = to_numbers(cells)
    if times is None or np.isnan(times).any():
        problems.append(f"the --time column {cells.name!r} must hold a number or date in every row: correct it")
    return times


def _as_classes(of: ColumnSummary, goal: NDArray[np.int64] | Numbers, classes: Sequence[str]) -> ColumnSummary:
    """Return the summary of a target of classes, which are categories, numbers too."""
    sizes = np.bincount(goal[goal >= 0].astype(np.int64), minlength=len(classes))
    frequent = [classes[int(i)] for i in np.argsort(-sizes, kind="stable")[:SHOWN]]
    return ColumnSummary(of.name, "target", "categories", of.missing, of.spelled, len(classes), frequent=frequent)


def _rows_with_target(
    frame: pl.DataFrame, target: str, decimal: Decimal | None, reading: ReadOptions, missing: bool, min_class: int
) -> tuple[pl.DataFrame, list[str]]:
    """Leave out rows without a target and rows of small classes, where that was asked for; note how many."""
    notes = []
    if missing:
        cells = read_column(frame[target], decimal, reading, "target").cells
        gone = cells.is_null() | (cells.is_nan().fill_null(False) if cells.dtype.is_float() else False)
        if gone.any():
            notes.append(f"{counted(int(gone.sum()), 'row')} without a value in {target!r} left out")
            frame = frame.filter(~gone)
    if min_class > 1 and len(frame):
        texts = pl.Series("target", to_strings(read_column(frame[target], decimal, reading, "target").cells))
        sizes = texts.drop_nulls().value_counts(name="rows")
        if names := sorted(sizes.filter(pl.col("rows") < min_class)["target"].to_list()):
            gone = texts.is_in(names).fill_null(False)
            notes.append(
                f"{counted(int(gone.sum()), 'row')} left out: those of values {quoted(names)} of {target!r}, which have "
                f"fewer than {min_class} rows each"
            )
            frame = frame.filter(~gone)
    return frame, notes


def _target(
    cells: pl.Series, typed: pl.Series, task: str | None
) -> tuple[NDArray[np.int64] | Numbers, tuple[str, ...]]:
    if task != "regression" and (is_text(typed) or typed.dtype == pl.Boolean):
        return _classes(
            typed.cast(pl.String).to_list() if is_text(typed) else to_strings(cells)
        )  # the classes keep their words
    values = to_numbers(typed)
    if values is None:
        texts = typed.drop_nulls().cast(pl.String).to_list()
        example = next(text for text in texts if to_numbers(pl.Series([text])) is None)
        raise UserError(f"the target {cells.name!r} holds text such as {example!r}: regression needs numbers")
    whole = typed.dtype.is_integer()  # which keep their digits
    if task == "classification" or (task is None and not typed.dtype.is_temporal() and _are_classes(typed, values)):
        return _classes(to_strings(typed if whole else pl.Series(values)))
    return values, ()


def _classes(texts: Sequence[str | None]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    categories = categories_of(texts)
    return to_codes(texts, categories), categories


def _are_classes(cells: pl.Series, values: Numbers) -> bool:
    if cells.dtype.is_integer():
        return cells.drop_nulls().n_unique() <= FEW_VALUES
    present = values[~np.isnan(values)]
    whole = bool(np.isfinite(present).all() and (present == np.floor(present)).all())
    return whole and len(np.unique(present)) <= FEW_VALUES


# ---- what cannot be learned from


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
    if problems := _problems(table, allow_small_classes):
        raise of_all(table.name, problems)
    return table


def _problems(
    table: Table,
    allow_small_classes: bool,
    categorical: Sequence[str] = (),
    may_lack_inputs: bool = False,
    target_read: bool = True,
) -> list[str]:
    """Return a sentence about each thing that cannot be learned from."""
    n = len(table)
    if n == 0:
        return [f"{table.name!r} has column names but no rows: give a table with at least {MIN_ROWS} rows"]
    if n < MIN_ROWS:
        return [f"{table.name!r} has only {counted(n, 'row')}: at least {MIN_ROWS} are needed"]
    if not (table.numeric_columns or table.categorical_columns or may_lack_inputs):
        return [f"{table.name!r} has no column besides the target {table.target_name!r}: add input columns"]
    problems = _input_problems(table, categorical)
    if target_read:
        try:
            if table.classes or table.target.dtype == np.int64:
                _check_classes(table, allow_small_classes)
            else:
                _check_regression(table)
        except UserError as error:
            problems.append(str(error))
    return problems


def _input_problems(table: Table, categorical: Sequence[str]) -> list[str]:
    problems = []
    empty = [name for name, x in zip(table.numeric_columns, table.numeric.T, strict=True) if np.isnan(x).all()]
    empty += [name for name, found in zip(table.categorical_columns, table.categories, strict=True) if not found]
    if empty:
        found = f"column {empty[0]!r} holds" if len(empty) == 1 else f"columns {quoted(empty)} hold"
        problems.append(f"{found} no values: drop {'it' if len(empty) == 1 else 'them'} with --drop {_comma(empty)}")
    for name, x in zip(table.numeric_columns, table.numeric.T, strict=True):
        try:
            check_size(name, x)
        except UserError as error:
            problems.append(str(error))
    many = {
        name: len(found)
        for name, found, codes in zip(table.categorical_columns, table.categories, table.codes.T, strict=True)
        if _has_too_many(len(found), codes, name in categorical)
    }
    rows = counted(len(table), "row")
    if len(many) > 1:
        counts = ", ".join(map(str, [*many.values()][:5])) + (", ..." if len(many) > 5 else "")
        problems.append(
            f"columns {quoted([*many])} are text with {counts} different values in {rows} and look like identifiers"
            f": drop them with --drop {_comma([*many])}"
        )
    elif many:
        ((name, count),) = many.items()
        problems.append(
            f"column {name!r} is text with {count} different values in {rows}"
            f" and looks like an identifier: drop it with --drop {name!r}"
        )
    return problems


def _comma(names: Sequence[str]) -> str:
    if any("," in name or not name for name in names):
        return " --drop ".join(map(repr, names))
    return repr(",".join(names))


def _has_too_many(categories: int, codes: NDArray[np.int64], asked: bool) -> bool:
    present = int((codes >= 0).sum())
    if categories == present and present > 1:
        return True
    return not asked and categories > min(MAX_CATEGORIES, len(codes) / 2)


def _check_classes(table: Table, allow_small_classes: bool) -> None:
    _check_target_present(table, table.target < 0)
    name, count = table.target_name, len(table.classes)
    if count == 1:
        only = table.classes[0]
        raise UserError(f"the target {name!r} has the one class {only!r}: a target needs at least two classes")
    if count > min(MAX_CATEGORIES, len(table) / 2):
        number = to_numbers(pl.Series(table.classes)) is not None
        advice = "predict it as a number with --task regression" if number else "choose another --target"
        looks = "" if number else " and looks like an identifier"
        raise UserError(
            f"the target {name!r} has {count} different values in {counted(len(table), 'row')}{looks}: {advice}"
        )
    sizes = np.bincount(table.target, minlength=count)
    single = [c for c, size in zip(table.classes, sizes, strict=True) if size == 1]
    if single and not allow_small_classes:
        word = "class" if len(single) == 1 else "classes"
        raise UserError(
            f"the target {name!r} has a single example of {word} {quoted(single)}"
            f": merge or remove such classes, since each needs two examples; --min-class 2 leaves them out"
        )


def _check_regression(table: Table) -> None:
    _check_target_present(table, np.isnan(table.target))
    check_size(table.target_name, table.target.astype(np.float64))
    if (table.target == table.target[0]).all():
        raise UserError(
            f"the target {table.target_name!r} is {table.target[0]:g} in every row: choose a target that varies"
        )
    if (extent := float(np.ptp(table.target))) < SMALLEST:
        raise UserError(
            f"the target {table.target_name!r} varies by no more than {extent:g}, whose square is next to 0: rescale it"
        )


def _check_target_present(table: Table, missing: NDArray[np.bool_]) -> None:
    if count := int(missing.sum()):
        verb, them = ("has", "it") if count == 1 else ("have", "them")
        raise UserError(
            f"{counted(count, 'row')} {verb} no value in {table.target_name!r}: remove {them} or fill {them} in, or"
            f" leave {them} out with --drop-missing-target"
        )
