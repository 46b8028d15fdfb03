"""The one walk of folders of classes: what it lists, leaves out and refuses, and that all who read folders use it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vicinal.keyed import Key
from vicinal.lab.data import class_folder, loading, speech_commands
from vicinal.lab.data.class_folder import ClassFiles, class_names, parts, scan
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.data.transforms import choose_center_crop
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe


def make(root: Path, entries: Sequence[str]) -> Path:
    """Make files ("a/1.png"), folders ("a/") and links ("a/x -> target"); images are images, each another one."""
    generator = Key(41, 0, 0, 0).generator()
    for entry in entries:
        name, _, target = entry.partition(" -> ")
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if target:
            path.symlink_to(target)
        elif name.lower().endswith(class_folder.IMAGES):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path, "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG")
        elif not name.endswith("/"):
            path.touch()
    return root


ODD = {  # entries; files; others; links to folders
    "endings in any case": (
        ["a/1.JPG", "a/2.jPeG", "a/3.png.txt", "b/4.PNG", "b/5.png.part", "b/png", "b/6"],
        ["a/1.JPG", "a/2.jPeG", "b/4.PNG"],
        ["a/3.png.txt", "b/5.png.part", "b/6", "b/png"],
        [],
    ),
    "hidden names at any depth": (
        ["a/1.png", "a/.2.png", "a/.DS_Store", "a/.cache/3.png", "a/in/.out/4.png", "b/5.png", ".c/6.png", ".7.png"],
        ["a/1.png", "b/5.png"],
        [],
        [],
    ),
    "the order of paths, not of folders": (
        ["a/b/2.png", "a/b-1/1.png", "a/b.png", "a/c/d/e/3.png", "a/10.png", "a/2.png", "a/É.png", "b/1.png"],
        ["a/10.png", "a/2.png", "a/b-1/1.png", "a/b.png", "a/b/2.png", "a/c/d/e/3.png", "a/É.png", "b/1.png"],
        [],
        [],
    ),
    "the order of classes": (
        ["ä/1.png", "b/2.png", "B/3.png", "b 1/4.png", "10/5.png", "9/6.png"],
        ["10/5.png", "9/6.png", "B/3.png", "b/2.png", "b 1/4.png", "ä/1.png"],
        [],
        [],
    ),
    "beside the classes": (
        ["a/1.png", "b/2.png", "3.png", "readme.md", "_background_noise_/4.png", "more -> readme.md"],
        ["a/1.png", "b/2.png"],
        [],
        [],
    ),
    "noise only beside the classes": (
        ["a/_background_noise_/1.png", "b/2.png"],
        ["a/_background_noise_/1.png", "b/2.png"],
        [],
        [],
    ),
    "a folder with an image's name": (["a/x.png/1.png", "b/2.png"], ["a/x.png/1.png", "b/2.png"], [], []),
    "empty folders within": (["a/1.png", "a/in/in/", "b/2.png"], ["a/1.png", "b/2.png"], [], []),
    "links": (
        [
            "a/1.png",
            "a/in/2.png",
            "b -> ../away",
            "a/3.png -> in/2.png",
            "a/again -> in",
            "a/in/up -> ..",
            "../away/4.png",
            "a/nowhere -> absent",
            "a/itself -> itself",
            "a/notes -> in/2.png",
        ],
        ["a/1.png", "a/3.png", "a/in/2.png", "b/4.png"],
        ["a/itself", "a/notes", "a/nowhere"],
        ["a/again", "a/in/up"],
    ),
    "a class named train": (
        ["train/1.png", "car/2.png", "bus/3.png"],
        ["bus/3.png", "car/2.png", "train/1.png"],
        [],
        [],
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_listed(tmp_path: Path, what: str) -> None:
    entries, files, others, links = ODD[what]
    found = scan(make(tmp_path / "set", entries))
    assert (found.paths, found.others, found.links) == (tuple(files), tuple(others), tuple(links))
    assert (found.kind, found.name, found.root) == ("images", "set", tmp_path / "set")
    assert found.classes == tuple(sorted({path.split("/")[0] for path in files}))
    assert [found.classes[label] for label in found.labels.tolist()] == [path.split("/")[0] for path in files]
    assert all(found.path(row).read_bytes() for row in range(len(found)))


@pytest.mark.parametrize("what", ODD)
@pytest.mark.filterwarnings("ignore:.* (left out|not followed)")
def test_both_uses_read_what_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """As train/ and val/: `compare` pools their files in this order, and `train` trains on one and tests on the other."""
    entries, files, others, links = ODD[what]
    root = tmp_path / "set"
    for part in ("train", "val"):
        make(root / part, entries)
    pooled = [f"{part}/{path}" for part in ("train", "val") for path in files]
    read: list[str] = []
    real = class_folder.read_files

    def read_files(kind: Any, paths: Sequence[Path], *rest: Any) -> Any:
        read.extend(path.relative_to(root).as_posix() for path in paths)
        return real(kind, paths, *rest)

    monkeypatch.setattr(class_folder, "read_files", read_files)
    monkeypatch.setattr(class_folder, "FEWEST", 1)
    data = class_folder.read(root, size=16)
    assert read == pooled
    assert [data.classes[label] for label in data.target] == [path.split("/")[1] for path in pooled]
    for left in (others, links):  # all of both parts are counted, and the first ones named
        some = [f"{part}/{path}" for part in ("train", "val") for path in left]
        assert not some or any(f"{len(some)} " in note and ", ".join(some[:3]) in note for note in data.notes)
    used: list[ClassFiles] = []
    real_images = loading._images

    def images(train: ClassFiles, test: ClassFiles, recipe: Recipe) -> Any:
        used.extend((train, test))
        return [real_images(source, source, recipe)[0] for source in (train, test)]

    monkeypatch.setattr(loading, "_images", images)
    loading.load(Recipe(dataset=str(root), model="small"))
    assert [f"{source.root.name}/{path}" for source in used for path in source.paths] == pooled


REFUSED = {
    "nothing": (["1.png"], r"set' holds no folders: put the images or audio of each class into one of its own, two cl"),
    "one class": (["a/1.png", ".b/1.png"], r"set' holds 1 folder: put the images or audio of each class into one of"),
    "an empty class": (["a/1.png", "b/x.txt"], r"set/b' holds no images \(\.jpg, .*\) and no audio \(\.wav, \.flac, .*\)"),
    "hidden files alone": (["a/1.png", "b/.1.png", "b/.c/1.png"], r"set/b' holds no images .*: add some, or remove it"),
    "another folder's": (["a/1.png", "b/in -> ../a"], r"set/b' holds no images .*: add some, or remove it"),
    "neither": (["a/1.txt", "b/2.txt"], r"the folders in '.*set' hold no images .* and no audio .*: put those of each c"),
    "both": (["a/1.png", "b/in/2.WAV"], r"set' holds images \('a/1\.png'\) and audio \('b/in/2\.WAV'\): give a folder o"),
    "both in a class": (["a/1.png", "a/2.flac", "b/"], r"set' holds images \('a/1\.png'\) and audio \('a/2\.flac'\)"),
    "parts": (["train/a/1.png", "val/a/2.png"], r"set' holds the folder 'train', not a folder .*: give '.*set/train'"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(tmp_path: Path, what: str) -> None:
    entries, says = REFUSED[what]
    root = make(tmp_path / "set", entries)
    with pytest.raises(UserError, match=says) as error:
        scan(root)
    assert "\n" not in str(error.value)
    if what != "parts":  # `compare` refuses the same by the same words
        with pytest.raises(UserError) as again:
            class_folder.read(root)
        assert str(again.value) == str(error.value)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent' is not a readable folder \(No such file or directory\): give one"):
        scan(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file' is not a readable folder \(Not a directory\)"):
        scan(str(tmp_path / "file"))


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was passed over, and its images with it."""
    root, real = make(tmp_path / "set", ["a/1.png", "a/in/2.png", "b/3.png"]), os.scandir

    def scandir(place: Path) -> Any:
        if Path(place).name == "in":
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"'.*set/a/in' cannot be read \(Permission denied\): mend that, or remove it"):
        scan(root)


