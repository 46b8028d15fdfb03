"""Speech Commands (Warden 2018): one-second words as the 160 x 101 spectrograms of the paper's section 3.3.

The paper names neither its program nor its parameters, only the size. What is done here:

1. A Fourier transform of every 20 ms (320 samples at 16 kHz, periodic Hamming window), each 10 ms (160 samples), centered
   on its sample, the clip mirrored at both ends: 101 frames of a second, 161 frequencies.
2. log(1 + magnitude), of samples in [-1, 1).
3. The last frequency (Nyquist's, 8 kHz) is left out: that makes 160 of 161.
4. Later frames are cut off, missing ones are zeros: that makes 101.
5. The whole spectrogram is shifted and scaled to mean 0 and standard deviation 1 (of n - 1); one that is the same
   everywhere becomes zeros.

Steps 1, 2, 4 and 5 are those of the published program with the same input size and recipe (GCommandsPytorch), which
keeps 161 frequencies; there the clip was mirrored too, as librosa then did.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.lab.atomic import write
from vicinal.lab.data import audio, class_folder
from vicinal.lab.data.class_folder import AUDIO, ClassFiles
from vicinal.lab.data.download import DATA_DIR_ENV, DATASETS, data_dir
from vicinal.lab.errors import UserError

RATE = 16_000  # samples a second
WINDOW = 320
HOP = 160
FREQUENCIES = 160
FRAMES = 101

PARTS = ("training", "validation", "testing")
VALIDATION_LIST = "validation_list.txt"
TESTING_LIST = "testing_list.txt"

_MOST = 2**27 - 1  # files of a word; part of the published rule
SAMPLES = WINDOW + HOP * (FRAMES - 1)  # what the frames cover, mirrored borders included
LEAST = WINDOW // 2 + 1  # samples that can be mirrored
_BATCH = 64
_RATES = (8_000, 192_000)  # that are resampled
_MARGIN = 0.01  # seconds: more than the filter reaches, 10 samples of the slower rate
_VERSION = 1  # of the features in a cache

Samples = NDArray[np.int16]
Progress = Callable[[int, int], None]  # utterances so far, of how many

NAMES = ("speech-commands-v1", "speech-commands-v2", "speech-commands")


@dataclass(frozen=True, eq=False)
class Spectrograms:
    """A set of utterances.

    Args:
        features: float32 [n, 1, 160, 101]: frequency, then time. They may lie in a file, read where they are used;
            writing to them changes no file.
        labels: int64 [n], positions in `classes`.
        classes: the words, sorted.
        name: short name, for titles.

    """

    features: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        x, y = self.features, self.labels
        if x.dtype != torch.float32 or x.shape[1:] != (1, FREQUENCIES, FRAMES):
            found = f"{x.dtype} {list(x.shape)}"
            raise ValueError(f"features must be float32 [n, 1, {FREQUENCIES}, {FRAMES}], got {found}")
        if y.dtype != torch.int64 or y.shape != x.shape[:1]:
            raise ValueError(f"labels must be int64 [{len(x)}], got {y.dtype} {list(y.shape)}")
        if len(y) and not (int(y.min()) >= 0 and int(y.max()) < len(self.classes)):
            last = len(self.classes) - 1
            raise ValueError(f"labels must be in 0 to {last}, got {int(y.min())} to {int(y.max())}")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Utterance:
    """A file of the set.

    Args:
        path: WORD/FILE, as the published lists spell it.
        word: the folder's name.
        part: one of `PARTS`.

    """

    path: str
    word: str
    part: str


def load(
    name: str = "speech-commands-v1",
    root: str | os.PathLike[str] | None = None,
    *,
    seed: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[Spectrograms, Spectrograms, Spectrograms]:
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
    source = DATASETS.get(name)
    title, where = ("Speech Commands", "speech_commands") if source is None else (source.title, source.folder)
    place = data_dir(root, title, f"the folder {where}")
    folder = place / where
    if not folder.is_dir():
        how = "put folders of .wav files" if source is None else f"unpack {source.archive}, from {source.url},"
        raise UserError(f"{title} is not in '{place}': {how} into '{folder}'")
    found = sorted(utterances(folder, seed=seed), key=lambda u: (PARTS.index(u.part), u.path))
    classes = tuple(sorted({u.word for u in found}))
    untrained = sorted(set(classes) - {u.word for u in found if u.part == "training"})
    if untrained:
        raise UserError(
            f"no utterance of {untrained[0]!r} in '{folder}' belongs to the training part"
            f": give a seed, for parts that do not follow the published rule"
        )
    fingerprint = _fingerprint(folder, found)
    kept = (Path(cache).expanduser() if cache else place / "cache") / f"{name}-{fingerprint[:16]}.npy"
    paths = [folder / utterance.path for utterance in found]
    features = cached(kept, fingerprint, len(found), lambda: feature_blocks(paths, read_clip, progress))
    number = {word: i for i, word in enumerate(classes)}
    labels = torch.tensor([number[u.word] for u in found], dtype=torch.int64)
    sizes = [sum(u.part == part for u in found) for part in PARTS]
    train, validation, test = (
        Spectrograms(x, y, classes, name) for x, y in zip(features.split(sizes), labels.split(sizes), strict=True)
    )
    return train, validation, test


def utterances(folder: Path, *, seed: int | None = None) -> list[Utterance]:
    """List the files of a folder of words with their parts, by the rules of `class_folders`.

    With a seed, the speakers are dealt to the parts by it. Else, where ``validation_list.txt`` and
    ``testing_list.txt`` are there, they say which part a file belongs to; else the published rule does (`part_of`).

    Raises:
        UserError: if there are no words or files, or only one of the lists.

    """
    listed = _lists(folder) if seed is None else None
    found = []
    for word in class_folder.class_names(folder):
        paths = [path for path in class_folder.class_files(folder, word).files if path.lower().endswith(AUDIO)]
        if not paths:
            raise UserError(f"the folder '{folder / word}' holds no .wav files: remove it, or unpack the archive again")
        for path in paths:
            part = part_of(path, seed) if listed is None else listed.get(path, "training")
            found.append(Utterance(path, word, part))
    if not found:
        raise UserError(f"'{folder}' holds no folders of .wav files: unpack the archive there")
    absent = (listed or {}).keys() - {utterance.path for utterance in found}
    if absent:
        raise UserError(
            f"'{folder}' lacks {len(absent)} files of its lists, such as {min(absent)}: unpack the archive again"
        )
    return found


def part_of(file: str, seed: int | None = None) -> str:
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
    number = int(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), 16)
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
    listed = {}
    for part, path in paths.items():
        for line in path.read_text(encoding="utf-8").split():
            if listed.setdefault(line, part) != part:
                raise UserError(f"{line} is in both lists of '{folder}': unpack the archive again")
    return listed


# ---- clip


def read_clip(path: Path) -> Samples:
    """Read the samples of a .wav file (or .flac, if the package soundfile is installed), int16 [n].

    Raises:
        UserError: if it is damaged, or not one channel of 16 bits at 16 kHz, or shorter than 161 samples.

    """
    clip = audio.read(path)
    if (clip.channels, clip.bits, clip.rate) != (1, 16, RATE):
        raise UserError(
            f"'{path}' has {clip.channels} channels of {clip.bits} bits at {clip.rate} Hz"
            f": convert it to 1 channel of 16 bits at {RATE} Hz"
        )
    if len(clip.samples) < LEAST:
        raise UserError(f"'{path}' has {len(clip.samples)} samples where at least {LEAST} are needed: remove it")
    return (clip.samples[:, 0] >> 16).astype(np.int16)


def read_any(path: Path) -> NDArray[np.float32]:
    """Read what the features need of a .wav or .flac of any number of channels and bits and, within reason, any rate.

    Channels are averaged; what is not at 16 kHz is resampled by a polyphase filter (`scipy.signal.resample_poly`).

    Returns:
        float32 [161 to 16320], in units of 16 bits: the first 1.02 s.

    Raises:
        UserError: if it is damaged, or slower than 8 kHz or faster than 192 kHz, or shorter than 161 samples.

    """
    clip = audio.read(path, SAMPLES / RATE + _MARGIN)
    if not _RATES[0] <= clip.rate <= _RATES[1]:
        raise UserError(
            f"'{path}' has {clip.rate} samples a second, not {_RATES[0]} to {_RATES[1]}: convert it to {RATE} Hz"
        )
    mono = clip.samples.mean(axis=1) / 65536
    if clip.rate != RATE:
        from scipy.signal import resample_poly

        common = math.gcd(clip.rate, RATE)
        mono = resample_poly(mono, RATE // common, clip.rate // common)
    if len(mono) < LEAST:
        raise UserError(f"'{path}' has {len(mono)} samples at {RATE} Hz, where {LEAST} are needed: remove it")
    return mono[:SAMPLES].astype(np.float32)


def folder_features(
    files: ClassFiles, cache: str | os.PathLike[str] | None = None, progress: Progress | None = None
) -> Tensor:
    """Return the features of a folder of audio, from the cache if they are of the same files, by their contents.

    Args:
        files: audio, as `read_any` takes them.
        cache: a folder, 65 kB a clip; by default ``cache`` in what ``VICINAL_DATA`` names, or else ``vicinal`` in the
            user's folder for caches.
        progress: told how many audio are done.

    Returns:
        float32 [n, 1, 160, 101], as `cached` gives them.

    Raises:
        UserError: if a file cannot be read, or the cache not be written.

    """
    digest = feature_hash()
    for path in files.paths:
        try:
            digest.update(f"{path}\t{pooch.file_hash(str(files.root / path))}\n".encode("utf-8", "surrogateescape"))
        except OSError as e:
            raise UserError(f"'{files.root / path}' cannot be read ({e.strerror}): mend that, or remove it") from e
    fingerprint = digest.hexdigest()
    if cache is None:
        data = os.environ.get(DATA_DIR_ENV)
        user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache = Path(data, "cache") if data else Path(user, "vicinal")
    kept = Path(cache).expanduser() / f"{files.name}-{fingerprint[:16]}.npy"
    paths = [files.root / path for path in files.paths]
    return cached(kept, fingerprint, len(files), lambda: feature_blocks(paths, read_any, progress))


def speaker_parts(files: ClassFiles) -> tuple[ClassFiles, ClassFiles] | None:
    """Return the training and the test files so that no speaker is in both; None where the names do not tell speakers.

    The names tell them if all hold ``_nohash_``, as in Speech Commands; then `part_of` decides, with a seed.
    """
    if not all("_nohash_" in Path(path).name for path in files.paths):
        return None
    parts = [part_of(path, 0) for path in files.paths]
    train, test = (files.take([i for i, p in enumerate(parts) if p == part]) for part in ("training", "testing"))
    for name, part in (("training", train), ("test", test)):
        if len(set(part.labels.tolist())) < len(files.classes):
            raise UserError(
                f"'{files.root}' has too few speakers for a {name} part with all classes: make train/ and val/"
            )
    return train, test


# ---- features


def spectrograms(utterances: Sequence[Samples | NDArray[np.float32]]) -> Tensor:
    """Compute the features of some audio, as this module's first lines say.

    Args:
        utterances: int16 [at least 161 samples] each, or float32 in the same units.

    Returns:
        float32 [n, 1, 160, 101].

    """
    padded = torch.zeros(len(utterances), SAMPLES)
    frames = torch.empty(len(utterances), dtype=torch.int64)
    for i, clip in enumerate(utterances):
        mirrored = np.pad(clip[:SAMPLES], WINDOW // 2, mode="reflect")[:SAMPLES]
        padded[i, : len(mirrored)] = torch.from_numpy(mirrored.astype(np.float32) / 32768)
        frames[i] = 1 + len(clip) // HOP
    window = torch.hamming_window(WINDOW)
    spectra = torch.stft(padded, WINDOW, HOP, window=window, center=False, return_complex=True)
    features = spectra[:, :FREQUENCIES].abs().log1p_()
    features.masked_fill_(torch.arange(FRAMES) >= frames[:, None, None], 0.0)
    flat = features.flatten(1)
    sd, mean = torch.std_mean(flat, dim=1, keepdim=True)  # keeps its sums exact, which a norm in float32 does not
    return flat.sub_(mean).div_(torch.where(sd > 0, sd, 1.0)).view(-1, 1, FREQUENCIES, FRAMES)


# ---- the cache


def cached(path: Path, fingerprint: str, n: int, blocks: Callable[[], Iterator[NDArray[np.float32]]]) -> Tensor:
    """Return the features in a file if it is whole and was made from the same; else make it.

    Args:
        path: an .npy; what is said about it lies beside it, as .json. The folder is made if absent.
        fingerprint: of all that the features depend on.
        n: how many.
        blocks: computes them, in blocks.

    Returns:
        float32 [n, 1, 160, 101], read where it is used; writing to it changes no file.

    Raises:
        UserError: if the file cannot be written.

    """
    about = path.with_suffix(".json")
    shape = (n, 1, FREQUENCIES, FRAMES)
    if not _is_whole(path, about, fingerprint):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            about.unlink(missing_ok=True)
            _write_array(path, shape, blocks())
            write(about, json.dumps({"fingerprint": fingerprint, "sha256": pooch.file_hash(str(path))}))
        except OSError as e:
            raise UserError(f"'{path}' cannot be written ({e.strerror or e}): give another folder for the cache") from e
    array = np.load(path, mmap_mode="c", allow_pickle=False)  # writing to it would change no file
    if array.shape != shape or array.dtype != np.float32:
        raise UserError(f"'{path}' holds other features than were written: delete it")
    return torch.from_numpy(array)


def feature_hash() -> hashlib._Hash:
    """Return a SHA-256 of what the features are, to be updated with what they are computed from."""
    return hashlib.sha256(json.dumps([_VERSION, RATE, WINDOW, HOP, FREQUENCIES, FRAMES]).encode())


def feature_blocks(
    paths: Sequence[Path], read: Callable[[Path], Samples | NDArray[np.float32]], progress: Progress | None
) -> Iterator[NDArray[np.float32]]:
    """Compute the features of some files, some at a time."""
    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        yield spectrograms([read(path) for path in batch]).numpy()
        if progress is not None:
            progress(start + len(batch), len(paths))


def _fingerprint(folder: Path, found: Sequence[Utterance]) -> str:
    """Return the SHA-256 of all that the features depend on, files by their names, sizes and dates."""
    digest = feature_hash()
    for utterance in found:
        about = (folder / utterance.path).stat()
        digest.update(f"{utterance.path}\t{about.st_size}\t{about.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _is_whole(path: Path, about: Path, fingerprint: str) -> bool:
    try:
        said = json.loads(about.read_bytes())
        return said == {"fingerprint": fingerprint, "sha256": pooch.file_hash(str(path))}
    except (OSError, ValueError):
        return False


def _write_array(path: Path, shape: tuple[int, ...], blocks: Iterator[NDArray[np.float32]]) -> None:
    """Write a float32 array block by block, as `write` does: all of it may not fit into memory."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(temporary, "wb") as file:
            head = {"descr": np.lib.format.dtype_to_descr(np.dtype("<f4")), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, head)
            for block in blocks:
                file.write(np.ascontiguousarray(block, dtype="<f4").data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
