"""Ctrl-C once: what is pressed again while a command stops does not stop it from stopping well."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_DEAF = 10.0  # seconds after one; if that went unheard, as in a destructor, another is heard then


class Interrupts:
    """The first Ctrl-C raises KeyboardInterrupt, and those soon after it nothing."""

    def __init__(self) -> None:
        self._last: float | None = None

    def __call__(self, number: int, frame: object) -> None:
        """Hear the signal."""
        now = time.monotonic()
        if self._last is None or now - self._last > _DEAF:
            self._last = now
            raise KeyboardInterrupt

    @property
    def heard(self) -> bool:
        """True after one."""
        return self._last is not None


@contextmanager
def once() -> Iterator[None]:
    """Hear the first Ctrl-C alone; after one, none is heard until the process ends, which is soon.

    Where Ctrl-C is ignored or has a handler already (nohup, another program), or where Python hears no signals (another
    thread), nothing is changed.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    interrupts = Interrupts()
    signal.signal(signal.SIGINT, interrupts)
    try:
        yield
    finally:  # handlers that modules registered for the exit of Python would be cut off with a traceback
        signal.signal(signal.SIGINT, signal.SIG_IGN if interrupts.heard else signal.default_int_handler)
