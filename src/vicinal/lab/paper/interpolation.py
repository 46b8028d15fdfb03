"""Figure 2: what models predict between their training points; also `vicinal interpolate RUN_A RUN_B`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal.keyed import Key
from vicinal.lab import atomic
from vicinal.lab.data import loading
from vicinal.lab.data.dataset import Data
from vicinal.lab.errors import UserError
from vicinal.lab.paper import plots
from vicinal.lab.paper.cifar import overfitting
from vicinal.lab.paper.claims import Claim, Evidence
from vicinal.lab.paper.rows import by_method
from vicinal.lab.paper.study import Published, Results, Row, Scale
from vicinal.lab.paper.training import (
    Cell,
    FinishedRun,
    TrainedRun,
    TrainingScale,
    TrainingStudy,
    load_trained,
    quick,
)
from vicinal.lab.streams import Stream
from vicinal.lab.training import recipes, runs

LAMBDAS = tuple(round(i / 20, 2) for i in range(21))
MIDDLE = LAMBDAS.index(0.5)
PAIRS = 1000
HELD_OUT_PAIRS = 500
TRIANGLES = 1000
_BATCH = 250

# digitized from figure 2, at these lambdas: misses, %, and gradient norms
PRINTED = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.75, 1.0)
PUBLISHED = {
    ("misses", "ERM"): (1.30, 1.23, 1.63, 2.27, 3.58, 5.61, 8.30, 11.28, 14.24, 15.81, 16.54, 5.61, 1.30),
    ("misses", "mixup"): (0.74, 0.76, 0.95, 1.26, 1.85, 2.71, 3.69, 4.60, 5.32, 5.97, 6.07, 2.66, 0.70),
    ("gradient", "ERM"): (0.004, 0.008, 0.016, 0.027, 0.043, 0.065, 0.091, 0.122, 0.149, 0.169, 0.177, 0.065, 0.004),
    ("gradient", "mixup"): (0.011, 0.009, 0.012, 0.016, 0.020, 0.025, 0.029, 0.033, 0.036, 0.038, 0.038, 0.025, 0.012),
}
MEASURES = {
    "misses": "misses, %",
    "gradient": "norm of the gradient",
    "departure": "departure from linearity",
    "label_distance": "distance to the mixed label",
    "logit_departure": "departure of the logits",
}
FACTORS = {"misses": 100, "gradient": 1, "departure": 1, "label_distance": 1, "logit_departure": 1}
FIGURES = {"a": "misses", "b": "gradient", "c": "departure"}


class PointMeasures(NamedTuple):
    """What a model does at convex combinations of examples: one number per combination, or their mean.

    Args:
        misses: 1 where the prediction is the label of none of the examples, else 0.
        departure: |f(sum w_k x_k) - sum w_k f(x_k)|_1, where f is the softmax; in [0, 2].
        label_distance: |f(sum w_k x_k) - sum w_k y_k|_1, where y is one-hot; in [0, 2].
        logit_departure: |z(sum w_k x_k) - sum w_k z(x_k)|_2, where z is the logits minus their mean over classes. The
            mean of many is divided by the mean of |z(x_k)|_2, as logits have no unit.

    """

    misses: Any
    departure: Any
    label_distance: Any
    logit_departure: Any


_LOGITS = PointMeasures._fields.index("logit_departure")


@dataclass(frozen=True)
class Interpolation:
    """What a model does at each of `LAMBDAS`, the mean over pairs; see `PointMeasures`.

    Args:
        misses: share of pairs.
        departure: of the softmax from linearity.
        label_distance: of the softmax to the mixed label.
        logit_departure: of the logits from linearity, in units of the mean norm of the logits at the examples.
        gradient: norm of the gradient of the mixed label's loss with respect to the input.

    """

    misses: list[float]
    departure: list[float]
    label_distance: list[float]
    logit_departure: list[float]
    gradient: list[float]


@dataclass(frozen=True)
class Triangles:
    """What a model does inside triangles of three examples, the mean over these; see `PointMeasures`."""

    misses: float
    departure: float
    label_distance: float
    logit_departure: float


@dataclass(frozen=True)
class InterpolatedRun(TrainedRun):
    """A run, and what its model does between training examples and between test examples, which are held out."""

    pairs: Interpolation
    triangles: Triangles
    held_out_pairs: Interpolation
    held_out_triangles: Triangles


def measure_points(logits: Tensor, at_examples: Tensor, labels: Tensor, weights: Tensor) -> PointMeasures:
    """Compare the logits [n, c] at combinations of k examples with those at the examples, [n, k, c].

    Labels are int64 [n, k], weights [n, k] or [k], of sum 1. Everything is computed in float64.
    """
    weights = weights.to(logits.device, torch.float64).expand(labels.shape)[:, :, None]
    z, corners = logits.double(), at_examples.double()
    p = z.softmax(-1)
    label = F.one_hot(labels, z.shape[1])
    return PointMeasures(
        (logits.argmax(1)[:, None] != labels).all(1).double(),
        (p - (weights * corners.softmax(-1)).sum(1)).abs().sum(1),
        (p - (weights * label).sum(1)).abs().sum(1),
        (_centered(z) - (weights * _centered(corners)).sum(1)).norm(dim=1),
    )


def _centered(logits: Tensor) -> Tensor:
    """Subtract the mean over classes, which no prediction depends on."""
    return logits - logits.mean(-1, keepdim=True)


def _norms(logits: Tensor) -> Tensor:
    """Return the norm of the centered logits at each of [n, k] examples."""
    return _centered(logits.double()).norm(dim=-1)


def interpolate(
    model: nn.Module, data: Data, first: Tensor, second: Tensor, on_progress: Callable[[int], None] = lambda pairs: None
) -> Interpolation:
    """Evaluate a model on interpolations of pairs of examples, x = lambda x_i + (1 - lambda) x_j.

    The gradient is that of the loss of the mixed label with respect to x, its norm the Euclidean one, in the units of the
    model's inputs. The rest is in `PointMeasures`.

    The model is in evaluation mode. `first` and `second` are int64 [pairs], indices into the data on the model's device,
    which are taken as they are, without augmentation. `on_progress` is called with the number of pairs that are done.
    """
    first, second = first.to(data.device), second.to(data.device)
    sums = torch.zeros(5, len(LAMBDAS), dtype=torch.float64)
    size, done = 0.0, 0
    for i, j in zip(first.split(_BATCH), second.split(_BATCH), strict=True):
        (x_i, y_i), (x_j, y_j) = data.batch(i, None), data.batch(j, None)
        with torch.no_grad():
            at_examples = torch.stack([model(x_i), model(x_j)], 1)
        size += float(_norms(at_examples).mean(1).sum())
        for at, share in enumerate(LAMBDAS):
            logits, gradient = _logits_and_gradient(model, torch.lerp(x_j, x_i, share), y_i, y_j, share)
            weights = torch.tensor([share, 1 - share], dtype=torch.float64)
            measured = measure_points(logits, at_examples, torch.stack([y_i, y_j], 1), weights)
            sums[:, at] += torch.stack([*measured, gradient.flatten(1).norm(dim=1).double()]).sum(1).cpu()
        done += len(i)
        on_progress(done)
    means = sums / done
    means[_LOGITS] /= size / done
    return Interpolation(*means.tolist())


def _logits_and_gradient(model: nn.Module, x: Tensor, y_i: Tensor, y_j: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return the logits at x, and the gradient of the loss of the mixed label with respect to x."""
    x.requires_grad_()
    logits = model(x)
    loss = share * F.cross_entropy(logits, y_i, reduction="sum")
    loss = loss + (1 - share) * F.cross_entropy(logits, y_j, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    return logits.detach(), gradient


@torch.no_grad()
def inside_triangles(model: nn.Module, data: Data, corners: Tensor, weights: Tensor) -> Triangles:
    """Evaluate a model on one convex combination of each of many triples of examples.

    The model is in evaluation mode. `corners` are int64 [n, 3], indices into the data, and weights [n, 3], of sum 1.
    """
    sums, size = torch.zeros(4, dtype=torch.float64), 0.0
    for rows, shares in zip(corners.to(data.device).split(_BATCH), weights.split(_BATCH), strict=True):
        batches = [data.batch(row, None) for row in rows.unbind(1)]
        inputs = torch.stack([x for x, _ in batches], 1)
        at_examples = torch.stack([model(x) for x, _ in batches], 1)
        of_inputs = shares.to(inputs).view(*shares.shape, *(1,) * (inputs.ndim - 2))
        measured = measure_points(
            model((of_inputs * inputs).sum(1)), at_examples, torch.stack([y for _, y in batches], 1), shares
        )
        sums += torch.stack(measured).sum(1).cpu()
        size += float(_norms(at_examples).mean(1).sum())
    means = sums / len(corners)
    means[_LOGITS] /= size / len(corners)
    return Triangles(*means.tolist())


def pairs(n: int, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Draw pairs of different examples among n, int64 [count] each; the same for every model."""
    if n < 2:
        raise UserError(f"pairs are drawn from 2 examples or more, found {n}")
    generator = Key(seed, 0, 0, 0, Stream.INTERPOLATION).generator()
    first = generator.integers(0, n, count)
    second = (first + generator.integers(1, n, count)) % n
    return torch.from_numpy(first), torch.from_numpy(second)


def triangles(n: int, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Draw triples of different examples among n >= 3, and weights, evenly from the simplex: Dirichlet(1, 1, 1).

    Returns:
        Indices int64 [count, 3] and weights float64 [count, 3]; the same for every model.

    """
    if n < 3:
        raise UserError(f"triples are drawn from 3 examples or more, found {n}")
    first, second = pairs(n, seed, count)
    generator = Key(seed, 0, 0, 0, Stream.INTERPOLATION).fold(0).generator()
    third = torch.from_numpy(generator.integers(0, n - 2, count))
    for taken in (torch.minimum(first, second), torch.maximum(first, second)):
        third = third + (third >= taken)
    return torch.stack([first, second, third], 1), torch.from_numpy(generator.dirichlet((1.0, 1.0, 1.0), count))


@dataclass(frozen=True, eq=False)
class RunPair:
    """Two trained models, A and B, and the training examples of both."""

    folders: tuple[Path, Path]
    models: tuple[nn.Module, nn.Module]
    data: Data


def load(a: Path, b: Path, models: Sequence[str] = ()) -> RunPair:
    """Read two finished runs on the same training examples; no code in the folders, or named in them, is run.

    Args:
        a: a run folder.
        b: another.
        models: factories, as `package.module:factory`, that may be imported where a run was trained with one.

    Raises:
        UserError: a folder is not a finished run or is damaged, the two were trained on different examples, or a run
            needs a factory that `models` does not name.

    """
    recipe, other = (runs.load_recipe(folder) for folder in (a, b))
    for name in models:
        if name not in (recipe.model, other.model):
            raise UserError(f"neither run was trained with {name!r}: {a} has {recipe.model!r}, {b} has {other.model!r}")
    for folder, each in ((a, recipe), (b, other)):
        runs.check_model(folder, each, models)
    decided, decided_too = loading.decided_by(recipe), loading.decided_by(other)
    for odd in sorted(name for name in {*decided, *decided_too} if decided.get(name) != decided_too.get(name)):
        raise UserError(
            f"{a} and {b} were trained on different examples ({odd}: {getattr(recipe, odd)} and {getattr(other, odd)}), "
            "so the same pairs mean nothing: train both on the same"
        )
    first, data = load_trained(a, loading.load(recipe)[0], models)
    second, _ = load_trained(b, data, models)
    return RunPair((a, b), (first, second), data)


def compare(pair: RunPair, on_progress: Callable[[str], None]) -> tuple[Interpolation, Interpolation]:
    """Evaluate two trained models on interpolations of the same pairs of training examples."""
    first, second = pairs(len(pair.data), 0, PAIRS)

    def measure(folder: Path, model: nn.Module) -> Interpolation:
        return interpolate(
            model, pair.data, first, second, lambda done: on_progress(f"{folder}: {done:,} of {PAIRS:,} pairs")
        )

    a, b = map(measure, pair.folders, pair.models)
    return a, b


def figure(curves: Sequence[tuple[str, str, Interpolation]]) -> dict[str, str]:
    """Draw figure 2, each curve with its name and its color: SVG by the letters of `FIGURES`."""
    names = ", ".join(name for name, _, _ in curves)
    return {
        letter: _draw(measure, f": {names}", [_curve(measure, name, kind, [of]) for name, kind, of in curves])
        for letter, measure in FIGURES.items()
    }


def _curve(measure: str, name: str, kind: str, runs: Sequence[Interpolation]) -> plots.Curve:
    """Return the mean over runs of a measure."""
    means = map(statistics.fmean, zip(*(getattr(run, measure) for run in runs), strict=True))
    return plots.Curve(name, kind, LAMBDAS, [FACTORS[measure] * mean for mean in means])


def _draw(measure: str, about: str, curves: Sequence[plots.Curve]) -> str:
    title = MEASURES[measure]
    label = f"{title.capitalize()} between training points{about}"
    return plots.lines(f"interpolation-{measure}", label, curves, "lambda", title)


SCALES: Mapping[Scale, TrainingScale] = {
    "smoke": TrainingScale(
        data="none (synthetic images)",
        minutes=0.1,
        deviations=("Synthetic images, a small model, one epoch, 20 pairs and triples: the figures mean nothing.",),
        recipe=quick,
    ),
    "small": TrainingScale(
        data="CIFAR-10",
        minutes=70,
        seeds=10,
        deviations=(
            "5,000 of the 50,000 training images, not augmented, so that the model of ERM fits them as the paper's did; "
            "PreAct ResNet-18 with an eighth of its width, 40 epochs instead of 200, bfloat16. Test images: the first "
            "4,000. Gradients depend on the model and cannot be compared in size.",
        ),
        recipe=overfitting,
    ),
    "paper": TrainingScale("CIFAR-10", 60 * 9, seeds=3, device="1 GPU", full=True),
}


class InterpolationStudy(TrainingStudy):
    """What do models predict between their training points, and is it linear there?

    Paper: two models on CIFAR-10, one trained by ERM, one by mixup, otherwise alike, at x = lambda x_i + (1 - lambda)
    x_j for random pairs of training points and 21 lambdas. Figure 2a: the share of predictions that are neither y_i nor y_j.
    Figure 2b: the norm of the gradient with respect to x. Model, number of pairs, norm and the label in the loss are
    not stated; the numbers here were digitized. The paper reads from it that mixup misses less and is smoother between
    points; at the points themselves its gradients are larger in the figure, too. That models behave linearly in between
    is the paper's central claim; it shows no measure of it.

    Here: PreAct ResNet-18 as in section 3.2, 1,000 pairs, not augmented; the loss of the mixed label, the Euclidean norm,
    in units of normalized pixels. Departure from linearity is |f(x) - (lambda f(x_i) + (1 - lambda) f(x_j))|_1, where f is
    the softmax (figure 2c). It is 0 for a model that answers all inputs alike, too; therefore it stands beside the
    distance to the mixed label, |f(x) - (lambda y_i + (1 - lambda) y_j)|_1. The same of 1,000 triples, each at a point drawn
    evenly from the triangle; and of 500 pairs and 1,000 triples of test examples, which no model has seen.

    Fixed before the runs: the claims are judged at lambda = 0.5, where the paper's curves are farthest apart, and by the
    softmax. The departure of the logits, in units of their norm at the examples, is in the table alone: mixup is trained to
    make the softmax linear, and a linear softmax has logits that are not.
    """

    name = "interpolation"
    section = "2, figure 2"
    title = "Between the training points"
    record = InterpolatedRun
    scales = SCALES

    def paper_cells(self) -> Sequence[Cell]:
        """Return the two models."""
        return [
            Cell("ERM", "erm", recipes.cifar10_preact18_erm()),
            Cell("mixup", "mixup", recipes.cifar10_preact18_mixup()),
        ]

    def evaluate_run(self, run: FinishedRun) -> dict[str, Any]:
        """Evaluate the model between its training examples and between test examples."""
        quick = run.recipe.dataset == "synthetic-images"
        measured: dict[str, Any] = {}
        for name, data, count in (("", run.training, PAIRS), ("held_out_", run.test, HELD_OUT_PAIRS)):
            n, seed = len(data), run.recipe.seed
            measured[f"{name}pairs"] = interpolate(run.model, data, *pairs(n, seed, 20 if quick else count))
            measured[f"{name}triangles"] = inside_triangles(
                run.model, data, *triangles(n, seed, 20 if quick else TRIANGLES)
            )
        return measured

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return the measures of figure 2 at the lambdas that were digitized, then what is not in the paper."""
        runs = self._by_method(scale, done)
        rows = [row for measure in ("misses", "gradient") for row in _printed(runs, measure)]
        middle = product(("pairs", "held_out_pairs"), MEASURES, (0.25, 0.5))
        for points, measure, share in middle:
            if points == "held_out_pairs" or measure not in ("misses", "gradient"):
                rows += _rows(runs, points, measure, share)
        for points, measure in product(("triangles", "held_out_triangles"), MEASURES):
            if measure != "gradient":
                rows += _rows(runs, points, measure, None)
        return rows

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return what the paper claims of models between training points."""
        runs = self._by_method(scale, done)

        def evidence(points: str, measure: str) -> Evidence:
            return _evidence(runs, points, measure)

        small = "" if self.scales[scale].full else "a small model of few images, which are not augmented"
        return (
            Claim(
                "mixup makes models behave linearly in between training examples",
                "1",
                (evidence("pairs", "departure"), evidence("pairs", "label_distance")),
                _joined("the paper has no measure of it", small),
            ),
            Claim(
                "between training points, mixup predicts less often what is the class of neither",
                "2, figure 2a",
                (evidence("pairs", "misses"),),
                small,
            ),
            Claim(
                "between training points, mixup has shorter gradients",
                "2, figure 2b",
                (evidence("pairs", "gradient"),),
                small,
            ),
            Claim(
                "its linear behavior reduces oscillations outside of the training examples",
                "2",
                tuple(evidence("held_out_pairs", measure) for measure in ("departure", "misses", "gradient")),
                _joined("read here as between test examples", small),
            ),
            Claim(
                "trained on pairs, mixup is linear inside triangles, too",
                "2",
                tuple(
                    evidence(points, measure)
                    for points in ("triangles", "held_out_triangles")
                    for measure in ("departure", "misses")
                ),
                _joined(
                    "the paper mixes three examples, but does not look at what models of pairs predict there", small
                ),
            ),
        )

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw figure 2: means over the seeds, the paper's dashed; its third part is not in the paper."""
        found = {method: [run.pairs for run in runs] for method, runs in self._by_method(scale, done).items() if runs}
        if not found:
            return ()
        paths = {folder / f"figure2{letter}.svg": measure for letter, measure in FIGURES.items()}
        for path, measure in paths.items():
            curves = [curve for method, runs in found.items() for curve in _curves(measure, method, runs)]
            dashed = ", the paper's curves dashed" if (measure, "ERM") in PUBLISHED else ""
            atomic.write(path, _draw(measure, f", ERM gray, mixup blue{dashed}", curves))
        return list(paths)

    def _by_method(self, scale: Scale, done: Results) -> dict[str, list[InterpolatedRun]]:
        return {cell.name: self.runs(scale, done, cell) for cell in self.cells(scale)}


_POINTS = {
    "pairs": "between training examples",
    "triangles": "inside triangles of training examples",
    "held_out_pairs": "between test examples",
    "held_out_triangles": "inside triangles of test examples",
}


def _joined(*limits: str) -> str:
    return "; ".join(filter(None, limits))


def _values(runs: Sequence[InterpolatedRun], points: str, measure: str, share: float | None) -> list[float]:
    """Return a measure of each run, of pairs at one lambda."""
    found = [getattr(getattr(run, points), measure) for run in runs]
    at = None if share is None else LAMBDAS.index(share)
    return [FACTORS[measure] * (value if at is None else value[at]) for value in found]


def _printed(runs: Mapping[str, Sequence[InterpolatedRun]], measure: str) -> Iterator[Row]:
    """Yield the rows of a measure of figure 2, at the lambdas that were digitized."""
    for i, share in enumerate(PRINTED):
        values = {method: _values(of, "pairs", measure, share) for method, of in runs.items()}
        published = {method: Published(PUBLISHED[measure, method][i]) for method in runs}
        yield from by_method(f"{{}}, {measure} at lambda = {share:.2f}", MEASURES[measure], values, published)


def _rows(runs: Mapping[str, Sequence[InterpolatedRun]], points: str, measure: str, share: float | None) -> list[Row]:
    """Return the rows of a measure that is not in the paper."""
    values = {method: _values(of, points, measure, share) for method, of in runs.items()}
    at = "" if share is None else f" at lambda = {share:.2f}"
    name = f"{{}}, {MEASURES[measure].removesuffix(', %')} {_POINTS[points]}{at}"
    return by_method(name, MEASURES[measure], values, note="not in the paper")


def _evidence(runs: Mapping[str, Sequence[InterpolatedRun]], points: str, measure: str) -> Evidence:
    """Return the differences of mixup and ERM, of pairs at lambda = 0.5."""
    share = LAMBDAS[MIDDLE] if points.endswith("pairs") else None
    erm, mixed = (_values(runs[method], points, measure, share) for method in ("ERM", "mixup"))
    at = "" if share is None else ", lambda = 0.5"
    title = MEASURES[measure].removesuffix(", %")
    unit = "points of misses" if measure == "misses" else title
    differences = tuple(b - a for a, b in zip(erm, mixed, strict=False))
    return Evidence(f"{title} {_POINTS[points]}{at}: mixup, alpha = 1, against ERM", unit, differences)


def _curves(measure: str, method: str, runs: Sequence[Interpolation]) -> Iterator[plots.Curve]:
    """Yield ours, and the paper's where it has one, which was printed up to the middle: both halves are the same."""
    kind = plots.color_of(method)
    yield _curve(measure, method, kind, runs)
    if (measure, method) not in PUBLISHED:
        return
    half, x = PUBLISHED[measure, method][:11], PRINTED[:11]
    yield plots.Curve(
        f"{method}, paper", kind, [*x, *(1 - at for at in x[-2::-1])], [*half, *half[-2::-1]], dashed=True
    )
