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
from vicinal.lab.errors import UserError
from vicinal.lab.format import did_you_mean, quoted

EMBEDDED = ("iris", "wine", "breast_cancer", "digits", "diabetes")
_ENDINGS = ".csv, .tsv, .txt or .data (also .gz, .bz2 or .xz), .parquet, .feather, .arrow, .jsonl, .json or .arff"
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
            `vicinal.lab.data.uci`), or the path of a file whose name ends in one of `table_files.SUFFIXES`.
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
    frame, decimal, file, name = _read_frame(data, drop, reading)
    if target is None:
        raise UserError(f"say which column of {file!r} to predict, with --target: {quoted(frame.columns, 20)}")
    more |= {"task": task, "drop": drop, "decimal": decimal, "reading": reading}
    if test is None:
        return make_table(frame, target, name=name, source=file, **more)
    other, _, test_file, _ = _read_frame(test, drop, reading)
    both = _below(frame, file, other, test_file, decimal)
    try:
        source = f"{file}, tested on {test_file}"
        return make_table(both, target, name=name, source=source, tested_from=len(frame), **more)
    except UserError as error:
        try:
            make_table(frame, target, name=file, source=file, **more)
        except UserError as alone:
            raise UserError(f"in {file!r}: {alone}") from error
        raise UserError(f"in {test_file!r}, the file of --test: {_without_name(error, name)}") from error


def _without_name(error: UserError, name: str) -> str:
    """Return an error's sentence where another name than the table's stands before it."""
    return str(error).removeprefix(f"{name!r} has ")


def _below(
    frame: pl.DataFrame, file: str, other: pl.DataFrame, test_file: str, decimal: Decimal | None
) -> pl.DataFrame:
    """Return the rows of two files, which must have the same columns; of the same kinds, unless texts spell these."""
    lacks, has = ([name for name in a.columns if name not in b.columns] for a, b in ((frame, other), (other, frame)))
    if lacks or has:
        which = f"lacks {quoted(lacks)}" if lacks else f"has also {quoted(has)}"
        raise UserError(f"{test_file!r} {which}: the files of --test need the same columns as {file!r}")
    for rows, of in ((frame, file), (other, test_file)):
        if not len(rows):
            raise UserError(f"{of!r} has column names but no rows: give a file with rows")
    kinds = [(name, frame[name].dtype, other[name].dtype) for name in frame.columns]
    unlike = [(name, here, there) for name, here, there in kinds if _kind(here) != _kind(there)]
    if decimal is None:  # pl.Null is a column with nothing in it
        unlike = [(name, here, there) for name, here, there in unlike if pl.Null not in (here, there)]
    else:  # a text file's cells are what they spell
        unlike = [(name, here, there) for name, here, there in unlike if pl.String not in (here, there)]
    if unlike:
        told = ", ".join(f"{name!r} ({here} and {there})" for name, here, there in unlike[:5])
        raise UserError(f"{file!r} and {test_file!r} have columns of other kinds: {told}")
    try:
        return pl.concat([frame, other.select(frame.columns)], how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{file!r} and {test_file!r} have columns of other kinds: {error}") from error


def _kind(dtype: pl.DataType) -> str:
    """Return what a typed column holds: numbers of all widths are alike, and so are texts and times."""
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    return "number" if dtype.is_numeric() else "time" if dtype.is_temporal() else str(dtype)


def _read_frame(data: str, drop: Sequence[str], reading: ReadOptions) -> tuple[pl.DataFrame, Decimal | None, str, str]:
    """Return a file's columns and decimal mark, its name, and the name without its ending."""
    path = os.path.expanduser(data)
    suffix = next((s for s in sorted(table_files.SUFFIXES, key=len, reverse=True) if data.lower().endswith(s)), None)
    if os.path.isdir(path):
        raise UserError(f"{data!r} is a folder: give the path of one file ending in {_ENDINGS}")
    if not os.path.exists(path):
        raise UserError(_nothing_there(data, path, suffix, (*EMBEDDED, *uci.NAMES)))
    if suffix is None:
        raise UserError(f"{data!r} is in a format that is not read here: save it as a file ending in {_ENDINGS}")
    frame, decimal = table_files.read(Path(path), reading)
    file = os.path.basename(path)
    dropped = {part.strip() for word in drop for part in word.split(",")} | {*drop}
    for column in frame.columns:
        if column not in dropped and _ROW_INDEX.fullmatch(column):
            shown = f"a column named {column!r}" if column else "a column without a name"
            raise UserError(f"{file!r} has {shown}, as a saved row index is: drop it with --drop {column!r}")
    return frame, decimal, file, file[: -len(suffix)]


def _nothing_there(data: str, path: str, suffix: str | None, names: Sequence[str]) -> str:
    folder, file = os.path.split(path)
    if suffix is None and not folder:
        return (
            f"{data!r} is neither a dataset nor a file: give a file ending in {_ENDINGS}, or one of "
            f"{', '.join(names)}{did_you_mean(data, names)}"
        )
    if not os.path.isdir(folder or "."):
        return f"there is no file {data!r}, and no folder {folder!r} either: check the path"
    try:
        beside = os.listdir(folder or ".")
    except OSError:  # the folder may be searched but not listed: the file is as absent, only no name can be offered
        beside = []
    return f"there is no file {data!r}: check the path{did_you_mean(file, beside)}"
