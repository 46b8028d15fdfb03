"""All that is wrong with a text of a table is told at once, with the numbers of its lines."""

from __future__ import annotations

import polars as pl
import pytest

from vicinal.lab.data.delimited import find_separator, first_row, read_delimited
from vicinal.lab.errors import UserError

GOOD = "x,z,y\n" + "1,2,a\n2,3,b\n" * 5  # lines 1 to 11


def refusal(text: str, separator: str = ",") -> list[str]:
    with pytest.raises(UserError) as caught:
        read_delimited(text, "t.csv", separator)
    return str(caught.value).split("\n  ")


def test_all_broken_lines_are_counted_and_the_first_are_named() -> None:
    bad = '1,2\n1,2,a,4\n1,2,a\n"1"2,2,a\n\n7\n1,2,a\n'
    assert refusal(GOOD + bad) == [
        "4 lines of 't.csv' are broken (line 12 has 2 values, line 13 has 4 values, line 15 is not valid CSV (',' expected "
        "after '\"'), line 17 has 1 value), but there are 3 columns: correct those lines"
    ]
    (message,) = refusal(GOOD * 3 + "1\n" * 20)
    assert message.startswith("20 lines of 't.csv' are broken (line 34 has 1 value, ")
    assert message.endswith("line 38 has 1 value and 15 more), but there are 3 columns: correct those lines")


def test_lines_are_counted_where_cells_hold_line_ends() -> None:
    assert refusal(GOOD + '1,"two\nlines",a\r\n1,2\n') == [
        "line 14 of 't.csv' has 2 values, but there are 3 columns: correct that line"
    ]


def test_a_quotation_that_never_ends_is_told_where_it_begins() -> None:
    assert refusal(GOOD + '1,"two,a\n' + "1,2,a\n" * 9) == [
        "line 12 of 't.csv' begins a quotation that never ends: correct that line"
    ]
    (message,) = refusal(GOOD + '5\n1,"two,a\n' + "1,2,a\n" * 9)
    assert "(line 12 has 1 value, line 13 begins a quotation that never ends)" in message
    assert refusal('"') == ["line 1 of 't.csv' begins a quotation that never ends: correct that line"]


def test_faults_of_the_header_are_told_with_those_of_lines() -> None:
    assert refusal("x,,x,\n" + "1,2,3,a\n" * 9 + "1,2\n") == [
        "'t.csv' has 3 problems:",
        "'t.csv' has more than one column named 'x': give each column a name of its own, in a header line",
        "columns 2, 4 of 't.csv' have no name: give each one, or remove empty columns",
        "line 11 of 't.csv' has 2 values, but there are 4 columns: correct that line",
    ]


@pytest.mark.parametrize(
    ("header", "value"),
    [("5.1,3.5,setosa", "5.1"), ("30,64,1,1", "30"), ("6,148,72,yes", "6"), ("1,1", "1"), ("1,2,1e3", "1e3")],
)
def test_a_header_of_values(header: str, value: str) -> None:
    row = ",".join("1" * len(header.split(",")))
    (message,) = refusal(f"{header}\n{row}\n{row}\n")
    assert message == (
        f"the first line of 't.csv' holds values such as {value!r}: add a header line with the columns' names, or give "
        f"--no-header"
    )


@pytest.mark.parametrize("header", ["0,1,2,y", "2020,2019,2018", "id,2019,1", "NA,nan,x", "1", "y,3", "x,7,b,2,c"])
def test_numbers_that_may_be_names(header: str) -> None:
    row = ",".join("1" * len(header.split(",")))
    assert read_delimited(f"{header}\n{row}\n", "t.csv", ",").columns == header.split(",")


def test_what_stands_above_the_names() -> None:
    assert refusal("Sales of 2020\n" + GOOD) == [
        "the first line of 't.csv' is 'Sales of 2020', one value, and line 2 has 3: remove a title or comment above the "
        "names, or give the --separator"
    ]
    assert refusal("# made by hand\n# on Monday, at 5\n\n" + GOOD + "1,2\n") == [
        "'t.csv' has 2 problems:",
        "lines 1 to 3 of 't.csv', beginning with '# made by hand', one value, stand above line 4, which has 3 as most do: "
        "remove a title or comment above the names, or give the --separator",
        "line 15 of 't.csv' has 2 values, but there are 3 columns: correct that line",
    ]


def test_headers_of_another_width_than_all_lines() -> None:
    rows = "".join(f"{i},1,2,a\n" for i in range(9))
    assert refusal("x,z,y\n" + rows) == [
        "the first line of 't.csv' has 3 names, and the lines below have 4 values; these may begin with names of rows, as "
        "those of R's write.table do: add a name for that column, or remove the first line if it is a title"
    ]
    assert "these may end in a separator: remove it" in refusal("x,z,y\n" + "1,2,a,\n" * 9)[0]
    assert refusal("x,z,y,\n" + "1,2,a\n" * 9) == [
        "the first line of 't.csv' has 4 names (the last is empty), and line 2 and most below have 3 values: correct the "
        "first line"
    ]


def test_any_number_of_spaces_is_one_separator() -> None:
    frame = read_delimited('  x  y z \n 1   a "b  c"\n  2 b d  \n', "t.csv", " ")
    assert frame.to_dict(as_series=False) == {"x": ["1", "2"], "y": ["a", "b"], "z": ["b  c", "d"]}
    assert first_row("\n  x  y \n", " ") == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("x,y;z", ","),
        ("x;y", ";"),
        ('"a,b";y', ";"),
        ("x\ty", "\t"),
        ("\n\nx|y", "|"),
        ("x", ","),
        ("", ","),
        ("Title\n\nx;y", ";"),
        ('"x;z"\n', ","),
    ],
)
def test_the_separator_is_found_in_the_first_line(text: str, separator: str) -> None:
    assert find_separator(text) == separator


def test_an_empty_text() -> None:
    assert refusal("\n \n") == ["'t.csv' is empty: give a table with a header line and rows below it"]
    assert read_delimited("x,y\n", "t.csv", ",").schema == {"x": pl.String, "y": pl.String}
    assert read_delimited("", "t.csv", ",", ["x"]).shape == (0, 1)
