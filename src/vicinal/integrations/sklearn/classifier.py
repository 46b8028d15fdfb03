"""MixupClassifier: in the place of scikit-learn's MLPClassifier."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import Tensor

from vicinal.integrations.sklearn.arguments import ALPHA, TABLE, refuse_categories, seed_of, weights_of
from vicinal.integrations.sklearn.base import CheckedTable, MixupMLP
from vicinal.vicinity import Vicinity


class MixupClassifier(ClassifierMixin, MixupMLP):
    """Classifier: an MLP that trains with mixup, in the place of scikit-learn's MLPClassifier.

    Each batch is mixed, lambda x_i + (1 - lambda) x_j, and so are its labels, with one lambda ~ Beta(alpha, alpha) per batch
    (Zhang et al. 2018, section 2); cross-entropy, Adam, a learning rate that falls to 0 along half a cosine. Inputs are
    standardized; predictions are never mixed.

    Args:
        alpha: lambda ~ Beta(alpha, alpha), >= 0; 0 is training without mixing.
        vicinity: any other vicinity in the place of Mixup(alpha), such as `Mixup(0.2, pairing=SameClass())`; alpha is then
            left at its default. It sees standardized inputs, and `Scheduled` the epoch.
        hidden: widths of the hidden layers; () is a linear model.
        epochs: passes over the rows; None: about 1,500 steps, but 20 to 200 epochs.
        batch_size: rows per step, >= 2.
        learning_rate: of the first step.
        weight_decay: decoupled (AdamW).
        class_weight: {class: weight} or "balanced", for the loss; None: all 1. A class of weight 0 is left out.
        early_stopping: hold out rows, stop after `n_iter_no_change` epochs without a better accuracy on them, and take the
            weights of the best epoch.
        validation_fraction: the share of the distinct rows of each class that is held out, but one row at least, and none
            of a class of one.
        n_iter_no_change: as above.
        device: "cpu", "cuda", ...; "auto": a GPU if there is one. The fitted model is on the CPU.
        random_state: an integer or a RandomState. None: a seed that follows `torch.manual_seed`, as of every vicinity; no
            global generator is moved in any case.

    Convention:
        dimension 0: the rows of `X` and `y`.
        lambda: the share that a row keeps of itself; its partner has 1 - lambda; the labels have the same.
        one draw: one lambda per batch; one partner per row; decided by `random_state` and the step.

    Attributes:
        classes_: the classes, sorted.
        class_weight_: their weights in the loss, float64 [classes].
        module_: the trained `torch.nn.Sequential`; it takes standardized inputs and returns logits.
        scaler_: the `StandardScaler` of the inputs.
        n_iter_: number of epochs trained.
        loss_curve_: mean loss of each epoch, on mixed rows.
        validation_scores_: accuracy on the rows held out after each epoch, by sample and class weights; None without early
            stopping.
        best_validation_score_: the largest of them.
        n_features_in_: number of inputs.
        feature_names_in_: their names, if X had them.

    An integer sample weight is the same as the row repeated, to the bit, and the order of the rows does not matter.

    Raises:
        ValueError: columns of categories or text, which must be one-hot encoded before; training that diverges.

    Examples:
        >>> from sklearn.datasets import load_iris
        >>> from vicinal.integrations.sklearn import MixupClassifier
        >>> x, y = load_iris(return_X_y=True)
        >>> model = MixupClassifier(alpha=0.2, epochs=30, random_state=0).fit(x, y)
        >>> model.predict(x[:2])
        array([0, 0])
        >>> model.score(x, y) > 0.9
        True

    """

    _least_held_out = 1
    _loss = staticmethod(F.cross_entropy)

    def __init__(
        self,
        alpha: float = ALPHA,
        *,
        vicinity: Vicinity | None = None,
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
            alpha,
            vicinity=vicinity,
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new model.

        Args:
            X: numbers [n, inputs]: an array, nested lists, a data frame.
            y: classes [n], numbers or strings.
            sample_weight: numbers >= 0 [n]; None: all 1. Integers repeat rows; of others a row is drawn in proportion.

        """
        return self._fit(self._examples(X, y, sample_weight), seed_of(self.random_state))

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on some rows, at a constant learning rate, without early stopping.

        Args:
            X: as of `fit`. The first call's rows decide how inputs are standardized.
            y: as of `fit`.
            classes: all classes that may ever come; needed by the first call, unless it follows `fit`.
            sample_weight: as of `fit`.

        """
        first = not hasattr(self, "module_")
        X, y = self._table(X, y, reset=first)
        if self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' needs all rows: give partial_fit the weights, {class: weight}")
        if first:
            if classes is None:
                raise ValueError("the first call of partial_fit needs classes=, all classes that may ever come")
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes were {self.classes_.tolist()} before, now they are {np.unique(classes).tolist()}"
            )
        if unknown := sorted(set(np.unique(y).tolist()) - set(self.classes_.tolist())):
            raise ValueError(f"y has classes {unknown}, which are not among classes {self.classes_.tolist()}")
        target = np.searchsorted(self.classes_, y)
        weight = self._row_weights(sample_weight, target)
        return self._partial_fit(CheckedTable(X, target, weight, len(self.classes_)), first)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute probabilities float64 [n, classes], in the order of `classes_`."""
        return torch.from_numpy(self._outputs(X)).softmax(1).numpy()

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Compute the logarithms of the probabilities, float64 [n, classes]."""
        return torch.from_numpy(self._outputs(X)).log_softmax(1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each row, [n]."""
        best = self._outputs(X).argmax(axis=1)
        return self.classes_[best]

    def _examples(self, X: Any, y: Any, sample_weight: Any) -> CheckedTable:
        X, y = self._table(X, y, reset=True)
        self.classes_, target = np.unique(y, return_inverse=True)
        return CheckedTable(X, target, self._row_weights(sample_weight, target), len(self.classes_))

    def _table(self, X: Any, y: Any, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        refuse_categories(X)
        X, y = validate_data(self, X, y, reset=reset, **TABLE)
        check_classification_targets(y)
        return X, y

    def _row_weights(self, sample_weight: Any, target: np.ndarray) -> np.ndarray:
        """Return the weights of the rows; those of a class of weight 0 are 0."""
        weight = weights_of(sample_weight, len(target))
        if self.class_weight is None or self.class_weight == "balanced":
            return weight
        weight = np.where(self._class_weights(target)[target] > 0, weight, 0.0)
        if not weight.any():
            raise ValueError("class_weight or sample_weight is zero for every row: there is nothing to learn from")
        return weight

    def _class_weights(self, drawn: np.ndarray) -> np.ndarray:
        """Return the weights of the classes, float64 [classes]; `drawn` are class indices in their proportions."""
        if self.class_weight == "balanced":
            present = np.unique(drawn)
            weights = np.ones(len(self.classes_))  # a class without rows is never asked for its own
            weights[present] = compute_class_weight("balanced", classes=present, y=drawn)
            return weights
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
        if not (np.isfinite(weights).all() and weights.min() >= 0):
            raise ValueError(f"class_weight must hold finite numbers >= 0, got {self.class_weight!r}")
        return weights

    def _scale_target(self, target: np.ndarray) -> None:
        pass

    def _learned(self, target: np.ndarray) -> np.ndarray:
        return target

    def _classes_of(self, target: np.ndarray) -> np.ndarray:
        return target

    def _loss_weight(self, drawn: np.ndarray) -> Tensor | None:
        self.class_weight_ = self._class_weights(drawn)
        if self.class_weight is None:
            return None
        return torch.from_numpy(self.class_weight_).float().to(self._torch_device())

    def _score(self, outputs: np.ndarray, learned: np.ndarray, weight: np.ndarray) -> float:
        return accuracy_score(learned, outputs.argmax(axis=1), sample_weight=weight * self.class_weight_[learned])
