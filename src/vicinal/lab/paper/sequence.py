"""Sequences: what the paper did not measure, on time series and on words of letters."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vicinal
from vicinal._adamw import AdamW
from vicinal.keyed import Key
from vicinal.lab.data import sequences
from vicinal.lab.data.sequences import SequenceDataset, SequenceSplit
from vicinal.lab.models.sequence import BLOCKS, SequenceClassifier
from vicinal.lab.paper import plots
from vicinal.lab.paper.claims import Claim, Evidence
from vicinal.lab.paper.rows import first_done
from vicinal.lab.paper.study import AtScale, Job, Results, Row, Scale, Study
from vicinal.lab.records import to_json
from vicinal.lab.selection import best_on_validation
from vicinal.lab.streams import Stream
from vicinal.lab.training.scores import classification
from vicinal.lab.training.seeding import fork_rng
from vicinal.lab.training.stacked_mlp import order

Regime = Literal["end", "stopped"]

ALPHAS = (0.2, 1.0, 2.0)
DECAYS = (0.0, 0.1, 1.0)  # as many candidates for ERM as mixup has
BATCH = 32
LEARNING_RATE = 3e-3
LOOKS = 12  # at the validation rows, evenly over the epochs
ENDINGS: Mapping[Regime, str] = {"end": "", "stopped": ", stopped"}


@dataclass(frozen=True)
class SequenceTask:
    """A set, and how its models are trained: for about 250 steps.

    Args:
        title: of its rows.
        epochs: at all scales but the smallest.
        anew: nobody published a split, and each seed draws one.

    """

    title: str
    epochs: int
    anew: bool = False


TASKS = {
    "japanese-vowels": SequenceTask("JapaneseVowels", 36),
    sequences.FIRST_NAMES: SequenceTask("first names", 8, anew=True),
    "italy-power-demand": SequenceTask("ItalyPowerDemand", 125),
}


@dataclass(frozen=True)
class SequenceMethod:
    """What a model is trained by.

    Args:
        name: of its rows.
        family: among whose members one is chosen on validation rows.
        alpha: of mixup; None: ERM.
        blocks: the modules of the model before which it mixes, one drawn per batch; none: it mixes the inputs, or the
            embeddings of tokens.
        decay: decoupled weight decay.

    """

    name: str
    family: str
    alpha: float | None = None
    blocks: tuple[str, ...] = ()
    decay: float = 0.0

    @property
    def vicinity(self) -> vicinal.Vicinity:
        """Its draw."""
        return vicinal.ERM() if self.alpha is None else vicinal.Mixup(self.alpha)


ERM, INPUT, MANIFOLD = "ERM", "input mixup", "Manifold Mixup"
FAMILIES = (ERM, INPUT, MANIFOLD)
METHODS = (
    *(SequenceMethod(f"{ERM}, decay {decay:g}", ERM, decay=decay) for decay in DECAYS),
    *(SequenceMethod(f"{INPUT} {alpha:g}", INPUT, alpha) for alpha in ALPHAS),
    *(SequenceMethod(f"{MANIFOLD} {alpha:g}", MANIFOLD, alpha, BLOCKS) for alpha in ALPHAS),
)
PLAIN = METHODS[0].name


@dataclass(frozen=True)
class SequenceScale(AtScale):
    """A scale of the study of sequences: `epochs` of all tasks, or None for their own."""

    epochs: int | None = None


# the paper has no such section, so that its scale is ours
_DATA = "none to download: the packages sktime and names (pip install 'vicinal[sequences]')"
SCALES: Mapping[Scale, SequenceScale] = {
    "smoke": SequenceScale(
        data="none (synthetic sequences)",
        minutes=0.1,
        seeds=2,
        deviations=(
            "Synthetic sequences in place of the published sets, 2 epochs, 2 seeds: the figures mean nothing.",
        ),
        epochs=2,
    ),
    "small": SequenceScale(_DATA, 8, seeds=10, deviations=("10 seeds instead of 30.",), device="1 CPU core"),
    "paper": SequenceScale(_DATA, 24, seeds=30, device="1 CPU core", full=True),
}


@dataclass(frozen=True)
class RegimeScores:
    """Error and likelihood of one model on validation and test rows, and after which epoch."""

    epoch: int
    validation: dict[str, float]
    test: dict[str, float]


@dataclass(frozen=True)
class SequenceRun:
    """One model: its error on the training rows in the end, and its scores in both regimes."""

    train_error: float
    end: RegimeScores
    stopped: RegimeScores

    def scores(self, regime: Regime) -> RegimeScores:
        """Return the scores in one regime."""
        return self.end if regime == "end" else self.stopped


@dataclass(frozen=True)
class SequenceResult:
    """What a job returned: rows for training, validation and test, and the run of each method."""

    rows: list[int]
    runs: dict[str, SequenceRun]

    def chosen(self, family: str, regime: Regime) -> str:
        """Return the name of a family's method that is best on the validation rows."""
        names = [method.name for method in METHODS if method.family == family]
        return names[best_on_validation([self.runs[name].scores(regime).validation for name in names])]

    def score(self, method: str, regime: Regime, measure: str) -> float:
        """Return a test score of a method, or of the chosen one of a family."""
        name = self.chosen(method, regime) if method in FAMILIES else method
        return self.runs[name].scores(regime).test[measure]


