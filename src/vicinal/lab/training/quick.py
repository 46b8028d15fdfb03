"""A look at a recipe in about a minute of one CPU core: few short epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vicinal.lab import models, parse
from vicinal.lab.recipe import Recipe, read_changes

_EPOCHS = 3
_WORK = 1.5e12  # multiply-adds of a quick look: about a minute of one CPU core (docs/how-to/training.md)
_FEWEST_STEPS, _MOST_STEPS = 2, 40  # per epoch
_BATCH = 32
_SHAPES = {"cifar": (3, 32, 32), "speech": (1, 160, 101)}  # by the first word of `dataset`
_FOLDER = (3, 64, 64)


def shortened(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """Return a recipe for a quick look; the changes, written as `field=value`, take precedence.

    Three epochs of up to 40 steps, fewer for a large model; batches of at most 32, and the learning rate scaled with
    them; as many test examples as an epoch trains on; what counts in epochs (milestones, warmup, a schedule of the
    vicinity) is scaled, to at least one epoch. The largest models take several minutes nevertheless: 2 steps are the
    minimum.
    """
    values = read_changes(changes)
    wanted = replace(recipe, **values)
    epochs = values.get("epochs", _EPOCHS)
    batch = min(wanted.batch_size, max(_BATCH, wanted.grad_accum_steps))
    steps = _steps(wanted, batch)

    def scaled(epoch: int) -> int:
        return max(1, round(epoch * epochs / recipe.epochs)) if epoch else 0

    small: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch,
        "learning_rate": recipe.learning_rate * batch / wanted.batch_size,
        "max_steps_per_epoch": steps,
        "max_test_examples": steps * batch,
        "milestones": tuple(scaled(e) for e in recipe.milestones),
        "warmup_epochs": scaled(recipe.warmup_epochs),
        "vicinity": parse.scheduled(recipe.vicinity, scaled),
    }
    return replace(recipe, **small | values)


def _steps(recipe: Recipe, batch: int) -> int:
    """Return the number of steps per epoch that fits."""
    # an epoch computes each of its examples three times (a backward pass is two), and as many once in the test
    steps = int(_WORK / (_EPOCHS * 4 * batch * _multiply_adds(recipe)))
    return max(_FEWEST_STEPS, min(steps, _MOST_STEPS))


def _multiply_adds(recipe: Recipe) -> int:
    """Return the multiply-adds of one example in a forward pass."""
    shape = next((shape for name, shape in _SHAPES.items() if recipe.dataset.startswith(name)), _FOLDER)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        models.build(recipe.model, 10)(torch.empty(2, *shape))
    return max(1, counter.get_total_flops() // 4)  # two examples, and two operations each


def describe_changes(before: Recipe, after: Recipe) -> str:
    """Return what differs, as `epochs 3 instead of 200`."""
    old, new = asdict(before), asdict(after)
    return ", ".join(
        f"{name} {_shown(new[name])} instead of {_shown(old[name])}" for name in old if new[name] != old[name]
    )


def _shown(value: object) -> str:
    return "all" if value is None else str(value)  # as `max_train_examples`
