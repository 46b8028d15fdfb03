"""Images read ahead by threads: what comes depends on the rows and the key alone."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vicinal.keyed import Key
from vicinal.lab.data import class_folder, loader
from vicinal.lab.data.loader import Reader
from vicinal.lab.data.transforms import Crop, central_crop, choose_central, choose_resized, decode, random_resized_crop
from vicinal.lab.errors import UserError
from vicinal.lab.streams import Stream


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> class_folder.ClassFiles:
    """37 images of two classes, each of its own size."""
    root = tmp_path_factory.mktemp("images")
    for i in range(37):
        generator = np.random.Generator(np.random.Philox(key=i))
        small = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        place = root / ("a" if i < 20 else "b")
        place.mkdir(exist_ok=True)
        small.resize((50 - i, 40 + i), Image.Resampling.BICUBIC).save(place / f"{i:02d}.jpg")
    return class_folder.scan(root)


def alone(files: class_folder.ClassFiles, row: int, crop: Crop, size: int) -> torch.Tensor:
    pixels = decode(files.read(row), lambda height, width: crop, size)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def test_a_batch_is_each_image_as_if_it_were_the_only_one(files: class_folder.ClassFiles) -> None:
    rows, key = torch.tensor([36, 0, 7, 7, 20, 3, 11, 35, 2, 1, 9]), Key(3, 5, 1, 2**31, 9)
    x = Reader(files, 24, choose_resized).batch(rows, key)
    assert (x.shape, x.dtype) == ((11, 3, 24, 24), torch.uint8)
    assert x.is_contiguous(memory_format=torch.channels_last)
    for row, image in zip(rows.tolist(), x, strict=True):
        width, height = Image.open(io.BytesIO(files.read(row))).size
        # of (seed, step, row): not of the rank, the worker or the place in the batch
        crop = random_resized_crop(height, width, Key(3, 0, 0, (2**31 << 32) + row, Stream.CROP).generator())
        assert torch.equal(image, alone(files, row, crop, 24))
    plain = Reader(files, 24, choose_resized).batch(rows[:2], None)
    assert torch.equal(plain[0], alone(files, 36, central_crop(76, 14, 224 / 256), 24))
    assert torch.equal(
        Reader(files, 24, choose_central).batch(rows[:1], key)[0], alone(files, 36, central_crop(76, 14, 1), 24)
    )


def test_threads_ranks_and_what_was_expected_change_nothing(files: class_folder.ClassFiles) -> None:
    order = [(rows, Key(0, 0, 0, step)) for step, rows in enumerate(torch.randperm(37, generator=g(1)).split(5))]
    plain = Reader(files, 16, choose_resized, threads=1)
    expected = [plain.batch(*batch) for batch in order]
    for threads in (1, 3):
        reader = Reader(files, 16, choose_resized, threads=threads)
        reader.expect(order)
        assert all(torch.equal(reader.batch(*batch), x) for batch, x in zip(order, expected, strict=True))
        reader.expect(order)
        for k in (0, 1, 4, 2, 3):  # something else than was said
            assert torch.equal(reader.batch(*order[k]), expected[k])
        reader.expect(order[3:])  # resumed
        assert torch.equal(reader.batch(*order[3]), expected[3])
        reader.expect(order)  # said again, in the middle
        assert torch.equal(reader.batch(*order[0]), expected[0])
        reader.close()
    for world in (2, 3):
        for (rows, key), x in zip(order, expected, strict=True):
            shares = [
                Reader(files, 16, choose_resized, threads=1).batch(share, key._replace(rank=rank))
                for rank, share in enumerate(rows.tensor_split(world))
            ]
            assert torch.equal(torch.cat(shares), x)
    other = plain.batch(order[0][0], Key(0, 0, 0, 1))
    assert not torch.equal(other, expected[0])


def g(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Slow:
    """Images of which the first batch waits until others have been read."""

    def __init__(self, files: class_folder.ClassFiles) -> None:
        self.files, self.read_rows, self.lock = files, [], threading.Lock()
        self.labels, self.classes, self.name = files.labels, files.classes, files.name

    def __len__(self) -> int:
        return len(self.files)

    def read(self, row: int) -> bytes:
        with self.lock:
            self.read_rows.append(row)
        return self.files.read(row)

    def where(self, row: int) -> str:
        return self.files.where(row)

    def take(self, rows: torch.Tensor) -> Slow:
        raise NotImplementedError


def test_the_next_batches_are_read_while_one_is_used(files: class_folder.ClassFiles) -> None:
    source = Slow(files)
    order = [(rows, None) for rows in torch.arange(36).split(6)]
    reader = Reader(source, 8, choose_central, threads=2)
    reader.expect(order)
    assert source.read_rows == []  # nothing before the first is asked for
    reader.batch(*order[0])
    end = time.monotonic() + 20
    while len(source.read_rows) < 18 and time.monotonic() < end:
        time.sleep(0.01)
    assert sorted(source.read_rows) == list(range(18))  # this one and two more, and then they wait
    for batch in order[1:]:
        reader.batch(*batch)
    assert sorted(source.read_rows) == list(range(36))  # each once
    reader.close()


def test_a_broken_image_is_named_and_the_first_of_them(files: class_folder.ClassFiles, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    for path in files.paths:
        (tmp_path / path).write_bytes((files.root / path).read_bytes())
    copy = class_folder.scan(tmp_path)
    for broken in ("a/12.jpg", "a/19.jpg", "b/30.jpg"):
        (tmp_path / broken).write_bytes(b"\xff\xd8 no picture")
    rows = torch.arange(37)
    for threads in (1, 4):
        reader = Reader(copy, 8, choose_resized, threads=threads)
        reader.expect([(rows[:10], None), (rows[10:], None)])
        assert reader.batch(rows[:10], None).shape == (10, 3, 8, 8)
        with pytest.raises(UserError, match=r"a/12\.jpg' is not an image that can be read \(.*\): replace or remove"):
            reader.batch(rows[10:], None)
        reader.close()


def test_threads_end_with_their_reader(files: class_folder.ClassFiles) -> None:
    others = set(threading.enumerate())  # those of other tests may end at any time

    def reading() -> int:
        return sum(thread.name.startswith("images") for thread in set(threading.enumerate()) - others)

    reader = Reader(files, 8, choose_central, threads=3)
    reader.expect([(rows, None) for rows in torch.arange(37).split(8)])
    reader.batch(torch.arange(8), None)
    assert reading() > 0
    del reader  # as when training ends by an exception
    end = time.monotonic() + 20
    while reading() and time.monotonic() < end:
        time.sleep(0.01)
    assert reading() == 0


def test_cores_are_shared_by_the_processes_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert loader._cores() == 16
    for processes, threads in ((8, 2), (5, 3), (32, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert loader._cores() == threads
