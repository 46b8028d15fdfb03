from __future__ import annotations

import pickle
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vicinal.lab.data import cifar
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.errors import UserError

Data = Callable[[str], Path]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the published sets have 20 (CIFAR-10) and 200 (CIFAR-100) images a file."""
    sizes = {"cifar10": 20, "cifar100": 200}
    small = {name: replace(cifar._SETS[name], per_file=n, per_test=n) for name, n in sizes.items()}
    monkeypatch.setattr(cifar, "_SETS", small)


def example(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.Generator(np.random.Philox(key=[seed, n]))
    return generator.permutation(n) % classes, generator.integers(0, 256, (n, 3072), dtype=np.uint8)


def write_ten(root: Path, *, python: bool = False, protocol: int = 2) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    folder = root / ("cifar-10-batches-py" if python else "cifar-10-batches-bin")
    folder.mkdir(parents=True)
    made = {}
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        labels, images = made[name] = example(20, 10, i)
        if python:
            batch = {"batch_label": name, "labels": labels.tolist(), "data": images, "filenames": ["a.png"] * 20}
            (folder / name).write_bytes(pickle.dumps(batch, protocol))
        else:
            (folder / f"{name}.bin").write_bytes(np.column_stack([labels.astype(np.uint8), images]).tobytes())
    return made


def write_hundred(root: Path, *, python: bool = False) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    folder = root / ("cifar-100-python" if python else "cifar-100-binary")
    folder.mkdir(parents=True)
    made = {}
    for i, name in enumerate(["train", "test"]):
        fine, images = made[name] = example(200, 100, i)
        if python:
            batch = {b"fine_labels": fine.tolist(), b"coarse_labels": (fine // 5).tolist(), b"data": images}
            (folder / name).write_bytes(pickle.dumps(batch, 4))
        else:
            columns = [(fine // 5).astype(np.uint8), fine.astype(np.uint8), images]
            (folder / f"{name}.bin").write_bytes(np.column_stack(columns).tobytes())
    return made


def check_ten(root: Path, made: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    train, test = cifar.load("cifar10", root)
    labels, images = zip(*(made[f"data_batch_{i}"] for i in range(1, 6)), strict=True)
    assert train.labels.tolist() == np.concatenate(labels).tolist()
    assert torch.equal(train.inputs, torch.from_numpy(np.concatenate(images).reshape(-1, 3, 32, 32)))
    assert test.labels.tolist() == made["test_batch"][0].tolist()
    assert torch.equal(test.inputs, torch.from_numpy(made["test_batch"][1].reshape(-1, 3, 32, 32)))
    assert train.classes[3] == "cat"


# ---- the published sets


@pytest.mark.slow
def test_cifar10_as_published(real_data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = real_data("cifar10")
    (tmp_path / "cifar-10-batches-py").symlink_to(root / "cifar-10-batches-py")
    monkeypatch.setenv(DATA_DIR_ENV, str(tmp_path))
    train, test = cifar.load("cifar10")  # the pickles
    assert (train.inputs.shape, test.inputs.shape) == ((50000, 3, 32, 32), (10000, 3, 32, 32))
    assert torch.bincount(train.labels).tolist() == [5000] * 10
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    assert train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]  # a frog, two trucks, a deer, ...
    assert test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert train.inputs[0, :, 0, 0].tolist() == [59, 62, 63]
    mean = train.inputs.sum(dim=(0, 2, 3)) / (50000 * 1024 * 255)
    assert mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-5)  # as everybody normalizes
    names = cifar.unpickle((root / "cifar-10-batches-py" / "batches.meta").read_bytes())["label_names"]
    assert tuple(names) == train.classes
    if (root / "cifar-10-batches-bin").is_dir():
        for part, other in zip((train, test), cifar.load("cifar10", root), strict=True):
            assert torch.equal(part.inputs, other.inputs)
            assert torch.equal(part.labels, other.labels)


@pytest.mark.slow
def test_cifar100_as_published(real_data: Data) -> None:
    try:
        root = real_data("cifar100")
    except subprocess.CalledProcessError:
        pytest.skip("no archive to unpack CIFAR-100 from")
    train, test = cifar.load("cifar100", root)
    assert torch.bincount(train.labels).tolist() == [500] * 100
    assert torch.bincount(test.labels).tolist() == [100] * 100
    names = cifar.unpickle((root / "cifar-100-python" / "meta").read_bytes())["fine_label_names"]
    assert tuple(names) == train.classes


# ---- the versions


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("protocol", [2, 3, 4])  # 2 is the published one
def test_python_version(tmp_path: Path, protocol: int) -> None:
    check_ten(tmp_path, write_ten(tmp_path, python=True, protocol=protocol))


@pytest.mark.usefixtures("small")
def test_binary_version(tmp_path: Path) -> None:
    made = write_ten(tmp_path)
    check_ten(tmp_path, made)
    write_ten(tmp_path / "other", python=True)
    shutil.move(tmp_path / "other" / "cifar-10-batches-py", tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"not read, since the binary version is there")
    check_ten(tmp_path, made)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("python", [False, True])
def test_cifar100(tmp_path: Path, python: bool) -> None:
    made = write_hundred(tmp_path, python=python)
    train, test = cifar.load("cifar100", tmp_path)
    assert train.labels.tolist() == made["train"][0].tolist()
    assert test.labels.tolist() == made["test"][0].tolist()
    assert torch.equal(train.inputs, torch.from_numpy(made["train"][1].reshape(-1, 3, 32, 32)))
    assert len(train.classes) == 100
    assert train.classes[0] == "apple"


# ---- what is not there, or not right


def test_absent_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_DIR_ENV, raising=False)
    with pytest.raises(UserError) as caught:
        cifar.load("cifar10")
    assert str(caught.value) == (
        "CIFAR-10 is not part of this program: put the folder cifar-10-batches-bin (or cifar-10-batches-py) into DIR "
        "and set the environment variable VICINAL_DATA to DIR"
    )
    monkeypatch.setenv(DATA_DIR_ENV, str(tmp_path))
    with pytest.raises(UserError) as caught:
        cifar.load("cifar100")
    assert str(caught.value) == (
        f"CIFAR-100 is not in '{tmp_path}': unpack cifar-100-binary.tar.gz, from "
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz, there, so that the folder cifar-100-binary appears"
    )
    with pytest.raises(UserError, match="'cifar11' is not one of the CIFAR sets: choose one of cifar10, cifar100"):
        cifar.load("cifar11")


@pytest.mark.usefixtures("small")
def test_wrong_files(tmp_path: Path) -> None:
    write_ten(tmp_path)
    folder = tmp_path / "cifar-10-batches-bin"
    kept = (folder / "data_batch_3.bin").read_bytes()
    (folder / "data_batch_3.bin").write_bytes(kept[:-1])
    with pytest.raises(UserError, match=r"data_batch_3\.bin' has 61459 bytes where 61460 were published: unpack"):
        cifar.load("cifar10", tmp_path)
    (folder / "data_batch_3.bin").write_bytes(b"\x0a" + kept[1:])
    with pytest.raises(UserError, match=r"3\.bin' gives image 0 the label 10 where there are 10 classes"):
        cifar.load("cifar10", tmp_path)
    (folder / "data_batch_3.bin").write_bytes(bytes([(kept[0] + 1) % 10]) + kept[1:])
    with pytest.raises(UserError, match=r"the training images of CIFAR-10 are (9|11) times '\w+' where 10 were"):
        cifar.load("cifar10", tmp_path)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(UserError, match=r"CIFAR-10 lacks cifar-10-batches-bin/data_batch_3\.bin in"):
        cifar.load("cifar10", tmp_path)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda b: b.pop("data"), "is not a published batch ('data'): unpack"),
        (lambda b: b.pop("labels"), "('labels')"),
        (lambda b: b.update(data=b["data"][:, :-1]), "'data' is not 20 images of 3072 bytes"),
        (lambda b: b.update(data=b["data"].astype(np.float32)), "'data' does not hold uint8"),
        (lambda b: b.update(data=b["data"].view(np.int8)), "'data' does not hold uint8"),
        (lambda b: b.update(data=b["data"].astype(object)), "'data' does not hold uint8"),
        (lambda b: b.update(data=b["data"].tolist()), "'data' is not an array"),
        (lambda b: b.update(labels=b["labels"][:-1]), "the labels are not a list of 20 small numbers"),
        (lambda b: b.update(labels=[True] * 20), "the labels are not a list of 20 small numbers"),
        (lambda b: b.update(labels=[2**80] * 20), "the labels are not a list of 20 small numbers"),
        (lambda b: b.update(labels=[10] * 20), "gives image 0 the label 10 where there are 10 classes"),
        (lambda b: b.update({7: 8}), "a key that is not text"),
        (lambda b: b.update(data=b["data"].tobytes().decode("latin-1")), "'data' is not an array"),
    ],
)
def test_batches_that_were_not_published(tmp_path: Path, change: Change, sentence: str) -> None:
    write_ten(tmp_path, python=True)
    labels, images = example(20, 10, 0)
    batch = {"labels": labels.tolist(), "data": images}
    change(batch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(batch, 2))
    with pytest.raises(UserError) as caught:
        cifar.load("cifar10", tmp_path)
    assert sentence in str(caught.value)
    assert "data_batch_1'" in str(caught.value)


@pytest.mark.usefixtures("small")
def test_column_order(tmp_path: Path) -> None:
    made = write_ten(tmp_path, python=True)
    labels, images = made["test_batch"]
    batch = {"labels": labels.tolist(), "data": np.asfortranarray(images)}
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(batch, 2))
    check_ten(tmp_path, made)


# ---- pickles that mean harm


class Runs:
    """What unpickles by calling a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def refused(data: bytes) -> str:
    with pytest.raises(cifar._Refused) as caught:
        cifar.unpickle(data)
    return str(caught.value)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_run(tmp_path: Path, protocol: int) -> None:
    touched = tmp_path / "touched"
    for harm in (Runs(touched.touch), Runs(exec, f"open({str(touched)!r}, 'w')"), Runs(np.load, str(touched))):
        data = pickle.dumps({"data": harm}, protocol)
        assert "which no data need" in refused(data)
    assert not touched.exists()
    system = b"cos\nsystem\n(S'touch " + str(touched).encode() + b"'\ntR."
    assert refused(system) == "it asks for os.system, which no data need"
    assert not touched.exists()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "damaged"),
        (b"N.", "it holds no dict"),
        (b"}", "damaged"),  # no end
        (b".", "damaged"),
        (b"\xff", "damaged"),
        (b"}h\x05.", "damaged"),  # what was never stored
        (b"}s.", "damaged"),
        (b"}(K\x01u.", "damaged"),
        (b"}K\x01K\x01s.", "a key that is not text"),
        (b"}(U\x01au.", "damaged"),  # a key without its value
        (b"]U\x01aU\x01bs.", "damaged"),  # a list changed as if it were a dict
        (b"}U\x01aa.", "damaged"),  # a dict changed as if it were a list
        (b"}}b.", "damaged"),  # a dict with a state
        (b"}(b.", "damaged"),  # beyond the mark
        (b"U\x01a)R.", "damaged"),  # a text called
        (b"cnumpy\nndarray\n)R)R.", "damaged"),  # an array called
        (b"cnumpy\nndarray\n}b.", "damaged"),  # a class with a state
        (b"cnumpy\nload\n.", "it asks for numpy.load"),
        (b"cnumpy\nndarray.dump\n.", "it asks for numpy.ndarray.dump"),
        (b"cbuiltins\neval\n.", "it asks for builtins.eval"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "it asks for os.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.", "it asks for numpy.ndarray.__init__"),
        (b"\x80\x04KA\x8c\x06system\x93.", "damaged"),
        (b"(S'a'\nios\nsystem\n.", "it has the instruction INST"),
        (b"(cnumpy\ndtype\no.", "it has the instruction OBJ"),
        (b"cnumpy\ndtype\n)\x81.", "it holds no dict"),
        (b"Pfile\n.", "damaged"),
        (b"\x82\x01.", "damaged"),  # an extension
        (b"\x97.", "damaged"),  # a buffer from elsewhere
        (b"\x8e" + struct.pack("<Q", 2**62) + b"abc.", "damaged"),
        (b"T" + struct.pack("<i", -5) + b".", "damaged"),
        (b"X" + struct.pack("<I", 2**31) + b"abc.", "damaged"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged"),
    ],
)
def test_hostile_pickles(data: bytes, sentence: str) -> None:
    assert sentence in refused(data)


