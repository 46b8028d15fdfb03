"""Images in tar shards, in the layout of WebDataset: read at any row, without unpacking.

A folder of plain ``.tar`` files. Each image is a member KEY.jpg (or another of `class_folders.IMAGES`), its class a
member KEY.cls of the same shard that holds a number in decimal digits; other members are left alone. KEY is the member's
name up to the first dot after the last ``/``. ``classes.txt`` beside the shards names the classes, one a line, by their
numbers; without it the numbers are the names.

Where each image begins is kept in an index, ``index.npz`` beside the shards, made once. So any row is one read, and the
rows of a step are those that the run's seed, epoch and step choose, each once an epoch, whatever the number of shards and
processes. The index is made again when the names, sizes or dates of the shards change, and each image that is read is
checked against it by its tar header.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.lab import atomic as whole_files
from vicinal.lab.data import class_folder
from vicinal.lab.data.class_folder import IMAGES, TRAIN, VAL, ClassFiles, Kind
from vicinal.lab.errors import UserError

INDEX = "index.npz"
CLASSES = "classes.txt"

_VERSION = 1  # of the index
_COLUMNS = {"shard": np.int32, "offset": np.int64, "size": np.int64, "header": np.uint32, "label": np.int64}
_HEADER = 512  # bytes before the content of a member
_SHARD = 2**29  # bytes after which `write` begins the next shard
_DIGITS = 19  # of the longest class number that is looked at

Progress = Callable[[int, int], None]  # images so far, of how many


@dataclass(frozen=True, eq=False)
class Shards:
    """Images in tar files with their classes.

    Args:
        root: the folder.
        shards: names of the tar files, sorted.
        shard: int32 [n], positions in `shards`.
        offset: int64 [n], where an image's content begins in its shard.
        size: int64 [n], its bytes.
        header: uint32 [n], CRC-32 of the 512 bytes before it.
        labels: int64 [n], positions in `classes`.
        classes: names.
        name: short name, for titles.

    """

    root: Path
    shards: tuple[str, ...]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    header: NDArray[np.uint32]
    labels: Tensor
    classes: tuple[str, ...]
    name: str

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def kind(self) -> Kind:
        """Images."""
        return "images"

    def take(self, rows: Sequence[int] | NDArray[np.int64] | Tensor) -> Shards:
        """Give some of the images as a set of its own."""
        rows = torch.as_tensor(rows, dtype=torch.int64)
        chosen = rows.numpy()
        columns = {name: getattr(self, name)[chosen] for name in ("shard", "offset", "size", "header")}
        return replace(self, labels=self.labels[rows], **columns)

    def read(self, row: int) -> bytes:
        """Give an encoded image.

        Raises:
            UserError: the shard cannot be read, or is not the one that was indexed.

        """
        header, content = self._member(row)
        if zlib.crc32(header) != self.header[row] or len(content) != self.size[row]:
            path, index = self.root / self.shards[self.shard[row]], self.root / INDEX
            raise UserError(f"'{path}' is not as it was when '{index}' was made: remove that index, and start again")
        return content

    def where(self, row: int) -> str:
        """Name an image, for messages."""
        member = tarfile.TarInfo.frombuf(self._member(row)[0], "utf-8", "surrogateescape").name
        return f"'{member}' in '{self.root / self.shards[self.shard[row]]}'"

    def _member(self, row: int) -> tuple[bytes, bytes]:
        path = self.root / self.shards[self.shard[row]]
        try:
            with open(path, "rb") as file:
                file.seek(int(self.offset[row]) - _HEADER)
                block = file.read(_HEADER + int(self.size[row]))
        except OSError as e:
            raise UserError(f"'{path}' cannot be read ({e.strerror}): mend that, or get it again") from e
        return block[:_HEADER], block[_HEADER:]


def are_in(folder: Path) -> bool:
    """Whether a folder holds shards; compressed ones count, and `scan` refuses them."""
    return any(_is_shard(name) for name in os.listdir(folder))


def scan(folder: str | os.PathLike[str], *, classes: Sequence[str] | None = None) -> Shards:
    """List the images of all shards in a folder, in the order of the shards' names and within each from its beginning.

    The first time, all headers are read, and the index is written.

    Args:
        folder: holds the shards.
        classes: the names that the classes must have; by default what ``classes.txt`` says.

    Raises:
        UserError: if there are no images, or a shard or a class cannot be read.

    """
    root = Path(folder).expanduser()
    names = tuple(sorted(name for name in os.listdir(root) if _is_shard(name)))
    packed = [name for name in names if not name.endswith(".tar")]
    if packed:
        raise UserError(f"'{root / packed[0]}' is compressed, so it cannot be read at any place: make it a plain .tar")
    inside = class_folder.class_names(root)
    if inside:
        raise UserError(f"'{root}' holds both .tar shards and the folder {inside[0]!r}: keep one of the two")
    columns = _columns(root, names)
    labels = columns.pop("label")
    if not len(labels):
        raise UserError(f"the shards in '{root}' hold no images ({', '.join(IMAGES)})")
    highest = int(labels.max())
    named = _classes(root)
    if named is None:
        if classes is None and highest >= len(labels):  # a class has an image; and names for 10**18 fill the memory
            found = f"a .cls in '{root}' holds {highest}, but there are {len(labels)} images"
            raise UserError(f"{found}: number the classes from 0, or name them in '{CLASSES}'")
        named = tuple(str(i) for i in range(highest + 1)) if classes is None else tuple(classes)
    if highest >= len(named):
        raise UserError(f"a .cls in '{root}' holds {highest}, but there are {len(named)} classes: mend '{CLASSES}'")
    if classes is not None and named != tuple(classes):
        raise UserError(f"'{root}' and its training part do not have the same classes: mend their '{CLASSES}'")
    if len(named) < 2:
        raise UserError(f"the shards in '{root}' hold one class: two are needed")
    return Shards(root=root, shards=names, labels=torch.from_numpy(labels), classes=named, name=root.name, **columns)


def _is_shard(name: str) -> bool:
    return not name.startswith(".") and name.endswith((".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst"))


def _classes(root: Path) -> tuple[str, ...] | None:
    try:
        return tuple((root / CLASSES).read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"'{root / CLASSES}' cannot be read ({e}): it holds a class's name in each line") from e


# ---- the index


def _columns(root: Path, names: Sequence[str]) -> dict[str, NDArray]:
    """Give the columns of the index, from its file if that is of these shards and whole; else make it."""
    about = [(root / name).stat() for name in names]
    fingerprint = json.dumps([_VERSION, [[n, a.st_size, a.st_mtime_ns] for n, a in zip(names, about, strict=True)]])
    kept = _kept(root / INDEX, fingerprint)
    if kept is not None:
        return kept
    parts = [_index(root / name, i) for i, name in enumerate(names)]
    columns = {key: np.concatenate([part[key] for part in parts]) for key in _COLUMNS}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, fingerprint=np.frombuffer(fingerprint.encode(), np.uint8), **columns)
    try:
        whole_files.write(root / INDEX, buffer.getvalue())
    except OSError as e:
        warnings.warn(
            f"'{root / INDEX}' cannot be written ({e.strerror}): the shards are indexed at each start", stacklevel=2
        )
    return columns


def _kept(path: Path, fingerprint: str) -> dict[str, NDArray] | None:
    """Give the columns of an index; None if it is absent, damaged (its CRC-32 are checked), or of other shards."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as index:
            if index["fingerprint"].tobytes() != fingerprint.encode():
                return None
            columns = {key: index[key] for key in _COLUMNS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    right = all(columns[key].dtype == kind and columns[key].ndim == 1 for key, kind in _COLUMNS.items())
    return columns if right and len({len(column) for column in columns.values()}) == 1 else None


def _index(path: Path, number: int) -> dict[str, NDArray]:
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, int] = {}
    try:
        end = path.stat().st_size
        with tarfile.open(path, "r:") as tar, open(path, "rb") as file:
            for member in tar:
                place, _, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                key, image = f"{place}/{stem}", f".{extension}".lower().endswith(IMAGES) and "." not in extension
                if not stem or not (image or extension == "cls"):
                    continue
                if not member.isreg() or member.issparse() or member.offset_data + member.size > end:
                    raise UserError(f"'{member.name}' in '{path}' is no plain file, or cut off: make the shard again")
                if extension == "cls":
                    labels[key] = _label(tar, member, path)
                elif key in images:
                    raise UserError(f"'{path}' holds two images of one key, such as '{member.name}': rename one")
                else:
                    images[key] = member.name, member.offset_data, member.size
            unlabelled = [name for key, (name, _, _) in images.items() if key not in labels]
            if unlabelled:
                raise UserError(f"'{path}' holds '{unlabelled[0]}' without a .cls beside it: add its class's number")
            headers = []
            for _, offset, _ in images.values():
                file.seek(offset - _HEADER)
                headers.append(zlib.crc32(file.read(_HEADER)))
    except (OSError, tarfile.TarError) as e:
        raise UserError(f"'{path}' is not a .tar that can be read ({e}): get it again") from e
    rows = [(number, o, s, h, labels[k]) for (k, (_, o, s)), h in zip(images.items(), headers, strict=True)]
    values = np.array(rows, dtype=np.int64).reshape(-1, len(_COLUMNS))
    return {key: values[:, i].astype(kind) for i, (key, kind) in enumerate(_COLUMNS.items())}


