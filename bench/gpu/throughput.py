"""PreAct ResNet-18 on CIFAR-10: examples a second of the lab's loop, and of the reference recipe's loop, on one device.

The reference recipe's loop is written down here as that recipe has it: a DataLoader with 8 workers, images augmented
one by one on the host as float32, a permutation gathered on the device, two cross-entropies, and the loss read at every
step.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.gpu.paper import held, smoke_recipe
from bench.gpu.queue import Slot
from vicinal.keyed import Key
from vicinal.lab import models
from vicinal.lab.data.loading import InMemoryDataset
from vicinal.lab.recipe import Recipe
from vicinal.lab.training import loop, recipes
from vicinal.lab.training.distributed import Processes


def run(slot: Slot) -> dict[str, Any]:
    """Measure the loops, each a part: float32 and bfloat16, with and without mixup, and with torch.compile."""
    tables = {}
    mixup, erm = recipes.cifar10_preact18_mixup(), recipes.cifar10_preact18_erm()
    for method, recipe in (("erm", erm), ("mixup", mixup)):
        if slot.smoke:
            recipe = smoke_recipe(recipe)
        for precision in ("float32", "bfloat16"):
            what = replace(recipe, precision=precision)
            title = f"vicinal-{method}-{precision}"
            tables[title] = slot.part(title, 40, lambda w=what: ours(slot, w))
        title = f"reference-{method}-float32"
        tables[title] = slot.part(title, 60, lambda w=recipe, m=method: reference(slot, w, m == "mixup"))
    if slot.device.type == "cuda":
        what = replace(mixup, precision="bfloat16", compile=True)
        tables["vicinal-mixup-bfloat16-compile"] = slot.part(
            "vicinal-mixup-bfloat16-compile", 120, lambda: ours(slot, what)
        )
    else:
        tables["vicinal-mixup-bfloat16-compile"] = {"not available": f"no CUDA here: the device is {slot.device}"}
    return tables


def ours(slot: Slot, recipe: Recipe) -> dict[str, float]:
    """Give examples a second of the loop's second epoch, and of its steps alone."""
    job = Processes(0, 1, slot.device)
    data, test = held(recipe, slot.device)
    training = loop._Run(recipe, data, test, job)
    lines = []
    for _ in range(2):  # the first warms up
        start = time.perf_counter()
        for _ in training.steps():
            pass
        line = training.end_epoch()
        lines.append({"steps": line["examples_per_second"], "with test": len(data) / (time.perf_counter() - start)})
    return lines[-1]


class _OneByOne(Dataset[tuple[Tensor, Tensor]]):
    """Images as the reference recipe's transforms give them: padded, cropped, mirrored and normalized one at a time."""

    def __init__(self, data: InMemoryDataset) -> None:
        self.images = data.inputs.cpu().contiguous()
        self.labels = data.labels.cpu()
        self.mean, self.std = (torch.tensor(t).view(3, 1, 1) for t in (data.mean, data.std))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        generator = Key(6, 0, 0, i).generator()
        size = self.images.shape[-1]
        top, left = generator.integers(0, 9, 2).tolist()
        image = F.pad(self.images[i], (4, 4, 4, 4))[:, top : top + size, left : left + size]
        image = image.flip(2) if generator.random() < 0.5 else image
        return (image.float() / 255).sub_(self.mean).div_(self.std), self.labels[i]


def reference(slot: Slot, recipe: Recipe, mixing: bool) -> dict[str, float]:
    """Give examples a second of the reference recipe's loop, after some steps to warm up."""
    data, _ = held(recipe, torch.device("cpu"))
    workers, warm, most = (0, 1, 3) if slot.smoke else (8, 40, 350)
    loader = DataLoader(
        _OneByOne(data), recipe.batch_size, shuffle=True, num_workers=workers, pin_memory=slot.device.type == "cuda",
        drop_last=True,
    )  # fmt: skip
    model = models.build(recipe.model, len(data.classes)).to(slot.device)
    sgd = torch.optim.SGD(model.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay)
    generator = Key(7, 0, 0, 0).generator()
    seen, start, total = 0, 0.0, 0.0
    for step, (x, y) in enumerate(loader):
        if step == warm:
            start = time.perf_counter()
        if step == warm + most:
            break
        x, y = x.to(slot.device), y.to(slot.device)
        lam = float(generator.beta(1.0, 1.0)) if mixing else 1.0
        index = torch.from_numpy(generator.permutation(len(x))).to(slot.device)
        out = model(lam * x + (1 - lam) * x[index] if mixing else x)
        loss = F.cross_entropy(out, y)
        if mixing:
            loss = lam * loss + (1 - lam) * F.cross_entropy(out, y[index])
        total += loss.item()
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        seen += len(x) if step >= warm else 0
    if slot.device.type == "cuda":
        torch.cuda.synchronize(slot.device)
    return {"steps": seen / (time.perf_counter() - start), "workers": workers, "loss": total}
