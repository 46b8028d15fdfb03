"""Dataclasses go through JSON without loss, but for numbers that are none; what is not of their form is refused."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

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


@dataclass(frozen=True)
class Typed:
    whole: int
    number: float
    flag: bool
    text: str
    one_of: Literal["a", "b"]
    either: int | str
    two: tuple[int, float]
    anything: Any
    by_name: dict[str, list[int]]


TYPED = Typed(1, 2.5, True, "x", "a", "y", (1, 2.0), {"any": [None]}, {"n": [1]})


def test_each_kind_of_field_goes_through_json() -> None:
    assert records.from_json(Typed, json.loads(json.dumps(records.to_json(TYPED)))) == TYPED


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("whole", True, "whole must be a whole number, found True"),
        ("whole", 1.0, "whole must be a whole number, found 1.0"),
        ("whole", None, "whole must be a whole number, found None"),
        ("whole", 2**64, "whole must be a whole number, found a number of more than 64 bits"),
        ("number", "2", "number must be a finite number, found '2'"),
        ("number", math.inf, "number must be a finite number, found inf"),
        ("number", 10**400, "number must be a finite number, found a number of more than 64 bits"),
        ("flag", 1, "flag must be true or false, found 1"),
        ("text", ["x"], "text must be a text, found a list"),
        ("text", None, "text must be a text, found None"),
        ("one_of", "c", "one_of must be one of 'a', 'b', found 'c'"),
        ("either", 0.5, "either must be a text, found 0.5"),
        ("two", [1], "two must be a list of 2, found a list"),
        ("two", [1, "z" * 99], f"two[1] must be a finite number, found '{'z' * 39}..."),
        ("two", {"0": 1}, "two must be a list, found a table of fields"),
        ("by_name", {"n": [1, "2"]}, "by_name.n[1] must be a whole number, found '2'"),
        ("by_name", [], "by_name must be a table of fields, found a list"),
    ],
)
def test_a_value_of_another_type_is_refused_by_the_name_of_its_field(field: str, value: Any, says: str) -> None:
    with pytest.raises(records.Mismatch) as error:
        records.from_json(Typed, records.to_json(TYPED) | {field: value})
    assert str(error.value) == says


def test_whole_numbers_stay_as_they_were_written() -> None:
    assert json.dumps(records.from_json(list[float], [2, 2.0, 2**53])) == "[2, 2.0, 9007199254740992.0]"
