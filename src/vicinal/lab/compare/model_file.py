"""The file of a trained model: tensors and plain JSON values in safetensors, with a format and a checksum."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from vicinal.lab import atomic, limits, records, stored
from vicinal.lab.errors import UserError
from vicinal.lab.format import quoted

FORMAT = 2  # 1 has no checksum, and is still read
_KEY = "vicinal"  # in the metadata, which safetensors writes in any order: one is always the same
_TENSORS = "tensors"  # field of the header: SHA-256 of their names, types, shapes and bytes
_LENGTH = 8  # bytes that say how long the header is

_READERS = {"table": "vicinal.lab.compare.predictor.Predictor", "images": "vicinal.lab.compare.classifier.Classifier"}
_READERS["audio"] = _READERS["images"]


def write(path: str | os.PathLike[str], model: nn.Module, header: Mapping[str, Any]) -> None:
    """Write a model's state and what else is needed to use it, plain JSON values; whole or not at all."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    text = stored.seal(records.to_json({**header, _TENSORS: digest(state)}), FORMAT)
    atomic.write(Path(path), save(state, metadata={_KEY: text}))


def read(path: str | os.PathLike[str], *kinds: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a file that `write` wrote, for one of some kinds of data; no code in it is run.

    Returns:
        The header without its format, and the tensors.

    Raises:
        UserError: there is no such file, or it is not a model of this format for such data, or not what was written.

    """
    name = repr(os.fspath(path))
    state, metadata = _tensors(Path(path), name)
    try:
        header = stored.parse(metadata[_KEY])
    except (KeyError, stored.Unsealed):
        header = None
    found = header.get("format") if isinstance(header, dict) else None
    if not isinstance(header, dict) or type(found) is not int or not 1 <= found <= FORMAT:
        raise UserError(
            f"{name} holds no predictor of format {FORMAT} (found {_short(found)}); train it again with vicinal compare"
        )
    if found == FORMAT:
        try:
            header = stored.unseal(metadata[_KEY], FORMAT)
        except stored.Unsealed as error:
            raise damaged(path, error) from error
        if header.pop(_TENSORS, None) != digest(state):
            raise damaged(path, "its tensors are not as they were written: their checksum does not fit")
    else:
        del header["format"]
    kind = header.get("kind", "table")
    if kind not in kinds:
        reader = _READERS.get(kind, "vicinal") if isinstance(kind, str) else "vicinal"
        raise UserError(f"{name} holds a model for {_short(kind)}; load it with {reader}")
    return header, state


def kind_of(path: str | os.PathLike[str]) -> str:
    """Return "table", "images" or "audio": what a file that `write` wrote is for.

    Raises:
        UserError: as of `read`.

    """
    header, _ = read(path, *_READERS)
    return header.get("kind", "table")


def damaged(path: str | os.PathLike[str], why: object) -> UserError:
    """Return the error for a header and a state that do not make a model."""
    reason = " ".join(str(why).split())[:200]
    return UserError(f"{os.fspath(path)!r} is damaged ({reason}); train it again with vicinal compare")


def check_state(path: str | os.PathLike[str], state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not those of a model, and weights that are not finite numbers.

    Args:
        path: of the file.
        state: what it holds.
        expected: tensors of the names, shapes and types of the model's state, on any device.

    """
    if odd := sorted(state.keys() ^ expected.keys()):
        where = "lacks" if odd[0] in expected else "has a further"
        raise damaged(path, f"it {where} tensor {odd[0][:60]!r}")
    for name, tensor in sorted(state.items()):
        wanted = expected[name]
        if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
            found, should = (f"{list(one.shape)} of {str(one.dtype)[6:]}" for one in (tensor, wanted))
            raise damaged(path, f"tensor {name!r} is {found}, and must be {should}")
    if bad := [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]:
        raise UserError(
            f"{os.fspath(path)!r} has weights that are no finite numbers ({quoted(bad, 2)}): its training diverged; train "
            "it again, with a smaller --learning-rate"
        )


def _tensors(path: Path, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a safetensors file, whose sizes are checked against its bytes before they are used."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{name} is not a whole safetensors file: it is a folder or a device")
        content = limits.read_bytes(path)
        state = load(content)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {name}") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{name} is not a whole safetensors file: {' '.join(str(error).split())[:200]}") from error
    except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise damaged(path, "it has a tensor of a type or size that PyTorch does not have") from error
    size = int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(content[_LENGTH : _LENGTH + size])  # as safetensors read it
    return state, header.get("__metadata__") or {}


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of tensors."""
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, Sequence) or isinstance(value, str) else "a list"
    return text if len(text) <= 40 else f"{text[:40]}..."
