"""Published archives: fetched whole, checked, and unpacked where no archive can do harm.

A download goes on where it was cut off, also by the next run of the program. The archive appears under its name only
when all of it is there and its checksum is right, and the folder only when all of it is unpacked. Where the publisher
gives no checksum, that of the first download is kept beside the archive and every later copy must have it.
"""

from __future__ import annotations

import builtins
import bz2
import email.utils
import gzip
import hashlib
import http.client
import json
import lzma
import os
import shutil
import stat
import struct
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import IO, Any

from vicinal.lab.atomic import write
from vicinal.lab.errors import UserError

try:
    import fcntl
except ImportError:  # not on Windows: there two downloads of one file at once end in a failed check
    fcntl = None

DATA_DIR_ENV = "VICINAL_DATA"

Progress = Callable[[int, int | None], None]  # bytes so far, and of how many (None: not known)

_BLOCK = 1 << 20
_SLOWEST = 1024  # bytes a second: less than this, over `stall` seconds, is a connection that hangs
_GAIN = 1 << 16  # an attempt that brought this much was worth it: it is not counted
_LONGEST_WAIT = 60.0
_LARGEST = 1 << 37  # bytes of a file whose length nobody told
_MOST_MEMBERS = 2_000_000  # of an archive; ImageNet has 1.3 million files


@dataclass(frozen=True)
class Source:
    """A published set.

    Args:
        name: its key in `SOURCES`.
        title: what to call it in a sentence.
        urls: where its publisher offers the archive, tried in turn; none where it must be fetched by hand.
        archive: the archive's file name.
        size: of the archive, in bytes.
        checksum: "md5:..." or "sha256:..." as published; None if the publisher gives none.
        folder: what it becomes in the data folder.
        inside: whether the archive holds that folder; else what it holds goes into it.
        unpacked: no more than so many bytes are unpacked.
        files: some that must be there once unpacked, relative to `folder`, with their sizes (None: any).
        manual: how to get it by hand.
        license: terms of use.
        citation: whom to cite.

    """

    name: str
    title: str
    urls: tuple[str, ...]
    archive: str
    size: int | None
    checksum: str | None
    folder: str
    inside: bool
    unpacked: int
    license: str
    citation: str
    files: Mapping[str, int | None] = field(default_factory=dict)
    manual: str = ""


_KRIZHEVSKY = "Krizhevsky: Learning Multiple Layers of Features from Tiny Images. Technical report, 2009."
_RESEARCH = "no license is stated; the publisher asks to be cited"
_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_WARDEN = "Warden: Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition. arXiv 1804.03209, 2018."
_SPEECH = "https://storage.googleapis.com/download.tensorflow.org/data/"

