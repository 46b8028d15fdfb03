"""Section 3.7, figure 5: does mixup keep a GAN from falling apart?"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

from vicinal.lab.paper.gans import figure
from vicinal.lab.paper.gans.methods import Method, Mixed, MixedBatches, Plain, Smoothed
from vicinal.lab.paper.gans.modes import grid, ring
from vicinal.lab.paper.gans.training import Settings, train
from vicinal.lab.paper.study import Job, Requirements, Results, Row, Scale, Study

SETS = {modes.name: modes for modes in (grid(), ring())}  # as in the figure, from above
METHODS: dict[str, Method] = {
    "erm": Plain(),
    "mixup-demo": MixedBatches(0.2),
    "mixup-formula": Mixed(0.2),
    "mixup-discriminator": Mixed(0.2, both=False),
    "smoothing": Smoothed(0.1),
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

_CLAIM = (
    "the paper gives no number; its figure shows mixup on all modes of the ring and most of the grid, while ERM's points "
    "have left the window by iteration 1,000"
)
# measure of a row -> where it stands in a job's results, and the factor to its unit
_MEASURES = {
    "modes covered within 3 sigma": ("modes_3", 1),
    "points within 3 sigma of a mode, %": ("share_3", 100),
    "modes covered within 10 sigma": ("modes_10", 1),
    "points within 10 sigma of a mode, %": ("share_10", 100),
    "points in the window, %": ("inside", 100),
}


@dataclass(frozen=True)
class _Scale:
    """What a size is."""

    seeds: int
    iterations: int
    width: int
    snapshots: tuple[int, ...]
    minutes: float


_SCALES: dict[Scale, _Scale] = {
    "smoke": _Scale(seeds=1, iterations=20, width=16, snapshots=(10, 20), minutes=0.1),
    "small": _Scale(seeds=5, iterations=4000, width=128, snapshots=(10, 100, 1000, 2000, 4000), minutes=13),
    "paper": _Scale(
        seeds=10, iterations=20_000, width=512, snapshots=(10, 100, 1000, 4000, 10_000, 20_000), minutes=1000
    ),
}


class GanStudy(Study):
    """GANs on a grid of 25 Gaussians and a ring of 8, with and without mixup in the discriminator.

    Paper: discriminator and generator have three hidden layers of 512 ReLU units, the generator's input
    is 2-D standard normal noise; 20,000 iterations with minibatches of 128, Adam with its default parameters, five steps
    of the discriminator before each of the generator; alpha = 0.2. All methods of a seed start from the same weights.

    What the paper leaves open, and what is done here: radius, spacing and standard deviation of the data are those of
    the author's demo (`gan/modes.py`); 20,000 counts steps of the generator (`gan/training.py`); the generator maximizes
    what the discriminator minimizes, as in the paper's formulas; lambda is drawn for each example. The demo does not
    compute the paper's formula, so both are run, and a third form with the formula for the discriminator and the plain
    game for the generator (`gan/methods.py`); besides, one-sided label smoothing, for scale.

    Published is a figure without numbers. Here the points that the generator makes from 10,000 fixed noise vectors are
    measured too: modes covered (at least a tenth of a mode's fair share of all points within 3, or 10, standard
    deviations of its center), the share of points near a mode, and the share inside the figure's window. Read together:
    points on one mode alone are all near a mode, and points spread evenly over the window have 12 % within 10 standard
    deviations on the grid, enough to cover every mode by that radius (4 % and none on the ring; by 3: 1 %, 0.3 %, none).
    """

    name: ClassVar[str] = "gan"
    section: ClassVar[str] = "3.7, figure 5"
    title: ClassVar[str] = "Stabilisation of generative adversarial models"

    def requirements(self, size: Scale) -> Requirements:
        """Nothing but time: the data are drawn."""
        return Requirements(data="none (drawn points)", minutes=_SCALES[size].minutes)

    def deviations(self, size: Scale) -> Sequence[str]:
        """Say what is smaller."""
        if size == "paper":
            return ()
        scale = _SCALES[size]
        return (
            f"Hidden layers have {scale.width} units, not 512.",
            f"Training lasts {scale.iterations:,} iterations of the generator, not 20,000.",
        )

    def jobs(self, size: Scale) -> Sequence[Job]:
        """Give one job for each set, method and seed; the first seed of all comes first."""
        return [
            Job(_job(data, method, seed), functools.partial(run, size, data, method, seed))
            for seed in range(_SCALES[size].seeds)
            for method in METHODS
            for data in SETS
        ]

    def rows(self, size: Scale, done: Results) -> Sequence[Row]:
        """Give the measures at the end of training."""
        return [
            Row(
                name=f"{data}, {TITLES[method]}: {measure.removesuffix(', %')}",
                measure=measure,
                values=tuple(factor * result[key][-1] for result in _of(size, done, data, method)),
                against=None if method == "erm" else f"{data}, {TITLES['erm']}: {measure.removesuffix(', %')}",
                note=_CLAIM if method.startswith("mixup") else "",
            )
            for data in SETS
            for measure, (key, factor) in _MEASURES.items()
            for method in METHODS
        ]

    def draw(self, size: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the points of the first seed as in figure 5, for two pairs of methods, and the measures by iteration."""
        paths = []
        for name, pair in (
            ("figure-5", ("erm", "mixup-demo")),
            ("figure-5-formula", ("mixup-formula", "mixup-discriminator")),
        ):
            panels = {
                (data, TITLES[method]): done[_job(data, method, 0)]["points"]
                for data in SETS
                for method in pair
                if _job(data, method, 0) in done
            }
            if panels:
                paths.append(folder / f"gan-{name}.svg")
                titles = [TITLES[method] for method in pair]
                figure.points(paths[-1], SETS, titles, _figure_snapshots(size), panels)
        curves = {
            (data, TITLES[method]): results
            for data in SETS
            for method in METHODS
            if (results := _of(size, done, data, method))
        }
        if curves:
            paths.append(folder / "gan-measures.svg")
            figure.measures(paths[-1], SETS, list(TITLES.values()), curves)
        return paths


