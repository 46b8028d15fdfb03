"""A trained model for images or audio with the preprocessing it needs, in one safetensors file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vicinal.lab import models
from vicinal.lab.compare import model_file
from vicinal.lab.compare.predictor import finite_outputs
from vicinal.lab.data import class_folder
from vicinal.lab.data.class_folder import Kind
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.errors import UserError
from vicinal.lab.records import Mismatch, from_json
from vicinal.lab.training import simple

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class _FilesHeader:
    """What a file says of a model of files besides its weights; older ones lack what has a default."""

    kind: Kind
    model: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    about: dict[str, Any]
    seconds: float = 1.0

    def check(self) -> None:
        """Refuse what no comparison writes.

        Raises:
            Mismatch: naming the field.

        """
        low, high = class_folder.SECONDS
        if not low <= self.seconds <= high:
            raise Mismatch(f"seconds must lie in [{low:g}, {high:g}], found {self.seconds}")
        if self.shape != class_folder.shape_of(self.kind, self.shape[1], self.seconds):
            raise Mismatch(f"shape cannot be {list(self.shape)} for {self.kind}")
        scales = len(self.mean), len(self.std)
        if scales != ((self.shape[0],) * 2 if self.kind == "images" else (0, 0)):
            raise Mismatch("mean and std do not fit the channels")
        if not all(map(math.isfinite, self.mean)) or not all(0 < std < math.inf for std in self.std):
            raise Mismatch("mean and std must be finite, and std above 0")
        if not 0 < len(self.classes) == len(set(self.classes)):
            raise Mismatch("classes must have names, each once")


class Classifier:
    """A trained model that classifies image or audio files.

    Args:
        model: the model.
        name: how it is built, as for `vicinal.lab.models.build`.
        kind: "images" or "audio".
        shape: channels, height and width of its inputs.
        classes: class names.
        mean: per channel of images in [0, 1]; empty for audio.
        std: likewise.
        about: what it was trained on and how, plain JSON values.
        seconds: of each clip of audio that are used.

    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        kind: Kind,
        shape: tuple[int, int, int],
        classes: tuple[str, ...],
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        about: dict[str, Any] | None = None,
        seconds: float = 1.0,
    ) -> None:
        self.model = model.eval()
        self.name, self.shape, self.classes = name, shape, classes
        self.kind: Kind = kind
        self.mean, self.std = mean, std
        self.about = about or {}
        self.seconds = seconds

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all."""
        names = ("kind", "shape", "classes", "mean", "std", "about", "seconds")
        model_file.write(path, self.model, {"model": self.name, **{name: getattr(self, name) for name in names}})

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: str | Callable[..., nn.Module] | None = None) -> Classifier:
        """Read a file that `save` wrote; no code in it, or named in it, is run.

        Args:
            path: the file.
            model: for one that was built by `package.module:factory`, that factory, or this text where importing it is
                meant; it is called with `num_classes` and, if it takes them, `channels` and `size`.

        Raises:
            UserError: there is no such file, it is not a classifier of this format, or it needs `model`.

        """
        header, state = model_file.read(path, "images", "audio")
        try:
            found: _FilesHeader = from_json(_FilesHeader, header)
            found.check()
            if model is None and found.model not in models.MODELS:
                raise UserError(f"{os.fspath(path)!r} was built by {found.model!r}: give it as model=, or --model")
            built = models.build_empty(model or found.model, len(found.classes), found.shape)
        except UserError:
            raise
        except (Mismatch, TypeError, ValueError, RuntimeError) as error:
            raise model_file.damaged(path, error) from error
        model_file.check_state(path, state, built.state_dict())
        built.load_state_dict(state, assign=True)
        scales = found.mean, found.std
        return cls(built, found.model, found.kind, found.shape, found.classes, *scales, found.about, found.seconds)

    def outputs(self, paths: Paths) -> Tensor:
        """Return the model's outputs float32 [n, C] for some files, or for one.

        Raises:
            UserError: naming those that cannot be read, and those whose outputs are no finite numbers.

        """
        paths = _listed(paths)
        if not paths:
            return torch.empty(0, len(self.classes))
        read = class_folder.read_files(self.kind, paths, self.shape[1], seconds=self.seconds)
        return self.outputs_of(read.whole(self.kind), paths)

    def outputs_of(self, inputs: np.ndarray, paths: Sequence[Path]) -> Tensor:
        """Return the model's outputs float32 [n, C] for what `class_folder.read_files` read of some files."""
        if not len(inputs):
            return torch.empty(0, len(self.classes))
        x = torch.from_numpy(inputs).permute(0, 3, 1, 2)
        rows = torch.arange(len(x))
        found = simple.outputs(self.model, InMemoryDataset(x, rows, self.classes, self.mean, self.std), rows)
        return finite_outputs(found, lambda i: repr(paths[i].as_posix()))

    def predict(self, paths: Paths) -> np.ndarray:
        """Return the predicted class names, [n]."""
        return np.array(self.classes)[self.outputs(paths).argmax(1).numpy()]

    def probabilities(self, paths: Paths) -> np.ndarray:
        """Return class probabilities float32 [n, C], in the order of `classes`."""
        return self.outputs(paths).softmax(1).numpy()


def _listed(paths: Paths) -> list[Path]:
    """Return one path, or several, as a list."""
    if isinstance(paths, str | os.PathLike):
        return [Path(paths)]
    try:
        return [Path(path) for path in paths]
    except TypeError as error:
        raise UserError(f"files are given by their paths, one or a list of them, got {type(paths).__name__}") from error
