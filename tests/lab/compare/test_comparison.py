"""The comparison: what is compared, that it is paired, how it is chosen, and that the verdict says what the runs say."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from made_runs import (
    BY_LABEL,
    CHOSEN,
    CONSTANT,
    answers,
    conclude,
    made,
    numbers,
    predictions_of,
    records_of,
    study_of,
)
from scipy import stats
from sklearn import metrics as sk

from vicinal import ERM, Mixup
from vicinal.keyed import Key
from vicinal.lab import parse, records
from vicinal.lab.compare import verdict, words
from vicinal.lab.compare.comparison import methods
from vicinal.lab.compare.predictions import RunPredictions
from vicinal.lab.compare.results import AlphaChoice, Difference, Summary
from vicinal.lab.compare.settings import Settings, TableSettings
from vicinal.lab.compare.table_comparison import SeedSplits, TableComparison
from vicinal.lab.compare.verdict import POLICY
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.table import make_table
from vicinal.lab.errors import UserError
from vicinal.lab.statistics import Interval, Posterior
from vicinal.lab.training import stacked_mlp


def run_seeds(study: TableComparison, seeds: list[int], on_epoch: Any = lambda runs: None) -> list[dict[str, Any]]:
    """Train every network with these seeds, as one stack; return records as JSON holds them."""
    found = study.train([(m.name, seed) for seed in seeds for m in study.networks], on_epoch)
    return records.to_json([run.record for run in found])


# -- settings and methods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"alphas": (0.0,)}, "alpha must be a finite number > 0, got 0.0; ERM, no mixing, is always compared"),
        ({"alphas": (-1.0,)}, "alpha must be a finite number > 0, got -1.0"),
        ({"alphas": (math.nan,)}, "got nan"),
        ({"alphas": (0.4, math.inf)}, "got inf"),
        ({"alphas": (0.4, 0.1, 0.4)}, "an alpha is given twice; give each once"),
        ({"alphas": ()}, "there is nothing to compare with ERM: give an alpha or a vicinity"),
        ({"seeds": 1}, "a comparison needs 2 seeds or more to tell a difference from luck, got 1"),
        ({"seeds": -3}, "got -3"),
        ({"seeds": 10**9}, "more than 10000 seeds tell nothing that fewer do not, got 1000000000"),
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"patience": 0}, "patience counts epochs and must be 1 or more, got 0"),
        (
            {"patience": 5, "to_the_end": True},
            "--patience stops a run early and --to-the-end does not; give one of them",
        ),
        ({"label_noise": 2.0}, "label noise is the share of labels replaced and must lie in [0, 1], got 2.0"),
        ({"label_noise": math.nan}, "got nan"),
        ({"label_noise": -0.1}, "got -0.1"),
        ({"input_noise": math.nan}, "input noise is a standard deviation and must be finite and >= 0, got nan"),
        ({"input_noise": -1.0}, "got -1.0"),
        ({"learning_rate": 0.0}, "the learning rate must be a finite number > 0, got 0.0"),
        ({"learning_rate": math.nan}, "the learning rate must be a finite number > 0, got nan"),
        ({"weight_decay": -1.0}, "the weight decay must be a finite number >= 0, got -1.0"),
        ({"weight_decay": math.inf}, "the weight decay must be a finite number >= 0, got inf"),
        ({"erm_decays": (0.0, -0.5)}, "a weight decay must be a finite number >= 0, got -0.5"),
        ({"erm_decays": (math.nan,)}, "a weight decay must be a finite number >= 0, got nan"),
        ({"erm_decays": (0.1, 0.1)}, "--erm-decays takes one weight decay or more, each once"),
        ({"erm_decays": ()}, "--erm-decays takes one weight decay or more, each once"),
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        Settings(**settings)


def test_methods_of_a_classification() -> None:
    listed = methods(Settings(alphas=(0.1, 1.0), named=("InputMixup(0.4)",), weight_decay=0.01), "classification")
    assert [(m.name, m.vicinity, m.family, m.alpha, m.weight_decay) for m in listed] == [
        ("ERM, decay 0", "ERM()", "erm", None, 0.0),
        ("ERM, decay 0.01", "ERM()", "erm", None, 0.01),
        ("mixup 0.1", "Mixup(alpha=0.1)", "mixup", 0.1, 0.01),
        ("mixup 1", "Mixup(alpha=1.0)", "mixup", 1.0, 0.01),
        ("InputMixup(0.4)", "InputMixup(0.4)", "named", None, 0.01),
    ]
    assert listed[2].parsed == Mixup(0.1)


def test_methods_of_a_regression() -> None:
    listed = methods(Settings(alphas=(0.4,), named=("GaussianNoise(0.1)",)), "regression")
    assert [(m.name, m.vicinity, m.family) for m in listed] == [
        ("ERM", "ERM()", "erm"),
        ("mixup 0.4", "Mixup(alpha=0.4)", "mixup"),
        ("by label distance 0.4", "Mixup(alpha=0.4, pairing=LabelDistance(0.5))", "mixup by label distance"),
        ("GaussianNoise(0.1)", "GaussianNoise(0.1)", "named"),
    ]


@pytest.mark.parametrize(
    ("settings", "decays"),
    [
        ({}, (0.0, 0.01, 0.1, 1.0)),  # as many as there are alphas
        ({"alphas": (0.4,)}, (0.0,)),
        ({"alphas": (0.4,), "weight_decay": 0.1}, (0.1,)),  # its own first
        ({"alphas": (0.2, 0.4), "weight_decay": 0.1}, (0.0, 0.1)),
        ({"alphas": (0.2, 0.4), "weight_decay": 0.02}, (0.0, 0.02)),
        ({"alphas": (0.1, 0.2, 0.4, 1.0, 2.0)}, (0.0, 0.01, 0.1, 1.0, 10.0)),
        ({"alphas": (), "named": ("InputMixup()",)}, (0.0,)),
        ({"erm_decays": (1.0, 0.0)}, (1.0, 0.0)),
        ({"alphas": (0.4,), "erm_decays": (0.0, 0.3, 3.0)}, (0.0, 0.3, 3.0)),
        ({"alphas": tuple(range(1, 11))}, (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)),
    ],
)
def test_erm_may_choose_among_as_many_weight_decays_as_mixup_among_alphas(
    settings: dict[str, Any], decays: tuple[float, ...]
) -> None:
    listed = methods(Settings(**settings), "classification")
    erm = [m for m in listed if m.family == "erm"]
    assert tuple(m.weight_decay for m in erm) == decays
    assert len({m.name for m in erm}) == len(decays)
    assert [m.name for m in erm] == (["ERM"] if len(decays) == 1 else [f"ERM, decay {w:g}" for w in decays])


def test_baselines_stand_after_the_methods() -> None:
    study = study_of(alphas=(0.4,))
    assert [m.name for m in study.methods] == ["ERM", "mixup 0.4", CONSTANT, "linear model", "gradient-boosted trees"]
    assert [m.name for m in study.networks] == ["ERM", "mixup 0.4"]
    assert study.runs[:6] == [(m.name, 0) for m in study.methods] + [("ERM", 1)]


def test_alphas_that_look_alike_keep_names_of_their_own() -> None:
    """Six digits would call both of them 0.1, and one would be taken for the other."""
    alphas = (0.1, 0.1 + 1e-12, 1e-9, 8.0, 1 / 3)
    listed = methods(Settings(alphas=alphas, erm_decays=(0.0,)), "classification")
    assert len({m.name for m in listed}) == 6
    assert [m.parsed for m in listed] == [ERM(), *map(Mixup, alphas)]
    assert [m.name for m in listed[3:5]] == ["mixup 1e-09", "mixup 8"]


@pytest.mark.parametrize(
    ("named", "says"),
    [
        (("ERM",), "ERM is compared already, as ERM, which always is; give each method once"),
        (("ERM()",), "ERM() is compared already"),
        (
            ("Mixup(0.4)", "Mixup(alpha=0.4)"),
            "Mixup(0.4) is compared already, as 'mixup 0.4', by --alpha 0.4; give each",
        ),
        (("Mixup(alpha=1, pairing=RandomPairs)",), "is compared already, as 'mixup 1', by --alpha 1; give each method"),
        (
            ("Mixup(0.3)", "Mixup(alpha=0.3)"),
            "Mixup(alpha=0.3) is compared already, as Mixup(0.3); give each method once",
        ),
        (("Mixup(0.4)", " Mixup(0.4) "), "Mixup(0.4) is compared already"),
        (("Mixup(0.4, seed=3)",), "Mixup(0.4, seed=3) has a seed of its own; leave it out"),
        (("Mixp",), "there is no vicinity 'Mixp'; did you mean Mixup?"),
        (("CutMix(1.0)",), "CutMix(1.0) cannot be used on this table: CutMix needs inputs [n, channels, *grid]"),
        (("Chain([Mixup(), CutMix()])",), "cannot be used on this table: CutMix needs inputs"),
        (("Choice([ERM(), CutMix()], p=[0.999, 0.001])",), "cannot be used on this table: CutMix needs inputs"),
        (("Scheduled(CutMix(), start=7)",), "cannot be used on this table: CutMix needs inputs"),
        (("Mixup(0.4, LabelDistance(0.5))",), "cannot be used on this table: LabelDistance needs floating-point"),
        (("Scheduled(Choice([ERM(), Mixup(1, LabelDistance(1))]), start=9)",), "LabelDistance needs floating-point"),
    ],
)
def test_methods_that_cannot_be_used_on_classes_are_refused(named: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)) as error:
        study_of(named=named).check()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("named", "says"),
    [
        (
            "Mixup(1.0, SameClass())",
            "Mixup(1.0, SameClass()) cannot be used on this table: SameClass needs integer class",
        ),
        ("Mixup(1.0, OtherClass())", "OtherClass needs integer class indices"),
        ("LabelSmoothing(0.1)", "LabelSmoothing(0.1) cannot be used on this table: "),
        ("Scheduled(LabelSmoothing(0.1), start=3)", "cannot be used on this table: "),
        ("InputMixup(1.0, Nearest(3, same_class=True))", "needs integer class indices"),
    ],
)
def test_methods_that_cannot_be_used_on_numbers_are_refused(named: str, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        study_of(regression=True, named=(named,)).check()


@pytest.mark.parametrize("regression", [False, True])
def test_everything_else_can_be_used_and_trained(regression: bool) -> None:
    named = [
        "Mixup(0.4, RandomPairs(self_pairs=False))",
        "Mixup(Dirichlet(1.0, k=3))",
        "Mixup(Beta(0.4, per='example'))",
        "Mixup(0.4, Nearest(k=3))",
        "InputMixup(0.4)",
        "GaussianNoise(0.1)",
        "Chain([GaussianNoise(0.1), Mixup(0.4)])",
        "Choice([Mixup(0.4), ERM()])",
        "Scheduled(Mixup(0.4), start=1)",
    ]
    named += ["Mixup(0.4, LabelDistance(0.1))"] if regression else ["LabelSmoothing(0.1)", "Mixup(1.0, SameClass())"]
    study = study_of(regression, named=tuple(named), alphas=(), epochs=2)
    study.check()
    runs = run_seeds(study, [0])
    assert [run["method"] for run in runs] == ["ERM", *named]
    assert all(math.isfinite(run["test"][study.measure.name]) for run in runs)
    scheduled = next(run for run in runs if run["method"].startswith("Scheduled"))
    assert scheduled["curve"]["epoch"] == [1, 2]
    name = "train_rmse" if regression else "train_nll"
    assert scheduled["curve"][name][0] == pytest.approx(runs[0]["curve"][name][0], rel=1e-5)  # ERM in its first epoch
    assert scheduled["curve"][name][1] != pytest.approx(runs[0]["curve"][name][1], rel=1e-4)


def test_the_fingerprint_is_of_everything_that_decides_the_results() -> None:
    base = study_of()
    assert base.fingerprint() == study_of().fingerprint()
    assert base.fingerprint() == study_of(seeds=7).fingerprint()  # more seeds extend a comparison
    others = [
        study_of(epochs=2),
        study_of(alphas=(0.1,)),
        study_of(named=("InputMixup()",)),
        study_of(label_noise=0.1),
        study_of(input_noise=0.1),
        study_of(learning_rate=0.01),
        study_of(weight_decay=0.1),
        study_of(erm_decays=(0.0,)),
        study_of(patience=3),
        study_of(to_the_end=True),
        study_of(metric="nll"),
        study_of(hidden=(8,)),
        study_of(regression=True),
        TableComparison(made(61), base.settings),
    ]
    prints = [base.fingerprint(), *(study.fingerprint() for study in others)]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(
    ("rows", "epochs", "batch"),
    [(20, 200, 16), (400, 200, 16), (4000, 20, 16), (8000, 10, 16), (8005, 20, 32), (100_000, 13, 256)],
)
def test_the_budget_is_about_3000_steps_within_reason(rows: int, epochs: int, batch: int) -> None:
    table = make_table({"x": np.arange(float(rows)), "y": np.arange(float(rows)) + 0.5}, "y", name="t", source="t")
    training = TableComparison(table, TableSettings()).training
    train = rows - 2 * (rows // 5)
    assert (training.epochs, training.batch_size) == (epochs, batch)
    assert training.steps(train) == epochs * math.ceil(train / batch)
    given = TableComparison(table, TableSettings(batch_size=7, epochs=3)).training
    assert (given.epochs, given.batch_size) == (3, 7)


@pytest.mark.parametrize(
    ("metric", "regression", "says"),
    [
        (
            "rmse",
            False,
            "--metric rmse is not one of classification: error, nll, ece, brier, balanced_error, auroc, f1",
        ),
        ("auroc", True, "--metric auroc is not one of regression: rmse, mae, r2"),
        ("brierr", False, "did you mean 'brier'?"),
    ],
)
def test_a_metric_of_another_task_is_refused(metric: str, regression: bool, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        study_of(regression, metric=metric).check()


def test_test_sets_that_have_no_measure_are_refused_before_training() -> None:
    table = made(60)
    rare = replace(table, target=(np.arange(60) < 3).astype(np.int64))  # 12 test rows, of a class of 3 rows
    settings = TableSettings(seeds=5, epochs=1, metric="auroc")
    says = (
        "--metric auroc cannot be taken: the area under the ROC curve needs positives and negatives in every test set"
    )
    with pytest.raises(UserError, match=says):
        TableComparison(rare, settings).check()
    TableComparison(rare, replace(settings, metric="error")).check()
    one = replace(made(60, regression=True), fixed_test=np.arange(60) == 7)
    with pytest.raises(
        UserError, match="an interval needs rows to test on, 2 or more, and all seeds test the same one"
    ):
        TableComparison(one, TableSettings(seeds=5, epochs=1)).check()


# -- splits and pairing --------------------------------------------------------------------------------------------------


def test_prepared_parts_are_the_rows_of_the_split() -> None:
    study = study_of()
    prepared = SeedSplits.of(study, [3, 1])
    for i, seed in enumerate((3, 1)):
        rows = study.split(seed)
        encoding = TableEncoder.fit(study.data, rows.train)
        assert prepared.encodings[i] == encoding
        for part, of in (
            (prepared.train, rows.train),
            (prepared.validation, rows.validation),
            (prepared.test, rows.test),
        ):
            assert np.array_equal(part.inputs[i].dense().numpy(), encoding.transform(study.data)[of])
            assert np.array_equal(part.targets[i].numpy(), study.data.target[of])
        everything = np.concatenate([rows.train, rows.validation, rows.test])
        assert np.array_equal(np.sort(everything), np.arange(60))
        assert np.array_equal(prepared.test_rows[i], rows.test)
    assert prepared.perturbed is None
    assert prepared.scales == [1.0, 1.0]


@pytest.mark.parametrize("regression", [False, True])
def test_label_noise_reaches_training_and_validation_never_the_test(regression: bool) -> None:
    noisy, clean = SeedSplits.of(study_of(regression, label_noise=1.0), [0]), SeedSplits.of(study_of(regression), [0])
    for name in ("train", "validation", "test", "clean"):
        assert torch.equal(getattr(noisy, name).inputs.dense(), getattr(clean, name).inputs.dense())
    assert torch.equal(noisy.test.targets, clean.test.targets)
    assert torch.equal(noisy.clean.targets, clean.train.targets)
    assert not torch.equal(noisy.train.targets, clean.train.targets)
    assert not torch.equal(noisy.validation.targets, clean.validation.targets)


def test_perturbed_inputs_are_the_test_inputs_and_keyed_noise() -> None:
    prepared = SeedSplits.of(study_of(input_noise=0.5), [0, 1])
    assert prepared.perturbed is not None
    noise = prepared.perturbed.inputs.dense() - prepared.test.inputs.dense()
    assert float(noise.std()) == pytest.approx(0.5, rel=0.25)
    assert torch.equal(prepared.perturbed.targets, prepared.test.targets)
    alone = SeedSplits.of(study_of(input_noise=0.5), [1]).perturbed
    assert alone is not None
    assert torch.equal(alone.inputs.dense()[0], prepared.perturbed.inputs.dense()[1])
    assert not torch.equal(noise[0], noise[1])


def test_every_method_of_a_seed_has_the_same_rows_weights_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen where the fleet asks a vicinity for its plan: each method is shown the same rows at the same step."""
    shown: dict[tuple[int, int, str], tuple[torch.Tensor, torch.Tensor]] = {}
    first: dict[str, list[torch.Tensor]] = {}
    original = ERM.plan

    def spy(self: Any, n: int, y: Any = None, x: Any = None, *, step: int, seed: int | None = None, **rest: Any) -> Any:
        shown[seed, step, type(self).__name__] = (x.clone(), y.clone())
        return original(self, n, y, x, step=step, seed=seed, **rest)

    def initial(seeds: Any, *rest: Any) -> Any:
        models = drawn(seeds, *rest)
        first["weights"] = [w.clone() for w in models.weights]
        return models

    drawn = stacked_mlp.StackedMLP.initial
    monkeypatch.setattr("vicinal.vicinity.Vicinity.plan", spy)
    monkeypatch.setattr(stacked_mlp.StackedMLP, "initial", staticmethod(initial))
    study = study_of(alphas=(1.0,), named=("InputMixup(1.0)",), epochs=2)
    study.train([(m.name, seed) for seed in (0, 5) for m in study.networks])

    steps = 2 * math.ceil(36 / 16)
    assert len(shown) == 2 * steps * 3
    for seed, step in itertools.product((0, 5), range(steps)):
        x, y = shown[seed, step, "ERM"]
        for other in ("Mixup", "InputMixup"):
            assert torch.equal(shown[seed, step, other][0], x)
            assert torch.equal(shown[seed, step, other][1], y)
    assert not torch.equal(shown[0, 0, "ERM"][0], shown[5, 0, "ERM"][0])
    rows = {tuple(row) for step in range(steps // 2) for row in shown[0, step, "ERM"][0].tolist()}
    train = SeedSplits.of(study_of(), [0]).train.inputs[0].dense().tolist()
    assert rows == {tuple(row) for row in train}  # an epoch shows each training row
    for weight in first["weights"]:  # runs 0 to 2 are seed 0's, 3 to 5 seed 5's
        assert torch.equal(weight[0], weight[1])
        assert torch.equal(weight[0], weight[2])
        assert torch.equal(weight[3], weight[5])
        assert not torch.equal(weight[0], weight[3])


@pytest.mark.parametrize("regression", [False, True])
def test_the_company_of_other_methods_and_seeds_changes_no_run(regression: bool) -> None:
    together = run_seeds(study_of(regression, alphas=(0.2, 1.0), named=("GaussianNoise(0.1)",), epochs=3), [0, 1, 2])
    alone = run_seeds(study_of(regression, alphas=(1.0,), epochs=3), [1])
    for run in alone:
        name = run["method"].replace("ERM", "ERM, decay 0")  # that of the one which does not choose
        same = next(r for r in together if (r["method"], r["seed"]) == (name, 1))
        for part in ("train", "validation", "test"):
            assert run[part] == pytest.approx(same[part], rel=1e-4, abs=1e-6)
        for name, course in run["curve"].items():
            assert course == pytest.approx(same["curve"][name], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("regression", [False, True])
def test_predictions_are_what_the_record_measures(regression: bool) -> None:
    study = study_of(regression, alphas=(0.4,), epochs=3)
    for run in study.train([(m.name, seed) for seed in (0, 2) for m in study.methods]):
        of, test = run.predictions, run.record.test
        y = study.data.target[of.rows]
        assert np.array_equal(of.rows, study.split(run.record.seed).test)
        if regression:
            assert of.nll is None
            assert math.sqrt(np.square(of.outputs - y).mean()) == pytest.approx(test["rmse"], rel=1e-4)
            assert np.abs(of.outputs - y).mean() == pytest.approx(test["mae"], rel=1e-4)
        else:
            assert of.nll is not None
            assert of.outputs.sum(1) == pytest.approx(1.0, rel=1e-6)
            assert of.nll == pytest.approx(-np.log(of.outputs[np.arange(12), y.astype(np.int64)]), rel=1e-4, abs=1e-6)
            assert float(of.nll.mean()) == pytest.approx(test["nll"], rel=1e-5)
            assert float((of.outputs.argmax(1) != y).mean()) == pytest.approx(test["error"])


@pytest.mark.parametrize("regression", [False, True])
def test_every_run_has_the_weights_of_its_best_validation_epoch(regression: bool) -> None:
    name = "rmse" if regression else "nll"
    shared = {"alphas": (1.0,), "epochs": 20, "learning_rate": 0.05}
    study = study_of(regression, **shared)
    ends = []
    for run in study.train([(m.name, seed) for seed in (0, 1) for m in study.networks]):
        course = run.record.curve[f"validation_{name}"]
        assert run.record.curve["epoch"] == list(range(1, 21))
        assert run.record.epochs == 1 + int(np.argmin(course))
        assert run.record.validation[name] == pytest.approx(min(course), rel=1e-4)
        ends.append(run.record.epochs)
    assert min(ends) < 20  # else nothing was chosen
    last = study_of(regression, **shared, to_the_end=True)
    for run in last.train([(m.name, 0) for m in last.networks]):
        assert run.record.epochs == 20
        assert run.record.validation[name] == pytest.approx(run.record.curve[f"validation_{name}"][-1], rel=1e-4)


def test_each_run_has_its_own_weight_decay() -> None:
    study = study_of(alphas=(0.4,), erm_decays=(0.0, 10.0), epochs=5, to_the_end=True)
    runs = {run.record.method: run.record for run in study.train([(m.name, 0) for m in study.networks])}
    assert list(runs) == ["ERM, decay 0", "ERM, decay 10", "mixup 0.4"]
    alone = study_of(alphas=(0.4,), erm_decays=(10.0,), epochs=5, to_the_end=True)
    (single,) = alone.train([("ERM", 0)])
    assert single.record.test["nll"] == pytest.approx(runs["ERM, decay 10"].test["nll"], rel=1e-4)
    assert runs["ERM, decay 10"].train["nll"] > runs["ERM, decay 0"].train["nll"]


def test_the_model_kept_is_trained_on_all_rows() -> None:
    study = study_of(alphas=(0.4,), epochs=3)
    state, again, other = (study.refit("mixup 0.4", epochs) for epochs in (30, 30, 1))
    assert state is not None
    assert again is not None
    assert other is not None
    assert all(np.array_equal(state[name], again[name]) for name in state)
    everything = np.arange(60)
    x = TableEncoder.fit(study.data, everything).transform(study.data)
    for layer in range(3):
        x = x @ state[f"layers.{layer}.weight"].T + state[f"layers.{layer}.bias"]
        x = np.maximum(x, 0) if layer < 2 else x
    error = float((x.argmax(1) != study.data.target).mean())
    assert error < 0.2
    assert not np.array_equal(other["layers.0.weight"], state["layers.0.weight"])


def test_patience_stops_a_run_at_its_best_weights() -> None:
    study = study_of(alphas=(1.0,), epochs=30, patience=2, learning_rate=0.05)
    runs = run_seeds(study, [0, 1])
    assert any(run["epochs"] < 28 for run in runs)
    for run in runs:
        best = min(run["curve"]["validation_nll"])
        assert run["validation"]["nll"] <= best + 1e-6
        assert max(run["curve"]["epoch"]) <= run["epochs"] + 2


def test_ticks_count_run_epochs_and_curves_have_twenty_points() -> None:
    ticks: list[int] = []
    runs = run_seeds(study_of(alphas=(0.4,), epochs=50), [0, 1], ticks.append)
    assert ticks == [4] * 50
    for run in runs:
        epochs = run["curve"]["epoch"]
        assert epochs[0] == 1
        assert epochs[-1] == 50
        assert len(epochs) == 21
        assert {len(course) for course in run["curve"].values()} == {21}


def test_a_last_batch_of_one_row_is_no_news() -> None:
    study = study_of(rows=55, alphas=(0.4,), seeds=2)
    assert len(study.split(0).train) % 16 == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_seeds(study, [0])


# -- choice --------------------------------------------------------------------------------------------------------------


def drawn(study: TableComparison, seed: int = 0) -> dict[Any, RunPredictions]:
    """Predictions at random with something right in them, other ones for each method and seed."""
    generator = Key(seed, 0, 0, 0).generator()

    def outputs(method: str, run: int, rows: np.ndarray) -> np.ndarray:
        target = study.data.target[rows]
        if not study.classes:
            return target + generator.normal(1.0, 20.0, len(rows))
        first = 1 / (1 + np.exp(-generator.normal(np.where(target == 0, 0.8, -0.8), 1.0)))
        return np.stack([first, 1 - first], 1)

    return predictions_of(study, outputs)


def test_alpha_is_chosen_on_validation_where_the_test_would_choose_otherwise() -> None:
    study = study_of(alphas=(0.1, 0.4, 1.0), erm_decays=(0.0,), seeds=4)
    wrong = {"ERM": half, "mixup 0.1": no_row, "mixup 0.4": every(4), "mixup 1": every(1)}
    validation = {
        "ERM": [0.0] * 4,  # not to be chosen, however good
        "mixup 0.1": [0.9, 0.9, 0.3, 0.9],
        "mixup 0.4": [0.2, 0.2, 0.4, 0.5],
        "mixup 1": [0.1, 0.3, 0.5, 0.6],
    }
    results = conclude(study, answers(study, wrong), validation)
    choice = results["choice"]
    assert choice["per_seed"] == [1.0, 0.4, 0.1, 0.4]
    assert choice["counts"] == {"0.1": 1, "0.4": 2, "1": 1}
    assert choice["recommended"] == "mixup 0.4"  # the least mean: 0.325, beside 0.75 and 0.375
    assert choice["family"] == "mixup"
    assert results["chosen"][CHOSEN] == ["mixup 1", "mixup 0.4", "mixup 0.1", "mixup 0.4"]
    level = [wrong[name](study.split(seed).test).mean() for seed, name in enumerate(results["chosen"][CHOSEN])]
    erm = [half(study.split(seed).test).mean() for seed in range(4)]
    chosen = next(c for c in results["comparisons"] if c["method"] == CHOSEN)
    assert chosen["per_seed"] == pytest.approx([a - b for a, b in zip(level, erm, strict=True)])
    assert results["summary"][CHOSEN]["test"]["error"]["mean"] == pytest.approx(np.mean(level))


def test_erm_chooses_its_weight_decay_and_its_choice_is_called_erm() -> None:
    study = study_of(alphas=(0.1, 0.4), seeds=4)
    decays = ["ERM, decay 0", "ERM, decay 0.1"]
    wrong = {decays[0]: every(2), decays[1]: every(3), "ERM": every(5)}
    validation = {decays[0]: [0.3, 0.1, 0.3, 0.1], decays[1]: [0.2, 0.2, 0.1, 0.2], "mixup 0.4": [0.4] * 4}
    results = conclude(study, answers(study, wrong), validation)
    assert results["chosen"]["ERM"] == [decays[1], decays[0], decays[1], decays[0]]
    rows = [study.split(seed).test for seed in range(4)]
    level = np.mean([wrong[name](of).mean() for name, of in zip(results["chosen"]["ERM"], rows, strict=True)])
    assert results["summary"]["ERM"]["test"]["error"]["mean"] == pytest.approx(level)
    assert {c["method"] for c in results["comparisons"] if not c["primary"]} >= set(decays)
    assert not any(c["primary"] for c in results["comparisons"] if c["method"] in decays)


def test_the_policy_takes_mixup_or_erm_as_validation_says() -> None:
    study = study_of(alphas=(0.1, 0.4), seeds=4)
    validation = {
        "ERM, decay 0": [0.1, 0.9, 0.9, 0.9],
        "ERM, decay 0.1": [0.9, 0.1, 0.9, 0.3],
        "mixup 0.1": [0.5, 0.5, 0.1, 0.3],  # a tie goes to ERM
        "mixup 0.4": [0.6, 0.6, 0.6, 0.6],
    }
    predictions = drawn(study)
    results = conclude(study, predictions, validation)
    runs = ["ERM, decay 0", "ERM, decay 0.1", "mixup 0.1", "ERM, decay 0.1"]
    assert results["chosen"][POLICY] == runs
    error = [
        float((of.outputs.argmax(1) != study.data.target[of.rows]).mean())
        for seed, name in enumerate(runs)
        for of in [predictions[name, seed]]
    ]
    assert results["summary"][POLICY]["test"]["error"]["mean"] == pytest.approx(np.mean(error))
    row = next(c for c in results["comparisons"] if c["method"] == POLICY)
    assert not row["primary"]
    assert row["per_seed"][0] == row["per_seed"][1] == 0  # ERM's own choice there
    assert (
        conclude(study_of(alphas=(), named=("InputMixup()",)), drawn(study_of(alphas=(), named=("InputMixup()",))))[
            "chosen"
        ]
        == {}
    )


def test_the_choice_does_not_look_at_the_test_rows() -> None:
    study = study_of(alphas=(0.1, 0.4, 1.0), seeds=6)
    generator = Key(2, 0, 0, 0).generator()
    names = [m.name for m in study.networks]
    validation = {name: generator.random(6).tolist() for name in names}
    found = [conclude(study, drawn(study, seed), validation) for seed in range(3)]
    assert all((of["choice"], of["chosen"]) == (found[0]["choice"], found[0]["chosen"]) for of in found)
    mixup = [name for name in names if name.startswith("mixup")]
    assert found[0]["choice"]["per_seed"] == [
        (0.1, 0.4, 1.0)[int(np.argmin([validation[name][seed] for name in mixup]))] for seed in range(6)
    ]


def test_ties_on_validation_go_by_likelihood_then_to_the_first() -> None:
    study = study_of(alphas=(0.1, 0.4), seeds=2)
    predictions = drawn(study)
    runs = records_of(study, predictions)
    runs = [
        replace(run, validation=run.validation | {"nll": 0.4}) if run.key == ("mixup 0.4", 1) else run for run in runs
    ]
    choice = verdict.conclude(study, runs, predictions).choice
    assert choice is not None
    assert choice.per_seed == [0.1, 0.4]


def test_a_run_that_ran_away_is_never_chosen() -> None:
    study = study_of(alphas=(0.1, 0.4), seeds=2)
    predictions = drawn(study)
    bad = {"nll": math.nan, "error": 0.0}
    runs = [
        replace(run, validation=run.validation | bad) if run.method == "mixup 0.1" else run
        for run in records_of(study, predictions)
    ]
    choice = verdict.conclude(study, runs, predictions).choice
    assert choice is not None
    assert choice.per_seed == [0.4, 0.4]
    assert choice.recommended == "mixup 0.4"


# -- numbers of the verdict ----------------------------------------------------------------------------------------------


class Loop:
    """The numbers of a comparison once more, by plain loops in float64 and by scikit-learn and scipy.stats."""

    def __init__(self, study: TableComparison, predictions: Mapping[Any, RunPredictions]) -> None:
        self.study, self.predictions = study, predictions
        self.higher = {"auroc", "f1", "r2"}
        self.known: dict[tuple[tuple[str, ...], str], list[np.ndarray]] = {}

    def values(self, runs: Sequence[str], measure: str) -> list[np.ndarray]:
        """Values of the rows of each seed: the measure, and what the weight of each row does to it."""
        key = (tuple(runs), measure)
        if key not in self.known:
            self.known[key] = self._values(runs, measure)
        return self.known[key]

    def _values(self, runs: Sequence[str], measure: str) -> list[np.ndarray]:
        of = [self.predictions[name, seed] for seed, name in enumerate(runs)]
        targets = [self.study.data.target[one.rows] for one in of]
        if measure == "ece":
            return self._ece([one.outputs for one in of], targets)
        return [self._influence(measure, one, y) for one, y in zip(of, targets, strict=True)]

    def _influence(self, measure: str, of: RunPredictions, y: np.ndarray) -> np.ndarray:
        n, h, out = len(y), 1e-4, of.outputs.astype(float)

        def level(w: np.ndarray) -> float:
            if not self.study.classes:
                return {
                    "rmse": lambda: math.sqrt(sk.mean_squared_error(y, out, sample_weight=w)),
                    "mae": lambda: sk.mean_absolute_error(y, out, sample_weight=w),
                    "r2": lambda: sk.r2_score(y, out, sample_weight=w),
                }[measure]()
            p, told = out[:, 1], out.argmax(1)
            return {
                "error": lambda: 1 - sk.accuracy_score(y, told, sample_weight=w),
                "nll": lambda: float(sum(-w[i] * math.log(out[i, y[i]]) for i in range(n)) / w.sum()),
                "brier": lambda: float(sum(2 * w[i] * (p[i] - y[i]) ** 2 for i in range(n)) / w.sum()),
                "balanced_error": lambda: 1 - sk.balanced_accuracy_score(y, told, sample_weight=w),
                "auroc": lambda: float(sk.roc_auc_score(y, p, sample_weight=w)),
                "f1": lambda: float(sk.f1_score(y, told, pos_label=0, sample_weight=w)),  # classes tie: the first
            }[measure]()

        base, ones = level(np.ones(n)), np.eye(n)
        return np.array([base + n * (level(1 + h * one) - level(1 - h * one)) / (2 * h) for one in ones])

    @staticmethod
    def _ece(outputs: list[np.ndarray], targets: list[np.ndarray]) -> list[np.ndarray]:
        gaps, bins = [], []
        for out, y in zip(outputs, targets, strict=True):
            gaps.append([float(row.max()) - float(row.argmax() == k) for row, k in zip(out, y, strict=True)])
            bins.append([math.ceil(float(row.max()) * 15) for row in out])
        total: dict[int, float] = {}
        for own, at in zip(gaps, bins, strict=True):
            for gap, k in zip(own, at, strict=True):
                total[k] = total.get(k, 0.0) + gap
        return [
            np.array([math.copysign(gap, gap * total[k]) for gap, k in zip(own, at, strict=True)])
            for own, at in zip(gaps, bins, strict=True)
        ]

    def effect(self, mine: Sequence[str], other: Sequence[str], measure: str) -> tuple[float, float, float]:
        """Difference, standard error and degrees of freedom by rows and seeds (two-way clustering)."""
        a, b = self.values(mine, measure), self.values(other, measure)
        cells = [
            (int(row), seed, float(x - y))
            for seed, name in enumerate(mine)
            for row, x, y in zip(self.predictions[name, seed].rows, a[seed], b[seed], strict=True)
        ]
        n = len(cells)
        mean = sum(value for *_, value in cells) / n

        def by(keys: list[Any], correct: bool) -> float:
            sums: dict[Any, float] = {}
            counts: dict[Any, int] = {}
            for key, (*_, value) in zip(keys, cells, strict=True):
                sums[key] = sums.get(key, 0.0) + (value - mean) / n
                counts[key] = counts.get(key, 0) + 1
            return sum(s**2 / (1 - counts[key] / n if correct else 1) for key, s in sums.items())

        rows, seeds = [row for row, _, _ in cells], [seed for _, seed, _ in cells]
        units, count = len(set(rows)), len(set(seeds))
        by_row, by_seed = by(rows, True), by(seeds, True)
        single = by(list(zip(rows, seeds, strict=True)), False)
        variance, degrees = by_row, units - 1.0
        if by_seed > single:
            variance = by_row + by_seed - single
            degrees = variance**2 / (by_row**2 / (units - 1) + by_seed**2 / (count - 1))
        if all(value in (-1, 0, 1) for *_, value in cells):
            variance = max(variance, 1 / units**2)
        return mean, math.sqrt(variance), degrees

    def level(self, runs: Sequence[str], measure: str) -> float:
        """The measure's mean over seeds, which all test as many rows."""
        return float(np.mean([values.mean() for values in self.values(runs, measure)]))

    def difference(self, mine: Sequence[str], erm: Sequence[str], measure: str) -> dict[str, Any]:
        """What a `Difference` holds, but for the corrected p-value."""
        mean, error, degrees = self.effect(mine, erm, measure)
        reach = float(stats.t.ppf(0.975, degrees)) * error
        p = float(2 * stats.t.sf(abs(mean) / error, degrees))
        level, higher = self.level(erm, measure), measure in self.higher
        rope = (0.05 if measure in ("rmse", "mae") else 0.1) * abs(1 - level if higher else level)
        if measure not in ("nll", "brier", "rmse", "mae", "r2"):
            rope = min(rope, 0.01)
        if measure == "error":
            tested = {int(row) for seed, name in enumerate(erm) for row in self.predictions[name, seed].rows}
            rope = max(rope, 1 / len(tested))
        down = float(stats.t.cdf((-rope - mean) / error, degrees))
        up = float(stats.t.sf((rope - mean) / error, degrees))
        better, worse = (up, down) if higher else (down, up)
        a, b = self.values(mine, measure), self.values(erm, measure)
        per_seed = [float(x.mean() - y.mean()) for x, y in zip(a, b, strict=True)]
        return {
            "difference": mean,
            "low": mean - reach,
            "high": mean + reach,
            "p": p,
            "per_seed": per_seed,
            "same": rope,
            "chances": [better, 1 - better - worse, worse],
            "p_strict": self.strict(per_seed),
            "error": error,
            "degrees": degrees,
        }

    def strict(self, per_seed: list[float]) -> float:
        """The corrected resampled t-test (Nadeau and Bengio 2003)."""
        train, _, test = self.study.sizes
        d, n = np.array(per_seed), len(per_seed)
        if np.abs(d).max() < 1e-12:  # rounding
            return 1.0
        t = d.mean() / math.sqrt(d.var(ddof=1) * (1 / n + test / train))
        return float(2 * stats.t.sf(abs(t), n - 1))


def holm(p: list[float]) -> list[float]:
    """Holm (1979): the least times their number, the next times one less, and so on; none below one before it."""
    corrected, least = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = least
    return corrected


METRICS = ["error", "nll", "ece", "brier", "balanced_error", "auroc", "f1", "rmse", "mae", "r2"]


@pytest.mark.parametrize("metric", METRICS)
def test_all_numbers_are_those_of_plain_loops(metric: str) -> None:
    regression = metric in ("rmse", "mae", "r2")
    study = study_of(regression, alphas=(0.1, 0.4), named=("GaussianNoise(0.1)",), seeds=6, metric=metric)
    predictions, loop = drawn(study), Loop(study, drawn(study))
    generator = Key(9, 0, 0, 0).generator()
    names = [m.name for m in study.methods]
    validation = {name: generator.random(6).tolist() for name in names}
    results = conclude(study, predictions, validation)

    own = metric in ("error", "rmse", "r2")  # others were not measured on validation rows, or tie there

    def best(of: list[str]) -> list[str]:
        return [min(of, key=lambda name: validation[name][seed] if own else 0.0) for seed in range(6)]

    erm = [name for name in names if name.startswith("ERM")]
    mixup = [name for name in names if name.startswith("mixup")]
    chosen = {"ERM": best(erm), CHOSEN: best(mixup), POLICY: best(erm + mixup)}
    if regression:
        chosen[BY_LABEL] = best([name for name in names if name.startswith("by label")])
    assert results["chosen"] == chosen
    assert not own or len(set(chosen[POLICY])) > 2
    runs = {name: [name] * 6 for name in names} | chosen

    primary = [CHOSEN, *([BY_LABEL] if regression else []), "GaussianNoise(0.1)"]
    beside = [] if regression else [one for one in ("nll", "ece", "error") if one != metric][:2]
    told = {(c["method"], c["measure"]): c for c in results["comparisons"] + results["beside"]}
    tests = [(name, measure) for measure in (metric, *beside) for name in primary]
    others = [(name, metric) for name in (*names, POLICY) if name not in (*primary, "ERM")]
    assert set(told) == {*tests, *others}
    for family in (tests, others):
        wanted = [loop.difference(runs[name], runs["ERM"], measure) for name, measure in family]
        corrected = holm([one["p"] for one in wanted])
        for key, one, p in zip(family, wanted, corrected, strict=True):
            found = told[key]
            assert found["primary"] == (family is tests)
            for field in ("difference", "low", "high", "same"):
                assert found[field] == pytest.approx(one[field], rel=2e-5, abs=1e-7), (key, field)
            assert found["p"] == pytest.approx(one["p"], rel=1e-4, abs=1e-12)
            assert found["p_holm"] == pytest.approx(p, rel=1e-4, abs=1e-12)
            assert found["p_strict"] == pytest.approx(one["p_strict"], rel=1e-4)
            assert found["per_seed"] == pytest.approx(one["per_seed"], rel=1e-5, abs=1e-7)
            assert list(found["chances"].values()) == pytest.approx(one["chances"], rel=1e-4, abs=1e-7)
            limit = stats.t.ppf(1 - 0.025 / len(family), one["degrees"])  # of the first step of Holm
            power = stats.nct.sf(limit, one["degrees"], found["detectable"] / one["error"])
            assert power == pytest.approx(0.8, abs=1e-4)
    for name, of in runs.items():
        level = results["summary"][name]["test"][metric]
        assert level["mean"] == pytest.approx(loop.level(of, metric), rel=1e-6)
        assert level["low"] < level["mean"] < level["high"]


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_better_is_better_in_every_measure(metric: str) -> None:
    """Where more is better the sign of a difference is turned, and so must be everything that looks at it."""
    regression = metric in ("rmse", "mae", "r2")
    study = study_of(regression, alphas=(0.4,), metric=metric, rows=200)

    def outputs(good: str) -> Callable[[str, int, np.ndarray], np.ndarray]:
        def of(method: str, seed: int, rows: np.ndarray) -> np.ndarray:
            target = study.data.target[rows]
            if regression:
                return target + (5.0 if method == good else 20.0) * np.where(rows % 2, 1.0, -1.0)
            p = 0.2 + 0.02 * (rows % 10)  # right answers are sure, wrong ones are not: and reliable enough
            wrong = rows % (9 if method == good else 4) == 0
            first = np.where((target == 0) != wrong, 1 - 0.4 * p if method == good else 0.97, 0.03)
            return np.stack([first, 1 - first], 1)

        return of

    for good, kind in (("mixup 0.4", "helps"), ("ERM", "harms")):
        results = conclude(study, predictions_of(study, outputs(good)))
        one = results["comparisons"][0]
        assert one["p_holm"] < 0.05
        better, same, worse = one["chances"].values()
        assert (better > worse) == (kind == "helps")
        assert better + same + worse == pytest.approx(1.0)
        rises = (kind == "helps") == (metric in ("auroc", "f1", "r2"))
        assert (one["difference"] > 0) == rises
        assert one["low"] < one["difference"] < one["high"]
        told = results["verdict"]
        assert told["kind"] in (kind, "no better than a constant"), told
        if told["kind"] == kind:
            assert f" {kind} on made: the " in told["sentence"]
            assert (" rises from " in told["sentence"]) == rises
        levels = [results["summary"][name]["test"][metric]["mean"] for name in ("ERM", CHOSEN)]
        assert one["difference"] == pytest.approx(levels[1] - levels[0], abs=1e-9)


def test_groups_are_the_units_and_levels_differ_by_the_difference() -> None:
    """Test sets of groups have several sizes; a mean of seeds' means would not be the mean that is judged."""
    sizes = [3, 9, 1, 14, 6, 2, 11, 5, 7, 2]
    groups = np.repeat(np.arange(len(sizes)), sizes)
    table = replace(made(60), groups=groups)
    study = TableComparison(table, TableSettings(alphas=(0.4,), seeds=5, epochs=1))
    predictions = answers(study, {"ERM": every(2), "mixup 0.4": every(5)})
    results = conclude(study, predictions)
    assert len({len(study.split(seed).test) for seed in range(5)}) > 1
    one = results["comparisons"][0]
    levels = [results["summary"][name]["test"]["error"]["mean"] for name in ("ERM", CHOSEN)]
    assert one["difference"] == pytest.approx(levels[1] - levels[0])
    assert levels[0] == pytest.approx(every(2)(np.arange(60)).mean())  # each row is tested once
    difference = every(5)(np.arange(60)).astype(float) - every(2)(np.arange(60))
    mean = difference.mean()
    variance = 0.0
    for group in range(len(sizes)):
        own = difference[groups == group] - mean
        variance += (own.sum() / 60) ** 2 / (1 - len(own) / 60)
    seeds = [study.split(seed).test for seed in range(5)]
    by_seed = sum(((difference[of] - mean).sum() / 60) ** 2 / (1 - len(of) / 60) for of in seeds)
    single = sum((difference[groups == group] - mean).sum() ** 2 / 3600 for group in range(len(sizes)))
    degrees = len(sizes) - 1.0
    if by_seed > single:
        total = variance + by_seed - single
        degrees = total**2 / (variance**2 / degrees + by_seed**2 / 4)
        variance = total
    error = max(math.sqrt(variance), 1 / len(sizes))
    assert one["high"] - one["difference"] == pytest.approx(stats.t.ppf(0.975, degrees) * error)


def test_a_fixed_test_set_has_no_strict_test() -> None:
    table = replace(made(60), fixed_test=np.arange(60) >= 40)
    study = TableComparison(table, TableSettings(alphas=(0.4,), seeds=3, epochs=1))
    results = conclude(study, answers(study, {"ERM": every(2), "mixup 0.4": every(5)}))
    assert all(c["p_strict"] is None for c in results["comparisons"])
    assert "strictest" not in results["verdict"]["advice"]


# -- sentences of the verdict --------------------------------------------------------------------------------------------


def every(k: int, first: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """Wrong at every k-th row, from the first."""
    return lambda rows: (rows + k - first) % k == 0


def half(rows: np.ndarray) -> np.ndarray:
    return rows % 2 == 0


def no_row(rows: np.ndarray) -> np.ndarray:
    return np.zeros(len(rows), dtype=bool)


def test_practically_the_same_is_a_test_row_where_erm_makes_no_error() -> None:
    study = study_of(alphas=(0.4,), erm_decays=(0.0,), seeds=4)
    results = conclude(study, answers(study, {"ERM": no_row, "mixup 0.4": lambda rows: rows == 7}))
    tested = len({row for seed in range(4) for row in study.split(seed).test.tolist()})
    one = next(of for of in results["comparisons"] if of["primary"])
    assert one["same"] == pytest.approx(1 / tested)
    chances = one["chances"]
    assert 0 < chances["better"] < chances["same"] < 1


def told_of(study: TableComparison, predictions: Mapping[Any, RunPredictions]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The verdict and the primary difference, which a plain loop confirms."""
    results = conclude(study, predictions)
    verdict_ = results["verdict"]
    one = next(c for c in results["comparisons"] if c["method"] == verdict_["method"])
    name = one["method"] if one["method"] in {m.name for m in study.methods} else results["chosen"][CHOSEN][0]
    seeds = study.settings.seeds
    erm = results["chosen"].get("ERM", ["ERM"] * seeds)
    loop = Loop(study, predictions).difference([name] * seeds, erm, one["measure"])
    assert [one[field] for field in ("difference", "low", "high")] == pytest.approx(
        [loop[field] for field in ("difference", "low", "high")], rel=1e-5, abs=1e-9
    )
    return verdict_, one


def points(one: dict[str, Any]) -> str:
    """The evidence in points, but for the p-value."""
    low, high, mean = (f"{100 * one[field]:+.2f}" for field in ("low", "high", "difference"))
    return f"(difference {mean} points, 95 % interval {low} to {high}; p "


def spelled_p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}"


def chances(one: dict[str, Any]) -> str:
    better, same, worse = (f"{100 * of:.0f} %" for of in one["chances"].values())
    return (
        f"Better with probability {better}, practically the same (within {100 * one['same']:.2f} points) {same}, "
        f"worse {worse}."
    )


def test_helps() -> None:
    study = study_of(alphas=(0.1, 0.4), rows=500)
    predictions = answers(study, {"ERM": every(4), "mixup 0.1": every(20), "mixup 0.4": every(20)})
    told, one = told_of(study, predictions)
    assert (told["kind"], told["method"]) == ("helps", CHOSEN)
    assert told["sentence"] == (
        "Mixup helps on made: the test error falls from 25.00 % to 5.00 % "
        f"{points(one)}{spelled_p(one['p_holm'])} after correction for 3 tests)."
    )
    nll, ece = (c["difference"] for c in conclude(study, predictions)["beside"])
    assert nll == pytest.approx(0.2 * (math.log(0.1) - math.log(0.9)), rel=1e-6)
    assert ece == pytest.approx((0.95 - 0.9) - (0.9 - 0.75), rel=1e-5)
    assert told["advice"] == (
        f"Train with vicinal.Mixup(alpha=0.1). {chances(one)} With mixup, negative log-likelihood is better ({nll:+.4f}) "
        f"and calibration error is better ({100 * ece:+.2f} points)."
    )


def test_harms() -> None:
    study = study_of(alphas=(0.4,), rows=500)
    predictions = answers(study, {"ERM": every(20), "mixup 0.4": every(4)})
    told, one = told_of(study, predictions)
    assert (told["kind"], told["method"]) == ("harms", CHOSEN)
    assert told["sentence"] == (
        "Mixup harms on made: the test error rises from 5.00 % to 25.00 % "
        f"{points(one)}{spelled_p(one['p_holm'])} after correction for 3 tests)."
    )
    assert told["advice"].startswith(
        f"Train without mixup. {chances(one)} With mixup, negative log-likelihood is worse (+"
    )
    assert "and calibration error is worse (+10.00 points)." in told["advice"]
    assert "Without a choice by validation data, mixup 0.4 clearly harms." in told["advice"]


def test_a_difference_that_is_found_within_what_counts_as_the_same() -> None:
    """With many rows a difference far within what counts as the same can be found, and every probability but one is 0."""
    study = study_of(alphas=(0.4,), rows=200, seeds=2, erm_decays=(0.0,))
    one = Difference(
        "m",
        True,
        -1e-3,
        -1.1e-3,
        -0.9e-3,
        1e-9,
        1e-9,
        [-1e-3, -1e-3],
        "error",
        Posterior(0.0, 1.0, 0.0),
        0.03,
        1e-4,
        None,
    )
    assert words.direction(one) == "practically the same"
    likely = replace(one, chances=Posterior(0.1, 0.9, 0.0))
    assert words.direction(likely) == "better"
    assert words.direction(replace(likely, difference=1e-3)) == "worse"
    assert words.direction(replace(likely, difference=1e-3, measure="auroc")) == "better"
    level = Interval(0.3, 0.29, 0.31)
    parts = {name: level for name in ("error", "nll", "ece")}
    summary = {name: Summary(parts, parts, parts, None, 0.1) for name in ("ERM", CHOSEN, CONSTANT)}
    choice = {"mixup": AlphaChoice("mixup", [0.4, 0.4], {"0.4": 2}, "mixup 0.4")}
    mine = replace(one, method=CHOSEN)
    told = words.Words(study, summary, [mine], [], choice).verdict()
    assert told.kind == "practically the same"
    assert told.sentence == (
        "Practically the same on made: the test error is 30.00 % with mixup and 30.00 % without (difference -0.10 points, "
        "95 % interval -0.11 to -0.09; p < 0.0001)."
    )
    assert told.advice.startswith("The difference is shown, and is smaller than what counts (3.00 points).")
    told = words.Words(study, summary, [replace(mine, chances=Posterior(0.1, 0.9, 0.0))], [], choice).verdict()
    assert told.kind == "helps"
    assert told.advice.startswith(
        "Train with vicinal.Mixup(alpha=0.4). The difference is shown, and is most likely smaller than what counts."
    )
    other = replace(mine, method="x", p=0.3, p_holm=0.3, chances=Posterior(0.3, 0.3, 0.4))
    summary["x"] = summary["ERM"]
    told = words.Words(study, summary, [mine, other], [], choice).verdict()
    assert (told.kind, told.method) == ("no difference found", "x")


@pytest.mark.parametrize(("seeds", "would"), [(4, "more seeds"), (15, "more rows of data")])
def test_no_difference(seeds: int, would: str) -> None:
    study = study_of(alphas=(0.4,), seeds=seeds, rows=100)
    predictions = answers(study, {"ERM": every(10), "mixup 0.4": every(10, 3)})
    told, one = told_of(study, predictions)
    assert told["kind"] == "no difference found"
    levels = [
        100 * np.mean([wrong(study.split(seed).test) for seed in range(seeds)]) for wrong in (every(10), every(10, 3))
    ]
    assert told["sentence"] == (
        f"No difference found on made: the test error is {levels[1]:.2f} % with mixup and {levels[0]:.2f} % without "
        f"{points(one).replace('+0.00 points', '0.00 points')}{spelled_p(one['p_holm'])} after correction for 3 tests)."
    )
    assert told["advice"] == (
        f"This comparison would have found a difference of {100 * one['detectable']:.2f} points in 4 of 5 cases; {would} "
        f"would show smaller ones. {chances(one)} Likelihood and calibration show no clear difference either."
    )


def test_ties_everywhere() -> None:
    study = study_of(alphas=(0.4,))
    results = conclude(study, answers(study, {"ERM": every(10)}))
    one = results["comparisons"][0]
    assert (one["difference"], one["p_holm"]) == (0, 1)
    assert one["low"] == pytest.approx(-one["high"])
    assert one["high"] == pytest.approx(stats.t.ppf(0.975, 59) / 60)  # one row of 60 may differ
    assert results["verdict"]["kind"] == "no difference found"
    assert results["verdict"]["sentence"] == (
        "No difference found on made: the test error is 10.00 % with mixup and without, and no seed differs."
    )


def test_practically_the_same() -> None:
    study = study_of(alphas=(0.4,), rows=1000)
    other = lambda rows: (rows % 2 == 0) ^ (rows % 500 == 7)  # noqa: E731
    told, one = told_of(study, answers(study, {"ERM": half, "mixup 0.4": other}))
    assert one["chances"]["same"] > 0.95
    assert told["kind"] == "practically the same"
    assert told["sentence"].startswith(
        "Practically the same on made: the test error is 50.20 % with mixup and 50.00 % without ("
    )


def test_two_seeds_that_agree_to_the_row_are_no_proof() -> None:
    study = study_of(alphas=(0.4,), seeds=2, rows=10)
    results = conclude(study, answers(study, {"ERM": every(1), "mixup 0.4": no_row}))  # 4 rows, all alike
    assert results["comparisons"][0]["p"] == pytest.approx(2.0**-3)
    assert results["verdict"]["kind"] == "no difference found"


def test_several_named_methods_of_which_some_are_found() -> None:
    named = ("InputMixup(0.4)", "GaussianNoise(0.1)", "LabelSmoothing(0.1)")
    study = study_of(alphas=(0.4,), named=named, rows=500)
    wrong = {
        "ERM": every(4),
        "mixup 0.4": every(9),
        "InputMixup(0.4)": no_row,
        "GaussianNoise(0.1)": half,
        "LabelSmoothing(0.1)": every(4, 1),
    }
    told, one = told_of(study, answers(study, wrong))
    primary = [c for c in conclude(study, answers(study, wrong))["comparisons"] if c["primary"]]
    assert [c["method"] for c in primary] == [CHOSEN, *named]
    assert [c["p_holm"] < 0.05 for c in primary] == [True, True, True, False]
    assert (told["kind"], told["method"]) == ("helps", "InputMixup(0.4)")
    assert told["sentence"] == (
        f"InputMixup(0.4) helps on made: the test error falls from 25.00 % to 0.00 % {points(one)}"
        f"{spelled_p(one['p_holm'])} after correction for 12 tests)."
    )
    assert told["advice"].startswith(
        "Train with vicinal.InputMixup(0.4). Of 4 methods, 2 clearly help and 1 clearly harms. It is the clearest of "
        "4, so that its true effect is likely smaller. "
    )


def test_several_methods_of_which_none_is_found() -> None:
    study = study_of(alphas=(0.4,), named=("InputMixup(0.4)",), rows=100)
    wrong = {"ERM": every(10), "mixup 0.4": every(10, 1), "InputMixup(0.4)": every(8, 3)}
    told, one = told_of(study, answers(study, wrong))
    assert told["method"] == "InputMixup(0.4)"
    assert told["sentence"] == (
        "No difference found on made between any of 2 methods and training without them. The clearest is InputMixup(0.4): "
        f"the test error is 13.00 % with it and 10.00 % without {points(one)}{spelled_p(one['p_holm'])} after correction "
        "for 6 tests)."
    )


def test_only_named_methods_and_no_alphas() -> None:
    name = "Chain([InputMixup(0.4), LabelSmoothing(0.1)])"
    study = study_of(alphas=(), named=(name,), rows=200)
    results = conclude(study, answers(study, {"ERM": every(4), name: no_row}))
    assert results["choice"] is None
    assert list(results["summary"]) == ["ERM", name, CONSTANT, "linear model", "gradient-boosted trees"]
    assert [c["method"] for c in results["comparisons"] if c["primary"]] == [name]
    assert results["verdict"]["sentence"].startswith(f"{name} helps on made: ")
    assert results["verdict"]["advice"].startswith(
        "Train with vicinal.Chain([vicinal.InputMixup(0.4), vicinal.LabelSmoothing(0.1)])."
    )
    assert "alpha" not in words.statistics_in_words(study).split("Holm")[0]


def plus(sd: float) -> Callable[[np.ndarray], np.ndarray]:
    """Residuals of this size, of one sign or the other, and not all of one size."""
    return lambda rows: sd * np.where(rows % 2, 1.0, -1.0) * (1 + 0.1 * (rows % 7))


def test_regression_with_the_family_by_label_distance() -> None:
    study = study_of(regression=True, alphas=(0.1, 0.4), rows=200)
    residuals = {"ERM": plus(6.0), "by label distance 0.1": plus(5.0), "by label distance 0.4": plus(3.0)}
    validation = {"by label distance 0.1": [50.0] * 5, "by label distance 0.4": [60.0] * 5}
    results = conclude(study, numbers(study, residuals), validation)
    assert [c["method"] for c in results["comparisons"] if c["primary"]] == [CHOSEN, BY_LABEL]
    told = results["verdict"]
    assert (told["kind"], told["method"]) == ("helps", BY_LABEL)
    one = next(c for c in results["comparisons"] if c["method"] == BY_LABEL)
    levels = [results["summary"][name]["test"]["rmse"]["mean"] for name in ("ERM", BY_LABEL)]
    rms = [np.mean([math.sqrt((plus(s)(study.split(i).test) ** 2).mean()) for i in range(5)]) for s in (6.0, 5.0)]
    assert levels == pytest.approx(rms, rel=1e-5)
    # 4 significant digits of the largest level, that of the constant answer, and one of mixup's narrow interval
    low, high, mean = (f"{one[field]:+.3f}" for field in ("low", "high", "difference"))
    assert told["sentence"] == (
        f"Mixup by label distance helps on made: the test RMSE falls from {levels[0]:.3f} to {levels[1]:.3f} (difference "
        f"{mean}, 95 % interval {low} to {high}; p {spelled_p(one['p_holm'])} after correction for 2 tests)."
    )
    assert told["advice"].startswith("Train with vicinal.Mixup(alpha=0.1, pairing=vicinal.LabelDistance(0.5)).")
    assert results["beside"] == []
    assert "ikelihood" not in told["advice"]


@pytest.mark.parametrize("regression", [False, True])
def test_training_that_diverged_has_no_verdict(regression: bool) -> None:
    study = study_of(
        regression, alphas=(), named=("GaussianNoise(9.0)",), seeds=4, metric=None if regression else "nll"
    )
    predictions = dict(drawn(study))
    for seed, value in ((1, math.nan), (2, math.inf)):
        of = predictions["GaussianNoise(9.0)", seed]
        bad = np.full_like(of.outputs, value if regression else math.nan)
        predictions["GaussianNoise(9.0)", seed] = replace(
            of, outputs=bad, nll=None if regression else np.full(len(of.rows), math.nan, dtype=np.float32)
        )
    results = conclude(study, predictions)
    assert results["verdict"]["kind"] == "no verdict"
    assert results["verdict"]["sentence"] == (
        "No verdict on made: training with GaussianNoise(9.0) diverged for 2 of 4 seeds."
    )
    assert results["verdict"]["advice"] == "Train with a lower --learning-rate, or leave that method out."
    assert results["comparisons"][0]["difference"] is None
    assert results["comparisons"][0]["p"] == 1


# -- a constant answer and other rivals ----------------------------------------------------------------------------------


def always(study: TableComparison, error: float) -> Callable[[np.ndarray], np.ndarray]:
    """Rows that a constant answer has wrong: a share of them, the same ones that every(4) has among them."""
    return lambda rows: rows % 100 < 100 * error


def test_a_help_that_does_not_beat_a_constant_answer_is_none() -> None:
    study = study_of(alphas=(0.4,), rows=200)
    wrong = {"ERM": always(study, 0.4), "mixup 0.4": always(study, 0.2), CONSTANT: always(study, 0.1)}
    told, one = told_of(study, answers(study, wrong))
    assert told["kind"] == "no better than a constant"
    assert told["sentence"] == (
        "No network is shown to beat a constant answer on made: the commonest class has 10.00 %, mixup 20.00 % and "
        f"ERM 40.00 % {points(one)}{spelled_p(one['p_holm'])} after correction for 3 tests)."
    )
    assert told["advice"].startswith("Do not train such a network, with mixup or without, before it beats that answer.")


def test_networks_that_do_not_beat_a_constant_answer_are_told_where_nothing_is_found() -> None:
    study = study_of(alphas=(0.4,), rows=500)
    wrong = {"ERM": every(4), "mixup 0.4": every(4, 1), CONSTANT: every(4, 2)}
    told, _ = told_of(study, answers(study, wrong))
    assert told["kind"] == "no difference found"
    assert "No network is shown to beat a constant answer: the commonest class has 25.00 %." in told["advice"]


def test_the_constant_answer_is_that_of_the_training_rows() -> None:
    """All test rows may be of the other class."""
    study = study_of(alphas=(0.4,), rows=200)
    found = []
    for shares in ([0.35, 0.65], [0.65, 0.35]):
        predictions = answers(study, {"ERM": half, "mixup 0.4": every(2, 1)})
        for key, of in predictions.items():
            if key[0] == CONSTANT:
                predictions[key] = replace(of, outputs=np.tile(np.float32(shares), (len(of.rows), 1)))
        advice = conclude(study, predictions)["verdict"]["advice"]
        found += re.findall(r"always answering '(\w+)' has", advice)
        metric = conclude(replace(study, settings=replace(study.settings, metric="brier")), predictions)
        assert "the shares of the classes as probabilities have 0." in metric["verdict"]["advice"]
    assert found == [*study.data.classes[::-1]]


@pytest.mark.parametrize("found", [False, True])
def test_one_network_that_does_not_beat_it_is_not_all(found: bool) -> None:
    """ERM does, and so must not be told to be useless."""
    study = study_of(alphas=(0.4,), named=("GaussianNoise(9.0)",), rows=200)
    wrong = {"ERM": every(20), "mixup 0.4": every(20, 1), "GaussianNoise(9.0)": always(study, 0.5)}
    wrong |= {CONSTANT: always(study, 0.45)} | ({"mixup 0.4": no_row, "ERM": every(8)} if found else {})
    told, _ = told_of(study, answers(study, wrong))
    assert told["kind"] == ("helps" if found else "harms")
    assert "No network" not in told["sentence"] + told["advice"]
    weak = "GaussianNoise(9.0) (50.00 %) is not shown to beat a constant answer: the commonest class has 45.00 %."
    assert weak in told["advice"]


def test_calibration_is_not_compared_with_a_constant_answer() -> None:
    """Which is calibrated, and tells nothing."""
    study = study_of(alphas=(0.4,), rows=200, metric="ece")
    told, _ = told_of(study, answers(study, {"ERM": every(4), "mixup 0.4": every(11)}))
    assert told["kind"] == "helps"
    assert "beat a constant answer" not in told["sentence"] + told["advice"]


def test_a_constant_answer_of_infinite_loss_is_beaten() -> None:
    study = study_of(alphas=(0.4,), rows=500, metric="nll", label_noise=0.1)
    predictions = answers(study, {"ERM": every(4), "mixup 0.4": every(11)})
    of = predictions[CONSTANT, 0]
    assert of.nll is not None
    predictions[CONSTANT, 0] = replace(of, nll=np.full_like(of.nll, np.inf))
    told, _ = told_of(study, predictions)
    assert told["kind"] == "helps"
    assert "constant" not in told["sentence"] + told["advice"]


def test_a_regression_that_does_not_beat_the_mean() -> None:
    study = study_of(regression=True, alphas=(), named=("InputMixup(0.4)",), rows=200)
    sd = float(np.std(study.data.target))
    told, _ = told_of(study, numbers(study, {"ERM": plus(2 * sd), "InputMixup(0.4)": plus(1.5 * sd)}))
    assert told["kind"] == "no better than a constant"
    assert told["sentence"].startswith(
        "No network is shown to beat a constant answer on made: the mean of the target has "
    )


def test_rivals_that_are_better_are_named() -> None:
    study = study_of(alphas=(0.4,), rows=500)
    wrong = {"ERM": every(4), "linear model": every(40), "gradient-boosted trees": every(50), CONSTANT: half}
    told, _ = told_of(study, answers(study, wrong | {"mixup 0.4": every(4, 1)}))
    assert told["advice"].endswith(
        "Better than ERM on these data: a linear model (2.60 %) and gradient-boosted trees (2.00 %)."
    )
    told, _ = told_of(study, answers(study, wrong | {"linear model": every(4), "gradient-boosted trees": every(2, 1)}))
    assert "Better than ERM" not in told["advice"]


# -- what stands beside the verdict --------------------------------------------------------------------------------------


def test_alphas_that_harm_are_told() -> None:
    study = study_of(alphas=(0.1, 0.4, 1.0), rows=200)
    erm = {name: every(10) for name in [m.name for m in study.methods] if name.startswith("ERM")}
    wrong = erm | {"ERM": every(10), "mixup 0.1": every(10, 1), "mixup 0.4": half, "mixup 1": half}
    told, _ = told_of(study, answers(study, wrong))
    assert told["kind"] == "no difference found"
    assert "Without a choice by validation data, mixup 0.4 and mixup 1 clearly harm." in told["advice"]


def test_the_strictest_test_is_told_where_it_disagrees() -> None:
    study = study_of(alphas=(0.4,), rows=240, seeds=3)

    def helped(
        rows: np.ndarray,
    ) -> np.ndarray:  # half of the errors are mended, of which a test with 3 seeds is not sure
        return (rows % 4 == 0) & (rows // 4 % 12 >= 5)

    told, one = told_of(study, answers(study, {"ERM": every(4), "mixup 0.4": helped}))
    assert one["p_holm"] < 0.05 <= one["p_strict"]
    assert (
        f"The strictest test, which takes seeds for the units, leaves it open (p = {one['p_strict']:.2g})."
        in told["advice"]
    )
    agreeing, sure_ = told_of(study, answers(study, {"ERM": half, "mixup 0.4": no_row}))
    assert sure_["p_strict"] < 0.05
    assert "strictest" not in agreeing["advice"]


def test_likelihood_that_is_worse_is_told_where_the_error_shows_nothing() -> None:
    study = study_of(alphas=(0.4,), rows=200)

    def outputs(method: str, seed: int, rows: np.ndarray) -> np.ndarray:
        p = 0.55 if method == "mixup 0.4" else 0.95
        first = np.where(study.data.target[rows] == 0, p, 1 - p)
        first = np.where(rows % 50 == 0, 1 - first, first)
        return np.tile([0.501, 0.499], (len(rows), 1)) if method == CONSTANT else np.stack([first, 1 - first], 1)

    told, one = told_of(study, predictions_of(study, outputs))
    assert one["difference"] == 0
    assert told["kind"] == "no difference found"
    assert "With mixup, negative log-likelihood is worse (+" in told["advice"]
    assert "and calibration error is worse (+40.00 points)." in told["advice"]
    assert "no clear difference either" not in told["advice"]


@pytest.mark.parametrize("metric", ["auroc", "f1"])
def test_a_share_that_is_better_when_higher_is_written_as_a_number(metric: str) -> None:
    study = study_of(alphas=(0.4,), rows=200, metric=metric)
    results = conclude(study, answers(study, {"ERM": every(4), "mixup 0.4": every(20)}))
    erm, mine = (results["summary"][name]["test"][metric]["mean"] for name in ("ERM", CHOSEN))
    counts = np.bincount(
        np.concatenate([study.data.target[study.split(seed).test] for seed in range(study.settings.seeds)])
    )
    rarer = study.data.classes[int(counts.argmin())]
    title = {"auroc": "area under the ROC curve", "f1": f"F1 score of {rarer!r}"}[metric]
    digits = 3 if max(of["test"][metric]["mean"] for of in results["summary"].values()) >= 1 else 4
    assert results["verdict"]["sentence"].startswith(
        f"Mixup helps on made: the {title} rises from {erm:.{digits}f} to {mine:.{digits}f} (difference +"
    )
    assert " points" not in results["verdict"]["sentence"]


def test_the_advice_is_python_that_runs() -> None:
    import vicinal

    study = study_of(regression=True, alphas=(0.4,), rows=200)
    residuals = {"ERM": plus(6.0), "by label distance 0.4": plus(3.0)}
    advice = conclude(study, numbers(study, residuals))["verdict"]["advice"]
    text = advice.removeprefix("Train with ").split(". ")[0]
    assert eval(text, {"vicinal": vicinal}) == parse.parse("Mixup(0.4, LabelDistance(0.5))")


def test_no_minus_zero() -> None:
    study = study_of(regression=True, alphas=(), named=("InputMixup(0.4)",), rows=200)
    results = conclude(study, numbers(study, {"ERM": plus(6.0), "InputMixup(0.4)": plus(6.0 - 1e-6)}))
    assert "difference -0.0000014," in results["verdict"]["sentence"]
    exact = conclude(study, numbers(study, {"ERM": plus(6.0), "InputMixup(0.4)": plus(6.0)}))
    assert "-0.0" not in exact["verdict"]["sentence"]


def test_how_it_was_measured_is_said() -> None:
    text = words.statistics_in_words(study_of(alphas=(0.1, 0.4), named=("InputMixup()",)))
    assert "Every run has the weights of the epoch that was best on its validation rows." in text
    assert (
        "Alpha is chosen for each seed on its validation rows. ERM's weight decay is chosen among 2 likewise." in text
    )
    assert "Test rows took no part in any choice." in text
    assert "The 6 tests of the verdict are corrected together by Holm's method" in text
    assert "folds of repeated cross-validation" in text
    assert "weights of its last epoch" in words.statistics_in_words(study_of(to_the_end=True))
    one = words.statistics_in_words(study_of(regression=True, alphas=(0.4,)))
    assert "The 2 tests of the verdict" in one
    assert "weight decay among" not in one
    grouped = TableComparison(replace(made(60), groups=np.arange(60) // 3), TableSettings(seeds=5))
    assert "groups stay together" in words.statistics_in_words(grouped)
    late = TableComparison(replace(made(60), times=np.arange(60.0)), TableSettings(seeds=5))
    assert "All seeds test the latest rows" in words.statistics_in_words(late)
    fixed = TableComparison(replace(made(60), fixed_test=np.arange(60) > 50), TableSettings(seeds=5))
    assert "All seeds test the rows of the test file" in words.statistics_in_words(fixed)


def test_more_alphas_than_weight_decays_are_refused() -> None:
    alphas = tuple(0.1 * i for i in range(1, 23))
    assert len(TableSettings(alphas=alphas[:20]).decays) == 20
    with pytest.raises(UserError, match=r"as mixup has alphas, and 22 .* give --erm-decays"):
        _ = TableSettings(alphas=alphas).decays
    assert TableSettings(alphas=alphas, erm_decays=(0.0,)).decays == (0.0,)


def test_what_is_left_open_is_said() -> None:
    plain, full = words.limitations(study_of()), words.limitations(study_of(label_noise=0.2, input_noise=0.5))
    assert any("--label-noise" in line for line in plain)
    assert any("--input-noise" in line for line in plain)
    assert not any("noise" in line for line in full)
    assert any("split at random" in line for line in plain)
    late = TableComparison(replace(made(60), times=np.arange(60.0)), TableSettings(seeds=5))
    assert not any("split at random" in line for line in words.limitations(late))


def test_what_was_noted_on_reading_the_data_is_said_first() -> None:
    notes = ("3 rows without a value in 'y' left out", "Two files are broken.")
    study = TableComparison(replace(made(60), notes=notes), TableSettings(seeds=5))
    said = ["3 rows without a value in 'y' left out.", "Two files are broken."]
    assert words.limitations(study)[:2] == said
    assert words.limitations(study)[2:] == words.limitations(TableComparison(made(60), TableSettings(seeds=5)))
    table = study.data_info().table
    assert table is not None
    assert table.notes == notes


@pytest.mark.parametrize(
    ("text", "epochs"),
    [
        ("Scheduled(Mixup(0.4), start=9)", ""),
        ("Scheduled(Mixup(0.4), start=10)", "10"),
        ("Scheduled(Mixup(0.4), start=3, stop=3)", "3"),
        ("Scheduled(Mixup(0.4), stop=2)", ""),
        ("Chain([Scheduled(Mixup(0.4), start=20), LabelSmoothing(0.1)])", "20"),
        ("Choice([Scheduled(Mixup(0.4), start=20), Scheduled(ERM(), start=12)])", "12 and 20"),
        ("Scheduled(Scheduled(Mixup(0.4), start=5), stop=5)", "5"),
        ("Scheduled(Scheduled(Mixup(0.4), start=5), stop=6)", ""),
        ("Scheduled(Mixup(1), values={'alpha': {0: 0.4, 9: 0.3}})", ""),
        ("Scheduled(Mixup(1), values={'alpha': {0: 0.4, 11: 0.3}})", "11"),
        ("Scheduled(Mixup(1), stop=5, values={'alpha': {6: 0.4}})", "6"),
    ],
)
def test_a_schedule_that_these_epochs_do_not_reach_is_told(text: str, epochs: str) -> None:
    found = study_of(named=(text,), epochs=10).idle()
    says = f"{text} begins something in epoch {epochs}, and training has 10 epochs, counted from 0: it is never done"
    assert found == ([says] if epochs else [])
