"""Figure 1b: what ERM and mixup make of two rings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vicinal
from vicinal.lab import atomic
from vicinal.lab.data import synthetic
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.table import Table
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.errors import UserError
from vicinal.lab.paper import plots
from vicinal.lab.paper.claims import Claim, Evidence
from vicinal.lab.paper.rows import by_method, first_done
from vicinal.lab.paper.study import AtScale, Job, Results, Row, Scale, Study
from vicinal.lab.records import to_json
from vicinal.lab.training import stacked_mlp

METHODS: dict[str, vicinal.Vicinity] = {"ERM": vicinal.ERM(), "mixup": vicinal.Mixup(1.0)}
SIDE = 61  # points of the grid along each side
WINDOW = (-1.3, 1.3, -1.3, 1.3)
PLACES = {"on the inner ring": synthetic.RATIO, "half-way": (1 + synthetic.RATIO) / 2, "on the outer ring": 1.0}
_RADII = np.linspace(0.0, 1.2, 61)


@dataclass(frozen=True)
class ToyScale(AtScale):
    """A scale of the study of two rings."""

    epochs: int = 200


SCALES: Mapping[Scale, ToyScale] = {
    "smoke": ToyScale(
        data="none (synthetic points)",
        minutes=0.05,
        seeds=2,
        deviations=("10 epochs and 2 seeds: the figures mean nothing.",),
        epochs=10,
    ),
    "small": ToyScale("none (synthetic points)", 1, seeds=10),  # the problem is small as it is
    "paper": ToyScale("none (synthetic points)", 1, seeds=10, full=True),
}


@dataclass(frozen=True)
class RingProbabilities:
    """What a job returned of a method: p of the inner class on the grid, bottom row first, and its mean at each radius."""

    surface: list[list[float]]
    profile: list[float]


class ToyStudy(Study):
    """What does mixup do to a decision surface?

    Paper: a toy problem in the plane, drawn once with ERM and once with mixup; model and training are not described,
    alpha = 1 (recalled). Digitized from the figure: 256 points of one class on an inner ring, 102 of the other on an
    outer one, radii 0.30 to 1, spread 5 % of the outer radius.

    Here: such rings, drawn by a seed; two hidden layers of 128 ReLU units, Adam, 200 epochs in batches of 32, alpha = 1.
    The image shows p of the inner class by the first seed. The paper prints no number: ours are p at three radii, and
    the steepest fall of p along the radius, averaged over the angle.
    """

    name = "toy"
    section = "2, figure 1b"
    title = "Two rings"
    scales = SCALES

    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Train both on each seed's rings."""
        at = SCALES[scale]
        return [
            Job(f"seed{seed}", partial(run, seed, at.epochs), kind=dict[str, RingProbabilities])
            for seed in range(at.seeds)
        ]

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return p at three radii, and how steeply it falls."""
        runs = first_done(dict[str, RingProbabilities], done, [job.name for job in self.jobs(scale)])
        profiles = {method: [run[method].profile for run in runs] for method in METHODS}
        rows = []
        for place, radius in PLACES.items():
            values = {
                method: [float(np.interp(radius, _RADII, of)) for of in found] for method, found in profiles.items()
            }
            rows += by_method(f"{{}}, {place}", "p of the inner class", values)
        falls = {method: [_steepest_fall(of) for of in found] for method, found in profiles.items()}
        return rows + by_method("{}, steepest fall", "of p, per outer radius", falls)

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return the claim of figure 1b."""
        if scale == "smoke":
            return ()
        runs = first_done(dict[str, RingProbabilities], done, [job.name for job in self.jobs(scale)])
        falls = tuple(_steepest_fall(run["mixup"].profile) - _steepest_fall(run["ERM"].profile) for run in runs)
        steepest = "steepest fall of p along the radius, mixup against ERM"
        return (
            Claim(
                "mixup makes the estimate of the class change smoothly from one class to the other",
                "2, figure 1b",
                (Evidence(steepest, "of p, per outer radius", falls),),
                "two rings drawn anew by each seed; the paper describes neither its model nor its training",
            ),
        )

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw figure 1b by the first seed."""
        runs = first_done(dict[str, RingProbabilities], done, ["seed0"])
        if not runs:
            return ()
        points, classes = synthetic.rings(0)
        panels = [(method, np.array(found.surface)) for method, found in runs[0].items()]
        path = folder / "figure1b.svg"
        label = "Two rings of points and the probability of the inner class, by ERM with a sharp edge, by mixup fading"
        atomic.write(path, plots.surfaces("toy", label, panels, points.numpy(), classes.numpy(), WINDOW))
        return (path,)


def _steepest_fall(profile: Sequence[float]) -> float:
    return float(-np.diff(profile).min() / (_RADII[1] - _RADII[0]))


def run(seed: int, epochs: int, folder: Path) -> dict[str, Any]:
    """Train on a seed's rings; return the `RingProbabilities` of each method."""
    points, classes = synthetic.rings(seed)
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    along = torch.from_numpy((_RADII[:, None, None] * circle).astype(np.float32)).flatten(0, 1)
    where = torch.cat([grid(WINDOW), along])
    found = probabilities(points, classes, METHODS, where, epochs=epochs, batch_size=32, seed=seed)
    results = {}
    for method, p in found.items():
        surface, circles = p[: SIDE**2].view(SIDE, SIDE), p[SIDE**2 :].view(len(_RADII), -1)
        results[method] = RingProbabilities(_rounded(surface), _rounded(circles.mean(1)))
    return to_json(results)


