"""Splits of tables, encoded and stacked for models that are trained at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vicinal.lab.data.encoder import Encoding
from vicinal.lab.data.splits import split
from vicinal.lab.data.table import Table
from vicinal.lab.training.stacked_mlp import StackedSplit

EncodedSplit = Sequence[tuple[np.ndarray, np.ndarray]]  # inputs and class indices for training, validation and testing


def encode_split(table: Table, seed: int, *, validation: float, test: float, scaled: bool = True) -> EncodedSplit:
    """Return the split of a seed, encoded by its training rows; inputs stay in their own units unless `scaled`."""
    rows = split(table, seed, validation=validation, test=test)
    encoding = Encoding.fit(table, rows.train)
    encoding = encoding if scaled else encoding.unscaled()
    x, y = encoding.inputs(table), encoding.targets(table)
    return [(x[part], y[part]) for part in (rows.train, rows.validation, rows.test)]


def stack(splits: Sequence[EncodedSplit]) -> tuple[StackedSplit, StackedSplit, StackedSplit]:
    """Return the training, validation and test rows of all splits."""
    train, validation, test = (
        StackedSplit(*(torch.from_numpy(np.stack(arrays)) for arrays in zip(*part, strict=True)))
        for part in zip(*splits, strict=True)
    )
    return train, validation, test
