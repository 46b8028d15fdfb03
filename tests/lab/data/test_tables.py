from __future__ import annotations

import datetime
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from vicinal.lab.data.tables import EMBEDDED, load
from vicinal.lab.errors import UserError

ROWS = 12
FLOWER = ["rose", "tulip", "rose", "lily"] * 3
LABEL = ["a", "b", "c"] * 4


def columns(**more: Sequence[object]) -> dict[str, Sequence[object]]:
    base: dict[str, Sequence[object]] = {"x": [i + 0.5 for i in range(ROWS)], "flower": [*FLOWER], "y": [*LABEL]}
    return {**base, **more}


def write_csv(path: Path, table: Mapping[str, Sequence[object]], separator: str = ",") -> str:
    lines = [separator.join(table), *(separator.join(map(str, row)) for row in zip(*table.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def refusal(path: Path | str, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        load(str(path), **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) > 20
    return message


def csv(tmp_path: Path, **more: Sequence[object]) -> str:
    return write_csv(tmp_path / "t.csv", columns(**more))


# ---- what is read


def test_csv(tmp_path: Path) -> None:
    table = load(csv(tmp_path), target="y")
    assert (table.name, table.source, table.task, len(table)) == ("t", "t.csv", "classification", 12)
    assert table.numeric_columns == ("x",)
    np.testing.assert_array_equal(table.numeric[:, 0], np.arange(12) + 0.5)
    assert table.numeric.dtype == np.float64
    assert table.categorical_columns == ("flower",)
    assert table.categories == (("lily", "rose", "tulip"),)
    assert table.codes[:, 0].tolist() == [1, 2, 1, 0] * 3
    assert table.codes.dtype == np.int64
    assert table.classes == ("a", "b", "c")
    assert table.target.tolist() == [0, 1, 2] * 4
    assert table.target.dtype == np.int64
    assert table.target_name == "y"
    assert table.missing_cells == 0


@pytest.mark.parametrize("marker", ["", "NA", "NaN", "nan", "?", "null", "None", "  "])
def test_missing_cells(tmp_path: Path, marker: str) -> None:
    table = load(csv(tmp_path, x=[marker, *range(11)], flower=[*FLOWER[:11], marker]), target="y")
    assert np.isnan(table.numeric[:, 0]).tolist() == [True] + [False] * 11
    assert table.codes[11, 0] == -1
    assert table.categories == (("lily", "rose", "tulip"),)
    assert table.missing_cells == 2


def test_all_formats_give_the_same_table(tmp_path: Path) -> None:
    data = columns(x=[None, *range(1, 12)], flag=[True, False] * 6)
    frame = pl.DataFrame(data)
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_csv(tmp_path / "t.csv")
    frame.write_csv(tmp_path / "T.TSV", separator="\t")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    head = "@relation t\r\n@attribute x numeric\r\n@attribute flower {tulip,lily,rose}\r\n@attribute y {c,b,a}\r\n"
    rows = [f"{'?' if x is None else x},{f},{y},{int(b)}" for x, f, y, b in frame.iter_rows()]
    text = head + "@attribute flag numeric\r\n% a remark\r\n@data\r\n" + "\r\n".join(rows)
    (tmp_path / "t.arff").write_text(text, newline="")
    prints = {
        load(str(tmp_path / name), target="y").fingerprint()
        for name in ("t.parquet", "t.csv", "T.TSV", "t.csv.gz", "t.arff")
    }
    assert len(prints) == 1
    table = load(str(tmp_path / "t.arff"), target="y")
    assert table.numeric_columns == ("x", "flag")
    assert table.numeric[:, 1].tolist() == [1, 0] * 6
    assert table.missing_cells == 1


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_blank_lines_byte_order_mark_and_line_endings(tmp_path: Path, ending: str) -> None:
    lines = ["", "x, z ,y", "", *(f"{i}, k{i % 2} ,{y}" for i, y in enumerate(LABEL)), "", "  ", ""]
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + ending.join(lines).encode())
    table = load(str(tmp_path / "t.csv"), target="y")
    assert (len(table), table.numeric_columns, table.categorical_columns, table.categories) == (
        12,
        ("x",),
        ("z",),
        (("k0", "k1"),),
    )


def test_quotation_marks(tmp_path: Path) -> None:
    body = "".join(f'{i},"two, {i % 2} ""words""\nhere",5" pipe,{y}\n' for i, y in enumerate(LABEL))
    (tmp_path / "t.csv").write_text("x,z,pipe,y\n" + body)
    table = load(str(tmp_path / "t.csv"), target="y")
    assert table.categories == (('two, 0 "words"\nhere', 'two, 1 "words"\nhere'), ('5" pipe',))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_are_found(tmp_path: Path, separator: str) -> None:
    data = columns(d=[f"{i},25" for i in range(12)])
    if separator == "\t":
        data["d"] = [i + 0.25 for i in range(12)]
    table = load(write_csv(tmp_path / "t.csv", data, separator), target="y")
    assert table.numeric_columns == ("x", "d")
    assert table.numeric[:, 1].tolist() == [i + 0.25 for i in range(12)]


def test_booleans_and_dates_are_numbers(tmp_path: Path) -> None:
    days = [datetime.date(1970, 1, 1) + datetime.timedelta(days=100 * i) for i in range(12)]
    times = [datetime.datetime(1970, 1, 1, 12) + datetime.timedelta(days=i) for i in range(12)]
    spans = [datetime.timedelta(hours=6 * i) for i in range(12)]
    data = columns(flag=["TRUE", "False"] * 6, day=[*days], time=[*times])
    spelled = {**data, "time": [f"{t:%Y-%m-%dT%H:%M}Z" for t in times]}
    np.testing.assert_array_equal(
        load(write_csv(tmp_path / "z.csv", spelled), target="y").numeric,
        load(write_csv(tmp_path / "t.csv", data), target="y").numeric,
    )
    table = load(str(tmp_path / "t.csv"), target="y")
    assert table.numeric_columns == ("x", "flag", "day", "time")
    assert table.numeric[:, 1].tolist() == [1, 0] * 6
    assert table.numeric[:, 2].tolist() == [100 * i for i in range(12)]
    assert table.numeric[:, 3].tolist() == [i + 0.5 for i in range(12)]
    frame = pl.DataFrame({**data, "flag": [True, False] * 6, "span": spans})
    frame = frame.with_columns(
        zone=pl.col("time").dt.replace_time_zone("UTC").dt.cast_time_unit("ns"), clock=pl.col("time").dt.time()
    )
    frame.write_parquet(tmp_path / "t.parquet")
    typed = load(str(tmp_path / "t.parquet"), target="y")
    assert typed.numeric_columns == ("x", "flag", "day", "time", "span", "zone", "clock")
    np.testing.assert_array_equal(typed.numeric[:, :4], table.numeric)
    assert typed.numeric[:, 4].tolist() == [i / 4 for i in range(12)]
    np.testing.assert_array_equal(typed.numeric[:, 5], table.numeric[:, 3])
    assert typed.numeric[:, 6].tolist() == [0.5] * 12


def test_arff_dates(tmp_path: Path) -> None:
    head = '@relation t\n@attribute day date "yyyy-MM-dd"\n@attribute y {a,b}\n@data\n'
    rows = [f"{'?' if i == 3 else f'1970-01-{i + 1:02}'},{'ab'[i % 2]}" for i in range(12)]
    (tmp_path / "t.arff").write_text(head + "\n".join(rows))
    table = load(str(tmp_path / "t.arff"), target="y")
    np.testing.assert_array_equal(table.numeric[:, 0], [i if i != 3 else np.nan for i in range(12)])


def test_parquet_text_stays_text(tmp_path: Path) -> None:
    data = columns(code=["007", "7", "8"] * 4)
    frame = pl.DataFrame(data).with_columns(pl.col("flower").cast(pl.Categorical))
    frame.write_parquet(tmp_path / "t.parquet")
    table = load(str(tmp_path / "t.parquet"), target="y")
    assert table.categorical_columns == ("flower", "code")
    assert table.categories == (("lily", "rose", "tulip"), ("007", "7", "8"))


def test_integers_beyond_float_precision(tmp_path: Path) -> None:
    table = load(csv(tmp_path, id=[2**53 + 1 + i for i in range(11)] + [10**25]), target="y")
    assert table.numeric[11, 1] == 1e25
    assert abs(table.numeric[0, 1] - 2**53) <= 2


def test_constant_columns_are_kept(tmp_path: Path) -> None:
    table = load(csv(tmp_path, one=[1] * 12, word=["same"] * 12), target="y")
    assert table.numeric_columns == ("x", "one")
    assert table.categories[1] == ("same",)


def test_drop(tmp_path: Path) -> None:
    path = csv(tmp_path, id=[f"row{i}" for i in range(12)])
    assert load(path, target="y", drop=["id", "x"]).categorical_columns == ("flower",)
    assert load(path, target="y", drop=["id"]).numeric_columns == ("x",)
    nested = pl.DataFrame({**columns(), "vector": [[1, 2]] * 12})
    nested.write_parquet(tmp_path / "t.parquet")
    assert load(str(tmp_path / "t.parquet"), target="y", drop=["vector"]).numeric_columns == ("x",)


# ---- the task


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        ([1, 2, 10] * 4, "classification", ("1", "2", "10")),
        ([1.0, 2.0, 10.0] * 4, "classification", ("1", "2", "10")),
        ([-1, 1] * 6, "classification", ("-1", "1")),
        ([0.5, 1.0, 2.0] * 4, "regression", ()),
        (["True", "False"] * 6, "classification", ("False", "True")),
        (["2020-01-01", "2020-01-03"] * 6, "regression", ()),
    ],
)
def test_the_task_follows_the_target(tmp_path: Path, values: list[object], task: str, classes: tuple[str, ...]) -> None:
    table = load(csv(tmp_path, y=values), target="y")
    assert (table.task, table.classes) == (task, classes)


def test_more_than_twenty_integers_are_regression(tmp_path: Path) -> None:
    few = {"x": [*range(60)], "y": [i % 20 for i in range(60)]}
    many = {"x": [*range(63)], "y": [i % 21 for i in range(63)]}
    assert load(write_csv(tmp_path / "few.csv", few), target="y").task == "classification"
    table = load(write_csv(tmp_path / "many.csv", many), target="y")
    assert table.task == "regression"
    assert table.target.dtype == np.float64
    assert table.target.tolist() == [i % 21 for i in range(63)]
    assert len(load(str(tmp_path / "many.csv"), target="y", task="classification").classes) == 21


def test_the_task_can_be_given(tmp_path: Path) -> None:
    path = csv(tmp_path, y=[1, 2, 3] * 4)
    assert load(path, target="y", task="regression").target.tolist() == [1.0, 2.0, 3.0] * 4
    halves = csv(tmp_path, y=[0.5, 1.5] * 6)
    assert load(halves, target="y", task="classification").classes == ("0.5", "1.5")
    flags = csv(tmp_path, y=["true", "false"] * 6)
    assert load(flags, target="y", task="regression").target.tolist() == [1.0, 0.0] * 6
    message = refusal(csv(tmp_path), target="y", task="regression")
    assert message == "the target 'y' holds text such as 'a': regression needs numbers"
    assert "choose classification or regression" in refusal(path, target="y", task="ranking")


def test_parquet_boolean_target(tmp_path: Path) -> None:
    pl.DataFrame({"x": [*range(12)], "y": [True, False] * 6}).write_parquet(tmp_path / "t.parquet")
    table = load(str(tmp_path / "t.parquet"), target="y")
    assert (table.classes, table.target.tolist()) == (("false", "true"), [1, 0] * 6)


# ---- named sets


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("iris", (150, 4), 3),
        ("wine", (178, 13), 3),
        ("breast_cancer", (569, 30), 2),
        ("digits", (1797, 64), 10),
        ("diabetes", (442, 10), 0),
    ],
)
def test_embedded_sets(name: str, shape: tuple[int, int], classes: int) -> None:
    from sklearn import datasets

    table = load(name.upper())
    assert (table.numeric.shape, len(table.classes), table.codes.shape) == (shape, classes, (shape[0], 0))
    assert table.source == f"scikit-learn: load_{name}"
    assert table.name == name
    bunch = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    np.testing.assert_array_equal(table.numeric, bunch.data)
    named = [str(bunch.target_names[i]) for i in bunch.target] if classes else bunch.target.tolist()
    assert [table.classes[i] for i in table.target.tolist()] if classes else table.target.tolist() == named


