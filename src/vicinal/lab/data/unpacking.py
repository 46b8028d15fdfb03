"""Compressed files: gzip, bzip2, xz, Zstandard, and ZIP archives of one table."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from vicinal.lab.errors import UserError
from vicinal.lab.format import quoted

WORKBOOKS = (".xlsx", ".xlsm")
_WORKBOOK = "xl/workbook.xml"  # an .xlsx file is a ZIP archive that holds it


def _zstandard(raw: bytes) -> bytes:
    import zstandard

    whole = []
    while raw:  # a file may be several frames
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            whole.append(frame.decompress(raw))
        except zstandard.ZstdError as e:
            raise ValueError(str(e)) from e
        if not frame.eof:
            raise EOFError("it ends too early")
        raw = frame.unused_data
    return b"".join(whole)


_KINDS: Mapping[str, tuple[str, bytes, Callable[[bytes], bytes]]] = {
    ".gz": ("gzip", b"\x1f\x8b", gzip.decompress),
    ".bz2": ("bzip2", b"BZh", bz2.decompress),
    ".xz": ("xz", b"\xfd7zXZ\x00", lzma.decompress),
    ".zst": ("Zstandard", b"\x28\xb5\x2f\xfd", _zstandard),
}
_ZIP = b"PK\x03\x04"
ENDINGS = (*_KINDS, ".zip")


def unpack(raw: bytes, name: str, is_table: Callable[[str], bool]) -> tuple[bytes, str]:
    """Return what is compressed, by its first bytes or else by its name, and the name of that; else what was given.

    Args:
        raw: the file.
        name: of the file.
        is_table: whether a name is that of a table, for archives of several files.

    Raises:
        UserError: it is damaged, is an archive of more or less than one table, or needs a package.

    """
    ending = next((end for end in ENDINGS if name.lower().endswith(end)), "")
    if (ending == ".zip" or (raw.startswith(_ZIP) and not name.lower().endswith(WORKBOOKS))) and not is_workbook(raw):
        return unpack(*_only_table(raw, name, is_table), is_table)
    for of_kind, (kind, magic, unpacked) in _KINDS.items():
        if not raw.startswith(magic) and ending != of_kind:
            continue
        try:
            return unpacked(raw), name[: -len(ending)] if ending else name
        except ImportError as e:
            raise UserError(
                f"{name!r} is compressed by Zstandard, which the package zstandard reads: pip install 'vicinal[zstd]',"
                f" or compress it as .gz"
            ) from e
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as e:
            raise _damaged(name, kind, e) from e
    return raw, name


def is_workbook(raw: bytes) -> bool:
    """Return whether these bytes are an Excel workbook (.xlsx), a ZIP archive too."""
    if not raw.startswith(_ZIP):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return _WORKBOOK in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
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
            return archive.read(tables[0]), PurePosixPath(tables[0]).name
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as e:
        raise _damaged(name, "ZIP", e) from e


def _damaged(name: str, kind: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split()).removesuffix(".")
    return UserError(f"{name!r} is not a whole {kind} file ({reason}): compress or copy it again")
