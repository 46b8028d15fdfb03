"""The comparison on a folder of images or audio: one small model at a time, as many processes as cores."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vicinal.keyed import Key
from vicinal.lab import models
from vicinal.lab.compare import comparison
from vicinal.lab.compare.classifier import Classifier
from vicinal.lab.compare.comparison import Comparison, RunId, Tick
from vicinal.lab.compare.settings import FolderSettings
from vicinal.lab.data.augment import CropFlip
from vicinal.lab.data.collection import FolderDataset
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.loading import InMemoryDataset
from vicinal.lab.data.splits import split
from vicinal.lab.errors import UserError
from vicinal.lab.training import simple
from vicinal.lab.training.scores import classification
from vicinal.target import MixedTarget
from vicinal.vicinity import Vicinity

_PERTURB = 2**63 + 2  # the stream of the perturbation of test inputs, as for tables
_CURVE_ROWS = 500  # of the training examples, for learning curves
_TIMED = 3  # steps
_SHOWN = 6  # mixed examples in the report
_SUMMED = 1000  # examples whose mean and spread are summed at once


@dataclass(frozen=True)
class Part:
    """The examples of one seed, and which of them are for what; row numbers are int64."""

    noisy: InMemoryDataset
    clean: InMemoryDataset  # with the labels they had before label noise
    train: Tensor
    validation: Tensor
    test: Tensor


@dataclass(frozen=True)
class FolderComparison(Comparison[FolderSettings]):
    """A comparison on images or audio."""

    data: FolderDataset
    settings: FolderSettings

    @property
    def name(self) -> str:
        """The folder's."""
        return self.data.name

    @property
    def kind(self) -> str:
        """Images or audio."""
        return self.data.kind

    @property
    def task(self) -> str:
        """Classification."""
        return "classification"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.data.classes)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of training, validation and test examples."""
        rows = split(self.data, 0)
        return len(rows.train), len(rows.validation), len(rows.test)

    @property
    def epochs(self) -> int:
        """Of every run."""
        return self.settings.budget(simple.Training("", 1, self.settings.batch).batches(self.sizes[0]))

    @property
    def training(self) -> simple.Training:
        """How every run is trained."""
        settings = self.settings
        rates = settings.learning_rate, settings.weight_decay
        return simple.Training(settings.model, self.epochs, settings.batch, *rates, settings.patience)

    def data_fingerprint(self) -> str:
        """Give the collection's."""
        return self.data.fingerprint()

    def part(self, seed: int) -> Part:
        """Split the examples and, where asked, corrupt their labels."""
        rows = split(self.data, seed)
        labels = self.data.target
        if self.settings.noise:
            known = np.concatenate([rows.train, rows.validation])
            labels = corrupt_labels(self.data, known, self.settings.noise, seed).astype(np.int64)
        mean, std = _scales(self.data, rows.train)
        common = self.data.classes, mean, std, self._augment
        x = self.data.tensor
        noisy, clean = (InMemoryDataset(x, torch.from_numpy(y), *common) for y in (labels, self.data.target))
        return Part(noisy, clean, *map(torch.from_numpy, (rows.train, rows.validation, rows.test)))

    @property
    def _augment(self) -> CropFlip | None:
        augment = self.settings.augment
        if self.kind == "audio" or augment == "none":
            return None
        return CropFlip(self.data.shape[1] // 8, flip=augment == "flip", fill="reflect")

    def few(self) -> tuple[Tensor, Tensor]:
        """Give a batch of seed 0's training examples."""
        part = self.part(0)
        return part.noisy.batch(part.train[: self.settings.batch], None)

    def check(self) -> None:
        """Refuse a model or methods that cannot be used on these data, before anything is trained.

        Raises:
            UserError: naming the model or method and its objection.

        """
        part = self.part(0)
        rows = part.train[: self.settings.batch]
        try:
            out = simple.outputs(simple.init_model(self.training, part.noisy, 0), part.noisy, rows)
            found = list(out.shape)
        except UserError:
            raise
        except Exception as error:  # a model's code may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"the model {self.settings.model!r} cannot take {self.kind} [n, {self._shape}] ({reason})"
            ) from error
        if found != [len(rows), self.classes]:
            raise UserError(
                f"the model {self.settings.model!r} gives {found} for {len(rows)} {self.kind} of {self.classes} "
                f"classes; it must give {[len(rows), self.classes]}"
            )
        super().check()

    @property
    def _shape(self) -> str:
        return ", ".join(map(str, self.data.shape))

    def pieces(self, missing: Sequence[RunId], jobs: int) -> list[list[RunId]]:
        """Give each run on its own: what is finished is kept at once."""
        return [[name] for name in missing]

    def train(self, runs: Sequence[RunId], tick: Tick | None = None) -> list[dict[str, Any]]:
        """Train and measure some runs, one after the other."""
        return [self._run(method, seed, tick) for method, seed in runs]

    def _run(self, method: str, seed: int, tick: Tick | None) -> dict[str, Any]:
        part, training = self.part(seed), self.training
        points = comparison.curve_points(training.epochs)
        curve: dict[str, list[float]] = {}
        measuring = 0.0

        def measure(model: nn.Module, of: InMemoryDataset, rows: Tensor, detail: bool = False) -> dict[str, Any]:
            return classification(simple.outputs(model, of, rows)[None], of.labels[rows], detail)[0]

        def after_epoch(epoch: int, model: nn.Module) -> None:
            nonlocal measuring
            if epoch in points:
                start = time.perf_counter()
                train = measure(model, part.noisy, part.train[:_CURVE_ROWS])
                comparison.add_point(curve, epoch, train, measure(model, part.noisy, part.validation))
                measuring += time.perf_counter() - start
            if tick is not None:
                tick(1)

        def score(model: nn.Module) -> float:
            return measure(model, part.noisy, part.validation)["nll"]

        start = time.perf_counter()
        vicinity = self.method(method).vicinity
        model, epoch = simple.train(training, part.noisy, part.train, vicinity, seed, after_epoch, score)
        seconds = time.perf_counter() - start - measuring
        perturbed = None
        if self.settings.perturb is not None:
            logits = simple.outputs(model, part.clean, part.test, self._noise(seed, len(part.test)))
            perturbed = classification(logits[None], part.clean.labels[part.test])[0]
        return {
            "method": method,
            "seed": seed,
            "seconds": seconds,
            "epochs": epoch,
            "train": measure(model, part.clean, part.train),
            "validation": measure(model, part.noisy, part.validation),
            "test": measure(model, part.clean, part.test, detail=True),
            "perturbed": perturbed,
            "curve": curve,
        }

    def _noise(self, seed: int, n: int) -> Tensor:
        """Draw what is added to the standardized test inputs."""
        generator = Key(seed, 0, 0, 0, _PERTURB).generator()
        drawn = generator.standard_normal((n, *self.data.shape), dtype=np.float32)
        return torch.from_numpy(drawn) * (self.settings.perturb or 0.0)

    def model(self, method: str, seed: int, epochs: int) -> dict[str, np.ndarray]:
        """Train one run again, to the end of so many of its epochs; give the state of its model."""
        part = self.part(seed)
        vicinity = self.method(method).vicinity
        model, _ = simple.train(self.training, part.noisy, part.train, vicinity, seed, until=epochs)
        return {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    def save_model(self, path: Path, state: dict[str, np.ndarray], seed: int, about: dict[str, Any]) -> str:
        """Write a `Classifier`."""
        data, name = self.data, self.settings.model
        model = models.build_for_shape(name, self.classes, data.shape)
        model.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
        scales = _scales(data, split(data, seed).train)
        Classifier(model, name, data.kind, data.shape, data.classes, *scales, about).save(path)
        module, _, factory = name.partition(":")
        own = f"from {module} import {factory}\n" if factory else ""
        file = "new.jpg" if data.kind == "images" else "new.wav"
        return (
            f"from vicinal.lab.compare.classifier import Classifier\n{own}"
            f"classifier = Classifier.load({path.as_posix()!r}{f', model={factory}' if factory else ''})\n"
            f'print(classifier.predict(["{file}"]))'
        )

    def describe(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give what results.json says of the folder, and of the model and its training."""
        data, training = self.data, self.training
        about = {
            "source": data.source,
            "shape": list(data.shape),
            "target": "class",
            "classes": list(data.classes),
            "class_counts": np.bincount(data.target, minlength=self.classes).tolist(),
            "notes": list(data.notes),
        }
        model = models.build_for_shape(training.model, self.classes, data.shape)
        protocol = {
            "model": training.model,
            "parameters": sum(p.numel() for p in model.parameters()),
            "steps": training.epochs * training.batches(self.sizes[0]),
            "optimizer": "AdamW" if training.weight_decay else "Adam",
            "augment": None if self._augment is None else self.settings.augment,
        }
        return about, protocol

    def not_done(self) -> list[str]:
        """Say what is left open."""
        lines = []
        if self.kind == "images":
            lines.append(
                f"One model, {self.settings.model}, was trained on small images; larger ones, or longer training, may "
                "answer otherwise."
            )
            if self._augment is not None:
                mirrored = "shifted and mirrored" if self.settings.augment == "flip" else "shifted"
                lines.append(
                    f"Training images were {mirrored} at random for all methods; no other augmentation was tried."
                )
        else:
            lines.append(
                "Audio of one speaker or source may be in training and test alike, so that the error on others may "
                "be higher."
            )
        return lines

    def seconds(self, runs: int, jobs: int) -> float:
        """Measure the first steps, and estimate how long so many runs take."""
        part, training = self.part(0), self.training
        rows = part.train[: training.batch]
        step = min(_step_seconds(training, part.noisy, rows, self.methods[-1].vicinity))
        measured = len(comparison.curve_points(training.epochs)) * (_CURVE_ROWS + len(part.validation)) + len(self.data)
        # evaluating an example takes about a third of training on it
        steps = training.epochs * training.batches(len(part.train)) + measured / len(rows) / 3
        return step * steps * runs / min(jobs, runs)

    def examples(self, method: str) -> list[dict[str, str]]:
        """Give some examples as a method mixes them: a PNG in base 64, and what it is a mixture of."""
        part, vicinity = self.part(0), self.method(method).vicinity
        std, mean = (
            torch.tensor(t or [default]).view(-1, 1, 1) for t, default in ((part.clean.std, 1), (part.clean.mean, 0))
        )
        shown = []
        for step in range(_SHOWN):
            rows = part.train[step * self.settings.batch :][: self.settings.batch]
            rows = rows if len(rows) > 1 else part.train[: self.settings.batch]
            x, y = part.clean.batch(rows, None)
            plan = vicinity.plan(len(y), y, x, step=step, epoch=0, seed=0, rank=0, worker=0)
            target = plan.target(y)
            mixed = self._named(target) if isinstance(target, MixedTarget) else self.data.classes[int(y[0])]
            shown.append({"png": _png((plan(x)[0] * std + mean).numpy()), "mixture": mixed})
        return shown

    def _named(self, target: MixedTarget) -> str:
        shares: dict[str, float] = {}
        for label, weight in zip(target.ids[:, 0].tolist(), target.weight[:, 0].tolist(), strict=True):
            name = self.data.classes[label]
            shares[name] = shares.get(name, 0.0) + weight
        told = [(name, share) for name, share in shares.items() if round(share, 2) > 0]
        return " + ".join(f"{share:.2f} {name}" for name, share in sorted(told, key=lambda one: -one[1]))


def _step_seconds(training: simple.Training, data: InMemoryDataset, rows: Tensor, vicinity: Vicinity) -> list[float]:
    """Take a few steps as a worker does, by one thread; give the seconds of all but the first, which is slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = simple.init_model(training, data, 0).train()
        optimizer = torch.optim.AdamW(model.parameters(), 0.0)
        times = [time.perf_counter()]
        for step in range(1 + _TIMED):
            simple.train_step(model, optimizer, data, rows, vicinity, Key(0, 0, 0, step), 0)
            times.append(time.perf_counter())
    finally:
        torch.set_num_threads(threads)
    return [end - start for start, end in pairwise(times[1:])]


def _scales(data: FolderDataset, rows: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Give mean and standard deviation of each channel of some images, in [0, 1]; nothing for audio."""
    if data.kind == "audio":
        return (), ()
    counts = np.zeros((data.shape[0], 256), dtype=np.int64)  # of each value: exact, and in little memory
    for start in range(0, len(rows), _SUMMED):
        block = data.inputs[rows[start : start + _SUMMED]]
        for channel, of in enumerate(counts):
            of += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    share = counts / counts.sum(1, keepdims=True)
    mean = share @ values
    std = np.sqrt(np.maximum(share @ values**2 - mean**2, 0))
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def _png(values: np.ndarray) -> str:
    """Write an image [3, h, w] of values in [0, 1], or a spectrogram [1, h, w], low frequencies at the bottom."""
    from PIL import Image

    if len(values) == 3:
        image = values.transpose(1, 2, 0) * 255
    else:
        low, high = values.min(), values.max()
        image = (values[0, ::-1] - low) / ((high - low) or 1.0) * 255
    buffer = io.BytesIO()
    Image.fromarray(np.clip(image.round(), 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
