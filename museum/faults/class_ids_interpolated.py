"""Batch function from a method card: it interpolates y as it interpolates x, and y holds class indices.

Source: mosaicml/composer, README of MixUp, and mixup 0.2.2 on PyPI (run: labels 1.87, 2.87, ...)

    check: mixup_batch --alpha 0.2
    finds: VIC010
"""

import numpy as np
import torch

example = (torch.randn(32, 3, 16, 16), torch.arange(32) % 10)


def gen_mixing(alpha):
    return max(1e-6, np.random.beta(alpha, alpha))


def mixup_batch(x, y, alpha=0.2):
    mixing = gen_mixing(alpha)
    indices = torch.randperm(x.shape[0])
    x_mixed = (1 - mixing) * x + mixing * x[indices]
    y_mixed = (1 - mixing) * y + mixing * y[indices]
    return x_mixed, y_mixed