def test_a_link_that_leads_nowhere_is_named_when_it_is_read(tmp_path: Path) -> None:
    files = scan(make(tmp_path / "set", ["a/1.png -> absent", "b/2.png"]))
    assert files.paths == ("a/1.png", "b/2.png")
    with pytest.raises(UserError, match=r"set/a/1\.png' cannot be read \(No such file or directory\): mend that"):
        class_folder.read_images([files.path(0)], 8)


def test_notes_are_sentences_with_numbers(tmp_path: Path) -> None:
    some = make(tmp_path / "one", ["a/1.png", "b/2.png", "a/x.txt", "a/in/", "a/again -> in"])
    assert scan(some).notes() == (
        "1 file is not an image and left out: a/x.txt.",
        "1 link to a folder is not followed: a/again.",
    )
    more = [f"b/{i}" for i in range(4)] + ["a/x -> in", "b/y -> ../a/in"]
    assert scan(make(tmp_path / "more", ["a/1.wav", "b/2.wav", "a/in/", *more])).notes() == (
        "4 files are not audio and left out: b/0, b/1, b/2 and 1 more.",
        "2 links to folders are not followed: a/x, b/y.",
    )
    assert scan(some).select([0]).notes() == scan(some).notes()
    taken = scan(some).select([1, 0])
    assert (taken.paths, taken.labels.tolist()) == (("b/2.png", "a/1.png"), [1, 0])


