"""The plan of one draw: partners and weights, boxes and masks, noise and label smoothing, and what they do to a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from vicinal import _mixing, _plan_dict, _stored, formula
from vicinal._warn import warn_once
from vicinal.keyed import Key
from vicinal.plan import Plan, PlanBeside, PlanChain, key_numbers
from vicinal.target import MixedTarget

_DEVIATIONS = 10  # standard deviations within which all noise lies that anybody will see
_LEAVES = 62  # tensors of a nest whose noise one key names; the next part names a key for as many more


@dataclass(frozen=True)
class Noise:
    """Gaussian noise that can be drawn again: its standard deviation and the key of the draw."""

    sigma: float
    key: Key

    def like(self, x: Tensor, leaf: int) -> Tensor:
        """Draw noise of x's shape and dtype; drawn on the host, so that every device gets the same."""
        if not x.is_floating_point():
            raise TypeError(f"Gaussian noise needs floating-point inputs, got {x.dtype}: convert with .float() first")
        if self.sigma > torch.finfo(x.dtype).max / _DEVIATIONS:
            raise ValueError(
                f"noise of sigma={self.sigma:g} is beyond {x.dtype}, whose largest number is {torch.finfo(x.dtype).max:g}: "
                "give sigma in the units of the inputs, or convert them with .double()"
            )
        key = self.key
        while leaf >= _LEAVES:  # one key has room for this many parts
            key, leaf = key.fold(_LEAVES), leaf - _LEAVES
        standard = key.fold(leaf).generator().standard_normal(tuple(x.shape), dtype="float32")
        return torch.from_numpy(standard).to(device=x.device, dtype=x.dtype).mul_(self.sigma)


