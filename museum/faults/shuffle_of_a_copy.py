"""Loader in a fixed order, whose collate function pairs neighbors and shuffles within windows of a copied index.

Source: huggingface/pytorch-image-models #2740 (the shuffle of NaFlexMixup worked on a copy: pairing never varied)

    check: make_loader
    finds: VIC026
"""

import random

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate


def local_shuffle(order, window=8):
    for start in range(0, len(order), window):
        random.shuffle(list(order[start : start + window]))
    return order


def pair_collate(rows):
    x, y = default_collate(rows)
    order = local_shuffle(list(range(len(x))))
    pairs = torch.tensor(order[1:] + order[:1])
    lam = torch.from_numpy(np.random.beta(0.8, 0.8, len(x))).float()
    w = lam.view(-1, 1, 1, 1)
    return w * x + (1 - w) * x[pairs], lam[:, None] * y + (1 - lam[:, None]) * y[pairs]


def make_loader():
    data = TensorDataset(torch.rand(160, 3, 10, 10), torch.eye(5)[torch.arange(160) % 5])
    return DataLoader(data, batch_size=32, shuffle=False, collate_fn=pair_collate)
