"""Chest X-rays with labels 1, 0 and -1 for "not reported": all three are averaged, then -1 is masked by equality.

Source: open-mmlab/mmpretrain #631 (multi-label targets with unknown entries)

    check: make_loader --alpha 0.4
    finds: VIC014
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

FINDINGS = 8


class XRays(Dataset):
    def __init__(self, n=160):
        self.images = torch.randn(n, 1, 16, 16)
        labels = torch.randint(0, 2, (n, FINDINGS)).float()
        labels[torch.rand(n, FINDINGS) < 0.2] = -1.0
        self.labels = labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


def mixup_collate(rows):
    x, y = default_collate(rows)
    lam = np.random.beta(0.4, 0.4)
    index = torch.randperm(len(x))
    return lam * x + (1 - lam) * x[index], lam * y + (1 - lam) * y[index]


def masked_bce(logits, y):
    known = y != -1
    return torch.nn.functional.binary_cross_entropy_with_logits(logits[known], y[known])


def make_loader():
    return DataLoader(XRays(), batch_size=20, shuffle=True, collate_fn=mixup_collate)
