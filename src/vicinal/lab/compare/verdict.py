"""From the runs of a comparison to its answer: does a method help, with which alpha, and is it more than sampling noise?

Three differences to ERM are tested for each primary method, and corrected together (Holm 1979): of the main measure, and
for classes of likelihood and calibration. Their intervals take test rows (or groups of them) and seeds for the units, as
`vicinal.lab.statistics.rows_paired` says; the corrected resampled t-test, which takes seeds alone, stands beside them as
the strictest reading.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.lab import statistics
from vicinal.lab.compare import classwise, measures, temperature
from vicinal.lab.compare.baselines import BASELINE, CONSTANT
from vicinal.lab.compare.comparison import (
    ERM_FAMILY,
    MIXUP,
    NAMED,
    Comparison,
    RunId,
    chosen_name,
    families,
    short_name,
    spelled,
)
from vicinal.lab.compare.measures import Measure, Tested, Values
from vicinal.lab.compare.predictions import RunPredictions
from vicinal.lab.compare.results import (
    ERM,
    LEVEL,
    AlphaChoice,
    Answers,
    Difference,
    Method,
    RunRecord,
    Scores,
    Summary,
    TemperatureScaling,
    Verdict,
)
from vicinal.lab.compare.words import Words
from vicinal.lab.selection import best_on_validation, validation_order
from vicinal.lab.statistics import Effect, Interval

POLICY = "mixup or ERM, chosen on validation"
_SAME = {"rmse": 0.05, "mae": 0.05}  # shares of ERM's level within which a method is practically the same; others:
_TENTH = 0.1
_POINT = 0.01  # the most, of a measure between 0 and 1: the region of Benavoli et al. (2017)

Runs = Mapping[str, Sequence[RunRecord]]  # by method, in the order of the seeds


@dataclass(frozen=True)
class Conclusion:
    """What the runs of a comparison say."""

    summary: dict[str, Summary]
    comparisons: list[Difference]
    beside: list[Difference]
    chosen: dict[str, list[str]]
    choice: AlphaChoice | None
    verdict: Verdict
    answers: Answers | None
    scaling: TemperatureScaling | None


def conclude(
    comparison: Comparison[Any, Any], runs: Sequence[RunRecord], predictions: Mapping[RunId, RunPredictions]
) -> Conclusion:
    """Choose on validation data, compare all methods with ERM on test data, and put it into words.

    Args:
        comparison: what was compared.
        runs: of all methods and seeds.
        predictions: of each run, by method and seed.

    """
    runs = sorted(runs, key=lambda run: run.seed)
    by_method = {method.name: [run for run in runs if run.method == method.name] for method in comparison.methods}
    choices, chosen = _choose_all(comparison, by_method)
    found = _Found(comparison, by_method | chosen, predictions)
    primary = [*map(chosen_name, choices), *(one.name for one in comparison.methods if one.family == NAMED)]
    secondary = [one.name for one in comparison.methods if one.family in choices]
    secondary += [one.name for one in comparison.methods if one.family == ERM_FAMILY and one.name != ERM]
    secondary += [POLICY] if POLICY in chosen else []
    secondary += [one.name for one in comparison.methods if one.family == BASELINE]
    tested = found.differences(primary, measures.claims(comparison.measure, comparison.classes), primary=True)
    main = [one for one in tested if one.measure == comparison.measure.name]
    beside = [one for one in tested if one.measure != comparison.measure.name]
    differences = main + found.differences(secondary, [comparison.measure], primary=False)
    summary = {name: found.summary(name) for name in (*by_method, *chosen)}
    no_better = [name for name in (ERM, *primary) if not found.beats_constant(name)]
    about = found.constant_class(), found.rarer_class()
    verdict = Words(comparison, summary, differences, beside, choices, no_better, *about).verdict()
    names = {name: [run.method for run in of] for name, of in chosen.items()}
    detail = found.answers(verdict.method), found.scaling(verdict.method, tested)
    return Conclusion(summary, differences, beside, names, choices.get(MIXUP), verdict, *detail)


# -- choices on validation data ------------------------------------------------------------------------------------------


def _choose_all(
    comparison: Comparison[Any, Any], by_method: Runs
) -> tuple[dict[str, AlphaChoice], dict[str, list[RunRecord]]]:
    """Choose among ERM's weight decays, each family's alphas, and both together; return choices and the runs chosen."""
    listed, by = comparison.methods, comparison.measure.name
    choices: dict[str, AlphaChoice] = {}
    chosen: dict[str, list[RunRecord]] = {}
    erm = [one for one in listed if one.family == ERM_FAMILY]
    if len(erm) > 1:
        chosen[ERM] = _best_runs(erm, by_method, by)
    for family in families(listed):
        members = [one for one in listed if one.family == family]
        chosen[chosen_name(family)] = runs = _best_runs(members, by_method, by)
        alpha = {one.name: one.alpha for one in members}
        per_seed = [found for run in runs if (found := alpha[run.method]) is not None]
        counts = {spelled(of): per_seed.count(of) for of in alpha.values() if of is not None}
        choices[family] = AlphaChoice(family, per_seed, counts, best_method(members, by_method, by).name)
    if MIXUP in choices:
        chosen[POLICY] = _best_runs([*erm, *(one for one in listed if one.family == MIXUP)], by_method, by)
    return choices, chosen


def _best_runs(members: Sequence[Method], by_method: Runs, by: str) -> list[RunRecord]:
    """Return the run of each seed that is best on its validation data."""
    seeds = zip(*(by_method[one.name] for one in members), strict=True)
    return [runs[best_on_validation([run.validation for run in runs], by)] for runs in seeds]


def best_method(methods: Sequence[Method], by_method: Runs, by: str) -> Method:
    """Return the method that is best on validation data over all seeds."""
    return min(
        methods,
        key=lambda one: tuple(np.mean([validation_order(run.validation, by) for run in by_method[one.name]], axis=0)),
    )


# -- differences -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """Runs of all methods, chosen ones among them, with their predictions."""

    comparison: Comparison[Any, Any]
    runs: Runs
    predictions: Mapping[RunId, RunPredictions]

    def _tested(self, method: str) -> list[Tested]:
        data = self.comparison.data
        of = [self.predictions[run.key] for run in self.runs[method]]
        return [Tested(one, data.target[one.rows], self.comparison.classes) for one in of]

    @property
    def _units(self) -> list[NDArray[np.int64]]:
        """What is drawn independently: the test rows of each seed, or the groups they belong to."""
        rows = [self.predictions[run.key].rows for run in self.runs[ERM]]
        groups = self.comparison.splitting.groups
        return rows if groups is None else [groups[of] for of in rows]

    def differences(self, names: Sequence[str], of: Sequence[Measure], primary: bool) -> list[Difference]:
        """Compare methods with ERM on test data; p-values are corrected for all of them together."""
        found: list[Difference] = []
        for measure in of if names else ():
            erm = measure.values(self._tested(ERM))
            found += [self._difference(name, measure, erm, primary, LEVEL / (len(names) * len(of))) for name in names]
        corrected = statistics.holm([one.p for one in found]) if found else []
        return [one.corrected(p) for one, p in zip(found, corrected, strict=True)]

    def beats_constant(self, method: str) -> bool:
        """Return True where a method is shown to be better than the constant answer.

        Or where that has an infinite loss; and for calibration, of which a constant answer has all and tells nothing.
        """
        measure = self.comparison.measure
        if measure.name == "ece":
            return True
        mine, constant = (measure.values(self._tested(name)) for name in (method, CONSTANT))
        if not measure.higher and np.isposinf(np.concatenate(constant)).any():
            return bool(np.isfinite(np.concatenate(mine)).all())
        effect = self._effect(measure, mine, constant)
        return effect.difference < 0 and effect.p < LEVEL

    def constant_class(self) -> str:
        """Return the class that the constant answer gives in every seed; empty where seeds differ, and for regression."""
        if not self.comparison.classes:
            return ""
        found = np.unique(np.concatenate([one.answers for one in self._tested(CONSTANT)]))
        return self.comparison.data.classes[found[0]] if len(found) == 1 else ""

    def rarer_class(self) -> str:
        """Return the class that a binary F1 score is about; empty for other measures."""
        if self.comparison.measure.name != "f1" or self.comparison.classes != 2:
            return ""
        return self.comparison.data.classes[measures.rarer_class(self._tested(ERM))]

    def _effect(self, measure: Measure, mine: Sequence[Values], other: Sequence[Values]) -> Effect:
        """Return by how much one method is worse than another: below 0 it is better."""
        sign = -1.0 if measure.higher else 1.0
        return statistics.rows_paired(self._units, [sign * (a - b) for a, b in zip(mine, other, strict=True)])

    def _difference(
        self, method: str, measure: Measure, erm: Sequence[Values], primary: bool, first: float
    ) -> Difference:
        """Compare with ERM; `first` is the level of Holm's first step, at which a lone difference is found."""
        mine = measure.values(self._tested(method))
        effect = self._effect(measure, mine, erm)
        per_seed = [float(a.mean() - b.mean()) for a, b in zip(mine, erm, strict=True)]
        level = float(np.concatenate(erm).mean())
        rope = _SAME.get(measure.name, _TENTH) * abs(1 - level if measure.higher else level)
        if measure.largest == 1.0:
            rope = min(rope, _POINT)
        if measure.name == "error":  # of an ERM without errors a tenth would be nothing
            rows = [self.predictions[run.key].rows for run in self.runs[ERM]]
            rope = max(rope, 1 / len(np.unique(np.concatenate(rows))))
        strict = (
            None if self.comparison.splitting.is_fixed else statistics.paired(per_seed, self.comparison.test_share).p
        )
        least = effect.detectable(level=first)
        return _as_difference(method, measure, primary, effect, per_seed, rope, least, strict)

    def answers(self, method: str) -> Answers | None:
        """Count the answers of ERM and of a method by class; None for regression."""
        if not self.comparison.classes:
            return None
        return classwise.answers({name: self._tested(name) for name in (ERM, method)}, self.comparison.data.classes)

    def scaling(self, method: str, claims: Sequence[Difference]) -> TemperatureScaling | None:
        """Compare a method with ERM after temperature scaling; None for regression, and where training diverged."""
        if not self.comparison.classes:
            return None
        tested = {name: self._tested(name) for name in (ERM, method)}
        temperatures = {name: [run.temperature for run in self.runs[name]] for name in tested}
        raw = next(one.p_holm for one in claims if one.method == method and one.measure == "nll")
        return temperature.compare(self._units, tested, temperatures, short_name(method), raw)

    def summary(self, method: str) -> Summary:
        """Return the means of a method's scores: on test data with intervals over rows, else over seeds."""
        runs, share = self.runs[method], self.comparison.test_share

        def over_seeds(parts: Sequence[Scores]) -> dict[str, Interval]:
            return {name: statistics.interval([part[name] for part in parts], share) for name in parts[0]}

        perturbed = [run.perturbed for run in runs if run.perturbed is not None]
        train, validation = (over_seeds([getattr(run, of) for run in runs]) for of in ("train", "validation"))
        names = dict.fromkeys([*runs[0].test, self.comparison.measure.name])
        test = {name: self._level(method, measures.find(name, self.comparison.classes)) for name in names}
        seconds = float(np.mean([run.seconds for run in runs]))
        return Summary(train, validation, test, over_seeds(perturbed) if perturbed else None, seconds)

    def _level(self, method: str, measure: Measure) -> Interval:
        return measures.level(self._units, measure.values(self._tested(method)))


def _as_difference(
    method: str,
    measure: Measure,
    primary: bool,
    effect: Effect,
    per_seed: list[float],
    rope: float,
    least: float,
    strict: float | None,
) -> Difference:
    """Return an effect (below 0 is better) as a difference in the measure's own direction."""
    mean, low, high, p = effect.paired()
    if measure.higher:
        mean, low, high = -mean, -high, -low
    low, high = max(low, -measure.largest), min(high, measure.largest)  # what can be
    chances = effect.posterior(rope) if math.isfinite(rope) else statistics.Posterior(math.nan, math.nan, math.nan)
    return Difference(method, primary, mean, low, high, p, p, per_seed, measure.name, chances, rope, least, strict)
