"""The vicinal distributions: what is drawn around the training data.

A vicinity is a frozen value that draws plans (`plan.py`). ERM draws the data itself; Mixup draws convex combinations of
pairs (paper, section 2); the others are the paper's ablation and its neighbours, all of them compositions of who is
mixed with whom (`pairing.py`) and how much of itself a row keeps (`weighting.py`).
"""

from __future__ import annotations

import math
import numbers
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vicinal import random
from vicinal.pairing import Pairing, RandomPairs, Roll
from vicinal.plan import MixPlan, Noise, Plan, PlanChain, identity
from vicinal.random import Key
from vicinal.state import State
from vicinal.target import MixedTarget
from vicinal.weighting import Beta, Per, Weighting, check_alpha, check_number, check_per

X = TypeVar("X")

_AHEAD, _AHEAD_ROWS = 32, 1024  # plans drawn together, for batches of at most so many rows


@dataclass(frozen=True)
class Vicinity(ABC):
    """Draws plans; calling it is the one-line form of drawing a plan and applying it.

    Args:
        seed: the seed of every draw, in [0, 2**64). A draw depends on it, on the rank, the worker and the step, and on
            nothing else: no global generator is read or moved.

    Examples:
        >>> import torch
        >>> mixup = Mixup(alpha=0.4, seed=1)
        >>> x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
        >>> mixed_x, mixed_y = mixup(x, y)                  # the one line
        >>> plan = mixup.plan(len(x), y, step=0)            # the same, opened up
        >>> bool((plan(x) == mixed_x).all())
        True

    """

    seed: int = field(default=0, kw_only=True)
    state: State = field(default_factory=State, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        Key(self.seed, 0, 0, 0).check()

    @abstractmethod
    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> Plan:
        """Draw a plan for `n` rows from `key`; what a new vicinity defines.

        `y` is the target if it is one tensor, `x` the tensor of the inputs with the most dimensions; each may be None.
        """

    def plan(
        self,
        n: int,
        y: Any = None,
        x: Any = None,
        *,
        step: int,
        epoch: int | None = None,
        seed: int | None = None,
        rank: int | None = None,
        worker: int | None = None,
    ) -> Plan:
        """Draw the plan of batch number `step`: a pure function of (seed, rank, worker, step).

        Args:
            n: number of rows, `len(x)`; 0 and 1 are fine (a single row has nobody to mix with, and a warning says so).
            y: targets, where the pairing looks at labels.
            x: inputs, where the vicinity looks at their shape (CutMix) or values (Nearest); a tensor or a nest.
            step: number of the batch, >= 0; give every batch of the training its own.
            epoch: for `Scheduled`, which asks for it.
            seed: instead of the vicinity's own.
            rank: instead of this process's (torch.distributed, else the RANK variable); rank=0 shares draws.
            worker: instead of this process's (0 in the main process, 1 + id in a DataLoader worker).

        Raises:
            ValueError: the vicinity needs `y`, `x` or `epoch` and was not given it.

        """
        key = Key(
            self.seed if seed is None else seed,
            random.rank() if rank is None else rank,
            random.worker() if worker is None else worker,
            step,
        )
        if (type(n) is not int and not isinstance(n, numbers.Integral)) or n < 0:
            raise ValueError(f"n is the number of rows, len(x), an integer >= 0, got {n!r}")
        if type(self) is Mixup and 1 < n <= _AHEAD_ROWS and (plan := self._ahead(key, int(n))) is not None:
            return plan
        return self.draw(key, int(n), y if isinstance(y, Tensor) else None, _picture(x), epoch)

    def __call__(self, x: X, y: Any, *, out: Any = None) -> tuple[X, Any]:
        """Mix one training batch: inputs x and targets y, tensors [n, ...] or nests of them, with one draw.

        Call it in training only. Class ids y come back as a `MixedTarget`, which goes to the loss as it is; numbers come
        back as numbers. The step counts up by itself, in each worker on its own; `state_dict` holds the count. Inputs are
        not changed, unless they are given as `out` (as of calling a plan). After `off()` it applies ERM: x as it is, y
        of the same type as always.
        """
        worker = random.worker()
        step = self.state.next_step(worker)
        n = _rows(x)
        if not self.state.on:
            plan: Plan = identity(n)
        else:
            plan = self.plan(n, y, x, step=step, epoch=self.state.epoch, rank=self.state.rank, worker=worker)
        return plan(x, out=out), plan.target(y)

    def _ahead(self, key: Key, n: int) -> Plan | None:
        """Give a small batch's plan from a block of plans drawn together; None where this one is drawn by itself.

        A plan is a pure function of its key, so it matters to nobody when it is drawn. Between two training steps a
        draw finds cold caches and takes four times as long as in a block (docs/performance.md).
        """
        key.check()
        of = (n, key.seed, key.rank, key.worker)
        block_of, first, plans = self.state.ahead
        if block_of == of and first <= key.step < first + len(plans):
            return plans[key.step - first]
        if self.state.batch_before != of:  # the last batch of an epoch, perhaps: nothing is drawn ahead for it
            self.state.batch_before = of
            return None
        if draw_pairs(self, [], n) is None:
            return None
        keys = [key._replace(step=step) for step in range(key.step, min(key.step + _AHEAD, 2**64))]
        pairs = draw_pairs(self, keys, n)
        assert pairs is not None  # as of no keys
        plans = MixPlan.several(torch.from_numpy(pairs[0]), torch.from_numpy(pairs[1]))
        self.state.ahead = of, key.step, plans
        return plans[0]

    def on(self) -> None:
        """Mix again, at the next batch, in every DataLoader worker too."""
        self.state.on = True

    def off(self) -> None:
        """Stop mixing from the next batch on, in every DataLoader worker too, persistent ones included."""
        self.state.on = False

    def set_epoch(self, epoch: int) -> None:
        """Tell the one-line form which epoch this is, for `Scheduled`; reaches every worker at its next batch."""
        self.state.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """Give the one-line form's counters and switch, as plain numbers for a checkpoint."""
        return self.state.state_dict()

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next draws are those that would have come next then."""
        self.state.load_state_dict(values)


@dataclass(frozen=True)
class ERM(Vicinity):
    """Empirical risk minimisation: the training data as they are."""

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> Plan:
        """Give the identity."""
        return identity(n)


@dataclass(frozen=True)
class Mixup(Vicinity):
    """Convex combinations of pairs of examples and of their labels (paper, section 2, figure 1a).

    Args:
        alpha: lambda ~ Beta(alpha, alpha), one lambda a batch, as in the paper; > 0. The paper used 1 on CIFAR, 0.2 to
            0.4 on ImageNet, 0.1 to 0.2 on speech, 8 to 32 against label noise. Or any weighting: `Beta(alpha,
            per="example")`, `Dirichlet(alpha, k=3)`.
        pairing: who is mixed with whom; by default a random permutation of the batch.

    Raises:
        TypeError: alpha is neither a number nor a weighting.
        ValueError: alpha is not a finite number > 0.

    """

    alpha: float | Weighting = 1.0
    pairing: Pairing = RandomPairs()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Draw shares, then partners."""
        key.check()
        pairs = draw_pairs(self, [key], n)
        if pairs is None:
            return _draw(key.generator(), self.alpha, self.pairing, n, y, x)
        _warn_alone(n)
        return MixPlan(torch.from_numpy(pairs[0][0]), torch.full((n,), float(pairs[1][0])))


@dataclass(frozen=True)
class InputMixup(Vicinity):
    """Inputs mixed as by `Mixup`, labels not: a row has the label of the example with the largest share.

    The paper's "mix inputs only" (section 3.8, table 5). With `pairing=Nearest(k, same_class=True)` its SMOTE row.

    Args:
        alpha: as of `Mixup`.
        pairing: as of `Mixup`.

    """

    alpha: float | Weighting = 1.0
    pairing: Pairing = RandomPairs()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Draw as `Mixup` does; the largest share takes the label, the row's own at a tie."""
        plan = _draw(key.generator(), self.alpha, self.pairing, n, y, x)
        if plan.weight.ndim == 1:
            nearer = (plan.weight >= 0.5).to(plan.weight.dtype)
        else:
            nearer = torch.zeros_like(plan.weight).scatter_(1, plan.weight.argmax(1, keepdim=True), 1.0)
        return MixPlan(plan.partner, plan.weight, target_weight=nearer)


@dataclass(frozen=True)
class CutMix(Vicinity):
    """A box of each input replaced by the partner's, labels mixed by the area that is left (Yun et al. 2019).

    The box has the share 1 - lambda of the grid (all dimensions after the channel: images, volumes, signals), its
    centre is uniform, and what hangs over the edge is cut off; the label's share is the exact share of cells that stay.
    Maps on the same grid (masks, [n, *grid] or [n, c, *grid]) are cut by the same box.

    Args:
        alpha: lambda ~ Beta(alpha, alpha); > 0.
        per: one box for the whole batch, or one per example.
        pairing: as of `Mixup`.

    """

    alpha: float = 1.0
    per: Per = "batch"
    pairing: Pairing = RandomPairs()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_alpha(self.alpha)
        check_per(self.per)
        _check_pairing(self.pairing)

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Draw partners and boxes; needs x [n, c, *grid] for the grid."""
        if x is None:
            raise ValueError("CutMix looks at the shape of the inputs: give them to plan(n, y, x)")
        if x.ndim < 3 or 0 in x.shape[2:]:
            raise ValueError(f"CutMix needs inputs [n, channels, *grid] to cut boxes from, got {list(x.shape)}")
        grid = tuple(x.shape[2:])
        generator = key.generator()
        draws = 1 if self.per == "batch" else n
        lam = random.beta(generator, self.alpha, draws)
        sizes = np.array(grid)
        side = np.rint((1 - lam[:, None]) ** (1 / len(grid)) * sizes).astype(np.int64)  # [draws, d]
        centre = generator.random((draws, len(grid))) * sizes
        start = np.floor(centre - (side - 1) / 2).astype(np.int64)
        box = np.clip(np.stack([start, start + side], axis=2), 0, sizes[:, None])
        own = 1 - (box[:, :, 1] - box[:, :, 0]).prod(axis=1) / math.prod(grid)
        partner = self.pairing.draw(generator, n, y, x)
        _warn_alone(n)
        return MixPlan(
            torch.from_numpy(partner),
            torch.from_numpy(np.broadcast_to(_exact(own), (n,)).copy()),
            box=torch.from_numpy(np.broadcast_to(box, (n, *box.shape[1:])).copy()),
            grid=grid,
        )


@dataclass(frozen=True)
class GaussianNoise(Vicinity):
    """Gaussian noise on the inputs, labels unchanged (Chapelle et al. 2000; paper, sections 2 and 3.8).

    Args:
        sigma: standard deviation in the units of the inputs, >= 0. The paper's ablation has 0.05, 0.1 and 0.2.

    """

    sigma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("sigma", self.sigma)
        if not (self.sigma >= 0 and math.isfinite(self.sigma)):
            raise ValueError(f"sigma is a standard deviation and must be finite and >= 0, got {self.sigma}")

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Give the key of the noise; the noise itself is drawn when the plan meets a tensor."""
        return identity(n, noise=Noise(self.sigma, key))


@dataclass(frozen=True)
class LabelSmoothing(Vicinity):
    """Labels (1 - eps) * label + eps / num_classes, inputs unchanged (Szegedy et al. 2016; paper, section 3.8).

    Args:
        eps: in [0, 1]. The paper's ablation has 0.05, 0.1 and 0.2.

    """

    eps: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("eps", self.eps)
        if not 0 <= self.eps <= 1:
            raise ValueError(f"eps is a share of the label and must lie in [0, 1], got {self.eps}")

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Give the smoothing; it draws nothing."""
        return identity(n, smoothing=self.eps)


@dataclass(frozen=True)
class Chain(Vicinity):
    """Several vicinities one after the other: `Chain([InputMixup(1.0), LabelSmoothing(0.1)])`.

    Args:
        parts: applied in this order, each to what the one before it made.

    """

    parts: Sequence[Vicinity]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "parts", _parts(self.parts))

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> Plan:
        """Draw each part's plan by a key of its own."""
        return PlanChain(tuple(part.draw(key.fold(i), n, y, x, epoch) for i, part in enumerate(self.parts)))


@dataclass(frozen=True)
class Choice(Vicinity):
    """One of several vicinities, drawn anew for each batch: `Choice([Mixup(0.2), CutMix(1.0)], p=[0.5, 0.5])`.

    Args:
        parts: what to choose from; `ERM()` among them leaves some batches as they are.
        p: their probabilities, >= 0, sum 1; None: all equal.

    """

    parts: Sequence[Vicinity]
    p: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "parts", _parts(self.parts))
        if self.p is None:
            return
        p = np.asarray(self.p)
        ok = p.shape == (len(self.parts),) and p.dtype.kind in "fiu" and p.min() >= 0
        if not ok or not math.isclose(p.sum(), 1, abs_tol=1e-6):
            raise ValueError(f"p must hold {len(self.parts)} probabilities that sum to 1, got {self.p!r}")
        object.__setattr__(self, "p", tuple((p / p.sum()).tolist()))  # numpy wants the sum exact

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> Plan:
        """Choose a part, and draw its plan by a key of its own."""
        i = int(key.generator().choice(len(self.parts), p=self.p))
        return self.parts[i].draw(key.fold(i), n, y, x, epoch)


