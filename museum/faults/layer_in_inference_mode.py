"""Augmentation layer used in the input pipeline: it mixes only if training=True, and the map calls it without.

Source: keras-team/keras #17385 and #16189 (augmentation layers only active during training)

    check: make_loader --p 1.0
    finds: VIC005
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate


class MixUpLayer:
    def __init__(self, alpha=0.2):
        self.alpha = alpha

    def __call__(self, inputs, training=False):
        if not training:
            return inputs
        images, labels = inputs["images"], inputs["labels"]
        weight = np.random.beta(self.alpha, self.alpha)
        order = torch.randperm(len(images))
        return {
            "images": weight * images + (1 - weight) * images[order],
            "labels": weight * labels + (1 - weight) * labels[order],
        }


class Flowers(Dataset):
    def __init__(self, n=160):
        self.images, self.labels = torch.rand(n, 16, 16, 3), torch.eye(5)[torch.arange(n) % 5]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"images": self.images[i], "labels": self.labels[i]}


augmenter = MixUpLayer()


def make_loader():
    return DataLoader(Flowers(), batch_size=32, shuffle=True, collate_fn=lambda rows: augmenter(default_collate(rows)))
