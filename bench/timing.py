"""Fair timing on a shared machine: candidates take turns in random order, ratios are taken within a round."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vicinal

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "bench"

Candidates = Mapping[str, Callable[[], Any]]
Clock = Callable[[Callable[[], Any], int], float]
Table = dict[str, dict[str, Any]]


def arguments(description: str | None, device: str = "cpu", **options: Any) -> argparse.Namespace:
    """Parse the options that every benchmark has, and some of its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of torch; with 1, CPU time is measured")
    parser.add_argument("--device", default=device, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; saved only with --out")
    parser.add_argument("--out", type=Path, default=None, help="folder of the results (default: results/bench)")
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args()
    args.rounds = 2 if args.quick else args.rounds
    torch.set_num_threads(args.threads)
    return args


def default_device() -> str:
    """Return the GPU, if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def clock(device: str) -> Clock:
    """Return a function (candidate, calls) -> seconds per call.

    It reads the GPU's events; on a CPU the process's CPU time, which other programs do not touch, where torch has one
    thread, and the wall clock where it has more.
    """
    if device == "cuda":
        return _gpu_seconds
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def seconds(candidate: Callable[[], Any], calls: int) -> float:
        start = now()
        for _ in range(calls):
            candidate()
        return (now() - start) / calls

    return seconds


def _gpu_seconds(candidate: Callable[[], Any], calls: int) -> float:
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record()
    for _ in range(calls):
        candidate()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1e3 / calls


def measure(title: str, candidates: Candidates, args: argparse.Namespace, seconds: float = 0.05) -> Table:
    """Time each candidate once per round over as many calls as fill `seconds`; the first is the reference."""
    read = clock(args.device)
    timers = {name: _timer(c, 0.0 if args.quick else seconds, read) for name, c in candidates.items()}
    return in_turns(title, timers, args.rounds)


def _timer(candidate: Callable[[], Any], seconds: float, read: Clock) -> Callable[[], float]:
    read(candidate, 1)  # allocates, compiles
    calls = max(1, min(1000, int(seconds / max(read(candidate, 1), 1e-7))))
    return lambda: read(candidate, calls)


def in_turns(title: str, timers: Mapping[str, Callable[[], float]], rounds: int) -> Table:
    """Let timers that return seconds take turns; print and return quartiles of milliseconds and ratios to the first."""
    order = np.random.Generator(np.random.Philox(0))
    times: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name in order.permutation(list(timers)).tolist():
            times[name].append(timers[name]())
    reference = next(iter(timers))
    table = {
        name: {"ms": _quartiles(1e3 * np.array(t)), "ratio": _quartiles(np.array(t) / times[reference])}
        for name, t in times.items()
    }
    print(f"\n{title}\n{'':42s}{'ms':>10s}  x {reference} [quartiles]")
    for name, row in table.items():
        low, median, high = row["ratio"]
        print(f"{name:42s}{row['ms'][1]:10.4g}  {median:7.2f} [{low:.2f}, {high:.2f}]", flush=True)
    return table


def _quartiles(values: np.ndarray) -> list[float]:
    return np.percentile(values, [25, 50, 75]).tolist()


def save(name: str, args: argparse.Namespace, tables: dict[str, Table]) -> None:
    """Write NAME.json with what is needed to judge and repeat it."""
    if args.quick and args.out is None:
        return
    program = Path(sys.argv[0]).relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    record = {
        "command": shlex.join(["python", "-m", program, *sys.argv[1:]]),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "clock": "GPU events" if args.device == "cuda" else "CPU time" if args.threads == 1 else "wall clock",
        "threads": args.threads,
        "rounds": args.rounds,
        "machine": {"processor": _processor(args.device), "cores": os.cpu_count()},
        "versions": _versions(),
        "environment": {k: v for k, v in os.environ.items() if k.startswith(("MALLOC_", "GLIBC_TUNABLES", "OMP_"))},
        "tables": tables,
    }
    folder = args.out or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"\nwritten: {folder / name}.json")


def _versions() -> dict[str, str]:
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    own = f"{vicinal.__version__} {commit.stdout.strip()}".strip()
    return {"vicinal": own, "python": platform.python_version()} | {n: metadata.version(n) for n in ("torch", "numpy")}


def _processor(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
