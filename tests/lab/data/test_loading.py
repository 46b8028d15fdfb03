"""What the training loop is given: the same examples from memory and streamed from a folder, by any recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vicinal.keyed import Key
from vicinal.lab import cli
from vicinal.lab.data import class_folder, images, loader, loading, speech_commands
from vicinal.lab.data.loading import InMemoryDataset, StreamingDataset
from vicinal.lab.data.splits import split_labels
from vicinal.lab.data.transforms import CropFlip, choose_resized
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import loop, recipes
from vicinal.lab.training.distributed import Processes
from vicinal.lab.training.settings import RunSettings

ALONE = Processes(0, 1, torch.device("cpu"))
ROWS, KEY = torch.tensor([5, 0, 11, 3]), Key(1, 0, 0, 7)


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 15 and of 10 small images, in train/ and val/."""
    root = tmp_path_factory.mktemp("set")
    generator = np.random.Generator(np.random.Philox(5))
    for part, n in (("train", 15), ("val", 10)):
        for c, word in enumerate(("n00000001", "n00000002")):
            (root / part / word).mkdir(parents=True)
            for i in range(n):
                pixels = generator.integers(0, 160, (20 + i, 24, 3), dtype=np.uint8)
                pixels[:, :, 2 - c] += 80
                Image.fromarray(pixels).save(root / part / word / f"{i:02d}.jpg")
    return root


def recipe(data: Path | str, **changes: object) -> Recipe:
    values = {
        "dataset": str(data),
        "model": "resnet-20",
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.05,
        "milestones": (),
    }
    return Recipe(**{**values, "image_size": 16, "vicinity": "Mixup(alpha=1.0)", **changes})  # type: ignore[arg-type]


def weights(folder: Path) -> list[torch.Tensor]:
    return list(torch.load(folder / "weights.pt", weights_only=True).values())


def assert_same(a: list[torch.Tensor], b: list[torch.Tensor]) -> None:
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("channels_last", [True, False])
def test_streamed_images_are_those_in_memory(
    image_folder: Path, monkeypatch: pytest.MonkeyPatch, channels_last: bool
) -> None:
    what = recipe(image_folder, channels_last=channels_last, max_train_examples=20, label_noise=0.5)
    held = loading.load(what)
    monkeypatch.setattr(loading, "_IN_MEMORY", 50 * 3 * 16**2 - 1)  # one byte too little
    read = loading.load(what)
    for a, b, n in zip(held, read, (20, 20), strict=True):
        assert isinstance(a, InMemoryDataset)
        assert isinstance(b, StreamingDataset)
        assert (
            (a.classes, a.shape, len(a)) == (b.classes, b.shape, len(b)) == (("n00000001", "n00000002"), (3, 16, 16), n)
        )
        assert torch.equal(a.labels, b.labels)
        for key in (KEY, None):
            (x, y), (other, labels) = a.batch(ROWS, key), b.batch(ROWS, key)
            assert torch.equal(x, other)
            assert torch.equal(y, labels)
            assert x.stride() == other.stride()
            assert x.is_contiguous() != channels_last
        assert not torch.equal(a.batch(ROWS, KEY)[0], a.batch(ROWS, None)[0]) or a is held[1]


def test_examples_are_the_same_ones_of_all_classes(image_folder: Path) -> None:
    train, _ = loading.load(recipe(image_folder, max_train_examples=12))
    assert min(train.labels.bincount().tolist()) >= 2
    again, _ = loading.load(recipe(image_folder, max_train_examples=12, seed=5))
    assert torch.equal(train.batch(ROWS, None)[0], again.batch(ROWS, None)[0])
    with pytest.raises(UserError, match="max_train_examples=31 of 30 training examples: give a smaller number"):
        loading.load(recipe(image_folder, max_train_examples=31))


