"""DistributedDataParallel: each process calls set_seed with the seed of the arguments, and mixes by global generators.

Source: huggingface/transformers #37932 (workers of different ranks share the same seed and lose randomness)

    check: make_loader --alpha 0.2
    finds: VIC024
"""

import random

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torch.utils.data.distributed import DistributedSampler


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def mixup_collate(rows, alpha=0.2):
    x, y = default_collate(rows)
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(len(x))
    return lam * x + (1 - lam) * x[index], lam * y + (1 - lam) * y[index]


data = TensorDataset(torch.randn(256, 3, 8, 8), torch.eye(8)[torch.arange(256) % 8])


def make_loader(rank, world_size, seed=42):
    set_seed(seed)
    sampler = DistributedSampler(data, num_replicas=world_size, rank=rank, seed=seed)
    return DataLoader(data, batch_size=16, sampler=sampler, collate_fn=mixup_collate)
