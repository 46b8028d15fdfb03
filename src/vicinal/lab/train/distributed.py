"""One process or many: torchrun's environment, sums over processes, and the same work however many there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

_PATIENCE = timedelta(minutes=5)  # for a process that others wait for


@dataclass(frozen=True)
class Job:
    """The processes of a run: this one's rank, how many there are, and where it computes."""

    rank: int
    world: int
    device: torch.device

    def share(self, rows: Tensor) -> Tensor:
        """Give this process's part of the rows of a step: all parts together are the rows, in order."""
        return rows.tensor_split(self.world)[self.rank]

    def sum(self, values: Tensor) -> Tensor:
        """Add up over all processes."""
        if self.world > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

    def wrap(self, network: nn.Module) -> nn.Module:
        """Average gradients over processes in the backward pass."""
        return network if self.world == 1 else DistributedDataParallel(network)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def job() -> Iterator[Job]:
    """Join the processes that torchrun started, or be the only one.

    A process that dies takes the others with it: torchrun stops them and names it; without torchrun, those that wait
    for it raise after five minutes.
    """
    cuda = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" not in os.environ:
        yield Job(0, 1, device)
        return
    dist.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
    try:
        yield Job(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
