"""Dataset with a cache in memory: the cached example itself is multiplied and added to, in place, whenever it is read.

Source: Megvii-BaseDetection/YOLOX #275 (the previous mixup operation could change the label in place)

    check: make_loader
    finds: VIC030
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class CachedDataset(Dataset):
    def __init__(self, n=150, classes=5):
        self.cache = [self.read(i, classes) for i in range(n)]

    @staticmethod
    def read(i, classes):
        return np.random.randn(3, 10, 10).astype(np.float32), np.eye(classes, dtype=np.float32)[i % classes]

    def __len__(self):
        return len(self.cache)

    def mixup(self, image, label):
        other_image, other_label = self.cache[np.random.randint(len(self))]
        lam = np.float32(np.random.beta(1.5, 1.5))
        image *= lam
        image += (1 - lam) * other_image
        label *= lam
        label += (1 - lam) * other_label
        return image, label

    def __getitem__(self, i):
        image, label = self.mixup(*self.cache[i])
        return torch.tensor(image), torch.tensor(label)


def make_loader():
    return DataLoader(CachedDataset(), batch_size=15, shuffle=True)
