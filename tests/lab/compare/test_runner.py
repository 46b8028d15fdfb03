"""Running a comparison: every finished run is kept, only what is missing is run, and processes end with their command."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F

from vicinal._adamw import AdamW
from vicinal.keyed import Key
from vicinal.lab import atomic, executor, filelock, records, stored
from vicinal.lab.compare import consistency, report, runner, table_comparison, verdict
from vicinal.lab.compare.comparison import RunId
from vicinal.lab.compare.predictions import MeasuredRun, RunPredictions
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.compare.results import FORMAT, Difference, Results, RunRecord
from vicinal.lab.compare.runner import AnyComparison, RunFolder
from vicinal.lab.compare.settings import TableSettings
from vicinal.lab.compare.table_comparison import TableComparison
from vicinal.lab.data.table import make_table
from vicinal.lab.errors import UserError
from vicinal.lab.models.mlp import MLP
from vicinal.lab.statistics import Posterior
from vicinal.lab.training import stacked_mlp


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
        found = runner.run(study, folder, "vicinal compare made", jobs, progress or Progress())
    consistency.check(found)
    return records.to_json(found)


def keep(path: Path, folder: RunFolder, runs: Sequence[RunId]) -> None:
    """Keep some runs of a finished folder in another."""
    source = RunFolder(path)
    predictions = source.predicted()
    found = {run.key: MeasuredRun(run, predictions[run.key]) for run in source.runs()}
    folder.append(study_of(), [found[key] for key in runs])


def kept(path: Path) -> list[dict[str, Any]]:
    """Records in a folder, as JSON holds them."""
    return records.to_json(RunFolder(path).runs())


def without_seconds(value: Any) -> Any:
    """Results without what a clock says."""
    if isinstance(value, dict):
        return {key: without_seconds(part) for key, part in value.items() if key not in ("seconds", "created")}
    return [without_seconds(part) for part in value] if isinstance(value, list) else value


def without_usage(results: dict[str, Any]) -> dict[str, Any]:
    """Results without what a clock says, and without path and last bits of the model."""
    return without_seconds(results) | {"model": results["model"] | {"usage": None, "sha256": None}}


def rounded(found: Any) -> Any:
    """A nest to compare with another to rounding: how many seeds are trained together changes the last bits."""
    if isinstance(found, dict):
        return {key: rounded(part) for key, part in found.items()}
    if isinstance(found, list):
        return [rounded(part) for part in found]
    return pytest.approx(found, rel=1e-4, abs=1e-6) if isinstance(found, float) else found


# -- the folder ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_made_and_taken_up_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "b")
    folder.open(study_of())
    folder.open(study_of())
    assert os.listdir(folder.path) == ["config.json"]
    config = json.loads((folder.path / "config.json").read_text())
    assert config["fingerprint"] == study_of().fingerprint()
    assert config["settings"]["seeds"] == 4


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"epochs": 3}, "--epochs 2 there, 3 here"),
        ({"epochs": None, "seeds": 9}, "--epochs 2 there, by default here"),
        ({"alphas": (0.1, 1 / 3)}, "--alpha 0.4 there, 0.1,0.3333333333333333 here"),
        ({"erm_decays": (0.1,)}, "--erm-decays by default there, 0.1 here"),
        (
            {"metric": "nll", "to_the_end": True},
            "--metric by default there, nll here; --to-the-end not given there, given here",
        ),
        ({"named": ("InputMixup(1)",)}, "--with none there, InputMixup(1) here"),
        ({"hidden": (8,), "batch_size": 4}, "batch size by default there, 4 here; hidden 128,128 there, 8 here"),
        ({"regression": True}, "other data: two of the name made, or read in two ways"),
        ({"regression": True, "name": "trees"}, "other data: made there, trees here"),
    ],
)
def test_another_comparison_is_refused_the_folder(tmp_path: Path, other: dict[str, Any], differs: str) -> None:
    RunFolder(tmp_path / "a").open(study_of())
    with pytest.raises(UserError) as refused:
        RunFolder(tmp_path / "a").open(study_of(**other))
    assert str(refused.value) == (
        f"{tmp_path / 'a'} holds another comparison ({differs}); choose another --out, or remove that folder"
    )


def test_a_folder_of_another_version_is_refused_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder(tmp_path).open(study_of())
    monkeypatch.setattr("vicinal.__version__", "9.9")
    with pytest.raises(UserError, match=r"comparison \(by version 0\.1\.0 of vicinal, and this is 9\.9\); choose"):
        RunFolder(tmp_path).open(study_of())


def test_two_do_not_work_in_one_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with RunFolder(path).held():
        RunFolder(path).open(study_of())
        with pytest.raises(UserError) as refused, RunFolder(path).held():
            pass
        assert str(refused.value) == f"another process works in {path}; wait for it, or choose another --out"
        with RunFolder(tmp_path / "a" / "c").held():
            pass
    assert os.listdir(path) == ["config.json"]
    with RunFolder(path).held():
        RunFolder(path).open(study_of())
    assert os.listdir(path) == ["config.json"]
    assert os.listdir(tmp_path / "a" / "c") == []


@pytest.mark.torture
def test_a_killed_process_lets_go_of_the_folder(tmp_path: Path) -> None:
    holds = (
        "import os, pathlib, signal, sys; from vicinal.lab.compare.runner import RunFolder\n"
        "with RunFolder(pathlib.Path(sys.argv[1])).held(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", holds, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == [".lock"]
    with RunFolder(tmp_path).held():
        RunFolder(tmp_path).open(study_of())
    assert os.listdir(tmp_path) == ["config.json"]


def test_the_lock_of_whoever_removed_it_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder removes the file after another process opened it, and before that locks it."""
    real = filelock.fcntl.flock

    def late(*args: Any) -> None:
        (tmp_path / "lock").unlink()
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(filelock.fcntl, "flock", late)
        with atomic.locked(tmp_path / "lock") as mine:
            assert not mine
    with atomic.locked(tmp_path / "lock") as mine:
        assert mine


