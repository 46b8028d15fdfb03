"""Datasets whose rows are marked: the innermost one that can be replaced, so that mixing inside of datasets shows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from vicinal.checking import trees
from vicinal.checking.marks import LABEL_NAME, Marks

_LOG = 1 << 14  # rows that a process remembers
_PROCESSES = 33


class MarkedRows(Dataset[Any]):
    """A dataset of marked rows that remembers which were asked for, in workers too.

    Args:
        marks: the rows.
        length: how many it has.
        original: the dataset it stands for, whose other attributes it has.

    """

    def __init__(self, marks: Marks, length: int, original: Any) -> None:
        self.marks, self.length, self.original = marks, length, original
        self.fetched = torch.zeros(_PROCESSES, _LOG, dtype=torch.int64).share_memory_()
        self.count = torch.zeros(_PROCESSES, dtype=torch.int64).share_memory_()
        self.all_of = torch.full((1,), -1, dtype=torch.int64).share_memory_()
        self.keeps = False  # whether a row is the same memory each time it is asked for

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.length

    def __getitem__(self, index: Any) -> Any:
        """Return a row, the same object each time."""
        i = int(index)
        if i < 0:
            i += self.length
        if not 0 <= i < self.length:
            raise IndexError(f"row {i} of {self.length}")
        info = torch.utils.data.get_worker_info()
        process = 0 if info is None else 1 + info.id % (_PROCESSES - 1)  # two of them never write to one place
        self.fetched[process, int(self.count[process]) % _LOG] = i
        self.count[process] += 1
        one = int(self.all_of)
        number = i if one < 0 else one
        return self.marks.example(number) if self.keeps else self.marks.fresh(number)

    def __getattr__(self, name: str) -> Any:
        """Return what else the original has."""
        if name.startswith("__") or "original" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["original"], name)


class Source:
    """A dataset with its rows marked at some depth.

    Args:
        marks: the rows.
        dataset: the whole, to be indexed as the original.
        rows: the part in it that is marked.
        depth: 0: the whole itself is replaced.
        name: where the marked part lies.

    """

    def __init__(self, marks: Marks, dataset: Any, rows: MarkedRows, depth: int, name: str) -> None:
        self.marks, self.dataset, self.rows, self.depth, self.name = marks, dataset, rows, depth, name
        self.indices = None if depth == 0 else indices_of(dataset)

    def own(self, i: int) -> int:
        """Return the marked row that example i of the dataset is."""
        return i if self.indices is None else self.indices[i]

    @contextmanager
    def watched(self) -> Iterator[Callable[[], list[int]]]:
        """Watch which rows are asked for in this block; what it gives returns them."""
        before = self.rows.count.tolist()

        def fetched() -> list[int]:
            found: set[int] = set()
            for process, (start, end) in enumerate(zip(before, self.rows.count.tolist(), strict=True)):
                places = torch.arange(max(start, end - _LOG), end) % _LOG
                found.update(self.rows.fetched[process, places].tolist())
            return sorted(found)

        yield fetched

    @contextmanager
    def all_of(self, i: int) -> Iterator[None]:
        """Make every row row i in this block."""
        self.rows.all_of.fill_(i)
        try:
            yield
        finally:
            self.rows.all_of.fill_(-1)


def indices_of(dataset: Any) -> list[int] | None:
    """Return which rows of a larger dataset a part of it has, in order; None if it is a whole."""
    for name in ("indices", "index", "idx", "rows", "ids"):
        found = getattr(dataset, name, None)
        if (
            isinstance(found, Sequence | Tensor | np.ndarray)
            and not isinstance(found, str)
            and len(found) == len(dataset)
        ):
            return [int(i) for i in found]
    for held in list(getattr(dataset, "__dict__", {}).values()):
        same = isinstance(held, Dataset) and not isinstance(held, MarkedRows | IterableDataset)
        if same and len(held) == len(dataset) and (found := indices_of(held)) is not None:  # pyright: ignore
            return found
    return None


class _ExampleList(Dataset[Any]):
    """A few examples as a dataset, for collate functions that come without one."""

    def __init__(self, examples: Sequence[Any]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> Any:
        return self.examples[i]


def of_examples(marks: Marks, length: int = 100_000) -> Source:
    """Return marked rows that stand for no dataset."""
    rows = MarkedRows(marks, length, _ExampleList([marks.like]))
    return Source(marks, rows, rows, 0, "examples")


def sample(dataset: Any, count: int = 24) -> list[Any]:
    """Return examples from all over a dataset."""
    n = len(dataset)
    places = sorted({int(i) for i in np.linspace(0, n - 1, min(n, count))})
    return [dataset[i] for i in places]


def candidates(dataset: Any, label: str | None = None, classes: int | None = None) -> list[Source]:
    """Return the ways to mark a dataset, the deepest first; the last replaces the whole."""
    found: list[Source] = []
    outer = Marks([dataset[0]], label, classes)
    shapes = {tuple(t.shape) for spec in outer.labels if (t := trees.as_tensor(spec.like)) is not None}
    _deeper(dataset, lambda inner: inner, "dataset", 1, found, label, classes, shapes)
    whole = MarkedRows(Marks(sample(dataset), label, classes), len(dataset), dataset)
    return [*found, Source(whole.marks, whole, whole, 0, "dataset")]


def gives_same_memory(dataset: Any) -> bool:
    """Return whether a dataset returns the same memory each time a row is asked for, so that writing to it changes it."""
    first, second = (dict(trees.leaves(dataset[0])) for _ in range(2))
    for name, a in first.items():
        b = second.get(name)
        if isinstance(a, Tensor) and isinstance(b, Tensor) and a.numel() and a.data_ptr() == b.data_ptr():
            return True
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.shares_memory(a, b):
            return True
    return False


def _deeper(
    dataset: Any,
    outer: Callable[[Any], Any],
    name: str,
    depth: int,
    found: list[Source],
    label: str | None,
    classes: int | None,
    label_shapes: set[tuple[int, ...]],
) -> None:
    """Collect sources that lie in the attributes of a dataset."""
    if depth > 4 or not hasattr(dataset, "__dict__"):
        return
    for key, value in vars(dataset).items():
        if isinstance(value, MarkedRows) or not _is_rows(value):
            continue

        def replaced(inner: Any, dataset: Any = dataset, key: str = key) -> Any:
            changed = copy.copy(dataset)
            object.__setattr__(changed, key, inner)
            return outer(changed)

        _deeper(value, replaced, f"{name}.{key}", depth + 1, found, label, classes, label_shapes)
        try:
            marks = Marks(sample(value), label, classes)
        except (TypeError, ValueError, IndexError, KeyError, RuntimeError):  # not examples
            continue
        if marks.inputs:
            rows = MarkedRows(marks, len(value), value)
            found.append(Source(marks, replaced(rows), rows, depth, f"{name}.{key}"))
    arrays = {key: value for key, value in vars(dataset).items() if _is_column(value, len(dataset))}
    pairs = {key: value for key, value in vars(dataset).items() if _is_columns(value, len(dataset))}
    if arrays or pairs:
        found.extend(_of_columns(dataset, outer, name, depth, {**arrays, **pairs}, label, classes, label_shapes))


def _is_rows(value: Any) -> bool:
    if isinstance(value, IterableDataset | Tensor | np.ndarray | str | bytes | Mapping):
        return False
    if isinstance(value, Dataset):
        return hasattr(value, "__len__") and hasattr(value, "__getitem__") and len(value) > 0  # pyright: ignore
    return isinstance(value, list) and len(value) > 1 and isinstance(value[0], tuple | Mapping)


def _is_column(value: Any, n: int) -> bool:
    if isinstance(value, list):
        return len(value) == n and all(
            isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in value
        )
    return isinstance(value, Tensor | np.ndarray) and value.ndim >= 1 and len(value) == n


def _is_columns(value: Any, n: int) -> bool:
    return (
        isinstance(value, tuple | list) and len(value) > 0 and len(value) < 9 and all(_is_column(v, n) for v in value)
    )


class _Columns(Dataset[Any]):
    """Columns that lie in a dataset's attributes, as examples by the name of the attribute."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {name: column[i] for name, column in self.columns.items()}


