"""Audio tagging with several labels a clip: waveforms and label vectors are averaged, the loss is binary cross-entropy.

Source: AudioSet recipes, for instance YuanGongND/ast

    check: train_step --alpha 5.0
    finds: nothing
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

TAGS = 12
model = nn.Sequential(
    nn.Conv1d(1, 16, 16, stride=8), nn.ReLU(), nn.AdaptiveAvgPool1d(8), nn.Flatten(), nn.Linear(128, TAGS)
)
loss_fn = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), 1e-4)


def make_loader():
    tags = (torch.rand(160, TAGS) < 0.25).float()
    return DataLoader(TensorDataset(torch.randn(160, 1, 800), tags), batch_size=20, shuffle=True)


def train_step(waveform, tags):
    lam, order = float(np.random.beta(5.0, 5.0)), torch.randperm(len(waveform))
    logits = model(lam * waveform + (1 - lam) * waveform[order])
    loss = loss_fn(logits, lam * tags + (1 - lam) * tags[order])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
