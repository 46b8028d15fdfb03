"""Any loss on class indices, mixed: `losses.mixed(criterion)`.

`F.cross_entropy`, `F.nll_loss` and their modules take a MixedTarget as it is, by the rule of `_cross_entropy.py`. Any other
loss f gives sum_k share_k * f(ids_k), example by example, with the mean that f itself takes of plain class indices.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal import _cross_entropy
from vicinal._shapes import spread
from vicinal.target import MixedTarget

_REDUCTIONS = ("none", "mean", "sum")
_EXACT_MODULES = (nn.CrossEntropyLoss, nn.NLLLoss)  # whose rule is known
_EXACT_FUNCTIONS = (F.cross_entropy, F.nll_loss)


def mixed(criterion: Callable[..., Tensor]) -> Mixed:
    """Return a criterion that mixes any loss on class indices: sum over k of share_k * criterion(prediction, ids_k).

    A criterion with a reduction (an attribute or an argument of that name) is asked for the loss of each entry, which are
    mixed and then reduced as it reduces them itself: its mean divides by class weights and leaves out `ignore_index` where
    it does so for plain class indices. A criterion that returns one loss per row or entry is mixed likewise, and returns
    one. One that returns a single number for the batch (Dice, triplet, an ArcFace head with its loss) is mixed as a whole,
    where all rows have the same shares.

    Args:
        criterion: a module or function that takes predictions and class indices, in any order or by name.

    Convention:
        dimension 0: the rows of the batch, of predictions and targets alike.
        lambda: that of the target; the loss on each label is weighted by its share.
        one draw: nothing is drawn.

    Returns:
        A module that is called as criterion is. Plain class indices go to criterion unchanged.

    Examples:
        >>> import torch, torch.nn.functional as F
        >>> from vicinal import MixedTarget
        >>> def focal(logits, ids):
        ...     ce = F.cross_entropy(logits, ids, reduction="none")
        ...     return (1 - torch.exp(-ce)) ** 2 * ce
        >>> y = MixedTarget(torch.tensor([[0], [1]]), torch.tensor([[0.7], [0.3]]))
        >>> mixed(focal)(torch.tensor([[0.7, 0.3]]).log(), y)
        tensor([0.1995])

    """
    return Mixed(criterion)


class Mixed(nn.Module):
    """A criterion on class indices that takes a MixedTarget, made by `mixed`.

    The criterion is called once per class index of a row. At the first call it is called on plain class indices too, to
    find out what its mean divides by; again where a later batch could tell more, such as the first with ignored entries.

    Convention:
        dimension 0: the rows of the batch, of predictions and targets alike.
        lambda: that of the target; the loss on each label is weighted by its share.
        one draw: nothing is drawn.

    Args:
        criterion: as of `mixed`.

    Raises:
        TypeError: the criterion cannot be called.

    Examples:
        >>> import torch
        >>> from vicinal import MixedTarget
        >>> y = MixedTarget(torch.tensor([[0], [1]]), torch.tensor([[0.7], [0.3]]))
        >>> Mixed(nn.MultiMarginLoss())(torch.tensor([[1.0, 0.5]]), y)
        tensor(0.4000)

    """

    def __init__(self, criterion: Callable[..., Tensor]) -> None:
        super().__init__()
        if not callable(criterion):
            raise TypeError(f"a criterion is a module or a function, got {type(criterion).__name__}")
        self.criterion = criterion
        self._agreeing: list[_Divisor] | None = None  # with the criterion's own reduction, as far as is known

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the loss, reduced as the criterion reduces it.

        Raises:
            TypeError: there are several mixed targets, or the criterion does not return a tensor.
            ValueError: the criterion cannot be mixed, or takes a mean that it is not known how to take of mixed targets.

        """
        targets = [value for value in (*args, *kwargs.values()) if isinstance(value, MixedTarget)]
        if not targets:
            return self.criterion(*args, **kwargs)
        if len(targets) > 1:
            raise TypeError(f"mixed takes one MixedTarget, got {len(targets)}: mix the losses of several one by one")
        if type(self.criterion) in _EXACT_MODULES or any(self.criterion is f for f in _EXACT_FUNCTIONS):
            return self.criterion(*args, **kwargs)
        y = targets[0]
        if y.smoothing:
            raise ValueError(
                f"the target is smoothed by {y.smoothing:g}, and only cross-entropy knows how: leave LabelSmoothing out, "
                "and smooth in the criterion"
            )
        call = _Call(self.criterion, args, kwargs)
        if _cross_entropy._is_plain(y):
            return call(y.ids[0])
        losses = [call.each(ids) for ids in y.ids.unbind()]
        if losses[0].ndim == 0 < y.ndim:
            return _of_batch(losses, y)
        shares = _shares_like(losses[0], y)
        total = _sum_of_products(shares, losses)
        if call.reduction in (None, "none"):
            return total
        return total.sum() / self._divisor(call, y, shares, losses)

    def _divisor(self, call: _Call, y: MixedTarget, shares: Tensor, losses: list[Tensor]) -> Tensor:
        """Return what the sum is divided by, if the same rule gives the criterion's own value of plain class indices."""
        rules = self._agreeing
        if rules is None:
            rules = _Divisor.candidates(call, shares[0].shape == y.shape)
        values = [rule(y.ids, shares) for rule in rules]
        if self._agreeing is None or not all(torch.allclose(values[0], value, equal_nan=True) for value in values[1:]):
            self._agreeing = _agreeing(rules, call, y.ids, losses)
            values = [rule(y.ids, shares) for rule in self._agreeing]
        return values[0]


