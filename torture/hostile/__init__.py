"""Hostile input: valid files of every kind, changed at random, given to every reader of the project."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from torture.hostile.engine import Reader, Tally, run_reader
from torture.part import Outcome

ABOUT = "inputs changed at random, to every reader: each is read or refused in a sentence, and does no harm"

# the modules of readers, each with a list READERS; new ones are named here
MODULES = (
    "readers_tables",
    "readers_media",
    "readers_archives",
    "readers_plans",
    "readers_comparisons",
    "readers_training",
)


def readers(names: Sequence[str] = ()) -> list[Reader]:
    """Return the readers, all or those whose name or module is named; a module without its name is READERS_ + it."""
    found: list[Reader] = []
    for module in MODULES:
        every: list[Reader] = importlib.import_module(f"torture.hostile.{module}").READERS
        named = not names or module in names or module.removeprefix("readers_") in names
        found += [reader for reader in every if named or reader.name in names]
    if twice := {one.name for one in found if sum(other.name == one.name for other in found) > 1}:
        raise ValueError(f"two readers are named {', '.join(sorted(twice))}: give each a name of its own")
    return found


def run_all(
    chosen: Sequence[Reader],
    seconds: float,
    seed: int,
    *,
    keep: Path | None = None,
    only: int | None = None,
    tell: Callable[[Tally], None] = lambda tally: None,
) -> list[Tally]:
    """Run readers one after another; the time that is left is shared equally among those still to come."""
    end = time.monotonic() + seconds
    tallies = []
    for at, reader in enumerate(chosen):
        share = max(0.5, (end - time.monotonic()) / (len(chosen) - at))
        tally = run_reader(reader, share, seed, keep=keep, only=only)
        tell(tally)
        tallies.append(tally)
    return tallies


def run(seconds: float, seed: int) -> Outcome:
    """Give inputs to every reader for some time."""
    outcome = Outcome()
    keep = Path(tempfile.gettempdir()) / "vicinal-hostile"
    for tally in run_all(readers(), seconds, seed, keep=keep):
        outcome.tried += tally.inputs
        outcome.failed += [failure.line() for failure in tally.failures]
        outcome.count("readers")
        outcome.count("inputs read", tally.read)
        outcome.count("inputs refused", tally.refused)
        outcome.count(f"inputs of {tally.reader}", tally.inputs)
    return outcome
