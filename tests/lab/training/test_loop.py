"""The training loop: what a recipe decides, exact resumption after a kill at any instant, and the same work by many."""

import json
import math
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import kill_run
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import vicinal as v
from vicinal.lab import atomic, models, parse, stored
from vicinal.lab.data import loading
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.data.transforms import CropFlip
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.streams import Stream
from vicinal.lab.training import checkpoint, distributed, loop, runs
from vicinal.lab.training import simple as plainest
from vicinal.lab.training.distributed import Processes
from vicinal.lab.training.settings import RunSettings

ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20 small images each, told apart by their color."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.Generator(np.random.Philox(5))
    for c, word in enumerate(("blue", "green", "red")):
        (folder / word).mkdir()
        for i in range(20):
            pixels = generator.integers(0, 160, (16, 16, 3), dtype=np.uint8)
            pixels[:, :, 2 - c] += 80
            Image.fromarray(pixels).save(folder / word / f"{i}.png")
    return folder


def recipe(data: Path, **changes: object) -> Recipe:
    values = {
        "dataset": str(data),
        "model": "small",
        "vicinity": "Mixup(alpha=1.0)",
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.05,
        "milestones": (2,),
        "channels_last": False,
    }
    return Recipe(**{**values, **changes})  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "weights.pt", weights_only=True)


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


class Stop(Exception):
    """Stands for a kill."""


def error_of(what: Recipe, folder: Path) -> float:
    """The test error of the weights that a run wrote."""
    _, test = loading.load(what)
    model = models.build(what.model, 3)
    model.load_state_dict(weights(folder))
    x, y = test.batch(torch.arange(len(test)), None)
    with torch.no_grad():
        return float((model.eval()(x).argmax(1) != y).double().mean())


def test_the_loop_is_the_plain_loop(images: Path, tmp_path: Path) -> None:
    """Against the same steps written down one by one, without the loop's classes."""
    what = recipe(images, epochs=2, momentum=0.8, weight_decay=0.01)
    loop.train(what, tmp_path / "run", ALONE)
    data, _ = loading.load(what)
    with loop.fork_rng(v.Key(0, 0, 0, 0, Stream.WEIGHTS)):
        model = models.build("small", 3)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.8, weight_decay=0.01)
    mixup, step = v.Mixup(1.0, seed=what.seed), 0
    for epoch in range(2):
        order = v.Key(0, 0, 0, epoch, Stream.ORDER).generator().permutation(len(data))
        for rows in torch.from_numpy(order).split(8):
            x, y = data.batch(rows, v.Key(0, 0, 0, step))
            plan = mixup.plan(len(y), step=step)
            sgd.zero_grad()
            F.cross_entropy(model(plan(x)), plan.target(y)).backward()
            sgd.step()
            step += 1
    for name, value in weights(tmp_path / "run").items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-5, atol=1e-6)


class HalfCosine(Recipe):
    """The learning rates of `plain.Training`."""

    def lr_at(self, epoch: int, progress: float = 0.0) -> float:
        return self.learning_rate * (1 + math.cos(math.pi * (epoch + progress) / self.epochs)) / 2


