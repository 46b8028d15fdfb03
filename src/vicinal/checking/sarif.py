"""Reports as SARIF 2.1.0 (OASIS), which GitHub's code scanning and editors show beside the line of the pipeline."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vicinal import __version__
from vicinal.checking.codes import CODES, Code
from vicinal.checking.report import Fault, Report

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
# GitHub's own key, primaryLocationLineHash, is left to its upload action, which warns of any value but its own
_FINGERPRINT = "vicinal/v1"


def to_sarif(reports: Report | Iterable[Report]) -> dict[str, Any]:
    """Return reports as one run in SARIF 2.1.0, plain data for `json.dumps`.

    Every code is a rule, found or not. What was ignored is a result with a suppression. A report without a file has results
    without a location, which SARIF allows and GitHub does not show.
    """
    listed = [reports] if isinstance(reports, Report) else list(reports)
    site = _site()
    driver = {
        "name": "vicinal",
        "fullName": "vicinal check",
        "version": __version__,
        "semanticVersion": __version__,
        **({"informationUri": site} if site else {}),
        "rules": [_rule(kind, site) for kind in CODES.values()],
    }
    # uploads of one tool for one commit replace each other unless their categories, what stands before /, differ
    category = f"vicinal check/{listed[0].target}/" if len(listed) == 1 else "vicinal check/"
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "automationDetails": {"id": category},
                "columnKind": "unicodeCodePoints",
                "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": _notifications(listed)}],
                "results": [result for report in listed for result in _results(report)],
            }
        ],
    }


def _site() -> str | None:
    """Return the address of the project's pages where its package has one."""
    try:
        urls = metadata("vicinal").get_all("Project-URL") or []
    except PackageNotFoundError:  # run from its sources
        return None
    named = {name.strip().lower(): url.strip() for name, _, url in (line.partition(",") for line in urls)}
    found = [named[name] for name in ("repository", "source", "homepage") if name in named]
    return found[0].rstrip("/") if found else None


def _rule(kind: Code, site: str | None) -> dict[str, Any]:
    title = kind.title[0].upper() + kind.title[1:]
    words = "".join(char if char.isalnum() else " " for char in kind.title).split()
    return {
        "id": kind.code,
        "name": "".join(word[0].upper() + word[1:] for word in words if len(word) > 1),  # Pascal case, without "a"
        "shortDescription": {"text": f"{title}."},
        "fullDescription": {"text": f"{kind.means} {kind.fix}"},
        "help": {"text": f"{title}.\n\n{kind.means}\n\n{kind.fix}", "markdown": kind.card()},
        **({"helpUri": f"{site}/blob/main/{kind.page}"} if site else {}),
        "defaultConfiguration": {"level": kind.severity},
        "properties": {
            "tags": ["mixup", "data augmentation", "training"],
            "problem.severity": "recommendation" if kind.severity == "note" else kind.severity,
        },
    }


def _notifications(reports: Sequence[Report]) -> list[dict[str, Any]]:
    return [
        {"level": "note", "message": {"text": f"{report.target}: {name} was not looked at: {reason}"}}
        for report in reports
        for name, reason in report.skipped.items()
    ]


def _results(report: Report) -> list[dict[str, Any]]:
    ignored = {"suppressions": [{"kind": "external", "status": "accepted", "justification": "ignored by its code"}]}
    return [
        *(_result(report, finding) for finding in report.findings),
        *(_result(report, finding) | ignored for finding in report.ignored),
    ]


def _result(report: Report, finding: Fault) -> dict[str, Any]:
    kind = finding.kind
    where = f" [{finding.where}]" if finding.where else ""
    identity = "\0".join((finding.code, report.target, finding.where))
    return {
        "ruleId": finding.code,
        "ruleIndex": list(CODES).index(finding.code),
        "level": kind.severity,
        "message": {"text": f"{report.target}: {kind.title}{where}. {finding.seen} {kind.fix}"},
        **({"locations": [_location(report, report.file)]} if report.file is not None else {}),
        "partialFingerprints": {_FINGERPRINT: hashlib.sha256(identity.encode()).hexdigest()[:32]},
    }


def _location(report: Report, file: str) -> dict[str, Any]:
    line = max(report.line or 1, 1)
    region = {"startLine": line, "startColumn": 1, "endLine": line}
    if text := _text_of(Path(file), line):
        region["endColumn"] = len(text) + 1
    return {
        "physicalLocation": {"artifactLocation": _artifact(file), "region": region},
        "logicalLocations": [{"fullyQualifiedName": report.target}],
    }


def _text_of(path: Path, line: int) -> str:
    """Return a line of a file; "" where there is none."""
    if not path.is_file():
        return ""
    lines = path.read_bytes().decode(errors="replace").splitlines()
    return lines[line - 1] if line <= len(lines) else ""


def _artifact(file: str) -> dict[str, str]:
    path = Path(file)
    if path.is_absolute():  # outside of the folder that the check runs in
        return {"uri": path.as_uri()}
    return {"uri": quote(path.as_posix()), "uriBaseId": "%SRCROOT%"}
