"""Datasets whose rows are marked: where the marked rows lie, which are asked for, and what of the original stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import vicinal
from vicinal.checking import sources, trees
from vicinal.checking.marks import Marks
from vicinal.checking.sources import MarkedRows, candidates, indices_of, of_examples

N = 40
X = torch.rand(N, 3, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 5


class Mixed(Dataset[Any]):
    """Mixes inside, of a dataset that it holds."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, i: int) -> Any:
        (x, y), (x2, y2) = self.inner[i], self.inner[(i + 7) % len(self.inner)]
        eye = torch.eye(5)
        return 0.6 * x + 0.4 * x2, 0.6 * eye[int(y)] + 0.4 * eye[int(y2)]


class Arrays(Dataset[Any]):
    """Keeps its rows as arrays."""

    def __init__(self, x: Any, y: Any) -> None:
        self.data, self.targets, self.scale = x, y, 2.0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> Any:
        return self.data[i] * self.scale, int(self.targets[i])


class Rows(Dataset[Any]):
    """Keeps a list of examples."""

    def __init__(self) -> None:
        self.samples = [(X[i], int(Y[i])) for i in range(N)]
        self.classes = ["a", "b", "c", "d", "e"]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> Any:
        x, y = self.samples[i]
        return x + 1, y


def same(a: Any, b: Any) -> bool:
    return torch.equal(trees.as_tensor(a), trees.as_tensor(b))


# -- marked rows -------------------------------------------------------------------------------------------------------


def test_rows_are_those_of_the_marks():
    marks = Marks([(X[i], int(Y[i])) for i in range(8)])
    rows = MarkedRows(marks, 12, Rows())
    assert len(rows) == 12
    assert same(rows[3][0], marks.example(3)[0])
    assert rows[3][1] == marks.example(3)[1]
    assert same(rows[-1][0], marks.example(11)[0])
    assert same(rows[torch.tensor(4)][0], marks.example(4)[0])
    for i in (12, -13):
        with pytest.raises(IndexError, match="of 12"):
            rows[i]


def test_rows_are_fresh_unless_they_are_kept():
    rows = MarkedRows(Marks([(X[0], 1)]), 12, None)
    assert rows[3][0] is not rows[3][0]
    rows[3][0].zero_()
    assert float(rows[3][0].abs().sum()) > 0
    rows.keeps = True
    assert rows[3][0] is rows[3][0]


def test_the_original_answers_all_else():
    rows = MarkedRows(Marks([(X[0], 1)]), 12, Rows())
    assert rows.classes == ["a", "b", "c", "d", "e"]
    with pytest.raises(AttributeError):
        rows.not_there  # noqa: B018


def test_a_list_iterates_over_marked_rows():
    rows = MarkedRows(Marks([(X[0], 1)]), 5, None)
    assert len([rows[i] for i in range(len(rows))]) == 5


def test_what_was_asked_for():
    source = of_examples(Marks([(X[i], int(Y[i])) for i in range(8)]))
    source.dataset[1]
    with source.watched() as fetched:
        assert fetched() == []
        source.dataset[5], source.dataset[9], source.dataset[5]
        assert fetched() == [5, 9]
    with source.watched() as fetched:
        source.dataset[2]
        assert fetched() == [2]
    assert source.own(7) == 7


