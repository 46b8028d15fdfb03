"""Mixtures of Gaussians in the plane, the data of the paper's figure 5, and how much of them a generator has found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

_MARGIN = 0.25  # of the plotted window around the data, as in the author's demo
_FAIR = 0.1  # a mode is covered from a tenth of its fair share on


@dataclass(frozen=True)
class Coverage:
    """What generated points have of the modes, within one radius.

    Args:
        modes: how many modes are covered. One is, when at least a tenth of its fair share (0.1 / number of modes) of all
            points lies within the radius of its center.
        share: how many of all points lie within the radius of some center, 0 to 1.

    """

    modes: int
    share: float


@dataclass(frozen=True)
class Modes:
    """Equally likely round Gaussians in the plane.

    Args:
        name: of the set.
        centers: their means (x, y).
        std: their standard deviation in each coordinate.

    """

    name: str
    centers: tuple[tuple[float, float], ...]
    std: float = 0.01

    @cached_property
    def _means(self) -> np.ndarray:
        return np.array(self.centers, dtype=float)

    def draw(self, generator: np.random.Generator, n: int) -> np.ndarray:
        """Draw `n` points, float64 [n, 2]."""
        which = generator.integers(0, len(self.centers), n)
        return self._means[which] + self.std * generator.standard_normal((n, 2))

    @property
    def window(self) -> float:
        """Half the side of the plotted square around the origin: the data and a margin."""
        return float(np.abs(self._means).max()) + 3 * self.std + _MARGIN

    def in_window(self, points: Tensor) -> Tensor:
        """Return which points [n, 2] are in the plotted square, bool [n]; those that are not finite are not."""
        return (points.abs() <= self.window).all(1)

    def uniform_baseline(self, deviations: float) -> float:
        """Return the share of points within such a radius of a center, if they were spread evenly over the plotted square.

        Holds where no two of these circles meet and none reaches over the edge.
        """
        return len(self.centers) * math.pi * (deviations * self.std) ** 2 / (2 * self.window) ** 2

    def coverage(self, points: Tensor, deviations: float) -> Coverage:
        """Measure points [n, 2] within a radius of `deviations` standard deviations; points that are not finite are nowhere.

        Of the data itself, 1 - exp(-deviations**2 / 2) lie within: 98.9 % for 3.
        """
        distance, nearest = torch.cdist(points.double(), torch.from_numpy(self._means)).min(1)
        counts = torch.bincount(nearest[distance <= deviations * self.std], minlength=len(self.centers))
        least = _FAIR * len(points) / len(self.centers)
        return Coverage(int((counts >= least).sum()), float(counts.sum()) / len(points))


def ring(modes: int = 8) -> Modes:
    """Return modes evenly on the unit circle.

    The paper gives neither radius, spacing nor standard deviation; these are those of the author's demo (8 modes, 0.01).
    """
    angles = [2 * math.pi * k / modes for k in range(modes)]
    return Modes("ring", tuple((math.sin(angle), math.cos(angle)) for angle in angles))


def grid(places: Sequence[float] = (-1.0, -0.5, 0.0, 0.5, 1.0)) -> Modes:
    """Return modes on a square grid; places and standard deviation are those of the author's demo, as for `ring`."""
    return Modes("grid", tuple((x, y) for x in places for y in places))
