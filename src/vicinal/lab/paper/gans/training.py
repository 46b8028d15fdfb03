"""Training of one GAN on points in the plane, by the paper's protocol (section 3.7).

Every draw is a function of (seed, step), so a run that was killed resumes from its checkpoint as if nothing had happened,
to the last bit on a CPU, and methods with one seed share their first weights and the points and the noise of each step
(all but `BatchMixupGan`, which takes twice as many).

One model after another, not a batch of them: with 512 units the time goes into matrix products, and stacking five
models saved 0 % a model (256 units: 1 %; 128 units: 15 %).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vicinal.keyed import Key
from vicinal.lab import records
from vicinal.lab.errors import UserError
from vicinal.lab.models.mlp import MLP
from vicinal.lab.paper.gans.methods import GanMethod
from vicinal.lab.paper.gans.modes import Modes
from vicinal.lab.training import checkpoint

# what a run draws, as parts of its key
_DISCRIMINATOR, _GENERATOR, _DISCRIMINATOR_STEP, _GENERATOR_STEP, _SAMPLES = range(5)


@dataclass(frozen=True)
class GanSettings:
    """Everything that decides a run; the defaults are the paper's.

    The paper trains "for 20,000 mini-batches of size 128", with "five iterations" of the discriminator "before every
    generator iteration". Here an iteration is one step of the generator with those of the discriminator before it, as in
    the author's demo, whose figures are labeled with it. By the other reading, 20,000 minibatches of the discriminator,
    training ends after 4,000 iterations; a snapshot is taken there too.
    """

    modes: Modes
    method: GanMethod
    seed: int
    iterations: int = 20_000
    snapshots: tuple[int, ...] = (10, 100, 1000, 4000, 10_000, 20_000)  # after this number of iterations
    batch_size: int = 128
    hidden: tuple[int, ...] = (512, 512, 512)
    noise: int = 2  # width of the generator's input, standard normal
    discriminator_steps: int = 5  # before each step of the generator
    learning_rate: float = 1e-3  # Adam's default, with betas (0.9, 0.999) and eps 1e-8
    samples: int = 10_000  # generated at each snapshot, from the same noise


@dataclass(frozen=True)
class GanRun:
    """What was measured of a run at each of its snapshots, and the points in the plotted window by iteration.

    Modes covered and shares of points near a mode are those within 3 and 10 standard deviations; points are kept of the
    first seed alone.
    """

    iterations: list[int]
    inside: list[float]
    modes_3: list[int]
    share_3: list[float]
    modes_10: list[int]
    share_10: list[float]
    points: dict[str, list[list[float]]] | None = None


class Gan:
    """Two models in training."""

    def __init__(self, settings: GanSettings, dtype: torch.dtype = torch.float32) -> None:
        self.settings = settings
        self.dtype = dtype
        self.iteration = 0
        with torch.device("meta"):  # without weights: to draw them would move the global generator
            d, g = MLP(2, settings.hidden, 1).to(dtype), MLP(settings.noise, settings.hidden, 2).to(dtype)
        self.d, self.g = d.to_empty(device="cpu"), g.to_empty(device="cpu")
        _initialize(self.d, self._draws(0, _DISCRIMINATOR))
        _initialize(self.g, self._draws(0, _GENERATOR))
        self._adam_d = torch.optim.Adam(self.d.parameters(), lr=settings.learning_rate, fused=True)
        self._adam_g = torch.optim.Adam(self.g.parameters(), lr=settings.learning_rate, fused=True)
        self._parts = {"d": self.d, "g": self.g, "adam_d": self._adam_d, "adam_g": self._adam_g}

    def iterate(self) -> None:
        """Train the discriminator for some steps, then the generator for one."""
        settings = self.settings
        for i in range(settings.discriminator_steps):
            draws = self._draws(self.iteration * settings.discriminator_steps + i, _DISCRIMINATOR_STEP)
            real, noise = self._batch(draws, settings.batch_size * settings.method.batches)
            with torch.no_grad():
                fake = self.g(noise)
            _step(self._adam_d, settings.method.loss(self.d, real, fake, draws))
        draws = self._draws(self.iteration, _GENERATOR_STEP)
        real, noise = self._batch(draws, settings.batch_size)
        self.d.requires_grad_(False)  # its gradients are not needed here, and cost a third of the step
        _step(self._adam_g, -settings.method.generator_objective(self.d, real, self.g(noise), draws))
        self.d.requires_grad_(True)
        self.iteration += 1

    @torch.no_grad()
    def sample(self) -> Tensor:
        """Generate points [samples, 2] from the run's fixed noise."""
        noise = self._draws(0, _SAMPLES).standard_normal((self.settings.samples, self.settings.noise))
        return self.g(torch.from_numpy(noise).to(self.dtype))

    def tensors(self) -> dict[str, Tensor]:
        """Return all that training goes on from, but for the number of iterations."""
        found = {f"{name}.{key}": value for name in "dg" for key, value in self._parts[name].state_dict().items()}
        for name in ("adam_d", "adam_g"):
            for i, of in self._parts[name].state_dict()["state"].items():
                found |= {f"{name}.{i}.{key}": value for key, value in of.items()}
        return found

    def load(self, iteration: int, found: Mapping[str, Tensor]) -> None:
        """Restore the state of a run with the same settings after an iteration, from 1.

        Raises:
            records.Mismatch: it is not such a state.

        """
        blank = Gan(self.settings, self.dtype)
        for adam, model in ((blank._adam_d, blank.d), (blank._adam_g, blank.g)):
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            adam.step()  # makes its state
        wanted = blank.tensors()
        checkpoint.check_fits(found, wanted)
        for name in wanted:
            if name.startswith("adam_") and name.endswith(".step"):
                steps = iteration * (self.settings.discriminator_steps if name.startswith("adam_d") else 1)
                if found[name].item() != steps:
                    raise records.Mismatch(f"{name!r} must be {steps}, found {found[name].item():g}")
        self.iteration = iteration
        for name in "dg":
            self._parts[name].load_state_dict({key: found[f"{name}.{key}"] for key in self._parts[name].state_dict()})
        for name in ("adam_d", "adam_g"):
            adam, state = self._parts[name], dict[int, dict[str, Tensor]]()
            for key in wanted:
                part, _, rest = key.partition(".")
                if part == name:
                    i, _, of = rest.partition(".")
                    state.setdefault(int(i), {})[of] = found[key]
            adam.load_state_dict({**adam.state_dict(), "state": state})

    def _draws(self, step: int, part: int) -> np.random.Generator:
        return Key(self.settings.seed, 0, 0, step).fold(part).generator()

    def _batch(self, draws: np.random.Generator, n: int) -> tuple[Tensor, Tensor]:
        real = torch.from_numpy(self.settings.modes.draw(draws, n))
        noise = torch.from_numpy(draws.standard_normal((n, self.settings.noise)))
        return real.to(self.dtype), noise.to(self.dtype)


