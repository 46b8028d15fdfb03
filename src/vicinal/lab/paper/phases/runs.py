"""The training runs of the study of when mixup helps: every condition of one network on some examples of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch

import vicinal
from vicinal.lab.data import loading
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.data.encoded_splits import StackedSplit, encode_split, stack
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.splits import split_targets
from vicinal.lab.data.table import Table
from vicinal.lab.paper.rows import ERM
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import simple, stacked_mlp
from vicinal.lab.training.scores import classification, evaluate

MODELS = {4: "small-eighth", 16: "small-half"}  # by the channels of the first convolution
TEST = 2000  # test examples, fewer where a table has fewer left


def mixup(alpha: float) -> str:
    """Return the name of mixup with an alpha."""
    return f"mixup, alpha = {alpha:g}"


@dataclass(frozen=True)
class Grid:
    """The conditions of one family of datasets: every combination.

    Args:
        data: names of the datasets.
        widths: of the network.
        rows: training examples.
        epochs: passes over them.
        noises: shares of the training labels that are replaced by random ones.
        alphas: of mixup.
        seeds: number of repeats.

    """

    data: tuple[str, ...]
    widths: tuple[int, int]
    rows: tuple[int, ...]
    epochs: tuple[int, ...]
    noises: tuple[float, ...]
    alphas: tuple[float, ...]
    seeds: int

    @property
    def vicinities(self) -> dict[str, vicinal.Vicinity]:
        """ERM and mixup with each alpha, by their names."""
        found: dict[str, vicinal.Vicinity] = {ERM: vicinal.ERM()}
        return found | {mixup(alpha): vicinal.Mixup(alpha) for alpha in self.alphas}


@dataclass(frozen=True)
class MethodScores:
    """What one method reached, one number per seed: errors as fractions, likelihoods in nats.

    The training error is on the training examples as they are, unmixed, against the labels they were trained on.
    """

    train_error: list[float]
    test_error: list[float]
    test_nll: list[float]

    @property
    def gap(self) -> list[float]:
        """Test error less training error."""
        return [test - train for test, train in zip(self.test_error, self.train_error, strict=True)]


@dataclass(frozen=True)
class ConditionScores:
    """What all methods reached after some epochs with some label noise."""

    epochs: int
    noise: float
    methods: dict[str, MethodScores]


@dataclass(frozen=True)
class PhaseResult:
    """What a job returned: all outcomes of one network on some examples of a dataset, for some seeds."""

    seeds: list[int]
    test_rows: int
    outcomes: list[ConditionScores]


def run_images(grid: Grid, data: str, width: int, rows: int, seed: int) -> PhaseResult:
    """Train one network after the other, and measure each."""
    train, test = loading.load(Recipe(data, MODELS[width], max_test_examples=TEST, augment=False, channels_last=False))
    assert isinstance(train, InMemoryDataset)
    assert isinstance(test, InMemoryDataset)
    test = _channels_last(test)
    labels = train.labels.numpy()
    left = (len(labels) - rows) / len(labels)
    mine = split_targets(labels, len(train.classes), seed, validation=left, test=0.0).train
    outcomes = []
    for noise, epochs in product(grid.noises, grid.epochs):
        noisy = corrupt_labels(labels, len(train.classes), noise, seed, rows=mine)
        own = _channels_last(replace(train, labels=torch.from_numpy(noisy)).select(torch.from_numpy(mine)))
        training = simple.SimpleTraining(MODELS[width], epochs, batch_size=32, learning_rate=3e-3)
        methods = {
            name: _image_scores(training, own, test, vicinity, seed) for name, vicinity in grid.vicinities.items()
        }
        outcomes.append(ConditionScores(epochs, noise, methods))
    return PhaseResult([seed], len(test), outcomes)


def _channels_last(data: InMemoryDataset) -> InMemoryDataset:
    """Return the same images in the memory format that is fast on a CPU; it takes a second for a whole set."""
    return replace(data, inputs=data.inputs.contiguous(memory_format=torch.channels_last))


def _image_scores(
    training: simple.SimpleTraining,
    train: InMemoryDataset,
    test: InMemoryDataset,
    vicinity: vicinal.Vicinity,
    seed: int,
) -> MethodScores:
    """Train one network and measure it."""
    model, _ = simple.train(training, train, torch.arange(len(train)), vicinity, seed)
    first, second = (
        classification(simple.outputs(model, part, torch.arange(len(part)))[None], part.labels)[0]
        for part in (train, test)
    )
    return MethodScores([first["error"]], [second["error"]], [second["nll"]])


def run_tables(grid: Grid, table: Table, width: int, rows: int) -> PhaseResult:
    """Train all seeds, noises and methods at once, and measure them after each number of epochs."""
    seeds = range(grid.seeds)
    train, test = _stack(table, grid, rows, seeds)
    runs = [
        stacked_mlp.MLPRun(i, seed, vicinity)
        for vicinity in grid.vicinities.values()
        for i, seed in enumerate([*seeds] * len(grid.noises))
    ]
    outcomes: list[ConditionScores] = []

    def measure(epoch: int, models: stacked_mlp.StackedMLP, active: list[int]) -> None:
        if epoch in grid.epochs:
            parts = [evaluate(models, runs, part, len(table.classes), ()) for part in (train, test)]
            outcomes.extend(_outcomes(grid, epoch, *parts))

    training = stacked_mlp.MLPTraining(epochs=max(grid.epochs), hidden=(width, width))
    stacked_mlp.train(runs, train, len(table.classes), training, measure)
    return PhaseResult([*seeds], test.targets.shape[1], outcomes)


def _stack(table: Table, grid: Grid, rows: int, seeds: Sequence[int]) -> tuple[StackedSplit, StackedSplit]:
    """Return training and test rows, seed by seed for each label noise; the test rows hang on the seed alone."""
    n = len(table)
    test = min(TEST, n - max(grid.rows))
    splits = [encode_split(table, seed, validation=(n - test - rows) / n, test=test / n) for seed in seeds]
    noisy = [
        replace(of, targets=corrupt_labels(of.targets, len(table.classes), noise, seed, rows=of.rows.train))
        for noise in grid.noises
        for seed, of in zip(seeds, splits, strict=True)
    ]
    # test labels stay: only training rows were changed
    return stack(noisy, "train"), stack(noisy, "test")


def _outcomes(
    grid: Grid, epochs: int, train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]]
) -> Iterator[ConditionScores]:
    """Yield the outcome of each label noise; scores are method by method, noise by noise, seed by seed."""
    seeds = len(train) // (len(grid.vicinities) * len(grid.noises))
    for i, noise in enumerate(grid.noises):
        methods = {}
        for k, name in enumerate(grid.vicinities):
            first = (k * len(grid.noises) + i) * seeds
            mine = slice(first, first + seeds)
            methods[name] = MethodScores(
                [score["error"] for score in train[mine]],
                [score["error"] for score in test[mine]],
                [score["nll"] for score in test[mine]],
            )
        yield ConditionScores(epochs, noise, methods)
