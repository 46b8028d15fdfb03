"""When does linear interpolation hurt, and can one see it coming from the data alone?

The paper rests on an intrusion: between two examples, a model does well to be linear. This study makes the intrusion false
step by step, on toy tables, and lays what mixup does to the test error beside what `diagnose` says of the data before
any training; and does the same on real tables.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

import vicinal
from vicinal.keyed import Key
from vicinal.lab import atomic, intrusion, statistics
from vicinal.lab.data import table as tables
from vicinal.lab.data import toy
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.data.encoder import Encoding
from vicinal.lab.data.splits import split
from vicinal.lab.data.table import Table
from vicinal.lab.paper.study import Job, Requirements, Results, Row, Scale, Study
from vicinal.lab.streams import Stream
from vicinal.lab.training import stacked_mlp
from vicinal.lab.training.scores import evaluate

ALPHAS = (0.1, 0.4, 1.0)
FIXED = "mixup 1"
CHOSEN = "mixup, alpha chosen on validation"

# uci-iris is iris but for two rows, and would count the same table twice
REAL = ("iris", "wine", "breast_cancer", "digits", "abalone", "arrhythmia", "htru2", "phishing", "arcene")

TOY_ROWS = 1000  # the table that the indicator sees; as in a comparison, 60 % of them are for training
TOY_TRAIN, TOY_VALIDATION, TOY_TEST = 600, 200, 2000  # each seed draws its own table

RESAMPLED = 2000  # bootstrap samples


@dataclass(frozen=True)
class IntrusionScale:
    """How much is done at one size.

    Args:
        seeds: of each set.
        toy_epochs: of 38 steps.
        epochs: on real tables; None: as `vicinal compare`, about 3,000 steps.
        values: how many of a family's values, first and last among them.
        real: names of tables.
        minutes: on two cores, measured for "small" and reckoned from it for "paper".

    """

    seeds: int
    toy_epochs: int
    epochs: int | None
    values: int
    real: tuple[str, ...]
    minutes: float


SCALES: Mapping[Scale, IntrusionScale] = {
    "smoke": IntrusionScale(2, 1, 1, 2, ("iris",), 0.2),
    "small": IntrusionScale(6, 50, None, 6, REAL, 15),
    "paper": IntrusionScale(20, 50, None, 6, REAL, 50),
}


class IntrusionStudy(Study):
    """Effect of mixup and conflict of the data, over toy tables that go wrong by one parameter, and over real tables.

    Paper: it takes for granted that a model does well to be linear between examples, and shows no data where it does not.

    Here: for each set, ERM and mixup at alpha 0.1, 0.4 and 1 train the model of the paper's section 3.6 (two hidden layers
    of 128, Adam at 0.001, batches of 16) with the same splits, first weights and order of data for each seed. On toy
    sets every seed draws a table of its own (600 rows for training, 200 for validation, 2,000 for testing; 50 epochs), so
    that seeds are independent; on real tables a seed draws a split, as in `vicinal compare`, with its budget. The effect
    is the test error of mixup minus that of ERM: at alpha 1, and at the alpha that each seed chose on validation rows.

    The indicator is `diagnose`'s conflict at alpha 1, over the whole table (toy: 1,000 rows of another seed). Its
    definition was fixed before any model of this study was trained, and no part of it was fitted.

    Whether the two go together is said by Spearman's rank correlation, with a bootstrap interval that draws whole
    families and whole tables, since sets of one family are alike.
    """

    name = "intrusion"
    section = "what would settle it"
    title = "When linear interpolation hurts, and whether the data tell beforehand"

    def requirements(self, size: Scale) -> Requirements:
        """Say what it needs."""
        where = f"; the UCI sets in the folder that {DATA_DIR_ENV} names (without it, the others alone)"
        return Requirements(
            f"toy tables, and those of scikit-learn{where if size != 'smoke' else ''}", SCALES[size].minutes
        )

    def deviations(self, size: Scale) -> Sequence[str]:
        """Say what is smaller: the paper has no such section, so that its size is ours."""
        scale, most = SCALES[size], SCALES["paper"]
        if scale == most:
            return ()
        said = [f"{scale.seeds} seeds for each set instead of {most.seeds}."]
        if size == "smoke":
            said.append("One epoch, two values of each family, and one real table: this shows only that it runs.")
        return said

    def jobs(self, size: Scale) -> Sequence[Job]:
        """Give one job a set: values of the families, and the real tables."""
        scale = SCALES[size]
        real = [Job(_table_job(name), partial(_real_job, scale, name), ready=_is_there(name)) for name in scale.real]
        return [
            Job(_job_name(family, value), partial(_toy_job, scale, family, value))
            for family in toy.FAMILIES
            for value in _values(family, scale)
        ] + real

    def rows(self, size: Scale, done: Results) -> Sequence[Row]:
        """Give three rows a set: ERM, mixup at alpha 1, and at the alpha chosen. Nothing was published."""
        scale, measure = SCALES[size], "test error, %"
        listed: list[tuple[str, str, str]] = [
            (_job_name(family, value), f"{family.name} {value:g}", "")
            for family in toy.FAMILIES
            for value in _values(family, scale)
        ]
        absent = f"its files are not in the folder that {DATA_DIR_ENV} names"
        listed += [(_table_job(name), name, "" if _is_there(name) else absent) for name in scale.real]
        table = []
        for job, name, note in listed:
            erm = f"{name}, ERM"
            errors: dict[str, tuple[float, ...]] = {}
            if job in done:
                errors = {key: tuple(100 * e for e in of) for key, of in _errors(done[job]).items()}
                note = f"conflict {_indicator(done[job])['conflict'][0]:+.3f}"
            table.append(Row(erm, measure, values=errors.get("ERM", ()), note="" if job in done else note))
            for method in (FIXED, CHOSEN):
                table.append(Row(f"{name}, {method}", measure, None, errors.get(method, ()), erm, note))
        return table

    def draw(self, size: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw where each family turns from help to harm, and all sets in one image."""
        from vicinal.lab.paper import intrusion_figures as images  # brings matplotlib, which takes a second

        drawn = {}
        sets = summarize(done)
        for family in toy.FAMILIES:
            mine = [one for one in sets if one["family"] == family.name]
            if mine:
                drawn[f"{self.name}-{family.name}.svg"] = images.turning(family, mine)
        if len(sets) > 2:
            drawn[f"{self.name}-all.svg"] = images.together(sets, ranks(sets)["all"])
        for name, image in drawn.items():
            atomic.write(folder / name, image)
        return [folder / name for name in drawn]


