"""Pytrees: which containers a batch may come in, how they are opened and closed again, and what is refused by name.

A pytree is a tensor, or a container of pytrees: any mapping, list, tuple, named tuple, deque, dataclass or attrs instance,
or a type that is registered as a node of PyTorch's pytrees. A list (or tuple) of one tensor per example is one leaf,
`Examples`. Everything else is refused, with what to write instead.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import numbers
import re
from collections import UserDict, UserList, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MappingView, Sequence, Set
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from vicinal._warn import warn
from vicinal.formula import check_kind
from vicinal.target import MixedTarget

_CALL_ON_BATCHES = "mix after the DataLoader, or in its collate_fn, not in a Dataset or a transform"
_CHANNELS = (1, 3, 4)  # of images: gray, RGB, RGBA
_BOXES = re.compile(
    r"\b(\w*boxes|\w*bbox|box|bndbox|boundingbox|xyxy|xywh|cxcywh|\w*key ?points?|kpts?|kps|\w*land ?marks?|polygons?)\b"
)
_MAYBE_BOXES = ("box", "xy", "key", "kp", "land", "polygon")  # one of them is in whatever `_BOXES` finds
_IN_LIST = re.compile(r"\[\d")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of snake_case, camelCase and class names
_NO_PLAIN_TENSOR = {"MaskedTensor": "fill it, x.to_tensor(0)", "DTensor": "mix each process's own rows, x.to_local()"}
_LAZY_STACK = "LazyStackedTensorDict"  # a mapping that a pytree opens by its rows; NonTensorStack is one


@dataclasses.dataclass(frozen=True)
class Examples:
    """A list or tuple of one tensor per example, all of one shape and dtype."""

    tensors: Sequence[Tensor]

    def stack(self) -> Tensor:
        """Return the batch [n, ...]."""
        return torch.stack(list(self.tensors))

    @property
    def ndim(self) -> int:
        """Number of dimensions of the batch."""
        return self.tensors[0].ndim + 1

    def unstack(self, mixed: Tensor | MixedTarget, out: Examples | None = None) -> Any:
        """Return the rows of `mixed` as they came, a list or a tuple; in the tensors of `out` if given."""
        kind: Any = type(self.tensors)
        if out is None:
            return kind(mixed.unbind())
        assert isinstance(mixed, Tensor)  # buffers are for inputs
        return kind(into.copy_(row) for into, row in zip(out.tensors, mixed.unbind(), strict=True))


Leaf = Tensor | MixedTarget | Examples | None
Build = Callable[[Iterator[Any]], Any]


def flatten(tree: Any, what: str, n: int) -> tuple[list[tuple[str, Leaf]], Build]:
    """Return the leaves of a pytree with their names, and a function that builds a pytree like it from other leaves.

    Args:
        tree: a pytree.
        what: its name, which the names of its leaves begin with: "input['image'][0]".
        n: number of rows, by which a list of examples is known; -1: there are none.

    Raises:
        TypeError: a leaf cannot be mixed, because of its type, its kind of tensor, or because it holds boxes.
        ValueError: a list of examples of different shapes, or a list that could mean two things.

    """
    if what == "target":
        refuse_single(tree)
    leaves: list[tuple[str, Leaf]] = []
    return leaves, _collect(tree, what, n, leaves)


def buffers(out: Any, x: Any, inputs: dict[str, Any], n: int) -> dict[str, Any]:
    """Return the leaves of `out` by the names of the leaves of x that they are for, `inputs`.

    Raises:
        ValueError: out has another structure than x, or its examples have other shapes.

    """
    if _structure(out, n) != _structure(x, n):
        raise ValueError("out has another structure than the input: give a pytree of the same dicts, lists and tuples")
    into = {"input" + name.removeprefix("out"): leaf for name, leaf in flatten(out, "out", n)[0]}
    for name, leaf in into.items():
        if isinstance(leaf, Examples):
            _check_buffer(leaf.tensors, inputs[name].tensors, name)
    return into


def _check_buffer(out: Sequence[Tensor], x: Sequence[Tensor], name: str) -> None:
    """Refuse tensors that mixed examples do not fit into."""
    given, wanted = out[0], x[0]
    if _kind(given) != _kind(wanted):
        raise ValueError(
            f"out must hold {wanted.dtype} {list(wanted.shape)} on {wanted.device} for each example of {name}, got "
            f"{given.dtype} {list(given.shape)} on {given.device}"
        )
    if torch.is_grad_enabled() and any(t.requires_grad for t in (*out, *x)):
        raise ValueError("out is for data: a tensor that requires grad is mixed into a new one")


def rows(x: Any, y: Any) -> int:
    """Return the number of rows of a batch of inputs x and targets y.

    A tensor among the inputs decides, or else one among the targets. If there are only lists of tensors, each holds all
    rows, or one each: whichever fits all of them.

    Raises:
        TypeError: there is no tensor among the inputs, or y is a single label.
        ValueError: lists that could mean two things.

    """
    refuse_single(y)
    if isinstance(x, Tensor) and x.ndim:
        _warn_of_single(x, y)
        return x.size(0)
    inputs, targets = _leaves(x), _leaves(y)
    if not any(leaf.ndim for leaf in inputs):
        flatten(x, "input", -1)
        raise TypeError(f"a batch is a tensor [n, ...] or a pytree of them, got {type(x).__name__} without any")
    n = None if isinstance(x, (list, tuple)) else _rows_of(inputs)  # a list may hold one example in each place
    if n is None:
        flatten(y, "target", -1)  # refuses what is not a target, before it is asked for its rows
        n = _rows_of([*targets, *inputs])
    return _rows_of_lists(inputs, targets) if n is None else n


def _rows_of(leaves: list[Any]) -> int | None:
    """Return the number of rows of the first tensor that is in no list of tensors."""
    return next((leaf.size(0) for leaf in leaves if not isinstance(leaf, Examples) and leaf.ndim), None)


def _rows_of_lists(inputs: list[Any], targets: list[Any]) -> int:
    """Return the number of rows of lists that hold all rows each, or one row in each place."""
    lists = [leaf.tensors for leaf in inputs + targets if isinstance(leaf, Examples)]
    sizes, lengths = {t.size(0) for tensors in lists for t in tensors if t.ndim}, {len(tensors) for tensors in lists}
    if len(sizes) == 1 and len(lengths) == 1 and all(t.ndim == 3 and len(t) in _CHANNELS for t in lists[0]):
        _refuse_ambiguous("input", lists[0])
    return next(iter(lengths if len(lengths) == 1 and len(sizes) > 1 else sizes), 0)


def widest(x: Any, n: int) -> Tensor | None:
    """Return the leaf with the most dimensions (the image rather than its metadata), the first by name among equals.

    Raises:
        ValueError: there are only lists of examples of different shapes.

    """
    leaves = [item for item in _walk(x, "input", n) if isinstance(item[1], (Tensor, Examples))]
    fit = [item for item in leaves if isinstance(item[1], Tensor) or _alike(item[1].tensors)]
    for name, leaf in () if fit else leaves:
        _check_examples(leaf.tensors, name)
    _, leaf = max(sorted(fit, key=lambda item: item[0]), key=lambda item: item[1].ndim, default=("", None))
    return leaf.stack() if isinstance(leaf, Examples) else leaf


def refuse_single(y: Any) -> None:
    """Refuse one label where a batch of them is due."""
    if isinstance(y, (numbers.Number, np.generic)) or (isinstance(y, Tensor) and y.ndim == 0):
        label = y.item() if isinstance(y, np.generic) or (isinstance(y, Tensor) and not y.is_meta) else y
        raise TypeError(f"the target is one label, {label!r}, but a batch [n] of them was expected: {_CALL_ON_BATCHES}")


# -- opening and closing -----------------------------------------------------------------------------------------------


class _Parts(NamedTuple):
    """A container taken apart: the names of its parts as Python writes them, and what puts other parts together."""

    names: list[str]
    values: Sequence[Any]
    build: Callable[[list[Any]], Any]


def _collect(node: Any, name: str, n: int, leaves: list[tuple[str, Leaf]]) -> Build:
    """Append the leaves of a pytree, and return a function that builds one like it from an iterator of others."""
    if isinstance(node, (list, tuple)):
        _check_list(node, name, n)
    leaf = Examples(node) if _is_examples(node, n) else node
    if leaf is None or isinstance(leaf, (Tensor, MixedTarget, Examples)):
        if isinstance(leaf, Tensor):
            _check_tensor(leaf, name, leaf.ndim)
        elif isinstance(leaf, Examples):
            _check_examples(leaf.tensors, name)
        leaves.append((name, leaf))
        return next
    parts = _open(node)
    if parts is None:
        _refuse(node, name)
    builds = [_collect(value, name + part, n, leaves) for part, value in zip(parts.names, parts.values, strict=True)]
    return lambda values: parts.build([build(values) for build in builds])


def _walk(node: Any, name: str, n: int | None) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a pytree, itself first, with their names; without n, each list of tensors as `Examples`."""
    if _is_of_tensors(node) if n is None else _is_examples(node, n):
        node = Examples(node)
    yield name, node
    parts = _open(node)
    for part, value in () if parts is None else zip(parts.names, parts.values, strict=True):
        yield from _walk(value, name + part, n)


