"""The little that a vicinity must remember: its seed, and for the one-line form a counter, the epoch and a switch.

It lives in memory that DataLoader workers share with the main process, persistent ones too: what the main process
sets, they see at their next batch. Each process counts its own steps in a cell of its own, so nothing races, and the
counts outlive workers that come and go with every epoch. Any other process that inherits a state (a rank, one run of a
sweep) takes a copy and goes its own way.
"""

from __future__ import annotations

import functools
import itertools
import mmap
import os
import weakref
from collections.abc import Mapping
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed
import torch.multiprocessing  # lets tensors in shared memory travel to processes that are spawned
import torch.utils.data
from torch import Tensor

from vicinal import _stored
from vicinal._checks import check_epoch, shown

if TYPE_CHECKING:
    from vicinal.plan import Plan

FORMAT = 2  # of a state; at first there was none
_WORKERS = 510
_ON, _EPOCH, _SEED, _STEPS = 0, 1, 2, 3
_UNSET = -1
_UINT64 = 2**64
# where a launcher other than torchrun says which of its processes this is: Slurm, Open MPI, MPICH and Intel MPI, PMIx,
# MVAPICH, Horovod, Flux
_LAUNCHERS = (
    "SLURM_PROCID",
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "PMIX_RANK",
    "MV2_COMM_WORLD_RANK",
    "HOROVOD_RANK",
    "FLUX_TASK_RANK",
)
_DISTRIBUTED = torch.distributed.is_available()
_INSTANCES = itertools.count(1)  # vicinities without a seed of their own that this process has made

# a process that is to have workers of its own must own its states before it forks them
_LIVE: weakref.WeakSet[State] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lambda: [state.cells for state in list(_LIVE)])


class State:
    """Seed, counter, epoch and switch of one vicinity; shared with forked and spawned DataLoader workers.

    Args:
        seed: in [0, 2**64); None takes one from PyTorch's seed, see `fresh_seed`.

    """

    def __init__(self, seed: int | None) -> None:
        self._cells = _page()
        self._viewed: Tensor | None = None
        self._view = memoryview(b"")
        self._cells[_ON] = 1
        self._cells[_EPOCH] = _UNSET
        self.given = seed is not None  # by the user: no checkpoint may change it
        self._cells[_SEED] = _signed(fresh_seed() if seed is None else int(seed))
        self._owner = os.getpid()
        self._rank: int | None = None  # the owner's, in a spawned worker
        # for which batches plans are drawn ahead, the step of the first, and the plans
        self.prefetched: tuple[tuple[int, ...], int, list[Plan | None]] = ((), 0, [])
        self.last_batch: tuple[int, ...] = ()
        self.now: tuple[int, Any] | None = None  # of a schedule: an epoch, and the vicinity then
        self.mixed_last: weakref.ref[Tensor] | None = None  # the class indices of the target made last
        _LIVE.add(self)

    @property
    def cells(self) -> Tensor:
        """The owner's memory for itself and its DataLoader workers; another process comes to own a copy here."""
        if self._owner != os.getpid() and worker() == 0:
            self._cells = _page().copy_(self._cells)
            self._owner = os.getpid()
            self._rank = None
        return self._cells

    @property
    def rank(self) -> int:
        """Rank of this process; a spawned worker cannot ask torch.distributed and has it from the owner."""
        return rank() if self._rank is None or worker() == 0 else self._rank

    def next_step(self, worker: int) -> int:
        """Count one batch of this worker and return its number, from 0."""
        if worker >= _WORKERS:
            raise ValueError(f"at most {_WORKERS - 1} DataLoader workers are counted, this is worker {worker}")
        cells = self._numbers()
        step = cells[_STEPS + worker]
        cells[_STEPS + worker] = step + 1
        return step

    def look(self) -> tuple[bool, int | None, int]:
        """Return whether the vicinity mixes, the epoch, and the seed, at the cost of one of them."""
        cells = self._numbers()
        epoch = cells[_EPOCH]
        return bool(cells[_ON]), None if epoch == _UNSET else epoch, cells[_SEED] % _UINT64

    def take(self, of: tuple[int, ...], step: int) -> Plan | None:
        """Return a plan that was drawn ahead, once; None where there is none.

        Args:
            of: number of rows, seed, rank and worker.
            step: number of the batch.

        """
        block_of, first, plans = self.prefetched
        at = step - first
        if block_of != of or not 0 <= at < len(plans):
            return None
        plan, plans[at] = plans[at], None  # it is the caller's to change
        return plan

    def _numbers(self) -> memoryview:
        """Look at the cells without PyTorch, which takes microseconds for each."""
        cells = self.cells
        if self._viewed is not cells:
            self._viewed, self._view = cells, cells.numpy().data
        return self._view

    @property
    def seed(self) -> int:
        """The seed of every draw, in [0, 2**64)."""
        return self.look()[2]

    @property
    def on(self) -> bool:
        """Return whether the vicinity mixes."""
        return self.look()[0]

    @on.setter
    def on(self, value: bool) -> None:
        self.cells[_ON] = int(value)

    @property
    def epoch(self) -> int | None:
        """The epoch that was set last; None before the first."""
        return self.look()[1]

    @epoch.setter
    def epoch(self, value: int) -> None:
        check_epoch(value)
        self.cells[_EPOCH] = int(value)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers: seed, switch, epoch, and the steps counted by the main process and by each worker.

        Beside them stand a format number and a checksum.
        """
        return _stored.sealed(self.numbers(), FORMAT)

    def numbers(self) -> dict[str, Any]:
        """Return what `state_dict` returns, without format and checksum."""
        on, epoch, seed = self.look()
        steps = np.trim_zeros(self.cells[_STEPS:].numpy(), "b").tolist() or [0]
        return {"seed": seed, "on": on, "epoch": epoch, "steps": steps}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; nothing changes if it is not that, or of another given seed.

        Raises:
            TypeError: values is not a dict.
            ValueError: a field is missing, damaged or out of range, or a later version wrote it; or the seed is another.

        """
        read = _checked(values)
        seed = read.get("seed", self.seed)  # the first states had none
        if self.given and seed != self.seed:
            raise ValueError(
                f"this state was saved with seed={seed}, but the vicinity was made with seed={self.seed}: make it with the "
                "same seed, or without one"
            )
        self.take_over({**read, "seed": seed})

    def take_over(self, numbers: dict[str, Any]) -> None:
        """Go on from what `numbers` returned."""
        epoch, steps = numbers["epoch"], numbers["steps"]
        cells = self.cells
        cells[_SEED] = _signed(numbers["seed"])
        cells[_ON] = int(numbers["on"])
        cells[_EPOCH] = _UNSET if epoch is None else epoch
        cells[_STEPS:] = 0
        cells[_STEPS : _STEPS + len(steps)] = torch.tensor(steps, dtype=torch.int64, device="cpu")

    def copy(self) -> State:
        """Return a state of its own that goes on where this one stands."""
        twin = State(0)
        twin.take_over(self.numbers())
        twin.given = self.given
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        return self.copy()

    def __reduce__(self) -> Any:
        if get_spawning_popen() is None:  # an ordinary pickle: a copy
            return _restore, (self.state_dict(), self.given)
        if not self.cells.is_shared():
            self._cells = self._cells.clone().share_memory_()
        return _attach, (self._cells, self._owner, self.rank, self.given)