def test_a_folder_takes_the_same_comparison_with_any_number_of_seeds(tmp_path: Path) -> None:
    RunFolder(tmp_path / "a").open(study_of())
    for seeds in (2, 5, 10_000):
        RunFolder(tmp_path / "a").open(study_of(seeds=seeds))


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
    with pytest.raises(
        UserError, match=r"config\.json cannot be used: it .*; choose another --out, or remove that folder"
    ):
        RunFolder(tmp_path).open(study_of())


def test_a_place_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    says = r"the folder .* cannot be used \([a-z ]+\); choose another --out"
    for path in (tmp_path / "file", tmp_path / "file" / "a", Path("/proc/vicinal"), tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=says):
            RunFolder(path).open(study_of())
        with pytest.raises(UserError, match=says), RunFolder(path).held():
            pass
    (tmp_path / "run" / "runs.jsonl").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"runs\.jsonl cannot be used \(it is a folder, not a file\); choose another --out"
    ):
        RunFolder(tmp_path / "run").open(study_of())
    assert (tmp_path / "file").read_text() == "mine"


def measured(seed: int, rmse: float = 0.5, method: str = "ERM") -> MeasuredRun:
    """A run that nobody trained, which predicts its score for two rows."""
    record = RunRecord(method, seed, 0.1, 1, {}, {}, {"rmse": rmse}, None, {})
    return MeasuredRun(record, RunPredictions(np.array([seed, 7]), np.full(2, rmse, dtype=np.float32), None))


def records_of(*runs: MeasuredRun) -> list[RunRecord]:
    return [run.record for run in runs]


def test_kept_runs_are_those_of_whole_lines_each_once(tmp_path: Path) -> None:
    study, folder = study_of(regression=True), RunFolder(tmp_path)
    assert folder.runs() == []
    one, two, three = map(measured, (0, 1, 2))
    folder.append(study, [one])
    folder.append(study, [one, two])  # another process of the same command
    with open(tmp_path / "runs.jsonl", "a") as file:
        file.write('[{"method": "ERM", "se')
    assert folder.runs() == records_of(one, two)
    folder.append(study, [three])
    assert [run.seed for run in folder.runs()] == [0, 1, 2]
    assert folder.missing(study)[:2] == [("mixup 0.4", 0), ("by label distance 0.4", 0)]
    assert len(folder.missing(study)) == 4 * 6 - 3
    assert folder.missing(replace(study, settings=replace(study.settings, seeds=2)))[0] == ("mixup 0.4", 0)


@pytest.mark.parametrize("others", [[1], [1, 2, 3], [1, 2], [1, 4], [0, 1, 2, 3, 4, 5, 6]])
def test_predictions_are_those_of_the_records_and_no_orphans(tmp_path: Path, others: list[int]) -> None:
    """A kill before the line of a chunk leaves its predictions; the runs may then be cut into other chunks."""
    study, folder = study_of(regression=True), RunFolder(tmp_path)
    folder.predictions.write([measured(seed, 9.0) for seed in others], study.data.target, [])
    folder.append(study, [measured(0, 0.25), measured(1, 0.5)])
    folder.append(study, [measured(1, 0.75), measured(2, 1.0)])
    for (method, seed), of in (predicted := folder.predicted()).items():
        record = next(run for run in folder.runs() if run.key == (method, seed))
        assert of.outputs.tolist() == [record.test["rmse"]] * 2
        assert of.rows.tolist() == [seed, 7]
        assert of.nll is None
    assert list(predicted) == [("ERM", 0), ("ERM", 1), ("ERM", 2)]


def test_a_run_whose_predictions_are_lost_is_not_finished(tmp_path: Path) -> None:
    study, folder = study_of(regression=True), RunFolder(tmp_path / "a [b] *")
    folder.open(study)
    folder.append(study, [measured(0)])
    (file,) = folder.predictions.path.iterdir()
    folder.append(study, [measured(1)])
    file.unlink()
    assert [run.seed for run in folder.runs()] == [1]
    assert list(folder.predicted()) == [("ERM", 1)]
    assert ("ERM", 0) in folder.missing(study)