class _Call:
    """One call of a criterion, to be repeated with each of the class indices in place of the mixed target."""

    def __init__(self, criterion: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.criterion, self.args, self.kwargs = criterion, args, kwargs
        try:
            self.bound = inspect.signature(_function(criterion)).bind_partial(*args, **kwargs)
        except (
            TypeError,
            ValueError,
        ):  # a builtin without a signature, or a wrong call, of which the criterion will tell
            self.bound = None
        else:
            self.bound.apply_defaults()
        self.reduction = self.setting("reduction")
        if self.reduction not in (None, *_REDUCTIONS):
            raise ValueError(f"mixed takes criteria of reduction {_REDUCTIONS}, got {self.reduction!r}")

    def setting(self, name: str) -> Any:
        """Return an argument of the call or an attribute of the criterion; None if there is neither."""
        given = None if self.bound is None else self.bound.arguments.get(name)
        return getattr(self.criterion, name, None) if given is None else given

    def __call__(self, ids: Tensor) -> Tensor:
        """Return the criterion's own value of plain class indices."""
        return _tensor(self.criterion(*self._with(self.args, ids), **self._with(self.kwargs, ids)))

    def each(self, ids: Tensor) -> Tensor:
        """Return the losses of class indices before they are reduced; one number if the criterion has no others."""
        if self.reduction is None:
            return self(ids)
        if self.bound is not None and self.bound.arguments.get("reduction") is not None:
            self.bound.arguments["reduction"] = "none"
            return _tensor(self.criterion(*self._with(self.bound.args, ids), **self._with(self.bound.kwargs, ids)))
        unreduced: Any = copy.copy(self.criterion)
        unreduced.reduction = "none"
        try:
            return _tensor(unreduced(*self._with(self.args, ids), **self._with(self.kwargs, ids)))
        finally:
            given: Any = self.criterion
            if given.reduction != self.reduction:  # it is kept in a part that the copy shares, as by fastai's losses
                given.reduction = self.reduction

    @staticmethod
    def _with(values: Any, ids: Tensor) -> Any:
        if isinstance(values, dict):
            return {name: ids if isinstance(value, MixedTarget) else value for name, value in values.items()}
        return [ids if isinstance(value, MixedTarget) else value for value in values]


@dataclass(frozen=True)
class _Divisor:
    """A rule for what a reduction divides by: the class weights or the number of entries, of all or of those that count."""

    nothing: bool = False
    weight: Tensor | None = None
    ignore_index: int | None = None

    @staticmethod
    def candidates(call: _Call, of_entries: bool) -> list[_Divisor]:
        """Return the rules that a criterion may follow, the most usual first."""
        if call.reduction == "sum":
            return [_Divisor(nothing=True)]
        weight, ignored = call.setting("weight"), call.setting("ignore_index")
        weight = weight if isinstance(weight, Tensor) and weight.ndim == 1 else None
        ignored = ignored if isinstance(ignored, int) else -100  # as PyTorch has it where nothing is said
        if not of_entries:
            return [_Divisor()]
        rules = [_Divisor(ignore_index=ignored), _Divisor()]
        return rules if weight is None else [_Divisor(weight=weight, ignore_index=ignored), *rules]

    def __call__(self, ids: Tensor, shares: Tensor) -> Tensor:
        """Return the divisor of class indices [k, ...] with shares [k, ...]."""
        if self.nothing:
            return shares.new_ones(())
        if self.ignore_index is not None:
            keep = ids != self.ignore_index
            ids, shares = ids * keep, shares * keep
        return (shares if self.weight is None else shares * self.weight.to(shares.dtype)[ids]).sum()


def _agreeing(rules: list[_Divisor], call: _Call, ids: Tensor, losses: list[Tensor]) -> list[_Divisor]:
    """Return the rules by which the losses of plain class indices come to the criterion's own value."""
    with torch.no_grad():
        for own_ids, each in zip(ids, losses, strict=True):
            own, total, ones = call(own_ids), each.sum(), torch.ones_like(each, dtype=torch.float32)
            tolerance = 1e-4 if each.dtype in (torch.float32, torch.float64) else 2e-2
            values = [total / rule(own_ids, ones) for rule in rules]
            rules = [
                rule
                for rule, value in zip(rules, values, strict=True)
                if torch.allclose(value.double(), own.double(), rtol=tolerance, atol=1e-6, equal_nan=True)
            ]
            if not rules:
                raise ValueError(
                    f"the {call.reduction} of this criterion on plain class indices is {float(own):.6g}, but its losses "
                    f"come to {float(values[0]):.6g}: use reduction='none' and reduce the mixed losses yourself"
                )
    return rules


def _function(criterion: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the function that a call of the criterion ends in; an object may claim the signature of another."""
    if isinstance(criterion, nn.Module):
        return criterion.forward
    return criterion if inspect.isroutine(criterion) or isinstance(criterion, partial) else criterion.__call__


def _tensor(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor):
        raise TypeError(
            f"a criterion returns a tensor of losses, got {type(loss).__name__}: wrap it in a function that does"
        )
    return loss


def _shares_like(losses: Tensor, y: MixedTarget) -> Tensor:
    """Return the shares [k, ...] of losses per entry or per row, which may end in dimensions of size 1."""
    for shape, shares in ((y.shape, spread(y.weight, y.ids)), (y.shape[:1], y.weight)):
        fits = losses.shape[: len(shape)] == shape and set(losses.shape[len(shape) :]) <= {1}
        if fits and shares.shape[1:] == shape:
            return shares.reshape(len(shares), *losses.shape)
    raise ValueError(
        f"the criterion returns losses {list(losses.shape)} of targets {list(y.shape)}: it must return one per entry, one "
        "per row, or one for the batch"
    )


def _sum_of_products(shares: Tensor, losses: list[Tensor]) -> Tensor:
    products = [_cross_entropy.mul_or_zero(share, loss) for share, loss in zip(shares, losses, strict=True)]
    return torch.stack(products).sum(0)


def _of_batch(losses: list[Tensor], y: MixedTarget) -> Tensor:
    """Mix losses of the whole batch, which is right where all rows have the same shares."""
    by_row = y.weight.flatten(1)
    shares = by_row[:, 0]
    if not bool((by_row == by_row[:, :1]).all()) or abs(float(shares.detach().sum()) - 1) > 1e-3:
        raise ValueError(
            "the criterion returns one number for the batch, which is mixed only where all rows have the same shares: draw "
            "one lambda per batch, or let it return one loss per row"
        )
    return _sum_of_products(shares, losses)
