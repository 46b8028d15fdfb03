"""From the bytes of an image to a scaled crop of it, in a place that is given.

Decoding takes the time here, so the fastest decoder that is installed is taken: the packages simplejpeg and
opencv-python-headless for JPEG files, if both are there, else Pillow; `decoder` says which. They draw the same crops and
differ by about one gray level of 255, since OpenCV does not smooth when it shrinks a little.

Images become RGB of 8 bits; transparency, further frames and the camera's note of its orientation are ignored.
"""

from __future__ import annotations

import functools
import importlib
import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.lab.errors import UserError

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # of Pillow's: none that starts another program
_MOST_PIXELS = 178_956_970  # Pillow's own bound against images that are small files and fill the memory

Pixels = NDArray[np.uint8]


# ---- where to cut


class Crop(NamedTuple):
    """A rectangle of an image, in pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


def random_crop(height: int, width: int, generator: np.random.Generator) -> Crop:
    """Draw a crop as in Goyal et al. 2017: 8 to 100 % of the area, 3:4 to 4:3 in shape.

    Area uniform, the logarithm of width / height uniform, place uniform. What does not fit is drawn again, ten times in
    all; then it is the largest central rectangle of such a shape. Half of all crops are mirrored.

    Args:
        height: of the image.
        width: of the image.
        generator: 41 numbers are drawn from it.

    """
    tries = generator.random((10, 4))
    mirrored = bool(generator.random() < 0.5)
    for area, shape, down, right in tries.tolist():
        pixels = height * width * (0.08 + 0.92 * area)
        ratio = math.exp(math.log(3 / 4) + shape * math.log(16 / 9))
        h, w = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
        if 0 < h <= height and 0 < w <= width:
            return Crop(int(down * (height - h + 1)), int(right * (width - w + 1)), h, w, mirrored)
    h = min(height, max(1, round(width / (3 / 4))))
    w = min(width, max(1, round(height * (4 / 3))))
    return Crop((height - h) // 2, (width - w) // 2, h, w, mirrored)


def central_crop(height: int, width: int, keep: float) -> Crop:
    """Give the central square whose side is the share `keep` of the shorter side."""
    side = max(1, round(keep * min(height, width)))
    return Crop((height - side) // 2, (width - side) // 2, side, side, False)


# ---- decoding


class Unreadable(Exception):
    """The bytes are not those of an image that is read here."""


def decoder() -> str:
    """Name what decodes JPEG files here, for the log: it decides about the speed and the last bit of each pixel."""
    fast = _fast()
    if fast is None:
        return f"Pillow {_pillow().__version__}"
    simplejpeg, cv2 = fast
    return f"simplejpeg {simplejpeg.__version__} and OpenCV {cv2.__version__}"


def decode(content: bytes, choose: Callable[[int, int], Crop], out: Pixels) -> None:
    """Decode an image and write a crop of it, scaled.

    Args:
        content: the file's bytes.
        choose: gives the crop for a (height, width); always the same.
        out: uint8 [size, size, 3], contiguous: where to write it.

    Raises:
        Unreadable: if that is not possible.

    """
    fast = _fast()
    if fast is not None and content.startswith(b"\xff\xd8") and _decode_fast(content, choose, out, *fast):
        return
    _decode_pillow(content, choose, out)


@functools.cache
def _fast() -> tuple[Any, Any] | None:
    """Give simplejpeg and cv2, if both can be used."""
    try:
        simplejpeg, cv2 = importlib.import_module("simplejpeg"), importlib.import_module("cv2")
    except ImportError:
        return None
    cv2.setNumThreads(1)  # its own threads would wait for those that decode here
    return simplejpeg, cv2


@functools.cache
def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as e:
        raise UserError("reading images needs the package pillow: install it") from e


def _decode_fast(content: bytes, choose: Callable[[int, int], Crop], out: Pixels, simplejpeg: Any, cv2: Any) -> bool:
    """Decode a JPEG file; False for one that Pillow must decide about."""
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(content)
        if colors in ("CMYK", "YCCK") or height * width > _MOST_PIXELS:
            return False
        crop = choose(height, width)
        factor = _reduction(crop, len(out))
        least = -(-height // factor), -(-width // factor)
        decoded = simplejpeg.decode_jpeg(content, "RGB", min_height=least[0], min_width=least[1])
    except ValueError:  # damaged, or merely odd
        return False
    if decoded.shape[:2] != least:
        return False
    top, left, bottom, right = (round(edge / factor) for edge in _edges(crop))
    part = decoded[top : max(bottom, top + 1), left : max(right, left + 1)]
    shrinks = max(part.shape[:2]) >= 2 * len(out)  # beyond that, pixels would be passed over
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if crop.mirrored:
        cv2.flip(cv2.resize(part, out.shape[:2], interpolation=how), 1, dst=out)
    else:
        cv2.resize(part, out.shape[:2], dst=out, interpolation=how)
    return True


def _decode_pillow(content: bytes, choose: Callable[[int, int], Crop], out: Pixels) -> None:
    pillow = _pillow()
    try:
        with pillow.open(io.BytesIO(content), formats=_FORMATS) as image:
            width, height = image.size
            crop = choose(height, width)
            factor = _reduction(crop, len(out))
            if image.format == "JPEG" and factor > 1:
                image.draft("RGB", (width // factor, height // factor))
            if image.size != (-(-width // factor), -(-height // factor)):
                factor = 1
            if image.mode[0] in "IF":
                raise Unreadable("it has more than 8 bits a color")
            # a palette with transparency warns unless it goes this way
            rgb = (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")
    except Unreadable:
        raise
    except Exception as e:  # decoders raise all sorts: OSError, SyntaxError, struct.error, ...
        raise Unreadable(f"{e}" or type(e).__name__) from e
    top, left, bottom, right = (edge / factor for edge in _edges(crop))
    small = rgb.resize(out.shape[:2], pillow.Resampling.BILINEAR, box=(left, top, right, bottom))
    if crop.mirrored:
        small = small.transpose(pillow.Transpose.FLIP_LEFT_RIGHT)
    out[:] = np.asarray(small)


def _reduction(crop: Crop, size: int) -> int:
    """Give 1, 2, 4 or 8: how much smaller a JPEG file can be decoded with the crop still at least `size`."""
    return next((k for k in (8, 4, 2) if min(crop.height, crop.width) >= k * size), 1)


def _edges(crop: Crop) -> tuple[int, int, int, int]:
    """Give top, left, bottom and right."""
    return crop.top, crop.left, crop.top + crop.height, crop.left + crop.width
