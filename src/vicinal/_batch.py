"""Which part of a batch is the target, and the batch put together again: for batches whose loop is not the user's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

TARGET_NAMES = ("label", "labels", "target", "targets", "y")


class SplitBatch(NamedTuple):
    """A batch as its inputs and its target.

    Args:
        inputs: everything that is not the target.
        target: what the loss compares the outputs with.
        join: puts mixed inputs and their target together, as the batch was.

    """

    inputs: Any
    target: Any
    join: Callable[[Any, Any], Any]


def split_batch(batch: Any, target: int | str | None = None) -> SplitBatch:
    """Split a batch into inputs and target.

    Args:
        batch: a mapping, a list, or a tuple, named or not.
        target: the key or the place of the target. None: the second of two, or the one of the keys "label", "labels",
            "target", "targets", "y" that a mapping has.

    Returns:
        Inputs, target, and the function that puts them together: into a mapping or sequence of the batch's type.

    Raises:
        ValueError: it is not clear which part is the target, or there is none of that name or place.
        TypeError: the batch is neither a mapping nor a sequence.

    Example:
        >>> x, y, join = split_batch({"image": 1, "label": 2})
        >>> x, y, join({"image": 3}, 4)
        ({'image': 1}, 2, {'image': 3, 'label': 4})

    """
    if isinstance(batch, Mapping) or hasattr(batch, "keys"):  # a TensorDict is not a Mapping
        return _split_mapping(batch, target)
    if isinstance(batch, list | tuple):
        return _split_sequence(batch, target)
    raise TypeError(
        f"a batch is a pair of inputs and targets, or a mapping of which one key is the target; got {type(batch).__name__}"
    )


def _split_mapping(batch: Any, target: int | str | None) -> SplitBatch:
    keys = list(batch.keys())
    found = [key for key in TARGET_NAMES if key in keys] if target is None else [target]
    if len(found) != 1 or found[0] not in keys:
        raise ValueError(
            f"which of {keys} is the target? Name it: target=KEY; found {found if target is None else 'none'}"
        )
    key = found[0]

    def join(inputs: Any, mixed: Any) -> Any:
        joined = copy.copy(batch)  # of its type, with what else it holds
        for name in keys:
            joined[name] = mixed if name == key else inputs[name]
        return joined

    return SplitBatch({name: batch[name] for name in keys if name != key}, batch[key], join)


def _split_sequence(batch: list[Any] | tuple[Any, ...], target: int | str | None) -> SplitBatch:
    fields: tuple[str, ...] = getattr(batch, "_fields", ())  # of a named tuple
    place = fields.index(target) if isinstance(target, str) and target in fields else target
    if place is None and len(batch) == 2:
        place = 1
    if not isinstance(place, int) or not -len(batch) <= place < len(batch):
        places = f"its fields {list(fields)}" if fields else "its places, counted from 0"
        raise ValueError(f"which of the {len(batch)} parts of a batch is the target? Say target= one of {places}")
    place %= len(batch)
    rest = [part for i, part in enumerate(batch) if i != place]

    def join(inputs: Any, mixed: Any) -> Any:
        parts = [inputs] if len(rest) == 1 else list(inputs)
        parts.insert(place, mixed)
        kind: Any = type(batch)
        return kind(*parts) if fields else kind(parts)

    return SplitBatch(rest[0] if len(rest) == 1 else rest, batch[place], join)
