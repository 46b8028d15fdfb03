"""When mixup helps: conditions against models trained alone, the rule against brute force, claims against their sums."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from studies import SmokeRun

import vicinal as v
from vicinal.keyed import Key
from vicinal.lab import models
from vicinal.lab.data import loading
from vicinal.lab.data.encoder import TableEncoder
from vicinal.lab.data.label_noise import corrupt_labels
from vicinal.lab.data.splits import split, split_targets
from vicinal.lab.models.mlp import MLP
from vicinal.lab.paper import phase, reproduce
from vicinal.lab.paper.phases import conditions, figure, runs
from vicinal.lab.paper.phases.rule import RuleCase, RuleTest, assess, binomial_interval, fit_threshold
from vicinal.lab.paper.study import Row
from vicinal.lab.recipe import Recipe
from vicinal.lab.records import to_json
from vicinal.lab.streams import Stream
from vicinal.lab.training import stacked_mlp
from vicinal.lab.training.seeding import fork_rng

VICINITIES = {"ERM": v.ERM(), "mixup, alpha = 1": v.Mixup(1.0)}


def scores_by_hand(logits: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Return error and likelihood, in float64."""
    out = logits.detach().double()
    nll = -(out - out.exp().sum(1, keepdim=True).log())[torch.arange(len(y)), y].mean()
    return float((out.argmax(1) != y).double().mean()), float(nll)


@pytest.mark.parametrize("method", VICINITIES)
def test_a_condition_of_the_tables_is_that_of_models_trained_alone(
    method: str, smoke: Callable[[str], SmokeRun]
) -> None:
    measured = phase.collect("smoke", smoke("phase")[0].done())
    table = phase.load_table("smoke", "second")
    assert len(table) == 60  # of which 32 are the most to train on: 28 are left to test on
    for noise, (seed, rows) in product((0.0, 0.4), ((0, 16), (1, 32))):
        parts = split(table, seed, validation=(60 - 28 - rows) / 60, test=28 / 60)
        assert len(parts.train) == rows
        encoding = TableEncoder.fit(table, parts.train)
        x = torch.from_numpy(encoding.transform(table))
        y = torch.from_numpy(corrupt_labels(table.target, 3, noise, seed, rows=parts.train))
        model = MLP(x.shape[1], outputs=3, hidden=(16, 16))
        first = stacked_mlp.StackedMLP.initial([seed], x.shape[1], (16, 16), 3, torch.float32)
        model.load_state_dict(first.state_dict(0))
        adam, step, train = torch.optim.Adam(model.parameters()), 0, torch.from_numpy(parts.train)
        for epoch in range(2):
            for batch in torch.from_numpy(stacked_mlp.order(seed, epoch, rows)).split(16):
                mine = train[batch]
                plan = VICINITIES[method].plan(len(mine), y[mine], x[mine], step=step, seed=seed, rank=0, worker=0)
                adam.zero_grad()
                F.cross_entropy(model(plan(x[mine])), plan.target(y[mine])).backward()
                adam.step()
                step += 1
        found = measured[conditions.Condition("tables", "second", 16, rows, 2, noise)][method]
        test = torch.from_numpy(parts.test)
        true = torch.from_numpy(table.target)
        assert found.train_error[seed] == pytest.approx(scores_by_hand(model(x[train]), y[train])[0])
        error, nll = scores_by_hand(model(x[test]), true[test])
        assert found.test_error[seed] == pytest.approx(error)
        assert found.test_nll[seed] == pytest.approx(nll, rel=1e-4)


