"""ResNet-50 at 224 x 224, from JPEG bytes to the step: images a second with and without mixup.

The images are synthetic, 500 x 375, and lie on disk; they are decoded by threads, sent as bytes, and mixed and
normalized on the device in one pass. The parts of the way are measured, too: decoding alone, and the step alone.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import vicinal
from bench.gpu.queue import Slot
from bench.mixing import MEAN, STD
from vicinal.keyed import Key
from vicinal.lab import models
from vicinal.lab.data import images
from vicinal.lab.data.decoding import decoder
from vicinal.lab.data.loader import Reader, resized

MODEL = "resnet-50"


def run(slot: Slot) -> dict[str, Any]:
    """Measure, each way a part."""
    folder = slot.folder / "scratch"
    made = images(folder, *((2, 6) if slot.smoke else (8, 256)))
    tables: dict[str, Any] = {"image_bytes": made, "cores": os.cpu_count(), "decoder": decoder()}
    tables["decode"] = slot.part("decode", 30, lambda: decoding(slot, folder))
    for method in ("erm", "mixup"):
        for compiled in (False, True):
            title = f"step-{method}{'-compiled-mix' if compiled else ''}"
            if compiled and (slot.device.type != "cuda" or method == "erm"):
                continue
            tables[title] = slot.part(title, 45, lambda m=method, c=compiled: step(slot, m, c, None))
        title = f"decode-to-step-{method}"
        tables[title] = slot.part(title, 60, lambda m=method: step(slot, m, False, folder))
    if slot.device.type != "cuda":
        tables["step-mixup-compiled-mix"] = {"not available": f"no CUDA here: the device is {slot.device}"}
    return tables


def images(folder: Path, classes: int, each: int) -> float:
    """Make images that look like photographs to a decoder: smooth colors, edges and grain; give their mean size."""
    sizes = []
    for c in range(classes):
        (folder / f"n{c:08d}").mkdir(parents=True, exist_ok=True)
        for i in range(each):
            path = folder / f"n{c:08d}" / f"{i}.jpg"
            if not path.exists():
                generator = Key(9, 0, c, i).generator()
                coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
                grain = generator.normal(0, 6, (375, 500, 3))
                pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.float64) + grain
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
            sizes.append(path.stat().st_size)
    return float(np.mean(sizes))


def _size(slot: Slot) -> tuple[int, int, int]:
    """Give batch, side and number of batches."""
    return (4, 32, 2) if slot.smoke else (256, 224, 40)


def _batches(folder: Path, batch: int, side: int, most: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Give images uint8 [batch, 3, side, side], cut as in training, and labels; decoded ahead, sent without waiting."""
    files = images.scan(folder)
    keys = [Key(0, 0, 0, step) for step in range(most)]
    rows = [torch.from_numpy(key.generator().permutation(len(files))[:batch]) for key in keys]
    with contextlib.closing(Reader(files, side, resized, pin=device.type == "cuda")) as reader:
        reader.expect(zip(rows, keys, strict=True))
        for part, key in zip(rows, keys, strict=True):
            y = files.labels[part]
            y = y.pin_memory() if device.type == "cuda" else y
            yield reader.batch(part, key).to(device, non_blocking=True), y.to(device, non_blocking=True)


def decoding(slot: Slot, folder: Path) -> dict[str, float]:
    """Give images a second of decoding alone."""
    batch, side, most = _size(slot)
    start = time.perf_counter()
    count = sum(len(x) for x, _ in _batches(folder, batch, side, most, torch.device("cpu")))
    return {"images_per_second": count / (time.perf_counter() - start)}


def step(slot: Slot, method: str, compiled: bool, folder: Path | None) -> dict[str, float]:
    """Give images a second of whole steps; on one batch that is there, or from the files of a folder."""
    batch, side, most = _size(slot)
    device = slot.device
    model = models.build("resnet-20" if slot.smoke else MODEL, 1000).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sgd = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=1e-4)
    vicinity = vicinal.ERM() if method == "erm" else vicinal.Mixup(0.2, seed=0)
    if folder is None:
        drawn = Key(10, 0, 0, 0).generator().integers(0, 256, (batch, 3, side, side), dtype=np.uint8)
        x = torch.from_numpy(drawn).contiguous(memory_format=torch.channels_last).to(device)
        y = torch.arange(batch, device=device) % 1000
        source: Iterator[tuple[Tensor, Tensor]] = ((x, y) for _ in range(most))
    else:
        source = _batches(folder, batch, side, most, device)
    warm = 1 if slot.smoke else 10
    start, seen, loss = 0.0, 0, torch.zeros(())
    for number, (x, y) in enumerate(source):
        if number == warm:
            _wait(device)
            start = time.perf_counter()
        plan = vicinity.plan(len(x), step=number).to(device)
        assert isinstance(plan, vicinal.MixPlan)
        inputs = plan.normalized(x, MEAN, STD, torch.bfloat16, compiled=compiled)
        with torch.autocast(device.type, torch.bfloat16):
            out = model(inputs)
        loss = F.cross_entropy(out.float(), plan.target(y))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        seen += len(x) if number >= warm else 0
    _wait(device)
    return {"images_per_second": seen / (time.perf_counter() - start), "loss": float(loss.detach())}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
