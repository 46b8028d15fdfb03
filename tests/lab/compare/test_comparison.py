"""The comparison: what is compared, that it is paired, how it is chosen, and that the verdict says what the runs say."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from vicinal import ERM, Mixup
from vicinal.keyed import Key
from vicinal.lab import parse, records
from vicinal.lab.compare import verdict as verdicts
from vicinal.lab.compare.comparison import methods
from vicinal.lab.compare.results import RunRecord
from vicinal.lab.compare.settings import Settings, TableSettings
from vicinal.lab.compare.table_comparison import SeedSplits, TableComparison
from vicinal.lab.data.columns import Numbers
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.splits import split
from vicinal.lab.data.table import Table, make_table
from vicinal.lab.errors import UserError
from vicinal.lab.training import stacked_mlp

CHOSEN = "mixup, alpha chosen on validation"
BY_LABEL = "mixup by label distance, alpha chosen on validation"


def made(rows: int = 60, regression: bool = False) -> Table:
    """Two columns that tell the target, with noise."""
    generator = Key(21, 0, 0, 0).generator()
    x = generator.normal(0.0, 2.0, (rows, 2))
    columns: dict[str, Numbers | list[str | None]] = {"a": x[:, 0], "b": x[:, 1]}
    score = x[:, 0] - x[:, 1] + generator.normal(0.0, 1.0, rows)
    if regression:
        return make_table(columns | {"y": 50 + 10 * score}, "y", name="made", source="made")
    return make_table(columns | {"y": ["low" if s < 0 else "high" for s in score]}, "y", name="made", source="made")


def study_of(regression: bool = False, **settings: Any) -> TableComparison:
    return TableComparison(made(regression=regression), TableSettings(**{"seeds": 4, "epochs": 1} | settings))


def runs_of(
    study: TableComparison, test: dict[str, list[float]], validation: dict[str, list[float]] | None = None
) -> list[dict[str, Any]]:
    """Runs with these test measures; and these on validation rows, or else the same for all."""
    measure = study.measure
    others = ("nll", "brier", "ece") if study.classes else ("mae", "r2")

    def part(value: float) -> dict[str, Any]:
        return {measure: value, **dict.fromkeys(others, 0.5)}

    return [
        {
            "method": method.name,
            "seed": seed,
            "seconds": 0.25,
            "epochs": 1,
            "train": part(0.0),
            "validation": part((validation or {}).get(method.name, [0.5] * 99)[seed]),
            "test": part(test[method.name][seed]),
            "perturbed": None,
            "curve": {"epoch": [1], f"validation_{measure}": [0.5]},
        }
        for method in study.methods
        for seed in range(study.settings.seeds)
    ]


def run_seeds(study: TableComparison, seeds: list[int], on_epoch: Any = lambda runs: None) -> list[dict[str, Any]]:
    """Train every method with these seeds, as one stack; return records as JSON holds them."""
    return records.to_json(study.train([(m.name, seed) for seed in seeds for m in study.methods], on_epoch))


def conclude(study: TableComparison, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What follows from some runs, as JSON holds it."""
    return records.to_json(verdicts.conclude(study, [RunRecord(**run) for run in runs]))


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
        ({"label_noise": 2.0}, "label noise is the share of labels replaced and must lie in [0, 1], got 2.0"),
        ({"label_noise": math.nan}, "got nan"),
        ({"label_noise": -0.1}, "got -0.1"),
        ({"input_noise": math.nan}, "input noise is a standard deviation and must be finite and >= 0, got nan"),
        ({"input_noise": -1.0}, "got -1.0"),
        ({"learning_rate": 0.0}, "the learning rate must be a finite number > 0, got 0.0"),
        ({"learning_rate": math.nan}, "the learning rate must be a finite number > 0, got nan"),
        ({"weight_decay": -1.0}, "the weight decay must be a finite number >= 0, got -1.0"),
        ({"weight_decay": math.inf}, "the weight decay must be a finite number >= 0, got inf"),
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        Settings(**settings)


