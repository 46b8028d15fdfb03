"""Manifold mixup inside the network: mixed at the input or at one of two layers, drawn anew for each batch.

Source: vikasverma1077/manifold_mixup, with the mend of #12

    check: train_step --alpha 2.0
    finds: nothing
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, classes=6):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)])
        self.classes, self.fc = classes, nn.Linear(8 * 16, classes)

    def forward(self, x, target=None, alpha=2.0):
        layer = np.random.randint(3) if target is not None else -1
        if target is not None:
            target = F.one_hot(target, self.classes).float()
        for i, block in enumerate([*self.blocks, None]):
            if i == layer:
                lam, order = np.random.beta(alpha, alpha), torch.randperm(len(x))
                x, target = lam * x + (1 - lam) * x[order], lam * target + (1 - lam) * target[order]
            if block is not None:
                x = block(x).relu()
        logits = self.fc(F.adaptive_avg_pool2d(x, 4).flatten(1))
        return logits if target is None else (logits, target)


model = Net()
optimizer = torch.optim.Adam(model.parameters())


def train_step(batch):
    logits, target = model(*batch)
    loss = F.cross_entropy(logits, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def make_loader():
    return DataLoader(TensorDataset(torch.randn(180, 3, 12, 12), torch.arange(180) % 6), batch_size=30, shuffle=True)
