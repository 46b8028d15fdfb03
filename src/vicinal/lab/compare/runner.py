"""Runs a comparison on all cores, keeps every finished run, and resumes where it stopped.

The run folder:

    config.json          what is compared; another comparison is refused this folder
    runs.jsonl           one line for what a process finished at once (a stack of small models, or one model), with the
                         SHA-256 of the file of its predictions
    results.json         every figure of every run, the summary and the verdict
    report.html          the same as a page
    table.md, table.tex  its table of methods, for a text
    predictions/         what every run answers to every test example
    model.safetensors    the model that validation data recommend, with its preprocessing
    jobs/                logs of a cluster's jobs
    .lock                while a process works there
"""

from __future__ import annotations

import hashlib
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import vicinal
from vicinal.lab import atomic, executor, limits, provenance, records, stored
from vicinal.lab.compare import consistency, verdict, words
from vicinal.lab.compare.comparison import ERM_FAMILY, Comparison, RunId, chosen_name
from vicinal.lab.compare.predictions import MeasuredRun, PredictionFolder, RunPredictions
from vicinal.lab.compare.results import FORMAT, LEVEL, MixedExamples, Protocol, Results, RunRecord, SavedModel
from vicinal.lab.compare.settings import FOLDER_OPTIONS, OPTIONS
from vicinal.lab.errors import UserError
from vicinal.lab.format import counted

AnyComparison = Comparison[Any, Any]
OnProgress = Callable[[int, int, list[RunRecord]], None]

_LOCK = ".lock"
_FILES = ("config.json", "runs.jsonl", "results.json", "report.html", "model.safetensors", "table.md", "table.tex")


@dataclass(frozen=True)
class Config:
    """What is compared in a folder: config.json.

    Args:
        fingerprint: of the comparison.
        vicinal: the version that runs it.
        data: name of the data.
        data_sha256: of the data.
        settings: those of the comparison, by their names.

    """

    fingerprint: str
    vicinal: str
    data: str
    data_sha256: str
    settings: dict[str, Any]

    @classmethod
    def of(cls, comparison: AnyComparison) -> Config:
        """Return what decides the result of a comparison."""
        settings = records.to_json(asdict(comparison.settings))
        about = vicinal.__version__, comparison.name, comparison.data_digest
        return cls(comparison.fingerprint(), *about, settings)


