"""Every table and figure of the paper, run again: the studies, their jobs, and the tables made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from vicinal.lab import atomic, executor
from vicinal.lab.errors import UserError
from vicinal.lab.format import closest
from vicinal.lab.paper.ablation import AblationStudy
from vicinal.lab.paper.adversarial import AdversarialStudy
from vicinal.lab.paper.agreement import Agreement, format_agreements
from vicinal.lab.paper.cifar import CifarStudy
from vicinal.lab.paper.claims import JudgedClaim, format_finding, judge
from vicinal.lab.paper.corrupted_labels import CorruptedLabelsStudy
from vicinal.lab.paper.cost import CostStudy
from vicinal.lab.paper.gan import GanStudy
from vicinal.lab.paper.imagenet import ImageNetStudy
from vicinal.lab.paper.interpolation import InterpolationStudy
from vicinal.lab.paper.intrusion import IntrusionStudy
from vicinal.lab.paper.phase import PhaseStudy
from vicinal.lab.paper.sequence import SequenceStudy
from vicinal.lab.paper.speech import SpeechStudy
from vicinal.lab.paper.store import JobFolder, JobRecord
from vicinal.lab.paper.study import Results, Row, Study
from vicinal.lab.paper.toy import ToyStudy
from vicinal.lab.paper.uci import UciStudy

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
    PhaseStudy(),  # 5, discussion
    SequenceStudy(),  # 5, discussion
    IntrusionStudy(),
)


def find(name: str) -> Study:
    """Return a study by its name.

    Raises:
        UserError: there is none of that name.

    Example:
        >>> find("uci").section
        '3.6, table 4'

    """
    known = {study.name: study for study in STUDIES}
    if name not in known:
        close = closest(name, known)
        hint = f"did you mean {close}?" if close else f"the studies are {', '.join(known)}"
        raise UserError(f"there is no study {name!r}; {hint}")
    return known[name]


def run(
    folder: JobFolder, command: str, processes: int, on_progress: Callable[[str], None], cluster: str | None = None
) -> Results:
    """Run the jobs that are not done, and return the results of all.

    Args:
        folder: of the study at a scale.
        command: that the user typed, for the record.
        processes: number of jobs at once; 1 runs them in this process.
        on_progress: called with one line per job.
        cluster: as of `executor.run`, instead of processes.

    Raises:
        UserError: another command runs this study there; and what a job or a record raises.

    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with atomic.locked(folder.path / ".lock") as mine:
        if not mine:
            raise UserError(f"another command runs this study in {folder.path}; wait for it, or end it")
        return _run_missing(folder, command, processes, on_progress, cluster)


def _run_missing(
    folder: JobFolder, command: str, processes: int, on_progress: Callable[[str], None], cluster: str | None
) -> Results:
    jobs = folder.study.jobs(folder.scale)
    records = folder.records()
    missing = [job.name for job in jobs if job.name not in records and job.ready]
    here = f"{folder.study.name} ({folder.scale})"
    if records:
        on_progress(f"{here}: {len(records)} of {len(jobs)} jobs are there already")
    if lacking := len(jobs) - len(records) - len(missing):
        on_progress(f"{here}: {lacking} of {len(jobs)} jobs are passed over, since their data are not there")
    work = partial(_run_alone if cluster else _run_job, folder, command)
    finished = executor.run(work, missing, processes=processes, cluster=cluster, folder=folder.path)
    with closing(finished):
        for name, record in finished:
            records[name] = record
            on_progress(f"{here}: {len(records)} of {len(jobs)} jobs, {name} in {record.seconds:.1f} s")
    return {job.name: records[job.name].results for job in jobs if job.name in records}


def _run_job(folder: JobFolder, command: str, name: str) -> JobRecord:
    (job,) = (job for job in folder.study.jobs(folder.scale) if job.name == name)
    return folder.run(job, command)


def _run_alone(folder: JobFolder, command: str, name: str) -> JobRecord:
    """Run a job on one thread, as worker processes do."""
    with executor.one_thread():
        return _run_job(folder, command, name)


def conclude(folder: JobFolder, done: Results) -> list[Row]:
    """Return the table, and write it and the figures into the folder."""
    study, scale = folder.study, folder.scale
    with folder.fitting():
        rows = list(study.rows(scale, done))
        agreements = format_agreements(study, scale, rows)
        table = {
            "study": study.name,
            "scale": scale,
            "deviations": list(study.scales[scale].deviations),
            "claims": [_claim(each) for each in judge(study.claims(scale, done))],
            "rows": [_row(row, each) for row, each in zip(rows, agreements, strict=True)],
        }
        text = json.dumps(table, indent=1, allow_nan=False)
    if done:
        atomic.write(folder.path / "table.json", text)
        with folder.fitting():
            study.draw(scale, done, folder.path)
    return rows


def _row(row: Row, agreement: Agreement) -> dict[str, Any]:
    own = row.interval
    return {
        "name": row.name,
        "measure": row.measure,
        "published": None if row.published is None else row.published.value,
        "confirmed": None if row.published is None else row.published.confirmed,
        "values": list(row.values),
        "interval": None if own is None else own._asdict(),
        "difference": agreement.difference,
        "level": agreement.level,
        "note": row.note,
    }


def _claim(judged: JudgedClaim) -> dict[str, Any]:
    return {
        "claim": judged.claim.text,
        "section": judged.claim.section,
        "verdict": judged.verdict,
        "limits": judged.claim.limits,
        "findings": [
            {
                "what": finding.evidence.what,
                "contrast": finding.evidence.contrast,
                "expected": finding.evidence.expected,
                "found": format_finding(finding),
                "result": finding.result,
            }
            for finding in judged.findings
        ],
    }
