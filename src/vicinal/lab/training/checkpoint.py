"""Checkpoints: written atomically, checked when they are read, and loaded without running code.

A checkpoint is one file: 32 bytes of SHA-256, then what `torch.save` wrote. The last two are kept; where the newest is
damaged, the one before it is used, with a warning.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from vicinal.lab import atomic

_NAME = re.compile(r"step-(\d{10})\.ckpt")
_DIGEST = 32
_KEPT = 2


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write the checkpoint of a step, then remove all but the last two."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    path = folder / f"step-{step:010d}.ckpt"
    atomic.write(path, hashlib.sha256(content).digest() + bytes(content))
    for old in _all(folder)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return path


def read_last(folder: Path) -> bytes | None:
    """Return the bytes of the newest whole checkpoint; None where there is none. Damaged ones are named in a warning."""
    for path in reversed(_all(folder)):
        content = path.read_bytes()
        if hashlib.sha256(memoryview(content)[_DIGEST:]).digest() == content[:_DIGEST]:
            return content[_DIGEST:]
        warnings.warn(f"the checkpoint {path.name} is damaged and left out; the one before it is used", stacklevel=2)
    return None


def load(content: bytes, map_location: Any = "cpu") -> dict[str, Any]:
    """Return the state in the bytes of a checkpoint without running code."""
    return torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)


def load_last(folder: Path, map_location: Any = "cpu") -> dict[str, Any] | None:
    """Return the state of the newest whole checkpoint; None where there is none."""
    content = read_last(folder)
    return None if content is None else load(content, map_location)


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def remove_all(folder: Path) -> None:
    """Remove the checkpoints of a run that is done."""
    for path in _all(folder):
        path.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote a file."""
    for path in folder.iterdir():
        if atomic.is_partial(path):
            path.unlink(missing_ok=True)
