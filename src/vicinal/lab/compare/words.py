"""The answer of a comparison in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vicinal.lab import parse
from vicinal.lab.compare import measures
from vicinal.lab.compare.baselines import BASELINE, CONSTANT
from vicinal.lab.compare.comparison import ERM_FAMILY, NAMED, Comparison, families, short_name
from vicinal.lab.compare.measures import Measure
from vicinal.lab.compare.results import ERM, LEVEL, AlphaChoice, Difference, Summary, Verdict
from vicinal.lab.data.folds import FOLDS
from vicinal.lab.format import NumberFormat, counted, p_value, shortened, significant

_SURE = 0.95  # probability from which on "practically the same" is said
_ENOUGH_SEEDS = 5
_NAMED = 2  # methods whose likelihood and calibration a verdict tells


def format_of(
    measure: Measure, summary: Mapping[str, Summary], differences: Sequence[Difference] = (), minus: str = "-"
) -> NumberFormat:
    """Return how a measure is written: shares in percent, others with 4 significant digits.

    There are more digits where the intervals of the differences are so narrow that they would be nothing but zeros.
    """
    levels = [of.test[measure.name].mean for of in summary.values() if measure.name in of.test]
    found = NumberFormat(100.0, 2, minus) if measure.percent else significant(levels, 4, minus=minus)
    reach = [found.factor * (one.high - one.low) / 2 for one in differences if one.measure == measure.name]
    narrow = min((of for of in reach if math.isfinite(of) and of > 0), default=1.0)
    return replace(found, decimals=max(found.decimals, -math.floor(math.log10(narrow))))


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
        constant: the class that the constant answer gives in every seed; empty where seeds differ, and for regression.
        rarer: the class that a binary F1 score is about; empty for others.

    """

    comparison: Comparison[Any, Any]
    summary: Mapping[str, Summary]
    differences: Sequence[Difference]
    beside: Sequence[Difference]
    choices: Mapping[str, AlphaChoice]
    no_better: Sequence[str] = ()
    constant: str = ""
    rarer: str = ""

    @property
    def primary(self) -> list[Difference]:
        """The differences that the verdict is about."""
        return [one for one in self.differences if one.primary]

    def verdict(self) -> Verdict:
        """Return the verdict on the primary difference that is clearest; a help goes before a harm."""
        shown = [one for one in self.primary if one.p_holm < LEVEL and not _is_same(one)]
        found = sorted(shown, key=lambda one: one.p_holm)
        helping = [one for one in found if _is_better(one)]
        if found:
            return self._found((helping or found)[0], found, helping)
        if runaway := [one for one in self.primary if not math.isfinite(one.difference)]:
            return self._diverged(runaway[0])
        unclear = [one for one in self.primary if not _is_same(one)]
        return self._not_found(min(unclear or self.primary, key=lambda one: one.p))

    def _found(self, told: Difference, found: Sequence[Difference], helping: Sequence[Difference]) -> Verdict:
        subject, rises = short_name(told.method), told.difference > 0
        kind = "helps" if helping else "harms"
        useless = bool(helping) and self._none_beats_constant
        sentence = (
            f"{subject[0].upper()}{subject[1:]} {kind} on {self._data}: the {self._title} "
            f"{'rises' if rises else 'falls'} from {self._level(ERM)} to {self._level(told.method)} "
            f"({self._evidence(told)})."
        )
        if useless:
            sentence = (
                f"No network is shown to beat a constant answer on {self._data}: {self._constant()}, "
                f"{subject} {self._level(told.method)} and ERM {self._level(ERM)} ({self._evidence(told)})."
            )
            advice = "Do not train such a network, with mixup or without, before it beats that answer."
        else:
            advice = f"Train with {self._advised(told.method)}." if helping else f"Train without {subject}."
        if len(found) > 1:
            harm = len(found) - len(helping)
            advice += f" Of {len(self.primary)} methods, {_counted(len(helping), 'help')} and {_counted(harm, 'harm')}."
        if len(self.primary) > 1 and helping and told.p == min(one.p for one in self.primary):
            advice += f" It is the clearest of {len(self.primary)}, so that its true effect is likely smaller."
        if told.chances.same > 0.5:
            advice += " The difference is shown, and is most likely smaller than what counts."
        kind, weak = ("no better than a constant", "") if useless else (kind, self._weak())
        return Verdict(kind, told.method, sentence, self._advice([advice, weak, self._chances(told)], told))

    def _diverged(self, told: Difference) -> Verdict:
        seeds = sum(not math.isfinite(value) for value in told.per_seed)
        alone = math.isfinite(self.summary[ERM].test[self.comparison.measure.name].mean)
        training = f"training with {short_name(told.method)}" if alone else "training"
        sentence = (
            f"No verdict on {self._data}: {training} diverged for {seeds} of "
            f"{counted(self.comparison.settings.seeds, 'seed')}."
        )
        advice = f"Train with a lower --learning-rate{', or leave that method out' if alone else ''}."
        return Verdict("no verdict", told.method, sentence, advice)

    def _not_found(self, told: Difference) -> Verdict:
        many, subject, before = len(self.primary), short_name(told.method), self._level(ERM)
        title = self._title
        sentence, it, kind = f"No difference found on {self._data}", subject, "no difference found"
        if not any(any(one.per_seed) for one in self.primary):
            sentence += f": the {title} is {before} with {subject} and without, and no seed differs."
        else:
            if many > 1:
                sentence += f" between any of {many} methods and training without them. The clearest is {subject}"
                it = "it"
            sentence += (
                f": the {title} is {self._level(told.method)} with {it} and {before} without ({self._evidence(told)})."
            )
        if all(map(_is_same, self.primary)):
            kind = "practically the same"
            sentence = sentence.replace("No difference found", "Practically the same", 1)
        could = self._could(told)
        if told.p_holm < LEVEL:
            could = f"The difference is shown, and is smaller than what counts ({self._number(told.same)})."
        return Verdict(kind, told.method, sentence, self._advice([could, self._weak(), self._chances(told)], told))

    # -- parts

    @property
    def _data(self) -> str:
        """The data's name, with the label noise that was added."""
        noise = self.comparison.settings.label_noise
        return f"{self.comparison.name} with {100 * noise:g} % label noise" if noise else self.comparison.name

    @property
    def _title(self) -> str:
        """The measure's name, with the class that it is about."""
        title = self.comparison.measure.title
        return f"{title} of {self.rarer!r}" if self.rarer else title

    def _could(self, told: Difference) -> str:
        """Return which differences would have been found; nothing where no row differs."""
        if not told.detectable > 0:
            return ""
        more = f"; more {self._more()} would show smaller ones."
        if told.detectable > self.comparison.measure.largest:
            return f"This comparison is too small to find any difference{more}"
        return f"This comparison would have found a difference of {self._number(told.detectable)} in 4 of 5 cases{more}"

    def _advice(self, parts: Sequence[str], told: Difference) -> str:
        return " ".join(
            part for part in (*parts, self._beside(), self._harming(), self._strict(told), self._rivals()) if part
        )

    def _level(self, method: str) -> str:
        measure = self.comparison.measure
        value = format_of(measure, self.summary, self.primary).text(self.summary[method].test[measure.name].mean)
        return f"{value} %" if measure.percent else value

    def _number(self, value: float) -> str:
        if not math.isfinite(value):
            return ""
        measure = self.comparison.measure
        return format_of(measure, self.summary, self.primary).text(value) + (" points" if measure.percent else "")

    def _evidence(self, told: Difference) -> str:
        measure = measures.find(told.measure, self.comparison.classes)
        number = format_of(measure, self.summary, self.primary)
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
        told: dict[str, list[str]] = {}
        for one in self.beside:
            if one.p_holm < LEVEL:
                measure = measures.find(one.measure, self.comparison.classes)
                number, unit = format_of(measure, self.summary, [one]), " points" if measure.percent else ""
                way = "better" if _is_better(one) else "worse"
                change = f"{measure.title} is {way} ({number.text(one.difference, sign=True)}{unit})"
                told.setdefault(short_name(one.method), []).append(change)
        if told:
            sentences = [f"With {name}, {' and '.join(changes)}." for name, changes in list(told.items())[:_NAMED]]
            more = len(told) - len(sentences)
            sentences += [f"{counted(more, 'more method')} changed {self._both} too."] if more else []
            return " ".join(sentences)
        if not self.beside or any(one.p_holm < LEVEL for one in self.primary):
            return ""
        return f"{self._both[0].upper()}{self._both[1:]} show no clear difference either."

    @property
    def _both(self) -> str:
        """What is tested beside the main measure."""
        named = {"nll": "likelihood", "ece": "calibration", "error": "the test error"}
        return " and ".join(named[one] for one in dict.fromkeys(one.measure for one in self.beside))

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
        level = self._level(CONSTANT)
        if not self.comparison.classes:
            return f"the mean of the target has {level}"
        if self.comparison.measure.name not in ("error", "balanced_error", "f1"):
            return f"the shares of the classes as probabilities have {level}"
        return (
            f"always answering {shortened(self.constant)!r} has {level}"
            if self.constant
            else f"the commonest class has {level}"
        )

    def _more(self) -> str:
        rows = "rows of data" if self.comparison.kind == "table" else self.comparison.noun
        return "seeds" if self.comparison.settings.seeds < _ENOUGH_SEEDS else rows


