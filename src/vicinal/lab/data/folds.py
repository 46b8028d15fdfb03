"""Splits for a comparison: repeated cross-validation, in which every row is tested equally often.

Seed s is fold s mod 5 of repeat s // 5, so that more seeds extend a comparison. A fixed test set, or the order of time,
takes the place of the folds where it is asked for; rows of one group never lie in two parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vicinal.lab.data.splits import Split
from vicinal.lab.errors import UserError
from vicinal.lab.format import counted, quoted
from vicinal.lab.streams import Stream

FOLDS = 5  # a fold is for testing, the next one for validation, three for training
_FEW = 5  # a class of fewer rows keeps one for training
_SHARE = 1 / FOLDS

How = Literal["folds", "groups", "time", "test file"]


@dataclass(frozen=True, eq=False)
class Splitting:
    """How the rows of a dataset are split.

    Args:
        target: class indices int64 [n], or numbers [n].
        classes: number of classes; 0 for regression.
        groups: int64 [n], rows of one group stay together; None: each row is its own.
        times: float [n]; the latest fifth of the rows is for testing, the fifth before for validation.
        fixed_test: bool [n], the rows for testing, the same for every seed.
        names: of the classes, for a sentence about them.

    """

    target: NDArray[Any]
    classes: int
    groups: NDArray[np.int64] | None = None
    times: NDArray[np.float64] | None = None
    fixed_test: NDArray[np.bool_] | None = None
    names: Sequence[str] = ()

    @property
    def how(self) -> How:
        """What decides which rows are for testing."""
        if self.fixed_test is not None:
            return "test file"
        return "time" if self.times is not None else "folds" if self.groups is None else "groups"

    @property
    def is_fixed(self) -> bool:
        """True if all seeds test the same rows."""
        return self.how in ("test file", "time")

    def split(self, seed: int) -> Split:
        """Return the split of a seed.

        Parts have the same sizes for every seed unless groups are kept together.

        Raises:
            UserError: there are too few rows, groups or points in time, or a class is in the test rows alone.

        """
        rng = np.random.Generator(np.random.Philox(key=np.array([seed // FOLDS, Stream.FOLDS], dtype=np.uint64)))
        n = len(self.target)
        if self.fixed_test is not None:
            self._check_fixed(self.fixed_test)
            rest = np.flatnonzero(~self.fixed_test)
            parts = [rest[part] for part in self._of(rest)._folds(rng, seed)]
            found = Split(np.concatenate([parts[0], parts[2]]), parts[1], np.flatnonzero(self.fixed_test))
        elif self.times is not None:
            found = self._by_time(self.times)
        else:
            found = Split(*self._folds(rng, seed))
        if not all(len(part) for part in (found.train, found.validation, found.test)):
            raise UserError(f"{n} rows cannot be split into training, validation and test rows ({self.how})")
        missing = np.setdiff1d(np.arange(self.classes), self.target[found.train]) if self.classes else []
        if len(missing) and self.how != "folds":
            one = len(missing) == 1
            which = f"{len(missing)} of {self.classes} classes"
            if self.names:
                which = f"the {'class' if one else 'classes'} {quoted([self.names[int(i)] for i in missing])}"
            raise UserError(
                f"{which} {'has' if one else 'have'} no row to train on when the rows are split by {self.how}: leave "
                f"{'that class' if one else 'those classes'} out, or split otherwise"
            )
        shuffle = np.random.Generator(np.random.Philox(key=np.array([seed, Stream.FOLDS], dtype=np.uint64)))
        return Split(
            *(shuffle.permutation(part).astype(np.int64) for part in (found.train, found.validation, found.test))
        )

    def _check_fixed(self, test: NDArray[np.bool_]) -> None:
        if self.times is not None:
            raise UserError("a test file and a column of time both say which rows are for testing: give one of them")
        if self.groups is not None and len(both := np.intersect1d(self.groups[test], self.groups[~test])):
            have = "has" if len(both) == 1 else "have"
            raise UserError(
                f"{len(both)} of the groups {have} rows in the test file and others outside it: a group is tested or "
                "trained on, not both"
            )

    def _of(self, rows: NDArray[np.int64]) -> Splitting:
        return Splitting(self.target[rows], self.classes, None if self.groups is None else self.groups[rows])

    def _folds(self, rng: np.random.Generator, seed: int) -> tuple[NDArray[np.int64], ...]:
        """Return training, validation and test rows: a fold for testing, the next for validation."""
        folds, rest = self._of_rows(rng) if self.groups is None else (self._of_groups(rng, self.groups), [])
        i = seed % FOLDS
        test, validation = folds[i], folds[(i + 1) % FOLDS]
        train = np.concatenate([*(folds[(i + j) % FOLDS] for j in range(2, FOLDS)), np.asarray(rest, dtype=np.int64)])
        return train, validation, test

    def _of_rows(self, rng: np.random.Generator) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        """Cut the rows into folds of one size in which classes have their shares; rows that are left always train."""
        classes = self.target.astype(np.int64) if self.classes else np.zeros(len(self.target), dtype=np.int64)
        order = np.lexsort((rng.random(len(classes)), rng.permutation(max(1, self.classes))[classes]))  # class by class
        if self.classes:  # the last row of a small class is kept for training
            counts = np.bincount(classes, minlength=self.classes)
            last = np.append(np.diff(classes[order]) != 0, True)
            kept = last & (counts[classes[order]] < _FEW)
            order = np.concatenate([order[~kept], order[kept]])
            size = int((~kept).sum()) // FOLDS
        else:
            size = len(order) // FOLDS
        return [order[: FOLDS * size][i::FOLDS] for i in range(FOLDS)], order[FOLDS * size :]  # dealt out in turn

    def _of_groups(self, rng: np.random.Generator, groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Put each group into the fold that then departs least from the shares of classes and of rows, large ones first."""
        names, codes = np.unique(groups, return_inverse=True)
        if len(names) < FOLDS:
            raise UserError(
                f"rows of {len(names)} groups cannot be split into {FOLDS} folds: a column of more groups is needed"
            )
        kinds = self.target if self.classes else np.zeros(len(codes), dtype=np.int64)
        counts = np.zeros((len(names), max(1, self.classes)))
        np.add.at(counts, (codes, kinds), 1)
        totals = np.maximum(counts.sum(0), 1)
        load, fold_of = np.zeros((FOLDS, counts.shape[1])), np.empty(len(names), dtype=np.int64)
        for group in sorted(rng.permutation(len(names)), key=lambda g: -counts[g].sum()):
            cost = [
                ((load[i] + counts[group]) / totals).max() + (load[i] + counts[group]).sum() / len(codes)
                for i in range(FOLDS)
            ]
            fold_of[group] = int(np.argmin(cost))
            load[fold_of[group]] += counts[group]
        return [np.flatnonzero(fold_of[codes] == i) for i in range(FOLDS)]

    def _by_time(self, times: NDArray[np.float64]) -> Split:
        """Cut at points in time: no two rows of one instant lie in two parts."""
        order = np.argsort(times, kind="stable")
        validation, test = _cuts(times[order])
        parts = [order[:validation], order[validation:test], order[test:]]
        if self.groups is not None:  # a group goes where its latest row is
            latest = {int(group): place for place, part in enumerate(parts) for group in self.groups[part]}
            place = np.array([latest[int(group)] for group in self.groups])
            parts = [np.flatnonzero(place == i) for i in range(3)]
        return Split(*parts)


def _cuts(times: NDArray[np.float64]) -> tuple[int, int]:
    """Return where validation and test begin among sorted times: where a new instant does, nearest to their shares."""
    starts = np.flatnonzero(np.diff(times)) + 1
    if len(starts) < 2:
        raise UserError(
            f"rows of {counted(len(starts) + 1, 'point')} in time cannot be split into training, validation and test "
            "rows: 3 or more are needed"
        )
    test = _nearest(starts[1:], 1 - _SHARE, len(times))
    return _nearest(starts[starts < test], 1 - 2 * _SHARE, len(times)), test


def _nearest(starts: NDArray[np.int64], share: float, rows: int) -> int:
    return int(starts[np.abs(starts - round(share * rows)).argmin()])


def tested(splits: Sequence[Split], rows: int) -> NDArray[np.int64]:
    """Return how often each row is tested, int64 [rows]."""
    return np.bincount(np.concatenate([split.test for split in splits]), minlength=rows)
