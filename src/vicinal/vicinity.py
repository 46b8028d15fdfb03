"""The vicinal distributions: what is drawn around the training data.

A vicinity is a frozen value that draws plans (`plan.py`). ERM draws the data itself; Mixup draws convex combinations of
pairs (paper, section 2); the others are the paper's ablation and its neighbors, all of them compositions of who is
mixed with whom (`pairing.py`) and how much of itself a row keeps (`weighting.py`).
"""

from __future__ import annotations

import math
import numbers
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch._compile import _disable_dynamo  # torch.compiler.disable, without importing the compiler before it is needed

from vicinal import _tree, keyed
from vicinal._between import Across, joined, rows_of, sliced
from vicinal._checks import Per, check_alpha, check_number, check_per
from vicinal._layout import grid_of
from vicinal._state import State
from vicinal._value import Value
from vicinal._warn import warn, warn_once
from vicinal.keyed import Key
from vicinal.pairing import LabelDistance, Pairing, RandomPairs, Roll
from vicinal.plan import MixPlan, Noise, Plan, identity
from vicinal.target import MixedTarget
from vicinal.weighting import Beta, Weighting

X = TypeVar("X")

_AHEAD, _AHEAD_ROWS = 32, 1024  # plans drawn together, for batches of at most so many rows
_MIXED_AGAIN = (
    "these labels were mixed by this vicinity already, with the inputs of the call before: what belongs to the same rows "
    "goes into one call, mixup((features, embeddings), y)"
)


