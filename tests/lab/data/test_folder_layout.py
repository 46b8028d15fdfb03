"""Which folders are parts of a dataset, which are classes, and which may be either."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from vicinal.lab.data import class_folder, folder_layout
from vicinal.lab.errors import UserError

PAIRS = [
    ("Train", "Test"),
    ("TRAIN", "TEST"),
    ("training", "testing"),
    ("Training", "Validation"),
    ("train", "val"),
    ("train", "valid"),
    ("train", "eval"),
    ("train", "dev"),
    ("seg_train", "seg_test"),
    ("train2017", "val2017"),
    ("training_set", "test_set"),
    ("trainingSet", "testSet"),
    ("trainset", "testset"),
    ("Training Data", "Testing Data"),
    ("images-train", "images-test"),
    ("fold1", "fold2"),
    ("split_1", "split_2"),
    ("Val", "Test"),
]


def filled(root: Path, folders: Sequence[str], each: int = 5) -> Path:
    """Folders with images, each another one, so that none is a copy; a folder whose name ends in "/" is empty."""
    for i, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for k in range(0 if folder.endswith("/") else each):
            Image.new("RGB", (16, 16), (i + 1, k, 0)).save(root / folder / f"{k}.png")
    return root


def two(first: str, second: str) -> list[str]:
    return [f"{part}/{name}" for part in (first, second) for name in ("cat", "dog")]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_parts_are_pooled_in_any_spelling(tmp_path: Path, pair: tuple[str, str]) -> None:
    data = class_folder.read(filled(tmp_path / "set", two(*pair)), size=16)
    assert (data.classes, data.target.tolist()) == (("cat", "dog"), ([0] * 5 + [1] * 5) * 2)
    names = " and ".join(sorted(pair))
    assert data.notes == (f"{names} were read as one set: each seed draws parts of its own.",)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_parts_without_classes_are_never_classes(tmp_path: Path, pair: tuple[str, str]) -> None:
    root = filled(tmp_path / "set", pair)
    first, second = map(repr, sorted(pair))
    says = rf"the folders {first} and {second} of '.*set' are parts of a dataset by their names, and hold no folders of"
    with pytest.raises(UserError, match=says):
        class_folder.read(root, size=16)
    data = class_folder.read(root, size=16, classes="outer")  # unless one says so
    assert data.classes == tuple(sorted(pair))


def test_a_folder_in_a_part_that_is_all_it_holds_is_the_part(tmp_path: Path) -> None:
    """As archives are often unpacked."""
    folders = [*two("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred"]
    data = class_folder.read(filled(tmp_path / "set", folders), size=16)
    assert data.classes == ("cat", "dog")
    assert data.notes == (
        "seg_test/seg_test and seg_train/seg_train were read as one set: each seed draws parts of its own.",
        "1 folder beside seg_test/seg_test and seg_train/seg_train is left out: seg_pred.",
    )


CLASSES = {
    "plain": ["cat", "dog"],
    "a station among others": ["train_station", "harbor", "airport"],
    "vehicles": ["train", "car", "bus"],
    "sub-folders that differ": ["cat/persian", "cat/siamese", "dog/boxer", "dog/poodle"],
    "sub-folders of which one is the same": ["plum/healthy", "plum/rust", "pear/healthy", "pear/scab"],
    "one sub-folder": ["cat/images", "dog/images"],
    "files beside the same sub-folders": ["cat", "cat/big", "cat/small", "dog", "dog/big", "dog/small"],
    "numbers": ["0", "1"],
    "words that begin alike": ["trainer", "tester", "devil"],
    "a control group": ["blood_test", "control"],
    "left by a program": ["cat", "dog", "__MACOSX/cat", "cat/__MACOSX", "dog/@eaDir"],
}


@pytest.mark.parametrize("what", CLASSES)
def test_what_are_classes(tmp_path: Path, what: str) -> None:
    data = class_folder.read(filled(tmp_path / "set", CLASSES[what], each=6), size=16)
    folders = [name for name in CLASSES[what] if "__MACOSX" not in name and "@eaDir" not in name]
    assert data.classes == tuple(sorted({name.split("/")[0] for name in folders}))
    assert len(data) == 6 * len(folders)
    told = ("the folder 'train' was read as a class, not as a part of the dataset.",)
    assert data.notes == (told if what == "vehicles" else ())


def test_parts_within_the_classes_are_one_set(tmp_path: Path) -> None:
    folders = [f"{name}/{part}" for name in ("cat", "dog") for part in ("Test", "Train")]
    data = class_folder.read(filled(tmp_path / "set", folders), size=16)
    assert data.classes == ("cat", "dog")
    assert data.notes == ("Test and Train within the classes were read as one set: each seed draws parts of its own.",)


UNCLEAR = {
    "days": (two("day1", "day2"), r"the folders 'day1' and 'day2' of '.*set' hold no files but the same folders 'cat', 'd"),
    "a part and another": (two("Test", "photos"), r"the folders 'Test' and 'photos' of .*give one of them, as '.*set/Test'"),
    "by mostly the same": (
        [*two("a", "b"), "a/bird", "a/Fish", "b/fish"],
        r"the folders 'a' and 'b' of '.*set' hold no files but the same folders 'cat', 'dog', so that either may be",
    ),
    "many": ([*two("a", "b"), *two("c", "d")], r"the folders 'a', 'b', 'c' and 1 more of '.*set' hold no files but"),
    "places": ([*two("train_station", "test_track"), *two("x", "y")], r"hold no files but the same folders 'cat', 'dog'"),
    "a test part beside classes": (
        ["cat", "dog", "Test"],
        r"holds the folder 'Test', a part of a dataset by its name, beside 'cat', 'dog': move it away, or give it anoth",
    ),
    "parts of domains": (
        ["trainA", "trainB", "testA", "testB"],
        r"the folders 'testA', 'testB', 'trainA' and 1 more of '.*set' are parts of a dataset by their names, and hold",
    ),
    "steam and diesel": (
        ["train/steam", "train/diesel", "car/sedan", "car/van"],
        r"holds the folder 'train', which may be a part of a dataset, beside 'car', which may be classes: give '.*train', o",
    ),
    "the classes once more": (
        ["cat", "dog", *two("Train", "Train")],
        r"holds the folder 'Train', which may be a part of a dataset, beside 'cat' and 'dog', which may be classes: give",
    ),
    "a flat test part": ([*two("train", "val"), "test"], r"set/test' holds images, but no folder for each class as '.*tra"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNCLEAR)
def test_what_may_be_either_is_refused(tmp_path: Path, what: str) -> None:
    folders, says = UNCLEAR[what]
    root = filled(tmp_path / "set", folders)
    with pytest.raises(UserError, match=says) as caught:
        class_folder.read(root, size=16)
    assert "\n" not in str(caught.value)
    data = class_folder.read(root, size=16, classes="outer")
    assert data.classes == tuple(sorted({name.split("/")[0] for name in folders}))


def test_classes_within_are_taken_where_one_says_so(tmp_path: Path) -> None:
    root = filled(tmp_path / "set", [*two("day1", "day2"), "notes/"])
    data = class_folder.read(root, size=16, classes="inner")
    assert (data.classes, len(data)) == (("cat", "dog"), 20)
    assert data.notes == (
        "day1 and day2 were read as one set: each seed draws parts of its own.",
        "1 folder beside day1 and day2 is left out: notes.",
    )
    with pytest.raises(UserError, match=r"no folder in '.*day1' holds folders, of which --classes inner makes the cl"):
        class_folder.read(root / "day1", size=16, classes="inner")


@pytest.mark.parametrize("outer", ["PetImages", "archive", "Test"])
def test_the_inner_folder_is_named(tmp_path: Path, outer: str) -> None:
    root = filled(tmp_path / "set", [f"{outer}/Pets/Cat", f"{outer}/Pets/Dog", "__MACOSX/"])
    with pytest.raises(UserError) as caught:
        class_folder.read(root, size=16)
    inner = root / outer / "Pets"
    assert str(caught.value) == f"'{root}' holds 1 folder, which holds the folders 'Cat' and 'Dog': give '{inner}'"
    assert class_folder.read(inner, size=16).classes == ("Cat", "Dog")


def test_links_in_circles_end(tmp_path: Path) -> None:
    root = filled(tmp_path / "set", ["cat", "dog", "train/"])
    (root / "train" / "again").symlink_to("../train")
    with pytest.raises(UserError, match="set/train' holds 1 folder"):
        class_folder.read(root, size=16)
    (root / "all").symlink_to(".")
    with pytest.raises(UserError, match=r"beside .all., which may be classes: give"):
        class_folder.read(root, size=16)


def test_vicinal_train_finds_the_same_parts(tmp_path: Path) -> None:
    root = filled(tmp_path / "set", two("Train", "Val"))
    assert folder_layout.parts(root) == ("Train", "Val")
    from vicinal.lab.data import loading
    from vicinal.lab.recipe import Recipe

    train, test = loading.load(Recipe(dataset=str(root), model="small", image_size=16))
    assert (len(train), len(test), test.classes) == (10, 10, ("cat", "dog"))
    with pytest.raises(UserError, match=r"hold no files but the same folders 'cat', 'dog', so.*into one folder$"):
        loading.load(Recipe(dataset=str(filled(tmp_path / "days", two("day1", "day2"))), model="small"))
