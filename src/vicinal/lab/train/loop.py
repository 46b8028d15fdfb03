"""The training loop: one, readable, for every network and every data set of the lab.

A run is a pure function of its recipe. The examples of a step, their augmentation, their mixing and their dropout are
keyed by (seed, epoch, step), so that a run that is killed at any instant goes on from its last checkpoint to the very
weights it would have had. The examples of a step are decided for all processes together, and cut among them.

The run folder:

    recipe.json       what is trained; another recipe is refused this folder
    metrics.jsonl     one line an epoch
    step-*.ckpt       the last two checkpoints, until the run is done
    results.json      the figures of a finished run
    weights.pt        the weights of a finished run, for torch.load(weights_only=True)
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vicinal
from vicinal import metrics
from vicinal.lab import files, models, spec
from vicinal.lab.errors import UserError
from vicinal.lab.train import checkpoint, examples
from vicinal.lab.train.distributed import Job
from vicinal.lab.train.examples import Examples
from vicinal.lab.train.recipe import Recipe
from vicinal.random import Key

_ORDER, _DROPOUT, _WEIGHTS = 2**63, 2**63 + 4, 2**63 + 5  # streams beside those of the plans
_SECONDS = 60.0  # between checkpoints
_LAST = 10  # epochs whose median test error is the paper's figure
_EVALUATION_BATCH = 500


class Stopped(Exception):
    """A run was asked to stop; its last checkpoint is in the folder, and the same call goes on from there."""


def train(
    recipe: Recipe,
    folder: Path,
    job: Job,
    seconds: float = _SECONDS,
    stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Train by a recipe, from the start or from the last checkpoint in the folder.

    Args:
        recipe: what to train.
        folder: of the run; made if absent.
        job: the processes.
        seconds: between checkpoints of one process, beside that after each epoch.
        stop: asked after each step of one process whether the time is over.

    Returns:
        What results.json holds.

    Raises:
        Stopped: `stop` said so; a checkpoint was written first.
        UserError: the folder holds another recipe, or the data are not there.

    """
    ours = _is_ours(folder, recipe)
    if ours and (folder / "results.json").exists():
        return json.loads((folder / "results.json").read_text())
    data, test = (part.to(job.device) for part in examples.load(recipe))
    job.wait()  # all have looked at the folder
    if job.rank == 0 and not ours:
        folder.mkdir(parents=True, exist_ok=True)
        record = {"fingerprint": recipe.fingerprint(), "vicinal": vicinal.__version__, "recipe": asdict(recipe)}
        files.write(folder / "recipe.json", json.dumps(record, indent=1))
    job.wait()
    run = _Run(recipe, data, test, job)
    log = _Log(folder, job)
    state = checkpoint.load_last(folder, job.device)
    if state is not None:
        run.load(state)
    log.cut(run.epoch)
    saved = time.monotonic()
    while run.epoch < recipe.epochs:
        for _ in run.steps():
            over = stop is not None and job.world == 1 and stop()
            if job.world == 1 and (over or time.monotonic() - saved > seconds):  # many: after each epoch only
                checkpoint.save(folder, run.step, run.state())
                saved = time.monotonic()
            if over:
                raise Stopped(f"stopped after step {run.step}")
        log.write(run.end_epoch())
        if job.rank == 0:
            checkpoint.save(folder, run.step, run.state())
            saved = time.monotonic()
    results = _results(recipe, log.lines(), job)
    if job.rank == 0:
        _finish(folder, run, results)
    job.wait()
    return results


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
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is there already and is not a run; choose another --out")
    return False


