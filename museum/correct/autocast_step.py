"""Training step in bfloat16 autocast with a gradient scaler that is switched off on a CPU.

Source: recipes of huggingface/pytorch-image-models and facebookresearch/deit

    check: train_step --alpha 0.8
    finds: nothing
"""

import numpy as np
import torch
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 14 * 14, 64), nn.ReLU(), nn.Linear(64, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
scaler = torch.amp.GradScaler("cpu", enabled=False)
example = (torch.randn(32, 3, 14, 14), torch.arange(32) % 10)


def train_step(x, y):
    lam, order = np.random.beta(0.8, 0.8), torch.randperm(len(x))
    mixed = lam * x + (1 - lam) * x[order]
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(mixed)
        loss = lam * criterion(logits, y) + (1 - lam) * criterion(logits, y[order])
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return loss.item()
