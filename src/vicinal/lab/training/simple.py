"""The simple loop: one small model, examples in memory, one process. The loop of the paper's runs is `loop.py`.

A run is a pure function of the data, its rows, its seed, its vicinity and its training. Initial weights, order,
augmentation and dropout are keyed by the seed and not by the vicinity, so that runs of one seed differ in it alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal._adamw import AdamW
from vicinal.keyed import Key
from vicinal.lab import models
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.streams import Stream
from vicinal.lab.training.seeding import fork_rng
from vicinal.vicinity import Vicinity

_BLOCK = 256  # examples evaluated at once


@dataclass(frozen=True)
class SimpleTraining:
    """How every model is trained: AdamW, and a learning rate that falls to 0 along a half cosine."""

    model: str  # a name of lab/models, or package.module:factory
    epochs: int
    batch_size: int = 64
    learning_rate: float = 1e-3  # at the start
    weight_decay: float = 0.0  # decoupled; 0 is Adam
    patience: int | None = None  # stop after this many epochs without a better score; None: never

    def batches(self, rows: int) -> int:
        """Return the number of steps per epoch: a last batch of one example, which has no partner, is left out."""
        return rows // self.batch_size + (rows % self.batch_size > 1)

    def lr_at(self, progress: float) -> float:
        """Return the learning rate when the share `progress` of all steps is done."""
        return self.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def init_model(training: SimpleTraining, data: InMemoryDataset, seed: int) -> nn.Module:
    """Build the model with the first weights of a seed."""
    with fork_rng(Key(seed, 0, 0, 0, Stream.WEIGHTS)):
        model = models.build(training.model, len(data.classes), tuple(data.inputs.shape[1:]))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # twice as fast on a CPU


def train(
    training: SimpleTraining,
    data: InMemoryDataset,
    rows: Tensor,
    vicinity: Vicinity,
    seed: int,
    after_epoch: Callable[[int, nn.Module], None] | None = None,
    score: Callable[[nn.Module], float] | None = None,
    stop_epoch: int | None = None,
) -> tuple[nn.Module, int]:
    """Train a model.

    Args:
        training: how.
        data: the examples.
        rows: int64, those to train on.
        vicinity: what mixes them.
        seed: of everything random.
        after_epoch: called with the epoch, from 1, and the model.
        score: for `patience`, lower is better.
        stop_epoch: stop after this epoch, as a run that found its best weights there.

    Returns:
        The model, and the epoch whose weights it has: with `patience` the best, else the last.

    """
    model = init_model(training, data, seed)
    optimizer = AdamW(model.parameters(), training.weight_decay)
    batches = training.batches(len(rows))
    best, best_epoch, best_state = math.inf, 0, None
    done = 0
    for epoch in range(training.epochs if stop_epoch is None else stop_epoch):
        model.train()
        order = torch.from_numpy(Key(seed, 0, 0, epoch, Stream.ORDER).generator().permutation(len(rows)))
        for i, mine in enumerate(rows[order].split(training.batch_size)[:batches]):
            step = epoch * batches + i
            rate = training.lr_at(step / (training.epochs * batches))
            train_step(model, optimizer, rate, data, mine, vicinity, Key(seed, 0, 0, step), epoch)
        done = epoch + 1
        if after_epoch is not None:
            after_epoch(done, model)
        if training.patience is not None and score is not None:
            found = score(model)
            if found < best:
                best, best_epoch, best_state = found, done, copy.deepcopy(model.state_dict())
            elif done - best_epoch >= training.patience:
                break
    if best_state is None:
        return model, done
    model.load_state_dict(best_state)
    return model, best_epoch


def train_step(
    model: nn.Module,
    optimizer: AdamW,
    learning_rate: float,
    data: InMemoryDataset,
    rows: Tensor,
    vicinity: Vicinity,
    key: Key,
    epoch: int,
) -> None:
    """Take one step on some rows; key is that of (seed, 0, 0, step)."""
    x, y = data.batch(rows, key)
    plan = vicinity.plan(len(y), y, x, step=key.step, epoch=epoch, seed=key.seed, rank=0, worker=0)
    with fork_rng(key._replace(stream=Stream.DROPOUT)):
        out = model(plan(x))
    loss = F.cross_entropy(out, plan.target(y))
    model.zero_grad()
    loss.backward()
    optimizer.step([parameter.grad for parameter in model.parameters()], learning_rate)


@torch.inference_mode()
def outputs(model: nn.Module, data: InMemoryDataset, rows: Tensor, noise: Tensor | None = None) -> Tensor:
    """Compute logits [n, classes] of rows int64 [n], not augmented, or with noise [n, ...] added to the inputs."""
    model.eval()
    blocks = []
    for start in range(0, len(rows), _BLOCK):
        x, _ = data.batch(rows[start : start + _BLOCK], None)
        if noise is not None:
            x = x + noise[start : start + _BLOCK]
        blocks.append(model(x))
    return torch.cat(blocks)
