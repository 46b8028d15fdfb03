"""CIFAR-10 in minutes, with and without mixup: the seconds to 4.2 % test error (the paper's mixup) and to 3.5 %.

Not the paper's recipe but what is known to train fast: a model whose first layer whitens patches, few wide
convolutions, half precision, images on the device, large batches, Nesterov's momentum under a triangular learning rate,
an average of the weights over the last epochs. Since the learning rate ends with the run, a time to an error is that of
the shortest run whose mean error over seeds is below it. The test images are seen as they are; the mean over an image
and its mirror image is given beside it.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.gpu.paper import held, smoke_recipe
from bench.gpu.queue import Slot
from vicinal.keyed import Key
from vicinal.lab import parse
from vicinal.lab.data.loading import InMemoryDataset
from vicinal.lab.training import recipes
from vicinal.lab.training.seeding import fork_rng

EPOCHS = (16, 40, 80, 160)
SEEDS = 3
VICINITIES = ("ERM()", "Mixup(alpha=0.2)", "Mixup(alpha=1.0)")
TARGETS = (0.042, 0.035)
BATCH, RATE, DECAY = 512, 0.4, 5e-4  # rate for the mean loss of a batch; decay in the gradient of convolutions


class FastNet(nn.Module):
    """Whitened 2 x 2 patches, then three stages of two 3 x 3 convolutions, the second with a shortcut, and a linear head.

    The first layer is set from the training images by `whiten` and is not trained. 9.9 M parameters and
    452 M multiply-adds an image for widths of 128, 384 and 512.
    """

    def __init__(self, num_classes: int = 10, widths: tuple[int, int, int] = (128, 384, 512)) -> None:
        super().__init__()
        self.white = nn.Conv2d(3, 24, 2)
        self.white.requires_grad_(False)
        self.stages = nn.Sequential(*[_Stage(i, o) for i, o in zip((24, *widths), widths, strict=False)])
        self.linear = nn.Linear(widths[-1], num_classes, bias=False)

    @torch.no_grad()
    def whiten(self, x: Tensor) -> None:
        """Set the first layer to principal directions of patches of x [n, 3, h, w], at variance 1, and their negatives."""
        patches = F.unfold(x.float(), 2).transpose(1, 2).flatten(0, 1)  # [m, 12]
        values, vectors = torch.linalg.eigh(patches.T.cov().cpu())
        basis = (vectors / (values + 5e-4).sqrt()).T.view(12, 3, 2, 2)
        self.white.weight.copy_(torch.cat([basis, -basis]))
        self.white.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """Give logits [n, num_classes] for images [n, 3, 32, 32]."""
        x = self.stages(F.gelu(self.white(x)))  # [n, c, 3, 3]
        return self.linear(x.amax((2, 3))) / 8  # small at the start: the first steps are the largest


class _Stage(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv3 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return x + F.gelu(self.norm3(self.conv3(F.gelu(self.norm2(self.conv2(x))))))


def run(slot: Slot) -> dict[str, Any]:
    """Train a ladder of lengths, each (length, vicinity, seed) a part, the shortest first."""
    recipe = recipes.cifar10_preact18_erm()
    if slot.smoke:
        recipe = smoke_recipe(recipe)
    train, test = held(recipe, slot.device)
    lines: list[dict[str, Any]] = []
    for epochs in (1, 2) if slot.smoke else EPOCHS:
        for seed in range(1 if slot.smoke else SEEDS):
            for text in VICINITIES[::2] if slot.smoke else VICINITIES:
                title = f"{epochs}-{parse.parse(text)!s}-{seed}".translate(str.maketrans("(), =", "-----"))
                seconds = 10 + 1.5 * epochs
                line = slot.part(title, seconds, lambda e=epochs, t=text, s=seed: one(slot, train, test, e, t, s))
                if "failed" not in line:
                    lines.append(line)
    return {"runs": lines, "time to": {str(target): time_to(lines, target) for target in TARGETS}}


def time_to(lines: list[dict[str, Any]], target: float) -> dict[str, Any]:
    """Give for each vicinity the shortest length whose mean error is below the target, with its seconds and seeds."""
    found: dict[str, Any] = {}
    for text in dict.fromkeys(line["vicinity"] for line in lines):
        for epochs in sorted({line["epochs"] for line in lines}):
            same = [line for line in lines if (line["vicinity"], line["epochs"]) == (text, epochs)]
            if same and statistics.fmean(line["error"] for line in same) <= target:
                found[text] = {
                    "epochs": epochs,
                    "seconds": [line["seconds"] for line in same],
                    "errors": [line["error"] for line in same],
                }
                break
    return found


def one(
    slot: Slot, train: InMemoryDataset, test: InMemoryDataset, epochs: int, vicinity: str, seed: int
) -> dict[str, Any]:
    """Train once; the seconds are of training, from the first step to the last, evaluation not counted."""
    device = slot.device
    widths = (8, 8, 8) if slot.smoke else (128, 384, 512)
    batch = 8 if slot.smoke else BATCH
    with fork_rng(Key(seed, 0, 0, 0, 1)):
        model = FastNet(len(train.classes), widths)
    model.whiten(train.batch(torch.arange(min(len(train), 2000), device=device), None)[0])
    model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    convolutions = [p for p in model.parameters() if p.ndim > 1 and p.requires_grad]
    others = [p for p in model.parameters() if p.ndim == 1 and p.requires_grad]
    groups = [{"params": convolutions, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    sgd = torch.optim.SGD(groups, RATE, momentum=0.9, nesterov=True)
    average = [p.detach().clone() for p in model.parameters()]
    drawn = parse.parse(vicinity)
    per_epoch = len(train) // batch
    steps, step = epochs * per_epoch, 0
    wait(device)
    start = time.perf_counter()
    for epoch in range(epochs):
        order = torch.from_numpy(Key(seed, 0, 0, epoch, 2).generator().permutation(len(train))).to(device)
        for rows in order[: per_epoch * batch].split(batch):
            for group in sgd.param_groups:
                group["lr"] = RATE * triangle(step / steps)
            x, y = train.batch(rows, Key(seed, 0, 0, step))
            plan = drawn.plan(len(y), y, x, step=step, epoch=epoch, seed=seed, rank=0, worker=0).to(device)
            with torch.autocast(device.type, torch.bfloat16):
                out = model(plan(x))
            loss = F.cross_entropy(out.float(), plan.target(y), label_smoothing=0.1 if vicinity == "ERM()" else 0.0)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            step += 1
            if step % 5 == 0:  # over about the last tenth of the steps
                with torch.no_grad():
                    rate = min(1.0, 5 / (0.1 * steps))
                    torch._foreach_lerp_(average, list(model.parameters()), rate)
    wait(device)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        torch._foreach_copy_(list(model.parameters()), average)
    plain, mirrored = errors(model, test, device)
    return {
        "epochs": epochs,
        "vicinity": vicinity,
        "seed": seed,
        "seconds": seconds,
        "error": plain,
        "error, with its mirror image": mirrored,
    }


def triangle(progress: float) -> float:
    """Give the share of the peak learning rate: up from 0.2 over a fifth of the run, and down to 0."""
    return 0.2 + 4 * progress if progress < 0.2 else (1 - progress) / 0.8


@torch.inference_mode()
def errors(model: nn.Module, test: InMemoryDataset, device: torch.device) -> tuple[float, float]:
    """Give the test error, and that of the mean of an image's and its mirror image's logits."""
    model.eval()
    wrong = torch.zeros(2, dtype=torch.int64, device=device)
    for rows in torch.arange(len(test), device=device).split(1000):
        x, y = test.batch(rows, None)
        with torch.autocast(device.type, torch.bfloat16):
            once, again = model(x).float(), model(x.flip(3)).float()
        wrong += torch.stack([(once.argmax(1) != y).sum(), ((once + again).argmax(1) != y).sum()])
    plain, mirrored = (wrong.double() / len(test)).tolist()
    return plain, mirrored


def wait(device: torch.device) -> None:
    """Let the device come to the end of its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
