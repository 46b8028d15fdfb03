"""The test for luck: against its formula written out, SciPy's t distribution, and its own promise under simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from vicinal.keyed import Key
from vicinal.lab.statistics import auroc, detectable, holm, interval, paired
from vicinal.lab.statistics.influence import rmse_values


def normals(seed: int, *shape: int) -> np.ndarray:
    return Key(seed, 0, 0, 0).generator().standard_normal(shape)


def by_hand(values: list[float], share: float, level: float) -> tuple[float, float, float, float]:
    """Nadeau and Bengio (2003), section 4: sigma**2 * (1/J + n2/n1), with Student's t of J - 1 degrees of freedom."""
    seeds = len(values)
    mean = math.fsum(values) / seeds
    variance = math.fsum((v - mean) ** 2 for v in values) / (seeds - 1)
    error = math.sqrt((1 / seeds + share) * variance)
    reach = float(stats.t.ppf(0.5 + level / 2, seeds - 1)) * error
    return mean, mean - reach, mean + reach, float(2 * stats.t.sf(abs(mean) / error, seeds - 1))


@pytest.mark.parametrize("seeds", [2, 3, 10, 20, 200])
@pytest.mark.parametrize("share", [0.0, 1 / 3, 2.0])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_paired_is_the_formula(seeds: int, share: float, level: float) -> None:
    values = (0.02 * normals(seeds, seeds) + 0.01).tolist()
    assert tuple(paired(values, share, level)) == pytest.approx(by_hand(values, share, level), rel=1e-12)
    assert tuple(interval(values, share, level)) == pytest.approx(by_hand(values, share, level)[:3], rel=1e-12)


def test_without_overlap_it_is_the_plain_t_test() -> None:
    values = normals(7, 12) + 0.4
    plain = stats.ttest_1samp(values, 0.0)
    ends = plain.confidence_interval(0.95)
    assert tuple(paired(values.tolist(), 0.0)) == pytest.approx((values.mean(), ends.low, ends.high, plain.pvalue))


def test_overlap_widens_the_interval() -> None:
    values = (normals(8, 20) + 0.3).tolist()
    widths = [paired(values, share).high - paired(values, share).low for share in (0.0, 1 / 3, 1.0)]
    assert widths[1] / widths[0] == pytest.approx(math.sqrt((1 / 20 + 1 / 3) * 20))
    assert widths[2] / widths[0] == pytest.approx(math.sqrt((1 / 20 + 1) * 20))


def test_size_and_coverage_are_what_they_say() -> None:
    draws = normals(3, 4000, 6)
    results = [paired(values.tolist(), 0.0) for values in draws]
    spread = 3 * math.sqrt(0.05 * 0.95 / len(draws))
    assert np.mean([r.p < 0.05 for r in results]) == pytest.approx(0.05, abs=spread)
    assert np.mean([not r.low <= 0 <= r.high for r in results]) == pytest.approx(0.05, abs=spread)
    assert np.mean([r.p for r in results]) == pytest.approx(0.5, abs=3 * math.sqrt(1 / 12 / len(draws)))
    moved = [interval((values + 2.5).tolist(), 0.0) for values in draws]
    assert np.mean([of.low <= 2.5 <= of.high for of in moved]) == pytest.approx(0.95, abs=spread)


def test_the_correction_holds_the_size_where_seeds_share_a_test_set() -> None:
    """Differences with the correlation n_test / (n_test + n_train), which the correction was derived for."""
    seeds, share = 10, 1 / 3
    rho = share / (1 + share)
    draws = math.sqrt(rho) * normals(4, 4000, 1) + math.sqrt(1 - rho) * normals(5, 4000, seeds)
    plain = np.mean([paired(values.tolist(), 0.0).p < 0.05 for values in draws])
    corrected = np.mean([paired(values.tolist(), share).p < 0.05 for values in draws])
    assert plain > 0.2  # what the correction is for
    assert corrected == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / len(draws)))


def test_p_below_a_twentieth_says_the_same_as_the_interval() -> None:
    for values in normals(6, 300, 4) + 0.8:
        found = paired(values.tolist(), 1 / 3)
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)


def test_no_difference_at_all_is_no_difference() -> None:
    assert tuple(paired([0.0] * 5, 1 / 3)) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("seeds", [2, 3, 5, 6, 20, 100])
