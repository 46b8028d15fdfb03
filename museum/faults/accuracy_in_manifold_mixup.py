"""Step of Manifold Mixup that counts correct predictions of mixed hidden states against the original labels.

Source: vikasverma1077/manifold_mixup #9 (Question about accuracy during Training)

    check: train_step
    finds: VIC055
"""

import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.body = nn.Linear(18, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 6)

    def forward(self, x, mix=None):
        hidden = self.stem(x).relu()
        if mix is not None:
            lam, order = mix
            hidden = lam * hidden + (1 - lam) * hidden[order]
        return self.head(self.body(hidden).relu())


model = Net()
optimizer = torch.optim.Adam(model.parameters())
example = (torch.randn(36, 18), torch.arange(36) % 6)


def train_step(x, y):
    lam, order = torch.distributions.Beta(2.0, 2.0).sample(), torch.randperm(len(x))
    output = model(x, mix=(lam, order))
    loss = lam * F.cross_entropy(output, y) + (1 - lam) * F.cross_entropy(output, y[order])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    correct = (output.argmax(1) == y).sum()
    return loss, correct
