"""Loader for the epoch that a run starts or goes on with: order and draws are keyed by seed and epoch.

Source: k2-fsa/icefall #221, as it was mended: seed + epoch

    check: make_loader
    finds: nothing
"""

import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

SEED = 42
x, y = torch.randn(192, 24), torch.eye(4)[torch.arange(192) % 4]


class Mixer:
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, rows):
        x, y = (torch.stack(part) for part in zip(*rows, strict=True))
        lam = torch.rand(len(x), 1, generator=self.generator)
        order = torch.randperm(len(x), generator=self.generator)
        return torch.lerp(x[order], x, lam), torch.lerp(y[order], y, lam)


def make_loader(epoch):
    data = TensorDataset(x, y)
    sampler = RandomSampler(data, generator=torch.Generator().manual_seed(SEED + epoch))
    return DataLoader(data, batch_size=24, sampler=sampler, collate_fn=Mixer(1000 * SEED + epoch))