def test_a_condition_of_the_images_is_that_of_a_plain_loop(smoke: Callable[[str], SmokeRun]) -> None:
    measured = phase.collect("smoke", smoke("phase")[0].done())
    train, test = loading.load(Recipe("synthetic-images", "small", augment=False))
    pixels, n, seed, noise = train.batch(torch.arange(120), None)[0], 40, 1, 0.4
    rows = split_targets(train.labels.numpy(), 10, seed, validation=80 / 120, test=0.0).train
    y = torch.from_numpy(corrupt_labels(train.labels.numpy(), 10, noise, seed, rows=rows))[torch.from_numpy(rows)]
    assert 0 < int((y != train.labels[torch.from_numpy(rows)]).sum()) < n
    x = pixels[torch.from_numpy(rows)]
    with fork_rng(Key(seed, 0, 0, 0, Stream.WEIGHTS)):
        model = models.build("small-eighth", 10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adam, step = torch.optim.Adam(model.parameters(), lr=3e-3), 0
    for epoch in range(2):
        for batch in torch.from_numpy(Key(seed, 0, 0, epoch, Stream.ORDER).generator().permutation(n)).split(32):
            adam.param_groups[0]["lr"] = 3e-3 * (1 + math.cos(math.pi * step / 4)) / 2
            plan = v.Mixup(1.0).plan(len(batch), y[batch], x[batch], step=step, seed=seed, rank=0, worker=0)
            adam.zero_grad()
            F.cross_entropy(model(plan(x[batch])), plan.target(y[batch])).backward()
            adam.step()
            step += 1
    model.eval()
    found = measured[conditions.Condition("images", "synthetic-images", 4, n, 2, noise)]["mixup, alpha = 1"]
    error, nll = scores_by_hand(model(test.batch(torch.arange(40), None)[0]), test.labels)
    assert found.train_error[seed] == pytest.approx(scores_by_hand(model(x), y)[0])
    assert found.test_error[seed] == pytest.approx(error)
    assert found.test_nll[seed] == pytest.approx(nll, rel=1e-3)


def test_the_threshold_gets_most_signs_right_of_all_there_are() -> None:
    rng = Key(0, 0, 0, 0, 0).generator()
    for _ in range(50):
        cases = [RuleCase("a", float(rng.integers(8)), float(rng.standard_normal())) for _ in range(12)]

        def right(threshold: float, of: list[RuleCase] = cases) -> int:
            return sum((case.score <= threshold) == (case.effect < 0) for case in of)

        grid = np.arange(-1.0, 9.0, 0.25)
        best = max(right(threshold) for threshold in grid)
        found = fit_threshold(cases)
        assert right(found) == best
        last = max((case.score for case in cases if case.score <= found), default=-math.inf)
        assert all(right(threshold) < best for threshold in grid if threshold < last)  # of equals the smallest


def test_a_rule_is_assessed_on_what_it_was_not_fitted_on() -> None:
    fitted = [
        RuleCase("a", 1.0, -1.0),
        RuleCase("a", 3.0, 2.0),
        RuleCase("b", 5.0, 0.5),
    ]  # threshold 2; commoner: does not help
    held_out = [
        RuleCase("c", 0.0, -0.1),  # the rule alone is right
        RuleCase("c", 9.0, 0.0, noisy=True),  # both: no effect is no help
        RuleCase("d", 1.5, 1.0),  # the commoner sign alone
        RuleCase("e", 2.5, -1.0),  # neither
    ]
    assert assess(fitted, held_out) == RuleTest(2.0, 3, 2, 2, 4, better=1, worse=1, clean=(1, 1, 3))


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (7, 7), (3, 10), (60, 72)])
def test_the_binomial_interval_is_the_exact_one(successes: int, n: int) -> None:
    expected = binomtest(successes, n).proportion_ci(0.95, "exact")
    assert binomial_interval(successes, n) == pytest.approx((successes / n, expected.low, expected.high))


