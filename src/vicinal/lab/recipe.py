"""A recipe: everything that decides a training run, as a frozen value. `training.recipes` has them."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_type_hints

import torch
from torch.utils.flop_counter import FlopCounterMode

import vicinal
from vicinal.lab import models, parse
from vicinal.lab.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """How one model is trained. The number of processes is no part of it: results do not depend on it by design.

    Every field has its unit or its reason beside it.
    """

    dataset: str  # cifar10, cifar100, imagenet, speech-commands-v1, or a folder (docs/training.md)
    model: str  # a name of lab/models, or package.module:factory of your own
    vicinity: str = "ERM()"  # as text, as in `vicinal compare --with`
    epochs: int = 200  # passes over the training examples
    batch_size: int = 128  # examples a step, over all processes
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1  # of the whole batch
    momentum: float = 0.9  # SGD's
    nesterov: bool = False
    weight_decay: float = 1e-4  # in the gradient, as SGD and Adam of PyTorch do it
    decay_norm_and_bias: bool = True  # also decay biases and normalization; the paper's code decays all
    milestones: tuple[int, ...] = (100, 150)  # epochs before which the learning rate is multiplied by `gamma`
    gamma: float = 0.1
    warmup_epochs: int = 0  # the learning rate rises in a line from `warmup_start_lr` to `learning_rate`
    warmup_start_lr: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"  # of the forward pass, by autocast
    channels_last: bool = True  # the memory format of images, faster on CPU and GPU
    grad_accum_steps: int = 1  # parts of a batch computed one after the other, to save memory
    ema_decay: float = 0.0  # decay a step of an average of the weights, evaluated beside them; 0: none
    compile: bool = False  # torch.compile: 15 to 40 s at the start
    dropout: float = 0.0  # of the model, where it has any (paper, section 3.4); the share dropped
    label_noise: float = 0.0  # share of training labels replaced by random ones, the true one included (section 3.4)
    max_train_examples: int | None = None  # only so many training examples, the same for every seed; None: all
    max_steps_per_epoch: int | None = (
        None  # at most so many steps an epoch, of examples drawn anew each epoch; None: all of them
    )
    max_test_examples: int | None = None  # at most so many test examples, drawn at random once; None: all
    image_size: int = 64  # height and width of a folder's images, in pixels
    crop: Literal["random_crop", "random_resized_crop"] = (
        "random_crop"  # of them: padded and cut; or 8 to 100 % scaled (Goyal et al. 2017)
    )
    augment: bool = True  # crop and flip training images
    mix_at: str = ""  # the module of the model before which is mixed, as layer3; empty: the inputs (section 3.8)
    knn: int = 0  # partners are drawn from so many nearest of all training examples; 0: as the vicinity pairs
    knn_scope: Literal["all", "class"] = "all"  # whether those are of any class or of the example's own
    seed: int = 0

    def __post_init__(self) -> None:
        positive: dict[str, int | None] = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "grad_accum_steps": self.grad_accum_steps,
        }
        positive |= {
            "max_steps_per_epoch": self.max_steps_per_epoch,
            "max_test_examples": self.max_test_examples,
            "image_size": self.image_size,
        }
        for name, value in positive.items():
            if value is not None and value < 1:
                raise UserError(f"{name} must be 1 or more, got {value}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise UserError(f"learning_rate must be a finite number > 0, got {self.learning_rate}")
        if self.batch_size % self.grad_accum_steps:
            raise UserError(f"a batch of {self.batch_size} cannot be cut into {self.grad_accum_steps} equal parts")
        if not 0 <= self.label_noise <= 1:
            raise UserError(
                f"label_noise is the share of labels replaced and must lie in [0, 1], got {self.label_noise}"
            )
        if self.knn < 0:
            raise UserError(f"knn counts training examples and must be 0 or more, got {self.knn}")
        if self.mix_at and self.grad_accum_steps > 1:
            raise UserError("a hidden layer is mixed over the whole batch: give grad_accum_steps=1 with mix_at")
        if self.mix_at and self.knn:
            raise UserError("nearest neighbors are mixed at the inputs: give knn or mix_at, not both")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay is a decay and must lie in [0, 1), got {self.ema_decay}")

    def lr_at(self, epoch: int, progress: float = 0.0) -> float:
        """Give the learning rate in `epoch` (from 0), of which the share `progress` is done."""
        if epoch < self.warmup_epochs:
            done = (epoch + progress) / self.warmup_epochs
            return self.warmup_start_lr + (self.learning_rate - self.warmup_start_lr) * done
        return self.learning_rate * self.gamma ** sum(epoch >= e for e in self.milestones)

    def fingerprint(self) -> str:
        """Give a digest of the recipe and the version."""
        return hashlib.sha256(json.dumps([vicinal.__version__, asdict(self)]).encode()).hexdigest()


def from_json(values: object) -> Recipe:
    """Give the recipe of what a file holds, as `dataclasses.asdict` and JSON made it.

    Raises:
        UserError: it has other fields than this version's, or a value that is not of its field's type.

    """
    hints = get_type_hints(Recipe)
    if not isinstance(values, dict):
        raise UserError(f"its recipe is no table of fields: {json.dumps(values)[:40]}")
    odd = sorted(values.keys() ^ hints.keys())
    if odd:
        raise UserError(f"it is of another version: its recipe and this one's differ in {odd[0]!r}")
    for name, value in values.items():
        if not _is_of(value, hints[name]):
            raise UserError(f"{name} of its recipe cannot be {json.dumps(value)}")
    given: dict[str, Any] = values | {"milestones": tuple(values["milestones"])}
    return Recipe(**given)


def _is_of(value: object, kind: Any) -> bool:
    """Whether a value of a JSON file is of a field's type; a whole number is a number, and true and false are none."""
    if kind is float:
        return type(value) in (int, float)
    if kind in (int, bool, str):
        return type(value) is kind
    if kind == tuple[int, ...]:
        return isinstance(value, list) and all(type(part) is int for part in value)
    if kind == int | None:
        return value is None or type(value) is int
    return value in get_args(kind)  # a Literal


