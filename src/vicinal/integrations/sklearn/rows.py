"""Rows that count as often as their weights say, so that a weight of 2 is a row that is there twice, to the bit.

Three things make it exact. Rows are put into an order that depends on their content alone, so that a fit does not
depend on the order of a table. Integer weights repeat rows; of others an epoch is drawn by systematic sampling (Madow
1949): the weights lie one after the other on a line, and the rows are taken on which the points u, u + 1, u + 2, ... fall,
for one uniform u in [0, 1). Means, scales and batches all come from rows drawn like this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from vicinal.keyed import Key

_MOST = 2**28  # rows of one epoch: their numbers take 2 GiB


class WeightedRows:
    """Rows of a table with their weights, in an order of their own.

    Args:
        rows: int64 [m], row numbers, ordered by content.
        distinct: int64 [m], of each row the number of its content: equal rows have one number.
        weight: float64 [m], > 0. If all are integers, each row is drawn exactly so often; others are scaled to a mean of 1,
            and a row is drawn at least floor(weight) and at most ceil(weight) times per epoch, on average `weight` times.

    Raises:
        ValueError: integer weights make more rows than fit into memory.

    """

    def __init__(self, rows: np.ndarray, distinct: np.ndarray, weight: np.ndarray) -> None:
        self.rows, self.distinct = rows, distinct
        self._repeats = bool((weight == np.rint(weight)).all())
        self.weight = weight if self._repeats else weight * (len(weight) / weight.sum())
        self._ends = np.cumsum(self.weight)
        if self._ends[-1] > _MOST:
            raise ValueError(
                f"integers in sample_weight repeat rows, here to {self._ends[-1]:.3g} rows, more than fit into memory: "
                "divide sample_weight by its mean"
            )

    @classmethod
    def of(cls, X: Any, y: np.ndarray, weight: np.ndarray) -> WeightedRows:
        """Return the rows of a table that have a weight.

        Args:
            X: inputs, float64 [n, d], an array or a CSR matrix in canonical form.
            y: targets, numbers [n] or [n, outputs].
            weight: float64 [n], >= 0.

        """
        rows = np.flatnonzero(weight > 0)
        distinct = _sparse_contents(X[rows], y[rows]) if sparse.issparse(X) else _contents(X[rows], y[rows])
        order = np.argsort(distinct, kind="stable")
        return cls(rows[order], distinct[order], weight[rows[order]])

    def __len__(self) -> int:
        """Return the number of rows per epoch."""
        return round(float(self._ends[-1]))

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """Draw the rows of one epoch, int64 [len(self)], ordered by content."""
        if self._repeats:
            return self.counted()[0]
        points = np.arange(len(self)) + generator.random()
        drawn = np.searchsorted(self._ends, points, side="right")
        return self.rows[np.minimum(drawn, len(self.rows) - 1)]  # the last end may be rounded down

    def counted(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rows int64 [k] and what each counts, float64 [k]: by its weight, or, of integers, 1 per repetition."""
        if self._repeats:
            return np.repeat(self.rows, self.weight.astype(np.int64)), np.ones(len(self))
        return self.rows, self.weight

    def split(
        self, share: float, least: int, classes: np.ndarray | None, key: Key
    ) -> tuple[WeightedRows, WeightedRows]:
        """Split into rows to train on and rows to validate on; equal rows go to one side.

        Args:
            share: of the distinct rows of each class that are held out, in (0, 1), rounded.
            least: number of rows of each class that are held out at least; of a class of no more rows none is.
            classes: class indices int64 [n] of the table; None: all rows are of one.
            key: of the draw.

        Raises:
            ValueError: there are too few rows for that.

        """
        contents, first = np.unique(self.distinct, return_index=True)
        of_content = np.zeros(len(contents), dtype=np.int64) if classes is None else classes[self.rows[first]]
        generator = key.generator()
        held: list[np.ndarray] = []
        for one in np.unique(of_content):
            members = generator.permutation(contents[of_content == one])
            if len(members) > least:
                held.append(members[: min(max(least, round(share * len(members))), len(members) - 1)])
        if not held:
            raise ValueError(
                f"early_stopping needs {least + 1} different rows, of one class at least, to hold some out: n_samples="
                f"{len(contents)} are too few"
            )
        out = np.isin(self.distinct, np.concatenate(held))
        return self._part(~out), self._part(out)

    def _part(self, chosen: np.ndarray) -> WeightedRows:
        return WeightedRows(self.rows[chosen], self.distinct[chosen], self.weight[chosen])


def _contents(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return for each row the rank of its bytes among the different ones, int64 [n]."""
    rows = np.ascontiguousarray(np.column_stack([X, y]), dtype=np.float64) + 0.0  # -0.0 becomes 0.0
    return np.unique(rows.view(f"V{rows.shape[1] * 8}").ravel(), return_inverse=True)[1].ravel()


def _sparse_contents(X: Any, y: np.ndarray) -> np.ndarray:
    """Return the same by the entries that are stored."""
    bounds = zip(X.indptr[:-1], X.indptr[1:], y.reshape(len(y), -1) + 0.0, strict=True)
    rows = [(X.indices[a:b].tobytes(), (X.data[a:b] + 0.0).tobytes(), t.tobytes()) for a, b, t in bounds]
    rank = {row: i for i, row in enumerate(sorted(set(rows)))}
    return np.array([rank[row] for row in rows], dtype=np.int64)