SPOILT = {
    "cut": lambda content: content[:100],
    "emptied": lambda content: b"",
    "another": lambda content: b"garbage",
    "without an end": lambda content: content[:-20],
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_run_whose_predictions_are_spoilt_is_not_finished(tmp_path: Path, how: str) -> None:
    study, folder = study_of(regression=True), RunFolder(tmp_path)
    folder.open(study)
    folder.append(study, [measured(0), measured(0, method="mixup 0.4")])
    (file,) = folder.predictions.path.iterdir()
    folder.append(study, [measured(1)])
    assert folder.notes(study) == []
    file.write_bytes(SPOILT[how](file.read_bytes()))
    assert [run.seed for run in folder.runs()] == [1]
    assert list(folder.predicted()) == [("ERM", 1)]
    assert {("ERM", 0), ("mixup 0.4", 0)} <= set(folder.missing(study))
    assert folder.notes(study) == [
        f"2 runs kept in {tmp_path} lost their predictions, which {tmp_path / 'predictions'} does not hold as they were "
        "written: they are trained again"
    ]
    folder.append(study, [measured(0)])
    folder.append(study, [measured(0, method="mixup 0.4")])
    assert folder.notes(study) == []


def test_each_changed_byte_of_predictions_is_noticed(tmp_path: Path) -> None:
    """Or it changes nothing that is read."""
    study, folder = study_of(), RunFolder(tmp_path)
    folder.append(study, study.train([("ERM", 0)]))
    (file,) = folder.predictions.path.iterdir()
    content, before = file.read_bytes(), folder.predicted()["ERM", 0]
    noticed = 0
    for at in range(4, len(content), 7):
        file.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        if found := RunFolder(tmp_path).predicted():
            assert found["ERM", 0].outputs.tobytes() == before.outputs.tobytes()
            assert found["ERM", 0].rows.tobytes() == before.rows.tobytes()
        else:
            noticed += 1
    assert noticed > 50


@pytest.mark.parametrize("line", ["3", "[3]", '{"a": 1}', '[{"method": "ERM"}]', "\0", "[" * 100_000])
def test_a_line_that_is_no_record_is_left_out(tmp_path: Path, line: str) -> None:
    study, folder = study_of(regression=True), RunFolder(tmp_path)
    folder.open(study)
    folder.append(study, [measured(0)])
    with open(tmp_path / "runs.jsonl", "a") as file:
        file.write(line + "\n")
    assert folder.runs() == [measured(0).record]
    assert folder.notes(study) == [
        f"1 line of {tmp_path / 'runs.jsonl'} cannot be read, as after a crash or an edit: what is missing is trained again"
    ]


def test_predictions_on_disk_stand_beside_row_and_truth(tmp_path: Path) -> None:
    study, folder = study_of(), RunFolder(tmp_path)
    runs = study.train([("ERM", 0), ("mixup 0.4", 0)])
    folder.append(study, runs)
    (file,) = folder.predictions.path.iterdir()
    frame = pl.read_parquet(file)
    assert frame.columns == ["method", "seed", "row", "target", "p_high", "p_low", "nll"]
    assert frame["method"].to_list() == ["ERM"] * 12 + ["mixup 0.4"] * 12
    data, labels = study.data, study.data.target.astype(np.int64)
    p = frame[["p_high", "p_low"]].to_numpy().astype(np.float64)
    assert frame["target"].to_list() == [data.classes[labels[row]] for row in frame["row"]]
    assert p.sum(1) == pytest.approx(np.ones(24), abs=1e-6)
    truth = labels[frame["row"].to_numpy()]
    assert frame["nll"].to_numpy() == pytest.approx(-np.log(p[range(24), truth]), rel=1e-4)
    for i, run in enumerate(runs):
        own = slice(12 * i, 12 * i + 12)
        assert run.record.test["error"] == pytest.approx((p[own].argmax(1) != truth[own]).mean())
        assert run.record.test["nll"] == pytest.approx(frame["nll"].to_numpy()[own].mean(), rel=1e-5)
        assert folder.predicted()[run.record.key].outputs.tolist() == run.predictions.outputs.tolist()


# -- fleets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2, 3, 64])
@pytest.mark.parametrize("abreast", [1, 3, 10])
@pytest.mark.parametrize("seeds", [1, 2, 7, 20, 100])
def test_chunks_cover_the_seeds_and_fill_the_processes(seeds: int, abreast: int, jobs: int) -> None:
    numbers = [3 * seed for seed in range(seeds)]
    chunks = table_comparison._chunks(numbers, abreast, jobs)
    assert [seed for chunk in chunks for seed in chunk] == numbers
    sizes = [len(chunk) for chunk in chunks]
    assert max(sizes) - min(sizes) <= 1
    assert 1 <= min(sizes) <= max(sizes) <= abreast
    assert len(chunks) % jobs == 0 or len(chunks) == seeds


def test_seeds_abreast_are_few_where_methods_are_many_or_the_table_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    def sizes(**settings: Any) -> list[int]:
        study = study_of(seeds=8, **settings)
        return [len({seed for _, seed in chunk}) for chunk in study.chunks(study.runs, 1)]

    assert sizes() == [4, 4]  # 5 methods
    assert sizes(alphas=(0.1, 0.2, 0.4, 1.0)) == [1] * 8  # 11 methods
    monkeypatch.setattr(table_comparison, "_MOST_NUMBERS", 60 * 2 * 2)
    assert sizes() == [2, 2, 2, 2]
    monkeypatch.setattr(table_comparison, "_MOST_NUMBERS", 1)
    assert sizes() == [1] * 8


def test_nothing_missing_needs_no_chunk() -> None:
    assert table_comparison._chunks([], 5, 2) == []


NETWORKS = ("ERM", "mixup 0.4")
METHODS = (*NETWORKS, "constant answer", "linear model", "gradient-boosted trees")


# -- a whole run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Progress]:
    """A comparison that ran through, in two fleets at once."""
    path, progress = tmp_path_factory.mktemp("runner") / "made [1]", Progress()
    return path, run(study_of(), path, progress=progress, images=True), progress


def test_it_leaves_the_files_that_it_says(finished: tuple[Path, dict[str, Any], Progress]) -> None:
    path, results, _ = finished
    assert {"config.json", "model.safetensors", "predictions", "report.html", "results.json", "runs.jsonl"} <= set(
        os.listdir(path)
    )
    assert len(os.listdir(path / "predictions")) == 2
    assert stored.unseal((path / "results.json").read_bytes(), FORMAT) == {
        name: value for name, value in results.items() if name != "format"
    }
    assert (path / "report.html").read_text() == report.render(records.from_json(Results, results))
    assert len(atomic.json_lines(path / "runs.jsonl")) == 2


def test_results_hold_what_the_report_and_others_read(finished: tuple[Path, dict[str, Any], Progress]) -> None:
    results = finished[1]
    assert set(results) >= {
        *("format", "vicinal", "command", "created", "versions", "machine", "data", "protocol", "methods", "runs"),
        *("summary", "comparisons", "beside", "chosen", "choice", "verdict", "model", "examples"),
    }
    assert results["format"] == 4
    assert results["command"] == "vicinal compare made"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", results["created"])
    columns = results["data"]["table"]["columns"]
    assert [column["name"] for column in columns] == ["a", "b", "y"]
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
        "table": {"numeric_columns": 2, "categorical_columns": 0, "inputs": 2, "missing_cells": 0}
        | {"columns": columns, "notes": []},
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
            "optimizer": "AdamW",
            "schedule": "constant",
            "augment": None,
        },
    }
    assert [protocol[f"{part}_examples"] for part in ("train", "validation", "test")] == [36, 12, 12]
    assert (protocol["measure"], protocol["decays"], protocol["splits"]) == ("error", [0.0], "folds")
    assert (protocol["to_the_end"], protocol["patience"], protocol["weight_decay"]) == (False, None, 0.0)
    assert [(r["seed"], r["method"]) for r in results["runs"]] == [(s, m) for s in range(4) for m in METHODS]
    for record in results["runs"]:
        assert set(record) >= {
            *("method", "seed", "seconds", "epochs", "train", "validation", "test", "perturbed", "curve", "reliability")
        }
        for part in ("train", "validation", "test"):
            assert set(record[part]) == {"error", "nll", "brier", "ece"}
        assert sum(record["reliability"]["count"]) == 12
        if record["method"] in NETWORKS:
            assert set(record["curve"]) == {"epoch", "train_nll", "validation_nll", "validation_error"}
            assert record["epochs"] in (1, 2)
        else:
            assert (record["curve"], record["epochs"]) == ({}, 0)
    chosen, policy = "mixup, alpha chosen on validation", "mixup or ERM, chosen on validation"
    assert list(results["summary"]) == [*METHODS, chosen, policy]
    assert results["chosen"][chosen] == ["mixup 0.4"] * 4
    assert set(results["chosen"][policy]) <= set(NETWORKS)
    error = {(r["method"], r["seed"]): r["test"]["error"] for r in results["runs"]}
    for name, entry in results["summary"].items():
        of = [error[method, seed] for seed, method in enumerate(results["chosen"].get(name, [name] * 4))]
        assert entry["test"]["error"]["mean"] == pytest.approx(np.mean(of))
    assert [c["method"] for c in results["comparisons"]] == [chosen, "mixup 0.4", policy, *METHODS[2:]]
    assert [c["method"] for c in results["comparisons"] if c["primary"]] == [chosen]
    assert [(c["method"], c["measure"]) for c in results["beside"]] == [(chosen, "nll"), (chosen, "ece")]
    assert set(results["verdict"]) == {"kind", "method", "sentence", "advice"}
    assert set(results["model"]) >= {"file", "method", "epochs", "usage"}


