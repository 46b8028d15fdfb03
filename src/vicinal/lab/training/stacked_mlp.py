"""Many small models trained at once: the runs of a comparison as one batch of models.

Run r is the plain loop

    for epoch in range(epochs):
        for rows in batches of a shuffled order, keyed by (seed, epoch):
            plan = vicinity.plan(len(rows), y[rows], x[rows], step=step, seed=seed, ...)
            loss = cross_entropy(mlp(plan(x[rows])), plan.target(y[rows]))     # or mse_loss
            loss.backward(); adamw.step(); step += 1

with the MLP of `models/mlp.py`, and equals it to rounding. All runs take each step together: their weights are stacked
[R, in, out], a layer is one batched product, and the gradient is written out by hand (`vicinal._stacked_layers`).
Runs of one seed share their split, their initial weights and their order of data, so that they differ in their vicinity
alone.

Shape letters: R runs, S splits, B rows of a batch, D inputs, C outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, repeat
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vicinal._adamw import AdamW
from vicinal._stacked_batches import draw_epoch, take_rows
from vicinal._stacked_layers import StackedLayers
from vicinal.keyed import Key
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.streams import Stream
from vicinal.target import MixedTarget
from vicinal.vicinity import Vicinity

_DENSE = 2**24  # numbers, 64 MiB, for which categories are one-hot from the start: a step then takes four fifths


@dataclass(frozen=True)
class MLPTraining:
    """How every run is trained; the defaults are the paper's (section 3.6)."""

    epochs: int = 10
    batch_size: int = 16
    hidden: tuple[int, ...] = (128, 128)
    learning_rate: float = 1e-3  # Adam's default, with betas (0.9, 0.999) and eps 1e-8
    patience: int | None = None  # stop a run after this many epochs without a better validation score; None: never

    def steps(self, rows: int) -> int:
        """Return the number of steps for `rows` training rows; the last, short batch of an epoch counts."""
        return self.epochs * math.ceil(rows / self.batch_size)


@dataclass(frozen=True)
class MLPRun:
    """One model: the number of the split that it trains on, its seed, its vicinity and its weight decay.

    The decay is decoupled from the gradient, as AdamW's; 0 is Adam.
    """

    split: int
    seed: int
    vicinity: Vicinity
    weight_decay: float = 0.0


class TrainResult(NamedTuple):
    """Trained models, in the order of their runs, and the epoch whose weights each of them has."""

    models: StackedMLP
    epochs: list[int]


class StackedMLP(StackedLayers):
    """R models of one shape, with initial weights of their own and as states of an `MLP`."""

    @staticmethod
    def initial(
        seeds: Sequence[int], inputs: int, hidden: Sequence[int], outputs: int, dtype: torch.dtype
    ) -> StackedMLP:
        """Draw initial weights as nn.Linear does, uniform in +-1/sqrt(in), a pure function of each seed."""
        layers = list(pairwise([inputs, *hidden, outputs]))
        drawn = {seed: _initial(seed, layers) for seed in dict.fromkeys(seeds)}
        weights, biases = (
            [torch.stack([drawn[seed][i][part] for seed in seeds]).to(dtype) for i in range(len(layers))]
            for part in (0, 1)
        )
        return StackedMLP(weights, biases)

    def outputs(self, x: Tensor) -> Tensor:
        """Compute outputs [R, n, C] for inputs [n, D], the same for all, or [R, n, D]."""
        return self.activations(x)[-1]

    def state_dict(self, run: int) -> dict[str, Tensor]:
        """Return one model as the state of an `MLP`."""
        state = {}
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            state[f"layers.{i}.weight"] = weight[run].T.contiguous()
            state[f"layers.{i}.bias"] = bias[run, 0].clone()
        return state


