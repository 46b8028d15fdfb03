"""What a label says of its row: the share of each class, whatever form the label has.

Forms: class indices; dense shares [n, classes]; two class indices (or dense labels) and lambda, as separate tensors or as
columns of one; a `MixedTarget`; numbers to predict. A dimension behind the classes is a place of a map.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vicinal.checking import trees
from vicinal.checking.marks import LeafSpec, last_key
from vicinal.target import MixedTarget

_NUMBERS = ("values", "multi-hot")


@dataclass
class LabelReading:
    """A label, read.

    Args:
        form: how it is written down, in words.
        shares: float64 [n, classes, ...], what it says of each row; of numbers, the numbers [n, ...]; None: not readable.
        problems: codes with what was seen, of labels that are wrong in themselves.
        kind: dtype and shape of a row of each tensor, which should not change from batch to batch.
        hard: whether it names one class per row or place.
        ignored: a class that the loss ignores, whose share cannot be read off its slope.

    """

    form: str
    shares: np.ndarray | None
    problems: list[tuple[str, str]] = field(default_factory=list)
    kind: tuple[Any, ...] = ()
    hard: bool = False
    ignored: int | None = None


def read(tree: Any, spec: LeafSpec, n: int) -> LabelReading:
    """Read the labels of a batch.

    Args:
        tree: the part of the batch that holds labels, mixed or not.
        spec: what the labels were before mixing.
        n: number of rows.

    """
    mixed = [leaf for _, leaf in trees.leaves(tree) if isinstance(leaf, MixedTarget)]
    if mixed:
        return _mixed_target(mixed[0], spec)
    tensors = {name: tensor for name, tensor in trees.tensors(tree).items() if tensor.ndim == 0 or len(tensor) > 0}
    if spec.role in ("indices", "one-hot"):
        usable = {name: tensor for name, tensor in tensors.items() if _can_be(tensor, spec)}
        tensors = usable or tensors
    lams = {name: t for name, t in tensors.items() if _is_lam(t, n) and (len(tensors) > 1)}
    if spec.role == "values" and len(lams) == len(tensors) > 2:  # two numbers per row and lambda look alike
        last = next((name for name in lams if "lam" in name.lower()), list(lams)[-1])
        lams = {last: lams[last]}
    rest = {name: tensor for name, tensor in tensors.items() if name not in lams}
    if not rest and lams and spec.role == "values":
        rest, lams = lams, {}
    if len(rest) >= 2 and lams:
        return _two(list(rest.values()), next(iter(lams.values())), spec, n)
    if len(rest) > 1:  # soft labels that were put beside the class indices
        soft = {
            name: t for name, t in rest.items() if t.is_floating_point() and t.ndim >= 2 and t.shape[1] == spec.classes
        }
        rest = soft if len(soft) == 1 else rest
    if len(rest) == 1:
        return _one(next(iter(rest.values())), spec, n)
    shown = ", ".join(f"{name or 'a tensor'} {list(tensor.shape)}" for name, tensor in rest.items())
    return LabelReading(f"not understood: {shown or 'no numbers'}", None)


def _can_be(tensor: Tensor, spec: LeafSpec) -> bool:
    """Return whether a tensor can be a label, rather than the numbers of rows."""
    return (
        tensor.is_floating_point() or spec.role == "values" or tensor.numel() == 0 or int(tensor.max()) < spec.classes
    )


def _is_lam(tensor: Tensor, n: int) -> bool:
    """Return whether a tensor can be lambda: floating point, a number, or one per row."""
    if not tensor.is_floating_point() or tensor.numel() not in (1, n):
        return False
    return tensor.ndim <= 1 or tensor.numel() == max(tensor.shape)


def one_hot(indices: np.ndarray, classes: int) -> np.ndarray:
    """Return float64 [n, classes, ...] of class indices [n, ...]; those outside of the range are zeros."""
    dense = np.zeros((indices.shape[0], classes, *indices.shape[1:]))
    inside = (indices >= 0) & (indices < classes) & (indices == np.round(indices))
    at = np.where(inside, indices, 0).astype(int)
    np.put_along_axis(dense, at[:, None], inside[:, None].astype(float), axis=1)
    return dense


def _kind(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape[1:])


def _mixed_target(target: MixedTarget, spec: LeafSpec) -> LabelReading:
    ids, weight = target.ids.numpy(), target.weight.double().numpy()
    shares = sum(
        one_hot(i, spec.classes) * w.reshape(len(w), 1, *w.shape[1:], *(1,) * (i.ndim - w.ndim))
        for i, w in zip(ids, weight, strict=True)
    )
    shares = np.asarray(shares) * (1 - target.smoothing) + target.smoothing / spec.classes
    return LabelReading("a MixedTarget", shares, kind=("MixedTarget", tuple(target.shape[1:])))


def _two(labels: list[Tensor], lam: Tensor, spec: LeafSpec, n: int) -> LabelReading:
    parts = [_one(label, spec, n) for label in labels[:2]]
    if any(part.shares is None for part in parts):
        return parts[0] if parts[0].shares is None else parts[1]
    weight = lam.double().reshape(-1).numpy() * np.ones(n)
    first, second = (np.asarray(part.shares) for part in parts)
    weight = weight.reshape(n, *(1,) * (first.ndim - 1))
    problems = [problem for part in parts for problem in part.problems]
    return LabelReading(
        "two labels and lambda",
        weight * first + (1 - weight) * second,
        problems,
        ("two", str(labels[0].dtype), tuple(labels[0].shape[1:])),
    )


def _one(label: Tensor, spec: LeafSpec, n: int) -> LabelReading:
    kind = _kind(label)
    if label.ndim == 0 or len(label) != n:
        shape = list(label.shape)
        return LabelReading(
            "of a wrong shape",
            None,
            [("VIC013", f"labels of {n} rows have the shape {shape}, of dtype {kind[0]}.")],
            kind,
        )
    values = label.double().numpy()
    if spec.role in _NUMBERS:
        return _numbers(label, values, spec, kind)
    if not label.is_floating_point():
        return _whole(label, values, spec, kind)
    if spec.role == "indices" and label.ndim == 2 and label.shape[1] == 3 and spec.classes != 3 and _are_pairs(values):
        shares = values[:, 2, None]
        first, second = one_hot(values[:, 0], spec.classes), one_hot(values[:, 1], spec.classes)
        # the third column is the share of the second label
        return LabelReading(
            "columns [label, partner's label, share]", (1 - shares) * first + shares * second, kind=kind
        )
    if spec.role == "map" and label.ndim == _ndim(spec) + 2 and label.shape[1] == spec.classes:
        return LabelReading("dense maps", values, _of_shares(label, values), kind)
    if spec.role == "map" and label.ndim == _ndim(spec) + 2 and label.shape[-1] == spec.classes:
        moved = np.moveaxis(values, -1, 1)
        return LabelReading("dense maps", moved, _of_shares(label, moved), kind)
    if spec.role != "map" and label.ndim == 2 and label.shape[1] > 1:
        if spec.role == "indices" and label.shape[1] == n and spec.classes != n and not _sum_to_one(values):
            seen = f"labels of {n} rows have the shape {list(label.shape)}: rows were broadcast against rows."
            return LabelReading("of a wrong shape", None, [("VIC013", seen)], kind)
        wide = np.zeros((n, max(spec.classes, values.shape[1])))
        wide[:, : values.shape[1]] = values
        return LabelReading("dense labels", wide, _of_shares(label, values), kind)
    if label.ndim in (1, 2) and spec.role == "indices" and values.reshape(n, -1).shape[1] == 1:
        return _averaged(values.reshape(n), spec, kind)
    like = trees.as_tensor(spec.like)
    if spec.role == "map" and like is not None and label.shape[1:] == like.shape:
        return _averaged(values, spec, kind)
    return LabelReading(
        "of a wrong shape", None, [("VIC013", f"labels of {n} rows have the shape {list(label.shape)}.")], kind
    )


def _ndim(spec: LeafSpec) -> int:
    tensor = trees.as_tensor(spec.like)
    return 0 if tensor is None else tensor.ndim


def _numbers(label: Tensor, values: np.ndarray, spec: LeafSpec, kind: tuple[Any, ...]) -> LabelReading:
    like = trees.as_tensor(spec.like)
    assert like is not None
    if spec.role == "values" and like.ndim == 0 and values.ndim == 2 and _is_one_hot(values):
        return LabelReading("classes of whole numbers", values.argmax(1).astype(float), kind=kind, hard=True)
    if values[0].size != max(1, like.numel()):
        seen = f"targets of {len(values)} rows have the shape {list(label.shape)}, where rows are {list(like.shape)}."
        return LabelReading("of a wrong shape", None, [("VIC013", seen)], kind)
    hard = not label.is_floating_point()
    shaped = values.reshape(len(values), *like.shape)
    return LabelReading("whole numbers" if hard else "numbers", shaped, kind=kind, hard=hard)


def _whole(label: Tensor, values: np.ndarray, spec: LeafSpec, kind: tuple[Any, ...]) -> LabelReading:
    if spec.role == "map":
        expected = _ndim(spec) + 1
        if label.ndim == expected + 1 and label.shape[1] == 1:
            values = values[:, 0]
        elif label.ndim != expected:
            return LabelReading(
                "of a wrong shape", None, [("VIC013", f"maps of labels have the shape {list(label.shape)}.")], kind
            )
        return LabelReading("class indices", one_hot(values, spec.classes), kind=kind, hard=True)
    if label.ndim == 2 and label.shape[1] == spec.classes and spec.classes > 1:
        return LabelReading("dense labels of whole numbers", values, kind=kind, hard=True)
    if label.ndim == 2 and label.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        return LabelReading("of a wrong shape", None, [("VIC013", f"labels have the shape {list(label.shape)}.")], kind)
    return LabelReading("class indices", one_hot(values, spec.classes), kind=kind, hard=True)


def _averaged(values: np.ndarray, spec: LeafSpec, kind: tuple[Any, ...]) -> LabelReading:
    """Read one number per row or place where there was a class index."""
    if spec.classes == 2 and values.min() >= 0 and values.max() <= 1:  # the share of class 1
        return LabelReading("the share of class 1", np.stack([1 - values, values], axis=1), kind=kind)
    whole = np.abs(values - np.round(values)) < 1e-6
    if whole.all():
        return LabelReading(
            "class indices as floating point", one_hot(np.round(values), spec.classes), kind=kind, hard=True
        )
    example = values[~whole].flat[0]
    return LabelReading(
        "averaged class indices",
        None,
        [("VIC010", f"class indices 0 to {spec.classes - 1} came out as numbers such as {example:.3f}.")],
        kind,
    )


def _is_one_hot(values: np.ndarray) -> bool:
    return values.shape[1] > 1 and bool(((values == 0) | (values == 1)).all()) and bool((values.sum(1) == 1).all())


def _are_pairs(values: np.ndarray) -> bool:
    whole = np.abs(values[:, :2] - np.round(values[:, :2])).max() < 1e-6
    return bool(whole and values[:, 2].min() >= 0 and values[:, 2].max() <= 1) and not _sum_to_one(values)


def _sum_to_one(values: np.ndarray) -> bool:
    return bool(np.abs(values.sum(1) - 1).max() < 0.05)


def _of_shares(label: Tensor, values: np.ndarray) -> list[tuple[str, str]]:
    """Return what is wrong with shares of classes whatever the inputs are."""
    axis = 1
    sums = values.sum(axis)
    worst = float(np.abs(sums - 1).max())
    low, high = float(values.min()), float(values.max())
    half = (
        any(torch.equal(label, label.to(kind).to(label.dtype)) for kind in (torch.float16, torch.bfloat16))
        and worst > 1e-6
    )
    half |= 1e-6 < worst <= 0.01  # of half precision and smoothed after it
    if worst > (0.02 if half else 1e-3) or low < -1e-3 or high > 1 + 1e-3:
        off = float(sums.flat[int(np.abs(sums - 1).argmax())])
        return [("VIC007", f"shares lie between {low:.3f} and {high:.3f}, and those of one row sum to {off:.3f}.")]
    if half and worst > 1e-6:
        off = float(sums.flat[int(np.abs(sums - 1).argmax())])
        return [("VIC015", f"shares are rounded to half precision; those of one row sum to {off:.5f}.")]
    return []


def split(batch: Any, marks_like: Any, label_names: set[str]) -> tuple[Any, Any]:
    """Split a batch that came out into its inputs and its labels, by the structure of what went in.

    Args:
        batch: what a pipeline returned.
        marks_like: one example, whose structure says where labels are.
        label_names: names of the leaves that hold labels in it.

    Returns:
        Inputs and labels, each a pytree.

    """
    if isinstance(batch, Mapping):
        labels = {key: value for key, value in batch.items() if _is_label_key(str(key), label_names)}
        return {key: value for key, value in batch.items() if key not in labels}, labels
    if isinstance(batch, tuple | list) and not label_names:
        return batch, None
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        named = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
        return split(named, marks_like, label_names)
    if trees.holds_tensors(batch) and not isinstance(batch, Tensor | MixedTarget):
        return split(vars(batch), marks_like, label_names)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        fields: Any = batch._asdict()  # pyright: ignore
        return split(fields, marks_like, label_names)
    if isinstance(batch, tuple | list):
        places = {int(found[1]) for name in label_names if (found := re.match(r"\[(\d+)\]", name))}
        if not isinstance(marks_like, tuple | list) or not places:
            return (batch, None) if len(batch) == 1 else (batch[0], _alone(batch[1:]))
        if len(batch) == len(marks_like):  # part by part
            rest = [part for i, part in enumerate(batch) if i not in places]
            return _alone(rest), _alone([batch[i] for i in sorted(places)])
        first = max(1, min(places))
        return _alone(batch[:first]), _alone(batch[first:])
    return batch, None


def _alone(parts: Sequence[Any]) -> Any:
    """Return several parts as a tuple, and a single one by itself."""
    return parts[0] if len(parts) == 1 else tuple(parts)


def _is_label_key(key: str, label_names: set[str]) -> bool:
    from vicinal.checking.marks import LABEL_NAME

    lowered = key.lower()
    return bool(
        LABEL_NAME.search(key)
        or any(last_key(name) == key for name in label_names)
        or lowered
        in ("lam", "lambda", "lambd", "lamb", "lmbda", "mix_coef", "mixup_lambda", "ratio", "alpha", "mix", "lams")
    )


def by_name(tree: Any, specs: list[LeafSpec]) -> dict[str, Any]:
    """Return for each label of an example the part of a batch's labels that belongs to it."""
    found: dict[str, Any] = {}
    named = {name: leaf for name, leaf in trees.leaves(tree) if name}
    paths = {spec.name: [name for name in named if spec.name == name or spec.name.endswith(name)] for spec in specs}
    if all(len(names) == 1 for names in paths.values()) and len(named) == len(specs):
        return {spec.name: named[paths[spec.name][0]] for spec in specs}
    if isinstance(tree, Mapping):
        shared = {key: value for key, value in tree.items() if str(key).lower().startswith(("lam", "ratio", "mix"))}
        for spec in specs:
            key = last_key(spec.name)
            own = {name: value for name, value in tree.items() if str(name).startswith(key) and name not in shared}
            longer = {
                last_key(other.name)
                for other in specs
                if last_key(other.name) != key and last_key(other.name).startswith(key)
            }
            own = {name: value for name, value in own.items() if not any(str(name).startswith(long) for long in longer)}
            if own:
                found[spec.name] = own | shared if len(own) > 1 else next(iter(own.values()))
        return found
    if isinstance(tree, tuple | list):
        names = sorted(spec.name for spec in specs)
        leaves = list(trees.leaves(tree))
        if len(leaves) == len(names):
            return {spec.name: leaf for spec, (_, leaf) in zip(specs, leaves, strict=True)}
        if len(tree) == len(specs):
            return {spec.name: part for spec, part in zip(specs, tree, strict=True)}
    return found
