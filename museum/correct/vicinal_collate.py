"""vicinal's Collate in persistent workers, and a plain loader for evaluation.

Source: vicinal, examples/workers.py

    check: make_loaders --alpha 0.2
    finds: nothing
"""

import torch
from torch.utils.data import DataLoader, TensorDataset

import vicinal


def make_loaders():
    train = TensorDataset(torch.randn(256, 3, 8, 8), torch.arange(256) % 8)
    val = TensorDataset(torch.randn(64, 3, 8, 8), torch.arange(64) % 8)
    collate = vicinal.Collate(vicinal.Mixup(alpha=0.2))
    return {
        "train": DataLoader(train, 32, shuffle=True, num_workers=2, persistent_workers=True, collate_fn=collate),
        "val": DataLoader(val, 32),
    }
