"""MixupClassifierCV and MixupRegressorCV: alpha chosen by cross-validation, as RidgeCV and LassoCV choose theirs.

A grid search trains one model after the other. Here all alphas of a fold are trained at once, on the same batches, as one
batch of models (`stacked.py`): the models and the choice are those of

    GridSearchCV(MixupClassifier(random_state=0), {"alpha": alphas}, cv=cv, scoring=scoring)

to rounding.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils.validation import check_is_fitted, validate_data

from vicinal.integrations.sklearn.arguments import seed_of, vicinity_of, weights_of
from vicinal.integrations.sklearn.base import BestWeights, CheckedTable, MixupMLP
from vicinal.integrations.sklearn.classifier import MixupClassifier
from vicinal.integrations.sklearn.regressor import MixupRegressor
from vicinal.integrations.sklearn.stacked import StackedTrainer

ALPHAS = (0.0, 0.1, 0.2, 0.4, 1.0)  # no mixing, and what the paper used on images and speech
_LEAST = math.log(np.finfo(np.float64).eps)  # log-probabilities below count as this, as in scikit-learn's log_loss
_Table = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # inputs, targets as users give them, weights of the rows
_TIE = 1e-12  # scores that differ by less, of their size, are equal: sums of the same numbers in another order


def mean_log_probability(model: MixupClassifier, X: Any, y: np.ndarray, sample_weight: Any = None) -> float:
    """Return the mean log-probability of the labels.

    This is scikit-learn's "neg_log_loss", and defined too where a fold's training rows or held-out rows lack a class: a
    label that the model does not know has the smallest probability.
    """
    log_p = np.where(y[:, None] == model.classes_, model.predict_log_proba(X), _LEAST).max(axis=1)
    return float(np.average(log_p, weights=sample_weight))


class MixupCV(BaseEstimator, ABC):
    """An MLP whose alpha is chosen by cross-validation."""

    def __init__(
        self,
        alphas: Sequence[float] = ALPHAS,
        *,
        cv: Any = 5,
        scoring: Any = None,
        hidden: int | tuple[int, ...] = (128, 128),
        epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        device: str | torch.device = "auto",
        random_state: Any = None,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.random_state = random_state

    _default_score: Callable[..., float]  # of (estimator, X, y, sample_weight)
    estimator_: Any

    @abstractmethod
    def _model(self) -> MixupMLP:
        """Return the estimator whose alpha is chosen, with the arguments of this one."""

    def _arguments(self) -> dict[str, Any]:
        own = self.get_params(deep=False)
        return {name: value for name, value in own.items() if name not in ("alphas", "cv", "scoring")}

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Choose alpha, and train a model with it on all rows.

        Args:
            X: numbers [n, inputs]: an array, nested lists, a data frame.
            y: the target, as of the estimator whose alpha is chosen.
            sample_weight: numbers >= 0 [n], for training and for the scores of held-out rows; None: all 1.

        """
        vars(self).pop("estimator_", None)  # a fit that fails leaves no model behind
        alphas, scorer = _candidates(self.alphas), self._scorer()
        model, seed = self._model(), seed_of(self.random_state)
        examples = model._examples(X, y, sample_weight)
        weight = None if sample_weight is None else weights_of(sample_weight, len(examples.target))
        table = examples.X, _labels(model, examples), weight
        folds: Any = check_cv(self.cv, table[1], classifier=is_classifier(self))
        scores = [_scores_of_fold(model, alphas, seed, scorer, table, *fold) for fold in folds.split(*table[:2])]
        if not scores:
            raise ValueError(f"cv holds no folds, got {self.cv!r}")
        validate_data(self, X, skip_check_array=True)  # number and names of its columns
        self.alphas_, self.scores_ = np.array(alphas), np.array(scores)
        means = self.scores_.mean(axis=0)
        best = int(np.flatnonzero(means >= means.max() - _TIE * abs(means.max()))[0])
        self.alpha_, self.best_score_ = alphas[best], float(means[best])
        self.estimator_ = model.set_params(alpha=self.alpha_)._fit(examples, seed)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict by the model that was trained on all rows."""
        check_is_fitted(self)
        return self.estimator_.predict(X)

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there is a trained model."""
        return hasattr(self, "estimator_")

    def _scorer(self) -> Callable[..., float]:
        if self.scoring is None:
            return self._default_score
        if not (isinstance(self.scoring, str) or callable(self.scoring)):
            raise TypeError(f"scoring is one measure, a name or a function of (estimator, X, y), got {self.scoring!r}")
        scorer: Any = check_scoring(self._model(), self.scoring)
        return scorer


