"""The command where the system says no: signals, streams, environments, names, disks, locks and limits of memory."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import pty
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture.part import Outcome

ABOUT = "each command at the edges of its system: signals, streams, environments, names, disks, locks, memory"

_LONGEST = 120.0  # seconds that a command may take before it counts as hung
_GRACE = 10.0  # seconds within which what a command has started must be gone
# what a terminal obeys; a bar's own sequences are looked for apart
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_BAR = re.compile(r"\x1b\[(?:\?25[hl]|[0-9;]*[mAK]|2K)|\r")
_TROUBLE = re.compile(r"Traceback|Exception ignored|Fatal Python error|leaked|core dumped")
_ABORTED = re.compile(r"memory allocation of \d+ bytes failed|std::bad_alloc|terminate called|OpenBLAS error")
_EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"  # a title, an emptied screen, red, text from right to left

_TABLE = "x,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(20))
_SCORES = "method,seed,score\n" + "".join(
    f"{method},{seed},{0.1 * seed + i}\n" for i, method in enumerate(("ERM", "mix")) for seed in range(5)
)
_PROGRAM = """
import torch
import vicinal

data = torch.utils.data.TensorDataset(torch.rand(64, 3), torch.arange(64) % 3)
mixup = vicinal.Mixup(0.3, seed=1)


def collate(batch):
    x, y = zip(*batch)
    return mixup(torch.stack(x), torch.stack(y))


def make_loader():
    return torch.utils.data.DataLoader(data, batch_size=16, collate_fn=collate)
"""
_COMPARE = ("compare", "t.csv", "--target", "y", "--seeds", "2", "--epochs", "1", "--alpha", "0.2")
_REPRODUCE = ("reproduce", "toy", "--scale", "smoke", "--jobs", "1")

COMMANDS: dict[str, tuple[str, ...]] = {
    "explain": ("explain", "VIC011"),
    "data": ("data", "list"),
    "recipes": ("train", "--list"),
    "judge": ("judge", "s.csv", "--independent"),
    "diagnose": ("diagnose", "t.csv", "--target", "y"),
    "predict": ("predict", "model", "t.csv"),
    "check": ("check", "program.py", "--ignore", "VIC021"),
    "compare": (*_COMPARE, "--out", "run"),
    "reproduce": (*_REPRODUCE, "--out", "run"),
}
_WRITE = ("compare", "reproduce")

ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "no HOME": {"HOME": None, "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None},
    "HOME that is not there": {"HOME": "/nonexistent"},
    "HOME that cannot be written": {"HOME": "/proc/1"},
    "no folders for caches": {name: "/nonexistent" for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")},
    "TMPDIR that is not there": {"TMPDIR": "/nonexistent"},
    "LC_ALL=POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "LANG=C": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII streams": {"PYTHONIOENCODING": "ascii"},
}


@dataclass
class End:
    """How a process ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return (self.err.strip().splitlines() or [""])[-1][:200]


