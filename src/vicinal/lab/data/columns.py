"""The rules of a column.

- Numbers and booleans (0, 1) are numbers; so are dates and times, as days since 1970-01-01 (in text
  files: ISO 8601 without an offset, or in UTC: ``Z`` or ``+00:00``).
- Text is categorical, stripped of surrounding spaces; its categories are the values that occur, sorted.
- An empty cell, ``?`` and the words that pandas' `read_csv` takes for missing are missing (`MISSING`).
- In a file separated by semicolons, ``1,5`` is a number with a decimal comma.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vicinal.lab.data.read_options import Decimal
from vicinal.lab.errors import UserError
from vicinal.lab.format import counted

MISSING = (  # the defaults of pandas 3.0 read_csv's `na_values`, and "?"
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null", "?"),
)
_EXACT = 2**53  # float64 holds whole numbers exactly up to here
LARGEST = 1e30  # float32 ends at 3e38, and a model's inputs are float32

Numbers = NDArray[np.float64]

_DATES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f")


def is_plain(column: pl.Series) -> bool:
    """Return whether each cell is one number, date, boolean or text."""
    return not column.dtype.is_nested() and column.dtype not in (pl.Binary, pl.Object)


def is_text(column: pl.Series) -> bool:
    """Return whether the cells are texts, whatever these spell."""
    return column.dtype in (pl.String, pl.Categorical, pl.Enum)


def infer(column: pl.Series, decimal: Decimal = ".") -> pl.Series:
    """Return texts as numbers, booleans or times where all of them spell such, and else as they are.

    A column with nothing in it is numbers, all missing.
    """
    texts = _clean(column)
    return next((typed for typed in _readings(texts, decimal) if typed.count() == texts.count()), texts)


def _readings(texts: pl.Series, decimal: Decimal) -> Iterator[pl.Series]:
    numbers = texts.cast(pl.Float64, strict=False)
    if (numbers.abs() > _EXACT).any() and texts.drop_nulls().str.contains(r"^[+-]?\d+$").all():
        # float64 would make one of two identifiers that differ in the last digits; of too many digits, they are text
        exact = texts.cast(pl.Int128, strict=False)
        yield exact if exact.count() == texts.count() else texts
    yield numbers
    yield texts.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
    if decimal == ",":
        yield texts.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    times = texts.str.replace(" ", "T", literal=True).str.replace(r"(Z|\+00(:?00)?)$", "")
    for pattern in _DATES:
        yield times.str.to_datetime(pattern, strict=False, time_unit="us")


def to_numbers(column: pl.Series) -> Numbers | None:
    """Read a column as float64 [n], nan where missing; None if it holds anything that is not a number.

    Numbers, booleans, dates and durations (in days) are numbers, and so are texts that all spell one of these.
    """
    column = infer(column) if is_text(column) else column
    if is_text(column):
        return None
    return _days(column) if column.dtype.is_temporal() else _float64(column)


def to_strings(column: pl.Series) -> list[str | None]:
    """Read a column as texts, None where missing: whole numbers without a point, booleans as true and false."""
    if column.dtype.is_numeric() and not column.dtype.is_integer():
        return [None if np.isnan(v) else _spell(v) for v in _float64(column).tolist()]
    return _clean(column).to_list()


def categories_of(texts: Iterable[str | None]) -> tuple[str, ...]:
    """Return the values that occur, sorted: as numbers if all are numbers, so that class 10 comes after class 9."""
    categories = {text for text in texts if text is not None}
    try:
        return tuple(sorted(categories, key=lambda text: (float(text), text)))
    except ValueError:
        return tuple(sorted(categories))


def to_codes(texts: Iterable[str | None], categories: Sequence[str]) -> NDArray[np.int64]:
    """Return the position of each text in `categories`, -1 for any other."""
    place: dict[str | None, int] = {text: i for i, text in enumerate(categories)}
    return np.array([place.get(text, -1) for text in texts], dtype=np.int64)


def side_by_side(columns: Sequence[NDArray[Any]], rows: int, dtype: type) -> NDArray[Any]:
    """Stack columns to an array [rows, columns], of which there may be none."""
    return np.stack(columns, axis=1) if columns else np.empty((rows, 0), dtype)


def check_size(name: str, values: Numbers) -> None:
    """Refuse infinite values and those beyond 1e30 in size, which float32 arithmetic would make infinite."""
    sizes = np.abs(values[~np.isnan(values)])
    if infinite := int(np.isinf(sizes).sum()):
        raise UserError(
            f"column {name!r} has {counted(infinite, 'infinite value')}: remove those rows, or leave the cells empty"
        )
    if (sizes > LARGEST).any():
        raise UserError(f"column {name!r} has values beyond {LARGEST:g}: rescale it (or take its logarithm)")


def _clean(column: pl.Series) -> pl.Series:
    texts = column.cast(pl.String).str.strip_chars()
    return texts.set(texts.is_in(list(MISSING)), None)


def _float64(column: pl.Series) -> Numbers:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy(writable=True)


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
