"""Scores from anywhere, judged: against published examples, SciPy and plain loops; and what is refused."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats

from vicinal.keyed import Key
from vicinal.lab.cli import main
from vicinal.lab.errors import UserError
from vicinal.lab.judge import judge, probability
from vicinal.lab.statistics import five_by_two, five_by_two_t, holm, paired, posterior, resampled, rows_paired

BASE = [0.30, 0.32, 0.29, 0.31, 0.33, 0.30]
BETTER = [0.27, 0.30, 0.26, 0.29, 0.31, 0.28]
LIKE = [0.31, 0.31, 0.30, 0.30, 0.33, 0.31]


def columns(**methods: list[float]) -> dict[str, list[Any]]:
    lines = [(name, seed, score) for name, scores in methods.items() for seed, score in enumerate(scores)]
    return dict(zip(("method", "seed", "score"), map(list, zip(*lines, strict=True)), strict=True))


# -- published examples ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moons() -> dict[str, list[float]]:
    """The areas of scikit-learn's example "Statistical comparison of models using grid search", 100 folds each."""
    from sklearn.datasets import make_moons
    from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
    from sklearn.svm import SVC

    x, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    models = {"linear": SVC(kernel="linear"), "poly": SVC(kernel="poly", degree=3), "rbf": SVC(kernel="rbf")}
    return {name: cross_val_score(model, x, y, scoring="roc_auc", cv=folds).tolist() for name, model in models.items()}


def test_scikit_learn_s_example_of_the_corrected_test(moons: dict[str, list[float]]) -> None:
    """Its page prints t 0.750 and p 0.227 corrected, 2.611 and 0.005 not, one-sided; 0.773 and 0.227 for the posterior."""
    differences = [a - b for a, b in zip(moons["rbf"], moons["linear"], strict=True)]
    corrected, plain = resampled(differences, 10 / 90), resampled(differences, 0.0)
    assert [round(of.difference / of.error, 3) for of in (corrected, plain)] == [0.750, 2.611]
    assert [round(of.p / 2, 3) for of in (corrected, plain)] == [0.227, 0.005]
    worse, same, better = posterior(differences, 10 / 90, 0.0)  # of an area, higher is better
    assert (round(better, 3), round(worse, 3), same) == (0.773, 0.227, pytest.approx(0.0, abs=1e-12))


def test_scikit_learn_s_example_of_practical_equivalence(moons: dict[str, list[float]]) -> None:
    """Its page prints, for a region of 0.01: worse 0.068, better 0.500, the same 0.432; and 0.018, 0.882, 0.100."""
    judged = judge(columns(**moons), baseline="rbf", test_share=10 / 90, rope=0.01, higher_is_better=True)
    linear, poly = judged.methods
    assert [round(share or 0, 3) for share in (linear.better, linear.worse, linear.same)] == [0.068, 0.500, 0.432]
    assert [round(share or 0, 3) for share in (poly.better, poly.worse, poly.same)] == [0.018, 0.882, 0.100]


def test_five_by_two_folds_as_their_authors_write_them() -> None:
    """Dietterich (1998), equation in 3.5; Alpaydin (1999), equation 5: loops, and SciPy's distributions."""
    for seed in range(10):
        p = Key(seed, 0, 0, 0).generator().standard_normal((5, 2)) * 0.03 + 0.02
        s2 = [(a - (a + b) / 2) ** 2 + (b - (a + b) / 2) ** 2 for a, b in p]
        t = p[0][0] / math.sqrt(sum(s2) / 5)
        f = sum(x * x for pair in p for x in pair) / (2 * sum(s2))
        assert five_by_two_t(p.tolist()) == pytest.approx((t, 2 * stats.t.sf(abs(t), 5)))
        assert five_by_two(p.tolist()) == pytest.approx((f, stats.f.sf(f, 10, 5)))


def test_five_by_two_folds_find_no_more_than_they_say() -> None:
    """Numerator and denominator share data, so that both are approximate, and of independent differences too cautious."""
    draws = Key(3, 0, 0, 0).generator().standard_normal((2000, 5, 2))
    reach = 3.3 * math.sqrt(0.05 * 0.95 / len(draws))
    for test in (five_by_two, five_by_two_t):
        assert 0.01 < np.mean([test(of.tolist())[1] < 0.05 for of in draws]) < 0.05 + reach
    apart = draws + 4.0
    assert np.mean([five_by_two(of.tolist())[1] < 0.05 for of in apart]) > 0.8


