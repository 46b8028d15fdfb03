"""Rows and seeds as units: against plain loops, the t-test, DeLong, and what is promised under simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from vicinal.keyed import Key
from vicinal.lab.statistics import Effect, rows_paired
from vicinal.lab.statistics.influence import (
    auroc_values,
    balanced_error_values,
    f1_values,
    r2_values,
    rmse_values,
)


def generator(seed: int) -> np.random.Generator:
    return Key(seed, 0, 0, 0).generator()


def by_loops(units: list[list[Any]], differences: list[list[float]]) -> tuple[float, float, float]:
    """Two-way clustering, written out: rows + seeds - single, never less than rows; Satterthwaite's degrees."""
    lines = [
        (unit, seed, value)
        for seed, (names, values) in enumerate(zip(units, differences, strict=True))
        for unit, value in zip(names, values, strict=True)
    ]
    total = len(lines)
    mean = math.fsum(value for *_, value in lines) / total

    def variance(key: Callable[[Any, int], Any], correct: bool) -> tuple[float, int]:
        sums: dict[Any, list[float]] = {}
        for unit, seed, value in lines:
            sums.setdefault(key(unit, seed), []).append((value - mean) / total)
        parts = [math.fsum(part) ** 2 / ((1 - len(part) / total) if correct else 1) for part in sums.values()]
        return math.fsum(parts), len(sums)

    rows, k = variance(lambda unit, seed: unit, True)
    seeds, j = variance(lambda unit, seed: seed, True)
    single, _ = variance(lambda unit, seed: (unit, seed), False)
    if seeds <= single:
        return mean, math.sqrt(rows), k - 1
    both = rows + seeds - single
    return mean, math.sqrt(both), both**2 / (rows**2 / (k - 1) + seeds**2 / (j - 1))


def ragged(seed: int, shared: float) -> tuple[list[list[int]], list[list[float]]]:
    """Return test sets of several sizes, with an effect of the row and one of the seed on the loss."""
    draw = generator(seed)
    of_row = draw.standard_normal(40)
    units = [draw.permutation(40)[: 5 + 2 * i].tolist() for i in range(6)]
    return units, [
        (of_row[names] + shared * draw.standard_normal() + draw.standard_normal(len(names))).tolist() for names in units
    ]


