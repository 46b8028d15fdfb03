"""`python -m museum [NAME ...]`: run `vicinal check` on each pipeline, print what it found, and compare with the targets.

Each check is a process of its own with one thread. With `--write`, the results go to results/museum.json and
docs/check/museum.md. The exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from museum import Exhibit, exhibits
from vicinal.checking.codes import CODES
from vicinal.lab import atomic
from vicinal.lab.provenance import made_now

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "results" / "museum.json", ROOT / "docs" / "check" / "museum.md"
FORMAT = 1
FOUND_SHARE, SECONDS = 0.95, 10.0  # targets: faults found, and the longest check
TIMEOUT = 120.0


@dataclass(frozen=True)
class Visit:
    """What a check of one pipeline found.

    Args:
        exhibit: the pipeline.
        codes: errors and warnings that were found.
        notes: notes that were found.
        seconds: of the whole process.
        problem: why there is no report, or "".

    """

    exhibit: Exhibit
    codes: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float
    problem: str = ""

    @property
    def right(self) -> bool:
        """True if the fault was found, a note counts too; or if neither error nor warning was in a correct pipeline."""
        if self.problem:
            return False
        found = (*self.codes, *self.notes)
        return not self.codes if self.exhibit.is_correct else any(code in self.exhibit.finds for code in found)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "name": self.exhibit.name,
            "source": self.exhibit.source,
            "check": " ".join([self.exhibit.target, *self.exhibit.options]),
            "expected": list(self.exhibit.finds),
            "found": list(self.codes),
            "notes": list(self.notes),
            "right": self.right,
            "seconds": round(self.seconds, 2),
            "problem": self.problem,
        }


def command(exhibit: Exhibit) -> list[str]:
    """Return the command that checks a pipeline."""
    target = f"{exhibit.file.relative_to(ROOT).as_posix()}:{exhibit.target}"
    return [sys.executable, "-m", "vicinal.lab.cli", "check", target, "--json", *exhibit.options]


def visit(exhibit: Exhibit, timeout: float = TIMEOUT) -> Visit:
    """Return what `vicinal check` finds in a pipeline, in a process group that ends with this call."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command(exhibit),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # its workers are in its group
    )
    try:
        out, complaints = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        return Visit(exhibit, (), (), time.perf_counter() - start, f"no answer in {timeout:.0f} s")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode not in (0, 1):
        return Visit(exhibit, (), (), seconds, _reason(complaints) or f"exit code {process.returncode}")
    try:
        found = [finding["code"] for finding in json.loads(out)["findings"]]
    except (json.JSONDecodeError, KeyError) as reason:
        return Visit(exhibit, (), (), seconds, f"no report: {reason!r}")
    notes = tuple(code for code in dict.fromkeys(found) if CODES[code].severity == "note")
    codes = tuple(code for code in dict.fromkeys(found) if code not in notes)
    return Visit(exhibit, codes, notes, seconds)


def _reason(complaints: str) -> str:
    """Return the line that says why there is no report: the error, where a traceback stands above the last line."""
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    return lines[-2] if len(lines) > 1 and "see above" in lines[-1] else "".join(lines[-1:])


def totals(visits: Sequence[Visit]) -> dict[str, Any]:
    """Return the figures that the targets are about."""
    faulty = [v for v in visits if not v.exhibit.is_correct]
    correct = [v for v in visits if v.exhibit.is_correct]
    slowest = max(visits, key=lambda v: v.seconds)
    return {
        "faults": len(faulty),
        "found": sum(v.right for v in faulty),
        "missed": [v.exhibit.name for v in faulty if not v.right],
        "correct": len(correct),
        "false_alarms": sum(len(v.codes) for v in correct),
        "alarmed": [v.exhibit.name for v in correct if v.codes],
        "without_report": [v.exhibit.name for v in visits if v.problem],
        "slowest": slowest.exhibit.name,
        "slowest_seconds": round(slowest.seconds, 2),
    }


def reached(total: dict[str, Any], timed: bool = True) -> bool:
    """Return whether all targets are reached, that of seconds only where one was visited at a time."""
    return (
        total["found"] >= FOUND_SHARE * total["faults"]
        and not total["false_alarms"]
        and not total["without_report"]
        and (not timed or total["slowest_seconds"] <= SECONDS)
    )


