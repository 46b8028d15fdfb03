"""What `vicinal reproduce` prints: the studies there are, and the table of one."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from vicinal.lab.console import duration, stdout
from vicinal.lab.paper.agreement import format_agreements
from vicinal.lab.paper.claims import JudgedClaim, format_finding
from vicinal.lab.paper.study import Row, Scale, Study, format_ours, format_published


def print_requirements(studies: Sequence[Study]) -> None:
    """Print the studies, with what each needs at each scale."""
    table = Table(box=None, pad_edge=False)
    for title in ("study", "section", "what", "scale", "data", "takes about"):
        table.add_column(title, overflow="fold")
    for study in studies:
        first = (study.name, study.section, study.title)
        for scale, at in study.scales.items():
            table.add_row(*first, scale, at.data, f"{duration(60 * at.minutes)} on {at.device}")
            first = ("", "", "")
    stdout().print(table)


class FormattedRow(NamedTuple):
    """A row of a table, as it is written."""

    name: str
    measure: str
    published: str
    ours: str
    n: str
    difference: str
    level: str
    note: str


def format_rows(study: Study, scale: Scale, rows: Sequence[Row]) -> list[FormattedRow]:
    """Write a study's table."""
    return [
        FormattedRow(
            row.name,
            row.measure,
            format_published(row),
            format_ours(row),
            str(len(row.values) or ""),
            each.difference,
            each.level,
            row.note,
        )
        for row, each in zip(rows, format_agreements(study, scale, rows), strict=True)
    ]


def print_claims(judged: Sequence[JudgedClaim]) -> None:
    """Print the verdict on each claim, with the differences that it rests on."""
    console = stdout()
    for each in judged:
        console.print(Text(f"\n{each.verdict}: {each.claim.text} (section {each.claim.section})", style="bold"))
        for finding in each.findings:
            beside = ", beside the verdict" if finding.evidence.contrast else ""
            console.print(f"  {finding.evidence.what}: {format_finding(finding)}; {finding.result}{beside}")
        if each.claim.limits:
            console.print(f"  Limits: {each.claim.limits}.")


def print_table(study: Study, scale: Scale, rows: Sequence[Row]) -> None:
    """Print a study's protocol in short, its table, and how it deviates from the paper."""
    console = stdout()
    console.print(Text(f"{study.title} ({study.section_title}), scale {scale}", style="bold"))
    console.print(f"\n{inspect.getdoc(study)}\n")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", "measure", "published", "ours", "n", "difference", "level", "note"):
        justify = "right" if title in ("published", "ours", "n") else "left"
        table.add_column(title, justify=justify, overflow="fold")
    for row in format_rows(study, scale, rows):
        table.add_row(*row)
    console.print(table)
    console.print(
        "\nn is the number of seeds; [...] are 95 % intervals over them. (recalled): from memory, unconfirmed."
    )
    for line in study.scales[scale].deviations:
        console.print(f"Scaled down: {line}")
