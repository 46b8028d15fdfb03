"""vicinal's LatentMixing: manifold mixup at a layer drawn for each batch.

Source: vicinal, examples/latent.py

    check: train_step
    finds: nothing
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vicinal

model = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 5))
optimizer = torch.optim.Adam(model.parameters())
mixup = vicinal.Mixup(alpha=1.0)
latent = vicinal.LatentMixing(model, ["0", "2", "4"])
steps = iter(range(10**9))


def make_loader():
    return DataLoader(TensorDataset(torch.randn(200, 20), torch.arange(200) % 5), batch_size=40, shuffle=True)


def train_step(x, y):
    with latent(mixup.plan(len(x), y, step=next(steps))) as plan:
        loss = F.cross_entropy(model(x), plan.target(y))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
