"""The vicinal distributions: what is drawn around the training data.

ERM draws the data themselves; Mixup draws convex combinations of pairs (paper, section 2); the others are the paper's
ablation and its neighbors, all of them compositions of who is mixed with whom (`pairing.py`) and how much of itself a
row keeps (`weighting.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicinal import keyed
from vicinal._checks import Per, check_alpha, check_number, check_per, is_finite, shown
from vicinal._grid import grid_of
from vicinal._warn import warn
from vicinal.keyed import Key
from vicinal.mix_plan import MixPlan, Noise, identity
from vicinal.pairing import LabelDistance, Pairing, RandomPairs, Roll
from vicinal.plan import Plan
from vicinal.vicinity import Vicinity
from vicinal.weighting import Beta, Dirichlet, Weighting


@dataclass(frozen=True)
class ERM(Vicinity):
    """Empirical risk minimization (ERM): the training data as they are.

    Args:
        seed: as of `Vicinity`; nothing is drawn by it.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: 1, nothing is mixed.
        one draw: nothing is drawn.

    Examples:
        >>> import torch
        >>> x, y = ERM()(torch.eye(2), torch.tensor([0, 1]))
        >>> x
        tensor([[1., 0.],
                [0., 1.]])

    """

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> Plan:
        """Return the identity."""
        return identity(n)

    def draw_pairs(self, keys: Sequence[Key], n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return every row as its own partner."""
        return np.tile(np.arange(n), (len(keys), 1)), np.ones(len(keys), dtype=np.float32)


@dataclass(frozen=True)
class Mixup(Vicinity):
    """mixup: convex combinations of pairs of examples and of their labels (Zhang et al. 2018, section 2, figure 1a).

    At a hidden layer this is Manifold Mixup: give its plan to `LatentMixing`. With `pairing=LabelDistance(bandwidth)` it is
    C-Mixup for regression, within each batch.

    Args:
        alpha: lambda ~ Beta(alpha, alpha), one lambda per batch, as in the paper; > 0. The paper used 1 on CIFAR, 0.2 to
            0.4 on ImageNet, 0.1 to 0.2 on speech, 8 to 32 against label noise. Or any weighting: `Beta(alpha,
            per="example")`, `Dirichlet(alpha, k=3)`.
        pairing: who is mixed with whom; by default a random permutation of the batch.
        seed: as of `Vicinity`.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the share that a row keeps of itself; its partner has 1 - lambda; the labels have the same.
        one draw: one lambda per batch, or per example with `Beta(alpha, per="example")`; one partner per row; shared by
            every tensor of a nest.

    Raises:
        TypeError: alpha is neither a number nor a weighting.
        ValueError: alpha is not a finite number > 0.

    Examples:
        >>> import torch
        >>> x, y = Mixup(alpha=0.4, seed=1)(torch.eye(2), torch.tensor([0, 1]))
        >>> x
        tensor([[0.0711, 0.9289],
                [0.9289, 0.0711]])
        >>> y
        MixedTarget([0.0711 of 0 + 0.929 of 1, 0.0711 of 1 + 0.929 of 0])

    """

    alpha: float | Weighting = 1.0
    pairing: Pairing = RandomPairs()
    _is_drawn_ahead = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Draw shares, then partners."""
        key.check()
        pairs = self.draw_pairs([key], n)
        if pairs is None:
            return _draw(self, key, n, y, x)
        warn_alone(n)
        weight = torch.full((n,), float(pairs[1][0]), dtype=torch.float32, device="cpu")
        return MixPlan(torch.from_numpy(pairs[0][0]), weight)

    def draw_pairs(self, keys: Sequence[Key], n: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Draw one Beta weight per batch and partners that depend on no labels; None for other weightings and pairings."""
        weighting = weighting_of(self)
        if type(weighting) is not Beta or weighting.per != "batch" or type(self.pairing) not in (RandomPairs, Roll):
            return None
        partner, own = np.empty((len(keys), n), dtype=np.int64), np.empty(len(keys))
        for i, key in enumerate(keys):
            generator = keyed.reused_generator(key)
            own[i] = generator.beta(weighting.alpha, weighting.alpha)
            partner[i] = self.pairing.draw(generator, n, None, None)
        return partner, exact(np.maximum(own, 1 - own) if weighting.folded else own)


