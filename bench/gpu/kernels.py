"""Mixing, its loss, and a whole step as one CUDA graph: beside the device's own copy, and beside other implementations.

The least that mixing pairs can move is two reads and a write, 1.5 times a copy; `share` is that traffic over the time, as
a share of the bandwidth that the copy of the same tensor reached in the same round. Other projects stand by their
package where it can be imported, and by their formula; which is in the name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import vicinal
from bench import mixing as formulas
from bench.gpu import measure
from bench.gpu.measure import need_cuda
from bench.gpu.queue import Slot
from vicinal.keyed import Key
from vicinal.lab import models
from vicinal.lab.training.seeding import fork_rng
from vicinal.weighting import Per

SHAPES = {"256x3x224x224": (256, 3, 224, 224), "1024x3x32x32": (1024, 3, 32, 32), "128x3x32x32": (128, 3, 32, 32)}
SMOKE_SHAPES = {"8x3x16x16": (8, 3, 16, 16)}
LOSSES = ((1024, 10), (1024, 1000), (1024, 21843), (512, 100_000))
SMOKE_LOSSES = ((8, 10), (4, 9000))  # the second takes the path of many classes


def run(slot: Slot) -> dict[str, Any]:
    """Measure all tables, each a part."""
    tables = {}
    for name, shape in (SMOKE_SHAPES if slot.smoke else SHAPES).items():
        for dtype in (torch.float32, torch.bfloat16):
            for layout in ("contiguous", "channels-last"):
                title = f"mix-{name}-{str(dtype)[6:]}-{layout}"
                tables[title] = slot.part(title, 25, lambda s=shape, d=dtype, k=layout: mixing(slot, s, d, k))
        title = f"bytes-{name}"
        tables[title] = slot.part(title, 25, lambda s=shape: from_bytes(slot, s))
        title = f"line-{name}"
        tables[title] = slot.part(title, 15, lambda s=shape: one_line(slot, s))
    for rows, classes in SMOKE_LOSSES if slot.smoke else LOSSES:
        title = f"loss-{rows}x{classes}"
        tables[title] = slot.part(title, 15, lambda r=rows, c=classes: losses(slot, r, c))
    for model in ("small",) if slot.smoke else ("small", "preact-resnet-18"):
        title = f"step-{model}"
        tables[title] = slot.part(title, 45, lambda n=model: whole_step(slot, n))
    return tables


def _draw(n: int, per: Per, device: torch.device) -> vicinal.MixPlan:
    plan = vicinal.Mixup(vicinal.Beta(1.0, per=per), seed=0).plan(n, step=1).to(device)
    assert isinstance(plan, vicinal.MixPlan)
    return plan


def _numbers(shape: tuple[int, ...], device: torch.device, seed: int = 1) -> Tensor:
    return torch.from_numpy(Key(seed, 0, 0, 0).generator().standard_normal(shape, dtype="float32")).to(device)


def _compiled(slot: Slot, call: Callable[[], Any]) -> Callable[[], Any]:
    """Give a candidate of torch.compile; on a CPU it takes half a minute to compile and is measured elsewhere."""

    def candidate() -> Any:
        need_cuda(slot.device)
        return call()

    return candidate


def _with_shares(rows: dict[str, Any], reads_and_writes: float) -> dict[str, Any]:
    """Add to each row the share of the copy's bandwidth that moving `reads_and_writes` copies' bytes in its time makes."""
    for row in rows.values():
        if "ratio" in row:
            row["share"] = reads_and_writes / row["ratio"][1]
    return rows


def mixing(slot: Slot, shape: tuple[int, ...], dtype: torch.dtype, layout: str) -> dict[str, Any]:
    """Mix a batch, eager, compiled and by the hand-written kernel."""
    torch.compiler.reset()  # each table compiles anew: after 8 shapes PyTorch would give up and run eagerly
    x = _numbers(shape, slot.device).to(dtype)
    if layout == "channels-last":
        x = x.contiguous(memory_format=torch.channels_last)
    plan, each = _draw(len(x), "batch", slot.device), _draw(len(x), "example", slot.device)
    buffer, own = torch.empty_like(x), x.clone()
    candidates = {"copy_": lambda: buffer.copy_(x)}
    for name, p in (("", plan), (", weight per example", each)):
        candidates |= {
            f"vicinal, new tensor{name}": lambda p=p: p(x),
            f"vicinal, into a buffer{name}": lambda p=p: p(x, out=buffer),
            f"vicinal, in place{name}": lambda p=p: p(own, out=own),
            f"vicinal, compiled, new tensor{name}": _compiled(slot, lambda p=p: p(x, compiled=True)),
            f"vicinal, hand-written kernel, new tensor{name}": _by_hand(slot, x, p, None),
            f"vicinal, hand-written kernel, into a buffer{name}": _by_hand(slot, x, p, buffer),
        }
    if slot.device.type == "cpu":  # the formulas make tensors on the host
        candidates |= formulas.peers(x, plan.partner, float(plan.weight[0]))
    else:
        with torch.device(slot.device):
            candidates |= {k: _on(slot.device, f) for k, f in _peers(x, plan).items()}
    return _with_shares(measure.table(candidates, "copy_", slot.device, slot.smoke), 1.5)


def _peers(x: Tensor, plan: vicinal.MixPlan) -> dict[str, Callable[[], Any]]:
    return formulas.peers(x, plan.partner, float(plan.weight[0]))


def _on(device: torch.device, call: Callable[[], Any]) -> Callable[[], Any]:
    def candidate() -> Any:
        with torch.device(device):
            return call()

    return candidate


def _by_hand(slot: Slot, x: Tensor, plan: vicinal.MixPlan, out: Tensor | None) -> Callable[[], Any]:
    def candidate() -> Any:
        need_cuda(slot.device)
        from bench.gpu import by_hand

        return by_hand.mix_pairs(x, plan.partner, plan.weight, out)

    return candidate


def from_bytes(slot: Slot, shape: tuple[int, ...]) -> dict[str, Any]:
    """Bytes in, mixed and normalized bfloat16 out."""
    torch.compiler.reset()
    drawn = Key(2, 0, 0, 0).generator().integers(0, 256, shape, dtype="uint8")
    x = torch.from_numpy(drawn).to(slot.device).contiguous(memory_format=torch.channels_last)
    plan = _draw(len(x), "batch", slot.device)
    out = torch.empty_like(x, dtype=torch.bfloat16)
    mean, std = formulas.MEAN, formulas.STD
    m, s = (torch.tensor(t, device=slot.device).view(3, 1, 1) for t in (mean, std))
    lam = float(plan.weight[0])

    def usual() -> Tensor:
        y = ((x.float() / 255 - m) / s).bfloat16()
        return lam * y + (1 - lam) * y[plan.partner]

    def hand_written(into: Tensor | None) -> Callable[[], Tensor]:
        def candidate() -> Tensor:
            need_cuda(slot.device)
            from bench.gpu import by_hand

            return by_hand.normalized_pairs(x, plan.partner, plan.weight, mean, std, torch.bfloat16, into)

        return candidate

    candidates = {
        "uint8 to bfloat16 copy_": lambda: out.copy_(x),
        "usual: float, normalize, reference mix (formula)": usual,
        "vicinal, new tensor": lambda: plan.normalized(x, mean, std, torch.bfloat16),
        "vicinal, into a buffer": lambda: plan.normalized(x, mean, std, torch.bfloat16, out=out),
        "vicinal, compiled, new tensor": _compiled(
            slot, lambda: plan.normalized(x, mean, std, torch.bfloat16, compiled=True)
        ),
        "vicinal, hand-written kernel, new tensor": hand_written(None),
        "vicinal, hand-written kernel, into a buffer": hand_written(out),
    }
    rows = measure.table(candidates, "uint8 to bfloat16 copy_", slot.device, slot.smoke)
    return _with_shares(rows, 4 / 3)  # two reads of a byte and a write of two, where the copy reads one and writes two


def one_line(slot: Slot, shape: tuple[int, ...]) -> dict[str, Any]:
    """The whole call for a batch, draw and targets included, as users of each project write it."""
    x, own = _numbers(shape, slot.device), _numbers(shape, slot.device)
    y = torch.arange(len(x), device=slot.device) % 1000
    mixup = vicinal.Mixup(1.0, seed=0)
    generator = Key(3, 0, 0, 0).generator()

    def reference() -> Any:
        lam = float(generator.beta(1.0, 1.0))
        index = torch.from_numpy(generator.permutation(len(x))).to(slot.device)
        return lam * x + (1 - lam) * x[index], y, y[index], lam

    candidates: dict[str, Callable[[], Any]] = {
        "reference recipe (formula)": reference,
        "vicinal, one line": lambda: mixup(x, y),
        "vicinal, one line, in place": lambda: mixup(own, y, out=own),
        **_packages(own, y),
    }
    return measure.table(candidates, "reference recipe (formula)", slot.device, slot.smoke)


def _packages(x: Tensor, y: Tensor) -> dict[str, Callable[[], Any]]:
    """Give the packages that can be imported, with their versions; for the others, why not."""

    def timm(module: Any) -> Callable[[], Any]:
        mixup = module.Mixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=1000)
        return lambda: mixup(x, y)

    def torchvision(module: Any) -> Callable[[], Any]:
        mixup = module.MixUp(alpha=1.0, num_classes=1000)
        return lambda: mixup(x, y)

    def kornia(module: Any) -> Callable[[], Any]:
        mixup = module.RandomMixUpV2(p=1.0, data_keys=["input", "class"])
        return lambda: mixup(x, y)

    found: dict[str, Callable[[], Any]] = {}
    for name, path, make in (
        ("timm", "timm.data.mixup", timm),
        ("torchvision", "torchvision.transforms.v2", torchvision),
        ("kornia", "kornia.augmentation", kornia),
    ):
        try:
            module = importlib.import_module(path)
        except (ImportError, RuntimeError) as error:  # torchvision raises RuntimeError beside another build of PyTorch
            found[f"{name} (package)"] = _absent(f"{path} cannot be imported: {error}")
            continue
        version = importlib.import_module(name).__version__
        found[f"{name} {version} (package)"] = make(module)
    return found


def _absent(reason: str) -> Callable[[], Any]:
    def candidate() -> Any:
        raise measure.NotAvailable(reason)

    return candidate


def losses(slot: Slot, rows: int, classes: int) -> dict[str, Any]:
    """The loss on mixed labels, forward and backward, with the memory that it takes beyond the logits."""
    logits = _numbers((rows, classes), slot.device).requires_grad_()
    ids = torch.from_numpy(Key(4, 0, 0, 0).generator().integers(0, classes, rows)).to(slot.device)
    target = _draw(rows, "batch", slot.device).target(ids)
    y_a, y_b, weight = target.pairs()
    lam = float(weight[0])

    def both_ways(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def call() -> None:
            logits.grad = None
            loss().backward()

        return call

    candidates = {
        "two cross_entropy (reference)": both_ways(
            lambda: lam * F.cross_entropy(logits, y_a) + (1 - lam) * F.cross_entropy(logits, y_b)
        ),
        "soft one-hot": both_ways(lambda: F.cross_entropy(logits, target.dense(classes))),
        "plain ERM cross_entropy": both_ways(lambda: F.cross_entropy(logits, ids)),
        "vicinal": both_ways(lambda: F.cross_entropy(logits, target)),
    }
    result = measure.table(candidates, "two cross_entropy (reference)", slot.device, slot.smoke)
    if slot.device.type == "cuda":
        size = logits.numel() * logits.element_size()
        for name, candidate in candidates.items():
            logits.grad = None
            torch.cuda.reset_peak_memory_stats(slot.device)
            before = torch.cuda.memory_allocated(slot.device)
            candidate()
            result[name]["extra_logit_sizes"] = (torch.cuda.max_memory_allocated(slot.device) - before) / size
    return result


class MixedStep:
    """A training step whose inputs, labels and plan lie in tensors of their own, so that a CUDA graph can repeat it."""

    def __init__(self, model: str, batch: int, device: torch.device) -> None:
        with fork_rng(Key(0, 0, 0, 0)):
            self.model = models.build(model, 10).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sgd = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.x = torch.zeros(batch, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
        self.y = torch.zeros(batch, dtype=torch.int64, device=device)
        self.partner = torch.arange(batch, device=device)
        self.weight = torch.ones(batch, device=device)
        self.loss = torch.zeros((), device=device)

    def fill(self, step: int) -> None:
        """Bring in the batch and the plan of a step."""
        generator = Key(5, 0, 0, step).generator()
        self.x.copy_(torch.from_numpy(generator.standard_normal(tuple(self.x.shape), dtype="float32")))
        self.y.copy_(torch.from_numpy(generator.integers(0, 10, len(self.y))))
        plan = vicinal.Mixup(1.0, seed=0).plan(len(self.y), step=step)
        assert isinstance(plan, vicinal.MixPlan)
        self.partner.copy_(plan.partner)
        self.weight.copy_(plan.weight)

    def take(self) -> None:
        """Mix, forward, loss, backward and update."""
        plan = vicinal.MixPlan(self.partner, self.weight)
        self.sgd.zero_grad(set_to_none=False)
        loss = F.cross_entropy(self.model(plan(self.x)), plan.target(self.y))
        loss.backward()
        self.sgd.step()
        self.loss.copy_(loss.detach())


def whole_step(slot: Slot, model: str) -> dict[str, Any]:
    """A mixed step eager and as a CUDA graph: times, and whether the losses of ten steps agree."""
    batch, few, warm = (8, 2, 1) if slot.smoke else (128, 10, 3)
    eager = MixedStep(model, batch, slot.device)
    losses_of = []
    for step in range(warm + few):
        eager.fill(step)
        eager.take()
        losses_of.append(float(eager.loss))
    if not all(np.isfinite(losses_of)):
        raise ArithmeticError(f"losses of the eager step: {losses_of}")
    result: dict[str, Any] = {"losses, eager": losses_of}
    candidates: dict[str, Callable[[], Any]] = {"eager": eager.take}
    if slot.device.type == "cuda":
        captured = MixedStep(model, batch, slot.device)
        aside = torch.cuda.Stream(slot.device)
        aside.wait_stream(torch.cuda.current_stream(slot.device))
        with torch.cuda.stream(aside):  # first steps aside, as PyTorch asks for: they allocate what the graph uses
            for step in range(warm):
                captured.fill(step)
                captured.take()
        torch.cuda.current_stream(slot.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # records, computes nothing
            captured.take()
        replayed = []
        for step in range(warm, warm + few):
            captured.fill(step)
            graph.replay()
            replayed.append(float(captured.loss))
        result["losses, CUDA graph"] = replayed
        result["largest difference"] = max(abs(a - b) for a, b in zip(losses_of[warm:], replayed, strict=True))
        candidates["CUDA graph"] = graph.replay
    else:
        candidates["CUDA graph"] = _absent(f"no CUDA here: the device is {slot.device}")
    return result | {"times": measure.table(candidates, "eager", slot.device, slot.smoke)}
