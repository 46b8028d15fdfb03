"""A multilayer perceptron and its training, epoch by epoch: PyTorch alone, nothing of scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from vicinal._adamw import AdamW
from vicinal.keyed import Key
from vicinal.vicinity import Vicinity

# streams of keyed draws beside those of plans, which number theirs from 0
# the order of rows, first weights, which rows an epoch has, and which are held out
ORDER, WEIGHTS, ROWS, HELD_OUT = 2**63, 2**63 + 5, 2**63 + 16, 2**63 + 17


def initial_mlp(widths: Sequence[int], seed: int) -> nn.Sequential:
    """Return linear layers with ReLU between them, with initial weights as those of nn.Linear, a function of the seed.

    Args:
        widths: of the inputs, the hidden layers and the outputs.
        seed: of the weights; no global generator is moved.

    """
    generator = Key(seed, 0, 0, 0, WEIGHTS).generator()
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layer = nn.Linear(fan_in, fan_out, device="meta", dtype=torch.float32).to_empty(device="cpu")  # draws nothing
        bound = 1 / math.sqrt(fan_in)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(generator.uniform(-bound, bound, (fan_out, fan_in))))
            layer.bias.copy_(torch.from_numpy(generator.uniform(-bound, bound, fan_out)))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an epoch's rows into batches; a last batch of one row, which has no partner, is left out of several."""
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return parts[:-1] if len(parts) > 1 and len(parts[-1]) == 1 else parts


def shuffled(drawn: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Put the rows of an epoch into a random order, a function of seed and epoch."""
    return drawn[Key(seed, 0, 0, epoch, ORDER).generator().permutation(len(drawn))]


def check_converged(mean: float, epoch: int) -> None:
    """Refuse to go on from a mean loss that is not a finite number."""
    if not math.isfinite(mean):
        raise ValueError(f"training diverged, the loss is {mean} in epoch {epoch}: choose a smaller learning_rate")


class MLPTrainer:
    """A model in training: its optimizer, its seed and what was done so far.

    Args:
        module: the model, float32; trained in place.
        seed: of the order of rows and of the draws.
        weight_decay: decoupled (AdamW); 0 is Adam.

    """

    def __init__(self, module: nn.Sequential, seed: int, weight_decay: float) -> None:
        self.module, self.seed = module, seed
        self.optimizer = AdamW(module.parameters(), weight_decay, fused=True)
        self.steps = self.epochs = 0

    def to(self, device: torch.device | str) -> MLPTrainer:
        """Move everything to a device."""
        self.module.to(device)
        self.optimizer.to(device)
        return self

    @torch.enable_grad()  # a fit may stand within torch.no_grad()
    def epoch(
        self,
        x: Tensor,
        target: Tensor,
        drawn: np.ndarray,
        batch_size: int,
        vicinity: Vicinity,
        loss: Callable[..., Tensor],
        learning_rate: Callable[[int], float],
    ) -> float:
        """Train for one epoch.

        Args:
            x: inputs, float32 [n, d].
            target: class indices int64 [n], or numbers float32 [n, outputs].
            drawn: rows of the epoch, int64 [m], put into a random order here.
            batch_size: rows per step, >= 2.
            vicinity: what mixes each batch.
            loss: of outputs and mixed targets, the mean over the batch.
            learning_rate: that of a step, by its number from 0.

        Returns:
            The mean loss over the epoch's rows, on mixed rows.

        Raises:
            ValueError: the loss is not a finite number.

        """
        parameters = list(self.module.parameters())
        total, rows = torch.zeros((), dtype=torch.float64, device="cpu"), 0
        for part in batches(shuffled(drawn, self.seed, self.epochs), batch_size):
            chosen = torch.from_numpy(part).to(x.device)
            inputs, targets = x[chosen], target[chosen]
            if len(part) > 1:
                plan = vicinity.plan(len(part), targets, inputs, step=self.steps, epoch=self.epochs, rank=0, worker=0)
                inputs, targets = plan(inputs), plan.target(targets)
            value = loss(self.module(inputs), targets)
            self.optimizer.step(torch.autograd.grad(value, parameters), learning_rate(self.steps))
            total, rows = total + value.detach() * len(part), rows + len(part)
            self.steps += 1
        self.epochs += 1
        mean = float(total) / rows
        check_converged(mean, self.epochs)
        return mean
