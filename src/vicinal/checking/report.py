"""What a check found: findings with their numbers, facts, and what could not be looked at; as text, JSON and SARIF."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vicinal.checking.codes import CODES, Code, code

_SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Fault:
    """One fault of a pipeline.

    Args:
        code: of its kind, as "VIC001".
        seen: what was seen, in numbers; one or two sentences.
        where: which part of the pipeline or of the batch; "" for the whole.

    Examples:
        >>> Fault("VIC002", "7 of 8 labels are those of one row").kind.severity
        'error'

    """

    code: str
    seen: str
    where: str = ""

    @property
    def kind(self) -> Code:
        """The kind of fault, with severity, title, meaning and fix."""
        return CODES[self.code]

    def to_dict(self) -> dict[str, str]:
        """Return it as plain data."""
        kind = self.kind
        return {
            "code": self.code,
            "severity": kind.severity,
            "title": kind.title,
            "where": self.where,
            "seen": self.seen,
            "means": kind.means,
            "fix": kind.fix,
            "page": kind.page,
        }


@dataclass
class Report:
    """What a check of a pipeline found.

    Args:
        target: what was checked, in words.
        findings: faults, the worst first.
        ignored: faults of the codes that were to be ignored.
        facts: what was seen otherwise: how rows are mixed, how long it takes.
        skipped: what could not be looked at, each with its reason.
        file: the file of the target, where there is one.
        line: the line of the target in it, from 1.
        seconds: how long the check took.

    Examples:
        >>> report = Report("train.make_loader", [Fault("VIC060", "mixing takes 40 ms of a step of 100 ms")], seconds=1.2)
        >>> report.passed, report.codes  # a note never fails
        (True, ['VIC060'])

    """

    target: str
    findings: list[Fault] = field(default_factory=list)
    ignored: list[Fault] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    file: str | None = None
    line: int | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """True if nothing but notes was found."""
        return all(finding.kind.severity == "note" for finding in self.findings)

    @property
    def codes(self) -> list[str]:
        """The codes of all findings, each once, in the order of the report."""
        return list(dict.fromkeys(finding.code for finding in self.findings))

    def raise_if_failed(self) -> None:
        """Raise an AssertionError with the report unless it passed: for tests."""
        if not self.passed:
            raise AssertionError(f"\n{self}")

    def __str__(self) -> str:
        """Return the report as text of at most 120 columns."""
        lines = [f"{self.target}: {self._summary()}"]
        for finding in self.findings:
            lines += ["", *_text(finding)]
        for title, parts in (("seen otherwise", self.facts), ("not looked at", self.skipped)):
            if parts:
                lines += ["", f"{title}:"]
                for name, value in parts.items():
                    lines += textwrap.wrap(f"{name}: {value}", 118, initial_indent="  ", subsequent_indent="    ")
        if self.ignored:
            lines += ["", "ignored: " + ", ".join(sorted({finding.code for finding in self.ignored}))]
        return "\n".join(lines)

    def _summary(self) -> str:
        counts = {severity: 0 for severity in _SEVERITIES}
        for finding in self.findings:
            counts[finding.kind.severity] += 1
        parts = [f"{n} {word}{'s' * (n != 1)}" for word, n in counts.items() if n]
        unseen = f"; {len(self.skipped)} not looked at" if self.skipped else ""
        return f"{', '.join(parts) or 'nothing found'}{unseen} ({self.seconds:.1f} s)"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, which `--json` prints."""
        return {
            "target": self.target,
            "file": self.file,
            "line": self.line,
            "passed": self.passed,
            "seconds": round(self.seconds, 3),
            "findings": [finding.to_dict() for finding in self.findings],
            "ignored": [finding.to_dict() for finding in self.ignored],
            "facts": self.facts,
            "skipped": self.skipped,
        }

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)


def _text(finding: Fault) -> list[str]:
    kind = finding.kind
    where = f" [{finding.where}]" if finding.where else ""
    lines = [f"{finding.code} {kind.severity}: {kind.title}{where}"]
    for name, value in (("seen", finding.seen), ("means", kind.means), ("fix", kind.fix)):
        lines += textwrap.wrap(f"{name + ':':<7}{value}", 118, initial_indent="  ", subsequent_indent="         ")
    return lines


def ordered(findings: Iterable[Fault], ignore: Iterable[str] = ()) -> tuple[list[Fault], list[Fault]]:
    """Return the findings that count and those to be ignored, each the worst first.

    Args:
        findings: in any order.
        ignore: codes.

    Raises:
        ValueError: a name in `ignore` is not a code.

    """
    out = {code(name).code for name in ignore}
    rank = {severity: i for i, severity in enumerate(_SEVERITIES)}
    by_rank = sorted(findings, key=lambda finding: (rank[finding.kind.severity], finding.code))
    return [f for f in by_rank if f.code not in out], [f for f in by_rank if f.code in out]


def relative(path: str) -> str:
    """Return a path relative to the folder the program runs in, where it lies in it."""
    try:
        return Path(path).resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return Path(path).as_posix()