def test_one_text_is_not_copied_many_times() -> None:
    # 100,000 calls that would each make a megabyte
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x00"
    call = b"c_codecs\nencode\nq\x01h\x00U\x06latin1\x86q\x02R"
    rest = b"h\x01h\x02R" * 100_000
    result = cifar.unpickle(b"}U\x01a](" + text + call + rest + b"es.")
    assert len(result["a"]) == 100_002


@pytest.mark.usefixtures("small")
def test_damage_at_any_place_is_refused_or_harmless(tmp_path: Path) -> None:
    """Whatever one byte is changed to, the answer is a sentence, or images."""
    write_ten(tmp_path, python=True)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    good = path.read_bytes()
    start = good.index(b"numpy") - 200
    generator = np.random.Generator(np.random.Philox(key=1))
    places = [*range(40), *range(start, start + 400), *range(len(good) - 300, len(good))]
    outcomes = {"read": 0, "refused": 0}
    for place in places:
        data = bytearray(good)
        data[place] = int(generator.integers(256))
        path.write_bytes(data if place % 3 else data[:place])
        try:
            cifar._read_python(cifar._SETS["cifar10"], path, 20)
            outcomes["read"] += 1
        except UserError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 300
    assert outcomes["read"] > 20  # file names, and bytes changed to what they were


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    write_ten(tmp_path, python=True)
    with open(tmp_path / "cifar-10-batches-py" / "data_batch_1", "wb") as file:
        file.truncate(1 << 29)  # no blocks on the disk
    with pytest.raises(UserError, match=r"data_batch_1' has 536870912 bytes, more than was published"):
        cifar.load("cifar10", tmp_path)
