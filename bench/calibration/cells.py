"""The settings that are measured, and how one is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from bench.calibration import networks, ridge
from bench.calibration.score import Count, count
from vicinal.lab.data import keel

SEEDS = (5, 10, 20)
RANDOM = (1 / 3, 0.6)  # n_test / n_train and the share that trains, of splits into 60/20/20 %
DESIGNS = {"random": RANDOM, "4x5": (1 / 4, 0.8), "5x2": (1.0, 0.5)}
LARGE = ("phishing", "htru2", "magic")


@dataclass(frozen=True)
class Cell:
    """One setting: what is compared with what, on which tables."""

    name: str
    family: str  # cells of one family are pooled in the summary
    source: str  # "ridge", "keel" or a large table
    rows: int = 0  # of a table
    trials: int = 0  # simulated tables
    kind: str = ""  # of the ridge classifiers
    strength: float = 1.0  # of the second ridge classifier's signal
    noise: float = 0.0  # share of training labels replaced
    epochs: int = 20
    design: str = "random"
    is_null: bool = False  # the true difference is known to be 0

    def run(self, tick: Callable[[], None] = lambda: None) -> dict[str, list[Count]]:
        """Run every comparison; return the counts by what was compared."""
        if self.source == "ridge":
            trials = [ridge.trial(self.kind, self.rows, max(SEEDS), self.strength, i) for i in range(self.trials)]
            tick()
            return {self.kind: count(trials, SEEDS, RANDOM, 0.0 if self.is_null else None)}
        if self.source == "keel":
            by_kind: dict[str, list] = {}
            for name in keel.NAMES:
                for kind, trials in networks.keel_trials(name, max(SEEDS), self.epochs, self.noise).items():
                    by_kind.setdefault(kind, []).extend(trials)
                tick()
            return {kind: count(trials, SEEDS, RANDOM, 0.0) for kind, trials in by_kind.items()}
        trials = []
        for number, table in enumerate(networks.disjoint(networks.load(self.source), self.rows, 0)):
            trials.append(networks.disjoint_trial(table, number, self.design, max(SEEDS), self.epochs, self.noise))
            tick()
        runs = len(trials[0].rows)
        seeds = SEEDS if self.design == "random" else (runs,)
        return {"mixup against ERM": count(trials, seeds, DESIGNS[self.design], None, self.design)}


def cells() -> Iterator[Cell]:
    """Yield all cells, the quick ones first."""
    for n in (150, 600, 1800):
        for kind in ("random", "two"):
            yield Cell(f"ridge-{kind}-{n}", f"ridge, {kind}", "ridge", n, 600, kind, is_null=True)
    for n in (150, 600):
        for strength in (0.95, 0.9, 0.85, 0.8, 0.7):
            name = f"ridge-effect-{strength:g}-{n}"
            yield Cell(name, "ridge, effect", "ridge", n, 400, "two", strength)
    mixup = Cell("", "mixup", "", 300)
    for source in LARGE:
        for noise in (0.3, 0.0):
            yield replace(mixup, name=f"disjoint-{source}-300-noise-{noise:g}", source=source, noise=noise)
    yield Cell("keel", "ERM against ERM", "keel", is_null=True)
    for n in (150, 600, 1200):
        for source in LARGE:
            for noise in (0.3, 0.0):
                name = f"disjoint-{source}-{n}-noise-{noise:g}"
                yield replace(mixup, name=name, source=source, rows=n, noise=noise)
    yield Cell("keel-noise-0.3", "ERM against ERM", "keel", noise=0.3, is_null=True)
    for source in LARGE:
        for design in ("4x5", "5x2"):
            name = f"folds-{design}-{source}-300-noise-0.3"
            yield replace(mixup, name=name, family=f"mixup, {design}", source=source, noise=0.3, design=design)
    for noise in (0.1, 0.2, 0.4):
        yield replace(mixup, name=f"disjoint-phishing-300-noise-{noise:g}", source="phishing", noise=noise)
    name = "long-phishing-300-noise-0.3"
    yield replace(mixup, name=name, family="mixup, 100 epochs", source="phishing", noise=0.3, epochs=100)
