from __future__ import annotations

import numpy as np
import pytest

from vicinal.lab.data.table import Table, check, make_table
from vicinal.lab.errors import UserError

LABEL = ["a", "b", "c"] * 4


def test_fingerprint_knows_one_nan() -> None:
    other = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]
    prints = set()
    for nan in (np.nan, other, -np.nan):
        x = np.arange(12.0)
        x[3] = nan
        prints.add(make_table({"x": x, "y": [*LABEL]}, "y", name="t", source="t").fingerprint())
    assert len(prints) == 1


def test_fingerprint_is_stable() -> None:
    table = make_table({"x": np.arange(12.0), "y": [*LABEL]}, "y", name="t", source="t")
    assert table.fingerprint() == "5aa772e8cb8eb4fc1a2cce5f770ccd5ed0272126d02ca5d8537961553365b7dc"


def test_check_accepts_small_classes_where_published() -> None:
    table = Table(
        name="t",
        source="t",
        numeric=np.arange(12.0)[:, None],
        numeric_columns=("x",),
        codes=np.empty((12, 0), dtype=np.int64),
        categorical_columns=(),
        categories=(),
        target=np.array([0] * 6 + [1] * 5 + [2]),
        target_name="y",
        classes=("a", "b", "c"),
    )
    assert check(table, allow_small_classes=True) is table
    with pytest.raises(UserError, match="a single example of class 'c'"):
        check(table)
