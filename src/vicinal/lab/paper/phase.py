"""Where mixup helps and where it hurts: its effect over width, epochs, training examples and label noise."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from vicinal.lab import atomic
from vicinal.lab.data import synthetic, tables
from vicinal.lab.data.table import Table
from vicinal.lab.paper.claims import Claim
from vicinal.lab.paper.phases import claims as claims_of_phases
from vicinal.lab.paper.phases.conditions import (
    FACTORS,
    MEASURES,
    Condition,
    Measured,
    effects,
    is_clear,
    mean_by_seed,
)
from vicinal.lab.paper.phases.rule import RuleCase, RuleTest, assess, binomial_interval
from vicinal.lab.paper.phases.runs import Grid, MethodScores, PhaseResult, mixup, run_images, run_tables
from vicinal.lab.paper.rows import ERM, first_done
from vicinal.lab.paper.study import AtScale, Job, Results, Row, Scale, Study
from vicinal.lab.records import to_json

IMAGES = Grid(("cifar10",), (4, 16), (200, 800), (5, 20), (0.0, 0.4), (1.0,), 20)
TABLES = Grid(
    ("abalone", "digits", "htru2", "phishing"), (16, 128), (100, 400), (5, 15, 50), (0.0, 0.2, 0.4), (0.2, 1.0), 40
)


@dataclass(frozen=True)
class PhaseScale(AtScale):
    """A scale of the study of when mixup helps.

    Args:
        images: grid of the images.
        tables: grid of the tables.

    """

    images: Grid = IMAGES
    tables: Grid = TABLES

    @property
    def grids(self) -> dict[str, Grid]:
        """Both grids by the names of their families."""
        return {"images": self.images, "tables": self.tables}


_DATA = "CIFAR-10, and the UCI sets abalone, htru2 and phishing"

# the paper has no such section, so that its scale is ours
SCALES: Mapping[Scale, PhaseScale] = {
    "smoke": PhaseScale(
        data="none (synthetic images and tables)",
        minutes=0.2,
        seeds=2,
        deviations=("Synthetic data, 1 and 2 epochs, 2 seeds: the figures mean nothing.",),
        images=Grid(("synthetic-images",), (4, 16), (20, 40), (1, 2), (0.0, 0.4), (1.0,), 2),
        tables=Grid(("first", "second"), (16, 128), (16, 32), (1, 2), (0.0, 0.4), (0.2, 1.0), 2),
    ),
    "small": PhaseScale(
        data=_DATA,
        minutes=10,
        seeds=10,
        deviations=(
            "The wider network of the tables has layers of 64 instead of 128; 10 seeds of each condition of the tables "
            "instead of 40, and 5 of the images instead of 20.",
        ),
        images=replace(IMAGES, seeds=5),
        tables=replace(TABLES, widths=(16, 64), seeds=10),
    ),
    "paper": PhaseScale(data=_DATA, minutes=90, seeds=40, full=True),
}


CLASSES = {"cifar10": 10, "abalone": 28, "digits": 10, "htru2": 2, "phishing": 2}
CLASSES |= {"synthetic-images": 10, "first": 3, "second": 3}  # of the quick run

Score = Callable[[Condition, MethodScores], float]
# what a rule looks at, in %: mixup is to help where this number of ERM is at most the threshold
SCORES: dict[str, Score] = {
    "training error": lambda _, erm: 100 * statistics.fmean(erm.train_error),
    "gap": lambda _, erm: -100 * statistics.fmean(erm.gap),
    "training error less the share of wrong labels (chosen after the runs)": lambda condition, erm: (
        100 * (statistics.fmean(erm.train_error) - wrong_labels(condition))
    ),
}


def wrong_labels(condition: Condition) -> float:
    """Return the share of training labels that are wrong, about: random ones are the true one in 1 of C cases."""
    return condition.noise * (1 - 1 / CLASSES[condition.data])


class PhaseStudy(Study):
    """When does mixup help, and does ERM's training error say so beforehand?

    Paper: no such diagram. Its discussion says that a larger alpha raises the training error on real data and narrows the
    gap to the test error, and conjectures that a larger model is less sensitive to a large alpha, so that mixup gains more;
    its section 3.1, that larger models and longer training gain more.

    Here: every combination of two widths, of training examples, epochs and label noise, on CIFAR-10 and on four tables
    (abalone, digits, htru2, phishing). The network of the images has three-by-three convolutions, 4 or 16 channels wide at
    first; it is trained on 200 or 800 images, not augmented, for 5 or 20 epochs in batches of 32 by Adam from 0.003 along
    a half cosine, with 0 or 40 % of the labels replaced by random ones, by ERM and by mixup with alpha = 1. The
    network of the tables has two hidden layers of 16 or 128; it is trained on 100 or 400 rows in batches of 16 by Adam at
    0.001, with 0, 20 or 40 % of the labels replaced, by ERM and by mixup with alpha = 0.2 and 1, and measured
    after 5, 15 and 50 epochs of one run. A seed draws the training examples (stratified), the noise, the first weights and
    the order, which all methods share; tables also draw the test rows. Nothing is stopped early or chosen: a gain here may
    be one that early stopping would give too. Up to 2,000 test examples with their true labels.

    An effect is mixup minus ERM, the mean over seeds, whose intervals take seeds as independent (Student's t; those of
    digits overlap most, 400 of 1,797 rows). It is clear where its 95 % interval excludes 0.

    The rule: mixup helps (the effect is below 0) where ERM fits its training set, that is where its training error on the
    examples as they are, against the labels it was trained on, is at most a threshold. Beside it the same with the gap
    of ERM, test error less training error, at least a threshold; luck favors this one, for ERM's test error is in the
    gap and in the effect. Thresholds are fitted on one half of the conditions and tested on the other: datasets, widths
    and numbers of examples are numbered from 0 in the order above, and a condition is for fitting if the sum of its three
    numbers is even, so that conditions with the same examples and network, which are alike, lie on one side. The share
    of signs that are right has the exact binomial interval, which takes conditions for independent, and stands beside the
    share that has the sign that is commoner among the fitted ones. Once over all conditions, and once over the clear ones.

    The grids were chosen after a look at ERM's errors alone, so that both regimes occur; the small one so that it takes
    minutes on two cores.

    Added when results were there, so that they do not test it: clean labels and label noise are counted apart, for noise
    may break the rule; and the rule by ERM's training error less the share of wrong labels, which is below 0 where ERM
    fits wrong labels too.
    """

    name: ClassVar[str] = "phase"
    section = "5, discussion"
    title = "When mixup helps"
    scales = SCALES

    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Return the jobs of the tables, all seeds at once, then those of the images, seed by seed."""
        return [
            Job(
                _job_name(data, width, grid.rows[i], start),
                partial(run, scale, family, data, width, grid.rows[i], start),
                kind=PhaseResult,
            )
            for i in range(2)  # few examples first
            for family, grid in reversed(SCALES[scale].grids.items())
            if i < len(grid.rows)
            for start, data, width in product(_starts(family, grid), grid.data, grid.widths)
        ]

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return the effect at each level of each factor, then how the rules do."""
        measured = collect(scale, done)
        return [*_factor_rows(scale, measured), *_rule_rows(scale, measured)]

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return what the paper says of capacity, of training time and of alpha."""
        if scale == "smoke":
            return ()
        return claims_of_phases.make(SCALES[scale].grids, collect(scale, done))

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw every condition: the effect of mixup by ERM's training error."""
        from vicinal.lab.paper.phases import figure  # brings matplotlib, which takes a second

        measured = collect(scale, done)
        if not measured:
            return ()
        path = folder / "phase.svg"
        atomic.write(path, figure.draw(measured, rule_threshold(scale, measured)))
        return (path,)


