"""Processes of a distributed job draw apart by default, together when told to, and each counts for itself."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

import vicinal as v
from test_workers import BATCHES, loader, mixup
from vicinal import _state

STEPS = 3


def one_line(vicinity):
    return vicinity(torch.eye(6), torch.arange(6))[1].weight[0, 0].item()


def drawn(rank, first=0, vicinity=None, worker=0, n=6):
    vicinity = vicinity or mixup()
    return [vicinity.plan(n, step=first + i, rank=rank, worker=worker).weight[0].item() for i in range(STEPS)]


def job(rank, folder, inherited, start):
    """Run as one rank of two: what it draws in every way there is."""
    here = Path(folder)
    dist.init_process_group("gloo", init_method=f"file://{here / 'meet'}", rank=rank, world_size=2)
    own = mixup()
    seen = {
        "rank": _state.rank(),
        "plan": [own.plan(6, step=i).weight[0].item() for i in range(STEPS)],
        "shared": [own.plan(6, step=i, rank=0).weight[0].item() for i in range(STEPS)],
        "one_line": [one_line(own) for _ in range(STEPS)],
    }
    # workers first: what this rank says later must reach workers that it started before it ever drew by itself
    batches = loader(inherited, persistent_workers=True)
    seen["workers"] = [(who, lam) for who, lam, _ in batches]
    inherited.off()
    seen["off"] = [mixed for _, _, mixed in batches]
    inherited.on()
    seen["inherited"] = [one_line(inherited) for _ in range(STEPS)]
    seen["steps"] = inherited.state_dict()["steps"]
    # a worker that is spawned cannot ask the process group; once is enough, they take seconds to start
    other = "spawn" if start == "fork" else "fork"
    seen["others"] = [(who, lam) for who, lam, _ in loader(mixup(), other, workers=1)]
    dist.barrier()
    dist.destroy_process_group()
    (here / f"{rank}.json").write_text(json.dumps(seen))


@pytest.fixture(scope="module", params=["spawn", "fork"])
def job_of_two(request, tmp_path_factory):
    """Run the job once; gives the vicinity that the ranks inherited, and what each of them saw."""
    folder = tmp_path_factory.mktemp("ranks")
    inherited = mixup()
    one_line(inherited)
    torch.multiprocessing.start_processes(
        job, (str(folder), inherited, request.param), nprocs=2, start_method=request.param
    )
    return inherited, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_ranks_draw_apart_by_default(job_of_two):
    _, seen = job_of_two
    assert [s["rank"] for s in seen] == [0, 1]
    for rank, s in enumerate(seen):
        assert s["plan"] == s["one_line"] == drawn(rank)
    assert not set(seen[0]["plan"]) & set(seen[1]["plan"])


@pytest.mark.slow
def test_ranks_draw_together_when_told_to(job_of_two):
    _, seen = job_of_two
    assert seen[0]["shared"] == seen[1]["shared"] == drawn(0)


@pytest.mark.slow
def test_a_vicinity_made_before_the_ranks_counts_for_each_of_them(job_of_two):
    inherited, seen = job_of_two
    for rank, s in enumerate(seen):
        assert s["inherited"] == drawn(rank, first=1)  # one step was counted before
        assert s["steps"] == [1 + STEPS, BATCHES, BATCHES]
    assert inherited.state.numbers() == {"seed": inherited.state.seed, "on": True, "epoch": None, "steps": [1]}


@pytest.mark.slow
def test_workers_of_ranks_draw_apart_and_hear_their_rank(job_of_two):
    _, seen = job_of_two
    for rank, s in enumerate(seen):
        for which, worker in (("workers", 1), ("workers", 2), ("others", 1)):
            lam = [lam for who, lam in s[which] if who == worker]
            assert lam[:STEPS] == drawn(rank, worker=worker, n=3)
        assert not any(s["off"])
        assert len(s["off"]) == BATCHES


def _draw_in(queue, vicinity):
    queue.put([one_line(vicinity) for _ in range(STEPS)])


def test_runs_of_a_sweep_repeat_whatever_runs_beside_them():
    # forked children share memory with each other; a common counter would hand out steps in the order of a race
    context = multiprocessing.get_context("fork")
    vicinity, queue = mixup(), context.SimpleQueue()
    children = [context.Process(target=_draw_in, args=(queue, vicinity)) for _ in range(4)]
    for child in children:
        child.start()
    seen = [queue.get() for _ in children]
    for child in children:
        child.join()
    assert seen == [drawn(0)] * 4
    assert vicinity.state_dict()["steps"] == [0]


def test_the_variable_of_torchrun_counts_without_a_process_group(monkeypatch):
    assert not dist.is_initialized()
    monkeypatch.setenv("RANK", "1")
    vicinity = mixup()
    assert [one_line(vicinity) for _ in range(STEPS)] == drawn(1)
    assert [lam for who, lam, _ in loader(mixup()) if who == 1][:STEPS] == drawn(1, worker=1, n=3)
    assert "RANK" in os.environ


# -- rank and worker of this process


LAUNCHERS = _state._LAUNCHERS


@pytest.fixture
def alone(monkeypatch):
    for name in ("RANK", *LAUNCHERS):
        monkeypatch.delenv(name, raising=False)
    _state._launched_rank.cache_clear()
    yield
    _state._launched_rank.cache_clear()


def test_rank_is_0_alone_and_the_variable_of_torchrun_otherwise(monkeypatch, alone):
    assert _state.rank() == 0
    x, y = torch.eye(6), torch.arange(6)

    def made():
        return v.Mixup(seed=4)

    lone = made().plan(6, y, step=0).weight
    assert torch.equal(made().plan(6, y, step=0, rank=0).weight, lone)
    monkeypatch.setenv("RANK", "3")
    assert _state.rank() == 3
    assert torch.equal(made().plan(6, y, step=0, rank=0).weight, lone)
    for drawn in (made().plan(6, y, step=0).weight, made()(x, y)[1].weight[0]):
        assert torch.equal(drawn, made().plan(6, y, step=0, rank=3).weight)
        assert not torch.equal(drawn, lone)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ranks_of_other_launchers(monkeypatch, alone, name):
    monkeypatch.setenv(name, "5")
    assert _state.rank() == 5
    monkeypatch.setenv("RANK", "2")  # torchrun, started by whatever launcher
    assert _state.rank() == 2
    monkeypatch.setenv("RANK", "")
    assert _state.rank() == 5


def test_a_rank_that_is_none_is_refused(monkeypatch, alone):
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ValueError, match=r"the variable RANK .* must be an integer >= 0, got 'first'"):
        _state.rank()


def test_worker_is_0_in_the_main_process():
    assert _state.worker() == 0
