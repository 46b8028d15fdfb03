"""Columns by name of what users have: data frames of polars and pandas, dicts of sequences, lists of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from vicinal.lab.errors import UserError
from vicinal.lab.format import did_you_mean, quoted


def select(data: Any, names: Sequence[str]) -> list[pl.Series]:
    """Return some columns, all of one length.

    Args:
        data: a polars or pandas DataFrame, a dict of sequences, or a list of dicts, one per row; a key that a row lacks
            is a missing cell.
        names: of the columns. Spaces around names play no part unless they tell two columns apart.

    Raises:
        UserError: if `data` is something else, a column is not there or is there twice, or lengths differ.

    """
    columns = _by_name(data)
    if columns is None:  # no rows
        return [pl.Series(name, [], pl.Null) for name in names]
    keys = {str(key): key for key in columns}
    places = [_place(name, keys) for name in names]
    absent = [name for name, place in zip(names, places, strict=True) if place is None]
    if absent:
        word, them = ("column", "it") if len(absent) == 1 else ("columns", "them")
        hint = did_you_mean(absent[0], keys)
        raise UserError(f"the data lack the input {word} {quoted(absent)}: add {them}{hint}")
    series = [
        _series(name, columns[keys[place]]) for name, place in zip(names, places, strict=True) if place is not None
    ]
    for column in series:
        if len(column) != len(series[0]):
            raise UserError(
                f"column {column.name!r} has {len(column)} values and {series[0].name!r} has {len(series[0])}"
                f": give columns of one length"
            )
    return series


def _by_name(data: Any) -> Any:
    """Return something that iterates over names and gives the columns by them; None if there are no rows."""
    if isinstance(data, list | tuple):
        if not data:
            return None
        if odd := next((row for row in data if not isinstance(row, Mapping)), None):
            raise _unknown(f"a list of {type(odd).__name__}")
        if not all(isinstance(row, Mapping) for row in data):
            raise _unknown("a list")
        names = dict.fromkeys(name for row in data for name in row)
        return {name: [row.get(name) for row in data] for name in names}
    if isinstance(data, pl.LazyFrame):
        data = data.collect()
    if isinstance(data, pl.DataFrame):
        return {name: data[name] for name in data.columns}
    if isinstance(data, Mapping):
        return data
    if hasattr(data, "columns") and hasattr(data, "iloc"):  # of pandas
        if twice := [name for name, count in data.columns.value_counts().items() if count > 1]:
            raise UserError(f"column {str(twice[0])!r} is there twice: drop one of them")
        return data
    raise _unknown(type(data).__name__)


def _unknown(what: str) -> UserError:
    return UserError(f"rows are a data frame, a dict of columns or a list of dicts, got {what}: give one of these")


def _place(name: str, names: Mapping[str, Any]) -> str | None:
    """Return the name that a column has in the data, or None."""
    if name in names:
        return name
    alike = [other for other in names if other.strip() == name.strip()]
    if len(alike) > 1:
        raise UserError(f"the columns {quoted(alike)} are both {name!r} but for spaces: rename or drop one")
    return alike[0] if alike else None


def _series(name: str, values: Any) -> pl.Series:
    if isinstance(values, pl.Series):
        return values.rename(name)
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise UserError(f"column {name!r} has shape {list(values.shape)}: give one value per row")
        values = values.tolist() if values.dtype == object else values
    elif hasattr(values, "isna"):  # a pandas Series: its several kinds of missing become None
        values = values.astype(object).where(~values.isna(), None).tolist()
    elif isinstance(values, str) or not isinstance(values, Sequence):
        raise UserError(
            f"column {name!r} is {type(values).__name__}: give a sequence with one value per row, or a list of dicts"
        )
    if isinstance(values, list | tuple):  # by the type of a first numpy scalar, polars would cut fractions off
        values = [_plain(value) for value in values]
    try:
        return pl.Series(name, values, strict=False)
    except (TypeError, pl.exceptions.PolarsError) as e:
        raise UserError(f"column {name!r} cannot be read ({e}): give numbers or text") from e


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.number | np.bool_ | np.str_) else value