@dataclass(frozen=True, eq=False, repr=False)
class MixPlan(Plan):
    """The plan of one draw: partners and weights, and boxes, noise and label smoothing where there are any.

    Args:
        partner: int64 [n], the row each row is mixed with; or [n, m] for m partners (m = 0: nothing is mixed).
        weight: float32 [n], the share each row keeps of itself; or [n, m + 1], the row's share first, then its
            partners'. Shares are >= 0 and sum to 1.
        target_weight: the same for the targets, where they do not follow the inputs; None: as `weight`.
        box: int64 [n, d, 2], the box (start, stop along each of the last d dimensions) that a row takes from its
            partner instead of a weighted sum; `weight` is then the share of cells that stay its own.
        grid: the sizes of those d dimensions.
        mask: in place of a box, bool `[n, *grid]`, the cells that a row takes from its partner. Without a grid it is bool
            [n, columns], for tables [n, columns] and embedded ones [n, columns, c]; targets have no columns.
        channels_last: whether inputs hold channels behind the grid: `[n, ..., *grid, c]`.
        vectors: whether floating-point inputs [n, length] are signals on a grid of one dimension, not feature vectors.
        noise: Gaussian noise added to the inputs.
        smoothing: label smoothing of the targets: (1 - smoothing) * target + smoothing / num_classes.
        key: that of the draw, where anything was drawn.

    A plan is a value. Where the weights alone say how inputs and labels are mixed, both follow a change in place;
    otherwise (boxes, weights of their own for targets) a changed plan is refused. Changes that PyTorch does not count,
    through `.data` or NumPy, are not seen here either.

    Convention:
        dimension 0: the rows of the batch, of inputs and targets alike.
        lambda: `weight`, the share that a row keeps of itself; its partner has 1 - lambda.
        one draw: recorded, the same at every use; shared by every tensor of a nest.

    Examples:
        >>> import torch
        >>> plan = MixPlan(partner=torch.tensor([1, 0]), weight=torch.tensor([0.7, 0.7]))
        >>> plan(torch.eye(2))
        tensor([[0.7000, 0.3000],
                [0.3000, 0.7000]])

    """

    partner: Tensor
    weight: Tensor
    target_weight: Tensor | None = None
    box: Tensor | None = None
    grid: tuple[int, ...] = ()
    channels_last: bool = False
    vectors: bool = False
    noise: Noise | None = None
    smoothing: float = 0.0
    key: Key | None = None
    mask: Tensor | None = None
    # of an instance: what `_known_for_targets` worked out, of which version of the weights and of the shares; and, where
    # boxes or weights of the targets must go with the weights, the versions of all of them
    _known: ClassVar[tuple[Tensor, Tensor | None, int, int] | None] = None
    _versions: ClassVar[tuple[int, ...] | None] = None
    _numbers: ClassVar[bool] = False

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
        if self.mask is not None:
            self._check_mask(self.mask)
        if self.is_cut or self.target_weight is not None:
            object.__setattr__(self, "_versions", self._versions_now())

    def _check_mask(self, mask: Tensor) -> None:
        n = len(self.partner)
        on_grid = tuple(mask.shape) == (n, *self.grid) if self.grid else mask.ndim == 2 and len(mask) == n
        if self.partner.ndim != 1 or self.box is not None or mask.dtype != torch.bool or not on_grid:
            beside = "" if self.box is None else " and no box"
            raise ValueError(
                f"mask must be bool {[n, *self.grid] if self.grid else [n, 'columns']} beside partner [n]{beside}, got "
                f"{mask.dtype} {list(mask.shape)} beside partner {list(self.partner.shape)} and grid {list(self.grid)}"
            )

    def __len__(self) -> int:
        """Return the number of rows the plan was drawn for."""
        return self.partner.shape[0]

    @property
    def is_cut(self) -> bool:
        """True if rows take cells of their partners, by box or by mask."""
        return self.box is not None or self.mask is not None

    @property
    def partners(self) -> Tensor:
        """int64 [n, m], also for one partner."""
        return self.partner[:, None] if self.partner.ndim == 1 else self.partner

    @property
    def shares(self) -> Tensor:
        """float32 [n, m + 1]: the row's own share, then its partners'; rows sum to 1."""
        return _shares(self.weight)

    def _versions_now(self) -> tuple[int, ...]:
        tensors = (self.partner, self.weight, self.target_weight, self.box, self.mask)
        return tuple(t._version for t in tensors if t is not None and not t.is_inference())

    def _check_unchanged(self) -> None:
        """Refuse to go on where inputs would be mixed by one number and labels by another."""
        if self._versions is not None and not torch.compiler.is_compiling() and self._versions != self._versions_now():
            raise RuntimeError(
                "this plan was changed in place, so inputs and labels would no longer be mixed alike: make another one, "
                "dataclasses.replace(plan, weight=...)"
            )

    def _known_for_targets(self) -> tuple[Tensor, Tensor | None]:
        """Return the target's shares by example, float32 [m + 1, n], and `MixedTarget.slopes`; worked out once."""
        if torch.compiler.is_compiling():  # which would make another graph of whether they are known
            return self.target_shares.T, None
        weight = self.weight if self.target_weight is None else self.target_weight
        if self._known is not None and self._known[2] == weight._version and self._known[3] == self._known[0]._version:
            return self._known[:2]
        shares = self.target_shares
        if shares.shape[1] == 1 or not shares.is_cpu or not shares.numel() or not float(shares.detach().min()) > 0:
            return shares.T, None
        known = _for_targets(shares)
        if not weight.requires_grad and not weight.is_inference() and not known[0].is_inference():
            object.__setattr__(self, "_known", (*known, weight._version, known[0]._version))
        return known

    @staticmethod
    def of_batches(partner: Tensor, weight: Tensor, keys: Sequence[Key | None]) -> list[MixPlan]:
        """Return k plans at a fraction of the cost of one by one.

        Args:
            partner: int64 [k, n].
            weight: float32 [k], the share that all rows of a batch keep.
            keys: that of each draw.

        """
        own = weight[:, None].expand(partner.shape)
        shares, slopes = _for_targets(torch.stack([own, 1 - own], dim=2))
        mixes = ((weight > 0) & (weight < 1)).tolist()
        parts = zip(
            partner.unbind(), own.contiguous().unbind(), shares.unbind(), slopes.unbind(), mixes, keys, strict=True
        )
        plans = []
        for p, w, s, slope, mixed, key in parts:
            plan = MixPlan.__new__(MixPlan)
            vars(plan).update(partner=p, weight=w, key=key, _known=(s, slope if mixed else None, 0, 0))
            plans.append(plan)
        return plans

    def keyed(self, key: Key) -> MixPlan:
        """Return the plan with the key that it was drawn by, where it mixes or adds noise."""
        if self.partners.shape[1] or self.noise is not None:
            object.__setattr__(self, "key", key)
        return self

    def spread(self, rows: Tensor, n: int) -> MixPlan:
        """Return the plan for n rows that does to `rows` int64 [m] what this one does to m rows, and to others nothing.

        Raises:
            ValueError: the plan adds noise or smooths labels, which it does to all rows.

        """
        if self.noise is not None or self.smoothing:
            raise ValueError(
                "noise and label smoothing take no rows=, they treat all rows alike: mix the rows that take part, x[rows]"
            )
        partner = torch.arange(n, device="cpu")
        if self.partner.ndim == 2:
            partner = partner[:, None].repeat(1, self.partner.shape[1])
        partner[rows] = rows[self.partner.cpu()]

        def whole(weight: Tensor | None) -> Tensor | None:
            if weight is None:
                return None
            kept = torch.zeros(n, *weight.shape[1:], dtype=weight.dtype, device="cpu")
            (kept if kept.ndim == 1 else kept[:, 0]).fill_(1)
            kept[rows] = weight.cpu()
            return kept

        box = None
        if self.box is not None:
            box = torch.zeros(n, *self.box.shape[1:], dtype=torch.int64, device="cpu")
            box[rows] = self.box.cpu()
        mask = None
        if self.mask is not None:
            mask = torch.zeros(n, *self.mask.shape[1:], dtype=torch.bool, device="cpu")
            mask[rows] = self.mask.cpu()
        weight = whole(self.weight)
        assert weight is not None
        target_weight = whole(self.target_weight)
        return replace(self, partner=partner, weight=weight, target_weight=target_weight, box=box, mask=mask)

    def _participants(self) -> list[tuple[Tensor, Tensor]]:
        shared = self.shares[:, 1:] > 0
        return [(self.partners, shared)]

    @property
    def target_shares(self) -> Tensor:
        """float32 [n, m + 1]: the shares that the targets follow."""
        return self.shares if self.target_weight is None else _shares(self.target_weight)

    def mix_input(self, x: Tensor, leaf: int = 0, out: Tensor | None = None, compiled: bool = False) -> Tensor:
        """Mix one tensor [n, ...]: as a weighted sum, or by box or mask where it has the plan's grid."""
        if self._versions is not None:
            self._check_unchanged()
        if self.is_cut and self._has_grid(x, "an input"):
            if out is not None:
                _mixing.check_out(x, out)
            mixed = self._cut(x, self.channels_last)
            mixed = mixed if out is None else out.copy_(mixed)
        elif self.partner.ndim == 1:
            mixed = _mixing.mix_pairs(x, self.partner, self.weight, out, compiled)
        else:
            mixed = _mixing.mix(x, self.partners, self.shares, out, compiled)
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
        """Mix the bytes of images and normalize them in one pass, without rounding in between.

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
            ValueError: the plan cuts boxes, takes cells by a mask or adds noise, which this has no path for; or mean, std
                or out do not fit.

        """
        if self.is_cut or self.noise is not None:
            raise ValueError(
                "normalized has no path for boxes, masks and noise: convert and normalize x first, then plan(x)"
            )
        return _mixing.normalized(x, self.partners, self.shares, mean, std, dtype, out, compiled)

    def mix_target(self, y: Tensor | MixedTarget) -> Tensor | MixedTarget:
        """Mix one target [n, ...]: class indices to a MixedTarget, numbers to numbers, maps on the grid by box or mask."""
        if self._versions is not None:
            self._check_unchanged()
        is_cut = self.is_cut and self._has_grid(y, "a target")
        if isinstance(y, Tensor) and not _is_ids(y):
            if self.partners.shape[1]:
                self._check_numbers(y)
            mixed = self._cut(y, self._last(y)) if is_cut else _mixing.mix(y, self.partners, self.target_shares)
            return self._smooth(mixed)
        if isinstance(y, Tensor) and not is_cut:
            own, partner = y if y.dtype == torch.int64 else _as_int64(y), self.partner
            shares, slopes = self._known_for_targets()
            if not y.is_cpu:
                partner, shares, slopes = partner.to(y.device), shares.to(y.device), None
            others = [own.index_select(0, p) for p in ((partner,) if partner.ndim == 1 else partner.unbind(1))]
            return MixedTarget._of_plan(torch.stack([own, *others]), shares, self.smoothing, slopes, partner)
        if isinstance(y, Tensor):
            y = MixedTarget(_as_int64(y)[None], torch.ones(1, len(y), dtype=torch.float32, device=y.device))
        if not is_cut:
            return y.mixed(self.partners, self.target_shares).smoothed(self.smoothing)
        if len(y.ids) > 1:
            cut, first = ("box", "CutMix") if self.mask is None else ("mask", "what cuts")
            raise TypeError(f"maps of class indices can be cut by {cut} only before they are mixed: put {first} first")
        return MixedTarget(self._cut(y.ids[0])[None], y.weight, y.smoothing).smoothed(self.smoothing)

    def _check_numbers(self, y: Tensor) -> None:
        """Refuse nan, and warn of numbers that look like markers or class indices; on a CPU: elsewhere asking is a wait."""
        if not y.is_cpu or not y.is_floating_point() or not y.numel() or torch.compiler.is_compiling():
            return
        if torch._C._are_functorch_transforms_active():  # no value can be read
            return
        y = y.detach()
        low, high = map(float, y.aminmax())
        if math.isnan(low) and y[self._met()].isnan().any():
            raise ValueError(
                "this target holds nan, which would spread to the rows mixed with it: say missing=float('nan') if it marks "
                "unknown entries"
            )
        if low < 0 <= high and low.is_integer() and _marks(y, low):
            warn_once(
                "marker",
                f"this target holds {low:g} beside numbers >= 0, and it is mixed as a number: if it marks unknown entries, "
                f"say missing={low:g}; if it is a quantity, all is well",
            )
        if y.ndim == 1 and not self._numbers and len(y) > 2 and float(y[0]).is_integer() and _are_indices(y):
            warn_once(
                "whole numbers",
                "this target holds whole numbers as floating point, and they are mixed as numbers: if they are class "
                "indices, give y.long(); if they are quantities, all is well",
            )

    def _met(self) -> Tensor:
        """Return bool [n]: rows that are mixed with another one, or another one with them."""
        partners = self.partners.cpu()
        other = partners != torch.arange(len(self), device="cpu")[:, None]
        met = other.any(1)
        met[partners[other]] = True
        return met

    def of_numbers(self) -> MixPlan:
        """Return the plan, which now knows that floating-point targets are quantities, whole or not."""
        object.__setattr__(self, "_numbers", True)
        return self

    def _cut(self, t: Tensor, channels_last: bool = False) -> Tensor:
        """Replace cells of a tensor that lies on the grid, or has the columns, by box or by mask."""
        if self.weight.requires_grad and torch.is_grad_enabled():
            what = "box" if self.mask is None else "mask"
            raise ValueError(f"the share of a {what} has no gradient: a learned weight needs a vicinity that averages")
        if channels_last:
            return self._cut(t.movedim(-1, 1)).movedim(1, -1)
        if self.mask is None:
            assert self.box is not None
            return formula.cut(t, self.partners[:, 0], self.box)
        between = (1,) * (t.ndim - self.mask.ndim)
        n, *cells = self.mask.shape
        mask = self.mask.view(n, *between, *cells) if self.grid else self.mask.view(n, *cells, *between)
        return formula.take(t, self.partner, mask)

    def _smooth(self, y: Tensor) -> Tensor:
        if self.smoothing == 0:
            return y
        if y.ndim < 2 or not _are_soft(y):
            raise ValueError(
                "label smoothing has a meaning for class indices and for soft labels [n, num_classes, ...] whose classes "
                f"sum to 1, not for other numbers (got {y.dtype} {list(y.shape)})"
            )
        return y * (1 - self.smoothing) + self.smoothing / y.shape[1]

    def _last(self, t: Tensor | MixedTarget) -> bool:
        """Return whether t [n, ..., *grid, c] holds channels behind the grid."""
        d = len(self.grid)
        return self.channels_last and t.ndim >= d + 2 and tuple(t.shape[-d - 1 : -1]) == self.grid

    def _has_grid(self, t: Tensor | MixedTarget, what: str) -> bool:
        """Return whether t is a map on the grid, [n, ..., *grid]; vectors follow the weight, whatever their length.

        A vector is [n] or [n, f]: features, soft labels, class indices of several heads. Only integers [n, length] (token
        ids, a class for each moment), and inputs where the boxes were drawn for [n, length], lie on a grid of one dimension.
        """
        d, shape = len(self.grid), tuple(t.shape)
        if not d:
            return self._has_columns(shape, what)
        if self._last(t):
            return True
        on_grid = t.ndim > d and shape[-d:] == self.grid
        if t.ndim <= 2:
            is_input = what == "an input"
            if on_grid and (_is_ids(t) or (is_input and self.vectors)):
                return True
            unsaid = on_grid and self.vectors and not is_input and not torch.compiler.is_compiling()
            if unsaid and isinstance(t, Tensor) and not _are_soft(t):
                raise ValueError(
                    f"a target of shape {list(t.shape)} beside signals of this length may lie on their time, or not: write "
                    "y[:, None] for a value at each moment; for other numbers mix by MixPlan(plan.partner, plan.weight)"
                )
            if t.ndim == 1 or d > 1 or is_input or not _is_ids(t):
                return False
        elif on_grid and not (self.channels_last and what == "an input"):
            return True
        raise ValueError(
            f"{what} of shape {list(t.shape)} does not lie on the grid {list(self.grid)} that the "
            f"{'boxes' if self.mask is None else 'masks'} were drawn for: bring it to that size, mix it in a call of its "
            "own, or give class indices of several heads as a tuple"
        )

    def _has_columns(self, shape: tuple[int, ...], what: str) -> bool:
        """Return whether a tensor has the columns of the mask: every input must, and no target has them."""
        assert self.mask is not None
        columns = self.mask.shape[1]
        if what != "an input":
            return False
        if len(shape) < 2 or shape[1] != columns:
            raise ValueError(
                f"an input of shape {list(shape)} does not have the {columns} columns that the mask was drawn for: give all "
                "columns as one tensor [n, columns], or mix it in a call of its own"
            )
        return True

    def to(self, device: torch.device | str) -> MixPlan:
        """Return the same plan with its tensors on `device`."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in moved.items() if isinstance(v, Tensor)})

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain tensors and numbers, with a format number and a checksum."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["grid"] = [int(size) for size in self.grid]
        values["key"] = key_numbers(self.key)
        values["smoothing"] = float(self.smoothing)  # numpy's numbers would not pass torch.load(weights_only=True)
        if self.mask is None:
            del values["mask"]
        if self.noise is not None:
            values["noise"] = {"sigma": float(self.noise.sigma), "key": key_numbers(self.noise.key)}
        return _stored.sealed(values, _plan_dict.FORMAT if self.mask is None else _plan_dict.NEWER)

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
                ("mask", None if self.mask is None else self._mask_in_words(self.mask)),
                ("noise", self.noise),
                ("smoothing", self.smoothing or None),
                ("targets", self._targets_in_words()),
            )
            if value is not None
        ]
        return f"Plan({', '.join([f'{len(self)} rows', *extras])}; {'; '.join(rows)})"

    def _mask_in_words(self, mask: Tensor) -> str:
        of = "x".join(map(str, self.grid)) if self.grid else f"{mask.shape[1]} columns"
        return f"{mask.flatten(1).sum(1).tolist()[:16]} of {of}"

    def _targets_in_words(self) -> str | None:
        if self.target_weight is None:
            return None
        if self.box is not None:
            return "area"
        nearer = bool(((self.target_weight == 0) | (self.target_weight == 1)).all()) and self.mask is None
        own = [f"{share:.3g}" for share in self.target_shares[:16, 0].tolist()]
        return "nearer" if nearer else f"[{', '.join(own)}]"


def identity(n: int, **others: Any) -> MixPlan:
    """Return the plan that mixes nothing: no partners, and the whole weight on the row itself."""
    partner = torch.empty(n, 0, dtype=torch.int64, device="cpu")
    return MixPlan(partner, torch.ones(n, 1, dtype=torch.float32, device="cpu"), **others)


def plan_from_dict(values: dict[str, Any]) -> Plan:
    """Return the plan that `to_dict` wrote, once every field is checked.

    Dicts of this version are checked by their checksum too, on whatever device their tensors lie; those of earlier versions,
    which have none, by their fields alone. Nothing in a dict can run code.

    Raises:
        TypeError: values is not a dict.
        ValueError: a field is missing, damaged or out of range (a share that is nan, a partner outside the batch, a box off
            its grid), or a later version wrote it. The sentence names the field.

    Examples:
        >>> from vicinal import Mixup
        >>> plan = Mixup(0.4, seed=1).plan(2, step=0)
        >>> plan_from_dict(plan.to_dict())
        Plan(2 rows; 0: 0.0711 + 0.929 of 1; 1: 0.0711 + 0.929 of 0)

    """
    return _plan_dict.read(values, _of_arguments, PlanChain, PlanBeside)


def _of_arguments(values: dict[str, Any]) -> Plan:
    noise = values["noise"]
    return MixPlan(**{**values, "noise": None if noise is None else Noise(*noise)})


def _for_targets(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Return, from shares [..., n, m + 1], [..., m + 1, n], and `MixedTarget.slopes` [..., n * (m + 1)]."""
    return shares.mT.contiguous(), (shares / -shares.shape[-2]).flatten(-2)


