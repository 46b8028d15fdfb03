"""Checkpoints: written atomically, checked when they are read, and read by nothing that could run code.

A checkpoint is one file: a line that names its format, 32 bytes of SHA-256 of the rest, and the rest: tensors as
safetensors holds them, and a record of plain values. The last two are kept. Where the newest is damaged, the one before it
is used, with a warning. One that is whole, and yet not a state of the run, did not come about by accident: it is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.numpy
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from vicinal.lab import atomic, limits, records, stored
from vicinal.lab.errors import UserError

FORMAT = 3  # it goes up when names or meanings change
ADVICE = "remove it, and rerun the command to resume from the checkpoint before it, or from the start"

_NAME = re.compile(r"step-(\d{10})\.ckpt")
_MAGIC = re.compile(rb"vicinal checkpoint (\d{1,9})\n")
_WITHOUT_MAGIC = 2  # the last format whose files began with the checksum
_DIGEST = 32
_KEPT = 2
_LONGEST_STRIDE = 2**62
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128, torch.bool),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    )
}


class Saved(NamedTuple):
    """What a checkpoint holds: plain values as JSON has them, and tensors by name."""

    record: dict[str, Any]
    tensors: dict[str, Tensor]


class File(NamedTuple):
    """A checkpoint whose checksum fits."""

    path: str
    content: bytes  # without what stands before it


def save(folder: Path, step: int, state: Saved) -> Path:
    """Write the checkpoint of a step, then remove all but the last two."""
    content = _dump(state)
    path = folder / f"step-{step:010d}.ckpt"
    atomic.write(path, b"vicinal checkpoint %d\n" % FORMAT + hashlib.sha256(content).digest() + content)
    for old in _all(folder)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return path


def read_last(folder: Path) -> File | None:
    """Return the newest whole checkpoint; None where there is none. Damaged ones are named in a warning.

    Raises:
        UserError: it is of another version, or cannot be read.

    """
    paths = _all(folder)
    for left, path in reversed(list(enumerate(paths))):
        try:
            content = limits.read_bytes(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({(error.strerror or str(error)).lower()}): {ADVICE}") from error
        form, content = _opened(content)
        if form == FORMAT:
            return File(str(path), content)
        if form:
            raise UserError(
                f"{path} has format {form}, of another version of vicinal, and this one reads format {FORMAT}: go on "
                "with that version, or remove it to start anew"
            )
        instead = "the one before it is used" if left else "there is no other, so the run starts anew"
        warnings.warn(f"the checkpoint {path} is damaged and left out; {instead}", stacklevel=2)
    return None


def load(file: File) -> Saved:
    """Return what a checkpoint holds.

    Raises:
        UserError: its checksum fits, but it was not written by `save`.

    """
    try:
        return _parse(file.content)
    except stored.Unsealed as error:
        raise unfit(file.path, str(error)) from error


def load_last(folder: Path) -> Saved | None:
    """Return the state of the newest whole checkpoint; None where there is none."""
    file = read_last(folder)
    return None if file is None else load(file)


def unfit(path: str, reason: str) -> UserError:
    """Return the error about a checkpoint that is whole, but no state of the run that it is read for."""
    return UserError(f"{path} is not a checkpoint of this run: {reason}; {ADVICE}")


def check_fits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Compare names, types and shapes of tensors with those that are needed.

    Raises:
        records.Mismatch: they differ.

    """
    if lacking := wanted.keys() - found.keys():
        raise records.Mismatch(f"it lacks the tensor {min(lacking)!r}")
    if odd := found.keys() - wanted.keys():
        raise records.Mismatch(f"it has a tensor {_shown(min(odd))} that it should not have")
    for name, tensor in wanted.items():
        is_, must = found[name], tensor
        if is_.dtype != must.dtype or is_.shape != must.shape:
            raise records.Mismatch(f"{name!r} must be {_kind(must)}, found {_kind(is_)}")