_SOURCES = (
    Source(
        name="cifar10",
        title="CIFAR-10",
        urls=(f"{_TORONTO}cifar-10-binary.tar.gz",),
        archive="cifar-10-binary.tar.gz",
        size=170_052_171,
        checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        inside=True,
        unpacked=200_000_000,
        license=_RESEARCH,
        citation=_KRIZHEVSKY,
        files={**{f"data_batch_{i}.bin": 30_730_000 for i in range(1, 6)}, "test_batch.bin": 30_730_000},
    ),
    Source(
        name="cifar10-python",
        title="CIFAR-10 (python version)",
        urls=(f"{_TORONTO}cifar-10-python.tar.gz",),
        archive="cifar-10-python.tar.gz",
        size=170_498_071,
        checksum="md5:c58f30108f718f92721af3b95e74349a",
        folder="cifar-10-batches-py",
        inside=True,
        unpacked=200_000_000,
        license=_RESEARCH,
        citation=_KRIZHEVSKY,
        files={**{f"data_batch_{i}": None for i in range(1, 6)}, "test_batch": None},
    ),
    Source(
        name="cifar100",
        title="CIFAR-100",
        urls=(f"{_TORONTO}cifar-100-binary.tar.gz",),
        archive="cifar-100-binary.tar.gz",
        size=168_513_733,
        checksum="md5:03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        inside=True,
        unpacked=200_000_000,
        license=_RESEARCH,
        citation=_KRIZHEVSKY,
        files={"train.bin": 153_700_000, "test.bin": 30_740_000},
    ),
    Source(
        name="cifar100-python",
        title="CIFAR-100 (python version)",
        urls=(f"{_TORONTO}cifar-100-python.tar.gz",),
        archive="cifar-100-python.tar.gz",
        size=169_001_437,
        checksum="md5:eb9058c3a382ffc7106e4002c42a8d85",
        folder="cifar-100-python",
        inside=True,
        unpacked=200_000_000,
        license=_RESEARCH,
        citation=_KRIZHEVSKY,
        files={"train": None, "test": None},
    ),
    Source(
        name="speech-commands-v1",
        title="Speech Commands v0.01",
        urls=(f"{_SPEECH}speech_commands_v0.01.tar.gz",),
        archive="speech_commands_v0.01.tar.gz",
        size=None,  # neither size nor checksum is published: the first download is pinned
        checksum=None,
        folder="speech_commands_v0.01",
        inside=False,
        unpacked=4_000_000_000,
        license="CC BY 4.0",
        citation=_WARDEN,
        files={"validation_list.txt": None, "testing_list.txt": None},
    ),
    Source(
        name="speech-commands-v2",
        title="Speech Commands v0.02",
        urls=(f"{_SPEECH}speech_commands_v0.02.tar.gz",),
        archive="speech_commands_v0.02.tar.gz",
        size=None,
        checksum=None,
        folder="speech_commands_v0.02",
        inside=False,
        unpacked=6_000_000_000,
        license="CC BY 4.0",
        citation=_WARDEN,
        files={"validation_list.txt": None, "testing_list.txt": None},
    ),
    Source(
        name="imagenet",
        title="ImageNet-2012",
        urls=(),
        archive="ILSVRC2012_img_train.tar",
        size=None,
        checksum=None,
        folder="imagenet",
        inside=False,
        unpacked=0,
        license="research and education only, on the publisher's terms",
        citation="Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge. IJCV, 2015.",
        files={"train": None, "val": None},
        manual="register at https://image-net.org, download ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, and "
        "unpack them so that the images are imagenet/train/WNID/*.JPEG and imagenet/val/WNID/*.JPEG",
    ),
)

DATASETS: dict[str, Source] = {source.name: source for source in _SOURCES}


# ---- where data are


def data_dir(root: str | os.PathLike[str] | None, title: str, what: str) -> Path:
    """Give the data folder: `root`, else what the environment variable ``VICINAL_DATA`` names.

    Args:
        root: a folder, or None.
        title: of the set that is looked for, for the sentence.
        what: what to put into the folder, for the sentence.

    Raises:
        UserError: if neither is given.

    """
    given = root if root is not None else os.environ.get(DATA_DIR_ENV)
    if not given:
        found = f"{title} is not part of this program"
        raise UserError(f"{found}: put {what} into DIR and set the environment variable {DATA_DIR_ENV} to DIR")
    return Path(given).expanduser()


def missing(source: Source, root: str | os.PathLike[str]) -> list[str]:
    """Name what the unpacked set lacks, as paths in the data folder; a file of a wrong size is lacking too."""
    lacking = []
    for file, size in source.files.items():
        path = Path(root) / source.folder / file
        if not path.exists() or (size is not None and path.stat().st_size != size):
            lacking.append(f"{source.folder}/{file}")
    return lacking


def instructions(source: Source) -> str:
    """Say how to get a set without this program's help: the end of a sentence."""
    if source.manual:
        return source.manual
    return f"put {source.archive}, from {source.urls[0]}, there and run the same command again"


# ---- fetching


def fetch(
    name: str,
    root: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    stall: float = 30.0,
    attempts: int = 5,
    pause: float = 1.0,
) -> Path:
    """Download the archive of a set, or go on with a download that was cut off.

    An archive that is there already, put by hand or by an earlier run, is checked and not downloaded again.

    Args:
        name: a key of `SOURCES`.
        root: the data folder; made if absent.
        progress: told the bytes so far and their number, None where the server does not give it.
        stall: seconds after which a connection that is silent, or slower than 1 kB/s, is given up.
        attempts: how many in a row may fail.
        pause: seconds before the second attempt; doubled each time, up to a minute. A server's Retry-After counts too.

    Returns:
        The checked archive, ``root/ARCHIVE``.

    Raises:
        UserError: if it cannot be had or is not what was published; what did arrive is kept for the next run.

    """
    source = _source(name)
    path = Path(root) / source.archive
    if not source.urls:
        raise UserError(f"{source.title} cannot be downloaded by a program: {source.manual}")
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with _Part(path) as part:
                _download(source, part, _Patience(stall, attempts, pause), progress)
        check_archive(source, path)
    except OSError as e:
        raise UserError(
            f"'{path}' cannot be written or read ({e.strerror or e}): mend that, or give another folder"
        ) from e
    return path


