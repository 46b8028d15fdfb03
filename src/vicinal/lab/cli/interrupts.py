"""Signals that stop a command: Ctrl-C once, SIGTERM, and SIGHUP of a closed terminal.

This is imported first, before anything that takes long, and imports built-in modules alone.
"""

from __future__ import annotations

import _thread
import atexit
import os
import sys
import time

TYPE_CHECKING = False  # as of typing, which takes ten times as long to import as this module
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import FrameType
    from typing import Any
else:
    import _signal as signal  # the module without its enums, whose import takes as long as typing's

_DEAF = 10.0  # seconds after one; if that went unheard, as in a destructor, another is heard then
_AGAIN = 0.05  # seconds after which one is delivered again that came where it could not be heard
_IMPORT = "<frozen importlib._bootstrap>"

SIGINT = int(signal.SIGINT)
_NAMES = {name: int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}


class Stopped(KeyboardInterrupt):
    """A signal that stops the command, as Ctrl-C does.

    Args:
        number: of the signal.

    """

    def __init__(self, number: int = SIGINT) -> None:
        super().__init__()
        self.number = number


class Interrupts:
    """The first signal raises KeyboardInterrupt, and those soon after it nothing; nor does one when the command is over.

    One that comes while a module is imported is not raised there: an extension that is being set up turns it into an error
    of its own, or passes over it, and a program may then take the package for one that is not installed. Where nothing is
    begun yet, the process ends at once; else the signal is delivered again when the import is over.

    Args:
        program: this process is the command, and may be ended; else another program has called it.

    """

    def __init__(self, program: bool = False) -> None:
        self.program, self.entered, self.begun = program, False, False
        self._ended: float | None = None
        self.number: int | None = None  # of the signal that was heard
        self._last: float | None = None
        self._process = os.getpid()
        self._before: dict[int, Any] = {}
        self._hook: Callable[[Any], Any] | None = None

    # -- while the command runs ----------------------------------------------------------------------------------------

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Hear the signal."""
        if os.getpid() != self._process and number != SIGINT:  # a fork, which is ended by it as any process
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        now = time.monotonic()
        if self._ended is not None:
            if now - self._ended > _DEAF:
                os._exit(128 + number)
            return
        if self._last is not None and now - self._last <= _DEAF:
            return
        self.number = number
        importing = self.program and _importing(frame)
        if self.program and (not self.entered or (importing and not self.begun)):
            _say(told(number))
            os._exit(128 + number)
        if importing:
            self._deliver_again()
            return
        self._last = now
        raise Stopped(number)

    def _deliver_again(self) -> None:
        self._last, number = None, self.number or SIGINT

        def wait() -> None:
            time.sleep(_AGAIN)
            _thread.interrupt_main(number)  # pyright: ignore[reportArgumentType]  # a number will do

        _thread.start_new_thread(wait, ())

    def _unraisable(self, ignored: Any) -> None:
        """Deliver what was raised where nothing can be raised, as in a destructor, once more; what it broke is not told."""
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            self._deliver_again()
        elif self.number is None and self._hook is not None:
            self._hook(ignored)

    # -- its beginning and end -----------------------------------------------------------------------------------------

    def __enter__(self) -> Interrupts:
        """Hear the signals that nobody has asked for otherwise; elsewhere than in the main thread Python hears none."""
        global _now
        _now = self
        if _thread.get_ident() != _main_thread():
            return self
        for name, number in _NAMES.items():
            usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            # a rank of torchrun may wait for another one in a call that hears nothing: torchrun must be able to end it
            if name != "SIGINT" and not (self.program and "TORCHELASTIC_RUN_ID" not in os.environ):
                continue
            if signal.getsignal(number) == usual:
                self._before[number] = usual
                signal.signal(number, self)
        if self.program:
            self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
            atexit.register(self._end)  # before anybody else, so that it is called last
        return self

    def __exit__(self, *_: object) -> None:
        """Leave them to whoever called the command; if this is its process, what Python does at its end goes through."""
        global _now
        _now = None
        self.over()
        if not self.program:
            for number, usual in self._before.items():
                signal.signal(number, usual)

    def over(self) -> None:
        """Pass over signals while what is printed is written out and Python ends, unless that takes long."""
        if self.program and self._ended is None:
            self._ended = time.monotonic()

    def _end(self) -> None:
        """Hear nothing in the moments in which Python takes itself apart, with the usual handlers."""
        if os.getpid() == self._process:
            for number in self._before:
                signal.signal(number, signal.SIG_IGN)


_now: Interrupts | None = None


def enter() -> None:
    """Record that KeyboardInterrupt is caught from here on: before, a signal ends the process at once."""
    if _now is not None:
        _now.entered = True


def leave() -> None:
    """Record that the command is over."""
    if _now is not None:
        _now.over()


def begin() -> None:
    """Record that from here on a sudden end would leave something behind."""
    if _now is not None:
        _now.begun = True


def end(code: int) -> None:
    """End this process with `code` here, exit functions run, if it was one of several that trained together.

    PyTorch's threads for the connections outlive them. One that comes to Python for the last reference to a tensor, while
    Python takes itself apart, is ended there, and the process with it, by SIGABRT.
    """
    distributed = sys.modules.get("vicinal.lab.training.distributed")
    if distributed is not None and distributed.has_joined:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def heard() -> int | None:
    """Return the number of the signal that has stopped this command, if one has."""
    return None if _now is None else _now.number


def told(number: int) -> str:
    """Return how a command says that a signal has stopped it."""
    names = [name for name, value in _NAMES.items() if value == number != SIGINT]
    return f"stopped by {names[0]}" if names else "stopped"


def _importing(frame: FrameType | None) -> bool:
    """Return True within an import."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            return True
        frame = frame.f_back
    return False


def _say(text: str) -> None:
    try:
        os.write(2, f"vicinal: {text}\n".encode())
    except OSError:  # nobody is there to read it, and the process ends
        return


def _main_thread() -> int:
    """Return the main thread's number: without `threading` there is only this one."""
    threading = sys.modules.get("threading")
    return _thread.get_ident() if threading is None else threading.main_thread().ident
