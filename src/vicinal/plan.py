"""A plan is a recorded draw: for each example of a batch, whom it is mixed with and how much of itself it keeps.

    plan = Mixup(0.4).plan(len(x), y, step=0)
    x, y = plan(x), plan.target(y)

A plan is a value. It can be printed, saved, replayed, and applied to any tensor or nest of tensors with a batch
dimension, at the input or at a hidden layer: nothing is drawn twice, nothing is hidden. What one draw does to a tensor
is in `mix_plan.py`; here are the nests of tensors, the masks and the chains.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from vicinal import _plan_dict, _show, _stored, _tree
from vicinal._mixed_target import check_target
from vicinal.keyed import Key
from vicinal.target import MixedTarget

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STRIDED = torch.strided
_NO_BUFFER = "a plan that makes more rows than it is given takes no out=: a buffer has as many rows as the input"


class Plan(ABC):
    """A recorded draw: whom each row of a batch is mixed with, and how much of itself it keeps; the base class.

    `plan(x)` mixes inputs or hidden states, `plan.target(y)` targets. Two plans are equal in what they do if their
    `to_dict` is.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: the share that a row keeps of itself.
        one draw: recorded, the same at every use; shared by every tensor of a nest.

    Examples:
        >>> import torch
        >>> from vicinal import Mixup
        >>> plan = Mixup(0.4, seed=1).plan(2, step=0)
        >>> plan(torch.eye(2))
        tensor([[0.0711, 0.9289],
                [0.9289, 0.0711]])
        >>> plan.target(torch.tensor([0, 1]))
        MixedTarget([0.0711 of 0 + 0.929 of 1, 0.0711 of 1 + 0.929 of 0])

    """

    key: Key | None = None  # of the draw; None for plans made by hand, and where nothing was drawn

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows the plan was drawn for."""

    @property
    def rows_out(self) -> int:
        """The number of rows that the plan makes of its `len(plan)` rows; of almost all plans as many."""
        return len(self)

    @abstractmethod
    def mix_input(self, x: Tensor, leaf: int = 0, out: Tensor | None = None, compiled: bool = False) -> Tensor:
        """Mix one tensor [n, ...]; `leaf` numbers it within its nest, the rest is as of calling the plan."""

    @abstractmethod
    def mix_target(self, y: Tensor | MixedTarget) -> Tensor | MixedTarget:
        """Mix one target [n, ...]."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Plan:
        """Return the same plan with its tensors on `device` (they move by themselves otherwise, at every use)."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain tensors and numbers, as `torch.load(weights_only=True)` reads them back."""

    @abstractmethod
    def keyed(self, key: Key) -> Self:
        """Return the plan with the key that it was drawn by, where anything was drawn."""

    @abstractmethod
    def spread(self, rows: Tensor, n: int) -> Self:
        """Return the plan for n rows that does to `rows` int64 [m] what this one does to m rows, and to others nothing."""

    @abstractmethod
    def _participants(self) -> list[tuple[Tensor, Tensor]]:
        """Return, one mixing after the other, partners int64 [n, m] and which of them have a share, bool [n, m]."""

    def union(self, mask: Tensor) -> Tensor:
        """Return what is true of any row in the mix: where mixed rows have tokens, if `mask` says where rows have them.

        A row of 4 tokens mixed with one of 12 has 12. Give it to the network with the mixed rows; for hidden states, at the
        entry of the network. Where True means padding, take `intersection`.

        Args:
            mask: bool or numbers [n, ...]; of numbers (0 and 1, or 0 and -inf as added to attention scores) the largest.

        Returns:
            A tensor like mask. Rows whose partner has no share keep theirs.

        """
        return self._merged(mask, torch.logical_or, torch.maximum)

    def intersection(self, mask: Tensor) -> Tensor:
        """Return what is true of all rows in the mix: where mixed rows are padded, if True means padding.

        Args:
            mask: bool or numbers [n, ...]; of numbers the smallest.

        Returns:
            A tensor like mask.

        """
        return self._merged(mask, torch.logical_and, torch.minimum)

    def longest(self, lengths: Tensor) -> Tensor:
        """Return the lengths of mixed sequences: the largest length among the rows in each mix, like lengths [n]."""
        return self.union(lengths)

    def _merged(self, mask: Tensor, of_bools: Callable[..., Tensor], of_numbers: Callable[..., Tensor]) -> Tensor:
        if not isinstance(mask, Tensor) or mask.shape[:1] != (len(self),):
            found = list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise ValueError(f"a mask or lengths for this plan are a tensor [{len(self)}, ...], got {found}")
        merge = of_bools if mask.dtype == torch.bool else of_numbers
        for partners, shared in self._participants():
            rows = mask
            for of, counts in zip(partners.to(mask.device).unbind(1), shared.to(mask.device).unbind(1), strict=True):
                both = merge(mask, rows.index_select(0, of))
                mask = torch.where(counts.view(-1, *(1,) * (mask.ndim - 1)), both, mask)
        return mask

    def __call__(self, x: Any, *, out: Any = None, compiled: bool = False) -> Any:
        """Mix inputs or representations: a tensor [n, ...], or a nest of such tensors.

        Every tensor of the nest is mixed with this one draw (None passes). Nothing is changed in place unless asked.

        Args:
            x: the inputs. A nest is any mapping (BatchEncoding, ModelOutput and TensorDict among them), list, tuple, named
                tuple, deque, dataclass or attrs instance, or a registered pytree node, and comes back as its type (a
                mapping that cannot be made anew comes back as a dict). A list or tuple of n equally shaped tensors that
                do not have n rows holds one example each: they are stacked, mixed, and come back as a list or tuple.
            out: where the result goes, of x's structure, shapes and dtypes: a buffer used again for each batch saves the
                allocation, which for large batches on a CPU takes most of the time; x itself mixes in place, with one
                row of extra memory for each cycle of the pairing.
            compiled: mix by a fused kernel of `torch.compile`; the first call takes seconds.

        Returns:
            The mixed inputs, in the structure, dtypes and memory formats of x.

        Raises:
            TypeError: a leaf is not a tensor, its dtype holds names (integers other than uint8, bool), or it holds boxes
                or key points, by its type or its name: the average of two boxes lies in neither image.
            ValueError: a leaf has another number of rows than the plan, examples have different shapes, a list could
                hold examples or parts, or out does not fit x.

        """
        if (
            type(x) is Tensor
            and x.layout is _STRIDED
            and not x.is_nested
            and (shape := x.shape)
            and shape[0] == len(self)
            and (out is None or isinstance(out, Tensor))
        ):  # every line of Python counts here
            return self.mix_input(x, 0, out, compiled)
        return self._over(x, "input", lambda leaf, i, into: self.mix_input(check_input(leaf), i, into, compiled), out)

    def target(self, y: Any, *, missing: float | None = None) -> Any:
        """Mix targets, by what they are; a nest of targets is mixed leaf by leaf.

        Integer class indices [n] or [n, d1, ...] become a `MixedTarget`; floating-point targets (soft labels, multi-label,
        regression, any shape [n, ...]) are mixed as numbers and keep their dtype; a `MixedTarget` is mixed further.

        Args:
            y: the targets.
            missing: the number, or nan, that marks unknown entries among floating-point targets. Each entry is then the
                mean of what is known of it, by shares, and `missing` where nothing is; `known` returns how much is known,
                the weight that the entry has in the loss.

        Raises:
            TypeError: a leaf is neither, is boolean, holds boxes or key points, or y is a single label.
            ValueError: a leaf has another number of rows than the plan, a list is refused as of calling the plan, or
                numbers hold nan and `missing` was not given.

        """
        known = None if missing is None else functools.partial(self._known_labels, missing=float(missing))
        mix = known or self.mix_target
        if (
            type(y) is Tensor
            and y.layout is _STRIDED
            and not y.is_nested
            and (shape := y.shape)
            and shape[0] == len(self)
        ):
            return mix(check_target(y))
        # beside numbers with unknown entries there may be class indices, whose unknown entries are the loss's to ignore
        return self._over(
            y,
            "target",
            lambda leaf, i, into: (known if known and _is_floating(leaf) else self.mix_target)(check_target(leaf)),
        )

    def known(self, y: Tensor, *, missing: float) -> Tensor:
        """Return the share of each entry of a floating-point target [n, ...] that is known, in [0, 1].

        It is what the entry counts in the loss, as an ignored class index takes its share out::

            t, w = plan.target(y, missing=-1), plan.known(y, missing=-1)
            loss = (w * F.binary_cross_entropy_with_logits(z, t, reduction="none")).sum() / w.sum()

        """
        share = self.mix_target(_is_known(y, float(missing)).to(torch.float32))
        assert isinstance(share, Tensor)
        return share

    def _known_labels(self, y: Tensor | MixedTarget, missing: float) -> Tensor:
        if not isinstance(y, Tensor) or not y.is_floating_point():
            raise TypeError("missing= marks unknown numbers: for class indices, give ignore_index= to the loss")
        known = _is_known(y, missing)
        exact = torch.float64 if y.dtype == torch.float64 else torch.float32
        total, share = self.mix_target(torch.where(known, y, 0).to(exact)), self.mix_target(known.to(exact))
        assert isinstance(total, Tensor)
        assert isinstance(share, Tensor)
        return torch.where(share > 0, total / share, missing).to(y.dtype)

    def show(self, x: Any, y: Any = None, **options: Any) -> Figure:
        """Draw rows of x, their partners and the mixes, with their shares; the options are those of `vicinal.show`."""
        return _show.show(x, y, self, **options)

    def _over(self, tree: Any, what: str, apply: Callable[[Any, int, Any], Any], out: Any = None) -> Any:
        """Apply (leaf, its number, its buffer) -> mixed leaf to each leaf of a nest."""
        leaves, build = _tree.flatten(tree, what, len(self))
        if not leaves or (what == "input" and all(leaf is None for _, leaf in leaves)):
            raise TypeError(f"there is no tensor to mix in this {what}: {tree!r}")
        into = {} if out is None else _tree.buffers(out, tree, dict(leaves), len(self))
        order = sorted(name for name, _ in leaves)  # by name: the order in which a dict was filled must not matter
        done = []
        for name, leaf in leaves:
            if isinstance(leaf, (Tensor, MixedTarget)) and (leaf.ndim == 0 or len(leaf) != len(self)):
                raise ValueError(
                    f"{name} has shape {list(leaf.shape)}, but the plan was drawn for {len(self)} rows: dimension 0 must "
                    "be the batch (a single example is none: mix after the DataLoader or in its collate_fn)"
                )
            number, buffer = order.index(name), into.get(name)
            try:
                if isinstance(leaf, _tree.Examples):
                    done.append(leaf.unstack(apply(leaf.stack(), number, None), buffer))
                else:
                    done.append(None if leaf is None else apply(leaf, number, buffer))
            except (TypeError, ValueError) as error:
                error.add_note(f"(at {name})")
                raise
        return build(iter(done))


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _is_known(y: Tensor, missing: float) -> Tensor:
    return ~y.isnan() if math.isnan(missing) else y != missing


