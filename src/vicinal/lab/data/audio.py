"""Audio of any usual form: .wav of whole numbers, and .flac where the package soundfile is installed."""

from __future__ import annotations

import importlib
import math
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.lab.errors import UserError

_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}  # of FLAC


@dataclass(frozen=True, eq=False)
class Clip:
    """What a file holds.

    Args:
        samples: int32 [n, channels]: whatever the bits were, full scale is that of 32.
        bits: of a sample in the file.
        rate: samples a second.

    """

    samples: NDArray[np.int32]
    bits: int
    rate: int

    @property
    def channels(self) -> int:
        """How many."""
        return self.samples.shape[1]


def read(path: Path, seconds: float | None = None) -> Clip:
    """Read a .wav or .flac file.

    Args:
        path: its kind is that of its name.
        seconds: only this many from the beginning (rounded up to a sample); by default all.

    Raises:
        UserError: if it is damaged, cut off, or of another form.

    """
    return _read_flac(path, seconds) if path.suffix.lower() == ".flac" else _read_wav(path, seconds)


def _read_wav(path: Path, seconds: float | None) -> Clip:
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
    return Clip(samples ^ np.int32(-(2**31)) if width == 1 else samples, 8 * width, rate)  # 8 bits have no sign


def _read_flac(path: Path, seconds: float | None) -> Clip:
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
    return Clip(samples, _BITS.get(about.subtype, 0), rate)
