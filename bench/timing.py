"""Fair timing on a shared machine: candidates take turns in random order, ratios are taken within a round."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parent.parent


def rounds(candidates: Mapping[str, Callable[[], Any]], n: int, seconds: float = 0.05) -> dict[str, list[float]]:
    """Time each candidate once a round, in random order, each over as many calls as fill `seconds`.

    Returns:
        Seconds a call, one for each round: CPU time of the process, which other programs on the machine do not touch,
        where torch has one thread; wall clock where it has more.

    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    calls = {}
    for name, candidate in candidates.items():
        candidate()
        start = clock()
        candidate()
        calls[name] = max(1, min(1000, int(seconds / max(clock() - start, 1e-7))))
    order = np.random.Generator(np.random.Philox(0))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(n):
        for i in order.permutation(len(candidates)):
            name = list(candidates)[i]
            candidate = candidates[name]
            start = clock()
            for _ in range(calls[name]):
                candidate()
            times[name].append((clock() - start) / calls[name])
    return times


def quartiles(values: list[float]) -> list[float]:
    """Give lower quartile, median and upper quartile."""
    return np.percentile(values, [25, 50, 75]).tolist()


def against(times: dict[str, list[float]], reference: str) -> dict[str, dict[str, list[float]]]:
    """Give for each candidate the quartiles of its milliseconds and of its ratio to `reference`, round by round."""
    base = np.array(times[reference])
    return {
        name: {"ms": [1e3 * q for q in quartiles(values)], "ratio": quartiles((np.array(values) / base).tolist())}
        for name, values in times.items()
    }


def show(title: str, table: dict[str, dict[str, list[float]]], reference: str) -> None:
    """Print one table."""
    print(f"\n{title}\n{'':42s}{'ms':>10s}  x {reference} [quartiles]")
    for name, row in table.items():
        low, median, high = row["ratio"]
        print(f"{name:42s}{row['ms'][1]:10.4g}  {median:7.2f} [{low:.2f}, {high:.2f}]", flush=True)


def arguments(description: str, **options: Any) -> argparse.Namespace:
    """Read the options that every benchmark has: --rounds, --threads, --quick, --out; and some of its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of torch; with 1, CPU time is measured")
    parser.add_argument("--quick", action="store_true", help="3 rounds, to see that it runs")
    parser.add_argument("--out", type=Path, default=None, help="folder of the results (default: results/bench)")
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args()
    if args.quick:
        args.rounds = 3
    torch.set_num_threads(args.threads)
    return args


def save(name: str, args: argparse.Namespace, tables: dict[str, Any]) -> Path:
    """Write results/bench/NAME.json with what is needed to judge and repeat it."""
    folder = args.out or ROOT / "results" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    record = {
        "command": shlex.join(["python", "-m", f"bench.{name.split('-')[0]}", *sys.argv[1:]]),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "clock": "CPU time" if args.threads == 1 else "wall clock",
        "threads": args.threads,
        "rounds": args.rounds,
        "machine": {"processor": _processor(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version()} | {n: metadata.version(n) for n in ("torch", "numpy")},
        "environment": {k: v for k, v in os.environ.items() if k.startswith(("MALLOC_", "GLIBC_TUNABLES", "OMP_"))},
        "tables": tables,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\nwritten: {path}")
    return path


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
