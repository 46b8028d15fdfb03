from __future__ import annotations

import numpy as np

from vicinal.lab.data import synthetic
from vicinal.lab.data.encoded_splits import encode_split, stack, stack_all
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.splits import split


def test_parts_are_the_rows_of_each_seeds_split_encoded_by_its_training_rows() -> None:
    table = synthetic.table("t", 3)
    splits = [encode_split(table, seed, validation=0.1, test=0.3) for seed in (4, 2)]
    for part, stacked in zip(("train", "validation", "test"), stack_all(splits), strict=True):
        for i, seed in enumerate((4, 2)):
            rows = split(table, seed, validation=0.1, test=0.3)
            inputs = TableEncoder.fit(table, rows.train).transform(table)[getattr(rows, part)]
            np.testing.assert_array_equal(stacked.inputs[i].dense().numpy(), inputs)
            np.testing.assert_array_equal(stacked.targets[i].numpy(), table.target[getattr(rows, part)])


def test_raw_inputs_are_those_of_the_table() -> None:
    table = synthetic.table("t", 2)
    raw = encode_split(table, 0, scaling="raw")
    rows = table.numeric[raw.rows.test]
    np.testing.assert_array_equal(stack([raw], "test").inputs[0].dense().numpy(), rows.astype(np.float32))


def test_min_max_is_of_the_training_rows() -> None:
    table = synthetic.table("t", 2)
    one = encode_split(table, 0, scaling="min-max")
    train = table.numeric[one.rows.train]
    by_hand = (table.numeric - train.min(0)) / (train.max(0) - train.min(0))
    np.testing.assert_allclose(one.inputs.dense(), by_hand, rtol=1e-6, atol=1e-7)
    assert one.inputs.dense().min() < 0 or one.inputs.dense().max() > 1  # rows for testing may lie outside
