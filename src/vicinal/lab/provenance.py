"""What a record of results says of its making: time, versions, machine."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import vicinal


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What every record of results begins with."""

    format: int
    vicinal: str  # its version
    command: str
    created: str  # in UTC, as 2026-01-31T12:00:00Z
    versions: dict[str, str]
    machine: dict[str, Any]


def made_now(command: str, *packages: str) -> dict[str, Any]:
    """Return the fields of a record made now and here, but for its format: with the versions of Python and of packages."""
    return {
        "vicinal": vicinal.__version__,
        "command": command,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
        "machine": {"processor": processor(), "cores": os.cpu_count()},
    }


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
