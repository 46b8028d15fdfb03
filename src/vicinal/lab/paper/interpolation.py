"""Figure 2: what models say between their training points; also `vicinal between RUN_A RUN_B`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal.keyed import Key
from vicinal.lab import atomic
from vicinal.lab.data import loading
from vicinal.lab.data.loading import Data
from vicinal.lab.errors import UserError
from vicinal.lab.paper import plots
from vicinal.lab.paper.cifar import scaled
from vicinal.lab.paper.study import Published, Requirements, Results, Row, Scale
from vicinal.lab.paper.training import Cell, TrainingStudy, quick
from vicinal.lab.recipe import Recipe
from vicinal.lab.streams import Stream
from vicinal.lab.training import distributed, runs

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
VICINITIES = {"ERM": "ERM()", "mixup": "Mixup(alpha=1.0)"}


@dataclass(frozen=True)
class Course:
    """What a model does at each of `LAMBDAS`: the share of pairs missed, and the mean norm of the gradient."""

    misses: list[float]
    gradient: list[float]


def between(
    model: nn.Module, data: Data, first: Tensor, second: Tensor, asked: Callable[[int], None] = lambda pairs: None
) -> Course:
    """Ask a model between pairs of examples.

    At x = lambda x_i + (1 - lambda) x_j an answer is a miss if it is neither y_i nor y_j. The gradient is that of the
    loss of the mixed label with respect to x, its norm the Euclidean one, in the units of the model's inputs.

    Args:
        model: in evaluation mode.
        data: on the model's device; taken as it is, without augmentation.
        first: int64 [pairs], rows of `data`.
        second: likewise.
        asked: is told how many pairs were, again and again.

    """
    missed = torch.zeros(len(LAMBDAS), dtype=torch.float64)
    norms = torch.zeros(len(LAMBDAS), dtype=torch.float64)
    done = 0
    for i, j in zip(first.split(_BATCH), second.split(_BATCH), strict=True):
        (x_i, y_i), (x_j, y_j) = data.batch(i, None), data.batch(j, None)
        for at, share in enumerate(LAMBDAS):
            x = torch.lerp(x_j, x_i, share).requires_grad_()
            out = model(x)
            loss = share * F.cross_entropy(out, y_i, reduction="sum")
            loss = loss + (1 - share) * F.cross_entropy(out, y_j, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x)
            answer = out.argmax(1)
            missed[at] += ((answer != y_i) & (answer != y_j)).sum().cpu()
            norms[at] += gradient.flatten(1).norm(dim=1).double().sum().cpu()
        done += len(i)
        asked(done)
    return Course((missed / len(first)).tolist(), (norms / len(first)).tolist())


def pairs(n: int, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Draw pairs of different examples among n, int64 [count] each; the same for every model."""
    if n < 2:
        raise UserError(f"pairs are drawn from 2 examples or more, found {n}")
    generator = Key(seed, 0, 0, 0, Stream.INTERPOLATION).generator()
    first = generator.integers(0, n, count)
    second = (first + generator.integers(1, n, count)) % n
    return torch.from_numpy(first), torch.from_numpy(second)


def of_run(folder: Path, seed: int, count: int) -> Course:
    """Ask the model of a finished run between pairs of its own training examples."""
    recipe = runs.load_recipe(folder)
    device = distributed.device()
    data = loading.load(recipe)[0].to(device)
    first, second = (rows.to(device) for rows in pairs(len(data), seed, count))
    return between(runs.load_model(folder, len(data.classes), device), data, first, second)


@dataclass(frozen=True, eq=False)
class Two:
    """Two trained models, A and B, and the training examples of both."""

    folders: tuple[Path, Path]
    models: tuple[nn.Module, nn.Module]
    data: Data


def load(a: Path, b: Path) -> Two:
    """Read two finished runs on the same training examples.

    Raises:
        UserError: a folder is no finished run or is damaged, or the two were trained on different examples.

    """
    recipes = [runs.load_recipe(folder) for folder in (a, b)]
    of, other = (loading.decided_by(recipe) for recipe in recipes)
    odd = [name for name in sorted({*of, *other}) if of.get(name) != other.get(name)]
    if odd:
        first, second = (getattr(recipe, odd[0]) for recipe in recipes)
        raise UserError(
            f"{a} and {b} were trained on different examples ({odd[0]}: {first} and {second}), so the same pairs mean "
            "nothing: train both on the same"
        )
    device = distributed.device()
    data = loading.load(recipes[0])[0].to(device)
    first, second = (runs.load_model(folder, len(data.classes), device) for folder in (a, b))
    return Two((a, b), (first, second), data)


def compare(two: Two, seed: int = 0, say: Callable[[str], None] = lambda line: None) -> tuple[Course, Course]:
    """Ask two trained models between the same pairs of training examples; `say` is told how far it is."""
    first, second = (rows.to(two.data.device) for rows in pairs(len(two.data), seed, PAIRS))

    def ask(folder: Path, model: nn.Module) -> Course:
        return between(model, two.data, first, second, lambda done: say(f"{folder}: {done:,} of {PAIRS:,} pairs"))

    a, b = map(ask, two.folders, two.models)
    return a, b


