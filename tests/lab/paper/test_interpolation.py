"""Interpolations of training examples: against a plain loop, and as `vicinal interpolate`."""

import hashlib
import io
import json
import math
import re
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from studies import ALONE, never, quick_recipe, untrained
from torch import Tensor, nn

import vicinal as v
from vicinal.lab import cli, models, stored
from vicinal.lab.data import loading, synthetic
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.errors import UserError
from vicinal.lab.paper import interpolation
from vicinal.lab.paper.claims import judge
from vicinal.lab.paper.interpolation import InterpolationStudy
from vicinal.lab.training import loop, runs


def small_model_and_images() -> tuple[nn.Module, InMemoryDataset]:
    images = synthetic.images(12, classes=4, side=16)
    data = InMemoryDataset(images.inputs, images.labels, images.classes, (0.5,) * 3, (0.25,) * 3)
    with loop.fork_rng(v.Key(0, 0, 0, 0, 1)):
        return models.build("small", 4).eval(), data


def plain_measures(model: nn.Module, x: list[Tensor], y: list[int], weights: list[float]) -> tuple[float, ...]:
    """Misses, departure, distance to the label, departure of the logits and their size, of one point, by loops."""

    def answer(image: Tensor) -> tuple[list[float], list[float]]:
        with torch.no_grad():
            logits = [float(value) for value in model(image[None])[0]]
        whole = sum(math.exp(value) for value in logits)
        center = sum(logits) / len(logits)
        return [math.exp(value) / whole for value in logits], [value - center for value in logits]

    p, z = answer(sum((w * image for w, image in zip(weights, x, strict=True)), torch.zeros_like(x[0])))
    corners = [answer(image) for image in x]
    departure = distance = square = 0.0
    for c in range(len(p)):
        departure += abs(p[c] - sum(w * q[c] for w, (q, _) in zip(weights, corners, strict=True)))
        distance += abs(p[c] - sum(w for w, label in zip(weights, y, strict=True) if label == c))
        square += (z[c] - sum(w * at[c] for w, (_, at) in zip(weights, corners, strict=True))) ** 2
    size = sum(math.hypot(*at) for _, at in corners) / len(corners)
    return float(p.index(max(p)) not in y), departure, distance, math.sqrt(square), size


def test_interpolation_is_the_plain_loop() -> None:
    """Against one pair after the other, in float64."""
    model, data = small_model_and_images()
    first, second = interpolation.pairs(12, 5, 7)
    curve = interpolation.interpolate(model, data, first, second)
    assert len(curve.misses) == len(curve.gradient) == len(curve.departure) == 21
    model = model.double()
    for at in (0, 3, 10, 20):
        share = at / 20
        norms, plain = [], []
        for i, j in zip(first.tolist(), second.tolist(), strict=True):
            (x, y) = data.batch(torch.tensor([i, j]), None)
            point = (share * x[0].double() + (1 - share) * x[1].double()).requires_grad_()
            log_p = model(point[None]).log_softmax(1)[0]
            loss = -share * log_p[y[0]] - (1 - share) * log_p[y[1]]
            (gradient,) = torch.autograd.grad(loss, point)
            norms.append(float(gradient.square().sum().sqrt()))
            plain.append(plain_measures(model, [*x.double()], y.tolist(), [share, 1 - share]))
        missed, departure, distance, logits, size = (statistics.fmean(values) for values in zip(*plain, strict=True))
        assert curve.misses[at] == pytest.approx(missed)
        assert curve.gradient[at] == pytest.approx(sum(norms) / 7, rel=1e-4)
        assert curve.departure[at] == pytest.approx(departure, rel=1e-4, abs=1e-6)
        assert curve.label_distance[at] == pytest.approx(distance, rel=1e-5)
        assert curve.logit_departure[at] == pytest.approx(logits / size, rel=1e-4, abs=1e-6)
    assert any(curve.misses)
    assert curve.departure[0] == pytest.approx(0, abs=1e-6)
    assert curve.departure[20] == pytest.approx(0, abs=1e-6)
    assert curve.departure[10] > 1e-3


def test_triangles_are_the_plain_loop() -> None:
    model, data = small_model_and_images()
    corners, weights = interpolation.triangles(12, 5, 9)
    found = interpolation.inside_triangles(model, data, corners, weights)
    model = model.double()
    plain = []
    for rows, shares in zip(corners, weights.tolist(), strict=True):
        x, y = data.batch(rows, None)
        plain.append(plain_measures(model, [*x.double()], y.tolist(), shares))
    missed, departure, distance, logits, size = (statistics.fmean(values) for values in zip(*plain, strict=True))
    assert found.misses == pytest.approx(missed)
    assert found.departure == pytest.approx(departure, rel=1e-4)
    assert found.label_distance == pytest.approx(distance, rel=1e-5)
    assert found.logit_departure == pytest.approx(logits / size, rel=1e-4)
    assert 0 < found.misses < 1
    assert found.departure > 1e-3


