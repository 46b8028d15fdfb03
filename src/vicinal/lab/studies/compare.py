"""Does mixup help on this table, with which alpha, and is it more than luck?

The protocol. Each seed draws a split of the table (training, validation, test), initial weights and an order of data, the
same for every method, and trains each method on them with equal budgets: the methods differ in nothing but their
vicinity, and their differences are paired. alpha is chosen for each seed on that seed's validation rows; the verdict is
spoken over the seeds' test rows, which took no part in the choice.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

import vicinal
from vicinal.lab import spec
from vicinal.lab.data.encoding import Encoding
from vicinal.lab.data.noise import corrupt
from vicinal.lab.data.split import split
from vicinal.lab.data.table import Table
from vicinal.lab.errors import UserError
from vicinal.lab.studies import statistics
from vicinal.lab.studies.evaluation import evaluate
from vicinal.lab.train import fleet
from vicinal.random import Key

_PERTURB = 2**63 + 2  # the stream of the perturbation of test inputs, beside those of the fleet
_CURVE_POINTS = 20
_CURVE_ROWS = 2000  # of the training rows, for learning curves
_SEEDS = 10_000  # at most
_STEPS, _FEWEST, _MOST = 3000, 10, 200  # the default budget: about so many steps, within so many epochs


ALPHAS = (0.1, 0.2, 0.4, 1.0)


@dataclass(frozen=True)
class Settings:
    """What is compared, and how; everything that changes a result.

    Args:
        alphas: mixup's alphas, each > 0.
        named: further vicinities as text, `Mixup(alpha=0.4, pairing=SameClass())`.
        seeds: how many, >= 2; seeds count from 0.
        epochs: for every run; None: enough for about 3,000 steps, but 10 to 200 epochs. The paper: 10.
        noise: share of the training and validation labels replaced by random ones, in [0, 1]; test labels stay.
        perturb: standard deviation of noise on the standardised test inputs, for a second test error; None: without.
        batch: rows a step.
        hidden: widths of the hidden layers.
        learning_rate: Adam's.
        weight_decay: decoupled (AdamW), the same for all methods; 0 is Adam.
        patience: stop a run after so many epochs without a better validation likelihood (RMSE for regression), and take
            its best weights; None: train to the end, as the paper does.

    """

    alphas: tuple[float, ...] = ALPHAS
    named: tuple[str, ...] = ()
    seeds: int = 20
    epochs: int | None = None
    noise: float = 0.0
    perturb: float | None = None
    batch: int = 16
    hidden: tuple[int, ...] = (128, 128)
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    patience: int | None = None

    def __post_init__(self) -> None:
        for alpha in self.alphas:
            if not (alpha > 0 and math.isfinite(alpha)):
                raise UserError(f"alpha must be a finite number > 0, got {alpha}; ERM, no mixing, is always compared")
        if len(set(self.alphas)) < len(self.alphas):
            raise UserError("an alpha is given twice; give each once")
        if not self.alphas and not self.named:
            raise UserError("there is nothing to compare with ERM: give an alpha or a vicinity")
        if self.seeds < 2:
            raise UserError(f"a comparison needs 2 seeds or more to tell a difference from luck, got {self.seeds}")
        if self.seeds > _SEEDS:
            raise UserError(f"more than {_SEEDS} seeds tell nothing that fewer do not, got {self.seeds}")
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"epochs must be 1 or more, got {self.epochs}")
        if self.patience is not None and self.patience < 1:
            raise UserError(f"patience counts epochs and must be 1 or more, got {self.patience}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise UserError(f"the learning rate must be a finite number > 0, got {self.learning_rate}")
        if not (self.weight_decay >= 0 and math.isfinite(self.weight_decay)):
            raise UserError(f"the weight decay must be a finite number >= 0, got {self.weight_decay}")
        if not 0 <= self.noise <= 1:
            raise UserError(f"noise is the share of labels replaced and must lie in [0, 1], got {self.noise}")
        if self.perturb is not None and not (self.perturb >= 0 and math.isfinite(self.perturb)):
            raise UserError(f"perturb is a standard deviation and must be finite and >= 0, got {self.perturb}")


@dataclass(frozen=True)
class Method:
    """One of the methods compared; `family` gathers those among which validation data choose."""

    name: str
    text: str
    family: str
    alpha: float | None = None

    @property
    def vicinity(self) -> vicinal.Vicinity:
        """The vicinity, read from its text."""
        return spec.parse(self.text)


ERM = "ERM"
ERM_FAMILY = "erm"
MIXUP = "mixup"
BY_LABEL = "mixup by label distance"
NAMED = "named"


def methods(settings: Settings, task: str) -> list[Method]:
    """Give the methods: ERM, mixup at each alpha, for regression also pairing by label distance, and those named."""
    listed = [Method(ERM, "ERM()", ERM_FAMILY)]
    listed += [Method(f"mixup {_spell(a)}", f"Mixup(alpha={a!r})", MIXUP, a) for a in settings.alphas]
    if task == "regression":
        listed += [
            Method(f"by label distance {_spell(a)}", f"Mixup(alpha={a!r}, pairing=LabelDistance(0.5))", BY_LABEL, a)
            for a in settings.alphas
        ]
    return listed + [Method(text.strip(), text.strip(), NAMED) for text in settings.named]


def _spell(alpha: float) -> str:
    """Give alpha as short as it can be said without being mistaken for another."""
    short = f"{alpha:g}"
    return short if float(short) == alpha else repr(alpha)


def chosen_name(family: str) -> str:
    """Give the name under which a family's choice by validation data is reported."""
    return f"{family}, alpha chosen on validation"


