"""Checks of arguments that several modules ask for."""

from __future__ import annotations

import math
import numbers
from typing import Literal

import numpy as np
from torch import Tensor

Per = Literal["batch", "example"]

_ALPHAS = 1e-300, 1e300
_SHOWN = 60  # characters of a value in a sentence


def shown(value: object) -> str:
    """Return a value of any kind for a sentence: short, on one line, and without control characters."""
    if isinstance(value, Tensor):
        return f"a tensor {value.dtype} {list(value.shape)}"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, float, complex)):
        return repr(value)
    if isinstance(value, (str, bytes)):
        return repr(value if len(value) <= _SHOWN else value[:_SHOWN]) + ("" if len(value) <= _SHOWN else "...")
    if isinstance(value, np.number):
        return repr(value.item())
    if isinstance(value, (list, tuple)) and len(value) <= 8 and all(type(v) in (int, float, bool) for v in value):
        return "[" + ", ".join(map(shown, value)) + "]"
    held = f" of {len(value)}" if isinstance(value, (list, tuple, dict, set, frozenset)) else ""
    return f"a {type(value).__name__}{held}"


def check_number(name: str, value: object) -> None:
    """Refuse what is not a real number, of Python or numpy."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")


def is_finite(value: float) -> bool:
    """Return whether a number is finite as a float; integers may be too large for one."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def check_count(name: str, value: object, least: int, what: str) -> None:
    """Refuse what is not an integer, or too small; `what` says what it counts."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} counts {what} and must be an integer >= {least}, got {shown(value)}")


def check_alpha(alpha: float) -> None:
    """Refuse an alpha that no Beta or Dirichlet has."""
    check_number("alpha", alpha)
    if not (alpha > 0 and is_finite(alpha)):
        raise ValueError(f"alpha must be a finite number > 0, got {shown(alpha)}; for no mixing use ERM()")
    least, most = _ALPHAS
    if not least <= float(alpha) <= most:  # sums or inverses of others overflow, and NumPy's draws are not theirs
        raise ValueError(
            f"alpha must lie in [{least:g}, {most:g}], at whose ends rows stay whole or are halved, got {shown(alpha)}"
        )


def check_per(per: str) -> None:
    """Refuse anything but 'batch' and 'example'."""
    if per not in ("batch", "example"):
        raise ValueError(f"per must be 'batch' (one draw for the whole batch) or 'example', got {per!r}")


def check_epoch(epoch: object) -> None:
    """Refuse what is not the number of an epoch, an integer >= 0."""
    if not is_count(epoch):
        raise ValueError(f"epochs are integers and count from 0, got {shown(epoch)}")


def is_count(value: object) -> bool:
    """Return whether a value is an integer >= 0, of Python or numpy."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and 0 <= int(value) < 2**63
