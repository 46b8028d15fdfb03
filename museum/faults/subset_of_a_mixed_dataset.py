"""random_split of a dataset that mixes inside __getitem__: its partners come from all rows, validation rows included.

Source: Hazelsuko07/InstaHide #2 and Traffic-X/MonoLSS #5 (which samples the partners are drawn from)

    check: make_loaders --alpha 0.4
    finds: VIC028
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset


class Cells(Dataset):
    def __init__(self, mix=False, n=240, classes=4):
        generator = torch.Generator().manual_seed(5)
        self.images = torch.randn(n, 1, 14, 14, generator=generator)
        self.labels = torch.eye(classes)[torch.arange(n) % classes]
        self.mix = mix

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        if not self.mix:
            return self.images[i], self.labels[i]
        j = np.random.randint(len(self.images))
        lam = float(np.random.beta(0.4, 0.4))
        return torch.lerp(self.images[j], self.images[i], lam), torch.lerp(self.labels[j], self.labels[i], lam)


def make_loaders():
    order = np.random.RandomState(0).permutation(240)
    train, val = Subset(Cells(mix=True), order[:160]), Subset(Cells(), order[160:])
    return {"train": DataLoader(train, batch_size=20, shuffle=True), "val": DataLoader(val, batch_size=20)}
