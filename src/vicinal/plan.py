"""A plan is a recorded draw: for each example of a batch, whom it is mixed with and how much of itself it keeps.

    plan = Mixup(0.4).plan(len(x), y, step=0)
    x, y = plan(x), plan.target(y)

A plan is a value. It can be printed, saved, replayed, and applied to any tensor or nest of tensors with a batch
dimension, at the input or at a hidden layer: nothing is drawn twice, nothing is hidden.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from vicinal import mixing
from vicinal.random import Key
from vicinal.target import MixedTarget


class Plan(ABC):
    """What every plan answers: `plan(x)`, `plan.target(y)`, `len`, `to`, `to_dict`."""

    @abstractmethod
    def __len__(self) -> int:
        """Give the number of rows the plan was drawn for."""

    @abstractmethod
    def tensor(self, x: Tensor, leaf: int = 0, out: Tensor | None = None, compiled: bool = False) -> Tensor:
        """Mix one tensor [n, ...]; `leaf` numbers it within its nest, the rest is as of calling the plan."""

    @abstractmethod
    def labels(self, y: Tensor | MixedTarget) -> Tensor | MixedTarget:
        """Mix one target [n, ...]."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Plan:
        """Give the same plan with its tensors on `device` (they move by themselves otherwise, at every use)."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Give the plan as plain tensors and numbers, as `torch.load(weights_only=True)` reads them back."""

    def __call__(self, x: Any, *, out: Any = None, compiled: bool = False) -> Any:
        """Mix inputs or representations: a tensor [n, ...], or any nest of dicts, lists and tuples of such tensors.

        Every tensor of the nest is mixed with this one draw (None passes). Nothing is changed in place unless asked.

        Args:
            x: the inputs.
            out: where the result goes, of x's structure, shapes and dtypes: a buffer used again for each batch saves the
                allocation, which for large batches on a CPU takes most of the time; x itself mixes in place, with one
                row of extra memory for each cycle of the pairing.
            compiled: mix by a fused kernel of `torch.compile`; the first call takes seconds.

        Raises:
            TypeError: a leaf is not a tensor, or its dtype holds names (integers other than uint8, bool).
            ValueError: a leaf has another number of rows than the plan, or out does not fit x.

        """
        if isinstance(x, Tensor) and x.shape[:1] == (len(self),) and (out is None or isinstance(out, Tensor)):
            return self.tensor(x, 0, out, compiled)
        into, spec = pytree.tree_flatten(out)
        if out is not None and spec != pytree.tree_structure(x):
            raise ValueError(
                "out has another structure than the input: give a nest of the same dicts, lists and tuples"
            )

        def apply(leaf: Tensor | MixedTarget, number: int, place: int) -> Tensor:
            return self.tensor(mixable(leaf), number, None if out is None else into[place], compiled)

        return self._over(x, "input", apply)

    def target(self, y: Any) -> Any:
        """Mix targets, by what they are; a nest of targets is mixed leaf by leaf.

        Integer class ids [n] or [n, d1, ...] become a `MixedTarget`; floating-point targets (soft labels, multi-label,
        regression, any shape [n, ...]) are mixed as numbers and keep their dtype; a `MixedTarget` is mixed further.

        Raises:
            TypeError: a leaf is neither, or is boolean.
            ValueError: a leaf has another number of rows than the plan.

        """
        if isinstance(y, Tensor) and y.shape[:1] == (len(self),):
            return self.labels(mixable_target(y))
        return self._over(y, "target", lambda leaf, number, place: self.labels(mixable_target(leaf)))

    def _over(self, tree: Any, what: str, apply: Callable[[Any, int, int], Any]) -> Any:
        paths, spec = pytree.tree_flatten_with_path(tree)
        if not paths:
            raise TypeError(f"there is no tensor to mix in this {what}: {tree!r}")
        names = [f"{what}{pytree.keystr(path)}" for path, _ in paths]
        order = sorted(names)  # leaves are numbered by name: the order in which a dict was filled must not matter
        done = []
        for place, (name, (_, leaf)) in enumerate(zip(names, paths, strict=True)):
            if leaf is None:
                done.append(None)
                continue
            if not isinstance(leaf, (Tensor, MixedTarget)):
                raise TypeError(
                    f"{name} is a {type(leaf).__name__}, and only tensors can be mixed: convert it, or leave it out of "
                    "the call"
                )
            if leaf.ndim == 0 or len(leaf) != len(self):
                raise ValueError(
                    f"{name} has shape {list(leaf.shape)}, but the plan was drawn for {len(self)} rows: dimension 0 must "
                    "be the batch"
                )
            try:
                done.append(apply(leaf, order.index(name), place))
            except (TypeError, ValueError) as error:
                error.add_note(f"(at {name})")
                raise
        return pytree.tree_unflatten(done, spec)


