"""JSON that is read back: with a format number, a checksum, and a schema that is checked.

A checksum tells damage and edits that nobody meant; it is not a signature, since who means to deceive can write it anew.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NoReturn

from vicinal.lab import atomic, limits, records
from vicinal.lab.errors import UserError

CHECKSUM = "sha256"


class Unsealed(ValueError):
    """What is not JSON of the form that was written: the message says why, as the end of a sentence."""


class OtherFormat(Unsealed):
    """What another version wrote.

    Args:
        found: its format.
        read: the format that this version reads.

    """

    def __init__(self, found: object, read: int) -> None:
        super().__init__(f"it has format {found}, of another version of vicinal, and this one reads format {read}")
        self.found = found


def digest(value: Any) -> str:
    """Return the SHA-256 of a value as JSON holds it, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def seal(record: dict[str, Any], form: int, *, indent: int | None = None) -> str:
    """Return a record as JSON, with its format first and its checksum last.

    Example:
        >>> seal({"a": 1}, 2)[:24]
        '{"format": 2, "a": 1, "s'

    """
    if CHECKSUM in record:
        raise ValueError(f"a record has no field {CHECKSUM!r} of its own")
    whole = json.loads(json.dumps({"format": form, **record}, allow_nan=False))  # keys are texts, as they are read
    return json.dumps({**whole, CHECKSUM: digest(whole)}, indent=indent, allow_nan=False)


def unseal(text: bytes | str, form: int) -> dict[str, Any]:
    """Return the record that `seal` wrote, without format and checksum.

    Raises:
        OtherFormat: it is of another format.
        Unsealed: it is not what was written.

    """
    record = parse(text)
    if not isinstance(record, dict):
        raise Unsealed("it holds no table of fields")
    if record.get("format") != form or type(record["format"]) is not int:
        if type(record.get("format")) is int:
            raise OtherFormat(record["format"], form)
        raise Unsealed("it has no format number")
    checksum = record.pop(CHECKSUM, None)
    if checksum != digest(record):
        raise Unsealed("it is not as it was written: its checksum does not fit")
    del record["format"]
    return record


def parse(text: bytes | str) -> Any:
    """Return the value of strict JSON.

    Raises:
        Unsealed: it is not JSON, is nested too deeply, or holds NaN or Infinity, which JSON does not have.

    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Unsealed("it is not JSON, or is cut off") from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def write(path: Path, record: dict[str, Any], form: int, *, indent: int | None = None) -> None:
    """Write a record so that a reader sees the old file or the new one, never a part."""
    atomic.write(path, seal(record, form, indent=indent))


def read(path: Path, form: int, advice: str) -> dict[str, Any]:
    """Return the record that `write` wrote.

    Args:
        path: of the file.
        form: its format, of this version.
        advice: what to do about a file that cannot be used: the end of the sentence.

    Raises:
        FileNotFoundError: it is not there.
        UserError: it cannot be read, is of another format, or is not what was written.

    """
    try:
        return unseal(limits.read_bytes(path), form)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read ({(error.strerror or str(error)).lower()}): {advice}") from error
    except Unsealed as error:
        raise UserError(f"{path} cannot be used: {error}; {advice}") from error


def read_as(kind: Any, path: Path, form: int, advice: str) -> Any:
    """Return the record of type `kind` that `write` wrote of `records.to_json`; see `read`."""
    record = read(path, form, advice)
    try:
        return records.from_json(kind, record)
    except records.Mismatch as error:
        raise UserError(f"{path} cannot be used: {error}; {advice}") from error