class SequenceStudy(Study):
    """Does mixup help on sequences, of one length and of many?

    Paper: nothing was measured. Its discussion asks whether the idea works on other kinds of supervised learning; spoken
    commands (section 3.3) are images of audio there.

    Here: sets that Python packages bring with them. JapaneseVowels: 7 to 29 steps of 12 numbers, 9 speakers, 270 training
    and 370 test rows. First names: 2 to 10 letters, borne by women or by men in the census of the United States of 1990,
    888 of each. ItalyPowerDemand: 24 hours, 2 halves of the year, 67 and 1,029 rows. Test rows are the publisher's; a seed
    draws which fifth of the training rows is for validation, the first weights and the order. Of the names, which nobody
    split, a seed draws the test fifth too, and intervals are those of the corrected resampled t.

    Series are standardized by the training rows and padded with 0 behind their end. The model maps or embeds each step to
    32 numbers; two blocks of a convolution over 5 steps, layer normalization and ReLU; mean over time; a linear layer. It
    leaves padding out: a mixed row has the steps of the longer one (`plan.union`). Adam, batches of 32, learning rate 0.003
    falling to 0 along a half cosine, about 250 steps. These were chosen in short trials, so that ERM fits nearly all
    training rows, which is where the paper expects mixup to help.

    Methods: ERM with decoupled weight decay 0, 0.1 and 1; mixup of the inputs, or of the embeddings of letters, with
    alpha 0.2, 1 and 2; Manifold Mixup (Verma et al. 2019) before one of the two blocks, drawn per batch, with the same
    alphas. Each of the three families chooses one of its three on the validation rows of each seed, so that ERM has as
    many tries as mixup. The claim is judged by the test errors of the chosen ones, trained to the end. A second regime
    takes the epoch that is best of 12 on validation rows, for every method: what of the gain early stopping gives as well.
    There the claim is not expected to hold; the verdict does not count it.
    """

    name = "sequence"
    section = "5, discussion"
    title = "Sequences"
    scales = SCALES

    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Return one job per set and seed, the first seed of all sets first."""
        return [
            Job(
                _job_name(name, seed), partial(run, name, seed, scale), kind=SequenceResult, ready=is_ready(name, scale)
            )
            for seed in range(SCALES[scale].seeds)
            for name in TASKS
        ]

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return, for each set, the chosen of each family in both regimes, and each method trained to the end."""
        return [row for name in TASKS for row in _rows(name, scale, self.found(scale, done, name))]

    def found(self, scale: Scale, done: Results, name: str) -> list[SequenceResult]:
        """Return the results of a set, from the first seed on."""
        return first_done(SequenceResult, done, (_job_name(name, seed) for seed in range(SCALES[scale].seeds)))

    def claims(self, scale: Scale, done: Results) -> Sequence[Claim]:
        """Return that mixup extends to sequences, by set, kind of mixup and regime."""
        evidence = [
            _evidence(name, self.found(scale, done, name), family, regime)
            for regime in ENDINGS
            for name in TASKS
            for family in (INPUT, MANIFOLD)
        ]
        limits = (
            "Three small sets, one small convolutional model and about 250 steps; longer training was not tried. "
            "Seeds share the test rows of the published splits, so that the intervals are about training alone; what "
            "few test rows say of others, the table's notes tell."
        )
        return (Claim("Mixup may extend to sequences.", self.section, tuple(evidence), limits),)

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the difference of each kind of mixup to ERM, in both regimes."""
        rows = [
            self._difference(scale, done, name, family, regime)
            for name in TASKS
            for regime in ENDINGS
            for family in (INPUT, MANIFOLD)
        ]
        label = (
            "Test error of two kinds of mixup minus that of ERM, points, by set, trained to the end and stopped early"
        )
        path = folder / "sequence.svg"
        return plots.write_dot_plot(path, label, rows, "points above ERM's error", kind=_color)

    def _difference(self, scale: Scale, done: Results, name: str, family: str, regime: Regime) -> Row:
        """Return a row of the figure; its name is short."""
        found = _evidence(name, self.found(scale, done, name), family, regime)
        title = f"{TASKS[name].title}, {'inputs' if family == INPUT else 'hidden'}{ENDINGS[regime]}"
        return Row(title, found.unit, None, found.differences, test_share=found.test_share)


def _color(name: str) -> str:
    return "faint" if name.endswith(ENDINGS["stopped"]) else "mix" if "inputs" in name else "other"


def _job_name(name: str, seed: int) -> str:
    return f"{name}-seed{seed}"


def is_ready(name: str, scale: Scale) -> bool:
    """Return True if a set can be read, or stands for a drawn one in the quick run."""
    return scale == "smoke" or sequences.is_installed(name)


# -- from jobs to conclusions ------------------------------------------------------------------------------------------


def _note(name: str, scale: Scale, found: Sequence[SequenceResult]) -> str:
    """Return why a set cannot be run here, or how much of it was."""
    if not found:
        return "" if is_ready(name, scale) else "its package is not installed: pip install 'vicinal[sequences]'"
    seeds = SCALES[scale].seeds
    return f"{len(found)} of {seeds} seeds are run" if len(found) < seeds else ""


def _test_share(name: str, found: Sequence[SequenceResult]) -> float:
    return found[0].rows[2] / found[0].rows[0] if found and TASKS[name].anew else 0.0


def _evidence(name: str, found: Sequence[SequenceResult], family: str, regime: Regime) -> Evidence:
    """Return the differences of test errors to ERM in points, both chosen on validation rows."""
    how = {"end": "trained to the end", "stopped": "stopped at the best of 12 epochs on validation rows"}
    return Evidence(
        f"{TASKS[name].title}, {how[regime]}: {family} against ERM, each the best of three on validation rows",
        "points of test error",
        tuple(100 * (one.score(family, regime, "error") - one.score(ERM, regime, "error")) for one in found),
        test_share=_test_share(name, found),
        contrast=regime == "stopped",
    )


def _rows(name: str, scale: Scale, found: Sequence[SequenceResult]) -> list[Row]:
    """Return the rows of a set; `found` is empty if it was not run."""
    chosen: list[tuple[str, Regime]] = [(family, regime) for regime in ENDINGS for family in FAMILIES]
    fixed: list[tuple[str, Regime]] = [(method.name, "end") for method in METHODS]
    return [
        _row(name, found, line, measure, _note(name, scale, found))
        for line in chosen + fixed
        for measure in (("test error, %", 100.0, "error"), ("test NLL, nats", 1.0, "nll"))
    ]


def _row(
    name: str, found: Sequence[SequenceResult], line: tuple[str, Regime], measure: tuple[str, float, str], note: str
) -> Row:
    method, regime = line
    unit, factor, key = measure
    values = tuple(factor * one.score(method, regime, key) for one in found)
    name_of = f"{TASKS[name].title}, {{}}{ENDINGS[regime]}, {unit.partition(',')[0]}"
    other = ERM if method in FAMILIES else PLAIN
    told = _told(found, method, regime) if found and key == "error" else ""
    return Row(
        name_of.format(method),
        unit,
        None,
        values,
        None if method == other else name_of.format(other),
        "; ".join(filter(None, (told, note))),
        _test_share(name, found),
    )


def _told(found: Sequence[SequenceResult], method: str, regime: Regime) -> str:
    """Return how far ERM fits and what its test rows can tell, or which methods were chosen."""
    if method not in FAMILIES:
        fitted = 100 * sum(one.runs[method].train_error for one in found) / len(found)
        return f"training error {fitted:.1f} %"
    names = [one.chosen(method, regime) for one in found]
    counts = (f"{each.name} in {names.count(each.name)}" for each in METHODS if each.family == method)
    told = f"chosen on validation rows: {', '.join(counts)}"
    return f"{told}; {resolution(found, regime)}" if method == ERM else told


def resolution(found: Sequence[SequenceResult], regime: Regime) -> str:
    """Return what the number of test rows limits: the size of one, and the binomial standard error of ERM's error."""
    n = found[0].rows[2]
    error = sum(one.score(ERM, regime, "error") for one in found) / len(found)
    spread = 100 * math.sqrt(error * (1 - error) / n)
    return f"{n} test rows: one is {100 / n:.2g} points, and the binomial standard error is {spread:.2g}"


