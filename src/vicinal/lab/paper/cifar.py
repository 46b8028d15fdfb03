"""Section 3.2, figure 3: CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vicinal.lab import atomic
from vicinal.lab.paper import plots
from vicinal.lab.paper.study import Published, Requirements, Results, Scale
from vicinal.lab.paper.training import Cell, Measure, TrainingStudy, median_error, quick
from vicinal.lab.recipe import Recipe

MODELS = {
    "preact-resnet-18": "PreAct ResNet-18",
    "wrn-28-10": "WideResNet-28-10",
    "densenet-bc-190-40": "DenseNet-BC-190",
}
SETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}

# test error, %: ERM, mixup
PUBLISHED = {
    ("cifar10", "preact-resnet-18"): (5.6, 4.2),
    ("cifar10", "wrn-28-10"): (3.8, 2.7),
    ("cifar10", "densenet-bc-190-40"): (3.7, 2.7),
    ("cifar100", "preact-resnet-18"): (25.6, 21.1),
    ("cifar100", "wrn-28-10"): (19.4, 17.5),
    ("cifar100", "densenet-bc-190-40"): (19.0, 16.8),
}

# figure 3b, digitized: DenseNet-190 on CIFAR-10
EPOCHS = (20, 30, 40, 50, 60, 70, 80, 90, 100, 105, 110, 120, 140, 155, 160, 180, 199)
CURVES = {
    "ERM": (10.9, 10.6, 9.2, 8.9, 8.7, 8.3, 8.6, 7.5, 7.4, 4.4, 4.0, 3.9, 3.8, 3.8, 3.8, 3.8, 3.80),
    "mixup": (13.3, 9.3, 8.5, 7.9, 7.4, 6.7, 6.5, 6.8, 6.7, 3.8, 3.4, 3.4, 3.4, 3.0, 2.9, 2.9, 2.72),
}
VICINITIES = {"ERM": "ERM()", "mixup": "Mixup(alpha=1.0)"}
SMALL = "cifar10", "preact-resnet-18"  # the one that is run at the small size


def scaled(recipe: Recipe, epochs: int, **changes: object) -> Recipe:
    """Give a recipe of CIFAR for a CPU: the narrow model, bfloat16, and the schedule in so many epochs."""
    drops = tuple(round(epochs * drop / recipe.epochs) for drop in recipe.milestones)
    values = {"model": "preact-resnet-18-narrow", "precision": "bfloat16", "epochs": epochs, "milestones": drops}
    return replace(recipe, **(values | changes))


class CifarStudy(TrainingStudy):
    """Does mixup help image models?

    Paper: PreAct ResNet-18, WideResNet-28-10 and DenseNet-BC-190 on CIFAR-10 and CIFAR-100; 200 epochs in batches of 128;
    SGD from 0.1, a tenth after epochs 100 and 150 (WRN: 60, 120, 180); weight decay 0.0001; mixup with alpha = 1, one
    lambda a batch. Not stated: momentum, augmentation, which epoch's error. Here, as in the author's code: momentum 0.9,
    crops after padding by 4 and flips, and the median test error of the last ten epochs.
    """

    name = "cifar"
    section = "3.2, figure 3"
    title = "CIFAR-10 and CIFAR-100"

    def requirements(self, size: Scale) -> Requirements:
        """Say what it needs."""
        if size == "smoke":
            return Requirements("none (synthetic images)", 0.1)
        if size == "small":
            return Requirements("CIFAR-10", 30)
        return Requirements("CIFAR-10 and CIFAR-100", 60 * 24 * 20, "1 GPU")

    def deviations(self, size: Scale) -> Sequence[str]:
        """Say what is smaller."""
        if size == "smoke":
            return ["Drawn images, a small model, one epoch: the figures mean nothing."]
        if size == "small":
            return [
                "PreAct ResNet-18 with an eighth of its width (0.18 of 11.2 million parameters), 20 epochs instead of 200, "
                "bfloat16. The paper's gains grow with the model and with training: a model that still underfits is "
                "expected to gain nothing, or to lose."
            ]
        return []

    def seeds(self, size: Scale) -> int:
        """Give how often each cell is trained."""
        return 1 if size == "smoke" else 3

    def cells(self, size: Scale) -> Sequence[Cell]:
        """Give the cells of figure 3a."""
        listed = []
        for (data, model), numbers in PUBLISHED.items():
            for (method, vicinity), number in zip(VICINITIES.items(), numbers, strict=True):
                drops = (60, 120, 180) if model.startswith("wrn") else (100, 150)
                recipe: Recipe | None = Recipe(dataset=data, model=model, vicinity=vicinity, milestones=drops)
                note = ""
                if size == "smoke":
                    recipe = quick(recipe)
                elif size == "small" and (data, model) == SMALL:
                    recipe, note = scaled(recipe, 20), "an eighth of the width, 20 epochs"
                elif size == "small":
                    recipe, note = None, "needs the paper's size, on a GPU"
                base = f"{SETS[data]}, {MODELS[model]}"
                measure = Measure("test error, %", median_error, Published(number))
                against = None if method == "ERM" else f"{base}, ERM"
                job = f"{data}-{model}-{method.lower()}"
                listed.append(Cell(f"{base}, {method}", job, recipe, (measure,), against, note))
        return listed

    def draw(self, size: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw figure 3b: test error by epoch; the paper's curves beside ours at its own size."""
        data, model = ("cifar10", "densenet-bc-190-40") if size == "paper" else SMALL
        curves = []
        for cell in self.cells(size):
            runs = self.runs(size, done, cell)
            if not cell.job.startswith(f"{data}-{model}-") or not runs:
                continue
            method = "ERM" if cell.against is None else "mixup"
            course = [
                100 * statistics.fmean(values)
                for values in zip(*(run["course"]["test_error"] for run in runs), strict=True)
            ]
            kind = "erm" if method == "ERM" else "mix"
            curves.append(plots.Line(method, kind, range(1, len(course) + 1), course))
            if size == "paper":
                curves.append(plots.Line(f"{method}, paper", kind, EPOCHS, CURVES[method], dashed=True))
        if not curves:
            return ()
        path = folder / "figure3b.svg"
        label = "Test error by epoch of ERM (gray) and of mixup (blue) on CIFAR-10"
        atomic.write(path, plots.lines("cifar", label, curves, "epoch", "test error, %"))
        return (path,)