def _values(family: toy.Family, scale: IntrusionScale) -> list[float]:
    last = len(family.values) - 1
    return [family.values[round(i * last / (scale.values - 1))] for i in range(scale.values)]


def _job_name(family: toy.Family, value: float) -> str:
    return f"{family.name}-{value:g}"


def _is_there(name: str) -> bool:
    """Whether a real table can be read here: scikit-learn's always, a UCI set if its folder is there."""
    root = os.environ.get(DATA_DIR_ENV)
    return name in tables.EMBEDDED or (root is not None and (Path(root).expanduser() / "uci" / name).is_dir())


# -- a job -------------------------------------------------------------------------------------------------------------


def _table_job(name: str) -> str:
    return f"table-{name}".replace("_", "-")


def _toy_job(scale: IntrusionScale, family: toy.Family, value: float, folder: Path) -> dict[str, Any]:
    rows = TOY_TRAIN + TOY_VALIDATION + TOY_TEST
    drawn = [family.table(value, rows, seed) for seed in range(scale.seeds)]
    seen = family.table(value, TOY_ROWS, scale.seeds)
    about = {"set": seen.name, "kind": "toy", "family": family.name, "value": value, "test_share": 0.0}
    return about | _measure(seen, drawn, TOY_VALIDATION / rows, TOY_TEST / rows, scale.toy_epochs)


def _real_job(scale: IntrusionScale, name: str, folder: Path) -> dict[str, Any]:
    table = tables.load(name)
    rows = split(table, 0)
    share = len(rows.test) / len(rows.train)
    about = {"set": name, "kind": "real", "family": name, "value": None, "test_share": share}
    return about | _measure(table, [table] * scale.seeds, 0.2, 0.2, scale.epochs)


