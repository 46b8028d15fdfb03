"""What networks must beat: each baseline is what scikit-learn makes of the same rows, or can be done by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from made_runs import study_of
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from vicinal.keyed import Key
from vicinal.lab.compare import baselines
from vicinal.lab.compare.baselines import CONSTANT, LINEAR, TREES, fit_predict
from vicinal.lab.data.encoded_splits import encode
from vicinal.lab.data.table_inputs import TableInputs


def rows(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = Key(seed, 0, 0, 0).generator()
    x = generator.normal(0.0, 1.0, (n, 3)).astype(np.float32)
    score = x[:, 0] - x[:, 1] + generator.normal(0.0, 0.5, n)
    return x, np.digitize(score, np.linspace(-1, 1, classes - 1)) if classes else score.astype(np.float32)


def of(x: np.ndarray) -> TableInputs:
    return TableInputs(torch.from_numpy(x))


def test_the_constant_answer_by_hand() -> None:
    x = np.zeros((5, 2), dtype=np.float32)
    found, seconds = fit_predict(
        CONSTANT, 3, (of(x), np.array([0, 0, 2, 0, 2])), {"test": of(x[:2]), "none": of(x[:0])}
    )
    assert found["test"].tolist() == [[0.6, 0.0, 0.4], [0.6, 0.0, 0.4]]
    assert found["none"].shape == (0, 3)
    assert seconds == 0.0
    found, _ = fit_predict(CONSTANT, 0, (of(x), np.array([1.0, 2.0, 3.0, 4.0, 10.0])), {"test": of(x[:3])})
    assert found["test"].tolist() == [4.0, 4.0, 4.0]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_linear_model_and_trees_are_those_of_scikit_learn(classes: int) -> None:
    x, y = rows(120, classes)
    other, _ = rows(40, classes, seed=1)
    for name, model in (
        (LINEAR, LogisticRegression(max_iter=1000)),
        (TREES, HistGradientBoostingClassifier(random_state=0)),
    ):
        found, seconds = fit_predict(name, classes, (of(x), y), {"train": of(x), "test": of(other)})
        model.fit(x, y)
        assert np.array_equal(found["train"], model.predict_proba(x))
        assert np.array_equal(found["test"], model.predict_proba(other))
        assert seconds > 0


def test_linear_model_and_trees_of_numbers() -> None:
    x, y = rows(120, 0)
    other, _ = rows(40, 0, seed=1)
    for name, model in ((LINEAR, Ridge()), (TREES, HistGradientBoostingRegressor(random_state=0))):
        found, _ = fit_predict(name, 0, (of(x), y), {"test": of(other)})
        assert found["test"] == pytest.approx(model.fit(x, y).predict(other), rel=1e-12)
        assert found["test"].shape == (40,)


@pytest.mark.parametrize("name", [CONSTANT, LINEAR, TREES])
@pytest.mark.parametrize("missing", [0, 1, 3])
def test_a_class_without_training_rows_has_probability_0(name: str, missing: int) -> None:
    x, y = rows(150, 4)
    kept = y != missing
    found, _ = fit_predict(name, 4, (of(x[kept]), y[kept]), {"test": of(x)})
    assert found["test"].shape == (150, 4)
    assert not found["test"][:, missing].any()
    assert found["test"].sum(1) == pytest.approx(1.0)
    others = [i for i in range(4) if i != missing]
    assert (found["test"][:, others] > 0).all()


def with_categories(n: int, levels: tuple[int, ...], seed: int) -> tuple[TableInputs, np.ndarray, np.ndarray]:
    """Return inputs, their dense columns and a score that hangs on all of them."""
    generator = Key(seed, 0, 0, 0).generator()
    numbers = generator.normal(0.0, 1.0, (n, 2)).astype(np.float32)
    codes = np.stack([generator.integers(-1, k, n) for k in levels], 1)
    one_hot = np.zeros((n, sum(levels)), np.float32)
    for i in range(n):
        for j, code in enumerate(codes[i]):
            if code >= 0:
                one_hot[i, sum(levels[:j]) + code] = 1
    inputs = TableInputs(torch.from_numpy(numbers), torch.from_numpy(codes.astype(np.int32)), levels)
    score = numbers[:, 0] + (codes % 3).sum(1) + generator.normal(0.0, 0.3, n)
    return inputs, np.concatenate([numbers, one_hot], 1), score


@pytest.mark.parametrize("classes", [0, 3])
def test_the_linear_model_has_categories_as_one_hot_columns(classes: int) -> None:
    inputs, dense, score = with_categories(150, (4, 7), 0)
    other, other_dense, _ = with_categories(40, (4, 7), 1)
    y = np.digitize(score, [1.0, 2.0]) if classes else score.astype(np.float32)
    found, _ = fit_predict(LINEAR, classes, (inputs, y), {"test": other})
    if classes:
        wanted = LogisticRegression(max_iter=1000).fit(dense, y).predict_proba(other_dense)
        assert found["test"] == pytest.approx(wanted, abs=2e-3)  # where the solver stops
    else:
        assert found["test"] == pytest.approx(Ridge().fit(dense, y).predict(other_dense), abs=1e-5)  # float32


def test_trees_have_categories_as_they_are() -> None:
    inputs, dense, score = with_categories(300, (4, 7), 0)
    other, other_dense, _ = with_categories(40, (4, 7), 1)
    columns = []
    for of_one in (inputs, other):
        assert of_one.codes is not None
        codes = np.where(of_one.codes.numpy() < 0, np.nan, of_one.codes.numpy())
        columns.append(np.concatenate([of_one.numbers.numpy(), codes], 1))
    y = (score > 2).astype(np.int64)
    found, _ = fit_predict(TREES, 2, (inputs, y), {"test": other})
    wanted = HistGradientBoostingClassifier(random_state=0, categorical_features=[2, 3]).fit(columns[0], y)
    assert np.array_equal(found["test"], wanted.predict_proba(columns[1]))
    coded = HistGradientBoostingClassifier(random_state=0).fit(dense, y).predict_proba(other_dense)
    assert not np.array_equal(found["test"], coded)


def test_trees_take_the_rarest_of_very_many_levels_for_one() -> None:
    n, levels = 3000, 400
    generator = Key(3, 0, 0, 0).generator()
    codes = np.sort(generator.integers(0, 260, n))
    codes[:260] = np.arange(260)
    codes[-40:] = 300  # a frequent one, far behind
    y = np.isin(codes, [3, 5, 300]).astype(np.int64)
    sizes = np.bincount(codes, minlength=levels)
    rare = np.argsort(-sizes, kind="stable")[254:]
    inputs = TableInputs(torch.zeros(n, 0), torch.from_numpy(codes.astype(np.int32))[:, None], (levels,))
    few = torch.tensor([[3], [300], [int(rare[0])], [int(rare[1])], [399]], dtype=torch.int32)
    found, _ = fit_predict(TREES, 2, (inputs, y), {"test": TableInputs(torch.zeros(5, 0), few, (levels,))})
    assert found["test"][:2, 1].min() > 0.9
    assert found["test"][2:, 1].max() < 0.1
    assert len(set(found["test"][2:, 1])) == 1


def test_methods() -> None:
    assert [(m.name, m.family, m.vicinity) for m in baselines.methods()] == [
        ("constant answer", "baseline", ""),
        ("linear model", "baseline", ""),
        ("gradient-boosted trees", "baseline", ""),
    ]
    assert [m.name for m in baselines.methods((CONSTANT,))] == ["constant answer"]


@pytest.mark.parametrize("regression", [False, True])
def test_a_comparison_trains_them_on_its_rows_and_measures_them_on_its_test_rows(regression: bool) -> None:
    study = study_of(regression, seeds=2)
    runs = {run.record.key: run for run in study.train([(name, 1) for name in (CONSTANT, LINEAR, TREES)])}
    split = study.split(1)
    encoded = encode(study.data, split)
    x = np.asarray(encoded.encoder.transform(study.data))
    y, test = study.data.target, split.test
    for name in (CONSTANT, LINEAR, TREES):
        run = runs[name, 1]
        assert np.array_equal(run.predictions.rows, test)
        assert run.record.epochs == 0
        assert run.record.curve == {}
        if regression:
            mean, sd = encoded.encoder.target.mean, encoded.encoder.target.std
            standard = ((y - mean) / sd).astype(np.float32)[split.train]
            wanted = np.full(len(test), y[split.train].mean())
            if name != CONSTANT:
                model = Ridge() if name == LINEAR else HistGradientBoostingRegressor(random_state=0)
                wanted = mean + sd * model.fit(x[split.train], standard).predict(x[test])
            assert run.predictions.outputs == pytest.approx(wanted, rel=1e-5)
            rmse = float(np.sqrt(np.mean((run.predictions.outputs - y[test]) ** 2)))
            assert run.record.test["rmse"] == pytest.approx(rmse, rel=1e-5)
            assert run.predictions.nll is None
        else:
            model = {
                LINEAR: LogisticRegression(max_iter=1000),
                TREES: HistGradientBoostingClassifier(random_state=0),
            }.get(name)
            shares = np.bincount(y[split.train]) / len(split.train)
            wanted = (
                np.tile(shares, (len(test), 1))
                if model is None
                else model.fit(x[split.train], y[split.train]).predict_proba(x[test])
            )
            assert run.predictions.outputs == pytest.approx(wanted, rel=1e-5)
            nll = -np.log(wanted[np.arange(len(test)), y[test].astype(np.int64)])
            assert run.predictions.nll == pytest.approx(nll, rel=1e-5)
            assert run.record.test["nll"] == pytest.approx(nll.mean(), rel=1e-5)
            assert run.record.test["error"] == pytest.approx((wanted.argmax(1) != y[test]).mean())


def test_a_linear_model_that_does_not_converge_is_no_news(recwarn: pytest.WarningsRecorder) -> None:
    x, y = rows(60, 2)
    fit_predict(LINEAR, 2, (of((1e6 * x).astype(np.float32)), y), {"test": of(x)})
    assert not [w for w in recwarn if re.search("converge", str(w.message))]


def test_a_class_without_training_rows_has_an_infinite_loss_and_no_warning() -> None:
    p = np.array([[0.25, 0.75, 0.0], [0.5, 0.5, 0.0]])
    assert baselines.nll_of(p, np.array([1, 2])).tolist() == [np.float32(-np.log(0.75)), np.inf]
