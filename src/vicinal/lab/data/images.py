"""Folders of images: a sub-folder for each class, ImageNet among them.

An image that cannot be read ends the reading with its name: none is ever left out or replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab.data import class_folder
from vicinal.lab.data.class_folder import ClassFiles
from vicinal.lab.data.dataset import ImageDataset
from vicinal.lab.data.download import DATASETS, data_dir
from vicinal.lab.data.loader import Reader, Source
from vicinal.lab.data.transforms import Crop, central_crop
from vicinal.lab.errors import UserError

_WNID = re.compile(r"n\d{8}")
_BATCH = 256  # images at a time


def scan(folder: str | os.PathLike[str], *, train: ClassFiles | None = None) -> ClassFiles:
    """List the images of a folder with a sub-folder for each class: `class_folders.scan`, audio refused."""
    files = class_folder.scan(folder, train=train)
    if files.kind != "images":
        raise UserError(f"'{files.root}' holds audio ('{files.paths[0]}'), where images are expected")
    return files


def imagenet(folder: str | os.PathLike[str] | None = None) -> tuple[ClassFiles, ClassFiles]:
    """List ImageNet: ``train/WNID/*.JPEG`` and ``val/WNID/*.JPEG``.

    Args:
        folder: holds ``train`` and ``val``; by default ``imagenet`` in what the environment variable ``VICINAL_DATA``
            names.

    Returns:
        The training and the validation images. The classes are WordNet's names for them, such as "n01440764".

    Raises:
        UserError: if the files are not there, or not laid out like this.

    """
    source = DATASETS["imagenet"]
    if folder is None:
        place = data_dir(None, source.title, f"the folder {source.folder}") / source.folder
    else:
        place = Path(folder).expanduser()
    for part in ("train", "val"):
        if not (place / part).is_dir():
            raise UserError(f"{source.title} is not in '{place}': {source.manual}")
    train = scan(place / "train")
    strange = [name for name in train.classes if not _WNID.fullmatch(name)]
    if strange:
        raise UserError(f"'{place / 'train'}' holds the folder {strange[0]!r}, which is not a WNID: {source.manual}")
    if not class_folder.class_names(place / "val"):
        raise UserError(f"the images in '{place / 'val'}' are not in folders: sort them into val/WNID/")
    return train, scan(place / "val", train=train)


def evaluation_batches(
    source: Source,
    *,
    batch: int,
    size: int = 224,
    keep: float = 224 / 256,
    threads: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read all images in order, the central square of each.

    Args:
        source: what to read.
        batch: images in a batch; the last one may have fewer.
        size: height and width of what comes.
        keep: the square's share of the shorter side; 224 / 256 is the paper's center crop.
        threads: how many decode; by default as `stream.Reader` has it.

    Yields:
        Images, uint8 [batch, 3, size, size], channels_last, and labels, int64 [batch].

    Raises:
        UserError: if an image cannot be read.
        ValueError: if an argument is out of range.

    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    if not 0 < keep <= 1:
        raise ValueError(f"keep must be in (0, 1], got {keep}")

    def choose(row: int, key: Key | None, height: int, width: int) -> Crop:
        return central_crop(height, width, keep)

    return _in_order(source, Reader(source, size, choose, threads=threads), batch)


def _in_order(source: Source, reader: Reader, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    parts = torch.arange(len(source)).split(batch)
    reader.expect((rows, None) for rows in parts)
    try:
        for rows in parts:
            yield reader.batch(rows, None), source.labels[rows]
    finally:
        reader.close()


def load(source: Source, *, size: int, keep: float = 1.0, threads: int | None = None) -> ImageDataset:
    """Read all images into memory, the central square of each: 3 size**2 bytes an image.

    The arguments and errors are those of `evaluation_batches`.

    Returns:
        The set, in the order of `source`.

    """
    held = torch.empty(len(source), 3, size, size, dtype=torch.uint8)
    done = 0
    for images, _ in evaluation_batches(source, batch=_BATCH, size=size, keep=keep, threads=threads):
        held[done : done + len(images)] = images
        done += len(images)
    return ImageDataset(held, source.labels, source.classes, source.name)