@dataclass(frozen=True)
class InputMixup(Vicinity):
    """Input mixup: inputs are mixed as by `Mixup`, labels are not; a row has the label of the largest share.

    "Mix inputs only" in the paper's ablation (Zhang et al. 2018, section 3.8, table 5), published as MixupIO by Wang et al.
    (2023). With `pairing=Nearest(k, same_class=True)` it is the ablation's SMOTE row.

    Args:
        alpha: as of `Mixup`.
        pairing: as of `Mixup`.
        seed: as of `Vicinity`.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the share that a row keeps of itself; its partner has 1 - lambda; the largest share takes the whole
            label.
        one draw: one lambda per batch, or per example with `Beta(alpha, per="example")`; one partner per row; shared by
            every tensor of a nest.

    Examples:
        >>> import torch
        >>> x, y = InputMixup(alpha=0.4, seed=1)(torch.eye(2), torch.tensor([0, 1]))
        >>> y
        MixedTarget([0 of 0 + 1 of 1, 0 of 1 + 1 of 0])

    """

    alpha: float | Weighting = 1.0
    pairing: Pairing = RandomPairs()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Draw as `Mixup` does; the largest share takes the label, the row's own at a tie."""
        plan = _draw(self, key, n, y, x)
        if plan.weight.ndim == 1:
            nearer = (plan.weight >= 0.5).to(plan.weight.dtype)
        else:
            nearer = torch.zeros_like(plan.weight).scatter_(1, plan.weight.argmax(1, keepdim=True), 1.0)
        return MixPlan(plan.partner, plan.weight, target_weight=nearer)


@dataclass(frozen=True)
class CutMix(Vicinity):
    """CutMix: a box of each input is the partner's, and labels are mixed by the area that is left (Yun et al. 2019).

    The box has the share 1 - lambda of the grid, its center is uniform, and what hangs over the edge is cut off; the
    label's share is the exact share of cells that stay. Maps on the same grid (masks `[n, *grid]` or `[n, c, *grid]`) are
    cut by the same box; soft labels and vectors follow the share. Integer inputs (token ids) are selected, never averaged.

    The grid is the last `dims` dimensions, after the batch and whatever lies between. Undeclared, images [n, c, h, w],
    signals [n, c, t] and [n, t] are understood, and whatever has a mask `[n, *grid]` as its target; shapes that can mean
    several things are refused.

    Args:
        alpha: lambda ~ Beta(alpha, alpha); > 0.
        per: one box for the whole batch, or one per example.
        pairing: as of `Mixup`.
        dims: number of dimensions of the grid: 1 for signals, 2 for images and videos [n, t, c, h, w] (the same box in
            each frame) and spectrograms without a channel, 3 for volumes. None: as above.
        channels_last: whether the channels are the last dimension, behind the grid: [n, h, w, c].
        seed: as of `Vicinity`.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the share of cells that a row keeps, counted after the box is clipped; the labels have the same.
        one draw: one box per batch, or per example with `per="example"`; one partner per row; shared by every tensor of
            a nest.

    Raises:
        TypeError: pairing is not a pairing.
        ValueError: alpha is not a finite number > 0, or dims is not 1, 2 or 3. When drawn: the inputs have no such grid, or
            one that has to be declared.

    Examples:
        >>> import torch
        >>> images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 4, 4)  # one of zeros, one of ones
        >>> x, y = CutMix(alpha=1.0, seed=2)(images, torch.tensor([0, 1]))
        >>> x[0, 0]
        tensor([[0., 0., 0., 0.],
                [0., 0., 0., 0.],
                [0., 1., 1., 1.],
                [0., 1., 1., 1.]])
        >>> y
        MixedTarget([0.625 of 0 + 0.375 of 1, 0.625 of 1 + 0.375 of 0])

    """

    alpha: float = 1.0
    per: Per = "batch"
    pairing: Pairing = RandomPairs()
    dims: int | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cut(self.alpha, self.per, self.pairing, self.dims, self.channels_last)

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Draw partners and boxes; needs x [n, c, *grid] for the grid."""
        if x is None:
            raise ValueError("CutMix looks at the shape of the inputs: give them to plan(n, y, x)")
        grid = grid_of(x, self.dims, self.channels_last, y)
        generator = key.generator()
        draws = 1 if self.per == "batch" else n
        lam = generator.beta(self.alpha, self.alpha, size=draws)
        sizes = np.array(grid)
        side = np.rint((1 - lam[:, None]) ** (1 / len(grid)) * sizes).astype(np.int64)  # [draws, d]
        center = generator.random((draws, len(grid))) * sizes
        start = np.floor(center - (side - 1) / 2).astype(np.int64)
        box = np.clip(np.stack([start, start + side], axis=2), 0, sizes[:, None])
        own = 1 - (box[:, :, 1] - box[:, :, 0]).prod(axis=1) / math.prod(grid)
        partner = checked_partners(self.pairing, self.pairing.draw(generator, n, y, x), n)
        warn_alone(n)
        return MixPlan(
            torch.from_numpy(partner),
            torch.from_numpy(np.broadcast_to(exact(own), (n,)).copy()),
            box=torch.from_numpy(np.broadcast_to(box, (n, *box.shape[1:])).copy()),
            grid=grid,
            channels_last=self.channels_last,
            vectors=x.ndim == 2,
        )


@dataclass(frozen=True)
class GaussianNoise(Vicinity):
    """Gaussian noise on the inputs, labels unchanged (Chapelle et al. 2000; Zhang et al. 2018, sections 2 and 3.8).

    Args:
        sigma: standard deviation in the units of the inputs, >= 0. The paper's ablation has 0.05, 0.1 and 0.2.
        seed: as of `Vicinity`.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: 1, nothing is mixed.
        one draw: independent noise for each tensor of a nest; the same when the plan is applied again.

    Raises:
        TypeError: when used: the inputs are not floating point.
        ValueError: sigma is negative or not finite.

    Examples:
        >>> import torch
        >>> x, y = GaussianNoise(sigma=0.1, seed=1)(torch.zeros(1, 3), torch.tensor([0]))
        >>> x
        tensor([[ 0.0065,  0.0209, -0.0813]])

    """

    sigma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("sigma", self.sigma)
        if not (self.sigma >= 0 and is_finite(self.sigma)):
            raise ValueError(f"sigma is a standard deviation and must be finite and >= 0, got {shown(self.sigma)}")

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Return the key of the noise; the noise itself is drawn when the plan meets a tensor."""
        return identity(n, noise=Noise(self.sigma, key))


