"""CutMix with a box for each row of images that are not square, soft labels, in a collate function.

Source: kornia/kornia #4712, as it was mended: each row has a place of its own

    check: make_loader
    finds: nothing
"""

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate

CLASSES = 7


def cutmix(rows):
    x, y = default_collate(rows)
    n, _, height, width = x.shape
    order = torch.randperm(n)
    target = F.one_hot(y, CLASSES).float()
    mixed, shares = x.clone(), torch.empty(n, 1)
    for i in range(n):
        side = (1 - torch.rand(())).sqrt()
        h, w = int(side * height), int(side * width)
        top, left = int(torch.randint(height - h + 1, ())), int(torch.randint(width - w + 1, ()))
        mixed[i, :, top : top + h, left : left + w] = x[order[i], :, top : top + h, left : left + w]
        shares[i] = 1 - h * w / (height * width)
    return mixed, shares * target + (1 - shares) * target[order]


def make_loader():
    data = TensorDataset(torch.rand(210, 3, 10, 24), torch.arange(210) % CLASSES)
    return DataLoader(data, batch_size=21, shuffle=True, collate_fn=cutmix)
