"""Dataset that mixes inside __getitem__, with partners among its own training rows, in two workers.

Source: YuanGongND/ast and other audio pipelines mix in the dataset

    check: make_loaders --alpha 10
    finds: nothing
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

waves = np.random.randn(240, 600).astype(np.float32)
labels = np.eye(6, dtype=np.float32)[np.arange(240) % 6]
order = np.random.RandomState(1).permutation(240)


class Clips(Dataset):
    def __init__(self, ids, mix):
        self.ids, self.mix = list(ids), mix

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        i = self.ids[index]
        wave, label = waves[i], labels[i]
        if self.mix:
            j = self.ids[np.random.randint(len(self.ids))]
            lam = np.float32(np.random.beta(10, 10))
            wave, label = lam * wave + (1 - lam) * waves[j], lam * label + (1 - lam) * labels[j]
        return torch.from_numpy(wave), torch.from_numpy(label)


def make_loaders():
    train, val = Clips(order[:180], mix=True), Clips(order[180:], mix=False)
    return DataLoader(train, batch_size=18, shuffle=True, num_workers=2), DataLoader(val, batch_size=18)
