"""Measures of test predictions: each against scikit-learn or a plain loop, and what may be asked for."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

import vicinal.metrics
from vicinal.keyed import Key
from vicinal.lab.compare import measures
from vicinal.lab.compare.measures import claims, find
from vicinal.lab.compare.predictions import RunPredictions
from vicinal.lab.errors import UserError


def run_of(p: np.ndarray, target: np.ndarray) -> measures.Tested:
    """Predictions of one run of the first rows."""
    p = p.astype(np.float32)
    nll = -np.log(p[np.arange(len(p)), target])
    return measures.Tested(RunPredictions(np.arange(len(p)), p, nll), target, p.shape[1])


def drawn(classes: int, sizes: tuple[int, ...] = (40, 40, 23), seed: int = 0) -> list[measures.Tested]:
    """Probabilities with something right in them, one run for each size; classes have different shares."""
    generator = Key(seed, 0, 0, 0).generator()
    runs = []
    for n in sizes:
        target = np.concatenate([np.arange(classes), generator.choice(classes, n - classes, p=_shares(classes))])
        logits = generator.normal(0.0, 1.0, (n, classes))
        logits[np.arange(n), target] += 1.0
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        runs.append(run_of(p, target))
    return runs


def _shares(classes: int) -> np.ndarray:
    shares = np.arange(1.0, classes + 1)
    return shares[::-1] / shares.sum()


def numbers(outputs: np.ndarray, target: np.ndarray) -> measures.Tested:
    return measures.Tested(RunPredictions(np.arange(len(target)), outputs.astype(np.float32), None), target, 0)


def one(name: str, runs: list[measures.Tested]) -> list[float]:
    """The measure of each seed."""
    return [float(values.mean()) for values in find(name, runs[0].classes).values(runs)]


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_values_of_each_seed_have_the_measure_as_their_mean(classes: int) -> None:
    runs = drawn(classes)
    for i, run in enumerate(runs):
        p, y = run.p, run.target
        answers = p.argmax(1)
        wanted = {
            "error": 1 - sk.accuracy_score(y, answers),
            "nll": -sum(math.log(p[row, y[row]]) for row in range(len(y))) / len(y),
            "brier": sum(
                sum((p[row, k] - (k == y[row])) ** 2 for k in range(classes)) for row in range(len(y))
            ) / len(y),
            "balanced_error": 1 - sk.balanced_accuracy_score(y, answers),
        }  # fmt: skip
        for name, value in wanted.items():
            assert one(name, runs)[i] == pytest.approx(value, rel=1e-6), name
            assert find(name, classes).values(runs)[i].shape == y.shape
            assert find(name, classes).values(runs)[i].dtype == np.float64


def test_measures_of_rows_are_those_of_each_row() -> None:
    run = run_of(np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]]), np.array([0, 2]))
    assert find("error", 3).values([run])[0].tolist() == [0.0, 1.0]
    assert find("nll", 3).values([run])[0] == pytest.approx([-math.log(0.7), -math.log(0.3)], rel=1e-6)
    assert find("brier", 3).values([run])[0] == pytest.approx([0.09 + 0.04 + 0.01, 0.09 + 0.16 + 0.49], rel=1e-6)


@pytest.mark.parametrize("classes", [3, 6])
def test_auroc_and_f1_of_several_classes_are_means_of_one_against_the_rest(classes: int) -> None:
    runs = drawn(classes)
    for i, run in enumerate(runs):
        p, y = run.p, run.target
        areas = [sk.roc_auc_score(y == k, p[:, k]) for k in range(classes)]
        assert one("auroc", runs)[i] == pytest.approx(np.mean(areas), rel=1e-12)
        p64 = p / p.sum(1, keepdims=True)
        assert one("auroc", runs)[i] == pytest.approx(sk.roc_auc_score(y, p64, multi_class="ovr"), rel=1e-6)
        assert one("f1", runs)[i] == pytest.approx(sk.f1_score(y, p.argmax(1), average="macro"), rel=1e-12)


def test_a_class_without_test_rows_does_not_count() -> None:
    run = drawn(4, (60,))[0]
    kept = run.target != 2
    less = run_of(run.p[kept], run.target[kept])
    p, y = less.p, less.target
    present = [0, 1, 3]
    assert one("auroc", [less]) == pytest.approx([np.mean([sk.roc_auc_score(y == k, p[:, k]) for k in present])])
    assert one("f1", [less]) == pytest.approx([sk.f1_score(y, p.argmax(1), labels=present, average="macro")])
    wrong = p.argmax(1) != y
    assert one("balanced_error", [less]) == pytest.approx([np.mean([wrong[y == k].mean() for k in present])])


def test_auroc_and_f1_of_two_classes_are_of_the_rarer() -> None:
    runs = drawn(2)
    assert sum(int((run.target == 1).sum()) for run in runs) < sum(int((run.target == 0).sum()) for run in runs)
    for i, run in enumerate(runs):
        assert one("auroc", runs)[i] == pytest.approx(sk.roc_auc_score(run.target, run.p[:, 1]), rel=1e-12)
        assert one("f1", runs)[i] == pytest.approx(sk.f1_score(run.target, run.answers), rel=1e-12)


def test_the_rarer_class_is_one_and_the_same_for_all_seeds() -> None:
    """Each seed's own would make of F1 the mean of two different measures."""
    generator = Key(5, 0, 0, 0).generator()
    targets = [np.repeat([0, 1], counts) for counts in ((12, 8), (9, 11), (12, 8))]  # the second has fewer of class 0
    runs = []
    for target in targets:
        first = np.clip(0.5 + 0.3 * (target == 0) - 0.15 + generator.normal(0.0, 0.3, 20), 0.01, 0.99)
        runs.append(run_of(np.stack([first, 1 - first], 1), target))
    assert one("f1", runs) == pytest.approx([sk.f1_score(run.target, run.answers) for run in runs])


