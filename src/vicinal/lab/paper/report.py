"""One page of every table and figure of the paper with ours next to it; the same as Markdown for the documentation."""

from __future__ import annotations

import html
import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from markupsafe import Markup

import vicinal
from vicinal.lab import atomic, drawing, pages, terminal
from vicinal.lab.compact_svg import compact
from vicinal.lab.paper import reproduce
from vicinal.lab.paper.claims import Finding, JudgedClaim, Verdict, format_finding, judge
from vicinal.lab.paper.console import FormattedRow, format_rows
from vicinal.lab.paper.store import JobFolder, JobRecord
from vicinal.lab.paper.study import Scale, Study

# mark and meaning
_VERDICTS: dict[Verdict, tuple[str, str]] = {
    "shown": ("\N{CHECK MARK}", "every difference is as the paper says, beyond chance"),
    "shown in part": ("\N{NORTH EAST ARROW}", "some are, and the others are open"),
    "mixed": ("\N{PLUS-MINUS SIGN}", "some are as the paper says, some the other way"),
    "contradicted": ("\N{MULTIPLICATION X}", "some are the other way, beyond chance, and none is as the paper says"),
    "not resolved": ("?", "no difference is beyond chance"),
    "not run": ("\N{EN DASH}", "no figures"),
}
_EXPLAINED = (
    "A verdict follows from differences alone: paired by seed, with a p-value corrected for all differences of its study "
    "(Holm 1979). Differences marked as beside the verdict are of a regime in which the claim is not expected to hold. "
    "In the tables, *difference* says whether the difference to the row that the paper compares with has the published "
    "sign, corrected likewise; *level* whether the number itself lies within a tenth of the published one, where the study "
    "was run in full."
)


@dataclass(frozen=True)
class Section:
    """A study at one scale."""

    study: Study
    scale: Scale
    rows: list[FormattedRow]
    claims: list[JudgedClaim]
    figures: Sequence[Path]
    records: Mapping[str, JobRecord]

    @property
    def key(self) -> str:
        """Its anchor in the page."""
        return f"{self.study.name}-{self.scale}"

    @property
    def initials(self) -> str:
        """Begin the ids within its figures: short, for there are hundreds, and its own."""
        place = reproduce.STUDIES.index(self.study)
        return f"{self.scale[0]}{chr(ord('a') + place)}"

    @property
    def protocol(self) -> list[str]:
        """Paragraphs of the study's docstring."""
        return [" ".join(text.split()) for text in (inspect.getdoc(self.study) or "").split("\n\n")]

    @property
    def deviations(self) -> Sequence[str]:
        """What is otherwise than in the paper."""
        return self.study.scales[self.scale].deviations

    @property
    def requirements(self) -> str:
        """What it needs, in words."""
        at = self.study.scales[self.scale]
        time = f"{60 * at.minutes:.0f} seconds" if at.minutes < 2 else f"{at.minutes:.0f} minutes"
        if at.minutes >= 120:
            time = f"{at.minutes / 60:.0f} hours"
        return f"data: {at.data}; about {time} on {at.device}"

    @cached_property
    def svgs(self) -> list[Markup]:
        """The figures, as they stand in the page."""
        keys = ((path, f"{self.initials}{i}") for i, path in enumerate(self.figures))
        return [Markup(compact(drawing.inline(path.read_text(encoding="utf-8"), key), key)) for path, key in keys]

    @property
    def is_run(self) -> bool:
        """True if any job has run."""
        return any(row.ours for row in self.rows)

    @property
    def state(self) -> str:
        """Number of its jobs that are done, in words."""
        done, every = len(self.records), len(self.study.jobs(self.scale))
        return "all" if done == every else f"{done} of {every} jobs" if done else "not run"

    @property
    def summary(self) -> str:
        """Count of its claims by verdict, in words."""
        counts = [f"{count} {name}" for name, count in _count([self]).items() if count]
        return ", ".join(counts) or "none"

    @property
    def about(self) -> list[tuple[str, str]]:
        """How its jobs were run."""
        records = self.records.values()
        minutes = sum(record.seconds for record in records) / 60
        facts = [
            ("Command", _distinct(record.command for record in records)),
            ("Work", f"{minutes:.1f} minutes, all jobs together (of one that was stopped, since its last start)"),
            ("Machine", _distinct(map(_machine, records))),
            ("Versions", _distinct(map(_versions, records))),
        ]
        return facts if records else []


