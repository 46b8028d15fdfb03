from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vicinal.lab.data import class_folder, images
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.errors import UserError

Data = Callable[[str], Path]
Pixels = np.ndarray


def scene(height: int, width: int, seed: int = 0) -> Pixels:
    """Smooth colors, uint8 [height, width, 3], as in a photograph."""
    generator = np.random.Generator(np.random.Philox(key=[seed, height * 10000 + width]))
    small = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: Pixels, form: str = "PNG", mode: str | None = None, **options: object) -> bytes:
    image, out = Image.fromarray(pixels), io.BytesIO()
    (image.convert(mode) if mode else image).save(out, form, **options)
    return out.getvalue()


def folder(root: Path, classes: dict[str, int], *, form: str = "JPEG", size: tuple[int, int] = (40, 50)) -> Path:
    seed = 0
    for name, n in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            content = encoded(scene(size[0] + i, size[1] - i, seed), form)
            (root / name / f"{i:03d}.{form}").write_bytes(content)
            seed += 1
    return root


# ---- what is there


def test_scan(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", {"dog": 2, "cat": 3})
    folder(root / "dog" / "puppies", {"small": 1}, form="PNG")
    for stray in ("cat/.hidden.jpg", "cat/notes.txt", "labels.csv", ".DS_Store", "dog/Thumbs.db"):
        (root / stray).touch()
    (root / ".cache").mkdir()
    os.rename(root / "cat" / "001.JPEG", root / "cat" / "001.Jpg")
    files = images.scan(str(root))
    assert files.classes == ("cat", "dog")
    assert files.paths == (
        "cat/000.JPEG",
        "cat/001.Jpg",
        "cat/002.JPEG",
        "dog/000.JPEG",
        "dog/001.JPEG",
        "dog/puppies/small/000.PNG",
    )
    assert files.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (files.name, len(files)) == ("pets", 6)
    some = files.take([5, 0])
    assert some.paths == ("dog/puppies/small/000.PNG", "cat/000.JPEG")
    assert some.labels.tolist() == [1, 0]


def test_folders_that_are_no_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent' is not a readable folder \(No such file or directory\): give one"):
        images.scan(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file' is not a readable folder \(Not a directory\)"):
        images.scan(tmp_path / "file")
    with pytest.raises(
        UserError, match="holds no folders: put the images or audio of each class into one of its own, two"
    ):
        images.scan(tmp_path)
    folder(tmp_path / "set", {"a": 1})
    with pytest.raises(UserError, match="holds 1 folder: put"):
        images.scan(tmp_path / "set")
    (tmp_path / "set" / "b").mkdir()
    with pytest.raises(
        UserError, match=r"set/b' holds no images \(\.jpg, .*\) and no audio \(\.wav, \.flac\): add some"
    ):
        images.scan(tmp_path / "set")
    folder(tmp_path / "parted", {"train": 1, "val": 1})
    with pytest.raises(
        UserError, match=r"holds the folder 'train', not a folder for each class: give '.*parted/train'"
    ):
        images.scan(tmp_path / "parted")


def test_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_DIR_ENV, raising=False)
    with pytest.raises(UserError, match=f"ImageNet-2012 is not part of this program: put .* {DATA_DIR_ENV} to DIR"):
        images.imagenet()
    monkeypatch.setenv(DATA_DIR_ENV, str(tmp_path))
    with pytest.raises(UserError, match=r"ImageNet-2012 is not in '.*/imagenet': register at https://image-net\.org"):
        images.imagenet()
    folder(tmp_path / "imagenet" / "train", {"n01440764": 3, "n01443537": 2})
    (tmp_path / "imagenet" / "val").mkdir()
    (tmp_path / "imagenet" / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(UserError, match=r"the images in '.*/val' are not in folders: sort them into val/WNID/"):
        images.imagenet()
    folder(tmp_path / "imagenet" / "val", {"n01443537": 1, "n01484850": 1})
    with pytest.raises(UserError, match="do not have the same folders: 'n01440764' is in one of them"):
        images.imagenet()
    os.rename(tmp_path / "imagenet" / "val" / "n01484850", tmp_path / "imagenet" / "val" / "n01440764")
    train, validation = images.imagenet()
    assert train.classes == validation.classes == ("n01440764", "n01443537")
    assert (len(train), validation.labels.tolist()) == (5, [0, 1])
    folder(tmp_path / "imagenet" / "train", {"goldfish": 1})
    with pytest.raises(UserError, match="holds the folder 'goldfish', which is not a WNID"):
        images.imagenet(tmp_path / "imagenet")


def test_images_and_audio_are_not_mixed(tmp_path: Path) -> None:
    folder(tmp_path / "set", {"a": 2, "b": 2})
    (tmp_path / "set" / "b" / "deep").mkdir()
    (tmp_path / "set" / "b" / "deep" / "bark.WAV").touch()
    with pytest.raises(
        UserError, match=r"set' holds images \('a/000\.JPEG'\) and audio \('b/deep/bark\.WAV'\): give a folder"
    ):
        images.scan(tmp_path / "set")
    for i, name in enumerate(("a", "b", "_background_noise_")):
        (tmp_path / "calls" / name).mkdir(parents=True)
        (tmp_path / "calls" / name / f"{i}.flac").touch()
    found = class_folder.scan(tmp_path / "calls")
    assert (found.kind, found.paths, found.classes) == ("audio", ("a/0.flac", "b/1.flac"), ("a", "b"))
    assert found.take([1]).kind == "audio"
    with pytest.raises(UserError, match=r"calls' holds audio \('a/0\.flac'\), where images are expected"):
        images.scan(tmp_path / "calls")


# ---- what is read


def test_images_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_folder, "_BLOCK", 3)
    files = images.scan(folder(tmp_path, {"a": 4, "b": 3}, form="PNG", size=(32, 48)))
    held = images.load(files, size=32)
    assert (held.images.shape, held.classes, held.name) == ((7, 3, 32, 32), ("a", "b"), tmp_path.name)
    for i in range(7):
        wide = Image.fromarray(scene(32 + i, 48 - i, i)[:, 8 - i : 40]).resize((32, 32), Image.Resampling.BILINEAR)
        assert np.array_equal(held.images[i].permute(1, 2, 0).numpy(), np.asarray(wide)) or i
    assert torch.equal(held.labels, files.labels)
    told: list[tuple[int, int]] = []
    class_folder.read_images([files.path(i) for i in range(7)], 8, lambda *done: told.append(done))
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_a_broken_image_ends_the_reading(tmp_path: Path) -> None:
    files = images.scan(folder(tmp_path, {"a": 30, "b": 30}, size=(20, 60)))
    for broken in ("a/011.JPEG", "a/017.JPEG", "b/003.JPEG"):
        (tmp_path / broken).write_bytes((tmp_path / broken).read_bytes()[:300])
    before = set(threading.enumerate())
    with pytest.raises(UserError, match=r"a/011\.JPEG' is not an image that can be read \(.*\): replace or remove"):
        images.load(files, size=8)
    (tmp_path / "a/000.JPEG").unlink()
    with pytest.raises(
        UserError, match=r"a/000\.JPEG' cannot be read \(No such file or directory\): mend that, or rem"
    ):
        images.load(files, size=8)
    assert set(threading.enumerate()) <= before


# ---- published images


def test_tiny_imagenet(real_data: Data) -> None:
    train, validation = images.imagenet(real_data("imagenet") / "imagenet" / "tiny-imagenet-20")
    assert train.labels.bincount().tolist() == [100] * 20
    assert validation.labels.bincount().tolist() == [50] * 20
    held = images.load(validation, size=64)
    assert held.images.shape == (1000, 3, 64, 64)
    for k in (0, 321, 999):
        expected = np.asarray(Image.open(validation.root / validation.paths[k]).convert("RGB"))
        difference = np.abs(held.images[k].permute(1, 2, 0).numpy().astype(int) - expected)
        assert difference.mean() < 0.5
