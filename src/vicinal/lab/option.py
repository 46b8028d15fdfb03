"""Fields of settings as options: type, default and help stand once, at the field, and a text is read by the type."""

from __future__ import annotations

from dataclasses import field
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from vicinal.lab.errors import UserError

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple[int, ...]: "whole numbers, as 10,20",
    tuple[float, ...]: "numbers, as 0.1,0.4",
}


def option(default: Any, about: str, metavar: str = "N") -> Any:
    """Return a dataclass field that the command line can make an option of.

    Args:
        default: of the field and of the option.
        about: one line for `--help`.
        metavar: what stands for the value in `--help`.

    """
    return field(default=default, metadata={"help": about, "metavar": metavar})


def read(name: str, text: str, kind: Any) -> Any:
    """Return the value that a text stands for, by the type of its field; `none` for a field that may be None.

    >>> read("epochs", "3", int), read("milestones", "10,20", tuple[int, ...]), read("patience", "none", int | None)
    (3, (10, 20), None)

    Raises:
        UserError: the text is not of that type.

    """
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise UserError(f"{name} is one of {', '.join(get_args(kind))}, got {text!r}")
        return text
    if isinstance(kind, UnionType):
        return None if text.lower() == "none" else read(name, text, get_args(kind)[0])
    try:
        return _convert(text, kind)
    except (ValueError, KeyError) as error:
        raise UserError(f"{name} takes {_WORDS[kind]}, got {text!r}") from error


def _convert(text: str, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        return tuple(_convert(part, get_args(kind)[0]) for part in text.split(",")) if text else ()
    return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
