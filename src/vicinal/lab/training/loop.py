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
import math
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vicinal
from vicinal import LatentMixing, metrics
from vicinal.finite import FiniteCheck
from vicinal.keyed import Key
from vicinal.lab import atomic, parse, records
from vicinal.lab.console import TrainingProgress
from vicinal.lab.data import loading
from vicinal.lab.data.dataset import Data
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.streams import Stream
from vicinal.lab.training import checkpoint, knn, runs, weights
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
            is not installed; or inf or nan appeared.

    """
    settings = settings or RunSettings()
    if settings.tensorboard:
        _check_tensorboard()
    chosen = {name: repr(value) for name, value in (*asdict(recipe).items(), *asdict(settings).items())}
    job.check_alike("recipe", chosen)
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
        run.load(checkpoint.load(last), last.path)
    if settings.stop_at_nonfinite:
        run.finite = FiniteCheck(run.model, folder)
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
    return job.on_rank_zero(
        lambda: runs.write_results(folder, recipe, run.model, run.lines, run.stretches, job.device.type)
    )


def _is_due(run: _Run, late: bool) -> bool:
    """Return whether all processes write a checkpoint after this step: where the first one is late."""
    if run.job.world_size == 1:
        return late
    return run.step % _AGREE == 0 and run.job.broadcast(float(late)) > 0


def _save(folder: Path, run: _Run) -> None:
    state = run.state()  # of all processes
    if run.job.rank == 0:
        checkpoint.save(folder, run.step, state)


@dataclass(frozen=True)
class _Position:
    """What a checkpoint says of a run besides its tensors."""

    fingerprint: str  # of the recipe
    vicinal: str  # version
    epoch: int
    step: int
    in_epoch: int
    seconds: float  # of this epoch so far
    stretches: list[runs.Stretch]
    epochs: list[dict[str, Any]]  # lines of metrics.jsonl


class _Run:
    """Saved of a training: model, optimizer and counters."""

    def __init__(self, recipe: Recipe, data: Data, test: Data, job: Processes) -> None:
        self.recipe, self.data, self.test, self.job = recipe, data, test, job
        self.epoch, self.step, self._in_epoch = 0, 0, 0
        self.lines: list[dict[str, Any]] = []  # of metrics.jsonl
        self.stretches = [runs.Stretch(0, job.world_size, str(torch.__version__))]
        self.finite: FiniteCheck | None = None  # stops at inf and nan
        self.vicinity = parse.parse(recipe.vicinity)
        with fork_rng(Key(recipe.seed, 0, 0, 0, Stream.WEIGHTS)):
            model = runs.build_model(recipe, len(data.classes))
        for name, value in model.state_dict().items():
            if not isinstance(value, Tensor):
                raise UserError(
                    f"the state of {recipe.model!r} holds {name!r}, a {type(value).__name__}, and checkpoints hold tensors: "
                    "make it a buffer"
                )
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
        self.epoch_steps = len(self._batches(0, job.world_size))
        if not self.epoch_steps:
            raise UserError(
                f"{len(data)} examples in batches of {recipe.batch_size} give no step for {job.world_size} processes with "
                f"grad_accum_steps={recipe.grad_accum_steps}: a batch needs "
                f"{job.world_size * recipe.grad_accum_steps} examples or more"
            )
        if job.world_size > 1:
            self._warm_up_ddp()

    def _batches(self, epoch: int, world_size: int) -> list[Tensor]:
        """Return the rows of each step of an epoch, over all processes."""
        recipe = self.recipe
        order = torch.from_numpy(Key(recipe.seed, 0, 0, epoch, Stream.ORDER).generator().permutation(len(self.data)))
        least = world_size * recipe.grad_accum_steps
        batches = [rows for rows in order.split(recipe.batch_size) if len(rows) >= least]
        return batches[: recipe.max_steps_per_epoch]

    def _warm_up_ddp(self) -> None:
        """Take one backward pass whose gradients are dropped.

        DistributedDataParallel lays gradients out anew after its first backward pass, and a sum over three or more
        processes depends on the layout in its last bits. From here on the layout is the same, resumed or not.
        """
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        x, _ = self.data.batch(self.job.shard(self._batches(0, self.job.world_size)[0]), None)
        self._forward.train()
        with fork_rng(Key(0, self.job.rank, 0, 0, Stream.DROPOUT)), self._precision():
            self._forward(x).float().sum().backward()
        self._optimizer.zero_grad()
        self.model.load_state_dict(before)

    def steps(self) -> Iterator[None]:
        """Take the remaining steps of this epoch; yields after each."""
        recipe, batches = self.recipe, self._batches(self.epoch, self.job.world_size)
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
        outs, losses = [], []
        for i, part in enumerate(parts):
            inside = slice(int(part[0]), int(part[-1]) + 1)
            mixed = contextlib.nullcontext() if self._latent is None else self._latent(plan)
            with self._without_sync(i < len(parts) - 1):
                with fork_rng(key._replace(stream=Stream.DROPOUT + 8 * i)), self._precision(), mixed:
                    out = self._forward(x[inside])
                # the mean over all rows of the step, wherever they are computed
                losses.append(self._backward(out.float(), target[inside], len(part) * self.job.world_size / len(rows)))
                outs.append(out.detach())
        if self.finite is not None and self.finite.find(x, target, output=outs, loss=losses) is not None:
            self._end_at_nonfinite(mine, key, (x, target, plan), (outs, losses))
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
        if plan.rows_out != len(plan):
            raise UserError(f"a recipe trains on as many rows as it reads: {self.recipe.vicinity} makes more")
        if self._neighbors is not None:
            other = self.data.batch(self._neighbors.draw(rows, key), key._replace(worker=knn.WORKER))
            x, y, plan = knn.with_partners((x, y), other, plan)
        target = plan.target(y)[: len(rows)]
        return (x if self._latent is not None else plan(x)[: len(rows)]), target, plan

    def _end_at_nonfinite(
        self, rows: Tensor, key: Key, batch: tuple[Tensor, Any, Plan], found: tuple[Any, Any]
    ) -> None:
        """Save the batch of a step in which inf or nan appeared, and end.

        Raises:
            UserError: always, but for a batch whose numbers are finite where only their sum is not.

        """
        assert self.finite is not None
        (x, target, plan), (outs, losses) = batch, found
        own = self.data.batch(rows, key)  # the examples as they were before mixing, which spreads what they hold
        also = {"epoch": self.epoch, "rows": rows, "learning_rate": self._optimizer.param_groups[0]["lr"]}
        figures = {"step": self.step, "output": outs, "loss": losses}
        try:
            if self._neighbors is None:  # else the plan is that of the batch and its partners
                self.finite(*own, **figures, plan=plan, also=also)
            self.finite(x, target, **figures, also=also | {"plan": plan.to("cpu").to_dict()})
        except FloatingPointError as error:
            raise self._ended(str(error)) from error

    def _ended(self, what: str) -> UserError:
        """Return the error that ends a run at inf or nan."""
        rate = self._optimizer.param_groups[0]["lr"]
        return UserError(
            f"in epoch {self.epoch + 1} {what}; the learning rate was {rate:g}; what was saved before this step is kept, "
            "and the same command ends alike: change the data, or the recipe with another --out"
        )

    def _backward(self, out: Tensor, target: Any, share: float) -> Tensor:
        """Add the gradients of a part of a step, `share` of its rows, and its figures; return the loss."""
        loss = F.cross_entropy(out, target)
        (loss * share).backward()
        with torch.no_grad():
            hits = metrics.mixed_accuracy(out, target)
            # added up where they are: reading them would make the host wait for the device at every step
            scores = torch.stack([loss.detach(), hits, torch.ones_like(hits)])
            self._sums.add_(scores.double(), alpha=len(out))
        return loss.detach()

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
            "learning_rate": self.recipe.lr_at(self.epoch, (self._in_epoch - 1) / self._in_epoch),  # of the last step
            "train_mixed_loss": loss / rows,
            "train_mixed_accuracy": hits / rows,  # of mixed labels: not to be compared with an accuracy
            "examples_per_second": rows / self._seconds if self._seconds else None,
            **{f"test_{name}": value for name, value in self.evaluate().items()},
        }
        if self._ema is not None:
            with self._with_ema_weights():
                line |= {f"test_ema_{name}": value for name, value in self.evaluate().items()}
        self.lines.append(records.to_json(line))
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
        bad = ""
        for rows in batches:
            x, y = self.test.batch(rows, None)
            with self._precision():
                out = self.model(x)
            log_p = out.double().log_softmax(1)
            best = log_p.topk(min(5, log_p.shape[1]), dim=1).indices
            right = best == y[:, None]
            nll = -log_p.gather(1, y[:, None]).sum()
            sums += torch.stack([right[:, 0].sum(), right.any(1).sum(), nll, y.new_tensor(len(y))]).double().cpu()
            if self.finite is not None and not math.isfinite(sums[2]) and not bad:
                bad = self._save_nonfinite_test(rows, x, y, out)
        first, five, nll, rows = self.job.sum(sums).tolist()
        if self.finite is not None and not math.isfinite(nll):  # in all processes
            raise self._ended(
                f"{bad or 'another process found inf or nan in its test examples'} (after step {self.step})"
            )
        scores = {"error": 1 - first / rows, "nll": nll / rows}
        return scores | ({"top5_error": 1 - five / rows} if len(self.test.classes) > 5 else {})

    def _save_nonfinite_test(self, rows: Tensor, x: Tensor, y: Tensor, out: Tensor) -> str:
        """Save a batch of test examples for which the outputs are not finite; return what was found, in words."""
        assert self.finite is not None
        try:
            self.finite(x, y, step=self.step, output=out, also={"epoch": self.epoch, "test rows": rows})
        except FloatingPointError as error:
            return str(error).replace(f"at step {self.step} ", "in the test examples ", 1)
        return "in the test examples the outputs are too large to be added up"

    @contextmanager
    def _with_ema_weights(self) -> Iterator[None]:
        own = [p.detach().clone() for p in self.model.parameters()]
        with torch.no_grad():
            torch._foreach_copy_(list(self.model.parameters()), self._ema)  # type: ignore[arg-type]
            yield
            torch._foreach_copy_(list(self.model.parameters()), own)

    def state(self) -> checkpoint.Saved:
        """Return everything that the rest of the run depends on; all processes take part.

        Weights, averages and the state of the optimizer are the same in all. Running statistics of BatchNorm are not,
        but only those of rank 0 count: DistributedDataParallel broadcasts them before each step.
        """
        position = _Position(
            self.recipe.fingerprint(), vicinal.__version__, self.epoch, self.step, self._in_epoch, self._seconds,
            self.stretches, self.lines,
        )  # fmt: skip
        tensors = {"sums": self.job.gather(self._sums)}  # [world, 3]
        tensors |= {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for i, of in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in of.items() if isinstance(value, Tensor)}
        tensors |= {f"ema.{i}": value for i, value in enumerate(self._ema or ())}
        return checkpoint.Saved(records.to_json(position), tensors)

    def load(self, state: checkpoint.Saved, path: str = "the checkpoint") -> None:
        """Resume where `state` was taken; with another number of processes, too, but then to other weights.

        Raises:
            UserError: it is not a state of this run.

        """
        try:
            position = records.from_json(_Position, state.record)
            batches = self._check_position(position)
            self._load_tensors(state.tensors, position, batches)
        except records.Mismatch as error:
            raise checkpoint.unfit(path, str(error)) from error
        self.epoch, self.step, self._in_epoch = position.epoch, position.step, position.in_epoch
        self._seconds, self.lines = position.seconds, position.epochs
        self.stretches = self._continued(position)

    def _check_position(self, position: _Position) -> list[Tensor]:
        """Check counters against the recipe and the data; return the steps of the epoch that were taken already."""
        recipe = self.recipe
        _check(position.vicinal == vicinal.__version__, "it is of another version of vicinal")
        _check(position.fingerprint == recipe.fingerprint(), "it is of another recipe")
        _check(0 <= position.epoch <= recipe.epochs, f"epoch must lie in 0 to {recipe.epochs}, found {position.epoch}")
        _check(position.seconds >= 0, f"seconds must be a number of 0 or more, found {position.seconds}")
        runs.check_epochs(position.epochs)
        runs.check_stretches(position.stretches, position.step)
        _check(len(position.epochs) == position.epoch, f"it has {len(position.epochs)} of {position.epoch} epochs")
        done = position.epochs[-1]["step"] if position.epochs else 0
        _check(
            position.step == done + position.in_epoch,
            f"step must be {done} + {position.in_epoch}, found {position.step}",
        )
        most = -(-len(self.data) // recipe.batch_size)
        steps = [0, *(line["step"] for line in position.epochs)]
        _check(all(b - a <= most for a, b in itertools.pairwise(steps)), f"an epoch has {most} steps at most")
        batches = (
            self._batches(position.epoch, position.stretches[-1].processes) if position.epoch < recipe.epochs else []
        )
        _check(
            0 <= position.in_epoch <= len(batches),
            f"in_epoch must lie in 0 to {len(batches)}, found {position.in_epoch}",
        )
        return batches[: position.in_epoch]

    def _load_tensors(self, found: dict[str, Tensor], position: _Position, taken: list[Tensor]) -> None:
        """Load tensors that fit those of this run."""
        world = position.stretches[-1].processes
        model = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        averages = {f"ema.{i}": value for i, value in enumerate(self._ema or ())}
        optimizer = _optimizer_tensors(self._optimizer, found)
        sums = torch.empty(world, 3, dtype=torch.float64, device="meta")
        checkpoint.check_fits(found, {"sums": sums, **model, **optimizer, **averages})
        sums = found["sums"]
        right = bool((sums >= 0).all()) and sums[:, 2].sum().item() == sum(map(len, taken))
        _check(right, "'sums' must hold losses, hits and rows of the steps of this epoch")
        state: dict[int, dict[str, Tensor]] = {}
        for key in optimizer:
            _, i, name = key.split(".")
            state.setdefault(int(i), {})[name] = found[key]
            count = found[key].item() if name == "step" else 1.0
            _check(1 <= count <= position.step and count == int(count), f"{key!r} must count steps, found {count:g}")
        if world == self.job.world_size:
            self._sums = sums[self.job.rank].to(self.job.device, copy=True)
        else:
            self._sums = (sums.sum(0) * (self.job.rank == 0)).to(self.job.device)
        weights.load_into(self.model, {name.removeprefix("model."): found[name] for name in model})
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})
        if self._ema is not None:
            self._ema = [found[name].to(self.job.device) for name in averages]

    def _continued(self, position: _Position) -> list[runs.Stretch]:
        """Return the stretches of a run that goes on here, with a warning where the circumstances are others."""
        stretches, last = position.stretches, position.stretches[-1]
        here = runs.Stretch(position.step, self.job.world_size, str(torch.__version__))
        changes = []
        if here.processes != last.processes:
            changes.append(
                f"with {here.processes} process(es) where it had {last.processes}: what they draw differs, and the weights "
                "will not be those of a run with one number throughout"
            )
        if here.torch != last.torch:
            changes.append(
                f"with PyTorch {here.torch} where it had {last.torch}: the last bits of its weights may differ from those "
                "of one version throughout"
            )
        if changes and self.job.rank == 0:
            warnings.warn(
                f"from step {position.step} of epoch {position.epoch + 1} this run goes on {'; and '.join(changes)}; "
                "results.json says so under 'stretches'",
                stacklevel=3,
            )
        return [*stretches, here] if changes else stretches


def _check(right: bool, reason: str) -> None:
    if not right:
        raise records.Mismatch(reason)


def _optimizer_tensors(optimizer: torch.optim.Optimizer, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what the state of an optimizer is like for the parameters of which `found` holds some.

    Parameters that never had a gradient have none.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    adam = isinstance(optimizer, torch.optim.Adam)
    names = ("exp_avg", "exp_avg_sq") if adam else ("momentum_buffer",) if optimizer.param_groups[0]["momentum"] else ()
    wanted: dict[str, Tensor] = {}
    for i, parameter in enumerate(parameters):
        if any(f"optimizer.{i}.{name}" in found for name in (*names, "step")):
            wanted |= {f"optimizer.{i}.{name}": parameter for name in names}
            wanted |= {f"optimizer.{i}.step": torch.empty((), dtype=torch.float32, device="meta")} if adam else {}
    return wanted


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
        lines = run.lines  # what else the file holds is run again
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
        atomic.append_line(self._path, json.dumps(records.to_json(line)))
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
