"""Shares of rows in a mixed row, against a plain construction in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vicinal.checking.recover import Recovered, recover, tolerance
from vicinal.keyed import Key


def content(k: int, *shape: int, key: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return k rows of noise in [0, 1); of levels 0 to 255 for uint8."""
    generator = Key(41, 0, 0, key).generator()
    if dtype == torch.uint8:
        return torch.from_numpy(generator.integers(0, 256, (k, *shape))).to(dtype)
    return torch.from_numpy(generator.random((k, *shape))).to(dtype)


def summed(rows: Tensor, weights: dict[int, float]) -> Tensor:
    """Return the weighted sum as its definition reads."""
    out = torch.zeros(rows.shape[1:], dtype=torch.float64)
    for j, weight in weights.items():
        out += weight * rows[j].double()
    return out


def shares_of(made: Recovered) -> dict[int, float]:
    return {int(j): float(made.share[j]) for j in np.flatnonzero(made.share)}


def assert_shares(made: Recovered, weights: dict[int, float], within: float = 1e-4) -> None:
    expected = np.zeros(len(made.share))
    for j, weight in weights.items():
        expected[j] += weight
    assert made.is_known, (made.found, made.error)
    assert np.abs(made.share - expected).max() <= within, (shares_of(made), weights)
    assert sorted(made.main()) == sorted(j for j, weight in weights.items() if weight > max(within, 2 * made.error))


IMAGE = (3, 12, 10)


# -- weighted sums -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights",
    [{0: 1.0}, {0: 0.7, 3: 0.3}, {2: 0.02, 5: 0.98}, {0: 0.5, 1: 0.3, 7: 0.2}, {4: 0.6, 6: 0.39, 1: 0.01}],
    ids=str,
)
def test_weighted_sums(weights):
    rows = content(8, *IMAGE)
    made = recover(summed(rows, weights), rows, 0)
    assert_shares(made, weights, 1e-9)
    assert made.pieces is None
    assert made.found == 1.0
    assert abs(made.offset) < 1e-6


@pytest.mark.parametrize("weights", [{0: 0.9, 1: 0.3}, {0: 1.2, 1: -0.2}, {0: 0.4, 1: 0.4}, {3: 2.0}], ids=str)
def test_weights_that_are_no_shares_are_told_as_they_are(weights):
    rows = content(8, *IMAGE)
    made = recover(summed(rows, weights), rows, 0)
    assert made.is_known
    expected = np.zeros(8)
    expected[list(weights)] = list(weights.values())
    np.testing.assert_allclose(made.share, expected, atol=1e-6)


def test_a_row_of_a_batch_of_copies():
    rows = content(1, *IMAGE)
    assert_shares(recover(rows[0], rows, 0), {0: 1.0}, 1e-9)


@settings(max_examples=40)
@given(
    k=st.integers(2, 16),
    shape=st.sampled_from([(40,), (3, 7, 5), (2, 50), (64,), (1, 8, 8), (200, 3)]),
    key=st.integers(0, 10_000),
    data=st.data(),
)
def test_any_weighted_sum(k, shape, key, data):
    rows = content(k, *shape, key=key)
    places = data.draw(st.lists(st.integers(0, k - 1), min_size=1, max_size=3, unique=True))
    parts = np.array([data.draw(st.floats(0.05, 1.0)) for _ in places])
    weights = {j: float(w) for j, w in zip(places, parts / parts.sum(), strict=True)}
    assert_shares(recover(summed(rows, weights), rows, places[0]), weights, 1e-5)


# -- boxes, masks and what is made of both -----------------------------------------------------------------------------


def boxed(rows: Tensor, a: int, b: int, box: tuple[int, int, int, int]) -> tuple[Tensor, float]:
    """Return row a with a box of row b over it, and the share of a."""
    top, bottom, left, right = box
    out = rows[a].clone()
    out[..., top:bottom, left:right] = rows[b][..., top:bottom, left:right]
    h, w = out.shape[-2:]
    return out, 1 - (bottom - top) * (right - left) / (h * w)


@pytest.mark.parametrize("box", [(2, 9, 1, 8), (0, 1, 0, 1), (0, 12, 0, 9), (0, 12, 0, 10), (5, 5, 3, 3)], ids=str)
def test_boxes(box):
    rows = content(8, *IMAGE)
    mixed, share = boxed(rows, 2, 6, box)
    made = recover(mixed, rows, 2)
    assert_shares(made, {j: s for j, s in {2: share, 6: 1 - share}.items() if s > 0}, 1e-9)
    if 0 < share < 1:
        assert made.pieces is not None
        assert made.mixtures is not None
        whose = made.mixtures[made.pieces].argmax(1).reshape(IMAGE)
        expected = np.full(IMAGE, 2)
        expected[:, box[0] : box[1], box[2] : box[3]] = 6
        assert (whose == expected).all()