def _leaves(tree: Any) -> list[Any]:
    """Return the tensors and targets of a pytree, and its lists of tensors as `Examples`; skip all else."""
    return [leaf for _, leaf in _walk(tree, "", None) if isinstance(leaf, (Tensor, MixedTarget, Examples))]


def _structure(tree: Any, n: int) -> dict[str, Any]:
    """Return the types of the parts of a pytree by their names, for comparison with another one."""

    def kind(node: Any) -> Any:
        if isinstance(node, Examples):
            return Examples, type(node.tensors)
        return Tensor if isinstance(node, (Tensor, MixedTarget)) else type(node)

    return {name: kind(node) for name, node in _walk(tree, "", n)}


def _open(node: Any) -> _Parts | None:
    """Take a container apart; None for anything else."""
    kind = type(node)
    if node is None or isinstance(node, (Tensor, MixedTarget, Examples, PackedSequence)):
        return None
    if kind is dict:  # PyTorch's way of opening these three takes twice the time
        return _Parts(_indices(node), list(node.values()), lambda new: dict(zip(node, new, strict=True)))
    if kind is list or kind is tuple:
        return _Parts(_indices(range(len(node))), node, kind)
    if _is_lazy_stack(node):
        return None
    if kind in pytree.SUPPORTED_NODES:
        return _open_registered(node)
    if isinstance(node, Mapping):
        keys = list(node)
        return _Parts(_indices(keys), [node[k] for k in keys], functools.partial(_mapping_like, node, keys))
    if (names := _fields(node)) is not None:
        values = [getattr(node, name) for name in names]
        return _Parts([f".{name}" for name in names], values, functools.partial(_record_like, node, names))
    if isinstance(node, tuple) and hasattr(kind, "_fields"):
        return _Parts([f".{name}" for name in kind._fields], node, kind._make)
    if isinstance(node, (tuple, list, deque, UserList)):
        return _Parts(_indices(range(len(node))), list(node), functools.partial(_sequence_like, node))
    return None


