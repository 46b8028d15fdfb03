"""Batches of many models that are trained at once: which rows each of them mixes, and how they are taken.

Shape letters: R models, T batches of one size, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from vicinal.keyed import Key
from vicinal.vicinity import Vicinity


def draw_epoch(
    vicinities: Sequence[Vicinity], seeds: Sequence[int], sizes: Sequence[int], step: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]] | None:
    """Draw the pairs of an epoch.

    Args:
        vicinities: of each model.
        seeds: of each model's draws.
        sizes: rows of each batch.
        step: number of the first batch.
        device: where the pairs are used; they are drawn on the host, and come there in one piece for batches of one size.

    Returns:
        Per batch, partners int64 [R, B] and the shares that rows keep of themselves, float32 [R, 1, 1]. None where a
        vicinity does more than mix pairs by one weight per batch, or looks at the data.

    """
    if any(vicinity.draw_pairs([], 0) is None for vicinity in vicinities):
        return None
    return _draw_epoch(vicinities, seeds, sizes, step, device)


def _draw_epoch(
    vicinities: Sequence[Vicinity], seeds: Sequence[int], sizes: Sequence[int], step: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    for size, batches in groupby(sizes):
        steps = range(step, step + len(list(batches)))
        step = steps.stop
        drawn = [
            vicinity.draw_pairs([Key(seed, 0, 0, s) for s in steps], size)
            for vicinity, seed in zip(vicinities, seeds, strict=True)
        ]
        known = [pairs for pairs in drawn if pairs is not None]  # all of them
        partner_RTB, own_RT = (torch.from_numpy(np.stack(part)).to(device) for part in zip(*known, strict=True))
        yield from zip(partner_RTB.unbind(1), own_RT[:, :, None, None].unbind(1), strict=True)


def take_rows(table: Tensor, rows_RB: Tensor) -> Tensor:
    """Return the rows of each model, [R, B, ...] of a table [n, ...]."""
    return table.index_select(0, rows_RB.flatten()).view(*rows_RB.shape, -1)
