"""The split into train, validation and test rows: a pure function of the seed and the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vicinal.lab.errors import UserError
from vicinal.lab.streams import Stream


class Labeled(Protocol):
    """What is split: a table, or any other set with a target for each row and names for its classes."""

    @property
    def target(self) -> NDArray[Any]:
        """Positions in `classes`, or numbers, [n]."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names; none for regression."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the three parts, int64 each, disjoint, together all rows, in keyed random order."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split(table: Labeled, seed: int, *, validation: float = 0.2, test: float = 0.2) -> Split:
    """Split the rows of a table; classes keep their shares.

    The j-th of a class's n_c shuffled rows gets the position (j + 1/2) / n_c, and the rows of all classes are sorted by
    position, ties at random: whatever stretch of this order is cut out, each class has its share of it to within one
    row. The first part is the test part. The last row of each class is kept for the training part.
    Regression targets are not stratified.

    Args:
        table: only its target matters.
        seed: 0 <= seed < 2**64.
        validation: share of the rows, rounded; 0 for none.
        test: share of the rows, rounded; 0 for none.

    Returns:
        The split; the three sizes are the same for every seed.

    Raises:
        UserError: if a part would be empty, or the training part too small to hold every class.
        ValueError: if the seed is out of range.

    """
    n = len(table)
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise UserError(
            f"validation {validation:g} and test {test:g} leave nothing to train on"
            f": give shares that sum to less than 1"
        )
    sizes = {"validation": round(n * validation), "test": round(n * test)}
    for name, share in (("validation", validation), ("test", test)):
        if share > 0 and sizes[name] == 0:
            raise UserError(f"a {name} share of {share:g} is not one of {n} rows: give a larger share")
    n_train = n - sum(sizes.values())
    needed = max(1, len(table.classes))
    if n_train < needed:
        raise UserError(f"{n_train} training rows cannot hold an example of {needed} classes: give smaller shares")

    rng = keyed(seed, Stream.SPLIT)
    order = _stratified(table.target.astype(np.int64), rng) if table.classes else rng.permutation(n)
    parts = np.split(order.astype(np.int64), [sizes["test"], sizes["test"] + sizes["validation"]])
    test_rows, validation_rows, train_rows = (rng.permutation(part) for part in parts)
    return Split(train=train_rows, validation=validation_rows, test=test_rows)


def split_labels(
    labels: Tensor, classes: Sequence[str], seed: int, *, validation: float = 0.2, test: float = 0.2
) -> Split:
    """Split examples with labels int64 [n], positions in `classes`, as `split` does a table's rows."""
    return split(_OnlyLabels(labels.numpy(), tuple(classes)), seed, validation=validation, test=test)


@dataclass(frozen=True, eq=False)
class _OnlyLabels:
    """What `split` looks at."""

    target: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.target)


def keyed(seed: int, stream: int) -> np.random.Generator:
    """Return the generator of (seed, stream); raises ValueError if the seed is not in [0, 2**64)."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be an integer in [0, 2**64), got {seed}")
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))


def _stratified(codes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Order all rows so that every class is spread evenly, with the last row of each class at the end."""
    shuffled = np.lexsort((rng.random(len(codes)), codes))  # class by class, at random within each
    counts = np.bincount(codes)
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(codes)) - starts[codes[shuffled]]
    count = counts[codes[shuffled]]
    position = (rank + 0.5) / count
    last = rank == count - 1
    return shuffled[np.lexsort((rng.random(len(codes)), position, last))]
