"""CIFAR-10 and CIFAR-100, read from the folders that their publisher's archives hold.

Both versions are read: the binary one (``cifar-10-batches-bin``, ``cifar-100-binary``), which is taken where both are
there, and the python one (``cifar-10-batches-py``, ``cifar-100-python``), whose files are pickles. `unpickle` lets a
pickle call nothing but `_Note`.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.data.download import DATASETS, data_dir
from vicinal.lab.errors import UserError

Bytes = NDArray[np.uint8]

_PIXELS = 3 * 32 * 32
_LARGEST = 1 << 28  # bytes of a pickle; the largest published has 155 MB


@dataclass(frozen=True)
class _Set:
    """How one of the sets was published.

    Args:
        title: its name in a sentence.
        binary, python: keys in `SOURCES`.
        train, test: the names of the files without their suffix.
        per_file: how many images a training file has.
        per_test: how many the test file has.
        labels: the label bytes of a binary record, as they are called in the python version.
        classes: the names of the classes, for each of these labels.

    """

    title: str
    binary: str
    python: str
    train: tuple[str, ...]
    test: str
    per_file: int
    per_test: int
    labels: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_TEN = _words("airplane automobile bird cat deer dog frog horse ship truck")
_COARSE = _words(
    "aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices "
    "household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes "
    "large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees "
    "vehicles_1 vehicles_2"
)
_FINE = _words(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
    "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
    "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster "
    "man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
    "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk "
    "skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger "
    "tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)

_CIFAR10 = _Set(
    title="CIFAR-10",
    binary="cifar10",
    python="cifar10-python",
    train=tuple(f"data_batch_{i}" for i in range(1, 6)),
    test="test_batch",
    per_file=10_000,
    per_test=10_000,
    labels=("labels",),
    classes=(_TEN,),
)
_CIFAR100 = _Set(
    title="CIFAR-100",
    binary="cifar100",
    python="cifar100-python",
    train=("train",),
    test="test",
    per_file=50_000,
    per_test=10_000,
    labels=("coarse_labels", "fine_labels"),
    classes=(_COARSE, _FINE),
)

# name -> the set, and which of its labels
_NAMES = {"cifar10": (_CIFAR10, 0), "cifar100": (_CIFAR100, 1), "cifar100-coarse": (_CIFAR100, 0)}
NAMES = tuple(_NAMES)


def load(name: str, root: str | os.PathLike[str] | None = None) -> tuple[InMemoryDataset, InMemoryDataset]:
    """Read one of the sets.

    Args:
        name: "cifar10", "cifar100", or "cifar100-coarse" for its 20 groups of five classes.
        root: the folder that holds the publisher's folder; by default that of the environment variable
            ``VICINAL_DATA``.

    Returns:
        The 50,000 training and the 10,000 test images, uint8 [n, 3, 32, 32], red, green and blue, in the order of
        the files.

    Raises:
        UserError: if the files are not there, or are not what was published.

    """
    if name not in _NAMES:
        raise UserError(f"{name!r} is not one of the CIFAR sets: choose one of {', '.join(NAMES)}")
    published, which = _NAMES[name]
    read, folder = _find(published, root)
    labels, images = zip(*(read(published, folder, file, published.per_file) for file in published.train), strict=True)
    train = np.concatenate(labels)[:, which], np.concatenate(images)
    labels, images = read(published, folder, published.test, published.per_test)
    test = labels[:, which], images
    classes = published.classes[which]
    for part, (y, _) in (("training", train), ("test", test)):
        counts = np.bincount(y, minlength=len(classes))
        if (counts != len(y) // len(classes)).any():
            odd = int(np.flatnonzero(counts != len(y) // len(classes))[0])
            raise UserError(
                f"the {part} images of {published.title} are {counts[odd]} times {classes[odd]!r} where "
                f"{len(y) // len(classes)} were published: download it again"
            )
    return _dataset(*train, classes), _dataset(*test, classes)


def _dataset(labels: Bytes, images: Bytes, classes: tuple[str, ...]) -> InMemoryDataset:
    planes = torch.from_numpy(images.reshape(-1, 3, 32, 32))
    return InMemoryDataset(planes, torch.from_numpy(labels.astype(np.int64)), classes)


# (set, folder, file, how many) -> uint8 labels [n, number of labels], uint8 images [n, 3072]
_Read = Callable[[_Set, Path, str, int], tuple[Bytes, Bytes]]


def _find(published: _Set, root: str | os.PathLike[str] | None) -> tuple[_Read, Path]:
    """Return the version that is there whole."""
    files = (*published.train, published.test)
    binary, python = DATASETS[published.binary], DATASETS[published.python]
    place = data_dir(root, published.title, f"the folder {binary.folder} (or {python.folder})")
    lacking = []
    for source, suffix, read in ((binary, ".bin", _read_binary), (python, "", _read_python)):
        absent = [f"{file}{suffix}" for file in files if not (place / source.folder / f"{file}{suffix}").is_file()]
        if not absent:
            return read, place / source.folder
        if len(absent) < len(files):  # one that was begun is the one that was meant
            lacking = [f"{source.folder}/{file}" for file in absent]
    if lacking:
        raise UserError(f"{published.title} lacks {', '.join(lacking)} in '{place}': unpack its archive again")
    raise UserError(
        f"{published.title} is not in '{place}': unpack {binary.archive}, from {binary.url}, there, "
        f"so that the folder {binary.folder} appears"
    )


def _read_binary(published: _Set, folder: Path, file: str, n: int) -> tuple[Bytes, Bytes]:
    """Read records of label bytes and then 1,024 red, green and blue bytes each."""
    path = folder / f"{file}.bin"
    k = len(published.labels)
    size, expected = path.stat().st_size, n * (k + _PIXELS)
    if size != expected:
        raise UserError(f"'{path}' has {size} bytes where {expected} were published: unpack its archive again")
    records = np.fromfile(path, dtype=np.uint8).reshape(n, k + _PIXELS)
    for i, classes in enumerate(published.classes):
        _check_labels(records[:, i], len(classes), path)
    return records[:, :k], records[:, k:]


def _read_python(published: _Set, folder: Path, file: str, n: int) -> tuple[Bytes, Bytes]:
    path = folder / file
    if path.stat().st_size > _LARGEST:
        raise UserError(f"'{path}' has {path.stat().st_size} bytes, more than was published: unpack its archive again")
    try:
        batch = unpickle(path.read_bytes())
        images = _array(batch["data"], n)
        labels = [_labels(batch[key], n) for key in published.labels]
    except (_Refused, KeyError) as e:
        raise UserError(f"'{path}' is not a published batch ({e}): unpack its archive again") from e
    for column, classes in zip(labels, published.classes, strict=True):
        _check_labels(column, len(classes), path)
    return np.stack(labels, axis=1).astype(np.uint8), images


def _check_labels(labels: NDArray[Any], classes: int, path: Path) -> None:
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"'{path}' gives image {first} the label {labels[first]} where there are {classes} classes: "
            "unpack its archive again"
        )


# ---- pickles


class _Refused(Exception):
    """What a published batch does not hold."""


class _Note:
    """What numpy's constructors are replaced by: it keeps their arguments and state, and makes nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Note):
    pass


