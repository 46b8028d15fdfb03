"""A table is the same cell by cell in every kind of file, packed or not, in parts and from standard input."""

from __future__ import annotations

import bz2
import datetime
import gzip
import importlib.util
import io
import json
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from vicinal.lab.data import table_files
from vicinal.lab.data.read_options import ReadOptions
from vicinal.lab.data.table import Table
from vicinal.lab.data.tables import is_table, load
from vicinal.lab.errors import UserError

FRAME = pl.DataFrame(
    {
        "x": [None if i == 3 else i / 8 for i in range(12)],
        "w": ["n", "s, t", None] * 4,
        "b": [True, False] * 6,
        "day": [datetime.date(1970, 1, 1 + i) for i in range(12)],
        "y": ["a", "b", "ä"] * 4,
    }
)
TEXT = FRAME.write_csv()
ARFF = "\n".join(
    [
        "@relation t",
        "@attribute x numeric",
        "@attribute w {n, 's, t'}",
        "@attribute b numeric",
        "@attribute day date yyyy-MM-dd",
        "@attribute y {a,b,ä}",
        "@data",
        *(
            ",".join(["?" if x is None else repr(x), "?" if w is None else f"'{w}'", str(int(b)), str(day), y])
            for x, w, b, day, y in FRAME.iter_rows()
        ),
    ]
)
has_excel = pytest.mark.skipif(importlib.util.find_spec("fastexcel") is None, reason="fastexcel is not installed")
has_zstd = pytest.mark.skipif(importlib.util.find_spec("zstandard") is None, reason="zstandard is not installed")


def read(path: Path | str, target: str = "y", **options: Any) -> Table:
    return load(str(path), target=target, reading=ReadOptions(**options))


