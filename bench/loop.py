"""Images per second of whole training: the loop of `vicinal train` next to the paper's reference recipe, same model.

The reference is the authors' CIFAR script in plain PyTorch: a DataLoader that pads, crops, flips and normalizes image by
image (in NumPy, as torchvision does it on PIL images), mixup with two cross-entropies, the loss read at every step, SGD.
It runs in float32 in PyTorch's default layout. Needs CIFAR-10 in VICINAL_DATA.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import vicinal
from bench import timing
from vicinal.lab import models, parse
from vicinal.lab.data import loading
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import loop, recipes
from vicinal.lab.training.distributed import Processes

MEAN, STD = (np.array(t, np.float32) for t in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))


class Images(Dataset[tuple[Tensor, int]]):
    """Images augmented one by one."""

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
        normalized = (image.astype(np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(np.ascontiguousarray(normalized.transpose(2, 0, 1))), self.labels[i]


def reference(recipe: Recipe, device: torch.device, workers: int = 0) -> Callable[[], None]:
    """Return one step of the reference recipe, by ERM or mixup as the recipe says."""
    data = loading.load(recipe)[0]
    pixels, labels = data.pixels(torch.arange(len(data)))
    images = Images(pixels.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist())
    loader = DataLoader(
        images, recipe.batch_size, shuffle=True, drop_last=True, num_workers=workers,
        pin_memory=device.type == "cuda", persistent_workers=workers > 0,
    )  # fmt: skip
    model = models.build(recipe.model, len(data.classes)).to(device)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    generator = np.random.Generator(np.random.Philox(0))
    mixing = parse.parse(recipe.vicinity) != vicinal.ERM()
    batches = itertools.chain.from_iterable(itertools.repeat(loader))

    def step() -> None:
        x, y = (part.to(device) for part in next(batches))
        lam = float(generator.beta(1.0, 1.0)) if mixing else 1.0
        index = torch.from_numpy(generator.permutation(len(x))).to(device)
        out = model(lam * x + (1 - lam) * x[index] if mixing else x)
        loss = F.cross_entropy(out, y)
        if mixing:
            loss = lam * loss + (1 - lam) * F.cross_entropy(out, y[index])
        loss.item()
        sgd.zero_grad()
        loss.backward()
        sgd.step()

    return step


def ours(recipe: Recipe, device: torch.device) -> Callable[[], None]:
    """Return one step of the loop of `vicinal train`."""
    data, test = (part.to(device) for part in loading.load(recipe))
    run = loop._Run(recipe, data, test, Processes(0, 1, device))

    def steps() -> Iterator[None]:
        while True:
            yield from run.steps()
            run._in_epoch = 0

    endless = steps()
    return lambda: next(endless)


def main() -> None:
    args = timing.arguments(__doc__, models="small,preact-resnet-18")
    device = torch.device(args.device)
    base = replace(recipes.cifar10_small_mixup(), max_train_examples=2048, batch_size=128, vicinity="Mixup(alpha=1.0)")
    names = args.models.split(",")
    if args.quick:
        base, names = replace(base, dataset="synthetic-images", max_train_examples=16, batch_size=8), ["small"]
    tables = {}
    for name in names:
        recipe = replace(base, model=name)
        candidates = {"reference recipe": reference(recipe, device)}
        for precision, channels_last in itertools.product(("float32", "bfloat16"), (False, True)):
            label = f"vicinal train, {precision}{', channels_last' if channels_last else ''}"
            candidates[label] = ours(replace(recipe, precision=precision, channels_last=channels_last), device)
        title = f"{name}, {base.dataset}, batch {base.batch_size}"
        tables[title] = timing.measure(title, candidates, args, seconds=0.5)
        for label, row in tables[title].items():
            print(f"{label:42s}{1e3 * base.batch_size / row['ms'][1]:8.1f} images/s")
    timing.save("loop", args, tables)


if __name__ == "__main__":
    main()
