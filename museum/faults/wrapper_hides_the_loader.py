"""Loader for two processes made by a wrapper that mixes: the launcher does not know it for a DataLoader, and cuts nothing.

Source: huggingface/accelerate #3829 (who sets the DistributedSampler); a wrapper in prepare() (run: 19 batches, not 10)

    check: make_loader
    finds: VIC043
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

data = TensorDataset(torch.randn(256, 20), torch.eye(4)[torch.arange(256) % 4])


class MixedLoader:
    def __init__(self, loader, alpha, seed):
        self.loader, self.alpha, self.rng = loader, alpha, np.random.default_rng(seed)

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for x, y in self.loader:
            lam = self.rng.beta(self.alpha, self.alpha)
            order = torch.from_numpy(self.rng.permutation(len(x)))
            yield (lam * x + (1 - lam) * x[order]).float(), (lam * y + (1 - lam) * y[order]).float()


def make_loader(rank, world_size):
    loader = DataLoader(data, batch_size=32 // world_size, shuffle=True)
    return MixedLoader(loader, alpha=0.4, seed=1000 + rank)