def refusal(path: Path | str, target: str = "y", **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(path, target, **options)
    return str(caught.value)


def same(table: Table) -> None:
    """Assert that a table holds the cells of FRAME."""
    assert table.numeric_columns == ("x", "b", "day")
    np.testing.assert_array_equal(table.numeric[:, 0], [np.nan if i == 3 else i / 8 for i in range(12)])
    assert table.numeric[:, 1].tolist() == [1, 0] * 6
    assert table.numeric[:, 2].tolist() == [*range(12)]
    assert (table.categorical_columns, table.categories) == (("w",), (("n", "s, t"),))
    assert table.codes[:, 0].tolist() == [0, 1, -1] * 4
    assert (table.classes, table.target.tolist()) == (("a", "b", "ä"), [0, 1, 2] * 4)


def zipped(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return file.getvalue()


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def zstandard(raw: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(raw)


FILES = {
    "t.csv": TEXT.encode(),
    "t.txt": TEXT.encode("utf-16"),
    "t.tsv": FRAME.write_csv(separator="\t").encode(),
    "t.data": FRAME.write_csv(separator="|").encode(),
    "t.arff": ARFF.encode(),
    "t.parquet": written(FRAME.write_parquet),
    "t.feather": written(FRAME.write_ipc),
    "t.arrow": written(FRAME.write_ipc_stream),
    "t.json": FRAME.write_json().encode(),
    "t.jsonl": FRAME.write_ndjson().encode(),
}
PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_cells(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    table = read(tmp_path / name)
    same(table)
    assert (table.name, table.source) == ("t", name)


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", pytest.param("zst", marks=has_zstd), "zip"])
@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_may_be_packed(tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"{name}.{ending}"
    path.write_bytes(zipped(**{f"in/{name}": FILES[name]}) if ending == "zip" else PACK[ending](FILES[name]))
    table = read(path)
    same(table)
    assert (table.name, table.source) == ("t", path.name)


@has_zstd
def test_zstandard_in_frames_without_their_size(tmp_path: Path) -> None:
    import zstandard

    raw, half = TEXT.encode(), len(TEXT) // 2
    packed = b"".join(
        zstandard.ZstdCompressor(write_content_size=False).compress(part) for part in (raw[:half], raw[half:])
    )
    (tmp_path / "t.csv.zst").write_bytes(packed)
    same(read(tmp_path / "t.csv.zst"))
    FRAME.lazy().sink_csv(tmp_path / "u.csv.zst", compression="zstd")  # by another implementation
    same(read(tmp_path / "u.csv.zst"))


def test_the_first_bytes_decide_what_is_packed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(gzip.compress(TEXT.encode()))
    same(read(tmp_path / "t.csv"))
    (tmp_path / "u.csv").write_bytes(FILES["t.parquet"])
    same(read(tmp_path / "u.csv"))
    (tmp_path / "t.zip").write_bytes(zipped(**{"a/t.csv": TEXT.encode(), "__MACOSX/t.csv": b"x", "READ.me": b"x"}))
    same(read(tmp_path / "t.zip"))


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", pytest.param("zst", marks=has_zstd), "zip"])
def test_damaged_files_are_refused(tmp_path: Path, ending: str) -> None:
    raw = TEXT.encode() * 50
    whole = zipped(**{"t.csv": raw}) if ending == "zip" else PACK[ending](raw)
    path = tmp_path / f"t.csv.{ending}"
    for damaged in (TEXT.encode(), whole[: len(whole) // 2], whole[:-3], b""):
        path.write_bytes(damaged)
        message = refusal(path)
        assert f"'t.csv.{ending}' is not a whole " in message or (not damaged and "is empty" in message)
        assert "\n" not in message


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.arrow", "t.json", "t.jsonl"])
def test_files_that_are_cut_off_are_refused(tmp_path: Path, name: str) -> None:
    whole = FILES[name]
    for length in (10, len(whole) // 3, len(whole) // 2, len(whole) - 10):
        (tmp_path / name).write_bytes(whole[:length])
        assert f"'{name}' is not a readable " in refusal(tmp_path / name)


def test_archives_that_are_not_one_table(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    for files, found in (
        ({"a.csv": b"", "b.csv": b""}, "holds 2 tables ('a.csv', 'b.csv'): unpack it and give one table"),
        ({"a.jpg": b""}, "holds no table, but 'a.jpg': unpack it"),
        ({}, "holds no table: unpack it"),
    ):
        path.write_bytes(zipped(**files))
        assert found in refusal(path)


def test_what_a_package_reads_is_named_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    (tmp_path / "t.csv.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    assert "which the package zstandard reads: pip install 'vicinal[zstd]'" in refusal(tmp_path / "t.csv.zst")
    (tmp_path / "t.xlsx").write_bytes(zipped(**{"xl/workbook.xml": b""}))
    assert "which the package fastexcel reads: pip install 'vicinal[excel]'" in refusal(tmp_path / "t.xlsx")


# -- JSON --------------------------------------------------------------------------------------------------------------


def test_types_of_json_are_those_of_all_lines(tmp_path: Path) -> None:
    lines = [f'{{"x": {i}, "y": "{"ab"[i % 2]}"}}' for i in range(300)] + ['{"x": 0.5, "y": "a", "late": 1}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    table = read(tmp_path / "t.jsonl")
    assert table.numeric[:, 0].tolist() == [*range(300), 0.5]
    assert np.isnan(table.numeric[:300, 1]).all()
    assert table.numeric[300, 1] == 1


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_numbers_and_texts_in_one_column_of_json(tmp_path: Path, name: str) -> None:
    records = [
        {"mixed": "N/A" if i == 1 else i / 2, "text": "5" if i == 1 else i, "code": f"0{i % 3}", "y": "ab"[i % 2]}
        for i in range(12)
    ]
    lines = [json.dumps(record) for record in records]
    (tmp_path / name).write_text("\n".join(lines) if name == "t.jsonl" else f"[{','.join(lines)}]")
    table = read(tmp_path / name)
    assert table.numeric_columns == ("mixed", "text")
    np.testing.assert_array_equal(table.numeric[:, 0], [np.nan if i == 1 else i / 2 for i in range(12)])
    assert table.numeric[:, 1].tolist() == [0, 5, *range(2, 12)]
    assert table.categories == (("00", "01", "02"),)


@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_columns_of_json_keep_their_order(tmp_path: Path, name: str) -> None:
    names = [f"column {i * 37 % 80}" for i in range(80)]
    frame = pl.DataFrame({key: range(3000) for key in names})
    (frame.write_json if name == "t.json" else frame.write_ndjson)(tmp_path / name)
    assert table_files.read(tmp_path / name)[0].columns == names
    frame.write_csv(tmp_path / "t.csv")
    assert read(tmp_path / name, names[0]).fingerprint() == read(tmp_path / "t.csv", names[0]).fingerprint()


def test_objects_of_columns_and_lines_in_json(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    values = {column.name: (column.cast(pl.String) if column.name == "day" else column).to_list() for column in FRAME}
    path.write_text(json.dumps(values))
    same(read(path))
    path.write_text(json.dumps({name: dict(enumerate(cells)) for name, cells in values.items()}, indent=1))
    same(read(path))
    path.write_bytes(b"\xef\xbb\xbf" + FRAME.write_ndjson().encode())
    same(read(path))
    for text in ('{"x": [1, 2], "y": [1]}', '{"x": [1], "y": 1}', '{"x": {"0": 1}, "y": {"1": 1}}'):
        path.write_text(text)
        assert "it is one object, but not of columns of one length): write it again" in refusal(path)
    for text in ("", "x,y", "[1, 2]", "{", '{"x": 1}\n{"x": '):
        path.write_text(text)
        assert "'t.json' is not a readable JSON (a list of records) file (" in refusal(path), text


# -- Excel -------------------------------------------------------------------------------------------------------------


def workbook(path: Path, sheets: dict[str, list[list[Any]]], at: tuple[int, int] = (0, 0)) -> Path:
    xlsxwriter = pytest.importorskip("xlsxwriter")
    book = xlsxwriter.Workbook(str(path))
    day = book.add_format({"num_format": "yyyy-mm-dd"})
    for name, rows in sheets.items():
        sheet = book.add_worksheet(name)
        for i, row in enumerate(rows):
            for j, cell in enumerate(row):
                place = (at[0] + i, at[1] + j)
                if isinstance(cell, datetime.date):
                    sheet.write_datetime(*place, datetime.datetime.combine(cell, datetime.time()), day)
                elif cell is not None:
                    sheet.write(*place, cell)
    book.close()
    return path


ROWS = [FRAME.columns, *map(list, FRAME.iter_rows())]


@has_excel
@pytest.mark.parametrize("name", ["t.xlsx", "t.csv"])
def test_a_workbook_gives_the_cells_of_the_csv(tmp_path: Path, name: str) -> None:
    same(read(workbook(tmp_path / name, {"Data": ROWS, "Sheet2": []})))
    table = read(workbook(tmp_path / name, {"Data": [*ROWS[:5], [], *ROWS[5:]]}, at=(2, 3)))
    same(table)
    assert (table.name, table.source) == ("t", name)


@has_excel
def test_cells_of_a_workbook_that_are_almost_numbers(tmp_path: Path) -> None:
    cells = [1e-12, "N/A", 1 / 3, "45", 1e20, *range(7)]
    rows = [["x", "zip", "y"], *([cell, "01234", "ab"[i % 2]] for i, cell in enumerate(cells))]
    path = workbook(tmp_path / "t.xlsx", {"Data": rows})
    table = read(path)
    expected = [np.nan if cell == "N/A" else float(cell) for cell in cells]
    np.testing.assert_array_equal(table.numeric[:, 0], expected)  # to the last digit
    assert read(path, categorical=("zip",)).categories == (("01234",),)
    rows[1][0] = "45 years"
    assert "column 'x' is numbers but for '45 years'" in refusal(workbook(path, {"Data": rows}))


@has_excel
def test_workbooks_of_several_sheets(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", {"Notes": [["made"]], "Data": ROWS})
    assert "'t.xlsx' has 2 sheets, 'Notes', 'Data': choose one with --sheet 'Notes'" in refusal(path)
    same(read(path, sheet="Data"))
    assert "has no sheet 'data' for --sheet: it has 'Notes', 'Data'; did you mean 'Data'?" in refusal(
        path, sheet="data"
    )
    (tmp_path / "t.csv").write_text(TEXT)
    assert "--sheet is for Excel workbooks, and 't.csv' is none" in refusal(tmp_path / "t.csv", sheet="Data")


@has_excel
def test_workbooks_that_are_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    whole = workbook(path, {"Data": ROWS}).read_bytes()
    for raw in (b"", b"PK", whole[:500], zipped(**{"xl/workbook.xml": b"x"})):
        path.write_bytes(raw)
        assert "'t.xlsx' is not a readable Excel workbook (" in refusal(path)
    assert "'t.xlsx' is empty" in refusal(workbook(path, {"Data": []}))
    assert "more than one column named 'x'" in refusal(workbook(path, {"Data": [["x", "x", "y"], [1, 2, "a"]]}))
    rows = [row[:1] + row[-1:] for row in ROWS[2:]]
    assert "holds values such as '0.125': add a header line" in refusal(workbook(path, {"Data": rows}))
    table = read(path, target="column 2", header=False)
    np.testing.assert_array_equal(table.numeric[:, 0], [np.nan if i == 3 else i / 8 for i in range(1, 12)])


@has_excel
def test_a_cell_far_from_the_table(tmp_path: Path) -> None:
    xlsxwriter = pytest.importorskip("xlsxwriter")
    for row, column, refused in ((1_048_575, 16_383, True), (99, 16_383, False)):
        book = xlsxwriter.Workbook(str(tmp_path / "t.xlsx"))
        sheet = book.add_worksheet()
        sheet.write(0, 0, "x")
        sheet.write(row, column, 1)
        book.close()
        message = refusal(tmp_path / "t.xlsx")
        assert ("has cells in row 1048576 and in column XFD, with too many between: delete what" in message) == refused


# -- parts -------------------------------------------------------------------------------------------------------------


def part(frame: pl.DataFrame, path: Path) -> None:
    if path.name.endswith("parquet"):
        frame.write_parquet(path)
    elif path.name.endswith("gz"):
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    else:
        path.write_text(frame.write_ndjson() if path.name.endswith("jsonl") else frame.write_csv())


@pytest.mark.parametrize("ending", ["csv", "parquet", "csv.gz", "jsonl"])
def test_a_folder_of_parts(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "_SUCCESS").write_text("")
    (folder / ".part-0.crc").write_text("")
    for i in (2, 0, 1):
        frame = FRAME[4 * i : 4 * i + 4]
        part(frame if i != 1 else frame.select(reversed(frame.columns)), folder / f"part-{i}.{ending}")
    table = read(folder)
    same(table)
    assert (table.name, table.source) == ("t", "t, 3 parts")
    assert table.notes == (f"{str(folder)!r} is read as one table of 3 files, in the order of their names",)
    assert read(f"{folder}/").name == "t"
    assert is_table(str(folder))


def test_parts_with_other_columns_are_named_all(tmp_path: Path) -> None:
    for i in range(3):
        part(FRAME[4 * i : 4 * i + 4], tmp_path / f"{i}.csv")
    part(FRAME.rename({"w": "q"}), tmp_path / "3.csv")
    (tmp_path / "4.csv").write_text(TEXT + "1\n")
    first, *problems = refusal(tmp_path).split("\n  ")
    assert first == f"{tmp_path.name!r} has 2 problems:"
    assert problems == [
        "line 14 of '4.csv' has 1 value, but there are 5 columns: correct that line",
        "'3.csv' lacks 'w' and has also 'q': the parts of a table need the same columns as '0.csv'; else give one file",
    ]
    (tmp_path / "README.md").write_text("")
    assert "holds files of several kinds ('.csv', 'README.md')" in refusal(tmp_path)


def test_parts_whose_columns_are_of_other_types(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [1, 2], "z": ["p", "q"], "y": ["a", "b"]})
    for i in range(6):
        frame.with_columns(pl.col("z").cast(pl.Categorical)).write_parquet(tmp_path / f"{i}.parquet")
    frame.with_columns(x=pl.Series([0.5, None]), z=pl.Series(["r", None])).write_parquet(tmp_path / "6.parquet")
    table = read(tmp_path)
    np.testing.assert_array_equal(table.numeric[:, 0], [*[1, 2] * 6, 0.5, np.nan])
    assert table.categories == (("p", "q", "r"),)
    assert table.codes[:, 0].tolist() == [0, 1] * 6 + [2, -1]
    frame.with_columns(x=pl.Series(["1", "2"])).write_parquet(tmp_path / "7.parquet")
    assert "column 'x' is numbers in '0.parquet' and text in '7.parquet': save both alike" in refusal(tmp_path)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_parts_in_folders_that_name_a_value(tmp_path: Path, ending: str) -> None:
    for year in (1999, 2000):
        for place in ("New%20York", "__HIVE_DEFAULT_PARTITION__"):
            folder = tmp_path / f"year={year}" / f"place={place}"
            folder.mkdir(parents=True)
            part(FRAME[:6], folder / f"part-0.{ending}")
    table = read(tmp_path)
    assert table.numeric_columns == ("x", "b", "day", "year")
    assert table.numeric[:, 3].tolist() == [1999] * 12 + [2000] * 12
    assert table.categories[1] == ("New York",)
    assert table.codes[:, 1].tolist() == ([0] * 6 + [-1] * 6) * 2
    part(FRAME.rename({"x": "year"}), tmp_path / "year=1999/place=New%20York" / f"part-0.{ending}")
    assert "has a column 'year', and so has its folder: rename one" in refusal(tmp_path)


def test_training_and_test_rows_in_one_folder_are_not_pooled(tmp_path: Path) -> None:
    for name in ("test", "Train_set"):
        (tmp_path / f"{name}.csv").write_text(TEXT)
    assert "holds 'Train_set.csv' beside 'test.csv', and parts of one table are all for training or none" in refusal(
        tmp_path
    )
    for i in (1, 2):
        (tmp_path / f"train-0000{i}-of-00002.csv").write_text(TEXT)
    (tmp_path / "test.csv").unlink()
    assert len(read(tmp_path)) == 36


def test_folders_that_are_no_parts(tmp_path: Path) -> None:
    (tmp_path / "photos/cat").mkdir(parents=True)
    (tmp_path / "photos/cat/a.png").write_bytes(b"")
    (tmp_path / "photos/labels.csv").write_text(TEXT)
    assert not is_table(str(tmp_path / "photos"))
    (tmp_path / "flat").mkdir()
    for name in ("labels.csv", "a.png"):
        (tmp_path / "flat" / name).write_text("")
    assert not is_table(str(tmp_path / "flat"))
    (tmp_path / "empty").mkdir()
    assert not is_table(str(tmp_path / "empty"))
    assert is_table("iris")
    assert is_table(str(tmp_path / "absent.csv"))


# -- standard input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["t.csv", "t.tsv", "t.data", "t.arff", "t.parquet", "t.arrow", "t.feather", "t.json", "t.jsonl"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_standard_input_is_known_by_its_content(monkeypatch: pytest.MonkeyPatch, name: str, packed: bool) -> None:
    raw = gzip.compress(FILES[name]) if packed else FILES[name]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    table = read("-")
    same(table)
    assert (table.name, table.source) == ("stdin", "standard input")


def test_standard_input_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.csv").write_text(TEXT)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert read("-").fingerprint() == read(tmp_path / "t.csv").fingerprint()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode() + b"1\n")))
    assert "line 14 of 'standard input' has 1 value" in refusal("-")
    with pytest.raises(UserError, match="standard input is read once"):
        load("-", target="y", test="-")


def test_addresses_and_a_closed_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is an address: fetch it first, as in curl -L https://a.org/t.csv | vicinal compare -" in refusal(
        "https://a.org/t.csv"
    )
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed" in refusal("-")


def test_text_with_nul_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(TEXT.encode() + b"1.5\x00,n,a\n")
    assert "line 14 of 't.csv' holds a NUL byte, which no text has: give" in refusal(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(TEXT.encode("utf-16-le"))
    assert "--encoding utf-16-le" in refusal(tmp_path / "t.csv")
    same(read(tmp_path / "t.csv", encoding="utf-16-le"))


def test_names_that_are_read(tmp_path: Path) -> None:
    assert all(table_files.is_table(f"T{suffix.upper()}") for suffix in table_files.SUFFIXES)
    assert not table_files.is_table("t.gz")
    assert table_files.described(tmp_path / "a.b.csv.gz") == ("a.b", "a.b.csv.gz")
