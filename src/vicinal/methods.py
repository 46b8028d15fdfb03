"""Published methods of the mixup family that are plans: who is mixed with whom, how much, and which cells.

    Mixup(1.0, pairing=Transport(k=4))      k-Mixup: blocks of k rows matched by optimal transport
    Mixup(2.0, pairing=Selective())         selective mixup, LISA: by class and by group
    Unmixed(Mixup(2.0, ...))                its control: the same pairs without mixing (`compose.py`)
    Beside(Mixup(10.0))                     RegMixup: the plain rows, and the mixed ones after them (`compose.py`)
    Mixup(Beta(0.75, folded=True))          MixMatch's lambda: a row stays the larger part (`weighting.py`)
    Remix(1.0), SKMixup(), FMix(), ColumnMix(), CMixup(data, y, bandwidth)

Each draws as its authors' formula says, which tests/test_methods.py checks against a plain loop. What they are good for, and
where methods are that are no plans: docs/how-to/methods.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from vicinal import _state
from vicinal._batch import split_batch
from vicinal._between import sliced
from vicinal._checks import Per, check_alpha, check_count, check_number, is_finite, shown
from vicinal._grid import grid_of
from vicinal._value import Value
from vicinal.compose import Beside, Unmixed
from vicinal.keyed import Key
from vicinal.mix_plan import MixPlan
from vicinal.pairing import Pairing, RandomPairs, any_of, class_ids, dealt, nobody, or_itself, points_of, within_range
from vicinal.vicinities import (
    Mixup,
    check_cut,
    check_pairing,
    checked_partners,
    checked_shares,
    exact,
    warn_alone,
    weighting_of,
)
from vicinal.vicinity import Vicinity
from vicinal.weighting import Weighting

__all__ = [
    "Beside",
    "CMixup",
    "ColumnMix",
    "FMix",
    "LabelNeighbors",
    "Remix",
    "SKMixup",
    "Selective",
    "Transport",
    "Unmixed",
]

Criterion = Literal["same", "other", "any"]

_TAUS = 1e-12, 1e300  # the authors add 1e-12; beyond 1e300 NumPy's sums overflow
_RINGS, _REACH = 4, 11  # rings of label distance per bandwidth; bandwidths beyond which float64 sees no probability
_BLOCK = 1 << 22  # distances at once


# -- who is mixed with whom ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transport(Pairing):
    """k-Mixup: blocks of `k` rows, each matched with another block by optimal transport (Greenewald et al. 2021).

    The partners of a block are those of a random permutation, in the order that makes the sum of squared Euclidean distances
    of the flattened inputs smallest: rows meet near ones as far as the block allows. k = 1 is mixup; the whole batch as
    one block pairs each row with itself. The paper's definition has squared distances, its published code plain ones.

    Args:
        k: rows of a block, >= 1; a last, smaller block is matched alike.

    Convention:
        dimension 0: the rows of the batch; row i is mixed with row partner[i].
        lambda: drawn by the weighting, not here.
        one draw: one permutation per batch, reordered within blocks; a row may be its own partner.

    Raises:
        ImportError: SciPy, which solves the matching, is not installed.
        ValueError: k < 1, or floating-point inputs `x` were not given to `plan`.

    Examples:
        >>> import torch
        >>> from vicinal import Mixup
        >>> x = torch.tensor([[0.0], [5.0], [0.1], [5.1]])
        >>> Mixup(1.0, pairing=Transport(k=2), seed=9).plan(4, x=x, step=0).partner
        tensor([0, 3, 2, 1])

    """

    k: int = 4

    def __post_init__(self) -> None:
        check_count("k", self.k, 1, "the rows of a block")

    def draw(self, generator: np.random.Generator, n: int, y: Tensor | None, x: Tensor | None) -> np.ndarray:
        """Draw a permutation, int64 [n], and match it."""
        points = points_of(x, n, "Transport")
        return self._matched(generator.permutation(n), points, points)

    def across(
        self, generator: np.random.Generator, n: int, others: int, y: Tensor | None, x: Tensor | None
    ) -> np.ndarray:
        """Draw from permutations of the other batch, and match them."""
        points = points_of(x, n + others, "Transport")
        return self._matched(dealt(generator, n, others), points[:n], points[n:]) if others else nobody(n)

    def _matched(self, order: np.ndarray, mine: Tensor, theirs: Tensor) -> np.ndarray:
        linear_sum_assignment = _assignment()
        partner = order.copy()
        for start in range(0, len(order), self.k):
            block = order[start : start + self.k]
            cost = torch.cdist(mine[start : start + self.k], theirs[block], compute_mode=_EXACT).square().numpy()
            finite = np.where(np.isfinite(cost), cost, 1e300)  # rows of nan and infinity are far from all
            partner[start : start + self.k] = block[linear_sum_assignment(finite)[1]]
        return partner


_EXACT = "donot_use_mm_for_euclid_dist"  # matrix products lose small distances


def _assignment() -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    try:
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "scipy":
            raise
        raise ImportError("Transport matches rows by SciPy, which is not installed: pip install scipy") from error
    return linear_sum_assignment


@dataclass(frozen=True)
class Selective(Pairing):
    """Selective mixup: partners of the same or another class, and of the same or another group, uniformly.

    LISA (Yao et al. 2022) mixes rows of one class from different domains, and rows of one domain with different classes:
    `Choice([Mixup(2.0, Selective("same", "other")), Mixup(2.0, Selective("other", "same"))])`. A row for which nobody fits
    stays as it is. Groups (domains, hospitals, speakers) stand beside the class indices in the target:
    `mixup(x, (y, groups))` mixes both and gives both back, `plan(n, (y, groups), step=...)` looks at both. Choosing pairs
    resamples the data, too: compare with `Unmixed(...)` (Teney et al. 2024).

    Args:
        label: whether partners have the "same" class, an "other" one, or "any".
        group: likewise; with "any" the target may be class indices [n] alone.

    Convention:
        dimension 0: the rows of the batch; row i is mixed with row partner[i].
        lambda: drawn by the weighting, not here.
        one draw: one partner per row, not a permutation; no row is its own partner while another one fits.

    Raises:
        ValueError: a criterion is none of the three; or the class indices or groups that it looks at were not given.

    Examples:
        >>> import torch
        >>> from vicinal import Mixup
        >>> y, hospital = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
        >>> Mixup(2.0, pairing=Selective("same", "other"), seed=1).plan(4, (y, hospital), step=0).partner
        tensor([2, 3, 0, 1])

    """

    label: Criterion = "same"
    group: Criterion = "other"

    def __post_init__(self) -> None:
        for name, value in (("label", self.label), ("group", self.group)):
            if value not in ("same", "other", "any"):
                raise ValueError(f"{name} must be 'same', 'other' or 'any', got {shown(value)}")

    def draw(self, generator: np.random.Generator, n: int, y: Tensor | None, x: Tensor | None) -> np.ndarray:
        """Draw partners that fit, int64 [n]."""
        fits = self._fits(y, n, n, 0)
        np.fill_diagonal(fits, False)
        return or_itself(any_of(generator, fits))

    def across(
        self, generator: np.random.Generator, n: int, others: int, y: Tensor | None, x: Tensor | None
    ) -> np.ndarray:
        """Draw rows of the other batch that fit, uniformly."""
        return any_of(generator, self._fits(y, n, n + others, n))

    def _fits(self, y: Tensor | None, n: int, rows: int, first: int) -> np.ndarray:
        """Return which of the rows from `first` on fit each of the first n rows, bool [n, rows - first]."""
        columns = (y,) if y is None or y.ndim < 2 else y.unbind(1)
        if self.group != "any" and (y is None or y.ndim != 2 or len(columns) != 2):
            raise ValueError("Selective looks at groups: give a pair as the target, (class indices, groups), each [n]")
        fits = np.ones((n, rows - first), dtype=bool)
        for criterion, column in zip((self.label, self.group), (columns[0], columns[-1]), strict=True):
            if criterion != "any":
                ids = class_ids(column, rows, "Selective")
                fits &= (ids[:n, None] == ids[None, first:]) == (criterion == "same")
        return fits


# -- how much of itself a row keeps --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Remix(Mixup):
    """Mixup for imbalanced classes: the label goes to the rarer class of a pair (Chou et al. 2020).

    Inputs are mixed as by `Mixup`. With n_i and n_j examples of the classes of a row and its partner, the row's share of the
    label is 0 where n_i / n_j >= kappa and lambda < tau, 1 where n_i / n_j <= 1 / kappa and 1 - lambda < tau, and lambda
    otherwise.

    Args:
        alpha: as of `Mixup`.
        pairing: as of `Mixup`.
        counts: the number of training examples of each class, as `torch.bincount(y).tolist()`; None: those of the batch.
        kappa: how many times larger a class must be, >= 1; the paper has 3.
        tau: below which lambda the larger class gives its label up, in [0, 1]; the paper has 0.5. 0 is mixup.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the share that a row keeps of itself; its partner has 1 - lambda; the rarer class may take the whole label.
        one draw: as of `Mixup`; shared by every tensor of a nest.

    Raises:
        TypeError: more than two rows are mixed.
        ValueError: an argument is out of range, or class indices `y` [n] were not given to `plan`, or have no count.

    Examples:
        >>> import torch
        >>> x, y = Remix(1.0, counts=[900, 100], seed=7)(torch.eye(2), torch.tensor([0, 1]))
        >>> y
        MixedTarget([0.509 of 0 + 0.491 of 1, 1 of 1 + 0 of 0])

    """

    counts: Sequence[int] | None = None
    kappa: float = 3.0
    tau: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("kappa", self.kappa)
        check_number("tau", self.tau)
        if not (self.kappa >= 1 and is_finite(self.kappa)) or not 0 <= self.tau <= 1:
            raise ValueError(f"Remix needs kappa >= 1 and tau in [0, 1], got {shown(self.kappa)} and {shown(self.tau)}")
        if self.counts is not None:
            counts = np.asarray(self.counts)
            if counts.ndim != 1 or counts.dtype.kind not in "iu" or not counts.size or counts.min() < 1:
                raise ValueError(f"counts are the examples of each class, integers >= 1, got {shown(self.counts)}")
            object.__setattr__(self, "counts", tuple(counts.tolist()))

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Draw as `Mixup` does, then share the labels."""
        plan, ids = super().draw(key, n, y, x, epoch), class_ids(y, n, "Remix")
        if plan.weight.ndim > 1:
            raise TypeError(f"Remix mixes pairs, got {self.alpha!r}")
        counts = np.bincount(ids) if self.counts is None else np.array(self.counts)
        if n and not 0 <= ids.min() <= ids.max() < len(counts):
            raise ValueError(f"counts has {len(counts)} classes, and y holds {ids.min()} to {ids.max()}")
        own, lam = counts[ids], plan.weight
        ratio = torch.from_numpy(own / own[plan.partner.numpy()])
        label = torch.where((ratio >= self.kappa) & (lam < self.tau), 0.0, lam)
        label = torch.where((ratio <= 1 / self.kappa) & (1 - lam < self.tau), 1.0, label)
        return replace(plan, target_weight=label)


