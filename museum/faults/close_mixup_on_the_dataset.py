"""Dataset with an attribute `enabled` that the trainer clears for the last epochs; its persistent workers do not see it.

Source: Megvii-BaseDetection/YOLOX #85 (close_mosaic() does not work), jizhishutong/YOLOU #29

    check: make_loader
    finds: VIC041
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class MixDetection(Dataset):
    def __init__(self, n=192, classes=6):
        self.images = torch.randn(n, 3, 10, 10)
        self.labels = torch.eye(classes)[torch.arange(n) % classes]
        self.enabled = True

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        if not self.enabled:
            return self.images[i], self.labels[i]
        j, lam = np.random.randint(len(self)), float(np.random.beta(8.0, 8.0))
        return torch.lerp(self.images[j], self.images[i], lam), torch.lerp(self.labels[j], self.labels[i], lam)


class Trainer:
    def __init__(self, loader, max_epoch=300, no_aug_epochs=15):
        self.loader, self.max_epoch, self.no_aug_epochs = loader, max_epoch, no_aug_epochs

    def before_epoch(self, epoch):
        if epoch + 1 == self.max_epoch - self.no_aug_epochs:
            self.loader.dataset.enabled = False


def make_loader():
    return DataLoader(MixDetection(), batch_size=24, shuffle=True, num_workers=2, persistent_workers=True)
