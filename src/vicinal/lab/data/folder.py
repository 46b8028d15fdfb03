"""A folder with a sub-folder for each class, of pictures or of sounds, read into memory at one small size.

What is neither is left out and named; a picture or sound that cannot be read ends the reading with its name. A folder
that holds parts (`train` beside `val` or `test`) is read as one set: who compares methods draws parts of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vicinal.lab.data import folders, images, speech
from vicinal.lab.errors import UserError

Kind = Literal["pictures", "sounds"]
Progress = Callable[[int, int], None]  # files read, of how many

SUFFIXES: dict[Kind, tuple[str, ...]] = {"pictures": folders.PICTURES, "sounds": folders.SOUNDS}
PARTS = ("train", "val", "valid", "validation", "test")
FEWEST = 5  # of a class: three to train on, and one each to validate and to test
SIZES: dict[Kind, int] = {"pictures": 32, "sounds": 40}

_LEAST, _MOST = 16, 512  # pixels of a side
_BATCH = 64
_SHOWN = 3  # files named in a sentence


@dataclass(frozen=True, eq=False)
class Collection:
    """Pictures or sounds in memory.

    Args:
        name: short name, for titles.
        source: the folder.
        kind: "pictures" or "sounds".
        inputs: uint8 [n, size, size, 3], or float32 spectrograms [n, size, frames, 1].
        target: int64 [n], positions in `classes`.
        classes: the names of the sub-folders, sorted.
        notes: sentences that a reader of results must know.

    """

    name: str
    source: str
    kind: Kind
    inputs: NDArray[np.uint8] | NDArray[np.float32]
    target: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.target)

    @property
    def tensor(self) -> Tensor:
        """The inputs [n, channels, height, width], channels_last; not copied."""
        return torch.from_numpy(self.inputs).permute(0, 3, 1, 2)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        _, height, width, channels = self.inputs.shape
        return channels, height, width

    def fingerprint(self) -> str:
        """Give the SHA-256, in hex, of values, labels and classes."""
        about = [self.kind, list(self.inputs.shape), self.classes]
        digest = hashlib.sha256(json.dumps(about).encode())
        for array in (self.inputs, self.target):
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
        return digest.hexdigest()


def read(folder: str | os.PathLike[str], *, size: int | None = None, progress: Progress | None = None) -> Collection:
    """Read a folder.

    Args:
        folder: with a folder for each class; or with `train` and other `PARTS`, each with the same folders.
        size: height and width of pictures (default: 32), the central square of each; frequency bands of spectrograms
            (default: 40), a divisor of 160.
        progress: told how many files are read.

    Returns:
        The set, in the order of the paths.

    Raises:
        UserError: with one sentence, for whatever is not there, cannot be read or cannot be learned from.

    """
    root = Path(folder).expanduser()
    parts = [name for name in folders.class_folders(root) if name in PARTS]
    if "train" not in parts or set(folders.class_folders(root)) - set(parts):
        parts = []
    places = [root / part for part in parts] or [root]
    classes = _classes(places)
    found = [(place, name, _files(place / name)) for place in places for name in classes]
    kind, others = _kind(root, found)
    size = checked_size(kind, SIZES[kind] if size is None else size)

    paths, target = [], []
    for place, name, names in found:
        mine = [path for path in names if _is(path, kind)]
        if not mine:
            raise UserError(f"'{place / name}' holds no {kind} ({', '.join(SUFFIXES[kind])}): add some, or remove it")
        paths += mine
        target += [classes.index(name)] * len(mine)
    _check_counts(root, kind, classes, target)
    inputs, cut = read_files(kind, paths, size, progress)
    notes = _notes(kind, parts, others, cut, inputs)
    return Collection(root.resolve().name, str(folder), kind, inputs, np.array(target), tuple(classes), notes)


def checked_size(kind: Kind, size: int) -> int:
    """Give a size, unless pictures or spectrograms cannot have it."""
    if kind == "pictures" and not _LEAST <= size <= _MOST:
        raise UserError(f"a size of {size} pixels is not between {_LEAST} and {_MOST}: give another --size")
    if kind == "sounds" and (size < _LEAST or speech.FREQUENCIES % size):
        fits = ", ".join(str(n) for n in range(_LEAST, speech.FREQUENCIES + 1) if speech.FREQUENCIES % n == 0)
        raise UserError(f"{size} frequency bands cannot be made of {speech.FREQUENCIES}: give a --size of {fits}")
    return size


def read_files(
    kind: Kind, paths: Sequence[Path], size: int, progress: Progress | None = None
) -> tuple[NDArray[np.uint8] | NDArray[np.float32], int]:
    """Read pictures or sounds as a `Collection` holds them.

    Returns:
        The inputs, and how many sounds are longer than the second that is used.

    Raises:
        UserError: naming the first file that cannot be read.

    """
    return (_read_pictures(paths, size, progress), 0) if kind == "pictures" else _read_sounds(paths, size, progress)


def _read_pictures(paths: Sequence[Path], size: int, progress: Progress | None) -> NDArray[np.uint8]:
    labels = torch.zeros(len(paths), dtype=torch.int64)
    files = folders.ClassFiles(Path(), tuple(map(str, paths)), labels, ("",), "")
    out = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    done = 0
    for batch, _ in images.evaluation_batches(files, batch=256, size=size, keep=1.0):
        out[done : done + len(batch)] = batch.permute(0, 2, 3, 1).numpy()
        done += len(batch)
        if progress is not None:
            progress(done, len(paths))
    return out


def _read_sounds(paths: Sequence[Path], size: int, progress: Progress | None) -> tuple[NDArray[np.float32], int]:
    """Read spectrograms of speech.py, each `size` bands of neighbouring frequencies, and frames likewise, averaged."""
    factor = speech.FREQUENCIES // size
    out = np.empty((len(paths), size, speech.FRAMES // factor, 1), dtype=np.float32)
    cut = 0
    for start in range(0, len(paths), _BATCH):
        sounds = [speech.read_any(path) for path in paths[start : start + _BATCH]]
        cut += sum(len(sound) > speech.RATE for sound in sounds)
        features = F.avg_pool2d(speech.spectrograms(sounds), factor)
        sd, mean = torch.std_mean(features, dim=(1, 2, 3), keepdim=True)
        features = (features - mean) / torch.where(sd > 0, sd, 1.0)
        out[start : start + len(sounds)] = features.permute(0, 2, 3, 1).numpy()
        if progress is not None:
            progress(start + len(sounds), len(paths))
    return out, cut


# ---- what is there


def _classes(places: Sequence[Path]) -> list[str]:
    classes = folders.class_folders(places[0])
    if len(classes) < 2:
        found = f"'{places[0]}' holds {len(classes) or 'no'} {'folder' if len(classes) == 1 else 'folders'}"
        raise UserError(f"{found}: put the pictures or sounds of each class into one of its own, two classes at least")
    for place in places[1:]:
        odd = sorted(set(classes) ^ set(folders.class_folders(place)))
        if odd:
            says = f"'{places[0]}' and '{place}' do not have the same folders: {odd[0]!r} is in one of them"
            raise UserError(f"{says}; make them the same, or give '{places[0]}' alone")
    return classes


def _files(place: Path) -> list[Path]:
    """List the files of a folder and of those within, in the order of their paths, but for hidden ones."""
    found = []
    for inside, _, files in os.walk(place):
        found += [Path(inside, file) for file in files if not file.startswith(".")]
    return sorted(found)


def _is(path: Path, kind: Kind) -> bool:
    return path.name.lower().endswith(SUFFIXES[kind])


def _kind(root: Path, found: Sequence[tuple[Path, str, list[Path]]]) -> tuple[Kind, list[str]]:
    """Say what the folder holds, and name the files that are something else, relative to it."""
    files = [path for _, _, paths in found for path in paths]
    pictures, sounds = ([path for path in files if _is(path, kind)] for kind in SUFFIXES)
    if pictures and sounds:
        both = f"pictures ('{pictures[0].relative_to(root)}') and sounds ('{sounds[0].relative_to(root)}')"
        raise UserError(f"'{root}' holds {both}: give a folder of one kind")
    if not pictures and not sounds:
        none = f"no pictures ({', '.join(SUFFIXES['pictures'])}) and no sounds ({', '.join(SUFFIXES['sounds'])})"
        raise UserError(f"the folders in '{root}' hold {none}: put those of each class into its folder")
    kind: Kind = "pictures" if pictures else "sounds"
    return kind, [path.relative_to(root).as_posix() for path in files if not _is(path, kind)]


def _check_counts(root: Path, kind: Kind, classes: Sequence[str], target: Sequence[int]) -> None:
    label, count = min(Counter(target).items(), key=lambda item: (item[1], item[0]))
    if count < FEWEST:
        has = f"the class {classes[label]!r} of '{root}' has {count} {kind.removesuffix('s') if count == 1 else kind}"
        raise UserError(
            f"{has}, and a class needs {FEWEST} (3 to train on, 1 to validate and 1 to test): add some, or remove it"
        )


def _notes(kind: Kind, parts: Sequence[str], others: Sequence[str], cut: int, inputs: NDArray) -> tuple[str, ...]:
    notes = []
    if len(parts) > 1:
        notes.append(f"{' and '.join(parts)} were read as one set: each seed draws parts of its own.")
    if others:
        some = ", ".join(others[:_SHOWN]) + ", ..." * (len(others) > _SHOWN)
        are = f"{len(others)} files are" if len(others) > 1 else "1 file is"
        notes.append(f"{are} no {kind if len(others) > 1 else kind.removesuffix('s')} and left out: {some}.")
    if cut:
        notes.append(f"{cut} of {len(inputs)} sounds are longer than a second: the first second of each was used.")
    copies = len(inputs) - len({hashlib.sha256(one.data).digest() for one in inputs})
    if copies:
        notes.append(
            f"{copies} of {len(inputs)} {kind} are copies of others, to the last bit at this size, so that training and "
            "test may share some."
        )
    return tuple(notes)
