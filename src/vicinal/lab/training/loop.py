"""The training loop: one, readable, for every model and every dataset of the lab.

A run is a pure function of its recipe. The examples of a step, their augmentation, their mixing and their dropout are
keyed by (seed, epoch, step), so that a run that is killed at any instant goes on from its last checkpoint to the very
weights it would have had. The examples of a step are decided for all processes together, and cut among them.

The run folder:

    recipe.json       what is trained; another recipe is refused this folder
    metrics.jsonl     one line an epoch
    step-*.ckpt       the last two checkpoints, until the run is done
    tensorboard/      the lines of metrics.jsonl once more, where asked for
    results.json      the figures of a finished run
    weights.pt        the weights of a finished run, for torch.load(weights_only=True)
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vicinal
from vicinal import LatentMixing, metrics
from vicinal.keyed import Key
from vicinal.lab import atomic, models, parse
from vicinal.lab.console import Training
from vicinal.lab.data import loading
from vicinal.lab.data.loading import Data
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import board, checkpoint, knn
from vicinal.lab.training.distributed import Processes
from vicinal.lab.training.seeding import fork_rng

_ORDER, _DROPOUT, _WEIGHTS = 2**63, 2**63 + 4, 2**63 + 5  # streams beside those of the plans
SECONDS = 60.0  # between checkpoints
_AGREE = 8  # steps after which several processes agree on whether a checkpoint is due: one number each
_LAST = 10  # epochs whose median test error is the paper's figure
_EVALUATION_BATCH = 500
_METRICS, _LOCK = "metrics.jsonl", ".lock"


class Stopped(Exception):
    """A run was asked to stop; its last checkpoint is in the folder, and the same call goes on from there."""


def train(
    recipe: Recipe,
    folder: Path,
    job: Processes,
    seconds: float = SECONDS,
    tensorboard: bool = False,
    stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Train by a recipe, from the start or from the last checkpoint in the folder.

    Args:
        recipe: what to train.
        folder: of the run; made if absent.
        job: the processes.
        seconds: between checkpoints, beside those after each epoch.
        tensorboard: also write the figures of each epoch as TensorBoard reads them.
        stop: asked after each step of one process whether the time is over.

    Returns:
        What results.json holds.

    Raises:
        Stopped: `stop` said so; a checkpoint was written first.
        UserError: the folder holds another recipe, or another process trains in it; the data are not there; TensorBoard
            is not installed.

    """
    if tensorboard:
        board.check()
    results = job.on_rank_zero(lambda: _finished(folder, recipe))
    if results is not None:
        if tensorboard and job.rank == 0:
            board.Board(folder / "tensorboard", results["epochs"]).close()
        return results
    data, test = (part.to(job.device) for part in loading.load(recipe))
    run = _Run(recipe, data, test, job)
    with contextlib.ExitStack() as stack:
        job.on_rank_zero(
            lambda: _claim(folder, recipe, stack)
        )  # nothing is written before all that may be refused is there
        return _train(run, folder, seconds, tensorboard, stop)


def _train(
    run: _Run, folder: Path, seconds: float, tensorboard: bool, stop: Callable[[], bool] | None
) -> dict[str, Any]:
    recipe, job = run.recipe, run.job
    last = job.on_rank_zero(lambda: checkpoint.read_last(folder))
    if last is not None:
        run.load(checkpoint.load(last, job.device))
    saved = time.monotonic()
    with contextlib.ExitStack() as stack:
        log = _Log(folder, run, tensorboard, stack) if job.rank == 0 else None
        while run.epoch < recipe.epochs:
            for _ in run.steps():
                if log:
                    log.step(run)
                over = stop is not None and job.world_size == 1 and stop()
                if over or _due(run, time.monotonic() - saved > seconds):
                    _save(folder, run)
                    saved = time.monotonic()
                if over:
                    raise Stopped(f"stopped after step {run.step}")
            line = run.end_epoch()
            if log:
                log.write(line)
            _save(folder, run)
            saved = time.monotonic()
    return job.on_rank_zero(lambda: _finish(folder, run))


def _due(run: _Run, late: bool) -> bool:
    """Whether all processes write a checkpoint after this step: where the first one says that it is late."""
    if run.job.world_size == 1:
        return late
    return run.step % _AGREE == 0 and run.job.broadcast(float(late)) > 0


def _save(folder: Path, run: _Run) -> None:
    state = run.state()  # of all processes
    if run.job.rank == 0:
        checkpoint.save(folder, run.step, state)


