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
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vicinal.lab.errors import UserError
from vicinal.lab.format import did_you_mean, p_value, quoted, significant
from vicinal.lab.statistics import Effect, holm, resampled, rows_paired

LEVEL = 0.05
SEED_NAMES = ("seed", "fold", "split")  # the column that says which scores belong together
BASELINES = ("erm", "baseline")

Test = Literal["rows and seeds", "corrected resampled t", "t"]
JudgedAs = Literal["better", "worse", "no difference found", "practically the same"]


@dataclass(frozen=True)
class MethodJudgment:
    """One method against the baseline. Differences are method minus baseline, in the unit of the scores."""

    method: str
    score: float  # mean
    difference: float
    low: float  # of the 95 % interval
    high: float
    p: float
    p_holm: float  # corrected for the number of methods
    better: float | None  # posterior probabilities, with --rope
    same: float | None
    worse: float | None
    p_equivalence: float | None  # two one-sided tests against the rope
    detectable: float  # smallest difference found with 80 % power, corrected for the number of methods
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
        units: number of different test rows or groups; None without them.
        test_share: n_test / n_train; None where it plays no part.
        higher_is_better: True for accuracy and the like.
        rope: half-width of the region of practical equivalence; None without one.
        methods: all others, in the order of the scores.

    """

    baseline: str
    baseline_score: float
    test: Test
    seeds: int
    units: int | None
    test_share: float | None
    higher_is_better: bool
    rope: float | None
    methods: list[MethodJudgment]


def judge(
    scores: Mapping[str, Sequence[Any]],
    *,
    baseline: str | None = None,
    test_share: float | None = None,
    independent: bool = False,
    higher_is_better: bool = False,
    rope: float | None = None,
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

    Returns:
        The judgment.

    Raises:
        UserError: the scores cannot be judged; the message says what was found and what to do.

    """
    table = _Scores.read(scores)
    base = _baseline(table.methods, baseline)
    if rope is not None and not (math.isfinite(rope) and rope > 0):
        raise UserError(f"--rope is half the width of a region around 0, so above 0, got {rope:g}")
    test = _test(table, test_share, independent)
    others = [name for name in table.methods if name != base]
    effects = [_effect(table, name, base, test, test_share) for name in others]
    corrected = holm([effect.p for effect in effects])
    level = table.mean(base)
    words = _Sentences(base, level, higher_is_better, rope, len(others), table.number)
    return Judgment(
        baseline=base,
        baseline_score=level,
        test=test,
        seeds=len(table.seeds),
        units=None if table.unit is None else len(set(table.unit.tolist())),
        test_share=test_share if test == "corrected resampled t" else None,
        higher_is_better=higher_is_better,
        rope=rope,
        methods=[
            words.judged(name, table.mean(name), effect, p)
            for name, effect, p in zip(others, effects, corrected, strict=True)
        ],
    )


# -- scores ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scores:
    """Checked scores: every method has every seed, and on each seed the same rows."""

    methods: list[str]
    seeds: list[Hashable]
    values: dict[str, list[np.ndarray]]  # by method; per seed its scores, in one order of rows
    unit: np.ndarray | None  # of the lines of one method, all seeds in one row
    per_seed: list[np.ndarray] | None  # the same, per seed
    seed_name: str

    def mean(self, method: str) -> float:
        """Return the mean over all lines with rows, over seeds without."""
        return float(np.concatenate(self.values[method]).mean())

    @property
    def number(self) -> Any:
        """How scores are written."""
        return significant((self.mean(name) for name in self.methods), 4)

    @staticmethod
    def read(scores: Mapping[str, Sequence[Any]]) -> _Scores:
        """Check columns and sort them.

        Raises:
            UserError: saying what is wrong.

        """
        names = list(getattr(scores, "columns", scores))
        columns = {name: list(scores[name]) for name in names}
        seed_name = _seed_column(columns)
        for name in ("method", "score"):
            if name not in columns:
                hint = did_you_mean(name, columns) or f"; the columns are {quoted(names, 10)}"
                raise UserError(f"scores need a column {name!r}{hint}")
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"the columns have different lengths ({lengths}): give one value of each per line")
        if "group" in columns and "row" not in columns:
            raise UserError("a column 'group' needs a column 'row': give the loss of each test row, with its group")
        return _Lines(columns, seed_name).scores()


def _seed_column(columns: Mapping[str, Any]) -> str:
    found = [name for name in SEED_NAMES if name in columns]
    if not found:
        hint = did_you_mean("seed", columns) or f"; the columns are {quoted(list(columns), 10)}"
        raise UserError(f"scores need a column 'seed', 'fold' or 'split', to say which belong together{hint}")
    if len(found) > 1:
        raise UserError(
            f"there are columns {quoted(found)}: keep one that numbers every pair of scores, for example 10 * seed + fold"
        )
    return found[0]


