"""Section 3.2, figure 3: CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vicinal.lab import atomic
from vicinal.lab.paper import plots
from vicinal.lab.paper.claims import Claim, Evidence, Expected
from vicinal.lab.paper.study import Published, Results, Scale
from vicinal.lab.paper.training import SMOKE, Cell, TrainedRun, TrainingScale, TrainingStudy, narrowed
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import recipes

# model -> its title, and the beginning of its recipes' names
MODELS = {
    "preact-resnet-18": ("PreAct ResNet-18", "cifar10-preact18"),
    "wrn-28-10": ("WideResNet-28-10", "cifar10-wrn-28-10"),
    "densenet-bc-190-40": ("DenseNet-BC-190", "cifar10-densenet-190"),
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
DRAWN: dict[Scale, tuple[str, str]] = {
    "smoke": ("cifar10", "preact-resnet-18"),
    "paper": ("cifar10", "densenet-bc-190-40"),  # as figure 3b
}


ONE, LITTLE = "mixup, alpha = 1", "mixup, alpha = 0.2"
# of a regime: the vicinity, and the ending of its jobs' names
METHODS = {
    "ERM": ("ERM()", "erm"),
    ONE: ("Mixup(alpha=1.0)", "mixup"),
    LITTLE: ("Mixup(alpha=0.2)", "mixup-0.2"),
}


@dataclass(frozen=True, eq=False)
class Regime:
    """A way to train a narrow PreAct ResNet-18, chosen for what ERM does to its training images, before any run.

    Args:
        title: what ERM does.
        job: in its jobs' names.
        dataset: of the recipe.
        seeds: number of them, by method.
        recipe: turns the paper's recipe into that of the regime.

    """

    title: str
    job: str
    dataset: str
    seeds: Mapping[str, int]
    recipe: Callable[[Recipe], Recipe]


def overfitting(recipe: Recipe, images: int = 5000) -> Recipe:
    """Return a recipe by which ERM fits every training image: few of them, not augmented, 40 epochs."""
    return narrowed(recipe, 40, max_train_examples=images, max_test_examples=4000, augment=False)


def underfitting(recipe: Recipe) -> Recipe:
    """Return a recipe by which ERM does not come to fit its training images: all of them, augmented, 20 epochs."""
    return narrowed(recipe, 20)


OVERFITS = Regime("ERM overfits", "overfitting-", "cifar10", {"ERM": 10, ONE: 10, LITTLE: 10}, overfitting)
OVERFITS_100 = Regime(
    "ERM overfits", "overfitting-", "cifar100", {"ERM": 3, ONE: 3}, partial(overfitting, images=10_000)
)
UNDERFITS = Regime("ERM underfits", "", "cifar10", {"ERM": 3, ONE: 3}, underfitting)
REGIMES = (OVERFITS, OVERFITS_100, UNDERFITS)

SCALES: Mapping[Scale, TrainingScale] = {
    "smoke": SMOKE,
    "small": TrainingScale(
        data="CIFAR-10 and CIFAR-100",
        minutes=150,
        seeds=10,
        deviations=(
            "PreAct ResNet-18 with an eighth of its width (0.18 of 11.2 million parameters), bfloat16, in two regimes that "
            "were chosen before the runs by what ERM does. ERM overfits: 5,000 training images (CIFAR-100: 10,000), not "
            "augmented, 40 epochs, 4,000 test images; ERM comes to fit all training images. ERM underfits: all 50,000 "
            "images, augmented, 20 epochs. The paper conjectures that mixup gains more the more a model can fit: it is to "
            "gain in the first regime and may lose in the second. Both are shown.",
            "Seeds draw weights, order and mixing anew, not the training images: intervals are over training alone.",
        ),
        recipe=lambda recipe: recipe if recipe.model == "preact-resnet-18" else None,
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
    measures = (
        ("test error, %", lambda run: run.test_error.median_of_last_10),
        ("training error, %", lambda run: run.train_error),
        ("test NLL of the last epoch, nats", lambda run: run.test_nll),
    )

    def cells(self, scale: Scale) -> Sequence[Cell]:
        """Return the paper's cells; at the small scale those of the regimes, and the other models, which are not run."""
        cells = super().cells(scale)
        if scale != "small":
            return cells
        others = [cell for cell in cells if cell.recipe is None]
        return [cell for regime in REGIMES for cell in _cells(regime)] + others

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return the claims of section 3.2, and what the discussion says of alpha."""
        if scale != "small":
            return ()
        gain = "{}, {}: mixup, alpha = 1, against ERM"
        gains = {
            regime: Evidence(
                gain.format(DATASETS[regime.dataset], regime.title),
                "points of test error",
                self._differences(done, regime, ONE, "ERM", _error),
                contrast=regime is UNDERFITS,
            )
            for regime in REGIMES
        }
        limits = "a model of an eighth of the width on a part of the images; the paper's scale was not run"
        return (
            Claim("mixup lowers the test error on CIFAR-10", "3.2", (gains[OVERFITS], gains[UNDERFITS]), limits),
            Claim("mixup lowers the test error on CIFAR-100", "3.2", (gains[OVERFITS_100],), limits),
            Claim(
                "mixup and ERM converge at a similar speed to their best test errors",
                "3.2, figure 3b",
                (
                    Evidence(
                        "CIFAR-10, ERM overfits: epochs until the test error stays within a point of its final one, mixup "
                        "against ERM",
                        "epochs of 40",
                        self._differences(done, OVERFITS, ONE, "ERM", _epochs_to_converge),
                        "equal",
                        tolerance=4.0,
                    ),
                ),
                limits,
            ),
            Claim(
                "as alpha grows, the training error on real data rises, and the gap to the test error falls",
                "5",
                tuple(
                    Evidence(
                        f"CIFAR-10, ERM overfits: {what}, {larger} against {smaller}",
                        "points",
                        self._differences(done, OVERFITS, larger, smaller, of),
                        expected,
                    )
                    for smaller, larger in (("ERM", LITTLE), (LITTLE, ONE))
                    for what, of, expected in ALPHA_GROWS
                ),
                limits,
            ),
        )

    def _differences(
        self, done: Results, regime: Regime, method: str, other: str, of: Callable[[TrainedRun], float]
    ) -> tuple[float, ...]:
        return self.differences("small", done, _cell(regime, method), _cell(regime, other), of)

    def paper_cells(self) -> Sequence[Cell]:
        """Return the cells of figure 3a."""
        return [
            self._paper_cell(dataset, model, method, number)
            for (dataset, model), numbers in PUBLISHED.items()
            for method, number in zip(("ERM", "mixup"), numbers, strict=True)
        ]

    def _paper_cell(self, dataset: str, model: str, method: str, number: float) -> Cell:
        title, name = MODELS[model]
        base, kind = f"{DATASETS[dataset]}, {title}", method.lower()
        recipe = replace(recipes.find(f"{name}-{kind}"), dataset=dataset)
        against = None if method == "ERM" else f"{base}, ERM"
        return Cell(f"{base}, {method}", f"{dataset}-{model}-{kind}", recipe, [Published(number)], against)

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw figure 3b, test error by epoch: one per regime, or with the paper's curves at its own scale."""
        figures = [(f"figure3b{ending}", cells) for ending, cells in self._drawn(scale)]
        return [path for name, cells in figures for path in self._draw(scale, done, folder / f"{name}.svg", cells)]

    def _drawn(self, scale: Scale) -> Iterator[tuple[str, list[Cell]]]:
        """Yield the cells of each figure, by the ending of its name."""
        if scale == "small":
            yield from (("-" + regime.title.split()[-1] + f"-{regime.dataset}", _cells(regime)) for regime in REGIMES)
        else:
            yield "", [cell for cell in self.cells(scale) if cell.job.startswith("-".join(DRAWN[scale]))]

    def _draw(self, scale: Scale, done: Results, path: Path, cells: Sequence[Cell]) -> list[Path]:
        curves = [curve for cell in cells for curve in self._curves(scale, done, cell)]
        if not curves:
            return []
        about = cells[0].name.removesuffix(", ERM")
        label = f"Test error by epoch of ERM (gray) and of mixup (blue): {about}"
        atomic.write(path, plots.lines(f"cifar-{path.stem}", label, curves, "epoch", f"test error, %: {about}"))
        return [path]

    def _curves(self, scale: Scale, done: Results, cell: Cell) -> Iterator[plots.Curve]:
        runs = self.runs(scale, done, cell)
        if not runs or not cell.job.endswith(("-erm", "-mixup")):
            return
        method, kind = ("ERM", "erm") if cell.against is None else ("mixup", "mix")
        curves = zip(*(run.course["test_error"] for run in runs), strict=True)
        errors = [100 * statistics.fmean(values) for values in curves]
        yield plots.Curve(method, kind, range(1, len(errors) + 1), errors)
        if scale == "paper":
            yield plots.Curve(f"{method}, paper", kind, EPOCHS, CURVES[method], dashed=True)


