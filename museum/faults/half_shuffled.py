"""Step whose partners are shuffled within two halves: one half is shuffled in a temporary copy, and mixes with itself.

Source: SystemsGenetics/gene-oracle #10 (idxs are not actually shuffled after the function call)

    check: train_step
    finds: VIC027
"""

import numpy as np
import torch
from torch import nn

model = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 6))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters())
example = (torch.randn(32, 40), torch.arange(32) % 6)


def partners(n):
    idxs = np.arange(n)
    np.random.shuffle(idxs[: n // 2])
    np.random.shuffle(idxs[np.arange(n // 2, n)])
    return torch.from_numpy(idxs)


def train_step(x, y):
    lam, idxs = np.random.beta(1.0, 1.0), partners(len(x))
    logits = model(lam * x + (1 - lam) * x[idxs])
    loss = lam * criterion(logits, y) + (1 - lam) * criterion(logits, y[idxs])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
