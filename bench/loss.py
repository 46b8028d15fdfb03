"""The loss on mixed labels, forward and backward: next to two cross-entropies, soft labels and plain ERM."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import vicinal
from bench import timing

SHAPES = ((128, 10), (1024, 10), (128, 1000), (1024, 1000), (1024, 21843), (512, 100_000))
QUICK = ((8, 10), (4, 9000))  # the second takes the path of many classes


def candidates(rows: int, classes: int, device: str) -> timing.Candidates:
    generator = np.random.Generator(np.random.Philox(1))
    logits = torch.from_numpy(generator.standard_normal((rows, classes), dtype="float32")).to(device).requires_grad_()
    ids = torch.from_numpy(generator.integers(0, classes, rows)).to(device)
    target = vicinal.Mixup(1.0, seed=0).plan(rows, step=1).to(device).target(ids)
    y_a, y_b, weight = target.pairs()
    lam = float(weight[0])

    def both(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            logits.grad = None
            loss().backward()

        return run

    return {
        "two cross_entropy (reference)": both(
            lambda: lam * F.cross_entropy(logits, y_a) + (1 - lam) * F.cross_entropy(logits, y_b)
        ),
        "soft one-hot": both(lambda: F.cross_entropy(logits, target.dense(classes))),
        "plain ERM cross_entropy": both(lambda: F.cross_entropy(logits, ids)),
        "vicinal": both(lambda: F.cross_entropy(logits, target)),
    }


def table(rows: int, classes: int, args: Namespace) -> timing.Table:
    return timing.measure(f"{rows}x{classes}", candidates(rows, classes, args.device), args)


def main() -> None:
    args = timing.arguments(__doc__)
    shapes = QUICK if args.quick else SHAPES
    timing.save("loss", args, {f"{rows}x{classes}": table(rows, classes, args) for rows, classes in shapes})


if __name__ == "__main__":
    main()
