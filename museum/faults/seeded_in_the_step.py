"""Reproducible runs, taken too far: the seed is set inside the function that mixes, before each batch.

Source: dbolya/yolact #455 (Random augmentations aren't random?), zhixuhao/unet #87

    check: train_step --alpha 0.4
    finds: VIC021
"""

import numpy as np
import torch
from torch import nn

SEED = 1337
model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 10 * 10, 32), nn.ReLU(), nn.Linear(32, 4))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
example = (torch.randn(28, 3, 10, 10), torch.arange(28) % 4)


def set_seed(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)


def mixup_data(x, y, alpha=0.4):
    set_seed(SEED)
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(x.size(0))
    return lam * x + (1 - lam) * x[index], y, y[index], lam


def train_step(x, y):
    inputs, targets_a, targets_b, lam = mixup_data(x, y)
    outputs = model(inputs)
    loss = lam * criterion(outputs, targets_a) + (1 - lam) * criterion(outputs, targets_b)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