def _is_lazy_stack(node: Any) -> bool:
    """Return True for a mapping whose parts in a pytree are single rows: dimension 0 of their tensors is not the batch."""
    return isinstance(node, Mapping) and any(kind.__name__ == _LAZY_STACK for kind in type(node).__mro__)


def _indices(keys: Iterable[Any]) -> list[str]:
    return [f"[{key!r}]" for key in keys]


def _open_registered(node: Any) -> _Parts:
    definition = pytree.SUPPORTED_NODES[type(node)]
    if definition.flatten_with_keys_fn is None:
        values, context = definition.flatten_fn(node)
        names = _indices(range(len(values)))
    else:
        keyed, context = definition.flatten_with_keys_fn(node)
        names, values = [str(key) for key, _ in keyed], [value for _, value in keyed]
    return _Parts(names, values, lambda others: definition.unflatten_fn(others, context))


def _fields(node: Any) -> list[str] | None:
    """Return the names of the fields of a dataclass or attrs instance that have a value."""
    kind = type(node)
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else getattr(kind, "__attrs_attrs__", None)
    return None if fields is None else [field.name for field in fields if hasattr(node, field.name)]


def _mapping_like(node: Mapping[Any, Any], keys: list[Any], values: list[Any]) -> Mapping[Any, Any]:
    """Return a mapping of node's type, or a dict where the type takes no other values, neither as a copy nor anew."""
    items = dict(zip(keys, values, strict=True))
    kind: Any = type(node)
    ways: list[Callable[[Any, Any], Any]] = [_refilled] if isinstance(node, (dict, UserDict)) else []
    ways += [] if kind is MappingProxyType else [lambda _, items: kind(items)]
    for way in ways:
        try:
            new = way(node, items)
        except Exception:  # a class of the user's, which may say no in any way
            continue
        if type(new) is kind and list(new) == keys and all(new[key] is value for key, value in items.items()):
            return new
    return items


def _refilled(node: Any, items: dict[Any, Any]) -> Any:
    new = _copied(node)
    for key, value in items.items():
        new[key] = value
    _renew(new, node, items)
    return new


