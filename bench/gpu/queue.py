"""The queue: jobs in order of value, each resumable, until the minutes are over.

The work folder:

    data/                       datasets, where VICINAL_DATA does not say otherwise
    state/jobs/NAME/            how far a job is: a file for each finished part, run folders with their checkpoints
    state/results/NAME.json     a finished job
    state/failed/NAME.txt       the traceback of one that failed; it is tried again with --retry alone
"""

from __future__ import annotations

import json
import os
import platform
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import vicinal
from bench.gpu import parcel
from vicinal.lab import atomic
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import loop
from vicinal.lab.training.distributed import Processes as Processes

_SPARE = 20.0  # seconds below which nothing new is begun


class OutOfTime(Exception):
    """The slot is over; what the job has done so far is in its folder."""


@dataclass(frozen=True)
class Job:
    """One job of the queue.

    Args:
        name: of its folder and its results: letters, digits, hyphens.
        minutes: estimated, on one H100; never measured here.
        estimate: how the minutes were estimated.
        run: does the work in a slot, and gives what the results file holds.
        data: datasets that it needs.

    """

    name: str
    minutes: float
    estimate: str
    run: Callable[[Slot], Any]
    data: tuple[str, ...] = ()


@dataclass
class Slot:
    """Where and how long a job may work now."""

    folder: Path
    device: torch.device
    smoke: bool  # a dry run of seconds: tiny shapes, few steps
    over: Callable[[], float]  # gives the seconds that are left
    failed: list[str] = field(default_factory=list)

    def left(self) -> float:
        """Give the seconds that are left."""
        return self.over()

    def part(self, name: str, seconds: float, run: Callable[[], Any]) -> Any:
        """Give the result of a part of the job: from its file if it is done, else by running it.

        Args:
            name: of its file.
            seconds: that it takes, about; it is not begun with fewer left, and once begun runs to its end.
            run: gives the result, as JSON holds it.

        A part that raises is a result, too: {"failed": traceback}; the job goes on and is named among the failed.

        Raises:
            OutOfTime: too little time is left.

        """
        path = self.folder / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text())
        else:
            if self.left() < max(seconds, _SPARE):
                raise OutOfTime(name)
            print(f"  {name}", flush=True)
            start = time.perf_counter()
            try:
                value = run()
            except OutOfTime:
                raise
            except Exception:  # a slot is short: one shape that fails must not cost the others
                result = {"failed": traceback.format_exc()}
                print(result["failed"], flush=True)
            else:
                result = {"seconds": time.perf_counter() - start, "value": value}
            atomic.write(path, json.dumps(result, indent=1))
        if "failed" in result:
            self.failed.append(name)
            return result
        return result["value"]

    def train(self, recipe: Recipe, name: str = "run") -> dict[str, Any]:
        """Train by a recipe with the loop of the lab, from its last checkpoint; stops in time.

        Raises:
            OutOfTime: the run is not done.

        """
        if self.left() < _SPARE:
            raise OutOfTime(name)
        try:
            return loop.train(recipe, self.folder / name, Processes(0, 1, self.device), stop=lambda: self.left() <= 0)
        except loop.Stopped as stopped:
            raise OutOfTime(name) from stopped


def run(
    jobs: Sequence[Job],
    work: Path,
    device: torch.device,
    minutes: float | None,
    smoke: bool = False,
    retry: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, str]:
    """Run what is not yet done, in order, until the minutes are over.

    Args:
        jobs: the queue.
        work: the work folder.
        device: where they compute.
        minutes: None for no end.
        smoke: at the size of a dry run.
        retry: try again what failed.
        clock: seconds that count up.

    Returns:
        For each job: "done", "done before", "failed", "failed before", "begun", "not begun", or "lacks DATA".

    """
    end = float("inf") if minutes is None else clock() + 60 * minutes
    state = work / "state"
    outcome: dict[str, str] = {}
    over = False
    for job in jobs:
        results, failed = state / "results" / f"{job.name}.json", state / "failed" / f"{job.name}.txt"
        lacking = [name for name in job.data if not has_data(name, work)]
        if retry and results.exists():
            _forget_failed(state / "jobs" / job.name, results)
        if results.exists():
            some_failed = json.loads(results.read_text())["failed_parts"]
            outcome[job.name] = "failed before" if some_failed else "done before"
        elif failed.exists() and not retry:
            outcome[job.name] = "failed before"
        elif lacking and not smoke:
            outcome[job.name] = f"lacks {', '.join(lacking)}"
        elif over or end - clock() < (0 if smoke else _SPARE):
            outcome[job.name] = "begun" if (state / "jobs" / job.name).exists() else "not begun"
        else:
            for folder in (results.parent, failed.parent, state / "jobs" / job.name):
                folder.mkdir(parents=True, exist_ok=True)
            failed.unlink(missing_ok=True)
            print(f"{job.name}: about {job.minutes:g} minutes in all", flush=True)
            slot = Slot(state / "jobs" / job.name, device, smoke, lambda: end - clock())
            try:
                record = {"job": job.name, "smoke": smoke, "machine": machine(device), "result": job.run(slot)}
            except OutOfTime:
                outcome[job.name] = "begun"
                over = True
            except Exception:
                atomic.write(failed, traceback.format_exc())
                print(traceback.format_exc(), flush=True)
                outcome[job.name] = "failed"
            else:
                atomic.write(results, json.dumps(record | {"failed_parts": slot.failed}, indent=1))
                outcome[job.name] = "failed" if slot.failed else "done"
        print(f"{job.name}: {outcome[job.name]}", flush=True)
    return outcome