@dataclass
class Place:
    """A folder with what the commands read, and a place for what they write.

    Args:
        folder: of all of it.
        results: of each command that writes, when nobody disturbs it.

    """

    folder: Path
    results: dict[str, Any] = field(default_factory=dict)

    def make(self) -> None:
        """Write the files, train the model that `predict` takes, and keep what undisturbed commands write."""
        for name, text in (("t.csv", _TABLE), ("s.csv", _SCORES), ("program.py", _PROGRAM)):
            (self.folder / name).write_text(text)
        self.temporary.mkdir()
        for name in _WRITE:
            end = self.run(COMMANDS[name])
            if end.code:
                raise RuntimeError(f"{name} fails undisturbed: {end.err}")
            self.results[name] = self.written(name)
            (self.folder / "run").rename(self.folder / ("model" if name == "compare" else "report"))
        self.results["predict"] = self.run(COMMANDS["predict"]).out

    @property
    def temporary(self) -> Path:
        """The folder of temporary files."""
        return self.folder / "tmp"

    def start(self, argv: Sequence[str | bytes], **options: Any) -> subprocess.Popen[bytes]:
        """Start a command as the leader of a process group."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary), **options.pop("env", {})}
        for name in ("VICINAL_DATA", "COLUMNS", "FORCE_COLOR", "PYTHONWARNINGS"):
            environment.pop(name, None)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
        return subprocess.Popen(
            [Path(sys.executable).with_name("vicinal"), *argv],
            env={name: value for name, value in environment.items() if value is not None},
            start_new_session=True,
            **{"cwd": self.folder, **options},
        )

    def run(self, argv: Sequence[str | bytes], **options: Any) -> End:
        """Run a command to its end; what takes too long is killed, and its code is 124."""
        return finish(self.start(argv, **options))

    def written(self, name: str, folder: Path | None = None) -> Any:
        """Return what a command has computed, without the times it took."""
        folder = folder or self.folder / "run"
        if name == "compare":
            value = json.loads((folder / "results.json").read_text())
            return [{**run, "seconds": 0} for run in value["runs"]], value["verdict"], value["comparisons"]
        return [json.loads(path.read_text())["rows"] for path in sorted(folder.rglob("table.json"))]

    def clean(self) -> None:
        """Remove what a situation wrote."""
        for name in ("run", "disk", "p.csv", "j.json"):
            path = self.folder / name
            if path.is_symlink() or path.is_file():
                path.unlink()
            shutil.rmtree(path, ignore_errors=True)


def finish(process: subprocess.Popen[bytes]) -> End:
    """Wait for a process that `Place.start` has started."""
    try:
        out, err = process.communicate(timeout=_LONGEST)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        code = 124
    return End(code, *((text or b"").decode(errors="surrogateescape") for text in (out, err)))


def faults(end: End, codes: Sequence[int], needs_sentence: bool = True) -> list[str]:
    """Return what is wrong with the end of a command, which may have one of some exit codes."""
    found = []
    if end.code == 124:
        found.append("it hangs")
    elif end.code not in codes:
        found.append(f"exit code {end.code}, last said: {end.last}")
    if _TROUBLE.search(end.err):
        found.append(f"it says {_TROUBLE.findall(end.err)[0]!r}: {end.last}")
    if end.code > 0 and needs_sentence and not end.last.startswith(("vicinal: ", "vicinal ")):
        found.append(f"no sentence, but {end.last!r}")
    if control := _CONTROL.findall(_BAR.sub("", end.err)):
        found.append(f"control characters {control[:3]!r} on stderr")
    return found


def living(group: int) -> list[int]:
    """Return the processes of a group that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            state, _, of, *_ = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            found += [int(entry.name)] if int(of) == group and state != "Z" else []
    return found


Situation = tuple[str, Callable[[Place, random.Random, Outcome], list[str]]]

# -- signals -----------------------------------------------------------------------------------------------------------


def signals() -> Iterator[Situation]:
    """Yield commands that are stopped at instants on a grid of 10 ms, most of them while modules are imported."""
    for name in ("judge", "compare", "predict", "explain", "check", "diagnose", "reproduce"):
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):

            def stop(
                place: Place, chance: random.Random, outcome: Outcome, name: str = name, number=number
            ) -> list[str]:
                delay = chance.randrange(1, 300) / 100
                process = place.start(COMMANDS[name])
                time.sleep(delay)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                end = finish(process)
                if not _heard(end, number):  # nothing of ours had run
                    outcome.count("signals before the command's first line")
                    return []
                outcome.count(f"{number.name} heard" if end.code == 128 + number else f"{number.name} came too late")
                found = faults(end, (0, 128 + number))
                if end.code == 128 + number and end.err.count("stopped") != 1:
                    found.append(f"said {end.err!r}")
                return [f"{delay:.2f} s after the start: {fault}" for fault in found + _left(place, process.pid)]

            yield f"{name}, {number.name}", stop


