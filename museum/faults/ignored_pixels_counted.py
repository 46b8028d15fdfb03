"""Segmentation step with 255 for "void": losses of pixels are mixed, and their mean counts the void ones as zero.

Source: fastai/fastai MixUp with ignore_index (2.8.12, run: 2.29 becomes 0.57), pytorch/vision #9222

    check: train_step
    finds: VIC052
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

VOID, CLASSES = 255, 5
model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def masks(n):
    coarse = torch.randint(0, CLASSES, (n, 4, 4))
    mask = coarse.repeat_interleave(3, 1).repeat_interleave(3, 2)
    mask[:, :, :4] = VOID
    return mask


example = (torch.randn(16, 3, 12, 12), masks(16))


def train_step(image, mask):
    lam, order = np.random.beta(1.0, 1.0), torch.randperm(len(image))
    logits = model(lam * image + (1 - lam) * image[order])
    own = F.cross_entropy(logits, mask, ignore_index=VOID, reduction="none")
    other = F.cross_entropy(logits, mask[order], ignore_index=VOID, reduction="none")
    loss = (lam * own + (1 - lam) * other).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
