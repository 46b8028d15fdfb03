"""Two rings, and the decision surface of any table with two columns."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from studies import never

import vicinal as v
from vicinal.lab.data import synthetic
from vicinal.lab.data.table import make_table
from vicinal.lab.errors import UserError
from vicinal.lab.paper import toy


def test_the_rings_are_those_of_the_figure() -> None:
    points, classes = synthetic.rings(0)
    radius = points.norm(dim=1)
    assert (len(points), int(classes.sum())) == (358, 256)
    for c, expected, n in ((1, 0.3, 256), (0, 1.0, 102)):
        mine = radius[classes == c]
        assert abs(float(mine.mean()) - expected) < 4 * 0.05 / math.sqrt(n)
        assert float(mine.std()) == pytest.approx(0.05, rel=4 / math.sqrt(2 * n))
    assert not torch.equal(points, synthetic.rings(1)[0])
    assert torch.equal(points, synthetic.rings(0)[0])


def test_mixup_blurs_the_rings_and_erm_does_not() -> None:
    points, classes = synthetic.rings(0)
    where = toy.grid((-1.3, 1.3, -1.3, 1.3), 21)
    found = toy.probabilities(points, classes, toy.METHODS, where, epochs=60)
    unsure = {name: float(((p > 0.1) & (p < 0.9)).double().mean()) for name, p in found.items()}
    assert unsure["mixup"] > 2 * unsure["ERM"]


def test_any_table_of_two_columns_has_a_surface(tmp_path: Path) -> None:
    table = synthetic.table("pairs", 2, columns=2)
    toy.of_table(table, {"ERM": v.ERM(), "mixup": v.Mixup(1.0)}, tmp_path / "surface.svg", epochs=2)
    assert "Decision surfaces of ERM, mixup on pairs" in (tmp_path / "surface.svg").read_text()
    with pytest.raises(UserError, match=r"two number columns .* three has columns: 3, classes: 2"):
        toy.of_table(synthetic.table("three", 2, columns=3), {"ERM": v.ERM()}, tmp_path / "x.svg")
    with pytest.raises(UserError, match="one has columns: 1, classes: 3, missing cells: 0"):
        toy.of_table(synthetic.table("one", 3, columns=1), {"ERM": v.ERM()}, tmp_path / "x.svg")
    toy.of_table(table, {"ERM": v.ERM()}, str(tmp_path / "one.svg"), epochs=1)
    assert "Decision surfaces of ERM on pairs" in (tmp_path / "one.svg").read_text()


@pytest.mark.parametrize(
    ("methods", "place", "training", "words"),
    [
        ({}, "x.svg", {}, "give one method or more"),
        (toy.METHODS, "x.svg", {"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        (toy.METHODS, "x.svg", {"epochs": 0}, "epochs must be 1 or more, got 0"),
        (toy.METHODS, "none/x.svg", {}, "x.svg is not the path of a file in a folder that exists"),
        (toy.METHODS, ".", {}, "is not the path of a file in a folder that exists"),
    ],
)
def test_a_surface_that_cannot_be_drawn_is_refused_before_training(
    methods: Any, place: str, training: dict[str, int], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy, "probabilities", never)
    with pytest.raises(UserError, match=words):
        toy.of_table(synthetic.table("pairs", 2, columns=2), methods, tmp_path / place, **training)


def test_a_surface_is_none_of_regression(tmp_path: Path) -> None:
    columns = {"a": np.arange(12.0), "b": np.arange(12.0) ** 2, "y": np.arange(12.0) / 7}
    table = make_table(columns, "y", task="regression", name="line", source="test")
    with pytest.raises(UserError, match="line is regression"):
        toy.of_table(table, {"ERM": v.ERM()}, tmp_path / "x.svg")


def test_smoothness_is_judged_by_the_steepest_fall_of_each_seed() -> None:
    radii = np.linspace(0.0, 1.2, 61)  # 0.02 apart
    sharp, smooth = np.where(radii < 0.6, 1.0, 0.0), 1 - radii / 1.2
    nothing: list[list[float]] = []
    run = {
        "ERM": {"surface": nothing, "profile": sharp.tolist()},
        "mixup": {"surface": nothing, "profile": smooth.tolist()},
    }
    (claim,) = toy.ToyStudy().claims("small", {"seed0": run, "seed1": run})
    (evidence,) = claim.evidence
    assert evidence.differences == pytest.approx((1 / 1.2 - 1 / 0.02,) * 2)
    assert evidence.expected == "lower"
