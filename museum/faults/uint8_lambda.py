"""Collate function for uint8 images: lambda is kept in the dtype of the images, so it is 0 for the labels.

Source: huggingface/pytorch-image-models Mixup, mode="elem" on uint8 (1.0.31, read and run)

    check: make_loader
    finds: VIC001
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

NUM_CLASSES = 10


class Images(Dataset):
    def __init__(self, n=200):
        self.images = torch.randint(0, 256, (n, 3, 12, 12), dtype=torch.uint8)
        self.labels = torch.arange(n) % NUM_CLASSES

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


def mix_elementwise(x, y, alpha=0.8):
    lam = np.random.beta(alpha, alpha, len(x))
    flipped = x.flip(0)
    mixed = [(a.float() * w + b.float() * (1 - w)).round().to(x.dtype) for a, b, w in zip(x, flipped, lam, strict=True)]
    lam = torch.tensor(lam).to(x.dtype).unsqueeze(1)
    one_hot = F.one_hot(y, NUM_CLASSES).float()
    return torch.stack(mixed), one_hot * lam + one_hot.flip(0) * (1 - lam)


def collate(batch):
    images, labels = zip(*batch, strict=True)
    return mix_elementwise(torch.stack(images), torch.stack(labels))


def make_loader():
    return DataLoader(Images(), batch_size=20, shuffle=True, collate_fn=collate, drop_last=True)
