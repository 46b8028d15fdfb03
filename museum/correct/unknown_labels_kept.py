"""Chest X-rays with labels 1, 0 and -1 for "not reported": an entry that either row does not know stays -1.

Source: open-mmlab/mmpretrain #631, as it ought to be

    check: make_loader --alpha 0.4
    finds: nothing
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate


def mixup_collate(rows):
    x, y = default_collate(rows)
    lam, index = np.random.beta(0.4, 0.4), torch.randperm(len(x))
    known = (y >= 0) & (y[index] >= 0)
    mixed = lam * y + (1 - lam) * y[index]
    return lam * x + (1 - lam) * x[index], torch.where(known, mixed, torch.full_like(y, -1.0))


def make_loader():
    labels = torch.randint(0, 2, (160, 8)).float()
    labels[torch.rand(160, 8) < 0.15] = -1.0
    data = TensorDataset(torch.randn(160, 1, 16, 16), labels)
    return DataLoader(data, batch_size=20, shuffle=True, collate_fn=mixup_collate)
