"""Dataclasses as JSON and back; what is read is checked against the types of their fields."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_LARGEST = 2**64  # of a whole number: seeds and counts
_EXACT = 2**53  # up to which whole numbers are floats
_FINITE = sys.float_info.max
_SHOWN = 40  # characters of a value in a message

_hints = functools.cache(get_type_hints)  # of a class, for its many records


class Mismatch(TypeError):
    """A value that is not of the type it should have: the message names the field, as `runs[3].seconds`."""


def to_json(value: Any) -> Any:
    """Return a nest of dataclasses, named tuples, lists, tuples and dicts as JSON holds it; a number that is none is None.

    Example:
        >>> from vicinal.lab.statistics import Interval
        >>> to_json({"error": [Interval(0.5, 0.25, float("nan"))]})
        {'error': [{'mean': 0.5, 'low': 0.25, 'high': None}]}

    """
    if is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return to_json(value._asdict())
    if isinstance(value, dict):
        return {key: to_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: Any, value: Any, at: str = "") -> Any:
    """Return the value of type `kind` that `to_json` wrote; a float that is None is nan.

    Args:
        kind: a dataclass, a named tuple, int, float, str, bool, a Literal, `object` or Any for whatever JSON holds, or
            list, tuple, dict and unions of these.
        value: as `json.loads` returns it.
        at: where it is from, for the message, as `runs[3]`.

    Raises:
        Mismatch: it lacks a field, has another one, or has a value of another type; True and False are not
            numbers, and numbers are finite, whole ones below 2**64.

    Example:
        >>> from vicinal.lab.statistics import Interval
        >>> from_json(dict[str, list[Interval]], {"error": [{"mean": 0.5, "low": 0.25, "high": None}]})
        {'error': [Interval(mean=0.5, low=0.25, high=nan)]}
        >>> from_json(list[int], [1, "two"])
        Traceback (most recent call last):
        vicinal.lab.records.Mismatch: [1] must be a whole number, found 'two'

    """
    if kind is Any or kind is object:
        return value
    if kind in _SCALARS:
        return _scalar(kind, value, at)
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        if not any(type(value) is type(part) and value == part for part in parts):
            raise _mismatch(at, f"one of {', '.join(map(repr, parts))}", value)
        return value
    if origin in (Union, UnionType):
        return _of_union(parts, value, at)
    if origin is dict:
        found = _checked(dict, value, at).items()
        return {
            from_json(parts[0], key, f"a key of {at}"): from_json(parts[1], part, _in(at, key)) for key, part in found
        }
    if origin in (list, tuple):
        found = _checked(list, value, at)
        kinds = parts
        if origin is list or parts[1:] == (...,):
            kinds = parts[:1] * len(found)
        if len(found) != len(kinds):
            raise _mismatch(at, f"a list of {len(kinds)}", value)
        return origin(from_json(of, part, f"{at}[{i}]") for i, (of, part) in enumerate(zip(kinds, found, strict=True)))
    return _of_fields(kind, _checked(dict, value, at), at)


_SCALARS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "null"}
_NAMES = {dict: "a table of fields", list: "a list"}


def _scalar(kind: type, value: Any, at: str) -> Any:
    if kind is float:
        if value is None:
            return math.nan
        if type(value) not in (int, float) or not -_FINITE <= value <= _FINITE:
            raise _mismatch(at, "a finite number", value)
        return value if abs(value) < _EXACT else float(value)  # as it was written: 2 is not to become 2.0
    if type(value) is not kind or (kind is int and not -_LARGEST < value < _LARGEST):
        raise _mismatch(at, _SCALARS[kind], value)
    return value


def _of_union(kinds: tuple[Any, ...], value: Any, at: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not NoneType)
    for kind in kinds[:-1]:
        try:
            return from_json(kind, value, at)
        except Mismatch:
            continue
    return from_json(kinds[-1], value, at)


def _of_fields(kind: Any, value: dict[str, Any], at: str) -> Any:
    """Return a dataclass or named tuple of its fields; those that have a default may lack."""
    make: Callable[..., Any] = kind
    hints = _hints(kind)
    if is_dataclass(kind):
        known = {f.name for f in fields(kind) if f.init}
        needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    else:
        known = set(kind._fields)
        needed = known - kind._field_defaults.keys()
    if lacking := needed - value.keys():
        raise Mismatch(f"{at or 'it'} lacks {min(lacking)!r}")
    if odd := value.keys() - known:
        raise Mismatch(f"{at or 'it'} has a field {_shown(min(odd))} that it should not have")
    return make(**{name: from_json(hints[name], part, _in(at, name)) for name, part in value.items()})


def _checked(kind: type, value: Any, at: str) -> Any:
    if type(value) is not kind:
        raise _mismatch(at, _NAMES[kind], value)
    return value


def _in(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _mismatch(at: str, kind: str, value: Any) -> Mismatch:
    return Mismatch(f"{at or 'it'} must be {kind}, found {_shown(value)}")


def _shown(value: Any) -> str:
    """Return a value as a message shows it; a nest by its kind alone."""
    if isinstance(value, dict | list):
        return _NAMES[type(value)]
    if type(value) is int and abs(value) >= _LARGEST:
        return "a number of more than 64 bits"
    text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
