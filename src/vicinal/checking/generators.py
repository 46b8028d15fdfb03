"""The global generators that pipelines draw from: seeded for a check, put back after it, begun as in a new process."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_TORCH_SEED = 67280421310721  # what PyTorch's generator begins with in each process


@contextmanager
def kept() -> Iterator[None]:
    """Put PyTorch's, NumPy's and Python's generators back at the end of this block."""
    states = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.random.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def seed_all(torch_seed: int, other: int | None = None) -> None:
    """Set the three generators.

    Args:
        torch_seed: PyTorch's.
        other: NumPy's and Python's; None: the same.

    """
    other = torch_seed if other is None else other
    torch.default_generator.manual_seed(torch_seed)
    np.random.set_state(np.random.RandomState(other).get_state())
    random.seed(other)


@contextmanager
def as_new_process(number: int, rank: int = 0, world: int = 1) -> Iterator[None]:
    """Begin generators as in a new process: PyTorch's by its constant, others by what the system gives, here `number`.

    The variables of torchrun say which rank it is, until the end of this block.
    """
    before = {name: os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)})
    seed_all(_TORCH_SEED, 1000 + number)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def kinds() -> tuple[type, ...]:
    """Return the classes of generators that a program may own; `numpy.random` is imported when it is asked for."""
    return np.random.Generator, np.random.RandomState, torch.Generator, random.Random


def state_of(generator: Any) -> Any:
    """Return the state of a generator of one of these kinds."""
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def set_state(generator: Any, state: Any) -> None:
    """Set the state of a generator of one of these kinds."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
