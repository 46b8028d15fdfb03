"""From a table to the float32 inputs of a model, and from its outputs back.

The columns of the inputs, in this order:

1. every number column: missing cells take the median, then standardized;
2. for each number column with missing cells anywhere in the table: 1 where missing, else 0, then standardized;
3. every category column: one-hot over its levels, all zeros where missing.

Medians, means and standard deviations are those of the fitted rows; levels and the choice of indicators are the whole
table's, so that the width is the same for every split.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vicinal.lab.data.columns import Numbers, as_numbers, as_texts, check_size, is_plain
from vicinal.lab.data.table import Table
from vicinal.lab.errors import UserError
from vicinal.lab.format import did_you_mean, quoted

VERSION = 1  # of the JSON form


class Frame(Protocol):
    """Columns by name: a dict of sequences, a polars or a pandas DataFrame."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a column."""
        ...

    def __contains__(self, name: Any, /) -> bool:
        """Return whether there is such a column."""
        ...


@dataclass(frozen=True)
class Encoding:
    """What `fit` measured; a value that compares, hashes and goes through JSON without loss.

    Args:
        number_names, medians, means, sds: one for each number column.
        indicators: positions in `number_names` of the columns with a missing-indicator.
        indicator_means, indicator_sds: one for each indicator.
        category_names, levels: one for each category column.
        target_name, classes: as in the table; no classes for regression.
        target_mean, target_sd: of a regression target; 0 and 1 for classes.

    """

    number_names: tuple[str, ...]
    medians: tuple[float, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]
    indicators: tuple[int, ...]
    indicator_means: tuple[float, ...]
    indicator_sds: tuple[float, ...]
    category_names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    target_name: str
    classes: tuple[str, ...]
    target_mean: float
    target_sd: float

    @classmethod
    def fit(cls, table: Table, rows: NDArray[np.int64]) -> Encoding:
        """Measure the encoding on some rows.

        Args:
            table: gives names, levels and the choice of indicators.
            rows: int64, not empty: the rows whose medians, means and standard deviations count, usually the training
                rows. A column with nothing in these rows has median 0; one that does not vary in them has sd 1.

        Raises:
            ValueError: if `rows` is empty.
            IndexError: if `rows` are not rows of the table.

        """
        if len(rows) == 0:
            raise ValueError("an encoding needs at least one row to be fitted on")
        numbers = table.numbers[rows]
        missing = np.isnan(numbers)
        medians = np.zeros(numbers.shape[1])
        filled = ~missing.all(axis=0)
        medians[filled] = np.nanmedian(numbers[:, filled], axis=0)
        means, sds = _moments(np.where(missing, medians, numbers))
        indicators = np.flatnonzero(np.isnan(table.numbers).any(axis=0))
        indicator_means, indicator_sds = _moments(missing[:, indicators].astype(np.float64))
        target_mean, target_sd = 0.0, 1.0
        if not table.classes:
            mean, sd = _moments(table.target[rows, None].astype(np.float64))
            target_mean, target_sd = float(mean[0]), float(sd[0])
        return cls(
            number_names=table.number_names,
            medians=tuple(medians.tolist()),
            means=tuple(means.tolist()),
            sds=tuple(sds.tolist()),
            indicators=tuple(indicators.tolist()),
            indicator_means=tuple(indicator_means.tolist()),
            indicator_sds=tuple(indicator_sds.tolist()),
            category_names=table.category_names,
            levels=table.levels,
            target_name=table.target_name,
            classes=table.classes,
            target_mean=target_mean,
            target_sd=target_sd,
        )

    @property
    def width(self) -> int:
        """How many inputs an example has."""
        return len(self.number_names) + len(self.indicators) + sum(map(len, self.levels))

    @property
    def task(self) -> str:
        """Either "classification" or "regression"."""
        return "classification" if self.classes else "regression"

    def inputs(self, table: Table) -> NDArray[np.float32]:
        """Encode all rows of the table it was fitted on, or of one with the same columns and levels.

        Returns:
            float32 [n, width], finite.

        Raises:
            ValueError: if the columns or levels are others.
            UserError: if a value lies so far from the fitted rows' that float32 cannot hold it.

        """
        found = (table.number_names, table.category_names, table.levels)
        if found != (self.number_names, self.category_names, self.levels):
            raise ValueError(f"the encoding was fitted on other columns or levels than those of {table.name!r}")
        return self._encode(table.numbers, table.codes)

    def inputs_from_records(self, columns: Frame) -> NDArray[np.float32]:
        """Encode new data.

        Args:
            columns: a sequence for each input column, all of one length n; others are ignored. Texts that spell
                numbers are read as in a CSV file. None and nan are missing. A level that the table did not have
                becomes all zeros, with a warning.

        Returns:
            float32 [n, width], finite.

        Raises:
            UserError: if a column is missing or shorter than the first, or holds text, infinite values or values too
                far from the fitted rows' where numbers are needed.

        """
        names = (*self.number_names, *self.category_names)
        absent = [name for name in names if name not in columns]
        if absent:
            others = [str(name) for name in cast("Any", columns)]
            word = "column" if len(absent) == 1 else "columns"
            raise UserError(
                f"the data lack the input {word} {quoted(absent)}: add them{did_you_mean(absent[0], others)}"
            )
        series = [_series(name, columns[name]) for name in names]
        for column in series:
            if len(column) != len(series[0]):
                raise UserError(
                    f"column {column.name!r} has {len(column)} values and {series[0].name!r} has {len(series[0])}"
                    f": give columns of one length"
                )
        n, p, q = len(series[0]), len(self.number_names), len(self.category_names)
        numbers = np.empty((n, p))
        for i, column in enumerate(series[:p]):
            numbers[:, i] = _numbers(column)
        codes = np.empty((n, q), dtype=np.int64)
        for i, column in enumerate(series[p:]):
            codes[:, i] = _codes(column, self.levels[i])
        return self._encode(numbers, codes)

    def targets(self, table: Table) -> NDArray[np.int64] | NDArray[np.float32]:
        """Encode the target of all rows: int64 [n] classes, or float32 [n] standardized by the fitted rows.

        Raises:
            ValueError: if the target's name or classes are not those fitted.

        """
        if (table.target_name, table.classes) != (self.target_name, self.classes):
            raise ValueError(f"the encoding was fitted on another target than {table.target_name!r} of {table.name!r}")
        if self.classes:
            return table.target.astype(np.int64)
        return ((table.target - self.target_mean) / self.target_sd).astype(np.float32)

    def decode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Turn a model's answers into the target's own units.

        Args:
            outputs: regression: floats of any shape, standardized as by `targets`; classification: integers of any
                shape, positions in `classes`.

        Returns:
            float64, or str names of classes; of the same shape.

        Raises:
            ValueError: if classes are asked of anything but integers in range.

        """
        outputs = np.asarray(outputs)
        if not self.classes:
            return outputs.astype(np.float64) * self.target_sd + self.target_mean
        if not np.issubdtype(outputs.dtype, np.integer):
            raise ValueError(f"classes are decoded from integers, got {outputs.dtype}: take the argmax first")
        if outputs.size and not (outputs.min() >= 0 and outputs.max() < len(self.classes)):
            raise ValueError(
                f"classes are numbered 0 to {len(self.classes) - 1}, got {outputs.min()} to {outputs.max()}"
            )
        return np.array(self.classes)[outputs]

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, strings and floats; `from_json` gives back an equal encoding."""
        indicators = dict(zip(self.indicators, zip(self.indicator_means, self.indicator_sds, strict=True), strict=True))
        return {
            "version": VERSION,
            "numbers": [
                {"name": name, "median": median, "mean": mean, "sd": sd, "indicator": _listed(indicators.get(i))}
                for i, (name, median, mean, sd) in enumerate(
                    zip(self.number_names, self.medians, self.means, self.sds, strict=True)
                )
            ],
            "categories": [
                {"name": name, "levels": list(levels)}
                for name, levels in zip(self.category_names, self.levels, strict=True)
            ],
            "target": {
                "name": self.target_name,
                "classes": list(self.classes),
                "mean": self.target_mean,
                "sd": self.target_sd,
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Encoding:
        """Rebuild an encoding from what `to_json` gave.

        Raises:
            UserError: if the data are not such, or of another version.

        """
        if data.get("version") != VERSION:
            raise UserError(
                f"the encoding has version {data.get('version')!r}, this program reads {VERSION}"
                f": write it again with this program"
            )
        try:
            numbers, categories, target = data["numbers"], data["categories"], data["target"]
            indicators = [
                (i, column["indicator"]) for i, column in enumerate(numbers) if column["indicator"] is not None
            ]
            encoding = cls(
                number_names=tuple(str(column["name"]) for column in numbers),
                medians=tuple(float(column["median"]) for column in numbers),
                means=tuple(float(column["mean"]) for column in numbers),
                sds=tuple(float(column["sd"]) for column in numbers),
                indicators=tuple(i for i, _ in indicators),
                indicator_means=tuple(float(mean) for _, (mean, _) in indicators),
                indicator_sds=tuple(float(sd) for _, (_, sd) in indicators),
                category_names=tuple(str(column["name"]) for column in categories),
                levels=tuple(tuple(str(level) for level in column["levels"]) for column in categories),
                target_name=str(target["name"]),
                classes=tuple(str(name) for name in target["classes"]),
                target_mean=float(target["mean"]),
                target_sd=float(target["sd"]),
            )
        except (KeyError, TypeError, ValueError) as e:
            raise UserError(f"the encoding is damaged ({type(e).__name__}: {e}): write it again") from e
        spreads = np.array([*encoding.sds, *encoding.indicator_sds, encoding.target_sd])
        centers = [*encoding.medians, *encoding.means, *encoding.indicator_means, encoding.target_mean]
        if not (np.isfinite([*spreads, *centers]).all() and (spreads > 0).all()):
            raise UserError(
                "the encoding is damaged (its numbers are not finite with positive spreads): write it again"
            )
        return encoding

    def _encode(self, numbers: Numbers, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        missing = np.isnan(numbers)
        inputs = np.zeros((len(numbers), self.width), dtype=np.float32)
        p, k = len(self.number_names), len(self.indicators)
        indicated = missing[:, list(self.indicators)]
        with np.errstate(over="ignore"):  # refused just below
            inputs[:, :p] = (np.where(missing, self.medians, numbers) - self.means) / self.sds
            inputs[:, p : p + k] = (indicated - np.array(self.indicator_means)) / self.indicator_sds
        far = np.flatnonzero(~np.isfinite(inputs).all(axis=0))
        if len(far):
            name = (*self.number_names, *(self.number_names[i] for i in self.indicators))[far[0]]
            raise UserError(
                f"column {name!r} has values too far from those it was fitted on to be standardized"
                f": check its units, or rescale it"
            )
        start = p + k
        for levels, code in zip(self.levels, codes.T, strict=True):
            present = np.flatnonzero(code >= 0)
            inputs[present, start + code[present]] = 1
            start += len(levels)
        return inputs


def _moments(x: Numbers) -> tuple[Numbers, Numbers]:
    """Mean and standard deviation of each column; a column that does not vary has its value and 1, exactly."""
    constant = x.min(axis=0) == x.max(axis=0)  # rounding gives 0.1, 0.1, 0.1 a standard deviation above 0
    means = np.where(constant, x[0], x.mean(axis=0))
    sds = x.std(axis=0)
    return means, np.where(constant | (sds == 0), 1.0, sds)


def _listed(pair: tuple[float, float] | None) -> list[float] | None:
    return None if pair is None else list(pair)


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
        raise UserError(f"column {name!r} is {type(values).__name__}: give a sequence with one value per row")
    try:
        return pl.Series(name, values, strict=False)
    except (TypeError, pl.exceptions.PolarsError) as e:
        raise UserError(f"column {name!r} cannot be read ({e}): give numbers or text") from e


def _numbers(column: pl.Series) -> Numbers:
    numbers = as_numbers(column) if is_plain(column) else None
    if numbers is None:
        texts = as_texts(column) if is_plain(column) else []
        example = next((t for t in texts if t is not None and as_numbers(pl.Series([t])) is None), column.dtype)
        raise UserError(
            f"column {column.name!r} must hold numbers, but holds {example!r}: correct it or leave it empty"
        )
    check_size(column.name, numbers)
    return numbers


def _codes(column: pl.Series, levels: Sequence[str]) -> NDArray[np.int64]:
    if not is_plain(column):
        raise UserError(f"column {column.name!r} must hold text, but holds {column.dtype}: give one value per row")
    texts = as_texts(column)
    place: dict[str | None, int] = {level: i for i, level in enumerate(levels)}
    new = [text for text in texts if text is not None and text not in place]
    if new:
        found = (
            f"column {column.name!r} has {len(new)} values that were not there in training ({quoted(sorted(set(new)))})"
        )
        warnings.warn(f"{found}: they count as none of its levels", UserWarning, stacklevel=4)
    return np.array([place.get(text, -1) for text in texts], dtype=np.int64)
