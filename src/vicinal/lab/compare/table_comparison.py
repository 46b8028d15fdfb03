"""The comparison on a table: all runs of some seeds are trained at once, as one stack of small models."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab.compare import comparison
from vicinal.lab.compare.comparison import Comparison, OnEpoch, RunId
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.compare.results import Curve, DataInfo, Kind, ModelInfo, ReliabilityBins, RunRecord, Scores, TableInfo
from vicinal.lab.compare.settings import TableSettings
from vicinal.lab.data.encoded_splits import EncodedSplit, StackedSplit, encode_split, stack
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.table import Table
from vicinal.lab.models.mlp import MLP
from vicinal.lab.streams import Stream
from vicinal.lab.training import stacked_mlp
from vicinal.lab.training.scores import evaluate
from vicinal.lab.training.stacked_mlp import MLPRun, StackedMLP

FLEET = 20  # runs trained together: more leave the cache (results/bench/README.md)
_CURVE_ROWS = 2000  # of the training rows, for learning curves
_QUICK = 5e10  # multiply-adds that one core trains in about as long as worker processes take to start


@dataclass(frozen=True)
class TableComparison(Comparison[Table, TableSettings]):
    """A comparison on a table."""

    data: Table
    settings: TableSettings

    @property
    def kind(self) -> Kind:
        """A table."""
        return "table"

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps per epoch; the last batch may be short."""
        return math.ceil(self.sizes[0] / self.settings.batch_size)

    @property
    def training(self) -> stacked_mlp.MLPTraining:
        """How every run is trained."""
        s = self.settings
        return stacked_mlp.MLPTraining(self.epochs, s.batch_size, s.hidden, s.learning_rate, s.weight_decay, s.patience)

    @cached_property
    def _inputs(self) -> int:
        return encode_split(self.data, 0).encoder.width

    @property
    def _parameters(self) -> int:
        widths = [self._inputs, *self.settings.hidden, self.classes or 1]
        return sum((a + 1) * b for a, b in pairwise(widths))

    def data_info(self) -> DataInfo:
        """Return what results.json says of the table."""
        table = self.data
        columns = len(table.numeric_columns), len(table.categorical_columns)
        return DataInfo(
            name=table.name,
            kind="table",
            task=self.task,
            source=table.source,
            examples=len(table),
            sha256=self.data_digest,
            target=table.target_name,
            classes=list(table.classes),
            class_counts=[int((table.target == i).sum()) for i in range(self.classes)],
            table=TableInfo(*columns, inputs=self._inputs, missing_cells=table.missing_cells, columns=[*table.columns]),
        )

    def model_info(self) -> ModelInfo:
        """Return what results.json says of the model and its training."""
        optimizer = "AdamW" if self.settings.weight_decay else "Adam"
        return ModelInfo("mlp", list(self.settings.hidden), self._parameters, optimizer, "constant")

    def sample_batch(self) -> tuple[Tensor, Tensor]:
        """Return the first batch of seed 0's training rows."""
        train = SeedSplits.of(self, [0]).train
        return train.inputs[0, : self.settings.batch_size], train.targets[0, : self.settings.batch_size]

    def is_quick(self, runs: int) -> bool:
        """Return True if training `runs` runs takes less time than starting worker processes."""
        steps = runs * self.epochs * self.steps_per_epoch
        return steps * self.settings.batch_size * self._parameters < _QUICK

    def chunks(self, missing: Sequence[RunId], processes: int) -> list[list[RunId]]:
        """Cut the runs into stacks of whole seeds."""
        seeds = list(dict.fromkeys(seed for _, seed in missing))
        chunks = _chunks(seeds, len(self.methods), processes)
        return [[run for run in missing if run[1] in chunk] for chunk in chunks]

    def train(self, runs: Sequence[RunId], on_epoch: OnEpoch = lambda runs: None) -> list[RunRecord]:
        """Train and measure some runs, all as one stack."""
        return _Stack(self, runs, on_epoch).train()

    def train_model(self, method: str, seed: int, epochs: int) -> dict[str, np.ndarray]:
        """Train one run alone for `epochs` epochs, and return the state of its `MLP`."""
        training = replace(self.training, epochs=epochs, patience=None)
        splits = SeedSplits.of(self, [seed])
        with _last_row_may_be_alone():
            run = MLPRun(0, seed, self.method(method).parsed)
            models = stacked_mlp.train([run], splits.train, self.classes, training).models
        return {name: tensor.numpy() for name, tensor in models.state_dict(0).items()}

    def save_model(self, path: Path, state: dict[str, np.ndarray], seed: int, about: dict[str, Any]) -> str:
        """Write a `Predictor`, and return the lines of Python that use it."""
        encoding = encode_split(self.data, seed).encoder
        model = MLP(encoding.width, self.settings.hidden, self.classes or 1)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
        Predictor(model, encoding, about).save(path)
        return (
            "import polars\n"
            "from vicinal.lab.compare.predictor import Predictor\n"
            f"predictor = Predictor.load({path.as_posix()!r})\n"
            'rows = polars.read_csv("new_rows.csv")  # the columns of the training table\n'
            "print(predictor.predict(rows))"
        )


def _chunks(seeds: Sequence[int], methods: int, processes: int) -> list[list[int]]:
    """Cut the seeds into stacks of about equal size, as many as fill the processes evenly."""
    if not seeds:
        return []
    count = math.ceil(len(seeds) * methods / FLEET)
    count = min(len(seeds), math.ceil(count / processes) * processes)
    bounds = [round(i * len(seeds) / count) for i in range(count + 1)]
    return [list(seeds[a:b]) for a, b in pairwise(bounds)]