def _renew(new: Any, node: Any, items: dict[Any, Any]) -> None:
    """Point attributes that hold a value of the mapping to the new value."""
    attributes = getattr(node, "__dict__", None)
    if attributes is node:  # the usual way to make keys attributes
        new.__dict__ = new
    elif attributes:
        renewed = {id(node[key]): value for key, value in items.items() if value is not None}
        for name, value in attributes.items():
            if id(value) in renewed and name in vars(new) and vars(new)[name] is value:
                vars(new)[name] = renewed[id(value)]


def _record_like(node: Any, names: list[str], values: list[Any]) -> Any:
    new = _copied(node)
    for name, value in zip(names, values, strict=True):
        object.__setattr__(new, name, value)  # frozen ones too
    return new


def _sequence_like(node: Any, values: list[Any]) -> Any:
    if isinstance(node, tuple):
        new = tuple.__new__(type(node), values)
        if hasattr(node, "__dict__"):
            vars(new).update(vars(node))
        return new
    new = _copied(node)
    new.clear()
    new.extend(values)
    return new


def _copied(node: Any) -> Any:
    """Return a shallow copy, without what was computed of the values that will be replaced."""
    new = copy.copy(node)
    for name in list(getattr(new, "__dict__", ())):
        if isinstance(getattr(type(new), name, None), functools.cached_property):
            del new.__dict__[name]
    return new


# -- lists: of examples, or of parts -----------------------------------------------------------------------------------


def _is_of_tensors(node: Any) -> bool:
    return type(node) in (list, tuple) and len(node) > 0 and all(isinstance(t, Tensor) for t in node)


def _is_examples(node: Any, n: int) -> bool:
    """Return True if a list holds one tensor per row: n of them, not all with n rows."""
    return _is_of_tensors(node) and len(node) == n and not all(t.ndim and t.size(0) == n for t in node)


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _alike(tensors: Sequence[Tensor]) -> bool:
    return not any(t.is_nested for t in tensors) and len({_kind(t) for t in tensors}) == 1


def _check_list(node: Sequence[Any], name: str, n: int) -> None:
    """Refuse lists of numbers, and lists of tensors that could mean two things."""
    kind = type(node).__name__
    if node and all(isinstance(item, (numbers.Number, np.generic)) for item in node):
        if _says_boxes(name):
            _refuse_boxes(name)
        raise TypeError(f"{name} is a {kind} of numbers, and only tensors can be mixed: torch.tensor({name})")
    if not _is_of_tensors(node) or any(t.is_nested for t in node):
        return
    if all(t.ndim == 0 for t in node):
        raise TypeError(f"{name} is a {kind} of tensors of one number each: torch.stack({name})")
    if len(node) == n > 1 and node[0].ndim <= 3 and all(t.ndim == node[0].ndim and t.size(0) == n for t in node):
        for i, tensor in enumerate(node):
            _check_tensor(tensor, f"{name}[{i}]", tensor.ndim + 1)
        _refuse_ambiguous(name, node)