def _job_name(data: str, width: int, rows: int, start: int) -> str:
    return f"{data}-width{width}-rows{rows}-seed{start}"


def _starts(family: str, grid: Grid) -> range:
    """Return the first seed of each job: one seed a job of images, all seeds of tables, which are trained at once."""
    return range(0, grid.seeds, 1 if family == "images" else grid.seeds)


def run(scale: Scale, family: str, data: str, width: int, rows: int, start: int, folder: Path) -> dict[str, Any]:
    """Run a job."""
    grid = SCALES[scale].grids[family]
    if family == "images":
        return to_json(run_images(grid, data, width, rows, start))
    return to_json(run_tables(grid, load_table(scale, data), width, rows))


def load_table(scale: Scale, data: str) -> Table:
    """Read a table, or draw what stands in for it in the quick run."""
    if scale == "smoke":
        return synthetic.table(data, classes=3, seed=SCALES[scale].tables.data.index(data))
    return tables.load(data)


# -- from jobs to conditions -------------------------------------------------------------------------------------------


def collect(scale: Scale, done: Results) -> Measured:
    """Return the scores of each condition that is done, in the order of the grids, seeds from the first on."""
    found: dict[Condition, dict[str, MethodScores]] = {}
    for family, grid in SCALES[scale].grids.items():
        for data, width, rows in product(grid.data, grid.widths, grid.rows):
            names = [_job_name(data, width, rows, start) for start in _starts(family, grid)]
            for result in first_done(PhaseResult, done, names):
                for outcome in result.outcomes:
                    condition = Condition(family, data, width, rows, outcome.epochs, outcome.noise)
                    found[condition] = _joined(found.get(condition, {}), outcome.methods)
    return found


def _joined(first: Mapping[str, MethodScores], second: Mapping[str, MethodScores]) -> dict[str, MethodScores]:
    """Return the scores of more seeds behind those of the first ones."""
    if not first:
        return dict(second)
    return {
        name: MethodScores(
            first[name].train_error + of.train_error,
            first[name].test_error + of.test_error,
            first[name].test_nll + of.test_nll,
        )
        for name, of in second.items()
    }


# -- rows --------------------------------------------------------------------------------------------------------------


