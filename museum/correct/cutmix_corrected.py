"""CutMix with a clipped box in a training step; lambda is counted again from the cells that were pasted.

Source: clovaai/CutMix-PyTorch #1, as it was mended

    check: train_step
    finds: nothing
"""

import numpy as np
import torch
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16 * 20, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
example = (torch.randn(32, 3, 16, 20), torch.arange(32) % 10)


def rand_bbox(height, width, lam):
    cut = np.sqrt(1.0 - lam)
    h, w = int(height * cut), int(width * cut)
    cy, cx = np.random.randint(height), np.random.randint(width)
    top, bottom = np.clip([cy - h // 2, cy + h // 2], 0, height)
    left, right = np.clip([cx - w // 2, cx + w // 2], 0, width)
    return top, bottom, left, right


def train_step(input, target):
    index = torch.randperm(len(input))
    top, bottom, left, right = rand_bbox(*input.shape[2:], np.random.beta(1.0, 1.0))
    mixed = input.clone()
    mixed[:, :, top:bottom, left:right] = input[index, :, top:bottom, left:right]
    lam = 1 - float((bottom - top) * (right - left)) / (input.size(2) * input.size(3))
    output = model(mixed)
    loss = criterion(output, target) * lam + criterion(output, target[index]) * (1.0 - lam)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