def figure(courses: Sequence[tuple[str, str, Course]], key: str = "between") -> dict[str, str]:
    """Draw figure 2 of courses, each with its name and its kind of line: SVG of misses and of gradients."""
    drawn = {}
    for measure, title in MEASURES.items():
        curves = [
            plots.Line(name, kind, LAMBDAS, _scaled(measure, getattr(course, measure)))
            for name, kind, course in courses
        ]
        label = f"{title.capitalize()} between training points: {', '.join(name for name, _, _ in courses)}"
        drawn[measure] = plots.lines(f"{key}-{measure}", label, curves, "lambda", title)
    return drawn


def _scaled(measure: str, values: Sequence[float]) -> list[float]:
    return [100 * value for value in values] if measure == "misses" else list(values)


class InterpolationStudy(TrainingStudy):
    """What do models say between their training points?

    Paper: two models on CIFAR-10, one trained by ERM, one by mixup, otherwise alike, at x = lambda x_i + (1 - lambda)
    x_j for random pairs of training points and 21 lambdas. Figure 2a: the share of answers that are neither y_i nor y_j.
    Figure 2b: the norm of the gradient with respect to x. Model, number of pairs, norm and the label in the loss are
    not stated; the numbers here were digitized. The paper reads from it that mixup misses less and is smoother between
    points; at the points themselves its gradients are larger in the figure, too.

    Here: PreAct ResNet-18 as in section 3.2, 1,000 pairs, not augmented; the loss of the mixed label, the Euclidean norm,
    in units of normalized pixels.
    """

    name = "between"
    section = "2, figure 2"
    title = "Between the training points"

    def requirements(self, size: Scale) -> Requirements:
        """Say what it needs."""
        if size == "smoke":
            return Requirements("none: synthetic images", 0.1)
        return Requirements("CIFAR-10", 20) if size == "small" else Requirements("CIFAR-10", 60 * 9, "1 GPU")

    def deviations(self, size: Scale) -> Sequence[str]:
        """Say what is smaller."""
        if size == "smoke":
            return ["Drawn images, a small model, one epoch, 20 pairs: the figures mean nothing."]
        if size == "small":
            return [
                "10,000 of the 50,000 training images; PreAct ResNet-18 with an eighth of its width, 30 epochs instead "
                "of 200, bfloat16. Gradients depend on the model and cannot be compared in size."
            ]
        return []

    def seeds(self, size: Scale) -> int:
        """Give how often each model is trained."""
        return 1 if size == "smoke" else 3

    def cells(self, size: Scale) -> Sequence[Cell]:
        """Give the two models."""
        listed = []
        for method, vicinity in VICINITIES.items():
            recipe = Recipe(dataset="cifar10", model="preact-resnet-18", vicinity=vicinity)
            if size == "smoke":
                recipe = quick(recipe)
            elif size == "small":
                recipe = scaled(recipe, 30, max_train_examples=10000, max_test_examples=5000)
            listed.append(Cell(method, method.lower(), recipe, ()))
        return listed

    def after(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Ask the model between its training points."""
        course = of_run(folder, recipe.seed, 20 if recipe.dataset == "synthetic-images" else PAIRS)
        return {"misses": course.misses, "gradient": course.gradient}

    def rows(self, size: Scale, done: Results) -> Sequence[Row]:
        """Give both measures at the lambdas that were digitized."""
        listed = []
        for measure, title in MEASURES.items():
            for i, share in enumerate(PRINTED):
                for cell in self.cells(size):
                    runs = self.runs(size, done, cell)
                    values = tuple(_scaled(measure, [run[measure][LAMBDAS.index(share)] for run in runs]))
                    published = Published(PUBLISHED[measure, cell.name][i])
                    ending = f"{measure} at lambda = {share:.2f}"
                    against = None if cell.name == "ERM" else f"ERM, {ending}"
                    listed.append(Row(f"{cell.name}, {ending}", title, published, values, against))
        return listed

    def draw(self, size: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw figure 2: means over the seeds, the paper's dashed."""
        paths = []
        for letter, (measure, title) in zip("ab", MEASURES.items(), strict=True):
            curves = []
            for cell in self.cells(size):
                runs = self.runs(size, done, cell)
                kind = "erm" if cell.name == "ERM" else "mix"
                if runs:
                    course = [statistics.fmean(values) for values in zip(*(run[measure] for run in runs), strict=True)]
                    curves.append(plots.Line(cell.name, kind, LAMBDAS, _scaled(measure, course)))
                    # printed up to the middle; both halves are the same
                    half = PUBLISHED[measure, cell.name][:11]
                    x = np.concatenate([PRINTED[:11], 1 - np.array(PRINTED[9::-1])])
                    curves.append(
                        plots.Line(f"{cell.name}, paper", kind, x.tolist(), [*half, *half[9::-1]], dashed=True)
                    )
            if curves:
                path = folder / f"figure2{letter}.svg"
                label = f"{title.capitalize()} between training points, ERM gray, mixup blue, the paper's curves dashed"
                atomic.write(path, plots.lines(f"between-{measure}", label, curves, "lambda", title))
                paths.append(path)
        return paths
