"""The comparison on a folder of images or audio: one small model at a time, in as many processes as there are cores."""

from __future__ import annotations

import base64
import io
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vicinal._adamw import AdamW
from vicinal.keyed import Key
from vicinal.lab import executor, models
from vicinal.lab.compare import baselines, comparison, temperature
from vicinal.lab.compare.baselines import CONSTANT
from vicinal.lab.compare.classifier import Classifier
from vicinal.lab.compare.comparison import Comparison, OnEpoch, RunId
from vicinal.lab.compare.predictions import MeasuredRun, RunPredictions, predictions_of
from vicinal.lab.compare.results import (
    Curve,
    DataInfo,
    FolderInfo,
    Kind,
    MixedExample,
    ModelInfo,
    ReliabilityBins,
    RunRecord,
    Scores,
)
from vicinal.lab.compare.settings import FolderSettings
from vicinal.lab.data.class_folder import FolderDataset
from vicinal.lab.data.dataset import InMemoryDataset, channel_mean_std
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.splits import Split
from vicinal.lab.data.transforms import CropFlip
from vicinal.lab.errors import UserError
from vicinal.lab.streams import Stream
from vicinal.lab.training import simple
from vicinal.lab.training.scores import classification
from vicinal.target import MixedTarget
from vicinal.vicinity import Vicinity

_CURVE_ROWS = 500  # of the training examples, for learning curves
_TIMED = 3  # steps
_SHOWN = 6  # mixed examples in the report
_SUMMED = 1000  # examples whose mean and spread are summed at once


@dataclass(frozen=True)
class SeedData:
    """Examples of one seed, and which of them are for what; positions are int64."""

    noisy: InMemoryDataset
    clean: InMemoryDataset  # with the labels they had before label noise
    train: Tensor
    validation: Tensor
    test: Tensor


