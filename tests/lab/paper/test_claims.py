"""A claim's verdict follows from its differences, corrected for all those of its study."""

import math
from collections.abc import Sequence

import pytest
from scipy import stats

from vicinal.keyed import Key
from vicinal.lab.paper.claims import Claim, Evidence, Expected, format_finding, judge
from vicinal.lab.statistics import holm

LOWER, HIGHER, OPEN = (-3.0, -2.9, -3.2, -3.1, -2.8), (3.0, 2.9, 3.2, 3.1, 2.8), (-0.2, 0.3, 0.1, -0.1, 0.0)


def claim(*differences: Sequence[float], expected: Expected = "lower", tolerance: float = 0.0) -> Claim:
    evidence = (Evidence("a against b", "points", tuple(each), expected, tolerance) for each in differences)
    return Claim("b is worse", "3.2", tuple(evidence))


@pytest.mark.parametrize(
    ("differences", "expected", "verdict"),
    [
        ([LOWER], "lower", "shown"),
        ([LOWER], "higher", "contradicted"),
        ([HIGHER], "higher", "shown"),
        ([LOWER, OPEN], "lower", "shown in part"),
        ([LOWER, HIGHER], "lower", "mixed"),
        ([OPEN, HIGHER], "lower", "contradicted"),
        ([OPEN], "lower", "not resolved"),
        ([LOWER, ()], "lower", "shown in part"),
        ([(-3.0,)], "lower", "not resolved"),  # one seed
        ([()], "lower", "not run"),
        ([], "lower", "not run"),
    ],
)
def test_the_verdict_follows_from_the_findings(
    differences: list[Sequence[float]], expected: Expected, verdict: str
) -> None:
    (judged,) = judge([claim(*differences, expected=expected)])
    assert judged.verdict == verdict


def test_p_is_students_with_holms_correction_over_the_study() -> None:
    drawn = Key(0, 0, 0, 0, 0).generator().normal(-0.5, 1, (4, 9))
    judged = judge([claim(*drawn[:3]), claim(drawn[3])])
    plain = [stats.ttest_1samp(values, 0).pvalue for values in drawn]
    found = [finding.p for each in judged for finding in each.findings]
    assert found == pytest.approx(holm(plain), rel=1e-9)
    assert [finding.result == "as claimed" for each in judged for finding in each.findings] == [p < 0.05 for p in found]
    mean = judged[0].findings[0].mean
    assert mean is not None
    half = stats.t.ppf(0.975, 8) * drawn[0].std(ddof=1) / 3
    assert (mean.low, mean.high) == pytest.approx((drawn[0].mean() - half, drawn[0].mean() + half), rel=1e-9)


def test_many_differences_make_one_of_them_open() -> None:
    weak = (-1.0, -0.2, -0.9, -0.4, -1.3)  # p = 0.014 by itself
    assert stats.ttest_1samp(weak, 0).pvalue < 0.02
    assert judge([claim(weak)])[0].verdict == "shown"
    assert judge([claim(weak, OPEN, OPEN, OPEN)])[0].findings[0].result == "open"


@pytest.mark.parametrize(
    ("differences", "tolerance", "result"),
    [(OPEN, 1.0, "as claimed"), (OPEN, 0.15, "open"), (LOWER, 1.0, "otherwise"), (LOWER, 3.0, "open")],
)
def test_equal_is_two_one_sided_tests(differences: Sequence[float], tolerance: float, result: str) -> None:
    (judged,) = judge([claim(differences, expected="equal", tolerance=tolerance)])
    finding = judged.findings[0]
    upper = stats.ttest_1samp(differences, tolerance, alternative="less").pvalue
    lower = stats.ttest_1samp(differences, -tolerance, alternative="greater").pvalue
    assert finding.p == pytest.approx(max(upper, lower), rel=1e-9)
    assert finding.result == result


def test_equal_without_any_spread() -> None:
    assert judge([claim((0.0, 0.0, 0.0), expected="equal", tolerance=1.0)])[0].verdict == "shown"
    assert judge([claim((9.0,) * 9, expected="equal", tolerance=1.0)])[0].verdict == "contradicted"


def test_a_contrast_is_tested_and_not_part_of_the_verdict() -> None:
    evidence = (Evidence("", "points", LOWER), Evidence("", "points", HIGHER, contrast=True))
    (judged,) = judge([Claim("mixup gains", "3.2", evidence)])
    assert judged.verdict == "shown"
    assert judged.findings[1].result == "otherwise"


def test_overlapping_splits_widen_the_interval() -> None:
    plain, shared = (
        judge([Claim("", "3.6", (Evidence("", "points", LOWER, test_share=share),))])[0].findings[0].mean
        for share in (0.0, 1.0)
    )
    assert plain is not None
    assert shared is not None
    assert (shared.high - shared.low) / (plain.high - plain.low) == pytest.approx(math.sqrt((0.2 + 1) / 0.2))


def test_a_finding_in_words() -> None:
    (judged,) = judge([claim(LOWER, (1.0,), ())])
    words = [format_finding(finding) for finding in judged.findings]
    assert words[0].startswith("-3 [-3.2, -2.8] points, n = 5, p < 0.0001")
    assert words[1:] == ["n = 1", "not run"]
    (judged,) = judge([claim(OPEN, expected="equal", tolerance=1.0)])
    assert "points (equal: within 1), n = 5" in format_finding(judged.findings[0])


def test_a_difference_that_is_zero_but_for_rounding_is_written_as_zero() -> None:
    (judged,) = judge([claim([0.1 + 0.2 - 0.3, -1.0, 1.0])])
    assert format_finding(judged.findings[0]).startswith("+0 [")