class Dropping(torch.nn.Module):
    """Batch statistics and dropout, which would show randomness or a memory format that differs."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 5, stride=2), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.Dropout(0.3)
        )
        self.last = torch.nn.Linear(6, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.layers(x).mean((2, 3)))


@pytest.mark.parametrize("vicinity", ["ERM()", "Mixup(alpha=0.4)", "CutMix(alpha=1.0)"])
def test_the_plainest_loop_trains_to_the_same_bits(
    vicinity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`plain.train`, where both apply: Adam without decay, in float32, and no last batch of one example.

    Weights and running statistics are the same to the last bit. So are the losses of mixed examples. Of ERM they are so
    to rounding: this loop takes slices of the target, and of a slice without mixing PyTorch adds up the losses itself, in
    another order than `vicinal.losses` does for a whole plan's target; the gradients are the same.
    """
    what = HalfCosine(
        "synthetic-images",
        f"{__name__}:Dropping",
        vicinity,
        epochs=2,
        batch_size=32,  # 4 steps of 120 examples: shares of 8 steps have no rounding
        optimizer="adam",
        learning_rate=0.01,
        weight_decay=0.0,
        seed=3,
    )
    losses: list[float] = []

    def cross_entropy(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        loss = F.cross_entropy(out, target)
        losses.append(loss.item())
        return loss

    for module in (loop, plainest):
        monkeypatch.setattr(module, "F", SimpleNamespace(cross_entropy=cross_entropy))
    results = loop.train(what, tmp_path / "run", ALONE)
    ours = losses[:]
    losses.clear()
    data, test = loading.load(what)
    assert isinstance(data, InMemoryDataset)
    assert isinstance(test, InMemoryDataset)
    training = plainest.SimpleTraining(what.model, epochs=2, batch_size=32, learning_rate=0.01)
    model, _ = plainest.train(training, data, torch.arange(len(data)), parse.parse(vicinity), seed=3)
    assert len(losses) == len(set(losses)) == 8
    np.testing.assert_allclose(losses, ours, rtol=4 * np.finfo(np.float32).eps if vicinity == "ERM()" else 0)
    assert weights(tmp_path / "run").keys() == model.state_dict().keys()
    for name, value in weights(tmp_path / "run").items():
        assert torch.equal(value, model.state_dict()[name]), name
    hits = plainest.outputs(model, test, torch.arange(len(test))).argmax(1) == test.labels
    assert results.test_error.last == 1 - hits.sum().item() / len(test)


def test_it_learns_and_reports(images: Path, tmp_path: Path) -> None:
    results = loop.train(recipe(images, epochs=12, milestones=()), tmp_path / "run", ALONE)
    errors = [line["test_error"] for line in results.epochs]
    assert results.test_error.last == errors[-1] < 0.2
    assert results.test_error.best == min(errors)
    assert results.test_error.median_of_last_10 == sorted(errors[-10:])[4] / 2 + sorted(errors[-10:])[5] / 2
    assert [line["epoch"] for line in results.epochs] == list(range(1, 13))
    assert not list((tmp_path / "run").glob("*.ckpt"))
    written = json.loads((tmp_path / "run" / "results.json").read_text())
    assert list(written) == [
        *("format", "recipe", "test_error", "epochs", "processes", "device", "versions", "stretches", "weights_sha256"),
        "sha256",
    ]
    assert runs.load_results(tmp_path / "run") == results
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines == results.epochs
    again = loop.train(recipe(images, epochs=12, milestones=()), tmp_path / "run", ALONE)  # done already
    assert again == results
    path = tmp_path / "run" / "results.json"
    for damaged in ("{", "[]", "{}", '{"recipe": 3}', path.read_text().replace("cpu", "gpu")):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"results.json cannot be used: .*; remove .* and train that run again"):
            loop.train(recipe(images, epochs=12, milestones=()), tmp_path / "run", ALONE)


def test_the_test_error_is_that_of_the_weights(images: Path, tmp_path: Path) -> None:
    what = recipe(images, epochs=2)
    results = loop.train(what, tmp_path / "run", ALONE)
    assert results.test_error.last == pytest.approx(error_of(what, tmp_path / "run"))


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adam", "learning_rate": 1e-3},
        {"grad_accum_steps": 2},
        {"ema_decay": 0.9},
        pytest.param({"precision": "bfloat16"}, marks=pytest.mark.torture),  # slow where a CPU computes it by float32
        {"vicinity": "Scheduled(Mixup(alpha=0.2), start=1)", "label_noise": 0.5},
        {"model": "tests_lab_linear:build", "dropout": 0.5},
        {"decay_norm_and_bias": False, "nesterov": True, "warmup_epochs": 2},
        {"channels_last": True},
    ],
)
def test_every_option_resumes_to_the_same_bits(
    images: Path, tmp_path: Path, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    what = recipe(images, **changes)
    loop.train(what, tmp_path / "whole", ALONE)
    written = []
    save = checkpoint.save

    def save_then_stop(folder: Path, step: int, state: dict[str, object]) -> Path:
        path = save(folder, step, state)  # type: ignore[arg-type]
        written.append(step)
        if len(written) in (1, 4):
            raise Stop
        return path

    monkeypatch.setattr(checkpoint, "save", save_then_stop)
    for _ in range(2):  # a checkpoint after every step; stopped after the first and the fourth
        try:
            loop.train(what, tmp_path / "parts", ALONE, RunSettings(save_every=0.0))
        except Stop:
            continue
    monkeypatch.undo()
    loop.train(what, tmp_path / "parts", ALONE)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    whole, parts = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "parts"))
    for a, b in zip(whole["epochs"], parts["epochs"], strict=True):
        a.pop("examples_per_second"), b.pop("examples_per_second")
        assert a == b


