"""A whole training step with and without mixup: the overhead of mixing, for a small MLP and for PreAct ResNet-18."""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vicinal
from bench import timing
from vicinal.lab.data.encoded_splits import StackedSplit
from vicinal.lab.data.table_inputs import TableInputs
from vicinal.lab.models.mlp import MLP
from vicinal.lab.models.preact_resnet import PreActResNet18
from vicinal.lab.training import stacked_mlp


def steps(net: nn.Module, x: Tensor, y: Tensor, fused: bool) -> timing.Candidates:
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

    def drawn(i: int) -> tuple[Tensor, Tensor, Tensor]:
        plan = mixup.plan(len(x), step=i)
        assert isinstance(plan, vicinal.MixPlan)
        weight = plan.weight.float()
        slopes = torch.stack([weight, 1 - weight], 1) / -len(x)
        return plan.partner, weight.view(-1, *(1,) * (x.ndim - 1)), slopes.flatten()

    at_hand = itertools.cycle([drawn(i) for i in range(64)])

    def by_hand() -> None:
        # what is left of mixup where nothing is checked and nothing is drawn
        partner, own, slopes = next(at_hand)
        mixed = x.index_select(0, partner).lerp_(x, own)
        ids = torch.stack([y, y.index_select(0, partner)])
        update(torch.dot(net(mixed).log_softmax(1).gather(1, ids.T).view(-1), slopes))

    return {
        "ERM": erm,
        "by hand, nothing drawn or checked": by_hand,
        "reference recipe": reference,
        "vicinal, one line": one_line,
        "vicinal, into a buffer": into_buffer,
    }


def fleet_epochs() -> timing.Candidates:
    generator = np.random.Generator(np.random.Philox(1))
    x = torch.from_numpy(generator.standard_normal((1, 320, 30), dtype="float32"))
    data = StackedSplit(TableInputs(x), torch.from_numpy(generator.integers(0, 2, (1, 320))))

    def epoch(vicinity: vicinal.Vicinity) -> None:
        runs = [stacked_mlp.MLPRun(0, seed, vicinity) for seed in range(20)]
        stacked_mlp.train(runs, data, 2, stacked_mlp.MLPTraining(epochs=1))

    erm, mixup = vicinal.ERM(), vicinal.Mixup(0.4, seed=0)
    return {"ERM": lambda: epoch(erm), "vicinal, the fleet": lambda: epoch(mixup)}


def main() -> None:
    args = timing.arguments(__doc__)
    generator = np.random.Generator(np.random.Philox(1))
    tables = {}
    x, y = torch.from_numpy(generator.standard_normal((16, 30), dtype="float32")), torch.arange(16) % 2
    for fused in (False, True):
        name = f"MLP 30-128-128-2, batch 16, {'fused ' if fused else ''}Adam"
        tables[name] = timing.measure(name, steps(MLP(30), x, y, fused), args)
    tables["fleet of 20 MLPs"] = timing.measure("fleet of 20 MLPs, an epoch", fleet_epochs(), args)

    batch = 2 if args.quick else 32
    net = PreActResNet18(num_classes=10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.from_numpy(generator.standard_normal((batch, 3, 32, 32), dtype="float32"))
    x, y = x.contiguous(memory_format=torch.channels_last), torch.arange(batch) % 10
    name = f"PreAct ResNet-18, batch {batch}"
    tables[name] = timing.measure(name, steps(net, x, y, True), args)
    timing.save("step", args, tables)


if __name__ == "__main__":
    main()
