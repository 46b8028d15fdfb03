"""Photographs from their bytes to random crops of 224 x 224: the usual way with Pillow, and ours, on one core.

The photographs are those of `imagenet/imagenet-samples` in the folder that VICINAL_DATA names, or of --folder. All ways
cut the same crops, drawn by the same function. What is read from the disk is read beforehand.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench import timing
from vicinal.keyed import Key
from vicinal.lab.data import class_folder, decoding, loader

SIZE = 224
MEAN, STD = (torch.tensor(t).view(3, 1, 1) for t in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def ways(images: list[bytes]) -> dict[str, Callable[[], Any]]:
    key = Key(0, 0, 0, 0)
    batch = np.empty((len(images), SIZE, SIZE, 3), dtype=np.uint8)

    def usual(row: int) -> torch.Tensor:
        """What torchvision's RandomResizedCrop, RandomHorizontalFlip and PILToTensor do to an image."""
        with Image.open(io.BytesIO(images[row])) as file:
            image = file.convert("RGB")
        crop = loader.resized(row, key, image.height, image.width)
        image = image.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
        image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        if crop.mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()

    def normalized() -> torch.Tensor:
        return torch.stack([usual(row).float().div(255).sub_(MEAN).div_(STD) for row in range(len(images))])

    def as_bytes() -> torch.Tensor:
        return torch.stack([usual(row) for row in range(len(images))])

    def ours(decode: Callable[..., None]) -> Callable[[], Any]:
        def fill() -> None:
            for row, content in enumerate(images):
                decode(content, lambda height, width, row=row: loader.resized(row, key, height, width), batch[row])

        return fill

    found = {
        "Pillow, the usual way, normalized": normalized,
        "Pillow, the usual way, bytes": as_bytes,
        "vicinal, Pillow": ours(decoding._decode_pillow),
    }
    if decoding._fast() is not None:
        found[f"vicinal, {decoding.decoder()}"] = ours(decoding.decode)
    return found


def main() -> None:
    args = timing.arguments(__doc__ or "", folder="")
    data = os.environ.get("VICINAL_DATA")
    if not args.folder and data is None:
        print("bench.decode: nothing measured; set VICINAL_DATA or give --folder, for photographs")
        return
    files = class_folder.scan(args.folder or Path(str(data), "imagenet", "imagenet-samples"))
    images = [files.read(row) for row in range(len(files))]
    reference = "Pillow, the usual way, bytes"
    times = timing.rounds(ways(images), args.rounds)
    result = timing.against(times, reference)
    title = f"{len(images)} photographs, random crops of {SIZE}x{SIZE}"
    timing.show(title, result, reference)
    print()
    for name, row in result.items():
        print(f"{name:42s}{1e3 * len(images) / row['ms'][1]:10.0f} images a second of one core")
    timing.save("decode", args, {title: result})


if __name__ == "__main__":
    main()
