"""CutMix on clips [n, T, C, H, W]: one box of rows and columns goes through all frames and channels.

Source: MCG-NJU/VideoMAE #34, as it was mended

    check: make_loader
    finds: nothing
"""

import math

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate


def cutmix(rows, classes=4):
    x, y = default_collate(rows)
    height, width = x.shape[-2:]
    ratio = math.sqrt(float(torch.rand(())))
    h, w = round(height * ratio), round(width * ratio)
    top, left = int(torch.randint(height - h + 1, ())), int(torch.randint(width - w + 1, ()))
    order = torch.randperm(len(x))
    mixed = x.clone()
    mixed[..., top : top + h, left : left + w] = x[order][..., top : top + h, left : left + w]
    lam = 1 - h * w / (height * width)
    y = F.one_hot(y, classes).float()
    return mixed, lam * y + (1 - lam) * y[order]


def make_loader():
    clips = TensorDataset(torch.rand(96, 6, 3, 16, 16), torch.arange(96) % 4)
    return DataLoader(clips, batch_size=12, shuffle=True, collate_fn=cutmix)