def mixable(leaf: Tensor | MixedTarget) -> Tensor:
    """Refuse a target where an input is due."""
    if isinstance(leaf, MixedTarget):
        raise TypeError("a MixedTarget is a target, not an input: mix it with plan.target(y)")
    return leaf


def mixable_target(leaf: Tensor | MixedTarget) -> Tensor | MixedTarget:
    """Refuse boolean targets, which could mean class ids or numbers."""
    if isinstance(leaf, Tensor) and leaf.dtype == torch.bool:
        raise TypeError(
            "a boolean target can mean two things: pass .float() for multi-label or binary targets (mixed as numbers), "
            "or .long() for class ids"
        )
    return leaf


@dataclass(frozen=True)
class Noise:
    """Gaussian noise that can be drawn again: its standard deviation and the key of the draw."""

    sigma: float
    key: Key

    def like(self, x: Tensor, leaf: int) -> Tensor:
        """Draw noise of x's shape and dtype; drawn on the host, so that every device gets the same."""
        if not x.is_floating_point():
            raise TypeError(f"Gaussian noise needs floating-point inputs, got {x.dtype}: convert with .float() first")
        standard = self.key.fold(leaf).generator().standard_normal(tuple(x.shape), dtype="float32")
        return torch.from_numpy(standard).to(device=x.device, dtype=x.dtype).mul_(self.sigma)


