"""Rows that say who they are: examples of the structure, shapes and dtypes of yours, filled with noise of their own.

Row i holds noise that no other row holds, and a label that is known. The noise lies in the range of your own values, so
that whatever a pipeline checks of its inputs is met.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vicinal.checking import trees
from vicinal.keyed import Key, reused_generator

LABEL_NAME = re.compile(
    r"(^|_)(labels?|targets?|y|cls|class|classes|class_id|category|lbl|segmentation|seg|annotations?|ground_truth|gt)"
    r"(_?(a|b|1|2|one|two|hot|onehot|ids?|index|indices|map|mask))*$",
    re.IGNORECASE,
)
MASK_NAME = re.compile(r"mask|valid|padding|length|(^|_)pad$", re.IGNORECASE)
HIDING_NAME = re.compile(r"(^|_)pad", re.IGNORECASE)  # masks that are true where nothing counts
SKIPPED_NAME = re.compile(r"(^|_)(idx|index|indices|ids?|names?|paths?|keys?|files?|uid)$", re.IGNORECASE)

_PLACES = 1 << 17  # where a row's noise may begin
_BLENDS = 10**9  # numbers of examples that are mixtures of two

Role = Literal["input", "tokens", "mask", "indices", "one-hot", "multi-hot", "values", "map", "other"]


@dataclass(frozen=True)
class LeafSpec:
    """What one leaf of an example is, and how it is filled.

    Args:
        name: as `trees.leaves` names it.
        role: "input", floating-point or byte content; "tokens", whole numbers that stand for something; "mask", which
            tokens count; of labels, "indices", one class; "one-hot"; "multi-hot", several classes at once; "values",
            numbers to predict; "map", a class for each place; "other", whatever is handed on as it is.
        like: a value of this leaf.
        low: the least value.
        high: the largest value.
        classes: how many classes a label has.
        unknown: the value of entries that mean "unknown", as -1, 255 or nan; None: there are none.
        is_whole: whether all values seen were whole numbers.
        is_soft: of dense labels, whether they name several classes before mixing.

    """

    name: str
    role: Role
    like: Any
    low: float = 0.0
    high: float = 1.0
    classes: int = 0
    unknown: float | None = None
    is_whole: bool = False
    is_soft: bool = False

    @property
    def is_label(self) -> bool:
        """True for labels of all kinds."""
        return self.role in ("indices", "one-hot", "multi-hot", "values", "map")


def last_key(name: str) -> str:
    """Return the last key of a leaf's name, without quotes."""
    found = re.findall(r"\['([^']*)'\]|\.(\w+)|\[(\d+)\]", name)
    return next((part for part in found[-1] if part), "") if found else ""


