"""From the results of a comparison to its page: one HTML file that needs nothing but itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from vicinal.lab import atomic, pages, terminal
from vicinal.lab.compare import figures, sections
from vicinal.lab.compare.results import ERM, DataInfo, Difference, Protocol, Results
from vicinal.lab.compare.view import View
from vicinal.lab.drawing import printable
from vicinal.lab.format import ABSENT, MINUS, is_finite, p_value, shortened

CLASSES_SHOWN = 12
_QUOTE, _SPACE = "\N{RIGHT SINGLE QUOTATION MARK}", "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Fact:
    """A name and what belongs to it."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class FigureGroup:
    """One or two figures; their keys are pairs of a line style's name and what it stands for."""

    svgs: list[Markup]
    title: str
    caption: str
    keys: list[tuple[str, str]] = field(default_factory=list)


def render(results: Results) -> str:
    """Return the whole report as one HTML document; the same results give the same text."""
    view = View(results, MINUS)
    verdict = results.verdict
    return pages.template(__package__ or "vicinal.lab.compare", "report.html.j2").render(
        style=pages.style(),
        title=f"{view.about} on {results.data.name}: {verdict.kind}",
        results=results,
        verdict=verdict,
        tone={"helps": "good", "harms": "bad"}.get(verdict.kind, "open"),
        created=_date(results.created),
        facts=_facts(view),
        chances=sections.chances(view),
        rivals=_rivals(view),
        claims=sections.claims(view),
        sections=sections,
        count=_count,
        cut=_cut,
        view=view,
        columns=view.columns(),
        panels=_panels(view),
        measured=_measured(results),
        versions=", ".join(f"{name} {version}" for name, version in results.versions.items()),
        machine=_machine(results.machine),
    )


def write(results: Results, path: Path) -> None:
    """Write the report to path: a reader finds the old file or the whole new one, never a part."""
    atomic.write(Path(path), render(results).encode("utf-8", "replace"))


def _facts(view: View) -> list[Fact]:
    """Return the verdict's numbers."""
    told, number = view.told, view.main
    if told is None:
        return [_level(view, ERM)]
    points = view.points
    low, high = (number.text(end, sign=True) for end in (told.low, told.high))
    size = f"{number.text(told.difference, sign=True)}{points}"
    same = f"within {number.text(told.same)}{points} is practically the same"
    found = is_finite(told.detectable) and 0 < told.detectable <= view.measure.largest
    detectable = f"{number.text(told.detectable)}{points}" if found else ABSENT
    return [
        Fact("Difference to ERM", size, f"95{_SPACE}% interval {low} to {high}" if is_finite(told.low) else ""),
        Fact("Smallest it could have shown", detectable, f"in 4 of 5 cases; {same}" if is_finite(told.same) else ""),
        Fact("p value, Holm", p_value(told.p_holm), _units(view)),
        Fact("p value, strictest", p_value(told.p_strict), _strict(view, told)),
        _level(view, ERM),
        _level(view, told.method),
    ]


def _level(view: View, method: str) -> Fact:
    own, number = view.level(method), view.main
    unit = f"{_SPACE}%" if view.measure.percent else ""
    ends = f"{number.text(own.low)} to {number.text(own.high)}" if is_finite(own.low) else ""
    return Fact(f"Test {view.measure.short}, {view.name(method)}", f"{number.text(own.mean)}{unit}", ends)


def _units(view: View) -> str:
    tests = len([one for one in view.results.comparisons if one.primary]) + len(view.results.beside)
    unit = "groups" if view.results.protocol.splits == "groups" else view.results.data.noun
    return f"{unit} and seeds are the units; " + (f"corrected for {tests} tests" if tests > 1 else "one test")


def _strict(view: View, told: Difference) -> str:
    if told.p_strict is None:
        return f"none: all seeds test the same {view.results.data.noun}"
    return f"{_count(view.results.protocol.seeds, 'seed')} alone are the units; uncorrected"


def _cut(name: str, longest: int = 34) -> Markup:
    """Return a name that fits its place, with the whole one as its title where it is shortened."""
    short = printable(name, longest)
    if short == name:
        return escape(short)
    return Markup('<span title="{}">{}</span>').format(terminal.printable(name), short)


# -- figures and what stands beneath them ------------------------------------------------------------------------------


def _panels(view: View) -> list[FigureGroup]:
    """Return the figures that have something to show."""
    drawn = (_differences(view), _alphas(view), _calibration(view), _learning(view))
    return [panel for panel in drawn if panel.svgs]


def _rivals(view: View) -> Markup:
    return Markup(figures.rivals(view, sections.rivals(view)))


def _svgs(*drawn: str) -> list[Markup]:
    return [Markup(svg) for svg in drawn if svg]


def _differences(view: View) -> FigureGroup:
    return FigureGroup(
        _svgs(figures.differences(view)),
        "Does it differ from ERM?",
        f"Each dot is one seed: the method{_QUOTE}s test {view.measure.short} minus ERM{_QUOTE}s, on the "
        f"same {view.results.data.noun}. The diamond is the mean over {view.results.protocol.seeds} seeds, the bar its "
        f"95{_SPACE}% interval. An interval across zero leaves the sign open.",
    )


