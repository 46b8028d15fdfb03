"""Images a second of whole training: the loop of `vicinal train` beside the paper's reference recipe, same model.

The reference is the authors' CIFAR script in plain PyTorch: a DataLoader in the main process that pads, crops, flips and
normalizes image by image (in NumPy, as torchvision does it on PIL images), mixup with two cross-entropies, SGD. It runs
in float32 in PyTorch's default layout. Needs CIFAR-10 in VICINAL_DATA.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench import timing
from vicinal.lab import models
from vicinal.lab.data import loading
from vicinal.lab.errors import UserError
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import loop, recipes
from vicinal.lab.training.distributed import Processes

MEAN, STD = np.float32([0.4914, 0.4822, 0.4465]), np.float32([0.2023, 0.1994, 0.2010])


class Images(Dataset[tuple[Tensor, int]]):
    """CIFAR-10, image by image."""

    def __init__(self, images: np.ndarray, labels: list[int]) -> None:
        self.images, self.labels = images, labels
        self.generator = np.random.Generator(np.random.Philox(0))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        padded = np.pad(self.images[i], ((4, 4), (4, 4), (0, 0)))
        top, left = self.generator.integers(0, 9, 2)
        image = padded[top : top + 32, left : left + 32]
        if self.generator.random() < 0.5:
            image = image[:, ::-1]
        numbers = (image.astype(np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(np.ascontiguousarray(numbers.transpose(2, 0, 1))), self.labels[i]


def reference(recipe: Recipe, data: loading.InMemoryDataset) -> Callable[[], Any]:
    images = Images(data.inputs.permute(0, 2, 3, 1).contiguous().numpy(), data.labels.tolist())
    loader = DataLoader(images, recipe.batch_size, shuffle=True, drop_last=True)
    model = models.build(recipe.model, 10)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    generator = np.random.Generator(np.random.Philox(0))

    def batches() -> Iterator[list[Tensor]]:
        while True:
            yield from loader

    stream = batches()

    def step() -> None:
        x, y = next(stream)
        lam = float(generator.beta(1.0, 1.0))
        index = torch.randperm(len(x))
        out = model(lam * x + (1 - lam) * x[index])
        loss = lam * F.cross_entropy(out, y) + (1 - lam) * F.cross_entropy(out, y[index])
        sgd.zero_grad()
        loss.backward()
        sgd.step()

    return step


def ours(recipe: Recipe, data: loading.InMemoryDataset) -> Callable[[], Any]:
    if recipe.channels_last:
        data = replace(data, inputs=data.inputs.contiguous(memory_format=torch.channels_last))
    run = loop._Run(recipe, data, data, Processes(0, 1, torch.device("cpu")))

    def steps() -> Iterator[None]:
        while True:
            yield from run.steps()
            run._in_epoch = 0

    stream = steps()
    return lambda: next(stream)


def main() -> None:
    args = timing.arguments(__doc__ or "", models="small,preact-resnet-18")
    tables = {}
    base = replace(recipes.cifar10_small_mixup(), max_train_examples=2048, batch_size=128, vicinity="Mixup(alpha=1.0)")
    try:
        data = loading.load(replace(base, channels_last=False))[0]
    except UserError as error:
        print(f"skipped: {error}")
        return
    for name in args.models.split(","):
        recipe = replace(base, model=name)
        kinds = itertools.product(("float32", "bfloat16"), (False, True))
        candidates = {"reference recipe": reference(recipe, data)}
        for precision, channels_last in kinds:
            label = f"vicinal train, {precision}{', channels_last' if channels_last else ''}"
            candidates[label] = ours(replace(recipe, precision=precision, channels_last=channels_last), data)
        result = timing.against(timing.rounds(candidates, args.rounds, 0.5), "reference recipe")
        timing.show(f"{name}, CIFAR-10, batch 128", result, "reference recipe")
        for label, row in result.items():
            print(f"{label:42s}{128e3 / row['ms'][1]:8.1f} images/s a core")
        tables[f"{name}, CIFAR-10, batch 128"] = result
    timing.save("loop", args, tables)


if __name__ == "__main__":
    main()