class Marks:
    """Examples that say who they are, of the structure of an example that is given.

    Args:
        examples: several examples of one structure, without a batch dimension: the first sets the structure, all of them
            which values and classes there are.
        label: name of the label's leaf, where it is not clear by name or place.
        classes: number of classes; None: one more than the largest class index among the examples, at least 2.

    """

    def __init__(self, examples: Sequence[Any], label: str | None = None, classes: int | None = None) -> None:
        self.like = examples[0]
        columns: dict[str, list[Any]] = {}
        for example in examples:
            for name, leaf in trees.leaves(example):
                columns.setdefault(name, []).append(leaf)
        labels = _label_names(self.like, label, columns)
        self.specs = {name: _spec(name, columns[name], name in labels, classes) for name, _ in trees.leaves(self.like)}
        self._made: dict[int, Any] = {}
        self._blends: dict[int, tuple[int, int, float]] = {}

    def as_classes(self, spec: LeafSpec, classes: int) -> LeafSpec:
        """Return a label of numbers as one of classes, since a model has an output for each; it is one from now on."""
        self.specs[spec.name] = replace(spec, role="indices", classes=classes)
        self._made.clear()
        return self.specs[spec.name]

    def blend(self, i: int, j: int, weight: float) -> int:
        """Return the number of a new example: weight * example i + (1 - weight) * example j, with the label of i."""
        number = _BLENDS + len(self._blends)
        self._blends[number] = i, j, weight
        return number

    @property
    def inputs(self) -> list[LeafSpec]:
        """The leaves that hold content, the largest first."""
        found = [spec for spec in self.specs.values() if spec.role in ("input", "tokens")]
        return sorted(found, key=lambda spec: (spec.role != "input", -_size(spec.like)))

    @property
    def labels(self) -> list[LeafSpec]:
        """The leaves that hold labels."""
        return [spec for spec in self.specs.values() if spec.is_label]

    @property
    def masks(self) -> list[LeafSpec]:
        """The leaves that say which tokens count."""
        return [spec for spec in self.specs.values() if spec.role == "mask"]

    def example(self, i: int) -> Any:
        """Return example i; the same object each time, as a dataset in memory would."""
        if i not in self._made:
            self._made[i] = self.fresh(i)
        return self._made[i]

    def fresh(self, i: int, label_of: int | None = None, label_value: Callable[[LeafSpec], Any] | None = None) -> Any:
        """Return example i in new memory, with its own label, that of another example, or what a function makes."""

        def fill(name: str, leaf: Any) -> Any:
            spec = self.specs[name]
            if spec.is_label and label_value is not None:
                return label_value(spec)
            return self._filled(spec, label_of if label_of is not None and spec.is_label else i)

        return trees.rebuilt(self.like, fill)

    def _filled(self, spec: LeafSpec, i: int) -> Any:
        number = list(self.specs).index(spec.name)
        if i not in self._blends:
            return _filled(spec, i, number)
        first, second, weight = self._blends[i]
        if spec.role != "input":
            return _filled(spec, first, number)
        parts = [trees.as_tensor(_filled(spec, j, number)) for j in (first, second)]
        assert parts[0] is not None
        assert parts[1] is not None
        mixed = weight * parts[0].double() + (1 - weight) * parts[1].double()
        return _typed((mixed if parts[0].is_floating_point() else mixed.round()).to(parts[0].dtype), spec.like)

    def leaf(self, name: str, i: int) -> Tensor:
        """Return one leaf of example i as a tensor."""
        tensor = trees.as_tensor(self._filled(self.specs[name], i))
        assert tensor is not None
        return tensor

    def rows(self, name: str, ids: Sequence[int]) -> Tensor:
        """Return one leaf of several examples, stacked."""
        return torch.stack([self.leaf(name, i) for i in ids])

    def tokens(self, spec: LeafSpec, i: int) -> Tensor:
        """Return which tokens of example i count, by its mask."""
        mask = self.leaf(spec.name, i).bool()
        return ~mask if HIDING_NAME.search(last_key(spec.name)) else mask

    def first_class(self, i: int) -> int:
        """Return the class of example i by its first label that names one; without any, its number."""
        spec = next((spec for spec in self.labels if spec.role in ("indices", "one-hot")), None)
        return i if spec is None else self.class_of(spec, i)

    def class_of(self, spec: LeafSpec, i: int) -> int:
        """Return the class of example i."""
        return class_of(i, spec.classes)


