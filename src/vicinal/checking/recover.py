"""Who is in a mixed row, and with which share? Read off its content, since every row that went in says who it is.

Rows are noise, each its own. A row that is a weighted sum of them has one set of weights, found by least squares; a row
that is put together of boxes agrees with each of them cell for cell somewhere; and a row mixed of such rows is a weighted
sum in each of its parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vicinal.keyed import Key

_FEW = 24  # candidates that are all looked at in full
_LARGE = 1 << 14  # cells that are looked at of a larger row, but for its boxes
NARROW = 64  # cells of a row that is so short that all candidates are kept: they cannot be told apart by likeness
_PATCHES = 32


@dataclass(frozen=True)
class Recovered:
    """What a mixed row is made of.

    Args:
        share: float64 [k], the share of each candidate.
        error: how far a share may be off, by rounding and by content that is none of the candidates.
        found: the fraction of cells that the shares explain; below 1 where something else is in the row.
        offset: what is added to every cell, in units of the content's standard deviation.
        pieces: int64 [d], for each cell which of `mixtures` it belongs to, -1: none; None: the row is one weighted sum.
        mixtures: float64 [p, k], the shares of each piece.

    """

    share: np.ndarray
    error: float
    found: float
    offset: float = 0.0
    pieces: np.ndarray | None = None
    mixtures: np.ndarray | None = None

    @property
    def is_known(self) -> bool:
        """True if nearly all of the row is explained, or its shares are estimated well in spite of noise."""
        return self.found > 0.97 or self.error < 0.03

    def main(self) -> list[int]:
        """Return the candidates that have a share, the largest first."""
        order = np.argsort(-np.abs(self.share))
        return [int(j) for j in order if abs(self.share[j]) > max(1e-4, 2 * self.error)]


def tolerance(dtype: torch.dtype, size: float) -> float:
    """Return how far two values of a dtype may differ that should be equal, for content of a size."""
    if not dtype.is_floating_point:
        return 0.51  # one rounding to whole numbers
    return max(size, 1e-12) * {torch.float16: 4e-3, torch.bfloat16: 3e-2}.get(dtype, 2e-5)


def recover(mixed: Tensor, rows: Tensor, own: int | None = None) -> Recovered:
    """Recover the shares of candidate rows in one mixed row.

    Args:
        mixed: the row, of any shape and dtype.
        rows: [k, ...], the candidates, of the row's shape.
        own: which candidate the row should be first of all; it is never left out of the search.

    Returns:
        The shares, with how well they are known.

    """
    return Candidates(rows).recover(mixed, own)


class Candidates:
    """Rows that others may be made of.

    Args:
        rows: [k, ...].

    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows.reshape(len(rows), -1).to(torch.float64).numpy()
        self.size = float(np.abs(self.rows).max(initial=0.0))
        self._inverse: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def recover(self, mixed: Tensor, own: int | None = None) -> Recovered:
        """Recover the shares of these rows in a mixed one; see `recover`."""
        r = mixed.reshape(-1).to(torch.float64).numpy()
        tol = tolerance(mixed.dtype, self.size)
        if len(self) <= _FEW:
            return self._recover(r, tol, tuple(mixed.shape))
        chosen = _candidates(r, self.rows, tol, own)
        result = Candidates.of(self.rows[chosen], self.size)._recover(r, tol, tuple(mixed.shape))
        share = np.zeros(len(self))
        share[chosen] = result.share
        mixtures = None
        if result.mixtures is not None:
            mixtures = np.zeros((len(result.mixtures), len(self)))
            mixtures[:, chosen] = result.mixtures
        return Recovered(share, result.error, result.found, result.offset, result.pieces, mixtures)

    @classmethod
    def of(cls, rows: np.ndarray, size: float) -> Candidates:
        """Return candidates of rows that are float64 [k, cells] already."""
        made = cls.__new__(cls)
        made.rows, made.size, made._inverse = rows, size, None
        return made

    def _recover(self, r: np.ndarray, tol: float, shape: tuple[int, ...]) -> Recovered:
        f = self.rows
        k, d = f.shape
        whole = self._as_sum(r, tol)
        if whole is not None and whole.found > 0.999:
            return whole
        if d < 2 * (k + 1):
            pair = _as_pair(r, f, tol)
            if pair is not None:
                return pair
        pieces = _as_pieces(r, f, tol, shape)
        if whole is None or (pieces.found > 0.97 and pieces.found > whole.found):
            return pieces
        return whole

    def _as_sum(self, r: np.ndarray, tol: float) -> Recovered | None:
        """Return the row as one weighted sum of all candidates and a constant; None: there are too few cells."""
        f = self.rows
        k, d = f.shape
        if d < 2 * (k + 1):
            return None
        at = cells(d, _LARGE)
        spread, center = f.std() or 1.0, f.mean()
        if self._inverse is None:
            # candidates less their common mean: a sum with weights that sum to 1 has then no constant
            a = np.concatenate([f[:, at] - center, np.full((1, len(at)), spread)]).T
            try:
                self._inverse = a, np.linalg.inv(a.T @ a), at
            except np.linalg.LinAlgError:  # two candidates are equal
                return None
        a, inverse, at = self._inverse
        b = r[at] - center
        weights = inverse @ (a.T @ b)
        residual = b - a @ weights
        off = float(np.sqrt((residual**2).mean()))
        error = off * float(np.sqrt(np.diag(inverse)[:k].max(initial=0.0)))
        share, offset = weights[:k], float(weights[k])
        if abs(share.sum() - 1) > 1e-6:  # the common mean is part of the weighted rows
            offset -= (share.sum() - 1) * center / spread
        explained = float((np.abs(residual) <= 3 * tol).mean())
        share[np.abs(share) < max(1e-5, 2 * error)] = 0.0
        return Recovered(share, max(3 * error, 1e-6), explained, offset)


