"""Synthetic data: rings of the paper's figure 1b, small stand-ins for published datasets, and families of toy tables.

On the tables of a family, interpolation between examples becomes wrong by one parameter: every family starts where a
mixed example lies where its label says and ends where it does not; `blobs` never gets wrong, it only gets hard. Classes
are balanced to within one row, and there is no label noise: but for `between` and `blobs`, whose classes overlap, the place
of a row decides its class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab.data.columns import Numbers
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.data.table import Table, assemble
from vicinal.lab.streams import Stream

Ids = NDArray[np.int64]


# -- stand-ins ---------------------------------------------------------------------------------------------------------

INNER, OUTER = 256, 102  # points, counted in the paper's figure
RATIO, SPREAD = 0.30, 0.05  # radius of the inner ring, and sd of the radii, in radii of the outer one


def rings(seed: int) -> tuple[Tensor, Tensor]:
    """Draw two noisy rings about the origin, as digitized from figure 1b.

    Returns:
        Points float32 [358, 2], the outer ring of radius 1; classes int64 [358], 1 for the inner ring.

    """
    generator = _generator(seed)
    inside = np.arange(INNER + OUTER) < INNER
    radius = np.where(inside, RATIO, 1.0) + SPREAD * generator.standard_normal(len(inside))
    angle = generator.uniform(0, 2 * np.pi, len(inside))
    return torch.from_numpy(_polar(radius, angle).astype(np.float32)), torch.from_numpy(inside.astype(np.int64))


def table(name: str, classes: int, rows: int = 60, columns: int = 4, seed: int = 0) -> Table:
    """Draw a table: classes are clouds about their own center, as many rows each as can be."""
    generator = _generator(seed)
    labels = np.arange(rows) % classes
    centers = 2 * generator.standard_normal((classes, columns))
    return _assemble(centers[labels] + generator.standard_normal((rows, columns)), labels, name, "drawn")


def _assemble(x: Numbers, labels: Ids, name: str, source: str) -> Table:
    columns = {f"x{i}": column for i, column in enumerate(x.T, 1)} | {"class": [str(label) for label in labels]}
    return assemble(columns, "class", name=name, source=source)


def images(n: int, classes: int = 10, side: int = 32, seed: int = 0) -> InMemoryDataset:
    """Draw images uint8 [n, 3, side, side]: a class is a color, under noise."""
    generator = _generator(seed)
    labels = np.arange(n) % classes
    same_for_every_seed = np.random.Generator(np.random.Philox(Stream.SYNTHETIC))
    colors = same_for_every_seed.uniform(0, 255, (classes, 3, 1, 1))
    noisy = colors[labels] + generator.normal(0, 40, (n, 3, side, side))
    names = tuple(f"color {i}" for i in range(classes))
    pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return InMemoryDataset(torch.from_numpy(pixels), torch.from_numpy(labels), names)


def audio(n: int, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw what looks like spectrograms, float32 [n, 1, 32, 32], with classes int64 [n]: a class is a loud frequency."""
    generator = _generator(seed)
    labels = np.arange(n) % classes
    features = generator.standard_normal((n, 1, 32, 32)).astype(np.float32)
    for i, label in enumerate(labels):
        features[i, 0, 4 * label : 4 * label + 4] += 1.5
    return torch.from_numpy(features), torch.from_numpy(labels)


def _generator(seed: int) -> np.random.Generator:
    return Key(seed, 0, 0, 0, Stream.SYNTHETIC).generator()


# -- families of toy tables --------------------------------------------------------------------------------------------

_BLOB_INPUTS = 10
_BETWEEN_SD = 0.3  # of the classes of `between`, whose outer two lie 2 apart
_ARM = 0.8  # share of the way to the next arm of the spiral that an arm takes


@dataclass(frozen=True)
class Family:
    """A family of tables."""

    name: str  # one word
    title: str  # what it is
    parameter: str  # what is swept, in words
    values: tuple[float, ...]  # from harmless to wrong
    classes: int  # how many
    # from a generator, the class of each row [n] and the parameter: inputs float64 [n, p]
    draw: Callable[[np.random.Generator, Ids, float], Numbers]

    def table(self, value: float, rows: int, seed: int) -> Table:
        """Draw a table: a pure function of its arguments.

        Args:
            value: of the parameter.
            rows: how many; each class has rows / classes of them, rounded up or down.
            seed: 0 <= seed < 2**64.

        Returns:
            A checked table for classification, rows in random order, named as "rings 0.5".

        """
        generator = Key(seed, 0, 0, 0, Stream.TOY).generator()
        y = generator.permutation(np.arange(rows) % self.classes)
        return _assemble(self.draw(generator, y, value), y, f"{self.name} {value:g}", f"toy: {self.title}")


