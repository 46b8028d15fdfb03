"""The training loop: one, readable, for every model and every dataset of the lab.

A run is a pure function of its recipe. The examples of a step, their augmentation, their mixing and their dropout are
keyed by (seed, epoch, step), so that a run that is killed at any instant resumes from its last checkpoint to the very
weights it would have had. The examples of a step are decided for all processes together, and cut among them.

The run folder is described in `runs.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vicinal import LatentMixing, metrics
from vicinal.keyed import Key
from vicinal.lab import atomic, parse
from vicinal.lab.console import TrainingProgress
from vicinal.lab.data import loading
from vicinal.lab.data.dataset import Data
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.streams import Stream
from vicinal.lab.training import checkpoint, knn, runs
from vicinal.lab.training.distributed import Processes
from vicinal.lab.training.seeding import fork_rng
from vicinal.lab.training.settings import RunSettings
from vicinal.plan import Plan

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_AGREE = 8  # steps after which several processes agree on whether a checkpoint is due: one number each
_EVALUATION_BATCH = 500


def train(recipe: Recipe, folder: Path, job: Processes, settings: RunSettings | None = None) -> runs.RunResults:
    """Train by a recipe, from the start or from the last checkpoint in the folder.

    Args:
        recipe: what to train.
        folder: of the run; made if absent.
        job: the processes.
        settings: when to write, and what.

    Returns:
        The results of the run.

    Raises:
        UserError: the folder holds another recipe, or another process trains in it; the data are not there; TensorBoard
            is not installed.

    """
    settings = settings or RunSettings()
    if settings.tensorboard:
        _check_tensorboard()
    results = job.on_rank_zero(lambda: runs.read_results(folder, recipe))
    if results is not None:
        if settings.tensorboard and job.rank == 0:
            _open_tensorboard(folder, results.epochs).close()
        return results
    data, test = (part.to(job.device) for part in loading.load(recipe))
    run = _Run(recipe, data, test, job)
    with contextlib.ExitStack() as stack:
        # nothing is written before everything that may be refused is there
        job.on_rank_zero(lambda: stack.enter_context(runs.acquired(folder, recipe)))
        return _train(run, folder, settings)


def _train(run: _Run, folder: Path, settings: RunSettings) -> runs.RunResults:
    recipe, job = run.recipe, run.job
    last = job.on_rank_zero(lambda: checkpoint.read_last(folder))
    if last is not None:
        run.load(checkpoint.load(last, job.device))
    saved = time.monotonic()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(_Log(folder, run, settings.tensorboard)) if job.rank == 0 else None
        while run.epoch < recipe.epochs:
            for _ in run.steps():
                if log:
                    log.step(run)
                if _is_due(run, time.monotonic() - saved > settings.save_every):
                    _save(folder, run)
                    saved = time.monotonic()
            line = run.end_epoch()
            if log:
                log.write(line)
            _save(folder, run)
            saved = time.monotonic()
    return job.on_rank_zero(lambda: runs.write_results(folder, recipe, run.model, job.world_size, job.device.type))


def _is_due(run: _Run, late: bool) -> bool:
    """Return whether all processes write a checkpoint after this step: where the first one is late."""
    if run.job.world_size == 1:
        return late
    return run.step % _AGREE == 0 and run.job.broadcast(float(late)) > 0


def _save(folder: Path, run: _Run) -> None:
    state = run.state()  # of all processes
    if run.job.rank == 0:
        checkpoint.save(folder, run.step, state)


class _Run:
    """State of a training: model, optimizer and counters."""

    def __init__(self, recipe: Recipe, data: Data, test: Data, job: Processes) -> None:
        self.recipe, self.data, self.test, self.job = recipe, data, test, job
        self.epoch, self.step, self._in_epoch = 0, 0, 0
        self.vicinity = parse.parse(recipe.vicinity)
        with fork_rng(Key(recipe.seed, 0, 0, 0, Stream.WEIGHTS)):
            model = runs.build_model(recipe, len(data.classes))
        memory = torch.channels_last if recipe.channels_last and len(data.shape) == 3 else torch.preserve_format
        self.model = model.to(job.device).to(memory_format=memory)  # type: ignore[call-overload]
        self._ema = [p.detach().clone() for p in self.model.parameters()] if recipe.ema_decay else None
        self._optimizer = _optimizer(self.model, recipe)
        self._neighbors = knn.find(data, recipe) if recipe.knn else None
        self._latent = _latent(self.model, recipe.mix_at) if recipe.mix_at else None
        if recipe.compile:
            self.model.compile()
        self._forward = job.wrap_ddp(self.model)
        self._sums = self._no_sums()  # loss, hits, rows of this epoch so far, of this process
        self._seconds = 0.0
        self.epoch_steps = len(self._batches())
        if not self.epoch_steps:
            raise UserError(
                f"{len(data)} examples in batches of {recipe.batch_size} give no step for {job.world_size} processes with "
                f"grad_accum_steps={recipe.grad_accum_steps}: a batch needs "
                f"{job.world_size * recipe.grad_accum_steps} examples or more"
            )
        if job.world_size > 1:
            self._warm_up_ddp()

    def _batches(self) -> list[Tensor]:
        """Return the rows of each step of this epoch, over all processes."""
        recipe = self.recipe
        order = torch.from_numpy(
            Key(recipe.seed, 0, 0, self.epoch, Stream.ORDER).generator().permutation(len(self.data))
        )
        least = self.job.world_size * recipe.grad_accum_steps
        batches = [rows for rows in order.split(recipe.batch_size) if len(rows) >= least]
        return batches[: recipe.max_steps_per_epoch]

    def _warm_up_ddp(self) -> None:
        """Take one backward pass whose gradients are dropped.

        DistributedDataParallel lays gradients out anew after its first backward pass, and a sum over three or more
        processes depends on the layout in its last bits. From here on the layout is the same, resumed or not.
        """
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        x, _ = self.data.batch(self.job.shard(self._batches()[0]), None)
        self._forward.train()
        with fork_rng(Key(0, self.job.rank, 0, 0, Stream.DROPOUT)), self._precision():
            self._forward(x).float().sum().backward()
        self._optimizer.zero_grad()
        self.model.load_state_dict(before)

    def steps(self) -> Iterator[None]:
        """Take the remaining steps of this epoch; yields after each."""
        recipe, batches = self.recipe, self._batches()
        self._forward.train()
        shares = (self.job.shard(rows) for rows in batches[self._in_epoch :])
        keys = (Key(recipe.seed, self.job.rank, 0, step) for step in itertools.count(self.step))
        self.data.expect(zip(shares, keys, strict=False))
        while self._in_epoch < len(batches):
            start = time.perf_counter()
            rate = recipe.lr_at(self.epoch, self._in_epoch / len(batches))
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._take_step(batches[self._in_epoch])
            self._in_epoch += 1
            self.step += 1
            self._seconds += time.perf_counter() - start
            yield

    def progress(self) -> tuple[int, float]:
        """Return the number of steps taken in this epoch, and examples per second, over all processes."""
        rows = min(self._in_epoch * self.recipe.batch_size, len(self.data))  # not read from the device
        return self._in_epoch, rows / self._seconds if self._seconds else 0.0

    def _take_step(self, rows: Tensor) -> None:
        recipe = self.recipe
        mine = self.job.shard(rows)
        key = Key(recipe.seed, self.job.rank, 0, self.step)
        x, target, plan = self._mixed_batch(mine, key)
        self._optimizer.zero_grad()
        parts = torch.arange(len(mine)).tensor_split(recipe.grad_accum_steps)
        for i, part in enumerate(parts):
            inside = slice(int(part[0]), int(part[-1]) + 1)
            mixed = contextlib.nullcontext() if self._latent is None else self._latent(plan)
            with self._without_sync(i < len(parts) - 1):
                with fork_rng(key._replace(stream=Stream.DROPOUT + 8 * i)), self._precision(), mixed:
                    out = self._forward(x[inside])
                # the mean over all rows of the step, wherever they are computed
                self._backward(out.float(), target[inside], len(part) * self.job.world_size / len(rows))
        self._optimizer.step()
        if self._ema is not None:
            with torch.no_grad():
                torch._foreach_lerp_(self._ema, list(self.model.parameters()), 1 - recipe.ema_decay)

    def _mixed_batch(self, rows: Tensor, key: Key) -> tuple[Tensor, Any, Plan]:
        """Return this process's inputs and targets of a step, mixed, and the plan; a hidden layer is mixed later."""
        x, y = self.data.batch(rows, key)
        plan = self.vicinity.plan(
            len(y), y, x, step=self.step, epoch=self.epoch, seed=key.seed, rank=key.rank, worker=0
        )
        if self._neighbors is not None:
            other = self.data.batch(self._neighbors.draw(rows, key), key._replace(worker=knn.WORKER))
            x, y, plan = knn.with_partners((x, y), other, plan)
        target = plan.target(y)[: len(rows)]
        return (x if self._latent is not None else plan(x)[: len(rows)]), target, plan

    def _backward(self, out: Tensor, target: Any, share: float) -> None:
        """Add the gradients of a part of a step, `share` of its rows, and its figures."""
        loss = F.cross_entropy(out, target)
        (loss * share).backward()
        with torch.no_grad():
            hits = metrics.mixed_accuracy(out, target)
            # added up where they are: reading them would make the host wait for the device at every step
            scores = torch.stack([loss.detach(), hits, torch.ones_like(hits)])
            self._sums.add_(scores.double(), alpha=len(out))

    def _without_sync(self, skip: bool) -> contextlib.AbstractContextManager[Any]:
        return self._forward.no_sync() if skip and self.job.world_size > 1 else contextlib.nullcontext()  # type: ignore[operator]

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.job.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

    def end_epoch(self) -> dict[str, Any]:
        """Evaluate, count the epoch, and return its figures."""
        self.job.share_buffers(self.model)  # what is tested are the weights that the first process writes
        start = time.perf_counter()
        loss, hits, rows = self.job.sum(self._sums.clone()).tolist()  # waits for the steps that are still under way
        self._seconds += time.perf_counter() - start
        line: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "step": self.step,
            "learning_rate": self._optimizer.param_groups[0]["lr"],
            "train_mixed_loss": loss / rows,
            "train_mixed_accuracy": hits / rows,  # of mixed labels: not to be compared with an accuracy
            "examples_per_second": rows / self._seconds if self._seconds else None,
            **{f"test_{name}": value for name, value in self.evaluate().items()},
        }
        if self._ema is not None:
            with self._with_ema_weights():
                line |= {f"test_ema_{name}": value for name, value in self.evaluate().items()}
        self.epoch += 1
        self._in_epoch = 0
        self._sums = self._no_sums()
        self._seconds = 0.0
        return line

    def _no_sums(self) -> Tensor:
        return torch.zeros(3, dtype=torch.float64, device=self.job.device)

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Compute error, top-5 error (of more than 5 classes) and negative log-likelihood on the test examples."""
        self.model.eval()
        sums = torch.zeros(4, dtype=torch.float64)
        batches = torch.arange(len(self.test)).split(_EVALUATION_BATCH)[self.job.rank :: self.job.world_size]
        self.test.expect((rows, None) for rows in batches)
        for rows in batches:
            x, y = self.test.batch(rows, None)
            with self._precision():
                out = self.model(x)
            log_p = out.double().log_softmax(1)
            best = log_p.topk(min(5, log_p.shape[1]), dim=1).indices
            right = best == y[:, None]
            nll = -log_p.gather(1, y[:, None]).sum()
            sums += torch.stack([right[:, 0].sum(), right.any(1).sum(), nll, y.new_tensor(len(y))]).double().cpu()
        first, five, nll, rows = self.job.sum(sums).tolist()
        scores = {"error": 1 - first / rows, "nll": nll / rows}
        return scores | ({"top5_error": 1 - five / rows} if len(self.test.classes) > 5 else {})

    @contextmanager
    def _with_ema_weights(self) -> Iterator[None]:
        own = [p.detach().clone() for p in self.model.parameters()]
        with torch.no_grad():
            torch._foreach_copy_(list(self.model.parameters()), self._ema)  # type: ignore[arg-type]
            yield
            torch._foreach_copy_(list(self.model.parameters()), own)

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on; all processes take part.

        Weights, averages and the state of the optimizer are the same in all. Running statistics of BatchNorm are not,
        but only those of rank 0 count: DistributedDataParallel broadcasts them before each step.
        """
        return {
            "epoch": self.epoch,
            "step": self.step,
            "in_epoch": self._in_epoch,
            "sums": self.job.gather(self._sums),  # [world, 3]
            "seconds": self._seconds,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "ema": self._ema,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Resume where `state` was taken; with another number of processes, too, but then to other weights."""
        self.epoch, self.step, self._in_epoch = state["epoch"], state["step"], state["in_epoch"]
        sums = state["sums"].cpu()
        if len(sums) == self.job.world_size:
            self._sums = sums[self.job.rank].to(self.job.device, copy=True)
        else:
            warnings.warn(
                f"this run goes on with {self.job.world_size} process(es) where it had {len(sums)}: what they draw differs, "
                "and the weights will not be those of a run with one number throughout",
                stacklevel=2,
            )
            self._sums = (sums.sum(0) * (self.job.rank == 0)).to(self.job.device)
        self._seconds = state["seconds"]
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._ema = state["ema"]


def _latent(model: nn.Module, at: str) -> LatentMixing:
    try:
        return LatentMixing(model, at)
    except ValueError as error:
        raise UserError(f"mix_at={at}: {error}") from error


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.ndim > 1 or recipe.decay_norm_and_bias]
    others = [p for p in model.parameters() if not (p.ndim > 1 or recipe.decay_norm_and_bias)]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.learning_rate)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)


class _Log:
    """metrics.jsonl, TensorBoard and the terminal: what the first process writes and shows."""

    def __init__(self, folder: Path, run: _Run, tensorboard: bool) -> None:
        self._path = folder / runs.METRICS
        lines = [line for line in atomic.json_lines(self._path) if line["epoch"] <= run.epoch]  # others are run again
        atomic.write(self._path, "".join(json.dumps(line) + "\n" for line in lines))
        steps = run.epoch_steps * run.recipe.epochs
        self._show = TrainingProgress(folder.name, run.recipe.epochs, run.epoch_steps, steps)
        self._tensorboard = _open_tensorboard(folder, lines) if tensorboard else None

    def __enter__(self) -> _Log:
        self._show.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._show.__exit__(*error)
        if self._tensorboard is not None:
            self._tensorboard.close()

    def step(self, run: _Run) -> None:
        """Show a step."""
        in_epoch, speed = run.progress()
        self._show.step(run.epoch + 1, in_epoch, run.step, speed)

    def write(self, line: dict[str, Any]) -> None:
        """Write and show an epoch."""
        atomic.append_line(self._path, json.dumps(line))
        if self._tensorboard is not None:
            _add_scalars(self._tensorboard, line)
        self._show.epoch(line)


def _check_tensorboard() -> None:
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError("TensorBoard is not installed; pip install tensorboard") from error


def _open_tensorboard(folder: Path, lines: Sequence[dict[str, Any]]) -> SummaryWriter:
    """Write the epochs so far into an event file made anew, so that no step is in it twice."""
    from torch.utils.tensorboard import SummaryWriter

    for old in (folder / "tensorboard").glob("events.out.tfevents.*"):
        old.unlink()
    writer = SummaryWriter(str(folder / "tensorboard"))
    for line in lines:
        _add_scalars(writer, line)
    return writer


def _add_scalars(writer: SummaryWriter, line: dict[str, Any]) -> None:
    """Write an epoch at its step: `train_mixed_accuracy` as train/mixed_accuracy, never as an accuracy of plain labels."""
    for name, value in line.items():
        if name != "step" and value is not None:
            writer.add_scalar(re.sub("^(train|test)_", r"\1/", name), value, line["step"])
    writer.flush()
