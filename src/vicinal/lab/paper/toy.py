"""Figure 1b: what ERM and mixup make of two rings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from vicinal.lab.errors import UserError
from vicinal.lab.paper import plots
from vicinal.lab.paper.study import AtScale, Job, Results, Row, Scale, Study
from vicinal.lab.training import stacked_mlp

METHODS: dict[str, vicinal.Vicinity] = {"ERM": vicinal.ERM(), "mixup": vicinal.Mixup(1.0)}
SIDE = 61  # points of the grid along each side
WINDOW = (-1.3, 1.3)
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
        return [Job(f"seed{seed}", partial(run, seed, at.epochs)) for seed in range(at.seeds)]

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return p at three radii, and how steeply it falls."""
        runs = [done[job.name] for job in self.jobs(scale) if job.name in done]
        profiles = {method: [run[method]["profile"] for run in runs] for method in METHODS}
        return [*_rows_of_places(profiles), *_rows_of_falls(profiles)]

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw figure 1b by the first seed that is done."""
        seed = next((seed for seed in range(SCALES[scale].seeds) if f"seed{seed}" in done), None)
        if seed is None:
            return ()
        points, classes = synthetic.rings(seed)
        panels = [(method, np.array(done[f"seed{seed}"][method]["surface"])) for method in METHODS]
        path = folder / "figure1b.svg"
        label = "Two rings of points and the probability of the inner class, by ERM with a sharp edge, by mixup fading"
        svg = plots.surfaces("toy", label, panels, points.numpy(), classes.numpy(), (*WINDOW, *WINDOW))
        atomic.write(path, svg)
        return (path,)


def _rows_of_places(profiles: Mapping[str, Sequence[Sequence[float]]]) -> Iterator[Row]:
    for place, radius in PLACES.items():
        for method, of_seeds in profiles.items():
            values = tuple(float(np.interp(radius, _RADII, profile)) for profile in of_seeds)
            against = None if method == "ERM" else f"ERM, {place}"
            yield Row(f"{method}, {place}", "p of the inner class", None, values, against)


def _rows_of_falls(profiles: Mapping[str, Sequence[Sequence[float]]]) -> Iterator[Row]:
    for method, of_seeds in profiles.items():
        values = tuple(float(-np.diff(profile).min() / (_RADII[1] - _RADII[0])) for profile in of_seeds)
        against = None if method == "ERM" else "ERM, steepest fall"
        yield Row(f"{method}, steepest fall", "of p, per outer radius", None, values, against)


def run(seed: int, epochs: int, folder: Path) -> dict[str, Any]:
    """Train on a seed's rings; return for each method p on the grid, bottom row first, and its mean at each radius."""
    points, classes = synthetic.rings(seed)
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    along = torch.from_numpy((_RADII[:, None, None] * circle).astype(np.float32)).flatten(0, 1)
    where = torch.cat([grid((*WINDOW, *WINDOW)), along])
    found = probabilities(points, classes, METHODS, where, epochs=epochs, batch_size=32, seed=seed)
    results = {}
    for method, p in found.items():
        surface, profile = p[: SIDE**2].view(SIDE, SIDE), p[SIDE**2 :].view(len(_RADII), -1).mean(1)
        results[method] = {"surface": _rounded(surface), "profile": _rounded(profile)}
    return results


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

    Args:
        points: float32 [n, 2].
        classes: int64 [n].
        methods: by name.
        where: float32 [m, 2].
        epochs: passes over the points.
        batch_size: points per step.
        seed: of the first weights, the order and the mixing.

    Returns:
        For each method float32 [m].

    """
    runs = [stacked_mlp.MLPRun(0, seed, vicinity) for vicinity in methods.values()]
    number = max(2, int(classes.max()) + 1)
    data = StackedSplit(points[None], classes[None])
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
    x = table.numbers - table.numbers.mean(0)
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
    columns, classes = table.numbers.shape[1] + table.codes.shape[1], len(table.classes)
    if table.numbers.shape[1] != 2 or columns != 2 or classes != 2 or table.missing_cells:
        raise UserError(
            f"a decision surface is drawn of two number columns without missing cells and two classes; {table.name} has "
            f"columns: {columns}, classes: {classes}, missing cells: {table.missing_cells}; drop the others"
        )
    if not methods:
        raise UserError("give one method or more, as {'ERM': vicinal.ERM()}")
    for name in ("epochs", "batch_size"):
        if training.get(name, 1) < 1:
            raise UserError(f"{name} must be 1 or more, got {training[name]}")