class _Lines:
    """Scores line by line, before they are sorted."""

    def __init__(self, columns: Mapping[str, list[Any]], seed_name: str) -> None:
        self.seed_name = seed_name
        self.with_rows = "row" in columns
        self.method = [str(name) for name in self._present(columns["method"], "method")]
        self.seed = self._present(columns[seed_name], seed_name)
        self.row = self._present(columns["row"], "row") if self.with_rows else [None] * len(self.method)
        self.group = self._present(columns["group"], "group") if "group" in columns else self.row
        self.score = [self._number(value, i) for i, value in enumerate(columns["score"])]
        if not self.score:
            raise UserError("there are no scores: give at least two methods and two seeds")

    def _present(self, values: list[Any], name: str) -> list[Any]:
        for i, value in enumerate(values):
            if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
                raise UserError(f"line {i + 1} of the scores has no {name}: fill it in or remove the line")
        return [value.strip() if isinstance(value, str) else value for value in values]

    def _number(self, value: Any, i: int) -> float:
        where = f"line {i + 1} of the scores ({self.method[i]}, {self.seed_name} {self.seed[i]})"
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise UserError(f"{where} has the score {value!r}, which is not a number: correct it") from None
        if not math.isfinite(number):
            raise UserError(
                f"{where} has the score {number}: a run that failed is a result too, so do not drop it: repeat it, or "
                "leave out its method"
            )
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
        values = {
            name: [np.array([found[name, seed][row][0] for row in rows[seed]]) for seed in seeds] for name in methods
        }
        if not self.with_rows:
            return _Scores(methods, seeds, values, None, None, self.seed_name)
        groups = [[found[methods[0], seed][row][1] for row in rows[seed]] for seed in seeds]
        number = {group: i for i, group in enumerate(dict.fromkeys(group for of in groups for group in of))}
        per_seed = [np.array([number[group] for group in of]) for of in groups]
        if len(number) < 2:
            kind = "group" if self.group is not self.row else "row"
            raise UserError(f"there is one {kind} alone: an interval needs 2 or more")
        return _Scores(methods, seeds, values, np.concatenate(per_seed), per_seed, self.seed_name)

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
    if test_share is not None and not (math.isfinite(test_share) and test_share > 0):
        raise UserError(f"--test-share is n_test / n_train, above 0, got {test_share:g}")
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


def _effect(table: _Scores, name: str, base: str, test: Test, test_share: float | None) -> Effect:
    differences = [mine - theirs for mine, theirs in zip(table.values[name], table.values[base], strict=True)]
    if table.per_seed is not None:
        return rows_paired(table.per_seed, differences)
    share = test_share if test == "corrected resampled t" and test_share is not None else 0.0
    return resampled([float(of[0]) for of in differences], share)


# -- words -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sentences:
    """What an effect is called."""

    baseline: str
    level: float
    higher_is_better: bool
    rope: float | None
    methods: int
    number: Any

    def judged(self, name: str, score: float, effect: Effect, p_holm: float) -> MethodJudgment:
        """Return the judgment on one method."""
        interval = effect.paired()
        better = same = worse = equivalence = None
        if self.rope is not None:
            lower, same, higher = effect.posterior(self.rope)
            better, worse = (higher, lower) if self.higher_is_better else (lower, higher)
            equivalence = effect.equivalence(self.rope)
        verdict = self._verdict(effect, p_holm, equivalence)
        least = effect.detectable(level=LEVEL / self.methods)  # Holm's first step
        return MethodJudgment(
            method=name,
            score=score,
            difference=interval.difference,
            low=interval.low,
            high=interval.high,
            p=interval.p,
            p_holm=p_holm,
            better=better,
            same=same,
            worse=worse,
            p_equivalence=equivalence,
            detectable=least,
            verdict=verdict,
            sentence=self._sentence(name, score, effect, p_holm, verdict, least),
        )

    def _verdict(self, effect: Effect, p_holm: float, equivalence: float | None) -> JudgedAs:
        if equivalence is not None and equivalence < LEVEL:
            return "practically the same"
        if p_holm < LEVEL:
            return "better" if (effect.difference > 0) == self.higher_is_better else "worse"
        return "no difference found"

    def _sentence(self, name: str, score: float, effect: Effect, p_holm: float, verdict: JudgedAs, least: float) -> str:
        text = self.number.text
        difference, low, high, _ = effect.paired()
        many = f" after correction for {self.methods} methods" if self.methods > 1 else ""
        evidence = (
            f"{text(score)} instead of {text(self.level)} (difference {text(difference, sign=True)}, 95 % interval "
            f"{text(low, sign=True)} to {text(high, sign=True)}; p {p_value(p_holm, '= ')}{many})"
        )
        if verdict in ("better", "worse"):
            return f"{name} is {verdict} than {self.baseline}: {evidence}."
        if verdict == "practically the same":
            return f"{name} and {self.baseline} are practically the same, within {self.rope:g}: {evidence}."
        return (
            f"No difference found between {name} and {self.baseline}: {evidence}. A difference of {text(least)} would "
            "have been found with 80 % probability; smaller ones may be there."
        )