def test_every_row_can_be_one_row():
    source = of_examples(Marks([(X[i], int(Y[i])) for i in range(8)]))
    with source.all_of(3):
        assert same(source.dataset[8][0], source.marks.example(3)[0])
    assert same(source.dataset[8][0], source.marks.example(8)[0])
    with pytest.raises(ZeroDivisionError), source.all_of(3):
        1 / 0  # noqa: B018
    assert same(source.dataset[8][0], source.marks.example(8)[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_tell_what_they_asked_for(workers):
    source = of_examples(Marks([(X[i], int(Y[i])) for i in range(8)]), 20)
    loader = DataLoader(source.dataset, batch_size=4, num_workers=workers)
    with source.watched() as fetched:
        batches = list(loader)
        assert fetched() == list(range(20))
    assert len(batches) == 5
    assert same(batches[1][0][2], source.marks.example(6)[0])


def test_several_workers_tell_all_that_they_asked_for():
    source = of_examples(Marks([(torch.zeros(2), 1), (torch.ones(2), 0)]), 6000)
    with source.watched() as fetched:
        for _ in DataLoader(source.dataset, batch_size=500, num_workers=2):
            pass
        assert fetched() == list(range(6000))


# -- where rows can be marked ------------------------------------------------------------------------------------------


def names(dataset: Any) -> list[tuple[str, int]]:
    return [(source.name, source.depth) for source in candidates(dataset)]


def assert_marked_whole(dataset: Any) -> None:
    """The last way replaces the whole: example i is marked row i."""
    source = candidates(dataset)[-1]
    assert source.depth == 0
    assert len(source.dataset) == len(dataset)
    assert same(source.dataset[3][0], source.marks.example(3)[0])
    assert source.own(3) == 3


def test_tensors():
    dataset = TensorDataset(X, Y)
    assert_marked_whole(dataset)
    found = candidates(dataset)
    assert [source.depth for source in found] == [1, 0]
    source = found[0]
    with source.watched() as fetched:
        x, y = source.dataset[9]
        assert fetched() == [9]
    spec, label = source.marks.inputs[0], source.marks.labels[0]
    assert torch.equal(x, source.marks.leaf(spec.name, 9))
    assert torch.equal(y, source.marks.leaf(label.name, 9))
    assert torch.equal(source.dataset[[1, 5]][0], source.marks.rows(spec.name, [1, 5]))
    assert torch.equal(source.dataset[2:4][0], source.marks.rows(spec.name, [2, 3]))
    assert len(source.dataset) == N


@pytest.mark.parametrize(
    "keep",
    [
        "tensors",
        "arrays",
        "labels in a list",
    ],
)
def test_columns_in_attributes(keep):
    x = X if keep == "tensors" else X.numpy()
    y = Y.tolist() if keep == "labels in a list" else Y if keep == "tensors" else Y.numpy()
    dataset = Arrays(x, y)
    source = candidates(dataset)[0]
    assert source.depth == 1
    made, label = source.dataset[9]
    spec = source.marks.inputs[0]
    torch.testing.assert_close(torch.as_tensor(made), 2 * source.marks.leaf(spec.name, 9))  # its own transform
    assert label == int(source.marks.leaf(source.marks.labels[0].name, 9))
    assert same(source.dataset[-1][0], 2 * source.marks.leaf(spec.name, N - 1))
    assert dataset.data is x
    assert dataset.targets is y
    mask = np.arange(N) % 10 == 0
    assert len(source.dataset.data[mask]) == 4
    assert source.dataset.data.shape == (N, 3, 4, 4)
    assert source.dataset.data.dtype == x.dtype


def test_lists_of_examples():
    dataset = Rows()
    source = candidates(dataset)[0]
    assert (source.name, source.depth) == ("dataset.samples", 1)
    assert same(source.dataset[9][0], source.marks.example(9)[0] + 1)
    assert dataset.samples[9][0] is not source.marks.example(9)[0]


def test_an_inner_dataset_is_marked_so_that_mixing_shows():
    dataset = Mixed(TensorDataset(X, Y))
    found = candidates(dataset)
    assert found[-1].depth == 0
    assert max(source.depth for source in found) == 2
    for source in found[:-1]:
        with source.watched() as fetched:
            x, label = source.dataset[9]
            assert fetched() == [9, 16]
        spec = source.marks.inputs[0]
        rows = source.marks.rows(spec.name, [9, 16])
        torch.testing.assert_close(x, 0.6 * rows[0] + 0.4 * rows[1])
        own, other = (int(source.marks.leaf(source.marks.labels[0].name, i)) for i in (9, 16))
        torch.testing.assert_close(label, 0.6 * torch.eye(5)[own] + 0.4 * torch.eye(5)[other])
    assert isinstance(dataset.inner, TensorDataset)


def test_a_subset():
    part = Subset(TensorDataset(X, Y), [5, 11, 2, 30])
    found = candidates(part)
    assert_marked_whole(part)
    assert found[-1].indices is None
    source = next(source for source in found if source.depth == 1)
    assert [source.own(i) for i in range(4)] == [5, 11, 2, 30]
    with source.watched() as fetched:
        x, _ = source.dataset[1]
        assert fetched() == [11]
    assert torch.equal(x, source.marks.leaf(source.marks.inputs[0].name, 11))
    assert len(source.dataset) == 4


def test_a_subset_of_a_dataset_of_ones_own():
    part = Subset(Rows(), range(10, 20))
    source = candidates(part)[0]
    assert source.name == "dataset.dataset.samples"
    assert source.own(3) == 13
    assert same(source.dataset[3][0], source.marks.example(13)[0] + 1)


def test_a_dataset_around_a_subset():
    mixed = Mixed(Subset(TensorDataset(X, Y), list(range(20, 40))))
    assert indices_of(mixed) == list(range(20, 40))
    source = next(source for source in candidates(mixed) if source.depth == 2)
    with source.watched() as fetched:
        source.dataset[0]
        assert fetched() == [20, 27]
    assert source.own(0) == 20


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, np.array])
def test_indices(kind):
    assert indices_of(Subset(TensorDataset(X, Y), kind([3, 1, 2]))) == [3, 1, 2]
    assert indices_of(TensorDataset(X, Y)) is None
    assert indices_of(Rows()) is None


