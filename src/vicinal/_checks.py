"""Checks of arguments that several modules ask for."""

from __future__ import annotations

import math
import numbers
from typing import Literal

Per = Literal["batch", "example"]


def check_number(name: str, value: object) -> None:
    """Refuse what is not a real number, of Python or numpy."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")


def check_count(name: str, value: object, least: int, what: str) -> None:
    """Refuse what is not an integer, or too small; `what` says what it counts."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} counts {what} and must be an integer >= {least}, got {value!r}")


def check_alpha(alpha: float) -> None:
    """Refuse an alpha that no Beta or Dirichlet has."""
    check_number("alpha", alpha)
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha must be a finite number > 0, got {alpha}; for no mixing use ERM()")


def check_per(per: str) -> None:
    """Refuse anything but 'batch' and 'example'."""
    if per not in ("batch", "example"):
        raise ValueError(f"per must be 'batch' (one draw for the whole batch) or 'example', got {per!r}")


def check_epoch(epoch: object) -> None:
    """Refuse what is not the number of an epoch, an integer >= 0."""
    if not is_count(epoch):
        raise ValueError(f"epochs are integers and count from 0, got {epoch!r}")


def is_count(value: object) -> bool:
    """Return whether a value is an integer >= 0, of Python or numpy."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and 0 <= int(value) < 2**63