def cells(d: int, count: int) -> np.ndarray:
    """Return places spread over all cells of a row, the same at each call."""
    if d <= count:
        return np.arange(d)
    return np.sort(Key(7, 0, 0, d).generator().choice(d, count, replace=False))


def _candidates(r: np.ndarray, f: np.ndarray, tol: float, own: int | None) -> np.ndarray:
    """Return the few candidates that can be in a row, by a part of its cells.

    They are those that agree with most of its cells, and those that are most like it, and like what these leave over.
    """
    if r.size < NARROW:
        return np.arange(len(f))
    at = cells(r.size, max(512, min(4 * len(f), 4096)))
    rs, fs = r[at], f[:, at]
    equal = (np.abs(fs - rs) <= tol).mean(axis=1)
    centered = fs - fs.mean()
    norms = np.sqrt((centered**2).sum(axis=1)) + 1e-12
    found = {*np.argsort(-equal)[:6].tolist()} | ({own} if own is not None else set())
    left = rs - fs.mean()
    for count in (8, 4, 4):
        match = np.abs(centered @ left) / norms
        found |= {*np.argsort(-match)[:count].tolist()}
        basis = centered[sorted(found)].T
        left = rs - fs.mean() - basis @ np.linalg.lstsq(basis, rs - fs.mean(), rcond=None)[0]
    return np.array(sorted(found))


def _as_pair(r: np.ndarray, f: np.ndarray, tol: float) -> Recovered | None:
    """Return the row as a mixture of two candidates, for rows of few cells; None: there are none, or several."""
    k, d = f.shape
    if d < 2:
        return None
    best: list[tuple[float, int, int, float]] = []
    for i in range(k - 1):
        apart = f[i] - f[i + 1 :]
        squares = (apart**2).sum(axis=1)
        weights = ((r - f[i + 1 :]) * apart).sum(axis=1) / np.where(squares > 0, squares, np.inf)
        off = np.abs(r - f[i + 1 :] - weights[:, None] * apart).max(axis=1)
        for j in np.flatnonzero((off <= 4 * tol) & (squares > 0)):
            best.append((float(off[j]), i, i + 1 + int(j), float(weights[j])))
    if not best:
        return None
    best.sort()
    off, i, j, weight = best[0]
    share = np.zeros(k)
    share[i], share[j] = weight, 1 - weight
    share[np.abs(share) < 1e-5] = 0.0
    for _, a, b, w in best[1:]:  # the row of one candidate is a pair with any other
        other = np.zeros(k)
        other[a], other[b] = w, 1 - w
        if np.abs(other - share).max() > 1e-3:
            return None
    return Recovered(share, max(1e-6, 4 * off / (np.sqrt(2 * f.var()) + 1e-12)), 1.0)


