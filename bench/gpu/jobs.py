"""The jobs, in order of value, with the minutes that we expect of them on one H100: estimates, all of them.

Training: multiply-adds of a forward pass x 2 x 3 for forward and backward x images, over what convolutions of that size
are taken to reach: 70 TFLOP/s in float32 (TF32), 150 for WRN-28-10, whose convolutions are wide, and 250 in bfloat16; the
device's large bfloat16 product reaches about 800. Plus 5 microseconds for each of about 600 kernels of a step, where that
is more. Tables: parts x the seconds that each sets aside.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.gpu import fast, fleet, imagenet, kernels, paper, throughput
from bench.gpu.queue import Job

_PREACT = "555.4 M multiply-adds x 6 x 50,000 x 200 = 33 PFLOP at 70 TFLOP/s"
_WIDE = "5.2 G multiply-adds x 6 x 50,000 x 200 = 315 PFLOP at 150 TFLOP/s"


def _each(runs: Mapping[str, paper.PaperRun], minutes: float, estimate: str, data: str) -> list[Job]:
    return [Job(name, minutes, estimate, run, (data,)) for name, run in runs.items()]


_CIFAR10 = _each(paper.runs("cifar10"), 8, _PREACT, "cifar10")

JOBS: tuple[Job, ...] = (
    Job("kernels", 8, "24 tables, 15 to 45 s each at most; about 20 s of compiling for 9", kernels.run),
    Job("throughput", 5, "7 loops of two epochs or 400 steps at 5,000 to 20,000 images/s", throughput.run, ("cifar10",)),
    *_CIFAR10[:2],
    Job("fleet", 4, "5 fleets, 20 s and 1 to 2 ms a net; on the host, weights of 1 ms and 22 plans of 4 us", fleet.run),
    Job("imagenet", 5, "6 ways of 40 batches of 256 at 2,000 images/s, and making 2,048 images", imagenet.run),
    Job("fast", 30, "36 runs, 2,664 epochs: 452 M multiply-adds x 6 x 50,000 = 136 TFLOP at 250 TFLOP/s, and launches",
        fast.run, ("cifar10",)),
    *_each(paper.corrupted(), 8, _PREACT, "cifar10"),
    *_CIFAR10[2:],
    *_each(paper.ablation(), 8, _PREACT, "cifar10"),
    *_each(paper.runs("cifar100"), 8, _PREACT, "cifar100"),
    *_each(paper.wide(), 35, _WIDE, "cifar10"),
)  # fmt: skip