@dataclass(frozen=True)
class FolderComparison(Comparison[FolderDataset, FolderSettings]):
    """A comparison on images or audio."""

    data: FolderDataset
    settings: FolderSettings

    @property
    def kind(self) -> Kind:
        """Images or audio."""
        return self.data.kind

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps per epoch."""
        return simple.SimpleTraining("", 1, self.batch_size).batches(self.sizes[0])

    @property
    def training(self) -> simple.SimpleTraining:
        """How every run is trained."""
        s = self.settings
        patience = None if s.to_the_end else s.patience or self.epochs  # the best epoch of all, if none is given
        return simple.SimpleTraining(s.model, self.epochs, self.batch_size, s.learning_rate, s.weight_decay, patience)

    @property
    def _augment(self) -> CropFlip | None:
        augment = self.settings.augment
        if self.kind == "audio" or augment == "none":
            return None
        return CropFlip(self.data.shape[1] // 8, flip=augment == "flip", fill="reflect")

    def seed_data(self, seed: int) -> SeedData:
        """Split the examples and, where asked, corrupt their labels."""
        return self._prepared(self.split(seed), seed)

    def _prepared(self, rows: Split, seed: int) -> SeedData:
        labels = self.data.target
        if self.settings.label_noise:
            known = np.concatenate([rows.train, rows.validation])
            labels = corrupt_labels(labels, len(self.data.classes), self.settings.label_noise, seed, rows=known)
        common = self.data.classes, *_scales(self.data, rows.train), self._augment
        noisy, clean = (
            InMemoryDataset(self.data.tensor, torch.from_numpy(y), *common) for y in (labels, self.data.target)
        )
        return SeedData(noisy, clean, *map(torch.from_numpy, (rows.train, rows.validation, rows.test)))

    def data_info(self) -> DataInfo:
        """Return what results.json says of the folder."""
        data = self.data
        return DataInfo(
            name=data.name,
            kind=data.kind,
            task=self.task,
            source=data.source,
            examples=len(data),
            sha256=self.data_digest,
            target="class",
            classes=list(data.classes),
            class_counts=np.bincount(data.target, minlength=self.classes).tolist(),
            folder=FolderInfo(data.shape, data.notes),
        )

    def model_info(self) -> ModelInfo:
        """Return what results.json says of the model and its training."""
        name = self.settings.model
        parameters = sum(p.numel() for p in models.build(name, self.classes, self.data.shape).parameters())
        augment = None if self._augment is None else self.settings.augment
        return ModelInfo(name, [], parameters, "AdamW", "cosine", augment)

    def sample_batch(self) -> tuple[Tensor, Tensor]:
        """Return a batch of seed 0's training examples."""
        seed = self.seed_data(0)
        return seed.noisy.batch(seed.train[: self.batch_size], None)

    def check(self) -> None:
        """Refuse a model or methods that cannot be used on these data, before anything is trained.

        Raises:
            UserError: naming the model or method and its objection.

        """
        seed, name = self.seed_data(0), self.settings.model
        rows = seed.train[: self.batch_size]
        try:
            model = simple.init_model(self.training, seed.noisy, 0)
            found = list(simple.outputs(model, seed.noisy, rows).shape)
        except UserError:
            raise
        except Exception as error:  # a model's code may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            shape = ", ".join(map(str, self.data.shape))
            advice = ": more --seconds or a larger --size make them larger" if self.kind == "audio" else ""
            raise UserError(f"the model {name!r} cannot take {self.kind} [n, {shape}] ({reason}){advice}") from error
        if found != [len(rows), self.classes]:
            raise UserError(
                f"the model {name!r} gives {found} for {len(rows)} {self.noun} of {self.classes} classes; it must give "
                f"{[len(rows), self.classes]}"
            )
        super().check()

    def chunks(self, missing: Sequence[RunId], processes: int) -> list[list[RunId]]:
        """Return each run on its own: what is finished is kept at once."""
        return [[run] for run in missing]

    def train(self, runs: Sequence[RunId], on_epoch: OnEpoch = lambda runs: None) -> list[MeasuredRun]:
        """Train and measure some runs, one after the other."""
        return [
            _constant(self, seed) if name == CONSTANT else _FolderRun(self, seed, on_epoch).train(name)
            for name, seed in runs
        ]

    def refit(self, method: str, epochs: int) -> dict[str, np.ndarray] | None:
        """Train a method on all examples for `epochs` of the epochs of its runs, and return the state of its model.

        None where training diverged.
        """
        of, method_ = self._prepared(self._whole, 0), self.method(method)
        training = replace(self.training, weight_decay=method_.weight_decay, patience=None)
        model, _ = simple.train(training, of.noisy, of.train, method_.parsed, 0, stop_epoch=epochs)
        return comparison.finite_state(model.state_dict(), simple.outputs(model, of.noisy, of.train))

    @property
    def _whole(self) -> Split:
        """All examples, for training."""
        rows = np.arange(len(self.data))
        return Split(rows, rows[:0], rows[:0])

    def save_model(self, path: Path, state: dict[str, np.ndarray], about: dict[str, Any]) -> str:
        """Write a `Classifier`, and return the lines of Python that use it."""
        data, name = self.data, self.settings.model
        model = models.build(name, self.classes, data.shape)
        model.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
        scales = _scales(data, self._whole.train)
        Classifier(model, name, data.kind, data.shape, data.classes, *scales, about, data.seconds).save(path)
        module, _, factory = name.partition(":")
        own, argument = (f"from {module} import {factory}\n", f", model={factory}") if factory else ("", "")
        file = "new.jpg" if data.kind == "images" else "new.wav"
        option = f" --model {name}" if factory else ""
        return (
            f"# in a shell: vicinal predict {shlex.quote(path.parent.as_posix())} {file}{option}\n"
            f"from vicinal.lab.compare.classifier import Classifier\n{own}"
            f"classifier = Classifier.load({path.as_posix()!r}{argument})\n"
            f'print(classifier.predict(["{file}"]))'
        )

    def limitations(self) -> list[str]:
        """Return what these data and this training leave open."""
        if self.kind == "audio":
            return [
                "Audio of one speaker or source may be in training and test alike, so that the error on others may be "
                "higher."
            ]
        lines = [
            f"One model, {self.settings.model}, was trained on small images; larger ones, or longer training, may answer "
            "otherwise."
        ]
        if self._augment is not None:
            changed = "shifted and mirrored" if self.settings.augment == "flip" else "shifted"
            lines.append(f"Training images were {changed} at random for all methods; no other augmentation was tried.")
        return lines

    def estimate_seconds(self, runs: int, processes: int) -> float:
        """Measure the first steps, and estimate how long `runs` runs take."""
        seed, training = self.seed_data(0), self.training
        rows = seed.train[: training.batch_size]
        step = min(_step_seconds(training, seed.noisy, rows, self.networks[-1].parsed))
        measured = len(comparison.curve_points(training.epochs)) * (_CURVE_ROWS + len(seed.validation)) + len(self.data)
        # evaluating an example takes about a third of training on it
        steps = training.epochs * self.steps_per_epoch + measured / len(rows) / 3
        return step * steps * runs / min(processes, runs)

    def mixed_examples(self, method: str) -> list[MixedExample]:
        """Return some training examples of seed 0 as a method mixes them."""
        seed, vicinity = self.seed_data(0), self.method(method).parsed
        std = torch.tensor(seed.clean.std or [1]).view(-1, 1, 1)
        mean = torch.tensor(seed.clean.mean or [0]).view(-1, 1, 1)
        size, shown = self.batch_size, []
        for step in range(_SHOWN):
            rows = seed.train[step * size :][:size]
            x, y = seed.clean.batch(rows if len(rows) > 1 else seed.train[:size], None)
            plan = vicinity.plan(len(y), y, x, step=step, epoch=0, seed=0, rank=0, worker=0)
            target = plan.target(y)
            mixture = self._mixture(target) if isinstance(target, MixedTarget) else self.data.classes[int(y[0])]
            shown.append(MixedExample(_png((plan(x)[0] * std + mean).numpy()), mixture))
        return shown

    def _mixture(self, target: MixedTarget) -> str:
        """Return what the first example is a mixture of, as "0.70 cat + 0.30 dog"."""
        weights: dict[str, float] = {}
        for label, weight in zip(target.ids[:, 0].tolist(), target.weight[:, 0].tolist(), strict=True):
            name = self.data.classes[label]
            weights[name] = weights.get(name, 0.0) + weight
        shown = [(name, weight) for name, weight in weights.items() if round(weight, 2) > 0]
        return " + ".join(f"{weight:.2f} {name}" for name, weight in sorted(shown, key=lambda one: -one[1]))


