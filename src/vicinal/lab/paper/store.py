"""The folder of a study's jobs: what is finished is kept, and never run again.

    ROOT/STUDY/SCALE/JOB.json    what a finished job returned, with the command, versions, machine and seconds
    ROOT/STUDY/SCALE/JOB/        what a job keeps while it runs and after
    ROOT/runs/DIGEST/            a training run with its checkpoints; studies that train by the same recipe share it
    ROOT/STUDY/SCALE/*.svg       the figures
    ROOT/STUDY/SCALE/table.json  the table
    ROOT/STUDY/SCALE/jobs/       logs of a cluster's jobs
    ROOT/STUDY/SCALE/.lock       held by the one command that works there

A file of another version or of other settings is refused, never mixed with new results; so is one that is not what was
written, and one whose results are not of the types that its study reads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import vicinal
from vicinal.lab import limits, provenance, records, stored
from vicinal.lab.errors import UserError
from vicinal.lab.paper.study import Job, Results, Scale, Study

FORMAT = 3  # of a record
_OF_RESULTS = 2  # format whose checksum is of the results alone; it is still read


@dataclass(frozen=True, kw_only=True)
class JobRecord(provenance.Provenance):
    """A finished job, as its file holds it."""

    fingerprint: str
    study: str
    scale: Scale
    job: str
    seconds: float
    results: dict[str, Any]


@dataclass(frozen=True)
class JobFolder:
    """Where the jobs of one study at one scale are kept."""

    root: Path
    study: Study
    scale: Scale

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.root / self.study.name / self.scale

    def record(self, job: Job, any_version: bool = False) -> JobRecord | None:
        """Return what is kept of a job; None if it is not done.

        Args:
            job: of the study.
            any_version: also what another version wrote. New results are not to be added to such ones.

        Raises:
            UserError: the file is of another format, version or settings, or is not what was written.

        """
        path = self._file(job)
        record = _read(path)
        if record is None:
            return None
        version = record.vicinal if any_version else vicinal.__version__
        if record.fingerprint != fingerprint(self.study, self.scale, job, version):
            raise UserError(f"{path} is of another version or of other settings; choose another --out, or remove it")
        try:
            records.from_json(job.kind, record.results, "results")
        except records.Mismatch as error:
            raise UserError(f"{path} cannot be used: {error}; {_ADVICE}") from error
        return record

    def _file(self, job: Job) -> Path:
        return self.path / f"{job.name}.json"

    def records(self, any_version: bool = False) -> dict[str, JobRecord]:
        """Return the records of all jobs that are done, by their names; see `record`."""
        found = ((job.name, self.record(job, any_version)) for job in self.study.jobs(self.scale))
        return {name: record for name, record in found if record is not None}

    def done(self) -> Results:
        """Return the results of all jobs that are done, by their names."""
        return {name: record.results for name, record in self.records().items()}

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Refuse results of which no table can be made, though each is of its type: they contradict one another.

        Raises:
            UserError: naming the folder, with what went wrong as its cause.

        """
        try:
            yield
        except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UserError(
                f"the results in {self.path} do not fit together ({what}): if some were edited, remove them, and they are "
                "run again; if not, it is a fault of vicinal"
            ) from error

    def run(self, job: Job, command: str) -> JobRecord:
        """Run one job and keep its results."""
        own = self.path / job.name
        own.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        try:
            results = records.to_json(job.run(own))
        finally:
            if not any(own.iterdir()):
                own.rmdir()
        seconds = time.perf_counter() - start
        results = json.loads(json.dumps(results, allow_nan=False))  # as it is read back
        made = provenance.made_now(command, "torch", "numpy", "scipy", "matplotlib")
        if torch.cuda.is_available():
            made["machine"]["gpu"] = torch.cuda.get_device_name()
        record = JobRecord(
            **made,
            format=FORMAT,
            fingerprint=fingerprint(self.study, self.scale, job),
            study=self.study.name,
            scale=self.scale,
            job=job.name,
            seconds=round(seconds, 3),
            results=results,
        )
        stored.write(self._file(job), asdict(record), FORMAT)
        return record


def fingerprint(study: Study, scale: Scale, job: Job, version: str = vicinal.__version__) -> str:
    """Return a digest of what decides a job's result: version, study, scale, name, and what else the job adds."""
    return digest([version, study.name, scale, job.name, job.decided_by])


_ADVICE = "remove it, and it is run again"
digest = stored.digest


def _read(path: Path) -> JobRecord | None:
    try:
        content = limits.read_bytes(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from error
    try:
        record: JobRecord = records.from_json(JobRecord, {"format": FORMAT, **_unsealed(content)})
    except stored.OtherFormat as error:
        raise UserError(
            f"{path} has format {error.found} of another version, and this one reads {FORMAT}; choose another --out, or "
            "remove it"
        ) from error
    except (stored.Unsealed, records.Mismatch) as error:
        raise UserError(f"{path} cannot be used: {error}; {_ADVICE}") from error
    if not record.seconds >= 0:
        raise UserError(f"{path} cannot be used: seconds must be 0 or more, found {record.seconds}; {_ADVICE}")
    return record


def _unsealed(content: bytes) -> dict[str, Any]:
    """Return the fields of a record without its format.

    Raises:
        stored.Unsealed: it is not what was written.

    """
    try:
        return stored.unseal(content, FORMAT)
    except stored.OtherFormat as error:
        if error.found != _OF_RESULTS:
            raise
    fields = stored.parse(content)
    if fields.pop("sha256", None) != digest(fields.get("results")):
        raise stored.Unsealed("its results are not those that were written: their checksum does not fit")
    del fields["format"]
    return fields
