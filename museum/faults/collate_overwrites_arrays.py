"""Collate function on NumPy images, CutMix by pairs: boxes are swapped in the arrays that the dataset keeps.

Source: huggingface/pytorch-image-models FastCollateMixup, mode="pair" (1.0.31, run: all arrays changed)

    check: make_loader
    finds: VIC030
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class CachedImages(Dataset):
    def __init__(self, n=160, classes=8):
        self.images = [np.random.randint(0, 256, (3, 16, 16)).astype(np.uint8) for _ in range(n)]
        self.labels = [i % classes for i in range(n)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


class FastCollateMixup:
    def __init__(self, num_classes, cutmix_alpha=1.0):
        self.eye, self.cutmix_alpha = np.eye(num_classes, dtype=np.float32), cutmix_alpha

    def __call__(self, batch):
        n = len(batch)
        target = np.stack([self.eye[label] for _, label in batch])
        for i in range(n // 2):
            j = n - i - 1
            a, b = batch[i][0], batch[j][0]
            side = np.sqrt(1 - np.random.beta(self.cutmix_alpha, self.cutmix_alpha))
            h, w = int(a.shape[1] * side), int(a.shape[2] * side)
            top, left = np.random.randint(a.shape[1] - h + 1), np.random.randint(a.shape[2] - w + 1)
            box = (slice(None), slice(top, top + h), slice(left, left + w))
            patch = a[box].copy()
            a[box], b[box] = b[box], patch
            lam = 1 - h * w / (a.shape[1] * a.shape[2])
            target[i], target[j] = lam * target[i] + (1 - lam) * target[j], lam * target[j] + (1 - lam) * target[i]
        return torch.from_numpy(np.stack([image for image, _ in batch])), torch.from_numpy(target)


def make_loader():
    return DataLoader(CachedImages(), batch_size=16, shuffle=True, collate_fn=FastCollateMixup(8))
