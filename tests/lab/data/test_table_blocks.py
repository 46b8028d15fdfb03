"""Tables in blocks: the same rows as at once, and what is wrong is told with its place."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest

from vicinal.lab.data import table_blocks, table_files
from vicinal.lab.data.read_options import AS_IT_IS, ReadOptions
from vicinal.lab.errors import UserError


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_blocks, "LARGE", 0)
    monkeypatch.setattr(table_blocks, "ROWS", 3)
    monkeypatch.setattr(table_blocks, "_CELLS", 18)


def in_blocks(path: Path, options: ReadOptions = AS_IT_IS) -> tuple[list[int], pl.DataFrame, set[str | None]]:
    found = list(table_blocks.blocks(path, options))
    return [one.start for one in found], pl.concat([one.frame for one in found]), {one.decimal for one in found}


ROWS = "".join(f'{i},"a ""{i}"", b",{i / 2}\n' for i in range(20))
TEXTS = {
    "plain": "x,y,z\n" + ROWS,
    "no end of line": ("x,y,z\n" + ROWS).rstrip("\n"),
    "carriage returns": ("x,y,z\n" + ROWS).replace("\n", "\r\n"),
    "blank lines": "\n\nx,y,z\n" + ROWS.replace("\n", "\n\n"),
    "lines in quotes": "x,y,z\n" + "".join(f'{i},"a\n\nb, {i}",{i}\n' for i in range(20)),
    "a bare quotation mark": "x,y,z\n" + "".join(f'{i},5" pipe,{i}\n' for i in range(20)),
    "semicolons": "x;y;z\n" + "".join(f"{i};b;{i},5\n" for i in range(20)),
    "declared": "sep=|\nx|y|z\n" + "".join(f"{i}|b,c|{i}\n" for i in range(20)),
    "names alone": "x,y,z\n",
    "one row": "x,y,z\n1,2,3\n",
    "a whole number of blocks": "x,y,z\n" + "".join(f"{i},{i},{i}\n" for i in range(18)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_read_as_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(TEXTS[name].encode())
    starts, frame, decimals = in_blocks(path)
    whole, decimal = table_files.read(path)
    assert frame.equals(whole)
    assert decimals == {decimal}
    assert starts == list(range(0, max(1, len(whole)), 3))[: len(starts)] or starts[1] == 6
    assert len(starts) > 2 or len(whole) < 7


@pytest.mark.parametrize(
    ("options", "encoding"),
    [
        (ReadOptions(encoding="cp1252"), "cp1252"),
        (ReadOptions(header=False), "utf-8-sig"),
        (ReadOptions(), "utf-16"),
        (ReadOptions(separator=";"), "utf-8"),
        (ReadOptions(decimal=","), "utf-8"),
    ],
)
def test_what_is_said_of_the_file_holds_in_each_block(tmp_path: Path, options: ReadOptions, encoding: str) -> None:
    path, mark = tmp_path / "t.txt", options.separator or ","
    path.write_bytes("".join(f"{i}{mark}é{i}\n" for i in range(20)).encode(encoding))
    _, frame, _ = in_blocks(path, options)
    assert frame.equals(table_files.read(path, options)[0])


def test_parquet_is_read_as_at_once(tmp_path: Path) -> None:
    path = tmp_path / "t [1]*.parquet"
    whole = pl.DataFrame({"x": range(20), "y": [None, "a"] * 10, "z": [1.5, None] * 10})
    whole.write_parquet(path, row_group_size=7)
    starts, frame, decimals = in_blocks(path)
    assert frame.equals(whole)
    assert (len(starts) > 2, decimals) == (True, {None})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x,y\n" + "1,2\n" * 10 + "1,2,3\n" + "1,2\n" * 10, r"t\.csv, names and what begins in line \d+' .*3 values"),
        ("x,y\n" + "1,2\n" * 10 + '1,"2\n' + "1,2\n" * 10, "begins a quotation that never ends"),
        ("x,y\n" + "1,2\n" * 10 + "1,\0\n", "line 12 of 't.csv' holds a NUL byte"),
        ("x,y\n" + "1,2\n" * 10 + "1,\udcff\n", r"'t.csv' is not UTF-8 text \(after line \d+\): give its --encoding"),
        ("", "'t.csv' is empty"),
    ],
)
def test_what_is_broken_is_told(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=says):
        in_blocks(path)


def test_damaged_parquet_is_told(tmp_path: Path) -> None:
    path, held = tmp_path / "t.parquet", io.BytesIO()
    pl.DataFrame({"x": range(20)}).write_parquet(held)
    path.write_bytes(held.getvalue()[:-30])
    with pytest.raises(UserError, match=r"'t\.parquet' is not a readable Parquet file"):
        in_blocks(path)


def test_another_kind_is_one_block(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('[{"x": 1}, {"x": 2}]')
    assert in_blocks(path)[0] == [0]
