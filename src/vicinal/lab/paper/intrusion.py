"""When does linear interpolation hurt, and can one see it coming from the data alone?

The paper assumes that a model does well to be linear between two examples. This study makes the assumption false step by
step, on toy tables, and compares what mixup does to the test error with the manifold intrusion (Guo et al. 2019) that
`vicinal diagnose` measures in the data before any training; and does the same on real tables.
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

import vicinal
from vicinal.keyed import Key
from vicinal.lab import atomic, intrusion, statistics
from vicinal.lab.data import synthetic, tables
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.data.encoded_splits import EncodedSplit, encode_split, stack_all
from vicinal.lab.data.encoder import Encoding
from vicinal.lab.data.table import Table
from vicinal.lab.paper.store import JobFolder
from vicinal.lab.paper.study import AtScale, Job, Results, Row, Scale, Study
from vicinal.lab.records import from_json, to_json
from vicinal.lab.selection import best_on_validation
from vicinal.lab.streams import Stream
from vicinal.lab.training import stacked_mlp
from vicinal.lab.training.scores import evaluate

ALPHAS = (0.1, 0.4, 1.0)
METHODS = {"ERM": None} | {f"mixup {alpha:g}": alpha for alpha in ALPHAS}
FIXED = "mixup 1"
CHOSEN = "mixup, alpha chosen on validation"

# uci-iris is iris but for two rows, and would count the same table twice
REAL = ("iris", "wine", "breast_cancer", "digits", "abalone", "arrhythmia", "htru2", "phishing", "arcene")

TOY_ROWS = 1000  # the table that the indicator sees; as in a comparison, 60 % of them are for training
TOY_TRAIN, TOY_VALIDATION, TOY_TEST = 600, 200, 2000  # each seed draws its own table

RESAMPLED = 2000  # bootstrap samples
_UCI = f"the UCI sets in the folder that {DATA_DIR_ENV} names (without it, the others alone)"


@dataclass(frozen=True)
class IntrusionScale(AtScale):
    """A scale of the study of manifold intrusion.

    Args:
        toy_epochs: of 38 steps.
        epochs: on real tables; None: as `vicinal compare`, about 3,000 steps.
        values: number of a family's values, first and last among them.
        real: names of tables.

    """

    toy_epochs: int = 50
    epochs: int | None = None
    values: int = 6
    real: tuple[str, ...] = REAL


# the paper has no such section, so that its scale is ours
SCALES: Mapping[Scale, IntrusionScale] = {
    "smoke": IntrusionScale(
        data="toy tables, and one of scikit-learn",
        minutes=0.2,
        seeds=2,
        deviations=(
            "2 seeds for each set instead of 20.",
            "One epoch, two values of each family, and one real table: this shows only that it runs.",
        ),
        toy_epochs=1,
        epochs=1,
        values=2,
        real=("iris",),
    ),
    "small": IntrusionScale(
        data=f"toy tables, and those of scikit-learn; {_UCI}",
        minutes=15,
        seeds=6,
        deviations=("6 seeds for each set instead of 20.",),
    ),
    "paper": IntrusionScale(
        data=f"toy tables, and those of scikit-learn; {_UCI}",
        minutes=50,  # reckoned from those of "small"
        seeds=20,
        full=True,
    ),
}


@dataclass(frozen=True)
class MethodErrors:
    """Errors and likelihoods of one method, one per seed."""

    alpha: float | None
    test_error: list[float]
    test_nll: list[float]
    validation_error: list[float]
    validation_nll: list[float]

    def validation(self, seed: int) -> dict[str, float | None]:
        """Return the scores on a seed's validation rows."""
        return {"error": self.validation_error[seed], "nll": self.validation_nll[seed]}


@dataclass(frozen=True)
class SetResult:
    """What a job returned: the indicator of one set by alpha, each a mean with its interval, and the errors."""

    set: str
    kind: str  # toy or real
    family: str
    value: float | None
    test_share: float
    rows: int
    inputs: int
    classes: int
    steps: int
    unmixed: list[float]
    indicator: dict[str, dict[str, list[float]]]
    methods: dict[str, MethodErrors]

    @property
    def headline(self) -> dict[str, list[float]]:
        """Indicator at the alpha of the headline."""
        return self.indicator[f"{intrusion.HEADLINE:g}"]

    def errors(self) -> dict[str, list[float]]:
        """Return the test errors by method, with the choice of each seed among the alphas on its validation rows."""
        mixup = [method for name, method in self.methods.items() if name != "ERM"]
        chosen = []
        for seed in range(len(mixup[0].test_error)):
            best = best_on_validation([method.validation(seed) for method in mixup])
            chosen.append(mixup[best].test_error[seed])
        return {name: method.test_error for name, method in self.methods.items()} | {CHOSEN: chosen}