@dataclass(frozen=True)
class Study:
    """A comparison ready to run."""

    table: Table
    settings: Settings

    @property
    def methods(self) -> list[Method]:
        """What is compared."""
        return methods(self.settings, self.table.task)

    @property
    def classes(self) -> int:
        """Number of classes; 0 for regression."""
        return len(self.table.classes)

    @property
    def measure(self) -> str:
        """What the verdict is about."""
        return "error" if self.classes else "rmse"

    @property
    def training(self) -> fleet.Training:
        """How every run is trained."""
        settings = self.settings
        epochs = settings.epochs
        if epochs is None:
            per_epoch = math.ceil(len(split(self.table, 0).train) / settings.batch)
            epochs = min(_MOST, max(_FEWEST, round(_STEPS / per_epoch)))
        return fleet.Training(
            epochs, settings.batch, settings.hidden, settings.learning_rate, settings.weight_decay, settings.patience
        )

    def fingerprint(self) -> str:
        """Give a digest of everything that decides the results: settings, table, version."""
        content = json.dumps([vicinal.__version__, asdict(self.settings), self.table.fingerprint()])
        return hashlib.sha256(content.encode()).hexdigest()

    def check(self) -> None:
        """Refuse methods that cannot be used on this table, before anything is trained.

        Raises:
            UserError: naming the method and its objection.

        """
        listed = self.methods
        seen: list[vicinal.Vicinity] = []
        for method in listed:
            vicinity = method.vicinity
            if vicinity.seed != 0:
                raise UserError(
                    f"{method.text} has a seed of its own; leave it out: all methods have the seeds of --seeds"
                )
            if method.family in (ERM_FAMILY, NAMED):
                if vicinity in seen:
                    raise UserError(f"{method.text} is compared already; give each method once (and ERM never)")
                seen.append(vicinity)
        prepared = Prepared.of(self, [0])
        few = slice(0, self.settings.batch)
        x, y = prepared.train.inputs[0, few], prepared.train.targets[0, few]
        for method in listed:
            try:
                for part in _parts(method.vicinity):
                    plan = part.plan(len(x), y, x, step=0, epoch=0)
                    plan(x)
                    plan.target(y)
            except (TypeError, ValueError, OverflowError, MemoryError) as error:
                raise UserError(f"{method.text} cannot be used on this table: {error}") from error


def _parts(vicinity: vicinal.Vicinity) -> Iterator[vicinal.Vicinity]:
    """Yield a vicinity and those it is composed of: a trial of the whole may not reach each of them."""
    yield vicinity
    if isinstance(vicinity, (vicinal.Chain, vicinal.Choice)):
        for part in vicinity.parts:
            yield from _parts(part)
    elif isinstance(vicinity, vicinal.Scheduled):
        yield from _parts(vicinity.part)


