"""Is one method better than another, by anybody's scores? The statistics of `vicinal compare` for scores made elsewhere.

`judge` takes one score per method and seed, or one loss per method, seed and test row, and returns a `Judgment`: for each
method the difference to the baseline, its interval and p-value, what the difference may be in practice, and a sentence.

Example:
    >>> scores = {
    ...     "method": ["ERM"] * 4 + ["mixup"] * 4,
    ...     "seed": [0, 1, 2, 3] * 2,
    ...     "score": [0.30, 0.32, 0.29, 0.31, 0.27, 0.30, 0.26, 0.29],
    ... }
    >>> judgment = judge(scores, test_share=1 / 3)
    >>> mixup = judgment.methods[0]
    >>> round(mixup.difference, 4), round(mixup.low, 4), round(mixup.high, 4)
    (-0.025, -0.039, -0.011)
    >>> print(mixup.sentence)
    mixup is better than ERM: 0.2800 instead of 0.3050 (difference -0.0250, 95 % interval -0.0390 to -0.0110; p = 0.011).

"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np

from vicinal.lab.errors import UserError
from vicinal.lab.format import ABSENT, counted, did_you_mean, is_finite, p_value, quoted
from vicinal.lab.statistics import Effect, holm, resampled, rows_paired

LEVEL = 0.05
SURE = 0.95  # probability above which two methods are called practically the same
MOST_TEST_SHARE = 10.0  # a larger n_test / n_train was meant as a percentage
SEED_NAMES = ("seed", "fold", "split")  # the column that says which scores belong together
BASELINES = ("erm", "baseline")
NO_SCORE = ("nan", "na", "n/a", "null", "none", "-")

Test = Literal["rows and seeds", "corrected resampled t", "t"]
JudgedAs = Literal[
    "better",
    "worse",
    "better or practically the same",
    "worse or practically the same",
    "no difference found",
    "practically the same",
]


@dataclass(frozen=True)
class MethodJudgment:
    """One method against the baseline. Differences are method minus baseline, in the unit of the scores.

    Args:
        method: its name.
        score: its mean score.
        difference: mean difference.
        low: lower end of the 95 % interval; nan where the scores are the same for every seed.
        high: upper end.
        p: p-value of "no difference".
        p_holm: the same, corrected for the number of methods.
        better: probability that it is better by more than the rope; None without one, and where all differences are the
            same, so that nothing is known of their error.
        same: probability that the difference lies within the rope.
        worse: probability that it is worse by more than the rope.
        p_equivalence: p-value of two one-sided tests against the rope; None without one.
        detectable: smallest difference found with 80 % power, corrected for the number of methods; nan where all
            differences are the same.
        constant: True if all differences are the same; p-values are then the sign test's.
        verdict: what it is called.
        sentence: the same in words, with its numbers.

    """

    method: str
    score: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    better: float | None
    same: float | None
    worse: float | None
    p_equivalence: float | None
    detectable: float
    constant: bool
    verdict: JudgedAs
    sentence: str


@dataclass(frozen=True)
class Judgment:
    """What scores say of methods.

    Args:
        baseline: name of the method that the others are compared with.
        baseline_score: its mean score.
        test: the test that was used.
        seeds: number of seeds, folds or splits.
        seed_name: which of these they are, as their column is called.
        units: number of different test rows or groups; None without them.
        unit_name: which of these they are, "row" or "group"; None without them.
        test_share: n_test / n_train; None where it plays no part.
        higher_is_better: True for accuracy and the like.
        rope: half-width of the region of practical equivalence; None without one.
        methods: all others, in the order of the scores.

    """

    baseline: str
    baseline_score: float
    test: Test
    seeds: int
    seed_name: str
    units: int | None
    unit_name: str | None
    test_share: float | None
    higher_is_better: bool
    rope: float | None
    methods: list[MethodJudgment]


def judge(
    scores: Mapping[str, Sequence[Any]] | Any,
    *,
    baseline: str | None = None,
    test_share: float | None = None,
    independent: bool = False,
    higher_is_better: bool = False,
    rope: float | None = None,
    lines: Sequence[int] | None = None,
) -> Judgment:
    """Judge methods by their scores.

    Args:
        scores: columns of one length: "method"; "seed" (or "fold" or "split"); "score", finite. With "row", each line is
            the loss of one test row, and rows and seeds are the units (`statistics.rows_paired`); with "group" too, groups
            (persons) take the place of rows. A polars or pandas data frame does as well.
        baseline: the method that the others are compared with; by default one called ERM or baseline, in any case.
        test_share: n_test / n_train, for scores of seeds that split one dataset anew or of the folds of one
            cross-validation (1 / (k - 1)): the corrected resampled t-test. Plays no part with rows.
        independent: the scores of different seeds come from independent data, or all that a statement shall be about
            is the seed of training on one fixed split: the plain paired t-test.
        higher_is_better: for accuracy and the like; differences keep their sign.
        rope: half-width of the region of practical equivalence, in the unit of the scores.
        lines: the line of its file that each score stands on, for messages; by default scores are counted from 1.

    Returns:
        The judgment.

    Raises:
        UserError: the scores cannot be judged; the message says what was found and what to do.

    """
    table = _Scores.read(scores, lines)
    base = _baseline(table.methods, baseline)
    if rope is not None and not (math.isfinite(rope) and rope > 0):
        raise UserError(f"--rope is half the width of a region around 0, so above 0, got {rope:g}")
    test = _test(table, test_share, independent)
    share = test_share if test == "corrected resampled t" else None
    others = [name for name in table.methods if name != base]
    findings = [_finding(table, name, base, share or 0.0) for name in others]
    corrected = holm([finding.p for finding in findings])
    words = _Sentences(base, higher_is_better, rope, len(others), table.seed_name, table.unit_name)
    methods = []
    for name, finding, p in zip(others, findings, corrected, strict=True):
        figures = _figures(table, name, base, finding, len(others))
        methods.append(words.judged(name, figures, finding, p, None if rope is None else table.scaled(rope)))
    return Judgment(
        baseline=base,
        baseline_score=table.mean(base),
        test=test,
        seeds=len(table.seeds),
        seed_name=table.seed_name,
        units=None if table.unit is None else len(set(table.unit.tolist())),
        unit_name=table.unit_name,
        test_share=share,
        higher_is_better=higher_is_better,
        rope=rope,
        methods=methods,
    )


# -- scores ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scores:
    """Checked scores: every method has every seed, and on each seed the same rows.

    Values are divided by `scale`, so that no square overflows or vanishes: what follows does not depend on their unit.
    """

    methods: list[str]
    seeds: list[Hashable]
    values: dict[str, list[np.ndarray]]  # by method; per seed its scores, in one order of rows
    scale: float
    are_hits: bool  # with rows: losses that are right or wrong
    unit: np.ndarray | None  # of the lines of one method, all seeds in one row
    per_seed: list[np.ndarray] | None  # the same, per seed
    seed_name: str
    unit_name: str | None

    def mean(self, method: str) -> float:
        """Return the mean over all lines with rows, over seeds without; in the unit of the scores."""
        return self.unscaled(float(np.concatenate(self.values[method]).mean()))

    def scaled(self, value: float) -> float:
        """Return a width in the unit of the values."""
        return min(value / self.scale, sys.float_info.max)

    def unscaled(self, value: float) -> float:
        """Return a figure in the unit of the scores.

        Raises:
            UserError: no float holds it.

        """
        found = value * self.scale
        if math.isinf(found):
            raise UserError(
                "the scores are so large that a difference or an end of its interval is above 1.8e308, the largest number "
                "that there is: divide all scores by one number, such as 1e9"
            )
        return found

    @staticmethod
    def read(scores: Mapping[str, Sequence[Any]], lines: Sequence[int] | None) -> _Scores:
        """Check columns and sort them.

        Raises:
            UserError: saying what is wrong.

        """
        names = list(getattr(scores, "columns", scores))
        columns = {name: list(scores[name]) for name in names}
        seed_name = _seed_column(columns)
        for name in ("method", "score"):
            if name not in columns:
                raise UserError(f"scores need a column {name!r}{_hint(name, columns)}")
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"the columns have different lengths ({lengths}): give one value of each per line")
        if "group" in columns and "row" not in columns:
            raise UserError("a column 'group' needs a column 'row': give the loss of each test row, with its group")
        return _Lines(columns, seed_name, lines).scores()


def _hint(name: str, columns: Mapping[str, Any]) -> str:
    """Return the end of a sentence on a missing column."""
    if not columns:
        return ", and there are no columns: give one line per score"
    return did_you_mean(name, columns) or (
        f"; the columns are {quoted(list(columns), 10)}: give one line per score, with its method and seed"
    )


def _seed_column(columns: Mapping[str, Any]) -> str:
    found = [name for name in SEED_NAMES if name in columns]
    if not found:
        raise UserError(
            f"scores need a column 'seed', 'fold' or 'split', to say which belong together{_hint('seed', columns)}"
        )
    if len(found) > 1:
        raise UserError(
            f"there are columns {quoted(found)}: keep one that numbers every pair of scores, for example 10 * seed + fold"
        )
    return found[0]


class _Lines:
    """Scores line by line, before they are sorted."""

    def __init__(self, columns: Mapping[str, list[Any]], seed_name: str, lines: Sequence[int] | None) -> None:
        self.seed_name = seed_name
        self.lines = lines
        self.with_rows = "row" in columns
        self.unit_name = ("group" if "group" in columns else "row") if self.with_rows else None
        self.method = [str(name) for name in self._present(columns["method"], "method")]
        self.seed = self._present(columns[seed_name], seed_name)
        self.row = self._present(columns["row"], "row") if self.with_rows else [None] * len(self.method)
        self.group = self._present(columns["group"], "group") if "group" in columns else self.row
        self.score = [self._number(value, i) for i, value in enumerate(columns["score"])]
        if not self.score:
            raise UserError(f"there are no scores: give at least two methods and two {seed_name}s")

    def _at(self, i: int) -> str:
        return f"score {i + 1}" if self.lines is None else f"line {self.lines[i]} of the file"

    def _present(self, values: list[Any], name: str) -> list[Any]:
        for i, value in enumerate(values):
            if _is_missing(value):
                raise UserError(f"{self._at(i)} has no {name}: fill it in or remove the line")
            if not isinstance(value, Hashable):
                raise UserError(f"{self._at(i)} has several values for its {name}: give one")
        named = [_as_name(value) for value in values]
        return list(map(str, named)) if any(isinstance(value, str) for value in named) else named

    def _number(self, value: Any, i: int) -> float:
        where = f"{self._at(i)} ({self.method[i]}, {self.seed_name} {self.seed[i]})"
        failed = "a run that failed is a result too, so do not drop it: repeat it, or leave out its method"
        if _is_missing(value) or (isinstance(value, str) and value.strip().lower() in NO_SCORE):
            raise UserError(f"{where} has no score: {failed}")
        try:
            number = math.nan if isinstance(value, str) and "_" in value else float(value)  # Python reads 1_0 as 10
            if math.isnan(number):
                raise ValueError
        except (TypeError, ValueError):
            raise UserError(f"{where} has the score {value!r}, which is not a number: correct it") from None
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise UserError(f"{where} has the score {value}, which is not finite: {failed}")
        return number

    def scores(self) -> _Scores:
        """Return them sorted.

        Raises:
            UserError: lines are missing or doubled.

        """
        methods, seeds = list(dict.fromkeys(self.method)), list(dict.fromkeys(self.seed))
        found: dict[tuple[str, Any], dict[Any, tuple[float, Any]]] = {}
        for method, seed, row, group, score in zip(
            self.method, self.seed, self.row, self.group, self.score, strict=True
        ):
            of = found.setdefault((method, seed), {})
            if row in of:
                at = f"{method!r} has two scores for {self.seed_name} {seed}"
                hint = "keep one" if self.with_rows else "keep one, or name the test rows in a column 'row'"
                raise UserError(f"{at}{f' and row {row}' if self.with_rows else ''}: {hint}")
            of[row] = score, group
        self._check(methods, seeds, found)
        rows = {seed: list(found[methods[0], seed]) for seed in seeds}
        scale, are_hits = self._scale()
        values = {
            name: [np.array([found[name, seed][row][0] for row in rows[seed]]) / scale for seed in seeds]
            for name in methods
        }
        if not self.with_rows:
            return _Scores(methods, seeds, values, scale, False, None, None, self.seed_name, None)
        groups = [[found[methods[0], seed][row][1] for row in rows[seed]] for seed in seeds]
        number = {group: i for i, group in enumerate(dict.fromkeys(group for of in groups for group in of))}
        per_seed = [np.array([number[group] for group in of]) for of in groups]
        if len(number) < 2:
            raise UserError(f"there is one {self.unit_name} alone: an interval needs 2 or more")
        unit = np.concatenate(per_seed)
        return _Scores(methods, seeds, values, scale, are_hits, unit, per_seed, self.seed_name, self.unit_name)

    def _scale(self) -> tuple[float, bool]:
        """Return what to divide scores by, and whether they are right or wrong, by row.

        What is right or wrong differs by 0 or 1 then, be it written in percent; other scores are divided by a power of
        two, which rounds nothing.
        """
        least, largest = min(self.score), max(self.score)
        if self.with_rows and set(self.score) <= {0.0, 1.0}:
            return 1.0, True
        if (
            self.with_rows
            and least < largest
            and math.isfinite(largest - least)
            and set(self.score) <= {least, largest}
        ):
            return largest - least, True
        size = max(-least, largest)
        return (math.ldexp(1.0, math.frexp(size)[1] - 1) if size else 1.0), False

    def _check(self, methods: list[str], seeds: list[Any], found: Mapping[tuple[str, Any], Mapping[Any, Any]]) -> None:
        name = self.seed_name
        if len(methods) < 2:
            raise UserError(f"there are scores of {methods[0]!r} alone: give those of a baseline too")
        for method in methods:
            missing = [seed for seed in seeds if (method, seed) not in found]
            if missing:
                raise UserError(
                    f"{method!r} has no score for {name} {', '.join(map(str, missing[:5]))}, which others have: "
                    f"differences are taken within a {name}, so run it, or remove that {name} from all methods"
                )
        if len(seeds) < 2:
            raise UserError(
                f"there is one {name} alone, which tells nothing of how much scores vary: give 2 or more, better 10"
            )
        for seed in seeds:
            rows = found[methods[0], seed].keys()
            for method in methods[1:]:
                if apart := [row for row in rows ^ found[method, seed].keys()]:
                    raise UserError(
                        f"{methods[0]!r} and {method!r} were tested on different rows for {name} {seed} (row {apart[0]} "
                        "is one of them): test all methods on the same rows"
                    )
                for row in rows:
                    if found[methods[0], seed][row][1] != found[method, seed][row][1]:
                        raise UserError(f"row {row} has two groups: correct the column 'group'")


def _baseline(methods: Sequence[str], baseline: str | None) -> str:
    if baseline is not None:
        if baseline not in methods:
            hint = did_you_mean(baseline, methods) or f"; the methods are {quoted(methods, 20)}"
            raise UserError(f"there is no method {baseline!r} for --baseline{hint}")
        return baseline
    known = [name for name in methods if name.lower() in BASELINES]
    if len(known) == 1:
        return known[0]
    found = "more than one method" if known else "no method"
    raise UserError(
        f"{found} is called ERM or baseline: choose the one to compare with by --baseline; the methods are "
        f"{quoted(methods, 20)}"
    )


def _test(table: _Scores, test_share: float | None, independent: bool) -> Test:
    if test_share is not None and independent:
        raise UserError(
            "--test-share is for seeds that split one dataset, --independent for those that do not: keep one"
        )
    if test_share is not None and not 0 < test_share <= MOST_TEST_SHARE:
        raise UserError(
            f"--test-share is n_test / n_train, above 0 and up to {MOST_TEST_SHARE:g}, such as 0.25 for 5 folds, got "
            f"{test_share:g}"
        )
    if table.unit is not None:
        if test_share is not None or independent:
            option = "--independent" if independent else "--test-share"
            raise UserError(f"with a column 'row' the rows say how test sets overlap: leave {option} out")
        return "rows and seeds"
    if test_share is not None:
        return "corrected resampled t"
    if independent:
        return "t"
    name = table.seed_name
    raise UserError(
        f"what does a {name} change? If each draws a new split of one dataset, or is a fold, give --test-share "
        "n_test/n_train (k folds: 1/(k-1)); if scores are of independent data, or of one fixed split, give --independent"
    )


# -- differences -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Finding:
    """A difference to the baseline, in the unit of the values.

    Where all differences are the same, their spread tells nothing of their error; what is left is the sign test.
    """

    effect: Effect
    constant: bool
    n: int  # seeds, or rows or groups

    @property
    def p(self) -> float:
        """Two-sided p-value of "no difference"."""
        if not self.constant:
            return self.effect.p
        return 1.0 if self.effect.difference == 0 else max(2.0 ** (1 - self.n), sys.float_info.min)

    def equivalence(self, rope: float) -> float:
        """Return the p-value of two one-sided tests against the rope."""
        if not self.constant:
            return self.effect.equivalence(rope)
        return max(2.0**-self.n, sys.float_info.min) if abs(self.effect.difference) < rope else 1.0


class _Figures(NamedTuple):
    """Figures of one method, in the unit of the scores."""

    score: float
    baseline: float
    difference: float
    low: float
    high: float
    detectable: float


def _finding(table: _Scores, name: str, base: str, test_share: float) -> _Finding:
    differences, constant = _differences(table.values[name], table.values[base])
    if table.per_seed is not None and table.unit is not None:
        # where no answer differs, right or wrong, one row might have: that error is known
        constant = constant and not (table.are_hits and differences[0][0] == 0)
        return _Finding(rows_paired(table.per_seed, differences), constant, len(set(table.unit.tolist())))
    return _Finding(resampled([float(of[0]) for of in differences], test_share), constant, len(differences))


def _differences(mine: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[list[np.ndarray], bool]:
    """Return the differences per seed, and whether they are all the same.

    A number that was computed is known to a few units in its last place: a difference of less is none, and differences
    of large scores that are this near one another are the same, or rounding would be taken for spread.
    """
    first, second = np.concatenate(mine), np.concatenate(theirs)
    rounding = 4 * np.spacing(np.maximum(np.abs(first), np.abs(second)))
    apart = first - second
    apart[np.abs(apart) <= rounding] = 0.0
    exact = int(rounding.argmin())
    constant = bool((np.abs(apart - apart[exact]) <= 2 * rounding).all())
    if constant:
        apart[:] = apart[exact]
    return np.split(apart, np.cumsum([len(of) for of in mine])[:-1]), constant


def _figures(table: _Scores, name: str, base: str, finding: _Finding, methods: int) -> _Figures:
    difference, low, high, _ = finding.effect.paired()
    if finding.constant and difference == 0:
        low = high = math.nan
    least = math.nan if finding.constant else finding.effect.detectable(level=LEVEL / methods)  # Holm's first step
    return _Figures(table.mean(name), table.mean(base), *map(table.unscaled, (difference, low, high, least)))


# -- words -------------------------------------------------------------------------------------------------------------


class ScoreFormat(NamedTuple):
    """How scores and their differences are written: with the decimals that show how far apart they are.

    Differences, the ends of their intervals and half the width of these have two significant digits or more; scores have
    four, and as many that a difference of theirs is seen.

    Args:
        level: decimals of scores; below 0 for large ones.
        change: decimals of differences.

    Example:
        >>> form = ScoreFormat.of(0.693129, 0.693149, -0.00002, -0.000023, -0.000017)
        >>> form.score(0.693149), form.difference(-0.00002), form.difference(-0.000017)
        ('0.693149', '-0.0000200', '-0.0000170')

    """

    level: int
    change: int

    @classmethod
    def of(cls, score: float, baseline: float, difference: float, low: float, high: float) -> ScoreFormat:
        """Return the format for one method and its baseline."""
        size = max(abs(score), abs(baseline))
        level = max(3 - _exponent(size) if size else 3, 1 - _exponent(difference) if difference else -400)
        half = (high - low) / 2
        return cls(level, max(level, 1 - _exponent(half)) if is_finite(half) and half else level)

    def score(self, value: float) -> str:
        """Write a score."""
        return _written(value, self.level, sign=False)

    def difference(self, value: float, *, sign: bool = True) -> str:
        """Write a difference."""
        return _written(value, self.change, sign=sign)


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value)))


def _written(value: float, decimals: int, *, sign: bool) -> str:
    """Write a number with these decimals, but with two significant digits or more and with no more than floats have."""
    if not is_finite(value):
        return ABSENT
    if value == 0:
        return f"{0:.{min(max(decimals, 0), 7)}f}"
    exponent = _exponent(value)
    digits = min(max(2, exponent + decimals + 1), 16)
    fixed = -7 <= exponent < 7 or 7 <= exponent < digits
    text = f"{value:+.{max(0, digits - 1 - exponent)}f}" if fixed else f"{value:+.{digits - 1}e}"
    return text if sign or text[0] == "-" else text[1:]


def shortest(value: float) -> str:
    """Write a number that was given, as it was given.

    Example:
        >>> shortest(0.03), shortest(1.0), shortest(1234567.5)
        ('0.03', '1', '1234567.5')

    """
    return repr(float(value)).removesuffix(".0")


def probability(share: float | None) -> str:
    """Write a probability in percent; no rounding makes it certain, impossible or `SURE`.

    Example:
        >>> probability(0.089), probability(0.99999), probability(0.94999), probability(None)
        ('8.9 %', '> 99.9 %', '94.999 %', '\N{EN DASH}')

    """
    if share is None or not is_finite(share):
        return ABSENT
    if share < 5e-4 or share > 1 - 5e-4:
        return "< 0.1 %" if share < 0.5 else "> 99.9 %"
    decimals = next((n for n in range(1, 9) if round(100 * share, n) != 100 * SURE), 1)
    return f"{100 * share:.{decimals}f} %"


@dataclass(frozen=True)
class _Sentences:
    """What a finding is called."""

    baseline: str
    higher_is_better: bool
    rope: float | None
    methods: int
    seed_name: str
    unit_name: str | None

    def judged(
        self, name: str, figures: _Figures, finding: _Finding, p_holm: float, rope: float | None
    ) -> MethodJudgment:
        """Return the judgment on one method; `rope` is in the unit of the finding."""
        better = same = worse = equivalence = None
        if rope is not None:
            equivalence = finding.equivalence(rope)
            if not finding.constant:
                lower, same, higher = finding.effect.posterior(rope)
                better, worse = (higher, lower) if self.higher_is_better else (lower, higher)
        judged = MethodJudgment(
            method=name,
            score=figures.score,
            difference=figures.difference,
            low=figures.low,
            high=figures.high,
            p=finding.p,
            p_holm=p_holm,
            better=better,
            same=same,
            worse=worse,
            p_equivalence=equivalence,
            detectable=figures.detectable,
            constant=finding.constant,
            verdict="no difference found",
            sentence="",
        )
        judged = replace(judged, verdict=self._verdict(judged))
        return replace(judged, sentence=self._sentence(judged, figures, finding.n))

    def _verdict(self, of: MethodJudgment) -> JudgedAs:
        near = of.p_equivalence is not None and of.p_equivalence < LEVEL
        if near and (of.same is None or of.same > SURE):
            return "practically the same"
        if of.p_holm >= LEVEL:
            return "no difference found"
        is_better = (of.difference > 0) == self.higher_is_better
        beyond = of.better if is_better else of.worse
        if of.same is None or beyond is None or of.same <= beyond:
            return "better" if is_better else "worse"
        return "better or practically the same" if is_better else "worse or practically the same"

    def _sentence(self, of: MethodJudgment, figures: _Figures, n: int) -> str:
        """Return what the figures say; `n` is the number of signs of the sign test."""
        within = "" if self.rope is None else shortest(self.rope)
        beginning = {
            "better": f"{of.method} is better than {self.baseline}",
            "worse": f"{of.method} is worse than {self.baseline}",
            "better or practically the same": f"{of.method} is better than {self.baseline}, or practically the same",
            "worse or practically the same": f"{of.method} is worse than {self.baseline}, or practically the same",
            "practically the same": f"{of.method} and {self.baseline} are practically the same, within {within}",
            "no difference found": f"No difference found between {of.method} and {self.baseline}",
        }[of.verdict]
        parts = [f"{beginning}: {self._evidence(of, figures)}.", self._chances(of, within), self._open(of, figures, n)]
        return " ".join(part for part in parts if part)

    def _evidence(self, of: MethodJudgment, figures: _Figures) -> str:
        form = ScoreFormat.of(figures.score, figures.baseline, of.difference, of.low, of.high)
        p = self._p(of)
        if of.verdict == "practically the same":
            p = f"p of equivalence {p_value(of.p_equivalence, '= ')}"
        if math.isnan(of.low):
            every = f"every {self.seed_name}" if self.unit_name is None else "every row"
            return f"both have the same score for {every}, on average {form.score(of.score)} ({p})"
        difference, low, high = (form.difference(value) for value in (of.difference, of.low, of.high))
        return (
            f"{form.score(of.score)} instead of {form.score(figures.baseline)} (difference {difference}, 95 % interval "
            f"{low} to {high}; {p})"
        )

    def _p(self, of: MethodJudgment) -> str:
        many = f" after correction for {self.methods} methods" if self.methods > 1 else ""
        return f"p {p_value(of.p_holm, '= ')}{many}"

    def _chances(self, of: MethodJudgment, within: str) -> str:
        """Return how a difference that is shown and the region of practical equivalence go together."""
        if self.rope is None:
            return ""
        if of.verdict == "practically the same":
            if of.p_holm >= LEVEL:
                return ""
            lies = "" if of.same is None else f" with probability {probability(of.same)}"
            return f"A difference is shown ({self._p(of)}), and it lies within {within}{lies}."
        if of.same is None:
            return f"The p of equivalence, within {within}, is {p_value(of.p_equivalence)}."
        if of.verdict == "no difference found":
            return (
                f"Better by more than {within} with probability {probability(of.better)}, practically the same "
                f"{probability(of.same)}, worse {probability(of.worse)}."
            )
        better = of.verdict.startswith("better")
        beyond = f"{'better' if better else 'worse'} by more than {within}"
        chance = probability(of.better if better else of.worse)
        if of.verdict in ("better", "worse"):
            return f"It is {beyond} with probability {chance}."
        return (
            f"A difference is shown; it lies within {within} with probability {probability(of.same)}, and {of.method} is "
            f"{beyond} with probability {chance}."
        )

    def _open(self, of: MethodJudgment, figures: _Figures, n: int) -> str:
        """Return what was not found, or cannot be."""
        if of.constant:
            known = "p is the sign test's" if self.rope is None else "p-values are the sign test's"
            unit = counted(n, self.unit_name or self.seed_name)
            interval = "there is no interval" if math.isnan(of.low) else "the interval is the one that agrees with it"
            return f"All differences are the same, which tells nothing of their error: {known} over {unit}, and {interval}."
        if of.verdict != "no difference found":
            return ""
        form = ScoreFormat.of(figures.score, figures.baseline, of.difference, of.low, of.high)
        return (
            f"A difference of {form.difference(of.detectable, sign=False)} would have been found with 80 % probability; "
            "smaller ones may be there."
        )


def _as_name(value: Any) -> Any:
    """Return what names a seed, row or group: 1, 1.0 and the text 1.0, as spreadsheets write it, are one."""
    if isinstance(value, str):
        return re.sub(r"^(-?\d+)\.0+$", r"\1", value.strip())
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # of pandas, which compare with nothing
        return True
    return not value.strip() if isinstance(value, str) else isinstance(value, Real) and bool(value != value)
