"""Programs that end soon after the process that started them, however that one ends."""

from __future__ import annotations

import os
import threading
import time

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
    """End this process, from a thread, when `parent` is no longer the one that started it."""

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