# ---- parts


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["train", "val"], ["train", "val"]),
        (["val", "train", "test", "valid", "validation"], ["test", "train", "val", "valid", "validation"]),
        (["train", "val", "extra", ".git"], ["train", "val"]),
        (["train"], ["train"]),
        (["train", ".git"], ["train"]),
        (["train/cat", "extra"], ["train"]),
        (["train", "car", "bus"], []),
        (["val", "test"], ["test", "val"]),
        (["Train", "val"], ["Train", "val"]),
        (["a", "b"], []),
        ([], []),
    ],
)
def test_which_folders_are_parts(tmp_path: Path, folders: list[str], expected: list[str]) -> None:
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
    assert list(parts(tmp_path)) == expected


PARTED = ["train/a/1.png", "train/b/2.png", "val/a/3.png", "val/b/4.png"]


def test_parts_must_agree(tmp_path: Path) -> None:
    train = scan(make(tmp_path / "set" / "train", ["a/1.png", "b/2.png"]))
    other = make(tmp_path / "set" / "val", ["a/1.png", "c/2.png"])
    says = (
        r"set/train' and '.*set/val' do not have the same folders: 'b' is in one of them; .* give '.*set/train' alone"
    )
    with pytest.raises(UserError, match=says):
        scan(other, train=train)
    with pytest.raises(UserError, match=says):
        class_folder.read(tmp_path / "set")
    audio = make(tmp_path / "set" / "test", ["a/1.wav", "b/2.wav"])
    with pytest.raises(UserError, match=r"set' holds images in train/ and audio in test/: give one kind"):
        scan(audio, train=train)


def test_what_lies_beside_the_parts_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "set", [*PARTED, "devkit/x.txt", "test/a/5.png", "test/b/6.png", "val/a/x.txt"])
    monkeypatch.setattr(class_folder, "FEWEST", 1)
    data = class_folder.read(root, size=16)
    assert data.target.tolist() == [0, 1] * 3
    assert data.notes == (
        "test and train and val were read as one set: each seed draws parts of its own.",
        "1 folder beside test and train and val is left out: devkit.",
        "1 file is not an image and left out: val/a/x.txt.",
    )
    with pytest.warns(UserWarning, match="left out") as told:
        train, test = loading.load(Recipe(dataset=str(root), model="small", image_size=16))
    assert (len(train), len(test)) == (2, 2)
    expected = [
        f"'{root}': 2 folders beside train and val are left out: devkit, test.",
        f"'{root / 'val'}': 1 file is not an image and left out: a/x.txt.",
    ]
    assert [str(one.message) for one in told] == expected


def test_a_run_needs_a_part_to_test_on(tmp_path: Path) -> None:
    for others, names in (([], "train"), (["test/a/1.png"], "test and train")):
        root = make(tmp_path / f"set {len(others)}", ["train/a/1.png", "train/b/2.png", *others])
        with pytest.raises(
            UserError, match=rf"holds {names}, but no val to test on: .* give '.*train', of which a fifth"
        ):
            loading.load(Recipe(dataset=str(root), model="small"))


# ---- spoken words


def test_spoken_words_are_walked_by_the_same_rules(tmp_path: Path) -> None:
    entries = ["no/2.WAV", "no/1.flac", "no/._1.wav", "no/in/3.wav", "no/x.txt", "yes/4.wav", "yes/5.png"]
    words = make(tmp_path / "words", [*entries, ".git/6.wav", "_background_noise_/7.wav", "LICENSE"])
    parts = speech_commands.utterances(words)
    assert {path for part in parts for path in part.paths} == {"no/1.flac", "no/2.WAV", "no/in/3.wav", "yes/4.wav"}
    assert all(part.classes == ("no", "yes") for part in parts)
    words = [part.classes[label] for part in parts for label in part.labels.tolist()]
    assert words == [path.split("/")[0] for part in parts for path in part.paths]
    assert class_names(parts[0].root) == ["no", "yes"]


