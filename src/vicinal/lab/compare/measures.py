"""Measures of test predictions, each as values of single rows whose mean it is, so that differences can be judged by row.

Of measures that are no means over rows (balanced error, the area under the ROC curve, F1, RMSE, R squared, calibration)
the values are those of the linear approximation (`vicinal.lab.statistics.influence`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vicinal.lab.compare.predictions import RunPredictions
from vicinal.lab.errors import UserError
from vicinal.lab.format import did_you_mean
from vicinal.lab.statistics import Interval, influence, rows_paired

Values = NDArray[np.float64]
_BINS = 15  # of confidence, as in `vicinal.metrics.ece`


@dataclass(frozen=True, eq=False)
class Tested:
    """Test predictions of one run beside the truth.

    Args:
        predictions: of the run.
        target: of its test rows: class indices int64 [n], or numbers [n] in the target's unit.
        classes: number of classes; 0 for regression.

    """

    predictions: RunPredictions
    target: NDArray[np.int64] | NDArray[np.float64]
    classes: int

    @property
    def p(self) -> Values:
        """Probabilities float64 [n, classes]."""
        return self.predictions.outputs.astype(np.float64)

    @property
    def answers(self) -> NDArray[np.int64]:
        """The most probable class, int64 [n]."""
        return self.predictions.outputs.argmax(1)

    @property
    def wrong(self) -> Values:
        """1 where the most probable class is not the true one, float64 [n]."""
        return (self.answers != self.target).astype(np.float64)

    @property
    def residuals(self) -> Values:
        """Prediction minus target, float64 [n]; nan for a run that diverged, and predicts what is not finite."""
        found = self.predictions.outputs.astype(np.float64) - self.target
        return found if np.isfinite(found).all() else np.full(len(found), np.nan)


@dataclass(frozen=True, eq=False)
class Measure:
    """A measure.

    Args:
        name: as an option spells it.
        title: as sentences call it.
        short: as tables call it.
        percent: True for shares, which are written in percent and whose differences are points.
        higher: True where more is better.
        values: of the test rows of all seeds of a method, one array per seed.
        largest: difference that there can be.

    """

    name: str
    title: str
    short: str
    percent: bool
    higher: bool
    values: Callable[[Sequence[Tested]], list[Values]]
    largest: float = math.inf

    def __reduce__(self) -> tuple[Callable[[str], Measure], tuple[str]]:
        """Pickle it by its name: worker processes get a copy of a comparison, and functions made here have no name."""
        return named, (self.name,)


def _by_seed(values: Callable[[Tested], Values]) -> Callable[[Sequence[Tested]], list[Values]]:
    return lambda runs: [values(run) for run in runs]


def _nll(run: Tested) -> Values:
    assert run.predictions.nll is not None
    return run.predictions.nll.astype(np.float64)


def _brier(run: Tested) -> Values:
    return np.square(run.p - np.eye(run.classes)[run.target.astype(np.int64)]).sum(1)


def rarer_class(runs: Sequence[Tested]) -> int:
    """Return the class of the fewest test rows of all seeds together."""
    return int(np.sum([np.bincount(run.target, minlength=run.classes) for run in runs], axis=0).argmin())


def _one_against_rest(
    values: Callable[[Tested, int], Values],
) -> Callable[[Sequence[Tested]], list[Values]]:
    """Return the values of a measure of one class against the rest: of two classes the rarer, else the mean of all.

    The rarer is that of all seeds together, so that every seed is about the same one.
    """

    def of_all(runs: Sequence[Tested]) -> list[Values]:
        counts = [np.bincount(run.target, minlength=run.classes) for run in runs]
        rarer = rarer_class(runs)
        taken = [
            [rarer] if run.classes == 2 else np.flatnonzero(n).tolist() for run, n in zip(runs, counts, strict=True)
        ]
        return [np.mean([values(run, i) for i in of], axis=0) for run, of in zip(runs, taken, strict=True)]

    return of_all


def _auroc(run: Tested, of: int) -> Values:
    return influence.auroc_values(run.p[:, of], run.target == of)


def _f1(run: Tested, of: int) -> Values:
    return influence.f1_values(run.answers == of, run.target == of)


def _rmse(run: Tested) -> Values:
    residuals = run.residuals
    return influence.rmse_values(residuals) if residuals.any() else np.zeros(len(residuals))


def _r2(run: Tested) -> Values:
    """Return nan where the target is the same for all test rows, of which there is no R squared."""
    if not np.ptp(run.target):
        return np.full(len(run.target), np.nan)
    return influence.r2_values(run.residuals, run.target)


def _calibration(runs: Sequence[Tested]) -> list[Values]:
    """Return by how much each answer's confidence is off, in the direction in which its bin is off over all seeds.

    Their mean over all seeds is the expected calibration error of all predictions together.
    """
    confidence = [run.p.max(1) for run in runs]
    gaps = [sure - (1 - run.wrong) for sure, run in zip(confidence, runs, strict=True)]
    borders = (np.arange(1, _BINS) / _BINS).astype(np.float32)  # a confidence on a border belongs below
    bins = [np.searchsorted(borders, run.predictions.outputs.max(1)) for run in runs]
    signs = np.sign(np.bincount(np.concatenate(bins), np.concatenate(gaps), minlength=_BINS))
    return [signs[of] * gap for of, gap in zip(bins, gaps, strict=True)]


_CLASSES = (
    Measure("error", "test error", "error", True, False, _by_seed(lambda run: run.wrong), 1.0),
    Measure("nll", "negative log-likelihood", "NLL", False, False, _by_seed(_nll)),
    Measure("ece", "calibration error", "ECE", True, False, _calibration, 1.0),
    Measure("brier", "Brier score", "Brier", False, False, _by_seed(_brier), 2.0),
    Measure(
        "balanced_error",
        "balanced error",
        "balanced error",
        True,
        False,
        _by_seed(lambda run: influence.balanced_error_values(run.wrong, run.target)),
        1.0,
    ),
    Measure("auroc", "area under the ROC curve", "AUROC", False, True, _one_against_rest(_auroc), 1.0),
    Measure("f1", "F1 score", "F1", False, True, _one_against_rest(_f1), 1.0),
)
_NUMBERS = (
    Measure("rmse", "test RMSE", "RMSE", False, False, _by_seed(_rmse)),
    Measure("mae", "mean absolute error", "MAE", False, False, _by_seed(lambda run: np.abs(run.residuals))),
    Measure(
        "r2",
        "R\N{SUPERSCRIPT TWO}",
        "R\N{SUPERSCRIPT TWO}",
        False,
        True,
        _by_seed(_r2),
    ),
)
_ALL = {measure.name: measure for measure in (*_CLASSES, *_NUMBERS)}
NAMES = tuple(_ALL)
PARTIAL = ("auroc", "f1", "r2")  # that not every set of test rows has


def named(name: str) -> Measure:
    """Return the measure of a name, whatever the task."""
    return _ALL[name]


def find(name: str | None, classes: int) -> Measure:
    """Return a measure by its name; by default the error, or the RMSE for regression.

    Raises:
        UserError: it is not a measure of this task.

    """
    known = _CLASSES if classes else _NUMBERS
    for measure in known:
        if name in (None, measure.name):
            return measure
    task = "classification" if classes else "regression"
    names = [measure.name for measure in known]
    raise UserError(f"--metric {name} is not one of {task}: {', '.join(names)}{did_you_mean(str(name), names)}")


def level(units: Sequence[ArrayLike], values: Sequence[Values]) -> Interval:
    """Return the mean of the values of a measure over all test rows of all seeds, with its interval (`rows_paired`)."""
    low, high = rows_paired(units, values).paired()[1:3]
    return Interval(float(np.concatenate(values).mean()), low, high)


def claims(main: Measure, classes: int) -> list[Measure]:
    """Return what a verdict is about: the main measure, and for classes likelihood and calibration beside it."""
    beside = [name for name in ("nll", "ece", "error") if name != main.name][:2] if classes else []
    return [main, *(find(name, classes) for name in beside)]
