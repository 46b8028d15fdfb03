"""Training step with a lambda per row: it multiplies losses that are means of the batch already.

Source: mlxops-aug 0.2.3 on PyPI, ReMix criterion (read and run: 2.507 instead of 0.0067)

    check: train_step --alpha 0.5
    finds: VIC001 or VIC050
"""

import torch
from torch import nn

model = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 6))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters())
example = (torch.randn(48, 24), torch.randint(0, 6, (48,)))


def mix(x, y, alpha=0.5):
    lam = torch.distributions.Beta(alpha, alpha).sample((x.size(0),))
    index = torch.randperm(x.size(0))
    return lam[:, None] * x + (1 - lam[:, None]) * x[index], y, y[index], lam


def train_step(x, y):
    mixed, y_a, y_b, lam = mix(x, y)
    logits = model(mixed)
    loss = (lam * criterion(logits, y_a) + (1 - lam) * criterion(logits, y_b)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
