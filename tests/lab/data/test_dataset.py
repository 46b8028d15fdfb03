"""Images decoded in this process or ahead by others: what comes depends on the rows and the key alone."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vicinal.keyed import Key
from vicinal.lab.data import class_folder, dataset
from vicinal.lab.data.dataset import Reader, _rows, channel_mean_std
from vicinal.lab.data.transforms import (
    Crop,
    center_crop,
    choose_center_crop,
    choose_random_resized_crop,
    decode,
    random_resized_crop,
)
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
    pixels = decode(files.path(row).read_bytes(), lambda height, width: crop, size)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def test_a_batch_is_each_image_as_if_it_were_the_only_one(files: class_folder.ClassFiles) -> None:
    rows, key = torch.tensor([36, 0, 7, 7, 20, 3, 11, 35, 2, 1, 9]), Key(3, 5, 1, 2**31, 9)
    x = Reader(files, 24, choose_random_resized_crop).batch(rows, key)
    assert (x.shape, x.dtype) == ((11, 3, 24, 24), torch.uint8)
    assert x.is_contiguous(memory_format=torch.channels_last)
    for row, image in zip(rows.tolist(), x, strict=True):
        width, height = Image.open(io.BytesIO(files.path(row).read_bytes())).size
        # of (seed, step, row): not of the rank, the worker or the place in the batch
        crop = random_resized_crop(height, width, Key(3, 0, 0, (2**31 << 32) + row, Stream.CROP).generator())
        assert torch.equal(image, alone(files, row, crop, 24))
    plain = Reader(files, 24, choose_random_resized_crop).batch(rows[:2], None)
    assert torch.equal(plain[0], alone(files, 36, center_crop(76, 14, 224 / 256), 24))
    assert torch.equal(
        Reader(files, 24, choose_center_crop).batch(rows[:1], key)[0], alone(files, 36, center_crop(76, 14, 1), 24)
    )


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode ahead however few images there are, by two processes."""
    monkeypatch.setattr(dataset, "_FEW", 0)
    monkeypatch.setattr(dataset, "share_of_cores", lambda: 2)


@pytest.mark.usefixtures("ahead")
def test_workers_ranks_and_what_was_expected_change_nothing(files: class_folder.ClassFiles) -> None:
    order = [(rows, Key(0, 0, 0, step)) for step, rows in enumerate(torch.randperm(37, generator=g(1)).split(5))]
    reader = Reader(files, 16, choose_random_resized_crop)
    expected = [reader.batch(*batch) for batch in order]
    assert not multiprocessing.active_children()
    reader.expect(order)
    found = [reader.batch(*batch) for batch in order]
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in found)
    reader.expect(order)
    for k in (0, 1, 4, 2, 3):  # something else than was said
        assert torch.equal(reader.batch(*order[k]), expected[k])
    reader.expect(order[3:])  # resumed
    assert torch.equal(reader.batch(*order[3]), expected[3])
    reader.expect(order)  # said again, in the middle
    assert torch.equal(reader.batch(*order[0]), expected[0])
    assert multiprocessing.active_children() == workers  # the same ones still
    del reader  # as when training ends by an exception
    assert not any(worker.is_alive() for worker in workers)
    for world in (2, 3):
        for (rows, key), x in zip(order, expected, strict=True):
            shares = [
                Reader(files, 16, choose_random_resized_crop).batch(share, key._replace(rank=rank))
                for rank, share in enumerate(rows.tensor_split(world))
            ]
            assert torch.equal(torch.cat(shares), x)
    other = Reader(files, 16, choose_random_resized_crop).batch(order[0][0], Key(0, 0, 0, 1))
    assert not torch.equal(other, expected[0])


