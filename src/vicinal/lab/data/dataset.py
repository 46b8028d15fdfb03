"""Examples by row numbers, in memory or decoded while they are used: what the readers return and training takes."""

from __future__ import annotations

import functools
import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vicinal.keyed import Key
from vicinal.lab import executor
from vicinal.lab.data.class_folder import ClassFiles, ImageFile, decode_files, share_of_cores
from vicinal.lab.data.transforms import ChooseCrop, CropFlip
from vicinal.lab.errors import UserError

Batches = Iterable[tuple[Tensor, Key | None]]  # rows and keys, as `batch` takes them

_FEW = 200  # images that are decoded sooner than worker processes start


class _Examples(ABC):
    """What examples in memory and examples in files have in common: labels, and what is done to their images."""

    labels: Tensor  # int64 [n], on the device where batches come to lie
    mean: tuple[float, ...]  # of each channel, in the units of images in [0, 1]; empty for features, taken as they are
    std: tuple[float, ...]
    augment: CropFlip | None  # pad, crop and flip of training images

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where batches come to lie."""
        return self.labels.device

    def batch(self, rows: Tensor, key: Key | None) -> tuple[Tensor, Tensor]:
        """Return inputs float32 and labels int64 of some rows; augmented by `key`, or as they are without one.

        Raises:
            UserError: an image cannot be read.

        """
        x = self._inputs(rows, key)
        if key is not None and self.augment is not None:
            x = self.augment(x, key)
        if self.mean:
            x = (x.to(torch.float32) / 255).sub_(self._scales[0]).div_(self._scales[1])
        return x, self._labels(rows)

    def pixels(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs as they are held, of images uint8 [n, c, h, w], and labels int64 of some rows."""
        return self._inputs(rows, None), self._labels(rows)

    @abstractmethod
    def _inputs(self, rows: Tensor, key: Key | None) -> Tensor:
        """Return inputs of some rows as they are held or decoded, on the device."""

    def _labels(self, rows: Tensor) -> Tensor:
        return self.labels.index_select(0, rows.to(self.device))

    @cached_property
    def _scales(self) -> list[Tensor]:
        """Mean and standard deviation [1, c, 1, 1] on the device, once: in each batch, that would be a copy a step."""
        return [
            torch.tensor(t, dtype=torch.float32, device=self.device).view(1, -1, 1, 1) for t in (self.mean, self.std)
        ]


@dataclass(frozen=True, eq=False)
class InMemoryDataset(_Examples):
    """Examples in memory."""

    inputs: Tensor  # uint8 images [n, c, h, w], or float32 features [n, ...]
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: CropFlip | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.inputs.shape[1:])

    def expect(self, batches: Batches) -> None:
        """Do nothing: all data are in memory."""

    def _inputs(self, rows: Tensor, key: Key | None) -> Tensor:
        return _rows(self.inputs, rows.to(self.device))

    def select(self, rows: Tensor) -> InMemoryDataset:
        """Return some of the examples as a set of its own."""
        return replace(self, inputs=_rows(self.inputs, rows), labels=self.labels[rows])

    def to(self, device: torch.device) -> InMemoryDataset:
        """Return the same examples on a device."""
        return replace(self, inputs=self.inputs.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, eq=False)
class StreamingDataset(_Examples):
    """Images that stay in their files and are decoded when they are used, the batches that are announced ahead of it.

    A batch goes to the device as bytes and is augmented and normalized there. It is a function of the rows and the key,
    the same as that of an `InMemoryDataset` where both can be.
    """

    files: ClassFiles
    labels: Tensor  # the files' own but for noise
    size: int  # height and width
    choose: ChooseCrop  # which part of an image is scaled to that
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: CropFlip | None = None
    channels_last: bool = True  # memory format of a batch

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.files.classes

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return (3, self.size, self.size)

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.files, self.size, self.choose, pin=self.device.type == "cuda")

    def expect(self, batches: Batches) -> None:
        """Announce the batches that will be asked for, in order: they are decoded ahead."""
        self._reader.expect(batches)

    def _inputs(self, rows: Tensor, key: Key | None) -> Tensor:
        x = self._reader.batch(rows.cpu(), key).to(self.device, non_blocking=True)
        return x if self.channels_last else x.contiguous()

    def select(self, rows: Tensor) -> StreamingDataset:
        """Return some of the examples as a set of its own."""
        return replace(self, files=self.files.select(rows), labels=self.labels[rows])

    def to(self, device: torch.device) -> StreamingDataset:
        """Return the same examples for a device."""
        return replace(self, labels=self.labels.to(device))


Data: TypeAlias = InMemoryDataset | StreamingDataset


