"""Give hostile inputs to readers: `python -m torture.hostile [--seconds S] [--seed N] [--reader NAME]`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torture.hostile import readers, run_all
from torture.hostile.engine import Tally
from vicinal.lab import atomic
from vicinal.lab.provenance import made_now


def main() -> int:
    """Run, print a table and the failures, and return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m torture.hostile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", default=[], help="a reader or a module of readers, as tables")
    parser.add_argument("--only", type=int, help="the one input of this number, and all of its failure")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "vicinal-hostile")
    parser.add_argument("--out", type=Path, help="where the figures are kept, as JSON")
    parser.add_argument("--list", action="store_true", help="list the readers")
    asked = parser.parse_args()
    chosen = readers(asked.reader)
    if not chosen:
        parser.error(f"there is no reader {', '.join(asked.reader)}: --list lists them")
    if asked.list:
        print("\n".join(reader.name for reader in chosen))
        return 0
    print(f"{'reader':30} {'inputs':>9} {'read':>9} {'refused':>9} {'failed':>7} {'inputs/s':>9}")

    def tell(tally: Tally) -> None:
        rate = tally.inputs / tally.seconds if tally.seconds else 0
        slow = f"  ({tally.slow} slow, but not alone)" if tally.slow else ""
        print(
            f"{tally.reader:30} {tally.inputs:9,} {tally.read:9,} {tally.refused:9,} {tally.failed:7,} {rate:9,.0f}{slow}",
            flush=True,
        )
        for failure in tally.failures:
            print(f"    {failure.line()}", flush=True)
            if asked.only is not None:
                print(failure.detail, flush=True)

    tallies = run_all(chosen, asked.seconds, asked.seed, keep=asked.keep, only=asked.only, tell=tell)
    inputs, failed = sum(t.inputs for t in tallies), sum(t.failed for t in tallies)
    took = sum(t.seconds for t in tallies)
    total = f"{'all':30} {inputs:9,} {sum(t.read for t in tallies):9,} {sum(t.refused for t in tallies):9,} {failed:7,}"
    print(f"{total} {inputs / took if took else 0:9,.0f}")
    if asked.out is not None:
        chosen_by = [word for name in asked.reader for word in ("--reader", name)]
        command = (
            f"python -m torture.hostile --seconds {asked.seconds:g} --seed {asked.seed} {shlex.join(chosen_by)}".strip()
        )
        atomic.write(asked.out, json.dumps(_record(tallies, command), indent=1) + "\n")
    return 1 if failed else 0


def _record(tallies: Sequence[Tally], command: str) -> dict[str, Any]:
    """Return the figures of a run, with the command, versions and machine."""
    kept = ("inputs", "read", "refused", "failed", "seconds")
    readers_of = {tally.reader: {name: getattr(tally, name) for name in kept} for tally in tallies}
    total = {name: sum(of[name] for of in readers_of.values()) for name in kept}
    failures = [failure.line() for tally in tallies for failure in tally.failures]
    made = made_now(command, "torch", "numpy", "polars", "pillow", "safetensors")
    return {"format": 1, **made, "total": total, "readers": readers_of, "failures": failures}


if __name__ == "__main__":
    sys.exit(main())
