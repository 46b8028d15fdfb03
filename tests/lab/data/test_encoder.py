from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from vicinal.lab.data.columns import Numbers
from vicinal.lab.data.encoder import NumericColumn, Scaling, TableEncoder
from vicinal.lab.data.splits import split
from vicinal.lab.data.table import Table, make_table
from vicinal.lab.data.tables import load
from vicinal.lab.errors import UserError


def random_table(seed: int, n: int = 60, *, missing: float = 0.2) -> Table:
    """Numbers of many scales and categories, some cells missing in all of them but 'whole'."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    columns: dict[str, Numbers | list[str | None]] = {"whole": rng.normal(size=n)}
    for name, scale in (("small", 1e-6), ("big", 1e9), ("shifted", 1.0)):
        x = rng.normal(size=n) * scale + (1000 if name == "shifted" else 0)
        x[rng.random(n) < missing] = np.nan
        columns[name] = x
    columns["ones"] = np.ones(n)
    for name, levels in (("color", ["blue", "green", "red"]), ("size", ["L", "M", "S", "XL"])):
        words: list[str | None] = [*rng.choice(levels, size=n).tolist()]
        columns[name] = [None if rng.random() < missing else word for word in words]
    columns["y"] = [["no", "yes"][i % 2] for i in range(n)]
    return make_table(columns, "y", name="t", source="t")


def small(y: Any = None) -> Table:
    x = np.array([1.0, 2.0, 3.0, 6.0, *[3.0] * 6])
    z: list[str | None] = ["p", "q", None, "p", *["q"] * 6]
    return make_table({"x": x, "z": z, "y": [*"ab"] * 5 if y is None else y}, "y", name="t", source="t")


# ---- the inputs


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("missing", [0.0, 0.2, 0.6])
def test_equals_scikit_learn(seed: int, missing: float) -> None:
    table = random_table(seed, missing=missing)
    rows = split(table, seed).train
    encoding = TableEncoder.fit(table, rows)
    p = len(table.numeric_columns)
    categories: Any = [np.array(levels, dtype=object) for levels in table.categories]
    words = np.empty(table.codes.shape, dtype=object)
    for j, levels in enumerate(table.categories):
        words[:, j] = [levels[c] if c >= 0 else "(missing)" for c in table.codes[:, j]]
    frame = np.concatenate([table.numeric.astype(object), words], axis=1)
    oracle: Any = ColumnTransformer(  # scikit-learn's own annotations know less than it accepts
        [
            (
                "numbers",
                make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
                slice(p),
            ),
            (
                "categories",
                OneHotEncoder(
                    categories=categories,
                    handle_unknown="ignore",
                    sparse_output=False,
                ),
                slice(p, None),
            ),
        ]
    )
    oracle.fit(frame[rows])
    expected = oracle.transform(frame)
    found = encoding.transform(table)
    assert found.dtype == np.float32
    assert found.shape == expected.shape == (60, encoding.width)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    table = small()
    x = table.numeric.copy()
    x[1, 0] = np.nan
    table = dataclasses.replace(table, numeric=x)
    encoding = TableEncoder.fit(table, np.array([0, 1, 2, 3]))
    # 1, missing, 3, 6: median 3, mean 13/4
    sd = float(np.std([1, 3, 3, 6]))
    (column,) = encoding.numeric
    assert (column.median, column.mean, column.std) == (3.0, 3.25, pytest.approx(sd))
    assert column.indicator == (0.25, pytest.approx(np.sqrt(3) / 4))
    assert encoding.width == 4
    inputs = encoding.transform(table)
    root = float(np.sqrt(3))
    np.testing.assert_allclose(inputs[0], [(1 - 3.25) / sd, -1 / root, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(inputs[1], [(3 - 3.25) / sd, root, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(inputs[2], [(3 - 3.25) / sd, -1 / root, 0, 0], rtol=1e-6)


def test_fitted_rows_are_standardised_and_no_other_row_counts() -> None:
    table = random_table(7)
    rows = np.arange(0, 60, 2)
    encoding = TableEncoder.fit(table, rows)
    k = len(table.numeric_columns) + sum(column.indicator is not None for column in encoding.numeric)
    inputs = encoding.transform(table)[rows, :k].astype(np.float64)
    varies = inputs.std(axis=0) > 0
    assert varies.sum() == k - 1
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(inputs.std(axis=0)[varies], 1, atol=1e-6)
    changed = table.numeric.copy()
    changed[1::2] = np.where(np.isnan(changed[1::2]), np.nan, 5e5)
    assert TableEncoder.fit(dataclasses.replace(table, numeric=changed), rows) == encoding


def test_the_width_is_the_same_for_every_split() -> None:
    table = random_table(1, missing=0.1)
    assert np.isnan(table.numeric).any(axis=0).sum() == 3
    widths = {TableEncoder.fit(table, split(table, seed).train).width for seed in range(20)}
    assert widths == {5 + 3 + 3 + 4}
    first = TableEncoder.fit(table, np.array([0]))
    assert first.width == 15
    assert np.isfinite(first.transform(table)).all()


def test_constant_columns_give_exactly_zero() -> None:
    x = np.full(12, 0.1)
    table = make_table({"x": x, "w": np.arange(12.0), "y": [*"ab"] * 6}, "y", name="t", source="t")
    assert np.std(x) > 0  # by rounding alone
    encoding = TableEncoder.fit(table, np.arange(12))
    assert (encoding.numeric[0].mean, encoding.numeric[0].std) == (0.1, 1.0)
    assert (encoding.transform(table)[:, 0] == 0).all()


def test_nothing_in_the_fitted_rows() -> None:
    x = np.array([np.nan] * 6 + [5.0] * 6)
    table = make_table({"x": x, "y": [*"ab"] * 6}, "y", name="t", source="t")
    encoding = TableEncoder.fit(table, np.arange(6))
    assert encoding.numeric == (NumericColumn("x", 0.0, 0.0, 1.0, (1.0, 1.0)),)
    np.testing.assert_array_equal(encoding.transform(table), [[0, 0]] * 6 + [[5, -1]] * 6)


def test_fit_and_inputs_refuse_what_is_not_theirs() -> None:
    table = small()
    with pytest.raises(ValueError, match="at least one row"):
        TableEncoder.fit(table, np.array([], dtype=np.int64))
    with pytest.raises(IndexError):
        TableEncoder.fit(table, np.array([10]))
    encoding = TableEncoder.fit(table, np.arange(10))
    with pytest.raises(ValueError, match="fitted on other columns or categories than those of 't'"):
        encoding.transform(random_table(0))
    with pytest.raises(ValueError, match="fitted on another target than 'y' of 't'"):
        encoding.transform_target(dataclasses.replace(table, classes=("a", "c")))


def test_values_out_of_reach_of_float32() -> None:
    x = np.concatenate([np.arange(11) * 1e-15, [1e29]])
    table = make_table({"x": x, "y": [*"ab"] * 6}, "y", name="t", source="t")
    with pytest.raises(UserError, match="column 'x' has values too far from those it was fitted on"):
        TableEncoder.fit(table, np.arange(11)).transform(table)


# ---- new data


def records(table: Table) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: [None if np.isnan(v) else v for v in x]
        for name, x in zip(table.numeric_columns, table.numeric.T.tolist(), strict=True)
    }
    for name, levels, codes in zip(table.categorical_columns, table.categories, table.codes.T, strict=True):
        columns[name] = [None if c < 0 else levels[c] for c in codes]
    return columns


def test_records_are_encoded_like_the_table() -> None:
    table = random_table(3)
    encoding = TableEncoder.fit(table, np.arange(40))
    expected = encoding.transform(table)
    columns = records(table)
    forms: list[Mapping[str, Any] | pl.DataFrame] = [
        columns,
        {name: tuple(values) for name, values in reversed(columns.items())},
        {**columns, "other": [[1]] * 60},
        {name: [np.nan if v is None else v for v in values] for name, values in columns.items()},
        {name: ["?" if v is None else f" {v} " for v in values] for name, values in columns.items()},
        {name: np.array(values, dtype=object) for name, values in columns.items()},
        {name: pl.Series(values) for name, values in columns.items()},
        pl.DataFrame(columns),
    ]
    for form in forms:
        found = encoding.transform_records(form)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_records_one_by_one() -> None:
    table = random_table(3)
    encoding = TableEncoder.fit(table, np.arange(40))
    expected = encoding.transform(table)
    for i in range(60):
        row = {name: [values[i]] for name, values in records(table).items()}
        np.testing.assert_array_equal(encoding.transform_records(row), expected[i : i + 1])
    assert encoding.transform_records({name: [] for name in records(table)}).shape == (0, encoding.width)


def test_a_data_frame_of_pandas() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = random_table(3)
    encoding = TableEncoder.fit(table, np.arange(40))
    frame = pandas.DataFrame(records(table))
    for form in (frame, frame.convert_dtypes(), frame.astype({"color": "category"})):
        np.testing.assert_array_equal(encoding.transform_records(form), encoding.transform(table))


def test_a_series_of_pandas_by_its_interface() -> None:
    class Missing:
        """Like pandas.NA: it cannot be asked whether it equals anything."""

        def __bool__(self) -> bool:
            raise TypeError("ambiguous")

    class Series:
        def __init__(self, values: list[Any]) -> None:
            self.values = values

        def isna(self) -> np.ndarray:
            return np.array([isinstance(v, Missing) for v in self.values])

        def astype(self, dtype: type) -> Series:
            return self

        def where(self, keep: np.ndarray, other: None) -> Series:
            return Series([v if k else other for v, k in zip(self.values, keep, strict=True)])

        def tolist(self) -> list[Any]:
            return self.values

    encoding = TableEncoder.fit(small(), np.arange(10))
    found = encoding.transform_records({"x": Series([1.0, Missing()]), "z": Series([Missing(), "q"])})
    np.testing.assert_array_equal(found, encoding.transform_records({"x": [1.0, None], "z": [None, "q"]}))


def test_numbers_as_categories() -> None:
    z: list[str | None] = ["1", "2", "10"] * 4
    table = make_table({"z": z, "y": [*"ab"] * 6}, "y", name="t", source="t")
    encoding = TableEncoder.fit(table, np.arange(12))
    for values in ([1, 10, None], [1.0, 10.0, np.nan], [Decimal(1), Decimal("10.0"), None], ["1", "10", "?"]):
        np.testing.assert_array_equal(encoding.transform_records({"z": values}), [[1, 0, 0], [0, 0, 1], [0, 0, 0]])


def test_an_unknown_level_is_all_zeros_with_a_warning() -> None:
    encoding = TableEncoder.fit(small(), np.arange(10))
    with pytest.warns(UserWarning, match=r"column 'z' has 3 values that were not there in training \('r', 's'\)"):
        found = encoding.transform_records({"x": [3] * 4, "z": ["r", "p", "s", "r"]})
    np.testing.assert_array_equal(found[:, 1:], [[0, 0], [1, 0], [0, 0], [0, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoding.transform_records({"x": [3], "z": [None]})


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"z": ["p"]}, "the data lack the input column 'x': add it"),
        ({}, "the data lack the input columns 'x', 'z': add them"),
        ({"X": [1], "z": ["p"]}, "did you mean 'X'?"),
        ({"x": [1, 2], "z": ["p"]}, "column 'z' has 1 values and 'x' has 2: give columns of one length"),
        ({"x": ["one"], "z": ["p"]}, "column 'x' must hold numbers, but holds 'one'"),
        ({"x": [1, "two"], "z": ["p", "q"]}, "column 'x' must hold numbers, but holds 'two'"),
        ({"x": [[1]], "z": ["p"]}, "column 'x' must hold numbers, but holds List(Int64)"),
        ({"x": [float("inf")], "z": ["p"]}, "column 'x' has 1 infinite value"),
        ({"x": [1e38], "z": ["p"]}, "column 'x' has values beyond 1e+30"),
        ({"x": [1], "z": [["p"]]}, "column 'z' must hold text, but holds List(String)"),
        ({"x": [object()], "z": ["p"]}, "column 'x' must hold numbers, but holds Object"),
        ({"x": [1], "z": [b"p"]}, "column 'z' must hold text, but holds Binary"),
        ({"x": 1, "z": ["p"]}, "column 'x' is int: give a sequence with one value per row"),
        ({"x": [1], "z": "p"}, "column 'z' is str: give a sequence with one value per row"),
        ({"x": np.ones((1, 1)), "z": ["p"]}, "column 'x' has shape [1, 1]: give one value per row"),
    ],
)
def test_bad_records(columns: dict[str, Any], sentence: str) -> None:
    encoding = TableEncoder.fit(small(), np.arange(10))
    with pytest.raises(UserError) as caught:
        encoding.transform_records(columns)
    assert sentence in str(caught.value)


# ---- the target


def test_class_targets() -> None:
    table = small()
    encoding = TableEncoder.fit(table, np.arange(4))
    codes = encoding.transform_target(table)
    assert codes.dtype == np.int64
    assert codes.tolist() == [0, 1] * 5
    assert codes is not table.target
    assert encoding.inverse_transform(codes).tolist() == ["a", "b"] * 5
    assert encoding.inverse_transform(np.array([[1, 0]])).tolist() == [["b", "a"]]
    with pytest.raises(ValueError, match="decoded from integers, got float64: take the argmax first"):
        encoding.inverse_transform(np.array([0.5]))
    for bad in ([-1], [2]):
        with pytest.raises(ValueError, match="classes are numbered 0 to 1"):
            encoding.inverse_transform(np.array(bad))


def test_regression_targets() -> None:
    y = np.array([1.0, 3.0, 5.0, 7.0, 100.0, 0.5, 0.5, 0.5, 0.5, 0.5])
    table = small(y)
    encoding = TableEncoder.fit(table, np.arange(4))
    assert encoding.classes == ()
    assert encoding.target.mean == 4.0
    assert encoding.target.std == pytest.approx(np.sqrt(5))
    targets = encoding.transform_target(table)
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets, (y - 4) / np.sqrt(5), rtol=1e-6)
    decoded = encoding.inverse_transform(targets[:, None])
    assert decoded.dtype == np.float64
    np.testing.assert_allclose(decoded, y[:, None], rtol=1e-5)
    flat = TableEncoder.fit(table, np.array([5, 6]))
    assert (flat.target.mean, flat.target.std) == (0.5, 1.0)


# ---- JSON


@given(
    columns=st.lists(
        st.lists(st.one_of(st.none(), st.floats(-1e30, 1e30)), min_size=12, max_size=12).filter(
            lambda x: any(v is not None for v in x)
        ),
        min_size=1,
        max_size=4,
    ),
    words=st.lists(st.sampled_from(["p", "q", 'two "words"', "caf\xe9", None]), min_size=12, max_size=12),
    target=st.one_of(
        st.just([*"ab"] * 6), st.lists(st.floats(-1e6, 1e6), min_size=12, max_size=12, unique=True).map(np.array)
    ),
    rows=st.lists(st.integers(0, 11), min_size=1),
)
@settings(max_examples=100, deadline=None)
def test_json_round_trip(
    columns: list[list[float | None]], words: list[str | None], target: Any, rows: list[int]
) -> None:
    words[0] = "p"
    table = make_table(
        {
            **{f"x{i}": np.array([np.nan if v is None else v for v in x]) for i, x in enumerate(columns)},
            "z": ["p", "p", "q", "q", *words[4:]],
            "y": target,
        },
        "y",
        name="t",
        source="t",
    )
    encoding = TableEncoder.fit(table, np.array(rows))
    again = TableEncoder.from_json(json.loads(json.dumps(encoding.to_json(), allow_nan=False)))
    assert again == encoding
    assert hash(again) == hash(encoding)
    try:
        expected = encoding.transform(table)
    except UserError:
        with np.errstate(over="ignore"):
            medians, means, sds = np.array([(of.median, of.mean, of.std) for of in encoding.numeric]).T
            reach = (np.where(np.isnan(table.numeric), medians, table.numeric) - means) / sds
        assert np.abs(reach).max() > 3e38
    else:
        assert np.isfinite(expected).all()
        np.testing.assert_array_equal(again.transform(table), expected)


def test_json_form() -> None:
    table = small()
    assert TableEncoder.fit(table, np.array([0, 1, 2])).to_json() == {
        "version": 2,
        "numeric": [{"name": "x", "median": 2.0, "mean": 2.0, "std": pytest.approx(np.sqrt(2 / 3)), "indicator": None}],
        "categorical": [{"name": "z", "categories": ["p", "q"]}],
        "target": {"name": "y", "classes": ["a", "b"], "mean": 0.0, "std": 1.0, "type": "text"},
    }


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("version",), 1, "the encoding has version 1, this program reads 2"),
        (("numeric",), None, "the encoding is damaged (numeric must be a list, found None)"),
        (
            ("numeric", 0, "median"),
            "x",
            "the encoding is damaged (numeric[0].median must be a finite number, found 'x')",
        ),
        (("numeric", 0, "std"), 0.0, "not finite with positive spreads"),
        (("numeric", 0, "mean"), None, "not finite with positive spreads"),
        (("numeric", 0, "mean"), float("nan"), "(numeric[0].mean must be a finite number, found nan)"),
        (("target",), {}, "the encoding is damaged (target lacks 'classes')"),
        (("categorical", 0, "categories"), ["p", "p"], "(categorical[0].categories has a name twice)"),
        (("categorical", 0, "name"), "x", "(its columns have a name twice)"),
        (("numeric", 0, "indicator"), [1.0], "(numeric[0].indicator must be a mean and a spread)"),
        (("target", "classes"), ["a", "\ud800"], "('\\ud800' is not text that UTF-8 can write)"),
        (("target", "type"), "number", "(target.classes must be numbers for target.type 'number')"),
        (("target", "type"), "boolean", "(target.classes must be true and false for target.type 'boolean')"),
    ],
)
def test_damaged_json(path: tuple[str | int, ...], value: object, sentence: str) -> None:
    data: Any = TableEncoder.fit(small(), np.arange(10)).to_json()
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(UserError) as caught:
        TableEncoder.from_json(data)
    assert sentence in str(caught.value)


def test_real_tables() -> None:
    for name, width in (("wine", 13), ("digits", 64), ("diabetes", 10)):
        table = load(name)
        parts = split(table, 0)
        encoding = TableEncoder.fit(table, parts.train)
        inputs = encoding.transform(table)
        assert inputs.shape == (len(table), width)
        np.testing.assert_allclose(inputs[parts.train].mean(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        # fitted on the first three rows: a = 1, 3, missing (median 2); b = 7, 7, 7; their indicators 0, 0, 1 of a
        ("min-max", [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 1.0], [2.0, 2.0, 0.0]]),
        ("raw", [[1.0, 7.0, 0.0], [3.0, 7.0, 0.0], [2.0, 7.0, 1.0], [5.0, 9.0, 0.0]]),
    ],
)
def test_other_scalings_by_hand(scaling: Scaling, expected: list[list[float]]) -> None:
    columns = {"a": [1.0, 3.0, None, 5.0], "b": [7.0, 7.0, 7.0, 9.0], "c": ["x", "y", "x", "x"], "y": list("nmnm")}
    table = make_table({name: 3 * column for name, column in columns.items()}, "y", name="t", source="t")
    encoder = TableEncoder.fit(table, np.arange(3), scaling)
    one_hot = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    np.testing.assert_array_equal(encoder.transform(table), np.tile(np.hstack([expected, one_hot]), (3, 1)))
    assert TableEncoder.from_json(json.loads(json.dumps(encoder.to_json()))) == encoder
