"""Runs of a grid, spread over a machine or a cluster by an existing scheduler (submitit): the same command for each.

A job of the grid is `vicinal train` in a folder of its own. It is put back into the queue when the scheduler takes its
machine away, and goes on from its last checkpoint.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vicinal.lab import atomic, parse
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe, with_overrides

_POLL = 0.5  # seconds between looks at the jobs
_ERROR_CHARACTERS = 2000  # of a failed job's last words


@dataclass(frozen=True)
class Point:
    """One run of a grid: what it changes, as `field=value`, and its folder."""

    changes: tuple[str, ...]
    folder: Path


def points(recipe: Recipe, axes: Sequence[str], out: Path) -> list[Point]:
    """Give all combinations of the values of all axes, written as `field=v1,v2`; commas in brackets divide nothing.

    Raises:
        UserError: an axis that is not of this form, a field twice, or a value that the recipe refuses.

    """
    names = [axis.partition("=")[0] for axis in axes]
    if len(set(names)) < len(names):
        raise UserError(f"a field is given to --grid twice: {', '.join(names)}; write all of its values into one")
    if "milestones" in names:
        raise UserError("drops is a list itself and cannot be a field of --grid; start a grid for each")
    columns = []
    for axis in axes:
        name, equals, text = axis.partition("=")
        values = _split(text)
        if not equals or "" in values or len(set(values)) < len(values):
            raise UserError(f"{axis!r} is no axis of a grid; write field=v1,v2 with each value once")
        columns.append([f"{name}={value}" for value in values])
    found = []
    for changes in itertools.product(*columns):
        parse.parse(with_overrides(recipe, changes).vicinity)  # refused here, before anything is submitted
        found.append(Point(changes, out / re.sub(r"[^\w.=+-]+", "_", ",".join(changes))))
    if len({point.folder for point in found}) < len(found):
        raise UserError("two runs of this grid would have the same folder; write their values more differently")
    return found


def _split(text: str) -> list[str]:
    """Cut at commas outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


@dataclass(frozen=True)
class Command:
    """A command as a job; where a scheduler takes its machine away, it is submitted again as it is."""

    words: tuple[str, ...]

    def __call__(self) -> None:
        """Run it; its words go to the job's log."""
        done = subprocess.run(self.words, stderr=subprocess.PIPE, text=True)
        sys.stderr.write(done.stderr)
        if done.returncode:
            raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-_ERROR_CHARACTERS:].strip()}")

    def checkpoint(self) -> Any:
        """Give what submitit queues again before a time limit or a preemption."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run(
    found: Sequence[Point],
    words: Sequence[str],
    cluster: str,
    out: Path,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Run what is not done yet, wait for it, and write grid.json: changes, folder and test error of each run.

    Args:
        found: the runs.
        words: the command of a run, to which its changes and its folder are added.
        cluster: `local`, with a job for each core at a time; `slurm`; or `slurm:KEY=VALUE,...` with the parameters of
            submitit's `update_parameters`, as `slurm_partition=gpu,gpus_per_node=1,timeout_min=600`.
        out: folder of the grid.
        say: told about each run that ends.

    Raises:
        UserError: submitit is not installed, the cluster is not known, or a parameter is not.

    """
    executor, most = _executor(cluster, out)
    waiting = [point for point in found if not (point.folder / "results.json").exists()]
    running: dict[Any, Point] = {}
    failed: dict[Path, str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < most:
                point = waiting.pop(0)
                command = Command((*words, *point.changes, "--out", str(point.folder)))
                running[executor.submit(command)] = point
            time.sleep(_POLL)
            for job in [job for job in running if job.done()]:
                point = running.pop(job)
                problem = job.exception()
                if problem is not None:
                    failed[point.folder] = _reason(str(problem))
                say(f"{' '.join(point.changes)}: {'failed' if problem else 'done'}")
    except BaseException:
        for job in running:
            job.cancel(check=False)
        raise
    rows = [_row(point, failed.get(point.folder)) for point in found]
    atomic.write(out / "grid.json", json.dumps(rows, indent=1))
    return rows


def _reason(text: str) -> str:
    """Give the last line of the traceback in submitit's message, which stands between lines of dashes."""
    lines = [line for line in text.splitlines() if line.strip()]
    dashes = [i for i, line in enumerate(lines) if not line.strip().strip("-")]
    return lines[dashes[-1] - 1] if dashes else lines[-1]


def _row(point: Point, problem: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"changes": list(point.changes), "folder": str(point.folder)}
    if problem is not None:
        return row | {"failed": problem}
    return row | {"test_error": json.loads((point.folder / "results.json").read_text())["test_error"]}


def _executor(cluster: str, out: Path) -> tuple[Any, int]:
    """Give submitit's executor, and how many jobs it is given at a time."""
    try:
        import submitit
    except ImportError as error:
        raise UserError("submitit, which --grid needs, is not installed; pip install submitit") from error
    name, _, text = cluster.partition(":")
    if name not in ("local", "slurm"):
        raise UserError(f"--cluster is local or slurm, got {name!r}")
    try:
        executor = submitit.AutoExecutor(folder=out / "jobs", cluster=name)
        parameters = dict(part.split("=", 1) for part in text.split(",") if part)
        executor.update_parameters(**{k: int(v) if v.isdigit() else v for k, v in parameters.items()})
    except (ValueError, NameError, TypeError, AssertionError, RuntimeError) as error:
        problem = " ".join(str(error).split())[:200]
        raise UserError(f"--cluster {cluster!r} is refused ({problem}); see submitit's update_parameters") from error
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return executor, cores if name == "local" else sys.maxsize
