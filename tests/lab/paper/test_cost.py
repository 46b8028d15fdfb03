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
