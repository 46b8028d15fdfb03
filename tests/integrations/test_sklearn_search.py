"""alpha by cross-validation: against a grid search that trains one model after the other, and what is refused."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, KFold, LeaveOneOut, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vicinal import Key
from vicinal.integrations.sklearn import (
    MixupClassifier,
    MixupClassifierCV,
    MixupRegressor,
    MixupRegressorCV,
    stacked,
)
from vicinal.integrations.sklearn.arguments import seed_of
from vicinal.integrations.sklearn.search import fit_alphas

IRIS_X, IRIS_Y = load_iris(return_X_y=True)
DIABETES_X, DIABETES_Y = load_diabetes(return_X_y=True)
TWO = np.stack([DIABETES_Y, DIABETES_X[:, 0] ** 2], axis=1)
FEW = {"epochs": 3, "hidden": 8, "batch_size": 16, "random_state": 0}
ALPHAS = (0, 0.2, 1.0)


def classifier(**arguments: Any) -> MixupClassifierCV:
    return MixupClassifierCV(**{"alphas": ALPHAS, "cv": 3, **FEW, **arguments})


def regressor(**arguments: Any) -> MixupRegressorCV:
    return MixupRegressorCV(**{"alphas": ALPHAS, "cv": 3, **FEW, **arguments})


# -- each model is the one that is trained alone -----------------------------------------------------------------------

STOPS = {"early_stopping": True, "epochs": 40, "learning_rate": 0.02, "n_iter_no_change": 3}


def assert_as_alone(model: Any, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> list[Any]:
    """Train a model for each alpha, at once and one after the other, and compare all that is left of it."""
    trained = fit_alphas(model, ALPHAS, model._examples(x, y, weight), seed_of(model.random_state))
    assert [of.alpha for of in trained] == list(ALPHAS)
    for at_once in trained:
        alone = clone(at_once).fit(x, y, sample_weight=weight)
        assert at_once.n_iter_ == alone.n_iter_
        np.testing.assert_allclose(at_once.loss_curve_, alone.loss_curve_, rtol=1e-5)
        if alone.validation_scores_ is None:
            assert at_once.validation_scores_ is None
        else:
            np.testing.assert_allclose(at_once.validation_scores_, alone.validation_scores_, rtol=1e-4)
            assert at_once.best_validation_score_ == max(at_once.validation_scores_)
        for own, other in zip(at_once.module_.parameters(), alone.module_.parameters(), strict=True):
            torch.testing.assert_close(own, other, rtol=0, atol=2e-5)
    return trained


@pytest.mark.parametrize("rows", [150, 145, 40, 1])  # of batches of 16: the last has 6, 1, 8 and 1
@pytest.mark.parametrize(
    "arguments",
    [{}, {"hidden": ()}, {"weight_decay": 0.1, "class_weight": {0: 1.0, 1: 3.0, 2: 0.5}}, {"class_weight": "balanced"}],
    ids=str,
)
def test_classifiers_trained_at_once_are_those_trained_alone(rows: int, arguments: dict[str, Any]) -> None:
    y = np.arange(rows) % 3
    if rows == 1 and isinstance(arguments.get("class_weight"), dict):
        arguments = {**arguments, "class_weight": {0: 3.0}}
    assert_as_alone(MixupClassifier(**{**FEW, **arguments}), IRIS_X[:rows], y)


@pytest.mark.parametrize("y", [DIABETES_Y, TWO], ids=["one", "two"])
def test_regressors_trained_at_once_are_those_trained_alone(y: np.ndarray) -> None:
    assert_as_alone(MixupRegressor(**FEW, weight_decay=0.1), DIABETES_X[:100], y[:100])


@pytest.mark.parametrize("class_weight", [None, [1.0, 3.0, 0.5]])
def test_slopes_are_the_derivatives_of_the_loss(class_weight: list[float] | None) -> None:
    """Adam would hide a factor."""
    generator = Key(0, 0, 0, 0).generator()
    outputs = torch.from_numpy(generator.standard_normal((2, 5, 3))).requires_grad_()
    mixed = torch.from_numpy(generator.dirichlet([1.0, 1.0, 1.0], (2, 5)))
    weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float64)
    for target in (torch.zeros(5, dtype=torch.int64), torch.zeros(5, 3)):
        mean, slope = stacked._loss(outputs.detach().clone(), mixed, target, weight)
        if target.is_floating_point():
            want = [F.mse_loss(z, t) for z, t in zip(outputs, mixed, strict=True)]
        else:
            w = torch.ones(3) if weight is None else weight
            shares = [t * w / (t * w).sum() for t in mixed]
            want = [-(of * z.log_softmax(1)).sum() for z, of in zip(outputs, shares, strict=True)]
        torch.testing.assert_close(mean, torch.stack(want).detach())
        torch.testing.assert_close(slope, torch.autograd.grad(sum(want), outputs)[0])


@pytest.mark.parametrize("weight", [np.arange(150) % 3, np.arange(150) / 7], ids=["integers", "numbers"])
@pytest.mark.parametrize("make", [MixupClassifier, MixupRegressor])
def test_weights_of_rows_count_as_alone(make: Any, weight: np.ndarray) -> None:
    assert_as_alone(make(**FEW), IRIS_X, IRIS_Y, weight)


def test_each_stops_when_it_would_alone() -> None:
    x, y = load_digits(return_X_y=True)
    of_classes = assert_as_alone(MixupClassifier(**{**FEW, **STOPS, "learning_rate": 0.005}), x[:300], y[:300])
    of_numbers = assert_as_alone(MixupRegressor(**{**FEW, **STOPS}), DIABETES_X, DIABETES_Y)
    for trained in (of_classes, of_numbers):
        epochs = [of.n_iter_ for of in trained]
        assert len(set(epochs)) > 1, epochs
        assert min(epochs) < 40


# -- the choice is that of a grid search -------------------------------------------------------------------------------


def grid_scores(search: Any, x: Any, y: Any, scoring: Any = None) -> tuple[Any, np.ndarray]:
    """Search the same grid by scikit-learn: the fitted search, and its scores [folds, alphas]."""
    grid = GridSearchCV(search._model(), {"alpha": ALPHAS}, cv=search.cv, scoring=scoring).fit(x, y)
    return grid, np.array([grid.cv_results_[f"split{i}_test_score"] for i in range(grid.n_splits_)])


@pytest.mark.parametrize(
    ("search", "scoring"),
    [
        (classifier(), "neg_log_loss"),
        (classifier(scoring="accuracy"), "accuracy"),
        (classifier(cv=KFold(4, shuffle=True, random_state=1), class_weight="balanced"), "neg_log_loss"),  # 112 or 113
        (classifier(cv=list(StratifiedKFold(2).split(IRIS_X, IRIS_Y)), batch_size=75), "neg_log_loss"),
        (classifier(**{**STOPS, "epochs": 6}), "neg_log_loss"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_classifiers_choose_as_a_grid_search(search: Any, scoring: str) -> None:
    names = np.array(["a", "b", "c"])[IRIS_Y]
    grid, scores = grid_scores(search, IRIS_X, names, scoring)
    search.fit(IRIS_X, names)
    np.testing.assert_allclose(search.scores_, scores, atol=1e-5)
    assert search.alphas_.tolist() == list(ALPHAS)
    assert search.alpha_ == grid.best_params_["alpha"]
    assert search.best_score_ == pytest.approx(grid.best_score_, abs=1e-5)
    assert np.array_equal(search.predict_proba(IRIS_X), grid.predict_proba(IRIS_X))  # trained alone: to the bit
    assert np.array_equal(search.predict_log_proba(IRIS_X), grid.predict_log_proba(IRIS_X))
    assert np.array_equal(search.predict(IRIS_X), grid.predict(IRIS_X))
    assert search.classes_.tolist() == ["a", "b", "c"]
    assert search.score(IRIS_X, names) == accuracy_score(names, search.predict(IRIS_X))


@pytest.mark.parametrize("y", [DIABETES_Y, TWO], ids=["one", "two"])
def test_regressors_choose_as_a_grid_search(y: np.ndarray) -> None:
    search = regressor(batch_size=64, epochs=6, learning_rate=0.01)  # folds of 147 or 148 rows
    grid, scores = grid_scores(search, DIABETES_X, y)
    search.fit(DIABETES_X, y)
    np.testing.assert_allclose(search.scores_, scores, atol=1e-5)
    assert search.alpha_ == grid.best_params_["alpha"]
    assert np.array_equal(search.predict(DIABETES_X), grid.predict(DIABETES_X))
    assert search.predict(DIABETES_X).shape == y.shape


def test_the_choice_is_the_best_mean_and_of_equals_the_smallest() -> None:
    of_alpha = {0.0: [0.2, 0.0, 0.1], 0.2: [0.4, 0.1, 0.1], 0.4: [0.6, -0.1, 0.1], 1.0: [-1.0, -1.0, -1.0]}
    calls: list[float] = []

    def scoring(model: Any, x: Any, y: Any) -> float:
        calls.append(model.alpha)
        return of_alpha[model.alpha][calls.count(model.alpha) - 1]

    def search(*alphas: float) -> MixupClassifierCV:
        calls.clear()
        return classifier(alphas=alphas, scoring=scoring).fit(IRIS_X, IRIS_Y)

    model = search(0.4, 1, 0.2, 0, 0.4)
    assert model.alphas_.tolist() == [0.0, 0.2, 0.4, 1.0]
    assert model.scores_.T.tolist() == list(of_alpha.values())
    assert (model.alpha_, model.best_score_) == (0.2, pytest.approx(0.2))
    of_alpha |= {0.0: [0.3, 0.0, 0.0], 0.4: [0.1, 0.1, 0.1]}
    assert np.mean(of_alpha[0.4]) > np.mean(of_alpha[0.0])  # by rounding
    assert search(0.4, 0.0).alpha_ == 0.0
    of_alpha[0.4][0] += 1e-9
    assert search(0.4, 0.0).alpha_ == 0.4


def test_held_out_rows_count_by_their_weights() -> None:
    weight = np.arange(150) % 3 + 0.5
    folds = list(StratifiedKFold(3).split(IRIS_X, IRIS_Y))
    default = classifier().fit(IRIS_X, IRIS_Y, sample_weight=weight)
    named = classifier(scoring="neg_log_loss").fit(IRIS_X, IRIS_Y, sample_weight=weight)
    for i, (train, test) in enumerate(folds):
        for j, alpha in enumerate(ALPHAS):
            model = MixupClassifier(alpha, **FEW).fit(IRIS_X[train], IRIS_Y[train], sample_weight=weight[train])
            loss = log_loss(IRIS_Y[test], model.predict_proba(IRIS_X[test]), sample_weight=weight[test])
            assert -default.scores_[i, j] == pytest.approx(loss, abs=1e-5)
    np.testing.assert_allclose(default.scores_, named.scores_, rtol=1e-12)
    final = MixupClassifier(default.alpha_, **FEW).fit(IRIS_X, IRIS_Y, sample_weight=weight)
    assert np.array_equal(default.predict_proba(IRIS_X), final.predict_proba(IRIS_X))


def test_a_class_that_a_fold_does_not_train_on_has_the_smallest_probability() -> None:
    train = np.flatnonzero(IRIS_Y < 2)
    test = np.array([0, 60, 149])
    search = classifier(cv=[(train, test), (np.arange(150), np.array([1, 2]))]).fit(IRIS_X, IRIS_Y)
    for j, alpha in enumerate(ALPHAS):
        p = MixupClassifier(alpha, **FEW).fit(IRIS_X[train], IRIS_Y[train]).predict_proba(IRIS_X[test])
        want = (math.log(p[0, 0]) + math.log(p[1, 1]) + math.log(np.finfo(float).eps)) / 3
        assert search.scores_[0, j] == pytest.approx(want, abs=1e-5)
    assert search.classes_.tolist() == [0, 1, 2]


# -- in scikit-learn's company -----------------------------------------------------------------------------------------


def test_seeds() -> None:
    one, other = (classifier(random_state=None).fit(IRIS_X, IRIS_Y).predict_proba(IRIS_X) for _ in "ab")
    assert np.abs(one - other).max() > 1e-3
    state = classifier(random_state=np.random.RandomState(0)).fit(IRIS_X, IRIS_Y)
    assert np.array_equal(state.scores_, classifier().fit(IRIS_X, IRIS_Y).scores_)


def test_global_generators_stay() -> None:
    of_numpy, of_torch = repr(np.random.get_state()), torch.get_rng_state().clone()  # noqa: NPY002
    classifier(random_state=None).fit(IRIS_X, IRIS_Y)
    assert repr(np.random.get_state()) == of_numpy  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), of_torch)


def test_the_order_of_rows_does_not_matter() -> None:
    order = Key(1, 0, 0, 0).generator().permutation(150)
    at = np.argsort(order)
    folds = list(StratifiedKFold(3).split(IRIS_X, IRIS_Y))
    moved = [(at[train], at[test]) for train, test in folds]
    one = classifier(cv=folds).fit(IRIS_X, IRIS_Y)
    other = classifier(cv=moved).fit(IRIS_X[order], IRIS_Y[order])
    np.testing.assert_allclose(one.scores_, other.scores_, rtol=1e-12)
    assert np.array_equal(one.predict_proba(IRIS_X), other.predict_proba(IRIS_X))


def test_pipelines_pickles_clones_and_frames() -> None:
    frame, labels = pd.DataFrame(IRIS_X, columns=list("abcd")), pd.Series(IRIS_Y)
    plain = classifier().fit(IRIS_X, IRIS_Y)
    model = clone(classifier()).fit(frame, labels)
    assert model.feature_names_in_.tolist() == list("abcd")
    assert model.n_features_in_ == plain.n_features_in_ == 4
    for of in (model, pickle.loads(pickle.dumps(model))):
        assert np.array_equal(of.predict_proba(frame), plain.predict_proba(IRIS_X))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a", "c", "d"]])
    with pytest.raises(ValueError, match=r"columns \['e'\] hold categories or text"):
        clone(model).fit(frame.assign(e="text"), labels)
    pipeline = make_pipeline(StandardScaler(), regressor()).fit(DIABETES_X, DIABETES_Y)
    assert pipeline.predict(DIABETES_X).shape == DIABETES_Y.shape
    nested = GridSearchCV(classifier(alphas=(0, 1)), {"hidden": [4, 8]}, cv=2).fit(IRIS_X, IRIS_Y)
    assert nested.best_estimator_.estimator_.hidden == nested.best_params_["hidden"]


def test_arguments_go_to_the_model() -> None:
    """All of MixupClassifier's but alpha and vicinity, in whose place there are alphas, cv and scoring."""
    own = {"alphas", "cv", "scoring"}
    for search, model in ((MixupClassifierCV(), MixupClassifier()), (MixupRegressorCV(), MixupRegressor())):
        rest = {name: value for name, value in search.get_params().items() if name not in own}
        assert rest == {name: v for name, v in model.get_params().items() if name not in ("alpha", "vicinity")}
    changed = {"hidden": 4, "epochs": 2, "batch_size": 8, "learning_rate": 0.1, "weight_decay": 0.2, "device": "cpu"}
    stops = {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 4, "random_state": 5}
    for make in (MixupClassifierCV, MixupRegressorCV):
        got = make(**changed, **stops)._model().get_params()
        assert {name: got[name] for name in changed | stops} == changed | stops


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        ({"alphas": ()}, ValueError, r"alphas must be numbers >= 0, one at least, such as \(0.0, .*, got \(\)"),
        ({"alphas": 0.2}, ValueError, "alphas must be numbers >= 0, .* got 0.2"),
        ({"alphas": (0, -1.0)}, ValueError, "alpha must be a finite number >= 0, .* got -1.0"),
        ({"alphas": "12"}, TypeError, "alpha must be a number"),
        ({"scoring": ["accuracy"]}, TypeError, "scoring is one measure, a name or a function"),
        ({"scoring": "nothing"}, ValueError, "nothing"),
        (
            {"scoring": make_scorer(lambda y, p: math.nan)},
            ValueError,
            r"scores of a fold are \[nan, nan, nan\] on 50 held",
        ),
        ({"epochs": 0}, ValueError, "epochs counts"),
        ({"cv": 1}, ValueError, "n_splits=1"),
        ({"learning_rate": 1e30}, ValueError, "training diverged, the loss is (nan|inf) in epoch"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    for make in (classifier, regressor):
        model = make().fit(IRIS_X, IRIS_Y)
        with pytest.raises(kind, match=sentence):
            model.set_params(**arguments).fit(IRIS_X, IRIS_Y)
        with pytest.raises(NotFittedError):
            model.predict(IRIS_X)


@pytest.mark.filterwarnings("ignore:R.2 score is not well-defined")
def test_r2_of_one_row_is_no_score() -> None:
    with pytest.raises(
        ValueError, match=r"scores of a fold are \[nan, .* on 1 held-out rows, by which no alpha can be"
    ):
        regressor(cv=LeaveOneOut()).fit(DIABETES_X[:4], DIABETES_Y[:4])
    squares = regressor(cv=LeaveOneOut(), scoring="neg_mean_squared_error").fit(DIABETES_X[:4], DIABETES_Y[:4])
    assert squares.scores_.shape == (4, 3)


def test_no_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="cv holds no folds"):
        classifier(cv=[]).fit(IRIS_X, IRIS_Y)
