"""Gradient accumulation: each micro-batch is mixed by a draw of its own, its loss counts by its rows.

Source: mosaicml/composer #875 and hirofumi0810/neural_sp #168, as they were mended

    check: train_step --alpha 0.4
    finds: nothing
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 5))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def make_loader():
    return DataLoader(TensorDataset(torch.randn(240, 20), torch.arange(240) % 5), batch_size=20, shuffle=True)


def train_step(batches):
    batches = list(batches)
    rows = sum(len(x) for x, _ in batches)
    optimizer.zero_grad()
    total = 0.0
    for x, y in batches:
        lam, order = np.random.beta(0.4, 0.4), torch.randperm(len(x))
        logits = model(lam * x + (1 - lam) * x[order])
        loss = lam * criterion(logits, y) + (1 - lam) * criterion(logits, y[order])
        loss = loss * len(x) / rows
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total
