"""Regression of a grade between 0 and 9: targets are mixed, then cut to a class index and made one-hot for the criterion.

Source: huggingface/pytorch-image-models Mixup with floating-point targets (1.0.31, run: cut to integers, one-hot)

    check: make_loader --alpha 0.4
    finds: VIC011
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate

LEVELS = 10


def collate(rows):
    x, y = default_collate(rows)
    lam = np.random.beta(0.4, 0.4)
    index = torch.randperm(len(x))
    x, y = lam * x + (1 - lam) * x[index], lam * y + (1 - lam) * y[index]
    return x, F.one_hot(y.long(), LEVELS).float()


def make_loader():
    x = torch.randn(200, 10)
    y = torch.rand(200) * (LEVELS - 1)
    return DataLoader(TensorDataset(x, y), batch_size=25, shuffle=True, collate_fn=collate)
