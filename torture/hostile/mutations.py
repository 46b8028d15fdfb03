"""Changes at random to valid inputs: of bytes, of the fields of a text, of JSON, and of nested Python values."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import random
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

Mutate = Callable[[bytes, random.Random, Sequence[bytes], Sequence[bytes]], bytes]  # input, source, other seeds, tokens

LONG = 1_000_000  # characters of a long text
DEEP = 20_000  # levels of a deep nest
_EDGES = [
    value + step
    for bits in (7, 8, 15, 16, 23, 24, 31, 32, 53, 62, 63, 64)
    for value in ((1 << bits), -(1 << bits))
    for step in (-1, 0, 1)
] + [0, 1, -1, 2, 3, 10, 100]
NUMBERS = [
    b"0", b"-0", b"-1", b"1e300", b"-1e300", b"1e-300", b"1e999", b"-1e999", b"inf", b"-inf", b"nan", b"NaN", b"Infinity",
    b"-Infinity", b"0x10", b"1_000", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808",
    b"-9223372036854775809", b"18446744073709551616", b"9007199254740993", b"1" * 400, b"1e", b"--1", b"1,5", b"1.5.2",
    b"\xd9\xa3", b"+5", b"5%", b"$5", b"2020-02-30", b"0000-00-00", b"9999-12-31", b"99999-01-01", b"true", b"NULL",
]  # fmt: skip
TEXTS = [
    b"", b" ", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"'", b'"', b'""', b",", b";", b"|", b"\\", b"\\u0000", b"%s%n", b"{}",
    b"\x1b[2J", b"\x1b]0;x\x07", b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\xae",
    b"\xf0\x9f\x98\x80", b"e\xcc\x81", b"../../x", b"/etc/passwd", b"..", b"CON", b"<script>alert(1)</script>",
    b"=1+1", b"A" * 300, b"A" * 70_000, b"hostile_canary:make", b"hostile_canary",
]  # fmt: skip


# ---- bytes -----------------------------------------------------------------------------------------------------------


def mutate_bytes(raw: bytes, rng: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """Change some bytes: bits, edge integers, tokens, parts cut, doubled, moved, or taken from another input."""
    if not raw:
        return rng.randbytes(rng.randrange(1, 64))
    data = bytearray(raw)
    at = rng.randrange(len(data))
    match rng.randrange(11):
        case 0 | 1:
            for _ in range(rng.choice((1, 1, 2, 8))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            data[at] = rng.choice((0, 255, 127, 128, 1, 32, 10, 13, rng.randrange(256)))
        case 3 | 4:
            size = rng.choice((1, 2, 4, 8))
            value = rng.choice(_EDGES) & ((1 << 8 * size) - 1)
            data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
        case 5:
            del data[at:]
        case 6:
            del data[at : at + _length(rng, len(data))]
        case 7:
            part = data[at : at + _length(rng, len(data))]
            times = rng.choice((1, 1, 2, 10, 100))
            to = rng.randrange(len(data) + 1)
            data[to:to] = part * (times if len(part) * times < 1 << 20 else 1)
        case 8 if others:
            other = others[rng.randrange(len(others))]
            if other:
                cut = rng.randrange(len(other))
                data = data[:at] + other[cut:] if rng.random() < 0.5 else bytearray(other[:cut]) + data[at:]
        case 9 if tokens:
            token = tokens[rng.randrange(len(tokens))]
            data[at : at + (len(token) if rng.random() < 0.5 else 0)] = token
        case _:
            size = _length(rng, len(data))
            data[at : at + size] = (
                rng.randbytes(min(size, 64)) if rng.random() < 0.5 else rng.choice((b"\0", b"\xff")) * size
            )
    return bytes(data)


def _length(rng: random.Random, size: int) -> int:
    return rng.choice((1, 2, 4, 8, 16, 64, max(1, rng.randrange(size))))


def smaller_bytes(raw: bytes) -> Iterator[bytes]:
    """Yield an input without parts of it, large parts first, and then with parts made of zeros."""
    size = len(raw) // 2
    while size >= 1:
        for at in range(0, len(raw), size):
            yield raw[:at] + raw[at + size :]
        size //= 2


# ---- fields of texts -------------------------------------------------------------------------------------------------

_FIELD = re.compile(rb"[^,;\t\n\r|{}\s]+")
_LINE = re.compile(rb"[^\n]*\n?")


def mutate_text(raw: bytes, rng: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """Change fields or lines of a text of fields; now and then its bytes."""
    if len(raw) < 2 or rng.random() < 0.3:
        return mutate_bytes(raw, rng, others, [*tokens, *TEXTS[:20]])
    if rng.random() < 0.7:
        start = rng.randrange(len(raw))
        if not (found := _FIELD.search(raw, start) or _FIELD.search(raw)):
            return mutate_bytes(raw, rng, others, tokens)
        new = rng.choice((NUMBERS, NUMBERS, TEXTS, tokens or TEXTS))
        token = new[rng.randrange(len(new))]
        if rng.random() < 0.05:  # the whole column of a name or value
            return raw.replace(found[0], token)
        return raw[: found.start()] + token + raw[found.end() :]
    lines = raw.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines[at:at] = [lines[at]] * rng.choice((1, 1, 2, 50))
        case 2:
            to = rng.randrange(len(lines))
            lines[at], lines[to] = lines[to], lines[at]
        case _:
            if others and (theirs := others[rng.randrange(len(others))].splitlines(keepends=True)):
                lines[at] = theirs[rng.randrange(len(theirs))]
    return b"".join(lines)


# ---- JSON ------------------------------------------------------------------------------------------------------------


def mutate_json(raw: bytes, rng: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """Change the structure of JSON, or of one of its lines; now and then its bytes."""
    if rng.random() < 0.2:
        return mutate_bytes(raw, rng, others, [*tokens, *NUMBERS, *TEXTS])
    if rng.random() < 0.01:
        return raw.replace(b":", b":" + b"[" * DEEP, 1) if rng.random() < 0.5 else b"[" * DEEP + raw + b"]" * DEEP
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        lines = raw.splitlines(keepends=True)
        at = rng.randrange(len(lines) or 1)
        try:
            changed = _dump(mutate_value(json.loads(lines[at]), rng, None))
        except (ValueError, RecursionError, IndexError):
            return mutate_bytes(raw, rng, others, tokens)
        return b"".join([*lines[:at], changed, b"\n", *lines[at + 1 :]])
    other: Any = None
    if others and rng.random() < 0.1:
        try:
            other = json.loads(others[rng.randrange(len(others))])
        except (ValueError, RecursionError):
            other = None
    return _dump(mutate_value(value, rng, other))


def _dump(value: Any) -> bytes:
    try:
        return json.dumps(value, default=str).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError, TypeError):  # deeper than json goes, or keys that it does not write
        return b"[" * DEEP


def smaller_json(raw: bytes) -> Iterator[bytes]:
    """Yield smaller JSON."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        yield from smaller_bytes(raw)
        return
    yield from map(_dump, smaller_values(value))


