"""Studies that train models by recipes: cells of a table, each trained with every seed.

A study lists its cells with the paper's recipes; the scale turns these into what is run.
"""

from __future__ import annotations

import contextlib
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from vicinal.lab import atomic
from vicinal.lab.data import loading
from vicinal.lab.data.dataset import Data
from vicinal.lab.paper.rows import first_done
from vicinal.lab.paper.store import digest
from vicinal.lab.paper.study import AtScale, Job, Published, Results, Row, Scale, Study
from vicinal.lab.recipe import Recipe
from vicinal.lab.records import to_json
from vicinal.lab.training import distributed, loop, runs
from vicinal.lab.training.settings import RunSettings


@dataclass(frozen=True)
class TrainedRun:
    """What a job returned; studies that measure more add it.

    Args:
        recipe: its fields.
        test_error: as fractions.
        course: curves over the epochs.
        device: on which it was trained.
        train_error: on the training examples as they are, unmixed and not augmented, against the labels trained on.
        test_nll: mean negative log-likelihood of the test labels after the last epoch, in nats.

    `train_error` and `test_nll` are None in results from before they were measured.
    """

    recipe: dict[str, Any]
    test_error: runs.ErrorSummary
    course: dict[str, list[float]]
    device: str
    train_error: float | None = field(default=None, kw_only=True)
    test_nll: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Cell:
    """One method on one model and dataset: one row of the table for each of the study's measures.

    Args:
        name: of its rows, unique within the study.
        job: of its jobs' names: letters, digits, dots and hyphens, unique within the study.
        recipe: how it is trained; the seed is filled in. None: it is not run at this scale.
        published: the paper's numbers, of the first measures.
        against: the name of the cell that the paper compares it with.
        note: what a reader must know, as why it is not run.
        seeds: number of its seeds, if they are fewer than the scale's.

    """

    name: str
    job: str
    recipe: Recipe | None
    published: Sequence[Published | None] = ()
    against: str | None = None
    note: str = ""
    seeds: int | None = None


def quick(recipe: Recipe) -> Recipe:
    """Return the recipe of the quick run: few synthetic images, a small model, one epoch."""
    return replace(
        recipe,
        dataset="synthetic-images",
        model="preact-resnet-18-narrow" if recipe.dropout else "small",
        epochs=1,
        batch_size=60,
        learning_rate=0.05,
        warmup_epochs=0,
        max_train_examples=60,  # of 120: some of each class
        max_test_examples=20,
        knn=min(recipe.knn, 2),
        channels_last=False,
        crop="random_crop",
    )


def narrowed(recipe: Recipe, epochs: int, **changes: Any) -> Recipe:
    """Return an image recipe for a CPU: an eighth of PreAct ResNet-18's width, bfloat16, its schedule in `epochs`."""
    milestones = tuple(round(epochs * milestone / recipe.epochs) for milestone in recipe.milestones)
    small = {"model": "preact-resnet-18-narrow", "precision": "bfloat16", "epochs": epochs, "milestones": milestones}
    return replace(recipe, **small | changes)


FEW = (
    "2,000 of the 50,000 training images, not augmented, so that a small model fits them all, and 2,000 of the test images; "
    "PreAct ResNet-18 with an eighth of its width, 30 epochs instead of 200, float32. Fewer images than in the study cifar, "
    "for the number of models: two minutes each on a CPU without bfloat16"
)


def few(recipe: Recipe) -> Recipe:
    """Return an image recipe of which a CPU trains many: what `FEW` says."""
    images = {"max_train_examples": 2000, "max_test_examples": 2000, "augment": False}
    return narrowed(recipe, 30, precision="float32", knn=round(recipe.knn * 2000 / 50_000), **images)


def train_once(recipe: Recipe, job_folder: Path, job: distributed.Processes) -> tuple[runs.RunResults, Path]:
    """Train by a recipe, or take the run of another job or study that trained by the same one.

    Returns:
        The results and the folder of the run, ROOT/runs/DIGEST where the job's is ROOT/STUDY/SCALE/JOB.

    """
    folder = job_folder.parents[2] / "runs" / recipe.fingerprint()[:16]
    with contextlib.ExitStack() as stack:
        job.on_rank_zero(lambda: stack.enter_context(_waited_for(folder.with_suffix(".lock"))))
        return loop.train(
            recipe, folder, job, RunSettings(stop_at_nonfinite=False)
        ), folder  # one that diverges is a result


@contextlib.contextmanager
def _waited_for(lock: Path) -> Iterator[None]:
    """Hold a lock; wait while another process holds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with atomic.locked(lock) as ours:
            if ours:
                yield
                return
        time.sleep(1)


def load_trained(folder: Path, data: Data, models: Sequence[str] = ()) -> tuple[nn.Module, Data]:
    """Return the model of a finished run, and data for it, on this process's device.

    Args:
        folder: of the run.
        data: that it was trained on.
        models: factories, as `package.module:factory`, that may be imported where the run was trained with one.

    """
    data = data.to(distributed.device())
    return runs.load_model(folder, len(data.classes), data.device, models), data


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A trained model and its data, on this process's device.

    Args:
        recipe: by which it was trained.
        model: in evaluation mode.
        training: the examples that it was trained on.
        test: the test examples.
        missed: bool, one per training example as it is: the prediction differs from the label trained on.

    """

    recipe: Recipe
    model: nn.Module
    training: Data
    test: Data
    missed: Tensor