def test_the_list_of_embedded_sets_is_what_is_read() -> None:
    assert [load(name).name for name in EMBEDDED] == [*EMBEDDED]


def test_named_sets_take_no_target() -> None:
    assert refusal("iris", target="species").startswith("the dataset 'iris' has its own target")
    assert refusal("Abalone", target="Sex").startswith("the dataset 'Abalone' has its own target")
    assert "is text" not in refusal("iris", task="regression")


# ---- the fingerprint


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    data = columns(x=["", *range(11)])
    one = load(write_csv(tmp_path / "one.csv", data), target="y")
    two = load(write_csv(tmp_path / "two.csv", data), target="y")
    assert one.fingerprint() == two.fingerprint()
    assert len(one.fingerprint()) == 64
    int(one.fingerprint(), 16)
    changed = [
        columns(x=["", *range(10), 11]),
        columns(x=[0, *range(11)]),
        columns(x=["", *range(11)], flower=["lily", *FLOWER[1:]]),
        columns(x=["", *range(11)], y=["b", *LABEL[1:]]),
        {("z" if k == "x" else k): v for k, v in data.items()},
    ]
    prints = {load(write_csv(tmp_path / f"{i}.csv", d), target="y").fingerprint() for i, d in enumerate(changed)}
    assert len(prints | {one.fingerprint()}) == 6


