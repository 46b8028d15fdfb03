"""Dataclasses as JSON and back."""

from __future__ import annotations

import functools
import math
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

_hints = functools.cache(get_type_hints)  # of a class, for its many records


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


def from_json(kind: Any, value: Any) -> Any:
    """Return the value of type `kind` that `to_json` wrote; a float that is None is nan.

    Raises:
        TypeError: it lacks a field, has another one, or is not of that form.

    Example:
        >>> from vicinal.lab.statistics import Interval
        >>> from_json(dict[str, list[Interval]], {"error": [{"mean": 0.5, "low": 0.25, "high": None}]})
        {'error': [Interval(mean=0.5, low=0.25, high=nan)]}

    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (kind,) = (part for part in parts if part is not NoneType)
        return None if value is None else from_json(kind, value)
    if origin is list:
        return [from_json(parts[0], part) for part in value]
    if origin is tuple:
        return tuple(from_json(parts[0], part) for part in value)
    if origin is dict:
        return {key: from_json(parts[1], part) for key, part in value.items()}
    if isinstance(kind, type) and (is_dataclass(kind) or hasattr(kind, "_fields")):
        hints = _hints(kind)
        return kind(**{name: from_json(hints.get(name, object), part) for name, part in value.items()})
    return math.nan if kind is float and value is None else value
