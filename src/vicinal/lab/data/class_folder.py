"""Folders with a sub-folder for each class, of images or of audio: the one walk through them, its rules, and reading.

    classes   the folders in the folder, and links to folders, in the order of their names
    files     those in a class's folder and in folders within, in the order of their paths, as text with "/"; links to
              files are files. What ends in one of `IMAGES` or of `AUDIO`, in small letters or large, is one
    hidden    names that begin with a dot are passed over, of files and of folders at any depth; so is `__MACOSX`
    no class  `_background_noise_` of Speech Commands, and files beside the classes' folders, are passed over, too
    left out  and named (`ClassFiles.notes`): files that are neither, and links to folders within a class, which may lead
              in circles or into another class
    refused   by one sentence: fewer than two classes, a class without files, images and audio in one folder, and
              whatever cannot be read; images or clips that cannot be read are named together

A folder may hold parts, such as `train` and `val`, each with the same classes (`folder_layout`). `vicinal train` trains on
one and tests on the other; `vicinal compare` pools all, since it draws parts of its own (`read`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab import executor, limits
from vicinal.lab.data import audio
from vicinal.lab.data.audio import Progress
from vicinal.lab.data.download import DATASETS, data_dir
from vicinal.lab.data.folder_layout import (
    AUDIO,
    IMAGES,
    Level,
    class_names,
    has_files,
    is_training,
    only_folder,
    parts,
    passed_over,
    read_as_classes,
)
from vicinal.lab.data.transforms import ChooseCrop, ImageError, Pixels, choose_center_crop, decode, mute_decoders
from vicinal.lab.errors import UnreadableFile, UserError

ImageFile = tuple[int, Path]  # row number, which decides its crop, and where it is
Kind = Literal["images", "audio"]
ARTICLES = {"images": "an image", "audio": "audio"}

TRAIN, VAL = "train", "val"  # of ImageNet
FEWEST = 5  # of a class: three to train on, and one each to validate and to test
SIZES: dict[Kind, int] = {"images": 32, "audio": 40}

_WNID = re.compile(r"n\d{8}")
_SHOWN, _LISTED = 3, 10  # names in a sentence
_LEAST, _MOST = 16, 512  # pixels of a side
SECONDS = 0.25, 60.0  # of a clip
_DEEPEST = 100  # folders within the folder of a class, one in the other
_BLOCK = 256  # files at a time


# -- which files -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ClassFiles:
    """Files with their classes."""

    root: Path  # the folder
    paths: tuple[str, ...]  # of n files, relative to `root`, with "/", as are all paths here
    labels: Tensor  # int64 [n], positions in `classes`
    classes: tuple[str, ...]  # the names of the sub-folders, sorted
    name: str  # short, for titles
    kind: Kind = "images"  # of all the files
    others: tuple[str, ...] = ()  # files of the classes that are neither images nor audio; left out
    links: tuple[str, ...] = ()  # to folders, within a class; left out

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, rows: Sequence[int] | NDArray[np.int64] | Tensor) -> ClassFiles:
        """Return some of the files as a set of its own."""
        rows = torch.as_tensor(rows, dtype=torch.int64)
        return replace(self, paths=tuple(self.paths[row] for row in rows.tolist()), labels=self.labels[rows])

    def path(self, row: int) -> Path:
        """Return where a file is."""
        return self.root / self.paths[row]

    @property
    def full_paths(self) -> list[Path]:
        """Where all files are."""
        return [self.path(row) for row in range(len(self))]

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


def scan(
    folder: str | os.PathLike[str],
    *,
    train: ClassFiles | None = None,
    classes: Level | None = None,
    option: bool = False,
) -> ClassFiles:
    """List the images or audio of a folder with a sub-folder for each class, by the rules at the top of this file.

    Args:
        folder: holds the sub-folders.
        train: the training part that this is another part of: it must have the same classes, and be of the same kind.
        classes: "outer" if the sub-folders are known to be the classes.
        option: propose the option --classes where they may not be.

    Raises:
        UserError: for what those rules refuse, or if the folder holds parts.

    """
    root = Path(folder).expanduser()
    names = class_names(root)
    if train is not None and not names and has_files(root):
        raise UserError(
            f"'{root}' holds {train.kind}, but no folder for each class as '{train.root}' does"
            f": sort them into such folders, or give '{train.root}' alone"
        )
    if found := parts(root, classes, option=option):
        of = next(filter(is_training, found), found[0])
        raise UserError(f"'{root}' holds the folder '{of}', not a folder for each class: give '{root / of}'")
    if train is not None and (odd := sorted(set(names) ^ set(train.classes))):
        raise UserError(
            f"'{train.root}' and '{root}' do not have the same folders: {odd[0]!r} is in one of them"
            f"; make them the same, or give '{train.root}' alone"
        )
    if len(names) < 2:
        within = only_folder(root) if names else ""
        raise UserError(
            f"'{root}' holds {len(names) or 'no'} {'folder' if len(names) == 1 else 'folders'}"
            f"{within or ': put the images or audio of each class into one of its own, two classes at least'}"
        )
    walked = [class_files(root, name) for name in names]
    kind = _kind(root, names, walked)
    if train is not None and kind != train.kind:
        both = f"{train.kind} in {train.root.name}/ and {kind} in {root.name}/"
        raise UserError(f"'{train.root.parent}' holds {both}: give one kind")
    labels = torch.arange(len(names)).repeat_interleave(torch.tensor([len(one.files) for one in walked]))
    paths, others, links = (tuple(itertools.chain(*lists)) for lists in zip(*walked, strict=True))
    return ClassFiles(root, paths, labels, tuple(names), root.name, kind, others, links)


def unused(root: Path, used: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence that names the folders beside the parts that are used, if there are any."""
    left = [name for name in class_names(root) if name not in {part.split("/")[0] for part in used}]
    what = "folders" if len(left) > 1 else "folder"
    are = "are" if len(left) > 1 else "is"
    return (f"{len(left)} {what} beside {' and '.join(used)} {are} left out: {_some(left)}.",) if left else ()


