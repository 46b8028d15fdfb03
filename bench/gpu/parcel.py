"""Parcels: files cut into pieces that pass through narrow doors, each checked by its SHA-256 when it arrives.

A parcel is a folder of parts, part-00, part-01, ...; a part holds a few pieces and the manifest of the whole parcel, so
that parts may arrive in any order, by themselves. Images of CIFAR travel as lossless WebP, 0.55 of their bytes (PNG
0.71, LZMA 0.76, LZMA after prediction 0.56; measured on 2,048 images).
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from vicinal.lab import atomic
from vicinal.lab.errors import UserError

PIECE = 15 * 2**20
PART = 60 * 2**20
_STRIP = 511  # images below one another: WebP is at most 16,383 high
CIFAR = {
    "cifar10": ("cifar-10-batches-bin", [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"], 1),
    "cifar100": ("cifar-100-binary", ["train.bin", "test.bin"], 2),
}


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---- out


def cut(
    contents: Mapping[str, bytes], kind: str, folder: Path, labels: Mapping[str, int] | None = None, part: int = PART
) -> list[Path]:
    """Write a parcel.

    Args:
        contents: files by their relative names.
        kind: "data" or "state": where it belongs on arrival.
        folder: made if absent; parts of an older parcel in it are removed.
        labels: for files of CIFAR images, how many label bytes each image has: these are compressed.
        part: bytes of a part at most.

    Returns:
        The folders of the parts.

    """
    entries, packed = [], []
    for name, content in contents.items():
        coded = content if name not in (labels or {}) else _to_webp(content, (labels or {})[name])
        codec = "raw" if coded is content else "webp"
        entries.append(
            {"name": name, "size": len(content), "sha256": _sha(content), "codec": codec, "packed": len(coded)}
        )
        packed.append(coded)
    whole = b"".join(packed)
    size = min(PIECE, part)
    pieces = [whole[i : i + size] for i in range(0, len(whole), size)] or [b""]
    manifest = {
        "kind": kind,
        "files": entries,
        "pieces": [{"name": f"piece-{i:03d}", "size": len(p), "sha256": _sha(p)} for i, p in enumerate(pieces)],
    }
    text = json.dumps(manifest, indent=1)
    folder.mkdir(parents=True, exist_ok=True)
    for old in parts(folder):
        _remove(old)
    per_part = max(1, part // size)
    made = []
    for number, start in enumerate(range(0, len(pieces), per_part)):
        place = folder / f"part-{number:02d}"
        place.mkdir()
        for i in range(start, min(start + per_part, len(pieces))):
            atomic.write(place / f"piece-{i:03d}", pieces[i])
        atomic.write(place / "manifest.json", text)
        made.append(place)
    return made


def parts(folder: Path) -> list[Path]:
    """Give the parts that lie in a folder."""
    return sorted(p for p in folder.glob("part-[0-9]*") if p.is_dir())


def _remove(part: Path) -> None:
    for file in part.iterdir():
        file.unlink()
    part.rmdir()


def cifar(name: str, root: Path, folder: Path) -> list[Path]:
    """Write the parcel of CIFAR-10 or CIFAR-100 from the publisher's binary folder under `root`."""
    if name not in CIFAR:
        raise UserError(f"there is no dataset {name!r} to pack: take {' or '.join(CIFAR)}")
    inside, names, labels = CIFAR[name]
    absent = [n for n in names if not (root / inside / n).is_file()]
    if absent:
        raise UserError(f"'{root / inside}' lacks {', '.join(absent)}: unpack the binary version of {name} there")
    contents = {f"{inside}/{n}": (root / inside / n).read_bytes() for n in names}
    return cut(contents, "data", folder, dict.fromkeys(contents, labels))


# ---- in


