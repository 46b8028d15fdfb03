"""Folders of images and audio: what is read and refused, that runs are paired, and a comparison from end to end."""

from __future__ import annotations

import base64
import io
import json
import math
import pickle
import re
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from vicinal import ERM, Mixup
from vicinal.keyed import Key
from vicinal.lab import atomic, cli, executor, models, records, stored
from vicinal.lab.cli import compare as command_line
from vicinal.lab.compare import model_file, verdict, words
from vicinal.lab.compare.classifier import Classifier
from vicinal.lab.compare.folder_comparison import FolderComparison
from vicinal.lab.compare.predictions import RunPredictions
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.compare.results import RunRecord
from vicinal.lab.compare.settings import FolderSettings
from vicinal.lab.data import audio as audio_files
from vicinal.lab.data import class_folder
from vicinal.lab.data.class_folder import FolderDataset
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.errors import UserError
from vicinal.lab.training import simple
from vicinal.lab.training.seeding import fork_rng

COLORS = {"blue": (60, 60, 160), "red": (160, 60, 60)}


def images(root: Path, each: int = 20, size: tuple[int, int] = (24, 20)) -> Path:
    """Noisy images whose mean color tells the class."""
    generator = Key(31, 0, 0, 0).generator()
    for name, color in COLORS.items():
        (root / name).mkdir(parents=True)
        for i in range(each):
            pixels = np.array(color) + generator.normal(0, 60, (*size, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{i:02d}.png")
    return root


def audio(root: Path, each: int = 8, seconds: float = 0.5) -> Path:
    """Tones of two heights in noise."""
    generator = Key(32, 0, 0, 0).generator()
    time = np.arange(round(16_000 * seconds)) / 16_000
    for name, pitch in (("high", 3000.0), ("low", 500.0)):
        (root / name).mkdir(parents=True)
        for i in range(each):
            samples = 8000 * np.sin(2 * np.pi * pitch * time) + generator.normal(0, 2000, len(time))
            with wave.open(str(root / name / f"{i}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(16_000)
                file.writeframes(samples.astype("<i2").tobytes())
    return root


def made(n: int = 60) -> FolderDataset:
    """Gray images of 16 x 16, lighter for one class than for the other, that nobody reads from files."""
    generator = Key(33, 0, 0, 0).generator()
    target = np.arange(n) % 2
    inputs = (100 + 40 * target[:, None, None, None] + generator.normal(0, 40, (n, 16, 16, 3))).clip(0, 255)
    return FolderDataset("made", "made", "images", inputs.astype(np.uint8), target, ("dark", "light"))


def study_of(data: FolderDataset | None = None, **settings: Any) -> FolderComparison:
    defaults = {"seeds": 2, "epochs": 2, "alphas": (0.4,), "batch_size": 16, "model": f"{__name__}:Tiny"}
    return FolderComparison(data or made(), FolderSettings(**defaults | settings))


class Tiny(nn.Module):
    """Small enough for many runs; its dropout would show randomness that is not keyed."""

    def __init__(self, num_classes: int, channels: int = 3, size: tuple[int, int] = (16, 16)) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(channels * (size[0] // 4) * (size[1] // 4), num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.dropout(F.avg_pool2d(self.norm(x), 4).flatten(1)))


# -- reading -------------------------------------------------------------------------------------------------------------


def test_images_become_their_central_square_at_the_size(tmp_path: Path) -> None:
    root = images(tmp_path / "photos", each=5, size=(20, 32))
    data = class_folder.read(root, size=20)
    assert (data.name, data.kind, data.classes, data.notes) == ("photos", "images", ("blue", "red"), ())
    assert data.target.tolist() == [0] * 5 + [1] * 5
    assert data.inputs.dtype == np.uint8
    with Image.open(root / "red" / "01.png") as image:
        np.testing.assert_array_equal(data.inputs[6], np.asarray(image)[:, 6:26])
    assert data.tensor.shape == (10, 3, 20, 20)
    assert data.tensor.is_contiguous(memory_format=torch.channels_last)
    assert class_folder.read(root).shape == (3, 32, 32)


def test_spectrograms_are_averaged_over_bands_and_frames(tmp_path: Path) -> None:
    root = audio(tmp_path / "tones", each=5)
    data = class_folder.read(root, size=40)
    assert (data.kind, data.classes, data.shape) == ("audio", ("high", "low"), (1, 40, 25))
    full = audio_files.spectrograms([audio_files.read_any(root / "low" / "2.wav")])[0, 0].double().numpy()
    mean = np.array([[full[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean() for j in range(25)] for i in range(40)])
    expected = (mean - mean.mean()) / mean.std(ddof=1)
    np.testing.assert_allclose(data.inputs[7, :, :, 0], expected, atol=1e-5)
    assert data.inputs[7, :, 5, 0].argmax() == 500 // 200  # bands of 200 Hz
    assert data.inputs[0, :, 5, 0].argmax() == 3000 // 200


def test_parts_are_read_as_one_set(tmp_path: Path) -> None:
    images(tmp_path / "a" / "train", each=4)
    images(tmp_path / "a" / "val", each=3)
    data = class_folder.read(tmp_path / "a")
    assert len(data) == 14
    assert data.notes[0] == "train and val were read as one set: each seed draws parts of its own."
    assert data.notes[1].startswith("5 of 14 images are copies of others")  # drawn from the same noise


def test_what_is_no_image_is_left_out_and_named(tmp_path: Path) -> None:
    root = images(tmp_path / "a", each=5)
    before = class_folder.read(root).fingerprint()
    (root / "red" / "notes.txt").write_text("red")
    (root / "red" / ".hidden").write_text("red")
    (root / "readme.md").write_text("beside the classes")
    data = class_folder.read(root)
    assert data.notes == ("1 file is not an image and left out: red/notes.txt.",)
    assert data.fingerprint() == before


def test_longer_audio_are_told(tmp_path: Path) -> None:
    root = audio(tmp_path / "a", each=5, seconds=1.5)
    assert class_folder.read(root).notes == (
        "10 of 10 audio are longer than a second: the first second of each was used (--seconds).",
    )


@pytest.mark.parametrize(("seconds", "frames"), [(0.5, 12), (2.0, 50)])
def test_more_or_fewer_seconds_of_audio(tmp_path: Path, seconds: float, frames: int) -> None:
    root = audio(tmp_path / "a", each=5, seconds=1.5)
    data = class_folder.read(root, seconds=seconds)
    assert (data.shape, data.seconds) == ((1, 40, frames), seconds)
    full = audio_files.spectrograms([audio_files.read_any(root / "low" / "2.wav", seconds)], seconds)[0, 0].double()
    mean = np.array([[full[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean() for j in range(frames)] for i in range(40)])
    np.testing.assert_allclose(data.inputs[7, :, :, 0], (mean - mean.mean()) / mean.std(ddof=1), atol=1e-5)
    told = {
        0.5: ("10 of 10 audio are longer than 0.5 seconds: the first 0.5 seconds of each were used (--seconds).",),
        2.0: ("no audio is longer than 1.5 seconds: the rest of 2 seconds is zeros.",),
    }
    assert data.notes == told[seconds]
    for wrong in (0.0, 61.0, math.nan):
        with pytest.raises(UserError, match=r"seconds of audio are not between 0.25 and 60: give other --seconds"):
            class_folder.read(root, seconds=wrong)
    with pytest.raises(UserError, match="--seconds is for audio; leave it out for images"):
        class_folder.read(images(tmp_path / "b", each=5), seconds=1.0)


def test_silent_audio_are_told(tmp_path: Path) -> None:
    root = audio(tmp_path / "a", each=5, seconds=0.5)
    (root / "low" / "3.wav").write_bytes((root / "low" / "3.wav").read_bytes()[:44] + bytes(16000))
    assert class_folder.read(root).notes == ("1 of 10 audio is silent in the second used: low/3.wav.",)


def spoiled(root: Path) -> list[str]:
    """Spoil thirteen images of a folder; returns what is said of each."""
    reasons = {
        "blue/00.png": (b"", "it is empty, 0 bytes"),
        "blue/01.png": (b"<!DOCTYPE html><title>404</title>", "it is a web page, HTML"),
        "blue/02.png": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is HEIC: convert it to JPEG"),
        "blue/03.png": ((root / "red" / "09.png").read_bytes()[:300], "it is cut off or damaged"),
    } | {f"red/{i:02d}.png": (b"text", "it is none of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM") for i in range(9)}
    for name, (content, _) in reasons.items():
        (root / name).write_bytes(content)
    return [f"{name} ({reason})" for name, (_, reason) in reasons.items()]


def test_all_broken_files_are_named_at_once_or_left_out(tmp_path: Path) -> None:
    root = images(tmp_path / "a")
    whole = class_folder.read(root)
    said = spoiled(root)
    with pytest.raises(UserError) as caught:
        class_folder.read(root)
    listed = ", ".join(f"'{root}/{one.replace(' (', chr(39) + ' (', 1)}" for one in said[:10])
    assert str(caught.value) == (
        f"13 of 40 images cannot be read: {listed} and 3 more: replace or remove them, or leave them out with --skip-broken"
    )
    data = class_folder.read(root, skip_broken=True)
    assert data.notes == (f"13 of 40 images cannot be read and are left out: {', '.join(said[:10])} and 3 more.",)
    kept = [*range(4, 20), *range(29, 40)]
    assert np.array_equal(data.inputs, whole.inputs[kept])
    assert np.array_equal(data.target, whole.target[kept])
    for i in range(9, 17):
        (root / "red" / f"{i:02d}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"the class 'red' of '.*a' has 3 images, and a class needs 5"):
        class_folder.read(root, skip_broken=True)


def test_broken_audio_are_named_at_once_or_left_out(tmp_path: Path) -> None:
    root = audio(tmp_path / "a")
    whole = class_folder.read(root)
    (root / "high" / "2.wav").write_bytes(b"")
    (root / "low" / "7.wav").write_bytes((root / "low" / "7.wav").read_bytes()[:9000])
    first, second = root / "high" / "2.wav", root / "low" / "7.wav"
    with pytest.raises(UserError) as caught:
        class_folder.read(root)
    assert str(caught.value) == (
        f"2 of 16 audio cannot be read: '{first}' (it is empty, 0 bytes), '{second}' (it ends too early)"
        ": replace or remove them, or leave them out with --skip-broken"
    )
    data = class_folder.read(root, skip_broken=True)
    assert data.notes == (
        "2 of 16 audio cannot be read and are left out: high/2.wav (it is empty, 0 bytes), low/7.wav (it ends too early).",
    )
    np.testing.assert_allclose(data.inputs, np.delete(whole.inputs, [2, 15], axis=0), atol=1e-6)
    second.unlink()
    with pytest.raises(
        UserError, match=r"\(it is empty, 0 bytes\): get it again, or convert it, or leave it out with --s"
    ):
        class_folder.read(root)


@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")
def test_a_large_image_is_read_in_silence(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    Image.new("L", (12_000, 8_000), 90).save(tmp_path / "large.png")
    read = class_folder.read_files("images", [tmp_path / "large.png"], 16)
    assert (read.whole("images") == 90).all()
    assert not recwarn.list


def test_the_fingerprint_is_of_pixels_labels_and_classes() -> None:
    base = made()
    changed = base.inputs.copy()
    changed[3, 2, 1, 0] ^= 1
    about = base.name, base.source, base.kind
    others = [
        FolderDataset(*about, changed, base.target, base.classes),
        FolderDataset(*about, base.inputs, 1 - base.target, base.classes),
        FolderDataset(*about, base.inputs, base.target, ("dark", "bright")),
    ]
    assert len({base.fingerprint(), *(other.fingerprint() for other in others)}) == 4
    assert FolderDataset("b", "c", "images", base.inputs, base.target, base.classes).fingerprint() == base.fingerprint()


def _spoil(what: str) -> Callable[[Path], object]:
    def corrupt(root: Path) -> None:
        content = (root / "red" / "03.png").read_bytes()
        (root / "red" / "03.png").write_bytes(content[:200])

    return {
        "empty": lambda root: (root / "green").mkdir(),
        "one class": lambda root: [file.unlink() for file in (root / "red").iterdir()] and (root / "red").rmdir(),
        "few": lambda root: [(root / "red" / f"{i:02d}.png").unlink() for i in range(5)],
        "corrupt": corrupt,
        "both": lambda root: (root / "red" / "a.wav").write_bytes(b""),
        "neither": lambda root: [file.rename(file.with_suffix(".txt")) for file in root.rglob("*.png")],
    }[what]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("empty", r"'.*green' holds no images \(.jpg, .*\): add some, or remove it"),
        (
            "one class",
            r"'.*a' holds 1 folder: put the images or audio of each class into one of its own, two classes",
        ),
        ("few", r"the class 'red' of '.*a' has 1 image, and a class needs 5 \(3 to train on, 1 to validate and 1 to"),
        ("corrupt", r"'.*red/03.png' is not an image that can be read \(.*\): replace or remove it"),
        ("both", r"'.*a' holds images \('blue/00.png'\) and audio \('red/a.wav'\): give a folder of one kind"),
        ("neither", r"the folders in '.*a' hold no images \(.*\) and no audio \(.wav, .flac, .*\): put those of each"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(tmp_path: Path, what: str, says: str) -> None:
    root = images(tmp_path / "a", each=6)
    _spoil(what)(root)
    with pytest.raises(UserError, match=says) as error:
        class_folder.read(root)
    assert "\n" not in str(error.value)


def test_places_and_sizes_without_sense_are_refused(tmp_path: Path) -> None:
    root = images(tmp_path / "a" / "train", each=5)
    with pytest.raises(UserError, match="is not a readable folder"):
        class_folder.read(tmp_path / "nowhere")
    with pytest.raises(UserError, match="a size of 8 pixels is not between 16 and 512"):
        class_folder.read(root, size=8)
    with pytest.raises(
        UserError, match="48 frequency bands cannot be made of 160: give a --size of 16, 20, 32, 40, 80, 1"
    ):
        class_folder.read(audio(tmp_path / "b", each=5), size=48)
    (tmp_path / "a" / "val" / "red").mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"do not have the same folders: 'blue' is in one of them; .*give '.*train' alone"
    ):
        class_folder.read(tmp_path / "a")


# -- training ------------------------------------------------------------------------------------------------------------


def test_the_loop_is_the_plain_one_written_out() -> None:
    """Steps, order, mixing and schedule against a loop in float64, without augmentation and dropout."""
    generator = Key(34, 0, 0, 0).generator()
    x = torch.from_numpy(generator.normal(size=(23, 3, 16, 16)).astype(np.float32))
    y = torch.from_numpy(generator.integers(0, 2, 23))
    data, rows = InMemoryDataset(x, y, ("a", "b")), torch.arange(1, 23)
    training = simple.SimpleTraining(f"{__name__}:linear", epochs=3, batch_size=7, learning_rate=0.01, weight_decay=0.1)
    vicinity = Mixup(0.4)
    model, epoch = simple.train(training, data, rows, vicinity, seed=5)
    assert epoch == 3
    with fork_rng(Key(5, 0, 0, 0, 2**63 + 5)):
        reference = linear(2).double()
    optimizer = torch.optim.AdamW(reference.parameters(), weight_decay=0.1)
    step = 0
    for epoch in range(3):
        order = rows[torch.from_numpy(Key(5, 0, 0, epoch, 2**63).generator().permutation(22))]
        for batch in (order[:7], order[7:14], order[14:21]):  # the last row would be alone
            optimizer.param_groups[0]["lr"] = 0.005 * (1 + math.cos(math.pi * step / 9))
            plan = vicinity.plan(7, y[batch], x[batch], step=step, epoch=epoch, seed=5)
            loss = F.cross_entropy(reference(plan(x[batch].double())), plan.target(y[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-5)


def linear(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, num_classes))


def test_methods_share_weights_order_and_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[torch.Tensor]] = {}
    real = InMemoryDataset.batch
    for method in (ERM(), Mixup(1.0)):
        batches = seen.setdefault(type(method).__name__, [])
        drawn = simple.init_model

        def initial(*args: Any, batches: list[torch.Tensor] = batches, drawn: Any = drawn) -> nn.Module:
            model = drawn(*args)
            batches.append(model.linear.weight.detach().clone())
            return model

        def batch(self: InMemoryDataset, rows: torch.Tensor, key: Any, batches: list[torch.Tensor] = batches) -> Any:
            x, y = real(self, rows, key)
            batches.append(x.clone())
            return x, y

        study = study_of()
        part = study.seed_data(1)
        with monkeypatch.context() as patch:
            patch.setattr(simple, "init_model", initial)
            patch.setattr(InMemoryDataset, "batch", batch)
            simple.train(study.training, part.noisy, part.train, method, 1)
    assert len(seen["ERM"]) == 1 + 2 * 3  # 36 rows in batches of 16
    for one, other in zip(seen["ERM"], seen["Mixup"], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(seen["ERM"][1], seen["ERM"][4])


def test_parts_are_the_splits_with_training_scales_and_noise_on_known_labels() -> None:
    study = study_of(label_noise=1.0)
    part, rows = study.seed_data(1), study.split(1)
    assert part.test.tolist() == rows.test.tolist()
    assert torch.equal(part.clean.labels, torch.from_numpy(study.data.target))
    assert torch.equal(part.noisy.labels[part.test], part.clean.labels[part.test])
    known = torch.cat([part.train, part.validation])
    assert 0.2 < float((part.noisy.labels[known] != part.clean.labels[known]).double().mean()) < 0.8
    shares = study.data.inputs[rows.train].astype(np.float64) / 255
    assert part.noisy.mean == pytest.approx(shares.mean((0, 1, 2)))
    assert part.noisy.std == pytest.approx(shares.std((0, 1, 2)))


def trained(study: FolderComparison, method: str, seed: int, epochs: int) -> nn.Module:
    """The model of a run after some of its epochs."""
    part = study.seed_data(seed)
    training = replace(study.training, patience=None)
    model, _ = simple.train(training, part.noisy, part.train, study.method(method).parsed, seed, stop_epoch=epochs)
    return model.eval()


def test_a_run_trained_again_is_the_run_and_its_figures_are_right() -> None:
    study = study_of(epochs=4, input_noise=0.5)
    (run,) = study.train([("mixup 0.4", 1)])
    (again,) = study.train([("mixup 0.4", 1)])
    record = run.record
    assert records.to_json(replace(again.record, seconds=0)) == records.to_json(replace(record, seconds=0))
    part, model = study.seed_data(1), trained(study, "mixup 0.4", 1, record.epochs)
    x, y = part.clean.batch(part.test, None)
    with torch.no_grad():
        out = model(x).double()
    assert record.test["error"] == float((out.argmax(1) != y).double().mean())
    assert record.test["nll"] == pytest.approx(float(F.cross_entropy(out, y)), rel=1e-5)
    predicted = run.predictions
    assert predicted.rows.tolist() == part.test.tolist()
    assert predicted.outputs == pytest.approx(out.softmax(1).numpy(), abs=1e-6)
    assert predicted.nll == pytest.approx(F.cross_entropy(out, y, reduction="none").numpy(), rel=1e-5, abs=1e-7)
    noise = Key(1, 0, 0, 0, 2**63 + 2).generator().standard_normal((12, 3, 16, 16), dtype=np.float32)
    with torch.no_grad():
        out = model(x + 0.5 * torch.from_numpy(noise)).double()
    assert record.perturbed is not None
    assert record.perturbed["nll"] == pytest.approx(float(F.cross_entropy(out, y)), rel=1e-5)
    assert record.curve["epoch"] == [1, 2, 3, 4]
    assert record.curve["validation_nll"][record.epochs - 1] == pytest.approx(record.validation["nll"], rel=1e-6)


def test_a_run_has_the_weights_of_its_best_epoch_or_of_its_last() -> None:
    given: dict[str, Any] = {"epochs": 12, "learning_rate": 0.3, "label_noise": 0.6}
    (best,) = study_of(**given).train([("ERM", 0)])
    (last,) = study_of(**given, to_the_end=True).train([("ERM", 0)])
    course = best.record.curve["validation_nll"]
    assert course == last.record.curve["validation_nll"]
    assert best.record.epochs == 1 + course.index(min(course)) < 12
    assert best.record.validation["nll"] == pytest.approx(min(course), rel=1e-6)
    assert last.record.epochs == 12
    assert last.record.validation["nll"] == pytest.approx(course[-1], rel=1e-6)
    assert course[-1] > min(course)


def test_patience_stops_and_takes_the_best_weights() -> None:
    study = study_of(epochs=40, patience=2, learning_rate=0.3)
    (run,) = study.train([("ERM", 0)])
    record, course = run.record, run.record.curve["validation_nll"]
    assert record.epochs < 38
    assert record.curve["epoch"][-1] <= record.epochs + 2
    assert record.validation["nll"] <= min(course) + 1e-6
    part, model = study.seed_data(0), trained(study, "ERM", 0, record.epochs)
    out = simple.outputs(model, part.noisy, part.validation)
    nll = float(F.cross_entropy(out.double(), part.noisy.labels[part.validation]))
    assert nll == pytest.approx(record.validation["nll"], rel=1e-5)


def test_weight_decays_are_those_of_the_methods() -> None:
    """ERM chooses among its own; mixup has the one of the settings."""
    study = study_of(erm_decays=(0.0, 0.5), weight_decay=0.5, epochs=3, to_the_end=True)
    names = [method.name for method in study.methods]
    assert names == ["ERM, decay 0", "ERM, decay 0.5", "mixup 0.4", "constant answer"]
    assert [method.weight_decay for method in study.networks] == [0.0, 0.5, 0.5]
    none, some = (run.record for run in study.train([("ERM, decay 0", 0), ("ERM, decay 0.5", 0)]))
    assert none.test["nll"] != some.test["nll"]
    (alone,) = study_of(erm_decays=(0.5,), epochs=3, to_the_end=True).train([("ERM", 0)])
    assert alone.record.test == some.test


def test_the_constant_answer_is_the_shares_of_the_training_labels() -> None:
    study = study_of(made(61), label_noise=0.5, input_noise=1.0)
    (run,) = study.train([("constant answer", 1)])
    part = study.seed_data(1)
    shares = np.bincount(part.noisy.labels[part.train].numpy(), minlength=2) / len(part.train)
    assert run.predictions.outputs == pytest.approx(np.tile(shares, (len(part.test), 1)))
    labels = part.clean.labels[part.test].numpy()
    assert run.record.test["nll"] == pytest.approx(-np.log(shares[labels]).mean())
    assert run.record.test["error"] == pytest.approx((labels != shares.argmax()).mean())
    assert run.record.perturbed == run.record.test
    noisy = part.noisy.labels[part.validation].numpy()
    assert run.record.validation["nll"] == pytest.approx(-np.log(shares[noisy]).mean())
    assert run.record.epochs == 0


def test_a_refitted_model_is_trained_on_all_images_as_by_hand() -> None:
    """For the median of its epochs, along the learning rates that its runs had there."""
    study = study_of(model=f"{__name__}:linear", augment="none", epochs=5, weight_decay=0.1, learning_rate=0.01)
    state = study.refit("mixup 0.4", 3)
    assert state is not None
    shares = study.data.inputs.transpose(0, 3, 1, 2) / 255
    mean, std = (of((0, 2, 3), keepdims=True) for of in (shares.mean, shares.std))
    x, y = torch.from_numpy((shares - mean) / std), torch.from_numpy(study.data.target)
    with fork_rng(Key(0, 0, 0, 0, 2**63 + 5)):
        reference = linear(2).double()
    optimizer = torch.optim.AdamW(reference.parameters(), weight_decay=0.1)
    step = 0
    for epoch in range(3):
        order = torch.from_numpy(Key(0, 0, 0, epoch, 2**63).generator().permutation(60))
        for batch in order.split(16):
            optimizer.param_groups[0]["lr"] = 0.005 * (1 + math.cos(math.pi * step / 20))
            plan = Mixup(0.4).plan(len(batch), y[batch], x[batch], step=step, epoch=epoch, seed=0)
            loss = F.cross_entropy(reference(plan(x[batch])), plan.target(y[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    assert step == 12
    for name, value in reference.state_dict().items():
        assert state[name] == pytest.approx(value.numpy(), rel=1e-3, abs=1e-5)


def test_budgets_and_settings() -> None:
    assert study_of(epochs=None).epochs == 100  # 3 steps an epoch
    assert FolderSettings().seeds == 5
    assert simple.SimpleTraining("", 1, batch_size=16).batches(33) == 2
    assert simple.SimpleTraining("", 1, batch_size=16).batches(34) == 3
    base = study_of()
    others = [study_of(model="small"), study_of(augment="none"), study_of(made(62)), study_of(to_the_end=True)]
    assert len({base.fingerprint(), *(other.fingerprint() for other in others)}) == 5
    assert study_of(seeds=3).fingerprint() == base.fingerprint()  # more seeds may follow


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("small2", "there is no model 'small2'; did you mean 'small'?"),
        ("lenet", "the model 'lenet' cannot take images [n, 3, 16, 16] (RuntimeError: "),
        (f"{__name__}:blind", "gives [16, 7] for 16 images of 2 classes; it must give [16, 2]"),
    ],
)
def test_models_that_do_not_fit_are_refused(model: str, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        study_of(model=model).check()


def blind(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 7))


def test_methods_are_tried_on_images() -> None:
    study_of(named=("CutMix(1.0)", "Chain([Mixup(0.4), LabelSmoothing(0.1)])")).check()
    with pytest.raises(UserError, match=r"Mixup.* cannot be used on these images: LabelDistance needs"):
        study_of(named=("Mixup(0.4, LabelDistance(0.5))",)).check()


def test_models_are_told_the_shape_if_they_ask() -> None:
    assert models.build("small", 7, (1, 40, 25))(torch.zeros(2, 1, 40, 25)).shape == (2, 7)
    assert models.build("lenet", 7, (1, 80, 50))(torch.zeros(2, 1, 80, 50)).shape == (2, 7)
    assert models.build(Tiny, 3, (1, 16, 24)).linear.in_features == 4 * 6  # type: ignore[union-attr]


def test_a_study_travels_to_workers() -> None:
    study = study_of()
    assert pickle.loads(pickle.dumps(study)).fingerprint() == study.fingerprint()


def test_examples_are_mixtures_of_what_they_say() -> None:
    study = study_of(alphas=(1.0,))
    shown = study.mixed_examples("mixup 1")
    assert len(shown) == 6
    part = study.seed_data(0)
    rows = part.train[:16]
    plan = Mixup(1.0).plan(16, part.clean.labels[rows], step=0, epoch=0, seed=0)
    mixed = plan(part.clean.inputs[rows].float())[0]
    image = Image.open(io.BytesIO(base64.b64decode(shown[0].png)))
    np.testing.assert_allclose(np.asarray(image), mixed.permute(1, 2, 0), atol=0.51)
    assert all(re.fullmatch(r"\d\.\d\d (dark|light)( \+ \d\.\d\d (dark|light))?", one.mixture) for one in shown)
    assert study_of(named=("CutMix(1.0)",)).mixed_examples("CutMix(1.0)")[0].png


# -- the verdict ---------------------------------------------------------------------------------------------------------


def test_the_verdict_speaks_of_images() -> None:
    study = study_of(made(600), seeds=5)
    wrong = {"ERM": 0.3, "mixup 0.4": 0.1, "constant answer": 0.5}

    def conclude(wrong: dict[str, float]) -> verdict.Conclusion:
        """Of runs that answer a share of the images, the same for every seed, wrongly."""
        runs, predictions, order = [], {}, np.random.Generator(np.random.PCG64(3)).permutation(600)
        for method, seed in study.runs:
            rows, scores = study.split(seed).test, {"error": 0.2, "nll": 0.5}
            right = study.data.target[rows].astype(bool) ^ (order[rows] < 600 * wrong[method])
            p = np.where(right, 0.75, 0.25).astype(np.float32)
            own = np.where(study.data.target[rows] == 1, p, 1 - p)
            outputs = np.stack([1 - p, p], 1)
            runs.append(RunRecord(method, seed, 1.0, 2, scores, scores, scores, None, {"epoch": [1.0]}))
            predictions[method, seed] = RunPredictions(rows, outputs, -np.log(own))
        return verdict.conclude(study, runs, predictions)

    found = conclude(wrong).verdict
    assert found.kind == "helps"
    assert found.sentence.startswith(
        "Mixup helps on made: the test error falls from 30.00 % to 10.00 % (difference -20.00 "
    )
    assert "Test images took no part in any choice." in words.statistics_in_words(study)
    assert "all images are tested equally often" in words.statistics_in_words(study)
    assert words.limitations(study)[1].startswith(
        "Images were split at random: where several are of one person or source"
    )
    assert "--group" not in words.limitations(study)[1]
    assert conclude(wrong | {"mixup 0.4": 0.5}).verdict.kind == "harms"
    same = conclude(wrong | {"mixup 0.4": 0.3}).verdict
    assert same.kind == "practically the same"
    assert "the test error is 30.00 % with mixup and without, and no seed differs" in same.sentence
    open_ = conclude(wrong | {"mixup 0.4": 0.301}).verdict
    assert "more images would show smaller ones" in open_.advice


# -- from end to end -----------------------------------------------------------------------------------------------------

OPTIONS = ["--seeds", "2", "--epochs", "4", "--alpha", "0.4", "--jobs", "1", "--size", "16", "--learning-rate", "0.01"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder of images, compared through the command."""
    place = tmp_path_factory.mktemp("folder")
    root = images(place / "photos")
    (root / "red" / "notes.txt").write_text("red")
    command = ["compare", str(root), *OPTIONS, "--out", str(place / "out")]
    assert cli.main(command) == 0
    return place, command


def test_a_comparison_of_images_leaves_results_page_and_model(finished: tuple[Path, list[str]]) -> None:
    place, _ = finished
    results = json.loads((place / "out" / "results.json").read_text())
    assert results["data"] | {"sha256": ""} == {
        "name": "photos",
        "kind": "images",
        "task": "classification",
        "examples": 40,
        "sha256": "",
        "source": str(place / "photos"),
        "target": "class",
        "classes": ["blue", "red"],
        "class_counts": [20, 20],
        "table": None,
        "folder": {"shape": [3, 16, 16], "notes": results["data"]["folder"]["notes"]},
    }
    assert "red/notes.txt" in results["data"]["folder"]["notes"][0]
    assert results["protocol"]["model"]["name"] == "small"
    assert results["protocol"]["model"]["parameters"] == sum(p.numel() for p in models.build("small", 2).parameters())
    assert results["protocol"]["steps"] == 4  # 24 rows are less than a batch
    assert [(r["method"], r["seed"]) for r in results["runs"]] == [
        (m, s) for s in (0, 1) for m in ("ERM", "mixup 0.4", "constant answer")
    ]
    page = (place / "out" / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == 6
    assert "40\N{NARROW NO-BREAK SPACE}images" in page or "40 images" in page
    assert "Images of each seed" in page
    assert "the test rows" not in page
    assert "notes.txt" in page


def test_the_model_can_be_loaded_and_used(
    finished: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, _ = finished
    results = json.loads((place / "out" / "results.json").read_text())
    path, kept = place / "out" / "model.safetensors", results["model"]
    classifier = Classifier.load(path)
    data = class_folder.read(place / "photos", size=16)
    paths = [place / "photos" / name / f"{i:02d}.png" for name in COLORS for i in range(20)]
    study = FolderComparison(data, FolderSettings(seeds=2, epochs=4, alphas=(0.4,), learning_rate=0.01))
    assert kept["epochs"] == round(np.median([r["epochs"] for r in results["runs"] if r["method"] == kept["method"]]))
    state = study.refit(kept["method"], kept["epochs"])
    assert state is not None
    for name, value in classifier.model.state_dict().items():
        assert torch.equal(value, torch.from_numpy(state[name]))
    assert (classifier.predict(paths) == np.array(data.classes)[data.target]).mean() > 0.9  # it has seen them
    assert classifier.probabilities(paths[:3]).sum(1) == pytest.approx([1, 1, 1])
    with pytest.raises(
        UserError, match=r"holds a model for 'images'; load it with vicinal.lab.compare.classifier.Classifi"
    ):
        Predictor.load(path)
    monkeypatch.chdir(place)
    (place / "new.jpg").write_bytes(paths[0].read_bytes())
    exec(results["model"]["usage"], {})
    answer = capsys.readouterr().out.strip()
    assert answer in ("['blue']", "['red']")
    shell = results["model"]["usage"].splitlines()[0]
    assert shell == f"# in a shell: vicinal predict {place / 'out'} new.jpg"
    assert cli.main(shell.split()[5:]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(f"new.jpg,{answer[2:-2]},0.")


def test_the_same_command_goes_on_with_what_is_missing(
    finished: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, command = finished
    out = place / "out"
    results = json.loads((out / "results.json").read_text())
    lines = (out / "runs.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 6  # a line a run
    (out / "runs.jsonl").write_bytes(b"".join(lines[:5]))
    model = (out / "model.safetensors").read_bytes()
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert "1 run of 4 epochs takes about" in said.err
    assert "left out: red/notes.txt." in said.err
    assert "photos: 40 images of 16 x 16, 2 classes; 2 seeds, 4 epochs." in said.out
    again = json.loads((out / "results.json").read_text())
    for one, same in zip(again["runs"], results["runs"], strict=True):
        assert {**one, "seconds": 0} == {**same, "seconds": 0}
    assert again["verdict"] == results["verdict"]
    assert (out / "model.safetensors").read_bytes() == model
    assert len(atomic.json_lines(out / "runs.jsonl")) == 6
    monkeypatch.setattr(executor, "run", None)  # nothing can be trained
    assert cli.main(command) == 0
    assert "about" not in capsys.readouterr().err


def test_audio_are_compared_and_their_model_used(tmp_path: Path) -> None:
    root = audio(tmp_path / "tones")
    data = class_folder.read(root)
    study = study_of(data, model="small", epochs=30, learning_rate=0.01)
    study.check()
    (run,) = study.train([("ERM", 0)])
    assert run.record.test["error"] == 0  # anybody hears the difference
    state = study.refit("ERM", 30)
    assert state is not None
    usage = study.save_model(tmp_path / "m.safetensors", state, {"epochs": 30})
    assert usage.endswith('print(classifier.predict(["new.wav"]))')
    classifier = Classifier.load(tmp_path / "m.safetensors")
    assert classifier.predict([root / "low" / "1.wav", root / "high" / "2.wav"]).tolist() == ["low", "high"]
    assert study.mixed_examples("mixup 0.4")[0].png
    assert any("speaker" in line for line in study.limitations())


def test_a_model_that_diverged_is_no_model_and_answers_nothing(tmp_path: Path) -> None:
    study = study_of(model="small", learning_rate=1e30)
    assert study.refit("ERM", 2) is None
    study = study_of(model="small")
    state, path = study.refit("ERM", 1), tmp_path / "m.safetensors"
    assert state is not None
    name, values = next((name, values) for name, values in state.items() if values.ndim > 1)
    study.save_model(path, state | {name: np.full_like(values, np.nan)}, {})
    with pytest.raises(UserError, match=r"has weights that are no finite numbers .* its training diverged"):
        Classifier.load(path)
    study.save_model(path, state | {key: np.full_like(of, 3e38) for key, of in state.items() if of.ndim > 1}, {})
    Image.fromarray(np.full((16, 16, 3), 9, dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"the model's outputs for '.*a\.png' are no finite numbers"):
        Classifier.load(path).predict([tmp_path / "a.png"])


def test_a_model_of_ones_own_is_imported_by_its_owner_alone(tmp_path: Path) -> None:
    study, path = study_of(), tmp_path / "m.safetensors"
    state = study.refit("ERM", 1)
    assert state is not None
    usage = study.save_model(path, state, {})
    assert f"from {__name__} import Tiny\n" in usage
    with pytest.raises(UserError, match=r"was built by '.*:Tiny': give it as model=, or --model"):
        Classifier.load(path)
    assert isinstance(Classifier.load(path, model=Tiny).model, Tiny)
    assert type(Classifier.load(path, model=f"{__name__}:Tiny").model).__name__ == "Tiny"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"shape": [3, 16]}, "is damaged (shape must be a list of 3, found a list)"),
        ({"shape": [3, 16, 17]}, "is damaged (shape cannot be [3, 16, 17] for images)"),
        ({"shape": [3, 10**9, 10**9]}, "is damaged (shape cannot be [3, 1000000000, 1000000000] for images)"),
        ({"mean": [0.5]}, "is damaged (mean and std do not fit the channels)"),
        (
            {"classes": ["a"]},
            "is damaged (tensor 'linear.bias' is [2] of float32, and must be [1] of float32)",
        ),
        ({"classes": ["a", "b", "a"]}, "is damaged (classes must have names, each once)"),
        ({"seconds": 1e9}, "is damaged (seconds must lie in [0.25, 60], found 1000000000.0)"),
        ({"seconds": "long"}, "is damaged (seconds must be a finite number, found 'long')"),
        ({"kind": "table"}, "holds a model for 'table'; load it with vicinal.lab.compare.predictor.Predictor"),
    ],
)
def test_a_damaged_model_is_refused(
    finished: tuple[Path, list[str]], tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    import safetensors
    import safetensors.torch

    path = finished[0] / "out" / "model.safetensors"
    with safetensors.safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["vicinal"])
    fields = {key: value for key, value in header.items() if key not in ("format", "sha256")} | change
    content = safetensors.torch.save(
        safetensors.torch.load_file(path), {"vicinal": stored.seal(fields, model_file.FORMAT)}
    )
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=re.escape(says)):
        Classifier.load(tmp_path / "m.safetensors")


def test_options_of_the_other_kind_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = images(tmp_path / "a", each=5)
    for argv, says in (
        ([str(root), "--target", "y"], "--target is for tables; the classes of a folder are its sub-folders"),
        (["iris", "--size", "16"], "--size is for folders of images or audio; leave it out for a table"),
        (["iris", "--model", "small"], "--model is for folders"),
    ):
        assert cli.main(["compare", *argv]) == 2
        assert says in capsys.readouterr().err


def test_long_work_is_told_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of()
    assert (study.estimate_seconds(4, 2) or 0) > 0
    monkeypatch.setattr(FolderComparison, "estimate_seconds", lambda self, runs, jobs: 100.0 * runs / jobs)
    command_line.announce(study, 4, 2)
    assert capsys.readouterr().err == (
        "vicinal: 4 runs of 2 epochs take about 3 min on 2 processes, by the speed of the first steps\n"
    )
    command_line.announce(study, 400, 2)
    assert "about 5.6 h on 2 processes" in (said := capsys.readouterr().err)
    assert "fewer --seeds or --epochs, or a smaller --size, take less, and Ctrl-C keeps the finished runs" in said
    command_line.announce(study, 0, 2)
    assert capsys.readouterr().err == ""


def test_real_photographs(real_data: Callable[[str], Path]) -> None:
    data = class_folder.read(real_data("imagenet") / "imagenet" / "tiny-imagenet-20", size=16)
    assert (len(data), len(data.classes), data.shape) == (3000, 20, (3, 16, 16))
    study = FolderComparison(data, FolderSettings(epochs=3, learning_rate=0.003))
    (run,) = study.train([("ERM, decay 0", 0)])
    assert run.record.test["error"] < 0.85  # chance is 0.95


def test_options_of_folders_reach_the_reader_and_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "tones"
    for day in ("day1", "day2"):
        audio(root / day, each=5, seconds=1.0)
    (root / "day1" / "low" / "0.wav").write_bytes(b"")
    options = ["--seconds", "0.7", "--classes", "inner", "--skip-broken", *OPTIONS[:6], "--jobs", "1"]
    assert cli.main(["compare", str(root), *options, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "vicinal: 1 of 20 audio cannot be read and is left out: day1/low/0.wav (it is empty, 0 bytes)." in said
    assert "vicinal: day1 and day2 were read as one set: each seed draws parts of its own." in said
    assert cli.main(["compare", str(root / "day2"), "--seconds", "0.5", "--out", str(tmp_path / "short")]) == 2
    assert "more --seconds or a larger --size make them larger" in capsys.readouterr().err
    classifier = Classifier.load(tmp_path / "out" / "model.safetensors")
    assert (classifier.seconds, classifier.shape, classifier.classes) == (0.7, (1, 40, 17), ("high", "low"))
    path = root / "day2" / "high" / "1.wav"
    clip = audio_files.read_any(path, 0.7)
    features = audio_files.standardized(F.avg_pool2d(audio_files.spectrograms([clip], 0.7), 4))
    with torch.no_grad():
        assert torch.equal(classifier.outputs([path]), classifier.model(features))


@pytest.mark.parametrize("option", [("--seconds", "2"), ("--classes", "inner"), ("--skip-broken",), ("--size", "20")])
def test_options_of_folders_are_refused_for_a_table(
    option: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", "iris", *option]) == 2
    said = f"vicinal: {option[0]} is for folders of images or audio; leave it out for a table\n"
    assert capsys.readouterr().err == said