def direction(one: Difference) -> str:
    """Return the direction of a difference in words: better or worse where it is found, else how near the two are.

    Returns:
        "practically the same" where that is more than 95 % probable, "better", "worse", or "not clear".

    """
    if _is_same(one):
        return "practically the same"
    return "not clear" if one.p_holm >= LEVEL else "better" if _is_better(one) else "worse"


def _is_same(one: Difference) -> bool:
    return one.chances.same > _SURE and one.detectable > 0


def _counted(n: int, verb: str) -> str:
    return f"{n} clearly {verb}{'s' if n == 1 else ''}"


def _is_better(one: Difference) -> bool:
    """Return True where a difference is in its measure's better direction, however small it is."""
    return (one.difference > 0) == measures.named(one.measure).higher


def statistics_in_words(comparison: Comparison[Any, Any]) -> str:
    """Describe how a difference is told from sampling noise, for the report."""
    noun, chosen, splitting = comparison.noun, families(comparison.methods), comparison.splitting
    count = len(chosen) + sum(method.family == NAMED for method in comparison.methods)
    tests = count * len(measures.claims(comparison.measure, comparison.classes))
    decays = len([one for one in comparison.methods if one.family == ERM_FAMILY])
    chooses = [f"Alpha is chosen for each seed on its validation {noun}. "] if chosen else []
    if decays > 1:
        chooses.append(
            f"ERM's weight decay is chosen among {decays} {'likewise' if chosen else f'on validation {noun}'}. "
        )
    epoch = (
        "Every run has the weights of its last epoch. "
        if comparison.settings.to_the_end
        else f"Every run has the weights of the epoch that was best on its validation {noun}. "
    )
    unit = "groups" if splitting.groups is not None else noun
    strictest = (
        ""
        if splitting.is_fixed
        else " The strictest reading beside it is the corrected resampled t-test (Nadeau and Bengio 2003), for which seeds "
        "are the units."
    )
    return (
        f"{_splits_in_words(comparison)}; a seed also fixes first weights and the order of the data, the same for every "
        f"method. {epoch}{''.join(chooses)}Test {noun} took no part in any choice. "
        f"Intervals and p-values take both the {unit} and the seeds for the units: the variance of the mean difference by "
        f"{unit}, and what seeds add to it (two-way clustering). The {counted(tests, 'test')} of the verdict "
        f"{'are' if tests > 1 else 'is'} corrected together by Holm's method, and likewise those of all other methods."
        f"{strictest}"
    )


