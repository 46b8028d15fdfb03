"""Grids of runs: which there are, and that a scheduler runs each, tells of failures, and does nothing twice."""

import sys
from pathlib import Path

import pytest

from vicinal.lab import stored
from vicinal.lab.errors import UserError
from vicinal.lab.training import grid, recipes, runs

RECIPE = recipes.find("cifar10-small-mixup")
JOB = """
import sys
from pathlib import Path
from vicinal.lab.models.mlp import MLP
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import runs
change, out = sys.argv[1], Path(sys.argv[3])
seed = int(change.partition("=")[2])
if seed == 3:
    sys.exit("vicinal: no luck with 3")
out.mkdir(parents=True, exist_ok=True)
with open(out.parent / "times.txt", "a") as file:
    file.write(f"{seed}\\n")
recipe = Recipe("none", "none", epochs=1)
line = {"epoch": 1, "step": 1, "learning_rate": 0.1, "train_mixed_loss": 1.0, "train_mixed_accuracy": 0.5}
line |= {"examples_per_second": None, "test_error": seed / 10, "test_nll": 1.0}
runs.write_results(out, recipe, MLP(2, (), 1), [line], [runs.Stretch(0, 1, "2.0")], "cpu")
"""


def test_all_pairs_from_json(tmp_path: Path) -> None:
    found = grid.points(RECIPE, ["seed=0,1", "vicinity=ERM(),Mixup(alpha=0.2, pairing=SameClass())"], tmp_path)
    assert [point.changes for point in found] == [
        ("seed=0", "vicinity=ERM()"),
        ("seed=0", "vicinity=Mixup(alpha=0.2, pairing=SameClass())"),
        ("seed=1", "vicinity=ERM()"),
        ("seed=1", "vicinity=Mixup(alpha=0.2, pairing=SameClass())"),
    ]
    assert found[0].folder == tmp_path / "seed=0_vicinity=ERM_"
    assert len({point.folder for point in found}) == 4


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (["seed"], "not an axis"),
        (["seed=1,"], "not an axis"),
        (["seed=1,1"], "each value once"),
        (["seed=1", "seed=2"], "given to --grid twice"),
        (["milestones=1,2"], "is a list itself"),
        (["sed=1,2"], "did you mean seed"),
        (["epochs=1,0"], "1 or more"),
        (["vicinity=ERM(),ERM( )"], "same folder"),
        (["vicinity=Mixup(0)"], "finite number > 0"),
    ],
)
def test_what_is_no_grid_is_refused(axes: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        grid.points(RECIPE, axes, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.torture
def test_a_grid_runs_on_this_machine_and_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    points = grid.points(RECIPE, ["seed=2,3"], tmp_path)
    rows = grid.run(points, [sys.executable, "-c", JOB], "local:timeout_min=5", tmp_path, said.append)
    assert rows[0]["test_error"] == {"median_of_last_10": 0.2, "best": 0.2, "last": 0.2}
    assert rows[1]["failed"] == "RuntimeError: exit code 1: vicinal: no luck with 3"
    assert sorted(said) == ["seed=2: done", "seed=3: failed"]
    assert stored.read(tmp_path / "grid.json", runs.FORMAT, "") == {"runs": rows}
    # what is done is not done again
    again = grid.run(points[:1], [sys.executable, "-c", JOB], "local", tmp_path, said.append)
    assert again == rows[:1]
    assert (tmp_path / "times.txt").read_text() == "2\n"
    # what was done and is damaged is said, and the others are read
    results = points[0].folder / "results.json"
    results.write_text(results.read_text().replace("0.2", "0.1"))
    damaged = grid.run(points[:1], [sys.executable, "-c", JOB], "local", tmp_path, said.append)
    assert "its checksum does not fit; remove" in damaged[0]["failed"]


def test_a_scheduler_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = grid.points(RECIPE, ["seed=0,1"], tmp_path / "grid")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install submitit"):
        grid.run(points, ["true"], "local", tmp_path / "grid", print)
    assert not (tmp_path / "grid").exists()
    monkeypatch.undo()
    with pytest.raises(UserError, match="is refused"):
        grid.run(points, ["true"], "local:wings=2", tmp_path / "grid", print)
