"""From the results of jobs to rows."""

import pytest

from vicinal.lab.paper.rows import by_method, first_done
from vicinal.lab.paper.study import Published, Row
from vicinal.lab.statistics import Interval


def test_results_after_the_first_that_is_missing_are_left_out() -> None:
    done = {f"seed{seed}": {"mean": seed, "low": 0.0, "high": None} for seed in (0, 1, 3)}
    assert [found.mean for found in first_done(Interval, done, [f"seed{seed}" for seed in range(4)])] == [0, 1]
    with pytest.raises(TypeError):
        first_done(Interval, {"seed0": {"average": 1.0}}, ["seed0"])


def test_methods_are_compared_with_erm() -> None:
    rows = by_method("{}, test", "error, %", {"ERM": [2.0], "mixup": []}, {"mixup": Published(1.0)}, "a note")
    assert rows == [
        Row("ERM, test", "error, %", None, (2.0,), None, "a note"),
        Row("mixup, test", "error, %", Published(1.0), (), "ERM, test", "a note"),
    ]
