"""Runs a comparison on all cores, keeps every finished run, and goes on where it stopped.

The run folder:

    config.json          what is compared; another comparison is refused this folder
    runs.jsonl           one line for what a process finished at once (a fleet of small models, or one model)
    results.json         every figure of every run, the summary and the verdict
    report.html          the same as a page
    model.safetensors    the model that validation data recommend, with its preprocessing
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import vicinal
from vicinal.lab import atomic, executor, provenance
from vicinal.lab.compare import comparison
from vicinal.lab.compare.comparison import Comparison, RunId
from vicinal.lab.errors import UserError

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

    def claim(self, study: Comparison) -> None:
        """Make the folder, or take up the same comparison in it.

        Raises:
            UserError: it holds something else.

        """
        fingerprint = study.fingerprint()
        config = {"fingerprint": fingerprint, "data": study.name, "settings": asdict(study.settings)}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self._config.exists():
                if any(not atomic.is_partial(found) for found in self.path.iterdir()):
                    raise UserError(f"{self.path} is there already and is not a comparison; choose another --out")
                atomic.write(self._config, json.dumps(config, indent=1))
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
        runs = (run for line in atomic.json_lines(self._runs) for run in line)
        return list({(run["method"], run["seed"]): run for run in runs}.values())

    def keep(self, runs: list[dict[str, Any]]) -> None:
        """Keep finished runs."""
        atomic.append_line(self._runs, json.dumps(runs))

    def concluded(self) -> dict[str, Any] | None:
        """Give what results.json holds, if the comparison was finished and its model is there."""
        if not self.model.exists():
            return None
        try:
            return json.loads(self.results.read_text())
        except (FileNotFoundError, ValueError):
            return None


def run(study: Comparison, folder: Folder, command: str, jobs: int, progress: Progress) -> dict[str, Any]:
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
    missing = [name for name in study.names if name not in finished]
    epochs = study.epochs
    total, before = len(study.names) * epochs, len(finished) * epochs
    progress(before, total, done)
    earlier = None if missing else folder.concluded()
    if earlier is None:
        ticks = 0

        def advance(now: int) -> None:
            nonlocal ticks
            ticks = now
            progress(before + ticks, total, done)

        pieces = study.pieces(missing, jobs)
        for _, runs in executor.run(partial(_train, study), pieces, processes=jobs, on_progress=advance):
            folder.keep(runs)
            done.extend(runs)
            advance(ticks)
        results = _results(study, done, _record(study, command))
        results["model"] = _save_model(study, results, folder)
        mixing = [method.name for method in study.methods if method.family != comparison.ERM_FAMILY]
        shown = (results["choice"] or {}).get("recommended", mixing[0])
        if examples := study.examples(shown):
            results["examples"] = {"method": shown, "shown": examples}
        atomic.write(folder.results, json.dumps(atomic.without_nan(results), indent=1, allow_nan=False))
    else:
        results = _results(study, done, earlier)

    from vicinal.lab.compare import report  # brings matplotlib, which takes a second

    report.write(results, folder.report)
    return results


def _train(study: Comparison, piece: Sequence[RunId]) -> list[dict[str, Any]]:
    ticks = 0

    def count(runs: int) -> None:
        nonlocal ticks
        ticks += runs
        executor.tick(runs)

    with executor.one_thread():
        records = study.train(piece, count)
    executor.tick(len(piece) * study.epochs - ticks)  # those that stopped early are done too
    return records


def _results(study: Comparison, runs: list[dict[str, Any]], record: dict[str, Any]) -> dict[str, Any]:
    names = [method.name for method in study.methods]
    runs = sorted(runs, key=lambda run: (run["seed"], names.index(run["method"])))
    return record | {"runs": runs} | comparison.conclude(study, runs)


def _record(study: Comparison, command: str) -> dict[str, Any]:
    """Give what was run, on what, with what."""
    settings = study.settings
    data, training = study.describe()
    train, validation, test = study.sizes
    return {
        "format": 1,
        "vicinal": vicinal.__version__,
        "command": command,
        "created": provenance.now(),
        "versions": provenance.versions("torch", "numpy", "scikit-learn", "scipy", "polars"),
        "machine": provenance.machine(),
        "data": {
            "name": study.name,
            "kind": study.kind,
            "task": study.task,
            "rows": sum(study.sizes),
            "sha256": study.data_fingerprint(),
            **data,
        },
        "protocol": {
            "seeds": settings.seeds,
            "epochs": study.epochs,
            "batch": settings.batch,
            "learning_rate": settings.learning_rate,
            "weight_decay": settings.weight_decay,
            "patience": settings.patience,
            "train_rows": train,
            "validation_rows": validation,
            "test_rows": test,
            "noise": settings.noise,
            "perturb": settings.perturb,
            "measure": study.measure,
            "statistics": comparison.statistics_in_words(study),
            "not_done": [*comparison.not_done(study), *study.not_done()],
            **training,
        },
        "methods": [{"name": m.name, "vicinity": m.text, "family": m.family, "alpha": m.alpha} for m in study.methods],
    }


def _save_model(study: Comparison, results: dict[str, Any], folder: Folder) -> dict[str, Any]:
    """Train the model to keep: the method best on validation data over all seeds, at the seed where it is best there."""

    def on_validation(method: comparison.Method) -> tuple[float, ...]:
        scores = [comparison.validation_score(study, r) for r in results["runs"] if r["method"] == method.name]
        return tuple(sum(column) / len(scores) for column in zip(*scores, strict=True))

    method = min(study.methods, key=on_validation)
    best = min(
        (r for r in results["runs"] if r["method"] == method.name), key=lambda r: comparison.validation_score(study, r)
    )
    # the same run again, to where its weights were taken
    with executor.one_thread():
        state = study.model(method.name, best["seed"], best["epochs"])
    test = {name: value for name, value in best["test"].items() if name != "reliability"}
    about = {"data": study.name, "vicinity": method.text, "seed": best["seed"], "test": test}
    usage = study.save_model(folder.model, state, best["seed"], about)
    return {"file": folder.model.name, "method": method.name, "seed": best["seed"], "usage": usage}
