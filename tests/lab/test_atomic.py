"""Files appear whole or not at all, whatever stops the writer."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vicinal.lab import atomic


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk does to a writer, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_write_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic.write(path, "é\n")
    atomic.write(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path) == ["a.json"]


def test_write_heeds_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        atomic.write(tmp_path / "private", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


def test_write_without_room_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    atomic.write(path, "old")
    with room_for(1000), pytest.raises(OSError, match="File too large") as error:
        atomic.write(path, "new" * 1000)
    assert error.value.errno == errno.EFBIG
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_write_into_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic.write(tmp_path / "no" / "a", "")
    assert not os.listdir(tmp_path)


def test_append_line_without_room_cuts_back_to_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    atomic.append_line(path, json.dumps([1]))
    with room_for(3000), pytest.raises(OSError, match="File too large"):
        atomic.append_line(path, json.dumps("x" * 5000))
    assert path.read_bytes() == b"[1]\n"
    atomic.append_line(path, json.dumps([2]))
    assert atomic.json_lines(path) == [[1], [2]]


@pytest.mark.parametrize(("error", "kept"), [(KeyboardInterrupt, [[1], [2]]), (OSError, [[1]])])
def test_append_line_stopped_while_it_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], kept: list[Any]
) -> None:
    path = tmp_path / "runs.jsonl"
    atomic.append_line(path, "[1]")

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(error):
        atomic.append_line(path, "[2]")
    assert atomic.json_lines(path) == kept
    assert path.read_bytes().endswith(b"]\n")


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_line_cut_off_is_left_out_and_does_not_spoil_the_next(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "runs.jsonl"
    for value in ([1], ["é", 2]):
        atomic.append_line(path, json.dumps(value, ensure_ascii=False))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert atomic.json_lines(path) == ([[1], ["é", 2]] if cut == 1 else [[1]])
    atomic.append_line(path, "[3]")
    assert atomic.json_lines(path)[-1] == [3]
    assert len(atomic.json_lines(path)) == (3 if cut == 1 else 2)


def test_json_lines_of_nothing(tmp_path: Path) -> None:
    assert atomic.json_lines(tmp_path / "no") == []
    (tmp_path / "empty").touch()
    assert atomic.json_lines(tmp_path / "empty") == []


WRITER = """
import importlib.util
from pathlib import Path
spec = importlib.util.spec_from_file_location("files", {file!r})
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
print("ready", flush=True)
n = 0
while True:
    n += 1
    files.write(Path("whole"), str(n % 10) * 100_000)
    files.append_line(Path("lines"), "[" + "1," * 30_000 + "1]")
"""


def test_killed_at_any_moment_files_are_whole(tmp_path: Path) -> None:
    """The module is loaded by its file, so that the writer starts without PyTorch."""
    script = WRITER.format(file=atomic.__file__)
    for pause in (0.01, 0.023, 0.037, 0.05):
        writer = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        if (tmp_path / "whole").exists():
            text = (tmp_path / "whole").read_text()
            assert len(text) == 100_000
            assert len(set(text)) == 1
        assert all(len(line) == 30_001 for line in atomic.json_lines(tmp_path / "lines"))
        for left in tmp_path.iterdir():
            assert left.name in ("whole", "lines") or atomic.is_partial(left)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "loop"])
def test_write_replaces_nothing_but_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null" if kind == "device" else path)
    with pytest.raises(OSError):
        atomic.write(path, "new", through_links=True)
    assert path.is_dir() or path.is_fifo() or path.is_symlink()
    assert Path("/dev/null").is_char_device()
    assert os.listdir(tmp_path) == ["a"]


def test_write_follows_a_link_that_the_user_named_and_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
    for text in ("first", "second"):
        atomic.write(tmp_path / "link", text, through_links=True)
        assert (tmp_path / "folder" / "file").read_text() == text
    assert (tmp_path / "link").is_symlink()


def test_text_that_utf_8_lacks_is_written_as_it_is_shown(tmp_path: Path) -> None:
    atomic.write(tmp_path / "a", "caf\N{LATIN SMALL LETTER E WITH ACUTE} \udcff")
    assert (tmp_path / "a").read_bytes() == b"caf\xc3\xa9 \\udcff"
