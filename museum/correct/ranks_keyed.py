"""Two processes: DistributedSampler gives each its rows, and each draws by a generator keyed by seed and rank.

Source: facebookresearch/deit #150 (why a seed for each GPU)

    check: make_loader --alpha 0.4
    finds: nothing
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torch.utils.data.distributed import DistributedSampler

data = TensorDataset(torch.randn(256, 3, 8, 8), torch.eye(8)[torch.arange(256) % 8])


class MixupCollate:
    def __init__(self, alpha, seed, rank):
        self.alpha, self.rng = alpha, np.random.default_rng([seed, rank])

    def __call__(self, rows):
        x, y = default_collate(rows)
        lam = self.rng.beta(self.alpha, self.alpha)
        order = torch.from_numpy(self.rng.permutation(len(x)))
        return lam * x + (1 - lam) * x[order], lam * y + (1 - lam) * y[order]


def make_loader(rank, world_size):
    sampler = DistributedSampler(data, num_replicas=world_size, rank=rank, seed=3)
    return DataLoader(data, batch_size=16, sampler=sampler, collate_fn=MixupCollate(0.4, seed=3, rank=rank))
