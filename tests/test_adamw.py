"""The optimizer is PyTorch's, to the bit, without its compiler."""

import subprocess
import sys

import torch
from torch import nn

from vicinal._adamw import AdamW

TRAINS = """
import sys
import torch
from vicinal import Mixup
from vicinal.lab.data.loading import InMemoryDataset
from vicinal.lab.training import simple

data = InMemoryDataset(torch.randn(8, 3, 16, 16), torch.arange(8) % 2, ("a", "b"))
simple.train(simple.SimpleTraining("small", 1, 4), data, torch.arange(8), Mixup(0.4), 0)
assert "torch._dynamo" not in sys.modules
"""


def test_it_is_the_class_to_the_bit() -> None:
    mine, theirs = (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 2)) for _ in "ab")
    for model in (mine, theirs):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    theirs.load_state_dict(mine.state_dict())
    one, other = AdamW(mine.parameters(), 0.1), torch.optim.AdamW(theirs.parameters(), weight_decay=0.1)
    for step in range(5):
        x, rate = torch.randn(4, 3, 8, 8), 0.01 / (1 + step)
        other.param_groups[0]["lr"] = rate
        for model in (mine, theirs):
            model.zero_grad()
            model(x).square().sum().backward()
        one.step([parameter.grad for parameter in mine.parameters()], rate)
        other.step()
    for name, value in theirs.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value), name
    assert torch.equal(mine.get_parameter("unused"), torch.ones(3))


def test_what_it_remembers_moves_with_it() -> None:
    parameters = [torch.ones(3), torch.ones(2)]
    optimizer = AdamW(parameters, 0.0).to("meta")
    remembered = [*optimizer._first, *optimizer._second, *optimizer._counts]
    assert [tensor.device.type for tensor in remembered] == ["meta"] * 6
    assert [tensor.shape for tensor in remembered[:2]] == [(3,), (2,)]


def test_training_does_without_the_compiler() -> None:
    """It takes seconds to import, in each worker."""
    subprocess.run([sys.executable, "-c", TRAINS], check=True)