def _polar(radius: Numbers, angle: Numbers) -> Numbers:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _area_radius(generator: np.random.Generator, low: Numbers | float, high: Numbers | float, n: int) -> Numbers:
    """Draw radii so that points are uniform over the area of a ring."""
    return np.sqrt(generator.uniform(np.square(low), np.square(high), n))


def _draw_rings(generator: np.random.Generator, y: Ids, value: float) -> Numbers:
    """Draw a disk and a ring about it, as in the paper's figure 1b."""
    n = len(y)
    inner = _area_radius(generator, 0.0, 1.0, n)
    outer = _area_radius(generator, 1.2, 1.8, n)
    angle = 2 * np.pi * generator.uniform(0, 1, n)
    return _polar(np.where(y == 0, inner, outer), np.where(y == 0, angle, value * angle))


def _draw_spirals(generator: np.random.Generator, y: Ids, value: float) -> Numbers:
    radius = _area_radius(generator, 0.2, 1.0, len(y))
    off = generator.uniform(-_ARM * np.pi / 2, _ARM * np.pi / 2, len(y))
    return _polar(radius, 2 * np.pi * value * radius + np.pi * y + off)


def _draw_checkerboard(generator: np.random.Generator, y: Ids, value: float) -> Numbers:
    cells = int(value)
    columns, lines = np.divmod(np.arange(cells * cells), cells)
    corners = np.empty((len(y), 2))
    for label in (0, 1):
        mine = np.flatnonzero((columns + lines) % 2 == label)
        chosen = mine[generator.integers(len(mine), size=int((y == label).sum()))]
        corners[y == label] = np.stack([columns[chosen], lines[chosen]], axis=1)
    return (corners + generator.uniform(0, 1, corners.shape)) / cells


def _draw_between(generator: np.random.Generator, y: Ids, value: float) -> Numbers:
    centers = np.array([[-1.0, 0.0], [0.0, value], [1.0, 0.0]])
    return centers[y] + _BETWEEN_SD * generator.standard_normal((len(y), 2))


def _draw_sectors(generator: np.random.Generator, y: Ids, value: float) -> Numbers:
    """Draw two rings cut into sectors, classes alternating along and across."""
    n, sectors = len(y), int(value)
    ring = generator.integers(2, size=n)
    # sectors of even number have the class of their ring's number
    sector = 2 * generator.integers(sectors // 2, size=n) + (y + ring) % 2
    radius = _area_radius(generator, np.where(ring == 0, 0.4, 1.0), np.where(ring == 0, 1.0, 1.36), n)
    return _polar(radius, 2 * np.pi * (sector + generator.uniform(0, 1, n)) / sectors)


def _draw_blobs(generator: np.random.Generator, y: Ids, value: float) -> Numbers:
    """Draw Gaussian blobs: the harmless family."""
    centers = np.zeros((3, _BLOB_INPUTS))
    centers[:, :3] = np.sqrt(2) * np.eye(3)  # each 2 from each other
    return centers[y] + value * generator.standard_normal((len(y), _BLOB_INPUTS))


FAMILIES: tuple[Family, ...] = (
    Family(
        name="rings",
        title="a disk and a ring about it",
        parameter="share of the circle that the ring closes",
        values=(0.1, 0.25, 0.4, 0.6, 0.8, 1.0),
        classes=2,
        draw=_draw_rings,
    ),
    Family(
        name="spirals",
        title="two spirals",
        parameter="turns of each spiral",
        values=(0.0, 0.25, 0.5, 1.0, 1.5, 2.0),
        classes=2,
        draw=_draw_spirals,
    ),
    Family(
        name="checkerboard",
        title="a checkerboard",
        parameter="cells along each side",
        values=(2, 3, 4, 5, 6, 8),
        classes=2,
        draw=_draw_checkerboard,
    ),
    Family(
        name="between",
        title="a class between two others",
        parameter="height above the middle of the two",
        values=(2.0, 1.0, 0.6, 0.4, 0.2, 0.0),
        classes=3,
        draw=_draw_between,
    ),
    Family(
        name="sectors",
        title="XOR rings: two rings cut into alternating sectors",
        parameter="sectors of each ring",
        values=(2, 4, 6, 8, 10, 12),
        classes=2,
        draw=_draw_sectors,
    ),
    Family(
        name="blobs",
        title=f"three Gaussian blobs in {_BLOB_INPUTS} dimensions",
        parameter="standard deviation of each blob, centers 2 apart",
        values=(0.1, 0.3, 0.5, 0.75, 1.0, 1.5),
        classes=3,
        draw=_draw_blobs,
    ),
)