def summary(total: dict[str, Any]) -> list[str]:
    """Return the totals as sentences."""
    lines = [
        f"found: {total['found']} of {total['faults']} faults (target: {FOUND_SHARE:.0%})",
        f"false alarms: {total['false_alarms']} in {total['correct']} correct pipelines (target: 0)",
        f"slowest: {total['slowest']}, {total['slowest_seconds']:.1f} s (target: {SECONDS:.0f} s)",
    ]
    for title, key in (("missed", "missed"), ("alarms in", "alarmed"), ("without a report", "without_report")):
        if total[key]:
            lines.append(f"{title}: {', '.join(total[key])}")
    return lines


def row(v: Visit) -> str:
    """Return the line of a table in the terminal."""
    mark = " " if v.right else "!"
    expected = " or ".join(v.exhibit.finds) or "nothing"
    found = v.problem[:100] or ", ".join(v.codes) or "nothing"
    source = v.exhibit.source.split(" (")[0][:44]
    return f"{mark} {v.exhibit.name:<38} {source:<44} {expected:<18} {v.seconds:>5.1f} s  {found}"


INTRO = """\
# The museum of mixing bugs

Written by `make museum`, which runs [`vicinal check`](index.md) on every file under `museum/`: bugs that were
reported in public, written afresh as minimal pipelines, and correct pipelines of many shapes. Which code must be found was
decided from the meaning of [the codes](codes.md), before the checker had seen a pipeline. A fault counts as found
if the code that was expected, or one of those that mean the same there, is among the errors and warnings; other codes may
stand beside it. In a correct pipeline every error or warning is a false alarm.

One of them by itself: `vicinal check museum/faults/desed_weak_labels.py:training_step --alpha 0.2`; some of them:
`python -m museum desed cutmix`. Each check is a process of its own with one thread; seconds are those of the whole
process, on the machine below.
"""


def page(record: dict[str, Any]) -> str:
    """Return the page of a record, in Markdown."""
    total = record["totals"]
    made = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [
        INTRO,
        "| | | target |",
        "|---|---|---|",
        f"| faults found | {total['found']} of {total['faults']} | {FOUND_SHARE:.0%} |",
        f"| false alarms | {total['false_alarms']} in {total['correct']} correct pipelines | 0 |",
        f"| slowest check | {total['slowest_seconds']:.1f} s | {SECONDS:.0f} s |",
        "",
        f"Made {record['created'][:10]} with vicinal {record['vicinal']}, {made}, on {record['machine']['processor']}.",
        "",
        "## Faults",
        "",
        "| pipeline | source | expected | found | s |",
        "|---|---|---|---|---|",
        *(_cells(v) for v in record["pipelines"] if not v["name"].startswith("correct/")),
        "",
        "## Sound pipelines",
        "",
        "| pipeline | source | expected | found | s |",
        "|---|---|---|---|---|",
        *(_cells(v) for v in record["pipelines"] if v["name"].startswith("correct/")),
    ]
    return "\n".join(lines) + "\n"


def _cells(v: dict[str, Any]) -> str:
    name = v["name"].split("/")[1]
    found = v["problem"] or ", ".join(v["found"]) or "nothing"
    if not v["right"]:
        found = f"**{found}**"
    cells = [
        f"[{name}](../../museum/{v['name']}.py)",
        v["source"],
        " or ".join(v["expected"]) or "nothing",
        found,
        f"{v['seconds']:.1f}",
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m museum", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="parts of names; all pipelines without them")
    parser.add_argument("--write", action="store_true", help="write results/museum.json and docs/check/museum.md")
    parser.add_argument(
        "--jobs", type=int, default=1, help="pipelines at once; the seconds of a record are those of one"
    )
    options = parser.parse_args(arguments)
    if options.write and (options.names or options.jobs != 1):
        parser.error("--write takes all pipelines, one at a time: give no names and no --jobs")
    chosen = [e for e in exhibits() if not options.names or any(part in e.name for part in options.names)]
    if not chosen:
        parser.error(f"no pipeline has {' or '.join(options.names)} in its name")
    visits = []
    with ThreadPoolExecutor(options.jobs) as pool:  # each starts a process and waits for it
        for seen in pool.map(visit, chosen):
            visits.append(seen)
            print(row(seen), flush=True)
    total = totals(visits)
    print("", *summary(total), sep="\n")
    if options.write:
        record = {
            "format": FORMAT,
            **made_now("python -m museum --write", "torch", "numpy"),
            "targets": {"found_share": FOUND_SHARE, "false_alarms": 0, "seconds": SECONDS},
            "totals": total,
            "pipelines": [v.to_dict() for v in visits],
        }
        atomic.write(RESULTS, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        atomic.write(PAGE, page(record))
    return 0 if reached(total, timed=options.jobs == 1) else 1


if __name__ == "__main__":
    sys.exit(main())
