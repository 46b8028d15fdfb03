"""Does mixup help on these data, with which alpha, and is it more than luck?

The protocol. Each seed draws a split of the data (training, validation, test), initial weights and an order of data, the
same for every method, and trains each method on them with equal budgets: the methods differ in nothing but their
vicinity, and their differences are paired. alpha is chosen for each seed on that seed's validation examples; the verdict
is spoken over the seeds' test examples, which took no part in the choice.

What is compared, the choice and the verdict are here, for all data. What the examples are and how runs are trained is a
`Study`: `compare_table.py` trains many small models at once, `compare_folder.py` one model at a time.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

import vicinal
from vicinal.lab import parse, statistics
from vicinal.lab.compare.settings import Settings
from vicinal.lab.errors import UserError

_CURVE_POINTS = 20


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
        return parse.parse(self.text)


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


S = TypeVar("S", bound=Settings)
RunId = tuple[str, int]  # of a run: its method and its seed
Tick = Callable[[int], None]  # told how many runs have finished one more epoch
NOUNS = {
    "table": "rows",
    "images": "images",
    "audio": "audio",
}  # what the examples are called, by the kind of data


class Comparison(ABC, Generic[S]):
    """A comparison ready to run: data, settings, and how its runs are trained. Worker processes get a copy."""

    settings: S

    # -- the data

    @property
    @abstractmethod
    def name(self) -> str:
        """The data's, short."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """One of `NOUNS`."""

    @property
    @abstractmethod
    def task(self) -> str:
        """Classification or regression."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """Number of classes; 0 for regression."""

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of training, validation and test examples, the same for every seed."""

    @abstractmethod
    def data_fingerprint(self) -> str:
        """Give a digest of the data."""

    @abstractmethod
    def describe(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give what results.json says of the data, and of the model and its training."""

    @abstractmethod
    def few(self) -> tuple[Tensor, Tensor]:
        """Give a batch of training inputs and targets, to try the methods on."""

    # -- the runs

    @property
    @abstractmethod
    def epochs(self) -> int:
        """Of every run."""

    @abstractmethod
    def pieces(self, missing: Sequence[RunId], jobs: int) -> list[list[RunId]]:
        """Cut the runs that are missing into what one process trains and gives back at once."""

    @abstractmethod
    def train(self, runs: Sequence[RunId], tick: Tick | None = None) -> list[dict[str, Any]]:
        """Train and measure some runs; give a record of each, as results.json holds them."""

    @abstractmethod
    def model(self, method: str, seed: int, epochs: int) -> dict[str, np.ndarray]:
        """Train one run alone, to the end of so many of its epochs; give the state of its model."""

    @abstractmethod
    def save_model(self, path: Path, state: dict[str, np.ndarray], seed: int, about: dict[str, Any]) -> str:
        """Write a trained model with its preprocessing; give the lines of Python that use it."""

    def seconds(self, runs: int, jobs: int) -> float | None:
        """Estimate how long so many runs take; None where that is never long."""
        return None

    def not_done(self) -> list[str]:
        """Say what is left open by these data and this training, beside what every comparison leaves open."""
        return []

    def examples(self, method: str) -> list[dict[str, str]]:
        """Give examples as a method mixes them, where they can be looked at: PNG files in base 64, and their mixtures."""
        return []

    # -- what follows from these

    @property
    def noun(self) -> str:
        """What the examples are called."""
        return NOUNS[self.kind]

    @property
    def methods(self) -> list[Method]:
        """What is compared."""
        return methods(self.settings, self.task)

    def method(self, name: str) -> Method:
        """Give the method of a name."""
        return next(method for method in self.methods if method.name == name)

    @property
    def names(self) -> list[RunId]:
        """The runs, by seed."""
        return [(method.name, seed) for seed in range(self.settings.seeds) for method in self.methods]

    @property
    def measure(self) -> str:
        """What the verdict is about."""
        return "error" if self.classes else "rmse"

    @property
    def test_share(self) -> float:
        """Test examples per training example, which the corrected t-test asks for."""
        train, _, test = self.sizes
        return test / train

    def fingerprint(self) -> str:
        """Give a digest of everything that decides the results: settings, data, version."""
        content = json.dumps([vicinal.__version__, asdict(self.settings), self.data_fingerprint()])
        return hashlib.sha256(content.encode()).hexdigest()

    def check(self) -> None:
        """Refuse methods that cannot be used on these data, before anything is trained.

        Raises:
            UserError: naming the method and its objection.

        """
        listed = self.methods
        seen: list[vicinal.Vicinity] = []
        for method in listed:
            vicinity = method.vicinity
            if vicinity.seed is not None:
                raise UserError(
                    f"{method.text} has a seed of its own; leave it out: all methods have the seeds of --seeds"
                )
            if method.family in (ERM_FAMILY, NAMED):
                if vicinity in seen:
                    raise UserError(f"{method.text} is compared already; give each method once (and ERM never)")
                seen.append(vicinity)
        x, y = self.few()
        for method in listed:
            try:
                for part in _parts(method.vicinity):
                    if isinstance(part, vicinal.CutMix) and self.kind == "table":
                        raise ValueError(
                            "CutMix needs inputs [n, channels, *grid], and columns have no order to cut a box from"
                        )
                    plan = part.plan(len(x), y, x, step=0, epoch=0)
                    plan(x)
                    plan.target(y)
            except (TypeError, ValueError, OverflowError, MemoryError) as error:
                these = "this table" if self.kind == "table" else f"these {self.noun}"
                raise UserError(f"{method.text} cannot be used on {these}: {error}") from error


def _parts(vicinity: vicinal.Vicinity) -> Iterator[vicinal.Vicinity]:
    """Yield a vicinity and those it is composed of: a trial of the whole may not reach each of them."""
    yield vicinity
    if isinstance(vicinity, (vicinal.Chain, vicinal.Choice)):
        for part in vicinity.parts:
            yield from _parts(part)
    elif isinstance(vicinity, vicinal.Scheduled):
        yield from _parts(vicinity.part)


# -- the course of a run -------------------------------------------------------------------------------------------------


def curve_points(epochs: int) -> set[int]:
    """Give the epochs after which a run is measured for its learning curves."""
    return {round(i * epochs / _CURVE_POINTS) for i in range(1, _CURVE_POINTS + 1)} | {1, epochs}


def add_point(curve: dict[str, list[float]], epoch: int, train: dict[str, Any], validation: dict[str, Any]) -> None:
    """Add what was measured after an epoch."""
    curve.setdefault("epoch", []).append(epoch)
    for part, score, kept in (("train", train, ("nll", "rmse")), ("validation", validation, ("nll", "error", "rmse"))):
        for measure in kept:
            if measure in score:
                curve.setdefault(f"{part}_{measure}", []).append(score[measure])


# -- from runs to a verdict ----------------------------------------------------------------------------------------------


def conclude(study: Comparison, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Give summary, choice, comparisons and verdict of a finished comparison, as results.json holds them."""
    by_method = {method.name: _of_method(runs, method.name) for method in study.methods}
    families = [f for f in (MIXUP, BY_LABEL) if any(m.family == f for m in study.methods)]
    choices = {family: _choose(study, by_method, family) for family in families}
    reported = {**by_method, **{chosen_name(family): choice["runs"] for family, choice in choices.items()}}
    share = study.test_share
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


def statistics_in_words(study: Comparison) -> str:
    """Say how a difference is told from luck, for the report."""
    primary = [m.name for m in study.methods if m.family == NAMED]
    families = [f for f in (MIXUP, BY_LABEL) if any(m.family == f for m in study.methods)]
    many, noun = len(primary) + len(families), study.noun
    return (
        f"A seed fixes all that is random in a run (which {noun} are for training, validation and testing, the first "
        "weights, the order of the data), and every method ran with the same seeds, so that differences are taken within "
        "seeds. "
        f"{f'alpha is chosen for each seed on its validation {noun}; test {noun} took no part. ' * bool(families)}"
        f"Test {noun} of different seeds "
        "overlap, which a plain t-test would take for independence: intervals and p-values are by the corrected resampled "
        "t-test (Nadeau and Bengio 2003). The verdict's p-value is corrected for "
        f"{many} {'comparison' if many == 1 else 'comparisons'} by Holm's method, those of the single alphas for their "
        "number."
    )


def not_done(study: Comparison) -> list[str]:
    """Say what this comparison leaves open, for the report."""
    stopping = study.settings.patience is not None
    length = "the rule that ends training" if stopping else "length of training"
    lines = [
        f"Nothing but alpha was tuned: width, depth, learning rate, weight decay and {length} are the same for all "
        "methods, and mixup often wants longer training.",
        f"The {sum(study.sizes)} {study.noun} are shared out anew for each seed, so the intervals speak for "
        f"{'this table' if study.kind == 'table' else 'this folder'} and not for new data from elsewhere.",
        "Only the first measure is tested; the others stand without a p-value.",
    ]
    if not study.settings.noise:
        lines.append("Labels were taken as they are; --noise 0.4 shows what mixup does against wrong ones.")
    if study.settings.perturb is None:
        lines.append("Inputs were not perturbed, so nothing is said about robustness; --perturb 0.5 would.")
    return lines


def _of_method(runs: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return sorted((run for run in runs if run["method"] == name), key=lambda run: run["seed"])


def validation_score(study: Comparison, run: dict[str, Any]) -> tuple[float, float]:
    """Order runs by the measure on validation data; ties, frequent with few examples, by likelihood; nan is worst."""
    validation = run["validation"]
    score = (validation["error"], validation["nll"]) if study.classes else (validation["rmse"], 0.0)
    return score if all(map(math.isfinite, score)) else (math.inf, math.inf)


def _choose(study: Comparison, by_method: dict[str, list[dict[str, Any]]], family: str) -> dict[str, Any]:
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
    """Compare methods with ERM on test data; p-values are corrected for the number of these methods."""
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
    study: Comparison, summary: dict[str, Any], comparisons: list[dict[str, Any]], choices: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """Say what the test data say, about the primary comparison that is clearest; a help before a harm."""
    primary = [c for c in comparisons if c["primary"]]
    found = sorted((c for c in primary if c["p_holm"] < 0.05), key=lambda c: c["difference"])
    told = found[0] if found else min(primary, key=lambda c: c["p"])
    name, method = study.name, told["method"]
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
        text = parse.qualified(_advised(study, method, choices))
        advice = f"Train with {text}." if kind == "helps" else f"Train without {subject}."
        if len(found) > 1:
            helping = sum(c["difference"] < 0 for c in found)
            advice += f" Of {len(primary)} methods, {helping} clearly help and {len(found) - helping} clearly harm."
        return {"kind": kind, "method": method, "sentence": sentence, "advice": advice}

    # fewer seeds than 15 leave the interval more than a fifth wider than any number of them would
    what_would = (
        "More seeds" if study.settings.seeds < 15 else f"More {study.noun}{' of data' if study.kind == 'table' else ''}"
    )
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


def _overtrained(study: Comparison, erm: list[dict[str, Any]], share: float) -> str:
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


def _advised(study: Comparison, told: str, choices: dict[str, dict[str, Any]]) -> str:
    """Give the text of the vicinity to train with: the method itself, or the one its family chose over all seeds."""
    family = told.removesuffix(chosen_name(""))
    name = choices[family]["recommended"] if family in choices else told
    return next(method.text for method in study.methods if method.name == name)


def _plain(study: Comparison, value: float) -> str:
    return f"{100 * value:.2f} %" if study.classes else f"{value:.4g}"


def _signed(study: Comparison, value: float) -> str:
    return f"{round(100 * value, 2) + 0.0:+.2f}" if study.classes else f"{value + 0.0:+.3g}"  # never -0


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"