@dataclass(frozen=True, eq=False, repr=False)
class MixPlan(Plan):
    """The draw of one vicinity.

    Args:
        partner: int64 [n], the row each row is mixed with; or [n, m] for m partners (m = 0: nothing is mixed).
        weight: float32 [n], the share each row keeps of itself; or [n, m + 1], the row's share first, then its
            partners'. Shares are >= 0 and sum to 1.
        target_weight: the same for the targets, where they do not follow the inputs; None: as `weight`.
        box: int64 [n, d, 2], the box (start, stop along each of the last d dimensions) that a row takes from its
            partner instead of a weighted sum; `weight` is then the share of cells that stay its own.
        grid: the sizes of those d dimensions.
        noise: Gaussian noise added to the inputs.
        smoothing: label smoothing of the targets: (1 - smoothing) * target + smoothing / num_classes.

    """

    partner: Tensor
    weight: Tensor
    target_weight: Tensor | None = None
    box: Tensor | None = None
    grid: tuple[int, ...] = ()
    noise: Noise | None = None
    smoothing: float = 0.0
    _known: ClassVar[tuple[Tensor, Tensor | None] | None] = None  # of an instance: see `_known_for_targets`

    def __post_init__(self) -> None:
        partner, weight = self.partner, self.weight
        if partner.dtype != torch.int64 or partner.ndim not in (1, 2):
            raise ValueError(f"partner must be int64 [n] or [n, m], got {partner.dtype} {list(partner.shape)}")
        expected = (len(partner),) if partner.ndim == 1 else (len(partner), partner.shape[1] + 1)
        for name, w in (("weight", weight), ("target_weight", self.target_weight)):
            if w is not None and (tuple(w.shape) != expected or w.dtype not in (torch.float32, torch.float64)):
                raise ValueError(
                    f"{name} must be float32 or float64 {list(expected)} beside partner {list(partner.shape)}, got "
                    f"{w.dtype} {list(w.shape)}"
                )
        box, d = self.box, len(self.grid)
        if box is not None and (partner.ndim, box.dtype, tuple(box.shape)) != (1, torch.int64, (len(partner), d, 2)):
            raise ValueError(
                f"box must be int64 [n, d, 2] beside partner [n] and a grid of d sizes, got {box.dtype} "
                f"{list(box.shape)} beside partner {list(partner.shape)} and grid {list(self.grid)}"
            )

    def __len__(self) -> int:
        """Give the number of rows the plan was drawn for."""
        return self.partner.shape[0]

    @property
    def partners(self) -> Tensor:
        """int64 [n, m], also for one partner."""
        return self.partner[:, None] if self.partner.ndim == 1 else self.partner

    @property
    def shares(self) -> Tensor:
        """float32 [n, m + 1]: the row's own share, then its partners'; rows sum to 1."""
        return _shares(self.weight)

    def _known_for_targets(self) -> tuple[Tensor, Tensor | None]:
        """Give the target's shares by example, float32 [m + 1, n], and `MixedTarget.slopes`; worked out once."""
        if torch.compiler.is_compiling():  # which would make another graph of whether they are known
            return self.target_shares.T, None
        if self._known is not None:
            return self._known
        shares = self.target_shares
        if not shares.is_cpu or not shares.numel() or not float(shares.min()) > 0:
            return shares.T, None
        known = _for_targets(shares)
        object.__setattr__(self, "_known", known)
        return known

    @staticmethod
    def several(partner: Tensor, weight: Tensor) -> list[MixPlan]:
        """Give k plans at a fraction of the cost of one by one.

        Args:
            partner: int64 [k, n].
            weight: float32 [k], the share that all rows of a batch keep.

        """
        own = weight[:, None].expand(partner.shape)
        shares, slopes = _for_targets(torch.stack([own, 1 - own], dim=2))
        mixes = ((weight > 0) & (weight < 1)).tolist()
        plans = []
        for i, (p, w) in enumerate(zip(partner.unbind(), own.contiguous().unbind(), strict=True)):
            plan = MixPlan.__new__(MixPlan)
            vars(plan).update(partner=p, weight=w, _known=(shares[i], slopes[i] if mixes[i] else None))
            plans.append(plan)
        return plans

    @property
    def target_shares(self) -> Tensor:
        """float32 [n, m + 1]: the shares that the targets follow."""
        return self.shares if self.target_weight is None else _shares(self.target_weight)

    def tensor(self, x: Tensor, leaf: int = 0, out: Tensor | None = None, compiled: bool = False) -> Tensor:
        """Mix one tensor [n, ...]: as a weighted sum, or by box where it has the plan's grid."""
        if self.box is not None and self._has_grid(x, "an input"):
            mixed = self._cut(x, self.box)
            mixed = mixed if out is None else out.copy_(mixed)
        elif self.partner.ndim == 1:
            mixed = mixing.mix_pairs(x, self.partner, self.weight, out, compiled)
        else:
            mixed = mixing.mix(x, self.partners, self.shares, out, compiled)
        if self.noise is None:
            return mixed
        noise = self.noise.like(x, leaf)
        return mixed + noise if out is None else out.add_(noise)

    def normalized(
        self,
        x: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: torch.dtype = torch.float32,
        *,
        out: Tensor | None = None,
        compiled: bool = False,
    ) -> Tensor:
        """Mix the bytes of pictures and normalise them in one pass, without rounding in between.

        Args:
            x: uint8 [n, channels, ...].
            mean: for each channel, of values in [0, 1], as torchvision's Normalize takes it.
            std: likewise.
            dtype: of the result: float32, bfloat16 or float16.
            out: where the result goes.
            compiled: by a fused kernel of `torch.compile`; the first call takes seconds.

        Returns:
            (plan(x) / 255 - mean) / std, a tensor of x's shape.

        Raises:
            TypeError: x is not uint8.
            ValueError: the plan cuts boxes or adds noise, which this has no path for; or mean, std or out do not fit.

        """
        if self.box is not None or self.noise is not None:
            raise ValueError("normalized has no path for boxes and noise: convert and normalise x first, then plan(x)")
        return mixing.normalized(x, self.partners, self.shares, mean, std, dtype, out, compiled)

    def labels(self, y: Tensor | MixedTarget) -> Tensor | MixedTarget:
        """Mix one target [n, ...]: ids to a MixedTarget, numbers to numbers, maps on the plan's grid by box."""
        box = self.box if self.box is not None and self._has_grid(y, "a target") else None
        if isinstance(y, Tensor) and not _is_ids(y):
            mixed = mixing.mix(y, self.partners, self.target_shares) if box is None else self._cut(y, box)
            return self._smooth(mixed)
        if isinstance(y, Tensor) and box is None:
            own, partner = y.long(), self.partner
            shares, slopes = self._known_for_targets()
            if not y.is_cpu:
                partner, shares, slopes = partner.to(y.device), shares.to(y.device), None
            others = [own.index_select(0, p) for p in ((partner,) if partner.ndim == 1 else partner.unbind(1))]
            return MixedTarget.trusted(torch.stack([own, *others]), shares, self.smoothing, slopes)
        if isinstance(y, Tensor):
            y = MixedTarget(y.long()[None], torch.ones(1, len(y), device=y.device))
        if box is None:
            return y.mixed(self.partners, self.target_shares).smoothed(self.smoothing)
        if len(y.ids) > 1:
            raise TypeError("maps of class ids can be cut by box only before they are mixed: put CutMix first")
        return MixedTarget(self._cut(y.ids[0], box)[None], y.weight, y.smoothing).smoothed(self.smoothing)

    def _cut(self, t: Tensor, box: Tensor) -> Tensor:
        return mixing.cut(t, self.partners[:, 0], box)

    def _smooth(self, y: Tensor) -> Tensor:
        if self.smoothing == 0:
            return y
        if y.ndim < 2 or not torch.allclose(y.sum(1), y.new_ones(()), atol=1e-2):
            raise ValueError(
                "label smoothing has a meaning for class ids and for soft labels [n, num_classes, ...] whose classes sum "
                f"to 1, not for other numbers (got {y.dtype} {list(y.shape)})"
            )
        return y * (1 - self.smoothing) + self.smoothing / y.shape[1]

    def _has_grid(self, t: Tensor | MixedTarget, what: str) -> bool:
        """Whether t is a map [n, *grid] or [n, c, *grid]; other vectors [n] and [n, f] follow the weight."""
        if t.shape[1:] == self.grid or t.shape[2:] == self.grid:
            return True
        if t.ndim == 1 or (t.ndim == 2 and (what == "an input" or not _is_ids(t))):
            return False
        raise ValueError(
            f"{what} of shape {list(t.shape)} does not lie on the grid {list(self.grid)} that the boxes were drawn for; "
            "bring it to that size, or mix it in a call of its own"
        )

    def to(self, device: torch.device | str) -> MixPlan:
        """Give the same plan with its tensors on `device`."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in moved.items() if isinstance(v, Tensor)})

    def to_dict(self) -> dict[str, Any]:
        """Give the plan as plain tensors and numbers."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["grid"] = list(self.grid)
        values["smoothing"] = float(self.smoothing)  # numpy's numbers would not pass torch.load(weights_only=True)
        if self.noise is not None:
            values["noise"] = {"sigma": float(self.noise.sigma), "key": [int(i) for i in self.noise.key]}
        return values

    def __repr__(self) -> str:
        """Show every row: "0: 0.71 + 0.29 of 3"."""
        rows = []
        for i, (partners, shares) in enumerate(zip(self.partners.tolist(), self.shares.tolist(), strict=True)):
            parts = [f"{share:.3g} of {j}" for j, share in zip(partners, shares[1:], strict=True)]
            rows.append(" + ".join([f"{i}: {shares[0]:.3g}", *parts]))
            if i == 15 and len(self) > 17:
                rows.append(f"... {len(self) - 16} more")
                break
        extras = [
            f"{name}={value}"
            for name, value in (
                ("box", None if self.box is None else self.box.tolist()[:16]),
                ("noise", self.noise),
                ("smoothing", self.smoothing or None),
                ("targets", None if self.target_weight is None else "nearer" if self.box is None else "area"),
            )
            if value is not None
        ]
        return f"Plan({', '.join([f'{len(self)} rows', *extras])}; {'; '.join(rows)})"


