"""Numbers have sensible digits, and a minus sign that is one."""

from __future__ import annotations

from typing import Any

import pytest

from vicinal.lab.format import MINUS, NumberFormat, closest, counted, did_you_mean, p_value, quoted, significant

POINTS = NumberFormat(100.0, 2)


@pytest.mark.parametrize(
    ("written", "value", "sign", "text"),
    [
        (POINTS, 0.04333, False, "4.33"),
        (POINTS, -0.004, True, "-0.40"),
        (NumberFormat(100.0, 2, MINUS), -0.004, True, "\N{MINUS SIGN}0.40"),
        (POINTS, 0.011, True, "+1.10"),
        (POINTS, -0.00001, True, "0.00"),
        (POINTS, 0.0, True, "0.00"),
        (NumberFormat(), None, False, "\N{EN DASH}"),
        (NumberFormat(), float("nan"), True, "\N{EN DASH}"),
        (significant([54.3, 48.1], 4), 54.3, False, "54.30"),
        (significant([0.0123], 4), 0.0123, False, "0.01230"),
        (significant([52340.2], 4), 52340.2, False, "52340"),
        (significant([3.2e9], 4), 3.2e9, False, "3.200e+09"),
        (significant([3.2e-9], 4), -3.2e-9, False, "-3.200e-09"),
        (significant([0.0], 4, least=5), 0.0, False, "0.00000"),
    ],
)
def test_numbers_have_sensible_digits(written: NumberFormat, value: Any, sign: bool, text: str) -> None:
    assert written.text(value, sign=sign) == text


def test_an_interval_needs_both_ends() -> None:
    assert POINTS.interval(-0.01, 0.025, sign=True) == "[-1.00, +2.50]"
    assert POINTS.interval(0.01, float("nan")) == POINTS.interval(None, 0.01) == ""


@pytest.mark.parametrize(
    ("p", "text", "said"),
    [(1e-9, "< 0.0001", "< 0.0001"), (0.0123, "0.012", "= 0.012"), (1.0, "1", "= 1"), (None, *["\N{EN DASH}"] * 2)],
)
def test_p_values(p: float | None, text: str, said: str) -> None:
    assert p_value(p) == text
    assert p_value(p, "= ") == said


def test_words() -> None:
    assert (counted(1, "row"), counted(2, "row"), counted(0, "row")) == ("1 row", "2 rows", "0 rows")
    assert quoted(["a", "b", "c"], 2) == "'a', 'b' and 1 more"
    assert (closest("mixp", ["ERM", "Mixup"]), closest("x", ["ERM"])) == ("Mixup", None)
    assert (did_you_mean("IRSI", ["iris"]), did_you_mean("x", [])) == ("; did you mean 'iris'?", "")