# ---- what is refused


def test_nothing_there(tmp_path: Path) -> None:
    message = refusal("irsi")
    assert "'irsi' is neither a dataset nor a file" in message
    assert "breast_cancer" in message
    assert "uci-iris" in message
    assert message.endswith("did you mean 'iris'?")
    csv(tmp_path)
    assert refusal(tmp_path / "tt.csv", target="y").endswith("check the path; did you mean 't.csv'?")
    assert "no folder" in refusal(tmp_path / "no" / "t.csv", target="y")
    assert "'' is neither a dataset" in refusal("")
    assert refusal("a\0b.csv", target="y").startswith("there is no file")
    assert refusal("x" * 5000 + ".csv", target="y").startswith("there is no file")


def test_folders_and_other_formats(tmp_path: Path) -> None:
    assert "is a folder, and not one of parts of a table: give the path of one file" in refusal(tmp_path)
    (tmp_path / "t.doc").write_bytes(b"x")
    assert "is in a format that is not read here" in refusal(tmp_path / "t.doc", target="y")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = csv(tmp_path)

    def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    assert refusal(path, target="y") == "'t.csv' cannot be read (permission denied): check the file"


def test_target_option(tmp_path: Path) -> None:
    path = csv(tmp_path)
    assert refusal(path) == "say which column of 't.csv' to predict, with --target: 'x', 'flower', 'y'"
    assert refusal(path, target="flwer") == "there is no column 'flwer' for --target; did you mean 'flower'?"
    assert refusal(path, target="qqq").endswith("for --target; the columns are 'x', 'flower', 'y'")
    assert refusal(path, target="y", drop=["flover"]).endswith("for --drop; did you mean 'flower'?")
    assert "cannot be dropped" in refusal(path, target="y", drop=["y"])
    wide = {f"column{i}": [*range(12)] for i in range(30)}
    assert refusal(write_csv(tmp_path / "w.csv", wide)).endswith("'column19' and 10 more")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"y": ["a"] * 12}, "the target 'y' has the one class 'a': a target needs at least two classes"),
        ({"y": [*LABEL[:11], "d"]}, "the target 'y' has a single example of class 'd'"),
        ({"y": [*LABEL[:10], "d", "e"]}, "the target 'y' has a single example of classes 'd', 'e'"),
        ({"y": ["", "?", *LABEL[2:]]}, "2 rows have no value in 'y': remove them or fill them in"),
        ({"y": ["", *LABEL[1:]]}, "1 row has no value in 'y': remove it or fill it in"),
        ({"y": [""] * 12}, "12 rows have no value in 'y': remove them or fill them in"),
        ({"y": ["", *(i + 0.5 for i in range(11))]}, "1 row has no value in 'y': remove it or fill it in"),
        ({"y": [f"w{i}" for i in range(12)]}, "12 different values in 12 rows and looks like an identifier"),
        ({"y": ["inf", *(i + 0.5 for i in range(11))]}, "column 'y' has 1 infinite value"),
        ({"y": [0.5] * 12}, "the target 'y' is 0.5 in every row: choose a target that varies"),
        ({"x": [""] * 12}, "column 'x' holds no values: drop it with --drop"),
        ({"x": [""] * 12, "flower": ["NA"] * 12}, "columns 'x', 'flower' hold no values: drop them with --drop"),
        ({"x": ["inf", "-inf", *range(10)]}, "column 'x' has 2 infinite values: remove those rows"),
        ({"x": ["1e999", *range(11)]}, "column 'x' has 1 infinite value"),
        ({"x": ["1e31", *range(11)]}, "column 'x' has values beyond 1e+30: rescale it"),
        (
            {"id": [f"r{i}" for i in range(12)]},
            "column 'id' is text with 12 different values in 12 rows and looks like an identifier: drop it with",
        ),
        ({"id": [*(f"r{i}" for i in range(4)), *[""] * 8]}, "column 'id' is text with 4 different values in 12 rows"),
        ({"id": [f"r{i % 7}" for i in range(12)]}, "column 'id' is text with 7 different values in 12 rows"),
        ({"n": [*range(11), "none"]}, "column 'n' is numbers but for 'none': correct or empty those cells"),
        ({"Unnamed: 0": [*range(12)]}, "a column named 'Unnamed: 0', as a saved row index is: drop it with --drop"),
        ({"": [*range(12)]}, "column 4 of 't.csv' has no name: give it one, or drop it with --drop ''"),
    ],
)
def test_tables_that_cannot_be_learned_from(tmp_path: Path, more: dict[str, list[object]], sentence: str) -> None:
    assert sentence in refusal(csv(tmp_path, **more), target="y")