def class_of(i: int, classes: int) -> int:
    """Return the class of example i: of each 8 from a multiple of 8 most differ and some agree, over all classes."""
    if classes < 5:
        return (i + i // classes) % classes if classes > 0 else 0
    block, place = divmod(i, 8)
    apart = (classes // 5 - 1) | 1  # odd: half precision keeps all even numbers twice as far
    return ((place % 5) * apart + block) % classes


def _size(leaf: Any) -> int:
    tensor = trees.as_tensor(leaf)
    return 0 if tensor is None else tensor.numel()


def _label_names(example: Any, label: str | None, columns: dict[str, list[Any]]) -> set[str]:
    names = [name for name, _ in trees.leaves(example)]
    if label is not None:
        found = {name for name in names if label in (name, last_key(name)) or name.startswith(label)}
        if not found:
            raise ValueError(f"the example has no leaf {label!r}: its leaves are {', '.join(names)}")
        return found
    by_name = {name for name in names if any(LABEL_NAME.search(key) for key in _keys(name))}
    by_name |= {name for name, leaf in trees.leaves(example) if "mask" in last_key(name).lower() and _is_map(leaf)}
    if by_name:
        return by_name
    if isinstance(example, Mapping):  # numbers beside content, that are not names of rows
        single = {n for n, tensor in trees.tensors(example).items() if tensor.ndim == 0}
        return {
            name for name in single if not SKIPPED_NAME.search(last_key(name)) and not MASK_NAME.search(last_key(name))
        }
    if isinstance(example, tuple | list) and len(example) >= 2:
        return _label_of_tuple(example, columns)
    return set()


def _label_of_tuple(example: Any, columns: dict[str, list[Any]]) -> set[str]:
    """Return the leaves of the last part of a tuple that can be a label: neither text, nor the number of a row.

    Of (label, image), which some datasets give, it is the first part.
    """
    sizes = {name: _size(leaf) for name, leaf in trees.leaves(example)}
    single = {name: _whole_numbers(columns[name]) for name in sizes}
    repeated = any(numbers and len(set(numbers)) < len(numbers) for numbers in single.values())
    possible = {
        name
        for name, size in sizes.items()
        if size > 0 and not isinstance(columns[name][0], str) and not _counts_rows(single[name], repeated)
    }
    largest = max(sizes, key=lambda name: sizes[name])
    whole = {name for name in possible if single[name] and name != largest}
    for last in reversed(range(1, len(example))):
        if isinstance(example[last], Mapping) and any(not name.startswith(f"[{last}]") for name in whole):
            continue  # what is told of a row beside its label
        found = {name for name in possible if name.startswith(f"[{last}]")}
        if found and not (largest in found and whole - found and _is_content(columns[largest][0])):
            return found
    return whole or possible - {largest}


def _is_content(leaf: Any) -> bool:
    tensor = trees.as_tensor(leaf)
    return tensor is not None and (tensor.ndim >= 2 or tensor.numel() > 64)


def _whole_numbers(values: list[Any]) -> list[int]:
    """Return the values of a leaf that is one whole number per example; otherwise nothing."""
    tensors = [tensor for value in values if (tensor := trees.as_tensor(value)) is not None]
    if len(tensors) != len(values) or any(t.ndim != 0 or t.is_floating_point() for t in tensors):
        return []
    return [int(tensor) for tensor in tensors]


def _counts_rows(numbers: list[int], repeated: bool) -> bool:
    """Return whether whole numbers are those of rows: rising, or all different beside labels that come again."""
    if len(numbers) < 6 or len(set(numbers)) < len(numbers):
        return False
    rising = all(b > a for a, b in pairwise(numbers)) and numbers[-1] >= 2 * len(numbers)
    return rising or repeated


def _keys(name: str) -> list[str]:
    """Return the keys that are names in a leaf's name."""
    return [key for found in re.findall(r"\['([^']*)'\]|\.(\w+)", name) for key in found if key]


def _is_map(leaf: Any) -> bool:
    """Return whether a leaf of an example can be a map of classes."""
    tensor = trees.as_tensor(leaf)
    return tensor is not None and tensor.ndim >= 2 and not tensor.is_floating_point()


def _spec(name: str, values: list[Any], is_label: bool, classes: int | None) -> LeafSpec:
    like = values[0]
    tensors = [tensor for value in values if (tensor := trees.as_tensor(value)) is not None]
    key = last_key(name)
    if not tensors or isinstance(like, str):
        return LeafSpec(name, "other", like)
    first = tensors[0]
    finite = [tensor.double()[tensor.double().isfinite()] for tensor in tensors]
    low = min((float(t.min()) for t in finite if t.numel()), default=0.0)
    high = max((float(t.max()) for t in finite if t.numel()), default=1.0)
    if is_label:
        return _label_spec(name, like, first, tensors, (low, high), classes)
    if MASK_NAME.search(key) and first.ndim <= 1:
        return LeafSpec(name, "mask" if first.ndim == 1 else "other", like)
    if first.ndim == 0 and SKIPPED_NAME.search(key):
        return LeafSpec(name, "other", like)
    if first.is_floating_point():
        return LeafSpec(name, "input", like, *_range(low, high))
    if first.dtype == torch.uint8 and first.ndim >= 2:
        return LeafSpec(name, "input", like, 0.0, 255.0)
    if _is_image(like):
        return LeafSpec(name, "input", like, 0.0, 255.0)
    if first.dtype == torch.bool or (first.ndim == 0 and not isinstance(like, int | np.integer | Tensor)):
        return LeafSpec(name, "other", like)
    if first.ndim == 0:  # a category
        return LeafSpec(name, "tokens", like, low, max(high, low + 1))
    return LeafSpec(name, "tokens", like, low, max(high, low + 9))


def _range(low: float, high: float) -> tuple[float, float]:
    if high - low < 1e-6:
        return 0.0, 1.0
    return low, high


def _label_spec(
    name: str, like: Any, first: Tensor, tensors: list[Tensor], span: tuple[float, float], classes: int | None
) -> LeafSpec:
    values = torch.cat([tensor.double().reshape(-1) for tensor in tensors])
    unknown = _unknown(values)
    known = values[~values.isnan()] if unknown is not None and math.isnan(unknown) else values[values != unknown]
    if unknown is not None and len(known):
        span = float(known.min()), float(known.max())
    low, high = span
    whole = bool((known == known.round()).all())
    if first.is_floating_point():
        if bool(((known == 0) | (known == 1)).all()) and first.ndim == 1 and len(first) > 1:
            single = unknown is None and all(float(t.sum()) == 1 for t in tensors)
            return LeafSpec(name, "one-hot" if single else "multi-hot", like, low, high, len(first), unknown, whole)
        shares = (
            first.ndim == 1
            and len(first) > 1
            and all(abs(float(t.sum()) - 1) < 1e-3 and float(t.min()) >= 0 for t in tensors)
        )
        if shares:
            return LeafSpec(name, "one-hot", like, low, high, len(first), is_soft=True)
        return LeafSpec(name, "values", like, *_range(low, high), unknown=unknown, is_whole=whole)
    count = classes or max(2, int(high) + 1)
    if first.ndim == 0 or (first.ndim == 1 and len(first) == 1):
        return LeafSpec(name, "indices", like, low, high, count, unknown)
    if first.ndim == 1 and len(first) > 2 and bool(((known == 0) | (known == 1)).all()):
        return LeafSpec(name, "multi-hot", like, low, high, len(first), unknown)
    return LeafSpec(name, "map", like, low, high, count, unknown)


def _unknown(values: Tensor) -> float | None:
    """Return the value that means "unknown" among labels: nan; -1 or -100 beside numbers from 0; 255 far above the rest."""
    if values.is_floating_point() and bool(values.isnan().any()):
        return math.nan
    seen = values.unique()
    if len(seen) < 2:
        return None
    if float(seen[0]) in (-1.0, -100.0) and float(seen[1]) >= 0:
        return float(seen[0])
    return 255.0 if float(seen[-1]) == 255 and float(seen[-2]) < 200 else None


def _is_image(like: Any) -> bool:
    return type(like).__module__.startswith("PIL.")


_BANK: dict[int, np.ndarray] = {}  # of uniform numbers, by their count


def _noise(count: int, leaf: int, i: int) -> np.ndarray:
    """Return numbers in [0, 1) that no other row has: a part of a long run of them, from another place for each row."""
    if count <= 1 << 13:
        return Key(11, 0, leaf, i).generator().random(count)
    if count not in _BANK:
        _BANK.clear()
        _BANK[count] = Key(13, 0, 0, count).generator().random(count + _PLACES, dtype=np.float32)
    start = (i * 40_503 + leaf * 7919) % _PLACES
    return _BANK[count][start : start + count]


def _filled(spec: LeafSpec, i: int, leaf: int) -> Any:
    """Return the content of a leaf of example i, of the type of the leaf it stands for."""
    if spec.role == "other":
        return spec.like
    like = trees.as_tensor(spec.like)
    assert like is not None
    generator = reused_generator(Key(11, 0, leaf, i))
    shape = tuple(like.shape)
    if spec.role in ("input", "values"):
        uniform = _noise(like.numel(), leaf, i).reshape(shape)
        values = spec.low + uniform * (spec.high - spec.low)
        if not like.is_floating_point():
            values = np.floor(spec.low + uniform * (spec.high - spec.low + 1))
    elif spec.role in ("tokens",):
        values = generator.integers(int(spec.low), int(spec.high) + 1, shape)
    elif spec.role == "mask":
        length = math.ceil(shape[0] * (0.4 + 0.6 * ((i * 7) % 11) / 10))
        counts = np.arange(shape[0]) < length
        values = (~counts if HIDING_NAME.search(last_key(spec.name)) else counts).astype(int)
    elif spec.role == "multi-hot":
        values = (generator.random(shape) < 0.4).astype(int)
        values.flat[class_of(i, spec.classes)] = 1
    elif spec.role == "map":
        values = generator.integers(0, spec.classes, shape)
    elif spec.role == "one-hot":
        values = np.zeros(shape)
        values[class_of(i, spec.classes)] = 0.8 if spec.is_soft else 1
        values[(class_of(i, spec.classes) + 1) % spec.classes] += 0.2 if spec.is_soft else 0
    else:
        values = np.full(shape, class_of(i, spec.classes))
    if spec.unknown is not None and spec.role in ("values", "multi-hot", "map"):
        values = np.where(generator.random(shape) < 0.15, spec.unknown, values)
    return _typed(torch.as_tensor(values).to(like.dtype), spec.like)


def _typed(tensor: Tensor, like: Any) -> Any:
    if isinstance(like, Tensor):
        return tensor.to(like.device).as_subclass(type(like)) if type(like) is not Tensor else tensor.to(like.device)
    if isinstance(like, np.generic):
        return type(like)(tensor.item())
    if isinstance(like, np.ndarray):
        return tensor.numpy().astype(like.dtype)
    if _is_image(like):
        from PIL import Image

        return Image.fromarray(tensor.numpy().astype(np.uint8), mode=None)
    if isinstance(like, list | tuple):
        return type(like)(tensor.tolist())
    return type(like)(tensor.item())
