"""Keyed randomness: every draw is a pure function of (seed, rank, worker, step).

No global generator is read or moved, so a draw is the same after a resume, on any device and whatever else
the program draws, and differs by default between ranks, loader workers and steps.

The numbers come from Philox (Salmon et al. 2011), a counter-based generator: the key holds (seed, rank, worker), the
counter holds (stream, step), so that two different keys can never share a number.
"""

from __future__ import annotations

import numbers
import threading
from typing import NamedTuple

import numpy as np

from vicinal._checks import shown

DRAWS = 1  # the version of all draws: what a key and the arguments of a vicinity give (docs/development/versions.md)
_CHILDREN = 64  # vicinities that one composition may hold: streams are numbered as a tree with this many branches
_UINT64 = 2**64
_UINT32 = 2**32


class Key(NamedTuple):
    """The name of a draw.

    Args:
        seed: chosen by the user, 0 <= seed < 2**64.
        rank: process of a distributed job, 0 <= rank < 2**32.
        worker: 0 in the main process, 1 + id in a DataLoader worker, < 2**32.
        step: which batch of this (rank, worker), 0 <= step < 2**64.
        stream: which of the draws for this batch; compositions number their parts with `fold`.

    Examples:
        >>> key = Key(seed=1, rank=0, worker=0, step=7)
        >>> key.generator().integers(100, size=3)
        array([47, 82, 62])
        >>> key.fold(0).generator().integers(100, size=3)  # a part of what the key draws
        array([60, 14, 39])

    """

    seed: int
    rank: int
    worker: int
    step: int
    stream: int = 0

    def fold(self, i: int) -> Key:
        """Return the key of part `i` (0 <= i < 63) of whatever this key draws; no two paths of folds meet."""
        if not 0 <= i < _CHILDREN - 1:
            raise ValueError(f"one key names at most {_CHILDREN - 1} parts, tensors of a nest included, got part {i}")
        stream = self.stream * _CHILDREN + i + 1
        if stream >= _UINT64:
            raise ValueError("compositions are nested too deeply (more than 10 levels)")
        return self._replace(stream=stream)

    def check(self) -> None:
        """Refuse numbers that the generator has no room for."""
        for name, value, bound in (
            ("seed", self.seed, _UINT64),
            ("step", self.step, _UINT64),
            ("rank", self.rank, _UINT32),
            ("worker", self.worker, _UINT32),
        ):
            if (type(value) is not int and not isinstance(value, numbers.Integral)) or not 0 <= value < bound:
                raise ValueError(f"{name} must be an integer in [0, 2**{bound.bit_length() - 1}), got {shown(value)}")

    def generator(self) -> np.random.Generator:
        """Return a fresh generator; the same key always gives the same numbers."""
        self.check()
        key = np.array([int(self.seed), int(self.rank) * _UINT32 + int(self.worker)], dtype=np.uint64)
        counter = np.array([0, self.stream, int(self.step), 0], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))


_THREAD = threading.local()  # holds a generator that is set to one key after the other


def reused_generator(key: Key) -> np.random.Generator:
    """Return the generator of a checked key, to be used up before this thread asks for the next one.

    It draws what `key.generator()` would, at a tenth of the cost of a fresh one.
    """
    if not hasattr(_THREAD, "generator"):
        _THREAD.start = np.random.Philox(key=np.zeros(2, np.uint64), counter=np.zeros(4, np.uint64)).state
        _THREAD.bits = np.random.Philox(0)
        _THREAD.generator = np.random.Generator(_THREAD.bits)  # last: what is there is whole
    start = _THREAD.start
    words = start["state"]
    words["key"][0] = key.seed
    words["key"][1] = int(key.rank) * _UINT32 + int(key.worker)
    words["counter"][1] = key.stream
    words["counter"][2] = key.step
    _THREAD.bits.state = start
    return _THREAD.generator