def train(
    settings: GanSettings, folder: Path | None = None, dtype: torch.dtype = torch.float32, every_seconds: float = 60
) -> dict[int, Tensor]:
    """Train a GAN to its end; return the points generated at each snapshot, [samples, 2], by their iteration.

    A folder is for checkpoints: if it holds some of this run, training resumes from there. They are removed at the end.

    Raises:
        UserError: the folder holds checkpoints of a run with other settings.

    """
    gan, snapshots = Gan(settings, dtype), dict[int, Tensor]()
    file = None if folder is None else checkpoint.read_last(folder)
    if file is not None:
        try:
            snapshots = _resumed(gan, checkpoint.load(file), file.path)
        except records.Mismatch as error:
            raise checkpoint.unfit(file.path, str(error)) from error
    saved = time.monotonic()
    while gan.iteration < settings.iterations:
        gan.iterate()
        if gan.iteration in settings.snapshots:
            snapshots[gan.iteration] = gan.sample()
        if folder is not None and time.monotonic() - saved >= every_seconds:
            checkpoint.save(folder, gan.iteration, _state(gan, snapshots))
            saved = time.monotonic()
    if folder is not None:
        checkpoint.remove_all(folder)
    return snapshots


@dataclass(frozen=True)
class _GanPosition:
    """What a checkpoint says of a run besides its tensors."""

    settings: str
    iteration: int


def _state(gan: Gan, snapshots: Mapping[int, Tensor]) -> checkpoint.Saved:
    made = {f"snapshots.{iteration}": points for iteration, points in snapshots.items()}
    return checkpoint.Saved(records.to_json(_GanPosition(repr(gan.settings), gan.iteration)), gan.tensors() | made)


def _resumed(gan: Gan, state: checkpoint.Saved, path: str) -> dict[int, Tensor]:
    """Resume from a state; return the points of its snapshots by iteration."""
    position, settings = records.from_json(_GanPosition, state.record), gan.settings
    if position.settings != repr(settings):
        raise UserError(f"{path} is the checkpoint of another run ({position.settings[:500]}): give another folder")
    if not 1 <= position.iteration <= settings.iterations:
        raise records.Mismatch(f"iteration must lie in 1 to {settings.iterations}, found {position.iteration}")
    due = [iteration for iteration in settings.snapshots if iteration <= position.iteration]
    wanted = {f"snapshots.{i}": torch.empty(settings.samples, 2, dtype=gan.dtype, device="meta") for i in due}
    found = {name: state.tensors[name] for name in state.tensors if name.startswith("snapshots.")}
    checkpoint.check_fits(found, wanted)
    gan.load(position.iteration, {name: value for name, value in state.tensors.items() if name not in found})
    return {iteration: found[f"snapshots.{iteration}"] for iteration in due}


def _step(adam: torch.optim.Adam, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


@torch.no_grad()
def _initialize(model: MLP, draws: np.random.Generator) -> None:
    """Draw weights as nn.Linear does, uniform in +-1/sqrt(in), from a keyed generator."""
    for layer in model.layers:
        assert isinstance(layer, nn.Linear)
        bound = 1 / math.sqrt(layer.in_features)
        for parameter in (layer.weight, layer.bias):
            parameter.copy_(torch.from_numpy(draws.uniform(-bound, bound, tuple(parameter.shape))))
