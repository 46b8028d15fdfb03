"""Dataclasses go through JSON without loss, but for numbers that are none; what is not of their form is refused."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest

from vicinal.lab import records
from vicinal.lab.selection import best_on_validation, validation_order
from vicinal.lab.statistics import Interval


@dataclass(frozen=True)
class Inner:
    values: dict[str, float]
    pair: tuple[int, ...]


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner | None
    listed: list[Inner]
    interval: Interval
    bins: list[float | None]
    other: str = "default"


INNER = Inner({"a": 0.5}, (1, 2))


def test_a_nest_goes_through_json() -> None:
    for inner in (INNER, None):
        given = Outer("x", inner, [INNER, INNER], Interval(1.0, 0.5, 1.5), [None, 0.25])
        assert records.from_json(Outer, json.loads(json.dumps(records.to_json(given)))) == given


def test_a_number_that_is_none_is_null_and_back() -> None:
    written = records.to_json({"values": [math.nan, math.inf, 1.0], "bins": None})
    assert written == {"values": [None, None, 1.0], "bins": None}
    values = records.from_json(dict[str, list[float]], {"values": [None, 1.0]})["values"]
    assert math.isnan(values[0])
    assert values[1] == 1.0


@pytest.mark.parametrize("change", [{"more": 1}, {"inner": {"values": {}}}, {"name": ...}])
def test_another_form_is_refused(change: dict[str, Any]) -> None:
    whole = records.to_json(Outer("x", INNER, [], Interval(1.0, 0.5, 1.5), [])) | change
    if change.get("name") is ...:
        del whole["name"]
    with pytest.raises(TypeError):
        records.from_json(Outer, whole)


def test_validation_orders_by_error_then_likelihood_and_what_diverged_comes_last() -> None:
    scores = [
        {"error": 0.1, "nll": None},
        {"error": 0.2, "nll": 0.5},
        {"error": 0.2, "nll": 0.4},
        {"error": 0.3, "nll": 0.1},
        {"error": math.nan, "nll": 0.0},
    ]
    assert sorted(range(5), key=lambda i: validation_order(scores[i])) == [2, 1, 3, 0, 4]
    assert best_on_validation(scores) == 2
    assert best_on_validation([{"rmse": math.inf}, {"rmse": 3.0}, {"rmse": 3.0}]) == 1
