"""Compressed files: gzip, bzip2, xz, Zstandard, and ZIP archives of one table."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from vicinal.lab import limits
from vicinal.lab.errors import UserError
from vicinal.lab.format import quoted

WORKBOOKS = (".xlsx", ".xlsm")
_WORKBOOK = "xl/workbook.xml"  # an .xlsx file is a ZIP archive that holds it


_CHUNK = 1 << 20  # bytes that are unpacked at a time, from bz2 and xz
_PIECE = 1 << 13  # packed bytes that are looked at; at most a thousand times as many of them come out at once
_DICTIONARY = 1 << 30  # bytes of memory that unpacking xz may take; "xz -9" takes 65 MiB
_DEEPEST = 4  # archives within archives


def _gzip(raw: bytes) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _zstandard(raw: bytes) -> Iterator[bytes]:
    import zstandard

    at = 0
    while at < len(raw):  # a file may be several frames
        frame = zstandard.ZstdDecompressor().decompressobj()
        while not frame.eof:
            if at >= len(raw):
                raise EOFError("it ends too early")
            piece = raw[at : at + _PIECE // 16]  # a block of four bytes may hold 128 KiB
            at += len(piece)
            try:
                yield frame.decompress(piece)
            except zstandard.ZstdError as e:
                raise ValueError(str(e)) from e
        at -= len(frame.unused_data)


def _streams(
    raw: bytes, begin: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor], error: type[Exception]
) -> Iterator[bytes]:
    """Yield what the streams of a file hold, one behind the other; what follows them and is not one is left, as usual."""
    at = 0
    while at < len(raw):
        first, stream = at == 0, begin()
        while not stream.eof:
            piece = raw[at : at + _PIECE] if stream.needs_input else b""
            if stream.needs_input and not piece:
                raise EOFError("it ends too early")
            at += len(piece)
            try:
                yield stream.decompress(piece, _CHUNK)
            except error:
                if first:
                    raise
                return
        at -= len(stream.unused_data)


def _bzip2(raw: bytes) -> Iterator[bytes]:
    return _streams(raw, bz2.BZ2Decompressor, OSError)


def _xz(raw: bytes) -> Iterator[bytes]:
    return _streams(raw, lambda: lzma.LZMADecompressor(memlimit=_DICTIONARY), lzma.LZMAError)


_KINDS: Mapping[str, tuple[str, bytes, Callable[[bytes], Iterator[bytes]]]] = {
    ".gz": ("gzip", b"\x1f\x8b", _gzip),
    ".bz2": ("bzip2", b"BZh", _bzip2),
    ".xz": ("xz", b"\xfd7zXZ\x00", _xz),
    ".zst": ("Zstandard", b"\x28\xb5\x2f\xfd", _zstandard),
}
_ZIP = b"PK\x03\x04"
# what damaged archives raise; NotImplementedError for versions and methods that there are not, RuntimeError for passwords
DAMAGE = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError, MemoryError, struct.error,
    zlib.error, lzma.LZMAError,
)  # fmt: skip
ENDINGS = (*_KINDS, ".zip")


def unpack(raw: bytes, name: str, is_table: Callable[[str], bool], depth: int = 0) -> tuple[bytes, str]:
    """Return what is compressed, by its first bytes or else by its name, and the name of that; else what was given.

    Args:
        raw: the file.
        name: of the file.
        is_table: whether a name is that of a table, for archives of several files.
        depth: archives that this one was in.

    Raises:
        UserError: it is damaged, is an archive of more or less than one table, unpacks to more than there is memory for,
            or needs a package.

    """
    ending = next((end for end in ENDINGS if name.lower().endswith(end)), "")
    if (ending == ".zip" or (raw.startswith(_ZIP) and not name.lower().endswith(WORKBOOKS))) and not is_workbook(raw):
        if depth == _DEEPEST:
            raise UserError(f"{name!r} is an archive in {depth} archives: unpack it and give one table")
        return unpack(*_only_table(raw, name, is_table), is_table, depth + 1)
    for of_kind, (kind, magic, unpacked) in _KINDS.items():
        if not raw.startswith(magic) and ending != of_kind:
            continue
        try:
            return _held(unpacked(raw), name), name[: -len(ending)] if ending else name
        except ImportError as e:
            raise UserError(
                f"{name!r} is compressed by Zstandard, which the package zstandard reads: pip install 'vicinal[zstd]',"
                f" or compress it as .gz"
            ) from e
        except (OSError, EOFError, ValueError, MemoryError, zlib.error, lzma.LZMAError) as e:
            raise _damaged(name, kind, e) from e
    return raw, name


def _held(chunks: Iterable[bytes], name: str) -> bytes:
    return limits.joined(chunks, name, "unpacks to", "give a smaller table")


def is_workbook(raw: bytes) -> bool:
    """Return whether these bytes are an Excel workbook (.xlsx), a ZIP archive too."""
    if not raw.startswith(_ZIP):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return _WORKBOOK in archive.namelist()
    except DAMAGE:
        return False


def _only_table(raw: bytes, name: str, is_table: Callable[[str], bool]) -> tuple[bytes, str]:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            held = [one for one in archive.namelist() if not one.endswith("/") and not one.startswith("__MACOSX")]
            tables = [one for one in held if is_table(one) and not one.lower().endswith(".zip")]
            if len(tables) != 1:
                found = f"{len(tables)} tables ({quoted(tables)})" if tables else "no table"
                found += f", but {quoted(held)}" if held and not tables else ""
                raise UserError(f"{name!r} holds {found}: unpack it and give one table")
            if archive.getinfo(tables[0]).flag_bits & 1:
                raise UserError(f"{tables[0]!r} in {name!r} is encrypted: unpack it and give the table")
            with archive.open(tables[0]) as file:
                return _held(iter(lambda: file.read(_CHUNK), b""), name), PurePosixPath(tables[0]).name
    except DAMAGE as e:
        raise _damaged(name, "ZIP", e) from e


def _damaged(name: str, kind: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split()).removesuffix(".") or "it asks for too much memory"
    return UserError(f"{name!r} is not a whole {kind} file ({reason}): compress or copy it again")
