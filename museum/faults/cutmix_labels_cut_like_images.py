"""CutMix for volumes with class labels: the label is cut by the same box as the image, and becomes the partner's whole.

Source: Project-MONAI/MONAI #8137 (CutMix transform breaking change in v1.4.0)

    check: train_transform
    finds: VIC001
"""

import math

import numpy as np
import torch

rng = np.random.RandomState()
example = (torch.randn(12, 1, 18, 18), torch.eye(4)[torch.arange(12) % 4])


class CutMix:
    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def randomize(self, data):
        self.weight = rng.beta(self.alpha, self.alpha)
        self.perm = torch.from_numpy(rng.permutation(len(data)))
        side = math.sqrt(1 - self.weight)
        self.box = []
        for size in data.shape[2:]:
            length = max(1, int(size * side))
            start = rng.randint(0, size - length + 1)
            self.box.append(slice(start, start + length))

    def apply(self, data):
        out = data.clone()
        region = (slice(None), *(slice(None) for _ in data.shape[1:2]), *self.box[: data.ndim - 2])
        out[region] = data[self.perm][region]
        return out

    def __call__(self, data, labels):
        self.randomize(data)
        return self.apply(data), self.apply(labels)


train_transform = CutMix()
