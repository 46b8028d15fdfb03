"""Synthetic results of a comparison, for the tests of what shows them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from vicinal.lab import records
from vicinal.lab.compare.results import Results

CHOSEN, POLICY = "mixup, alpha chosen on validation", "mixup or ERM, chosen on validation"
BASELINES = ("constant answer", "linear model", "gradient-boosted trees")
ALPHAS = (0.1, 0.2, 0.4, 1.0, 2.0, 4.0, 0.05, 8.0, 0.8, 16.0)
NAMED = ("CutMix(alpha=1.0)", "LabelSmoothing(0.1)", "GaussianNoise(0.1)", "InputMixup(alpha=2.0)")


CHANCES_OF_HARM = {"better": 0.05, "same": 0.2, "worse": 0.75}


def methods_of(count: int) -> list[dict[str, Any]]:
    """ERM, from four on with two weight decays; count - 1 others, mixup and every fourth a named method; and baselines."""
    decays = {"ERM, decay 0": 0.0, "ERM, decay 0.1": 0.1} if count > 3 else {"ERM": 0.0}
    methods: list[dict[str, Any]] = [
        {"name": name, "vicinity": "ERM()", "family": "erm", "alpha": None, "weight_decay": decay}
        for name, decay in decays.items()
    ]
    alphas, named = list(ALPHAS), list(NAMED)
    for place in range(1, count):
        if place % 5 == 0 and named:
            name = named.pop(0)
            methods.append({"name": name, "vicinity": name, "family": "named", "alpha": None})
        else:
            alpha = alphas.pop(0)
            vicinity = f"Mixup(alpha={alpha:g})"
            methods.append({"name": f"mixup {alpha:g}", "vicinity": vicinity, "family": "mixup", "alpha": alpha})
    return methods + [{"name": name, "vicinity": "", "family": "baseline", "alpha": None} for name in BASELINES]


def estimate(values: list[float]) -> dict[str, float]:
    """Mean and a normal interval."""
    mean = float(np.mean(values))
    half = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return {"mean": mean, "low": mean - half, "high": mean + half}


def build(
    *,
    task: str = "classification",
    seeds: int = 20,
    methods: int = 6,
    classes: int = 3,
    test_rows: int = 30,
    perturb: float | None = None,
    effect: float = -0.004,
    level: float = 0.05,
    data: str = "iris",
) -> dict[str, Any]:
    """Results as results.json holds them: error (or RMSE) near level for ERM, about effect more for the others."""
    generator = np.random.Generator(np.random.PCG64(7))
    regression = task == "regression"
    measure = "rmse" if regression else "error"
    listed = methods_of(methods)
    epochs = [1, *range(11, 201, 10)]
    hardness = generator.normal(0.0, 0.3 * level, seeds)
    runs: list[dict[str, Any]] = []
    for method in listed:
        is_network = method["family"] != "baseline"
        shift = effect * (1.0 if method["alpha"] is None else 1.0 + method["alpha"] / 8)
        if method["family"] == "erm":
            shift = 0.0
        elif not is_network:
            shift = {"constant answer": 0.7 if regression else 8.0, "linear model": 0.6, "gradient-boosted trees": 0.5}[
                method["name"]
            ] * level
        for seed in range(seeds):

            def metrics(base: float) -> dict[str, Any]:
                value = max(0.0, base + generator.normal(0.0, 0.15 * level))
                if regression:
                    return {"rmse": value, "mae": 0.78 * value, "r2": 1.0 - (value / (4 * level)) ** 2}
                value = round(value * test_rows) / test_rows
                return {
                    "error": value,
                    "nll": 0.05 + 2.2 * value,
                    "brier": 0.01 + 1.1 * value,
                    "ece": 0.02 + 0.3 * value,
                }

            base = level + hardness[seed] + shift
            test, bins = metrics(base), None
            if not regression:
                bins = reliability(generator, test_rows, classes, 0.08 if shift == 0.0 else 0.02)
            decay = np.exp(-np.arange(len(epochs)) / 3.0)
            course = base + 6 * level * decay + generator.normal(0.0, 0.04 * level, len(epochs)).cumsum()
            course = np.abs(course)
            curve: dict[str, list[float]] = {"epoch": list(epochs)}
            if regression:
                curve |= {"train_rmse": (0.6 * course).tolist(), "validation_rmse": course.tolist()}
            else:
                curve |= {
                    "train_nll": (1.2 * course).tolist(),
                    "validation_nll": (2.4 * course + 0.05).tolist(),
                    "validation_error": (np.round(course * test_rows) / test_rows).tolist(),
                }
            runs.append(
                {
                    "method": method["name"],
                    "seed": seed,
                    "seconds": 0.0 if method["name"] == "constant answer" else 0.12 + 0.02 * float(generator.random()),
                    "train": metrics(0.4 * base),
                    "validation": metrics(base),
                    "test": test,
                    "perturbed": metrics(base + level) if perturb is not None else None,
                    "curve": curve if is_network else {},
                    "reliability": bins,
                    "epochs": 120 + seed % 7 if is_network else 0,
                }
            )
    return finish(
        {
            "format": 3,
            "vicinal": "0.1.0",
            "command": f"vicinal compare {data}",
            "created": "2026-11-24T20:00:00Z",
            "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6", "scikit-learn": "1.8.0"},
            "machine": {"processor": "x86_64", "cores": 2},
            "data": {
                "name": data,
                "kind": "table",
                "source": f"scikit-learn: load_{data}",
                "examples": 5 * test_rows,
                "task": task,
                "target": "progression" if regression else "species",
                "classes": [] if regression else class_names(classes),
                "class_counts": [] if regression else [5 * test_rows // classes] * classes,
                "table": {"numeric_columns": 4, "categorical_columns": 0, "inputs": 4, "missing_cells": 0},
                "sha256": "6f608b71a7317216319b4d27b4d9bc84e6abd734eda7872b71a458569e2656c0",
            },
            "protocol": {
                "seeds": seeds,
                "epochs": 200,
                "steps": 1200,
                "batch_size": 16,
                "learning_rate": 0.001,
                "weight_decay": 0.0,
                "patience": None,
                "to_the_end": False,
                "decays": [method["weight_decay"] for method in listed if method["family"] == "erm"],
                "splits": "folds",
                "train_examples": 3 * test_rows,
                "validation_examples": test_rows,
                "test_examples": test_rows,
                "label_noise": 0.0,
                "input_noise": perturb,
                "model": {
                    "name": "mlp",
                    "hidden": [128, 128],
                    "parameters": 17539,
                    "optimizer": "AdamW",
                    "schedule": "constant",
                },
                "measure": measure,
                "statistics": "Differences are taken within seeds; intervals are at 95 %.",
                "limitations": ["Nothing but alpha was tuned.", "No other table was tried."],
            },
            "methods": listed,
            "runs": runs,
            "model": {
                "file": "model.safetensors",
                "method": listed[0]["name"],
                "epochs": 123,
                "usage": "from vicinal.lab import model\n\n"
                'best = model.load("model.safetensors")\n'
                "rows = [[5.1, 3.5, 1.4, 0.2]]\n"
                "print(best.predict(rows))",
            },
        }
    )


def typed(results: dict[str, Any]) -> Results:
    """The same as results are in a program."""
    plain = json.loads(json.dumps(records.to_json(results)))  # without numbers of NumPy, as a file holds it
    return records.from_json(Results, plain)


def class_names(count: int) -> list[str]:
    """Three flowers, or numbers."""
    return ["setosa", "versicolor", "virginica"] if count == 3 else [f"class {number}" for number in range(count)]


def reliability(generator: np.random.Generator, rows: int, classes: int, too_sure: float) -> dict[str, list[Any]]:
    """Fifteen bins of rows predictions, of which a share too_sure less is right than claimed."""
    confidence = 1.0 - (1.0 - 1.0 / classes) * generator.beta(0.6, 4.0, rows)
    right = generator.random(rows) < confidence - too_sure * (1.0 - confidence) * 6.0
    place = np.minimum((confidence * 15).astype(int), 14)
    table: dict[str, list[Any]] = {"count": [], "confidence": [], "accuracy": []}
    for number in range(15):
        own = place == number
        table["count"].append(int(own.sum()))
        table["confidence"].append(float(confidence[own].mean()) if own.any() else None)
        table["accuracy"].append(float(right[own].mean()) if own.any() else None)
    return table


def finish(results: dict[str, Any]) -> dict[str, Any]:
    """Add summary, comparisons, choices and verdict to results that hold the runs."""
    measure = results["protocol"]["measure"]
    by_method: dict[str, list[dict[str, Any]]] = {method["name"]: [] for method in results["methods"]}
    for run in results["runs"]:
        by_method[run["method"]].append(run)
    erm, mixups, named, baselines = (
        [method["name"] for method in results["methods"] if method["family"] == family]
        for family in ("erm", "mixup", "named", "baseline")
    )
    choices = {"ERM": erm} if len(erm) > 1 else {}
    choices |= {CHOSEN: mixups, POLICY: [*erm, *mixups]} if mixups else {}
    results["chosen"] = {}
    for name, members in choices.items():
        runs = zip(*(by_method[member] for member in members), strict=True)
        by_method[name] = [min(seed, key=lambda run: run["validation"][measure]) for seed in runs]
        results["chosen"][name] = [run["method"] for run in by_method[name]]
    results["summary"] = {name: summarize(own) for name, own in by_method.items()}
    primary = [*([CHOSEN] if mixups else []), *named]
    secondary = [*mixups, *(name for name in erm if name != "ERM"), *([POLICY] if mixups else []), *baselines]
    results["comparisons"] = [compare(name, by_method, measure, primary=True) for name in primary]
    results["comparisons"] += [compare(name, by_method, measure, primary=False) for name in secondary]
    beside = [] if measure == "rmse" else ["nll", "ece"]
    results["beside"] = [compare(name, by_method, of, primary=True) for of in beside for name in primary]
    results["choice"] = None
    if mixups:
        alphas = {method["name"]: method["alpha"] for method in results["methods"]}
        per_seed = [alphas[name] for name in results["chosen"][CHOSEN]]
        counts = {f"{alphas[name]:g}": per_seed.count(alphas[name]) for name in mixups}
        recommended = max(mixups, key=lambda name: counts[f"{alphas[name]:g}"])
        results["choice"] = {"family": "mixup", "per_seed": per_seed, "counts": counts, "recommended": recommended}
    results["verdict"] = decide(results)
    return results


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Estimates of every measure of one method."""
    entry: dict[str, Any] = {"seconds": float(np.mean([run["seconds"] for run in runs]))}
    for part in ("test", "train", "validation", "perturbed"):
        if runs[0][part] is None:
            entry[part] = None
            continue
        entry[part] = {key: estimate([run[part][key] for run in runs]) for key in runs[0][part]}
    return entry