@dataclass(frozen=True)
class SeedSplits:
    """Splits of some seeds as tensors."""

    train: StackedSplit  # with the label noise asked for
    clean: StackedSplit  # the training rows with the labels they had before
    validation: StackedSplit  # with label noise too
    test: StackedSplit  # without
    perturbed: StackedSplit | None  # the test rows with noise on their inputs, where asked for
    encodings: list[TableEncoder]  # one per seed

    @staticmethod
    def of(comparison: TableComparison, seeds: Sequence[int]) -> SeedSplits:
        """Split, encode and, where asked, corrupt the table for each seed."""
        settings = comparison.settings
        clean = [encode_split(comparison.data, seed) for seed in seeds]
        noisy = clean
        if settings.label_noise:
            pairs = zip(clean, seeds, strict=True)
            noisy = [_with_label_noise(comparison.data, of, settings.label_noise, seed) for of, seed in pairs]
        test = stack(clean, "test")
        return SeedSplits(
            train=stack(noisy, "train"),
            clean=stack(clean, "train"),
            validation=stack(noisy, "validation"),
            test=test,
            perturbed=None if settings.input_noise is None else _perturbed(test, settings.input_noise, seeds),
            encodings=[of.encoder for of in clean],
        )

    @property
    def scales(self) -> list[float]:
        """Unit of the standardized regression target for each seed; 1 for classification."""
        return [encoding.target.std for encoding in self.encodings]


def _with_label_noise(table: Table, clean: EncodedSplit, fraction: float, seed: int) -> EncodedSplit:
    known = np.concatenate([clean.rows.train, clean.rows.validation])
    corrupted = corrupt_labels(table.target, len(table.classes), fraction, seed, rows=known)
    return replace(clean, targets=clean.encoder.transform_target(replace(table, target=corrupted)))


def _perturbed(test: StackedSplit, sd: float, seeds: Sequence[int]) -> StackedSplit:
    shape = test.inputs.shape[1:]
    noise = [Key(seed, 0, 0, 0, Stream.INPUT_NOISE).generator().standard_normal(shape) for seed in seeds]
    return StackedSplit(test.inputs + torch.from_numpy((sd * np.stack(noise)).astype(np.float32)), test.targets)


class _Stack:
    """Some runs, trained and measured together."""

    def __init__(self, study: TableComparison, names: Sequence[RunId], on_epoch: OnEpoch) -> None:
        seeds = list(dict.fromkeys(seed for _, seed in names))
        self.study, self.names, self.on_epoch = study, names, on_epoch
        self.splits, self.training = SeedSplits.of(study, seeds), study.training
        self.runs = [MLPRun(seeds.index(seed), seed, study.method(method).parsed) for method, seed in names]
        self.points = comparison.curve_points(self.training.epochs)
        self.curves: list[Curve] = [{} for _ in names]
        train = self.splits.train
        self.curve_rows = StackedSplit(train.inputs[:, :_CURVE_ROWS], train.targets[:, :_CURVE_ROWS])
        self.measuring = 0.0  # seconds

    def train(self) -> list[RunRecord]:
        """Train all runs; return a record of each."""
        splits, training = self.splits, self.training
        start = time.perf_counter()
        score = None if training.patience is None else self._score
        with _last_row_may_be_alone():
            models, epochs = stacked_mlp.train(
                self.runs, splits.train, self.study.classes, training, self._after_epoch, score
            )
        seconds = (time.perf_counter() - start - self.measuring) / len(self.runs)
        train, validation = (self._measure(models, self.runs, part) for part in (splits.clean, splits.validation))
        test, bins = self._measure_test(models)
        noisy = splits.perturbed
        perturbed = [None] * len(self.runs) if noisy is None else self._measure(models, self.runs, noisy)
        columns = zip(epochs, train, validation, test, perturbed, self.curves, bins, strict=True)
        return [RunRecord(method, seed, seconds, *of) for (method, seed), of in zip(self.names, columns, strict=True)]

    def _measure(self, models: StackedMLP, runs: Sequence[MLPRun], part: StackedSplit) -> list[Scores]:
        return evaluate(models, runs, part, self.study.classes, self.splits.scales)

    def _measure_test(self, models: StackedMLP) -> tuple[list[Scores], list[ReliabilityBins | None]]:
        measured = evaluate(models, self.runs, self.splits.test, self.study.classes, self.splits.scales, True)
        bins = [scores.pop("reliability", None) for scores in measured]
        return measured, [None if of is None else ReliabilityBins(**of) for of in bins]

    def _after_epoch(self, epoch: int, models: StackedMLP, active: list[int]) -> None:
        if epoch in self.points:
            start = time.perf_counter()
            mine = [self.runs[i] for i in active]
            measured = (self._measure(models, mine, part) for part in (self.curve_rows, self.splits.validation))
            for i, train, validation in zip(active, *measured, strict=True):
                comparison.add_point(self.curves[i], epoch, train, validation)
            self.measuring += time.perf_counter() - start
        self.on_epoch(len(active))

    def _score(self, models: StackedMLP, runs: Sequence[MLPRun]) -> list[float]:
        measure = "nll" if self.study.classes else "rmse"
        return [scores[measure] for scores in self._measure(models, runs, self.splits.validation)]


@contextmanager
def _last_row_may_be_alone() -> Iterator[None]:
    """Accept in silence that the last batch of an epoch may be one row, which has no partner."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a batch of one example")
        yield
