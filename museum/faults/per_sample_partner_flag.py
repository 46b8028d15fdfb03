"""Collator that chooses mixup or CutMix for each row: it looks up the choice of the partner instead of the row's own.

Source: BenediktAlkin/KappaData mix collator, lamb_mode="sample" (read and run: labels differ by up to 0.91)

    check: make_loader
    finds: VIC001
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate


class MixCollator:
    def __init__(self, n_classes, mixup_alpha=0.8, cutmix_alpha=1.0, seed=None):
        self.n_classes, self.mixup_alpha, self.cutmix_alpha = n_classes, mixup_alpha, cutmix_alpha

    def __call__(self, examples):
        x, y = default_collate(examples)
        n, _, height, width = x.shape
        use_cutmix = torch.rand(n) < 0.5
        order = torch.randperm(n)
        lam = torch.from_numpy(np.random.beta(self.mixup_alpha, self.mixup_alpha, n)).float()
        mixed = lam[:, None, None, None] * x + (1 - lam[:, None, None, None]) * x[order]
        for i in range(n):
            if use_cutmix[order[i]]:
                side = np.sqrt(1 - np.random.beta(self.cutmix_alpha, self.cutmix_alpha))
                h, w = int(height * side), int(width * side)
                top, left = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
                mixed[i] = x[i]
                mixed[i, :, top : top + h, left : left + w] = x[order[i], :, top : top + h, left : left + w]
                if use_cutmix[i]:
                    lam[i] = 1 - h * w / (height * width)
        one_hot = F.one_hot(y, self.n_classes).float()
        return mixed, lam[:, None] * one_hot + (1 - lam[:, None]) * one_hot[order]


def make_loader():
    data = TensorDataset(torch.randn(160, 3, 16, 16), torch.arange(160) % 8)
    return DataLoader(data, batch_size=20, shuffle=True, collate_fn=MixCollator(8))
