"""Jobs run here, in workers and on a cluster to the same results; failures are told, and no process is left."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from vicinal.lab import atomic, executor, filelock, scratch
from vicinal.lab.cli import interrupts
from vicinal.lab.errors import UserError


def scaled(by: np.ndarray, number: int) -> float:
    executor.tick(number)
    return float(by.sum()) * number


def refused(number: int) -> int:
    if number == 2:
        raise UserError("not two")
    return number


def stay(pid: Path, number: int) -> None:
    """Write who does 2, and stay there; 1 waits for that."""
    while number == 1 and not pid.exists():
        time.sleep(0.1)
    if number == 2:
        atomic.write(pid, str(os.getpid()))
        time.sleep(3600)


def mapped(array: np.ndarray, number: int) -> bool:
    array[0] = number  # a worker's own copy
    return isinstance(array, np.memmap)


def fail(error: BaseException, number: int) -> int:
    if number == 2:
        raise error
    return number


def die(number: int) -> int:
    if number == 2:
        os._exit(9)
    time.sleep(0.1)
    return number


@pytest.mark.parametrize("processes", [1, 2])
def test_results_and_ticks_are_the_same_wherever_jobs_run(processes: int) -> None:
    ticks: list[int] = []
    work = partial(scaled, np.ones(1000))
    results = dict(executor.run(work, [1, 2, 3], processes=processes, on_progress=ticks.append))
    assert results == {1: 1000.0, 2: 2000.0, 3: 3000.0}
    assert ticks == sorted(ticks)
    assert ticks[-1] == 6


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_comes_as_it_is(processes: int) -> None:
    results = executor.run(partial(fail, UserError("not two")), [1, 2], processes=processes)
    with pytest.raises(UserError, match="not two"):
        dict(results)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: x")],
)
def test_an_allocation_refused_is_told_as_want_of_memory(error: BaseException) -> None:
    with pytest.raises(executor.WorkerDied, match="probably for want of memory"):
        list(executor.run(partial(fail, error), [2]))


def test_a_worker_that_dies_is_told() -> None:
    with pytest.raises(executor.WorkerDied, match="a worker process died"):
        list(executor.run(die, [1, 2, 3], processes=2))
    assert not multiprocessing.active_children()


def test_arrays_of_the_work_are_mapped_by_all_workers() -> None:
    array = np.zeros(100_000)
    assert dict(executor.run(partial(mapped, array), [1, 2], processes=2)) == {1: True, 2: True}
    assert array[0] == 0


def test_nothing_to_run() -> None:
    assert list(executor.run(abs, [], processes=4)) == []


def test_one_thread_is_one_thread_and_then_as_before() -> None:
    import torch

    before = torch.get_num_threads()
    with executor.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


# -- on a cluster ------------------------------------------------------------------------------------------------------


@pytest.mark.torture
def test_a_cluster_on_this_machine(tmp_path: Path) -> None:
    failed: dict[float, str] = {}

    def note(item: float, error: Exception) -> None:
        failed[item] = str(error)

    results = executor.run(math.sqrt, [4.0, -1.0, 9.0], cluster="local:timeout_min=5", folder=tmp_path, on_error=note)
    assert dict(results) == {4.0: 2.0, 9.0: 3.0}
    assert failed == {-1.0: "ValueError: math domain error"}
    with pytest.raises(
        executor.JobFailed, match=r"a job failed \(ValueError: math domain error\), whose log is in .*/jobs"
    ):
        list(executor.run(math.sqrt, [-1.0], cluster="local", folder=tmp_path))
    left = sorted(path.name for path in (tmp_path / "jobs").iterdir())
    assert any(name.endswith("_log.err") for name in left)
    assert not any(name.startswith("work-") for name in left)


def test_what_a_job_refuses_comes_as_it_is_and_what_others_found_before_it(tmp_path: Path) -> None:
    """A sentence for the user, as from a worker."""
    found = []
    with pytest.raises(UserError, match=r"^not two$"):
        found.extend(executor.run(refused, [2, 1], cluster="local", folder=tmp_path))
    failed: list[str] = []
    options = {"cluster": "local", "folder": tmp_path, "on_error": lambda item, error: failed.append(str(error))}
    assert dict(executor.run(refused, [2, 1], **options)) == {1: 1}
    assert failed == ["not two"]


def test_nothing_to_run_needs_no_cluster(tmp_path: Path) -> None:
    assert list(executor.run(abs, [], cluster="cloud", folder=tmp_path)) == []


def test_with_nothing_to_run_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """It may have been killed when all jobs were done."""
    (tmp_path / "jobs" / "work-1").mkdir(parents=True)
    (tmp_path / "jobs" / "work-1" / "lock").touch()
    assert list(executor.run(abs, [], cluster="local", folder=tmp_path)) == []
    assert not list((tmp_path / "jobs").iterdir())


def test_a_job_on_this_machine_may_take_as_long_as_it_needs(tmp_path: Path) -> None:
    """submitit would end it after two minutes."""
    assert executor._submitter("local", tmp_path)[0].parameters["timeout_min"] > 10_000
    assert executor._submitter("local:timeout_min=7", tmp_path)[0].parameters["timeout_min"] == 7


def test_closed_early_the_jobs_are_canceled(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    jobs = executor.run(partial(stay, pid), [1, 2], cluster="local", folder=tmp_path)
    assert next(jobs) == (1, None)
    process = int(pid.read_text())
    os.kill(process, 0)
    jobs.close()
    while Path(f"/proc/{process}").exists():
        time.sleep(0.1)


def test_a_scheduler_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install submitit"):
        list(executor.run(abs, [1], cluster="local", folder=tmp_path))
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    for cluster, words in (("local:wings=2", "is refused"), ("cloud", "local or slurm, got 'cloud'")):
        with pytest.raises(UserError, match=words):
            list(executor.run(abs, [1], cluster=cluster, folder=tmp_path))


def test_a_job_is_queued_again_as_it_is(tmp_path: Path) -> None:
    joblib.dump(abs, tmp_path / "work")
    job = executor.ClusterJob(str(tmp_path / "work"), -1)
    assert job.checkpoint().function is job
    assert job() == 1


# -- processes ---------------------------------------------------------------------------------------------------------


def test_without_a_place_for_its_socket_there_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("AF_UNIX path too long")

    assert executor.start() == "forkserver"
    monkeypatch.setattr("multiprocessing.forkserver.ensure_running", fail)
    assert executor.start() == "spawn"
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert executor.start() == "spawn"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ctrl_c_waits_until_what_is_started_has_started() -> None:
    """And what is started never hears it."""
    blocked = []

    def start() -> None:
        with executor._interrupts_later():
            signal.raise_signal(signal.SIGINT)
            status = subprocess.run(["grep", "SigBlk", "/proc/self/status"], capture_output=True, text=True).stdout
            blocked.append(int(status.split()[1], 16) & 1 << (signal.SIGINT - 1))

    with pytest.raises(KeyboardInterrupt):
        start()
    assert blocked == [1 << (signal.SIGINT - 1)]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with executor._interrupts_later():
        pass  # without one, nothing comes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_stops_a_command_waits_until_what_is_started_has_started(number: signal.Signals) -> None:
    """And what is started can still be ended by SIGTERM."""
    heard, blocked = [], []
    before = signal.signal(number, lambda number, _: heard.append(number))
    try:
        with executor._interrupts_later():
            signal.raise_signal(number)
            status = subprocess.run(["grep", "SigBlk", "/proc/self/status"], capture_output=True, text=True).stdout
            blocked.append(int(status.split()[1], 16) & 1 << (signal.SIGTERM - 1))
            assert not heard
        assert heard == [number]
    finally:
        signal.signal(number, before)
    assert blocked == [0]


def test_what_stops_a_command_counts_also_where_what_is_started_dies_of_it() -> None:
    """SIGTERM to a whole group ends the server of processes too, in the middle of a start."""

    def stop(number: int, _: Any) -> None:
        raise interrupts.Stopped(number)

    def start() -> None:
        with executor._interrupts_later():
            signal.raise_signal(signal.SIGTERM)
            raise EOFError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(interrupts.Stopped) as stopped:
            start()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.number == signal.SIGTERM


# -- what a killed process leaves --------------------------------------------------------------------------------------


KILLED = """
import os, signal, sys, time
from vicinal.lab import executor

