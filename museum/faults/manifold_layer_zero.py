"""Manifold mixup in forward: at layer 0 the mixed input is computed, and the first convolution gets the original one.

Source: vikasverma1077/manifold_mixup #12 (Error in line 109 of models/resnet.py)

    check: train_step
    finds: VIC003
"""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, classes=8):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.layer1 = nn.Conv2d(8, 8, 3, padding=1)
        self.linear = nn.Linear(8 * 4 * 4, classes)

    def forward(self, x, target=None, mixup_alpha=1.0):
        layer_mix = random.randint(0, 1) if target is not None else None
        out = x
        if layer_mix == 0:
            out, target = mixup(out, target, mixup_alpha)
        out = F.relu(self.bn1(self.conv1(x)))
        if layer_mix == 1:
            out, target = mixup(out, target, mixup_alpha)
        out = F.adaptive_avg_pool2d(F.relu(self.layer1(out)), 4).flatten(1)
        return self.linear(out) if target is None else (self.linear(out), target)


def mixup(out, target, alpha):
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(len(out))
    return lam * out + (1 - lam) * out[index], lam * target + (1 - lam) * target[index]


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)


def train_step(x, y):
    logits, soft = model(x, F.one_hot(y, 8).float())
    loss = F.cross_entropy(logits, soft)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def make_loader():
    return DataLoader(TensorDataset(torch.randn(128, 3, 16, 16), torch.arange(128) % 8), batch_size=32, shuffle=True)
