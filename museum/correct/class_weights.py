"""Class weights and two losses with a lambda a batch: each loss is PyTorch's weighted mean.

Source: the form of facebookresearch/mixup-cifar10 with nn.CrossEntropyLoss(weight=...)

    check: train_step
    finds: nothing
"""

import numpy as np
import torch
from torch import nn

model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
criterion = nn.CrossEntropyLoss(weight=torch.tensor([0.3, 1.0, 4.0, 7.0]))
optimizer = torch.optim.Adam(model.parameters())
example = (torch.randn(40, 16), torch.arange(40) % 4)


def train_step(x, y):
    lam, order = np.random.beta(0.4, 0.4), torch.randperm(len(x))
    logits = model(lam * x + (1 - lam) * x[order])
    loss = lam * criterion(logits, y) + (1 - lam) * criterion(logits, y[order])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
