"""Binary tables (Parquet, Arrow, Excel) read in a process of their own.

Their readers are compiled code, in which a damaged file may reach an abort, a panic, an endless loop, or an allocation of
whatever number it holds. That ends the other process, and becomes a sentence here. It costs about 0.3 s, once for all the
files of a table.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from vicinal.lab import memory

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_PROGRAM = Path(__file__).with_name("_read_apart.py")
_TOLD = 2000  # characters of what a process said that are looked at
_PIPE = 1 << 20  # bytes
_SHARE = 0.9  # of the free memory, which the other process may take


class ReadingFailed(Exception):
    """A file that cannot be read: the message says why, in a few words."""


@dataclass
class _Process:
    """The other process, which reads one file after the other until its input is closed."""

    running: subprocess.Popen[bytes]
    said: Any  # a file that takes what it prints

    def ask(self, question: dict[str, Any], raw: bytes) -> list[Any]:
        """Return what a file holds: a list of names and frames."""
        into, out = self.running.stdin, self.running.stdout
        assert into is not None
        assert out is not None
        try:
            into.write(json.dumps({**question, "size": len(raw)}).encode() + b"\n")
            into.write(raw)
            into.flush()
            head = out.readline()
            answer = json.loads(head) if head.endswith(b"\n") else None
            parts = [] if answer is None else [_exactly(out, size) for size in answer.get("sizes", ())]
        except BrokenPipeError:
            answer, parts = None, []
        except EOFError:
            answer, parts = None, []
        if answer is None:
            raise ReadingFailed(self._death())
        if "error" in answer:
            raise ReadingFailed(answer["error"])
        return [answer["names"], *(pl.read_ipc_stream(io.BytesIO(part)) for part in parts)]

    def _death(self) -> str:
        """Describe how the process ended."""
        code = self.running.wait()
        self.said.seek(0, os.SEEK_END)
        self.said.seek(max(0, self.said.tell() - _TOLD))
        told = self.said.read().decode(errors="replace")
        size = memory.asked(MemoryError(told.replace("memory allocation of", "tried to allocate")))
        if size is not None:
            free, where = memory.available()
            there = "" if free is None else f", of which {free / 2**30:.1f} GiB are free {where}"
            return f"it asks for {size / 2**30:,.1f} GiB of memory{there}"
        match name := _named(code):
            case "SIGXCPU":
                return "reading it takes far too long for its size"
            case "SIGKILL":
                return "the process that read it was killed, as for want of memory"
            case _:
                return f"the process that read it ended with {name}"

    def close(self) -> None:
        """End the process, and wait for it."""
        for end in (self.running.stdin, self.running.stdout):
            if end is not None:
                try:
                    end.close()
                except BrokenPipeError:
                    continue  # what it did not take is of no use to it any more
        try:
            self.running.wait(0.5 if self.running.poll() is None else None)
        except subprocess.TimeoutExpired:  # it is in the middle of a file that nobody waits for
            self.running.kill()
            self.running.wait()
        self.said.close()


def _named(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"code {code}"


def _exactly(out: Any, size: int) -> bytes:
    found = out.read(size)
    if len(found) < size:
        raise EOFError
    return found


_process: _Process | None = None
_holders = 0


@contextmanager
def kept() -> Iterator[None]:
    """Keep the other process, once there is one, until the end of the `with`, for the files that are read in it."""
    global _holders
    _holders += 1
    try:
        yield
    finally:
        _holders -= 1
        if not _holders:
            _end()


def _end() -> None:
    global _process
    if _process is not None:
        _process.close()
        _process = None


def _start() -> _Process:
    said = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
    try:
        running = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM)],  # -P: its folder holds modules of ours that are named like others
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        )
    except OSError as e:
        said.close()
        raise ReadingFailed(f"no process can be started to read it: {e.strerror}") from e
    for pipe in (running.stdin, running.stdout):
        _widen(pipe)
    return _Process(running, said)


def _widen(pipe: Any) -> None:
    """Make a pipe hold more than 64 KiB, where the system can: each time it is full, one process waits for the other."""
    if fcntl is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # too much of it for this user
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


def read(raw: bytes, kind: str, **question: Any) -> list[Any]:
    """Read a file in the other process.

    Args:
        raw: the file.
        kind: what it is, as in `_read_apart`.
        question: what that is told besides.

    Returns:
        A list of names, and frames.

    Raises:
        ReadingFailed: it cannot be read, or ended the process.

    """
    global _process
    with kept():
        if _process is None or _process.running.poll() is not None:
            _end()
            _process = _start()
        free, _ = memory.available()
        most = None if free is None else int(_SHARE * free)
        try:
            return _process.ask({"kind": kind, "memory": most, **question}, raw)
        except BaseException:  # it died, or is in the middle of something
            if _process.running.poll() is not None or not isinstance(sys.exception(), ReadingFailed):
                _process.running.kill()
                _end()
            raise