# -- a job -------------------------------------------------------------------------------------------------------------


def load(name: str, seed: int, scale: Scale) -> SequenceSplit:
    """Read a seed's split, or draw what stands in for it in the quick run."""
    if scale == "smoke":
        return sequences.split_anew(sequences.drawn(50, seed, tokens=name == sequences.FIRST_NAMES), seed)
    return sequences.load_split(name, seed)


def run(name: str, seed: int, scale: Scale, folder: Path) -> dict[str, Any]:
    """Train by all methods on a seed's split, and return the `SequenceResult`."""
    split = load(name, seed, scale)
    epochs = SCALES[scale].epochs or TASKS[name].epochs
    runs = {method.name: train(split, method, seed, epochs) for method in METHODS}
    return to_json(SequenceResult([len(part) for part in (split.train, split.validation, split.test)], runs))


def initial(data: SequenceDataset, seed: int) -> SequenceClassifier:
    """Return a model with the first weights of a seed."""
    tokens = not data.inputs.is_floating_point()
    inputs = 1 + len(sequences.LETTERS) if tokens else data.inputs.shape[2]
    with fork_rng(Key(seed, 0, 0, 0, Stream.WEIGHTS)):
        return SequenceClassifier(inputs, len(data.classes), tokens)


def train(split: SequenceSplit, method: SequenceMethod, seed: int, epochs: int) -> SequenceRun:
    """Train a model to the end, and measure it there and after the epoch that is best on validation rows."""
    model = initial(split.train, seed)
    looks = {math.ceil(epochs * i / LOOKS) for i in range(1, LOOKS + 1)}
    seen: list[tuple[int, dict[str, float], dict[str, Tensor]]] = []

    def look(epoch: int) -> None:
        if epoch in looks:
            seen.append((epoch, evaluate(model, split.validation), copy.deepcopy(model.state_dict())))

    fit(model, split.train, method, seed, epochs, look)
    end, best = len(seen) - 1, best_on_validation([scores for _, scores, _ in seen])
    train_error = evaluate(model, split.train)["error"]
    measured = []
    for epoch, validation, weights in (seen[end], seen[best]):
        model.load_state_dict(weights)
        measured.append(RegimeScores(epoch, validation, evaluate(model, split.test)))
    return SequenceRun(train_error, *measured)


