"""MixedTarget: class ids that know they are mixed, and the rules of their losses.

The user's loss line stays as it is: `F.cross_entropy(logits, y)` and `nn.CrossEntropyLoss(...)`, `F.nll_loss` and
`nn.NLLLoss` give the lambda-weighted loss when `y` is a MixedTarget, through PyTorch's `__torch_function__`
protocol. No dense one-hot is built. What has no meaning is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

_REDUCTIONS = ("none", "mean", "sum")


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

    __slots__ = ("ids", "smoothing", "weight")

    def __init__(self, ids: Tensor, weight: Tensor, smoothing: float = 0.0) -> None:
        if ids.dtype != torch.int64 or ids.ndim < 2:
            raise ValueError(f"ids must be int64 [k, n, ...], got {ids.dtype} {list(ids.shape)}")
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
        """Number of dimensions of the plain target."""
        return self.ndim

    def numel(self) -> int:
        """Number of entries of the plain target."""
        return self.shape.numel()

    def __len__(self) -> int:
        """Number of rows."""
        return self.ids.shape[1]

    def __getitem__(self, rows: Any) -> MixedTarget:
        """Give some of the rows, by slice, index tensor or mask; an integer gives a target of one row."""
        if isinstance(rows, tuple):
            raise TypeError("a MixedTarget is indexed by its rows alone, as y[rows]")
        if isinstance(rows, int):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"row {rows} of a target of {len(self)} rows")
            rows = slice(rows, rows + 1 or None)
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
            self._refuse(f"conversion to {probe.dtype}")
        moves = {k: v for k, v in kwargs.items() if k in ("non_blocking", "copy")}
        if len(args) > 1 and isinstance(args[-1], bool):
            moves["non_blocking"] = args[-1]
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

    def view_as(self, other: Tensor | MixedTarget) -> MixedTarget:
        """Give itself where the shapes agree, so that `pred.eq(y.view_as(pred))` works for pred [n]."""
        if self.shape != other.shape:
            self._refuse(f"view_as {list(other.shape)}, a shape other than its own {list(self.shape)},")
        return self

    def _each(self, move: Callable[[Tensor], Tensor]) -> MixedTarget:
        return MixedTarget(move(self.ids), move(self.weight), self.smoothing)

    # -- what only a mixed target answers ----------------------------------------------------------------------------

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Give (y_a, y_b, lam) for a criterion of your own: ids [n, ...] twice, and float32 [n], the share of y_a.

        `lam * loss(out, y_a) + (1 - lam) * loss(out, y_b)`, with per-row losses, equals the loss on the mixed labels only
        where the loss is linear in the target.
        """
        if len(self.ids) > 2:
            raise ValueError(f"each row is a mix of {len(self.ids)} classes: take .ids and .weight")
        return self.ids[0], self.ids[-1], self.weight[0]

    def dense(self, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Give soft labels [n, num_classes, d1, ...], smoothing included; rows sum to 1 over the classes.

        Raises:
            ValueError: an id lies outside [0, num_classes), an ignored one too: dense labels cannot say "ignore".

        """
        if self.numel() and not (0 <= int(self.ids.min()) and int(self.ids.max()) < num_classes):
            raise ValueError(
                f"ids lie in [{int(self.ids.min())}, {int(self.ids.max())}], but dense labels of {num_classes} classes "
                f"hold 0 to {num_classes - 1}; ignored entries have no dense form"
            )
        soft = torch.zeros(len(self), num_classes, *self.shape[1:], dtype=dtype, device=self.device)
        for ids, weight in zip(self.ids, self.weight, strict=True):
            soft.scatter_add_(1, ids[:, None], _beside(weight.to(dtype), ids).expand(ids.shape)[:, None].contiguous())
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
        return self if smoothing == 0 else MixedTarget(self.ids, self.weight, _both(self.smoothing, smoothing))

    def hits(self, predicted: Tensor) -> Tensor:
        """Give float32 [n, d1, ...]: the share of the row's labels that `predicted` (ids of that shape) agrees with."""
        if predicted.shape != self.shape:
            raise ValueError(f"predictions {list(predicted.shape)} do not fit targets {list(self.shape)}")
        agree = predicted.to(self.device) == self.ids
        return (agree * _beside(self.weight, self.ids)).sum(0)

    def __eq__(self, other: object) -> Any:
        """Give the lambda-weighted hits, see `hits`."""
        return self.hits(other) if isinstance(other, Tensor) else NotImplemented

    def __ne__(self, other: object) -> Any:
        """Give the lambda-weighted misses, 1 - hits."""
        return 1 - self.hits(other) if isinstance(other, Tensor) else NotImplemented

    __hash__ = object.__hash__

    # -- PyTorch's protocol ------------------------------------------------------------------------------------------

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer the functions that have a meaning for mixed ids; refuse all others."""
        rule = _RULES.get(func)
        if rule is None:
            cls._refuse(getattr(func, "__name__", str(func)))
        return rule(*args, **(kwargs or {}))

    @staticmethod
    def _refuse(what: str) -> NoReturn:
        raise TypeError(
            f"{what} has no meaning for a MixedTarget, whose rows are weighted class ids. Losses: F.cross_entropy and "
            "F.nll_loss take it as it is; for another loss pass y.dense(num_classes) if it takes soft labels (BCE, KL, "
            "soft focal), or weight it by hand with y_a, y_b, lam = y.pairs(). Accuracy: (logits.argmax(1) == y)"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(Tensor, name):
            raise AttributeError(f"a MixedTarget has no {name!r}")
        try:
            self._refuse(f"Tensor.{name}")
        except TypeError as error:
            raise AttributeError(str(error)) from None


def _cross_entropy(
    input: Tensor,
    target: MixedTarget,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Give sum_k w_k * cross_entropy(input, ids_k): the paper's loss, linear in the label (section 2)."""
    _check(input, target, size_average, reduce, reduction, "logits")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing}")
    smoothing = _both(target.smoothing, label_smoothing)
    if _is_plain(target):
        ids = target.ids[0]
        return F.cross_entropy(input, ids, weight, None, ignore_index, None, reduction, smoothing)
    return _weighted_nll(F.log_softmax(input, 1), target, weight, ignore_index, reduction, smoothing)


