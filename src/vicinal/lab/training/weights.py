"""The weights of a finished run: a file for `torch.load(weights_only=True)`, read here by less than that.

`torch.load` would build whatever tensors a pickle describes, of any layout and of sizes that its bytes do not have. What
`torch.save` writes of a state_dict takes a few instructions and calls three things; only these are followed here, and a
tensor is as large as its bytes.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vicinal.lab.training import checkpoint

_REFUSED = "it is not what torch.save writes of a state_dict"
_STORAGES = {
    "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16, "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64, "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
    "BoolStorage": torch.bool, "ByteStorage": torch.uint8, "CharStorage": torch.int8, "ShortStorage": torch.int16,
    "IntStorage": torch.int32, "LongStorage": torch.int64,
}  # fmt: skip
_MARK = object()


class Unreadable(ValueError):
    """What is not a file of weights: the message says why."""


class _Storage(NamedTuple):
    """A record of the archive, and what its bytes are."""

    dtype: torch.dtype
    key: str
    numel: int


def dump(model: nn.Module) -> bytes:
    """Return the weights of a model as a file."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getvalue()


def parse(content: bytes) -> dict[str, Tensor]:
    """Return the tensors in a file of weights.

    Raises:
        Unreadable: it is not what `dump` writes.

    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            names = {entry.filename.partition("/")[2]: entry for entry in entries}
            size = sum(entry.file_size for entry in entries)
            # stored as they are: none is longer than it is in the file, and none is there twice
            if size > len(content) or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise Unreadable(_REFUSED)
            if archive.read(names["byteorder"]) != b"little":
                raise Unreadable("it was written on a machine of another byte order")
            return _Program(archive, names).run(archive.read(names["data.pkl"]))
    except Unreadable:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, IndexError, ValueError, TypeError, OverflowError,
            RuntimeError, NotImplementedError, AttributeError, OSError) as error:  # fmt: skip
        raise Unreadable(_REFUSED) from error


class _Program:
    """The instructions of a pickle of a state_dict, followed by a machine that knows no others."""

    def __init__(self, archive: zipfile.ZipFile, names: Mapping[str, zipfile.ZipInfo]) -> None:
        self._archive, self._names = archive, names
        self._bytes: dict[str, Tensor] = {}
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, program: bytes) -> dict[str, Tensor]:
        """Return the table that the pickle describes."""
        for opcode, argument, _ in pickletools.genops(program):
            self._follow(opcode.name, argument)
        (found,) = self._stack
        if type(found) is not dict or not all(type(k) is str and type(v) is Tensor for k, v in found.items()):
            raise Unreadable(_REFUSED)
        return found

    def _follow(self, name: str, argument: Any) -> None:
        stack = self._stack
        match name:
            case "PROTO" | "STOP":
                pass
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE":
                stack.append(argument)
            case "NEWTRUE" | "NEWFALSE" | "NONE":
                stack.append({"NEWTRUE": True, "NEWFALSE": False, "NONE": None}[name])
            case "EMPTY_DICT" | "EMPTY_TUPLE":
                stack.append({} if name == "EMPTY_DICT" else ())
            case "MARK":
                stack.append(_MARK)
            case "TUPLE":
                parts = self._since_mark()
                stack.append(tuple(parts))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._table()[key] = value
            case "SETITEMS":
                parts = self._since_mark()
                self._table().update(zip(parts[::2], parts[1::2], strict=True))
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "REDUCE":
                arguments, called = stack.pop(), stack.pop()
                stack.append(self._called(called, arguments))
            case "BUILD":  # versions of modules, which a new model has too
                stack.pop()
            case _:
                raise Unreadable(_REFUSED)

    def _since_mark(self) -> list[Any]:
        parts = []
        while (top := self._stack.pop()) is not _MARK:
            parts.append(top)
        return parts[::-1]

    def _table(self) -> dict[Any, Any]:
        if type(self._stack[-1]) is not dict:
            raise Unreadable(_REFUSED)
        return self._stack[-1]

    def _storage(self, named: Any) -> _Storage:
        word, kind, key, _, numel = named
        module, _, name = kind.partition(" ")
        if word != "storage" or module != "torch" or type(key) is not str or type(numel) is not int:
            raise Unreadable(_REFUSED)
        return _Storage(_STORAGES[name], key, numel)

    def _called(self, what: Any, arguments: Any) -> Any:
        if what == "collections OrderedDict" and arguments == ():
            return {}
        if what == "torch._utils _rebuild_tensor_v2":
            return self._tensor(*arguments[:4])
        raise Unreadable(_REFUSED)

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any) -> Tensor:
        """Return a tensor of no more elements than its storage has."""
        if type(storage) is not _Storage or type(shape) is not tuple or type(stride) is not tuple:
            raise Unreadable(_REFUSED)
        if any(type(n) is not int or not 0 <= n < 2**62 for n in (offset, *shape, *stride)) or len(shape) > 64:
            raise Unreadable(_REFUSED)
        count = 1
        for size in shape:
            count *= size
        raw = self._raw(storage)
        if count > len(raw):
            raise Unreadable(_REFUSED)
        if not count:
            return torch.empty(shape, dtype=storage.dtype)
        return raw.as_strided(shape, stride, offset)  # refuses what is not within its bytes

    def _raw(self, storage: _Storage) -> Tensor:
        """Return the elements of a storage, each read once."""
        raw = self._bytes.get(storage.key)
        if raw is None:
            content = bytearray(self._archive.read(self._names[f"data/{storage.key}"]))
            raw = self._bytes[storage.key] = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0)
        if len(raw) != storage.numel * storage.dtype.itemsize:
            raise Unreadable(_REFUSED)
        if storage.dtype == torch.bool and bool((raw > 1).any()):
            raise Unreadable(_REFUSED)
        return raw.view(storage.dtype) if len(raw) else torch.empty(0, dtype=storage.dtype)


def load_into(model: nn.Module, found: Mapping[str, Tensor]) -> None:
    """Put the weights that were read into a model.

    Raises:
        records.Mismatch: they are not those of such a model.

    """
    wanted = model.state_dict()
    checkpoint.check_fits(found, wanted)
    state = OrderedDict(found)
    vars(state)["_metadata"] = getattr(wanted, "_metadata", None)  # versions of modules, as PyTorch keeps them
    model.load_state_dict(state)
