"""Manifold intrusion: where do mixed examples land? Measured on the data alone, before any training.

Mixup asks a model to be linear between two examples. The data contradict it where a mixed example lies among examples
whose labels are not the mixed one: there the labels conflict (Guo, Mao and Zhang, 2019). Draw pairs of rows and weights
as mixup does, mix the standardized inputs, and ask the rows that lie nearest, the two parents left out:

    distance    one minus the weight that the mixed label gives to a neighbor's class, averaged over the nearest rows:
                the total variation distance between the mixed label and theirs. 0: they have its label; 1: nothing of it
    floor       the least it can be with neighbors of one class: one minus the greater weight of the mixed label
    unmixed     the distance where nothing is mixed: how often the neighbors of a row are of other classes than the row
    conflict    distance - floor - unmixed: what mixing adds to the contradiction that is in the data anyway
    third class how often the nearest row is of neither of the two classes

Where classes are two clouds apart, conflict and third class are 0 for large clouds of many rows; where a third class lies
between two, both are great. Overlap of classes alone raises `unmixed`, and not the conflict. A conflict below 0 says that
neighbors differ so often that soft labels fit them better than hard ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.keyed import Key
from vicinal.lab.errors import UserError
from vicinal.lab.statistics import Interval
from vicinal.lab.streams import Stream

ALPHAS = (0.1, 0.4, 1.0)
HEADLINE = 1.0  # the alpha whose conflict is laid beside what was measured
NEIGHBORS = 5
ROWS = 5000  # of a larger table, as many drawn at random
DRAWS = 5000

EVIDENCE = Path(__file__).with_name("intrusion.json")  # written by `python -m vicinal.lab.paper.intrusion`

_BLOCK = 2**21  # distances held at a time


class Pairs(NamedTuple):
    """Keyed draws: two different rows, and for each alpha the weight of the first."""

    first: NDArray[np.int64]  # [m]
    second: NDArray[np.int64]  # [m]
    weights: NDArray[np.float64]  # [alphas, m]


@dataclass(frozen=True)
class MixedPoints:
    """What mixing with one alpha does; each a mean over draws with its 95 % interval.

    The intervals hold the luck of the draws alone: other rows of the same kind would vary more.
    """

    alpha: float
    conflict: Interval
    third_class: Interval
    distance: Interval
    floor: Interval


@dataclass(frozen=True)
class Diagnosis:
    """The indicator of one table."""

    rows: int  # how many took part: all, or `ROWS` drawn at random
    inputs: int  # width of the encoding
    neighbors: int  # how many were asked: `NEIGHBORS`, or as many as there are without the parents
    draws: int  # pairs drawn
    unmixed: Interval  # see the module
    mixed: tuple[MixedPoints, ...]  # one for each alpha

    def at(self, alpha: float) -> MixedPoints:
        """Return what was found at one alpha; UserError where it was not measured."""
        for mixed in self.mixed:
            if mixed.alpha == alpha:
                return mixed
        asked = ", ".join(f"{mixed.alpha:g}" for mixed in self.mixed)
        raise UserError(f"alpha {alpha:g} was not measured; measured were {asked}")


def measure(
    inputs: NDArray[Any],
    labels: NDArray[Any],
    alphas: Sequence[float] = ALPHAS,
    *,
    name: str = "this table",
    seed: int = 0,
    rows: int = ROWS,
    draws: int = DRAWS,
) -> Diagnosis:
    """Measure the indicator.

    Neighbors are by Euclidean distance among the rows that take part, without the two parents (a copy of a parent
    elsewhere in the table is a row like any other). Rows are in keyed random order; of rows at equal distance, any may
    be taken.

    Args:
        inputs: [n, D], as a model takes them.
        labels: class indices [n].
        alphas: mixup's, each > 0 and given once.
        name: of the data, for errors.
        seed: of the rows and draws; alphas share their pairs.
        rows: at most this number of rows takes part, 3 or more: two parents and a neighbor.
        draws: pairs, 2 or more: the intervals are over them.

    Raises:
        UserError: for an alpha that is not a finite number > 0 or is given twice, none, too few rows or draws, or rows
            whose inputs are all the same.

    """
    _check(alphas, name, len(labels), rows, draws)
    key = Key(seed, 0, 0, 0, Stream.DIAGNOSE)
    part = key.fold(0).generator().permutation(len(labels))[:rows]
    x, y = inputs[part].astype(np.float64), labels[part].astype(np.int64)
    if (x == x[0]).all():
        raise UserError(
            f"the inputs of all {len(part)} rows of {name} are the same: no row is nearer than another, so neighbors "
            "cannot say anything"
        )
    pairs = draw_pairs(len(part), alphas, draws, key.fold(1))
    neighbors = min(NEIGHBORS, len(part) - 2)
    distance, nearest = _nearest(x, y, pairs, neighbors)
    unmixed = distance[-1]
    parents = np.stack([y[pairs.first], y[pairs.second]])
    floor = 1 - np.where(parents[0] == parents[1], 1.0, np.maximum(pairs.weights, 1 - pairs.weights))
    mixed = [
        MixedPoints(
            alpha,
            conflict=_interval(distance[i] - floor[i] - unmixed),
            third_class=_interval((nearest[i] != parents).all(0).astype(np.float64)),
            distance=_interval(distance[i]),
            floor=_interval(floor[i]),
        )
        for i, alpha in enumerate(alphas)
    ]
    return Diagnosis(len(part), x.shape[1], neighbors, draws, _interval(unmixed), tuple(mixed))


def _check(alphas: Sequence[float], name: str, n: int, rows: int, draws: int) -> None:
    if not alphas:
        raise UserError("give at least one alpha")
    for alpha in alphas:
        if not (alpha > 0 and math.isfinite(alpha)):
            raise UserError(f"alpha must be a finite number > 0, got {alpha}")
        if alphas.count(alpha) > 1:
            raise UserError(f"alpha {alpha:g} is given {alphas.count(alpha)} times: give each once")
    if min(rows, n) < 3:
        raise UserError(
            f"two rows are mixed and a third is asked, so 3 are needed: {name} has {n}, of which rows={rows} may take part"
        )
    if draws < 2:
        raise UserError(f"intervals are over the draws, so draws must be 2 or more, got {draws}")


def draw_pairs(rows: int, alphas: Sequence[float], draws: int, key: Key) -> Pairs:
    """Draw pairs of different rows, and weights from Beta(alpha, alpha) for each alpha."""
    generator = key.fold(0).generator()
    first = generator.integers(rows, size=draws)
    second = (first + generator.integers(1, rows, size=draws)) % rows
    weights = [key.fold(1 + i).generator().beta(alpha, alpha, draws) for i, alpha in enumerate(alphas)]
    return Pairs(first, second, np.stack(weights))


def _nearest(
    x: NDArray[np.float64], y: NDArray[np.int64], pairs: Pairs, neighbors: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the distance and the class of the nearest row, [alphas + 1, m], the last of the first parents unmixed.

    The squared distance of w a + (1 - w) b to c is w |a - c|^2 + (1 - w) |b - c|^2 - w (1 - w) |a - b|^2, and the last
    term is the same for every c: the distances of the parents, found once, rank the rows for every weight. They are
    found a block of draws at a time. Each parent is put at infinity, so that its distance to itself never counts.
    """
    weights = np.concatenate([pairs.weights, np.ones((1, len(pairs.first)))])
    distance, nearest = np.empty(weights.shape), np.empty(weights.shape, dtype=np.int64)
    block = max(1, _BLOCK // len(x))
    squares = np.einsum("np,np->n", x, x)
    for start in range(0, len(pairs.first), block):
        of = slice(start, start + block)
        parents = pairs.first[of], pairs.second[of]
        # |a - c|^2 without |a|^2, which is the same for every c
        a, b = (squares - 2 * (x[parent] @ x.T) for parent in parents)
        line = np.arange(len(a))
        for i, weight in enumerate(weights[:, of, None]):
            ranked = weight * a + (1 - weight) * b
            ranked[line, parents[0]] = ranked[line, parents[1]] = np.inf
            found = np.argpartition(ranked, neighbors - 1, axis=1)[:, :neighbors]
            classes = y[found]
            support = [classes == y[parent, None] for parent in parents]
            distance[i, of] = 1 - (weight * support[0] + (1 - weight) * support[1]).mean(1)
            nearest[i, of] = classes[line, np.take_along_axis(ranked, found, 1).argmin(1)]
    return distance, nearest


def _interval(values: NDArray[np.float64]) -> Interval:
    """Return the mean over draws with 1.96 standard errors."""
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


@cache
def evidence() -> dict[str, Any]:
    """Return what the study of manifold intrusion measured: indicator, effect and rank correlation over many sets."""
    return json.loads(EVIDENCE.read_text(encoding="utf-8"))