def _nll_loss(
    input: Tensor,
    target: MixedTarget,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    _check(input, target, size_average, reduce, reduction, "log-probabilities")
    if _is_plain(target) and target.smoothing == 0:
        return F.nll_loss(input, target.ids[0], weight, None, ignore_index, None, reduction)
    return _weighted_nll(input, target, weight, ignore_index, reduction, target.smoothing)


def _is_plain(target: MixedTarget) -> bool:
    """Whether every row is wholly its own, so that PyTorch's own loss applies and gives its very bits.

    One id a row is always that. Of several, the shares say, read only where that costs no wait for an accelerator; the
    formula below agrees to rounding there.
    """
    if len(target.ids) == 1:
        return True
    if torch.compiler.is_compiling() or target.weight.device.type != "cpu":
        return False
    return bool((target.weight[0] == 1).all())


def _weighted_nll(
    log_p: Tensor, target: MixedTarget, weight: Tensor | None, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    """Weight the losses of the k ids of each entry.

    Entry i has the loss sum_k w_ik * c[y_ik] * nll(i, y_ik) over the ids that are not ignored, c being the class
    weights. "mean" divides the sum by sum_ik w_ik * c[y_ik], which for w = 1 is what PyTorch divides by.
    """
    dtype = log_p.dtype
    exact = torch.float64 if dtype == torch.float64 else torch.float32  # half precisions are weighted in float32
    rows = norm = kept = torch.zeros((), dtype=exact, device=log_p.device)
    for ids, share in zip(target.ids.unbind(), target.weight.to(exact).unbind(), strict=True):
        keep = ids != ignore_index
        w = _beside(share, ids) * keep
        loss = F.nll_loss(log_p, ids, weight=weight, ignore_index=ignore_index, reduction="none")
        rows = rows + _times(w, loss.to(exact))
        norm = norm + (w if weight is None else w * weight.to(exact)[ids * keep])
        kept = kept + w
    if smoothing > 0:
        by_class = log_p if weight is None else log_p * weight.view(-1, *(1,) * (log_p.ndim - 2))
        spread = _times(kept, -by_class.sum(1, dtype=exact))
        rows = (1 - smoothing) * rows + smoothing / log_p.shape[1] * spread
    if reduction == "none":
        return rows.to(dtype)
    return (rows.sum() if reduction == "sum" else rows.sum() / norm.sum()).to(dtype)


def _times(w: Tensor, loss: Tensor) -> Tensor:
    """Give w * loss, and 0 where w is 0 even if the loss is infinite (a class the model excludes, with no share)."""
    return torch.where(w == 0, torch.zeros_like(loss), w * loss)


def _beside(weight: Tensor, ids: Tensor) -> Tensor:
    """Give weight [..., n] the trailing dimensions of ids [..., n, d1, ...]."""
    return weight.reshape(*weight.shape, *(1,) * (ids.ndim - weight.ndim))


def _both(first: float, second: float) -> float:
    return 1 - (1 - first) * (1 - second) if first and second else first + second


def _check(
    input: Tensor, target: MixedTarget, size_average: bool | None, reduce: bool | None, reduction: str, what: str
) -> None:
    if size_average is not None or reduce is not None:
        raise ValueError("size_average and reduce are deprecated in PyTorch and not taken here: use reduction=")
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be one of {_REDUCTIONS}, got {reduction!r}")
    if isinstance(input, MixedTarget) or not isinstance(target, MixedTarget):
        MixedTarget._refuse("a loss whose first argument, the prediction, is one,")
    if input.ndim < 2 or (input.shape[0], *input.shape[2:]) != tuple(target.shape):
        raise ValueError(
            f"{what} {list(input.shape)} do not fit class ids {list(target.shape)}: [n, num_classes, d1, ...] goes with "
            "[n, d1, ...]. One-hot and multi-label targets are numbers: make them floating point before mixing"
        )


def _one_hot(target: MixedTarget, num_classes: int = -1) -> Tensor:
    if num_classes < 1:
        raise ValueError("F.one_hot of a MixedTarget needs num_classes: a batch need not hold every class")
    return target.dense(num_classes).movedim(1, -1)


def _eq(input: Any, other: Any) -> Tensor:
    return other.hits(input) if isinstance(other, MixedTarget) else input.hits(other)


def _ne(input: Any, other: Any) -> Tensor:
    return 1 - _eq(input, other)


_RULES: dict[Any, Callable[..., Any]] = {
    F.cross_entropy: _cross_entropy,
    F.nll_loss: _nll_loss,
    F.one_hot: _one_hot,
    torch.eq: _eq,
    Tensor.eq: _eq,
    Tensor.__eq__: _eq,
    torch.ne: _ne,
    Tensor.ne: _ne,
    Tensor.__ne__: _ne,
}
