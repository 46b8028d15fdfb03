"""Readers of what comparisons and studies leave, for hostile input: as it is found, and with checksums made to fit."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import polars as pl
import safetensors.torch
import torch

from torture.hostile.engine import Reader
from torture.hostile.mutations import mutate_json, mutate_text, smaller_json
from torture.part import ROOT
from vicinal.lab import records, stored
from vicinal.lab.cli import judge
from vicinal.lab.compare import consistency, export, model_file, report, runner, verdict
from vicinal.lab.compare.classifier import Classifier
from vicinal.lab.compare.console import print_results
from vicinal.lab.compare.predictor import Predictor
from vicinal.lab.compare.results import FORMAT
from vicinal.lab.compare.runner import RunFolder
from vicinal.lab.compare.settings import TableSettings
from vicinal.lab.compare.table_comparison import TableComparison
from vicinal.lab.data.tables import load
from vicinal.lab.paper import reproduce, store
from vicinal.lab.paper.claims import judge as judge_claims
from vicinal.lab.paper.console import format_rows
from vicinal.lab.paper.study import Job, Scale, Study

_STUDIES = ROOT / "results" / "reproduce"
_MODELS = ROOT / "tests" / "golden_files"
_TASKS = ("iris", "diabetes")  # classes, and numbers
_APART = frozenset({"subprocess.Popen"})  # predictions are decoded in a process of their own
_TEMPORARY = Path(tempfile.gettempdir())  # of the parent: its children have others


@cache
def _comparison(name: str) -> TableComparison:
    return TableComparison(load(name), TableSettings(seeds=2, epochs=1, alphas=(0.4,), hidden=(4,)))


@cache
def _made() -> Path:
    """Return a folder with a finished comparison of each task; made once, for all children of all calls."""
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(runner.__file__).parent.glob("*.py"))))
    place = _TEMPORARY / f"vicinal-hostile-comparisons-{os.getuid()}-{code.hexdigest()[:12]}"
    if not place.exists():
        root = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=_TEMPORARY))
        for name in _TASKS:
            folder = RunFolder(root / name)
            folder.open(_comparison(name))
            runner.run(_comparison(name), folder, "vicinal compare", 1, lambda done, total, runs: None)
        try:
            root.rename(place)
        except OSError:  # another process was first
            shutil.rmtree(root)
    return place


def _files(name: str) -> Callable[[], Sequence[bytes]]:
    return lambda: [(_made() / task / name).read_bytes() for task in _TASKS]


def _without_seal(raw: bytes, form: int) -> bytes:
    """Return each line of sealed JSON, or the whole, without format and checksum."""
    try:
        return json.dumps(stored.unseal(raw, form)).encode()
    except stored.Unsealed:
        return b"\n".join(json.dumps(stored.unseal(line, form)).encode() for line in raw.splitlines() if line.strip())


def _sealed(form: int, raw: bytes) -> bytes:
    """Return JSON with a checksum that fits, as somebody forges it; as it is where none can be made."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        lines = raw.splitlines()
        return raw if len(lines) < 2 else b"\n".join(_sealed(form, line) for line in lines) + b"\n"
    try:
        return stored.seal(value, form).encode() + b"\n"
    except (TypeError, ValueError, RecursionError, AttributeError):
        return raw


def _beside(name: str, raw: bytes, folder: Path) -> Path:
    """Put an input where a file of a finished comparison was, whose task is that of the input."""
    task = "diabetes" if b"rmse" in raw or b"diabetes" in raw else "iris"
    shutil.rmtree(folder / "run", ignore_errors=True)
    shutil.copytree(_made() / task, folder / "run")
    (folder / "run" / name).write_bytes(raw)
    return folder / "run"


def _task(folder: Path) -> TableComparison:
    return _comparison("diabetes" if "RMSE" in (folder / "table.md").read_text() else "iris")


def _open(folder: Path) -> None:
    RunFolder(folder).open(_task(folder))


def _resume(folder: Path) -> None:
    """Do what `vicinal compare` does before it trains and, where nothing is missing, after."""
    study, kept = _task(folder), RunFolder(folder)
    kept.open(study)
    kept.notes(study)
    if kept.missing(study):
        return
    kept.load_results(study)
    predictions = kept.predicted()
    kept.check_predictions(study, predictions)
    verdict.conclude(study, [run for run in kept.runs() if run.seed < study.settings.seeds], predictions)


