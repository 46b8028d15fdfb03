"""Folders of pictures: a sub-folder for each class, ImageNet among them, read batch by batch.

Decoding needs the time here, so the fastest decoder that is installed is taken: the packages simplejpeg and
opencv-python-headless for JPEG files, if both are there, else Pillow; `decoder` says which. They draw the same crops and
differ by about one grey level of 255, since OpenCV does not smooth when it shrinks a little.

Pictures become RGB of 8 bits; transparency, further frames and the camera's note of its orientation are ignored. A
picture that cannot be read ends the reading with its name: none is ever left out or replaced.
"""

from __future__ import annotations

import functools
import importlib
import io
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.lab.data.download import SOURCES, data_root
from vicinal.lab.data.pictures import Pictures
from vicinal.lab.errors import UserError
from vicinal.random import Key

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # of Pillow's: none that starts another program
_MOST_PIXELS = 178_956_970  # Pillow's own bound against pictures that are small files and fill the memory
_WNID = re.compile(r"n\d{8}")
_ORDER = int.from_bytes(b"order")  # streams that no vicinity draws from: its parts are numbered from 0
_CROP = int.from_bytes(b"picture")
_CHUNK = 8  # pictures a thread does in one go
_AHEAD = 2  # batches that are being read while one is used

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PictureFiles:
    """Files of pictures with their classes.

    Args:
        root: the folder.
        paths: of n files, relative to `root`, with ``/``.
        labels: int64 [n], positions in `classes`.
        classes: the names of the sub-folders, sorted.
        name: short name, for titles.

    """

    root: Path
    paths: tuple[str, ...]
    labels: Tensor
    classes: tuple[str, ...]
    name: str

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> PictureFiles:
        """Give some of the files as a set of its own."""
        paths = tuple(self.paths[row] for row in rows)
        return PictureFiles(self.root, paths, self.labels[torch.as_tensor(rows)], self.classes, self.name)


# ---- what is there


def scan(folder: str | os.PathLike[str], *, classes: Sequence[str] | None = None) -> PictureFiles:
    """List the pictures of a folder with a sub-folder for each class, in the order of their paths.

    Folders within those are searched too. Files whose names begin with a dot or do not end in one of `SUFFIXES` are
    not pictures.

    Args:
        folder: holds the sub-folders.
        classes: the names that the sub-folders must have; by default whatever they are.

    Raises:
        UserError: if there are not at least two classes with at least one picture each, or not those expected.

    """
    root = Path(folder).expanduser()
    try:
        names = [name for name in _folders(root) if not name.startswith(".")]
    except OSError as e:
        raise UserError(f"'{root}' is no folder that can be read ({e.strerror}): give one with a folder a class") from e
    if "train" in names and len(names) <= 3:
        raise UserError(f"'{root}' holds the folder 'train', not a folder for each class: give '{root / 'train'}'")
    if len(names) < 2:
        raise UserError(f"'{root}' holds {len(names)} folders: put the pictures of each class into one of its own")
    if classes is not None and set(names) != set(classes):
        odd = sorted(set(names) ^ set(classes))
        raise UserError(f"'{root}' and its training part do not have the same folders: {odd[0]!r} is in one of them")
    paths, labels = [], []
    for label, name in enumerate(names):
        found = sorted(_walk(root, name))
        if not found:
            raise UserError(f"'{root / name}' holds no pictures ({', '.join(SUFFIXES)}): add some, or remove it")
        paths += found
        labels += [label] * len(found)
    return PictureFiles(root, tuple(paths), torch.tensor(labels, dtype=torch.int64), tuple(names), root.name)


def imagenet(folder: str | os.PathLike[str] | None = None) -> tuple[PictureFiles, PictureFiles]:
    """List ImageNet: ``train/WNID/*.JPEG`` and ``val/WNID/*.JPEG``.

    Args:
        folder: holds ``train`` and ``val``; by default ``imagenet`` in what the environment variable ``VICINAL_DATA``
            names.

    Returns:
        The training and the validation pictures. The classes are WordNet's names for them, such as "n01440764".

    Raises:
        UserError: if the files are not there, or not laid out like this.

    """
    source = SOURCES["imagenet"]
    if folder is None:
        place = data_root(None, source.title, f"the folder {source.folder}") / source.folder
    else:
        place = Path(folder).expanduser()
    for part in ("train", "val"):
        if not (place / part).is_dir():
            raise UserError(f"{source.title} is not in '{place}': {source.manual}")
    train = scan(place / "train")
    strange = [name for name in train.classes if not _WNID.fullmatch(name)]
    if strange:
        raise UserError(f"'{place / 'train'}' holds the folder {strange[0]!r}, which is no WNID: {source.manual}")
    if not _folders(place / "val"):
        raise UserError(f"the pictures in '{place / 'val'}' are not in folders: sort them into val/WNID/")
    return train, scan(place / "val", classes=train.classes)


