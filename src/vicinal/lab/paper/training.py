"""Studies that train models by recipes: cells of a table, each trained with every seed.

A study lists its cells with the paper's recipes; the scale turns these into what is run.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

from vicinal.lab.paper.store import digest
from vicinal.lab.paper.study import AtScale, Job, Published, Results, Row, Scale, Study
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import distributed, loop

TrainedRun = Mapping[str, Any]  # what a job returned: see `train`
SMOKE = ("Synthetic data, a small model, one epoch: the figures mean nothing.",)


@dataclass(frozen=True)
class Measure:
    """What is read off a run, with its unit and the paper's number."""

    name: str
    of: Callable[[TrainedRun], float]
    published: Published | None = None


@dataclass(frozen=True)
class Cell:
    """One method on one model and dataset: one row of the table for each measure.

    Args:
        name: of its rows, unique within the study.
        job: of its jobs' names: letters, digits, dots and hyphens, unique within the study.
        recipe: how it is trained; the seed is filled in. None: it is not run at this scale.
        measures: what is measured.
        against: the name of the cell that the paper compares it with.
        note: what a reader must know, as why it is not run.

    """

    name: str
    job: str
    recipe: Recipe | None
    measures: tuple[Measure, ...]
    against: str | None = None
    note: str = ""


def as_in_the_paper(recipe: Recipe) -> Recipe | None:
    """Return the recipe itself."""
    return recipe


def quick(recipe: Recipe) -> Recipe | None:
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
    narrow = replace(
        recipe, model="preact-resnet-18-narrow", precision="bfloat16", epochs=epochs, milestones=milestones
    )
    return replace(narrow, **changes)


@dataclass(frozen=True)
class TrainingScale(AtScale):
    """A scale of a study that trains.

    Args:
        recipe: turns a recipe of the paper into that of this scale, or None if it is not run.
        note: on the cells that are run; {epochs} is filled in.
        not_run: a note on the others.

    """

    recipe: Callable[[Recipe], Recipe | None] = as_in_the_paper
    note: str = ""
    not_run: str = ""

    def cell(self, cell: Cell) -> Cell:
        """Return a cell of the paper at this scale."""
        recipe = None if cell.recipe is None else self.recipe(cell.recipe)
        note = self.not_run if recipe is None else self.note.format(epochs=recipe.epochs)
        return replace(cell, recipe=recipe, note=_joined(cell.note, note))


class TrainingStudy(Study):
    """A study whose jobs are training runs."""

    scales: ClassVar[Mapping[Scale, TrainingScale]]  # pyright: ignore[reportIncompatibleVariableOverride]  # read only

    @abstractmethod
    def paper_cells(self) -> Sequence[Cell]:
        """Return the table's cells, with the paper's recipes."""

    def evaluate_run(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Return what else is measured of a finished run."""
        return {}

    def cells(self, scale: Scale) -> Sequence[Cell]:
        """Return the cells at a scale, those that are not run included."""
        return [self.scales[scale].cell(cell) for cell in self.paper_cells()]

    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Train every cell with the first seed, then with the next."""
        cells = [(cell.job, cell.recipe) for cell in self.cells(scale) if cell.recipe is not None]
        return [
            self._job(name, replace(recipe, seed=seed))
            for seed in range(self.scales[scale].seeds)
            for name, recipe in cells
        ]

    def _job(self, name: str, recipe: Recipe) -> Job:
        return Job(f"{name}-seed{recipe.seed}", partial(train, recipe, self.evaluate_run), digest(asdict(recipe)))

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return one row per cell and measure."""
        return [row for cell in self.cells(scale) for row in self._rows(scale, done, cell)]

    def _rows(self, scale: Scale, done: Results, cell: Cell) -> list[Row]:
        runs, seeds = self.runs(scale, done, cell), self.scales[scale].seeds
        partly = f"{len(runs)} of {seeds} seeds are run" if cell.recipe is not None and 0 < len(runs) < seeds else ""
        return [
            Row(
                row_name(cell.name, measure.name),
                measure.name,
                measure.published,
                tuple(measure.of(run) for run in runs),
                None if cell.against is None else row_name(cell.against, measure.name),
                _joined(cell.note, partly),
            )
            for measure in cell.measures
        ]

    def runs(self, scale: Scale, done: Results, cell: Cell) -> list[TrainedRun]:
        """Return the finished runs of a cell, from the first seed on: those of two cells pair by their places."""
        names = (f"{cell.job}-seed{seed}" for seed in range(self.scales[scale].seeds))
        return [done[name] for name in takewhile(done.__contains__, names)]


def row_name(cell: str, measure: str) -> str:
    """Return the name of the row of a cell's measure."""
    return f"{cell}, {measure.removesuffix(', %')}"


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def train(recipe: Recipe, evaluate_run: Callable[[Recipe, Path], dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Train by a recipe in a folder, or resume there.

    Returns:
        The recipe; test errors (fractions) of the last epoch, of the best, and the median of the last ten; the curves
        over the epochs; and what `evaluate_run` measured.

    """
    with distributed.job() as job:
        results = loop.train(recipe, folder, job)
    epochs = results.epochs
    curves = ("test_error", "test_top5_error", "train_mixed_loss")
    return {
        "recipe": results.recipe,
        "test_error": results.test_error,
        "course": {name: [line[name] for line in epochs] for name in curves if name in epochs[0]},
        "device": results.device,
        **evaluate_run(recipe, folder),
    }


def last_error(run: TrainedRun) -> float:
    """Return the test error of the last epoch, %."""
    return 100 * run["test_error"]["last"]


def best_error(run: TrainedRun) -> float:
    """Return the least test error of any epoch, %."""
    return 100 * run["test_error"]["best"]


def median_error(run: TrainedRun) -> float:
    """Return the median test error of the last ten epochs, %."""
    return 100 * run["test_error"]["median_of_last_10"]


def last_top5_error(run: TrainedRun) -> float:
    """Return the top-5 test error of the last epoch, %."""
    return 100 * run["course"]["test_top5_error"][-1]
