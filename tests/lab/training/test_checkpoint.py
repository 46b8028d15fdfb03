"""Checkpoints: the newest whole one is read, and no code runs."""

import hashlib
import os
import pickle
from pathlib import Path

import pytest

from vicinal.lab.training import checkpoint


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000000002.ckpt", "step-0000000003.ckpt"]
    newest = tmp_path / "step-0000000003.ckpt"
    content = bytearray(newest.read_bytes())
    content[100] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match=r"step-0000000003.ckpt is damaged"):
        assert checkpoint.load_last(tmp_path) == {"step": 2}
    newest.write_bytes(content[:50])
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoint.load_last(tmp_path) == {"step": 2}


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return os.system, ("touch " + str(tmp_path / "ran"),)

    content = pickle.dumps(Evil(), protocol=2)
    (tmp_path / "step-0000000001.ckpt").write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load_last(tmp_path)
    assert not (tmp_path / "ran").exists()
