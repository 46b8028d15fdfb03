"""The paper's model for tables: fully connected, two hidden layers of 128 ReLU units (section 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        inputs: width of the input.
        hidden: widths of the hidden layers.
        outputs: width of the output: the number of classes (logits), or 1 for regression.

    """

    def __init__(self, inputs: int, hidden: Sequence[int] = (128, 128), outputs: int = 2) -> None:
        super().__init__()
        widths = [inputs, *hidden, outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Compute outputs [n, outputs] for inputs [n, inputs]."""
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x).relu()
        return last(x)
