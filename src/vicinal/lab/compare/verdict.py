"""From the runs of a comparison to its answer: does a method help, with which alpha, and is it more than sampling noise?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vicinal.lab import parse, statistics
from vicinal.lab.compare.comparison import BY_LABEL, MIXUP, NAMED, Comparison, spelled
from vicinal.lab.compare.results import ERM, AlphaChoice, Difference, Method, RunRecord, Scores, Summary, Verdict
from vicinal.lab.format import NumberFormat, p_value, significant
from vicinal.lab.selection import best_on_validation, validation_order

LEVEL = 0.05  # of a corrected p-value below which a difference counts as found
_ENOUGH_SEEDS = 15  # fewer leave the interval more than a fifth wider than any number of them would

Runs = Mapping[str, Sequence[RunRecord]]  # by method, in the order of the seeds


@dataclass(frozen=True)
class Conclusion:
    """What the runs of a comparison say."""

    summary: dict[str, Summary]
    comparisons: list[Difference]
    choice: AlphaChoice | None
    verdict: Verdict


def conclude(comparison: Comparison[Any, Any], runs: Sequence[RunRecord]) -> Conclusion:
    """Choose alphas on validation data, compare all methods with ERM on test data, and put it into words."""
    runs = sorted(runs, key=lambda run: run.seed)
    by_method = {method.name: [run for run in runs if run.method == method.name] for method in comparison.methods}
    choices: dict[str, AlphaChoice] = {}
    for family in families(comparison.methods):
        choices[family], by_method[chosen_name(family)] = choose(comparison.methods, by_method, family)
    share, measure = comparison.test_share, comparison.measure
    summary = {name: _summarize(of, share) for name, of in by_method.items()}
    primary = [*map(chosen_name, choices), *(one.name for one in comparison.methods if one.family == NAMED)]
    secondary = [method.name for method in comparison.methods if method.family in choices]
    differences = _compare(by_method, primary, measure, share, primary=True)
    differences += _compare(by_method, secondary, measure, share, primary=False)
    words = _Words(comparison, summary, [one for one in differences if one.primary], choices)
    verdict = words.verdict(_overtrained(comparison, by_method[ERM], words.number))
    return Conclusion(summary, differences, choices.get(MIXUP), verdict)


def families(methods: Sequence[Method]) -> list[str]:
    """Return the families in which validation data choose alpha."""
    return [family for family in (MIXUP, BY_LABEL) if any(method.family == family for method in methods)]


def chosen_name(family: str) -> str:
    """Return the name under which a family's choice by validation data is reported."""
    return f"{family}, alpha chosen on validation"


def short_name(method: str) -> str:
    """Return a method's name, or the family's for its choice by validation data."""
    return method.removesuffix(chosen_name(""))


def choose(methods: Sequence[Method], by_method: Runs, family: str) -> tuple[AlphaChoice, list[RunRecord]]:
    """Choose a family's alpha for each seed on its validation data; return the choice and the runs chosen."""
    members = [method for method in methods if method.family == family]
    alphas = [method.alpha for method in members if method.alpha is not None]
    runs, per_seed = [], []
    for candidates in zip(*(by_method[method.name] for method in members), strict=True):
        best = best_on_validation([run.validation for run in candidates])
        runs.append(candidates[best])
        per_seed.append(alphas[best])
    counts = {spelled(alpha): per_seed.count(alpha) for alpha in alphas}
    return AlphaChoice(family, per_seed, counts, best_method(members, by_method).name), runs


def best_method(methods: Sequence[Method], by_method: Runs) -> Method:
    """Return the method that is best on validation data over all seeds."""
    return min(
        methods,
        key=lambda method: tuple(np.mean([validation_order(run.validation) for run in by_method[method.name]], axis=0)),
    )


def main_format(measure: str, summary: Mapping[str, Summary], minus: str = "-") -> NumberFormat:
    """Return how the measure that methods are compared by is written."""
    if measure == "error":
        return NumberFormat(100.0, 2, minus)
    return significant((of.test["rmse"].mean for of in summary.values()), 4, minus=minus)