@dataclass(frozen=True)
class Prepared:
    """The splits of some seeds as tensors."""

    train: fleet.Part
    clean: fleet.Part  # the training rows with the labels they had before label noise
    validation: fleet.Part
    test: fleet.Part
    perturbed: fleet.Part | None
    encodings: list[Encoding]

    @staticmethod
    def of(study: Study, seeds: Sequence[int]) -> Prepared:
        """Split, encode and, where asked, corrupt the table for each seed."""
        table, settings = study.table, study.settings
        parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        encodings = []
        for seed in seeds:
            rows = split(table, seed)
            encoding = Encoding.fit(table, rows.train)
            x, clean = encoding.inputs(table), encoding.targets(table)
            noisy = clean
            if settings.noise:
                known = np.concatenate([rows.train, rows.validation])
                noisy = encoding.targets(replace(table, target=corrupt(table, known, settings.noise, seed)))
            for name, of, y in (
                ("train", rows.train, noisy),
                ("clean", rows.train, clean),
                ("validation", rows.validation, noisy),
                ("test", rows.test, clean),
            ):
                parts.setdefault(name, []).append((x[of], y[of]))
            if settings.perturb is not None:
                noise = Key(seed, 0, 0, 0, _PERTURB).generator().standard_normal((len(rows.test), x.shape[1]))
                shifted = x[rows.test] + (settings.perturb * noise).astype(np.float32)
                parts.setdefault("perturbed", []).append((shifted, clean[rows.test]))
            encodings.append(encoding)
        stacked = {name: _stack(pairs) for name, pairs in parts.items()}
        return Prepared(**{"perturbed": None, **stacked}, encodings=encodings)

    @property
    def scales(self) -> list[float]:
        """For each seed, the unit of the standardised regression target; 1 for classification."""
        return [encoding.target_sd for encoding in self.encodings]


def _stack(pairs: list[tuple[np.ndarray, np.ndarray]]) -> fleet.Part:
    return fleet.Part(
        torch.from_numpy(np.stack([x for x, _ in pairs])), torch.from_numpy(np.stack([y for _, y in pairs]))
    )


def run_seeds(study: Study, seeds: Sequence[int], tick: Any = None) -> list[dict[str, Any]]:
    """Train and measure every method on some seeds, all as one fleet.

    Args:
        study: the comparison.
        seeds: of the runs.
        tick: called with the number of runs after each epoch.

    Returns:
        One record a run, as results.json holds them.

    """
    prepared, training, listed = Prepared.of(study, seeds), study.training, study.methods
    runs = [fleet.Run(i, seed, method.vicinity) for i, seed in enumerate(seeds) for method in listed]
    names = [(method.name, seed) for seed in seeds for method in listed]
    points = {round(i * training.epochs / _CURVE_POINTS) for i in range(1, _CURVE_POINTS + 1)} | {1, training.epochs}
    curve_rows = fleet.Part(prepared.train.inputs[:, :_CURVE_ROWS], prepared.train.targets[:, :_CURVE_ROWS])
    curves: list[dict[str, list[float]]] = [{"epoch": []} for _ in runs]
    measuring = 0.0

    def measure_all(
        networks: fleet.Networks, of: Sequence[fleet.Run], part: fleet.Part, detail: bool = False
    ) -> list[dict[str, Any]]:
        return evaluate(networks, of, part, study.classes, prepared.scales, detail)

    def after_epoch(epoch: int, networks: fleet.Networks, active: list[int]) -> None:
        nonlocal measuring
        if epoch in points:
            start = time.perf_counter()
            mine = [runs[i] for i in active]
            measured = (measure_all(networks, mine, part) for part in (curve_rows, prepared.validation))
            for i, train, valid in zip(active, *measured, strict=True):
                curve = curves[i]
                curve["epoch"].append(epoch)
                for part, score, kept in (
                    ("train", train, ("nll", "rmse")),
                    ("validation", valid, ("nll", "error", "rmse")),
                ):
                    for measure in kept:
                        if measure in score:
                            curve.setdefault(f"{part}_{measure}", []).append(score[measure])
            measuring += time.perf_counter() - start
        if tick is not None:
            tick(len(active))

    def to_stop(networks: fleet.Networks, of: Sequence[fleet.Run]) -> list[float]:
        measure = "nll" if study.classes else "rmse"
        return [score[measure] for score in measure_all(networks, of, prepared.validation)]

    start = time.perf_counter()
    waiting = None if training.patience is None else to_stop
    with _last_row_may_be_alone():
        networks, epochs = fleet.train(runs, prepared.train, study.classes, training, after_epoch, waiting)
    seconds = (time.perf_counter() - start - measuring) / len(runs)
    train, valid = measure_all(networks, runs, prepared.clean), measure_all(networks, runs, prepared.validation)
    test = measure_all(networks, runs, prepared.test, detail=True)
    perturbed = None if prepared.perturbed is None else measure_all(networks, runs, prepared.perturbed)
    return [
        {
            "method": name,
            "seed": seed,
            "seconds": seconds,
            "epochs": epochs[i],
            "train": train[i],
            "validation": valid[i],
            "test": test[i],
            "perturbed": None if perturbed is None else perturbed[i],
            "curve": curves[i],
        }
        for i, (name, seed) in enumerate(names)
    ]


