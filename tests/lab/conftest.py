"""Published datasets for the tests that need them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDERS = {
    "uci": "uci",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "speech": "speech_commands",
    "imagenet": "imagenet",
}


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`real_data("uci")`: the folder that holds a published set, as VICINAL_DATA names it or else freshly unpacked."""
    given = os.environ.get("VICINAL_DATA")
    unpacker = Path(__file__).parents[2].parent / "shared" / "data" / "unpack.py"
    unpacked: dict[str, Path] = {}

    def root(name: str) -> Path:
        folder = FOLDERS[name]
        if given and (Path(given) / folder).is_dir():
            return Path(given)
        if not unpacker.is_file():
            pytest.skip(f"no {folder}/ in the folder that VICINAL_DATA names, and no archive to unpack it from")
        if name == "speech" and importlib.util.find_spec("soundfile") is None:
            pytest.skip(f"no {folder}/ in the folder that VICINAL_DATA names; unpacking it needs the package soundfile")
        if name not in unpacked:
            out = tmp_path_factory.mktemp("data")
            subprocess.run([sys.executable, str(unpacker), str(out), name], check=True, capture_output=True)
            unpacked[name] = out
        return unpacked[name]

    return root
