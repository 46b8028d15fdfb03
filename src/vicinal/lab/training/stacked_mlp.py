"""Many small models trained at once: the runs of a comparison as one batch of models.

Run r of the fleet is the plain loop

    for epoch in range(epochs):
        for rows in batches of a shuffled order, keyed by (seed, epoch):
            plan = vicinity.plan(len(rows), y[rows], x[rows], step=step, seed=seed, ...)
            loss = cross_entropy(mlp(plan(x[rows])), plan.target(y[rows]))     # or mse_loss
            loss.backward(); adamw.step(); step += 1

with the MLP of `models/mlp.py`, and equals it to rounding. All runs take each step together: their weights are stacked
[R, in, out], a layer is one batched product, and the gradient is written out by hand. Runs of one seed share
their split, their initial weights and their order of data, so that they differ in their vicinity alone.

Shape letters: R runs, S splits, B rows of a batch, D inputs, C outputs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.adamw import adamw

from vicinal.keyed import Key
from vicinal.target import MixedTarget
from vicinal.vicinity import Vicinity, draw_pairs

# streams of a run's key beside those of its plans, which count up from 0
_ORDER, _INIT = 2**63, 2**63 + 1


@dataclass(frozen=True)
class Training:
    """How every run of a fleet is trained; the defaults are the paper's (section 3.6)."""

    epochs: int = 10
    batch: int = 16
    hidden: tuple[int, ...] = (128, 128)
    learning_rate: float = 1e-3  # Adam's default, with betas (0.9, 0.999) and eps 1e-8
    weight_decay: float = 0.0  # decoupled from the gradient (AdamW); 0 is Adam
    patience: int | None = None  # stop a run after so many epochs without a better validation score; None: never

    def steps(self, rows: int) -> int:
        """Give the number of steps for `rows` training rows; the last, short batch of an epoch counts."""
        return self.epochs * math.ceil(rows / self.batch)


@dataclass(frozen=True)
class StackedSplit:
    """The rows of one part (training, validation or test) of S splits.

    Args:
        inputs: float [S, n, D].
        targets: int64 class indices [S, n], or float [S, n] for regression.

    """

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class MLPRun:
    """One model: which split it trains on, its seed, its vicinity, and what it does otherwise than the training says."""

    split: int
    seed: int
    vicinity: Vicinity
    learning_rate: float | None = None
    weight_decay: float | None = None


class TrainResult(NamedTuple):
    """Trained models, in the order of their runs, and the epoch whose weights each of them has."""

    models: StackedMLP
    epochs: list[int]


class StackedMLP:
    """R models of one shape: weights [R, in, out] and biases [R, 1, out] for each layer."""

    def __init__(self, weights: list[Tensor], biases: list[Tensor]) -> None:
        self.weights = weights
        self.biases = biases

    def __len__(self) -> int:
        """Return the number of models."""
        return len(self.weights[0])

    def to(self, device: torch.device) -> StackedMLP:
        """Give the same models on a device."""
        return StackedMLP([w.to(device) for w in self.weights], [b.to(device) for b in self.biases])

    def __getitem__(self, runs: slice | list[int]) -> StackedMLP:
        """Give some of the models."""
        return StackedMLP([w[runs] for w in self.weights], [b[runs] for b in self.biases])

    @staticmethod
    def initial(
        seeds: Sequence[int], inputs: int, hidden: Sequence[int], outputs: int, dtype: torch.dtype
    ) -> StackedMLP:
        """Draw initial weights as nn.Linear does, uniform in +-1/sqrt(in), a pure function of each seed."""
        widths = [inputs, *hidden, outputs]
        layers = list(pairwise(widths))
        drawn = {seed: _initial(seed, layers) for seed in dict.fromkeys(seeds)}

        def stack(part: int) -> list[Tensor]:
            return [torch.stack([drawn[seed][i][part] for seed in seeds]).to(dtype) for i in range(len(layers))]

        return StackedMLP(stack(0), stack(1))

    def outputs(self, x: Tensor) -> Tensor:
        """Give outputs [R, n, C] for inputs [n, D], the same for all, or [R, n, D]."""
        return self._activations(x)[-1]

    def _activations(self, x: Tensor) -> list[Tensor]:
        layers = [x]
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.matmul(x, weight).add_(bias) if x.ndim == 2 else torch.baddbmm(bias, x, weight)
            layers.append(x if i == last else x.relu_())
        return layers

    def state_dict(self, run: int) -> dict[str, Tensor]:
        """Give one model as the state of an `MLP`."""
        state = {}
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            state[f"layers.{i}.weight"] = weight[run].T.contiguous()
            state[f"layers.{i}.bias"] = bias[run, 0].clone()
        return state