def test_five_by_two_folds_without_spread_or_in_another_shape() -> None:
    assert five_by_two([[0.1, 0.1]] * 5)[1] == five_by_two_t([[0.1, 0.1]] * 5)[1] == 1.0
    with pytest.raises(ValueError, match=r"shape \[5, 2\], got \[2, 5\]"):
        five_by_two([[0.1] * 5] * 2)


# -- one score per seed ------------------------------------------------------------------------------------------------


def test_every_figure_of_a_method() -> None:
    judged = judge(columns(ERM=BASE, mixup=BETTER, cutmix=LIKE), test_share=1 / 3, rope=0.005)
    assert (judged.baseline, judged.test, judged.seeds, judged.units) == ("ERM", "corrected resampled t", 6, None)
    assert judged.baseline_score == pytest.approx(np.mean(BASE))
    differences = [[m - e for m, e in zip(method, BASE, strict=True)] for method in (BETTER, LIKE)]
    corrected = holm([paired(of, 1 / 3).p for of in differences])
    for one, of, p in zip(judged.methods, differences, corrected, strict=True):
        assert (one.difference, one.low, one.high, one.p) == pytest.approx(tuple(paired(of, 1 / 3)))
        assert one.p_holm == pytest.approx(p)
        assert (one.better, one.same, one.worse) == pytest.approx(tuple(posterior(of, 1 / 3, 0.005)))
        assert one.detectable == pytest.approx(resampled(of, 1 / 3).detectable(level=0.025))
    assert [one.verdict for one in judged.methods] == ["better", "no difference found"]
    assert judged.methods[0].sentence.startswith(
        "mixup is better than ERM: 0.2850 instead of 0.3083 (difference -0.0233,"
    )
    assert "would have been found with 80 % probability" in judged.methods[1].sentence


def test_independent_scores_are_judged_by_scipy_s_paired_t_test() -> None:
    (one,) = judge(columns(baseline=BASE, other=BETTER), independent=True).methods
    plain = stats.ttest_rel(BETTER, BASE)
    ends = plain.confidence_interval(0.95)
    assert (one.low, one.high, one.p) == pytest.approx((ends.low, ends.high, plain.pvalue))
    assert (one.better, one.same, one.worse, one.p_equivalence) == (None, None, None, None)


def test_higher_is_better_turns_the_verdict_and_not_the_difference() -> None:
    scores = columns(ERM=BASE, mixup=BETTER)
    lower, higher = (judge(scores, independent=True, rope=0.001, higher_is_better=h).methods[0] for h in (False, True))
    assert (lower.verdict, higher.verdict) == ("better", "worse")
    assert lower.difference == higher.difference < 0
    assert (lower.better, lower.worse) == (higher.worse, higher.better)


def test_practically_the_same_is_shown_and_not_assumed() -> None:
    near = [base + error for base, error in zip(BASE, [1e-4, -1e-4, 2e-4, 0, -2e-4, 1e-4], strict=True)]
    wide, narrow = (judge(columns(ERM=BASE, near=near), independent=True, rope=r).methods[0] for r in (0.01, 1e-5))
    assert wide.verdict == "practically the same"
    assert wide.sentence.startswith("near and ERM are practically the same, within 0.01: ")
    assert narrow.verdict == "no difference found"


def test_order_of_lines_and_names_of_seeds_play_no_part() -> None:
    scores = columns(ERM=BASE, mixup=BETTER)
    order = Key(1, 0, 0, 0).generator().permutation(12).tolist()
    turned = {"fold": [f"fold {scores['seed'][i]}" for i in order]}
    turned |= {name: [scores[name][i] for i in order] for name in ("method", "score")}
    mine, theirs = judge(scores, test_share=0.25).methods[0], judge(turned, test_share=0.25).methods[0]
    assert (mine.difference, mine.p) == pytest.approx((theirs.difference, theirs.p))


def test_constant_differences_are_judged_by_the_sign_test() -> None:
    (one,) = judge(columns(ERM=[0.3, 0.2, 0.4], less=[0.2, 0.1, 0.3]), independent=True).methods
    assert one.p == pytest.approx(0.25)
    (same,) = judge(columns(ERM=BASE, twin=BASE), test_share=0.25).methods
    assert (same.difference, same.p, same.verdict) == (0.0, 1.0, "no difference found")