def split(
    files: PictureFiles, seed: int, *, validation: float = 0.2, test: float = 0.2
) -> tuple[PictureFiles, PictureFiles, PictureFiles]:
    """Split a folder into training, validation and test pictures; classes keep their shares.

    The arguments and errors are those of `vicinal.lab.data.split.split`.
    """
    from vicinal.lab.data import split as tables
    from vicinal.lab.data.table import Table

    n = len(files)
    labels = Table(
        name=files.name,
        source=str(files.root),
        numbers=np.empty((n, 0)),
        number_names=(),
        codes=np.empty((n, 0), dtype=np.int64),
        category_names=(),
        levels=(),
        target=files.labels.numpy(),
        target_name="class",
        classes=files.classes,
    )
    parts = tables.split(labels, seed, validation=validation, test=test)
    return files.take(parts.train), files.take(parts.validation), files.take(parts.test)


def _folders(place: Path) -> list[str]:
    with os.scandir(place) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _walk(root: Path, name: str) -> Iterator[str]:
    for place, _, files in os.walk(root / name):
        inside = Path(place).relative_to(root).as_posix()
        for file in files:
            if not file.startswith(".") and file.lower().endswith(SUFFIXES):
                yield f"{inside}/{file}"


# ---- batches


def train_batches(
    files: PictureFiles,
    *,
    batch: int,
    seed: int,
    epoch: int,
    size: int = 224,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
    threads: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read an epoch in random order, each picture cropped and mirrored at random.

    What comes is a pure function of the arguments but for `threads`: the order one of (seed, epoch), the crop of a
    picture one of (seed, epoch, its position in `files`). All ranks together see each picture at most once; the last
    pictures, which do not fill a batch on each rank, are left out of this epoch.

    Args:
        files: what to read.
        batch: pictures in a batch of this rank.
        seed: 0 <= seed < 2**64.
        epoch: which epoch, from 0.
        size: height and width of what comes.
        rank: which process of a distributed job.
        world: how many there are.
        start: how many batches to pass over, to go on in the middle of an epoch.
        threads: how many decode; by default as many as this process may use cores.

    Yields:
        Pictures, uint8 [batch, 3, size, size], channels_last, and labels, int64 [batch].

    Raises:
        UserError: if there are not enough pictures for one batch, or if one cannot be read.
        ValueError: if an argument is out of range.

    """
    _check(batch, size, rank, world)
    count = len(files) // (batch * world)
    if count == 0:
        found = f"the {len(files)} pictures in '{files.root}' do not fill a batch of {batch * world}"
        raise UserError(f"{found}: give a smaller batch")
    order = Key(seed, 0, 0, epoch, _ORDER).generator().permutation(len(files))
    firsts = ((k * world + rank) * batch for k in range(start, count))

    def choose(index: int, height: int, width: int) -> Crop:
        return random_crop(height, width, Key(seed, 0, 0, (epoch << 32) + index, _CROP).generator())

    return _read(files, (order[first : first + batch] for first in firsts), size, choose, threads)


def evaluation_batches(
    files: PictureFiles,
    *,
    batch: int,
    size: int = 224,
    keep: float = 224 / 256,
    rank: int = 0,
    world: int = 1,
    threads: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read all pictures in order, the central square of each.

    Args:
        files: what to read.
        batch: pictures in a batch; the last one may have fewer.
        size: height and width of what comes.
        keep: the square's share of the shorter side; 224 / 256 is the paper's centre crop.
        rank: which process of a distributed job; it reads the batches rank, rank + world, ...
        world: how many there are.
        threads: as for `train_batches`.

    Yields:
        Pictures, uint8 [batch, 3, size, size], channels_last, and labels, int64 [batch].

    Raises:
        UserError: if a picture cannot be read.
        ValueError: if an argument is out of range.

    """
    _check(batch, size, rank, world)
    if not 0 < keep <= 1:
        raise ValueError(f"keep must be in (0, 1], got {keep}")
    firsts = range(rank * batch, len(files), batch * world)
    rows = (np.arange(first, min(first + batch, len(files))) for first in firsts)
    return _read(files, rows, size, lambda _, height, width: central_crop(height, width, keep), threads)


def load(files: PictureFiles, *, size: int, keep: float = 1.0, threads: int | None = None) -> Pictures:
    """Read all pictures into memory, the central square of each: 3 size**2 bytes a picture.

    The arguments and errors are those of `evaluation_batches`.

    Returns:
        The set, in the order of `files`.

    """
    images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)
    done = 0
    for pictures, _ in evaluation_batches(files, batch=256, size=size, keep=keep, threads=threads):
        images[done : done + len(pictures)] = pictures
        done += len(pictures)
    return Pictures(images, files.labels, files.classes, files.name)


