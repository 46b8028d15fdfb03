"""Mixing and its loss on a GPU: as a share of the bandwidth of a copy, and next to other implementations.

Mixing pairs moves at least two reads and a write, 1.5 times a copy; `share` is that traffic over the time, as a share of
the bandwidth that the copy of the same tensor reached in the same round. A kernel written by hand could reach 1, no more.
The loss is given with the peak memory that it takes beyond its logits, in sizes of the logits.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

import torch

from bench import loss, mixing, timing

SHAPES = {"256x3x224x224": (256, 3, 224, 224), "1024x3x32x32": (1024, 3, 32, 32), "128x3x32x32": (128, 3, 32, 32)}
QUICK = {"8x3x16x16": (8, 3, 16, 16)}
LOSSES = ((1024, 10), (1024, 1000), (1024, 21843), (512, 100_000))


def with_share(table: timing.Table) -> timing.Table:
    return {name: row | {"share": 1.5 / row["ratio"][1]} for name, row in table.items()}


def with_memory(rows: int, classes: int, args: Namespace) -> timing.Table:
    table = loss.table(rows, classes, args)
    if args.device == "cuda":
        for name, row in table.items():
            fresh = loss.candidates(rows, classes, args.device)[name]  # holds no gradient yet
            row["extra_logit_sizes"] = _peak_bytes(fresh) / (4 * rows * classes)
    return table


def _peak_bytes(candidate: Callable[[], None]) -> int:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    candidate()
    return torch.cuda.max_memory_allocated() - before


def main() -> None:
    args = timing.arguments(__doc__, timing.default_device())
    tables = {}
    for name, shape in (QUICK if args.quick else SHAPES).items():
        for dtype in (torch.float32, torch.bfloat16):
            for channels_last in (False, True):
                layout = "channels_last" if channels_last else "contiguous"
                tables[f"{name} {dtype} {layout}"] = with_share(mixing.floats(shape, args, dtype, channels_last))
        tables[f"{name} uint8 to float"] = mixing.from_bytes(shape, args)
    for rows, classes in loss.QUICK if args.quick else LOSSES:
        tables[f"loss {rows}x{classes}"] = with_memory(rows, classes, args)
    timing.save("gpu-kernels", args, tables)


if __name__ == "__main__":
    main()
