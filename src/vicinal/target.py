"""MixedTarget: class ids that know they are mixed; the rules of their losses are in `losses.py`.

The user's loss line stays as it is: `F.cross_entropy(logits, y)` and `nn.CrossEntropyLoss(...)`, `F.nll_loss` and
`nn.NLLLoss` give the lambda-weighted loss when `y` is a MixedTarget, through PyTorch's `__torch_function__`
protocol. No dense one-hot is built. What has no meaning is refused, never guessed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor


class MixedTarget:
    """Class ids of several examples a row, with the share of each.

    Args:
        ids: int64 [k, n, d1, ...]: for each row, the class (or map of classes) of itself and of its k - 1 partners.
        weight: float32 [k, n], the shares; >= 0, and they sum to 1 over k.
        smoothing: label smoothing that the loss applies on top: (1 - smoothing) * target + smoothing / num_classes.

    `shape`, `dtype`, `device`, `len` and indexing are those of the plain target [n, d1, ...].

    Examples:
        >>> import torch, torch.nn.functional as F
        >>> y = MixedTarget(torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0.75, 0.75], [0.25, 0.25]]))
        >>> y
        MixedTarget([0.75 of 0 + 0.25 of 1, 0.75 of 1 + 0.25 of 1])
        >>> F.cross_entropy(torch.zeros(2, 3), y)
        tensor(1.0986)
        >>> torch.tensor([0, 1]) == y
        tensor([0.7500, 1.0000])

    """

    __slots__ = ("ids", "slopes", "smoothing", "weight")
    rules: ClassVar[dict[Any, Callable[..., Any]]] = {}  # PyTorch's functions that have a meaning here: losses.py

    def __init__(self, ids: Tensor, weight: Tensor, smoothing: float = 0.0) -> None:
        if ids.dtype != torch.int64 or ids.ndim < 2 or len(ids) == 0:
            raise ValueError(f"ids must be int64 [k, n, ...] with k >= 1, got {ids.dtype} {list(ids.shape)}")
        if weight.shape != ids.shape[:2] or not weight.is_floating_point():
            raise ValueError(
                f"weight must be floating point {list(ids.shape[:2])} beside ids {list(ids.shape)}, got {weight.dtype} "
                f"{list(weight.shape)}"
            )
        if not 0 <= smoothing <= 1:
            raise ValueError(f"smoothing must lie in [0, 1], got {smoothing}")
        self.ids = ids
        self.weight = weight
        self.smoothing = smoothing
        # -weight / n as [n * k], where the plan that made this knows that every share counts: what the mean loss
        # multiplies log-probabilities by
        self.slopes: Tensor | None = None

    @classmethod
    def trusted(cls, ids: Tensor, weight: Tensor, smoothing: float, slopes: Tensor | None) -> MixedTarget:
        """Give a target from a plan's tensors, which fit by construction."""
        target = cls.__new__(cls)
        target.ids, target.weight, target.smoothing, target.slopes = ids, weight, smoothing, slopes
        return target

    # -- what a plain target answers ---------------------------------------------------------------------------------

    @property
    def shape(self) -> torch.Size:
        """[n, d1, ...], as of the plain target."""
        return self.ids.shape[1:]

    @property
    def ndim(self) -> int:
        """Number of dimensions of the plain target."""
        return self.ids.ndim - 1

    @property
    def dtype(self) -> torch.dtype:
        """torch.int64: these are class ids."""
        return self.ids.dtype

    @property
    def device(self) -> torch.device:
        """Where the ids and weights are."""
        return self.ids.device

    def size(self, dim: int | None = None) -> Any:
        """As of the plain target."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Give the number of dimensions of the plain target."""
        return self.ndim

    def numel(self) -> int:
        """Give the number of entries of the plain target."""
        return self.shape.numel()

    def __len__(self) -> int:
        """Give the number of rows."""
        return self.ids.shape[1]

    def __getitem__(self, rows: Any) -> MixedTarget:
        """Give some of the rows, by slice, index tensor or mask; an integer gives a target of one row."""
        ndim = getattr(rows, "ndim", None)
        if rows is None or isinstance(rows, (bool, tuple)) or (ndim or 0) > 1:
            raise TypeError(
                "a MixedTarget is indexed by its rows alone, as y[rows]: a slice, row numbers, or a mask [n]"
            )
        if isinstance(rows, int) or ndim == 0:  # a number of Python, numpy or torch
            row = operator.index(rows)
            if not -len(self) <= row < len(self):
                raise IndexError(f"row {row} of a target of {len(self)} rows")
            rows = slice(row, row + 1 or None)
        return MixedTarget(self.ids[:, rows], self.weight[:, rows], self.smoothing)

    def __repr__(self) -> str:
        """Show the shares and ids of each row, or the shapes where the rows are maps."""
        smoothing = f", smoothing={self.smoothing}" if self.smoothing else ""
        if self.ndim > 1:
            return f"MixedTarget(ids={list(self.ids.shape)}, weight={self.weight.T.tolist()[:8]}{smoothing})"
        rows = [
            " + ".join(f"{w:.3g} of {i}" for w, i in zip(weights, ids, strict=True))
            for weights, ids in zip(self.weight.T.tolist(), self.ids.T.tolist(), strict=True)
        ]
        shown = rows if len(rows) <= 16 else [*rows[:15], f"... {len(rows) - 15} more"]
        return f"MixedTarget([{', '.join(shown)}]{smoothing})"

    # -- moving ------------------------------------------------------------------------------------------------------

    def to(self, *args: Any, **kwargs: Any) -> MixedTarget:
        """Move to a device, with the arguments of `Tensor.to`; the ids stay int64."""
        probe = torch.empty(0, dtype=self.dtype, device=self.device).to(*args, **kwargs)
        if probe.dtype != self.dtype:
            self.refuse(f"conversion to {probe.dtype}")
        moves = {k: v for k, v in kwargs.items() if k in ("non_blocking", "copy")}
        moves.update(zip(("non_blocking", "copy"), [a for a in args if isinstance(a, bool)], strict=False))
        return self._each(lambda t: t.to(probe.device, **moves))

    def cuda(self, device: Any = None, non_blocking: bool = False) -> MixedTarget:
        """Move to a CUDA device."""
        return self._each(lambda t: t.cuda(device, non_blocking=non_blocking))

    def cpu(self) -> MixedTarget:
        """Move to the host."""
        return self._each(Tensor.cpu)

    def pin_memory(self) -> MixedTarget:
        """Pin the memory, as a DataLoader with pin_memory=True asks for."""
        return self._each(Tensor.pin_memory)

    def long(self) -> MixedTarget:
        """Give itself: the ids are int64 already."""
        return self

    def detach(self) -> MixedTarget:
        """Give itself: nothing here has a gradient."""
        return self

    @property
    def data(self) -> MixedTarget:
        """Itself: nothing here has a gradient."""
        return self

    def flatten(self) -> MixedTarget:
        """Give the entries one after the other [n * d1 * ...]; each takes the shares of its row along."""
        weight = beside(self.weight, self.ids).expand_as(self.ids)
        return MixedTarget(self.ids.flatten(1), weight.flatten(1), self.smoothing)

    def view(self, *shape: Any) -> MixedTarget:
        """Give `flatten()` for -1, as many losses call `labels.view(-1)`; other shapes are refused."""
        if shape not in ((-1,), ((-1,),)):
            self.refuse(f"the shape {shape}")
        return self.flatten()

    reshape = view

    def view_as(self, other: Tensor | MixedTarget) -> MixedTarget:
        """Give itself where the shapes agree, so that `pred.eq(y.view_as(pred))` works for pred [n]."""
        if self.shape != other.shape:
            self.refuse(f"view_as {list(other.shape)}, a shape other than its own {list(self.shape)},")
        return self

    def _each(self, move: Callable[[Tensor], Tensor]) -> MixedTarget:
        return MixedTarget(move(self.ids), move(self.weight), self.smoothing)

    # -- what only a mixed target answers ----------------------------------------------------------------------------

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Give (y_a, y_b, lam) for a criterion of your own: ids [n, ...] twice, and the share [n] of y_a.

        `lam * loss(out, y_a) + (1 - lam) * loss(out, y_b)`, with losses per row, equals the loss on the mixed labels
        only where the loss is linear in the target. The smoothing is not in them.
        """
        if len(self.ids) > 2:
            raise ValueError(f"each row is a mix of {len(self.ids)} classes: take .ids and .weight")
        return self.ids[0], self.ids[-1], self.weight[0]

    def dense(self, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Give soft labels [n, num_classes, d1, ...], smoothing included; rows sum to 1 over the classes.

        Raises:
            ValueError: an id lies outside [0, num_classes), an ignored one too: dense labels cannot say "ignore".

        """
        low, high = map(int, self.ids.aminmax()) if self.numel() else (0, 0)
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"ids lie in [{low}, {high}], but dense labels of {num_classes} classes "
                f"hold 0 to {num_classes - 1}; ignored entries have no dense form"
            )
        soft = torch.zeros(len(self), num_classes, *self.shape[1:], dtype=dtype, device=self.device)
        for ids, weight in zip(self.ids, self.weight, strict=True):
            soft.scatter_add_(1, ids[:, None], beside(weight.to(dtype), ids).expand(ids.shape)[:, None].contiguous())
        return soft.mul_(1 - self.smoothing).add_(self.smoothing / num_classes)

    def mixed(self, partner: Tensor, share: Tensor) -> MixedTarget:
        """Mix further: partner int64 [n, m], share [n, m + 1], as a plan holds them."""
        share = share.to(self.device)
        ids, weight = [self.ids], [self.weight * share[:, 0]]
        for j in range(partner.shape[1]):
            of = partner[:, j].to(self.device)
            ids.append(self.ids.index_select(1, of))
            weight.append(self.weight.index_select(1, of) * share[:, j + 1])
        return MixedTarget(torch.cat(ids), torch.cat(weight), self.smoothing)

    def smoothed(self, smoothing: float) -> MixedTarget:
        """Smooth further: two smoothings, one after the other, are one of 1 - (1 - a) * (1 - b)."""
        return self if smoothing == 0 else MixedTarget(self.ids, self.weight, both(self.smoothing, smoothing))

    def hits(self, predicted: Tensor | Any) -> Tensor:
        """Give the share of each row's labels that `predicted`, ids of this shape, agrees with; dtype of the weight."""
        if not isinstance(predicted, Tensor):
            self.refuse(f"comparison with anything but a tensor of predictions (got {type(predicted).__name__})")
        if predicted.shape != self.shape:
            raise ValueError(f"predictions {list(predicted.shape)} do not fit targets {list(self.shape)}")
        agree = predicted.to(self.device) == self.ids
        return (agree * beside(self.weight, self.ids)).sum(0)

    eq = hits

    def ne(self, predicted: Tensor | Any) -> Tensor:
        """Give the misses, 1 - hits."""
        return 1 - self.hits(predicted)

    def __eq__(self, other: object) -> Any:
        """Give the lambda-weighted hits, see `hits`."""
        return NotImplemented if other is None else self.hits(other)

    def __ne__(self, other: object) -> Any:
        """Give the lambda-weighted misses, see `ne`."""
        return NotImplemented if other is None else self.ne(other)

    __hash__ = object.__hash__

    # -- PyTorch's protocol ------------------------------------------------------------------------------------------

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer the functions that have a meaning for mixed ids; refuse all others."""
        rule = cls.rules.get(func)
        if rule is None:
            cls.refuse(getattr(func, "__name__", str(func)))
        return rule(*args, **(kwargs or {}))

    @staticmethod
    def refuse(what: str) -> NoReturn:
        """Raise the error that says what to do instead."""
        raise TypeError(
            f"{what} has no meaning for a MixedTarget, whose rows are weighted class ids. Losses: F.cross_entropy and "
            "F.nll_loss take it as it is; for another loss pass y.dense(num_classes) if it takes soft labels (BCE, KL, "
            "soft focal), or weight it by hand with y_a, y_b, lam = y.pairs(). Accuracy: (logits.argmax(1) == y). "
            "Convert, reshape and compare plain targets, before they are mixed"
        )

    def __getattr__(self, name: str) -> Any:
        if not hasattr(Tensor, name):
            raise AttributeError(f"a MixedTarget has no {name!r}")
        try:
            self.refuse(f"Tensor.{name}")
        except TypeError as error:
            raise AttributeError(str(error)) from None


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(self: MixedTarget, *args: Any, **kwargs: Any) -> NoReturn:
        self.refuse(name)

    return refuse


# Python looks operators up on the class, past __getattr__; __array__ is what numpy and scikit-learn ask for
for _operators in (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul rmatmul",
    "and rand or ror xor rxor invert neg pos abs lt le gt ge setitem array",
):
    for _name in _operators.split():
        setattr(MixedTarget, f"__{_name}__", _refused(f"__{_name}__"))


def beside(weight: Tensor, ids: Tensor) -> Tensor:
    """Give weight [..., n] the trailing dimensions of ids [..., n, d1, ...]."""
    return weight.reshape(*weight.shape, *(1,) * (ids.ndim - weight.ndim))


def both(first: float, second: float) -> float:
    """Give the one smoothing that two, one after the other, amount to."""
    return 1 - (1 - first) * (1 - second) if first and second else first + second