def _heard(end: End, number: int) -> bool:
    """Return False where the interpreter or the script was still on its way to the command's first line."""
    ours = re.search(r'cli/__init__\.py", line \d+, in main', end.err)
    return not (end.code in (-number, 1) and not ours and ("KeyboardInterrupt" in end.err or not end.err))


def _left(place: Place, group: int) -> list[str]:
    """Return what a command has left that should have gone with it."""
    end = time.monotonic() + _GRACE
    while (processes := living(group)) and time.monotonic() < end:
        time.sleep(0.1)
    left = [path.name for path in place.temporary.iterdir()]
    for path in place.temporary.iterdir():
        shutil.rmtree(path, ignore_errors=True)
    return [f"processes {processes} are left"] * bool(processes) + [f"{left} are left in TMPDIR"] * bool(left)


# -- streams -----------------------------------------------------------------------------------------------------------


def streams() -> Iterator[Situation]:
    """Yield commands whose output nobody reads, or nothing can take."""
    for name in COMMANDS:
        for kind in ("head", "full", "no stdin", "no stdout", "no stderr", "deaf stderr", "full stderr"):

            def run(place: Place, chance: random.Random, outcome: Outcome, name: str = name, kind=kind) -> list[str]:
                outcome.count("streams")
                return _with_streams(place, COMMANDS[name], kind)

            yield f"{name}, {kind}", run


def _with_streams(place: Place, argv: Sequence[str], kind: str) -> list[str]:
    closed = {"no stdin": 0, "no stdout": 1, "no stderr": 2}
    if kind in closed:
        return faults(place.run(argv, preexec_fn=lambda: os.close(closed[kind])), (2,) if kind == "no stdout" else (0,))
    with _deaf(full="full" in kind) as taker:
        if "stderr" in kind:
            return faults(place.run(argv, stderr=taker), (0,))
        end = place.run(argv, stdout=taker)
    return faults(end, (2,) if kind == "full" else (0,))


@contextmanager
def _deaf(full: bool) -> Iterator[int]:
    """Yield where nothing can be written: a device that is full, or a pipe that nobody reads."""
    if full:
        taker = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, taker = os.pipe()
        os.close(reader)
    try:
        yield taker
    finally:
        os.close(taker)


# -- environments ------------------------------------------------------------------------------------------------------


def environments() -> Iterator[Situation]:
    """Yield commands in poor environments; what they compute is the same."""
    for (name, argv), (poor, env) in itertools.product(COMMANDS.items(), ENVIRONMENTS.items()):

        def run(place: Place, chance: random.Random, outcome: Outcome, name=name, argv=argv, env=env) -> list[str]:
            outcome.count("environments")
            end = place.run(argv, env=env)
            found = faults(end, (0,))
            if name == "predict" and end.out != place.results["predict"]:
                found.append("other predictions")
            if name in _WRITE and not found and place.written(name) != place.results[name]:
                found.append("other results")
            return found

        yield f"{name}, {poor}", run
    for name, argv in COMMANDS.items():

        def gone(place: Place, chance: random.Random, outcome: Outcome, argv=argv) -> list[str]:
            outcome.count("environments")
            (folder := place.folder / "gone").mkdir()
            return faults(place.run(argv, cwd=folder, preexec_fn=lambda: os.rmdir(folder)), (2,))

        yield f"{name}, a current folder that is gone", gone


# -- names -------------------------------------------------------------------------------------------------------------