class _FolderRun:
    """A run of one seed, trained and measured."""

    def __init__(self, study: FolderComparison, seed: int, on_epoch: OnEpoch) -> None:
        self.study, self.seed, self.on_epoch = study, seed, on_epoch
        self.data = study.seed_data(seed)
        self.points = comparison.curve_points(study.epochs)
        self.curve: Curve = {}
        self.measuring = 0.0  # seconds

    def train(self, method: str) -> MeasuredRun:
        """Train with a method; return the record, and its predictions."""
        data, start, of = self.data, time.perf_counter(), self.study.method(method)
        training = replace(self.study.training, weight_decay=of.weight_decay)
        model, epoch = simple.train(
            training, data.noisy, data.train, of.parsed, self.seed, self._after_epoch, self._score
        )
        seconds = time.perf_counter() - start - self.measuring
        test = _measure(model, data.clean, data.test, detail=True)
        bins = ReliabilityBins(**test.pop("reliability"))
        train, validation = _measure(model, data.clean, data.train), self._validate(model)
        perturbed = self._perturbed(model)
        scores, of_it = (train, validation, test, perturbed), (self.curve, bins, self._temperature(model))
        record = RunRecord(method, self.seed, seconds, epoch, *scores, *of_it)
        return MeasuredRun(record, self._predict(model))

    def _predict(self, model: nn.Module) -> RunPredictions:
        rows = self.data.test
        logits = simple.outputs(model, self.data.clean, rows)
        return predictions_of(rows.numpy(), logits, self.data.clean.labels[rows])

    def _temperature(self, model: nn.Module) -> float:
        rows = self.data.validation
        logits = simple.outputs(model, self.data.noisy, rows)
        return temperature.fitted(logits.numpy(), self.data.noisy.labels[rows].numpy())

    def _validate(self, model: nn.Module) -> Scores:
        return _measure(model, self.data.noisy, self.data.validation)

    def _score(self, model: nn.Module) -> float:
        return self._validate(model)["nll"]

    def _after_epoch(self, epoch: int, model: nn.Module) -> None:
        if epoch in self.points:
            start = time.perf_counter()
            train = _measure(model, self.data.noisy, self.data.train[:_CURVE_ROWS])
            comparison.add_point(self.curve, epoch, train, self._validate(model))
            self.measuring += time.perf_counter() - start
        self.on_epoch(1)

    def _perturbed(self, model: nn.Module) -> Scores | None:
        """Measure on test inputs with noise added to what is standardized."""
        deviation, data = self.study.settings.input_noise, self.data
        if deviation is None:
            return None
        generator = Key(self.seed, 0, 0, 0, Stream.INPUT_NOISE).generator()
        noise = generator.standard_normal((len(data.test), *self.study.data.shape), dtype=np.float32)
        return _measure(model, data.clean, data.test, torch.from_numpy(noise) * deviation)


