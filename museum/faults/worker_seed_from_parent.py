"""Faces mixed inside __getitem__: each worker's seed is the parent's state plus its number, and that state never moves.

Source: mapooon/SelfBlendedImages #27 (the random numbers output by the loader in different epochs are the same)

    check: make_loader
    finds: VIC022
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Faces(Dataset):
    def __init__(self, n=120, classes=5):
        self.faces = np.random.randn(n, 3, 12, 12).astype(np.float32)
        self.labels = np.eye(classes, dtype=np.float32)[np.arange(n) % classes]

    def __len__(self):
        return len(self.faces)

    def __getitem__(self, i):
        lam, j = np.float32(np.random.beta(1.0, 1.0)), np.random.randint(len(self))
        face = lam * self.faces[i] + (1 - lam) * self.faces[j]
        return torch.from_numpy(face), torch.from_numpy(lam * self.labels[i] + (1 - lam) * self.labels[j])


def worker_init_fn(worker_id):
    np.random.seed(np.random.get_state()[1][0] + worker_id)


def make_loader():
    return DataLoader(Faces(), batch_size=12, shuffle=True, num_workers=2, worker_init_fn=worker_init_fn)
