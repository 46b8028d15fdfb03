"""Published datasets for the tests that need them, and a terminal."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from vicinal.lab import console

FOLDERS = {
    "uci": "uci",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "speech": "speech_commands",
    "imagenet": "imagenet",
}


@pytest.fixture(scope="session", autouse=True)
def _server(worker_server: None) -> None:
    """Start it before a command does."""


@pytest.fixture(scope="session")
def real_data(one_at_a_time: Callable[[str], AbstractContextManager[Path]]) -> Callable[[str], Path]:
    """Return the folder of a published dataset, `real_data("uci")`: that of VICINAL_DATA, else freshly unpacked."""
    given = os.environ.get("VICINAL_DATA")
    unpacker = Path(__file__).parents[2].parent / "shared" / "data" / "unpack.py"

    def root(name: str) -> Path:
        folder = FOLDERS[name]
        if given and (Path(given) / folder).is_dir():
            return Path(given)
        if not unpacker.is_file():
            pytest.skip(f"no {folder}/ in the folder that VICINAL_DATA names, and no archive to unpack it from")
        if name == "speech" and importlib.util.find_spec("soundfile") is None:
            pytest.skip(f"no {folder}/ in the folder that VICINAL_DATA names; unpacking it needs the package soundfile")
        with one_at_a_time(name) as out:
            if not (out / "complete").exists():
                subprocess.run([sys.executable, str(unpacker), str(out), name], check=True, capture_output=True)
                (out / "complete").touch()
            return out

    return root


class Screen:
    """A terminal of a given width, and what was written to it."""

    def __init__(self, columns: int) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.file = os.fdopen(slave, "w", encoding="utf-8")

    def text(self) -> str:
        self.file.flush()
        os.set_blocking(self._master, False)
        parts = []
        while True:
            try:
                parts.append(os.read(self._master, 65536))
            except BlockingIOError:
                return b"".join(parts).decode().replace("\r\n", "\n")

    def close(self) -> None:
        self.file.close()
        os.close(self._master)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace stdout and stderr by a terminal: `screen(60)` has 60 columns."""
    opened: list[Screen] = []
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def show(columns: int) -> Screen:
        opened.append(Screen(columns))
        # rich sizes itself by the three standard descriptors, which are pytest's
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "stdout", opened[-1].file)
        monkeypatch.setattr(sys, "stderr", opened[-1].file)
        return opened[-1]

    yield show
    for each in opened:
        each.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Advance the console's clock: `clock(3)` lets three seconds pass."""
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait
