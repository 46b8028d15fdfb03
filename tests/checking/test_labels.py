"""Labels in each written form are read to the same shares, and wrong ones are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import vicinal as v
from vicinal.checking.labels import LabelReading, by_name, one_hot, read, split
from vicinal.checking.marks import LeafSpec, Marks
from vicinal.target import MixedTarget

N, CLASSES = 6, 5
A = torch.tensor([0, 1, 2, 3, 4, 0])
B = torch.tensor([3, 0, 4, 1, 1, 2])
LAM = torch.tensor([0.7, 0.25, 0.5, 0.9, 0.61, 0.3])


def spec_of(*labels: Any) -> LeafSpec:
    marks = Marks([(torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(i)), y) for i, y in enumerate(labels)])
    return marks.labels[0]


INDICES = spec_of(*range(CLASSES))
DENSE = spec_of(*torch.eye(CLASSES))
BINARY = spec_of(0, 1)
SEVERAL = spec_of(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, 0.0]))
NUMBERS = spec_of(torch.tensor(0.5), torch.tensor(3.25))
POINTS = spec_of(torch.tensor([0.5, 1.25]), torch.tensor([3.25, 0.0]))
MAPS = spec_of(torch.arange(12).reshape(3, 4) % CLASSES)


def shares(lam: Any = LAM) -> np.ndarray:
    """Return lam * one-hot of A + (1 - lam) * one-hot of B, entry by entry."""
    out = np.zeros((N, CLASSES))
    for i in range(N):
        weight = float(lam[i]) if isinstance(lam, Tensor) and lam.ndim else float(lam)
        out[i, A[i]] += weight
        out[i, B[i]] += 1 - weight
    return out


def assert_read(tree: Any, spec: LeafSpec, expected: np.ndarray, within: float = 1e-6) -> LabelReading:
    found = read(tree, spec, len(expected))
    assert found.problems == []
    assert found.shares is not None
    assert found.shares.shape == expected.shape
    assert np.abs(found.shares - expected).max() <= within
    return found


def assert_wrong(tree: Any, spec: LeafSpec, code: str, part: str, n: int = N) -> None:
    found = read(tree, spec, n)
    assert [name for name, _ in found.problems] == [code]
    assert part in found.problems[0][1]


dense = torch.from_numpy(shares())


# -- one form after the other ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_class_indices(dtype, shape):
    found = assert_read(A.to(dtype).reshape(shape), INDICES, one_hot(A.numpy(), CLASSES))
    assert found.hard
    assert found.form == "class indices"


def test_class_indices_as_lists_and_arrays():
    assert_read(A.tolist(), INDICES, one_hot(A.numpy(), CLASSES))
    assert_read(A.numpy(), INDICES, one_hot(A.numpy(), CLASSES))


def test_class_indices_as_floating_point():
    found = assert_read(A.float(), INDICES, one_hot(A.numpy(), CLASSES))
    assert found.hard


def test_indices_outside_of_the_range_are_no_class():
    assert one_hot(np.array([1, -1, 7]), 3).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert one_hot(np.array([[1, 0]]), 2).tolist() == [[[0, 1], [1, 0]]]


@pytest.mark.parametrize("spec", [INDICES, DENSE], ids=["indices", "one-hot"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dense_labels(spec, dtype):
    found = assert_read(dense.to(dtype), spec, shares())
    assert not found.hard


def test_dense_labels_of_more_classes_than_were_seen():
    wide = torch.cat([dense, torch.zeros(N, 2)], 1)
    assert_read(wide, INDICES, wide.numpy())


def test_one_hot_of_whole_numbers():
    found = assert_read(torch.eye(CLASSES)[A].long(), DENSE, one_hot(A.numpy(), CLASSES))
    assert found.hard


FORMS: dict[str, Any] = {
    "triple": (A, B, LAM),
    "triple of one lambda": (A, B, torch.tensor(0.7)),
    "triple of a number": (A, B, 0.7),
    "triple of a column": (A, B, LAM[:, None]),
    "lists": [A, B, LAM],
    "lambda first": (LAM, A, B),
    "dense triple": (torch.eye(CLASSES)[A], torch.eye(CLASSES)[B], LAM),
    "mapping": {"label_a": A, "label_b": B, "lam": LAM},
    "mapping of a number": {"y_a": A, "y_b": B, "lam": 0.7},
    "arrays": (A.numpy(), B.numpy(), LAM.numpy()),
    "numpy number": (A, B, np.float64(0.7)),
    "columns of indices": (A[:, None], B[:, None], LAM),
}


@pytest.mark.parametrize("form", FORMS)
def test_two_labels_and_lambda(form):
    tree = FORMS[form]
    lam = 0.7 if "number" in form or "one lambda" in form else LAM
    found = assert_read(tree, INDICES, shares(lam))
    assert found.form == "two labels and lambda"


def test_the_last_three_of_four():
    inputs, labels = split((torch.rand(N, 3, 4, 4), A, B, LAM), (torch.zeros(3, 4, 4), 1), {"[1]"})
    assert inputs.shape == (N, 3, 4, 4)
    assert_read(labels, INDICES, shares())


def test_columns_of_label_partner_and_share():
    columns = torch.stack([A.float(), B.float(), 1 - LAM], 1)
    found = assert_read(columns, INDICES, shares())
    assert found.form.startswith("columns")


def test_a_mixed_target():
    target = MixedTarget(torch.stack([A, B]), torch.stack([LAM, 1 - LAM]))
    assert_read(target, INDICES, shares())
    assert_read((target,), INDICES, shares())
    assert_read({"labels": target}, INDICES, shares())


def test_a_smoothed_mixed_target():
    target = MixedTarget(torch.stack([A, B]), torch.stack([LAM, 1 - LAM]), 0.1)
    assert_read(target, INDICES, 0.9 * shares() + 0.1 / CLASSES)
    np.testing.assert_allclose(target.dense(CLASSES).numpy(), 0.9 * shares() + 0.1 / CLASSES, atol=1e-6)


def test_a_mixed_target_of_maps():
    ids = torch.stack([torch.arange(N * 12).reshape(N, 3, 4) % CLASSES, torch.arange(N * 12).reshape(N, 3, 4) % 3])
    target = MixedTarget(ids, torch.stack([LAM, 1 - LAM]))
    lam = LAM.double().numpy().reshape(N, 1, 1, 1)
    expected = lam * one_hot(ids[0].numpy(), CLASSES) + (1 - lam) * one_hot(ids[1].numpy(), CLASSES)
    assert_read(target, MAPS, expected)


@pytest.mark.parametrize("vicinity", [v.Mixup(0.4, seed=0), v.CutMix(1.0, seed=0), v.LabelSmoothing(0.2)], ids=repr)
def test_our_own_targets(vicinity):
    plan = vicinity.plan(N, A, torch.rand(N, 3, 4, 4), step=2)
    target = plan.target(A)
    assert_read(target, INDICES, target.dense(CLASSES).double().numpy())


def test_the_share_of_class_1():
    lam = LAM.double().numpy()
    assert_read(LAM, BINARY, np.stack([1 - lam, lam], 1))
    assert_read(LAM[:, None], BINARY, np.stack([1 - lam, lam], 1))


# -- numbers, several labels at once, maps -----------------------------------------------------------------------------


def test_numbers():
    values = 0.7 * torch.arange(N) + 0.1
    found = assert_read(values, NUMBERS, values.double().numpy())
    assert not found.hard
    assert_read(values[:, None], NUMBERS, values.double().numpy())
    assert read(values.long(), NUMBERS, N).hard


def test_numbers_of_several_columns():
    values = torch.arange(2 * N).reshape(N, 2) / 3
    assert_read(values, POINTS, values.double().numpy())


@pytest.mark.parametrize("lam", [0.25, LAM], ids=["number", "per row"])
def test_two_numbers_and_lambda(lam):
    first, second = 0.7 * torch.arange(N), 0.1 * torch.arange(N) + 5
    expected = (lam * first + (1 - lam) * second).double().numpy()
    assert_read((first, second, lam), NUMBERS, expected, 1e-5)
    assert_read({"y_a": first, "y_b": second, "lam": lam}, NUMBERS, expected, 1e-5)


def test_two_columns_of_numbers_and_lambda():
    first, second = torch.arange(2 * N).reshape(N, 2) / 3, torch.arange(2 * N).flip(0).reshape(N, 2) / 7
    assert_read((first, second, 0.25), POINTS, (0.25 * first + 0.75 * second).double().numpy(), 1e-5)


def test_several_labels_at_once():
    values = torch.tensor([[0.7, 0.3, 1.0]] * N)
    assert_read(values, SEVERAL, values.double().numpy())
    a, b = torch.tensor([[1.0, 0.0, 1.0]] * N), torch.tensor([[0.0, 1.0, 1.0]] * N)
    assert_read((a, b, 0.7), SEVERAL, values.double().numpy())


def test_maps():
    maps = torch.arange(N * 12).reshape(N, 3, 4) % CLASSES
    expected = one_hot(maps.numpy(), CLASSES)
    assert assert_read(maps, MAPS, expected).hard
    assert_read(maps[:, None], MAPS, expected)
    assert_read(torch.from_numpy(expected), MAPS, expected)
    other = maps.flip(0)
    mixed = 0.7 * expected + 0.3 * one_hot(other.numpy(), CLASSES)
    assert_read((maps, other, 0.7), MAPS, mixed)
    assert_read(torch.from_numpy(mixed).float(), MAPS, mixed, 1e-6)


def test_maps_whose_classes_come_last():
    expected = one_hot((torch.arange(N * 12).reshape(N, 3, 4) % CLASSES).numpy(), CLASSES)
    assert_read(torch.from_numpy(np.moveaxis(expected, 1, -1).copy()), MAPS, expected)


# -- what is wrong in itself -------------------------------------------------------------------------------------------


def test_averaged_class_indices():
    assert_wrong(LAM * A + (1 - LAM) * B, INDICES, "VIC010", "class indices 0 to 4 came out as numbers such as")
    maps = torch.rand(N, 3, 4, generator=torch.Generator().manual_seed(0)) * 3
    assert_wrong(maps, MAPS, "VIC010", "class indices 0 to 4")


@pytest.mark.parametrize("shape", [(), (N + 1,), (1, N), (N // 2, CLASSES)], ids=str)
def test_labels_of_another_number_of_rows(shape):
    assert_wrong(torch.zeros(shape, dtype=torch.int64), INDICES, "VIC013", f"have the shape {list(shape)}")


@pytest.mark.parametrize("shape", [(N, 2, 2), (N, 3)], ids=str)
def test_labels_of_a_wrong_shape(shape):
    assert_wrong(torch.zeros(shape, dtype=torch.int64), INDICES, "VIC013", f"have the shape {list(shape)}")


def test_labels_that_were_broadcast():
    lam = LAM[:, None]
    assert_wrong(lam * A + (1 - lam) * B, INDICES, "VIC013", "rows were broadcast against rows")


def test_numbers_that_were_broadcast():
    values = torch.rand(N, N, generator=torch.Generator().manual_seed(0))
    assert_wrong(values, NUMBERS, "VIC013", f"targets of {N} rows have the shape [{N}, {N}], where rows are []")


def test_maps_of_a_wrong_shape():
    assert_wrong(torch.zeros(N, 12, dtype=torch.int64), MAPS, "VIC013", "maps of labels have the shape")
    assert_wrong(torch.zeros(N, 7, 3, 4), MAPS, "VIC013", "have the shape")


@pytest.mark.parametrize(
    ("values", "low", "high", "total"),
    [(0.7 * torch.eye(CLASSES)[A], "0.000", "0.700", "0.700"), (dense + 0.1, "0.100", "1.100", "1.500")],
)
def test_shares_that_do_not_sum_to_1(values, low, high, total):
    found = read(values, INDICES, N)
    assert [code for code, _ in found.problems] == ["VIC007"]
    assert f"and those of one row sum to {total}" in found.problems[0][1]
    assert f"lie between {low} and" in found.problems[0][1]


def test_shares_below_0():
    values = 1.5 * torch.eye(CLASSES)[A] - 0.5 * torch.eye(CLASSES)[(A + 1) % CLASSES]
    assert_wrong(values, INDICES, "VIC007", "lie between -0.500 and 1.500, and those of one row sum to 1.000")


def test_thresholds():
    values = (dense > 0.2).double()
    assert_wrong(values, INDICES, "VIC007", "sum to 2.000")


def test_the_largest_share_alone_is_a_class():
    values = torch.eye(CLASSES)[dense.argmax(1)]
    assert_read(values, INDICES, values.numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "cast back"])
def test_half_precision(dtype, kept):
    values = dense.to(dtype) if kept else dense.to(dtype).float()
    found = read(values, INDICES, N)
    assert [code for code, _ in found.problems] == ["VIC015"]
    assert found.shares is not None
    assert np.abs(found.shares - shares()).max() < 4e-3


def test_half_precision_that_loses_nothing_is_no_problem():
    assert_read(torch.eye(CLASSES)[A].half(), INDICES, one_hot(A.numpy(), CLASSES))
    halves = 0.5 * (torch.eye(CLASSES)[A] + torch.eye(CLASSES)[B])
    assert_read(halves.bfloat16(), INDICES, halves.double().numpy())


def test_what_cannot_be_read_says_so():
    for tree in (None, "a name", {}, ("a", "b"), (A, B), {"labels": [object()]}):
        found = read(tree, INDICES, N)
        assert found.shares is None
        assert found.problems == []


# -- kinds -------------------------------------------------------------------------------------------------------------


def test_kinds_tell_forms_apart():
    kinds = [
        read(tree, INDICES, N).kind
        for tree in (A, A.int(), dense, dense.float(), (A, B, LAM), MixedTarget(A[None], torch.ones(1, N)))
    ]
    assert len(set(kinds)) == len(kinds)
    assert read(A, INDICES, N).kind == read(B, INDICES, N).kind


# -- which part of a batch is the label --------------------------------------------------------------------------------


def test_splits():
    x, like = torch.rand(N, 3, 4, 4), (torch.zeros(3, 4, 4), 1)
    for batch, labels in (((x, A), A), ([x, A], A), ((x, (A, B, LAM)), (A, B, LAM)), ((x, A, B, LAM), (A, B, LAM))):
        inputs, found = split(batch, like, {"[1]"})
        assert inputs is x
        assert isinstance(found, Tensor) == isinstance(labels, Tensor)
        assert len(found) == len(labels)


def test_splits_of_mappings():
    names = {"['label']"}
    batch = {"image": torch.rand(N, 3), "label_a": A, "label_b": B, "lam": LAM, "id": A}
    inputs, found = split(batch, {"image": torch.zeros(3), "label": 1, "id": 3}, names)
    assert list(inputs) == ["image", "id"]
    assert_read(found, INDICES, shares())


def test_inputs_without_labels():
    x = torch.rand(N, 3)
    assert split(x, torch.zeros(3), set()) == (x, None)
    assert split((x, x), (torch.zeros(3), torch.zeros(3)), set())[1] is None


def test_two_labels_of_a_row():
    marks = Marks([{"x": torch.zeros(3, 4, 4), "coarse_label": i % CLASSES, "fine_label": i % 9} for i in range(9)])
    tree = {"coarse_label_a": A, "coarse_label_b": B, "fine_label_a": A + 4, "fine_label_b": B + 4, "lam": LAM}
    parts = by_name(tree, marks.labels)
    coarse, fine = (spec for spec in marks.labels)
    assert_read(parts[coarse.name], coarse, shares())
    expected = np.zeros((N, 9))
    expected[:, 4:] = shares()
    assert_read(parts[fine.name], fine, expected)


def test_labels_in_a_nest():
    marks = Marks([(torch.zeros(3, 4, 4), {"kind": i % CLASSES, "size": 0.5 * i}) for i in range(6)])
    kind, size = marks.labels
    parts = by_name({"kind": dense, "size": LAM}, marks.labels)
    assert_read(parts[kind.name], kind, shares())
    assert_read(parts[size.name], size, LAM.double().numpy())


def test_labels_by_place():
    marks = Marks([(torch.zeros(3, 4, 4), (i % CLASSES, 0.5 * i)) for i in range(6)])
    kind, size = marks.labels
    parts = by_name((dense, LAM), marks.labels)
    assert_read(parts[kind.name], kind, shares())
    assert_read(parts[size.name], size, LAM.double().numpy())


def test_reading_changes_nothing():
    tree = {"labels": dense.clone(), "other": A.clone()}
    before = {name: t.clone() for name, t in tree.items()}
    read(tree, INDICES, N)
    read((A, B, LAM), INDICES, N)
    assert all(torch.equal(tree[name], before[name]) for name in tree)