def train_one(study: Study, method: str, seed: int, epochs: int) -> dict[str, np.ndarray]:
    """Train one run alone, for so many epochs; give the state of its `MLP`."""
    vicinity = next(m.vicinity for m in study.methods if m.name == method)
    training = replace(study.training, epochs=epochs, patience=None)
    prepared = Prepared.of(study, [seed])
    with _last_row_may_be_alone():
        networks = fleet.train([fleet.Run(0, seed, vicinity)], prepared.train, study.classes, training).networks
    return {name: tensor.numpy() for name, tensor in networks.state_dict(0).items()}


@contextmanager
def _last_row_may_be_alone() -> Iterator[None]:
    """Accept in silence that the last batch of an epoch may be one row, which has no partner."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a batch of one example")
        yield


# -- from runs to a verdict ----------------------------------------------------------------------------------------------


def conclude(study: Study, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Give summary, choice, comparisons and verdict of a finished comparison, as results.json holds them."""
    by_method = {method.name: _of_method(runs, method.name) for method in study.methods}
    families = [f for f in (MIXUP, BY_LABEL) if any(m.family == f for m in study.methods)]
    choices = {family: _choose(study, by_method, family) for family in families}
    reported = {**by_method, **{chosen_name(family): choice["runs"] for family, choice in choices.items()}}
    share = _test_share(study)
    summary = {name: _summarise(rows, share) for name, rows in reported.items()}

    primary = [*map(chosen_name, families), *(m.name for m in study.methods if m.family == NAMED)]
    secondary = [m.name for m in study.methods if m.family in families]
    comparisons = _compare(reported, primary, study.measure, share, primary=True)
    comparisons += _compare(reported, secondary, study.measure, share, primary=False)
    choices = {
        family: {name: value for name, value in choice.items() if name != "runs"} | {"family": family}
        for family, choice in choices.items()
    }
    verdict = _verdict(study, summary, comparisons, choices)
    verdict["advice"] += _overtrained(study, by_method[ERM], share)
    return {"summary": summary, "comparisons": comparisons, "choice": choices.get(MIXUP), "verdict": verdict}


def statistics_in_words(study: Study) -> str:
    """Say how a difference is told from luck, for the report."""
    primary = [m.name for m in study.methods if m.family == NAMED]
    families = [f for f in (MIXUP, BY_LABEL) if any(m.family == f for m in study.methods)]
    many = len(primary) + len(families)
    return (
        "A seed fixes all that is random in a run (which rows are for training, validation and testing, the first weights, "
        "the order of the data), and every method ran with the same seeds, so that differences are taken within seeds. "
        f"{'alpha is chosen for each seed on its validation rows; test rows took no part. ' * bool(families)}"
        "Test rows of different seeds "
        "overlap, which a plain t-test would take for independence: intervals and p-values are by the corrected resampled "
        "t-test (Nadeau and Bengio 2003). The verdict's p-value is corrected for "
        f"{many} {'comparison' if many == 1 else 'comparisons'} by Holm's method, those of the single alphas for their "
        "number."
    )


