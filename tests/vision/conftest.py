"""torchvision, timm and fastai can be imported: here, and in the programs that the tests run."""

import os
import sys
from pathlib import Path

import pytest

STUB = str(Path(__file__).parent / "stub")
sys.path.insert(0, STUB)
import torchvision_operators  # noqa: E402

sys.path.remove(STUB)
torchvision_operators.install()


@pytest.fixture(autouse=True)
def _in_programs_too(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", STUB + os.pathsep + os.environ.get("PYTHONPATH", ""))
