"""What a run does with states that are not its own, and with numbers that are not finite."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vicinal.lab import cli
from vicinal.lab.data import loading
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import checkpoint, loop, runs, weights
from vicinal.lab.training.checkpoint import Saved
from vicinal.lab.training.distributed import Processes
from vicinal.lab.training.settings import RunSettings

ALONE = Processes(0, 1, torch.device("cpu"))
RECIPE = Recipe(
    *("synthetic-images", "small-eighth", "Mixup(alpha=0.4)"),
    epochs=3,
    batch_size=40,
    learning_rate=0.01,
    ema_decay=0.5,
)


def started(recipe: Recipe = RECIPE) -> loop._Run:
    """A run after four steps: in the second epoch of three steps each."""
    run = loop._Run(recipe, *loading.load(recipe), ALONE)
    for _ in run.steps():
        pass
    run.end_epoch()
    next(run.steps())
    return run


@pytest.fixture(scope="module")
def saved() -> Saved:
    return started().state()


def put(tensors: dict[str, torch.Tensor], name: str, value: torch.Tensor) -> None:
    assert name in tensors
    tensors[name] = value


Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], object]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r, t: r.update(vicinal="9"), "it is of another version of vicinal"),
        (lambda r, t: r.update(fingerprint="0"), "it is of another recipe"),
        (lambda r, t: r.pop("step"), "it lacks 'step'"),
        (lambda r, t: r.update(more=1), "it has a field 'more' that it should not have"),
        (lambda r, t: r.update(step=5), "step must be 3 + 1, found 5"),
        (lambda r, t: r.update(step="4"), "step must be a whole number, found '4'"),
        (lambda r, t: r.update(epoch=4), "epoch must lie in 0 to 3, found 4"),
        (lambda r, t: r.update(epoch=2), "it has 1 of 2 epochs"),
        (lambda r, t: r.update(epoch=-1), "epoch must lie in 0 to 3, found -1"),
        (lambda r, t: r.update(in_epoch=7, step=10), "in_epoch must lie in 0 to 3, found 7"),
        (lambda r, t: r.update(in_epoch=-1, step=2), "in_epoch must lie in 0 to 3, found -1"),
        (lambda r, t: r.update(seconds=-1.0), "seconds must be a number of 0 or more, found -1.0"),
        (lambda r, t: r.update(seconds=None), "seconds must be a number of 0 or more, found nan"),
        (lambda r, t: r["epochs"][0].update(epoch=2), "epochs[0].epoch must be 1, found 2"),
        (lambda r, t: r["epochs"][0].update(step=0), "epochs[0].step must be more than 0, found 0"),
        (lambda r, t: r["epochs"][0].update(step=10**15), "step must be 1000000000000000 + 1, found 4"),
        (lambda r, t: r["epochs"][0].update(test_error=1.5), "epochs[0].test_error must lie in [0, 1], found 1.5"),
        (lambda r, t: r.update(stretches=[]), "stretches must begin at step 0"),
        (lambda r, t: r["stretches"][0].update(step=1), "stretches must begin at step 0"),
        (lambda r, t: r["stretches"][0].update(processes=0), "stretches[0].processes must be 1 or more, found 0"),
        (lambda r, t: r["stretches"][0].update(processes=2), "'sums' must be float64 of shape [2, 3]"),
        (lambda r, t: t.pop("model.linear.bias"), "it lacks the tensor 'model.linear.bias'"),
        (lambda r, t: t.update(more=torch.ones(1)), "it has a tensor 'more' that it should not have"),
        (
            lambda r, t: put(t, "model.linear.bias", torch.ones(9)),
            "must be float32 of shape [10], found float32 of shape [9]",
        ),
        (lambda r, t: put(t, "ema.0", t["ema.0"].double()), "'ema.0' must be float32 of shape"),
        (lambda r, t: t.pop("ema.3"), "it lacks the tensor 'ema.3'"),
        (lambda r, t: put(t, "optimizer.1.momentum_buffer", torch.ones(3, 3)), "'optimizer.1.momentum_buffer' must be"),
        (lambda r, t: t.update({"optimizer.99.momentum_buffer": torch.ones(1)}), "has a tensor 'optimizer.99.momentum"),
        (lambda r, t: put(t, "sums", torch.zeros(1, 3).double()), "'sums' must hold losses, hits and rows"),
        (lambda r, t: put(t, "sums", t["sums"] * math.nan), "'sums' must hold losses, hits and rows"),
    ],
)
def test_a_state_that_is_not_of_this_run_is_refused(saved: Saved, change: Change, words: str) -> None:
    record, tensors = copy.deepcopy(saved.record), dict(saved.tensors)
    change(record, tensors)
    run = loop._Run(RECIPE, *loading.load(RECIPE), ALONE)
    with pytest.raises(UserError) as refused:
        run.load(Saved(record, tensors), "run/step-0000000004.ckpt")
    assert str(refused.value).startswith("run/step-0000000004.ckpt is not a checkpoint of this run: ")
    assert words in str(refused.value)
    assert str(refused.value).endswith(checkpoint.ADVICE)
    assert (run.epoch, run.step, run.lines) == (0, 0, [])


def test_steps_of_adam_are_checked(saved: Saved) -> None:
    adam = replace(RECIPE, optimizer="adam", learning_rate=0.001)
    state = started(adam).state()
    run = loop._Run(adam, *loading.load(adam), ALONE)
    run.load(state)
    for count in (0.0, 5.0, 1.5, math.nan):
        put(state.tensors, "optimizer.2.step", torch.tensor(count))
        with pytest.raises(UserError, match=r"'optimizer.2.step' must count steps"):
            run.load(state)
    with pytest.raises(UserError, match="another recipe"):
        run.load(saved)


def test_a_checkpoint_of_another_run_ends_the_command_and_the_one_before_it_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "cifar10-small-mixup", "dataset=synthetic-images", "model=small-eighth", "epochs=2"]
    run = tmp_path / "run"
    assert cli.main([*command, "--out", str(tmp_path / "whole")]) == 0
    out = (tmp_path / "whole" / "recipe.json").read_bytes()
    run.mkdir()
    (run / "recipe.json").write_bytes(out)
    foreign = checkpoint.save(run, 7, started().state())
    capsys.readouterr()
    assert cli.main([*command, "--out", str(run)]) == 2
    assert capsys.readouterr().err == (
        f"vicinal: {foreign} is not a checkpoint of this run: it is of another recipe; {checkpoint.ADVICE}\n"
    )
    foreign.unlink()
    assert cli.main([*command, "--out", str(run)]) == 0
    assert (run / "weights.pt").read_bytes() == (tmp_path / "whole" / "weights.pt").read_bytes()


# -- weights -----------------------------------------------------------------------------------------------------------


class Overlapping(torch.nn.Module):
    """A buffer of many elements in few bytes, as no file may claim."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("many", torch.zeros(1).expand(10**12))


