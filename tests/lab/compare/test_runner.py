"""Running a comparison: every finished run is kept, only what is missing is run, and processes end with their command."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import threading
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from vicinal.keyed import Key
from vicinal.lab import atomic, executor, records
from vicinal.lab.compare import report, runner, table_comparison
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.compare.results import Results, RunRecord
from vicinal.lab.compare.runner import AnyComparison, RunFolder
from vicinal.lab.compare.settings import TableSettings
from vicinal.lab.compare.table_comparison import TableComparison
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.splits import split
from vicinal.lab.data.table import make_table
from vicinal.lab.errors import UserError


def study_of(regression: bool = False, name: str = "made", **settings: Any) -> TableComparison:
    generator = Key(22, 0, 0, 0).generator()
    x = generator.normal(0.0, 2.0, (60, 2))
    score = x[:, 0] - x[:, 1] + generator.normal(0.0, 1.0, 60)
    target = score if regression else ["low" if s < 0 else "high" for s in score]
    table = make_table({"a": x[:, 0], "b": x[:, 1], "y": target}, "y", name=name, source="made")
    return TableComparison(table, TableSettings(**{"seeds": 4, "epochs": 2, "alphas": (0.4,)} | settings))


class Progress:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, int]] = []

    def __call__(self, done: int, total: int, runs: list[dict[str, Any]]) -> None:
        self.told.append((done, total, len(runs)))


def run(
    study: AnyComparison, path: Path, jobs: int = 2, progress: Any = None, images: bool = False, quick: bool = False
) -> dict[str, Any]:
    """Open and run; return results as JSON holds them. The page's figures take longest, and most tests want none."""
    folder = RunFolder(path)
    folder.open(study)
    with pytest.MonkeyPatch.context() as patch:
        if not images:
            patch.setattr(report, "write", lambda results, path: None)
        if not quick:  # a comparison as small as these would be trained in this process
            patch.setattr(table_comparison, "_QUICK", 0)
        return records.to_json(runner.run(study, folder, "vicinal compare made", jobs, progress or Progress()))


def typed(runs: list[dict[str, Any]]) -> list[RunRecord]:
    """Records as they are in a program."""
    return records.from_json(list[RunRecord], runs)


def kept(path: Path) -> list[dict[str, Any]]:
    """Records in a folder, as JSON holds them."""
    return records.to_json(RunFolder(path).runs())


def without_seconds(value: Any) -> Any:
    """Results without what a clock says."""
    if isinstance(value, dict):
        return {key: without_seconds(part) for key, part in value.items() if key not in ("seconds", "created")}
    return [without_seconds(part) for part in value] if isinstance(value, list) else value


# -- the folder ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_made_and_taken_up_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "b")
    folder.open(study_of())
    folder.open(study_of())
    assert os.listdir(folder.path) == ["config.json"]
    config = json.loads((folder.path / "config.json").read_text())
    assert config["fingerprint"] == study_of().fingerprint()
    assert config["settings"]["seeds"] == 4


def test_another_comparison_is_refused_the_folder(tmp_path: Path) -> None:
    RunFolder(tmp_path / "a").open(study_of())
    for other in (study_of(seeds=5), study_of(regression=True)):
        with pytest.raises(
            UserError, match=r"a holds another comparison \(other data, options or version\); choose ano"
        ):
            RunFolder(tmp_path / "a").open(other)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="a is there already and is not a comparison; choose another --out"):
        RunFolder(tmp_path / "a").open(study_of())
    assert os.listdir(tmp_path / "a") == ["thesis.tex"]


def test_an_empty_folder_and_one_where_claiming_was_killed_are_taken(tmp_path: Path) -> None:
    for left in ([], [".config.json.123.partial"]):
        path = tmp_path / str(len(left))
        path.mkdir()
        for name in left:
            (path / name).write_text("{")
        RunFolder(path).open(study_of())
        assert (path / "config.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a": 1}', "\0"])
def test_a_config_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json cannot be read; choose another --out"):
        RunFolder(tmp_path).open(study_of())


def test_a_place_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "a", Path("/proc/vicinal"), tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=r"the folder .* cannot be used \([a-z ]+\); choose another --out"):
            RunFolder(path).open(study_of())
    assert (tmp_path / "file").read_text() == "mine"


