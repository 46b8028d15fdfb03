"""MixedTarget: class indices that know they are mixed.

The user's loss line stays as it is: `F.cross_entropy(logits, y)` and `nn.CrossEntropyLoss(...)`, `F.nll_loss` and
`nn.NLLLoss` return the lambda-weighted loss when `y` is a MixedTarget, through PyTorch's `__torch_function__` protocol.
No dense one-hot is built. The rules of losses are in `_cross_entropy.py`, those of other functions in
`_target_rules.py`; what only moves entries is applied to each class index (`_shapes.py`); what has no meaning is refused,
never guessed (`_refusals.py`).
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vicinal import _refusals, _shapes
from vicinal._checks import shown
from vicinal._shapes import unsqueeze_like
from vicinal._tensor_like import TensorLike
from vicinal.formula import check_kind

_OVERLAPPING = 1 << 25  # bytes that rows of numbers which overlap in memory may seem to have
_MOST_LABELS = 1 << 40  # dense ones: terabytes
_USUAL = frozenset((torch.int64, torch.float32, torch.float64, torch.float16, torch.bfloat16))  # dtypes of targets


class MixedTarget(TensorLike):
    """Class indices of several examples per entry, with the share of each.

    Args:
        ids: int64 [k, n, d1, ...]: for each row, the class (or map of classes) of itself and of its k - 1 partners.
        weight: floating point [k, n], the shares of each row; or of as many dimensions as ids, [k, n, d1, ...], sizes of 1
            allowed, the shares of each entry. Shares are >= 0, and sum to 1 over k except where examples are weighted.
        smoothing: label smoothing that the loss applies on top: `(1 - smoothing) * target + smoothing / num_classes`.
        rows: int64 like weight: the row of the batch before mixing that each class index comes from, for `weighted`; None
            if unknown.

    `shape`, `dtype`, `device`, `len`, indexing and all operations on shapes are those of the plain target [n, d1, ...]. Its
    leaves as a pytree are the class indices [n, k, d1, ...] and the shares [n, k, ...], rows first.

    Convention:
        dimension 0: the rows of the batch, which `ids` and `weight` hold in dimension 1.
        lambda: `weight[0]`, the share of the row's own label; the other rows of `weight` are its partners' shares.
        one draw: that of the plan; shared by every entry of a row.

    Raises:
        TypeError: ids, weight or rows is not a plain tensor, or smoothing not a number.
        ValueError: the tensors do not fit together; on a CPU (elsewhere asking is a wait), a share is negative, inf or nan.

    Examples:
        >>> import torch, torch.nn.functional as F
        >>> y = MixedTarget(torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0.75, 0.75], [0.25, 0.25]]))
        >>> y
        MixedTarget([0.75 of 0 + 0.25 of 1, 0.75 of 1 + 0.25 of 1])
        >>> F.cross_entropy(torch.zeros(2, 3), y)
        tensor(1.0986)
        >>> torch.tensor([0, 1]) == y
        tensor([0.7500, 1.0000])
        >>> y.largest()
        tensor([0, 1])

    """

    __slots__ = ("_known", "_partner", "_rows", "smoothing")
    rules: ClassVar[dict[Any, Callable[..., Any]]] = {}  # PyTorch's functions that have a meaning here
    __array_ufunc__ = None  # so that numbers and arrays of numpy leave comparisons to this class

    def __init__(self, ids: Tensor, weight: Tensor, smoothing: float = 0.0, rows: Tensor | None = None) -> None:
        _check_tensors(ids=ids, weight=weight, rows=rows)
        if ids.dtype != torch.int64 or ids.ndim == 0 or len(ids) == 0:
            raise ValueError(f"ids must be int64 [k, n, ...] with k >= 1, got {ids.dtype} {list(ids.shape)}")
        if not weight.is_floating_point() or not _fits(weight, ids):
            raise ValueError(
                f"weight must be floating point {list(ids.shape[:2])} beside ids {list(ids.shape)}, or of as many "
                f"dimensions as ids, got {weight.dtype} {list(weight.shape)}"
            )
        _check_smoothing(smoothing)
        if rows is not None and (rows.dtype != torch.int64 or not _fits(rows, ids)):
            raise ValueError(
                f"rows must be int64 like weight {list(weight.shape)}, got {rows.dtype} {list(rows.shape)}"
            )
        _check_least("weight", "shares", weight)
        if rows is not None:
            _check_least("rows", "row numbers", rows)
        self.ids = ids
        self.weight = weight.expand_as(ids) if ids.ndim == 2 else weight
        self.smoothing = smoothing
        self._rows = rows
        self._partner: Tensor | None = None
        self._known: tuple[Tensor | None, Tensor, int] | None = None

    @classmethod
    def _unchecked(cls, ids: Any, weight: Any, smoothing: float, rows: Tensor | None = None) -> MixedTarget:
        """Return a target of parts that fit by construction, or of other leaves of a pytree."""
        target = cls.__new__(cls)
        target.ids, target.weight, target.smoothing = ids, weight, smoothing
        target._rows, target._partner, target._known = rows, None, None
        return target

    @classmethod
    def _of_plan(
        cls, ids: Tensor, weight: Tensor, smoothing: float, slopes: Tensor | None, partner: Tensor | None = None
    ) -> MixedTarget:
        """Return a target of a plan's tensors.

        Args:
            ids: int64 [k, n, ...].
            weight: [k, n]; of one class index per row, all are 1.
            smoothing: as of the class.
            slopes: -weight / n as [n * k], where every weight counts: what the mean loss multiplies log-probabilities by.
            partner: int64 [n] or [n, k - 1], the rows of the partners.

        """
        target = cls._unchecked(ids, weight, smoothing)
        target._partner = partner
        if (slopes is not None or len(ids) == 1) and not weight.requires_grad and not weight.is_inference():
            target._known = slopes, weight, weight._version  # inference tensors count no versions
        return target

    def _with(self, ids: Tensor, weight: Tensor, rows: Tensor | None) -> MixedTarget:
        """Return a target of the same smoothing."""
        return self._unchecked(ids, weight, self.smoothing, rows)

    @property
    def is_unchanged(self) -> bool:
        """True if the weights are those that a plan made, neither changed nor replaced since."""
        known = self._known
        return known is not None and known[1] is self.weight and known[1]._version == known[2]

    @property
    def slopes(self) -> Tensor | None:
        """-weight / n as [n * k], where a plan made the shares and every share counts; None where that is not known."""
        known = self._known
        return known[0] if known is not None and self.is_unchanged else None

    @property
    def rows(self) -> Tensor | None:
        """int64 like `weight`: the row of the batch before mixing that each class index comes from; None if unknown."""
        partner = self._partner
        if partner is None:
            return self._rows
        own = torch.arange(len(partner), device=partner.device)
        return torch.stack([own, *([partner] if partner.ndim == 1 else partner.unbind(1))])

    @property
    def shape(self) -> torch.Size:
        """[n, d1, ...], as of the plain target."""
        return self.ids.shape[1:]

    @property
    def device(self) -> torch.device:
        """Device of the class indices and shares."""
        return self.ids.device

    def __len__(self) -> int:
        """Return the number of rows."""
        if self.ndim == 0:
            raise TypeError("len() of a target of one entry, of shape []")
        return self.ids.shape[1]

    def __contains__(self, index: object) -> bool:
        """Return True if any entry has a share of this class index."""
        return bool((self.correct(index) > 0).any())

    def __getitem__(self, index: Any) -> MixedTarget:
        """Index as the plain target: rows, entries, masks of either; an integer takes a dimension away."""
        parts = index if isinstance(index, tuple) else (index,)
        for part in parts:
            if isinstance(part, MixedTarget):
                _refusals.refuse("__getitem__ of class indices")
            if isinstance(part, Tensor) and part.is_floating_point():
                raise TypeError(
                    f"a MixedTarget is indexed by integers, slices and boolean masks, not by {part.dtype}: of shares make a "
                    "mask, y[(y != -100) > 0]"
                )
        if (isinstance(index, list) and index) or isinstance(index, np.ndarray):
            index = torch.as_tensor(index)
        by_row = isinstance(index, slice) or (isinstance(index, Tensor) and index.ndim == 1)
        if by_row and self.weight.shape[1:2] == self.ids.shape[1:2]:
            rows = self.rows
            rows = None if rows is None else rows.to(self.device)[:, index]
            return self._with(self.ids[:, index], self.weight[:, index], rows)
        return _shapes.apply(self, lambda part: part[index])

    def __repr__(self) -> str:
        """Show the shares and class indices of each row, or the shapes where the rows are maps."""
        smoothing = f", smoothing={self.smoothing}" if self.smoothing else ""
        if not isinstance(self.ids, Tensor):  # leaves of another kind, as of `tree_map(type, y)`
            return f"MixedTarget({self.ids}, {self.weight}{smoothing})"
        if self.ndim > 1 or self.device.type == "meta":
            weight = (
                self.weight.T.tolist()[:8]
                if self.weight.ndim == 2 and not self.weight.is_meta
                else list(self.weight.shape)
            )
            return f"MixedTarget(ids={list(self.ids.shape)}, weight={weight}{smoothing})"
        k = len(self.ids)
        rows = [
            " + ".join(f"{w:.3g} of {i}" for w, i in zip(weights, ids, strict=True))
            for weights, ids in zip(self.weight.view(k, -1).T.tolist(), self.ids.view(k, -1).T.tolist(), strict=True)
        ]
        shown = rows if len(rows) <= 16 else [*rows[:15], f"... {len(rows) - 15} more"]
        listed = ", ".join(shown)
        return f"MixedTarget({listed if self.ndim == 0 else f'[{listed}]'}{smoothing})"

    # -- shapes that the others go by; the rest is in _shapes.py -------------------------------------------------------

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> MixedTarget:
        """Flatten as of the plain target; each entry takes the shares of its row along."""
        _refusals.refuse_metrics("flatten")
        return self if self.ndim == 1 else _shapes.apply(self, lambda part: part.flatten(start_dim, end_dim))

    def reshape(self, *shape: Any) -> MixedTarget:
        """Reshape as of the plain target; each entry takes the shares of its row along."""
        _refusals.refuse_metrics("reshape")
        if any(isinstance(size, torch.dtype) for size in shape):
            _refusals.refuse(f"conversion to {shape[0]}")
        if self.ndim == 1 and shape in ((-1,), ((-1,),)):
            return self
        return _shapes.apply(self, lambda part: part.reshape(*shape))

    view = reshape

    def view_as(self, other: Tensor | MixedTarget) -> MixedTarget:
        """Reshape to the shape of another target or tensor."""
        return self if self.shape == other.shape else self.reshape(other.shape)

    reshape_as = view_as

    def expand_as(self, other: Tensor | MixedTarget) -> MixedTarget:
        """Expand to the shape of another target or tensor."""
        return self.expand(other.shape)

    def masked_fill(self, mask: Tensor, value: int) -> MixedTarget:
        """Replace entries by one class index, such as one that the loss ignores."""
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise TypeError("masked_fill takes a boolean mask: of shares make one, (y != -100) > 0")
        return self._with(self.ids.masked_fill(mask.expand(self.shape), value), self.weight, self.rows)

    def _each(self, move: Callable[[Tensor], Tensor]) -> MixedTarget:
        """Apply what changes no value; what is known of the shares is known of the moved ones."""
        moved = self._with(move(self.ids), move(self.weight), self._rows)
        moved._partner = self._partner
        known = self._known
        if known is not None and self.is_unchanged and not moved.weight.is_inference():
            slopes = known[0] if moved.weight is self.weight else None
            if slopes is not None or len(self.ids) == 1:
                moved._known = slopes, moved.weight, moved.weight._version
        return moved

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a call of the class, which `torch.load(weights_only=True)` admits."""
        return MixedTarget, (self.ids, self.weight, self.smoothing, self.rows)

    # -- what only a mixed target answers ----------------------------------------------------------------------------

    def largest(self) -> Tensor:
        """Return plain class indices, int64 like the plain target: of each entry that with the largest share.

        Shares of the same class are added; of equal shares the first counts, which is that of the row itself.
        """
        shares = _shapes.spread(self.weight, self.ids)
        totals = torch.stack([((self.ids == own) * shares).sum(0) for own in self.ids])
        return self.ids.gather(0, totals.argmax(0, keepdim=True)).squeeze(0)

    def weighted(self, weight: Tensor) -> MixedTarget:
        """Weight the examples: multiply each share by the weight of the example that it comes from.

        The loss with reduction="mean" divides by the sum of these products (and class weights), as PyTorch divides by the
        class weights; "none" and "sum" divide by nothing.

        Args:
            weight: [n] for the n rows of the batch as it was before mixing, also where this target is a part of it.

        Raises:
            ValueError: it is not known of which rows the shares are, or there is no weight for one of them.

        """
        rows = self.rows
        if rows is None:
            raise ValueError(
                "this target does not know its examples (made by hand, joined, cut into boxes): multiply their weights in, "
                "vicinal.MixedTarget(y.ids, y.weight * w), w like y.weight"
            )
        if weight.ndim != 1 or weight.is_complex():
            raise ValueError(f"weights of examples are [n] for the batch before mixing, got {list(weight.shape)}")
        if torch.compiler.is_compiling() or not rows.numel() or int(rows.max()) < len(weight):
            of = weight.to(self.device)[rows.to(self.device)]
            shares = self.weight if self.weight.ndim == of.ndim else unsqueeze_like(self.weight, self.ids)
            return self._with(self.ids, shares * (of if of.ndim == shares.ndim else unsqueeze_like(of, self.ids)), rows)
        raise ValueError(
            f"weights [{len(weight)}] do not reach row {int(rows.max())}: give those of the whole batch before mixing"
        )

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return (y_a, y_b, lam) for a criterion of your own: class indices twice, and the share of y_a.

        `lam * loss(out, y_a) + (1 - lam) * loss(out, y_b)`, with losses per row, equals the loss on the mixed labels
        only where the loss is linear in the target. `losses.mixed` does this for any criterion. The smoothing is not in
        them.

        Returns:
            Class indices [n, ...] of the rows and of their partners, and the shares of the rows [n], or those of the
            entries [n, ...].

        Raises:
            ValueError: a row is a mix of more than two, or examples are weighted.

        """
        if len(self.ids) > 2:
            raise ValueError(f"each row is a mix of {len(self.ids)} classes: take .ids and .weight")
        if not torch.compiler.is_compiling():
            total = self.weight.detach().sum(0)
            if not torch.allclose(total, torch.ones_like(total), atol=1e-2 if total.dtype.itemsize == 2 else 1e-5):
                raise ValueError("the shares do not sum to 1, as of weighted examples: take .ids and .weight")
        per_row = self.weight.ndim == 2
        return self.ids[0], self.ids[-1], (self.weight if per_row else _shapes.spread(self.weight, self.ids))[0]

    def dense(self, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return soft labels [n, num_classes, d1, ...], smoothing included; rows sum to 1 over the classes.

        Raises:
            TypeError: num_classes is not an integer.
            ValueError: a class index lies outside [0, num_classes), an ignored one too: dense labels cannot say "ignore"; or
                no memory holds that many labels.

        """
        if isinstance(num_classes, bool) or not isinstance(num_classes, (int, np.integer, torch.SymInt)):
            raise TypeError(f"num_classes must be an integer, got {shown(num_classes)}")
        if not torch._C._are_functorch_transforms_active():  # which does not let us look; scatter_add checks there
            low, high = map(int, self.ids.aminmax()) if self.numel() else (0, 0)
            if low < 0 or high >= num_classes:
                raise ValueError(
                    f"ids lie in [{low}, {high}], but dense labels of {shown(num_classes)} classes "
                    f"hold 0 to {shown(num_classes - 1)}; ignored entries have no dense form"
                )
        if type(num_classes) is not torch.SymInt and self.numel() * int(num_classes) > _MOST_LABELS:
            raise ValueError(
                f"dense labels of {shown(num_classes)} classes for {self.numel()} entries need more memory than there is: "
                "give the target to the loss as it is, which needs none"
            )
        at = min(1, self.ndim)
        weight = _shapes.spread(self.weight.to(dtype), self.ids).movedim(0, at)
        shape = (*self.shape[:at], num_classes, *self.shape[at:])
        soft = torch.zeros(shape, dtype=dtype, device=self.device).scatter_add(at, self.ids.movedim(0, at), weight)
        if self.smoothing == 0:
            return soft
        return soft * (1 - self.smoothing) + weight.sum(at, keepdim=True) * (self.smoothing / num_classes)

    def mixed(self, partner: Tensor, share: Tensor) -> MixedTarget:
        """Mix further: partner int64 [n, m], share [n, m + 1], as a plan holds them."""
        share, rows = share.to(self.device), self.rows
        of = [partner[:, j].to(self.device) for j in range(partner.shape[1])]
        ids = torch.cat([self.ids, *(self.ids.index_select(1, rows_of) for rows_of in of)])
        weight = self.weight.expand(-1, len(self), *self.weight.shape[2:])
        by_row = share.view(*share.shape, *(1,) * (weight.ndim - 2))
        parts = [weight, *(weight.index_select(1, rows_of) for rows_of in of)]
        weight = torch.cat([part * by_row[:, j] for j, part in enumerate(parts)])
        if rows is not None:
            rows = rows.to(self.device).expand(-1, len(self), *rows.shape[2:])
            rows = torch.cat([rows, *(rows.index_select(1, rows_of) for rows_of in of)])
        return self._with(ids, weight, rows)

    def smoothed(self, smoothing: float) -> MixedTarget:
        """Smooth further: two smoothings, one after the other, are one of 1 - (1 - a) * (1 - b)."""
        if smoothing == 0:
            return self
        return MixedTarget(self.ids, self.weight, compose_smoothing(self.smoothing, smoothing), self.rows)

    def correct(self, predicted: Any) -> Tensor:
        """Return the share of each entry's label that `predicted` agrees with, of the dtype of the shares.

        Args:
            predicted: class indices of as many dimensions as this target, sizes equal or 1; or one number, of which each
                entry's share is returned: `y == 3`, `y != -100`.

        Raises:
            TypeError: predicted is neither a tensor nor a number.
            ValueError: its shape does not fit.

        """
        return self._share_where(torch.eq, predicted)

    eq = correct

    def ne(self, predicted: Any) -> Tensor:
        """Return the share of each entry's label that `predicted` does not agree with, see `correct`."""
        return self._share_where(torch.ne, predicted)

    not_equal = ne

    def _share_where(self, compare: Callable[..., Tensor], predicted: Any) -> Tensor:
        _refusals.refuse_metrics(f"{compare.__name__} of predictions and class indices")
        if isinstance(predicted, Tensor):
            if predicted.shape != self.shape and not _broadcast(predicted.shape, self.shape):
                raise ValueError(f"predictions {list(predicted.shape)} do not fit targets {list(self.shape)}")
            predicted = predicted.to(self.device)
        elif not isinstance(predicted, numbers.Number):
            raise TypeError(
                "== and != compare a MixedTarget with a tensor of predictions or with one number, not with a "
                f"{type(predicted).__name__}: compare class indices before mixing, or y.ids"
            )
        weight = self.weight if self.ids.ndim == 2 else unsqueeze_like(self.weight, self.ids)
        return (compare(self.ids, predicted) * weight).sum(0)

    def __eq__(self, other: object) -> Any:
        """Return the lambda-weighted share of correct labels, see `correct`."""
        return NotImplemented if other is None else self.correct(other)

    def __ne__(self, other: object) -> Any:
        """Return the lambda-weighted share of wrong labels, see `ne`."""
        return NotImplemented if other is None else self.ne(other)

    __hash__ = object.__hash__

    # -- PyTorch's protocol ------------------------------------------------------------------------------------------

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer the functions that have a meaning for mixed class indices; refuse all others."""
        rule = cls.rules.get(func)
        if rule is None:
            _refusals.refuse(getattr(func, "__name__", str(func)))
        return rule(*args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if not hasattr(Tensor, name):
            raise AttributeError(f"a MixedTarget has no {name!r}")
        raise AttributeError(_refusals.sentence(f"Tensor.{name}"))


def _check_tensors(**parts: Tensor | None) -> None:
    """Refuse parts of a target that are not plain tensors, as damaged files and forged ones hold."""
    for name, part in parts.items():
        if part is None and name == "rows":
            continue
        if not isinstance(part, Tensor):
            raise TypeError(f"{name} must be a tensor, got {shown(part)}")
        check_kind(part)


def _check_smoothing(smoothing: float) -> None:
    try:
        if 0 <= smoothing <= 1:
            return
    except (TypeError, RuntimeError):  # of what has no order, or of a tensor of several numbers
        raise TypeError(f"smoothing must be a number in [0, 1], got {shown(smoothing)}") from None
    raise ValueError(f"smoothing must lie in [0, 1], got {shown(smoothing)}")


def _check_least(name: str, what: str, part: Tensor) -> None:
    """Refuse what holds negative numbers, inf or nan; where looking costs next to nothing."""
    if type(part) is not Tensor or not part.is_cpu or torch.compiler.is_compiling():
        return
    if torch._C._are_functorch_transforms_active():  # no value can be read
        return
    # each number once, however often it is shown
    held = part.detach()[tuple(slice(None, 1) if stride == 0 else slice(None) for stride in part.stride())]
    if held.numel() * held.element_size() > max(held.untyped_storage().nbytes(), _OVERLAPPING):
        raise ValueError(f"{name} shows fewer numbers as {list(part.shape)}: give it memory of its own, .contiguous()")
    if held.numel() == 0:
        return
    least, most = held.aminmax()
    if not (least.item() >= 0 and most.item() < float("inf")):
        found = least if not least.item() >= 0 else most
        raise ValueError(f"{name} holds {what}, finite and >= 0, got {found.item()}")


def check_target(leaf: Tensor | MixedTarget) -> Tensor | MixedTarget:
    """Refuse kinds of tensors that cannot be mixed, and booleans, which could mean class indices or numbers."""
    if leaf.dtype in _USUAL or not isinstance(leaf, Tensor):
        return leaf
    if leaf.dtype == torch.bool:
        raise TypeError(
            "a boolean target can mean two things: pass .float() for multi-label or binary targets (mixed as numbers), "
            "or .long() for class indices"
        )
    check_kind(leaf)
    return leaf


def compose_smoothing(first: float, second: float) -> float:
    """Return the one smoothing that two, one after the other, amount to."""
    return 1 - (1 - first) * (1 - second) if first and second else first + second


def _broadcast(first: torch.Size, second: torch.Size) -> bool:
    """Return True if shapes of as many dimensions broadcast."""
    return len(first) == len(second) and all(a == b or 1 in (a, b) for a, b in zip(first, second, strict=True))


def _fits(weight: Tensor, ids: Tensor) -> bool:
    """Return True if weight is [k, n], or [k, n, d1, ...] with some sizes 1."""
    per_entry = weight.ndim == ids.ndim and len(weight) == len(ids)
    return weight.shape == ids.shape[:2] or (
        per_entry and all(w in (1, s) for w, s in zip(weight.shape[1:], ids.shape[1:], strict=True))
    )


def _equal(input: Any, other: Any) -> Tensor:
    return other.correct(input) if isinstance(other, MixedTarget) else input.correct(other)


def _not_equal(input: Any, other: Any) -> Tensor:
    return other.ne(input) if isinstance(other, MixedTarget) else input.ne(other)


MixedTarget.rules |= dict.fromkeys((torch.eq, Tensor.eq, Tensor.__eq__), _equal)
MixedTarget.rules |= dict.fromkeys((torch.ne, torch.not_equal, Tensor.ne, Tensor.not_equal, Tensor.__ne__), _not_equal)
MixedTarget.__module__ = "vicinal.target"  # where it is complete, and where pickles look for it
torch.serialization.add_safe_globals([MixedTarget])