def warn_of_left_out(root: Path, *used: ClassFiles) -> None:
    """Warn of what is left out of a folder of which some parts are used, or all of it as one."""
    beside = () if used[0].root == root else unused(root, [part.root.name for part in used])
    for place, notes in ((root, beside), *((part.root, part.notes()) for part in used)):
        for note in notes:
            warnings.warn(f"'{place}': {note}", stacklevel=2)


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
    for place, folders, files in os.walk(root / name, onerror=_refuse):
        folders[:] = [folder for folder in folders if not passed_over(folder)]  # not to be walked either
        inside = Path(place).relative_to(root).as_posix()
        if inside.count("/") > _DEEPEST:
            raise UserError(f"'{root / name}' holds folders in folders, more than {_DEEPEST} deep: move its files up")
        for folder in folders:
            if os.path.islink(os.path.join(place, folder)):
                found.links.append(f"{inside}/{folder}")
        for file in files:
            if not file.startswith("."):
                which = found.files if file.lower().endswith(IMAGES + AUDIO) else found.others
                which.append(f"{inside}/{file}")
    return Found(*map(sorted, found))


def _refuse(error: OSError) -> None:
    raise UserError(f"'{error.filename}' cannot be read ({error.strerror}): mend that, or remove it") from error


def _kind(root: Path, names: Sequence[str], classes: Sequence[Found]) -> Kind:
    files = [path for one in classes for path in one.files]
    clips = [path for path in files if path.lower().endswith(AUDIO)]
    images = [path for path in files if path.lower().endswith(IMAGES)]
    none = f"no images ({', '.join(IMAGES)}) and no audio ({', '.join(AUDIO)})"
    if not files:
        raise UserError(f"the folders in '{root}' hold {none}: put those of each class into its folder")
    if images and clips:
        both = f"images ('{images[0]}') and audio ('{clips[0]}')"
        raise UserError(f"'{root}' holds {both}: give a folder of one kind")
    for name, one in zip(names, classes, strict=True):
        if not one.files:
            raise UserError(f"'{root / name}' holds {none}: add some, or remove it")
    return "audio" if clips else "images"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def imagenet() -> tuple[ClassFiles, ClassFiles]:
    """List ImageNet, ``train/WNID/*.JPEG`` and ``val/WNID/*.JPEG`` of ``imagenet`` in what ``VICINAL_DATA`` names.

    Returns:
        The training and the validation images. The classes are WordNet's names for them, such as "n01440764".

    Raises:
        UserError: if the files are not there, or not laid out like this.

    """
    source = DATASETS["imagenet"]
    place = data_dir(None, source.title, f"the folder {source.folder}") / source.folder
    if not (place / TRAIN).is_dir() or not (place / VAL).is_dir():
        raise UserError(f"{source.title} is not in '{place}': {source.manual}")
    train = scan(place / TRAIN)
    if train.kind != "images":
        raise UserError(f"'{train.root}' holds audio ('{train.paths[0]}'), where images are expected")
    if strange := [name for name in train.classes if not _WNID.fullmatch(name)]:
        raise UserError(f"'{train.root}' holds the folder {strange[0]!r}, which is not a WNID: {source.manual}")
    if not class_names(place / VAL):
        raise UserError(f"the images in '{place / VAL}' are not in folders: sort them into val/WNID/")
    return train, scan(place / VAL, train=train)


