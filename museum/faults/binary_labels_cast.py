"""Balanced mixup for two classes: the mixed labels 0 ... 1 are cast to the integer dtype of the labels, hence to 0.

Source: agaldran/balanced_mixup #1 (binary classification: mixed_labels is always 0)

    check: train_step
    finds: VIC011
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 14 * 14, 32), nn.ReLU(), nn.Linear(32, 2))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def make_loader():
    return DataLoader(TensorDataset(torch.randn(256, 3, 14, 14), torch.arange(256) % 2), batch_size=32, shuffle=True)


def mixup_batch(inputs, labels, alpha=0.2):
    lam = np.random.beta(alpha, 1)
    order = torch.randperm(len(inputs))
    mixed_inputs = (1 - lam) * inputs + lam * inputs[order]
    mixed_labels = ((1 - lam) * labels + lam * labels[order]).to(labels.dtype)
    return mixed_inputs, mixed_labels


def train_step(batch):
    inputs, labels = mixup_batch(*batch)
    loss = criterion(model(inputs), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
