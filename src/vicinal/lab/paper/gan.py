"""Section 3.7, figure 5: does mixup keep a GAN from falling apart?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from torch import Tensor

from vicinal.lab.paper.claims import Claim, Evidence
from vicinal.lab.paper.gans import figure
from vicinal.lab.paper.gans.methods import BatchMixupGan, GanMethod, MixupGan, PlainGan, SmoothedGan
from vicinal.lab.paper.gans.modes import Modes, grid, ring
from vicinal.lab.paper.gans.training import GanRun, GanSettings, train
from vicinal.lab.paper.rows import by_method, first_done
from vicinal.lab.paper.study import AtScale, Job, Results, Row, Scale, Study
from vicinal.lab.records import to_json

SETS = {modes.name: modes for modes in (grid(), ring())}  # as in the figure, from above
METHODS: dict[str, GanMethod] = {
    "erm": PlainGan(),
    "mixup-demo": BatchMixupGan(0.2),
    "mixup-formula": MixupGan(0.2),
    "mixup-discriminator": MixupGan(0.2, both=False),
    "smoothing": SmoothedGan(0.1),
}
TITLES = {
    "erm": "ERM",
    "mixup-demo": "mixup as in the author's demo",
    "mixup-formula": "mixup by the formula",
    "mixup-discriminator": "mixup by the formula, for the discriminator alone",
    "smoothing": "label smoothing, one-sided",
}
RADII = (3, 10)  # in standard deviations: 3 holds 98.9 % of the data; 10 is a fifth of the grid's spacing
_SHOWN = 1000  # points in a panel of the figure
_FIGURES = {
    "gan-figure-5.svg": ("erm", "mixup-demo"),
    "gan-figure-5-formula.svg": ("mixup-formula", "mixup-discriminator"),
}

_FIGURE = (
    "the paper gives no number; its figure shows mixup on all modes of the ring and most of the grid, while ERM's points "
    "have left the window by iteration 1,000"
)
# what a reader must know of a method's rows
_NOTES = {
    "mixup-demo": f"the variant of the author's demo, which made such figures; {_FIGURE}",
    "mixup-formula": f"the formula as printed, by which the generator, too, maximizes the mixed loss; {_FIGURE}",
    "mixup-discriminator": "neither the paper's formula nor the author's demo",
}
_WINDOW = "points in the window"
_PERCENT = "% of the points"
_LIMITS = (
    "a quarter of the width and a fifth of the iterations, five seeds; which differences are tested was settled after these "
    "runs"
)
# measure of a row -> where it stands in a job's results, and the factor to its unit
_MEASURES = {
    "modes covered within 3 sigma": ("modes_3", 1),
    "points within 3 sigma of a mode, %": ("share_3", 100),
    "modes covered within 10 sigma": ("modes_10", 1),
    "points within 10 sigma of a mode, %": ("share_10", 100),
    "points in the window, %": ("inside", 100),
}

Runs = dict[tuple[str, str], list[GanRun]]  # by set and method


@dataclass(frozen=True)
class GanScale(AtScale):
    """A scale of the study of GANs: iterations of the generator, units per layer, and when points are measured.

    `shown` are the snapshots of the figure.
    """

    iterations: int = 20_000
    width: int = 512
    snapshots: tuple[int, ...] = (10, 100, 1000, 4000, 10_000, 20_000)
    shown: tuple[int, ...] = (10, 100, 1000, 10_000, 20_000)


SCALES: Mapping[Scale, GanScale] = {
    "smoke": GanScale(
        data="none (synthetic points)",
        minutes=0.1,
        deviations=(
            "Hidden layers have 16 units, not 512.",
            "Training lasts 20 iterations of the generator, not 20,000.",
        ),
        iterations=20,
        width=16,
        snapshots=(10, 20),
        shown=(10, 20),
    ),
    "small": GanScale(
        data="none (synthetic points)",
        minutes=13,
        seeds=5,
        deviations=(
            "Hidden layers have 128 units, not 512.",
            "Training lasts 4,000 iterations of the generator, not 20,000.",
            "Five seeds; the paper shows one.",
        ),
        iterations=4000,
        width=128,
        snapshots=(10, 100, 1000, 2000, 4000),
        shown=(10, 100, 1000, 2000, 4000),
    ),
    "paper": GanScale("none (synthetic points)", 1000, seeds=10, full=True),
}


class GanStudy(Study):
    """Does mixup in the discriminator keep a GAN from falling apart, on a grid of 25 Gaussians and on a ring of 8?

    Paper: discriminator and generator have three hidden layers of 512 ReLU units, the generator's input
    is 2-D standard normal noise; 20,000 iterations with minibatches of 128, Adam with its default parameters, five steps
    of the discriminator before each of the generator; alpha = 0.2. All methods of a seed start from the same weights.

    What the paper leaves open, and what is done here: radius, spacing and standard deviation of the data are those of
    the author's demo (`gans/modes.py`); 20,000 counts steps of the generator (`gans/training.py`); the generator maximizes
    what the discriminator minimizes, as in the paper's formulas; lambda is drawn for each example. The demo does not
    compute the paper's formula, so both are run, and a third form with the formula for the discriminator and the plain
    game for the generator (`gans/methods.py`); besides, one-sided label smoothing, for scale.

    Published is a figure without numbers. Here the points that the generator makes from 10,000 fixed noise vectors are
    measured too: modes covered (at least a tenth of a mode's fair share of all points within 3, or 10, standard
    deviations of its center), the share of points near a mode, and the share inside the figure's window. Read together:
    points on one mode alone are all near a mode, and points spread evenly over the window have 12 % within 10 standard
    deviations on the grid, enough to cover every mode by that radius (4 % and none on the ring; by 3: 1 %, 0.3 %, none).
    """

    name = "gan"
    section = "3.7, figure 5"
    title = "Stabilization of generative adversarial networks"
    scales = SCALES

    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Return one job per set, method and seed; the first seed of all comes first."""
        return [
            Job(_job(data, method, seed), partial(run, scale, data, method, seed), kind=GanRun)
            for seed, method, data in product(range(SCALES[scale].seeds), METHODS, SETS)
        ]

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return the measures at the end of training."""
        runs, rows = _finished(scale, done), []
        for data, (measure, (key, factor)) in product(SETS, _MEASURES.items()):
            values = {TITLES[name]: [factor * getattr(run, key)[-1] for run in runs[data, name]] for name in METHODS}
            of_methods = by_method(f"{data}, {{}}: {measure.removesuffix(', %')}", measure, values)
            rows += [replace(row, note=_NOTES.get(name, "")) for name, row in zip(METHODS, of_methods, strict=True)]
        return rows

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return what figure 5 shows, by the author's demo and by the paper's formula."""
        if scale == "smoke":
            return ()
        runs = _finished(scale, done)
        demo, formula = "mixup-demo", "mixup-formula"
        return (
            Claim(
                "mixup, as the author's demo has it, keeps the points of a GAN where the data are",
                "3.7, figure 5",
                _against_erm(runs, demo, _WINDOW, _PERCENT, _inside),
                _LIMITS,
            ),
            Claim(
                "mixup by the formula that the paper prints keeps the points of a GAN where the data are",
                "3.7",
                _since_the_start(runs, formula) + _against_erm(runs, formula, _WINDOW, _PERCENT, _inside),
                _LIMITS,
            ),
            Claim(
                "with mixup, as the author's demo has it, the points cover more modes",
                "3.7, figure 5",
                _against_erm(runs, demo, "modes covered within 3 sigma", "modes", lambda run: run.modes_3[-1]),
                _LIMITS,
            ),
        )

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the points of the first seed as in figure 5, for two pairs of methods, and the measures by iteration."""
        curves = {(data, TITLES[method]): runs for (data, method), runs in _finished(scale, done).items() if runs}
        if not curves:
            return ()
        paths = []
        for name, methods in _FIGURES.items():
            titles = [TITLES[method] for method in methods]
            panels = {place: runs[0].points or {} for place, runs in curves.items() if place[1] in titles}
            if panels:
                paths.append(folder / name)
                figure.points(paths[-1], SETS, titles, SCALES[scale].shown, panels)
        paths.append(folder / "gan-measures.svg")
        figure.measures(paths[-1], SETS, list(TITLES.values()), curves)
        return paths


def run(scale: Scale, data: str, method: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train one GAN and measure it at its snapshots; of the first seed, the points in the figure's window are kept."""
    at, modes = SCALES[scale], SETS[data]
    settings = GanSettings(modes, METHODS[method], seed, at.iterations, at.snapshots, hidden=(at.width,) * 3)
    snapshots = train(settings, folder)
    near, far = ([modes.coverage(points, radius) for points in snapshots.values()] for radius in RADII)
    run = GanRun(
        list(snapshots),
        [float(modes.in_window(points).double().mean()) for points in snapshots.values()],
        [each.modes for each in near],
        [each.share for each in near],
        [each.modes for each in far],
        [each.share for each in far],
        {str(i): _shown(modes, snapshots[i]) for i in snapshots if i in at.shown} if seed == 0 else None,
    )
    return {name: value for name, value in to_json(run).items() if value is not None}


