"""Gradient accumulation where the gradients are cleared before each micro-batch: the update is that of the last one.

Source: mosaicml/composer #875 (mixup and grad_accum), OpenHelix-Team/cobra #19 (unbalanced loss)

    check: train_step
    finds: VIC054
"""

import torch
import torch.nn.functional as F
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 8 * 8, 24), nn.ReLU(), nn.Linear(24, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
example = (torch.randn(24, 2, 8, 8), torch.arange(24) % 4)


def train_step(batches):
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        lam, order = torch.distributions.Beta(1.0, 1.0).sample(), torch.randperm(len(x))
        target = F.one_hot(y, 4).float()
        logits = model(lam * x + (1 - lam) * x[order])
        loss = F.cross_entropy(logits, lam * target + (1 - lam) * target[order]) / len(batches)
        loss.backward()
        losses.append(loss.detach())
    optimizer.step()
    return torch.stack(losses).sum()
