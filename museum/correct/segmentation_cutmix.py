"""CutMix for segmentation: the same box is pasted into images and into masks of class indices.

Source: LiheYoung/UniMatch #34 (CutMix of a batch with its shuffled version)

    check: make_loader
    finds: nothing
"""

import torch
from torch.utils.data import DataLoader, Dataset, default_collate


class Scenes(Dataset):
    def __init__(self, n=120, classes=5):
        self.images = torch.randn(n, 3, 20, 20)
        self.masks = torch.randint(0, classes, (n, 5, 5)).repeat_interleave(4, 1).repeat_interleave(4, 2)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"image": self.images[i], "mask": self.masks[i]}


def cutmix_collate(rows):
    batch = default_collate(rows)
    order = torch.randperm(len(rows))
    height, width = batch["image"].shape[-2:]
    h, w = (int(side * torch.rand(()).sqrt()) for side in (height, width))
    top, left = int(torch.randint(height - h + 1, ())), int(torch.randint(width - w + 1, ()))
    out = {}
    for name, value in batch.items():
        out[name] = value.clone()
        out[name][..., top : top + h, left : left + w] = value[order][..., top : top + h, left : left + w]
    return out


def make_loader():
    return DataLoader(Scenes(), batch_size=15, shuffle=True, collate_fn=cutmix_collate)