def _initial(seed: int, layers: list[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
    generator = Key(seed, 0, 0, 0, Stream.STACKED_WEIGHTS).generator()
    drawn = []
    for fan_in, fan_out in layers:
        bound = 1 / math.sqrt(fan_in)
        weight = generator.uniform(-bound, bound, (fan_in, fan_out))
        bias = generator.uniform(-bound, bound, (1, fan_out))
        drawn.append((torch.from_numpy(weight), torch.from_numpy(bias)))
    return drawn


def order(seed: int, epoch: int, rows: int) -> np.ndarray:
    """Return the order of the training rows in one epoch, int64 [rows]: a pure function of its arguments."""
    return Key(seed, 0, 0, epoch, Stream.ORDER).generator().permutation(rows)


def train(
    runs: Sequence[MLPRun],
    data: StackedSplit,
    classes: int,
    training: MLPTraining,
    after_epoch: Callable[[int, StackedMLP, list[int]], None] | None = None,
    score: Callable[[StackedMLP, Sequence[MLPRun]], Sequence[float]] | None = None,
) -> TrainResult:
    """Train all runs together.

    Args:
        runs: the runs.
        data: the training rows of the splits; their dtype and device are the models'.
        classes: number of classes, or 0 for regression (one output, squared error).
        training: how.
        after_epoch: called with the number of epochs done (1, 2, ...), the models still in training, and the
            positions of their runs.
        score: for `training.patience`: returns one number per model, lower is better; called after each epoch.
            A run that has not improved for `patience` epochs stops; each run ends with its best weights.

    Raises:
        ValueError: a run's vicinity does not fit the data (it says how), or patience and score do not come together.

    """
    if (training.patience is None) != (score is None):
        raise ValueError("patience and score come together: one says how long to wait, the other for what")
    if data.inputs.rows * len(data.inputs.numbers) * data.inputs.width <= _DENSE:
        data = replace(data, inputs=TableInputs(data.inputs.dense()))
    models = StackedMLP.initial(
        [run.seed for run in runs], data.inputs.width, training.hidden, classes or 1, data.inputs.dtype
    ).to(data.inputs.device)
    optimizer = AdamW(models.parameters, 0.0, fused=True)
    kept = _kept(runs, training.learning_rate, data.inputs.numbers)
    best = _Best(models)
    active = list(range(len(runs)))
    step = 0
    for epoch in range(training.epochs):
        mine = [runs[i] for i in active]
        for x_RBD, t_RBC in _batches(mine, data, classes, epoch, step, training.batch_size):
            gradients = _gradients(models, x_RBD, t_RBC, classes)
            if kept is not None:  # each run its own decay, before Adam's step
                for parameter in models.parameters:
                    parameter.mul_(kept)
            optimizer.step(gradients, training.learning_rate)
            step += 1
        if after_epoch is not None:
            after_epoch(epoch + 1, models, active)
        if score is not None and training.patience is not None:
            waited = best.update(epoch + 1, active, models, score(models, mine))
            keep = [i for i, epochs in enumerate(waited) if epochs < training.patience]
            if not keep:
                break
            if len(keep) < len(active):
                active, models = [active[i] for i in keep], models[keep]
                optimizer = optimizer.select(keep, models.parameters)
                kept = None if kept is None else kept[keep]
    if score is not None:
        return TrainResult(best.models, best.epochs)
    return TrainResult(models, [training.epochs] * len(runs))


def _kept(runs: Sequence[MLPRun], learning_rate: float, like: Tensor) -> Tensor | None:
    """Return the share of its weights [R, 1, 1] that each run keeps in a step; None where no weight decays."""
    decays = [run.weight_decay for run in runs]
    return 1 - learning_rate * like.new_tensor(decays)[:, None, None] if any(decays) else None


def _batches(
    runs: Sequence[MLPRun], data: StackedSplit, classes: int, epoch: int, step: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the mixed batches of one epoch: inputs [R, B, D] and numeric targets [R, B, C], in each run's own order."""
    rows = data.inputs.rows
    shuffled = {seed: order(seed, epoch, rows) for seed in {run.seed: None for run in runs}}
    order_RN = torch.from_numpy(np.stack([run.split * rows + shuffled[run.seed] for run in runs]))
    parts = order_RN.to(data.inputs.device).split(batch_size, dim=1)
    inputs, targets = data.inputs.flatten(), data.targets.flatten()
    numbers = F.one_hot(targets, classes).to(inputs.dtype) if classes else targets[:, None]
    seeds, sizes = [run.seed for run in runs], [part.shape[1] for part in parts]
    pairs = draw_epoch([run.vicinity for run in runs], seeds, sizes, step, inputs.device)
    for rows_RB, pair in zip(parts, repeat(None, len(parts)) if pairs is None else pairs, strict=True):
        x, t = inputs.take(rows_RB), take_rows(numbers, rows_RB)
        if pair is None:
            yield _mix_one_by_one(runs, x, targets[rows_RB], t, epoch, step)
        else:
            other_RB, own_R11 = rows_RB.gather(1, pair[0]), pair[1].to(x.dtype)
            yield inputs.take(other_RB).lerp_(x, own_R11), take_rows(numbers, other_RB).lerp_(t, own_R11)
        step += 1


def _mix_one_by_one(
    runs: Sequence[MLPRun], x_RBD: Tensor, y_RB: Tensor, t_RBC: Tensor, epoch: int, step: int
) -> tuple[Tensor, Tensor]:
    """Draw and apply each run's plan by itself."""
    inputs, targets = [], []
    for run, x, y, t in zip(runs, x_RBD, y_RB, t_RBC, strict=True):
        plan = run.vicinity.plan(len(y), y, x, step=step, epoch=epoch, seed=run.seed, rank=0, worker=0)
        target = plan.target(y)
        inputs.append(plan(x))
        targets.append(target.dense(t.shape[1], x.dtype) if isinstance(target, MixedTarget) else target[:, None])
    return _stacked(inputs), _stacked(targets)


def _stacked(parts: list[Tensor]) -> Tensor:
    """Stack batches; where one has more rows (`Beside`), those with fewer are repeated, which changes no mean over rows."""
    most = math.lcm(*map(len, parts))
    return torch.stack([part if len(part) == most else torch.cat([part] * (most // len(part))) for part in parts])


class _Best:
    """The best weights of each run so far, and their epochs; the last ones until a score is a finite number."""

    def __init__(self, models: StackedMLP) -> None:
        self.models = models.map(Tensor.clone)
        self.epochs = [0] * len(models)
        self._improved = [0] * len(models)
        self._scores = [math.inf] * len(models)

    def update(self, epoch: int, active: list[int], models: StackedMLP, scores: Sequence[float]) -> list[int]:
        """Keep the weights of runs that improved; return the epochs since each active run improved."""
        for position, (i, score) in enumerate(zip(active, scores, strict=True)):
            if score < self._scores[i]:
                self._scores[i] = score
                self._improved[i] = epoch
            if self._improved[i] in (
                0,
                epoch,
            ):  # one that diverges at once stays as it is, and is seen to have diverged
                self.epochs[i] = epoch
                for mine, now in zip(self.models.parameters, models.parameters, strict=True):
                    mine[i].copy_(now[position])
        return [epoch - self._improved[i] for i in active]


def _gradients(models: StackedMLP, x_RBD: Tensor, t_RBC: Tensor, classes: int) -> list[Tensor]:
    """Compute the gradients of each run's mean loss, weights then biases; t are soft labels or regression targets."""
    layers = models.activations(x_RBD)
    batch_size = x_RBD.shape[1]
    if classes:  # cross-entropy with soft labels that sum to 1
        slope = layers[-1].softmax(2).sub_(t_RBC).mul_(1 / batch_size)
    else:  # squared error
        slope = layers[-1].sub(t_RBC).mul_(2 / batch_size)
    return models.gradients(layers, slope)
