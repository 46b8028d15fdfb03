"""Drawn data: the two rings of the paper's figure 1b, and small sets that stand in for published ones in quick runs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab.data.dataset import ImageDataset
from vicinal.lab.data.table import Table
from vicinal.lab.streams import Stream

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
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(inside.astype(np.int64))


def table(name: str, classes: int, rows: int = 60, columns: int = 4, seed: int = 0) -> Table:
    """Draw a table: classes are clouds about their own center, as many rows each as can be."""
    generator = _generator(seed)
    labels = np.arange(rows) % classes
    centers = 2 * generator.standard_normal((classes, columns))
    return Table(
        name=name,
        source="drawn",
        numbers=centers[labels] + generator.standard_normal((rows, columns)),
        number_names=tuple(f"x{i}" for i in range(1, columns + 1)),
        codes=np.empty((rows, 0), dtype=np.int64),
        category_names=(),
        levels=(),
        target=labels.astype(np.int64),
        target_name="class",
        classes=tuple(map(str, range(classes))),
    )


def images(n: int, classes: int = 10, side: int = 32, seed: int = 0) -> ImageDataset:
    """Draw images uint8 [n, 3, side, side]: a class is a color, under noise."""
    generator = _generator(seed)
    labels = np.arange(n) % classes
    colors = np.random.Generator(np.random.Philox(Stream.SYNTHETIC)).uniform(
        0, 255, (classes, 3, 1, 1)
    )  # of every seed
    noisy = colors[labels] + generator.normal(0, 40, (n, 3, side, side))
    names = tuple(f"color {i}" for i in range(classes))
    return ImageDataset(_bytes(noisy), torch.from_numpy(labels), names, "synthetic images")


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


def _bytes(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.clip(np.rint(values), 0, 255).astype(np.uint8))
