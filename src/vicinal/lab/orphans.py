"""Programs that end soon after the process that started them, however that one ends."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

try:
    import _winapi as _windows
except ImportError:  # any other system
    _windows = None

_winapi: Any = _windows  # Any: type checkers know what is in it on Windows alone
_PARENT = "VICINAL_PARENT"  # in the environment: the number of the process whose end is waited for
_POLL = 0.5  # seconds


def environment() -> dict[str, str]:
    """Return the environment of a command of vicinal that is to end with this process."""
    return {**os.environ, _PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """End this process when the one that started it has ended, if that one is torchrun, or asked for it by `environment`."""
    asked = os.environ.pop(_PARENT, "")
    if asked.isdigit() or "TORCHELASTIC_RUN_ID" in os.environ:
        end_after(int(asked) if asked.isdigit() else os.getppid())


def end_after(parent: int) -> None:
    """End this process, from a thread, when `parent` is no longer the one that started it; on Windows: when it has ended."""

    def wait() -> None:
        if _winapi is not None:
            _wait_for(parent)
        while _winapi is None and os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _wait_for(process: int) -> None:
    """Wait for the end of a process on Windows.

    There `os.getppid` names a process that has ended, too, and it names the launcher of a virtual environment, which stands
    between a process and the one that started it.
    """
    try:
        handle = _winapi.OpenProcess(_winapi.SYNCHRONIZE, False, process)
    except OSError:  # it has ended
        return
    _winapi.WaitForSingleObject(handle, _winapi.INFINITE)
