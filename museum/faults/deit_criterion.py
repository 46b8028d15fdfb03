"""Script that chooses its criterion by mixup alone: with CutMix only, the smoothing cross-entropy gets soft labels.

Source: facebookresearch/deit #91 (ensure the right loss function is selected when mixup or cutmix is enabled)

    check: train_step
    finds: VIC012
"""

from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

args = SimpleNamespace(mixup=0.0, cutmix=1.0, smoothing=0.1, classes=12)
model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 48), nn.GELU(), nn.Linear(48, args.classes))
optimizer = torch.optim.AdamW(model.parameters())
example = (torch.randn(24, 3, 16, 16), torch.arange(24) % args.classes)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


if args.mixup > 0.0:
    criterion = SoftTargetCrossEntropy()
elif args.smoothing:
    criterion = nn.CrossEntropyLoss(label_smoothing=args.smoothing)
else:
    criterion = nn.CrossEntropyLoss()


def cutmix(x, y):
    target = F.one_hot(y, args.classes).float()
    side = np.sqrt(1 - np.random.beta(args.cutmix, args.cutmix))
    h, w = int(side * x.size(2)), int(side * x.size(3))
    top, left = np.random.randint(x.size(2) - h + 1), np.random.randint(x.size(3) - w + 1)
    x = x.clone()
    x[:, :, top : top + h, left : left + w] = x.flip(0)[:, :, top : top + h, left : left + w]
    lam = 1 - h * w / (x.size(2) * x.size(3))
    return x, lam * target + (1 - lam) * target.flip(0)


def train_step(samples, targets):
    samples, targets = cutmix(samples, targets)
    loss = criterion(model(samples), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
