"""The memory of a step."""

from pathlib import Path

import pytest
import torch

from vicinal.lab.paper import cost


def test_the_memory_of_a_step_is_the_most_that_is_there_at_once() -> None:
    def step() -> None:
        a = torch.zeros(250_000)  # 1 MB
        b = a + 1
        del a
        c = b + 1
        del b, c

    # and the number that is added, as a tensor
    assert 0 <= cost._peak(step, torch.device("cpu")) - 2_000_000 < 100


def test_the_memory_of_a_step_does_not_depend_on_the_steps_before_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = cost.Case("small", (4, 3, 16, 16), 10, 1.0)
    monkeypatch = pytest.MonkeyPatch()
    try:
        found = []
        for methods in (("ERM", "mixup"), ("mixup", "ERM")):
            monkeypatch.setattr(cost, "METHODS", methods)
            found.append(cost.measure(case, 1, 1, tmp_path)["bytes"])
    finally:
        monkeypatch.undo()
    assert found[0] == found[1]
    assert capfd.readouterr().err == ""


def test_what_mixup_adds_is_judged_round_by_round() -> None:
    seconds = {"ERM": [2.0, 4.0, 1.0], "mixup": [2.02, 4.0, 0.99]}
    done = {"small": {"seconds": seconds, "bytes": {"ERM": 1, "mixup": 1}, "batch": [1], "device": "cpu"}}
    (claim,) = cost.CostStudy().claims("small", done)
    small, *others = claim.evidence
    assert small.differences == pytest.approx((1.0, 0.0, -1.0))
    assert (small.expected, small.tolerance) == ("equal", 2.0)
    assert [each.differences for each in others] == [(), (), ()]
    row = next(row for row in cost.CostStudy().rows("small", done) if row.name == "small, batch of 128, more time")
    assert row.values == small.differences