def _alphas(view: View) -> FigureGroup:
    return FigureGroup(
        _svgs(figures.by_alpha(view)),
        "Which alpha?",
        f"Mean over seeds with 95{_SPACE}% intervals. These intervals hold the spread between seeds that a paired "
        "difference removes, so they may overlap where the figure of differences is clear.",
        [("mix", view.family), ("band", ERM)],
    )


def _calibration(view: View) -> FigureGroup:
    return FigureGroup(
        _svgs(*(figures.reliability(view, name) for name in view.front)),
        "Can its confidence be believed?",
        f"Test predictions of all {view.results.protocol.seeds} seeds in 15 bins by confidence. On the dashed line a model "
        "is right as often as it claims; below it, it claims too much. Hollow: fewer than 20 predictions.",
    )


def _learning(view: View) -> FigureGroup:
    others = [("faint", "other methods")] if len(view.networks) > len(view.front) else []
    return FigureGroup(
        _svgs(*(figures.learning(view, key) for key in figures.LEARNING)),
        "How does it learn?",
        "Median over seeds; the shade spans the quartiles. The first epochs may leave the frame.",
        [(view.tone(name), name) for name in view.front] + others,
    )


# -- how it was measured -----------------------------------------------------------------------------------------------


def _measured(results: Results) -> list[Fact]:
    data, protocol = results.data, results.protocol
    noun = data.noun
    target = f"{shortened(data.target)}, {_classes(data)}" if data.classes else shortened(data.target)
    sizes = (
        f"{protocol.train_examples} for training, {protocol.validation_examples} for validation, "
        f"{protocol.test_examples} for testing"
    )
    facts = [
        Fact("Data", f"{data.name} ({data.source})", f"SHA-256 {data.sha256}"),
        *_size(data),
        Fact("Target", target),
        Fact(f"{noun.capitalize()} of each seed", sizes),
        Fact("Model", _model(protocol)),
        Fact("Training", _training(protocol)),
    ]
    if protocol.model.augment:
        changed = "shifted at random and mirrored" if protocol.model.augment == "flip" else "shifted at random"
        facts.append(Fact("Augmentation", f"training images {changed}, the same for every method"))
    if protocol.label_noise:
        share = f"{protocol.label_noise:g} of the training and validation targets"
        facts.append(Fact("Label noise", f"{share} replaced by random ones; test targets stay"))
    if protocol.input_noise is not None:
        deviations = f"Gaussian noise of {protocol.input_noise:g} standard deviations on inputs"
        facts.append(Fact("Perturbed inputs", f"the test {noun} once more, with {deviations}"))
    if results.choice and (counts := results.choice.counts):
        chosen = (f"{alpha} in {_count(counts[alpha], 'seed')}" for alpha in sorted(counts, key=float) if counts[alpha])
        facts.append(Fact("Alpha chosen on validation", ", ".join(chosen)))
    return facts


def _size(data: DataInfo) -> list[Fact]:
    count = _count(data.examples, data.noun.removesuffix("s"))
    if data.table is not None:
        table, columns = data.table, [_count(data.table.numeric_columns, "number column")]
        if table.categorical_columns:
            columns.append(_count(table.categorical_columns, "category column"))
        missing = _count(table.missing_cells, "missing cell") if table.missing_cells else "no missing cells"
        inputs = _count(table.inputs, "input")
        return [Fact("Table", f"{count}; {' and '.join(columns)}, {inputs} to the model; {missing}")]
    assert data.folder is not None
    _, height, width = data.folder.shape
    how = (
        f"the central square of each, {height} x {width} pixels"
        if data.kind == "images"
        else f"spectrograms of the first second, {height} frequency bands x {width} frames"
    )
    return [Fact(data.noun.capitalize(), f"{count}; {how}")]


def _model(protocol: Protocol) -> str:
    parameters = _count(protocol.model.parameters, "parameter")
    if protocol.model.hidden:
        return f"fully connected, hidden layers of {', '.join(map(str, protocol.model.hidden))} units, {parameters}"
    return f"{protocol.model.name}, {parameters}"


def _training(protocol: Protocol) -> str:
    falling = ", falling to 0 along a half cosine" if protocol.model.schedule == "cosine" else ""
    return (
        f"{protocol.model.optimizer}, learning rate {protocol.learning_rate:g}{falling}; "
        f"{_count(protocol.steps, 'step')} ({_count(protocol.epochs, 'epoch')}) in batches of {protocol.batch_size}"
    )


def _classes(data: DataInfo) -> str:
    low, high = min(data.class_counts), max(data.class_counts)
    each = [f"{shortened(name)} ({count})" for name, count in zip(data.classes, data.class_counts, strict=True)]
    named, more = ", ".join(each[:CLASSES_SHOWN]), len(each) - CLASSES_SHOWN
    rest = f" and {more} more, of {low if low == high else f'{low} to {high}'} {data.noun}" if more > 0 else ""
    return f"{_count(len(data.classes), 'class', 'classes')}: {named}{rest}"


def _count(number: int, noun: str, plural: str = "") -> str:
    written = f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{written} {noun if number == 1 else plural or noun + 's'}"


def _date(created: str) -> str:
    try:
        return datetime.fromisoformat(created).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return created


def _machine(machine: dict[str, Any]) -> str:
    return ", ".join(
        _count(value, "core") if key == "cores" and type(value) is int else str(value) for key, value in machine.items()
    )
