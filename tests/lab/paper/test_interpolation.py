"""Interpolations of training examples: against a plain loop, and as `vicinal interpolate`."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import ALONE, never, quick_recipe, untrained

import vicinal as v
from vicinal.lab import cli, models
from vicinal.lab.data import loading, synthetic
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.errors import UserError
from vicinal.lab.paper import interpolation
from vicinal.lab.training import loop


def test_interpolation_is_the_plain_loop() -> None:
    """Against one pair after the other, in float64."""
    images = synthetic.images(12, classes=4, side=16)
    data = InMemoryDataset(images.inputs, images.labels, images.classes, (0.5,) * 3, (0.25,) * 3)
    with loop.fork_rng(v.Key(0, 0, 0, 0, 1)):
        model = models.build("small", 4).eval()
    first, second = interpolation.pairs(12, 5, 7)
    curve = interpolation.interpolate(model, data, first, second)
    assert len(curve.misses) == len(curve.gradient) == 21
    model = model.double()
    for at in (0, 3, 10, 20):
        share = at / 20
        missed, norms = 0, []
        for i, j in zip(first.tolist(), second.tolist(), strict=True):
            (x, y) = data.batch(torch.tensor([i, j]), None)
            point = (share * x[0].double() + (1 - share) * x[1].double()).requires_grad_()
            log_p = model(point[None]).log_softmax(1)[0]
            loss = -share * log_p[y[0]] - (1 - share) * log_p[y[1]]
            (gradient,) = torch.autograd.grad(loss, point)
            norms.append(float(gradient.square().sum().sqrt()))
            missed += int(log_p.argmax()) not in (int(y[0]), int(y[1]))
        assert curve.misses[at] == pytest.approx(missed / 7)
        assert curve.gradient[at] == pytest.approx(sum(norms) / 7, rel=1e-4)
    assert any(curve.misses)


def test_pairs_are_of_different_examples_and_keyed() -> None:
    first, second = interpolation.pairs(5, 0, 400)
    assert not (first == second).any()
    assert set(first.tolist()) == set(second.tolist()) == set(range(5))
    assert torch.equal(first, interpolation.pairs(5, 0, 400)[0])
    assert not torch.equal(first, interpolation.pairs(5, 1, 400)[0])
    with pytest.raises(UserError, match="2 examples or more"):
        interpolation.pairs(1, 0, 4)


def test_two_runs_are_compared_between_their_points(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpolation, "PAIRS", 6)
    for name, recipe in (
        ("a", quick_recipe(vicinity="ERM()")),
        ("b", quick_recipe()),
        ("c", quick_recipe(max_train_examples=16)),
    ):
        loop.train(recipe, tmp_path / name, ALONE)
    capsys.readouterr()
    assert cli.main(["interpolate", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]) == 0
    said, progress = capsys.readouterr()
    assert progress.splitlines() == [f"{tmp_path / name}: 6 of 6 pairs" for name in "ab"]
    record = json.loads((tmp_path / "out/interpolation.json").read_text())
    a, b = (record["models"][letter] for letter in "AB")
    assert [model["folder"] for model in (a, b)] == [str(tmp_path / name) for name in "ab"]
    assert f"{100 * a['misses'][10]:13.2f}{100 * b['misses'][10]:13.2f}" in said
    for letter in "ab":
        svg = (tmp_path / f"out/figure2{letter}.svg").read_text()
        assert re.findall(r">([AB]: \w+)</text>", svg) == ["A: a", "B: b"]
    assert cli.main(["interpolate", str(tmp_path / "a"), str(tmp_path / "c")]) == 2
    assert "trained on different examples (max_train_examples: 32 and 16)" in capsys.readouterr().err


def test_a_run_beside_itself_is_two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpolation, "PAIRS", 6)
    run = str(untrained(tmp_path / "a"))
    assert cli.main(["interpolate", run, run, "--out", str(tmp_path / "out")]) == 0
    models = json.loads((tmp_path / "out/interpolation.json").read_text())["models"]
    assert list(models) == ["A", "B"]
    assert models["A"] == models["B"]
    assert models["A"]["folder"] == run


def test_interpolation_refuses_a_file_before_it_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpolation, "interpolate", never)
    run, out = str(untrained(tmp_path / "a")), tmp_path / "out"
    out.write_text("mine")
    for place in (out, out / "below"):
        assert cli.main(["interpolate", run, run, "--out", str(place)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"vicinal: {place} cannot be written (")
        assert said.count("\n") == 1
    assert out.read_text() == "mine"


def _saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"garbage\n" * 40,
        lambda whole: bytes(range(256)) * 20,
        lambda whole: whole[:-100],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:10],
        lambda whole: _saved([1, 2]),
        lambda whole: _saved({"layer": 3}),
    ],
    ids=["empty", "text", "bytes", "end", "half", "beginning", "list", "number"],
)
def test_damaged_weights_are_found_before_anything_is_asked(
    damage: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpolation, "interpolate", never)
    a, b = (untrained(tmp_path / name) for name in "ab")
    weights = b / "weights.pt"
    weights.write_bytes(damage(weights.read_bytes()))
    assert cli.main(["interpolate", str(a), str(b), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"vicinal: {weights} is damaged: remove {b} and train that run again\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("a", "b", "field"),
    [
        ({"image_size": 32}, {"image_size": 64}, "image_size: 32 and 64"),
        ({"crop": "random_crop"}, {"crop": "random_resized_crop"}, "crop: random_crop and random_resized_crop"),
        ({"label_noise": 0.5, "seed": 1}, {"label_noise": 0.5, "seed": 2}, "seed: 1 and 2"),
        ({"max_train_examples": None}, {"max_train_examples": 9}, "max_train_examples: None and 9"),
    ],
)
def test_other_inputs_of_one_folder_are_not_the_same_examples(
    a: dict[str, Any], b: dict[str, Any], field: str, tmp_path: Path
) -> None:
    runs = [untrained(tmp_path / name, dataset="photos", **changes) for name, changes in (("a", a), ("b", b))]
    with pytest.raises(UserError, match=rf"different examples \({field}\)"):
        interpolation.load(*runs)


def test_what_does_not_change_the_inputs_is_not_asked() -> None:
    assert loading.decided_by(quick_recipe(image_size=32, seed=3, augment=False)) == loading.decided_by(
        quick_recipe(epochs=9)
    )
    assert list(loading.decided_by(quick_recipe(dataset="imagenet"))) == [
        "dataset",
        "max_train_examples",
        "label_noise",
        "image_size",
        "crop",
    ]
