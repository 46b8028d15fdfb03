"""Tar shards: the images of a folder, at any row, without unpacking."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vicinal.lab import cli
from vicinal.lab.data import class_folder, shards
from vicinal.lab.errors import UserError


def image(seed: int) -> bytes:
    out = io.BytesIO()
    generator = np.random.Generator(np.random.Philox(key=seed))
    Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for part, counts in (("train", (7, 4, 6)), ("val", (2, 1, 2))):
        for c, n in zip(("ant", "bee", "cat"), counts, strict=True):
            (tmp_path / "set" / part / c).mkdir(parents=True)
            for i in range(n):
                suffix = ".JPG" if i == 1 else ".jpeg"
                (tmp_path / "set" / part / c / f"{i}{suffix}").write_bytes(image(i + 100 * ord(c[0]) + len(part)))
    return tmp_path / "set"


def tar(path: Path, members: dict[str, bytes | None], form: int = tarfile.USTAR_FORMAT) -> None:
    """None: a symbolic link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            member.size = len(content or b"")
            file.addfile(member, io.BytesIO(content or b""))


def test_shards_hold_what_the_folder_held(images: Path, tmp_path: Path) -> None:
    told = []
    assert shards.write(images, tmp_path / "out", shard_bytes=6000, progress=lambda *n: told.append(n)) == 22
    assert told == [(n, 22) for n in range(1, 23)]
    for part in ("train", "val"):
        files, packed = class_folder.scan(images / part), shards.scan(tmp_path / "out" / part)
        assert len(packed.shards) > 1
        assert packed.classes == files.classes == ("ant", "bee", "cat")
        assert packed.labels.tolist() == files.labels.tolist()
        assert [packed.read(i) for i in range(len(packed))] == [files.read(i) for i in range(len(files))]
    packed = shards.scan(tmp_path / "out" / "train")
    some = packed.take([16, 3, 3])
    assert [some.read(i) for i in range(3)] == [packed.read(i) for i in (16, 3, 3)]
    assert some.labels.tolist() == [2, 0, 0]
    assert packed.where(1) == f"'00000001.jpg' in '{tmp_path / 'out' / 'train' / '000000.tar'}'"
    with tarfile.open(tmp_path / "out" / "train" / "000000.tar") as file:  # as any program sees it
        assert file.getnames()[:4] == ["00000000.jpeg", "00000000.cls", "00000001.jpg", "00000001.cls"]
        assert {(m.mtime, m.uid, m.uname) for m in file} == {(0, 0, "")}
    shards.write(images, tmp_path / "again", shard_bytes=6000)
    names = sorted(p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.tar"))
    assert all((tmp_path / "out" / n).read_bytes() == (tmp_path / "again" / n).read_bytes() for n in names)


def test_the_index_is_made_once_and_checked(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards.write(images, tmp_path / "out", shard_bytes=6000)
    place = tmp_path / "out" / "train"
    made, original = [], shards._index

    def index(path: Path, number: int) -> dict[str, np.ndarray]:
        made.append(path.name)
        return original(path, number)

    monkeypatch.setattr(shards, "_index", index)
    first = shards.scan(place)
    assert made == []  # `write` made it
    content = (place / "index.npz").read_bytes()
    for damage in (content[:200], b"", content.replace(b"size", b"sise"), content[:-300] + b"\0" * 300):
        (place / "index.npz").write_bytes(damage)
        made.clear()
        again = shards.scan(place)
        assert made == list(first.shards)
        assert (place / "index.npz").read_bytes() == content
        assert again.offset.tolist() == first.offset.tolist()
    made.clear()
    os.utime(place / "000000.tar", (1, 1))
    shards.scan(place)
    assert made == list(first.shards)

    # another shard of the same size and date
    path = place / "000000.tar"
    about, bytes_ = path.stat(), bytearray(path.read_bytes())
    bytes_[int(first.offset[1]) - 512] ^= 1  # the member's name
    path.write_bytes(bytes_)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    changed = shards.scan(place)
    assert changed.read(0) == first.read(0)
    with pytest.raises(UserError, match=r"000000\.tar' is not as it was when '.*index\.npz' was made: remove that ind"):
        changed.read(1)
    path.write_bytes(bytes_[: int(first.offset[0]) + 5])
    with pytest.raises(UserError, match="is not as it was"):
        first.read(0)
    path.unlink()
    with pytest.raises(UserError, match=r"000000\.tar' cannot be read \(No such file"):
        first.read(0)


def test_an_index_that_cannot_be_kept_is_told(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards.write(images, tmp_path / "out")
    (tmp_path / "out" / "val" / "index.npz").unlink()

    def full(path: Path, content: bytes) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(shards.whole_files, "write", full)
    with pytest.warns(
        UserWarning, match=r"index\.npz' cannot be written \(Read-only file system\): the shards are ind"
    ):
        assert len(shards.scan(tmp_path / "out" / "val")) == 5


def test_shards_of_other_programs(tmp_path: Path) -> None:
    long = "deep/" * 30 + "x"  # longer than ustar's names: another header lies before the member's own
    members = {
        "b/7.seg.png": b"another part of the sample",
        "b/7.cls": b"1\n",
        "b/7.jpg": b"seven",
        "b/7.json": b"{}",
        "c/7.PNG": b"other seven",
        "c/7.cls": b"0",
        f"{long}.webp": b"long",
        f"{long}.cls": b"2",
    }
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        place = tmp_path / str(form)
        tar(place / "b.tar", members, form)
        tar(place / "a.tar", {"z.cls": b"2", "z.jpg": b"z"})
        found = shards.scan(place)
        assert found.classes == ("0", "1", "2")
        assert found.labels.tolist() == [2, 1, 0, 2]
        assert [found.read(i) for i in range(4)] == [b"z", b"seven", b"other seven", b"long"]
        (place / "classes.txt").write_text("zero\none\ntwo\nthree\n")
        assert shards.scan(place).classes == ("zero", "one", "two", "three")
        assert shards.scan(place, classes=("zero", "one", "two", "three")).labels.tolist() == [2, 1, 0, 2]
        with pytest.raises(UserError, match="and its training part do not have the same classes"):
            shards.scan(place, classes=("zero", "one", "two"))
        (place / "classes.txt").write_text("zero\none\n")
        with pytest.raises(UserError, match=r"a \.cls in '.*' holds 2, but there are 2 classes: mend 'classes\.txt'"):
            shards.scan(place)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"a.jpg": b"x"}, r"s\.tar' holds 'a\.jpg' without a \.cls beside it: add its class's number"),
        ({"a.jpg": b"x", "a.png": b"x", "a.cls": b"1"}, r"two images of one key, such as 'a\.png'"),
        ({"a.jpg": b"x", "a.cls": b"dog"}, r"'a\.cls' in '.*' holds 'dog': it must hold the number of a class"),
        ({"a.jpg": b"x", "a.cls": b"-1"}, r"holds '-1': it must hold the number"),
        ({"a.jpg": b"x", "a.cls": b""}, r"holds '': it must hold the number"),
        ({"a.jpg": b"x", "a.cls": "\u00b2".encode()}, "it must hold the number"),
        ({"a.jpg": b"x", "a.cls": b"9" * 18}, r"holds 9{18}, but there are 1 images: number the classes fr"),
        ({"a.jpg": None, "a.cls": b"1"}, r"'a\.jpg' in '.*' is no plain file, or cut off"),
        ({"notes.txt": b"x"}, r"hold no images \(\.jpg"),
        ({"a.jpg": b"x", "a.cls": b"0"}, "hold one class: two are needed"),
        ({"a.jpg": b"x", "a.cls": b"1"}, "holds 1, but there are 1 images"),
    ],
)
def test_what_is_no_shard(tmp_path: Path, members: dict[str, bytes | None], sentence: str) -> None:
    tar(tmp_path / "s.tar", members)
    with pytest.raises(UserError, match=sentence):
        shards.scan(tmp_path)


