"""What a comparison leaves: records of its runs, and results.json, which is a `Results` written out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from vicinal.lab import parse
from vicinal.lab.data.column_reading import ColumnSummary
from vicinal.lab.provenance import Provenance
from vicinal.lab.statistics import Interval, Paired, Posterior
from vicinal.vicinity import Vicinity

FORMAT = 4  # of results.json and of the run folder

ERM = "ERM"
LEVEL = 0.05  # of a corrected p-value below which a difference counts as found
Kind = Literal["table", "images", "audio"]
NOUNS: dict[str, str] = {"table": "rows", "images": "images", "audio": "clips"}  # what examples are called
Scores = dict[str, float]  # error, nll, brier, ece; or rmse, mae, r2
Curve = dict[str, list[float]]  # epoch, train_nll, validation_nll, validation_error; or train_rmse, validation_rmse


@dataclass(frozen=True)
class Method:
    """One of the methods compared.

    Args:
        name: as results call it.
        vicinity: as text.
        family: "erm", "named", or the family in which validation data choose alpha.
        alpha: within that family.
        weight_decay: of its training.

    """

    name: str
    vicinity: str
    family: str
    alpha: float | None = None
    weight_decay: float = 0.0

    @cached_property
    def parsed(self) -> Vicinity:
        """The vicinity itself."""
        return parse.parse(self.vicinity)


@dataclass(frozen=True)
class ReliabilityBins:
    """Predictions of one run by confidence; None in a bin that has none."""

    count: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]


@dataclass(frozen=True)
class RunRecord:
    """One run: what it was, and what was measured of it.

    Args:
        method: its name.
        seed: of everything random.
        seconds: of training.
        epochs: after which its weights were taken.
        train, validation, test: scores on those examples; validation labels are noisy where training labels are.
        perturbed: scores on the test examples with noise added to their inputs.
        curve: the course over epochs.
        reliability: of the test predictions; None for regression.
        temperature: fitted on the validation examples; nan for regression, for baselines, and where training diverged.

    """

    method: str
    seed: int
    seconds: float
    epochs: int
    train: Scores
    validation: Scores
    test: Scores
    perturbed: Scores | None
    curve: Curve
    reliability: ReliabilityBins | None = None
    temperature: float = math.nan

    @property
    def key(self) -> tuple[str, int]:
        """Method and seed."""
        return self.method, self.seed


@dataclass(frozen=True)
class TableInfo:
    """Columns of a table, and what was noted on reading it; `inputs` is the width of its encoding."""

    numeric_columns: int
    categorical_columns: int
    inputs: int
    missing_cells: int
    columns: list[ColumnSummary] = field(default_factory=list)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FolderInfo:
    """Shape of a folder's images or spectrograms as [channels, height, width], and what was noted on reading it."""

    shape: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DataInfo:
    """What was compared on; no classes for regression."""

    name: str
    kind: Kind
    task: str
    source: str
    examples: int
    sha256: str
    target: str
    classes: list[str]
    class_counts: list[int]
    table: TableInfo | None = None
    folder: FolderInfo | None = None

    @property
    def noun(self) -> str:
        """What its examples are called."""
        return NOUNS[self.kind]


@dataclass(frozen=True)
class ModelInfo:
    """The model of every run and its training."""

    name: str
    hidden: list[int]  # widths of the layers of an MLP
    parameters: int
    optimizer: str
    schedule: str
    augment: str | None = None


@dataclass(frozen=True)
class Protocol:
    """How it was compared; every run has the same."""

    seeds: int
    epochs: int
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int | None
    to_the_end: bool
    decays: list[float]  # that ERM chose among
    splits: str  # what decides which examples are for testing
    label_noise: float
    input_noise: float | None
    train_examples: int
    validation_examples: int
    test_examples: int
    measure: str
    model: ModelInfo
    statistics: str
    limitations: list[str]


@dataclass(frozen=True)
class Summary:
    """One method over all seeds: means with 95 % intervals, by measure."""

    train: dict[str, Interval]
    validation: dict[str, Interval]
    test: dict[str, Interval]
    perturbed: dict[str, Interval] | None
    seconds: float