def test_no_more_is_said_of_the_same_scores_than_is_known() -> None:
    """Without spread nothing is known of the error: n signs are all there is, and 2**-n the chance of those."""
    for seeds, verdict in ((4, "no difference found"), (5, "practically the same")):
        same = columns(ERM=BASE[:seeds], twin=BASE[:seeds])
        (one,) = judge(same, test_share=0.25, rope=0.01).methods
        assert (one.difference, one.p, one.p_equivalence, one.constant) == (0.0, 1.0, 2.0**-seeds, True)
        assert (one.better, one.same, one.worse, one.verdict) == (None, None, None, verdict)
        assert all(map(math.isnan, (one.low, one.high, one.detectable)))
        assert f"the sign test's over {seeds} seeds, and there is no interval" in one.sentence
        assert "80 %" not in one.sentence
    (near,) = judge(
        columns(ERM=[0.3, 0.2, 0.4, 0.1], less=[0.25, 0.15, 0.35, 0.05]), independent=True, rope=0.1
    ).methods
    assert (near.p, near.p_equivalence, near.same, near.verdict) == (0.125, 0.0625, None, "no difference found")
    assert "80 %" not in near.sentence


def test_rounding_is_no_difference_and_no_spread() -> None:
    base = [i / 10 for i in range(1, 9)]
    other = list(itertools.accumulate([0.1] * 8))  # 0.3 and 0.30000000000000004
    assert base != other
    (one,) = judge(columns(ERM=base, other=other), independent=True).methods
    assert (one.difference, one.p, one.verdict) == (0.0, 1.0, "no difference found")
    large = [1e9 + score for score in (0.1, 0.2, 0.3, 0.4)]
    (offset,) = judge(columns(ERM=large, other=[score - 0.05 for score in large]), independent=True).methods
    assert (offset.p, offset.constant) == (0.125, True)
    assert offset.difference == pytest.approx(-0.05, abs=2e-7)


# -- scale -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e300, 3e306, 1e9, 1e-9, 1e-300, 1e-307, -1e300])
@pytest.mark.parametrize("options", [{"independent": True}, {"test_share": 0.25}, {}])
def test_the_unit_of_the_scores_plays_no_part(scale: float, options: dict[str, Any]) -> None:
    plain = columns(ERM=BASE, mixup=BETTER) if options else losses()
    scaled = {**plain, "score": [score * scale for score in plain["score"]]}
    rope, turn = 0.02, scale < 0
    expected = judge(plain, rope=rope, **options).methods[0]
    found = judge(scaled, rope=rope * abs(scale), higher_is_better=turn, **options).methods[0]
    for name in ("p", "p_holm", "better", "same", "worse", "p_equivalence"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9)
    for name in ("score", "difference"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name) * scale, rel=1e-9)
    ends = sorted((expected.low * scale, expected.high * scale))
    assert (found.low, found.high) == pytest.approx(tuple(ends), rel=1e-9)
    assert found.detectable == pytest.approx(expected.detectable * abs(scale), rel=1e-9)
    assert found.verdict == expected.verdict


def test_numbers_below_the_normal_ones_are_judged_as_others_are() -> None:
    smallest = 5e-324
    ranks, others = [10.0, 12.0, 11.0, 15.0, 13.0], [7.0, 8.0, 9.0, 11.0, 8.0]
    tiny = columns(ERM=[of * smallest for of in ranks], m=[of * smallest for of in others])
    (one,) = judge(tiny, independent=True).methods
    assert one.p == pytest.approx(stats.ttest_rel(others, ranks).pvalue)


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e160, 1e-160])
def test_statistics_neither_overflow_nor_vanish(scale: float) -> None:
    values = np.array([-0.02, -0.01, -0.03, 0.004, -0.02])
    for share in (0.0, 1 / 3):
        plain, scaled = resampled(values.tolist(), share), resampled((values * scale).tolist(), share)
        assert (scaled.p, scaled.error) == pytest.approx((plain.p, plain.error * scale))
    folds = Key(6, 0, 0, 0).generator().standard_normal((5, 2))
    for test in (five_by_two, five_by_two_t):
        assert test((folds * scale).tolist()) == pytest.approx(test(folds.tolist()))
    units = np.arange(20).reshape(4, 5) % 8
    rows = Key(7, 0, 0, 0).generator().standard_normal((4, 5))
    plain, scaled = rows_paired(list(units), list(rows)), rows_paired(list(units), list(rows * scale))
    assert (scaled.p, scaled.error, scaled.degrees) == pytest.approx((plain.p, plain.error * scale, plain.degrees))


