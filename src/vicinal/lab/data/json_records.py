"""Records in JSON: a list of objects, an object in each line, or an object of columns."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from vicinal.lab.data.columns import infer, is_text


def read_json(raw: bytes) -> pl.DataFrame:
    """Read records, with the types that all of them show.

    JSON has no dates: texts that all spell one are dates. A column that holds numbers and texts is numbers where its texts
    spell such, or stand for missing ones, as "N/A"; other text stays text, as a code of digits is.

    Raises:
        ValueError: it is not JSON, or other things than records of one table.
        polars.exceptions.PolarsError: likewise.

    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    lines = raw.lstrip().startswith(b"{")
    if lines and (columns := _whole(raw)) is not None and any(isinstance(v, Mapping | list) for v in columns.values()):
        raw, lines = json.dumps(_of_columns(columns)).encode(), False
    frame = (pl.read_ndjson if lines else pl.read_json)(io.BytesIO(raw), infer_schema_length=None)
    frame = frame.select(_in_order(frame.columns, raw, lines))
    typed = {column.name: infer(column) for column in frame.get_columns() if is_text(column)}
    dates = {name: column for name, column in typed.items() if column.dtype.is_temporal()}
    numbers = {name: column for name, column in typed.items() if column.dtype.is_float() and column.count()}
    if numbers:  # polars has made one type of all values, so look at these
        records = [*_records(raw, lines)]
        numbers = {
            name: column
            for name, column in numbers.items()
            if any(type(record.get(name)) in (int, float) for record in records)
        }
    return frame.with_columns(**dates, **numbers)


def _records(raw: bytes, lines: bool) -> Iterator[dict[str, Any]]:
    if lines:
        yield from (json.loads(line) for line in raw.splitlines() if line.strip())
    else:
        yield from json.loads(raw)


def _in_order(names: Sequence[str], raw: bytes, lines: bool) -> list[str]:
    """Return names in the order in which the records bring them up, which polars loses in large files."""
    ordered: dict[str, None] = {}
    for record in _records(raw, lines):
        if not isinstance(record, Mapping):
            raise ValueError(f"it holds {str(record)[:20]!r} where a record should be")
        ordered.update(dict.fromkeys(record))
        if len(ordered) == len(names):
            break
    return [*ordered]


def _whole(raw: bytes) -> dict[str, Any] | None:
    """Return the one object that a text is; None if it is several, one in a line."""
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return None
        raise


def _of_columns(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records of an object of columns: lists, or objects by row as pandas writes them."""
    bodies = [[*body.values()] if isinstance(body, Mapping) else body for body in columns.values()]
    rows = [[*body] if isinstance(body, Mapping) else None for body in columns.values()]
    if not all(isinstance(body, list) and len(body) == len(bodies[0]) for body in bodies) or any(
        row != rows[0] for row in rows
    ):
        raise ValueError("it is one object, but not of columns of one length")
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*bodies, strict=True)]
