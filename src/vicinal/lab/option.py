"""Fields of settings that are options of the command line: type, default and help stand once, at the field."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def option(default: Any, about: str, metavar: str = "N") -> Any:
    """Return a dataclass field that `vicinal.lab.cli.arguments` can make an option of.

    Args:
        default: of the field and of the option.
        about: one line for `--help`.
        metavar: what stands for the value in `--help`.

    """
    return field(default=default, metadata={"help": about, "metavar": metavar})