class IntrusionStudy(Study):
    """Effect of mixup and manifold intrusion, over toy tables that go wrong by one parameter, and over real tables.

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
    scales = SCALES

    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Return one job per set: values of the families, and the real tables."""
        at = SCALES[scale]
        toys = [
            Job(_toy_name(family, value), partial(_toy_job, at, family, value))
            for family in synthetic.FAMILIES
            for value in _values(family, at)
        ]
        return toys + [Job(_table_name(name), partial(_real_job, at, name), ready=_is_there(name)) for name in at.real]

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return three rows per set: ERM, mixup at alpha 1, and at the alpha chosen. Nothing was published."""
        at = SCALES[scale]
        sets = [
            (_toy_name(family, value), f"{family.name} {value:g}", "")
            for family in synthetic.FAMILIES
            for value in _values(family, at)
        ]
        absent = f"its files are not in the folder that {DATA_DIR_ENV} names"
        sets += [(_table_name(name), name, "" if _is_there(name) else absent) for name in at.real]
        return [row for job, name, note in sets for row in _rows(name, done.get(job), note)]

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw where each family turns from help to harm, and all sets in one figure."""
        from vicinal.lab.paper import intrusion_figures as figures  # brings matplotlib, which takes a second

        drawn = {}
        sets = summarize(done)
        for family in synthetic.FAMILIES:
            mine = [one for one in sets if one["family"] == family.name]
            if mine:
                drawn[folder / f"intrusion-{family.name}.svg"] = figures.family_figure(family, mine)
        if len(sets) > 2:
            drawn[folder / "intrusion-all.svg"] = figures.scatter(sets, ranks(sets)["all"])
        for path, svg in drawn.items():
            atomic.write(path, svg)
        return list(drawn)


def _rows(name: str, result: dict[str, Any] | None, note: str) -> list[Row]:
    measure, erm = "test error, %", f"{name}, ERM"
    if result is None:
        return [
            Row(erm, measure, note=note),
            *(Row(f"{name}, {method}", measure, against=erm, note=note) for method in (FIXED, CHOSEN)),
        ]
    found = from_json(SetResult, result)
    errors = {method: tuple(100 * error for error in of) for method, of in found.errors().items()}
    note = f"conflict {found.headline['conflict'][0]:+.3f}"
    return [
        Row(erm, measure, values=errors["ERM"]),
        *(Row(f"{name}, {method}", measure, None, errors[method], erm, note) for method in (FIXED, CHOSEN)),
    ]


def _values(family: synthetic.Family, at: IntrusionScale) -> list[float]:
    last = len(family.values) - 1
    return [family.values[round(i * last / (at.values - 1))] for i in range(at.values)]


def _toy_name(family: synthetic.Family, value: float) -> str:
    return f"{family.name}-{value:g}"


def _table_name(name: str) -> str:
    return f"table-{name}".replace("_", "-")


def _is_there(name: str) -> bool:
    """Return True if a real table can be read: scikit-learn's always, a UCI set if its folder is there."""
    root = os.environ.get(DATA_DIR_ENV)
    return name in tables.EMBEDDED or (root is not None and (Path(root).expanduser() / "uci" / name).is_dir())


# -- a job -------------------------------------------------------------------------------------------------------------


def _toy_job(at: IntrusionScale, family: synthetic.Family, value: float, folder: Path) -> dict[str, Any]:
    rows = TOY_TRAIN + TOY_VALIDATION + TOY_TEST
    seen = family.table(value, TOY_ROWS, at.seeds)
    about = {"set": seen.name, "kind": "toy", "family": family.name, "value": value, "test_share": 0.0}
    splits = [
        encode_split(family.table(value, rows, seed), seed, validation=TOY_VALIDATION / rows, test=TOY_TEST / rows)
        for seed in range(at.seeds)
    ]
    return about | _measure(seen, splits, at.toy_epochs)


def _real_job(at: IntrusionScale, name: str, folder: Path) -> dict[str, Any]:
    table = tables.load(name)
    splits = [encode_split(table, seed) for seed in range(at.seeds)]
    share = len(splits[0].rows.test) / len(splits[0].rows.train)
    about = {"set": name, "kind": "real", "family": name, "value": None, "test_share": share}
    return about | _measure(table, splits, at.epochs)


def _measure(seen: Table, splits: Sequence[EncodedSplit], epochs: int | None) -> dict[str, Any]:
    """Return the indicator of one table, and the errors of all methods on each split."""
    inputs = Encoding.fit(seen, np.arange(len(seen))).inputs(seen)
    found = intrusion.measure(inputs, seen.target, ALPHAS, name=seen.name)
    train, validation, test = stack_all(splits)
    training = stacked_mlp.MLPTraining(_epochs(train.targets.shape[1]) if epochs is None else epochs)
    vicinities = [vicinal.ERM() if alpha is None else vicinal.Mixup(alpha) for alpha in METHODS.values()]
    runs = [stacked_mlp.MLPRun(seed, seed, vicinity) for seed in range(len(splits)) for vicinity in vicinities]
    classes, units = len(seen.classes), [1.0] * len(splits)
    models = stacked_mlp.train(runs, train, classes, training).models
    on_test, on_validation = (evaluate(models, runs, part, classes, units) for part in (test, validation))
    return {
        "rows": len(seen),
        "inputs": found.inputs,
        "classes": classes,
        "steps": training.steps(train.inputs.shape[1]),
        "unmixed": list(found.unmixed),
        "indicator": {
            f"{at.alpha:g}": {"conflict": [*at.conflict], "third": [*at.third_class], "distance": [*at.distance]}
            for at in found.mixed
        },
        "methods": {
            method: to_json(_method_errors(alpha, on_test[i :: len(METHODS)], on_validation[i :: len(METHODS)]))
            for i, (method, alpha) in enumerate(METHODS.items())
        },
    }


