"""Regression: targets are mixed as numbers, and rows are paired with rows of a near target (C-Mixup, Yao et al. 2022)."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_diabetes
from torch import nn

import vicinal

BATCH, EPOCHS, TRAIN = 32, 40, 300


def rmse(vicinity: vicinal.Vicinity, x: torch.Tensor, y: torch.Tensor) -> float:
    """Train on the first rows and return the root mean squared error on the others."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(TRAIN).split(BATCH):
            mixed_x, mixed_y = vicinity(x[rows], y[rows])
            loss = F.mse_loss(net(mixed_x).squeeze(1), mixed_y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.inference_mode():
        return float(F.mse_loss(net(x[TRAIN:]).squeeze(1), y[TRAIN:]).sqrt())


if __name__ == "__main__":
    data, target = (torch.from_numpy(part).float() for part in load_diabetes(return_X_y=True))
    x, y = data / data[:TRAIN].std(0), (target - target[:TRAIN].mean()) / target[:TRAIN].std()
    near = vicinal.LabelDistance(bandwidth=0.5)  # in standard deviations of the target
    for vicinity in (vicinal.ERM(), vicinal.Mixup(0.4), vicinal.Mixup(0.4, pairing=near)):
        print(f"{rmse(vicinity, x, y):.3f} of a standard deviation: {vicinity}")