@dataclass(frozen=True)
class Vicinity(Value, ABC):
    """Draws plans; calling it is the one-line form of drawing a plan and applying it.

    Args:
        seed: the seed of every draw, in [0, 2**64). A draw depends on it, on the rank, the worker and the step, and on
            nothing else: no global generator is moved. None (the default) takes a seed when the vicinity is made, from
            `torch.initial_seed()` and the number of vicinities made before it in this process: `torch.manual_seed`
            decides the draws, and two vicinities never share them. `state_dict` holds the seed.

    `dataclasses.replace(vicinity, alpha=...)` goes on where the vicinity stands: same seed, same counts.

    Examples:
        >>> import torch
        >>> mixup = Mixup(alpha=0.4, seed=1)
        >>> x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
        >>> mixed_x, mixed_y = mixup(x, y)                  # the one line
        >>> plan = mixup.plan(len(x), y, step=0)            # the same, opened up
        >>> bool((plan(x) == mixed_x).all())
        True

    """

    seed: int | None = field(default=None, kw_only=True)
    if not TYPE_CHECKING:  # type checkers would ask for it in the __post_init__ of every subclass
        # what `dataclasses.replace` hands on; no field and not in `vars`: what reads configurations sees plain data
        _state: InitVar[State | None] = field(default=None, kw_only=True)
    __slots__ = ("_kept",)
    _is_drawn_ahead = False  # plans of small batches are drawn together, by `draw_pairs`

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Allow subclasses to write `__post_init__(self)` as in any dataclass, without the state."""
        super().__init_subclass__(**kwargs)
        if "draw" in vars(cls) and "draw_pairs" not in vars(cls):
            cls.draw_pairs = Vicinity.draw_pairs  # the inherited one draws what the inherited `draw` would
            cls._is_drawn_ahead = False
        own: Callable[[Any], None] | None = vars(cls).get("__post_init__")
        if own is not None:

            def __post_init__(self: Any, *state: State | None) -> None:
                Vicinity.__post_init__(self, *state)
                own(self)

            cls.__post_init__ = __post_init__  # type: ignore[method-assign]

    def __post_init__(self, *handed_on: State | None) -> None:
        """Check the seed and make the state, or take over a copy of the one that `dataclasses.replace` hands on."""
        if hasattr(self, "_kept"):  # a subclass asks again, by super().__post_init__()
            return
        state = handed_on[0] if handed_on else None
        if self.seed is not None:
            Key(self.seed, 0, 0, 0).check()
        if state is not None and self.seed is None and not state.given:
            mine = state.copy()
        else:
            mine = State(self.seed)
            if state is not None:  # the counts go on, by the seed that was asked for
                mine.load_state_dict({**state.state_dict(), "seed": mine.seed})
        object.__setattr__(self, "_kept", mine)

    @property
    def state(self) -> State:
        """Seed in use, counts, epoch and switch."""
        return self._kept

    def __getstate__(self) -> dict[str, Any]:
        """Return everything, the state too."""
        return {**super().__getstate__(), "_kept": self._kept}

    @abstractmethod
    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> Plan:
        """Draw a plan for `n` rows from `key`; what a new vicinity defines.

        `y` is the target if it is one tensor, `x` the tensor of the inputs with the most dimensions; each may be None.
        """

    def draw_pairs(self, keys: Sequence[Key], n: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Draw the plans of many batches of n rows at once, where each mixes pairs of rows by one weight per batch.

        Args:
            keys: one per batch, checked.
            n: number of rows of each batch.

        Returns:
            Partners int64 [len(keys), n] and the share that all rows of a batch keep of themselves, float32 [len(keys)]:
            what `draw` gives by each key. None (the default): this vicinity draws one plan at a time.

        """
        return None

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
        rows: Tensor | None = None,
    ) -> Plan:
        """Draw the plan of batch number `step`: a pure function of (seed, rank, worker, step).

        Args:
            n: number of rows, `len(x)`; 0 and 1 are fine (a single row has nobody to mix with, and a warning says so).
            y: targets, where the pairing looks at labels.
            x: inputs, where the vicinity looks at their shape (CutMix) or values (Nearest); a tensor or a nest.
            step: number of the batch, >= 0; give every batch of the training its own.
            epoch: for `Scheduled`, which asks for it.
            seed: instead of the vicinity's own.
            rank: instead of this process's (torch.distributed, else what the launcher says); rank=0 shares draws.
            worker: instead of this process's (0 in the main process, 1 + id in a DataLoader worker).
            rows: bool [n] or int64 [m], the rows that take part; the others stay as they are and are nobody's partner (the
                training mask of a graph, the labeled rows of a batch).

        Raises:
            ValueError: the vicinity needs `y`, `x` or `epoch` and was not given it.

        """
        if torch.compiler.is_compiling():
            return _plan_outside(self, n, y, x, step, epoch, seed, rank, worker, rows)
        key = Key(
            self.state.seed if seed is None else seed,
            keyed.rank() if rank is None else rank,
            keyed.worker() if worker is None else worker,
            step,
        )
        if (type(n) is not int and not isinstance(n, numbers.Integral)) or isinstance(n, bool) or n < 0:
            raise ValueError(f"n is the number of rows, len(x), an integer >= 0, got {n!r}")
        if torch.is_inference_mode_enabled():  # a plan is for any use, whatever mode it is drawn in
            with torch.inference_mode(False):
                return self._drawn(key, int(n), y, x, epoch, rows)
        return self._drawn(key, int(n), y, x, epoch, rows)

    def _drawn(self, key: Key, n: int, y: Any, x: Any, epoch: int | None, rows: Tensor | None) -> Plan:
        if rows is not None:
            return self._among(key, n, y, x, epoch, rows)
        if self._is_drawn_ahead and 1 < n <= _AHEAD_ROWS and (plan := self._ahead(key, n)) is not None:
            return plan
        return self.draw(key, n, y if isinstance(y, Tensor) else None, _picture(x, n), epoch).keyed(key)

    def _among(self, key: Key, n: int, y: Any, x: Any, epoch: int | None, rows: Tensor) -> Plan:
        """Draw for some of the rows only."""
        index = _row_numbers(rows, n)
        y = y[index.to(y.device)] if isinstance(y, Tensor) else None
        x = _picture(x, n)
        x = None if x is None else x[index.to(x.device)]
        return self.draw(key, len(index), y, x, epoch).keyed(key).spread(index, n)

    def __call__(
        self,
        x: X,
        y: Any,
        *,
        out: Any = None,
        step: int | None = None,
        epoch: int | None = None,
        rows: Tensor | None = None,
        missing: float | None = None,
    ) -> tuple[X, Any]:
        """Mix one training batch: inputs x and targets y, tensors [n, ...] or nests of them, with one draw.

        Call it in training only. Class indices y come back as a `MixedTarget`, which goes to the loss as it is; numbers
        come back as numbers. Without `step` the batches are counted, in each worker on its own; `state_dict` holds the
        count. After `off()` ERM is applied: x as it is, y of the same type as always.

        Args:
            x: inputs; not changed, unless they are given as `out` too.
            y: targets, or None.
            out: where the mixed inputs go, as of calling a plan.
            step: number of the batch, >= 0: the draw is then decided by it, and nothing is counted. For trainers that
                count steps themselves, exact resumes, and closures that see one batch several times.
            epoch: for `Scheduled`; None: what `set_epoch` was told.
            rows: as of `plan`.
            missing: as of `Plan.target`.

        Returns:
            (mixed inputs, mixed targets).

        """
        if torch.compiler.is_compiling():
            return _call_outside(self, x, y, out, step, epoch, rows, missing)
        state = self.state
        if type(y) is MixedTarget and state.mixed_last is not None and state.mixed_last() is y.ids:
            warn_once("mixed again", _MIXED_AGAIN)
        plan = self._next(_rows(x, y), y, x, step, epoch, rows)
        mixed, target = plan(x, out=out), plan.target(y) if missing is None else plan.target(y, missing=missing)
        if type(target) is MixedTarget:
            state.mixed_last = weakref.ref(target.ids)
        return mixed, target

    def between(
        self, batch: tuple[X, Any], others: tuple[Any, Any], *, step: int | None = None, epoch: int | None = None
    ) -> tuple[X, Any]:
        """Mix each row of a batch with a row of another batch: labeled with unlabeled, source with target domain.

        Args:
            batch: inputs and targets (x, y) of n rows.
            others: inputs and targets of m rows, of the same structure and shapes but for the number of rows. Class
                indices beside soft labels [m, num_classes] are mixed as soft labels.
            step: as of calling the vicinity.
            epoch: as of calling the vicinity.

        Returns:
            Mixed inputs and targets of n rows; each row keeps the share that it would keep within its batch.

        """
        if torch.compiler.is_compiling():
            return _between_outside(self, batch, others, step, epoch)
        n, m = rows_of(batch), rows_of(others)
        x, y = joined(batch, n, others, m)
        plan = _across(self, n)._next(n + m, y, x, step, epoch, None, self.state)
        return sliced(plan(x), n + m, n, "input"), sliced(plan.target(y), n + m, n, "target")

    def _next(
        self,
        n: int,
        y: Any,
        x: Any,
        step: int | None,
        epoch: int | None,
        rows: Tensor | None,
        state: State | None = None,
    ) -> Plan:
        """Draw the plan of the next batch, or of batch number `step`."""
        worker = keyed.worker()
        state = self._kept if state is None else state
        if step is None:
            step = state.next_step(worker)
        on, told, seed = state.look()
        if not on:
            return identity(n)
        rank = state.rank
        if rows is None and type(step) is int and (plan := state.take((n, seed, rank, worker), step)) is not None:
            return plan
        epoch = told if epoch is None else epoch
        return self.plan(n, y, x, step=step, epoch=epoch, seed=seed, rank=rank, worker=worker, rows=rows)

    def _ahead(self, key: Key, n: int) -> Plan | None:
        """Return a small batch's plan from a block of plans drawn together; None where this one is drawn by itself.

        A plan is a pure function of its key, so it matters to nobody when it is drawn. Between two training steps a
        draw finds cold caches and takes four times as long as in a block (results/bench/README.md).
        """
        key.check()
        of = (n, key.seed, key.rank, key.worker)
        block_of, first, plans = self.state.ahead
        if block_of == of and first <= key.step < first + len(plans):
            return self.state.take(of, key.step)
        if self.state.batch_before != of:  # the last batch of an epoch, perhaps: nothing is drawn ahead for it
            self.state.batch_before = of
            return None
        if self.draw_pairs([], n) is None:
            return None
        keys = [Key(key.seed, key.rank, key.worker, step) for step in range(key.step, min(key.step + _AHEAD, 2**64))]
        pairs = self.draw_pairs(keys, n)
        assert pairs is not None  # as of no keys
        plan, *following = MixPlan.several(torch.from_numpy(pairs[0]), torch.from_numpy(pairs[1]), keys)
        self.state.ahead = of, key.step, [None, *following]
        return plan

    def on(self) -> None:
        """Mix again, at the next batch, in every DataLoader worker too."""
        self.state.on = True

    def off(self) -> None:
        """Stop mixing from the next batch on, in every DataLoader worker too, persistent ones included."""
        self.state.on = False

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the one-line form, for `Scheduled`; reaches every worker at its next batch.

        Raises:
            ValueError: epoch is not an integer >= 0.

        """
        self.state.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """Return the seed in use and the one-line form's counters and switch, as plain numbers for a checkpoint."""
        return self.state.state_dict()

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next draws are those that would have come next then.

        Raises:
            ValueError: the values are not what `state_dict` returned, or were saved with another seed than the one that
                this vicinity was given.

        """
        self.state.load_state_dict(values)


Vicinity._state = Vicinity.state  # type: ignore[attr-defined]  # where `dataclasses.replace` looks for it


@dataclass(frozen=True)
class ERM(Vicinity):
    """Empirical risk minimization: the training data as they are.

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
    """Convex combinations of pairs of examples and of their labels (paper, section 2, figure 1a).

    Args:
        alpha: lambda ~ Beta(alpha, alpha), one lambda per batch, as in the paper; > 0. The paper used 1 on CIFAR, 0.2 to
            0.4 on ImageNet, 0.1 to 0.2 on speech, 8 to 32 against label noise. Or any weighting: `Beta(alpha,
            per="example")`, `Dirichlet(alpha, k=3)`.
        pairing: who is mixed with whom; by default a random permutation of the batch.

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
            return _draw(key.generator(), self.alpha, self.pairing, n, y, x)
        _warn_alone(n)
        weight = torch.full((n,), float(pairs[1][0]), dtype=torch.float32, device="cpu")
        return MixPlan(torch.from_numpy(pairs[0][0]), weight)

    def draw_pairs(self, keys: Sequence[Key], n: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Draw one Beta weight per batch and partners that depend on no labels; None for other weightings and pairings."""
        weighting = self.alpha if isinstance(self.alpha, Weighting) else Beta(self.alpha)
        if type(weighting) is not Beta or weighting.per != "batch" or type(self.pairing) not in (RandomPairs, Roll):
            return None
        partner, own = np.empty((len(keys), n), dtype=np.int64), np.empty(len(keys))
        for i, key in enumerate(keys):
            generator = keyed.borrowed(key)
            own[i] = generator.beta(weighting.alpha, weighting.alpha)
            partner[i] = self.pairing.draw(generator, n, None, None)
        return partner, _exact(np.maximum(own, 1 - own) if weighting.folded else own)


