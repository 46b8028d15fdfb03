"""Runs a comparison on all cores, keeps every finished run, and resumes where it stopped.

The run folder:

    config.json          what is compared; another comparison is refused this folder
    runs.jsonl           one line for what a process finished at once (a stack of small models, or one model)
    results.json         every figure of every run, the summary and the verdict
    report.html          the same as a page
    table.md, table.tex  its table of methods, for a text
    predictions/         what every run answers to every test example
    model.safetensors    the model that validation data recommend, with its preprocessing
    jobs/                logs of a cluster's jobs
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from vicinal.lab import atomic, executor, provenance, records
from vicinal.lab.compare import verdict, words
from vicinal.lab.compare.comparison import ERM_FAMILY, Comparison, RunId
from vicinal.lab.compare.predictions import MeasuredRun, PredictionFolder, RunPredictions
from vicinal.lab.compare.results import FORMAT, MixedExamples, Protocol, Results, RunRecord, SavedModel
from vicinal.lab.errors import UserError

AnyComparison = Comparison[Any, Any]
OnProgress = Callable[[int, int, list[RunRecord]], None]


class RunFolder:
    """A run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results.json"
        self.report = path / "report.html"
        self.model = path / "model.safetensors"
        self._config = path / "config.json"
        self._runs = path / "runs.jsonl"
        self.predictions = PredictionFolder(path / "predictions")

    def open(self, comparison: AnyComparison) -> None:
        """Make the folder, or take up the same comparison in it.

        Raises:
            UserError: it holds something else.

        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self._config.exists():
                self._begin(comparison)
            config = json.loads(self._config.read_text())
            found, written = config["fingerprint"], config.get("format", 1)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"the folder {self.path} cannot be used ({reason}); choose another --out") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self._config} cannot be read; choose another --out") from error
        if written != FORMAT:
            raise UserError(
                f"{self.path} was written by another version (format {written}, and this one writes {FORMAT}); choose "
                "another --out, or remove that folder"
            )
        if found != comparison.fingerprint():
            raise UserError(
                f"{self.path} holds another comparison (other data, options or version); choose another --out, or remove "
                "that folder"
            )

    def _begin(self, comparison: AnyComparison) -> None:
        if any(not atomic.is_partial(found) for found in self.path.iterdir()):
            raise UserError(f"{self.path} is there already and is not a comparison; choose another --out")
        config = {"format": FORMAT, "fingerprint": comparison.fingerprint(), "data": comparison.name}
        atomic.write(self._config, json.dumps(config | {"settings": asdict(comparison.settings)}, indent=1))

    def chunks(self) -> list[list[RunRecord]]:
        """Return what was finished at once, in that order; what lost its predictions is not there."""
        found = records.from_json(list[list[RunRecord]], atomic.json_lines(self._runs))
        return [chunk for chunk in found if self.predictions.holds([run.key for run in chunk])]

    def runs(self) -> list[RunRecord]:
        """Return the runs that are finished; each once, should two commands have worked here at the same time."""
        return list({run.key: run for chunk in self.chunks() for run in chunk}.values())

    def missing(self, comparison: AnyComparison) -> list[RunId]:
        """Return the runs of a comparison that are not finished; there may be more seeds from another time."""
        finished = {run.key for run in self.runs()}
        return [run for run in comparison.runs if run not in finished]

    def predicted(self) -> dict[RunId, RunPredictions]:
        """Return the predictions of the runs that are finished, each beside its record in `runs`."""
        return self.predictions.read([run.key for run in chunk] for chunk in self.chunks())

    def append(self, comparison: AnyComparison, runs: Sequence[MeasuredRun]) -> None:
        """Keep finished runs: their predictions first, so that no record is without."""
        self.predictions.write(runs, comparison.data.target, comparison.data.classes)
        atomic.append_line(self._runs, json.dumps(records.to_json([run.record for run in runs]), allow_nan=False))

    def load_results(self, seeds: int) -> Results | None:
        """Return what results.json holds, if the comparison was finished with these seeds and its model is there."""
        if not self.model.exists():
            return None
        try:
            results = records.from_json(Results, json.loads(self.results.read_text()))
            return results if results.protocol.seeds == seeds else None
        except (FileNotFoundError, ValueError, TypeError):
            return None


def run(
    comparison: AnyComparison,
    folder: RunFolder,
    command: str,
    processes: int,
    on_progress: OnProgress,
    cluster: str | None = None,
) -> Results:
    """Run what is not yet finished, conclude, and write results, report and model.

    Args:
        comparison: checked.
        folder: opened for it.
        command: that the user gave, for the record.
        processes: how many train at once; runs that are quick are trained in this one.
        on_progress: called a few times per second with (run-epochs done, run-epochs in all, the runs finished); with a
            cluster when a job ends.
        cluster: as of `executor.run`, instead of processes.

    Returns:
        What results.json holds.

    """
    asked, missing = set(comparison.runs), folder.missing(comparison)
    done = [run for run in folder.runs() if run.key in asked]
    total, before = len(asked) * comparison.epochs, len(done) * comparison.epochs
    ticks = 0

    def advance(now: int) -> None:
        nonlocal ticks
        ticks = now
        on_progress(max(before + ticks, len(done) * comparison.epochs), total, done)  # a cluster has no ticks

    advance(0)
    results = None if missing else folder.load_results(comparison.settings.seeds)
    if results is None:
        processes = 1 if cluster or comparison.is_quick(len(missing)) else processes
        chunks = comparison.chunks(missing, processes)
        jobs = executor.run(
            partial(_train, comparison),
            chunks,
            processes=processes,
            cluster=cluster,
            folder=folder.path,
            on_progress=advance,
        )
        with closing(jobs):
            for _, runs in jobs:
                folder.append(comparison, runs)
                done.extend(run.record for run in runs)
                advance(ticks)
        results = _conclude(comparison, done, folder, command)
        atomic.write(folder.results, json.dumps(records.to_json(results), indent=1, allow_nan=False))

    from vicinal.lab.compare import export, report  # brings matplotlib, which takes a second

    report.write(results, folder.report)
    export.write(results, folder.path)
    return results


def _train(comparison: AnyComparison, chunk: Sequence[RunId]) -> list[MeasuredRun]:
    ticks = 0

    def count(runs: int) -> None:
        nonlocal ticks
        ticks += runs
        executor.tick(runs)

    with executor.one_thread():
        runs = comparison.train(chunk, count)
    executor.tick(len(chunk) * comparison.epochs - ticks)  # those that stopped early are done too
    return runs


def _conclude(comparison: AnyComparison, runs: Sequence[RunRecord], folder: RunFolder, command: str) -> Results:
    names = [method.name for method in comparison.methods]
    runs = sorted(runs, key=lambda run: (run.seed, names.index(run.method)))
    conclusion = verdict.conclude(comparison, runs, folder.predicted())
    model = _save_model(comparison, runs, folder)
    mixing = [method.name for method in comparison.networks if method.family != ERM_FAMILY]
    shown = conclusion.choice.recommended if conclusion.choice else mixing[0]
    examples = comparison.mixed_examples(shown)
    return Results(
        **provenance.made_now(command, "torch", "numpy", "scikit-learn", "scipy", "polars"),
        data=comparison.data_info(),
        protocol=_protocol(comparison),
        methods=comparison.methods,
        runs=runs,
        **vars(conclusion),
        model=model,
        examples=MixedExamples(shown, examples) if examples else None,
    )


def _protocol(comparison: AnyComparison) -> Protocol:
    as_set = (
        "seeds",
        "learning_rate",
        "weight_decay",
        "patience",
        "to_the_end",
        "label_noise",
        "input_noise",
    )
    train, validation, test = comparison.sizes
    return Protocol(
        **{name: getattr(comparison.settings, name) for name in as_set},
        batch_size=comparison.batch_size,
        epochs=comparison.epochs,
        steps=comparison.epochs * comparison.steps_per_epoch,
        train_examples=train,
        validation_examples=validation,
        test_examples=test,
        measure=comparison.measure.name,
        decays=list(comparison.settings.decays),
        splits=comparison.splitting.how,
        model=comparison.model_info(),
        statistics=words.statistics_in_words(comparison),
        limitations=words.limitations(comparison),
    )


def _save_model(comparison: AnyComparison, runs: Sequence[RunRecord], folder: RunFolder) -> SavedModel:
    """Train the model to keep on all examples: the method best on validation data, for as long as was best there."""
    by_method = {one.name: [run for run in runs if run.method == one.name] for one in comparison.networks}
    method = verdict.best_method(comparison.networks, by_method, comparison.measure.name)
    epochs = max(1, round(statistics.median(run.epochs for run in by_method[method.name])))
    with executor.one_thread():
        state = comparison.refit(method.name, epochs)
    test = {name: fmean(run.test[name] for run in by_method[method.name]) for name in by_method[method.name][0].test}
    about = {"data": comparison.name, "vicinity": method.vicinity, "epochs": epochs, "test": test}
    folder.results.unlink(missing_ok=True)  # of other seeds; they tell of the model that is replaced here
    usage = comparison.save_model(folder.model, state, about)
    return SavedModel(folder.model.name, method.name, epochs, usage)