def test_accumulation_changes_nothing_but_memory(images: Path) -> None:
    # without batch norm, whose statistics are those of the part
    data, test = loading.load(recipe(images))
    results = []
    for accumulate in (1, 4):
        what = recipe(images, model="tests_lab_linear:build", grad_accum_steps=accumulate)
        run = loop._Run(what, data, test, ALONE)
        for _ in run.steps():
            pass
        results.append([p.detach().clone() for p in run.model.parameters()])
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


@pytest.fixture(autouse=True)
def linear_module(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A model without batch norm, as a module of the user's own."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "tests_lab_linear.py").write_text(
        "from torch import nn\n"
        "def build(num_classes, dropout=0.0):\n"
        "    first = nn.Linear(3 * 64 * 64, 8)\n"
        "    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(folder))


def together(target: Callable[..., None], world: int, *args: object) -> None:
    """Run `target(job, *args)` in the processes of one job, forked from a server that has imported PyTorch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = [
        kill_run.processes.Process(target=_join, args=(target, rank, world, port, args)) for rank in range(world)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
    assert [process.exitcode for process in running] == [0] * world


def _join(target: Callable[..., None], rank: int, world: int, port: int, args: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with distributed.job(60) as job:
        target(job, *args)


def stopped_and_whole(job: Processes, what: Recipe, folder: Path) -> None:
    """Train once whole, once stopped in the middle of an epoch and taken up again."""
    loop.train(what, folder / "whole", job)
    save, end_epoch = loop._save, loop._Run.end_epoch
    means: list[list[float]] = []

    def stopping(where: Path, run: loop._Run) -> None:
        save(where, run)
        if run.step % run.epoch_steps and run.step > run.epoch_steps:
            raise Stop

    def noting(run: loop._Run) -> dict[str, object]:
        means.append(run.model.get_buffer("layer1.2.running_mean").tolist())
        return end_epoch(run)

    loop._save, loop._Run.end_epoch = stopping, noting  # type: ignore[assignment]
    try:
        loop.train(what, folder / "parts", job, RunSettings(save_every=0.0))
    except Stop:
        (folder / f"rank-{job.rank}.json").write_text(json.dumps(means))
    job.broadcast(0.0)  # wait for all
    loop._save = save
    loop.train(what, folder / "parts", job)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_many_processes_resume_in_the_middle_of_an_epoch_to_the_same_bits(
    images: Path, tmp_path: Path, world: int
) -> None:
    # three: there the order of a sum matters, as it does not for two
    what = recipe(images, batch_size=6, epochs=2, milestones=(1,), ema_decay=0.9)
    together(stopped_and_whole, world, what, tmp_path)
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    whole, parts = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "parts"))
    for a, b in zip(whole["epochs"], parts["epochs"], strict=True):
        a.pop("examples_per_second"), b.pop("examples_per_second")
        assert a == b
    # what BatchNorm counts differs from process to process, and what is tested is what is written
    means = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(world)]
    assert len(means[0]) == 1  # stopped in the second epoch
    assert means[0] != means[1]
    assert whole["test_error"]["last"] == pytest.approx(error_of(what, tmp_path / "whole"))


def plain(job: Processes, what: Recipe, folder: Path) -> None:
    """Train without augmentation, which is drawn for each process."""
    CropFlip.__call__ = lambda self, x, key: x  # type: ignore[method-assign]
    loop.train(what, folder, job)


@pytest.mark.slow
def test_two_processes_train_as_one_does(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # without mixing, which is drawn for each process, and without batch norm
    what = recipe(images, epochs=1, max_train_examples=32, vicinity="ERM()", model="tests_lab_linear:build")
    together(plain, 2, what, tmp_path / "two")
    monkeypatch.setattr(CropFlip, "__call__", lambda self, x, key: x)
    loop.train(what, tmp_path / "one", ALONE)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)


def arguments(images: Path) -> tuple[str, ...]:
    return ("cifar10-small-mixup", f"dataset={images}", "epochs=4", "batch_size=4", "milestones=3", "precision=float32")


@pytest.mark.torture
@pytest.mark.parametrize("world", [1, 2])
def test_killed_at_drawn_instants_it_ends_with_the_same_bits(images: Path, tmp_path: Path, world: int) -> None:
    # while a checkpoint is written, and between two; results/kill has many more
    found = kill_run.kill_and_compare(arguments(images), tmp_path, world, kills=2)
    kills = [kill for run in found["runs"] for kill in run["kills"]]
    assert len(kills) == 2
    assert all(run["same"] and not run["unfinished_files_left"] for run in found["runs"])


@pytest.mark.torture
def test_a_process_that_stops_takes_the_others_down_and_the_command_goes_on(images: Path, tmp_path: Path) -> None:
    training = kill_run.Training(arguments(images), tmp_path / "run", world=2, timeout=10.0)
    training.start()
    end = time.monotonic() + 600
    while not training.newest() and time.monotonic() < end:
        time.sleep(0.01)
    pid = training.running[1].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # it is there, and does not answer
    training.running[0].join(600)
    assert training.running[0].exitcode == 1
    assert "process 0 of 2 lost another one: it died, or did not answer in 10 s" in training.log.read_text()
    assert "rerun the same command to resume" in training.log.read_text()
    training.kill([1])
    training.finish()
    assert (training.folder / "results.json").exists()


def test_a_run_goes_on_with_another_number_of_processes(images: Path) -> None:
    what = recipe(images)
    data, test = loading.load(what)
    run = loop._Run(what, data, test, ALONE)
    for _ in zip(range(2), run.steps(), strict=False):
        pass
    state = run.state()
    assert state.tensors["sums"].shape == (1, 3)
    state.tensors["sums"] = torch.tensor([[1.5, 2.0, 8.0], [0.25, 1.0, 8.0]], dtype=torch.float64)  # as of two
    state.record["stretches"][0] |= {"processes": 2, "torch": "2.0"}
    other = loop._Run(what, data, test, ALONE)
    words = r"from step 2 of epoch 1 .* with 1 process\(es\) where it had 2: .* PyTorch"
    with pytest.warns(UserWarning, match=rf"{words} {re.escape(torch.__version__)} where it had 2.0"):
        other.load(state)
    assert other._sums.tolist() == [1.75, 3.0, 16.0]
    assert (other.step, other.progress()[0]) == (2, 2)
    assert other.stretches == [runs.Stretch(0, 2, "2.0"), runs.Stretch(2, 1, torch.__version__)]
    again = loop._Run(what, data, test, ALONE)
    again.load(other.state())
    assert again.stretches == other.stretches


def test_a_batch_too_small_for_its_parts_is_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"36 examples in batches of 64 give no step .* a batch needs 64 examples"):
        loop.train(recipe(images, batch_size=64, grad_accum_steps=64), tmp_path / "run", ALONE)


def test_what_makes_more_rows_than_are_read_is_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a recipe trains on as many rows as it reads: Beside\(Mixup\(\)\) makes more"):
        loop.train(recipe(images, vicinity="Beside(Mixup())"), tmp_path / "run", ALONE)


def test_steps_and_test_examples_are_at_most_so_many(images: Path, tmp_path: Path) -> None:
    results = loop.train(recipe(images, epochs=2, max_steps_per_epoch=3, max_test_examples=5), tmp_path / "run", ALONE)
    assert [line["step"] for line in results.epochs] == [3, 6]
    assert all(round(5 * line["test_error"], 6) % 1 == 0 for line in results.epochs)
    everything, some = (loading.load(recipe(images, **some))[1] for some in ({}, {"max_test_examples": 5}))
    rows = [next(i for i in range(len(everything)) if torch.equal(x, everything.inputs[i])) for x in some.inputs]
    assert len(set(rows)) == len(some) == 5
    assert rows == sorted(rows) != list(range(5))  # of all classes, where they lie in order
    assert len(loading.load(recipe(images, max_test_examples=10**6))[1]) == len(everything)


@pytest.mark.parametrize(
    ("vicinity", "mixed"),
    [
        ("Scheduled(Mixup(alpha=1.0), start=1)", [False, True, True]),
        ("Scheduled(Mixup(alpha=1.0), stop=2)", [True, True, False]),
        ("Scheduled(Mixup(alpha=1.0), start=1, stop=2)", [False, True, False]),
    ],
)
def test_mixup_is_off_in_the_first_or_last_epochs(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vicinity: str, mixed: list[bool]
) -> None:
    seen: list[bool] = []
    accuracy = v.metrics.mixed_accuracy

    def watched(out: torch.Tensor, target: v.MixedTarget) -> torch.Tensor:
        seen.append(bool(((target.weight > 0) & (target.weight < 1)).any()))
        return accuracy(out, target)

    monkeypatch.setattr(loop.metrics, "mixed_accuracy", watched)
    loop.train(recipe(images, vicinity=vicinity, max_steps_per_epoch=2), tmp_path / "run", ALONE)
    assert seen == [flag for flag in mixed for _ in range(2)]


def test_tensorboard_has_the_figures_once_resumed_or_not(images: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    what = recipe(images, max_steps_per_epoch=2)
    save = loop._save

    def stopping(folder: Path, run: loop._Run) -> None:
        if run.epoch == 2:
            raise Stop  # the second epoch is in the log, but in no checkpoint
        save(folder, run)

    loop._save = stopping
    try:
        with pytest.raises(Stop):
            loop.train(what, tmp_path / "run", ALONE, RunSettings(tensorboard=True))
    finally:
        loop._save = save
    for _ in range(2):  # the run goes on; and once more, of the finished one
        lines = loop.train(what, tmp_path / "run", ALONE, RunSettings(tensorboard=True)).epochs
        events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
        events.Reload()
        names = {"train/mixed_loss": "train_mixed_loss", "train/mixed_accuracy": "train_mixed_accuracy"}
        names |= {"test/error": "test_error", "test/nll": "test_nll", "learning_rate": "learning_rate"}
        names |= {"epoch": "epoch", "examples_per_second": "examples_per_second"}
        assert set(events.Tags()["scalars"]) == set(names)
        for tag, name in names.items():
            got = [(event.step, event.value) for event in events.Scalars(tag)]
            assert got == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines]


def test_tensorboard_that_is_not_there_is_said_before_anything_is_written(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install tensorboard"):
        loop.train(recipe(images), tmp_path / "run", ALONE, RunSettings(tensorboard=True))
    assert not (tmp_path / "run").exists()


def test_nobody_else_trains_in_a_folder_in_use(images: Path, tmp_path: Path) -> None:
    what = recipe(images, epochs=1)
    (tmp_path / "run").mkdir()
    with atomic.locked(tmp_path / "run" / ".lock") as ours:
        assert ours
        with pytest.raises(UserError, match="another process trains in"):
            loop.train(what, tmp_path / "run", ALONE)
    # nor does what a run leaves that was killed at its very beginning stop the next one
    (tmp_path / "run" / ".recipe.json.17.partial").write_text("{")
    loop.train(what, tmp_path / "run", ALONE)
    assert not list((tmp_path / "run").glob(".*.partial"))


def test_a_folder_of_another_run_is_refused(images: Path, tmp_path: Path) -> None:
    loop.train(recipe(images, epochs=1), tmp_path / "run", ALONE)
    with pytest.raises(UserError, match="another recipe"):
        loop.train(recipe(images, epochs=2), tmp_path / "run", ALONE)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.txt").write_text("words")
    with pytest.raises(UserError, match="is not a run"):
        loop.train(recipe(images), tmp_path / "else", ALONE)
    path = tmp_path / "run" / "recipe.json"
    written = path.read_text()
    unsealed = {"fingerprint": "", "vicinal": "", "recipe": {}}
    for text, words in (
        (stored.seal(unsealed, 2), r"has format 2, of another version of vicinal, and this one reads format 3"),
        (json.dumps(unsealed), "has no format number"),  # as the first versions wrote it
        (written.replace('"epochs": 1,', '"epochs": 2,'), "not as it was written: its checksum does not fit"),
    ):
        path.write_text(text)
        for read in (
            lambda: loop.train(recipe(images, epochs=1), tmp_path / "run", ALONE),
            lambda: runs.load_recipe(tmp_path / "run"),
        ):
            with pytest.raises(UserError, match=rf"recipe.json cannot be used: .*{words}"):
                read()
    path.write_text(written)
    record = stored.read(path, runs.FORMAT, "")
    path.write_text(stored.seal(record | {"vicinal": "0.0.1"}, runs.FORMAT))
    with pytest.raises(UserError, match=r"holds a run of vicinal '0.0.1', and this is"):
        loop.train(recipe(images, epochs=1), tmp_path / "run", ALONE)
