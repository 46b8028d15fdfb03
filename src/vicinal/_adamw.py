"""AdamW without the class `torch.optim.AdamW`, which brings PyTorch's compiler: seconds at the start of each worker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw


class AdamW:
    """PyTorch's AdamW in its functional form, with betas (0.9, 0.999) and eps 1e-8; bit for bit as the class.

    Args:
        parameters: what is trained.
        weight_decay: decoupled; 0 is Adam.
        fused: all operations of a step in one kernel.

    """

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float, fused: bool = False) -> None:
        self._parameters, self._weight_decay, self._fused = list(parameters), weight_decay, fused
        self._first, self._second = ([torch.zeros_like(p) for p in self._parameters] for _ in range(2))  # moments
        self._counts = [torch.zeros((), device=p.device) for p in self._parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], learning_rate: float) -> None:
        """Take a step along the gradients; a parameter that has none stays."""
        state = zip(self._parameters, gradients, self._first, self._second, self._counts, strict=True)
        parameters, given, first, second, counts = map(
            list, zip(*(of for of in state if of[1] is not None), strict=True)
        )
        adamw(
            parameters, given, first, second, [], counts, fused=self._fused, foreach=False,
            lr=learning_rate, weight_decay=self._weight_decay, beta1=0.9, beta2=0.999, eps=1e-8,
            amsgrad=False, maximize=False, capturable=False, differentiable=False,
        )  # fmt: skip

    def to(self, device: torch.device | str) -> AdamW:
        """Move what is remembered to a device, after the parameters."""
        for of in (self._first, self._second, self._counts):
            of[:] = [tensor.to(device) for tensor in of]
        return self

    def select(self, keep: list[int], parameters: Iterable[Tensor]) -> AdamW:
        """Return the optimizer of parameters that are rows `keep` of these, as if they had been alone."""
        selected = AdamW(parameters, self._weight_decay, self._fused)
        selected._first, selected._second = ([moment[keep] for moment in of] for of in (self._first, self._second))
        selected._counts = [count.clone() for count in self._counts]
        return selected
