"""Mixup class with a default of 0.1 for label smoothing, built by a routine that says nothing of smoothing.

Source: NVIDIA-BioNeMo/nvSubquadratic #141 (hidden label smoothing through timm's default)

    check: make_loader --alpha 0.2
    finds: VIC012
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate


def smooth_one_hot(y, num_classes, smoothing):
    off = smoothing / num_classes
    return torch.full((len(y), num_classes), off).scatter_(1, y[:, None], 1 - smoothing + off)


class Mixup:
    def __init__(self, mixup_alpha=1.0, prob=1.0, label_smoothing=0.1, num_classes=1000):
        self.mixup_alpha, self.prob = mixup_alpha, prob
        self.label_smoothing, self.num_classes = label_smoothing, num_classes

    def __call__(self, x, target):
        lam = np.random.beta(self.mixup_alpha, self.mixup_alpha) if np.random.rand() < self.prob else 1.0
        y = smooth_one_hot(target, self.num_classes, self.label_smoothing)
        return lam * x + (1 - lam) * x.flip(0), lam * y + (1 - lam) * y.flip(0)


def make_loader():
    mixup = Mixup(mixup_alpha=0.2, num_classes=10)
    data = TensorDataset(torch.randn(240, 3, 12, 12), torch.arange(240) % 10)
    return DataLoader(data, batch_size=24, shuffle=True, collate_fn=lambda rows: mixup(*default_collate(rows)))
