"""Kill a command at an instant, look at what it leaves, let the same command go on, and compare the results."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture.kills import results
from torture.kills.commands import OUT, Command
from torture.kills.processes import TEMPORARY, Found, Running, SharedMemory

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
GRACE = 10.0  # seconds after the command's end within which its processes must end by themselves
_MOST = 5  # kills of one run before it may finish
_LONGEST = 120.0  # seconds that a command may take to stop
_CODES = {"SIGKILL": (-9,), "SIGTERM": (-15, 143), "SIGINT": (-2, 130), "SIGHUP": (-1, 129)}
_OF_PYTORCH = ("torchelastic_", "torchinductor_")  # logs of torchrun, and a cache that all programs share
_REMOVED = re.compile(r"resource_tracker: There appear to be \d+ leaked semaphore objects to clean up at shutdown")
_NOT_FOR_USERS = re.compile(r"Traceback|Exception ignored|leaked|Fatal Python error|core dumped")


@dataclass
class Kill:
    """One signal to a command while it ran.

    Args:
        signal: its name.
        target: main, group, one (of the other processes), or largest (of them, the one with most memory, as Linux
            chooses).
        instant: seconds after the start.
        victim: the command line of who got it.
        code: exit code of the command.
        seconds_to_stop: from the signal to the end of the command.

    """

    signal: str
    target: str
    instant: float
    victim: str
    code: int | None = None
    seconds_to_stop: float = 0.0

    def __str__(self) -> str:
        whom = self.target if self.target in ("main", "group") else f"{self.target}, {self.victim[-60:]!r},"
        return f"{self.signal} to {whom} {self.instant:.3f} s after the start, exit code {self.code}"


@dataclass
class Trial:
    """What was done to one run, from its start to its end.

    Args:
        command: its name.
        first: number of its first kill; the draws are those of (seed, number).
        kills: in order.
        failed: one line for each thing that was not as promised.
        seconds: that it took, where it ended before its first kill.
        tidy: no process was killed that could not tidy up.

    """

    command: str
    first: int
    seconds: float | None = None
    tidy: bool = True
    kills: list[Kill] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Whole:
    """A run that nothing stopped."""

    seconds: float
    found: dict[str, Any]
    printed: str


@dataclass(frozen=True)
class Stage:
    """Where a command runs: a folder with what it needs."""

    command: Command
    argv: tuple[str, ...]
    folder: Path
    memory: SharedMemory
    before: frozenset[str]  # what is in /dev/shm already
    running: list[Running] = field(default_factory=list)

    def start(self) -> Running:
        """Start the command."""
        self.running.append(Running(self.argv, self.folder, self.memory))
        return self.running[-1]

    @property
    def out(self) -> Path:
        """The folder that it writes into."""
        return self.folder / OUT


@contextmanager
def stage(command: Command, parent: Path, memory: SharedMemory, name: str) -> Iterator[Stage]:
    """Make the folder, and remove it afterwards."""
    at: Stage | None = None
    folder, prepared = parent / name, parent / f"{command.name}, prepared"
    if not prepared.exists():  # what it needs may take longer to make than the command itself
        prepared.mkdir()
        command.prepare(prepared)
        shutil.rmtree(prepared / TEMPORARY, ignore_errors=True)
    try:
        shutil.copytree(prepared, folder)
        with command.served() as argv:
            at = Stage(command, argv, folder, memory, memory.names())
            yield at
    finally:
        for running in at.running if at else ():  # this program is stopped itself
            running.end()
        shutil.rmtree(folder, ignore_errors=True)


def undisturbed(command: Command, parent: Path, memory: SharedMemory) -> Whole:
    """Run a command to its end.

    Raises:
        RuntimeError: something is wrong with it although nothing stopped it.

    """
    with stage(command, parent, memory, "whole") as at:
        running = at.start()
        code = running.wait()
        seconds = time.monotonic() - running.started
        problems = _bad_end(at, running, code) + results.leftovers(at.out)
        if problems:
            said = running.said()[-2000:]
            raise RuntimeError(f"{command.name}, which nothing stopped: {'; '.join(problems)}; it said {said!r}")
        return Whole(seconds, results.read(at.out), running.printed())


def run(at: Stage, whole: Whole, seed: int, first: int, enough: Callable[[int], bool]) -> Trial:
    """Kill a run until it is enough; let it finish; compare.

    Args:
        at: where.
        whole: the run that nothing stopped.
        seed: of all draws.
        first: number of the first kill; the draws are those of (seed, first), (seed, first + 1), ...
        enough: of the number of kills of this run.

    """
    done = Trial(at.command.name, first)
    times = _draws(seed, first).randint(2, _MOST)
    for k in range(first, first + times):
        if enough(len(done.kills)):
            break
        if not _kill(at, whole, _draws(seed, k), done) or done.failed or done.kills[-1].code == 0:
            break
    if not done.failed:
        _finish(at, whole, done)
    return done


def _draws(seed: int, k: int) -> random.Random:
    return random.Random(f"{seed}:{k}")


def _finish(at: Stage, whole: Whole, done: Trial) -> None:
    running = at.start()
    problems = _bad_end(at, running, running.wait())
    problems += results.differences(results.read(at.out), whole.found) + results.leftovers(at.out)
    printed, wanted = results.lines(running.printed()), results.lines(whole.printed)
    if printed != wanted:
        problems.append(f"it printed {set(printed) - set(wanted)} and not {set(wanted) - set(printed)}")
    after = ", then ".join(map(str, done.kills)) or "nothing"
    done.failed += [_told(running, f"after {after}, the same command: {problem}") for problem in problems]


def _kill(at: Stage, whole: Whole, draws: random.Random, done: Trial) -> bool:
    """Start it and kill it once; False where it ended before."""
    instant = draws.random() * whole.seconds
    target = draws.choices(("main", "group", "one", "largest"), (4, 3, 2, 1))[0]
    name = draws.choice(SIGNALS) if target in ("main", "group") else draws.choice(("SIGKILL", "SIGTERM"))
    running = at.start()
    if not running.sleep_until(instant):
        done.seconds = None if done.kills else time.monotonic() - running.started
        problems = _bad_end(at, running, running.process.returncode)
        done.failed += [_told(running, f"nothing stopped it, and {problem}") for problem in problems]
        return False
    target, victim = _victim(running, target, draws)
    name = "SIGKILL" if target == "largest" else name
    kill = Kill(name, target, round(time.monotonic() - running.started, 3), victim.line)
    with suppress(ProcessLookupError):  # it has ended in this instant
        if target == "group":
            os.killpg(running.process.pid, signal.Signals[name])
        else:
            os.kill(victim.pid, signal.Signals[name])
    sent = time.monotonic()
    kill.code = running.wait(_LONGEST)
    kill.seconds_to_stop = round(time.monotonic() - sent, 3)
    done.kills.append(kill)
    # who is killed by this signal cannot tidy up: the next run does it that is not stopped before
    if name == "SIGKILL" and (target == "group" or victim.pid == running.process.pid):
        done.tidy = False
    problems = _ending(at, kill) + _after(at, running, done.tidy) + results.half_written(at.out, whole.found)
    done.failed += [_told(running, f"{kill}: {problem}") for problem in problems]
    return True


def _victim(running: Running, target: str, draws: random.Random) -> tuple[str, Found]:
    """Return who is signaled; the command itself where it has no other process."""
    main = Found(running.process.pid, 0, "", 0, " ".join(running.argv))
    if target in ("main", "group"):
        return target, main
    others = sorted(running.others(), key=lambda one: one.pid)
    if not others:
        return "main", main
    return target, max(others, key=lambda one: one.memory) if target == "largest" else draws.choice(others)


def _ending(at: Stage, kill: Kill) -> list[str]:
    """Return what is wrong with how it ended."""
    if kill.code is None:
        return [f"it did not stop in {_LONGEST:g} s"]
    codes = {0, *(_CODES[kill.signal] if kill.target in ("main", "group") else (1,))}
    if kill.code in codes or at.command.ranks:  # torchrun has codes of its own
        return []
    return [f"its exit code is none of {sorted(codes)}"]


def _bad_end(at: Stage, running: Running, code: int | None) -> list[str]:
    """Return what is wrong with the end of a command that nothing stopped."""
    return ([] if code == 0 else [f"its exit code is {code}"]) + _after(at, running, True)


def _after(at: Stage, running: Running, tidied: bool) -> list[str]:
    """Return what a command has left in the system, and what it said that no user should read."""
    problems = [f"the process {one} is left" for one in running.left(GRACE)]
    if problems:
        running.end()
    if tidied:
        problems += (
            [f"/dev/shm/{name} is left" for name in sorted(at.memory.names() - at.before)] if at.memory.alone else []
        )
        left = [path.name for path in (at.folder / TEMPORARY).iterdir() if not path.name.startswith(_OF_PYTORCH)]
        problems += [f"the temporary file {name} is left" for name in sorted(left)]
    said = running.said()
    if not tidied:  # Python's own process tells that it removes what the killed one has left
        said = _REMOVED.sub("", said)
    if at.command.ranks:  # torchrun tells its own end by tracebacks; here are those of ours
        said = "".join("Traceback" + part for part in said.split("Traceback")[1:] if "/vicinal/" in part)
    if _NOT_FOR_USERS.search(said):
        problems.append(f"it said {said[-1500:]!r}")
    return problems


def _told(running: Running, problem: str) -> str:
    return f"{problem}; its last words: {running.said()[-300:]!r}"
