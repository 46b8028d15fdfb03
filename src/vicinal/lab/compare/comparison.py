"""What is compared, and how runs are trained: a `Comparison` of methods on one dataset.

The protocol. Each seed has a split of the data (training, validation, test: `lab/data/folds.py`), initial weights and an
order of data, the same for every method, and trains each method on them: the methods differ in nothing but their vicinity
and their weight decay, and their differences are paired. Every run takes its weights from the epoch that was best on its
validation examples. ERM chooses its weight decay there, among as many as mixup has alphas, as mixup chooses alpha; the
verdict is spoken over the test examples, which took no part in any choice (`verdict.py`).

`table_comparison.py` trains many small models at once, `folder_comparison.py` one model at a time.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import vicinal
from vicinal.lab.compare import baselines, measures
from vicinal.lab.compare.baselines import BASELINE
from vicinal.lab.compare.measures import Measure, Tested
from vicinal.lab.compare.predictions import MeasuredRun, RunPredictions
from vicinal.lab.compare.results import (
    ERM,
    NOUNS,
    Curve,
    DataInfo,
    Kind,
    Method,
    MixedExample,
    ModelInfo,
    Scores,
)
from vicinal.lab.compare.settings import Settings
from vicinal.lab.data.class_folder import FolderDataset
from vicinal.lab.data.folds import Splitting
from vicinal.lab.data.splits import Split
from vicinal.lab.data.table import Table
from vicinal.lab.errors import UserError
from vicinal.lab.format import counted

_CURVE_POINTS = 20

ERM_FAMILY = "erm"
MIXUP = "mixup"
BY_LABEL = "mixup by label distance"
NAMED = "named"

RunId = tuple[str, int]  # method and seed
OnEpoch = Callable[[int], None]  # called with the number of runs that have finished one more epoch


def methods(settings: Settings, task: str) -> list[Method]:
    """Return the methods: ERM with each of its weight decays, mixup at each alpha, for regression also by label distance,
    and those named.
    """
    decays = settings.decays
    names = [ERM] if len(decays) == 1 else [f"{ERM}, decay {spelled(decay)}" for decay in decays]
    listed = [Method(name, "ERM()", ERM_FAMILY, weight_decay=w) for name, w in zip(names, decays, strict=True)]
    own = settings.weight_decay
    listed += [Method(f"mixup {spelled(a)}", f"Mixup(alpha={a!r})", MIXUP, a, own) for a in settings.alphas]
    if task == "regression":
        listed += [
            Method(
                f"by label distance {spelled(a)}", f"Mixup(alpha={a!r}, pairing=LabelDistance(0.5))", BY_LABEL, a, own
            )
            for a in settings.alphas
        ]
    return listed + [Method(text.strip(), text.strip(), NAMED, weight_decay=own) for text in settings.named]


def spelled(alpha: float) -> str:
    """Return alpha as short as it can be written without being mistaken for another."""
    short = f"{alpha:g}"
    return short if float(short) == alpha else repr(alpha)


def families(methods: Sequence[Method]) -> list[str]:
    """Return the families in which validation data choose alpha."""
    return [family for family in (MIXUP, BY_LABEL) if any(method.family == family for method in methods)]


def chosen_name(family: str) -> str:
    """Return the name under which a family's choice by validation data is reported."""
    return ERM if family == ERM_FAMILY else f"{family}, alpha chosen on validation"


def short_name(method: str) -> str:
    """Return a method's name, or the family's for its choice by validation data."""
    return method.removesuffix(", alpha chosen on validation")


S = TypeVar("S", bound=Settings)
D = TypeVar("D", Table, FolderDataset)


