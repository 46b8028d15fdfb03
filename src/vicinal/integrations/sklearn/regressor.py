"""MixupRegressor: in the place of scikit-learn's MLPRegressor."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch.nn.functional as F
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import validate_data

from vicinal.integrations.sklearn.arguments import TABLE, refuse_categories, seed_of, weights_of
from vicinal.integrations.sklearn.base import CheckedTable, MixupMLP


class MixupRegressor(RegressorMixin, MixupMLP):
    """Regressor: an MLP that trains with mixup, in the place of scikit-learn's MLPRegressor.

    As `MixupClassifier`, with squared error. The target is standardized too, mixed as a number, and may have several
    columns. `vicinity=Mixup(0.4, pairing=LabelDistance(0.5))` is C-Mixup (Yao et al. 2022), its bandwidth in standard
    deviations of the target.

    Args:
        alpha: lambda ~ Beta(alpha, alpha), >= 0; 0 is training without mixing.
        vicinity: any other vicinity in the place of Mixup(alpha); alpha is then left at its default.
        hidden: widths of the hidden layers; () is a linear model.
        epochs: passes over the rows; None: about 1,500 steps, but 20 to 200 epochs.
        batch_size: rows per step, >= 2.
        learning_rate: of the first step.
        weight_decay: decoupled (AdamW).
        early_stopping: hold out rows, stop after `n_iter_no_change` epochs without a better R2 on them, and take the
            weights of the best epoch.
        validation_fraction: the share of the distinct rows that is held out, but two rows at least.
        n_iter_no_change: as above.
        device: as of `MixupClassifier`.
        random_state: as of `MixupClassifier`.

    Convention:
        dimension 0: the rows of `X` and `y`.
        lambda: the share that a row keeps of itself; its partner has 1 - lambda; the labels have the same.
        one draw: one lambda per batch; one partner per row; decided by `random_state` and the step.

    Attributes:
        module_: the trained `torch.nn.Sequential`; it takes standardized inputs and returns standardized targets.
        scaler_: the `StandardScaler` of the inputs.
        target_scaler_: the `StandardScaler` of the targets.
        n_iter_: number of epochs trained.
        loss_curve_: mean squared error of each epoch, of the standardized target, on mixed rows.
        validation_scores_: R2 on the rows held out after each epoch; None without early stopping.
        best_validation_score_: the largest of them.
        n_features_in_: number of inputs.
        feature_names_in_: their names, if X had them.

    Raises:
        ValueError: columns of categories or text, which must be one-hot encoded before; training that diverges.

    Examples:
        >>> from sklearn.datasets import load_diabetes
        >>> from vicinal.integrations.sklearn import MixupRegressor
        >>> x, y = load_diabetes(return_X_y=True)
        >>> model = MixupRegressor(alpha=0.2, epochs=10, random_state=0).fit(x, y)
        >>> model.predict(x[:3]).shape
        (3,)
        >>> model.score(x, y) > 0.4
        True

    """

    _least_held_out = 2  # for R2
    _loss = staticmethod(F.mse_loss)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: several targets at once are fine."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new model.

        Args:
            X: numbers [n, inputs]: an array, nested lists, a data frame.
            y: numbers [n] or [n, outputs].
            sample_weight: numbers >= 0 [n]; None: all 1. Integers repeat rows; of others a row is drawn in proportion.

        """
        return self._fit(self._examples(X, y, sample_weight), seed_of(self.random_state))

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on some rows, at a constant learning rate, without early stopping.

        Args:
            X: as of `fit`. The first call's rows decide how inputs and targets are standardized.
            y: as of `fit`.
            sample_weight: as of `fit`.

        """
        first = not hasattr(self, "module_")
        X, y = self._table(X, y, reset=first)
        if first:
            self._target_shape = y.shape[1:]
        elif y.shape[1:] != self._target_shape:
            raise ValueError(f"y had shape [n, *{list(self._target_shape)}] before, now it has {list(y.shape)}")
        examples = CheckedTable(X, y, weights_of(sample_weight, len(y)), math.prod(self._target_shape))
        return self._partial_fit(examples, first)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the target of each row, float64 [n], or [n, outputs] if y was so."""
        outputs = self._outputs(X)
        return self.target_scaler_.inverse_transform(outputs).reshape(-1, *self._target_shape)

    def _examples(self, X: Any, y: Any, sample_weight: Any) -> CheckedTable:
        X, y = self._table(X, y, reset=True)
        self._target_shape = y.shape[1:]
        return CheckedTable(X, y, weights_of(sample_weight, len(y)), math.prod(self._target_shape))

    def _table(self, X: Any, y: Any, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        refuse_categories(X)
        X, y = validate_data(self, X, y, reset=reset, **TABLE, y_numeric=True, multi_output=True)
        return X, y.astype(np.float64)

    def _scale_target(self, target: np.ndarray) -> None:
        self.target_scaler_ = StandardScaler().fit(target.reshape(len(target), -1))

    def _learned(self, target: np.ndarray) -> np.ndarray:
        return np.asarray(self.target_scaler_.transform(target.reshape(len(target), -1)), dtype=np.float32)

    def _classes_of(self, target: np.ndarray) -> None:
        return None

    def _loss_weight(self, drawn: np.ndarray) -> None:
        return None

    def _score(self, outputs: np.ndarray, learned: np.ndarray, weight: np.ndarray) -> float:
        return r2_score(learned, outputs, sample_weight=weight)
