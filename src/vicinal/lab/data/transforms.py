"""Crops of images: random resized crops of files while they are decoded, random crops of batches of small images.

Images become RGB of 8 bits; transparency, further frames and the orientation that the camera noted are ignored. Gray of
16 bits is divided by 257, which takes 65535 to 255.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab import limits
from vicinal.lab.streams import Stream

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # of Pillow's: none that starts another program
_EVALUATION_CROP = 224 / 256  # share of the shorter side (He et al. 2016; the paper's section 3.1)
_PHOTOMETRIC = 262  # a tag of TIFF: 0 where 0 is white, which Pillow heeds for 8 bits alone
_PIXEL = 12  # bytes that a pixel takes at most while it is brought to RGB
_FAINT = 4096  # gray values of 16 bits below this leave 16 of 8 bits

FILLS = ("zero", "reflect")

Pixels = NDArray[np.uint8]


# -- crops of files ----------------------------------------------------------------------------------------------------


class Crop(NamedTuple):
    """A rectangle of an image, in pixels, and whether it is flipped left to right."""

    top: int
    left: int
    height: int
    width: int
    flipped: bool


ChooseCrop = Callable[[int, Key | None, int, int], Crop]  # from row, key of the batch, height and width


def random_resized_crop(height: int, width: int, generator: np.random.Generator) -> Crop:
    """Draw a crop as in Goyal et al. 2017: 8 to 100 % of the area, 3:4 to 4:3 in shape.

    Area uniform, the logarithm of width / height uniform, place uniform. What does not fit is drawn again, ten times in
    all; then it is the largest central rectangle of such a shape. Half of all crops are flipped.

    Args:
        height: of the image.
        width: of the image.
        generator: 41 numbers are drawn from it.

    Example:
        >>> from vicinal import Key
        >>> random_resized_crop(375, 500, Key(0, 0, 0, 0).generator())
        Crop(top=26, left=214, height=140, width=121, flipped=False)

    """
    tries = generator.random((10, 4))
    flipped = bool(generator.random() < 0.5)
    for area, shape, down, right in tries.tolist():
        pixels = height * width * (0.08 + 0.92 * area)
        ratio = math.exp(math.log(3 / 4) + shape * math.log(16 / 9))
        h, w = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
        if 0 < h <= height and 0 < w <= width:
            return Crop(int(down * (height - h + 1)), int(right * (width - w + 1)), h, w, flipped)
    h = min(height, max(1, round(width / (3 / 4))))
    w = min(width, max(1, round(height * (4 / 3))))
    return Crop((height - h) // 2, (width - w) // 2, h, w, flipped)


def center_crop(height: int, width: int, crop_pct: float = 1.0) -> Crop:
    """Return the central square whose side is a share of the shorter side.

    Example:
        >>> central_crop(375, 500, 224 / 256)
        Crop(top=23, left=86, height=328, width=328, flipped=False)

    """
    side = max(1, round(crop_pct * min(height, width)))
    return Crop((height - side) // 2, (width - side) // 2, side, side, False)


def choose_center_crop(row: int, key: Key | None, height: int, width: int) -> Crop:
    """Choose the largest central square."""
    return center_crop(height, width)


def choose_random_resized_crop(row: int, key: Key | None, height: int, width: int) -> Crop:
    """Choose a `random_resized_crop` keyed by (seed, step, row); without a key, the center crop of evaluation."""
    if key is None:
        return center_crop(height, width, _EVALUATION_CROP)
    # neither the rank nor the place in the batch: the same image in the same step is cut the same way by any job
    one = Key(key.seed, 0, 0, (int(key.step) << 32) + row, Stream.CROP)
    return random_resized_crop(height, width, one.generator())


class ImageError(Exception):
    """The bytes are not those of an image that is read here."""


def decode(content: bytes, choose: Callable[[int, int], Crop], size: int) -> Pixels:
    """Decode an image and scale a crop of it.

    Args:
        content: the bytes of the file.
        choose: returns the crop for (height, width); a pure function.
        size: height and width of the result.

    Returns:
        RGB, uint8 [size, size, 3].

    Raises:
        ImageError: if that is not possible.

    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            width, height = image.size
            if why := limits.lacking(_PIXEL * width * height):
                raise ImageError(f"its {width:,} x {height:,} pixels take {why}: scale it down")
            crop = choose(height, width)
            factor = _reduction(crop, size)
            if image.format == "JPEG" and factor > 1:
                image.draft("RGB", (width // factor, height // factor))
            if image.size != (-(-width // factor), -(-height // factor)):
                factor = 1
            rgb = _to_rgb(image)
    except ImageError:
        raise
    except Exception as e:  # decoders raise all sorts: OSError, SyntaxError, struct.error, ...
        raise ImageError(_reason(content, e)) from e
    left, top, right, bottom = crop.left, crop.top, crop.left + crop.width, crop.top + crop.height
    box = (left / factor, top / factor, right / factor, bottom / factor)
    small = rgb.resize((size, size), Image.Resampling.BILINEAR, box)
    return np.asarray(small.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if crop.flipped else small)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        gray = _eight_bits(np.asarray(image))
        inverted = image.format == "TIFF" and image.getexif().get(_PHOTOMETRIC) == 0
        return Image.fromarray(255 - gray if inverted else gray).convert("RGB")
    if image.mode[0] in "IF":
        raise ImageError("its pixels have 32 bits or a sign: convert it to 8 bits")
    # a palette with transparency warns unless it goes this way
    return (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")


def _eight_bits(gray: NDArray[Any]) -> Pixels:
    """Scale 16 bits to 8, rounded to the nearest.

    Raises:
        ImageError: they are the 12 bits or fewer of a camera or scanner, of which next to nothing would be left.

    """
    gray = gray.astype(np.uint32)
    if 0 < (largest := int(gray.max(initial=0))) < _FAINT:
        raise ImageError(f"its values of 16 bits end at {largest}, which would be black: convert it to 8 bits")
    return ((gray + 128) // 257).astype(np.uint8)


_MAGIC = {  # first bytes of what is found under the name of an image
    b"%PDF": "a PDF document: convert it to PNG",
    b"version https://git-lfs": "a pointer of Git LFS: run git lfs pull",
    b"PK\x03\x04": "a ZIP archive: unpack it",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000: convert it to JPEG",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL: convert it to JPEG",
    b"\xff\x0a": "JPEG XL: convert it to JPEG",
    b"8BPS": "a Photoshop document: convert it to PNG",
    b"{": "JSON text",
}
_BRANDS = {b"avif": "AVIF: convert it to JPEG", b"avis": "AVIF: convert it to JPEG"}
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "HEIC: convert it to JPEG")
_KNOWN = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WebP"}
_KNOWN |= {b"II*\x00": "TIFF", b"MM\x00*": "TIFF"}


def _reason(content: bytes, error: Exception) -> str:
    """Return what is wrong with an image, in words."""
    if not content:
        return "it is empty, 0 bytes"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels: scale it down"
    if isinstance(error, MemoryError):
        return "it takes more memory than there is: scale it down"
    if isinstance(error, UnidentifiedImageError):
        return _what_it_is(content)
    text = " ".join(re.sub(r"<[^>]* at 0x[0-9a-f]+>", "it", str(error)).split())[:200]
    if re.search(
        "truncated|unexpected end|broken data stream|not enough (image )?data|decoder|reached eof", text, re.IGNORECASE
    ):
        return "it is cut off or damaged"
    return text or type(error).__name__


def _what_it_is(content: bytes) -> str:
    """Return what bytes are that are not an image of a kind that is read."""
    text = content[:512].lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "it is a web page, HTML"
    if text.startswith((b"<svg", b"<?xml")) and b"<svg" in content[:4096].lower():
        return "it is an SVG drawing: convert it to PNG"
    if text.startswith(b"<"):
        return "it is a web page or other markup"
    if content[4:8] == b"ftyp":
        return f"it is {_BRANDS.get(content[8:12], 'a video')}"
    for magic, what in _MAGIC.items():
        if content.startswith(magic):
            return f"it is {what}"
    if not content.strip(b"\0"):
        return "it holds nothing but zeros"
    for magic, what in _KNOWN.items():
        if content.startswith(magic):
            more = ", or of a sort that is not read, such as 16 bits per color: convert it to 8 bits"
            return f"it begins as {what}, but is cut off or damaged{more if what == 'TIFF' else ''}"
    return f"it is none of {', '.join(_FORMATS)}"


def mute_decoders() -> None:
    """Silence the warnings of Pillow, about large images and odd metadata, whose lines are of its own source.

    They are silenced for good: a context that restores them would not be safe in threads.
    """
    warnings.filterwarnings("ignore", module=r"PIL(\.|$)")


def _reduction(crop: Crop, size: int) -> int:
    """Return 1, 2, 4 or 8: how much smaller a JPEG file can be decoded with the crop still at least `size`."""
    return next((k for k in (8, 4, 2) if min(crop.height, crop.width) >= k * size), 1)


# -- crops of batches in memory ----------------------------------------------------------------------------------------


class CropParams(NamedTuple):
    """What was drawn for a batch of n images."""

    top: Tensor  # int64 [n], where the crop begins in the padded image
    left: Tensor
    flip: Tensor  # bool [n], whether the crop is then flipped left to right


@dataclass(frozen=True)
class CropFlip:
    """Pad each side, cut the old size out at random, flip at random: the CIFAR augmentation.

    A batch is one gather: where each pixel comes from is computed first, on whatever device the images are on.

    Example:
        >>> from vicinal import Key
        >>> images = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3)
        >>> CropFlip(pad=1)(images, Key(0, 0, 0, 0)).shape
        torch.Size([1, 1, 3, 3])

    """

    pad: int = 4  # pixels added to each side; 0 for no crop
    flip: bool = True  # half of the images, left to right
    fill: str = "zero"  # black borders; or "reflect", mirrored without the edge itself: `pad` is smaller than the image

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"pad must be at least 0, got {self.pad}")
        if self.fill not in FILLS:
            raise ValueError(f"fill must be one of {', '.join(FILLS)}, got {self.fill!r}")

    def __call__(self, images: Tensor, key: Key) -> Tensor:
        """Draw and apply."""
        return self.apply(images, self.draw(len(images), key))

    def draw(self, n: int, key: Key) -> CropParams:
        """Draw for n images: a pure function of the key, whose `stream` plays no part."""
        generator = key._replace(stream=Stream.AUGMENT).generator()
        top, left = generator.integers(0, 2 * self.pad + 1, size=(2, n))
        flip = generator.random(n) < (0.5 if self.flip else 0.0)
        return CropParams(torch.from_numpy(top), torch.from_numpy(left), torch.from_numpy(flip))

    def apply(self, images: Tensor, shifts: CropParams) -> Tensor:
        """Crop and flip as drawn.

        Args:
            images: uint8 (or any dtype) [n, c, h, w] on any device; not changed.
            shifts: of n images.

        Returns:
            The same dtype, shape and device; channels_last if `images` is.

        Raises:
            ValueError: if the shapes do not fit.

        """
        n = len(shifts.top)
        if images.ndim != 4 or len(images) != n:
            raise ValueError(f"images must be [{n}, c, h, w] as the shifts, got {list(images.shape)}")
        if self.fill == "reflect" and self.pad >= min(images.shape[2:]):
            raise ValueError(f"a reflected border of {self.pad} needs larger images than {list(images.shape[2:])}")
        height, width = images.shape[2:]
        top, left, flip = (drawn.to(images.device)[:, None] for drawn in shifts)
        rows = top + torch.arange(height, device=images.device)  # in the padded image, as are the columns
        columns = left + torch.arange(width, device=images.device)
        columns = torch.where(flip, columns.flip(1), columns)
        if self.fill == "zero":
            images = F.pad(images, (self.pad,) * 4)
        else:
            rows, columns = _mirror(rows - self.pad, height), _mirror(columns - self.pad, width)
        return _gather(images, rows, columns)


def _mirror(position: Tensor, size: int) -> Tensor:
    """Bring positions from -size < position < 2 size - 1 into the image."""
    position = position.abs()
    return torch.where(position < size, position, 2 * (size - 1) - position)


def _gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels at rows [n, height] and columns [n, width] of each image."""
    n, c = images.shape[:2]
    h, w = rows.shape[1], columns.shape[1]
    position = (rows[:, :, None] * images.shape[3] + columns[:, None, :]).view(n, h * w)
    if images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous():
        # the channels of a pixel lie together: move them at once
        pixels = images.permute(0, 2, 3, 1).flatten(1, 2)  # [n, pixels of an image, c]
        first = torch.arange(n, device=images.device)[:, None] * pixels.shape[1]
        moved = pixels.flatten(0, 1).index_select(0, (position + first).flatten())
        return moved.view(n, h, w, c).permute(0, 3, 1, 2)
    return images.flatten(2).gather(2, position[:, None].expand(n, c, h * w)).view(n, c, h, w)
