"""Ray Train: two workers, and what they have learned by draws of their own, as a loop by hand has it."""

import re

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import vicinal

pytest.importorskip("ray", reason="needs Ray Train: pip install 'ray[train]'")

from stacks.programs import printed_by

EPOCHS, BATCHES = 10, 38


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Run the program once, for starting Ray takes long; returns what it prints, and its checkpoint."""
    home = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))  # where Ray keeps results
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        printed = printed_by("with_ray", home)
    (checkpoint,) = (home / "ray_results").glob("*/checkpoint_*/state.pt")
    return printed, torch.load(checkpoint)


def by_hand(seed, ranks):
    """Train the program's model in one process: of each step, the mean of the gradients of two workers.

    `ranks` are those whose draws the two workers take.
    """
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    images, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    known, _ = train_test_split(TensorDataset(images.float() / 16, labels), test_size=600, random_state=0)
    samplers = [DistributedSampler(known, 2, rank) for rank in range(2)]
    loaders = [DataLoader(known, 16, sampler=sampler) for sampler in samplers]
    optimizer = torch.optim.Adam(net.parameters(), 4e-3)
    mixup, step = vicinal.Mixup(0.4, seed=seed), 0
    for epoch in range(EPOCHS):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        for batches in zip(*loaders, strict=True):
            for rank, (x, y) in zip(ranks, batches, strict=True):
                plan = mixup.plan(len(x), y, x, step=step, rank=rank)
                (F.cross_entropy(net(plan(x)), plan.target(y)) / 2).backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    return net


def distance(net, state):
    return max(float((p.detach() - state[f"module.{name}"]).abs().max()) for name, p in net.named_parameters())


def test_the_program_trains(program):
    assert float(re.search(r"^test accuracy (0\.\d+)$", program[0], re.MULTILINE)[1]) > 0.93


def test_two_workers_draw_their_own_and_see_the_rows_that_ray_gives_them(program):
    _, state = program
    assert state["mixup"]["steps"] == [EPOCHS * BATCHES]
    seed = state["mixup"]["seed"]
    assert distance(by_hand(seed, ranks=(0, 1)), state["net"]) < 1e-5
    assert distance(by_hand(seed, ranks=(0, 0)), state["net"]) > 1e-2
