"""Mixing object with a RandomState of its own in a collate function: each worker has a copy of it, and of its next draws.

Source: Project-MONAI/MONAI #1068, and its MixUp in a plain DataLoader (1.6.1, run: the same lambdas in every worker)

    check: make_loader --alpha 1.0
    finds: VIC023
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate


class Randomizable:
    def __init__(self):
        self.R = np.random.RandomState()

    def set_random_state(self, seed):
        self.R = np.random.RandomState(seed)
        return self


class MixUp(Randomizable):
    def __init__(self, alpha=1.0):
        super().__init__()
        self.alpha = alpha

    def __call__(self, rows):
        data, labels = default_collate(rows)
        weight = torch.from_numpy(self.R.beta(self.alpha, self.alpha, len(data))).float()
        order = torch.from_numpy(self.R.permutation(len(data)))
        w, v = weight.view(-1, 1, 1, 1), weight.view(-1, 1)
        return w * data + (1 - w) * data[order], v * labels + (1 - v) * labels[order]


def make_loader():
    data = TensorDataset(torch.randn(192, 1, 14, 14), torch.eye(4)[torch.arange(192) % 4])
    mixup = MixUp(1.0).set_random_state(7)
    return DataLoader(data, batch_size=16, shuffle=True, num_workers=2, collate_fn=mixup)
