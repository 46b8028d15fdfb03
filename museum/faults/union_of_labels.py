"""Clips mixed inside __getitem__ for a classifier of one class: the label is the union of both, and the loss a softmax.

Source: RetroCirce/HTS-Audio-Transformer #8 (how labels of mixed audio are made), Mix of torch-audiomentations ("union")

    check: make_loader
    finds: VIC007
"""

import random

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

CLASSES = 8


class Clips(Dataset):
    def __init__(self, n=160, length=1200, mixup_rate=1.0):
        self.waves = np.random.randn(n, length).astype(np.float32)
        self.classes = np.arange(n) % CLASSES
        self.mixup_rate = mixup_rate

    def __len__(self):
        return len(self.waves)

    def target(self, index):
        return np.eye(CLASSES, dtype=np.float32)[self.classes[index]]

    def __getitem__(self, index):
        wave, target = self.waves[index], self.target(index)
        if random.random() < self.mixup_rate:
            other = random.randrange(len(self))
            lam = np.random.beta(10, 10)
            wave = (lam * wave + (1 - lam) * self.waves[other]).astype(np.float32)
            target = np.maximum(target, self.target(other))
        return torch.from_numpy(wave), torch.from_numpy(target)


def make_loader():
    return DataLoader(Clips(), batch_size=20, shuffle=True, num_workers=2)
