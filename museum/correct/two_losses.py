"""The training step of the paper's code: one lambda and one permutation a batch, two losses.

Source: facebookresearch/mixup-cifar10 train.py

    check: train_step --alpha 1.0
    finds: nothing
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 8 * 8, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
train_loader = DataLoader(TensorDataset(torch.randn(256, 3, 16, 16), torch.arange(256) % 10), 32, shuffle=True)


def mixup_data(x, y, alpha=1.0):
    lam = np.random.beta(alpha, alpha) if alpha > 0 else 1
    index = torch.randperm(x.size()[0])
    return lam * x + (1 - lam) * x[index, :], y, y[index], lam


def mixup_criterion(criterion, pred, y_a, y_b, lam):
    return lam * criterion(pred, y_a) + (1 - lam) * criterion(pred, y_b)


def train_step(inputs, targets):
    inputs, targets_a, targets_b, lam = mixup_data(inputs, targets)
    loss = mixup_criterion(criterion, net(inputs), targets_a, targets_b, lam)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
