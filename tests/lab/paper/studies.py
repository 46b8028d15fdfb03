"""Helpers for the tests of studies: one that counts its jobs, recipes of the quick run, runs without training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import vicinal as v
from vicinal.lab import models
from vicinal.lab.paper import reproduce, training
from vicinal.lab.paper.store import JobFolder
from vicinal.lab.paper.study import AtScale, Job, Results, Row, Scale, Study
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import loop, runs
from vicinal.lab.training.distributed import Processes

ALONE = Processes(0, 1, torch.device("cpu"))
SmokeRun = tuple[JobFolder, list[Row]]  # of a study: its folder and its table


class Counting(Study):
    """Paper: nothing. Counts how often its jobs run."""

    name, section, title = "counting", "0", "Counting"
    scales: Mapping[Scale, AtScale] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "smoke": AtScale("none", 0.01),
        "small": AtScale("none", 0.01),
        "paper": AtScale("none", 0.01, full=True),
    }

    def __init__(self, stop_at: int | None = None, decided_by: str = "") -> None:
        self.calls: list[int] = []
        self.stop_at, self.decided_by = stop_at, decided_by

    def jobs(self, scale: Scale) -> Sequence[Job]:
        return [Job(f"job{i}", partial(self._run, i), self.decided_by) for i in range(4)]

    def _run(self, i: int, folder: Path) -> dict[str, Any]:
        assert folder.is_dir()
        if i == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append(i)
        return {"value": i / 3, "nothing": math.nan}

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        return [Row("row", "value", None, tuple(done[f"job{i}"]["value"] for i in range(4) if f"job{i}" in done))]


def quiet(_: str) -> None:
    pass


def never(*given: Any) -> Any:
    raise AssertionError("it was called")


def run(root: Path, study: Study) -> Any:
    return reproduce.run(JobFolder(root, study, "smoke"), "command", 1, quiet)


def quick_recipe(**changes: Any) -> Recipe:
    recipe = training.quick(Recipe(dataset="cifar10", model="small", vicinity="Mixup(alpha=1.0)"))
    return replace(recipe, **({"batch_size": 16, "max_train_examples": 32} | changes))


def untrained(folder: Path, **changes: Any) -> Path:
    """Make a finished run's folder without training."""
    recipe = quick_recipe(**changes)
    with loop.fork_rng(v.Key(recipe.seed, 0, 0, 0, 1)):
        model = models.build(recipe.model, 10)
    folder.mkdir()
    runs.write_recipe(folder, recipe)
    line = {"epoch": 1, "step": 1, "learning_rate": 0.1, "train_mixed_loss": 1.0, "train_mixed_accuracy": 0.5}
    line |= {"examples_per_second": None, "test_error": 0.5, "test_nll": 1.0}
    lines = [line | {"epoch": i + 1, "step": i + 1} for i in range(recipe.epochs)]
    runs.write_results(folder, recipe, model, lines, [runs.Stretch(0, 1, torch.__version__)], "cpu")
    return folder
