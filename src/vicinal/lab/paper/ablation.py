"""Section 3.8, table 5: which part of mixup does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vicinal.lab.paper import plots
from vicinal.lab.paper.cifar import scaled
from vicinal.lab.paper.study import Published, Requirements, Results, Scale
from vicinal.lab.paper.training import Cell, Measure, TrainingStudy, median_error, quick
from vicinal.lab.recipe import Recipe

NEIGHBORS = 200  # of 50,000
DECAYS = (1e-4, 5e-4)


@dataclass(frozen=True)
class Method:
    """A line of table 5: the test errors, %, with the two weight decays; `confirmed` if from the authors' own code."""

    name: str
    published: tuple[float, float]
    vicinity: str
    latent: str = ""
    neighbors_of: str = ""
    confirmed: bool = False


_LATENT = "Mixup(alpha=1.0)"
_INPUTS = "InputMixup(alpha=1.0)"

METHODS = (
    Method("ERM", (5.53, 5.18), "ERM()", confirmed=True),
    Method("mixup (AC + RP)", (4.24, 4.68), "Mixup(alpha=1.0)", confirmed=True),
    Method("mixup, AC + KNN", (4.98, 5.26), "Mixup(alpha=1.0)", neighbors_of="all"),
    Method("mix labels and latent, layer 1", (4.44, 4.51), _LATENT, latent="layer1"),
    Method("mix labels and latent, layer 2", (4.56, 4.61), _LATENT, latent="layer2"),
    Method("mix labels and latent, layer 3", (5.39, 5.55), _LATENT, latent="layer3"),
    Method("mix labels and latent, layer 4", (5.95, 5.43), _LATENT, latent="layer4"),
    Method("mix labels and latent, layer 5", (5.39, 5.15), _LATENT, latent="linear"),
    Method("mix inputs only, SC + KNN (SMOTE)", (5.45, 5.52), _INPUTS, neighbors_of="class"),
    Method("mix inputs only, AC + KNN", (5.43, 5.48), _INPUTS, neighbors_of="all"),
    Method("mix inputs only, SC + RP", (5.23, 5.55), "InputMixup(alpha=1.0, pairing=SameClass())"),
    Method("mix inputs only, AC + RP", (5.17, 5.72), _INPUTS),
    Method("label smoothing 0.05", (5.25, 5.02), "LabelSmoothing(eps=0.05)"),
    Method("label smoothing 0.1", (5.33, 5.17), "LabelSmoothing(eps=0.1)"),
    Method("label smoothing 0.2", (5.34, 5.06), "LabelSmoothing(eps=0.2)"),
    Method("mix inputs + label smoothing 0.05", (5.02, 5.40), f"Chain([{_INPUTS}, LabelSmoothing(eps=0.05)])"),
    Method("mix inputs + label smoothing 0.1", (5.08, 5.09), f"Chain([{_INPUTS}, LabelSmoothing(eps=0.1)])"),
    Method("mix inputs + label smoothing 0.2", (4.98, 5.06), f"Chain([{_INPUTS}, LabelSmoothing(eps=0.2)])"),
    Method("mix inputs + label smoothing 0.4", (5.25, 5.39), f"Chain([{_INPUTS}, LabelSmoothing(eps=0.4)])"),
    Method("Gaussian noise 0.05", (5.53, 5.04), "GaussianNoise(sigma=0.05)"),
    Method("Gaussian noise 0.1", (6.41, 5.86), "GaussianNoise(sigma=0.1)"),
    Method("Gaussian noise 0.2", (7.16, 7.24), "GaussianNoise(sigma=0.2)"),
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

    def requirements(self, size: Scale) -> Requirements:
        """Say what it needs."""
        if size == "smoke":
            return Requirements("none (synthetic images)", 0.1)
        return Requirements("CIFAR-10", 45) if size == "small" else Requirements("CIFAR-10", 60 * 24 * 10, "1 GPU")

    def deviations(self, size: Scale) -> Sequence[str]:
        """Say what is smaller."""
        if size == "smoke":
            return ["Drawn images, a small model, one epoch: the figures mean nothing."]
        if size == "small":
            return [
                "2,500 of the 50,000 training images (10 neighbors instead of 200, the same share) and 2,500 of the test "
                "images; PreAct ResNet-18 with an eighth of its width, 20 epochs instead of 200, bfloat16."
            ]
        return []

    def seeds(self, size: Scale) -> int:
        """Give how often each cell is trained."""
        return 1 if size == "smoke" else 3

    def cells(self, size: Scale) -> Sequence[Cell]:
        """Give the cells of table 5: both weight decays of each method."""
        listed = []
        for i, method in enumerate(METHODS):
            for decay, number in zip(DECAYS, method.published, strict=True):
                recipe = Recipe(
                    dataset="cifar10",
                    model="preact-resnet-18",
                    vicinity=method.vicinity,
                    weight_decay=decay,
                    mix_at=method.latent,
                    knn=NEIGHBORS if method.neighbors_of else 0,
                    knn_scope="class" if method.neighbors_of == "class" else "all",
                )
                if size == "smoke":
                    recipe = quick(recipe)
                elif size == "small":
                    recipe = scaled(recipe, 20, max_train_examples=2500, max_test_examples=2500)
                    recipe = replace(recipe, knn=min(10, recipe.knn))
                written = f"weight decay {1e4 * decay:g}e-4"
                measure = Measure("median test error, %", median_error, Published(number, method.confirmed))
                against = None if method.name == "ERM" else f"ERM, {written}"
                job = f"{i:02d}-decay{1e4 * decay:g}e-4"
                listed.append(Cell(f"{method.name}, {written}", job, recipe, (measure,), against))
        return listed

    def draw(self, size: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw table 5, an image for each weight decay."""
        paths: list[Path] = []
        for decay in DECAYS:
            ending = f", weight decay {1e4 * decay:g}e-4, median test error"
            rows = [row for row in self.rows(size, done) if row.name.endswith(ending)]
            path = folder / f"table5-decay{1e4 * decay:g}e-4.svg"
            label = f"Median test error of each line of table 5 with weight decay {decay}, beside the published numbers"
            written = f"test error, %, weight decay {1e4 * decay:g}e-4"
            paths += plots.write_beside(path, label, rows, written, ending, _kind)
        return paths


def _kind(name: str) -> str:
    return "erm" if name.startswith("ERM") else "mix" if name.startswith("mix") else "other"
