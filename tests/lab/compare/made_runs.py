"""Runs of a comparison whose test predictions are made by hand, for the tests of what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.keyed import Key
from vicinal.lab import records
from vicinal.lab.compare import verdict
from vicinal.lab.compare.comparison import RunId
from vicinal.lab.compare.predictions import RunPredictions
from vicinal.lab.compare.results import ModelInfo, Protocol, Results, RunRecord
from vicinal.lab.compare.settings import TableSettings
from vicinal.lab.compare.table_comparison import TableComparison
from vicinal.lab.compare.words import limitations, statistics_in_words
from vicinal.lab.data.columns import Numbers
from vicinal.lab.data.table import Table, make_table

Outputs = Callable[[str, int, NDArray[np.int64]], NDArray[Any]]  # of a method, a seed and test rows

CHOSEN = "mixup, alpha chosen on validation"
BY_LABEL = "mixup by label distance, alpha chosen on validation"
CONSTANT = "constant answer"


def made(rows: int = 60, regression: bool = False, classes: tuple[str, ...] = ("low", "high")) -> Table:
    """Two columns that tell the target, with noise; classes of about the same size."""
    generator = Key(21, 0, 0, 0).generator()
    x = generator.normal(0.0, 2.0, (rows, 2))
    columns: dict[str, Numbers | list[str | None]] = {"a": x[:, 0], "b": x[:, 1]}
    score = x[:, 0] - x[:, 1] + generator.normal(0.0, 1.0, rows)
    if regression:
        return make_table(columns | {"y": 50 + 10 * score}, "y", name="made", source="made")
    place = (np.argsort(np.argsort(score)) * len(classes)) // rows
    return make_table(columns | {"y": [classes[i] for i in place]}, "y", name="made", source="made")


def study_of(regression: bool = False, rows: int = 60, **settings: Any) -> TableComparison:
    """A comparison on such a table."""
    given: dict[str, Any] = {"seeds": 5, "epochs": 1}
    return TableComparison(made(rows, regression), TableSettings(**given | settings))


def predictions_of(study: TableComparison, outputs: Outputs) -> dict[RunId, RunPredictions]:
    """Predictions as runs return them, from a function that says them."""
    found: dict[RunId, RunPredictions] = {}
    for method, seed in study.runs:
        rows = study.split(seed).test
        out = np.asarray(outputs(method, seed, rows), dtype=np.float32)
        nll = None
        if study.classes:
            nll = -np.log(
                out[np.arange(len(rows)), study.data.target[rows].astype(np.int64)].astype(np.float64)
            ).astype(np.float32)
        found[method, seed] = RunPredictions(rows, out, nll)
    return found


def sure(target: NDArray[Any], classes: int, wrong: NDArray[np.bool_], p: float = 0.9) -> NDArray[np.float64]:
    """Probabilities that give p to the true class, or to the next one where an answer is to be wrong."""
    told = np.where(wrong, (target + 1) % classes, target)
    out = np.full((len(target), classes), (1 - p) / (classes - 1))
    out[np.arange(len(target)), told] = p
    return out


def answers(
    study: TableComparison, wrong: Mapping[str, Callable[[NDArray[np.int64]], NDArray[np.bool_]]], p: float = 0.9
) -> dict[RunId, RunPredictions]:
    """Predictions with the rows that each method has wrong; of others those of ERM, of the constant answer half."""

    def outputs(method: str, seed: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        target = study.data.target[rows]
        if method == CONSTANT and method not in wrong:
            return np.tile([0.501, 0.499], (len(rows), 1))
        return sure(target, study.classes, np.asarray(wrong.get(method, wrong["ERM"])(rows), dtype=bool), p)

    return predictions_of(study, outputs)


def numbers(
    study: TableComparison, residuals: Mapping[str, Callable[[NDArray[np.int64]], NDArray[np.float64]]]
) -> dict[RunId, RunPredictions]:
    """Predictions with the residuals that each method has; of others those of ERM, of the constant answer the mean."""

    def outputs(method: str, seed: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        target = study.data.target[rows]
        if method == CONSTANT and method not in residuals:
            return np.full(len(rows), study.data.target.mean())
        return target + residuals.get(method, residuals["ERM"])(rows)

    return predictions_of(study, outputs)


def records_of(
    study: TableComparison,
    predictions: Mapping[RunId, RunPredictions],
    validation: Mapping[str, list[float]] | None = None,
) -> list[RunRecord]:
    """Runs with these scores by seed on validation rows, 0.5 for others, and with what follows from the predictions."""
    main = "error" if study.classes else "rmse"
    others = ("nll", "brier", "ece") if study.classes else ("mae", "r2")

    def scores(value: float) -> dict[str, float]:
        return {main: value, **dict.fromkeys(others, 0.5)}

    def test(method: str, seed: int) -> float:
        of = predictions[method, seed]
        target = study.data.target[of.rows]
        if study.classes:
            return float((of.outputs.argmax(1) != target).mean())
        return float(np.sqrt(np.square(of.outputs.astype(float) - target).mean()))

    return [
        RunRecord(
            method=method,
            seed=seed,
            seconds=0.25,
            epochs=1,
            train=scores(0.0),
            validation=scores((validation or {}).get(method, [0.5] * 99)[seed]),
            test=scores(test(method, seed)),
            perturbed=None,
            curve={"epoch": [1], f"validation_{main}": [0.5]},
        )
        for method, seed in study.runs
    ]


def conclude(
    study: TableComparison,
    predictions: Mapping[RunId, RunPredictions],
    validation: Mapping[str, list[float]] | None = None,
) -> dict[str, Any]:
    """What follows from some predictions, as JSON holds it."""
    return records.to_json(verdict.conclude(study, records_of(study, predictions, validation), predictions))


def results_of(
    study: TableComparison,
    predictions: Mapping[RunId, RunPredictions],
    validation: Mapping[str, list[float]] | None = None,
) -> Results:
    """Everything that a comparison with these predictions found."""
    runs, settings = records_of(study, predictions, validation), study.settings
    conclusion = verdict.conclude(study, runs, predictions)
    train, held_out, test = study.sizes
    return Results(
        vicinal="0.1.0",
        command="vicinal compare made",
        created="2026-11-24T20:00:00Z",
        versions={"python": "3.11.7"},
        machine={"processor": "x86_64", "cores": 2},
        data=study.data_info(),
        protocol=Protocol(
            seeds=settings.seeds,
            epochs=study.epochs,
            steps=study.epochs * study.steps_per_epoch,
            batch_size=study.batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            patience=settings.patience,
            to_the_end=settings.to_the_end,
            decays=list(settings.decays),
            splits=study.splitting.how,
            label_noise=settings.label_noise,
            input_noise=settings.input_noise,
            train_examples=train,
            validation_examples=held_out,
            test_examples=test,
            measure=study.measure.name,
            model=ModelInfo("mlp", [128, 128], 17_539, "AdamW", "constant"),
            statistics=statistics_in_words(study),
            limitations=limitations(study),
        ),
        methods=study.methods,
        runs=runs,
        **vars(conclusion),
    )