@pytest.mark.parametrize("shared", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_formula(seed: int, shared: float) -> None:
    units, differences = ragged(seed, shared)
    found = rows_paired(units, differences)
    assert (found.difference, found.error, found.degrees) == pytest.approx(by_loops(units, differences), rel=1e-12)


def test_both_ways_of_it_are_met() -> None:
    degrees = [rows_paired(*ragged(seed, 0.5)).degrees for seed in range(8)]
    assert {degree == round(degree) for degree in degrees} == {True, False}  # rows alone, and rows with seeds


def test_persons_are_units_by_their_number_alone() -> None:
    rows, differences = ragged(5, 1.0)
    persons = [[f"person {row // 4}" for row in of] for of in rows]
    found = rows_paired(persons, differences)
    assert (found.difference, found.error, found.degrees) == pytest.approx(by_loops(persons, differences), rel=1e-12)
    assert found.error != pytest.approx(rows_paired(rows, differences).error, rel=0.01)


def test_one_seed_whose_rows_are_tested_once_is_the_paired_t_test() -> None:
    values = generator(1).standard_normal(30) + 0.3
    found = rows_paired([np.arange(30)], [values])
    plain = stats.ttest_1samp(values, 0.0)
    ends = plain.confidence_interval(0.95)
    assert tuple(found.paired()) == pytest.approx((values.mean(), ends.low, ends.high, plain.pvalue), rel=1e-9)


def test_disjoint_seeds_that_do_not_differ_are_one_t_test_and_more() -> None:
    """Folds of one cross-validation: each row is tested once, so the rows' part is the t-test's over all rows."""
    values = generator(2).standard_normal((5, 20))
    found = rows_paired(np.arange(100).reshape(5, 20), values)
    assert found.error >= stats.sem(values.ravel()) * (1 - 1e-12)


def test_a_factor_scales_the_error_alone() -> None:
    units, differences = ragged(3, 1.0)
    one, two = rows_paired(units, differences), rows_paired(units, differences, factor=2.0)
    assert (two.difference, two.error, two.degrees) == (one.difference, 2 * one.error, one.degrees)


def test_order_of_rows_and_of_seeds_plays_no_part() -> None:
    units, differences = ragged(4, 1.0)
    turned = rows_paired([of[::-1] for of in units[::-1]], [of[::-1] for of in differences[::-1]])
    assert turned.error == pytest.approx(rows_paired(units, differences).error, rel=1e-12)


def test_hits_without_a_difference_leave_room_for_a_row_that_differs() -> None:
    rows = np.tile(np.arange(50), (4, 1))
    found = rows_paired(rows, np.zeros((4, 50)))
    assert (found.difference, found.error, found.p) == (0.0, 1 / 50, 1.0)
    assert found.equivalence(0.01) > 0.05  # 50 rows show no equivalence within a point
    one = np.zeros((4, 50))
    one[:, 7] = -1
    assert rows_paired(rows, one).error == pytest.approx(1 / 50, rel=0.02)


@pytest.mark.parametrize("rate", [0.001, 0.01])
def test_a_difference_that_few_rows_show_is_covered_nonetheless(rate: float) -> None:
    """150 rows by 5 seeds of 30: most tables show no difference at all, and an interval without width would miss."""
    draw = generator(8)
    covered, without = [], 0
    for _ in range(400):
        rows = draw.permuted(np.tile(np.arange(150), (5, 1)), axis=1)[:, :30]
        differs = draw.random(150) < rate
        found = rows_paired(rows, differs[rows].astype(float)).paired()
        covered.append(found.low <= rate <= found.high)
        without += not differs[rows].any()
    assert np.mean(covered) >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 400)
    assert without > 60


def test_one_and_the_same_difference_is_judged_by_the_sign_test_of_the_rows() -> None:
    found = rows_paired([[0, 1, 2], [1, 2, 3]], [[-1, -1, -1], [-1, -1, -1]])
    assert found.p == pytest.approx(2.0**-3)
    assert rows_paired([np.arange(5000)], [np.full(5000, 0.5)]).p < 1e-100


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_no_number_leaves_nothing_known(broken: float) -> None:
    found = rows_paired([[0, 1], [1, 2]], [[0.1, broken], [0.2, 0.3]])
    assert found.p == 1.0
    assert all(map(math.isnan, (*found.paired()[:3], *found.posterior(0.1), found.detectable())))


