"""Generator of batches: weights are drawn for self.batch_size rows, and the last batch of an epoch has fewer.

Source: Yangget/garbage_classify #1 (self.batch_size instead of batch_x.shape[0]), Tony607/keras_mixup_generator #1

    check: make_loader --alpha 0.2
    finds: VIC036
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset


class MixupCollate:
    def __init__(self, batch_size, alpha=0.2):
        self.batch_size, self.alpha = batch_size, alpha

    def __call__(self, rows):
        batch_x, batch_y = (torch.stack(part).numpy() for part in zip(*rows, strict=True))
        weight = np.random.beta(self.alpha, self.alpha, self.batch_size).astype("float32")
        X_l, y_l = weight.reshape(self.batch_size, 1, 1, 1), weight.reshape(self.batch_size, 1)
        order = np.random.permutation(len(batch_x))
        x = batch_x * X_l + batch_x[order] * (1 - X_l)
        y = batch_y * y_l + batch_y[order] * (1 - y_l)
        return torch.from_numpy(x), torch.from_numpy(y)


def make_loader(batch_size=32):
    data = TensorDataset(torch.rand(200, 3, 12, 12), torch.eye(10)[torch.arange(200) % 10])
    return DataLoader(data, batch_size=batch_size, shuffle=True, collate_fn=MixupCollate(batch_size))
