"""The paper's runs, by its protocol, through the lab's own loop with the data on the device: one job a run."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.gpu.queue import Slot
from vicinal.keyed import Key
from vicinal.lab import atomic
from vicinal.lab.data import loading
from vicinal.lab.data.loading import InMemoryDataset
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import recipes

# The paper's table 5: recipes that are strongest there, beside ERM and mixup, which `recipes.py` has
_ABLATION = {
    "ablation-input-smoothing": "Chain([InputMixup(1.0), LabelSmoothing(0.2)])",  # 4.98, recalled
    "ablation-input-only": "InputMixup(1.0)",  # 5.17, recalled
    "ablation-smoothing": "LabelSmoothing(0.05)",  # 5.25, recalled
}


@dataclass(frozen=True)
class PaperRun:
    """A run of the queue: trains by a recipe and gives the test errors of each epoch."""

    recipe: Recipe

    def __call__(self, slot: Slot) -> dict[str, Any]:
        """Train, or go on training."""
        recipe = smoke_recipe(self.recipe) if slot.smoke else self.recipe
        results = slot.train(recipe)
        return {key: results[key] for key in ("recipe", "test_error", "epochs", "device")}


def runs(data: str) -> dict[str, PaperRun]:
    """Give ERM and mixup for PreAct ResNet-18 on a set, with seeds 0, 1, 2: the seeds of one after those of the other."""
    erm, mixup = (recipes.find(f"{data}-preact18-{method}") for method in ("erm", "mixup"))
    return {
        f"{data}-{method}-seed{seed}": PaperRun(replace(recipe, seed=seed))
        for seed in range(3)
        for method, recipe in (("erm", erm), ("mixup", mixup))
    }


def corrupted() -> dict[str, PaperRun]:
    """Give table 2's rows for half of the labels."""
    return {f"cifar10-noise50-{m}": PaperRun(recipes.find(f"cifar10-noise50-{m}")) for m in ("erm", "mixup")}


def ablation() -> dict[str, PaperRun]:
    """Give the strongest rows of table 5, at weight decay 1e-4; mixup and ERM at 5e-4 beside them."""
    mixup = recipes.cifar10_preact18_mixup()
    found = {name: PaperRun(replace(mixup, vicinity=text)) for name, text in _ABLATION.items()}
    found["ablation-mixup-5e-4"] = PaperRun(replace(mixup, weight_decay=5e-4))
    found["ablation-erm-5e-4"] = PaperRun(replace(mixup, vicinity="ERM()", weight_decay=5e-4))
    return found


def wide() -> dict[str, PaperRun]:
    """Give WRN-28-10, whose 2.7 % nobody that we know of has reached in 200 epochs."""
    return {f"wrn-28-10-{m}": PaperRun(recipes.find(f"cifar10-wrn-28-10-{m}")) for m in ("mixup", "erm")}


def held(recipe: Recipe, device: torch.device) -> tuple[InMemoryDataset, InMemoryDataset]:
    """Give a recipe's training and test examples, in memory on a device."""
    train, test = (part.to(device) for part in loading.load(recipe))
    assert isinstance(train, InMemoryDataset)  # CIFAR and the images of a dry run are
    assert isinstance(test, InMemoryDataset)
    return train, test


def smoke_recipe(recipe: Recipe) -> Recipe:
    """Give the same recipe for a small model, three epochs and 36 images that are made here, three times 12."""
    folder = Path(tempfile.gettempdir()) / "vicinal-gpu-smoke"  # one place: it is part of the recipe
    for c in range(3):
        (folder / str(c)).mkdir(parents=True, exist_ok=True)
        for i in range(12):
            path = folder / str(c) / f"{i}.png"
            if not path.exists():
                pixels = Key(1, 0, c, i).generator().integers(0, 160, (32, 32, 3), dtype=np.uint8)
                pixels[:, :, c] += 80
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "PNG")
                atomic.write(path, buffer.getvalue())
    return replace(recipe, dataset=str(folder), model="small", epochs=3, batch_size=8, milestones=(2,))
