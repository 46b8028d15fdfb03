"""A recipe: everything that decides a training run, as a frozen value. `training.recipes` holds the paper's."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_type_hints

import vicinal
from vicinal.lab import option, parse, records
from vicinal.lab.errors import UserError
from vicinal.lab.format import closest

# names that fields had in earlier versions, where the new one is not close in spelling
_RENAMED = {
    "network": "model",
    "drops": "milestones",
    "drop": "gamma",
    "warmup_from": "warmup_start_lr",
    "accumulate": "grad_accum_steps",
    "ema": "ema_decay",
    "examples": "max_train_examples",
    "steps": "max_steps_per_epoch",
    "size": "image_size",
    "latent": "mix_at",
}


@dataclass(frozen=True)
class Recipe:
    """How one model is trained. The number of processes is not part of it: results do not depend on it by design."""

    dataset: str  # cifar10, cifar100, imagenet, speech-commands-v1, or a folder (docs/how-to/training.md)
    model: str  # a name of lab/models, or package.module:factory of your own
    vicinity: str = "ERM()"  # as text, as in `vicinal compare --with`
    epochs: int = 200  # passes over the training examples
    batch_size: int = 128  # examples per step, over all processes
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.1  # for the whole batch
    momentum: float = 0.9  # of SGD
    nesterov: bool = False
    weight_decay: float = 1e-4  # added to the gradient, as PyTorch's SGD and Adam do
    decay_norm_and_bias: bool = True  # also decay biases and normalization; the paper's code decays all
    milestones: tuple[int, ...] = (100, 150)  # epochs before which the learning rate is multiplied by `gamma`
    gamma: float = 0.1
    warmup_epochs: int = 0  # the learning rate rises linearly from `warmup_start_lr` to `learning_rate`
    warmup_start_lr: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"  # of the forward pass, by autocast
    channels_last: bool = True  # memory format of images, faster on CPU and GPU
    grad_accum_steps: int = 1  # parts of a batch computed one after the other, to save memory
    ema_decay: float = 0.0  # per step, of an average of the weights that is evaluated too; 0: none
    compile: bool = False  # torch.compile: 15 to 40 s at the start
    dropout: float = 0.0  # share dropped, for a model that has dropout (paper, section 3.4)
    label_noise: float = 0.0  # share of training labels replaced by random ones, the true one included (section 3.4)
    max_train_examples: int | None = None  # use only this many training examples, the same for every seed
    max_steps_per_epoch: int | None = None  # at most this many steps per epoch, of examples drawn anew in each
    max_test_examples: int | None = None  # at most this many test examples, drawn at random once
    image_size: int = 64  # height and width of a folder's images, in pixels
    # of a folder's images: padded and cut; or 8 to 100 % of the area, scaled (Goyal et al. 2017)
    crop: Literal["random_crop", "random_resized_crop"] = "random_crop"
    augment: bool = True  # crop and flip training images
    mix_at: str = ""  # the module of the model before which is mixed, as layer3; empty: the inputs (section 3.8)
    knn: int = 0  # draw partners from this many nearest training examples; 0: as the vicinity pairs
    knn_scope: Literal["all", "class"] = "all"  # nearest of any class, or of the example's own
    seed: int = 0

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be 1 or more, got {value}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise UserError(f"learning_rate must be a finite number > 0, got {self.learning_rate}")
        if self.batch_size % self.grad_accum_steps:
            raise UserError(f"a batch of {self.batch_size} cannot be cut into {self.grad_accum_steps} equal parts")
        for name in ("gamma", "weight_decay", "warmup_start_lr"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise UserError(f"{name} must be a finite number >= 0, got {value}")
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum must lie in [0, 1), got {self.momentum}")
        if self.nesterov and self.optimizer == "sgd" and not self.momentum:
            raise UserError("nesterov needs momentum > 0, got momentum=0")
        if not 0 <= self.dropout <= 1:
            raise UserError(f"dropout is the share dropped and must lie in [0, 1], got {self.dropout}")
        if self.warmup_epochs < 0 or any(epoch < 0 for epoch in self.milestones):
            raise UserError("warmup_epochs and milestones count epochs and must be 0 or more")
        if not 0 <= self.seed < 2**64:
            raise UserError(f"seed must be a whole number in [0, 2**64), got {self.seed}")
        if not 0 <= self.label_noise <= 1:
            raise UserError(
                f"label_noise is the share of labels replaced and must lie in [0, 1], got {self.label_noise}"
            )
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay is a decay and must lie in [0, 1), got {self.ema_decay}")
        if self.knn < 0:
            raise UserError(f"knn counts training examples and must be 0 or more, got {self.knn}")
        if self.mix_at and self.grad_accum_steps > 1:
            raise UserError("a hidden layer is mixed over the whole batch: give grad_accum_steps=1 with mix_at")
        if self.mix_at and self.knn:
            raise UserError("nearest neighbors are mixed at the inputs: give knn or mix_at, not both")
        parse.parse(self.vicinity)

    def lr_at(self, epoch: int, progress: float = 0.0) -> float:
        """Return the learning rate in `epoch` (from 0), of which the share `progress` is done."""
        if epoch < self.warmup_epochs:
            done = (epoch + progress) / self.warmup_epochs
            return self.warmup_start_lr + (self.learning_rate - self.warmup_start_lr) * done
        return self.learning_rate * self.gamma ** sum(epoch >= e for e in self.milestones)

    def fingerprint(self) -> str:
        """Return a digest of the recipe and the version."""
        return hashlib.sha256(json.dumps([vicinal.__version__, asdict(self)]).encode()).hexdigest()


_COUNTS = (
    *("epochs", "batch_size", "grad_accum_steps", "max_steps_per_epoch", "max_train_examples", "max_test_examples"),
    "image_size",
)


class RecipeMismatch(UserError):
    """What a file holds as a recipe, and is none: the message says why, without the file."""


def from_json(values: object) -> Recipe:
    """Return the recipe that `dataclasses.asdict` and JSON wrote.

    Raises:
        RecipeMismatch: it has other fields than this version's, or a value that no recipe has.

    """
    if not isinstance(values, dict):
        raise RecipeMismatch(f"its recipe is not a table of fields: {json.dumps(values)[:40]}")
    odd = sorted(map(str, values.keys() ^ {field.name for field in dataclasses.fields(Recipe)}))
    if odd:
        raise RecipeMismatch(f"it is of another version: its recipe and this one's differ in {odd[0][:40]!r}")
    try:
        return records.from_json(Recipe, values, "its recipe")
    except (records.Mismatch, UserError) as error:
        raise RecipeMismatch(str(error)) from error


def with_overrides(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """Apply changes written as `field=value`; values are read by the field's type.

    >>> with_overrides(Recipe("cifar10", "small"), ["epochs=3", "milestones=1,2"]).milestones
    (1, 2)

    Raises:
        UserError: there is no such field, or a value is not of its type.

    """
    return dataclasses.replace(recipe, **read_changes(changes))


def read_changes(changes: Sequence[str]) -> dict[str, Any]:
    """Return the fields that `field=value` texts set.

    Raises:
        UserError: there is no such field, or a value is not of its type.

    """
    hints = get_type_hints(Recipe)
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or name not in hints:
            raise UserError(f"{change!r} changes no field of a recipe; write field=value; {_hint(name, list(hints))}")
        values[name] = option.read(name, text, hints[name])
    return values


def _hint(name: str, fields: list[str]) -> str:
    close = _RENAMED.get(name) or closest(name, fields)
    return f"did you mean {close}?" if close else f"the fields are {', '.join(fields)}"