class MixupClassifierCV(ClassifierMixin, MixupCV):
    """Classifier: `MixupClassifier` with alpha chosen by cross-validation, all alphas of a fold trained at once.

    The alpha with the best mean score of held-out rows is taken, and a `MixupClassifier` with it is trained on all rows. No
    mixing, alpha = 0, is among the candidates. The choice is that of `GridSearchCV` over the same alphas, folds and
    `random_state`, scored to rounding, and the final model is the same to the bit.

    Args:
        alphas: candidates, >= 0; of equally good ones the smallest is taken.
        cv: number of stratified folds, a splitter, or pairs of training and held-out row numbers; with groups of rows,
            pairs: `list(GroupKFold(5).split(X, y, groups))`.
        scoring: what alpha is chosen by, a name or a function of (estimator, X, y). None: the mean log-probability of the
            labels, which is "neg_log_loss", and defined too where a fold lacks a class. It changes smoothly with alpha,
            where the accuracy of a few hundred rows hardly tells one alpha from another; it also looks at how sure
            predictions are. "accuracy" is what `score` returns.
        hidden: this and all below as of `MixupClassifier`; early stopping holds out rows within each fold's training rows.
        epochs: as above.
        batch_size: as above.
        learning_rate: as above.
        weight_decay: as above.
        class_weight: as above; it does not count for the default score.
        early_stopping: as above.
        validation_fraction: as above.
        n_iter_no_change: as above.
        device: as above.
        random_state: as above; all models start with the same weights, and see rows in the same order.

    Convention:
        dimension 0: the rows of `X` and `y`.
        lambda: that of `MixupClassifier`.
        one draw: those of `MixupClassifier`, for each candidate alpha.

    Attributes:
        alpha_: the alpha that was chosen.
        best_score_: its mean score.
        alphas_: the candidates, ascending, float64 [alphas].
        scores_: scores of held-out rows, higher is better, float64 [folds, alphas].
        estimator_: the `MixupClassifier` with this alpha, trained on all rows; `estimator_.module_` is the PyTorch model.
        classes_: the classes, sorted.
        n_features_in_: number of inputs.
        feature_names_in_: their names, if X had them.

    Raises:
        ValueError: no alphas, negative ones, scores that are not finite, and what `MixupClassifier` refuses.
        TypeError: several measures in scoring.

    Examples:
        >>> from sklearn.datasets import load_iris
        >>> from vicinal.integrations.sklearn import MixupClassifierCV
        >>> x, y = load_iris(return_X_y=True)
        >>> model = MixupClassifierCV(alphas=(0, 0.2, 1), cv=3, epochs=10, random_state=0).fit(x, y)
        >>> model.alpha_
        0.0
        >>> model.scores_.shape
        (3, 3)
        >>> model.predict(x[:2])
        array([0, 0])

    """

    _default_score = staticmethod(mean_log_probability)

    def __init__(
        self,
        alphas: Sequence[float] = ALPHAS,
        *,
        cv: Any = 5,
        scoring: Any = None,
        hidden: int | tuple[int, ...] = (128, 128),
        epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        class_weight: dict[Any, float] | str | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        device: str | torch.device = "auto",
        random_state: Any = None,
    ) -> None:
        super().__init__(
            alphas,
            cv=cv,
            scoring=scoring,
            hidden=hidden,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            device=device,
            random_state=random_state,
        )
        self.class_weight = class_weight

    @property
    def classes_(self) -> np.ndarray:
        """The classes, sorted."""
        check_is_fitted(self)
        return self.estimator_.classes_

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute probabilities float64 [n, classes], in the order of `classes_`."""
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Compute the logarithms of the probabilities, float64 [n, classes]."""
        check_is_fitted(self)
        return self.estimator_.predict_log_proba(X)

    def _model(self) -> MixupClassifier:
        return MixupClassifier(**self._arguments())


