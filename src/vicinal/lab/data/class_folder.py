"""Folders with a sub-folder for each class, of images or of audio: the one walk through them, and its rules.

    classes   the folders in the folder, and links to folders, in the order of their names
    files     those in a class's folder and in folders within, in the order of their paths, as text with "/"; links to
              files are files. What ends in one of `IMAGES` or of `AUDIO`, in small letters or large, is one
    hidden    names that begin with a dot are passed over, of files and of folders at any depth
    no class  `_background_noise_` of Speech Commands, and files beside the classes' folders, are passed over, too
    left out  and named (`ClassFiles.notes`): files that are neither, and links to folders within a class, which may lead
              in circles or into another class
    refused   by one sentence: fewer than two classes, a class without files, images and audio in one folder, and
              whatever cannot be read

A folder may hold parts, such as `train` and `val`, each with the same classes (`parts`). Which of them are used is for
the caller to say: `collection.py` pools all, for `vicinal compare`; `train/examples.py` trains on one and tests on the
other.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab import executor
from vicinal.lab.data.transforms import ChooseCrop, Pixels, Unreadable, choose_central, decode
from vicinal.lab.errors import UserError

Progress = Callable[[int, int], None]  # files read, of how many
ImageFile = tuple[int, Path]  # row number, which decides its crop, and where it is
Kind = Literal["images", "audio"]
ARTICLES = {"images": "an image", "audio": "audio"}

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
AUDIO = (".wav", ".flac")
TRAIN, VAL = "train", "val"
PARTS = (TRAIN, VAL, "valid", "validation", "test")

_NOISE = "_background_noise_"  # of Speech Commands: minutes of noise to be mixed in, no class
_SHOWN = 3  # names in a sentence
_BLOCK = 256  # images at a time


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
        others: files of the classes that are neither images nor audio, relative to `root`; left out.
        links: to folders, within a class, relative to `root`; left out.

    """

    root: Path
    paths: tuple[str, ...]
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    kind: Kind = "images"
    others: tuple[str, ...] = ()
    links: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int] | NDArray[np.int64] | Tensor) -> ClassFiles:
        """Return some of the files as a set of its own."""
        rows = torch.as_tensor(rows, dtype=torch.int64)
        return replace(self, paths=tuple(self.paths[row] for row in rows.tolist()), labels=self.labels[rows])

    def path(self, row: int) -> Path:
        """Return where a file is."""
        return self.root / self.paths[row]

    def numbered(self, rows: Tensor) -> list[ImageFile]:
        """Return some files with their row numbers, for `decode_files`."""
        return [(row, self.path(row)) for row in rows.tolist()]

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for each sort of what was left out."""
        found = []
        if self.others:
            what = f"files are not {self.kind}" if len(self.others) > 1 else f"file is not {ARTICLES[self.kind]}"
            found.append(f"{len(self.others)} {what} and left out: {_some(self.others)}.")
        if self.links:
            what = "links to folders are" if len(self.links) > 1 else "link to a folder is"
            found.append(f"{len(self.links)} {what} not followed: {_some(self.links)}.")
        return tuple(found)


def scan(folder: str | os.PathLike[str], *, train: ClassFiles | None = None) -> ClassFiles:
    """List the images or audio of a folder with a sub-folder for each class, by the rules at the top of this file.

    Args:
        folder: holds the sub-folders.
        train: the training part that this is another part of: it must have the same classes, and be of the same kind.

    Raises:
        UserError: for what those rules refuse, or if the folder holds parts.

    """
    root = Path(folder).expanduser()
    names = class_names(root)
    if parts(root):
        raise UserError(f"'{root}' holds the folder '{TRAIN}', not a folder for each class: give '{root / TRAIN}'")
    if train is not None and (odd := sorted(set(names) ^ set(train.classes))):
        raise UserError(
            f"'{train.root}' and '{root}' do not have the same folders: {odd[0]!r} is in one of them"
            f"; make them the same, or give '{train.root}' alone"
        )
    if len(names) < 2:
        raise UserError(
            f"'{root}' holds {len(names) or 'no'} {'folder' if len(names) == 1 else 'folders'}"
            f": put the images or audio of each class into one of its own, two classes at least"
        )
    classes = [class_files(root, name) for name in names]
    kind = _kind(root, names, classes)
    found = ClassFiles(
        root,
        tuple(path for one in classes for path in one.files),
        torch.tensor([label for label, one in enumerate(classes) for _ in one.files], dtype=torch.int64),
        tuple(names),
        root.name,
        kind,
        tuple(path for one in classes for path in one.others),
        tuple(path for one in classes for path in one.links),
    )
    if train is not None:
        check_kind(found, train)
    return found


def check_kind(part: ClassFiles, train: ClassFiles) -> None:
    """Refuse a part that is not of the kind of its training part."""
    if part.kind != train.kind:
        both = f"{train.kind} in {train.root.name}/ and {part.kind} in {part.root.name}/"
        raise UserError(f"'{train.root.parent}' holds {both}: give one kind")


def parts(root: Path) -> tuple[str, ...]:
    """Return the names of the parts that a folder holds, sorted; none where its folders are classes.

    A folder `train` is a part, and no class, if it is alone, or beside another of `PARTS`, or holds folders itself.

    Raises:
        UserError: the folder cannot be read.

    """
    names = class_names(root)
    found = tuple(name for name in names if name in PARTS)
    if TRAIN not in found:
        return ()
    return found if len(names) == 1 or len(found) > 1 or class_names(root / TRAIN) else ()


def unused(root: Path, used: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence that names the folders beside the parts that are used, if there are any."""
    left = [name for name in class_names(root) if name not in used]
    what = f"{len(left)} {'folders' if len(left) > 1 else 'folder'} beside {' and '.join(used)}"
    return (f"{what} {'are' if len(left) > 1 else 'is'} left out: {_some(left)}.",) if left else ()


