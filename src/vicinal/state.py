"""The little that the one-line form must remember: a step counter, the epoch, and whether it is on.

It lives in memory that DataLoader workers share with the main process, persistent ones too: what the main process
sets, they see at their next batch. Each process counts its own steps in a cell of its own, so nothing races, and the
counts outlive workers that come and go with every epoch. Any other process that inherits a state (a rank, one run of a
sweep) takes a copy and goes its own way.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Sequence
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Any

import torch
import torch.multiprocessing  # lets tensors in shared memory travel to processes that are spawned
from torch import Tensor

from vicinal import random

if TYPE_CHECKING:
    from vicinal.plan import Plan

_WORKERS = 510  # with the two cells before them, one page
_ON, _EPOCH, _STEPS = 0, 1, 2
_UNSET = -1

# a process that is to have workers of its own must own its states before it forks them
_LIVE: weakref.WeakSet[State] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lambda: [state.cells for state in list(_LIVE)])


class State:
    """Counter, epoch and switch of one vicinity; shared with forked and spawned DataLoader workers."""

    def __init__(self) -> None:
        self._cells = _page()
        self._viewed: Tensor | None = None
        self._view = memoryview(b"")
        self._cells[_ON] = 1
        self._cells[_EPOCH] = _UNSET
        self._owner = os.getpid()
        self._rank: int | None = None  # the owner's, in a spawned worker
        # for which batches plans are drawn ahead, the step of the first, and the plans
        self.ahead: tuple[tuple[int, ...], int, Sequence[Plan]] = ((), 0, ())
        self.batch_before: tuple[int, ...] = ()
        _LIVE.add(self)

    @property
    def cells(self) -> Tensor:
        """The owner's memory for itself and its DataLoader workers; another process comes to own a copy here."""
        if self._owner != os.getpid() and random.worker() == 0:
            self._cells = _page().copy_(self._cells)
            self._owner = os.getpid()
            self._rank = None
        return self._cells

    @property
    def rank(self) -> int:
        """Rank of this process; a spawned worker cannot ask torch.distributed and has it from the owner."""
        return random.rank() if self._rank is None or random.worker() == 0 else self._rank

    def next_step(self, worker: int) -> int:
        """Count one batch of this worker and give its number, from 0."""
        if worker >= _WORKERS:
            raise ValueError(f"at most {_WORKERS - 1} DataLoader workers are counted, this is worker {worker}")
        cells = self._numbers()
        step = cells[_STEPS + worker]
        cells[_STEPS + worker] = step + 1
        return step

    def _numbers(self) -> memoryview:
        """Look at the cells without PyTorch, which takes microseconds for each."""
        cells = self.cells
        if self._viewed is not cells:
            self._viewed, self._view = cells, cells.numpy().data
        return self._view

    @property
    def on(self) -> bool:
        """Whether the vicinity mixes."""
        return bool(self._numbers()[_ON])

    @on.setter
    def on(self, value: bool) -> None:
        self.cells[_ON] = int(value)

    @property
    def epoch(self) -> int | None:
        """The epoch that was set last; None before the first."""
        epoch = self._numbers()[_EPOCH]
        return None if epoch == _UNSET else epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        if value < 0:
            raise ValueError(f"epochs count from 0, got {value}")
        self.cells[_EPOCH] = value

    def state_dict(self) -> dict[str, Any]:
        """Give plain numbers: switch, epoch, and the steps counted by the main process and by each worker."""
        steps = self.cells[_STEPS:].tolist()
        while len(steps) > 1 and steps[-1] == 0:
            steps.pop()
        return {"on": self.on, "epoch": self.epoch, "steps": steps}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; nothing changes if it is not that."""
        missing = {"on", "epoch", "steps"} - values.keys()
        if missing:
            raise ValueError(f"this is not the state of a vicinity: {sorted(missing)} missing")
        steps = torch.tensor(values["steps"], dtype=torch.int64)
        if steps.ndim != 1 or len(steps) > _WORKERS or (steps < 0).any():
            raise ValueError(f"steps must be up to {_WORKERS} counts >= 0, got {values['steps']}")
        if values["epoch"] is None:
            self.cells[_EPOCH] = _UNSET
        else:
            self.epoch = values["epoch"]
        self.on = values["on"]
        self.cells[_STEPS:] = 0
        self.cells[_STEPS : _STEPS + len(steps)] = steps

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        return _restore(self.state_dict())

    def __reduce__(self) -> Any:
        if get_spawning_popen() is None:  # an ordinary pickle: a copy
            return _restore, (self.state_dict(),)
        if not self.cells.is_shared():
            self._cells = self._cells.clone().share_memory_()
        return _attach, (self._cells, self._owner, self.rank)


def _page() -> Tensor:
    """Give an anonymous page: it costs microseconds and no file handle, and forked workers share it as it is."""
    return torch.frombuffer(mmap.mmap(-1, (_STEPS + _WORKERS) * 8), dtype=torch.int64)


def _restore(values: dict[str, Any]) -> State:
    state = State()
    state.load_state_dict(values)
    return state


def _attach(cells: Tensor, owner: int, rank: int) -> State:
    state = State()
    state._cells, state._owner, state._rank = cells, owner, rank
    return state