def _method_errors(
    alpha: float | None, test: Sequence[Mapping[str, float]], validation: Sequence[Mapping[str, float]]
) -> MethodErrors:
    return MethodErrors(
        alpha,
        [scores["error"] for scores in test],
        [scores["nll"] for scores in test],
        [scores["error"] for scores in validation],
        [scores["nll"] for scores in validation],
    )


def _epochs(rows: int) -> int:
    """Return the epochs that `vicinal compare` trains on a table: about 3,000 steps, in 10 to 200 epochs."""
    return min(200, max(10, round(3000 / stacked_mlp.MLPTraining(1).steps(rows))))


# -- from jobs to conclusions ------------------------------------------------------------------------------------------


def summarize(done: Results) -> list[dict[str, Any]]:
    """Return the indicator of each set and the effect of mixup, as fractions, with 95 % intervals over seeds.

    On real tables intervals are by the corrected resampled t (`statistics.paired`). "harm" and "help" are where the
    interval of the effect at alpha 1 excludes 0.
    """
    return [_summary(from_json(SetResult, result)) for result in done.values()]


def _summary(result: SetResult) -> dict[str, Any]:
    errors = result.errors()

    def effect(method: str) -> list[float]:
        differences = [mine - erm for mine, erm in zip(errors[method], errors["ERM"], strict=True)]
        return list(statistics.paired(differences, result.test_share)[:3])

    fixed = effect(FIXED)
    return {
        "set": result.set,
        "kind": result.kind,
        "family": result.family,
        "value": result.value,
        **{part: result.headline[part][0] for part in ("conflict", "third", "distance")},
        "unmixed": result.unmixed[0],
        "erm": float(np.mean(errors["ERM"])),
        "effect": fixed,
        "chosen": effect(CHOSEN),
        "verdict": "harm" if fixed[1] > 0 else "help" if fixed[2] < 0 else "unclear",
    }


def rank_correlation(sets: Sequence[Mapping[str, Any]], indicator: str = "conflict", effect: str = "effect") -> Any:
    """Return Spearman's rank correlation of indicator and effect, with a 95 % interval by the bootstrap.

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
    """Return the rank correlation over all sets, over toy sets, and over real tables."""
    kinds = {
        "all": sets,
        "toy": [s for s in sets if s["kind"] == "toy"],
        "real": [s for s in sets if s["kind"] == "real"],
    }
    return {name: rank_correlation(of, indicator, effect) for name, of in kinds.items() if of}


def evidence(scale: Scale, done: Results, date: str) -> dict[str, Any]:
    """Return what `vicinal diagnose` says of its own worth: each set's conflict and effect, and how they rank together."""
    sets = summarize(done)
    return {
        "date": date,
        "scale": scale,
        "seeds": SCALES[scale].seeds,
        "vicinal": vicinal.__version__,
        "rank": ranks(sets),
        "rank_of_parts": {part: ranks(sets, part) for part in ("third", "distance", "unmixed")},
        "rank_with_chosen_alpha": ranks(sets, effect="chosen"),
        "sets": sets,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Put what the study has measured into the package, for `vicinal diagnose` to quote."""
    parser = argparse.ArgumentParser(prog="python -m vicinal.lab.paper.intrusion", description=main.__doc__)
    parser.add_argument("root", type=Path, help="the --out of `vicinal reproduce intrusion`")
    parser.add_argument("scale", choices=get_args(Scale))
    parser.add_argument("out", type=Path, nargs="?", default=intrusion.EVIDENCE)
    args = parser.parse_args(argv)
    folder = JobFolder(args.root, IntrusionStudy(), args.scale)
    records = folder.records()
    missing = [job.name for job in folder.study.jobs(args.scale) if job.name not in records]
    absent = [name for name in SCALES[args.scale].real if not _is_there(name)]
    if absent or missing:
        print(
            f"without data: {', '.join(absent) or 'none'}; jobs not done: {len(missing)}; run vicinal reproduce intrusion "
            f"--scale {args.scale} --out {args.root}",
            file=sys.stderr,
        )
        return 2
    newest = max(records.values(), key=lambda record: record.created)
    made_by = {"command": newest.command, "versions": {"vicinal": newest.vicinal, **newest.versions}}
    found = evidence(args.scale, folder.done(), newest.created[:10]) | made_by
    atomic.write(args.out, json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
