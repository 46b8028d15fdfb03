"""Losses alone: of mixed labels, is it the mixture of the losses, and at lambda = 1 the loss?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vicinal.checking.recorder import LossCall, Recorder
from vicinal.checking.report import Fault
from vicinal.checking.targets import CannotCheck
from vicinal.keyed import Key
from vicinal.losses import Mixed
from vicinal.target import MixedTarget

_ROWS = 6
_LAM = 0.3
_NOT_TAKEN = (TypeError, ValueError, RuntimeError, IndexError, AttributeError, AssertionError, KeyError)
_WIDTHS = (5, 4, 3, 6, 7, 8, 9, 10, 2, 12, 16, 20, 100, 1000)

Criterion = Callable[[Tensor, Any], Any]


def classes_of(criterion: Criterion) -> int:
    """Return a number of classes that a loss takes, which class weights may set.

    Raises:
        CannotCheck: it takes none of those tried.

    """
    failed: Exception | None = None
    for classes in _WIDTHS:
        try:
            _slope(criterion, torch.zeros(_ROWS, classes), torch.arange(_ROWS) % classes)
        except _NOT_TAKEN as error:
            failed = failed or error
            continue
        return classes
    raise CannotCheck(
        f"the loss failed on logits [{_ROWS}, 5] and class indices ({failed}): give an example (logits, y)"
    )


def findings(criterion: Criterion, classes: int, ignored: int | None = None) -> Iterator[Fault]:
    """Return what is wrong with a loss of mixed labels, in each form of them that it takes.

    Args:
        criterion: of logits [n, classes] and class indices [n].
        classes: how many.
        ignored: the label that it ignores, where an example shows one.

    """
    logits = torch.from_numpy(Key(3, 0, 0, 0).generator().standard_normal((_ROWS, classes))).float()
    a, b = _pairs(criterion, classes)
    first, second = _slope(criterion, logits, a), _slope(criterion, logits, b)
    plain_calls = _calls(criterion, logits, a)
    weighted = any(call.weight is not None for call in plain_calls)
    for form, mixed in forms(a, b, classes).items():
        if isinstance(criterion, Mixed) and form != "a MixedTarget":
            continue  # what it is made for
        try:
            loss, slope = _slope(criterion, logits, mixed(_LAM))
            alone, _ = _slope(criterion, logits, mixed(1.0))
            calls = _calls(criterion, logits, mixed(_LAM))
        except _NOT_TAKEN:  # it does not take this form, loudly
            continue
        same = abs(alone - first[0]) <= 1e-4 * max(1.0, abs(first[0]))
        if _is_binary(calls) and not _is_binary(plain_calls):
            yield Fault(
                "VIC053",
                f"{form}: binary cross-entropy, {alone:.4f} at lambda = 1; of class indices cross-entropy, {first[0]:.4f}.",
            )
        elif not same:
            yield Fault(
                "VIC051" if weighted else "VIC050",
                f"{form}: at lambda = 1 the loss is {alone:.4f}, of class indices {first[0]:.4f}.",
            )
        elif (off := _off(slope, first[1], second[1])) > 0.02:
            wanted = _LAM * first[0] + (1 - _LAM) * second[0]
            yield Fault(
                "VIC050",
                f"{form}: at lambda = {_LAM} the loss is {loss:.4f}, where the mixture of both losses is {wanted:.4f}; "
                f"slopes differ by {100 * off:.0f} %.",
            )
    yield from _ignored(criterion, logits, a, ignored)
    yield from _sizes(criterion, logits, a)


def _off(slope: Tensor, first: Tensor, second: Tensor) -> float:
    """Return how far the slope of a mixture is from the mixture of slopes, as far as the sizes of both are free.

    A weighted mean divides by other sums for both labels, which is one factor each for all rows.
    """
    parts = torch.stack([first.reshape(-1), second.reshape(-1)], 1).double()
    exact = parts @ torch.tensor([_LAM, 1 - _LAM], dtype=torch.float64)
    size = float(exact.abs().max()) or 1.0
    target = slope.reshape(-1).double()
    exactly = float((target - exact).abs().max()) / size
    free = torch.linalg.lstsq(parts, target[:, None]).solution
    freely = float((target - (parts @ free)[:, 0]).abs().max()) / size
    return min(exactly, freely) if bool((free > 0.02).all()) else exactly


def _calls(criterion: Criterion, logits: Tensor, target: Any) -> list[LossCall]:
    with Recorder().recording_of() as recording:
        _slope(criterion, logits, target)
    return recording.losses


def _is_binary(calls: list[LossCall]) -> bool:
    return any(call.name.startswith("binary_cross_entropy") for call in calls)


def _pairs(criterion: Criterion, classes: int) -> tuple[Tensor, Tensor]:
    """Return two labels for each row, none of them one that the loss ignores."""
    counted = [c for c in range(classes) if c != getattr(criterion, "ignore_index", None)]
    first, second = torch.arange(_ROWS) % len(counted), (torch.arange(_ROWS) * 2 + 1) % len(counted)
    return torch.tensor(counted)[first], torch.tensor(counted)[second]


def takes(criterion: Criterion, classes: int) -> list[str]:
    """Return the forms of mixed labels that a loss takes without an error."""
    logits = torch.zeros(_ROWS, classes)
    a, b = torch.arange(_ROWS) % classes, (torch.arange(_ROWS) * 2 + 1) % classes
    taken = []
    for form, mixed in forms(a, b, classes).items():
        try:
            _slope(criterion, logits, mixed(_LAM))
        except _NOT_TAKEN:
            continue
        taken.append(form)
    return taken


def forms(a: Tensor, b: Tensor, classes: int) -> dict[str, Callable[[float], Any]]:
    """Return the forms of mixed labels, each as a function of lambda."""

    def dense(lam: float) -> Tensor:
        eye = torch.eye(classes)
        return lam * eye[a] + (1 - lam) * eye[b]

    def mixed(lam: float) -> MixedTarget:
        return MixedTarget(torch.stack([a, b]), torch.tensor([lam, 1 - lam])[:, None].expand(2, len(a)).clone())

    return {"dense labels": dense, "a MixedTarget": mixed, "(y_a, y_b, lambda)": lambda lam: (a, b, lam)}


def _slope(criterion: Criterion, logits: Tensor, target: Any) -> tuple[float, Tensor]:
    z = logits.clone().requires_grad_()
    loss = criterion(z, target)
    total = loss if loss.ndim == 0 else loss.mean()
    (grad,) = torch.autograd.grad(total, z)
    return float(total.detach()), grad


def _ignored(criterion: Any, logits: Tensor, a: Tensor, shown: int | None) -> Iterator[Fault]:
    """Compare the loss of a mixture of ignored and counted labels with that of class indices."""
    ignore = getattr(criterion, "ignore_index", None) if shown is None else shown
    if not isinstance(ignore, int):
        return
    target = a.clone()
    target[::2] = ignore
    weight = torch.full((2, len(a)), 0.5)
    plain, _ = _slope(criterion, logits, target)
    for form, mixed in (
        ("a MixedTarget", MixedTarget(torch.stack([target, target]), weight)),
        ("(y_a, y_b, lambda)", (target, target, 0.5)),
        *([("dense labels", _rows_of_zeros(target, ignore, logits.shape[1]))] if shown is not None else []),
    ):
        try:
            loss, _ = _slope(criterion, logits, mixed)
        except _NOT_TAKEN:
            continue
        if abs(loss - plain) > 1e-3 * max(1.0, abs(plain)):
            yield Fault(
                "VIC052",
                f"{form}: with half of the labels ignored the loss is {loss:.4f}, of class indices {plain:.4f}.",
            )


def _rows_of_zeros(target: Tensor, ignore: int, classes: int) -> Tensor:
    """Return class indices as dense labels, with a row of zeros for each that is ignored."""
    counted = target != ignore
    dense = torch.zeros(len(target), classes)
    dense[counted, target[counted]] = 1
    return dense


def _sizes(criterion: Criterion, logits: Tensor, a: Tensor) -> Iterator[Fault]:
    """Return whether plain class indices of some batch size are taken for something else, as three for a triple."""
    whole = _slope(criterion, logits, a)[0]
    for n in (1, 2, 3):
        try:
            twice = torch.arange(n).repeat(2)
            loss, doubled = _slope(criterion, logits[:n], a[:n])[0], _slope(criterion, logits[twice], a[twice])[0]
        except _NOT_TAKEN as error:
            yield Fault(
                "VIC036",
                f"a batch of {n} with class indices: {type(error).__name__}: {str(error).splitlines()[0][:120]}",
            )
            return
        # a mean does not change when each row is there twice, a sum doubles
        if min(abs(doubled - loss), abs(doubled - 2 * loss)) > 1e-4 * max(1.0, abs(whole)):
            yield Fault("VIC036", f"the loss of {n} rows is {loss:.4f}, and of the same rows twice {doubled:.4f}.")
            return