def _shares(weight: Tensor) -> Tensor:
    return torch.stack([weight, 1 - weight], dim=1) if weight.ndim == 1 else weight


def _are_soft(y: Tensor) -> bool:
    """Return whether numbers [n, num_classes, ...] are soft labels: the classes sum to 1."""
    return torch.allclose(y.sum(1), y.new_ones(()), atol=1e-2)


def _marks(y: Tensor, low: float) -> bool:
    """Return whether the lowest number is the only one below 0, and not one of two kinds, -1 and 1."""
    others = y[y != low]
    return bool((others >= 0).all()) and not bool((others == others[0]).all())


def _are_indices(y: Tensor) -> bool:
    """Return whether numbers [n] look like class indices: whole, >= 0, and of more than two kinds."""
    kinds = y.unique()
    return bool((kinds == kinds.round()).all()) and bool(kinds[0] >= 0) and len(kinds) > 2


def _as_int64(y: Tensor) -> Tensor:
    """Return class indices as int64."""
    ids = y.long()
    if y.dtype == torch.uint64 and ids.numel() and bool((ids < 0).any()):
        raise ValueError("class indices of uint64 beyond int64 would become negative ones: number the classes from 0")
    return ids


def _is_ids(y: Tensor | MixedTarget) -> bool:
    return not (y.dtype.is_floating_point or y.dtype.is_complex)