@dataclass(frozen=True)
class SKMixup(Vicinity):
    """Similarity-kernel mixup: near rows are mixed more than distant ones (Bouniot et al. 2023, "Tailoring Mixup to Data").

    lambda ~ Beta(tau, tau) for each pair, with tau = tau_max exp(-(d - 1) / (2 tau_std**2)): d is the squared distance of
    the two, divided by its mean over the batch. Near pairs have a large tau and meet in the middle, distant ones stay nearly
    as they are. The authors transform one uniform number per batch by the quantile function of each Beta; here each pair
    draws its own, which has the same law for every row.

    Args:
        tau_max: > 0: tau of a pair at the mean distance; the strength of the mixing.
        tau_std: > 0: how fast tau falls with the distance; towards infinity it is Mixup(tau_max).
        of: what distances are between: "x", inputs, for which `plan(n, y, x=features, ...)` may give the model's features,
            as the authors do in classification; "y", labels, as they do in regression.
        pairing: as of `Mixup`.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the share that a row keeps of itself; its partner has 1 - lambda; the labels have the same.
        one draw: one lambda per example, by the distance of its pair; one partner per row; shared by every tensor of a nest.

    Raises:
        ValueError: an argument is out of range; when drawn: what distances are between was not given, or is not
            floating point.

    Examples:
        >>> import torch
        >>> x = torch.tensor([[0.0], [0.1], [9.0], [5.0]])
        >>> SKMixup(seed=8).plan(4, x=x, step=0)
        Plan(4 rows; 0: 0.616 + 0.384 of 1; 1: 0.00208 + 0.998 of 2; 2: 0.151 + 0.849 of 3; 3: 0.134 + 0.866 of 0)

    """

    tau_max: float = 1.0
    tau_std: float = 0.5
    of: Literal["x", "y"] = "x"
    pairing: Pairing = RandomPairs()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pairing(self.pairing)
        for name, value in (("tau_max", self.tau_max), ("tau_std", self.tau_std)):
            check_number(name, value)
            if not (value > 0 and is_finite(value)):
                raise ValueError(f"{name} must be a finite number > 0, got {shown(value)}")
        if self.of not in ("x", "y"):
            raise ValueError(f"of must be 'x' (inputs) or 'y' (labels), got {shown(self.of)}")

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Draw partners, then a share for each pair."""
        warn_alone(n)
        generator = key.generator()
        partner = checked_partners(self.pairing, self.pairing.draw(generator, n, y, x), n)
        looked_at, what = (x, "inputs") if self.of == "x" else (y, "labels")
        tau = self.taus(points_of(looked_at, n, "SKMixup", what), partner)
        plan = MixPlan(torch.from_numpy(partner), torch.from_numpy(exact(generator.beta(tau, tau))))
        return plan.of_numbers() if self.of == "y" else plan

    def taus(self, points: Tensor, partner: np.ndarray) -> np.ndarray:
        """Return tau of each pair, float64 [n], of points [n, d]."""
        squares = (points - points[torch.from_numpy(partner)]).square().sum(1).numpy()
        known = squares[np.isfinite(squares)]
        mean = known.mean() if known.size and known.any() else 1.0
        distance = np.where(np.isfinite(squares), squares / mean, np.inf)  # of nan and infinity: far from all
        with np.errstate(over="ignore"):
            tau = self.tau_max * np.exp(-(distance - 1) / (2 * self.tau_std**2))
        return tau.clip(*_TAUS)


# -- which cells a row takes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FMix(Vicinity):
    """Masks of any shape: the lowest values of a random image of low frequencies are the partner's (Harris et al. 2020).

    The image is Re(F^-1(Z / f**decay)): Z are complex normal numbers, f is the frequency of each, at least 1 / the longest
    side. The highest round(lambda * cells) of its values stay the row's own, and the label's share is the exact share of
    cells that stay. (The authors' NumPy code reads real and imaginary parts as neighboring coefficients; this is the
    paper's equation.) Maps on the same grid are cut by the same mask, as `CutMix` cuts them.

    Args:
        alpha: lambda ~ Beta(alpha, alpha); > 0; the paper has 1.
        decay: how fast the amplitude falls with the frequency, >= 0; the paper has 3. 0 is noise, cell by cell.
        per: one mask for the whole batch, as the authors have it, or one per example.
        pairing: as of `Mixup`.
        dims: as of `CutMix`: 1 for signals, 2 for images, 3 for volumes; None: what the shape says, if one thing only.
        channels_last: as of `CutMix`.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the share of cells that a row keeps; the labels have the same.
        one draw: one mask per batch, or per example with `per="example"`; one partner per row; shared by every tensor of a
            nest.

    Raises:
        ValueError: an argument is out of range; when drawn: the inputs have no such grid, or one that has to be declared.

    Examples:
        >>> import torch
        >>> images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 4, 6)  # one of zeros, one of ones
        >>> x, y = FMix(seed=6)(images, torch.tensor([0, 1]))
        >>> x[0, 0]
        tensor([[1., 0., 0., 0., 0., 0.],
                [1., 0., 0., 0., 0., 0.],
                [1., 0., 0., 0., 0., 1.],
                [1., 1., 0., 0., 0., 1.]])

    """

    alpha: float = 1.0
    decay: float = 3.0
    per: Per = "batch"
    pairing: Pairing = RandomPairs()
    dims: int | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cut(self.alpha, self.per, self.pairing, self.dims, self.channels_last)
        check_number("decay", self.decay)
        if not (self.decay >= 0 and is_finite(self.decay)):
            raise ValueError(f"decay is a power and must be finite and >= 0, got {shown(self.decay)}")

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Draw lambda, an image and partners; needs x [n, c, *grid] for the grid."""
        if x is None:
            raise ValueError("FMix looks at the shape of the inputs: give them to plan(n, y, x)")
        warn_alone(n)
        grid, generator = grid_of(x, self.dims, self.channels_last, y, "FMix"), key.generator()
        draws, cells = 1 if self.per == "batch" else n, math.prod(grid)
        own = np.rint(generator.beta(self.alpha, self.alpha, size=draws) * cells)
        image = low_frequencies(generator.standard_normal((draws, *grid, 2)), self.decay).reshape(draws, cells)
        rank = np.argsort(np.argsort(-image, axis=1, kind="stable"), axis=1, kind="stable")  # 0 is the highest
        mask = (rank >= own[:, None]).reshape(draws, *grid)
        partner = checked_partners(self.pairing, self.pairing.draw(generator, n, y, x), n)
        on_grid = {"grid": grid, "channels_last": self.channels_last, "vectors": x.ndim == 2}
        return _masked(partner, own / cells, mask, **on_grid)


