"""Tables by name or file: scikit-learn's sets, the paper's UCI sets, and files of one's own."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from vicinal.lab.data import table_files, uci
from vicinal.lab.data.read_options import AS_IT_IS, Decimal, ReadOptions
from vicinal.lab.data.table import Table, make_table
from vicinal.lab.errors import UserError, of_all
from vicinal.lab.format import counted, did_you_mean, quoted

EMBEDDED = ("iris", "wine", "breast_cancer", "digits", "diabetes")
_ROW_INDEX = re.compile(r"(__index_level_\d+__|Unnamed: \d+|)")  # the names pandas gives to a saved row index


def load(
    data: str,
    *,
    target: str | None = None,
    task: str | None = None,
    drop: Sequence[str] = (),
    reading: ReadOptions = AS_IT_IS,
    drop_missing_target: bool = False,
    min_class: int = 0,
    group: str | None = None,
    time: str | None = None,
    test: str | None = None,
) -> Table:
    """Read a table.

    Args:
        data: a set of scikit-learn's (`EMBEDDED`), one of the paper's UCI sets (``abalone``, ``uci-iris``, ...: see
            `vicinal.lab.data.uci`), the path of a file whose name ends in one of `table_files.SUFFIXES`,
            or of a folder of its parts, or ``-`` for standard input.
            A name wins over a file of that name; upper and lower case are the same.
        target: the column to predict. Files need it; named sets have their own and take none.
        task: "classification" or "regression"; by default as `vicinal.lab.data.table.assemble` decides.
        drop: columns to leave out; each may be a comma list.
        reading: what is said about a file that its content does not say.
        drop_missing_target: leave out a file's rows without a target, with a note.
        min_class: leave out a file's classes of fewer rows, with a note.
        group: a column whose equal values belong together; no input.
        time: a column of numbers or dates that orders the rows; no input.
        test: the path of another file with the same columns: its rows are for testing.

    Returns:
        The checked table.

    Raises:
        UserError: with one sentence, for whatever cannot be read or learned from.

    """
    if task not in (None, "classification", "regression"):
        raise UserError(f"the task {task!r} is unknown: choose classification or regression")
    if not is_named(data):
        more = {"drop_missing_target": drop_missing_target, "min_class": min_class, "group": group, "time": time}
        return _read_file(data, target, task, drop, reading, more, test)
    if reading != AS_IT_IS or drop_missing_target or min_class or group or time or test:
        raise UserError(f"the dataset {data!r} is read as it was published: leave out the options about files")
    if target is not None:
        raise UserError(f"the dataset {data!r} has its own target: leave --target out (it is for files)")
    if data.lower() in EMBEDDED:
        return _read_embedded(data.lower(), task, drop)
    return uci.load(data, task=task, drop=drop)


def is_named(data: str) -> bool:
    """Return whether this is the name of a set, which wins over a file or folder of that name."""
    return data.lower() in EMBEDDED or uci.find(data) is not None


def is_table(data: str) -> bool:
    """Return whether this is a table's name or file, and not a folder of images or audio."""
    if is_named(data) or data == "-":
        return True
    path = os.path.expanduser(data)
    return not os.path.isdir(path) or bool(table_files.parts_of(Path(path)))


def _read_embedded(name: str, task: str | None, drop: Sequence[str]) -> Table:
    from sklearn import datasets

    loader, target = {
        "iris": (datasets.load_iris, "species"),
        "wine": (datasets.load_wine, "cultivar"),
        "breast_cancer": (datasets.load_breast_cancer, "diagnosis"),
        "digits": (datasets.load_digits, "digit"),
        "diabetes": (partial(datasets.load_diabetes, scaled=False), "progression"),
    }[name]
    bunch = cast("Any", loader())
    inputs = np.asarray(bunch.data, dtype=np.float64)
    frame = pl.DataFrame(inputs, schema=[str(key) for key in bunch.feature_names], orient="row")
    goal = [str(bunch.target_names[i]) for i in bunch.target] if "target_names" in bunch else bunch.target
    columns = frame.with_columns(pl.Series(target, goal))
    return make_table(columns, target, name=name, source=f"scikit-learn: load_{name}", task=task, drop=drop)


