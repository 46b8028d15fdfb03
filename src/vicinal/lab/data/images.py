"""Folders of images: a sub-folder for each class, ImageNet among them.

An image that cannot be read ends the reading with its name: none is ever left out or replaced.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from vicinal.lab.data import class_folder
from vicinal.lab.data.class_folder import ClassFiles
from vicinal.lab.data.dataset import ImageDataset
from vicinal.lab.data.download import DATASETS, data_dir
from vicinal.lab.errors import UserError

_WNID = re.compile(r"n\d{8}")


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


def load(files: ClassFiles, *, size: int) -> ImageDataset:
    """Read all images into memory, the central square of each."""
    images = class_folder.read_images([files.path(row) for row in range(len(files))], size)
    return ImageDataset(images, files.labels, files.classes, files.name)