def _check_examples(node: Sequence[Tensor], name: str) -> None:
    """Refuse examples that do not make a batch."""
    for i, tensor in enumerate(node):
        _check_tensor(tensor, f"{name}[{i}]", tensor.ndim + 1)
    if _alike(node):
        return
    kinds = list(dict.fromkeys(f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}" for t in node))
    raise ValueError(
        f"{name} is a {type(node).__name__} of one tensor per example, but of different kinds, {', '.join(kinds[:4])}"
        f"{', ...' if len(kinds) > 4 else ''}: pad them to one shape and stack them (for sequences and audio, "
        "torch.nn.utils.rnn.pad_sequence), and keep lengths with plan.longest(lengths)"
    )


def _refuse_ambiguous(name: str, node: Sequence[Tensor]) -> NoReturn:
    raise ValueError(
        f"{name} is a {type(node).__name__} of {len(node)} tensors {list(node[0].shape)}, which could be one example each, "
        f"or parts with {node[0].size(0)} rows each: write torch.stack({name}) for examples, dict(enumerate({name})) for "
        "parts"
    )


def _warn_of_single(x: Tensor, y: Any) -> None:
    """Warn where channels would be taken for rows: an image [c, h, w] with its one-hot label of c classes."""
    if x.ndim != 3 or x.size(0) not in (3, 4) or torch.compiler.is_compiling():
        return
    if not isinstance(y, Tensor) or y.shape != x.shape[:1] or not y.is_floating_point() or not y.is_cpu:
        return
    if sorted(y.tolist()) == [0.0] * (y.size(0) - 1) + [1.0]:
        warn(
            f"an input {list(x.shape)} with a target {y.tolist()} looks like one image and its one-hot label; it is mixed "
            f"as a batch of {y.size(0)} rows. If it is one image, {_CALL_ON_BATCHES}"
        )


# -- what is refused ---------------------------------------------------------------------------------------------------


def _check_tensor(x: Tensor, name: str, ndim: int) -> None:
    """Refuse tensors that PyTorch cannot mix, and those that hold places in an image; `ndim` is that of the batch."""
    if type(x) is not Tensor:  # what torch.compile need not trace
        for kind in type(x).__mro__[: type(x).__mro__.index(Tensor)]:
            if kind.__name__ in _NO_PLAIN_TENSOR:
                raise TypeError(f"{name} is a {kind.__name__}: {_NO_PLAIN_TENSOR[kind.__name__]}")
            if _says_boxes(kind.__name__):
                _refuse_boxes(name)
    if _says_boxes(name):
        # one number per row and heat maps of key points are no coordinates, whatever their name; but [4] in a list is a box
        column = ndim == 1 and _IN_LIST.search(name) is None
        if not column and not (ndim >= 4 and x.size(-1) > 8):
            _refuse_boxes(name)
    try:
        check_kind(x)
    except TypeError as error:
        error.add_note(f"(at {name})")
        raise


def _says_boxes(name: str) -> bool:
    """Return True if a key, a field or a class is called boxes, key points or the like."""
    small = name.lower()
    if not any(part in small for part in _MAYBE_BOXES):
        return False
    return _BOXES.search(" ".join(_WORD.findall(name)).lower()) is not None


def _refuse_boxes(name: str) -> NoReturn:
    raise TypeError(
        f"{name} holds boxes or key points, and the average of two boxes lies in neither image: take them out of the call, "
        "and keep both sets, those of the row and those of row plan.partner, with the shares in plan.weight"
    )


def _refuse(node: Any, name: str) -> NoReturn:
    """Raise the error that says what to write instead of a leaf that is not a tensor."""
    kind = type(node).__name__
    plain = isinstance(node, (str, bytes, numbers.Number, np.generic))
    if (_says_boxes(name) and not plain) or _says_boxes(kind):
        _refuse_boxes(name)
    article = "an" if kind[0].lower() in "aeiou" else "a"
    raise TypeError(f"{name} is {article} {kind}, and only tensors can be mixed: {_way_out(node, name)}")


def _way_out(node: Any, name: str) -> str:
    origins = {kind.__module__.partition(".")[0] for kind in type(node).__mro__}
    is_packed = isinstance(node, PackedSequence)
    is_graph = origins & {"torch_geometric", "dgl"} or hasattr(node, "edge_index")
    is_number = isinstance(node, (numbers.Number, np.generic))
    is_other = isinstance(node, (str, bytes, bytearray, PurePath, type, nn.Module)) or callable(node)
    has_fields = getattr(node, "__dict__", None)
    graph = "its rows are the nodes of graphs, not examples; mix behind the pooling, where each graph is a row"
    ways = (
        (is_packed, "pad it, torch.nn.utils.rnn.pad_packed_sequence, mix, and pack again by plan.longest(lengths)"),
        (is_graph, f"{graph} (vicinal.LatentMixing)"),
        (is_number, f"torch.tensor({name}), or leave it out of the call"),
        (_is_lazy_stack(node), f"{name}.contiguous() if it holds tensors; else leave it out of the call"),
        (isinstance(node, np.ndarray), f"torch.from_numpy({name})"),
        ("polars" in origins, f"{name}.to_torch()"),
        (origins & {"pandas", "pyarrow"}, f"torch.tensor({name}.to_numpy())"),
        ("PIL" in origins, "torch.from_numpy(numpy.array(image)) for each image, and torch.stack for the batch"),
        (hasattr(node, "__dlpack__"), f"torch.from_dlpack({name})"),
        (hasattr(node, "__array__"), f"torch.from_numpy(numpy.asarray({name}))"),
        (is_other, "convert it, or leave it out of the call"),
        (isinstance(node, Set), "a set has no order; give a dict or a list"),
        (isinstance(node, (Iterator, MappingView)), f"list({name})"),
        (has_fields, f"give its tensors as a dict, vars({name}), without what is not a tensor"),
        (True, "give its tensors as a dict; convert it, or leave it out of the call"),
    )
    return next(way for fits, way in ways if fits)