def names() -> Iterator[Situation]:
    """Yield commands that show names which a terminal would obey, on one and elsewhere; and names that are no UTF-8."""
    evil_table = f"{_EVIL}x,y{_EVIL}\n" + "".join(f"{i},{'ab'[i % 2]}{_EVIL}\n" for i in range(20))
    evil_scores = _SCORES.replace("mix", f"mix{_EVIL}")
    shown: dict[str, tuple[str, ...]] = {
        "compare": ("compare", "e.csv", "--target", f"y{_EVIL}", *_COMPARE[4:], "--out", f"run{_EVIL}"),
        "a column": ("compare", "e.csv", "--target", f"z{_EVIL}"),
        "a file": ("compare", f"{_EVIL}.csv", "--target", "y"),
        "an argument": ("compare", f"--{_EVIL}", "x"),
        "a command": (_EVIL,),
        "diagnose": ("diagnose", "e.csv", "--target", f"y{_EVIL}"),
        "judge": ("judge", "e-s.csv", "--independent"),
        "a recipe": ("train", _EVIL),
        "a study": ("reproduce", _EVIL),
        "a code": ("explain", _EVIL),
        "a dataset": ("data", "verify", _EVIL),
        "a model": ("predict", _EVIL, "t.csv"),
        "a run": ("interpolate", _EVIL, _EVIL),
        "a program": ("check", f"{_EVIL}.py:f"),
    }
    for (name, argv), terminal in itertools.product(shown.items(), (False, True)):

        def show(place: Place, chance: random.Random, outcome: Outcome, argv=argv, terminal=terminal) -> list[str]:
            outcome.count("names")
            (place.folder / "e.csv").write_text(evil_table)
            (place.folder / "e-s.csv").write_text(evil_scores)
            if terminal:
                return _on_terminal(place, argv)
            end = place.run(argv)
            out = [f"control characters {found[:3]!r} on stdout"] if (found := _CONTROL.findall(end.out)) else []
            return faults(end, (0, 2)) + out

        yield f"{name} of control characters, {'on a terminal' if terminal else 'elsewhere'}", show

    for name, argv in (
        ("compare", (b"compare", b"t\xff.csv", *(os.fsencode(word) for word in _COMPARE[2:]), b"--out", b"run\xff")),
        ("predict", (b"predict", b"model", b"t\xff.csv", b"--out", b"p\xff.csv")),
        ("judge", (b"judge", b"s\xff.csv", b"--independent", b"--out", b"j\xff.json")),
        ("reproduce", (*(os.fsencode(word) for word in _REPRODUCE), b"--out", b"run\xff")),
    ):
        for env in ({}, ENVIRONMENTS["LANG=C"]):

            def bare(place: Place, chance: random.Random, outcome: Outcome, argv=argv, env=env) -> list[str]:
                outcome.count("names")
                folder = os.fsencode(place.folder)
                for old, new in ((b"t.csv", b"t\xff.csv"), (b"s.csv", b"s\xff.csv")):
                    shutil.copy(os.path.join(folder, old), os.path.join(folder, new))
                found = faults(place.run(argv, env=env), (0,))
                shutil.rmtree(os.path.join(folder, b"run\xff"), ignore_errors=True)
                return found

            yield f"{name}, names that are no UTF-8{', LANG=C' if env else ''}", bare


def _on_terminal(place: Place, argv: Sequence[str]) -> list[str]:
    """Run a command on a terminal; return what reaches it that is neither text nor a bar's own."""
    master, slave = pty.openpty()
    process = place.start(argv, stdin=slave, stdout=slave, stderr=slave, env={"TERM": "xterm", "COLUMNS": "200"})
    os.close(slave)
    shown, end = b"", time.monotonic() + _LONGEST
    with suppress(OSError):  # the other end is closed
        while time.monotonic() < end and (part := os.read(master, 65536)):
            shown += part
    os.close(master)
    finished = finish(process)
    text = shown.decode(errors="surrogateescape")
    # a bar's sequences are allowed, those of the name are not
    found = [
        f"{what!r} reaches the terminal" for what in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e") if what in text
    ]
    return found + faults(End(finished.code, "", ""), (0, 2), needs_sentence=False)


# -- disks -------------------------------------------------------------------------------------------------------------