def low_frequencies(normal: np.ndarray, decay: float) -> np.ndarray:
    """Return random images of low frequencies, float64 [n, *grid], from normal numbers [n, *grid, 2]: FMix's."""
    grid = normal.shape[1:-1]
    bins = np.meshgrid(*map(np.fft.fftfreq, grid), indexing="ij")
    least = 1 / max(grid, default=1)
    frequency = np.maximum(np.sqrt(sum(axis**2 for axis in bins)), least) / least  # >= 1: no power of it overflows
    with np.errstate(over="ignore"):
        spectrum = (normal[..., 0] + 1j * normal[..., 1]) / frequency**decay
    return np.fft.ifftn(spectrum, axes=range(1, normal.ndim - 1)).real


def _masked(partner: np.ndarray, own: np.ndarray, mask: np.ndarray, **others: Any) -> MixPlan:
    """Return the plan of masks [n or 1, ...] that leave rows the shares `own` [n or 1]."""
    n = len(partner)
    weight = np.broadcast_to(exact(own), (n,)).copy()
    cells = np.broadcast_to(mask, (n, *mask.shape[1:])).copy(order="C")
    return MixPlan(torch.from_numpy(partner), torch.from_numpy(weight), mask=torch.from_numpy(cells), **others)


@dataclass(frozen=True)
class ColumnMix(Vicinity):
    """For tables: each column is the row's own or its partner's, whole; labels follow the share of columns.

    A cell keeps a value that occurs in its column, which an average of two categories or of a skewed number need not. It is
    one of the regularizers of Kadra et al. 2021 (their cut-mix of rows), and with `importance` Feat-Mix of ExcelFormer (Chen
    et al. 2023). Each row draws lambda ~ Beta(alpha, alpha), and each of its columns stays with probability lambda.

    Args:
        alpha: > 0; ExcelFormer has 0.5.
        importance: of each feature, >= 0 and not all 0, such as its mutual information with the label: labels are then
            shared by the importance of the columns that a row keeps, as Feat-Mix has it. None: all count alike.
        features: of each column the number of its feature, where several columns hold one (one-hot categories): they are
            taken together. None: each column is a feature.
        pairing: as of `Mixup`.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike; dimension 1 of inputs: the columns.
        lambda: the share of features that a row keeps; the labels have the same, or the importance of these features.
        one draw: one choice of columns per example; one partner per row; shared by every tensor of a nest.

    Raises:
        ValueError: an argument is out of range; when drawn: inputs [n, columns, ...] were not given, or have another number
            of columns. When used: an input does not have the columns.

    Examples:
        >>> import torch
        >>> x, y = ColumnMix(seed=5)(torch.tensor([[0, 1, 2, 3], [10, 11, 12, 13]]), torch.tensor([0, 1]))
        >>> x
        tensor([[ 0, 11, 12, 13],
                [ 0, 11, 12,  3]])
        >>> y
        MixedTarget([0.25 of 0 + 0.75 of 1, 0.5 of 1 + 0.5 of 0])

    """

    alpha: float = 0.5
    importance: Sequence[float] | None = None
    features: Sequence[int] | None = None
    pairing: Pairing = RandomPairs()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha)
        check_pairing(self.pairing)
        for name, kinds, told in (
            ("importance", "fiu", "the weights of the features, numbers >= 0 and not all 0"),
            ("features", "iu", "the features of the columns, integers that count from 0 without a gap"),
        ):
            if (value := getattr(self, name)) is None:
                continue
            held = np.asarray(value)
            ok = held.ndim == 1 and held.size > 0 and held.dtype.kind in kinds and held.min() >= 0
            ok = ok and (len(np.unique(held)) == held.max() + 1 if name == "features" else 0 < held.sum() < np.inf)
            if not ok:
                raise ValueError(f"{name} are {told}, got {shown(value)}")
            object.__setattr__(self, name, tuple(held.tolist()))

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Draw a share for each row, which of its features stay, and partners."""
        features, count = self._features(x)
        warn_alone(n)
        generator = key.generator()
        stays = generator.beta(self.alpha, self.alpha, size=(n, 1))
        own = generator.random((n, count)) < stays
        partner = checked_partners(self.pairing, self.pairing.draw(generator, n, y, x), n)
        label = None
        if self.importance is not None:
            importance = np.array(self.importance, dtype=np.float64)
            label = torch.from_numpy(exact((own * importance).sum(axis=1) / importance.sum()))
        return _masked(partner, own.mean(axis=1), ~own[:, features], target_weight=label)

    def _features(self, x: Tensor | None) -> tuple[np.ndarray, int]:
        """Return the feature of each column, and the number of features."""
        if x is None or x.ndim < 2 or x.shape[1] == 0:
            found = "nothing" if x is None else list(x.shape)
            raise ValueError(f"ColumnMix needs inputs [n, columns] in plan(n, y, x), got {found}")
        features = np.arange(x.shape[1]) if self.features is None else np.array(self.features)
        if len(features) != x.shape[1]:
            raise ValueError(f"features names those of {len(features)} columns, and the inputs have {x.shape[1]}")
        count = int(features.max()) + 1
        if self.importance is not None and len(self.importance) != count:
            raise ValueError(f"importance has {len(self.importance)} features, and the inputs have {count}")
        return features, count


# -- partners among all training rows --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LabelNeighbors(Value):
    """Draws rows with near labels from a whole dataset: P(j | i) ~ exp(-d(y_i, y_j)**2 / (2 bandwidth**2)), j = i included.

    The probabilities are exact, and no matrix of all pairs is made. For labels [n] the rows are sorted once; a draw picks a
    ring of distances, a row in it, and accepts it by what the ring overrates it: time that grows with the logarithm of n.
    For labels [n, d] a draw computes the distances of its rows to all others, in blocks.

    Args:
        y: floating-point labels of all rows, [n] or [n, d].
        bandwidth: in the units of the label, > 0, finite.

    Convention:
        dimension 0: the rows of the whole dataset.
        lambda: not drawn here.
        one draw: one row of the dataset per row asked for, independently; it may be the row itself.

    Raises:
        ValueError: y is empty, not floating point or not finite, or the bandwidth is out of range.

    Examples:
        >>> import torch
        >>> from vicinal import Key
        >>> near = LabelNeighbors(torch.tensor([0.0, 5.0, 0.1, 5.1]), bandwidth=0.5)
        >>> near.draw(Key(1, 0, 0, 0).generator(), [0, 1, 2, 3])
        array([2, 1, 0, 1])

    """

    y: Tensor = field(repr=False)
    bandwidth: float
    # of an instance: the labels [n, d], their order by the first column, that column in order, and the bandwidth, scaled
    _labels: ClassVar[tuple[np.ndarray, np.ndarray, np.ndarray, float]]

    def __post_init__(self) -> None:
        check_number("bandwidth", self.bandwidth)
        if not (self.bandwidth > 0 and is_finite(self.bandwidth)):
            raise ValueError(f"bandwidth is a distance between labels, finite and > 0, got {shown(self.bandwidth)}")
        y = self.y
        if not isinstance(y, Tensor) or not y.is_floating_point() or y.ndim not in (1, 2) or not y.numel():
            raise ValueError(f"y must hold floating-point labels of all rows, [n] or [n, d], got {shown(y)}")
        labels, scale = within_range(y.detach().to(device="cpu", dtype=torch.float64))
        if not bool(labels.isfinite().all()):
            raise ValueError("y must be finite: a label of nan or infinity is near nobody")
        labels = labels.numpy().reshape(len(y), -1)
        order = np.argsort(labels[:, 0], kind="stable")
        object.__setattr__(
            self, "_labels", (labels, order, labels[order, 0], min(max(self.bandwidth * scale, 1e-300), 1e300))
        )

    def draw(self, generator: np.random.Generator, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Draw a partner for each of `rows`, int64 [m], each in [0, n)."""
        labels, order, ordered, bandwidth = self._labels
        mine = labels[np.asarray(rows, dtype=np.int64)]
        if labels.shape[1] > 1:
            return _by_blocks(generator, mine, labels, bandwidth)
        return order[_by_rings(generator, mine[:, 0], ordered, bandwidth)]