def not_done(study: Study) -> list[str]:
    """Say what this comparison leaves open, for the report."""
    stopping = study.settings.patience is not None
    length = "the rule that ends training" if stopping else "length of training"
    lines = [
        f"Nothing but alpha was tuned: width, depth, learning rate, weight decay and {length} are the same for all "
        "methods, and mixup often wants longer training.",
        f"The {len(study.table)} rows are shared out anew for each seed, so the intervals speak for this table and not for "
        "new data from elsewhere.",
        "Only the first measure is tested; the others stand without a p-value.",
    ]
    if not study.settings.noise:
        lines.append("Labels were taken as they are; --noise 0.4 shows what mixup does against wrong ones.")
    if study.settings.perturb is None:
        lines.append("Inputs were not perturbed, so nothing is said about robustness; --perturb 0.5 would.")
    return lines


def _of_method(runs: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return sorted((run for run in runs if run["method"] == name), key=lambda run: run["seed"])


def validation_score(study: Study, run: dict[str, Any]) -> tuple[float, float]:
    """Order runs by the measure on validation rows; ties, frequent with few rows, by likelihood; nan is worst."""
    validation = run["validation"]
    score = (validation["error"], validation["nll"]) if study.classes else (validation["rmse"], 0.0)
    return score if all(map(math.isfinite, score)) else (math.inf, math.inf)


def _choose(study: Study, by_method: dict[str, list[dict[str, Any]]], family: str) -> dict[str, Any]:
    members = [method for method in study.methods if method.family == family]
    alphas = [method.alpha for method in members if method.alpha is not None]
    runs, per_seed, counts = [], [], {_spell(alpha): 0 for alpha in alphas}
    for candidates in zip(*(by_method[method.name] for method in members), strict=True):
        best = min(range(len(members)), key=lambda i: validation_score(study, candidates[i]))
        runs.append(candidates[best])
        per_seed.append(alphas[best])
        counts[_spell(alphas[best])] += 1

    def over_seeds(method: Method) -> tuple[float, ...]:
        return tuple(np.mean([validation_score(study, run) for run in by_method[method.name]], axis=0))

    return {"runs": runs, "counts": counts, "per_seed": per_seed, "recommended": min(members, key=over_seeds).name}


def _test_share(study: Study) -> float:
    rows = split(study.table, 0)
    return len(rows.test) / len(rows.train)


def _summarise(runs: list[dict[str, Any]], share: float) -> dict[str, Any]:
    def part(name: str) -> dict[str, Any] | None:
        if runs[0][name] is None:
            return None
        measures = [m for m in runs[0][name] if m != "reliability"]
        return {m: statistics.interval([run[name][m] for run in runs], share)._asdict() for m in measures}

    parts = {name: part(name) for name in ("train", "validation", "test", "perturbed")}
    return {**parts, "seconds": float(np.mean([run["seconds"] for run in runs]))}


def _compare(
    reported: dict[str, list[dict[str, Any]]], names: Sequence[str], measure: str, share: float, primary: bool
) -> list[dict[str, Any]]:
    """Compare methods with ERM on test rows; p-values are corrected for the number of these methods."""
    compared = []
    for name in names:
        pairs = zip(reported[name], reported[ERM], strict=True)
        per_seed = [mine["test"][measure] - erm["test"][measure] for mine, erm in pairs]
        compared.append(
            {
                "method": name,
                "primary": primary,
                "measure": measure,
                **statistics.paired(per_seed, share)._asdict(),
                "per_seed": per_seed,
            }
        )
    for comparison, p in zip(compared, statistics.holm([c["p"] for c in compared]), strict=True):
        comparison["p_holm"] = p
    return compared


def _verdict(
    study: Study, summary: dict[str, Any], comparisons: list[dict[str, Any]], choices: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """Say what the test rows say, about the primary comparison that is clearest; a help before a harm."""
    primary = [c for c in comparisons if c["primary"]]
    found = sorted((c for c in primary if c["p_holm"] < 0.05), key=lambda c: c["difference"])
    told = found[0] if found else min(primary, key=lambda c: c["p"])
    name, method = study.table.name, told["method"]
    what = "test error" if study.classes else "test RMSE"
    before = _plain(study, summary[ERM]["test"][study.measure]["mean"])
    after = _plain(study, summary[method]["test"][study.measure]["mean"])
    subject = method.removesuffix(chosen_name(""))
    title = subject[0].upper() + subject[1:]
    evidence = (
        f"difference {_signed(study, told['difference'])}{' points' if study.classes else ''}, 95 % interval "
        f"{_signed(study, told['low'])} to {_signed(study, told['high'])}; {_p(told['p_holm'])}"
        f"{f' after correction for {len(primary)} methods' if len(primary) > 1 else ''}"
    )
    if found:
        kind = "helps" if told["difference"] < 0 else "harms"
        moves = "falls" if kind == "helps" else "rises"
        sentence = f"{title} {kind} on {name}: the {what} {moves} from {before} to {after} ({evidence})."
        text = spec.qualified(_advised(study, method, choices))
        advice = f"Train with {text}." if kind == "helps" else f"Train without {subject}."
        if len(found) > 1:
            helping = sum(c["difference"] < 0 for c in found)
            advice += f" Of {len(primary)} methods, {helping} clearly help and {len(found) - helping} clearly harm."
        return {"kind": kind, "method": method, "sentence": sentence, "advice": advice}

    # fewer seeds than 15 leave the interval more than a fifth wider than any number of them would
    what_would = "More seeds" if study.settings.seeds < 15 else "More rows of data"
    these = subject if len(primary) == 1 else "any of them"
    advice = f"Nothing here speaks for {these} or against it. {what_would} would narrow the interval."
    kind = "no difference found"
    runaway = [c for c in primary if not math.isfinite(c["difference"])]
    if runaway:
        kind, method = "no verdict", runaway[0]["method"]
        seeds = sum(not math.isfinite(value) for value in runaway[0]["per_seed"])
        of = f"{seeds} of {study.settings.seeds} seeds"
        sentence = f"No verdict on {name}: with {method} or without, training diverged for {of}."
        advice = "Train with a lower --learning-rate, or leave that method out."
    elif not any(any(c["per_seed"]) for c in primary):
        with_and_without = f"with {subject} and without, the same for every seed"
        sentence = f"No difference found on {name}: the {what} is {before} {with_and_without}."
    elif len(primary) > 1:
        sentence = (
            f"No difference found on {name} between any of {len(primary)} methods and training without them. The clearest "
            f"is {subject}: the {what} is {after} with it and {before} without ({evidence}), which may be luck."
        )
    else:
        sentence = (
            f"No difference found on {name}: the {what} is {after} with {subject} and {before} without ({evidence}), which "
            "may be luck."
        )
    return {"kind": kind, "method": method, "sentence": sentence, "advice": advice}


def _overtrained(study: Study, erm: list[dict[str, Any]], share: float) -> str:
    """Say so if ERM was clearly better before the end of its training: a method may help for no more than that."""
    if study.settings.patience is not None:
        return ""
    epochs = erm[0]["curve"]["epoch"]
    course = np.array([run["curve"][f"validation_{study.measure}"] for run in erm])  # [seeds, points]
    best = int(course.mean(0).argmin())
    earlier = statistics.paired((course[:, best] - course[:, -1]).tolist(), share)
    if not (earlier.difference < 0 and earlier.p < 0.05 / len(epochs)):  # the best of so many points
        return ""
    then, now = (_plain(study, float(course[:, i].mean())) for i in (best, -1))
    what = "error" if study.classes else "RMSE"
    return (
        f" But training went on too long: without mixing, the validation {what} was {then} after epoch {epochs[best]} and "
        f"is {now} at the end. Compare again with --patience 10, which ends each run at its best epoch."
    )


def _advised(study: Study, told: str, choices: dict[str, dict[str, Any]]) -> str:
    """Give the text of the vicinity to train with: the method itself, or the one its family chose over all seeds."""
    family = told.removesuffix(chosen_name(""))
    name = choices[family]["recommended"] if family in choices else told
    return next(method.text for method in study.methods if method.name == name)


def _plain(study: Study, value: float) -> str:
    return f"{100 * value:.2f} %" if study.classes else f"{value:.4g}"


def _signed(study: Study, value: float) -> str:
    return f"{round(100 * value, 2) + 0.0:+.2f}" if study.classes else f"{value + 0.0:+.3g}"  # never -0


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"
