"""Warnings that name the user's line, the first outside of this library."""

from __future__ import annotations

import sys
import warnings

_TOLD: set[str] = set()  # what is said once in a process


def warn(message: str) -> None:
    """Warn at the line that called into this library."""
    frame, level = sys._getframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "vicinal":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def warn_once(what: str, message: str) -> None:
    """Warn, unless this process was told of `what` before."""
    if what not in _TOLD:
        _TOLD.add(what)
        warn(message)
