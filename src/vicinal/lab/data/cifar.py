"""CIFAR-10 and CIFAR-100, read from the folders that their publisher's archives hold.

Both versions are read: the binary one (``cifar-10-batches-bin``, ``cifar-100-binary``), which is taken where both are
there, and the python one (``cifar-10-batches-py``, ``cifar-100-python``), whose files are pickles. `unpickle` lets a
pickle call nothing but `_Note`.
"""

from __future__ import annotations

import os
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.data.download import DATASETS, data_dir
from vicinal.lab.errors import UserError

T = TypeVar("T")
Bytes = NDArray[np.uint8]
Labels = NDArray[np.int64]

_PIXELS = 3 * 32 * 32
_MOST_STEPS = 1_000_000  # instructions of a pickle; the largest published has about 250,000
_LARGEST = 1 << 28  # bytes of a pickle; the largest published has 155 MB
_TEN = "airplane automobile bird cat deer dog frog horse ship truck"
_FINE = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
    "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
    "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster "
    "man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
    "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk "
    "skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger "
    "tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)


@dataclass(frozen=True)
class _Set:
    """How one of the sets was published; `DATASETS` names its files, the last of which is the test set's."""

    labels: str  # the key of the labels in a pickle
    before: int  # label bytes of a binary record that stand before its label
    classes: tuple[str, ...]
    per_file: int  # images in a training file
    per_test: int = 10_000


_SETS = {
    "cifar10": _Set("labels", 0, tuple(_TEN.split()), 10_000),
    "cifar100": _Set("fine_labels", 1, tuple(_FINE.split()), 50_000),
}


def load(name: str, root: str | os.PathLike[str] | None = None) -> tuple[InMemoryDataset, InMemoryDataset]:
    """Read one of the sets.

    Args:
        name: "cifar10" or "cifar100".
        root: the folder that holds the publisher's folder; by default that of the environment variable
            ``VICINAL_DATA``.

    Returns:
        The 50,000 training and the 10,000 test images, uint8 [n, 3, 32, 32], red, green and blue, in the order of
        the files.

    Raises:
        UserError: if the files are not there, or are not what was published.

    """
    if name not in _SETS:
        raise UserError(f"{name!r} is not one of the CIFAR sets: choose one of {', '.join(_SETS)}")
    published = _SETS[name]
    read, files = _find(name, root)
    train = [read(published, file, published.per_file) for file in files[:-1]]
    test = [read(published, files[-1], published.per_test)]
    return _dataset(name, "training", train), _dataset(name, "test", test)


def _dataset(name: str, part: str, files: list[tuple[Labels, Bytes]]) -> InMemoryDataset:
    labels, images = map(np.concatenate, zip(*files, strict=True))
    classes = _SETS[name].classes
    counts, expected = np.bincount(labels, minlength=len(classes)), len(labels) // len(classes)
    if (counts != expected).any():
        odd = int(np.flatnonzero(counts != expected)[0])
        raise UserError(
            f"the {part} images of {DATASETS[name].title} are {counts[odd]} times {classes[odd]!r} where "
            f"{expected} were published: download it again"
        )
    return InMemoryDataset(torch.from_numpy(images.reshape(-1, 3, 32, 32)), torch.from_numpy(labels), classes)


_Read = Callable[[_Set, Path, int], tuple[Labels, Bytes]]  # (set, file, number) -> labels [n], images [n, 3072]


def _find(name: str, root: str | os.PathLike[str] | None) -> tuple[_Read, list[Path]]:
    """Return the files of the version that is there whole, and what reads them."""
    binary, python = DATASETS[name], DATASETS[f"{name}-python"]
    place = data_dir(root, binary.title, f"the folder {binary.folder} (or {python.folder})")
    lacking = []
    for source, read in ((binary, _read_binary), (python, _read_python)):
        absent = [file for file in source.files if not (place / source.folder / file).is_file()]
        if not absent:
            return read, [place / source.folder / file for file in source.files]
        if len(absent) < len(source.files):  # one that was begun is the one that was meant
            lacking = [f"{source.folder}/{file}" for file in absent]
    if lacking:
        raise UserError(f"{binary.title} lacks {', '.join(lacking)} in '{place}': unpack its archive again")
    raise UserError(
        f"{binary.title} is not in '{place}': unpack {binary.archive}, from {binary.url}, there, "
        f"so that the folder {binary.folder} appears"
    )


def _read_binary(published: _Set, path: Path, n: int) -> tuple[Labels, Bytes]:
    """Read records of label bytes and then 1,024 red, green and blue bytes each."""
    k = published.before
    size, expected = path.stat().st_size, n * (k + 1 + _PIXELS)
    if size != expected:
        raise UserError(f"'{path}' has {size} bytes where {expected} were published: unpack its archive again")
    records = np.fromfile(path, dtype=np.uint8).reshape(n, -1)
    return _checked(records[:, k].astype(np.int64), published, path), records[:, k + 1 :]


def _read_python(published: _Set, path: Path, n: int) -> tuple[Labels, Bytes]:
    if path.stat().st_size > _LARGEST:
        raise UserError(f"'{path}' has {path.stat().st_size} bytes, more than was published: unpack its archive again")
    try:
        batch = unpickle(path.read_bytes())
        images, labels = _array(batch["data"], n), _labels(batch[published.labels], n)
    except (_Refused, KeyError, UnicodeEncodeError) as e:
        raise UserError(f"'{path}' is not a published batch ({e}): unpack its archive again") from e
    return _checked(labels, published, path), images


