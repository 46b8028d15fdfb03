"""Tables: one value holding the columns and the target.

What is in a column is read by the rules of `vicinal.lab.data.columns`. Nothing is ever dropped, guessed or repaired: what
cannot be learned from is refused by a `UserError`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vicinal.lab.data.columns import (
    Decimal,
    Numbers,
    categories_of,
    check_size,
    infer,
    is_plain,
    is_text,
    side_by_side,
    to_codes,
    to_numbers,
    to_strings,
)
from vicinal.lab.errors import UserError
from vicinal.lab.format import counted, did_you_mean, quoted

MIN_ROWS = 10
MAX_CATEGORIES = 1000  # more values than this in a text column are identifiers or prose
TargetType = Literal["text", "number", "boolean"]
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
    groups: NDArray[np.int64] | None = None  # int64 [n]: rows of one group are never split apart
    times: Numbers | None = None  # float64 [n]: the latest rows are for testing
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
) -> Table:
    """Build and check a table.

    Args:
        columns: by name; nan and None are missing.
        target: the column to predict.
        name: short name, for titles.
        source: where it came from.
        task: "classification" or "regression". By default text and booleans are classes, and so are numbers that
            are integers with at most 20 different values; other numbers, and dates, are regression.
        drop: columns to leave out.
        decimal: mark of the numbers that texts may spell, as in a text file; by default text is text.
        allow_small_classes: see `check`.

    """
    frame = pl.DataFrame(columns)
    for column, option in [(target, "target"), *((column, "drop") for column in drop)]:
        if column not in frame.columns:
            hint = did_you_mean(column, frame.columns) or f"; the columns are {quoted(frame.columns, 20)}"
            raise UserError(f"there is no column {column!r} for --{option}{hint}")
    if target in drop:
        raise UserError(f"{target!r} is the target and cannot be dropped: name another --target, or keep it")
    kept = {column.name: _typed(column, decimal) for column in frame.get_columns() if column.name not in drop}
    typed = kept.pop(target)
    goal, classes = _target(frame[target], typed, task)
    texts = {key: to_strings(kept.pop(key)) for key in [*kept] if is_text(kept[key])}
    numbers = {key: values for key, column in kept.items() if (values := to_numbers(column)) is not None}
    categories = {key: categories_of(values) for key, values in texts.items()}
    codes = [to_codes(values, categories[key]) for key, values in texts.items()]
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
    )
    return check(table, allow_small_classes=allow_small_classes)


def _typed(column: pl.Series, decimal: Decimal | None) -> pl.Series:
    if not is_plain(column):
        raise UserError(
            f"column {column.name!r} holds {column.dtype}, not numbers or text: drop it with --drop {column.name!r}"
        )
    return infer(column, decimal) if decimal and is_text(column) else column


def _target(
    cells: pl.Series, typed: pl.Series, task: str | None
) -> tuple[NDArray[np.int64] | Numbers, tuple[str, ...]]:
    if task != "regression" and (is_text(typed) or typed.dtype == pl.Boolean):
        return _classes(to_strings(cells))  # the classes keep their words
    values = to_numbers(typed)
    if values is None:
        example = next(text for text in to_strings(cells) if text is not None)
        raise UserError(f"the target {cells.name!r} holds text such as {example!r}: regression needs numbers")
    if task == "classification" or (task is None and not typed.dtype.is_temporal() and _are_classes(values)):
        return _classes(to_strings(pl.Series(values)))
    return values, ()


def _classes(texts: Sequence[str | None]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    categories = categories_of(texts)
    return to_codes(texts, categories), categories


def _are_classes(values: Numbers) -> bool:
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
    n = len(table)
    if n == 0:
        raise UserError(f"{table.name!r} has column names but no rows: give a table with at least {MIN_ROWS} rows")
    if n < MIN_ROWS:
        raise UserError(f"{table.name!r} has only {counted(n, 'row')}: at least {MIN_ROWS} are needed")
    if not table.numeric_columns and not table.categorical_columns:
        raise UserError(f"{table.name!r} has no column besides the target {table.target_name!r}: add input columns")
    _check_inputs(table)
    if table.classes or table.target.dtype == np.int64:
        _check_classes(table, allow_small_classes)
    else:
        _check_regression(table)
    return table


def _check_inputs(table: Table) -> None:
    empty = [name for name, x in zip(table.numeric_columns, table.numeric.T, strict=True) if np.isnan(x).all()]
    empty += [
        name for name, categories in zip(table.categorical_columns, table.categories, strict=True) if not categories
    ]
    if empty:
        found = f"column {empty[0]!r} holds" if len(empty) == 1 else f"columns {quoted(empty)} hold"
        raise UserError(f"{found} no values: drop {'it' if len(empty) == 1 else 'them'} with --drop")
    for name, x in zip(table.numeric_columns, table.numeric.T, strict=True):
        check_size(name, x)
    for name, categories, codes in zip(table.categorical_columns, table.categories, table.codes.T, strict=True):
        _check_category(name, categories, codes)


def _check_category(name: str, categories: Sequence[str], codes: NDArray[np.int64]) -> None:
    present = int((codes >= 0).sum())
    distinct = len(categories) == present and present > 1
    if not distinct and len(categories) <= min(MAX_CATEGORIES, len(codes) / 2):
        return
    spoiled = [one for one in categories if to_numbers(pl.Series([one])) is None]
    if len(spoiled) < len(categories) / 2:
        raise UserError(
            f"column {name!r} is numbers but for {quoted(spoiled)}"
            f": correct or empty those cells, or drop the column with --drop {name!r}"
        )
    raise UserError(
        f"column {name!r} is text with {len(categories)} different values in {counted(len(codes), 'row')}"
        f" and looks like an identifier: drop it with --drop {name!r}"
    )


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
    if count := int(missing.sum()):
        verb, them = ("has", "it") if count == 1 else ("have", "them")
        raise UserError(
            f"{counted(count, 'row')} {verb} no value in {table.target_name!r}: remove {them} or fill {them} in"
        )
