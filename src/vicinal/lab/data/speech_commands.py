"""Speech Commands (Warden 2018): one-second words as spectrograms (`audio.spectrograms`), in the published parts."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.lab import limits
from vicinal.lab.data import audio
from vicinal.lab.data.class_folder import ClassFiles, class_files
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.data.download import DATASETS, data_dir
from vicinal.lab.data.folder_layout import AUDIO, class_names
from vicinal.lab.errors import UserError
from vicinal.lab.format import counted

NAMES = ("speech-commands-v1", "speech-commands-v2", "speech-commands")
FOLDS = tuple(f"speech-commands-fold-{k}" for k in range(3))  # of "speech-commands": see `load_fold`
PARTS = ("training", "validation", "testing")
VALIDATION_LIST = "validation_list.txt"
TESTING_LIST = "testing_list.txt"

_MOST = 2**27 - 1  # files of a word; part of the published rule


def load(
    name: str = "speech-commands-v1",
    root: str | os.PathLike[str] | None = None,
    *,
    seed: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: audio.Progress | None = None,
) -> tuple[InMemoryDataset, InMemoryDataset, InMemoryDataset]:
    """Read Speech Commands; the first time all spectrograms are computed and kept in the cache.

    Args:
        name: "speech-commands-v1" or "...-v2" for the published sets, in the folders ``speech_commands_v0.01`` and
            ``..._v0.02``; "speech-commands" for any set laid out like them, in the folder ``speech_commands``.
        root: the folder that holds these; by default that of the environment variable ``VICINAL_DATA``.
        seed: None for the published parts. A number for parts of 80, 10 and 10 % of the speakers of its own: for a set
            that is itself one of the published parts.
        cache: a folder for the spectrograms, 65 kB an utterance (4.2 GB for version 1); made if absent,
            ``ROOT/cache`` by default.
        progress: told how many utterances are done.

    Returns:
        The training, validation and test utterances.

    Raises:
        UserError: if the files are not there or cannot be read, or if a word has no training utterances.

    """
    if name not in NAMES:
        raise UserError(f"{name!r} is none of the speech sets: choose one of {', '.join(NAMES)}")
    place = _place(name, root)
    parts = utterances(place, seed=seed)
    if untrained := set(range(len(parts[0].classes))) - set(parts[0].labels.tolist()):
        raise UserError(
            f"no utterance of {parts[0].classes[min(untrained)]!r} in '{place}' belongs to the training part"
            f": give a seed, for parts that do not follow the published rule"
        )
    paths = [part.root / path for part in parts for path in part.paths]
    features = audio.cached_spectrograms(paths, name, read_clip, cache or place.parent / "cache", progress)
    shares = features.split([len(part) for part in parts])
    train, validation, test = (InMemoryDataset(x, of.labels, of.classes) for x, of in zip(shares, parts, strict=True))
    return train, validation, test


def _place(name: str, root: str | os.PathLike[str] | None) -> Path:
    """Return the folder of a set."""
    source = DATASETS.get(name)
    title, where = ("Speech Commands", "speech_commands") if source is None else (source.title, source.folder)
    place = data_dir(root, title, f"the folder {where}")
    if not (place / where).is_dir():
        how = "put folders of .wav files" if source is None else f"unpack {source.archive}, from {source.url},"
        raise UserError(f"{title} is not in '{place}': {how} into '{place / where}'")
    return place / where


def utterances(folder: Path, *, seed: int | None = None) -> tuple[ClassFiles, ClassFiles, ClassFiles]:
    """List the training, validation and test files of a folder of words, by the rules of `class_folder`.

    With a seed, the speakers are dealt to the parts by it. Else, where ``validation_list.txt`` and
    ``testing_list.txt`` are there, they say which part a file belongs to; else the published rule does (`split_of`).

    Raises:
        UserError: if there are no words or files, or only one of the lists.

    """
    listed = _lists(folder) if seed is None else None
    files = _all_files(folder)
    absent = (listed or {}).keys() - set(files.paths)
    if absent:
        raise UserError(
            f"'{folder}' lacks {len(absent)} files of its lists, such as {min(absent)}: unpack the archive again"
        )
    parts = [split_of(path, seed) if listed is None else listed.get(path, "training") for path in files.paths]
    return _shared(files, parts)


def load_fold(
    name: str, root: str | os.PathLike[str] | None = None, *, cache: str | os.PathLike[str] | None = None
) -> tuple[InMemoryDataset, InMemoryDataset]:
    """Read the utterances of the folder ``speech_commands`` for a round of cross-validation by speaker.

    Args:
        name: one of `FOLDS`: the speakers of this fold are tested, those of the others are trained on.
        root: as of `load`.
        cache: as of `load`; all folds share it.

    Returns:
        The training and the test utterances, the latter as `fold_files` lists them.

    Raises:
        UserError: if the files are not there or cannot be read.

    """
    files, tested = fold_files(name, root)
    features = audio.cached_spectrograms(
        files.full_paths, "speech-commands", read_clip, cache or files.root.parent / "cache"
    )
    whole = InMemoryDataset(features, files.labels, files.classes)
    return whole.select((~tested).nonzero().flatten()), whole.select(tested.nonzero().flatten())


def fold_files(name: str, root: str | os.PathLike[str] | None = None) -> tuple[ClassFiles, Tensor]:
    """List all utterances of the folder ``speech_commands``, and which of them a fold tests, bool [n]."""
    files = _all_files(_place("speech-commands", root))
    return files, torch.tensor([fold_of(path) == FOLDS.index(name) for path in files.paths])


def fold_of(file: str) -> int:
    """Return the fold that an utterance belongs to: the SHA-1 of its speaker, as a number, modulo 3."""
    return int(hashlib.sha1(os.fsencode(speaker_of(file)), usedforsecurity=False).hexdigest(), 16) % len(FOLDS)


def speaker_of(file: str) -> str:
    """Return the speaker of an utterance: the eight digits before ``_nohash_``; a file without them stands for itself.

    Example:
        >>> speaker_of("yes/022cd682_nohash_0.wav"), speaker_of("_unknown_/backward_0c540988_nohash_0.wav.wav")
        ('022cd682', '0c540988')

    """
    found = re.search(r"([0-9a-f]{8})_nohash_", Path(file).name)
    return Path(file).name if found is None else found[1]


def _all_files(folder: Path) -> ClassFiles:
    """List the files of a folder of words, sorted."""
    words = tuple(class_names(folder))
    found = sorted((path, label) for label, word in enumerate(words) for path in _audio_files(folder, word))
    if not found:
        raise UserError(f"'{folder}' holds no folders of .wav files: unpack the archive there")
    paths, labels = zip(*found, strict=True)
    return ClassFiles(folder, paths, torch.tensor(labels), words, folder.name, "audio")


def _shared(files: ClassFiles, parts: list[str]) -> tuple[ClassFiles, ClassFiles, ClassFiles]:
    train, validation, test = (files.select([i for i, p in enumerate(parts) if p == part]) for part in PARTS)
    return train, validation, test


def _audio_files(folder: Path, word: str) -> list[str]:
    paths = [path for path in class_files(folder, word).files if path.lower().endswith(AUDIO)]
    if not paths:
        raise UserError(f"the folder '{folder / word}' holds no .wav files: remove it, or unpack the archive again")
    return paths


def split_of(file: str, seed: int | None = None) -> str:
    """Return the part that a file belongs to by the rule in the set's README.

    What stands before ``_nohash_`` in the file's name is the speaker; the SHA-1 of that, as a number, modulo 2**27 and
    scaled to 0 to 100, is below 10, or below 20, or neither. A file without a speaker in its name stands for itself.
    A .flac counts as the .wav that it was.

    Args:
        file: its name.
        seed: if given, the SHA-1 is that of "SEED/SPEAKER".

    Returns:
        One of `PARTS`.

    """
    speaker = re.sub(r"_nohash_.*$", "", re.sub(r"\.flac$", ".wav", Path(file).name))
    text = speaker if seed is None else f"{seed}/{speaker}"
    number = int(hashlib.sha1(os.fsencode(text), usedforsecurity=False).hexdigest(), 16)
    percentage = (number % (_MOST + 1)) * (100.0 / _MOST)
    if percentage < 10:
        return "validation"
    return "testing" if percentage < 20 else "training"


def _lists(folder: Path) -> dict[str, str] | None:
    paths = {"validation": folder / VALIDATION_LIST, "testing": folder / TESTING_LIST}
    there = [part for part, path in paths.items() if path.is_file()]
    if not there:
        return None
    if len(there) == 1:
        raise UserError(f"'{folder}' has one of {VALIDATION_LIST} and {TESTING_LIST}: add the other, or remove it")
    lines = [(line, part) for part, path in paths.items() for line in _read_list(path)]
    listed = dict(lines)
    if both := [line for line, part in lines if listed[line] != part]:
        raise UserError(f"{both[0]} is in both lists of '{folder}': unpack the archive again")
    return listed


def _read_list(path: Path) -> list[str]:
    try:
        return limits.read_bytes(path).decode().split()
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8 text"
        raise UserError(f"'{path}' cannot be read ({reason}): unpack the archive again") from e


def read_clip(path: Path) -> NDArray[np.int16]:
    """Read the samples of a .wav file (or .flac, if the package soundfile is installed), int16 [n].

    Raises:
        UserError: if it is damaged, or not one channel of 16 bits at 16 kHz, or shorter than 161 samples.

    """
    clip = audio.read(path)
    channels = clip.samples.shape[1]
    if (channels, clip.bits, clip.rate) != (1, 16, audio.RATE):
        raise UserError(
            f"'{path}' has {counted(channels, 'channel')} of {clip.bits or 'no fixed number of'} bits at {clip.rate} Hz"
            f": convert it to 1 channel of 16 bits at {audio.RATE} Hz"
        )
    if len(clip.samples) < audio.LEAST:
        raise UserError(f"'{path}' has {len(clip.samples)} samples where at least {audio.LEAST} are needed: remove it")
    return (clip.samples[:, 0].astype(np.int32, copy=False) >> 16).astype(np.int16)


def split_by_speaker(files: ClassFiles) -> tuple[ClassFiles, ClassFiles] | None:
    """Return the training and the test files so that no speaker is in both; None where the names do not tell speakers.

    The names tell them if all hold ``_nohash_``, as in Speech Commands; then `split_of` decides, with a seed.
    """
    if not all("_nohash_" in Path(path).name for path in files.paths):
        return None
    train, _, test = _shared(files, [split_of(path, 0) for path in files.paths])
    for name, part in (("training", train), ("test", test)):
        if len(set(part.labels.tolist())) < len(files.classes):
            raise UserError(
                f"'{files.root}' has too few speakers for a {name} part with all classes: make train/ and val/"
            )
    return train, test