@dataclass(frozen=True)
class LabelSmoothing(Vicinity):
    """Label smoothing: `(1 - eps) * label + eps / num_classes`, inputs unchanged (Szegedy et al. 2016).

    Args:
        eps: in [0, 1]. The paper's ablation (Zhang et al. 2018, section 3.8) has 0.05, 0.1 and 0.2.
        seed: as of `Vicinity`; nothing is drawn by it.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: 1, nothing is mixed.
        one draw: nothing is drawn.

    Raises:
        ValueError: eps lies outside of [0, 1]. When used: the targets are neither class indices nor soft labels.

    Examples:
        >>> import torch
        >>> x, y = LabelSmoothing(eps=0.1)(torch.eye(2), torch.tensor([0, 1]))
        >>> y.dense(2)
        tensor([[0.9500, 0.0500],
                [0.0500, 0.9500]])

    """

    eps: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("eps", self.eps)
        if not 0 <= self.eps <= 1:
            raise ValueError(f"eps is a share of the label and must lie in [0, 1], got {shown(self.eps)}")

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Return the smoothing; it draws nothing."""
        return identity(n, smoothing=self.eps)


def _draw(vicinity: Mixup | InputMixup, key: Key, n: int, y: Tensor | None, x: Tensor | None) -> MixPlan:
    generator, weighting, pairing = key.generator(), weighting_of(vicinity), vicinity.pairing
    warn_alone(n)
    shares = weighting.draw(generator, n)
    if type(weighting) not in (Beta, Dirichlet):
        shares = checked_shares(weighting, shares, n)
    if shares.shape[1] == 2:
        partner = checked_partners(pairing, pairing.draw(generator, n, y, x), n)
        plan = MixPlan(torch.from_numpy(partner), torch.from_numpy(exact(shares[:, 0])))
        return plan.of_numbers() if isinstance(pairing, LabelDistance) else plan
    partners = [checked_partners(pairing, pairing.draw(generator, n, y, x), n) for _ in range(shares.shape[1] - 1)]
    return MixPlan(torch.from_numpy(np.stack(partners, axis=1)), torch.from_numpy(_exact_rows(shares)))


def checked_shares(weighting: Weighting, shares: Any, n: int) -> np.ndarray:
    """Return the shares that a weighting of one's own drew, once they are shares."""
    shares = np.asarray(shares)
    name = type(weighting).__name__
    if shares.ndim != 2 or len(shares) != n or shares.shape[1] < 2 or shares.dtype.kind not in "fiu":
        raise ValueError(
            f"{name} must draw shares [{n}, k], numbers for k >= 2 examples, got {shares.dtype} {list(shares.shape)}"
        )
    shares = shares.astype(np.float64)
    wrong = ~((shares >= 0).all(1) & (np.abs(shares.sum(1) - 1) <= 1e-4))  # nan is wrong too
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{name} must draw shares >= 0 that sum to 1, got {shares[row][:8].tolist()} in row {row}, of sum "
            f"{shares[row].sum():g}"
        )
    return shares