def warn_of_left_out(root: Path, used: Mapping[str, ClassFiles]) -> None:
    """Warn of what is left out, of the parts by their names that are used of a folder, or of ``""``: itself."""
    beside = () if "" in used else unused(root, tuple(used))
    for note in beside:
        warnings.warn(f"'{root}': {note}", stacklevel=2)
    for part in used.values():
        for note in part.notes():
            warnings.warn(f"'{part.root}': {note}", stacklevel=2)


def class_names(place: Path) -> list[str]:
    """Return the folders in a folder that are classes, sorted.

    Raises:
        UserError: it cannot be read.

    """
    try:
        return sorted(entry.name for entry in _entries(place) if entry.name != _NOISE and _is_folder(entry))
    except OSError as e:
        says = f"'{place}' is not a readable folder ({e.strerror}): give one with one folder per class"
        raise UserError(says) from e


class Found(NamedTuple):
    """What a class's folder holds; paths relative to what holds that folder, with ``/``, each list sorted."""

    files: list[str]  # images and audio
    others: list[str]
    links: list[str]  # to folders


def class_files(root: Path, name: str) -> Found:
    """Walk the folder of a class.

    Raises:
        UserError: it, or a folder within, cannot be read.

    """
    found = Found([], [], [])
    waiting = [name]
    while waiting:
        inside = waiting.pop()
        try:
            for entry in _entries(root / inside):
                path = f"{inside}/{entry.name}"
                if not _is_folder(entry):
                    (found.files if path.lower().endswith(IMAGES + AUDIO) else found.others).append(path)
                elif entry.is_symlink():
                    found.links.append(path)
                else:
                    waiting.append(path)
        except OSError as e:
            raise UserError(f"'{root / inside}' cannot be read ({e.strerror}): mend that, or remove it") from e
    return Found(*map(sorted, found))


def _entries(place: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: no folder, and as a file it is named when it is read
        return False


def _kind(root: Path, names: Sequence[str], classes: Sequence[Found]) -> Kind:
    files = [path for one in classes for path in one.files]
    audio = [path for path in files if path.lower().endswith(AUDIO)]
    images = [path for path in files if path.lower().endswith(IMAGES)]
    none = f"no images ({', '.join(IMAGES)}) and no audio ({', '.join(AUDIO)})"
    if not files:
        raise UserError(f"the folders in '{root}' hold {none}: put those of each class into its folder")
    if images and audio:
        both = f"images ('{images[0]}') and audio ('{audio[0]}')"
        raise UserError(f"'{root}' holds {both}: give a folder of one kind")
    for name, one in zip(names, classes, strict=True):
        if not one.files:
            raise UserError(f"'{root / name}' holds {none}: add some, or remove it")
    return "audio" if audio else "images"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


# -- images ------------------------------------------------------------------------------------------------------------


def read_images(paths: Sequence[Path], size: int, progress: Progress | None = None) -> Tensor:
    """Read images into memory, the central square of each.

    Args:
        paths: the files.
        size: height and width of what comes.
        progress: called with the number of files read, and of all.

    Returns:
        uint8 [n, 3, size, size], channels_last.

    Raises:
        UserError: naming the first that cannot be read.

    """
    held = torch.empty(len(paths), 3, size, size, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    with ThreadPoolExecutor(executor.cores()) as pool:
        for start in range(0, len(paths), _BLOCK):
            files = [*enumerate(paths[start : start + _BLOCK], start)]
            held[start : start + len(files)] = decode_files(files, None, size, choose_central, pool.map)
            if progress is not None:
                progress(start + len(files), len(paths))
    return held


def decode_files(
    files: Sequence[ImageFile],
    key: Key | None,
    size: int,
    choose: ChooseCrop,
    apply: Callable[..., Iterable[Any]] = map,
) -> Tensor:
    """Decode some images.

    Args:
        files: row numbers and paths.
        key: of the batch; None for evaluation.
        size: height and width of what comes.
        choose: gives the crops; a pure function.
        apply: `map`, or what does the same by several threads: decoders run without Python's lock.

    Returns:
        uint8 [n, 3, size, size], channels_last.

    Raises:
        UserError: naming the first that cannot be read.

    """

    def decoded(file: ImageFile) -> Pixels:
        row, path = file
        try:
            return decode(path.read_bytes(), partial(choose, row, key), size)
        except OSError as e:
            raise UserError(f"'{path}' cannot be read ({e.strerror}): mend that, or remove it") from e
        except Unreadable as e:
            raise UserError(f"'{path}' is not an image that can be read ({e}): replace or remove it") from e

    pixels = np.empty((len(files), size, size, 3), dtype=np.uint8)
    for place, image in zip(pixels, apply(decoded, files), strict=True):
        place[:] = image
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