def disks() -> Iterator[Situation]:
    """Yield commands that write where they cannot; given room, they finish with the results of an undisturbed run."""
    for name in _WRITE:
        for pages in (0, 2, 5, 30):

            def full(place: Place, chance: random.Random, outcome: Outcome, name=name, pages=pages) -> list[str]:
                with _disk(place, f"size={4 * (pages + 1)}k") as disk:
                    outcome.count("disks")
                    argv = (*COMMANDS[name][:-1], "disk/run")
                    found = faults(place.run(argv), (0, 2))
                    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
                    found += faults(place.run(argv), (0,))
                    same = not found and place.written(name, disk / "run") == place.results[name]
                    return found or ([] if same else ["other results after room was made"])

            yield f"{name}, a disk of {pages + 1} pages", full

        def small(place: Place, chance: random.Random, outcome: Outcome, name=name) -> list[str]:
            outcome.count("disks")
            most = chance.choice((0, 100, 1000, 5000))
            limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # noqa: E731
            # it ends a process that does not ignore the signal, as Python does
            found = faults(place.run(COMMANDS[name], preexec_fn=limit), (0, 2)) + faults(
                place.run(COMMANDS[name]), (0,)
            )
            same = not found and place.written(name) == place.results[name]
            return [f"{most} bytes: {fault}" for fault in found] or (
                [] if same else ["other results without the limit"]
            )

        yield f"{name}, files that may not grow", small

        def vanishing(place: Place, chance: random.Random, outcome: Outcome, name=name) -> list[str]:
            outcome.count("disks")
            process = place.start(COMMANDS[name])
            delay = chance.uniform(1, 6)
            time.sleep(delay)
            (place.folder / "run").exists() and (place.folder / "run").rename(place.folder / "elsewhere")
            found = faults(finish(process), (0, 2))
            shutil.rmtree(place.folder / "elsewhere", ignore_errors=True)
            return [f"renamed after {delay:.2f} s: {fault}" for fault in found]

        yield f"{name}, its folder renamed while it runs", vanishing

    writers = {
        "compare": (*_COMPARE, "--out"),
        "reproduce": (*_REPRODUCE, "--out"),
        "predict": ("predict", "model", "t.csv", "--out"),
        "judge": ("judge", "s.csv", "--independent", "--out"),
        "interpolate": ("interpolate", "model", "model", "--out"),
    }
    for (name, argv), kind in itertools.product(writers.items(), ("file", "loop", "dangling", "device", "read-only")):

        def odd(place: Place, chance: random.Random, outcome: Outcome, name=name, argv=argv, kind=kind) -> list[str]:
            outcome.count("disks")
            suffix = ".csv" if name == "predict" else ""
            folder = (place.folder / "disk").absolute()
            out = folder / f"out{suffix}"
            with _disk(place, "size=64m") as _:
                if kind == "file":
                    out.write_text("mine")
                elif kind == "loop":
                    out.symlink_to(out)
                elif kind == "dangling":
                    out.symlink_to(folder / "nowhere" / "at" / "all")
                elif kind == "device":
                    out.symlink_to("/dev/null")
                else:
                    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
                found = faults(place.run((*argv, str(out))), (0, 2))
                if kind == "file" and name in (*_WRITE, "interpolate") and out.read_text() != "mine":
                    found.append("the file is lost")
                if not Path("/dev/null").is_char_device():
                    found.append("/dev/null is replaced by a file")
                if left := [path.name for path in folder.iterdir() if path.name.endswith((".partial", ".lock"))]:
                    found.append(f"{left} are left")
            return found

        yield f"{name}, --out of the kind: {kind}", odd


@contextmanager
def _disk(place: Place, options: str) -> Iterator[Path]:
    """Mount a small file system in memory."""
    (disk := place.folder / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "vicinal", disk], check=True, capture_output=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
        disk.rmdir()


# -- locks -------------------------------------------------------------------------------------------------------------


