"""Images read batch by batch, by threads that are a few batches ahead of the one that is used.

Threads decode straight into the batch: no copies between processes, and no processes to clean up. Decoders run without
Python's lock, so that several threads do decode at the same time. What comes is a function of the rows and the key that
are asked for: the number of threads and what else was read play no part.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vicinal.keyed import Key
from vicinal.lab import executor
from vicinal.lab.data.transforms import ChooseCrop, Pixels, Unreadable, decode
from vicinal.lab.errors import UserError

_CHUNK = 8  # images a thread does in one go
_AHEAD = 2  # batches that are being read while one is used


class Source(Protocol):
    """Encoded images with labels: `class_folder.ClassFiles`."""

    @property
    def labels(self) -> Tensor:
        """int64 [n], positions in `classes`."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        ...

    @property
    def name(self) -> str:
        """Short name, for titles."""
        ...

    def __len__(self) -> int: ...

    def read(self, row: int) -> bytes:
        """Return an encoded image; raises UserError."""
        ...

    def where(self, row: int) -> str:
        """Return its name, for messages."""
        ...

    def take(self, rows: Tensor) -> Source:
        """Return some of the images as a set of its own."""
        ...


class _Batch(NamedTuple):
    rows: Tensor
    key: Key | None
    images: Tensor
    work: list[Future[None]]


class Reader:
    """Fills batches of images.

    Args:
        source: where they are.
        size: height and width of what comes.
        choose: gives the crops; a pure function.
        threads: how many decode; by default one a core that this process may use, shared with torchrun's processes on
            this machine.
        pin: whether batches lie in page-locked memory, for copies to an accelerator that do not wait.

    """

    def __init__(
        self, source: Source, size: int, choose: ChooseCrop, *, threads: int | None = None, pin: bool = False
    ) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self._source, self._size, self._choose, self._pin = source, size, choose, pin
        self._pool = ThreadPoolExecutor(threads or _cores(), thread_name_prefix="images")
        self._close = weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        self._coming: Iterator[tuple[Tensor, Key | None]] = iter(())
        self._waiting: deque[_Batch] = deque()

    def expect(self, batches: Iterable[tuple[Tensor, Key | None]]) -> None:
        """Announce which batches will be asked for, in order; they are read ahead from the first of them on."""
        self._forget()
        self._coming = iter(batches)

    def batch(self, rows: Tensor, key: Key | None) -> Tensor:
        """Return the images of some rows, each cropped as the key decides.

        Args:
            rows: int64 [m] on the CPU.
            key: None for evaluation.

        Returns:
            uint8 [m, 3, size, size], channels_last.

        Raises:
            UserError: if one cannot be read; it is the first such one of these rows that is named.

        """
        self._read_ahead()
        batch = self._waiting.popleft() if self._waiting else None
        if batch is None or batch.key != key or not torch.equal(batch.rows, rows):  # another one than was expected
            self.expect(())
            batch = self._start(rows, key)
        self._read_ahead()  # go on while this one is waited for
        for part in batch.work:
            part.result()
        return batch.images

    def close(self) -> None:
        """End the threads, and wait for that."""
        self._forget()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _read_ahead(self) -> None:
        while len(self._waiting) < _AHEAD:
            following = next(self._coming, None)
            if following is None:
                return
            self._waiting.append(self._start(*following))

    def _start(self, rows: Tensor, key: Key | None) -> _Batch:
        images = torch.empty(
            (len(rows), 3, self._size, self._size),
            dtype=torch.uint8,
            memory_format=torch.channels_last,
            pin_memory=self._pin,
        )
        pixels, numbers = images.permute(0, 2, 3, 1).numpy(), rows.tolist()
        work = [
            self._pool.submit(_fill, self._source, numbers[i : i + _CHUNK], key, self._choose, pixels[i : i + _CHUNK])
            for i in range(0, len(numbers), _CHUNK)
        ]
        return _Batch(rows, key, images, work)

    def _forget(self) -> None:
        self._coming = iter(())
        for batch in self._waiting:
            for part in batch.work:
                part.cancel()
        self._waiting.clear()


def _fill(source: Source, rows: list[int], key: Key | None, choose: ChooseCrop, pixels: Pixels) -> None:
    for row, out in zip(rows, pixels, strict=True):
        content = source.read(row)
        try:
            out[:] = decode(content, functools.partial(choose, row, key), len(out))
        except Unreadable as e:
            raise UserError(f"{source.where(row)} is not an image that can be read ({e}): replace or remove it") from e


def _cores() -> int:
    return max(1, executor.cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