def test_kept_runs_are_those_of_whole_lines_each_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.runs() == []
    one, two, three = (RunRecord("ERM", seed, 0.1, 1, {}, {}, {"rmse": 0.5}, None, {}) for seed in (0, 1, 2))
    folder.append([one])
    folder.append([one, two])  # another process of the same command
    with open(tmp_path / "runs.jsonl", "a") as file:
        file.write('[{"method": "ERM", "se')
    assert folder.runs() == [one, two]
    folder.append([three])
    assert [run.seed for run in folder.runs()] == [0, 1, 2]


# -- fleets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2, 3, 64])
@pytest.mark.parametrize("methods", [2, 6, 25])
@pytest.mark.parametrize("seeds", [1, 2, 7, 20, 100])
def test_chunks_cover_the_seeds_and_fill_the_processes(seeds: int, methods: int, jobs: int) -> None:
    numbers = [3 * seed for seed in range(seeds)]
    chunks = table_comparison._chunks(numbers, methods, jobs)
    assert [seed for chunk in chunks for seed in chunk] == numbers
    sizes = [len(chunk) for chunk in chunks]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    assert all(size == 1 or size * methods <= 20 + methods for size in sizes)
    assert len(chunks) % jobs == 0 or len(chunks) == seeds


def test_nothing_missing_needs_no_chunk() -> None:
    assert table_comparison._chunks([], 5, 2) == []


# -- a whole run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Progress]:
    """A comparison that ran through, in two fleets at once."""
    path, progress = tmp_path_factory.mktemp("runner") / "made", Progress()
    return path, run(study_of(), path, progress=progress, images=True), progress


def test_it_leaves_the_files_that_it_says(finished: tuple[Path, dict[str, Any], Progress]) -> None:
    path, results, _ = finished
    assert sorted(os.listdir(path)) == ["config.json", "model.safetensors", "report.html", "results.json", "runs.jsonl"]
    assert json.loads((path / "results.json").read_text()) == results
    assert (path / "report.html").read_text() == report.render(records.from_json(Results, results))
    assert len(atomic.json_lines(path / "runs.jsonl")) == 2


def test_results_hold_what_the_report_and_others_read(finished: tuple[Path, dict[str, Any], Progress]) -> None:
    results = finished[1]
    assert set(results) == {
        *("format", "vicinal", "command", "created", "versions", "machine", "data", "protocol", "methods", "runs"),
        *("summary", "comparisons", "choice", "verdict", "model", "examples"),
    }
    assert results["command"] == "vicinal compare made"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", results["created"])
    assert results["data"] == {
        "name": "made",
        "kind": "table",
        "source": "made",
        "examples": 60,
        "task": "classification",
        "target": "y",
        "classes": ["high", "low"],
        "class_counts": [sum(study_of().data.target == 0), sum(study_of().data.target == 1)],
        "sha256": study_of().data.fingerprint(),
        "table": {"numeric_columns": 2, "categorical_columns": 0, "inputs": 2, "missing_cells": 0},
        "folder": None,
    }
    protocol = results["protocol"]
    assert {name: protocol[name] for name in ("seeds", "epochs", "steps", "batch_size", "model")} == {
        "seeds": 4,
        "epochs": 2,
        "steps": 6,
        "batch_size": 16,
        "model": {
            "name": "mlp",
            "hidden": [128, 128],
            "parameters": 3 * 128 + 129 * 128 + 129 * 2,
            "optimizer": "Adam",
            "schedule": "constant",
            "augment": None,
        },
    }
    assert [protocol[f"{part}_examples"] for part in ("train", "validation", "test")] == [36, 12, 12]
    assert [(r["seed"], r["method"]) for r in results["runs"]] == [
        (s, m) for s in range(4) for m in ("ERM", "mixup 0.4")
    ]
    for record in results["runs"]:
        assert set(record) == {
            *("method", "seed", "seconds", "epochs", "train", "validation", "test", "perturbed", "curve", "reliability")
        }
        for part in ("train", "validation", "test"):
            assert set(record[part]) == {"error", "nll", "brier", "ece"}
        assert sum(record["reliability"]["count"]) == 12
        assert set(record["curve"]) == {"epoch", "train_nll", "validation_nll", "validation_error"}
    chosen = "mixup, alpha chosen on validation"
    assert list(results["summary"]) == ["ERM", "mixup 0.4", chosen]
    for name in results["summary"]:
        of = [r["test"]["error"] for r in results["runs"] if r["method"] == ("ERM" if name == "ERM" else "mixup 0.4")]
        assert results["summary"][name]["test"]["error"]["mean"] == pytest.approx(np.mean(of))
    assert [c["method"] for c in results["comparisons"]] == [chosen, "mixup 0.4"]
    assert set(results["verdict"]) == {"kind", "method", "sentence", "advice"}
    assert set(results["model"]) == {"file", "method", "seed", "usage"}


