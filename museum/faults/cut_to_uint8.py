"""Dataset of uint8 images mixed with NumPy: the mixed image is cast by astype, which cuts the fraction off.

Source: ultralytics/ultralytics MixUp (read: cast by astype; formula run: 0.499 of a level too dark)

    check: make_loader
    finds: VIC035
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Images(Dataset):
    def __init__(self, n=200, classes=10):
        self.ims = np.random.randint(0, 256, (n, 3, 16, 16)).astype(np.uint8)
        self.cls = np.eye(classes, dtype=np.float32)[np.arange(n) % classes]

    def __len__(self):
        return len(self.ims)

    def __getitem__(self, i):
        j = np.random.randint(len(self))
        r = np.random.beta(32.0, 32.0)
        image = (self.ims[i] * r + self.ims[j] * (1 - r)).astype(np.uint8)
        return torch.from_numpy(image), torch.from_numpy((self.cls[i] * r + self.cls[j] * (1 - r)).astype(np.float32))


def make_loader():
    return DataLoader(Images(), batch_size=20, shuffle=True)
