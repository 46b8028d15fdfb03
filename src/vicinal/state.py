"""The little that the one-line form must remember: a step counter, the epoch, and whether it is on.

It lives in memory that DataLoader workers share with the main process, persistent ones too: what the main process
sets, they see at their next batch. Each process counts its own steps in a cell of its own, so nothing races, and the
counts outlive workers that come and go with every epoch.
"""

from __future__ import annotations

import mmap
from multiprocessing import context
from typing import Any

import torch
import torch.multiprocessing  # lets tensors in shared memory travel to processes that are spawned
from torch import Tensor

from vicinal import random

_WORKERS = 509  # with the three cells before them, one page
_ON, _EPOCH, _RANK, _STEPS = 0, 1, 2, 3
_UNSET = -1


class State:
    """Counter, epoch and switch of one vicinity; shared with forked and spawned DataLoader workers."""

    def __init__(self) -> None:
        # an anonymous page costs microseconds and no file handle; forked workers share it as it is
        self._cells: Tensor = torch.frombuffer(mmap.mmap(-1, (_STEPS + _WORKERS) * 8), dtype=torch.int64)
        self._cells[_ON] = 1
        self._cells[_EPOCH] = _UNSET
        self._cells[_RANK] = _UNSET

    @property
    def rank(self) -> int:
        """Rank of this process; a spawned worker cannot ask torch.distributed and has it from its parent."""
        told = int(self._cells[_RANK])
        return random.rank() if told == _UNSET else told

    def next_step(self, worker: int) -> int:
        """Count one batch of this worker and give its number, from 0."""
        if worker >= _WORKERS:
            raise ValueError(f"at most {_WORKERS - 1} DataLoader workers are counted, this is worker {worker}")
        step = int(self._cells[_STEPS + worker])
        self._cells[_STEPS + worker] = step + 1
        return step

    @property
    def on(self) -> bool:
        """Whether the vicinity mixes."""
        return bool(self._cells[_ON])

    @on.setter
    def on(self, value: bool) -> None:
        self._cells[_ON] = int(value)

    @property
    def epoch(self) -> int | None:
        """The epoch that was set last; None before the first."""
        epoch = int(self._cells[_EPOCH])
        return None if epoch == _UNSET else epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        if value < 0:
            raise ValueError(f"epochs count from 0, got {value}")
        self._cells[_EPOCH] = value

    def state_dict(self) -> dict[str, Any]:
        """Give plain numbers: switch, epoch, and the steps counted by the main process and by each worker."""
        steps = self._cells[_STEPS:].tolist()
        while len(steps) > 1 and steps[-1] == 0:
            steps.pop()
        return {"on": self.on, "epoch": self.epoch, "steps": steps}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        missing = {"on", "epoch", "steps"} - values.keys()
        if missing:
            raise ValueError(f"this is not the state of a vicinity: {sorted(missing)} missing")
        self.on = values["on"]
        self._cells[_EPOCH] = _UNSET if values["epoch"] is None else values["epoch"]
        self._cells[_STEPS:] = 0
        self._cells[_STEPS : _STEPS + len(values["steps"])] = torch.tensor(values["steps"], dtype=torch.int64)

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        copy = State()
        copy._cells.copy_(self._cells)
        return copy

    def __reduce__(self) -> Any:
        if context.get_spawning_popen() is None:  # an ordinary pickle: a copy
            return _restore, (self.state_dict(),)
        if not self._cells.is_shared():
            self._cells = self._cells.clone().share_memory_()
        self._cells[_RANK] = random.rank()
        return _attach, (self._cells,)


def _restore(values: dict[str, Any]) -> State:
    state = State()
    state.load_state_dict(values)
    return state


def _attach(cells: Tensor) -> State:
    state = State()
    state._cells = cells
    return state
