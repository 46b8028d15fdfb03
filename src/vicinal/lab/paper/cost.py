"""Section 5: what mixup costs, in time and in memory."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

import vicinal
from vicinal.keyed import Key
from vicinal.lab import models
from vicinal.lab.paper.claims import Claim, Evidence
from vicinal.lab.paper.rows import first_done
from vicinal.lab.paper.study import AtScale, Job, Results, Row, Scale, Study
from vicinal.lab.records import to_json
from vicinal.lab.streams import Stream
from vicinal.lab.training import distributed


@dataclass(frozen=True)
class Case:
    """A model, a batch for it, and the paper's alpha: mixup is drawn and applied inside the step."""

    model: str
    shape: tuple[int, ...]
    classes: int
    alpha: float


@dataclass(frozen=True)
class CostScale(AtScale):
    """A scale of the study of cost: the models, and how many times how many steps each is timed."""

    cases: tuple[Case, ...] = ()
    rounds: int = 5
    steps: int = 10


_CPU = ("Models and batches that a CPU trains, one thread per process.",)
_IDLE = "2 CPU cores, with nothing else running"
SCALES: Mapping[Scale, CostScale] = {
    "smoke": CostScale(
        data="none (random batches)",
        minutes=0.1,
        deviations=_CPU,
        device=_IDLE,
        cases=(Case("small", (8, 3, 32, 32), 10, 1.0),),
        rounds=2,
        steps=1,
    ),
    "small": CostScale(
        data="none (random batches)",
        minutes=3,
        deviations=_CPU,
        device=_IDLE,
        cases=(
            Case("small", (128, 3, 32, 32), 10, 1.0),
            Case("preact-resnet-18-narrow", (128, 3, 32, 32), 10, 1.0),
            Case("preact-resnet-18", (16, 3, 32, 32), 10, 1.0),
            Case("lenet", (100, 1, 160, 101), 30, 0.1),
        ),
    ),
    "paper": CostScale(
        data="none (random batches)",
        minutes=10,
        device="1 GPU",
        full=True,
        cases=(
            Case("preact-resnet-18", (128, 3, 32, 32), 10, 1.0),
            Case("wrn-28-10", (128, 3, 32, 32), 10, 1.0),
            Case("vgg-11", (100, 1, 160, 101), 30, 0.2),
            Case("resnet-50", (64, 3, 224, 224), 1000, 0.2),
        ),
    ),
}
METHODS: tuple[str, ...] = ("ERM", "mixup")
TOLERANCE = 2.0  # % of a step's time that counts as little


@dataclass(frozen=True)
class StepCost:
    """What a job returned, by method: the seconds of a step, one value per round, and its bytes; the batch."""

    seconds: dict[str, list[float]]
    bytes: dict[str, int]
    batch: list[int]
    device: str


class CostStudy(Study):
    """What does mixup cost?

    Paper: a few lines of code, "little or no computation overhead"; no numbers. Here: whole training steps (forward,
    backward, SGD with momentum), of ERM and of mixup in turn on the same batch, with the draw and the mixing inside the
    step; a value is the median of a round's steps, and the overhead is that of the medians. "Little" is taken as up to 2 %
    of the step's time on average over the rounds. Memory is the most that is
    allocated at once during a step beyond what is there before it, as PyTorch's profiler counts it.
    """

    name = "cost"
    section = "5, discussion"
    title = "What mixup costs"
    scales = SCALES

    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Measure each model by itself."""
        at = SCALES[scale]
        return [Job(case.model, partial(measure, case, at.rounds, at.steps), kind=StepCost) for case in at.cases]

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return the time and the memory of a step, for each model."""
        cases = SCALES[scale].cases
        return [row for case in cases for row in _rows(case, first_done(StepCost, done, [case.model]))]

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return the claim of section 5, for each model."""
        if scale == "smoke":
            return ()
        cases = SCALES[scale].cases
        evidence = (_evidence(case, first_done(StepCost, done, [case.model])) for case in cases)
        return (
            Claim(
                "mixup adds little or no computation",
                "5",
                tuple(evidence),
                f"time alone, on {SCALES[scale].device}; the tolerance of {TOLERANCE:g} % was settled after these runs",
            ),
        )


def _evidence(case: Case, found: Sequence[StepCost]) -> Evidence:
    what = f"{_title(case)}: time of a step, mixup against ERM"
    return Evidence(what, "% of a step's time", _more_time(found), "equal", TOLERANCE)


def _more_time(found: Sequence[StepCost]) -> tuple[float, ...]:
    """Return how much longer mixup's step takes than ERM's, in %, for each round."""
    return tuple(
        100 * (mixup / erm - 1)
        for cost in found
        for erm, mixup in zip(cost.seconds["ERM"], cost.seconds["mixup"], strict=True)
    )


def _title(case: Case) -> str:
    return f"{case.model}, batch of {case.shape[0]}"


def _rows(case: Case, found: Sequence[StepCost]) -> Iterator[Row]:
    """Yield the rows of a case; `found` is empty if it was not run."""
    title = _title(case)
    seconds = {method: [value for cost in found for value in cost.seconds[method]] for method in METHODS}
    for method in METHODS:
        milliseconds = tuple(1e3 * value for value in seconds[method])
        yield Row(f"{title}, {method}, time", "of a step, ms", values=milliseconds)
    yield Row(f"{title}, more time", "mixup over ERM, %", values=_more_time(found))
    for method in METHODS:
        memory = tuple(cost.bytes[method] / 2**20 for cost in found)
        yield Row(f"{title}, {method}, memory", "of a step, MiB", values=memory)


def measure(case: Case, rounds: int, steps: int, folder: Path) -> dict[str, Any]:
    """Time rounds of steps, ERM's and mixup's in turn; then the memory of one step of each: a `StepCost`."""
    device = distributed.device()
    generator = Key(0, 0, 0, 0, Stream.COST).generator()
    x = torch.from_numpy(generator.standard_normal(case.shape, dtype="float32")).to(device)
    y = torch.from_numpy(generator.integers(0, case.classes, case.shape[0])).to(device)
    model = models.build(case.model, case.classes).to(device)
    sgd = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    vicinities = {"ERM": vicinal.ERM(seed=0), "mixup": vicinal.Mixup(case.alpha, seed=0)}

    def step(method: str) -> None:
        mixed, target = vicinities[method](x, y)
        sgd.zero_grad()
        F.cross_entropy(model(mixed), target).backward()
        sgd.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    for method in METHODS:  # buffers and kernels are made in the first step
        step(method)
    taken = np.empty((rounds, steps, len(METHODS)))
    for place in np.ndindex(taken.shape):
        start = time.perf_counter()
        step(METHODS[place[-1]])
        taken[place] = time.perf_counter() - start
    seconds = dict(zip(METHODS, np.median(taken, axis=1).T.tolist(), strict=True))
    memory = {}
    for method in METHODS:
        sgd.zero_grad()  # what the step before left counts as this one's, and the profiler knows its size
        memory[method] = _peak(partial(step, method), device)
    return to_json(StepCost(seconds, memory, list(case.shape), device.type))


def _peak(step: Callable[[], None], device: torch.device) -> int:
    """Return the most bytes allocated at once during a step, beyond what was there before it."""
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
    changes.sort(key=lambda event: event["ts"])
    return max(accumulate((event["args"]["Bytes"] for event in changes), initial=0))
