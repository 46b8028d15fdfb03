"""What each vicinity, pairing and weighting costs: the one line beside a copy of its batch, and the memory that it takes.

`new_memory`: bytes of tensors held at the same time at most, in sizes of the batch, what is returned included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.profiler import profile

import vicinal as v
from bench import timing
from vicinal import methods

CALLS = 5  # whose memory is looked at: a draw may take another path
SHAPES = {"128x3x32x32": (128, 3, 32, 32), "1024x128": (1024, 128)}


def cases(x: Tensor) -> dict[str, Callable[[], Any]]:
    """Return what is called, by the name of the class whose cost it is."""
    n = len(x)
    y, heights = torch.arange(n, device=x.device) % 10, torch.linspace(-1, 1, n, device=x.device)
    made: dict[str, v.Vicinity] = {
        "ERM": v.ERM(),
        "Mixup": v.Mixup(1.0),
        "InputMixup": v.InputMixup(1.0),
        "GaussianNoise": v.GaussianNoise(0.1),
        "LabelSmoothing": v.LabelSmoothing(0.1),
        "Chain": v.Chain([v.Mixup(1.0), v.LabelSmoothing(0.1)]),
        "Choice": v.Choice([v.Mixup(1.0), v.ERM()]),
        "RandomPairs": v.Mixup(1.0, v.RandomPairs()),
        "Roll": v.Mixup(1.0, v.Roll()),
        "SameClass": v.Mixup(1.0, v.SameClass()),
        "OtherClass": v.Mixup(1.0, v.OtherClass()),
        "Nearest": v.Mixup(1.0, v.Nearest(200)),
        "Beta": v.Mixup(v.Beta(1.0, per="example")),
        "Dirichlet": v.Mixup(v.Dirichlet(1.0, k=3)),
        "Transport": v.Mixup(1.0, methods.Transport(4)),
        "Selective": v.Mixup(2.0, methods.Selective(label="other", group="any")),
        "Unmixed": methods.Unmixed(v.Mixup(1.0)),
        "Beside": methods.Beside(v.Mixup(10.0)),
        "Remix": methods.Remix(1.0),
        "SKMixup": methods.SKMixup(),
    }
    made |= {"CutMix": v.CutMix(1.0), "FMix": methods.FMix()} if x.ndim > 2 else {"ColumnMix": methods.ColumnMix()}
    calls = {name: _call(vicinity, x, y) for name, vicinity in made.items()}
    scheduled = v.Scheduled(v.Mixup(1.0), start=5)
    scheduled.set_epoch(5)
    return calls | {
        "Scheduled": _call(scheduled, x, y),
        "LabelDistance": _call(v.Mixup(1.0, v.LabelDistance(0.5)), x, heights),
    }


def _call(vicinity: v.Vicinity, x: Tensor, y: Tensor) -> Callable[[], Any]:
    return lambda: vicinity(x, y)


def new_memory(call: Callable[[], Any]) -> int:
    """Return the bytes of tensors that a call holds at most beyond what was there before, its results included."""
    return max(_peak(call) for _ in range(CALLS))


def _peak(call: Callable[[], Any]) -> int:
    with profile(profile_memory=True) as recorded:
        result = call()
    now = most = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    del result
    return most


def main() -> None:
    args = timing.arguments(__doc__)
    tables = {}
    for title, shape in SHAPES.items():
        x = torch.randn(shape, device=args.device)
        out, calls = torch.empty_like(x), cases(x)
        table = timing.measure(title, {"torch copy_": lambda: out.copy_(x), **calls}, args)  # noqa: B023
        for name, call in calls.items():
            table[name]["new_memory"] = new_memory(call) / x.nbytes
        tables[title] = table
    timing.save("vicinities", args, tables)


if __name__ == "__main__":
    main()
