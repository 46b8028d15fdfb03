"""Section 3.4, table 2: training labels replaced by random ones."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from vicinal.lab.data.label_noise import chosen_rows
from vicinal.lab.paper import plots
from vicinal.lab.paper.claims import Claim, Evidence, Expected
from vicinal.lab.paper.study import Published, Results, Row, Scale
from vicinal.lab.paper.training import (
    FEW,
    Cell,
    FinishedRun,
    TrainedRun,
    TrainingScale,
    TrainingStudy,
    few,
    quick,
    row_name,
)
from vicinal.lab.training import recipes

# label noise, method: test error best and last, training error on the true and on the replaced labels, %; with what settings
PUBLISHED = {
    (0.2, "ERM"): (12.7, 16.6, 0.05, 0.28),
    (0.2, "ERM + dropout"): (8.8, 10.4, 5.26, 83.55),  # dropout 0.7
    (0.2, "mixup"): (5.9, 6.4, 2.27, 86.32),  # alpha 8
    (0.2, "mixup + dropout"): (6.2, 6.2, 1.92, 85.02),  # alpha 4, dropout 0.1
    (0.5, "ERM"): (18.8, 44.6, 0.26, 0.64),
    (0.5, "ERM + dropout"): (14.1, 15.5, 12.71, 86.98),  # dropout 0.8
    (0.5, "mixup"): (11.3, 12.7, 5.84, 85.71),  # alpha 32
    (0.5, "mixup + dropout"): (10.9, 10.9, 7.56, 87.90),  # alpha 8, dropout 0.3
    (0.8, "ERM"): (36.5, 73.9, 0.62, 0.83),
    (0.8, "ERM + dropout"): (30.9, 35.1, 29.84, 86.37),  # dropout 0.8
    (0.8, "mixup"): (25.3, 30.9, 18.92, 85.44),  # alpha 32
    (0.8, "mixup + dropout"): (24.0, 24.8, 19.70, 87.67),  # alpha 8, dropout 0.3
}
RECALLED = "mixup + dropout"  # its settings and training errors were not read in the paper
NOISES = (0.2, 0.5, 0.8)
METHODS = ("ERM", "ERM + dropout", "mixup", "mixup + dropout")


@dataclass(frozen=True)
class MethodGrid:
    """The settings tried of each method: alphas, dropouts, and alphas with dropouts."""

    alphas: tuple[float, ...]
    dropouts: tuple[float, ...]
    both: tuple[tuple[float, float], ...]

    def settings(self, method: str) -> list[tuple[float | None, float]]:
        """Return the alpha (None: ERM) and the dropout of each of a method's cells."""
        grids: dict[str, list[tuple[float | None, float]]] = {
            "ERM": [(None, 0.0)],
            "ERM + dropout": [(None, dropout) for dropout in self.dropouts],
            "mixup": [(alpha, 0.0) for alpha in self.alphas],
            "mixup + dropout": list(self.both),
        }
        return grids[method]


ALPHAS = (1.0, 2.0, 8.0, 32.0)
PAPER = MethodGrid(ALPHAS, (0.5, 0.7, 0.8, 0.9), tuple(product((1.0, 2.0, 4.0, 8.0), (0.3, 0.5, 0.7))))


@dataclass(frozen=True)
class NoisyScale(TrainingScale):
    """A scale with its grid."""

    grid: MethodGrid = PAPER


SCALES: Mapping[Scale, NoisyScale] = {
    "smoke": NoisyScale(
        "none (synthetic images)",
        0.1,
        deviations=("Synthetic images, one epoch, one setting of each method: the figures mean nothing.",),
        recipe=lambda recipe: replace(quick(recipe), model="preact-resnet-18-narrow"),  # with and without dropout
        grid=MethodGrid((8.0,), (0.5,), ((8.0, 0.3),)),
    ),
    "small": NoisyScale(
        data="CIFAR-10",
        minutes=55,
        seeds=2,
        deviations=(
            f"{FEW}. The alphas are the paper's; dropout, which a model an eighth as wide stands less of, is 0.3 or 0.5.",
        ),
        recipe=few,
        grid=MethodGrid(ALPHAS, (0.3, 0.5), ((2.0, 0.3),)),
    ),
    "paper": NoisyScale("CIFAR-10", 60 * 24 * 15, seeds=3, device="1 GPU", full=True),
}