def check_archive(source: Source, path: Path) -> str:
    """Check an archive's size and checksum; keep the checksum if there is none to compare with.

    Returns:
        What it was checked against, for the log.

    Raises:
        UserError: if it is not the archive that was published, or that was downloaded first.

    """
    pin = _pin(path)
    wrong = _wrong(source, path, pin)
    if wrong:
        trust = "" if source.checksum else f" (and '{pin.name}' too, if you trust the new copy more)"
        raise UserError(f"'{path.name}' {wrong}: delete it{trust} and download it again")
    if source.checksum:
        return f"its {source.checksum.partition(':')[0].upper()} is the published one"
    if pin.exists():
        return "its SHA-256 is that of the first download; the publisher gives none"
    write(pin, f"{file_hash(path, 'sha256')}  {path.name}\n")
    return "nothing to check it against, since its publisher gives no checksum; later copies are compared with this one"


def verify(name: str, root: str | os.PathLike[str]) -> str:
    """Check what is in the data folder: the archive, if it is there, and the unpacked files.

    Returns:
        A sentence that says what was checked.

    Raises:
        UserError: if something is missing, of a wrong size, or not what was published.

    """
    source = _source(name)
    path = Path(root) / source.archive
    lacking = missing(source, root)
    if lacking:
        raise UserError(f"{source.title} lacks {', '.join(lacking)} in '{root}': {instructions(source)}")
    said = f"{source.title}: all of {', '.join(source.files)} are there"
    if source.urls and path.exists():
        return f"{said}; {path.name}: {check_archive(source, path)}"
    return f"{said}; without the archive no checksum was compared"


def obtain(
    name: str, root: str | os.PathLike[str], *, progress: Progress | None = None, keep_archive: bool = True
) -> Path:
    """Give the unpacked folder of a set, downloading and unpacking what is not there yet.

    Args:
        name: a key of `SOURCES`.
        root: the data folder.
        progress: as for `fetch`.
        keep_archive: whether the archive stays.

    Returns:
        ``root/FOLDER``.

    Raises:
        UserError: as `fetch` and `extract`; and if the folder is there but incomplete: it is never overwritten.

    """
    source = _source(name)
    folder = Path(root) / source.folder
    if not folder.exists():
        archive = fetch(name, root, progress=progress)
        extract(archive, folder, limit=source.unpacked, inside=source.folder if source.inside else "")
        if not keep_archive:
            archive.unlink()
    lacking = missing(source, root)
    if lacking:
        raise UserError(
            f"{source.title} lacks {', '.join(lacking)}: move '{folder}' away and run the same command again"
        )
    return folder


def file_hash(path: Path, kind: str) -> str:
    """Give the checksum of a file in hex; `kind` is "md5" or "sha256"."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _source(name: str) -> Source:
    if name not in DATASETS:
        raise UserError(f"{name!r} is none of the published sets: choose one of {', '.join(DATASETS)}")
    return DATASETS[name]


def _pin(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _wrong(source: Source, path: Path, pin: Path) -> str:
    """Say what is wrong with an archive; nothing if it is right, or if there is nothing to compare it with."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"has {size} bytes where {source.size} were published"
    with open(path, "rb") as file:
        if source.archive.endswith("gz") and file.read(2) != b"\x1f\x8b":
            return "is not a gzip file"  # but a page of the model's provider, often
    if source.checksum is not None:
        expected, origin = source.checksum, "was published"
    elif pin.exists():
        expected, origin = f"sha256:{_read_pin(pin)}", "is that of the first download"
    else:
        return ""
    kind, _, value = expected.partition(":")
    found = file_hash(path, kind)
    return "" if found == value else f"has the {kind.upper()} {found} where {value} {origin}"


def _read_pin(pin: Path) -> str:
    words = pin.read_text(encoding="ascii", errors="replace").split()
    if not words or len(words[0]) != 64 or set(words[0]) - set("0123456789abcdef"):
        raise UserError(f"'{pin.name}' does not begin with a SHA-256: delete it")
    return words[0]


