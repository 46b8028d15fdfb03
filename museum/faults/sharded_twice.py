"""Loader whose sampler takes the rank's part, over a dataset that was already cut to it: half of the rows are never seen.

Source: huggingface/accelerate #3520 (Dataloader length got split twice with DistributedSampler and Accelerate)

    check: make_loader
    finds: VIC043
"""

import torch
from torch.utils.data import DataLoader, Subset, TensorDataset, default_collate
from torch.utils.data.distributed import DistributedSampler

data = TensorDataset(torch.randn(320, 1, 12, 12), torch.eye(8)[torch.arange(320) % 8])


class Mix:
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, rows):
        x, y = default_collate(rows)
        lam = torch.rand(len(x), generator=self.generator)
        order = torch.randperm(len(x), generator=self.generator)
        return torch.lerp(x[order], x, lam.view(-1, 1, 1, 1)), torch.lerp(y[order], y, lam.view(-1, 1))


def make_loader(rank, world_size):
    shard = Subset(data, range(rank, len(data), world_size))
    sampler = DistributedSampler(shard, num_replicas=world_size, rank=rank)
    return DataLoader(shard, batch_size=20, sampler=sampler, collate_fn=Mix(seed=77 + rank))
