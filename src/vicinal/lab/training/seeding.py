"""PyTorch's global generators, which initial weights and dropout draw from, started from a key for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vicinal.keyed import Key


@contextmanager
def fork_rng(key: Key) -> Iterator[None]:
    """Seed PyTorch's global generators from a key for this block, and restore them afterwards."""
    seed = int(key.generator().integers(2**63))
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # noqa: TID251 (inside the fork)
        yield
