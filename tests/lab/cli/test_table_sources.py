"""One table as a file, from standard input, in parts and as a workbook: one comparison, and the same predictions."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from vicinal.keyed import Key
from vicinal.lab import cli

TINY = ("--target", "y", "--seeds", "2", "--epochs", "2", "--alpha", "0.4", "--jobs", "1")


def frame() -> pl.DataFrame:
    x = Key(77, 0, 0, 0).generator().normal(size=40).round(3)
    return pl.DataFrame({"x": x, "w": ["n", "s"] * 20, "y": ["yes" if v > 0 else "no" for v in x.tolist()]})


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sources")
    frame().write_csv(place / "t.csv")
    assert cli.main(["compare", str(place / "t.csv"), *TINY, "--out", str(place / "run")]) == 0
    return place


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main([*map(str, argv)])
    return (code, *capsys.readouterr())


def given(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def identity(folder: Path) -> str:
    """Return what a run folder says is compared in it: a digest of settings and cells."""
    return json.loads((folder / "config.json").read_text())["fingerprint"]


def test_standard_input_resumes_by_its_content(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, out = (compared / "t.csv").read_bytes(), tmp_path / "run"
    given(monkeypatch, raw)
    assert run(capsys, "compare", "-", *TINY, "--out", out)[0] == 0
    read, file = results(out), results(compared / "run")
    assert (read["data"]["name"], read["data"]["source"]) == ("stdin", "standard input")
    assert identity(out) == identity(compared / "run")
    assert [one["test"] for one in read["runs"]] == [one["test"] for one in file["runs"]]
    finished = (out / "runs.jsonl").read_bytes()
    given(monkeypatch, gzip.compress(raw))  # the same rows
    assert run(capsys, "compare", "-", *TINY, "--out", out)[0] == 0
    assert (out / "runs.jsonl").read_bytes() == finished
    given(monkeypatch, raw.replace(b"n,", b"m,"))
    code, _, err = run(capsys, "compare", "-", *TINY, "--out", out)
    assert code == 2
    assert "another comparison" in err


def test_predictions_for_standard_input_and_for_parts(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, expected, _ = run(capsys, "predict", compared / "run", compared / "t.csv")
    assert (code, expected.count("\n")) == (0, 41)
    given(monkeypatch, (compared / "t.csv").read_bytes())
    assert run(capsys, "predict", compared / "run", "-")[:2] == (0, expected)
    (tmp_path / "parts").mkdir()
    for i in range(4):
        frame()[10 * i : 10 * i + 10].write_parquet(tmp_path / f"parts/{i}.parquet")
    assert run(capsys, "predict", compared / "run", tmp_path / "parts")[:2] == (0, expected)


def test_a_folder_of_parts_is_compared_as_a_table(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "parts").mkdir()
    for i in range(4):
        frame()[10 * i : 10 * i + 10].write_csv(tmp_path / f"parts/{i}.csv")
    assert run(capsys, "compare", tmp_path / "parts", *TINY, "--out", tmp_path / "run")[0] == 0
    read = results(tmp_path / "run")
    assert (read["data"]["name"], read["data"]["source"]) == ("parts", "parts, 4 parts")
    assert identity(tmp_path / "run") == identity(compared / "run")
    code, _, err = run(capsys, "compare", tmp_path / "parts", *TINY, "--size", "8")
    assert (code, "--size is for folders of images or audio" in err) == (2, True)


@pytest.mark.skipif(importlib.util.find_spec("fastexcel") is None, reason="fastexcel is not installed")
def test_a_sheet_is_chosen(compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    xlsxwriter = pytest.importorskip("xlsxwriter")
    book = xlsxwriter.Workbook(str(tmp_path / "t.xlsx"))
    book.add_worksheet("About").write(0, 0, "made by hand")
    frame().write_excel(book, worksheet="Rows")
    book.close()
    code, _, err = run(capsys, "compare", tmp_path / "t.xlsx", *TINY)
    assert (code, "choose one with --sheet 'About'" in err) == (2, True)
    assert run(capsys, "compare", tmp_path / "t.xlsx", *TINY, "--sheet", "Rows", "--out", tmp_path / "run")[0] == 0
    assert identity(tmp_path / "run") == identity(compared / "run")
    _, expected, _ = run(capsys, "predict", tmp_path / "run", compared / "t.csv")
    code, _, err = run(capsys, "predict", tmp_path / "run", tmp_path / "t.xlsx")
    assert (code, "choose one with --sheet 'About'" in err) == (2, True)
    assert run(capsys, "predict", tmp_path / "run", tmp_path / "t.xlsx", "--sheet", "Rows")[:2] == (0, expected)
