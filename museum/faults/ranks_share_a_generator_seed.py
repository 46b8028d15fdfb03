"""Object that mixes by a torch.Generator seeded in its constructor, one in each process, all with the same number.

Source: facebookresearch/deit #150 and facebookresearch/detr #297 (why the rank is added to the seed)

    check: make_loader
    finds: VIC024
"""

import torch
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

table, classes = torch.randn(320, 12), torch.eye(5)[torch.arange(320) % 5]


class Mixer:
    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, rows):
        x, y = (torch.stack(part) for part in zip(*rows, strict=True))
        lam = torch.rand(len(x), 1, generator=self.generator)
        order = torch.randperm(len(x), generator=self.generator)
        return torch.lerp(x[order], x, lam), torch.lerp(y[order], y, lam)


def make_loader(rank, world_size):
    data = TensorDataset(table, classes)
    sampler = DistributedSampler(data, num_replicas=world_size, rank=rank, shuffle=True)
    return DataLoader(data, batch_size=20, sampler=sampler, collate_fn=Mixer())
