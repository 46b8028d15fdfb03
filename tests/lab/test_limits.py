"""What may lie where a file should: pipes, devices, folders, links that lead nowhere or around, files that are too large."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vicinal.lab import atomic, limits, stored
from vicinal.lab.compare import prediction_table
from vicinal.lab.compare.runner import RunFolder
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import runs

RECIPE = Recipe("cifar10", "small")


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def as_folder(path: Path) -> None:
    path.mkdir()


def as_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "elsewhere")


def as_loop(path: Path) -> None:
    path.symlink_to(path.name)


def as_terabyte(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


ODD: dict[Callable[[Path], None], str] = {
    as_pipe: "it is a named pipe, not a file",
    as_device: "it is a device, not a file",
    as_folder: "it is a folder, not a file",
    as_dangling_link: "no such file or directory",
    as_loop: "too many levels of symbolic links",
}


@pytest.fixture(autouse=True)
def _a_wait_is_a_failure() -> Iterator[None]:
    """Interrupt what waits for a pipe: nobody writes there."""

    def late(*_: object) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("odd", "says"), ODD.items())
@pytest.mark.parametrize("name", ["recipe.json", "metrics.jsonl", "results.json", "weights.pt"])
def test_a_run_folder_in_which_something_else_lies_is_refused(odd: Any, says: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with runs.acquired(folder, RECIPE):
        pass
    (folder / name).unlink(missing_ok=True)
    odd(folder / name)
    with pytest.raises(UserError) as error:
        runs.holds_run(folder, RECIPE)
    assert str(error.value) == f"{folder / name} cannot be used ({says}): remove {folder} and train that run again"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("odd", "says"), ODD.items())
@pytest.mark.parametrize("name", ["config.json", "runs.jsonl", "results.json", "model.safetensors", "report.html"])
def test_so_is_the_folder_of_a_comparison(odd: Any, says: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / name).unlink(missing_ok=True)
    odd(folder / name)
    comparison: Any = None  # it is not asked before the files are
    with pytest.raises(UserError) as error:
        RunFolder(folder).open(comparison)
    assert str(error.value) == f"{folder / name} cannot be used ({says}); choose another --out"


def test_a_record_larger_than_memory_is_refused_with_both_figures(tmp_path: Path) -> None:
    as_terabyte(tmp_path / "x.json")
    with pytest.raises(UserError, match=r"x\.json cannot be read \(it has 1,024\.0 gib, and .* of memory are free"):
        stored.read(tmp_path / "x.json", 1, "remove it")


@pytest.mark.parametrize(("odd", "says"), ODD.items())
def test_a_record_is_read_of_files_alone(odd: Any, says: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    odd(folder / "x.json")
    with pytest.raises((UserError, FileNotFoundError)) as error:
        stored.read(folder / "x.json", 1, "remove it")
    assert says in str(error.value).lower()


@pytest.mark.parametrize("odd", [as_pipe, as_device, as_folder, as_dangling_link, as_loop])
def test_nothing_is_appended_to_and_nothing_locked_by_what_is_not_a_file(odd: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    odd(folder / "x")
    with pytest.raises(OSError):
        atomic.append_line(folder / "x", "line")
    with pytest.raises(OSError), atomic.locked(folder / "x"):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("odd", [as_device, as_dangling_link, as_loop])
def test_a_link_in_a_folder_is_replaced_and_not_followed(odd: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    odd(folder / "x")
    atomic.write(folder / "x", "new")
    assert (folder / "x").read_text() == "new"
    assert not (folder / "x").is_symlink()
    assert not (tmp_path / "elsewhere").exists()


def test_a_pipe_is_not_a_table_to_predict(tmp_path: Path) -> None:
    as_pipe(tmp_path / "t.csv")
    prediction_table._check_file(tmp_path / "t.csv")  # it does not wait: what reads the table says what it is
    with pytest.raises(OSError, match="it is a named pipe, not a file"):
        limits.read_bytes(tmp_path / "t.csv")
