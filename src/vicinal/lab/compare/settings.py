"""Settings of a comparison: everything that changes a result. Imports nothing heavy: `vicinal compare --help` reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from vicinal.lab.errors import UserError
from vicinal.lab.option import option

ALPHAS = (0.1, 0.2, 0.4, 1.0)
# of ERM: as many as mixup has alphas, the first first
DECAYS = (
    *(0.0, 0.1, 1.0, 0.01, 10.0, 0.001, 0.3, 3.0, 0.03, 0.003),
    *(0.2, 2.0, 0.02, 5.0, 0.5, 0.05, 0.005, 0.002, 0.0003, 0.0001),
)
Augment = Literal["flip", "shift", "none"]

# of the command line, by the field that each sets
OPTIONS = {
    "alphas": "--alpha",
    "named": "--with",
    "seeds": "--seeds",
    "epochs": "--epochs",
    "learning_rate": "--learning-rate",
    "weight_decay": "--weight-decay",
    "erm_decays": "--erm-decays",
    "metric": "--metric",
    "patience": "--patience",
    "to_the_end": "--to-the-end",
    "label_noise": "--label-noise",
    "input_noise": "--input-noise",
}
FOLDER_OPTIONS = {"model": "--model", "augment": "--augment"}

_MOST_SEEDS = 10_000
_SMALL_BATCH = 16
_FEWEST_EPOCHS = 10  # unless asked for fewer


@dataclass(frozen=True)
class Settings:
    """What is compared, and how."""

    alphas: tuple[float, ...] = option(ALPHAS, "mixup's alphas, each > 0", "A[,A...]")
    named: tuple[str, ...] = option((), "further vicinities, as Mixup(alpha=0.4, pairing=SameClass())", "VICINITY")
    seeds: int = option(20, "runs per method, 2 or more; seeds count from 0")
    epochs: int | None = option(None, "epochs per run; without it, enough for about `steps` steps")
    label_noise: float = option(0.0, "share of training and validation labels replaced by random ones", "SHARE")
    input_noise: float | None = option(
        None, "also test with noise of this standard deviation on the standardized inputs", "SD"
    )
    batch_size: int | None = option(None, "examples per step; without it 16, and more where that makes too many steps")
    learning_rate: float = option(1e-3, "Adam's", "RATE")
    weight_decay: float = option(0.0, "of mixup and the other vicinities: decoupled, as AdamW's; 0 is Adam", "DECAY")
    erm_decays: tuple[float, ...] | None = option(
        None,
        "weight decays that ERM may choose among on validation data (default: as many as mixup has alphas: that of "
        "--weight-decay, 0, 0.1, 1, ...)",
        "DECAY[,...]",
    )
    patience: int | None = option(None, "stop a run after N epochs without a better validation score, to save time")
    metric: str | None = option(
        None,
        "what the verdict is about: error (the default), balanced_error, auroc, f1, nll, brier or ece; for numbers rmse "
        "(the default), mae or r2",
        "NAME",
    )
    to_the_end: bool = option(
        False, "take the weights after the last epoch, as the paper does, and not those of the best on validation data"
    )

    steps: ClassVar[int] = 3000
    most_epochs: ClassVar[int] = 200

    def __post_init__(self) -> None:
        for alpha in self.alphas:
            if not (alpha > 0 and math.isfinite(alpha)):
                raise UserError(f"alpha must be a finite number > 0, got {alpha}; ERM, no mixing, is always compared")
        if len(set(self.alphas)) < len(self.alphas):
            raise UserError("an alpha is given twice; give each once")
        if not self.alphas and not self.named:
            raise UserError("there is nothing to compare with ERM: give an alpha or a vicinity")
        if self.seeds < 2:
            raise UserError(f"a comparison needs 2 seeds or more to tell a difference from luck, got {self.seeds}")
        if self.seeds > _MOST_SEEDS:
            raise UserError(f"more than {_MOST_SEEDS} seeds tell nothing that fewer do not, got {self.seeds}")
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"epochs must be 1 or more, got {self.epochs}")
        if self.patience is not None and self.patience < 1:
            raise UserError(f"patience counts epochs and must be 1 or more, got {self.patience}")
        if self.patience is not None and self.to_the_end:
            raise UserError("--patience stops a run early and --to-the-end does not; give one of them")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise UserError(f"the learning rate must be a finite number > 0, got {self.learning_rate}")
        if not (self.weight_decay >= 0 and math.isfinite(self.weight_decay)):
            raise UserError(f"the weight decay must be a finite number >= 0, got {self.weight_decay}")
        for decay in self.erm_decays or ():
            if not (decay >= 0 and math.isfinite(decay)):
                raise UserError(f"a weight decay must be a finite number >= 0, got {decay}")
        if self.erm_decays is not None and not len(set(self.erm_decays)) == len(self.erm_decays) > 0:
            raise UserError("--erm-decays takes one weight decay or more, each once")
        if not 0 <= self.label_noise <= 1:
            raise UserError(
                f"label noise is the share of labels replaced and must lie in [0, 1], got {self.label_noise}"
            )
        if self.input_noise is not None and not (self.input_noise >= 0 and math.isfinite(self.input_noise)):
            raise UserError(f"input noise is a standard deviation and must be finite and >= 0, got {self.input_noise}")

    def batch(self, rows: int) -> int:
        """Return the batch size for a number of training rows: as given, or 16, doubled until 10 epochs fit the steps."""
        if self.batch_size is not None:
            return self.batch_size
        size = _SMALL_BATCH
        while _FEWEST_EPOCHS * rows > size * self.steps:
            size *= 2
        return size

    @property
    def decays(self) -> tuple[float, ...]:
        """Weight decays of ERM's candidates: as given, or as many as mixup has alphas, its own first."""
        if self.erm_decays is not None:
            return self.erm_decays
        ladder = dict.fromkeys((self.weight_decay, *DECAYS))
        if len(self.alphas) > len(ladder):
            raise UserError(
                f"ERM has as many candidates as mixup has alphas, and {len(self.alphas)} are more than the usual weight "
                "decays: give --erm-decays"
            )
        return tuple(sorted(list(ladder)[: max(1, len(self.alphas))]))

    def budget(self, steps_per_epoch: int) -> int:
        """Return the number of epochs: as given, or enough for about `steps` steps, 10 to `most_epochs`."""
        if self.epochs is not None:
            return self.epochs
        return min(self.most_epochs, max(_FEWEST_EPOCHS, round(self.steps / steps_per_epoch)))


@dataclass(frozen=True)
class TableSettings(Settings):
    """What is compared on a table."""

    hidden: tuple[int, ...] = option((128, 128), "widths of the hidden layers", "N[,N...]")


@dataclass(frozen=True)
class FolderSettings(Settings):
    """What is compared on a folder."""

    seeds: int = option(5, "runs per method, 2 or more; seeds count from 0")
    batch_size: int | None = option(64, "examples per step")
    model: str = option("small", "a model of vicinal, or package.module:factory", "NAME")
    augment: Augment = option("flip", "random changes of training images; flip: shift and mirror", "HOW")

    steps: ClassVar[int] = 1000
    most_epochs: ClassVar[int] = 100