def test_the_runs_are_those_of_one_fleet_alone(finished: tuple[Path, dict[str, Any], Progress]) -> None:
    """However the seeds are cut and spread over processes."""
    study, results = study_of(), finished[1]
    for record, same in zip(results["runs"], records.to_json(study.train(study.runs)), strict=True):
        assert (record["method"], record["seed"]) == (same["method"], same["seed"])
        for part in ("train", "validation"):
            assert record[part] == pytest.approx(same[part], rel=1e-4)


def test_a_quick_comparison_is_trained_in_this_process(
    finished: tuple[Path, dict[str, Any], Progress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "start", None)  # no worker can be started
    assert study_of().is_quick(8)
    assert not study_of().is_quick(10**6)
    progress = Progress()
    results = run(study_of(), tmp_path, jobs=64, progress=progress, quick=True)
    assert progress.told[-1] == (16, 16, 8)
    for one, same in zip(results["runs"], finished[1]["runs"], strict=True):
        assert one["test"]["nll"] == pytest.approx(same["test"]["nll"], rel=1e-4)


def test_a_folder_of_another_format_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path / "a").open(study_of())
    config = tmp_path / "a" / "config.json"
    old = json.loads(config.read_text())
    for written in (1, 3):
        config.write_text(json.dumps(old | {"format": written}))
        with pytest.raises(UserError, match=rf"written by another version \(format {written}, and this one writes 2\)"):
            RunFolder(tmp_path / "a").open(study_of())
    del old["format"]
    config.write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"\(format 1, and this one writes 2\); choose another --out, or remove"):
        RunFolder(tmp_path / "a").open(study_of())


def test_progress_goes_up_to_the_end(finished: tuple[Path, dict[str, Any], Progress]) -> None:
    told = finished[2].told
    assert told[0] == (0, 16, 0)
    assert told[-1] == (16, 16, 8)
    assert all(a[0] <= b[0] and a[2] <= b[2] for a, b in pairwise(told))


def test_the_model_is_the_run_best_on_validation(finished: tuple[Path, dict[str, Any], Progress]) -> None:
    path, results, _ = finished
    study = study_of()

    def score(record: dict[str, Any]) -> tuple[float, float]:
        return record["validation"]["error"], record["validation"]["nll"]

    of = {name: [score(r) for r in results["runs"] if r["method"] == name] for name in ("ERM", "mixup 0.4")}
    method = min(of, key=lambda name: np.mean(of[name], axis=0).tolist())
    assert results["model"]["method"] == method
    assert results["model"]["seed"] == of[method].index(min(of[method]))
    seed = results["model"]["seed"]

    predictor = Predictor.load(path / "model.safetensors")
    rows = split(study.data, seed)
    assert predictor.encoding == TableEncoder.fit(study.data, rows.train)
    columns = {"a": study.data.numeric[rows.test, 0], "b": study.data.numeric[rows.test, 1]}
    truth = np.array(study.data.classes)[study.data.target[rows.test]]
    record = next(r for r in results["runs"] if (r["method"], r["seed"]) == (method, seed))
    assert float((predictor.predict(columns) != truth).mean()) == pytest.approx(record["test"]["error"])
    assert predictor.about["seed"] == seed
    assert predictor.about["test"]["error"] == record["test"]["error"]


