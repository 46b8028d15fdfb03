"""Studies that train models by recipes: cells of a table, each trained with every seed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from vicinal.lab.paper.study import Job, Published, Results, Row, Scale, Study
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import distributed, loop

Run = Mapping[str, Any]  # what a job gave: see `train`


@dataclass(frozen=True)
class Measure:
    """What is read off a run, with its unit and the paper's number."""

    name: str
    of: Callable[[Run], float]
    published: Published | None = None


@dataclass(frozen=True)
class Cell:
    """One method on one model and dataset: one row of the table for each measure.

    Args:
        name: of its rows, unique within the study.
        job: of its jobs' names: letters, digits, dots and hyphens, unique within the study.
        recipe: how it is trained; the seed is filled in. None: it is not run at this size.
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


class TrainingStudy(Study):
    """A study whose jobs are training runs."""

    @abstractmethod
    def cells(self, size: Scale) -> Sequence[Cell]:
        """Give the table's cells, those that are not run included."""

    @abstractmethod
    def seeds(self, size: Scale) -> int:
        """Give how often each cell is trained."""

    def after(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Give what else is measured of a finished run."""
        return {}

    def jobs(self, size: Scale) -> Sequence[Job]:
        """Train every cell with the first seed, then with the next."""
        return [
            Job(f"{cell.job}-seed{seed}", partial(train, replace(cell.recipe, seed=seed), self.after),
                replace(cell.recipe, seed=seed).fingerprint())
            for seed in range(self.seeds(size))
            for cell in self.cells(size)
            if cell.recipe is not None
        ]  # fmt: skip

    def rows(self, size: Scale, done: Results) -> Sequence[Row]:
        """Give a row for each cell and measure."""
        listed = []
        for cell in self.cells(size):
            runs = self.runs(size, done, cell)
            note = cell.note
            if cell.recipe is not None and 0 < len(runs) < self.seeds(size):
                note = "; ".join(filter(None, (note, f"{len(runs)} of {self.seeds(size)} seeds are run")))
            for measure in cell.measures:
                values = tuple(measure.of(run) for run in runs)
                against = None if cell.against is None else row_name(cell.against, measure.name)
                listed.append(
                    Row(row_name(cell.name, measure.name), measure.name, measure.published, values, against, note)
                )
        return listed

    def runs(self, size: Scale, done: Results, cell: Cell) -> list[dict[str, Any]]:
        """Give the finished runs of a cell, seed after seed from the first: those of two cells pair by their places."""
        names = (f"{cell.job}-seed{seed}" for seed in range(self.seeds(size)))
        return [done[name] for name in takewhile(done.__contains__, names)]


def row_name(cell: str, measure: str) -> str:
    """Name the row of a cell's measure."""
    return f"{cell}, {measure.removesuffix(', %')}"


def train(recipe: Recipe, after: Callable[[Recipe, Path], dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Train by a recipe in a folder, or go on there.

    Returns:
        The recipe; test errors (fractions) of the last epoch, of the best, and the median of the last ten; the course
        over the epochs; and what `after` measured.

    """
    with distributed.job() as job:
        results = loop.train(recipe, folder, job)
    epochs = results["epochs"]
    course = {
        name: [line[name] for line in epochs]
        for name in ("test_error", "test_top5_error", "train_mixed_loss")
        if name in epochs[0]
    }
    return {
        "recipe": results["recipe"],
        "test_error": results["test_error"],
        "course": course,
        "device": results["device"],
        **after(recipe, folder),
    }


def last_error(run: Run) -> float:
    """Give the test error of the last epoch, %."""
    return 100 * run["test_error"]["last"]


def best_error(run: Run) -> float:
    """Give the least test error of any epoch, %."""
    return 100 * run["test_error"]["best"]


def median_error(run: Run) -> float:
    """Give the median test error of the last ten epochs, %."""
    return 100 * run["test_error"]["median_of_last_10"]


def last_top5_error(run: Run) -> float:
    """Give the test error of the last epoch among five answers, %."""
    return 100 * run["course"]["test_top5_error"][-1]


def quick(recipe: Recipe) -> Recipe:
    """Give the recipe of the quick run: synthetic images, few of them, a small model, one step."""
    return replace(
        recipe,
        dataset="synthetic-images",
        model="small" if not recipe.dropout else "preact-resnet-18-narrow",
        epochs=1,
        batch_size=60,
        learning_rate=0.05,
        warmup_epochs=0,
        max_train_examples=60,  # of 120: some of each class
        max_test_examples=20,
        knn=min(recipe.knn, 2),
        channels_last=False,
    )
