"""Section 5: what mixup costs, in time and in memory."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

import vicinal
from vicinal.keyed import Key
from vicinal.lab import models
from vicinal.lab.paper.study import Job, Requirements, Results, Row, Scale, Study
from vicinal.lab.streams import Stream
from vicinal.lab.training import distributed


@dataclass(frozen=True)
class Case:
    """A model, a batch for it, and the paper's alpha: mixup is drawn and applied inside the step."""

    model: str
    shape: tuple[int, ...]
    classes: int
    alpha: float


SIZES: dict[Scale, tuple[Case, ...]] = {
    "smoke": (Case("small", (8, 3, 32, 32), 10, 1.0),),
    "small": (
        Case("small", (128, 3, 32, 32), 10, 1.0),
        Case("preact-resnet-18-narrow", (128, 3, 32, 32), 10, 1.0),
        Case("preact-resnet-18", (16, 3, 32, 32), 10, 1.0),
        Case("lenet", (100, 1, 160, 101), 30, 0.1),
    ),
    "paper": (
        Case("preact-resnet-18", (128, 3, 32, 32), 10, 1.0),
        Case("wrn-28-10", (128, 3, 32, 32), 10, 1.0),
        Case("vgg-11", (100, 1, 160, 101), 30, 0.2),
        Case("resnet-50", (64, 3, 224, 224), 1000, 0.2),
    ),
}
METHODS = ("ERM", "mixup")


class CostStudy(Study):
    """What does mixup cost?

    Paper: a few lines of code, "little or no computation overhead"; no numbers. Here: whole training steps (forward,
    backward, SGD with momentum), of ERM and of mixup in turn on the same batch, with the draw and the mixing inside the
    step; a value is the median of a round's steps, and the overhead is that of the medians. Memory is the most that is
    allocated at once during a step beyond what is there before it, as PyTorch's profiler counts it.
    """

    name = "cost"
    section = "5, discussion"
    title = "What mixup costs"

    def requirements(self, size: Scale) -> Requirements:
        """Say what it needs."""
        if size == "paper":
            return Requirements("none (random batches)", 10, "1 GPU")
        return Requirements(
            "none (random batches)", 0.1 if size == "smoke" else 3, "2 CPU cores, with nothing else running"
        )

    def deviations(self, size: Scale) -> Sequence[str]:
        """Say what is smaller."""
        if size == "paper":
            return []
        return ["Models and batches that a CPU trains, one thread a process."]

    def jobs(self, size: Scale) -> Sequence[Job]:
        """Measure each model by itself."""
        rounds, steps = (2, 1) if size == "smoke" else (5, 10)
        return [Job(case.model, partial(measure, case, rounds, steps)) for case in SIZES[size]]

    def rows(self, size: Scale, done: Results) -> Sequence[Row]:
        """Give for each model the time and the memory of a step."""
        listed = []
        for case in SIZES[size]:
            found = done.get(case.model)
            title = f"{case.model}, batch of {case.shape[0]}"
            for method in METHODS:
                values = () if found is None else tuple(1e3 * value for value in found["seconds"][method])
                listed.append(Row(f"{title}, {method}, time", "of a step, ms", values=values))
            values = ()
            if found is not None:
                pairs = zip(*(found["seconds"][method] for method in METHODS), strict=True)
                values = tuple(100 * (mixup / erm - 1) for erm, mixup in pairs)
            listed.append(Row(f"{title}, more time", "mixup over ERM, %", values=values))
            for method in METHODS:
                values = () if found is None else (found["bytes"][method] / 2**20,)
                listed.append(Row(f"{title}, {method}, memory", "of a step, MiB", values=values))
        return listed


def measure(case: Case, rounds: int, steps: int, folder: Path) -> dict[str, Any]:
    """Time rounds of steps, ERM's and mixup's in turn; then the memory of one step of each.

    Returns:
        Seconds, one value a round, and bytes, for each method; the batch.

    """
    device = distributed.device()
    generator = Key(0, 0, 0, 0, Stream.COST).generator()
    x = torch.from_numpy(generator.standard_normal(case.shape, dtype="float32")).to(device)
    y = torch.from_numpy(generator.integers(0, case.classes, case.shape[0])).to(device)
    model = models.build(case.model, case.classes).to(device)
    sgd = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    vicinities = {"ERM": vicinal.ERM(seed=0), "mixup": vicinal.Mixup(case.alpha, seed=0)}

    def step(method: str) -> None:
        _step(model, sgd, vicinities[method], x, y)
        if device.type == "cuda":
            torch.cuda.synchronize()

    for method in METHODS:  # buffers and kernels are made in the first step
        step(method)
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    for _ in range(rounds):
        taken: dict[str, list[float]] = {method: [] for method in METHODS}
        for _ in range(steps):
            for method in METHODS:
                start = time.perf_counter()
                step(method)
                taken[method].append(time.perf_counter() - start)
        for method in METHODS:
            seconds[method].append(statistics.median(taken[method]))
    memory = {}
    for method in METHODS:
        sgd.zero_grad()  # what the step before left counts as this one's, and the profiler knows its size
        memory[method] = _peak(partial(step, method), device)
    return {"seconds": seconds, "bytes": memory, "batch": list(case.shape), "device": device.type}


def _step(
    model: nn.Module, sgd: torch.optim.Optimizer, vicinity: vicinal.Vicinity, x: torch.Tensor, y: torch.Tensor
) -> None:
    mixed, target = vicinity(x, y)
    sgd.zero_grad()
    F.cross_entropy(model(mixed), target).backward()
    sgd.step()


def _peak(step: Any, device: torch.device) -> int:
    """Give the most bytes allocated at once during a step, beyond what was there before it."""
    kind = 1 if device.type == "cuda" else 0  # of PyTorch's numbers of device types
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler says on stderr that it starts and stops
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if kind else [])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        with profile(activities=activities, profile_memory=True) as profiler:
            step()
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_bytes())["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]" and event["args"]["Device Type"] == kind]
    now = most = 0
    for event in sorted(changes, key=lambda event: event["ts"]):
        now += event["args"]["Bytes"]
        most = max(most, now)
    return most