class _Dtype(_Note):
    pass


class _Encoded(_Note):  # how Python 3 writes bytes for Python 2
    pass


_CLASSES = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # the same since numpy 2
    ("numpy", "ndarray"): _Note,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encoded,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _CLASSES:
            raise _Refused(f"it asks for {module}.{name}, which no data need")
        return _CLASSES[module, name]


# what unpickling a damaged file raises; MemoryError where its lengths are absurd
_DAMAGE = (
    pickle.UnpicklingError, EOFError, ImportError, LookupError, ValueError, TypeError, AttributeError, OverflowError,
    MemoryError, RecursionError,
)  # fmt: skip


def unpickle(data: bytes) -> dict[str, Any]:
    """Read a pickled dict without running anything of it.

    Args:
        data: a pickle of any protocol.

    Returns:
        The dict, its keys as text. Arrays are left as notes of how they are made, which only this module reads.

    Raises:
        _Refused: if the pickle is damaged, or asks for anything but texts, numbers, lists, tuples, dicts and arrays.

    """
    try:
        batch = _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except _DAMAGE as e:
        raise _Refused(f"damaged: {e}") from e
    if not isinstance(batch, dict):
        raise _Refused("it holds no dict")
    batch = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    if not all(isinstance(key, str) for key in batch):
        raise _Refused("a key that is not text")
    return batch


def _array(note: Any, n: int) -> Bytes:
    """Make the uint8 [n, 3072] array that a pickle describes; no other is made."""
    if not isinstance(note, _Array) or not isinstance(note.state, tuple) or len(note.state) != 5:
        raise _Refused("'data' is not an array")
    _, shape, dtype, by_columns, content = note.state
    if not isinstance(dtype, _Dtype) or dtype.arguments[:1] not in (("u1",), (b"u1",)):
        raise _Refused("'data' does not hold uint8")
    if isinstance(content, _Encoded) and content.arguments[1:] == ("latin1",):
        content = content.arguments[0]
    if isinstance(content, str):
        content = _latin(content)
    if shape != (n, _PIXELS) or not isinstance(content, bytes) or len(content) != n * _PIXELS:
        raise _Refused(f"'data' is not {n} images of {_PIXELS} bytes")
    order = "F" if by_columns is True else "C"
    return np.array(np.frombuffer(content, dtype=np.uint8).reshape(shape, order=order), order="C")


def _latin(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as e:
        raise _Refused("'data' does not hold bytes") from e


def _labels(values: Any, n: int) -> NDArray[np.int64]:
    if not isinstance(values, list) or len(values) != n or not all(type(v) is int and 0 <= v < 256 for v in values):
        raise _Refused(f"the labels are not a list of {n} small numbers")
    return np.array(values, dtype=np.int64)
