"""Loss of a recipe with binary cross-entropy: shares above a threshold become ones, so that a row has two whole classes.

Source: huggingface/pytorch-image-models BinaryCrossEntropy(target_threshold=...) (1.0.31, run: 1.73 positives a row)

    check: train_step --alpha 0.8
    finds: VIC007 or VIC011
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
example = (torch.randn(32, 3, 12, 12), torch.randint(0, 10, (32,)))


class BinaryCrossEntropy(nn.Module):
    def __init__(self, target_threshold=None):
        super().__init__()
        self.target_threshold = target_threshold

    def forward(self, logits, target):
        if self.target_threshold is not None:
            target = target.gt(self.target_threshold).to(dtype=target.dtype)
        return F.binary_cross_entropy_with_logits(logits, target)


criterion = BinaryCrossEntropy(target_threshold=0.1)


def train_step(x, y):
    lam = np.random.beta(0.8, 0.8)
    target = F.one_hot(y, 10).float()
    x, target = lam * x + (1 - lam) * x.flip(0), lam * target + (1 - lam) * target.flip(0)
    loss = criterion(model(x), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