def test_methods_of_a_classification() -> None:
    listed = methods(Settings(alphas=(0.1, 1.0), named=("InputMixup(0.4)",)), "classification")
    assert [(m.name, m.vicinity, m.family, m.alpha) for m in listed] == [
        ("ERM", "ERM()", "erm", None),
        ("mixup 0.1", "Mixup(alpha=0.1)", "mixup", 0.1),
        ("mixup 1", "Mixup(alpha=1.0)", "mixup", 1.0),
        ("InputMixup(0.4)", "InputMixup(0.4)", "named", None),
    ]
    assert listed[1].parsed == Mixup(0.1)


def test_methods_of_a_regression() -> None:
    listed = methods(Settings(alphas=(0.4,), named=("GaussianNoise(0.1)",)), "regression")
    assert [(m.name, m.vicinity, m.family) for m in listed] == [
        ("ERM", "ERM()", "erm"),
        ("mixup 0.4", "Mixup(alpha=0.4)", "mixup"),
        ("by label distance 0.4", "Mixup(alpha=0.4, pairing=LabelDistance(0.5))", "mixup by label distance"),
        ("GaussianNoise(0.1)", "GaussianNoise(0.1)", "named"),
    ]


def test_alphas_that_look_alike_keep_names_of_their_own() -> None:
    """Six digits would call both of them 0.1, and one would be taken for the other."""
    alphas = (0.1, 0.1 + 1e-12, 1e-9, 8.0, 1 / 3)
    listed = methods(Settings(alphas=alphas), "classification")
    assert len({m.name for m in listed}) == 6
    assert [m.parsed for m in listed] == [ERM(), *map(Mixup, alphas)]
    assert [m.name for m in listed[3:5]] == ["mixup 1e-09", "mixup 8"]