def _initial(seed: int, layers: list[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
    generator = Key(seed, 0, 0, 0, _INIT).generator()
    drawn = []
    for fan_in, fan_out in layers:
        bound = 1 / math.sqrt(fan_in)
        weight = generator.uniform(-bound, bound, (fan_in, fan_out))
        bias = generator.uniform(-bound, bound, (1, fan_out))
        drawn.append((torch.from_numpy(weight), torch.from_numpy(bias)))
    return drawn


def order(seed: int, epoch: int, rows: int) -> np.ndarray:
    """Give the order of the training rows in one epoch, int64 [rows]: a pure function of its arguments."""
    return Key(seed, 0, 0, epoch, _ORDER).generator().permutation(rows)


def train(
    runs: Sequence[MLPRun],
    data: StackedSplit,
    classes: int,
    training: Training,
    after_epoch: Callable[[int, StackedMLP, list[int]], None] | None = None,
    score: Callable[[StackedMLP, Sequence[MLPRun]], Sequence[float]] | None = None,
) -> TrainResult:
    """Train all runs together.

    Args:
        runs: the runs; each names its split in `data`. Put runs of equal learning rate and weight decay side by side.
        data: the training rows of the splits; their dtype and device are the models'.
        classes: number of classes, or 0 for regression (one output, squared error).
        training: epochs, batch, widths, learning rate, weight decay, patience.
        after_epoch: called with the number of epochs done (1, 2, ...), the models still in training, and the
            positions of their runs.
        score: for `training.patience`: gives one number for each model, lower is better; called after each epoch.
            A run that has not improved for `patience` epochs stops; each run ends with its best weights.

    Raises:
        ValueError: a run's vicinity does not fit the data (it says how), or patience and score do not come together.

    """
    if (training.patience is None) != (score is None):
        raise ValueError("patience and score come together: one says how long to wait, the other for what")
    inputs = data.inputs.shape[2]
    numbers = _numbers(data, classes)
    models = StackedMLP.initial([r.seed for r in runs], inputs, training.hidden, classes or 1, data.inputs.dtype)
    models = models.to(data.inputs.device)
    optimizer = _Optimizer(models, runs, training)
    best = _Best(models) if score is not None else None
    active = list(range(len(runs)))
    step = 0
    for epoch in range(training.epochs):
        mine = [runs[i] for i in active]
        for x_RBD, t_RBC in _batches(mine, data, numbers, epoch, step, training.batch):
            optimizer.step(step, _gradients(models, x_RBD, t_RBC, classes))
            step += 1
        if after_epoch is not None:
            after_epoch(epoch + 1, models, active)
        if score is not None and best is not None and training.patience is not None:
            waited = best.take(epoch + 1, active, models, score(models, mine))
            keep = [i for i, epochs in enumerate(waited) if epochs < training.patience]
            if len(keep) < len(active):
                active = [active[i] for i in keep]
                if not active:
                    break
                models = models[keep]
                optimizer = optimizer.of(keep, models, [runs[i] for i in active], training)
    if best is not None:
        return TrainResult(best.models, best.epochs)
    return TrainResult(models, [training.epochs] * len(runs))


def _numbers(data: StackedSplit, classes: int) -> Tensor:
    """Give all targets as numbers [S * n, C]: one-hot, or the one number of a regression."""
    targets = data.targets.flatten()
    return F.one_hot(targets, classes).to(data.inputs.dtype) if classes else targets[:, None]


def _batches(
    runs: Sequence[MLPRun], data: StackedSplit, numbers: Tensor, epoch: int, step: int, batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the mixed batches of one epoch: inputs [R, B, D] and numeric targets [R, B, C], in each run's own order."""
    rows = data.inputs.shape[1]
    shuffled = {seed: order(seed, epoch, rows) for seed in {run.seed: None for run in runs}}
    order_RN = torch.from_numpy(np.stack([run.split * rows + shuffled[run.seed] for run in runs]))
    order_RN = order_RN.to(data.inputs.device)
    x_ND = data.inputs.flatten(0, 1)
    parts = order_RN.split(batch, dim=1)
    for rows_RB, pairs in zip(parts, _pairs(runs, [p.shape[1] for p in parts], step, x_ND.device), strict=True):
        x, t = _take(x_ND, rows_RB), _take(numbers, rows_RB)
        if pairs is not None:
            other_RB, own_R11 = rows_RB.gather(1, pairs[0]), pairs[1].to(x.dtype)
            yield _take(x_ND, other_RB).lerp_(x, own_R11), _take(numbers, other_RB).lerp_(t, own_R11)
        else:
            y = data.targets.flatten()[rows_RB]
            yield _mix_one_by_one(runs, x, y, t, epoch, step)
        step += 1


def _take(table: Tensor, rows_RB: Tensor) -> Tensor:
    return table.index_select(0, rows_RB.flatten()).view(*rows_RB.shape, -1)


def _pairs(
    runs: Sequence[MLPRun], sizes: Sequence[int], step: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor] | None]:
    """Yield for each batch the partners [R, B] and the weights [R, 1, 1], drawn for the whole epoch at once.

    They are drawn on the host, and come to the device in one piece for all batches of a size.

    None where a run's vicinity does more than mix pairs, or looks at the data.
    """
    if any(draw_pairs(run.vicinity, [], 0) is None for run in runs):
        yield from itertools.repeat(None, len(sizes))
        return
    for size, batches in groupby(sizes):
        count = len(list(batches))
        keys = [[Key(run.seed, 0, 0, step + i) for i in range(count)] for run in runs]
        drawn = [draw_pairs(run.vicinity, of_run, size) for run, of_run in zip(runs, keys, strict=True)]
        known = [pairs for pairs in drawn if pairs is not None]  # all of them
        step += count
        partner_RTB = torch.from_numpy(np.stack([partner for partner, _ in known])).to(device)
        own_RT = torch.from_numpy(np.stack([own for _, own in known])).to(device)
        yield from zip(partner_RTB.unbind(1), own_RT[:, :, None, None].unbind(1), strict=True)


def _mix_one_by_one(
    runs: Sequence[MLPRun], x_RBD: Tensor, y_RB: Tensor, t_RBC: Tensor, epoch: int, step: int
) -> tuple[Tensor, Tensor]:
    """Draw and apply each run's plan by itself."""
    mixed = []
    for run, x, y, t in zip(runs, x_RBD, y_RB, t_RBC, strict=True):
        plan = run.vicinity.plan(len(y), y, x, step=step, epoch=epoch, seed=run.seed, rank=0, worker=0)
        target = plan.target(y)
        numbers = target.dense(t.shape[1], x.dtype) if isinstance(target, MixedTarget) else target[:, None]
        mixed.append((plan(x), numbers))
    return torch.stack([x for x, _ in mixed]), torch.stack([t for _, t in mixed])


class _Optimizer:
    """AdamW over stacked models, each with its own learning rate and weight decay.

    Neighboring runs of equal settings are one group: views of the stacks, so that PyTorch's fused kernel does the work.
    (The functional form, because the class brings PyTorch's compiler with it, a second at the start of each worker.)
    """

    def __init__(
        self, models: StackedMLP, runs: Sequence[MLPRun], training: Training, moments: list[list[Tensor]] | None = None
    ) -> None:
        parameters = [*models.weights, *models.biases]
        self._moments = moments or [[torch.zeros_like(p) for p in parameters] for _ in range(2)]
        settings = [
            (
                training.learning_rate if run.learning_rate is None else run.learning_rate,
                training.weight_decay if run.weight_decay is None else run.weight_decay,
            )
            for run in runs
        ]
        self._groups, start = [], 0
        for (rate, decay), members in groupby(settings):
            part = slice(start, start + len(list(members)))
            views = [[tensor[part] for tensor in stack] for stack in (parameters, *self._moments)]
            self._groups.append((part, rate, decay, views))
            start = part.stop

    def step(self, number: int, gradients: Sequence[Tensor]) -> None:
        """Take step `number` (from 0) along gradients, one for each weight, then each bias."""
        for part, rate, decay, (parameters, first, second) in self._groups:
            device = parameters[0].device
            counts = [torch.full((), float(number), device=device) for _ in parameters]  # counted up by it
            adamw(
                parameters, [gradient[part] for gradient in gradients], first, second, [], counts,
                lr=rate, weight_decay=decay, beta1=0.9, beta2=0.999, eps=1e-8, fused=True,
                amsgrad=False, maximize=False, foreach=False, capturable=False, differentiable=False,
            )  # fmt: skip

    def of(self, keep: list[int], models: StackedMLP, runs: Sequence[MLPRun], training: Training) -> _Optimizer:
        """Give the optimizer of the models at positions `keep`, which go on as if they had been alone."""
        kept = torch.tensor(keep, device=models.weights[0].device)
        return _Optimizer(models, runs, training, [[tensor[kept] for tensor in stack] for stack in self._moments])


class _Best:
    """The best weights of each run so far, and when they were."""

    def __init__(self, models: StackedMLP) -> None:
        self.models = StackedMLP([w.clone() for w in models.weights], [b.clone() for b in models.biases])
        self.epochs = [0] * len(models)
        self._scores = [math.inf] * len(models)

    def take(self, epoch: int, active: list[int], models: StackedMLP, scores: Sequence[float]) -> list[int]:
        """Keep the weights of runs that improved; give for each active run how many epochs it has not."""
        for position, (i, score) in enumerate(zip(active, scores, strict=True)):
            if score < self._scores[i]:
                self._scores[i], self.epochs[i] = score, epoch
                for mine, now in (
                    *zip(self.models.weights, models.weights, strict=True),
                    *zip(self.models.biases, models.biases, strict=True),
                ):
                    mine[i].copy_(now[position])
        return [epoch - self.epochs[i] for i in active]


def _gradients(models: StackedMLP, x_RBD: Tensor, t_RBC: Tensor, classes: int) -> list[Tensor]:
    """Give the gradients of each run's mean loss, weights then biases; t are soft labels or regression targets."""
    layers = models._activations(x_RBD)
    batch = x_RBD.shape[1]
    if classes:  # cross-entropy with soft labels that sum to 1
        slope = layers[-1].softmax(2).sub_(t_RBC).mul_(1 / batch)
    else:  # squared error
        slope = layers[-1].sub(t_RBC).mul_(2 / batch)
    weights, biases = [], []
    for i in reversed(range(len(models.weights))):
        weights.append(layers[i].mT @ slope)
        biases.append(slope.sum(1, keepdim=True))
        if i:
            slope = torch.ops.aten.threshold_backward(slope @ models.weights[i].mT, layers[i], 0)
    return [*reversed(weights), *reversed(biases)]
