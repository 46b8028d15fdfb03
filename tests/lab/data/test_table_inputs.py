"""Inputs that keep categories as codes are, when taken, the one-hot columns of a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vicinal.keyed import Key
from vicinal.lab.data.table_inputs import TableInputs


def made(shape: tuple[int, ...], p: int, levels: tuple[int, ...], seed: int) -> TableInputs:
    generator = Key(seed, 0, 0, 0).generator()
    numbers = torch.from_numpy(generator.standard_normal((*shape, p)).astype(np.float32))
    if not levels:
        return TableInputs(numbers)
    codes = np.stack([generator.integers(-1, k, shape) for k in levels], -1).astype(np.int32)
    return TableInputs(numbers, torch.from_numpy(codes), levels)


def by_hand(inputs: TableInputs) -> np.ndarray:
    numbers = inputs.numbers.numpy()
    found = np.zeros((*numbers.shape[:-1], numbers.shape[-1] + sum(inputs.levels)), np.float32)
    for at in np.ndindex(*numbers.shape[:-1]):
        row = list(numbers[at])
        for j, k in enumerate(inputs.levels):
            assert inputs.codes is not None
            row += [float(inputs.codes[at][j] == level) for level in range(k)]
        found[at] = row
    return found


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.integers(0, 3),
    st.lists(st.integers(1, 5), max_size=3),
    st.integers(0, 99),
)
def test_dense_is_the_plain_loop(shape: list[int], p: int, levels: list[int], seed: int) -> None:
    inputs = made((*shape,), p, (*levels,), seed)
    assert np.array_equal(inputs.dense().numpy(), by_hand(inputs))
    assert inputs.dense().is_contiguous()
    assert (
        (inputs.rows, inputs.width) == inputs.dense().shape[-2:] if len(shape) == 1 else inputs.width == p + sum(levels)
    )


@pytest.mark.parametrize("levels", [(), (3,), (2, 5)])
def test_rows_are_those_of_the_dense_array(levels: tuple[int, ...]) -> None:
    inputs = made((2, 7), 3, levels, 0)
    dense = by_hand(inputs)
    rows = torch.tensor([[0, 13, 5], [6, 6, 7]])
    assert np.array_equal(inputs.flatten().take(rows).numpy(), dense.reshape(14, -1)[rows.numpy()])
    assert np.array_equal(inputs[1].dense().numpy(), dense[1])
    assert np.array_equal(inputs[:, 2:5].dense().numpy(), dense[:, 2:5])
    assert np.array_equal(inputs[0][torch.tensor([3, 1])].dense().numpy(), dense[0][[3, 1]])
    assert np.array_equal(TableInputs.stack([inputs[1], inputs[0]]).dense().numpy(), dense[::-1])
    blocks = list(inputs[0].blocks(3))
    assert [len(block) for block in blocks] == [3, 3, 1]
    assert np.array_equal(torch.cat(blocks).numpy(), dense[0])
    assert np.array_equal(torch.cat(list(inputs.blocks(4)), 1).numpy(), dense)


def test_no_rows_are_one_empty_block() -> None:
    assert [block.shape for block in made((0,), 2, (3,), 0).blocks(4)] == [(0, 5)]


def test_categories_take_the_memory_of_their_codes() -> None:
    n, levels = 20_000, (800, 800, 800)
    codes = torch.zeros(n, 3, dtype=torch.int32)
    inputs = TableInputs(torch.zeros(n, 1), codes, levels)
    assert inputs.width == 2401
    assert inputs.numbers.nbytes + codes.nbytes == n * 16
