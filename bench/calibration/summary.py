"""What the cells say together: false verdicts, coverage and power of each interval, and which of them keeps its promise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


def rounded(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record whose floats have six digits, and None for nan."""
    return {key: _short(value) for key, value in record.items()}


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else float(f"{value:.6g}")


def write(folder: Path) -> None:
    """Write the summary."""
