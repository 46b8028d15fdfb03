"""Splits by repeated cross-validation, by groups, by time and by a fixed test set."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vicinal.lab.data import folds
from vicinal.lab.data.folds import Splitting
from vicinal.lab.data.splits import Split
from vicinal.lab.errors import UserError

SIZES = st.lists(st.integers(1, 40), min_size=2, max_size=8).filter(lambda sizes: sum(sizes) >= 15)
SEEDS = st.integers(0, 10_000)
some = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def labels(sizes: list[int], order: int = 0) -> np.ndarray:
    """Class indices of classes of these sizes, in some order."""
    target = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.Generator(np.random.PCG64(order)).permutation(target)


def parts(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return split.train, split.validation, split.test


def is_whole(split: Split, rows: int) -> bool:
    """True where the parts are disjoint, have each row, and are int64."""
    together = np.concatenate(parts(split))
    return together.dtype == np.int64 and np.array_equal(np.sort(together), np.arange(rows))


def same(first: Split, second: Split) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(parts(first), parts(second), strict=True))


# -- folds ---------------------------------------------------------------------------------------------------------------


@some
@given(SIZES, st.integers(0, 200), st.integers(0, 3))
def test_five_seeds_test_each_row_at_most_once(sizes: list[int], repeat: int, order: int) -> None:
    target = labels(sizes, order)
    splitting = Splitting(target, len(sizes))
    splits = [splitting.split(5 * repeat + fold) for fold in range(5)]
    assert all(is_whole(split, len(target)) for split in splits)
    times = folds.tested(splits, len(target))
    assert times.max() == 1
    small = [k for k, size in enumerate(sizes) if size < 5]
    never = np.flatnonzero(times == 0)
    assert len(never) < 5 + len(small)
    kept = [int((target[never] == k).sum()) for k in small]
    assert min(kept, default=1) >= 1  # one row of each small class always trains
    for split in splits:
        assert np.array_equal(np.unique(split.train[np.isin(split.train, never)]), np.sort(never))
        assert set(target[split.train]) == set(range(len(sizes)))
    assert len({len(split.test) for split in splits}) == 1
    assert len({len(split.validation) for split in splits}) == 1
    assert len(splits[0].test) == len(splits[0].validation) == (len(target) - len(small)) // 5
    for i in range(5):  # what one seed tests, the seed before has for validation
        assert set(splits[i].validation) == set(splits[(i + 1) % 5].test)


@some
@given(st.integers(5, 200), st.integers(0, 100))
def test_numbers_are_folded_too(rows: int, repeat: int) -> None:
    splitting = Splitting(np.linspace(-1.0, 1.0, rows), 0)
    splits = [splitting.split(5 * repeat + fold) for fold in range(5)]
    assert all(is_whole(split, rows) for split in splits)
    times = folds.tested(splits, rows)
    assert times.max() == 1
    assert int((times == 0).sum()) == rows % 5


def test_repeats_differ_and_a_seed_is_a_pure_function() -> None:
    target = labels([30, 20])
    first, again = Splitting(target, 2), Splitting(target.copy(), 2)
    assert all(same(first.split(seed), again.split(seed)) for seed in range(12))
    tests = [frozenset(first.split(seed).test) for seed in range(20)]
    assert len(set(tests)) == 20
    assert sorted(folds.tested([first.split(seed) for seed in range(20)], 50)) == [4] * 50


def test_more_seeds_leave_the_first_as_they_are_and_parts_are_in_random_order() -> None:
    splitting = Splitting(np.zeros(100), 0)
    split = splitting.split(7)
    for part in parts(split):
        assert not np.array_equal(part, np.sort(part))
    assert not same(splitting.split(7), splitting.split(8))


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_too_few_rows_are_refused(rows: int) -> None:
    with pytest.raises(UserError, match=re.escape(f"{rows} rows cannot be split into training, validation and test")):
        Splitting(np.arange(float(rows)), 0).split(0)


def test_classes_of_one_row_each_are_refused() -> None:
    with pytest.raises(UserError, match="7 rows cannot be split"):
        Splitting(np.arange(7), 7).split(3)


# -- groups --------------------------------------------------------------------------------------------------------------


@some
@given(st.lists(st.integers(1, 12), min_size=5, max_size=30), st.integers(0, 100), st.booleans())
def test_groups_are_never_split(sizes: list[int], repeat: int, negative: bool) -> None:
    groups = labels(sizes) * (-3 if negative else 1)
    splitting = Splitting(np.arange(float(len(groups))), 0, groups)
    assert splitting.how == "groups"
    splits = [splitting.split(5 * repeat + fold) for fold in range(5)]
    for split in splits:
        assert is_whole(split, len(groups))
        names = [set(groups[part]) for part in parts(split)]
        assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]
    assert (folds.tested(splits, len(groups)) == 1).all()


def test_groups_make_folds_of_about_one_size_and_share_of_classes() -> None:
    groups = np.repeat(np.arange(50), 10)
    target = np.tile(np.repeat([0, 1], [6, 4]), 50)
    splitting = Splitting(target, 2, groups)
    for seed in range(10):
        split = splitting.split(seed)
        assert len(split.test) == len(split.validation) == 100
        assert np.bincount(target[split.test]).tolist() == [60, 40]


@some
@given(st.lists(st.integers(1, 6), min_size=8, max_size=25), SEEDS)
def test_groups_of_one_class_leave_every_class_in_training_or_are_refused(sizes: list[int], seed: int) -> None:
    groups = labels(sizes)
    target = groups % 3
    try:
        split = Splitting(target, 3, groups).split(seed)
    except UserError as error:
        assert "no row to train on when the rows are split by groups" in str(error)  # noqa: PT017
        return
    assert set(target[split.train]) == {0, 1, 2}


def test_a_class_of_one_group_is_refused_where_that_group_is_tested() -> None:
    groups = np.repeat(np.arange(6), 5)
    target = (groups == 0).astype(np.int64)
    splitting = Splitting(target, 2, groups)
    refused = 0
    for seed in range(5):
        try:
            assert set(target[splitting.split(seed).train]) == {0, 1}
        except UserError as error:
            refused += 1
            assert "1 of 2 classes has no row to train on when the rows are split by groups" in str(error)  # noqa: PT017
    assert refused == 2  # for testing once, and once for validation


@pytest.mark.parametrize("count", [1, 2, 4])
def test_too_few_groups_are_refused(count: int) -> None:
    with pytest.raises(UserError, match=re.escape(f"rows of {count} groups cannot be split into 5 folds")):
        Splitting(np.arange(40.0), 0, np.arange(40) % count).split(0)


# -- time ----------------------------------------------------------------------------------------------------------------


@some
@given(st.lists(st.integers(1, 9), min_size=3, max_size=40), SEEDS)
def test_time_is_cut_between_instants_and_the_latest_is_tested(sizes: list[int], seed: int) -> None:
    times = labels(sizes).astype(np.float64) * 0.5 - 3
    splitting = Splitting(np.arange(float(len(times))), 0, times=times)
    assert splitting.how == "time"
    assert splitting.is_fixed
    split = splitting.split(seed)
    assert is_whole(split, len(times))
    assert times[split.train].max() < times[split.validation].min()
    assert times[split.validation].max() < times[split.test].min()
    assert set(split.test) == set(splitting.split(0).test)


def test_time_without_ties_is_cut_at_three_and_four_fifths() -> None:
    times = np.random.Generator(np.random.PCG64(0)).permutation(50).astype(float)
    split = Splitting(np.arange(50.0), 0, times=times).split(3)
    assert np.sort(times[split.train]).tolist() == list(range(30))
    assert np.sort(times[split.validation]).tolist() == list(range(30, 40))
    assert np.sort(times[split.test]).tolist() == list(range(40, 50))


def test_three_instants_are_a_part_each() -> None:
    times = np.repeat([2020.0, 2021.0, 2022.0], 20)
    split = Splitting(np.arange(60.0), 0, times=times).split(0)
    assert [set(times[part]) for part in parts(split)] == [{2020.0}, {2021.0}, {2022.0}]


@pytest.mark.parametrize(("count", "says"), [(1, "1 point in time"), (2, "2 points in time")])
def test_too_few_instants_are_refused(count: int, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"rows of {says} cannot be split")):
        Splitting(np.arange(20.0), 0, times=np.arange(20.0) % count).split(0)


def test_groups_by_time_go_where_their_latest_row_is() -> None:
    times = np.arange(50.0)
    groups = np.arange(50) // 2
    groups[[0, 49]] = 99  # seen first and last
    split = Splitting(np.arange(50.0), 0, groups, times).split(0)
    names = [set(groups[part]) for part in parts(split)]
    assert not names[0] & names[1] | names[0] & names[2] | names[1] & names[2]
    assert {0, 49} <= set(split.test)


def test_a_class_that_appears_late_is_refused() -> None:
    target = (np.arange(50) >= 45).astype(np.int64)
    with pytest.raises(UserError, match="1 of 2 classes has no row to train on when the rows are split by time"):
        Splitting(target, 2, times=np.arange(50.0)).split(0)


# -- a fixed test set ----------------------------------------------------------------------------------------------------


@some
@given(SIZES, st.integers(1, 6), st.integers(0, 100))
def test_a_fixed_test_set_is_tested_by_every_seed(sizes: list[int], count: int, repeat: int) -> None:
    target = np.concatenate([labels(sizes), np.zeros(count, dtype=np.int64)])
    fixed = np.arange(len(target)) >= sum(sizes)
    splitting = Splitting(target, len(sizes), fixed_test=fixed)
    assert splitting.how == "test file"
    assert splitting.is_fixed
    splits = [splitting.split(5 * repeat + fold) for fold in range(5)]
    for split in splits:
        assert is_whole(split, len(target))
        assert np.array_equal(np.sort(split.test), np.flatnonzero(fixed))
        assert set(target[split.train]) == set(range(len(sizes)))
    validated = np.bincount(np.concatenate([split.validation for split in splits]), minlength=len(target))
    assert validated.max() == 1
    small = sum(size < 5 for size in sizes)
    assert int((validated[~fixed] == 0).sum()) < 5 + small


def test_a_class_of_the_test_file_alone_is_refused() -> None:
    target = np.array([0, 1] * 20 + [2] * 5)
    with pytest.raises(UserError, match="1 of 3 classes has no row to train on when the rows are split by test file"):
        Splitting(target, 3, fixed_test=np.arange(45) >= 40).split(0)


def test_a_test_file_of_no_rows_or_of_all_is_refused() -> None:
    for fixed in (np.zeros(20, dtype=bool), np.ones(20, dtype=bool)):
        with pytest.raises(UserError, match="cannot be split"):
            Splitting(np.arange(20.0), 0, fixed_test=fixed).split(0)


def test_groups_of_the_rest_stay_together_and_none_is_tested_and_trained_on() -> None:
    groups = np.repeat(np.arange(10), 5)
    fixed = groups >= 8
    split = Splitting(np.arange(50.0), 0, groups, fixed_test=fixed).split(2)
    assert set(groups[split.test]) == {8, 9}
    assert not set(groups[split.train]) & set(groups[split.validation])
    fixed[0] = True
    with pytest.raises(UserError, match="1 of the groups has rows in the test file and others outside it"):
        Splitting(np.arange(50.0), 0, groups, fixed_test=fixed).split(2)


def test_a_test_file_and_times_are_one_too_many() -> None:
    with pytest.raises(UserError, match="a test file and a column of time both say which rows are for testing"):
        Splitting(np.arange(50.0), 0, times=np.arange(50.0), fixed_test=np.arange(50) > 40).split(0)


def test_tested_counts() -> None:
    splits = [Split(np.array([0]), np.array([1]), np.array(rows)) for rows in ([2, 3], [3, 4])]
    assert folds.tested(splits, 6).tolist() == [0, 0, 1, 2, 1, 0]
    assert math.isclose(folds.tested(splits, 6).sum(), 4)
