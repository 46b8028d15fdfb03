"""CutMix in a training step with two losses: the box is clipped at the border, and lambda stays as it was drawn.

Source: clovaai/CutMix-PyTorch #1 (True lambda)

    check: train_step
    finds: VIC001
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16 * 16, 10))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train_loader = DataLoader(
    TensorDataset(torch.randn(256, 3, 16, 16), torch.randint(0, 10, (256,))), batch_size=32, shuffle=True
)


def rand_bbox(size, lam):
    W, H = size[2], size[3]
    cut_rat = np.sqrt(1.0 - lam)
    cut_w, cut_h = int(W * cut_rat), int(H * cut_rat)
    cx, cy = np.random.randint(W), np.random.randint(H)
    x1, x2 = np.clip(cx - cut_w // 2, 0, W), np.clip(cx + cut_w // 2, 0, W)
    y1, y2 = np.clip(cy - cut_h // 2, 0, H), np.clip(cy + cut_h // 2, 0, H)
    return x1, y1, x2, y2


def train_step(input, target):
    lam = np.random.beta(1.0, 1.0)
    rand_index = torch.randperm(input.size(0))
    target_a, target_b = target, target[rand_index]
    x1, y1, x2, y2 = rand_bbox(input.size(), lam)
    input = input.clone()
    input[:, :, x1:x2, y1:y2] = input[rand_index, :, x1:x2, y1:y2]
    output = model(input)
    loss = criterion(output, target_a) * lam + criterion(output, target_b) * (1.0 - lam)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
