"""Batches in bfloat16: lambda is made in the dtype of the images and goes into the labels rounded.

Source: huggingface/pytorch-image-models Mixup, mode="elem" in bfloat16 (1.0.31, run: rows sum to 0.998 ... 1.002)

    check: train_transform --alpha 0.8
    finds: VIC015
"""

import numpy as np
import torch
import torch.nn.functional as F

CLASSES = 10
example = (torch.randn(32, 3, 12, 12).bfloat16(), torch.arange(32) % CLASSES)


def one_hot(y, dtype):
    return F.one_hot(y, CLASSES).to(dtype)


def train_transform(x, y):
    lam = torch.tensor(np.random.beta(0.8, 0.8, len(x)), dtype=x.dtype)
    mixed = x * lam[:, None, None, None] + x.flip(0) * (1 - lam[:, None, None, None])
    target = one_hot(y, x.dtype) * lam[:, None] + one_hot(y.flip(0), x.dtype) * (1 - lam[:, None])
    return mixed, target.float()