def _as_pieces(r: np.ndarray, f: np.ndarray, tol: float, shape: tuple[int, ...]) -> Recovered:
    """Return the row as parts, each of which is one candidate or one weighted sum."""
    k, d = f.shape
    mixtures = [np.eye(k)[j] for j in range(k)]
    residuals = [np.abs(r - f[j]) for j in range(k)]
    best = np.min(residuals, axis=0)
    exact = min(tol, 2e-5 * float(np.abs(f).max(initial=0.0)))
    if (best <= exact).mean() >= 0.98:
        tol = exact  # cut and not computed: no cell of another row agrees by chance
    if (best <= tol).mean() < 0.98:
        for mixture in _patch_mixtures(r, f, tol, shape):
            mixtures.append(mixture)
            residuals.append(np.abs(r - mixture @ f))
    table = np.stack(residuals)
    fits = table <= 2 * tol
    counts = fits.sum(axis=1)
    fits &= (counts >= max(1, 2e-4 * d))[:, None]
    # a cell that several explain, by chance or since a share is 0, belongs to the one that explains most
    order = np.argsort(-counts, kind="stable")
    pieces = np.full(d, -1)
    for m in order[::-1]:
        pieces[fits[m]] = m
    known = pieces >= 0
    of = np.stack(mixtures)
    share = np.zeros(k)
    for m, count in zip(*np.unique(pieces[known], return_counts=True), strict=True):
        share += of[m] * count / d
    found = float(known.mean())
    share[np.abs(share) < 1e-6] = 0.0
    # cells of two rows agree by chance where values are coarse: whole numbers, half precision
    spread = float(np.ptp(f)) or 1.0
    chance = max(1e-6, 4 * tol / spread if tol > 1e-3 * spread else 0.0)
    return Recovered(share, max(chance, 1 - found), found, pieces=pieces, mixtures=of)


def _patches(shape: tuple[int, ...], width: int) -> Iterator[np.ndarray]:
    """Return places of cells that lie together in the two largest dimensions, in all others from end to end."""
    cells = np.arange(int(np.prod(shape))).reshape(shape if len(shape) > 1 else (1, *shape))
    last = sorted(np.argsort(cells.shape, kind="stable")[-2:])
    cells = np.moveaxis(cells, last, (-2, -1)).reshape(-1, *(cells.shape[i] for i in last))
    rest, h, w = cells.shape
    high = min(h, math.ceil(math.sqrt(width / rest)))
    wide = min(w, math.ceil(width / (rest * high)))
    high = min(h, math.ceil(width / (rest * wide)))
    generator = Key(7, 1, h, w).generator()
    tops = generator.integers(0, h - high + 1, _PATCHES * 4)
    lefts = generator.integers(0, w - wide + 1, _PATCHES * 4)
    for top, left in dict.fromkeys(zip(tops.tolist(), lefts.tolist(), strict=True)):
        yield cells[:, top : top + high, left : left + wide].reshape(-1)


def _patch_mixtures(r: np.ndarray, f: np.ndarray, tol: float, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Return the weighted sums that hold exactly in some patches of neighboring cells."""
    k, d = f.shape
    width = 2 * k + 4
    if d < 2 * width:
        return []
    found: list[np.ndarray] = []
    for tried, at in enumerate(_patches(shape, width)):
        if tried >= _PATCHES and not found:
            break  # a row that is a weighted sum nowhere
        a, b = f[:, at].T, r[at]
        weights = np.linalg.lstsq(a, b, rcond=None)[0]
        if np.abs(a @ weights - b).max() > 2 * tol:
            continue
        weights[np.abs(weights) < 1e-3] = 0.0
        if not any(np.abs(weights - other).max() < 5e-3 for other in found):
            found.append(weights)
        if len(found) >= 16:
            break
    return found