def _against_erm(runs: Runs, method: str, what: str, unit: str, of: Callable[[GanRun], float]) -> tuple[Evidence, ...]:
    """Return how much a method exceeds ERM in a measure at the end of training, for each set."""
    return tuple(
        Evidence(
            f"{data}, {TITLES[method]}: {what}, against ERM",
            unit,
            tuple(of(run) - of(erm) for run, erm in zip(runs[data, method], runs[data, "erm"], strict=False)),
            "higher",
        )
        for data in SETS
    )


def _since_the_start(runs: Runs, method: str) -> tuple[Evidence, ...]:
    """Return how much of the points a method brought into the window by the end of training, for each set."""
    return tuple(
        Evidence(
            f"{data}, {TITLES[method]}: {_WINDOW} at the end of training, against its first snapshot",
            _PERCENT,
            tuple(_inside(run) - 100 * run.inside[0] for run in runs[data, method]),
            "higher",
        )
        for data in SETS
    )


def _inside(run: GanRun) -> float:
    return 100 * run.inside[-1]


def _shown(modes: Modes, points: Tensor) -> list[list[float]]:
    first = points[:_SHOWN]
    return [[round(float(x), 3) for x in point] for point in first[modes.in_window(first)]]


def _job(data: str, method: str, seed: int) -> str:
    return f"{data}-{method}-{seed}"


def _finished(scale: Scale, done: Results) -> Runs:
    """Return the first seeds that are done, by set and method: those of two methods pair by their places."""
    seeds = range(SCALES[scale].seeds)
    return {
        (data, method): first_done(GanRun, done, (_job(data, method, seed) for seed in seeds))
        for data, method in product(SETS, METHODS)
    }
