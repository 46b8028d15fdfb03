"""Focal loss while mixing: computed for each of the two labels, then mixed.

Source: xlliu7/TadTR #20, as it ought to be

    check: train_step
    finds: nothing
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 10 * 10, 48), nn.ReLU(), nn.Linear(48, 6))
optimizer = torch.optim.Adam(model.parameters())
example = (torch.randn(30, 3, 10, 10), torch.arange(30) % 6)


def focal(logits, y, gamma=2.0):
    ce = F.cross_entropy(logits, y, reduction="none")
    return ((1 - torch.exp(-ce)) ** gamma * ce).mean()


def train_step(x, y):
    lam, index = np.random.beta(1.0, 1.0), torch.randperm(len(x))
    logits = model(lam * x + (1 - lam) * x[index])
    loss = lam * focal(logits, y) + (1 - lam) * focal(logits, y[index])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
