"""What equals what: the lines of docs/explanation/equality.md that no other test holds; each line names a test there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import vicinal as v
from vicinal.lab import cli

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "explanation" / "equality.md"
CASES = {
    "mixup": v.Mixup(0.4, seed=1),
    "mixup per row": v.Mixup(v.Beta(0.2, per="example"), seed=1),
    "cutmix": v.CutMix(1.0, seed=1),
    "noise": v.GaussianNoise(0.5, seed=1),
    "chain": v.Chain([v.Mixup(0.4), v.LabelSmoothing(0.1), v.GaussianNoise(0.1)], seed=1),
}


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Return images so many that PyTorch divides them among threads."""
    count = 64 * 3 * 64 * 64
    return (torch.arange(count).remainder(251) / 7).reshape(64, 3, 64, 64), torch.arange(64) % 10


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("threads")
def test_draws_and_mixed_batches_do_not_depend_on_the_number_of_threads(name: str) -> None:
    x, y = batch()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        assert torch.get_num_threads() == count
        plan = CASES[name].plan(len(x), y, x, step=7)
        mixed, target = plan(x), plan.target(y)
        results.append((mixed, target.dense(10) if isinstance(target, v.MixedTarget) else target))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("name", CASES)
def test_plans_drawn_ahead_in_any_order_are_those_of_their_steps(name: str) -> None:
    x, y = batch()
    ahead = {step: CASES[name].plan(len(x), y, x, step=step) for step in (9, 2, 5)}
    for step in (2, 5, 9):
        assert torch.equal(CASES[name](x, y, step=step)[0], ahead[step](x))


# four weights, as multiples of 2^-24, and the partners of `Mixup(Beta(alpha, per="example"), seed=1)` at step 1000
KNOWN = {
    0.1: ([16562429, 14200880, 322, 14202781], [3, 0, 2, 1]),
    0.4: ([12544098, 10151784, 1041164, 10152658], [3, 0, 2, 1]),
    1.0: ([10182991, 11137131, 14945890, 9261416], [0, 1, 3, 2]),
    32.0: ([8878678, 8765788, 8551280, 9233564], [0, 3, 2, 1]),
}


@pytest.mark.parametrize("alpha", KNOWN)
def test_draws_are_the_known_ones(alpha: float) -> None:
    weights, partners = KNOWN[alpha]
    plan = v.Mixup(v.Beta(alpha, per="example"), seed=1).plan(4, step=1000)
    assert [round(float(weight) * 2**24) for weight in plan.weight.flatten()] == weights
    assert plan.partner.flatten().tolist() == partners


@pytest.mark.slow
@pytest.mark.usefixtures("threads")
def test_a_comparison_does_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        out = tmp_path / str(count)
        words = ["compare", "iris", "--seeds", "2", "--epochs", "2", "--alpha", "0.4", "--jobs", "1", "--out", str(out)]
        assert cli.main(words) == 0
        runs = json.loads((out / "results.json").read_text())["runs"]
        found.append(([run | {"seconds": 0} for run in runs], (out / "model.safetensors").read_bytes()))
    assert found[0] == found[1]


# -- the page ----------------------------------------------------------------------------------------------------------


def lines() -> list[list[str]]:
    """Return the cells of the page's tables, without their heads."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [row for row in rows if row[-1].strip(" |") != "held by"]


def test_each_line_of_the_page_names_a_test_or_promises_nothing() -> None:
    assert len(lines()) > 35
    for row in lines():
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[-1])
        assert named or "not promised" in " ".join(row), row[0]
        for file, test in named:
            assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{test}"