class Affine(nn.Module):
    """Logits affine in the pixels, or with `log`, a softmax that is."""

    def __init__(self, log: bool) -> None:
        super().__init__()
        generator = v.Key(3, 0, 0, 0).generator()
        self.weight = torch.from_numpy(generator.uniform(0, 1, (12, 4)))
        self.weight = self.weight / self.weight.sum(1, keepdim=True)
        self.log = log

    def forward(self, x: Tensor) -> Tensor:
        """Return log(x W / sum(x)) for x of the same sum; then the softmax is affine in x."""
        mixed = x.flatten(1).double() @ self.weight
        return mixed.log() if self.log else 4 * mixed


@pytest.mark.parametrize("log", [False, True], ids=["logits", "softmax"])
def test_what_is_linear_departs_by_nothing(log: bool) -> None:
    generator = v.Key(1, 0, 0, 0).generator()
    inputs = torch.from_numpy(generator.dirichlet([0.2] * 12, 30).reshape(30, 3, 2, 2)).float()
    data = InMemoryDataset(inputs, torch.arange(30) % 4, tuple("abcd"))
    model = Affine(log)
    curve = interpolation.interpolate(model, data, *interpolation.pairs(30, 0, 40))
    inside = interpolation.inside_triangles(model, data, *interpolation.triangles(30, 0, 40))
    straight, bent = ("departure", "logit_departure") if log else ("logit_departure", "departure")
    assert max(getattr(curve, straight)) < 1e-6  # but for weights in float32
    assert getattr(inside, straight) < 1e-6
    assert getattr(curve, bent)[10] > 1e-3
    assert getattr(inside, bent) > 1e-3


def test_the_measures_of_a_point_by_hand() -> None:
    """Two classes, far apart at the examples: half-way the prediction is all of the first."""
    sure = torch.tensor([[[40.0, -40.0], [-40.0, 40.0]]])
    found = interpolation.measure_points(
        torch.tensor([[40.0, -40.0]]), sure, torch.tensor([[0, 1]]), torch.tensor([0.25, 0.75], dtype=torch.float64)
    )
    assert [float(value) for value in found] == pytest.approx([0.0, 1.5, 1.5, math.hypot(60, 60)])
    other = interpolation.measure_points(torch.tensor([[40.0, -40.0]]), sure, torch.tensor([[1, 1]]), torch.ones(2) / 2)
    assert [float(value) for value in other] == pytest.approx([1.0, 1.0, 2.0, math.hypot(40, 40)])


def test_triangles_are_of_different_examples_and_their_weights_are_uniform_on_the_simplex() -> None:
    corners, weights = interpolation.triangles(4, 0, 6000)
    counts = Counter(map(tuple, corners.tolist()))
    assert len(counts) == 4 * 3 * 2  # every ordered triple of different ones
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4
    assert torch.allclose(weights.sum(1), torch.ones(6000, dtype=torch.float64))
    assert float(weights.min()) >= 0
    for weight in weights.unbind(1):  # uniform on the simplex: each is Beta(1, 2)
        assert stats.kstest(weight.numpy(), stats.beta(1, 2).cdf).pvalue > 1e-4
    ratio = (weights[:, 0] / (weights[:, 0] + weights[:, 1])).numpy()  # and the share of two of them is uniform
    assert stats.kstest(ratio, stats.uniform.cdf).pvalue > 1e-4
    assert all(map(torch.equal, interpolation.triangles(4, 0, 6000), (corners, weights)))
    assert not torch.equal(corners, interpolation.triangles(4, 1, 6000)[0])
    with pytest.raises(UserError, match="3 examples or more, found 2"):
        interpolation.triangles(2, 0, 4)


def drawn_run(level: float) -> dict[str, Any]:
    """A run's results, all of whose measures are of one level; misses are ten times lower."""
    curve = {name: [level] * 21 for name in ("departure", "label_distance", "logit_departure", "gradient")}
    points = {name: level for name in ("departure", "label_distance", "logit_departure")}
    pair, triangle = {"misses": [level / 10] * 21, **curve}, {"misses": level / 10, **points}
    measured = {"pairs": pair, "triangles": triangle, "held_out_pairs": dict(pair), "held_out_triangles": triangle}
    errors = {"median_of_last_10": 0.1, "best": 0.1, "last": 0.1}
    return {"recipe": {}, "test_error": errors, "course": {"test_error": [0.1]}, "device": "cpu", **measured}


