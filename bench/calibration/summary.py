"""What the cells say together: false verdicts, coverage and power of each interval, and which of them keeps its promise.

The rule: an interval keeps its promise if it finds a difference in 2 to 7 % of the comparisons where there is none, and
covers the truth in 93 to 97 % of those where it is known, in every pool below; of those that do, the one with the most
power is taken. The bounds were fixed before the runs, the pools (one cell alone is too small) after a first look at the
figures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.calibration.intervals import F_TEST, NAMES
from vicinal.lab import atomic

FALSE, COVERED = (0.02, 0.07), (0.93, 0.97)
Row = dict[str, Any]
Pick = Callable[[Row], bool]


def rounded(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record whose floats have six digits, and None for nan."""
    return {key: _short(value) for key, value in record.items()}


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else float(f"{value:.6g}")


def read(folder: Path) -> list[Row]:
    """Return one row per cell, comparison, measure, number of seeds and interval."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        for kind, counts in record["counts"].items():
            rows += [{**record["cell"], "compared": kind, **one} for one in counts]
    return rows


def pooled(rows: list[Row], pick: Pick, key: str) -> tuple[dict[str, float], int]:
    """Return a share by interval over all comparisons picked, and the number of comparisons per interval."""
    mine = [row for row in rows if pick(row)]
    shares, trials = {}, 0
    for name in dict.fromkeys(row["interval"] for row in mine):
        of = [row for row in mine if row["interval"] == name]
        trials = sum(row["trials"] for row in of)
        shares[name] = sum(row[key] * row["trials"] for row in of) / trials
    return shares, trials


def null_pools() -> dict[str, Pick]:
    """Return the pools where the true difference is 0."""
    pools: dict[str, Pick] = {
        "ridge, own random features": lambda r: r["is_null"] and r["kind"] == "random",
        "ridge, two learners": lambda r: r["is_null"] and r["kind"] == "two",
    }
    for kind in ("one against one", "best of four against best of four"):
        for noise in (0.0, 0.3):
            pools[f"ERM, {kind}{', label noise 30 %' if noise else ''}"] = lambda r, kind=kind, noise=noise: (
                r["compared"] == kind and r["noise"] == noise
            )
    return pools


def coverage_pools() -> dict[str, Pick]:
    """Return the pools where the truth is the mean over disjoint tables."""
    return {
        f"mixup, {measure}": lambda r, measure=measure: r["family"] == "mixup" and r["measure"] == measure
        for measure in ("error", "nll", "brier")
    } | {"ridge, effects": lambda r: r["family"] == "ridge, effect"}


def power_pools() -> dict[str, Pick]:
    """Return the pools of comparisons with a difference that is there."""
    pools: dict[str, Pick] = {}
    for n in (150, 600):
        for strength in (0.95, 0.9, 0.85, 0.8, 0.7):
            pools[f"ridge, signal x {strength:g}, {n} rows, 20 seeds, error"] = lambda r, n=n, strength=strength: (
                r["family"] == "ridge, effect"
                and (r["rows"], r["strength"], r["seeds"], r["measure"]) == (n, strength, 20, "error")
            )
    settings = [(n, 0.3, 20) for n in (150, 300, 600, 1200)] + [(300, noise, 20) for noise in (0.0, 0.1, 0.2, 0.4)]
    for n, noise, seeds in [*settings, (300, 0.3, 5), (300, 0.3, 10)]:
        title = f"mixup on phishing, label noise {noise:.0%}, {n} rows, {seeds} seeds, error"
        pools[title] = lambda r, n=n, noise=noise, seeds=seeds: (
            (r["family"], r["source"], r["measure"]) == ("mixup", "phishing", "error")
            and (r["rows"], r["noise"], r["seeds"]) == (n, noise, seeds)
        )
    return pools


def winner(rows: list[Row]) -> tuple[str | None, dict[str, float]]:
    """Return the most powerful interval that keeps its promise, and the mean power of each over the pools."""
    false = [pooled(rows, pick, "found")[0] for pick in null_pools().values()]
    covered = [pooled(rows, pick, "covered")[0] for pick in coverage_pools().values()]
    found = [share for pick in power_pools().values() if (share := pooled(rows, pick, "found")[0])]
    power = {name: float(np.mean([of[name] for of in found])) for name in NAMES}
    kept = [
        name
        for name in NAMES
        if all(FALSE[0] <= of[name] <= FALSE[1] for of in false)
        and all(COVERED[0] <= of[name] <= COVERED[1] for of in covered)
    ]
    return max(kept, key=power.__getitem__, default=None), power


def write(folder: Path) -> None:
    """Write README.md: the tables and the winner."""
    rows = read(folder)
    if {row["family"] for row in rows} < {"mixup", "ERM against ERM", "ridge, two", "ridge, random", "ridge, effect"}:
        return  # a part of the study alone is no ground for a choice
    best, power = winner(rows)
    seconds = sum(json.loads(path.read_text())["cpu_seconds"] for path in folder.glob("*.json"))
    by_seeds = {
        f"{name}, {seeds} seeds": lambda r, pick=pick, seeds=seeds: pick(r) and r["seeds"] == seeds
        for name, pick in null_pools().items()
        for seeds in (5, 10, 20)
    }
    by_rows = {
        f"{name}, {seeds} seeds, {n} rows": lambda r, pick=pick, seeds=seeds, n=n: (
            pick(r) and (r["seeds"], r["rows"]) == (seeds, n)
        )
        for name, pick in coverage_pools().items()
        for seeds in (5, 20)
        for n in (150, 300, 600, 1200)
    }
    folds: dict[str, Pick] = {
        f"mixup by {design} folds, {source}, {measure}": lambda r, design=design, source=source, measure=measure: (
            (r["design"], r["source"], r["measure"]) == (design, source, measure)
        )
        for design in ("4x5", "5x2")
        for source in ("phishing", "htru2", "magic")
        for measure in ("error", "nll")
    }
    long: dict[str, Pick] = {
        f"mixup on phishing, 100 epochs, noise 30 %, 300 rows, {seeds} seeds, {measure}": lambda r, s=seeds, m=measure: (
            (r["family"], r["seeds"], r["measure"]) == ("mixup, 100 epochs", s, m)
        )
        for seeds in (5, 20)
        for measure in ("error", "nll")
    }
    lines = [
        "# Which interval a verdict rests on",
        "",
        "`python -m bench.calibration` measures how often intervals find what is not there, cover what is, and find what is",
        f"there; its docstring tells the settings. {seconds / 60:.0f} minutes of one core; a file here is one setting, with",
        "its command, versions and machine. All figures are in %, of 95 % intervals; a share of N comparisons has a",
        "standard error of at most 2.2 / sqrt(N / 100) where it is 5 %, and those of one table depend on each other.",
        "",
        f"**Taken: {best}**, the most powerful of those that find 2 to 7 % in every pool of the first table and",
        "cover 93 to 97 % in every pool of the second. The bounds were fixed before the runs, the pools after a first look.",
        "Rows alone miss what training contributes: where losses are continuous and tables large, they find differences",
        "between two runs of one method in up to 32 % (`ridge-random-1800.json`), and no factor mends that.",
        "The intervals are those of `bench/calibration/intervals.py`; the one taken is now `statistics.rows_paired`, which",
        "leaves no interval of an error without width.",
        *_table("False verdicts (there is no difference)", rows, null_pools(), "found"),
        *_table("Coverage of the truth (mean over disjoint tables)", rows, coverage_pools(), "covered"),
        *_table("Power: differences found", rows, power_pools(), "found"),
        "",
        "Mean: " + "; ".join(f"{name} {100 * share:.1f}" for name, share in power.items()) + ".",
        *_table("False verdicts by number of seeds", rows, by_seeds, "found"),
        *_table("Coverage by seeds and rows", rows, by_rows, "covered"),
        *_table("Longer training: coverage", rows, long, "covered"),
        *_table("Longer training: found", rows, long, "found"),
        *_table("Folds: coverage", rows, folds, "covered", (*NAMES, F_TEST)),
        *_table("Folds: found", rows, folds, "found", (*NAMES, F_TEST)),
    ]
    atomic.write(folder / "README.md", "\n".join(lines).rstrip() + "\n")


def _table(title: str, rows: list[Row], pools: dict[str, Pick], key: str, names: tuple[str, ...] = NAMES) -> list[str]:
    lines = ["", f"## {title}", "", f"| | N | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for pool, pick in pools.items():
        shares, trials = pooled(rows, pick, key)
        if shares:
            cells = (f"{100 * shares[name]:.1f}" if name in shares else "" for name in names)
            lines.append(f"| {pool} | {trials} | {' | '.join(cells)} |")
    return lines
