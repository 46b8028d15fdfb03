"""Augmentation with a probability: one draw decides for the batch, a second one, of the same p, for each row.

Source: kornia/kornia #4649 (RandomMixUpV2 / RandomCutMixV2 apply p twice)

    check: make_loader --p 0.5
    finds: VIC029
"""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate


class MixupGenerator:
    def __init__(self, p):
        self.p = p

    def __call__(self, n):
        chosen = torch.bernoulli(torch.full((n,), self.p))
        return torch.rand(n) * chosen, torch.randperm(n)


class RandomMixUp:
    def __init__(self, p, num_classes):
        self.p_batch, self.num_classes = p, num_classes
        self.generator = MixupGenerator(p)

    def __call__(self, x, y):
        y = F.one_hot(y, self.num_classes).float()
        if torch.rand(()) >= self.p_batch:
            return x, y
        lam, order = self.generator(len(x))
        return torch.lerp(x, x[order], lam.view(-1, 1, 1, 1)), torch.lerp(y, y[order], lam.view(-1, 1))


def make_loader():
    augment = RandomMixUp(p=0.5, num_classes=7)
    data = TensorDataset(torch.rand(210, 3, 8, 8), torch.arange(210) % 7)
    return DataLoader(data, batch_size=21, shuffle=True, collate_fn=lambda rows: augment(*default_collate(rows)))
