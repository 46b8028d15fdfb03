"""The comparison on a table: all runs of some seeds are trained at once, as one fleet of small models."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab.compare import comparison
from vicinal.lab.compare.comparison import Comparison, RunId, Tick
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.compare.settings import TableSettings
from vicinal.lab.data.encoder import Encoding
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.splits import split
from vicinal.lab.data.table import Table
from vicinal.lab.models.mlp import MLP
from vicinal.lab.training import stacked_mlp
from vicinal.lab.training.scores import evaluate

FLEET = 20  # runs trained together: more leave the cache (results/bench/README.md)
_PERTURB = 2**63 + 2  # the stream of the perturbation of test inputs, beside those of the fleet
_CURVE_ROWS = 2000  # of the training rows, for learning curves


@dataclass(frozen=True)
class TableComparison(Comparison[TableSettings]):
    """A comparison on a table."""

    table: Table
    settings: TableSettings

    @property
    def name(self) -> str:
        """The table's."""
        return self.table.name

    @property
    def kind(self) -> str:
        """A table."""
        return "table"

    @property
    def task(self) -> str:
        """The table's."""
        return self.table.task

    @property
    def classes(self) -> int:
        """Number of classes; 0 for regression."""
        return len(self.table.classes)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of training, validation and test rows."""
        rows = split(self.table, 0)
        return len(rows.train), len(rows.validation), len(rows.test)

    @property
    def epochs(self) -> int:
        """Of every run."""
        return self.settings.budget(math.ceil(self.sizes[0] / self.settings.batch))

    @property
    def training(self) -> stacked_mlp.Training:
        """How every run is trained."""
        settings = self.settings
        rates = settings.learning_rate, settings.weight_decay
        return stacked_mlp.Training(self.epochs, settings.batch, settings.hidden, *rates, settings.patience)

    def data_fingerprint(self) -> str:
        """Give the table's."""
        return self.table.fingerprint()

    def few(self) -> tuple[Tensor, Tensor]:
        """Give the first batch of seed 0's training rows."""
        train = Prepared.of(self, [0]).train
        return train.inputs[0, : self.settings.batch], train.targets[0, : self.settings.batch]

    def pieces(self, missing: Sequence[RunId], jobs: int) -> list[list[RunId]]:
        """Cut the runs into fleets of whole seeds."""
        seeds = list(dict.fromkeys(seed for _, seed in missing))
        chunks = _chunks(seeds, len(self.methods), jobs)
        return [[name for name in missing if name[1] in chunk] for chunk in chunks]

    def train(self, runs: Sequence[RunId], tick: Tick | None = None) -> list[dict[str, Any]]:
        """Train and measure some runs, all as one fleet."""
        return _train(self, runs, tick)

    def model(self, method: str, seed: int, epochs: int) -> dict[str, np.ndarray]:
        """Train one run alone, for so many epochs; give the state of its `MLP`."""
        training = replace(self.training, epochs=epochs, patience=None)
        prepared = Prepared.of(self, [seed])
        with _last_row_may_be_alone():
            run = stacked_mlp.MLPRun(0, seed, self.method(method).vicinity)
            models = stacked_mlp.train([run], prepared.train, self.classes, training).models
        return {name: tensor.numpy() for name, tensor in models.state_dict(0).items()}

    def save_model(self, path: Path, state: dict[str, np.ndarray], seed: int, about: dict[str, Any]) -> str:
        """Write a `Predictor`."""
        encoding = Encoding.fit(self.table, split(self.table, seed).train)
        model = MLP(encoding.width, self.settings.hidden, self.classes or 1)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
        Predictor(model, encoding, about).save(path)
        return "\n".join(
            [
                "import polars",
                "from vicinal.lab.compare.predictor import Predictor",
                f"predictor = Predictor.load({path.as_posix()!r})",
                'rows = polars.read_csv("new_rows.csv")  # the columns of the training table',
                "print(predictor.predict(rows))",
            ]
        )

    def describe(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give what results.json says of the table, and of the model and its training."""
        table, training = self.table, self.training
        data = {
            "source": table.source,
            "numbers": len(table.number_names),
            "categories": len(table.category_names),
            "inputs": Encoding.fit(table, split(table, 0).train).width,
            "target": table.target_name,
            "classes": list(table.classes),
            "class_counts": [int((table.target == i).sum()) for i in range(self.classes)],
            "missing_cells": table.missing_cells,
        }
        protocol = {
            "steps": training.steps(self.sizes[0]),
            "hidden": list(training.hidden),
            "optimizer": "AdamW" if training.weight_decay else "Adam",
        }
        return data, protocol


def _chunks(seeds: Sequence[int], methods: int, jobs: int) -> list[list[int]]:
    """Cut the seeds into fleets of about equal size, as many as fill the processes evenly."""
    if not seeds:
        return []
    count = math.ceil(len(seeds) * methods / FLEET)
    count = min(len(seeds), math.ceil(count / jobs) * jobs)
    bounds = [round(i * len(seeds) / count) for i in range(count + 1)]
    return [list(seeds[a:b]) for a, b in pairwise(bounds)]


@dataclass(frozen=True)
class Prepared:
    """The splits of some seeds as tensors."""

    train: stacked_mlp.StackedSplit
    clean: stacked_mlp.StackedSplit  # the training rows with the labels they had before label noise
    validation: stacked_mlp.StackedSplit
    test: stacked_mlp.StackedSplit
    perturbed: stacked_mlp.StackedSplit | None
    encodings: list[Encoding]

    @staticmethod
    def of(study: TableComparison, seeds: Sequence[int]) -> Prepared:
        """Split, encode and, where asked, corrupt the table for each seed."""
        table, settings = study.table, study.settings
        parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        encodings = []
        for seed in seeds:
            rows = split(table, seed)
            encoding = Encoding.fit(table, rows.train)
            x, clean = encoding.inputs(table), encoding.targets(table)
            noisy = clean
            if settings.noise:
                known = np.concatenate([rows.train, rows.validation])
                noisy = encoding.targets(replace(table, target=corrupt_labels(table, known, settings.noise, seed)))
            for name, of, y in (
                ("train", rows.train, noisy),
                ("clean", rows.train, clean),
                ("validation", rows.validation, noisy),
                ("test", rows.test, clean),
            ):
                parts.setdefault(name, []).append((x[of], y[of]))
            if settings.perturb is not None:
                noise = Key(seed, 0, 0, 0, _PERTURB).generator().standard_normal((len(rows.test), x.shape[1]))
                shifted = x[rows.test] + (settings.perturb * noise).astype(np.float32)
                parts.setdefault("perturbed", []).append((shifted, clean[rows.test]))
            encodings.append(encoding)
        stacked = {name: _stack(pairs) for name, pairs in parts.items()}
        return Prepared(**{"perturbed": None, **stacked}, encodings=encodings)

    @property
    def scales(self) -> list[float]:
        """For each seed, the unit of the standardized regression target; 1 for classification."""
        return [encoding.target_sd for encoding in self.encodings]


def _stack(pairs: list[tuple[np.ndarray, np.ndarray]]) -> stacked_mlp.StackedSplit:
    return stacked_mlp.StackedSplit(
        torch.from_numpy(np.stack([x for x, _ in pairs])), torch.from_numpy(np.stack([y for _, y in pairs]))
    )


def _train(study: TableComparison, names: Sequence[RunId], tick: Tick | None) -> list[dict[str, Any]]:
    seeds = list(dict.fromkeys(seed for _, seed in names))
    prepared, training = Prepared.of(study, seeds), study.training
    runs = [stacked_mlp.MLPRun(seeds.index(seed), seed, study.method(method).vicinity) for method, seed in names]
    points = comparison.curve_points(training.epochs)
    curve_rows = stacked_mlp.StackedSplit(
        prepared.train.inputs[:, :_CURVE_ROWS], prepared.train.targets[:, :_CURVE_ROWS]
    )
    curves: list[dict[str, list[float]]] = [{} for _ in runs]
    measuring = 0.0

    def measure_all(
        models: stacked_mlp.StackedMLP,
        of: Sequence[stacked_mlp.MLPRun],
        part: stacked_mlp.StackedSplit,
        detail: bool = False,
    ) -> list[dict[str, Any]]:
        return evaluate(models, of, part, study.classes, prepared.scales, detail)

    def after_epoch(epoch: int, models: stacked_mlp.StackedMLP, active: list[int]) -> None:
        nonlocal measuring
        if epoch in points:
            start = time.perf_counter()
            mine = [runs[i] for i in active]
            measured = (measure_all(models, mine, part) for part in (curve_rows, prepared.validation))
            for i, train, valid in zip(active, *measured, strict=True):
                comparison.add_point(curves[i], epoch, train, valid)
            measuring += time.perf_counter() - start
        if tick is not None:
            tick(len(active))

    def to_stop(models: stacked_mlp.StackedMLP, of: Sequence[stacked_mlp.MLPRun]) -> list[float]:
        measure = "nll" if study.classes else "rmse"
        return [score[measure] for score in measure_all(models, of, prepared.validation)]

    start = time.perf_counter()
    waiting = None if training.patience is None else to_stop
    with _last_row_may_be_alone():
        models, epochs = stacked_mlp.train(runs, prepared.train, study.classes, training, after_epoch, waiting)
    seconds = (time.perf_counter() - start - measuring) / len(runs)
    train, valid = measure_all(models, runs, prepared.clean), measure_all(models, runs, prepared.validation)
    test = measure_all(models, runs, prepared.test, detail=True)
    perturbed = None if prepared.perturbed is None else measure_all(models, runs, prepared.perturbed)
    return [
        {
            "method": method,
            "seed": seed,
            "seconds": seconds,
            "epochs": epochs[i],
            "train": train[i],
            "validation": valid[i],
            "test": test[i],
            "perturbed": None if perturbed is None else perturbed[i],
            "curve": curves[i],
        }
        for i, (method, seed) in enumerate(names)
    ]


@contextmanager
def _last_row_may_be_alone() -> Iterator[None]:
    """Accept in silence that the last batch of an epoch may be one row, which has no partner."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a batch of one example")
        yield
