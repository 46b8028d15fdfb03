"""EEG windows in float64, mixed row by row into an empty tensor of the default dtype.

Source: braindecode/braindecode mixup (1.8.1, run: float64 input returns float32)

    check: make_loader --alpha 0.5
    finds: VIC032
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate


def mixup(X, y, lam, idx_perm):
    X_mix = torch.zeros(X.shape)
    y_mix = torch.zeros(y.shape)
    for idx in range(X.shape[0]):
        X_mix[idx] = lam[idx] * X[idx] + (1 - lam[idx]) * X[idx_perm[idx]]
        y_mix[idx] = lam[idx] * y[idx] + (1 - lam[idx]) * y[idx_perm[idx]]
    return X_mix, y_mix


def collate(rows):
    X, y = default_collate(rows)
    lam = torch.from_numpy(np.random.beta(0.5, 0.5, len(X)))
    return mixup(X, y, lam, torch.randperm(len(X)))


def make_loader():
    windows = torch.randn(160, 8, 100, dtype=torch.float64)
    data = TensorDataset(windows, torch.eye(4)[torch.arange(160) % 4])
    return DataLoader(data, batch_size=16, shuffle=True, collate_fn=collate)