def scene(height: int, width: int) -> np.ndarray:
    """Smooth colors, uint8 [height, width, 3], as in a photograph."""
    generator = np.random.Generator(np.random.Philox(key=height * 10000 + width))
    small = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def test_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_DIR_ENV, raising=False)
    with pytest.raises(UserError, match=f"ImageNet-2012 is not part of this program: put .* {DATA_DIR_ENV} to DIR"):
        class_folder.imagenet()
    monkeypatch.setenv(DATA_DIR_ENV, str(tmp_path))
    with pytest.raises(UserError, match=r"ImageNet-2012 is not in '.*/imagenet': register at https://image-net\.org"):
        class_folder.imagenet()
    root = tmp_path / "imagenet"
    make(root, ["train/n01440764/1.JPEG", "train/n01443537/2.JPEG", "train/n01443537/3.JPEG", "val/00000001.JPEG"])
    with pytest.raises(UserError, match=r"the images in '.*/val' are not in folders: sort them into val/WNID/"):
        class_folder.imagenet()
    make(root, ["val/n01443537/1.JPEG", "val/n01484850/2.JPEG"])
    with pytest.raises(UserError, match="do not have the same folders: 'n01440764' is in one of them"):
        class_folder.imagenet()
    os.rename(root / "val" / "n01484850", root / "val" / "n01440764")
    train, validation = class_folder.imagenet()
    assert train.classes == validation.classes == ("n01440764", "n01443537")
    assert (len(train), validation.labels.tolist()) == (3, [0, 1])
    make(root, ["train/goldfish/1.JPEG"])
    with pytest.raises(UserError, match="holds the folder 'goldfish', which is not a WNID"):
        class_folder.imagenet()
    shutil.rmtree(root / "train")
    calls = scan(make(root / "train", ["a/0.flac", "b/1.flac"]))
    assert (calls.kind, calls.select([1]).kind) == ("audio", "audio")
    with pytest.raises(UserError, match=r"train' holds audio \('a/0\.flac'\), where images are expected"):
        class_folder.imagenet()


def test_images_are_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for i, path in enumerate(paths):
        Image.fromarray(scene(32 + i, 48 - i)).save(path)
    alone = torch.cat([class_folder.read_images([path], 32) for path in paths])
    assert np.array_equal(alone[0].permute(1, 2, 0).numpy(), scene(32, 48)[:, 8:40])
    monkeypatch.setattr(class_folder, "_BLOCK", 3)
    told: list[tuple[int, int]] = []
    held = class_folder.read_images(paths, 32, lambda *done: told.append(done))
    assert torch.equal(held, alone)
    assert held.is_contiguous(memory_format=torch.channels_last)
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_broken_images_are_named_together(tmp_path: Path) -> None:
    files = scan(make(tmp_path, [f"{name}/{i:02d}.jpg" for name in "ab" for i in range(30)]))
    (tmp_path / "a/00.jpg").unlink()
    before = set(threading.enumerate())
    with pytest.raises(UserError, match=r"a/00\.jpg' cannot be read \(No such file or directory\): mend that, or rem"):
        class_folder.read_images(files.full_paths, 8)
    for broken in ("a/11.jpg", "a/17.jpg", "b/03.jpg"):
        (tmp_path / broken).write_bytes((tmp_path / broken).read_bytes()[:300])
    with pytest.raises(UserError) as caught:
        class_folder.read_images(files.full_paths, 8)
    found = [f"'{tmp_path / name}' (it " for name in ("a/00.jpg", "a/11.jpg", "a/17.jpg", "b/03.jpg")]
    assert str(caught.value).startswith("4 of 60 images cannot be read: " + found[0])
    assert all(one in str(caught.value) for one in found)
    assert str(caught.value).endswith(": replace or remove them")
    with pytest.raises(UserError, match=r"a/11\.jpg' is not an image that can be read \(.*\): replace or remove"):
        class_folder.decode_files(files.numbered(torch.tensor([11, 17])), None, 8, choose_center_crop)
    assert set(threading.enumerate()) <= before


# ---- published sets


def test_real_folders(real_data: Callable[[str], Path]) -> None:
    found = scan(real_data("imagenet") / "imagenet" / "tiny-imagenet-20" / "train")
    by_hand = sorted(path for path in found.root.rglob("*") if path.suffix == ".JPEG")
    assert [found.root / path for path in found.paths] == by_hand
    assert [found.classes[label] for label in found.labels.tolist()] == [
        path.relative_to(found.root).parts[0] for path in by_hand
    ]
    assert found.notes() == ()


def test_tiny_imagenet(real_data: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imagenet").symlink_to(real_data("imagenet") / "imagenet" / "tiny-imagenet-20")
    monkeypatch.setenv(DATA_DIR_ENV, str(tmp_path))
    train, validation = class_folder.imagenet()
    assert train.labels.bincount().tolist() == [100] * 20
    assert validation.labels.bincount().tolist() == [50] * 20
    held = class_folder.read_images(validation.full_paths, 64)
    assert held.shape == (1000, 3, 64, 64)
    for k in (0, 321, 999):
        expected = np.asarray(Image.open(validation.path(k)).convert("RGB"))
        difference = np.abs(held[k].permute(1, 2, 0).numpy().astype(int) - expected)
        assert difference.mean() < 0.5
