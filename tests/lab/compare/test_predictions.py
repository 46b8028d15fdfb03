"""Predictions as files: what is read is what was written, whatever the classes are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from vicinal.keyed import Key
from vicinal.lab.compare.predictions import MeasuredRun, PredictionFolder, RunPredictions
from vicinal.lab.compare.results import RunRecord

TARGET = np.arange(30) % 3


def run_of(method: str, seed: int, classes: int = 3, rows: int = 8, draw: int = 0) -> MeasuredRun:
    """A run with its own predictions, of regression for 0 classes."""
    generator = Key(seed, draw, len(method), 0).generator()
    tested = generator.permutation(30)[:rows].astype(np.int64)
    shape = (rows, classes) if classes else (rows,)
    outputs = generator.random(shape).astype(np.float32)
    nll = generator.random(rows).astype(np.float32) if classes else None
    return MeasuredRun(RunRecord(method, seed, 1.0, 1, {}, {}, {}, None, {}), RunPredictions(tested, outputs, nll))


def keys(runs: Sequence[MeasuredRun]) -> list[tuple[str, int]]:
    return [run.record.key for run in runs]


def same(found: RunPredictions, wanted: RunPredictions) -> bool:
    return (
        np.array_equal(found.rows, wanted.rows)
        and found.outputs.dtype == np.float32
        and np.array_equal(found.outputs, wanted.outputs)
        and (
            found.nll is None if wanted.nll is None else found.nll is not None and np.array_equal(found.nll, wanted.nll)
        )
    )


@pytest.mark.parametrize("classes", [("a", "b", "c"), ()])
def test_what_is_read_is_what_was_written(tmp_path: Path, classes: tuple[str, ...]) -> None:
    folder = PredictionFolder(tmp_path / "predictions")
    runs = [
        run_of(method, seed, len(classes), rows=5 + seed)
        for seed in (0, 11, 2)
        for method in ("ERM", "mixup 0.4", "Chain([Mixup(0.4), ERM()])")
    ]
    target = TARGET if classes else 0.5 + np.arange(30.0)
    found = folder.read((keys(part), folder.write(part, target, classes)) for part in (runs[:4], runs[4:]))
    assert set(found) == {run.record.key for run in runs}
    for run in runs:
        assert same(found[run.record.key], run.predictions)


def test_nothing_is_read_where_nothing_was_written(tmp_path: Path) -> None:
    assert PredictionFolder(tmp_path / "predictions").read([]) == {}


def test_a_chunk_written_twice_is_there_once(tmp_path: Path) -> None:
    folder = PredictionFolder(tmp_path / "predictions")
    chunk = [run_of("ERM", 0), run_of("mixup 1", 0)]
    before = folder.write(chunk, TARGET, "abc")
    again = [run_of("mixup 1", 0, draw=1), run_of("ERM", 0, draw=1)]  # in another order too
    now = folder.write(again, TARGET, "abc")
    later = [run_of("ERM", 1)]
    of_later = folder.write(later, TARGET, "abc")
    assert len(list(folder.path.iterdir())) == 2
    assert folder.holds(keys(chunk), now)
    assert not folder.holds(keys(chunk), before)
    assert folder.holds(keys(later), of_later)
    assert not folder.holds(keys(chunk + later), now)
    found = folder.read([(keys(again), now), (keys(later), of_later)])
    assert len(found) == 3
    assert all(same(found[run.record.key], run.predictions) for run in again)


def test_of_a_run_in_two_chunks_the_later_is_read(tmp_path: Path) -> None:
    folder = PredictionFolder(tmp_path / "predictions")
    first, second = [run_of("ERM", 0)], [run_of("ERM", 0, draw=1), run_of("ERM", 1)]
    one, two = ((keys(chunk), folder.write(chunk, TARGET, "abc")) for chunk in (first, second))
    assert same(folder.read([one, two])["ERM", 0], second[0].predictions)
    assert same(folder.read([two, one])["ERM", 0], first[0].predictions)
    assert set(folder.read([one])) == {("ERM", 0)}


def test_runs_that_diverged_are_kept_as_they_are(tmp_path: Path) -> None:
    folder = PredictionFolder(tmp_path / "predictions")
    rows = np.array([3, 1], dtype=np.int64)
    bad = RunPredictions(rows, np.full((2, 3), np.nan, dtype=np.float32), np.array([np.inf, np.nan], dtype=np.float32))
    sha256 = folder.write([MeasuredRun(run_of("ERM", 0).record, bad)], TARGET, "abc")
    found = folder.read([([("ERM", 0)], sha256)])["ERM", 0]
    assert np.isnan(found.outputs).all()
    assert found.nll is not None
    assert np.isinf(found.nll[0])
    assert np.isnan(found.nll[1])


@pytest.mark.parametrize(
    "classes",
    [
        ("a/b", "../c", "d\\e"),
        ("p_x", "x", "p_"),
        ("nll", "row", "prediction"),
        ("method", "seed", "target"),
        ("", " ", "  "),
        ("ü", "日本", "🦋"),
        ("*", "^a.*$", ".*"),
        ("a\nb", "a\tb", 'a"b'),
        ("only",),
        ("a\udcff", "a\udcfe", "b"),  # folders whose names are no UTF-8
        ("a\\udcff", "a\udcff", "a\\udcff_"),  # which must not fall together
        tuple(f"class {i}" for i in range(1000)),
    ],
)
def test_classes_of_any_name(tmp_path: Path, classes: tuple[str, ...]) -> None:
    folder = PredictionFolder(tmp_path / "predictions")
    runs = [run_of("ERM", seed, len(classes)) for seed in range(2)]
    found = folder.read([(keys(runs), folder.write(runs, np.arange(30) % len(classes), classes))])
    assert len(found) == 2
    for run in runs:
        assert same(found[run.record.key], run.predictions)
    (path,) = folder.path.iterdir()
    plain = [name.encode("utf-8", "backslashreplace").decode() for name in classes]
    tested = np.concatenate([run.predictions.rows for run in runs])
    told = pl.read_parquet(path.read_bytes())["target"].to_list()
    assert told == [plain[row % len(classes)] for row in tested.tolist()]


def test_the_file_is_a_plain_table(tmp_path: Path) -> None:
    folder = PredictionFolder(tmp_path / "predictions")
    run = run_of("mixup 0.4", 7)
    folder.write([run], TARGET, ("a", "b", "c"))
    (path,) = folder.path.iterdir()
    frame = pl.read_parquet(path)
    assert frame.columns == ["method", "seed", "row", "target", "p_a", "p_b", "p_c", "nll"]
    assert frame["method"].to_list() == ["mixup 0.4"] * 8
    assert frame["seed"].to_list() == [7] * 8
    assert frame["row"].to_list() == run.predictions.rows.tolist()
    assert frame["target"].to_list() == ["abc"[TARGET[row]] for row in run.predictions.rows]
    assert frame["p_b"].to_list() == run.predictions.outputs[:, 1].tolist()