def _measure(seen: Table, drawn: Sequence[Table], validation: float, test: float, epochs: int | None) -> dict[str, Any]:
    """Give the indicator of one table, and the errors of all methods on one table a seed."""
    inputs = Encoding.fit(seen, np.arange(len(seen))).inputs(seen)
    found = intrusion.measure(inputs, seen.target, ALPHAS, name=seen.name)
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"train": [], "validation": [], "test": []}
    for seed, table in enumerate(drawn):
        rows = split(table, seed, validation=validation, test=test)
        encoding = Encoding.fit(table, rows.train)
        x, y = encoding.inputs(table), encoding.targets(table)
        for name, part in parts.items():
            chosen = getattr(rows, name)
            part.append((x[chosen], y[chosen]))
    stacked = {
        name: stacked_mlp.StackedSplit(*(torch.from_numpy(np.stack(arrays)) for arrays in zip(*part, strict=True)))
        for name, part in parts.items()
    }
    training = stacked_mlp.MLPTraining(_budget(stacked["train"].targets.shape[1]) if epochs is None else epochs)
    listed = {"ERM": None} | {f"mixup {alpha:g}": alpha for alpha in ALPHAS}
    vicinities = [vicinal.ERM() if alpha is None else vicinal.Mixup(alpha) for alpha in listed.values()]
    runs = [stacked_mlp.MLPRun(seed, seed, vicinity) for seed in range(len(drawn)) for vicinity in vicinities]
    classes = len(seen.classes)
    models = stacked_mlp.train(runs, stacked["train"], classes, training).models
    scores = {
        part: evaluate(models, runs, stacked[part], classes, [1.0] * len(drawn)) for part in ("validation", "test")
    }

    def of(method: str, part: str, measure: str) -> list[float]:
        first = list(listed).index(method)
        return [score[measure] for score in scores[part][first :: len(listed)]]

    return {
        "rows": len(seen),
        "inputs": found.inputs,
        "classes": classes,
        "steps": training.steps(stacked["train"].inputs.shape[1]),
        "unmixed": list(found.unmixed),
        "indicator": {
            f"{one.alpha:g}": {"conflict": list(one.conflict), "third": list(one.third), "distance": list(one.distance)}
            for one in found.mixed
        },
        "methods": {
            method: {
                "alpha": alpha,
                "test_error": of(method, "test", "error"),
                "test_nll": of(method, "test", "nll"),
                "validation_error": of(method, "validation", "error"),
                "validation_nll": of(method, "validation", "nll"),
            }
            for method, alpha in listed.items()
        },
    }


def _budget(rows: int) -> int:
    """Return the epochs that `vicinal compare` trains on a table: about 3,000 steps, in 10 to 200 epochs."""
    return min(200, max(10, round(3000 / stacked_mlp.MLPTraining(1).steps(rows))))


# -- from jobs to what they say ----------------------------------------------------------------------------------------


def _errors(result: Mapping[str, Any]) -> dict[str, list[float]]:
    """Give the test errors by method, with the choice of each seed among the alphas on its validation rows."""
    of = result["methods"]
    mixed = [name for name in of if name != "ERM"]
    chosen = []
    for seed in range(len(of["ERM"]["test_error"])):
        best = min(mixed, key=lambda name: (of[name]["validation_error"][seed], of[name]["validation_nll"][seed]))
        chosen.append(of[best]["test_error"][seed])
    return {name: one["test_error"] for name, one in of.items()} | {CHOSEN: chosen}


def _indicator(result: Mapping[str, Any]) -> dict[str, list[float]]:
    return result["indicator"][f"{intrusion.HEADLINE:g}"]


def summarize(done: Results) -> list[dict[str, Any]]:
    """Give for each set its indicator and the effect of mixup, as fractions, with 95 % intervals over seeds.

    On real tables intervals are by the corrected resampled t (`statistics.paired`). "harm" and "help" are where the
    interval of the effect at alpha 1 excludes 0.
    """
    sets = []
    for result in done.values():
        errors, indicator = _errors(result), _indicator(result)

        def effect(method: str, errors: dict[str, list[float]] = errors, share: float = result["test_share"]) -> Any:
            pairs = zip(errors[method], errors["ERM"], strict=True)
            return statistics.paired([mine - erm for mine, erm in pairs], share)

        fixed, chosen = effect(FIXED), effect(CHOSEN)
        sets.append(
            {
                "set": result["set"],
                "kind": result["kind"],
                "family": result["family"],
                "value": result["value"],
                "conflict": indicator["conflict"][0],
                "third": indicator["third"][0],
                "distance": indicator["distance"][0],
                "unmixed": result["unmixed"][0],
                "erm": float(np.mean(errors["ERM"])),
                "effect": [fixed.difference, fixed.low, fixed.high],
                "chosen": [chosen.difference, chosen.low, chosen.high],
                "verdict": "harm" if fixed.low > 0 else "help" if fixed.high < 0 else "unclear",
            }
        )
    return sets


