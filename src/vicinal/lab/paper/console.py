"""What `vicinal reproduce` prints: the studies there are, and the table of one."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from vicinal.lab.console import duration, stdout
from vicinal.lab.paper.study import Row, Scale, Study, format_agreement, format_ours, format_published


def print_needs(studies: Sequence[Study]) -> None:
    """Print what there is to run again, with what each needs at each size."""
    console = stdout()
    sizes: tuple[Scale, ...] = ("smoke", "small", "paper")
    table = Table(box=None, pad_edge=False)
    for title in ("study", "section", "what", "size", "data", "takes about"):
        table.add_column(title, overflow="fold")
    for study in studies:
        for size in sizes:
            needs = study.requirements(size)
            first = (study.name, study.section, study.title) if size == sizes[0] else ("", "", "")
            table.add_row(*first, size, needs.data, f"{duration(60 * needs.minutes)} on {needs.device}")
    console.print(table)


def print_table(study: Study, size: Scale, rows: Sequence[Row]) -> None:
    """Print a study's protocol in short, its table, and what was scaled down."""
    console = stdout()
    console.print(Text(f"{study.title} ({study.place}), size {size}", style="bold"))
    console.print(f"\n{inspect.getdoc(study)}\n")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", "measure", "published", "ours", "n", "agreement", "note"):
        justify = "right" if title in ("published", "ours", "n") else "left"
        table.add_column(title, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(
            row.name,
            row.measure,
            format_published(row),
            format_ours(row),
            str(len(row.values)) if row.values else "",
            format_agreement(study, size, row, rows),
            row.note,
        )
    console.print(table)
    console.print(
        "\nn is the number of seeds; [...] are 95 % intervals over them. (recalled): from memory, unconfirmed."
    )
    for line in study.deviations(size):
        console.print(f"Scaled down: {line}")
