"""Weakly labeled audio clips: the labels of the weak half are taken from the batch before it is mixed.

Source: DCASE-REPO/DESED_task #93 (mixup not applied to weak labels)

    check: training_step --alpha 0.2
    finds: VIC002
"""

import numpy as np
import torch
from torch import nn

CLASSES = 10
model = nn.Sequential(nn.Flatten(), nn.Linear(64 * 20, 64), nn.ReLU(), nn.Linear(64, CLASSES))
supervised_loss = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
example = (torch.randn(24, 64, 20), torch.eye(CLASSES)[torch.arange(24) % CLASSES])


class Trainer:
    def apply_mixup(self, features, labels):
        weight = np.random.beta(0.2, 0.2)
        perm = torch.randperm(len(features))
        return weight * features + (1 - weight) * features[perm], weight * labels + (1 - weight) * labels[perm]


trainer = Trainer()


def training_step(features, labels):
    labels_weak = labels.clone()
    features, labels = trainer.apply_mixup(features, labels)
    loss = supervised_loss(model(features), labels_weak)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