def test_the_runs_are_those_of_one_fleet_alone(finished: tuple[Path, dict[str, Any], Progress]) -> None:
    """However the seeds are cut and spread over processes."""
    study, results = study_of(), finished[1]
    again = {run.record.key: records.to_json(run.record) for run in study.train(study.runs)}
    assert len(again) == 20
    for record in results["runs"]:
        same = again[record["method"], record["seed"]]
        for part in ("train", "validation"):
            assert record[part] == pytest.approx(same[part], rel=1e-4)


def test_a_quick_comparison_is_trained_in_this_process(
    finished: tuple[Path, dict[str, Any], Progress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "start", None)  # no worker can be started
    assert study_of().is_quick(20)
    assert not study_of().is_quick(10**6)
    progress = Progress()
    results = run(study_of(), tmp_path, jobs=64, progress=progress, quick=True)
    assert progress.told[-1] == (40, 40, 20)
    for one, same in zip(results["runs"], finished[1]["runs"], strict=True):
        assert one["test"]["nll"] == pytest.approx(same["test"]["nll"], rel=1e-4)


def test_a_folder_of_another_format_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path / "a").open(study_of())
    config = tmp_path / "a" / "config.json"
    old = json.loads(config.read_text())
    for written in (1, 2, 3, 5):
        config.write_text(json.dumps(old | {"format": written}))
        with pytest.raises(UserError) as refused:
            RunFolder(tmp_path / "a").open(study_of())
        assert str(refused.value) == (
            f"{tmp_path / 'a'} was written by another version (format {written}, and this one writes 4); choose another "
            "--out, or remove that folder"
        )
    del old["format"]
    config.write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"config\.json cannot be used: it has no format number; choose another --out"):
        RunFolder(tmp_path / "a").open(study_of())


def test_progress_goes_up_to_the_end(finished: tuple[Path, dict[str, Any], Progress]) -> None:
    told = finished[2].told
    assert told[0] == (0, 40, 0)
    assert told[-1] == (40, 40, 20)
    assert all(a[0] <= b[0] and a[2] <= b[2] for a, b in pairwise(told))