def test_the_classes_are_those_of_the_whole_dataset():
    last = TensorDataset(X, torch.arange(N))
    assert candidates(last)[-1].marks.labels[0].classes == N


def test_a_label_that_is_named_and_a_number_of_classes():
    found = candidates(TensorDataset(Y, X), "[0]", 12)
    assert found[-1].marks.labels[0].classes == 12
    assert found[-1].marks.inputs[0].name == "[1]"


def test_samples_come_from_all_over():
    assert [int(y) for _, y in sources.sample(TensorDataset(X, torch.arange(N)), 5)] == [0, 9, 19, 29, 39]
    assert len(sources.sample(TensorDataset(X, Y))) == 24
    assert len(sources.sample(TensorDataset(X[:3], Y[:3]))) == 3


# -- streams -----------------------------------------------------------------------------------------------------------


# -- the user's own ----------------------------------------------------------------------------------------------------


def test_memory():
    assert sources.gives_same_memory(TensorDataset(X, Y))
    assert sources.gives_same_memory(Arrays(X.numpy(), Y)) is False  # it multiplies
    assert sources.gives_same_memory([(X[0], 1), (X[1], 2)])
    array = X.numpy()
    assert sources.gives_same_memory([(array[0], 1), (array[1], 2)])


def test_random_rows():
    class Random(Mixed):
        def __getitem__(self, i: int) -> Any:
            x, y = self.inner[i]
            return x + torch.rand(()), y

    assert sources.is_random(Random(TensorDataset(X, Y)))
    assert not sources.is_random(TensorDataset(X, Y))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TensorDataset(X.clone(), Y.clone()),
        lambda: Arrays(X.numpy().copy(), Y.numpy().copy()),
        lambda: Mixed(TensorDataset(X.clone(), Y.clone())),
        lambda: Subset(Rows(), [1, 2, 3, 4, 5]),
    ],
    ids=["tensors", "arrays", "mixed", "subset"],
)
def test_marking_changes_nothing_of_the_dataset(make):
    dataset = make()
    attributes = {key: id(value) for key, value in vars(dataset).items()}
    before = [(trees.as_tensor(x), trees.as_tensor(y)) for x, y in (dataset[i] for i in range(5))]
    for source in candidates(dataset):
        source.dataset[2]
    assert {key: id(value) for key, value in vars(dataset).items()} == attributes
    for (x, y), (x2, y2) in zip(before, (dataset[i] for i in range(5)), strict=True):
        assert same(x, x2)
        assert same(y, y2)


def collate(examples: Any) -> tuple[Tensor, Tensor]:
    x = torch.stack([x for x, _ in examples])
    y = torch.eye(5)[[int(y) for _, y in examples]]
    other = torch.randperm(len(x))
    lam = torch.distributions.Beta(1.0, 1.0).sample()
    return lam * x + (1 - lam) * x[other], lam * y + (1 - lam) * y[other]


@pytest.mark.parametrize(
    "dataset",
    [
        TensorDataset(X, Y),
        Subset(TensorDataset(X, Y), range(3, 33)),
        Arrays(X.numpy(), Y.numpy()),
        Rows(),
    ],
    ids=["tensors", "subset", "arrays", "list"],
)
def test_a_check_of_a_loader_over_each(dataset):
    def stacked(examples: Any) -> Any:
        return collate([(torch.as_tensor(x), y) for x, y in examples])

    report = vicinal.check(DataLoader(dataset, batch_size=10, collate_fn=stacked))
    assert report.codes == []
    assert report.skipped == {}
    assert report.facts["mixed"].endswith("of 16 batches of 10 rows")
