"""Section 3.8, table 5: which part of mixup does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

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

NEIGHBORS = 200  # of 50,000
DECAYS = {1e-4: "1e-4", 5e-4: "5e-4"}


@dataclass(frozen=True)
class AblationRow:
    """A line of table 5: the test errors, %, with the two weight decays; `confirmed` if from the authors' own code."""

    name: str
    published: tuple[float, float]
    vicinity: str
    mix_at: str = ""
    knn_scope: Literal["", "all", "class"] = ""
    confirmed: bool = False

    def recipe(self, weight_decay: float) -> Recipe:
        """Return the recipe of the paper."""
        return replace(
            recipes.cifar10_preact18_erm(),
            vicinity=self.vicinity,
            weight_decay=weight_decay,
            mix_at=self.mix_at,
            knn=NEIGHBORS if self.knn_scope else 0,
            knn_scope=self.knn_scope or "all",
        )


def small(recipe: Recipe) -> Recipe | None:
    """Return the recipe of the small scale: a twentieth of the training images, and of the neighbors."""
    smaller = narrowed(recipe, 20, max_train_examples=2500, max_test_examples=2500)
    return replace(smaller, knn=min(10, recipe.knn))


SCALES: Mapping[Scale, TrainingScale] = {
    "smoke": TrainingScale("none (synthetic images)", 0.1, deviations=SMOKE, recipe=quick),
    "small": TrainingScale(
        data="CIFAR-10",
        minutes=45,
        seeds=3,
        deviations=(
            "2,500 of the 50,000 training images (10 neighbors instead of 200, the same share) and 2,500 of the test "
            "images; PreAct ResNet-18 with an eighth of its width, 20 epochs instead of 200, bfloat16.",
        ),
        recipe=small,
    ),
    "paper": TrainingScale("CIFAR-10", 60 * 24 * 10, seeds=3, device="1 GPU", full=True),
}

_MIXUP = "Mixup(alpha=1.0)"
_INPUTS = "InputMixup(alpha=1.0)"

TABLE = (
    AblationRow("ERM", (5.53, 5.18), "ERM()", confirmed=True),
    AblationRow("mixup (AC + RP)", (4.24, 4.68), _MIXUP, confirmed=True),
    AblationRow("mixup, AC + KNN", (4.98, 5.26), _MIXUP, knn_scope="all"),
    AblationRow("mix labels and latent, layer 1", (4.44, 4.51), _MIXUP, mix_at="layer1"),
    AblationRow("mix labels and latent, layer 2", (4.56, 4.61), _MIXUP, mix_at="layer2"),
    AblationRow("mix labels and latent, layer 3", (5.39, 5.55), _MIXUP, mix_at="layer3"),
    AblationRow("mix labels and latent, layer 4", (5.95, 5.43), _MIXUP, mix_at="layer4"),
    AblationRow("mix labels and latent, layer 5", (5.39, 5.15), _MIXUP, mix_at="linear"),
    AblationRow("mix inputs only, SC + KNN (SMOTE)", (5.45, 5.52), _INPUTS, knn_scope="class"),
    AblationRow("mix inputs only, AC + KNN", (5.43, 5.48), _INPUTS, knn_scope="all"),
    AblationRow("mix inputs only, SC + RP", (5.23, 5.55), "InputMixup(alpha=1.0, pairing=SameClass())"),
    AblationRow("mix inputs only, AC + RP", (5.17, 5.72), _INPUTS),
    AblationRow("label smoothing 0.05", (5.25, 5.02), "LabelSmoothing(eps=0.05)"),
    AblationRow("label smoothing 0.1", (5.33, 5.17), "LabelSmoothing(eps=0.1)"),
    AblationRow("label smoothing 0.2", (5.34, 5.06), "LabelSmoothing(eps=0.2)"),
    AblationRow("mix inputs + label smoothing 0.05", (5.02, 5.40), f"Chain([{_INPUTS}, LabelSmoothing(eps=0.05)])"),
    AblationRow("mix inputs + label smoothing 0.1", (5.08, 5.09), f"Chain([{_INPUTS}, LabelSmoothing(eps=0.1)])"),
    AblationRow("mix inputs + label smoothing 0.2", (4.98, 5.06), f"Chain([{_INPUTS}, LabelSmoothing(eps=0.2)])"),
    AblationRow("mix inputs + label smoothing 0.4", (5.25, 5.39), f"Chain([{_INPUTS}, LabelSmoothing(eps=0.4)])"),
    AblationRow("Gaussian noise 0.05", (5.53, 5.04), "GaussianNoise(sigma=0.05)"),
    AblationRow("Gaussian noise 0.1", (6.41, 5.86), "GaussianNoise(sigma=0.1)"),
    AblationRow("Gaussian noise 0.2", (7.16, 7.24), "GaussianNoise(sigma=0.2)"),
)


class AblationStudy(TrainingStudy):
    """Which part of mixup does it: the inputs, the labels, the pairs, or where they are mixed?

    Paper: PreAct ResNet-18 on CIFAR-10 as in section 3.2, with a weight decay of 0.0001 and of 0.0005; median test error
    of the last ten epochs. AC pairs any classes, SC the same; RP pairs at random, KNN with one of the 200 nearest
    training examples. Latent: the representations before one of the four stages (layers 1 to 4), or before the average
    pooling (5). Inputs only: the label is that of the nearer example. Only ERM's and mixup's numbers were confirmed; the
    others were recalled.

    Here every line is a composition of the library's vicinities. Neighbors are those of the normalized images, not
    augmented, by Euclidean distance; the noise has its standard deviation in normalized units.
    """

    name = "ablation"
    section = "3.8, table 5"
    title = "Ablation"
    scales = SCALES

    def paper_cells(self) -> Sequence[Cell]:
        """Return the cells of table 5: both weight decays of each line."""
        return [
            self._cell(f"{i:02d}", row, decay, published)
            for i, row in enumerate(TABLE)
            for decay, published in zip(DECAYS, row.published, strict=True)
        ]

    def _cell(self, number: str, row: AblationRow, decay: float, published: float) -> Cell:
        measure = Measure("median test error, %", median_error, Published(published, row.confirmed))
        decayed = f"weight decay {DECAYS[decay]}"
        against = None if row.name == "ERM" else f"ERM, {decayed}"
        job = f"{number}-decay{DECAYS[decay]}"
        return Cell(f"{row.name}, {decayed}", job, row.recipe(decay), (measure,), against)

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw table 5, one figure per weight decay."""
        return [path for decay in DECAYS for path in self._draw(scale, done, folder, decay)]

    def _draw(self, scale: Scale, done: Results, folder: Path, decay: float) -> Sequence[Path]:
        ending = f", weight decay {DECAYS[decay]}, median test error"
        rows = [row for row in self.rows(scale, done) if row.name.endswith(ending)]
        path = folder / f"table5-decay{DECAYS[decay]}.svg"
        label = f"Median test error of each line of table 5 with weight decay {decay}, next to the published numbers"
        title = f"test error, %, weight decay {DECAYS[decay]}"
        return plots.write_dot_plot(path, label, rows, title, ending, _color)


def _color(name: str) -> str:
    return "erm" if name.startswith("ERM") else "mix" if name.startswith("mix") else "other"