def write(root: Path, scale: Scale | None, command: str, into: Path | None = None) -> list[Path]:
    """Write report.html and report.md of what is in `root`, the folder of `reproduce`, which keeps the figures.

    They show the results of one scale; without it, the small and the paper's. They go to `into`, or else to `root`.
    """
    into = into or root
    into.mkdir(parents=True, exist_ok=True)
    sections = [section for study in reproduce.STUDIES for section in _sections(root, study, scale)]
    about = {
        "version": vicinal.__version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
    }
    counts = _count(sections)
    page = pages.template(__package__ or "vicinal.lab.paper", "report.html.j2").render(
        style=pages.style(),
        sections=sections,
        counts=counts,
        verdicts=_VERDICTS,
        explained=_EXPLAINED,
        about=about,
        format_finding=format_finding,
    )
    written = [into / "report.html", into / "report.md"]
    atomic.write(written[0], page)
    atomic.write(written[1], markdown(sections, counts, about, into))
    return written


def _sections(root: Path, study: Study, scale: Scale | None) -> list[Section]:
    scales: tuple[Scale, ...] = ("small", "paper") if scale is None else (scale,)
    sections = [_section(JobFolder(root, study, each)) for each in scales]
    return [section for section in sections if section.is_run] or sections[:1]


def _section(folder: JobFolder) -> Section:
    study, scale = folder.study, folder.scale
    records = folder.records(any_version=True)  # they say which
    done = {name: record.results for name, record in records.items()}
    with folder.fitting():
        rows = study.rows(scale, done)
        figures = study.draw(scale, done, folder.path) if done else ()
        claims = judge(study.claims(scale, done))
    return Section(study, scale, format_rows(study, scale, rows), claims, figures, records)


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def _machine(record: JobRecord) -> str:
    machine = {"processor": "unknown", "cores": "unknown", **record.machine}
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    return f"{machine['processor']}, {machine['cores']} cores{gpu}"


def _versions(record: JobRecord) -> str:
    return ", ".join(f"{name} {version}" for name, version in ({"vicinal": record.vicinal} | record.versions).items())


def _count(sections: Sequence[Section]) -> dict[Verdict, int]:
    """Count the claims by verdict."""
    verdicts = [judged.verdict for section in sections for judged in section.claims]
    return {name: verdicts.count(name) for name in _VERDICTS}


def markdown(sections: Sequence[Section], counts: dict[Verdict, int], about: dict[str, str], into: Path) -> str:
    """Return the report as Markdown; figures are referred to by their place as seen from `into`."""
    claims = len({judged.claim.text for section in sections for judged in section.claims})  # two studies may test one
    lines = [
        "# The paper, run again",
        "",
        f"vicinal {about['version']}, {about['created']}, by `{about['command']}`. Of {claims} claims, "
        + f"{sum(counts.values())} verdicts: "
        + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        + ".",
        "",
        *(f"- **{name}**: {text}." for name, (_, text) in _VERDICTS.items()),
        "",
        _EXPLAINED,
        "",
        "| claim | section | verdict | what was measured |",
        "|---|---|---|---|",
        *(_markdown_claim(judged) for section in sections for judged in section.claims),
        "",
        "| study | of the paper | scale | jobs run | claims |",
        "|---|---|---|---|---|",
        *(
            f"| {section.study.title} | {section.study.section} | {section.scale} | {section.state} | {section.summary} |"
            for section in sections
        ),
        *(line for section in sections for line in _markdown_section(section, into)),
    ]
    return "\n".join(lines) + "\n"


def _markdown_claim(judged: JudgedClaim) -> str:
    findings = "<br>".join(f"{_named(finding)}: {format_finding(finding)}" for finding in judged.findings)
    limits = f"<br>Limits: {judged.claim.limits}" if judged.claim.limits else ""
    cells = (judged.claim.text, judged.claim.section, f"**{judged.verdict}**", findings + limits)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _named(finding: Finding) -> str:
    """Return what was measured; beside the verdict, if it is."""
    return f"{finding.evidence.what} (beside the verdict)" if finding.evidence.contrast else finding.evidence.what


def _markdown_section(section: Section, into: Path) -> Iterator[str]:
    yield from ("", f"## {section.study.title} ({section.study.section_title}), scale {section.scale}", "")
    for paragraph in section.protocol:
        yield from (paragraph, "")
    yield f"Needs at this scale: {section.requirements}."
    yield from (f"Scaled down: {line}" for line in section.deviations)
    yield from ("", "| | measure | published | ours | n | difference | level | note |")
    yield "|---|---|---:|---:|---:|---|---|---|"
    for row in section.rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    for path in section.figures:
        yield from ("", f"![{path.stem}]({Path(os.path.relpath(path, into)).as_posix()})")
    if section.about:
        yield from ("", *(f"{name}: {_plain(value)}  " for name, value in section.about))


def _plain(text: str) -> str:
    """Return text in one line that Markdown takes for no HTML."""
    return html.escape(" ".join(terminal.printable(text).split()), quote=False)