@dataclass(frozen=True)
class Chunk:
    """What a process finished at once: a line of runs.jsonl.

    Args:
        predictions: SHA-256 of the file of its predictions.
        runs: their records.

    """

    predictions: str
    runs: list[RunRecord]

    @property
    def keys(self) -> list[RunId]:
        """Method and seed of each run."""
        return [run.key for run in self.runs]


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

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and keep other processes out of it while the `with` lasts; the system lets go of it at a crash.

        Raises:
            UserError: another process works there, or no folder can be there.

        """
        lock = self.path / _LOCK
        with ExitStack() as stack:
            with self._usable():
                self.path.mkdir(parents=True, exist_ok=True)
                mine = stack.enter_context(atomic.locked(lock))
            if not mine:
                raise UserError(f"another process works in {self.path}; wait for it, or choose another --out")
            try:
                yield
            finally:
                with suppress(OSError):  # it is held, and not in the way
                    lock.unlink()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"the folder {self.path} cannot be used ({reason}); choose another --out") from error

    def open(self, comparison: AnyComparison) -> None:
        """Make the folder, or take up the same comparison in it.

        Raises:
            UserError: it holds something else.

        """
        with self._usable():
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(self._config):
                self._begin(comparison)
        try:
            limits.check_kept(self.path, _FILES)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"{error.filename} cannot be used ({reason}); choose another --out") from error
        kept, now = self._read_config(), Config.of(comparison)
        if kept.fingerprint != now.fingerprint:
            differs = "; ".join(_differences(kept, now))
            raise UserError(
                f"{self.path} holds another comparison ({differs}); choose another --out, or remove that folder"
            )

    def _begin(self, comparison: AnyComparison) -> None:
        if any(found.name != _LOCK and not atomic.is_partial(found) for found in self.path.iterdir()):
            raise UserError(f"{self.path} is there already and is not a comparison; choose another --out")
        stored.write(self._config, records.to_json(Config.of(comparison)), FORMAT, indent=1)

    def _read_config(self) -> Config:
        advice = "choose another --out, or remove that folder"
        try:
            return records.from_json(Config, stored.unseal(limits.read_bytes(self._config), FORMAT))
        except stored.OtherFormat as error:
            raise UserError(
                f"{self.path} was written by another version (format {error.found}, and this one writes {FORMAT}); {advice}"
            ) from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"{self._config} cannot be read ({reason}); {advice}") from error
        except (stored.Unsealed, records.Mismatch) as error:
            raise UserError(f"{self._config} cannot be used: {error}; {advice}") from error

    def chunks(self) -> list[Chunk]:
        """Return what was finished at once, in that order; what lost its predictions is not there."""
        return [chunk for chunk in self._lines()[0] if self.predictions.holds(chunk.keys, chunk.predictions)]

    def _lines(self) -> tuple[list[Chunk], int]:
        """Return the lines of runs.jsonl, and how many are not what was written, as after a crash or an edit."""
        return atomic.readable_lines(self._runs, _read_line)

    def runs(self) -> list[RunRecord]:
        """Return the runs that are finished; each once, should two commands have worked here at the same time."""
        return list({run.key: run for chunk in self.chunks() for run in chunk.runs}.values())

    def notes(self, comparison: AnyComparison) -> list[str]:
        """Return what is odd about what is kept: runs that are lost and trained again, and runs of further seeds."""
        lines, bad = self._lines()
        recorded, runs = {run.key for line in lines for run in line.runs}, self.runs()
        missing, found = set(comparison.runs) - {run.key for run in runs}, []
        if lost := len(missing & recorded):
            found.append(
                f"{counted(lost, 'run')} kept in {self.path} lost {'its' if lost == 1 else 'their'} predictions, which "
                f"{self.predictions.path} does not hold as they were written: {_these(lost)} trained again"
            )
        if bad and missing:
            found.append(
                f"{counted(bad, 'line')} of {self._runs} cannot be read, as after a crash or an edit: what is missing is "
                "trained again"
            )
        seeds, asked = len({run.seed for run in runs}), comparison.settings.seeds
        if seeds > asked:
            found.append(
                f"{self.path} holds runs of {seeds} seeds, which are kept; results, report and model are now of the first "
                f"{asked}"
            )
        model = None if missing else self._unlike_results(comparison)
        return [*found, model] if model else found

    def _unlike_results(self, comparison: AnyComparison) -> str | None:
        """Describe what is wrong with results or model where all runs are there and both should be."""
        if not self.results.exists():
            return None
        try:
            results = self._read_results(comparison)
        except (stored.Unsealed, records.Mismatch) as error:
            return f"{self.results} cannot be used: {error}; it is written again, and the model too"
        if results is not None and not self._holds_model(results):
            return f"{self.model} is not the model that {self.results.name} tells of: it is trained again"
        return None

    def missing(self, comparison: AnyComparison) -> list[RunId]:
        """Return the runs of a comparison that are not finished; there may be more seeds from another time."""
        finished = {run.key for run in self.runs()}
        return [run for run in comparison.runs if run not in finished]

    def predicted(self) -> dict[RunId, RunPredictions]:
        """Return the predictions of the runs that are finished, each beside its record in `runs`.

        Raises:
            UserError: a file is not what was written.

        """
        return self.predictions.read((chunk.keys, chunk.predictions) for chunk in self.chunks())

    def check_predictions(self, comparison: AnyComparison, found: Mapping[RunId, RunPredictions]) -> None:
        """Refuse runs or predictions that are not of a comparison's test examples and measures.

        Raises:
            UserError: naming the file.

        """
        for chunk in self.chunks():
            for run in chunk.runs:
                if run.key in found and not _fits(run, found[run.key], comparison):
                    raise UserError(
                        f"{self.predictions.file(chunk.keys)} and {self._runs.name} do not hold scores and predictions of "
                        f"{run.method!r} and seed {run.seed} for the test {comparison.noun}; remove that file and rerun the "
                        "same command, which trains its runs again"
                    )

    def append(self, comparison: AnyComparison, runs: Sequence[MeasuredRun]) -> None:
        """Keep finished runs: their predictions first, so that no record is without."""
        sha256 = self.predictions.write(runs, comparison.data.target, comparison.data.classes)
        line = records.to_json(Chunk(sha256, [run.record for run in runs]))
        atomic.append_line(self._runs, stored.seal(line, FORMAT))

    def load_results(self, comparison: AnyComparison) -> Results | None:
        """Return what results.json holds, if this comparison was finished with its seeds and its model is there."""
        try:
            results = self._read_results(comparison)
        except (stored.Unsealed, records.Mismatch):  # `notes` says so
            return None
        return results if results and self._holds_model(results) else None

    def _read_results(self, comparison: AnyComparison) -> Results | None:
        """Return what results.json holds; None where it is of other seeds, or not there.

        Raises:
            stored.Unsealed: it is not what was written.
            records.Mismatch: its fields are others, contradict themselves, or tell of other runs.

        """
        try:
            results: Results = records.from_json(Results, stored.unseal(limits.read_bytes(self.results), FORMAT))
        except OSError as error:
            raise stored.Unsealed((error.strerror or str(error)).lower()) from error
        consistency.check(results)
        if results.protocol.seeds != comparison.settings.seeds:
            return None
        kept = {run.key: run for run in self.runs()}
        alike = all(_alike(run, kept.get(run.key)) for run in results.runs)
        if not alike or results.data.sha256 != comparison.data_digest or results.methods != comparison.methods:
            raise records.Mismatch(f"it tells of other runs than {self._runs.name}")
        return results

    def write_results(self, results: Results) -> None:
        """Write results.json, whole."""
        stored.write(self.results, records.to_json(results), FORMAT, indent=1)

    def _holds_model(self, results: Results) -> bool:
        """Return True if the model is the one that results tell of, or if they tell why there is none."""
        if results.model is None:
            return bool(results.no_model) and not self.model.exists()
        return self.model.is_file() and self.digest_of_model() == results.model.sha256

    def digest_of_model(self) -> str:
        """Return the SHA-256 of the model's file."""
        return hashlib.sha256(limits.read_bytes(self.model)).hexdigest()


