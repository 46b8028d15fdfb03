"""Sections of the page beside the table of methods and the figures, as rows of text: what results say, written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from vicinal.lab.compare import measures
from vicinal.lab.compare.baselines import BASELINE
from vicinal.lab.compare.results import ERM, Difference
from vicinal.lab.compare.view import TableCell, View
from vicinal.lab.compare.words import direction, format_of
from vicinal.lab.data.column_reading import ColumnSummary
from vicinal.lab.format import ABSENT, NumberFormat, is_finite, p_value
from vicinal.lab.statistics import Interval

CLASSES_LISTED = 30
_PERCENT = 1  # decimals of shares of a class


# -- the verdict ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chance:
    """One part of the bar of chances: what it is the chance of, its share in percent, and that as text."""

    kind: str
    name: str
    share: float
    text: str


def chances(view: View) -> list[Chance]:
    """Return the probabilities that the method of the verdict is better, practically the same and worse."""
    told = view.told
    if told is None or not all(map(is_finite, told.chances)):
        return []
    names = (("mix", "better"), ("same", "practically the same"), ("other", "worse"))
    return [
        Chance(kind, name, 100 * share, f"{100 * share:.0f}")
        for (kind, name), share in zip(names, told.chances, strict=True)
    ]


def rivals(view: View) -> list[str]:
    """Return the methods of the figure "What else answers": the baselines, ERM, and the method of the verdict."""
    baselines = [name for name, family in view.families.items() if family == BASELINE]
    told = [view.told.method] if view.told else []
    return [*baselines, ERM, *told]


@dataclass(frozen=True)
class ClaimRow:
    """One of the differences that the verdict is about."""

    measure: str
    erm: str
    mine: str
    difference: TableCell
    direction: str
    p: str


def claims(view: View) -> dict[str, list[ClaimRow]]:
    """Return the differences of the main measure, of likelihood and of calibration, by method."""
    primary = [one for one in view.results.comparisons if one.primary]
    beside = view.results.beside
    by_method = {main.method: (main, *(b for b in beside if b.method == main.method)) for main in primary}
    return {view.name(method): [_claim(view, one) for one in of] for method, of in by_method.items()}


def _claim(view: View, one: Difference) -> ClaimRow:
    measure = measures.find(one.measure, len(view.results.data.classes))
    summary = view.results.summary
    number = format_of(measure, summary, [one], view.minus)
    word = direction(one)
    cell = TableCell(
        number.text(one.difference, sign=True),
        number.interval(one.low, one.high, sign=True),
        word in ("better", "worse"),
    )
    erm, mine = (number.text(summary[name].test[one.measure].mean) for name in (ERM, one.method))
    title = f"{measure.title}, {'%' if measure.percent else ''}".removesuffix(", ")
    return ClaimRow(title[0].upper() + title[1:], erm, mine, cell, word, p_value(one.p_holm))


# -- classes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MatrixCell:
    """One cell of a confusion matrix: its count, its share of the true class, and whether it is the right answer."""

    count: int
    share: float
    text: str
    right: bool

    @property
    def tint(self) -> float:
        """How much of its color a cell has, in percent; text stays legible on it in both modes."""
        return 45 * self.share if self.right else 8 + 37 * self.share


@dataclass(frozen=True)
class Matrix:
    """The confusion matrix of one method: rows of cells by true class."""

    method: str
    rows: list[tuple[str, list[MatrixCell]]]


def matrices(view: View) -> list[Matrix]:
    """Return the confusion matrices; none for many classes."""
    answers = view.results.answers
    if answers is None:
        return []
    names = [one.name for one in answers.classes]
    return [
        Matrix(
            view.name(method), [(name, _cells(row, i)) for i, (name, row) in enumerate(zip(names, counts, strict=True))]
        )
        for method, counts in answers.confusion.items()
    ]


def _cells(row: Sequence[int], true: int) -> list[MatrixCell]:
    total = sum(row)
    number = NumberFormat(100.0, _PERCENT)
    shares = [count / total if total else float("nan") for count in row]
    return [
        MatrixCell(count, share if total else 0.0, number.text(share), i == true)
        for i, (count, share) in enumerate(zip(row, shares, strict=True))
    ]


@dataclass(frozen=True)
class ConfusedRow:
    """A class taken for another, with its share of the true class and its count for each method."""

    true: str
    answer: str
    cells: list[TableCell]


def confused(view: View) -> list[ConfusedRow]:
    """Return the pairs of classes that are confused most, where there are too many for a matrix."""
    answers, number = view.results.answers, NumberFormat(100.0, _PERCENT)
    if answers is None:
        return []
    return [
        ConfusedRow(
            one.true,
            one.answer,
            [TableCell(number.text(one.counts[m] / one.tested), str(one.counts[m])) for m in answers.methods],
        )
        for one in answers.confused
    ]


@dataclass(frozen=True)
class ClassRow:
    """One class: its examples, and recall and precision of ERM, of the method, and their difference."""

    name: str
    examples: int
    cells: list[str]


def class_rows(view: View) -> list[ClassRow]:
    """Return the classes; of many, those whose recall differs most."""
    answers = view.results.answers
    if answers is None:
        return []
    erm, told = answers.methods
    order = list(range(len(answers.classes)))
    if len(order) > CLASSES_LISTED:

        def change(i: int) -> float:
            of = answers.classes[i].recall
            return abs(of[told] - of[erm]) if is_finite(of[told]) and is_finite(of[erm]) else -1.0

        order = sorted(order, key=change, reverse=True)[:CLASSES_LISTED]
    number, rows = NumberFormat(100.0, _PERCENT, view.minus), []
    for i in order:
        one = answers.classes[i]
        pairs = [(of[erm], of[told]) for of in (one.recall, one.precision)]
        cells = [text for a, b in pairs for text in (number.text(a), number.text(b), number.text(b - a, sign=True))]
        rows.append(ClassRow(one.name, view.results.data.class_counts[i], cells))
    return rows


# -- temperature ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScalingRow:
    """One method: its temperature, and each measure before and after."""

    method: str
    temperature: TableCell
    cells: list[TableCell]


def scaling_rows(view: View) -> list[ScalingRow]:
    """Return likelihood and calibration before and after temperature scaling."""
    scaling = view.results.scaling
    if scaling is None:
        return []
    rows: list[ScalingRow] = []
    for method, temperatures in scaling.temperatures.items():
        parts = (scaling.before[method], scaling.after[method])
        cells = [_level(view, name, part[name]) for name in scaling.before[method] for part in parts]
        ends = f"{min(temperatures):.2f} to {max(temperatures):.2f}"
        rows.append(ScalingRow(view.name(method), TableCell(f"{median(temperatures):.2f}", ends), cells))
    return rows


def _level(view: View, name: str, of: Interval) -> TableCell:
    measure = measures.find(name, len(view.results.data.classes))
    number = format_of(measure, view.results.summary, minus=view.minus)
    return TableCell(number.text(of.mean), number.interval(max(0.0, of.low), of.high))


# -- the table as read ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ColumnsRead:
    """The columns of a table as they were read: titles, and a row of texts for each."""

    titles: list[str]
    rows: list[tuple[str, list[str]]]


def columns_read(view: View) -> ColumnsRead | None:
    """Return the columns of a table as they were read, where results hold them."""
    table = view.results.data.table
    if table is None or not table.columns:
        return None
    rows = [(one.name, [one.role, one.kind, _missing(one), one.contents or ABSENT]) for one in table.columns]
    return ColumnsRead(["Role", "Kind", "Missing", "Contents"], rows)


def _missing(column: ColumnSummary) -> str:
    """Return the number of missing cells, with the words that stood for them."""
    words = ", ".join(f"{count} {word!r}" for word, count in column.spelled.items() if word)
    return f"{column.missing} ({words})" if words else str(column.missing)
