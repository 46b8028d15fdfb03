"""The answer of a comparison in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vicinal.lab import parse
from vicinal.lab.compare import measures
from vicinal.lab.compare.baselines import BASELINE, CONSTANT
from vicinal.lab.compare.comparison import ERM_FAMILY, NAMED, Comparison, families, short_name
from vicinal.lab.compare.measures import Measure
from vicinal.lab.compare.results import ERM, LEVEL, AlphaChoice, Difference, Summary, Verdict
from vicinal.lab.format import NumberFormat, counted, p_value, significant

_SURE = 0.95  # probability from which on "practically the same" is said
_ENOUGH_SEEDS = 5


def format_of(measure: Measure, summary: Mapping[str, Summary], minus: str = "-") -> NumberFormat:
    """Return how a measure is written: shares in percent, others with 4 significant digits."""
    if measure.percent:
        return NumberFormat(100.0, 2, minus)
    levels = [of.test[measure.name].mean for of in summary.values() if measure.name in of.test]
    return significant(levels, 4, minus=minus)


@dataclass(frozen=True)
class Words:
    """What is said of a comparison.

    Args:
        comparison: what was compared.
        summary: of every method.
        differences: to ERM, of the main measure.
        beside: of likelihood and calibration.
        choices: of alpha, by family.
        no_better: methods that were not shown to be better than a constant answer.

    """

    comparison: Comparison[Any, Any]
    summary: Mapping[str, Summary]
    differences: Sequence[Difference]
    beside: Sequence[Difference]
    choices: Mapping[str, AlphaChoice]
    no_better: Sequence[str] = ()

    @property
    def primary(self) -> list[Difference]:
        """The differences that the verdict is about."""
        return [one for one in self.differences if one.primary]

    def verdict(self) -> Verdict:
        """Return the verdict on the primary difference that is clearest; a help goes before a harm."""
        found = sorted((one for one in self.primary if one.p_holm < LEVEL), key=lambda one: one.p_holm)
        helping = [one for one in found if _is_better(one)]
        if found:
            return self._found((helping or found)[0], found, helping)
        if runaway := [one for one in self.primary if not math.isfinite(one.difference)]:
            return self._diverged(runaway[0])
        return self._not_found(min(self.primary, key=lambda one: one.p))

    def _found(self, told: Difference, found: Sequence[Difference], helping: Sequence[Difference]) -> Verdict:
        subject, rises = short_name(told.method), told.difference > 0
        kind = "helps" if helping else "harms"
        useless = bool(helping) and self._none_beats_constant
        sentence = (
            f"{subject[0].upper()}{subject[1:]} {kind} on {self.comparison.name}: the {self.comparison.measure.title} "
            f"{'rises' if rises else 'falls'} from {self._level(ERM)} to {self._level(told.method)} "
            f"({self._evidence(told)})."
        )
        if useless:
            sentence = (
                f"No network is shown to beat a constant answer on {self.comparison.name}: {self._constant()}, "
                f"{subject} {self._level(told.method)} and ERM {self._level(ERM)} ({self._evidence(told)})."
            )
            advice = "Do not train such a network, with mixup or without, before it beats that answer."
        else:
            advice = f"Train with {self._advised(told.method)}." if helping else f"Train without {subject}."
        if len(found) > 1:
            harm = len(found) - len(helping)
            advice += f" Of {len(self.primary)} methods, {len(helping)} clearly help and {harm} clearly harm."
        if len(self.primary) > 1 and helping:
            advice += " It is the clearest of several, so that its true effect is likely smaller."
        kind, weak = ("no better than a constant", "") if useless else (kind, self._weak())
        return Verdict(kind, told.method, sentence, self._advice([advice, weak, self._chances(told)], told))

    def _diverged(self, told: Difference) -> Verdict:
        seeds = sum(not math.isfinite(value) for value in told.per_seed)
        sentence = (
            f"No verdict on {self.comparison.name}: with {told.method} or without, training diverged for {seeds} of "
            f"{counted(self.comparison.settings.seeds, 'seed')}."
        )
        advice = "Train with a lower --learning-rate, or leave that method out."
        return Verdict("no verdict", told.method, sentence, advice)

    def _not_found(self, told: Difference) -> Verdict:
        many, subject, before = len(self.primary), short_name(told.method), self._level(ERM)
        title = self.comparison.measure.title
        sentence, it, kind = f"No difference found on {self.comparison.name}", subject, "no difference found"
        if not any(any(one.per_seed) for one in self.primary):
            sentence += f": the {title} is {before} with {subject} and without, the same for every seed."
        else:
            if many > 1:
                sentence += f" between any of {many} methods and training without them. The clearest is {subject}"
                it = "it"
            sentence += (
                f": the {title} is {self._level(told.method)} with {it} and {before} without ({self._evidence(told)})."
            )
        if all(one.chances.same > _SURE and one.detectable > 0 for one in self.primary):
            kind = "practically the same"
            sentence = sentence.replace("No difference found", "Practically the same", 1)
        smallest = self._number(told.detectable) if told.detectable > 0 else ""  # 0 where no row differs
        could = f"This comparison would have found a difference of {smallest} in 4 of 5 cases" if smallest else ""
        could += f"; more {self._more()} would show smaller ones." if could else ""
        return Verdict(kind, told.method, sentence, self._advice([could, self._weak(), self._chances(told)], told))

    # -- parts

    def _advice(self, parts: Sequence[str], told: Difference) -> str:
        return " ".join(
            part for part in (*parts, self._beside(), self._harming(), self._strict(told), self._rivals()) if part
        )

    def _level(self, method: str) -> str:
        measure = self.comparison.measure
        value = format_of(measure, self.summary).text(self.summary[method].test[measure.name].mean)
        return f"{value} %" if measure.percent else value

    def _number(self, value: float) -> str:
        if not math.isfinite(value):
            return ""
        measure = self.comparison.measure
        return format_of(measure, self.summary).text(value) + (" points" if measure.percent else "")

    def _evidence(self, told: Difference) -> str:
        measure = measures.find(told.measure, self.comparison.classes)
        number = format_of(measure, self.summary)
        difference, low, high = (number.text(v, sign=True) for v in (told.difference, told.low, told.high))
        points = " points" if measure.percent else ""
        many = len(self.primary) + len(self.beside)
        corrected = f" after correction for {many} tests" if many > 1 else ""
        return (
            f"difference {difference}{points}, 95 % interval {low} to {high}; p {p_value(told.p_holm, '= ')}{corrected}"
        )

    def _advised(self, told: str) -> str:
        """Return the vicinity to train with: the method itself, or the one its family chose over all seeds."""
        choice = self.choices.get(short_name(told))
        return parse.qualified(self.comparison.method(choice.recommended if choice else told).vicinity)

    def _chances(self, told: Difference) -> str:
        if not math.isfinite(told.same) or not told.detectable > 0:  # without spread every probability is 0 or 1
            return ""
        better, same, worse = (f"{100 * of:.0f} %" for of in told.chances)
        within = self._number(told.same)
        return f"Better with probability {better}, practically the same (within {within}) {same}, worse {worse}."

    def _beside(self) -> str:
        """Return what likelihood and calibration say."""
        told = []
        for one in self.beside:
            if one.p_holm < LEVEL:
                measure = measures.find(one.measure, self.comparison.classes)
                number, unit = format_of(measure, self.summary), " points" if measure.percent else ""
                way = "better" if _is_better(one) else "worse"
                change = f"{number.text(one.difference, sign=True)}{unit}"
                told.append(f"{measure.title} with {short_name(one.method)} is {way} ({change})")
        if told:
            text = ", and ".join(told)
            return f"{text[0].upper()}{text[1:]}."
        return (
            "Likelihood and calibration show no clear difference either."
            if self.beside and not any(one.p_holm < LEVEL for one in self.primary)
            else ""
        )

    def _harming(self) -> str:
        """Return the single alphas that clearly harm."""
        mixing = [one.name for one in self.comparison.methods if one.family in self.choices]
        harm = [
            one.method
            for one in self.differences
            if one.method in mixing and one.p_holm < LEVEL and not _is_better(one)
        ]
        return (
            f"Without a choice by validation data, {' and '.join(harm)} clearly {'harm' if len(harm) > 1 else 'harms'}."
            if harm
            else ""
        )

    def _strict(self, told: Difference) -> str:
        """Return what the strictest reading says, where it disagrees."""
        if told.p_holm < LEVEL and told.p_strict is not None and told.p_strict >= LEVEL:
            return f"The strictest test, which takes seeds for the units, leaves it open (p {p_value(told.p_strict, '= ')})."
        return ""

    def _rivals(self) -> str:
        """Return the baselines that are clearly better than ERM."""
        better = [
            one.method
            for one in self.differences
            if self._family(one.method) == BASELINE and one.p_holm < LEVEL and _is_better(one)
        ]
        named = [
            f"{'a' if name != 'gradient-boosted trees' else ''} {name} ({self._level(name)})".strip() for name in better
        ]
        return f"Better than ERM on these data: {' and '.join(named)}." if named else ""

    def _family(self, method: str) -> str:
        return next((one.family for one in self.comparison.methods if one.name == method), "")

    @property
    def _none_beats_constant(self) -> bool:
        return set(self.no_better) >= {ERM, *(one.method for one in self.primary)}

    def _weak(self) -> str:
        """Return which networks are not shown to beat a constant answer."""
        if not self.no_better:
            return ""
        if self._none_beats_constant:
            return f"No network is shown to beat a constant answer: {self._constant()}."
        names = " and ".join(f"{short_name(name)} ({self._level(name)})" for name in self.no_better)
        names, verb = names[0].upper() + names[1:], "is" if len(self.no_better) == 1 else "are"
        return f"{names} {verb} not shown to beat a constant answer: {self._constant()}."

    def _constant(self) -> str:
        data = self.comparison.data
        if not self.comparison.classes:
            return f"the mean of the target has {self._level(CONSTANT)}"
        counts = [int((data.target == i).sum()) for i in range(self.comparison.classes)]
        name = data.classes[counts.index(max(counts))]
        return f"always answering {name!r} has {self._level(CONSTANT)}"

    def _more(self) -> str:
        rows = "rows of data" if self.comparison.kind == "table" else self.comparison.noun
        return "seeds" if self.comparison.settings.seeds < _ENOUGH_SEEDS else rows


def direction(one: Difference) -> str:
    """Return the direction of a difference in words: better or worse where it is found, else how near the two are.

    Returns:
        "better", "worse", "practically the same", or "not clear".

    """
    if one.p_holm < LEVEL:
        return "better" if _is_better(one) else "worse"
    return "practically the same" if one.chances.same > _SURE else "not clear"


def _is_better(one: Difference) -> bool:
    """Return True where a difference is in its measure's better direction, however small it is."""
    return (one.difference > 0) == measures.named(one.measure).higher


