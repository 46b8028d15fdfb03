"""Training step of a table: lambda is folded to the larger side, so that a row never has a partner of the larger share.

Source: mosaicml/composer and fastai/fastai (read: min(l, 1 - l) and max(l, 1 - l), in no docstring)

    check: train_step --alpha 1.0
    finds: VIC020
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
train_loader = DataLoader(TensorDataset(torch.randn(300, 6), torch.arange(300) % 3), batch_size=50, shuffle=True)


def train_step(x, y, alpha=1.0):
    lam = torch.distributions.Beta(alpha, alpha).sample((len(x),))
    lam = torch.stack([lam, 1 - lam], 1).max(1).values
    shuffle = torch.randperm(len(x))
    logits = model(torch.lerp(x[shuffle], x, lam[:, None]))
    losses = torch.lerp(
        cross_entropy(logits, y[shuffle], reduction="none"), cross_entropy(logits, y, reduction="none"), lam
    )
    loss = losses.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
