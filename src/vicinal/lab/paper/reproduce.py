"""Every table and figure of the paper, run again: the studies, their jobs on disk, and what is made of them.

The folder:

    ROOT/STUDY/SIZE/JOB.json    what a finished job gave, with the command, the versions, the machine and the seconds
    ROOT/STUDY/SIZE/JOB/        what a job keeps while it runs and after, as a training run with its checkpoints
    ROOT/STUDY/SIZE/*.svg       the figures
    ROOT/STUDY/SIZE/table.json  the table
    ROOT/STUDY/SIZE/.lock       held by the one command that works there

A job whose file is there is not run again. A file of another version or of other settings is refused, never mixed with
new results; so is one whose results are not what was written.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

import vicinal
from vicinal.lab import atomic, executor, provenance
from vicinal.lab.errors import UserError
from vicinal.lab.paper.ablation import AblationStudy
from vicinal.lab.paper.adversarial import AdversarialStudy
from vicinal.lab.paper.cifar import CifarStudy
from vicinal.lab.paper.corrupted_labels import CorruptedLabelsStudy
from vicinal.lab.paper.cost import CostStudy
from vicinal.lab.paper.gan import GanStudy
from vicinal.lab.paper.imagenet import ImageNetStudy
from vicinal.lab.paper.interpolation import InterpolationStudy
from vicinal.lab.paper.intrusion import IntrusionStudy
from vicinal.lab.paper.speech import SpeechStudy
from vicinal.lab.paper.study import Job, Results, Row, Scale, Study, format_agreement
from vicinal.lab.paper.toy import ToyStudy
from vicinal.lab.paper.uci import UciStudy

_FORMAT = 1  # of a record
_LOCK = ".lock"
SIZES: tuple[Scale, ...] = get_args(Scale)
DEFAULT = Path("vicinal-runs", "reproduce")

# in the order of the paper
STUDIES: tuple[Study, ...] = (
    ToyStudy(),  # figure 1b
    InterpolationStudy(),  # figure 2
    ImageNetStudy(),  # section 3.1
    CifarStudy(),  # 3.2
    SpeechStudy(),  # 3.3
    CorruptedLabelsStudy(),  # 3.4
    AdversarialStudy(),  # 3.5
    UciStudy(),  # 3.6
    GanStudy(),  # 3.7
    AblationStudy(),  # 3.8
    CostStudy(),  # 5
    IntrusionStudy(),
)


def find(name: str) -> Study:
    """Give a study by its name.

    Raises:
        UserError: there is none of that name.

    """
    known = {study.name: study for study in STUDIES}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"the studies are {', '.join(known)}"
        raise UserError(f"there is no study {name!r}; {hint}")
    return known[name]


def fingerprint(study: Study, size: Scale, job: Job, version: str = vicinal.__version__) -> str:
    """Give a digest of what decides a job's result: version, study, size, name, and what else the job says."""
    content = [version, study.name, size, job.name, job.decided_by]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class Folder:
    """Where the jobs of one study at one size are kept."""

    root: Path
    study: Study
    size: Scale

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.root / self.study.name / self.size

    def record(self, job: Job, any_version: bool = False) -> dict[str, Any] | None:
        """Give what is kept of a job; None if it is not done.

        Args:
            job: of the study.
            any_version: also what another version wrote. New results are not to be added to such ones.

        Raises:
            UserError: the file is of another version or of other settings, or is not what was written.

        """
        path = self.path / f"{job.name}.json"
        try:
            found = json.loads(path.read_bytes())
            mark, digest, results = found["fingerprint"], found["sha256"], found["results"]
            written_as, version = found["format"], found["vicinal"]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not what a job wrote; remove it, and it is run again") from error
        known = version if any_version else vicinal.__version__
        if written_as != _FORMAT or mark != fingerprint(self.study, self.size, job, known):
            raise UserError(f"{path} is of another version or of other settings; choose another --out, or remove it")
        if digest != _digest(results):
            raise UserError(f"the results in {path} are not those that were written; remove it, and it is run again")
        return found

    def records(self, any_version: bool = False) -> dict[str, dict[str, Any]]:
        """Give the records of all jobs that are done, by their names; see `record`."""
        found = ((job.name, self.record(job, any_version)) for job in self.study.jobs(self.size))
        return {name: record for name, record in found if record is not None}

    def done(self) -> Results:
        """Give the results of all jobs that are done, by their names."""
        return {name: record["results"] for name, record in self.records().items()}

    def run(self, job: Job, command: str) -> dict[str, Any]:
        """Run one job and keep what it gave."""
        own = self.path / job.name
        own.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        try:
            results = atomic.without_nan(job.run(own))
        finally:
            if not any(own.iterdir()):
                own.rmdir()
        seconds = time.perf_counter() - start
        results = json.loads(json.dumps(results, allow_nan=False))  # as it is read back
        record = {
            "format": _FORMAT,
            "fingerprint": fingerprint(self.study, self.size, job),
            "study": self.study.name,
            "size": self.size,
            "job": job.name,
            "vicinal": vicinal.__version__,
            "command": command,
            "created": provenance.now(),
            "versions": provenance.versions("torch", "numpy", "scipy", "matplotlib"),
            "machine": machine(),
            "seconds": round(seconds, 3),
            "sha256": _digest(results),
            "results": results,
        }
        atomic.write(self.path / f"{job.name}.json", json.dumps(record, allow_nan=False))
        return record


