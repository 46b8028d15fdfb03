"""Many processes: what each one takes, that they are alike, and how the death of one is reported."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from vicinal.lab.errors import UserError
from vicinal.lab.training import distributed
from vicinal.lab.training.distributed import Processes, WorkerLost

ENVIRONMENT = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29400"}


def test_processes_share_the_examples_of_one() -> None:
    rows = torch.arange(37)
    for world in (1, 2, 3):
        shards = [Processes(rank, world, torch.device("cpu")).shard(rows) for rank in range(world)]
        assert max(map(len, shards)) - min(map(len, shards)) <= 1
        assert torch.equal(torch.cat(shards), rows)


def environment(monkeypatch: pytest.MonkeyPatch, changes: Mapping[str, str | None]) -> None:
    for name, value in {**ENVIRONMENT, **changes}.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number of 0 or more, got 'two'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE counts processes and must lie in 1 to 65535, got 0"),
        ({"WORLD_SIZE": "9" * 400}, "WORLD_SIZE must be a whole number"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE must be a whole number of 0 or more, got ''"),
        ({"RANK": "-1"}, "RANK must be a whole number of 0 or more, got '-1'"),
        ({"RANK": "2"}, "RANK is 2 and WORLD_SIZE 2: ranks are 0 to 1"),
        ({"RANK": None}, "WORLD_SIZE is set and RANK is not"),
        ({"WORLD_SIZE": None}, "RANK is '0' and WORLD_SIZE is not set"),
        ({"LOCAL_RANK": "0.5"}, "LOCAL_RANK must be a whole number"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT must lie in 1 to 65535, got 70000"),
        ({"MASTER_ADDR": None}, "WORLD_SIZE is set and MASTER_ADDR is not"),
        ({"MASTER_ADDR": "no\0host"}, "which this machine cannot find"),
    ],
)
def test_an_environment_that_names_no_job_is_said_at_once(
    changes: Mapping[str, str | None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "\0" in str(changes.get("MASTER_ADDR")):
        monkeypatch.setattr(distributed.os, "environ", {**ENVIRONMENT, **changes})
    else:
        environment(monkeypatch, changes)
    with pytest.raises(UserError, match=re.escape(words)), distributed.job(1.0):
        raise AssertionError("the job began")


def test_a_port_that_is_taken_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment(monkeypatch, {"MASTER_PORT": str(store.port)})
    with pytest.raises(UserError, match=f"the port {store.port} of MASTER_PORT is taken"), distributed.job(1.0):
        raise AssertionError("the job began")


def test_a_process_that_does_not_come_is_said_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with distributed.socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment(monkeypatch, {"MASTER_PORT": str(port)})
    words = f"process 0 of 2 waited 1 s, and not all of the others came to 127.0.0.1:{port}"
    with pytest.raises(WorkerLost, match=words), distributed.job(1.0):
        raise AssertionError("the job began")


def each(world: int, work: Callable[[int, object], object]) -> list[str]:
    """Run `work(rank, store)` in threads with one store; return the errors, by rank."""
    store, said = dist.HashStore(), [""] * world
    store.set_timeout(distributed.timedelta(seconds=2))

    def run(rank: int) -> None:
        try:
            work(rank, store)
        except (UserError, RuntimeError) as error:
            said[rank] = str(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


def test_processes_that_are_not_alike_all_end_with_what_differs() -> None:
    def check(values: Callable[[int], Mapping[str, str]]) -> list[str]:
        def work(rank: int, store: object) -> None:
            Processes(rank, 3, torch.device("cpu"), store).check_alike("recipe", values(rank))

        return each(3, work)

    assert check(lambda rank: {"seed": "1", "epochs": "3"}) == ["", "", ""]
    differ = check(lambda rank: {"seed": "1", "epochs": str(3 + (rank == 2))})
    assert [words.partition("; ")[0] for words in differ] == [
        "the processes were not started alike: epochs is 3 in process 0 and 4 in process 2",
        "the processes were not started alike: epochs is 3 in process 1 and 4 in process 2",
        "the processes were not started alike: epochs is 4 in process 2 and 3 in process 0",
    ]
    assert all("PyTorch" in words for words in check(lambda rank: {"PyTorch": f"2.{min(rank, 1)}"}))


def test_two_processes_of_one_rank_are_said() -> None:
    def work(rank: int, store: object) -> None:
        distributed._check_alike(store, 0, 1, "versions", {})

    assert sorted(each(2, work)) == ["", "two processes have RANK 0: each of the 1 processes needs a rank of its own"]


def test_what_fails_on_rank_zero_ends_the_others_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    monkeypatch.setattr(dist, "broadcast_object_list", lambda message, **_: sent.append(message[0]))
    processes = Processes(0, 2, torch.device("cpu"))

    def fail() -> None:
        raise PermissionError("no")

    with pytest.raises(PermissionError):
        processes.on_rank_zero(fail)
    assert sent == [(None, "process 0 failed (PermissionError: no)")]


@pytest.mark.parametrize(
    "words",
    [
        "Application timeout caused pair closure",
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1",
        "wait timeout after 8000ms, keys: /default_pg/0//vicinal/versions 1/1",
        "Broken pipe",
    ],
)
def test_what_the_network_says_is_known(words: str) -> None:
    assert distributed._of_network(RuntimeError(words))
    assert not distributed._of_network(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))


@pytest.mark.torture
def test_torchrun_names_the_process_that_died(tmp_path: Path) -> None:
    # as a training: the first process waits for the second, which is killed
    script = tmp_path / "job.py"
    script.write_text(
        "import os, signal\n"
        "from vicinal.lab.training import distributed\n"
        "with distributed.job(60) as job:\n"
        "    job.broadcast(0.0)\n"
        "    if job.rank == 1:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    job.broadcast(0.0)\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert re.search(r"rank +: 1 \(local_rank: 1\)\s+exitcode +: -9", done.stderr)
