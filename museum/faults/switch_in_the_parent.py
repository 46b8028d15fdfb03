"""Collate object with a switch mixup_enabled, in a loader with persistent workers: they have copies of the object.

Source: huggingface/pytorch-image-models FastCollateMixup with persistent_workers=True (1.0.31, run: 26 of 32 rows mixed)

    check: make_loader --alpha 1.0
    finds: VIC041
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate


class FastCollateMixup:
    def __init__(self, mixup_alpha=1.0, num_classes=10):
        self.mixup_alpha, self.num_classes = mixup_alpha, num_classes
        self.mixup_enabled = True

    def __call__(self, batch):
        x, y = default_collate(batch)
        lam = np.random.beta(self.mixup_alpha, self.mixup_alpha) if self.mixup_enabled else 1.0
        y = F.one_hot(y, self.num_classes).float()
        return lam * x + (1 - lam) * x.flip(0), lam * y + (1 - lam) * y.flip(0)


def make_loader():
    data = TensorDataset(torch.randn(256, 3, 8, 8), torch.arange(256) % 10)
    return DataLoader(
        data, batch_size=32, shuffle=True, num_workers=2, persistent_workers=True, collate_fn=FastCollateMixup()
    )


def train(loader, epochs=10, mixup_off_epoch=8):
    for epoch in range(epochs):
        if epoch >= mixup_off_epoch:
            loader.collate_fn.mixup_enabled = False
        yield from loader
