"""The loss on mixed labels, forward and backward: beside two cross-entropies, soft labels, and plain ERM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import vicinal
from bench import timing

SHAPES = ((128, 10), (1024, 10), (128, 1000), (1024, 1000), (1024, 21843), (512, 100_000))


def table(rows: int, classes: int, n: int) -> dict[str, Any]:
    generator = np.random.Generator(np.random.Philox(1))
    logits = torch.from_numpy(generator.standard_normal((rows, classes), dtype="float32")).requires_grad_()
    ids = torch.from_numpy(generator.integers(0, classes, rows))
    plan = vicinal.Mixup(1.0, seed=0).plan(rows, step=1)
    target = plan.target(ids)
    y_a, y_b, weight = target.pairs()
    lam = float(weight[0])

    def both(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            logits.grad = None
            loss().backward()

        return run

    candidates = {
        "two cross_entropy (reference)": both(
            lambda: lam * F.cross_entropy(logits, y_a) + (1 - lam) * F.cross_entropy(logits, y_b)
        ),
        "soft one-hot": both(lambda: F.cross_entropy(logits, target.dense(classes))),
        "plain ERM cross_entropy": both(lambda: F.cross_entropy(logits, ids)),
        "vicinal": both(lambda: F.cross_entropy(logits, target)),
    }
    result = timing.against(timing.rounds(candidates, n), "two cross_entropy (reference)")
    timing.show(f"{rows}x{classes}", result, "two cross_entropy")
    return result


def main() -> None:
    args = timing.arguments(__doc__ or "")
    tables = {f"{rows}x{classes}": table(rows, classes, args.rounds) for rows, classes in SHAPES}
    timing.save("loss", args, tables)


if __name__ == "__main__":
    main()
