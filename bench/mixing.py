"""Mixing a batch: beside torch's own copy of it, and beside other implementations.

Each peer runs by its formula, marked so. Where its package is installed it also runs from there, labels included, as a user
would call it (`make bench-peers` makes such an environment; torchvision does not import beside PyTorch's CPU build).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vicinal
from bench import timing

SHAPES = {
    "256x3x224x224": (256, 3, 224, 224),
    "128x3x32x32": (128, 3, 32, 32),
    "1024x128": (1024, 128),
    "100x1x160x101": (100, 1, 160, 101),
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def peers(x: Tensor, perm: Tensor, lam: float) -> dict[str, Callable[[], Any]]:
    """The peers' formulas on one batch; timm's works in place on a batch of its own."""
    own = x.clone()
    weight = torch.full((len(x),), 1 - lam, dtype=x.dtype)

    def reference() -> Tensor:
        return lam * x + (1 - lam) * x[perm]

    def timm() -> Tensor:
        flipped = own.flip(0).mul_(1.0 - lam)
        return own.mul_(lam).add_(flipped)

    def torchvision() -> Tensor:
        return x.roll(1, 0).mul_(1.0 - lam).add_(x.mul(lam))

    def kornia() -> Tensor:
        other = x.index_select(0, perm)
        w = weight.view(-1, *(1,) * (x.ndim - 1)).expand_as(x)
        mixed = x * (1 - w) + other * w
        return torch.where(torch.ones(len(x), *(1,) * (x.ndim - 1), dtype=torch.bool), mixed, x)

    return {
        "reference recipe (formula)": reference,
        "timm, in place (formula)": timm,
        "torchvision (formula)": torchvision,
        "kornia (formula)": kornia,
    }


def packages(x: Tensor) -> dict[str, Callable[[], Any]]:
    """The peers' own packages, as far as they can be imported; they mix the labels too."""
    y, own = torch.arange(len(x)) % 10, x.clone()
    found: dict[str, Callable[[], Any]] = {}
    if importlib.util.find_spec("timm"):
        from timm.data.mixup import Mixup

        timm = Mixup(mixup_alpha=1.0, num_classes=10, label_smoothing=0.0)
        if len(x) % 2 == 0:
            found[f"timm {metadata.version('timm')}, in place (package)"] = lambda: timm(own, y)
    if importlib.util.find_spec("torchvision") and x.ndim == 4:
        from torchvision.transforms import v2

        torchvision = v2.MixUp(alpha=1.0, num_classes=10)
        found[f"torchvision {metadata.version('torchvision')} (package)"] = lambda: torchvision(x, y)
    if importlib.util.find_spec("kornia") and x.ndim == 4:
        from kornia.augmentation import RandomMixUpV2

        kornia = RandomMixUpV2(data_keys=["input", "class"], p=1.0)
        found[f"kornia {metadata.version('kornia')} (package)"] = lambda: kornia(x, y)
    return found


def ours(x: Tensor, plan: vicinal.MixPlan, each: vicinal.MixPlan) -> dict[str, Callable[[], Any]]:
    buffer, own = torch.empty_like(x), x.clone()
    roll = vicinal.Mixup(1.0, vicinal.Roll(), seed=0).plan(len(x), step=1)
    mixup, y = vicinal.Mixup(1.0, seed=0), torch.arange(len(x)) % 10
    return {
        "vicinal, in place": lambda: plan(own, out=own),
        "vicinal, into a buffer": lambda: plan(x, out=buffer),
        "vicinal, new tensor": lambda: plan(x),
        "vicinal, into a buffer, Roll": lambda: roll(x, out=buffer),
        "vicinal, new tensor, Roll": lambda: roll(x),
        "vicinal, one line, draw and labels included": lambda: mixup(x, y),
        "vicinal, one line into a buffer, the same": lambda: mixup(x, y, out=buffer),
        "vicinal, in place, weight per example": lambda: each(own, out=own),
        "vicinal, into a buffer, weight per example": lambda: each(x, out=buffer),
    }


def table(shape: tuple[int, ...], n: int, dtype: torch.dtype = torch.float32, layout: str = "") -> dict[str, Any]:
    generator = np.random.Generator(np.random.Philox(1))
    x = torch.from_numpy(generator.standard_normal(shape, dtype="float32")).to(dtype)
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    plan = vicinal.Mixup(1.0, seed=0).plan(len(x), step=1)
    each = vicinal.Mixup(vicinal.Beta(1.0, per="example"), seed=0).plan(len(x), step=1)
    assert isinstance(plan, vicinal.MixPlan)
    assert isinstance(each, vicinal.MixPlan)
    buffer = torch.empty_like(x)
    candidates = {"torch copy_": lambda: buffer.copy_(x)}
    candidates |= ours(x, plan, each) | peers(x, plan.partner, float(plan.weight[0]))
    if dtype == torch.float32 and not layout:
        candidates |= packages(x)
    times = timing.rounds(candidates, n)
    result = timing.against(times, "torch copy_")
    timing.show(f"{'x'.join(map(str, shape))} {dtype} {layout}", result, "torch copy_")
    return result


def from_bytes(shape: tuple[int, ...], n: int) -> dict[str, Any]:
    """uint8 in, mixed and normalized float32 out."""
    generator = np.random.Generator(np.random.Philox(1))
    x = torch.from_numpy(generator.integers(0, 256, shape, dtype="uint8"))
    plan = vicinal.Mixup(1.0, seed=0).plan(len(x), step=1)
    assert isinstance(plan, vicinal.MixPlan)
    lam, perm = float(plan.weight[0]), plan.partner
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    out = torch.empty(shape)
    half = torch.empty(shape, dtype=torch.float32)

    def usual() -> Tensor:
        y = (x.float() / 255 - mean) / std
        return lam * y + (1 - lam) * y[perm]

    def limit() -> Tensor:
        # one read of the bytes and one write of the floats, at the speed of torch's own copies
        return half.copy_(x)

    candidates = {
        "uint8 to float copy_": limit,
        "usual: float, normalize, reference mix": usual,
        "vicinal, into a buffer": lambda: plan.normalized(x, MEAN, STD, out=out),
        "vicinal, new tensor": lambda: plan.normalized(x, MEAN, STD),
    }
    result = timing.against(timing.rounds(candidates, n), "uint8 to float copy_")
    timing.show(f"{'x'.join(map(str, shape))} uint8 to normalized float32", result, "uint8 to float copy_")
    return result


def main() -> None:
    args = timing.arguments(__doc__ or "")
    tables = {name: table(shape, args.rounds) for name, shape in SHAPES.items()}
    for name in ("256x3x224x224", "128x3x32x32"):
        tables[f"{name} channels_last"] = table(SHAPES[name], args.rounds, layout="channels_last")
        tables[f"{name} bfloat16"] = table(SHAPES[name], args.rounds, torch.bfloat16)
        tables[f"{name} uint8 to float"] = from_bytes(SHAPES[name], args.rounds)
    name = "mixing" if args.threads == 1 else f"mixing-{args.threads}threads"
    if importlib.util.find_spec("torchvision"):
        name += "-packages"
    if any(key.startswith("MALLOC_") for key in os.environ):
        name += "-malloc"  # an allocator that keeps its memory
    timing.save(name, args, tables)


if __name__ == "__main__":
    main()
