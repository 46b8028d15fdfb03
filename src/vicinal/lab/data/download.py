"""Published datasets: where they are, and how they are downloaded, checked and unpacked.

Downloading, checksums and retries are pooch's; an archive appears under its name only when its checksum is right, and a
folder only when all of it is unpacked.
"""

from __future__ import annotations

import bz2
import gzip
import io
import logging
import lzma
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pooch

from vicinal.lab import atomic, limits
from vicinal.lab.errors import UserError

DATA_DIR_ENV = "VICINAL_DATA"

Progress = Callable[[int, int | None], None]  # bytes so far, and of how many (None: not known)

_TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True)
class PublishedDataset:
    """A published dataset and the terms on which it may be used."""

    title: str  # its name in a sentence
    archive: str  # name of the archive's file
    folder: str  # what it becomes in the data folder
    license: str  # terms of use
    url: str = ""  # address of the archive; empty where it must be fetched by hand
    size: int | None = None  # of the archive, in bytes
    checksum: str = ""  # "md5:..." or "sha256:..."
    inside: bool = True  # whether the archive holds that folder; else its contents go into it
    # some that must be there once unpacked, relative to `folder`, with their sizes (None: any)
    files: Mapping[str, int | None] = field(default_factory=dict)
    manual: str = ""  # how to get it by hand


def _cifar(
    classes: int, version: str, size: int, md5: str, folder: str, files: Mapping[str, int | None]
) -> PublishedDataset:
    archive = f"cifar-{classes}-{version}.tar.gz"
    return PublishedDataset(
        title=f"CIFAR-{classes} (python version)" if version == "python" else f"CIFAR-{classes}",
        archive=archive,
        folder=f"cifar-{classes}-{folder}",
        license="no license is stated; the publisher asks to be cited",
        url=f"https://www.cs.toronto.edu/~kriz/{archive}",
        size=size,
        checksum=f"md5:{md5}",
        files=files,
    )


def _speech(version: str, size: int | None, sha256: str) -> PublishedDataset:
    folder = f"speech_commands_v{version}"
    return PublishedDataset(
        title=f"Speech Commands v{version}",
        archive=f"{folder}.tar.gz",
        folder=folder,
        license="CC BY 4.0",
        url=f"https://storage.googleapis.com/download.tensorflow.org/data/{folder}.tar.gz",
        size=size,
        checksum=f"sha256:{sha256}",  # of TensorFlow Datasets and torchaudio
        inside=False,
        files=dict.fromkeys(("validation_list.txt", "testing_list.txt")),
    )


_TEN = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_TEN_BINARY = {f"{name}.bin": 30_730_000 for name in _TEN}
_HUNDRED_BINARY = {"train.bin": 153_700_000, "test.bin": 30_740_000}

DATASETS: dict[str, PublishedDataset] = {
    "cifar10": _cifar(10, "binary", 170_052_171, "c32a1d4ab5d03f1284b67883e8d87530", "batches-bin", _TEN_BINARY),
    "cifar10-python": _cifar(
        10, "python", 170_498_071, "c58f30108f718f92721af3b95e74349a", "batches-py", dict.fromkeys(_TEN)
    ),
    "cifar100": _cifar(100, "binary", 168_513_733, "03b5dce01913d631647c71ecec9e9cb8", "binary", _HUNDRED_BINARY),
    "cifar100-python": _cifar(
        100, "python", 169_001_437, "eb9058c3a382ffc7106e4002c42a8d85", "python", dict.fromkeys(("train", "test"))
    ),
    "speech-commands-v1": _speech("0.01", None, "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d"),
    "speech-commands-v2": _speech(
        "0.02", 2_428_923_189, "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
    ),
    "imagenet": PublishedDataset(
        title="ImageNet-2012",
        archive="ILSVRC2012_img_train.tar",
        folder="imagenet",
        license="research and education only, on the publisher's terms",
        files={"train": None, "val": None},
        manual="register at https://image-net.org, download ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, and "
        "unpack them so that the images are imagenet/train/WNID/*.JPEG and imagenet/val/WNID/*.JPEG",
    ),
}