def locks() -> Iterator[Situation]:
    """Yield two commands at once in one place: the second refuses; and where the first is killed, it does not."""
    places = {"compare": COMMANDS["compare"], "reproduce": COMMANDS["reproduce"]}
    places |= {"predict": (*COMMANDS["predict"], "--out", "p.csv"), "judge": (*COMMANDS["judge"], "--out", "j.json")}
    held = {
        "compare": "run/.lock",
        "reproduce": "run/toy/smoke/.lock",
        "predict": ".p.csv.lock",
        "judge": ".j.json.lock",
    }
    for name, argv in places.items():

        def two(place: Place, chance: random.Random, outcome: Outcome, name=name, argv=argv) -> list[str]:
            outcome.count("locks")
            lock = place.folder / held[name]
            lock.parent.mkdir(parents=True, exist_ok=True)
            holder = subprocess.Popen(
                [sys.executable, "-c", _HOLD, str(lock)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
            )
            assert holder.stdout is not None
            holder.stdout.readline()
            end = place.run(argv)
            found = faults(end, (2,))
            if "another" not in end.last:
                found.append(f"the second says {end.last!r}")
            holder.kill()
            holder.communicate()
            return found + faults(place.run(argv), (0,))

        yield f"{name}, a second command", two


_HOLD = """
import sys, time
from pathlib import Path
from vicinal.lab import atomic
with atomic.locked(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""

# -- memory ------------------------------------------------------------------------------------------------------------


def memory() -> Iterator[Situation]:
    """Yield commands under limits of address space from too little for Python's libraries to enough for everything."""
    for name, megabytes in itertools.product(
        ("judge", "predict", "check", "compare"), (200, 600, 1400, 1700, 2200, 4000)
    ):

        def little(place: Place, chance: random.Random, outcome: Outcome, name=name, size=megabytes << 20) -> list[str]:
            limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))  # noqa: E731
            end = place.run(COMMANDS[name], preexec_fn=limit)
            if end.code in (-signal.SIGABRT, 1) and _ABORTED.search(end.last if end.code == 1 else end.err):
                outcome.count("memory: ended by a library of C++ or Rust, which no Python hears")
            else:
                outcome.count("memory")
                if found := faults(end, (0, 1, 2)):
                    return found
                if end.code and not re.search(r"\d+(\.\d)? [MG]iB", end.last) and name != "check":
                    return [f"no figures: {end.last!r}"]
            place.clean()
            return faults(place.run(COMMANDS[name]), (0,)) if name == "compare" else []

        yield f"{name}, {megabytes} MB of address space", little


# -- all of it ---------------------------------------------------------------------------------------------------------

KINDS = (signals, streams, environments, names, disks, locks, memory)


def run(seconds: float, seed: int) -> Outcome:
    """Run situations of all kinds in turn, each kind in an order drawn from the seed, until the time is over."""
    outcome, chance, end = Outcome(), random.Random(seed), time.monotonic() + seconds
    queues = [list(kind()) for kind in KINDS]
    if not _can_mount():
        queues.pop(KINDS.index(disks))
        outcome.skipped.append("disks: nothing can be mounted here")
    total = sum(map(len, queues))
    for queue in queues:
        chance.shuffle(queue)
    with tempfile.TemporaryDirectory(prefix="edges-") as folder:
        place = Place(Path(folder))
        place.make()
        for name, situation in itertools.chain.from_iterable(itertools.zip_longest(*queues, fillvalue=("", None))):
            if situation is None:
                continue
            if time.monotonic() > end:
                break
            outcome.tried += 1
            try:
                found = situation(place, chance, outcome)
            finally:
                place.clean()
            outcome.failed += [f"{name} (seed {seed}): {fault}" for fault in found]
    outcome.counts["situations there are"] = total
    return outcome


def _can_mount() -> bool:
    """Return True if this process may mount: it is root, with the right to."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"vicinal", os.fsencode(folder), b"tmpfs", 0, b"size=4k"):
            return False
        libc.umount2(os.fsencode(folder), 2)
    return True
