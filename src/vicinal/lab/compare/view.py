"""One view of results for the console, the page and its figures: which methods, and how numbers are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from vicinal.lab.compare.results import Difference, Results, Summary
from vicinal.lab.compare import measures
from vicinal.lab.compare.verdict import LEVEL, short_name
from vicinal.lab.compare.words import format_of
from vicinal.lab.format import ABSENT, NumberFormat, is_finite, p_value, significant
from vicinal.lab.statistics import Interval

_SPACE = "\N{NO-BREAK SPACE}"
_OTHERS = {"nll": "NLL", "brier": "Brier", "ece": "ECE, %", "mae": "MAE", "r2": "R\N{SUPERSCRIPT TWO}"}


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
    def measure(self) -> str:
        """Measure that methods are compared by."""
        return self.results.protocol.measure

    @property
    def is_error(self) -> bool:
        """True for classification, which is compared by the error."""
        return self.measure == "error"

    @cached_property
    def main(self) -> NumberFormat:
        """Format of that measure."""
        of = measures.find(self.measure, len(self.results.data.classes))
        return format_of(of, self.results.summary, self.minus)

    def title(self, part: str) -> str:
        """Return that measure's name on one part of the data, with its unit."""
        return f"{part} error,{_SPACE}%" if self.is_error else f"{part} RMSE"

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
        return {"erm": "erm", "named": "other"}.get(self.families.get(method, self.family), "mix")

    @property
    def erm(self) -> str | None:
        """Method without any mixing."""
        return next((name for name, family in self.families.items() if family == "erm"), None)

    @property
    def front(self) -> list[str]:
        """Methods in front in figures: ERM, and the recommended one, else the first that is not ERM."""
        names = [name for name in self.families if name != self.erm]
        recommended = self.results.choice.recommended if self.results.choice else None
        return ([self.erm] if self.erm else []) + ([recommended] if recommended in names else names[:1])

    @property
    def differences(self) -> list[Difference]:
        """Differences to ERM, primary ones first."""
        return sorted(self.results.comparisons, key=lambda one: not one.primary)

    @property
    def told(self) -> Difference | None:
        """Difference that the verdict is about."""
        return self._of(self.results.verdict.method)

    def name(self, method: str) -> str:
        """Return a method's name, short for the choice of alpha by validation data."""
        return method if method in self.families else short_name(method)

    # -- the table of methods

    @cached_property
    def rows(self) -> list[str]:
        """Methods in the order of the table: ERM, choices of alpha by validation data, and the others."""
        chosen = [name for name in self.results.summary if name not in self.families]
        return sorted([*chosen, *self.families], key=lambda name: name != self.erm)

    def kind(self, method: str) -> str:
        """Return what a row is: erm, primary or plain."""
        if method == self.erm:
            return "erm"
        return "primary" if self.told and method == self.told.method else "plain"

    def columns(self) -> list[Column]:
        """Return the columns of the table, the most wanted first."""
        unit = "error %" if self.is_error else "RMSE"
        noisy = f"Error on perturbed inputs,{_SPACE}%" if self.is_error else "RMSE on perturbed inputs"
        points = ", points" if self.is_error else ""
        others = ("nll", "brier", "ece") if self.is_error else ("mae", "r2")
        listed = [
            Column(self.title("Test"), f"test {unit}", [self._main(of.test) for of in self._summaries]),
            Column(f"Difference to ERM{points}", "minus ERM", [self._difference(name) for name in self.rows]),
            Column(f"p,{_SPACE}Holm", "p (Holm)", [self._p(name) for name in self.rows]),
        ]
        if self.results.protocol.input_noise is not None:
            listed.append(Column(noisy, f"perturbed {unit}", [self._main(of.perturbed) for of in self._summaries]))
        listed += [Column(_OTHERS[name], _OTHERS[name], self._other(name)) for name in others]
        train = [TableCell(self._main(of.train).text) for of in self._summaries]
        listed.append(Column(self.title("Training"), f"train {unit}", train))
        return [*listed, Column("Seconds per run", "s/run", self._seconds())]

    @property
    def _summaries(self) -> list[Summary]:
        return [self.results.summary[name] for name in self.rows]

    def _main(self, part: Mapping[str, Interval] | None) -> TableCell:
        """Return a mean of the main measure with its interval, which for an error ends at 0 and 100 %."""
        if part is None:
            return TableCell(ABSENT)
        mean, low, high = part[self.measure]
        low, high = (max(0.0, low), min(1.0, high)) if self.is_error else (low, high)
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

    def _other(self, name: str) -> list[TableCell]:
        values = [of.test[name] for of in self._summaries]
        digits, least = (4, 0) if name == "mae" else (3, 3)
        written = {"ece": NumberFormat(100.0, 2, self.minus), "r2": NumberFormat(1.0, 3, self.minus)}.get(
            name, significant([of.mean for of in values], digits, least, self.minus)
        )
        return [TableCell(written.text(of.mean), written.interval(of.low, of.high)) for of in values]

    def _seconds(self) -> list[TableCell]:
        seconds = [of.seconds for of in self._summaries]
        largest = max(filter(is_finite, seconds), default=0.0)
        written = NumberFormat(1.0, 2 if largest < 10.0 else 1 if largest < 100.0 else 0)
        return [TableCell(written.text(value)) for value in seconds]