def with_overrides(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """Apply changes written as `field=value`; values are read by the field's type.

    Raises:
        UserError: no such field, or a value that is not of its type.

    """
    return dataclasses.replace(recipe, **_values(changes))


def _values(changes: Sequence[str]) -> dict[str, Any]:
    hints = get_type_hints(Recipe)
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or name not in hints:
            close = difflib.get_close_matches(name, hints, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the fields are {', '.join(hints)}"
            raise UserError(f"{change!r} changes no field of a recipe; write field=value; {hint}")
        values[name] = _read(name, text, hints[name])
    return values


_QUICK_EPOCHS = 3
_QUICK_WORK = 1.5e12  # multiply-adds of a quick look: about a minute of one CPU core (docs/training.md)
_QUICK_STEPS = 40  # an epoch, at most
_QUICK_BATCH = 32
_SHAPES = {"cifar": (3, 32, 32), "speech": (1, 160, 101)}  # by the first word of `dataset`
_FOLDER = (3, 64, 64)


def quick(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """Give a recipe for a look in about a minute of one CPU core, and apply the changes, which go before.

    Three epochs of up to 40 steps, fewer for a large model; batches of 32 at most, the learning rate with them; as
    many test examples as an epoch trains on; and what counts in epochs (drops, warmup, a schedule of the vicinity) is
    scaled, to one epoch at least. The largest models take several minutes all the same: 2 steps are the least.
    """
    values = _values(changes)
    wanted = dataclasses.replace(recipe, **values)
    epochs = values.get("epochs", _QUICK_EPOCHS)
    batch = min(wanted.batch_size, max(_QUICK_BATCH, wanted.grad_accum_steps))
    # an epoch computes each of its examples three times (a backward pass is two), and as many once in the test
    steps = int(_QUICK_WORK / (_QUICK_EPOCHS * 4 * batch * _work(wanted)))
    steps = max(2, min(steps, _QUICK_STEPS))

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
    return dataclasses.replace(wanted, **{k: v for k, v in small.items() if k not in values})


def _work(recipe: Recipe) -> int:
    """Give the multiply-adds of one example in a forward pass."""
    shape = next((shape for name, shape in _SHAPES.items() if recipe.dataset.startswith(name)), _FOLDER)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        models.build(recipe.model, 10)(torch.empty(2, *shape))
    return max(1, counter.get_total_flops() // 4)  # two examples, and two operations each


def describe_changes(before: Recipe, after: Recipe) -> str:
    """Give what differs, in words."""
    old, new = asdict(before), asdict(after)

    def spell(value: object) -> str:
        return "all" if value is None else str(value)  # as `max_train_examples`

    return ", ".join(
        f"{name} {spell(new[name])} instead of {spell(old[name])}" for name in old if new[name] != old[name]
    )


def _read(name: str, text: str, kind: Any) -> Any:
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError as error:
            raise UserError(f"{name} takes {'a whole number' if kind is int else 'a number'}, got {text!r}") from error
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"{name} takes true or false, got {text!r}")
        return text.lower() == "true"
    if kind is str:
        return text
    if kind == tuple[int, ...]:
        return tuple(_read(name, part, int) for part in text.split(",") if part)
    if kind == int | None:
        return None if text.lower() == "none" else _read(name, text, int)
    allowed = get_args(kind)  # a Literal
    if text not in allowed:
        raise UserError(f"{name} is one of {', '.join(allowed)}, got {text!r}")
    return text
