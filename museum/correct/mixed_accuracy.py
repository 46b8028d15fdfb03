"""Training step that returns loss and accuracy; each label counts by its share.

Source: facebookresearch/mixup-cifar10 train.py (correct += lam * ... + (1 - lam) * ...)

    check: train_step --alpha 1.0
    finds: nothing
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def make_loader():
    return DataLoader(TensorDataset(torch.randn(320, 1, 32, 16), torch.arange(320) % 10), batch_size=32, shuffle=True)


def train_step(batch):
    inputs, targets = batch
    lam, index = np.random.beta(1.0, 1.0), torch.randperm(len(inputs))
    outputs = model(lam * inputs + (1 - lam) * inputs[index])
    loss = lam * criterion(outputs, targets) + (1 - lam) * criterion(outputs, targets[index])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    pred = outputs.argmax(1)
    hits = lam * pred.eq(targets).float() + (1 - lam) * pred.eq(targets[index]).float()
    return {"loss": loss, "accuracy": hits.mean()}
