"""Loader class that fixes all seeds whenever an epoch begins, in the process that trains.

Source: k2-fsa/icefall #221 (Reset seed at the beginning of each epoch; use 42 + epoch)

    check: make_loader --alpha 0.5
    finds: VIC022
"""

import random

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate


def fix_random_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class EpochLoader(DataLoader):
    def __iter__(self):
        fix_random_seed(42)
        return super().__iter__()


def mixup(features, supervisions, alpha=0.5):
    lam = np.random.beta(alpha, alpha)
    order = torch.randperm(len(features))
    return lam * features + (1 - lam) * features[order], lam * supervisions + (1 - lam) * supervisions[order]


def make_loader():
    data = TensorDataset(torch.randn(200, 30, 20), torch.eye(8)[torch.arange(200) % 8])
    return EpochLoader(data, batch_size=20, shuffle=True, collate_fn=lambda rows: mixup(*default_collate(rows)))
