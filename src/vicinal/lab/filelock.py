"""Locks on open files, which the system frees when their process ends, however it ends.

That is `flock`, and on Windows the lock of one byte far beyond the end of the file, which keeps nobody from reading it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt as _windows
except ImportError:  # any other system
    _windows = None

msvcrt: Any = _windows  # Any: type checkers know what is in it on Windows alone
_FAR = 1 << 30  # a byte may be locked where the file has none


@contextmanager
def held(file: IO[Any], shared: bool = False) -> Iterator[None]:
    """Hold the lock of an open file while the `with` lasts, at the least; nobody is waited for.

    Args:
        file: whatever was written to it has been flushed.
        shared: others may hold it so too, where the system can do that.

    Raises:
        BlockingIOError: another process, or another opening of the file, holds it.
        OSError: this system or file system has no locks.

    """
    if fcntl is not None:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        yield  # closing the file frees it, once a process that was forked meanwhile has closed it too
    elif msvcrt is not None:
        try:
            _at_byte(file, msvcrt.LK_NBLCK)
        except PermissionError as error:  # what Windows says of a byte that is held
            raise BlockingIOError(errno.EAGAIN, "another process holds the lock") from error
        try:
            yield
        finally:
            _at_byte(file, msvcrt.LK_UNLCK)  # closing frees it too, but not at once
    else:
        raise OSError(errno.ENOTSUP, "this system has no file locks")


def _at_byte(file: IO[Any], do: int) -> None:
    """Lock or unlock the byte, which is given by the position in the file; that stays as it was."""
    number = file.fileno()
    before = os.lseek(number, 0, os.SEEK_CUR)
    os.lseek(number, _FAR, os.SEEK_SET)
    try:
        msvcrt.locking(number, do, 1)
    finally:
        os.lseek(number, before, os.SEEK_SET)