def test_errors_in_percent_are_as_sure_as_errors() -> None:
    """With errors of 0 and 1 no interval is narrower than one row that differs makes it: with 0 and 100 neither."""
    rows = {"method": ["ERM"] * 20 + ["m"] * 20, "seed": [0, 1] * 20, "row": [i // 2 for i in range(20)] * 2}
    hits = [0.0] * 20 + [1.0, 1.0] + [0.0] * 18
    plain, percent = (judge({**rows, "score": [h * unit for h in hits]}).methods[0] for unit in (1.0, 100.0))
    assert (percent.p, percent.high) == pytest.approx((plain.p, 100 * plain.high))
    flat = judge({**rows, "score": [0.0] * 40}).methods[0]
    assert flat.high == pytest.approx(stats.t.ppf(0.975, 9) / 10)  # one of ten rows might differ
    assert math.isnan(judge({**rows, "score": [0.7] * 40}).methods[0].high)  # of a loss nothing is known


# -- what is said ------------------------------------------------------------------------------------------------------


def test_a_verdict_and_its_chances_agree() -> None:
    """Rope by rope, from one of no width to one that holds all: each verdict and each sentence says what the chances are."""
    seen = []
    for higher in (False, True):
        for rope in (1e-6, 0.015, 0.02, 0.0225, 0.024, 0.027, 0.035, 1.0):
            (one,) = judge(
                columns(ERM=BASE, mixup=BETTER), test_share=1 / 3, rope=rope, higher_is_better=higher
            ).methods
            effect = resampled([m - e for m, e in zip(BETTER, BASE, strict=True)], 1 / 3)
            lower, same, _ = effect.posterior(rope)
            way = "worse" if higher else "better"
            assert one.p < 0.05
            assert (getattr(one, way), one.same) == pytest.approx((lower, same))
            if same > 0.95:
                assert one.verdict == "practically the same"
                p = "< 0.0001" if effect.equivalence(rope) < 1e-4 else f"= {effect.equivalence(rope):.2g}"
                assert f"; p of equivalence {p})." in one.sentence
                assert f"A difference is shown (p = {one.p:.2g}), and it lies within {rope:g} with" in one.sentence
            elif same > lower:
                assert one.verdict == f"{way} or practically the same"
                assert f"lies within {rope:g} with probability {100 * same:.1f} %" in one.sentence
            else:
                assert one.verdict == way
                assert one.sentence.startswith(f"mixup is {way} than ERM: ")
            seen.append(one.verdict)
    assert set(seen) == {
        *("better", "better or practically the same", "worse", "worse or practically the same", "practically the same")
    }


def test_the_p_of_equivalence_is_named_where_it_is_what_counts() -> None:
    (one,) = judge(columns(ERM=BASE, like=LIKE), test_share=1 / 3, rope=0.05).methods
    effect = resampled([m - e for m, e in zip(LIKE, BASE, strict=True)], 1 / 3)
    assert one.sentence == (
        "like and ERM are practically the same, within 0.05: 0.3100 instead of 0.3083 (difference +0.0017, 95 % interval "
        f"{effect.paired().low:.4f} to +{effect.paired().high:.4f}; p of equivalence = {effect.equivalence(0.05):.2g})."
    )


@pytest.mark.parametrize(
    ("base", "other", "said"),
    [
        ([99.981, 99.983, 99.979], [99.985, 99.986, 99.985], "99.9853 instead of 99.9810 (difference +0.0043,"),
        ([0.69315, 0.69316, 0.69314], [0.69313, 0.69314, 0.693119], "0.693130 instead of 0.693150 (difference -0.0000203,"),
        ([12051.31, 12050.9, 12052.2], [12050.9, 12050.45, 12051.82], "12051.06 instead of 12051.47 (difference -0.413,"),
        ([1e9 + 0.1, 1e9 + 0.2, 1e9 + 0.3], [1e9 + 0.05, 1e9 + 0.16, 1e9 + 0.28], "(difference -0.037,"),
        ([5e8, 6e8, 7e8], [4e8, 4.9e8, 5.8e8], "4.900e+08 instead of 6.000e+08 (difference -1.100e+08"),
        ([0.5, 0.6, 0.7], [0.0, 0.1000001, 0.2000002], "(difference -0.49999990, 95 % interval -0.50000015 to -0.49999965"),
        ([3e-8, 4e-8, 5e-8], [1e-8, 2.2e-8, 3.1e-8], "2.100e-08 instead of 4.000e-08 (difference -1.900e-08"),
    ],
    ids=["accuracy", "close", "perplexity", "offset", "large", "sure", "small"],
)  # fmt: skip
def test_digits_follow_the_difference(base: list[float], other: list[float], said: str) -> None:
    (one,) = judge(columns(ERM=base, m=other), independent=True).methods
    assert said in one.sentence


def test_no_figure_of_a_sentence_is_rounded_away() -> None:
    """Whatever the level and the difference: every number that is not 0 is written with 2 digits of its own or more."""
    draw = Key(9, 0, 0, 0).generator()
    for level in (0.0, 1e-6, 0.3, 99.0, 12345.0, 1e9):
        for size in (1e-5, 1e-3, 0.1, 10.0, 1e4):
            base = level + size * draw.standard_normal(6)
            (one,) = judge(
                columns(ERM=base.tolist(), m=(base + size * draw.random(6)).tolist()), independent=True
            ).methods
            number = r"([-+]?\d[\d.]*(?:e[-+]\d+)?)"
            found = re.search(
                rf"{number} instead of {number} \(difference {number}, 95 % interval {number} to {number};",
                one.sentence,
            )
            assert found is not None
            score, baseline, difference, low, high = map(float, found.groups())
            assert (difference, low, high) == pytest.approx((one.difference, one.low, one.high), rel=0.05)
            assert score - baseline == pytest.approx(one.difference, rel=0.11, abs=1e-15 * level)


@pytest.mark.parametrize("name", ["seed", "fold", "split"])
@pytest.mark.parametrize("unit", ["row", "group"])
def test_a_judgment_has_the_words_of_the_file(name: str, unit: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = losses(unit == "group")
    pl.DataFrame({name if column == "seed" else column: of for column, of in rows.items()}).write_csv("r.csv")
    assert main(["judge", "r.csv"]) == 0
    units = len(set(rows[unit]))
    assert f"Test: 5 {name}s and {units} {unit}s as units" in capsys.readouterr().out
    pl.DataFrame({name if column == "seed" else column: of for column, of in PAIR.items()}).write_csv("s.csv")
    assert main(["judge", "s.csv", "--independent"]) == 0
    assert f"paired t-test over 6 {name}s," in capsys.readouterr().out


# -- losses of rows ----------------------------------------------------------------------------------------------------


def losses(groups: bool = False) -> dict[str, list[Any]]:
    draw = Key(4, 0, 0, 0).generator()
    lines: list[tuple[Any, ...]] = []
    for seed in range(5):
        rows = draw.permutation(60)[:20].tolist()
        for method, shift in (("ERM", 0.0), ("mixup", -0.4)):
            for row in draw.permutation(rows).tolist():
                lines.append((method, seed, row, row // 3, float(shift + 0.3 * draw.standard_normal() + row / 60)))
    names: tuple[str, ...] = ("method", "seed", "row", "group", "score")
    table: dict[str, list[Any]] = dict(zip(names, map(list, zip(*lines, strict=True)), strict=True))
    return table if groups else {name: of for name, of in table.items() if name != "group"}


@pytest.mark.parametrize("groups", [False, True])
def test_rows_and_groups_are_units(groups: bool) -> None:
    scores = losses(groups)
    judged = judge(scores)
    frame = pl.DataFrame(scores).pivot("method", index=[c for c in scores if c not in ("method", "score")])
    parts = frame.partition_by("seed")
    units = [part["group" if groups else "row"].to_list() for part in parts]
    effect = rows_paired(units, [(part["mixup"] - part["ERM"]).to_list() for part in parts])
    one = judged.methods[0]
    assert (one.difference, one.low, one.high, one.p) == pytest.approx(tuple(effect.paired()))
    assert (judged.test, judged.units) == ("rows and seeds", len({unit for of in units for unit in of}))
    assert one.verdict == "better"


# -- what is refused ---------------------------------------------------------------------------------------------------


def changed(scores: dict[str, list[Any]], line: int, **values: Any) -> dict[str, list[Any]]:
    return {name: [*of[:line], values.get(name, of[line]), *of[line + 1 :]] for name, of in scores.items()}


PAIR = columns(ERM=BASE, mixup=BETTER)
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no way to tell": (PAIR, {}, "what does a seed change?"),
    "both ways": (PAIR, {"test_share": 0.3, "independent": True}, "keep one"),
    "share": (PAIR, {"test_share": 0.0}, "above 0 and up to 10, such as 0.25 for 5 folds, got 0"),
    "share nan": (PAIR, {"test_share": math.nan}, "for 5 folds, got nan"),
    "share in percent": (PAIR, {"test_share": 25.0}, "n_test / n_train, above 0 and up to 10, .* got 25"),
    "share inf": (PAIR, {"test_share": math.inf}, "for 5 folds, got inf"),
    "rope": (PAIR, {"independent": True, "rope": -1.0}, "above 0, got -1"),
    "no baseline": (columns(a=BASE, b=BETTER), {"independent": True}, "choose the one to compare with by --baseline"),
    "two baselines": (columns(ERM=BASE, baseline=BETTER), {"independent": True}, "more than one method is called"),
    "another baseline": (PAIR, {"independent": True, "baseline": "mixupp"}, "did you mean 'mixup'"),
    "one method": (columns(ERM=BASE), {"independent": True}, "scores of 'ERM' alone"),
    "one seed": (columns(ERM=[0.1], mixup=[0.2]), {"independent": True}, "there is one seed alone"),
    "unequal seeds": (columns(ERM=BASE, mixup=BETTER[:4]), {"independent": True}, "'mixup' has no score for seed 4, 5"),
    "nan": (
        changed(PAIR, 7, score=math.nan),
        {"independent": True},
        r"score 8 \(mixup, seed 1\) has no score: a run that failed is a result too",
    ),
    "inf": (changed(PAIR, 0, score=math.inf), {"independent": True}, "which is not finite: a run that failed"),
    "missing": (changed(PAIR, 0, score=None), {"independent": True}, r"score 1 \(ERM, seed 0\) has no score"),
    "missing in words": (
        changed(PAIR, 0, score=" NA "),
        {"independent": True},
        r"score 1 \(ERM, seed 0\) has no score",
    ),
    "underscore": (changed(PAIR, 0, score="0_3"), {"independent": True}, "the score '0_3', which is not a number"),
    "several seeds": (changed(PAIR, 3, seed=[3]), {"independent": True}, "score 4 has several values for its seed"),
    "too large": (columns(ERM=[1.7e308, 1.6e308], m=[-1.7e308, -1.6e308]), {"independent": True}, "divide all scores"),
    "text": (changed(PAIR, 0, score="0,3"), {"independent": True}, "the score '0,3', which is not a number"),
    "no name": (changed(PAIR, 2, method=""), {"independent": True}, "score 3 has no method"),
    "doubled": (changed(PAIR, 1, seed=0), {"independent": True}, "'ERM' has two scores for seed 0: keep one"),
    "no seed": ({"method": ["a"], "score": [1.0]}, {}, "need a column 'seed', 'fold' or 'split'"),
    "seed and fold": ({**PAIR, "fold": PAIR["seed"]}, {}, "keep one that numbers every pair of scores"),
    "misspelt": ({"methods": ["a"], "seed": [1], "score": [1.0]}, {}, "need a column 'method'"),
    "ragged": ({**PAIR, "score": [0.1]}, {}, "different lengths"),
    "empty": ({"method": [], "seed": [], "score": []}, {}, "there are no scores"),
    "group alone": ({**PAIR, "group": PAIR["seed"]}, {}, "a column 'group' needs a column 'row'"),
    "rows and share": (losses(), {"test_share": 0.3}, "leave --test-share out"),
    "rows and independent": (losses(), {"independent": True}, "leave --independent out"),
    "other rows": (changed(losses(), 0, row=77), {}, "were tested on different rows for seed 0"),
    "doubled row": (changed(losses(), 1, row=losses()["row"][0]), {}, "has two scores for seed 0 and row"),
    "two groups": (changed(losses(True), 0, group=99), {}, "has two groups: correct the column 'group'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_scores_without_sense_are_refused(case: str) -> None:
    scores, options, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        judge(scores, **options)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_as(name: str, frame: pl.DataFrame) -> None:
    writers = {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}
    writers[".xlsx"] = frame.write_excel
    suffix = Path(name).suffix
    if suffix == ".tsv":
        frame.write_csv(name, separator="\t")
    elif suffix == ".json":
        Path(name).write_text(json.dumps(frame.to_dicts()))
    else:
        writers[suffix](name)


@pytest.mark.parametrize("name", ["s.csv", "s.tsv", "s.json", "s.jsonl", "s.parquet", "s.xlsx"])
def test_files_of_every_kind(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_as(name, pl.DataFrame(PAIR))
    assert main(["judge", name, "--test-share", "0.25", "--out", "o.json"]) == 0
    printed = capsys.readouterr().out
    record = json.loads(Path("o.json").read_text())
    (mine,) = record["judgment"]["methods"]
    expected = paired([m - e for m, e in zip(BETTER, BASE, strict=True)], 0.25)
    assert (mine["difference"], mine["low"], mine["high"], mine["p"]) == pytest.approx(tuple(expected))
    assert record["command"] == f"vicinal judge {name} --test-share 0.25 --out o.json"
    assert mine["sentence"] in printed
    assert "corrected resampled t-test over 6 seeds" in printed


def test_columns_as_json_and_rows_as_csv(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.json").write_text(json.dumps(PAIR))
    pl.DataFrame(losses(True)).write_csv("r.csv")
    assert main(["judge", "c.json", "--independent"]) == 0
    assert main(["judge", "r.csv", "--rope", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert judge(losses(True), rope=0.1).methods[0].sentence in printed
    assert "Practically the same: within 0.1." in printed


def test_scores_from_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(pl.DataFrame(PAIR).write_csv()))
    assert main(["judge", "-", "--independent", "--higher-is-better"]) == 0
    assert "mixup is worse than ERM" in capsys.readouterr().out


def test_commas_as_decimal_marks(capsys: pytest.CaptureFixture[str]) -> None:
    text = "method;seed;score\n" + "".join(
        f"{m};{s};{x:.2f}\n".replace(".", ",") for m, s, x in zip(*PAIR.values(), strict=True)
    )
    Path("s.csv").write_text(text)
    assert main(["judge", "s.csv", "--independent"]) == 0
    assert "0.2850 instead of 0.3083" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "s.csv",
            "",
            "'s.csv' is empty: give a line with the names of the columns, such as method, seed and score, and",
        ),
        ("s.json", "", "'s.json' is empty"),
        ("s.jsonl", "\n", "'s.jsonl' is empty"),
        ("s.json", '{"columns": ["method"], "data": [["a", 1]]}', "'data' has rows of other lengths than the 1 column"),
        ("s.json", '{"method": {"0": "a"}, "score": {"1": 2}}', "its columns have different indices"),
        ("s.json", '{"method": "ERM"}', "it is an object of 'method', which are not columns"),
        ("s.json", "{}", "it is an object of nothing"),
        ("s.json", "[[1, 2]]", "it is a list of other things than objects"),
        ("s.json", "[]", "and there are no columns: give one line per score"),
        ("s.jsonl", "3", "line 1 is not an object"),
        ("s.csv", "method,seed,score\na,1\n", "has 2 values, but there are 3 columns"),
        ("s.json", "{", "is not readable as scores"),
        ("s.json", "3", "is not readable as scores"),
        ("s.jsonl", "[1", "is not readable as scores"),
        ("s.parquet", "x", "is not a readable Parquet file"),
        ("s.xlsx", "x", "is not a readable Excel"),
        ("s.ods", "x", "is not a file of scores"),
        (None, "", "cannot be read"),
    ],
)
def test_files_that_are_none(name: str | None, content: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name is not None:
        Path(name).write_text(content)
    assert main(["judge", name or "absent.csv"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_file_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame(PAIR).write_csv("s.csv")
    assert main(["judge", "s.csv", "--independent", "--out", "none/o.json"]) == 2
    assert "none/o.json cannot be written" in capsys.readouterr().err


def test_scores_and_their_judgment_are_not_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.json").write_text(json.dumps(PAIR))
    for out, message in (("s.json", "is the file of the scores"), ("./s.json", "is the file of the scores")):
        assert main(["judge", "s.json", "--independent", "--out", out]) == 2
        assert message in capsys.readouterr().err
    for out, message in (("", "--out names no file"), (" ", "--out names no file"), (".", "is a folder")):
        assert main(["judge", "s.json", "--independent", "--out", out]) == 2
        assert message in capsys.readouterr().err
    assert json.loads(Path("s.json").read_text()) == PAIR


@pytest.mark.parametrize("orient", ["columns", "split", "index", "records", "table", "lines"])
def test_json_as_pandas_writes_it(orient: Any) -> None:
    frame = pd.DataFrame(PAIR)
    if orient == "lines":
        frame.to_json("s.jsonl", orient="records", lines=True)
    else:
        frame.to_json("s.json", orient=orient)
    file = "s.jsonl" if orient == "lines" else "s.json"
    assert main(["judge", file, "--independent", "--out", "o.json"]) == 0
    (one,) = json.loads(Path("o.json").read_text())["judgment"]["methods"]
    assert one["p"] == pytest.approx(stats.ttest_rel(BETTER, BASE).pvalue)


def test_frames_of_pandas() -> None:
    frame = pd.DataFrame(PAIR)
    shuffled = judge(frame.sample(frac=1, random_state=1), independent=True).methods[0]
    assert shuffled.p == pytest.approx(stats.ttest_rel(BETTER, BASE).pvalue)
    for name, gap in (("method", pd.NA), ("seed", pd.NaT), ("seed", np.float32("nan"))):
        holed = frame.astype(object)
        holed.loc[3, name] = gap
        with pytest.raises(UserError, match=f"score 4 has no {name}"):
            judge(holed, independent=True)


def test_long_json_keeps_every_value() -> None:
    """More records than a reader would infer types from: whole numbers first, and a broken one at the end."""
    whole = [{"method": m, "seed": s, "score": s % 7 + (m == "m") * (s % 2)} for m in ("ERM", "m") for s in range(300)]
    whole[-1]["score"] = 4.25
    Path("s.json").write_text(json.dumps(whole))
    Path("s.jsonl").write_text("\n".join(map(json.dumps, whole)))
    scores = np.array([record["score"] for record in whole], dtype=float)
    for name in ("s.json", "s.jsonl"):
        assert main(["judge", name, "--independent", "--out", "o.json"]) == 0
        (one,) = json.loads(Path("o.json").read_text())["judgment"]["methods"]
        assert one["p"] == pytest.approx(stats.ttest_rel(scores[300:], scores[:300]).pvalue, rel=1e-6)


def broken_csv(before: str = "", name: str = "m", mark: str = ",", end: str = "\n") -> str:
    head = before + mark.join(["method", "seed", "score"])
    return end.join(
        [head, f"ERM{mark}0{mark}1", f"ERM{mark}1{mark}2", f"{name}{mark}0{mark}1", f"{name}{mark}1{mark}", ""]
    )


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("s.csv", broken_csv(), 5),
        ("s.csv", broken_csv(end="\r\n"), 5),
        ("s.csv", broken_csv(before="\n\n"), 7),
        ("s.csv", broken_csv().replace("\nm,0", "\n\nm,0"), 6),
        ("s.csv", broken_csv().replace("\nm,1,", "\n,,\nm,1,2"), 5),
        ("s.csv", broken_csv(before="sep=;\n", mark=";"), 6),
        ("s.csv", broken_csv(name='"two\nlines"'), 6),
        ("s.tsv", broken_csv(mark="\t"), 5),
        ("s.jsonl", '{"method":"ERM","seed":0,"score":1}\n\n{"method":"m","seed":0,"score":null}', 3),
        ("-", broken_csv(mark=";"), 5),
        ("-", broken_csv(before="sep=|\r\n", mark="|"), 6),
    ],
    ids=[
        "csv",
        "crlf",
        "blank first",
        "blank between",
        "empty cells",
        "sep=",
        "quoted",
        "tsv",
        "jsonl",
        "stdin",
        "stdin sep=",
    ],
)
def test_a_line_is_called_by_its_number_in_the_file(
    file: str, text: str, line: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("s.any" if file == "-" else file).write_bytes(text.encode())
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["judge", file, "--independent"]) == 2
    assert f"line {line} of the file " in capsys.readouterr().err


def test_bytes_from_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = pl.DataFrame(PAIR).write_csv().replace("mixup", "m\xe9lange")
    good = {"utf-8": [], "utf-8-sig": [], "utf-16": [], "cp1252": ["--encoding", "cp1252"]}
    for encoding, options in good.items():
        monkeypatch.setattr(
            "sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode(encoding)), "ascii", "surrogateescape")
        )
        assert main(["judge", "-", "--independent", *options]) == 0
        assert "m\xe9lange is better than ERM" in capsys.readouterr().out
    for options, message in (([], "stdin is not UTF-8 text"), (["--encoding", "x"], "the encoding 'x' is unknown")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode("cp1252"))))
        assert main(["judge", "-", "--independent", *options]) == 2
        assert message in capsys.readouterr().err


def test_a_probability_is_never_rounded_to_certainty_or_to_the_bound() -> None:
    shares = [1e-12, 4.9e-4, 0.0885, 0.9499999, 0.95, 0.9500001, 0.9994, 0.9996, 1 - 1e-12]
    said = ["< 0.1 %", "< 0.1 %", "8.8 %", "94.99999 %", "95.0 %", "95.00001 %", "99.9 %", "> 99.9 %", "> 99.9 %"]
    assert [probability(share) for share in shares] == said


def test_how_a_text_file_is_written_can_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    text = "method seed score\n" + "".join(
        f"{m} {s} {x}\n".replace(".", ",") for m, s, x in zip(*PAIR.values(), strict=True)
    )
    Path("s.csv").write_bytes(text.replace("mixup", "m\xe9lange").encode("cp1252"))
    options = ["--separator", "space", "--decimal", ",", "--encoding", "cp1252"]
    assert main(["judge", "s.csv", "--independent", *options]) == 0
    assert "m\xe9lange is better than ERM: 0.2850 instead of 0.3083" in capsys.readouterr().out