def g(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.usefixtures("ahead")
def test_the_next_batches_are_decoded_while_one_is_used(
    files: class_folder.ClassFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = [(rows, None) for rows in torch.arange(36).split(4)]
    reader, before = Reader(files, 8, choose_center_crop), torch.get_rng_state()
    monkeypatch.setattr(dataset, "decode_files", None)  # not in this process
    reader.expect(order)
    assert len([reader.batch(*batch) for batch in order]) == 9
    assert torch.equal(torch.get_rng_state(), before)


def test_few_images_start_no_process(files: class_folder.ClassFiles) -> None:
    reader = Reader(files, 8, choose_center_crop)
    reader.expect([(torch.arange(5), None)])
    reader.batch(torch.arange(5), None)
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("ahead")
def test_a_broken_image_is_named_and_the_first_of_them(files: class_folder.ClassFiles, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    for path in files.paths:
        (tmp_path / path).write_bytes((files.root / path).read_bytes())
    copy = class_folder.scan(tmp_path)
    for broken in ("a/12.jpg", "a/19.jpg", "b/30.jpg"):
        (tmp_path / broken).write_bytes((tmp_path / broken).read_bytes()[:200])
    rows, says = torch.arange(37), set()
    reader = Reader(copy, 8, choose_random_resized_crop)
    for announced in ((), ((rows[:10], None), (rows[10:], None))):
        reader.expect(announced)
        assert reader.batch(rows[:10], None).shape == (10, 3, 8, 8)
        with pytest.raises(UserError, match=r"a/12\.jpg' is not an image that can be read \(.*\): replace or") as e:
            reader.batch(rows[10:], None)
        says.add(str(e.value))
    assert len(says) == 1  # by the same words from a worker


@pytest.mark.torture
@pytest.mark.usefixtures("ahead")
def test_a_worker_that_dies_is_told(files: class_folder.ClassFiles) -> None:
    reader, order = Reader(files, 8, choose_center_crop), [(rows, None) for rows in torch.arange(37).split(1)]
    reader.expect(order)
    reader.batch(*order[0])
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, signal.SIGKILL)
    says = r"a process that decodes images died \(.*\): rerun the same"
    with pytest.raises(UserError, match=says):
        _ = [reader.batch(*batch) for batch in order[1:]]
    reader.expect(order)
    with pytest.raises(UserError, match=says):
        reader.batch(*order[0])


READING = """
import contextlib, os, signal, sys, time, multiprocessing.util, torch
from vicinal.lab.data import class_folder, dataset
from vicinal.lab.data.transforms import choose_center_crop

def reading():
    dataset._FEW, dataset.share_of_cores = 0, lambda: 2
    reader = dataset.Reader(class_folder.scan(sys.argv[1]), 8, choose_center_crop)
    order = [(rows, None) for rows in torch.arange(37).split(1)]
    reader.expect(order)
    return reader, order
"""
PROGRAM = (
    READING
    + """
if __name__ == "__main__":
    reader, order = reading()
    reader.batch(*order[0])
    print(*[worker.pid for worker in multiprocessing.active_children()], flush=True)
    time.sleep(60)
"""
)


@pytest.mark.torture
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_command(files: class_folder.ClassFiles, tmp_path: Path, how: signal.Signals) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(files.root)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal does
        else:
            process.kill()
        process.wait(300)
        end = time.monotonic() + 300
        while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        assert process.stderr.read().count("Traceback") == (how == signal.SIGINT)  # the command's own


STARTING = (
    READING
    + """
def go_on():
    for worker in workers:
        while worker.is_alive():
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.kill(worker.pid, signal.SIGCONT)
            worker.join(0.1)

if __name__ == "__main__":
    multiprocessing.util.Finalize(None, go_on, exitpriority=0)  # called after those of what is shared later
    reader, _ = reading()
    decoded = iter(reader._loader)
    workers = multiprocessing.active_children()
    for worker in workers:
        os.kill(worker.pid, signal.SIGSTOP)
"""
)


@pytest.mark.torture
def test_a_command_that_ends_ends_workers_that_are_starting(files: class_folder.ClassFiles, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(STARTING)
    command = [sys.executable, str(program), str(files.root)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""


def test_cores_are_shared_by_the_processes_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_folder.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert class_folder.share_of_cores() == 16
    for processes, cores in ((8, 2), (5, 3), (32, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert class_folder.share_of_cores() == cores


def test_rows_keep_their_layout() -> None:
    x = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    rows = torch.tensor([1, 0, 1])
    for form in (torch.contiguous_format, torch.channels_last):
        found = _rows(x.contiguous(memory_format=form), rows)
        assert torch.equal(found, x[rows])
        assert found.is_contiguous(memory_format=form)


def test_mean_and_standard_deviation_of_channels() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(0, 256, (300, 3, 5, 4), generator=generator, dtype=torch.uint8)
    x[:, 2] = 7
    mean, std = channel_mean_std(x.split(70))
    shares = x.double().div(255).transpose(0, 1).flatten(1)
    np.testing.assert_allclose(mean, shares.mean(1), rtol=1e-12)
    np.testing.assert_allclose(std[:2], shares.std(1)[:2], rtol=1e-12)
    assert std[2] == 1.0
    of_n = channel_mean_std([x], correction=0)
    np.testing.assert_allclose(of_n[1][:2], shares.std(1, correction=0)[:2], rtol=1e-12)
    assert of_n[0] == mean
