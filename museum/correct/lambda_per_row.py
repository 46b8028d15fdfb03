"""A lambda for each row, labels as dense vectors, persistent workers that NumPy's global generator serves.

Source: fastai and keras mix by one lambda per row

    check: make_loader --alpha 0.3
    finds: nothing
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate


def mix(rows, alpha=0.3):
    x, y = default_collate(rows)
    lam = torch.from_numpy(np.random.beta(alpha, alpha, len(x)).astype(np.float32))
    index = torch.randperm(len(x))
    w, v = lam.view(-1, 1, 1, 1), lam.view(-1, 1)
    return w * x + (1 - w) * x[index], v * y + (1 - v) * y[index]


def make_loader():
    data = TensorDataset(torch.randn(240, 1, 12, 12), torch.eye(6)[torch.arange(240) % 6])
    return DataLoader(data, 24, shuffle=True, num_workers=2, persistent_workers=True, collate_fn=mix)