def remove_all(folder: Path) -> None:
    """Remove the checkpoints of a run that is done."""
    for path in _all(folder):
        path.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what a process left that was killed while it wrote a file."""
    for path in folder.iterdir():
        if atomic.is_partial(path):
            path.unlink(missing_ok=True)


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _opened(content: bytes) -> tuple[int, bytes]:
    """Return the format of a checkpoint, 0 where it is damaged, and what follows its checksum."""
    found = _MAGIC.match(content)
    if found is None:  # the first formats began with the checksum
        old = hashlib.sha256(memoryview(content)[_DIGEST:]).digest() == content[:_DIGEST]
        return (_WITHOUT_MAGIC if old else 0), b""
    rest = memoryview(content)[found.end() :]
    whole = hashlib.sha256(rest[_DIGEST:]).digest() == rest[:_DIGEST]
    return (int(found[1]) if whole else 0), bytes(rest[_DIGEST:])


# -- tensors and plain values as bytes ---------------------------------------------------------------------------------


def _dump(state: Saved) -> bytes:
    """Return a state as bytes: each tensor as its bytes, in the order in which they lie in memory."""
    layout, raw = {}, {}
    for name, value in state.tensors.items():
        tensor = value.detach().cpu()
        if not _is_dense(tensor.shape, tensor.stride()):
            tensor = tensor.contiguous()
        layout[name] = [str(tensor.dtype).removeprefix("torch."), [*tensor.shape], [*tensor.stride()]]
        raw[name] = tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy()
    about = json.dumps({"record": state.record, "layout": layout}, allow_nan=False)
    return safetensors.numpy.save(raw, metadata={"vicinal": about})


def _parse(content: bytes) -> Saved:
    try:
        raw = safetensors.torch.load(content)
        about = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["vicinal"]
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError, RuntimeError) as error:
        raise stored.Unsealed("it holds no tensors and values as they are written") from error
    whole = stored.parse(about)
    if not isinstance(whole, dict) or whole.keys() != {"record", "layout"}:
        raise stored.Unsealed("it holds no record and layout")
    record, layout = whole["record"], whole["layout"]
    if not isinstance(record, dict) or not isinstance(layout, dict) or layout.keys() != raw.keys():
        raise stored.Unsealed("its layout is not that of its tensors")
    return Saved(record, {name: _laid_out(name, values, layout[name]) for name, values in raw.items()})


def _laid_out(name: str, raw: Tensor, layout: Any) -> Tensor:
    """Return the tensor whose bytes [n] are `raw`."""
    try:
        kind, shape, stride = records.from_json(tuple[str, list[int], list[int]], layout, "layout")
        dtype = _DTYPES[kind]
        in_range = all(0 <= n < _LONGEST_STRIDE for n in (*shape, *stride)) and len(shape) == len(stride) <= 64
        if raw.dtype != torch.uint8 or raw.ndim != 1 or not in_range or not _is_dense(shape, stride):
            raise ValueError("not dense")
        if dtype == torch.bool and bool((raw > 1).any()):
            raise ValueError("not booleans")
        if len(raw) != _numel(shape) * dtype.itemsize:
            raise ValueError("of another length")
        return raw.view(dtype).as_strided(shape, stride).clone() if len(raw) else torch.empty(shape, dtype=dtype)
    except (records.Mismatch, KeyError, ValueError, RuntimeError, OverflowError) as error:
        raise stored.Unsealed(
            f"its tensor {_shown(name)} is not as long as its shape says, or of no known type"
        ) from error


def _is_dense(shape: Any, stride: Any) -> bool:
    """Return whether elements lie in memory without gaps and overlaps, in whatever order of the dimensions."""
    if not _numel(shape):
        return True
    expected = 1
    for step, size in sorted((step, size) for size, step in zip(shape, stride, strict=True) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True


def _numel(shape: Any) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {[*tensor.shape]}"


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:80]}...")
