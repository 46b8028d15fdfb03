"""Sound event training step on features and embeddings of a clip: each is mixed by a draw of its own, labels by both.

Source: DCASE-REPO/DESED_task #112 (Repeated Mixup on Labels When Applying to Both Features and Embeddings)

    check: training_step
    finds: VIC004 or VIC001
"""

import numpy as np
import torch
from torch import nn


class Fusion(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Linear(40 * 16, 32)
        self.head = nn.Linear(32 + 64, 10)

    def forward(self, features, embeddings):
        return self.head(torch.cat([self.cnn(features.flatten(1)).relu(), embeddings], 1))


model = Fusion()
criterion = nn.BCEWithLogitsLoss()
example = (torch.randn(24, 40, 16), torch.randn(24, 64), torch.nn.functional.one_hot(torch.arange(24) % 10, 10).float())


def mixup(data, target, alpha=0.2):
    c = np.random.beta(alpha, alpha)
    perm = torch.randperm(data.size(0))
    return c * data + (1 - c) * data[perm], torch.clamp(c * target + (1 - c) * target[perm], min=0, max=1)


def training_step(batch, batch_idx=0):
    features, embeddings, labels = batch
    features, labels = mixup(features, labels)
    embeddings, labels = mixup(embeddings, labels)
    return criterion(model(features, embeddings), labels)
