"""What networks must beat: each baseline is what scikit-learn makes of the same rows, or can be done by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
from made_runs import study_of
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from vicinal.keyed import Key
from vicinal.lab.compare import baselines
from vicinal.lab.compare.baselines import CONSTANT, LINEAR, TREES, fit_predict
from vicinal.lab.data.encoded_splits import encode


def rows(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = Key(seed, 0, 0, 0).generator()
    x = generator.normal(0.0, 1.0, (n, 3)).astype(np.float32)
    score = x[:, 0] - x[:, 1] + generator.normal(0.0, 0.5, n)
    return x, np.digitize(score, np.linspace(-1, 1, classes - 1)) if classes else score.astype(np.float32)


def test_the_constant_answer_by_hand() -> None:
    x = np.zeros((5, 2), dtype=np.float32)
    found, seconds = fit_predict(CONSTANT, 3, (x, np.array([0, 0, 2, 0, 2])), {"test": x[:2], "none": x[:0]})
    assert found["test"].tolist() == [[0.6, 0.0, 0.4], [0.6, 0.0, 0.4]]
    assert found["none"].shape == (0, 3)
    assert seconds == 0.0
    found, _ = fit_predict(CONSTANT, 0, (x, np.array([1.0, 2.0, 3.0, 4.0, 10.0])), {"test": x[:3]})
    assert found["test"].tolist() == [4.0, 4.0, 4.0]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_linear_model_and_trees_are_those_of_scikit_learn(classes: int) -> None:
    x, y = rows(120, classes)
    other, _ = rows(40, classes, seed=1)
    for name, model in (
        (LINEAR, LogisticRegression(max_iter=1000)),
        (TREES, HistGradientBoostingClassifier(random_state=0)),
    ):
        found, seconds = fit_predict(name, classes, (x, y), {"train": x, "test": other})
        model.fit(x, y)
        assert np.array_equal(found["train"], model.predict_proba(x))
        assert np.array_equal(found["test"], model.predict_proba(other))
        assert seconds > 0


def test_linear_model_and_trees_of_numbers() -> None:
    x, y = rows(120, 0)
    other, _ = rows(40, 0, seed=1)
    for name, model in ((LINEAR, Ridge()), (TREES, HistGradientBoostingRegressor(random_state=0))):
        found, _ = fit_predict(name, 0, (x, y), {"test": other})
        assert found["test"] == pytest.approx(model.fit(x, y).predict(other), rel=1e-12)
        assert found["test"].shape == (40,)


@pytest.mark.parametrize("name", [CONSTANT, LINEAR, TREES])
@pytest.mark.parametrize("missing", [0, 1, 3])
def test_a_class_without_training_rows_has_probability_0(name: str, missing: int) -> None:
    x, y = rows(150, 4)
    kept = y != missing
    found, _ = fit_predict(name, 4, (x[kept], y[kept]), {"test": x})
    assert found["test"].shape == (150, 4)
    assert not found["test"][:, missing].any()
    assert found["test"].sum(1) == pytest.approx(1.0)
    others = [i for i in range(4) if i != missing]
    assert (found["test"][:, others] > 0).all()


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
    fit_predict(LINEAR, 2, ((1e6 * x).astype(np.float32), y), {"test": x})
    assert not [w for w in recwarn if re.search("converge", str(w.message))]


def test_a_class_without_training_rows_has_an_infinite_loss_and_no_warning() -> None:
    p = np.array([[0.25, 0.75, 0.0], [0.5, 0.5, 0.0]])
    assert baselines.nll_of(p, np.array([1, 2])).tolist() == [np.float32(-np.log(0.75)), np.inf]
