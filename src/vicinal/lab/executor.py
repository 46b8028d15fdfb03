"""One executor for everything that runs many jobs: in this process, in worker processes, or on a cluster.

    for item, result in executor.run(work, items, processes=4):
        keep(item, result)

`work` is a function at the top of a module, or a `functools.partial` of one; results come as jobs finish. To resume is
the caller's: it keeps results, and passes the items that are missing. A job may report how far it is by `tick`.

`processes=1` runs the jobs in this process. More are forked by a server that has imported PyTorch and has run nothing
(multiprocessing's "forkserver"): a fork of the command itself could deadlock, since polars runs threads in it, and a new
process per worker ("spawn", where there is no forkserver) takes seconds to import PyTorch. `work` lies once in a file, whose
arrays all workers map. `cluster="local"` or `"slurm:KEY=VALUE,..."` submits each job to submitit's scheduler.

However this process ends, what it has started on this machine ends too, and what it leaves in temporary folders is removed
by the next one.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, MutableSequence, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker, util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, Literal, TypeVar

import joblib

from vicinal.lab import memory, scratch, terminal
from vicinal.lab.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[int], None]  # called with the number of ticks by now

_REFRESH = 0.2  # seconds between calls of a progress
_POLL = 0.5  # seconds between looks at the jobs of a cluster
_AFTER_SOCKETS = -101  # of what multiprocessing does when Python exits: it removes the folder of its sockets at -100
_WORK = "work-"  # begins the name of the folder with the work of a cluster's jobs
_NO_LIMIT = 365 * 24 * 60  # minutes: submitit ends jobs on this machine after 2, unless it is told otherwise


class WorkerDied(Exception):
    """A worker process ended before its work did, or found no memory for it."""


class JobFailed(WorkerDied):
    """A job of a cluster failed."""


def run(
    work: Callable[[T], R],
    items: Sequence[T],
    *,
    processes: int = 1,
    cluster: str | None = None,
    folder: Path | None = None,
    on_progress: Progress = lambda ticks: None,
    on_error: Callable[[T, Exception], None] | None = None,
) -> Generator[tuple[T, R]]:
    """Call `work` on every item, and yield (item, result) as calls finish; close it early, and the others end.

    Args:
        work: what is called; it must be picklable if it is to run elsewhere.
        items: one job each.
        processes: number of jobs at once, on one thread each; 1 runs them here, one after the other.
        cluster: `local`, with one job per core at a time; `slurm`; or `slurm:KEY=VALUE,...` with the parameters of
            submitit's `update_parameters`, as `slurm_partition=gpu,gpus_per_node=1,timeout_min=600`. Jobs are requeued
            on preemption. Instead of `processes`.
        folder: in its `jobs` a cluster's jobs and their logs are kept.
        on_progress: called with the ticks of all jobs, a few times per second; a cluster has none.
        on_error: called with a job of the cluster that failed; without it the first failure ends the others.

    Raises:
        WorkerDied: a process died or memory was short; what was finished has been yielded.
        JobFailed: a job of the cluster failed; likewise.
        UserError: submitit is not installed, or refuses the cluster or a parameter.

    Example:
        >>> list(run(abs, [-1, 2]))
        [(-1, 1), (2, 2)]

    """
    tidy(folder)
    try:
        if cluster is not None and items:
            yield from _run_on_cluster(work, items, cluster, folder or Path(), on_error)
        elif min(processes, len(items)) < 2:
            yield from _run_here(work, items, on_progress)
        else:
            yield from _run_in_workers(work, items, min(processes, len(items)), on_progress)
    except (BrokenProcessPool, MemoryError, RuntimeError, OSError, ImportError) as error:
        if not _of_memory(error):
            raise
        raise WorkerDied("a worker process died, probably for want of memory") from error


def tidy(folder: Path | None = None) -> None:
    """Remove what a killed process has left in temporary folders, and in the `jobs` of a folder."""
    scratch.remove_left()
    if folder is not None:
        scratch.remove_left(_WORK, folder / "jobs")


def tick(units: int = 1) -> None:
    """Report from within a job that `units` more are done."""
    _tick(units)


def _of_memory(error: BaseException) -> bool:
    """Return True if memory was short: Linux then ends a process, and an allocation is refused with an error."""
    return isinstance(error, BrokenProcessPool) or memory.is_short(error)


# -- in this process ---------------------------------------------------------------------------------------------------

_tick: Callable[[int], None] = lambda units: None  # noqa: E731  # set where jobs run


def _run_here(work: Callable[[T], R], items: Sequence[T], on_progress: Progress) -> Iterator[tuple[T, R]]:
    done = 0

    def count(units: int) -> None:
        nonlocal done
        done += units
        on_progress(done)

    for item in items:
        with _ticking(count):
            result = work(item)
        yield item, result


@contextmanager
def _ticking(count: Callable[[int], None]) -> Iterator[None]:
    global _tick
    before, _tick = _tick, count
    try:
        yield
    finally:
        _tick = before


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, as workers do: sums over several threads differ in their last digits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# -- in worker processes -----------------------------------------------------------------------------------------------


def _run_in_workers(
    work: Callable[[T], R], items: Sequence[T], processes: int, on_progress: Progress
) -> Iterator[tuple[T, R]]:
    context = multiprocessing.get_context(start())
    # a count per job, written by its worker alone: no lock that a worker could take with it when it dies
    ticks = context.RawArray("q", len(items))
    others = multiprocessing.active_children()
    with scratch.folder() as folder:
        path = os.path.join(folder, "work")
        joblib.dump(work, path)
        pool = ProcessPoolExecutor(processes, context, _begin, (path, ticks))
        try:
            waiting = {_submit(pool, i, item): item for i, item in enumerate(items)}
            while waiting:
                ready, _ = wait(waiting, timeout=_REFRESH, return_when=FIRST_COMPLETED)
                on_progress(sum(ticks))
                for future in sorted(ready, key=_failed):  # what is done is yielded first
                    yield waiting.pop(future), future.result()
        except BaseException:
            for child in multiprocessing.active_children():
                if child not in others:
                    child.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, job: int, item: Any) -> Future[Any]:
    try:
        with _interrupts_later():
            return pool.submit(_work_on, job, item)
    except (OSError, EOFError) as error:  # it died while it was started
        raise BrokenProcessPool from error


def _failed(future: Future[Any]) -> bool:
    return future.exception() is not None


def start() -> Literal["forkserver", "spawn"]:
    """Start the server, which imports PyTorch while the command reads its data; return how to start workers."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    from multiprocessing import forkserver

    multiprocessing.set_forkserver_preload(["torch", "vicinal"])
    try:
        with _interrupts_later(), _sockets_in_scratch():
            forkserver.ensure_running()
    except OSError:  # its socket has no place: the path of the temporary folder is too long for one
        return "spawn"
    return "forkserver"