def _read_file(
    data: str,
    target: str | None,
    task: str | None,
    drop: Sequence[str],
    reading: ReadOptions,
    more: dict[str, Any],
    test: str | None,
) -> Table:
    if data == test == "-":
        raise UserError("standard input is read once: give a file for DATA or for --test")
    problems: list[str] = []
    frame, decimal, file, name = _read_frame(data, reading, problems)
    if target is None:
        raise UserError(f"say which column of {file!r} to predict, with --target: {quoted(frame.columns, 20)}")
    unnamed = [
        column for column in frame.columns if column not in {*_dropped(drop), target} and _ROW_INDEX.fullmatch(column)
    ]
    problems += [_row_index(file, frame, column) for column in unnamed]
    more |= {"task": task, "drop": [*drop, *unnamed], "decimal": decimal, "reading": reading}
    notes = [note for place in (data, test) if (note := _pooled(place))]
    if test is None:
        return make_table(frame, target, name=name, source=file, problems=problems, notes=notes, **more)
    other, test_decimal, test_file, _ = _read_frame(test, reading, problems)
    if (decimal is None) != (test_decimal is None):  # beside a text file, cells are what they spell
        frame, other = (rows.cast(pl.String) for rows in (frame, other))
        more["decimal"] = decimal or test_decimal
    both = _below(frame, file, other, test_file)
    try:
        source = f"{file}, tested on {test_file}"
        more["tested_from"] = len(frame)
        return make_table(both, target, name=name, source=source, problems=problems, notes=notes, **more)
    except UserError as error:
        if problems:
            raise
        alone_too: dict[str, Any] = {**more, "tested_from": None}
        try:
            make_table(frame, target, name=file, source=file, **alone_too)
        except UserError as alone:
            raise UserError(f"in {file!r}: {alone}") from error
        raise UserError(f"in {test_file!r}, the file of --test: {_without_name(error, name)}") from error


def _without_name(error: UserError, name: str) -> str:
    """Return an error's sentence where another name than the table's stands before it."""
    return str(error).removeprefix(f"{name!r} has ")


def _pooled(data: str | None) -> str | None:
    """Return a note about the files of a folder of parts."""
    parts = [] if data in (None, "-") else table_files.parts_of(Path(data).expanduser())
    if not parts:
        return None
    return f"{data!r} is read as one table of {counted(len(parts), 'file')}, in the order of their names"


def _dropped(drop: Sequence[str]) -> set[str]:
    return {part.strip() for word in drop for part in word.split(",")} | {*drop}


def _row_index(file: str, frame: pl.DataFrame, column: str) -> str:
    """Describe a column whose name is that of a saved row index, or that has no name."""
    if column or frame.columns[0] == column:
        shown = f"a column named {column!r}" if column else "a column without a name"
        return f"{file!r} has {shown}, as a saved row index is: drop it with --drop {column!r}"
    place = frame.columns.index(column) + 1
    return f"column {place} of {file!r} has no name: give it one, or drop it with --drop {column!r}"


def _below(frame: pl.DataFrame, file: str, other: pl.DataFrame, test_file: str) -> pl.DataFrame:
    """Return the rows of two files, which must have rows, and the same columns of the same kinds."""
    lacks, has = ([name for name in a.columns if name not in b.columns] for a, b in ((frame, other), (other, frame)))
    if lacks or has:
        which = f"lacks {quoted(lacks)}" if lacks else f"has also {quoted(has)}"
        raise UserError(f"{test_file!r} {which}: the files of --test need the same columns as {file!r}")
    for rows, of in ((frame, file), (other, test_file)):
        if not len(rows):
            raise UserError(f"{of!r} has column names but no rows: give a file with rows")
    if problems := table_files.other_types([(file, frame), (test_file, other)]):
        raise of_all(test_file, problems)
    return table_files.below([frame, other])


def _read_frame(data: str, reading: ReadOptions, problems: list[str]) -> tuple[pl.DataFrame, Decimal | None, str, str]:
    """Return a file's columns and decimal mark, where it came from, and the name without its ending.

    Some broken lines are added to the problems.
    """
    place = os.path.expanduser(data)
    if data != "-":
        _check_place(data, place)
    path = Path(place)
    frame, decimal = table_files.read(path, reading, problems)
    name, source = table_files.described(path)
    return frame, decimal, source, name


def _check_place(data: str, path: str) -> None:
    """Refuse a path where no table is."""
    if os.path.isdir(path):
        if not table_files.parts_of(Path(path)):
            raise UserError(
                f"{data!r} is a folder, and not one of parts of a table: give the path of one file ending in"
                f" {table_files.ENDINGS}"
            )
        return
    if not os.path.exists(path):
        raise UserError(_nothing_there(data, path, (*EMBEDDED, *uci.NAMES)))
    if not table_files.is_table(path):
        raise UserError(
            f"{data!r} is in a format that is not read here: save it as a file ending in {table_files.ENDINGS}"
        )


def _nothing_there(data: str, path: str, names: Sequence[str]) -> str:
    folder, file = os.path.split(path)
    if "://" in data:
        return f"{data!r} is an address: fetch it first, as in curl -L {data} | vicinal compare -"
    if not table_files.is_table(data) and not folder:
        return (
            f"{data!r} is neither a dataset nor a file: give a file ending in {table_files.ENDINGS}, or one of "
            f"{', '.join(names)}{did_you_mean(data, names)}"
        )
    if not os.path.isdir(folder or "."):
        return f"there is no file {data!r}, and no folder {folder!r} either: check the path"
    try:
        beside = os.listdir(folder or ".")
    except OSError:  # the folder may be searched but not listed: the file is as absent, only no name can be offered
        beside = []
    return f"there is no file {data!r}: check the path{did_you_mean(file, beside)}"
