"""The engine of hostile input: valid inputs are changed at random and read in forked children that may not do harm.

An input may be read or refused by one of the reader's own errors. All else is a failure: another exception, a limit of
time or memory passed, the death of the process, a file written outside the folder of the input, a module imported or a
program started by what was read, a connection opened, a refusal without a sentence. Input `number` of a reader is a pure
function of (seed, name of the reader, number), so that each can be made again alone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import mmap
import os
import pickle
import random
import re
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from torture.hostile.mutations import Mutate, mutate_bytes, mutate_value, smaller_bytes, smaller_values
from vicinal.lab.errors import UserError

CANARY = "hostile_canary"  # a module that can be imported, and never may be because of an input
BLOCK = 2000  # inputs of one child
LONGEST = 20_000  # characters of a refusal
_SHRINKS = 300  # children that may be spent on making one failing input smaller
_SHRINK_SECONDS = 20.0
_WALL = 6  # times the limit of processor time: a machine may be busy
_STARTS_PROGRAMS = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "os.startfile"}
_CONNECTS = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
_CHANGES = {  # audit events of changes to the file system, and which of their arguments are paths that change
    "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.link": (1,), "os.symlink": (1,),
    "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,), "os.mknod": (0,), "os.mkfifo": (0,),
    "shutil.rmtree": (0,),
}  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Deliver = Callable[[bytes, Path], Any]  # from an input and an empty folder to what is handed to the reader


@dataclass(frozen=True)
class Reader:
    """Something that reads what others wrote.

    Args:
        name: of the reader, in tables and on the command line.
        seeds: makes valid inputs; called in a child, so that it may start threads.
        read: reads what `deliver` returns, by default the path of a file that holds the input.
        mutate: changes one input.
        refusals: the errors by which an input may be refused.
        tokens: what stands in files of this format, put into inputs at random.
        wrap: seals a content (checksum, compression, header, archive); then seeds and mutations are of the content, and
            now and then the sealed bytes are changed as well.
        suffix: ending of the file's name.
        deliver: puts an input where the reader finds it.
        smaller: yields smaller inputs that may fail alike.
        seconds: of processor time that one input may take.
        memory: bytes that one input may take.
        allowed: audit events that the reader may cause, as "subprocess.Popen" where it has a child of its own.
        forked: inputs of one child; 1 where the reader leaves things behind.

    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[Any], object]
    mutate: Mutate = mutate_bytes
    refusals: tuple[type[BaseException], ...] = (UserError,)
    tokens: Sequence[bytes] = ()
    wrap: Callable[[bytes], bytes] | None = None
    suffix: str = ""
    deliver: Deliver | None = None
    smaller: Callable[[bytes], Iterator[bytes]] = smaller_bytes
    seconds: float = 10.0
    memory: int = 1 << 30
    allowed: frozenset[str] = frozenset()
    forked: int = BLOCK

    def put(self, raw: bytes, folder: Path) -> Any:
        """Put an input into a folder, and return what is handed to the reader."""
        if self.deliver is not None:
            return self.deliver(raw, folder)
        path = folder / f"input{self.suffix}"
        path.unlink(missing_ok=True)  # to write over a file of ext4 waits for the disk
        path.write_bytes(raw)
        return path

    def make(self, seeds: Sequence[bytes], seed: int, number: int) -> bytes:
        """Return input `number`; the first ones are the seeds as they are."""
        if number < len(seeds):
            return self.wrap(seeds[number]) if self.wrap else seeds[number]
        rng = random.Random(f"{seed}:{self.name}:{number}")
        raw = seeds[rng.randrange(len(seeds))]
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            raw = self.mutate(raw, rng, seeds, self.tokens)
        if self.wrap:
            raw = self.wrap(raw)
            if rng.random() < 0.2:
                raw = mutate_bytes(raw, rng, (), self.tokens)
        return raw


