"""What a part of the torture is: a module with `ABOUT` and `run(seconds, seed)`, which returns an `Outcome`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from vicinal.lab import atomic

ROOT = Path(__file__).parent.parent


@dataclass
class Outcome:
    """What one part did, and what failed.

    Args:
        tried: things done: kills, inputs, situations.
        failed: one line for each that did not end as promised, with what repeats it.
        counts: further figures by name, such as tries of each kind.
        skipped: what could not be done on this machine, and why.

    """

    tried: int = 0
    failed: list[str] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def count(self, name: str, by: float = 1) -> None:
        """Add to a figure."""
        self.counts[name] = self.counts.get(name, 0) + by

    def to_dict(self) -> Mapping[str, object]:
        """Return it as plain data."""
        return {"tried": self.tried, "failed": self.failed, "counts": self.counts, "skipped": self.skipped}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """Return what `to_dict` gave."""
        return cls(**values)


def main(name: str, seconds: str, seed: str, out: str) -> None:
    """Run one part in this process and write its outcome as JSON."""
    outcome = import_module(f"torture.{name}").run(float(seconds), int(seed))
    atomic.write(Path(out), json.dumps(outcome.to_dict()))


if __name__ == "__main__":
    main(*sys.argv[1:])