def _by_rings(generator: np.random.Generator, y: np.ndarray, ordered: np.ndarray, bandwidth: float) -> np.ndarray:
    """Draw places in sorted labels with probability ~ exp(-(distance / bandwidth)**2 / 2), by rejection."""
    steps = np.arange(-_RINGS * _REACH, _RINGS * _REACH + 1) / _RINGS  # edges of the rings, in bandwidths
    inner = np.where(steps[:-1] >= 0, steps[:-1], -steps[1:])  # the nearer edge of each
    with np.errstate(over="ignore"):
        edges = y[:, None] + steps * bandwidth
    after = np.nextafter(y, np.inf)[:, None]  # the first ring holds equal labels, however small the bandwidth
    place = np.searchsorted(ordered, np.where(steps > 0, np.maximum(edges, after), edges))  # [m, edges]
    most = (np.diff(place, axis=1) * np.exp(-(inner**2) / 2)).cumsum(axis=1)  # what a ring can hold at most
    found = np.empty(len(y), dtype=np.int64)
    left = np.arange(len(y))
    while len(left):
        at = generator.random(len(left)) * most[left, -1]
        ring = np.minimum((most[left] <= at[:, None]).sum(axis=1), len(inner) - 1)
        first, last = place[left, ring], place[left, ring + 1]
        found[left] = first + (generator.random(len(left)) * (last - first)).astype(np.int64)
        with np.errstate(over="ignore"):
            distance = (ordered[np.minimum(found[left], len(ordered) - 1)] - y[left]) / bandwidth
            accepted = np.exp((inner[ring] ** 2 - distance**2) / 2)
        left = left[(generator.random(len(left)) >= accepted) | (last == first)]
    return found


