"""Photographs from their bytes to random crops of 224 x 224: the usual way with Pillow, and ours, on one core.

The photographs are those of `imagenet/imagenet-samples` in the folder that VICINAL_DATA names, or of --folder. All ways
cut the same crops. What is read from the disk is read beforehand.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench import timing
from vicinal.keyed import Key
from vicinal.lab.data.transforms import Crop, decode, random_resized_crop

SIZE = 224
MEAN, STD = (torch.tensor(t).view(3, 1, 1) for t in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def photographs(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]


def synthetic_photograph() -> bytes:
    coarse = np.random.Generator(np.random.Philox(0)).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def crop_of(row: int, height: int, width: int) -> Crop:
    return random_resized_crop(height, width, Key(0, 0, 0, row).generator())


def usual(row: int, content: bytes) -> torch.Tensor:
    """Do what torchvision's RandomResizedCrop, RandomHorizontalFlip and PILToTensor do to an image."""
    with Image.open(io.BytesIO(content)) as file:
        image = file.convert("RGB")
    crop = crop_of(row, image.height, image.width)
    image = image.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    if crop.flipped:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def ways(images: list[bytes]) -> timing.Candidates:
    batch = np.empty((len(images), SIZE, SIZE, 3), dtype=np.uint8)

    def ours() -> None:
        for row, content in enumerate(images):
            batch[row] = decode(content, lambda height, width, row=row: crop_of(row, height, width), SIZE)

    def normalized() -> torch.Tensor:
        return torch.stack([usual(*image).float().div(255).sub_(MEAN).div_(STD) for image in enumerate(images)])

    return {
        "Pillow, the usual way, bytes": lambda: torch.stack([usual(*image) for image in enumerate(images)]),
        "Pillow, the usual way, normalized": normalized,
        "vicinal": ours,
    }


def main() -> None:
    args = timing.arguments(__doc__, folder="")
    if args.quick:
        images = [synthetic_photograph()]
    elif args.folder or "VICINAL_DATA" in os.environ:
        images = photographs(Path(args.folder or Path(os.environ["VICINAL_DATA"], "imagenet", "imagenet-samples")))
    else:
        print("bench.decode: nothing measured; set VICINAL_DATA or give --folder, for photographs")
        return
    title = f"{len(images)} photographs, random crops of {SIZE}x{SIZE}"
    table = timing.measure(title, ways(images), args)
    print()
    for name, row in table.items():
        print(f"{name:42s}{1e3 * len(images) / row['ms'][1]:10.0f} images/s on one core")
    timing.save("decode", args, {title: table})


if __name__ == "__main__":
    main()
