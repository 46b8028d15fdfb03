"""Which folders of a folder are classes, and which are parts of a dataset, such as `train` and `test`.

    parts     folders named as such, in any spelling (`Train`, `training_set`, `seg_train`, `val2017`, `testing`), that
              hold the folders of the classes; a folder that holds nothing but another folder counts as that one
    classes   all others; and, whatever their names, those that hold files themselves and stand beside no part
    refused   what may be either: folders that hold no files but the same folders, as `day1/cat`, `day1/dog`, `day2/cat`
              and `day2/dog`; folders named as parts that hold files where those of classes should be

Only names and the presence of files are looked at, no contents.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from vicinal.lab.errors import UserError
from vicinal.lab.format import quoted

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
AUDIO = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3")

Level = Literal["outer", "inner"]  # which folders are the classes: those of the folder, or those within them

_NOISE = "_background_noise_"  # of Speech Commands: minutes of noise to be mixed in, no class
_DEEPEST = 100  # folders that hold nothing but one folder
_LEFT_BY_PROGRAMS = ("__MACOSX", "@eaDir")  # beside the files of a .zip from macOS; of a network drive

_TRAINING = {"train", "training", "trn"}
_OTHERS = {"val", "valid", "validate", "validation", "dev", "devel", "development"}
_OTHERS |= {"eval", "evaluation", "test", "testing", "tests", "tst"}
_NUMBERED = {"fold", "split", "part", "partition", "subset"}  # with a number
_FILLERS = {"set", "sets", "data", "dataset", "image", "images", "img", "imgs", "audio", "wav", "wavs", "clip", "clips"}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_JOINED = re.compile(rf"({'|'.join(sorted(_TRAINING | _OTHERS, key=len, reverse=True))})(set|sets|data|images|imgs)")


# -- names -------------------------------------------------------------------------------------------------------------


def passed_over(name: str) -> bool:
    """Return True for a name that is neither a class nor a file of one: hidden, or left by a program."""
    return name.startswith(".") or name in _LEFT_BY_PROGRAMS


def class_names(place: Path) -> list[str]:
    """Return the folders in a folder that may be classes, sorted.

    Raises:
        UserError: it cannot be read.

    """
    try:
        with os.scandir(place) as entries:
            found = [one.name for one in entries if one.name != _NOISE and _is_folder(one)]
    except OSError as e:
        says = f"'{place}' is not a readable folder ({e.strerror}): give one with one folder per class"
        raise UserError(says) from e
    return sorted(name for name in found if not passed_over(name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return True for a folder or a link to one; a link to itself, for which `is_dir` raises, is none."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _words(name: str) -> list[str]:
    """Return the words of a name in small letters, without those that tell nothing, numbers and single letters."""
    found = [word.lower() for word in _WORDS.findall(name)]
    found = [match[1] if (match := _JOINED.fullmatch(word)) else word for word in found]
    return [
        word
        for word, after in zip(found, [*found, ""][1:], strict=True)
        if len(word) > 1 and not word.isdigit() and word not in _FILLERS and (word not in _NUMBERED or after.isdigit())
    ]


def is_training(name: str) -> bool:
    """Return True for the name of a training part.

    Example:
        >>> is_training("Train"), is_training("training_set"), is_training("seg_train"), is_training("test")
        (True, True, True, False)

    """
    return bool(_TRAINING & set(_words(name)))


def is_part(name: str) -> bool:
    """Return True for a name that is that of a part, and nothing more.

    Example:
        >>> is_part("Test"), is_part("valSet"), is_part("train2017"), is_part("fold3"), is_part("test_tube")
        (True, True, True, True, False)

    """
    words = _words(name)
    return bool(words) and set(words) <= _TRAINING | _OTHERS | _NUMBERED


def may_be_part(name: str) -> bool:
    """Return True for a name with a word of a part in it.

    Example:
        >>> may_be_part("seg_train"), may_be_part("test_tube"), may_be_part("trainer")
        (True, True, False)

    """
    return bool((_TRAINING | _OTHERS | _NUMBERED) & set(_words(name)))


# -- folders -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Top:
    """A folder of the folder that is read."""

    root: Path
    name: str

    @cached_property
    def path(self) -> str:
        """Where its classes are, relative to `root`: within a folder that is all that it holds, as in `train/train`."""
        path = self.name
        while (
            path.count("/") < _DEEPEST
            and not has_files(self.root / path)
            and len(inside := class_names(self.root / path)) == 1
        ):
            within = self.root / path / inside[0]
            if within.is_symlink() or not class_names(within):  # a link may lead in a circle
                break
            path = f"{path}/{inside[0]}"
        return path

    @cached_property
    def folders(self) -> frozenset[str]:
        """Folders within."""
        return frozenset(class_names(self.root / self.path))

    @cached_property
    def flat(self) -> bool:
        """Images or audio lie in it, not only in folders within."""
        return has_files(self.root / self.path)

    @property
    def nested(self) -> bool:
        """It holds folders, and no images or audio beside them."""
        return not self.flat and bool(self.folders)


def has_files(place: Path) -> bool:
    """Return True if images or audio lie in a folder, not only in folders within."""
    try:
        with os.scandir(place) as entries:
            return any(
                not passed_over(one.name) and one.name.lower().endswith(IMAGES + AUDIO) and not _is_folder(one)
                for one in entries
            )
    except OSError as e:
        raise UserError(f"'{place}' cannot be read ({e.strerror}): mend that, or remove it") from e


def parts(root: Path, classes: Level | None = None, *, option: bool = False) -> tuple[str, ...]:
    """Return the parts that a folder holds, sorted; none where its folders are classes.

    Args:
        root: the folder.
        classes: "outer" if its own folders are the classes, "inner" if those within them are; by default names and
            places decide, by the rules at the top of this file.
        option: propose the option --classes where they cannot.

    Returns:
        Paths relative to `root`, with "/".

    Raises:
        UserError: a folder cannot be read, or the folders may be either.

    """
    if classes == "outer":
        return ()
    tops = [_Top(root, name) for name in class_names(root)]
    if classes == "inner":
        if not (found := tuple(top.path for top in tops if top.folders)):
            raise UserError(f"no folder in '{root}' holds folders, of which --classes inner makes the classes")
        return found
    advice = ", or say with --classes outer or --classes inner which are the classes" if option else ""
    return tuple(top.path for top in _parts(root, tops, advice))


def _parts(root: Path, tops: Sequence[_Top], advice: str) -> list[_Top]:
    nested = [top for top in tops if top.nested]
    inside = set().union(*(top.folders for top in nested))
    if len(nested) > 1 and len(nested) == len(tops) and all(map(is_part, inside)):
        return []  # parts within the classes: cat/train, cat/test
    exact = [top for top in tops if is_part(top.name)]
    alike = _alike(nested)
    if len(exact) > 1:
        if any(top.flat for top in exact) and not any(top.folders for top in exact):
            raise _without_classes(root, exact, advice)
        return [top for top in tops if top in exact or (top in alike and may_be_part(top.name))]
    if exact and len(tops) == 1:
        return exact if is_training(exact[0].name) else []
    if exact and is_training(exact[0].name) and exact[0].folders:
        _check_others(root, exact[0], tops, advice)
        return exact
    if alike:
        if all(may_be_part(top.name) for top in alike):
            return alike
        held = sorted(frozenset.intersection(*(top.folders for top in alike))) or sorted(alike[0].folders)
        raise UserError(
            f"the folders {_and(_names(alike))} of '{root}' hold no files but the same folders {quoted(held, 3)}, so that "
            f"either may be the classes: give one of them, as '{root / alike[0].path}', or bring the files of each class "
            f"into one folder{advice}"
        )
    _check_names(root, tops, exact, advice)
    return []


def _alike(nested: Sequence[_Top]) -> list[_Top]:
    """Return the folders that hold the same folders, two at least and for the most part; or none."""
    groups: list[list[_Top]] = []
    for top in nested:
        names = {name.casefold() for name in top.folders}
        for group in groups:
            others = {name.casefold() for name in group[0].folders}
            if len(names & others) > 1 and 2 * len(names & others) >= len(names | others):
                group.append(top)
                break
        else:
            groups.append([top])
    return max((group for group in groups if len(group) > 1), key=len, default=[])


def _check_others(root: Path, train: _Top, tops: Sequence[_Top], advice: str) -> None:
    """Refuse `train` with folders of its own beside others that may be classes as well.

    Those are folders that hold other folders of files, and folders of files that are named like its own.
    """
    others = [
        top
        for top in tops
        if top is not train
        and (
            (top.flat and top.name in train.folders)
            or (top.nested and not top.folders & train.folders and _any_files(root / top.path, top.folders))
        )
    ]
    if others:
        raise UserError(
            f"'{root}' holds the folder {train.name!r}, which may be a part of a dataset, beside {_and(_names(others))}, "
            f"which may be classes: give '{root / train.path}', or move {'it' if len(others) == 1 else 'them'} away{advice}"
        )


def _any_files(place: Path, folders: Iterable[str]) -> bool:
    return any(has_files(place / folder) for folder in folders)


def _check_names(root: Path, tops: Sequence[_Top], exact: Sequence[_Top], advice: str) -> None:
    """Refuse classes that are parts by their names."""
    filled = [top for top in tops if top.flat or top.folders]
    named = [top for top in filled if may_be_part(top.name)]
    if len(filled) > 1 and len(named) == len(filled):
        raise _without_classes(root, named, advice)
    lone = [top for top in exact if top in filled and not is_training(top.name)]
    if lone and len(filled) > 1:
        beside = [top.name for top in filled if top is not lone[0]]
        raise UserError(
            f"'{root}' holds the folder {lone[0].name!r}, a part of a dataset by its name, beside {quoted(beside, 3)}: "
            f"move it away, or give it another name if it is a class{advice}"
        )


def _without_classes(root: Path, tops: Sequence[_Top], advice: str) -> UserError:
    return UserError(
        f"the folders {_and(_names(tops))} of '{root}' are parts of a dataset by their names, and hold no folders of "
        f"classes: sort their files into one folder per class, or give them other names if they are classes{advice}"
    )


def _names(tops: Iterable[_Top]) -> list[str]:
    return [top.name for top in tops]


def _and(names: Sequence[str]) -> str:
    """Quote some names, with "and" before the last."""
    if len(names) > 3:
        return quoted(names, 3)
    return " and ".join(filter(None, [", ".join(map(repr, names[:-1])), repr(names[-1])]))


def only_folder(root: Path) -> str:
    """Return the end of a sentence that names the folder within, where classes are further in; or nothing."""
    (name,) = class_names(root)
    top = _Top(root, name)
    if len(top.folders) < 2:
        return ""
    names = sorted(top.folders)
    more = "" if len(names) < 3 else f" and {len(names) - 2} more"
    both = " and " if not more else ", "
    return f", which holds the folders {both.join(map(repr, names[:2]))}{more}: give '{root / top.path}'"


def read_as_classes(root: Path) -> tuple[str, ...]:
    """Return a sentence for each sort of folder that was read as, or in, a class though its name is that of a part."""
    tops = [_Top(root, name) for name in class_names(root)]
    found = [
        f"the folder {top.name!r} was read as a class, not as a part of the dataset."
        for top in tops
        if is_part(top.name) and (top.flat or top.folders)
    ]
    within = sorted(set().union(*(top.folders for top in tops if top.nested)))
    if within and all(map(is_part, within)):
        found.append(
            f"{' and '.join(within)} within the classes were read as one set: each seed draws parts of its own."
        )
    return tuple(found)