def _checked(labels: Labels, published: _Set, path: Path) -> Labels:
    wrong = np.flatnonzero((labels < 0) | (labels >= len(published.classes)))
    if len(wrong):
        raise UserError(
            f"'{path}' gives image {wrong[0]} the label {labels[wrong[0]]} where there are {len(published.classes)} "
            "classes: unpack its archive again"
        )
    return labels


# ---- pickles


class _Refused(Exception):
    """What a published batch does not hold."""


class _Note:
    """What numpy's constructors are replaced by: it keeps their arguments and state, and makes nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None


# an array, its dtype, and how Python 3 writes bytes for Python 2
_Array, _Dtype, _Encoded = (type(name, (_Note,), {}) for name in ("_Array", "_Dtype", "_Encoded"))
_CLASSES = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # the same since numpy 2
    ("numpy", "ndarray"): _Note,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encoded,
}


_PUSHED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_WITH_VALUE = re.compile(r"(BIN|SHORT_BIN)?(INT[12]?|LONG[14]?|FLOAT|STRING|BYTES8?|UNICODE8?)")
_MARK = object()


class _Machine:
    """What runs a pickle: Python's own hashes what it finds, and makes as much room as a number in the file says."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._kept: dict[int, Any] = {}

    def do(self, name: str, value: Any) -> None:
        """Run one instruction."""
        stack = self.stack
        match name:
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(_PUSHED[name])
            case "MARK":
                stack.append(_MARK)
            case "POP":
                stack.pop()
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                n = int(name[-1])
                stack[-n:] = [tuple(stack[-n:])]
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "EMPTY_LIST" | "LIST":
                stack.append([] if name == "EMPTY_LIST" else self._since_mark())
            case "APPEND" | "APPENDS":
                found = [stack.pop()] if name == "APPEND" else self._since_mark()
                self._last(list).extend(found)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                found = self._since_mark()
                stack.append({})
                self._set(found)
            case "SETITEM" | "SETITEMS":
                self._set([stack.pop(-2), stack.pop()] if name == "SETITEM" else self._since_mark())
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self._kept[len(self._kept) if value is None else value] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._kept[value])
            case "GLOBAL" | "STACK_GLOBAL":
                module, of = value.split(" ", 1) if name == "GLOBAL" else (stack.pop(-2), stack.pop())
                if not (isinstance(module, str) and isinstance(of, str)):
                    raise TypeError("a name that is not text")
                if (module, of) not in _CLASSES:
                    raise _Refused(f"it asks for {module[:50]}.{of[:50]}, which no data need")
                stack.append(_CLASSES[module, of])
            case "REDUCE" | "NEWOBJ":
                arguments, made = stack.pop(), stack.pop()
                if not (isinstance(made, type) and issubclass(made, _Note) and isinstance(arguments, tuple)):
                    raise _Refused("damaged: it calls what cannot be called")
                stack.append(made(*arguments))
            case "BUILD":
                state = stack.pop()
                self._last(_Note).state = state
            case _:
                if not _WITH_VALUE.fullmatch(name):
                    raise _Refused(f"damaged: it has the instruction {name}, which no data need")
                stack.append(value)

    def _since_mark(self) -> list[Any]:
        """Take what lies on top of the last mark, and the mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def _last(self, kind: type[T]) -> T:
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"no {kind.__name__.strip('_').lower()}")
        return self.stack[-1]

    def _set(self, pairs: list[Any]) -> None:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | bytes):  # to hash tuples of tuples may take for ever
                raise _Refused("a key that is not text")
            self._last(dict)[key] = value


# what damaged files raise; MemoryError where their lengths are absurd
_DAMAGE = (LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


def unpickle(data: bytes) -> dict[str, Any]:
    """Read a pickled dict without running anything of it.

    Args:
        data: a pickle of any protocol.

    Returns:
        The dict, its keys as text. Arrays are left as notes of how they are made, which only this module reads.

    Raises:
        _Refused: if the pickle is damaged, or asks for anything but texts, numbers, lists, tuples, dicts and arrays.

    """
    machine = _Machine()
    try:
        for steps, (instruction, value, _) in enumerate(pickletools.genops(data)):
            if steps == _MOST_STEPS:
                raise _Refused(f"it has more than {_MOST_STEPS:,} instructions")
            if instruction.name == "STOP":
                break
            if instruction.name not in ("PROTO", "FRAME"):
                machine.do(instruction.name, value)
        (batch,) = machine.stack
    except _DAMAGE as e:
        raise _Refused(f"damaged: {str(e)[:200] or type(e).__name__}") from e
    if not isinstance(batch, dict):
        raise _Refused("it holds no dict")
    return {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in batch.items()}


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
        content = content.encode("latin-1")
    if shape != (n, _PIXELS) or not isinstance(content, bytes) or len(content) != n * _PIXELS:
        raise _Refused(f"'data' is not {n} images of {_PIXELS} bytes")
    order = "F" if by_columns is True else "C"
    return np.array(np.frombuffer(content, dtype=np.uint8).reshape(shape, order=order), order="C")


def _labels(values: Any, n: int) -> Labels:
    if not isinstance(values, list) or len(values) != n or not all(type(v) is int and 0 <= v < 256 for v in values):
        raise _Refused(f"the labels are not a list of {n} small numbers")
    return np.array(values, dtype=np.int64)
