"""The comparison on a table: all runs of some seeds are trained at once, as one stack of small models."""

from __future__ import annotations

import math
import shlex
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
from vicinal.lab import executor, limits, memory
from vicinal.lab.compare import baselines, comparison, temperature
from vicinal.lab.compare.baselines import BASELINE
from vicinal.lab.compare.comparison import Comparison, OnEpoch, RunId
from vicinal.lab.compare.predictions import MeasuredRun, RunPredictions, predictions_of
from vicinal.lab.compare.predictor import Predictor, RowReading
from vicinal.lab.compare.results import (
    Curve,
    DataInfo,
    Kind,
    Method,
    ModelInfo,
    ReliabilityBins,
    RunRecord,
    Scores,
    TableInfo,
)
from vicinal.lab.compare.settings import TableSettings
from vicinal.lab.data.encoded_splits import EncodedSplit, StackedSplit, encode, stack
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.splits import Split
from vicinal.lab.data.table import Table
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.models.mlp import MLP
from vicinal.lab.streams import Stream
from vicinal.lab.training import stacked_mlp
from vicinal.lab.training.scores import classification, evaluate, outputs, regression
from vicinal.lab.training.stacked_mlp import MLPRun, StackedMLP

FLEET = 20  # runs trained together: more leave the cache (results/bench/README.md)
_CURVE_ROWS = 2000  # of the training rows, for learning curves
_TIMED = 20  # steps
_FLOAT = 4  # bytes of a number
_MOST_NUMBERS = 2**25  # inputs of all seeds of a stack, 128 MiB
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
        return math.ceil(self.sizes[0] / self.batch_size)

    @property
    def training(self) -> stacked_mlp.MLPTraining:
        """How every run is trained."""
        s = self.settings
        patience = None if s.to_the_end else s.patience or self.epochs  # the best epoch of all, if none is given
        return stacked_mlp.MLPTraining(self.epochs, self.batch_size, s.hidden, s.learning_rate, patience)

    @cached_property
    def _inputs(self) -> int:
        return TableEncoder.fit(self.data, self.split(0).train).width

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
            table=TableInfo(*columns, self._inputs, table.missing_cells, [*table.columns], table.notes),
        )

    def model_info(self) -> ModelInfo:
        """Return what results.json says of the model and its training."""
        return ModelInfo("mlp", list(self.settings.hidden), self._parameters, "AdamW", "constant")

    def sample_batch(self) -> tuple[Tensor, Tensor]:
        """Return the first batch of seed 0's training rows."""
        train = SeedSplits.of(self, [0]).train
        return train.inputs[0, : self.batch_size].dense(), train.targets[0, : self.batch_size]

    def is_quick(self, runs: int) -> bool:
        """Return True if training `runs` runs takes less time than starting worker processes."""
        steps = runs * self.epochs * self.steps_per_epoch
        return steps * self.batch_size * self._parameters < _QUICK

    def estimate_seconds(self, runs: int, processes: int) -> float | None:
        """Estimate how long `runs` runs take by the first steps of one seed; None where that is not long."""
        if self.is_quick(runs):
            return None
        rows, training = _TIMED * self.batch_size, replace(self.training, epochs=1, patience=None)
        train = SeedSplits.of(self, [0]).train
        few = StackedSplit(train.inputs[:, :rows], train.targets[:, :rows])
        stack_ = [MLPRun(0, 0, of.parsed, of.weight_decay) for of in self.networks]
        with executor.one_thread():
            stacked_mlp.train(stack_, few, self.classes, training)  # the first is slower
            start = time.perf_counter()
            stacked_mlp.train(stack_, few, self.classes, training)
            seconds = (time.perf_counter() - start) / training.steps(few.inputs.rows)
        seeds = runs / len(self.methods)
        return seconds * self.epochs * self.steps_per_epoch * seeds / min(processes, math.ceil(seeds))

    def chunks(self, missing: Sequence[RunId], processes: int) -> list[list[RunId]]:
        """Cut the runs into stacks of whole seeds."""
        seeds = list(dict.fromkeys(seed for _, seed in missing))
        alike: dict[tuple[int, ...], list[int]] = {}  # groups of rows make splits of several sizes
        for seed in seeds:
            rows = self.split(seed) if self.splitting.how == "groups" else None
            alike.setdefault(
                () if rows is None else (len(rows.train), len(rows.test), len(rows.validation)), []
            ).append(seed)
        chunks = [chunk for of in alike.values() for chunk in _chunks(of, self._abreast, processes)]
        return [[run for run in missing if run[1] in chunk] for chunk in chunks]

    @property
    def _abreast(self) -> int:
        """Number of seeds that are trained together: as many as stay in the cache, and of a large table one."""
        own = len(self.data.numeric_columns) + len(self.data.categorical_columns)
        numbers = len(self.data) * (own if self.settings.input_noise is None else self._inputs)
        return max(1, min(FLEET // len(self.methods), _MOST_NUMBERS // max(1, numbers)))

    def check(self) -> None:
        """Refuse what cannot be used on this table, or does not fit into memory, before anything is trained.

        Raises:
            UserError: naming it.

        """
        self._check_memory()
        super().check()

    def _check_memory(self) -> None:
        """Refuse a table whose inputs of one seed alone take more memory than is free."""
        rows, own = len(self.data), len(self.data.numeric_columns) + len(self.data.categorical_columns)
        if self.settings.input_noise is None:
            limits.check(_FLOAT * rows * own, self.name, "has inputs of", "give fewer rows or columns")
            return
        # noise leaves no category as it is: all are written out, and the noise itself is in double precision
        written_out = _FLOAT * self._inputs * (rows + 3 * self.sizes[2])
        what = f"has {self._inputs:,} inputs a row once categories are written out for --input-noise, in all"
        limits.check(written_out, self.name, what, "leave --input-noise out, or drop columns of many categories")

    def train(self, runs: Sequence[RunId], on_epoch: OnEpoch = lambda runs: None) -> list[MeasuredRun]:
        """Train and measure some runs, all as one stack; where memory runs short, those of one seed after the other."""
        seeds = list(dict.fromkeys(seed for _, seed in runs))
        done = 0

        def count(number: int) -> None:
            nonlocal done
            done += number
            on_epoch(number)

        try:
            return self._train_stack(runs, count)
        except (MemoryError, RuntimeError) as error:
            if not memory.is_short(error) or len(seeds) < 2:
                raise
            figures = memory.figures(error)
        on_epoch(-done)
        warnings.warn(
            f"there is not enough memory for {len(seeds)} seeds at once ({figures}): they are trained one after the other, "
            "which changes last bits; fewer --jobs need less",
            stacklevel=2,
        )
        return [run for seed in seeds for run in self._train_stack([one for one in runs if one[1] == seed], on_epoch)]

    def _train_stack(self, runs: Sequence[RunId], on_epoch: OnEpoch) -> list[MeasuredRun]:
        baseline = [run for run in runs if self.method(run[0]).family == BASELINE]
        networks = [run for run in runs if run not in baseline]
        seeds = list(dict.fromkeys(seed for _, seed in runs))
        splits = SeedSplits.of(self, seeds)
        found = _Stack(self, networks, seeds, splits, on_epoch).train() if networks else []
        return [*found, *(_baseline(self, splits, seeds.index(seed), name, seed) for name, seed in baseline)]

    def baselines(self) -> list[Method]:
        """Return what the networks must beat."""
        return baselines.methods()

    def refit(self, method: str, epochs: int) -> dict[str, np.ndarray] | None:
        """Train a method on all rows for `epochs` epochs, and return the state of its `MLP`; None where that diverged."""
        of, rows = self.method(method), stack([self._whole()], "train")
        run = MLPRun(0, 0, of.parsed, of.weight_decay)
        with _last_row_may_be_alone():
            training = replace(self.training, epochs=epochs, patience=None)
            models = stacked_mlp.train([run], rows, self.classes, training).models
        state = models.state_dict(0)
        return comparison.finite_state(state, outputs(models[[0]], rows.inputs[0]))

    def _whole(self) -> EncodedSplit:
        """Return all rows for training, with label noise where it is asked for."""
        rows = np.arange(len(self.data))
        whole = encode(self.data, Split(rows, rows[:0], rows[:0]))
        noise = self.settings.label_noise
        return _with_label_noise(self.data, whole, noise, 0) if noise else whole

    def save_model(self, path: Path, state: dict[str, np.ndarray], about: dict[str, Any]) -> str:
        """Write a `Predictor`, and return the lines of Python that use it."""
        encoding = TableEncoder.fit(self.data, np.arange(len(self.data)))
        model = MLP(encoding.width, self.settings.hidden, self.classes or 1)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
        Predictor(model, encoding, about, RowReading.of(self.data)).save(path)
        return (
            f"# in a shell: vicinal predict {shlex.quote(path.parent.as_posix())} new_rows.csv\n"
            "import polars\n"
            "from vicinal.lab.compare.predictor import Predictor\n"
            f"predictor = Predictor.load({path.as_posix()!r})\n"
            'rows = polars.read_csv("new_rows.csv")  # the columns of the training table\n'
            "print(predictor.predict(rows))"
        )


def _chunks(seeds: Sequence[int], abreast: int, processes: int) -> list[list[int]]:
    """Cut the seeds into stacks of about equal size, `abreast` or fewer, as many as fill the processes evenly."""
    if not seeds:
        return []
    count = math.ceil(len(seeds) / abreast)
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
    test_rows: list[np.ndarray]  # of the table, one per seed

    @staticmethod
    def of(comparison: TableComparison, seeds: Sequence[int]) -> SeedSplits:
        """Split, encode and, where asked, corrupt the table for each seed."""
        settings = comparison.settings
        clean = [encode(comparison.data, comparison.split(seed)) for seed in seeds]
        noisy, test = clean, stack(clean, "test")
        train = before = stack(clean, "train")
        if settings.label_noise:
            pairs = zip(clean, seeds, strict=True)
            noisy = [_with_label_noise(comparison.data, of, settings.label_noise, seed) for of, seed in pairs]
            train = stack(noisy, "train")
        return SeedSplits(
            train=train,
            clean=before,
            validation=stack(noisy, "validation"),
            test=test,
            perturbed=None if settings.input_noise is None else _perturbed(test, settings.input_noise, seeds),
            encodings=[of.encoder for of in clean],
            test_rows=[of.rows.test for of in clean],
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
    shape = test.inputs.rows, test.inputs.width
    noise = [Key(seed, 0, 0, 0, Stream.INPUT_NOISE).generator().standard_normal(shape) for seed in seeds]
    noise_SND = torch.from_numpy((sd * np.stack(noise)).astype(np.float32))
    return StackedSplit(TableInputs(test.inputs.dense() + noise_SND), test.targets)


class _Stack:
    """Some runs, trained and measured together."""

    def __init__(
        self,
        study: TableComparison,
        names: Sequence[RunId],
        seeds: Sequence[int],
        splits: SeedSplits,
        on_epoch: OnEpoch,
    ) -> None:
        self.study, self.names, self.on_epoch = study, names, on_epoch
        self.splits, self.training = splits, study.training
        methods = {method.name: method for method in study.methods}
        self.runs = [
            MLPRun(seeds.index(seed), seed, methods[name].parsed, methods[name].weight_decay) for name, seed in names
        ]
        self.points = comparison.curve_points(self.training.epochs)
        self.curves: list[Curve] = [{} for _ in names]
        train = self.splits.train
        self.curve_rows = StackedSplit(train.inputs[:, :_CURVE_ROWS], train.targets[:, :_CURVE_ROWS])
        self.measuring = 0.0  # seconds

    def train(self) -> list[MeasuredRun]:
        """Train all runs; return a record of each, and its predictions."""
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
        temperatures = self._temperatures(models)
        columns = zip(epochs, train, validation, test, perturbed, self.curves, bins, temperatures, strict=True)
        records = [
            RunRecord(method, seed, seconds, *of) for (method, seed), of in zip(self.names, columns, strict=True)
        ]
        return [MeasuredRun(record, of) for record, of in zip(records, self._predict(models), strict=True)]

    def _predict(self, models: StackedMLP) -> Iterator[RunPredictions]:
        """Yield the test predictions of each run."""
        for i, run in enumerate(self.runs):
            out = outputs(models[[i]], self.splits.test.inputs[run.split])[0]
            rows = self.splits.test_rows[run.split]
            if self.study.classes:
                yield predictions_of(rows, out, self.splits.test.targets[run.split])
            else:
                values = self.splits.encodings[run.split].inverse_transform(out[:, 0].numpy())
                yield RunPredictions(rows, values.astype(np.float32), None)

    def _temperatures(self, models: StackedMLP) -> list[float]:
        """Return the temperature of each run, fitted on its validation rows; nan for regression."""
        if not self.study.classes:
            return [math.nan] * len(self.runs)
        part, found = self.splits.validation, []
        for i, run in enumerate(self.runs):
            logits = outputs(models[[i]], part.inputs[run.split])[0]
            found.append(temperature.fitted(logits.numpy(), part.targets[run.split].numpy()))
        return found

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
        """Return what the best epoch is chosen by: the negative log-likelihood, or the mean squared error."""
        part, scores = self.splits.validation, torch.empty(len(runs), dtype=torch.float64)
        for split in dict.fromkeys(run.split for run in runs):
            mine = [i for i, run in enumerate(runs) if run.split == split]
            out, y = outputs(models[mine], part.inputs[split]).double(), part.targets[split]
            if self.study.classes:
                own = out.gather(-1, y.expand(out.shape[:-1])[..., None])[..., 0]
                scores[mine] = (out.logsumexp(-1) - own).mean(-1)
            else:
                scores[mine] = (out[..., 0] - y).square().mean(-1)
        return scores.tolist()


def _baseline(comparison: TableComparison, of: SeedSplits, i: int, name: str, seed: int) -> MeasuredRun:
    """Train and measure a baseline on the split at `i`."""
    classes, target = comparison.classes, of.encodings[i].target
    parts = {"train": of.clean, "validation": of.validation, "test": of.test}
    parts |= {} if of.perturbed is None else {"perturbed": of.perturbed}
    inputs = {part: stacked.inputs[i] for part, stacked in parts.items()}
    if of.perturbed is not None:  # noise on one-hot columns leaves no categories
        inputs = {part: TableInputs(one.dense()) for part, one in inputs.items()}
    training = inputs["train"], of.train.targets[i].numpy()
    found, seconds = baselines.fit_predict(name, classes, training, inputs)
    scores: dict[str, Any] = {}
    for part, values in found.items():
        out, y = torch.from_numpy(values)[None], parts[part].targets[i]
        (scores[part],) = classification(out.log(), y, True) if classes else regression(out, y, target.std)
    record = baselines.record(name, seed, seconds, scores)
    if classes:
        p = found["test"]
        nll = baselines.nll_of(p, of.test.targets[i].numpy())
        return MeasuredRun(record, RunPredictions(of.test_rows[i], p.astype(np.float32), nll))
    values = of.encodings[i].inverse_transform(found["test"]).astype(np.float32)
    return MeasuredRun(record, RunPredictions(of.test_rows[i], values, None))


@contextmanager
def _last_row_may_be_alone() -> Iterator[None]:
    """Accept in silence that the last batch of an epoch may be one row, which has no partner."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a batch of one example")
        yield
