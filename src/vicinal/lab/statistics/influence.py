"""Measures of a whole test set as values of its rows, so that `rows_paired` can take their differences.

The error, the negative log-likelihood, the Brier score and the squared error are means over rows: a row's loss is its
value. Other measures are not, and each function here returns, for the test rows of one seed, values whose mean is the
measure and whose spread is that of its linear approximation (delta method, influence function): value = measure +
influence. The difference of the values of two methods on the same rows is what `rows_paired` takes.

All functions take and return arrays of one length [m], float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


def rmse_values(residuals: ArrayLike) -> Values:
    """Return the values of the root mean squared error: rmse + (e**2 - mse) / (2 rmse).

    They are nan where a residual is.

    Raises:
        ValueError: all residuals are 0, where the root has no slope.

    Example:
        >>> rmse_values([3.0, -4.0, 0.0]).round(4).tolist()
        [3.0022, 4.2147, 1.4434]

    """
    squares = _one_row("residuals", residuals) ** 2
    mse = squares.mean()
    if mse == 0:
        raise ValueError("the RMSE has no slope where every residual is 0: compare squared errors instead")
    rmse = np.sqrt(mse)
    return rmse + (squares - mse) / (2 * rmse)


def r2_values(residuals: ArrayLike, target: ArrayLike) -> Values:
    """Return the values of R² = 1 - mse / var(target), both of this test set.

    Raises:
        ValueError: the target does not vary.

    """
    squares, y = _one_row("residuals", residuals) ** 2, _one_row("target", target)
    apart = (_same_length(squares, y) - y.mean()) ** 2
    mse, variance = squares.mean(), apart.mean()
    if not variance > 0:
        raise ValueError("R² needs a target that varies in every test set")
    return 1 - squares / variance + mse / variance**2 * (apart - variance)


def balanced_error_values(wrong: ArrayLike, classes: ArrayLike) -> Values:
    """Return the values of the balanced error, the mean over classes of the error within the class.

    Args:
        wrong: 1 (or True) where the prediction is wrong; any other loss of a row does as well.
        classes: the true class of each row; every class of this test set counts alike.

    Example:
        >>> balanced_error_values([1, 0, 0, 1], ["a", "a", "a", "b"]).round(3).tolist()
        [1.111, 0.444, 0.444, 0.667]

    """
    loss = _one_row("wrong", wrong)
    _, of = np.unique(_same_length(loss, np.asarray(classes)), return_inverse=True)
    counts = np.bincount(of)
    within = np.bincount(of, loss) / counts
    return within.mean() + len(loss) / (len(counts) * counts[of]) * (loss - within[of])


def auroc_values(scores: ArrayLike, positive: ArrayLike) -> Values:
    """Return the values of the area under the ROC curve, from the placements of DeLong, DeLong and Clarke-Pearson (1988).

    A positive's placement is the share of negatives below it, a negative's the share of positives above it; ties count
    one half. Ranks give them in O(m log m) (Sun and Xu 2014).

    Args:
        scores: higher for what is more probably positive.
        positive: True (or 1) for the positives.

    Raises:
        ValueError: the rows are all positives or all negatives.

    Example:
        >>> auroc_values([0.9, 0.4, 0.1, 0.4], [1, 1, 0, 0]).round(3).tolist()
        [1.125, 0.625, 1.125, 0.625]

    """
    from scipy.stats import rankdata  # scipy.stats takes a second to import

    score = _one_row("scores", scores)
    is_positive = _same_length(score, np.asarray(positive)).astype(bool)
    p, n = int(is_positive.sum()), int((~is_positive).sum())
    if not p or not n:
        raise ValueError("the area under the ROC curve needs positives and negatives in every test set")
    among_all = rankdata(score)
    placement = np.empty(len(score))
    placement[is_positive] = (among_all[is_positive] - rankdata(score[is_positive])) / n
    placement[~is_positive] = 1 - (among_all[~is_positive] - rankdata(score[~is_positive])) / p
    area = placement[is_positive].mean()
    return area + len(score) / np.where(is_positive, p, n) * (placement - area)


def f1_values(predicted: ArrayLike, positive: ArrayLike) -> Values:
    """Return the values of F1 = 2 TP / (2 TP + FP + FN), by the slope of the ratio.

    Macro F1 is the mean of the values that the single classes have, one against the rest.

    Args:
        predicted: True (or 1) where a row is predicted to be positive.
        positive: True (or 1) where it is.

    Raises:
        ValueError: there are no positives, neither true nor predicted.

    Example:
        >>> f1_values([1, 1, 0, 0], [1, 0, 1, 0]).round(3).tolist()
        [1.5, 0.0, 0.0, 0.5]
        >>> f1_values([1, 1, 0], [1, 0, 0]).round(3).tolist()
        [1.333, 0.0, 0.667]

    """
    says = _one_row("predicted", predicted)
    is_so = _same_length(says, _one_row("positive", positive))
    over, under = 2 * says * is_so, says + is_so  # TP counts twice below, FP and FN once
    if not under.any():
        raise ValueError("F1 needs a positive, true or predicted, in every test set")
    f1 = over.sum() / under.sum()
    return f1 + (over - f1 * under) / under.mean()


def _one_row(name: str, values: ArrayLike) -> Values:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} are one value per test row, [m], got shape {list(array.shape)}")
    return array


def _same_length(first: Values, second: NDArray) -> NDArray:
    if first.shape != second.shape:
        raise ValueError(f"two values per test row are needed, got shapes {list(first.shape)} and {list(second.shape)}")
    return second