_scratch = ExitStack()  # what this process has in temporary folders until it ends


@contextmanager
def _sockets_in_scratch() -> Iterator[None]:
    """Have multiprocessing make the folder of its sockets in one that is removed even if this process is killed."""
    if "tempdir" in multiprocessing.current_process()._config:  # type: ignore[attr-defined]  # it has made it
        yield
        return
    before = tempfile.tempdir
    tempfile.tempdir = str(_scratch.enter_context(scratch.folder()))
    util.Finalize(None, _scratch.close, exitpriority=_AFTER_SOCKETS)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold the signals that stop a command back until what is started has started, so that none is left half made.

    Ctrl-C and the hangup of a terminal reach the whole group: processes started within never hear them, so that the command
    alone decides.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield  # on Windows; and where Python hears no signals
        return
    # of a closed terminal, which reaches the group too
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # which processes started within inherit
    resource_tracker.ensure_running()  # when this starts its process, it lets SIGINT through again
    held: list[int] = []
    # another thread may let them through; and SIGTERM is not blocked, since it ends workers
    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if callable(signal.getsignal(number))]
    before = {
        number: signal.signal(number, lambda number, _: held.append(number)) for number in (signal.SIGINT, *heard)
    }
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:  # also where what was started has died of it
            signal.raise_signal(held[0])


_work: Callable[[Any], Any]
_ticks: MutableSequence[int]


def _begin(path: str, ticks: MutableSequence[int]) -> None:
    global _work, _ticks
    threading.Thread(target=end_with_parent, daemon=True).start()
    terminal.show_errors()

    import torch

    torch.set_num_threads(1)
    # made by the command that started this process; arrays are mapped, and copied where they are written to
    _work, _ticks = joblib.load(path, mmap_mode="c"), ticks


def _work_on(job: int, item: Any) -> Any:
    def count(units: int) -> None:
        _ticks[job] += units

    with _ticking(count):
        return _work(item)


@atexit.register
def _end_workers() -> None:
    """End the workers that are left.

    Python does so too, but takes away what they share before: one that is just starting would answer with a traceback.
    """
    workers = [worker for worker in multiprocessing.active_children() if worker.daemon]
    if workers and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would report those that are ended here
    for worker in workers:
        worker.terminate()


