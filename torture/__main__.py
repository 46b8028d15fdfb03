"""`python -m torture [PART ...]`: run the parts in a bounded time, print what each did, and exit with 1 if anything failed.

Each part is a process of its own, two at a time. With `--write`, the figures go to results/torture.json and into
docs/explanation/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torture.part import ROOT, Outcome
from vicinal.lab import atomic
from vicinal.lab.provenance import made_now

RESULTS, PAGE = ROOT / "results" / "torture.json", ROOT / "docs" / "explanation" / "reliability.md"
FORMAT = 1
SECONDS = 1080.0  # of the whole; what is under way then is finished
GRACE = 120.0  # seconds a part may take beyond its own, before it counts as hung
SHOWN = 20  # failures of a part that are printed
_BLOCK = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.S)


@dataclass(frozen=True)
class Lane:
    """Parts that run one after the other, and the share of the time that each has."""

    parts: dict[str, float]


# what waits for processes beside what computes: each lane fills about one core
LANES = (
    Lane({"kills": 0.75, "network": 0.25}),
    Lane({"hostile": 0.6, "edges": 0.25, "offline": 0.1, "pages": 0.05}),
)
PARTS = tuple(name for lane in LANES for name in lane.parts)


def run_part(name: str, seconds: float, seed: int) -> tuple[Outcome, float]:
    """Run a part in a process group of its own; return what it did, and the seconds it took."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        out = Path(folder, "outcome.json")
        command = [sys.executable, "-m", "torture.part", name, str(seconds), str(seed), str(out)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            said = process.communicate(timeout=seconds + GRACE)[0]
            problem = f"the part ended with {process.returncode}: {said[-2000:]}"
        except subprocess.TimeoutExpired:
            problem = f"the part did not end within {seconds + GRACE:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever it left
            process.wait()
        if out.exists():
            return Outcome.from_dict(json.loads(out.read_text())), time.monotonic() - start
    return Outcome(failed=[problem]), time.monotonic() - start


def run_lane(lane: Lane, chosen: Sequence[str], seconds: float, seed: int) -> Iterator[tuple[str, Outcome, float]]:
    """Run the chosen parts of a lane; each has its share of the time of those chosen."""
    shares = {name: share for name, share in lane.parts.items() if name in chosen}
    for name, share in shares.items():
        outcome, took = run_part(name, seconds * share / sum(shares.values()), seed)
        print_outcome(name, outcome, took)
        yield name, outcome, took


def print_outcome(name: str, outcome: Outcome, took: float) -> None:
    """Print what a part did."""
    about = import_module(f"torture.{name}").ABOUT
    lines = [f"{name}: {outcome.tried:,} tried, {len(outcome.failed):,} failed, {took:.0f} s ({about})"]
    counts = "; ".join(f"{figure}: {value:,g}" for figure, value in sorted(outcome.counts.items()))
    lines += textwrap.wrap(counts, 116, initial_indent="    ", subsequent_indent="    ")
    lines += [f"    not done: {reason}" for reason in outcome.skipped]
    lines += [f"    FAILED {failure}" for failure in outcome.failed[:SHOWN]]
    print("\n".join(lines), flush=True)


def record(found: dict[str, tuple[Outcome, float]], command: str) -> dict[str, Any]:
    """Return the figures as results/torture.json holds them."""
    parts = {name: {**outcome.to_dict(), "seconds": round(took)} for name, (outcome, took) in found.items()}
    return {"format": FORMAT, **made_now(command, "torch", "numpy"), "parts": parts}


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table of the page."""
    cores, python = figures["machine"]["cores"], figures["versions"]["python"]
    lines = [
        f"`{figures['command']}`, {figures['created'][:10]}, {cores} cores, Python {python}, PyTorch "
        f"{figures['versions']['torch']}:",
        "",
        "| part | what it does | tried | failed | seconds |",
        "|---|---|--:|--:|--:|",
    ]
    for name, part in figures["parts"].items():
        about = import_module(f"torture.{name}").ABOUT
        lines.append(f"| `{name}` | {about} | {part['tried']:,} | {len(part['failed']):,} | {part['seconds']:,} |")
    skipped = [f"- `{name}`: {reason}" for name, part in figures["parts"].items() for reason in part["skipped"]]
    return "\n".join([*lines, *(["", "Not done in that run:", "", *skipped] if skipped else []), ""])


def main() -> int:
    """Run the parts; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all of {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of the whole (default: {SECONDS:g})")
    parser.add_argument("--seed", type=int, default=0, help="of what is tried (default: 0)")
    parser.add_argument("--write", action="store_true", help="keep the figures, of all parts")
    args = parser.parse_args()
    chosen = args.parts or PARTS
    if odd := set(chosen) - set(PARTS):
        parser.error(f"there is no part {min(odd)}; the parts are {', '.join(PARTS)}")
    if args.write and set(chosen) != set(PARTS):
        parser.error("--write keeps the figures of all parts: name none")
    with ThreadPoolExecutor(len(LANES)) as pool:
        lanes = [pool.submit(lambda lane=lane: list(run_lane(lane, chosen, args.seconds, args.seed))) for lane in LANES]
        found = {name: (outcome, took) for lane in lanes for name, outcome, took in lane.result()}
    failed = sum(len(outcome.failed) for outcome, _ in found.values())
    tried = sum(outcome.tried for outcome, _ in found.values())
    print(f"\n{tried:,} tried, {failed:,} failed")
    if args.write:
        figures = record(found, f"python -m torture --seconds {args.seconds:g} --seed {args.seed}")
        atomic.write(RESULTS, json.dumps(figures, indent=1) + "\n")
        text = PAGE.read_text()
        atomic.write(PAGE, _BLOCK.sub(lambda block: f"{block[1]}{table(figures)}{block[2]}", text))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