def _summarize(runs: Sequence[RunRecord], share: float) -> Summary:
    def over_seeds(parts: Sequence[Scores]) -> dict[str, statistics.Interval]:
        return {name: statistics.interval([part[name] for part in parts], share) for name in parts[0]}

    train, validation, test = (over_seeds([getattr(run, of) for run in runs]) for of in ("train", "validation", "test"))
    perturbed = [run.perturbed for run in runs if run.perturbed is not None]
    seconds = float(np.mean([run.seconds for run in runs]))
    return Summary(train, validation, test, over_seeds(perturbed) if perturbed else None, seconds)


def _compare(by_method: Runs, names: Sequence[str], measure: str, share: float, primary: bool) -> list[Difference]:
    """Compare methods with ERM on test data; p-values are corrected for the number of these methods."""
    per_seed = [
        [mine.test[measure] - erm.test[measure] for mine, erm in zip(by_method[name], by_method[ERM], strict=True)]
        for name in names
    ]
    paired = [statistics.paired(values, share) for values in per_seed]
    corrected = statistics.holm([one.p for one in paired])
    return [
        Difference(name, primary, *one, p_holm=p, per_seed=values)
        for name, one, p, values in zip(names, paired, corrected, per_seed, strict=True)
    ]


# -- in words ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Words:
    """The verdict on the primary differences."""

    comparison: Comparison[Any, Any]
    summary: Mapping[str, Summary]
    primary: Sequence[Difference]
    choices: Mapping[str, AlphaChoice]

    @property
    def number(self) -> NumberFormat:
        return main_format(self.comparison.measure, self.summary)

    @property
    def what(self) -> str:
        return "test error" if self.comparison.classes else "test RMSE"

    def verdict(self, remark: str) -> Verdict:
        """Return the verdict on the primary difference that is clearest; a help goes before a harm."""
        found = sorted((one for one in self.primary if one.p_holm < LEVEL), key=lambda one: one.difference)
        if found:
            return self._found(found[0], found, remark)
        if runaway := [one for one in self.primary if not math.isfinite(one.difference)]:
            return self._diverged(runaway[0], remark)
        return self._not_found(min(self.primary, key=lambda one: one.p), remark)

    def _found(self, told: Difference, found: Sequence[Difference], remark: str) -> Verdict:
        helps, subject = told.difference < 0, short_name(told.method)
        kind, moves = ("helps", "falls") if helps else ("harms", "rises")
        sentence = (
            f"{subject[0].upper()}{subject[1:]} {kind} on {self.comparison.name}: the {self.what} {moves} from "
            f"{self._level(ERM)} to {self._level(told.method)} ({self._evidence(told)})."
        )
        advice = f"Train with {parse.qualified(self._advised(told.method))}." if helps else f"Train without {subject}."
        if len(found) > 1:
            helping = sum(one.difference < 0 for one in found)
            advice += (
                f" Of {len(self.primary)} methods, {helping} clearly help and {len(found) - helping} clearly harm."
            )
        return Verdict(kind, told.method, sentence, advice + remark)

    def _diverged(self, told: Difference, remark: str) -> Verdict:
        seeds = sum(not math.isfinite(value) for value in told.per_seed)
        sentence = (
            f"No verdict on {self.comparison.name}: with {told.method} or without, training diverged for {seeds} of "
            f"{self.comparison.settings.seeds} seeds."
        )
        advice = "Train with a lower --learning-rate, or leave that method out."
        return Verdict("no verdict", told.method, sentence, advice + remark)

    def _not_found(self, told: Difference, remark: str) -> Verdict:
        many, subject, before = len(self.primary), short_name(told.method), self._level(ERM)
        sentence, it = f"No difference found on {self.comparison.name}", subject
        if not any(any(one.per_seed) for one in self.primary):
            sentence += f": the {self.what} is {before} with {subject} and without, the same for every seed."
        else:
            if many > 1:
                sentence += f" between any of {many} methods and training without them. The clearest is {subject}"
                it = "it"
            sentence += (
                f": the {self.what} is {self._level(told.method)} with {it} and {before} without "
                f"({self._evidence(told)}), which is within sampling noise."
            )
        more = "rows of data" if self.comparison.kind == "table" else self.comparison.noun
        more = "seeds" if self.comparison.settings.seeds < _ENOUGH_SEEDS else more
        these = subject if many == 1 else "any of them"
        advice = f"Nothing here speaks for {these} or against it. More {more} would narrow the interval."
        return Verdict("no difference found", told.method, sentence, advice + remark)

    def _level(self, method: str) -> str:
        value = self.number.text(self.summary[method].test[self.comparison.measure].mean)
        return f"{value} %" if self.comparison.classes else value

    def _evidence(self, told: Difference) -> str:
        difference, low, high = (self.number.text(v, sign=True) for v in (told.difference, told.low, told.high))
        points = " points" if self.comparison.classes else ""
        many = f" after correction for {len(self.primary)} methods" if len(self.primary) > 1 else ""
        return f"difference {difference}{points}, 95 % interval {low} to {high}; p {p_value(told.p_holm, '= ')}{many}"

    def _advised(self, told: str) -> str:
        """Return the vicinity to train with: the method itself, or the one its family chose over all seeds."""
        choice = self.choices.get(short_name(told))
        return self.comparison.method(choice.recommended if choice else told).vicinity


