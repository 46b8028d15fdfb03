"""Section 3.2, figure 3: CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vicinal.lab import atomic
from vicinal.lab.paper import plots
from vicinal.lab.paper.study import Published, Results, Scale
from vicinal.lab.paper.training import (
    SMOKE,
    Cell,
    Measure,
    TrainingScale,
    TrainingStudy,
    median_error,
    narrowed,
    quick,
)
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import recipes

MODELS = {
    "preact-resnet-18": "PreAct ResNet-18",
    "wrn-28-10": "WideResNet-28-10",
    "densenet-bc-190-40": "DenseNet-BC-190",
}
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}

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
RECIPES = {
    "preact-resnet-18": (recipes.cifar10_preact18_erm, recipes.cifar10_preact18_mixup),
    "wrn-28-10": (recipes.cifar10_wrn_28_10_erm, recipes.cifar10_wrn_28_10_mixup),
    "densenet-bc-190-40": (recipes.cifar10_densenet_190_erm, recipes.cifar10_densenet_190_mixup),
}
DRAWN: dict[Scale, tuple[str, str]] = {
    "smoke": ("cifar10", "preact-resnet-18"),
    "small": ("cifar10", "preact-resnet-18"),
    "paper": ("cifar10", "densenet-bc-190-40"),  # as figure 3b
}


def small(recipe: Recipe) -> Recipe | None:
    """Return the recipe of the small scale: PreAct ResNet-18 on CIFAR-10 alone."""
    return narrowed(recipe, 20) if (recipe.dataset, recipe.model) == DRAWN["small"] else None


SCALES: Mapping[Scale, TrainingScale] = {
    "smoke": TrainingScale("none (synthetic images)", 0.1, deviations=SMOKE, recipe=quick),
    "small": TrainingScale(
        data="CIFAR-10",
        minutes=30,
        seeds=3,
        deviations=(
            "PreAct ResNet-18 with an eighth of its width (0.18 of 11.2 million parameters), 20 epochs instead of 200, "
            "bfloat16. The paper's gains grow with the model and with training: a model that still underfits is expected "
            "to gain nothing, or to lose.",
        ),
        recipe=small,
        note="an eighth of the width, 20 epochs",
        not_run="needs the paper's scale, on a GPU",
    ),
    "paper": TrainingScale("CIFAR-10 and CIFAR-100", 60 * 24 * 20, seeds=3, device="1 GPU", full=True),
}


class CifarStudy(TrainingStudy):
    """Does mixup help image models?

    Paper: PreAct ResNet-18, WideResNet-28-10 and DenseNet-BC-190 on CIFAR-10 and CIFAR-100; 200 epochs in batches of 128;
    SGD from 0.1, a tenth after epochs 100 and 150 (WRN: 60, 120, 180); weight decay 0.0001; mixup with alpha = 1, one
    lambda per batch. Not stated: momentum, augmentation, which epoch's error. Here, as in the author's code: momentum
    0.9, crops after padding by 4 and flips, and the median test error of the last ten epochs.
    """

    name = "cifar"
    section = "3.2, figure 3"
    title = "CIFAR-10 and CIFAR-100"
    scales = SCALES

    def paper_cells(self) -> Sequence[Cell]:
        """Return the cells of figure 3a."""
        return [
            cell for (dataset, model), numbers in PUBLISHED.items() for cell in self._cells(dataset, model, numbers)
        ]

    def _cells(self, dataset: str, model: str, numbers: tuple[float, float]) -> Iterator[Cell]:
        base = f"{DATASETS[dataset]}, {MODELS[model]}"
        for method, against, recipe, number in zip(
            ("ERM", "mixup"), (None, f"{base}, ERM"), RECIPES[model], numbers, strict=True
        ):
            measure = Measure("test error, %", median_error, Published(number))
            job = f"{dataset}-{model}-{method.lower()}"
            yield Cell(f"{base}, {method}", job, replace(recipe(), dataset=dataset), (measure,), against)

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw figure 3b: test error by epoch; the paper's curves next to ours at its own scale."""
        curves = [curve for cell in self.cells(scale) for curve in self._curves(scale, done, cell)]
        if not curves:
            return ()
        path = folder / "figure3b.svg"
        label = "Test error by epoch of ERM (gray) and of mixup (blue) on CIFAR-10"
        atomic.write(path, plots.lines("cifar", label, curves, "epoch", "test error, %"))
        return (path,)

    def _curves(self, scale: Scale, done: Results, cell: Cell) -> Iterator[plots.Curve]:
        runs = self.runs(scale, done, cell)
        if not runs or not cell.job.startswith("-".join(DRAWN[scale])):
            return
        method, kind = ("ERM", "erm") if cell.against is None else ("mixup", "mix")
        errors = [
            100 * statistics.fmean(values)
            for values in zip(*(run["course"]["test_error"] for run in runs), strict=True)
        ]
        yield plots.Curve(method, kind, range(1, len(errors) + 1), errors)
        if scale == "paper":
            yield plots.Curve(f"{method}, paper", kind, EPOCHS, CURVES[method], dashed=True)
