"""Timing on a device: candidates take turns in random order, each over many calls between two readings of its clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from bench import timing

Candidates = Mapping[str, Callable[[], Any]]


class NotAvailable(Exception):
    """A candidate cannot be measured on this machine, for the reason given."""


def seconds(candidate: Callable[[], Any], calls: int, device: torch.device) -> float:
    """Give seconds a call: by events of the device on CUDA, by wall clock elsewhere."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            candidate()
        return (time.perf_counter() - start) / calls
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    first.record()
    for _ in range(calls):
        candidate()
    last.record()
    torch.cuda.synchronize(device)
    return first.elapsed_time(last) / 1e3 / calls


def table(candidates: Candidates, reference: str, device: torch.device, smoke: bool) -> dict[str, Any]:
    """Measure candidates.

    Returns:
        For each: quartiles of "ms" a call and of its "ratio" to `reference` within the round; or, for those that raised
        `NotAvailable` at their first call, {"not available": reason}.

    """
    rounds, least = (2, 0.0) if smoke else (15, 0.02)
    rows: dict[str, Any] = {}
    calls: dict[str, int] = {}
    for name, candidate in candidates.items():
        try:
            candidate()  # compiles, allocates
        except NotAvailable as reason:
            rows[name] = {"not available": str(reason)}
            continue
        for _ in range(0 if smoke else 3):
            candidate()
        calls[name] = max(1, min(1000, int(least / max(seconds(candidate, 1, device), 1e-7))))
    order = np.random.Generator(np.random.Philox(0))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for i in order.permutation(len(calls)):
            name = list(calls)[i]
            times[name].append(seconds(candidates[name], calls[name], device))
    return rows | timing.against(times, reference)


def need_cuda(device: torch.device) -> None:
    """Refuse a device without CUDA, as a result that is written down."""
    if device.type != "cuda":
        raise NotAvailable(f"no CUDA here: the device is {device}")