class MixupRegressorCV(RegressorMixin, MixupCV):
    """Regressor: `MixupRegressor` with alpha chosen by cross-validation, all alphas of a fold trained at once.

    As `MixupClassifierCV`, with `MixupRegressor` in the place of `MixupClassifier`.

    Args:
        alphas: candidates, >= 0; of equally good ones the smallest is taken.
        cv: number of folds, a splitter, or pairs of training and held-out row numbers; with groups of rows, pairs:
            `list(GroupKFold(5).split(X, y, groups))`.
        scoring: what alpha is chosen by, a name or a function of (estimator, X, y). None: R2, which is what `score` returns;
            of several targets the mean.
        hidden: this and all below as of `MixupRegressor`; early stopping holds out rows within each fold's training rows.
        epochs: as above.
        batch_size: as above.
        learning_rate: as above.
        weight_decay: as above.
        early_stopping: as above.
        validation_fraction: as above.
        n_iter_no_change: as above.
        device: as above.
        random_state: as above; all models start with the same weights, and see rows in the same order.

    Convention:
        dimension 0: the rows of `X` and `y`.
        lambda: that of `MixupRegressor`.
        one draw: those of `MixupRegressor`, for each candidate alpha.

    Attributes:
        alpha_: the alpha that was chosen.
        best_score_: its mean score.
        alphas_: the candidates, ascending, float64 [alphas].
        scores_: scores of held-out rows, higher is better, float64 [folds, alphas].
        estimator_: the `MixupRegressor` with this alpha, trained on all rows; `estimator_.module_` is the PyTorch model.
        n_features_in_: number of inputs.
        feature_names_in_: their names, if X had them.

    Raises:
        ValueError: no alphas, negative ones, scores that are not finite (R2 of one row), and what `MixupRegressor` refuses.
        TypeError: several measures in scoring.

    Examples:
        >>> from sklearn.datasets import load_diabetes
        >>> from vicinal.integrations.sklearn import MixupRegressorCV
        >>> x, y = load_diabetes(return_X_y=True)
        >>> model = MixupRegressorCV(alphas=(0, 0.2, 1), cv=3, epochs=10, random_state=0).fit(x, y)
        >>> model.alpha_
        1.0
        >>> model.predict(x[:3]).shape
        (3,)

    """

    _default_score = staticmethod(MixupRegressor.score)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: several targets at once are fine."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _model(self) -> MixupRegressor:
        return MixupRegressor(**self._arguments())


def _scores_of_fold(
    model: MixupMLP,
    alphas: list[float],
    seed: int,
    scorer: Callable[..., float],
    table: _Table,
    train: np.ndarray,
    test: np.ndarray,
) -> list[float]:
    """Train a model for each alpha on the training rows of a fold, and score it on those that are held out."""
    X, y, weight = table
    fold: Any = clone(model)
    examples = fold._examples(X[train], y[train], None if weight is None else weight[train])
    weights = {} if weight is None else {"sample_weight": weight[test]}
    scores = [float(scorer(of, X[test], y[test], **weights)) for of in fit_alphas(fold, alphas, examples, seed)]
    if not np.isfinite(scores).all():
        raise ValueError(
            f"scores of a fold are {scores} on {len(y[test])} held-out rows, by which no alpha can be chosen: choose "
            "another scoring or larger folds"
        )
    return scores


def fit_alphas(model: MixupMLP, alphas: Sequence[float], examples: CheckedTable, seed: int) -> list[MixupMLP]:
    """Train copies of a model on the same rows, all at once, each as it would be by itself.

    Args:
        model: its arguments count, but for alpha and vicinity.
        alphas: of the copies.
        examples: what they learn from.
        seed: of all draws; the copies share their first weights, their order of rows and the rows that are held out.

    """
    fit = model._begin(examples, seed)
    models = [_with_alpha(model, alpha) for alpha in alphas]
    best = [BestWeights() for _ in models]
    vicinities = [vicinity_of(alpha, None, seed, "batch") for alpha in alphas]
    trainer = StackedTrainer([of._trainer.module for of in models], vicinities, seed, model.weight_decay)
    active = list(range(len(models)))
    for epoch in range(fit.epochs):
        drawn = fit.drawn(epoch)
        means = trainer.epoch(fit.x, fit.learned, drawn, model.batch_size, fit.class_weight, fit.rate)
        goes_on = [models[i]._after_epoch(mean, fit, best[i]) for i, mean in zip(active, means, strict=True)]
        if not all(goes_on):
            stay = [position for position, on in enumerate(goes_on) if on]
            if not stay:
                break
            active = [active[position] for position in stay]
            trainer.keep(stay)
    for of, weights in zip(models, best, strict=True):
        of._end(fit, weights)
    return models


def _with_alpha(model: MixupMLP, alpha: float) -> MixupMLP:
    of = copy.copy(model)
    of.alpha, of.loss_curve_, of._trainer = alpha, [], copy.deepcopy(model._trainer)
    return of


def _candidates(alphas: Any) -> list[float]:
    """Return the alphas in ascending order, each once."""
    candidates = list(alphas) if np.iterable(alphas) else []
    if not candidates:
        raise ValueError(f"alphas must be numbers >= 0, one at least, such as {ALPHAS}, got {alphas!r}")
    for alpha in candidates:
        vicinity_of(alpha, None, 0, "batch")  # checks it
    return sorted({float(alpha) for alpha in candidates})


def _labels(model: MixupMLP, examples: CheckedTable) -> np.ndarray:
    """Return the target as users give it."""
    return model.classes_[examples.target] if isinstance(model, MixupClassifier) else examples.target