def _finish(folder: Path, run: _Run, results: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(run.network.state_dict(), buffer)
    files.write(folder / "weights.pt", buffer.getvalue())
    files.write(folder / "results.json", json.dumps(results, indent=1))
    checkpoint.remove_all(folder)


class _Run:
    """What changes while a network is trained."""

    def __init__(self, recipe: Recipe, data: Examples, test: Examples, job: Job) -> None:
        self.recipe, self.data, self.test, self.job = recipe, data, test, job
        self.epoch, self.step, self._in_epoch = 0, 0, 0
        self.vicinity = spec.parse(recipe.vicinity)
        options = {"dropout": recipe.dropout} if recipe.dropout else {}
        with _seeded(Key(recipe.seed, 0, 0, 0, _WEIGHTS)):
            network = models.build(recipe.network, len(data.classes), **options)
        memory = torch.channels_last if recipe.channels_last and data.inputs.ndim == 4 else torch.preserve_format
        self.network = network.to(job.device).to(memory_format=memory)  # type: ignore[call-overload]
        self._average = [p.detach().clone() for p in self.network.parameters()] if recipe.ema else None
        self._optimizer = _optimizer(self.network, recipe)
        if recipe.compile:
            self.network.compile()
        self._forward = job.wrap(self.network)
        self._sums = self._no_sums()  # loss, hits, rows of this epoch so far
        self._seconds = 0.0

    def steps(self) -> Iterator[None]:
        """Take the steps of this epoch that are not yet taken."""
        recipe = self.recipe
        order = torch.from_numpy(Key(recipe.seed, 0, 0, self.epoch, _ORDER).generator().permutation(len(self.data)))
        batches = [rows for rows in order.split(recipe.batch) if len(rows) >= self.job.world * recipe.accumulate]
        self._forward.train()
        while self._in_epoch < len(batches):
            start = time.perf_counter()
            rate = recipe.rate(self.epoch, self._in_epoch / len(batches))
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._take_step(batches[self._in_epoch])
            self._in_epoch += 1
            self.step += 1
            self._seconds += time.perf_counter() - start
            yield

    def _take_step(self, rows: Tensor) -> None:
        recipe, job = self.recipe, self.job
        mine = job.share(rows).to(job.device)
        key = Key(recipe.seed, job.rank, 0, self.step)
        x, y = self.data.batch(mine, key)
        plan = self.vicinity.plan(
            len(y), y, x, step=self.step, epoch=self.epoch, seed=recipe.seed, rank=job.rank, worker=0
        )
        x, target = plan(x), plan.target(y)
        self._optimizer.zero_grad()
        parts = torch.arange(len(y)).tensor_split(recipe.accumulate)
        for i, part in enumerate(parts):
            inside = slice(int(part[0]), int(part[-1]) + 1)
            last = i == len(parts) - 1
            with _seeded(key._replace(stream=_DROPOUT + 8 * i)), self._without_sync(not last), self._precision():
                out = self._forward(x[inside])
            with self._without_sync(not last):
                loss = F.cross_entropy(out.float(), target[inside])
                # the mean over all rows of the step, wherever they are computed
                (loss * (len(part) * job.world / len(rows))).backward()
            with torch.no_grad():
                hits = metrics.mixed_accuracy(out.float(), target[inside])
                # added up where they are: reading them would make the host wait for the device at every step
                scores = torch.stack([loss.detach(), hits, torch.ones_like(hits)])
                self._sums.add_(scores.double(), alpha=len(part))
        self._optimizer.step()
        if self._average is not None:
            with torch.no_grad():
                torch._foreach_lerp_(self._average, list(self.network.parameters()), 1 - recipe.ema)

    def _without_sync(self, skip: bool) -> contextlib.AbstractContextManager[Any]:
        return self._forward.no_sync() if skip and self.job.world > 1 else contextlib.nullcontext()  # type: ignore[operator]

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.job.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

    def end_epoch(self) -> dict[str, Any]:
        """Evaluate, count the epoch, and give its figures."""
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
        self.network.eval()
        sums = torch.zeros(4, dtype=torch.float64)
        batches = torch.arange(len(self.test)).split(_EVALUATION_BATCH)
        for rows in batches[self.job.rank :: self.job.world]:
            x, y = self.test.batch(rows.to(self.job.device), None)
            with self._precision():
                out = self.network(x)
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
        own = [p.detach().clone() for p in self.network.parameters()]
        with torch.no_grad():
            torch._foreach_copy_(list(self.network.parameters()), self._average)  # type: ignore[arg-type]
            yield
            torch._foreach_copy_(list(self.network.parameters()), own)

    def state(self) -> dict[str, Any]:
        """Give everything that the rest of the run depends on."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "in_epoch": self._in_epoch,
            "sums": self._sums,
            "seconds": self._seconds,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.epoch, self.step, self._in_epoch = state["epoch"], state["step"], state["in_epoch"]
        self._sums, self._seconds = state["sums"].to(self.job.device), state["seconds"]
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._average = state["average"]


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    decayed = [p for p in network.parameters() if p.ndim > 1 or recipe.decay_norms]
    others = [p for p in network.parameters() if not (p.ndim > 1 or recipe.decay_norms)]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=recipe.learning_rate)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)


@contextmanager
def _seeded(key: Key) -> Iterator[None]:
    """Let PyTorch's global generators, which initial weights and dropout draw from, start from a key, for this block."""
    seed = int(key.generator().integers(2**63))
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # noqa: TID251 (inside the fork)
        yield


class _Log:
    """metrics.jsonl, written by the first process."""

    def __init__(self, folder: Path, job: Job) -> None:
        self._path, self._job = folder / "metrics.jsonl", job

    def cut(self, epochs: int) -> None:
        """Forget epochs that will be run again."""
        if self._job.rank == 0 and self._path.exists():
            kept = [json.dumps(line) + "\n" for line in self.lines() if line["epoch"] <= epochs]
            files.write(self._path, "".join(kept))
        self._job.wait()

    def write(self, line: dict[str, Any]) -> None:
        """Write and show an epoch."""
        if self._job.rank == 0:
            files.append_line(self._path, json.dumps(line))
            speed = line["examples_per_second"] or 0.0
            print(
                f"epoch {line['epoch']:3d}  mixed loss {line['train_mixed_loss']:.4f}  "
                f"test error {100 * line['test_error']:.2f} %  {speed:.0f} examples/s",
                file=sys.stderr,
                flush=True,
            )

    def lines(self) -> list[dict[str, Any]]:
        """Give all lines."""
        return files.json_lines(self._path)


def _results(recipe: Recipe, lines: list[dict[str, Any]], job: Job) -> dict[str, Any]:
    errors = [line["test_error"] for line in lines]
    if job.rank != 0 and not errors:  # another machine, without the log
        return {}
    return {
        "recipe": json.loads(json.dumps(asdict(recipe))),  # as it is read back
        "test_error": {
            "median_of_last_10": statistics.median(errors[-_LAST:]),
            "best": min(errors),
            "last": errors[-1],
        },
        "epochs": lines,
        "processes": job.world,
        "device": str(job.device.type),
        "versions": {"vicinal": vicinal.__version__, "torch": torch.__version__},
    }
