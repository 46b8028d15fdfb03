"""Start a command, find all of its processes, and signal them.

Each carries a mark in its environment, which whatever it starts inherits: so they are found in other sessions and groups
too, and after whoever started them has gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torture.part import ROOT

MARK = "VICINAL_TORTURE"
_POLL = 0.01  # seconds
_LONGEST = 300.0  # seconds that any command may take
TEMPORARY = "t"  # a folder beside what a command writes, for its temporary files


def environment(folder: Path, mark: str) -> dict[str, str]:
    """Return the environment of a command that runs in a folder."""
    keep = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("VICINAL_", "SUBMITIT_", "TORCHELASTIC_"))
    }
    temporary = folder / TEMPORARY
    temporary.mkdir(exist_ok=True)
    return keep | {
        MARK: mark,
        "TMPDIR": str(temporary),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "120",
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    }


def run(argv: Sequence[str], folder: Path) -> str:
    """Run a command to its end, which must be a good one; return what it printed."""
    made = Running(argv, folder)
    if made.wait() != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {made.process.returncode}: {made.said()[-2000:]}")
    return made.printed()


class SharedMemory:
    """A /dev/shm for the commands alone, where this system lets one be made; else that of all."""

    def __init__(self) -> None:
        words = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /dev/shm && echo made && exec cat"]
        self._holder: subprocess.Popen[str] | None = None
        with suppress(FileNotFoundError):
            self._holder = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        if self._holder is not None and self._holder.stdout is not None:
            self.alone = self._holder.stdout.readline() == "made\n"
        else:
            self.alone = False

    def enter(self, folder: Path) -> tuple[str, ...]:
        """Return what starts a command there, in a folder."""
        if not self.alone or self._holder is None:
            return ()
        return ("nsenter", f"--target={self._holder.pid}", "--mount", "env", f"--chdir={folder}")

    def names(self) -> frozenset[str]:
        """Return what is there."""
        root = f"/proc/{self._holder.pid}/root" if self.alone and self._holder else ""
        return frozenset(os.listdir(f"{root}/dev/shm"))

    def close(self) -> None:
        """Give it up."""
        if self._holder is not None:
            self._holder.communicate()


@dataclass(frozen=True)
class Found:
    """A process as the system shows it."""

    pid: int
    parent: int
    state: str
    memory: int  # pages
    line: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.state}) {self.line[:120]}"


class Running:
    """A command that runs, as the leader of a session."""

    def __init__(self, argv: Sequence[str], folder: Path, memory: SharedMemory | None = None) -> None:
        self.argv, self.folder = tuple(argv), folder
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        # open as long as it is looked at
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            (*(memory.enter(folder) if memory else ()), *self.argv),
            cwd=folder,
            env=environment(folder, self.mark),
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )
        self.started = time.monotonic()
        self._seen: dict[int, str] = {}

    def printed(self) -> str:
        """Return its standard output so far, with the folder where it runs as a dot."""
        self._out.seek(0)
        return self._out.read().decode(errors="replace").replace(str(self.folder), ".")

    def said(self) -> str:
        """Return its standard error so far."""
        self._err.seek(0)
        return self._err.read().decode(errors="replace")

    def family(self) -> list[Found]:
        """Return its processes that are there, itself included."""
        found = []
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            pid = int(entry.name)
            try:
                stat = Path(entry.path, "stat").read_text()
                marked = f"{MARK}={self.mark}".encode() in Path(entry.path, "environ").read_bytes().split(b"\0")
                line = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:  # it has ended, or is another user's
                continue
            state, parent, *fields = stat.rsplit(")", 1)[1].split()
            birth = fields[17]
            if marked:
                self._seen[pid] = birth
            elif not (state == "Z" and self._seen.get(pid) == birth):  # a zombie has no environment
                continue
            found.append(Found(pid, int(parent), state, int(fields[19]), line))
        return found

    def others(self) -> list[Found]:
        """Return those that do its work beside itself: not what only watches over the resources of Python."""
        return [
            one
            for one in self.family()
            if one.pid != self.process.pid and one.state != "Z" and "resource_tracker" not in one.line
        ]

    def ended(self) -> bool:
        """Return whether the command has ended."""
        return self.process.poll() is not None

    def sleep_until(self, seconds: float) -> bool:
        """Wait until so many seconds after its start; return False if it has ended before."""
        while time.monotonic() - self.started < seconds:
            if self.ended():
                return False
            time.sleep(_POLL / 2)
        return not self.ended()

    def wait(self, seconds: float = _LONGEST) -> int | None:
        """Wait for its end; returns its exit code, or None where it had to be killed, with all of its processes."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            return None

    def left(self, grace: float) -> list[Found]:
        """Return the processes that are there `grace` seconds after the command's end."""
        until = time.monotonic() + grace
        while True:
            # who has been left to the first process of the system is for that one to reap
            found = [one for one in self.family() if not (one.state == "Z" and one.parent in (1, os.getpid()))]
            if not found or time.monotonic() > until:
                return found
            time.sleep(5 * _POLL)

    def end(self) -> None:
        """Kill all that is left."""
        for _ in range(50):
            found = [one for one in self.family() if one.state != "Z"]
            for one in found:
                try:
                    os.kill(one.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if not found:
                break
            time.sleep(_POLL)
        self.process.wait()