def test_too_many_classes(tmp_path: Path) -> None:
    numeric = csv(tmp_path, y=[i + 0.5 for i in range(12)])
    message = refusal(numeric, target="y", task="classification")
    assert message.endswith("has 12 different values in 12 rows: predict it as a number with --task regression")
    words = {"x": [*range(2202)], "y": [f"w{i // 2}" for i in range(2202)]}
    path = write_csv(tmp_path / "w.csv", words)
    assert "has 1101 different values in 2202 rows and looks like an identifier: choose" in refusal(path, target="y")
    levels = {"x": [f"w{i // 3}" for i in range(3003)], "y": [i % 2 for i in range(3003)]}
    path = write_csv(tmp_path / "l.csv", levels)
    assert "column 'x' is text with 1001 different values in 3003 rows" in refusal(path, target="y")


def test_small_and_empty_tables(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("")
    assert refusal(tmp_path / "t.csv", target="y").startswith("'t.csv' is empty")
    (tmp_path / "t.csv").write_text("x,y\n")
    assert refusal(tmp_path / "t.csv", target="y").startswith("'t' has column names but no rows")
    (tmp_path / "t.csv").write_text("x,y\n1,a\n2,b\n")
    assert refusal(tmp_path / "t.csv", target="y") == "'t' has only 2 rows: at least 10 are needed"
    (tmp_path / "t.csv").write_text("x,y\n1,a\n")
    assert refusal(tmp_path / "t.csv", target="y") == "'t' has only 1 row: at least 10 are needed"
    (tmp_path / "t.csv").write_text("y\n" + "a\nb\n" * 6)
    assert refusal(tmp_path / "t.csv", target="y").startswith("'t' has no column besides the target 'y'")


def test_malformed_csv(tmp_path: Path) -> None:
    good = "x,z,y\n" + "1,2,a\n2,3,b\n" * 5
    path = tmp_path / "t.csv"
    for line, found in (("1,2", "2 values"), ("1,2,a,4", "4 values"), ("5", "1 value")):
        path.write_text(good + f"\n{line}\n" + "1,2,a\n")
        assert refusal(path, target="y") == (
            f"line 13 of 't.csv' has {found}, but there are 3 columns: correct that line"
        )
    path.write_text(good + '"1,2,a\n')
    assert refusal(path, target="y").startswith("line 12 of 't.csv' begins a quotation that never ends: ")
    path.write_text(good + '"1"2,2,a\n')
    assert refusal(path, target="y").startswith("line 12 of 't.csv' is not valid CSV")
    path.write_text("x,x,y\n" + "1,2,a\n2,3,b\n" * 6)
    assert refusal(path, target="y").startswith("'t.csv' has more than one column named 'x'")
    path.write_text("5.1,3.5,setosa\n" + "1,2,a\n2,3,b\n" * 6)
    assert "the first line of 't.csv' holds values such as '5.1': add a header line" in refusal(path, target="y")
    path.write_text("0,1,y\n" + "1,2,a\n2,3,b\n" * 6)
    assert load(str(path), target="y").numeric_columns == ("0", "1")


def test_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("x,y\n1,caf\xe9\n".encode("latin-1"))
    assert refusal(path, target="y").startswith(
        "'t.csv' is not UTF-8 text (byte 0xe9 at position 9): give its --encoding"
    )
    path.write_bytes(("x,y\n" + "1,\u017e\n2,b\n" * 6).encode("utf-16"))
    assert load(str(path), target="y").classes == ("b", "\u017e")


def test_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    whole = gzip.compress(Path(csv(tmp_path)).read_bytes())
    for damaged in (b"x,y\n", whole[:30], whole[:12] + b"\xff\xff\xff" + whole[15:]):
        path.write_bytes(damaged)
        assert refusal(path, target="y").startswith("'t.csv.gz' is not a whole gzip file (")


def test_bad_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    for raw in (b"", b"hello", Path(csv(tmp_path)).read_bytes()):
        path.write_bytes(raw)
        assert refusal(path, target="y").startswith("'t.parquet' is not a readable Parquet file (")
    for values, kind in (([[1, 2]] * 12, "List(Int64)"), ([{"a": 1}] * 12, "Struct"), ([b"raw"] * 12, "Binary")):
        pl.DataFrame({**columns(), "v": values}).write_parquet(path)
        message = refusal(path, target="y")
        assert message.startswith(f"column 'v' holds {kind}")
        assert message.endswith("drop it with --drop 'v'")
    pl.DataFrame({**columns(), "__index_level_0__": range(12)}).write_parquet(path)
    assert "as a saved row index is" in refusal(path, target="y")
    pl.DataFrame({**columns(), "v": [None] * 12}).write_parquet(path)
    assert refusal(path, target="y") == "column 'v' holds no values: drop it with --drop 'v'"


def test_bad_arff(tmp_path: Path) -> None:
    path = tmp_path / "t.arff"
    head = "@relation t\n@attribute a numeric\n"
    nominal = head + "@attribute y {p,q}\n"
    for text, sentence in (
        ("", "'t.arff' is not an ARFF file (it has no @data line): save"),
        ("x,y\n1,2\n", "'t.arff' is not an ARFF file (it has no @data line): save"),
        (nominal + "@data\n1,p\n\n1,p,3\n", "line 7 of 't.arff' has 3 values, but there are 2 attributes: correct"),
        (nominal + "@data\n1,p\n1\n", "line 6 of 't.arff' has 1 value, but there are 2 attributes: correct"),
        (
            nominal + "@data\n{0 1, 2 p}\n",
            "line 5 of 't.arff' has a value in place '2', but places are 0 to 1: correct",
        ),
        (nominal + "@data\n{0 1, 0 2}\n", "line 5 of 't.arff' has two values in place 0: correct"),
        (nominal + "@data\n{0}\n", "line 5 of 't.arff' is sparse data that is not pairs of a place and a value"),
        (nominal + "@data\n{0 1\n", "line 5 of 't.arff' is sparse data without a closing brace, or with a weight"),
        (head + "@attribute s string\n@data\n{0 1}\n", "line 5 of 't.arff' leaves out 's', which is text and has no"),
        (nominal + "@data\n1,r\n", "line 5 of 't.arff' has 'r', none of the values of 'y' ('p', 'q'): correct"),
        (nominal + "@data\nz,p\n", "line 5 of 't.arff' has 'z', which is not a number, in 'a': correct"),
        (head + "@attribute a {p,q}\n@data\n1,p\n", "(field 'a' occurs more than once)"),
        (head + "@attribute b relational\n@attribute c numeric\n@end b\n@data\n1,2\n", "a relational attribute"),
        (head + '@attribute d date "yy%y"\n@data\n1,2020\n', "cannot be read by SciPy's ARFF reader (redefinition"),
        (nominal + "@data\n", "'t' has column names but no rows"),
    ):
        path.write_text(text, encoding="utf-8")
        assert sentence in refusal(path, target="y")


@pytest.mark.parametrize("suffix", [".csv", ".arff"])
@given(edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 5), st.text("'\"{},@%\n\t ;?01ax", max_size=3))))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_text_file_holds_it_is_read_or_refused(
    tmp_path: Path, suffix: str, edits: list[tuple[int, int, str]]
) -> None:
    text = (
        "x,z,y\n"
        if suffix == ".csv"
        else "@relation t\n@attribute x real\n@attribute z {p,q}\n@attribute y {a,b}\n@data\n"
    )
    text += "1,p,a\n2,q,b\n" * 8
    for start, length, new in edits:
        text = text[:start] + new + text[start + length :]
    path = tmp_path / f"t{suffix}"
    path.write_text(text)
    try:
        table = load(str(path), target="y")
    except UserError:
        event("refused")
    else:
        assert len(table) >= 10
        assert table.task == "classification" or table.target.dtype == np.float64


@pytest.mark.torture
def test_damaged_parquet_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pl.DataFrame(columns()).write_parquet(path)
    whole = path.read_bytes()
    generator = np.random.Generator(np.random.Philox(key=1))
    refused = 0
    for _ in range(60):
        damaged = np.frombuffer(whole, dtype=np.uint8).copy()
        damaged[generator.integers(len(whole), size=3)] = generator.integers(256, size=3)
        path.write_bytes(damaged.tobytes())
        try:
            load(str(path), target="y")
        except UserError:
            refused += 1
    assert refused > 20