@dataclass(frozen=True)
class InputMixup(Vicinity):
    """Inputs mixed as by `Mixup`, labels not: a row has the label of the example with the largest share.

    The paper's "mix inputs only" (section 3.8, table 5). With `pairing=Nearest(k, same_class=True)` its SMOTE row.

    Args:
        alpha: as of `Mixup`.
        pairing: as of `Mixup`.

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
        plan = _draw(key.generator(), self.alpha, self.pairing, n, y, x)
        if plan.weight.ndim == 1:
            nearer = (plan.weight >= 0.5).to(plan.weight.dtype)
        else:
            nearer = torch.zeros_like(plan.weight).scatter_(1, plan.weight.argmax(1, keepdim=True), 1.0)
        return MixPlan(plan.partner, plan.weight, target_weight=nearer)


@dataclass(frozen=True)
class CutMix(Vicinity):
    """A box of each input replaced by the partner's, labels mixed by the area that is left (Yun et al. 2019).

    The box has the share 1 - lambda of the grid, its center is uniform, and what hangs over the edge is cut off; the
    label's share is the exact share of cells that stay. Maps on the same grid (masks [n, *grid] or [n, c, *grid]) are cut
    by the same box; soft labels and vectors follow the share. Integer inputs (token ids) are selected, never averaged.

    *Convention*: the grid is the last `dims` dimensions, after the batch and whatever lies between. Undeclared, images
    [n, c, h, w], signals [n, c, t] and [n, t] are understood, and whatever has a mask [n, *grid] as its target; shapes that
    can mean several things are refused.

    Args:
        alpha: lambda ~ Beta(alpha, alpha); > 0.
        per: one box for the whole batch, or one per example.
        pairing: as of `Mixup`.
        dims: number of dimensions of the grid: 1 for signals, 2 for images and videos [n, t, c, h, w] (the same box in
            each frame) and spectrograms without a channel, 3 for volumes. None: as above.
        channels_last: whether the channels are the last dimension, behind the grid: [n, h, w, c].

    Raises:
        ValueError: when drawn: the inputs have no such grid, or one that has to be declared.

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
        check_alpha(self.alpha)
        check_per(self.per)
        _check_pairing(self.pairing)
        if self.dims is not None and (isinstance(self.dims, bool) or self.dims not in (1, 2, 3)):
            raise ValueError(f"dims is the number of dimensions of the grid, 1, 2 or 3, got {self.dims!r}")
        if not isinstance(self.channels_last, bool):
            raise ValueError(f"channels_last must be True or False, got {self.channels_last!r}")

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Draw partners and boxes; needs x [n, c, *grid] for the grid."""
        if x is None:
            raise ValueError("CutMix looks at the shape of the inputs: give them to plan(n, y, x)")
        grid = grid_of(x, self.dims, self.channels_last, y)
        generator = key.generator()
        draws = 1 if self.per == "batch" else n
        lam = keyed.beta(generator, self.alpha, draws)
        sizes = np.array(grid)
        side = np.rint((1 - lam[:, None]) ** (1 / len(grid)) * sizes).astype(np.int64)  # [draws, d]
        center = generator.random((draws, len(grid))) * sizes
        start = np.floor(center - (side - 1) / 2).astype(np.int64)
        box = np.clip(np.stack([start, start + side], axis=2), 0, sizes[:, None])
        own = 1 - (box[:, :, 1] - box[:, :, 0]).prod(axis=1) / math.prod(grid)
        partner = self.pairing.draw(generator, n, y, x)
        _warn_alone(n)
        return MixPlan(
            torch.from_numpy(partner),
            torch.from_numpy(np.broadcast_to(_exact(own), (n,)).copy()),
            box=torch.from_numpy(np.broadcast_to(box, (n, *box.shape[1:])).copy()),
            grid=grid,
            channels_last=self.channels_last,
            vectors=x.ndim == 2,
        )


@dataclass(frozen=True)
class GaussianNoise(Vicinity):
    """Gaussian noise on the inputs, labels unchanged (Chapelle et al. 2000; paper, sections 2 and 3.8).

    Args:
        sigma: standard deviation in the units of the inputs, >= 0. The paper's ablation has 0.05, 0.1 and 0.2.

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
        if not (self.sigma >= 0 and math.isfinite(self.sigma)):
            raise ValueError(f"sigma is a standard deviation and must be finite and >= 0, got {self.sigma}")

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Return the key of the noise; the noise itself is drawn when the plan meets a tensor."""
        return identity(n, noise=Noise(self.sigma, key))


@dataclass(frozen=True)
class LabelSmoothing(Vicinity):
    """Labels (1 - eps) * label + eps / num_classes, inputs unchanged (Szegedy et al. 2016; paper, section 3.8).

    Args:
        eps: in [0, 1]. The paper's ablation has 0.05, 0.1 and 0.2.

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
            raise ValueError(f"eps is a share of the label and must lie in [0, 1], got {self.eps}")

    def draw(self, key: Key, n: int, y: Tensor | None, x: Tensor | None, epoch: int | None) -> MixPlan:
        """Return the smoothing; it draws nothing."""
        return identity(n, smoothing=self.eps)


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
        plan = MixPlan(torch.from_numpy(partner), torch.from_numpy(_exact(shares[:, 0])))
        return plan.of_numbers() if isinstance(pairing, LabelDistance) else plan
    partners = [pairing.draw(generator, n, y, x) for _ in range(shares.shape[1] - 1)]
    return MixPlan(torch.from_numpy(np.stack(partners, axis=1)), torch.from_numpy(_exact_rows(shares)))