def of_values(
    name: str,
    values: Callable[[], Sequence[Any]],
    read: Callable[[Any], object],
    *,
    refusals: tuple[type[BaseException], ...] = (ValueError, TypeError),
    **rest: Any,
) -> Reader:
    """Return a reader of nested Python values: dicts, lists, tuples, numbers, texts, tensors and arrays."""

    def mutate(raw: bytes, rng: random.Random, others: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
        other = pickle.loads(others[rng.randrange(len(others))]) if others else None
        try:
            return pickle.dumps(mutate_value(pickle.loads(raw), rng, other))
        except RecursionError:  # a nest deeper than pickle goes
            return raw

    def smaller(raw: bytes) -> Iterator[bytes]:
        return map(pickle.dumps, smaller_values(pickle.loads(raw)))

    return Reader(
        name,
        lambda: [pickle.dumps(value) for value in values()],
        read,
        mutate,
        refusals,
        deliver=lambda raw, folder: pickle.loads(raw),
        smaller=smaller,
        **rest,
    )


@dataclass
class Failure:
    """Inputs of a reader that fail in one way."""

    reader: str
    how: str  # what happened, and where: failures of one `how` are one fault
    seed: int
    number: int  # of the first
    times: int = 1
    detail: str = ""
    raw: bytes = b""  # the smallest that was found
    kept: Path | None = None

    def line(self) -> str:
        """Return one line that says how to repeat it."""
        where = f"; smallest input: {self.kept} ({len(self.raw)} bytes)" if self.kept else ""
        return (
            f"{self.reader}: {self.how} ({self.times} inputs): python -m torture.hostile --reader {self.reader} "
            f"--seed {self.seed} --only {self.number}{where}"
        )


@dataclass
class Tally:
    """What became of a reader's inputs."""

    reader: str
    inputs: int = 0
    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    slow: int = 0  # passed the limit in a block but not alone: the machine was busy
    failures: list[Failure] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Return how many inputs failed."""
        return sum(failure.times for failure in self.failures)


class Harm(BaseException):
    """What an input must not do, found while it was read; no reader catches it."""


# ---- one input, in a child -------------------------------------------------------------------------------------------


class _Watch:
    """An audit hook that raises where the reading of an input does harm."""

    def __init__(self, folders: Sequence[Path], allowed: frozenset[str]) -> None:
        self.on = False
        self.harm = ""
        self._inside = tuple(os.path.realpath(folder) + os.sep for folder in folders)
        self._allowed = allowed
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on or event in self._allowed:
            return
        if event == "open":
            path, _, flags = args
            if isinstance(path, int) or not (flags or 0) & _WRITES or str(path) == os.devnull:
                return
            self._check(path, "wrote")
        elif event in _CHANGES:
            for place in _CHANGES[event]:
                self._check(args[place], f"did {event} to")
        elif event == "import" and args[0].partition(".")[0] == CANARY:
            self._raise("imported a module that the input names")
        elif event == "pickle.find_class":
            self._raise(f"looked up {args[0]}.{args[1]} for a pickle")
        elif event in _STARTS_PROGRAMS:
            self._raise(f"started a program ({event})")
        elif event in _CONNECTS:
            self._raise(f"used the network ({event})")

    def _check(self, path: Any, what: str) -> None:
        if isinstance(path, int):
            return
        # the name itself may be a link that is made or removed: where it stands counts
        head, tail = os.path.split(os.fsdecode(path))
        real = os.path.join(os.path.realpath(head), tail)
        if what == "wrote":
            real = os.path.realpath(real)
        if not (real + os.sep).startswith(self._inside):
            self._raise(f"{what} a file outside of the folder")

    def _raise(self, harm: str) -> NoReturn:
        self.harm = self.harm or harm
        raise Harm(harm)


def _where(error: BaseException) -> str:
    """Return the innermost place of ours in a traceback, and the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    named = [f"{Path(frame.filename).name}:{frame.name}" for frame in frames if "vicinal" in frame.filename]
    last = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
    return " > ".join(dict.fromkeys([*named[-1:], last]))


def _try(reader: Reader, given: Any, watch: _Watch) -> tuple[str, str, str]:
    """Return "read", "refused" or "failed", how it failed, and the whole of it."""
    watch.harm = ""
    watch.on = True
    try:
        reader.read(given)
        outcome = ("read", "", "")
    except reader.refusals as error:
        said = str(error)
        if not said.strip() or len(said) > LONGEST:
            outcome = (
                "failed",
                f"a refusal {'too long' if said.strip() else 'without words'} at {_where(error)}",
                said[:2000],
            )
        else:
            outcome = ("refused", "", said)
    except BaseException as error:
        watch.on = False
        text = re.sub(r"\d+|0x[0-9a-f]+", "N", str(error))[:60] if isinstance(error, Harm) else ""
        how = f"{type(error).__name__} at {_where(error)}{f': {text}' if text else ''}"
        outcome = ("failed", how, "".join(traceback.format_exception(error))[-4000:])
    finally:
        watch.on = False
    if watch.harm and outcome[0] != "failed":  # swallowed by what called it
        outcome = ("failed", watch.harm, "")
    return outcome


class _Board:
    """Numbers that a child writes and its parent reads, even after the child's death."""

    NAMES = ("at", "read", "refused", "done", "finished")

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, 8 * len(self.NAMES))
        for name in self.NAMES:
            self[name] = 0

    def __getitem__(self, name: str) -> int:
        return struct.unpack_from("<q", self._map, 8 * self.NAMES.index(name))[0]

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("<q", self._map, 8 * self.NAMES.index(name), value)


