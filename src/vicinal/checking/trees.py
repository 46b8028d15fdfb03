"""Batches of any structure as named leaves, read and rebuilt without asking what they are: other people's batches."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vicinal.target import MixedTarget


def raise_if_ours(error: BaseException) -> None:
    """Raise an error again that comes from this package itself, where one of the pipeline is expected.

    Errors of the pipeline are told, or another example is tried; a fault of the check must not look like one.
    """
    if isinstance(error, TypeError) and re.search(r"positional argument|unexpected keyword", str(error)):
        return  # of a call with arguments that the pipeline does not take: raised here, and not ours
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is not None and Path(trace.tb_frame.f_code.co_filename).parent == Path(__file__).parent:
        raise error


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Return the leaves of a pytree with their names, as "[0]", "['image']" or ".ids".

    A list of numbers is one leaf. Whatever is not a container is a leaf, a `MixedTarget` too.
    """
    parts = _parts(tree)
    if parts is None:
        yield name, tree
        return
    for key, value in parts:
        yield from leaves(value, name + key)


def rebuilt(tree: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """Return a pytree of the same structure whose leaves are `change(name, leaf)`."""
    parts = _parts(tree)
    if parts is None:
        return change(name, tree)
    values = [rebuilt(value, change, name + key) for key, value in parts]
    if isinstance(tree, Mapping):
        filled = dict(zip(tree, values, strict=True))
        try:
            kind: Any = type(tree)
            return filled if kind is dict else kind(filled)
        except TypeError:
            return filled
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*values)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return dataclasses.replace(tree, **{f.name: v for f, v in zip(_fields(tree), values, strict=True)})
    if isinstance(tree, list | tuple):
        return type(tree)(values)
    changed = copy.copy(tree)
    for name, value in zip(vars(tree), values, strict=True):
        object.__setattr__(changed, name, value)
    return changed


def _fields(tree: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(tree) if field.init]


def _parts(tree: Any) -> list[tuple[str, Any]] | None:
    if isinstance(tree, Tensor | MixedTarget | np.ndarray | str | bytes):
        return None
    if isinstance(tree, Mapping):
        return [(f"[{key!r}]", value) for key, value in tree.items()]
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return [(f".{key}", value) for key, value in zip(tree._fields, tree, strict=True)]  # pyright: ignore
    if isinstance(tree, list | tuple):
        if len(tree) > 3 and all(isinstance(value, int | float | str) for value in tree):
            return None
        return [(f"[{i}]", value) for i, value in enumerate(tree)]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [(f".{field.name}", getattr(tree, field.name)) for field in _fields(tree)]
    if holds_tensors(tree):
        return [(f".{name}", value) for name, value in vars(tree).items()]
    return None


def holds_tensors(tree: Any) -> bool:
    """Return whether an object of a class of its own is a batch: tensors lie in its attributes."""
    if isinstance(tree, nn.Module | type) or callable(tree) or not hasattr(tree, "__dict__"):
        return False
    return any(isinstance(value, Tensor) for value in vars(tree).values())


def as_tensor(leaf: Any) -> Tensor | None:
    """Return a leaf as a tensor on the CPU that shares no memory; None if it holds no numbers."""
    if isinstance(leaf, Tensor):
        if leaf.is_sparse or leaf.is_quantized:
            return None
        plain = leaf.detach().as_subclass(Tensor)
        return plain.to("cpu").clone() if plain.device.type != "meta" else None
    if isinstance(leaf, MixedTarget):
        return None
    if isinstance(leaf, bool | int | float | np.generic):
        return torch.as_tensor(leaf)
    if isinstance(leaf, list | tuple) and leaf and all(isinstance(v, bool | int | float) for v in leaf):
        return torch.as_tensor(leaf)
    if isinstance(leaf, np.ndarray) or hasattr(leaf, "__array__") or hasattr(leaf, "__array_interface__"):
        array = np.array(leaf)
        if array.dtype.kind in "biuf" and array.dtype != np.dtype("longdouble"):
            return torch.from_numpy(np.ascontiguousarray(array))
    return None


def tensors(tree: Any) -> dict[str, Tensor]:
    """Return the leaves of a pytree that hold numbers, by their names, each as `as_tensor` gives it."""
    return {name: tensor for name, leaf in leaves(tree) if (tensor := as_tensor(leaf)) is not None}


def rows(batch: Any) -> int | None:
    """Return the number of rows of a batch: of its first tensor that has rows; None if there is none."""
    return next((len(tensor) for tensor in tensors(batch).values() if tensor.ndim), None)


def stacked(examples: list[Any]) -> Any:
    """Return a batch of examples of one structure: numbers and arrays are stacked, all else becomes lists."""
    names = [dict(leaves(example)) for example in examples]

    def stack(name: str, first: Any) -> Any:
        values = [of[name] for of in names]
        if isinstance(first, np.ndarray | np.generic):
            return np.stack(values)
        tensors = [as_tensor(value) for value in values]
        if any(tensor is None for tensor in tensors):
            return values
        return torch.stack([tensor for tensor in tensors if tensor is not None])

    return rebuilt(examples[0], stack)