def by_hand(study: TableComparison, method: str, epochs: int) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """A method trained on all rows by a plain loop in float64; return the weights, and the outputs for all rows."""
    table, of = study.data, study.method(method)
    x = torch.from_numpy((table.numeric - table.numeric.mean(0)) / table.numeric.std(0))
    y = torch.from_numpy(table.target)
    if not study.classes:
        y = (y - y.mean()) / y.std(correction=0)
    model = MLP(2, (128, 128), study.classes or 1).double()
    first = stacked_mlp.StackedMLP.initial([0], 2, (128, 128), study.classes or 1, torch.float32)
    model.load_state_dict({name: value.double() for name, value in first.state_dict(0).items()})
    optimizer = torch.optim.AdamW(model.parameters(), study.settings.learning_rate, weight_decay=of.weight_decay)
    step = 0
    for epoch in range(epochs):
        for rows in torch.from_numpy(Key(0, 0, 0, epoch, 2**63).generator().permutation(60)).split(16):
            plan = of.parsed.plan(len(rows), y[rows], x[rows], step=step, epoch=epoch, seed=0, rank=0, worker=0)
            out, target = model(plan(x[rows])), plan.target(y[rows])
            loss = F.cross_entropy(out, target) if study.classes else F.mse_loss(out[:, 0], target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return model.state_dict(), model(x).detach().numpy()


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("method", ["ERM, decay 0.1", "mixup 0.4"])
def test_a_refitted_model_is_trained_on_all_rows_as_by_hand(method: str, regression: bool) -> None:
    study = study_of(regression, alphas=(0.4, 1.0), erm_decays=(0.0, 0.1), weight_decay=0.5, epochs=9)
    state, (expected, _) = study.refit(method, 3), by_hand(study, method, 3)
    assert state is not None
    assert set(state) == set(expected)
    for name, value in expected.items():
        assert state[name] == pytest.approx(value.numpy(), rel=1e-4, abs=1e-5)


def test_the_model_is_the_method_best_on_validation_for_the_median_of_its_epochs(
    finished: tuple[Path, dict[str, Any], Progress],
) -> None:
    path, results, _ = finished
    study = study_of()

    def score(record: dict[str, Any]) -> tuple[float, float]:
        return record["validation"]["error"], record["validation"]["nll"]

    of = {name: [r for r in results["runs"] if r["method"] == name] for name in NETWORKS}
    method = min(of, key=lambda name: np.mean([score(r) for r in of[name]], axis=0).tolist())
    epochs = round(float(np.median([r["epochs"] for r in of[method]])))
    assert (results["model"]["method"], results["model"]["epochs"]) == (method, epochs)

    predictor = Predictor.load(path / "model.safetensors")
    columns = {"a": study.data.numeric[:, 0], "b": study.data.numeric[:, 1]}
    _, out = by_hand(study, method, epochs)
    p = np.exp(out) / np.exp(out).sum(1, keepdims=True)
    assert predictor.probabilities(columns) == pytest.approx(p, abs=1e-4)
    assert predictor.about["vicinity"] == study.method(method).vicinity
    assert predictor.about["epochs"] == epochs
    assert predictor.about["test"]["error"] == pytest.approx(np.mean([r["test"]["error"] for r in of[method]]))


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
    assert progress.told == [(40, 40, 20)]
    assert json.dumps(again) == json.dumps(results)
    assert (path / "report.html").read_text() == report.render(records.from_json(Results, results))
    assert ((path / "results.json").read_bytes(), (path / "runs.jsonl").read_bytes()) == before


@pytest.mark.parametrize("how", ["model", "{", "[]", "3"])
def test_a_spoilt_model_or_results_are_made_again_without_the_runs(
    finished: tuple[Path, dict[str, Any], Progress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    path = tmp_path / "a"
    shutil.copytree(finished[0], path)
    model = (path / "model.safetensors").read_bytes()
    if how == "model":
        (path / "model.safetensors").write_bytes(model[:-1] + bytes([model[-1] ^ 1]))
        says = f"{path / 'model.safetensors'} is not the model that results.json tells of: it is trained again"
    else:
        (path / "results.json").write_text(how)
        says = rf"{path / 'results.json'} cannot be used: it .+; it is written again, and the model too"
    assert re.fullmatch(says, "\n".join(RunFolder(path).notes(study_of())))
    monkeypatch.setattr(RunFolder, "append", None)  # no run is finished anew
    again = run(study_of(), path)
    assert (path / "model.safetensors").read_bytes() == model
    assert without_usage(again) == without_usage(finished[1])
    assert RunFolder(path).notes(study_of()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda of: of["runs"][0].update(seconds=1e6), "it tells of other runs than runs.jsonl"),
        (lambda of: of["runs"][0]["test"].update(error=0.0), "it tells of other runs than runs.jsonl"),
        (lambda of: of["data"].update(sha256="0"), "it tells of other runs than runs.jsonl"),
        (lambda of: of["summary"].pop("ERM"), "summary must hold 'ERM'"),
        (lambda of: of.update(verdict="mixup helps"), "verdict must be a table of fields, found 'mixup helps'"),
    ],
)
def test_results_that_tell_of_other_runs_are_made_again(
    finished: tuple[Path, dict[str, Any], Progress], tmp_path: Path, change: Any, says: str
) -> None:
    """Those of another folder, say: their checksum fits."""
    path = tmp_path / "a"
    shutil.copytree(finished[0], path)
    results = path / "results.json"
    fields = stored.unseal(results.read_bytes(), FORMAT)
    change(fields)
    stored.write(results, fields, FORMAT)
    assert RunFolder(path).notes(study_of()) == [
        f"{results} cannot be used: {says}; it is written again, and the model too"
    ]
    assert without_usage(run(study_of(), path)) == without_usage(finished[1])


def test_forged_predictions_do_not_end_the_process(
    finished: tuple[Path, dict[str, Any], Progress], tmp_path: Path
) -> None:
    """Damage on which the decoder of Parquet dies, with a checksum that fits; and whole files of other rows."""
    path = tmp_path / "a"
    shutil.copytree(finished[0], path)
    lines = [stored.unseal(line, FORMAT) for line in (path / "runs.jsonl").read_bytes().splitlines()]
    chunk = records.from_json(runner.Chunk, lines[0])
    file = RunFolder(path).predictions.file(chunk.keys)
    whole = file.read_bytes()
    other = pl.read_parquet(whole).with_columns(pl.col("row") + 1)
    other.write_parquet(tmp_path / "other.parquet")
    cases = {
        "is damaged; remove it and rerun": whole[:-40] + b"\xff" * 32 + whole[-8:],
        "do not hold scores and predictions of .* for the test rows": (tmp_path / "other.parquet").read_bytes(),
    }
    for say, content in cases.items():
        file.write_bytes(content)
        forged = {**lines[0], "predictions": hashlib.sha256(content).hexdigest()}
        (path / "runs.jsonl").write_text("".join(stored.seal(line, FORMAT) + "\n" for line in (forged, *lines[1:])))
        (path / "results.json").unlink(missing_ok=True)
        with pytest.raises(UserError, match=say):
            run(study_of(), path)
    file.unlink()
    assert RunFolder(path).missing(study_of())


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
    shutil.copytree(path / "predictions", tmp_path / "predictions")
    if results_text is not None:
        (tmp_path / "results.json").write_text(results_text)
    progress = Progress()
    again = run(study_of(), tmp_path, progress=progress)
    assert progress.told[0] == (20, 40, 10)
    assert progress.told[-1] == (40, 40, 20)
    assert without_usage(again) == rounded(without_usage(results))
    before = kept(path)[:10]
    assert [r for r in again["runs"] if r["seed"] in {k["seed"] for k in before}] == sorted(
        before, key=lambda r: (r["seed"], METHODS.index(r["method"]))
    )  # these were not trained again: even their seconds are the same


def test_of_a_seed_kept_in_part_only_the_rest_is_run(
    finished: tuple[Path, dict[str, Any], Progress], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    folder.open(study_of())
    keep(finished[0], folder, [run for run in study_of().runs if run != ("ERM", 3)])
    progress = Progress()
    again = run(study_of(), tmp_path, progress=progress)
    assert progress.told[0] == (38, 40, 19)
    assert progress.told[-1] == (40, 40, 20)
    for one, same in zip(again["runs"], finished[1]["runs"], strict=True):
        assert (one["method"], one["seed"]) == (same["method"], same["seed"])
        assert one["test"]["nll"] == pytest.approx(same["test"]["nll"], rel=1e-4)


def test_runs_that_stop_early_are_counted_to_the_end(tmp_path: Path) -> None:
    progress = Progress()
    study = study_of(epochs=40, patience=1, learning_rate=0.1, seeds=2)
    results = run(study, tmp_path / "a", progress=progress)
    assert all(r["epochs"] < 40 for r in results["runs"])
    assert progress.told[-1] == (400, 400, 10)
    assert results["protocol"]["patience"] == 1


def test_regression_runs_through(tmp_path: Path) -> None:
    results = run(study_of(regression=True, seeds=2, label_noise=0.2, input_noise=0.5), tmp_path / "a")
    assert results["data"]["classes"] == []
    assert results["data"]["class_counts"] == []
    assert set(results["runs"][0]["test"]) == {"rmse", "mae", "r2"}
    assert set(results["runs"][0]["curve"]) == {"epoch", "train_rmse", "validation_rmse"}
    assert [r["method"] for r in results["runs"][:4]] == [*NETWORKS, "by label distance 0.4", "constant answer"]
    assert results["protocol"]["measure"] == "rmse"
    assert results["beside"] == []
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
    broken = {r["method"] for r in read["runs"] if r["test"]["rmse"] is None}
    assert broken == {"GaussianNoise(1e36)"}
    assert "GaussianNoise(1e36) diverged for 2 of 2 seeds" in results["verdict"]["sentence"]
    again = run(study, tmp_path / "a")
    assert again["verdict"] == results["verdict"]


def difference(
    study: TableComparison, method: str, by: float, p: float, measure: str, primary: bool = True
) -> Difference:
    """A difference to ERM with a corrected p-value."""
    name = study.measure.name if measure == "main" else measure
    return Difference(method, primary, by, by, by, p, p, [], name, Posterior(0.0, 0.0, 1.0), 0.0, 0.0, p)


CHOSEN = "mixup, alpha chosen on validation"


@pytest.mark.parametrize(
    ("metric", "differences", "saved", "why"),
    [
        ("error", [], "InputMixup(1)", ""),
        ("error", [("InputMixup(1)", 0.1, 0.04, "main")], "mixup 0.4", "left"),
        ("error", [("InputMixup(1)", -0.1, 0.04, "main")], "InputMixup(1)", ""),
        ("auroc", [("InputMixup(1)", -0.1, 0.04, "main")], "mixup 0.4", "left"),
        ("auroc", [("InputMixup(1)", 0.1, 0.04, "main")], "InputMixup(1)", ""),
        ("error", [("InputMixup(1)", 0.1, 0.05, "main")], "InputMixup(1)", ""),
        ("error", [("InputMixup(1)", 0.1, 0.001, "ece")], "InputMixup(1)", ""),
        ("error", [("InputMixup(1)", 0.1, 0.001, "main"), (CHOSEN, 0.1, 0.001, "main")], "ERM", "left"),
        ("error", [("InputMixup(1)", 0.1, 0.001, "main"), ("mixup 0.4", 0.1, 0.001, "main")], "mixup 1", "left"),
        ("error", [("InputMixup(1)", 0.1, 0.001, "main"), ("ERM, decay 0.1", 0.1, 0.001, "main")], "mixup 0.4", "left"),
    ],
)
def test_the_model_is_of_no_method_that_is_shown_to_harm(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
    differences: list[tuple[str, float, float, str]],
    saved: str,
    why: str,
) -> None:
    """On validation InputMixup is best, then mixup 0.4, mixup 1 and ERM."""
    study = study_of(alphas=(0.4, 1.0), named=("InputMixup(1)",), metric=metric)
    place = {"InputMixup(1)": 1, "mixup 0.4": 2, "mixup 1": 3, "ERM, decay 0": 4, "ERM, decay 0.1": 5}
    runs = [
        RunRecord(name, seed, 0.1, 1, {}, {"error": i / 10, "nll": float(i)}, {"error": 0.5}, None, {})
        for name, i in place.items()
        for seed in range(2)
    ]
    found = [difference(study, *one) for one in differences]
    conclusion = verdict.Conclusion({}, found, [], {}, None, verdict.Verdict("", "", "", ""), None, None)
    harmful = runner._harmful(study, conclusion)
    model, no_model = runner._save_model(study, runs, RunFolder(tmp_path), harmful)
    assert model is not None
    assert no_model == ""
    assert model.method.removesuffix(", decay 0") == saved
    assert model.chosen == "best on validation rows" + (", of the methods that are not shown to harm" if why else "")
    assert Predictor.load(tmp_path / "model.safetensors").about["vicinity"] == study.method(model.method).vicinity


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("rate", [1e30, 1e12])
def test_a_model_that_diverged_is_not_kept(tmp_path: Path, regression: bool, rate: float) -> None:
    """Weights beyond float32, or finite ones whose outputs are not."""
    path, study = tmp_path / "a", study_of(regression, learning_rate=rate, seeds=2, epochs=2)
    path.mkdir()
    RunFolder(path).open(study)
    (path / "model.safetensors").write_text("of before")
    results = run(study, path)
    assert results["model"] is None
    assert re.fullmatch(
        r"training .+ \(best on validation rows\) on all rows diverged: weights or outputs are no finite numbers; a "
        r"smaller --learning-rate may help",
        results["no_model"],
    )
    assert not (path / "model.safetensors").exists()
    assert RunFolder(path).notes(study) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "run", None)  # nothing can be trained
        assert run(study, path) == results


# -- more seeds, fewer seeds, and kills ----------------------------------------------------------------------------------

NUMBERS = ("runs", "summary", "comparisons", "beside", "chosen", "choice", "verdict")


def numbers(results: dict[str, Any]) -> str:
    """What runs, summary and verdict hold, digit for digit."""
    return json.dumps({name: without_seconds(results[name]) for name in NUMBERS}, indent=1)


@pytest.fixture(scope="module")
def five_seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A comparison of five seeds with two weight decays and two alphas, from scratch."""
    path = tmp_path_factory.mktemp("five") / "fresh"
    return path, run(chosen_study(5), path, quick=True)


def chosen_study(seeds: int) -> TableComparison:
    return study_of(seeds=seeds, alphas=(0.2, 1.0), epochs=4)


def test_more_seeds_train_what_is_new_and_find_what_they_find_at_once(
    five_seeds: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(chosen_study(3), tmp_path, quick=True)
    model = (tmp_path / "model.safetensors").read_bytes()
    trained: list[RunId] = []
    real = TableComparison.train

    def train(self: TableComparison, runs: Sequence[RunId], *rest: Any) -> Any:
        trained.extend(runs)
        return real(self, runs, *rest)

    monkeypatch.setattr(TableComparison, "train", train)
    progress = Progress()
    more = run(chosen_study(5), tmp_path, progress=progress, quick=True)
    assert sorted(trained) == sorted(run for run in chosen_study(5).runs if run[1] >= 3)
    assert progress.told[0] == (3 * 7 * 4, 5 * 7 * 4, 3 * 7)
    assert progress.told[-1] == (5 * 7 * 4, 5 * 7 * 4, 5 * 7)
    assert numbers(more) == numbers(five_seeds[1])
    assert (tmp_path / "model.safetensors").read_bytes() == (five_seeds[0] / "model.safetensors").read_bytes()

    monkeypatch.setattr(TableComparison, "train", None)  # nothing can be trained
    fewer = run(chosen_study(3), tmp_path, quick=True)
    assert numbers(fewer) == numbers(first)
    assert fewer["protocol"]["seeds"] == 3
    assert (tmp_path / "model.safetensors").read_bytes() == model
    assert len(RunFolder(tmp_path).runs()) == 5 * 7  # the others are kept
    assert RunFolder(tmp_path).notes(chosen_study(3)) == [
        f"{tmp_path} holds runs of 5 seeds, which are kept; results, report and model are now of the first 3"
    ]
    assert RunFolder(tmp_path).notes(chosen_study(5)) == []
    assert numbers(run(chosen_study(5), tmp_path, quick=True)) == numbers(five_seeds[1])


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    ("name", "calls", "runs", "files"),
    [
        pytest.param(
            "write", 3, 14, 1, id="before the predictions of the second of three stacks"
        ),  # config, first, second
        pytest.param("append_line", 2, 14, 2, id="between predictions and line"),
        pytest.param("results", 1, 35, 3, id="between model and results"),
    ],
)
def test_a_killed_comparison_goes_on_to_the_same_results(
    five_seeds: tuple[Path, dict[str, Any]], tmp_path: Path, name: str, calls: int, runs: int, files: int
) -> None:
    count, function = 0, "append_line" if name == "append_line" else "write"
    real = getattr(atomic, function)

    def dies(path: Path, content: Any) -> None:
        nonlocal count
        count += name != "results" or path.name == "results.json"
        if count == calls:
            raise Killed
        real(path, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, function, dies)
        with pytest.raises(Killed):
            run(chosen_study(5), tmp_path, quick=True)
    assert not (tmp_path / "results.json").exists()
    assert len(RunFolder(tmp_path).runs()) == runs
    assert len(list((tmp_path / "predictions").iterdir())) == files
    assert numbers(run(chosen_study(5), tmp_path, quick=True)) == numbers(five_seeds[1])


def test_results_of_other_seeds_do_not_outlive_their_model(
    five_seeds: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """A kill after the model of five seeds was written, and before their results."""
    first = run(chosen_study(3), tmp_path, quick=True)
    model, real = (tmp_path / "model.safetensors").read_bytes(), atomic.write

    def dies(path: Path, content: Any) -> None:
        if path.name == "results.json":
            raise Killed
        real(path, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "write", dies)
        with pytest.raises(Killed):
            run(chosen_study(5), tmp_path, quick=True)
    again = run(chosen_study(3), tmp_path, quick=True)
    assert numbers(again) == numbers(first)
    assert (tmp_path / "model.safetensors").read_bytes() == model


def test_a_comparison_travels_to_workers_after_its_measure_was_asked_for() -> None:
    for metric in ("error", "nll", "ece", "brier", "balanced_error", "auroc", "f1"):
        study = study_of(metric=metric)
        assert study.measure.name == metric
        assert pickle.loads(pickle.dumps(study)).measure is study.measure


# -- the estimate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.parametrize("processes", [1, 2])
def test_the_estimate_of_a_large_table_is_its_steps_by_their_speed(
    monkeypatch: pytest.MonkeyPatch, seeds: int, processes: int
) -> None:
    """By a clock that a step of a stack moves on by 10 ms, and nothing else."""
    generator = Key(23, 0, 0, 0).generator()
    x = generator.normal(size=(100_000, 6))
    columns = {f"x{i}": x[:, i] for i in range(6)} | {"y": x.sum(1)}
    table = make_table(columns, "y", name="large", source="made")
    study = TableComparison(table, TableSettings(seeds=seeds))
    now, step = 0.0, AdamW.step

    def slow(self: AdamW, *rest: Any) -> None:
        nonlocal now
        now += 0.01
        step(self, *rest)

    monkeypatch.setattr(AdamW, "step", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert (study.batch_size, study.epochs, study.steps_per_epoch) == (256, 13, 235)
    stacks = math.ceil(seeds / processes)  # of a large table each seed is one
    steps = stacks * study.epochs * study.steps_per_epoch
    chunks = study.chunks(study.runs, processes)
    assert len(chunks) == seeds
    estimate = study.estimate_seconds(len(study.runs), processes)
    assert estimate is not None
    assert 0.01 * steps / 3 < estimate < 0.01 * steps * 3


def test_no_estimate_where_it_is_not_long() -> None:
    assert study_of().estimate_seconds(20, 2) is None


# -- processes -----------------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.torture
def test_workers_can_be_spawned_and_give_the_same(
    finished: tuple[Path, dict[str, Any], Progress], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no forkserver."""
    monkeypatch.setattr(executor, "start", lambda: "spawn")
    RunFolder(tmp_path).open(study_of())
    keep(finished[0], RunFolder(tmp_path), [run for run in study_of().runs if run[1] < 2])
    results = run(study_of(), tmp_path, jobs=2)
    assert without_seconds(results["runs"]) == rounded(without_seconds(finished[1]["runs"]))
    assert results["model"]["method"] == finished[1]["model"]["method"]


def test_a_comparison_runs_in_a_thread_too(tmp_path: Path) -> None:
    results: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: results.append(run(study_of(seeds=2, epochs=1), tmp_path / "a")))
    thread.start()
    thread.join()
    assert len(results[0]["runs"]) == 10


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_stops_the_workers_at_once_and_keeps_what_is_done(tmp_path: Path, error: type[BaseException]) -> None:
    study = study_of(seeds=60, epochs=20)
    seen: list[int] = []

    def interrupt(done: int, total: int, runs: list[dict[str, Any]]) -> None:
        if runs:
            seen.extend(child.pid for child in multiprocessing.active_children() if child.pid is not None)
            raise error

    with pytest.raises(error):
        run(study, tmp_path / "a", progress=interrupt)
    assert len(seen) == 2
    assert not any(alive(pid) for pid in seen)
    assert not multiprocessing.active_children()
    runs = kept(tmp_path / "a")
    assert 0 < len(runs) < 300
    assert all(math.isfinite(r["test"]["error"]) for r in runs)


