"""Training and test examples, in memory or read while they are used: what the loop asks for, by row numbers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab.data import cifar, class_folder, images, speech_commands, synthetic
from vicinal.lab.data.class_folder import TRAIN, VAL
from vicinal.lab.data.dataset import ImageDataset
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.loader import Reader, Source
from vicinal.lab.data.splits import split_targets
from vicinal.lab.data.transforms import ChooseCrop, CropFlip, choose_central, choose_resized
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.streams import Stream

_SPLIT_SEED = 0  # of a folder's parts, the same for every seed of a recipe
_IN_MEMORY = 2 * 2**30  # bytes of a folder's images, of all parts together; of more, they are read in each epoch
_CPU = torch.device("cpu")
_DRAWN = ("synthetic-images", "synthetic-audio")  # for quick runs
_SAMPLE = 4096  # images whose mean and standard deviation are taken

Batches = Iterable[tuple[Tensor, Key | None]]  # rows and keys, as `batch` takes them
Scale = tuple[Tensor, Tensor]  # mean and standard deviation, [1, c, 1, 1] each, on the device of the examples


@dataclass(frozen=True, eq=False)
class InMemoryDataset:
    """Examples in memory.

    Args:
        inputs: uint8 images [n, c, h, w], or float32 features [n, ...].
        labels: int64 [n].
        classes: names.
        mean: of each channel, in the units of images in [0, 1]; empty for features, which are taken as they are.
        std: likewise.
        augment: pad, crop and flip of training images; None: none.

    """

    inputs: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: CropFlip | None = None
    _scale: Scale | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_scale", _scale(self.mean, self.std, self.device) if self.mean else None)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.inputs.shape[1:])

    def expect(self, batches: Batches) -> None:
        """Do nothing: all data are in memory."""

    def batch(self, rows: Tensor, key: Key | None) -> tuple[Tensor, Tensor]:
        """Return inputs float32 and labels int64 of some rows; augmented by `key`, or as they are without one."""
        rows = rows.to(self.inputs.device)
        x, y = _rows(self.inputs, rows), self.labels.index_select(0, rows)
        if key is not None and self.augment is not None:
            x = self.augment(x, key)
        return (x if self._scale is None else _normalised(x, self._scale)), y

    def pixels(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs as they are held, of images uint8 [n, c, h, w], and labels int64 of some rows."""
        rows = rows.to(self.device)
        return _rows(self.inputs, rows), self.labels.index_select(0, rows)

    @property
    def device(self) -> torch.device:
        """Where the examples are."""
        return self.labels.device

    def take(self, rows: Tensor) -> InMemoryDataset:
        """Return some of the examples as a set of its own."""
        return replace(self, inputs=_rows(self.inputs, rows), labels=self.labels[rows])

    def to(self, device: torch.device) -> InMemoryDataset:
        """Return the same examples on a device."""
        return replace(self, inputs=self.inputs.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, eq=False)
class StreamingDataset:
    """Images that stay where they are and are decoded when they are used, a few batches ahead (`stream.Reader`).

    A batch goes to the device as bytes and is augmented and normalized there. It is a function of the rows and the key,
    the same as `Examples` gives where both can.

    Args:
        source: the encoded images.
        labels: int64 [n], on the CPU; the source's own but for noise.
        size: height and width.
        choose: which part of an image is scaled to that.
        mean: of each channel, in the units of images in [0, 1].
        std: likewise.
        augment: pad, crop and flip of what was scaled, in training; None: none.
        channels_last: memory format of a batch.
        device: where batches come to lie.

    """

    source: Source
    labels: Tensor
    size: int
    choose: ChooseCrop
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: CropFlip | None = None
    channels_last: bool = True
    device: torch.device = _CPU
    _reader: Reader = field(init=False, repr=False)
    _scale: Scale = field(init=False, repr=False)

    def __post_init__(self) -> None:
        reader = Reader(self.source, self.size, self.choose, pin=self.device.type == "cuda")
        object.__setattr__(self, "_reader", reader)
        object.__setattr__(self, "_scale", _scale(self.mean, self.std, self.device))

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.source.classes

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return (3, self.size, self.size)

    def expect(self, batches: Batches) -> None:
        """Prefetch the batches that will be asked for, in order: they are read ahead."""
        self._reader.expect(batches)

    def batch(self, rows: Tensor, key: Key | None) -> tuple[Tensor, Tensor]:
        """Return inputs float32 and labels int64 of some rows, int64 on the CPU; as `Examples.batch` does.

        Raises:
            UserError: an image cannot be read.

        """
        rows = rows.cpu()
        x = self._reader.batch(rows, key).to(self.device, non_blocking=True)
        if not self.channels_last:
            x = x.contiguous()
        if key is not None and self.augment is not None:
            x = self.augment(x, key)
        return _normalised(x, self._scale), self.labels[rows].to(self.device)

    def pixels(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images uint8 [n, c, h, w] and labels int64 of some rows, as `Examples.pixels` does."""
        return self._reader.batch(rows, None).to(self.device), self.labels[rows].to(self.device)

    def take(self, rows: Tensor) -> StreamingDataset:
        """Return some of the examples as a set of its own."""
        return replace(self, source=self.source.take(rows), labels=self.labels[rows])

    def to(self, device: torch.device) -> StreamingDataset:
        """Return the same examples for a device."""
        return replace(self, device=device)


Data: TypeAlias = InMemoryDataset | StreamingDataset


def _rows(inputs: Tensor, rows: Tensor) -> Tensor:
    """Return some rows, channels_last if the inputs are: of such, `index_select` gives the other layout, slowly."""
    if inputs.ndim == 4 and not inputs.is_contiguous() and inputs.is_contiguous(memory_format=torch.channels_last):
        return inputs.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    return inputs.index_select(0, rows)


def _scale(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> Scale:
    """Put mean and standard deviation on a device once: in each batch, that would be a copy a step."""
    shift, scale = (torch.tensor(t, dtype=torch.float32, device=device).view(1, -1, 1, 1) for t in (mean, std))
    return shift, scale


def _normalised(x: Tensor, scale: Scale) -> Tensor:
    return (x.to(torch.float32) / 255).sub_(scale[0]).div_(scale[1])


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
        rows = split_targets(whole.labels.numpy(), len(whole.classes), _SPLIT_SEED)
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


def _images(train: Source, test: Source, recipe: Recipe) -> tuple[Data, Data]:
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