def _factor_rows(scale: Scale, measured: Measured) -> Iterator[Row]:
    """Yield, for each level of each factor, ERM's training error and the effects, means over all its conditions."""
    for family, grid in SCALES[scale].grids.items():
        for place, levels, title in FACTORS.values():
            for level in levels(grid):
                mine = {c: of for c, of in measured.items() if c.family == family and place(c) == level}
                yield from _level_rows(f"{family}, {title.format(level)}", mine, grid.alphas)


def _level_rows(name: str, measured: Measured, alphas: Sequence[float]) -> Iterator[Row]:
    errors = [[100 * value for value in methods[ERM].train_error] for methods in measured.values()]
    yield Row(f"{name}, ERM, training error", "training error, %", None, mean_by_seed(errors))
    for alpha, (measure, (unit, _, _)) in product(alphas, MEASURES.items()):
        found = list(effects(measured, alpha, measure).values())
        clear = [statistics.fmean(effect) < 0 for effect in found if is_clear(effect)]
        note = f"of {len(found)} conditions {sum(clear)} clearly lower, {len(clear) - sum(clear)} clearly higher"
        yield Row(
            f"{name}, {mixup(alpha)}, {measure}",
            f"mixup minus ERM, {unit}",
            None,
            mean_by_seed(found),
            note=note if found else "",
        )


def is_for_fitting(scale: Scale, condition: Condition) -> bool:
    """Return whether the threshold is fitted on a condition; else the rule is tested on it."""
    grid = SCALES[scale].grids[condition.family]
    known = [data for of in SCALES[scale].grids.values() for data in of.data]
    places = known.index(condition.data), grid.widths.index(condition.width), grid.rows.index(condition.rows)
    return sum(places) % 2 == 0


def cases(
    scale: Scale, measured: Measured, score: str, alpha: float, measure: str, clear: bool
) -> tuple[list[RuleCase], list[RuleCase]]:
    """Return the conditions to fit the rule on, and those to test it on.

    Args:
        scale: of the study.
        measured: the scores of all conditions.
        score: of ERM, a key of `SCORES`.
        alpha: of mixup.
        measure: of the effect, a key of `MEASURES`.
        clear: only those whose effect is clear.

    """
    sides: tuple[list[RuleCase], list[RuleCase]] = [], []
    for condition, effect in effects(measured, alpha, measure).items():
        if not clear or is_clear(effect):
            of_erm = SCORES[score](condition, measured[condition][ERM])
            case = RuleCase(condition.setting, of_erm, statistics.fmean(effect), condition.noise > 0)
            sides[not is_for_fitting(scale, condition)].append(case)
    return sides


def rule_threshold(scale: Scale, measured: Measured) -> float | None:
    """Return the threshold on ERM's training error, %, of the rule for the test error at alpha = 1; None: not fitted."""
    fitted, held_out = cases(scale, measured, "training error", 1.0, "test error", clear=False)
    return assess(fitted, held_out).threshold if fitted else None


def _rule_rows(scale: Scale, measured: Measured) -> Iterator[Row]:
    """Yield the share of held-out signs that each rule says, and that the commoner sign says."""
    alphas = sorted({alpha for grid in SCALES[scale].grids.values() for alpha in grid.alphas}, reverse=True)
    for alpha, measure, clear in product(alphas, MEASURES, (False, True)):
        about = f"{mixup(alpha)}, {measure}, {'clear' if clear else 'all'} held-out conditions"
        tests = {score: _assessed(scale, measured, score, alpha, measure, clear) for score in SCORES}
        for score, test in tests.items():
            note = "" if test is None else _note_on_rule(score, test)
            yield _rule_row(f"rule by ERM's {score}, {about}", test, test and test.right, note)
        test = tests["training error"]
        yield _rule_row(f"always the commoner sign, {about}", test, test and test.trivial)


def _assessed(scale: Scale, measured: Measured, score: str, alpha: float, measure: str, clear: bool) -> RuleTest | None:
    fitted, held_out = cases(scale, measured, score, alpha, measure, clear)
    return assess(fitted, held_out) if fitted and held_out else None


def _rule_row(name: str, test: RuleTest | None, right: int | None, note: str = "") -> Row:
    unit = "signs right, %"
    if test is None or right is None:
        return Row(name, unit, note="not run: no condition of this kind to fit on, or to test on")
    share, low, high = binomial_interval(right, test.total)
    said = f"{right} of {test.total}, 95 % interval {100 * low:.0f} to {100 * high:.0f} %"
    return Row(name, unit, None, (100 * share,), note="; ".join(filter(None, (said, note))))


def _note_on_rule(score: str, test: RuleTest) -> str:
    limit = f"at least {-test.threshold:.1f}" if score == "gap" else f"at most {test.threshold:.1f}"
    right, trivial, total = test.clean
    return (
        f"helps where it is {limit} %, fitted on {test.fitted}; against the commoner sign better in {test.better} "
        f"settings, worse in {test.worse}; with clean labels {right} of {total} right (commoner sign {trivial}), with label "
        f"noise {test.right - right} of {test.total - total} ({test.trivial - trivial})"
    )
