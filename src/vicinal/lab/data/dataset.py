"""Images in memory: one value that the readers give and that training takes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """A set of images of one size; compare contents by `fingerprint`.

    Args:
        images: uint8 [n, c, h, w], contiguous or channels_last, on any device.
        labels: int64 [n], positions in `classes`, on the same device.
        classes: the names, each once.
        name: short name, for titles.

    Raises:
        ValueError: if shapes, dtypes, devices or labels are not these.

    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        x, y = self.images, self.labels
        if x.dtype != torch.uint8 or x.ndim != 4:
            raise ValueError(f"images must be uint8 [n, c, h, w], got {x.dtype} {list(x.shape)}")
        if y.dtype != torch.int64 or y.shape != x.shape[:1]:
            raise ValueError(f"labels must be int64 [{len(x)}], got {y.dtype} {list(y.shape)}")
        if x.device != y.device:
            raise ValueError(f"images are on {x.device} and labels on {y.device}: put both on one device")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must have a name each, got one twice")
        if len(y) and not (int(y.min()) >= 0 and int(y.max()) < len(self.classes)):
            last = len(self.classes) - 1
            raise ValueError(f"labels must be in 0 to {last}, got {int(y.min())} to {int(y.max())}")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> ImageDataset:
        """Return some of the images, int64 [m] row numbers or bool [n], as a set of its own."""
        rows = rows.to(self.images.device)
        return ImageDataset(self.images[rows], self.labels[rows], self.classes, self.name)

    def to(self, device: torch.device | str) -> ImageDataset:
        """Return the same set on a device."""
        return ImageDataset(self.images.to(device), self.labels.to(device), self.classes, self.name)

    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of pixels, labels, shape and classes; name, device and layout play no part."""
        digest = hashlib.sha256(json.dumps([list(self.images.shape), self.classes]).encode())
        for part in (self.images, self.labels):
            array = part.cpu().contiguous().numpy()
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
        return digest.hexdigest()
