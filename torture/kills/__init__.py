"""Kill commands at random instants, again and again until they finish, and compare what they leave to the last bit.

    python -m torture.kills --kills 200 --seed 1 --out results/kill/random.json

The commands are in `commands.py`, what is compared in `results.py`. A kill is SIGKILL, SIGTERM, SIGINT or SIGHUP, to the
command alone, to its whole group, or to one of its other processes, at an instant that is uniform over the seconds that the
command takes when nothing stops it, the imports at its start and its end included.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from torture.kills import disturb
from torture.kills.commands import COMMANDS, Command
from torture.kills.processes import SharedMemory
from torture.part import Outcome

ABOUT = "commands killed at random instants go on to the same bits, and leave no process and no file behind"


def run(seconds: float, seed: int) -> Outcome:
    """Kill for so many seconds."""
    until = time.monotonic() + seconds
    outcome, _ = kill(lambda done: time.monotonic() >= until, seed)
    return outcome


def kill(
    enough: Callable[[int], bool],
    seed: int,
    commands: Sequence[Command] = COMMANDS,
    first: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Outcome, list[disturb.Trial]]:
    """Kill one command after the other until it is enough.

    Args:
        enough: of the number of kills.
        seed: of all draws.
        commands: that are killed in turn.
        first: number of the first kill.
        say: called with a line for each run.

    Returns:
        What was done, in sum and run by run.

    """
    # under nohup, or in the background of a shell, what is started would never hear them
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    outcome, trials, memory = Outcome(), list[disturb.Trial](), SharedMemory()
    if not memory.alone:
        outcome.skipped.append("what is left in /dev/shm was not looked at: unshare and nsenter need root")
    wholes: dict[str, disturb.Whole] = {}
    k, turn = first, first
    with closing(memory), tempfile.TemporaryDirectory(prefix="vk-") as parent:
        while not enough(outcome.tried):
            command = commands[turn % len(commands)]
            turn += 1
            if command.name not in wholes:
                wholes[command.name] = disturb.undisturbed(command, Path(parent), memory)
            with disturb.stage(command, Path(parent), memory, str(k)) as at:
                trial = disturb.run(at, wholes[command.name], seed, k, lambda done: enough(outcome.tried + done))
            k += max(1, len(trial.kills))
            if trial.seconds is not None:  # the machine is faster now
                wholes[command.name] = replace(wholes[command.name], seconds=trial.seconds)
            trials.append(trial)
            _count(outcome, trial, seed)
            say(f"{outcome.tried:4d}  {command.name}: {len(trial.kills)} kills, {'; '.join(trial.failed) or 'equal'}")
    return outcome, trials


def _count(outcome: Outcome, trial: disturb.Trial, seed: int) -> None:
    outcome.tried += len(trial.kills)
    outcome.count("runs that were killed" if trial.kills else "runs that ended before")
    times = max(1, len(trial.kills))
    again = f'python -m torture.kills --seed {seed} --only "{trial.command}" --first {trial.first} --kills {times}'
    outcome.failed += [f"{trial.command}: {problem}; again: {again}" for problem in trial.failed]
    for one in trial.kills:
        outcome.count(trial.command)
        outcome.count(f"{one.signal} to {one.target}")