class Sandbox:
    """A folder for the inputs of one reader: `in/` is what reading may change, beside it lies what it may not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inside, self.temporary, self.said = root / "in", root / "tmp", root / "said"
        self.modules, self.failures = root / "modules", root / "failures"
        for folder in (self.temporary, self.modules):
            folder.mkdir(parents=True)
        (self.modules / f"{CANARY}.py").write_text(
            f"open({str(root / 'ran')!r}, 'w').close()\n\ndef make(*a, **k): ...\n"
        )
        self.clean()
        self._before = self._names()

    def clean(self) -> None:
        """Empty the folder of the input."""
        _remove(self.inside)
        self.inside.mkdir()

    def strange(self) -> list[str]:
        """Return what lies beside the folder of the input and did not before."""
        return sorted(self._names() - self._before - {"said", "failures"})

    def _names(self) -> set[str]:
        return {entry.name for entry in os.scandir(self.root)} | {
            f"tmp/{one.name}" for one in os.scandir(self.temporary)
        }


def _remove(folder: Path) -> None:
    """Remove a folder in which a reader or a delivery may have taken rights away."""
    if folder.exists():
        for place, _, _ in os.walk(folder):
            with contextlib.suppress(OSError):
                os.chmod(place, 0o700)
        shutil.rmtree(folder)


def _child(
    reader: Reader,
    inputs: Iterator[tuple[int, bytes]],
    box: Sandbox,
    board: _Board,
    deadline: float,
) -> NoReturn:
    """Read inputs until the deadline, and end the process."""
    code = 70
    try:
        os.setsid()
        said = os.open(box.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        quiet = os.open(os.devnull, os.O_RDWR)
        for target, source in ((0, quiet), (1, said), (2, said)):
            os.dup2(source, target)
        stream = os.fdopen(said, "w", closefd=False)
        sys.stdout = sys.stderr = stream
        faulthandler.enable(stream)
        for number in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, signal.SIG_DFL)
            faulthandler.register(number, stream, chain=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(box.modules))
        os.environ["TMPDIR"] = tempfile.tempdir = str(box.temporary)
        os.chdir(box.inside)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        watch = _Watch((box.inside, box.temporary), reader.allowed)
        many = reader.deliver is not None
        first = True
        for number, raw in inputs:
            board["at"] = number
            if many and not first:
                os.chdir("/")
                box.clean()
                os.chdir(box.inside)
            given = reader.put(raw, box.inside)
            if first:
                _limit_memory(reader.memory)
                first = False
            signal.setitimer(signal.ITIMER_PROF, reader.seconds)
            signal.setitimer(signal.ITIMER_REAL, _WALL * reader.seconds)
            outcome, how, detail = _try(reader, given, watch)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if outcome == "failed":
                with open(box.failures, "a") as file:
                    file.write(json.dumps([number, how, detail]) + "\n")
            else:
                board[outcome] += 1
            board["done"] += 1
            if time.monotonic() > deadline:
                break
        board["finished"] = 1
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _limit_memory(more: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _wait(pid: int, until: float) -> int:
    """Wait for a child, whose own alarms end it; one that outlives them all is killed. Nothing of its group stays."""
    handle = os.pidfd_open(pid)
    try:
        select.select([handle], [], [], max(0.0, until - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # before it made a group of its own
            os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]
    except BaseException:
        for end in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                end(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(handle)


def _fork(reader: Reader, inputs: Iterator[tuple[int, bytes]], box: Sandbox, board: _Board, seconds: float) -> int:
    """Read inputs in a child; return how it ended, as `os.waitpid` says."""
    box.failures.unlink(missing_ok=True)
    deadline = time.monotonic() + seconds
    pid = os.fork()
    if pid == 0:
        _child(reader, inputs, box, board, deadline)
    return _wait(pid, deadline + 2 * _WALL * reader.seconds + 60)


def _death(status: int, box: Sandbox) -> str:
    """Say how a child died, and where it then was."""
    said = box.said.read_text(errors="replace") if box.said.exists() else ""
    lines = re.findall(r'File "([^"]+)", line \d+ in (\S+)', said)
    ours = next((f"{Path(file).name}:{name}" for file, name in lines if "vicinal/" in file), "?")
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        kind = {"SIGPROF": "too slow", "SIGALRM": "hangs", "SIGKILL": "hangs or was killed"}.get(
            name, f"dies of {name}"
        )
    else:
        kind = f"ends the process with code {os.WEXITSTATUS(status)}"
    return f"{kind} at {ours}"


def _alone(reader: Reader, raw: bytes, box: Sandbox) -> tuple[str, str, str]:
    """Read one input in a child of its own, and return what `_try` does."""
    box.clean()
    board = _Board()
    status = _fork(reader, iter([(0, raw)]), box, board, reader.seconds)
    said = box.said.read_text(errors="replace") if box.said.exists() else ""
    if status or not board["finished"]:
        return "failed", _death(status, box), said[-4000:]
    if strange := box.strange():
        _tidy(box, strange)
        return "failed", f"left {', '.join(strange)[:100]} beside its folder", ""
    if box.failures.exists():
        _, how, detail = json.loads(box.failures.read_text().splitlines()[0])
        return "failed", how, detail
    return ("read" if board["read"] else "refused"), "", ""


def _tidy(box: Sandbox, strange: Sequence[str]) -> None:
    for name in strange:
        path = box.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


# ---- all inputs of a reader ------------------------------------------------------------------------------------------


def make_seeds(reader: Reader) -> list[bytes]:
    """Make the valid inputs of a reader in a child: what starts threads must not be forked afterwards."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.close(receive)
            made = [bytes(seed) for seed in reader.seeds()]
            with os.fdopen(send, "wb") as file:
                pickle.dump(made, file)
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(send)
    with os.fdopen(receive, "rb") as file:
        content = file.read()
    if status := os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"the valid inputs of {reader.name} could not be made (status {status}): see above")
    seeds = pickle.loads(content)
    if not seeds:
        raise RuntimeError(f"{reader.name} has no valid inputs")
    return seeds


