"""Table from a csv file with the class as a float column: it is mixed as a number, and the loss line cuts it to an index.

Source: mancinimassimiliano/CuMix #8 (mixup_labels: how do I turn mixup_labels into integers?)

    check: train_step --alpha 1.0
    finds: VIC010 or VIC011
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

table = np.column_stack([np.random.randn(240, 14), np.arange(240) % 5])
model = nn.Sequential(nn.Linear(14, 32), nn.ReLU(), nn.Linear(32, 5))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters())


def make_loader():
    data = torch.from_numpy(table).float()
    return DataLoader(TensorDataset(data[:, :-1], data[:, -1]), batch_size=30, shuffle=True)


def train_step(x, y):
    lam = float(np.random.beta(1.0, 1.0))
    order = torch.randperm(len(x))
    x, y = lam * x + (1 - lam) * x[order], lam * y + (1 - lam) * y[order]
    loss = criterion(model(x), y.long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
