"""Readers of images and audio, for hostile input."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import scipy.signal  # noqa: F401  # what reading imports, once before all forks
import soundfile
from PIL import Image

from torture.hostile.engine import Reader
from vicinal.lab.data import audio, speech_commands
from vicinal.lab.data.transforms import ImageError, center_crop, decode, mute_decoders
from vicinal.lab.errors import UserError

# ---- images ----------------------------------------------------------------------------------------------------------


def _picture() -> Image.Image:
    rows = np.arange(24 * 20 * 3, dtype=np.uint32).reshape(24, 20, 3) * 37 % 256
    return Image.fromarray(rows.astype(np.uint8))


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _png() -> list[bytes]:
    picture, frames = _picture(), [_picture().rotate(90 * i) for i in range(3)]
    deep = Image.fromarray(np.arange(480, dtype=np.uint16).reshape(24, 20) * 130)
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        _saved(picture, "PNG", icc_profile=b"x" * 300, exif=exif),
        _saved(picture.convert("P"), "PNG", transparency=3),
        _saved(picture.convert("1"), "PNG"),
        _saved(deep, "PNG"),
        _saved(picture.convert("RGBA"), "PNG"),
        _saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
    ]


def _seal_png(raw: bytes) -> bytes:
    """Write the right checksum of each chunk."""
    sealed, at = bytearray(raw), 8
    while at + 12 <= len(sealed):
        (length,) = struct.unpack_from(">I", sealed, at)
        end = at + 8 + length
        if end + 4 > len(sealed):
            break
        struct.pack_into(">I", sealed, end, zlib.crc32(sealed[at + 4 : end]))
        at = end + 4
    return bytes(sealed)


def _images() -> list[bytes]:
    picture, frames = _picture(), [_picture().rotate(90 * i) for i in range(3)]
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "words"
    made = [
        _saved(picture, "JPEG", exif=exif, icc_profile=b"y" * 300),
        _saved(picture, "JPEG", progressive=True),
        _saved(picture.convert("CMYK"), "JPEG"),
        _saved(picture.convert("L"), "JPEG"),
        _saved(picture, "WEBP"),
        _saved(picture.convert("RGBA"), "WEBP", lossless=True),
        _saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        _saved(picture, "BMP"),
        _saved(picture.convert("P"), "BMP"),
        _saved(picture.convert("1"), "BMP"),
        _saved(picture, "GIF"),
        _saved(frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=0),
        _saved(picture, "PPM"),
        _saved(picture.convert("L"), "PPM"),
        b"P2 3 2 255 1 2 3 4 5 6\n",
        b"P5 2 2 65535 " + bytes(8),
        *_png()[:2],
    ]
    return made


def _tiffs() -> list[bytes]:
    picture = _picture()
    made = [
        _saved(picture, "TIFF", compression=kind) for kind in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg")
    ]
    made += [_saved(picture.convert(mode), "TIFF") for mode in ("1", "L", "P", "CMYK", "RGBA")]
    made.append(_saved(picture.convert("1"), "TIFF", compression="group4"))
    made.append(_saved(Image.fromarray(np.full((9, 9), 5000, np.uint16)), "TIFF"))
    return made


def _decode(raw: bytes) -> object:
    mute_decoders()
    return decode(raw, center_crop, 32)


def _as_bytes(raw: bytes, folder: Path) -> bytes:
    return raw


_IMAGE_TOKENS = [
    *(
        b"IHDR",
        b"PLTE",
        b"tRNS",
        b"iCCP",
        b"zTXt",
        b"iTXt",
        b"acTL",
        b"fcTL",
        b"fdAT",
        b"IDAT",
        b"IEND",
        b"eXIf",
        b"Exif\0\0",
    ),
    *(
        b"\xff\xd8",
        b"\xff\xc0",
        b"\xff\xc2",
        b"\xff\xc4",
        b"\xff\xda",
        b"\xff\xd9",
        b"\xff\xe1",
        b"\xff\xe2ICC_PROFILE\0",
    ),
    *(
        b"RIFF",
        b"VP8X",
        b"VP8L",
        b"VP8 ",
        b"ANIM",
        b"ANMF",
        b"ICCP",
        b"GIF89a",
        b"\x21\xf9\4",
        b"\x21\xff\x0b",
        b"\x2c",
        b"P6 ",
    ),
    *(b"II*\0", b"MM\0*", b"\7\0\4\0", b"#", b" 99999999 99999999 255\n", b"\x7f\xff\xff\xff", b"\0\0\xff\xff", b"BM"),
]

# ---- audio -----------------------------------------------------------------------------------------------------------


def _wave(rate: int = 16_000, channels: int = 1, width: int = 2, n: int = 1200, kind: int = 1) -> bytes:
    samples = (np.sin(np.arange(n * channels) / 5) * 9000).astype("<i4")
    raw = (samples * (1 << 8 * (width - 2)) if width > 2 else samples // (1 << 8 * (2 - width))).astype("<i4").tobytes()
    body = b"".join(raw[i : i + width] for i in range(0, len(raw), 4))
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * width, channels * width, 8 * width)
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def _wavs() -> list[bytes]:
    made = [_wave(), _wave(8000, 2), _wave(44_100, 1, 3), _wave(16_000, 1, 1), _wave(16_000, 1, 4)]
    for kind in ("FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "PCM_24"):
        file = io.BytesIO()
        soundfile.write(
            file, np.sin(np.arange(1200) / 5) * 0.5, 16_000, format="WAVEX" if kind == "PCM_24" else "WAV", subtype=kind
        )
        made.append(file.getvalue())
    return made


def _clips() -> list[bytes]:
    made = []
    for form, kind, rate in (
        *(("FLAC", "PCM_16", 16_000), ("FLAC", "PCM_24", 44_100), ("OGG", "VORBIS", 16_000), ("OGG", "OPUS", 16_000)),
        *(("MP3", "MPEG_LAYER_III", 16_000), ("FLAC", "PCM_S8", 8_000)),
    ):
        file = io.BytesIO()
        soundfile.write(file, np.sin(np.arange(2400) / 5) * 0.5, rate, format=form, subtype=kind)
        made.append(file.getvalue())
    return made


_AUDIO_TOKENS = [
    *(
        b"RIFF",
        b"WAVE",
        b"fmt ",
        b"data",
        b"LIST",
        b"fact",
        b"bext",
        b"RF64",
        b"ds64",
        b"fLaC",
        b"OggS",
        b"ID3",
        b"Xing",
        b"Info",
    ),
    *(
        b"\xff\xff\xff\x7f",
        b"\0\0\0\0",
        b"\xff\xff",
        b"\0\0",
        b"\xfe\xff",
        b"\3\0",
        b"\6\0",
        b"\7\0",
        b"\x11\0",
        b"\xff\xfb",
    ),
]


def _read_clip(path: Path) -> object:
    return speech_commands.read_clip(path)


READERS: list[Reader] = [
    Reader("image", _images, _decode, refusals=(ImageError,), tokens=_IMAGE_TOKENS, deliver=_as_bytes),
    Reader("png", _png, _decode, refusals=(ImageError,), tokens=_IMAGE_TOKENS, wrap=_seal_png, deliver=_as_bytes),
    Reader("tiff", _tiffs, _decode, refusals=(ImageError,), tokens=_IMAGE_TOKENS, deliver=_as_bytes),
    Reader("wav", _wavs, audio.read_any, refusals=(UserError,), tokens=_AUDIO_TOKENS, suffix=".wav"),
    Reader("audio", _clips, audio.read_any, refusals=(UserError,), tokens=_AUDIO_TOKENS, suffix=".flac"),
    Reader("speech-clip", lambda: [*_wavs()[:3], *_clips()[:2]], _read_clip, tokens=_AUDIO_TOKENS, suffix=".wav"),
]
