"""What every vicinity does: draw plans (`plan.py`) by a key, count batches, and apply a plan to them.

A vicinity is a frozen value. Those of the library are in `vicinities.py`; a new one defines `draw`.
"""

from __future__ import annotations

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

from vicinal import _state, _tree
from vicinal._between import Across, joined, rows_of, sliced
from vicinal._state import State
from vicinal._value import Value
from vicinal._warn import warn_once
from vicinal.keyed import Key
from vicinal.mix_plan import MixPlan, identity
from vicinal.pairing import Pairing
from vicinal.plan import Plan
from vicinal.target import MixedTarget
from vicinal.weighting import Weighting

X = TypeVar("X")

_AHEAD, _AHEAD_ROWS = 32, 1024  # plans drawn together, for batches of at most this many rows
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

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the share that a row keeps of itself.
        one draw: decided by seed, rank, worker and step; shared by every tensor of a nest.

    Examples:
        >>> import torch
        >>> from vicinal import Mixup
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
                mine.take_over({**state.numbers(), "seed": mine.seed})
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

        `y` is the target if it is one tensor, or int64 [n, 2] if it is a pair (class indices, groups); `x` the tensor of the
        inputs with the most dimensions; each may be None.
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
            y: targets, where the pairing looks at labels; a pair (class indices, groups), where it looks at groups too.
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
            _state.rank() if rank is None else rank,
            _state.worker() if worker is None else worker,
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
        if self._is_drawn_ahead and 1 < n <= _AHEAD_ROWS and (plan := self._prefetched(key, n)) is not None:
            return plan
        return self.draw(key, n, _labels(y, n), _main_input(x, n), epoch).keyed(key)

    def _among(self, key: Key, n: int, y: Any, x: Any, epoch: int | None, rows: Tensor) -> Plan:
        """Draw for some of the rows only."""
        index = _row_numbers(rows, n)
        y = _labels(y, n)
        y = None if y is None else y[index.to(y.device)]
        x = _main_input(x, n)
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
        plan = self._next(_batch_size(x, y), y, x, step, epoch, rows)
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
        if plan.rows_out != len(plan):
            raise ValueError(
                "between makes one row of each row of the batch, and this vicinity makes more: take what is inside Beside, "
                "and join plain and mixed rows by torch.cat"
            )
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
        worker = _state.worker()
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

    def _prefetched(self, key: Key, n: int) -> Plan | None:
        """Return a small batch's plan from a block of plans drawn together; None where this one is drawn by itself.

        A plan is a pure function of its key, so it matters to nobody when it is drawn. Between two training steps a
        draw finds cold caches and takes four times as long as in a block (results/bench/README.md).
        """
        key.check()
        of = (n, key.seed, key.rank, key.worker)
        block_of, first, plans = self.state.prefetched
        if block_of == of and first <= key.step < first + len(plans):
            return self.state.take(of, key.step)
        if self.state.last_batch != of:  # the last batch of an epoch, perhaps: nothing is drawn ahead for it
            self.state.last_batch = of
            return None
        if self.draw_pairs([], n) is None:
            return None
        keys = [Key(key.seed, key.rank, key.worker, step) for step in range(key.step, min(key.step + _AHEAD, 2**64))]
        pairs = self.draw_pairs(keys, n)
        assert pairs is not None  # as of no keys
        plan, *following = MixPlan.of_batches(torch.from_numpy(pairs[0]), torch.from_numpy(pairs[1]), keys)
        self.state.prefetched = of, key.step, [None, *following]
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
        """Return the seed in use and the one-line form's counters and switch, as plain values for a checkpoint.

        A format number and a checksum stand beside them, so that damage is told when they are read.
        """
        return self.state.state_dict()

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next draws are those that would have come next then.

        Raises:
            TypeError: the values are not a dict.
            ValueError: the values are not what `state_dict` returned, or were saved with another seed than the one that
                this vicinity was given. Nothing has changed then.

        """
        self.state.load_state_dict(values)


Vicinity._state = Vicinity.state  # type: ignore[attr-defined]  # where `dataclasses.replace` looks for it


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


def check_vicinity(vicinity: Any) -> None:
    """Refuse anything but a vicinity, such as the alpha alone.

    Raises:
        TypeError: it is something else.

    """
    if not isinstance(vicinity, Vicinity):
        raise TypeError(f"vicinity is one such as vicinal.Mixup(0.2), not {vicinity!r}")


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


def _labels(y: Any, n: int) -> Tensor | None:
    """Return what pairings look at: the target if it is one tensor, a pair of class indices and groups as int64 [n, 2]."""
    if isinstance(y, Tensor) or not isinstance(y, (tuple, list)) or len(y) != 2:
        return y if isinstance(y, Tensor) else None
    if not all(isinstance(part, Tensor) and tuple(part.shape) == (n,) and _is_integer(part) for part in y):
        return None
    return torch.stack([y[0].long(), y[1].to(y[0].device).long()], dim=1)


def _is_integer(t: Tensor) -> bool:
    return not (t.is_floating_point() or t.is_complex() or t.dtype == torch.bool)


def _main_input(x: Any, n: int) -> Tensor | None:
    """Return the input with the most dimensions (the image rather than its metadata)."""
    return x if isinstance(x, Tensor) or x is None else _tree.widest(x, n)


def _batch_size(x: Any, y: Any) -> int:
    if type(x) is Tensor and type(y) is Tensor and x.ndim not in (0, 3) and not x.is_nested:
        return x.shape[0]  # the usual batch
    return _tree.rows(x, y)
