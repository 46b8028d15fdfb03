"""Where mixup helps and where it hurts: its effect over width, epochs, training examples and label noise."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any, ClassVar

import torch

import vicinal
from vicinal.lab import atomic
from vicinal.lab.data import loading, synthetic, tables
from vicinal.lab.data.dataset import InMemoryDataset
from vicinal.lab.data.encoded_splits import StackedSplit, encode_split, stack
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.splits import split_targets
from vicinal.lab.data.table import Table
from vicinal.lab.paper.claims import Claim, Evidence, Expected
from vicinal.lab.paper.phase_rule import Case, RuleTest, assess, binomial_interval
from vicinal.lab.paper.rows import ERM, first_done
from vicinal.lab.paper.study import AtScale, Job, Results, Row, Scale, Study
from vicinal.lab.recipe import Recipe
from vicinal.lab.records import to_json
from vicinal.lab.statistics import paired
from vicinal.lab.training import simple, stacked_mlp
from vicinal.lab.training.scores import classification, evaluate

MODELS = {4: "small-eighth", 16: "small-half"}  # by the channels of the first convolution
TEST = 2000  # test examples, fewer where a table has fewer left


@dataclass(frozen=True)
class Grid:
    """The conditions of one family of data sets: every combination.

    Args:
        data: names of the data sets.
        widths: of the network.
        rows: training examples.
        epochs: passes over them.
        noises: shares of the training labels that are replaced by random ones.
        alphas: of mixup.
        seeds: number of repeats.

    """

    data: tuple[str, ...]
    widths: tuple[int, int]
    rows: tuple[int, int]
    epochs: tuple[int, ...]
    noises: tuple[float, ...]
    alphas: tuple[float, ...]
    seeds: int

    @property
    def vicinities(self) -> dict[str, vicinal.Vicinity]:
        """ERM and mixup with each alpha, by their names."""
        found: dict[str, vicinal.Vicinity] = {ERM: vicinal.ERM()}
        return found | {mixup(alpha): vicinal.Mixup(alpha) for alpha in self.alphas}


@dataclass(frozen=True)
class PhaseScale(AtScale):
    """A scale of the study of when mixup helps.

    Args:
        images: grid of the images.
        tables: grid of the tables.

    """

    images: Grid = Grid(("cifar10",), (4, 16), (200, 800), (5, 20), (0.0, 0.4), (1.0,), 5)
    tables: Grid = Grid(
        ("abalone", "digits", "htru2", "phishing"), (16, 128), (100, 400), (5, 15, 50), (0.0, 0.2, 0.4), (0.2, 1.0), 10
    )

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
        minutes=15,
        seeds=10,
        deviations=("5 seeds of each condition of the images and 10 of the tables, instead of 20 and 40.",),
    ),
    "paper": PhaseScale(
        data=_DATA,
        minutes=60,
        seeds=40,
        full=True,
        images=replace(PhaseScale.images, seeds=20),
        tables=replace(PhaseScale.tables, seeds=40),
    ),
}


@dataclass(frozen=True)
class MethodScores:
    """What one method reached, one number per seed: errors as fractions, likelihoods in nats.

    The training error is on the training examples as they are, unmixed, against the labels they were trained on.
    """

    train_error: list[float]
    test_error: list[float]
    test_nll: list[float]

    @property
    def gap(self) -> list[float]:
        """Test error less training error."""
        return [test - train for test, train in zip(self.test_error, self.train_error, strict=True)]


@dataclass(frozen=True)
class Outcome:
    """What all methods reached after some epochs with some label noise."""

    epochs: int
    noise: float
    methods: dict[str, MethodScores]


@dataclass(frozen=True)
class PhaseResult:
    """What a job returned: all outcomes of one network on so many examples of a data set, for some seeds."""

    seeds: list[int]
    test_rows: int
    outcomes: list[Outcome]


@dataclass(frozen=True)
class Condition:
    """One point of the diagram."""

    family: str  # images or tables
    data: str
    width: int
    rows: int
    epochs: int
    noise: float

    @property
    def setting(self) -> str:
        """What the conditions share that have the same examples and the same network."""
        return f"{self.data}, width {self.width}, {self.rows} examples"


Measured = Mapping[Condition, Mapping[str, MethodScores]]
Of = Callable[[MethodScores], list[float]]

# name -> its unit, what is measured, and the factor to the unit
MEASURES: dict[str, tuple[str, Of, float]] = {
    "test error": ("points of test error", lambda scores: scores.test_error, 100.0),
    "test NLL": ("nats", lambda scores: scores.test_nll, 1.0),
}
TRAIN_ERROR: Of = lambda scores: scores.train_error  # noqa: E731
# what the rule looks at: mixup is to help where this number of ERM is at most the threshold
SCORES: dict[str, Of] = {
    "training error": TRAIN_ERROR,
    "gap": lambda scores: [-value for value in scores.gap],
}


class PhaseStudy(Study):
    """When does mixup help, and does ERM's training error say so beforehand?

    Paper: no such diagram. Its discussion says that a larger alpha raises the training error on real data and narrows the
    gap to the test error, and conjectures that a larger model is less sensitive to a large alpha, so that mixup gains more;
    its section 3.1, that larger models and longer training gain more.

    Here: every combination of two widths, of training examples, epochs and label noise, on CIFAR-10 and on four tables
    (abalone, digits, htru2, phishing). The network of the images has three-by-three convolutions, 4 or 16 channels wide at
    first; it is trained on 200 or 800 images, not augmented, for 5 or 20 epochs in batches of 32 by Adam from 0.003 along
    a half cosine, with 0 or 40 % of the labels replaced by random ones, by ERM and by mixup with alpha = 1, for 5 seeds. The
    network of the tables has two hidden layers of 16 or 128; it is trained on 100 or 400 rows in batches of 16 by Adam at
    0.001, with 0, 20 or 40 % of the labels replaced, by ERM and by mixup with alpha = 0.2 and 1, for 10 seeds, and measured
    after 5, 15 and 50 epochs of one run. A seed draws the training examples (stratified), the noise, the first weights and
    the order, which all methods share; tables also draw the test rows. Nothing is stopped early or chosen: a gain here may
    be one that early stopping would give too. Up to 2,000 test examples with their true labels.

    An effect is mixup minus ERM, the mean over seeds, whose intervals take seeds as independent (Student's t; those of
    digits overlap most, 400 of 1,797 rows). It is clear where its 95 % interval excludes 0.

    The rule: mixup helps (the effect is below 0) where ERM fits its training set, that is where its training error on the
    examples as they are, against the labels it was trained on, is at most a threshold. Beside it the same with the gap
    of ERM, test error less training error, at least a threshold; luck favors this one, for ERM's test error is in the
    gap and in the effect. Thresholds are fitted on one half of the conditions and tested on the other: data sets, widths
    and numbers of examples are numbered from 0 in the order above, and a condition is for fitting if the sum of its three
    numbers is even, so that conditions with the same examples and network, which are alike, lie on one side. The share
    of signs that are right has the exact binomial interval, which takes conditions for independent, and stands beside the
    share that has the sign that is commoner among the fitted ones. Once over all conditions, and once over the clear ones.

    The grids were chosen after a look at ERM's training error alone, so that both regimes occur.
    """

    name: ClassVar[str] = "phase"
    section = "5, discussion"
    title = "When mixup helps"
    scales = SCALES

    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Return the jobs of the tables, all seeds at once, then those of the images, seed by seed; few examples first."""
        return [
            Job(
                _job_name(data, width, grid.rows[i], start),
                partial(_RUNS[family], scale, data, width, grid.rows[i], start),
            )
            for i in range(2)
            for family, grid in reversed(SCALES[scale].grids.items())
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
        return _claims(scale, collect(scale, done))

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw every condition: the effect of mixup by ERM's training error."""
        from vicinal.lab.paper import phase_figure  # brings matplotlib, which takes a second

        measured = collect(scale, done)
        if not measured:
            return ()
        path = folder / "phase.svg"
        atomic.write(path, phase_figure.draw(measured, rule_threshold(scale, measured)))
        return (path,)


def mixup(alpha: float) -> str:
    """Return the name of mixup with an alpha."""
    return f"mixup, alpha = {alpha:g}"


def _job_name(data: str, width: int, rows: int, start: int) -> str:
    return f"{data}-width{width}-rows{rows}-seed{start}"


def _starts(family: str, grid: Grid) -> range:
    """Return the first seed of each job: one seed a job of images, all seeds of tables, which are trained at once."""
    return range(0, grid.seeds, _seeds_of_job(family, grid))


def _seeds_of_job(family: str, grid: Grid) -> int:
    return 1 if family == "images" else grid.seeds


# -- jobs --------------------------------------------------------------------------------------------------------------


def _run_images(scale: Scale, data: str, width: int, rows: int, seed: int, folder: Path) -> dict[str, Any]:
    grid = SCALES[scale].images
    train, test = loading.load(Recipe(data, MODELS[width], max_test_examples=TEST, augment=False, channels_last=False))
    assert isinstance(train, InMemoryDataset)
    assert isinstance(test, InMemoryDataset)
    test = _channels_last(test)
    labels = train.labels.numpy()
    left = (len(labels) - rows) / len(labels)
    mine = split_targets(labels, len(train.classes), seed, validation=left, test=0.0).train
    outcomes = []
    for noise, epochs in product(grid.noises, grid.epochs):
        noisy = corrupt_labels(labels, len(train.classes), noise, seed, rows=mine)
        own = _channels_last(replace(train, labels=torch.from_numpy(noisy)).select(torch.from_numpy(mine)))
        training = simple.SimpleTraining(MODELS[width], epochs, batch_size=32, learning_rate=3e-3)
        methods = {
            name: _image_scores(training, own, test, vicinity, seed) for name, vicinity in grid.vicinities.items()
        }
        outcomes.append(Outcome(epochs, noise, methods))
    return to_json(PhaseResult([seed], len(test), outcomes))


def _channels_last(data: InMemoryDataset) -> InMemoryDataset:
    """Return the same images in the memory format that is fast on a CPU; it takes a second for a whole set."""
    return replace(data, inputs=data.inputs.contiguous(memory_format=torch.channels_last))


def _image_scores(
    training: simple.SimpleTraining,
    train: InMemoryDataset,
    test: InMemoryDataset,
    vicinity: vicinal.Vicinity,
    seed: int,
) -> MethodScores:
    """Train one network and measure it."""
    model, _ = simple.train(training, train, torch.arange(len(train)), vicinity, seed)
    first, second = (
        classification(simple.outputs(model, part, torch.arange(len(part)))[None], part.labels)[0]
        for part in (train, test)
    )
    return MethodScores([first["error"]], [second["error"]], [second["nll"]])


def _run_tables(scale: Scale, data: str, width: int, rows: int, start: int, folder: Path) -> dict[str, Any]:
    """Train all seeds, noises and methods at once, and measure them after each number of epochs."""
    grid = SCALES[scale].tables
    table = load_table(scale, data)
    seeds = range(start, start + _seeds_of_job("tables", grid))
    train, test = _stack(table, grid, rows, seeds)
    runs = [
        stacked_mlp.MLPRun(i, seed, vicinity)
        for vicinity in grid.vicinities.values()
        for i, seed in enumerate([*seeds] * len(grid.noises))
    ]
    outcomes: list[Outcome] = []

    def measure(epoch: int, models: stacked_mlp.StackedMLP, active: list[int]) -> None:
        if epoch in grid.epochs:
            parts = [evaluate(models, runs, part, len(table.classes), ()) for part in (train, test)]
            outcomes.extend(_outcomes(grid, epoch, *parts))

    training = stacked_mlp.MLPTraining(epochs=max(grid.epochs), hidden=(width, width))
    stacked_mlp.train(runs, train, len(table.classes), training, measure)
    return to_json(PhaseResult([*seeds], test.targets.shape[1], outcomes))


def load_table(scale: Scale, data: str) -> Table:
    """Read a table, or draw what stands in for it in the quick run."""
    if scale == "smoke":
        return synthetic.table(data, classes=3, seed=SCALES[scale].tables.data.index(data))
    return tables.load(data)


def _stack(table: Table, grid: Grid, rows: int, seeds: Sequence[int]) -> tuple[StackedSplit, StackedSplit]:
    """Return training and test rows, seed by seed for each label noise; the test rows hang on the seed alone."""
    n = len(table)
    test = min(TEST, n - max(grid.rows))
    splits = [encode_split(table, seed, validation=(n - test - rows) / n, test=test / n) for seed in seeds]
    noisy = [
        replace(of, targets=corrupt_labels(of.targets, len(table.classes), noise, seed, rows=of.rows.train))
        for noise in grid.noises
        for seed, of in zip(seeds, splits, strict=True)
    ]
    # test labels stay: only training rows were changed
    return stack(noisy, "train"), stack(noisy, "test")


def _outcomes(
    grid: Grid, epochs: int, train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]]
) -> Iterator[Outcome]:
    """Yield the outcome of each label noise; scores are method by method, noise by noise, seed by seed."""
    seeds = len(train) // (len(grid.vicinities) * len(grid.noises))
    for i, noise in enumerate(grid.noises):
        methods = {}
        for k, name in enumerate(grid.vicinities):
            first = (k * len(grid.noises) + i) * seeds
            mine = slice(first, first + seeds)
            methods[name] = MethodScores(
                [score["error"] for score in train[mine]],
                [score["error"] for score in test[mine]],
                [score["nll"] for score in test[mine]],
            )
        yield Outcome(epochs, noise, methods)


