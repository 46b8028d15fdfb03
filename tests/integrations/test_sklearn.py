"""scikit-learn's own checks of the estimators, their rows and losses against plain loops, and what is refused."""

from __future__ import annotations

import doctest
import importlib
import itertools
import math
import pickle
import pkgutil
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from joblib import parallel_config
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator

import installed
import vicinal
import vicinal.integrations.sklearn as ours
from vicinal import (
    ERM,
    Beta,
    Chain,
    Choice,
    CutMix,
    Dirichlet,
    GaussianNoise,
    InputMixup,
    Key,
    LabelDistance,
    LabelSmoothing,
    Mixup,
    SameClass,
    Scheduled,
)
from vicinal.integrations.sklearn import (
    MixupClassifier,
    MixupClassifierCV,
    MixupMeta,
    MixupRegressor,
    MixupRegressorCV,
    meta,
    mlp,
)
from vicinal.integrations.sklearn.arguments import seed_of, weights_of
from vicinal.integrations.sklearn.rows import WeightedRows

IRIS_X, IRIS_Y = load_iris(return_X_y=True)
DIABETES_X, DIABETES_Y = load_diabetes(return_X_y=True)


def draws(i: int = 0) -> np.random.Generator:
    return Key(i, 0, 0, 0).generator()


def classifier(**arguments: Any) -> MixupClassifier:
    return MixupClassifier(**{"epochs": 3, "hidden": 8, "batch_size": 16, "random_state": 0, **arguments})


def regressor(**arguments: Any) -> MixupRegressor:
    return MixupRegressor(**{"epochs": 3, "hidden": 8, "batch_size": 16, "random_state": 0, **arguments})


# -- scikit-learn's checks ---------------------------------------------------------------------------------------------

CHECKED = [
    MixupClassifier(epochs=5),
    MixupRegressor(epochs=20),
    MixupClassifierCV((0, 0.2), cv=2, epochs=4, learning_rate=3e-3),
    MixupRegressorCV((0, 0.2), cv=2, epochs=10, learning_rate=5e-3),
    *(
        MixupMeta(base)
        for base in (
            *(LogisticRegression(), GaussianNB(), SVC(), RidgeClassifier(), MultinomialNB()),
            *(RandomForestClassifier(5), RandomForestRegressor(10)),
            *(HistGradientBoostingClassifier(max_iter=5), HistGradientBoostingRegressor(max_iter=20)),
            *(Ridge(), LinearRegression(), KNeighborsRegressor()),
        )
    ),
]


@pytest.mark.parametrize("estimator", CHECKED, ids=str)
@pytest.mark.filterwarnings("default")  # scikit-learn's checks look at warnings themselves
def test_every_check_of_scikit_learn_passes(estimator: Any) -> None:
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    left = {(of["check_name"], of["status"], str(of["exception"])) for of in results if of["status"] != "passed"}
    assert {(name, status) for name, status, _ in left} <= {("check_array_api_input", "skipped")}, left  # by a variable
    assert len(results) >= 57


# -- no generator but keyed ones ---------------------------------------------------------------------------------------