@settings(max_examples=30)
@given(
    key=st.integers(0, 10_000),
    size=st.tuples(st.integers(4, 14), st.integers(4, 14)),
    data=st.data(),
)
def test_any_box(key, size, data):
    h, w = size
    rows = content(6, 3, h, w, key=key)
    top, left = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    bottom, right = data.draw(st.integers(top + 1, h)), data.draw(st.integers(left + 1, w))
    mixed, share = boxed(rows, 1, 4, (top, bottom, left, right))
    assert_shares(recover(mixed, rows, 1), {j: s for j, s in {1: share, 4: 1 - share}.items() if s > 0}, 1e-9)


def test_a_mask_of_scattered_cells():
    rows = content(8, *IMAGE)
    mask = torch.from_numpy(Key(42, 0, 0, 0).generator().random(IMAGE[1:]) < 0.37)
    mixed = torch.where(mask, rows[5], rows[1])
    share = float(mask.double().mean())
    assert_shares(recover(mixed, rows, 1), {1: 1 - share, 5: share}, 1e-9)


def test_boxes_of_three_rows():
    rows = content(8, *IMAGE)
    mixed, _ = boxed(rows, 0, 1, (0, 6, 0, 5))
    mixed[:, 6:, 5:] = rows[2, :, 6:, 5:]
    assert_shares(recover(mixed, rows, 0), {0: 0.5, 1: 0.25, 2: 0.25}, 1e-9)


@pytest.mark.parametrize("lam", [0.5, 0.7, 0.93])
def test_sums_of_bands_as_of_a_chain(lam):
    rows = content(8, 3, 32, 32)
    one, a = boxed(rows, 0, 3, (0, 16, 0, 32))
    other, b = boxed(rows, 5, 6, (8, 24, 0, 32))
    made = recover(lam * one + (1 - lam) * other, rows, 0)
    weights = {0: lam * a, 3: lam * (1 - a), 5: (1 - lam) * b, 6: (1 - lam) * (1 - b)}
    assert_shares(made, weights, 1e-3)


@pytest.mark.parametrize(
    ("side", "box"),
    [
        (32, (8, 24, 2, 30)),
        (16, (4, 12, 2, 14)),
    ],
)
def test_sums_of_boxes_as_of_a_chain(side, box):
    rows = content(8, 3, side, side)
    one, a = boxed(rows, 0, 3, (0, side // 2, 0, side))
    other, b = boxed(rows, 5, 6, box)
    made = recover(0.7 * one + 0.3 * other, rows, 0)
    assert_shares(made, {0: 0.7 * a, 3: 0.7 * (1 - a), 5: 0.3 * b, 6: 0.3 * (1 - b)}, 1e-3)


def test_a_sum_with_a_box_of_a_third_over_it():
    rows = content(8, 3, 16, 16)
    mixed = 0.6 * rows[0] + 0.4 * rows[1]
    mixed[:, :8, :8] = rows[2][:, :8, :8]
    assert_shares(recover(mixed, rows, 0), {0: 0.45, 1: 0.3, 2: 0.25}, 1e-3)


# -- tables of few columns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", range(2, 9))
@pytest.mark.parametrize("weights", [{0: 1.0}, {0: 0.7, 3: 0.3}, {0: 0.35, 5: 0.65}], ids=str)
def test_rows_of_few_columns(columns, weights):
    rows = content(8, columns)
    made = recover(summed(rows, weights), rows, 0)
    if columns == 2 and len(weights) > 1:  # a point of a plane lies on segments of several pairs, or nearly
        assert made.is_known is False or np.abs(made.share @ rows.numpy() - summed(rows, weights).numpy()).max() < 1e-6
        return
    assert_shares(made, weights, 1e-4)


def test_a_mean_of_three_in_two_columns_is_unknown():
    rows = content(8, 2)
    made = recover(summed(rows, {0: 0.5, 1: 0.3, 2: 0.2}), rows, 0)
    assert not made.is_known


# -- rounding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "within"), [(torch.float16, 2e-3), (torch.bfloat16, 1.2e-2), (torch.float32, 1e-5)])
def test_sums_in_a_dtype(dtype, within):
    rows = content(8, *IMAGE).to(dtype)
    mixed = (0.7 * rows[1] + 0.3 * rows[4]).to(dtype)
    made = recover(mixed, rows, 1)
    assert_shares(made, {1: 0.7, 4: 0.3}, within)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        torch.bfloat16,
        torch.float32,
    ],
)
def test_cells_that_are_cut_and_not_rounded_are_counted_exactly(dtype):
    rows = content(8, *IMAGE, dtype=dtype)
    mixed, share = boxed(rows, 1, 4, (3, 9, 0, 5))
    assert_shares(recover(mixed, rows, 1), {1: share, 4: 1 - share}, 1e-6)


