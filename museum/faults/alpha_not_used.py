"""mix_up has an argument alpha and samples by default arguments of its helper: always Beta(0.2, 0.2).

Source: keras-team/keras-io #438 (Fix hardcoding of alpha variable in mix_up function)

    check: make_loader --alpha 1.0
    finds: VIC020
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

ALPHA = 1.0


def sample_beta_distribution(size, concentration_0=0.2, concentration_1=0.2):
    return np.random.beta(concentration_0, concentration_1, size).astype("float32")


def mix_up(images, labels, alpha=ALPHA):
    lam = torch.from_numpy(sample_beta_distribution(len(images)))
    x_l, y_l = lam.view(-1, 1, 1, 1), lam.view(-1, 1)
    order = torch.randperm(len(images))
    return images * x_l + images[order] * (1 - x_l), labels * y_l + labels[order] * (1 - y_l)


def make_loader():
    data = TensorDataset(torch.rand(256, 1, 14, 14), torch.eye(10)[torch.arange(256) % 10])
    return DataLoader(data, batch_size=32, shuffle=True, collate_fn=lambda rows: mix_up(*default_collate(rows)))
