"""A model as an attack sees it: pixels in, logits out, and nothing of it changed afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class NormalizedModel(nn.Module):
    """A model that takes pixels in [0, 255] and normalizes them itself: `model((x / 255 - mean) / std)`.

    An attack's bounds are in pixels. On normalized inputs they would be another number for each channel.

    Args:
        model: takes normalized inputs [n, c, ...] and returns logits [n, k]. It is shared, not copied.
        mean: of each of the c channels, in the units of images in [0, 1].
        std: likewise, each > 0.

    """

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean or not all(s > 0 for s in std):
            raise ValueError(f"give a mean and a std > 0 for each channel, got mean {mean} and std {std}")
        self.model = model
        self.mean, self.std = tuple(mean), tuple(std)  # no buffers: these stay exact whatever the model's precision

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [n, k] for pixels [n, c, ...]: uint8 or floating point.

        Normalizing is done in float32 (float64 for float64), since bfloat16 cannot tell one gray level from the next;
        the result is then given to the model in the precision of its weights.
        """
        if x.ndim < 2 or x.shape[1] != len(self.mean):
            raise ValueError(f"pixels must be [n, {len(self.mean)}, ...], got {list(x.shape)}")
        x = as_float(x)
        shape = (1, -1, *(1,) * (x.ndim - 2))
        mean, std = (torch.tensor(t, dtype=x.dtype, device=x.device).view(shape) for t in (self.mean, self.std))
        x = (x / 255 - mean) / std
        weight = next((p for p in self.model.parameters() if p.is_floating_point()), None)
        return self.model(x if weight is None else x.to(weight.dtype))


def as_float(x: Tensor) -> Tensor:
    """Return pixels as float64 if they are that, else as float32."""
    return x if x.dtype == torch.float64 else x.to(torch.float32)


@contextmanager
def eval_mode(*models: nn.Module) -> Iterator[None]:
    """Set models to evaluation mode for this block; each of their parts is then as it was."""
    modes = [(part, part.training) for model in models for part in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
