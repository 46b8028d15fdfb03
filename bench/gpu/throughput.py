"""Images per second of training PreAct ResNet-18 on CIFAR-10: ERM and mixup, ours and the paper's reference recipe.

Ours is the loop of `vicinal train`, in float32, in bfloat16, and compiled. The reference recipe augments image by image in
8 processes and computes in float32. Each loop is timed by itself over as many steps, after some to warm up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from bench import loop, timing
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import recipes

WORKERS, WARM, STEPS = 8, 40, 350


def loops(
    recipe: Recipe, method: str, device: torch.device, workers: int
) -> dict[str, Callable[[], Callable[[], None]]]:
    """Return what makes the step of each loop: one at a time is on the device."""
    half = replace(recipe, precision="bfloat16")
    made = {
        f"reference recipe, {method}": lambda: loop.reference(recipe, device, workers),
        f"vicinal train, {method}, float32": lambda: loop.ours(recipe, device),
        f"vicinal train, {method}, bfloat16": lambda: loop.ours(half, device),
    }
    if device.type == "cuda":
        made[f"vicinal train, {method}, bfloat16, compiled"] = lambda: loop.ours(replace(half, compile=True), device)
    return made


def main() -> None:
    args = timing.arguments(__doc__, timing.default_device())
    device = torch.device(args.device)
    torch.backends.cudnn.benchmark = True
    workers, warm, steps = (0, 1, 2) if args.quick else (WORKERS, WARM, STEPS)
    table = {}
    for method in ("erm", "mixup"):
        recipe = recipes.find(f"cifar10-preact18-{method}")
        if args.quick:
            recipe = replace(recipe, dataset="synthetic-images", model="small", batch_size=8)
        for name, make in loops(recipe, method, device, workers).items():
            step = make()
            for _ in range(warm):
                step()
            seconds = timing.clock(args.device)(step, steps)
            table[name] = {"images_per_second": recipe.batch_size / seconds}
            print(f"{name:52s}{table[name]['images_per_second']:10.0f} images/s", flush=True)
    timing.save("gpu-throughput", args, {"PreAct ResNet-18, CIFAR-10, batch 128": table})


if __name__ == "__main__":
    main()
