"""`vicinal train` and `vicinal data`, as they are typed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vicinal.lab import cli
from vicinal.lab.data import download
from vicinal.lab.training import recipes


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    generator = np.random.Generator(np.random.Philox(5))
    for c, word in enumerate(("blue", "green")):
        (folder / word).mkdir(parents=True)
        for i in range(10):
            pixels = generator.integers(0, 160, (16, 16, 3), dtype=np.uint8)
            pixels[:, :, 2 - c] += 80
            Image.fromarray(pixels).save(folder / word / f"{i}.png")
    return folder


def test_a_folder_of_images_is_trained(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = ["train", "cifar10-small-mixup", f"dataset={images}", "epochs=2", "batch_size=4", "learning_rate=0.01"]
    assert cli.main(args) == 0
    said = capsys.readouterr()
    (results,) = (tmp_path / "vicinal-runs").glob("cifar10-small-mixup-*/results.json")
    record = json.loads(results.read_text())
    assert record["recipe"]["vicinity"] == "Mixup(alpha=0.2)"
    assert [line["epoch"] for line in record["epochs"]] == [1, 2]
    assert f"{100 * record['test_error']['last']:.2f} %)" in said.out
    assert said.err.count("mixed loss") == 2
    assert cli.main(args) == 0  # done already: said again, not trained again
    assert "mixed loss" not in capsys.readouterr().err


def test_a_quick_look_says_what_it_changes(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "cifar10-small-mixup", "--quick", f"dataset={images}", "batch_size=4", "epochs=2"]) == 0
    said = capsys.readouterr().err
    assert "a quick look: " in said
    assert "epochs 2 instead of 30" in said
    assert "milestones (1, 2) instead of (15, 25)" in said
    assert said.count("mixed loss") == 2


def test_recipes_are_listed_with_the_papers_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipes.all_recipes())
    assert "4.2 % test error" in next(line for line in lines if line.startswith("cifar10-preact18-mixup"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train"], "name a recipe"),
        (["train", "cifar10-preact18-mixpu"], "did you mean cifar10-preact18-mixup"),
        (["train", "cifar10-small-erm", "epoch=3"], "did you mean epochs"),
        (["train", "cifar10-small-erm", "network=small"], "did you mean model?"),
        (["train", "cifar10-small-erm", "dataset=nowhere"], "no dataset 'nowhere'"),
        (["train", "cifar10-small-erm", "--save-every", "-1"], "--save-every is seconds"),
        (["train", "cifar10-small-erm", "--timeout", "0"], "--timeout is seconds"),
        (["train", "cifar10-small-erm", "--cluster", "slurm"], "add --grid"),
        (["train", "cifar10-small-erm", "--grid", "epoch=1,2"], "did you mean epochs"),
        (["train", "cifar10-small-erm", "--grid", "seed=1,2", "--cluster", "sun"], "local or slurm, got 'sun'"),
        (["data", "fetch"], "needs a name"),
        (["data", "verify", "cifar10"], "VICINAL_DATA"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    args: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VICINAL_DATA", raising=False)
    assert cli.main(args) == 2
    said = capsys.readouterr().err
    assert said.startswith("vicinal: ")
    assert said.count("\n") == 1
    assert words in said
    assert not list(tmp_path.iterdir())


def test_datasets_are_listed_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VICINAL_DATA", raising=False)
    assert cli.main(["data", "list"]) == 0
    said = capsys.readouterr().out
    assert "cifar10 " in said
    assert "set VICINAL_DATA" in said
    assert "there" not in said
    monkeypatch.setenv("VICINAL_DATA", str(tmp_path))
    source = download.DATASETS["cifar10"]
    for file, size in source.files.items():
        (tmp_path / source.folder / file).parent.mkdir(parents=True, exist_ok=True)
        with (tmp_path / source.folder / file).open("wb") as empty:
            empty.truncate(size or 0)
    assert cli.main(["data", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines["cifar10"].endswith("162 MB   there")
    assert lines["cifar100"].endswith("not there")
    next(tmp_path.iterdir()).rename(tmp_path / "elsewhere")
    assert cli.main(["data", "verify", "cifar10"]) == 2
    assert "CIFAR-10 lacks" in capsys.readouterr().err