class MarkedColumns(MarkedRows):
    """Marked rows as whole columns, for datasets that keep tensors.

    Args:
        marks: the rows.
        length: how many.
        columns: what they stand for, by name.

    """

    def __init__(self, marks: Marks, length: int, columns: dict[str, Any]) -> None:
        super().__init__(marks, length, None)
        self.columns = {name: _LazyColumn(self, name, value) for name, value in columns.items()}


class _LazyColumn:
    """A column of marked rows that is asked row by row, or by several at once."""

    def __init__(self, rows: MarkedRows, name: str, like: Any) -> None:
        self.rows, self.name, self.like = rows, name, like

    def __len__(self) -> int:
        return self.rows.length

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(np.shape(self.like))

    @property
    def dtype(self) -> Any:
        return self.like.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            index = range(*index.indices(len(self)))
        elif isinstance(index, tuple):
            return self[index[0]][index[1:]]
        elif not isinstance(index, list | range) and getattr(index, "ndim", 0) == 0:
            return self.rows[int(index)][self.name]
        if getattr(index, "dtype", None) in (torch.bool, np.dtype(bool)):
            index = np.flatnonzero(np.asarray(index))
        values = [self.rows[int(i)][self.name] for i in index]
        return torch.stack([torch.as_tensor(v) for v in values]) if isinstance(self.like, Tensor) else np.stack(values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray([np.asarray(self[i]) for i in range(len(self))], dtype=dtype)


def _of_columns(
    dataset: Any,
    outer: Callable[[Any], Any],
    name: str,
    depth: int,
    attributes: dict[str, Any],
    label: str | None,
    classes: int | None,
    label_shapes: set[tuple[int, ...]],
) -> list[Source]:
    flat: dict[str, Any] = {}
    for key, value in attributes.items():
        if isinstance(value, tuple | list) and not _is_column(value, len(dataset)):
            last = len(value) - 1
            flat.update({("target" if i == last and last > 0 else f"{key}{i}"): part for i, part in enumerate(value)})
        else:
            flat[key] = value
    columns = _Columns(flat)
    if label is None and not any(LABEL_NAME.search(key) for key in flat):
        alike = [key for key, value in flat.items() if tuple(np.shape(value[0])) in label_shapes]
        label = alike[-1] if alike and len(alike) < len(flat) else None
    try:
        marks = Marks(sample(columns), label, classes)
    except (TypeError, ValueError):
        return []
    if not marks.inputs:
        return []
    rows = MarkedColumns(marks, len(columns), flat)
    changed = copy.copy(dataset)
    for key, value in attributes.items():
        if isinstance(value, tuple | list) and not _is_column(value, len(dataset)):
            last = len(value) - 1
            parts = [rows.columns["target" if i == last and last > 0 else f"{key}{i}"] for i in range(len(value))]
            object.__setattr__(changed, key, type(value)(parts))
        else:
            object.__setattr__(changed, key, rows.columns[key])
    return [Source(marks, outer(changed), rows, depth, f"{name}.{', '.join(attributes)}")]


def is_random(dataset: Any) -> bool:
    """Return whether a row of a dataset differs each time it is asked for."""
    first, second = (dict(trees.leaves(dataset[0])) for _ in range(2))
    tensors = [(trees.as_tensor(a), trees.as_tensor(second.get(name))) for name, a in first.items()]
    return any(a is not None and b is not None and not torch.equal(a, b) for a, b in tensors)
