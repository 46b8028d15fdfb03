"""vicinal's Choice of mixup and CutMix for images and masks of class indices, with 255 ignored.

Source: vicinal, examples/segmentation.py

    check: train_step
    finds: nothing
"""

import torch
import torch.nn.functional as F
from torch import nn

import vicinal

IGNORED, CLASSES = 255, 4
model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
vicinity = vicinal.Choice([vicinal.Mixup(alpha=0.4), vicinal.CutMix(alpha=1.0)])
masks = torch.randint(0, CLASSES, (16, 4, 4)).repeat_interleave(4, 1).repeat_interleave(4, 2)
masks[:, :2] = IGNORED
example = (torch.randn(16, 1, 16, 16), masks)


def train_step(x, y):
    x, y = vicinity(x, y)
    loss = F.cross_entropy(model(x), y, ignore_index=IGNORED)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
