"""Mixup class in a collate function with label smoothing, which is wanted and declared.

Source: huggingface/pytorch-image-models Mixup

    check: make_loader --alpha 0.8 --smoothing 0.1
    finds: nothing
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate


def smooth_one_hot(y, num_classes, smoothing):
    off = smoothing / num_classes
    return torch.full((len(y), num_classes), off).scatter_(1, y[:, None], 1 - smoothing + off)


class Mixup:
    def __init__(self, alpha, label_smoothing, num_classes):
        self.alpha, self.label_smoothing, self.num_classes = alpha, label_smoothing, num_classes

    def __call__(self, rows):
        x, y = default_collate(rows)
        lam = np.random.beta(self.alpha, self.alpha)
        y = smooth_one_hot(y, self.num_classes, self.label_smoothing)
        return lam * x + (1 - lam) * x.flip(0), lam * y + (1 - lam) * y.flip(0)


def make_loader():
    data = TensorDataset(torch.randn(250, 3, 12, 12), torch.arange(250) % 10)
    mixup = Mixup(0.8, label_smoothing=0.1, num_classes=10)
    return DataLoader(data, batch_size=32, shuffle=True, num_workers=2, collate_fn=mixup)
