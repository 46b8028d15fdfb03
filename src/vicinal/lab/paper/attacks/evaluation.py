"""How often models err on images as they are, and on the same images attacked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vicinal.lab.paper.attacks.gradient import Attack
from vicinal.lab.paper.attacks.model import eval_mode


@dataclass(frozen=True)
class Errors:
    """Shares of images in [0, 1].

    Args:
        examples: number of images.
        clean_top1: whose true class is not the first prediction, as they are.
        clean_top5: whose true class is not among the first five; None for models of five classes or fewer.
        top1: likewise, attacked.
        top5: likewise, attacked.

    """

    examples: int
    clean_top1: float
    clean_top5: float | None
    top1: float
    top5: float | None


def evaluate(
    attack: Attack, source: nn.Module, targets: Mapping[str, nn.Module], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Errors]:
    """Attack images on one model and measure others on them; return the errors of each of these.

    A target that is `source` itself is attacked in a white box, any other one in a black box. All models take pixels in
    [0, 255], as `NormalizedModel` does; batches are of such pixels [n, c, ...] and true labels int64 [n].

    Raises:
        ValueError: there are no images, or an output is not finite.

    """
    counts = {name: torch.zeros(4, dtype=torch.int64) for name in targets}
    examples, classes = 0, dict.fromkeys(targets, 0)
    for batch, (x, y) in enumerate(batches):
        attacked = attack(source, x, y, batch=batch)
        examples += len(y)
        for name, model in targets.items():
            with eval_mode(model), torch.no_grad():
                clean_logits, logits = model(x), model(attacked)
            classes[name] = logits.shape[1]
            counts[name] += torch.stack([*wrong(clean_logits, y), *wrong(logits, y)]).cpu()
    if not examples:
        raise ValueError("there are no images to attack")
    shares = {name: (count.double() / examples).tolist() for name, count in counts.items()}
    return {
        name: Errors(
            examples, one, five if classes[name] > 5 else None, hit_one, hit_five if classes[name] > 5 else None
        )
        for name, (one, five, hit_one, hit_five) in shares.items()
    }


def wrong(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Count the rows of logits [n, k] whose class y is not the first prediction, and is not among the first five."""
    if not torch.isfinite(logits).all():
        raise ValueError("the model's outputs are not finite: check its weights")
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices
    right = best == y[:, None]
    return (~right[:, 0]).sum(), (~right.any(1)).sum()
