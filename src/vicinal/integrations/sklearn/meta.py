"""MixupMeta: mixup for estimators that are fitted at once. A mix of two classes is two rows, each with its label's share.

Minimizing the loss on a mixed label, sum_k w_k loss(f(x), y_k), is fitting the row x once per class y_k with sample weight
w_k: so any classifier that takes sample weights can be trained with mixed labels. Regressors take mixed targets as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier, is_regressor
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data
from torch import Tensor

from vicinal._checks import check_count
from vicinal.compose import Chain, Choice, Scheduled
from vicinal.integrations.sklearn.arguments import ALPHA, TABLE, refuse_categories, seed_of, vicinity_of, weights_of
from vicinal.integrations.sklearn.mlp import ORDER, ROWS
from vicinal.integrations.sklearn.rows import WeightedRows
from vicinal.keyed import Key
from vicinal.mix_plan import MixPlan
from vicinal.plan import Plan
from vicinal.target import MixedTarget
from vicinal.vicinities import ERM, InputMixup, Mixup
from vicinal.vicinity import Vicinity
from vicinal.weighting import Weighting

_LEAST_SHARE = 2.0**-24  # shares are multiples of it


def _has(name: str) -> Callable[[Any], bool]:
    return lambda self: hasattr(getattr(self, "estimator_", self.estimator), name)


class MixupMeta(MetaEstimatorMixin, BaseEstimator):
    """Mixup for any estimator of scikit-learn that takes sample weights: fits a clone of it to mixed rows.

    Each copy of the table is mixed once, row i with a partner j and a lambda of its own, lambda ~ Beta(alpha, alpha)
    (Zhang et al. 2018, section 2). Where the two differ in class, the mix enters twice, with weight lambda as y_i and 1 -
    lambda as y_j, so that a classifier is fitted to up to 2 n `copies` rows. A regressor needs no weights: its targets
    are mixed.

    It harms linear models, which are linear between rows already, and helps or harms trees by table: measure
    (docs/integrations/scikit-learn.md).

    Args:
        estimator: a classifier whose `fit` takes sample_weight, or any regressor. Scale and encode before, in a pipeline
            whose last step is the MixupMeta.
        alpha: lambda ~ Beta(alpha, alpha), one per row, >= 0; 0 is fitting the rows themselves, in
            an order of ours.
        vicinity: any other vicinity in the place of Mixup(Beta(alpha, per="example")); alpha is then left at its default.
            One plan is drawn for the whole table, so weights must be drawn per example, and `Choice` and `Scheduled` have no
            meaning.
        copies: how often the table is mixed.
        keep: whether the rows themselves are fitted too.
        random_state: an integer or a RandomState; it is also that of the estimator, where the estimator has none. None: a
            seed that follows `torch.manual_seed`, as of every vicinity; the estimator's is then its own matter.

    Convention:
        dimension 0: the rows of `X` and `y`.
        lambda: the share that a row keeps of itself; its partner has 1 - lambda; the labels have the same.
        one draw: one lambda per row of each copy; one partner per row of each copy; decided by `random_state`.

    Attributes:
        estimator_: the fitted clone.
        classes_: of a classifier, those of the fitted clone.
        n_features_in_: number of inputs.
        feature_names_in_: their names, if X had them.

    Sparse tables stay sparse, and a value is missing (nan) in a mix if it is missing in a row that has a share of it, where
    the estimator takes such tables. What an estimator does with rows by itself (validation rows held out by its early
    stopping, out-of-bag scores, calibration) it does with mixed rows.

    Raises:
        TypeError: the estimator is neither a regressor nor a classifier with sample_weight.
        ValueError: columns of categories or text, or an estimator told to take columns as categories; weights drawn per
            batch.

    Examples:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.ensemble import RandomForestClassifier
        >>> from vicinal.integrations.sklearn import MixupMeta
        >>> x, y = load_iris(return_X_y=True)
        >>> model = MixupMeta(RandomForestClassifier(), alpha=0.2, random_state=0).fit(x, y)
        >>> model.predict(x[:2])
        array([0, 0])

    """

    def __init__(
        self,
        estimator: Any,
        alpha: float = ALPHA,
        *,
        vicinity: Vicinity | None = None,
        copies: int = 1,
        keep: bool = False,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.alpha = alpha
        self.vicinity = vicinity
        self.copies = copies
        self.keep = keep
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: what the estimator takes, but of a classifier one label per row."""
        tags, base = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.estimator_type, tags.input_tags = base.estimator_type, base.input_tags
        tags.target_tags = base.target_tags
        tags.classifier_tags, tags.regressor_tags = base.classifier_tags, base.regressor_tags
        tags.input_tags.categorical = tags.input_tags.string = False
        if tags.classifier_tags is not None:
            tags.classifier_tags.multi_label = tags.target_tags.multi_output = False
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit a clone of the estimator to mixed rows.

        Args:
            X: numbers [n, inputs]: an array, a data frame, or a sparse matrix where the estimator takes one.
            y: classes [n], or numbers [n] or [n, outputs].
            sample_weight: numbers >= 0 [n]; None: all 1. Integers repeat rows; of others a row is drawn in proportion.

        """
        self._check_arguments()
        X, y = self._table(X, y)
        seed = seed_of(self.random_state)
        vicinity = vicinity_of(self.alpha, self.vicinity, seed, "example")
        _check_per_example(vicinity)
        classes, target = (None, y) if not is_classifier(self.estimator) else np.unique(y, return_inverse=True)
        rows = WeightedRows.of(X, target, weights_of(sample_weight, len(y)))
        parts = [_mixed(X, target, rows, vicinity, seed, copy) for copy in range(self.copies)]
        if self.keep:
            parts.append(_mixed(X, target, rows, ERM(seed=seed), seed, self.copies))
        estimator = self._clone(seed)
        if classes is None:
            self.estimator_ = estimator.fit(_stacked([x for x, _ in parts]), np.concatenate([t for _, t in parts]))
            return self
        labeled = [_by_class(x, t, len(classes)) for x, t in parts]
        x, ids, weight = (_stacked(column) for column in zip(*labeled, strict=True))
        self.estimator_ = estimator.fit(x, classes[ids], sample_weight=weight)
        self.classes_ = self.estimator_.classes_
        return self

    def predict(self, X: Any) -> Any:
        """Predict by the fitted estimator."""
        return self._fitted().predict(self._inputs(X))

    @available_if(_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Compute probabilities by the fitted estimator, [n, classes]."""
        return self._fitted().predict_proba(self._inputs(X))

    @available_if(_has("predict_log_proba"))
    def predict_log_proba(self, X: Any) -> Any:
        """Compute the logarithms of the probabilities by the fitted estimator."""
        return self._fitted().predict_log_proba(self._inputs(X))

    @available_if(_has("decision_function"))
    def decision_function(self, X: Any) -> Any:
        """Compute the decision function of the fitted estimator."""
        return self._fitted().decision_function(self._inputs(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of a classifier, R2 of a regressor."""
        measure = accuracy_score if is_classifier(self.estimator) else r2_score
        return float(measure(y, self.predict(X), sample_weight=sample_weight))

    # -- checks ----------------------------------------------------------------------------------------------------

    def _check_arguments(self) -> None:
        name = type(self.estimator).__name__
        if not (is_classifier(self.estimator) or is_regressor(self.estimator)):
            raise TypeError(f"MixupMeta takes a classifier or a regressor, got {name}")
        if is_classifier(self.estimator) and not has_fit_parameter(self.estimator, "sample_weight"):
            raise TypeError(
                f"the fit of {name} takes no sample_weight, which holds the shares of mixed labels: take another "
                "classifier; of a pipeline, make MixupMeta the last step"
            )
        if getattr(self.estimator, "categorical_features", None) not in (None, "from_dtype"):
            raise ValueError(
                f"{name} takes columns as categories, whose codes cannot be mixed: one-hot encode them before, and leave "
                "categorical_features at its default"
            )
        check_count("copies", self.copies, 1, "how often the table is mixed")

    def _table(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        refuse_categories(X)
        tags = get_tags(self.estimator)
        several = not is_classifier(self.estimator) and tags.target_tags.multi_output
        X, y = validate_data(
            self, X, y, **self._accepted(), y_numeric=not is_classifier(self.estimator), multi_output=several
        )
        if is_classifier(self.estimator):
            check_classification_targets(y)
            return _canonical(X), y
        return _canonical(X), y.astype(np.float64)

    def _inputs(self, X: Any) -> Any:
        refuse_categories(X)
        return validate_data(self, X, reset=False, **self._accepted())

    def _accepted(self) -> dict[str, Any]:
        tags = get_tags(self.estimator).input_tags
        return {
            **TABLE,
            "accept_sparse": "csr" if tags.sparse else False,
            "ensure_all_finite": "allow-nan" if tags.allow_nan else True,
        }

    def _fitted(self) -> Any:
        check_is_fitted(self)
        return self.estimator_

    def _clone(self, seed: int) -> Any:
        """Return a clone whose random states, where None, are this seed, if ours was given."""
        estimator: Any = clone(self.estimator)
        if self.random_state is not None:
            own = {n: v for n, v in estimator.get_params().items() if n.rpartition("__")[2] == "random_state"}
            estimator.set_params(**{name: seed % 2**32 for name, value in own.items() if value is None})
        return estimator


def _check_per_example(vicinity: Vicinity) -> None:
    """Refuse what is drawn once for a whole table: one lambda, one of several vicinities; and what goes by epochs."""
    if isinstance(vicinity, Chain):
        for part in vicinity.parts:
            _check_per_example(part)
        return
    if isinstance(vicinity, Scheduled):
        raise ValueError(f"MixupMeta fits once and has no epochs: give it {vicinity.part!r}, without Scheduled")
    if isinstance(vicinity, Choice) and len(vicinity.parts) > 1:
        raise ValueError(
            f"MixupMeta draws one plan for the whole table, of which {vicinity!r} would be one part by chance: give it one"
        )
    if isinstance(vicinity, (Mixup, InputMixup)):
        per = getattr(vicinity.alpha, "per", "example") if isinstance(vicinity.alpha, Weighting) else "batch"
    else:
        per = getattr(vicinity, "per", "example")
    if per == "batch":
        raise ValueError(
            f"MixupMeta draws one plan for the whole table, and {vicinity!r} has one lambda per plan: write per='example', "
            "as in Mixup(Beta(0.2, per='example'))"
        )


# -- mixed rows --------------------------------------------------------------------------------------------------------


def _mixed(X: Any, target: np.ndarray, rows: WeightedRows, vicinity: Vicinity, seed: int, copy: int) -> tuple[Any, Any]:
    """Return a mixed copy of the table: inputs, and a MixedTarget of class indices or numbers float64 like the target."""
    drawn = rows.draw(Key(seed, 0, 0, copy, ROWS).generator())
    drawn = drawn[Key(seed, 0, 0, copy, ORDER).generator().permutation(len(drawn))]
    x, y = X[drawn], torch.from_numpy(target[drawn])
    if y.is_floating_point():
        y = y.reshape(len(drawn), -1)
    dense = None if sparse.issparse(x) else torch.from_numpy(x)
    drawing = vicinity if len(drawn) > 1 else ERM(seed=seed)  # a single row has no partner
    plan = drawing.plan(len(drawn), y, dense, step=copy, rank=0, worker=0)
    if plan.rows_out != len(plan):
        raise ValueError(f"MixupMeta itself keeps the rows beside their mixes: give it what is inside {vicinity!r}")
    mixed = _mixed_sparse(plan, x) if dense is None else _mixed_dense(plan, dense).numpy()
    mixed_y = plan.target(y)
    return mixed, mixed_y if isinstance(mixed_y, MixedTarget) else mixed_y.reshape(-1, *target.shape[1:]).numpy()


def _mixed_dense(plan: Plan, x: Tensor) -> Tensor:
    """Mix numbers; what is missing (nan) in a row with a share is missing in the mix."""
    missing = x.isnan()
    if not missing.any():
        return plan(x)
    share = plan(missing.to(x.dtype)) - plan(torch.zeros_like(x))  # noise that the plan adds is the same in both
    return torch.where(share > _LEAST_SHARE / 2, torch.nan, plan(torch.where(missing, 0.0, x)))


def _mixed_sparse(plan: Plan, x: Any) -> Any:
    """Mix rows of a CSR matrix: a product with the matrix of shares."""
    if not isinstance(plan, MixPlan) or plan.is_cut or plan.noise is not None:
        raise TypeError("a sparse table can be mixed row by row only: take Mixup or InputMixup, or X.toarray()")
    n, shares = len(plan), plan.shares.double().numpy()
    columns = np.column_stack([np.arange(n), plan.partners.numpy()])
    matrix = _matrix(shares, np.repeat(np.arange(n), shares.shape[1]), columns, (n, n))
    mixed = sparse.csr_array(matrix @ sparse.csr_array(x))
    mixed.eliminate_zeros()
    return mixed if isinstance(x, sparse.csr_array) else sparse.csr_matrix(mixed)


def _matrix(values: np.ndarray, row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> Any:
    """Return a CSR array, values at one place summed and zeros left out; most estimators take 32-bit indices only."""
    index = np.int32 if max(values.size, *shape) < 2**31 else np.int64
    at = (row.ravel().astype(index), column.ravel().astype(index))
    matrix = sparse.csr_array((values.ravel(), at), shape=shape)
    matrix.sum_duplicates()  # SciPy 1.13 has not done so
    matrix.eliminate_zeros()
    return matrix


def _by_class(x: Any, target: MixedTarget, classes: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return rows, class indices int64 [m] and shares float64 [m]: each mixed row once per class that has a share of it."""
    if target.smoothing:
        shares = sparse.coo_array(target.dense(classes, dtype=torch.float64).numpy())
    else:
        n = target.ids.shape[1]
        row = np.tile(np.arange(n), len(target.ids))
        shares = _matrix(target.weight.double().numpy(), row, target.ids.numpy(), (n, classes)).tocoo()
    return x[shares.row], shares.col.astype(np.int64), shares.data


def _canonical(X: Any) -> Any:
    """Return a CSR matrix with its entries in order, without zeros and repeats; the user's stays as it is."""
    if not sparse.issparse(X):
        return X
    X = X.copy()
    X.sum_duplicates()
    X.eliminate_zeros()
    return X


def _stacked(parts: Any) -> Any:
    parts = list(parts)
    return sparse.vstack(parts, format="csr") if sparse.issparse(parts[0]) else np.concatenate(parts)
