"""What is measured on trained models: error, likelihood, calibration; or root mean squared error for regression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vicinal import metrics
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.training.stacked_mlp import MLPRun, StackedMLP

_BLOCK = 2**22  # numbers of a hidden layer, over all models, that one block of rows may take


def outputs(models: StackedMLP, x: TableInputs) -> Tensor:
    """Compute outputs [R, n, C] of all models for inputs [n, D], a block of rows at a time."""
    width = max(x.width // len(models), *(weight.shape[2] for weight in models.weights))
    rows = max(1, _BLOCK // (len(models) * width))
    return torch.cat([models.outputs(block) for block in x.blocks(rows)], dim=1)


def evaluate(
    models: StackedMLP,
    runs: Sequence[MLPRun],
    part: StackedSplit,
    classes: int,
    scales: Sequence[float],
    detail: bool = False,
) -> list[dict[str, Any]]:
    """Measure each model on its split's rows of `part`.

    Args:
        models: R models.
        runs: their runs, in the same order; those of one split are measured together.
        part: the rows.
        classes: number of classes, or 0 for regression.
        scales: for each split, the standard deviation of its regression target, in the table's unit.
        detail: add the reliability diagram.

    Returns:
        Per run {"error", "nll", "brier", "ece"}: fractions and nats; or {"rmse", "mae", "r2"} in the table's unit.

    """
    measured: list[dict[str, Any]] = [{} for _ in runs]
    for split in dict.fromkeys(run.split for run in runs):
        mine = [i for i, run in enumerate(runs) if run.split == split]
        out, y = outputs(models[mine], part.inputs[split]), part.targets[split]
        scores = classification(out, y, detail) if classes else regression(out[..., 0], y, scales[split])
        for i, score in zip(mine, scores, strict=True):
            measured[i] = score
    return measured


def classification(logits: Tensor, y: Tensor, detail: bool = False) -> list[dict[str, Any]]:
    """Measure R models by their logits [R, n, C] for class indices int64 [n], as `evaluate` says."""
    log_p = logits.to(torch.float64).log_softmax(-1)
    p = log_p.exp()
    ids = y.expand(p.shape[:-1])
    diagram = metrics.reliability(p, ids)
    columns = {
        "error": (logits.argmax(-1) != y).to(torch.float64).mean(-1),
        "nll": -log_p.gather(-1, ids[..., None]).squeeze(-1).mean(-1),  # from logits: no probability underflows to 0
        "brier": metrics.brier(p, ids),
        "ece": diagram.ece,
    }
    scores: list[dict[str, Any]] = [
        {name: float(values[r]) for name, values in columns.items()} for r in range(len(logits))
    ]
    if detail:
        for r, score in enumerate(scores):
            score["reliability"] = {
                "count": diagram.count[r].long().tolist(),
                "confidence": _or_none(diagram.confidence[r]),
                "accuracy": _or_none(diagram.accuracy[r]),
            }
    return scores


def _or_none(values: Tensor) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def regression(out: Tensor, y: Tensor, scale: float) -> list[dict[str, Any]]:
    """Measure R models by their outputs [R, n] for standardized targets [n]; `scale` is the target's unit."""
    residual = (out - y).to(torch.float64)
    squared = residual.square().mean(-1)
    variance = y.to(torch.float64).var(correction=0)
    return [
        {
            "rmse": float(squared[r].sqrt() * scale),
            "mae": float(residual[r].abs().mean() * scale),
            "r2": float(1 - squared[r] / variance),
        }
        for r in range(len(out))
    ]
