"""Folders with a sub-folder for each class, of pictures or of sounds: what is there, in the order of the paths."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.lab.data.split import split as split_rows
from vicinal.lab.errors import UserError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
SOUNDS = (".wav", ".flac")

_NOISE = "_background_noise_"  # of Speech Commands: minutes of noise to be mixed in, no class


@dataclass(frozen=True, eq=False)
class ClassFiles:
    """Files with their classes.

    Args:
        root: the folder.
        paths: of n files, relative to `root`, with ``/``.
        labels: int64 [n], positions in `classes`.
        classes: the names of the sub-folders, sorted.
        name: short name, for titles.
        kind: of all the files.

    """

    root: Path
    paths: tuple[str, ...]
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    kind: Literal["pictures", "sounds"] = "pictures"

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int] | NDArray[np.int64] | Tensor) -> ClassFiles:
        """Give some of the files as a set of its own."""
        rows = torch.as_tensor(rows, dtype=torch.int64)
        paths = tuple(self.paths[row] for row in rows.tolist())
        return ClassFiles(self.root, paths, self.labels[rows], self.classes, self.name, self.kind)

    def read(self, row: int) -> bytes:
        """Give the content of a file.

        Raises:
            UserError: it cannot be read.

        """
        try:
            return (self.root / self.paths[row]).read_bytes()
        except OSError as e:
            raise UserError(f"{self.where(row)} cannot be read ({e.strerror}): mend that, or remove it") from e

    def where(self, row: int) -> str:
        """Name a file, for messages."""
        return f"'{self.root / self.paths[row]}'"


def scan(folder: str | os.PathLike[str], *, classes: Sequence[str] | None = None) -> ClassFiles:
    """List the pictures or sounds of a folder with a sub-folder for each class, in the order of their paths.

    Folders within those are searched too. Files whose names begin with a dot or do not end in one of `PICTURES` or
    `SOUNDS` are left out, and so is the folder ``_background_noise_`` of Speech Commands, which is no class.

    Args:
        folder: holds the sub-folders.
        classes: the names that the sub-folders must have; by default whatever they are.

    Raises:
        UserError: if there are not at least two classes with at least one file each, or not those expected, or if there
            are both pictures and sounds.

    """
    root = Path(folder).expanduser()
    names = class_folders(root)
    if "train" in names and len(names) <= 3:
        raise UserError(f"'{root}' holds the folder 'train', not a folder for each class: give '{root / 'train'}'")
    if len(names) < 2:
        raise UserError(f"'{root}' holds {len(names)} folders: put the pictures or sounds of each class into its own")
    if classes is not None and set(names) != set(classes):
        odd = sorted(set(names) ^ set(classes))
        raise UserError(f"'{root}' and its training part do not have the same folders: {odd[0]!r} is in one of them")
    paths, labels = [], []
    for label, name in enumerate(names):
        found = sorted(_walk(root, name))
        if not found:
            kinds = f"no pictures ({', '.join(PICTURES)}) and no sounds ({', '.join(SOUNDS)})"
            raise UserError(f"'{root / name}' holds {kinds}: add some, or remove it")
        paths += found
        labels += [label] * len(found)
    sounds = [path.lower().endswith(SOUNDS) for path in paths]
    if any(sounds) and not all(sounds):
        picture, sound = paths[sounds.index(False)], paths[sounds.index(True)]
        raise UserError(f"'{root}' mixes pictures ('{picture}') and sounds ('{sound}'): keep one kind of files there")
    kind = "sounds" if any(sounds) else "pictures"
    return ClassFiles(root, tuple(paths), torch.tensor(labels, dtype=torch.int64), tuple(names), root.name, kind)


def split(
    labels: Tensor, classes: Sequence[str], seed: int, *, validation: float = 0.2, test: float = 0.2
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Give the rows of training, validation and test examples; classes keep their shares.

    The arguments and errors are those of `vicinal.lab.data.split.split`.
    """
    parts = split_rows(_Labels(labels.numpy(), tuple(classes)), seed, validation=validation, test=test)
    return parts.train, parts.validation, parts.test


@dataclass(frozen=True, eq=False)
class _Labels:
    """What `split_rows` looks at."""

    target: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.target)


def class_folders(place: Path) -> list[str]:
    """Name the folders in a folder that are classes, sorted: neither hidden, nor Speech Commands' noise.

    Raises:
        UserError: it cannot be read.

    """
    try:
        return [name for name in sub_folders(place) if not name.startswith(".") and name != _NOISE]
    except OSError as e:
        raise UserError(
            f"'{place}' is no folder that can be read ({e.strerror}): give one with a folder a class"
        ) from e


def sub_folders(place: Path) -> list[str]:
    """Give the names of the folders in a folder, sorted."""
    with os.scandir(place) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _walk(root: Path, name: str) -> Iterator[str]:
    for place, _, files in os.walk(root / name):
        inside = Path(place).relative_to(root).as_posix()
        for file in files:
            if not file.startswith(".") and file.lower().endswith(PICTURES + SOUNDS):
                yield f"{inside}/{file}"
