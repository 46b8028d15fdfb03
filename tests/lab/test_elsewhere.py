"""What Windows and macOS have otherwise: locks by `msvcrt`, processes by `_winapi`, and modules of POSIX that are not there.

Nothing here runs on those systems: what they lack is taken away, and what they have is imitated.
"""

from __future__ import annotations

import ast
import errno
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

import vicinal
from vicinal.lab import atomic, filelock, orphans, scratch


class Msvcrt:
    """Locks of bytes as Windows has them: each is of one opening of a file, and begins where that stands."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self) -> None:
        self.held: dict[tuple[int, int, int], int] = {}
        self.refuses: int | None = None

    def locking(self, number: int, mode: int, size: int) -> None:
        if self.refuses is not None:
            raise OSError(self.refuses, os.strerror(self.refuses))
        about = os.fstat(number)
        byte = (about.st_dev, about.st_ino, os.lseek(number, 0, os.SEEK_CUR))
        assert size == 1
        if mode == self.LK_NBLCK:
            if byte in self.held:
                raise PermissionError(errno.EACCES, "Permission denied")
            self.held[byte] = number
        else:
            assert self.held.pop(byte) == number


@pytest.fixture
def msvcrt(monkeypatch: pytest.MonkeyPatch) -> Msvcrt:
    windows = Msvcrt()
    monkeypatch.setattr(filelock, "fcntl", None)
    monkeypatch.setattr(filelock, "msvcrt", windows)
    return windows


def test_a_lock_of_windows_keeps_others_out_until_it_is_let_go(tmp_path: Path, msvcrt: Msvcrt) -> None:
    (tmp_path / "file").write_bytes(b"words")
    with open(tmp_path / "file", "r+b", buffering=0) as ours, open(tmp_path / "file", "rb") as theirs:
        ours.seek(3)
        with filelock.held(ours):
            assert ours.tell() == 3
            assert theirs.read() == b"words"  # the byte that is locked is not one of the file's
            with pytest.raises(BlockingIOError), filelock.held(theirs, shared=True):
                pass
        with filelock.held(theirs):
            pass
    assert msvcrt.held == {}
    assert (tmp_path / "file").read_bytes() == b"words"


def test_an_error_within_lets_go_of_a_lock_of_windows(tmp_path: Path, msvcrt: Msvcrt) -> None:
    with open(tmp_path / "file", "wb") as file, pytest.raises(ZeroDivisionError), filelock.held(file):
        raise ZeroDivisionError
    assert msvcrt.held == {}


def test_what_commands_lock_is_locked_on_windows(tmp_path: Path, msvcrt: Msvcrt) -> None:
    with atomic.locked(tmp_path / "lock") as mine:
        assert mine
        with atomic.locked(tmp_path / "lock") as again:
            assert not again
    with atomic.locked(tmp_path / "lock") as mine:
        assert mine
    msvcrt.refuses = errno.EINVAL  # a file system without locks
    with pytest.warns(UserWarning, match=r"lock cannot be locked \(Invalid argument\): start nothing twice"):
        mine = atomic.locked(tmp_path / "lock").__enter__()
    assert mine


def test_without_any_locks_a_warning_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filelock, "fcntl", None)
    with pytest.warns(UserWarning, match=r"lock cannot be locked \(this system has no file locks\)"):
        mine = atomic.locked(tmp_path / "lock").__enter__()
    assert mine


@pytest.mark.usefixtures("msvcrt")
def test_temporary_folders_on_windows_go_with_their_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_question(process: int, number: int) -> None:
        raise AssertionError(f"os.kill({process}, {number}) ends a process on Windows")

    monkeypatch.setattr(os, "kill", no_question)
    monkeypatch.setattr(scratch, "_SEMAPHORES", tmp_path / "none")
    left = tmp_path / "vicinal-left"
    left.mkdir()
    (left / "lock").write_text("1\n", encoding="ascii")
    with scratch.folder(parent=tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine]
        assert not scratch.is_left(mine)
        with scratch.folder(parent=tmp_path) as second:
            assert {*tmp_path.iterdir()} == {mine, second}
    assert list(tmp_path.iterdir()) == []


# -- files that somebody reads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusals", [0, 2, 100])
def test_windows_lets_a_file_be_replaced_when_it_has_been_read(
    refusals: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = os.replace, []

    def replace(*paths: Any) -> None:
        asked.append(paths)
        if len(asked) <= refusals:
            raise PermissionError(errno.EACCES, "Access is denied")
        real(*paths)

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(atomic, "_WINDOWS", True)
    monkeypatch.setattr(atomic, "_READ_MEANWHILE", (0.0, 0.0))
    if refusals <= 2:
        atomic.write(tmp_path / "file", b"new")
    else:
        with pytest.raises(PermissionError):
            atomic.write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == (b"new" if refusals <= 2 else b"old")
    assert os.listdir(tmp_path) == ["file"]
    assert len(asked) == min(refusals, 2) + 1


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended", [False, True])
def test_a_process_on_windows_ends_with_the_one_it_belongs_to(ended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.getppid` is not asked there: it names the launcher of the virtual environment."""
    calls: list[tuple[Any, ...]] = []
    over = threading.Event()

    def open_process(access: int, inherit: bool, process: int) -> int:
        calls.append((access, inherit, process))
        if ended:
            raise OSError(errno.EINVAL, "The parameter is incorrect")
        return 77

    windows = SimpleNamespace(
        SYNCHRONIZE=0x100000,
        INFINITE=0xFFFFFFFF,
        OpenProcess=open_process,
        WaitForSingleObject=lambda handle, time: calls.append((handle, time)),
    )
    monkeypatch.setattr(orphans, "_winapi", windows)
    monkeypatch.setattr(os, "_exit", lambda code: (calls.append((code,)), over.set()))
    orphans.end_after(4321)
    assert over.wait(60)
    assert calls == [(0x100000, False, 4321), *([] if ended else [(77, 0xFFFFFFFF)]), (1,)]


