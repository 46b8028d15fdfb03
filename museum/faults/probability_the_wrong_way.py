"""Audio training step that mixes in 20 % of the batches: the comparison is the wrong way round, so it is 80 %.

Source: UCSD-E4E/acoustic-multiclass-training #176 (the probability of an augmentation)

    check: train_step --p 0.2 --alpha 0.4
    finds: VIC029
"""

import random

import numpy as np
import torch
from torch import nn

P, CLASSES = 0.2, 6
model = nn.Sequential(nn.Conv1d(1, 8, 9, stride=4), nn.ReLU(), nn.AdaptiveAvgPool1d(8), nn.Flatten(), nn.Linear(64, 6))
loss_fn = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters())
example = (torch.randn(24, 1, 400), torch.eye(CLASSES)[torch.arange(24) % CLASSES])


def train_step(clip, target):
    if random.random() > P:
        lam = np.random.beta(0.4, 0.4)
        order = torch.randperm(len(clip))
        clip = lam * clip + (1 - lam) * clip[order]
        target = lam * target + (1 - lam) * target[order]
    loss = loss_fn(model(clip), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
