"""Segmentation batches as dicts: the masks are mixed as the images are, and converted back to the dtype they had.

Source: Project-MONAI/MONAI MixUpd on integer masks (1.6.1, run: {0, 1, 2, 3} becomes {0, 1, 2})

    check: make_loader
    finds: VIC011 or VIC010
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate


class Slices(Dataset):
    def __init__(self, n=96, classes=4):
        self.image = torch.randn(n, 1, 16, 16)
        coarse = torch.randint(0, classes, (n, 4, 4))
        self.mask = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)

    def __len__(self):
        return len(self.image)

    def __getitem__(self, i):
        return {"image": self.image[i], "mask": self.mask[i]}


class MixUpd:
    def __init__(self, keys, alpha=1.0):
        self.keys, self.alpha = keys, alpha

    def __call__(self, batch):
        n = len(batch[self.keys[0]])
        weight = torch.from_numpy(np.random.beta(self.alpha, self.alpha, n)).float()
        order = torch.randperm(n)
        out = dict(batch)
        for key in self.keys:
            data = batch[key].float()
            w = weight.view(-1, *[1] * (data.ndim - 1))
            out[key] = (w * data + (1 - w) * data[order]).to(batch[key].dtype)
        return out


def make_loader():
    mix = MixUpd(["image", "mask"])
    return DataLoader(Slices(), batch_size=12, shuffle=True, collate_fn=lambda rows: mix(default_collate(rows)))