_RUNS: dict[str, Callable[..., dict[str, Any]]] = {"images": _run_images, "tables": _run_tables}


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


def differences(of: Of, factor: float, method: MethodScores, other: MethodScores) -> list[float]:
    """Return how much a method exceeds another, one number per seed."""
    return [factor * (a - b) for a, b in zip(of(method), of(other), strict=True)]


def effects(measured: Measured, alpha: float, measure: str) -> dict[Condition, list[float]]:
    """Return mixup minus ERM per seed, for each condition that has this alpha and two seeds or more."""
    _, of, factor = MEASURES[measure]
    return {
        condition: differences(of, factor, methods[mixup(alpha)], methods[ERM])
        for condition, methods in measured.items()
        if mixup(alpha) in methods and len(methods[ERM].test_error) > 1
    }


def mean_by_seed(values: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the mean over conditions, one number per seed that all of them have."""
    return tuple(statistics.fmean(of) for of in zip(*values, strict=False))


def is_clear(effect: Sequence[float]) -> bool:
    """Return whether the 95 % interval of an effect excludes 0."""
    found = paired(effect, 0.0)
    return found.low > 0 or found.high < 0


# -- rows --------------------------------------------------------------------------------------------------------------

FACTORS: dict[str, tuple[Callable[[Condition], float | str], Callable[[Grid], Sequence[float | str]], str]] = {
    "data": (lambda condition: condition.data, lambda grid: grid.data, "{}"),
    "width": (lambda condition: condition.width, lambda grid: grid.widths, "width {}"),
    "rows": (lambda condition: condition.rows, lambda grid: grid.rows, "{} training examples"),
    "epochs": (lambda condition: condition.epochs, lambda grid: grid.epochs, "{} epochs"),
    "noise": (lambda condition: condition.noise, lambda grid: grid.noises, "{:.0%} label noise"),
}


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
) -> tuple[list[Case], list[Case]]:
    """Return the conditions to fit the rule on, and those to test it on.

    Args:
        scale: of the study.
        measured: the scores of all conditions.
        score: of ERM, a key of `SCORES`.
        alpha: of mixup.
        measure: of the effect, a key of `MEASURES`.
        clear: only those whose effect is clear.

    """
    sides: tuple[list[Case], list[Case]] = [], []
    for condition, effect in effects(measured, alpha, measure).items():
        if not clear or is_clear(effect):
            of_erm = 100 * statistics.fmean(SCORES[score](measured[condition][ERM]))
            case = Case(condition.setting, of_erm, statistics.fmean(effect))
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
    limit = f"at most {test.threshold:.1f}" if score == "training error" else f"at least {-test.threshold:.1f}"
    return (
        f"helps where it is {limit} %, fitted on {test.fitted}; against the commoner sign better in {test.better} "
        f"settings, worse in {test.worse}"
    )


# -- claims ------------------------------------------------------------------------------------------------------------


def _claims(scale: Scale, measured: Measured) -> tuple[Claim, ...]:
    limits = "networks that a CPU trains in seconds, without early stopping"
    families = SCALES[scale].grids
    return (
        Claim(
            "in a larger model the training error is less sensitive to a large alpha, so that mixup gains more",
            "5",
            tuple(
                _contrasted(measured, family, noisy, "width", grid.widths, what)
                for family, grid in families.items()
                for noisy in (False, True)
                for what in ("training error", "test error")
            ),
            limits,
        ),
        Claim(
            "mixup gains more with longer training",
            "3.1",
            tuple(
                _contrasted(measured, family, noisy, "epochs", grid.epochs, "test error")
                for family, grid in families.items()
                for noisy in (False, True)
            ),
            limits,
        ),
        Claim(
            "as alpha grows, the training error on real data rises, and the gap to the test error falls",
            "5",
            tuple(
                _along_alpha(measured, family, noisy, smaller, larger, what)
                for family, grid in families.items()
                for noisy in (False, True)
                for smaller, larger in _neighbors(grid)
                for what in ("training error", "gap")
            ),
            limits,
        ),
    )


_OF: dict[str, tuple[Of, Expected]] = {  # what is measured, and which way alpha is to move it
    "training error": (TRAIN_ERROR, "higher"),
    "test error": (MEASURES["test error"][1], "lower"),
    "gap": (lambda scores: scores.gap, "lower"),
}


def _contrasted(
    measured: Measured, family: str, noisy: bool, factor: str, levels: Sequence[float], what: str
) -> Evidence:
    """Return how much lower what alpha = 1 adds to an error is at the highest level of a factor than at the lowest."""
    low, high = (
        mean_by_seed(
            [
                differences(_OF[what][0], 100.0, methods[mixup(1.0)], methods[ERM])
                for condition, methods in _some(measured, family, noisy).items()
                if FACTORS[factor][0](condition) == level
            ]
        )
        for level in (levels[0], levels[-1])
    )
    title = FACTORS[factor][2]
    return Evidence(
        f"{_regime(family, noisy)}: what {mixup(1.0)} adds to the {what}, {title.format(levels[-1])} against "
        f"{title.format(levels[0])}",
        "points",
        tuple(b - a for a, b in zip(low, high, strict=False)),
        "lower",
        contrast=noisy,
    )


def _along_alpha(measured: Measured, family: str, noisy: bool, smaller: str, larger: str, what: str) -> Evidence:
    """Return how much an error grows from one method to the next."""
    of, expected = _OF[what]
    found = [
        differences(of, 100.0, methods[larger], methods[smaller]) for methods in _some(measured, family, noisy).values()
    ]
    about = f"{_regime(family, noisy)}: {what}, {larger} against {smaller}"
    return Evidence(about, "points", mean_by_seed(found), expected, contrast=noisy)


def _neighbors(grid: Grid) -> list[tuple[str, str]]:
    """Return pairs of methods whose alphas follow each other; ERM is alpha = 0."""
    methods = [ERM, *(mixup(alpha) for alpha in sorted(grid.alphas))]
    return list(pairwise(methods))


def _some(measured: Measured, family: str, noisy: bool) -> Measured:
    return {c: methods for c, methods in measured.items() if c.family == family and (c.noise > 0) == noisy}


def _regime(family: str, noisy: bool) -> str:
    return f"{family}, {'label noise' if noisy else 'clean labels'}"
