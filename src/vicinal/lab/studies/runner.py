"""Runs a comparison on all cores, keeps every finished run, and goes on where it stopped.

The run folder:

    config.json          what is compared; another comparison is refused this folder
    runs.jsonl           one line a finished fleet of runs, written as it finishes
    results.json         every figure of every run, the summary and the verdict
    report.html          the same as a page
    model.safetensors    the network that validation data recommend, with its preprocessing
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import vicinal
from vicinal.lab import files
from vicinal.lab.data.encoding import Encoding
from vicinal.lab.errors import UserError
from vicinal.lab.models.mlp import MLP
from vicinal.lab.predictor import Predictor
from vicinal.lab.studies import compare, workers
from vicinal.lab.studies.compare import Study

FLEET = 20  # runs trained together: more leave the cache (docs/performance.md)

Progress = Callable[[int, int, list[dict[str, Any]]], None]


class Folder:
    """A run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results.json"
        self.report = path / "report.html"
        self.model = path / "model.safetensors"
        self._config = path / "config.json"
        self._runs = path / "runs.jsonl"

    def claim(self, study: Study) -> None:
        """Make the folder, or take up the same comparison in it.

        Raises:
            UserError: it holds something else.

        """
        fingerprint = study.fingerprint()
        config = {"fingerprint": fingerprint, "data": study.table.name, "settings": asdict(study.settings)}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self._config.exists():
                if any(not files.is_partial(found) for found in self.path.iterdir()):
                    raise UserError(f"{self.path} is there already and is not a comparison; choose another --out")
                files.write(self._config, json.dumps(config, indent=1))
            found = json.loads(self._config.read_text())["fingerprint"]
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"the folder {self.path} cannot be used ({reason}); choose another --out") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self._config} cannot be read; choose another --out") from error
        if found != fingerprint:
            raise UserError(
                f"{self.path} holds another comparison (other data, options or version); choose another --out, or remove "
                "that folder"
            )

    def runs(self) -> list[dict[str, Any]]:
        """Give the runs that are finished; each once, should two commands have worked here at the same time."""
        runs = (run for line in files.json_lines(self._runs) for run in line)
        return list({(run["method"], run["seed"]): run for run in runs}.values())

    def keep(self, runs: list[dict[str, Any]]) -> None:
        """Keep finished runs."""
        files.append_line(self._runs, json.dumps(runs))

    def concluded(self) -> dict[str, Any] | None:
        """Give what results.json holds, if the comparison was finished and its model is there."""
        if not self.model.exists():
            return None
        try:
            return json.loads(self.results.read_text())
        except (FileNotFoundError, ValueError):
            return None


def run(study: Study, folder: Folder, command: str, jobs: int, progress: Progress) -> dict[str, Any]:
    """Run what is not yet finished, conclude, and write results, report and model.

    Args:
        study: the comparison, checked.
        folder: claimed for it.
        command: that the user gave, for the record.
        jobs: processes.
        progress: called a few times a second with (run-epochs done, run-epochs in all, the runs finished).

    Returns:
        What results.json holds.

    """
    done = folder.runs()
    finished = {(run["method"], run["seed"]) for run in done}
    names = [method.name for method in study.methods]
    missing = [s for s in range(study.settings.seeds) if any((name, s) not in finished for name in names)]
    epochs = study.training.epochs
    total = study.settings.seeds * len(names) * epochs
    before = total - len(missing) * len(names) * epochs
    done = [run for run in done if run["seed"] not in missing]
    progress(before, total, done)
    earlier = None if missing else folder.concluded()
    if earlier is None:
        chunks = _chunks(missing, len(names), jobs)
        with workers.Pool(study, chunks, jobs) as pool:
            for runs, ticks in pool.fleets():
                if runs:
                    folder.keep(runs)
                    done.extend(runs)
                progress(before + ticks, total, done)
            results = _results(study, done, _record(study, command))
            results["model"] = _save_model(study, results, folder, pool)
        files.write(folder.results, json.dumps(finite(results), indent=1, allow_nan=False))
    else:
        results = _results(study, done, earlier)

    from vicinal.lab.report import page  # brings matplotlib, which takes a second

    page.write(results, folder.report)
    return results