def _forget_failed(folder: Path, results: Path) -> None:
    """Remove the parts of a finished job that failed, and its results with them, so that it goes on with those."""
    failed = json.loads(results.read_text())["failed_parts"]
    for name in failed:
        (folder / f"{name}.json").unlink(missing_ok=True)
    if failed:
        results.unlink()


def machine(device: torch.device) -> dict[str, Any]:
    """Say what it ran on."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, memory = properties.name, properties.total_memory
    else:
        name, memory = platform.machine(), None
    return {
        "device": name,
        "memory": memory,
        "cores": os.cpu_count(),
        "cuda": torch.version.cuda,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "vicinal": vicinal.__version__},
    }


def data_root(work: Path) -> Path:
    """Give the folder of the datasets."""
    return Path(os.environ.get("VICINAL_DATA") or work / "data")


def has_data(name: str, work: Path) -> bool:
    """Whether a dataset is there."""
    folder, names, _ = parcel.CIFAR[name]
    return all((data_root(work) / folder / n).is_file() for n in names)


# ---- how the state travels


def pack_state(work: Path, part: int = parcel.PART) -> list[Path]:
    """Cut results and whatever unfinished jobs need to go on into a parcel, WORK/parcel; the results come first."""
    state = work / "state"
    chosen = [*sorted((state / "results").glob("*.json")), *sorted((state / "failed").glob("*.txt"))]
    done = {p.stem for p in chosen if p.parent.name == "results" and not json.loads(p.read_text())["failed_parts"]}
    for folder in sorted((state / "jobs").glob("*")):
        if folder.name not in done:
            inside = [p for p in sorted(folder.rglob("*")) if p.is_file() and not atomic.is_partial(p)]
            newest = {max(f.glob("*.ckpt"), default=None) for f in {p.parent for p in inside}}
            chosen += [p for p in inside if p.suffix not in (".ckpt", ".pt", ".jpg", ".png") or p in newest]
    contents = {p.relative_to(state).as_posix(): p.read_bytes() for p in chosen}
    return parcel.cut(contents, "state", work / "parcel", part=part)


def take(folders: Sequence[Path], work: Path) -> str:
    """Unpack a parcel where it belongs, or keep its pieces until the others are there; says what it did.

    Raises:
        UserError: it is damaged, or the work folder has a state of its own.

    """
    manifest, pieces = parcel.arrived(folders)
    mark = work / f"{manifest['kind']}-{parcel._sha(json.dumps(manifest).encode())[:16]}"
    if (mark / "unpacked").exists():
        return f"{manifest['kind']}: here already"
    mark.mkdir(parents=True, exist_ok=True)
    for piece, content in zip(manifest["pieces"], pieces, strict=True):
        if content is not None:
            atomic.write(mark / piece["name"], content)
    atomic.write(mark / "manifest.json", json.dumps(manifest))
    here = sum((mark / piece["name"]).exists() for piece in manifest["pieces"])
    if here < len(pieces):
        return f"{manifest['kind']}: {here} of {len(pieces)} pieces are here"
    if manifest["kind"] == "state" and any((work / "state").rglob("*.json")):
        raise UserError(f"'{work}' has a state of its own: give another --work, or leave --state out to go on from it")
    unpacked = parcel.unpack([mark], data_root(work) if manifest["kind"] == "data" else work / "state")
    for piece in manifest["pieces"]:
        (mark / piece["name"]).unlink()
    atomic.write(mark / "unpacked", "")
    return f"{manifest['kind']}: {len(unpacked)} files, whole"
