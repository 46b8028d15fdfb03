"""`vicinal predict`: a row for each row or file, by the rules that hold in training."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from torch import nn

from vicinal.keyed import Key
from vicinal.lab import cli
from vicinal.lab.compare import predictor
from vicinal.lab.compare.classifier import Classifier
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.data import table_blocks, tables
from vicinal.lab.data.read_options import ReadOptions
from vicinal.lab.errors import UserError

AS_WARDS = ReadOptions(categorical=("ward; floor",))  # 12, 7 and N are names of wards
TINY = ("--seeds", "2", "--epochs", "2", "--alpha", "0.4", "--jobs", "1")


def patients(path: Path) -> Path:
    """A table as spreadsheets of some countries write it: semicolons, decimal commas, spaces around names, gaps."""
    generator = Key(51, 0, 0, 0).generator()
    lines = ['id; bmi ;"ward; floor";died']
    for i in range(60):
        bmi = "" if i % 9 == 4 else f"{20 + 2 * (i % 2) + generator.normal():.1f}".replace(".", ",")
        lines.append(f"{i};{bmi};{('12', 'N', '7')[i % 3]};{i % 2}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("predict")
    table = patients(place / "patients.csv")
    argv = [
        "compare",
        str(table),
        "--target",
        "died",
        "--drop",
        "id",
        "--categorical",
        "ward; floor",
        *TINY,
        "--out",
        str(place / "run"),
    ]
    assert cli.main(argv) == 0
    return place


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(["predict", *map(str, argv)])
    return code, *capsys.readouterr()


def test_the_training_table_is_read_as_in_training(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, compared / "run", compared / "patients.csv")
    assert (code, err) == (0, "")
    found = pl.read_csv(io.StringIO(out))
    assert found.columns == ["prediction", "probability_0", "probability_1"]
    predictor = Predictor.load(compared / "run" / "model.safetensors")
    table = tables.load(str(compared / "patients.csv"), target="died", drop=["id"], reading=AS_WARDS)
    rows = predictor.encoding.transform(table)
    import torch

    with torch.inference_mode():
        outputs = predictor.model(torch.from_numpy(rows)).double()
    assert found["prediction"].to_list() == outputs.argmax(1).tolist()
    np.testing.assert_allclose(found[:, 1:].to_numpy(), outputs.softmax(1).numpy(), rtol=1e-6)


def test_every_form_of_model_file_and_output_gives_the_same(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = compared / "patients.csv"
    _, out, _ = run(capsys, compared / "run" / "model.safetensors", table)
    expected = pl.read_csv(io.StringIO(out))
    plain = pl.read_csv(table, separator=";", decimal_comma=True).rename({" bmi ": "bmi"})
    plain.write_csv(tmp_path / "t.csv")
    plain.write_parquet(tmp_path / "t.parquet")
    plain.drop("died").select("ward; floor", "bmi", "id").write_csv(tmp_path / "t.tsv", separator="\t")
    for name in ("t.csv", "t.parquet", "t.tsv"):
        for ending, read in ((".csv", pl.read_csv), (".parquet", pl.read_parquet), (".json", pl.read_json)):
            said = run(capsys, compared / "run", tmp_path / name, "--out", tmp_path / f"p{ending}")
            assert said == (0, "", "")
            assert read(tmp_path / f"p{ending}").equals(expected)
    assert json.loads((tmp_path / "p.json").read_text())[0]["prediction"] == expected["prediction"][0]


def test_few_rows_and_none(compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (compared / "patients.csv").read_text().splitlines()
    (tmp_path / "one.csv").write_text("\n".join([lines[0], lines[7]]))
    code, out, _ = run(capsys, compared / "run", tmp_path / "one.csv")
    assert (code, len(out.splitlines())) == (0, 2)
    (tmp_path / "none.csv").write_text(lines[0] + "\n")
    assert run(capsys, compared / "run", tmp_path / "none.csv") == (0, "prediction,probability_0,probability_1\n", "")


def test_new_levels_are_told_and_missing_columns_refused(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text('bmi,"ward; floor"\n20.5,X\n21,12.0\n')
    code, out, err = run(capsys, compared / "run", tmp_path / "t.csv")
    assert (code, len(out.splitlines())) == (0, 3)
    assert err == (
        "vicinal: column 'ward; floor' has 1 value that was not there in training ('X'): it counts as none of its "
        "categories\n"
    )
    (tmp_path / "t.csv").write_text("BMI\n20.5\n")
    assert run(capsys, compared / "run", tmp_path / "t.csv") == (
        *(2, ""),
        "vicinal: the data lack the input columns 'bmi', 'ward; floor': add them; did you mean 'BMI'?\n",
    )
    (tmp_path / "t.csv").write_text('bmi,"ward; floor"\nhigh,X\n')
    code, _, err = run(capsys, compared / "run", tmp_path / "t.csv", "--out", tmp_path / "p.csv")
    assert (code, (tmp_path / "p.csv").exists()) == (2, False)
    assert err.endswith("vicinal: column 'bmi' must hold numbers, but holds 'high': correct it or leave it empty\n")


def test_what_is_refused(compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, model = compared / "patients.csv", compared / "run"
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_text("{}")
    (tmp_path / "t.doc").touch()
    for argv, says in (
        ((tmp_path, table), f"there is no model.safetensors in '{tmp_path}': give a folder that compare wrote"),
        ((tmp_path / "begun", table), "the comparison is not finished: rerun its command"),
        (
            (tmp_path / "absent", table),
            f"there is no file or folder '{tmp_path / 'absent'}': give a folder that compare wrote",
        ),
        ((table, table), f"'{table}' is not a whole safetensors file"),
        ((model, tmp_path / "t.doc"), "is not a table that is read here: give a file ending in .csv, .tsv"),
        ((model, compared / "patient.csv"), "patient.csv': check the path; did you mean 'patients.csv'?"),
        ((model, compared), "is a folder, and the model is for the rows of a table: give one file"),
        ((model, table, table), "the model is for the rows of a table: give one file, got 2"),
        ((model, table, "--model", "a:b"), "--model is for models of images or audio; leave it out for a table"),
        ((model, table, "--out", "p.xlsx"), "--out 'p.xlsx' ends in none of .csv, .parquet, .json: give one that does"),
        ((model, table, "--out", tmp_path / "no" / "p.csv"), "there is no folder '"),
        ((model, table, "--out", table), "is a file that is read here: give another"),
    ):
        code, out, err = run(capsys, *argv)
        assert (code, out) == (2, ""), argv
        assert says in err, argv
        assert err.startswith("vicinal: ")
        assert err.count("\n") == 1


def test_numbers_are_in_the_unit_of_the_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pl.DataFrame({"x": [float(i) for i in range(40)], "y": [1000.5 + i * 10 for i in range(40)]})
    frame.write_csv(tmp_path / "t.csv")
    assert cli.main(["compare", str(tmp_path / "t.csv"), "--target", "y", *TINY, "--out", str(tmp_path / "run")]) == 0
    code, out, _ = run(capsys, tmp_path / "run", tmp_path / "t.csv")
    found = pl.read_csv(io.StringIO(out))
    assert (code, found.columns, len(found)) == (0, ["prediction"], 40)
    expected = Predictor.load(tmp_path / "run" / "model.safetensors").predict(frame)
    np.testing.assert_array_equal(found["prediction"].to_numpy(), expected)


def tiny(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, num_classes))


def test_images_are_classified_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(6):
        path = tmp_path / "new" / f"{'ab'[i % 2]}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), (40 * i, 10, 10)).save(path)
    (tmp_path / "new" / "a" / "x.txt").touch()
    (tmp_path / "new" / "__MACOSX").mkdir()
    (tmp_path / "new" / "__MACOSX" / "1.png").touch()
    classifier = Classifier(tiny(2), f"{__name__}:tiny", "images", (3, 16, 16), ("a", "b"), (0.5,) * 3, (0.25,) * 3)
    classifier.save(tmp_path / "model.safetensors")
    single = tmp_path / "new" / "b" / "5.png"
    argv = (tmp_path / "model.safetensors", single, tmp_path / "new")
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert "was built by 'test_predict:tiny': give it as model=, or --model" in err.replace("tests.lab.cli.", "")
    code, out, err = run(capsys, *argv, "--model", f"{__name__}:tiny", "--decimal", ",")
    assert (code, out, err) == (2, "", "vicinal: --decimal is for tables; leave it out for images or audio\n")
    code, out, err = run(capsys, *argv, "--model", f"{__name__}:tiny")
    assert (code, err) == (0, f"vicinal: 1 other file is left out, such as '{tmp_path / 'new' / 'a' / 'x.txt'}'\n")
    found = pl.read_csv(io.StringIO(out))
    paths = [
        single,
        *(tmp_path / "new" / name for name in ("a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png")),
    ]
    assert found["file"].to_list() == [str(path) for path in paths]
    assert found["prediction"].to_list() == classifier.predict(paths).tolist()
    np.testing.assert_allclose(found[:, 2:].to_numpy(), classifier.probabilities(paths), rtol=1e-5)
    assert (
        classifier.predict(single).tolist()
        == classifier.predict(str(single)).tolist()
        == found["prediction"][:1].to_list()
    )
    assert classifier.predict([]).tolist() == []
    others: list[Any] = [Image.new("RGB", (9, 9)), [Image.new("RGB", (9, 9))], 3, None]
    for other in others:
        with pytest.raises(UserError, match="files are given by their paths, one or a list of them, got "):
            classifier.predict(other)
    assert classifier.probabilities([]).shape == (0, 2)
    (tmp_path / "new" / "a" / "0.png").write_bytes(b"")
    (tmp_path / "new" / "b" / "1.png").write_bytes(b"<html>")
    code, out, err = run(capsys, *argv, "--model", f"{__name__}:tiny")
    assert (code, out) == (2, "")
    assert "2 of 7 images cannot be read: " in err
    assert "a/0.png' (it is empty, 0 bytes), " in err
    (tmp_path / "bare").mkdir()
    code, _, err = run(capsys, argv[0], tmp_path / "bare", "--model", f"{__name__}:tiny")
    assert (code, "holds no images, for which the model is: give a folder that does" in err) == (2, True)
    code, _, err = run(capsys, argv[0], tmp_path / "absent.png", "--model", f"{__name__}:tiny")
    assert (code, f"there is no file or folder '{tmp_path / 'absent.png'}': check the path" in err) == (2, True)


def sales(path: Path, rows: int = 40) -> Path:
    """A table whose numbers are spelled in many ways, with words of its own for missing and codes that are categories."""
    generator = Key(52, 0, 0, 0).generator()
    lines = ["price;share;sold;age;shop;bought"]
    for i in range(rows):
        price = f"$ 1,{200 + 7 * i}" if i % 6 else "unknown"
        day = f"{1 + i % 28:02d}/{1 + i % 12:02d}/2024"
        age = f"{30 + generator.normal():.1f}" if i % 5 else "-999"
        lines.append(f"{price};{i / 2:.1f} %;{day};{age};{('012', '12', 'NA')[i % 3]};{i % 2}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-16")
    return path


SOLD = ("--missing", "unknown,-999", "--parse", "price,share,sold", "--dates", "dmy", "--categorical", "shop")
SOLD_FILE = ("--separator", ";", "--decimal", ".", "--encoding", "utf-16")


@pytest.fixture(scope="module")
def sold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sold")
    table = sales(place / "sales.csv")
    argv = ["compare", str(table), "--target", "bought", *SOLD, *SOLD_FILE, *TINY, "--out", str(place / "run")]
    assert cli.main(argv) == 0
    return place


def test_new_rows_are_read_with_the_options_of_the_training_table(
    sold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, sold / "run", sold / "sales.csv")
    assert (code, err) == (0, "")
    found = pl.read_csv(io.StringIO(out))
    predictor = Predictor.load(sold / "run" / "model.safetensors")
    reading = ReadOptions(
        missing=("unknown", "-999"),
        parse=("price", "share", "sold"),
        dates="dmy",
        categorical=("shop",),
        separator=";",
        decimal=".",
        encoding="utf-16",
    )
    assert predictor.reading.options == reading
    assert predictor.reading.parsed == {
        "price": "amounts of money",
        "share": "percents",
        "sold": "dates with the day first",
        "age": "numbers",
    }
    table = tables.load(str(sold / "sales.csv"), target="bought", reading=reading)
    import torch

    with torch.inference_mode():
        outputs = predictor.model(torch.from_numpy(predictor.encoding.transform(table))).double()
    np.testing.assert_allclose(found[:, 1:].to_numpy(), outputs.softmax(1).numpy(), rtol=1e-6)

    # one row alone, whose date could be read either way, in a file of another kind, and as a record
    row = {"price": "$ 1,207", "share": "0.5 %", "sold": "02/02/2024", "age": "unknown", "shop": "12"}
    (tmp_path / "one.csv").write_text(",".join(row) + "\n" + ",".join(f'"{cell}"' for cell in row.values()) + "\n")
    told = "--separator", ",", "--encoding", "utf-8"
    code, out, err = run(capsys, sold / "run", tmp_path / "one.csv", *told)
    assert (code, err) == (0, "")
    alone = pl.read_csv(io.StringIO(out))
    record = {
        "price": [1207.0],
        "share": [0.005],
        "sold": [(np.datetime64("2024-02-02") - np.datetime64("1970-01-01")).astype(float)],
        "age": [None],
        "shop": ["12"],
    }
    np.testing.assert_allclose(alone[:, 1:].to_numpy(), predictor.probabilities(record), rtol=1e-6)
    np.testing.assert_allclose(predictor.probabilities([row]), predictor.probabilities(record), rtol=1e-6)


def test_cells_that_are_not_spelled_as_in_training_are_refused(
    sold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = "price,share,sold,age,shop\n"
    told = "--separator", ",", "--encoding", "utf-8"
    for line, message in (
        ('"$ 1,207",0.5,02/02/2024,30,12', "column 'share' held percents in training, and now holds '0.5'"),
        ('"$ 1,207",0.5 %,02/13/2024,30,12', "column 'sold' held dates with the day first in training, and now holds"),
        ("€ x,0.5 %,02/12/2024,30,12", "column 'price' held amounts of money in training, and now holds '€ x'"),
        ('"$ 1,207",0.5 %,02/12/2024,old,12', "column 'age' must hold numbers, but holds 'old'"),
        (
            '"$ 1,207",0.5 %,19755,30,12',
            "column 'sold' held dates with the day first in training, and now holds '19755'",
        ),
        (
            '"$ 1,207",0.5 %,02/12/2024,2024-12-02,12',
            "column 'age' held numbers (as 1.5) in training, and now holds '2024",
        ),
    ):
        (tmp_path / "t.csv").write_text(head + line + "\n")
        code, out, err = run(capsys, sold / "run", tmp_path / "t.csv", *told)
        assert (code, out) == (2, "")
        assert message in err


@pytest.mark.parametrize("content", [b"", b"\n\n", b" \r\n", b"\xef\xbb\xbf\n", b"\xff\xfe\n\x00"])
def test_an_empty_file_is_told_what_it_lacks(
    sold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert run(capsys, sold / "run", tmp_path / "t.csv") == (
        *(2, ""),
        f"vicinal: '{tmp_path / 't.csv'}' is empty: give a table with the columns that the model was trained on\n",
    )


def test_a_comparison_whose_model_diverged_tells_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{i % 7},{i % 5}.5\n" for i in range(40))
    (tmp_path / "t.csv").write_text("a,y\n" + rows)
    argv = [
        "compare",
        str(tmp_path / "t.csv"),
        "--target",
        "y",
        "--task",
        "regression",
        *TINY,
        "--learning-rate",
        "1e30",
    ]
    assert cli.main([*argv, "--out", str(tmp_path / "run")]) == 0
    why = "on all rows diverged: weights or outputs are no finite numbers; a smaller --learning-rate may help"
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("model   none: training ")
    assert last.endswith(why)
    code, out, err = run(capsys, tmp_path / "run", tmp_path / "t.csv")
    assert (code, out) == (2, "")
    assert err.startswith(f"vicinal: there is no model.safetensors in '{tmp_path / 'run'}': training ")
    assert err.endswith(why + "\n")


def test_a_table_without_a_header_is_read_without_one_unless_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{i % 7},{i % 2}\n" for i in range(40))
    (tmp_path / "t.csv").write_text(rows)
    argv = ["compare", str(tmp_path / "t.csv"), "--target", "column 2", "--no-header", *TINY]
    assert cli.main([*argv, "--out", str(tmp_path / "run")]) == 0
    (tmp_path / "new.csv").write_text("1,0\n5,1\n")
    (tmp_path / "named.csv").write_text("column 1\n1\n5\n")
    code, out, err = run(capsys, tmp_path / "run", tmp_path / "new.csv")
    assert (code, err, len(out.splitlines())) == (0, "", 3)
    assert run(capsys, tmp_path / "run", tmp_path / "named.csv", "--header") == (0, out, "")


# -- inputs of any size ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet", "json", "printed"])
def test_blocks_give_what_the_whole_gives(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    def predicted(name: str) -> str | bytes | pl.DataFrame:
        words = [] if kind == "printed" else ["--out", tmp_path / f"{name}.{kind}"]
        code, out, _ = run(capsys, compared / "run", compared / "patients.csv", *words)
        assert code == 0
        if kind == "printed":
            return out
        file = tmp_path / f"{name}.{kind}"
        return pl.read_parquet(file) if kind == "parquet" else file.read_bytes()

    monkeypatch.setattr(predictor, "_ROWS", 8)  # what a model is given at once decides the last bits
    whole = predicted("whole")
    monkeypatch.setattr(table_blocks, "LARGE", 0)
    monkeypatch.setattr(table_blocks, "ROWS", 8)
    monkeypatch.setattr(table_blocks, "_CELLS", 1)
    parts = predicted("parts")
    assert (
        parts.equals(whole) if isinstance(whole, pl.DataFrame) and isinstance(parts, pl.DataFrame) else parts == whole
    )


def test_nothing_is_written_where_a_late_block_is_broken(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table_blocks, "LARGE", 0)
    monkeypatch.setattr(table_blocks, "ROWS", 8)
    monkeypatch.setattr(table_blocks, "_CELLS", 1)
    rows = (compared / "patients.csv").read_text()
    (tmp_path / "rows.csv").write_text(rows + "60;heavy;7;0\n")
    for kind in ("csv", "parquet", "json"):
        code, out, err = run(capsys, compared / "run", tmp_path / "rows.csv", "--out", tmp_path / f"out.{kind}")
        assert (code, out) == (2, "")
        assert "column 'bmi' must hold numbers" in err
    code, out, err = run(capsys, compared / "run", tmp_path / "rows.csv")
    assert (code, out) == (2, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"]
