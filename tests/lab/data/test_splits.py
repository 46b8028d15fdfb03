from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vicinal.lab.data.splits import split, split_targets
from vicinal.lab.data.table import Table
from vicinal.lab.errors import UserError


def table_of(target: np.ndarray, classes: int) -> Table:
    n = len(target)
    return Table(
        name="t",
        source="t",
        numbers=np.arange(float(n))[:, None],
        number_names=("x",),
        codes=np.empty((n, 0), dtype=np.int64),
        category_names=(),
        levels=(),
        target=target,
        target_name="y",
        classes=tuple(f"class {i}" for i in range(classes)),
    )


def of_sizes(sizes: Sequence[int]) -> Table:
    return table_of(np.repeat(np.arange(len(sizes)), sizes), len(sizes))


def regression(n: int) -> Table:
    return table_of(np.arange(float(n)), 0)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=12).filter(lambda s: sum(s) >= 20),
    seed=st.integers(0, 2**64 - 1),
    validation=st.sampled_from([0.1, 0.2, 0.25]),
    test=st.sampled_from([0.1, 0.2, 0.3]),
)
@settings(max_examples=150, deadline=None)
def test_parts_are_disjoint_complete_stratified_and_of_fixed_size(
    sizes: list[int], seed: int, validation: float, test: float
) -> None:
    table, n = of_sizes(sizes), sum(sizes)
    if n - round(n * validation) - round(n * test) < len(sizes):
        return
    parts = split(table, seed, validation=validation, test=test)
    assert len(parts.test) == round(n * test)
    assert len(parts.validation) == round(n * validation)
    assert sorted([*parts.train, *parts.validation, *parts.test]) == [*range(n)]
    assert {part.dtype for part in (parts.train, parts.validation, parts.test)} == {np.dtype(np.int64)}
    train = np.bincount(table.target[parts.train], minlength=len(sizes))
    assert train.min() >= 1


@pytest.mark.parametrize("seed", range(20))
def test_classes_keep_their_shares(seed: int) -> None:
    sizes = np.array([100, 37, 211, 5, 60])
    table, n = of_sizes(sizes.tolist()), int(sizes.sum())
    parts = split(table, seed)
    for part in (parts.train, parts.validation, parts.test):
        found = np.bincount(table.target[part], minlength=5)
        # to within one row, and one more for rounding the part's own size
        assert np.abs(found - sizes * len(part) / n).max() < 2
    assert np.abs(np.bincount(table.target[parts.test], minlength=5) - sizes * 0.2).max() <= 1


def test_equal_classes_are_split_equally() -> None:
    table = of_sizes([50, 50, 50])
    for seed in range(5):
        parts = split(table, seed)
        assert np.bincount(table.target[parts.test]).tolist() == [10, 10, 10]
        assert np.bincount(table.target[parts.validation]).tolist() == [10, 10, 10]
        assert np.bincount(table.target[parts.train]).tolist() == [30, 30, 30]


def test_every_class_has_a_training_row_even_if_all_are_single() -> None:
    for seed in range(50):
        table = of_sizes([1] * 12 + [2] * 10 + [30])
        parts = split(table, seed)
        assert set(table.target[parts.train]) == set(range(23))
    table = of_sizes([1, 1, 1, 97])
    assert set(table.target[split(table, 0, validation=0.46, test=0.5).train]) == {0, 1, 2, 3}


@pytest.mark.parametrize("table", [of_sizes([30, 20, 50]), regression(100)])
def test_pure_function_of_the_seed(table: Table) -> None:
    first, again, other = split(table, 3), split(table, 3), split(table, 4)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(first, part), getattr(again, part))
        assert set(getattr(first, part)) != set(getattr(other, part))


def test_draws_are_fixed_across_versions() -> None:
    parts = split(of_sizes([6, 4]), 7)
    assert (parts.train.tolist(), parts.validation.tolist(), parts.test.tolist()) == (
        [9, 4, 2, 0, 8, 5],
        [1, 6],
        [3, 7],
    )
    plain = split(regression(10), 7)
    assert (plain.train.tolist(), plain.validation.tolist(), plain.test.tolist()) == (
        [8, 6, 0, 5, 9, 2],
        [4, 7],
        [3, 1],
    )


@pytest.mark.parametrize("table", [of_sizes([100, 100]), regression(200)])
def test_every_row_is_equally_often_in_each_part(table: Table) -> None:
    counts = np.zeros((3, 200))
    for seed in range(400):
        parts = split(table, seed)
        for i, part in enumerate((parts.test, parts.validation, parts.train)):
            counts[i, part] += 1
    for count, share in zip(counts, (0.2, 0.2, 0.6), strict=True):
        sd = np.sqrt(400 * share * (1 - share))
        z = (count - 400 * share) / sd
        assert np.abs(z).max() < 4.5
        assert z.std() == pytest.approx(1, abs=0.2)


def test_rows_within_a_part_are_in_random_order() -> None:
    table = of_sizes([100, 100])
    means = [np.corrcoef(np.arange(120), split(table, seed).train)[0, 1] for seed in range(100)]
    assert abs(np.mean(means)) < 0.04
    assert np.std(means) == pytest.approx(1 / np.sqrt(119), rel=0.3)


def test_parts_may_be_left_out() -> None:
    parts = split(regression(50), 0, validation=0, test=0.5)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (25, 0, 25)


@pytest.mark.parametrize(
    ("validation", "test", "sentence"),
    [
        (0.5, 0.5, "validation 0.5 and test 0.5 leave nothing to train on"),
        (-0.1, 0.2, "give shares that sum to less than 1"),
        (float("nan"), 0.2, "give shares that sum to less than 1"),
        (0.2, 0.001, "a test share of 0.001 is not one of 50 rows: give a larger share"),
        (0.001, 0.2, "a validation share of 0.001 is not one of 50 rows"),
        (0.49, 0.49, "2 training rows cannot hold an example of 3 classes: give smaller shares"),
    ],
)
def test_bad_shares(validation: float, test: float, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        split(of_sizes([20, 20, 10]), 0, validation=validation, test=test)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_bad_seeds(seed: int) -> None:
    with pytest.raises(ValueError, match="seed must be an integer in"):
        split(regression(50), seed)


def test_labels_are_split_as_tables_are() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    found = split_targets(labels.numpy(), 3, 7, validation=0.1, test=0.3)
    parts = (found.train, found.validation, found.test)
    assert [labels[rows].bincount().tolist() for rows in parts] == [[30, 18, 12], [5, 3, 2], [15, 9, 6]]
    assert sorted(np.concatenate(parts).tolist()) == list(range(100))
    again, other = (split_targets(labels.numpy(), 3, seed, validation=0.1, test=0.3).train.tolist() for seed in (7, 8))
    assert parts[0].tolist() == again != other
    table = split(table_of(labels.numpy(), 3), 7, validation=0.1, test=0.3)
    assert (table.train.tolist(), table.test.tolist()) == (again, parts[2].tolist())
    with pytest.raises(UserError, match="leave nothing to train on"):
        split_targets(labels.numpy(), 3, 7, validation=0.5, test=0.5)
