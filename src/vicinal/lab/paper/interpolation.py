"""Figure 2: what models predict between their training points; also `vicinal interpolate RUN_A RUN_B`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal.keyed import Key
from vicinal.lab import atomic
from vicinal.lab.data import loading
from vicinal.lab.data.loading import Data
from vicinal.lab.errors import UserError
from vicinal.lab.paper import plots
from vicinal.lab.paper.study import Published, Results, Row, Scale
from vicinal.lab.paper.training import Cell, TrainingScale, TrainingStudy, narrowed, quick
from vicinal.lab.recipe import Recipe
from vicinal.lab.streams import Stream
from vicinal.lab.training import distributed, recipes, runs

LAMBDAS = tuple(round(i / 20, 2) for i in range(21))
PAIRS = 1000
_BATCH = 250

# digitized from figure 2, at these lambdas: misses, %, and gradient norms
PRINTED = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.75, 1.0)
PUBLISHED = {
    ("misses", "ERM"): (1.30, 1.23, 1.63, 2.27, 3.58, 5.61, 8.30, 11.28, 14.24, 15.81, 16.54, 5.61, 1.30),
    ("misses", "mixup"): (0.74, 0.76, 0.95, 1.26, 1.85, 2.71, 3.69, 4.60, 5.32, 5.97, 6.07, 2.66, 0.70),
    ("gradient", "ERM"): (0.004, 0.008, 0.016, 0.027, 0.043, 0.065, 0.091, 0.122, 0.149, 0.169, 0.177, 0.065, 0.004),
    ("gradient", "mixup"): (0.011, 0.009, 0.012, 0.016, 0.020, 0.025, 0.029, 0.033, 0.036, 0.038, 0.038, 0.025, 0.012),
}
MEASURES = {"misses": "misses, %", "gradient": "norm of the gradient"}
FACTORS = {"misses": 100, "gradient": 1}


@dataclass(frozen=True)
class Interpolation:
    """What a model does at each of `LAMBDAS`: the share of pairs missed, and the mean norm of the gradient."""

    misses: list[float]
    gradient: list[float]


def interpolate(
    model: nn.Module, data: Data, first: Tensor, second: Tensor, on_progress: Callable[[int], None] = lambda pairs: None
) -> Interpolation:
    """Evaluate a model on interpolations of pairs of examples.

    At x = lambda x_i + (1 - lambda) x_j a prediction is a miss if it is neither y_i nor y_j. The gradient is that of the
    loss of the mixed label with respect to x, its norm the Euclidean one, in the units of the model's inputs.

    Args:
        model: in evaluation mode.
        data: on the model's device; taken as it is, without augmentation.
        first: int64 [pairs], indices into `data`.
        second: likewise.
        on_progress: called with the number of pairs that are done.

    """
    missed = torch.zeros(len(LAMBDAS), dtype=torch.float64)
    norms = torch.zeros(len(LAMBDAS), dtype=torch.float64)
    done = 0
    for i, j in zip(first.split(_BATCH), second.split(_BATCH), strict=True):
        (x_i, y_i), (x_j, y_j) = data.batch(i, None), data.batch(j, None)
        for at, share in enumerate(LAMBDAS):
            x = torch.lerp(x_j, x_i, share).requires_grad_()
            logits = model(x)
            loss = share * F.cross_entropy(logits, y_i, reduction="sum")
            loss = loss + (1 - share) * F.cross_entropy(logits, y_j, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x)
            predicted = logits.argmax(1)
            missed[at] += ((predicted != y_i) & (predicted != y_j)).sum().cpu()
            norms[at] += gradient.flatten(1).norm(dim=1).double().sum().cpu()
        done += len(i)
        on_progress(done)
    return Interpolation((missed / len(first)).tolist(), (norms / len(first)).tolist())


def pairs(n: int, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Draw pairs of different examples among n, int64 [count] each; the same for every model."""
    if n < 2:
        raise UserError(f"pairs are drawn from 2 examples or more, found {n}")
    generator = Key(seed, 0, 0, 0, Stream.INTERPOLATION).generator()
    first = generator.integers(0, n, count)
    second = (first + generator.integers(1, n, count)) % n
    return torch.from_numpy(first), torch.from_numpy(second)


@dataclass(frozen=True, eq=False)
class RunPair:
    """Two trained models, A and B, and the training examples of both."""

    folders: tuple[Path, Path]
    models: tuple[nn.Module, nn.Module]
    data: Data


def load(a: Path, b: Path) -> RunPair:
    """Read two finished runs on the same training examples.

    Raises:
        UserError: a folder is not a finished run or is damaged, or the two were trained on different examples.

    """
    recipe, other = (runs.load_recipe(folder) for folder in (a, b))
    odd = _first_difference(loading.decided_by(recipe), loading.decided_by(other))
    if odd is not None:
        raise UserError(
            f"{a} and {b} were trained on different examples ({odd}: {getattr(recipe, odd)} and {getattr(other, odd)}), "
            "so the same pairs mean nothing: train both on the same"
        )
    device = distributed.device()
    data = loading.load(recipe)[0].to(device)
    first, second = (runs.load_model(folder, len(data.classes), device) for folder in (a, b))
    return RunPair((a, b), (first, second), data)


def _first_difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> str | None:
    return next((name for name in sorted({*a, *b}) if a.get(name) != b.get(name)), None)


def compare(
    pair: RunPair, seed: int = 0, on_progress: Callable[[str], None] = lambda line: None
) -> tuple[Interpolation, Interpolation]:
    """Evaluate two trained models on interpolations of the same pairs of training examples."""
    first, second = (indices.to(pair.data.device) for indices in pairs(len(pair.data), seed, PAIRS))

    def measure(folder: Path, model: nn.Module) -> Interpolation:
        return interpolate(
            model, pair.data, first, second, lambda done: on_progress(f"{folder}: {done:,} of {PAIRS:,} pairs")
        )

    a, b = map(measure, pair.folders, pair.models)
    return a, b


