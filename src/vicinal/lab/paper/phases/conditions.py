"""The points of the diagram of when mixup helps, and what mixup does at each of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vicinal.lab.paper.phases.runs import Grid, MethodScores, mixup
from vicinal.lab.paper.rows import ERM
from vicinal.lab.statistics import paired


@dataclass(frozen=True)
class Condition:
    """One point of the diagram."""

    family: str  # images or tables
    data: str
    width: int
    rows: int
    epochs: int
    noise: float

    @property
    def setting(self) -> str:
        """What the conditions share that have the same examples and the same network."""
        return f"{self.data}, width {self.width}, {self.rows} examples"


Measured = Mapping[Condition, Mapping[str, MethodScores]]
Of = Callable[[MethodScores], list[float]]

# name -> its unit, what is measured, and the factor to the unit
MEASURES: dict[str, tuple[str, Of, float]] = {
    "test error": ("points of test error", lambda scores: scores.test_error, 100.0),
    "test NLL": ("nats", lambda scores: scores.test_nll, 1.0),
}
TRAIN_ERROR: Of = lambda scores: scores.train_error  # noqa: E731

FACTORS: dict[str, tuple[Callable[[Condition], float | str], Callable[[Grid], Sequence[float | str]], str]] = {
    "data": (lambda condition: condition.data, lambda grid: grid.data, "{}"),
    "width": (lambda condition: condition.width, lambda grid: grid.widths, "width {}"),
    "rows": (lambda condition: condition.rows, lambda grid: grid.rows, "{} training examples"),
    "epochs": (lambda condition: condition.epochs, lambda grid: grid.epochs, "{} epochs"),
    "noise": (lambda condition: condition.noise, lambda grid: grid.noises, "{:.0%} label noise"),
}


def differences(of: Of, factor: float, method: MethodScores, other: MethodScores) -> list[float]:
    """Return how much a method exceeds another, one number per seed."""
    return [factor * (a - b) for a, b in zip(of(method), of(other), strict=True)]


def effects(measured: Measured, alpha: float, measure: str) -> dict[Condition, list[float]]:
    """Return mixup minus ERM per seed, for each condition that has this alpha and two seeds or more."""
    _, of, factor = MEASURES[measure]
    return {
        condition: differences(of, factor, methods[mixup(alpha)], methods[ERM])
        for condition, methods in measured.items()
        if mixup(alpha) in methods and len(methods[ERM].test_error) > 1
    }


def mean_by_seed(values: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the mean over conditions, one number per seed that all of them have."""
    return tuple(statistics.fmean(of) for of in zip(*values, strict=False))


def is_clear(effect: Sequence[float]) -> bool:
    """Return whether the 95 % interval of an effect excludes 0."""
    found = paired(effect, 0.0)
    return found.low > 0 or found.high < 0
