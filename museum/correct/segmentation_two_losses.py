"""Segmentation: images are averaged, masks stay class indices, and the losses of both masks are mixed; 255 is ignored.

Source: mosaicml/composer #825 (interpolate_loss=True works for segmentation)

    check: train_step
    finds: nothing
"""

import torch
import torch.nn.functional as F
from torch import nn

VOID, CLASSES = 255, 4
model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)


def masks(n):
    mask = torch.randint(0, CLASSES, (n, 3, 3)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    mask[:, 0] = VOID
    return mask


example = (torch.randn(16, 3, 12, 12), masks(16))


def train_step(image, mask):
    lam = torch.distributions.Beta(0.4, 0.4).sample()
    order = torch.randperm(len(image))
    logits = model(lam * image + (1 - lam) * image[order])
    own = F.cross_entropy(logits, mask, ignore_index=VOID)
    other = F.cross_entropy(logits, mask[order], ignore_index=VOID)
    loss = lam * own + (1 - lam) * other
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