def _is_ours(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder holds a run of this recipe; False where there is nothing yet.

    Raises:
        UserError: it holds something else.

    """
    path = folder / "recipe.json"
    if path.exists():
        if json.loads(path.read_text()).get("fingerprint") != recipe.fingerprint():
            raise UserError(f"{folder} holds a run of another recipe; choose another --out, or remove that folder")
        return True
    # killed at its very beginning, a run leaves no more than these
    if folder.exists() and any(found.name != _LOCK and not atomic.is_partial(found) for found in folder.iterdir()):
        raise UserError(f"{folder} is there already and is not a run; choose another --out")
    return False


def _finished(folder: Path, recipe: Recipe) -> dict[str, Any] | None:
    """Give what results.json holds, if this run is done."""
    if not _is_ours(folder, recipe) or not (folder / "results.json").exists():
        return None
    try:
        results = json.loads((folder / "results.json").read_text())
    except ValueError as error:
        raise UserError(f"{folder / 'results.json'} is damaged; remove {folder}, and it is run again") from error
    checkpoint.remove_all(folder)
    return results


def _claim(folder: Path, recipe: Recipe, stack: contextlib.ExitStack) -> None:
    """Make the folder, or take up the run in it; nobody else trains there until the stack is closed.

    Raises:
        UserError: another process does.

    """
    folder.mkdir(parents=True, exist_ok=True)
    if not stack.enter_context(atomic.locked(folder / _LOCK)):
        raise UserError(
            f"another process trains in {folder}; wait for it, or end it (a killed torchrun may leave its processes)"
        )
    if not _is_ours(folder, recipe):
        record = {"fingerprint": recipe.fingerprint(), "vicinal": vicinal.__version__, "recipe": asdict(recipe)}
        atomic.write(folder / "recipe.json", json.dumps(record, indent=1))
    checkpoint.remove_partial(folder)


def _finish(folder: Path, run: _Run) -> dict[str, Any]:
    results = _results(run.recipe, atomic.json_lines(folder / _METRICS), run.job)
    buffer = io.BytesIO()
    torch.save(run.model.state_dict(), buffer)
    atomic.write(folder / "weights.pt", buffer.getvalue())
    atomic.write(folder / "results.json", json.dumps(results, indent=1))
    checkpoint.remove_all(folder)
    return results


class _Run:
    """What changes while a model is trained."""

    def __init__(self, recipe: Recipe, data: Data, test: Data, job: Processes) -> None:
        self.recipe, self.data, self.test, self.job = recipe, data, test, job
        self.epoch, self.step, self._in_epoch = 0, 0, 0
        self.vicinity = parse.parse(recipe.vicinity)
        options = {"dropout": recipe.dropout} if recipe.dropout else {}
        with fork_rng(Key(recipe.seed, 0, 0, 0, _WEIGHTS)):
            model = models.build(recipe.model, len(data.classes), **options)
        memory = torch.channels_last if recipe.channels_last and len(data.shape) == 3 else torch.preserve_format
        self.model = model.to(job.device).to(memory_format=memory)  # type: ignore[call-overload]
        self._average = [p.detach().clone() for p in self.model.parameters()] if recipe.ema_decay else None
        self._optimizer = _optimizer(self.model, recipe)
        self._neighbors = knn.of(data, recipe) if recipe.knn else None
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
            self._settle()

    def _batches(self) -> list[Tensor]:
        """Give the rows of each step of this epoch, over all processes."""
        recipe = self.recipe
        order = torch.from_numpy(Key(recipe.seed, 0, 0, self.epoch, _ORDER).generator().permutation(len(self.data)))
        batches = [
            rows
            for rows in order.split(recipe.batch_size)
            if len(rows) >= self.job.world_size * recipe.grad_accum_steps
        ]
        return batches[: recipe.max_steps_per_epoch]

    def _settle(self) -> None:
        """Take one backward pass that counts for nothing.

        DistributedDataParallel lays gradients out anew after its first backward pass, and a sum over three or more
        processes depends on the layout in its last bits. From here on the layout is the same, resumed or not.
        """
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        x, _ = self.data.batch(self.job.shard(self._batches()[0]), None)
        self._forward.train()
        with fork_rng(Key(0, self.job.rank, 0, 0, _DROPOUT)), self._precision():
            self._forward(x).float().sum().backward()
        self._optimizer.zero_grad()
        self.model.load_state_dict(before)

    def steps(self) -> Iterator[None]:
        """Take the steps of this epoch that are not yet taken."""
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
        """Give the steps of this epoch that are taken, and examples a second, over all processes."""
        rows = min(self._in_epoch * self.recipe.batch_size, len(self.data))  # not read from the device
        speed = rows / self._seconds if self._seconds else 0.0
        return self._in_epoch, speed

    def _take_step(self, rows: Tensor) -> None:
        recipe, job = self.recipe, self.job
        mine = job.shard(rows)
        key = Key(recipe.seed, job.rank, 0, self.step)
        x, y = self.data.batch(mine, key)
        plan = self.vicinity.plan(
            len(y), y, x, step=self.step, epoch=self.epoch, seed=recipe.seed, rank=job.rank, worker=0
        )
        if self._neighbors is not None:
            other = self.data.batch(self._neighbors.draw(mine, key), key._replace(worker=knn.WORKER))
            x, y, plan = knn.beside((x, y), other, plan)
        target = plan.target(y)[: len(mine)]
        x = x if self._latent is not None else plan(x)[: len(mine)]
        self._optimizer.zero_grad()
        parts = torch.arange(len(mine)).tensor_split(recipe.grad_accum_steps)
        for i, part in enumerate(parts):
            inside = slice(int(part[0]), int(part[-1]) + 1)
            last = i == len(parts) - 1
            mixed = contextlib.nullcontext() if self._latent is None else self._latent(plan)
            seeds = fork_rng(key._replace(stream=_DROPOUT + 8 * i))
            with seeds, self._without_sync(not last), self._precision(), mixed:
                out = self._forward(x[inside])
            with self._without_sync(not last):
                loss = F.cross_entropy(out.float(), target[inside])
                # the mean over all rows of the step, wherever they are computed
                (loss * (len(part) * job.world_size / len(rows))).backward()
            with torch.no_grad():
                hits = metrics.mixed_accuracy(out.float(), target[inside])
                # added up where they are: reading them would make the host wait for the device at every step
                scores = torch.stack([loss.detach(), hits, torch.ones_like(hits)])
                self._sums.add_(scores.double(), alpha=len(part))
        self._optimizer.step()
        if self._average is not None:
            with torch.no_grad():
                torch._foreach_lerp_(self._average, list(self.model.parameters()), 1 - recipe.ema_decay)

    def _without_sync(self, skip: bool) -> contextlib.AbstractContextManager[Any]:
        return self._forward.no_sync() if skip and self.job.world_size > 1 else contextlib.nullcontext()  # type: ignore[operator]

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.job.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

    def end_epoch(self) -> dict[str, Any]:
        """Evaluate, count the epoch, and give its figures."""
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
        if self._average is not None:
            with self._averaged():
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
        """Give error, top-5 error (of more than 5 classes) and negative log-likelihood on the test examples."""
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
    def _averaged(self) -> Iterator[None]:
        own = [p.detach().clone() for p in self.model.parameters()]
        with torch.no_grad():
            torch._foreach_copy_(list(self.model.parameters()), self._average)  # type: ignore[arg-type]
            yield
            torch._foreach_copy_(list(self.model.parameters()), own)

    def state(self) -> dict[str, Any]:
        """Give everything that the rest of the run depends on; all processes take part.

        Weights, averages and the state of the optimizer are the same in all. Running statistics of BatchNorm are not,
        but only the first process's count: DistributedDataParallel gives them to all before each step.
        """
        return {
            "epoch": self.epoch,
            "step": self.step,
            "in_epoch": self._in_epoch,
            "sums": self.job.gather(self._sums),  # [world, 3]
            "seconds": self._seconds,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; with another number of processes, too, but then to other weights."""
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
        self._average = state["average"]


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

    def __init__(self, folder: Path, run: _Run, tensorboard: bool, stack: contextlib.ExitStack) -> None:
        self._path = folder / _METRICS
        lines = [
            line for line in atomic.json_lines(self._path) if line["epoch"] <= run.epoch
        ]  # others will be run again
        atomic.write(self._path, "".join(json.dumps(line) + "\n" for line in lines))
        steps = run.epoch_steps * run.recipe.epochs
        self._show = stack.enter_context(Training(folder.name, run.recipe.epochs, run.epoch_steps, steps))
        self._board = board.Board(folder / "tensorboard", lines) if tensorboard else None
        if self._board:
            stack.callback(self._board.close)

    def step(self, run: _Run) -> None:
        """Show a step."""
        in_epoch, speed = run.progress()
        self._show.step(run.epoch + 1, in_epoch, run.step, speed)

    def write(self, line: dict[str, Any]) -> None:
        """Write and show an epoch."""
        atomic.append_line(self._path, json.dumps(line))
        if self._board:
            self._board.write(line)
        self._show.epoch(line)


def _results(recipe: Recipe, lines: list[dict[str, Any]], job: Processes) -> dict[str, Any]:
    errors = [line["test_error"] for line in lines]
    return {
        "recipe": json.loads(json.dumps(asdict(recipe))),  # as it is read back
        "test_error": {
            "median_of_last_10": statistics.median(errors[-_LAST:]),
            "best": min(errors),
            "last": errors[-1],
        },
        "epochs": lines,
        "processes": job.world_size,
        "device": str(job.device.type),
        "versions": {"vicinal": vicinal.__version__, "torch": torch.__version__},
    }
