"""Atomic file writes: files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from vicinal.lab import filelock, limits

T = TypeVar("T")

_PARTIAL = ".partial"
_WINDOWS = os.name == "nt"
_READ_MEANWHILE = (0.01, 0.05, 0.2, 0.7)  # seconds between attempts


def write(path: Path, content: bytes | str, *, through_links: bool = False) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part; the folder must exist.

    A device, a pipe or a folder is not replaced by a file.

    Args:
        path: of the file.
        content: of the file.
        through_links: a link stays, and the file that it leads to is written, as for a path that the user named; else the
            link is replaced: what a command keeps in its folder is written there and nowhere else.

    Raises:
        OSError: it cannot be written; what was there is as it was.

    """
    # names of files may be other bytes than UTF-8: Python's characters for these are written as a terminal shows them
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with writing(path, through_links=through_links) as file:
        file.write(data)


@contextmanager
def writing(path: Path, *, through_links: bool = False) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of the one at `path`, as `write` says, when the `with` ends without an error."""
    path = _file_at(path) if through_links else path
    _check_replaceable(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
        raise


def _replace(temporary: Path, path: Path) -> None:
    """Put a file into the place of another; Windows refuses that for the moment in which somebody reads the other one."""
    for seconds in _READ_MEANWHILE if _WINDOWS else ():
        with suppress(PermissionError):
            os.replace(temporary, path)
            return
        time.sleep(seconds)
    os.replace(temporary, path)


def _file_at(path: Path) -> Path:
    """Return the file that a path leads to, which need not exist."""
    with suppress(FileNotFoundError):
        path.stat()  # links in a circle are refused here
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _check_replaceable(path: Path) -> None:
    """Refuse to put a file into the place of something else than a file or a link."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise OSError(errno.EISDIR, f"there is {kind}, not a file", os.fspath(path), None, os.fspath(path))


def is_partial(path: Path) -> bool:
    """Return True for what `write` leaves when its process is killed."""
    return path.name.startswith(".") and path.suffix == _PARTIAL


def append_line(path: Path, line: str) -> None:
    """Append one line and wait for the disk; if that fails, the file is cut back to what it was.

    Raises:
        OSError: it cannot be written, or is something else than a file, a link included.

    """
    with open(
        path, "a+b", buffering=0, opener=_open_file
    ) as file:  # a buffer would be written at closing, after the cut
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        torn = file.read(1) not in (b"", b"\n")  # a crash cut the last line off
        rest = memoryview(b"\n" * torn + line.encode() + b"\n")
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException as error:
            if rest or isinstance(error, OSError):  # Ctrl-C after the last byte takes nothing back
                file.truncate(end)
            raise


def _open_file(path: str, flags: int) -> int:
    """Open a file to append to it: not a link, and nothing that would wait for another process."""
    found = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", path)
    return found


def json_lines(path: Path) -> list[Any]:
    """Return the values of a file of JSON lines; lines cut off by a crash are left out."""
    return readable_lines(path, json.loads)[0]


def readable_lines(path: Path, read: Callable[[bytes], T]) -> tuple[list[T], int]:
    """Return what `read` makes of each line of a file, and how many lines it cannot read, as a crash leaves them.

    A file that is not there has no lines, and blank lines are none.
    """
    if not path.exists():
        return [], 0
    values, lines = list[T](), [line for line in limits.read_bytes(path).split(b"\n") if line.strip()]
    for line in lines:
        with suppress(ValueError, TypeError, AttributeError, RecursionError):
            values.append(read(line))
    return values, len(lines) - len(values)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock that a file stands for; yields False where another process holds it. The folder must exist.

    The system frees it when its process ends, however it ends. Whoever holds it may remove the file; Windows keeps it. Where
    there are no locks (some network file systems), a warning says so, and True is yielded.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open(path, "ab", opener=_open_file))
        reason = ""
        try:
            stack.enter_context(filelock.held(file))
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            reason = error.strerror or str(error)
        # another process may have held it, and removed it since it was opened
        if not reason and not _is_at(file.fileno(), path):
            yield False
            return
        if reason:
            warnings.warn(f"{path} cannot be locked ({reason}): start nothing twice in that folder", stacklevel=3)
        yield True


def _is_at(file: int, path: Path) -> bool:
    """Return True if an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