def numpy_state() -> str:
    return repr(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize("random_state", [None, 0])
@pytest.mark.parametrize(
    "make",
    [
        classifier,
        lambda random_state: classifier(early_stopping=True, random_state=random_state),
        lambda random_state: MixupMeta(GaussianNB(), random_state=random_state),
    ],
)
def test_global_generators_stay(make: Any, random_state: int | None) -> None:
    of_numpy, of_torch = numpy_state(), torch.get_rng_state().clone()
    make(random_state=random_state).fit(IRIS_X, IRIS_Y)
    assert numpy_state() == of_numpy
    assert torch.equal(torch.get_rng_state(), of_torch)


def test_seeds() -> None:
    state = np.random.RandomState(0)
    assert seed_of(0) == seed_of(state) != seed_of(state)
    assert seed_of(None) != seed_of(None)
    one, other = (classifier(random_state=None).fit(IRIS_X, IRIS_Y).predict_proba(IRIS_X) for _ in "ab")
    assert np.abs(one - other).max() > 1e-3
    with pytest.raises(ValueError, match="cannot be used to seed"):
        classifier(random_state="a").fit(IRIS_X, IRIS_Y)


# -- rows by weight ----------------------------------------------------------------------------------------------------


def table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, classes and integer weights, zeros among them."""
    generator = draws()
    x, y = generator.standard_normal((40, 3)), generator.integers(0, 3, 40)
    return x, y, generator.integers(0, 4, 40)


WEIGHTED = [
    classifier(),
    classifier(class_weight="balanced"),
    classifier(class_weight={0: 2.0, 1: 0.0, 2: 1.0}),
    classifier(early_stopping=True, validation_fraction=0.3),
    regressor(),
    regressor(early_stopping=True, validation_fraction=0.3),
    MixupMeta(RandomForestClassifier(3), random_state=0),
    MixupMeta(RandomForestRegressor(3), random_state=0, copies=2, keep=True),
]


@pytest.mark.parametrize("estimator", WEIGHTED, ids=str)
def test_an_integer_weight_is_the_row_repeated_to_the_bit(estimator: Any) -> None:
    x, y, weight = table()
    order = draws(1).permutation(weight.sum())
    repeated = clone(estimator).fit(x.repeat(weight, axis=0)[order], y.repeat(weight)[order])
    weighted = clone(estimator).fit(x, y, sample_weight=weight)
    unweighted = clone(estimator).fit(x, y)
    predict = "predict_proba" if hasattr(estimator, "predict_proba") else "predict"
    same, other, plain = (getattr(model, predict)(x) for model in (weighted, repeated, unweighted))
    assert np.array_equal(same, other)
    assert not np.array_equal(same, plain)
    if getattr(estimator, "early_stopping", False):
        assert weighted.validation_scores_ == repeated.validation_scores_


def test_partial_fit_counts_by_weight_too() -> None:
    x, y, weight = table()
    one = classifier().partial_fit(x, y, [0, 1, 2], sample_weight=weight)
    other = classifier().partial_fit(x.repeat(weight, axis=0), y.repeat(weight), [0, 1, 2])
    assert np.array_equal(one.predict_proba(x), other.predict_proba(x))


@pytest.mark.parametrize("as_table", [np.asarray, sparse.csr_array, sparse.csr_matrix])
def test_rows_lie_in_the_order_of_their_content(as_table: Any) -> None:
    x, y, weight = table()
    x[5], y[5], weight[5], weight[4] = x[4], y[4], 2, 2
    order = draws(1).permutation(40)
    one = WeightedRows.of(as_table(x), y, weight)
    other = WeightedRows.of(as_table(x[order]), y[order], weight[order])
    assert np.array_equal(x[one.rows], x[order][other.rows])
    assert sorted(one.rows) == sorted(np.flatnonzero(weight))
    assert len(set(one.distinct)) == len(one.rows) - 1
    assert len(one) == weight.sum()
    assert np.array_equal(np.bincount(one.draw(draws()), minlength=40), weight)


def test_rows_that_differ_in_the_sign_of_zero_are_equal() -> None:
    rows = WeightedRows.of(np.array([[0.0], [-0.0], [1.0]]), np.array([1.0, 1.0, -0.0]), np.ones(3))
    assert rows.distinct.tolist() == [0, 0, 1]


def test_other_weights_are_drawn_in_proportion() -> None:
    x = np.arange(6.0)[:, None]
    weight = np.array([0.5, 0.0, 2.2, 1.0, 0.1, 4.0])
    rows = WeightedRows.of(x, np.zeros(6), weight)
    mean = weight * (5 / weight.sum())  # five rows have a weight
    counts = np.array([np.bincount(rows.draw(draws(i)), minlength=6) for i in range(4000)])
    assert (counts.sum(1) == 5).all()
    assert ((np.floor(mean) <= counts) & (counts <= np.ceil(mean))).all()
    deviation = np.sqrt((mean % 1) * (1 - mean % 1) / len(counts))
    assert (np.abs(counts.mean(0) - mean) <= 5 * deviation + 1e-12).all()


def test_held_out_rows_are_a_share_of_each_class_and_equal_rows_stay_together() -> None:
    x = np.arange(31.0).repeat(2)[:, None]  # each row twice
    classes = np.array([0] * 20 + [1] * 10 + [2]).repeat(2)
    rows = WeightedRows.of(x, classes, np.ones(62))
    train, held = rows.split(0.25, 1, classes, Key(3, 0, 0, 0))
    assert not {*x[train.rows, 0]} & {*x[held.rows, 0]}
    assert sorted([*train.rows, *held.rows]) == list(range(62))
    assert np.bincount(classes[held.rows], minlength=3).tolist() == [10, 4, 0]  # 5 and 2 (of 2.5) of the distinct ones
    assert len(rows.split(0.01, 2, None, Key(3, 0, 0, 0))[1].rows) == 4
    assert len(rows.split(0.999, 2, None, Key(3, 0, 0, 0))[0].rows) == 2
    with pytest.raises(ValueError, match="needs 32 different rows"):
        rows.split(0.5, 31, None, Key(3, 0, 0, 0))


@pytest.mark.parametrize(
    ("weight", "sentence"),
    [
        (np.ones(3), r"one number per row, of shape \(150,\), got shape \(3,\)"),
        (np.ones((150, 1)), "one number per row"),
        (np.zeros(150), "zero for every row"),
        (np.r_[-1.0, np.ones(149)], "must not be negative, got -1"),
        (np.r_[np.nan, np.ones(149)], "NaN"),
        (np.full(150, 1e7), "divide sample_weight by its mean"),
    ],
)
@pytest.mark.parametrize("estimator", [classifier(), regressor(), MixupMeta(GaussianNB())], ids=str)
def test_weights_that_are_refused(estimator: Any, weight: np.ndarray, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        clone(estimator).fit(IRIS_X, IRIS_Y, sample_weight=weight)


def test_weights_of_users_stay_as_they_are() -> None:
    given = [1, 0, 3]
    assert weights_of(given, 3).tolist() == [1.0, 0.0, 3.0]
    assert weights_of(None, 2).tolist() == [1.0, 1.0]
    assert given == [1, 0, 3]


# -- the MLP against a plain loop --------------------------------------------------------------------------------------


def plain_loop(x: np.ndarray, y: np.ndarray, outputs: int, vicinity: Any, loss: Any, seed: int) -> Any:
    """Train three epochs of batches of 16 in float64, AdamW written out; rows in the order of their bytes."""
    order = sorted(range(len(x)), key=lambda i: np.array([*x[i], *np.atleast_1d(y[i])], dtype=np.float64).tobytes())
    x, y = x[order], y[order]
    z = torch.from_numpy((x - x.mean(0)) / x.std(0)).float().double()
    if y.dtype == np.float64:
        y = ((y - y.mean(0)) / y.std(0)).reshape(len(y), -1).astype(np.float32)
    t = torch.from_numpy(y) if y.dtype == np.int64 else torch.from_numpy(y).double()
    model = mlp.initial_mlp([x.shape[1], 8, outputs], seed).double()
    parts = -(-len(x) // 16)
    steps = 3 * parts - 3 * (len(x) % 16 == 1)
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()]
    step = 0
    for epoch in range(3):
        drawn = Key(seed, 0, 0, epoch, mlp.ORDER).generator().permutation(len(x))
        for start in range(0, len(x), 16):
            rows = torch.from_numpy(drawn[start : start + 16])
            if len(rows) == 1:
                continue
            plan = vicinity.plan(len(rows), t[rows], z[rows].float(), step=step, epoch=epoch, rank=0, worker=0)
            value = loss(model(plan(z[rows])), plan.target(t[rows]))
            rate = 1e-3 * (1 + math.cos(math.pi * step / steps)) / 2
            step += 1
            for p, g, (m, v) in zip(
                model.parameters(), torch.autograd.grad(value, list(model.parameters())), moments, strict=True
            ):
                m.mul_(0.9).add_(g, alpha=0.1)
                v.mul_(0.999).addcmul_(g, g, value=0.001)
                with torch.no_grad():
                    p *= 1 - rate * 0.1
                    p -= rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    return model


def outputs_of(model: Any, x: np.ndarray) -> np.ndarray:
    z = (x - x.mean(0)) / x.std(0)
    with torch.no_grad():
        return model(torch.from_numpy(z)).numpy()


@pytest.mark.parametrize(
    "vicinity",
    [None, Mixup(0.4, pairing=SameClass()), LabelSmoothing(0.1), GaussianNoise(0.1), Scheduled(Mixup(1.0), start=1)],
    ids=repr,
)
@pytest.mark.parametrize("rows", [150, 145, 40])  # of batches of 16: the last has 6, 1 and 8
def test_the_classifier_is_the_plain_loop(vicinity: Any, rows: int) -> None:
    chosen = draws().permutation(150)[:rows]
    x, y = IRIS_X[chosen], IRIS_Y[chosen]
    seed = seed_of(0)
    own = Mixup(0.2, seed=seed) if vicinity is None else replace(vicinity, seed=seed)
    want = plain_loop(x, y, 3, own, F.cross_entropy, seed)
    model = classifier(vicinity=vicinity, weight_decay=0.1).fit(x, y)
    p = torch.from_numpy(outputs_of(want, x)).softmax(1).numpy()
    np.testing.assert_allclose(model.predict_proba(x), p, atol=2e-6)
    np.testing.assert_allclose(model.predict_log_proba(x), np.log(p), atol=1e-5)
    assert np.array_equal(model.predict(x), p.argmax(1))
    assert model.n_iter_ == len(model.loss_curve_) == 3


@pytest.mark.parametrize("columns", [(), (2,)])
@pytest.mark.parametrize("vicinity", [None, Mixup(0.4, pairing=LabelDistance(0.5))], ids=repr)
def test_the_regressor_is_the_plain_loop(vicinity: Any, columns: tuple[int, ...]) -> None:
    x = DIABETES_X[:100]
    y = DIABETES_Y[:100] if not columns else np.stack([DIABETES_Y[:100], x[:, 0] ** 2], axis=1)
    seed = seed_of(0)
    own = Mixup(0.2, seed=seed) if vicinity is None else replace(vicinity, seed=seed)
    want = outputs_of(plain_loop(x, y, 2 if columns else 1, own, F.mse_loss, seed), x)
    model = regressor(vicinity=vicinity, weight_decay=0.1).fit(x, y)
    np.testing.assert_allclose(model.predict(x), (want * y.std(0) + y.mean(0)).reshape(y.shape), rtol=1e-5)


def test_predictions_are_the_layers_in_float64() -> None:
    model = classifier(hidden=(8, 4)).fit(IRIS_X, IRIS_Y)
    h = (IRIS_X - model.scaler_.mean_) / model.scaler_.scale_
    linear = [layer for layer in model.module_ if isinstance(layer, torch.nn.Linear)]
    for i, layer in enumerate(linear):
        h = h @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
        h = np.maximum(h, 0) if i < len(linear) - 1 else h
    want = np.exp(h) / np.exp(h).sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(IRIS_X), want, rtol=1e-12)
    assert [layer.out_features for layer in linear] == [8, 4, 3]


def test_a_model_may_be_linear_or_of_one_layer() -> None:
    assert len(classifier(hidden=()).fit(IRIS_X, IRIS_Y).module_) == 1
    one, other = (classifier(hidden=hidden).fit(IRIS_X, IRIS_Y) for hidden in (np.int64(8), [8]))
    assert np.array_equal(one.predict_proba(IRIS_X), other.predict_proba(IRIS_X))


def test_without_a_number_of_epochs_there_are_about_1500_steps() -> None:
    assert classifier(epochs=None, batch_size=75).fit(IRIS_X, IRIS_Y).n_iter_ == 200
    model = classifier(epochs=None, batch_size=2).fit(IRIS_X, IRIS_Y)
    assert model.n_iter_ == 1500 // 75
    assert model._trainer.steps == 1500


def test_it_learns() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    assert cross_val_score(MixupClassifier(epochs=20, random_state=0), x, y, cv=3).mean() > 0.96
    assert cross_val_score(MixupRegressor(epochs=40, random_state=0), DIABETES_X, DIABETES_Y, cv=3).mean() > 0.4


# -- arguments of the MLP ----------------------------------------------------------------------------------------------


def test_alpha_of_zero_is_erm_and_a_vicinity_takes_the_place_of_mixup() -> None:
    def predicted(**arguments: Any) -> np.ndarray:
        return classifier(**arguments).fit(IRIS_X, IRIS_Y).predict_proba(IRIS_X)

    off = Mixup(0.2)
    off.off()
    assert np.array_equal(predicted(alpha=0), predicted(vicinity=ERM()))
    assert np.array_equal(predicted(alpha=0), predicted(vicinity=off))
    assert np.array_equal(predicted(), predicted(vicinity=Mixup(0.2)))
    assert not np.array_equal(predicted(), predicted(alpha=1.0))
    own = Mixup(0.2, seed=5)
    assert not np.array_equal(predicted(), predicted(vicinity=own))
    assert np.array_equal(predicted(vicinity=own), predicted(vicinity=clone(classifier(vicinity=own)).vicinity))


def test_the_user_s_vicinity_stays_as_it_is() -> None:
    mixup = Mixup(0.2)
    before = mixup.state_dict()
    classifier(vicinity=mixup).fit(IRIS_X, IRIS_Y)
    assert mixup.state_dict() == before


def test_a_fit_with_a_random_state_does_not_count_as_a_vicinity(monkeypatch: pytest.MonkeyPatch) -> None:
    for estimator in (classifier(), classifier(alpha=0), MixupMeta(GaussianNB(), keep=True, random_state=0)):
        monkeypatch.setattr("vicinal._state._INSTANCES", itertools.count(1))
        first = Mixup(0.2).state.seed
        monkeypatch.setattr("vicinal._state._INSTANCES", itertools.count(1))
        estimator.fit(IRIS_X, IRIS_Y)
        assert Mixup(0.2).state.seed == first


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        ({"alpha": -0.1}, ValueError, "alpha must be a finite number >= 0, where 0 means no mixing, got -0.1"),
        ({"alpha": math.nan}, ValueError, "alpha must be a finite number"),
        ({"alpha": "0.2"}, TypeError, "alpha must be a number"),
        ({"alpha": Mixup(0.2)}, TypeError, "alpha must be a number"),
        ({"vicinity": 0.2}, TypeError, "vicinity must be a vicinity such as Mixup"),
        (
            {"alpha": 1.0, "vicinity": CutMix(1.0)},
            ValueError,
            "alpha=1.0 is of Mixup, in whose place .*set one of them",
        ),
        ({"hidden": (8, 0)}, ValueError, "hidden counts"),
        ({"epochs": 0}, ValueError, "epochs counts"),
        ({"batch_size": 1}, ValueError, "batch_size counts .* >= 2, got 1"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be a finite number > 0"),
        ({"weight_decay": -1}, ValueError, "weight_decay must be a finite number >= 0"),
        ({"validation_fraction": 1}, ValueError, "between 0 and 1, got 1"),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change counts"),
        ({"learning_rate": 1e30}, ValueError, "training diverged, the loss is (nan|inf) in epoch"),
        ({"device": "nowhere"}, RuntimeError, "nowhere"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    for make in (classifier, regressor):
        with pytest.raises(kind, match=sentence):
            make(**arguments).fit(IRIS_X, IRIS_Y)


def test_a_fit_that_fails_leaves_no_model() -> None:
    model = classifier().fit(IRIS_X, IRIS_Y)
    with pytest.raises(ValueError, match="diverged"):
        model.set_params(learning_rate=1e30).fit(IRIS_X, IRIS_Y)
    with pytest.raises(NotFittedError):
        model.predict(IRIS_X)


def test_labels_are_any_and_one_class_is_fine() -> None:
    names = np.array(["a", "bb", "c"])[IRIS_Y]
    model = classifier().fit(IRIS_X, names)
    assert model.classes_.tolist() == ["a", "bb", "c"]
    assert set(model.predict(IRIS_X)) <= {"a", "bb", "c"}
    assert np.array_equal(model.predict_proba(IRIS_X), classifier().fit(IRIS_X, IRIS_Y).predict_proba(IRIS_X))
    assert set(classifier().fit(IRIS_X, np.full(150, "a")).predict(IRIS_X)) == {"a"}


def test_class_weights_are_those_of_the_loss() -> None:
    """Trained with class weights by a plain loop that multiplies each term by the weight of its class."""
    seed, weights = seed_of(0), np.array([1.0, 3.0, 0.5])

    def loss(z: torch.Tensor, y: Any) -> torch.Tensor:
        y_a, y_b, lam = y.pairs()
        w = torch.from_numpy(weights)
        shares = torch.stack([lam * w[y_a], (1 - lam) * w[y_b]])
        terms = torch.stack([F.cross_entropy(z, of, reduction="none") for of in (y_a, y_b)])
        return (shares * terms).sum() / shares.sum()

    want = plain_loop(IRIS_X, IRIS_Y, 3, Mixup(0.2, seed=seed), loss, seed)
    p = torch.from_numpy(outputs_of(want, IRIS_X)).softmax(1).numpy()
    model = classifier(class_weight={0: 1.0, 1: 3.0, 2: 0.5}, weight_decay=0.1).fit(IRIS_X, IRIS_Y)
    assert model.class_weight_.tolist() == weights.tolist()
    np.testing.assert_allclose(model.predict_proba(IRIS_X), p, atol=2e-6)


def test_balanced_class_weights_count_rows_by_their_weights() -> None:
    weight = np.where(IRIS_Y == 0, 4.0, 1.0)  # 200, 50 and 50 rows
    model = classifier(class_weight="balanced").fit(IRIS_X, IRIS_Y, sample_weight=weight)
    np.testing.assert_allclose(model.class_weight_, [300 / 3 / 200, 2.0, 2.0])
    model = classifier(class_weight="balanced").fit(IRIS_X, IRIS_Y, sample_weight=np.where(IRIS_Y == 0, 0, 1))
    assert model.class_weight_.tolist() == [1.0, 1.0, 1.0]  # the class without rows has any


def test_a_class_of_weight_zero_is_left_out() -> None:
    left = classifier(class_weight={0: 0.0, 1: 1.0, 2: 1.0}).fit(IRIS_X, IRIS_Y)
    unseen = classifier().fit(IRIS_X, IRIS_Y, sample_weight=(IRIS_Y > 0).astype(float))
    assert np.array_equal(left.predict_proba(IRIS_X), unseen.predict_proba(IRIS_X))
    with pytest.raises(ValueError, match="zero for every row"):
        classifier(class_weight={0: 0.0, 1: 0.0, 2: 0.0}).fit(IRIS_X, IRIS_Y)
    with pytest.raises(ValueError, match="finite numbers >= 0"):
        classifier(class_weight={0: -1.0, 1: 1.0, 2: 1.0}).fit(IRIS_X, IRIS_Y)


# -- early stopping and partial_fit ------------------------------------------------------------------------------------


def test_early_stopping_takes_the_best_weights() -> None:
    arguments = {"early_stopping": True, "epochs": 100, "validation_fraction": 0.2, "n_iter_no_change": 4}
    model = classifier(**arguments, learning_rate=0.02).fit(IRIS_X, IRIS_Y)
    scores = model.validation_scores_
    assert scores is not None
    assert model.n_iter_ == len(scores) == len(model.loss_curve_) < 100
    assert scores.index(max(scores)) == len(scores) - 1 - 4  # the first of the best, and four epochs after it
    rows = WeightedRows.of(IRIS_X, IRIS_Y, np.ones(150))
    _, held = rows.split(0.2, 1, IRIS_Y, Key(seed_of(0), 0, 0, 0, mlp.HELD_OUT))
    assert accuracy_score(IRIS_Y[held.rows], model.predict(IRIS_X[held.rows])) == max(scores)
    assert model.best_validation_score_ == max(scores)
    assert classifier().fit(IRIS_X, IRIS_Y).validation_scores_ is None


def test_early_stopping_of_a_regressor_goes_by_r2() -> None:
    model = regressor(early_stopping=True, epochs=30, learning_rate=0.02, n_iter_no_change=3).fit(
        DIABETES_X, DIABETES_Y
    )
    rows = WeightedRows.of(DIABETES_X, DIABETES_Y, np.ones(len(DIABETES_Y)))
    _, held = rows.split(0.1, 2, None, Key(seed_of(0), 0, 0, 0, mlp.HELD_OUT))
    r2 = r2_score(DIABETES_Y[held.rows], model.predict(DIABETES_X[held.rows]))
    assert model.best_validation_score_ == max(model.validation_scores_ or []) == pytest.approx(r2, abs=1e-5)
    assert 0.2 < r2 < 0.7


def test_held_out_rows_are_not_trained_on() -> None:
    rows = WeightedRows.of(IRIS_X, IRIS_Y, np.ones(150))
    train, held = rows.split(0.1, 1, IRIS_Y, Key(seed_of(0), 0, 0, 0, mlp.HELD_OUT))
    model = classifier(early_stopping=True).fit(IRIS_X, IRIS_Y)
    alone = classifier().fit(IRIS_X[train.rows], IRIS_Y[train.rows])
    assert model.loss_curve_ == alone.loss_curve_
    assert len(held.rows) == 15


def test_partial_fit_goes_on_and_a_pickle_does_too() -> None:
    def step(model: Any, part: int) -> Any:
        return model.partial_fit(IRIS_X[part::3], IRIS_Y[part::3])

    model = classifier(learning_rate=0.01).partial_fit(IRIS_X[::3], IRIS_Y[::3], classes=[2, 1, 0])
    copy = pickle.loads(pickle.dumps(model))
    for part in (1, 2, 0):
        step(model, part)
        copy = pickle.loads(pickle.dumps(step(copy, part)))
    assert np.array_equal(model.predict_proba(IRIS_X), copy.predict_proba(IRIS_X))
    assert model.n_iter_ == len(model.loss_curve_) == 4
    for part in range(60):
        step(model, part % 3)
    assert model.score(IRIS_X, IRIS_Y) > 0.9


def test_partial_fit_goes_on_after_fit() -> None:
    x, y = DIABETES_X, DIABETES_Y
    model = regressor().fit(x, y)
    before, scale = model.predict(x), model.scaler_.mean_.copy()
    model.partial_fit(x[:20], y[:20])
    assert model.n_iter_ == 4
    assert np.abs(model.predict(x) - before).max() > 1e-3
    assert np.array_equal(model.scaler_.mean_, scale)
    assert regressor().partial_fit(x, y).predict(x).shape == y.shape
    with pytest.raises(ValueError, match=r"y had shape \[n, \*\[\]\] before, now it has \[442, 1\]"):
        model.partial_fit(x, y[:, None])


def test_what_partial_fit_refuses() -> None:
    with pytest.raises(ValueError, match="the first call of partial_fit needs classes="):
        classifier().partial_fit(IRIS_X, IRIS_Y)
    with pytest.raises(ValueError, match="'balanced' needs all rows"):
        classifier(class_weight="balanced").partial_fit(IRIS_X, IRIS_Y, [0, 1, 2])
    with pytest.raises(ValueError, match=r"classes \[2\], which are not among classes \[0, 1\]"):
        classifier().partial_fit(IRIS_X, IRIS_Y, [0, 1])
    model = classifier().partial_fit(IRIS_X, IRIS_Y, [0, 1, 2])
    with pytest.raises(ValueError, match=r"classes were \[0, 1, 2\] before, now they are \[0, 1\]"):
        model.partial_fit(IRIS_X, IRIS_Y, [0, 1])
    assert model.partial_fit(IRIS_X[:1], IRIS_Y[:1], [0, 1, 2]).n_iter_ == 2  # a single row


# -- MixupMeta against plain loops -------------------------------------------------------------------------------------


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps what it is fitted to."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Recorder:
        self.classes_, self.given = np.unique(y), (X, y, sample_weight)
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.classes_[0])


def by_content(x: np.ndarray, y: np.ndarray) -> list[int]:
    return sorted(range(len(x)), key=lambda i: np.array([*x[i], y[i]], dtype=np.float64).tobytes())


@pytest.mark.parametrize(
    "vicinity",
    [
        None,
        Mixup(Beta(2.0, per="example"), pairing=SameClass()),
        Mixup(Dirichlet(1.0, k=3, per="example")),
        InputMixup(Beta(1.0, per="example")),
        Chain([Mixup(Beta(1.0, per="example")), LabelSmoothing(0.3)]),
    ],
    ids=repr,
)
def test_a_mix_of_two_classes_is_two_weighted_rows(vicinity: Any) -> None:
    x, y, _ = table()
    names, seed = np.array(["a", "b", "c"]), seed_of(0)
    model = MixupMeta(Recorder(), vicinity=vicinity, copies=2, keep=True, random_state=0).fit(x, names[y])
    got_x, got_y, got_w = model.estimator_.given
    own = Mixup(Beta(0.2, per="example"), seed=seed) if vicinity is None else replace(vicinity, seed=seed)
    order = np.array(by_content(x, y))
    want: list[tuple[Any, ...]] = []
    for copy in range(3):
        rows = order[Key(seed, 0, 0, copy, mlp.ORDER).generator().permutation(40)]
        drawing = own if copy < 2 else ERM()
        ids = torch.from_numpy(y[rows])
        plan = drawing.plan(40, ids, torch.from_numpy(x[rows]), step=copy, rank=0, worker=0)
        soft = plan.target(ids).dense(3, dtype=torch.float64).numpy()
        mixed = plan(torch.from_numpy(x[rows])).numpy()
        want += [(*mixed[i], names[c], soft[i, c]) for i in range(40) for c in range(3) if soft[i, c] > 0]
    got = [(*row, name, weight) for row, name, weight in zip(got_x, got_y, got_w, strict=True)]
    assert len(got) == len(want) >= 120
    for one, other in zip(sorted(got), sorted(want), strict=True):
        assert one[:-1] == other[:-1]
        assert one[-1] == pytest.approx(other[-1], rel=1e-6)
    assert got_w.sum() == pytest.approx(120, abs=1e-4)


def test_the_shares_of_one_class_are_one_row() -> None:
    model = MixupMeta(Recorder(), alpha=1.0, random_state=0).fit(IRIS_X, np.zeros(150, dtype=int))
    assert model.estimator_.given[2].tolist() == [1.0] * 150


@pytest.mark.parametrize("columns", [(), (2,)])
def test_regressors_are_fitted_to_mixed_targets(columns: tuple[int, ...]) -> None:
    generator = draws()
    x, y, seed = generator.standard_normal((30, 2)), generator.standard_normal((30, *columns)), seed_of(0)
    model = MixupMeta(KNeighborsRegressor(1), alpha=1.0, random_state=0).fit(x, y)  # it knows no sample_weight
    order = sorted(range(30), key=lambda i: np.array([*x[i], *np.atleast_1d(y[i])]).tobytes())
    rows = np.array(order)[Key(seed, 0, 0, 0, mlp.ORDER).generator().permutation(30)]
    plan = Mixup(Beta(1.0, per="example"), seed=seed).plan(30, step=0, rank=0, worker=0)
    assert isinstance(plan, vicinal.MixPlan)
    for i, (j, share) in enumerate(zip(plan.partner.tolist(), plan.weight.tolist(), strict=True)):
        point = share * x[rows[i]] + (1 - share) * x[rows[j]]
        target = share * y[rows[i]] + (1 - share) * y[rows[j]]
        np.testing.assert_allclose(model.predict(point[None])[0], target, rtol=1e-6, atol=1e-12)


def test_without_mixing_the_estimator_is_its_own() -> None:
    x, y, weight = table()
    alone = GaussianNB().fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(
        MixupMeta(GaussianNB(), alpha=0).fit(x, y, sample_weight=weight).predict_proba(x), alone.predict_proba(x)
    )
    np.testing.assert_allclose(MixupMeta(Ridge(), alpha=0).fit(x, y).predict(x), Ridge().fit(x, y).predict(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a row that is alone is no news here
        assert MixupMeta(DecisionTreeClassifier()).fit(x[:1], y[:1]).predict(x[:2]).tolist() == [y[0]] * 2


@pytest.mark.parametrize("k", [2, 3])
def test_sparse_rows_are_mixed_as_dense_ones(k: int) -> None:
    generator = draws()
    x = np.where(generator.random((20, 6)) < 0.3, generator.standard_normal((20, 6)), 0)
    plan = Mixup(Dirichlet(1.0, k=k, per="example"), seed=1).plan(20, step=0)
    for kind in (sparse.csr_array, sparse.csr_matrix):
        mixed = meta._mixed_sparse(plan, kind(x))
        assert type(mixed) is kind
        assert mixed.indices.dtype == np.int32
        np.testing.assert_allclose(mixed.toarray(), plan(torch.from_numpy(x)).numpy(), rtol=1e-6, atol=1e-12)


def test_sparse_tables_stay_sparse() -> None:
    x, y, weight = table()
    x = np.where(np.abs(x) < 0.5, 0, x)
    messy = sparse.csr_matrix((np.r_[x.ravel(), 1.0], (np.r_[np.repeat(range(40), 3), 0], np.r_[[0, 1, 2] * 40, 0])))
    messy.sort_indices()
    before = messy.copy()
    model = MixupMeta(Recorder(), random_state=0).fit(messy, y, sample_weight=weight)
    assert isinstance(model.estimator_.given[0], sparse.csr_matrix)
    assert (messy != before).nnz == 0
    tidy = x.copy()
    tidy[0, 0] += 1
    again = MixupMeta(Recorder(), random_state=0).fit(sparse.csr_matrix(tidy), y, sample_weight=weight)
    assert np.array_equal(model.estimator_.given[0].toarray(), again.estimator_.given[0].toarray())
    logistic = MixupMeta(LogisticRegression(), random_state=0).fit(messy, y)
    assert logistic.predict(messy).shape == (40,)
    for vicinity in (GaussianNoise(0.1), Chain([Mixup(Beta(1.0, "example")), GaussianNoise(0.1)])):
        with pytest.raises(TypeError, match="a sparse table can be mixed row by row only"):
            MixupMeta(LogisticRegression(), vicinity=vicinity).fit(messy, y)


def test_a_mix_misses_what_any_of_its_rows_misses() -> None:
    generator = draws()
    x = np.where(generator.random((200, 3)) < 0.2, np.nan, generator.standard_normal((200, 3)))
    plan = Mixup(Beta(0.1, per="example"), seed=1).plan(200, step=0)
    assert isinstance(plan, vicinal.MixPlan)
    mixed = meta._mixed_dense(plan, torch.from_numpy(x)).numpy()
    alone = 0
    for i, (j, share) in enumerate(zip(plan.partner.tolist(), plan.weight.double().tolist(), strict=True)):
        alone += share in (0, 1)
        want = x[i] if share == 1 else x[j] if share == 0 else share * x[i] + (1 - share) * x[j]
        np.testing.assert_allclose(mixed[i], want, rtol=1e-6, atol=1e-12)
    assert alone > 20  # for small alpha, shares are 0 and 1 to rounding
    boosted = MixupMeta(HistGradientBoostingClassifier(max_iter=3), random_state=0).fit(
        x, generator.integers(0, 2, 200)
    )
    assert boosted.predict_proba(x).shape == (200, 2)
    with pytest.raises(ValueError, match="NaN"):
        MixupMeta(LogisticRegression()).fit(x, np.arange(200) % 2)


def test_the_estimator_has_the_random_state_where_it_has_none() -> None:
    model = MixupMeta(RandomForestClassifier(3), random_state=0).fit(IRIS_X, IRIS_Y)
    assert model.estimator_.random_state == seed_of(0) % 2**32
    assert model.estimator.random_state is None
    assert (
        MixupMeta(RandomForestClassifier(3, random_state=7), random_state=0).fit(IRIS_X, IRIS_Y).estimator_.random_state
        == 7
    )
    assert MixupMeta(RandomForestClassifier(3)).fit(IRIS_X, IRIS_Y).estimator_.random_state is None
    inside = MixupMeta(make_pipeline(StandardScaler(), RandomForestRegressor(2)), random_state=0).fit(
        IRIS_X, IRIS_X[:, 0]
    )
    assert inside.estimator_[-1].random_state == seed_of(0) % 2**32


@pytest.mark.parametrize(
    ("estimator", "kind", "sentence"),
    [
        (MixupMeta(KNeighborsClassifier()), TypeError, "the fit of KNeighborsClassifier takes no sample_weight"),
        (MixupMeta(make_pipeline(StandardScaler(), GaussianNB())), TypeError, "make MixupMeta the last step"),
        (MixupMeta(KMeans()), TypeError, "a classifier or a regressor, got KMeans"),
        (MixupMeta(GaussianNB(), copies=0), ValueError, "copies counts"),
        (MixupMeta(GaussianNB(), vicinity=Mixup(0.2)), ValueError, "write per='example'"),
        (MixupMeta(GaussianNB(), vicinity=InputMixup(Beta(0.2))), ValueError, "write per='example'"),
        (MixupMeta(GaussianNB(), vicinity=CutMix(1.0)), ValueError, "write per='example'"),
        (
            MixupMeta(HistGradientBoostingClassifier(categorical_features=[0])),
            ValueError,
            "HistGradientBoostingClassifier takes columns as categories",
        ),
    ],
    ids=str,
)
def test_what_meta_refuses(estimator: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        estimator.fit(IRIS_X, IRIS_Y)


# -- tables of pandas and polars, and categories -----------------------------------------------------------------------


def frames() -> tuple[pd.DataFrame, pl.DataFrame]:
    columns = {name: IRIS_X[:, i] for i, name in enumerate("abcd")}
    return pd.DataFrame(columns), pl.DataFrame(columns)


@pytest.mark.parametrize("estimator", [classifier(), regressor(), MixupMeta(GaussianNB(), random_state=0)], ids=str)
def test_data_frames_are_tables(estimator: Any) -> None:
    want = clone(estimator).fit(IRIS_X, IRIS_Y).predict(IRIS_X)
    for frame in frames():
        model = clone(estimator).fit(frame, IRIS_Y)
        named = hasattr(StandardScaler().fit(frame), "feature_names_in_")  # scikit-learn 1.6 reads none of polars 2
        assert named or isinstance(frame, pl.DataFrame)
        assert getattr(model, "feature_names_in_", np.array([])).tolist() == (list("abcd") if named else [])
        assert np.array_equal(model.predict(frame), want)
        assert np.array_equal(clone(estimator).fit(frame, pd.Series(IRIS_Y)).predict(frame), want)
    model = clone(estimator).fit(frames()[0], IRIS_Y)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frames()[0][["b", "a", "c", "d"]])


NAMES = ["r", "g", "b"] * 50
CATEGORIES = [
    frames()[0].assign(color=pd.Series(NAMES, dtype="category")),
    frames()[0].assign(color=pd.Series([1, 2, 3] * 50, dtype="category")),
    frames()[0].assign(color=pd.Series(NAMES, dtype="object")),
    frames()[0].assign(color=pd.Series(NAMES, dtype="string")),
    frames()[0].assign(color=NAMES),
    frames()[1].with_columns(color=pl.Series(NAMES)),
    frames()[1].with_columns(color=pl.Series(NAMES, dtype=pl.Categorical)),
    frames()[1].with_columns(color=pl.Series(NAMES, dtype=pl.Enum(["r", "g", "b"]))),
]


@pytest.mark.parametrize("frame", CATEGORIES, ids=lambda f: f"{type(f).__module__[:6]}-{str(f['color'].dtype)[:11]}")
@pytest.mark.parametrize(
    "estimator", [classifier(), regressor(), MixupMeta(HistGradientBoostingClassifier(max_iter=2))], ids=str
)
def test_columns_of_categories_are_refused(estimator: Any, frame: Any) -> None:
    sentence = r"columns \['color'\] hold categories or text.*make_column_transformer\(\(OneHotEncoder"
    with pytest.raises(ValueError, match=sentence):
        clone(estimator).fit(frame, IRIS_Y)
    model = clone(estimator).fit(IRIS_X, IRIS_Y)
    with pytest.raises(ValueError, match=sentence):
        model.predict(frame)


def test_arrays_of_text_are_refused_and_objects_that_are_numbers_are_not() -> None:
    x = IRIS_X.astype(object)
    assert np.array_equal(classifier().fit(x, IRIS_Y).predict(x), classifier().fit(IRIS_X, IRIS_Y).predict(IRIS_X))
    x[3, 2] = "1.5"
    for table_of_text in (x, IRIS_X.astype(str)):
        with pytest.raises(ValueError, match=r"columns \[(0, 1, )?2.*hold categories or text"):
            classifier().fit(table_of_text, IRIS_Y)
    with pytest.raises(ValueError, match="categories"):
        classifier().partial_fit(x, IRIS_Y, [0, 1, 2])


def test_the_sentence_of_the_refusal_helps() -> None:
    frame = CATEGORIES[0]
    one_hot = make_column_transformer((OneHotEncoder(sparse_output=False), ["color"]), remainder="passthrough")
    model = make_pipeline(one_hot, classifier()).fit(frame, IRIS_Y)
    assert model[-1].n_features_in_ == 7
    assert model.predict(frame).shape == (150,)


# -- in scikit-learn's company -----------------------------------------------------------------------------------------


def test_pipelines_pickles_and_clones() -> None:
    for last in (classifier(alpha=1.0), MixupMeta(LogisticRegression(), 1.0, random_state=0)):
        model = make_pipeline(StandardScaler(), last).fit(IRIS_X, IRIS_Y)
        read = pickle.loads(pickle.dumps(model))
        assert np.array_equal(read.predict_proba(IRIS_X), model.predict_proba(IRIS_X))
        again = clone(model).fit(IRIS_X, IRIS_Y)
        assert np.array_equal(again.predict_proba(IRIS_X), model.predict_proba(IRIS_X))
    weight = np.arange(150) % 3
    pipeline = make_pipeline(StandardScaler(), MixupMeta(GaussianNB(), random_state=0))
    weighted = pipeline.fit(IRIS_X, IRIS_Y, mixupmeta__sample_weight=weight).predict_proba(IRIS_X)
    assert not np.array_equal(weighted, clone(pipeline).fit(IRIS_X, IRIS_Y).predict_proba(IRIS_X))


def test_others_build_on_them() -> None:
    calibrated = CalibratedClassifierCV(classifier(epochs=20), cv=2).fit(IRIS_X, IRIS_Y)
    assert calibrated.score(IRIS_X, IRIS_Y) > 0.8
    one_by_one = OneVsRestClassifier(MixupMeta(LogisticRegression(), random_state=0)).fit(IRIS_X, IRIS_Y)
    assert one_by_one.score(IRIS_X, IRIS_Y) > 0.8
    assert not hasattr(MixupMeta(SVC()), "predict_proba")
    assert MixupMeta(SVC()).fit(IRIS_X, IRIS_Y).decision_function(IRIS_X).shape == (150, 3)
    assert MixupMeta(GaussianNB()).fit(IRIS_X, IRIS_Y).predict_log_proba(IRIS_X).shape == (150, 3)


def test_scores() -> None:
    weight = np.arange(150) % 3
    for model in (classifier(), MixupMeta(GaussianNB(), random_state=0)):
        predicted = model.fit(IRIS_X, IRIS_Y).predict(IRIS_X)
        assert model.score(IRIS_X, IRIS_Y, weight) == accuracy_score(IRIS_Y, predicted, sample_weight=weight)
    for model in (regressor(), MixupMeta(Ridge(), random_state=0)):
        predicted = model.fit(IRIS_X, IRIS_Y).predict(IRIS_X)
        assert model.score(IRIS_X, IRIS_Y, weight) == r2_score(IRIS_Y, predicted, sample_weight=weight)


GRIDS = [
    (classifier(), {"alpha": [0, 0.2, 1.0]}),
    (classifier(), {"vicinity": [ERM(), Mixup(1.0), Mixup(1.0, pairing=SameClass())]}),
    (MixupMeta(GaussianNB(), random_state=0), {"alpha": [0, 0.2], "estimator__var_smoothing": [1e-9, 0.1]}),
]


@installed.differentiates_in_forks
@pytest.mark.parametrize(("estimator", "grid"), GRIDS, ids=str)
def test_a_grid_gives_the_same_in_one_process_and_in_two(estimator: Any, grid: dict[str, Any]) -> None:
    scores = []
    for jobs in (1, 2):
        with parallel_config("multiprocessing"):  # forked: a process that starts afresh imports PyTorch for seconds
            search = GridSearchCV(estimator, grid, cv=2, n_jobs=jobs, scoring="neg_log_loss").fit(IRIS_X, IRIS_Y)
        scores.append(search.cv_results_["mean_test_score"])
    assert np.array_equal(*scores)
    assert len(set(scores[0])) == len(scores[0])


# -- importing ---------------------------------------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules["sklearn"] = None
import vicinal.integrations
try:
    import vicinal.integrations.sklearn
except ImportError as error:
    print(error)
"""

FITS = """
import sys
import numpy
from vicinal.integrations.sklearn import MixupClassifier
x = numpy.arange(40.0)[:, None]
MixupClassifier(epochs=2, random_state=0).fit(x, (x[:, 0] > 20).astype(int)).predict(x)
print("torch._dynamo" in sys.modules)
"""


def test_without_scikit_learn_there_is_a_sentence(run_fresh: Any) -> None:
    assert run_fresh(WITHOUT) == (
        "vicinal.integrations.sklearn needs scikit-learn 1.6.1 or later: pip install 'vicinal[sklearn]'\n"
    )


def test_training_does_without_the_compiler(run_fresh: Any) -> None:
    """It takes seconds to import, in each process of a grid."""
    assert run_fresh(FITS) == "False\n"


@pytest.mark.parametrize("name", ["", *(m.name for m in pkgutil.iter_modules(ours.__path__))])
def test_examples_in_docstrings_run(name: str) -> None:
    module = importlib.import_module(f"{ours.__name__}.{name}" if name else ours.__name__)
    assert module.__doc__
    assert doctest.testmod(module).failed == 0


def test_the_names() -> None:
    assert set(ours.__all__) == {
        *("MixupClassifier", "MixupRegressor", "MixupMeta"),
        *("MixupClassifierCV", "MixupRegressorCV"),
    }
    assert repr(MixupMeta(GaussianNB(), alpha=1)) == "MixupMeta(alpha=1, estimator=GaussianNB())"


@pytest.mark.parametrize(
    ("vicinity", "sentence"),
    [
        (Chain([Mixup(1.0)]), "write per='example'"),
        (Chain([LabelSmoothing(0.1), Chain([CutMix(1.0)])]), "write per='example'"),
        (Choice([Mixup(Beta(1.0, "example")), ERM()]), "would be one part by chance"),
        (Scheduled(Mixup(Beta(1.0, "example")), start=1), "has no epochs: give it Mixup"),
    ],
)
def test_what_is_drawn_once_for_a_whole_table_is_refused_in_nests_too(vicinity: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MixupMeta(GaussianNB(), vicinity=vicinity).fit(IRIS_X, IRIS_Y)


def test_partial_fit_does_not_stop_early() -> None:
    for model in (classifier(early_stopping=True), regressor(early_stopping=True)):
        with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
            model.fit(IRIS_X, IRIS_Y).partial_fit(IRIS_X, IRIS_Y)


def test_a_fit_within_no_grad_is_a_fit() -> None:
    with torch.no_grad():
        inside = classifier().fit(IRIS_X, IRIS_Y).predict_proba(IRIS_X)
    np.testing.assert_array_equal(inside, classifier().fit(IRIS_X, IRIS_Y).predict_proba(IRIS_X))