def figure(curves: Sequence[tuple[str, str, Interpolation]], key: str = "interpolation") -> dict[str, str]:
    """Draw figure 2, each curve with its name and its color: SVG of misses and of gradients."""
    drawn = {}
    for measure, title in MEASURES.items():
        label = f"{title.capitalize()} between training points: {', '.join(name for name, _, _ in curves)}"
        lines = [plots.Curve(name, kind, LAMBDAS, _scaled(measure, getattr(at, measure))) for name, kind, at in curves]
        drawn[measure] = plots.lines(f"{key}-{measure}", label, lines, "lambda", title)
    return drawn


def _scaled(measure: str, values: Sequence[float]) -> list[float]:
    return [FACTORS[measure] * value for value in values]


def small(recipe: Recipe) -> Recipe | None:
    """Return the recipe of the small scale: a fifth of the training images."""
    return narrowed(recipe, 30, max_train_examples=10000, max_test_examples=5000)


SCALES: Mapping[Scale, TrainingScale] = {
    "smoke": TrainingScale(
        data="none (synthetic images)",
        minutes=0.1,
        deviations=("Synthetic images, a small model, one epoch, 20 pairs: the figures mean nothing.",),
        recipe=quick,
    ),
    "small": TrainingScale(
        data="CIFAR-10",
        minutes=20,
        seeds=3,
        deviations=(
            "10,000 of the 50,000 training images; PreAct ResNet-18 with an eighth of its width, 30 epochs instead of "
            "200, bfloat16. Gradients depend on the model and cannot be compared in size.",
        ),
        recipe=small,
    ),
    "paper": TrainingScale("CIFAR-10", 60 * 9, seeds=3, device="1 GPU", full=True),
}


class InterpolationStudy(TrainingStudy):
    """What do models predict between their training points?

    Paper: two models on CIFAR-10, one trained by ERM, one by mixup, otherwise alike, at x = lambda x_i + (1 - lambda)
    x_j for random pairs of training points and 21 lambdas. Figure 2a: the share of predictions that are neither y_i nor y_j.
    Figure 2b: the norm of the gradient with respect to x. Model, number of pairs, norm and the label in the loss are
    not stated; the numbers here were digitized. The paper reads from it that mixup misses less and is smoother between
    points; at the points themselves its gradients are larger in the figure, too.

    Here: PreAct ResNet-18 as in section 3.2, 1,000 pairs, not augmented; the loss of the mixed label, the Euclidean norm,
    in units of normalized pixels.
    """

    name = "interpolation"
    section = "2, figure 2"
    title = "Between the training points"
    scales = SCALES

    def paper_cells(self) -> Sequence[Cell]:
        """Return the two models."""
        return [
            Cell("ERM", "erm", recipes.cifar10_preact18_erm(), ()),
            Cell("mixup", "mixup", recipes.cifar10_preact18_mixup(), ()),
        ]

    def evaluate_run(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Evaluate the model on interpolations of its own training examples."""
        device = distributed.device()
        data = loading.load(recipe)[0].to(device)
        count = 20 if recipe.dataset == "synthetic-images" else PAIRS
        first, second = (indices.to(device) for indices in pairs(len(data), recipe.seed, count))
        return asdict(interpolate(runs.load_model(folder, len(data.classes), device), data, first, second))

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return both measures at the lambdas that were digitized."""
        return [
            self._row(measure, cell, i, [run[measure] for run in self.runs(scale, done, cell)])
            for measure in MEASURES
            for i in range(len(PRINTED))
            for cell in self.cells(scale)
        ]

    def _row(self, measure: str, cell: Cell, i: int, runs: Sequence[Sequence[float]]) -> Row:
        values = tuple(_scaled(measure, [run[LAMBDAS.index(PRINTED[i])] for run in runs]))
        published = Published(PUBLISHED[measure, cell.name][i])
        ending = f"{measure} at lambda = {PRINTED[i]:.2f}"
        against = None if cell.name == "ERM" else f"ERM, {ending}"
        return Row(f"{cell.name}, {ending}", MEASURES[measure], published, values, against)

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw figure 2: means over the seeds, the paper's dashed."""
        paths = []
        for letter, (measure, title) in zip("ab", MEASURES.items(), strict=True):
            curves = [curve for cell in self.cells(scale) for curve in self._curves(scale, done, cell, measure)]
            if curves:
                paths.append(folder / f"figure2{letter}.svg")
                label = f"{title.capitalize()} between training points, ERM gray, mixup blue, the paper's curves dashed"
                atomic.write(paths[-1], plots.lines(f"interpolation-{measure}", label, curves, "lambda", title))
        return paths

    def _curves(self, scale: Scale, done: Results, cell: Cell, measure: str) -> Iterator[plots.Curve]:
        runs = [run[measure] for run in self.runs(scale, done, cell)]
        if runs:
            kind = "erm" if cell.name == "ERM" else "mix"
            means = [statistics.fmean(values) for values in zip(*runs, strict=True)]
            yield plots.Curve(cell.name, kind, LAMBDAS, _scaled(measure, means))
            # printed up to the middle; both halves are the same
            half, x = PUBLISHED[measure, cell.name][:11], PRINTED[:11]
            mirrored = [*x, *(1 - at for at in x[-2::-1])]
            yield plots.Curve(f"{cell.name}, paper", kind, mirrored, [*half, *half[-2::-1]], dashed=True)
