"""How columns of real files are read: what is missing, what is refused, and what each option does about it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from vicinal.lab import records
from vicinal.lab.data import spellings
from vicinal.lab.data.column_reading import ColumnSummary, lines
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.read_options import Decimal, ReadOptions
from vicinal.lab.data.splits import split
from vicinal.lab.data.table import Table
from vicinal.lab.data.tables import load
from vicinal.lab.errors import UserError

ROWS = 60
LABEL = ["no", "yes"] * 30


def write(tmp_path: Path, separator: str = ",", **columns: Sequence[object]) -> str:
    table = {"x": [i + 0.5 for i in range(ROWS)], "y": LABEL, **columns}
    path = tmp_path / "t.csv"
    pl.DataFrame({key: [str(v) for v in values] for key, values in table.items()}).write_csv(path, separator=separator)
    return str(path)


def summary(table: Table, name: str) -> ColumnSummary:
    (found,) = (column for column in table.columns if column.name == name)
    return found


def refusal(path: str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(path, target="y", **options)
    return str(caught.value)


AGES: list[object] = [20 + i % 7 for i in range(ROWS)]


def test_missing_words_are_those_of_pandas(tmp_path: Path) -> None:
    import pandas as pd
    from pandas._libs.parsers import STR_NA_VALUES  # what read_csv documents

    for word in sorted(STR_NA_VALUES):
        path = write(tmp_path, age=[word, *AGES[1:]])
        table = load(path, target="y")
        read = pd.read_csv(path)["age"].to_numpy(dtype=float)
        np.testing.assert_array_equal(table.numeric[:, table.numeric_columns.index("age")], read)
        assert summary(table, "age").spelled == {word: 1}


@pytest.mark.parametrize("word", ["none", "-", "--", ".", "45 years", "unknown", "n.a.", "<18", "#REF!"])
@pytest.mark.parametrize("levels", [7, 60])
def test_a_column_that_is_numbers_but_for_a_cell(tmp_path: Path, word: str, levels: int) -> None:
    ages = [20 + i % levels for i in range(ROWS)]
    path = write(tmp_path, age=[word, *ages[1:]])
    message = refusal(path)
    assert message.startswith(f"column 'age' is numbers but for {word!r}: correct or empty those cells; --missing")
    assert "--categorical 'age' reads categories" in message
    table = load(path, target="y", reading=ReadOptions(missing=(word,)))
    np.testing.assert_array_equal(table.numeric[:, 1], [np.nan, *ages[1:]])
    if levels == 7:
        table = load(path, target="y", reading=ReadOptions(categorical=("age",)))
        assert table.categories == (tuple(sorted({word, *map(str, ages)})),)


def test_words_that_are_categories(tmp_path: Path) -> None:
    path = write(tmp_path, veneer=["None", "Brick", "Stone"] * 20)
    table = load(path, target="y")
    assert table.categories == (("Brick", "Stone"),)
    assert summary(table, "veneer").line() == (
        "veneer: 2 categories: Brick, Stone; 20 missing (20 'None'; --categorical 'veneer' keeps the words)"
    )
    kept = load(path, target="y", reading=ReadOptions(categorical=("veneer",)))
    assert kept.categories == (("Brick", "None", "Stone"),)
    assert kept.missing_cells == 0
    # the model's encoding knows the word too
    encoder = TableEncoder.fit(kept, np.arange(ROWS))
    np.testing.assert_array_equal(encoder.transform_records(pl.read_csv(path)), encoder.transform(kept))


def test_the_target_follows_the_same_rules(tmp_path: Path) -> None:
    answers = ["N/A", *LABEL[1:]]
    path = write(tmp_path, y=answers)
    assert "1 row has no value in 'y'" in refusal(path)
    table = load(path, target="y", drop_missing_target=True)
    assert (len(table), table.classes, table.numeric[0, 0]) == (59, ("no", "yes"), 1.5)
    assert table.notes == ("1 row without a value in 'y' left out",)
    years = [1980 + i for i in range(ROWS - 1)]
    path = write(tmp_path, y=["unknown", *years])
    for task in (None, "regression"):
        assert refusal(path, task=task).startswith("the target 'y' is numbers but for 'unknown': correct or empty")
    path = write(tmp_path, y=["N/A", *years])
    table = load(path, target="y", drop_missing_target=True)
    assert (table.task, table.target.tolist()) == ("regression", years)


def test_small_classes(tmp_path: Path) -> None:
    path = write(tmp_path, y=["rare", "odd", "odd", *LABEL[3:]])
    table = load(path, target="y", min_class=3)
    assert (len(table), table.classes) == (57, ("no", "yes"))
    assert "3 rows left out: those of values 'odd', 'rare' of 'y'" in table.notes[0]
    assert "--min-class 2 leaves them out" in refusal(path)


@pytest.mark.parametrize(
    ("cells", "name", "values", "options"),
    [
        (["12.5%", "7%", "0 %"], "percents", [0.125, 0.07, 0], {}),
        (["$1,234.50", "$45.00", "-$3"], "amounts of money", [1234.5, 45, -3], {}),
        (["1,234", "950", "1,000,000"], "numbers with thousands separators", [1234, 950, 1e6], {}),
        (["12,5", "3,75", "0,1"], "numbers with ',' before the decimals", [12.5, 3.75, 0.1], {}),
        (["1.234,56 €", "7,00 €", "12,50 €"], "numbers with ',' before the decimals", [1234.56, 7, 12.5], {}),
        (["70 kg", "81.5 kg", "64 kg"], "numbers with the unit 'kg'", [70, 81.5, 64], {}),
        (["18kmpl", "20kmpl", "21.5kmpl"], "numbers with the unit 'kmpl'", [18, 20, 21.5], {}),
        (["13/02/1970", "01/01/1970", "02/01/1970"], "dates with the day first", [43, 0, 1], {}),
        (["02/13/1970", "01/01/1970", "01/02/1970"], "dates with the month first", [43, 0, 1], {}),
        (["03/04/1970", "01/01/1970", "02/01/1970"], "dates that do not show", [92, 0, 1], {"dates": "dmy"}),
        (["1970/02/13", "1970/01/01", "1970/01/02"], "dates with slashes or points", [43, 0, 1], {}),
        (["1970-02", "1970-01", "1971-01"], "years and months", [31, 0, 365], {}),
        (["Jan 1 1970", "Feb 1 1970", "Mar 1 1970"], "dates with the month in words", [0, 31, 59], {}),
        (
            ["1970-01-02 00:00:00+01:00", "1970-01-01 01:00:00+01:00", "1970-01-01 13:00:00+01:00"],
            "times with an offset from UTC",
            [23 / 24, 0, 0.5],
            {},
        ),
        (["06:00", "12:00", "18:30"], "times of the day", [0.25, 0.5, 18.5 / 24], {}),
    ],
)
def test_other_spellings_are_named_and_read_on_request(
    tmp_path: Path, cells: list[str], name: str, values: list[float], options: dict[str, Any]
) -> None:
    path = write(tmp_path, z=cells * 20)
    message = refusal(path)
    assert message.startswith(f"column 'z' holds {name}")
    assert "identifier" not in message
    assert "--parse 'z'" in message
    table = load(path, target="y", reading=ReadOptions(parse=("z",), **options))
    np.testing.assert_allclose(table.numeric[:, 1], values * 20, rtol=1e-15)
    assert load(path, target="y", reading=ReadOptions(categorical=("z",))).categories == (tuple(sorted(set(cells))),)


@pytest.mark.parametrize(
    "cells", [["1st", "2nd", "3rd"], ["FWD", "RWD", "4WD"], ["3B", "4A", "5C"], ["a", "b", "7"], ["10th", "HS", "BSc"]]
)
def test_words_that_begin_with_numbers_are_categories(tmp_path: Path, cells: list[str]) -> None:
    assert load(write(tmp_path, z=cells * 20), target="y").categories == (tuple(sorted(cells)),)


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize(
    "texts",
    [
        ["1 %", "2 %"],
        ["$ 5", "$ 6"],
        ["1.200", "3.400", "5,600"],
        ["1,200", "3,400", "5.600"],
        ["5 kg", "6 kg", "7 kg"],
        ["5 l/100", "6 l/100", "7 l/100"],
        ["2024-01-02T03:04+02:00"],
        ["2024/01/02"],
        ["2024-01"],
        ["2 Jan 2024"],
        ["12:30"],
        ["13/02/2024", "01/02/2024"],
        ["02/13/2024", "02/01/2024"],
        ["02/01/2024"],
    ],
)
def test_a_spelling_is_found_again_by_its_name(texts: list[str], decimal: Decimal) -> None:
    found = spellings.find(texts, decimal, None)
    assert found is not None
    again = spellings.named(found.name, decimal)
    if found.name == spellings.AMBIGUOUS:
        assert again is None
        return
    assert again is not None
    assert [bool(again.matches(text)) for text in texts] == [bool(found.matches(text)) for text in texts]
    mine = [text for text in texts if found.matches(text)]
    assert [again.value(text) for text in mine] == [found.value(text) for text in mine]
    assert spellings.named("numbers with the unit 'x", decimal) is None


def test_ambiguous_and_impossible_dates(tmp_path: Path) -> None:
    path = write(tmp_path, z=["03/04/2020", "05/06/2020", "07/08/2020"] * 20)
    assert "give --dates dmy or --dates mdy" in refusal(path, reading=ReadOptions(parse=("z",)))
    path = write(tmp_path, z=["31/02/2020", *["13/04/2020", "05/06/2020"] * 29, "07/08/2020"])
    assert "but for '31/02/2020'" in refusal(path, reading=ReadOptions(parse=("z",)))


def test_utc_as_pandas_writes_it(tmp_path: Path) -> None:
    times = [f"1970-01-01 {i % 24:02}:00:00+00:00" for i in range(ROWS)]
    table = load(write(tmp_path, z=times), target="y")
    np.testing.assert_allclose(table.numeric[:, 1], [i % 24 / 24 for i in range(ROWS)], rtol=1e-15)
    assert summary(table, "z").line() == "z: date, 1970-01-01 to 1970-01-01T23:00"


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    names = [f"w{i}" for i in range(ROWS)]
    path = write(tmp_path, age=["none", *AGES[1:]], a=names, b=names, price=["$1", "$2", "$3"] * 20, e=[""] * ROWS)
    first, *problems = refusal(path).split("\n  ")
    assert first == "'t' has 4 problems:"
    assert [problem[:27] for problem in problems] == [
        "column 'age' is numbers but",
        "column 'price' holds amount",
        "column 'e' holds no values:",
        "columns 'a', 'b' are text w",
    ]
    assert problems[3].endswith("drop them with --drop 'a,b'")
    read = load(path, target="y", drop=["a,b", "e"], reading=ReadOptions(missing=("none",), parse=("price",)))
    assert read.numeric_columns == ("x", "age", "price")


def test_broken_lines_are_told_with_what_is_wrong_in_the_columns(tmp_path: Path) -> None:
    path = Path(write(tmp_path, age=["none", *AGES[1:]]))
    text = path.read_text()
    path.write_text(text.replace("x,y,age", ",y,age") + "1,no\n\n2,no,3,4\n")
    assert refusal(str(path)).split("\n  ") == [
        "'t' has 3 problems:",
        "2 lines of 't.csv' are broken (line 62 has 2 values, line 64 has 4 values), but there are 3 columns: correct those "
        "lines",
        "'t.csv' has a column without a name, as a saved row index is: drop it with --drop ''",
        "column 'age' is numbers but for 'none': correct or empty those cells; --missing 'none' reads that word as missing; "
        "--categorical 'age' reads categories",
    ]
    path.write_text("x,y\n" + "1,no\n" * 9 + "1\n" * 10)
    assert refusal(str(path)).startswith("10 lines of 't.csv' are broken (line 11 has 1 value, ")


def test_a_comma_in_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, **{"a,b": AGES, "a": AGES})
    assert load(path, target="y", drop=["a,b"]).numeric_columns == ("x", "a")


def test_numbers_given_as_missing(tmp_path: Path) -> None:
    path = write(tmp_path, age=["-999", "-999.0", *AGES[2:]])
    table = load(path, target="y", reading=ReadOptions(missing=("-999",)))
    assert np.isnan(table.numeric[:, 1]).sum() == 2
    pl.DataFrame({"age": [-999.0, *AGES[1:]], "y": LABEL}).write_parquet(tmp_path / "t.parquet")
    table = load(str(tmp_path / "t.parquet"), target="y", reading=ReadOptions(missing=("-999",)))
    assert (np.isnan(table.numeric[:, 0]).sum(), summary(table, "age").spelled) == (1, {"-999": 1})


def test_text_of_a_parquet_file_that_spells_numbers(tmp_path: Path) -> None:
    path = str(tmp_path / "t.parquet")
    pl.DataFrame({"n": [str(i % 30) for i in range(ROWS)], "y": LABEL}).write_parquet(path)
    message = refusal(path)
    assert "column 'n' is text that spells numbers, as " in message
    assert "--numeric 'n' reads numbers; --categorical 'n' reads categories" in message
    table = load(path, target="y", reading=ReadOptions(numeric=("n",)))
    assert table.numeric[:, 0].tolist() == [i % 30 for i in range(ROWS)]
    assert len(load(path, target="y", reading=ReadOptions(categorical=("n",))).categories[0]) == 30


def test_separator_header_decimal_and_encoding(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("".join(f"{i},5|{'ab'[i % 2]}\n" for i in range(12)))
    options = ReadOptions(separator="|", header=False, decimal=",")
    table = load(str(path), target="column 2", reading=options)
    assert table.numeric[:, 0].tolist() == [i + 0.5 for i in range(12)]
    path.write_bytes(("x,y\n" + "1,caf\xe9\n2,th\xe9\n" * 6).encode("cp1252"))
    assert load(str(path), target="y", reading=ReadOptions(encoding="cp1252")).classes == ("caf\xe9", "th\xe9")
    assert "the encoding 'klingon' is unknown" in refusal(str(path), reading=ReadOptions(encoding="klingon"))


def test_groups_and_times_are_no_inputs(tmp_path: Path) -> None:
    days = [f"1970-01-{1 + i % 28:02}" for i in range(ROWS)]
    path = write(tmp_path, person=[f"p{i // 6}" for i in range(ROWS)], day=days)
    table = load(path, target="y", group="person", time="day")
    assert (table.numeric_columns, table.categorical_columns) == (("x",), ())
    assert table.groups is not None
    assert table.times is not None
    assert table.groups.tolist() == [i // 6 for i in range(ROWS)]
    assert table.times.tolist() == [i % 28 for i in range(ROWS)]
    assert table.fingerprint() != load(path, target="y", drop=["person", "day"]).fingerprint()
    path = write(tmp_path, person=["", *["p"] * 59])
    assert "1 row has no value in the --group column 'person'" in refusal(path, group="person")


def test_summaries_are_json_and_lines(tmp_path: Path) -> None:
    path = write(tmp_path, age=AGES, color=["red", "red", "green"] * 20, flag=["TRUE", "FALSE"] * 30)
    table = load(path, target="y", drop=["color"])
    text = json.dumps(records.to_json(table.columns))
    assert records.from_json(tuple[ColumnSummary, ...], json.loads(text)) == table.columns
    assert lines(table.columns) == [
        "x: number, 0.5 to 59.5",
        "y (target): 2 categories: no, yes",
        "age: number, 20 to 26",
        "color: dropped",
        "flag: yes/no",
    ]
    assert lines(table.columns * 10)[-1] == "and 20 more columns"
    options = ReadOptions(missing=("-",), parse=("a",), dates="dmy")
    assert records.from_json(ReadOptions, json.loads(json.dumps(records.to_json(options)))) == options


@pytest.mark.parametrize("ending", ["feather", "arrow", "jsonl", "json", "txt", "data", "csv.bz2", "csv.xz", "tsv.gz"])
def test_formats_give_the_table_of_the_csv(tmp_path: Path, ending: str) -> None:
    frame = pl.DataFrame({"n": [None, *range(1, ROWS)], "color": ["red", "green"] * 30, "y": LABEL})
    path = tmp_path / f"t.{ending}"
    frame.write_csv(tmp_path / "t.csv")
    text = (tmp_path / "t.csv").read_bytes()
    {
        "feather": lambda: frame.write_ipc(path),
        "arrow": lambda: frame.write_ipc(path),
        "jsonl": lambda: frame.write_ndjson(path),
        "json": lambda: frame.write_json(path),
        "txt": lambda: path.write_bytes(text.replace(b",", b"|")),
        "data": lambda: path.write_bytes(gzip.compress(text)),  # by its first bytes, whatever the name
        "csv.bz2": lambda: path.write_bytes(bz2.compress(text)),
        "csv.xz": lambda: path.write_bytes(lzma.compress(text)),
        "tsv.gz": lambda: path.write_bytes(gzip.compress(text.replace(b",", b"\t"))),
    }[ending]()
    assert load(str(path), target="y").fingerprint() == load(str(tmp_path / "t.csv"), target="y").fingerprint()
    path.write_bytes(path.read_bytes()[:40])
    assert "\n" not in refusal(str(path))


def test_duplicate_rows_and_columns_that_name_rows_are_noted(tmp_path: Path) -> None:
    x = [0.5 + i // 3 for i in range(ROWS)]
    path = write(tmp_path, x=x, y=["no"] * 30 + ["yes"] * 30)
    assert load(path, target="y").notes == (
        "40 rows equal an earlier row in every input and the target: copies of training rows may be tested",
    )
    path = write(tmp_path, PassengerId=range(1, ROWS + 1), patient=[i // 6 for i in range(ROWS)], age=AGES)
    first, second = load(path, target="y").notes
    assert first.startswith("column 'PassengerId' counts the rows from 1 to 60, as a saved row index does")
    assert second.startswith("column 'patient' has 10 values in 60 rows, and may name persons or groups")


def test_random_splits_refuse_groups(tmp_path: Path) -> None:
    table = load(write(tmp_path, person=[f"p{i // 6}" for i in range(ROWS)]), target="y", group="person")
    with pytest.raises(UserError, match="at random here, not by --group or --time"):
        split(table, 0)


def test_arff_with_spaces_tabs_and_commas_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "t.arff"
    head = "@relation t\n@attribute a numeric\n@attribute y {8,9}\n@data\n"
    for row in ("{}, 8", " {} ,8 ,", "{} 8", "{}\t8", "{},\t 8,"):
        path.write_text(head + "".join(row.replace("8", str(8 + i % 2)).format(i) + "\n" for i in range(12)))
        table = load(str(path), target="y")
        assert table.numeric[:, 0].tolist() == [*range(12)]
        assert table.target.tolist() == [0, 1] * 6
    path.write_text(head + "1,,8\n" * 12)
    assert "line 5 of 't.arff' has 3 values" in refusal(str(path))


def test_first_lines_that_are_no_names(tmp_path: Path) -> None:
    path, rows = tmp_path / "t.csv", "x,z,y\n" + "1,2,a\n2,3,b\n" * 6
    path.write_text("sep=;\n" + rows.replace(",", ";"))
    assert load(str(path), target="y").numeric_columns == ("x", "z")
    for first in ("# made by hand", "Sales 2020"):
        path.write_text(f"{first}\n{rows}")
        assert f"the first line of 't.csv' is {first!r}, one value, and line 2 has 3" in refusal(str(path))
    path.write_text(rows.replace(",", " "))
    assert refusal(str(path)).endswith("give the right one, as --separator space")
    assert load(str(path), target="y", reading=ReadOptions(separator=" ")).numeric_columns == ("x", "z")


def test_a_target_of_few_integers_is_listed_as_classes(tmp_path: Path) -> None:
    table = load(write(tmp_path, y=[0, 1, 1] * 20), target="y")
    assert summary(table, "y").line() == "y (target): 2 categories: 1, 0"
    table = load(write(tmp_path, y=[0, 1, 1] * 20), target="y", task="regression")
    assert summary(table, "y").line() == "y (target): number, 0 to 1"
