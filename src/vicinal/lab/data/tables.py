"""Tables by name or file: scikit-learn's sets, the paper's UCI sets, and files of one's own."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from vicinal.lab.data import uci
from vicinal.lab.data.table import (
    TASKS,
    Numbers,
    Table,
    Texts,
    any_of,
    as_texts,
    assemble,
    closest,
    decode,
    gunzip,
    is_boolean,
    is_date,
    quoted,
    read_arff,
    read_bytes,
    read_delimited,
    read_parquet,
    separator_of,
    values_of,
)
from vicinal.lab.errors import UserError

EMBEDDED = ("iris", "wine", "breast_cancer", "digits", "diabetes")
SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".arff")
_ROW_INDEX = re.compile(r"(__index_level_\d+__|Unnamed: \d+|)")  # the names pandas gives to a saved row index


def load(data: str, *, target: str | None = None, task: str | None = None, drop: Sequence[str] = ()) -> Table:
    """Read a table.

    Args:
        data: a set of scikit-learn's (`EMBEDDED`), one of the paper's UCI sets (``abalone``, ``uci-iris``, ...: see
            `vicinal.lab.data.uci`), or the path of a .csv, .tsv, .parquet or .arff file (.csv.gz and .tsv.gz too).
            A name wins over a file of that name; upper and lower case are the same.
        target: the column to predict. Files need it; named sets have their own and take none.
        task: "classification" or "regression". By default text and booleans are classes, and so are numbers that
            are integers with at most 20 different values; other numbers, and dates, are regression.
        drop: columns to leave out.

    Returns:
        The checked table.

    Raises:
        UserError: with one sentence, for whatever cannot be read or learned from.

    """
    if task is not None and task not in TASKS:
        raise UserError(f"the task {task!r} is unknown: choose classification or regression")
    key, known = data.lower(), is_named(data)
    if known and target is not None:
        raise UserError(f"the dataset {data!r} has its own target: leave --target out (it is for files)")
    if key in EMBEDDED:
        return _read_embedded(key, task, drop)
    if known:
        return uci.load(key, task=task, drop=drop)
    path = os.path.expanduser(data)
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if key.endswith(s)), None)
    if os.path.isdir(path):
        raise UserError(f"{data!r} is a folder: give the path of one file ending in {any_of(SUFFIXES)}")
    if not os.path.exists(path):
        raise UserError(_nothing_there(data, path, suffix, (*EMBEDDED, *uci.NAMES)))
    if suffix is None:
        raise UserError(
            f"{data!r} is in a format that is not read here: save it as a file ending in {any_of(SUFFIXES)}"
        )
    return _read_file(path, suffix, target, task, drop)


def is_named(data: str) -> bool:
    """Return whether this is the name of a set, which wins over a file or folder of that name."""
    return data.lower() in EMBEDDED or uci.find(data.lower()) is not None


def _nothing_there(data: str, path: str, suffix: str | None, names: Sequence[str]) -> str:
    folder, file = os.path.split(path)
    if suffix is None and not folder:
        return (
            f"{data!r} is neither a dataset nor a file: give a file ending in {any_of(SUFFIXES)}, or one of "
            f"{', '.join(names)}{closest(data, names)}"
        )
    if not os.path.isdir(folder or "."):
        return f"there is no file {data!r}, and no folder {folder!r} either: check the path"
    try:
        beside = os.listdir(folder or ".")
    except OSError:  # the folder may be searched but not listed: the file is as absent, only no name can be offered
        beside = []
    return f"there is no file {data!r}: check the path{closest(file, beside)}"


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
    columns: dict[str, Numbers | Texts] = {str(key): x for key, x in zip(bunch.feature_names, inputs.T, strict=True)}
    goal = np.asarray(bunch.target)
    named = "target_names" in bunch
    columns[target] = [str(bunch.target_names[i]) for i in goal] if named else goal.astype(np.float64)
    return assemble(columns, target, name=name, source=f"scikit-learn: load_{name}", task=task, drop=drop)


def _read_file(path: str, suffix: str, target: str | None, task: str | None, drop: Sequence[str]) -> Table:
    label = os.path.basename(path)
    raw = read_bytes(path)
    spelled = decimal_comma = False
    if suffix == ".parquet":
        frame = read_parquet(raw, label)
    elif suffix == ".arff":
        frame = read_arff(raw, label)
    else:
        text = decode(gunzip(raw, label) if suffix.endswith(".gz") else raw, label)
        sep = "\t" if suffix.startswith(".tsv") else separator_of(text)
        spelled, decimal_comma = True, sep == ";"
        frame = read_delimited(text, label, separator=sep)
    for column in frame.columns:
        if column not in drop and _ROW_INDEX.fullmatch(column):
            shown = f"a column named {column!r}" if column else "a column without a name"
            raise UserError(f"{label!r} has {shown}, as a saved row index is: drop it with --drop {column!r}")
    if target is None:
        raise UserError(f"say which column of {label!r} to predict, with --target: {quoted(frame.columns, 20)}")
    columns: dict[str, Numbers | Texts] = {}
    for column in frame.get_columns():
        if column.name in drop:
            columns[column.name] = []  # whatever is in it
            continue
        columns[column.name] = values_of(column, spelled=spelled, decimal_comma=decimal_comma)
        if column.name == target and is_boolean(column) and task != "regression":
            columns[target] = as_texts(column)  # the classes keep their words
        elif column.name == target and task is None and is_date(column, spelled=spelled):
            task = "regression"
    return assemble(columns, target, name=label[: -len(suffix)], source=label, task=task, drop=drop)