# -- reading images and audio ------------------------------------------------------------------------------------------


def share_of_cores() -> int:
    """Return the number of cores for this process, one of torchrun's on this machine."""
    return max(1, executor.cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def read_images(paths: Sequence[Path], size: int, progress: Progress | None = None) -> Tensor:
    """Read images into memory, the central square of each.

    Args:
        paths: the files.
        size: height and width of what comes.
        progress: called with the number of files read, and of all.

    Returns:
        uint8 [n, 3, size, size], channels_last.

    Raises:
        UserError: naming those that cannot be read.

    """
    return torch.from_numpy(_read_images(paths, size, progress).whole("images")).permute(0, 3, 1, 2)


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
        UnreadableFile: naming the first that cannot be read.

    """
    mute_decoders()
    pixels = np.empty((len(files), size, size, 3), dtype=np.uint8)
    for place, image in zip(pixels, apply(partial(_decoded, key, size, choose), files), strict=True):
        if isinstance(image, UnreadableFile):
            raise image
        place[:] = image
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _decoded(key: Key | None, size: int, choose: ChooseCrop, file: ImageFile) -> Pixels | UnreadableFile:
    row, path = file
    try:
        return decode(limits.read_bytes(path), partial(choose, row, key), size)
    except OSError as e:
        says = f"cannot be read ({e.strerror})"
        return UnreadableFile(str(path), f"it {says}", says, "mend that, or remove it")
    except ImageError as e:
        says = f"is not an image that can be read ({e})"
        return UnreadableFile(str(path), str(e), says, "replace or remove it")


@dataclass(frozen=True, eq=False)
class FileInputs:
    """What was read of some files."""

    inputs: NDArray[np.uint8] | NDArray[np.float32]  # of those that could be read
    broken: dict[int, UnreadableFile]  # by their positions, those that could not
    lengths: tuple[int, ...] = ()  # samples of each clip that is read, at 16 kHz, up to a little more than are used
    silent: tuple[int, ...] = ()  # positions of clips that are the same everywhere

    def whole(self, kind: Kind) -> NDArray[Any]:
        """Return the inputs of all files.

        Raises:
            UserError: naming those that could not be read.

        """
        if self.broken:
            raise unreadable(list(self.broken.values()), len(self.inputs) + len(self.broken), kind)
        return self.inputs


def unreadable(broken: Sequence[UnreadableFile], total: int, kind: Kind, option: str = "") -> UserError:
    """Return the error that names files that cannot be read, ten of many; `option` ends its sentence."""
    if len(broken) == 1:
        return UserError(f"{broken[0]}{option}")
    listed = _listed([f"'{one.path}' ({one.reason})" for one in broken])
    return UserError(f"{len(broken)} of {total} {kind} cannot be read: {listed}: replace or remove them{option}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def shape_of(kind: Kind, size: int, seconds: float) -> tuple[int, int, int] | None:
    """Return channels, height and width of what `read_files` makes of each file; None for a size that there is not."""
    if kind == "images":
        return (3, size, size) if _LEAST <= size <= _MOST else None
    fits = size >= _LEAST and audio.FREQUENCIES % size == 0
    return (1, size, audio.frames_of(seconds) // (audio.FREQUENCIES // size)) if fits else None


def read_files(
    kind: Kind, paths: Sequence[Path], size: int, progress: Progress | None = None, seconds: float = 1.0
) -> FileInputs:
    """Read images or audio as a `FolderDataset` holds them.

    Raises:
        UserError: for what hinders reading any of them, such as a package that is not installed.

    """
    if kind == "audio":
        return _read_audio(paths, size, progress, seconds)
    return _read_images(paths, size, progress)


def _read_images(paths: Sequence[Path], size: int, progress: Progress | None) -> FileInputs:
    held = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    n, broken = 0, {}
    mute_decoders()
    with ThreadPoolExecutor(share_of_cores()) as pool:
        for start in range(0, len(paths), _BLOCK):
            files = [*enumerate(paths[start : start + _BLOCK], start)]
            images = pool.map(partial(_decoded, None, size, choose_center_crop), files)
            for (row, _), image in zip(files, images, strict=True):
                if isinstance(image, UnreadableFile):
                    broken[row] = image
                else:
                    held[n] = image
                    n += 1
            if progress is not None:
                progress(start + len(files), len(paths))
    return FileInputs(held[:n], broken)


def _read_audio(paths: Sequence[Path], size: int, progress: Progress | None, seconds: float) -> FileInputs:
    """Read spectrograms of `audio`, each `size` bands of neighboring frequencies, and frames likewise, averaged."""
    factor = audio.FREQUENCIES // size
    out = np.empty((len(paths), size, audio.frames_of(seconds) // factor, 1), dtype=np.float32)
    broken: dict[int, UnreadableFile] = {}
    silent: list[int] = []
    lengths: list[int] = []
    for start in range(0, len(paths), _BLOCK):
        clips = []
        for row, path in enumerate(paths[start : start + _BLOCK], start):
            try:
                clip = audio.read_any(path, seconds)
            except UnreadableFile as error:
                broken[row] = error
                continue
            if clip.min() == clip.max():
                silent.append(row)
            clips.append(clip)
        if clips:
            features = audio.standardized(F.avg_pool2d(audio.spectrograms(clips, seconds), factor))
            out[len(lengths) : len(lengths) + len(clips)] = features.permute(0, 2, 3, 1).numpy()
        lengths += map(len, clips)
        if progress is not None:
            progress(min(start + _BLOCK, len(paths)), len(paths))
    return FileInputs(out[: len(lengths)], broken, tuple(lengths), tuple(silent))


# -- a folder in memory, for `vicinal compare` -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FolderDataset:
    """Images or audio in memory."""

    name: str  # short, for titles
    source: str  # the folder
    kind: Kind
    inputs: NDArray[np.uint8] | NDArray[np.float32]  # [n, size, size, 3], or spectrograms [n, size, frames, 1]
    target: NDArray[np.int64]  # [n], positions in `classes`
    classes: tuple[str, ...]  # the names of the sub-folders, sorted
    notes: tuple[str, ...] = ()  # sentences that a reader of results must know
    seconds: float = 1.0  # of each clip that are used

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


def read(
    folder: str | os.PathLike[str],
    *,
    size: int | None = None,
    seconds: float | None = None,
    classes: Level | None = None,
    skip_broken: bool = False,
    progress: Progress | None = None,
) -> FolderDataset:
    """Read a folder.

    Args:
        folder: with a folder for each class; or with parts, such as `train` and `test`, each with the same folders.
        size: height and width of images (default: 32), the central square of each; frequency bands of spectrograms
            (default: 40), a divisor of 160.
        seconds: of each clip, from its beginning (default: 1).
        classes: "outer" if the folder's own folders are the classes, "inner" if those within them are, all of which
            are read as one set; by default as `folder_layout.parts` finds them.
        skip_broken: leave out files that cannot be read, and name them in the notes.
        progress: told how many files are read.

    Raises:
        UserError: with one sentence, for whatever is not there, cannot be read or cannot be learned from.

    """
    root = Path(folder).expanduser()
    found = parts(root, classes, option=True)
    files = _pooled(root, found, classes) if found else scan(root, classes=classes, option=True)
    if seconds is not None and files.kind == "images":
        raise UserError("--seconds is for audio; leave it out for images")
    size = _checked_size(files.kind, SIZES[files.kind] if size is None else size)
    seconds = _checked_seconds(1.0 if seconds is None else seconds)
    _check_counts(files)
    read = read_files(files.kind, files.full_paths, size, progress, seconds)
    if read.broken and not skip_broken:
        option = f", or leave {'it' if len(read.broken) == 1 else 'them'} out with --skip-broken"
        raise unreadable(list(read.broken.values()), len(files), files.kind, option)
    kept = files.select([row for row in range(len(files)) if row not in read.broken])
    _check_counts(kept)
    beside = unused(root, found) if found else ()
    layout = _pooling(found) if found else read_as_classes(root)
    notes = (*layout, *beside, *files.notes(), *_of_broken(files, read), *_of_contents(files, read, seconds))
    name, target = root.resolve().name, kept.labels.numpy()
    return FolderDataset(name, str(folder), files.kind, read.inputs, target, files.classes, notes, seconds)


def _pooled(root: Path, parts: Sequence[str], classes: Level | None) -> ClassFiles:
    """List the files of all parts as one set."""
    level: Level | None = "outer" if classes == "inner" else None  # within a part
    first = next(filter(is_training, parts), parts[0])
    train = scan(root / first, classes=level, option=True)
    found = {
        part: train if part == first else scan(root / part, train=train, classes=level, option=True) for part in parts
    }

    def joined(field: str) -> tuple[str, ...]:
        return tuple(f"{part}/{path}" for part, one in found.items() for path in getattr(one, field))

    labels = torch.cat([one.labels for one in found.values()])
    paths, others, links = map(joined, ("paths", "others", "links"))
    return ClassFiles(root, paths, labels, train.classes, root.name, train.kind, others, links)


def _checked_seconds(seconds: float) -> float:
    low, high = SECONDS
    if not low <= seconds <= high:
        raise UserError(f"{seconds:g} seconds of audio are not between {low:g} and {high:g}: give other --seconds")
    return seconds


def _checked_size(kind: Kind, size: int) -> int:
    if kind == "images" and not _LEAST <= size <= _MOST:
        raise UserError(f"a size of {size} pixels is not between {_LEAST} and {_MOST}: give another --size")
    bands = audio.FREQUENCIES
    if kind == "audio" and (size < _LEAST or bands % size):
        fits = ", ".join(str(n) for n in range(_LEAST, bands + 1) if bands % n == 0)
        raise UserError(f"{size} frequency bands cannot be made of {bands}: give a --size of {fits}")
    return size


def _check_counts(files: ClassFiles) -> None:
    counts = torch.bincount(files.labels, minlength=len(files.classes)).tolist()
    if (count := min(counts)) < FEWEST:
        name, kind = files.classes[counts.index(count)], files.kind.removesuffix("s") if count == 1 else files.kind
        raise UserError(
            f"the class {name!r} of '{files.root}' has {count} {kind}"
            f", and a class needs {FEWEST} (3 to train on, 1 to validate and 1 to test): add some, or remove it"
        )


def _pooling(parts: Sequence[str]) -> tuple[str, ...]:
    return (f"{' and '.join(parts)} were read as one set: each seed draws parts of its own.",) if len(parts) > 1 else ()


def _of_broken(files: ClassFiles, read: FileInputs) -> tuple[str, ...]:
    if not read.broken:
        return ()
    listed = _listed([f"{files.paths[row]} ({one.reason})" for row, one in read.broken.items()])
    are = "are" if len(read.broken) > 1 else "is"
    return (f"{len(read.broken)} of {len(files)} {files.kind} cannot be read and {are} left out: {listed}.",)


def _of_contents(files: ClassFiles, read: FileInputs, seconds: float) -> tuple[str, ...]:
    notes, inputs, kind = [], read.inputs, files.kind
    used = "second" if seconds == 1 else f"{seconds:g} seconds"
    if cut := sum(length > round(seconds * audio.RATE) for length in read.lengths):
        are, longer = ("is", "it") if cut == 1 else ("are", "each")
        than = "a second" if seconds == 1 else used
        notes.append(
            f"{cut} of {len(inputs)} audio {are} longer than {than}: the first {used} of {longer} "
            f"{'was' if seconds == 1 else 'were'} used (--seconds)."
        )
    if seconds != 1 and (longest := max(read.lengths, default=0)) < seconds * audio.RATE:
        notes.append(f"no audio is longer than {longest / audio.RATE:.3g} seconds: the rest of {used} is zeros.")
    if read.silent:
        which = _listed([files.paths[row] for row in read.silent])
        are = "are" if len(read.silent) > 1 else "is"
        notes.append(f"{len(read.silent)} of {len(inputs)} audio {are} silent in the {used} used: {which}.")
    copies = len(inputs) - len({hashlib.sha256(one.data).digest() for one in inputs})
    if copies:
        are = "are copies" if copies > 1 else "is a copy"
        notes.append(
            f"{copies} of {len(inputs)} {kind} {are} of others, to the last bit at this size, so that training and "
            "test may share some."
        )
    return tuple(notes)
