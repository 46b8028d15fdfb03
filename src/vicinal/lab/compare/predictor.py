"""A trained table model with the preprocessing it needs, in one safetensors file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import torch
from torch import Tensor

from vicinal.lab.compare import model_file
from vicinal.lab.data import spellings
from vicinal.lab.data.column_reading import read_again
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.read_options import AS_IT_IS, Decimal, ReadOptions
from vicinal.lab.data.table import Table
from vicinal.lab.errors import UserError
from vicinal.lab.models.mlp import MLP
from vicinal.lab.records import Mismatch, from_json, to_json

_ROWS = 4096  # that are predicted at a time
_WIDEST = 2**31  # layer
_HELD = {
    "number": "numbers",
    "date": "dates",
    "yes/no": "yes/no",
}  # what columns that are read as numbers hold, by kind


def finite_outputs(outputs: Tensor, name: Callable[[int], str]) -> Tensor:
    """Return outputs [n, C]; refuse those that are no finite numbers, by the names of their examples."""
    bad = (~outputs.isfinite().all(1)).nonzero()[:, 0].tolist()
    if bad:
        shown = ", ".join(map(name, bad[:5])) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise UserError(
            f"the model's outputs for {shown} are no finite numbers: check whether these inputs are far from those it was "
            "trained on; if not, its training diverged"
        )
    return outputs


@dataclass(frozen=True)
class RowReading:
    """How rows are read: as those of the training table were.

    Args:
        options: what was said about its file.
        parsed: for each column that was read as numbers what it holds: "numbers", "dates", "yes/no", or what it was parsed
            from where that was asked for (`ColumnSummary.parsed`).

    """

    options: ReadOptions = AS_IT_IS
    parsed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, table: Table) -> RowReading:
        """Return how a table was read."""
        inputs = [column for column in table.columns if column.role == "input"]
        held = {column.name: column.parsed or _HELD.get(column.kind, "") for column in inputs}
        return cls(table.reading, {name: what for name, what in held.items() if what})

    def check(self) -> None:
        """Refuse what `vicinal compare` cannot have been told.

        Raises:
            Mismatch: naming the field.

        """
        separator = self.options.separator
        if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
            raise Mismatch(f"reading.options.separator must be one character, found {separator[:20]!r}")
        for column, form in self.parsed.items():
            if form not in _HELD.values() and not any(spellings.named(form, mark) for mark in get_args(Decimal)):
                raise Mismatch(f"reading.parsed.{column[:60]} must be a form of numbers, found {form[:40]!r}")

    def read(self, column: pl.Series, is_number: bool, decimal: Decimal = ".") -> pl.Series:
        """Read a column of new rows, as `read_again` does."""
        return read_again(column, is_number, decimal, self.options, self.parsed.get(column.name, ""))


AS_WRITTEN = RowReading()


@dataclass(frozen=True)
class _TableHeader:
    """What a file says of a table's model besides its weights; older ones lack what has a default."""

    hidden: tuple[int, ...]
    encoding: dict[str, Any]
    about: dict[str, Any]
    reading: RowReading = AS_WRITTEN
    kind: Literal["table"] = "table"

    def check(self, encoding: TableEncoder, tensors: int) -> None:
        """Refuse what makes no model of a number of tensors, before anything of its size is made."""
        layers = len(self.hidden) + 1
        if tensors != 2 * layers or not all(0 < width < _WIDEST for width in (*self.hidden, encoding.width)):
            raise Mismatch(f"hidden and encoding must fit the {tensors} tensors")
        self.reading.check()


class Predictor:
    """Predicts the target of new rows that have the columns of the training table.

    Args:
        model: the model.
        encoding: turns columns into its inputs and its outputs into the target.
        about: what it was trained on and how, plain JSON values.
        reading: how new rows are read; by default as their cells are.

    """

    def __init__(
        self, model: MLP, encoding: TableEncoder, about: dict[str, Any] | None = None, reading: RowReading | None = None
    ) -> None:
        self.model = model.eval()
        self.encoding = encoding
        self.about = about or {}
        self.reading = RowReading() if reading is None else reading

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all."""
        header = {
            "kind": "table",
            "hidden": [layer.out_features for layer in list(self.model.layers)[:-1]],  # type: ignore[union-attr]
            "encoding": self.encoding.to_json(),
            "about": self.about,
            "reading": to_json(self.reading),
        }
        model_file.write(path, self.model, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictor:
        """Read a file that `save` wrote; no code in it is run.

        Raises:
            UserError: there is no such file, or it is not a predictor of this format.

        """
        header, state = model_file.read(path, "table")
        try:
            found: _TableHeader = from_json(_TableHeader, header)
            encoding = TableEncoder.from_json(found.encoding)
            found.check(encoding, len(state))
            with torch.device("meta"):  # takes no memory, whatever widths the header claims
                model = MLP(encoding.width, found.hidden, len(encoding.classes) or 1)
        except (Mismatch, UserError, RuntimeError, ValueError) as error:
            raise model_file.damaged(path, error) from error
        model_file.check_state(path, state, model.state_dict())
        model.load_state_dict(state, assign=True)
        return cls(model, encoding, found.about, found.reading)

    def outputs(self, columns: Any, decimal: Decimal = ".", first: int = 0) -> Tensor:
        """Return the model's outputs float32 [n, C] for a data frame (polars, pandas), a dict of columns or a list of dicts.

        Cells are read as those of the training table were: its words for missing, its parsed columns. `decimal` is the mark
        in numbers that texts spell, and `first` the number of the rows before them, for what is said of a row.

        Raises:
            UserError: as of `TableEncoder.transform_records`; and where an output is not a finite number.

        """
        inputs = self.encoding.inputs_of_records(columns, partial(self.reading.read, decimal=decimal))
        with torch.inference_mode():
            found = torch.cat([self.model(block) for block in inputs.blocks(_ROWS)])
        return finite_outputs(found, lambda i: f"row {first + i + 1}")

    def predict(self, columns: Any) -> np.ndarray:
        """Return the predicted classes in the target's own type, or the target in its own unit, [n].

        Whole numbers are int64 and booleans bool, so that `predict(rows) == rows[target]` compares what it says.
        """
        out = self.outputs(columns)
        return self.encoding.inverse_transform((out.argmax(1) if self.encoding.classes else out[:, 0]).numpy())

    def probabilities(self, columns: Any) -> np.ndarray:
        """Return class probabilities float32 [n, C], in the order of `encoding.classes`."""
        if not self.encoding.classes:
            raise UserError("a regression model gives numbers, not probabilities: use predict")
        return self.outputs(columns).softmax(1).numpy()
