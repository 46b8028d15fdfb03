"""Collate object whose switch lies in shared memory, so that persistent workers see it at their next batch.

Source: open-mmlab/mmdetection #7053 (switching mixup off at some epoch), huggingface/pytorch-image-models NaFlex loader

    check: make_loader --alpha 1.0
    finds: nothing
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate


class SwitchedMixup:
    def __init__(self, alpha=1.0, num_classes=10):
        self.alpha, self.num_classes = alpha, num_classes
        self.on = torch.ones((), dtype=torch.int64).share_memory_()

    @property
    def mixup_enabled(self):
        return bool(self.on)

    @mixup_enabled.setter
    def mixup_enabled(self, value):
        self.on.fill_(int(value))

    def __call__(self, rows):
        x, y = default_collate(rows)
        y = F.one_hot(y, self.num_classes).float()
        if not self.mixup_enabled:
            return x, y
        lam, order = np.random.beta(self.alpha, self.alpha), torch.randperm(len(x))
        return lam * x + (1 - lam) * x[order], lam * y + (1 - lam) * y[order]


def make_loader():
    data = TensorDataset(torch.randn(256, 3, 8, 8), torch.arange(256) % 10)
    mixup = SwitchedMixup()
    return DataLoader(data, 32, shuffle=True, num_workers=2, persistent_workers=True, collate_fn=mixup)