def made_up(scale: Any = "small", image_seeds: int = 5) -> dict[str, Any]:
    """Return results of all jobs, with errors drawn at random."""
    rng = Key(1, 0, 0, 0, 0).generator()
    done = {}
    for family, grid in phase.SCALES[scale].grids.items():
        for data, width, rows in product(grid.data, grid.widths, grid.rows):
            of_job = 1 if family == "images" else grid.seeds
            for start in range(0, image_seeds if family == "images" else grid.seeds, of_job):
                outcomes = [
                    runs.ConditionScores(
                        epochs,
                        noise,
                        {name: runs.MethodScores(*rng.uniform(0, 1, (3, of_job)).tolist()) for name in grid.vicinities},
                    )
                    for epochs, noise in product(grid.epochs, grid.noises)
                ]
                seeds = list(range(start, start + of_job))
                done[f"{data}-width{width}-rows{rows}-seed{start}"] = to_json(runs.PhaseResult(seeds, 9, outcomes))
    return done


def scores(done: dict[str, Any], data: str, width: int, rows: int, epochs: int, noise: float, method: str) -> Any:
    """Return [measure, seed] of a condition, straight from the results."""
    found = [
        [outcome["methods"][method][name] for name in ("train_error", "test_error", "test_nll")]
        for job, result in done.items()
        if job.startswith(f"{data}-width{width}-rows{rows}-")
        for outcome in result["outcomes"]
        if (outcome["epochs"], outcome["noise"]) == (epochs, noise)
    ]
    return np.concatenate(found, axis=1)


def test_rows_hold_the_mean_effect_of_each_level_by_seed() -> None:
    done = made_up()
    rows = {row.name: row for row in reproduce.find("phase").rows("small", done)}
    expected = np.mean(
        [
            scores(done, "cifar10", 4, n, epochs, noise, "mixup, alpha = 1")
            - scores(done, "cifar10", 4, n, epochs, noise, "ERM")
            for n, epochs, noise in product((200, 800), (5, 20), (0.0, 0.4))
        ],
        axis=0,
    )
    assert rows["images, width 4, mixup, alpha = 1, test error"].values == pytest.approx(100 * expected[1])
    assert rows["images, width 4, mixup, alpha = 1, test NLL"].values == pytest.approx(expected[2])
    tables = np.mean(
        [
            scores(done, "htru2", width, n, epochs, noise, "ERM")
            for width, n, epochs, noise in product((16, 64), (100, 400), (5, 15, 50), (0.0, 0.2, 0.4))
        ],
        axis=0,
    )
    assert rows["tables, htru2, ERM, training error"].values == pytest.approx(100 * tables[0])


def test_seeds_that_are_not_run_yet_are_left_out_of_both_methods() -> None:
    done = made_up(image_seeds=3)
    measured = phase.collect("small", done)
    condition = conditions.Condition("images", "cifar10", 16, 200, 20, 0.4)
    assert len(measured[condition]["ERM"].test_error) == 3
    del done["cifar10-width16-rows200-seed1"]
    assert condition not in conditions.effects(
        phase.collect("small", done), 1.0, "test error"
    )  # one seed has no interval
    assert conditions.effects(phase.collect("small", {}), 1.0, "test error") == {}


def test_the_halves_share_no_setting_and_every_level_is_in_both() -> None:
    measured = phase.collect("small", made_up())
    assert len(measured) == 16 + 144
    sides = {condition: phase.is_for_fitting("small", condition) for condition in measured}
    fitted = [condition for condition, fits in sides.items() if fits]
    held_out = [condition for condition, fits in sides.items() if not fits]
    assert len(fitted) == len(held_out) == 80
    assert not {c.setting for c in fitted} & {c.setting for c in held_out}
    for level in ("data", "width", "rows", "epochs", "noise"):
        assert {getattr(c, level) for c in fitted} == {getattr(c, level) for c in held_out}