def _overtrained(comparison: Comparison[Any, Any], erm: Sequence[RunRecord], number: NumberFormat) -> str:
    """Remark that ERM was clearly better before the end of its training: a method may help for no more than that."""
    if comparison.settings.patience is not None:
        return ""
    epochs = erm[0].curve["epoch"]
    course = np.array([run.curve[f"validation_{comparison.measure}"] for run in erm])  # [seeds, points]
    best = int(course.mean(0).argmin())
    earlier = statistics.paired((course[:, best] - course[:, -1]).tolist(), comparison.test_share)
    if not (earlier.difference < 0 and earlier.p < LEVEL / len(epochs)):  # the best of as many points
        return ""
    unit, what = (" %", "error") if comparison.classes else ("", "RMSE")
    then, now = (number.text(float(course[:, i].mean())) + unit for i in (best, -1))
    return (
        f" But training went on too long: without mixing, the validation {what} was {then} after epoch {epochs[best]:g} "
        f"and is {now} at the end. Compare again with --patience 10, which ends each run at its best epoch."
    )


def statistics_in_words(comparison: Comparison[Any, Any]) -> str:
    """Describe how a difference is told from sampling noise, for the report."""
    noun, chosen = comparison.noun, families(comparison.methods)
    count = len(chosen) + sum(method.family == NAMED for method in comparison.methods)
    choice = f"alpha is chosen for each seed on its validation {noun}; test {noun} took no part. " if chosen else ""
    return (
        f"A seed fixes all that is random in a run (which {noun} are for training, validation and testing, the first "
        "weights, the order of the data), and every method ran with the same seeds, so that differences are taken within "
        f"seeds. {choice}Test {noun} of different seeds overlap, which a plain t-test would take for independence: "
        "intervals and p-values are by the corrected resampled t-test (Nadeau and Bengio 2003). The verdict's p-value is "
        f"corrected for {count} {'comparison' if count == 1 else 'comparisons'} by Holm's method, those of the single "
        "alphas for their number."
    )


def limitations(comparison: Comparison[Any, Any]) -> list[str]:
    """Return what a comparison leaves open, for the report."""
    settings = comparison.settings
    length = "length of training" if settings.patience is None else "the rule that ends training"
    lines = [
        f"Nothing but alpha was tuned: width, depth, learning rate, weight decay and {length} are the same for all "
        "methods, and mixup often wants longer training.",
        f"The {sum(comparison.sizes)} {comparison.noun} are shared out anew for each seed, so the intervals speak for "
        f"{'this table' if comparison.kind == 'table' else 'this folder'} and not for new data from elsewhere.",
        "Only the first measure is tested; the others stand without a p-value.",
    ]
    if not settings.label_noise:
        lines.append("Labels were taken as they are; --label-noise 0.4 shows what mixup does against wrong ones.")
    if settings.input_noise is None:
        lines.append("Inputs were not perturbed, so nothing is said about robustness; --input-noise 0.5 would.")
    return [*lines, *comparison.limitations()]