@dataclass(frozen=True, eq=False)
class PlanChain(Plan):
    """Several plans applied one after the other, each to what the one before it made."""

    plans: tuple[Plan, ...]

    def __post_init__(self) -> None:
        if not self.plans or len({len(p) for p in self.plans}) > 1:
            raise ValueError(f"a chain needs plans of one length, got lengths {[len(p) for p in self.plans]}")

    def __len__(self) -> int:
        """Give the number of rows the plans were drawn for."""
        return len(self.plans[0])

    def tensor(self, x: Tensor, leaf: int = 0, out: Tensor | None = None, compiled: bool = False) -> Tensor:
        """Mix one tensor [n, ...] by each plan in turn."""
        for plan in self.plans:
            x = plan.tensor(x, leaf, out, compiled)  # after the first, out is x: in place
        return x

    def labels(self, y: Tensor | MixedTarget) -> Tensor | MixedTarget:
        """Mix one target [n, ...] by each plan in turn."""
        for plan in self.plans:
            y = plan.labels(y)
        return y

    def to(self, device: torch.device | str) -> PlanChain:
        """Give the same plans with their tensors on `device`."""
        return PlanChain(tuple(plan.to(device) for plan in self.plans))

    def to_dict(self) -> dict[str, Any]:
        """Give the plans as plain tensors and numbers."""
        return {"plans": [plan.to_dict() for plan in self.plans]}