def test_the_rows_of_the_rule_are_those_of_its_cases() -> None:
    done = made_up()
    fitted, held_out = [], []
    for condition in phase.collect("small", done):
        at = (done, condition.data, condition.width, condition.rows, condition.epochs, condition.noise)
        erm, mixed = (scores(*at, method) for method in ("ERM", "mixup, alpha = 1"))
        gap = erm[1].mean() - erm[0].mean()
        case = RuleCase(condition.setting, -100 * gap, float((mixed[1] - erm[1]).mean()), condition.noise > 0)
        (fitted if phase.is_for_fitting("small", condition) else held_out).append(case)
    expected = assess(fitted, held_out)
    rows: dict[str, Row] = {row.name: row for row in reproduce.find("phase").rows("small", done)}
    row = rows["rule by ERM's gap, mixup, alpha = 1, test error, all held-out conditions"]
    assert row.values == pytest.approx((100 * expected.right / 80,))
    assert f"{expected.right} of 80" in row.note
    assert f"helps where it is at least {-expected.threshold:.1f} %" in row.note
    clean, by_sign, total = expected.clean
    assert f"with clean labels {clean} of {total} right (commoner sign {by_sign})" in row.note
    trivial = rows["always the commoner sign, mixup, alpha = 1, test error, all held-out conditions"]
    assert trivial.values == pytest.approx((100 * expected.trivial / 80,))


def test_wrong_labels_are_those_that_noise_changes() -> None:
    """Against labels that are replaced, of which the true one comes back in 1 of C cases."""
    for data, classes in (("digits", 10), ("htru2", 2)):
        labels = np.arange(200_000) % classes
        changed = float((corrupt_labels(labels, classes, 0.4, 0) != labels).mean())
        condition = conditions.Condition("tables", data, 16, 100, 5, 0.4)
        assert phase.wrong_labels(condition) == pytest.approx(changed, abs=0.005)
    assert phase.wrong_labels(conditions.Condition("tables", "abalone", 16, 100, 5, 0.0)) == 0.0


def test_claims_rest_on_differences_by_seed() -> None:
    done = made_up()
    claims = reproduce.find("phase").claims("small", done)
    evidence = {each.what: each for claim in claims for each in claim.evidence}

    def added(width: int, measure: int) -> Any:
        return np.mean(
            [
                scores(done, data, width, n, epochs, 0.0, "mixup, alpha = 1")[measure]
                - scores(done, data, width, n, epochs, 0.0, "ERM")[measure]
                for data, n, epochs in product(("abalone", "digits", "htru2", "phishing"), (100, 400), (5, 15, 50))
            ],
            axis=0,
        )

    for measure, what in enumerate(("training error", "test error")):
        found = evidence[f"tables, clean labels: what mixup, alpha = 1 adds to the {what}, width 64 against width 16"]
        assert found.differences == pytest.approx(100 * (added(64, measure) - added(16, measure)))
        assert (found.expected, found.contrast) == ("lower", False)

    noisy = [
        scores(done, "cifar10", width, n, epochs, 0.4, "mixup, alpha = 1")
        - scores(done, "cifar10", width, n, epochs, 0.4, "ERM")
        for width, n, epochs in product((4, 16), (200, 800), (5, 20))
    ]
    gap = evidence["images, label noise: gap, mixup, alpha = 1 against ERM"]
    assert gap.differences == pytest.approx(100 * np.mean([of[1] - of[0] for of in noisy], axis=0))
    assert (gap.expected, gap.contrast) == ("lower", True)
    assert (
        evidence["tables, clean labels: training error, mixup, alpha = 1 against mixup, alpha = 0.2"].expected
        == "higher"
    )


def test_the_figure_has_a_mark_for_every_condition() -> None:
    measured = phase.collect("small", made_up())
    svg = figure.draw(measured, 12.5)
    root = ET.fromstring(svg)
    assert "160 conditions" in root.attrib["aria-label"]
    marks = [use for use in root.iter("{http://www.w3.org/2000/svg}use") if use.attrib]
    lonely = ET.fromstring(figure.draw({}, None))
    others = [use for use in lonely.iter("{http://www.w3.org/2000/svg}use") if use.attrib]
    assert len(marks) - len(others) >= 160
    assert phase.rule_threshold("small", {}) is None
