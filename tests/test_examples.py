"""Every example runs as it is, without a warning, and learns what it claims to learn."""

import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"

# what each prints, with room for another build of PyTorch
PRINTED = {
    "plain_loop": r"ERM.*test accuracy 0\.9\d+\s.*Mixup.*test accuracy 0\.9\d+\s",
    "workers": r"epoch 0: each batch keeps( 0\.\d+){4}.*epoch 3: each batch keeps( 1\.000){4}.*'steps': \[0, 8, 8\]",
    "latent": r"test accuracy 0\.9\d+ after mixing before {.*}",
    "segmentation": r"accuracy on new masks (0\.9\d+|1\.0+)\s",
    "regression": r"(0\.[67]\d+ of a standard deviation: .*){3}",
}


def test_every_example_is_here():
    assert {file.stem for file in FOLDER.glob("*.py")} == set(PRINTED)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", PRINTED)
def test_example_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = FOLDER / f"{name}.py"
    assert len(file.read_text().splitlines()) < 60
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(file), run_name="__main__")
    printed, complaints = capfd.readouterr()
    assert re.search(PRINTED[name], printed, re.DOTALL), printed
    assert complaints == ""
    assert list(tmp_path.iterdir()) == []
