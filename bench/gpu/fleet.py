"""A thousand to a hundred thousand small models at once on the device: runs a second.

Two figures: the fleet as it is, whose plans are drawn on the host, an epoch at once; and its arithmetic alone, with the
mixed batches of a few steps made beforehand and used again. The first says what a user gets, the second what there is to
gain by drawing elsewhere.
"""

from __future__ import annotations

import time
from typing import Any

import torch

import vicinal
from bench.gpu.queue import Slot
from vicinal.keyed import Key
from vicinal.lab.training import stacked_mlp

ROWS, INPUTS, CLASSES, EPOCHS = 341, 30, 2, 10  # breast_cancer, of which 60 % train


def run(slot: Slot) -> dict[str, Any]:
    """Measure fleets of growing size, each a part."""
    tables = {}
    for runs in (4, 8) if slot.smoke else (1_000, 10_000):
        title = f"whole-{runs}"
        # a run: initial weights, about 1 ms on a busy core of a CPU, and 22 plans of about 4 us
        tables[title] = slot.part(title, 20 + runs * 2e-3, lambda n=runs: whole(slot, n))
    for runs in (4, 8) if slot.smoke else (1_000, 10_000, 100_000):
        title = f"arithmetic-{runs}"
        tables[title] = slot.part(title, 20 + runs * 1e-3, lambda n=runs: arithmetic(slot, n))
    return tables


def _data(device: torch.device, rows: int = ROWS) -> stacked_mlp.StackedSplit:
    generator = Key(8, 0, 0, 0).generator()
    x = torch.from_numpy(generator.standard_normal((1, rows, INPUTS), dtype="float32"))
    return stacked_mlp.StackedSplit(x.to(device), (x[:, :, 0] > 0).long().to(device))


def _memory(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def whole(slot: Slot, n: int) -> dict[str, Any]:
    """Train `n` runs for one epoch, seeds and plans of their own, everything counted."""
    data = _data(slot.device)
    runs = [stacked_mlp.MLPRun(0, seed, vicinal.Mixup(0.4)) for seed in range(n)]
    _wait(slot.device)
    start = time.perf_counter()
    trained = stacked_mlp.train(runs, data, CLASSES, stacked_mlp.Training(epochs=1))
    outputs = trained.models.outputs(data.inputs[0, :8])
    finite = bool(outputs.isfinite().all())
    seconds = time.perf_counter() - start
    return {"runs": n, "seconds, 1 epoch": seconds, "finite": finite, "memory_GiB": _memory(slot.device)}


def arithmetic(slot: Slot, n: int) -> dict[str, Any]:
    """Take the steps of `n` runs with mixed batches at hand: forward, backward and AdamW."""
    training = stacked_mlp.Training()
    data = _data(slot.device, rows=3 * training.batch)  # an epoch of three batches
    runs = [stacked_mlp.MLPRun(0, seed % 100, vicinal.Mixup(0.4)) for seed in range(n)]  # initial weights by 100 seeds
    models = stacked_mlp.StackedMLP.initial([r.seed for r in runs], INPUTS, training.hidden, CLASSES, torch.float32)
    models = models.to(slot.device)
    optimizer = stacked_mlp._Optimizer(models, runs, training)
    _wait(slot.device)
    start = time.perf_counter()
    mixed = list(stacked_mlp._batches(runs, data, stacked_mlp._numbers(data, CLASSES), 0, 0, training.batch))
    _wait(slot.device)
    drawing = (time.perf_counter() - start) / len(mixed)
    steps = 3 if slot.smoke else 30
    optimizer.step(0, stacked_mlp._gradients(models, *mixed[0], CLASSES))
    _wait(slot.device)
    start = time.perf_counter()
    for step in range(1, steps + 1):
        optimizer.step(step, stacked_mlp._gradients(models, *mixed[step % len(mixed)], CLASSES))
    _wait(slot.device)
    seconds = (time.perf_counter() - start) / steps
    of_a_run = stacked_mlp.Training(epochs=EPOCHS).steps(ROWS)
    return {
        "runs": n,
        "seconds a step": seconds,
        "seconds to draw plans and mix, a step": drawing,
        "steps of a run": of_a_run,
        "runs a second, if steps were all": n / (seconds * of_a_run),
        "memory_GiB": _memory(slot.device),
    }
