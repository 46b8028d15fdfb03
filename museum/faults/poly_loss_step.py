"""Training step with two losses that are mixed first, and put into a focal factor and a Poly-1 term afterwards.

Source: kaylode/theseus #26 (FocalLoss and SmoothCE with mixed targets)

    check: train_step
    finds: VIC050
"""

import numpy as np
import torch
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 10 * 10, 48), nn.ReLU(), nn.Linear(48, 6))
cross_entropy = nn.CrossEntropyLoss(reduction="none")
optimizer = torch.optim.Adam(model.parameters())
example = (torch.randn(30, 3, 10, 10), torch.arange(30) % 6)


def train_step(x, y):
    lam, index = np.random.beta(1.0, 1.0), torch.randperm(len(x))
    logits = model(lam * x + (1 - lam) * x[index])
    ce = lam * cross_entropy(logits, y) + (1 - lam) * cross_entropy(logits, y[index])
    pt = torch.exp(-ce)
    loss = ((1 - pt) ** 2 * ce + (1 - pt)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