@pytest.mark.parametrize(
    ("units", "differences", "message"),
    [
        ([[0, 1]], [[0.1]], r"of the same lengths, got 1 of shapes \[2\] and 1 of shapes \[1\]"),
        ([[0, 1], []], [[0.1, 0.2], []], "of the same lengths"),
        ([[[0, 1]]], [[[0.1, 0.2]]], "one list of test rows per seed"),
        ([[3, 3], [3]], [[0.1, 0.2], [0.1]], "2 units or more, got 1"),
        ([], [], "2 units or more, got 0"),
    ],
)
def test_what_is_no_list_of_rows_is_refused(units: Any, differences: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows_paired(units, differences)


# -- an effect ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("difference", "error", "degrees"), [(-0.02, 0.01, 3), (0.4, 0.5, 27.5), (1e-3, 2e-2, 900)])
def test_posterior_and_equivalence_are_student_s_t_to_many_digits(
    difference: float, error: float, degrees: float
) -> None:
    def below(x: float) -> float:
        """Student's t below x, by its density integrated in 30 digits."""
        with mpmath.workdps(30):
            v = mpmath.mpf(degrees)
            scale = mpmath.gamma((v + 1) / 2) / mpmath.sqrt(v * mpmath.pi) / mpmath.gamma(v / 2)
            half = mpmath.quad(lambda t: scale * (1 + t * t / v) ** (-(v + 1) / 2), [0, abs(x)])
            return float(mpmath.mpf(1) / 2 + (half if x > 0 else -half))

    effect, rope = Effect(difference, error, degrees), 0.015
    better, worse = below((-rope - difference) / error), 1 - below((rope - difference) / error)
    assert tuple(effect.posterior(rope)) == pytest.approx((better, 1 - better - worse, worse), abs=1e-12)
    above = below((abs(difference) - rope) / error)  # the later of the two one-sided tests to reject
    assert effect.equivalence(rope) == pytest.approx(above, abs=1e-12)
    low, high = effect.paired(0.9)[1:3]
    assert (effect.equivalence(rope) < 0.05) == (-rope < low and high < rope)


def test_equivalence_is_two_one_sided_t_tests() -> None:
    values = generator(6).standard_normal(40) * 0.1 + 0.02
    effect = Effect(float(values.mean()), float(stats.sem(values)), 39)
    lower = stats.ttest_1samp(values, -0.05, alternative="greater").pvalue
    upper = stats.ttest_1samp(values, 0.05, alternative="less").pvalue
    assert effect.equivalence(0.05) == pytest.approx(max(lower, upper), rel=1e-9)


def test_certainty_and_its_regions() -> None:
    certain = Effect(-0.02, 0.0, 5)
    assert tuple(certain.posterior(0.01)) == (1.0, 0.0, 0.0)
    assert tuple(certain.posterior(0.03)) == (0.0, 1.0, 0.0)
    assert (certain.equivalence(0.01), certain.equivalence(0.03), certain.p) == (1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="rope is half the width"):
        certain.posterior(-0.1)
    with pytest.raises(ValueError, match="margin is half the width"):
        certain.equivalence(math.nan)


def test_what_an_effect_detects_has_the_power() -> None:
    effect = Effect(0.0, 0.3, 12.5)
    needed = effect.detectable(0.9) / 0.3
    assert stats.nct.sf(stats.t.ppf(0.975, 12.5), 12.5, needed) == pytest.approx(0.9, abs=1e-6)


# -- measures as values of rows ----------------------------------------------------------------------------------------


def example(seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = generator(seed)
    positive = draw.random(60) < 0.4
    return np.round(positive + draw.standard_normal(60), 1), positive  # with ties


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_of_the_values_is_the_measure(seed: int) -> None:
    scores, positive = example(seed)
    says = scores > 0.5
    kinds = np.where(positive, "a", np.where(scores > 0, "b", "c"))
    target = scores + 1
    residuals = target - scores**2
    assert auroc_values(scores, positive).mean() == pytest.approx(metrics.roc_auc_score(positive, scores))
    assert f1_values(says, positive).mean() == pytest.approx(metrics.f1_score(positive, says))
    assert rmse_values(residuals).mean() == pytest.approx(metrics.root_mean_squared_error(target, scores**2))
    assert r2_values(residuals, target).mean() == pytest.approx(metrics.r2_score(target, scores**2))
    answers = np.where(scores > 0.8, "a", "b")
    expected = 1 - metrics.recall_score(kinds, answers, average="macro", zero_division=0)
    assert balanced_error_values(answers != kinds, kinds).mean() == pytest.approx(expected)


def leave_one_out(measure: Callable[[np.ndarray], float], n: int) -> np.ndarray:
    """Jackknife influence: what a measure loses without a row, times n - 1. Equals the influence to order 1 / n."""
    whole = measure(np.arange(n))
    return np.array([(n - 1) * (whole - measure(np.delete(np.arange(n), i))) for i in range(n)]) + whole


@pytest.mark.parametrize("seed", range(3))
def test_the_values_are_the_slopes_of_the_measures(seed: int) -> None:
    draw = generator(seed)
    n = 1000
    positive = draw.random(n) < 0.3
    scores = positive + draw.standard_normal(n)
    says, target = scores > 0.5, draw.standard_normal(n)
    residuals = 0.5 * draw.standard_normal(n) * (1 + positive)
    kinds = positive.astype(int)
    measures: dict[str, tuple[np.ndarray, Callable[[np.ndarray], float]]] = {
        "f1": (
            f1_values(says, positive),
            lambda i: float(2 * (says & positive)[i].sum() / (says[i].sum() + positive[i].sum())),
        ),
        "rmse": (rmse_values(residuals), lambda i: float(np.sqrt((residuals[i] ** 2).mean()))),
        "r2": (r2_values(residuals, target), lambda i: 1 - float((residuals[i] ** 2).mean() / target[i].var())),
        "balanced": (
            balanced_error_values(says != positive, kinds),
            lambda i: float(np.mean([(says != positive)[i][kinds[i] == k].mean() for k in (0, 1)])),
        ),
    }
    for name, (values, measure) in measures.items():
        slopes = leave_one_out(measure, n)
        assert np.abs(values - slopes).max() < 0.02 * np.abs(values).max(), name
        assert values.std() == pytest.approx(slopes.std(), rel=0.01), name


def delong(first: np.ndarray, second: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """DeLong, DeLong and Clarke-Pearson (1988), equations 3 to 6, pair by pair: difference and variance."""
    areas, ten, one = [], [], []
    for scores in (first, second):
        x, y = scores[positive].tolist(), scores[~positive].tolist()
        psi = [[1.0 if a > b else 0.5 if a == b else 0.0 for b in y] for a in x]
        ten.append([sum(row) / len(y) for row in psi])
        one.append([sum(row[j] for row in psi) / len(x) for j in range(len(y))])
        areas.append(sum(map(sum, psi)) / len(x) / len(y))
    s10, s01 = np.cov(ten), np.cov(one)
    contrast = np.array([1.0, -1.0])
    variance = contrast @ (s10 / len(ten[0]) + s01 / len(one[0])) @ contrast
    return areas[0] - areas[1], float(variance)


@pytest.mark.parametrize("seed", range(4))
def test_areas_under_the_curve_are_compared_as_delong_does(seed: int) -> None:
    scores, positive = example(seed)
    other = np.round(scores + generator(seed + 50).standard_normal(60), 1)
    difference, variance = delong(scores, other, positive)
    found = rows_paired([np.arange(60)], [auroc_values(scores, positive) - auroc_values(other, positive)])
    assert found.difference == pytest.approx(difference)
    p, n = positive.sum(), (~positive).sum()
    between = sorted((59 / 60 * p / (p - 1), 59 / 60 * n / (n - 1)))  # DeLong divides by p - 1 and n - 1, we by all - 1
    assert between[0] * (1 - 1e-9) <= variance / found.error**2 <= between[1] * (1 + 1e-9)


def test_placements_by_ranks_are_those_by_pairs() -> None:
    scores, positive = example(9)
    values = auroc_values(scores, positive)
    area = metrics.roc_auc_score(positive, scores)
    for i, value in enumerate(values):
        others = scores[positive != positive[i]]
        gaps = (scores[i] - others) * (1 if positive[i] else -1)
        placement = ((gaps > 0) + 0.5 * (gaps == 0)).mean()
        assert value == pytest.approx(area + 60 / (positive == positive[i]).sum() * (placement - area))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rmse_values([0.0, 0.0]), "compare squared errors"),
        (lambda: r2_values([0.1, 0.2], [1.0, 1.0]), "a target that varies"),
        (lambda: auroc_values([0.1, 0.2], [1, 1]), "positives and negatives"),
        (lambda: f1_values([0, 0], [0, 0]), "a positive, true or predicted"),
        (lambda: f1_values([0, 1], [0, 1, 1]), r"got shapes \[2\] and \[3\]"),
        (lambda: rmse_values([]), r"one value per test row, \[m\], got shape \[0\]"),
    ],
)
def test_measures_without_a_value_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
