"""What training all alphas of a fold at once saves, against scikit-learn's GridSearchCV: a table in Markdown.

    nice -n 5 env OMP_NUM_THREADS=1 python -m bench.sklearn_search

Both choose among the five default alphas by the log-loss of five stratified folds, and train the best on all rows: 26
models at their default settings. Candidates take turns in random order, and ratios are taken within a round. With one
process CPU time counts, which other programs hardly touch; with two, wall clock, their start not counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn import datasets
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from vicinal.integrations.sklearn import MixupClassifier, MixupClassifierCV

TABLES = {"breast_cancer": datasets.load_breast_cancer, "digits": datasets.load_digits, "wine": datasets.load_wine}


def clocks(fit: Callable[[], Any]) -> tuple[float, float]:
    """Return CPU seconds of this process and wall-clock seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    fit()
    return time.process_time() - cpu, time.perf_counter() - wall


def line(name: str, rounds: int, epochs: int | None) -> str:
    """Return the line of one table of data."""
    x, y = TABLES[name](return_X_y=True)
    ours = MixupClassifierCV(epochs=epochs, random_state=0)
    grid = partial(
        GridSearchCV,
        MixupClassifier(epochs=epochs, random_state=0),
        {"alpha": ours.alphas},
        cv=ours.cv,
        scoring="neg_log_loss",
    )
    one, two = grid(n_jobs=1), grid(n_jobs=2)
    clone(two).set_params(estimator__epochs=1).fit(x, y)  # starts the processes
    fits = {"ours": ours, "one": one, "two": two}
    order = np.random.Generator(np.random.Philox(0))
    ratios: dict[str, list[float]] = {"one": [], "two": []}
    for _ in range(rounds):
        seconds = {of: clocks(lambda of=of: fits[of].fit(x, y)) for of in order.permutation(list(fits)).tolist()}
        ratios["one"].append(seconds["one"][0] / seconds["ours"][0])
        ratios["two"].append(seconds["two"][1] / seconds["ours"][1])
    shown = [f"{np.median(of):.1f} [{min(of):.1f}, {max(of):.1f}]" for of in ratios.values()]
    scores = np.array([one.cv_results_[f"split{i}_test_score"] for i in range(one.n_splits_)])
    apart = np.abs(scores - ours.scores_).max()
    return (
        f"| {name} | {len(x)} | {shown[0]} | {shown[1]} | {one.best_params_['alpha']} | {ours.alpha_} | {apart:.0e} | "
        f"{', '.join(f'{of:.3f}' for of in -ours.scores_.mean(axis=0))} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help=f"default: {', '.join(TABLES)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None, help="of a fit (default: about 1,500 steps)")
    parser.add_argument("--quick", action="store_true", help="two epochs, to see that it runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| table | rows | grid, 1 process: times our time | grid, 2 processes: times our time | grid's alpha | our alpha | "
        "largest difference of a score | our log-loss by alpha |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in args.tables or TABLES:
        print(line(name, 1 if args.quick else args.rounds, 2 if args.quick else args.epochs), flush=True)


if __name__ == "__main__":
    main()