# ---- where datasets are


def data_dir(root: str | os.PathLike[str] | None, title: str, what: str, where: str = "") -> Path:
    """Return the data folder: `root`, else that of the environment variable ``VICINAL_DATA``.

    Raises:
        UserError: if neither is given; it names the dataset (`title`), and what to put where in the folder.

    """
    given = root if root is not None else os.environ.get(DATA_DIR_ENV)
    if not given:
        place = f"DIR/{where}" if where else "DIR"
        raise UserError(
            f"{title} is not part of this program: put {what} into {place} and set the environment variable "
            f"{DATA_DIR_ENV} to DIR"
        )
    return Path(given).expanduser()


def missing(dataset: PublishedDataset, root: str | os.PathLike[str]) -> list[str]:
    """Return what the unpacked dataset lacks, as paths in the data folder; a file of a wrong size counts."""
    root = Path(root).expanduser()
    paths = {root / dataset.folder / file: size for file, size in dataset.files.items()}
    return [
        path.relative_to(root).as_posix()
        for path, size in paths.items()
        if not path.exists() or (size is not None and path.stat().st_size != size)
    ]


def instructions(dataset: PublishedDataset) -> str:
    """Return the end of a sentence: how to get a dataset by hand."""
    return dataset.manual or f"put {dataset.archive}, from {dataset.url}, there and rerun the same command"


# ---- downloading


def fetch(name: str, root: str | os.PathLike[str], *, progress: Progress | None = None, attempts: int = 5) -> Path:
    """Return the unpacked folder of a dataset; download and unpack what is not there yet.

    An archive that is there already, put by hand or by an earlier run, is checked and not downloaded again.

    Args:
        name: a key of `DATASETS`.
        root: the data folder; made if absent.
        progress: called with the bytes so far and their number, None where the server does not state it.
        attempts: how often the download is tried.

    Returns:
        ``root/FOLDER``.

    Raises:
        UserError: if it cannot be had or is not what was published; and if the folder is there but incomplete: it is
            never overwritten.

    """
    dataset = _find(name)
    folder = Path(root).expanduser() / dataset.folder
    if not folder.exists():
        with _alone(dataset, folder.parent):
            archive = _download(dataset, folder.parent, progress, attempts)
            if not folder.exists():  # else another command has unpacked it meanwhile
                for left in folder.parent.glob(f".{folder.name}.*.partial"):  # of a command that was killed
                    shutil.rmtree(left)
                extract(archive, folder, inside=dataset.inside)
    if lacking := missing(dataset, root):
        raise UserError(f"{dataset.title} lacks {', '.join(lacking)}: move '{folder}' away and rerun the same command")
    return folder


def download(name: str, root: str | os.PathLike[str], *, progress: Progress | None = None, attempts: int = 5) -> Path:
    """Return the checked archive of a dataset, ``root/ARCHIVE``; the arguments and errors are those of `fetch`."""
    dataset = _find(name)
    root = Path(root).expanduser()
    with _alone(dataset, root):
        return _download(dataset, root, progress, attempts)


@contextmanager
def _alone(dataset: PublishedDataset, root: Path) -> Iterator[None]:
    """Make the data folder, and keep other commands from this dataset while the `with` lasts."""
    if not dataset.url:
        raise UserError(f"{dataset.title} cannot be downloaded by a program: {dataset.manual}")
    lock = root / f".{dataset.archive}.lock"
    with ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            mine = stack.enter_context(atomic.locked(lock))
        except OSError as e:
            raise _not_downloaded(dataset, root, e) from e
        if not mine:
            raise UserError(f"another command fetches {dataset.title} into '{root}': wait for it, or end it")
        try:
            yield
        finally:
            with suppress(OSError):  # it is held, and not in the way
                lock.unlink()