def load_finished(recipe: Recipe, folder: Path) -> FinishedRun:
    """Return the finished run in a folder."""
    training, test = loading.load(recipe)
    model, training = load_trained(folder, training, [recipe.model])
    return FinishedRun(recipe, model, training, test.to(training.device), runs.misclassified(model, training))


@dataclass(frozen=True)
class TrainingScale(AtScale):
    """A scale of a study that trains.

    Args:
        recipe: turns a recipe of the paper into that of this scale, or None if it is not run.
        note: on the cells that are run; {epochs} is filled in.
        not_run: a note on the others.

    """

    recipe: Callable[[Recipe], Recipe | None] = lambda recipe: recipe
    note: str = ""
    not_run: str = ""

    def cell(self, cell: Cell) -> Cell:
        """Return a cell of the paper at this scale; one that is run at none stays as it is."""
        if cell.recipe is None:
            return cell
        recipe = self.recipe(cell.recipe)
        note = self.not_run if recipe is None else self.note.format(epochs=recipe.epochs)
        return replace(cell, recipe=recipe, note=_joined(cell.note, note))


SMOKE = TrainingScale(
    "none (synthetic images)",
    0.1,
    deviations=("Synthetic data, a small model, one epoch: the figures mean nothing.",),
    recipe=quick,
)


class TrainingStudy(Study):
    """A study whose jobs are training runs."""

    record: ClassVar[type[TrainedRun]] = TrainedRun
    # names with their units; functions of a run: a share where the unit is %, None where it was not measured
    measures: ClassVar[Sequence[tuple[str, Callable[[Any], float | None]]]] = ()
    scales: ClassVar[Mapping[Scale, TrainingScale]]  # pyright: ignore[reportIncompatibleVariableOverride]  # read only

    @abstractmethod
    def paper_cells(self) -> Sequence[Cell]:
        """Return the table's cells, with the paper's recipes."""

    def evaluate_run(self, run: FinishedRun) -> dict[str, Any]:
        """Return what else is measured of a finished run: what `record` adds to a `TrainedRun`."""
        return {}

    def cells(self, scale: Scale) -> Sequence[Cell]:
        """Return the cells at a scale, those that are not run included."""
        return [self.scales[scale].cell(cell) for cell in self.paper_cells()]

    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Train every cell with the first seed, then with the next."""
        cells = [(cell, cell.recipe) for cell in self.cells(scale) if cell.recipe is not None]
        return [
            self._job(cell.job, self.seeded(recipe, seed))
            for seed in range(self.scales[scale].seeds)
            for cell, recipe in cells
            if seed < self.seeds_of(scale, cell)
        ]

    def seeded(self, recipe: Recipe, seed: int) -> Recipe:
        """Return the recipe of one seed of a cell."""
        return replace(recipe, seed=seed)

    def seeds_of(self, scale: Scale, cell: Cell) -> int:
        """Return the number of seeds of a cell."""
        return self.scales[scale].seeds if cell.seeds is None else cell.seeds

    def _job(self, name: str, recipe: Recipe) -> Job:
        return Job(f"{name}-seed{recipe.seed}", partial(self._train, recipe), digest(asdict(recipe)), self.record)

    def _train(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Train, or resume; `folder` is the job's."""
        with distributed.job() as job:
            results, folder = train_once(recipe, folder, job)
        epochs, finished = results.epochs, load_finished(recipe, folder)
        curves = ("test_error", "test_top5_error", "train_mixed_loss")
        run = self.record(
            to_json(results.recipe),
            results.test_error,
            {name: [line[name] for line in epochs] for name in curves if name in epochs[0]},
            results.device,
            train_error=float(finished.missed.double().mean()),
            test_nll=epochs[-1]["test_nll"],
            **self.evaluate_run(finished),
        )
        return to_json(run)

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return one row per cell and measure."""
        return [row for cell in self.cells(scale) for row in self._rows(scale, done, cell)]

    def _rows(self, scale: Scale, done: Results, cell: Cell) -> list[Row]:
        found, seeds = self.runs(scale, done, cell), self.seeds_of(scale, cell)
        partly = f"{len(found)} of {seeds} seeds are run" if cell.recipe is not None and 0 < len(found) < seeds else ""
        return [
            Row(
                row_name(cell.name, measure),
                measure,
                published,
                _values(found, measure, of),
                None if cell.against is None else row_name(cell.against, measure),
                _joined(cell.note, partly),
            )
            for (measure, of), published in zip_longest(self.measures, cell.published)
        ]

    def differences(
        self, scale: Scale, done: Results, cell: Cell, other: Cell, of: Callable[[Any], float]
    ) -> tuple[float, ...]:
        """Return how much a cell's runs exceed those of another in a measure, one number per seed that both have."""
        return tuple(of(a) - of(b) for a, b in zip(*(self.runs(scale, done, c) for c in (cell, other)), strict=False))

    def runs(self, scale: Scale, done: Results, cell: Cell) -> list[Any]:
        """Return the finished runs of a cell, from the first seed on: those of two cells pair by their places."""
        names = (f"{cell.job}-seed{seed}" for seed in range(self.seeds_of(scale, cell)))
        return first_done(self.record, done, names)


def _values(runs: Sequence[Any], measure: str, of: Callable[[Any], float | None]) -> tuple[float, ...]:
    """Return a measure of each run; none if it was not measured for all of them."""
    values = [of(run) for run in runs]
    factor = 100 if measure.endswith("%") else 1
    return () if None in values else tuple(factor * value for value in values if value is not None)


def row_name(cell: str, measure: str) -> str:
    """Return the name of the row of a cell's measure."""
    return f"{cell}, {measure.rpartition(',')[0]}"


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))
