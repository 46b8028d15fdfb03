"""Trainings of several processes that lose one another: on one machine, and on two hosts made of network namespaces."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import heapq
import json
import multiprocessing
import os
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from torture.part import Outcome

ABOUT = "processes of a training killed, halted, started differently; two hosts with delay, loss, and a cable cut"

ARGUMENTS = (
    *("train", "cifar10-small-mixup", "dataset=synthetic-images", "model=small-eighth", "batch_size=20", "epochs=4"),
    *("milestones=", "precision=float32"),
)  # fmt: skip
_TIMEOUT = 10.0  # seconds after which a process gives another one up
_GRACE = 20.0  # seconds beyond that, on a busy machine
_LONGEST = 240.0  # seconds of a training that nobody disturbs
_SLOW = 100.0  # seconds that must be left for one over a bad line
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_DEVICE = "cable0"

_processes = multiprocessing.get_context("forkserver")


def _child(argv: list[str], environment: Mapping[str, str], namespace: str | None, log: str, version: str) -> None:
    """Be one process of a training, in a network namespace."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if namespace is not None:
        _enter(namespace)
    os.environ.update(environment)
    import torch

    import vicinal
    from vicinal.lab import cli

    torch.set_num_threads(1)
    if version:
        vicinal.__version__ = version
    sys.exit(cli.main(argv))


@dataclass
class Job:
    """The processes of one training."""

    folder: Path
    world: int = 2
    address: str = "127.0.0.1"
    line: Line | None = None  # between two hosts
    timeout: float = _TIMEOUT
    running: list[BaseProcess] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def log(self, rank: int) -> Path:
        """Return the file of what a process said."""
        return self.folder.with_name(f"{self.folder.name}.rank{rank}.log")

    def start(
        self,
        ranks: Sequence[int] | None = None,
        changes: Mapping[int, Sequence[str]] | None = None,
        environment: Mapping[int, Mapping[str, str]] | None = None,
        version: Mapping[int, str] | None = None,
    ) -> None:
        """Start some ranks, all of them if none are named; what was said before is forgotten."""
        port = _port() if self.line is None else 29477
        self.running = []
        for rank in range(self.world) if ranks is None else ranks:
            self.log(rank).unlink(missing_ok=True)
            many = {
                **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(self.world)},
                **{"MASTER_ADDR": self.address, "MASTER_PORT": str(port)},
                **({} if self.line is None else {"GLOO_SOCKET_IFNAME": _DEVICE}),
                **(environment or {}).get(rank, {}),
            }
            options = ["--save-every", "0.05", "--timeout", f"{self.timeout:g}", "--out", str(self.folder)]
            argv = [*ARGUMENTS, *(changes or {}).get(rank, ()), *options]
            namespace = None if self.line is None else self.line.hosts[rank]
            given = (
                argv,
                many if self.world > 1 else {},
                namespace,
                str(self.log(rank)),
                (version or {}).get(rank, ""),
            )
            process = _processes.Process(target=_child, args=given)
            process.start()
            self.running.append(process)

    def wait(self, seconds: float) -> list[int | None]:
        """Wait for the end, at most so long; kill what has not ended; return the exit codes."""
        end = time.monotonic() + seconds
        for process in self.running:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in self.running]
        self.kill()
        return codes

    def kill(self) -> None:
        """End all processes."""
        for process in self.running:
            if process.exitcode is None:
                process.kill()
            process.join()

    def trains(self) -> bool:
        """Wait until there is a checkpoint; return whether there is one while the processes run."""
        end = time.monotonic() + _LONGEST
        while not [*self.folder.glob("step-*.ckpt")] and time.monotonic() < end:
            if any(process.exitcode is not None for process in self.running):
                return False
            time.sleep(0.01)
        return True

    def finish(self) -> None:
        """Run to the end."""
        self.start()
        codes = self.wait(_LONGEST)
        if codes != [0] * self.world:
            said = " / ".join(self.log(rank).read_text()[-500:] for rank in range(self.world))
            self.problems.append(f"it ended with {codes}: {said}")

    def said(self, rank: int, *words: str) -> None:
        """Check that the last thing a process said is a sentence of ours that holds these words."""
        text = self.log(rank).read_text()
        last = text.rstrip().rpartition("\n")[2]
        lacking = [word for word in words if word not in last]
        if "Traceback" in text or not last.startswith("vicinal: ") or lacking:
            self.problems.append(f"process {rank} said {text[-800:]!r} and not {lacking or 'a sentence'}")

    def check(self, right: bool, words: str) -> None:
        """Note a problem unless all is right."""
        if not right:
            self.problems.append(words)

    def weights(self) -> bytes:
        """Return the weights that it wrote; none if it did not end."""
        path = self.folder / "weights.pt"
        return path.read_bytes() if path.exists() else b""


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# ---- on one machine --------------------------------------------------------------------------------------------------

