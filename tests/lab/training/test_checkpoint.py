"""Checkpoints: the newest whole one is read, what is none is said, and no code runs."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from vicinal.lab.errors import UserError
from vicinal.lab.training import checkpoint
from vicinal.lab.training.checkpoint import Saved


def sealed(content: bytes) -> bytes:
    return b"vicinal checkpoint 3\n" + hashlib.sha256(content).digest() + content


def file(content: bytes) -> bytes:
    """A checkpoint of safetensors with this header."""
    return sealed(len(content).to_bytes(8, "little") + content)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, Saved({"step": step}, {}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000000002.ckpt", "step-0000000003.ckpt"]
    newest = tmp_path / "step-0000000003.ckpt"
    content = bytearray(newest.read_bytes())
    content[100] ^= 1
    for damaged in (content, content[:50], content[:5], b""):
        newest.write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"step-0000000003.ckpt is damaged .* the one before it is used"):
            assert checkpoint.load_last(tmp_path) == Saved({"step": 2}, {})
    (tmp_path / "step-0000000002.ckpt").unlink()
    with pytest.warns(UserWarning, match=r"is damaged .* there is no other, so the run starts anew"):
        assert checkpoint.load_last(tmp_path) is None


def test_tensors_are_the_same_in_bits_and_in_memory(tmp_path: Path) -> None:
    tensors = {
        "images": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "one": torch.randn(1, 3, 1, 1).to(memory_format=torch.channels_last),
        "half": torch.tensor([1.5, float("nan"), -0.0]).bfloat16(),
        "scalar": torch.tensor(3),
        "nothing": torch.empty(0, 7, dtype=torch.float64),
        "flags": torch.tensor([True, False]),
        "complex": torch.randn(2, dtype=torch.complex64),
    }
    odd = {"row": torch.randn(3, 1).expand(3, 4), "part": torch.randn(6)[::2]}  # with overlaps and with gaps
    checkpoint.save(tmp_path, 1, Saved({"a": [1, "b"]}, tensors | odd | {"again": tensors["images"]}))
    found = checkpoint.load_last(tmp_path)
    assert found is not None
    assert found.record == {"a": [1, "b"]}
    for name, tensor in (tensors | odd).items():
        assert found.tensors[name].dtype == tensor.dtype
        torch.testing.assert_close(found.tensors[name], tensor, rtol=0, atol=0, equal_nan=True)
        assert name in odd or found.tensors[name].stride() == tensor.stride()


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return os.system, ("touch " + str(tmp_path / "ran"),)

    (tmp_path / "step-0000000001.ckpt").write_bytes(sealed(pickle.dumps(Evil(), protocol=2)))
    with pytest.raises(UserError, match="it holds no tensors and values"):
        checkpoint.load_last(tmp_path)
    assert not (tmp_path / "ran").exists()


def layout(*of: object, size: int = 8) -> bytes:
    """A header of one tensor of some bytes, of which something is said, and the bytes."""
    about = json.dumps({"record": {}, "layout": {"x": of}})
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"vicinal": about}, "x": entry}).encode()
    return sealed(len(header).to_bytes(8, "little") + header + b"\2" * size)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (sealed(b""), "holds no tensors and values"),
        (sealed(b"\xff" * 8), "holds no tensors and values"),
        (file(b"{}"), "holds no tensors and values"),
        (file(b'{"__metadata__":{"vicinal":"[]"}}'), "no record and layout"),
        (file(b'{"__metadata__":{"vicinal":"{"}}'), "it is not JSON"),
        (file(b'{"__metadata__":{"vicinal":"{\\"record\\":NaN,\\"layout\\":{}}"}}'), "it is not JSON"),
        (file(b'{"__metadata__":{"vicinal":"{\\"record\\":{},\\"layout\\":{\\"x\\":1}}"}}'), "layout is not that"),
        (layout("float32", [3], [1]), "'x' is not as long"),
        (layout("float32", [10**12], [0]), "'x' is not as long"),
        (layout("float32", [2**70], [1]), "'x' is not as long"),
        (layout("float32", [2], [-1]), "'x' is not as long"),
        (layout("float32", [2], [2]), "'x' is not as long"),
        (layout("float32", [2], [1, 1]), "'x' is not as long"),
        (layout("object", [2], [1]), "of no known type"),
        (layout("bool", [8], [1]), "of no known type"),
        (layout("float32", 2, 1), "of no known type"),
        (layout("float32", [1] * 65 + [2], [1] * 66), "of no known type"),
    ],
)
def test_what_is_no_checkpoint_is_said(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "step-0000000001.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        checkpoint.load_last(tmp_path)
    assert str(refused.value).startswith(f"{path} is not a checkpoint of this run: ")
    assert words in str(refused.value)
    assert str(refused.value).endswith("or from the start")


def test_a_checkpoint_of_another_format_or_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "step-0000000001.ckpt"
    checkpoint.save(tmp_path, 1, Saved({}, {}))
    path.write_bytes(path.read_bytes().replace(b"checkpoint 3\n", b"checkpoint 17\n"))
    with pytest.raises(UserError, match="has format 17, of another version of vicinal, and this one reads format 3"):
        checkpoint.load_last(tmp_path)
    path.write_bytes(hashlib.sha256(b"PK").digest() + b"PK")  # as earlier versions wrote it
    with pytest.raises(UserError, match="has format 2, of another version"):
        checkpoint.load_last(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"cannot be read \(it is a folder, not a file\)"):
        checkpoint.load_last(tmp_path)