def rank_correlation(sets: Sequence[Mapping[str, Any]], indicator: str = "conflict", effect: str = "effect") -> Any:
    """Give Spearman's rank correlation of indicator and effect, with a 95 % interval by the bootstrap.

    The bootstrap draws families and tables with replacement, keyed; a sample in which one of the two does not vary has
    no correlation and is left out. nan for fewer than three sets.
    """
    from scipy.stats import rankdata  # scipy.stats takes a second to import

    def rho(of: Sequence[Mapping[str, Any]]) -> float:
        x, y = rankdata([one[indicator] for one in of]), rankdata([one[effect][0] for one in of])
        return float(np.corrcoef(x, y)[0, 1]) if len(of) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0 else float("nan")

    groups: dict[str, list[Mapping[str, Any]]] = {}
    for one in sets:
        groups.setdefault(one["family"], []).append(one)
    clusters = list(groups.values())
    generator = Key(0, 0, 0, 0, Stream.INTRUSION).generator()
    sampled = [
        rho([one for i in generator.integers(len(clusters), size=len(clusters)) for one in clusters[i]])
        for _ in range(RESAMPLED)
    ]
    known = [value for value in sampled if value == value]
    low, high = np.percentile(known, (2.5, 97.5)).tolist() if known else (float("nan"),) * 2
    return {"rho": rho(sets), "low": low, "high": high, "n": len(sets), "groups": len(clusters)}


def ranks(sets: Sequence[Mapping[str, Any]], indicator: str = "conflict", effect: str = "effect") -> dict[str, Any]:
    """Give the rank correlation over all sets, over toy sets, and over real tables."""
    kinds = {
        "all": sets,
        "toy": [s for s in sets if s["kind"] == "toy"],
        "real": [s for s in sets if s["kind"] == "real"],
    }
    return {name: rank_correlation(of, indicator, effect) for name, of in kinds.items() if of}


def evidence(size: Scale, done: Results, date: str) -> dict[str, Any]:
    """Give what `vicinal diagnose` says of its own worth: each set's conflict and effect, and how they rank together."""
    sets = summarize(done)
    return {
        "date": date,
        "size": size,
        "seeds": SCALES[size].seeds,
        "vicinal": vicinal.__version__,
        "rank": ranks(sets),
        "rank_of_parts": {part: ranks(sets, part) for part in ("third", "distance", "unmixed")},
        "rank_with_chosen_alpha": ranks(sets, effect="chosen"),
        "sets": sets,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Put what the study has measured into the package, for `vicinal diagnose` to quote."""
    from vicinal.lab.paper import reproduce  # which knows this study

    parser = argparse.ArgumentParser(prog="python -m vicinal.lab.paper.intrusion", description=main.__doc__)
    parser.add_argument("root", type=Path, help="the --out of `vicinal reproduce intrusion`")
    parser.add_argument("size", choices=get_args(Scale))
    parser.add_argument("out", type=Path, nargs="?", default=intrusion.EVIDENCE)
    args = parser.parse_args(argv)
    folder = reproduce.Folder(args.root, IntrusionStudy(), args.size)
    records = folder.records()
    absent = [name for name in SCALES[args.size].real if not _is_there(name)]
    missing = len(folder.study.jobs(args.size)) - len(records)
    if absent or missing:
        says = f"the data of {', '.join(absent)} are not there" if absent else f"{missing} jobs are not done"
        print(f"{says}: vicinal reproduce intrusion --size {args.size} --out {args.root}", file=sys.stderr)
        return 2
    newest = max(records.values(), key=lambda record: record["created"])
    made_by = {"command": newest["command"], "versions": {"vicinal": newest["vicinal"], **newest["versions"]}}
    found = evidence(args.size, folder.done(), newest["created"][:10]) | made_by
    atomic.write(args.out, json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
