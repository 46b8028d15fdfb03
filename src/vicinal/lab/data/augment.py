"""The augmentation of small images: pad, crop at random and flip, for a whole batch at once.

A batch is one gather: where each pixel comes from is computed first, on whatever device the images are on, and the
pixels are moved once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab.streams import Stream

_CHUNK = 1024  # images at a time: the positions take 8 bytes a pixel

FILLS = ("zero", "reflect")


@dataclass(frozen=True, eq=False)
class Shifts:
    """What was drawn for a batch of n images.

    Args:
        top, left: int64 [n], where the crop begins in the padded image.
        flip: bool [n], whether the crop is then mirrored left to right.

    """

    top: Tensor
    left: Tensor
    flip: Tensor

    def __len__(self) -> int:
        return len(self.top)


@dataclass(frozen=True)
class CropFlip:
    """Pad each side, cut the old size out at random, mirror at random: the CIFAR augmentation.

    Args:
        pad: pixels added to each side; 0 for no crop.
        flip: whether half of the images are mirrored left to right.
        fill: "zero" for black borders, "reflect" for the image mirrored at its border (the edge itself is not
            repeated, so that `pad` must be smaller than the image).

    """

    pad: int = 4
    flip: bool = True
    fill: str = "zero"

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"pad must be at least 0, got {self.pad}")
        if self.fill not in FILLS:
            raise ValueError(f"fill must be one of {', '.join(FILLS)}, got {self.fill!r}")

    def draw(self, n: int, key: Key) -> Shifts:
        """Draw for n images: a pure function of the key, whose `stream` plays no part."""
        generator = key._replace(stream=Stream.AUGMENT).generator()
        top, left = generator.integers(0, 2 * self.pad + 1, size=(2, n))
        flip = generator.random(n) < (0.5 if self.flip else 0.0)
        return Shifts(torch.from_numpy(top), torch.from_numpy(left), torch.from_numpy(flip))

    def apply(self, images: Tensor, shifts: Shifts) -> Tensor:
        """Crop and mirror as drawn.

        Args:
            images: uint8 (or any dtype) [n, c, h, w] on any device; not changed.
            shifts: of n images.

        Returns:
            The same dtype, shape and device; channels_last if `images` is.

        Raises:
            ValueError: if the shapes do not fit.

        """
        if images.ndim != 4 or len(images) != len(shifts):
            raise ValueError(f"images must be [{len(shifts)}, c, h, w] as the shifts, got {list(images.shape)}")
        if self.fill == "reflect" and self.pad >= min(images.shape[2:]):
            raise ValueError(f"a reflected border of {self.pad} needs larger images than {list(images.shape[2:])}")
        out = torch.empty_like(images)
        for start in range(0, len(images), _CHUNK):
            part = slice(start, start + _CHUNK)
            drawn = (t[part].to(images.device) for t in (shifts.top, shifts.left, shifts.flip))
            out[part] = self._gather(images[part], *drawn)
        return out

    def __call__(self, images: Tensor, key: Key) -> Tensor:
        """Draw and apply."""
        return self.apply(images, self.draw(len(images), key))

    def _gather(self, images: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
        n, c, h, w = images.shape
        rows = top[:, None] + torch.arange(h, device=images.device)  # in the padded image, as are the columns
        columns = left[:, None] + torch.arange(w, device=images.device)
        columns = torch.where(flip[:, None], columns.flip(1), columns)
        if self.fill == "zero":
            images = F.pad(images, (self.pad,) * 4)
        else:
            rows, columns = _mirror(rows - self.pad, h), _mirror(columns - self.pad, w)
        position = (rows[:, :, None] * images.shape[3] + columns[:, None, :]).view(n, h * w)
        if images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous():
            # a pixel's channels lie together: move them at once
            pixels = images.permute(0, 2, 3, 1).flatten(1, 2)  # [n, pixels of an image, c]
            first = torch.arange(n, device=images.device)[:, None] * pixels.shape[1]
            moved = pixels.flatten(0, 1).index_select(0, (position + first).flatten())
            return moved.view(n, h, w, c).permute(0, 3, 1, 2)
        return images.flatten(2).gather(2, position[:, None].expand(n, c, h * w)).view(n, c, h, w)


def _mirror(position: Tensor, size: int) -> Tensor:
    """Bring positions from -size < position < 2 size - 1 into the image."""
    position = position.abs()
    return torch.where(position < size, position, 2 * (size - 1) - position)
