"""Section 3.4, table 2: training labels replaced by random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vicinal.lab.data import loading
from vicinal.lab.data.label_noise import chosen_rows
from vicinal.lab.paper import plots
from vicinal.lab.paper.study import Published, Results, Scale
from vicinal.lab.paper.training import (
    Cell,
    Measure,
    TrainedRun,
    TrainingScale,
    TrainingStudy,
    best_error,
    last_error,
    narrowed,
    quick,
)
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import distributed, recipes, runs

# label noise, method, alpha, dropout: test error best and last, training error on the true and on the replaced labels, %
PUBLISHED = {
    (0.2, "ERM", None, 0.0): (12.7, 16.6, 0.05, 0.28),
    (0.2, "ERM + dropout", None, 0.7): (8.8, 10.4, 5.26, 83.55),
    (0.2, "mixup", 8.0, 0.0): (5.9, 6.4, 2.27, 86.32),
    (0.2, "mixup + dropout", 4.0, 0.1): (6.2, 6.2, 1.92, 85.02),
    (0.5, "ERM", None, 0.0): (18.8, 44.6, 0.26, 0.64),
    (0.5, "ERM + dropout", None, 0.8): (14.1, 15.5, 12.71, 86.98),
    (0.5, "mixup", 32.0, 0.0): (11.3, 12.7, 5.84, 85.71),
    (0.5, "mixup + dropout", 8.0, 0.3): (10.9, 10.9, 7.56, 87.90),
    (0.8, "ERM", None, 0.0): (36.5, 73.9, 0.62, 0.83),
    (0.8, "ERM + dropout", None, 0.8): (30.9, 35.1, 29.84, 86.37),
    (0.8, "mixup", 32.0, 0.0): (25.3, 30.9, 18.92, 85.44),
    (0.8, "mixup + dropout", 8.0, 0.3): (24.0, 24.8, 19.70, 87.67),
}
RECALLED = "mixup + dropout"  # its settings and training errors were not read in the paper


def smoke(recipe: Recipe) -> Recipe | None:
    """Return the recipe of the quick run, of one model with and without dropout."""
    smaller = quick(recipe)
    return None if smaller is None else replace(smaller, model="preact-resnet-18-narrow")


def small(recipe: Recipe) -> Recipe | None:
    """Return the recipe of the small scale: a tenth of the training images, as they are."""
    return narrowed(recipe, 40, max_train_examples=5000, max_test_examples=5000, augment=False)


SCALES: Mapping[Scale, TrainingScale] = {
    "smoke": TrainingScale(
        "none (synthetic images)",
        0.1,
        deviations=("Synthetic images, one epoch: the figures mean nothing.",),
        recipe=smoke,
    ),
    "small": TrainingScale(
        data="CIFAR-10",
        minutes=45,
        seeds=3,
        deviations=(
            "5,000 of the 50,000 training images, not augmented, so that a small model can memorize them; 5,000 of the "
            "test images; PreAct ResNet-18 with an eighth of its width, 40 epochs instead of 200, bfloat16. The alphas and "
            "dropouts are the paper's, which chose them for its own model.",
        ),
        recipe=small,
    ),
    "paper": TrainingScale("CIFAR-10", 60 * 24 * 3, seeds=3, device="1 GPU", full=True),
}


class CorruptedLabelsStudy(TrainingStudy):
    """Does mixup keep a model from memorizing corrupted labels?

    Paper: CIFAR-10 with 20, 50 and 80 % of the training labels replaced by labels drawn from all ten classes, the true
    one included; PreAct ResNet-18 as in section 3.2; ERM, dropout between the convolutions of each block, mixup with a
    large alpha, and both. Test error of the best and of the last epoch; after the last epoch the training error on the
    labels left alone and on those replaced, against the labels trained on: 90 % there means that none is memorized.
    Printed is the best cell of each grid; those cells are run here, not the grids. The settings of mixup + dropout and
    its training errors were recalled, not read. Training errors here are on inputs as they are, unmixed.
    """

    name = "corrupted-labels"
    section = "3.4, table 2"
    title = "Random training labels"
    scales = SCALES

    def paper_cells(self) -> Sequence[Cell]:
        """Return the cells of table 2."""
        return [self._cell(*settings) for settings in PUBLISHED]

    def _cell(self, label_noise: float, method: str, alpha: float | None, dropout: float) -> Cell:
        vicinity = "ERM()" if alpha is None else f"Mixup(alpha={alpha})"
        recipe = replace(recipes.cifar10_preact18_erm(), vicinity=vicinity, label_noise=label_noise, dropout=dropout)
        best, last, true, replaced = PUBLISHED[label_noise, method, alpha, dropout]
        read = method != RECALLED
        measures = (
            Measure("best test error, %", best_error, Published(best)),
            Measure("last test error, %", last_error, Published(last)),
            Measure("training error on true labels, %", _on_true, Published(true, read)),
            Measure("on replaced labels, %", _on_replaced, Published(replaced, read)),
        )
        against = None if method == "ERM" else f"{label_noise:.0%} random, ERM"
        job = f"{label_noise}-{method.lower().replace(' + ', '-')}"
        return Cell(
            f"{label_noise:.0%} random, {method}", job, recipe, measures, against, _note(method, alpha, dropout)
        )

    def evaluate_run(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Measure the training error on the labels left alone and on those replaced."""
        device = distributed.device()
        data, _ = loading.load(recipe)
        wrong = runs.misclassified(runs.load_model(folder, len(data.classes), device), data.to(device)).double()
        replaced = torch.from_numpy(chosen_rows(len(data), recipe.label_noise, recipe.seed))
        return {
            "replaced": int(replaced.sum()),
            "train_error_true": float(wrong[~replaced].mean()),
            "train_error_replaced": float(wrong[replaced].mean()),
        }

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the test errors after the last epoch."""
        rows = [row for row in self.rows(scale, done) if row.name.endswith("last test error")]
        label = "Test error after the last epoch with random training labels, next to the published numbers"
        title = "test error of the last epoch, %"
        return plots.write_dot_plot(folder / "table2.svg", label, rows, title, ", last test error")


def _note(method: str, alpha: float | None, dropout: float) -> str:
    settings = [f"alpha = {alpha:g}"] if alpha is not None else []
    settings += [f"dropout {dropout:g}"] if dropout else []
    return ", ".join(settings) + (" (settings recalled)" if method == RECALLED else "")


def _on_true(run: TrainedRun) -> float:
    return 100 * run["train_error_true"]


def _on_replaced(run: TrainedRun) -> float:
    return 100 * run["train_error_replaced"]