def _splits_in_words(comparison: Comparison[Any, Any]) -> str:
    noun, often = comparison.noun, divmod(comparison.settings.seeds, FOLDS)
    if comparison.splitting.how == "folds":
        tested = (
            f"all {noun} are tested equally often"
            if not often[1]
            else f"{noun} are tested {often[0]} or {often[0] + 1} times"
        )
        return f"Seeds are folds of repeated cross-validation, so that {tested}"
    return {
        "groups": "Seeds are folds of repeated cross-validation in which groups stay together",
        "time": f"All seeds test the latest {noun}",
        "test file": f"All seeds test the {noun} of the test file",
    }[comparison.splitting.how]


def limitations(comparison: Comparison[Any, Any]) -> list[str]:
    """Return what a comparison leaves open, for the report."""
    settings = comparison.settings
    decays = len([one for one in comparison.methods if one.family == ERM_FAMILY])
    tuned = ["alpha"] if len(settings.alphas) > 1 else []
    tuned += ["ERM's weight decay"] if decays > 1 else []
    tuned += [] if settings.to_the_end else ["the length of training"]
    nothing = f"Nothing but {_listed(tuned)} was tuned" if tuned else "Nothing was tuned"
    lines = [
        *(f"{note[0].upper()}{note[1:].removesuffix('.')}." for note in comparison.data.notes),
        f"{nothing}: width, depth and learning rate are the same for all methods, and mixup often wants longer training.",
    ]
    if decays < len(settings.alphas):
        lines.append(
            f"Mixup was the best of {len(settings.alphas)} on validation {comparison.noun}, and ERM of {decays}, which "
            "favors mixup."
        )
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


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
