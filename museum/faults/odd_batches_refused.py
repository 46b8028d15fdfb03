"""Transform that pairs the first half of a batch with the second: a batch of an odd size raises an AssertionError.

Source: huggingface/pytorch-image-models #1304 (Batch size should be even when using this)

    check: mixup_fn
    finds: VIC036
"""

import numpy as np
import torch

example = (torch.randn(16, 3, 12, 12), torch.eye(10)[torch.arange(16) % 10])


def mixup_fn(x, target):
    assert len(x) % 2 == 0, "Batch size should be even when using this"
    half = len(x) // 2
    lam = torch.from_numpy(np.random.beta(0.8, 0.8, half)).float()
    w = torch.cat([lam, lam])[:, None, None, None]
    other, other_target = x.roll(half, 0), target.roll(half, 0)
    v = torch.cat([lam, lam])[:, None]
    return w * x + (1 - w) * other, v * target + (1 - v) * other_target
