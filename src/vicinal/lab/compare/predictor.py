"""A trained table model with the preprocessing it needs, in one safetensors file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vicinal.lab import atomic
from vicinal.lab.data.column_reading import read_again
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.read_options import AS_IT_IS, Decimal, ReadOptions
from vicinal.lab.data.table import Table
from vicinal.lab.errors import UserError
from vicinal.lab.format import quoted
from vicinal.lab.models.mlp import MLP
from vicinal.lab.records import from_json, to_json

_KEY = "vicinal"
_FORMAT = 1
_ROWS = 4096  # that are predicted at a time


_READERS = {"table": "vicinal.lab.compare.predictor.Predictor", "images": "vicinal.lab.compare.classifier.Classifier"}
_READERS["audio"] = _READERS["images"]


def write_model(path: str | os.PathLike[str], model: nn.Module, header: dict[str, Any]) -> None:
    """Write a model's state and what else is needed to use it, plain JSON values; whole or not at all."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    content = json.dumps({"format": _FORMAT, **header})
    atomic.write(Path(path), safetensors.torch.save(state, metadata={_KEY: content}))


def read_model(path: str | os.PathLike[str], *kinds: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a file that `write_model` wrote, for one of some kinds of data; no code in it is run.

    Raises:
        UserError: there is no such file, or it is not a model of this format for such data.

    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {os.fspath(path)!r}") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{os.fspath(path)!r} is not a whole safetensors file: {error}") from error
    try:
        header = json.loads(metadata[_KEY])
        found, kind = header["format"], header.get("kind", "table")
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        header, found, kind = {}, None, ""
    if found != _FORMAT:
        raise UserError(
            f"{os.fspath(path)!r} holds no predictor of format {_FORMAT} (found {found!r}); train it again with "
            "vicinal compare"
        )
    if kind not in kinds:
        raise UserError(f"{os.fspath(path)!r} holds a model for {kind!r}; load it with {_READERS.get(kind, 'vicinal')}")
    return header, state


def kind_of(path: str | os.PathLike[str]) -> str:
    """Return "table", "images" or "audio": what a file that `write_model` wrote is for.

    Raises:
        UserError: as of `read_model`.

    """
    header, _ = read_model(path, *_READERS)
    return header.get("kind", "table")


def damaged(path: str | os.PathLike[str], error: Exception) -> UserError:
    """Return the error for a header and a state that do not make a model."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return UserError(f"{os.fspath(path)!r} is damaged ({reason}); train it again with vicinal compare")


def check_finite(path: str | os.PathLike[str], state: Mapping[str, Tensor]) -> None:
    """Refuse a model with weights that are no finite numbers."""
    if bad := [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]:
        raise UserError(
            f"{os.fspath(path)!r} has weights that are no finite numbers ({quoted(bad, 2)}): its training diverged; train "
            "it again, with a smaller --learning-rate"
        )


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
        kinds = {"number": "numbers", "date": "dates", "yes/no": "yes/no"}
        inputs = [column for column in table.columns if column.role == "input"]
        held = {column.name: column.parsed or kinds.get(column.kind, "") for column in inputs}
        return cls(table.reading, {name: what for name, what in held.items() if what})

    def read(self, column: pl.Series, is_number: bool, decimal: Decimal = ".") -> pl.Series:
        """Read a column of new rows, as `read_again` does."""
        return read_again(column, is_number, decimal, self.options, self.parsed.get(column.name, ""))


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
            "hidden": [layer.out_features for layer in list(self.model.layers)[:-1]],  # type: ignore[union-attr]
            "encoding": self.encoding.to_json(),
            "about": self.about,
            "reading": to_json(self.reading),
        }
        write_model(path, self.model, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictor:
        """Read a file that `save` wrote; no code in it is run.

        Raises:
            UserError: there is no such file, or it is not a predictor of this format.

        """
        header, state = read_model(path, "table")
        try:
            encoding, about = TableEncoder.from_json(header["encoding"]), dict(header["about"])
            reading = from_json(RowReading, header.get("reading", {}))  # which older files lack
            with torch.device("meta"):  # takes no memory, whatever widths the header claims
                model = MLP(encoding.width, header["hidden"], len(encoding.classes) or 1)
            model.load_state_dict(state, assign=True)
            if any(tensor.dtype != torch.float32 for tensor in state.values()):
                raise TypeError("weights are not float32")
        except (UserError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise damaged(path, error) from error
        check_finite(path, state)
        return cls(model, encoding, about, reading)

    def outputs(self, columns: Any, decimal: Decimal = ".") -> Tensor:
        """Return the model's outputs float32 [n, C] for a data frame (polars, pandas), a dict of columns or a list of dicts.

        Cells are read as those of the training table were: its words for missing, its parsed columns. `decimal` is the mark
        in numbers that texts spell.

        Raises:
            UserError: as of `TableEncoder.transform_records`; and where an output is not a finite number.

        """
        inputs = self.encoding.inputs_of_records(columns, partial(self.reading.read, decimal=decimal))
        with torch.inference_mode():
            found = torch.cat([self.model(block) for block in inputs.blocks(_ROWS)])
        return finite_outputs(found, lambda i: f"row {i + 1}")

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