def check_input(leaf: Tensor | MixedTarget) -> Tensor:
    """Refuse a target where an input is due."""
    if isinstance(leaf, MixedTarget):
        raise TypeError("a MixedTarget is a target, not an input: mix it with plan.target(y)")
    return leaf


@dataclass(frozen=True, eq=False)
class PlanChain(Plan):
    """Several plans applied one after the other, each to what the one before it made.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: that of each part; a part mixes what the one before it made.
        one draw: recorded, the same at every use; shared by every tensor of a nest.

    Args:
        plans: of one length, in the order in which they are applied.
        key: that of the draw, where any of them draws.

    Raises:
        ValueError: there are no plans, or they are of different lengths.

    Examples:
        >>> from vicinal import Chain, LabelSmoothing, Mixup
        >>> plan = Chain([Mixup(0.4), LabelSmoothing(0.1)], seed=2).plan(2, step=0)
        >>> plan.plans[1]
        Plan(2 rows, smoothing=0.1; 0: 1; 1: 1)

    """

    plans: tuple[Plan, ...]
    key: Key | None = None

    def __post_init__(self) -> None:
        if not self.plans or len({len(p) for p in self.plans}) > 1:
            raise ValueError(f"a chain needs plans of one length, got lengths {[len(p) for p in self.plans]}")
        if any(plan.rows_out != len(plan) for plan in self.plans[:-1]):
            raise ValueError(
                "a plan that makes more rows than it is given comes last in a chain: Beside after the others"
            )

    def __len__(self) -> int:
        """Return the number of rows the plans were drawn for."""
        return len(self.plans[0])

    @property
    def rows_out(self) -> int:
        """The number of rows that the last plan makes."""
        return self.plans[-1].rows_out

    def mix_input(self, x: Tensor, leaf: int = 0, out: Tensor | None = None, compiled: bool = False) -> Tensor:
        """Mix one tensor [n, ...] by each plan in turn."""
        if out is not None and self.rows_out != len(self):
            raise ValueError(_NO_BUFFER)
        for plan in self.plans:
            x = plan.mix_input(x, leaf, out, compiled)  # after the first, out is x: in place
        return x

    def mix_target(self, y: Tensor | MixedTarget) -> Tensor | MixedTarget:
        """Mix one target [n, ...] by each plan in turn."""
        for plan in self.plans:
            y = plan.mix_target(y)
        return y

    def to(self, device: torch.device | str) -> PlanChain:
        """Return the same plans with their tensors on `device`."""
        return replace(self, plans=tuple(plan.to(device) for plan in self.plans))

    def to_dict(self) -> dict[str, Any]:
        """Return the plans as plain tensors and numbers, with a format number and a checksum."""
        values = {"plans": [plan.to_dict() for plan in self.plans], "key": key_numbers(self.key)}
        return _stored.sealed(values, _plan_dict.FORMAT)

    def keyed(self, key: Key) -> PlanChain:
        """Return the plan with the key that it was drawn by, where any of its parts draws."""
        if any(plan.keyed(key).key is not None for plan in self.plans):
            object.__setattr__(self, "key", key)
        return self

    def spread(self, rows: Tensor, n: int) -> PlanChain:
        """Return the plan for n rows that does to `rows` what this one does to all of its rows, and to others nothing."""
        return replace(self, plans=tuple(plan.spread(rows, n) for plan in self.plans))

    def _participants(self) -> list[tuple[Tensor, Tensor]]:
        return [pair for plan in self.plans for pair in plan._participants()]

    def _merged(self, mask: Tensor, of_bools: Callable[..., Tensor], of_numbers: Callable[..., Tensor]) -> Tensor:
        for plan in self.plans:
            mask = plan._merged(mask, of_bools, of_numbers)
        return mask