def test_weights_are_read_as_large_as_their_bytes() -> None:
    with pytest.raises(weights.Unreadable, match=r"not what torch.save writes of a state_dict"):
        weights.parse(weights.dump(Overlapping()))
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    found = weights.parse(weights.dump(model))
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


# -- numbers -----------------------------------------------------------------------------------------------------------


def train(folder: Path, recipe: Recipe, **settings: Any) -> runs.RunResults:
    return loop.train(recipe, folder, ALONE, RunSettings(**settings))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_that_diverges_ends_at_that_step_and_ends_alike_again(tmp_path: Path, precision: Any) -> None:
    recipe = replace(RECIPE, learning_rate=1e30, precision=precision, warmup_epochs=1, warmup_start_lr=0.0, epochs=4)
    said = []
    for _ in range(2):
        with pytest.raises(UserError) as ended:
            train(tmp_path / "run", recipe, save_every=0.0)
        said.append(str(ended.value))
    assert said[0] == said[1]
    found = re.match(
        r"in epoch 1 at step (\d) .* holds (inf|nan).*: .*; the batch is saved in '(.*)'; the learning rate was",
        said[0],
    )
    assert found is not None
    assert "the same command ends alike: change the data, or the recipe with another --out" in said[0]
    batch = torch.load(found[3], weights_only=True)
    assert batch["step"] == int(found[1])
    assert len(batch["x"]) == len(batch["also"]["rows"]) == 40
    assert batch["x"].isfinite().all()
    left = sorted(path.name for path in (tmp_path / "run").glob("*.ckpt"))
    assert left[-1] == f"step-{int(found[1]):010d}.ckpt"
    assert not (tmp_path / "run" / "results.json").exists()


def with_bad_row(monkeypatch: pytest.MonkeyPatch, part: int, row: int, value: float) -> None:
    """Give one training (0) or test (1) example an input that is not finite."""
    load = loading.load

    def loaded(recipe: Recipe) -> tuple[Any, Any]:
        parts = load(recipe)
        of = parts[part]
        assert isinstance(of, InMemoryDataset)
        batch = type(of).batch

        def spoiled(self: InMemoryDataset, rows: torch.Tensor, key: Any) -> tuple[torch.Tensor, torch.Tensor]:
            x, y = batch(self, rows, key)
            if len(self) == len(of):
                x[rows == row] = value
            return x, y

        monkeypatch.setattr(InMemoryDataset, "batch", spoiled)
        return parts

    monkeypatch.setattr(loading, "load", loaded)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_input_that_is_not_finite_is_found_in_its_batch(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_bad_row(monkeypatch, 0, 17, value)
    with pytest.raises(UserError, match=rf"in epoch 1 at step \d the input holds {value} in 1 of 40 rows \(") as ended:
        train(tmp_path / "run", RECIPE)
    (path,) = (tmp_path / "run").glob("nonfinite-*.pt")
    batch = torch.load(path, weights_only=True)
    (row,) = batch["found"]["rows"]
    assert batch["also"]["rows"][row] == 17  # the example itself, and not whom it was mixed with
    assert batch["plan"] is not None
    assert str(path) in str(ended.value)


def test_a_test_example_that_is_not_finite_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_bad_row(monkeypatch, 1, 3, math.nan)
    with pytest.raises(UserError, match=r"in epoch 1 in the test examples the input holds nan in 1 of 40 rows \(3\)"):
        train(tmp_path / "run", RECIPE)


def test_a_study_counts_a_run_that_diverges(tmp_path: Path) -> None:
    recipe = replace(RECIPE, learning_rate=1e30, epochs=2, ema_decay=0.0)
    results = train(tmp_path / "run", recipe, stop_at_nonfinite=False)
    assert results.test_error.last >= 0.5
    again = runs.read_results(tmp_path / "run", recipe)
    assert again is not None
    assert again.test_error == results.test_error
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in text.splitlines()]
    assert lines == again.epochs
    assert lines[-1]["test_nll"] is None
