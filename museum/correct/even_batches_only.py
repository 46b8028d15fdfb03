"""Small batches whose halves are mixed with each other; drop_last keeps the short, odd batch away.

Source: huggingface/pytorch-image-models #1304 (even batch size)

    check: make_loader --alpha 1.0
    finds: nothing
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate


def collate(rows):
    x, y = default_collate(rows)
    assert len(x) % 2 == 0, "an even number of rows is needed"
    lam = np.random.beta(1.0, 1.0)
    other = torch.arange(len(x)).roll(len(x) // 2)
    return lam * x + (1 - lam) * x[other], lam * y + (1 - lam) * y[other]


def make_loader():
    data = TensorDataset(torch.randn(203, 2, 30), torch.eye(4)[torch.arange(203) % 4])
    return DataLoader(data, batch_size=8, shuffle=True, drop_last=True, collate_fn=collate)
