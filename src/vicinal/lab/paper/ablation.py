"""Section 3.8, table 5: which part of mixup does it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vicinal.lab.paper import plots
from vicinal.lab.paper.claims import Claim, Evidence, Expected
from vicinal.lab.paper.study import Published, Results, Scale
from vicinal.lab.paper.training import FEW, SMOKE, Cell, TrainingScale, TrainingStudy, few
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import recipes

NEIGHBORS = 200  # of 50,000
DECAYS = {1e-4: "1e-4", 5e-4: "5e-4"}


def _line(vicinity: str, **changes: Any) -> Recipe:
    return replace(recipes.cifar10_preact18_erm(), vicinity=vicinity, **changes)


SMALL_DECAY = 1e-4  # the paper's, of all its other runs

SCALES: Mapping[Scale, TrainingScale] = {
    "smoke": SMOKE,
    "small": TrainingScale(
        data="CIFAR-10",
        minutes=55,
        seeds=3,
        deviations=(
            f"{FEW}. Of neighbors there are 8 instead of 200, the same share. Weight decay 0.0001 alone, and of the lines "
            "those that a claim rests on.",
        ),
        recipe=few,
        not_run="not run at this scale",
    ),
    "paper": TrainingScale("CIFAR-10", 60 * 24 * 10, seeds=3, device="1 GPU", full=True),
}

_MIXUP = "Mixup(alpha=1.0)"
_INPUTS = "InputMixup(alpha=1.0)"

# test errors, %, with the two weight decays, and the recipe but for these
TABLE: dict[str, tuple[float, float, Recipe]] = {
    "ERM": (5.53, 5.18, _line("ERM()")),
    "mixup (AC + RP)": (4.24, 4.68, _line(_MIXUP)),
    "mixup, AC + KNN": (4.98, 5.26, _line(_MIXUP, knn=NEIGHBORS)),
    "mix labels and latent, layer 1": (4.44, 4.51, _line(_MIXUP, mix_at="layer1")),
    "mix labels and latent, layer 2": (4.56, 4.61, _line(_MIXUP, mix_at="layer2")),
    "mix labels and latent, layer 3": (5.39, 5.55, _line(_MIXUP, mix_at="layer3")),
    "mix labels and latent, layer 4": (5.95, 5.43, _line(_MIXUP, mix_at="layer4")),
    "mix labels and latent, layer 5": (5.39, 5.15, _line(_MIXUP, mix_at="linear")),
    "mix inputs only, SC + KNN (SMOTE)": (5.45, 5.52, _line(_INPUTS, knn=NEIGHBORS, knn_scope="class")),
    "mix inputs only, AC + KNN": (5.43, 5.48, _line(_INPUTS, knn=NEIGHBORS)),
    "mix inputs only, SC + RP": (5.23, 5.55, _line("InputMixup(alpha=1.0, pairing=SameClass())")),
    "mix inputs only, AC + RP": (5.17, 5.72, _line(_INPUTS)),
    "label smoothing 0.05": (5.25, 5.02, _line("LabelSmoothing(eps=0.05)")),
    "label smoothing 0.1": (5.33, 5.17, _line("LabelSmoothing(eps=0.1)")),
    "label smoothing 0.2": (5.34, 5.06, _line("LabelSmoothing(eps=0.2)")),
    "mix inputs + label smoothing 0.05": (5.02, 5.40, _line(f"Chain([{_INPUTS}, LabelSmoothing(eps=0.05)])")),
    "mix inputs + label smoothing 0.1": (5.08, 5.09, _line(f"Chain([{_INPUTS}, LabelSmoothing(eps=0.1)])")),
    "mix inputs + label smoothing 0.2": (4.98, 5.06, _line(f"Chain([{_INPUTS}, LabelSmoothing(eps=0.2)])")),
    "mix inputs + label smoothing 0.4": (5.25, 5.39, _line(f"Chain([{_INPUTS}, LabelSmoothing(eps=0.4)])")),
    "Gaussian noise 0.05": (5.53, 5.04, _line("GaussianNoise(sigma=0.05)")),
    "Gaussian noise 0.1": (6.41, 5.86, _line("GaussianNoise(sigma=0.1)")),
    "Gaussian noise 0.2": (7.16, 7.24, _line("GaussianNoise(sigma=0.2)")),
}
MIXUP = "mixup (AC + RP)"
THREE = "mixup of three"  # not in the table: of a sentence in section 2 that has no numbers
LAYERS = tuple(f"mix labels and latent, layer {i}" for i in (3, 4, 5))
SMOOTHING = tuple(f"label smoothing {eps}" for eps in (0.05, 0.1, 0.2))
NOISE = tuple(f"Gaussian noise {sigma}" for sigma in (0.05, 0.1, 0.2))
NEAR, INPUTS_ONLY, SMOTE = "mixup, AC + KNN", "mix inputs only, AC + RP", "mix inputs only, SC + KNN (SMOTE)"
CLAIMED = {"ERM", MIXUP, THREE, NEAR, INPUTS_ONLY, SMOTE, *LAYERS, *SMOOTHING, *NOISE}  # what a claim rests on
THREE_LINE = _line("Mixup(alpha=Dirichlet(alpha=1.0, k=3))")
SMALL = f", weight decay {DECAYS[SMALL_DECAY]}"
LIMITS = "a model of an eighth of the width on 2,000 images, which ERM fits; weight decay 0.0001"
CONFIRMED = ("ERM", MIXUP)  # by the authors' own code


class AblationStudy(TrainingStudy):
    """Which part of mixup does it: the inputs, the labels, the pairs, or where they are mixed?

    Paper: PreAct ResNet-18 on CIFAR-10 as in section 3.2, with a weight decay of 0.0001 and of 0.0005; median test error
    of the last ten epochs. AC pairs any classes, SC the same; RP pairs at random, KNN with one of the 200 nearest
    training examples. Latent: the representations before one of the four stages (layers 1 to 4), or before the average
    pooling (5). Inputs only: the label is that of the nearer example. Only ERM's and mixup's numbers were confirmed; the
    others were recalled.

    Here every line is a composition of the library's vicinities. Neighbors are those of the normalized images, not
    augmented, by Euclidean distance; a neighbor that is mixed in is augmented by itself, which the paper does not state;
    the noise has its standard deviation in normalized units. Beside the table stands mixup of three examples with
    Dirichlet weights, of which section 2 says that it gains no more.
    """

    name = "ablation"
    section = "3.8, table 5"
    title = "Ablation"
    scales = SCALES
    measures = (
        ("median test error, %", lambda run: run.test_error.median_of_last_10),
        ("training error, %", lambda run: run.train_error),
    )

    def paper_cells(self) -> Sequence[Cell]:
        """Return the cells of table 5, both weight decays of each line, and mixup of three."""
        table = [
            self._cell(f"{i:02d}", name, decay, line[2], [Published(number, name in CONFIRMED)])
            for i, (name, line) in enumerate(TABLE.items())
            for decay, number in zip(DECAYS, line[:2], strict=True)
        ]
        return [*table, self._cell("three", THREE, SMALL_DECAY, THREE_LINE, [])]

    def cells(self, scale: Scale) -> Sequence[Cell]:
        """Return the cells; at the small scale those are run that a claim rests on, by one weight decay."""
        cells = super().cells(scale)
        if scale != "small":
            return cells
        return [
            cell
            if SMALL in cell.name and _line_of(cell) in CLAIMED
            else replace(cell, recipe=None, note=SCALES["small"].not_run)
            for cell in cells
        ]

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return the conclusions of section 3.8, and what section 2 says of mixing three."""
        compare = partial(self._compare, scale, done)
        return (
            Claim(
                "mixing three examples or more gains no more than mixing two",
                "2",
                (compare([THREE], [MIXUP], "equal", tolerance=1.0),),
                LIMITS,
            ),
            Claim("pairs at random gain more than near neighbors", "3.8", (compare([MIXUP], [NEAR]),), LIMITS),
            Claim(
                "labels must be mixed, too: inputs alone gain less",
                "3.8",
                (compare([MIXUP], [INPUTS_ONLY]),),
                LIMITS,
            ),
            Claim("mixing inputs gains more than mixing higher layers", "3.8", (compare([MIXUP], LAYERS),), LIMITS),
            Claim(
                "interpolation within a class (SMOTE) gives no noticeable gain",
                "3.8",
                (compare([SMOTE], ["ERM"], "equal", tolerance=1.0),),
                LIMITS,
            ),
            Claim(
                "label smoothing and noise on the inputs regularize less than mixup",
                "3.8",
                (compare([MIXUP], SMOOTHING), compare([MIXUP], NOISE)),
                LIMITS,
            ),
        )

    def _compare(
        self,
        scale: Scale,
        done: Results,
        lines: Sequence[str],
        others: Sequence[str],
        expected: Expected = "lower",
        tolerance: float = 0.0,
    ) -> Evidence:
        """Return the differences between lines of the table, by seed; of several lines, between their means."""
        cells = {_line_of(cell): cell for cell in self.cells(scale) if SMALL in cell.name}
        errors = {
            name: [run.test_error.median_of_last_10 for run in self.runs(scale, done, cells[name])]
            for name in (*lines, *others)
        }
        pairs = zip(*(zip(*(errors[name] for name in names), strict=False) for names in (lines, others)), strict=False)
        differences = tuple(100 * (statistics.fmean(a) - statistics.fmean(b)) for a, b in pairs)
        other = others[0] if len(others) == 1 else f"the mean of {'; '.join(others)}"
        return Evidence(f"{lines[0]} against {other}", "points of test error", differences, expected, tolerance)

    def _cell(self, job: str, name: str, decay: float, line: Recipe, published: Sequence[Published]) -> Cell:
        decayed = f"weight decay {DECAYS[decay]}"
        against = None if name == "ERM" else f"ERM, {decayed}"
        recipe = replace(line, weight_decay=decay)
        return Cell(f"{name}, {decayed}", f"{job}-decay{DECAYS[decay]}", recipe, published, against)

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw table 5, one figure per weight decay."""
        return [path for decay in DECAYS for path in self._draw(scale, done, folder, decay)]

    def _draw(self, scale: Scale, done: Results, folder: Path, decay: float) -> Sequence[Path]:
        ending = f", weight decay {DECAYS[decay]}, median test error"
        rows = self.rows(scale, done)
        path = folder / f"table5-decay{DECAYS[decay]}.svg"
        label = f"Median test error of each line of table 5 with weight decay {decay}, next to the published numbers"
        title = f"test error, %, weight decay {DECAYS[decay]}"
        return plots.write_dot_plot(path, label, rows, title, ending, _color)


def _line_of(cell: Cell) -> str:
    return cell.name.rpartition(", weight decay")[0]


def _color(name: str) -> str:
    return "erm" if name.startswith("ERM") else "mix" if name.startswith("mix") else "other"
