"""The training and test examples of a recipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab.data import audio, cifar, class_folder, folder_layout, speech_commands, synthetic
from vicinal.lab.data.class_folder import TRAIN, VAL, ClassFiles
from vicinal.lab.data.dataset import Data, InMemoryDataset, StreamingDataset, channel_mean_std
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.splits import split_targets
from vicinal.lab.data.transforms import CropFlip, choose_center_crop, choose_random_resized_crop
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.streams import Stream

_SPLIT_SEED = 0  # of a folder's parts, the same for every seed of a recipe
_IN_MEMORY = 2 * 2**30  # bytes of a folder's images, of all parts together; of more, they are read in each epoch
_SAMPLE = 4096  # images whose mean and standard deviation are taken
_BLOCK = 256  # of them at a time

Scales = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each channel
# of the training images, as the paper's code has them
_CIFAR10: Scales = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_CIFAR100: Scales = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
# of ImageNet, as Goyal et al. and whoever follows them have them
_IMAGENET: Scales = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


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
        train = train.select(_some(len(train), recipe.max_train_examples))
    if recipe.max_test_examples is not None:
        test = test.select(_some(len(test), recipe.max_test_examples))
    if not recipe.augment:
        train = replace(train, augment=None)
    if recipe.label_noise:
        labels = corrupt_labels(train.labels.numpy(), len(train.classes), recipe.label_noise, recipe.seed)
        train = replace(train, labels=torch.from_numpy(labels))
    return train, test


def decided_by(recipe: Recipe) -> dict[str, Any]:
    """Return what of a recipe decides its training examples, their labels and their inputs as they are, not augmented."""
    fields = (
        ["dataset", "max_train_examples", "label_noise"]
        + (["seed"] if recipe.label_noise else [])
        + ([] if _is_fixed(recipe.dataset) else ["image_size", "crop"])
    )
    return {name: getattr(recipe, name) for name in fields}


def validation(recipe: Recipe) -> InMemoryDataset:
    """Read the validation examples of a recipe's data, where they have such a part.

    Raises:
        UserError: the data have none, are not there, or cannot be read.

    """
    if recipe.dataset == "synthetic-audio":
        return _synthetic_audio(40, seed=2)
    if recipe.dataset not in speech_commands.NAMES:
        raise UserError(f"{recipe.dataset} has no validation part; {', '.join(speech_commands.NAMES)} have one")
    return _speech_parts(recipe)[1]


def _load(recipe: Recipe) -> tuple[Data, Data]:
    name = recipe.dataset
    if name in _DATASETS:
        if _is_fixed(name):
            _refuse_crop(recipe)
        return _DATASETS[name](recipe)
    for folder in (Path(name), Path(os.environ.get(DATA_DIR_ENV, ".")) / name):
        if folder.is_dir():
            return _folder(folder, recipe)
    known = ", ".join(known for known in _DATASETS if not known.startswith("synthetic"))
    raise UserError(f"there is no dataset {name!r}: take {known}, or a folder, as it is or in that of {DATA_DIR_ENV}")


def _is_fixed(name: str) -> bool:
    """Return True for inputs of one size, whatever a recipe says."""
    return name in _DATASETS and name != "imagenet"


def _refuse_crop(recipe: Recipe) -> None:
    if recipe.crop != "random_crop":
        raise UserError(
            f"crop={recipe.crop} is for folders of images, which {recipe.dataset} is not: give crop=random_crop"
        )


# -- datasets by their names -------------------------------------------------------------------------------------------


def _cifar(recipe: Recipe) -> tuple[Data, Data]:
    scales = _CIFAR10 if recipe.dataset == "cifar10" else _CIFAR100
    return _in_memory(*cifar.load(recipe.dataset), scales, CropFlip(4), recipe)


def _imagenet(recipe: Recipe) -> tuple[Data, Data]:
    return _images(*class_folder.imagenet(), recipe)


def _speech(recipe: Recipe) -> tuple[Data, Data]:
    train, _, test = _speech_parts(recipe)
    return train, test


def _speech_parts(recipe: Recipe) -> tuple[InMemoryDataset, InMemoryDataset, InMemoryDataset]:
    # the set without a version may be one of the published parts: then its parts are by speaker
    return speech_commands.load(recipe.dataset, seed=_SPLIT_SEED if recipe.dataset == "speech-commands" else None)


def _synthetic_images(recipe: Recipe) -> tuple[Data, Data]:
    train, test = synthetic.images(120, seed=0), synthetic.images(40, seed=1)
    return _in_memory(train, test, ((0.5,) * 3, (0.25,) * 3), CropFlip(4), recipe)


def _synthetic_audio(n: int, seed: int) -> InMemoryDataset:
    return InMemoryDataset(*synthetic.audio(n, seed=seed), tuple("abcd"))


_DATASETS: dict[str, Callable[[Recipe], tuple[Data, Data]]] = {
    "cifar10": _cifar,
    "cifar100": _cifar,
    "imagenet": _imagenet,
    **dict.fromkeys(speech_commands.NAMES, _speech),
    **dict.fromkeys(speech_commands.FOLDS, lambda recipe: speech_commands.load_fold(recipe.dataset)),
    "synthetic-images": _synthetic_images,  # these two for quick runs
    "synthetic-audio": lambda recipe: (_synthetic_audio(80, seed=0), _synthetic_audio(40, seed=1)),
}


def _in_memory(
    train: InMemoryDataset, test: InMemoryDataset, scales: Scales, augment: CropFlip, recipe: Recipe
) -> tuple[InMemoryDataset, InMemoryDataset]:
    form = torch.channels_last if recipe.channels_last and train.shape[0] == 3 else torch.contiguous_format
    mean, std = scales
    first, second = (
        replace(part, inputs=part.inputs.contiguous(memory_format=form), mean=mean, std=std, augment=how)
        for part, how in ((train, augment), (test, None))
    )
    return first, second


# -- folders -----------------------------------------------------------------------------------------------------------


def _folder(folder: Path, recipe: Recipe) -> tuple[Data, Data]:
    """Read a folder of classes (`class_folder`), or one with such train/ and val/ inside.

    It is trained on train/ and tested on val/; other parts are left out and named. Without parts, a fifth of each class
    is the test set, and a fifth is left for choices; audio of known speakers are parted by them.
    """
    parts = folder_layout.parts(folder)
    named = {part.lower(): part for part in parts}
    if {TRAIN, VAL} <= set(named):
        train = class_folder.scan(folder / named[TRAIN])
        test = class_folder.scan(folder / named[VAL], train=train)
        class_folder.warn_of_left_out(folder, train, test)
    elif parts:
        of = next(filter(folder_layout.is_training, parts), parts[0])
        raise UserError(
            f"'{folder}' holds {' and '.join(parts)}, but no {VAL} to test on"
            f": name two of them {TRAIN} and {VAL}, or give '{folder / of}', of which a fifth is then the test set"
        )
    else:
        whole = class_folder.scan(folder)
        class_folder.warn_of_left_out(folder, whole)
        by_speaker = speech_commands.split_by_speaker(whole) if whole.kind == "audio" else None
        rows = split_targets(whole.labels.numpy(), len(whole.classes), _SPLIT_SEED)
        train, test = by_speaker or (whole.select(rows.train), whole.select(rows.test))
    if train.kind == "images":
        return _images(train, test, recipe)
    _refuse_crop(recipe)
    return _audio(train), _audio(test)


def _audio(files: ClassFiles) -> InMemoryDataset:
    features = audio.cached_spectrograms(files.full_paths, files.name, progress=_say)
    return InMemoryDataset(features, files.labels, files.classes)


def _say(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\rspectrograms: {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _images(train: ClassFiles, test: ClassFiles, recipe: Recipe) -> tuple[Data, Data]:
    """Cut and scale images as the recipe says, in memory where that can be and they fit."""
    size = recipe.image_size
    if recipe.crop == "random_resized_crop":
        (mean, std), augment, choose = _IMAGENET, None, choose_random_resized_crop
    else:
        augment, choose, sample = CropFlip(size // 8, fill="reflect"), choose_center_crop, _some(len(train), _SAMPLE)
        if (len(train) + len(test)) * 3 * size**2 <= _IN_MEMORY:
            first, second = (
                InMemoryDataset(class_folder.read_images(part.full_paths, size), part.labels, part.classes)
                for part in (train, test)
            )
            return _in_memory(first, second, _scales(first.inputs[sample]), augment, recipe)
        mean, std = _scales(class_folder.read_images(train.select(sample).full_paths, size))
    return (
        StreamingDataset(train, train.labels, size, choose, mean, std, augment, recipe.channels_last),
        StreamingDataset(test, test.labels, size, choose, mean, std, None, recipe.channels_last),
    )


def _scales(images: Tensor) -> Scales:
    return channel_mean_std(images.split(_BLOCK))


def _some(n: int, k: int) -> Tensor:
    """Choose k of n rows, all if there are fewer, always the same, in their order: a folder's are sorted by class."""
    return torch.from_numpy(Key(0, 0, 0, 0, Stream.SUBSET).generator().permutation(n)[:k]).sort().values
