"""Models that differ in alpha alone, trained at once on the same rows: PyTorch alone, nothing of scikit-learn.

Each becomes what `MLPTrainer` makes of it by itself, to float32 rounding. They share their order of rows, so that a batch
is taken from the table once and mixed once per model; a step of all is one step of a batch of models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal._adamw import AdamW
from vicinal._stacked_batches import draw_epoch, take_rows
from vicinal._stacked_layers import StackedLayers
from vicinal.integrations.sklearn.mlp import batches, check_converged, shuffled
from vicinal.vicinity import Vicinity


class StackedTrainer:
    """R models in training.

    Args:
        modules: linear layers with ReLU between them, of one shape, float32; they have the weights after each epoch.
        vicinities: of each model, one that mixes pairs of rows by one weight per batch: ERM or Mixup(alpha).
        seed: of the order of rows and of the draws.
        weight_decay: as of `MLPTrainer`.

    """

    def __init__(
        self, modules: Sequence[nn.Sequential], vicinities: Sequence[Vicinity], seed: int, weight_decay: float
    ) -> None:
        self.modules, self.vicinities, self.seed = list(modules), list(vicinities), seed
        layers = list(zip(*map(_linear, modules), strict=True))
        self.models = StackedLayers(
            [torch.stack([layer.weight.detach().T for layer in of]) for of in layers],
            [torch.stack([layer.bias.detach()[None] for layer in of]) for of in layers],
        )
        self.optimizer = AdamW(self.models.parameters, weight_decay, fused=True)
        self.steps = self.epochs = 0

    def epoch(
        self,
        x: Tensor,
        target: Tensor,
        drawn: np.ndarray,
        batch_size: int,
        class_weight: Tensor | None,
        learning_rate: Callable[[int], float],
    ) -> list[float]:
        """Train all models for one epoch, as of `MLPTrainer.epoch`.

        Args:
            x: inputs, float32 [n, d].
            target: class indices int64 [n] for cross-entropy, or numbers float32 [n, outputs] for squared error.
            drawn: rows of the epoch, int64 [m], put into a random order here.
            batch_size: rows per step, >= 2.
            class_weight: weights of the classes in the loss, float32 [classes]; None: all 1.
            learning_rate: that of a step, by its number from 0.

        Returns:
            The mean loss of each model over the epoch's rows, on mixed rows.

        Raises:
            ValueError: a loss is not a finite number.

        """
        parts = batches(shuffled(drawn, self.seed, self.epochs), batch_size)
        losses: list[Tensor] = []
        seeds = [self.seed] * len(self.vicinities)
        pairs = draw_epoch(self.vicinities, seeds, list(map(len, parts)), self.steps, x.device)
        assert pairs is not None  # such are the vicinities
        for part, (partner_RB, own_R11) in zip(parts, pairs, strict=True):
            chosen = torch.from_numpy(part).to(x.device)
            layers = self.models.activations(_mixed(x[chosen], partner_RB, own_R11))
            numbers_BC = _numbers(target[chosen], layers[-1].shape[2])
            loss_R, slope_RBC = _loss(layers[-1], _mixed(numbers_BC, partner_RB, own_R11), target, class_weight)
            self.optimizer.step(self.models.gradients(layers, slope_RBC), learning_rate(self.steps))
            losses.append(loss_R * len(part))
            self.steps += 1
        self.epochs += 1
        self._write()
        means: list[float] = (torch.stack(losses).double().sum(0) / sum(map(len, parts))).tolist()
        for mean in means:
            check_converged(mean, self.epochs)
        return means

    def keep(self, positions: list[int]) -> None:
        """Train only some of the models from here on."""
        self.modules = [self.modules[i] for i in positions]
        self.vicinities = [self.vicinities[i] for i in positions]
        self.models = self.models[positions]
        self.optimizer = self.optimizer.select(positions, self.models.parameters)

    @torch.no_grad()
    def _write(self) -> None:
        """Write the weights into the modules."""
        for run, module in enumerate(self.modules):
            for layer, weight, bias in zip(_linear(module), self.models.weights, self.models.biases, strict=True):
                layer.weight.copy_(weight[run].T)
                layer.bias.copy_(bias[run, 0])


def _linear(module: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in module if isinstance(layer, nn.Linear)]


def _mixed(x: Tensor, partner_RB: Tensor, own_R11: Tensor) -> Tensor:
    """Mix the rows of one batch [B, ...] in R ways, [R, B, ...]."""
    return take_rows(x, partner_RB).lerp_(x, own_R11)


def _numbers(target: Tensor, outputs: int) -> Tensor:
    return target if target.is_floating_point() else F.one_hot(target, outputs).float()


def _loss(outputs: Tensor, mixed: Tensor, target: Tensor, class_weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return each model's mean loss [R], and its derivatives with respect to the outputs [R, B, C]."""
    if target.is_floating_point():  # squared error
        difference = outputs - mixed
        return difference.square().mean((1, 2)), difference.mul_(2 / difference[0].numel())
    share = mixed if class_weight is None else mixed * class_weight
    share = share / share.sum((1, 2), keepdim=True)
    log_p = outputs.log_softmax(2)
    return -(share * log_p).sum((1, 2)), log_p.exp_().mul_(share.sum(2, keepdim=True)).sub_(share)