def _exact(share: np.ndarray) -> np.ndarray:
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


def _warn_alone(n: int) -> None:
    if n == 1:
        warn(
            "a batch of one example has nobody to mix with and stays as it is; drop_last=True avoids it at the end of an "
            "epoch"
        )


def _check(vicinity: Mixup | InputMixup) -> None:
    if not isinstance(vicinity.alpha, Weighting):
        check_alpha(vicinity.alpha)
    _check_pairing(vicinity.pairing)


def _check_pairing(pairing: object) -> None:
    if not isinstance(pairing, Pairing):
        raise TypeError(f"pairing must be a pairing such as RandomPairs() or SameClass(), got {pairing!r}")


def _across(value: Any, n: int) -> Any:
    """Return a vicinity, or an argument of one, with the partners of the first n rows among the rows after them."""
    if isinstance(value, Pairing):
        return Across(value, n)
    if isinstance(value, Vicinity):
        return replace(value, **{f.name: _across(getattr(value, f.name), n) for f in fields(value) if f.name != "seed"})
    if isinstance(value, (tuple, list)):
        return type(value)(_across(part, n) for part in value)
    if isinstance(value, Mapping):  # of a schedule: {epoch: value}, or a function of the epoch
        return {key: _across(part, n) for key, part in value.items()}
    if isinstance(value, Weighting) or not callable(value):
        return value
    return lambda epoch: _across(value(epoch), n)


