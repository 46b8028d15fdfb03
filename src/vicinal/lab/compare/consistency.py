"""Does what was read of a comparison fit together?

The types of its fields alone do not say that each method has a summary, or that an interval has its ends in order.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vicinal.lab import stored
from vicinal.lab.compare import measures
from vicinal.lab.compare.results import (
    ERM,
    FORMAT,
    Answers,
    DataInfo,
    Difference,
    Results,
    RunRecord,
    TemperatureScaling,
)
from vicinal.lab.errors import UserError
from vicinal.lab.records import Mismatch, to_json
from vicinal.lab.statistics import Interval

# what is measured of every run
MEASURED = {"classification": {"error", "nll", "brier", "ece"}, "regression": {"rmse", "mae", "r2"}}
_MOST = 1e100  # beyond which no number of a comparison lies: outputs are float32, and squared at most


def read(path: Path) -> Results:
    """Return what results.json holds.

    Raises:
        FileNotFoundError: it is not there.
        UserError: it cannot be read, is of another format, is not what was written, or contradicts itself.

    """
    advice = "rerun the command that made its folder, which writes it again"
    results: Results = stored.read_as(Results, path, FORMAT, advice)
    try:
        check(results)
    except Mismatch as error:
        raise UserError(f"{path} cannot be used: {error}; {advice}") from error
    return results


def check(results: Results) -> None:
    """Refuse results that contradict themselves: what shows results relies on what is checked here.

    Raises:
        Mismatch: naming the field.

    """
    _check_numbers(to_json(results), "")
    _check_data(results.data)
    seeds, classes = results.protocol.seeds, len(results.data.classes)
    try:
        measures.find(results.protocol.measure, classes)
    except UserError as error:
        raise Mismatch(f"protocol.measure cannot be {results.protocol.measure!r}") from error
    _need(seeds >= 1, "protocol.seeds", "be 1 or more")
    names = [method.name for method in results.methods]
    _need(len(set(names)) == len(names) > 0, "methods", "have names, each once")
    for i, method in enumerate(results.methods):
        _need(method.alpha is None or method.alpha > 0, f"methods[{i}].alpha", "be above 0")
    _check_summary(results)
    for i, run in enumerate(results.runs):
        check_run(run, f"runs[{i}]")
        _need(run.method in names, f"runs[{i}].method", "be one of the methods")
        _need(run.seed < seeds, f"runs[{i}].seed", f"be below {seeds}")
    found = {run.key for run in results.runs}
    _need(len(found) == len(results.runs) == len(names) * seeds, "runs", "hold each seed of each method once")
    bins = {len(run.reliability.count) for run in results.runs if run.reliability is not None}
    _need(len(bins) < 2, "runs", "have reliability in bins of one number")
    _check_differences(results)
    for key, chosen in results.chosen.items():
        _need(len(chosen) == seeds and set(chosen) <= set(names), f"chosen.{key}", "name a method of each seed")
    if (choice := results.choice) is not None:
        _need(choice.recommended in names, "choice.recommended", "be one of the methods")
        _need(len(choice.per_seed) == seeds, "choice.per_seed", f"hold {seeds}")
        for alpha, count in choice.counts.items():
            _need(_is_number(alpha), "choice.counts", "have numbers for keys")
            _need(count >= 0, f"choice.counts.{alpha}", "be 0 or more")
    if results.answers is not None:
        _check_answers(results.answers, results.data.classes, results.summary)
    if results.scaling is not None:
        _check_scaling(results.scaling, results)
    _need(results.model is None or results.model.epochs >= 1, "model.epochs", "be 1 or more")


def check_run(run: RunRecord, at: str = "") -> None:
    """Refuse the record of a run that contradicts itself.

    Raises:
        Mismatch: naming the field, within `at`.

    """
    where = f"{at}." if at else ""
    _need(run.seed >= 0, f"{where}seed", "be 0 or more")
    _need(run.epochs >= 0, f"{where}epochs", "be 0 or more")
    _need(not run.seconds < 0, f"{where}seconds", "be 0 or more")
    _need(not run.temperature <= 0, f"{where}temperature", "be above 0")
    sizes = {len(values) for values in run.curve.values()}
    _need(not run.curve or ("epoch" in run.curve and len(sizes) == 1), f"{where}curve", "have values of each epoch")
    _need(all(map(math.isfinite, run.curve.get("epoch", []))), f"{where}curve.epoch", "hold numbers")
    for part in ("train", "validation", "test", "perturbed"):
        for name, value in (getattr(run, part) or {}).items():
            share = name in measures.NAMES and measures.named(name).percent
            _need(not share or _is_share(value), f"{where}{part}.{name}", "lie in [0, 1]")
    if (bins := run.reliability) is not None:
        sizes = {len(bins.count), len(bins.confidence), len(bins.accuracy)}
        _need(len(sizes) == 1, f"{where}reliability", "have count, confidence and accuracy of each bin")
        _need(all(count >= 0 for count in bins.count), f"{where}reliability.count", "hold numbers from 0 up")
        for name, values in (("confidence", bins.confidence), ("accuracy", bins.accuracy)):
            _need(all(map(_is_share, values)), f"{where}reliability.{name}", "lie in [0, 1]")


def _need(holds: bool, at: str, must: str) -> None:
    if not holds:
        raise Mismatch(f"{at} must {must}")


def _is_share(value: float | None) -> bool:
    """Return True for a number in [0, 1], to rounding, and for one that is not there."""
    return value is None or math.isnan(value) or -1e-6 <= value <= 1 + 1e-6


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _check_numbers(value: Any, at: str) -> None:
    if isinstance(value, dict):
        for key, part in value.items():
            _check_numbers(part, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        for i, part in enumerate(value):
            _check_numbers(part, f"{at}[{i}]")
    elif isinstance(value, int | float):
        _need(-_MOST < value < _MOST, at, f"be below {_MOST:g}")


def _check_data(data: DataInfo) -> None:
    _need((data.table is None) == (data.kind != "table"), "data.table", "be there for a table alone")
    _need((data.folder is None) == (data.kind == "table"), "data.folder", "be there for a folder alone")
    if data.folder is not None:
        _need(len(data.folder.shape) == 3, "data.folder.shape", "hold channels, height and width")
    for i, column in enumerate(data.table.columns if data.table is not None else []):
        _need(
            (column.low is None) == (column.high is None), f"data.table.columns[{i}]", "have low and high, or neither"
        )
    _need(len(data.class_counts) == len(data.classes), "data.class_counts", "hold a count of each class")
    _need(all(count >= 0 for count in data.class_counts), "data.class_counts", "hold numbers from 0 up")


def _check_summary(results: Results) -> None:
    """Check that every method has a summary, and all of the same measures."""
    classes, summary = len(results.data.classes), results.summary
    for name in (ERM, *(method.name for method in results.methods), *results.chosen):
        _need(name in summary, "summary", f"hold {name!r}")
    wanted = summary[ERM].test.keys()
    _need(results.protocol.measure in wanted, f"summary.{ERM}.test", f"hold {results.protocol.measure!r}")
    for name, of in summary.items():
        _need(of.test.keys() == wanted, f"summary.{name}.test", "hold the measures of ERM")
        for part in ("train", "validation", "test", "perturbed"):
            _check_levels(getattr(of, part) or {}, classes, f"summary.{name}.{part}")


def _check_levels(levels: Mapping[str, Interval], classes: int, at: str) -> None:
    for name, interval in levels.items():
        try:
            measure = measures.find(name, classes)
        except UserError as error:
            raise Mismatch(f"{at} must hold measures of this task, found {name!r}") from error
        _check_interval(interval.low, interval.high, f"{at}.{name}")
        _need(not measure.percent or _is_share(interval.mean), f"{at}.{name}.mean", "lie in [0, 1]")


def _check_interval(low: float, high: float, at: str) -> None:
    _need(not low > high, f"{at}.low", "not exceed high")


def _check_differences(results: Results) -> None:
    known = results.summary[ERM].test.keys()
    listed = {"comparisons": results.comparisons, "beside": results.beside}
    for where, differences in listed.items():
        keys = [(one.method, one.measure) for one in differences]
        _need(len(set(keys)) == len(keys), where, "hold each difference once")
        for i, one in enumerate(differences):
            at = f"{where}[{i}]"
            _check_difference(one, results.protocol.seeds, at)
            _need(one.method in results.summary, f"{at}.method", "have a summary")
            main = (results.protocol.measure,)
            wanted: Collection[str] = main if where == "comparisons" else known
            _need(one.measure in wanted, f"{at}.measure", f"be one of {', '.join(wanted)}")


def _check_difference(one: Difference, seeds: int, at: str) -> None:
    _check_interval(one.low, one.high, at)
    chances: Iterable[float | None] = (one.p, one.p_holm, one.p_strict, *one.chances)
    _need(all(map(_is_share, chances)), at, "have p-values and chances in [0, 1]")
    _need(len(one.per_seed) == seeds, f"{at}.per_seed", f"hold {seeds}")


def _check_answers(answers: Answers, classes: Sequence[str], known: Collection[str]) -> None:
    of = answers.methods
    _need(len(of) == len(set(of)) == 2 and set(of) <= set(known), "answers.methods", "be two of the methods")
    _need([one.name for one in answers.classes] == list(classes), "answers.classes", "be those of the data")
    for i, one in enumerate(answers.classes):
        for name, shares in (("recall", one.recall), ("precision", one.precision)):
            _need(shares.keys() == set(of), f"answers.classes[{i}].{name}", "be of answers.methods")
            _need(all(map(_is_share, shares.values())), f"answers.classes[{i}].{name}", "lie in [0, 1]")
    _need(answers.confusion.keys() in (set(), set(of)), "answers.confusion", "be of answers.methods")
    for name, rows in answers.confusion.items():
        square = len(rows) == len(classes) and all(len(row) == len(classes) for row in rows)
        _need(square, f"answers.confusion.{name}", "have a row and a column of each class")
        counts = (count for row in rows for count in row)
        _need(all(count >= 0 for count in counts), f"answers.confusion.{name}", "hold numbers from 0 up")
    for i, pair in enumerate(answers.confused):
        _need(pair.counts.keys() == set(of), f"answers.confused[{i}].counts", "be of answers.methods")
        within = pair.tested > 0 and all(0 <= count <= pair.tested for count in pair.counts.values())
        _need(within, f"answers.confused[{i}]", "have counts from 0 to tested")


def _check_scaling(scaling: TemperatureScaling, results: Results) -> None:
    names = scaling.temperatures.keys()
    parts = {"before": scaling.before, "after": scaling.after}
    for where, levels in parts.items():
        _need(levels.keys() == names, f"scaling.{where}", "be of the methods of scaling.temperatures")
        for name, of in levels.items():
            _check_levels(of, len(results.data.classes), f"scaling.{where}.{name}")
            _need(of.keys() == scaling.before[name].keys(), f"scaling.{where}.{name}", "hold the measures of before")
            _need(of.keys() <= results.summary[ERM].test.keys(), f"scaling.{where}.{name}", "hold measures of summary")
    for name, values in scaling.temperatures.items():
        fits = len(values) == results.protocol.seeds and all(math.isfinite(t) and t > 0 for t in values)
        _need(fits, f"scaling.temperatures.{name}", "hold a number above 0 of each seed")
