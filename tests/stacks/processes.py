"""Jobs of two processes: torchrun starts a program of tests/stacks/jobs, and each process saves what it saw."""

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset, default_collate

import vicinal
from stacks.programs import printed

JOBS = Path(__file__).parent / "jobs"
TWO = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone")
ROWS, BATCH, CLASSES, RATE = 32, 4, 3, 0.1  # two processes take four batches each per epoch
SEED = 5


def results_of_two(job, folder, timeout=240):
    """Run a job as two processes over gloo and return what each of them saved, by rank."""
    path = os.pathsep.join([str(JOBS.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    printed([*TWO, str(JOBS / f"{job}.py"), str(folder)], folder, timeout, PYTHONPATH=path)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


# -- what jobs and tests share ------------------------------------------------------------------------------------------


def data(rows=ROWS):
    """Return rows that carry their number as the first feature, a multiple of 1 / 32."""
    number = torch.arange(rows)
    features = torch.stack([number / ROWS, number.cos(), (3 * number).sin(), (5 * number).cos()], 1)
    return TensorDataset(features, number % CLASSES)


def numbers_of(x):
    """Return the numbers of plain rows."""
    return (x[:, 0] * ROWS).int().tolist()


def linear():
    """Return a linear model that begins with the same weights in every process."""
    net = nn.Linear(4, CLASSES)
    with torch.no_grad():
        net.weight.copy_(torch.linspace(-1, 1, 4 * CLASSES).view(CLASSES, 4))
        net.bias.zero_()
    return net


def mixup():
    return vicinal.Mixup(1.0, seed=SEED)


class Recording:
    """A collate_fn that keeps the numbers of the rows of each batch that it makes."""

    def __init__(self):
        self.batches = []

    def __call__(self, examples):
        batch = default_collate(examples)
        self.batches.append(numbers_of(batch[0]))
        return batch


def drawn(numbers, step, rank=0):
    """Return the plan of a batch of these rows, and their inputs and soft labels after it."""
    x, y = data()[numbers]
    plan = mixup().plan(len(numbers), y, x, step=step, rank=rank)
    return plan, plan(x), plan.target(y).dense(CLASSES)


def once(of_ranks):
    """Return whether the batches of all ranks hold each row exactly once."""
    return sorted(number for batches in of_ranks for batch in batches for number in batch) == list(range(ROWS))


def check_draws(found):
    """Assert that each rank mixed its rows by draws of its own: `found` holds the "rows" and "draws" of each rank."""
    shares = []
    for rank, seen in enumerate(found):
        for step, (numbers, (x, y)) in enumerate(zip(seen["rows"], seen["draws"], strict=True)):
            plan, expected_x, expected_y = drawn(numbers, step, rank)
            assert torch.equal(x, expected_x)
            assert torch.equal(y, expected_y)
            shares.append(float(plan.weight[0]))
    assert len(set(shares)) == len(shares) > 0


def check_weights(found):
    """Assert that all ranks ended with the weights of one model trained on what all of them saw."""
    net = _trained_by_hand([seen["rows"] for seen in found])
    for first, second, expected in zip(*(seen["weights"] for seen in found), net.parameters(), strict=True):
        assert torch.equal(first, second)
        assert torch.allclose(first, expected, atol=1e-6)


def _trained_by_hand(of_ranks):
    """Train one model on the batches of all ranks, mixed by each rank's draws; a step averages the ranks' gradients."""
    net = linear()
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    for step, batches in enumerate(zip(*of_ranks, strict=True)):
        for rank, numbers in enumerate(batches):
            _, x, y = drawn(numbers, step, rank)
            (F.cross_entropy(net(x), y) / len(of_ranks)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return net
