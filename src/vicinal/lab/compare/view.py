"""One view of results for the console, the page and its figures: which methods, and how numbers are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from vicinal.lab.compare import measures
from vicinal.lab.compare.baselines import BASELINE
from vicinal.lab.compare.comparison import ERM_FAMILY, NAMED
from vicinal.lab.compare.measures import Measure
from vicinal.lab.compare.results import ERM, Difference, Results, RunRecord, Summary
from vicinal.lab.compare.verdict import LEVEL, short_name
from vicinal.lab.compare.words import format_of
from vicinal.lab.format import ABSENT, NumberFormat, is_finite, p_value, significant
from vicinal.lab.statistics import Interval

_SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class TableCell:
    """One cell of the table of methods: a number, its interval, and whether a test supports it."""

    text: str
    interval: str = ""
    supported: bool = False


@dataclass(frozen=True)
class Column:
    """One column of the table of methods; `short` is its title where there is little room."""

    title: str
    short: str
    cells: list[TableCell]


@dataclass(frozen=True)
class View:
    """Results as they are shown.

    Args:
        results: of a comparison.
        minus: the minus sign.

    """

    results: Results
    minus: str = "-"

    @property
    def measure(self) -> Measure:
        """Measure that methods are compared by."""
        return self._measure(self.results.protocol.measure)

    def _measure(self, name: str) -> Measure:
        return measures.find(name, len(self.results.data.classes))

    @property
    def is_classification(self) -> bool:
        """True for classes, False for regression."""
        return bool(self.results.data.classes)

    @cached_property
    def main(self) -> NumberFormat:
        """Format of the main measure."""
        return format_of(
            self.measure, self.results.summary, [one for one in self.results.comparisons if one.primary], self.minus
        )

    @property
    def points(self) -> str:
        """Unit of a difference, as it stands behind it."""
        return " points" if self.measure.percent else ""

    def title(self, part: str) -> str:
        """Return the main measure's name on one part of the data, with its unit."""
        return f"{part} {self.measure.short}" + (f",{_SPACE}%" if self.measure.percent else "")

    @cached_property
    def families(self) -> dict[str, str]:
        """Family of each method trained."""
        return {method.name: method.family for method in self.results.methods}

    @property
    def family(self) -> str:
        """Family whose alpha is swept."""
        return self.results.choice.family if self.results.choice else "mixup"

    def tone(self, method: str) -> str:
        """Return the color of a method: erm, mix or other."""
        family = ERM_FAMILY if method == ERM else self.families.get(method, self.family)
        return {ERM_FAMILY: "erm", NAMED: "other", BASELINE: "other"}.get(family, "mix")

    @property
    def networks(self) -> list[str]:
        """Methods that trained a network."""
        return [name for name, family in self.families.items() if family != BASELINE]

    @property
    def front(self) -> list[str]:
        """Methods in front in figures: ERM, and the recommended one, else the first that is not ERM."""
        names = [name for name in self.networks if self.families[name] != ERM_FAMILY]
        recommended = self.results.choice.recommended if self.results.choice else None
        return [ERM] + ([recommended] if recommended in names else names[:1])

    def runs(self, method: str) -> list[RunRecord]:
        """Return a method's runs; of a choice by validation data, the runs chosen."""
        seeds = self.results.chosen.get(method)
        of = {seed: name for seed, name in enumerate(seeds)} if seeds else {}
        return [run for run in self.results.runs if run.method == of.get(run.seed, method)]

    def level(self, method: str) -> Interval:
        """Return the mean of the main measure on test data, its interval cut to the values that the measure can take."""
        return _possible(self.measure, self.results.summary[method].test[self.measure.name])

    @property
    def differences(self) -> list[Difference]:
        """Differences of mixing methods to ERM, primary ones first."""
        mixing = [
            one for one in self.results.comparisons if self.families.get(one.method) not in (ERM_FAMILY, BASELINE)
        ]
        return sorted(mixing, key=lambda one: not one.primary)

    @property
    def told(self) -> Difference | None:
        """Difference that the verdict is about."""
        return self._of(self.results.verdict.method)

    @property
    def about(self) -> str:
        """The method that the verdict is about, by name."""
        return self.name(self.told.method) if self.told else self.family

    def name(self, method: str) -> str:
        """Return a method's name, short for the choice of alpha by validation data."""
        return method if method in self.families else short_name(method)

    # -- the table of methods

    @cached_property
    def rows(self) -> list[str]:
        """Methods in the order of the table: ERM, choices by validation data, the others, and the baselines."""
        chosen = [name for name in self.results.summary if name not in self.families]
        last = [BASELINE, ERM_FAMILY]  # ERM's single weight decays at the end
        return sorted(
            dict.fromkeys([*chosen, *self.families]),
            key=lambda name: (
                -1 if name == ERM else last.index(family) + 1 if (family := self.families.get(name)) in last else 0
            ),
        )

    def kind(self, method: str) -> str:
        """Return what a row is: erm, primary or plain."""
        if method == ERM:
            return "erm"
        return "primary" if self.told and method == self.told.method else "plain"

    def columns(self) -> list[Column]:
        """Return the columns of the table, the most wanted first."""
        short = self.measure.short + (" %" if self.measure.percent else "")
        listed = [
            Column(self.title("Test"), f"test {short}", [self._main(of.test) for of in self._summaries]),
            Column(
                f"Difference to ERM{self.points and ', points'}",
                "minus ERM",
                [self._difference(name) for name in self.rows],
            ),
            Column(f"p,{_SPACE}Holm", "p (Holm)", [self._p(name) for name in self.rows]),
        ]
        if self.results.protocol.input_noise is not None:
            cells = [self._main(of.perturbed) for of in self._summaries]
            listed.append(Column(self.title("Perturbed test"), f"perturbed {short}", cells))
        beside = [name for name in self.results.summary[ERM].test if name != self.measure.name]
        listed += [self._other(self._measure(name)) for name in beside]
        train = [TableCell(self._main(of.train).text) for of in self._summaries]
        if any(cell.text != ABSENT for cell in train):
            listed.append(Column(self.title("Training"), f"train {short}", train))
        return [*listed, Column("Seconds per run", "s/run", self._seconds())]

    @property
    def _summaries(self) -> list[Summary]:
        return [self.results.summary[name] for name in self.rows]

    def _main(self, part: Mapping[str, Interval] | None) -> TableCell:
        """Return a mean of the main measure with its interval; a dash where it was not measured."""
        if part is None or self.measure.name not in part:
            return TableCell(ABSENT)
        mean, low, high = _possible(self.measure, part[self.measure.name])
        return TableCell(self.main.text(mean), self.main.interval(low, high))

    def _of(self, method: str) -> Difference | None:
        return next((one for one in self.results.comparisons if one.method == method), None)

    def _difference(self, method: str) -> TableCell:
        of = self._of(method)
        if of is None:
            return TableCell(ABSENT)
        text = self.main.text(of.difference, sign=True)
        return TableCell(text, self.main.interval(of.low, of.high, sign=True), self._is_found(of))

    def _p(self, method: str) -> TableCell:
        of = self._of(method)
        return TableCell(ABSENT) if of is None else TableCell(p_value(of.p_holm), "", self._is_found(of))

    def _is_found(self, of: Difference) -> bool:
        return is_finite(of.p_holm) and of.p_holm < LEVEL

    def _other(self, measure: Measure) -> Column:
        values = [_possible(measure, of.test[measure.name]) for of in self._summaries]
        digits, least = (4, 0) if measure.name in ("rmse", "mae") else (3, 3)
        written = significant([of.mean for of in values], digits, least, self.minus)
        if measure.percent:
            written = NumberFormat(100.0, 2, self.minus)
        elif measure.name == "r2":
            written = NumberFormat(1.0, 3, self.minus)
        cells = [TableCell(written.text(of.mean), written.interval(of.low, of.high)) for of in values]
        title = measure.short + (f",{_SPACE}%" if measure.percent else "")
        return Column(title, title.replace(_SPACE, " "), cells)

    def _seconds(self) -> list[TableCell]:
        seconds = [of.seconds for of in self._summaries]
        largest = max(filter(is_finite, seconds), default=0.0)
        written = NumberFormat(1.0, 2 if largest < 10.0 else 1 if largest < 100.0 else 0)
        return [TableCell(written.text(value)) for value in seconds]


def _possible(measure: Measure, of: Interval) -> Interval:
    """Return an interval cut to the values that a measure can take."""
    highest = 1.0 if measure.percent or measure.higher else math.inf
    lowest = -math.inf if measure.name == "r2" else 0.0
    return Interval(of.mean, max(lowest, of.low), min(highest, of.high))
