"""Callback that runs before each forward pass, in training and in validation, and mixes in both.

Source: catalyst-team/catalyst #200 (MixupCallback was applied in validation, too), mlverse/luz #111

    check: training_step --eval validation_step
    finds: VIC040
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 48), nn.ReLU(), nn.Linear(48, 8))
criterion = nn.CrossEntropyLoss()


class MixupCallback:
    def __init__(self, alpha=1.0, on_train_only=False):
        self.alpha, self.on_train_only = alpha, on_train_only

    def on_batch_start(self, x, is_train):
        if self.on_train_only and not is_train:
            self.lam, self.index = 1.0, torch.arange(len(x))
        else:
            self.lam, self.index = np.random.beta(self.alpha, self.alpha), torch.randperm(len(x))
        return self.lam * x + (1 - self.lam) * x[self.index]

    def loss(self, logits, y):
        return self.lam * criterion(logits, y) + (1 - self.lam) * criterion(logits, y[self.index])


callback = MixupCallback()


def run(batch, is_train):
    x, y = batch
    return callback.loss(model(callback.on_batch_start(x, is_train)), y)


def training_step(batch, batch_idx):
    return run(batch, is_train=True)


def validation_step(batch, batch_idx):
    with torch.no_grad():
        return run(batch, is_train=False)


def make_loader():
    return DataLoader(TensorDataset(torch.randn(160, 3, 12, 12), torch.arange(160) % 8), batch_size=20, shuffle=True)
