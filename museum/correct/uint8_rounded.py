"""uint8 images mixed in the collate function in float32, and rounded before they become uint8 again.

Source: huggingface/pytorch-image-models FastCollateMixup rounds (np.rint)

    check: make_loader
    finds: nothing
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Images(Dataset):
    def __init__(self, n=180, classes=6):
        self.images = np.random.randint(0, 256, (n, 3, 14, 14)).astype(np.uint8)
        self.labels = np.arange(n) % classes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


def collate(rows, classes=6):
    images = np.stack([image for image, _ in rows]).astype(np.float32)
    labels = np.eye(classes, dtype=np.float32)[[label for _, label in rows]]
    lam, order = np.random.beta(1.0, 1.0), np.random.permutation(len(rows))
    mixed = np.rint(lam * images + (1 - lam) * images[order]).astype(np.uint8)
    labels = (lam * labels + (1 - lam) * labels[order]).astype(np.float32)
    return torch.from_numpy(mixed), torch.from_numpy(labels)


def make_loader():
    return DataLoader(Images(), batch_size=18, shuffle=True, collate_fn=collate)