def test_damaged_and_compressed_shards(tmp_path: Path) -> None:
    tar(tmp_path / "s.tar", {"a.cls": b"1", "a.jpg": b"x" * 5000})
    content = (tmp_path / "s.tar").read_bytes()
    for cut in (0, 300, 700, 1600, 3000):
        (tmp_path / "s.tar").write_bytes(content[:cut])
        with pytest.raises(UserError, match=r"s\.tar' is not a \.tar that can be read|is no plain file, or cut off"):
            shards.scan(tmp_path)
    (tmp_path / "s.tar").write_bytes(content)
    (tmp_path / "t.tar.gz").touch()
    with pytest.raises(
        UserError, match=r"t\.tar\.gz' is compressed, so it cannot be read at any place: make it a plain"
    ):
        shards.scan(tmp_path)
    (tmp_path / "t.tar.gz").unlink()
    (tmp_path / "ant").mkdir()
    with pytest.raises(UserError, match=r"holds both \.tar shards and the folder 'ant': keep one of the two"):
        shards.scan(tmp_path)


def test_nothing_half_written_stays(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".out.partial" / "train").mkdir(parents=True)  # of a run that was killed
    monkeypatch.setattr(class_folder.ClassFiles, "read", lambda self, row: (_ for _ in ()).throw(UserError("broken")))
    with pytest.raises(UserError, match="broken"):
        shards.write(images, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    monkeypatch.undo()
    shards.write(images / "val", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["000000.tar", "classes.txt", "index.npz"]
    with pytest.raises(UserError, match="out' exists already: give another folder for the shards, or remove it"):
        shards.write(images, tmp_path / "out")


def test_the_command(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert cli.main(["data", "shard", str(images), out]) == 0
    assert capsys.readouterr().out == f"22 images in 2 shards: {out}\n"
    for arguments, words in (
        (["shard", str(images)], "needs a folder of images and a folder to make"),
        (["shard", str(images), out], "exists already"),
        (["shard", str(tmp_path / "absent"), out + "2"], "is no folder that can be read"),
        (["verify", "cifar10", out], "takes one name"),
    ):
        assert cli.main(["data", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_real_photographs(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    folder = real_data("imagenet") / "imagenet" / "imagenet-samples"
    assert shards.write(folder, tmp_path / "out", shard_bytes=500_000) == 48
    files, packed = class_folder.scan(folder), shards.scan(tmp_path / "out")
    assert len(packed.shards) > 3
    assert packed.classes == files.classes
    assert all(packed.read(i) == files.read(i) for i in range(48))
    assert json.dumps(packed.labels.tolist()) == json.dumps(files.labels.tolist())
