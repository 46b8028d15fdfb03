"""Transform with a probability: mixed batches have labels [n, classes], the others the class indices as they came.

Source: mlxops-aug 0.2.3 on PyPI, CutMixUp(prob=...) (run: shape and dtype of the labels change from batch to batch)

    check: make_loader --alpha 1.0 --p 0.5
    finds: VIC013
"""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate


class MixUp:
    def __init__(self, alpha, num_classes, prob=0.5):
        self.beta = torch.distributions.Beta(alpha, alpha)
        self.num_classes, self.prob = num_classes, prob

    def __call__(self, images, labels):
        if torch.rand(()) >= self.prob:
            return images, labels
        lam = self.beta.sample()
        one_hot = F.one_hot(labels, self.num_classes).float()
        mixed = lam * images + (1 - lam) * images.roll(1, 0)
        return mixed, lam * one_hot + (1 - lam) * one_hot.roll(1, 0)


def make_loader():
    mix = MixUp(1.0, num_classes=6)
    data = TensorDataset(torch.rand(180, 3, 12, 12), torch.arange(180) % 6)
    return DataLoader(data, batch_size=18, shuffle=True, collate_fn=lambda rows: mix(*default_collate(rows)))