@dataclass(frozen=True, eq=False)
class PlanBeside(Plan):
    """The rows as they are and, after them, what a plan makes of them: 2 n rows of n.

    Args:
        plan: what makes the mixed rows.
        key: that of the draw, where anything was drawn.

    Convention:
        dimension 0: of what comes out, the rows of the batch, then the mixed rows in their order; 2 n in all.
        lambda: 1 for the plain rows; for the mixed ones that of the part.
        one draw: recorded, the same at every use; shared by every tensor of a nest.

    Raises:
        ValueError: the plan itself makes more rows.

    Examples:
        >>> import torch
        >>> from vicinal import MixPlan
        >>> half = MixPlan(partner=torch.tensor([1, 0]), weight=torch.tensor([0.5, 0.5]))
        >>> PlanBeside(half)(torch.eye(2))
        tensor([[1.0000, 0.0000],
                [0.0000, 1.0000],
                [0.5000, 0.5000],
                [0.5000, 0.5000]])

    """

    plan: Plan
    key: Key | None = None

    def __post_init__(self) -> None:
        if self.plan.rows_out != len(self.plan):
            raise ValueError(
                f"Beside takes a plan that makes n rows of n, got {self.plan.rows_out} of {len(self.plan)}"
            )

    def __len__(self) -> int:
        """Return the number of rows the plan was drawn for."""
        return len(self.plan)

    @property
    def rows_out(self) -> int:
        """Twice as many rows: the plain ones, then the mixed ones."""
        return 2 * len(self.plan)

    def mix_input(self, x: Tensor, leaf: int = 0, out: Tensor | None = None, compiled: bool = False) -> Tensor:
        """Return [x; mixed x], one after the other along dimension 0."""
        if out is not None:
            raise ValueError(_NO_BUFFER)
        return torch.cat([x, self.plan.mix_input(x, leaf, None, compiled)])

    def mix_target(self, y: Tensor | MixedTarget) -> Tensor | MixedTarget:
        """Return [y; mixed y]; class indices become one MixedTarget."""
        mixed = self.plan.mix_target(y)
        if isinstance(y, Tensor) and isinstance(mixed, Tensor):
            return torch.cat([y.to(mixed.dtype), mixed])
        whole = torch.ones(1, len(y), dtype=torch.float32, device=y.device)
        plain = y if isinstance(y, MixedTarget) else MixedTarget(y.long()[None], whole)
        return torch.cat([plain, mixed])  # type: ignore[list-item] # answered by MixedTarget

    def to(self, device: torch.device | str) -> PlanBeside:
        """Return the same plan with its tensors on `device`."""
        return replace(self, plan=self.plan.to(device))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain tensors and numbers, with a format number and a checksum."""
        values = {"beside": self.plan.to_dict(), "key": key_numbers(self.key)}
        return _stored.sealed(values, _plan_dict.NEWER)

    def keyed(self, key: Key) -> PlanBeside:
        """Return the plan with the key that it was drawn by, where its part draws."""
        if self.plan.keyed(key).key is not None:
            object.__setattr__(self, "key", key)
        return self

    def show(self, x: Any, y: Any = None, **options: Any) -> Figure:
        """Draw rows of x, their partners and the mixes; the plain rows are as they are."""
        return self.plan.show(x, y, **options)

    def spread(self, rows: Tensor, n: int) -> PlanBeside:
        """Refuse rows=: those that take no part would stand there twice."""
        raise ValueError(
            "Beside takes no rows=, whose other rows would stand there twice: mix the rows that take part, x[rows]"
        )

    def _participants(self) -> list[tuple[Tensor, Tensor]]:
        return self.plan._participants()

    def _merged(self, mask: Tensor, of_bools: Callable[..., Tensor], of_numbers: Callable[..., Tensor]) -> Tensor:
        merged = self.plan._merged(mask, of_bools, of_numbers)  # which also checks the mask
        return torch.cat([mask, merged])


def key_numbers(key: Key | None) -> list[int] | None:
    """Return a key as `to_dict` writes it."""
    return None if key is None else [int(i) for i in key]
