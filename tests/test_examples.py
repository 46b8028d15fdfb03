"""Every example runs as it is, without a warning, and learns what it claims to learn."""

import os
import re
import subprocess
import sys
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
@pytest.mark.parametrize("name", PRINTED)
def test_example_runs(name: str, tmp_path: Path):
    file = FOLDER / f"{name}.py"
    assert len(file.read_text().splitlines()) < 60
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", file],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTED[name], done.stdout, re.DOTALL), done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