def _these(count: int) -> str:
    return "it is" if count == 1 else "they are"


def _read_line(line: bytes) -> Chunk:
    chunk: Chunk = records.from_json(Chunk, stored.unseal(line, FORMAT))
    for i, run in enumerate(chunk.runs):
        consistency.check_run(run, f"runs[{i}]")
    return chunk


def _alike(run: RunRecord, other: RunRecord | None) -> bool:
    """Return True for two records of the same run; nan is nan."""
    return other is not None and records.to_json(run) == records.to_json(other)


def _fits(run: RunRecord, of: RunPredictions, comparison: AnyComparison) -> bool:
    """Return True if a run and its predictions are of a comparison's test examples and measures."""
    shape = (len(of.rows), comparison.classes) if comparison.classes else (len(of.rows),)
    test = comparison.split(run.seed).test
    if of.outputs.shape != shape or (of.nll is None) == bool(comparison.classes):
        return False
    wanted = consistency.MEASURED[comparison.task]
    perturbed = comparison.settings.input_noise is not None
    parts = [run.train, run.validation, run.test, *([run.perturbed or {}] if perturbed else [])]
    if not all(part.keys() >= wanted for part in parts) or (run.perturbed is not None) != perturbed:
        return False
    low, high = (of.outputs.min(), of.outputs.max()) if comparison.classes else (0.0, 0.0)
    return sorted(of.rows.tolist()) == sorted(test.tolist()) and not (low < 0 or high > 1 + 1e-6)