def work(number):
    if number == 2:
        sys.stdout.write("at work\\n")
        sys.stdout.flush()
    time.sleep(3600)

if __name__ == "__main__":
    list(executor.run(work, [1, 2], processes=2))
"""


def processes_with(mark: bytes) -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in entry.read_bytes():
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


def semaphores(process: int) -> list[str]:
    return [path.name for path in Path("/dev/shm").glob(f"sem.*-{process}-*")]


def wait_for_no(found: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while found():
        assert time.monotonic() < end, f"still there: {found()}"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("everybody", [False, True])
def test_a_killed_process_takes_its_workers_along_and_the_next_one_removes_what_it_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everybody: bool
) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    temporary = tmp_path / "t"
    temporary.mkdir()
    mark = f"VICINAL_TEST={tmp_path}"
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "killed.py")],
        env={**os.environ, "TMPDIR": str(temporary), "VICINAL_TEST": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    assert len(list(temporary.iterdir())) == 2  # of the work, and of the server's socket
    assert semaphores(process.pid)
    if everybody:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    _, said = process.communicate(timeout=60)
    wait_for_no(lambda: processes_with(mark.encode()))
    assert "Traceback" not in said
    assert len(list(temporary.iterdir())) == 2

    assert bool(semaphores(process.pid)) == everybody  # else the process that keeps account of them has removed them
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with scratch.folder() as mine:
        assert list(temporary.iterdir()) == [mine]
        assert not scratch.is_left(mine)
    assert not list(temporary.iterdir())
    assert not semaphores(process.pid)


def test_without_locks_nothing_is_taken_for_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vicinal-1").mkdir()
    (tmp_path / "vicinal-1" / "lock").touch()
    with monkeypatch.context() as patch:
        patch.setattr(filelock, "fcntl", None)
        with scratch.folder(parent=tmp_path) as mine:
            assert len(list(tmp_path.iterdir())) == 2
            assert not scratch.is_left(mine)
    with scratch.folder(parent=tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize("asked", [True, False])
def test_a_program_ends_with_the_one_that_started_it_if_it_is_asked_to(tmp_path: Path, asked: bool) -> None:
    program = (
        "import time; from vicinal.lab import orphans; orphans.end_with_parent(); print(1, flush=True); time.sleep(60)"
    )
    starter = (
        "import os, subprocess, sys; from vicinal.lab import orphans\n"
        f"environment = orphans.environment() if {asked} else None\n"
        f"started = subprocess.Popen([sys.executable, '-c', {program!r}], stdout=subprocess.PIPE, env=environment)\n"
        "started.stdout.readline(); print(started.pid, flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True, check=True)
    started = int(done.stdout)
    if asked:
        wait_for_no(lambda: Path(f"/proc/{started}/cmdline").exists() and Path(f"/proc/{started}/cmdline").read_bytes())
    else:
        time.sleep(1.5)
        os.kill(started, signal.SIGKILL)