def _digest(results: Any) -> str:
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()


def machine() -> dict[str, Any]:
    """Say what this computes on."""
    found = provenance.machine()
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def run(folder: Folder, command: str, processes: int, say: Callable[[str], None]) -> Results:
    """Run the jobs that are not done, and give the results of all.

    Args:
        folder: of the study at a size.
        command: that the user gave, for the record.
        processes: how many work at once; 1 works in this one.
        say: is told how far it is, a line a job.

    Raises:
        UserError: another command runs this study there; and what a job or a record raises.

    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with atomic.locked(folder.path / _LOCK) as mine:
        if not mine:
            raise UserError(f"another command runs this study in {folder.path}; wait for it, or end it")
        return _run_missing(folder, command, processes, say)


def _run_missing(folder: Folder, command: str, processes: int, say: Callable[[str], None]) -> Results:
    jobs = folder.study.jobs(folder.size)
    records = folder.records()
    missing = [job for job in jobs if job.name not in records and job.ready]
    here = f"{folder.study.name} ({folder.size})"
    if records:
        say(f"{here}: {len(records)} of {len(jobs)} jobs are there already")
    if lacking := len(jobs) - len(records) - len(missing):
        say(f"{here}: {lacking} of {len(jobs)} jobs are passed over, since their data are not there")
    for count, (job, record) in enumerate(_run(folder, missing, command, processes), len(records) + 1):
        say(f"{here}: {count} of {len(jobs)} jobs, {job.name} in {record['seconds']:.1f} s")
    return folder.done()


def _run(folder: Folder, jobs: Sequence[Job], command: str, processes: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    if min(processes, len(jobs)) < 2:
        for job in jobs:
            yield job, folder.run(job, command)
        return
    with executor.WorkerPool(min(processes, len(jobs))) as pool:
        waiting = {pool.submit(_run_named, folder, job.name, command): job for job in jobs}
        while waiting:
            ready, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            # what is done is kept first
            for future in sorted(ready, key=lambda future: future.exception() is not None):
                yield waiting.pop(future), future.result()


def _run_named(folder: Folder, name: str, command: str) -> dict[str, Any]:
    """Run a job by its name, in a worker: functions need not travel."""
    (job,) = (job for job in folder.study.jobs(folder.size) if job.name == name)
    return folder.run(job, command)


def conclude(folder: Folder, done: Results) -> list[Row]:
    """Give the table, and write it and the figures into the folder."""
    rows = list(folder.study.rows(folder.size, done))
    if done:
        table = {
            "study": folder.study.name,
            "size": folder.size,
            "scaled_down": list(folder.study.deviations(folder.size)),
            "rows": [_row(folder, row, rows) for row in rows],
        }
        atomic.write(folder.path / "table.json", json.dumps(table, indent=1, allow_nan=False))
        folder.study.draw(folder.size, done, folder.path)
    return rows


def _row(folder: Folder, row: Row, table: Sequence[Row]) -> dict[str, Any]:
    own = row.interval
    return {
        "name": row.name,
        "measure": row.measure,
        "published": None if row.published is None else row.published.value,
        "confirmed": None if row.published is None else row.published.confirmed,
        "values": list(row.values),
        "interval": None if own is None else own._asdict(),
        "agreement": format_agreement(folder.study, folder.size, row, table),
        "note": row.note,
    }