def _download(dataset: PublishedDataset, root: Path, progress: Progress | None, attempts: int) -> Path:
    path = root / dataset.archive
    if path.exists():
        _check(dataset, path)
        return path
    pooch.get_logger().setLevel(logging.WARNING)
    bar: Any = None if progress is None else _Bar(progress)
    downloader: Any = pooch.HTTPDownloader(progressbar=bar, timeout=_TIMEOUT)  # Any: pooch's hints are too narrow
    partial = root / f".{dataset.archive}.partial"  # pooch's unfinished files have names of their own
    try:
        if partial.exists():  # of a command that was killed
            shutil.rmtree(partial)
        shelf = pooch.create(
            partial,
            "",
            registry={dataset.archive: dataset.checksum},
            urls={dataset.archive: dataset.url},
            retry_if_failed=attempts - 1,
        )
        os.replace(shelf.fetch(dataset.archive, downloader=downloader), path)
    except (OSError, ValueError) as e:  # requests' errors are OSErrors; pooch's, of a wrong checksum, ValueErrors
        raise _not_downloaded(dataset, root, e) from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _not_downloaded(dataset: PublishedDataset, root: Path, error: Exception) -> UserError:
    return UserError(f"'{dataset.archive}' could not be downloaded into '{root}' ({error}): {instructions(dataset)}")


def verify(name: str, root: str | os.PathLike[str]) -> str:
    """Check what is in the data folder: the unpacked files, and the archive if it is there.

    Returns:
        A sentence about what was checked.

    Raises:
        UserError: if something is missing, of a wrong size, or not what was published.

    """
    dataset = _find(name)
    root = Path(root).expanduser()
    path = root / dataset.archive
    if lacking := missing(dataset, root):
        raise UserError(f"{dataset.title} lacks {', '.join(lacking)} in '{root}': {instructions(dataset)}")
    complete = f"{dataset.title}: all of {', '.join(dataset.files)} are there"
    if not (dataset.url and path.exists()):
        return f"{complete}; without the archive no checksum was compared"
    _check(dataset, path)
    return f"{complete}; {path.name} has the published {_kind(dataset).upper()}"


def _find(name: str) -> PublishedDataset:
    if name not in DATASETS:
        raise UserError(f"{name!r} is not one of the published datasets: choose one of {', '.join(DATASETS)}")
    return DATASETS[name]


def _kind(dataset: PublishedDataset) -> str:
    return dataset.checksum.partition(":")[0]


def _check(dataset: PublishedDataset, path: Path) -> None:
    found = f"{_kind(dataset)}:{pooch.file_hash(str(path), alg=_kind(dataset))}"
    if found != dataset.checksum:
        raise UserError(
            f"'{path}' has {path.stat().st_size} bytes and the checksum {found} where {dataset.checksum} was published: "
            "delete it and download it again"
        )


class _Bar:
    """What pooch takes for a tqdm bar."""

    def __init__(self, progress: Progress) -> None:
        self.total, self._done, self._progress = 0, 0, progress

    def update(self, n: int) -> None:
        self._done += n
        self._progress(min(self._done, self.total) if self.total else self._done, self.total or None)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        pass


# ---- unpacking


_MAGIC = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_MOST_MEMBERS = 1_000_000  # the largest published archive has 105,835
_LONGEST = 1 << 20  # bytes of a header: a long name, and what else a member says of itself
_LONGEST_NAME, _LONGEST_PATH = 255, 2000  # bytes, characters
_CHUNK = 1 << 20
# what tarfile and the readers of what is compressed raise; the last ones for numbers and texts that are none
_DAMAGE = (
    tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError, LookupError, MemoryError, TypeError,
    RecursionError,
)  # fmt: skip