def test_goyals_crops_come_from_the_images_themselves(image_folder: Path) -> None:
    train, test = loading.load(recipe(image_folder, crop="random_resized_crop"))
    files = class_folder.scan(image_folder / "train")
    x, y = train.batch(ROWS, KEY)
    pixels = loader.Reader(files, 16, choose_resized).batch(ROWS, KEY)
    mean, std = (np.array(t)[:, None, None] for t in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = (pixels.numpy().astype(np.float64) / 255 - mean) / std
    np.testing.assert_allclose(x.numpy(), expected, atol=1e-6)
    assert y.tolist() == files.labels[ROWS].tolist()
    central = next(iter(images.evaluation_batches(class_folder.scan(image_folder / "val"), batch=20, size=16)))[0]
    expected = (central.numpy().astype(np.float64) / 255 - mean) / std
    np.testing.assert_allclose(test.batch(torch.arange(20), None)[0].numpy(), expected, atol=1e-6)


def test_colors() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(0, 256, (300, 3, 5, 4), generator=generator, dtype=torch.uint8)
    x[:, 2] = 7
    mean, std = loading.colors(x)
    shares = x.double().div(255).transpose(0, 1).flatten(1)
    np.testing.assert_allclose(mean, shares.mean(1), rtol=1e-12)
    np.testing.assert_allclose(std[:2], shares.std(1)[:2], rtol=1e-12)
    assert std[2] == 1.0


def test_rows_keep_their_layout() -> None:
    x = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    rows = torch.tensor([1, 0, 1])
    for form in (torch.contiguous_format, torch.channels_last):
        found = loading._rows(x.contiguous(memory_format=form), rows)
        assert torch.equal(found, x[rows])
        assert found.is_contiguous(memory_format=form)


class Stop(Exception):
    pass


def test_a_streamed_run_resumes(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what = recipe(image_folder, crop="random_resized_crop", model="small", epochs=1)
    loop.train(what, tmp_path / "whole", ALONE)
    taken, original = [], StreamingDataset.batch

    def batch(self: StreamingDataset, rows: torch.Tensor, key: Key | None) -> tuple[torch.Tensor, torch.Tensor]:
        taken.append(1)
        if len(taken) == 3:
            raise Stop
        return original(self, rows, key)

    monkeypatch.setattr(StreamingDataset, "batch", batch)
    with pytest.raises(Stop):
        loop.train(what, tmp_path / "parts", ALONE, RunSettings(save_every=0.0))
    monkeypatch.undo()
    loop.train(what, tmp_path / "parts", ALONE)
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_the_loop_says_which_batches_come(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, test = loading.load(recipe(image_folder, crop="random_resized_crop"))
    assert isinstance(data, StreamingDataset)
    asked, said = [], []
    original = loader.Reader._start

    def start(self: loader.Reader, rows: torch.Tensor, key: Key | None) -> object:
        said.append((rows.tolist(), key))
        return original(self, rows, key)

    monkeypatch.setattr(loader.Reader, "_start", start)
    take = loader.Reader.batch

    def batch(self: loader.Reader, rows: torch.Tensor, key: Key | None) -> torch.Tensor:
        asked.append((rows.tolist(), key))
        return take(self, rows, key)

    monkeypatch.setattr(loader.Reader, "batch", batch)
    for rank, world in ((0, 1), (1, 2)):
        run = loop._Run(
            recipe(image_folder, crop="random_resized_crop"), data, test, Processes(0, 1, torch.device("cpu"))
        )
        run.job = Processes(rank, world, torch.device("cpu"))
        asked.clear(), said.clear()
        steps = run.steps()
        next(steps)
        assert len(said) == 3  # one used, two ahead
        if world == 1:
            list(steps)
            run.evaluate()
            assert said == asked  # never another one than was said: nothing is read twice
            assert sorted(row for rows, key in asked if key is not None for row in rows) == list(range(30))


def test_a_folder_with_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lab.data.test_audio import tone, write

    monkeypatch.setenv("VICINAL_DATA", str(tmp_path / "data"))
    for c, word in enumerate(("bark", "miaow")):
        for i in range(10):
            write(tmp_path / "calls" / word / f"{i}.wav", tone(12000, 16000, 400 + 2000 * c, seed=i))
    train, test = loading.load(recipe(tmp_path / "calls"))
    assert (train.shape, len(train), len(test), train.classes) == ((1, 160, 101), 12, 4, ("bark", "miaow"))
    whole = class_folder.scan(tmp_path / "calls")
    features = speech_commands.folder_features(whole)
    parts = split_labels(whole.labels, whole.classes, 0)
    rows, tests = parts.train, parts.test
    x, y = train.batch(torch.arange(12), KEY)
    assert torch.equal(x, features[torch.from_numpy(rows)])
    assert torch.equal(y, whole.labels[torch.from_numpy(rows)])
    assert torch.equal(test.batch(torch.arange(4), None)[0], features[torch.from_numpy(tests)])
    with pytest.raises(
        UserError,
        match=r"crop=random_resized_crop is for folders of images, which .*calls is not: give crop=random_crop",
    ):
        loading.load(recipe(tmp_path / "calls", crop="random_resized_crop"))
    (tmp_path / "both" / "val").mkdir(parents=True)
    (tmp_path / "calls").rename(tmp_path / "both" / "train")
    for word in ("bark", "miaow"):
        (tmp_path / "both" / "val" / word).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / "both" / "val" / word / "a.png")
    with pytest.raises(UserError, match="holds audio in train/ and images in val/: give one kind"):
        loading.load(recipe(tmp_path / "both"))


def test_imagenet_by_its_name(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imagenet").symlink_to(image_folder)
    monkeypatch.setenv("VICINAL_DATA", str(tmp_path))
    by_name = loading.load(replace(recipes.find("imagenet-resnet50-mixup"), image_size=16))
    by_path = loading.load(recipe(image_folder, crop="random_resized_crop"))
    for a, b in zip(by_name, by_path, strict=True):
        assert torch.equal(a.batch(ROWS, KEY)[0], b.batch(ROWS, KEY)[0])


def test_the_papers_imagenet_recipes() -> None:
    found = {name: make() for name, make in recipes.all_recipes().items() if name.startswith("imagenet")}
    assert len(found) == 14
    for name, what in found.items():
        long = "200" in name
        assert (what.dataset, what.batch_size, what.image_size, what.crop) == (
            "imagenet",
            1024,
            224,
            "random_resized_crop",
        )
        assert (what.epochs, what.milestones) == ((200, (60, 120, 180)) if long else (90, (30, 60, 80)))
        alpha = 0.4 if "resnext" in name else 0.2
        assert what.vicinity == ("ERM()" if name.endswith("erm") else f"Mixup(alpha={alpha})")
        assert what.nesterov
        assert not what.decay_norm_and_bias
        assert [what.lr_at(e, p) for e, p in ((0, 0.0), (2, 0.5), (5, 0.0))] == pytest.approx([0.1, 0.25, 0.4])
        assert what.lr_at(what.milestones[0]) == pytest.approx(0.04)


def test_padding_grows_with_the_size(image_folder: Path) -> None:
    for size, pad in ((64, 8), (16, 2), (4, 0)):
        train, _ = loading.load(recipe(image_folder, image_size=size))
        assert train.augment == CropFlip(pad, fill="reflect")
    with pytest.raises(UserError, match="image_size must be 1 or more, got 0"):
        recipe(image_folder, image_size=0)


@pytest.mark.slow
def test_real_photographs_through_the_command(
    real_data: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = real_data("imagenet") / "imagenet" / "tiny-imagenet-20"
    changes = [
        f"dataset={data}",
        "model=resnet-20",
        "epochs=1",
        "batch_size=64",
        "image_size=32",
        "max_train_examples=256",
        "warmup_epochs=0",
    ]
    args = ["train", "imagenet-resnet50-mixup", *changes, "learning_rate=0.05", "--out", str(tmp_path / "run")]
    assert cli.main(args) == 0
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert record["epochs"][0]["step"] == 4
    assert 0 <= record["epochs"][0]["test_top5_error"] <= record["test_error"]["last"] <= 1
    assert "test error" in capsys.readouterr().out


def test_real_utterances_as_a_folder(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    files = class_folder.scan(real_data("speech") / "speech_commands")
    assert (files.kind, len(files.classes), len(files)) == ("audio", 12, 2880)
    some = files.take(range(0, 2880, 240))
    found = speech_commands.folder_features(some, tmp_path)
    strict = speech_commands.spectrograms([speech_commands.read_clip(some.root / path) for path in some.paths])
    assert torch.equal(found, strict)  # of 16 kHz and one channel the two readers make the same
