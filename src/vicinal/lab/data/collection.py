"""What `vicinal compare` reads of a folder of classes: its images or audio, in memory, at one small size.

Which files these are is said in `class_folders.py`. A folder that holds parts (`train` beside `val` or `test`) is read as
one set: who compares methods draws parts of their own. An image or clip that cannot be read ends the reading with its
name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vicinal.lab.data import class_folder, speech_commands
from vicinal.lab.data.class_folder import TRAIN, ClassFiles, Kind, Progress
from vicinal.lab.errors import UserError

FEWEST = 5  # of a class: three to train on, and one each to validate and to test
SIZES: dict[Kind, int] = {"images": 32, "audio": 40}

_LEAST, _MOST = 16, 512  # pixels of a side
_BATCH = 64


@dataclass(frozen=True, eq=False)
class FolderDataset:
    """Images or audio in memory.

    Args:
        name: short name, for titles.
        source: the folder.
        kind: "images" or "audio".
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
        """Return the SHA-256, in hex, of values, labels and classes."""
        about = [self.kind, list(self.inputs.shape), self.classes]
        digest = hashlib.sha256(json.dumps(about).encode())
        for array in (self.inputs, self.target):
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
        return digest.hexdigest()


def read(folder: str | os.PathLike[str], *, size: int | None = None, progress: Progress | None = None) -> FolderDataset:
    """Read a folder.

    Args:
        folder: with a folder for each class; or with `train` and other parts (`class_folders.PARTS`), each with the
            same folders.
        size: height and width of images (default: 32), the central square of each; frequency bands of spectrograms
            (default: 40), a divisor of 160.
        progress: told how many files are read.

    Returns:
        The set, in the order of the paths.

    Raises:
        UserError: with one sentence, for whatever is not there, cannot be read or cannot be learned from.

    """
    root = Path(folder).expanduser()
    parts = class_folder.parts(root)
    files = _pooled(root, parts) if parts else class_folder.scan(root)
    size = checked_size(files.kind, SIZES[files.kind] if size is None else size)
    target = files.labels.numpy()
    _check_counts(root, files.kind, files.classes, target.tolist())
    inputs, cut = read_files(files.kind, [root / path for path in files.paths], size, progress)
    beside = class_folder.unused(root, parts) if parts else ()
    notes = (*_pooling(parts), *beside, *files.notes(), *_of_contents(files.kind, cut, inputs))
    return FolderDataset(root.resolve().name, str(folder), files.kind, inputs, target, files.classes, notes)


def _pooled(root: Path, parts: Sequence[str]) -> ClassFiles:
    """List the files of all parts as one set."""
    train = class_folder.scan(root / TRAIN)
    found = [train if part == TRAIN else class_folder.scan(root / part, train=train) for part in parts]

    def joined(lists: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
        return tuple(f"{part}/{path}" for part, paths in zip(parts, lists, strict=True) for path in paths)

    paths, others, links = ([getattr(one, name) for one in found] for name in ("paths", "others", "links"))
    labels = torch.cat([one.labels for one in found])
    return ClassFiles(root, joined(paths), labels, train.classes, root.name, train.kind, joined(others), joined(links))


def checked_size(kind: Kind, size: int) -> int:
    """Return a size, unless images or spectrograms cannot have it."""
    if kind == "images" and not _LEAST <= size <= _MOST:
        raise UserError(f"a size of {size} pixels is not between {_LEAST} and {_MOST}: give another --size")
    if kind == "audio" and (size < _LEAST or speech_commands.FREQUENCIES % size):
        fits = ", ".join(
            str(n) for n in range(_LEAST, speech_commands.FREQUENCIES + 1) if speech_commands.FREQUENCIES % n == 0
        )
        raise UserError(
            f"{size} frequency bands cannot be made of {speech_commands.FREQUENCIES}: give a --size of {fits}"
        )
    return size


def read_files(
    kind: Kind, paths: Sequence[Path], size: int, progress: Progress | None = None
) -> tuple[NDArray[np.uint8] | NDArray[np.float32], int]:
    """Read images or audio as a `Collection` holds them.

    Returns:
        The inputs, and how many audio are longer than the second that is used.

    Raises:
        UserError: naming the first file that cannot be read.

    """
    if kind == "audio":
        return _read_audio(paths, size, progress)
    return class_folder.read_images(paths, size, progress).permute(0, 2, 3, 1).numpy(), 0


def _read_audio(paths: Sequence[Path], size: int, progress: Progress | None) -> tuple[NDArray[np.float32], int]:
    """Read spectrograms of speech.py, each `size` bands of neighboring frequencies, and frames likewise, averaged."""
    factor = speech_commands.FREQUENCIES // size
    out = np.empty((len(paths), size, speech_commands.FRAMES // factor, 1), dtype=np.float32)
    cut = 0
    for start in range(0, len(paths), _BATCH):
        audio = [speech_commands.read_any(path) for path in paths[start : start + _BATCH]]
        cut += sum(len(clip) > speech_commands.RATE for clip in audio)
        features = F.avg_pool2d(speech_commands.spectrograms(audio), factor)
        sd, mean = torch.std_mean(features, dim=(1, 2, 3), keepdim=True)
        features = (features - mean) / torch.where(sd > 0, sd, 1.0)
        out[start : start + len(audio)] = features.permute(0, 2, 3, 1).numpy()
        if progress is not None:
            progress(start + len(audio), len(paths))
    return out, cut


# ---- what to refuse and what to tell


def _check_counts(root: Path, kind: Kind, classes: Sequence[str], target: Sequence[int]) -> None:
    label, count = min(Counter(target).items(), key=lambda item: (item[1], item[0]))
    if count < FEWEST:
        raise UserError(
            f"the class {classes[label]!r} of '{root}' has {count} {kind.removesuffix('s') if count == 1 else kind}"
            f", and a class needs {FEWEST} (3 to train on, 1 to validate and 1 to test): add some, or remove it"
        )


def _pooling(parts: Sequence[str]) -> tuple[str, ...]:
    return (f"{' and '.join(parts)} were read as one set: each seed draws parts of its own.",) if len(parts) > 1 else ()


def _of_contents(kind: Kind, cut: int, inputs: NDArray) -> tuple[str, ...]:
    notes = []
    if cut:
        notes.append(f"{cut} of {len(inputs)} audio are longer than a second: the first second of each was used.")
    copies = len(inputs) - len({hashlib.sha256(one.data).digest() for one in inputs})
    if copies:
        notes.append(
            f"{copies} of {len(inputs)} {kind} are copies of others, to the last bit at this size, so that training and "
            "test may share some."
        )
    return tuple(notes)
