"""Audio files, and the 160 x 101 spectrograms of a second of them (the paper's section 3.3).

Files are .wav of whole numbers, and .flac where the package soundfile is installed. The paper names neither its program
nor the parameters of its spectrograms, only their size. What is done here:

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
import importlib
import math
import os
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np
import pooch
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicinal.lab.atomic import write
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.errors import UserError

RATE = 16_000  # samples a second
WINDOW = 320
HOP = 160
FREQUENCIES = 160
FRAMES = 101
SAMPLES = WINDOW + HOP * (FRAMES - 1)  # what the frames cover, mirrored borders included
LEAST = WINDOW // 2 + 1  # samples that can be mirrored

_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}  # of FLAC
_RATES = (8_000, 192_000)  # that are resampled
_MARGIN = 0.01  # seconds: more than the filter reaches, 10 samples of the slower rate
_BATCH = 64
_VERSION = 2  # of what is kept in a cache

Samples = NDArray[np.int16] | NDArray[np.float32]
Progress = Callable[[int, int], None]  # files so far, of how many


# -- files -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Waveform:
    """What a file holds."""

    samples: NDArray[np.int32]  # [n, channels]: whatever the bits were, full scale is that of 32
    bits: int  # of a sample in the file
    rate: int  # samples a second


def read(path: Path, seconds: float | None = None) -> Waveform:
    """Read a .wav or .flac file.

    Args:
        path: its kind is that of its name.
        seconds: only this many from the beginning (rounded up to a sample); by default all.

    Raises:
        UserError: if it is damaged, cut off, or of another form.

    """
    return _read_flac(path, seconds) if path.suffix.lower() == ".flac" else _read_wav(path, seconds)


def _read_wav(path: Path, seconds: float | None) -> Waveform:
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            n = file.getnframes() if seconds is None else min(file.getnframes(), math.ceil(seconds * rate))
            content = file.readframes(n)
    except (wave.Error, EOFError, RuntimeError) as e:
        why = str(e) or "it ends too early"
        raise UserError(f"'{path}' is not a .wav file that can be read ({why}): get it again, or convert it") from e
    except OSError as e:
        raise UserError(f"'{path}' cannot be read ({e.strerror}): mend its permissions") from e
    if width > 4:
        raise UserError(f"'{path}' has samples of {8 * width} bits: convert it to 16")
    if len(content) != n * channels * width:
        raise UserError(f"'{path}' ends too early: get it again")
    wide = np.zeros((n * channels, 4), dtype=np.uint8)  # little-endian: the file's bytes are the upper ones
    wide[:, 4 - width :] = np.frombuffer(content, dtype=np.uint8).reshape(-1, width)
    samples = wide.view("<i4").reshape(n, channels).astype(np.int32, copy=False)
    return Waveform(samples ^ np.int32(-(2**31)) if width == 1 else samples, 8 * width, rate)  # 8 bits have no sign


def _read_flac(path: Path, seconds: float | None) -> Waveform:
    try:
        soundfile: Any = importlib.import_module("soundfile")
    except ImportError as e:
        raise UserError(f"'{path}' is a .flac file: install the package soundfile to read it") from e
    try:
        about = soundfile.info(path)
        n = -1 if seconds is None else math.ceil(seconds * about.samplerate)
        samples, rate = soundfile.read(path, frames=n, dtype="int32", always_2d=True)
    except RuntimeError as e:  # soundfile's own errors are such
        raise UserError(f"'{path}' is not a .flac file that can be read ({e}): get it again") from e
    return Waveform(samples, _BITS.get(about.subtype, 0), rate)


def read_any(path: Path) -> NDArray[np.float32]:
    """Read what the features need of a .wav or .flac of any number of channels and bits and, within reason, any rate.

    Channels are averaged; what is not at 16 kHz is resampled by a polyphase filter (`scipy.signal.resample_poly`).

    Returns:
        float32 [161 to 16320], in units of 16 bits: the first 1.02 s.

    Raises:
        UserError: if it is damaged, or slower than 8 kHz or faster than 192 kHz, or shorter than 161 samples.

    """
    clip = read(path, SAMPLES / RATE + _MARGIN)
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


# -- features ----------------------------------------------------------------------------------------------------------


def spectrograms(clips: Sequence[Samples]) -> Tensor:
    """Compute the features of some clips, as this module's first lines say.

    Args:
        clips: int16 [at least 161 samples] each, or float32 in the same units.

    Returns:
        float32 [n, 1, 160, 101].

    """
    padded = torch.zeros(len(clips), SAMPLES)
    frames = torch.empty(len(clips), dtype=torch.int64)
    for i, clip in enumerate(clips):
        mirrored = np.pad(clip[:SAMPLES], WINDOW // 2, mode="reflect")[:SAMPLES]
        padded[i, : len(mirrored)] = torch.from_numpy(mirrored.astype(np.float32) / 32768)
        frames[i] = 1 + len(clip) // HOP
    window = torch.hamming_window(WINDOW)
    spectra = torch.stft(padded, WINDOW, HOP, window=window, center=False, return_complex=True)
    features = spectra[:, :FREQUENCIES].abs().log1p_()
    features.masked_fill_(torch.arange(FRAMES) >= frames[:, None, None], 0.0)
    return standardized(features[:, None].contiguous())


def standardized(features: Tensor) -> Tensor:
    """Shift and scale each spectrogram [n, 1, h, w] to mean 0 and standard deviation 1 (of n - 1), or to zeros."""
    sd, mean = torch.std_mean(features, dim=(1, 2, 3), keepdim=True)  # exact sums, which a norm in float32 has not
    return (features - mean).div_(torch.where(sd > 0, sd, 1.0))


def cached_spectrograms(
    paths: Sequence[Path],
    name: str,
    read: Callable[[Path], Samples] = read_any,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Return the features of some files, from the cache if they are of the same contents.

    Args:
        paths: the files.
        name: what the file in the cache is called, before a digest of the contents.
        read: gives the clip of a file.
        cache: a folder, 65 kB a file; by default ``cache`` in what ``VICINAL_DATA`` names, or else ``vicinal`` in the
            user's folder for caches; made if absent.
        progress: called with the number of files done, and of all, where features are computed.

    Returns:
        float32 [n, 1, 160, 101], read where it is used; writing to it changes no file.

    Raises:
        UserError: if a file cannot be read, or the cache not be written.

    """
    kept = _cache_folder(cache) / f"{name}-{_digest(paths)}.npy"
    sha256 = kept.with_suffix(".sha256")
    if not (kept.is_file() and sha256.is_file() and sha256.read_text() == pooch.file_hash(str(kept))):
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=kept.parent) as folder:  # all of it appears at once
                with open(Path(folder, kept.name), "wb") as file:
                    _write_spectrograms(file, paths, read, progress)
                os.replace(file.name, kept)
            write(sha256, pooch.file_hash(str(kept)))
        except OSError as e:
            raise UserError(f"'{kept}' cannot be written ({e.strerror or e}): give another folder for the cache") from e
    return torch.from_numpy(np.load(kept, mmap_mode="c"))


def _cache_folder(cache: str | os.PathLike[str] | None) -> Path:
    data, user = os.environ.get(DATA_DIR_ENV), os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache or (Path(data, "cache") if data else Path(user, "vicinal"))).expanduser()


def _digest(paths: Sequence[Path]) -> str:
    """Return what tells apart all that the features depend on."""
    digest = hashlib.sha256(repr((_VERSION, RATE, WINDOW, HOP, FREQUENCIES, FRAMES)).encode())
    for path in paths:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as e:
            raise UserError(f"'{path}' cannot be read ({e.strerror}): mend that, or remove it") from e
    return digest.hexdigest()[:32]


def _write_spectrograms(
    file: BinaryIO, paths: Sequence[Path], read: Callable[[Path], Samples], progress: Progress | None
) -> None:
    """Write an .npy block by block: all of it may not fit into memory."""
    shape = (len(paths), 1, FREQUENCIES, FRAMES)
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        file.write(spectrograms([read(path) for path in batch]).numpy().astype("<f4", copy=False).tobytes())
        if progress is not None:
            progress(start + len(batch), len(paths))
