"""The paper's runs on CIFAR by its protocol, one after the other, with their test error and seconds per epoch.

python -m bench.gpu.cifar                                   cifar10-preact18 by ERM and by mixup, seed 0
python -m bench.gpu.cifar --recipes cifar10-wrn-28-10-mixup --seeds 3
python -m bench.gpu.cifar --changes "weight_decay=5e-4"     as `vicinal train` takes them, by spaces

Runs are those of `vicinal train`; their folders are kept in --runs. Rerun the same command to resume.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import torch

from bench import timing
from vicinal.lab.recipe import Recipe, with_overrides
from vicinal.lab.training import loop, recipes
from vicinal.lab.training.distributed import Processes


def runs(args: Namespace) -> dict[str, Recipe]:
    """Return the recipes by the names of their folders."""
    changes = args.changes.split()
    if args.quick:
        changes += ["dataset=synthetic-images", "model=small", "epochs=2", "batch_size=8"]
    return {
        "-".join([name, *args.changes.split(), f"seed{seed}"]): replace(
            with_overrides(recipes.find(name), changes), seed=seed
        )
        for seed in range(args.seeds)
        for name in args.recipes.split(",")
    }


def train(recipe: Recipe, folder: Path, device: str) -> dict[str, float]:
    """Train one run, or what is left of it."""
    results = loop.train(recipe, folder, Processes(0, 1, torch.device(device)))
    rates = [epoch["examples_per_second"] for epoch in results.epochs]
    examples = results.epochs[0]["step"] * recipe.batch_size
    return {
        "test_error_percent": 100 * results.test_error.median_of_last_10,  # the paper's figure
        "seconds_per_epoch": examples / statistics.median(rates),
    }


def main() -> None:
    default = "cifar10-preact18-erm,cifar10-preact18-mixup"
    args = timing.arguments(
        __doc__, timing.default_device(), recipes=default, seeds=1, changes="", runs="vicinal-runs/gpu"
    )
    torch.backends.cudnn.benchmark = True
    table = {}
    for name, recipe in runs(args).items():
        table[name] = train(recipe, Path(args.runs, name), args.device)
        print(name, *(f"{key} {value:.2f}" for key, value in table[name].items()), flush=True)
    timing.save("gpu-cifar", args, {"CIFAR by the paper's protocol": table})


if __name__ == "__main__":
    main()