def _checked(values: Any) -> dict[str, Any]:
    """Return the numbers of a state that is read back, each of them checked."""
    what = "this is not the state of a vicinity"
    if not isinstance(values, Mapping):
        raise TypeError(f"{what}, which is a dict, but {shown(values)}: give what state_dict returned")
    of = _stored.Fields(values, what, "take the state of another checkpoint, or begin anew without one")
    is_sealed = of.check_names(FORMAT, ("on", "epoch", "steps"), ("seed",))
    read: dict[str, Any] = {"on": of.flag("on"), "epoch": None}
    if "seed" in values:
        read["seed"] = of.integer("seed", 0, _UINT64)
    if values["epoch"] is not None:
        read["epoch"] = of.integer("epoch", 0, 1 << 63)
    steps = of.sequence("steps", 1, _WORKERS, f"up to {_WORKERS} counts >= 0")
    read["steps"] = [of.as_integer(f"steps[{i}]", count, 0, 1 << 63) for i, count in enumerate(steps)]
    if is_sealed:
        of.check_sum()
    return read


# -- which process this is ----------------------------------------------------------------------------------------------


def fresh_seed() -> int:
    """Return a seed in [0, 2**64) that no other call in this process returns, decided by PyTorch's seed.

    It depends on `torch.initial_seed()`, which is read and not moved, and on how many seeds this process has asked for.
    """
    # splitmix64 (Steele et al. 2014): for one initial seed a bijection of the count, so that no two counts collide
    z = (torch.initial_seed() + next(_INSTANCES) * 0x9E3779B97F4A7C15) % _UINT64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % _UINT64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % _UINT64
    return z ^ z >> 31


def rank() -> int:
    """Return the rank of this process.

    That is torch.distributed's where it runs, else the RANK variable of torchrun, else the variable of Slurm, MPI,
    Horovod or Flux, else 0.
    """
    if _DISTRIBUTED and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    rank = os.environ.get("RANK")
    return _rank_of("RANK", rank) if rank else _launched_rank()


@functools.cache  # a launcher sets its variables before the process starts
def _launched_rank() -> int:
    for name in _LAUNCHERS:
        if value := os.environ.get(name):
            return _rank_of(name, value)
    return 0


def _rank_of(name: str, value: str) -> int:
    if not value.strip().isdecimal():
        raise ValueError(f"the variable {name} says which process this is and must be an integer >= 0, got {value!r}")
    return int(value)


def worker() -> int:
    """Return the worker of this process: 0 in the main process, 1 + id in a DataLoader worker."""
    info = torch.utils.data.get_worker_info()
    return 0 if info is None else info.id + 1


# -- memory that processes share ----------------------------------------------------------------------------------------


def _signed(seed: int) -> int:
    """Return the int64 of the same bits."""
    return seed - _UINT64 if seed >= _UINT64 // 2 else seed


def _page() -> Tensor:
    """Return anonymous memory: it costs microseconds and no file handle, and forked workers share it as it is."""
    with torch.inference_mode(False):  # whatever mode a vicinity is made in, its counts must move
        return torch.frombuffer(mmap.mmap(-1, (_STEPS + _WORKERS) * 8), dtype=torch.int64)


def _restore(values: dict[str, Any], given: bool) -> State:
    state = State(0)
    state.given = False
    state.load_state_dict(values)
    state.given = given
    return state


def _attach(cells: Tensor, owner: int, rank: int, given: bool) -> State:
    state = State(0)
    state._cells, state._owner, state._rank, state.given = cells, owner, rank, given
    return state
