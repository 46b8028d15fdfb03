"""Images in float16 and 4,000 classes: both class indices and the share are stacked in the dtype of the images.

Source: kornia/kornia #4657 (labels of RandomMixUpV2 in half precision)

    check: train_step
    finds: VIC015
"""

import torch
import torch.nn.functional as F
from torch import nn

CLASSES = 4000
model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, CLASSES))
example = (torch.rand(24, 3, 8, 8).half(), torch.randint(0, CLASSES, (24,)))


def random_mixup(images, labels):
    lam = torch.rand(len(images), dtype=images.dtype)
    index = torch.randperm(len(images))
    mixed = images * (1 - lam.view(-1, 1, 1, 1)) + images[index] * lam.view(-1, 1, 1, 1)
    return mixed, torch.stack([labels.to(images.dtype), labels[index].to(images.dtype), lam], dim=-1)


def train_step(images, labels):
    images, target = random_mixup(images, labels)
    logits = model(images.float())
    loss_a = F.cross_entropy(logits, target[:, 0].long(), reduction="none")
    loss_b = F.cross_entropy(logits, target[:, 1].long(), reduction="none")
    return ((1 - target[:, 2]) * loss_a + target[:, 2] * loss_b).mean()
