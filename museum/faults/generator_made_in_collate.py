"""Collate function that makes its generator anew for each batch, from a seed of the configuration.

Source: keras-team/keras #15358 (does a fixed seed give every batch the same augmentation?)

    check: make_loader --alpha 1.0
    finds: VIC021
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

CONFIG = {"seed": 0, "alpha": 1.0, "batch_size": 16}


def collate(rows):
    x, y = default_collate(rows)
    rng = np.random.default_rng(CONFIG["seed"])
    lam = rng.beta(CONFIG["alpha"], CONFIG["alpha"])
    order = torch.from_numpy(rng.permutation(len(x)))
    return lam * x + (1 - lam) * x[order], lam * y + (1 - lam) * y[order]


def make_loader():
    data = TensorDataset(torch.randn(192, 2, 50), torch.eye(6)[torch.arange(192) % 6])
    return DataLoader(data, batch_size=CONFIG["batch_size"], shuffle=True, collate_fn=collate, drop_last=True)
