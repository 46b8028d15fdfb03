"""ARFF as Weka reads it: sparse, with any quotation marks, and values of any characters."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.io import arff as scipy_arff

from vicinal.lab.data.arff import read_arff
from vicinal.lab.data.read_options import ReadOptions
from vicinal.lab.data.tables import load
from vicinal.lab.errors import UserError

HEAD = "@relation t\n@attribute x numeric\n@attribute w {n,s,'a b'}\n@attribute y {a,b}\n@data\n"


def refusal(text: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        read_arff(text, "t.arff")
    return str(caught.value).split("\n  ")


@pytest.mark.parametrize(
    "line",
    [
        "{x},{w},{y}",
        " {x} , {w} ,\t{y} ",
        "{x},{w},{y},",
        "{x} {w} {y}",
        "{x}\t{w}\t{y}",
        "'{x}',{w},\"{y}\"",
        "{{0 {x}, 1 {w}, 2 {y}}}",
        "{{ 0 {x} ,1 {w},2\t{y} }}",
        "{{2 {y},0 {x},1 {w}}}",
    ],
)
def test_one_row_in_many_forms(line: str) -> None:
    cells = [(i / 4, ("n", "s", "'a b'", "?")[i % 4], "ab"[i % 2]) for i in range(12)]
    frame = read_arff(HEAD + "% a remark\n\n" + "\n".join(line.format(x=x, w=w, y=y) for x, w, y in cells), "t.arff")
    assert frame["x"].to_list() == [i / 4 for i in range(12)]
    assert frame["w"].to_list() == ["n", "s", "a b", None] * 3
    assert frame["y"].to_list() == ["a", "b"] * 6
    assert frame.schema["w"] == pl.Enum(["n", "s", "a b"])


def test_what_a_sparse_line_leaves_out_is_zero_or_the_first_value() -> None:
    head = "@relation t\n@attribute x numeric\n@attribute w {n,s}\n@attribute i integer\n@attribute y {b,a}\n@data\n"
    frame = read_arff(head + "{0 1.5, 3 a}\n{}\n{1 s, 2 -3}\n{0 ?, 1 ?}\n", "t.arff")
    np.testing.assert_array_equal(frame["x"], [1.5, 0, 0, np.nan])
    assert frame["w"].to_list() == ["n", "n", "s", None]
    assert frame["i"].to_list() == [0, 0, -3, 0]
    assert frame["y"].to_list() == ["a", "b", "b", "b"]


def test_sparse_and_dense_files_are_one_table(tmp_path: Path) -> None:
    generator = np.random.Generator(np.random.Philox(key=3))
    cells = np.where(generator.random((40, 6)) < 0.7, 0, generator.integers(1, 3, (40, 6)))
    head = "@relation t\n" + "".join(f"@attribute x{i} numeric\n" for i in range(4))
    head += "@attribute w {p,q,r}\n@attribute y {no,yes,maybe}\n@data\n"
    words = [[*map(str, row[:4]), "pqr"[row[4]], ("no", "yes", "maybe")[row[5]]] for row in cells]
    dense = "\n".join(map(",".join, words))
    pairs = [[f"{i} {word}" for i, word in enumerate(row) if cells[n, i]] for n, row in enumerate(words)]
    sparse = "\n".join(f"{{{', '.join(row)}}}" for row in pairs)
    for name, body in (("dense", dense), ("sparse", sparse)):
        (tmp_path / f"{name}.arff").write_text(head + body)
    tables = [load(str(tmp_path / f"{name}.arff"), target="y") for name in ("dense", "sparse")]
    assert tables[0].fingerprint() == tables[1].fingerprint()
    np.testing.assert_array_equal(tables[1].numeric, cells[:, :4])
    # the dense one as SciPy alone reads it
    data, _ = scipy_arff.loadarff(io.StringIO(head + dense))
    np.testing.assert_array_equal(np.stack([data[f"x{i}"] for i in range(4)], axis=1), tables[0].numeric)
    assert [tables[0].classes[i] for i in tables[0].target.tolist()] == [word.decode() for word in data["y"]]


def test_nominal_values_of_any_characters() -> None:
    values = ["café", "Ω", "a,b", "it's", 'say "x"', "{1}", "50 %", "back\\slash", "日本"]
    spelled = ["café", "Ω", "'a,b'", r"'it\'s'", "'say \"x\"'", "'{1}'", "'50 %'", r"'back\\slash'", "日本"]
    head = f"@relation größe\n@attribute 'größe in cm' numeric\n@attribute w {{{', '.join(spelled)}}}\n@data\n"
    frame = read_arff(head + "".join(f"{i},{word}\n" for i, word in enumerate(spelled)), "t.arff")
    assert frame.columns == ["größe in cm", "w"]
    assert frame["w"].to_list() == values
    assert frame.schema["w"] == pl.Enum(values)
    assert frame["größe in cm"].to_list() == [*range(9)]


def test_texts_are_text() -> None:
    head = "@relation t\n@attribute s string\n@attribute d date 'yyyy-MM-dd HH:mm'\n@data\n"
    frame = read_arff(head + "'two words, é',?\n?,'1970-01-02 12:00'\nword,\"1970-01-01 00:30\"\n", "t.arff")
    assert frame["s"].to_list() == ["two words, é", None, "word"]
    assert frame["s"].dtype == pl.String
    assert frame["d"].dt.epoch("s").to_list() == [None, 36 * 3600, 1800]


def test_all_bad_lines_are_told() -> None:
    assert refusal(HEAD + "1,n,a\nz,n,a\n1,q,a\n1,n\n{0 1\n{5 1}\n") == [
        "'t.arff' has 5 problems:",
        "line 7 of 't.arff' has 'z', which is not a number, in 'x': correct that line",
        "line 8 of 't.arff' has 'q', none of the values of 'w' ('n', 's', 'a b'): correct that line",
        "line 9 of 't.arff' has 2 values, but there are 3 attributes: correct that line",
        "line 10 of 't.arff' is sparse data without a closing brace, or with a weight: correct that line",
        "line 11 of 't.arff' has a value in place '5', but places are 0 to 2: correct that line",
    ]
    assert refusal(HEAD + "1\n" * 9)[-1] == "and 4 more lines like these"


def test_what_a_sparse_line_cannot_leave_out() -> None:
    head = "@relation t\n@attribute x numeric\n@attribute d date yyyy\n@data\n"
    assert refusal(head + "{0 1}\n") == [
        "line 5 of 't.arff' leaves out 'd', which is date and has no zero: correct that line"
    ]


def test_unknown_types() -> None:
    (message,) = refusal("@relation t\n@attribute x many\n@data\n1\n")
    assert message == "attribute 'x' of 't.arff' is of the unknown type 'many': save the table as CSV instead"
    (message,) = refusal("@relation t\n@attribute x REAL [0, 9]\n@data\n1,2\n")
    assert message == "line 4 of 't.arff' has 2 values, but there is 1 attribute: correct that line"


def test_declared_words_are_categories_whatever_they_mean_elsewhere(tmp_path: Path) -> None:
    head = "@relation t\n@attribute x numeric\n@attribute veneer {Brick,None,'?'}\n@attribute y {a,b}\n@data\n"
    words = ("Brick", "None", "?", "'?'")
    (tmp_path / "t.arff").write_text(head + "".join(f"{i / 2},{words[i % 4]},{'ab'[i % 2]}\n" for i in range(12)))
    table = load(str(tmp_path / "t.arff"), target="y")
    assert table.categories == (("?", "Brick", "None"),)
    assert table.codes[:, 0].tolist() == [1, 2, -1, 0] * 3
    table = load(str(tmp_path / "t.arff"), target="y", reading=ReadOptions(missing=("None",)))
    assert table.codes[:, 0].tolist() == [1, -1, -1, 0] * 3
