"""Run the cells that are not done, and write the summary; the package's docstring tells of both."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from bench.calibration import summary
from bench.calibration.cells import Cell, cells
from vicinal.lab import atomic, provenance

OUT = Path(__file__).parents[2] / "results" / "verdict"


def measure(cell: Cell, path: Path, command: str) -> None:
    """Run a cell and write its file."""
    start, cpu = time.perf_counter(), time.process_time()

    def tick() -> None:
        print(".", end="", flush=True)

    print(cell.name, end=" ", flush=True)
    found = cell.run(tick)
    record = {
        **provenance.made_now(command, "numpy", "scipy", "torch"),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "cell": asdict(cell),
        "counts": {kind: [summary.rounded(asdict(one)) for one in counts] for kind, counts in found.items()},
    }
    atomic.write(path, json.dumps(record, separators=(",", ":")) + "\n")
    print(f" {record['seconds']:.0f} s", flush=True)


def run(argv: list[str]) -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.calibration")
    parser.add_argument("names", nargs="*", metavar="CELL", help="beginnings of the names of cells (default: all)")
    parser.add_argument("--out", type=Path, default=OUT, help="default: results/verdict")
    parser.add_argument("--jobs", type=int, choices=[1], default=1, help="one process with one thread")
    parser.add_argument("--summary", action="store_true", help="write the summary of what is there, and run nothing")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "-m", "bench.calibration", *argv])
    for cell in cells():
        path = args.out / f"{cell.name}.json"
        wanted = not args.names or any(cell.name.startswith(name) for name in args.names)
        if wanted and not args.summary and not (path.exists() and json.loads(path.read_text())["cell"] == asdict(cell)):
            measure(cell, path, command)
    summary.write(args.out)


if __name__ == "__main__":
    run(sys.argv[1:])
