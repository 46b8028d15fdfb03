"""The processes that train, on all cores.

They are forked by a server that has imported PyTorch and has run nothing (multiprocessing's "forkserver"). A fork of the
command itself could deadlock, since polars runs threads in it; a new process for each worker ("spawn", where there
is no forkserver) takes seconds to import PyTorch.

Data can be large: the arrays of a study lie once in memory that all workers share.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import numpy as np

if TYPE_CHECKING:
    from vicinal.lab.compare.comparison import Comparison, RunId

Runs = list[dict[str, Any]]
T = TypeVar("T")


class WorkerDied(Exception):
    """A worker process ended before its work did, or found no memory for it."""


def start() -> Literal["forkserver", "spawn"]:
    """Start the server, which imports PyTorch while the command reads its data; say how to start workers."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    from multiprocessing import forkserver

    multiprocessing.set_forkserver_preload(["vicinal"])
    try:
        with _interrupts_later():
            forkserver.ensure_running()
    except OSError:  # its socket has no place: the path of the temporary folder is too long for one
        return "spawn"
    return "forkserver"


class WorkerPool:
    """Processes that work one thread each; an error that leaves the `with` stops them at once.

    Args:
        jobs: how many.
        begin: called in each before its first task.
        arguments: of `begin`.

    Raises:
        WorkerDied: at leaving the `with`, if one died; what was finished has been given.

    """

    def __init__(self, jobs: int, begin: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()) -> None:
        context = multiprocessing.get_context(start())
        self._others = multiprocessing.active_children()
        self._pool = ProcessPoolExecutor(jobs, context, _begin, (begin, arguments))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for child in multiprocessing.active_children():
                if child not in self._others:
                    child.terminate()
        self._pool.shutdown(cancel_futures=True)
        if error is not None and _of_memory(error):
            raise WorkerDied("a worker process died, probably for want of memory") from error

    def submit(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Have `function(*args)` called by one of them."""
        try:
            with _interrupts_later():
                return self._pool.submit(function, *args)
        except (OSError, EOFError) as error:  # it died while it was started
            raise BrokenProcessPool from error


class Pool(WorkerPool):
    """Processes that train the runs of one study.

    Args:
        study: the study.
        pieces: its runs, cut into what a process trains at once.
        jobs: how many processes.

    """

    def __init__(self, study: Comparison, pieces: Sequence[Sequence[RunId]], jobs: int) -> None:
        context = multiprocessing.get_context(start())
        self._pieces = pieces
        # a count for each piece, written by its worker alone: no lock that a worker could take with it when it dies
        self._ticks = context.RawArray("q", max(1, len(pieces)))
        super().__init__(max(1, min(jobs, len(pieces))), _study_begins, (*_packed(study, context), self._ticks))

    def finished(self) -> Iterator[tuple[Runs, int]]:
        """Train each piece; a few times a second give (runs newly finished, run-epochs done by now)."""
        waiting = {self.submit(_train, i, piece) for i, piece in enumerate(self._pieces)}
        while waiting:
            ready, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in sorted(ready, key=_failed):
                yield future.result(), sum(self._ticks)
            if not ready:
                yield [], sum(self._ticks)

    def model(self, method: str, seed: int, epochs: int) -> dict[str, np.ndarray]:
        """Train one run alone; give the state of its model."""
        return self.submit(_train_one, method, seed, epochs).result()


def _failed(future: Future[Runs]) -> bool:
    return future.exception() is not None


def _of_memory(error: BaseException) -> bool:
    """Whether memory was short: Linux then ends a process, and an allocation is refused with an error."""
    return isinstance(error, (BrokenProcessPool, MemoryError)) or "can't allocate memory" in str(error)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold Ctrl-C back until what is started has started. It reaches the whole group: processes started within never
    hear it, so that the command alone decides, and none is left half made.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield  # on Windows; and where Python hears no signals
        return
    resource_tracker.ensure_running()  # when this starts its process, it lets the signal through again
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: held.append(number))  # another thread may let it through
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which processes started within inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if held:
        signal.raise_signal(signal.SIGINT)


_ALIGNED = 64  # bytes: where an array may begin


def _packed(study: Comparison, context: Any) -> tuple[bytes, Any, list[int]]:
    """Give a study as bytes, the memory that its arrays were copied into, and their sizes there."""
    arrays: list[pickle.PickleBuffer] = []
    content = pickle.dumps(study, protocol=5, buffer_callback=arrays.append)
    raw = [array.raw() for array in arrays]
    memory = context.RawArray("B", sum(_room(part.nbytes) for part in raw) or 1)  # on disk where shared memory is short
    whole = np.frombuffer(memory, dtype=np.uint8)
    start = 0
    for part in raw:
        whole[start : start + part.nbytes] = part
        start += _room(part.nbytes)
    return content, memory, [part.nbytes for part in raw]


def _unpacked(content: bytes, memory: Any, sizes: Sequence[int]) -> Comparison:
    """Give the study of `_packed`; its arrays are views of that memory."""
    whole = np.frombuffer(memory, dtype=np.uint8)
    starts = [sum(map(_room, sizes[:i])) for i in range(len(sizes))]
    views = [whole[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return pickle.loads(content, buffers=views)  # made by the command that started this process


def _room(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


# -- in a worker -------------------------------------------------------------------------------------------------------

_study: Comparison
_ticks: MutableSequence[int]


def _begin(begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import torch

    torch.set_num_threads(1)
    if begin is not None:
        begin(*arguments)


def _study_begins(content: bytes, memory: Any, sizes: Sequence[int], ticks: MutableSequence[int]) -> None:
    global _study, _ticks
    _study, _ticks = _unpacked(content, memory, sizes), ticks


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    parent.join()
    os._exit(1)


def _train(piece: int, names: Sequence[RunId]) -> Runs:
    def tick(runs: int) -> None:
        _ticks[piece] += runs

    runs = _study.train(names, tick)
    _ticks[piece] = len(runs) * _study.epochs  # also those that stopped early
    return runs


def _train_one(method: str, seed: int, epochs: int) -> dict[str, np.ndarray]:
    return _study.model(method, seed, epochs)