@pytest.mark.parametrize(
    ("named", "says"),
    [
        (("ERM",), "ERM is compared already; give each method once (and ERM never)"),
        (("ERM()",), "ERM() is compared already"),
        (("Mixup(0.4)", "Mixup(alpha=0.4)"), "Mixup(alpha=0.4) is compared already"),
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
    assert all(math.isfinite(run["test"][study.measure]) for run in runs)
    scheduled = next(run for run in runs if run["method"].startswith("Scheduled"))
    assert scheduled["curve"]["epoch"] == [1, 2]
    name = "train_rmse" if regression else "train_nll"
    assert scheduled["curve"][name][0] == pytest.approx(runs[0]["curve"][name][0], rel=1e-5)  # ERM in its first epoch
    assert scheduled["curve"][name][1] != pytest.approx(runs[0]["curve"][name][1], rel=1e-4)


def test_the_fingerprint_is_of_everything_that_decides_the_results() -> None:
    base = study_of()
    assert base.fingerprint() == study_of().fingerprint()
    others = [
        study_of(seeds=5),
        study_of(epochs=2),
        study_of(alphas=(0.1,)),
        study_of(named=("InputMixup()",)),
        study_of(label_noise=0.1),
        study_of(input_noise=0.1),
        study_of(learning_rate=0.01),
        study_of(weight_decay=0.1),
        study_of(patience=3),
        study_of(regression=True),
        TableComparison(made(61), base.settings),
    ]
    prints = [base.fingerprint(), *(study.fingerprint() for study in others)]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(("rows", "epochs"), [(20, 200), (400, 200), (4000, 20), (100_000, 10)])
def test_the_budget_is_about_3000_steps_within_reason(rows: int, epochs: int) -> None:
    table = make_table({"x": np.arange(float(rows)), "y": np.arange(float(rows)) + 0.5}, "y", name="t", source="t")
    training = TableComparison(table, TableSettings()).training
    assert training.epochs == epochs
    assert training.steps(round(0.6 * rows)) == epochs * math.ceil(round(0.6 * rows) / 16)


# -- splits and pairing --------------------------------------------------------------------------------------------------


def test_prepared_parts_are_the_rows_of_the_split() -> None:
    study = study_of()
    prepared = SeedSplits.of(study, [3, 1])
    for i, seed in enumerate((3, 1)):
        rows = split(study.data, seed)
        encoding = TableEncoder.fit(study.data, rows.train)
        assert prepared.encodings[i] == encoding
        for part, of in (
            (prepared.train, rows.train),
            (prepared.validation, rows.validation),
            (prepared.test, rows.test),
        ):
            assert np.array_equal(part.inputs[i].numpy(), encoding.transform(study.data)[of])
            assert np.array_equal(part.targets[i].numpy(), study.data.target[of])
        everything = np.concatenate([rows.train, rows.validation, rows.test])
        assert np.array_equal(np.sort(everything), np.arange(60))
    assert prepared.perturbed is None
    assert prepared.scales == [1.0, 1.0]


@pytest.mark.parametrize("regression", [False, True])
def test_label_noise_reaches_training_and_validation_never_the_test(regression: bool) -> None:
    noisy, clean = SeedSplits.of(study_of(regression, label_noise=1.0), [0]), SeedSplits.of(study_of(regression), [0])
    for name in ("train", "validation", "test", "clean"):
        assert torch.equal(getattr(noisy, name).inputs, getattr(clean, name).inputs)
    assert torch.equal(noisy.test.targets, clean.test.targets)
    assert torch.equal(noisy.clean.targets, clean.train.targets)
    assert not torch.equal(noisy.train.targets, clean.train.targets)
    assert not torch.equal(noisy.validation.targets, clean.validation.targets)


def test_perturbed_inputs_are_the_test_inputs_and_keyed_noise() -> None:
    prepared = SeedSplits.of(study_of(input_noise=0.5), [0, 1])
    assert prepared.perturbed is not None
    noise = prepared.perturbed.inputs - prepared.test.inputs
    assert float(noise.std()) == pytest.approx(0.5, rel=0.25)
    assert torch.equal(prepared.perturbed.targets, prepared.test.targets)
    assert torch.equal(SeedSplits.of(study_of(input_noise=0.5), [1]).perturbed.inputs[0], prepared.perturbed.inputs[1])  # type: ignore[union-attr]
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
    run_seeds(study_of(alphas=(1.0,), named=("InputMixup(1.0)",), epochs=2), [0, 5])

    steps = 2 * math.ceil(36 / 16)
    assert len(shown) == 2 * steps * 3
    for seed, step in itertools.product((0, 5), range(steps)):
        x, y = shown[seed, step, "ERM"]
        for other in ("Mixup", "InputMixup"):
            assert torch.equal(shown[seed, step, other][0], x)
            assert torch.equal(shown[seed, step, other][1], y)
    assert not torch.equal(shown[0, 0, "ERM"][0], shown[5, 0, "ERM"][0])
    rows = {tuple(row) for step in range(steps // 2) for row in shown[0, step, "ERM"][0].tolist()}
    train = SeedSplits.of(study_of(), [0]).train.inputs[0].tolist()
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
        same = next(r for r in together if (r["method"], r["seed"]) == (run["method"], 1))
        for part in ("train", "validation", "test"):
            assert run[part] == pytest.approx(same[part], rel=1e-4, abs=1e-6)
        for name, course in run["curve"].items():
            assert course == pytest.approx(same["curve"][name], rel=1e-4, abs=1e-6)


def test_the_run_trained_once_more_is_the_run() -> None:
    study = study_of(alphas=(0.4,), epochs=3)
    record = next(r for r in run_seeds(study, [0, 2]) if (r["method"], r["seed"]) == ("mixup 0.4", 2))
    state = study.train_model("mixup 0.4", 2, record["epochs"])
    prepared = SeedSplits.of(study, [2])
    x = prepared.test.inputs[0].double().numpy()
    for layer in range(3):
        x = x @ state[f"layers.{layer}.weight"].T + state[f"layers.{layer}.bias"]
        x = np.maximum(x, 0) if layer < 2 else x
    y = prepared.test.targets[0].numpy()
    nll = float(np.mean(np.log(np.exp(x).sum(1)) - x[np.arange(len(y)), y]))
    assert nll == pytest.approx(record["test"]["nll"], rel=1e-5)
    assert float((x.argmax(1) != y).mean()) == record["test"]["error"]


def test_patience_stops_a_run_at_its_best_weights() -> None:
    study = study_of(alphas=(1.0,), epochs=30, patience=2, learning_rate=0.05)
    runs = run_seeds(study, [0, 1])
    assert any(run["epochs"] < 28 for run in runs)
    for run in runs:
        best = min(run["curve"]["validation_nll"])
        assert run["validation"]["nll"] <= best + 1e-6
        assert max(run["curve"]["epoch"]) <= run["epochs"] + 2
    state = study.train_model(runs[0]["method"], runs[0]["seed"], runs[0]["epochs"])
    assert all(np.isfinite(array).all() for array in state.values())


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
    table = made(rows=55)
    assert len(split(table, 0).train) % 16 == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_seeds(TableComparison(table, TableSettings(alphas=(0.4,), seeds=2, epochs=1)), [0])


# -- choice --------------------------------------------------------------------------------------------------------------


def test_alpha_is_chosen_on_validation_where_the_test_would_choose_otherwise() -> None:
    study = study_of(alphas=(0.1, 0.4, 1.0))
    test = {"ERM": [0.5] * 4, "mixup 0.1": [0.0] * 4, "mixup 0.4": [0.2] * 4, "mixup 1": [0.9] * 4}
    validation = {
        "ERM": [0.0] * 4,  # not to be chosen, however good
        "mixup 0.1": [0.9, 0.9, 0.3, 0.9],
        "mixup 0.4": [0.2, 0.2, 0.4, 0.5],
        "mixup 1": [0.1, 0.3, 0.5, 0.6],
    }
    results = conclude(study, runs_of(study, test, validation))
    choice = results["choice"]
    assert choice["per_seed"] == [1.0, 0.4, 0.1, 0.4]
    assert choice["counts"] == {"0.1": 1, "0.4": 2, "1": 1}
    assert choice["recommended"] == "mixup 0.4"  # the least mean: 0.325, beside 0.75 and 0.375
    assert choice["family"] == "mixup"
    chosen = next(c for c in results["comparisons"] if c["method"] == CHOSEN)
    assert chosen["per_seed"] == pytest.approx([0.9 - 0.5, 0.2 - 0.5, 0.0 - 0.5, 0.2 - 0.5])
    assert results["summary"][CHOSEN]["test"]["error"]["mean"] == pytest.approx((0.9 + 0.2 + 0.0 + 0.2) / 4)


def test_the_choice_does_not_look_at_the_test_rows() -> None:
    study = study_of(alphas=(0.1, 0.4, 1.0), seeds=6)
    generator = Key(2, 0, 0, 0).generator()
    names = [m.name for m in study.methods]
    validation = {name: generator.random(6).tolist() for name in names}
    choices = []
    for _ in range(5):
        test = {name: generator.random(6).tolist() for name in names}
        choices.append(conclude(study, runs_of(study, test, validation))["choice"])
    assert all(choice == choices[0] for choice in choices)
    assert choices[0]["per_seed"] == [
        (0.1, 0.4, 1.0)[int(np.argmin([validation[name][seed] for name in names[1:]]))] for seed in range(6)
    ]


def test_ties_on_validation_go_by_likelihood_then_to_the_first() -> None:
    study = study_of(alphas=(0.1, 0.4), seeds=2)
    runs = runs_of(study, {"ERM": [0.1] * 2, "mixup 0.1": [0.1] * 2, "mixup 0.4": [0.1] * 2})
    for run in runs:
        if (run["method"], run["seed"]) == ("mixup 0.4", 1):
            run["validation"]["nll"] = 0.4
    assert conclude(study, runs)["choice"]["per_seed"] == [0.1, 0.4]


def test_a_run_that_ran_away_is_never_chosen() -> None:
    study = study_of(alphas=(0.1, 0.4), seeds=2)
    runs = runs_of(study, {name: [0.1, 0.1] for name in ("ERM", "mixup 0.1", "mixup 0.4")})
    for run in runs:
        if run["method"] == "mixup 0.1":
            run["validation"]["nll"] = math.nan
            run["validation"]["error"] = 0.0
    choice = conclude(study, runs)["choice"]
    assert choice["per_seed"] == [0.4, 0.4]
    assert choice["recommended"] == "mixup 0.4"


# -- verdict -------------------------------------------------------------------------------------------------------------


def formula(differences: list[float]) -> tuple[float, float, float, float]:
    """The corrected resampled t of the made table: 12 test rows and 36 training rows."""
    values = np.array(differences)
    n = len(values)
    error = math.sqrt(values.var(ddof=1) * (1 / n + 12 / 36))
    reach = stats.t.ppf(0.975, n - 1) * error
    p = float(2 * stats.t.sf(abs(values.mean()) / error, n - 1))
    return float(values.mean()), float(values.mean() - reach), float(values.mean() + reach), p


def spread(mean: float, seeds: int = 4) -> list[float]:
    """Values about a mean, a little apart."""
    return [mean + 0.002 * (seed - (seeds - 1) / 2) for seed in range(seeds)]


def test_helps() -> None:
    study = study_of(alphas=(0.1, 0.4))
    test = {"ERM": [0.3] * 4, "mixup 0.1": spread(0.1), "mixup 0.4": spread(0.2)}
    validation = {"ERM": [0.3] * 4, "mixup 0.1": [0.1] * 4, "mixup 0.4": [0.2] * 4}
    results = conclude(study, runs_of(study, test, validation))
    mean, low, high, p = formula([v - 0.3 for v in spread(0.1)])
    primary, *secondary = results["comparisons"]
    assert primary | {"per_seed": None} == {
        "method": CHOSEN,
        "primary": True,
        "difference": pytest.approx(mean),
        "low": pytest.approx(low),
        "high": pytest.approx(high),
        "p": pytest.approx(p),
        "p_holm": pytest.approx(p),
        "per_seed": None,
    }
    assert [c["method"] for c in secondary] == ["mixup 0.1", "mixup 0.4"]
    assert [c["primary"] for c in secondary] == [False, False]
    p_second = formula([v - 0.3 for v in spread(0.2)])[3]
    assert [c["p_holm"] for c in secondary] == pytest.approx([2 * p, max(2 * p, p_second)])
    assert results["verdict"] == {
        "kind": "helps",
        "method": CHOSEN,
        "sentence": "Mixup helps on made: the test error falls from 30.00 % to 10.00 % (difference -20.00 points, 95 % "
        f"interval {100 * low:+.2f} to {100 * high:+.2f}; p < 0.0001).",
        "advice": "Train with vicinal.Mixup(alpha=0.1).",
    }


def test_harms() -> None:
    study = study_of(alphas=(0.4,))
    results = conclude(study, runs_of(study, {"ERM": [0.1] * 4, "mixup 0.4": spread(0.11)}))
    mean, low, high, p = formula([v - 0.1 for v in spread(0.11)])
    assert 1e-4 < p < 0.05
    assert results["verdict"] == {
        "kind": "harms",
        "method": CHOSEN,
        "sentence": "Mixup harms on made: the test error rises from 10.00 % to 11.00 % (difference "
        f"{100 * mean:+.2f} points, 95 % interval {100 * low:+.2f} to {100 * high:+.2f}; p = {p:.2g}).",
        "advice": "Train without mixup.",
    }


@pytest.mark.parametrize(("seeds", "would"), [(4, "More seeds"), (15, "More rows of data")])
def test_no_difference(seeds: int, would: str) -> None:
    study = study_of(alphas=(0.4,), seeds=seeds)
    erm = [0.1 + 0.05 * (seed % 2) for seed in range(seeds)]
    mixup = [0.2 - 0.1 * (seed % 3 > 0) for seed in range(seeds)]
    results = conclude(study, runs_of(study, {"ERM": erm, "mixup 0.4": mixup}))
    mean, low, high, p = formula([a - b for a, b in zip(mixup, erm, strict=True)])
    assert results["verdict"] == {
        "kind": "no difference found",
        "method": CHOSEN,
        "sentence": f"No difference found on made: the test error is {100 * np.mean(mixup):.2f} % with mixup and "
        f"{100 * np.mean(erm):.2f} % without (difference {100 * mean:+.2f} points, 95 % interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}; p = {p:.2g}), which is within sampling noise.",
        "advice": f"Nothing here speaks for mixup or against it. {would} would narrow the interval.",
    }


def test_ties_everywhere() -> None:
    study = study_of(alphas=(0.4,))
    results = conclude(study, runs_of(study, {"ERM": [0.1, 0.2, 0.0, 0.1], "mixup 0.4": [0.1, 0.2, 0.0, 0.1]}))
    assert results["comparisons"][0]["p_holm"] == 1
    assert results["verdict"]["kind"] == "no difference found"
    assert results["verdict"]["sentence"] == (
        "No difference found on made: the test error is 10.00 % with mixup and without, the same for every seed."
    )


def test_two_seeds_that_agree_to_the_row_are_no_proof() -> None:
    study = study_of(alphas=(0.4,), seeds=2)
    results = conclude(study, runs_of(study, {"ERM": [0.25, 0.5], "mixup 0.4": [0.0, 0.25]}))
    assert results["comparisons"][0]["p"] == 0.5
    assert results["verdict"]["kind"] == "no difference found"


def test_several_named_methods_of_which_some_are_found() -> None:
    named = ("InputMixup(0.4)", "GaussianNoise(0.1)", "LabelSmoothing(0.1)")
    study = study_of(alphas=(0.4,), named=named)
    test = {
        "ERM": [0.3] * 4,
        "mixup 0.4": spread(0.2),
        "InputMixup(0.4)": spread(0.1),
        "GaussianNoise(0.1)": spread(0.5),
        "LabelSmoothing(0.1)": [0.1, 0.5, 0.2, 0.4],
    }
    results = conclude(study, runs_of(study, test))
    primary = [c for c in results["comparisons"] if c["primary"]]
    assert [c["method"] for c in primary] == [CHOSEN, *named]
    ps = [formula([t - 0.3 for t in test[name]])[3] for name in ("mixup 0.4", *named[:2])] + [1.0]
    assert [c["p"] for c in primary] == pytest.approx(ps)
    _, low, high, p = formula([v - 0.3 for v in spread(0.1)])
    assert primary[1]["p_holm"] == pytest.approx(max(4 * min(ps), 3 * p))
    verdict = results["verdict"]
    assert (verdict["kind"], verdict["method"]) == ("helps", "InputMixup(0.4)")
    assert verdict["sentence"].startswith(
        "InputMixup(0.4) helps on made: the test error falls from 30.00 % to 10.00 % (difference -20.00 points, 95 % "
        f"interval {100 * low:+.2f} to {100 * high:+.2f}; p"
    )
    assert verdict["sentence"].endswith(" after correction for 4 methods).")
    assert verdict["advice"] == ("Train with vicinal.InputMixup(0.4). Of 4 methods, 2 clearly help and 1 clearly harm.")


def test_several_methods_of_which_none_is_found() -> None:
    study = study_of(alphas=(0.4,), named=("InputMixup(0.4)",))
    test = {"ERM": [0.3] * 4, "mixup 0.4": [0.1, 0.5, 0.2, 0.4], "InputMixup(0.4)": [0.2, 0.4, 0.25, 0.25]}
    results = conclude(study, runs_of(study, test))
    _, low, high, p = formula([v - 0.3 for v in test["InputMixup(0.4)"]])
    assert results["verdict"]["method"] == "InputMixup(0.4)"
    assert results["verdict"]["sentence"] == (
        "No difference found on made between any of 2 methods and training without them. The clearest is InputMixup(0.4): "
        "the test error is 27.50 % with it and 30.00 % without (difference -2.50 points, 95 % interval "
        f"{100 * low:+.2f} to {100 * high:+.2f}; p = {min(1, 2 * p):.2g} after correction for 2 methods), which is "
        "within sampling noise."
    )
    assert results["verdict"]["advice"].startswith("Nothing here speaks for any of them or against it. ")


def test_only_named_methods_and_no_alphas() -> None:
    study = study_of(alphas=(), named=("Chain([InputMixup(0.4), LabelSmoothing(0.1)])",))
    name = study.methods[1].name
    results = conclude(study, runs_of(study, {"ERM": [0.3] * 4, name: spread(0.2)}))
    assert results["choice"] is None
    assert list(results["summary"]) == ["ERM", name]
    assert [c["method"] for c in results["comparisons"]] == [name]
    assert results["verdict"]["sentence"].startswith(f"{name} helps on made: ")
    assert results["verdict"]["advice"] == (
        "Train with vicinal.Chain([vicinal.InputMixup(0.4), vicinal.LabelSmoothing(0.1)])."
    )
    assert "alpha" not in verdicts.statistics_in_words(study).split("Holm")[0]


def test_regression_with_the_family_by_label_distance() -> None:
    study = study_of(regression=True, alphas=(0.1, 0.4))
    test = {
        "ERM": [60.0] * 4,
        "mixup 0.1": [50.0, 70.0, 55.0, 65.0],
        "mixup 0.4": [50.0, 70.0, 55.0, 66.0],
        "by label distance 0.1": [54.0, 55.0, 56.0, 55.0],
        "by label distance 0.4": [44.0, 45.0, 46.0, 45.0],
    }
    validation = {"by label distance 0.1": [50.0] * 4, "by label distance 0.4": [60.0] * 4}
    validation |= {name: [60.0] * 4 for name in test if name not in validation}
    results = conclude(study, runs_of(study, test, validation))
    assert list(results["summary"])[-2:] == [CHOSEN, BY_LABEL]
    assert [c["method"] for c in results["comparisons"] if c["primary"]] == [CHOSEN, BY_LABEL]
    _, low, high, p = formula([v - 60 for v in test["by label distance 0.1"]])
    verdict = results["verdict"]
    assert (verdict["kind"], verdict["method"]) == ("helps", BY_LABEL)
    assert verdict["sentence"] == (
        f"Mixup by label distance helps on made: the test RMSE falls from 60.00 to 55.00 (difference -5.00, 95 % interval "
        f"{low:+.2f} to {high:+.2f}; p = {2 * p:.2g} after correction for 2 methods)."
    )
    assert verdict["advice"] == "Train with vicinal.Mixup(alpha=0.1, pairing=vicinal.LabelDistance(0.5))."


@pytest.mark.parametrize("regression", [False, True])
def test_training_that_went_on_too_long_is_told(regression: bool) -> None:
    study = study_of(regression=regression, alphas=(0.4,))
    runs = runs_of(study, {method.name: [0.4] * 4 for method in study.methods})
    name = f"validation_{study.measure}"
    for run in runs:
        if run["method"] == "ERM":
            run["curve"] = {"epoch": [1, 5, 9], name: [0.5, 0.2 + 0.01 * run["seed"], 0.375]}
    advice = conclude(study, runs)["verdict"]["advice"]
    what = ("RMSE was 0.2150", "0.3750") if regression else ("error was 21.50 %", "37.50 %")
    assert advice.endswith(
        f" But training went on too long: without mixing, the validation {what[0]} after epoch 5 and is {what[1]} at the "
        "end. Compare again with --patience 10, which ends each run at its best epoch."
    )
    for run in runs:  # as clear in the mean, but not from seed to seed
        if run["method"] == "ERM":
            run["curve"][name][1] = [0.0, 0.0, 0.5, 0.36][run["seed"]]
    assert "too long" not in conclude(study, runs)["verdict"]["advice"]
    patient = study_of(regression=regression, alphas=(0.4,), patience=3)
    assert "too long" not in conclude(patient, runs)["verdict"]["advice"]


def test_training_that_diverged_has_no_verdict() -> None:
    study = study_of(regression=True, alphas=(), named=("GaussianNoise(9.0)",))
    results = conclude(study, runs_of(study, {"ERM": [1.0] * 4, "GaussianNoise(9.0)": [1.0, math.nan, math.inf, 1.0]}))
    assert results["verdict"]["kind"] == "no verdict"
    assert results["verdict"]["sentence"] == (
        "No verdict on made: with GaussianNoise(9.0) or without, training diverged for 2 of 4 seeds."
    )
    assert results["comparisons"][0]["difference"] is None


def test_the_advice_is_python_that_runs() -> None:
    import vicinal

    study = study_of(regression=True, alphas=(0.4,))
    test = {"ERM": [60.0] * 4, "mixup 0.4": [60.0] * 4, "by label distance 0.4": spread(50.0)}
    advice = conclude(study, runs_of(study, test))["verdict"]["advice"]
    text = advice.removeprefix("Train with ").removesuffix(".")
    assert eval(text, {"vicinal": vicinal}) == parse.parse("Mixup(0.4, LabelDistance(0.5))")


def test_no_minus_zero() -> None:
    study = study_of(alphas=(0.4,), seeds=2)
    results = conclude(study, runs_of(study, {"ERM": [0.1, 0.2], "mixup 0.4": [0.2, 0.1 - 1e-12]}))
    assert "-0.00 points" not in results["verdict"]["sentence"]
    assert "difference 0.00 points" in results["verdict"]["sentence"]


def test_what_is_left_open_is_said() -> None:
    plain, full = verdicts.limitations(study_of()), verdicts.limitations(study_of(label_noise=0.2, input_noise=0.5))
    assert any("--label-noise" in line for line in plain)
    assert any("--input-noise" in line for line in plain)
    assert not any("--" in line for line in full)
    assert "60 rows" in plain[1]
