"""The loop by hand that Accelerate, Fabric and Ignite are compared with, on one process."""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from stacks.processes import BATCH, RATE, ROWS, data, linear, mixup


def by_hand(mix, rows=ROWS, epochs=1, accumulation=1):
    """Train a model: the loss of each micro-batch is divided by how many there are in a full update."""
    net = linear()
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=0.9)
    batches = list(DataLoader(data(rows), BATCH)) * epochs
    for step, (x, y) in enumerate(batches):
        x, y = mix(x, y, step)
        (F.cross_entropy(net(x), y) / accumulation).backward()
        if (step + 1) % accumulation == 0 or step + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
    return net


def planned(x, y, step):
    plan = mixup().plan(len(x), y, x, step=step)
    return plan(x), plan.target(y)


def plain(x, y, step):
    return x, y


def same(net, other):
    return all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