def end_with_parent() -> None:
    """Wait for the end of the process that started this one, and end this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    parent.join()
    os._exit(1)


# -- on a cluster ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClusterJob(Generic[T]):
    """One call as a job, which is submitted again as it is where the scheduler takes its machine away."""

    path: str  # of the work
    item: T
    here: bool = False  # on the machine of the command that waits for it

    def __call__(self) -> Any:
        """Call it; a UserError is returned, so that it comes as it is."""
        if self.here:
            threading.Thread(target=self._end_with_command, daemon=True).start()
        try:
            return joblib.load(self.path, mmap_mode="c")(self.item)
        except UserError as error:
            return error

    def _end_with_command(self) -> None:
        """Wait for the end of the command, or of submitit's process that started this one, and end this one."""
        folder = Path(self.path).parent
        # a shell is between the two if a setup was asked for
        parent = (
            os.getppid() if os.environ.get("SUBMITIT_LOCAL_WITH_SHELL") else int(os.environ["SUBMITIT_LOCAL_JOB_ID"])
        )
        while os.getppid() == parent and folder.exists() and not scratch.is_left(folder):
            time.sleep(_POLL)
        os._exit(1)

    def checkpoint(self) -> Any:
        """Return what submitit queues again before a time limit or a preemption."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _run_on_cluster(
    work: Callable[[T], R],
    items: Sequence[T],
    cluster: str,
    folder: Path,
    on_error: Callable[[T, Exception], None] | None,
) -> Iterator[tuple[T, R]]:
    jobs = folder.absolute() / "jobs"
    submitter, most = _submitter(cluster, jobs)
    jobs.mkdir(parents=True, exist_ok=True)
    waiting = list(items)
    running: dict[Any, T] = {}
    with scratch.folder(_WORK, jobs) as shared:
        path = os.path.join(shared, "work")
        joblib.dump(work, path)
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    item = waiting.pop(0)
                    with _stderr_to(jobs / "submitit.log"):  # of what watches a job on this machine
                        running[submitter.submit(ClusterJob(path, item, submitter.cluster == "local"))] = item
                time.sleep(_POLL)
                ended = [(job, _outcome(job)) for job in running if job.done()]
                for job, result in sorted(ended, key=_is_error):  # what is done is yielded first
                    item = running.pop(job)
                    if not isinstance(result, Exception):
                        yield item, result
                    elif on_error is not None:
                        on_error(item, result)
                    elif isinstance(result, JobFailed):
                        raise JobFailed(f"a job failed ({result}), whose log is in {folder / 'jobs'}") from result
                    else:
                        raise result
        finally:
            for job in running:
                job.cancel(check=False)
            while submitter.cluster == "local" and not all(job.done() for job in running):
                time.sleep(_POLL / 10)


@contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Send what processes that are started within write to stderr to a file."""
    before = os.dup(2)
    try:
        with open(path, "ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _outcome(job: Any) -> Any:
    """Return what a job returned, or the error with which it failed."""
    problem = job.exception()
    return job.result() if problem is None else JobFailed(_reason(str(problem)))


def _is_error(ended: tuple[Any, Any]) -> bool:
    return isinstance(ended[1], Exception)


def _reason(text: str) -> str:
    """Return the last line of the traceback in submitit's message, which stands between lines of dashes."""
    lines = [line for line in text.splitlines() if line.strip()]
    dashes = [i for i, line in enumerate(lines) if not line.strip().strip("-")]
    return lines[dashes[-1] - 1] if dashes else lines[-1]


def check_cluster(cluster: str) -> None:
    """Refuse a cluster that cannot be used, before anything is begun.

    Raises:
        UserError: submitit is not installed, or refuses the cluster or a parameter.

    """
    with TemporaryDirectory(prefix="vicinal-") as folder:
        _submitter(cluster, Path(folder))


def _submitter(cluster: str, jobs: Path) -> tuple[Any, int]:
    """Return submitit's executor, and how many jobs it is given at a time."""
    try:
        import submitit
    except ImportError as error:
        raise UserError("submitit, which a cluster needs, is not installed; pip install submitit") from error
    name, _, text = cluster.partition(":")
    if name not in ("local", "slurm"):
        raise UserError(f"a cluster is local or slurm, got {name!r}")
    try:
        submitter = submitit.AutoExecutor(folder=jobs, cluster=name)
        parameters = {"timeout_min": str(_NO_LIMIT)} if name == "local" else {}
        parameters |= dict(part.split("=", 1) for part in text.split(",") if part)
        submitter.update_parameters(**{k: int(v) if v.isdigit() else v for k, v in parameters.items()})
    except (ValueError, NameError, TypeError, AssertionError, RuntimeError) as error:
        problem = " ".join(str(error).split())[:200]
        raise UserError(f"the cluster {cluster!r} is refused ({problem}); see submitit's update_parameters") from error
    return submitter, cores() if name == "local" else sys.maxsize


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