def run_reader(
    reader: Reader,
    seconds: float,
    seed: int,
    *,
    keep: Path | None = None,
    only: int | None = None,
    most: int | None = None,
) -> Tally:
    """Read inputs for some time, and return what became of them.

    Args:
        reader: the reader.
        seconds: how long, but for making failing inputs smaller.
        seed: of the inputs.
        keep: a folder for the smallest input of each failure.
        only: the one input to read.
        most: how many inputs at most.

    """
    seeds = make_seeds(reader)
    tally = Tally(reader.name)
    found: dict[str, Failure] = {}
    started = time.monotonic()
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory(prefix="vicinal-hostile-", dir=_fast_folder()) as root:
        box = Sandbox(Path(root))
        number = 0 if only is None else only
        end = float("inf") if most is None else most
        if only is not None:
            end = only + 1
        while (left := seconds - (time.monotonic() - started)) > 0 and number < end:
            last = int(min(number + reader.forked, end))
            board = _Board()
            box.clean()
            status = _fork(
                reader, ((one, reader.make(seeds, seed, one)) for one in range(number, last)), box, board, left
            )
            tally.read += board["read"]
            tally.refused += board["refused"]
            tally.inputs += board["done"]
            if box.failures.exists():
                for line in box.failures.read_text().splitlines():
                    _note(found, tally, Failure(reader.name, json.loads(line)[1], seed, json.loads(line)[0],
                                                detail=json.loads(line)[2]))  # fmt: skip
            at = board["at"]
            done = board["done"]
            number += done
            if status or not board["finished"]:
                if done == 0 and at != number:
                    said = box.said.read_text(errors="replace")
                    raise RuntimeError(f"no input of {reader.name} could be tried: {said[-2000:]}")
                how = _death(status, box)
                said = box.said.read_text(errors="replace")[-4000:]
                tally.inputs += 1
                number = at + 1
                outcome, again, detail = _alone(reader, reader.make(seeds, seed, at), box)
                if outcome == "failed":
                    _note(found, tally, Failure(reader.name, again, seed, at, detail=detail))
                elif how.startswith(("too slow", "hangs")):
                    tally.slow += 1
                else:
                    _note(found, tally, Failure(reader.name, f"{how}, not alone", seed, at, detail=said))
            if strange := box.strange():
                how = f"left {', '.join(strange)[:100]} beside its folder"
                _tidy(box, strange)
                _note(found, tally, Failure(reader.name, how, seed, number - done))
        tally.seconds = time.monotonic() - started
        for failure in found.values():
            failure.raw = reader.make(seeds, seed, failure.number)
            if only is None:
                failure.raw = shrink(reader, failure.raw, failure.how, box)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                name = re.sub(r"[^A-Za-z0-9]+", "-", f"{reader.name}-{failure.how}")[:100]
                failure.kept = keep / f"{name}{reader.suffix}"
                failure.kept.write_bytes(failure.raw)
                failure.kept.with_name(f"{failure.kept.name}.txt").write_text(failure.detail)
        box.clean()
    return tally


def _fast_folder() -> str | None:
    """Return a folder in memory, where there is one: files of a disk are fifty times as slow."""
    memory = "/dev/shm"
    there = os.path.isdir(memory) and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 << 30
    return memory if there else None


def _note(found: dict[str, Failure], tally: Tally, failure: Failure) -> None:
    if failure.how in found:
        found[failure.how].times += 1
    else:
        found[failure.how] = failure
        tally.failures.append(failure)


def shrink(reader: Reader, raw: bytes, how: str, box: Sandbox) -> bytes:
    """Return a smaller input that fails in the same way, found by trying parts of it."""
    until = time.monotonic() + _SHRINK_SECONDS
    tries = 0
    while True:
        for candidate in reader.smaller(raw):
            if tries >= _SHRINKS or time.monotonic() > until:
                return raw
            tries += 1
            if _alone(reader, candidate, box)[1] == how:
                raw = candidate
                break
        else:
            return raw