def _row_numbers(rows: Tensor, n: int) -> Tensor:
    """Return int64 row numbers of a mask [n], or of row numbers."""
    if not isinstance(rows, Tensor) or rows.ndim != 1 or rows.is_floating_point() or rows.is_complex():
        raise ValueError(f"rows must be a mask, bool [{n}], or row numbers, int64 [m], got {rows!r}")
    rows = rows.detach().cpu()
    if rows.dtype == torch.bool:
        if len(rows) != n:
            raise ValueError(f"rows is a mask of {len(rows)} rows, but the batch has {n}")
        return rows.nonzero().squeeze(1)
    rows = rows.long()
    if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < n and len(rows.unique()) == len(rows)):
        raise ValueError(f"rows must be different numbers in [0, {n}), got {rows.tolist()[:16]}")
    return rows


# a draw is a matter of numpy: inside a compiled function it is one break of the graph
@_disable_dynamo
def _call_outside(vicinity: Vicinity, x: Any, y: Any, out: Any, step: Any, epoch: Any, rows: Any, missing: Any) -> Any:
    return vicinity(x, y, out=out, step=step, epoch=epoch, rows=rows, missing=missing)


@_disable_dynamo
def _plan_outside(
    vicinity: Vicinity, n: Any, y: Any, x: Any, step: Any, epoch: Any, seed: Any, rank: Any, worker: Any, rows: Any
) -> Plan:
    return vicinity.plan(n, y, x, step=step, epoch=epoch, seed=seed, rank=rank, worker=worker, rows=rows)


@_disable_dynamo
def _between_outside(vicinity: Vicinity, batch: Any, others: Any, step: Any, epoch: Any) -> Any:
    return vicinity.between(batch, others, step=step, epoch=epoch)


def _picture(x: Any, n: int) -> Tensor | None:
    """Return the input with the most dimensions (the image rather than its metadata)."""
    return x if isinstance(x, Tensor) or x is None else _tree.widest(x, n)


def _rows(x: Any, y: Any) -> int:
    if type(x) is Tensor and type(y) is Tensor and x.ndim not in (0, 3) and not x.is_nested:
        return x.shape[0]  # the usual batch
    return _tree.rows(x, y)