@pytest.mark.torture
def test_a_worker_that_dies_is_told_and_what_is_done_is_kept(tmp_path: Path) -> None:
    study = study_of(seeds=60, epochs=20)

    def kill(done: int, total: int, runs: list[dict[str, Any]]) -> None:
        if runs:
            for child in multiprocessing.active_children()[:1]:
                child.kill()

    with pytest.raises(executor.WorkerDied, match="a worker process died, probably for want of memory"):
        run(study, tmp_path / "a", progress=kill)
    assert not multiprocessing.active_children()
    assert 0 < len(RunFolder(tmp_path / "a").runs()) < 300


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


# -- memory --------------------------------------------------------------------------------------------------------------


def test_where_memory_runs_short_seeds_are_trained_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(seeds=2)
    alone = [run for seed in range(2) for run in study.train([one for one in study.runs if one[1] == seed])]
    real = table_comparison.SeedSplits.of

    def short(comparison: TableComparison, seeds: Sequence[int]) -> table_comparison.SeedSplits:
        if len(seeds) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123456789 bytes.")
        return real(comparison, seeds)

    monkeypatch.setattr(table_comparison.SeedSplits, "of", staticmethod(short))
    ticks: list[int] = []
    with pytest.warns(UserWarning, match=r"not enough memory for 2 seeds at once \(118 MiB were asked for at once"):
        found = study.train(study.runs, ticks.append)
    assert [run.record.key for run in found] == [run.record.key for run in alone]
    for run, other in zip(found, alone, strict=True):
        assert without_seconds(records.to_json(run.record)) == without_seconds(records.to_json(other.record))
        assert run.predictions.outputs.tobytes() == other.predictions.outputs.tobytes()
    assert sum(ticks) == 2 * 2 * study.epochs
    monkeypatch.setattr(table_comparison.SeedSplits, "of", staticmethod(lambda *_: torch.empty(10**15)))
    with pytest.raises(RuntimeError, match="allocate"):
        study.train([("ERM", 0)])


def test_a_table_whose_inputs_do_not_fit_is_refused_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vicinal.lab.limits._SMALL", 0)
    monkeypatch.setattr("vicinal.lab.memory.available", lambda: (400, "on this machine"))
    with pytest.raises(
        UserError, match=r"^'made' has inputs of .* of memory are free on this machine: give fewer rows"
    ):
        study_of().check()
    says = (
        r"^'made' has 2 inputs a row once categories are written out for --input-noise, in all .*: leave --input-noise"
    )
    with pytest.raises(UserError, match=says):
        study_of(input_noise=0.5).check()