def _label(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> int:
    content = tar.extractfile(member)
    text = b"" if content is None else content.read(_DIGITS).strip()
    if not text.isdigit() or member.size > _DIGITS:
        found = text.decode("ascii", "backslashreplace")
        raise UserError(f"'{member.name}' in '{path}' holds '{found}': it must hold the number of a class")
    return int(text)


# ---- making them


def write(folder: Path, out: Path, *, shard_bytes: int = _SHARD, progress: Progress | None = None) -> int:
    """Copy a folder of images, with or without ``train`` and ``val``, into shards; the rows keep their order.

    The shards appear all together, when they are complete. The same images give the same shards to the last byte.

    Args:
        folder: as `class_folders.scan` takes it, or with such folders ``train`` and ``val`` inside.
        out: made; must not exist.
        shard_bytes: after so many a new shard begins.
        progress: told how many images are done.

    Returns:
        The number of images.

    Raises:
        UserError: if `out` exists, or an image cannot be read, or the shards cannot be written.

    """
    if out.exists():
        raise UserError(f"'{out}' exists already: give another folder for the shards, or remove it")
    if {TRAIN, VAL} <= set(class_folder.parts(folder)):
        train = class_folder.scan(folder / TRAIN)
        parts = {TRAIN: train, VAL: class_folder.scan(folder / VAL, train=train)}
    else:
        parts = {"": class_folder.scan(folder)}
    total, done = sum(len(part) for part in parts.values()), 0
    for part in parts.values():
        if part.kind != "images":
            raise UserError(f"'{part.root}' holds audio: shards are of images")
        odd = [name for name in part.classes if len(name.splitlines()) != 1]
        if odd:
            raise UserError(f"the folder {odd[0]!r} has a line break in its name: rename it")
    class_folder.warn_of_left_out(folder, parts)
    partial = out.with_name(f".{out.name}.partial")  # of this program alone: what a killed one left is removed
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for name, part in parts.items():
            place = partial / name
            place.mkdir(parents=True)
            (place / CLASSES).write_text("".join(f"{c}\n" for c in part.classes), encoding="utf-8")
            for n in _write_part(part, place, shard_bytes):
                if progress is not None:
                    progress(done + n, total)
            done += len(part)
            scan(place)  # writes the index
        os.replace(partial, out)
    except OSError as e:
        raise UserError(f"'{out}' cannot be written ({e.strerror or e}): give another folder") from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return total


def _write_part(part: ClassFiles, place: Path, shard_bytes: int) -> Iterator[int]:
    row = shard = 0
    while row < len(part):
        path = place / f"{shard:06d}.tar"
        with tarfile.open(path, "w:", format=tarfile.USTAR_FORMAT) as tar:
            while row < len(part) and (tar.offset == 0 or tar.offset < shard_bytes):
                suffix = Path(part.paths[row]).suffix.lower()
                for ending, content in ((suffix, part.read(row)), (".cls", str(int(part.labels[row])).encode())):
                    member = tarfile.TarInfo(f"{row:08d}{ending}")  # no dates and owners
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                row += 1
                yield row
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        shard += 1
