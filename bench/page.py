"""Writes results/bench/README.md from the measurements in that folder, and draws a figure for each file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.timing import RESULTS, ROOT, Table

PAGE = RESULTS / "README.md"

INTRO = """\
# Benchmarks: every measurement

Written by `python -m bench.page`. The tables behind [speed](../../docs/how-to/speed.md), which says what they mean and what
to do. Each section begins with the command that made it and the versions that it ran with.

The machines are shared and noisy: candidates take turns in random order, ratios are taken within a round, and medians
with quartiles are shown. With one thread the clock is the process's CPU time, which other programs on the machine do not
touch. Quote ratios, not milliseconds. "Formula" is a peer's arithmetic written out here, "package" its own code.

`make bench` measures again and writes this page; `make bench-peers` measures the peers' packages, `python -m bench.mixing
--threads 2` two threads. Tables "of commit ..." were measured by that state of vicinal 0.1.0, with the words and options it
had then. What is measured on a GPU, and how: [bench/gpu](../../bench/gpu/__init__.py).
"""

SECTIONS = {  # in the order of the page: heading, and what the tables do not say
    "mixing": ("Mixing a batch", ""),
    "mixing-2threads": (
        "Mixing a batch: two threads",
        "By the wall clock. The rows are still mixed by one thread; the copy has two.",
    ),
    "mixing-packages": (
        "Mixing a batch: next to the peers' packages",
        "The packages as a user calls them, labels included. PyTorch's CUDA build, on the CPU, since torchvision does not "
        "import with the CPU build.",
    ),
    "mixing-packages-malloc": (
        "Mixing a batch: with memory kept",
        "The same where the allocator is told to keep its memory (`MALLOC_MMAP_THRESHOLD_` and `MALLOC_TRIM_THRESHOLD_`, "
        "as in the Makefile), which spares everybody the page faults of new tensors.",
    ),
    "vicinities": (
        "Vicinities, pairings and weightings",
        "The one line, draw and labels included, into a new tensor; a pairing or weighting is that of a `Mixup`. "
        "`new_memory`: bytes of tensors held at the same time at most, in sizes of the batch, what is returned included.",
    ),
    "loss": ("The loss", "Forward and backward."),
    "step": ("A training step", ""),
    "fleet": (
        "Many small runs",
        "In four runs of this command the fleet in two processes was 13 to 16 times as fast as the plain loop, and it was "
        "the plain loop that varied (82 to 101 ms per run).",
    ),
    "decode": ("Reading images", "On one core, by Pillow."),
    "loop": (
        "Whole training on images",
        "The loop of `vicinal train` next to the paper's reference recipe, on the same model.",
    ),
    "gpu-kernels": (
        "A GPU: mixing and its loss",
        "`share`: of the bandwidth of a copy. `extra_logit_sizes`: peak memory beyond the logits, in their size.",
    ),
    "gpu-throughput": ("A GPU: whole training", ""),
    "gpu-cifar": ("A GPU: the paper's runs on CIFAR", ""),
}

# files from before the version of vicinal was written into them
COMMITS = {"mixing-2threads": "5a85d94", "step": "cf7f8ab"}
COMMITS |= dict.fromkeys(("mixing", "mixing-packages", "mixing-packages-malloc"), "7a2c21b")
COMMITS |= dict.fromkeys(("loss", "fleet", "decode", "loop"), "71d9ac1")


def main() -> None:
    PAGE.write_text(text())
    for path in RESULTS.glob("*.json"):
        if tables := ratios(json.loads(path.read_text())):
            figure(tables, path.with_suffix(".svg"))
    print(f"written: {PAGE.relative_to(ROOT)}")


def text() -> str:
    paths = {path.stem: path for path in RESULTS.glob("*.json")}
    if unknown := sorted(paths.keys() - SECTIONS.keys()):
        raise SystemExit(f"bench/page.py has no section for {', '.join(unknown)}: add it to SECTIONS")
    return "\n".join([INTRO, *(section(paths[name], *words) for name, words in SECTIONS.items() if name in paths)])


def section(path: Path, heading: str, note: str) -> str:
    record = json.loads(path.read_text())
    parts = [f"## {heading}", origin(path.stem, record), note]
    for title, rows in record["tables"].items():
        parts += [f"**{title}**", table(rows)]
    if ratios(record):
        parts.append(f"![{heading}]({path.stem}.svg)")
    return "\n\n".join(part for part in parts if part) + "\n"


def ratios(record: dict[str, Any]) -> dict[str, Table]:
    """Return the tables of times, as opposed to those of other numbers."""
    return {title: rows for title, rows in record["tables"].items() if all("ratio" in row for row in rows.values())}


def origin(name: str, record: dict[str, Any]) -> str:
    """Return what measured a file."""
    versions = {"vicinal": f"of commit {COMMITS.get(name)}"} | record["versions"]
    return (
        f"`{record['command']}`: {record['rounds']} rounds, {record['threads']} thread(s), {record['clock']}; "
        f"{record['machine']['processor']}, {record['machine']['cores']} cores; "
        f"{', '.join(' '.join(pair) for pair in versions.items())}; {record['created'][:10]}."
    )


def table(rows: Table) -> str:
    """Return a table in Markdown: of times with their ratios to the reference, or of plain numbers."""
    body = {name: cells(row, reference(rows)) for name, row in rows.items()}
    columns = list(dict.fromkeys(column for row in body.values() for column in row))
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    lines += [f"| {name} | {' | '.join(row.get(c, '') for c in columns)} |" for name, row in body.items()]
    return "\n".join(lines)


def reference(rows: Table) -> str:
    return next((name for name, row in rows.items() if "ratio" in row and row["ratio"] == [1, 1, 1]), "")


def cells(row: dict[str, Any], reference: str) -> dict[str, str]:
    apart = ("ms", "ratio", "peak_MB")  # the last was 0 wherever it was written: it missed the workers
    numbers = {key: f"{value:.4g}" for key, value in row.items() if key not in apart}
    if "ratio" not in row:
        return numbers
    low, median, high = row["ratio"]
    times = {"ms": f"{row['ms'][1]:.4g}", f"x {reference}": f"{median:.2f}", "quartiles": f"{low:.2f} to {high:.2f}"}
    return times | numbers


def figure(tables: dict[str, Table], path: Path) -> None:
    """Draw the ratios of every table as bars on a logarithmic scale."""
    heights = [len(rows) for rows in tables.values()]
    with rc_context({"font.size": 8, "svg.fonttype": "none", "svg.hashsalt": path.stem}):
        fig = Figure(figsize=(7.5, 0.17 * sum(heights) + 0.55 * len(tables)), layout="constrained")
        axes = fig.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
        for ax, (title, rows) in zip(axes, tables.items(), strict=True):
            bars(ax, title, rows)
        axes[-1].set_xlabel("times the reference (1), medians with quartiles; shorter is faster")
        fig.savefig(path, metadata={"Date": None})


def bars(ax: Axes, title: str, rows: Table) -> None:
    low, median, high = zip(*(row["ratio"] for row in rows.values()), strict=True)
    below = [m - q for m, q in zip(median, low, strict=True)]
    above = [q - m for m, q in zip(median, high, strict=True)]
    colors = ["#1f6fb2" if name.startswith(("vicinal", "fleet")) else "#9a9a9a" for name in rows]
    ax.barh(range(len(rows)), median, color=colors, xerr=[below, above], ecolor="#444444")
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_title(title, loc="left", fontsize=8, fontweight="bold")
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.axvline(1, color="#444444", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
