"""What earlier versions wrote is opened with the same content, or refused in a sentence; so is what later ones write.

The sets are made by `make_golden_files.py`, each by the version that first wrote its formats.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import make_golden_files as golden
from vicinal.lab import cli, stored
from vicinal.lab.compare import model_file, results
from vicinal.lab.compare.classifier import Classifier
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.errors import UserError
from vicinal.lab.paper import store
from vicinal.lab.training import checkpoint, runs

GOLDEN_SETS = sorted(path for path in golden.SETS.iterdir() if (path / golden.CONTENT).exists())
HELD = [(folder, part) for folder in GOLDEN_SETS for part in golden.PARTS]
ADVICE = re.compile(r"choose another|remove (it|that folder)|train (it )?again|another folder|install")


def content(folder: Path) -> dict[str, Any]:
    return json.loads((folder / golden.CONTENT).read_text())["parts"]


def check_sentence(said: str, path: Path, found: int, ours: int) -> None:
    """Hold a refusal to what it must say: one sentence, which file, its format, ours, and what to do."""
    assert "\n" not in said
    assert len(re.findall(r"[.!?] ", said)) == 0
    assert path.name in said
    assert "format" in said, said
    without_path = said.replace(str(path.parent), "")
    assert re.search(rf"\b{found}\b", without_path), said
    assert re.search(rf"\b{ours}\b", without_path), said
    assert ADVICE.search(said), said


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """Copy a set, since commands write into what they open."""

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "set"))

    return copy


@pytest.mark.parametrize(("folder", "part"), HELD, ids=[f"{folder.name}-{part}" for folder, part in HELD])
def test_it_is_opened_as_it_was_or_refused_in_a_sentence(
    copied: Callable[[Path], Path], folder: Path, part: str
) -> None:
    expected = content(folder)[part]
    opened, ours = golden.PARTS[part]
    place = copied(folder) / part
    try:
        found = opened(place)
    except UserError as error:
        assert expected["format"] != ours, "its own format is refused"
        check_sentence(str(error), place, expected["format"], ours)
    else:
        assert json.loads(json.dumps(found)) == expected["content"]


def test_each_part_is_held_in_the_format_that_is_written_now() -> None:
    held = {(part, content(folder)[part]["format"]) for folder in GOLDEN_SETS for part in golden.PARTS}
    lacking = [part for part in golden.PARTS if (part, golden.PARTS[part][1]) not in held]
    assert lacking == [], "make a new set: python tests/make_golden_files.py"


def test_the_sets_are_small() -> None:
    assert sum(path.stat().st_size for path in golden.SETS.rglob("*") if path.is_file()) < 1_500_000


# -- formats of later versions: what is written now, under the next number ----------------------------------------------


def newest(part: str) -> Path:
    """Return the set that holds a part in the format written now."""
    return next(folder for folder in GOLDEN_SETS if content(folder)[part]["format"] == golden.PARTS[part][1])


def sealed_later(path: Path, form: int) -> None:
    """Write a sealed record as a later version would."""
    stored.write(path, stored.read(path, form, "read it"), form + 1)


def run_later(folder: Path, patch: pytest.MonkeyPatch) -> None:
    sealed_later(folder / "recipe.json", runs.FORMAT)


def checkpoints_later(folder: Path, patch: pytest.MonkeyPatch) -> None:
    state = checkpoint.load_last(folder)
    assert state is not None
    patch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
    for step in (3, 4):
        checkpoint.save(folder, step, state)


def comparison_later(folder: Path, patch: pytest.MonkeyPatch) -> None:
    sealed_later(folder / "config.json", results.FORMAT)


def model_later(file: Path, patch: pytest.MonkeyPatch) -> None:
    kind: Any = Predictor if file.parent.name == "table" else Classifier
    loaded = kind.load(file)
    patch.setattr(model_file, "FORMAT", model_file.FORMAT + 1)
    loaded.save(file)


def job_later(folder: Path, patch: pytest.MonkeyPatch) -> None:
    (path,) = folder.rglob("seed0.json")
    sealed_later(path, store.FORMAT)


LATER: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], None], str]] = {
    "train": (run_later, "recipe.json"),
    "train-stopped": (checkpoints_later, "step-0000000004.ckpt"),
    "table": (comparison_later, "table"),
    "images": (comparison_later, "images"),
    "table/model.safetensors": (model_later, "model.safetensors"),
    "images/model.safetensors": (model_later, "model.safetensors"),
    "reproduce": (job_later, "seed0.json"),
}


@pytest.mark.parametrize("part", golden.PARTS)
def test_a_later_format_is_refused_in_a_sentence(copied: Callable[[Path], Path], part: str) -> None:
    opened, ours = golden.PARTS[part]
    place = copied(newest(part)) / part
    write, file = LATER[part]
    with pytest.MonkeyPatch.context() as patch:
        write(place, patch)
    with pytest.raises(UserError) as refused:
        opened(place)
    check_sentence(str(refused.value), Path(file), ours + 1, ours)


def test_no_command_runs_on_what_a_later_version_wrote(
    copied: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(newest("train"))
    monkeypatch.chdir(folder)
    before = (folder / "train" / "weights.pt").read_bytes()
    sealed_later(folder / "train" / "recipe.json", runs.FORMAT)
    assert cli.main([*golden.TRAIN, "epochs=2", "--out", "train"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("vicinal: ")
    assert said.count("\n") == 1
    assert (folder / "train" / "weights.pt").read_bytes() == before