def _differences(kept: Config, now: Config) -> Iterator[str]:
    """Yield what differs between the comparison of a folder and another one, with its values there and here."""
    if kept.vicinal != now.vicinal:
        yield f"by version {kept.vicinal} of vicinal, and this is {now.vicinal}"
    if kept.data_sha256 != now.data_sha256:
        names = f"{kept.data} there, {now.data} here"
        if kept.data == now.data:
            names = f"two of the name {now.data}, or read in two ways"
        yield f"other data: {names}"
    before, asked = kept.settings, now.settings
    for name in {**before, **asked}:
        there, here = (_shown(settings.get(name)) for settings in (before, asked))
        if name != "seeds" and there != here:
            yield f"{(OPTIONS | FOLDER_OPTIONS).get(name, name.replace('_', ' '))} {there} there, {here} here"


def _shown(value: Any) -> str:
    """Write a setting as the command line takes it."""
    if isinstance(value, list | tuple):
        return ",".join(map(_shown, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "given", False: "not given", None: "by default"}[value]
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


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
    results = None if missing else folder.load_results(comparison)
    executor.tidy(folder.path)
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
        folder.write_results(results)

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
    predictions, asked = folder.predicted(), set(comparison.runs)
    predictions = {key: of for key, of in predictions.items() if key in asked}  # there may be more seeds
    folder.check_predictions(comparison, predictions)
    conclusion = verdict.conclude(comparison, runs, predictions)
    model, no_model = _save_model(comparison, runs, folder, _harmful(comparison, conclusion))
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
        no_model=no_model,
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


def _harmful(comparison: AnyComparison, conclusion: verdict.Conclusion) -> set[str]:
    """Return the methods that the test data show to be worse than ERM; of a family whose choice is worse, all."""
    measure = comparison.measure
    worse = {
        one.method
        for one in conclusion.comparisons
        if one.measure == measure.name and one.p_holm < LEVEL and (one.difference < 0) == measure.higher
    }
    mixing = [method for method in comparison.networks if method.family != ERM_FAMILY]
    return {method.name for method in mixing if worse & {method.name, chosen_name(method.family)}}


def _save_model(
    comparison: AnyComparison, runs: Sequence[RunRecord], folder: RunFolder, harmful: set[str]
) -> tuple[SavedModel | None, str]:
    """Train the model to keep on all examples, for as long as was best on validation data.

    Its method is the best on validation data of those that are not shown to harm.

    Returns:
        What is kept, and empty; or None, and why nothing is.

    """
    by_method = {one.name: [run for run in runs if run.method == one.name] for one in comparison.networks}
    measure, noun = comparison.measure.name, comparison.noun
    method = verdict.best_method(comparison.networks, by_method, measure)
    chosen = f"best on validation {noun}"
    if method.name in harmful:
        chosen += ", of the methods that are not shown to harm"
        method = verdict.best_method(
            [one for one in comparison.networks if one.name not in harmful], by_method, measure
        )
    epochs = max(1, round(statistics.median(run.epochs for run in by_method[method.name])))
    with executor.one_thread():
        state = comparison.refit(method.name, epochs)
    folder.results.unlink(missing_ok=True)  # of other seeds; they tell of the model that is replaced here
    if state is None:
        folder.model.unlink(missing_ok=True)
        return None, (
            f"training {method.name} ({chosen}) on all {noun} diverged: weights or outputs are no finite numbers; a "
            "smaller --learning-rate may help"
        )
    test = {name: fmean(run.test[name] for run in by_method[method.name]) for name in by_method[method.name][0].test}
    about = {"data": comparison.name, "vicinity": method.vicinity, "epochs": epochs, "test": test}
    usage = comparison.save_model(folder.model, state, about)
    return SavedModel(folder.model.name, method.name, epochs, usage, chosen, folder.digest_of_model()), ""
