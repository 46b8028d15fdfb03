"""The training and test examples of a recipe."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab.data import cifar, class_folder, images, speech_commands, synthetic
from vicinal.lab.data.class_folder import TRAIN, VAL, ClassFiles
from vicinal.lab.data.dataset import Data, ImageDataset, InMemoryDataset, StreamingDataset
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.splits import split_labels
from vicinal.lab.data.transforms import CropFlip, choose_central, choose_resized
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.streams import Stream

_SPLIT_SEED = 0  # of a folder's parts, the same for every seed of a recipe
_IN_MEMORY = 2 * 2**30  # bytes of a folder's images, of all parts together; of more, they are read in each epoch
_DRAWN = ("synthetic-images", "synthetic-audio")  # for quick runs
_SAMPLE = 4096  # images whose mean and standard deviation are taken


# of the training images, as the paper's code has them
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
# of ImageNet, as Goyal et al. and whoever follows them have them
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def load(recipe: Recipe) -> tuple[Data, Data]:
    """Read a recipe's training and test examples; test labels are as published whatever the label noise.

    Raises:
        UserError: the data are not there or cannot be read, or the recipe asks for what they are not.

    """
    train, test = _load(recipe)
    if recipe.max_train_examples is not None:
        if recipe.max_train_examples > len(train):
            raise UserError(
                f"max_train_examples={recipe.max_train_examples} of {len(train)} training examples: give a smaller number"
            )
        train = train.take(_some(len(train), recipe.max_train_examples))
    if recipe.max_test_examples is not None:
        test = test.take(_some(len(test), min(len(test), recipe.max_test_examples)))
    if not recipe.augment:
        train = replace(train, augment=None)
    if recipe.label_noise:
        labels = corrupt_labels(train.labels.numpy(), len(train.classes), recipe.label_noise, recipe.seed)
        train = replace(train, labels=torch.from_numpy(labels))
    return train, test


def decided_by(recipe: Recipe) -> dict[str, Any]:
    """Return what of a recipe decides its training examples, their labels and their inputs as they are, not augmented."""
    known = recipe.dataset in ("cifar10", "cifar100", *speech_commands.NAMES, *_DRAWN)
    fields = (
        ["dataset", "max_train_examples", "label_noise"]
        + ["seed"] * (recipe.label_noise > 0)
        + ["image_size", "crop"] * (not known)
    )
    return {name: getattr(recipe, name) for name in fields}


def validation(recipe: Recipe) -> InMemoryDataset:
    """Read the validation examples of a recipe's data, where they have such a part.

    Raises:
        UserError: the data have none, are not there, or cannot be read.

    """
    if recipe.dataset == "synthetic-audio":
        return InMemoryDataset(*synthetic.audio(40, seed=2), tuple("abcd"))
    if recipe.dataset not in speech_commands.NAMES:
        raise UserError(f"{recipe.dataset} has no validation part; {', '.join(speech_commands.NAMES)} have one")
    part = speech_commands.load(recipe.dataset, seed=_speech_seed(recipe.dataset))[1]
    return InMemoryDataset(part.features, part.labels, part.classes)


def _speech_seed(name: str) -> int | None:
    """Return the seed of the parts: the set without a version may be one of the published parts, then by speaker."""
    return _SPLIT_SEED if name == "speech-commands" else None


def _load(recipe: Recipe) -> tuple[Data, Data]:
    name = recipe.dataset
    if name == "imagenet":
        return _images(*images.imagenet(), recipe)
    of_a_kind = name in ("cifar10", "cifar100", *speech_commands.NAMES, *_DRAWN)
    for folder in () if of_a_kind else (Path(name), Path(os.environ.get(DATA_DIR_ENV, ".")) / name):
        if folder.is_dir():
            return _folder(folder, recipe)
    if not of_a_kind:
        known = ", ".join(("cifar10", "cifar100", "imagenet", *speech_commands.NAMES))
        raise UserError(
            f"there is no dataset {name!r}: take {known}, or a folder, as it is or in that of {DATA_DIR_ENV}"
        )
    _refuse_crop(recipe)
    if name == "synthetic-images":
        some, others = (synthetic.images(n, seed=seed) for seed, n in enumerate((120, 40)))
        return _in_memory(some, others, (0.5,) * 3, (0.25,) * 3, CropFlip(4), recipe)
    if name == "synthetic-audio":
        train, test = (
            InMemoryDataset(*synthetic.audio(n, seed=seed), tuple("abcd")) for seed, n in enumerate((80, 40))
        )
        return train, test
    if name in speech_commands.NAMES:
        sets = speech_commands.load(name, seed=_speech_seed(name))
        train, _, test = (InMemoryDataset(part.features, part.labels, part.classes) for part in sets)
        return train, test
    mean, std = _CIFAR10 if name == "cifar10" else _CIFAR100
    return _in_memory(*cifar.load(name), mean, std, CropFlip(4), recipe)


def _refuse_crop(recipe: Recipe) -> None:
    if recipe.crop != "random_crop":
        raise UserError(
            f"crop={recipe.crop} is for folders of images, which {recipe.dataset} is not: give crop=random_crop"
        )


def _in_memory(
    train: ImageDataset,
    test: ImageDataset,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    augment: CropFlip,
    recipe: Recipe,
) -> tuple[InMemoryDataset, InMemoryDataset]:
    form = torch.channels_last if recipe.channels_last and train.images.shape[1] == 3 else torch.contiguous_format
    first, second = (
        InMemoryDataset(part.images.contiguous(memory_format=form), part.labels, part.classes, mean, std, how)
        for part, how in ((train, augment), (test, None))
    )
    return first, second


def _folder(folder: Path, recipe: Recipe) -> tuple[Data, Data]:
    """Read a folder of classes (`class_folder`), or one with such train/ and val/ inside.

    It is trained on train/ and tested on val/; other parts are left out and named. Without parts, a fifth of each class
    is the test set, and a fifth is left for choices; audio of known speakers are parted by them.
    """
    parts = class_folder.parts(folder)
    if {TRAIN, VAL} <= set(parts):
        train = class_folder.scan(folder / TRAIN)
        test = class_folder.scan(folder / VAL, train=train)
        class_folder.warn_of_left_out(folder, {TRAIN: train, VAL: test})
    elif parts:
        raise UserError(
            f"'{folder}' holds {' and '.join(parts)}, but no {VAL} to test on"
            f": give one that name, or give '{folder / TRAIN}', of which a fifth is then the test set"
        )
    else:
        whole = class_folder.scan(folder)
        class_folder.warn_of_left_out(folder, {"": whole})
        by_speaker = speech_commands.speaker_parts(whole) if whole.kind == "audio" else None
        rows = split_labels(whole.labels, whole.classes, _SPLIT_SEED)
        train, test = by_speaker or (whole.take(torch.from_numpy(part)) for part in (rows.train, rows.test))
    if train.kind == "audio":
        _refuse_crop(recipe)
        features = (speech_commands.folder_features(part, progress=_say) for part in (train, test))
        first, second = (
            InMemoryDataset(x, part.labels, part.classes) for x, part in zip(features, (train, test), strict=True)
        )
        return first, second
    return _images(train, test, recipe)


def _say(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\rspectrograms: {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _images(train: ClassFiles, test: ClassFiles, recipe: Recipe) -> tuple[Data, Data]:
    """Cut and scale images as the recipe says, in memory where that can be and they fit."""
    size = recipe.image_size
    if recipe.crop == "random_resized_crop":
        mean, std = _IMAGENET
        augment, choose = None, choose_resized
    else:
        augment, choose = CropFlip(size // 8, fill="reflect"), choose_central
        if (len(train) + len(test)) * 3 * size**2 <= _IN_MEMORY:
            held = images.load(train, size=size)
            mean, std = colors(held.images[_some(len(held), min(len(held), _SAMPLE))])
            return _in_memory(held, images.load(test, size=size), mean, std, augment, recipe)
        mean, std = colors(images.load(train.take(_some(len(train), min(len(train), _SAMPLE))), size=size).images)
    first, second = (
        StreamingDataset(part, part.labels, size, choose, mean, std, how, recipe.channels_last)
        for part, how in ((train, augment), (test, None))
    )
    return first, second


def colors(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation (of n - 1) of each channel of uint8 [n, c, h, w], as shares of 255.

    A channel that is the same everywhere gets the standard deviation 1.
    """
    means, deviations = [], []
    values = torch.arange(256, dtype=torch.float64) / 255
    for channel in images.unbind(1):
        counts = torch.zeros(256, dtype=torch.float64)  # exact, and small whatever the number of pixels
        for part in channel.split(256):
            counts += torch.bincount(part.flatten(), minlength=256)
        n = float(counts.sum())
        mean = float((counts * values).sum() / n)
        variance = float((counts * (values - mean) ** 2).sum()) / max(n - 1, 1)
        means.append(mean)
        deviations.append(variance**0.5 if int(counts.count_nonzero()) > 1 else 1.0)
    return tuple(means), tuple(deviations)


def _some(n: int, k: int) -> Tensor:
    """Choose k of n rows, the same ones always, in their order: examples of a folder are sorted by class."""
    return torch.from_numpy(Key(0, 0, 0, 0, Stream.SUBSET).generator().permutation(n)[:k]).sort().values