def run(size: Scale, data: str, method: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train one GAN and measure it at its snapshots; of the first seed, the points in the figure's window are kept."""
    scale, modes = _SCALES[size], SETS[data]
    snapshots = train(
        Settings(
            modes,
            METHODS[method],
            seed,
            iterations=scale.iterations,
            snapshots=scale.snapshots,
            hidden=(scale.width,) * 3,
        ),
        folder,
    )
    result: dict[str, Any] = {
        "iterations": list(snapshots),
        "inside": [float(modes.inside(points).double().mean()) for points in snapshots.values()],
    }
    for radius in RADII:
        found = [modes.found(points, radius) for points in snapshots.values()]
        result[f"modes_{radius}"] = [f.modes for f in found]
        result[f"share_{radius}"] = [f.share for f in found]
    if seed == 0:
        result["points"] = {
            str(iteration): [[round(float(x), 3) for x in point] for point in shown[modes.inside(shown)]]
            for iteration, points in snapshots.items()
            if iteration in _figure_snapshots(size)
            for shown in [points[:_SHOWN]]
        }
    return result


def _job(data: str, method: str, seed: int) -> str:
    return f"{data}-{method}-{seed}"


def _of(size: Scale, done: Results, data: str, method: str) -> list[dict[str, Any]]:
    """Give the results of the first seeds that are done: those of two methods pair by their places."""
    names = (_job(data, method, seed) for seed in range(_SCALES[size].seeds))
    return [done[name] for name in takewhile(done.__contains__, names)]


def _figure_snapshots(size: Scale) -> list[int]:
    """Give the snapshots that the figure has; the one at 4,000 is measured alone in the paper's size."""
    return [i for i in _SCALES[size].snapshots if size != "paper" or i != 4000]
