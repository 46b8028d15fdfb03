"""One process or many: torchrun's environment, sums over processes, and the same work however many there are."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import vicinal
from vicinal.lab.errors import UserError
from vicinal.lab.training.settings import RunSettings

# of PyTorch's untyped errors
_NETWORK_WORDS = re.compile(
    r"gloo|nccl|tcpstore|broken pipe|connection (?:reset|closed|refused)|time(?:d )?out|pair closure|\bpeer\b|socket",
    re.IGNORECASE,
)
_LINGER = 3.0  # seconds for which processes that end wait to tell one another why
_ENDED = "vicinal/ended"  # how many processes know that the job ends

T = TypeVar("T")

has_joined = False  # whether this process has ever joined others


class WorkerLost(Exception):
    """Another process of the job died, or did not answer in time."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run: this one's rank, how many there are, and where it computes."""

    rank: int
    world_size: int
    device: torch.device
    _store: Any = field(default=None, repr=False, compare=False)  # of texts that all processes see

    def shard(self, rows: Tensor) -> Tensor:
        """Return this process's part of the rows of a step; all parts together are the rows, in order."""
        return rows.tensor_split(self.world_size)[self.rank]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.world_size > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

    def gather(self, values: Tensor) -> Tensor:
        """Return the values [n] of all processes, [world, n]."""
        table = torch.zeros(self.world_size, *values.shape, dtype=values.dtype)
        table[self.rank] = values
        return self.sum(table)  # zero and one number: exact

    def on_rank_zero(self, work: Callable[[], T]) -> T:
        """Run `work` on rank 0 and broadcast its result; where it fails, all processes end with an error that says why.

        Raises:
            UserError: `work` raised it; or, in the other processes, it raised anything else.

        """
        if self.world_size == 1:
            return work()
        message: list[tuple[T | None, str | None]] = [(None, None)]
        failure: Exception | None = None
        if self.rank == 0:
            try:
                message = [(work(), None)]
            except UserError as error:
                failure, message = error, [(None, str(error))]
            except Exception as error:
                failure, message = error, [(None, f"process 0 failed ({type(error).__name__}: {error})")]
        dist.broadcast_object_list(message, src=0, device=self.device)
        value, problem = message[0]
        if failure is not None:
            raise failure
        if problem is not None:
            raise UserError(problem)
        return value  # type: ignore[return-value]

    def check_alike(self, about: str, values: Mapping[str, str]) -> None:
        """Check that all processes have the same values, before they work together.

        Args:
            about: name of the check.
            values: texts by what they are.

        Raises:
            UserError: a process has other values: in all processes.
            WorkerLost: a process did not answer in time.

        """
        if self._store is not None:
            times = self._store.add(f"vicinal/{about}/{self.rank}/times", 1)
            _check_alike(self._store, self.rank, self.world_size, f"{about} {times}", values)

    def broadcast(self, number: float) -> float:
        """Return the number of rank 0 in all processes: cheaper than `on_rank_zero`."""
        return float(self.sum(torch.tensor(number if self.rank == 0 else 0.0, dtype=torch.float64)))

    def wrap_ddp(self, model: nn.Module) -> nn.Module:
        """Average gradients over processes in the backward pass."""
        return model if self.world_size == 1 else DistributedDataParallel(model)

    def share_buffers(self, model: nn.Module) -> None:
        """Broadcast the buffers of rank 0: each process has running statistics of BatchNorm of its own."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


def device() -> torch.device:
    """Return what a single process computes on: the GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def job(timeout: float = RunSettings.timeout) -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the only one.

    A process that dies takes the others with it: torchrun stops them and names it; without torchrun, those that wait
    for it raise: at once if its connection broke, else after `timeout` seconds.

    Raises:
        UserError: the environment names no such job, its port is taken, or its processes are of other versions.
        WorkerLost: another process died, or did not answer within `timeout`.

    """
    global has_joined
    place = _place()
    cuda = torch.cuda.is_available()
    local = place.local_rank
    if cuda and local >= torch.cuda.device_count():
        raise UserError(
            f"LOCAL_RANK is {local}, and this machine has {torch.cuda.device_count()} GPU(s): start one each"
        )
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if place.world_size is None:
        yield Processes(0, 1, device)
        return
    has_joined = True
    store = _joined(place, timeout)
    try:
        versions = {
            "WORLD_SIZE": str(place.world_size),
            "vicinal": vicinal.__version__,
            "PyTorch": str(torch.__version__),
            "NumPy": np.__version__,
            "device": device.type,
        }
        _check_alike(store, place.rank, place.world_size, "versions", versions)
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.world_size,
            timeout=timedelta(seconds=timeout),
        )
        yield Processes(place.rank, place.world_size, device, store)
    except BaseException as error:
        lost = isinstance(error, RuntimeError) and _of_network(error)
        if not lost:
            _leave_last_words(store, place, error)
            raise
        raise WorkerLost(
            f"process {place.rank} of {place.world_size} lost another one: it died, or did not answer in {timeout:g} s"
            f"{_last_words(store, place)}"
        ) from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


# -- what the environment says -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Member:
    """The place of this process in a job; without a world size it is alone."""

    rank: int = 0
    local_rank: int = 0
    world_size: int | None = None


def _place() -> _Member:
    """Read torchrun's environment.

    Raises:
        UserError: it contradicts itself.

    """
    if "WORLD_SIZE" not in os.environ:
        if "RANK" in os.environ:
            raise UserError(
                f"RANK is {os.environ['RANK'][:20]!r} and WORLD_SIZE is not set: set both, as torchrun does, or neither to "
                "train alone"
            )
        return _Member(local_rank=_number("LOCAL_RANK", 0))
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise UserError(f"WORLD_SIZE is set and {name} is not: start the processes by torchrun, or set both")
    world, rank, port = _number("WORLD_SIZE"), _number("RANK"), _number("MASTER_PORT")
    if not 1 <= world < 2**16:
        raise UserError(f"WORLD_SIZE counts processes and must lie in 1 to 65535, got {world}")
    if rank >= world:
        raise UserError(f"RANK is {rank} and WORLD_SIZE {world}: ranks are 0 to {world - 1}")
    if not 1 <= port < 2**16:
        raise UserError(f"MASTER_PORT must lie in 1 to 65535, got {port}")
    return _Member(rank, _number("LOCAL_RANK", 0), world)


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"{name} must be a whole number of 0 or more, got {(text or '')[:40]!r}")
    return int(text)


# -- before the processes work together --------------------------------------------------------------------------------


def _joined(place: _Member, timeout: float) -> Any:
    """Return the store of a job, once all of its processes are there.

    Raises:
        UserError: its address has no machine, or its port is taken.
        WorkerLost: not all came in time.

    """
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    try:
        socket.getaddrinfo(address, int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"MASTER_ADDR is {address[:80]!r}, which this machine cannot find ({reason})") from error
    who = f"process {place.rank} of {place.world_size}"
    limit = timedelta(seconds=timeout)
    came: list[Any] = []
    failed: list[RuntimeError] = []

    def meet() -> None:
        try:
            came.append(next(iter(dist.rendezvous("env://", place.rank, place.world_size or 1, timeout=limit)))[0])
        except RuntimeError as error:
            failed.append(error)

    # in a thread: PyTorch waits without limit for what answers at the port and is not a process of the job
    meeting = threading.Thread(target=meet, daemon=True)
    meeting.start()
    meeting.join(timeout + _LINGER)
    if failed and ("EADDRINUSE" in str(failed[0]) or "address already in use" in str(failed[0]).lower()):
        raise UserError(
            f"the port {port} of MASTER_PORT is taken on this machine by another program: set another one for all processes"
        ) from failed[0]
    if failed and not _of_network(failed[0]):
        raise failed[0]
    if not came:
        what = (
            "and not all of the others came to"
            if place.rank == 0
            else "and process 0 (MASTER_ADDR and MASTER_PORT) did not answer at"
        )
        cause = failed[0] if failed else None
        raise WorkerLost(f"{who} waited {timeout:g} s, {what} {address[:80]}:{port}") from cause
    (store,) = came
    store.set_timeout(limit)
    return store


def _check_alike(store: Any, rank: int, world_size: int, about: str, values: Mapping[str, str]) -> None:
    """Compare values with those of all other processes; see `Processes.check_alike`."""
    if store.add(f"vicinal/{about}/{rank}/here", 1) > 1:
        raise UserError(f"two processes have RANK {rank}: each of the {world_size} processes needs a rank of its own")
    store.set(f"vicinal/{about}/{rank}", json.dumps(dict(values)))
    problem = ""
    for other in range(world_size):
        theirs = json.loads(store.get(f"vicinal/{about}/{other}"))
        odd = next((name for name in values if theirs.get(name) != values[name]), None)
        if odd is not None:
            problem = (
                f"the processes were not started alike: {odd} is {values[odd]} in process {rank} and {theirs.get(odd)} in "
                f"process {other}; start all by the same command, in the same environment"
            )
            break
    if problem:
        raise UserError(problem)


def _of_network(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or _NETWORK_WORDS.search(str(error)) is not None


def _leave_last_words(store: Any, place: _Member, error: BaseException) -> None:
    """Leave word for the others of why this process ends, and break the connections, so that those that wait for it look."""
    said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    if not isinstance(error, Exception):
        said = "it was stopped"

    def leave() -> None:
        store.set("vicinal/last words", json.dumps([place.rank, said]))
        ended = store.add(_ENDED, 1)
        if dist.is_initialized():
            dist.destroy_process_group()
        until = time.monotonic() + _LINGER
        # the first process may hold the store
        while place.rank == 0 and ended < (place.world_size or 1) and time.monotonic() < until:
            time.sleep(0.05)
            ended = store.add(_ENDED, 0)

    _within(2 * _LINGER, leave)


def _last_words(store: Any, place: _Member) -> str:
    """Return what the process that ended first said, as the end of a sentence; empty if it said nothing."""
    found: list[Any] = []

    def look() -> None:
        store.set_timeout(timedelta(seconds=_LINGER / 2))
        found.extend(json.loads(store.get("vicinal/last words")))
        store.add(_ENDED, 1)

    _within(_LINGER, look)
    return f"; process {found[0]} ended first: {found[1]}" if len(found) == 2 and found[0] != place.rank else ""


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Do what needs the store, which may be gone, or in a process that has halted: then it is not done."""

    def attempt() -> None:
        try:
            work()
        except RuntimeError as error:
            if not _of_network(error):
                raise

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