def compare(name: str, by_method: dict[str, list[dict[str, Any]]], measure: str, *, primary: bool) -> dict[str, Any]:
    """One paired comparison with ERM."""
    pairs = zip(by_method[name], by_method["ERM"], strict=True)
    per_seed = [own["test"][measure] - erm["test"][measure] for own, erm in pairs]
    paired = estimate(per_seed)
    clear = paired["low"] > 0.0 or paired["high"] < 0.0
    return {
        "method": name,
        "primary": primary,
        "difference": paired["mean"],
        "low": paired["low"],
        "high": paired["high"],
        "p": 0.0123 if clear else 0.41,
        "p_holm": 0.0123 if primary and clear else 0.0369 if clear else 0.41 if primary else 1.0,
        "per_seed": per_seed,
        "measure": measure,
        "chances": {"better": 0.75, "same": 0.2, "worse": 0.05} if paired["mean"] < 0 else CHANCES_OF_HARM,
        "same": 0.1 * abs(float(np.mean([run["test"][measure] for run in by_method["ERM"]]))),
        "detectable": 1.4 * (paired["high"] - paired["low"]) / 2,
        "p_strict": 0.034 if clear else 0.61,
    }


def decide(results: dict[str, Any]) -> dict[str, str]:
    """The verdict on the primary comparison."""
    primary = next((own for own in results["comparisons"] if own["primary"]), None)
    name, classification = results["data"]["name"], results["protocol"]["measure"] == "error"
    seeds = results["protocol"]["seeds"]
    told = {"method": "" if primary is None else primary["method"]}
    if primary is None or primary["low"] <= 0.0 <= primary["high"]:
        return told | {
            "kind": "no difference found",
            "sentence": f"On {name}, mixup neither clearly helps nor clearly harms: {seeds} seeds find no difference.",
            "advice": "Keep ERM: it is simpler. If a small gain would matter, run again with more seeds.",
        }
    kind = "helps" if primary["high"] < 0.0 else "harms"
    factor, unit = (100, " percentage points of test error") if classification else (1, " of RMSE")
    change = f"{abs(primary['difference']) * factor:.2f}{unit}"
    ends = sorted(abs(primary[end]) * factor for end in ("low", "high"))
    gain = "saves" if kind == "helps" else "costs"
    return told | {
        "kind": kind,
        "sentence": f"On {name}, mixup {kind}: it {gain} {change} (95 % interval {ends[0]:.2f} to {ends[1]:.2f}).",
        "advice": f"Use {results['choice']['recommended']}." if kind == "helps" else "Keep ERM.",
    }
