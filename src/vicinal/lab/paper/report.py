"""One page of every table and figure of the paper with ours beside it; the same as Markdown for the documentation."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

import vicinal
from vicinal.lab import atomic, drawing, pages
from vicinal.lab.paper import reproduce
from vicinal.lab.paper.study import (
    Agreement,
    Requirements,
    Row,
    Scale,
    Study,
    format_agreement,
    format_ours,
    format_published,
)

_MARKS: dict[str, str] = {
    "inside the interval": "\N{CHECK MARK}",
    "direction only": "\N{NORTH EAST ARROW}",
    "unclear": "?",
    "contradicts": "\N{MULTIPLICATION X}",
    "differs": "\N{NOT EQUAL TO}",
    "scaled down": "\N{MIDDLE DOT}",
    "not run": "\N{EN DASH}",
}
_MEANING: dict[Agreement, str] = {
    "inside the interval": "the published number lies in our 95 % interval over seeds",
    "direction only": "the difference to the row it is compared with has the published sign, and its interval excludes 0",
    "contradicts": "the difference to the row it is compared with has the other sign, and its interval excludes 0",
    "unclear": "the difference to the row it is compared with may be luck, or the paper shows none, or seeds are too few",
    "differs": "the published number lies outside our interval, and the paper compares the row with no other",
    "scaled down": "smaller than in the paper, which compares the row with no other: nothing to compare",
    "not run": "no result yet",
}


@dataclass(frozen=True)
class Line:
    """A row of a table, as it is written."""

    name: str
    measure: str
    published: str
    ours: str
    n: str
    agreement: str
    mark: str
    note: str


@dataclass(frozen=True)
class Part:
    """A study at one size."""

    study: Study
    size: Scale
    protocol: list[str]
    scaled_down: list[str]
    needs: str
    lines: list[Line]
    figures: list[Path]
    svgs: list[Markup]
    jobs: tuple[int, int]  # done, of all
    about: list[tuple[str, str]]

    @property
    def key(self) -> str:
        """Name it within the page."""
        return f"{self.study.name}-{self.size}"

    @property
    def is_run(self) -> bool:
        """Whether there is any result."""
        return any(line.ours for line in self.lines)

    @property
    def state(self) -> str:
        """Say how many of its jobs are done."""
        done, every = self.jobs
        return "all" if done == every else f"{done} of {every} jobs" if done else "not run"

    @property
    def in_short(self) -> str:
        """Count how the rows that were run stand, and those that were not."""
        counts = _count([self])
        if not any(counts.values()):
            return "nothing published to compare with"
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def write(root: Path, size: Scale | None, command: str, into: Path | None = None) -> list[Path]:
    """Write report.html and report.md of what is in the folder, with the figures that the second refers to.

    Args:
        root: the folder of `reproduce`, which keeps the figures.
        size: of the results shown; None: the small and the paper's.
        command: that the user gave.
        into: the folder of the two files; None: `root`.

    Returns:
        The two files.

    """
    into = into or root
    into.mkdir(parents=True, exist_ok=True)
    parts = [part for study in reproduce.STUDIES for part in _parts(root, study, size)]
    about = {
        "version": vicinal.__version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
    }
    counts = _count(parts)
    html = pages.template(__package__ or "vicinal.lab.paper", "report.html.j2").render(
        style=pages.style(), parts=parts, counts=counts, meaning=_MEANING, marks=_MARKS, about=about
    )
    written = [into / "report.html", into / "report.md"]
    atomic.write(written[0], html)
    atomic.write(written[1], markdown(parts, counts, about, into))
    return written


def _parts(root: Path, study: Study, size: Scale | None) -> list[Part]:
    sizes: tuple[Scale, ...] = ("small", "paper") if size is None else (size,)
    parts = [_part(reproduce.Folder(root, study, each)) for each in sizes]
    return [part for part in parts if part.is_run] or parts[:1]


def _part(folder: reproduce.Folder) -> Part:
    study, size = folder.study, folder.size
    records = folder.records(any_version=True)  # they say which
    done = {name: record["results"] for name, record in records.items()}
    rows = list(study.rows(size, done))
    figures = list(study.draw(size, done, folder.path)) if done else []
    protocol = [" ".join(text.split()) for text in (inspect.getdoc(study) or "").split("\n\n")]
    return Part(
        study,
        size,
        protocol,
        list(study.deviations(size)),
        _needs(study.requirements(size)),
        [_line(study, size, row, rows) for row in rows],
        figures,
        [Markup(drawing.inline(path.read_text(), f"{study.name}-{size}-{i}")) for i, path in enumerate(figures)],
        (len(records), len(study.jobs(size))),
        _about(list(records.values())),
    )


def _needs(needs: Requirements) -> str:
    time = f"{60 * needs.minutes:.0f} seconds" if needs.minutes < 2 else f"{needs.minutes:.0f} minutes"
    if needs.minutes >= 120:
        time = f"{needs.minutes / 60:.0f} hours"
    return f"data: {needs.data}; about {time} on {needs.device}"


def _line(study: Study, size: Scale, row: Row, table: Sequence[Row]) -> Line:
    told = format_agreement(study, size, row, table)
    return Line(
        row.name,
        row.measure,
        format_published(row),
        format_ours(row),
        str(len(row.values)) if row.values else "",
        told,
        _MARKS.get(told, ""),
        row.note,
    )


def _about(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    if not records:
        return []

    def each(values: Sequence[str]) -> str:
        return "; ".join(dict.fromkeys(values))

    seconds = sum(record["seconds"] for record in records)
    machines = [
        f"{record['machine']['processor']}, {record['machine']['cores']} cores"
        + (f", {record['machine']['gpu']}" if "gpu" in record["machine"] else "")
        for record in records
    ]
    versions = [
        ", ".join(
            f"{name} {version}" for name, version in ({"vicinal": record["vicinal"]} | record["versions"]).items()
        )
        for record in records
    ]
    return [
        ("Command", each([record["command"] for record in records])),
        ("Work", f"{seconds / 60:.1f} minutes, all jobs together (of one that was stopped, since its last start)"),
        ("Machine", each(machines)),
        ("Versions", each(versions)),
    ]


def _count(parts: Sequence[Part]) -> dict[Agreement, int]:
    """Count how the rows with a published number stand."""
    told = [line.agreement for part in parts for line in part.lines if line.published]
    return {name: told.count(name) for name in _MEANING}


def markdown(parts: Sequence[Part], counts: dict[Agreement, int], about: dict[str, str], into: Path) -> str:
    """Give the report as Markdown; figures are referred to by their place as seen from `into`."""
    lines = [
        "# The paper, run again",
        "",
        f"vicinal {about['version']}, {about['created']}, by `{about['command']}`. Of the rows with a published number: "
        + ", ".join(f"{count} {name}" for name, count in counts.items())
        + ".",
        "",
        *(f"- **{name}**: {text}." for name, text in _MEANING.items()),
        "",
        "| study | of the paper | size | jobs run | rows with a published number |",
        "|---|---|---|---|---|",
        *(
            f"| {part.study.title} | {part.study.section} | {part.size} | {part.state} | {part.in_short} |"
            for part in parts
        ),
    ]
    for part in parts:
        lines += ["", f"## {part.study.title} ({part.study.place}), size {part.size}", ""]
        for paragraph in part.protocol:
            lines += [paragraph, ""]
        lines += [f"Needs at this size: {part.needs}."]
        lines += [f"Scaled down: {line}" for line in part.scaled_down]
        lines += ["", "| | measure | published | ours | n | agreement | note |", "|---|---|---:|---:|---:|---|---|"]
        for line in part.lines:
            cells = (line.name, line.measure, line.published, line.ours, line.n, line.agreement, line.note)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        for path in part.figures:
            lines += ["", f"![{path.stem}]({Path(os.path.relpath(path, into)).as_posix()})"]
        if part.about:
            lines += ["", *(f"{name}: {value}  " for name, value in part.about)]
    return "\n".join(lines) + "\n"