# -- text -------------------------------------------------------------------------------------------------------------


def without_encoding(source: str) -> list[str]:
    """Return the calls that read or write text in the encoding of the system, which on Windows is not UTF-8."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        modes = [arg.value for arg in [*call.args, given.get("mode")] if isinstance(arg, ast.Constant)]
        binary = any(isinstance(mode, str) and re.fullmatch(r"[rwxa+]*b[rwxa+]*", mode) for mode in modes)
        of_path = len(call.args) == {"read_text": 0, "write_text": 1}.get(name, -1)
        if of_path or (name == "open" and isinstance(call.func, ast.Name) and not binary):
            found += [ast.unparse(call)] if "encoding" not in given else []
    return found


def test_text_is_read_and_written_in_an_encoding_that_is_said() -> None:
    files = sorted(Path(vicinal.__file__).parent.rglob("*.py"))
    assert len(files) > 150
    assert {str(path): calls for path in files if (calls := without_encoding(path.read_text(encoding="utf-8")))} == {
        str(path): ["open(number, mode, closefd=False)"] for path in files if path.name == "terminal.py"
    }  # stdin, stdout and stderr are of the system's


def test_the_test_of_encodings_would_notice() -> None:
    bad = (
        "open(a)\nopen(a, 'w')\np.read_text()\np.write_text(x)\nopen(a, 'rb')\nopen(a, encoding='utf-8')\nos.open(a, 1)"
    )
    assert without_encoding(bad) == ["open(a)", "open(a, 'w')", "p.read_text()", "p.write_text(x)"]


# -- modules and functions that are not there --------------------------------------------------------------------------

WITHOUT = """
import importlib.abc, os, signal, sys

LACKING = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix_ipc"}

class Lacking(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in LACKING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in LACKING & sys.modules.keys():
    del sys.modules[name]
sys.meta_path.insert(0, Lacking())
# of this system
import multiprocessing, subprocess, multiprocessing.util, multiprocessing.resource_tracker, multiprocessing.popen_spawn_posix
import numpy, torch
multiprocessing.resource_tracker._HAVE_SIGMASK = False
FUNCTIONS = "fork forkpty register_at_fork sched_getaffinity sysconf getpgid killpg setsid mkfifo"
for name in [*FUNCTIONS.split(), "O_NOFOLLOW", "O_NONBLOCK"]:
    delattr(os, name)
for name in "SIGHUP SIGKILL SIGCHLD SIGXCPU SIGPIPE pthread_sigmask".split():
    delattr(signal, name)
"""
COMMANDS = """
import warnings
multiprocessing.get_all_start_methods = lambda: ["spawn"]
from vicinal.lab import cli

if __name__ == "__main__":
    for call in ("import fcntl", "import resource", "os.fork()", "os.sysconf('SC_PAGE_SIZE')", "signal.SIGKILL"):
        try:
            exec(call)
        except (ModuleNotFoundError, AttributeError):
            continue
        sys.exit(f"{call} is there")
    short = ["--seeds", "2", "--epochs", "1", "--alpha", "0.4", "--jobs", "2"]
    for words in (
        ["compare", "iris", *short, "--out", "compared"],
        ["predict", "compared", "new.csv", "--out", "answers.csv"],
        ["predict", "compared", "new.parquet", "--out", "more.csv"],
        ["judge", "scores.csv", "--test-share", "0.25", "--baseline", "a", "--out", "judged.json"],
        ["train", "cifar10-small-erm", "dataset=synthetic-images", "model=small-eighth", "epochs=1", "batch_size=40",
         "--out", "trained"],
        ["reproduce", "toy", "--scale", "smoke", "--jobs", "2"],
        ["explain", "VIC001"],
    ):
        code = cli.main(words)
        if code:
            sys.exit(f"{words} ended with {code}")
"""


@pytest.mark.torture
def test_commands_run_without_the_modules_of_posix(tmp_path: Path) -> None:
    names = [f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width")]
    new = pl.DataFrame([dict(zip(names, (5.1, 3.5, 1.4, 0.2), strict=True))])
    new.write_csv(tmp_path / "new.csv")
    new.write_parquet(tmp_path / "new.parquet")
    lines = [f"{name},{i},{(7 * i + k) % 5}" for k, name in enumerate("ab") for i in range(10)]
    (tmp_path / "scores.csv").write_text("\n".join(["method,seed,score", *lines]) + "\n", encoding="ascii")
    (tmp_path / "program.py").write_text(WITHOUT + COMMANDS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "program.py"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "VIC001" in done.stdout
    assert (tmp_path / "answers.csv").read_text() == (tmp_path / "more.csv").read_text()
    assert (tmp_path / "judged.json").exists()