@pytest.mark.parametrize("difference", [-1 / 30, 0.25])
def test_one_and_the_same_difference_is_judged_by_the_sign_test(seeds: int, difference: float) -> None:
    """No spread is no certainty: J seeds agree in sign by luck with probability 2**(1 - J)."""
    found = paired([difference] * seeds, 1 / 3)
    assert found.difference == difference
    assert found.p == 2.0 ** (1 - seeds)
    assert (found.low <= 0 <= found.high) == (found.p > 0.05)
    assert (found.high - difference) == pytest.approx(difference - found.low)


def test_the_same_difference_to_rounding_is_no_spread_either() -> None:
    """3/30 - 2/30 and 2/30 - 1/30 differ in the last bit; their t would be of the order of 1e15."""
    values = [3 / 30 - 2 / 30, 2 / 30 - 1 / 30, 7 / 30 - 6 / 30]
    assert len(set(values)) > 1
    assert paired(values, 1 / 3).p == 0.25


def test_a_mean_without_spread_has_an_interval_without_width() -> None:
    assert tuple(interval([0.1] * 4, 1 / 3)) == (0.1, 0.1, 0.1)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_difference_that_is_no_number_is_never_found(broken: float) -> None:
    found = paired([0.1, broken, 0.2], 1 / 3)
    assert found.p == 1.0
    assert all(map(math.isnan, found[:3]))
    assert all(map(math.isnan, interval([0.1, broken, 0.2], 1 / 3)))


def test_one_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="2 seeds or more, got 1"):
        paired([0.1], 0.0)


def closed_test_by_bonferroni(p: list[float]) -> list[float]:
    """Holm by its meaning: reject i if every set of hypotheses with i is rejected by Bonferroni (closed testing)."""
    members = range(len(p))
    subsets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(members, size)]
    return [max(min(1.0, len(s) * min(p[j] for j in s)) for s in subsets if i in s) for i in members]


def test_holm_is_the_closed_bonferroni_test() -> None:
    generator = Key(11, 0, 0, 0).generator()
    for size in (1, 2, 3, 5, 7):
        for _ in range(20):
            p = (generator.random(size) ** 3).tolist()
            assert holm(p) == pytest.approx(closed_test_by_bonferroni(p), rel=1e-14)


def test_holm_on_an_example_worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([]) == []


def test_holm_keeps_the_chance_of_any_false_find_at_a_twentieth() -> None:
    p = stats.norm.sf(np.abs(normals(12, 4000, 5))) * 2
    any_found = np.mean([min(holm(row.tolist())) < 0.05 for row in p])
    assert any_found == pytest.approx(1 - 0.99**5, abs=3 * math.sqrt(0.05 * 0.95 / len(p)))


@pytest.mark.parametrize(("n", "power"), [(2, 0.8), (3, 0.8), (10, 0.5), (20, 0.9), (500, 0.8)])
def test_what_is_detectable_is_found_with_the_power(n: int, power: float) -> None:
    shift = detectable(2.5, n, power) * math.sqrt(n) / 2.5
    t = stats.t.ppf(0.975, n - 1)
    assert stats.nct.sf(t, n - 1, shift) == pytest.approx(power, abs=1e-6)


def test_what_is_detectable_is_found_in_simulation() -> None:
    draws = 1.5 * normals(9, 4000, 6) + detectable(1.5, 6)
    found = np.mean([paired(values.tolist(), 0.0).p < 0.05 for values in draws])
    assert found == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / len(draws)))


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_how_often_a_positive_score_is_above_a_negative_one(seed: int) -> None:
    from sklearn.metrics import roc_auc_score

    scores = np.round(normals(seed, 30), 1)  # with ties
    kinds = scores + normals(seed + 100, 30) > 0.3
    positive, negative = scores[kinds].tolist(), scores[~kinds].tolist()
    wins = sum((a > b) + 0.5 * (a == b) for a in positive for b in negative)
    assert auroc(positive, negative) == pytest.approx(wins / len(positive) / len(negative))
    assert auroc(positive, negative) == pytest.approx(roc_auc_score(kinds, scores))


def test_auroc_needs_scores_of_both_kinds() -> None:
    assert math.isnan(auroc([], [0.1]))
    assert math.isnan(auroc([0.1], []))


def test_an_rmse_of_what_diverged_is_not_known() -> None:
    assert np.isnan(rmse_values([1.0, float("nan"), 2.0])).all()
    with pytest.raises(ValueError, match="no slope where every residual is 0"):
        rmse_values([0.0, 0.0])