def extract(archive: Path, into: Path, *, inside: bool = False) -> None:
    """Unpack a tar archive into a new folder that appears whole or not at all.

    Published datasets are folders and files, and nothing else is unpacked: an archive that holds a link, a device, a name
    that leads out of the folder, or a name twice is refused whole. A leading ``/`` is dropped, and files get the rights
    that new files have.

    Args:
        archive: a .tar file, compressed or not.
        into: the folder to make; must not exist, its parent must.
        inside: take only the folder ``into.name`` of the archive.

    Raises:
        UserError: if the archive is damaged, holds such things or more than there is room for, or lacks that folder.

    """
    if into.exists():
        raise UserError(f"'{into}' exists already: move it away")
    partial = into.with_name(f".{into.name}.{os.getpid()}.partial")
    try:
        partial.mkdir()
        room = shutil.disk_usage(partial).free
        with _Plain(archive, room) as file, tarfile.open(fileobj=file, mode="r:") as tar:  # type: ignore[call-overload]
            _unpack(tar, partial, room)
        found = partial / into.name if inside else partial
        if not found.is_dir():
            raise UserError(f"'{archive.name}' does not hold the folder {into.name}: download it again")
        os.replace(found, into)
    except (_NotPublished, *_DAMAGE) as e:
        raise UserError(
            f"'{archive.name}' cannot be unpacked ({str(e)[:200] or type(e).__name__}): download it again"
        ) from e
    except OSError as e:
        raise UserError(f"'{archive.name}' cannot be unpacked into '{into.parent}' ({str(e)[:200]})") from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _NotPublished(Exception):
    """What no published archive holds."""


class _Plain(io.RawIOBase):
    """The content of an archive, unpacked while it is read, a little at a time.

    tarfile reads what a member says of itself in one piece, of whatever length is stated.
    """

    def __init__(self, path: Path, room: int) -> None:
        super().__init__()
        limits.check_file(path)
        with open(path, "rb") as file:
            start = file.read(6)
        unpacked = next((unpacked for magic, unpacked in _MAGIC.items() if start.startswith(magic)), open)
        self._file: Any = unpacked(path, "rb")
        self._room = room

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence != os.SEEK_SET or offset < 0:
            raise _NotPublished("a member begins before the beginning")
        if offset > self._room + _MOST_MEMBERS * tarfile.RECORDSIZE:
            raise _NotPublished(f"it states more than {limits.shown(self._room)}, which is the room on the disk")
        return self._file.seek(offset)

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _LONGEST:
            raise _NotPublished(f"a member states {size:,} bytes about itself")
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()
        super().close()


def _unpack(tar: tarfile.TarFile, folder: Path, room: int) -> None:
    """Write folders and files, and refuse everything else."""
    count = size = 0
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
        count, size = count + 1, size + member.size
        shown = repr(member.name if len(member.name) <= 100 else f"{member.name[:97]}...")
        parts = PurePosixPath(member.name.lstrip("/")).parts
        if count > _MOST_MEMBERS:
            raise _NotPublished(f"it has more than {_MOST_MEMBERS:,} members")
        if ".." in parts or "\0" in member.name or "\\" in member.name:
            raise _NotPublished(f"the name {shown} leads out of its folder")
        if not (member.isdir() or member.isreg()) or member.issparse():
            raise _NotPublished(f"{shown} is a link, a device or a file with holes")
        if max(map(len, map(os.fsencode, parts)), default=0) > _LONGEST_NAME or len(member.name) > _LONGEST_PATH:
            raise _NotPublished(f"{shown} has {len(member.name):,} characters, more than a file's name may have")
        if member.size < 0:
            raise _NotPublished(f"{shown} states {member.size} bytes")
        if size > room:
            raise _NotPublished(f"its files state {limits.shown(size)}, and there is room for {limits.shown(room)}")
        place = folder.joinpath(*parts)
        try:
            (place if member.isdir() else place.parent).mkdir(parents=True, exist_ok=True)
            if member.isreg():
                _copy(tar, member, place)
        except FileExistsError:
            raise _NotPublished(f"it holds {shown} twice, or as a folder and a file") from None


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None
    left = member.size
    with open(place, "xb") as file:
        while left and (chunk := source.read(min(left, _CHUNK))):
            file.write(chunk)
            left -= len(chunk)
    if left:
        raise EOFError("it ends too early")
