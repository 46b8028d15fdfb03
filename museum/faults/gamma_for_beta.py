"""Lambda as a ratio of two Gamma draws, where alpha is the rate and the shape is 1: uniform, whatever alpha is.

Source: tensorflow/models #13490 (MixUp + Cutmix implementation is (badly!) incorrect)

    check: make_loader --alpha 0.2
    finds: VIC020
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate


class MixupAndCutmix:
    def __init__(self, mixup_alpha=0.2, num_classes=10):
        self.mixup_alpha, self.num_classes = mixup_alpha, num_classes

    @staticmethod
    def _sample_from_beta(alpha, beta, shape):
        sample_alpha = np.random.gamma(1.0, 1 / alpha, shape)
        sample_beta = np.random.gamma(1.0, 1 / beta, shape)
        return sample_alpha / (sample_alpha + sample_beta)

    def __call__(self, rows):
        images, labels = default_collate(rows)
        lam = torch.from_numpy(self._sample_from_beta(self.mixup_alpha, self.mixup_alpha, len(images))).float()
        one_hot = F.one_hot(labels, self.num_classes).float()
        weight = lam[:, None, None, None]
        mixed = weight * images + (1 - weight) * images.flip(0)
        return mixed, lam[:, None] * one_hot + (1 - lam[:, None]) * one_hot.flip(0)


def make_loader():
    data = TensorDataset(torch.randn(320, 3, 8, 8), torch.arange(320) % 10)
    return DataLoader(data, batch_size=32, shuffle=True, collate_fn=MixupAndCutmix(0.2))
