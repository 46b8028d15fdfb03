"""Puts what was measured into docs/performance.md, between its markers, and draws one figure for each benchmark."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from bench.timing import ROOT

RESULTS = ROOT / "results" / "bench"
PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"


def table(rows: dict[str, dict[str, list[float]]], reference: str) -> str:
    lines = [f"| | ms | x {reference} | quartiles |", "|---|---:|---:|---|"]
    for name, row in rows.items():
        low, median, high = row["ratio"]
        lines.append(f"| {name} | {row['ms'][1]:.4g} | {median:.2f} | {low:.2f} to {high:.2f} |")
    return "\n".join(lines)


def section(record: dict[str, Any]) -> str:
    where = f"{record['machine']['processor']}, {record['machine']['cores']} cores"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    parts = [
        f"`{record['command']}`: {record['rounds']} rounds, {record['threads']} thread(s), {record['clock']}; {where}; "
        f"{versions}; {record['created'][:10]}."
    ]
    for title, rows in record["tables"].items():
        if title == "cost a run":
            lines = ["| runs | ms a run |", "|---:|---:|"]
            lines += [f"| {size} | {row['ms_per_run']:.2f} |" for size, row in rows.items()]
            parts += [f"**{title}**", "\n".join(lines)]
        else:
            reference = next(name for name, row in rows.items() if abs(row["ratio"][1] - 1) < 1e-9)
            parts += [f"**{title}**", table(rows, reference)]
    return "\n\n".join(parts)


def figure(name: str, record: dict[str, Any]) -> Path:
    """Draw the ratios of every table as bars on a logarithmic scale."""
    tables = {title: rows for title, rows in record["tables"].items() if title != "cost a run"}
    with rc_context({"font.size": 8, "svg.fonttype": "none", "svg.hashsalt": name}):
        heights = [len(rows) for rows in tables.values()]
        fig = Figure(figsize=(7.5, 0.17 * sum(heights) + 0.55 * len(tables)), layout="constrained")
        axes = fig.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
        for ax, (title, rows) in zip(axes, tables.items(), strict=True):
            medians = [row["ratio"][1] for row in rows.values()]
            spans = [
                [m - row["ratio"][0] for m, row in zip(medians, rows.values(), strict=True)],
                [row["ratio"][2] - m for m, row in zip(medians, rows.values(), strict=True)],
            ]
            ours = ["#1f6fb2" if label.startswith(("vicinal", "fleet")) else "#9a9a9a" for label in rows]
            ax.barh(range(len(rows)), medians, color=ours, xerr=spans, ecolor="#444444")
            ax.set_yticks(range(len(rows)), list(rows))
            ax.set_title(title, loc="left", fontsize=8, fontweight="bold")
            ax.invert_yaxis()
            ax.set_xscale("log")
            ax.axvline(1, color="#444444", linewidth=0.8)
            ax.spines[["top", "right"]].set_visible(False)
        axes[-1].set_xlabel("times the reference (1), medians with quartiles; shorter is faster")
        path = IMAGES / f"bench-{name}.svg"
        fig.savefig(path, metadata={"Date": None})
    return path


def main() -> None:
    page = PAGE.read_text()
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text())
        figure(path.stem, record)
        marked = re.compile(rf"(<!-- {path.stem} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not marked.search(page):
            raise SystemExit(
                f"docs/performance.md has no place for {path.name}: add <!-- {path.stem} --> and <!-- end -->"
            )
        content = f"\n{section(record)}\n\n![{path.stem}](images/bench-{path.stem}.svg)\n\n"
        page = marked.sub(lambda m, content=content: m.group(1) + content + m.group(2), page)
    PAGE.write_text(page)
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
