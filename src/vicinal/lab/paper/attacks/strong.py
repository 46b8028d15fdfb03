"""AutoAttack, so that nobody takes a model for robust because two weak attacks failed; not in the paper."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vicinal.keyed import Key
from vicinal.lab.errors import UserError
from vicinal.lab.paper.attacks.gradient import checked, linf_ball
from vicinal.lab.paper.attacks.model import eval_mode
from vicinal.lab.streams import Stream

_CLASSES = 10  # the standard version aims at nine other classes


@dataclass(frozen=True)
class AutoAttack:
    """The standard AutoAttack: four attacks without settings, each on the images that withstood those before it.

    APGD on the cross-entropy, APGD and FAB aimed at nine other classes each, and Square, which needs no gradient.
    Images that the model gets wrong anyway are left as they are, so that the top-5 error after it says nothing.
    Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020. The code is theirs, as the package pyautoattack has it.

    Args:
        epsilon: the largest change of a pixel, in gray levels of 255, > 0.
        seed: of what it draws; with it and `batch` that is decided, on one kind of device.

    """

    epsilon: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.epsilon > 0 and math.isfinite(self.epsilon)):
            raise ValueError(f"epsilon is in gray levels of 255 and must be finite and > 0, got {self.epsilon}")

    @staticmethod
    def installed() -> bool:
        """Return True if its package is there."""
        return importlib.util.find_spec("pyautoattack") is not None

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, batch: int = 0) -> Tensor:
        """Craft; see `gradient.Attack`. True labels are used.

        Raises:
            UserError: the package is not installed.
            ValueError: x or y are not what an attack takes, or there are fewer than ten classes.

        """
        if not self.installed():
            raise UserError("AutoAttack is in a package of its own: pip install pyautoattack")
        import pyautoattack

        pixels = checked(x, y)
        if not len(pixels):
            return pixels
        seed = int(Key(self.seed, 0, 0, batch, Stream.AUTOATTACK).generator().integers(2**31))
        with eval_mode(model), torch.inference_mode(False), _contained(model):
            with torch.no_grad():
                classes = model(pixels[:1]).shape[1]
            if classes < _CLASSES:
                raise ValueError(f"AutoAttack's standard version needs {_CLASSES} classes or more, found {classes}")
            attack = pyautoattack.AutoAttack(
                _UnitModel(model), eps=self.epsilon / 255, seed=seed, device=pixels.device, version="standard"
            )
            # the package takes views that images in channels_last do not have
            unit = pixels.clone(memory_format=torch.contiguous_format) / 255
            found, _ = attack.run_standard_evaluation(unit, y.clone(), batch_size=len(pixels))
        return (found.detach() * 255).clamp(*linf_ball(pixels, self.epsilon))  # its own bounds hold up to a rounding


class _UnitModel(nn.Module):
    """A model on pixels, for those that count from 0 to 1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x * 255)


@contextmanager
def _contained(model: nn.Module) -> Iterator[None]:
    """Undo what the package does around it: it seeds the global generators, and adds to the parameters' gradients."""
    learning = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in learning:
            p.requires_grad_(False)
        with torch.random.fork_rng():
            yield
    finally:
        for p in learning:
            p.requires_grad_()
