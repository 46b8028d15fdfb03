"""Images are flipped and shifted at random in the dataset, and mixed afterwards in the collate function.

Source: the usual CIFAR recipe: crop and flip, then mixup

    check: make_loader --alpha 1.0
    finds: nothing
"""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, default_collate


class Cifar(Dataset):
    def __init__(self, n=200, classes=10):
        self.images, self.labels = torch.randn(n, 3, 16, 16), torch.arange(n) % classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = F.pad(self.images[i], (2, 2, 2, 2))
        top, left = random.randrange(5), random.randrange(5)
        image = image[:, top : top + 16, left : left + 16]
        return image.flip(2) if random.random() < 0.5 else image, self.labels[i]


def collate(rows):
    x, y = default_collate(rows)
    lam, index = np.random.beta(1.0, 1.0), torch.randperm(len(x))
    y = F.one_hot(y, 10).float()
    return lam * x + (1 - lam) * x[index], lam * y + (1 - lam) * y[index]


def make_loader():
    return DataLoader(Cifar(), batch_size=20, shuffle=True, collate_fn=collate)
