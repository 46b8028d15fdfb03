"""What a table's networks must beat: a constant answer, a linear model and gradient-boosted trees, on the same splits."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.lab.compare.results import Method, ReliabilityBins, RunRecord
from vicinal.lab.data.table_inputs import TableInputs

BASELINE = "baseline"
CONSTANT, LINEAR, TREES = "constant answer", "linear model", "gradient-boosted trees"
_ROUNDS = 1000  # of the linear model's solver at most
_TOLERANCE = 1e-8  # of the iterations for sparse columns; without, the solution is exact
_LEVELS = 255  # of a category that scikit-learn's trees take


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
    name: str, classes: int, train: tuple[TableInputs, NDArray[Any]], parts: Mapping[str, TableInputs]
) -> tuple[dict[str, NDArray[np.float64]], float]:
    """Train a baseline and predict.

    The linear model has categories as sparse one-hot columns, and the trees as the categories they are; of more than 255
    levels, those after the 254 most frequent of the training rows count as one.

    Args:
        name: of the baseline.
        classes: number of classes; 0 for regression.
        train: standardized inputs of n rows, and targets [n].
        parts: inputs of m rows by name, with categories alike.

    Returns:
        Of each part probabilities [m, classes] or predictions [m], and the seconds that training took.

    """
    x, y = train
    start = time.perf_counter()
    if name == CONSTANT:
        return {part: constant(y, classes, inputs.rows) for part, inputs in parts.items()}, 0.0
    form: Callable[[TableInputs], Any] = _sparse if name == LINEAR else _Codes(x)
    model = _model(name, classes, x.levels, x.numbers.shape[1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "lbfgs failed to converge")  # after a thousand rounds it is a baseline still
        model.fit(form(x), y)
    seconds = time.perf_counter() - start
    return {part: _predict(model, form(inputs), classes) for part, inputs in parts.items()}, seconds


def record(name: str, seed: int, seconds: float, scores: Mapping[str, dict[str, Any]]) -> RunRecord:
    """Return the record of a baseline.

    Args:
        name: of the baseline.
        seed: of its split.
        seconds: of training.
        scores: on "train", "validation", "test" and, where there are such inputs, "perturbed"; of classes with
            "reliability", of which that of "test" is kept.

    """
    kept = {part: {key: value for key, value in of.items() if key != "reliability"} for part, of in scores.items()}
    bins = scores["test"].get("reliability")
    diagram = None if bins is None else ReliabilityBins(**bins)
    parts = kept["train"], kept["validation"], kept["test"], kept.get("perturbed")
    return RunRecord(name, seed, seconds, 0, *parts, {}, diagram)


def _model(name: str, classes: int, levels: Sequence[int], numbers: int) -> Any:
    if name == LINEAR:
        from sklearn.linear_model import LogisticRegression, Ridge

        return LogisticRegression(max_iter=_ROUNDS) if classes else Ridge(tol=_TOLERANCE)
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    categories: Any = list(range(numbers, numbers + len(levels))) or None
    trees = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return trees(random_state=0, categorical_features=categories)


def _sparse(inputs: TableInputs) -> Any:
    """Return the dense inputs, or where there are categories a sparse matrix of the same."""
    if inputs.codes is None:
        return inputs.numbers.numpy()
    from scipy import sparse

    numbers, codes = inputs.numbers.numpy(), inputs.codes.numpy()
    columns = [sparse.csr_array(numbers)]
    for code, levels in zip(codes.T, inputs.levels, strict=True):
        rows = np.flatnonzero(code >= 0)
        ones = np.ones(len(rows), np.float32)
        columns.append(sparse.csr_array((ones, (rows, code[rows])), shape=(inputs.rows, levels)))
    return sparse.hstack(columns, format="csr")


class _Codes:
    """Inputs as trees take them: numbers, then codes of categories, nan where missing."""

    def __init__(self, train: TableInputs) -> None:
        self.places = []
        for j, levels in enumerate(train.levels):
            place = np.arange(levels, dtype=np.float32)
            if levels > _LEVELS and train.codes is not None:
                code = train.codes[:, j].numpy()
                sizes = np.bincount(code[code >= 0], minlength=levels)
                place[np.argsort(-sizes, kind="stable")] = np.minimum(np.arange(levels), _LEVELS - 1)
            self.places.append(np.append(place, np.float32(np.nan)))  # -1, a missing category, is the last

    def __call__(self, inputs: TableInputs) -> NDArray[np.float32]:
        numbers = inputs.numbers.numpy()
        if inputs.codes is None:
            return numbers
        codes = [place[code] for place, code in zip(self.places, inputs.codes.numpy().T, strict=True)]
        return np.concatenate([numbers, np.stack(codes, 1)], 1)


def _predict(model: Any, inputs: Any, classes: int) -> NDArray[np.float64]:
    if not classes:
        return np.asarray(model.predict(inputs), dtype=np.float64)
    found = np.zeros((inputs.shape[0], classes))
    found[:, model.classes_] = model.predict_proba(inputs)  # a class may have no training row
    return found
