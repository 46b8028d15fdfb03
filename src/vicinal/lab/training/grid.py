"""Grids of runs on a machine or a cluster: `vicinal train` once per combination of values, in a folder of its own."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from vicinal.lab import executor, orphans, stored
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe, with_overrides
from vicinal.lab.training import runs

_ERROR_CHARACTERS = 2000  # of a failed job's last words


@dataclass(frozen=True)
class GridPoint:
    """One run of a grid: what it changes, as `field=value`, and its folder."""

    changes: tuple[str, ...]
    folder: Path


def points(recipe: Recipe, axes: Sequence[str], out: Path) -> list[GridPoint]:
    """Return all combinations of the values of all axes, written as `field=v1,v2`; commas in brackets separate nothing.

    Raises:
        UserError: an axis is not of this form, a field is there twice, or the recipe refuses a value.

    """
    names = [axis.partition("=")[0] for axis in axes]
    if len(set(names)) < len(names):
        raise UserError(f"a field is given to --grid twice: {', '.join(names)}; write all of its values into one")
    if "milestones" in names:
        raise UserError("milestones is a list itself and cannot be a field of --grid; start one grid per list")
    columns = []
    for axis in axes:
        name, equals, text = axis.partition("=")
        values = _split(text)
        if not equals or "" in values or len(set(values)) < len(values):
            raise UserError(f"{axis!r} is not an axis of a grid; write field=v1,v2 with each value once")
        columns.append([f"{name}={value}" for value in values])
    found = []
    for changes in itertools.product(*columns):
        with_overrides(recipe, changes)  # refused here, before anything is submitted
        found.append(GridPoint(changes, out / re.sub(r"[^\w.=+-]+", "_", ",".join(changes))))
    if len({point.folder for point in found}) < len(found):
        raise UserError("two runs of this grid would have the same folder; write their values more differently")
    return found


def _split(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    depths = itertools.accumulate({"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0) for character in text)
    cuts = [i for i, (character, depth) in enumerate(zip(text, depths, strict=True)) if character == "," and not depth]
    return [text[i + 1 : j].strip() for i, j in pairwise([-1, *cuts, len(text)])]


def run(
    grid: Sequence[GridPoint], words: Sequence[str], cluster: str, out: Path, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run what is not done yet, wait for it, and write grid.json: changes, folder and test error of each run.

    Args:
        grid: the runs.
        words: the command of a run, to which its changes and its folder are added.
        cluster: as of `executor.run`.
        out: folder of the grid.
        report: called with a line per run that ends.

    Raises:
        UserError: as of `executor.run`.

    """
    failed: dict[Path, str] = {}

    def note_failure(point: GridPoint, error: Exception) -> None:
        failed[point.folder] = str(error)
        report(f"{' '.join(point.changes)}: failed")

    missing = [point for point in grid if not (point.folder / runs.RESULTS).exists()]
    work = partial(_train, tuple(words))
    with closing(executor.run(work, missing, cluster=cluster, folder=out, on_error=note_failure)) as trained:
        for point, _ in trained:
            report(f"{' '.join(point.changes)}: done")
    rows = [_row(point, failed.get(point.folder)) for point in grid]
    stored.write(out / "grid.json", {"runs": rows}, runs.FORMAT, indent=1)
    return rows


def _train(words: Sequence[str], point: GridPoint) -> None:
    """Run the command of a point; what it prints goes to the job's log."""
    command = [*words, *point.changes, "--out", str(point.folder)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=orphans.environment())
    sys.stderr.write(done.stderr)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-_ERROR_CHARACTERS:].strip()}")


def _row(point: GridPoint, problem: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"changes": list(point.changes), "folder": str(point.folder)}
    if problem is not None:
        return row | {"failed": problem}
    try:
        return row | {"test_error": asdict(runs.load_results(point.folder).test_error)}
    except UserError as error:
        return row | {"failed": str(error)}
