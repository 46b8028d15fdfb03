"""What methods answer class by class: the confusion matrix, recall and precision, over the test predictions of all seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vicinal.lab.compare.measures import Tested
from vicinal.lab.compare.results import Answers, ClassScores, ConfusedPair

MATRIX = 12  # classes at most that a matrix is drawn of; of more, the pairs confused most are listed
_PAIRS = 12


def answers(tested: Mapping[str, Sequence[Tested]], classes: Sequence[str]) -> Answers:
    """Count the answers of some methods.

    Args:
        tested: test predictions of each seed, by method.
        classes: their names.

    """
    counts = {name: confusion(runs, len(classes)) for name, runs in tested.items()}
    small = len(classes) <= MATRIX
    return Answers(
        methods=list(counts),
        classes=[_scores(counts, i, name) for i, name in enumerate(classes)],
        confusion={name: of.tolist() for name, of in counts.items()} if small else {},
        confused=[] if small else _most_confused(counts, classes),
    )


def confusion(runs: Sequence[Tested], classes: int) -> NDArray[np.int64]:
    """Return how often each true class (rows) got each answer (columns), int64 [classes, classes]."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    for run in runs:
        np.add.at(counts, (run.target.astype(np.int64), run.answers), 1)
    return counts


def _scores(counts: Mapping[str, NDArray[np.int64]], i: int, name: str) -> ClassScores:
    return ClassScores(
        name,
        tested=int(next(iter(counts.values()))[i].sum()),
        recall={method: _share(of[i, i], of[i].sum()) for method, of in counts.items()},
        precision={method: _share(of[i, i], of[:, i].sum()) for method, of in counts.items()},
    )


def _share(part: np.int64, whole: np.int64) -> float:
    return float(part / whole) if whole else math.nan


def _most_confused(counts: Mapping[str, NDArray[np.int64]], classes: Sequence[str]) -> list[ConfusedPair]:
    """Return the pairs of a true class and a wrong answer that are most frequent over all methods."""
    total = np.sum(list(counts.values()), axis=0)
    np.fill_diagonal(total, 0)
    order = np.argsort(-total, axis=None, kind="stable")[:_PAIRS]
    found: list[ConfusedPair] = []
    for place in order.tolist():
        true, answer = divmod(place, len(classes))
        if total[true, answer]:
            own = {name: int(of[true, answer]) for name, of in counts.items()}
            tested = int(next(iter(counts.values()))[true].sum())
            found.append(ConfusedPair(str(classes[true]), str(classes[answer]), tested, own))
    return found
