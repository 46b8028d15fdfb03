"""Images get a gain each, 0.9 to 1.1, in the collate function, and are mixed after that.

Source: batch-wise augmentation as in libffcv/ffcv and kornia

    check: make_loader
    finds: nothing
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate


def augment(x):
    return x * torch.empty(len(x), 1, 1, 1).uniform_(0.9, 1.1)


def collate(rows):
    x, y = default_collate(rows)
    x = augment(x)
    lam = torch.from_numpy(np.random.beta(0.4, 0.4, len(x))).float()
    index = torch.randperm(len(x))
    w, v = lam.view(-1, 1, 1, 1), lam.view(-1, 1)
    return w * x + (1 - w) * x[index], v * y + (1 - v) * y[index]


def make_loader():
    data = TensorDataset(torch.randn(160, 3, 12, 12), torch.eye(8)[torch.arange(160) % 8])
    return DataLoader(data, batch_size=16, shuffle=True, collate_fn=collate)
