"""Run it, and write what was found."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from statistics import median

from torture import kills
from torture.kills import results
from torture.kills.commands import COMMANDS
from torture.kills.disturb import Trial
from vicinal.lab import atomic, provenance


def main() -> int:
    """Kill as often as was asked for."""
    parser = argparse.ArgumentParser(prog="python -m torture.kills", description=kills.ABOUT)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first kill")
    parser.add_argument("--only", help="part of the name of the commands that are killed")
    parser.add_argument("--out", type=Path, help="a file for the record")
    args = parser.parse_args()
    commands = [command for command in COMMANDS if args.only is None or args.only in command.name]
    outcome, trials = kills.kill(
        lambda done: done >= args.kills,
        args.seed,
        commands,
        args.first,
        lambda line: print(line, flush=True),
    )
    words = ["python", "-m", "torture.kills", *sys.argv[1:]]
    record = {
        "format": 1,
        **provenance.made_now(shlex.join(words), "torch", "numpy", "polars"),
        **outcome.to_dict(),
        "not_compared": list(results.EXEMPT),
        "commands": [_of(name, of) for name, of in _by_command(trials).items()],
        "trials": [asdict(trial) for trial in trials],
    }
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(args.out, json.dumps(record, indent=1) + "\n")
    print(json.dumps({name: value for name, value in record.items() if name != "trials"}, indent=1))
    return 1 if outcome.failed else 0


def _by_command(trials: list[Trial]) -> dict[str, list[Trial]]:
    found = defaultdict(list)
    for trial in trials:
        found[trial.command].append(trial)
    return found


def _of(name: str, trials: list[Trial]) -> dict[str, object]:
    done = [kill for trial in trials for kill in trial.kills]
    stops = [kill.seconds_to_stop for kill in done]
    return {
        "command": name,
        "kills": len(done),
        "runs": len(trials),
        "failed": sum(bool(trial.failed) for trial in trials),
        "seconds_to_stop": {"median": median(stops), "longest": max(stops)} if stops else None,
    }


if __name__ == "__main__":
    sys.exit(main())