# ---- a download that may be cut off


class _Part:
    """What arrived so far of a file, in ``.NAME.part``, and which copy it is of, in ``.NAME.part.json``.

    Held by one process at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = path.with_name(f".{path.name}.part")
        self._about = path.with_name(f".{path.name}.part.json")
        self.file: IO[bytes] = open(self.place, "a+b")  # noqa: SIM115 closed by __exit__

    def __enter__(self) -> _Part:
        if fcntl is not None:
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # the other one may have finished, and renamed the file, since it was opened here
                held = self.place.exists() and os.path.samestat(os.fstat(self.file.fileno()), os.stat(self.place))
            except BlockingIOError:
                held = False
            except OSError:  # a file system without locks
                held = True
            if not held:
                self.file.close()
                raise UserError(f"another process is downloading '{self.path.name}': wait for it, then run again")
        return self

    def __exit__(self, *_: object) -> None:
        if not self.file.closed:
            empty = self.file.seek(0, os.SEEK_END) == 0
            if empty:
                self.place.unlink(missing_ok=True)
                self._about.unlink(missing_ok=True)
            self.file.close()

    def __len__(self) -> int:
        return self.file.seek(0, os.SEEK_END)

    def restart(self) -> None:
        """Forget what arrived."""
        self.file.truncate(0)
        self._about.unlink(missing_ok=True)

    def tag(self, url: str) -> str:
        """Give the validator of the copy that it is a part of; nothing if the server gave none."""
        try:
            about = json.loads(self._about.read_bytes())
            return str(about["tag"]) if about["url"] == url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def set_tag(self, url: str, tag: str) -> None:
        """Keep the validator of the copy that begins to arrive."""
        write(self._about, json.dumps({"url": url, "tag": tag}))

    def finish(self) -> None:
        """Let the file appear under its name."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if fcntl is None:  # Windows cannot rename an open file
            self.file.close()
        os.replace(self.place, self.path)
        self._about.unlink(missing_ok=True)
        self.file.close()


@dataclass(frozen=True)
class _Patience:
    stall: float
    attempts: int
    pause: float


class _Again(Exception):
    """An attempt failed in a way that the next one may mend, from the beginning if what arrived is of no use."""

    def __init__(self, why: str, *, wait: float = 0.0, restart: bool = False) -> None:
        super().__init__(why)
        self.wait = wait
        self.restart = restart