@dataclass(frozen=True)
class Difference:
    """One method minus ERM on test data; the verdict is about primary ones.

    Args:
        method: its name.
        primary: True where the verdict is about it.
        difference, low, high: with its 95 % interval, in the measure's own direction.
        p: of no difference; rows, or groups of them, are the units.
        p_holm: corrected for all that was tested together.
        per_seed: differences of the seeds.
        measure: its name.
        chances: that the method is better, practically the same, and worse.
        same: half the width of what counts as practically the same.
        detectable: the smallest true difference that this comparison finds in 80 % of cases, at Holm's first step.
        p_strict: of the corrected resampled t-test, for which seeds are the units; None where all seeds test the same rows.

    """

    method: str
    primary: bool
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    per_seed: list[float]
    measure: str
    chances: Posterior
    same: float
    detectable: float
    p_strict: float | None

    def corrected(self, p: float) -> Difference:
        """Return it with its corrected p-value."""
        return replace(self, p_holm=p)


@dataclass(frozen=True)
class AlphaChoice:
    """What validation data chose in a family: per seed, how often each alpha, and the method best over all seeds."""

    family: str
    per_seed: list[float]
    counts: dict[str, int]
    recommended: str


@dataclass(frozen=True)
class Verdict:
    """The answer, about one method."""

    kind: str
    method: str
    sentence: str
    advice: str


@dataclass(frozen=True)
class ClassScores:
    """One class: how often it was tested over all seeds, and recall and precision by method; nan where undefined."""

    name: str
    tested: int
    recall: dict[str, float]
    precision: dict[str, float]


@dataclass(frozen=True)
class ConfusedPair:
    """A class taken for another: how often it was tested over all seeds, and how often so answered, by method."""

    true: str
    answer: str
    tested: int
    counts: dict[str, int]


@dataclass(frozen=True)
class Answers:
    """Test predictions of all seeds by class, of ERM and the method of the verdict.

    Args:
        methods: their names.
        classes: of the dataset.
        confusion: by method, how often each true class (rows) got each answer (columns); empty for many classes.
        confused: the pairs confused most; empty where there is a matrix.

    """

    methods: list[str]
    classes: list[ClassScores]
    confusion: dict[str, list[list[int]]]
    confused: list[ConfusedPair]


@dataclass(frozen=True)
class TemperatureScaling:
    """Likelihood and calibration of ERM and the method of the verdict, before and after a temperature.

    Args:
        temperatures: by method, of each seed, fitted on its validation examples.
        before, after: by method and measure, on test data.
        changes: differences of negative log-likelihood: of the method to ERM "raw", with the verdict's p-value; with ERM
            scaled ("erm_scaled"), with both scaled ("both_scaled"), and of scaling itself "erm_gain" and "gain", with
            p-values corrected for these four.
        sentence: what follows.

    """

    temperatures: dict[str, list[float]]
    before: dict[str, dict[str, Interval]]
    after: dict[str, dict[str, Interval]]
    changes: dict[str, Paired]
    sentence: str


@dataclass(frozen=True)
class SavedModel:
    """The model kept, trained on all examples.

    Args:
        file: its name.
        method: it was trained with.
        epochs: of its training.
        usage: the Python that uses it.
        chosen: by what the method was chosen.
        sha256: of the file.

    """

    file: str
    method: str
    epochs: int
    usage: str
    chosen: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class MixedExample:
    """One mixed example: an image (PNG in base 64), and what it is a mixture of."""

    png: str
    mixture: str


@dataclass(frozen=True)
class MixedExamples:
    """Examples as a method mixes them."""

    method: str
    shown: list[MixedExample]


@dataclass(frozen=True, kw_only=True)
class Results(Provenance):
    """Everything that a comparison found."""

    format: int = FORMAT
    data: DataInfo
    protocol: Protocol
    methods: list[Method]
    runs: list[RunRecord]
    summary: dict[str, Summary]
    comparisons: list[Difference]
    beside: list[Difference]  # likelihood and calibration of the primary methods
    chosen: dict[str, list[str]]  # of a choice by validation data: the method of each seed
    choice: AlphaChoice | None
    verdict: Verdict
    answers: Answers | None = None  # none for regression
    scaling: TemperatureScaling | None = None  # none for regression, and where training diverged
    model: SavedModel | None = None
    no_model: str = ""  # why none is kept
    examples: MixedExamples | None = None
