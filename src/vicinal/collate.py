"""Mixing where a DataLoader makes its batches, for loops that are not the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import default_collate

from vicinal._batch import split_batch
from vicinal.vicinity import Vicinity, check_vicinity


@dataclass(frozen=True)
class Collate:
    """A `collate_fn` that mixes each batch: `DataLoader(data, collate_fn=Collate(Mixup(0.2)))`.

    It is for the loader of the training alone: what comes out is mixed, wherever it goes. It can be sent to worker
    processes, spawned ones included, and each of them draws its own. The loader stays a `DataLoader`, which is what
    Lightning, Accelerate and others look for when they cut an epoch among processes.

    Args:
        vicinity: what to mix by, as `Mixup(0.2)`. Each worker counts its batches; `off()` and `set_epoch` reach workers at
            their next batch.
        collate_fn: makes a batch of a list of examples. To be sent to a spawned worker, it must not be a lambda.
        target: key or place of the target in the batch. None: the second of two, or the one of the keys "label", "labels",
            "target", "targets", "y" that a mapping has.

    Convention:
        dimension 0: the rows of the batch that `collate_fn` makes.
        lambda: that of the vicinity.
        one draw: one plan per batch; each worker draws its own.

    Raises:
        TypeError: `vicinity` is not a vicinity. From a call: the batch is neither a mapping nor a sequence, or its inputs
            cannot be mixed.
        ValueError: from a call: it is not clear which part is the target.

    Examples:
        >>> import torch
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> from vicinal import Collate, Mixup
        >>> data = TensorDataset(torch.rand(8, 3), torch.arange(8) % 2)
        >>> loader = DataLoader(data, batch_size=4, collate_fn=Collate(Mixup(0.2)))
        >>> x, y = next(iter(loader))
        >>> type(y).__name__  # goes to the loss as it is
        'MixedTarget'

    Source: Zhang et al. 2018, section 2: one loader, each batch of which is mixed with itself.

    """

    vicinity: Vicinity
    collate_fn: Callable[[list[Any]], Any] = default_collate
    target: int | str | None = None

    def __post_init__(self) -> None:
        """Refuse anything but a vicinity, such as the alpha alone."""
        check_vicinity(self.vicinity)

    def __call__(self, examples: list[Any]) -> Any:
        """Return the mixed batch of a list of examples, in the type that `collate_fn` makes."""
        x, y, join = split_batch(self.collate_fn(examples), self.target)
        return join(*self.vicinity(x, y))