@dataclass(frozen=True)
class Scheduled(Vicinity):
    """A vicinity for some epochs, ERM for the others; the paper's speech networks train 5 epochs without mixup first.

    The one-line form learns the epoch from `set_epoch`, which also reaches persistent DataLoader workers; `plan` is
    given `epoch=`. Never told the epoch, it raises: a schedule that stands still is no schedule.

    Args:
        part: the vicinity.
        start: its first epoch, counted from 0.
        stop: the first epoch after it; None: to the end.

    """

    part: Vicinity
    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _parts([self.part])
        if self.start < 0 or (self.stop is not None and self.stop < self.start):
            raise ValueError(f"epochs run from start >= 0 to stop >= start, got {self.start} to {self.stop}")

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> Plan:
        """Draw the part's plan in its epochs, the identity in the others."""
        if epoch is None:
            raise ValueError(
                "Scheduled needs the epoch: call set_epoch(epoch) at the start of each epoch, or give plan(..., epoch=)"
            )
        active = self.start <= epoch and (self.stop is None or epoch < self.stop)
        return self.part.draw(key.fold(0), n, y, x, epoch) if active else identity(n)


def draw_pairs(vicinity: Vicinity, keys: Sequence[Key], n: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Draw the plans of many batches of n rows without making them, for vicinities that mix any pair by one weight.

    Args:
        vicinity: ERM, or Mixup of one Beta weight a batch with RandomPairs or Roll.
        keys: one for each batch, checked; of one seed, rank and worker or of several.
        n: rows of each batch.

    Returns:
        What `vicinity.plan` would draw by each key: partners int64 [len(keys), n] and the share that all rows of the
        batch keep of themselves, float32 [len(keys)]. None for all other vicinities.

    """
    if type(vicinity) is ERM:
        return np.tile(np.arange(n), (len(keys), 1)), np.ones(len(keys), dtype=np.float32)
    if type(vicinity) is not Mixup or type(vicinity.pairing) not in (RandomPairs, Roll):
        return None
    weighting = vicinity.alpha if isinstance(vicinity.alpha, Weighting) else Beta(vicinity.alpha)
    if type(weighting) is not Beta or weighting.per != "batch":
        return None
    alpha, pairing = weighting.alpha, vicinity.pairing
    partner, own = np.empty((len(keys), n), dtype=np.int64), np.empty(len(keys))
    for i, key in enumerate(keys):
        generator = random.borrowed(key)
        own[i] = generator.beta(alpha, alpha)
        partner[i] = pairing.draw(generator, n, None, None)
    return partner, _exact(own)


def _draw(
    generator: np.random.Generator,
    alpha: float | Weighting,
    pairing: Pairing,
    n: int,
    y: Tensor | None,
    x: Tensor | None,
) -> MixPlan:
    weighting = alpha if isinstance(alpha, Weighting) else Beta(alpha)
    _warn_alone(n)
    shares = weighting.draw(generator, n)
    if shares.shape[1] == 2:
        partner = pairing.draw(generator, n, y, x)
        return MixPlan(torch.from_numpy(partner), torch.from_numpy(_exact(shares[:, 0])))
    partners = [pairing.draw(generator, n, y, x) for _ in range(shares.shape[1] - 1)]
    others = _exact(shares[:, 1:])
    own = 1 - others.sum(axis=1, keepdims=True)
    return MixPlan(torch.from_numpy(np.stack(partners, axis=1)), torch.from_numpy(np.hstack([own, others])))


def _exact(share: np.ndarray) -> np.ndarray:
    """Round shares down to multiples of 2**-24, as float32: what is left of 1 is then exact in any precision.

    Inputs and labels mixed in different precisions so have the very same shares, and shares sum to 1 without an error.
    """
    return (np.floor(share * 2.0**24) * 2.0**-24).astype(np.float32)


def _warn_alone(n: int) -> None:
    if n != 1:
        return
    frame, level = sys._getframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "vicinal":
        frame, level = frame.f_back, level + 1  # the user's line is the first outside of this library
    warnings.warn(
        "a batch of one example has nobody to mix with and stays as it is; drop_last=True avoids it at the end of an "
        "epoch",
        stacklevel=level,
    )


def _check(vicinity: Mixup | InputMixup) -> None:
    if not isinstance(vicinity.alpha, Weighting):
        check_alpha(vicinity.alpha)
    _check_pairing(vicinity.pairing)


def _check_pairing(pairing: object) -> None:
    if not isinstance(pairing, Pairing):
        raise TypeError(f"pairing must be a pairing such as RandomPairs() or SameClass(), got {pairing!r}")


def _parts(parts: Sequence[Vicinity]) -> tuple[Vicinity, ...]:
    if not isinstance(parts, Sequence) or not parts or not all(isinstance(part, Vicinity) for part in parts):
        raise TypeError(f"a composition needs one or more vicinities, got {parts!r}")
    seeded = [part for part in parts if part.seed != 0]
    if seeded:
        raise ValueError(f"the seed belongs to the outermost vicinity: take it out of {seeded[0]!r}")
    return tuple(parts)


def _picture(x: Any) -> Tensor | None:
    """Give the leaf with the most dimensions (the picture rather than its metadata), the first by name among equals."""
    if isinstance(x, Tensor) or x is None:
        return x
    leaves = [(pytree.keystr(path), leaf) for path, leaf in pytree.tree_leaves_with_path(x) if isinstance(leaf, Tensor)]
    return max(sorted(leaves, key=lambda named: named[0]), key=lambda named: named[1].ndim, default=(None, None))[1]


def _rows(x: Any) -> int:
    if isinstance(x, Tensor) and x.ndim:
        return x.shape[0]
    for leaf in pytree.tree_leaves(x):
        if isinstance(leaf, (Tensor, MixedTarget)) and leaf.ndim:
            return len(leaf)
    raise TypeError(f"a batch is a tensor [n, ...] or a nest of them, got {type(x).__name__} without any: convert it")


__all__ = [
    "ERM",
    "Chain",
    "Choice",
    "CutMix",
    "GaussianNoise",
    "InputMixup",
    "LabelSmoothing",
    "Mixup",
    "Scheduled",
    "Vicinity",
]