def _rows(inputs: Tensor, rows: Tensor) -> Tensor:
    """Return some rows, channels_last if the inputs are: of such, `index_select` gives the other layout, slowly."""
    if inputs.ndim == 4 and not inputs.is_contiguous() and inputs.is_contiguous(memory_format=torch.channels_last):
        return inputs.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    return inputs.index_select(0, rows)


def channel_mean_std(batches: Iterable[Tensor], correction: int = 1) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of uint8 [n, c, h, w], as shares of 255.

    A channel that is the same everywhere gets the standard deviation 1.

    Args:
        batches: the images, some at a time.
        correction: the variance is divided by the number of pixels less this.

    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for counts in functools.reduce(torch.add, map(_histograms, batches)).double():  # exact, and small
        n = float(counts.sum())
        mean = float((counts * values).sum() / n)
        variance = float((counts * (values - mean) ** 2).sum()) / max(n - correction, 1)
        means.append(mean)
        deviations.append(variance**0.5 if int(counts.count_nonzero()) > 1 else 1.0)
    return tuple(means), tuple(deviations)


def _histograms(images: Tensor) -> Tensor:
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])


# -- batches decoded ahead of their use --------------------------------------------------------------------------------


class Reader:
    """Batches of images: those that were announced are decoded ahead by worker processes, others when asked for.

    What comes is a function of the rows and the key, whoever decodes it.

    Args:
        files: the images.
        size: height and width of what comes.
        choose: gives the crops; a pure function at the top of a module.
        pin: whether what was announced lies in page-locked memory, for copies to an accelerator that do not wait.

    """

    def __init__(self, files: ClassFiles, size: int, choose: ChooseCrop, *, pin: bool = False) -> None:
        self._files, self._size, self._choose, self._pin = files, size, choose, pin
        self._announced = _Announced()
        self._known: Iterator[tuple[Tensor, Key | None]] = iter(())
        self._next: tuple[Tensor, Key | None] | None = None
        self._decoded: Iterator[Tensor | UserError] | None = None

    def expect(self, batches: Batches) -> None:
        """Announce which batches will be asked for, in order; of few images, none is decoded ahead."""
        if len(self._files) < _FEW:
            return
        self._known, coming = itertools.tee(batches)
        files = self._files  # a generator that knew this reader would keep it, and its workers, alive
        self._announced.batches = ((files.numbered(rows), key) for rows, key in coming)
        self._next, self._decoded = next(self._known, None), None

    def batch(self, rows: Tensor, key: Key | None) -> Tensor:
        """Return the images of some rows, int64 [m] on the CPU, each cropped as the key decides; None: for evaluation.

        Returns:
            uint8 [m, 3, size, size], channels_last.

        Raises:
            UserError: if one cannot be read; it is the first such one of these rows that is named.

        """
        if self._next is None or self._next[1] != key or not torch.equal(self._next[0], rows):
            with ThreadPoolExecutor(share_of_cores()) as pool:
                return decode_files(self._files.numbered(rows), key, self._size, self._choose, pool.map)
        self._next = next(self._known, None)
        try:
            if self._decoded is None:
                self._decoded = iter(self._loader)
            found = next(self._decoded)
        except (RuntimeError, OSError, EOFError) as error:  # of what passes batches between processes
            if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
                raise
            raise UserError(
                f"a process that decodes images died ({error}): rerun the same command to resume"
            ) from error
        if isinstance(found, UserError):
            raise found
        return found

    @cached_property
    def _loader(self) -> DataLoader[Tensor | UserError]:
        return DataLoader(
            _Decoder(self._size, self._choose),
            batch_size=None,
            sampler=self._announced,
            num_workers=share_of_cores(),
            persistent_workers=True,
            pin_memory=self._pin,
            multiprocessing_context=executor.start(),
            worker_init_fn=_end_with_parent,
            generator=torch.Generator(),  # it draws a seed that nothing here uses: not from the default generator
        )


class _Announced:
    """What a DataLoader takes for its sampler: the files and keys of the batches announced last."""

    batches: Iterable[tuple[list[ImageFile], Key | None]] = ()

    def __iter__(self) -> Iterator[tuple[list[ImageFile], Key | None]]:
        return iter(self.batches)


class _Decoder(Dataset[Tensor | UserError]):
    """What a worker process holds; it is told the files with each batch."""

    def __init__(self, size: int, choose: ChooseCrop) -> None:
        self._size, self._choose = size, choose

    def __getitem__(self, batch: tuple[list[ImageFile], Key | None]) -> Tensor | UserError:
        try:
            return decode_files(*batch, self._size, self._choose)
        except UserError as error:  # if it were raised, the DataLoader would make a traceback of its sentence
            return error


def _end_with_parent(worker: int) -> None:
    threading.Thread(target=executor.end_with_parent, daemon=True).start()