def statistics_in_words(comparison: Comparison[Any, Any]) -> str:
    """Describe how a difference is told from sampling noise, for the report."""
    noun, chosen = comparison.noun, families(comparison.methods)
    count = len(chosen) + sum(method.family == NAMED for method in comparison.methods)
    tests = count * len(measures.claims(comparison.measure, comparison.classes))
    decays = len([one for one in comparison.methods if one.family == ERM_FAMILY])
    own = f"alpha is chosen for each seed on its validation {noun}, and " if chosen else ""
    erm = (
        f"ERM's weight decay among {decays} likewise; test {noun} took no part. "
        if decays > 1
        else f"test {noun} took no part. "
    )
    epoch = (
        "Every run has the weights of its last epoch. "
        if comparison.settings.to_the_end
        else f"Every run has the weights of the epoch that was best on its validation {noun}. "
    )
    units = {
        "folds": f"Seeds are folds of repeated cross-validation, so that all {noun} are tested equally often",
        "groups": "Seeds are folds of repeated cross-validation in which groups stay together",
        "time": f"All seeds test the latest {noun}",
        "test file": f"All seeds test the {noun} of the test file",
    }[comparison.splitting.how]
    unit = "groups" if comparison.splitting.groups is not None else noun
    return (
        f"{units}; a seed also fixes first weights and the order of the data, the same for every method. {epoch}{own}{erm}"
        f"Intervals and p-values take both the {unit} and the seeds for the units: the variance of the mean difference by "
        f"{unit}, and what seeds add to it (two-way clustering). The {counted(tests, 'test')} of the verdict are corrected "
        "together by Holm's method, and likewise those of all other methods. The strictest reading beside it is the "
        "corrected resampled t-test (Nadeau and Bengio 2003), for which seeds are the units."
    )


def limitations(comparison: Comparison[Any, Any]) -> list[str]:
    """Return what a comparison leaves open, for the report."""
    settings = comparison.settings
    lines = [
        *(f"{note[0].upper()}{note[1:].removesuffix('.')}." for note in comparison.data.notes),
        "Nothing but alpha, ERM's weight decay and the length of training was tuned: width, depth and learning rate are the "
        "same for all methods, and mixup often wants longer training.",
    ]
    if comparison.splitting.how == "folds":
        lines.append(
            f"{comparison.noun.capitalize()} were split at random: where several are of one person or source, or where time "
            "matters, the errors on new ones are higher. "
            + ("--group and --time split by a column." if comparison.kind == "table" else "")
        )
    if not settings.label_noise:
        lines.append("Labels were taken as they are; --label-noise 0.4 shows what mixup does against wrong ones.")
    if settings.input_noise is None:
        lines.append("Inputs were not perturbed, so nothing is said about robustness; --input-noise 0.5 would.")
    return [*lines, *comparison.limitations()]
