"""Losses alone: of mixed labels, is it the mixture of the losses, and at lambda = 1 the loss?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from vicinal.checking.report import Fault
from vicinal.keyed import Key
from vicinal.losses import Mixed
from vicinal.target import MixedTarget

_ROWS = 6
_LAM = 0.3


def findings(criterion: Callable[..., Any], classes: int) -> Iterator[Fault]:
    """Return what is wrong with a loss of mixed labels, in each form of them that it takes.

    Args:
        criterion: of logits [n, classes] and class indices [n].
        classes: how many.

    """
    logits = torch.from_numpy(Key(3, 0, 0, 0).generator().standard_normal((_ROWS, classes))).float()
    a, b = torch.arange(_ROWS) % classes, (torch.arange(_ROWS) * 2 + 1) % classes
    first, second = _slope(criterion, logits, a), _slope(criterion, logits, b)
    right = _LAM * first[1] + (1 - _LAM) * second[1]
    size = float(right.abs().max()) or 1.0
    for form, mixed in forms(a, b, classes).items():
        if isinstance(criterion, Mixed) and form != "a MixedTarget":
            continue  # what it is made for
        try:
            loss, slope = _slope(criterion, logits, mixed(_LAM))
            alone, _ = _slope(criterion, logits, mixed(1.0))
        except (TypeError, ValueError, RuntimeError, IndexError):  # it does not take this form, loudly
            continue
        off = float((slope - right).abs().max()) / size
        same = abs(alone - first[0]) <= 1e-4 * max(1.0, abs(first[0]))
        weighted = _weights(criterion) is not None
        wanted = _LAM * first[0] + (1 - _LAM) * second[0]
        if not same:
            yield Fault(
                "VIC051" if weighted else "VIC050",
                f"{form}: at lambda = 1 the loss is {alone:.4f}, of class indices {first[0]:.4f}.",
            )
        elif off > 0.02 and not weighted:
            yield Fault(
                "VIC050",
                f"{form}: at lambda = {_LAM} the loss is {loss:.4f} and the mixture of both losses {wanted:.4f}; slopes differ by "
                f"{100 * off:.0f} %.",
            )
    yield from _ignored(criterion, logits, a, classes)


def takes(criterion: Callable[..., Any], classes: int) -> list[str]:
    """Return the forms of mixed labels that a loss takes without an error."""
    logits = torch.zeros(_ROWS, classes)
    a, b = torch.arange(_ROWS) % classes, (torch.arange(_ROWS) * 2 + 1) % classes
    taken = []
    for form, mixed in forms(a, b, classes).items():
        try:
            _slope(criterion, logits, mixed(_LAM))
        except (TypeError, ValueError, RuntimeError, IndexError):
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

    return {"dense labels": dense, "a MixedTarget": mixed}


def _slope(criterion: Callable[..., Any], logits: Tensor, target: Any) -> tuple[float, Tensor]:
    z = logits.clone().requires_grad_()
    loss = criterion(z, target)
    total = loss if loss.ndim == 0 else loss.mean()
    (grad,) = torch.autograd.grad(total, z)
    return float(total.detach()), grad


def _weights(criterion: Any) -> Tensor | None:
    weight = getattr(criterion, "weight", None)
    return weight if isinstance(weight, Tensor) and weight.numel() > 1 else None


def _ignored(criterion: Any, logits: Tensor, a: Tensor, classes: int) -> Iterator[Fault]:
    ignore = getattr(criterion, "ignore_index", None)
    if not isinstance(ignore, int):
        return
    target = a.clone()
    target[::2] = ignore
    weight = torch.full((2, len(a)), 0.5)
    plain, _ = _slope(criterion, logits, target)
    try:
        loss, _ = _slope(criterion, logits, MixedTarget(torch.stack([target, target]), weight))
    except (TypeError, ValueError, RuntimeError, IndexError):
        return
    if abs(loss - plain) > 1e-3 * max(1.0, abs(plain)):
        yield Fault(
            "VIC052",
            f"with half of the labels ignored the loss of a mixed target is {loss:.4f}, of class indices {plain:.4f}.",
        )