def checked_partners(pairing: Pairing, partner: Any, n: int) -> np.ndarray:
    """Return the partners that a pairing drew, once those of a pairing of one's own are rows."""
    if type(pairing).__module__ == Pairing.__module__:
        return partner
    partner, name = np.asarray(partner), type(pairing).__name__
    if partner.shape != (n,) or partner.dtype.kind not in "iu":
        raise ValueError(f"{name} must draw partners int64 [{n}], got {partner.dtype} {list(partner.shape)}")
    if n and not (partner.min() >= 0 and partner.max() < n):
        row = int(((partner < 0) | (partner >= n)).argmax())
        raise ValueError(f"{name} must draw partners in [0, {n}), got {int(partner[row])} in row {row}")
    return partner.astype(np.int64, copy=False)


def weighting_of(vicinity: Mixup | InputMixup) -> Weighting:
    """Return the law of the shares; a bare alpha means Beta."""
    return vicinity.alpha if isinstance(vicinity.alpha, Weighting) else Beta(vicinity.alpha)


def exact(share: np.ndarray) -> np.ndarray:
    """Round shares to the nearest multiples of 2**-24, as float32: what is left of 1 is then exact in any precision.

    Inputs and labels mixed in different precisions so have the very same shares, and shares sum to 1 without an error.
    """
    return (np.rint(share * 2.0**24) * 2.0**-24).astype(np.float32)


def _exact_rows(shares: np.ndarray) -> np.ndarray:
    """Round shares [n, k] likewise; what the rounding of a row leaves over goes to its largest share."""
    units = np.rint(shares * 2.0**24)
    row = np.arange(len(units))
    units[row, units.argmax(axis=1)] += 2.0**24 - units.sum(axis=1)
    return (units * 2.0**-24).astype(np.float32)


def warn_alone(n: int) -> None:
    """Warn of a batch of one row."""
    if n == 1:
        warn(
            "a batch of one example has nobody to mix with and stays as it is; drop_last=True avoids it at the end of an "
            "epoch"
        )


def _check(vicinity: Mixup | InputMixup) -> None:
    if not isinstance(vicinity.alpha, Weighting):
        check_alpha(vicinity.alpha)
    check_pairing(vicinity.pairing)


def check_cut(alpha: float, per: Per, pairing: object, dims: object, channels_last: object) -> None:
    """Check the arguments of what takes cells of a grid from a partner."""
    check_alpha(alpha)
    check_per(per)
    check_pairing(pairing)
    if dims is not None and (isinstance(dims, bool) or dims not in (1, 2, 3)):
        raise ValueError(f"dims is the number of dimensions of the grid, 1, 2 or 3, got {dims!r}")
    if not isinstance(channels_last, bool):
        raise ValueError(f"channels_last must be True or False, got {channels_last!r}")


def check_pairing(pairing: object) -> None:
    """Refuse anything but a pairing."""
    if not isinstance(pairing, Pairing):
        raise TypeError(f"pairing must be a pairing such as RandomPairs() or SameClass(), got {pairing!r}")
