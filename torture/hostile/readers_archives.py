"""Readers of archives, pickles and folders, for hostile input."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import socket
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from torture.hostile.engine import Reader
from torture.hostile.mutations import mutate_json, smaller_json
from vicinal.lab.data import audio, cifar, class_folder, download, speech_commands

# ---- tar -------------------------------------------------------------------------------------------------------------

_TAR_TOKENS = [
    *(
        b"../x",
        b"/tmp/x",
        b"data/../../x",
        b"ustar\0" + b"00",
        b"ustar  \0",
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
        b"5",
        b"6",
        b"7",
    ),
    *(
        b"L",
        b"K",
        b"S",
        b"x",
        b"g",
        b"\x80\0\0\0\0\0\0\0\0\0\0\1",
        b"\xff" * 12,
        b"77777777777\0",
        b"20 path=../../x\n",
    ),
    *(b"30 size=99999999999999999\n", b"19 mtime=1e400\n", b"22 linkpath=/etc/x\n", b"\xff", b"GNU.sparse.size=1\n"),
    *(b"99999999999 path=x\n", b"-1 path=x\n", b"0 x=y\n", b"23 hdrcharset=BINARY\n", b"000644 \0", b"-00001 \0"),
]


def _tars() -> list[bytes]:
    made = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as tar:
            for name, content in (
                ("data", None),
                ("data/a.bin", b"a" * 700),
                ("data/ä" + "n" * 90, b""),
                ("data/b/c", b"c"),
            ):
                member = tarfile.TarInfo(name)
                member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
                member.size = len(content or b"")
                member.mode = 0o755 if content is None else 0o644
                tar.addfile(member, io.BytesIO(content or b""))
            if form != tarfile.USTAR_FORMAT:
                member = tarfile.TarInfo("data/" + ("n" * 60 + "/") * 3 + "x")
                member.size = 3
                tar.addfile(member, io.BytesIO(b"abc"))
        made.append(file.getvalue())
    return made


def _seal_tar(raw: bytes) -> bytes:
    """Write the right checksum into each block that looks like a header."""
    sealed = bytearray(raw)
    for at in range(0, len(sealed) - 511, 512):
        block = sealed[at : at + 512]
        if block[257:262] != b"ustar":
            continue
        block[148:156] = b" " * 8
        sealed[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    return bytes(sealed)


def _unpack(folder: Path) -> object:
    return download.extract(folder / "a.tar", folder / "data", inside=True)


def _as_archive(raw: bytes, folder: Path) -> Path:
    (folder / "a.tar").write_bytes(raw)
    return folder


_MEMBER: dict[str, Any] = {"name": "data/f", "type": "0", "size": 5, "link": "", "mode": 420, "mtime": 0, "pax": {}}


def _member_specs() -> list[bytes]:
    kinds = [
        {"name": "data", "type": "5"},
        {"name": "data/f"},
        {"name": "data/l", "type": "2", "link": "f"},
        {"name": "data/h", "type": "1", "link": "data/f"},
        {"name": "data/d", "type": "3"},
        {"name": "data/p", "type": "6"},
        {"name": "data/x", "pax": {"path": "data/y", "mtime": "1.5", "size": "5"}},
        {"name": "data/s", "pax": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}},
    ]
    made = [[{**_MEMBER, **one} for one in kinds[:2]]]
    made += [[{**_MEMBER, **one} for one in (*kinds[:2], kind)] for kind in kinds[2:]]
    out = {**_MEMBER, "name": "data/out", "type": "2", "link": "../.."}
    return [json.dumps(one).encode() for one in (*made, [made[0][0], out, {**_MEMBER, "name": "data/out/escaped"}])]


def _built(raw: bytes, folder: Path) -> Path:
    """Build an archive of what JSON says of its members, as far as that can be written."""
    try:
        spec = json.loads(raw)
    except (ValueError, RecursionError):
        spec = []
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for one in spec[:50] if isinstance(spec, list) else ():
            if not isinstance(one, dict):
                continue
            member = tarfile.TarInfo(str(one.get("name"))[:20_000])
            member.type = str(one.get("type"))[:1].encode("latin-1", "replace") or b"0"
            member.linkname = str(one.get("link"))[:20_000]
            member.size = one["size"] if isinstance(one.get("size"), int) else 5
            member.mode = one["mode"] if isinstance(one.get("mode"), int) else 0o644
            member.mtime = one["mtime"] if isinstance(one.get("mtime"), int | float) else 0
            pax = one.get("pax")
            member.pax_headers = (
                {str(key): str(value)[:20_000] for key, value in pax.items()} if isinstance(pax, dict) else {}
            )
            with suppress(ValueError, OverflowError, TypeError, UnicodeError, KeyError, tarfile.TarError):
                tar.addfile(member)
                file.write(b"12345" + bytes(507))
                tar.offset = file.tell()
    (folder / "a.tar").write_bytes(gzip.compress(file.getvalue(), 1) if len(raw) % 2 else file.getvalue())
    return folder


# ---- CIFAR -----------------------------------------------------------------------------------------------------------

_N = 20


def _batches() -> list[bytes]:
    data = np.arange(_N * 3072, dtype=np.uint32).reshape(_N, 3072).astype(np.uint8)
    labels = [i % 10 for i in range(_N)]
    batch = {b"data": data, b"labels": labels, b"filenames": [b"x.png"] * _N, b"batch_label": b"1 of 1"}
    text = {"data": data, "labels": labels}
    return [pickle.dumps(one, protocol=protocol) for one in (batch, text) for protocol in (2, 4, 5)]


_PICKLE_TOKENS = [
    *(
        b"cos\nsystem\n",
        b"cbuiltins\neval\n",
        b"chostile_canary\nmake\n",
        b"(",
        b")",
        b"R",
        b"b",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
    ),
    *(
        b"\x93",
        b"\x81",
        b"r\xff\xff\xff\x3f",
        b"p99999999\n",
        b"j\xff\xff\xff\x7f",
        b"2",
        b"e",
        b"s",
        b"u",
        b"d",
        b"l",
        b"]",
        b"}",
    ),
    *(
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x96\xff\xff\xff\xff\0\0\0\0",
        b"\x95\xff\xff\xff\xff\0\0\0\0",
        b"\x8b\xff\xff",
    ),
    *(
        b"i__main__\nx\n",
        b"o",
        b"P1\n",
        b"Q",
        b"\x82\1",
        b"L" + b"9" * 5000 + b"L\n",
        b"\x8f",
        b"\x90",
        b"\x91",
        b"\x97",
        b"\x98",
    ),
]


def _read_batch(path: Path) -> object:
    return cifar._read_python(cifar._SETS["cifar10"], path, _N)


def _read_records(path: Path) -> object:
    return cifar._read_binary(cifar._SETS["cifar10"], path, _N)


def _records() -> list[bytes]:
    return [b"".join(bytes([i % 10]) + bytes([i]) * 3072 for i in range(_N))]


# ---- folders ---------------------------------------------------------------------------------------------------------


def _image(i: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), i * 9, np.uint8)).save(file, "PNG")
    return file.getvalue()


_CONTENTS = {"image": _image(3), "empty": b"", "text": b"words\n", "html": b"<html>", "zeros": bytes(100)}


def _class_specs() -> list[bytes]:
    plain = {f"{name}/{i}.png": "image" for name in ("cat", "dog") for i in range(6)}
    parts = {f"{part}/{path}": kind for part in ("train", "test") for path, kind in plain.items()}
    return [
        json.dumps(one).encode()
        for one in (
            plain,
            parts,
            {**plain, "cat/7.png": "fifo", "dog/8.png": "socket"},
            {**plain, "cat/7.png": "link:/dev/zero", "dog/9.png": "link:9.png", "dog/loop": "link:..", "x": "link:."},
            {
                **plain,
                "cat/a.png/b.png": "image",
                "cat/\n\x1b[2J.png": "image",
                "dog/.hidden.png": "text",
                "cat/t.txt": "text",
            },
        )
    ]


def _made_folder(raw: bytes, folder: Path) -> Path:
    """Make the files, links, pipes and sockets that JSON names."""
    place = folder / "data"
    place.mkdir()
    try:
        spec = json.loads(raw)
    except (ValueError, RecursionError):
        spec = {}
    for name, kind in [*spec.items()][:200] if isinstance(spec, dict) else ():
        steps = [step.replace("\0", "_")[:200] for step in str(name).split("/") if step not in ("", ".", "..")][:900]
        path = place.joinpath(
            *(step.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") for step in steps)
        )
        with suppress(OSError):  # names that exclude one another, or are too long
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = str(kind)
            if kind == "fifo":
                os.mkfifo(path)
            elif kind == "socket":
                with socket.socket(socket.AF_UNIX) as one:
                    one.bind(str(path))
            elif kind.startswith("link:"):
                path.symlink_to(kind[5:].replace("\0", "_")[:200] or ".")
            else:
                path.write_bytes(_CONTENTS.get(kind, kind[:2000].encode("utf-8", "surrogatepass")))
    return place


def _read_classes(folder: Path) -> object:
    return class_folder.read(folder, skip_broken=True)


def _speech_specs() -> list[bytes]:
    files = {f"{word}/{i:08x}_nohash_0.wav": "empty" for word in ("yes", "no") for i in range(6)}
    first = next(iter(files))
    return [
        json.dumps({**files, "validation_list.txt": first + "\n", "testing_list.txt": [*files][7] + "\n"}).encode(),
        json.dumps({**files, "validation_list.txt": first + "\n"}).encode(),
        json.dumps({**files, "validation_list.txt": "\ud800", "testing_list.txt": "fifo"}).encode(),
        json.dumps(files).encode(),
    ]


def _read_speech(folder: Path) -> object:
    return speech_commands.utterances(folder)


# ---- the cache of spectrograms ---------------------------------------------------------------------------------------


def _cache(raw: bytes, folder: Path) -> Path:
    """Make a clip, and a cache of its spectrogram in which the two files are what the input says."""
    place = folder / "cache"
    clip = folder / "c.wav"
    from torture.hostile.readers_media import _wave

    clip.write_bytes(_wave())
    audio.cached_spectrograms([clip], "x", cache=place)
    npy = next(place.glob("*.npy"))
    head, _, body = raw.partition(b"\n")
    npy.write_bytes(body)
    sha256 = npy.with_suffix(".sha256")
    if head == b"right":
        import hashlib

        sha256.write_text(hashlib.sha256(body).hexdigest())
    else:
        sha256.write_bytes(head)
    return folder


def _cache_seeds() -> list[bytes]:
    file = io.BytesIO()
    np.save(file, np.zeros((1, 1, 160, 101), "<f4"))
    small = io.BytesIO()
    np.save(small, np.zeros((2, 3), "<f8"))
    return [b"right\n" + file.getvalue(), b"right\n" + small.getvalue(), b"\xff\xfe\n" + small.getvalue()]


def _read_cache(folder: Path) -> object:
    found = audio.cached_spectrograms([folder / "c.wav"], "x", cache=folder / "cache")
    if found.shape != (1, 1, 160, 101):
        raise AssertionError(f"a cache of shape {tuple(found.shape)} was taken")
    return found


READERS: list[Reader] = [
    Reader("tar", _tars, _unpack, tokens=_TAR_TOKENS, wrap=_seal_tar, deliver=_as_archive),
    Reader("tar-members", _member_specs, _unpack, mutate_json, deliver=_built, smaller=smaller_json),
    Reader("cifar-pickle", _batches, _read_batch, tokens=_PICKLE_TOKENS),
    Reader("cifar-binary", _records, _read_records),
    Reader("class-folder", _class_specs, _read_classes, mutate_json, deliver=_made_folder, smaller=smaller_json),
    Reader("speech-folder", _speech_specs, _read_speech, mutate_json, deliver=_made_folder, smaller=smaller_json),
    Reader("audio-cache", _cache_seeds, _read_cache, deliver=_cache),
]