def _constant(study: FolderComparison, seed: int) -> MeasuredRun:
    """Return the constant answer by the shares of the training examples, with its scores."""
    of = study.seed_data(seed)
    known = of.noisy.labels[of.train].numpy()

    def predict(rows: Tensor) -> np.ndarray:
        return baselines.constant(known, study.classes, len(rows))

    def scores(data: InMemoryDataset, rows: Tensor) -> dict[str, Any]:
        return classification(torch.from_numpy(predict(rows)).log()[None], data.labels[rows], True)[0]

    parts = {"train": (of.clean, of.train), "validation": (of.noisy, of.validation), "test": (of.clean, of.test)}
    parts |= {} if study.settings.input_noise is None else {"perturbed": parts["test"]}
    record = baselines.record(CONSTANT, seed, 0.0, {part: scores(*rows) for part, rows in parts.items()})
    p, labels = predict(of.test), of.clean.labels[of.test].numpy()
    nll = baselines.nll_of(p, labels)
    return MeasuredRun(record, RunPredictions(of.test.numpy(), p.astype(np.float32), nll))


def _measure(
    model: nn.Module, of: InMemoryDataset, rows: Tensor, noise: Tensor | None = None, detail: bool = False
) -> dict[str, Any]:
    return classification(simple.outputs(model, of, rows, noise)[None], of.labels[rows], detail)[0]


def _step_seconds(
    training: simple.SimpleTraining, data: InMemoryDataset, rows: Tensor, vicinity: Vicinity
) -> list[float]:
    """Take a few steps as a worker does, by one thread; return the seconds of all but the first, which is slower."""
    with executor.one_thread():
        model = simple.init_model(training, data, 0).train()
        optimizer = AdamW(model.parameters(), 0.0)
        times = [time.perf_counter()]
        for step in range(1 + _TIMED):
            simple.train_step(model, optimizer, 0.0, data, rows, vicinity, Key(0, 0, 0, step), 0)
            times.append(time.perf_counter())
    return [end - start for start, end in pairwise(times[1:])]


def _scales(data: FolderDataset, rows: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of some images, in [0, 1]; nothing for audio."""
    if data.kind == "audio":
        return (), ()
    return channel_mean_std((data.tensor[part] for part in torch.from_numpy(rows).split(_SUMMED)), correction=0)


def _png(values: np.ndarray) -> str:
    """Return an image [3, h, w] of values in [0, 1], or a spectrogram [1, h, w], low frequencies at the bottom."""
    from PIL import Image

    if len(values) == 3:
        image = values.transpose(1, 2, 0) * 255
    else:
        low, high = values.min(), values.max()
        image = (values[0, ::-1] - low) / ((high - low) or 1.0) * 255
    buffer = io.BytesIO()
    Image.fromarray(np.clip(image.round(), 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