def test_boxes_in_float16():
    rows = content(8, *IMAGE, dtype=torch.float16)
    mixed, share = boxed(rows, 1, 4, (3, 9, 0, 5))
    assert_shares(recover(mixed, rows, 1), {1: share, 4: 1 - share}, 1e-2)


@pytest.mark.parametrize("rounding", [torch.round, torch.trunc])
def test_bytes_that_are_rounded_or_cut_off(rounding):
    rows = content(8, 3, 16, 16, dtype=torch.uint8)
    mixed = rounding(summed(rows, {2: 0.6, 7: 0.4})).to(torch.uint8)
    assert_shares(recover(mixed, rows, 2), {2: 0.6, 7: 0.4}, 5e-3)


def test_boxes_of_bytes():
    rows = content(8, 3, 16, 16, dtype=torch.uint8)
    mixed, share = boxed(rows, 2, 7, (4, 12, 4, 12))
    assert_shares(recover(mixed, rows, 2), {2: share, 7: 1 - share}, 5e-3)


def test_floats_mixed_of_bytes():
    rows = content(8, 3, 16, 16, dtype=torch.uint8)
    assert_shares(recover(summed(rows, {2: 0.6, 7: 0.4}).float(), rows, 2), {2: 0.6, 7: 0.4}, 1e-4)


def test_tolerances():
    assert tolerance(torch.uint8, 255.0) == 0.51
    assert tolerance(torch.int64, 9.0) == 0.51
    assert tolerance(torch.float32, 2.0) == pytest.approx(4e-5)
    assert tolerance(torch.float16, 1.0) < tolerance(torch.bfloat16, 1.0) < 0.1
    assert tolerance(torch.float32, 0.0) > 0


# -- noise, constants, other content -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_noise_that_is_added(sigma):
    rows = content(8, 3, 32, 32)
    noise = torch.from_numpy(Key(43, 0, 0, 0).generator().standard_normal((3, 32, 32)))
    made = recover(summed(rows, {0: 0.7, 3: 0.3}) + sigma * noise, rows, 0)
    assert made.is_known
    assert abs(made.share[0] - 0.7) < max(0.02, made.error)
    assert abs(made.share[3] - 0.3) < max(0.02, made.error)
    assert np.abs(np.delete(made.share, [0, 3])).max() <= made.error


@pytest.mark.parametrize("offset", [0.25, -2.0])
def test_a_constant_that_is_added_is_an_offset_and_no_share(offset):
    rows = content(8, *IMAGE)
    made = recover(summed(rows, {0: 0.7, 3: 0.3}) + offset, rows, 0)
    assert_shares(made, {0: 0.7, 3: 0.3}, 1e-6)
    assert made.offset * float(rows.std(correction=0)) == pytest.approx(offset, rel=1e-3)


def test_other_content_is_unknown():
    rows, other = content(8, *IMAGE), content(1, *IMAGE, key=99)[0]
    made = recover(other, rows, 0)
    assert not made.is_known
    assert made.found < 0.5


def test_a_row_that_is_mixed_with_one_that_is_no_candidate_is_unknown():
    rows, other = content(8, *IMAGE), content(1, *IMAGE, key=99)[0]
    made = recover(0.6 * rows[0] + 0.4 * other, rows, 0)
    assert not made.is_known


def test_a_box_of_other_content_is_unknown():
    rows, other = content(8, *IMAGE), content(1, *IMAGE, key=99)
    mixed, _ = boxed(torch.cat([rows, other]), 0, 8, (0, 6, 0, 10))
    made = recover(mixed, rows, 0)
    assert not made.is_known


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_constant_holds_no_row(value):
    rows = content(8, *IMAGE)
    made = recover(torch.full(IMAGE, value, dtype=torch.float64), rows, 0)
    assert shares_of(made) == {}
    assert made.main() == []


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_unknown(value):
    rows = content(8, *IMAGE)
    made = recover(torch.full(IMAGE, value, dtype=torch.float64), rows, 0)
    assert not made.is_known


