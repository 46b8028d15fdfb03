"""CutMix on clips [n, T, C, H, W]: the box is drawn over the dimensions 2 and 3, that is channels and rows.

Source: MCG-NJU/VideoMAE #34 (Mixup and Cutmix), pytorch/vision #6731

    check: make_loader
    finds: VIC039
"""

import math

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate


def rand_bbox(rows, columns, lam):
    ratio = math.sqrt(1 - lam)
    cut_rows, cut_columns = round(rows * ratio), round(columns * ratio)
    top = int(torch.randint(0, rows - cut_rows + 1, ()))
    left = int(torch.randint(0, columns - cut_columns + 1, ()))
    return top, top + cut_rows, left, left + cut_columns


def cutmix(x, y, classes=4):
    rows, columns = x.shape[2], x.shape[3]
    top, bottom, left, right = rand_bbox(rows, columns, float(torch.rand(())))
    lam = 1 - (bottom - top) * (right - left) / (rows * columns)
    order = torch.randperm(len(x))
    x = x.clone()
    x[:, :, top:bottom, left:right] = x[order, :, top:bottom, left:right]
    y = F.one_hot(y, classes).float()
    return x, lam * y + (1 - lam) * y[order]


def make_loader():
    clips = TensorDataset(torch.rand(96, 6, 3, 16, 16), torch.arange(96) % 4)
    return DataLoader(clips, batch_size=12, shuffle=True, collate_fn=lambda rows: cutmix(*default_collate(rows)))