def _results(study: Study, runs: list[dict[str, Any]], record: dict[str, Any]) -> dict[str, Any]:
    names = [method.name for method in study.methods]
    runs = sorted(runs, key=lambda run: (run["seed"], names.index(run["method"])))
    return record | {"runs": runs} | compare.conclude(study, runs)


def finite(value: Any) -> Any:
    """Put null where a measure is not a finite number, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _chunks(seeds: Sequence[int], methods: int, jobs: int) -> list[list[int]]:
    """Cut the seeds into fleets of about equal size, as many as fill the processes evenly."""
    if not seeds:
        return []
    count = math.ceil(len(seeds) * methods / FLEET)
    count = min(len(seeds), math.ceil(count / jobs) * jobs)
    bounds = [round(i * len(seeds) / count) for i in range(count + 1)]
    return [list(seeds[a:b]) for a, b in pairwise(bounds)]


def _record(study: Study, command: str) -> dict[str, Any]:
    """Give what was run, on what, with what."""
    table, settings, training = study.table, study.settings, study.training
    rows = compare.split(table, 0)
    counts = [int((table.target == i).sum()) for i in range(study.classes)]
    packages = ("torch", "numpy", "scikit-learn", "scipy", "polars")
    return {
        "format": 1,
        "vicinal": vicinal.__version__,
        "command": command,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "data": {
            "name": table.name,
            "source": table.source,
            "rows": len(table),
            "numbers": len(table.number_names),
            "categories": len(table.category_names),
            "inputs": Encoding.fit(table, rows.train).width,
            "task": table.task,
            "target": table.target_name,
            "classes": list(table.classes),
            "class_counts": counts,
            "missing_cells": table.missing_cells,
            "sha256": table.fingerprint(),
        },
        "protocol": {
            "seeds": settings.seeds,
            "epochs": training.epochs,
            "steps": training.steps(len(rows.train)),
            "batch": training.batch,
            "hidden": list(training.hidden),
            "optimizer": "AdamW" if training.weight_decay else "Adam",
            "learning_rate": training.learning_rate,
            "weight_decay": training.weight_decay,
            "patience": training.patience,
            "train_rows": len(rows.train),
            "validation_rows": len(rows.validation),
            "test_rows": len(rows.test),
            "noise": settings.noise,
            "perturb": settings.perturb,
            "measure": study.measure,
            "statistics": compare.statistics_in_words(study),
            "not_done": compare.not_done(study),
        },
        "methods": [{"name": m.name, "vicinity": m.text, "family": m.family, "alpha": m.alpha} for m in study.methods],
    }


def processor() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _save_model(study: Study, results: dict[str, Any], folder: Folder, pool: workers.Pool) -> dict[str, Any]:
    """Train the network to keep: the method best on validation rows over all seeds, at the seed where it is best there."""

    def on_validation(method: compare.Method) -> tuple[float, ...]:
        scores = [compare.validation_score(study, r) for r in results["runs"] if r["method"] == method.name]
        return tuple(sum(column) / len(scores) for column in zip(*scores, strict=True))

    method = min(study.methods, key=on_validation)
    best = min(
        (r for r in results["runs"] if r["method"] == method.name), key=lambda r: compare.validation_score(study, r)
    )
    # the same run again, to where its weights were taken
    state = pool.network(method.name, best["seed"], best["epochs"])
    encoding = Encoding.fit(study.table, compare.split(study.table, best["seed"]).train)
    network = MLP(encoding.width, study.settings.hidden, study.classes or 1)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    test = {name: value for name, value in best["test"].items() if name != "reliability"}
    about = {"data": study.table.name, "vicinity": method.text, "seed": best["seed"], "test": test}
    Predictor(network, encoding, about).save(folder.model)
    usage = "\n".join(
        [
            "import polars",
            "from vicinal.lab.predictor import Predictor",
            f"predictor = Predictor.load({folder.model.as_posix()!r})",
            'rows = polars.read_csv("new_rows.csv")  # the columns of the training table',
            "print(predictor.predict(rows))",
        ]
    )
    return {"file": folder.model.name, "method": method.name, "seed": best["seed"], "usage": usage}
