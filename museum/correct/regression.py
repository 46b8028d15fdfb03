"""Regression on a table of eight columns: targets are mixed as numbers, and the loss is the squared error.

Source: huaxiuyao/C-Mixup (plain mixup as its baseline)

    check: train_step --alpha 2.0
    finds: nothing
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
x = torch.randn(256, 8)
train_loader = DataLoader(TensorDataset(x, x[:, :2].prod(1, keepdim=True) + x.sum(1, keepdim=True)), 32, shuffle=True)


def train_step(x, y):
    lam = np.random.beta(2.0, 2.0)
    index = torch.randperm(len(x))
    prediction = model(lam * x + (1 - lam) * x[index])
    loss = nn.functional.mse_loss(prediction, lam * y + (1 - lam) * y[index])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
