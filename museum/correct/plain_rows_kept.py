"""Batches of 2n rows: the n plain rows stay in front, and n mixed ones are appended.

Source: braindecode/braindecode #1070 (keep the originals and append), FrancescoPinto/RegMixup

    check: make_loader
    finds: nothing
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate


def collate(rows):
    x, y = default_collate(rows)
    lam = torch.from_numpy(np.random.beta(10.0, 10.0, (len(x), 1))).float()
    order = torch.randperm(len(x))
    mixed_x, mixed_y = lam * x + (1 - lam) * x[order], lam * y + (1 - lam) * y[order]
    return torch.cat([x, mixed_x]), torch.cat([y, mixed_y])


def make_loader():
    data = TensorDataset(torch.randn(200, 30), torch.eye(5)[torch.arange(200) % 5])
    return DataLoader(data, batch_size=20, shuffle=True, collate_fn=collate)
