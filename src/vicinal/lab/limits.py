"""What a file may take of memory, by what is free, and files that are none: pipes, devices, sockets."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from vicinal.lab import memory
from vicinal.lab.errors import UserError

_SMALL = 1 << 26  # bytes that need no question: to ask takes a tenth of a millisecond
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
)


def lacking(size: float) -> str:
    """Describe a size that is larger than free memory, as "90.0 GiB, and 4.0 GiB of memory are free"; "" if it is not."""
    if size <= _SMALL:
        return ""
    free, where = memory.available()
    if free is None:
        free, where = _installed(), "at most, as this machine has no more"
    if free is None or size <= free:
        return ""
    return f"{shown(size)}, and {shown(free)} of memory are free {where}"


def _installed() -> int | None:
    """Return the bytes of memory of this machine, where the system does not say how many are free."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # another system
        return None


def shown(size: float) -> str:
    """Write a number of bytes.

    Example:
        >>> shown(3 * 2**30), shown(70 * 2**20)
        ('3.0 GiB', '70 MiB')

    """
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def check(size: float, label: str, what: str, advice: str) -> None:
    """Refuse what would take more bytes of memory than are free.

    Args:
        size: bytes.
        label: of the file.
        what: how the sentence goes on, up to the size, as "unpacks to".
        advice: what to do.

    """
    if why := lacking(size):
        raise UserError(f"{label!r} {what} {why}: {advice}")


def joined(chunks: Iterable[bytes], label: str, what: str, advice: str) -> bytes:
    """Join the chunks of a content whose size is not known, unless they take more than half of the free memory.

    Half, since they are held twice while they are joined. The arguments are those of `check`.
    """
    held, size, asked = [], 0, 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size - asked > _SMALL // 2:
            asked = size
            # what is held is no longer free: as much again must be
            check(size, label, f"{what} more than {shown(size)}, which needs another", advice)
    return b"".join(held)


def check_kept(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder in which something else lies where a command keeps its files; what is not there yet is fine.

    Raises:
        OSError: one is a pipe, a device, a socket or a folder, or leads nowhere, or cannot be read.

    """
    for path in (folder / name for name in names):
        if os.path.lexists(path):
            check_file(path)
            path.open("rb").close()


def check_file(path: Path) -> os.stat_result:
    """Return what the system says of a file.

    Raises:
        OSError: it is not there, or is a pipe, a device or a socket, where reading may wait for ever or find no end.

    """
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):
        what = next((name for is_kind, name in _KINDS if is_kind(about.st_mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {what}, not a file", str(path))
    return about


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        OSError: as of `check_file`, or if it cannot be read or is larger than free memory.

    """
    if why := lacking(check_file(path).st_size):
        raise OSError(errno.EFBIG, f"it has {why}", str(path))
    with open(path, "rb") as file:
        return file.read()