def fit(
    model: SequenceClassifier,
    data: SequenceDataset,
    method: SequenceMethod,
    seed: int,
    epochs: int,
    after_epoch: Callable[[int], None],
) -> None:
    """Train a model in place; `after_epoch` is called with the number of epochs done."""
    parameters = list(model.parameters())
    adam, mixed_step = AdamW(parameters, method.decay, fused=True), mixing(model, data, method)
    steps, step = epochs * math.ceil(len(data) / BATCH), 0
    for epoch in range(epochs):
        for rows in torch.from_numpy(order(seed, epoch, len(data))).split(BATCH):
            batch = data.select(rows)
            plan = method.vicinity.plan(len(rows), batch.target, step=step, seed=seed, rank=0, worker=0)
            gradients = torch.autograd.grad(mixed_step(batch, plan), parameters)
            adam.step(gradients, LEARNING_RATE * (1 + math.cos(math.pi * step / steps)) / 2)
            step += 1
        after_epoch(epoch + 1)


def mixing(
    model: SequenceClassifier, data: SequenceDataset, method: SequenceMethod
) -> Callable[[SequenceDataset, vicinal.Plan], Tensor]:
    """Return the loss of a batch under a plan: inputs are mixed themselves, embeddings and hidden states by a hook."""
    at = method.blocks or (() if data.inputs.is_floating_point() else BLOCKS[:1])
    latent = vicinal.LatentMixing(model, at) if at and method.alpha is not None else None

    def loss(batch: SequenceDataset, plan: vicinal.Plan) -> Tensor:
        inputs = plan(batch.inputs) if latent is None and method.alpha is not None else batch.inputs
        with contextlib.nullcontext() if latent is None else latent(plan):
            logits = model(inputs, plan.union(batch.valid))
        return F.cross_entropy(logits, plan.target(batch.target))

    return loss


@torch.no_grad()
def evaluate(model: nn.Module, data: SequenceDataset) -> dict[str, float]:
    """Return error and likelihood, as fraction and in nats."""
    (score,) = classification(model(data.inputs, data.valid)[None], data.target)
    return {"error": score["error"], "nll": score["nll"]}
