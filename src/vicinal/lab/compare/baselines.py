"""What a table's networks must beat: a constant answer, a linear model and gradient-boosted trees, on the same splits."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.lab.compare.results import Method

BASELINE = "baseline"
CONSTANT, LINEAR, TREES = "constant answer", "linear model", "gradient-boosted trees"
_ROUNDS = 1000  # of the linear model's solver at most


def methods(names: tuple[str, ...] = (CONSTANT, LINEAR, TREES)) -> list[Method]:
    """Return the baselines as methods."""
    return [Method(name, "", BASELINE) for name in names]


def constant(target: NDArray[Any], classes: int, rows: int) -> NDArray[np.float64]:
    """Return the constant prediction from training targets: shares of classes [rows, classes], or the mean [rows]."""
    if not classes:
        return np.full(rows, float(target.mean()))
    return np.tile(np.bincount(target, minlength=classes) / len(target), (rows, 1))


def nll_of(p: NDArray[np.float64], target: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return -log p of the true class of each row; infinite where a class had no training row, so that p is 0."""
    with np.errstate(divide="ignore"):
        return -np.log(np.take_along_axis(p, target[:, None], 1)[:, 0]).astype(np.float32)


def fit_predict(
    name: str, classes: int, train: tuple[NDArray[np.float32], NDArray[Any]], parts: Mapping[str, NDArray[np.float32]]
) -> tuple[dict[str, NDArray[np.float64]], float]:
    """Train a baseline and predict.

    Args:
        name: of the baseline.
        classes: number of classes; 0 for regression.
        train: standardized inputs [n, D] and targets [n].
        parts: inputs [m, D] by name.

    Returns:
        Of each part probabilities [m, classes] or predictions [m], and the seconds that training took.

    """
    x, y = train
    start = time.perf_counter()
    if name == CONSTANT:
        return {part: constant(y, classes, len(inputs)) for part, inputs in parts.items()}, 0.0
    model = _model(name, classes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "lbfgs failed to converge")  # after a thousand rounds it is a baseline still
        model.fit(x, y)
    seconds = time.perf_counter() - start
    return {part: _predict(model, inputs, classes) for part, inputs in parts.items()}, seconds


def _model(name: str, classes: int) -> Any:
    if name == LINEAR:
        from sklearn.linear_model import LogisticRegression, Ridge

        return LogisticRegression(max_iter=_ROUNDS) if classes else Ridge()
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    return (HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(random_state=0)


def _predict(model: Any, inputs: NDArray[np.float32], classes: int) -> NDArray[np.float64]:
    if not classes:
        return np.asarray(model.predict(inputs), dtype=np.float64)
    found = np.zeros((len(inputs), classes))
    found[:, model.classes_] = model.predict_proba(inputs)  # a class may have no training row
    return found
