"""Training and test examples in memory, ready for a network: what the loop asks for, by row numbers."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vicinal.lab.data import cifar, images, speech, toy
from vicinal.lab.data.augment import CropFlip
from vicinal.lab.data.download import VARIABLE
from vicinal.lab.data.pictures import Pictures
from vicinal.lab.errors import UserError
from vicinal.lab.train.recipe import Recipe
from vicinal.random import Key

_NOISE = 2**63 + 3  # stream of the label noise
_SPLIT_SEED = 0  # of a folder's parts, the same for every seed of a recipe


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples in memory.

    Args:
        inputs: uint8 pictures [n, c, h, w], or float32 features [n, ...].
        labels: int64 [n].
        classes: names.
        mean: of each channel, in the units of pictures in [0, 1]; empty for features, which are taken as they are.
        std: likewise.
        augment: pad, crop and flip of training pictures; None: none.

    """

    inputs: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: CropFlip | None = None

    def __len__(self) -> int:
        """Give the number of examples."""
        return len(self.labels)

    def batch(self, rows: Tensor, key: Key | None) -> tuple[Tensor, Tensor]:
        """Give inputs float32 and labels int64 of some rows; augmented by `key`, or as they are without one."""
        x, y = self.inputs.index_select(0, rows), self.labels.index_select(0, rows)
        if key is not None and self.augment is not None:
            x = self.augment(x, key)
        if not self.mean:
            return x, y
        mean, std = (torch.tensor(t, device=x.device).view(1, -1, 1, 1) for t in (self.mean, self.std))
        return (x.to(torch.float32) / 255).sub_(mean).div_(std), y

    def to(self, device: torch.device) -> Examples:
        """Give the same examples on a device."""
        return replace(self, inputs=self.inputs.to(device), labels=self.labels.to(device))


# of the training pictures, as the paper's code has them
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


def load(recipe: Recipe) -> tuple[Examples, Examples]:
    """Read a recipe's training and test examples; test labels are as published whatever the label noise.

    Raises:
        UserError: the data are not there or cannot be read.

    """
    train, test = _load(recipe.data)
    if recipe.examples is not None:
        if recipe.examples > len(train):
            raise UserError(f"examples={recipe.examples} of {len(train)} training examples: give a smaller number")
        train = replace(train, inputs=train.inputs[: recipe.examples], labels=train.labels[: recipe.examples])
    if recipe.test_examples is not None:
        if recipe.test_examples > len(test):
            raise UserError(f"test_examples={recipe.test_examples} of {len(test)} test examples: give a smaller number")
        test = replace(test, inputs=test.inputs[: recipe.test_examples], labels=test.labels[: recipe.test_examples])
    if not recipe.augment:
        train = replace(train, augment=None)
    if recipe.noise:
        train = replace(train, labels=corrupt(train.labels, len(train.classes), recipe.noise, recipe.seed))
    if recipe.channels_last and train.inputs.shape[1] == 3:
        train, test = (replace(e, inputs=e.inputs.contiguous(memory_format=torch.channels_last)) for e in (train, test))
    return train, test


def validation(recipe: Recipe) -> Examples:
    """Read the validation examples of a recipe's data, where they have such a part.

    Raises:
        UserError: the data have none, are not there, or cannot be read.

    """
    if recipe.data == "drawn-sounds":
        return Examples(*toy.sounds(40, seed=2), tuple("abcd"))
    if recipe.data not in speech.NAMES:
        raise UserError(f"{recipe.data} has no validation part; {', '.join(speech.NAMES)} have one")
    part = speech.load(recipe.data, seed=_speech_seed(recipe.data))[1]
    return Examples(part.features, part.labels, part.classes)


def _speech_seed(name: str) -> int | None:
    """Give the seed of the parts: the set without a version may be one of the published parts, then by speaker."""
    return _SPLIT_SEED if name == "speech-commands" else None


def _load(name: str) -> tuple[Examples, Examples]:
    if name in ("cifar10", "cifar100"):
        train, test = cifar.load(name)
        mean, std = _CIFAR10 if name == "cifar10" else _CIFAR100
        return _pictures(train, mean, std, CropFlip(4)), _pictures(test, mean, std, None)
    if name in speech.NAMES:
        sets = speech.load(name, seed=_speech_seed(name))
        train, _, test = (Examples(part.features, part.labels, part.classes) for part in sets)
        return train, test
    if name == "drawn-pictures":  # for quick runs
        train, test = (toy.pictures(n, seed=seed) for seed, n in enumerate((120, 40)))
        return _pictures(train, (0.5,) * 3, (0.25,) * 3, CropFlip(4)), _pictures(test, (0.5,) * 3, (0.25,) * 3, None)
    if name == "drawn-sounds":
        train, test = (Examples(*toy.sounds(n, seed=seed), tuple("abcd")) for seed, n in enumerate((80, 40)))
        return train, test
    for folder in (Path(name), Path(os.environ.get(VARIABLE, ".")) / name):
        if folder.is_dir():
            return _folder(folder)
    known = ", ".join(("cifar10", "cifar100", *speech.NAMES))
    raise UserError(f"there is no data set {name!r}: take {known}, or a folder, as it is or in that of {VARIABLE}")


def _pictures(
    pictures: Pictures, mean: tuple[float, ...], std: tuple[float, ...], augment: CropFlip | None
) -> Examples:
    return Examples(pictures.images, pictures.labels, pictures.classes, mean, std, augment)


def _folder(folder: Path) -> tuple[Examples, Examples]:
    """Read a folder with a sub-folder for each class, as 64 x 64 pictures; or one with train/ and val/ of that form."""
    if (folder / "train").is_dir() and (folder / "val").is_dir():
        files = images.scan(folder / "train")
        parts = files, images.scan(folder / "val", classes=files.classes)
    else:
        files = images.scan(folder)
        parts = images.split(files, _SPLIT_SEED)[::2]  # training and test
    train, test = (images.load(part, size=64) for part in parts)
    shares = train.images.flatten(2).to(torch.float64) / 255
    mean, std = tuple(shares.mean((0, 2)).tolist()), tuple(shares.std((0, 2)).tolist())
    return _pictures(train, mean, std, CropFlip(8, fill="reflect")), _pictures(test, mean, std, None)


def corrupt(labels: Tensor, classes: int, share: float, seed: int) -> Tensor:
    """Give labels int64 [n] of which each is, with probability `share`, one of all classes at random (section 3.4)."""
    generator = Key(seed, 0, 0, 0, _NOISE).generator()
    chosen = torch.from_numpy(generator.random(len(labels)) < share)
    drawn = torch.from_numpy(generator.integers(0, classes, len(labels)))
    return torch.where(chosen, drawn, labels)


def corrupted(n: int, share: float, seed: int) -> Tensor:
    """Give which of n labels `corrupt` replaces, bool [n]: those whose random label is the true one count, too."""
    return torch.from_numpy(Key(seed, 0, 0, 0, _NOISE).generator().random(n) < share)
