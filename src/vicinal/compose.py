"""Vicinities made of vicinities: one after the other, one of several, one by epoch, one beside the plain rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicinal._checks import check_epoch
from vicinal.keyed import Key
from vicinal.mix_plan import MixPlan, identity
from vicinal.plan import Plan, PlanBeside, PlanChain
from vicinal.vicinity import Vicinity


@dataclass(frozen=True)
class Chain(Vicinity):
    """Several vicinities one after the other: `Chain([InputMixup(1.0), LabelSmoothing(0.1)])`.

    Args:
        parts: applied in this order, each to what the one before it made.
        seed: as of `Vicinity`; the parts have none of their own.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: that of each part; a part mixes what the one before it made.
        one draw: one plan per part, independent of the others; shared by every tensor of a nest.

    Examples:
        >>> import torch
        >>> from vicinal import LabelSmoothing, Mixup
        >>> chain = Chain([Mixup(0.4), LabelSmoothing(0.1)], seed=2)
        >>> x, y = chain(torch.eye(2), torch.tensor([0, 1]))
        >>> y.dense(2)
        tensor([[0.6693, 0.3307],
                [0.3307, 0.6693]])

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
        seed: as of `Vicinity`; the parts have none of their own.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: that of the part that is chosen.
        one draw: one part per batch; shared by every tensor of a nest.

    Raises:
        TypeError: parts are not one or more vicinities.
        ValueError: p does not hold a probability for each part, or a part has a seed.

    Examples:
        >>> from vicinal import ERM, Mixup
        >>> choice = Choice([Mixup(0.4), ERM()], seed=1)
        >>> for step in range(3):
        ...     print(choice.plan(2, step=step))
        Plan(2 rows; 0: 0.604 + 0.396 of 0; 1: 0.604 + 0.396 of 1)
        Plan(2 rows; 0: 1; 1: 1)
        Plan(2 rows; 0: 0.216 + 0.784 of 1; 1: 0.216 + 0.784 of 0)

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
    """A vicinity by epoch: in some epochs only, or with values that change.

    The paper's speech networks train 5 epochs without mixup first: `Scheduled(Mixup(0.1), start=5)`. An alpha by epoch:
    `Scheduled(Mixup(1.0), values={"alpha": {30: 0.4, 60: 0.1}})`, or `values={"alpha": lambda epoch: 0.98**epoch}`.

    The one-line form learns the epoch from `set_epoch`, which also reaches persistent DataLoader workers, or from
    `epoch=`; `plan` is given `epoch=`. Never told the epoch, it raises: a schedule that stands still is not a schedule.

    Args:
        part: the vicinity.
        start: its first epoch, counted from 0; ERM before it.
        stop: the first epoch after it; None: to the end.
        values: by the name of an argument of `part`: what it is from an epoch on, or a function of the epoch.
        seed: as of `Vicinity`; the part has none of its own.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: that of the part in its epochs, 1 in the others.
        one draw: that of the part; shared by every tensor of a nest.

    Raises:
        TypeError: part is not a vicinity, or a schedule of values is neither a mapping nor a function.
        ValueError: epochs are out of order, part has no argument of that name, or refuses a value.

    Examples:
        >>> from vicinal import Mixup
        >>> schedule = Scheduled(Mixup(0.4), start=5, seed=1)
        >>> schedule.plan(2, step=0, epoch=4)
        Plan(2 rows; 0: 1; 1: 1)
        >>> schedule.plan(2, step=0, epoch=5)
        Plan(2 rows; 0: 0.604 + 0.396 of 0; 1: 0.604 + 0.396 of 1)

    """

    part: Vicinity
    start: int = 0
    stop: int | None = None
    values: Mapping[str, Mapping[int, Any] | Callable[[int], Any]] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _parts([self.part])
        check_epoch(self.start)
        if self.stop is not None:
            check_epoch(self.stop)
            if self.stop < self.start:
                raise ValueError(f"epochs run from start to stop >= start, got {self.start} to {self.stop}")
        if self.values is None:
            return
        arguments = {f.name for f in fields(self.part)} - {"seed"}
        frozen: dict[str, Any] = {}
        for name, schedule in self.values.items():
            if name not in arguments:
                raise ValueError(f"{type(self.part).__name__} has no argument {name!r}; it has {sorted(arguments)}")
            if callable(schedule):
                frozen[name] = schedule
                continue
            if not isinstance(schedule, Mapping):
                raise TypeError(f"{name} by epoch is {{epoch: value}} or a function of the epoch, got {schedule!r}")
            for epoch, value in schedule.items():
                check_epoch(epoch)
                replace(self.part, **{name: value})  # refuses what the part would refuse, before the training starts
            frozen[name] = dict(sorted(schedule.items()))
        object.__setattr__(self, "values", frozen)

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> Plan:
        """Draw the part's plan in its epochs, the identity in the others."""
        if epoch is None:
            raise ValueError(
                "Scheduled needs the epoch: call set_epoch(epoch) at the start of each epoch, or give plan(..., epoch=)"
            )
        active = self.start <= epoch and (self.stop is None or epoch < self.stop)
        return self.at(epoch).draw(key.fold(0), n, y, x, epoch) if active else identity(n)

    def at(self, epoch: int) -> Vicinity:
        """Return the part as it is in an epoch within start and stop."""
        if not self.values:
            return self.part
        if self.state.now is None or self.state.now[0] != epoch:
            self.state.now = epoch, replace(self.part, **self._values(epoch))
        return self.state.now[1]

    def _values(self, epoch: int) -> dict[str, Any]:
        changes = {}
        for name, schedule in (self.values or {}).items():
            if callable(schedule):
                changes[name] = schedule(epoch)
            elif begun := [start for start in schedule if start <= epoch]:
                changes[name] = schedule[max(begun)]
        return changes


