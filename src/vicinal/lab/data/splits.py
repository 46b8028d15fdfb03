"""The split into train, validation and test rows: a pure function of the seed and the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the three parts, int64 each, disjoint, together all rows, in keyed random order."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split(data: Labeled, seed: int, *, validation: float = 0.2, test: float = 0.2) -> Split:
    """Split the rows of a table or of another set as `split_targets` does."""
    if getattr(data, "groups", None) is not None or getattr(data, "times", None) is not None:
        raise UserError("rows are split at random here, not by --group or --time: leave the option out")
    return split_targets(data.target, len(data.classes), seed, validation=validation, test=test)


def split_targets(
    target: NDArray[Any], classes: int, seed: int, *, validation: float = 0.2, test: float = 0.2
) -> Split:
    """Split rows by their targets; classes keep their shares.

    The j-th of a class's n_c shuffled rows gets the position (j + 1/2) / n_c, and the rows of all classes are sorted by
    position, ties at random: whatever stretch of this order is cut out, each class has about its share of it. The first
    part is the test part. The last row of each class is kept for the training part.
    Regression targets are not stratified.

    Args:
        target: class indices [n], or numbers.
        classes: number of classes; 0 for regression.
        seed: 0 <= seed < 2**64.
        validation: share of the rows, rounded; 0 for none.
        test: share of the rows, rounded; 0 for none.

    Returns:
        The split; the three sizes are the same for every seed.

    Raises:
        UserError: if a part would be empty, or the training part too small to hold every class.
        ValueError: if the seed is out of range.

    """
    n = len(target)
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise UserError(
            f"validation {validation:g} and test {test:g} leave nothing to train on"
            f": give shares that sum to less than 1"
        )
    sizes = [round(n * validation), round(n * test)]
    for name, share, size in zip(("validation", "test"), (validation, test), sizes, strict=True):
        if share > 0 and size == 0:
            raise UserError(f"a {name} share of {share:g} is not one of {n} rows: give a larger share")
    if n - sum(sizes) < max(1, classes):
        raise UserError(
            f"{n - sum(sizes)} training rows cannot hold an example of {max(1, classes)} classes: give smaller shares"
        )
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be an integer in [0, 2**64), got {seed}")
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, Stream.SPLIT], dtype=np.uint64)))
    order = _stratified(target.astype(np.int64), rng) if classes else rng.permutation(n)
    test_rows, validation_rows, train_rows = (
        rng.permutation(part) for part in np.split(order.astype(np.int64), [sizes[1], sum(sizes)])
    )
    return Split(train=train_rows, validation=validation_rows, test=test_rows)


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
