"""What a table's notes say: of words that are almost the same, of words looked for in vain, of columns that count rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from vicinal.lab.data.read_options import ReadOptions
from vicinal.lab.data.tables import load

ROWS = 60


def notes(
    path: Path, missing: Sequence[str] = (), drop_missing_target: bool = False, **columns: object
) -> tuple[str, ...]:
    table = {"x": [i + 0.5 for i in range(ROWS)], "y": ["no", "yes"] * 30, **columns}
    pl.DataFrame(table).write_csv(path / "t.csv")
    reading = ReadOptions(missing=tuple(missing))
    return load(str(path / "t.csv"), target="y", reading=reading, drop_missing_target=drop_missing_target).notes


def test_classes_and_categories_that_are_almost_the_same(tmp_path: Path) -> None:
    words = ["New York", "new  york", "Newyork", "Oslo", "caf\u00e9", "cafe\u0301"] * 10
    differ, end = "differ only in case, spaces or encoding", "and count as different: spell them alike if they are one"
    assert notes(tmp_path, y=["No", "yes", "Yes"] * 20, town=words) == (
        f"classes of the target 'y' {differ} ('Yes', 'yes') {end}",
        f"categories of column 'town' {differ} ('New York', 'Newyork', 'new  york'; 'cafe\u0301', 'caf\u00e9') {end}",
    )
    assert notes(tmp_path, town=["a", "b", "A b", "c", "ab c", "d"] * 10) == ()
    (note,) = notes(tmp_path, town=[word + str(i) for i in range(6) for word in "aA"] * 5)
    assert "('A0', 'a0'; 'A1', 'a1'; 'A2', 'a2'; and 3 more)" in note


def test_missing_words_that_no_cell_holds(tmp_path: Path) -> None:
    ages = ["-", "-999.0", *map(str, range(58))]
    assert notes(tmp_path, ["-", "-999", "none", "."], age=ages) == ("--missing 'none', '.': no cell holds them",)
    assert notes(tmp_path, ["-", "-999", "."], age=ages) == ("--missing '.': no cell holds it",)
    assert notes(tmp_path, ["-", "-999"], age=ages) == ()
    answers = ["-", *["no", "yes"] * 29, "no"]  # a word of rows that are left out
    assert notes(tmp_path, ["-"], drop_missing_target=True, y=answers) == ("1 row without a value in 'y' left out",)


@pytest.mark.parametrize("first", [0, 1])
def test_a_saved_row_index(tmp_path: Path, first: int) -> None:
    last = first + ROWS - 1
    assert notes(tmp_path, n=range(first, last + 1)) == (
        f"column 'n' counts the rows from {first} to {last}, as a saved row index does: --drop 'n' leaves it out",
    )
    (note,) = notes(tmp_path, n=range(first + 7, last + 8))
    assert note.startswith("column 'n' has another whole number in every row, as an identifier has")
    assert notes(tmp_path, n=range(0, 2 * ROWS, 2)) == ()
    days = pl.date_range(pl.date(1970, 1, 1), pl.date(1970, 3, 1), eager=True)
    assert notes(tmp_path, day=days) == ()  # a row a day
