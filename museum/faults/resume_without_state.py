"""Checkpointing by epoch with global seeds set at the start of the program: state of NumPy's generator is not restored.

Source: facebookresearch/mixup-cifar10 train.py (read: the checkpoint has PyTorch's state, lambda is NumPy's)

    check: make_loader
    finds: VIC025
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

train_data = TensorDataset(torch.randn(240, 16), torch.eye(3)[torch.arange(240) % 3])


def collate(rows):
    x, y = default_collate(rows)
    lam = torch.from_numpy(np.random.beta(1.0, 1.0, (len(x), 1))).float()
    index = torch.from_numpy(np.random.permutation(len(x)))
    return lam * x + (1 - lam) * x[index], lam * y + (1 - lam) * y[index]


def make_loader(epoch):
    np.random.seed(20170922)
    torch.manual_seed(20170922 + epoch)
    return DataLoader(train_data, batch_size=24, shuffle=True, collate_fn=collate)
