"""Ridge classifiers on simulated tables: closed forms, so that hundreds of tables take seconds.

A table has n rows of 2 x 5 standard normal columns and the label sign(x1 . b + s * x2 . b + e), where b is 0.6 five times, e
is standard normal and s is 1 or the strength of the second signal.

random      both methods are ridge regression on 30 random ReLU features of all columns, each run with features of its
            own: nothing but the random part differs
two         one method sees x1, the other x2: with s = 1 they are equal in the population and at every size
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.calibration.intervals import Losses, Rows
from bench.calibration.score import Trial
from vicinal.keyed import Key

WIDTH, FEATURES, PENALTY = 5, 30, 1.0
Array = NDArray[np.float64]


def trial(kind: str, n: int, seeds: int, strength: float, number: int, one_test_set: bool = False) -> Trial:
    """Draw a table, fit both methods on `seeds` splits into 60 % and 20 % of the rows, and return the differences.

    With `one_test_set` all seeds test the same rows, and training rows alone are drawn anew.
    """
    generator = Key(number, 0, 0, n, 0).generator()
    x = generator.standard_normal((n, 2 * WIDTH))
    signal = 0.6 * (x[:, :WIDTH].sum(1) + strength * x[:, WIDTH:].sum(1))
    y = np.sign(signal + generator.standard_normal(n))
    rows, train = _splits(generator, n, seeds, one_test_set)
    if kind == "random":
        inputs = [_features(generator, x, seeds) for _ in range(2)]
    else:
        inputs = [np.broadcast_to(part, (seeds, *part.shape)) for part in (x[:, :WIDTH], x[:, WIDTH:])]
    scores = [_ridge(of, y, train, rows) for of in inputs]
    truth = y[rows]
    losses = {"error": [(score * truth <= 0).astype(float) for score in scores]}
    losses["squared error"] = [(score - truth) ** 2 for score in scores]
    return Trial(number, rows, {name: second - first for name, (first, second) in losses.items()})


def _splits(generator: np.random.Generator, n: int, seeds: int, one_test_set: bool) -> tuple[Rows, Rows]:
    """Return test rows [seeds, n / 5] and training rows [seeds, 3 n / 5]; the rest validates elsewhere."""
    order = np.tile(np.arange(n), (seeds, 1))
    free = order[:, n // 5 :] if one_test_set else order
    free[:] = generator.permuted(free, axis=1)
    return order[:, : n // 5], order[:, n // 5 : n // 5 + 3 * n // 5]


def _features(generator: np.random.Generator, x: Array, seeds: int) -> Array:
    weight = generator.standard_normal((seeds, x.shape[1], FEATURES)) / np.sqrt(x.shape[1])
    bias = generator.standard_normal((seeds, 1, FEATURES))
    return np.maximum(x @ weight + bias, 0)


def _ridge(inputs: Array, y: Array, train: Rows, test: Rows) -> Losses:
    """Fit on the training rows of each seed, and return the scores of its test rows [seeds, m]."""
    fitted, asked = (np.take_along_axis(inputs, rows[:, :, None], 1) for rows in (train, test))
    target = y[train]
    center, middle = fitted.mean(1, keepdims=True), target.mean(1, keepdims=True)
    fitted = fitted - center
    gram = fitted.transpose(0, 2, 1) @ fitted + PENALTY * np.eye(fitted.shape[2])
    weight = np.linalg.solve(gram, fitted.transpose(0, 2, 1) @ (target - middle)[:, :, None])
    return ((asked - center) @ weight)[:, :, 0] + middle