def test_the_printed_usage_runs(
    finished: tuple[Path, dict[str, Any], Progress], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, results, _ = finished
    table = study_of().data
    monkeypatch.chdir(path)
    pl.DataFrame({"a": table.numeric[:5, 0], "b": table.numeric[:5, 1]}).write_csv("new_rows.csv")
    try:
        exec(results["model"]["usage"], {})
    finally:
        os.unlink("new_rows.csv")
    assert set(re.findall(r"\w+", capsys.readouterr().out)) <= {"high", "low"}


def test_a_name_cannot_break_out_of_the_usage(tmp_path: Path) -> None:
    path = tmp_path / """a"'); print("ran"); ("'b"""
    results = run(study_of(seeds=2, epochs=1), path)
    constants = compile(results["model"]["usage"], "usage", "exec").co_consts
    assert str(path / "model.safetensors") in constants
    assert "ran" not in constants


def test_the_same_again_only_renders(
    finished: tuple[Path, dict[str, Any], Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, results, _ = finished
    monkeypatch.setattr(executor, "run", None)  # nothing can be trained
    (path / "report.html").unlink()
    before = (path / "results.json").read_bytes(), (path / "runs.jsonl").read_bytes()
    progress = Progress()
    again = run(study_of(), path, progress=progress, images=True)
    assert progress.told == [(16, 16, 8)]
    assert json.dumps(again) == json.dumps(results)
    assert (path / "report.html").read_text() == report.render(records.from_json(Results, results))
    assert ((path / "results.json").read_bytes(), (path / "runs.jsonl").read_bytes()) == before


def test_a_lost_model_is_made_again_without_the_runs(
    finished: tuple[Path, dict[str, Any], Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, results, _ = finished
    model = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").unlink()
    monkeypatch.setattr(RunFolder, "append", None)  # no run is finished anew
    again = run(study_of(), path)
    assert (path / "model.safetensors").read_bytes() == model
    assert without_seconds(again) == without_seconds(results)


@pytest.mark.parametrize("results_text", [None, "{", ""])
def test_only_missing_seeds_are_run(
    finished: tuple[Path, dict[str, Any], Progress], tmp_path: Path, results_text: str | None
) -> None:
    """From a run that was stopped in its second fleet, with or without results that somebody spoilt."""
    path, results, _ = finished
    lines = (path / "runs.jsonl").read_bytes().splitlines(keepends=True)
    RunFolder(tmp_path).open(study_of())
    (tmp_path / "runs.jsonl").write_bytes(lines[0] + lines[1][:200])
    if results_text is not None:
        (tmp_path / "results.json").write_text(results_text)
    progress = Progress()
    again = run(study_of(), tmp_path, progress=progress)
    assert progress.told[0] == (8, 16, 4)
    assert progress.told[-1] == (16, 16, 8)
    assert without_seconds(again) | {"model": None} == without_seconds(results) | {"model": None}
    before = kept(path)[:4]
    assert [r for r in again["runs"] if r["seed"] in {k["seed"] for k in before}] == sorted(
        before, key=lambda r: (r["seed"], r["method"])
    )  # these were not trained again: even their seconds are the same


def test_of_a_seed_kept_in_part_only_the_rest_is_run(
    finished: tuple[Path, dict[str, Any], Progress], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    folder.open(study_of())
    folder.append([r for r in typed(finished[1]["runs"]) if r.key != ("ERM", 3)])
    progress = Progress()
    again = run(study_of(), tmp_path, progress=progress)
    assert progress.told[0] == (14, 16, 7)
    assert progress.told[-1] == (16, 16, 8)
    for one, same in zip(again["runs"], finished[1]["runs"], strict=True):
        assert (one["method"], one["seed"]) == (same["method"], same["seed"])
        assert one["test"]["nll"] == pytest.approx(same["test"]["nll"], rel=1e-4)


def test_runs_that_stop_early_are_counted_to_the_end(tmp_path: Path) -> None:
    progress = Progress()
    study = study_of(epochs=40, patience=1, learning_rate=0.1, seeds=2)
    results = run(study, tmp_path / "a", progress=progress)
    assert all(r["epochs"] < 40 for r in results["runs"])
    assert progress.told[-1] == (160, 160, 4)
    assert results["protocol"]["patience"] == 1


def test_regression_runs_through(tmp_path: Path) -> None:
    results = run(study_of(regression=True, seeds=2, label_noise=0.2, input_noise=0.5), tmp_path / "a")
    assert results["data"]["classes"] == []
    assert results["data"]["class_counts"] == []
    assert set(results["runs"][0]["test"]) == {"rmse", "mae", "r2"}
    assert set(results["runs"][0]["curve"]) == {"epoch", "train_rmse", "validation_rmse"}
    assert results["summary"]["ERM"]["perturbed"]["rmse"]["mean"] > 0
    assert results["protocol"]["label_noise"] == 0.2
    predicted = Predictor.load(tmp_path / "a" / "model.safetensors").predict({"a": [1.0], "b": [-1.0]})
    assert predicted.dtype == np.float64


def test_measures_that_are_no_numbers_are_null_in_results(tmp_path: Path) -> None:
    study = study_of(regression=True, alphas=(), named=("GaussianNoise(1e36)",), seeds=2)
    results = run(study, tmp_path / "a")
    assert results["verdict"]["kind"] == "no verdict"
    assert results["model"]["method"] == "ERM"

    def strict(word: str) -> Any:
        raise AssertionError(f"{word} is no JSON")

    read = json.loads((tmp_path / "a" / "results.json").read_text(), parse_constant=strict)
    broken = [r for r in read["runs"] if r["method"] != "ERM"]
    assert all(r["test"]["rmse"] is None for r in broken)
    again = run(study, tmp_path / "a")
    assert again["verdict"] == results["verdict"]


# -- processes -----------------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_workers_can_be_spawned_and_give_the_same(
    finished: tuple[Path, dict[str, Any], Progress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no forkserver."""
    monkeypatch.setattr(executor, "start", lambda: "spawn")
    RunFolder(tmp_path).open(study_of())
    RunFolder(tmp_path).append([r for r in typed(finished[1]["runs"]) if r.seed < 2])
    results = run(study_of(), tmp_path, jobs=2)
    assert without_seconds(results["runs"]) == without_seconds(finished[1]["runs"])
    assert results["model"]["method"] == finished[1]["model"]["method"]


def test_a_comparison_runs_in_a_thread_too(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: results.append(run(study_of(seeds=2, epochs=1), tmp_path / "a")))
    thread.start()
    thread.join()
    assert len(results[0]["runs"]) == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_stops_the_workers_at_once_and_keeps_what_is_done(tmp_path: Path, error: type[BaseException]) -> None:
    study = study_of(seeds=60, epochs=20)
    seen: list[int] = []

    def interrupt(done: int, total: int, runs: list[dict[str, Any]]) -> None:
        if runs:
            seen.extend(child.pid for child in multiprocessing.active_children() if child.pid is not None)
            raise error

    start = time.monotonic()
    with pytest.raises(error):
        run(study, tmp_path / "a", progress=interrupt)
    assert time.monotonic() - start < 60
    assert len(seen) == 2
    assert not any(alive(pid) for pid in seen)
    assert not multiprocessing.active_children()
    runs = kept(tmp_path / "a")
    assert 0 < len(runs) < 120
    assert all(math.isfinite(r["test"]["error"]) for r in runs)


def test_a_worker_that_dies_is_told_and_what_is_done_is_kept(tmp_path: Path) -> None:
    study = study_of(seeds=60, epochs=20)

    def kill(done: int, total: int, runs: list[dict[str, Any]]) -> None:
        if runs:
            for child in multiprocessing.active_children()[:1]:
                child.kill()

    with pytest.raises(executor.WorkerDied, match="a worker process died, probably for want of memory"):
        run(study, tmp_path / "a", progress=kill)
    assert not multiprocessing.active_children()
    assert 0 < len(RunFolder(tmp_path / "a").runs()) < 120


def test_an_error_of_the_table_in_a_worker_comes_as_it_is() -> None:
    """A value that only some seed's training rows make too far to be standardized."""
    x = np.full(60, 1.0)
    x[7] = 1e30
    x[8] = 1 + 1e-15
    target = ["a", "b"] * 30
    table = make_table({"x": x, "y": target}, "y", name="far", source="far")
    study = TableComparison(table, TableSettings(alphas=(0.4,), seeds=20, epochs=1))

    pieces = [[("ERM", seed)] for seed in range(20)]
    with pytest.raises(UserError, match="too far from those it was fitted on"):
        list(executor.run(partial(runner._train, study), pieces, processes=2))
    assert not multiprocessing.active_children()