@dataclass(frozen=True)
class Beside(Vicinity):
    """The plain rows and, after them, the mixed ones: a batch of 2 n rows of n. `Beside(Mixup(10.0))` is RegMixup.

    RegMixup (Pinto et al. 2022) minimizes CE(plain) + CE(mixed). The mean over the 2 n rows is half of that sum: the same
    minimum, the gradient halved. One forward pass does both, and costs what two batches do; batch normalization sees plain
    and mixed rows together, as in the authors' code. Metrics of the plain rows are those of the first n.

    Args:
        part: what makes the mixed rows. RegMixup's Beta is narrow around one half: alpha of 10 to 20.

    Convention:
        dimension 0: of what comes out, the rows of the batch, then the mixed rows in their order; 2 n in all.
        lambda: 1 for the plain rows; for the mixed ones that of the part.
        one draw: that of the part; shared by every tensor of a nest.

    Raises:
        TypeError: part is not a vicinity.
        ValueError: it has a seed of its own, or makes more rows itself. When used: with `rows=`, in `between`, as the
            plan of `LatentMixing`, before other parts of a chain, or with `out=`.

    Examples:
        >>> import torch
        >>> from vicinal import Mixup
        >>> x, y = Beside(Mixup(10.0), seed=1)(torch.eye(2), torch.tensor([0, 1]))
        >>> x
        tensor([[1.0000, 0.0000],
                [0.0000, 1.0000],
                [0.5967, 0.4033],
                [0.4033, 0.5967]])
        >>> y
        MixedTarget([1 of 0 + 0 of 0, 1 of 1 + 0 of 1, 0.597 of 0 + 0.403 of 1, 0.597 of 1 + 0.403 of 0])

    """

    part: Vicinity

    def __post_init__(self) -> None:
        super().__post_init__()
        _parts([self.part])

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> PlanBeside:
        """Draw the part's plan, by the key that it would have alone."""
        return PlanBeside(self.part.draw(key, n, y, x, epoch))


@dataclass(frozen=True)
class Unmixed(Vicinity):
    """The pairs of a vicinity without its mixing: each row is itself, or its partner, whole. The control of any pairing.

    A pairing that selects partners also resamples the data: pairs of different classes, for example, balance them. This
    resampling alone explains part of what selective mixup gains (Teney et al. 2024). `Unmixed(part)` keeps it and takes the
    mixing away: by equal keys it has the pairs of `part` and the same shares, and with the probability of its share each
    row of the mix stands for the whole, label included. What is left between the two is the effect of mixing.

    Args:
        part: a vicinity that mixes rows, as `Mixup(2.0, pairing=OtherClass())`.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the probability that a row stays itself, that of the part; what is drawn is 0 or 1.
        one draw: that of the part, and one choice per example; shared by every tensor of a nest.

    Raises:
        TypeError: part is not a vicinity, or when drawn: it does several mixings one after the other.
        ValueError: it has a seed of its own.

    Examples:
        >>> import torch
        >>> from vicinal import Mixup
        >>> x, y = Unmixed(Mixup(1.0), seed=1)(torch.eye(3), torch.tensor([0, 1, 2]))
        >>> y
        MixedTarget([1 of 0 + 0 of 2, 1 of 1 + 0 of 1, 1 of 2 + 0 of 0])

    """

    part: Vicinity

    def __post_init__(self) -> None:
        super().__post_init__()
        _parts([self.part])

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Draw the part's plan by the key that it would have alone, and by another one who stands for each mix."""
        plan = self.part.draw(key, n, y, x, epoch)
        if not isinstance(plan, MixPlan):
            raise TypeError(f"Unmixed takes a vicinity that mixes once, such as Mixup(2.0), not {self.part!r}")
        shares = plan.shares.double().numpy()
        chance = key.fold(_WHO).generator().random((n, 1))
        who = np.minimum((chance >= shares.cumsum(axis=1)).sum(axis=1), shares.shape[1] - 1)
        whole = torch.eye(shares.shape[1], dtype=torch.float32, device="cpu")[torch.from_numpy(who)]
        return MixPlan(plan.partner, whole[:, 0].contiguous() if plan.partner.ndim == 1 else whole)


_WHO = 61  # of a key: the stream that draws who stands for a mix, beyond those of parts


def _parts(parts: Sequence[Vicinity]) -> tuple[Vicinity, ...]:
    if not isinstance(parts, Sequence) or not parts or not all(isinstance(part, Vicinity) for part in parts):
        raise TypeError(f"a composition needs one or more vicinities, got {parts!r}")
    seeded = [part for part in parts if part.seed is not None]
    if seeded:
        raise ValueError(f"the seed belongs to the outermost vicinity: take it out of {seeded[0]!r}")
    return tuple(parts)