def arrived(folders: Iterable[Path]) -> tuple[dict[str, Any], list[bytes | None]]:
    """Read what there is of one parcel.

    Returns:
        Its manifest, and its pieces, None for those that are not there.

    Raises:
        UserError: there is no manifest, parts of different parcels, or a damaged piece (by name).

    """
    manifests = sorted({m for folder in folders for m in folder.rglob("manifest.json")})
    if not manifests:
        raise UserError(f"no manifest.json under {', '.join(map(str, folders))}: give the folder that holds the parts")
    texts = {m.read_text() for m in manifests}
    if len(texts) > 1:
        raise UserError(
            f"{', '.join(str(m.parent) for m in manifests)} are parts of different parcels: give those of one"
        )
    manifest = json.loads(texts.pop())
    pieces: list[bytes | None] = []
    for piece in manifest["pieces"]:
        found = [m.parent / piece["name"] for m in manifests if (m.parent / piece["name"]).is_file()]
        content = found[0].read_bytes() if found else None
        if content is not None and _sha(content) != piece["sha256"]:
            raise UserError(
                f"'{found[0]}' arrived damaged ({len(content)} of {piece['size']} bytes): send its part again"
            )
        pieces.append(content)
    return manifest, pieces


def unpack(folders: Sequence[Path], to: Path) -> list[Path]:
    """Write the files of a whole parcel, each checked against its own SHA-256.

    Raises:
        UserError: pieces are missing or damaged, or a file is not what was packed; nothing is written then.

    """
    manifest, pieces = arrived(folders)
    missing = [p["name"] for p, content in zip(manifest["pieces"], pieces, strict=True) if content is None]
    if missing:
        raise UserError(f"{', '.join(missing)} of {len(pieces)} pieces are not there: send the other parts too")
    whole = b"".join(piece for piece in pieces if piece is not None)
    contents, start = {}, 0
    for entry in manifest["files"]:
        coded = whole[start : start + entry["packed"]]
        start += entry["packed"]
        content = coded if entry["codec"] == "raw" else _from_webp(coded)
        if _sha(content) != entry["sha256"]:
            raise UserError(f"{entry['name']} is not what was packed: pack and send the parcel again")
        contents[_inside(entry["name"])] = content
    for name, content in contents.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        atomic.write(to / name, content)
    return [to / name for name in contents]


def _inside(name: str) -> str:
    """Refuse a name that leads out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(f"the parcel names a file {name!r} outside its folder: it was not made by this program")
    return name


# ---- images of 32 x 32


def _to_webp(records: bytes, labels: int) -> bytes:
    """Code CIFAR records (label bytes, then 3,072 of an image): counts, labels, then strips of images as WebP."""
    rows = np.frombuffer(records, np.uint8).reshape(-1, labels + 3072)
    out = [struct.pack("<II", len(rows), labels), rows[:, :labels].tobytes()]
    for start in range(0, len(rows), _STRIP):
        planes = rows[start : start + _STRIP, labels:].reshape(-1, 3, 32, 32)
        buffer = io.BytesIO()
        strip = np.ascontiguousarray(planes.transpose(0, 2, 3, 1)).reshape(-1, 32, 3)
        Image.fromarray(strip).save(buffer, "WEBP", lossless=True, method=2)
        out += [struct.pack("<I", buffer.tell()), buffer.getvalue()]
    return b"".join(out)


def _from_webp(coded: bytes) -> bytes:
    n, labels = struct.unpack_from("<II", coded)
    at = 8 + n * labels
    rows = np.empty((n, labels + 3072), np.uint8)
    rows[:, :labels] = np.frombuffer(coded, np.uint8, n * labels, 8).reshape(n, labels)
    for start in range(0, n, _STRIP):
        (size,) = struct.unpack_from("<I", coded, at)
        with Image.open(io.BytesIO(coded[at + 4 : at + 4 + size])) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 32, 32, 3)
        rows[start : start + _STRIP, labels:] = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), 3072)
        at += 4 + size
    return rows.tobytes()