def plan_from_dict(values: dict[str, Any]) -> Plan:
    """Give back the plan that `to_dict` wrote."""
    if "plans" in values:
        return PlanChain(tuple(plan_from_dict(v) for v in values["plans"]))
    missing = {f.name for f in fields(MixPlan)} - values.keys()
    if missing:
        raise ValueError(f"this is not what to_dict of a plan gave: {sorted(missing)} missing")
    noise = values["noise"]
    return MixPlan(
        **{
            **values,
            "grid": tuple(values["grid"]),
            "noise": None if noise is None else Noise(noise["sigma"], Key(*noise["key"])),
        }
    )


def identity(n: int, **others: Any) -> MixPlan:
    """Give the plan that mixes nothing: no partners, and the whole weight on the row itself."""
    return MixPlan(torch.empty(n, 0, dtype=torch.int64), torch.ones(n, 1), **others)


def _for_targets(shares: Tensor) -> tuple[Tensor, Tensor]:
    """From shares [..., n, m + 1] give [..., m + 1, n], and `MixedTarget.slopes` [..., n * (m + 1)]."""
    return shares.mT.contiguous(), (shares / -shares.shape[-2]).flatten(-2)


def _shares(weight: Tensor) -> Tensor:
    return torch.stack([weight, 1 - weight], dim=1) if weight.ndim == 1 else weight


def _is_ids(y: Tensor | MixedTarget) -> bool:
    return not (y.dtype.is_floating_point or y.dtype.is_complex)