Situation = Callable[[Job, random.Random, bytes, Outcome], None]


def _lost(job: Job, rng: random.Random, whole: bytes, outcome: Outcome, number: int, name: str) -> None:
    """Send a signal to one process while all train; the other ends with a sentence, and the command resumes."""
    job.start()
    if not job.trains():
        job.problems.append(f"it ended before it trained: {job.log(0).read_text()[-500:]}")
        return
    time.sleep(rng.random() * 0.5)
    rank = rng.randrange(2)
    process, other = job.running[rank], job.running[1 - rank]
    if process.exitcode is None:
        assert process.pid is not None
        os.kill(process.pid, number)
    began = time.monotonic()
    other.join(job.timeout + _GRACE)
    _note_seconds(outcome, f"seconds until the other one ends, {name}", time.monotonic() - began)
    if other.exitcode != 0:  # else all was done before
        job.check(other.exitcode == 1, f"process {1 - rank} ended with {other.exitcode}")
        job.said(1 - rank, "lost another one", "rerun the same command to resume")
    job.kill()
    _resume(job, whole)


def _resume(job: Job, whole: bytes) -> None:
    job.finish()
    job.check(job.weights() == whole, "the weights are not those of the undisturbed run")
    job.check(not [*job.folder.glob(".*.partial")], "an unfinished file is left")


def _note_seconds(outcome: Outcome, name: str, seconds: float) -> None:
    outcome.counts[name] = max(outcome.counts.get(name, 0.0), round(seconds, 1))


def _unlike(job: Job, rng: random.Random, whole: bytes, outcome: Outcome) -> None:
    """Start one process differently: all end with the sentence that says in what."""
    kinds: list[tuple[dict[str, object], str]] = [
        ({"changes": {1: ["seed=5"]}}, "seed is "),
        ({"changes": {0: ["vicinity=CutMix(alpha=1.0)"]}}, "vicinity is "),
        ({"version": {1: "9.9.9"}}, "vicinal is "),
        ({"environment": {1: {"WORLD_SIZE": "3"}}}, "WORLD_SIZE is "),
    ]
    given, words = kinds[rng.randrange(len(kinds))]
    job.start(**given)  # type: ignore[arg-type]
    codes = job.wait(job.timeout + 3 * _GRACE)
    job.check(codes == [2, 2], f"it ended with {codes}")
    for rank in range(2):
        job.said(rank, "the processes were not started alike", words)
    _resume(job, whole)


def _missing(job: Job, rng: random.Random, whole: bytes, outcome: Outcome) -> None:
    """Start one process alone: it ends in time."""
    rank = rng.randrange(2)
    job.timeout = 3.0
    job.start([rank])
    codes = job.wait(job.timeout + 2 * _GRACE)
    job.check(codes == [1], f"it ended with {codes}")
    job.said(rank, f"process {rank} of 2 waited 3 s")
    job.timeout = _TIMEOUT
    _resume(job, whole)