def test_claims_follow_from_the_middle_and_from_the_differences_of_each_seed() -> None:
    study = InterpolationStudy()
    done = {f"erm-seed{s}": drawn_run(1.0 + s / 10) for s in range(5)}
    done |= {f"mixup-seed{s}": drawn_run(0.5 + s / 9) for s in range(4)}  # the last one is not run
    for s in range(4):
        mixup = done[f"mixup-seed{s}"]["pairs"]
        mixup["gradient"] = [9.0 if at != 10 else 1.5 + s / 8 for at in range(21)]  # longer in the middle
        mixup["departure"] = [9.0 if at != 10 else 1.0 + s / 10 + 0.1 * (-1) ** s for at in range(21)]  # no difference
    claims = study.claims("small", done)
    by_text = {judged.claim.text: judged for judged in judge(claims)}
    linear, misses, gradients, held_out, inside = by_text.values()
    assert misses.claim.evidence[0].differences == pytest.approx([10 * (s / 9 - s / 10 - 0.5) for s in range(4)])
    assert misses.verdict == held_out.verdict == inside.verdict == "shown"
    assert gradients.claim.evidence[0].differences == pytest.approx([0.5 + s / 8 - s / 10 for s in range(4)])
    assert gradients.verdict == "contradicted"
    assert linear.claim.evidence[0].differences == pytest.approx([0.1, -0.1, 0.1, -0.1])
    assert linear.verdict == "shown in part"
    assert all(judged.verdict == "not run" for judged in judge(study.claims("small", {})))


def test_rows_take_each_measure_where_they_say() -> None:
    run = drawn_run(1.0)
    run["pairs"]["departure"] = [at / 20 for at in range(21)]
    run["held_out_pairs"]["misses"] = [at / 100 for at in range(21)]
    run["triangles"]["misses"] = 0.375
    table = {row.name: row.values for row in InterpolationStudy().rows("small", {"erm-seed0": run})}
    assert table["ERM, misses at lambda = 0.50"] == pytest.approx((10.0,))
    assert table["ERM, departure from linearity between training examples at lambda = 0.25"] == (0.25,)
    assert table["ERM, misses between test examples at lambda = 0.50"] == pytest.approx((10.0,))
    assert table["ERM, misses inside triangles of training examples"] == (37.5,)
    assert table["mixup, misses inside triangles of training examples"] == ()


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
    assert f"{a['departure'][10]:13.4f}{b['departure'][10]:13.4f}" in said
    for letter in "abc":
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
    content = damage(weights.read_bytes())
    weights.write_bytes(content)
    assert cli.main(["interpolate", str(a), str(b), "--out", str(tmp_path / "out")]) == 2
    again = f"remove {b} and train that run again\n"
    found = f"vicinal: {weights} is not as it was written: its SHA-256 is not that in results.json; {again}"
    assert capsys.readouterr().err == found
    results = b / "results.json"  # as who means to deceive would write it
    record = json.loads(results.read_text()) | {"weights_sha256": hashlib.sha256(content).hexdigest()}
    results.write_text(stored.seal({name: record[name] for name in record if name not in ("format", "sha256")}, 3))
    assert cli.main(["interpolate", str(a), str(b), "--out", str(tmp_path / "out")]) == 2
    assert (
        capsys.readouterr().err
        == f"vicinal: {weights} cannot be used: it is not what torch.save writes of a state_dict; {again}"
    )
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


def test_code_named_in_a_file_is_not_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that says that it was imported: by no command and no function that opens a run folder, unless named."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "canary_model.py").write_text(
        "from pathlib import Path\nPath('ran').touch()\nfrom vicinal.lab.models.small import SmallCNN as build\n"
    )
    untrained(tmp_path / "a")
    b = untrained(tmp_path / "b")
    name = "canary_model:build"
    recipe = quick_recipe(model=name)
    runs.write_recipe(b, recipe)
    results = json.loads((b / "results.json").read_text())
    kept = {key: value for key, value in results.items() if key not in ("format", "sha256")}
    stored.write(b / "results.json", kept | {"recipe": kept["recipe"] | {"model": name}}, runs.FORMAT)
    command = ["interpolate", "a", "b", "--out", "out"]
    words = f"if you trust it, give it as --model {name} (in Python, load_model(..., model='{name}'))"
    assert cli.main(command) == 2
    assert capsys.readouterr().err == (
        f"vicinal: b was trained with a model built by '{name}': no code is imported because a file names it; {words}\n"
    )
    with pytest.raises(UserError, match="no code is imported"):
        runs.load_model(b, 3)
    with pytest.raises(UserError, match="not by 'canary_model:other'"):
        runs.load_model(b, 3, model="canary_model:other")
    assert runs.read_results(b, recipe) is not None
    assert not (tmp_path / "ran").exists()
    assert "canary_model" not in sys.modules
    assert cli.main([*command, "--model", name, "--model", "other:one"]) == 2
    assert "neither run was trained with 'other:one'" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    monkeypatch.setattr(interpolation, "PAIRS", 4)
    assert cli.main([*command, "--model", name]) == 0
    assert (tmp_path / "ran").exists()
    assert isinstance(runs.load_model(b, 10, model=models.MODELS["small"]), nn.Module)  # or the factory itself
    monkeypatch.delitem(sys.modules, "canary_model")
