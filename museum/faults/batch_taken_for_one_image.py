"""Spectrogram batches [n, F, T]: the augmentation adds a batch dimension to 3-D inputs and mixes that one row with itself.

Source: kornia/kornia RandomMixUpV2 on 3-D inputs (0.9.0, read and run)

    check: make_loader
    finds: VIC005
"""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate


def to_4d(x):
    return x[None] if x.ndim == 3 else x


class RandomMixUp:
    def __init__(self, num_classes, low=0.0, high=1.0):
        self.num_classes, self.low, self.high = num_classes, low, high

    def __call__(self, x, y):
        shape, x = x.shape, to_4d(x)
        lam = torch.empty(x.size(0)).uniform_(self.low, self.high)
        index = torch.randperm(x.size(0))
        mixed = x * (1 - lam.view(-1, 1, 1, 1)) + x[index] * lam.view(-1, 1, 1, 1)
        one_hot = F.one_hot(y, self.num_classes).float()
        labels = torch.lerp(one_hot, one_hot[index] if len(index) == len(y) else one_hot, float(lam[0]))
        return mixed.reshape(shape), labels


def make_loader():
    augment = RandomMixUp(9)
    data = TensorDataset(torch.randn(144, 24, 30), torch.arange(144) % 9)
    return DataLoader(data, batch_size=18, shuffle=True, collate_fn=lambda rows: augment(*default_collate(rows)))
