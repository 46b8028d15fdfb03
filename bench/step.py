"""A whole training step with and without mixup: the overhead of mixing, for a small MLP and for PreAct ResNet-18."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vicinal
from bench import timing
from vicinal.lab.models.mlp import MLP
from vicinal.lab.training import stacked_mlp


def steps(net: nn.Module, x: Tensor, y: Tensor, fused: bool) -> dict[str, Callable[[], Any]]:
    optimizer = torch.optim.Adam(net.parameters(), fused=fused)
    mixup = vicinal.Mixup(0.4, seed=0)
    generator = np.random.Generator(np.random.Philox(1))
    buffer = torch.empty_like(x)

    def update(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def erm() -> None:
        update(F.cross_entropy(net(x), y))

    def reference() -> None:
        lam = float(generator.beta(0.4, 0.4))
        index = torch.from_numpy(generator.permutation(len(x)))
        out = net(lam * x + (1 - lam) * x[index])
        update(lam * F.cross_entropy(out, y) + (1 - lam) * F.cross_entropy(out, y[index]))

    def one_line() -> None:
        mixed, target = mixup(x, y)
        update(F.cross_entropy(net(mixed), target))

    step = itertools.count()

    def into_buffer() -> None:
        plan = mixup.plan(len(x), step=next(step))
        update(F.cross_entropy(net(plan(x, out=buffer)), plan.target(y)))

    plans = [mixup.plan(len(x), step=i) for i in range(64)]
    at_hand = itertools.cycle([(p.partner, p.weight[:, None], (p.shares / -len(x)).flatten()) for p in plans])

    def by_hand() -> None:
        # what is left of mixup where nothing is checked and nothing is drawn
        partner, own, slopes = next(at_hand)
        mixed = x.index_select(0, partner).lerp_(x, own.view(-1, *(1,) * (x.ndim - 1)))
        ids = torch.stack([y, y.index_select(0, partner)])
        update(torch.dot(net(mixed).log_softmax(1).gather(1, ids.T).view(-1), slopes))

    return {
        "ERM": erm,
        "by hand, nothing drawn or checked": by_hand,
        "reference recipe": reference,
        "vicinal, one line": one_line,
        "vicinal, into a buffer": into_buffer,
    }


def fleet_epoch(vicinity: vicinal.Vicinity) -> Callable[[], Any]:
    generator = np.random.Generator(np.random.Philox(1))
    x = torch.from_numpy(generator.standard_normal((1, 320, 30), dtype="float32"))
    data = stacked_mlp.StackedSplit(x, torch.from_numpy(generator.integers(0, 2, (1, 320))))
    runs = [stacked_mlp.MLPRun(0, seed, vicinity) for seed in range(20)]
    return lambda: stacked_mlp.train(runs, data, 2, stacked_mlp.Training(epochs=1))


def main() -> None:
    args = timing.arguments(__doc__ or "")
    generator = np.random.Generator(np.random.Philox(1))
    tables = {}

    x, y = torch.from_numpy(generator.standard_normal((16, 30), dtype="float32")), torch.arange(16) % 2
    for fused in (False, True):
        name = f"MLP 30-128-128-2, batch 16, {'fused ' if fused else ''}Adam"
        result = timing.against(timing.rounds(steps(MLP(30), x, y, fused), args.rounds), "ERM")
        timing.show(name, result, "ERM")
        tables[name] = result

    fleets = {"ERM": fleet_epoch(vicinal.ERM()), "vicinal, the fleet": fleet_epoch(vicinal.Mixup(0.4, seed=0))}
    result = timing.against(timing.rounds(fleets, args.rounds), "ERM")
    timing.show("MLP 30-128-128-2, batch 16, fleet of 20, an epoch", result, "ERM")
    tables["fleet of 20 MLPs"] = result

    from vicinal.lab.models.preact_resnet import PreActResNet18

    net = PreActResNet18(num_classes=10).to(memory_format=torch.channels_last)
    x = torch.from_numpy(generator.standard_normal((32, 3, 32, 32), dtype="float32"))
    x, y = x.contiguous(memory_format=torch.channels_last), torch.arange(32) % 10
    result = timing.against(timing.rounds(steps(net, x, y, True), args.rounds), "ERM")
    timing.show("PreAct ResNet-18, batch 32", result, "ERM")
    tables["PreAct ResNet-18, batch 32"] = result
    timing.save("step", args, tables)


if __name__ == "__main__":
    main()
