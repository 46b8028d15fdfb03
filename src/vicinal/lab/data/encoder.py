"""From a table to the float32 inputs of a model, and from its outputs back.

The columns of the inputs, in this order:

1. every numeric column: missing cells take the median, then standardized (or scaled to [0, 1], or left as it is);
2. for each numeric column with missing cells anywhere in the table: 1 where missing, else 0, then scaled alike;
3. every categorical column: one-hot over its categories, all zeros where missing.

Medians, means and standard deviations (or least values and ranges) are those of the fitted rows; categories and the choice
of indicators are the whole table's, so that the width is the same for every split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from vicinal._warn import warn
from vicinal.lab.data.columns import (
    MISSING,
    Numbers,
    check_size,
    is_plain,
    is_text,
    side_by_side,
    to_codes,
    to_numbers,
    to_strings,
)
from vicinal.lab.data.table import Table, TargetType
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.data.user_columns import select
from vicinal.lab.errors import UserError
from vicinal.lab.format import quoted
from vicinal.lab.records import Mismatch, from_json, to_json

VERSION = 2  # of the JSON form
_FAINT = 1e-140  # standard deviation below which squares of float64 lose digits

Scaling = Literal["standardized", "min-max", "raw"]


@dataclass(frozen=True)
class NumericColumn:
    """A column of numbers.

    Args:
        name: of the column.
        median: takes the place of missing cells.
        mean: is subtracted; of "min-max" the least value, of "raw" 0.
        std: then divides; of "min-max" the range, of "raw" 1.
        indicator: mean and std of the column's missing-indicator, where it has one.

    """

    name: str
    median: float
    mean: float
    std: float
    indicator: tuple[float, ...] | None


@dataclass(frozen=True)
class CategoricalColumn:
    """A column of categories."""

    name: str
    categories: tuple[str, ...]


@dataclass(frozen=True)
class TargetColumn:
    """The target: no classes for regression, mean 0 and standard deviation 1 for classes."""

    name: str
    classes: tuple[str, ...]
    mean: float
    std: float
    type: TargetType = "text"  # of the classes in the table

    def check(self) -> None:
        """Refuse classes that are not of the type that they are to have.

        Raises:
            Mismatch: naming the field.

        """
        if self.type == "boolean" and any(name.lower() not in ("true", "false") for name in self.classes):
            raise Mismatch("target.classes must be true and false for target.type 'boolean'")
        if self.type == "number" and not all(map(_is_number, self.classes)):
            raise Mismatch("target.classes must be numbers for target.type 'number'")

    @cached_property
    def labels(self) -> NDArray[Any]:
        """The classes as the table has them: int64 where all are whole numbers that it holds, float64, bool, or str."""
        if self.type == "boolean":
            return np.array([name.lower() == "true" for name in self.classes])
        if self.type == "number":
            numbers = [_number(name) for name in self.classes]
            whole = all(isinstance(number, int) and -(2**63) <= number < 2**63 for number in numbers)
            if not whole and any(float(number) != number for number in numbers):
                return np.array(self.classes)  # identifiers, whose last digits float64 would lose
            return np.array(numbers, dtype=np.int64 if whole else np.float64)
        return np.array(self.classes)


@dataclass(frozen=True)
class TableEncoder:
    """What `fit` measured; a value that compares, hashes and goes through JSON without loss."""

    numeric: tuple[NumericColumn, ...]
    categorical: tuple[CategoricalColumn, ...]
    target: TargetColumn

    @classmethod
    def fit(cls, table: Table, rows: NDArray[np.int64], scaling: Scaling = "standardized") -> TableEncoder:
        """Measure the encoding on some rows.

        Args:
            table: gives names, categories and the choice of indicators.
            rows: int64, not empty: the rows whose medians, means and standard deviations count, usually the training
                rows. A column with nothing in these rows has median 0; one that does not vary in them has standard
                deviation 1, and so has its range.
            scaling: of numbers and missing-indicators: to mean 0 and standard deviation 1, to [0, 1], or none. A
                numeric target is always standardized.

        Raises:
            ValueError: if `rows` is empty.
            IndexError: if `rows` are not rows of the table.

        """
        if len(rows) == 0:
            raise ValueError("an encoding needs at least one row to be fitted on")
        numbers = table.numeric[rows]
        missing = np.isnan(numbers)
        medians = np.zeros(numbers.shape[1])
        filled = ~missing.all(axis=0)
        medians[filled] = np.nanmedian(numbers[:, filled], axis=0)
        indicated = np.flatnonzero(np.isnan(table.numeric).any(axis=0))
        measure = _MEASURES[scaling]
        indicators = dict(zip(indicated.tolist(), measure(missing[:, indicated].astype(np.float64)), strict=True))
        moments = measure(np.where(missing, medians, numbers))
        ((mean, std),) = [(0.0, 1.0)] if table.classes else _moments(table.target[rows, None].astype(np.float64))
        return cls(
            tuple(
                NumericColumn(name, median, *of, indicators.get(i))
                for i, (name, median, of) in enumerate(
                    zip(table.numeric_columns, medians.tolist(), moments, strict=True)
                )
            ),
            tuple(map(CategoricalColumn, table.categorical_columns, table.categories)),
            TargetColumn(table.target_name, table.classes, mean, std, table.target_type),
        )

    @property
    def width(self) -> int:
        """How many inputs an example has."""
        return len(self.numeric) + len(self._indicators) + sum(len(column.categories) for column in self.categorical)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the target's classes; none for regression."""
        return self.target.classes

    @property
    def _indicators(self) -> dict[int, tuple[float, ...]]:
        """Mean and standard deviation of each missing-indicator, by the position of its column."""
        return {i: column.indicator for i, column in enumerate(self.numeric) if column.indicator is not None}

    def transform(self, table: Table) -> NDArray[np.float32]:
        """Encode all rows of the table it was fitted on, or of one with the same columns and categories.

        Returns:
            float32 [n, width], finite.

        Raises:
            ValueError: if the columns or categories are others.
            UserError: if a value lies so far from the fitted rows' that float32 cannot hold it.

        """
        return self.inputs(table).dense().numpy()

    def inputs(self, table: Table) -> TableInputs:
        """Encode as `transform` does, with categories as codes: of the size of the table, however many levels it has."""
        found = (table.numeric_columns, tuple(map(CategoricalColumn, table.categorical_columns, table.categories)))
        if found != (tuple(column.name for column in self.numeric), self.categorical):
            raise ValueError(f"the encoding was fitted on other columns or categories than those of {table.name!r}")
        return self._encode(table.numeric, table.codes)

    def transform_records(self, columns: Any) -> NDArray[np.float32]:
        """Encode new data.

        Args:
            columns: a polars or pandas DataFrame, a dict of sequences or a list of dicts, as `user_columns.select` takes
                them, of n rows; other columns than the inputs are ignored. Texts that spell numbers are read as in a CSV
                file. None and nan are missing. Categories that spell one number are one. A category that the table did
                not have becomes all zeros, with a warning at the line that called this library.

        Returns:
            float32 [n, width], finite.

        Raises:
            UserError: if a column is missing or shorter than the first, or holds text, infinite values or values too
                far from the fitted rows' where numbers are needed.

        """
        return self.inputs_of_records(columns).dense().numpy()

    def inputs_of_records(
        self, columns: Any, read: Callable[[pl.Series, bool], pl.Series] | None = None
    ) -> TableInputs:
        """Encode as `transform_records` does, with categories as codes.

        Args:
            columns: the data.
            read: reads each column first; it is told whether the column is one of numbers.

        """
        series = select(columns, [column.name for column in (*self.numeric, *self.categorical)])
        n, p = len(series[0]), len(self.numeric)
        if read is not None:
            series = [read(column, i < p) for i, column in enumerate(series)]
        numbers = [_numbers(column) for column in series[:p]]
        codes = list(map(_codes, series[p:], self.categorical))
        return self._encode(side_by_side(numbers, n, np.float64), side_by_side(codes, n, np.int64))

    def transform_target(self, table: Table) -> NDArray[np.int64] | NDArray[np.float32]:
        """Encode the target of all rows: int64 [n] classes, or float32 [n] standardized by the fitted rows.

        Raises:
            ValueError: if the target's name or classes are not those fitted.

        """
        if (table.target_name, table.classes) != (self.target.name, self.classes):
            raise ValueError(f"the encoding was fitted on another target than {table.target_name!r} of {table.name!r}")
        if self.classes:
            return table.target.astype(np.int64)
        return ((table.target - self.target.mean) / self.target.std).astype(np.float32)

    def inverse_transform(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Turn a model's answers into the target's own units.

        Args:
            outputs: regression: floats of any shape, standardized as by `transform_target`; classification: integers of any
                shape, positions in `classes`.

        Returns:
            float64, or classes in the target's own type (`TargetColumn.labels`); of the same shape.

        Raises:
            ValueError: if classes are asked of anything but integers in range.

        """
        outputs = np.asarray(outputs)
        if not self.classes:
            return outputs.astype(np.float64) * self.target.std + self.target.mean
        if not np.issubdtype(outputs.dtype, np.integer):
            raise ValueError(f"classes are decoded from integers, got {outputs.dtype}: take the argmax first")
        if outputs.size and not (outputs.min() >= 0 and outputs.max() < len(self.classes)):
            raise ValueError(
                f"classes are numbered 0 to {len(self.classes) - 1}, got {outputs.min()} to {outputs.max()}"
            )
        return self.target.labels[outputs]

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, strings and floats; `from_json` gives back an equal encoding."""
        return {"version": VERSION, **to_json(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TableEncoder:
        """Rebuild an encoding from what `to_json` gave.

        Raises:
            UserError: if the data are not such, or of another version.

        """
        if not isinstance(data, dict) or data.get("version") != VERSION:
            found = data.get("version") if isinstance(data, dict) else None
            raise UserError(
                f"the encoding has version {str(found)[:40]}, this program reads {VERSION}: write it again with this program"
            )
        try:
            encoding: TableEncoder = from_json(cls, {key: value for key, value in data.items() if key != "version"})
            encoding._check()
        except Mismatch as e:
            raise UserError(f"the encoding is damaged ({e}): write it again") from e
        return encoding

    def _check(self) -> None:
        """Refuse an encoding that `fit` cannot have measured.

        Raises:
            Mismatch: naming the field.

        """
        columns = [*self.numeric, *self.categorical, self.target]
        names = [column.name for column in columns]
        if len(set(names)) < len(names):
            raise Mismatch("its columns have a name twice")
        for i, column in enumerate(self.numeric):
            if column.indicator is not None and len(column.indicator) != 2:
                raise Mismatch(f"numeric[{i}].indicator must be a mean and a spread")
        moments = [(column.mean, column.std) for column in (*self.numeric, self.target)]
        moments += [(column.median, 1.0) for column in self.numeric]
        moments += [(indicator[0], indicator[1]) for indicator in self._indicators.values()]
        if not all(math.isfinite(center) and 0 < std < math.inf for center, std in moments):
            raise Mismatch("its numbers are not finite with positive spreads")
        for where, texts in (("target.classes", self.classes), *self._levels()):
            if len(set(texts)) < len(texts):
                raise Mismatch(f"{where} has a name twice")
        if bad := next((text for text in self._texts() if not _is_utf8(text)), None):
            raise Mismatch(f"{bad[:40]!r} is not text that UTF-8 can write")
        self.target.check()

    def _levels(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(f"categorical[{i}].categories", column.categories) for i, column in enumerate(self.categorical)]

    def _texts(self) -> Iterator[str]:
        """Yield all names, of columns, categories and classes."""
        yield from (column.name for column in (*self.numeric, *self.categorical, self.target))
        yield from self.classes
        for column in self.categorical:
            yield from column.categories

    def _encode(self, numbers: Numbers, codes: NDArray[np.int64]) -> TableInputs:
        missing = np.isnan(numbers)
        medians, means, stds = np.array([(c.median, c.mean, c.std) for c in self.numeric]).reshape(-1, 3).T
        places = list(self._indicators)
        shares, spreads = np.array([*self._indicators.values()]).reshape(-1, 2).T
        with np.errstate(over="ignore"):  # refused just below
            scaled = (np.where(missing, medians, numbers) - means) / stds
            inputs = np.concatenate([scaled, (missing[:, places] - shares) / spreads], 1, dtype=np.float32)
        far = np.flatnonzero(~np.isfinite(inputs).all(axis=0))
        if len(far):
            name = [*self.numeric, *(self.numeric[i] for i in places)][far[0]].name
            raise UserError(
                f"column {name!r} has values too far from those it was fitted on to be standardized"
                f": check its units, or rescale it"
            )
        levels = tuple(len(column.categories) for column in self.categorical)
        return TableInputs(
            torch.from_numpy(inputs), torch.from_numpy(codes.astype(np.int32)) if levels else None, levels
        )


def _number(text: str) -> int | float:
    """Return the number that a class spells, exactly where it is a whole one."""
    number = float(text)
    if not number.is_integer():
        return number
    try:
        return int(text)  # beyond 2**53 a float is another number
    except ValueError:  # as of "1e3"
        return int(number)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _moments(x: Numbers) -> list[tuple[float, float]]:
    """Mean and standard deviation of each column; a column that does not vary has its value and 1, exactly."""
    constant = x.min(axis=0) == x.max(axis=0)  # rounding gives 0.1, 0.1, 0.1 a standard deviation above 0
    means = np.where(constant, x[0], x.mean(axis=0))
    stds = x.std(axis=0)
    faint = np.flatnonzero(~constant & (stds < _FAINT))  # their squares are next to 0
    ranges = np.ptp(x[:, faint], axis=0)
    stds[faint] = ((x[:, faint] - x[:, faint].min(axis=0)) / ranges).std(axis=0) * ranges
    return list(zip(means.tolist(), np.where(constant | (stds == 0), 1.0, stds).tolist(), strict=True))


def _extents(x: Numbers) -> list[tuple[float, float]]:
    """Least value and range of each column; the range of a column that does not vary is taken as 1."""
    least, ranges = x.min(axis=0), np.ptp(x, axis=0)
    return list(zip(least.tolist(), np.where(ranges == 0, 1.0, ranges).tolist(), strict=True))


def _own_units(x: Numbers) -> list[tuple[float, float]]:
    return [(0.0, 1.0)] * x.shape[1]


_MEASURES: Mapping[Scaling, Callable[[Numbers], list[tuple[float, float]]]] = {
    "standardized": _moments,
    "min-max": _extents,
    "raw": _own_units,
}


def _numbers(column: pl.Series) -> Numbers:
    numbers = to_numbers(column) if is_plain(column) else None
    if numbers is None:
        texts = to_strings(column) if is_plain(column) else []
        example = next((t for t in texts if t is not None and to_numbers(pl.Series([t])) is None), column.dtype)
        raise UserError(
            f"column {column.name!r} must hold numbers, but holds {example!r}: correct it or leave it empty"
        )
    check_size(column.name, numbers)
    return numbers


def _codes(column: pl.Series, fitted: CategoricalColumn) -> NDArray[np.int64]:
    if not is_plain(column):
        raise UserError(f"column {column.name!r} must hold text, but holds {column.dtype}: give one value per row")
    # a word such as "None" is a category where it was one in training, and missing elsewhere
    raw = column.cast(pl.String).str.strip_chars().to_list() if is_text(column) else to_strings(column)
    known = {category: category for category in fitted.categories}
    texts = [text if text in known or text not in MISSING else None for text in raw]
    alike = {_canonical(category): category for category in reversed(fitted.categories)}  # the first of those alike
    found = [None if text is None else known.get(text) or alike.get(_canonical(text)) for text in texts]
    new = [text for text, category in zip(texts, found, strict=True) if text is not None and category is None]
    if new:
        values, were, they = ("value", "was", "it counts") if len(new) == 1 else ("values", "were", "they count")
        warn(
            f"column {column.name!r} has {len(new)} {values} that {were} not there in training ({quoted(sorted(set(new)))})"
            f": {they} as none of its categories"
        )
    return to_codes(found, fitted.categories)


def _canonical(text: str) -> str | float:
    """Return what texts have in common that are one value: "12", "12.0" and "012", or "True" and "true"."""
    try:
        number = float(text)
    except ValueError:
        return text.lower() if text.lower() in ("true", "false") else text
    return number if math.isfinite(number) and "_" not in text else text