def _load_results(folder: Path) -> None:
    study, kept = _task(folder), RunFolder(folder)
    kept.notes(study)
    found = kept.load_results(study)
    assert found is None or found.verdict == consistency.read(kept.results).verdict


def _show(path: Path) -> None:
    results = consistency.read(path)
    export.markdown(results)
    export.latex(results)
    with contextlib.redirect_stdout(io.StringIO()):
        print_results(results)


def _draw(path: Path) -> None:
    page = report.render(consistency.read(path))
    assert "<script" not in page.lower()


# ---- predictions -----------------------------------------------------------------------------------------------------


def _parquet() -> Sequence[bytes]:
    return [next((_made() / task / "predictions").iterdir()).read_bytes() for task in _TASKS]


def _predictions(forged: bool, raw: bytes, folder: Path) -> Path:
    """Put Parquet where predictions were; if forged, with its SHA-256 in runs.jsonl."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    run = shutil.copytree(_made() / ("diabetes" if b"prediction" in raw else "iris"), folder / "run")
    place = next((run / "predictions").iterdir())
    place.write_bytes(raw)
    if forged:
        line = stored.unseal((run / "runs.jsonl").read_bytes(), FORMAT)
        line["predictions"] = hashlib.sha256(raw).hexdigest()
        (run / "runs.jsonl").write_text(stored.seal(line, FORMAT) + "\n")
    return run


# ---- models ----------------------------------------------------------------------------------------------------------


def _model_files() -> list[bytes]:
    golden = sorted(_MODELS.rglob("model.safetensors"))
    return [*_files("model.safetensors")(), *(path.read_bytes() for path in golden)]


def _headers() -> list[bytes]:
    return [json.dumps(_split(raw)[0]).encode() for raw in _model_files()]


def _split(raw: bytes) -> tuple[Any, dict[str, torch.Tensor]]:
    size = int.from_bytes(raw[:8], "little")
    text = json.loads(raw[8 : 8 + size])["__metadata__"]["vicinal"]
    return json.loads(text), safetensors.torch.load(raw)


def _with_header(text: bytes) -> bytes:
    """Return a model file with a changed header, and a checksum that fits where one can be made."""
    raws = _model_files()
    kinds = [b'"images"' in raw[:4000] for raw in raws]
    raw = raws[kinds.index(True) if b'"images"' in text and True in kinds else 0]
    _, state = _split(raw)
    try:
        header = json.loads(text)
        fields = {key: value for key, value in header.items() if key not in ("format", "sha256")}
        sealed = stored.seal({**fields, "tensors": model_file.digest(state)}, model_file.FORMAT)
    except (ValueError, TypeError, AttributeError, RecursionError):
        sealed = text.decode("utf-8", "replace")
    return safetensors.torch.save(state, metadata={"vicinal": sealed})


def _use(path: Path) -> None:
    """Load a model as `predict` does, and predict."""
    if model_file.kind_of(path) == "table":
        predictor = Predictor.load(path)
        encoding = predictor.encoding
        columns: dict[str, Any] = {column.name: [0.5, None, 2.0] for column in encoding.numeric}
        columns |= {column.name: [*column.categories[:1], None, "new"][:3] for column in encoding.categorical}
        columns = {name: [*cells, *[None] * (3 - len(cells))] for name, cells in columns.items()}
        if columns:
            assert len(predictor.predict(pl.DataFrame(columns, strict=False))) == 3
        return
    classifier = Classifier.load(path)
    assert classifier.outputs([]).shape == (0, len(classifier.classes))


# ---- studies ---------------------------------------------------------------------------------------------------------


def _kept_jobs(study: Study, scale: Scale) -> list[Job]:
    """Return the jobs of a study whose records lie in results/, one of each type of results."""
    kept = [job for job in study.jobs(scale) if (_STUDIES / study.name / scale / f"{job.name}.json").exists()]
    return kept[:1] + kept[-1:]


def _records(study: Study) -> Callable[[], Sequence[bytes]]:
    def seeds() -> Sequence[bytes]:
        found = []
        for job in _kept_jobs(study, "small"):
            record = store.JobFolder(_STUDIES, study, "small").record(job, any_version=True)
            assert record is not None
            fields = {name: value for name, value in records.to_json(record).items() if name != "format"}
            found.append(json.dumps(fields).encode())
        return found

    return seeds


def _job(study: Study, raw: bytes, folder: Path) -> Path:
    """Put an input where the record of a job is kept: of the job that it names, or the first."""
    jobs = _kept_jobs(study, "small")
    job = next((job for job in reversed(jobs) if f'"{job.name}"'.encode() in raw), jobs[0])
    shutil.rmtree(folder / study.name, ignore_errors=True)
    (folder / study.name / "small").mkdir(parents=True)
    (folder / study.name / "small" / f"{job.name}.json").write_bytes(raw)
    return folder


def _tables(study: Study, folder: Path) -> None:
    """Make the tables and claims that `vicinal reproduce` makes of what is there."""
    kept = store.JobFolder(folder, study, "small")
    done = {name: record.results for name, record in kept.records(any_version=True).items()}
    with kept.fitting():
        format_rows(study, "small", study.rows("small", done))
        judge_claims(study.claims("small", done))


def _of_study(study: Study) -> Reader:
    return Reader(
        f"job-{study.name}",
        _records(study),
        partial(_tables, study),
        mutate_json,
        wrap=partial(_sealed, store.FORMAT),
        deliver=partial(_job, study),
        smaller=smaller_json,
        seconds=20.0,
    )


# ---- judge -----------------------------------------------------------------------------------------------------------


def _scores() -> Sequence[bytes]:
    rows = [f"{m},{s},{0.1 * s + 0.01 * len(m):.3f}" for m in ("ERM", "mixup", "cutmix") for s in range(5)]
    return [("method,seed,score\n" + "\n".join(rows) + "\n").encode()]


def _judge(path: Path) -> None:
    """Judge as the command does."""
    parser = argparse.ArgumentParser()
    judge.add_arguments(parser)
    with contextlib.redirect_stdout(io.StringIO()):
        judge.run(parser.parse_args([str(path), "--independent"]))


READERS: list[Reader] = [
    Reader("comparison-config", _files("config.json"), _open, mutate_json, deliver=partial(_beside, "config.json")),
    Reader(
        "comparison-config-forged",
        lambda: [_without_seal(raw, FORMAT) for raw in _files("config.json")()],
        _open,
        mutate_json,
        wrap=partial(_sealed, FORMAT),
        deliver=partial(_beside, "config.json"),
        smaller=smaller_json,
    ),
    Reader(
        "comparison-runs",
        _files("runs.jsonl"),
        _resume,
        mutate_json,
        deliver=partial(_beside, "runs.jsonl"),
        allowed=_APART,
    ),
    Reader(
        "comparison-runs-forged",
        lambda: [_without_seal(raw, FORMAT) for raw in _files("runs.jsonl")()],
        _resume,
        mutate_json,
        wrap=partial(_sealed, FORMAT),
        deliver=partial(_beside, "runs.jsonl"),
        smaller=smaller_json,
        allowed=_APART,
        seconds=20.0,
    ),
    Reader("comparison-results", _files("results.json"), _show, mutate_json, suffix=".json"),
    Reader(
        "comparison-results-forged",
        lambda: [_without_seal(raw, FORMAT) for raw in _files("results.json")()],
        _show,
        mutate_json,
        wrap=partial(_sealed, FORMAT),
        suffix=".json",
        smaller=smaller_json,
    ),
    Reader(
        "comparison-results-kept",
        lambda: [_without_seal(raw, FORMAT) for raw in _files("results.json")()],
        _load_results,
        mutate_json,
        wrap=partial(_sealed, FORMAT),
        deliver=partial(_beside, "results.json"),
        smaller=smaller_json,
    ),
    Reader(
        "comparison-page",
        lambda: [_without_seal(raw, FORMAT) for raw in _files("results.json")()],
        _draw,
        mutate_json,
        wrap=partial(_sealed, FORMAT),
        suffix=".json",
        smaller=smaller_json,
        seconds=30.0,
    ),
    Reader("comparison-predictions", _parquet, _resume, deliver=partial(_predictions, False), allowed=_APART),
    Reader(
        "comparison-predictions-forged",
        _parquet,
        _resume,
        deliver=partial(_predictions, True),
        allowed=_APART,
        seconds=20.0,
    ),
    Reader("model", _model_files, _use, suffix=".safetensors"),
    Reader(
        "model-forged",
        _headers,
        _use,
        mutate_json,
        wrap=_with_header,
        suffix=".safetensors",
        smaller=smaller_json,
    ),
    *map(_of_study, reproduce.STUDIES),
    Reader("judge-csv", _scores, _judge, mutate_text, suffix=".csv"),
    Reader(
        "judge-json",
        lambda: [pl.read_csv(raw).write_json().encode() for raw in _scores()],
        _judge,
        mutate_json,
        suffix=".json",
        smaller=smaller_json,
    ),
]