def _check(batch: int, size: int, rank: int, world: int) -> None:
    if batch < 1 or size < 1:
        raise ValueError(f"batch and size must be at least 1, got {batch} and {size}")
    if not 0 <= rank < world:
        raise ValueError(f"rank must be in [0, {world}), got {rank}")


def _read(
    files: PictureFiles,
    batches: Iterator[NDArray[np.int64]],
    size: int,
    choose: Callable[[int, int, int], Crop],
    threads: int | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Fill batches in threads, a few ahead of the one that is used, and give them in order.

    Threads are enough, and need no copies between processes: decoders run without Python's lock.
    """
    decoder()  # chosen once, before the threads
    if threads is None:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waiting: deque[tuple[Tensor, Tensor, list[Future[None]]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="pictures") as pool:
        try:
            for rows in batches:
                images = torch.empty((len(rows), 3, size, size), dtype=torch.uint8, memory_format=torch.channels_last)
                pixels = images.permute(0, 2, 3, 1).numpy()
                parts = [slice(i, i + _CHUNK) for i in range(0, len(rows), _CHUNK)]
                work = [pool.submit(_fill, files, rows[part], choose, pixels[part]) for part in parts]
                waiting.append((images, files.labels[torch.from_numpy(rows)], work))
                if len(waiting) > _AHEAD:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _finished(images: Tensor, labels: Tensor, work: list[Future[None]]) -> tuple[Tensor, Tensor]:
    for part in work:  # in order, so that it is always the first broken picture that is named
        part.result()
    return images, labels


def _fill(
    files: PictureFiles, rows: NDArray[np.int64], choose: Callable[[int, int, int], Crop], pixels: Pixels
) -> None:
    for row, out in zip(rows.tolist(), pixels, strict=True):
        path = files.root / files.paths[row]
        try:
            decode(path.read_bytes(), functools.partial(choose, row), out)
        except OSError as e:
            raise UserError(f"'{path}' cannot be read ({e.strerror}): mend that, or remove it") from e
        except Unreadable as e:
            raise UserError(f"'{path}' is not a picture that can be read ({e}): replace or remove it") from e


# ---- where to cut


class Crop(NamedTuple):
    """A rectangle of a picture, in pixels, and whether it is mirrored left to right."""

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
        height: of the picture.
        width: of the picture.
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
    """The bytes are not those of a picture that is read here."""


def decoder() -> str:
    """Name what decodes JPEG files here, for the log: it decides about the speed and the last bit of each pixel."""
    fast = _fast()
    if fast is None:
        return f"Pillow {_pillow().__version__}"
    simplejpeg, cv2 = fast
    return f"simplejpeg {simplejpeg.__version__} and OpenCV {cv2.__version__}"


def decode(content: bytes, choose: Callable[[int, int], Crop], out: Pixels) -> None:
    """Decode a picture and write a crop of it, scaled.

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
        raise UserError("reading pictures needs the package pillow: install it") from e


def _decode_fast(content: bytes, choose: Callable[[int, int], Crop], out: Pixels, simplejpeg: Any, cv2: Any) -> bool:
    """Decode a JPEG file; False for one that Pillow must decide about."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours in ("CMYK", "YCCK") or height * width > _MOST_PIXELS:
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
    image = _pillow()
    try:
        with image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            width, height = picture.size
            crop = choose(height, width)
            factor = _reduction(crop, len(out))
            if picture.format == "JPEG" and factor > 1:
                picture.draft("RGB", (width // factor, height // factor))
            if picture.size != (-(-width // factor), -(-height // factor)):
                factor = 1
            if picture.mode[0] in "IF":
                raise Unreadable("it has more than 8 bits a colour")
            # a palette with transparency warns unless it goes this way
            rgb = (picture.convert("RGBA") if "transparency" in picture.info else picture).convert("RGB")
    except Unreadable:
        raise
    except Exception as e:  # decoders raise all sorts: OSError, SyntaxError, struct.error, ...
        raise Unreadable(f"{e}" or type(e).__name__) from e
    top, left, bottom, right = (edge / factor for edge in _edges(crop))
    small = rgb.resize(out.shape[:2], image.Resampling.BILINEAR, box=(left, top, right, bottom))
    if crop.mirrored:
        small = small.transpose(image.Transpose.FLIP_LEFT_RIGHT)
    out[:] = np.asarray(small)


def _reduction(crop: Crop, size: int) -> int:
    """Give 1, 2, 4 or 8: how much smaller a JPEG file can be decoded with the crop still at least `size`."""
    return next((k for k in (8, 4, 2) if min(crop.height, crop.width) >= k * size), 1)


def _edges(crop: Crop) -> tuple[int, int, int, int]:
    """Give top, left, bottom and right."""
    return crop.top, crop.left, crop.top + crop.height, crop.left + crop.width
