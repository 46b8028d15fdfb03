"""Who is mixed with whom: for each row of a batch, the row it is paired with.

Every pairing answers `draw(generator, n, y, x)` with int64 [n]. Those that look at labels need `y`, those that look at
inputs need `x`; both are copied to the host when they live on an accelerator. A row for which nobody fits is
paired with itself, that is: it stays as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vicinal._checks import check_count, check_number, is_finite, shown
from vicinal._value import Value


class Pairing(Value, ABC):
    """Draws a partner for each row.

    Convention:
        dimension 0: the rows of the batch; row i is mixed with row partner[i].
        lambda: drawn by the weighting, not here.
        one draw: one partner per row.

    Examples:
        >>> import numpy as np
        >>> class Reversed(Pairing):
        ...     def draw(self, generator, n, y, x):
        ...         return np.arange(n)[::-1].copy()
        >>> from vicinal import Mixup
        >>> Mixup(0.4, pairing=Reversed(), seed=1).plan(3, step=0)
        Plan(3 rows; 0: 0.0711 + 0.929 of 2; 1: 0.0711 + 0.929 of 1; 2: 0.0711 + 0.929 of 0)

    """

    @abstractmethod
    def draw(self, generator: np.random.Generator, n: int, y: Tensor | None, x: Tensor | None) -> np.ndarray:
        """Draw the partners, int64 [n], each in [0, n)."""

    def across(
        self, generator: np.random.Generator, n: int, others: int, y: Tensor | None, x: Tensor | None
    ) -> np.ndarray:
        """Draw partners for `n` rows among `others` rows of another batch (`Vicinity.between`).

        Args:
            generator: what decides.
            n: number of rows that are given a partner.
            others: number of rows of the other batch.
            y: the targets of both, [n + others, ...], if they are one tensor.
            x: the inputs of both, [n + others, ...].

        Returns:
            int64 [n], each in [0, others); -1 where nobody fits.

        """
        raise TypeError(
            f"{type(self).__name__} draws partners within one batch: between() takes RandomPairs() and the like"
        )


@dataclass(frozen=True)
class RandomPairs(Pairing):
    """A random permutation of the batch: any row of any class (the paper's "all classes, random pairs").

    Args:
        self_pairs: a permutation pairs one row of the batch with itself on average, whatever the batch size; that row
            stays unmixed. The paper's code allows it, so it is the default. False draws a permutation without fixed
            point (a random cycle; for n = 1 there is none, and the row stays as it is).

    Convention:
        dimension 0: the rows of the batch; row i is mixed with row partner[i].
        lambda: drawn by the weighting, not here.
        one draw: one permutation per batch; a row may be its own partner, unless `self_pairs=False`.

    Examples:
        >>> from vicinal import Mixup
        >>> Mixup(0.4, pairing=RandomPairs(), seed=2).plan(3, step=0)
        Plan(3 rows; 0: 0.737 + 0.263 of 2; 1: 0.737 + 0.263 of 0; 2: 0.737 + 0.263 of 1)

    """

    self_pairs: bool = True

    def draw(self, generator: np.random.Generator, n: int, y: Tensor | None, x: Tensor | None) -> np.ndarray:
        """Draw a permutation, int64 [n]."""
        order = generator.permutation(n)
        if self.self_pairs:
            return order
        return _placed(order, np.roll(order, -1))  # everyone's partner is the next on the circle

    def across(
        self, generator: np.random.Generator, n: int, others: int, y: Tensor | None, x: Tensor | None
    ) -> np.ndarray:
        """Draw from one permutation of the other batch after another: nobody twice while somebody is left."""
        return dealt(generator, n, others)


@dataclass(frozen=True)
class Roll(Pairing):
    """Each row with the row a random number of places on, circularly; for a batch that the loader has shuffled.

    The fastest pairing: no rows are gathered (results/bench/README.md). Nobody is paired with itself, and over many batches
    any two rows meet equally often, but within one batch there are only n - 1 of the n! permutations: where the order
    of the rows means something (sorted by class or by time), take `RandomPairs`.

    Convention:
        dimension 0: the rows of the batch; row i is mixed with row partner[i].
        lambda: drawn by the weighting, not here.
        one draw: one permutation per batch; no row is its own partner.

    Examples:
        >>> from vicinal import Mixup
        >>> Mixup(0.4, pairing=Roll(), seed=1).plan(3, step=0)
        Plan(3 rows; 0: 0.0711 + 0.929 of 1; 1: 0.0711 + 0.929 of 2; 2: 0.0711 + 0.929 of 0)

    """

    def draw(self, generator: np.random.Generator, n: int, y: Tensor | None, x: Tensor | None) -> np.ndarray:
        """Draw a distance from 1 to n - 1, and give the partners, int64 [n]."""
        return (np.arange(n) + (int(generator.integers(1, n)) if n > 1 else 0)) % max(n, 1)

    def across(
        self, generator: np.random.Generator, n: int, others: int, y: Tensor | None, x: Tensor | None
    ) -> np.ndarray:
        """Draw a place to start from, and give the rows from there on, circularly."""
        return (np.arange(n) + int(generator.integers(others))) % others if others else nobody(n)


@dataclass(frozen=True)
class SameClass(Pairing):
    """A random permutation within each class ("same class, random pairs"); needs class indices `y` [n].

    Convention:
        dimension 0: the rows of the batch; row i is mixed with row partner[i].
        lambda: drawn by the weighting, not here.
        one draw: one permutation per batch; partners have the row's own class.

    Examples:
        >>> import torch
        >>> from vicinal import Mixup
        >>> Mixup(0.4, pairing=SameClass(), seed=2).plan(4, torch.tensor([0, 1, 0, 1]), step=0).partner
        tensor([2, 1, 0, 3])

    """

    def draw(self, generator: np.random.Generator, n: int, y: Tensor | None, x: Tensor | None) -> np.ndarray:
        """Draw a permutation that keeps the class, int64 [n]."""
        ids = class_ids(y, n, "SameClass")
        shuffled = np.lexsort((generator.random(n), ids))  # the same classes in the same places, shuffled inside
        return _placed(np.argsort(ids, kind="stable"), shuffled)

    def across(
        self, generator: np.random.Generator, n: int, others: int, y: Tensor | None, x: Tensor | None
    ) -> np.ndarray:
        """Draw rows of the same class, uniformly."""
        ids = class_ids(y, n + others, "SameClass")
        return any_of(generator, ids[:n, None] == ids[None, n:])


@dataclass(frozen=True)
class OtherClass(Pairing):
    """A row of another class, uniformly; needs class indices `y` [n]. Not a permutation: classes differ in size.

    Convention:
        dimension 0: the rows of the batch; row i is mixed with row partner[i].
        lambda: drawn by the weighting, not here.
        one draw: one partner per row, not a permutation; partners have another class.

    Examples:
        >>> import torch
        >>> from vicinal import Mixup
        >>> Mixup(0.4, pairing=OtherClass(), seed=1).plan(4, torch.tensor([0, 1, 0, 1]), step=0).partner
        tensor([1, 0, 3, 0])

    """

    def draw(self, generator: np.random.Generator, n: int, y: Tensor | None, x: Tensor | None) -> np.ndarray:
        """Draw partners of other classes, int64 [n]."""
        ids = class_ids(y, n, "OtherClass")
        by_class = np.argsort(ids, kind="stable")
        ordered = ids[by_class]
        start = np.searchsorted(ordered, ids, side="left")  # the block of the row's own class in by_class
        size = np.searchsorted(ordered, ids, side="right") - start
        pick = (generator.random(n) * (n - size)).astype(np.int64)
        pick = np.where(pick < start, pick, pick + size)  # step over the own block
        return np.where(size == n, np.arange(n), by_class[np.minimum(pick, n - 1)])  # of one class all stay alone

    def across(
        self, generator: np.random.Generator, n: int, others: int, y: Tensor | None, x: Tensor | None
    ) -> np.ndarray:
        """Draw rows of another class, uniformly."""
        ids = class_ids(y, n + others, "OtherClass")
        return any_of(generator, ids[:n, None] != ids[None, n:])


@dataclass(frozen=True)
class Nearest(Pairing):
    """One of the `k` nearest other rows, uniformly, by the Euclidean distance of the flattened inputs `x`.

    The "KNN" rows of the paper's ablation (Zhang et al. 2018, section 3.8, table 5).

    Args:
        k: how many neighbors to draw from (the paper: 200 over the whole training set); >= 1. With fewer candidates
            than `k`, all of them.
        same_class: only neighbors of the row's own class; with `InputMixup` this is the paper's stand-in for SMOTE.

    The neighbors are those within the rows of one plan: a batch, or, for a dataset held in memory, the whole of it.

    Convention:
        dimension 0: the rows of the batch; row i is mixed with row partner[i].
        lambda: drawn by the weighting, not here.
        one draw: one partner per row, not a permutation; no row is its own partner.

    Raises:
        ValueError: k < 1, or `x` (and `y` for same_class) was not given to `plan`.

    The neighbors are those within the rows of one plan: a batch, or, for a dataset held in memory, the whole of it.

    Examples:
        >>> import torch
        >>> from vicinal import InputMixup
        >>> x = torch.tensor([[0.0], [5.0], [0.1], [5.1]])
        >>> InputMixup(1.0, pairing=Nearest(1), seed=1).plan(4, x=x, step=0).partner
        tensor([2, 3, 0, 1])

    """

    k: int = 200
    same_class: bool = False

    def __post_init__(self) -> None:
        check_count("k", self.k, 1, "the neighbors to draw from")

    def draw(self, generator: np.random.Generator, n: int, y: Tensor | None, x: Tensor | None) -> np.ndarray:
        """Draw partners among neighbors, int64 [n]."""
        return or_itself(self._draw_from(0, generator, n, n, y, x))

    def across(
        self, generator: np.random.Generator, n: int, others: int, y: Tensor | None, x: Tensor | None
    ) -> np.ndarray:
        """Draw partners among the nearest rows of the other batch."""
        return self._draw_from(n, generator, n, n + others, y, x)

    def _draw_from(
        self, first: int, generator: np.random.Generator, n: int, rows: int, y: Tensor | None, x: Tensor | None
    ) -> np.ndarray:
        """Draw for each of n rows one of its k nearest among those from `first` on; -1 where there is none."""
        flat = points_of(x, rows, "Nearest")
        if n == 0 or first == rows:
            return nobody(n)
        distance = torch.cdist(flat[:n], flat[first:])
        if first == 0:
            distance.fill_diagonal_(torch.inf)
        if self.same_class:
            ids = torch.from_numpy(class_ids(y, rows, "Nearest(same_class=True)"))
            distance.masked_fill_(ids[:n, None] != ids[None, first:], torch.inf)
        near, row = distance.topk(min(self.k, rows - first), dim=1, largest=False)
        candidates = near.isfinite().sum(1).numpy()
        pick = (generator.random(n) * candidates).astype(np.int64)
        return np.where(candidates > 0, row.numpy()[np.arange(n), pick], -1)


@dataclass(frozen=True)
class LabelDistance(Pairing):
    """C-Mixup's pairing, for regression: a row whose label is near (Yao et al. 2022).

    `P(j | i) ~ exp(-d(y_i, y_j)**2 / (2 * bandwidth**2))` for j != i, within the batch.

    Args:
        bandwidth: in the units of the label, > 0. Towards infinity: any other row; towards 0: the nearest label.

    Convention:
        dimension 0: the rows of the batch; row i is mixed with row partner[i].
        lambda: drawn by the weighting, not here.
        one draw: one partner per row, not a permutation; no row is its own partner.

    Raises:
        ValueError: bandwidth <= 0, or `y` was not given to `plan` or is not floating point [n] or [n, d].

    Examples:
        >>> import torch
        >>> from vicinal import Mixup
        >>> y = torch.tensor([[0.0], [5.0], [0.1], [5.1]])
        >>> Mixup(2.0, pairing=LabelDistance(bandwidth=0.5), seed=1).plan(4, y, step=0).partner
        tensor([2, 3, 0, 1])

    """

    bandwidth: float = 0.5

    def __post_init__(self) -> None:
        check_number("bandwidth", self.bandwidth)
        if not self.bandwidth > 0 or (self.bandwidth != np.inf and not is_finite(self.bandwidth)):
            raise ValueError(f"bandwidth is a distance between labels and must be > 0, got {shown(self.bandwidth)}")

    def draw(self, generator: np.random.Generator, n: int, y: Tensor | None, x: Tensor | None) -> np.ndarray:
        """Draw partners by label distance, int64 [n]."""
        return or_itself(_by_score(generator, self._scores(self._labels(y, n), n, slice(None))))

    def across(
        self, generator: np.random.Generator, n: int, others: int, y: Tensor | None, x: Tensor | None
    ) -> np.ndarray:
        """Draw partners by label distance to the rows of the other batch."""
        return _by_score(generator, self._scores(self._labels(y, n + others), n, slice(n, None)))

    @staticmethod
    def _labels(y: Tensor | None, n: int) -> Tensor:
        if y is None or not y.is_floating_point() or y.ndim == 0 or len(y) != n:
            found = "nothing" if y is None else f"{y.dtype} {list(y.shape)}"
            raise ValueError(f"LabelDistance needs floating-point regression targets y [{n}, ...], got {found}")
        return y.detach().reshape(n, -1 if n else 1).to(device="cpu", dtype=torch.float64)

    def _scores(self, labels: Tensor, n: int, others: slice) -> np.ndarray:
        """Return log-probabilities but for a constant, [n, others]; -inf for a row itself and beside nan."""
        scaled, scale = within_range(labels)
        distance = torch.cdist(scaled[:n], scaled[others], compute_mode="donot_use_mm_for_euclid_dist")
        distance = distance.nan_to_num(nan=torch.inf, posinf=torch.inf)
        if others.start is None:
            distance.fill_diagonal_(torch.inf)
        score = -0.5 * (distance / (self.bandwidth * scale)).square().nan_to_num(nan=torch.inf, posinf=torch.inf)
        if 0 not in distance.shape:
            # where all are too far away for a number, the nearest counts, as towards bandwidth 0
            nearest = distance.min(1, keepdim=True).values
            lost = (score.max(1, keepdim=True).values == -torch.inf) & nearest.isfinite()
            score = torch.where(lost & (distance == nearest), 0.0, score)
        return score.numpy()


def points_of(x: Tensor | None, n: int, who: str, what: str = "inputs") -> Tensor:
    """Return inputs [n, ...] as points, float64 [n, d] on the host, near the origin; `who` looks at them."""
    if x is None:
        raise ValueError(f"{who} looks at the {what}: give them to plan(n, y, x)")
    if not x.is_floating_point() or x.ndim == 0 or len(x) != n:
        raise ValueError(
            f"{who} measures distances and needs floating-point {what} [{n}, ...], got {x.dtype} {list(x.shape)}"
        )
    if n == 0:
        return torch.empty(0, 0, dtype=torch.float64, device="cpu")
    flat = within_range(x.detach().reshape(n, -1).to(device="cpu", dtype=torch.float64))[0]
    # cdist multiplies matrices, which loses small distances far from the origin
    return flat - flat.nanmedian(0).values


def within_range(points: Tensor) -> tuple[Tensor, float]:
    """Return points with squares that a float64 holds, and the power of 2 that they are multiplied by: mostly 1."""
    most = float(points.nan_to_num(0, 0, 0).abs().max()) if points.numel() else 0.0
    if most == 0 or 2.0**-500 < most < 2.0**500:
        return points, 1.0
    scale = 2.0**-540 if most > 1 else 2.0**540
    return points * scale, scale


def _by_score(generator: np.random.Generator, score: np.ndarray) -> np.ndarray:
    """Draw for each row j with probability ~ exp(score[row, j]); -1 where all scores are -inf."""
    if 0 in score.shape:
        return nobody(len(score))
    # Gumbel's trick: the largest of score + noise is a draw from the softmax, stable for any bandwidth
    partner = (score + generator.gumbel(size=score.shape)).argmax(axis=1)
    return np.where(np.isfinite(score.max(axis=1)), partner, -1)


def any_of(generator: np.random.Generator, fits: np.ndarray) -> np.ndarray:
    """Draw for each row one of the columns that fit, uniformly; -1 where none does."""
    if 0 in fits.shape:
        return nobody(len(fits))
    return np.where(fits.any(axis=1), np.where(fits, generator.random(fits.shape), -1).argmax(axis=1), -1)


def dealt(generator: np.random.Generator, n: int, others: int) -> np.ndarray:
    """Draw n of the others, from one permutation after another."""
    if others == 0:
        return nobody(n)
    return np.concatenate([generator.permutation(others) for _ in range(-(-n // others))] or [nobody(0)])[:n]


def nobody(n: int) -> np.ndarray:
    """Return no partner for n rows."""
    return np.full(n, -1, dtype=np.int64)


def or_itself(partner: np.ndarray) -> np.ndarray:
    """Return the partners, the row itself where it has none."""
    return np.where(partner >= 0, partner, np.arange(len(partner)))


def _placed(rows: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """Return the partners in the order of rows 0, 1, ..., given them in another one."""
    partner = np.empty(len(rows), dtype=np.int64)
    partner[rows] = partners
    return partner


def class_ids(y: Tensor | None, n: int, who: str) -> np.ndarray:
    """Return class indices int64 [n] on the host; `who` looks at them."""
    if y is None:
        raise ValueError(f"{who} looks at the labels: give class indices y [n] to plan(n, y)")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or tuple(y.shape) != (n,):
        raise ValueError(f"{who} needs integer class indices of shape [{n}], got {y.dtype} of shape {list(y.shape)}")
    return y.detach().to(device="cpu", dtype=torch.int64).numpy()