def _rounded(p: Tensor) -> Any:
    return np.round(p.double().numpy(), 4).tolist()


def grid(window: tuple[float, float, float, float], side: int = SIDE) -> Tensor:
    """Return the points of a grid over left, right, bottom, top: float32 [side * side, 2], the bottom row first."""
    x, y = torch.linspace(window[0], window[1], side), torch.linspace(window[2], window[3], side)
    return torch.stack([x.expand(side, side), y[:, None].expand(side, side)], dim=2).flatten(0, 1)


def probabilities(
    points: Tensor,
    classes: Tensor,
    methods: Mapping[str, vicinal.Vicinity],
    where: Tensor,
    *,
    epochs: int = 200,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Train the model for tables by each method on points of the plane, and return p of class 1 elsewhere.

    Points are float32 [n, 2] with classes int64 [n]; `where` is float32 [m, 2], and so is p of each method [m]. The seed is
    that of the first weights, the order and the mixing.
    """
    runs = [stacked_mlp.MLPRun(0, seed, vicinity) for vicinity in methods.values()]
    number = max(2, int(classes.max()) + 1)
    data = StackedSplit(TableInputs(points[None]), classes[None])
    models = stacked_mlp.train(runs, data, number, stacked_mlp.MLPTraining(epochs=epochs, batch_size=batch_size)).models
    return dict(zip(methods, models.outputs(where).softmax(2)[:, :, 1], strict=True))


def of_table(table: Table, methods: Mapping[str, vicinal.Vicinity], path: Path | str, **training: int) -> None:
    """Draw the decision surfaces of any table with two number columns and two classes, as an SVG file.

    Args:
        table: its columns are standardized.
        methods: by name, one or more, two in a row.
        path: of the file, in a folder that exists.
        training: epochs, batch_size and seed, as of `probabilities`.

    Raises:
        UserError: the table is for regression, has another number of columns or of classes, or cells are missing; there
            is not any method, or not such a folder; epochs or batch_size are less than 1.

    """
    _check(table, methods, training)
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{path} is not the path of a file in a folder that exists")
    x = table.numeric - table.numeric.mean(0)
    x = x / np.where(x.std(0) > 0, x.std(0), 1.0)
    low, high = x.min(0) - 0.3, x.max(0) + 0.3
    window = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    points, classes = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(table.target.astype(np.int64))
    found = probabilities(points, classes, methods, grid(window), **training)
    panels = [(name, p.view(SIDE, SIDE).double().numpy()) for name, p in found.items()]
    label = f"Decision surfaces of {', '.join(methods)} on {table.name}"
    atomic.write(path, plots.surfaces("surface", label, panels, points.numpy(), classes.numpy(), window))


def _check(table: Table, methods: Mapping[str, vicinal.Vicinity], training: Mapping[str, int]) -> None:
    if table.task != "classification":
        raise UserError(f"{table.name} is regression, and a decision surface is that of two classes: give such a table")
    columns, classes = table.numeric.shape[1] + table.codes.shape[1], len(table.classes)
    if table.numeric.shape[1] != 2 or columns != 2 or classes != 2 or table.missing_cells:
        raise UserError(
            f"a decision surface is drawn of two number columns without missing cells and two classes; {table.name} has "
            f"columns: {columns}, classes: {classes}, missing cells: {table.missing_cells}; drop the others"
        )
    if not methods:
        raise UserError("give one method or more, as {'ERM': vicinal.ERM()}")
    for name in ("epochs", "batch_size"):
        if training.get(name, 1) < 1:
            raise UserError(f"{name} must be 1 or more, got {training[name]}")