def _by_blocks(generator: np.random.Generator, y: np.ndarray, labels: np.ndarray, bandwidth: float) -> np.ndarray:
    """Draw rows of labels [n, d] likewise, by Gumbel's trick, of which each block keeps its largest."""
    best, found = np.full(len(y), -np.inf), np.zeros(len(y), dtype=np.int64)
    size = max(1, _BLOCK // max(1, y.size))
    for start in range(0, len(labels), size):
        block = labels[start : start + size]
        squares = (((y[:, None] - block[None]) / bandwidth) ** 2).sum(axis=2)
        score = generator.gumbel(size=squares.shape) - squares / 2
        place = score.argmax(axis=1)
        value = score[np.arange(len(y)), place]
        found, best = np.where(value > best, start + place, found), np.maximum(value, best)
    return found


class Fetched(NamedTuple):
    """What a loader hands to `CMixup.collate`: the examples of a batch and their partners, and the plan of both."""

    examples: list[Any]
    plan: MixPlan


@dataclass(frozen=True, eq=False)
class CMixup(Dataset[Any]):
    """C-Mixup over the whole training set: partners by label distance among all rows (Yao et al. 2022).

    A dataset for a `DataLoader`, whose `collate` mixes: for each batch that the loader asks for, partners are drawn from the
    whole set by `LabelNeighbors`, fetched beside the batch, and mixed with it, one lambda per batch. A batch so costs two
    batches of reading. Draws are keyed as all draws are: by seed, rank, worker and the number of the batch, which workers
    count in shared memory. For partners within the batch alone, `Mixup(2.0, pairing=LabelDistance(...))` reads nothing more.

    Args:
        data: a map-style dataset of examples (x, y).
        y: the floating-point labels of all of its rows, [n] or [n, d].
        bandwidth: as of `LabelNeighbors`: choose it on validation data. The authors' code has 1.75 for Airfoil, 1.2 for NO2.
        alpha: lambda ~ Beta(alpha, alpha), or a weighting of pairs; the authors' code has 2.
        collate_fn: makes a batch of a list of examples.
        target: as of `Collate`.
        seed: as of every vicinity.

    Convention:
        dimension 0: the rows of the batch that the loader asked for, of inputs and targets alike.
        lambda: the share that a row keeps of itself; its partner has 1 - lambda; the labels have the same.
        one draw: one lambda per batch, or per example with `Beta(alpha, per="example")`; one partner per row, of all rows.

    Raises:
        TypeError: alpha is neither a number nor a weighting; from `collate`: the batch was not fetched as one.
        ValueError: y and data have different lengths, or an argument of `LabelNeighbors` is out of range.

    Examples:
        >>> import torch
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> x, y = torch.arange(8.0).view(8, 1), torch.tensor([0.0, 0.1, 0.2, 0.3, 9.0, 9.1, 9.2, 9.3])
        >>> data = CMixup(TensorDataset(x, y), y, bandwidth=0.1, seed=0)
        >>> for mixed_x, mixed_y in DataLoader(data, batch_size=4, collate_fn=data.collate):
        ...     print(mixed_y)
        tensor([0.0000, 0.0318, 0.2682, 0.3000])
        tensor([9.0000, 9.0246, 9.2000, 9.3000])

    """

    data: Any
    y: Tensor = field(repr=False)
    bandwidth: float
    alpha: float | Weighting = 2.0
    collate_fn: Callable[[list[Any]], Any] = default_collate
    target: int | str | None = None
    seed: int | None = None
    mixup: Mixup = field(init=False)  # holds seed, counts and switch: `mixup.off()`, `mixup.state_dict()`
    _near: ClassVar[LabelNeighbors]  # of an instance

    def __post_init__(self) -> None:
        object.__setattr__(self, "mixup", Mixup(self.alpha, seed=self.seed))
        object.__setattr__(self, "_near", LabelNeighbors(self.y, self.bandwidth))
        if len(self.data) != len(self.y):
            raise ValueError(f"y holds the labels of all rows: got {len(self.y)} for {len(self.data)} examples")

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        """Return one example as it is."""
        return self.data[row]

    def __getitems__(self, rows: list[int]) -> Fetched:
        """Fetch the examples of a batch, draw their partners from all rows, and fetch these."""
        partners, plan = self.draw(rows)
        wanted = [*rows, *partners.tolist()]
        fetch = getattr(self.data, "__getitems__", None)
        return Fetched(fetch(wanted) if fetch else [self.data[row] for row in wanted], plan)

    def draw(self, rows: Sequence[int]) -> tuple[np.ndarray, MixPlan]:
        """Draw partners int64 [n] of the next batch, and the plan for its n rows and their partners after them."""
        n, state, worker = len(rows), self.mixup.state, _state.worker()
        step = state.next_step(worker)
        on, _, seed = state.look()
        key = Key(seed, state.rank, worker, step)
        partners = self._near.draw(key.fold(0).generator(), rows)
        weighting = weighting_of(self.mixup)
        shares = checked_shares(weighting, weighting.draw(key.generator(), n), n)
        if shares.shape[1] != 2:
            raise TypeError(f"C-Mixup mixes pairs, got {self.alpha!r}")
        weight = np.concatenate([shares[:, 0] if on else np.ones(n), np.ones(n)])
        partner = np.tile(np.arange(n, 2 * n), 2)
        return partners, MixPlan(torch.from_numpy(partner), torch.from_numpy(exact(weight)), key=key).of_numbers()

    def collate(self, fetched: Fetched) -> Any:
        """Return the mixed batch of what `__getitems__` fetched, in the type that `collate_fn` makes."""
        if not isinstance(fetched, Fetched):
            raise TypeError("CMixup mixes whole batches: DataLoader(data, batch_size=..., collate_fn=data.collate)")
        examples, plan = fetched
        x, y, join = split_batch(self.collate_fn(examples), self.target)
        n = len(plan) // 2
        return join(sliced(plan(x), 2 * n, n, "input"), sliced(plan.target(y), 2 * n, n, "target"))
