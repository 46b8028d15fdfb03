"""One process or many: torchrun's environment, sums over processes, and the same work however many there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vicinal.lab.errors import UserError
from vicinal.lab.training.settings import RunSettings

_NETWORK_WORDS = ("gloo", "NCCL", "TCPStore", "Broken pipe", "Connection reset")  # of PyTorch's untyped errors

T = TypeVar("T")


class WorkerLost(Exception):
    """Another process of the job died, or did not answer in time."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run: this one's rank, how many there are, and where it computes."""

    rank: int
    world_size: int
    device: torch.device

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
        """Run `work` on rank 0 and broadcast its result; a UserError is raised in all processes."""
        if self.world_size == 1:
            return work()
        message: list[tuple[T | None, str | None]] = [(None, None)]
        if self.rank == 0:
            try:
                message = [(work(), None)]
            except UserError as error:
                message = [(None, str(error))]
        dist.broadcast_object_list(message, src=0, device=self.device)
        value, problem = message[0]
        if problem is not None:
            raise UserError(problem)
        return value  # type: ignore[return-value]

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
        WorkerLost: another process died, or did not answer within `timeout`.

    """
    cuda = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "WORLD_SIZE" not in os.environ:
        yield Processes(0, 1, device)
        return
    try:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(seconds=timeout))
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(word in str(error) for word in _NETWORK_WORDS):
            raise WorkerLost(
                f"process {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']}"
                f" lost another one: it died, or did not answer in {timeout:g} s"
            ) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
