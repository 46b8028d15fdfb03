"""Binary cross-entropy for ten classes by choice: labels are one-hot, mixed or not, and the loss is always the same.

Source: "ResNet strikes back" recipe of huggingface/pytorch-image-models, without a threshold

    check: train_step --alpha 0.1 --p 0.5
    finds: nothing
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
example = (torch.randn(40, 3, 12, 12), torch.arange(40) % 10)


def train_step(x, y):
    target = F.one_hot(y, 10).float()
    if np.random.rand() < 0.5:
        lam, order = np.random.beta(0.1, 0.1), torch.randperm(len(x))
        x, target = lam * x + (1 - lam) * x[order], lam * target + (1 - lam) * target[order]
    loss = F.binary_cross_entropy_with_logits(model(x), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