class _Refused(Exception):
    """An address will not give the file, however often it is asked."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never out of a protected connection."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        old, new = (urllib.parse.urlsplit(url).scheme for url in (req.full_url, newurl))
        if new not in ("http", "https") or (old, new) == ("https", "http"):
            raise _Refused(f"it redirects from {old} to {new}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(source: Source, part: _Part, patience: _Patience, progress: Progress | None) -> None:
    """Fill the part from the first address that gives the right file, and finish it."""
    reasons = []
    for url in source.urls:
        try:
            resumed = _persist(url, source, part, patience, progress)
            wrong = _wrong(source, part.place, _pin(part.path))
            if wrong and resumed:  # the two pieces may be of different copies
                part.restart()
                _persist(url, source, part, patience, progress)
                wrong = _wrong(source, part.place, _pin(part.path))
            if not wrong:
                part.finish()
                return
            part.restart()
            reasons.append(f"what {urllib.parse.urlsplit(url).netloc} gives {wrong}")
        except _Refused as e:
            reasons.append(f"{urllib.parse.urlsplit(url).netloc}: {e}")
    place = f"'{part.path.name}' could not be downloaded into '{part.path.parent}' ({'; '.join(reasons)})"
    raise UserError(f"{place}: {instructions(source)}")


def _persist(url: str, source: Source, part: _Part, patience: _Patience, progress: Progress | None) -> bool:
    """Try until everything arrived; tell whether it came in pieces."""
    resumed, failures, best = len(part) > 0, 0, len(part)
    while True:
        try:
            _attempt(url, source, part, patience.stall, progress)
            return resumed
        except _Again as e:
            if e.restart:
                part.restart()
            resumed = resumed or len(part) > 0
            failures = 0 if len(part) >= best + _GAIN else failures + 1
            best = max(best, len(part))
            if failures >= patience.attempts:
                raise _Refused(f"{e}, at the last of {failures} attempts") from e
            time.sleep(min(_LONGEST_WAIT, max(e.wait, patience.pause * 2 ** max(0, failures - 1))))


def _attempt(url: str, source: Source, part: _Part, stall: float, progress: Progress | None) -> None:
    """Ask once for what is lacking, and write what comes."""
    tag = part.tag(url)
    if not tag:  # nobody could tell whether the rest is of the same copy
        part.restart()
    have = len(part)
    request = urllib.request.Request(url, headers={"User-Agent": "vicinal", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    with _open(request, stall) as answer:
        if answer.status == 206 and not _continues(answer.headers, have, tag):
            raise _Again("the file changed while it was downloaded", restart=True)
        begin = have if answer.status == 206 else 0
        length = _number(answer.headers.get("Content-Length"))
        total = None if length is None else begin + length
        if source.size is not None and total not in (None, source.size):
            raise _Refused(f"it offers {total} bytes where {source.size} were published")
        total = source.size if total is None else total
        if total is None and not answer.chunked:
            raise _Refused("it does not say how long the file is")
        if answer.status != 206:  # all of it, from the beginning
            part.restart()
            part.set_tag(url, _tag(answer.headers))
        have, limit = begin, _LARGEST if total is None else total
        if progress is not None:
            progress(have, total)
        for block in _blocks(answer, limit - begin, stall):
            part.file.write(block)
            have += len(block)
            if progress is not None:
                progress(have, total)
        part.file.flush()
    if total is None and have == limit:
        raise _Refused(f"it sends more than {limit} bytes")
    if total is not None and have < total:
        raise _Again(f"the connection closed after {have} of {total} bytes")


def _open(request: urllib.request.Request, stall: float) -> http.client.HTTPResponse:
    """Ask; every way in which that can fail becomes `_Again` or `_Refused`."""
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=stall)
    except urllib.error.HTTPError as e:
        with e:
            if e.code == 416 and request.has_header("Range"):  # more is here than the file has now
                raise _Again("the file changed while it was downloaded", restart=True) from e
            if e.code in (408, 425, 429) or e.code >= 500:
                raise _Again(f"the server answered {e.code} {e.reason}", wait=_retry_after(e.headers)) from e
            raise _Refused(f"the server answered {e.code} {e.reason}") from e
    except TimeoutError as e:
        raise _Again(f"no answer came for {stall:g} s") from e
    except urllib.error.URLError as e:
        raise _Again(f"no connection: {e.reason}") from e
    except (http.client.HTTPException, OSError, ValueError) as e:  # ValueError: a redirect to no address at all
        raise _Again(f"the connection broke: {str(e) or type(e).__name__}") from e


def _blocks(answer: http.client.HTTPResponse, length: int, stall: float) -> Iterator[bytes]:
    """Give the body as it comes, until its end or `length`, unless it comes too slowly."""
    since, came = time.monotonic(), 0
    while length > 0:
        try:
            block = answer.read1(min(_BLOCK, length))
        except TimeoutError as e:
            raise _Again(f"nothing came for {stall:g} s") from e
        except (http.client.HTTPException, OSError) as e:
            raise _Again(f"the connection broke: {str(e) or type(e).__name__}") from e
        if not block:
            return
        length -= len(block)
        came += len(block)
        yield block
        if time.monotonic() - since > stall:
            if came < stall * _SLOWEST:
                raise _Again(f"only {came} bytes came in {stall:g} s")
            since, came = time.monotonic(), 0


def _continues(headers: Message, have: int, tag: str) -> bool:
    """Whether a partial answer begins where it should, in the same copy."""
    start = headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0].strip()
    of = headers.get("ETag" if tag.startswith('"') else "Last-Modified", "").strip()
    return have > 0 and start == str(have) and of in ("", tag)


def _tag(headers: Message) -> str:
    """Give what tells one copy from another: a strong entity tag, else the date."""
    tag = headers.get("ETag", "").strip()
    return tag if tag.startswith('"') else headers.get("Last-Modified", "").strip()


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None


def _retry_after(headers: Message) -> float:
    """Give the seconds that a server asks to wait: it tells them, or a date."""
    text = headers.get("Retry-After", "").strip()
    seconds = _number(text)
    if seconds is not None:
        return float(seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0


# ---- unpacking


def extract(archive: Path, into: Path, *, limit: int, inside: str = "") -> None:
    """Unpack an archive into a new folder that appears whole or not at all.

    Only plain files and folders are taken, and only below `into`: an archive with anything else (a link, a device, an
    absolute name, a name with ``..``, one name twice) is refused, and so is one that holds more than it may.

    Args:
        archive: a .tar, .tar.gz, .tgz, .tar.xz, .tar.bz2 or .zip file.
        into: the folder to make; must not exist, its parent must.
        limit: how many bytes all files together may have.
        inside: take only this folder of the archive, as `into`.

    Raises:
        UserError: if the archive is damaged, holds such things, or lacks the folder `inside`.

    """
    if into.exists():
        raise UserError(f"'{into}' exists already: move it away")
    beside = into.with_name(f".{into.name}.{os.getpid()}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir()
        unpack = _unzip if archive.suffix.lower() == ".zip" else _untar
        unpack(archive, beside, _Allowance(archive.name, limit))
        found = beside / inside
        if not found.is_dir():
            raise UserError(f"'{archive.name}' does not hold the folder {inside}: download it again")
        os.replace(found, into)
    except _DAMAGED as e:
        why = str(e).partition("\n")[0].rstrip(":") or type(e).__name__
        raise UserError(f"'{archive.name}' is damaged ({why}): download it again") from e
    except OSError as e:
        raise UserError(f"'{archive.name}' could not be unpacked into '{into.parent}' ({e.strerror or e})") from e
    finally:
        shutil.rmtree(beside, ignore_errors=True)


_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
    struct.error,
)
_PACKINGS = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ": lzma}


class _Allowance:
    """What an archive may still hold."""

    def __init__(self, archive: str, limit: int) -> None:
        self.archive = archive
        self.limit = limit
        self.bytes = limit
        self.members = _MOST_MEMBERS
        self.names: set[PurePosixPath] = set()

    def admit(self, name: str, size: int, *, plain: bool) -> PurePosixPath:
        """Give the relative path of a member that may be unpacked, or refuse the archive."""
        path = PurePosixPath(name)
        strange = path.is_absolute() or ".." in path.parts or any(c in name for c in "\\:\0")
        if strange or not plain:
            what = "a name that leads out of its folder" if strange else "neither a file nor a folder"
            raise UserError(f"'{self.archive}' holds {name!r}, {what}: it is not unpacked")
        self.members -= 1
        self.bytes -= size
        if size < 0 or self.bytes < 0 or self.members < 0:
            raise UserError(
                f"'{self.archive}' holds more than {self.limit} bytes or {_MOST_MEMBERS} files: it is not unpacked"
            )
        return path

    def admit_file(self, path: PurePosixPath) -> None:
        """Refuse a second file of the same name."""
        if path in self.names:
            raise UserError(f"'{self.archive}' holds '{path}' twice: it is not unpacked")
        self.names.add(path)


def _untar(archive: Path, into: Path, allowance: _Allowance) -> None:
    with open(archive, "rb") as file:
        start = file.read(6)
    packing: Any = next((module for magic, module in _PACKINGS.items() if start.startswith(magic)), builtins)
    with packing.open(archive, "rb") as stream:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                plain = (member.isreg() and not member.issparse()) or member.isdir()
                path = allowance.admit(member.name, member.size, plain=plain)
                if member.isreg():
                    allowance.admit_file(path)
                tar.extract(member, into, filter="data")
        if len(stream.read(_BLOCK)) == _BLOCK:  # the checksum of what was packed is at its very end
            raise tarfile.ReadError("more follows after its end")


def _unzip(archive: Path, into: Path, allowance: _Allowance) -> None:
    with zipfile.ZipFile(archive) as bundle:
        for member in bundle.infolist():
            mode = stat.S_IFMT(member.external_attr >> 16)  # 0 where it was not made on Unix
            kind = stat.S_IFDIR if member.is_dir() else stat.S_IFREG
            if member.flag_bits & 1:
                raise UserError(f"'{archive.name}' is encrypted: unpack it by hand")
            path = allowance.admit(member.filename, member.file_size, plain=mode in (0, kind))
            target = into / path
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            allowance.admit_file(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            with bundle.open(member) as packed, open(target, "xb") as file:  # gives no more than file_size bytes
                shutil.copyfileobj(packed, file, _BLOCK)
