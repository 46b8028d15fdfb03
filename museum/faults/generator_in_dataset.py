"""Dataset with a NumPy generator made in __init__: both persistent workers go through the same numbers.

Source: albumentations-team/AlbumentationsX #266, pytorch/pytorch #5059 (the same random numbers in each worker)

    check: make_loader
    finds: VIC023
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class MixedRows(Dataset):
    def __init__(self, n=160, features=24, classes=4, seed=123):
        self.rng = np.random.default_rng(seed)
        self.x = np.random.standard_normal((n, features)).astype(np.float32)
        self.y = np.eye(classes, dtype=np.float32)[np.arange(n) % classes]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        lam = np.float32(self.rng.beta(0.5, 0.5))
        j = self.rng.integers(len(self.x))
        return torch.from_numpy(lam * self.x[i] + (1 - lam) * self.x[j]), lam * self.y[i] + (1 - lam) * self.y[j]


def make_loader():
    return DataLoader(MixedRows(), batch_size=16, shuffle=True, num_workers=2, persistent_workers=True)