@dataclass(frozen=True)
class NoisyRun(TrainedRun):
    """A run on labels of which some are replaced, with the shares of both kinds that are missed in training."""

    replaced: int
    train_error_true: float
    train_error_replaced: float


MEASURES: tuple[tuple[str, Callable[[NoisyRun], float]], ...] = (
    ("best test error, %", lambda run: run.test_error.best),
    ("last test error, %", lambda run: run.test_error.last),
    ("training error on true labels, %", lambda run: run.train_error_true),
    ("training error on replaced labels, %", lambda run: run.train_error_replaced),
)
BEST, LAST, TRUE, REPLACED = MEASURES


class CorruptedLabelsStudy(TrainingStudy):
    """Does mixup keep a model from memorizing corrupted labels?

    Paper: CIFAR-10 with 20, 50 and 80 % of the training labels replaced by labels drawn from all ten classes, the true
    one included; PreAct ResNet-18 as in section 3.2; ERM, dropout between the convolutions of each block, mixup with a
    large alpha, and both. Test error of the best and of the last epoch; after the last epoch the training error on the
    labels left alone and on those replaced, against the labels trained on: 90 % there means that none is memorized.
    Printed is the best cell of each grid: alpha in {1, 2, 8, 32}; dropout in {0.5, 0.7, 0.8, 0.9}; alpha in {1, 2, 4, 8}
    with dropout in {0.3, 0.5, 0.7}. By what it was chosen is not stated; the settings of mixup + dropout and its training
    errors were recalled, not read.

    Here the grids are run. Which cell is best is decided for each seed by the last test error of the other seeds, so that
    no method gains by the number of its cells. That mixup does not memorize means something only where it learns: its
    training error on the true labels stands beside that on the replaced ones, on inputs as they are, unmixed.
    """

    name = "corrupted-labels"
    section = "3.4, table 2"
    title = "Random training labels"
    record = NoisyRun
    scales = SCALES
    measures = MEASURES

    def paper_cells(self) -> Sequence[Cell]:
        """Return the cells of the paper's grids."""
        return _grid_cells(PAPER)

    def cells(self, scale: Scale) -> Sequence[Cell]:
        """Return the cells of the scale's grids."""
        at = SCALES[scale]
        return [at.cell(cell) for cell in _grid_cells(at.grid)]

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return table 2, the best cells; then all cells."""
        best = [row for noise in NOISES for method in METHODS for row in self._best_rows(scale, done, noise, method)]
        every = [row for cell in self.cells(scale) if cell.against for row in self._rows(scale, done, cell)]
        return best + every

    def _best_rows(self, scale: Scale, done: Results, noise: float, method: str) -> list[Row]:
        chosen = self.best(scale, done, noise, method)
        at, numbers = SCALES[scale].grid, PUBLISHED[noise, method]
        read = (True, True, method != RECALLED, method != RECALLED)
        count = len(at.settings(method))
        note = f"the best of {count} settings: {', '.join(sorted({setting for setting, _ in chosen}))}"
        return [
            Row(
                row_name(_title(noise, method), measure),
                measure,
                Published(number, confirmed),
                tuple(100 * of(run) for _, run in chosen),
                None if method == "ERM" else row_name(_title(noise, "ERM"), measure),
                note if count > 1 and chosen else "",
            )
            for (measure, of), number, confirmed in zip(MEASURES, numbers, read, strict=True)
        ]

    def best(self, scale: Scale, done: Results, noise: float, method: str) -> list[tuple[str, NoisyRun]]:
        """Return for each seed the run of the method's best cell, with its settings; best by the other seeds.

        Only seeds are counted that all cells of the method have.
        """
        at = SCALES[scale]
        cells = [_cell(noise, method, *setting) for setting in at.grid.settings(method)]
        found = [self.runs(scale, done, cell) for cell in cells]
        seeds = range(min(map(len, found)))
        best = {seed: min(range(len(cells)), key=lambda i: _last_error(found[i], seed, seeds)) for seed in seeds}
        return [(cells[i].note, found[i][seed]) for seed, i in best.items()]

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return the claims of section 3.4."""
        compare = partial(self._compare, scale, done)
        limits = self._limits(scale, done)
        return (
            Claim(
                "mixup with a large alpha errs less than ERM after training on corrupted labels",
                "3.4",
                (compare("mixup", "ERM", LAST), compare("mixup", "ERM", BEST)),
                limits,
            ),
            Claim(
                "mixup with a large alpha errs less than dropout after training on corrupted labels",
                "3.4",
                (compare("mixup", "ERM + dropout", LAST), compare("mixup", "ERM + dropout", BEST)),
                limits,
            ),
            Claim(
                "mixup does not memorize the random labels, and fits the true ones better than dropout does",
                "3.4",
                (compare("mixup", "ERM", REPLACED, "higher"), compare("mixup", "ERM + dropout", TRUE)),
                limits,
            ),
            Claim("mixup with dropout errs least", "3.4", (compare("mixup + dropout", "mixup", LAST),), limits),
        )

    def _compare(
        self,
        scale: Scale,
        done: Results,
        method: str,
        other: str,
        measure: tuple[str, Callable[[NoisyRun], float]],
        expected: Expected = "lower",
    ) -> Evidence:
        """Return the differences of two methods' best cells, one for each share of random labels and each seed."""
        (title, of), best = measure, partial(self.best, scale, done)
        differences = [
            100 * (of(a) - of(b))
            for noise in NOISES
            for (_, a), (_, b) in zip(best(noise, method), best(noise, other), strict=False)
        ]
        what = f"{title.removesuffix(', %')} with 20, 50 and 80 % random labels, {method} against {other}"
        return Evidence(what, "points", tuple(differences), expected)

    def _limits(self, scale: Scale, done: Results) -> str:
        """Return how small the study is, and how much mixup's models learned of the true labels."""
        runs = {noise: [run for _, run in self.best(scale, done, noise, "mixup")] for noise in NOISES}
        errors = {noise: statistics.fmean(run.train_error_true for run in of) for noise, of in runs.items() if of}
        learned = ", ".join(f"{100 * error:.0f} % with {noise:.0%} random" for noise, error in errors.items())
        size = "a model of an eighth of the width on 2,000 images" if scale == "small" else ""
        return "; ".join(filter(None, (size, learned and f"mixup's training error on the true labels is {learned}")))

    def evaluate_run(self, run: FinishedRun) -> dict[str, Any]:
        """Measure the training error on the labels left alone and on those replaced."""
        wrong = run.missed.double()
        replaced = torch.from_numpy(chosen_rows(len(wrong), run.recipe.label_noise, run.recipe.seed))
        return {
            "replaced": int(replaced.sum()),
            "train_error_true": float(wrong[~replaced].mean()),
            "train_error_replaced": float(wrong[replaced].mean()),
        }

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the test errors after the last epoch."""
        rows = [row for row in self.rows(scale, done) if row.published is not None]
        label = "Test error after the last epoch with random training labels, next to the published numbers"
        title = "test error of the last epoch, %"
        return plots.write_dot_plot(folder / "table2.svg", label, rows, title, ", last test error")


def _grid_cells(grid: MethodGrid) -> list[Cell]:
    return [
        _cell(noise, method, *setting) for noise in NOISES for method in METHODS for setting in grid.settings(method)
    ]


def _cell(noise: float, method: str, alpha: float | None, dropout: float) -> Cell:
    vicinity = "ERM()" if alpha is None else f"Mixup(alpha={alpha})"
    settings = [f"alpha = {alpha:g}"] if alpha is not None else []
    settings += [f"dropout {dropout:g}"] if dropout else []
    return Cell(
        ", ".join([_title(noise, method), *settings]),
        "-".join(
            [str(noise), method.lower().replace(" + ", "-"), *(f"{value:g}" for value in (alpha, dropout) if value)]
        ),
        replace(recipes.cifar10_preact18_erm(), vicinity=vicinity, label_noise=noise, dropout=dropout),
        against=None if method == "ERM" else _title(noise, "ERM"),
        note=", ".join(settings),
    )


def _title(noise: float, method: str) -> str:
    return f"{noise:.0%} random, {method}"


def _last_error(runs: Sequence[NoisyRun], seed: int, seeds: Sequence[int]) -> float:
    """Return the mean last test error over the other seeds, or its own where there is no other."""
    others = [other for other in seeds if other != seed] or [seed]
    return statistics.fmean(runs[other].test_error.last for other in others)
