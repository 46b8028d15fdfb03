"""Splits of a table, encoded by their training rows and stacked for models that are trained at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.lab.data.encoder import Scaling, TableEncoder
from vicinal.lab.data.splits import Split, split
from vicinal.lab.data.table import Table
from vicinal.lab.data.table_inputs import TableInputs


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """A table as a model takes it: `inputs` and `targets` [n] of all rows, by the encoding of the training rows."""

    rows: Split
    encoder: TableEncoder
    inputs: TableInputs  # [n, D]
    targets: NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class StackedSplit:
    """The rows of one part (training, validation or test) of S splits."""

    inputs: TableInputs  # [S, n, D]
    targets: Tensor  # int64 class indices [S, n], or float [S, n] for regression


def encode_split(
    table: Table, seed: int, *, validation: float = 0.2, test: float = 0.2, scaling: Scaling = "standardized"
) -> EncodedSplit:
    """Return the split of a seed, encoded by its training rows."""
    return encode(table, split(table, seed, validation=validation, test=test), scaling)


def encode(table: Table, rows: Split, scaling: Scaling = "standardized") -> EncodedSplit:
    """Return a split encoded by its training rows."""
    encoder = TableEncoder.fit(table, rows.train, scaling)
    return EncodedSplit(rows, encoder, encoder.inputs(table), encoder.transform_target(table))


def stack(splits: Sequence[EncodedSplit], part: Literal["train", "validation", "test"]) -> StackedSplit:
    """Return the rows of one part of all splits."""
    rows = [getattr(of.rows, part) for of in splits]
    inputs = [of.inputs[torch.from_numpy(mine)] for of, mine in zip(splits, rows, strict=True)]
    targets = np.stack([of.targets[mine] for of, mine in zip(splits, rows, strict=True)])
    return StackedSplit(TableInputs.stack(inputs), torch.from_numpy(targets))


def stack_all(splits: Sequence[EncodedSplit]) -> tuple[StackedSplit, StackedSplit, StackedSplit]:
    """Return the training, validation and test rows of all splits."""
    return stack(splits, "train"), stack(splits, "validation"), stack(splits, "test")