def _odd(job: Job, rng: random.Random, whole: bytes, outcome: Outcome) -> None:
    """Start processes in an environment that cannot be: each ends at once."""
    kinds = [
        ({"RANK": "7"}, "RANK is 7 and WORLD_SIZE 2"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE must be a whole number"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT must lie in 1 to 65535"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK must be a whole number"),
    ]
    given, words = kinds[rng.randrange(len(kinds))]
    job.start([0], environment={0: given})
    codes = job.wait(2 * _GRACE)
    job.check(codes == [2], f"it ended with {codes}")
    job.said(0, words)


def _port_taken(job: Job, rng: random.Random, whole: bytes, outcome: Outcome) -> None:
    """Give them a port at which something else listens, and says nothing."""
    job.timeout = 4.0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = {"MASTER_PORT": str(taken.getsockname()[1])}
        job.start(environment={0: port, 1: port})
        codes = job.wait(job.timeout + 2 * _GRACE)
    job.check(codes == [2, 1], f"it ended with {codes}")
    job.said(0, "of MASTER_PORT is taken on this machine")
    job.said(1, "process 1 of 2 waited 4 s, and process 0 (MASTER_ADDR and MASTER_PORT) did not answer")


def _two_jobs(job: Job, rng: random.Random, whole: bytes, outcome: Outcome) -> None:
    """Start the same training twice in one folder: one trains, the other ends."""
    job.start()
    if not job.trains():
        job.problems.append("it ended before it trained")
        return
    second = Job(job.folder)
    first_logs = [job.log(rank).read_bytes() for rank in range(2)]
    second.start()
    codes = second.wait(_LONGEST)
    if (job.folder / "results.json").exists() and codes == [0, 0]:  # the first one was done before the second began
        return
    job.check(codes == [2, 2], f"the second ended with {codes}")
    for rank in range(2):
        second.said(rank, "another process trains in")
    job.problems += second.problems
    job.check(len(first_logs) == 2, "")
    codes = job.wait(_LONGEST)
    job.check(codes == [0, 0], f"the first ended with {codes}")
    job.check(job.weights() == whole, "the weights are not those of the undisturbed run")


def _other_world(job: Job, rng: random.Random, whole: bytes, outcome: Outcome) -> None:
    """Kill all, and resume with one process: it is said, and written into the results."""
    job.start()
    if not job.trains():
        job.problems.append("it ended before it trained")
        return
    job.kill()
    alone = Job(job.folder, world=1)
    alone.finish()
    text = alone.log(0).read_text()
    results = job.folder / "results.json"
    if not results.exists():
        job.problems += [*alone.problems, "it did not end"]
        return
    stretches = [each["processes"] for each in json.loads(results.read_text())["stretches"]]
    if stretches == [2]:  # it was done when it was killed
        return
    job.check(stretches == [2, 1], f"the stretches are {stretches}")
    job.check("with 1 process(es) where it had 2" in text, f"it said {text[-500:]!r}")


# ---- between two hosts -----------------------------------------------------------------------------------------------


@dataclass
class Line:
    """Two hosts, each a network namespace with one device, and the line between them, which this process is.

    It forwards packets from one device to the other, later, or not at all; so no module of the kernel is needed for that.
    """

    hosts: tuple[str, str]
    rng: random.Random
    delay: float = 0.0  # seconds
    loss: float = 0.0  # share of packets
    cut: bool = False
    forwarded: int = 0
    lost: int = 0

    def forward(self, devices: Sequence[int], ends: threading.Event) -> None:
        """Forward packets until the event is set."""
        due: list[tuple[float, int, int, bytes]] = []
        while not ends.is_set():
            now = time.monotonic()
            wait = min(0.05, max(0.0, due[0][0] - now)) if due else 0.05
            for device in select.select(devices, [], [], wait)[0]:
                packet = os.read(device, 65536)
                if self.cut or self.rng.random() < self.loss:
                    self.lost += 1
                    continue
                self.forwarded += 1
                heapq.heappush(due, (time.monotonic() + self.delay, self.forwarded, device, packet))
            while due and due[0][0] <= time.monotonic():
                _, _, device, packet = heapq.heappop(due)
                if not self.cut:
                    with contextlib.suppress(OSError):  # a device that is down takes no packets
                        os.write(devices[1 - devices.index(device)], packet)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


@contextlib.contextmanager
def _two_hosts(seed: int) -> Iterator[Line]:
    """Make two network namespaces with a line between them, and remove them, whatever happens."""
    names = (f"vicinal{os.getpid()}a", f"vicinal{os.getpid()}b")
    ends = threading.Event()
    devices: list[int] = []
    forwarder: threading.Thread | None = None
    try:
        for i, name in enumerate(names):
            _run("ip", "netns", "add", name)
            devices.append(_in_namespace(name, _open_device))
            _run("ip", "-n", name, "addr", "add", f"10.213.77.{i + 1}/24", "dev", _DEVICE)
            for device in ("lo", _DEVICE):
                _run("ip", "-n", name, "link", "set", device, "up")
        line = Line(names, random.Random(seed))
        forwarder = threading.Thread(target=line.forward, args=(devices, ends), daemon=True)
        forwarder.start()
        yield line
    finally:
        ends.set()
        if forwarder is not None:
            forwarder.join()
        for device in devices:
            os.close(device)
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _in_namespace(name: str, work: Callable[[], int]) -> int:
    """Return what `work` returns in a namespace: in a thread, since each thread has a namespace of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: (_enter(name), work())[1]).result()


def _enter(name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{name}") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {name}")


def _open_device() -> int:
    """Return a new network device whose packets are read and written as a file."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return device


def _slow(job: Job, rng: random.Random, whole: bytes, outcome: Outcome) -> None:
    """Train over a bad line, to the same weights."""
    line = job.line
    assert line is not None
    job.timeout = 60.0
    line.delay, line.loss = rng.uniform(0.05, 0.2), rng.uniform(0.01, 0.1)
    began, before = time.monotonic(), (line.forwarded, line.lost)
    job.finish()
    _note_seconds(outcome, "seconds of a training over the worst line", time.monotonic() - began)
    outcome.count("packets forwarded", line.forwarded - before[0])
    outcome.count("packets lost", line.lost - before[1])
    line.delay, line.loss = 0.0, 0.0
    job.check(line.lost > before[1], "no packet was lost")
    job.check(job.weights() == whole, "the weights are not those of the undisturbed run")


def _cut(job: Job, rng: random.Random, whole: bytes, outcome: Outcome) -> None:
    """Cut the line in the middle: both end in time with a sentence; mended, the same command resumes."""
    line = job.line
    assert line is not None
    line.delay = rng.uniform(0.002, 0.02)  # slow enough that there is a middle
    job.start()
    if not job.trains():
        job.problems.append(f"it ended before it trained: {job.log(0).read_text()[-500:]}")
        return
    time.sleep(rng.random())
    unplugged = rng.random() < 0.5  # one host knows; else packets are lost, and nobody is told
    if unplugged:
        _run("ip", "-n", line.hosts[1], "link", "set", _DEVICE, "down")
    line.cut = True
    began = time.monotonic()
    codes = job.wait(job.timeout + _GRACE)
    _note_seconds(outcome, "seconds until both hosts end, line cut", time.monotonic() - began)
    line.cut, line.delay = False, 0.0
    if unplugged:
        _run("ip", "-n", line.hosts[1], "link", "set", _DEVICE, "up")
    for rank, code in enumerate(codes):
        if code != 0:  # else this one was done before
            job.check(code == 1, f"process {rank} ended with {code}")
            job.said(rank, "lost another one", "rerun the same command to resume")
    outcome.count("cut in the middle", float(codes != [0, 0]))
    _resume(job, whole)


# ---- all of them -----------------------------------------------------------------------------------------------------

ALONE: dict[str, Situation] = {
    "killed": functools.partial(_lost, number=signal.SIGKILL, name="killed"),
    "halted": functools.partial(_lost, number=signal.SIGSTOP, name="halted"),
    "unlike": _unlike,
    "missing": _missing,
    "port": _port_taken,
    "odd": _odd,
    "two jobs": _two_jobs,
    "other world": _other_world,
}
APART: dict[str, Situation] = {"cut": _cut, "slow": _slow}
ORDER = ("cut", "killed", "unlike", "slow", "halted", "missing", "cut", "port", "two jobs", "odd", "other world")


def _no_hosts(seed: int) -> str:
    """Return why two hosts cannot be made here; empty if they can."""
    if not shutil.which("ip"):
        return "two hosts: the program ip is not there"
    try:
        with _two_hosts(seed):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        return (
            f"two hosts: network namespaces with devices of their own cannot be made ({reason.strip()}); it takes root"
        )


def run(seconds: float, seed: int, only: int | None = None) -> Outcome:
    """Try situations one after another for some time; `only` tries one."""
    outcome = Outcome()
    end = time.monotonic() + seconds
    _processes.set_forkserver_preload(["vicinal.lab.cli.commands", "vicinal.lab.training.loop", "torch._dynamo"])
    reason = _no_hosts(seed)
    if reason:
        outcome.skipped.append(reason)
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vicinal-network-")))
        line = None if reason else stack.enter_context(_two_hosts(seed))
        whole = Job(root / "whole")
        whole.finish()
        if whole.problems:
            outcome.failed += [f"the undisturbed run: {problem}" for problem in whole.problems]
            return outcome
        number = 0 if only is None else only
        while only in (None, number) and (time.monotonic() < end or only is not None):
            name = ORDER[number % len(ORDER)]
            fits = only is not None or name != "slow" or end - time.monotonic() > _SLOW
            if fits and (name in ALONE or line is not None):
                _try(name, number, seed, root, line, whole.weights(), outcome)
            number += 1
    return outcome


def _try(name: str, number: int, seed: int, root: Path, line: Line | None, whole: bytes, outcome: Outcome) -> None:
    apart = name in APART
    job = Job(root / f"run{number}", address="10.213.77.1" if apart else "127.0.0.1", line=line if apart else None)
    try:
        (APART if apart else ALONE)[name](job, random.Random(f"{seed}:{number}"), whole, outcome)
    finally:
        job.kill()
    outcome.tried += 1
    outcome.count(name)
    again = f"python -c 'from torture import network; print(network.run(0, {seed}, only={number}))'"
    outcome.failed += [f"situation {number}, {name}: {problem}: {again}" for problem in job.problems if problem]
