"""Section 3.4, table 2: training labels replaced by random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vicinal.lab.data import loading
from vicinal.lab.paper import plots
from vicinal.lab.paper.cifar import scaled
from vicinal.lab.paper.study import Published, Requirements, Results, Scale
from vicinal.lab.paper.training import Cell, Measure, Run, TrainingStudy, best_error, last_error, quick
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import distributed, runs

# share, method, alpha, dropout: test error best and last, training error on the true and on the replaced labels, %
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
MEASURES = ("best test error, %", "last test error, %", "training error on true labels, %", "on replaced labels, %")


class CorruptedLabelsStudy(TrainingStudy):
    """Does mixup keep a model from learning wrong labels by heart?

    Paper: CIFAR-10 with 20, 50 and 80 % of the training labels replaced by labels drawn from all ten classes, the true
    one included; PreAct ResNet-18 as in section 3.2; ERM, dropout between the convolutions of each block, mixup with a
    large alpha, and both. Test error of the best and of the last epoch; after the last epoch the training error on the
    labels left alone and on those replaced, against the labels trained on: 90 % there means that none is learned by
    heart. Printed is the best cell of each grid; those cells are run here, not the grids. The settings of mixup +
    dropout and its training errors were recalled, not read. Training errors here are on inputs as they are, unmixed.
    """

    name = "corrupted-labels"
    section = "3.4, table 2"
    title = "Random training labels"

    def requirements(self, size: Scale) -> Requirements:
        """Say what it needs."""
        if size == "smoke":
            return Requirements("none (synthetic images)", 0.1)
        return Requirements("CIFAR-10", 45) if size == "small" else Requirements("CIFAR-10", 60 * 24 * 3, "1 GPU")

    def deviations(self, size: Scale) -> Sequence[str]:
        """Say what is smaller."""
        if size == "smoke":
            return ["Drawn images, one epoch: the figures mean nothing."]
        if size == "small":
            return [
                "5,000 of the 50,000 training images, not augmented, so that a small model can learn them by heart; "
                "5,000 of the test images; PreAct ResNet-18 with an eighth of its width, 40 epochs instead of 200, "
                "bfloat16. The alphas and dropouts are the paper's, which chose them for its own model."
            ]
        return []

    def seeds(self, size: Scale) -> int:
        """Give how often each cell is trained."""
        return 1 if size == "smoke" else 3

    def cells(self, size: Scale) -> Sequence[Cell]:
        """Give the cells of table 2."""
        listed = []
        for (share, method, alpha, dropout), numbers in PUBLISHED.items():
            vicinity = "ERM()" if alpha is None else f"Mixup(alpha={alpha})"
            recipe = Recipe(
                dataset="cifar10", model="preact-resnet-18", vicinity=vicinity, label_noise=share, dropout=dropout
            )
            if size == "smoke":
                recipe = replace(quick(recipe), model="preact-resnet-18-narrow")
            elif size == "small":
                recipe = scaled(recipe, 40, max_train_examples=5000, max_test_examples=5000, augment=False)
            both = method == "mixup + dropout"
            published = [Published(number, not (both and i > 1)) for i, number in enumerate(numbers)]
            readers = (best_error, last_error, _on_true, _on_replaced)
            measures = tuple(map(Measure, MEASURES, readers, published))
            told = [f"alpha = {alpha:g}"] if alpha is not None else []
            told += [f"dropout {dropout:g}"] if dropout else []
            against = None if method == "ERM" else f"{share:.0%} random, ERM"
            job = f"{share}-{method.lower().replace(' + ', '-')}"
            note = ", ".join(told) + (" (settings recalled)" if both else "")
            listed.append(Cell(f"{share:.0%} random, {method}", job, recipe, measures, against, note))
        return listed

    def after(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Measure the training error on the labels left alone and on those replaced."""
        device = distributed.device()
        data, _ = loading.load(recipe)
        wrong = runs.misclassified(runs.load_model(folder, len(data.classes), device), data.to(device)).double()
        replaced = loading.corrupted_mask(len(data), recipe.label_noise, recipe.seed)
        return {
            "replaced": int(replaced.sum()),
            "train_error_true": float(wrong[~replaced].mean()),
            "train_error_replaced": float(wrong[replaced].mean()),
        }

    def draw(self, size: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the test errors after the last epoch."""
        rows = [row for row in self.rows(size, done) if row.name.endswith("last test error")]
        label = "Test error after the last epoch with random training labels, beside the published numbers"
        return plots.write_beside(
            folder / "table2.svg", label, rows, "test error of the last epoch, %", ", last test error"
        )


def _on_true(run: Run) -> float:
    return 100 * run["train_error_true"]


def _on_replaced(run: Run) -> float:
    return 100 * run["train_error_replaced"]