def _cells(regime: Regime) -> list[Cell]:
    """Return the cells of a regime."""
    return [_cell(regime, method) for method in regime.seeds]


def _cell(regime: Regime, method: str) -> Cell:
    """Return a method's cell; the paper's numbers are those of ERM and of alpha = 1."""
    base, (vicinity, kind) = f"{DATASETS[regime.dataset]}, {regime.title}", METHODS[method]
    paper = replace(recipes.cifar10_preact18_erm(), dataset=regime.dataset, vicinity=vicinity)
    printed = dict(zip(("ERM", ONE), PUBLISHED[regime.dataset, "preact-resnet-18"], strict=True))
    return Cell(
        f"{base}, {method}",
        f"{regime.job}{regime.dataset}-preact-resnet-18-{kind}",
        regime.recipe(paper),
        [Published(printed[method])] if method in printed else [],
        None if method == "ERM" else f"{base}, ERM",
        seeds=regime.seeds[method],
    )


def _error(run: TrainedRun) -> float:
    return 100 * run.test_error.median_of_last_10


def _train_error(run: TrainedRun) -> float:
    return 100 * (math.nan if run.train_error is None else run.train_error)


def _gap(run: TrainedRun) -> float:
    return _error(run) - _train_error(run)


def _epochs_to_converge(run: TrainedRun) -> float:
    """Return after how many epochs the test error stays within a point of its median of the last ten."""
    errors = run.course["test_error"]
    late = [i for i, error in enumerate(errors, 1) if error > run.test_error.median_of_last_10 + 0.01]
    return float(late[-1] + 1 if late else 1)


# what the discussion says of a larger alpha: measures, and which way they go
ALPHA_GROWS: tuple[tuple[str, Callable[[TrainedRun], float], Expected], ...] = (
    ("training error", _train_error, "higher"),
    ("gap", _gap, "lower"),
)