# ---- nested values ---------------------------------------------------------------------------------------------------


def mutate_value(value: Any, rng: random.Random, other: Any) -> Any:
    """Return a copy of a nest of dicts, lists, tuples, sets, tensors, arrays and plain values with one place changed.

    Args:
        value: the nest; not changed.
        rng: the source of randomness.
        other: another nest of the kind, some part of which may be put into it; None for none.

    """
    places = [*_places(value)]
    path = places[rng.randrange(len(places))]
    return _with(value, path, lambda one: _changed(one, rng, other), rng)


def _places(value: Any, path: tuple[Any, ...] = (), most: int = 2000) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all places, those of long lists at their ends alone."""
    yield path
    if len(path) > 30:
        return
    if isinstance(value, Mapping):
        for key in [*value][:most]:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list | tuple):
        for at in range(len(value)) if len(value) <= 64 else (*range(32), *range(len(value) - 32, len(value))):
            yield from _places(value[at], (*path, at))


def _with(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any], rng: random.Random) -> Any:
    if not path:
        return change(value)
    key, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        new = dict(value)
        draw = rng.random()
        if not rest and draw < 0.15:
            del new[key]
        elif not rest and draw < 0.25:
            new[rng.choice((f"{key}x", "", "\x1b[1m", "__class__", "__proto__", str(key).upper(), "\ud800"))] = new.pop(
                key
            )
        else:
            new[key] = _with(new[key], rest, change, rng)
        return new
    new_list = list(value)
    draw = rng.random()
    if not rest and draw < 0.15:
        del new_list[key]
    elif not rest and draw < 0.25:
        new_list[key:key] = [new_list[key]] * rng.choice((1, 2, 100))
    else:
        new_list[key] = _with(new_list[key], rest, change, rng)
    return type(value)(new_list) if type(value) in (list, tuple) else new_list


_PLAIN: list[Any] = [
    None, True, False, "", "x", "NaN", "1", "\x1b[31m", "\ud800", "hostile_canary:make", "../../x", "/etc/passwd",
    float("nan"), float("inf"), float("-inf"), 0, -1, 1, 0.5, 1e-300, 1e300, -1e300, 2**31, 2**63 - 1, 2**63, -(2**63) - 1,
    2**64, 10**400, 1e-12, [], {}, [[]], {"": None}, [None], "A" * LONG, [0] * 10_000, "0" * 5000, -0.0, 1e16, 3.7, b"x",
]  # fmt: skip


def _deep(rng: random.Random) -> Any:
    nest: Any = 1
    for _ in range(rng.choice((100, 3000))):
        nest = [nest] if rng.random() < 0.5 else {"a": nest}
    return nest


def _changed(value: Any, rng: random.Random, other: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _changed_tensor(value, rng)
    if isinstance(value, np.ndarray):
        return (
            _changed_tensor(torch.from_numpy(value), rng).numpy() if value.dtype.kind in "fiub" else rng.choice(_PLAIN)
        )
    draw = rng.random()
    if draw < 0.02:
        return _deep(rng)
    if other is not None and draw < 0.2:
        places = [*_places(other)]
        found = other
        for key in places[rng.randrange(len(places))]:
            found = found[key]
        return copy.deepcopy(found)
    if isinstance(value, bool) and draw < 0.6:
        return rng.choice((not value, int(value), str(value), None, 2))
    if isinstance(value, int | float) and draw < 0.7:
        return _changed_number(value, rng)
    if isinstance(value, str) and draw < 0.6:
        return _changed_text(value, rng)
    if isinstance(value, list | tuple) and draw < 0.6 and len(value):
        new = list(value)
        match rng.randrange(4):
            case 0:
                new.reverse()
            case 1:
                new = new[: rng.randrange(len(new))]
            case 2:
                new = new * rng.choice((2, 3, 50)) if len(new) < 10_000 else new + new[:1]
            case _:
                rng.shuffle(new)
        return new
    return copy.deepcopy(_PLAIN[rng.randrange(len(_PLAIN))])


def _changed_number(value: float, rng: random.Random) -> Any:
    choices = [
        value + 1, value - 1, -value, value * 2, bool(value), str(value), [value], value * 1000, value // 3,
        rng.choice(_EDGES), float("nan"), float("inf"), 0, 1e300, 10**30, math.nextafter(1.0, 2.0), -1e-9,
    ]  # fmt: skip
    with contextlib.suppress(OverflowError):
        choices.append(float(value))
    return choices[rng.randrange(len(choices))]


def _changed_text(value: str, rng: random.Random) -> Any:
    tokens = [token.decode("utf-8", "surrogateescape") for token in (*TEXTS, *NUMBERS)]
    if not value:
        return rng.choice(tokens)
    at = rng.randrange(len(value))
    return rng.choice(
        (
            value[:at], value[at:], value * 2, value.upper(), value.lower(), value[::-1], value + rng.choice(tokens),
            value[:at] + rng.choice(tokens) + value[at:], rng.choice(tokens), [value], value.encode(errors="replace"),
            value[:at] + chr(rng.choice((0, 10, 27, 0xD800, 0x202E, 0x10FFFF))) + value[at + 1 :],
        )
    )  # fmt: skip


def _changed_tensor(value: torch.Tensor, rng: random.Random) -> Any:
    """Change entries, shape, type or layout."""
    draw = rng.randrange(10)
    if draw < 5 and value.numel() and not value.is_sparse:
        new = value.detach().clone().contiguous()
        flat = new.view(-1)
        entry = rng.choice((0, -1, 1, 2**31, 2**63 - 1, -(2**63), float("nan"), float("inf"), 1e300, 0.5, -0.5, 2.0))
        places = slice(None) if rng.random() < 0.2 else rng.randrange(len(flat))
        try:
            flat[places] = entry
        except (RuntimeError, ValueError, OverflowError, TypeError):  # does not fit into the type
            flat[places] = 0
        return new
    if draw == 5:
        return value.reshape(-1)
    if draw == 6:
        return value[None] if value.ndim < 10 else value.reshape(-1)
    if draw == 7:
        kinds = (torch.float16, torch.float64, torch.int64, torch.int8, torch.bool, torch.complex64, torch.uint8)
        return value.to(kinds[rng.randrange(len(kinds))]) if not value.is_sparse else value.to_dense()
    if draw == 8:
        return value[: rng.randrange(len(value) + 1)] if value.ndim else value[None].expand(rng.choice((2, 1000)))
    return rng.choice((None, [], "x", 1, value.tolist(), torch.zeros(0), torch.zeros(()), torch.zeros(3, 0)))


def smaller_values(value: Any) -> Iterator[Any]:
    """Yield a nest without one of its parts, large ones first."""
    if isinstance(value, Mapping):
        for key in [*value]:
            yield {other: one for other, one in value.items() if other != key}
        for key in [*value]:
            for part in smaller_values(value[key]):
                yield {**value, key: part}
    elif isinstance(value, list | tuple):
        size = max(1, len(value) // 2)
        while len(value):
            for at in range(0, len(value), size):
                yield type(value)([*value[:at], *value[at + size :]])
            if size == 1:
                break
            size //= 2
        for at, one in enumerate(value[:20]):
            for part in smaller_values(one):
                yield type(value)([*value[:at], part, *value[at + 1 :]])
    elif isinstance(value, str) and len(value) > 1:
        yield value[: len(value) // 2]
        yield value[len(value) // 2 :]


def little(value: int, size: int) -> bytes:
    """Return an integer of 4 or 8 bytes, little endian."""
    return struct.pack({4: "<I", 8: "<Q"}[size], value & ((1 << 8 * size) - 1))
