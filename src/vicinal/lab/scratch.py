"""Temporary folders that go with their process, however it ends: what one left that was killed, the next one removes.

A process holds a lock in each of its folders, which the system frees when it ends. The semaphores of its queues go with
them: joblib names them after the process, and if everything is killed at once, nobody else removes them. Where there are no
locks (some network file systems), what a killed process left stays.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vicinal.lab import filelock

_LOCK = "lock"
_SEMAPHORES = Path("/dev/shm")  # where Linux shows them
PREFIX = "vicinal-"


@contextmanager
def folder(prefix: str = PREFIX, parent: Path | None = None) -> Iterator[Path]:
    """Make a folder for as long as the `with` lasts, and remove those of the same place and prefix that are left.

    Args:
        prefix: of its name.
        parent: where it is made; default: where temporary files are.

    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    remove_left(prefix, parent)
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with ExitStack() as stack:
            lock = stack.enter_context(open(path / _LOCK, "w", encoding="ascii"))
            print(os.getpid(), file=lock, flush=True)
            try:
                stack.enter_context(filelock.held(lock))
            except OSError:  # this file system has none
                lock.close()  # Windows removes no file that is open
                (path / _LOCK).unlink()
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_left(prefix: str = PREFIX, parent: Path | None = None) -> None:
    """Remove the folders of processes that have ended."""
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    for lock in parent.glob(f"{prefix}*/{_LOCK}"):
        if is_left(lock.parent):
            _remove_semaphores(lock)
            shutil.rmtree(lock.parent, ignore_errors=True)  # another process may be removing it


def _remove_semaphores(lock: Path) -> None:
    if not _SEMAPHORES.is_dir():  # not Linux; on Windows the question below would end that process
        return
    try:
        process = int(lock.read_text(encoding="ascii"))
    except (OSError, ValueError):  # it is another user's; or the process was killed before it wrote its number
        return
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        for semaphore in _SEMAPHORES.glob(f"sem.loky-{process}-*"):
            semaphore.unlink(missing_ok=True)
    except PermissionError:  # by now that number is a process of another user
        return


def is_left(path: Path) -> bool:
    """Return True if a folder's process has ended, False if that cannot be known."""
    try:
        with open(path / _LOCK, "rb") as lock, filelock.held(lock, shared=True):
            return True
    except OSError:  # it is held, has been removed with its folder, or is another user's; or there are no locks
        return False
