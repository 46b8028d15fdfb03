"""vicinal's Mixup in a training step: the loss line is that of plain training.

Source: vicinal, README

    check: train_step --alpha 0.4
    finds: nothing
"""

import torch
import torch.nn.functional as F
from torch import nn

import vicinal

model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters())
mixup = vicinal.Mixup(alpha=0.4)
example = (torch.randn(32, 3, 12, 12), torch.arange(32) % 10)


def train_step(x, y):
    x, y = mixup(x, y)
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
