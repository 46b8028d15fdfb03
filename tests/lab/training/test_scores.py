"""What is measured of models, against plain loops over rows in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vicinal.keyed import Key
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.training import scores
from vicinal.lab.training.scores import evaluate, outputs
from vicinal.lab.training.stacked_mlp import MLPRun, StackedMLP
from vicinal.vicinities import ERM

RUNS = [MLPRun(split, seed, ERM()) for split, seed in ((0, 0), (1, 1), (0, 0), (1, 1), (1, 2))]


def made(rows: int, classes: int, scale: float = 3.0) -> tuple[StackedMLP, StackedSplit]:
    """Five models that are far from sure, on the rows of two splits."""
    generator = Key(5, 0, 0, 0).generator()
    models = StackedMLP.initial([0, 1, 2, 3, 4], 3, (8,), classes or 1, torch.float32)
    models.weights[-1].mul_(scale)
    x = torch.from_numpy(generator.standard_normal((2, rows, 3), dtype=np.float32))
    if classes:
        y = torch.from_numpy(generator.integers(classes, size=(2, rows)))
    else:
        y = torch.from_numpy(generator.standard_normal((2, rows), dtype=np.float32))
    return models, StackedSplit(TableInputs(x), y)


def alone(models: StackedMLP, run: int, x: torch.Tensor) -> np.ndarray:
    weights = [weight[run].double().numpy() for weight in models.weights]
    biases = [bias[run, 0].double().numpy() for bias in models.biases]
    hidden = np.maximum(x.double().numpy() @ weights[0] + biases[0], 0)
    return hidden @ weights[1] + biases[1]


def test_classification_is_a_plain_loop() -> None:
    models, part = made(rows=40, classes=4)
    scores = evaluate(models, RUNS, part, 4, [1.0, 1.0], detail=True)
    for i, run in enumerate(RUNS):
        logits, labels = alone(models, i, part.inputs[run.split].dense()), part.targets[run.split].tolist()
        wrong, nll, brier = 0, 0.0, 0.0
        bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
        for row, label in zip(logits, labels, strict=True):
            p = np.exp(row - row.max())
            p /= p.sum()
            guess = int(p.argmax())
            wrong += guess != label
            nll -= math.log(p[label])
            brier += sum((p[c] - (c == label)) ** 2 for c in range(4))
            bins[min(14, math.ceil(p[guess] * 15) - 1)].append((float(p[guess]), guess == label))
        ece = sum(abs(sum(right - sure for sure, right in own)) for own in bins) / 40
        found = scores[i]
        assert found["error"] == wrong / 40
        assert found["nll"] == pytest.approx(nll / 40, rel=1e-5)
        assert found["brier"] == pytest.approx(brier / 40, rel=1e-5)
        assert found["ece"] == pytest.approx(ece, abs=1e-5)
        assert found["reliability"]["count"] == [len(own) for own in bins]
        for own, sure, right in zip(
            bins, found["reliability"]["confidence"], found["reliability"]["accuracy"], strict=True
        ):
            if own:
                assert sure == pytest.approx(np.mean([s for s, _ in own]), rel=1e-5)
                assert right == pytest.approx(np.mean([r for _, r in own]))
            else:
                assert sure is None
                assert right is None
    assert "reliability" not in evaluate(models, RUNS, part, 4, [1.0, 1.0])[0]


def test_regression_is_a_plain_loop_in_the_unit_of_the_table() -> None:
    models, part = made(rows=30, classes=0)
    scales = [2.0, 10.0]
    scores = evaluate(models, RUNS, part, 0, scales)
    for i, run in enumerate(RUNS):
        out, y = alone(models, i, part.inputs[run.split].dense())[:, 0], part.targets[run.split].double().numpy()
        scale = scales[run.split]
        squared = sum((o - t) ** 2 for o, t in zip(out, y, strict=True)) / 30
        spread = sum((t - y.mean()) ** 2 for t in y) / 30
        assert scores[i]["rmse"] == pytest.approx(math.sqrt(squared) * scale, rel=1e-5)
        assert scores[i]["mae"] == pytest.approx(np.abs(out - y).mean() * scale, rel=1e-5)
        assert scores[i]["r2"] == pytest.approx(1 - squared / spread, rel=1e-5)


def test_a_sure_and_wrong_model_has_a_finite_likelihood() -> None:
    models, part = made(rows=20, classes=3, scale=1e4)
    for score in evaluate(models, RUNS, part, 3, [1.0, 1.0]):
        assert math.isfinite(score["nll"])
        assert score["nll"] > 100


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    models, part = made(rows=33, classes=3)
    whole = outputs(models, part.inputs[0])
    monkeypatch.setattr(scores, "_BLOCK", 5 * 8 * 7)
    assert outputs(models, part.inputs[0]).shape == whole.shape == (5, 33, 3)
    assert torch.allclose(outputs(models, part.inputs[0]), whole, atol=1e-6)
    monkeypatch.setattr(scores, "_BLOCK", 1)
    assert torch.allclose(outputs(models, part.inputs[0]), whole, atol=1e-6)


def test_models_that_ran_away_are_measured_as_they_are() -> None:
    models, part = made(rows=20, classes=3)
    models.weights[0][0].fill_(math.nan)
    first, second, *_ = evaluate(models, RUNS, part, 3, [1.0, 1.0], detail=True)
    assert math.isnan(first["nll"])
    assert math.isfinite(second["nll"])
    assert 0 <= first["error"] <= 1
    models, part = made(rows=20, classes=0)
    models.weights[0][0].fill_(math.inf)
    first, second, *_ = evaluate(models, RUNS, part, 0, [1.0, 1.0])
    assert not math.isfinite(first["rmse"])
    assert math.isfinite(second["rmse"])