def test_a_half_that_is_blacked_out_has_no_share():
    rows = content(8, *IMAGE)
    mixed = rows[0].clone()
    mixed[:, 6:] = 0
    assert shares_of(recover(mixed, rows, 0)) == {0: 0.5}


@settings(max_examples=30)
@given(key=st.integers(0, 10_000), share=st.floats(0.1, 0.9), k=st.integers(2, 12))
def test_a_stranger_is_never_told_as_shares(key, share, k):
    rows, other = content(k, *IMAGE, key=key), content(1, *IMAGE, key=key + 20_000)[0]
    made = recover(share * rows[0] + (1 - share) * other, rows, 0)
    assert not made.is_known or abs(made.share[0] - share) < 0.05


def test_a_nonlinear_function_of_a_sum_is_unknown():
    rows = content(8, *IMAGE)
    made = recover(torch.log1p(20 * summed(rows, {0: 0.5, 3: 0.5})), torch.log1p(20 * rows), 0)
    assert not made.is_known


# -- candidates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [{0: 1.0}, {17: 0.8, 599: 0.2}, {100: 0.5, 200: 0.3, 300: 0.2}], ids=str)
def test_600_candidates(weights):
    rows = content(600, *IMAGE)
    assert_shares(recover(summed(rows, weights), rows, min(weights)), weights, 1e-6)


def test_a_box_among_600_candidates():
    rows = content(600, *IMAGE)
    mixed, share = boxed(rows, 30, 512, (1, 7, 2, 9))
    assert_shares(recover(mixed, rows, 30), {30: share, 512: 1 - share}, 1e-9)


def test_a_small_share_among_600_candidates():
    rows = content(600, 3, 32, 32)
    assert_shares(recover(summed(rows, {30: 0.99, 512: 0.01}), rows, 30), {30: 0.99, 512: 0.01}, 1e-6)


def test_short_rows_among_600_candidates():
    rows = content(600, 40)
    assert_shares(recover(summed(rows, {30: 0.6, 512: 0.4}), rows, 30), {30: 0.6, 512: 0.4}, 1e-4)


def test_the_own_row_may_be_missing_from_the_mixture():
    rows = content(8, *IMAGE)
    assert_shares(recover(summed(rows, {3: 0.7, 4: 0.3}), rows, 0), {3: 0.7, 4: 0.3}, 1e-9)
    rows = content(100, *IMAGE)
    assert_shares(recover(summed(rows, {33: 0.7, 44: 0.3}), rows, 0), {33: 0.7, 44: 0.3}, 1e-6)


def test_no_own_row():
    rows = content(30, *IMAGE)
    assert_shares(recover(summed(rows, {3: 0.7, 24: 0.3}), rows), {3: 0.7, 24: 0.3}, 1e-6)


def test_equal_candidates_do_not_hide_the_row():
    rows = content(6, *IMAGE)
    rows[4] = rows[1]
    made = recover(rows[1], rows, 1)
    assert made.is_known
    assert made.share[1] + made.share[4] == pytest.approx(1.0)
    assert np.abs(made.share[[0, 2, 3, 5]]).max() < 1e-6


def test_a_sum_beside_equal_candidates():
    rows = content(6, 3, 16, 16)
    rows[4] = rows[3]
    made = recover(summed(rows, {0: 0.7, 1: 0.3}), rows, 0)
    assert not made.is_known or made.share[0] == pytest.approx(0.7, abs=0.02)


def test_a_large_row():
    rows = content(6, 3, 224, 224, dtype=torch.float32)
    assert_shares(recover((0.7 * rows[0] + 0.3 * rows[5]), rows, 0), {0: 0.7, 5: 0.3}, 1e-4)


def test_shapes_and_scales_do_not_matter():
    rows = content(8, 24, 24)
    mixed = summed(rows, {0: 0.7, 3: 0.3})
    for scale in (1e-6, 1.0, 1e6):
        assert_shares(recover(scale * mixed, scale * rows, 0), {0: 0.7, 3: 0.3}, 1e-6)
    assert_shares(recover(mixed.reshape(-1), rows.reshape(8, -1), 0), {0: 0.7, 3: 0.3}, 1e-9)


def test_recovering_changes_nothing():
    rows = content(40, *IMAGE)
    mixed = summed(rows, {0: 0.7, 3: 0.3})
    before = rows.clone(), mixed.clone(), torch.get_rng_state()
    first, second = recover(mixed, rows, 0), recover(mixed, rows, 0)
    assert torch.equal(rows, before[0])
    assert torch.equal(mixed, before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    np.testing.assert_array_equal(first.share, second.share)