def test_calibration_is_that_of_all_seeds_together() -> None:
    for classes in (2, 3, 7):
        runs = drawn(classes)
        p = torch.from_numpy(np.concatenate([run.predictions.outputs for run in runs]))
        y = torch.from_numpy(np.concatenate([run.target for run in runs]))
        values = find("ece", classes).values(runs)
        assert [len(of) for of in values] == [40, 40, 23]
        assert np.concatenate(values).mean() == pytest.approx(float(vicinal.metrics.ece(p, y)), rel=1e-9)


def test_a_confidence_on_a_border_of_bins_belongs_below_as_in_the_library() -> None:
    p = np.array([[0.6, 0.4], [0.61, 0.39], [0.8, 0.2], [0.79, 0.21], [0.59, 0.41], [1.0, 0.0]], dtype=np.float32)
    run = run_of(p, np.array([1, 0, 0, 1, 0, 0]))
    wanted = float(vicinal.metrics.ece(torch.from_numpy(p), torch.from_numpy(run.target)))
    assert find("ece", 2).values([run])[0].mean() == pytest.approx(wanted, rel=1e-9)


def test_measures_of_numbers() -> None:
    generator = Key(3, 0, 0, 0).generator()
    runs = []
    for n in (30, 30, 17):
        target = generator.normal(100.0, 20.0, n)
        runs.append(numbers(target + generator.normal(1.0, 8.0, n), target))
    for i, run in enumerate(runs):
        told = run.predictions.outputs.astype(float)
        assert one("rmse", runs)[i] == pytest.approx(sk.root_mean_squared_error(run.target, told), rel=1e-12)
        assert one("mae", runs)[i] == pytest.approx(sk.mean_absolute_error(run.target, told), rel=1e-12)
        assert one("r2", runs)[i] == pytest.approx(sk.r2_score(run.target, told), rel=1e-12)
    assert find("mae", 0).values(runs)[0] == pytest.approx(np.abs(runs[0].residuals))


def test_predictions_without_any_error_have_an_rmse_of_0() -> None:
    target = np.array([1.0, 2.0, 4.0])
    assert find("rmse", 0).values([numbers(target, target)])[0].tolist() == [0.0, 0.0, 0.0]


def test_r2_of_a_target_that_does_not_vary_is_not_a_number() -> None:
    run = numbers(np.array([1.0, 2.0]), np.array([3.0, 3.0]))
    assert np.isnan(find("r2", 0).values([run])[0]).all()


@pytest.mark.parametrize("name", ["nll", "ece", "brier", "auroc"])
def test_a_run_that_diverged_has_no_measure(name: str) -> None:
    good, bad = drawn(3, (20, 20))
    outputs = np.full((20, 3), np.nan, dtype=np.float32)
    bad = measures.Tested(
        RunPredictions(bad.predictions.rows, outputs, np.full(20, np.nan, dtype=np.float32)), bad.target, 3
    )
    values = find(name, 3).values([good, bad])
    assert not np.isfinite(np.concatenate(values).mean())


@pytest.mark.parametrize("name", ["rmse", "mae", "r2"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_regression_that_diverged_has_no_measure(name: str, value: float) -> None:
    target = np.arange(5.0)
    outputs = np.array([1.0, 2.0, value, 3.0, 4.0])
    assert not np.isfinite(find(name, 0).values([numbers(outputs, target)])[0].mean())


def test_find() -> None:
    assert [find(None, classes).name for classes in (0, 2, 5)] == ["rmse", "error", "error"]
    for classes, names in (
        (3, ["error", "nll", "ece", "brier", "balanced_error", "auroc", "f1"]),
        (0, ["rmse", "mae", "r2"]),
    ):
        for name in names:
            assert find(name, classes).name == name
            assert name in measures.NAMES
    assert {name for name in measures.NAMES if find_any(name).higher} == {"auroc", "f1", "r2"}
    assert {name for name in measures.NAMES if find_any(name).percent} == {"error", "ece", "balanced_error"}


def find_any(name: str) -> measures.Measure:
    return find(name, 0 if name in ("rmse", "mae", "r2") else 3)


@pytest.mark.parametrize(
    ("name", "classes", "says"),
    [
        (
            "rmse",
            3,
            "--metric rmse is not one of classification: error, nll, ece, brier, balanced_error, auroc, f1",
        ),
        ("error", 0, "--metric error is not one of regression: rmse, mae, r2"),
        ("AUROCC", 2, "auroc, f1; did you mean 'auroc'?"),
        ("", 0, "--metric  is not one of regression: rmse, mae, r2"),
    ],
)
def test_a_measure_of_another_task_is_refused(name: str, classes: int, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        find(name, classes)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("error", ["error", "nll", "ece"]),
        ("balanced_error", ["balanced_error", "nll", "ece"]),
        ("auroc", ["auroc", "nll", "ece"]),
        ("nll", ["nll", "ece", "error"]),
        ("ece", ["ece", "nll", "error"]),
    ],
)
def test_a_verdict_on_classes_is_about_likelihood_and_calibration_too(name: str, names: list[str]) -> None:
    assert [one.name for one in claims(find(name, 3), 3)] == names


@pytest.mark.parametrize("name", ["rmse", "mae", "r2"])
def test_a_verdict_on_numbers_is_about_one_measure(name: str) -> None:
    assert [one.name for one in claims(find(name, 0), 0)] == [name]