class Comparison(ABC, Generic[D, S]):
    """A comparison ready to run: data, settings, and how its runs are trained. Worker processes get a copy."""

    data: D
    settings: S

    # -- what depends on the kind of data

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """Kind of the data."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Number of steps per epoch."""

    @abstractmethod
    def data_info(self) -> DataInfo:
        """Return what results.json says of the data."""

    @abstractmethod
    def model_info(self) -> ModelInfo:
        """Return what results.json says of the model and its training."""

    @abstractmethod
    def sample_batch(self) -> tuple[Tensor, Tensor]:
        """Return a batch of training inputs and targets, to try the methods on."""

    def baselines(self) -> list[Method]:
        """Return what the networks must beat."""
        return baselines.methods((baselines.CONSTANT,))

    @abstractmethod
    def chunks(self, missing: Sequence[RunId], processes: int) -> list[list[RunId]]:
        """Cut the runs that are missing into what one process trains and returns at once."""

    @abstractmethod
    def train(self, runs: Sequence[RunId], on_epoch: OnEpoch = lambda runs: None) -> list[MeasuredRun]:
        """Train and measure some runs."""

    @abstractmethod
    def refit(self, method: str, epochs: int) -> dict[str, np.ndarray] | None:
        """Train a method on all rows for `epochs` epochs, and return the state of its model.

        None where training diverged: where a weight, or an output for these rows, is not a finite number.
        """

    @abstractmethod
    def save_model(self, path: Path, state: dict[str, np.ndarray], about: dict[str, Any]) -> str:
        """Write a model trained on all rows with its preprocessing, and return the lines of Python that use it."""

    def is_quick(self, runs: int) -> bool:
        """Return True if training `runs` runs takes less time than starting worker processes."""
        return False

    def estimate_seconds(self, runs: int, processes: int) -> float | None:
        """Estimate how long `runs` runs take; None where that is never long."""
        return None

    def limitations(self) -> list[str]:
        """Return what these data and this training leave open, beside what every comparison leaves open."""
        return []

    def mixed_examples(self, method: str) -> list[MixedExample]:
        """Return examples as a method mixes them, where they can be looked at."""
        return []

    # -- what follows

    @property
    def name(self) -> str:
        """Short name of the data."""
        return self.data.name

    @property
    def classes(self) -> int:
        """Number of classes; 0 for regression."""
        return len(self.data.classes)

    @property
    def task(self) -> str:
        """Classification or regression."""
        return "classification" if self.classes else "regression"

    @cached_property
    def measure(self) -> Measure:
        """Measure that the verdict is about."""
        return measures.find(self.settings.metric, self.classes)

    @property
    def noun(self) -> str:
        """What the examples are called."""
        return NOUNS[self.kind]

    @cached_property
    def splitting(self) -> Splitting:
        """How the examples are split."""
        data = self.data
        given = (getattr(data, name, None) for name in ("groups", "times", "fixed_test"))  # folders have none
        return Splitting(data.target, self.classes, *given, names=data.classes)

    def split(self, seed: int) -> Split:
        """Return the split of a seed."""
        return self.splitting.split(seed)

    @cached_property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of training, validation and test examples of the first seed; of others the same, but for groups."""
        rows = self.split(0)
        return len(rows.train), len(rows.validation), len(rows.test)

    @property
    def test_share(self) -> float:
        """Test examples per training example, which the corrected t-test asks for."""
        return self.sizes[2] / self.sizes[0]

    @property
    def batch_size(self) -> int:
        """Examples per step."""
        return self.settings.batch(self.sizes[0])

    @property
    def epochs(self) -> int:
        """Number of epochs per run."""
        return self.settings.budget(self.steps_per_epoch)

    @cached_property
    def methods(self) -> list[Method]:
        """Methods compared, and the baselines."""
        return [*methods(self.settings, self.task), *self.baselines()]

    @property
    def networks(self) -> list[Method]:
        """The methods that train a network: all but the baselines."""
        return [method for method in self.methods if method.family != BASELINE]

    def method(self, name: str) -> Method:
        """Return the method of a name."""
        return next(method for method in self.methods if method.name == name)

    @property
    def runs(self) -> list[RunId]:
        """All runs, by seed."""
        return [(method.name, seed) for seed in range(self.settings.seeds) for method in self.methods]

    @cached_property
    def data_digest(self) -> str:
        """Digest of the data."""
        return self.data.fingerprint()

    def fingerprint(self) -> str:
        """Return a digest of everything that decides the result of a run: settings, data, version."""
        settings = {name: value for name, value in asdict(self.settings).items() if name != "seeds"}  # more may follow
        content = json.dumps([vicinal.__version__, settings, self.data_digest])
        return hashlib.sha256(content.encode()).hexdigest()

    def idle(self) -> list[str]:
        """Return a sentence about each schedule that these epochs do not reach."""
        end, found = self.epochs, []
        for method in self.networks:
            if late := list(_unreached(method.parsed, 0, end)):
                epochs = " and ".join(map(str, sorted(set(late))))
                found.append(
                    f"{method.vicinity} begins something in epoch {epochs}, and training has {counted(end, 'epoch')}, "
                    "counted from 0: it is never done"
                )
        return found

    def check(self) -> None:
        """Refuse a measure or methods that cannot be used on these data, before anything is trained.

        Raises:
            UserError: naming the measure or method and its objection.

        """
        tests = [self.split(seed).test for seed in range(1 if self.splitting.is_fixed else self.settings.seeds)]
        self._check_measure(tests)
        self._check_repeats()
        self._check_units(tests)
        x, y = self.sample_batch()
        for method in self.networks:
            try:
                for part in _parts(method.parsed):
                    self._try(part, x, y)
            except (TypeError, ValueError, OverflowError, MemoryError) as error:
                these = "this table" if self.kind == "table" else f"these {self.noun}"
                raise UserError(f"{method.vicinity} cannot be used on {these}: {error}") from error

    def _check_measure(self, tests: Sequence[NDArray[np.int64]]) -> None:
        """Take the measure of a constant answer to the test examples of each seed: some need more than one class there."""
        measure, target = self.measure, self.data.target
        if measure.name not in measures.PARTIAL:
            return
        answer = np.full(self.classes, 1 / self.classes) if self.classes else np.zeros(())
        for seed, rows in enumerate(tests):
            outputs = np.broadcast_to(answer, (len(rows), *answer.shape)).astype(np.float32)
            try:
                measure.values([Tested(RunPredictions(rows, outputs, None), target[rows], self.classes)])
                if not np.ptp(target[rows]):
                    raise ValueError("it needs a target that varies in every test set")
            except ValueError as error:
                raise UserError(
                    f"--metric {measure.name} cannot be taken: {error}, and seed {seed} has none"
                ) from error

    def _check_repeats(self) -> None:
        """Refuse a vicinity that is compared already, however it is spelled."""
        seen: list[Method] = []
        for method in self.networks:
            if method.parsed.seed is not None:
                raise UserError(
                    f"{method.vicinity} has a seed of its own; leave it out: all methods have the seeds of --seeds"
                )
            if method.family == NAMED:
                same = next((one for one in seen if one.parsed == method.parsed), None)
                if same is not None:
                    raise UserError(f"{method.vicinity} is compared already, {_as_given(same)}; give each method once")
            seen.append(method)

    def _check_units(self, tests: Sequence[NDArray[np.int64]]) -> None:
        """Refuse test sets that have no interval."""
        rows, groups = np.concatenate(tests), self.splitting.groups
        if len(np.unique(rows if groups is None else groups[rows])) < 2:
            of = self.noun if groups is None else "groups"
            raise UserError(f"an interval needs {of} to test on, 2 or more, and all seeds test the same one")

    def _try(self, vicinity: vicinal.Vicinity, x: Tensor, y: Tensor) -> None:
        if isinstance(vicinity, vicinal.CutMix) and self.kind == "table":
            raise ValueError("CutMix needs inputs [n, channels, *grid], and columns have no order to cut a box from")
        plan = vicinity.plan(len(x), y, x, step=0, epoch=0)
        plan(x)
        plan.target(y)


def _as_given(method: Method) -> str:
    """Describe where a method comes from, as a sentence goes on."""
    if method.family == NAMED:
        return f"as {method.vicinity}"
    if method.family == ERM_FAMILY:
        return "as ERM, which always is"
    return f"as {method.name!r}, by --alpha {spelled(method.alpha or 0.0)}"


def _parts(vicinity: vicinal.Vicinity) -> Iterator[vicinal.Vicinity]:
    """Yield a vicinity and those it is composed of: a trial of the whole may not reach each of them."""
    yield vicinity
    if isinstance(vicinity, (vicinal.Chain, vicinal.Choice)):
        for part in vicinity.parts:
            yield from _parts(part)
    elif isinstance(vicinity, vicinal.Scheduled):
        yield from _parts(vicinity.part)


def _unreached(vicinity: vicinal.Vicinity, start: int, stop: int) -> Iterator[int]:
    """Yield the epochs in which schedules begin something, and which do not come from `start` on before `stop`."""
    if isinstance(vicinity, (vicinal.Chain, vicinal.Choice)):
        for part in vicinity.parts:
            yield from _unreached(part, start, stop)
    elif isinstance(vicinity, vicinal.Scheduled):
        start, stop = max(start, vicinity.start), stop if vicinity.stop is None else min(stop, vicinity.stop)
        if start >= stop:
            yield vicinity.start
            return
        for values in (vicinity.values or {}).values():
            yield from [] if callable(values) else (epoch for epoch in values if epoch >= stop)
        yield from _unreached(vicinity.part, start, stop)


def finite_state(state: Mapping[str, Tensor], outputs: Tensor) -> dict[str, np.ndarray] | None:
    """Return a model's state as arrays; None where a number in it, or an output of the model, is not finite."""
    if not all(bool(tensor.isfinite().all()) for tensor in (*state.values(), outputs)):
        return None
    return {name: tensor.numpy() for name, tensor in state.items()}


def curve_points(epochs: int) -> set[int]:
    """Return the epochs after which a run is measured for its learning curves."""
    return {round(i * epochs / _CURVE_POINTS) for i in range(1, _CURVE_POINTS + 1)} | {1, epochs}


def add_point(curve: Curve, epoch: int, train: Scores, validation: Scores) -> None:
    """Add what was measured after an epoch."""
    curve.setdefault("epoch", []).append(epoch)
    for part, scores, kept in (("train", train, ("nll", "rmse")), ("validation", validation, ("nll", "error", "rmse"))):
        for measure in kept:
            if measure in scores:
                curve.setdefault(f"{part}_{measure}", []).append(scores[measure])
