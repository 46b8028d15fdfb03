"""Audio files, and the 160 x 101 spectrograms of a second of them (the paper's section 3.3).

Files are .wav of whole numbers, and, where the package soundfile is installed, .wav of any other form (floating point,
u-law, A-law, extensible), .flac, .ogg, .opus and .mp3. The paper names neither its program nor the parameters of its
spectrograms, only their size. What is done here:

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
import io
import math
import os
import struct
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

from vicinal.lab import limits
from vicinal.lab.atomic import write
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.errors import UnreadableFile, UserError
from vicinal.lab.format import counted

RATE = 16_000  # samples a second
WINDOW = 320
HOP = 160
FREQUENCIES = 160
FRAMES = 101
LEAST = WINDOW // 2 + 1  # samples that can be mirrored

_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 64}
_FRACTIONS = ("FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG")  # what is decoded to fractions of full scale
_LOUDEST = 10.0  # of such: above full scale is common, far above it other units
_OGG_PAGE = 65307  # bytes, at most
_MP3_FRAMES = 2 * 1152  # samples of two
_BLOCK = 1 << 20  # samples that are decoded at a time
_TAGGED = 65536  # first bytes of an MP3 file in which its tag is looked for
_STREAMED = 0x7FF00000  # bytes and more: in a header that was written before the length was known
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

    samples: NDArray[np.int32] | NDArray[np.float64]  # [n, channels]; full scale is 2**31, whatever the file's is
    bits: int  # of a sample in the file; 0 where that means nothing
    rate: int  # samples a second


def read(path: Path, seconds: float | None = None) -> Waveform:
    """Read an audio file.

    Args:
        path: a .wav file of whole numbers, or anything that the package soundfile reads.
        seconds: only this many from the beginning (rounded up to a sample); by default all.

    Raises:
        UnreadableFile: if it is damaged, cut off, or of another form.
        UserError: if it needs the package soundfile, which is not installed.

    """
    try:
        limits.check_file(path)
        with open(path, "rb") as file:
            start, stated, there = file.read(16), *_data_bytes(file)
    except OSError as e:
        says = f"cannot be read ({e.strerror})"
        raise UnreadableFile(str(path), f"it {says}", says, "mend that, or remove it") from e
    if not start:
        raise _unreadable(path, "it is empty, 0 bytes")
    if there < stated < _STREAMED:
        raise UnreadableFile(str(path), "it ends too early", "ends too early", "get it again")
    if there > stated == 0:
        says = f"was not closed by what wrote it: its header states 0 bytes of samples, and {there} follow"
        raise UnreadableFile(str(path), f"it {says}", says, "write it anew, as by ffmpeg -i OLD NEW")
    if why := _other_content(start):
        raise _unreadable(path, why)
    whole = _read_whole_numbers(path, there, seconds) if stated else None
    return whole or _read_by_soundfile(path, seconds)


def _unreadable(path: Path, reason: str) -> UnreadableFile:
    says = f"is not an audio file that can be read ({reason})"
    return UnreadableFile(str(path), reason, says, "get it again, or convert it")


def _data_bytes(file: BinaryIO) -> tuple[int, int]:
    """Return how many bytes of samples a .wav file states, and how many follow; 0 and 0 of other files."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(12)[:4] == b"RIFF":
        while len(head := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", head)
            if name == b"data":
                return length, size - file.tell()
            file.seek(length + length % 2, os.SEEK_CUR)
    return 0, 0


def _other_content(start: bytes) -> str:
    """Return what a file is that has the name of audio, if that is known by its first bytes."""
    if start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return "it is a web page or other markup"
    if start.startswith(b"version https://"):
        return "it is a pointer of Git LFS: run git lfs pull"
    if start[4:8] == b"ftyp":
        return "it is an MP4 or M4A file"
    return ""


def _read_whole_numbers(path: Path, there: int, seconds: float | None) -> Waveform | None:
    """Read a .wav file of whole numbers, of which `there` bytes follow the header; None for one of another form."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            n = min(file.getnframes(), there // (channels * width))
            n = n if seconds is None else min(n, math.ceil(seconds * rate))
            _check_memory(path, n * channels * (width + 8))
            content = file.readframes(n)
    except (wave.Error, EOFError, RuntimeError):
        return None
    if width > 4:
        return None
    if len(content) < n * channels * width:  # the file states another end for all of its parts
        raise UnreadableFile(str(path), "it ends too early", "ends too early", "get it again")
    wide = np.zeros((n * channels, 4), dtype=np.uint8)  # little-endian: the file's bytes are the upper ones
    wide[:, 4 - width :] = np.frombuffer(content, dtype=np.uint8).reshape(-1, width)
    samples = wide.view("<i4").reshape(n, channels).astype(np.int32, copy=False)
    return Waveform(samples ^ np.int32(-(2**31)) if width == 1 else samples, 8 * width, rate)  # 8 bits have no sign


def _read_by_soundfile(path: Path, seconds: float | None) -> Waveform:
    try:
        soundfile: Any = importlib.import_module("soundfile")
    except ImportError as e:
        what = "file of another form than whole numbers" if path.suffix.lower() == ".wav" else "file"
        raise UserError(f"'{path}' is a {path.suffix.lower()} {what}: install the package soundfile to read it") from e
    try:
        with soundfile.SoundFile(path) as about:
            wanted = about.frames if seconds is None else math.ceil(seconds * about.samplerate)
            n, rate = min(about.frames, wanted), about.samplerate
            fractions = about.subtype.startswith(_FRACTIONS)
            samples = _read_blocks(path, about, n, "float64" if fractions else "int32")
    except RuntimeError as e:  # soundfile's own errors are such
        reason = str(e).removeprefix(f"Error opening {str(path)!r}: ").removeprefix("Error : ").rstrip(". ")
        if "does not exist" in reason:  # it does
            reason = "it is cut off, damaged or of another form"
        raise _unreadable(path, reason[:1].lower() + reason[1:]) from e
    if len(samples) < max(n, wanted) and _is_cut_off(path, about.format, n - len(samples)):
        raise UnreadableFile(str(path), "it ends too early", "ends too early", "get it again")
    if fractions:
        _check_fractions(path, samples)
        samples = samples * 2.0**31
    return Waveform(samples, _BITS.get(about.subtype, 0), rate)


def _read_blocks(path: Path, file: Any, n: int, dtype: str) -> NDArray[Any]:
    """Read up to n frames [n, channels], as many as there are: a header may state any number of them."""
    blocks, left = [np.empty((0, file.channels), dtype)], n
    while left > 0:
        block = file.read(min(left, max(1, _BLOCK // file.channels)), dtype=dtype, always_2d=True)
        if not len(block):
            break
        blocks.append(block)
        left -= len(block)
        _check_memory(path, (n - left) * file.channels * 16)
    return np.concatenate(blocks)


def _check_memory(path: Path, size: int) -> None:
    if why := limits.lacking(size):
        says = f"takes {why}"
        raise UnreadableFile(str(path), f"it {says}", says, "cut or remove it")


def _is_cut_off(path: Path, form: str, lacking: int) -> bool:
    """Return True for a file that ended while it was read, and is shorter than it should be.

    An Ogg file does not state its length, but flags its last page. An MP3 file states it in a tag (`Xing`, `Info`), to a
    frame or two; without one, the length is an estimate that tells nothing.
    """
    if form not in ("OGG", "MP3"):
        return lacking > 0
    with open(path, "rb") as file:
        if form == "MP3":
            start = file.read(_TAGGED)
            return lacking > _MP3_FRAMES and (b"Xing" in start or b"Info" in start)
        file.seek(max(0, file.seek(0, os.SEEK_END) - 2 * _OGG_PAGE))
        end = file.read()
    page = end[max(0, end.rfind(b"OggS")) :]
    sizes = page[27 : 27 + page[26]] if len(page) > 26 else b""  # of its segments (RFC 3533, section 6)
    return not sizes or not page[5] & 4 or len(page) < 27 + len(sizes) + sum(sizes)


def _check_fractions(path: Path, samples: NDArray[np.float64]) -> None:
    if not np.isfinite(samples).all():
        raise _unreadable(path, "it holds values that are not finite numbers")
    if len(samples) and (peak := float(np.abs(samples).max())) > _LOUDEST:
        raise UnreadableFile(
            str(path),
            f"its samples reach {peak:.6g}, not 1",
            f"has samples of up to {peak:.6g}, where those of floating point lie in [-1, 1]",
            "divide them by their full scale",
        )


def frames_of(seconds: float) -> int:
    """Return the number of frames of a spectrogram: 101 of a second."""
    return 1 + round(seconds * RATE / HOP)


def samples_of(seconds: float) -> int:
    """Return the number of samples that the frames cover, mirrored borders included."""
    return WINDOW + HOP * (frames_of(seconds) - 1)


def read_any(path: Path, seconds: float = 1.0) -> NDArray[np.float32]:
    """Read what the features need of a file of any number of channels and bits and, within reason, any rate.

    Channels are averaged; what is not at 16 kHz is resampled by a polyphase filter (`scipy.signal.resample_poly`).

    Returns:
        float32 [161 to `samples_of(seconds)`], in units of 16 bits: the beginning, 1.02 s for a second.

    Raises:
        UnreadableFile: if it is damaged, or slower than 8 kHz or faster than 192 kHz, or shorter than 161 samples.
        UserError: as of `read`.

    """
    clip, most = read(path, samples_of(seconds) / RATE + _MARGIN), samples_of(seconds)
    if not _RATES[0] <= clip.rate <= _RATES[1]:
        says = f"has {clip.rate} samples a second, not {_RATES[0]} to {_RATES[1]}"
        raise UnreadableFile(str(path), f"it {says}", says, f"convert it to {RATE} Hz")
    mono = clip.samples.mean(axis=1) / 65536
    if clip.rate != RATE and len(mono):
        from scipy.signal import resample_poly

        common = math.gcd(clip.rate, RATE)
        mono = resample_poly(mono, RATE // common, clip.rate // common)
    if len(mono) < LEAST:
        says = f"has {counted(len(mono), 'sample')} at {RATE} Hz, where {LEAST} are needed"
        raise UnreadableFile(str(path), f"it {says}", says, "remove it")
    return mono[:most].astype(np.float32)


# -- features ----------------------------------------------------------------------------------------------------------


def spectrograms(clips: Sequence[Samples], seconds: float = 1.0) -> Tensor:
    """Compute the features of some clips, as this module's first lines say.

    Args:
        clips: int16 [at least 161 samples] each, or float32 in the same units.
        seconds: how many of each are used; what is missing is filled with zeros.

    Returns:
        float32 [n, 1, 160, 101]; of other seconds than 1, `frames_of(seconds)` frames.

    """
    most, frames = samples_of(seconds), frames_of(seconds)
    padded = torch.zeros(len(clips), most)
    known = torch.empty(len(clips), dtype=torch.int64)
    for i, clip in enumerate(clips):
        mirrored = np.pad(clip[:most], WINDOW // 2, mode="reflect")[:most]
        padded[i, : len(mirrored)] = torch.from_numpy(mirrored.astype(np.float32) / 32768)
        known[i] = 1 + len(clip) // HOP
    window = torch.hamming_window(WINDOW)
    spectra = torch.stft(padded, WINDOW, HOP, window=window, center=False, return_complex=True)
    features = spectra[:, :FREQUENCIES].abs().log1p_()
    features.masked_fill_(torch.arange(frames) >= known[:, None, None], 0.0)
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
    if not _is_whole(kept, sha256, len(paths)):
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


def _is_whole(kept: Path, sha256: Path, n: int) -> bool:
    """Return True for a file of the cache that is what was written; any other is made anew."""
    if not (kept.is_file() and sha256.is_file()):
        return False
    if sha256.read_bytes() != pooch.file_hash(str(kept)).encode():
        return False
    header = _header(n)
    with open(kept, "rb") as file:
        same = file.read(len(header)) == header
    return same and kept.stat().st_size == len(header) + 4 * n * FREQUENCIES * FRAMES


def _cache_folder(cache: str | os.PathLike[str] | None) -> Path:
    data, user = os.environ.get(DATA_DIR_ENV), os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache or (Path(data, "cache") if data else Path(user, "vicinal"))).expanduser()


def _digest(paths: Sequence[Path]) -> str:
    """Return what tells apart all that the features depend on."""
    digest = hashlib.sha256(repr((_VERSION, RATE, WINDOW, HOP, FREQUENCIES, FRAMES)).encode())
    for path in paths:
        try:
            digest.update(hashlib.sha256(limits.read_bytes(path)).digest())
        except OSError as e:
            raise UserError(f"'{path}' cannot be read ({e.strerror}): mend that, or remove it") from e
    return digest.hexdigest()[:32]


def _header(n: int) -> bytes:
    """Return the beginning of an .npy of n spectrograms."""
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (n, 1, FREQUENCIES, FRAMES)}
    np.lib.format.write_array_header_1_0(header, about)
    return header.getvalue()


def _write_spectrograms(
    file: BinaryIO, paths: Sequence[Path], read: Callable[[Path], Samples], progress: Progress | None
) -> None:
    """Write an .npy block by block: all of it may not fit into memory."""
    file.write(_header(len(paths)))
    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        file.write(spectrograms([read(path) for path in batch]).numpy().astype("<f4", copy=False).tobytes())
        if progress is not None:
            progress(start + len(batch), len(paths))
