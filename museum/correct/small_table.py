"""Table of four columns and three classes; the step is Lightning's in form, with a batch index.

Source: Lightning-AI/pytorch-lightning #790 (Best way to use mixup in lightning?)

    check: training_step --alpha 0.2
    finds: nothing
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))
criterion = nn.CrossEntropyLoss()
train_loader = DataLoader(TensorDataset(torch.randn(150, 4), torch.arange(150) % 3), batch_size=25, shuffle=True)
val_loader = DataLoader(TensorDataset(torch.randn(60, 4), torch.arange(60) % 3), batch_size=30)


def training_step(batch, batch_idx):
    x, y = batch
    lam, index = np.random.beta(0.2, 0.2), torch.randperm(len(x))
    logits = model(lam * x + (1 - lam) * x[index])
    return lam * criterion(logits, y) + (1 - lam) * criterion(logits, y[index])


def validation_step(batch, batch_idx):
    x, y = batch
    return criterion(model(x), y)
