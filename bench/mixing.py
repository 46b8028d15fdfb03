"""Mixing a batch: next to torch's own copy of it and to other implementations.

Each peer runs by its formula, marked so. Where its package is installed it also runs from there, labels included, as a user
would call it (`make bench-peers` makes such an environment; torchvision does not import with PyTorch's CPU build).
"""

from __future__ import annotations

import importlib.util
import os
from argparse import Namespace
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vicinal
from bench import timing
from vicinal.weighting import Per

SHAPES = {
    "256x3x224x224": (256, 3, 224, 224),
    "128x3x32x32": (128, 3, 32, 32),
    "1024x128": (1024, 128),
    "100x1x160x101": (100, 1, 160, 101),
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def peers(x: Tensor, perm: Tensor, lam: float) -> dict[str, Callable[[], Any]]:
    """Return the peers' formulas on one batch; timm's works in place on a batch of its own."""
    own = x.clone()
    weight = x.new_full((len(x), *(1,) * (x.ndim - 1)), 1 - lam)

    def reference() -> Tensor:
        return lam * x + (1 - lam) * x[perm]

    def timm() -> Tensor:
        flipped = own.flip(0).mul_(1.0 - lam)
        return own.mul_(lam).add_(flipped)

    def torchvision() -> Tensor:
        return x.roll(1, 0).mul_(1.0 - lam).add_(x.mul(lam))

    def kornia() -> Tensor:
        other = x.index_select(0, perm)
        w = weight.expand_as(x)
        mixed = x * (1 - w) + other * w
        return torch.where(torch.ones_like(weight, dtype=torch.bool), mixed, x)

    return {
        "reference recipe (formula)": reference,
        "timm, in place (formula)": timm,
        "torchvision (formula)": torchvision,
        "kornia (formula)": kornia,
    }


def packages(x: Tensor) -> dict[str, Callable[[], Any]]:
    """Return the peers' own packages, as far as they are installed; they mix the labels too."""
    y, own = torch.arange(len(x), device=x.device) % 10, x.clone()
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


def ours(x: Tensor, plan: vicinal.MixPlan, each: vicinal.MixPlan) -> timing.Candidates:
    buffer, own = torch.empty_like(x), x.clone()
    roll = vicinal.Mixup(1.0, vicinal.Roll(), seed=0).plan(len(x), step=1).to(x.device)
    mixup, y = vicinal.Mixup(1.0, seed=0), torch.arange(len(x), device=x.device) % 10
    found = {
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
    if x.is_cuda:
        found["vicinal, compiled, new tensor"] = lambda: plan(x, compiled=True)
        found["vicinal, compiled, weight per example"] = lambda: each(x, compiled=True)
    return found


def draw(n: int, per: Per, device: str) -> vicinal.MixPlan:
    plan = vicinal.Mixup(vicinal.Beta(1.0, per=per), seed=0).plan(n, step=1).to(device)
    assert isinstance(plan, vicinal.MixPlan)
    return plan


def floats(
    shape: tuple[int, ...], args: Namespace, dtype: torch.dtype = torch.float32, channels_last: bool = False
) -> timing.Table:
    """Measure one batch of floats, next to a copy of it."""
    torch.compiler.reset()  # each table compiles anew: after 8 shapes PyTorch would give up and run eagerly
    generator = np.random.Generator(np.random.Philox(1))
    x = torch.from_numpy(generator.standard_normal(shape, dtype="float32")).to(args.device, dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    plan, each = draw(len(x), "batch", args.device), draw(len(x), "example", args.device)
    buffer = torch.empty_like(x)
    candidates = {"torch copy_": lambda: buffer.copy_(x), **ours(x, plan, each)}
    candidates |= peers(x, plan.partner, float(plan.weight[0]))
    if dtype == torch.float32 and not channels_last:
        candidates |= packages(x)
    layout = "channels_last" if channels_last else "contiguous"
    return timing.measure(f"{'x'.join(map(str, shape))} {dtype} {layout}", candidates, args)


def from_bytes(shape: tuple[int, ...], args: Namespace) -> timing.Table:
    """Measure uint8 in, mixed and normalized float32 out."""
    generator = np.random.Generator(np.random.Philox(1))
    x = torch.from_numpy(generator.integers(0, 256, shape, dtype="uint8")).to(args.device)
    plan = draw(len(x), "batch", args.device)
    lam, perm = float(plan.weight[0]), plan.partner
    mean, std = (torch.tensor(t, device=args.device).view(3, 1, 1) for t in (MEAN, STD))
    out, copy = torch.empty_like(x, dtype=torch.float32), torch.empty_like(x, dtype=torch.float32)

    def usual() -> Tensor:
        y = (x.float() / 255 - mean) / std
        return lam * y + (1 - lam) * y[perm]

    candidates = {
        "uint8 to float copy_": lambda: copy.copy_(x),  # one read of the bytes and one write of the floats: the limit
        "usual: float, normalize, reference mix": usual,
        "vicinal, into a buffer": lambda: plan.normalized(x, MEAN, STD, out=out),
        "vicinal, new tensor": lambda: plan.normalized(x, MEAN, STD),
    }
    return timing.measure(f"{'x'.join(map(str, shape))} uint8 to normalized float32", candidates, args)


def main() -> None:
    args = timing.arguments(__doc__)
    shapes = {"8x3x16x16": (8, 3, 16, 16)} if args.quick else SHAPES
    tables = {name: floats(shape, args) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if len(shape) == 4 and shape[1] == 3:
            tables[f"{name} channels_last"] = floats(shape, args, channels_last=True)
            tables[f"{name} bfloat16"] = floats(shape, args, torch.bfloat16)
            tables[f"{name} uint8 to float"] = from_bytes(shape, args)
    name = "mixing" if args.threads == 1 else f"mixing-{args.threads}threads"
    if importlib.util.find_spec("torchvision"):
        name += "-packages"
    if any(key.startswith("MALLOC_") for key in os.environ):
        name += "-malloc"  # an allocator that keeps its memory
    timing.save(name, args, tables)


if __name__ == "__main__":
    main()
