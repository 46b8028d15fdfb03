"""What mixup does to scikit-learn's estimators, on the tables that scikit-learn brings: a table in Markdown.

    nice -n 10 env OMP_NUM_THREADS=1 python -m bench.sklearn_estimators

Five-fold cross-validation, stratified where there are classes; each estimator is trained on the same folds without and with
mixup, at its default settings, on standardized inputs. Error and Brier score are compared row by row, squared error in
units of the target's variance (1 - R2); intervals are those of `vicinal compare` (vicinal.lab.statistics.rows_paired).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.base import is_classifier
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vicinal.integrations.sklearn import MixupClassifier, MixupMeta, MixupRegressor
from vicinal.lab.statistics import rows_paired

Floats = NDArray[np.float64]
Losses = dict[str, Floats]  # of test rows, by the name of the measure

CLASSES = {"breast_cancer": datasets.load_breast_cancer, "digits": datasets.load_digits, "wine": datasets.load_wine}
NUMBERS = {"diabetes": datasets.load_diabetes}


class Pair(NamedTuple):
    """An estimator without mixup, and with it by the words of the table."""

    name: str
    plain: Any
    mixed: dict[str, Any]


def pairs(classes: bool, quick: bool) -> Iterator[Pair]:
    """Yield the estimators."""
    mlp = MixupClassifier if classes else MixupRegressor
    epochs = 2 if quick else None
    make: Callable[[float], Any] = lambda alpha: mlp(alpha, epochs=epochs, random_state=0)  # noqa: E731
    yield Pair("MLP (128, 128)", make(0.0), {"0.2": make(0.2), "1": make(1.0)})
    few = {"n_estimators": 2} if quick else {}
    short = {"max_iter": 2} if quick else {}
    if classes:
        linear, forest = LogisticRegression(), RandomForestClassifier(random_state=0, **few)
        boosted: Any = HistGradientBoostingClassifier(random_state=0, **short)
    else:
        linear, forest = Ridge(), RandomForestRegressor(random_state=0, **few)
        boosted = HistGradientBoostingRegressor(random_state=0, **short)
    for base in (linear, forest, boosted):
        mixed = {
            "0.2": MixupMeta(base, 0.2, random_state=0),
            "0.2, keep": MixupMeta(base, 0.2, keep=True, random_state=0),
        }
        yield Pair(type(base).__name__, base, mixed)


def losses(estimator: Any, x: Floats, y: NDArray[Any], train: NDArray[Any], test: NDArray[Any]) -> Losses:
    """Train, and return the losses of the test rows."""
    model = make_pipeline(StandardScaler(), estimator).fit(x[train], y[train])
    if not is_classifier(estimator):
        return {"squared error": (model.predict(x[test]) - y[test]) ** 2 / y.var()}
    p, truth = model.predict_proba(x[test]), y[test, None] == np.unique(y)
    return {"error": (p.argmax(1) != truth.argmax(1)).astype(float), "Brier": ((p - truth) ** 2).sum(1)}


def lines(name: str, x: Floats, y: NDArray[Any], classes: bool, repeats: int, quick: bool) -> Iterator[str]:
    """Yield the lines of one table of data."""
    split = RepeatedStratifiedKFold if classes else RepeatedKFold
    folds = list(split(n_splits=5, n_repeats=repeats, random_state=0).split(x, y))
    tests = [test for _, test in folds]
    for pair in pairs(classes, quick):
        plain = [losses(pair.plain, x, y, *fold) for fold in folds]
        for alpha, estimator in pair.mixed.items():
            mixed = [losses(estimator, x, y, *fold) for fold in folds]
            for measure in plain[0]:
                before = np.concatenate([of[measure] for of in plain]).mean()
                changes = [b[measure] - a[measure] for a, b in zip(plain, mixed, strict=True)]
                change = rows_paired(tests, changes).paired()
                digits, unit = (4, 1) if measure == "Brier" else (2, 100)
                shown = [f"{value * unit:+.{digits}f}" for value in (change.difference, change.low, change.high)]
                verdict = "" if change.low <= 0 <= change.high else "better" if change.difference < 0 else "**worse**"
                yield (
                    f"| {name} | {pair.name} | {alpha} | {measure}{' %' * (unit == 100)} | {before * unit:.{digits}f} | "
                    f"{shown[0]} [{shown[1]}, {shown[2]}] | {verdict} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help=f"default: {', '.join([*CLASSES, *NUMBERS])}")
    parser.add_argument("--repeats", type=int, default=1, help="of five folds (default: 1)")
    parser.add_argument("--quick", action="store_true", help="tiny models, to see that it runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| table | estimator | alpha | measure | without | mixup minus without [95 %] | |")
    print("|---|---|---|---|---|---|---|")
    for name in args.tables or [*CLASSES, *NUMBERS]:
        x, y = (CLASSES | NUMBERS)[name](return_X_y=True)
        for line in lines(name, x, y, name in CLASSES, args.repeats, args.quick):
            print(line, flush=True)


if __name__ == "__main__":
    main()
